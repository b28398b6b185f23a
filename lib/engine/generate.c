#include "engine/generate.h"

#include "base/mem.h"
#include "base/sysinfo.h"

#include <string.h>

const char *rv_stop_name(rv_stop stop) {
	static const char *const names[] = {"length", "end", "stop string", "context", "caller"};
	return names[stop];
}

rv_generate_options rv_generate_defaults(void) {
	return (rv_generate_options){.n_predict = -1};
}

/* ---- text that is ready to go out ---- */

typedef struct outlet {
	const rv_tokenizer *tok;
	const char *const *stops;
	rv_decoder decoder;
	char *held; /* decoded text not yet handed out: it may be the beginning of a stop string */
	size_t n_held, cap;
	char *piece; /* [max_bytes] one token's text */
	size_t piece_cap;
} outlet;

static size_t longest(const char *const *stops) {
	size_t n = 0;
	for (; stops && *stops; stops++)
		n = strlen(*stops) > n ? strlen(*stops) : n;
	return n;
}

static rv_status outlet_init(outlet *o, const rv_tokenizer *tok, const char *const *stops) {
	*o = (outlet){.tok = tok, .stops = stops};
	if (!tok)
		return stops && *stops
		               ? rv_fail(RV_ERR_INVALID, "stop strings need a model with a tokenizer")
		               : RV_OK;
	o->piece_cap = rv_tokenizer_max_bytes(tok) + 8;
	o->cap = longest(stops) + 2 * o->piece_cap;
	RV_TRY(RV_ALLOC(&o->piece, o->piece_cap, "token text"));
	return RV_ALLOC(&o->held, o->cap, "token text");
}

static void outlet_deinit(outlet *o) {
	rv_free(o->piece);
	rv_free(o->held);
}

/* Position of the first stop string within held text, or n_held. */
static size_t find_stop(const outlet *o) {
	size_t best = o->n_held;
	for (const char *const *s = o->stops; s && *s; s++) {
		const char *hit = **s ? memmem(o->held, o->n_held, *s, strlen(*s)) : NULL;
		if (hit && (size_t)(hit - o->held) < best)
			best = (size_t)(hit - o->held);
	}
	return best;
}

/* Bytes at the end of held text that could be the beginning of a stop string. */
static size_t partial_stop(const outlet *o) {
	size_t most = 0;
	for (const char *const *s = o->stops; s && *s; s++) {
		size_t len = strlen(*s);
		for (size_t n = len < o->n_held ? len : o->n_held; n > most; n--)
			if (memcmp(o->held + o->n_held - n, *s, n) == 0)
				most = n;
	}
	return most;
}

/* Adds a token's text (or, with id -1, what the decoder still holds back) and sets how many bytes of
 * `held` may go out; *stopped when a stop string is complete. */
static rv_status outlet_push(outlet *o, int32_t id, size_t *ready, int *stopped) {
	size_t n = 0;
	*ready = 0;
	*stopped = 0;
	if (!o->tok)
		return RV_OK;
	if (id >= 0)
		RV_TRY(rv_decoder_push(&o->decoder, o->tok, id, o->piece, o->piece_cap, &n));
	else
		rv_decoder_flush(&o->decoder, o->piece, o->piece_cap, &n);
	memcpy(o->held + o->n_held, o->piece, n);
	o->n_held += n;
	size_t stop = find_stop(o);
	*stopped = stop < o->n_held;
	*ready = *stopped ? stop : id < 0 ? o->n_held : o->n_held - partial_stop(o);
	return RV_OK;
}

static void outlet_drop(outlet *o, size_t n) {
	memmove(o->held, o->held + n, o->n_held - n);
	o->n_held -= n;
}

/* ---- the loop ---- */

/* Where tokens come from: the sampler after each evaluation, or a speculator. */
typedef struct source {
	rv_context *ctx;
	int32_t seq;
	rv_sampler *sampler;
	rv_speculator *speculator; /* NULL: plain */
	int64_t begin;             /* tokens of the sequence with the prompt */
	int64_t row;               /* of the last evaluation: the prompt's last token */
} source;

/* The token after the `n` chosen so far, of which the last is `id`. */
static rv_status next_token(const source *src, int64_t n, int64_t most, int32_t *id, double *logprob) {
	if (src->speculator)
		return rv_speculator_next(src->speculator, src->sampler, most, id, logprob);
	const rv_row row = {.token = *id,
	                    .seq = src->seq,
	                    .position = (int32_t)(src->begin + n - 1),
	                    .parent = -1,
	                    .flags = RV_ROW_LOGITS};
	if (n > 0)
		RV_TRY(rv_context_eval(src->ctx, &row, 1));
	return rv_sampler_next(src->sampler, rv_context_logits(src->ctx, n > 0 ? 0 : src->row), id,
	                       logprob);
}

/* One chosen token after the other. */
static rv_status generate_loop(const source *src, const rv_generate_options *options, outlet *o,
                               int32_t *out, rv_generate_result *res, int64_t start_ns) {
	const rv_tokenizer *tok = o->tok;
	int64_t room = rv_context_get_options(src->ctx)->n_ctx - src->begin;
	int64_t most = options->n_predict;
	int32_t id = -1;
	if (most < 0 || most > room + 1)
		most = room + 1; /* the last one is not evaluated */
	res->stop = RV_STOP_LENGTH;
	while (res->n_generated < most) {
		double logprob = 0;
		size_t ready;
		int stopped;
		RV_TRY(next_token(src, res->n_generated, most - res->n_generated, &id,
		                  options->on_token ? &logprob : NULL));
		if (res->n_generated == 0)
			res->first_token_ns = rv_now_ns() - start_ns;
		if (tok && !options->ignore_end && rv_tokenizer_is_end(tok, id)) {
			res->stop = RV_STOP_END;
			return RV_OK;
		}
		rv_sampler_accept(src->sampler, id);
		if (out)
			out[res->n_generated] = id;
		res->n_generated++;
		RV_TRY(outlet_push(o, id, &ready, &stopped));
		if (options->on_token &&
		    options->on_token(options->user, id, o->held, ready, logprob)) {
			res->stop = RV_STOP_CALLER;
			return RV_OK;
		}
		outlet_drop(o, ready);
		if (stopped) {
			res->stop = RV_STOP_STRING;
			o->n_held = 0;
			return RV_OK;
		}
	}
	if (res->n_generated != options->n_predict)
		res->stop = RV_STOP_CONTEXT;
	return RV_OK;
}

/* The same with drafts; the sequence is left as plain decoding leaves it. */
static rv_status speculate(const source *src, const int32_t *prompt, int64_t n_prompt,
                           const rv_generate_options *options, outlet *o, int32_t *out,
                           rv_generate_result *res, int64_t start_ns) {
	rv_speculator *s = src->speculator;
	if (rv_speculator_target(s) != src->ctx || rv_speculator_options(s)->seq != src->seq)
		return rv_fail(RV_ERR_INVALID, "the speculator is of another context or sequence");
	RV_TRY(rv_speculator_begin(s, prompt, n_prompt, src->row));
	rv_status status = generate_loop(src, options, o, out, res, start_ns);
	rv_status ended = rv_speculator_end(s);
	return status != RV_OK ? status : ended;
}

/* Text held back for a stop string that did not come, and an incomplete last character. */
static rv_status flush_outlet(outlet *o, const rv_generate_options *options, rv_stop stop) {
	size_t ready;
	int stopped;
	if (stop == RV_STOP_STRING || stop == RV_STOP_CALLER)
		return RV_OK;
	RV_TRY(outlet_push(o, -1, &ready, &stopped));
	if (ready && options->on_token)
		options->on_token(options->user, -1, o->held, ready, 0);
	return RV_OK;
}

/* Whether the text goes on from something: the space that SentencePiece puts before a text is dropped
 * only at its beginning. */
static int continues_text(const rv_tokenizer *tok, int64_t length, const int32_t *prompt, int64_t n) {
	int text = length > 0;
	for (int64_t i = 0; tok && i < n && !text; i++)
		text = !rv_tokenizer_is_special(tok, prompt[i]);
	return text;
}

rv_status rv_generate(rv_context *ctx, int32_t seq, const int32_t *prompt, int64_t n_prompt,
                      rv_sampler *sampler, const rv_generate_options *options, int32_t *out,
                      rv_generate_result *result) {
	rv_generate_result res = {.n_prompt = n_prompt};
	rv_prompt_result after;
	if (n_prompt < 1)
		return rv_fail(RV_ERR_INVALID, "empty prompt: at least one token is needed");
	if (rv_seq_length(ctx, seq) < 0)
		return rv_fail(RV_ERR_INVALID, "sequence %d does not exist", seq);
	outlet o;
	int64_t start = rv_now_ns();
	rv_status st =
	        outlet_init(&o, rv_model_tokenizer(rv_context_model(ctx)), options->stop_strings);
	o.decoder.started = continues_text(o.tok, rv_seq_length(ctx, seq), prompt, n_prompt);
	for (int64_t i = 0; st == RV_OK && i < n_prompt; i++)
		rv_sampler_accept(sampler, prompt[i]);
	if (st == RV_OK)
		st = rv_prompt_eval(ctx, options->prefix, seq, prompt, n_prompt, 0, &after);
	res.prompt_ns = rv_now_ns() - start;
	if (st == RV_OK) {
		res.n_cached = after.n_cached;
		source src = {ctx,      seq, sampler, options->speculator, rv_seq_length(ctx, seq),
		              after.row};
		st = options->speculator
		             ? speculate(&src, prompt, n_prompt, options, &o, out, &res, start)
		             : generate_loop(&src, options, &o, out, &res, start);
	}
	if (st == RV_OK)
		st = flush_outlet(&o, options, res.stop);
	outlet_deinit(&o);
	res.generate_ns = rv_now_ns() - start - res.prompt_ns;
	if (st == RV_OK)
		*result = res;
	return st;
}
