/* When an index learns sketches, and from what. */
#include "base/mem.h"
#include "memory/hnsw_internal.h"

#define SAMPLE_MAX 2048
#define LEARN_AGAIN 8 /* times as many vectors as before */

static int64_t count(rv_hnsw *h) {
	return atomic_load(&h->n_live) + atomic_load(&h->n_removed);
}

int rv_hnsw_learn_due(rv_hnsw *h, int64_t n) {
	return count(h) + n >= h->learn_at;
}

typedef struct learn {
	rv_hnsw *h;
	rv_sketch *sketch;
	const uint32_t *slots; /* in the graph, then those to join it */
} learn;

static rv_status encode_job(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const learn *l = arg;
	for (int64_t i = begin; i < end; i++)
		rv_sketch_encode(l->sketch, rv_hnsw_vector(l->h, l->slots[i]),
		                 rv_sketch_row(l->sketch, l->slots[i]));
	return RV_OK;
}

static rv_status learn_from(rv_hnsw *h, const uint32_t *slots, int64_t n, rv_threads *threads) {
	const float *sample[SAMPLE_MAX];
	const int64_t n_sample = n < SAMPLE_MAX ? n : SAMPLE_MAX;
	for (int64_t i = 0; i < n_sample; i++)
		sample[i] = rv_hnsw_vector(h, slots[i * n / n_sample]);
	learn l = {.h = h, .slots = slots};
	RV_TRY(rv_sketch_create(&l.sketch, sample, n_sample, h->options.dim, h->stride,
	                        h->options.capacity, h->options.seed, h->kernels));
	if (l.sketch && threads)
		(void)rv_threads_for(threads, n, 64, encode_job, &l);
	else if (l.sketch)
		(void)encode_job(&l, 0, n, 0);
	rv_sketch *old = atomic_exchange(&h->sketch, l.sketch);
	h->learn_at = n * LEARN_AGAIN;
	if (old)
		rv_hnsw_wait_for_searches(h);
	rv_sketch_destroy(old);
	return RV_OK;
}

rv_status rv_hnsw_learn(rv_hnsw *h, const uint32_t *slots, int64_t n, rv_threads *threads) {
	uint32_t *all;
	RV_TRY(RV_ALLOC(&all, count(h) + n, "HNSW slots"));
	int64_t n_all = 0;
	const int64_t n_slots = atomic_load(&h->n_slots);
	for (int64_t slot = 0; slot < n_slots; slot++)
		if (rv_hnsw_state(h, (uint32_t)slot) != RV_HNSW_FREE)
			all[n_all++] = (uint32_t)slot;
	memcpy(all + n_all, slots, (size_t)n * sizeof *slots);
	const rv_status status = learn_from(h, all, n_all + n, threads);
	rv_free(all);
	return status;
}
