#include "lab/vector_sets.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAGIC "RVVSET1\n"

static const char *const names[] = {
#define RV_VECTOR_SET_NAME(name, text) text,
        RV_VECTOR_SET_TABLE(RV_VECTOR_SET_NAME)
#undef RV_VECTOR_SET_NAME
};

const char *rv_vector_set_name(rv_vector_kind kind) {
	return names[kind];
}

rv_vector_kind rv_vector_set_by_name(const char *name) {
	rv_vector_kind kind = 0;
	while (kind < RV_VECTOR_SET_COUNT && strcmp(names[kind], name) != 0)
		kind++;
	return kind;
}

/* ---- the kept file: header, base, queries, distances, rows ---- */

typedef struct set_header {
	char magic[8], key[24];
	int64_t n, n_queries, dim, k;
	uint32_t crc, reserved; /* of all that follows */
} set_header;
_Static_assert(sizeof(set_header) == 72, "on disk");
#define DATA_AT 128

static size_t data_bytes(const rv_vector_spec *s) {
	return sizeof(float) * (size_t)((s->n + s->n_queries) * s->dim + 2 * s->n_queries * s->k);
}

static void point_into(rv_vector_set *set, const void *data) {
	const rv_vector_spec *s = &set->spec;
	set->base = data;
	set->queries = set->base + s->n * s->dim;
	set->truth = set->queries + s->n_queries * s->dim;
	set->truth_rows = (const int32_t *)(const void *)(set->truth + s->n_queries * s->k);
}

/* 1 when the file is there and whole. */
static int open_kept(rv_vector_set *set, const char *path) {
	const rv_vector_spec *s = &set->spec;
	set_header h;
	if (access(path, R_OK) != 0 || rv_map_open(&set->map, path) != RV_OK)
		return 0;
	if (set->map.size == DATA_AT + data_bytes(s)) {
		memcpy(&h, set->map.data, sizeof h);
		const uint8_t *data = set->map.data + DATA_AT;
		if (memcmp(h.magic, MAGIC, sizeof h.magic) == 0 && strcmp(h.key, set->key) == 0 &&
		    h.n == s->n && h.n_queries == s->n_queries && h.dim == s->dim && h.k == s->k &&
		    h.crc == rv_crc32(0, data, data_bytes(s))) {
			point_into(set, data);
			return 1;
		}
	}
	rv_map_close(&set->map);
	return 0;
}

static rv_status keep(const rv_vector_set *set, const char *path, const void *data) {
	const rv_vector_spec *s = &set->spec;
	set_header h = {.magic = MAGIC,
	                .n = s->n,
	                .n_queries = s->n_queries,
	                .dim = s->dim,
	                .k = s->k,
	                .crc = rv_crc32(0, data, data_bytes(s))};
	rv_writer *w;
	snprintf(h.key, sizeof h.key, "%s", set->key);
	RV_TRY(rv_writer_open(&w, path));
	rv_status status = rv_writer_write(w, &h, sizeof h);
	if (status == RV_OK)
		status = rv_writer_pad(w, DATA_AT);
	if (status == RV_OK)
		status = rv_writer_write(w, data, data_bytes(s));
	if (status == RV_OK)
		return rv_writer_commit(w);
	rv_writer_abort(w);
	return status;
}

/* ---- making ---- */

static rv_status find_truth(const rv_run_config *config, const rv_vector_spec *s, const float *base,
                            const float *queries, float *distances, int32_t *rows) {
	rv_brute *brute;
	rv_status status = rv_brute_create(&brute, RV_BRUTE_BLAS, RV_METRIC_COSINE, base, s->n, s->dim);
	if (status == RV_ERR_UNSUPPORTED)
		status = rv_brute_create(&brute, RV_BRUTE_SIMD, RV_METRIC_COSINE, base, s->n, s->dim);
	if (status == RV_OK)
		status = rv_brute_search(brute, queries, s->n_queries, s->k, rows, distances,
		                         config->threads);
	rv_brute_destroy(brute);
	return status;
}

static rv_status make(const rv_run_config *config, rv_vector_set *set, const char *path) {
	const rv_vector_spec *s = &set->spec;
	void *data;
	rv_logf(&config->log, RV_LOG_INFO, "making vectors: %s, %lld x %d", names[s->kind],
	        (long long)s->n, s->dim);
	RV_TRY(rv_alloc_uninit(&data, 1, data_bytes(s), "vectors"));
	point_into(set, data);
	float *base = data, *queries = base + s->n * s->dim, *truth = queries + s->n_queries * s->dim;
	rv_status status = rv_vectors_make(config, s, base, queries);
	if (status == RV_OK)
		status = find_truth(config, s, base, queries, truth,
		                    (int32_t *)(void *)(truth + s->n_queries * s->k));
	if (status == RV_OK)
		status = keep(set, path, data);
	rv_free(data);
	if (status == RV_OK && !open_kept(set, path))
		status = rv_fail(RV_ERR_IO, "%s: was not kept whole", path);
	return status;
}

rv_status rv_vector_set_open(rv_vector_set *out, const rv_run_config *config,
                             const rv_vector_spec *spec) {
	char what[512], content[768], hex[65], path[4096];
	rv_vector_set set = {.spec = *spec};
	*out = (rv_vector_set){0};
	if (spec->n < 1 || spec->n_queries < 1 || spec->dim < 1 || spec->k < 1 || spec->k > spec->n)
		return rv_fail(RV_ERR_INVALID,
		               "vectors: %lld and %lld queries of dimension %d, %d nearest",
		               (long long)spec->n, (long long)spec->n_queries, spec->dim, spec->k);
	RV_TRY(rv_vectors_describe(config, spec, what, sizeof what));
	snprintf(content, sizeof content, "%s n=%lld queries=%lld dim=%d k=%d seed=%llu", what,
	         (long long)spec->n, (long long)spec->n_queries, spec->dim, spec->k,
	         (unsigned long long)spec->seed);
	rv_sha256_hex(content, strlen(content), hex);
	snprintf(set.key, sizeof set.key, "%.16s", hex);
	int n = snprintf(path, sizeof path, "%s/build/cache/vectors", config->root);
	if (n < 0 || (size_t)n + 96 >= sizeof path)
		return rv_fail(RV_ERR_LIMIT, "%.200s...: path too long", config->root);
	RV_TRY(rv_mkdirs(path));
	snprintf(path + n, sizeof path - (size_t)n, "/%s-%s-%lldx%d.set", set.key, names[spec->kind],
	         (long long)spec->n, spec->dim);
	if (!open_kept(&set, path))
		RV_TRY(make(config, &set, path));
	*out = set;
	return RV_OK;
}

void rv_vector_set_close(rv_vector_set *set) {
	rv_map_close(&set->map);
	*set = (rv_vector_set){0};
}
