/* Steps whose loss is one on pooled hidden states: forward for the means, then, with the derivative by
 * them, forward and back again (the two passes of gradient caching; Gao, Zhang, Han, Callan 2021). */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "learn/trainer_internal.h"

#include <math.h>

typedef struct pooled {
	rv_trainer *t;
	const rv_train_texts *texts;
	rv_pooling pooling;
	int64_t n_pieces;
	int with_gradient;
} pooled;

/* Rows of each text, as 1 / rows. */
static rv_status check_texts(const rv_trainer *t, const rv_train_texts *x, float *scale) {
	const int64_t n = t->options.n_ctx, n_rows = x->n_seqs * n;
	int64_t *home; /* sequence of a text, plus 1 */
	if (x->n_seqs < 1 || x->n_texts < 1)
		return rv_fail(RV_ERR_INVALID, "training: %lld sequences of %lld texts",
		               (long long)x->n_seqs, (long long)x->n_texts);
	RV_TRY(RV_ALLOC(&home, x->n_texts, "places of texts"));
	rv_status st = RV_OK;
	for (int64_t i = 0; st == RV_OK && i < n_rows; i++) {
		const int32_t token = x->tokens[i], text = x->text[i];
		const long long seq = (long long)(i / n), at = (long long)(i % n);
		if (token < 0 || token >= t->layout.hp.n_vocab)
			st = rv_fail(
			        RV_ERR_INVALID,
			        "training: sequence %lld, position %lld: token %d is not in [0, %lld)",
			        seq, at, token, (long long)t->layout.hp.n_vocab);
		else if (text >= x->n_texts)
			st = rv_fail(
			        RV_ERR_INVALID,
			        "training: sequence %lld, position %lld: text %d is not in [0, %lld)",
			        seq, at, text, (long long)x->n_texts);
		else if (text >= 0 && home[text] && home[text] != seq + 1)
			st = rv_fail(
			        RV_ERR_INVALID,
			        "training: sequence %lld, position %lld: text %d began in sequence "
			        "%lld",
			        seq, at, text, (long long)home[text] - 1);
		else if (text >= 0) {
			home[text] = seq + 1;
			scale[text]++;
		}
	}
	for (int64_t i = 0; st == RV_OK && i < x->n_texts; i++) {
		if (!(scale[i] > 0))
			st = rv_fail(RV_ERR_INVALID, "training: text %lld has no tokens", (long long)i);
		scale[i] = 1 / scale[i];
	}
	rv_free(home);
	return st;
}

static void run_piece(const pooled *b, int64_t index, int64_t slice, int thread) {
	rv_trainer *t = b->t;
	const int64_t n = t->options.n_ctx, each = rv_trainer_piece_seqs(t), first = index * each;
	const rv_piece piece = {
	        .tokens = b->texts->tokens + first * n,
	        .stride = n,
	        .n_seqs = b->texts->n_seqs - first < each ? b->texts->n_seqs - first : each,
	        .n_tokens = n,
	        .segment_token = t->options.segments ? (int32_t)t->options.segment_token : -1,
	};
	rv_pooling pooling = b->pooling;
	pooling.text += first * n;
	rv_pass *pass = &t->passes[thread];
	pass->gradient = b->with_gradient ? t->gradients[slice] : NULL;
	rv_pass_forward(pass, &piece);
	if (b->with_gradient)
		rv_pass_pool_back(pass, &piece, &pooling);
	else
		rv_pass_pool(pass, &piece, &pooling);
}

/* The pieces of some slices, in ascending order. */
static rv_status run_slices(void *arg, int64_t begin, int64_t end, int thread) {
	const pooled *b = arg;
	rv_trainer *t = b->t;
	const int64_t n_slices = t->options.n_slices, done = b->with_gradient ? t->n_pieces : 0;
	for (int64_t slice = begin; slice < end; slice++) {
		const int64_t first = (slice - done % n_slices + n_slices) % n_slices;
		for (int64_t i = first; i < b->n_pieces; i += n_slices) {
			if (t->cancelled && t->cancelled(t->cancel_user))
				return rv_fail(RV_ERR_CANCELLED, "training cancelled in step %lld",
				               (long long)t->step);
			run_piece(b, i, slice, thread);
		}
	}
	return RV_OK;
}

static rv_status run(pooled *b) {
	const int64_t each = rv_trainer_piece_seqs(b->t);
	float *scale;
	b->n_pieces = (b->texts->n_seqs + each - 1) / each;
	RV_TRY(RV_ALLOC(&scale, b->texts->n_texts > 0 ? b->texts->n_texts : 1, "lengths of texts"));
	b->pooling.text = b->texts->text;
	b->pooling.scale = scale;
	rv_status st = check_texts(b->t, b->texts, scale);
	if (st == RV_OK)
		st = rv_threads_for(b->t->threads, b->t->options.n_slices, 1, run_slices, b);
	rv_free(scale);
	return st;
}

rv_status rv_trainer_pool(rv_trainer *t, const rv_train_texts *texts, float *mean) {
	const int64_t n = texts->n_texts * t->layout.hp.n_embd;
	pooled b = {.t = t, .texts = texts, .pooling = {.mean = mean}};
	for (int64_t i = 0; i < n; i++)
		mean[i] = 0;
	RV_TRY(run(&b));
	for (int64_t i = 0; i < n; i++)
		if (!isfinite(mean[i]))
			return rv_fail(RV_ERR_NUMERIC,
			               "training step %lld: the mean hidden state of text %lld is not "
			               "finite",
			               (long long)t->step, (long long)(i / t->layout.hp.n_embd));
	return RV_OK;
}

rv_status rv_trainer_accumulate_pooled(rv_trainer *t, const rv_train_texts *texts,
                                       const float *gradient, double loss) {
	pooled b = {.t = t, .texts = texts, .pooling = {.gradient = gradient}, .with_gradient = 1};
	if (!isfinite(loss))
		return rv_fail(RV_ERR_NUMERIC,
		               "training step %lld: the loss of %lld texts is not finite",
		               (long long)t->step, (long long)texts->n_texts);
	if (t->begun_ns == 0)
		t->begun_ns = rv_now_ns();
	rv_status st = run(&b);
	if (st != RV_OK) {
		if (st != RV_ERR_INVALID)
			rv_train_drop_pending(t);
		return st;
	}
	t->n_pieces += b.n_pieces;
	t->tokens_pending += texts->n_seqs * t->options.n_ctx;
	t->pending.weight += 1;
	t->pending.cross_entropy += loss;
	return RV_OK;
}
