/* When an index learns sketches, and from what. */
#include "base/mem.h"
#include "memory/hnsw_internal.h"

#define SAMPLE_MAX 2048
#define LEARN_AGAIN 8 /* times as many vectors as before */

static int64_t count(rv_hnsw *h) {
	return atomic_load(&h->n_live) + atomic_load(&h->n_removed);
}

int rv_hnsw_learn_due(rv_hnsw *h, int64_t n) {
	return count(h) + n >= atomic_load(&h->learn_at);
}

typedef struct learn {
	rv_hnsw *h;
	rv_sketch *sketch;
	uint32_t *slots; /* [n]: in the graph, then those to join it */
	int64_t n;
	float *sample; /* [n_sample, stride] */
	int64_t n_sample;
} learn;

static rv_status encode_job(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const learn *l = arg;
	float *x;
	RV_TRY(RV_ALLOC(&x, l->h->stride, "HNSW vector"));
	for (int64_t i = begin; i < end; i++) {
		rv_hnsw_kept(l->h, l->slots[i], x);
		rv_sketch_encode(l->sketch, x, rv_sketch_row(l->sketch, l->slots[i]));
	}
	rv_free(x);
	return RV_OK;
}

static rv_status take_sample(learn *l) {
	l->n_sample = l->n < SAMPLE_MAX ? l->n : SAMPLE_MAX;
	RV_TRY(RV_ALLOC(&l->sample, l->n_sample * l->h->stride, "HNSW sample"));
	for (int64_t i = 0; i < l->n_sample; i++)
		rv_hnsw_kept(l->h, l->slots[i * l->n / l->n_sample], l->sample + i * l->h->stride);
	return RV_OK;
}

static rv_status make_sketch(learn *l, rv_threads *threads) {
	const rv_hnsw *h = l->h;
	RV_TRY(take_sample(l));
	RV_TRY(rv_sketch_create(&l->sketch, l->sample, l->n_sample, h->options.dim, h->stride,
	                        h->options.capacity, h->options.seed, h->kernels));
	if (!l->sketch)
		return RV_OK;
	return threads ? rv_threads_for(threads, l->n, 256, encode_job, l) : encode_job(l, 0, l->n, 0);
}

static void list_slots(learn *l, const uint32_t *joining, int64_t n) {
	const int64_t n_slots = atomic_load(&l->h->n_slots);
	for (int64_t slot = 0; slot < n_slots; slot++)
		if (rv_hnsw_state(l->h, (uint32_t)slot) != RV_HNSW_FREE)
			l->slots[l->n++] = (uint32_t)slot;
	for (int64_t i = 0; i < n; i++)
		l->slots[l->n++] = joining[i];
}

rv_status rv_hnsw_learn(rv_hnsw *h, const uint32_t *slots, int64_t n, rv_threads *threads) {
	learn l = {.h = h};
	RV_TRY(RV_ALLOC(&l.slots, count(h) + n, "HNSW slots"));
	list_slots(&l, slots, n);
	const rv_status status = make_sketch(&l, threads);
	if (status == RV_OK) {
		rv_sketch *old = atomic_exchange(&h->sketch, l.sketch);
		atomic_store(&h->learn_at, l.n * LEARN_AGAIN);
		if (old)
			rv_hnsw_wait_for_searches(h);
		l.sketch = old;
	}
	rv_sketch_destroy(l.sketch);
	rv_free(l.slots);
	rv_free(l.sample);
	return status;
}
