/* One AdamW update. Tensors are cut into chunks; each is summed over slices, measured and changed by
 * itself, so threads change no bit. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "learn/trainer_internal.h"

#include <math.h>
#include <string.h>

rv_status rv_train_chunks(rv_trainer *t) {
	const rv_train_layout *l = &t->layout;
	int64_t most = rv_trainer_n_active(t) / RV_UPDATE_CHUNK + l->n_params;
	RV_TRY(RV_ALLOC(&t->chunks, most, "update chunks"));
	for (int64_t i = 0; i < l->n_params; i++) {
		const rv_param *p = &l->params[i];
		if (!rv_train_layout_trained(l, p))
			continue;
		const int64_t begin = p->offset - l->train_begin, n = p->rows * p->cols;
		for (int64_t at = 0; at < n; at += RV_UPDATE_CHUNK)
			t->chunks[t->n_chunks++] = (rv_update_chunk){
			        .param = i,
			        .begin = begin + at,
			        .n = n - at < RV_UPDATE_CHUNK ? n - at : RV_UPDATE_CHUNK};
	}
	return RV_OK;
}

void rv_train_drop_pending(rv_trainer *t) {
	for (int64_t s = 0; s < t->options.n_slices; s++)
		memset(t->gradients[s], 0, (size_t)rv_trainer_n_active(t) * sizeof(float));
	t->n_pieces = t->tokens_pending = 0;
	t->pending = (rv_loss_sum){0};
	t->begun_ns = 0;
}

rv_status rv_trainer_gradient(const rv_trainer *t, int64_t i, float *out) {
	const rv_param *p = &t->layout.params[i];
	if (!rv_train_layout_trained(&t->layout, p) || !(t->pending.weight > 0))
		return rv_fail(RV_ERR_INVALID, "tensor '%s' is not trained, or nothing is accumulated",
		               p->name);
	for (int64_t j = 0; j < p->rows * p->cols; j++) {
		float sum = 0;
		for (int64_t s = 0; s < t->options.n_slices; s++)
			sum += t->gradients[s][p->offset - t->layout.train_begin + j];
		out[j] = sum * (float)(1 / t->pending.weight);
	}
	return RV_OK;
}

typedef struct update {
	rv_trainer *t;
	int64_t n_slices; /* that hold anything */
	float scale;
	rv_adamw_step step;
	float decay; /* of tensors that decay */
} update;

static rv_status reduce_chunks(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const update *u = arg;
	for (int64_t i = begin; i < end; i++) {
		rv_update_chunk *c = &u->t->chunks[i];
		c->squares = u->t->ops->reduce(u->t->gradients, u->n_slices, c->begin, c->n, u->scale);
	}
	return RV_OK;
}

/* The squares again, of a gradient that was added to. */
static rv_status measure_chunks(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const update *u = arg;
	for (int64_t i = begin; i < end; i++) {
		rv_update_chunk *c = &u->t->chunks[i];
		c->squares = u->t->ops->reduce(u->t->gradients, 1, c->begin, c->n, 1);
	}
	return RV_OK;
}

static rv_status change_chunks(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const update *u = arg;
	rv_trainer *t = u->t;
	for (int64_t i = begin; i < end; i++) {
		const rv_update_chunk *c = &t->chunks[i];
		rv_adamw_step step = u->step;
		step.decay = t->layout.params[c->param].decay ? u->decay : 0;
		t->ops->adamw(t->weights + t->layout.train_begin + c->begin, t->moment1 + c->begin,
		              t->moment2 + c->begin, t->gradients[0] + c->begin, c->n, &step);
		for (int64_t s = 0; s < u->n_slices; s++)
			memset(t->gradients[s] + c->begin, 0, (size_t)c->n * sizeof(float));
	}
	return RV_OK;
}

/* The global norm; a tensor whose gradient is not finite is named. */
static rv_status gradient_norm(rv_trainer *t, double *norm) {
	double total = 0;
	for (int64_t i = 0; i < t->n_chunks; i++) {
		if (!isfinite(t->chunks[i].squares))
			return rv_fail(RV_ERR_NUMERIC,
			               "training step %lld: the gradient of tensor '%s' is not finite",
			               (long long)t->step, t->layout.params[t->chunks[i].param].name);
		total += t->chunks[i].squares;
	}
	*norm = sqrt(total);
	return RV_OK;
}

static void plan_step(update *u, double norm, double rate) {
	const rv_trainer_options *o = &u->t->options;
	const double n = (double)(u->t->step + 1);
	u->decay = (float)(rate * o->weight_decay);
	u->step = (rv_adamw_step){
	        .rate = (float)rate,
	        .beta1 = (float)o->beta1,
	        .beta2 = (float)o->beta2,
	        .epsilon = (float)o->epsilon,
	        .scale = o->clip > 0 && norm > o->clip ? (float)(o->clip / norm) : 1,
	        .fix1 = (float)(1 / (1 - pow(o->beta1, n))),
	        .fix2 = (float)(1 / (1 - pow(o->beta2, n))),
	};
}

static rv_train_record describe(rv_trainer *t, double norm, double rate, double penalty) {
	const rv_trainer_options *o = &t->options;
	const double w = t->teacher ? o->distill_weight : 0, temperature = o->distill_temperature;
	rv_train_record r = {.step = t->step,
	                     .n_tokens = t->tokens_pending,
	                     .tokens_total = t->n_tokens + t->tokens_pending,
	                     .cross_entropy = t->pending.cross_entropy / t->pending.weight,
	                     .kl = t->pending.kl / t->pending.weight,
	                     .penalty = t->lambda * penalty,
	                     .gradient_norm = norm,
	                     .learning_rate = rate,
	                     .seconds = (double)(rv_now_ns() - t->begun_ns) * 1e-9,
	                     .eta_seconds = NAN};
	r.loss = (1 - w) * r.cross_entropy + w * temperature * temperature * r.kl + r.penalty;
	t->step_seconds = t->step_seconds > 0 ? 0.9 * t->step_seconds + 0.1 * r.seconds : r.seconds;
	if (o->schedule.n_steps > 0) {
		int64_t left = o->schedule.n_steps - t->step - 1;
		r.eta_seconds = left > 0 ? (double)left * t->step_seconds : 0;
	}
	return r;
}

static rv_status change(rv_trainer *t, double *norm, double rate, double *penalty) {
	const int64_t n_slices = t->options.n_slices;
	update u = {.t = t,
	            .n_slices = t->n_pieces < n_slices ? t->n_pieces : n_slices,
	            .scale = (float)(1 / t->pending.weight)};
	RV_TRY(rv_threads_for(t->threads, t->n_chunks, 4, reduce_chunks, &u));
	if (t->n_holds > 0) {
		RV_TRY(rv_train_hold(t, 1, penalty));
		RV_TRY(rv_threads_for(t->threads, t->n_chunks, 4, measure_chunks, &u));
	}
	RV_TRY(gradient_norm(t, norm));
	plan_step(&u, *norm, rate);
	return rv_threads_for(t->threads, t->n_chunks, 4, change_chunks, &u);
}

rv_status rv_trainer_update(rv_trainer *t, rv_train_record *record) {
	double norm = 0, penalty = 0, rate = rv_schedule_rate(&t->options.schedule, t->step);
	rv_status st = t->pending.weight > 0 ? change(t, &norm, rate, &penalty)
	                                     : rv_fail(RV_ERR_INVALID,
	                                               "training step %lld: no prediction "
	                                               "has weight",
	                                               (long long)t->step);
	if (st != RV_OK) {
		rv_train_drop_pending(t);
		return st;
	}
	rv_train_record r = describe(t, norm, rate, penalty);
	t->n_tokens += t->tokens_pending;
	t->step++;
	t->n_pieces = t->tokens_pending = 0;
	t->pending = (rv_loss_sum){0};
	t->begun_ns = 0;
	if (record)
		*record = r;
	if (t->record)
		t->record(t->record_user, &r);
	return RV_OK;
}
