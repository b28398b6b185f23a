/* Training of the background loop: recent requests as sequences, the Fisher diagonal of what came
 * before, old text. The steps themselves are the deep loop's (sona_deep_tune.c). */
#include "base/file.h"
#include "base/mem.h"
#include "learn/sona_deep.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
	HELD_OUT = 5,  /* one in so many, chosen by its id */
	MAX_HELD = 32, /* sequences of those: the newest */
	OBSERVED = 8
};

/* ---- recent requests as sequences ---- */

typedef struct packing {
	rv_deep_text *text;
	int64_t limit[2]; /* sequences; then the oldest gives way */
	int64_t begun[2]; /* ever */
	int64_t used[2];  /* tokens of the last */
} packing;

/* Where the next sequence stands, empty. */
static void begin_sequence(packing *p, int held) {
	rv_deep_text *t = p->text;
	const int64_t at = p->begun[held]++ % p->limit[held], row = t->n_ctx + 1;
	for (int64_t i = 0; i < row; i++)
		t->tokens[held][at * row + i] = t->end;
	memset(t->weights[held] + at * t->n_ctx, 0, (size_t)t->n_ctx * sizeof(float));
	t->n[held] = p->begun[held] < p->limit[held] ? p->begun[held] : p->limit[held];
	p->used[held] = 0;
}

/* Prompt and right answer, an end token behind them where there is room, whole in a sequence; what
 * stands before an end token is not seen behind it. Predictions of the answer weigh its quality. */
static void put_served(packing *p, int held, const rv_served *v) {
	rv_deep_text *t = p->text;
	const int64_t row = t->n_ctx + 1;
	const int32_t *answer = v->correction ? v->correction : v->answer;
	int64_t n_answer = v->correction ? v->n_correction : v->n_answer;
	int64_t cut = v->n_prompt + n_answer - row;
	int64_t n_prompt = cut > 0 ? v->n_prompt - cut : v->n_prompt;
	if (n_prompt < 1 || n_answer < 1)
		return; /* an answer that does not fit with a token before it */
	if (p->begun[held] == 0 || p->used[held] + n_prompt + n_answer > row)
		begin_sequence(p, held);
	const int64_t at = (p->begun[held] - 1) % p->limit[held];
	int32_t *tokens = t->tokens[held] + at * row + p->used[held];
	float *weights = t->weights[held] + at * t->n_ctx + p->used[held];
	memcpy(tokens, v->prompt + v->n_prompt - n_prompt, (size_t)n_prompt * sizeof *tokens);
	memcpy(tokens + n_prompt, answer, (size_t)n_answer * sizeof *tokens);
	for (int64_t i = 0; i < n_answer; i++)
		weights[n_prompt + i - 1] = v->correction ? 1 : (float)v->quality;
	p->used[held] += n_prompt + n_answer + 1;
	t->n_items[held]++;
}

static int is_good(const rv_sona *s, const rv_served *v) {
	return v->correction || (rv_quality_ok(v->quality) && v->quality > 0 &&
	                         v->quality >= s->o.instant_how.threshold);
}

/* Those since `tuned`, and those held out of all there are; *newest is the last that was read. */
static rv_status read_ring(rv_sona *s, rv_deep_text *t, int32_t *buffer, uint64_t *newest,
                           int64_t *newest_ms) {
	uint64_t oldest;
	rv_served v;
	packing p = {.text = t, .limit = {s->o.ring.capacity, MAX_HELD}};
	rv_trajectory_ring_range(s->ring, &oldest, newest);
	for (uint64_t i = oldest; i > 0 && i <= *newest; i++) {
		rv_status st = rv_trajectory_ring_read(s->ring, i, &v, buffer);
		if (st == RV_ERR_NOT_FOUND)
			continue; /* gave way meanwhile */
		RV_TRY(st);
		*newest_ms = v.time_ms;
		int held = rv_crc32(0, v.request_id, RV_UUID_TEXT - 1) % HELD_OUT == 0;
		if (is_good(s, &v) && (held || i > s->state.tuned))
			put_served(&p, held, &v);
	}
	return RV_OK;
}

static rv_status text_of_ring(rv_sona *s, rv_deep_text *t, uint64_t *newest, int64_t *newest_ms) {
	const rv_ring_options *ring = rv_trajectory_ring_options(s->ring);
	const rv_tokenizer *tok = rv_model_tokenizer(s->model);
	int32_t *buffer = NULL;
	*t = (rv_deep_text){.n_ctx = s->o.tuning.n_ctx};
	t->end = tok && rv_tokenizer_eos(tok) >= 0 ? rv_tokenizer_eos(tok) : 0;
	rv_status st = RV_ALLOC(&buffer, ring->max_tokens + ring->max_correction, "tokens");
	for (int held = 0; st == RV_OK && held < 2; held++) {
		st = RV_ALLOC(&t->tokens[held], ring->capacity * (t->n_ctx + 1), "sequences");
		if (st == RV_OK)
			st = RV_ALLOC(&t->weights[held], ring->capacity * t->n_ctx, "weights");
	}
	if (st == RV_OK)
		st = read_ring(s, t, buffer, newest, newest_ms);
	rv_free(buffer);
	if (st != RV_OK)
		rv_deep_text_deinit(t);
	return st;
}

/* ---- what the deep loop's steps work on ---- */

static rv_deep deep_of(rv_sona_pass *p, const rv_sona_deep_options *options) {
	rv_sona *s = p->s;
	return (rv_deep){.model = s->model,
	                 .options = options,
	                 .replay = s->state.replay,
	                 .old = s->state.old,
	                 .micro = &s->o.micro,
	                 .base_rank = s->o.base_rank,
	                 .now_ms = p->now_ms,
	                 .seed = rv_sona_seed(s),
	                 .n_threads = s->o.n_threads,
	                 .log = s->o.log,
	                 .stop = rv_sona_pass_over,
	                 .user = p,
	                 .ewc = s->state.ewc};
}

static rv_sona_deep_options background_options(const rv_sona *s) {
	rv_sona_deep_options o = s->o.deep;
	o.tuning = s->o.tuning;
	return o;
}

/* ---- tune ---- */

rv_status rv_sona_part_tune(rv_sona_pass *p, rv_sona_part_report *r) {
	rv_sona *s = p->s;
	const rv_sona_deep_options options = background_options(s);
	rv_deep d = deep_of(p, &options);
	rv_deep_text text;
	uint64_t oldest, newest;
	int64_t newest_ms = 0;
	rv_adapter *before = NULL;
	if (rv_deep_too_large(&d, r))
		return RV_OK;
	if (options.tuning.steps == 0)
		return rv_sona_say(r, RV_PART_OFF, "no steps");
	rv_trajectory_ring_range(s->ring, &oldest, &newest);
	if (newest == s->state.tried)
		return rv_sona_say(r, RV_PART_NOTHING, "no requests since the last time");
	RV_TRY(text_of_ring(s, &text, &newest, &newest_ms));
	rv_status st = rv_instant_snapshot(s->instant, &before, NULL);
	d.base = before ? rv_adapter_retain(before) : NULL;
	if (st == RV_OK)
		st = rv_deep_tune_on(&d, &text, r);
	if (st == RV_OK && d.base != before)
		st = rv_instant_set_base(s->instant, d.base);
	if (st == RV_OK && r->outcome != RV_PART_PUT_OFF)
		s->state.tried = newest;
	if (st == RV_OK && r->outcome == RV_PART_DONE) {
		st = rv_replay_offer(s->state.replay, text.tokens[0], text.weights[0], text.n[0]);
		s->state.tuned = newest;
		s->state.tuned_ms = newest_ms;
	}
	rv_adapter_release(d.base);
	rv_adapter_release(before);
	rv_deep_text_deinit(&text);
	return st;
}

/* ---- the Fisher diagonal ---- */

/* A trainer of BaseLoRA's factors, as tuning makes it. */
static rv_status factors_trainer(rv_sona_pass *p, const rv_adapter *base, rv_trainer **out) {
	rv_trainer_options o = rv_trainer_defaults();
	o.n_ctx = p->s->o.tuning.n_ctx;
	o.n_threads = p->s->o.n_threads;
	o.lora_rank = p->s->o.base_rank;
	o.log = p->s->o.log;
	return rv_trainer_create_lora(out, p->s->model, base, &o);
}

static rv_status whole_trainer(const rv_sona *s, rv_trainer **out) {
	rv_trainer_options o = rv_trainer_defaults();
	o.n_ctx = s->o.tuning.n_ctx;
	o.n_threads = s->o.n_threads;
	o.n_slices = 1;
	o.log = s->o.log;
	return rv_trainer_create_from(out, s->model, NULL, &o);
}

/* Observes sequences drawn from a reservoir. */
static rv_status observe_drawn(rv_sona *s, rv_trainer *t, const rv_replay *from, int64_t *n) {
	const int64_t n_ctx = s->o.tuning.n_ctx;
	int32_t *tokens = NULL;
	float *weights = NULL;
	*n = rv_replay_count(from) < OBSERVED ? rv_replay_count(from) : OBSERVED;
	rv_status st = RV_ALLOC(&tokens, *n * (n_ctx + 1), "sequences");
	if (st == RV_OK)
		st = RV_ALLOC(&weights, *n * n_ctx, "weights");
	if (st == RV_OK)
		st = rv_replay_draw(from, s->state.n_passes[RV_SONA_BACKGROUND], *n, tokens, weights);
	if (st == RV_OK)
		st = rv_ewc_observe(s->state.ewc, t, tokens, weights, *n);
	rv_free(tokens);
	rv_free(weights);
	return st;
}

/* Factors are other numbers after each consolidation: a diagonal of them begins anew then. */
static rv_status fresh_memory(rv_sona *s, const rv_trainer *t) {
	rv_ewc *ewc;
	RV_TRY(rv_ewc_create(&ewc, t, s->o.fisher_decay));
	rv_ewc_destroy(s->state.ewc);
	s->state.ewc = ewc;
	s->state.ewc_whole = s->state.ewc_is_stale = 0;
	return RV_OK;
}

static rv_status observe(rv_sona_pass *p, rv_sona_part_report *r, rv_trainer *t) {
	rv_sona *s = p->s;
	const rv_replay *from = s->state.ewc_whole ? s->state.old : s->state.replay;
	if (!s->state.ewc || s->state.ewc_is_stale)
		RV_TRY(fresh_memory(s, t));
	rv_status st = observe_drawn(s, t, from, &r->n);
	if (st == RV_ERR_MISMATCH && !s->state.ewc_whole) { /* a base of other ranks */
		RV_TRY(fresh_memory(s, t));
		st = observe_drawn(s, t, from, &r->n);
	}
	if (st == RV_ERR_NUMERIC)
		return rv_sona_say(r, RV_PART_UNDONE, "undone: %s", rv_error_message());
	RV_TRY(st);
	r->after = (double)rv_ewc_n_observations(s->state.ewc);
	return rv_sona_say(r, RV_PART_DONE,
	                   "%lld sequences %s, diagonal of %s; %lld observations, decay %.2f",
	                   (long long)r->n, s->state.ewc_whole ? "to be remembered" : "served before",
	                   s->state.ewc_whole ? "the model's weights" : "BaseLoRA's factors",
	                   (long long)rv_ewc_n_observations(s->state.ewc), s->o.fisher_decay);
}

rv_status rv_sona_part_ewc(rv_sona_pass *p, rv_sona_part_report *r) {
	rv_sona *s = p->s;
	const rv_sona_deep_options options = background_options(s);
	const rv_deep d = deep_of(p, &options);
	rv_adapter *base = NULL;
	rv_trainer *t = NULL;
	if (rv_deep_too_large(&d, r))
		return RV_OK;
	if (!s->state.ewc_whole && rv_replay_count(s->state.replay) == 0)
		return rv_sona_say(r, RV_PART_NOTHING, "nothing was trained on yet");
	RV_TRY(rv_instant_snapshot(s->instant, &base, NULL));
	if (!s->state.ewc_whole && !base)
		return rv_sona_say(r, RV_PART_NOTHING, "no BaseLoRA yet");
	rv_status st = s->state.ewc_whole ? whole_trainer(s, &t) : factors_trainer(p, base, &t);
	rv_adapter_release(base);
	if (st == RV_ERR_UNSUPPORTED)
		return rv_sona_say(r, RV_PART_NA, "%s", rv_error_message());
	if (st == RV_OK) {
		rv_trainer_set_cancel(t, rv_sona_pass_over, p);
		st = observe(p, r, t);
	}
	rv_trainer_destroy(t);
	if (st == RV_ERR_CANCELLED)
		return rv_sona_say(r, RV_PART_PUT_OFF, "stopped: as before");
	return st;
}

/* ---- old text ---- */

static rv_status observe_whole(rv_sona *s, const int32_t *tokens, const float *weights, int64_t n) {
	rv_trainer *t;
	rv_ewc *ewc = s->state.ewc;
	RV_TRY(whole_trainer(s, &t));
	rv_status st = s->state.ewc_whole ? RV_OK : rv_ewc_create(&ewc, t, s->o.fisher_decay);
	if (st == RV_OK)
		st = rv_ewc_observe(ewc, t, tokens, weights, n);
	rv_trainer_destroy(t);
	if (ewc == s->state.ewc)
		return st;
	if (st != RV_OK) {
		rv_ewc_destroy(ewc);
		return st;
	}
	rv_ewc_destroy(s->state.ewc);
	s->state.ewc = ewc;
	s->state.ewc_whole = 1;
	s->state.ewc_is_stale = 0;
	return RV_OK;
}

static rv_status remember(rv_sona *s, const int32_t *tokens, const float *weights, int64_t n_seqs) {
	const int64_t n_params = rv_model_n_params(s->model);
	rv_replay *old = s->state.old;
	if (s->o.tuning.max_params > 0 && n_params > s->o.tuning.max_params)
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "old text: %lld parameters are more than the %lld trained here",
		               (long long)n_params, (long long)s->o.tuning.max_params);
	if (!old)
		RV_TRY(rv_replay_create(&old, s->o.tuning.n_ctx, s->o.replay_capacity,
		                        (int64_t)(s->o.seed & INT64_MAX)));
	rv_status st = RV_OK;
	if (2 * sizeof(float) * (size_t)n_params <= s->o.ewc_bytes)
		st = observe_whole(s, tokens, weights, n_seqs);
	if (st == RV_OK)
		st = rv_replay_offer(old, tokens, weights, n_seqs);
	if (st == RV_OK)
		s->state.old = old;
	else if (old != s->state.old)
		rv_replay_destroy(old);
	return st;
}

rv_status rv_sona_remember(rv_sona *s, const int32_t *tokens, const float *weights, int64_t n_seqs) {
	pthread_mutex_lock(&s->pass);
	rv_status st = remember(s, tokens, weights, n_seqs);
	pthread_mutex_unlock(&s->pass);
	return st;
}
