#include "learn/replay.h"

#include "base/mem.h"
#include "base/rng.h"
#include "learn/sealed.h"

#include <math.h>
#include <string.h>

#define MAGIC "RVREPLAY"
#define VERSION 1
#define MOST 1000000 /* sequences, tokens */

/* Also the head of a file. */
typedef struct state {
	int64_t n_ctx, capacity, seed, count, offered;
	rv_rng rng; /* of the reservoir */
} state;
_Static_assert(sizeof(state) == 72, "part of the file format");

struct rv_replay {
	state s;
	int64_t room;    /* sequences there is memory for; grows up to the capacity */
	int32_t *tokens; /* [room, n_ctx + 1] */
	float *weights;  /* [room, n_ctx] */
};

static rv_status grow(rv_replay *r, int64_t room) {
	const int64_t n = r->s.n_ctx;
	RV_TRY(RV_GROW(&r->tokens, r->room * (n + 1), room * (n + 1), "replay buffer"));
	RV_TRY(RV_GROW(&r->weights, r->room * n, room * n, "replay buffer"));
	r->room = room;
	return RV_OK;
}

/* With room for the sequences that s counts. */
static rv_status make(rv_replay **out, const state *s) {
	rv_replay *r;
	RV_TRY(RV_ALLOC(&r, 1, "replay buffer"));
	r->s = *s;
	rv_status st = s->count > 0 ? grow(r, s->count) : RV_OK;
	if (st != RV_OK)
		rv_replay_destroy(r);
	else
		*out = r;
	return st;
}

rv_status rv_replay_create(rv_replay **out, int64_t n_ctx, int64_t capacity, int64_t seed) {
	state s = {.n_ctx = n_ctx, .capacity = capacity, .seed = seed};
	*out = NULL;
	if (n_ctx < 1 || n_ctx > MOST || capacity < 1 || capacity > MOST)
		return rv_fail(RV_ERR_INVALID,
		               "replay buffer: %lld sequences of %lld tokens; both are in [1, %d]",
		               (long long)capacity, (long long)n_ctx, MOST);
	rv_rng_stream(&s.rng, (uint64_t)seed, 0);
	return make(out, &s);
}

void rv_replay_destroy(rv_replay *r) {
	if (!r)
		return;
	rv_free(r->tokens);
	rv_free(r->weights);
	rv_free(r);
}

/* ---- offers ---- */

static rv_status check(const int32_t *tokens, const float *weights, int64_t n_tokens, int64_t n_weights,
                       const char *where) {
	for (int64_t i = 0; i < n_tokens; i++)
		if (tokens[i] < 0)
			return rv_fail(RV_ERR_INVALID, "%s: token %lld is %d", where, (long long)i,
			               tokens[i]);
	for (int64_t i = 0; weights && i < n_weights; i++)
		if (!(weights[i] >= 0 && isfinite(weights[i])))
			return rv_fail(RV_ERR_INVALID, "%s: weight %lld is %g", where, (long long)i,
			               (double)weights[i]);
	return RV_OK;
}

/* There is room for one more, if one more is to be held. */
static rv_status make_room(rv_replay *r) {
	const int64_t twice = r->room < 8 ? 16 : 2 * r->room;
	if (r->s.count < r->room || r->s.count == r->s.capacity)
		return RV_OK;
	return grow(r, twice < r->s.capacity ? twice : r->s.capacity);
}

static void put(rv_replay *r, int64_t slot, const int32_t *tokens, const float *weights) {
	const int64_t n = r->s.n_ctx;
	float *w = r->weights + slot * n;
	memcpy(r->tokens + slot * (n + 1), tokens, (size_t)(n + 1) * sizeof *tokens);
	for (int64_t i = 0; i < n; i++)
		w[i] = weights ? weights[i] : 1;
}

/* Sequence number `offered` replaces one of those held with probability capacity / (offered + 1). */
rv_status rv_replay_offer(rv_replay *r, const int32_t *tokens, const float *weights, int64_t n_seqs) {
	state *s = &r->s;
	if (n_seqs < 0)
		return rv_fail(RV_ERR_INVALID, "replay buffer: %lld sequences", (long long)n_seqs);
	RV_TRY(check(tokens, weights, n_seqs * (s->n_ctx + 1), n_seqs * s->n_ctx, "replay buffer"));
	for (int64_t i = 0; i < n_seqs; i++) {
		RV_TRY(make_room(r));
		int64_t slot = s->count;
		s->offered++;
		if (s->count < s->capacity)
			s->count++;
		else
			slot = (int64_t)rv_rng_below(&s->rng, (uint64_t)s->offered);
		if (slot < s->capacity)
			put(r, slot, tokens + i * (s->n_ctx + 1),
			    weights ? weights + i * s->n_ctx : NULL);
	}
	return RV_OK;
}

int64_t rv_replay_count(const rv_replay *r) {
	return r->s.count;
}
int64_t rv_replay_offered(const rv_replay *r) {
	return r->s.offered;
}
int64_t rv_replay_n_ctx(const rv_replay *r) {
	return r->s.n_ctx;
}
const int32_t *rv_replay_tokens(const rv_replay *r, int64_t i) {
	return r->tokens + i * (r->s.n_ctx + 1);
}
const float *rv_replay_weights(const rv_replay *r, int64_t i) {
	return r->weights + i * r->s.n_ctx;
}

/* ---- draws ---- */

/* Shuffled rounds (Fisher and Yates): every sequence once a round. */
rv_status rv_replay_draw(const rv_replay *r, int64_t step, int64_t n, int32_t *tokens, float *weights) {
	const int64_t count = r->s.count, n_ctx = r->s.n_ctx;
	int32_t *order;
	rv_rng rng;
	if (count == 0)
		return rv_fail(RV_ERR_NOT_FOUND, "replay buffer: nothing is held");
	RV_TRY(RV_ALLOC(&order, count, "order of a draw"));
	for (int64_t i = 0; i < count; i++)
		order[i] = (int32_t)i;
	rv_rng_stream(&rng, (uint64_t)r->s.seed, (uint64_t)step + 1);
	for (int64_t i = 0; i < n; i++) {
		const int64_t at = i % count,
		              other = at + (int64_t)rv_rng_below(&rng, (uint64_t)(count - at));
		const int32_t slot = order[other];
		order[other] = order[at];
		order[at] = slot;
		memcpy(tokens + i * (n_ctx + 1), rv_replay_tokens(r, slot),
		       (size_t)(n_ctx + 1) * sizeof *tokens);
		if (weights)
			memcpy(weights + i * n_ctx, rv_replay_weights(r, slot),
			       (size_t)n_ctx * sizeof *weights);
	}
	rv_free(order);
	return RV_OK;
}

/* ---- files: the state, then what is held ---- */

static size_t token_bytes(const state *s) {
	return (size_t)(s->count * (s->n_ctx + 1)) * sizeof(int32_t);
}
static size_t weight_bytes(const state *s) {
	return (size_t)(s->count * s->n_ctx) * sizeof(float);
}

rv_status rv_replay_save(const rv_replay *r, const char *path) {
	rv_sealed_out out = {0};
	rv_sealed_put(&out, &r->s, sizeof r->s);
	rv_sealed_put(&out, r->tokens, token_bytes(&r->s));
	rv_sealed_put(&out, r->weights, weight_bytes(&r->s));
	return rv_sealed_write(&out, path, MAGIC, VERSION);
}

static rv_status check_state(const state *s, const rv_sealed_in *in) {
	const int64_t left = (int64_t)((in->size - in->at) / sizeof(int32_t));
	if (s->n_ctx < 1 || s->n_ctx > MOST || s->capacity < 1 || s->capacity > MOST || s->count < 0 ||
	    s->count > s->capacity || s->count > s->offered || s->count > left / (s->n_ctx + 1) ||
	    (s->count < s->capacity && s->count < s->offered) || s->offered > INT64_MAX / 2 ||
	    !(s->rng.s[0] | s->rng.s[1] | s->rng.s[2] | s->rng.s[3]))
		return rv_fail(RV_ERR_FORMAT, "%s: the head of the replay buffer is damaged", in->name);
	return RV_OK;
}

static rv_status read_buffer(rv_replay **out, rv_sealed_in *in) {
	state s;
	RV_TRY(rv_sealed_get(in, "head of a replay buffer", &s, sizeof s));
	RV_TRY(check_state(&s, in));
	RV_TRY(make(out, &s));
	rv_replay *r = *out;
	RV_TRY(rv_sealed_get(in, "tokens", r->tokens, token_bytes(&s)));
	RV_TRY(rv_sealed_get(in, "weights", r->weights, weight_bytes(&s)));
	const rv_status st =
	        check(r->tokens, r->weights, s.count * (s.n_ctx + 1), s.count * s.n_ctx, in->name);
	return st == RV_OK ? rv_sealed_end(in) : RV_ERR_FORMAT;
}

/* The file is closed. */
static rv_status load(rv_replay **out, rv_sealed_in *in) {
	rv_status st = read_buffer(out, in);
	rv_sealed_close(in);
	if (st != RV_OK) {
		rv_replay_destroy(*out);
		*out = NULL;
	}
	return st;
}

rv_status rv_replay_load(rv_replay **out, const char *path) {
	rv_sealed_in in = {0};
	*out = NULL;
	RV_TRY(rv_sealed_open(&in, path, MAGIC, VERSION));
	return load(out, &in);
}

rv_status rv_replay_load_memory(rv_replay **out, const void *data, size_t size, const char *name) {
	rv_sealed_in in = {0};
	*out = NULL;
	RV_TRY(rv_sealed_open_memory(&in, data, size, name, MAGIC, VERSION));
	return load(out, &in);
}
