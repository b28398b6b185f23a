#include "learn/gradient_cosine.h"

#include "base/mem.h"
#include "learn/trainer_internal.h"

#include <math.h>

/* ---- the gradient of a trainer ---- */

static rv_status fill(rv_gradient_set *set, const rv_trainer *t) {
	const rv_train_layout *l = &t->layout;
	const int64_t first = rv_train_first_adapter(l), n = l->n_params - first;
	RV_TRY(RV_ALLOC(&set->matrices, n / 2, "gradients"));
	RV_TRY(RV_ALLOC(&set->memory, rv_trainer_n_active(t), "gradients"));
	for (int64_t i = 0; i < n; i++) {
		const rv_param *p = &l->params[first + i];
		float *to = set->memory + p->offset - l->train_begin;
		rv_lora_gradient *g = &set->matrices[i / 2];
		RV_TRY(rv_trainer_gradient(t, first + i, to));
		g->role = p->role;
		g->layer = p->layer;
		if (p->part == RV_PART_LORA_A) {
			g->rank = p->rows;
			g->n_in = p->cols;
			g->a = to;
		} else {
			g->n_out = p->rows;
			g->b = to;
		}
	}
	set->n = (int)(n / 2);
	return RV_OK;
}

rv_status rv_trainer_lora_gradient(const rv_trainer *t, rv_gradient_set *out) {
	*out = (rv_gradient_set){0};
	if (t->layout.lora_rank == 0)
		return rv_fail(RV_ERR_INVALID,
		               "training: all weights are trained, there is no adapter");
	const rv_status st = fill(out, t);
	if (st != RV_OK)
		rv_gradient_set_deinit(out);
	return st;
}

void rv_gradient_set_deinit(rv_gradient_set *set) {
	rv_free(set->matrices);
	rv_free(set->memory);
	*set = (rv_gradient_set){0};
}

/* ---- the cosine ---- */

typedef struct sums {
	double xy, xx, yy;
} sums;

static rv_status add(sums *s, const float *x, const float *y, int64_t n, const rv_lora_gradient *g) {
	sums part = {0};
	for (int64_t i = 0; i < n; i++) {
		part.xy += (double)x[i] * (double)y[i];
		part.xx += (double)x[i] * (double)x[i];
		part.yy += (double)y[i] * (double)y[i];
	}
	if (!isfinite(part.xx + part.yy))
		return rv_fail(RV_ERR_NUMERIC,
		               "gradient of role %d, layer %lld: an element is not finite",
		               (int)g->role, (long long)g->layer);
	s->xy += part.xy;
	s->xx += part.xx;
	s->yy += part.yy;
	return RV_OK;
}

static double cosine(const sums *s) {
	return s->xx > 0 && s->yy > 0 ? s->xy / (sqrt(s->xx) * sqrt(s->yy)) : NAN;
}

static const rv_lora_gradient *find(const rv_lora_gradient *set, int n, const rv_lora_gradient *like) {
	for (int i = 0; i < n; i++)
		if (set[i].role == like->role && set[i].layer == like->layer)
			return &set[i];
	return NULL;
}

rv_status rv_gradient_cosine(rv_cosine *out, const rv_lora_gradient *x, int n_x,
                             const rv_lora_gradient *y, int n_y) {
	sums a = {0}, b = {0};
	rv_cosine c = {0};
	for (int i = 0; i < n_x; i++) {
		const rv_lora_gradient *p = &x[i], *q = find(y, n_y, p);
		if (!q)
			continue;
		if (p->rank != q->rank || p->n_in != q->n_in || p->n_out != q->n_out)
			return rv_fail(RV_ERR_MISMATCH,
			               "gradients of role %d, layer %lld have different shapes",
			               (int)p->role, (long long)p->layer);
		RV_TRY(add(&a, p->a, q->a, p->rank * p->n_in, p));
		RV_TRY(add(&b, p->b, q->b, p->n_out * p->rank, p));
		c.n_matrices++;
	}
	if (c.n_matrices == 0)
		return rv_fail(RV_ERR_NOT_FOUND, "two gradients have no matrix in common");
	const sums all = {a.xy + b.xy, a.xx + b.xx, a.yy + b.yy};
	c.all = cosine(&all);
	c.a = cosine(&a);
	c.b = cosine(&b);
	c.norm_x = sqrt(all.xx);
	c.norm_y = sqrt(all.yy);
	c.only_x = n_x - c.n_matrices;
	c.only_y = n_y - c.n_matrices;
	*out = c;
	return RV_OK;
}
