#include "eval/divergence.h"

#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "base/vm.h"
#include "engine/sampler.h"
#include "eval/logits.h"

#include <math.h>
#include <string.h>

struct rv_divergence_base {
	int n_seqs, n_tokens;
	int64_t n_vocab;
	int32_t *tokens; /* [n_seqs, n_tokens + 1] */
	float *logits;   /* [n_seqs, n_tokens, n_vocab]; after token t of the sequence */
	size_t logits_bytes;
};

const int32_t *rv_divergence_sequence(const rv_divergence_base *base, int s) {
	return base->tokens + (size_t)s * ((size_t)base->n_tokens + 1);
}

static const float *base_logits(const rv_divergence_base *b, int s, int t) {
	return b->logits + ((size_t)s * (size_t)b->n_tokens + (size_t)t) * (size_t)b->n_vocab;
}

void rv_divergence_base_destroy(rv_divergence_base *base) {
	if (base == NULL)
		return;
	rv_free(base->tokens);
	rv_vm_free(base->logits, base->logits_bytes);
	rv_free(base);
}

/* ---- sampling ---- */

typedef struct sampling {
	rv_divergence_base *base;
	rv_context *ctx;
	rv_sampler **samplers; /* one a sequence */
	rv_row *rows;
} sampling;

static rv_status create_samplers(sampling *s, uint64_t seed) {
	const rv_divergence_base *b = s->base;
	for (int i = 0; i < b->n_seqs; i++) {
		rv_rng rng;
		rv_rng_stream(&rng, seed, (uint64_t)i);
		rv_sampler_options options = rv_sampler_defaults();
		options.temperature = 1;
		options.top_k = 0;
		options.top_p = 1;
		options.min_p = 0;
		options.repeat_penalty = 1;
		options.seed = rv_rng_u64(&rng);
		RV_TRY(rv_sampler_create(&s->samplers[i], &options, b->n_vocab));
	}
	return RV_OK;
}

static void first_tokens(sampling *s, const rv_model *model, uint64_t seed) {
	rv_divergence_base *b = s->base;
	const rv_tokenizer *tok = rv_model_tokenizer(model);
	int32_t bos = tok != NULL ? rv_tokenizer_bos(tok) : -1;
	rv_rng rng;
	rv_rng_stream(&rng, seed, (uint64_t)b->n_seqs);
	for (int i = 0; i < b->n_seqs; i++) {
		int32_t *first = b->tokens + (size_t)i * ((size_t)b->n_tokens + 1);
		*first = bos >= 0 ? bos : (int32_t)rv_rng_below(&rng, (uint64_t)b->n_vocab);
	}
}

/* All sequences advance by one token: position t is evaluated, token t + 1 drawn. */
static rv_status advance(sampling *s, int t) {
	rv_divergence_base *b = s->base;
	size_t stride = (size_t)b->n_tokens + 1;
	for (int i = 0; i < b->n_seqs; i++)
		s->rows[i] = (rv_row){.token = b->tokens[(size_t)i * stride + (size_t)t],
		                      .seq = i,
		                      .position = t,
		                      .parent = -1,
		                      .flags = RV_ROW_LOGITS};
	RV_TRY(rv_context_eval(s->ctx, s->rows, b->n_seqs));
	for (int i = 0; i < b->n_seqs; i++) {
		const float *logits = rv_context_logits(s->ctx, i);
		float *kept =
		        b->logits + ((size_t)i * (size_t)b->n_tokens + (size_t)t) * (size_t)b->n_vocab;
		memcpy(kept, logits, (size_t)b->n_vocab * sizeof *kept);
		RV_TRY(rv_sampler_next(s->samplers[i], logits,
		                       &b->tokens[(size_t)i * stride + (size_t)t + 1], NULL));
	}
	return RV_OK;
}

static rv_status sample(sampling *s, rv_model *model, const rv_divergence_options *o) {
	rv_context_options options = rv_context_defaults();
	options.n_ctx = o->n_tokens;
	options.n_seqs = o->n_seqs;
	options.n_threads = o->n_threads;
	RV_TRY(rv_context_create(&s->ctx, model, &options));
	rv_context_set_cancel(s->ctx, o->cancelled, o->user);
	RV_TRY(create_samplers(s, o->seed));
	first_tokens(s, model, o->seed);
	for (int t = 0; t < o->n_tokens; t++)
		RV_TRY(advance(s, t));
	return RV_OK;
}

rv_status rv_divergence_base_create(rv_divergence_base **out, rv_model *base,
                                    const rv_divergence_options *options) {
	int64_t n_vocab = rv_model_hparams(base)->n_vocab;
	size_t positions, floats, bytes;
	if (options->n_seqs < 1 || options->n_tokens < 1 ||
	    !rv_mul_ok((size_t)options->n_seqs, (size_t)options->n_tokens, &positions) ||
	    !rv_mul_ok(positions, (size_t)n_vocab, &floats) ||
	    !rv_mul_ok(floats, sizeof(float), &bytes))
		return rv_fail(RV_ERR_INVALID, "divergence: %d sequences of %d tokens", options->n_seqs,
		               options->n_tokens);
	size_t have = rv_mem_available();
	if (have && bytes > have)
		return rv_fail(RV_ERR_NO_MEMORY,
		               "divergence: logits of %d sequences of %d tokens: need %zu MiB, %zu MiB "
		               "are available",
		               options->n_seqs, options->n_tokens, bytes >> 20, have >> 20);
	rv_divergence_base *b = NULL;
	RV_TRY(RV_ALLOC(&b, 1, "divergence base"));
	b->n_seqs = options->n_seqs;
	b->n_tokens = options->n_tokens;
	b->n_vocab = n_vocab;
	b->logits_bytes = bytes;
	sampling s = {.base = b};
	rv_status status = RV_ALLOC(&b->tokens, positions + (size_t)options->n_seqs, "sampled tokens");
	if (status == RV_OK)
		status = rv_vm_alloc((void **)&b->logits, bytes, "logits of the base model");
	if (status == RV_OK)
		status = RV_ALLOC(&s.samplers, options->n_seqs, "samplers");
	if (status == RV_OK)
		status = RV_ALLOC(&s.rows, options->n_seqs, "rows");
	if (status == RV_OK)
		status = sample(&s, base, options);
	for (int i = 0; i < options->n_seqs && s.samplers != NULL; i++)
		rv_sampler_destroy(s.samplers[i]);
	rv_free(s.samplers);
	rv_free(s.rows);
	rv_context_destroy(s.ctx);
	if (status != RV_OK) {
		rv_divergence_base_destroy(b);
		return status;
	}
	*out = b;
	return RV_OK;
}

/* ---- comparing ---- */

double rv_kl_of_logits(const float *p, const float *q, int64_t n) {
	return rv_kl_given_norms(p, rv_log_sum_exp(p, n), q, rv_log_sum_exp(q, n), n);
}

typedef struct sums {
	double kl, kl_squares; /* of the sequences' means */
	double kl_max, nll, base_nll;
	int64_t same;
} sums;

static void add_sequence(const rv_divergence_base *b, int s, const rv_context *ctx, sums *total) {
	double kl = 0;
	const int32_t *tokens = rv_divergence_sequence(b, s);
	for (int t = 0; t < b->n_tokens; t++) {
		const float *p = base_logits(b, s, t), *q = rv_context_logits(ctx, t);
		double p_norm = rv_log_sum_exp(p, b->n_vocab), q_norm = rv_log_sum_exp(q, b->n_vocab);
		double here = rv_kl_given_norms(p, p_norm, q, q_norm, b->n_vocab);
		kl += here;
		total->kl_max = here > total->kl_max ? here : total->kl_max;
		total->base_nll += p_norm - p[tokens[t + 1]];
		total->nll += q_norm - q[tokens[t + 1]];
		total->same += rv_argmax(p, b->n_vocab) == rv_argmax(q, b->n_vocab);
	}
	kl /= b->n_tokens;
	total->kl += kl;
	total->kl_squares += kl * kl;
}

/* In one call of eval at most n_batch rows may ask for logits, so n_tokens must not exceed it. */
static rv_status evaluate(const rv_divergence_base *b, int s, rv_context *ctx, rv_row *rows) {
	const int32_t *tokens = rv_divergence_sequence(b, s);
	RV_TRY(rv_seq_truncate(ctx, 0, 0));
	for (int t = 0; t < b->n_tokens; t++)
		rows[t] = (rv_row){
		        .token = tokens[t], .position = t, .parent = -1, .flags = RV_ROW_LOGITS};
	return rv_context_eval(ctx, rows, b->n_tokens);
}

rv_status rv_divergence_measure(const rv_divergence_base *base, rv_context *ctx, rv_divergence *out) {
	int64_t n_vocab = rv_model_hparams(rv_context_model(ctx))->n_vocab;
	if (n_vocab != base->n_vocab)
		return rv_fail(RV_ERR_MISMATCH,
		               "divergence: vocabulary of %lld tokens, the base has %lld",
		               (long long)n_vocab, (long long)base->n_vocab);
	rv_row *rows = NULL;
	RV_TRY(RV_ALLOC(&rows, base->n_tokens, "rows"));
	sums total = {0};
	rv_status status = RV_OK;
	for (int s = 0; s < base->n_seqs && status == RV_OK; s++) {
		status = evaluate(base, s, ctx, rows);
		if (status == RV_OK)
			add_sequence(base, s, ctx, &total);
	}
	rv_free(rows);
	RV_TRY(status);
	double n_seqs = base->n_seqs, n = n_seqs * base->n_tokens;
	rv_divergence d = {.n = (int64_t)base->n_seqs * base->n_tokens,
	                   .base_cross_entropy = total.base_nll / n,
	                   .cross_entropy = total.nll / n,
	                   .kl = total.kl / n_seqs,
	                   .kl_se = NAN,
	                   .kl_max = total.kl_max,
	                   .same_top = (double)total.same / n};
	if (base->n_seqs > 1) {
		double variance = (total.kl_squares - n_seqs * d.kl * d.kl) / (n_seqs - 1);
		d.kl_se = sqrt(fmax(0, variance) / n_seqs);
	}
	if (!isfinite(d.kl) || !isfinite(d.cross_entropy))
		return rv_fail(RV_ERR_NUMERIC, "divergence: KL %g, cross-entropy %g", d.kl,
		               d.cross_entropy);
	*out = d;
	return RV_OK;
}
