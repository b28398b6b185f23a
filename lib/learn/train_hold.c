/* What a trainer does for elastic weight consolidation: squared gradients of sequences, and penalties.
 * Each tensor is one job, each sequence has its place in the sum: threads change no bit. */
#include "base/mem.h"
#include "learn/ewc_internal.h"
#include "learn/trainer_internal.h"

#include <math.h>
#include <string.h>

/* ---- penalties ---- */

void rv_train_free_holds(rv_trainer *t) {
	for (int64_t i = 0; t->hold_scratch && i < t->n_threads; i++)
		rv_free(t->hold_scratch[i]);
	rv_free(t->hold_scratch);
	rv_free(t->holds);
	t->hold_scratch = NULL;
	t->holds = NULL;
	t->n_holds = 0;
	t->lambda = 0;
}

/* Parameter i held by itself where the memory knows it, else as a part of its product; the B of a
 * product is held by its A. *scratch: elements a product needs. */
static rv_status add_hold(rv_trainer *t, const rv_ewc *ewc, int64_t i, int64_t *scratch) {
	const rv_train_layout *l = &t->layout;
	const rv_param *p = &l->params[i];
	const rv_ewc_row *row = rv_ewc_find(ewc, p->name, p->rows, p->cols);
	rv_hold *h = &t->holds[t->n_holds];
	*h = (rv_hold){.param = i};
	if (!row && p->part != RV_PART_WEIGHT) {
		const rv_param *w =
		        &l->params[rv_train_layout_find(l, p->role, p->layer, RV_PART_WEIGHT)];
		row = rv_ewc_find(ewc, w->name, w->rows, w->cols);
		if (row && p->part == RV_PART_LORA_B)
			return RV_OK;
		h->product = 1;
		*scratch = w->rows * w->cols > *scratch ? w->rows * w->cols : *scratch;
	}
	if (!row)
		return rv_fail(RV_ERR_MISMATCH, "elastic memory: nothing is known of '%s' [%lld, %lld]",
		               p->name, (long long)p->rows, (long long)p->cols);
	h->anchor = ewc->anchor + row->offset;
	h->fisher = ewc->fisher + row->offset;
	t->n_holds++;
	return RV_OK;
}

static rv_status add_holds(rv_trainer *t, const rv_ewc *ewc) {
	int64_t scratch = 0;
	RV_TRY(RV_ALLOC(&t->holds, t->layout.n_params, "penalties"));
	for (int64_t i = 0; i < t->layout.n_params; i++)
		if (rv_train_layout_trained(&t->layout, &t->layout.params[i]))
			RV_TRY(add_hold(t, ewc, i, &scratch));
	if (scratch == 0)
		return RV_OK;
	RV_TRY(RV_ALLOC(&t->hold_scratch, t->n_threads, "penalties"));
	for (int64_t i = 0; i < t->n_threads; i++)
		RV_TRY(RV_ALLOC(&t->hold_scratch[i], scratch, "penalties"));
	return RV_OK;
}

rv_status rv_trainer_set_ewc(rv_trainer *t, const rv_ewc *ewc, double lambda) {
	if (!(lambda >= 0 && lambda <= 1e9))
		return rv_fail(RV_ERR_INVALID, "elastic memory: lambda %g is not in [0, 1e9]", lambda);
	rv_train_free_holds(t);
	if (!ewc || lambda == 0)
		return RV_OK;
	rv_status st = add_holds(t, ewc);
	if (st != RV_OK)
		rv_train_free_holds(t);
	else
		t->lambda = lambda;
	return st;
}

typedef struct holding {
	rv_trainer *t;
	int with_gradient;
} holding;

static rv_status hold_some(void *arg, int64_t begin, int64_t end, int thread) {
	const holding *h = arg;
	rv_trainer *t = h->t;
	for (int64_t i = begin; i < end; i++)
		rv_pass_hold(&t->passes[thread], &t->holds[i],
		             h->with_gradient ? t->gradients[0] : NULL, (float)t->lambda,
		             t->hold_scratch ? t->hold_scratch[thread] : NULL);
	return RV_OK;
}

rv_status rv_train_hold(rv_trainer *t, int with_gradient, double *penalty) {
	holding h = {.t = t, .with_gradient = with_gradient};
	*penalty = 0;
	RV_TRY(rv_threads_for(t->threads, t->n_holds, 1, hold_some, &h));
	for (int64_t i = 0; i < t->n_holds; i++)
		*penalty += t->holds[i].penalty;
	return RV_OK;
}

rv_status rv_trainer_penalty(rv_trainer *t, double *penalty) {
	return rv_train_hold(t, 0, penalty);
}

/* ---- squared gradients ---- */

typedef struct squares {
	rv_trainer *t;
	const rv_train_batch *b;
	int64_t first, n;  /* sequences of this round, one a slice */
	rv_loss_sum *sums; /* [n_slices] */
	float *sum;
} squares;

static rv_status run_sequences(void *arg, int64_t begin, int64_t end, int thread) {
	const squares *q = arg;
	rv_trainer *t = q->t;
	for (int64_t i = begin; i < end; i++) {
		if (t->cancelled && t->cancelled(t->cancel_user))
			return rv_fail(RV_ERR_CANCELLED, "training cancelled in step %lld",
			               (long long)t->step);
		RV_TRY(rv_train_run_piece(t, q->b, q->first + i, 1, t->gradients[i], thread,
		                          &q->sums[i]));
	}
	return RV_OK;
}

static rv_status add_chunks(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const squares *q = arg;
	rv_trainer *t = q->t;
	for (int64_t i = begin; i < end; i++) {
		const rv_update_chunk *c = &t->chunks[i];
		for (int64_t s = 0; s < q->n; s++) {
			t->ops->add_squares(q->sum + c->begin, t->gradients[s] + c->begin, c->n);
			memset(t->gradients[s] + c->begin, 0, (size_t)c->n * sizeof(float));
		}
	}
	return RV_OK;
}

static rv_status add_all(squares *q, double *weight) {
	rv_trainer *t = q->t;
	const int64_t most = t->options.n_slices, n_seqs = q->b->n_seqs;
	for (; q->first < n_seqs; q->first += q->n) {
		q->n = n_seqs - q->first < most ? n_seqs - q->first : most;
		RV_TRY(rv_threads_for(t->threads, q->n, 1, run_sequences, q));
		RV_TRY(rv_threads_for(t->threads, t->n_chunks, 4, add_chunks, q));
	}
	for (int64_t s = 0; s < most; s++)
		*weight += q->sums[s].weight;
	return RV_OK;
}

rv_status rv_train_squares(rv_trainer *t, const rv_train_batch *b, float *sum, double *weight) {
	squares q = {.t = t, .b = b, .sum = sum};
	if (t->n_pieces > 0)
		return rv_fail(RV_ERR_INVALID, "training: a gradient is accumulated; squares are taken "
		                               "between updates");
	RV_TRY(rv_train_check_batch(t, b));
	RV_TRY(RV_ALLOC(&q.sums, t->options.n_slices, "losses"));
	*weight = 0;
	rv_status st = add_all(&q, weight);
	rv_free(q.sums);
	if (st != RV_OK)
		rv_train_drop_pending(t);
	return st;
}
