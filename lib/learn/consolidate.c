#include "learn/consolidate.h"

#include "base/mem.h"
#include "learn/low_rank.h"

#include <math.h>
#include <string.h>

const char *const rv_consolidation_names[] = {"svd", "ema", NULL};

/* ---- one matrix: sum_i w_i s_i B_i A_i as left right^T ---- */

typedef struct stack {
	int64_t m, n, r;                /* rows and columns of the matrix, columns of the factors */
	int64_t most;                   /* largest rank of a part */
	double *left, *right;           /* [m, r], [n, r] */
	double *copy_left, *copy_right; /* [m, r + rank], [n, r + rank]: for what overwrites them */
	double scale;                   /* of the first part */
	double *memory;
} stack;

typedef struct job {
	rv_consolidation method;
	rv_adapter *const *adapters;
	const double *weights;
	int n;
	int64_t rank;
	const rv_arch *arch;
	const rv_hparams *hp;
	rv_adapter_matrix *parts; /* the result */
	int n_parts;
	float *factors, *next; /* its factors, and where the next ones go */
	int64_t n_elements;    /* of the factors, at most */
	int64_t widest;        /* row of a factor */
	float *row;            /* [widest] */
	double error2, norm2, bound2;
	rv_consolidate_report report;
} job;

static const rv_adapter_part *part_of(const job *j, int i, rv_role role, int64_t layer) {
	return rv_adapter_find(j->adapters[i], role, layer);
}

static void decode_row(const rv_weight *w, int64_t row, float *to) {
	rv_kernels_for(RV_LEVEL_REF)
	        ->type[w->type]
	        .dequantize(to, (const char *)w->data + (size_t)row * w->row_bytes, w->cols);
}

/* Columns [at, at + rank) of the stack are part i: w s B, and A by columns. */
static void take_part(const job *j, stack *s, const rv_adapter_part *p, double weight, int64_t at) {
	const int64_t rank = p->a.rows;
	for (int64_t i = 0; i < s->m; i++) {
		decode_row(&p->b, i, j->row);
		for (int64_t k = 0; k < rank; k++)
			s->left[i * s->r + at + k] = weight * (double)p->scale * (double)j->row[k];
	}
	for (int64_t k = 0; k < rank; k++) {
		decode_row(&p->a, k, j->row);
		for (int64_t i = 0; i < s->n; i++)
			s->right[i * s->r + at + k] = (double)j->row[i];
	}
}

/* r is 0 when no adapter has the matrix. */
static void measure(const job *j, stack *s, rv_role role, int64_t layer) {
	*s = (stack){0};
	for (int i = 0; i < j->n; i++) {
		const rv_adapter_part *p = part_of(j, i, role, layer);
		if (!p)
			continue;
		if (s->r == 0)
			s->scale = (double)p->scale;
		s->m = p->b.rows;
		s->n = p->a.cols;
		s->r += p->a.rows;
		s->most = p->a.rows > s->most ? p->a.rows : s->most;
	}
}

static rv_status fill_stack(const job *j, stack *s, rv_role role, int64_t layer) {
	const int64_t wide = s->r + j->rank;
	int64_t at = 0;
	RV_TRY(RV_ALLOC(&s->memory, (s->m + s->n) * (s->r + wide), "consolidation"));
	s->left = s->memory;
	s->right = s->left + s->m * s->r;
	s->copy_left = s->right + s->n * s->r;
	s->copy_right = s->copy_left + s->m * wide;
	for (int i = 0; i < j->n; i++) {
		const rv_adapter_part *p = part_of(j, i, role, layer);
		if (!p)
			continue;
		take_part(j, s, p, j->weights[i], at);
		at += p->a.rows;
	}
	return RV_OK;
}

/* ---- results ---- */

/* Room for a result of this rank; its factors are zero. */
static rv_adapter_matrix *add_result(job *j, const stack *s, rv_role role, int64_t layer, int64_t rank,
                                     double scale) {
	rv_adapter_matrix *out = &j->parts[j->n_parts++];
	*out = (rv_adapter_matrix){.role = role,
	                           .layer = layer,
	                           .rank = rank,
	                           .a = j->next,
	                           .b = j->next + rank * s->n,
	                           .scale = (float)scale};
	j->next += rank * (s->n + s->m);
	j->report.rank = rank > j->report.rank ? rank : j->report.rank;
	return out;
}

/* |sum - scale B A| and |sum|, of the result as it is, rounded. */
static rv_status judge(job *j, stack *s, const rv_adapter_matrix *out, double bound) {
	const int64_t rank = out->rank, wide = s->r + rank;
	double norm, error;
	for (int64_t i = 0; i < s->m; i++) {
		double *to = s->copy_left + i * wide;
		memcpy(to, s->left + i * s->r, (size_t)s->r * sizeof *to);
		for (int64_t k = 0; k < rank; k++)
			to[s->r + k] = -(double)out->scale * (double)out->b[i * rank + k];
	}
	for (int64_t i = 0; i < s->n; i++) {
		double *to = s->copy_right + i * wide;
		memcpy(to, s->right + i * s->r, (size_t)s->r * sizeof *to);
		for (int64_t k = 0; k < rank; k++)
			to[s->r + k] = (double)out->a[k * s->n + i];
	}
	RV_TRY(rv_low_rank_norm(s->copy_left, s->copy_right, s->m, s->n, wide, &error));
	RV_TRY(rv_low_rank_norm(s->left, s->right, s->m, s->n, s->r, &norm));
	if (!isfinite(norm) || !isfinite(error))
		return rv_fail(RV_ERR_NUMERIC, "consolidation: role %d, layer %lld is not finite",
		               (int)out->role, (long long)out->layer);
	rv_consolidate_report *r = &j->report;
	j->error2 += error * error;
	j->norm2 += norm * norm;
	j->bound2 += bound < 0 ? error * error : bound * bound;
	if (norm > 0 && error / norm >= r->worst_share) {
		r->worst_share = error / norm;
		r->worst_role = out->role;
		r->worst_layer = out->layer;
	}
	return RV_OK;
}

/* ---- svd ---- */

/* A of the first adapter that has the matrix, and B = 0: a sum that is 0 stays so, and can be trained.
 */
static rv_adapter_matrix *zero_result(job *j, const stack *s, rv_role role, int64_t layer) {
	const rv_adapter_part *p = NULL;
	for (int i = 0; i < j->n && !p; i++)
		p = part_of(j, i, role, layer);
	const int64_t rank = p->a.rows < j->rank ? p->a.rows : j->rank;
	rv_adapter_matrix *out = add_result(j, s, role, layer, rank, s->scale);
	float *a = (float *)(uintptr_t)out->a;
	for (int64_t k = 0; k < rank; k++)
		decode_row(&p->a, k, a + k * s->n);
	return out;
}

/* B = u sqrt(s), A = sqrt(s) v^T of the first `rank` of k. */
static rv_adapter_matrix *svd_result(job *j, const stack *s, rv_role role, int64_t layer, int64_t rank,
                                     int64_t k, const double *u, const double *sigma, const double *v) {
	rv_adapter_matrix *out = add_result(j, s, role, layer, rank, 1);
	float *a = (float *)(uintptr_t)out->a, *b = (float *)(uintptr_t)out->b;
	for (int64_t c = 0; c < rank; c++) {
		const double root = sqrt(sigma[c]);
		for (int64_t i = 0; i < s->m; i++)
			b[i * rank + c] = (float)(root * u[i * k + c]);
		for (int64_t i = 0; i < s->n; i++)
			a[c * s->n + i] = (float)(root * v[i * k + c]);
	}
	return out;
}

/* What is cut off, and rounding both factors to float: |f(B) f(A) - B A| <= (2 e + e^2) |B| |A|, and
 * |B| |A| is the sum of the singular values. */
static double svd_bound(const double *sigma, int64_t rank, int64_t k) {
	const double e = 0x1p-24;
	double tail = 0, sum = 0;
	for (int64_t c = rank; c < k; c++)
		tail += sigma[c] * sigma[c];
	for (int64_t c = 0; c < rank; c++)
		sum += sigma[c];
	return sqrt(tail) + (2 * e + e * e) * sum + 1e-14 * sigma[0];
}

static rv_status by_svd(job *j, stack *s, rv_role role, int64_t layer) {
	const int64_t k = rv_low_rank_k(s->m, s->n, s->r);
	double *u, bound;
	RV_TRY(RV_ALLOC(&u, (s->m + s->n + 1) * k, "singular vectors"));
	double *v = u + s->m * k, *sigma = v + s->n * k;
	memcpy(s->copy_left, s->left, (size_t)(s->m * s->r) * sizeof *u);
	memcpy(s->copy_right, s->right, (size_t)(s->n * s->r) * sizeof *u);
	rv_status st = rv_low_rank_svd(s->copy_left, s->copy_right, s->m, s->n, s->r, u, sigma, v);
	if (st == RV_OK) {
		/* directions that are only rounding are none */
		int64_t rank = 0;
		while (rank < k && rank < j->rank && sigma[rank] > 1e-13 * sigma[0])
			rank++;
		bound = svd_bound(sigma, rank, k);
		st = judge(j, s,
		           rank ? svd_result(j, s, role, layer, rank, k, u, sigma, v)
		                : zero_result(j, s, role, layer),
		           bound);
	}
	rv_free(u);
	return st;
}

/* ---- ema ---- */

static rv_status by_ema(job *j, stack *s, rv_role role, int64_t layer) {
	if (s->most > j->rank)
		return rv_fail(RV_ERR_INVALID,
		               "consolidation: averaged factors have rank %lld, more than %lld",
		               (long long)s->most, (long long)j->rank);
	const int64_t rank = s->most;
	rv_adapter_matrix *out = add_result(j, s, role, layer, rank, s->scale);
	float *a = (float *)(uintptr_t)out->a, *b = (float *)(uintptr_t)out->b;
	int64_t at = 0;
	for (int p = 0; p < j->n; p++) {
		const rv_adapter_part *part = part_of(j, p, role, layer);
		if (!part)
			continue;
		/* the stack holds w s B and A */
		const double share = s->scale != 0 ? 1 / s->scale : 0, w = j->weights[p];
		for (int64_t c = 0; c < part->a.rows; c++, at++) {
			for (int64_t i = 0; i < s->m; i++)
				b[i * rank + c] += (float)(share * s->left[i * s->r + at]);
			for (int64_t i = 0; i < s->n; i++)
				a[c * s->n + i] += (float)(w * s->right[i * s->r + at]);
		}
	}
	return judge(j, s, out, -1);
}

/* ---- all matrices ---- */

typedef rv_status matrix_fn(job *j, rv_role role, int64_t layer);

static rv_status each_matrix(job *j, matrix_fn *fn) {
	for (int64_t layer = 0; layer <= j->hp->n_layers; layer++)
		for (int i = 0; i < j->arch->n_tensors; i++) {
			const rv_tensor_def *def = &j->arch->tensors[i];
			const int in_layer = (def->flags & RV_TENSOR_LAYER) != 0;
			if (in_layer == (layer < j->hp->n_layers))
				RV_TRY(fn(j, def->role, in_layer ? layer : 0));
		}
	return RV_OK;
}

static rv_status count_matrix(job *j, rv_role role, int64_t layer) {
	stack s;
	measure(j, &s, role, layer);
	if (s.r == 0)
		return RV_OK;
	const int64_t rank = s.r < j->rank ? s.r : j->rank, wide = s.n > s.most ? s.n : s.most;
	j->n_parts++;
	j->n_elements += (s.m + s.n) * rank;
	j->widest = wide > j->widest ? wide : j->widest;
	return RV_OK;
}

static rv_status join_matrix(job *j, rv_role role, int64_t layer) {
	stack s;
	measure(j, &s, role, layer);
	if (s.r == 0)
		return RV_OK;
	rv_status st = fill_stack(j, &s, role, layer);
	if (st == RV_OK)
		st = j->method == RV_CONSOLIDATE_SVD ? by_svd(j, &s, role, layer)
		                                     : by_ema(j, &s, role, layer);
	rv_free(s.memory);
	return st;
}

static rv_status check(const job *j, const rv_model *model) {
	if (j->n < 1 || j->rank < 1 || j->rank > RV_ADAPTER_MAX_RANK ||
	    (unsigned)j->method >= RV_CONSOLIDATE_COUNT)
		return rv_fail(RV_ERR_INVALID, "consolidation of %d adapters to rank %lld by method %d",
		               j->n, (long long)j->rank, (int)j->method);
	for (int i = 0; i < j->n; i++) {
		if (!rv_adapter_fits(j->adapters[i], model))
			return rv_fail(RV_ERR_MISMATCH, "%s: made for models of another shape than %s",
			               rv_adapter_path(j->adapters[i]), rv_model_path(model));
		if (!isfinite(j->weights[i]))
			return rv_fail(RV_ERR_INVALID, "consolidation: weight %d is %g", i,
			               j->weights[i]);
	}
	return RV_OK;
}

static rv_status run(job *j, const rv_model *model, const char *name, rv_adapter **out) {
	RV_TRY(check(j, model));
	RV_TRY(each_matrix(j, count_matrix));
	RV_TRY(RV_ALLOC(&j->parts, j->n_parts, "consolidation"));
	RV_TRY(RV_ALLOC(&j->factors, j->n_elements, "consolidation"));
	RV_TRY(RV_ALLOC(&j->row, j->widest, "consolidation"));
	j->n_parts = 0;
	j->next = j->factors;
	RV_TRY(each_matrix(j, join_matrix));
	j->report.n_matrices = j->n_parts;
	j->report.error = sqrt(j->error2);
	j->report.norm = sqrt(j->norm2);
	j->report.bound = sqrt(j->bound2);
	return rv_adapter_create(out, model, name, j->parts, j->n_parts);
}

rv_status rv_consolidate(rv_adapter **out, rv_consolidation method, const rv_model *model,
                         const char *name, rv_adapter *const *adapters, const double *weights, int n,
                         int64_t rank, rv_consolidate_report *report) {
	job j = {.method = method,
	         .adapters = adapters,
	         .weights = weights,
	         .n = n,
	         .rank = rank,
	         .arch = rv_model_arch(model),
	         .hp = rv_model_hparams(model)};
	*out = NULL;
	const rv_status st = run(&j, model, name, out);
	if (st == RV_OK && report)
		*report = j.report;
	rv_free(j.parts);
	rv_free(j.factors);
	rv_free(j.row);
	return st;
}
