#include "lab/vector_index.h"

#include "base/mem.h"
#include "base/options.h"
#include "base/sysinfo.h"
#include "lab/provenance.h"
#include "memory/hnsw_file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Hash of the sources that decide what an index is; written by the Makefile. */
#if __has_include("rv_memory_code.h")
#include "rv_memory_code.h"
#else
#include "base/build_info.h"
#define RV_MEMORY_CODE rv_build_commit()
#endif

enum { TRAIN_MAX = 20000 };

/* <root>/build/cache/indexes/<16 hex>-<label>: .hnsw, and .s with the seconds of its build */
static rv_status stem_of(const rv_run_config *config, const rv_vector_set *set,
                         const rv_hnsw_options *o, rv_code_kind code, char *stem, size_t size) {
	char machine[256], content[1024], hex[65];
	const char *coded = code == RV_NO_CODE ? "f32" : rv_code_name(code);
	RV_TRY(rv_machine_class(machine, sizeof machine));
	snprintf(content, sizeof content,
	         "%s m=%d ef=%d sketch=%d rerank=%d only=%d seed=%llu %s threads=%d %s %s", set->key,
	         o->m, o->ef_construction, o->sketch, o->rerank, o->codes_only,
	         (unsigned long long)o->seed, coded, config->n_threads, machine, RV_MEMORY_CODE);
	rv_sha256_hex(content, strlen(content), hex);
	int n = snprintf(stem, size, "%s/build/cache/indexes", config->root);
	if (n < 0 || (size_t)n + 160 >= size)
		return rv_fail(RV_ERR_LIMIT, "%.200s...: path too long", config->root);
	RV_TRY(rv_mkdirs(stem));
	snprintf(stem + n, size - (size_t)n, "/%.16s-%s-%lldx%d-m%d-ef%d-%s", hex,
	         rv_vector_set_name(set->spec.kind), (long long)set->spec.n, set->spec.dim, o->m,
	         o->ef_construction, coded);
	return RV_OK;
}

static int open_kept(rv_vector_index *out, const rv_run_config *config, const rv_vector_set *set,
                     const char *stem, int64_t spare) {
	char path[4352], *text;
	size_t size;
	rv_hnsw_load_options o = {
	        .capacity = set->spec.n + spare, .codec = &out->codec, .threads = config->threads};
	snprintf(path, sizeof path, "%s.s", stem);
	if (access(path, R_OK) != 0 || rv_file_read(path, 64, &text, &size) != RV_OK)
		return 0;
	const rv_status status = rv_parse_double(text, 0, 1e9, &out->build_s);
	rv_free(text);
	snprintf(path, sizeof path, "%s.hnsw", stem);
	if (status != RV_OK || rv_hnsw_load(&out->index, path, &o) != RV_OK)
		return 0;
	if (rv_hnsw_count(out->index) == set->spec.n) {
		out->cached = 1;
		return 1;
	}
	rv_vector_index_close(out);
	return 0;
}

static rv_status add_all(rv_hnsw *index, const rv_run_config *config, const rv_vector_set *set) {
	uint64_t *ids;
	RV_TRY(RV_ALLOC(&ids, set->spec.n, "ids"));
	for (int64_t i = 0; i < set->spec.n; i++)
		ids[i] = (uint64_t)i;
	const rv_status status = rv_hnsw_add_batch(index, ids, set->base, set->spec.n, config->threads);
	rv_free(ids);
	return status;
}

static rv_status build(rv_vector_index *out, const rv_run_config *config, const rv_vector_set *set,
                       rv_hnsw_options o, rv_code_kind code) {
	const int64_t start = rv_now_ns(), n = set->spec.n;
	if (code != RV_NO_CODE) {
		rv_codec_options c = rv_codec_defaults();
		c.kind = code;
		c.dim = o.dim;
		c.seed = o.seed;
		RV_TRY(rv_codec_create(&out->codec, &c));
		RV_TRY(rv_codec_train(out->codec, set->base, n < TRAIN_MAX ? n : TRAIN_MAX,
		                      config->threads));
		o.codec = out->codec;
	}
	RV_TRY(rv_hnsw_create(&out->index, &o));
	RV_TRY(add_all(out->index, config, set));
	out->build_s = 1e-9 * (double)(rv_now_ns() - start);
	return RV_OK;
}

/* The seconds last: without them the index does not count as kept. */
static rv_status keep(const rv_vector_index *index, const char *stem) {
	char path[4352], text[64];
	snprintf(path, sizeof path, "%s.hnsw", stem);
	RV_TRY(rv_hnsw_save(index->index, path));
	snprintf(path, sizeof path, "%s.s", stem);
	const int n = snprintf(text, sizeof text, "%.6f", index->build_s);
	return rv_file_write(path, text, (size_t)n);
}

rv_status rv_vector_index_open(rv_vector_index *out, const rv_run_config *config,
                               const rv_vector_set *set, const rv_hnsw_options *options,
                               rv_code_kind code, int64_t spare) {
	char stem[4096];
	rv_vector_index index = {0};
	rv_hnsw_options o = *options;
	*out = index;
	o.metric = RV_METRIC_COSINE;
	o.dim = set->spec.dim;
	o.capacity = set->spec.n + spare;
	RV_TRY(stem_of(config, set, &o, code, stem, sizeof stem));
	rv_status status = RV_OK;
	if (!open_kept(&index, config, set, stem, spare)) {
		index = (rv_vector_index){0};
		status = build(&index, config, set, o, code);
		if (status == RV_OK)
			status = keep(&index, stem);
	}
	if (status != RV_OK)
		rv_vector_index_close(&index);
	else
		*out = index;
	return status;
}

void rv_vector_index_close(rv_vector_index *index) {
	rv_hnsw_destroy(index->index);
	rv_codec_destroy(index->codec);
	*index = (rv_vector_index){0};
}

/* ---- searching ---- */

static void take_rows(int32_t *rows, int k, const uint64_t *ids, int64_t n) {
	for (int i = 0; i < k; i++)
		rows[i] = i < n ? (int32_t)ids[i] : -1;
}

rv_status rv_vector_index_search(const rv_vector_index *index, const rv_vector_set *set, int64_t from,
                                 int64_t n, int k, int ef, int32_t *rows, double *seconds,
                                 double *each) {
	rv_hnsw_searcher *s;
	uint64_t *ids;
	RV_TRY(RV_ALLOC(&ids, k, "ids"));
	rv_status status = rv_hnsw_searcher_create(&s, index->index);
	if (status != RV_OK) {
		rv_free(ids);
		return status;
	}
	const int64_t start = rv_now_ns();
	for (int64_t i = 0, last = start; i < n && status == RV_OK; i++) {
		const float *query = set->queries + (from + i) % set->spec.n_queries * set->spec.dim;
		int64_t found = 0;
		status = rv_hnsw_search_with(s, query, k, ef, NULL, ids, NULL, &found);
		if (rows)
			take_rows(rows + i * k, k, ids, found);
		if (each) {
			const int64_t now = rv_now_ns();
			each[i] = 1e-9 * (double)(now - last);
			last = now;
		}
	}
	*seconds = 1e-9 * (double)(rv_now_ns() - start);
	rv_hnsw_searcher_destroy(s);
	rv_free(ids);
	return status;
}

rv_status rv_vector_index_recall(const rv_vector_index *index, const rv_vector_set *set, int k, int ef,
                                 double *within_epsilon, double *exact) {
	const rv_vector_spec *s = &set->spec;
	rv_brute *brute = NULL;
	int32_t *rows;
	double seconds;
	RV_TRY(RV_ALLOC(&rows, s->n_queries * k, "rows found"));
	rv_status status =
	        rv_vector_index_search(index, set, 0, s->n_queries, k, ef, rows, &seconds, NULL);
	if (status == RV_OK)
		status = rv_brute_create(&brute, RV_BRUTE_SIMD, RV_METRIC_COSINE, set->base, s->n,
		                         s->dim);
	const struct {
		double epsilon, *out;
	} kinds[] = {{RV_RECALL_EPSILON, within_epsilon}, {1e-6, exact}};
	for (int i = 0; i < 2 && status == RV_OK; i++)
		if (kinds[i].out)
			status =
			        rv_brute_recall(brute, set->queries, s->n_queries, k, rows, k,
			                        set->truth, s->k, kinds[i].epsilon, kinds[i].out, NULL);
	rv_brute_destroy(brute);
	rv_free(rows);
	return status;
}
