/* What is kept of a vector, and distances of what is kept. */
#include "memory/hnsw_internal.h"

/* ---- vectors in and out ---- */

rv_status rv_hnsw_keep(rv_hnsw *h, uint32_t slot, const float *x) {
	if (h->code_bytes)
		RV_TRY(rv_codec_encode(h->options.codec, x, rv_hnsw_code(h, slot)));
	if (!h->options.codes_only)
		memcpy(rv_hnsw_vector(h, slot), x, (size_t)h->stride * sizeof *x);
	const rv_sketch *sketch = atomic_load(&h->sketch);
	if (sketch)
		rv_sketch_encode(sketch, x, rv_sketch_row(sketch, slot));
	return RV_OK;
}

void rv_hnsw_kept(const rv_hnsw *h, uint32_t slot, float *x) {
	if (!h->options.codes_only) {
		memcpy(x, rv_hnsw_vector(h, slot), (size_t)h->stride * sizeof *x);
		return;
	}
	rv_codec_decode(h->options.codec, rv_hnsw_code(h, slot), x);
	memset(x + h->options.dim, 0, (size_t)(h->stride - h->options.dim) * sizeof *x);
}

rv_status rv_hnsw_aim(rv_hnsw_searcher *s, int by_codes) {
	const rv_hnsw *h = s->index;
	s->by_codes = by_codes;
	s->sketch = atomic_load_explicit(&s->index->sketch, memory_order_acquire);
	if (s->sketch)
		rv_sketch_encode(s->sketch, s->query, s->probe);
	return by_codes ? rv_codec_prepare(h->options.codec, s->query, s->prepared) : RV_OK;
}

/* ---- distances ---- */

static void full_distances(rv_hnsw_searcher *s, const float *x, const uint32_t *slots, int64_t n) {
	const rv_hnsw *h = s->index;
	float *out = s->distances;
	for (int64_t i = 0; i < n; i++)
		s->rows[i] = rv_hnsw_vector(h, slots[i]);
	s->work.distances += (uint64_t)n;
	if (h->options.metric == RV_METRIC_L2) {
		h->kernels->l2_rows_f32(out, x, s->rows, n, h->stride);
		return;
	}
	h->kernels->dot_rows_f32(out, x, s->rows, n, h->stride);
	const float base = h->options.metric == RV_METRIC_COSINE ? 1 : 0;
	for (int64_t i = 0; i < n; i++)
		out[i] = base - out[i];
}

static void code_distances(rv_hnsw_searcher *s, const void *prepared, const uint32_t *slots,
                           int64_t n) {
	const rv_hnsw *h = s->index;
	for (int64_t i = 0; i < n; i++)
		s->codes[i] = rv_hnsw_code(h, slots[i]);
	s->work.code_distances += (uint64_t)n;
	rv_codec_distances(h->options.codec, prepared, s->codes, n, s->distances);
}

void rv_hnsw_distances(rv_hnsw_searcher *s, const uint32_t *slots, int64_t n) {
	if (s->by_codes)
		code_distances(s, s->prepared, slots, n);
	else
		full_distances(s, s->query, slots, n);
}

void rv_hnsw_distances_from(rv_hnsw_searcher *s, uint32_t from, const uint32_t *slots, int64_t n) {
	const rv_hnsw *h = s->index;
	if (!h->options.codes_only) {
		full_distances(s, rv_hnsw_vector(h, from), slots, n);
		return;
	}
	/* A code that encode wrote can be prepared. */
	(void)rv_codec_prepare_code(h->options.codec, rv_hnsw_code(h, from), s->prepared_node);
	code_distances(s, s->prepared_node, slots, n);
}

int64_t rv_hnsw_drop_far(rv_hnsw_searcher *s, int64_t n, float limit) {
	rv_sketch_bound(s->sketch, s->index->options.metric, s->probe, s->slots, n,
	                &(rv_sketch_bounds){s->bounds.lower, NULL, s->bounds.sums, s->bounds.codes});
	int64_t n_near = 0;
	for (int64_t i = 0; i < n; i++) {
		s->slots[n_near] = s->slots[i];
		n_near += !(s->bounds.lower[i] > limit);
	}
	s->work.bounded += (uint64_t)(n - n_near);
	return n_near;
}

/* The nearest `n` of s->best in the order of their vectors. */
void rv_hnsw_rerank(rv_hnsw_searcher *s, int64_t n) {
	s->n_best = n < s->n_best ? n : s->n_best;
	const int64_t step = s->batch_capacity;
	for (int64_t from = 0; from < s->n_best; from += step) {
		const int64_t part = s->n_best - from < step ? s->n_best - from : step;
		for (int64_t i = 0; i < part; i++)
			s->slots[i] = rv_hnsw_slot_of(s->best[from + i]);
		full_distances(s, s->query, s->slots, part);
		for (int64_t i = 0; i < part; i++)
			s->best[from + i] = rv_hnsw_near_of(s->distances[i], s->slots[i]);
	}
	rv_hnsw_sort(s->best, s->n_best);
}
