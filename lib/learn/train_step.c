/* Batches: cut into pieces, pieces into slices, slices to threads. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "learn/trainer_internal.h"

#include <math.h>

typedef struct batch {
	rv_trainer *t;
	const rv_train_batch *b;
	int64_t n_each, n_pieces; /* sequences of a piece; pieces */
	int with_gradient;
	rv_loss_sum *sums; /* [n_slices] */
} batch;

rv_status rv_train_check_batch(const rv_trainer *t, const rv_train_batch *b) {
	const int64_t n = t->options.n_ctx;
	if (b->n_seqs < 1)
		return rv_fail(RV_ERR_INVALID, "training: a batch of %lld sequences",
		               (long long)b->n_seqs);
	for (int64_t i = 0; i < b->n_seqs * (n + 1); i++)
		if (b->tokens[i] < 0 || b->tokens[i] >= t->layout.hp.n_vocab)
			return rv_fail(
			        RV_ERR_INVALID,
			        "training: sequence %lld, position %lld: token %d is not in [0, %lld)",
			        (long long)(i / (n + 1)), (long long)(i % (n + 1)), b->tokens[i],
			        (long long)t->layout.hp.n_vocab);
	for (int64_t i = 0; b->weights && i < b->n_seqs * n; i++)
		if (!(b->weights[i] >= 0 && b->weights[i] <= 1e6f))
			return rv_fail(
			        RV_ERR_INVALID,
			        "training: sequence %lld, position %lld: weight %g is not in [0, 1e6]",
			        (long long)(i / n), (long long)(i % n), (double)b->weights[i]);
	return RV_OK;
}

/* Tokens of n sequences up to the last prediction that has weight in any: what comes later changes
 * nothing. */
static int64_t tokens_that_count(const rv_trainer *t, const rv_train_batch *b, int64_t first,
                                 int64_t n) {
	const int64_t n_ctx = t->options.n_ctx;
	int64_t most = 1;
	if (!b->weights || b->token_loss)
		return n_ctx;
	for (int64_t s = first; s < first + n; s++) {
		int64_t last = n_ctx;
		while (last > most && b->weights[s * n_ctx + last - 1] == 0)
			last--;
		most = last;
	}
	return most;
}

static rv_piece piece_of(const rv_trainer *t, const rv_train_batch *b, int64_t first, int64_t n) {
	const rv_trainer_options *o = &t->options;
	return (rv_piece){
	        .tokens = b->tokens + first * (o->n_ctx + 1),
	        .stride = o->n_ctx + 1,
	        .n_seqs = n,
	        .n_tokens = tokens_that_count(t, b, first, n),
	        .weights = b->weights ? b->weights + first * o->n_ctx : NULL,
	        .segment_token = o->segments ? (int32_t)o->segment_token : -1,
	        .temperature = (float)o->distill_temperature,
	        .distill_weight = (float)o->distill_weight,
	        .token_loss = b->token_loss ? b->token_loss + first * o->n_ctx : NULL,
	};
}

rv_status rv_train_run_piece(rv_trainer *t, const rv_train_batch *b, int64_t first, int64_t n,
                             float *gradient, int thread, rv_loss_sum *sum) {
	rv_piece piece = piece_of(t, b, first, n);
	rv_pass *pass = &t->passes[thread];
	if (gradient && t->teacher) {
		piece.teacher = &t->teacher->passes[thread];
		rv_pass_forward(piece.teacher, &piece);
	}
	pass->gradient = gradient;
	rv_pass_forward(pass, &piece);
	rv_loss_sum s = rv_pass_loss(pass, &piece);
	if (!isfinite(s.cross_entropy) || !isfinite(s.kl)) {
		int64_t bad = rv_pass_find_bad(pass, &piece);
		return rv_fail(
		        RV_ERR_NUMERIC,
		        "training step %lld: the loss of sequences %lld to %lld is not finite; what is "
		        "computed with tensor '%s' is the first that is not",
		        (long long)t->step, (long long)first, (long long)(first + n - 1),
		        t->layout.params[bad].name);
	}
	sum->weight += s.weight;
	sum->cross_entropy += s.cross_entropy;
	sum->kl += s.kl;
	return RV_OK;
}

static rv_status run_piece(const batch *b, int64_t index, int64_t slice, int thread) {
	const int64_t first = index * b->n_each, left = b->b->n_seqs - first;
	return rv_train_run_piece(b->t, b->b, first, left < b->n_each ? left : b->n_each,
	                          b->with_gradient ? b->t->gradients[slice] : NULL, thread,
	                          &b->sums[slice]);
}

/* The pieces of some slices, in ascending order. */
static rv_status run_slices(void *arg, int64_t begin, int64_t end, int thread) {
	const batch *b = arg;
	rv_trainer *t = b->t;
	const int64_t n_slices = t->options.n_slices, done = b->with_gradient ? t->n_pieces : 0;
	for (int64_t slice = begin; slice < end; slice++) {
		int64_t first = (slice - done % n_slices + n_slices) % n_slices;
		for (int64_t i = first; i < b->n_pieces; i += n_slices) {
			if (t->cancelled && t->cancelled(t->cancel_user))
				return rv_fail(RV_ERR_CANCELLED, "training cancelled in step %lld",
				               (long long)t->step);
			RV_TRY(run_piece(b, i, slice, thread));
		}
	}
	return RV_OK;
}

static rv_status run_batch(rv_trainer *t, const rv_train_batch *data, int with_gradient,
                           rv_loss_sum *total, int64_t *n_pieces) {
	const int64_t each = rv_trainer_piece_seqs(t), n_slices = t->options.n_slices;
	batch b = {.t = t, .b = data, .n_each = each, .with_gradient = with_gradient};
	RV_TRY(rv_train_check_batch(t, data));
	b.n_pieces = (data->n_seqs + each - 1) / each;
	RV_TRY(RV_ALLOC(&b.sums, n_slices, "losses"));
	rv_status st = rv_threads_for(t->threads, n_slices, 1, run_slices, &b);
	for (int64_t i = 0; i < n_slices; i++) {
		total->weight += b.sums[i].weight;
		total->cross_entropy += b.sums[i].cross_entropy;
		total->kl += b.sums[i].kl;
	}
	rv_free(b.sums);
	*n_pieces = b.n_pieces;
	return st;
}

rv_status rv_trainer_accumulate(rv_trainer *t, const int32_t *tokens, const float *weights,
                                int64_t n_seqs) {
	const rv_train_batch b = {.tokens = tokens, .weights = weights, .n_seqs = n_seqs};
	int64_t n_pieces;
	if (t->begun_ns == 0)
		t->begun_ns = rv_now_ns();
	rv_status st = run_batch(t, &b, 1, &t->pending, &n_pieces);
	if (st != RV_OK) {
		if (st != RV_ERR_INVALID)
			rv_train_drop_pending(t);
		return st;
	}
	t->n_pieces += n_pieces;
	t->tokens_pending += n_seqs * t->options.n_ctx;
	return RV_OK;
}

rv_status rv_trainer_step(rv_trainer *t, const int32_t *tokens, const float *weights, int64_t n_seqs,
                          rv_train_record *record) {
	RV_TRY(rv_trainer_accumulate(t, tokens, weights, n_seqs));
	return rv_trainer_update(t, record);
}

rv_status rv_trainer_evaluate(rv_trainer *t, const int32_t *tokens, const float *weights,
                              int64_t n_seqs, double *cross_entropy, float *token_loss) {
	const rv_train_batch b = {
	        .tokens = tokens, .weights = weights, .n_seqs = n_seqs, .token_loss = token_loss};
	rv_loss_sum total = {0};
	int64_t n_pieces;
	RV_TRY(run_batch(t, &b, 0, &total, &n_pieces));
	if (!(total.weight > 0))
		return rv_fail(RV_ERR_INVALID, "training: no prediction has weight");
	if (cross_entropy)
		*cross_entropy = total.cross_entropy / total.weight;
	return RV_OK;
}

rv_status rv_trainer_logits(rv_trainer *t, const int32_t *tokens, int64_t n, float *logits) {
	if (n < 1 || n > t->options.n_ctx)
		return rv_fail(RV_ERR_LIMIT, "training: %lld tokens are not in [1, %lld]", (long long)n,
		               (long long)t->options.n_ctx);
	for (int64_t i = 0; i < n; i++)
		if (tokens[i] < 0 || tokens[i] >= t->layout.hp.n_vocab)
			return rv_fail(RV_ERR_INVALID,
			               "training: position %lld: token %d is not in [0, %lld)",
			               (long long)i, tokens[i], (long long)t->layout.hp.n_vocab);
	rv_piece piece = {.tokens = tokens,
	                  .stride = n,
	                  .n_seqs = 1,
	                  .n_tokens = n,
	                  .segment_token =
	                          t->options.segments ? (int32_t)t->options.segment_token : -1};
	rv_pass_forward(&t->passes[0], &piece);
	rv_pass_logits(&t->passes[0], logits, 0, n);
	return RV_OK;
}
