/* T14: embeddings: similarity of graded pairs, searches, clusters. */
#include "base/file.h"
#include "base/sysinfo.h"
#include "eval/embedding_set.h"
#include "lab/experiment.h"
#include "lab/models.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- declaration ---- */

enum { EMBEDDER, DIM, TASK, N_PARAMS };
enum { TRAINED, NANO, PICO, N_EMBEDDERS };
static const rv_param_value embedders[N_EMBEDDERS] = {[TRAINED] = {"trained", 0, RV_PROFILE_SMOKE},
                                                      [NANO] = {"nano", 0, RV_PROFILE_SMOKE},
                                                      [PICO] = {"pico", 0, RV_PROFILE_QUICK}};
static const char *const files[N_EMBEDDERS] = {"embedder", "nano", "pico"};
enum { STORED, NATIVE, N_DIMS };
static const rv_param_value dims[N_DIMS] = {{"768", 768, RV_PROFILE_SMOKE},
                                            {"native", 0, RV_PROFILE_QUICK}};
enum { SIMILARITY, SEARCH, CLUSTERING, N_TASKS };
static const rv_param_value tasks[N_TASKS] = {{"similarity", 0, RV_PROFILE_SMOKE},
                                              {"search", 0, RV_PROFILE_SMOKE},
                                              {"clustering", 0, RV_PROFILE_SMOKE}};
static const rv_param params[N_PARAMS] = {
        [EMBEDDER] = {"embedder", "",
                      "trained: contrastively, the one that ships; nano, pico: as they are",
                      RV_PARAM_BUILD, RV_PARAM_TEXT, embedders, N_EMBEDDERS},
        [DIM] = {"dim", "", "768: projected; native: the model's hidden size", RV_PARAM_BUILD,
                 RV_PARAM_TEXT, dims, N_DIMS},
        [TASK] = {"task", "", "what is measured", RV_PARAM_QUERY, RV_PARAM_TEXT, tasks, N_TASKS},
};

enum {
	N_PAIRS,
	N_BANDS,
	HIGH,
	MEDIUM,
	LOW,
	NONE,
	ORDERED,
	SPEARMAN,
	N_QUERIES,
	MRR,
	NDCG,
	N_CLUSTERS,
	PURITY,
	SILHOUETTE,
	EMBED_US,
	BATCH_US,
	N_METRICS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[N_PAIRS] = {"n_pairs", "pairs", "pairs", "graded pairs", RV_HIGHER, 1, 0, NULL, "%.0f"},
	[N_BANDS] = {"n_bands", "bands", "bands", "grades that have pairs", RV_HIGHER, 1, 0, NULL, "%.0f"},
	[HIGH] = {"similarity_high", "", "high", "mean cosine of pairs that say the same", RV_HIGHER, 1, 0, NULL, "%.3f"},
	[MEDIUM] = {"similarity_medium", "", "medium", "of pairs that say something different of the same thing", RV_HIGHER, 1, 0, NULL, "%.3f"},
	[LOW] = {"similarity_low", "", "low", "of pairs of the same field", RV_LOWER, 1, 0, NULL, "%.3f"},
	[NONE] = {"similarity_none", "", "none", "of pairs with nothing in common", RV_LOWER, 1, 0, NULL, "%.3f"},
	[ORDERED] = {"ordered_pct", "%", "in order", "of two pairs of different grades, how often the higher grade has the greater cosine (chance: 50)", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[SPEARMAN] = {"spearman", "", "Spearman", "rank correlation of cosine and grade", RV_HIGHER, 1, 0, NULL, "%.3f"},
	[N_QUERIES] = {"n_queries", "queries", "queries", "searches of ten documents each", RV_HIGHER, 1, 0, NULL, "%.0f"},
	[MRR] = {"mrr", "", "MRR", "mean of 1 / rank of the first document that answers", RV_HIGHER, 1, 0, NULL, "%.3f"},
	[NDCG] = {"ndcg", "", "NDCG", "of all documents, gain 2^grade - 1", RV_HIGHER, 1, 0, NULL, "%.3f"},
	[N_CLUSTERS] = {"n_clusters", "clusters", "clusters", "given clusters", RV_HIGHER, 1, 0, NULL, "%.0f"},
	[PURITY] = {"purity", "", "purity", "of as many clusters found by k-means", RV_HIGHER, 1, 0, NULL, "%.3f"},
	[SILHOUETTE] = {"silhouette", "", "silhouette", "of the given clusters, distance 1 - cosine", RV_HIGHER, 1, 0, NULL, "%.3f"},
	[EMBED_US] = {"embed_us", "us", "one text", "a text of about 16 tokens, alone, tokenizer included: median of 5", RV_LOWER, 0, 0, NULL, "%.0f"},
	[BATCH_US] = {"batch_us", "us", "of 16 texts, each", "the same text 16 times in one call", RV_LOWER, 0, 0, NULL, "%.0f"},
};
/* clang-format on */

enum { MAP, N_FACTS };
static const rv_fact facts[N_FACTS] = {[MAP] = {"map", "map", "how vectors get their dimension"}};

/* ---- the fixture ---- */

typedef struct fixture {
	const rv_run_config *config;
	rv_model *model;
	rv_embedder *embedder;
	rv_embedding_set *set;
} fixture;

/* Every model ships: prepare() only says what the results depend on. */
static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	char path[4096], all[N_EMBEDDERS * 65 + 3 * 65] = "";
	static const char *const data[] = {"pairs", "searches", "clusters"};
	(void)exp;
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/datasets/embedding/%s.jsonl", config->root, data[i]);
		RV_TRY(rv_file_sha256(path, all + strlen(all)));
	}
	rv_sha256_hex(all, strlen(all), in->data_sha256);
	all[0] = 0;
	for (int i = 0; i < N_EMBEDDERS; i++) {
		if (!rv_lab_shipped(config, files[i], path, sizeof path))
			return rv_fail(RV_ERR_NOT_FOUND, "datasets/models/%s.gguf: there is none",
			               files[i]);
		RV_TRY(rv_file_sha256(path, all + strlen(all)));
	}
	rv_sha256_hex(all, strlen(all), in->model_sha256);
	snprintf(in->model_label, sizeof in->model_label, "embedder.gguf, nano.gguf, pico.gguf");
	return RV_OK;
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *config, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	char path[4096];
	(void)n_points;
	f->config = config;
	if (!rv_lab_shipped(config, files[points[0].values[EMBEDDER]], path, sizeof path))
		return rv_fail(RV_ERR_NOT_FOUND, "the model of %s is gone", points[0].label);
	RV_TRY(rv_model_open(&f->model, path, NULL));
	rv_embedder_options o = rv_embedder_defaults();
	o.dim = (int64_t)rv_point_value(exp, &points[0], DIM)->number;
	o.n_threads = config->n_threads;
	RV_TRY(rv_embedder_create(&f->embedder, f->model, &o));
	snprintf(path, sizeof path, "%s/datasets/embedding", config->root);
	return rv_embedding_set_open(&f->set, path);
}

static void teardown(void *user) {
	fixture *f = user;
	rv_embedding_set_close(f->set);
	rv_embedder_destroy(f->embedder);
	rv_model_release(f->model);
}

/* ---- one repetition ---- */

enum { ALONE = 5, TOGETHER = 16, DIM_MAX = 768 };
static const char text[] = "Since Tuesday customers get two parcels and nobody knows why";

static rv_status measure_speed(fixture *f, rv_record *r) {
	static float out[TOGETHER * DIM_MAX];
	rv_embed_input texts[TOGETHER];
	double us[ALONE];
	for (int i = 0; i < TOGETHER; i++)
		texts[i] = (rv_embed_input){text, sizeof text - 1};
	for (int i = 0; i < ALONE; i++) {
		const int64_t before = rv_now_ns();
		RV_TRY(rv_embed_batch(f->embedder, texts, 1, out));
		double t = 1e-3 * (double)(rv_now_ns() - before);
		int at = i;
		for (; at > 0 && us[at - 1] > t; at--)
			us[at] = us[at - 1];
		us[at] = t;
	}
	r->values[EMBED_US] = us[ALONE / 2];
	const int64_t before = rv_now_ns();
	RV_TRY(rv_embed_batch(f->embedder, texts, TOGETHER, out));
	r->values[BATCH_US] = 1e-3 * (double)(rv_now_ns() - before) / TOGETHER;
	return RV_OK;
}

static rv_status similarity(fixture *f, rv_record *r) {
	rv_embedding_pairs p;
	RV_TRY(rv_embedding_pairs_run(f->set, f->embedder, &p));
	r->values[N_PAIRS] = (double)p.n;
	r->values[N_BANDS] = p.n_bands;
	for (int k = 0; k < RV_EMBEDDING_BANDS; k++)
		r->values[HIGH + k] = p.mean[k];
	r->values[ORDERED] = p.ordered_pct;
	r->values[SPEARMAN] = p.spearman;
	return RV_OK;
}

static rv_status search(fixture *f, rv_record *r) {
	rv_embedding_search s;
	RV_TRY(rv_embedding_search_run(f->set, f->embedder, &s));
	r->values[N_QUERIES] = (double)s.n;
	r->values[MRR] = s.mrr;
	r->values[NDCG] = s.ndcg;
	return RV_OK;
}

static rv_status clustering(fixture *f, rv_record *r) {
	rv_embedding_clusters c;
	RV_TRY(rv_embedding_clusters_run(f->set, f->embedder, f->config->seed, &c));
	r->values[N_CLUSTERS] = (double)c.n_clusters;
	r->values[PURITY] = c.purity;
	r->values[SILHOUETTE] = c.silhouette;
	return RV_OK;
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	static rv_status (*const measures[N_TASKS])(fixture *, rv_record *) = {similarity, search,
	                                                                       clustering};
	fixture *f = user;
	const int task = point->values[TASK];
	if (repetition == 0)
		RV_TRY(measures[task](f, record));
	if (task == SIMILARITY)
		RV_TRY(measure_speed(f, record));
	rv_record_fact(record, MAP, "%s",
	               point->values[DIM] == NATIVE       ? "none"
	               : rv_embedder_learned(f->embedder) ? "learned"
	                                                  : "fixed, orthonormal");
	return RV_OK;
}

static const rv_experiment embedding = {
        .id = "T14",
        .name = "t14_embedding",
        .title = "Embeddings",
        .about =
                "Vectors of the texts in datasets/embedding: mean of the last hidden states, length 1. "
                "The trained embedder learnt to tell agents' requests apart, not what its texts are "
                "about; nano and pico learnt to continue text. Texts are general English, of which "
                "none of them has seen much. A word count ranks the searches' documents with an NDCG "
                "of about 0.75.",
        .documented = "t14_embedding.csv",
        .plot = "t14_embedding",
        .params = params,
        .n_params = N_PARAMS,
        .metrics = metrics,
        .n_metrics = N_METRICS,
        .facts = facts,
        .n_facts = N_FACTS,
        .budget_s = {4, 10, 60},
        .min_n = 10,
        .max_n = {10, 20, 50},
        .prepare = prepare,
        .fixture_bytes = sizeof(fixture),
        .setup = setup,
        .run = run,
        .teardown = teardown,
};

int main(int argc, char **argv) {
	return rv_experiment_main(argc, argv, &embedding);
}
