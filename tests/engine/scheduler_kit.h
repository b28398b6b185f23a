/* What the tests of the scheduler share: kinds of requests, what each gives alone, and a checker that
 * holds what a schedule gave against that. Memory-mapped adapters take part. */
#ifndef RV_TESTS_ENGINE_SCHEDULER_KIT_H
#define RV_TESTS_ENGINE_SCHEDULER_KIT_H

#include "base/rng.h"
#include "engine/kv_pages.h"
#include "engine/kv_policy.h"
#include "engine/scheduler.h"
#include "tests/support/tiny_model.h"

enum { KIT_CTX = 96, KIT_PROMPT = 70, KIT_NEW = 24, KIT_KINDS = 24, KIT_STOPS = 2 };

typedef struct kind {
	int32_t prompt[KIT_PROMPT], stop_tokens[KIT_STOPS];
	rv_request request; /* without callbacks, of priority 0 */
	int32_t alone[KIT_CTX + 1];
	int64_t n_alone;
	rv_stop stop;
} kind;

/* ---- the model: 2 layers, 64 wide; a token takes 2 KiB of keys and values in F32, so that the
 * smallest budget (2 MiB) holds 1024 ---- */

static inline rv_hparams kit_hparams(void) {
	rv_hparams hp = tiny_hparams();
	hp.n_layers = 2;
	hp.n_embd = hp.n_ff = 64;
	hp.n_heads = 2;
	hp.n_vocab = 320;
	return hp;
}

static inline void kit_file(char path[1024]) {
	tiny_model_file(path, "qwen2", "F16"); /* a name of its own */
	rv_synth_options o = {.arch = rv_arch_by_name("qwen2", 5),
	                      .hp = kit_hparams(),
	                      .target = rv_quant_target_by_name("F16"),
	                      .seed = 7};
	assert_ok(rv_synth_file(path, &o));
}

static inline rv_model *kit_model(void) {
	char path[1024];
	rv_model *m;
	kit_file(path);
	rv_status st = rv_model_open(&m, path, NULL);
	unlink(path);
	assert_ok(st);
	return m;
}

/* ---- adapters: set 1 and 2 of every context; set 0 is empty ---- */

enum { KIT_RANK = 4, KIT_SETS = 3 };
static rv_adapter *kit_adapters[KIT_SETS];

/* One that changes the feed-forward of every layer, at random. */
static inline rv_adapter *make_adapter(rv_model *of, uint64_t seed) {
	char path[1024], name[64];
	rv_gguf_writer *w;
	rv_adapter *adapter;
	rv_rng rng;
	float x[64 * KIT_RANK];
	const rv_hparams hp = kit_hparams();
	const int64_t dims[2][2] = {{hp.n_embd, KIT_RANK}, {KIT_RANK, hp.n_ff}};
	rv_rng_seed(&rng, seed);
	kit_file(path); /* a name to write to */
	assert_ok(rv_gguf_writer_open(&w, path));
	assert_ok(rv_gguf_write_string(w, "general.type", "adapter"));
	assert_ok(rv_gguf_write_string(w, "adapter.type", "lora"));
	assert_ok(rv_gguf_write_string(w, "general.architecture", "qwen2"));
	assert_ok(rv_gguf_write_f32(w, "adapter.lora.alpha", KIT_RANK));
	for (int64_t i = 0; i < 2 * hp.n_layers; i++) {
		snprintf(name, sizeof name, "blk.%d.ffn_up.weight.lora_%c", (int)(i / 2), "ab"[i % 2]);
		assert_ok(rv_gguf_declare(w, name, RV_F32, 2, dims[i % 2]));
	}
	for (int64_t i = 0; i < 2 * hp.n_layers; i++) {
		int64_t n = dims[i % 2][0] * dims[i % 2][1];
		for (int64_t j = 0; j < n; j++)
			x[j] = (float)(0.2 * rv_rng_normal(&rng));
		assert_ok(rv_gguf_write_data(w, x, (size_t)n * sizeof *x));
	}
	assert_ok(rv_gguf_writer_commit(w));
	rv_status st = rv_adapter_open(&adapter, path, of);
	unlink(path);
	assert_ok(st);
	return adapter;
}

static inline void use_adapter(rv_context *ctx, int32_t set, rv_adapter *adapter) {
	const rv_adapter_use use = {adapter, 1};
	assert_ok(rv_context_set_adapters(ctx, set, &use, adapter != NULL));
}

static const rv_kv_policy *kit_policy; /* of the contexts opened; NULL: none */
static int kit_pinned;                 /* their sequences keep the versions they began with */

/* F32, so that pages are large. */
static inline rv_context *kit_context(rv_model *of, int32_t n_seqs, int32_t n_batch, int32_t page_size,
                                      size_t budget_bytes) {
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = KIT_CTX;
	o.kv_type = kit_policy ? RV_KV_F16 : RV_KV_F32;
	o.kv_policy = kit_policy;
	o.page_size = kit_policy ? 16 : page_size;
	o.pin_adapters = kit_pinned;
	o.kv_budget_bytes = budget_bytes;
	o.n_seqs = n_seqs;
	o.n_batch = n_batch;
	o.n_threads = page_size == 64 ? 2 : 1; /* some with both */
	assert_ok(rv_context_create(&ctx, of, &o));
	for (int32_t set = 0; set < KIT_SETS; set++)
		use_adapter(ctx, set, kit_adapters[set]);
	return ctx;
}

/* By rv_generate, with a context and a sampler of its own; a stop token ends it undelivered. */
static inline void run_alone(rv_model *of, kind *k) {
	rv_context *ctx = kit_context(of, 1, 64, 0, 0);
	rv_sampler *sampler;
	rv_generate_result result;
	rv_generate_options o = rv_generate_defaults();
	const rv_request *q = &k->request;
	o.n_predict = q->max_tokens;
	use_adapter(ctx, 0, kit_adapters[q->adapter]); /* rv_generate knows set 0 only */
	o.ignore_end = q->ignore_end;
	assert_ok(rv_sampler_create(&sampler, &q->sampling, kit_hparams().n_vocab));
	assert_ok(rv_generate(ctx, 0, q->prompt, q->n_prompt, sampler, &o, k->alone, &result));
	k->n_alone = result.n_generated;
	k->stop = result.stop;
	for (int64_t i = k->n_alone - 1; i >= 0; i--)
		for (int32_t s = 0; s < q->n_stop_tokens; s++)
			if (k->alone[i] == q->stop_tokens[s]) {
				k->n_alone = i;
				k->stop = RV_STOP_END;
			}
	rv_sampler_destroy(sampler);
	rv_context_destroy(ctx);
}

/* Random prompts and options; some are greedy, some stop early, some fill the context. */
static inline void make_kinds(rv_model *of, kind *all, uint64_t seed) {
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	for (int i = 0; i < KIT_KINDS; i++) {
		kind *k = &all[i];
		int64_t most = i % 3 == 0 ? KIT_PROMPT : 12;
		rv_request q = rv_request_defaults();
		q.prompt = k->prompt;
		q.n_prompt = 1 + (int64_t)rv_rng_below(&rng, (uint64_t)most);
		for (int64_t j = 0; j < q.n_prompt; j++)
			k->prompt[j] = (int32_t)rv_rng_below(&rng, (uint64_t)kit_hparams().n_vocab);
		q.max_tokens = i == 7 ? -1 : (int64_t)rv_rng_below(&rng, KIT_NEW);
		q.ignore_end = i == 7;
		q.sampling.seed = rv_rng_u64(&rng);
		q.sampling.temperature = i % 2 == 0 ? 0 : 1;
		q.sampling.repeat_penalty = i % 4 < 2 ? 1 : 1.3;
		q.logprobs = i % 5 == 0;
		q.adapter = i % 4 == 3 ? 1 + i % 8 / 4 : 0;
		k->request = q;
		run_alone(of, k);
		if (i % 6 == 5 && k->n_alone > 2) { /* the same, stopped by one of its own tokens */
			k->stop_tokens[0] = 3;
			k->stop_tokens[1] = k->alone[k->n_alone / 2];
			k->request.stop_tokens = k->stop_tokens;
			k->request.n_stop_tokens = KIT_STOPS;
			run_alone(of, k);
		}
	}
}

static rv_model *model;
static kind kinds[KIT_KINDS];

static inline int open_model(void **state) {
	(void)state;
	model = kit_model();
	for (int i = 1; i < KIT_SETS; i++)
		kit_adapters[i] = make_adapter(model, (uint64_t)i);
	make_kinds(model, kinds, 3);
	return 0;
}

static inline int close_model(void **state) {
	(void)state;
	for (int i = 1; i < KIT_SETS; i++)
		rv_adapter_release(kit_adapters[i]);
	rv_model_release(model);
	return 0;
}

/* ---- one request of a schedule ---- */

typedef struct ticket {
	const kind *k;
	rv_request_id id;
	int32_t got[KIT_CTX + 1];
	int64_t n_got;
	int n_done, cancel_asked;
	rv_status status;
	rv_stop stop;
	rv_request_stats stats;
	char message[256];
	int64_t done_at; /* *clock when it was done */
	const int64_t *clock;
} ticket;

static inline int ticket_token(void *user, rv_request_id id, int32_t token, double logprob) {
	ticket *t = user;
	assert_int_equal(id, t->id);
	assert_true(t->n_got < KIT_CTX + 1);
	assert_int_equal(t->n_done, 0);
	assert_int_equal(t->k->request.logprobs, logprob <= 0);
	t->got[t->n_got++] = token;
	return 0;
}

static inline void ticket_done(void *user, rv_request_id id, const rv_request_result *result) {
	ticket *t = user;
	assert_int_equal(id, t->id);
	assert_int_equal(result->stats.n_generated, t->n_got);
	assert_memory_equal(result->tokens, t->got, (size_t)t->n_got * sizeof *t->got);
	for (int64_t i = 1; i < t->n_got; i++)
		assert_true(result->token_ns[i] >= result->token_ns[i - 1]);
	assert_int_equal(result->status != RV_OK, *result->message != 0);
	t->n_done++;
	t->status = result->status;
	t->stop = result->stop;
	t->stats = result->stats;
	t->done_at = t->clock ? *t->clock : 0;
	snprintf(t->message, sizeof t->message, "%s", result->message);
}

static inline void ticket_submit(rv_scheduler *s, ticket *t, const kind *k, int32_t priority) {
	rv_request q = k->request;
	const int64_t *clock = t->clock;
	*t = (ticket){.k = k, .clock = clock};
	q.priority = priority;
	q.on_token = ticket_token;
	q.on_done = ticket_done;
	q.user = t;
	assert_ok(rv_scheduler_submit(s, &q, &t->id));
}

/* The checker: what is wrong with a ticket whose scheduler is idle; NULL: nothing. */
static inline const char *ticket_trouble(const ticket *t) {
	const kind *k = t->k;
	if (t->n_done != 1)
		return "not done once";
	if (t->status == RV_ERR_CANCELLED && !t->cancel_asked)
		return "cancelled, and nobody asked";
	if (t->status != RV_OK && t->status != RV_ERR_CANCELLED)
		return rv_status_text(t->status);
	if (t->status == RV_OK && t->n_got != k->n_alone)
		return "another number of tokens than alone";
	if (t->n_got > k->n_alone)
		return "more tokens than alone";
	if (memcmp(t->got, k->alone, (size_t)t->n_got * sizeof *t->got) != 0)
		return "other tokens than alone";
	if (t->status == RV_OK && t->stop != k->stop)
		return "another reason to stop than alone";
	return NULL;
}

/* An idle scheduler holds nothing. */
static inline void nothing_held(rv_scheduler *s, rv_context *ctx) {
	rv_scheduler_stats stats;
	rv_scheduler_get_stats(s, &stats);
	assert_int_equal(stats.n_running, 0);
	assert_int_equal(stats.n_waiting, 0);
	assert_int_equal(stats.swapped_bytes, 0);
	assert_int_equal(stats.n_submitted, stats.n_done + stats.n_cancelled + stats.n_failed);
	for (int32_t i = 0; i < rv_context_get_options(ctx)->n_seqs; i++)
		assert_int_equal(rv_seq_length(ctx, i), 0);
	if (rv_context_kv_pages(ctx)) {
		rv_kv_stats kv;
		rv_context_kv_stats(ctx, &kv);
		assert_int_equal(kv.n_pages, 0);
		assert_ok(rv_kv_pages_verify(rv_context_kv_pages(ctx), 0));
	}
}

#endif
