/* An index as a whole: its arrays, its options, what is in it. */
#include "base/mem.h"
#include "base/vm.h"
#include "memory/hnsw_internal.h"

#include <float.h>
#include <math.h>

#define HUGE_BYTES ((size_t)2 << 20)
#define PAGE_BYTES ((size_t)4096)

rv_hnsw_options rv_hnsw_defaults(void) {
	return (rv_hnsw_options){.metric = RV_METRIC_COSINE,
	                         .m = 16,
	                         .ef_construction = 200,
	                         .ef_search = 50,
	                         .sketch = 1};
}

static rv_status check_codec(const rv_hnsw_options *o) {
	if (!o->codec)
		return o->codes_only ? rv_fail(RV_ERR_INVALID, "HNSW: codes alone, but no codec")
		                     : RV_OK;
	const rv_codec_options *c = rv_codec_get_options(o->codec);
	if (c->metric != o->metric || c->dim != o->dim)
		return rv_fail(RV_ERR_MISMATCH, "HNSW: %s of %d dimensions, its codec is for %s of %d",
		               rv_metric_name(o->metric), o->dim, rv_metric_name(c->metric), c->dim);
	return rv_codec_is_trained(o->codec)
	               ? RV_OK
	               : rv_fail(RV_ERR_INVALID, "HNSW: its codec is not trained");
}

static rv_status check_options(const rv_hnsw_options *o) {
	const struct {
		const char *name;
		int64_t value, min, max;
	} bounds[] = {
	        {"metric", o->metric, 0, RV_METRIC_COUNT - 1},
	        {"dim", o->dim, 1, RV_HNSW_MAX_DIM},
	        {"m", o->m, 2, RV_HNSW_MAX_M},
	        {"ef_construction", o->ef_construction, o->m, RV_HNSW_MAX_EF},
	        {"ef_search", o->ef_search, 1, RV_HNSW_MAX_EF},
	        {"capacity", o->capacity, 1, RV_HNSW_MAX_CAPACITY},
	        {"rerank", o->rerank, 0, RV_HNSW_MAX_EF},
	};
	for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
		if (bounds[i].value < bounds[i].min || bounds[i].value > bounds[i].max)
			return rv_fail(RV_ERR_INVALID, "HNSW: %s is %lld, expected %lld to %lld",
			               bounds[i].name, (long long)bounds[i].value,
			               (long long)bounds[i].min, (long long)bounds[i].max);
	return check_codec(o);
}

/* Address space for `count` elements, in huge pages where it is as long as one. */
static size_t region_bytes(int64_t count, size_t size) {
	const size_t bytes = (size_t)count * size;
	const size_t align = bytes < HUGE_BYTES ? PAGE_BYTES : HUGE_BYTES;
	return (bytes + align - 1) / align * align;
}
static rv_status reserve(void *out, int64_t count, size_t size, const char *what) {
	const size_t bytes = region_bytes(count, size);
	if (bytes == 0)
		return RV_OK;
	return rv_vm_alloc_aligned(out, bytes, bytes < HUGE_BYTES ? PAGE_BYTES : HUGE_BYTES, what);
}

static rv_status reserve_arrays(rv_hnsw *h) {
	const int64_t capacity = h->options.capacity;
#define RESERVE(type, name, elements)                                                                  \
	RV_TRY(reserve(&h->name, capacity *(elements), sizeof(type), "HNSW " #name));
	RV_HNSW_ARRAYS(RESERVE)
#undef RESERVE
	return reserve(&h->upper, h->upper_capacity * h->options.m, sizeof *h->upper,
	               "HNSW upper links");
}

rv_status rv_hnsw_create(rv_hnsw **out, const rv_hnsw_options *options) {
	*out = NULL;
	RV_TRY(check_options(options));
	rv_hnsw *h;
	RV_TRY(RV_ALLOC(&h, 1, "HNSW index"));
	h->options = *options;
	h->kernels = options->kernels ? options->kernels : rv_kernels_for(rv_level_best());
	h->stride = (options->dim + 15) / 16 * 16;
	h->m0 = 2 * (int64_t)options->m;
	h->code_bytes = options->codec ? (int64_t)rv_codec_code_bytes(options->codec) : 0;
	/* A node has 1 / (m - 1) upper levels on average; should they run out, nodes get fewer. */
	h->upper_capacity = (options->capacity + options->capacity / 4) / (options->m - 1) + 1024;
	pthread_mutex_init(&h->table_lock, NULL);
	pthread_mutex_init(&h->searchers_lock, NULL);
	pthread_rwlockattr_t attr;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&h->gate, &attr);
	pthread_rwlockattr_destroy(&attr);
	atomic_init(&h->entry, RV_HNSW_NONE);
	atomic_init(&h->learn_at, options->sketch ? RV_HNSW_LEARN_AT : INT64_MAX);
	const rv_status status = reserve_arrays(h);
	if (status != RV_OK) {
		rv_hnsw_destroy(h);
		return status;
	}
	*out = h;
	return RV_OK;
}

void rv_hnsw_destroy(rv_hnsw *h) {
	if (!h)
		return;
	for (int i = 0; i < RV_HNSW_IDLE; i++)
		rv_hnsw_searcher_destroy(atomic_load(&h->idle[i]));
#define RELEASE(type, name, elements)                                                                  \
	rv_vm_free(h->name, region_bytes(h->options.capacity *(elements), sizeof(type)));
	RV_HNSW_ARRAYS(RELEASE)
#undef RELEASE
	rv_vm_free(h->upper, region_bytes(h->upper_capacity * h->options.m, sizeof *h->upper));
	rv_sketch_destroy(atomic_load(&h->sketch));
	rv_free(h->table);
	rv_free(h->free_slots);
	pthread_rwlock_destroy(&h->gate);
	pthread_mutex_destroy(&h->searchers_lock);
	pthread_mutex_destroy(&h->table_lock);
	rv_free(h);
}

const rv_hnsw_options *rv_hnsw_get_options(const rv_hnsw *h) {
	return &h->options;
}

/* ---- vectors ---- */

static rv_status not_finite(const float *x, int dim) {
	int d = 0;
	while (d < dim && isfinite(x[d]))
		d++;
	return rv_fail(RV_ERR_NUMERIC, "vector: component %d is not finite", d);
}

rv_status rv_hnsw_take_vector(const rv_hnsw *h, const float *x, float *out) {
	const int dim = h->options.dim;
	double part[8] = {0};
	for (int d = 0; d < dim; d++)
		part[d % 8] += (double)x[d] * (double)x[d];
	double sum = 0;
	for (int i = 0; i < 8; i++)
		sum += part[i];
	if (!isfinite(sum))
		return not_finite(x, dim);
	const int cosine = h->options.metric == RV_METRIC_COSINE;
	if (cosine && sum == 0)
		return rv_fail(RV_ERR_NUMERIC, "vector: its length is 0, it has no direction");
	/* No distance of two such can overflow. */
	if (!cosine && sum > (double)(FLT_MAX / 4))
		return rv_fail(RV_ERR_NUMERIC, "vector: its length %g is beyond the range of distances",
		               sqrt(sum));
	const double scale = cosine ? 1 / sqrt(sum) : 1;
	for (int d = 0; d < dim; d++)
		out[d] = (float)((double)x[d] * scale);
	memset(out + dim, 0, (size_t)(h->stride - dim) * sizeof *out);
	return RV_OK;
}

/* ---- what is there ---- */

int64_t rv_hnsw_count(const rv_hnsw *h) {
	return atomic_load(&((rv_hnsw *)(uintptr_t)h)->n_live);
}

static uint32_t find_live(rv_hnsw *h, uint64_t id) {
	pthread_mutex_lock(&h->table_lock);
	const uint32_t slot = rv_hnsw_find_id(h, id);
	pthread_mutex_unlock(&h->table_lock);
	return slot != RV_HNSW_NONE && rv_hnsw_state(h, slot) == RV_HNSW_LIVE ? slot : RV_HNSW_NONE;
}

int rv_hnsw_has(rv_hnsw *h, uint64_t id) {
	return find_live(h, id) != RV_HNSW_NONE;
}

static void copy_out(const rv_hnsw *h, uint32_t slot, float *vector) {
	if (h->options.codes_only)
		rv_codec_decode(h->options.codec, rv_hnsw_code(h, slot), vector);
	else
		memcpy(vector, rv_hnsw_vector(h, slot), (size_t)h->options.dim * sizeof *vector);
}

rv_status rv_hnsw_get(rv_hnsw *h, uint64_t id, float *vector) {
	pthread_rwlock_rdlock(&h->gate);
	const uint32_t slot = find_live(h, id);
	if (slot != RV_HNSW_NONE)
		copy_out(h, slot, vector);
	pthread_rwlock_unlock(&h->gate);
	return slot != RV_HNSW_NONE ? RV_OK
	                            : rv_fail(RV_ERR_NOT_FOUND, "HNSW: id %llu is not there",
	                                      (unsigned long long)id);
}

rv_status rv_hnsw_remove(rv_hnsw *h, uint64_t id) {
	pthread_rwlock_rdlock(&h->gate);
	pthread_mutex_lock(&h->table_lock);
	const uint32_t slot = rv_hnsw_find_id(h, id);
	const int live = slot != RV_HNSW_NONE && rv_hnsw_state(h, slot) == RV_HNSW_LIVE;
	if (live) {
		rv_hnsw_drop_id(h, id);
		atomic_fetch_add(&h->n_removed, 1); /* before the state: searches look at it first */
		atomic_store(h->states + slot, RV_HNSW_REMOVED);
		atomic_fetch_sub(&h->n_live, 1);
	}
	pthread_mutex_unlock(&h->table_lock);
	pthread_rwlock_unlock(&h->gate);
	return live ? RV_OK
	            : rv_fail(RV_ERR_NOT_FOUND, "HNSW: id %llu is not there", (unsigned long long)id);
}

rv_hnsw_stats rv_hnsw_get_stats(rv_hnsw *h) {
	pthread_rwlock_wrlock(&h->gate);
	rv_hnsw_stats stats = {.live = atomic_load(&h->n_live),
	                       .removed = atomic_load(&h->n_removed),
	                       .max_level = rv_hnsw_get_entry(h).level};
	const int64_t n_slots = atomic_load(&h->n_slots);
	for (int64_t slot = 0; slot < n_slots; slot++) {
		if (rv_hnsw_state(h, (uint32_t)slot) == RV_HNSW_FREE)
			continue;
		for (int level = 0; level <= h->levels[slot]; level++) {
			const rv_hnsw_link *list = rv_hnsw_list(h, (uint32_t)slot, level);
			for (int64_t i = 0; i < rv_hnsw_degree_max(h, level); i++)
				stats.links += atomic_load_explicit(list + i, memory_order_relaxed) !=
				               RV_HNSW_NONE;
		}
	}
	stats.vector_bytes = h->vectors ? (size_t)(n_slots * h->stride) * sizeof *h->vectors : 0;
	stats.code_bytes = (size_t)(n_slots * h->code_bytes);
	stats.link_bytes = (size_t)(n_slots * h->m0 + h->upper_used * h->options.m) * sizeof *h->links;
	const rv_sketch *sketch = atomic_load(&h->sketch);
	if (sketch)
		stats.sketch_bytes = (size_t)(n_slots * sketch->row_bytes) +
		                     (size_t)(sketch->dims * sketch->stride) * sizeof *sketch->basis;
	const size_t per_slot = sizeof *h->ids + sizeof *h->parents + sizeof *h->children +
	                        sizeof *h->upper_at + sizeof *h->levels + sizeof *h->states;
	stats.other_bytes = (size_t)n_slots * per_slot +
	                    (size_t)(h->table_size + h->free_capacity) * sizeof *h->table;
	pthread_rwlock_unlock(&h->gate);
	return stats;
}
