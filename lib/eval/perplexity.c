#include "eval/perplexity.h"

#include "base/mem.h"
#include "engine/sampler.h"
#include "eval/logits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rv_perplexity_sums {
	int64_t n, max;
	int with_base;
	int64_t n_impossible, n_base_impossible, n_same_top;
	rv_co_moments nll; /* a: the model, b: the base */
	rv_moments kl, delta, delta_squares;
	double *kls, *deltas; /* [n]; [max] are allocated with the first base */
};

/* ---- statistics ---- */

rv_status rv_perplexity_sums_create(rv_perplexity_sums **out, int64_t max_positions) {
	rv_perplexity_sums *s;
	*out = NULL;
	RV_TRY(RV_ALLOC(&s, 1, "perplexity sums"));
	s->max = max_positions;
	*out = s;
	return RV_OK;
}

void rv_perplexity_sums_destroy(rv_perplexity_sums *s) {
	if (s == NULL)
		return;
	rv_free(s->kls);
	rv_free(s->deltas);
	rv_free(s);
}

static rv_status keep_values(rv_perplexity_sums *s) {
	if (s->kls == NULL)
		RV_TRY(RV_ALLOC(&s->kls, s->max, "KL divergences"));
	return s->deltas == NULL ? RV_ALLOC(&s->deltas, s->max, "differences of probabilities") : RV_OK;
}

/* Of a row: the norm of its logits and -log of the probability of `next`. */
static rv_status score(const float *logits, int64_t n_vocab, int32_t next, const char *whose,
                       double *norm, double *nll) {
	*norm = rv_log_sum_exp(logits, n_vocab);
	if (!isfinite(*norm))
		return rv_fail(RV_ERR_NUMERIC, "logits of the %s are not finite", whose);
	*nll = *norm - logits[next];
	return RV_OK;
}

static rv_status add_against_base(rv_perplexity_sums *s, const float *logits, double norm, double nll,
                                  const float *base, int64_t n_vocab, int32_t next) {
	double base_norm, base_nll;
	RV_TRY(keep_values(s));
	RV_TRY(score(base, n_vocab, next, "base model", &base_norm, &base_nll));
	double kl = rv_kl_given_norms(base, base_norm, logits, norm, n_vocab);
	double delta = exp(-nll) - exp(-base_nll);
	rv_co_moments_add(&s->nll, nll, base_nll);
	rv_moments_add(&s->kl, kl);
	rv_moments_add(&s->delta, delta);
	rv_moments_add(&s->delta_squares, delta * delta);
	s->n_base_impossible += isinf(base_nll) != 0;
	s->n_same_top += rv_argmax(logits, n_vocab) == rv_argmax(base, n_vocab);
	s->kls[s->n] = kl;
	s->deltas[s->n] = delta;
	return RV_OK;
}

rv_status rv_perplexity_add(rv_perplexity_sums *s, const float *logits, const float *base,
                            int64_t n_vocab, int32_t next) {
	double norm, nll;
	if (s->n >= s->max)
		return rv_fail(RV_ERR_LIMIT, "perplexity: more than %lld positions", (long long)s->max);
	if (next < 0 || next >= n_vocab || (s->n > 0 && s->with_base != (base != NULL)))
		return rv_fail(RV_ERR_INVALID,
		               "perplexity: token %d of %lld, or a base for a part only", next,
		               (long long)n_vocab);
	RV_TRY(score(logits, n_vocab, next, "model", &norm, &nll));
	if (base != NULL)
		RV_TRY(add_against_base(s, logits, norm, nll, base, n_vocab, next));
	else
		rv_moments_add(&s->nll.a, nll);
	s->with_base = base != NULL;
	s->n_impossible += isinf(nll) != 0;
	s->n++;
	return RV_OK;
}

static rv_estimate exp_of(rv_estimate x) {
	double value = exp(x.value);
	return (rv_estimate){value, value * x.se};
}

/* The variance (a u_a)^2 + (b u_b)^2 - 2 a b cov, u being standard errors of the logarithms, arranged
 * so that equal series give exactly 0. */
static rv_estimate difference(rv_estimate log_a, rv_estimate log_b, rv_estimate log_ratio) {
	double a = exp(log_a.value), b = exp(log_b.value);
	double v = a * b * log_ratio.se * log_ratio.se +
	           (a - b) * (a * log_a.se * log_a.se - b * log_b.se * log_b.se);
	return (rv_estimate){a - b, v < 0 ? 0 : sqrt(v)};
}

static rv_estimate root(rv_estimate x) {
	double value = sqrt(x.value);
	return (rv_estimate){value, value > 0 ? x.se / (2 * value) : x.se};
}

static rv_spread spread_so_far(const rv_moments *m) {
	rv_spread spread = {.mean = rv_moments_mean(m)};
	for (int i = 0; i < RV_PERPLEXITY_N_POINTS; i++)
		spread.at[i] = NAN;
	return spread;
}

rv_perplexity rv_perplexity_running(const rv_perplexity_sums *s) {
	rv_perplexity p = {.n = s->n, .n_impossible = s->n_impossible};
	p.nll = rv_moments_mean(&s->nll.a);
	p.ppl = exp_of(p.nll);
	if (!s->with_base)
		return p;
	p.n_base_impossible = s->n_base_impossible;
	p.base_nll = rv_moments_mean(&s->nll.b);
	p.base_ppl = exp_of(p.base_nll);
	p.correlation = rv_co_moments_correlation(&s->nll);
	p.log_ratio = rv_co_moments_difference(&s->nll);
	p.ratio = exp_of(p.log_ratio);
	p.difference = difference(p.nll, p.base_nll, p.log_ratio);
	p.kl = spread_so_far(&s->kl);
	p.delta = spread_so_far(&s->delta);
	p.rms = root(rv_moments_mean(&s->delta_squares));
	p.same_top = rv_share(s->n_same_top, s->n);
	return p;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void fill_percentiles(rv_spread *spread, double *values, int64_t n) {
	static const double percents[] = {
#define PERCENT(percent, label, key) percent,
	        RV_PERPLEXITY_POINTS(PERCENT)
#undef PERCENT
	};
	qsort(values, (size_t)n, sizeof *values, ascending);
	for (int i = 0; i < RV_PERPLEXITY_N_POINTS; i++)
		spread->at[i] = rv_percentile(values, (size_t)n, percents[i] / 100);
}

rv_perplexity rv_perplexity_final(rv_perplexity_sums *s) {
	rv_perplexity p = rv_perplexity_running(s);
	if (s->with_base) {
		fill_percentiles(&p.kl, s->kls, s->n);
		fill_percentiles(&p.delta, s->deltas, s->n);
	}
	return p;
}

/* ---- models ---- */

static rv_status tokenizer_of(const rv_model *model, const rv_tokenizer **out) {
	*out = rv_model_tokenizer(model);
	return *out != NULL ? RV_OK
	                    : rv_fail(RV_ERR_NOT_FOUND, "%s: has no tokenizer", rv_model_path(model));
}

rv_status rv_perplexity_tokenize(const rv_model *model, const char *text, size_t len, int32_t **ids,
                                 size_t *n) {
	const rv_tokenizer *tok;
	RV_TRY(tokenizer_of(model, &tok));
	rv_encode_options how = rv_encode_defaults();
	how.add_eos = 0;
	return rv_tokenizer_encode(tok, text, len, &how, ids, n);
}

rv_status rv_perplexity_comparable(const rv_model *model, const rv_model *base) {
	const rv_tokenizer *tok;
	RV_TRY(tokenizer_of(model, &tok));
	RV_TRY(tokenizer_of(base, &tok));
	return rv_model_same_vocabulary(model, base);
}

rv_status rv_perplexity_check_length(size_t n, int64_t n_ctx) {
	if (n_ctx < 3)
		return rv_fail(RV_ERR_INVALID, "a context of %lld tokens scores nothing",
		               (long long)n_ctx);
	if (n / 2 < (size_t)n_ctx)
		return rv_fail(RV_ERR_INVALID,
		               "%zu tokens, but a context of %lld needs a text of at least %lld", n,
		               (long long)n_ctx, 2 * (long long)n_ctx);
	return RV_OK;
}

typedef struct measuring {
	rv_context *ctx, *base;
	const int32_t *tokens;
	int32_t bos;                   /* -1: chunks begin with their own token */
	int64_t n_ctx, n_batch, first; /* first: scored from there on */
	rv_row *rows;                  /* [n_batch] */
	rv_perplexity_positions *positions;
	rv_perplexity_sums *sums;
} measuring;

static rv_status eval(rv_context *ctx, const rv_row *rows, int64_t n) {
	rv_status status = rv_context_eval(ctx, rows, n);
	return status == RV_OK ? status : rv_fail_in(status, rv_model_path(rv_context_model(ctx)));
}

static void lay_out_buckets(rv_perplexity_positions *p, int64_t n_ctx) {
	*p = (rv_perplexity_positions){0};
	for (int64_t from = 0, to = 64; from < n_ctx - 1; from = to, to *= 2)
		p->buckets[p->n++] =
		        (rv_perplexity_bucket){.from = from, .to = to < n_ctx - 1 ? to : n_ctx - 1};
}

/* `before` tokens stand before the one that is scored, one of them the position's own. */
static rv_status add_position(rv_perplexity_positions *p, int64_t before, const float *logits,
                              int64_t n_vocab, int32_t next) {
	double norm, nll = 0;
	int b = 0;
	RV_TRY(score(logits, n_vocab, next, "model", &norm, &nll));
	while (before >= p->buckets[b].to)
		b++;
	rv_moments_add(&p->buckets[b].moments, nll);
	return RV_OK;
}

/* Evaluates and scores n tokens of a chunk from position `at`. The last token of a chunk predicts
 * nothing that is scored, so it is never evaluated. */
static rv_status measure_piece(measuring *m, const int32_t *chunk, int64_t at, int64_t n) {
	int64_t n_vocab = rv_model_hparams(rv_context_model(m->ctx))->n_vocab;
	for (int64_t i = 0; i < n; i++)
		m->rows[i] = (rv_row){.token = at + i == 0 && m->bos >= 0 ? m->bos : chunk[at + i],
		                      .position = (int32_t)(at + i),
		                      .parent = -1,
		                      .flags = at + i >= m->first ? RV_ROW_LOGITS : 0};
	RV_TRY(eval(m->ctx, m->rows, n));
	if (m->base != NULL)
		RV_TRY(eval(m->base, m->rows, n));
	for (int64_t i = 0; i < n; i++) {
		const float *logits = rv_context_logits(m->ctx, i);
		if (logits == NULL)
			continue;
		const float *base = m->base != NULL ? rv_context_logits(m->base, i) : NULL;
		RV_TRY(rv_perplexity_add(m->sums, logits, base, n_vocab, chunk[at + i + 1]));
		if (m->positions != NULL)
			RV_TRY(add_position(m->positions, at + i, logits, n_vocab, chunk[at + i + 1]));
	}
	return RV_OK;
}

static rv_status measure_chunk(measuring *m, int64_t index) {
	const int32_t *chunk = m->tokens + index * m->n_ctx;
	RV_TRY(rv_seq_truncate(m->ctx, 0, 0));
	if (m->base != NULL)
		RV_TRY(rv_seq_truncate(m->base, 0, 0));
	for (int64_t at = 0, end = m->n_ctx - 1; at < end; at += m->n_batch) {
		rv_status status =
		        measure_piece(m, chunk, at, end - at < m->n_batch ? end - at : m->n_batch);
		if (status == RV_ERR_NUMERIC) {
			char where[64];
			snprintf(where, sizeof where, "chunk %lld", (long long)index + 1);
			rv_fail_in(status, where);
		}
		RV_TRY(status);
	}
	return RV_OK;
}

static rv_status measure_chunks(measuring *m, int64_t n_chunks, const rv_perplexity_options *o) {
	int64_t scored = m->n_ctx - 1 - m->first;
	RV_TRY(RV_ALLOC(&m->rows, m->n_batch, "rows"));
	RV_TRY(rv_perplexity_sums_create(&m->sums, n_chunks * scored));
	for (int64_t i = 0; i < n_chunks; i++) {
		RV_TRY(measure_chunk(m, i));
		rv_perplexity so_far = rv_perplexity_running(m->sums);
		if (o->progress != NULL)
			o->progress(o->user, i + 1, n_chunks, &so_far);
	}
	return RV_OK;
}

rv_status rv_perplexity_measure(rv_context *ctx, rv_context *base, const int32_t *tokens, size_t n,
                                const rv_perplexity_options *options, rv_perplexity *out) {
	const rv_context_options *o = rv_context_get_options(ctx);
	const rv_tokenizer *tok = rv_model_tokenizer(rv_context_model(ctx));
	measuring m = {.ctx = ctx,
	               .base = base,
	               .tokens = tokens,
	               .bos = tok != NULL && rv_tokenizer_add_bos(tok) ? rv_tokenizer_bos(tok) : -1,
	               .n_ctx = o->n_ctx,
	               .n_batch = o->n_batch,
	               .first = options->positions == NULL ? o->n_ctx / 2 : 0,
	               .positions = options->positions};
	if (base != NULL) {
		const rv_context_options *b = rv_context_get_options(base);
		RV_TRY(rv_perplexity_comparable(rv_context_model(ctx), rv_context_model(base)));
		if (base == ctx || b->n_ctx != o->n_ctx)
			return rv_fail(RV_ERR_INVALID,
			               "perplexity: two contexts of one length are needed");
		m.n_batch = b->n_batch < m.n_batch ? b->n_batch : m.n_batch;
	}
	RV_TRY(rv_perplexity_check_length(n, m.n_ctx));
	int64_t n_chunks = (int64_t)(n / (size_t)m.n_ctx);
	if (options->max_chunks > 0 && options->max_chunks < n_chunks)
		n_chunks = options->max_chunks;
	if (m.positions != NULL)
		lay_out_buckets(m.positions, m.n_ctx);
	rv_status status = measure_chunks(&m, n_chunks, options);
	for (int b = 0; m.positions != NULL && b < m.positions->n; b++)
		m.positions->buckets[b].ppl = exp_of(rv_moments_mean(&m.positions->buckets[b].moments));
	if (status == RV_OK)
		*out = rv_perplexity_final(m.sums);
	rv_perplexity_sums_destroy(m.sums);
	rv_free(m.rows);
	return status;
}
