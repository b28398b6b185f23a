/* SONA on a small random model: requests served greedily, vectors made up from their first token. */
#ifndef RV_TESTS_LEARN_SONA_FIXTURE_H
#define RV_TESTS_LEARN_SONA_FIXTURE_H

#include "base/mem.h"
#include "learn/sona.h"
#include "tests/support/test.h"
#include "tests/support/tiny_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT = 6, ANSWER = 5 };

typedef struct sona_fixture {
	rv_model *model;
	rv_context *ctx;
	rv_sona *sona;
	rv_sim_clock clock;
	char dir[1024];  /* "": no store */
	char path[1024]; /* of the model, whose sum the state is bound to */
} sona_fixture;

/* A folder that is the test's own; removed by sona_remove. */
static inline void sona_folder(char dir[1024]) {
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, 1024, "%s/rv-sona-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
}

static inline void sona_remove(const char *dir) {
	char command[1100];
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	assert_int_equal(system(command), 0);
}

static inline rv_sona_options sona_options(sona_fixture *f) {
	rv_sona_options o = rv_sona_defaults(RV_BANK_VARIANT_BASE);
	o.micro.lr = 0.5;
	o.micro.seed = 3;
	o.instant_how.max_ratio = 1e6;
	o.seeded = 1;
	o.seed = 11;
	o.tuning.n_ctx = o.deep.tuning.n_ctx = 32;
	o.clock = rv_sim_clock_source(&f->clock);
	o.loops[RV_SONA_BACKGROUND].max_ms = o.loops[RV_SONA_DEEP].max_ms = 0;
	o.ring.capacity = RV_RING_MIN;
	return o;
}

static inline void sona_context(sona_fixture *f) {
	rv_context_options how = rv_context_defaults();
	how.n_ctx = 64;
	how.n_seqs = 2;
	how.n_threads = 1;
	how.pin = 0;
	assert_ok(rv_context_create(&f->ctx, f->model, &how));
}

static inline void sona_setup(sona_fixture *f, int with_store) {
	*f = (sona_fixture){0};
	rv_sim_clock_init(&f->clock, INT64_C(1780000000000));
	tiny_model_file(f->path, "qwen2", "F16");
	assert_ok(rv_model_open(&f->model, f->path, NULL));
	sona_context(f);
	if (with_store)
		sona_folder(f->dir);
}

static inline void sona_open_with(sona_fixture *f, const rv_sona_options *o) {
	assert_ok(rv_sona_open(&f->sona, f->model, f->dir[0] ? f->dir : NULL, o));
	assert_ok(rv_sona_attach(f->sona, f->ctx, 0));
}

static inline void sona_open(sona_fixture *f) {
	const rv_sona_options o = sona_options(f);
	sona_open_with(f, &o);
}

static inline void sona_teardown(sona_fixture *f) {
	assert_ok(rv_sona_close(f->sona));
	rv_context_destroy(f->ctx);
	rv_model_release(f->model);
	unlink(f->path);
	if (f->dir[0])
		sona_remove(f->dir);
}

static inline int32_t best_token(const float *logits, int64_t n) {
	int32_t best = 0;
	for (int32_t i = 1; i < n; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static inline void made_up_vector(int32_t word, float out[RV_EMBEDDING_DIM]) {
	rv_rng rng;
	rv_rng_seed(&rng, (uint64_t)word + 1);
	for (int i = 0; i < RV_EMBEDDING_DIM; i++)
		out[i] = (float)rv_rng_normal(&rng);
}

typedef struct sona_asked {
	int32_t prompt[PROMPT], answer[ANSWER];
	float vector[RV_EMBEDDING_DIM];
	char text[32];
	rv_sona_request request;
	char id[RV_UUID_TEXT];
} sona_asked;

static inline void sona_ask(sona_fixture *f, int32_t word, int32_t seq, sona_asked *a) {
	for (int i = 0; i < PROMPT; i++)
		a->prompt[i] = (word * 7 + i * 31) % 512;
	made_up_vector(word, a->vector);
	snprintf(a->text, sizeof a->text, "question %d", word);
	a->request = rv_sona_request_defaults(f->ctx);
	a->request.text = a->text;
	a->request.len = strlen(a->text);
	a->request.session_id = word % 2 ? "odd" : "even";
	a->request.query_embedding = a->vector;
	a->request.prompt = a->prompt;
	a->request.n_prompt = PROMPT;
	a->request.seq = seq;
	a->request.first = PROMPT - 1;
}

/* Between beginning and end: decoded greedily, the sequence emptied again. */
static inline void sona_decode(sona_fixture *f, sona_asked *a) {
	const int32_t seq = a->request.seq;
	rv_row rows[PROMPT];
	for (int i = 0; i < PROMPT; i++)
		rows[i] = (rv_row){.token = a->prompt[i], .seq = seq, .position = i, .parent = -1};
	rows[PROMPT - 1].flags = RV_ROW_LOGITS;
	assert_ok(rv_context_eval(f->ctx, rows, PROMPT));
	for (int i = 0; i < ANSWER; i++) {
		a->answer[i] = best_token(rv_context_logits(f->ctx, i ? 0 : PROMPT - 1), 512);
		rows[0] = (rv_row){.token = a->answer[i],
		                   .seq = seq,
		                   .position = PROMPT + i,
		                   .parent = -1,
		                   .flags = RV_ROW_LOGITS};
		if (i + 1 < ANSWER)
			assert_ok(rv_context_eval(f->ctx, rows, 1));
	}
	assert_ok(rv_seq_truncate(f->ctx, seq, 0));
}

static inline rv_sona_report sona_serve(sona_fixture *f, int32_t word, double quality, sona_asked *a) {
	rv_sona_outcome outcome = rv_sona_outcome_defaults();
	rv_sona_report report;
	sona_ask(f, word, 0, a);
	assert_ok(rv_sona_begin(f->sona, f->ctx, &a->request, a->id, NULL));
	sona_decode(f, a);
	outcome.answer = a->answer;
	outcome.n_answer = ANSWER;
	outcome.quality = quality;
	outcome.source = RV_QUALITY_TASK;
	outcome.model_index = word % 4;
	assert_ok(rv_sona_end(f->sona, a->id, &outcome, &report));
	return report;
}

/* What decodes now: the sum of its products, as a hash; "" when there is none. */
static inline void sona_hash(sona_fixture *f, char hex[65]) {
	rv_adapter *a = rv_adapter_slot_acquire(rv_sona_slot(f->sona), NULL);
	hex[0] = 0;
	if (a)
		rv_adapter_sha256(a, hex);
	rv_adapter_release(a);
}

/* Logits after a prompt under what is learnt now. */
static inline void sona_logits(sona_fixture *f, int32_t word, float out[512]) {
	sona_asked a;
	rv_row rows[PROMPT];
	sona_ask(f, word, 1, &a);
	for (int i = 0; i < PROMPT; i++)
		rows[i] = (rv_row){.token = a.prompt[i], .seq = 1, .position = i, .parent = -1};
	rows[PROMPT - 1].flags = RV_ROW_LOGITS;
	assert_ok(rv_context_eval(f->ctx, rows, PROMPT));
	memcpy(out, rv_context_logits(f->ctx, PROMPT - 1), 512 * sizeof *out);
	assert_ok(rv_seq_truncate(f->ctx, 1, 0));
}

static inline double sona_distance(const float *x, const float *y) {
	double sum = 0;
	for (int i = 0; i < 512; i++)
		sum += (double)(x[i] - y[i]) * (double)(x[i] - y[i]);
	return sqrt(sum);
}

#endif
