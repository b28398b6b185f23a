#include "learn/adapter_merge.h"

#include "base/mem.h"
#include "learn/truncate.h"
#include "model/adapter_write.h"

#include <math.h>
#include <string.h>

const char *const rv_merge_names[RV_MERGE_COUNT + 1] = {"linear", "task",      "slerp", "ties",
                                                        "dare",   "dare-ties", NULL};

/* Where two changes count as parallel: an arc and its chord then differ by less than rounding. */
#define PARALLEL 0.9995

typedef struct matrix {
	rv_role role;
	int64_t layer, rows, cols, rank;
	const rv_adapter_matrix *from[RV_MERGE_MAX]; /* NULL: not adapted */
	float *a, *b;
	double norm2, lost2;
	int64_t conflicts, kept_twice;
} matrix;

typedef struct merging {
	const rv_merge_options *o;
	double weights[RV_MERGE_MAX];
	int n;
	rv_adapter_matrices in[RV_MERGE_MAX];
	matrix *matrices;
	int n_matrices;
} merging;

rv_merge_options rv_merge_defaults(void) {
	return (rv_merge_options){.scale = 1};
}

static int is_dense(rv_merge method) {
	return method >= RV_MERGE_TIES;
}

static rv_status check(merging *m, rv_adapter *const *adapters, const rv_model *model) {
	const rv_merge_options *o = m->o;
	const int free_sign = o->method == RV_MERGE_TASK || o->method == RV_MERGE_DARE;
	double sum = 0;
	if (o->method < 0 || o->method >= RV_MERGE_COUNT)
		return rv_fail(RV_ERR_INVALID, "merge: method %d", (int)o->method);
	const char *name = rv_merge_names[o->method];
	if (m->n < 2 || m->n > (o->method == RV_MERGE_SLERP ? 2 : RV_MERGE_MAX))
		return rv_fail(RV_ERR_INVALID, "merge: %s takes 2 to %d adapters, not %d", name,
		               o->method == RV_MERGE_SLERP ? 2 : RV_MERGE_MAX, m->n);
	if (!isfinite(o->scale) || !(o->density >= 0 && o->density <= 1) || o->rank < 0 ||
	    o->rank > RV_ADAPTER_MAX_RANK)
		return rv_fail(RV_ERR_INVALID, "merge: scale %g, density %g or rank %lld out of bounds",
		               o->scale, o->density, (long long)o->rank);
	for (int i = 0; i < m->n; i++) {
		const double w = m->weights[i] = o->weights ? o->weights[i] : 1;
		if (!isfinite(w) || (w < 0 && !free_sign))
			return rv_fail(RV_ERR_INVALID, "merge: weight %g of adapter %d, %s", w, i + 1,
			               w < 0 ? "which this method takes from 0 on" : "not finite");
		if (!rv_adapter_fits(adapters[i], model))
			return rv_fail(RV_ERR_MISMATCH, "%s: made for models of another shape than %s",
			               rv_adapter_path(adapters[i]), rv_model_path(model));
		sum += fabs(w);
	}
	return isfinite(sum) && sum > 0
	               ? RV_OK
	               : rv_fail(RV_ERR_INVALID, "merge: the weights add up to %g", sum);
}

/* ---- which matrices ---- */

static matrix *matrix_of(merging *m, const rv_adapter_matrix *part) {
	for (int i = 0; i < m->n_matrices; i++)
		if (m->matrices[i].role == part->role && m->matrices[i].layer == part->layer)
			return &m->matrices[i];
	return NULL;
}

static void list_matrices(merging *m, rv_adapter *const *adapters) {
	for (int i = 0; i < m->n; i++)
		for (int j = 0; j < m->in[i].n; j++) {
			const rv_adapter_matrix *part = &m->in[i].parts[j];
			matrix *x = matrix_of(m, part);
			if (!x) {
				const rv_adapter_part *p =
				        rv_adapter_find(adapters[i], part->role, part->layer);
				x = &m->matrices[m->n_matrices++];
				*x = (matrix){.role = part->role,
				              .layer = part->layer,
				              .rows = p->b.rows,
				              .cols = p->a.cols};
			}
			x->from[i] = part;
			x->rank += part->rank;
		}
}

/* ---- in the space of the factors ---- */

static double scale_of(const matrix *x, int i) {
	return x->from[i] ? (double)x->from[i]->scale : 0;
}

/* <D_i, D_j> = scale_i scale_j sum over ranks of (B_i^T B_j) (A_i A_j^T). */
static double inner(const matrix *x, int i, int j) {
	const rv_adapter_matrix *p = x->from[i], *q = x->from[j];
	double sum = 0;
	if (!p || !q)
		return 0;
	for (int64_t r = 0; r < p->rank; r++)
		for (int64_t s = 0; s < q->rank; s++) {
			double bb = 0, aa = 0;
			for (int64_t y = 0; y < x->rows; y++)
				bb += (double)p->b[y * p->rank + r] * (double)q->b[y * q->rank + s];
			for (int64_t c = 0; c < x->cols; c++)
				aa += (double)p->a[r * x->cols + c] * (double)q->a[s * x->cols + c];
			sum += aa * bb;
		}
	return sum * (double)p->scale * (double)q->scale;
}

/* What D_0 and D_1 are multiplied by. */
static void arc(const matrix *x, double t, double coefficients[2]) {
	const double norms = sqrt(inner(x, 0, 0) * inner(x, 1, 1));
	const double cosine = norms > 0 ? inner(x, 0, 1) / norms : 1;
	coefficients[0] = 1 - t;
	coefficients[1] = t;
	if (fabs(cosine) > PARALLEL)
		return;
	const double angle = acos(cosine);
	coefficients[0] = sin((1 - t) * angle) / sin(angle);
	coefficients[1] = sin(t * angle) / sin(angle);
}

static void coefficients_of(const merging *m, const matrix *x, double *c) {
	double sum = 0;
	for (int i = 0; i < m->n; i++)
		sum += m->weights[i];
	if (m->o->method == RV_MERGE_SLERP)
		arc(x, m->weights[1] / sum, c);
	else
		for (int i = 0; i < m->n; i++)
			c[i] = m->o->method == RV_MERGE_LINEAR ? m->weights[i] / sum
			                                       : m->o->scale * m->weights[i];
}

/* sum c_i D_i as the factors one after the other. */
static void concatenate(const merging *m, matrix *x, const double *c) {
	int64_t at = 0;
	for (int i = 0; i < m->n; i++) {
		const rv_adapter_matrix *p = x->from[i];
		const double f = c[i] * scale_of(x, i);
		if (!p)
			continue;
		memcpy(x->a + at * x->cols, p->a, (size_t)(p->rank * x->cols) * sizeof *x->a);
		for (int64_t y = 0; y < x->rows; y++)
			for (int64_t r = 0; r < p->rank; r++)
				x->b[y * x->rank + at + r] = (float)(f * (double)p->b[y * p->rank + r]);
		at += p->rank;
	}
	for (int i = 0; i < m->n; i++)
		for (int j = 0; j < m->n; j++)
			x->norm2 += c[i] * c[j] * inner(x, i, j);
}

/* ---- as full matrices ---- */

/* c scale_i B_i A_i, added to out. */
static void expand(const matrix *x, int i, double c, float *out) {
	const rv_adapter_matrix *p = x->from[i];
	if (!p)
		return;
	for (int64_t y = 0; y < x->rows; y++)
		for (int64_t r = 0; r < p->rank; r++) {
			const float f = (float)(c * (double)p->scale * (double)p->b[y * p->rank + r]);
			const float *a = p->a + r * x->cols;
			for (int64_t k = 0; k < x->cols; k++)
				out[y * x->cols + k] += f * a[k];
		}
}

static rv_status merge_dense(const merging *m, matrix *x, uint64_t stream) {
	const int64_t size = x->rows * x->cols;
	double c[RV_MERGE_MAX], error;
	float *space, *changes[RV_MERGE_MAX], *merged;
	RV_TRY(rv_alloc((void **)&space, (size_t)size, (size_t)(m->n + 1) * sizeof *space, "changes"));
	merged = space + m->n * size;
	for (int i = 0; i < m->n; i++)
		changes[i] = space + i * size;
	if (is_dense(m->o->method)) {
		for (int i = 0; i < m->n; i++)
			expand(x, i, 1, changes[i]);
		rv_merge_dense(m->o, changes, m->weights, m->n, size, stream, merged, &x->conflicts,
		               &x->kept_twice);
	} else {
		coefficients_of(m, x, c);
		for (int i = 0; i < m->n; i++)
			expand(x, i, c[i], merged);
	}
	for (int64_t i = 0; i < size; i++)
		x->norm2 += (double)merged[i] * (double)merged[i];
	rv_status st =
	        isfinite(x->norm2)
	                ? rv_truncate(merged, x->rows, x->cols, x->rank, stream, x->b, x->a, &error)
	                : rv_fail(RV_ERR_NUMERIC, "merge: role %d of layer %lld is not finite",
	                          (int)x->role, (long long)x->layer);
	if (st == RV_OK)
		x->lost2 = error * error;
	rv_free(space);
	return st;
}

/* ---- all ---- */

static rv_status merge_matrix(const merging *m, matrix *x) {
	const int64_t most = x->rows < x->cols ? x->rows : x->cols, sum = x->rank;
	double c[RV_MERGE_MAX];
	if (m->o->rank && (m->o->rank < x->rank || is_dense(m->o->method)))
		x->rank = m->o->rank;
	if (x->rank > most)
		x->rank = most;
	RV_TRY(RV_ALLOC(&x->a, x->rank * x->cols, "merged factors"));
	RV_TRY(RV_ALLOC(&x->b, x->rows * x->rank, "merged factors"));
	if (is_dense(m->o->method) || x->rank < sum)
		return merge_dense(m, x, (uint64_t)(x->layer + 1) * RV_ROLE_COUNT + x->role);
	coefficients_of(m, x, c);
	concatenate(m, x, c);
	return RV_OK;
}

static rv_status merge_some(void *arg, int64_t begin, int64_t end, int thread) {
	merging *m = arg;
	(void)thread;
	for (int64_t i = begin; i < end; i++)
		RV_TRY(merge_matrix(m, &m->matrices[i]));
	return RV_OK;
}

static rv_status merge_all(merging *m, rv_adapter *const *adapters, const rv_model *model) {
	int64_t most = 0;
	for (int i = 0; i < m->n; i++) {
		RV_TRY(rv_adapter_matrices_init(&m->in[i], adapters[i], model));
		most += m->in[i].n;
	}
	RV_TRY(RV_ALLOC(&m->matrices, most, "merged matrices"));
	list_matrices(m, adapters);
	return m->o->threads ? rv_threads_for(m->o->threads, m->n_matrices, 1, merge_some, m)
	                     : merge_some(m, 0, m->n_matrices, 0);
}

static rv_status make(rv_adapter **out, const merging *m, const rv_model *model, const char *name) {
	rv_adapter_matrix *parts;
	RV_TRY(RV_ALLOC(&parts, m->n_matrices, "merged matrices"));
	for (int i = 0; i < m->n_matrices; i++) {
		const matrix *x = &m->matrices[i];
		parts[i] = (rv_adapter_matrix){.role = x->role,
		                               .layer = x->layer,
		                               .rank = x->rank,
		                               .a = x->a,
		                               .b = x->b,
		                               .scale = 1};
	}
	rv_status st = rv_adapter_create(out, model, name, parts, m->n_matrices);
	rv_free(parts);
	return st;
}

static void fill_report(const merging *m, rv_merge_report *r) {
	int64_t conflicts = 0, kept_twice = 0;
	*r = (rv_merge_report){.n_matrices = m->n_matrices};
	for (int i = 0; i < m->n_matrices; i++) {
		const matrix *x = &m->matrices[i];
		r->rank = x->rank > r->rank ? x->rank : r->rank;
		r->norm += x->norm2;
		r->lost += x->lost2;
		conflicts += x->conflicts;
		kept_twice += x->kept_twice;
	}
	r->norm = sqrt(fmax(r->norm, 0));
	r->lost = sqrt(r->lost);
	r->conflicts = kept_twice ? (double)conflicts / (double)kept_twice : NAN;
}

rv_status rv_adapter_merge(rv_adapter **out, const rv_model *model, const char *name,
                           rv_adapter *const *adapters, int n, const rv_merge_options *options,
                           rv_merge_report *report) {
	merging m = {.o = options, .n = n};
	*out = NULL;
	RV_TRY(check(&m, adapters, model));
	rv_status st = merge_all(&m, adapters, model);
	if (st == RV_OK)
		st = make(out, &m, model, name);
	if (st == RV_OK && report)
		fill_report(&m, report);
	for (int i = 0; i < m.n_matrices; i++) {
		rv_free(m.matrices[i].a);
		rv_free(m.matrices[i].b);
	}
	rv_free(m.matrices);
	for (int i = 0; i < n; i++)
		rv_adapter_matrices_deinit(&m.in[i]);
	return st;
}
