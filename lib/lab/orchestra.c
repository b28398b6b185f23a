#include "lab/orchestra.h"

#include "base/file.h"
#include "base/lock.h"
#include "base/mem.h"
#include "lab/models.h"
#include "lab/speed.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIM = RV_EMBEDDING_DIM, K = RV_ORCHESTRA_K };

#define ROUTER "datasets/models/router.bin"
static const char text[] = "Write a test for the parser and tell me which of the two";
static const char *const files[RV_ORCHESTRA_EMBEDDERS] = {"embedder", "nano", "pico"};

static int router_path(const rv_run_config *config, char *path, size_t size) {
	int n = snprintf(path, size, "%s/" ROUTER, config->root);
	return n > 0 && (size_t)n < size && access(path, R_OK) == 0;
}

const char *rv_orchestra_no_agents(const rv_run_config *config) {
	char path[4096];
	return router_path(config, path, sizeof path) ? NULL : ROUTER ": there is none";
}

rv_status rv_orchestra_describe(const rv_run_config *config, rv_inputs *in) {
	char path[4096], all[RV_ORCHESTRA_EMBEDDERS * 64 + 1] = "";
	for (int i = 0; i < RV_ORCHESTRA_EMBEDDERS; i++) {
		if (!rv_lab_shipped(config, files[i], path, sizeof path))
			return rv_fail(RV_ERR_NOT_FOUND, "datasets/models/%s.gguf: there is none",
			               files[i]);
		RV_TRY(rv_file_sha256(path, all + strlen(all)));
	}
	rv_sha256_hex(all, strlen(all), in->model_sha256);
	if (router_path(config, path, sizeof path))
		RV_TRY(rv_file_sha256(path, in->data_sha256));
	snprintf(in->model_label, sizeof in->model_label, "embedder, nano and pico (Q8_0)");
	snprintf(in->settings, sizeof in->settings, "k %d ef %d sessions %d request %d answer %d", K,
	         RV_ORCHESTRA_EF, RV_ORCHESTRA_SESSIONS, RV_ORCHESTRA_REQUEST, RV_ORCHESTRA_ANSWER);
	return RV_OK;
}

/* ---- open and close ---- */

static int drop(const char *path, const struct stat *st, int kind, struct FTW *at) {
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

void rv_orchestra_close(rv_orchestra *o) {
	rv_fastgrnn_destroy(o->model_router);
	rv_agent_router_destroy(o->agent_router);
	rv_hnsw_searcher_destroy(o->searcher);
	rv_vector_index_close(&o->index);
	rv_vector_set_close(&o->set);
	rv_edges_close(o->edges);
	rv_sessions_close(o->sessions);
	rv_witness_close(o->witness);
	rv_store_close(o->store);
	if (o->dir[0] != 0) {
		nftw(o->dir, drop, 16, FTW_DEPTH | FTW_PHYS);
		rv_lock_release(o->lock);
	}
	rv_context_destroy(o->ctx);
	for (int i = 0; i < RV_ORCHESTRA_EMBEDDERS; i++) {
		rv_embedder_destroy(o->embedders[i]);
		rv_model_release(o->models[i]);
	}
	*o = (rv_orchestra){0};
}

static rv_status open_embedder(rv_orchestra *o, int which) {
	char path[4096], source[4096], sha[65];
	if (!rv_lab_shipped(o->config, files[which], path, sizeof path))
		return rv_fail(RV_ERR_NOT_FOUND, "datasets/models/%s.gguf is gone", files[which]);
	if (which != RV_ORCHESTRA_TRAINED) { /* that one is Q8_0 as it ships */
		memcpy(source, path, sizeof path);
		RV_TRY(rv_file_sha256(source, sha));
		RV_TRY(rv_lab_quantized(o->config, source, sha, rv_quant_target_by_name("Q8_0"), path,
		                        sizeof path));
	}
	RV_TRY(rv_model_open(&o->models[which], path, NULL));
	rv_embedder_options options = rv_embedder_defaults();
	options.threads = o->config->threads; /* one pool for all: they take turns */
	return rv_embedder_create(&o->embedders[which], o->models[which], &options);
}

static rv_status open_routers(rv_orchestra *o) {
	char path[4096];
	rv_fastgrnn_options options = rv_fastgrnn_defaults();
	options.seed = o->config->seed;
	RV_TRY(rv_fastgrnn_create(&o->model_router, &options));
	if (!router_path(o->config, path, sizeof path))
		return RV_OK;
	return rv_agent_router_open(&o->agent_router, path, o->embedders[RV_ORCHESTRA_TRAINED]);
}

/* A folder of the stores' own; what a killed run left there goes first. */
static rv_status open_folder(rv_orchestra *o) {
	char path[sizeof o->dir + 8];
	snprintf(path, sizeof path, "%.200s/build/cache", o->config->root);
	RV_TRY(rv_mkdirs(path));
	snprintf(path, sizeof path, "%.200s/build/cache/t11.lock", o->config->root);
	RV_TRY(rv_lock_take(path, &o->lock));
	snprintf(o->dir, sizeof o->dir, "%.200s/build/cache/t11", o->config->root);
	nftw(o->dir, drop, 16, FTW_DEPTH | FTW_PHYS);
	return RV_OK;
}

static rv_status open_stores(rv_orchestra *o) {
	RV_TRY(open_folder(o));
	rv_store_options options = rv_store_defaults();
	options.seeded = 1;
	options.seed = o->config->seed;
	RV_TRY(rv_store_open(&o->store, o->dir, &options));
	RV_TRY(rv_witness_open(&o->witness, o->store, NULL));
	RV_TRY(rv_sessions_open(&o->sessions, o->store, NULL));
	return rv_edges_open(&o->edges, o->store, NULL);
}

/* The request has the tokens that it is said to have. */
static rv_status check_text(rv_orchestra *o) {
	RV_TRY(rv_orchestra_embed(o, RV_ORCHESTRA_TRAINED));
	int64_t n = rv_embedder_n_tokens(o->embedders[RV_ORCHESTRA_TRAINED]);
	return n == RV_ORCHESTRA_REQUEST ? RV_OK
	                                 : rv_fail(RV_ERR_MISMATCH, "'%s' has %lld tokens, not %d",
	                                           text, (long long)n, RV_ORCHESTRA_REQUEST);
}

/* As T4 has them, so that they are made once for both. */
static rv_status open_index(rv_orchestra *o, int64_t n) {
	static const int64_t n_queries[RV_PROFILE_COUNT] = {100, 500, 1000};
	const rv_vector_spec spec = {.kind = RV_VECTOR_SET_CLUSTERED,
	                             .n = n,
	                             .n_queries = n_queries[o->config->profile],
	                             .dim = DIM,
	                             .k = 100,
	                             .seed = o->config->seed};
	rv_hnsw_options options = rv_hnsw_defaults();
	options.seed = o->config->seed;
	RV_TRY(rv_vector_set_open(&o->set, o->config, &spec));
	RV_TRY(rv_vector_index_open(&o->index, o->config, &o->set, &options, RV_NO_CODE, 0));
	return rv_hnsw_searcher_create(&o->searcher, o->index.index);
}

static rv_status fill_sessions(rv_orchestra *o) {
	enum { N = RV_ORCHESTRA_SESSIONS };
	static char ids[N][24]; /* of the process that measures: written once, the same by all */
	static rv_session all[N];
	for (int i = 0; i < N; i++) {
		snprintf(ids[i], sizeof ids[i], "session-%d", i);
		all[i] = (rv_session){.session_id = ids[i],
		                      .context_embedding = o->set.base + i % o->set.spec.n * DIM,
		                      .kv_cache_ref = {RV_KV_HOT, ids[i], 512, "f16", 1},
		                      .active_adapter = i % 2 ? "coder" : NULL,
		                      .turn_count = i,
		                      .metadata = "{\"variant\": \"base\"}"};
	}
	return rv_sessions_put_all(o->sessions, all, N);
}

rv_status rv_orchestra_open(rv_orchestra *o, const rv_run_config *config, int64_t n) {
	o->config = config;
	RV_TRY(open_stores(o));
	RV_TRY(open_embedder(o, RV_ORCHESTRA_TRAINED));
	RV_TRY(check_text(o));
	RV_TRY(open_routers(o));
	rv_memuse_get(&o->base); /* before anything is in it */
	RV_TRY(open_embedder(o, RV_ORCHESTRA_NANO));
	RV_TRY(open_embedder(o, RV_ORCHESTRA_PICO));
	rv_context_options options = rv_context_defaults();
	options.threads = config->threads;
	options.n_ctx = 64;
	RV_TRY(rv_context_create(&o->ctx, o->models[RV_ORCHESTRA_NANO], &options));
	rv_random_tokens(o->answer, RV_ORCHESTRA_ANSWER, config->seed,
	                 rv_model_hparams(o->models[RV_ORCHESTRA_NANO])->n_vocab);
	RV_TRY(open_index(o, n));
	return fill_sessions(o);
}

/* ---- what is done for a request ---- */

rv_status rv_orchestra_embed(rv_orchestra *o, rv_orchestra_embedder which) {
	return rv_embed_text(o->embedders[which], text, sizeof text - 1, o->embedding);
}

static rv_status search(rv_orchestra *o, const float *query) {
	uint64_t ids[K];
	int64_t n;
	return rv_hnsw_search_with(o->searcher, query, K, RV_ORCHESTRA_EF, NULL, ids, NULL, &n);
}

rv_status rv_orchestra_retrieve(rv_orchestra *o) {
	return search(o, o->embedding);
}

rv_status rv_orchestra_search(rv_orchestra *o, int64_t i) {
	return search(o, o->set.queries + i % o->set.spec.n_queries * DIM);
}

rv_status rv_orchestra_route(rv_orchestra *o) {
	rv_fastgrnn_input in = {.success = {0.6f, 0.8f, 0.9f, 0.95f}, .latency_ms = {5, 20, 200, 900}};
	rv_fastgrnn_decision decision;
	for (int i = 0; i < DIM; i++)
		in.query[i % RV_FASTGRNN_QUERY] += o->embedding[i];
	for (int i = 0; i < RV_FASTGRNN_POLICY; i++)
		in.policy[i] = 0.5f;
	return rv_fastgrnn_route(o->model_router, &in, &decision);
}

rv_status rv_orchestra_route_agent(rv_orchestra *o) {
	rv_agent_decision decision;
	if (o->agent_router == NULL)
		return rv_fail(RV_ERR_NOT_FOUND, ROUTER ": there is none");
	return rv_agent_route(o->agent_router, RV_ROUTER_HYBRID, text, sizeof text - 1, &decision);
}

rv_status rv_orchestra_answer(rv_orchestra *o) {
	const rv_token_run answer = {o->ctx, o->answer, RV_ORCHESTRA_ANSWER};
	return rv_decode_run(&answer);
}

rv_status rv_orchestra_look_up(rv_orchestra *o, int64_t i) {
	char id[32];
	rv_session *session = NULL;
	/* 7919 and 1000 share no factor */
	snprintf(id, sizeof id, "session-%d", (int)(i * 7919 % RV_ORCHESTRA_SESSIONS));
	RV_TRY(rv_sessions_get(o->sessions, id, &session));
	rv_free(session);
	return RV_OK;
}

rv_status rv_orchestra_witness(rv_orchestra *o, int64_t i) {
	static const char *const docs[] = {"pattern-1", "pattern-2", "pattern-3"};
	char id[RV_UUID_TEXT];
	const float *query = o->set.queries + i % o->set.spec.n_queries * DIM;
	rv_store_uuid(o->store, id);
	rv_witness_entry e = rv_witness_entry_defaults();
	e.request_id = id;
	e.session_id = "session-1";
	e.query_embedding = query;
	e.routing_decision =
	        (rv_routing_decision){"nano", 4096, 0.7f, 0.9f, 0.8f, {0.1f, 0.8f, 0.1f, 0}};
	e.model_used = "nano";
	e.quality_score = 0.75f;
	for (int p = 0; p < RV_LATENCY_COUNT; p++)
		e.latency_ms[p] = 0.125 * (double)(p + i % 8);
	e.context_doc_ids = docs;
	e.n_context_doc_ids = sizeof docs / sizeof *docs;
	e.response_embedding = query;
	return rv_witness_append(o->witness, &e);
}
