/* The loss of contrastive.h and its derivatives. Internal to lib/learn. */
#include "base/mem.h"
#include "learn/contrastive.h"

#include <math.h>
#include <string.h>

/* c = alpha op(a) op(b) + beta c, row-major, as the BLAS has it; beta 0 or 1 */
static void product(int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, const rv_real *a,
                    int64_t lda, const rv_real *b, int64_t ldb, rv_real beta, rv_real *c, int64_t ldc);

struct rv_contrastive {
	rv_real *z, *dz, *inv; /* [n, dim], [n, dim], [n] 1 / |y| */
	rv_real *s, *ds;       /* [n, n] similarities and derivatives by them */
	rv_real *q, *inv_q;    /* the same of classes */
	rv_real *t;            /* [n, n_classes] similarities to classes, then derivatives */
	double *term;          /* [max(n, n_classes)] */
	void *memory;
};

rv_status rv_contrastive_create(rv_contrastive **out, int64_t n, int64_t dim, int64_t n_classes) {
	const int64_t sizes[] = {n * dim, n * dim,         n,         n * n,
	                         n * n,   n_classes * dim, n_classes, n * n_classes};
	const int64_t widest = n > n_classes ? n : n_classes;
	rv_contrastive *c;
	int64_t total = 0;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		total += sizes[i];
	RV_TRY(RV_ALLOC(&c, 1, "contrastive loss"));
	rv_status st = rv_alloc(&c->memory, (size_t)total, sizeof(rv_real), "similarities");
	if (st == RV_OK)
		st = RV_ALLOC(&c->term, widest, "terms of a row");
	if (st != RV_OK) {
		rv_contrastive_destroy(c);
		return st;
	}
	rv_real **parts[] = {&c->z, &c->dz, &c->inv, &c->s, &c->ds, &c->q, &c->inv_q, &c->t};
	rv_real *at = c->memory;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		*parts[i] = at;
		at += sizes[i];
	}
	*out = c;
	return RV_OK;
}

void rv_contrastive_destroy(rv_contrastive *c) {
	if (!c)
		return;
	rv_free(c->memory);
	rv_free(c->term);
	rv_free(c);
}

/* ---- unit vectors ---- */

static void unit_rows(rv_real *x, rv_real *inv, int64_t rows, int64_t n) {
	for (int64_t r = 0; r < rows; r++) {
		rv_real *v = x + r * n;
		double squares = 0;
		for (int64_t i = 0; i < n; i++)
			squares += (double)v[i] * (double)v[i];
		inv[r] = (rv_real)(1 / sqrt(squares));
		for (int64_t i = 0; i < n; i++)
			v[i] *= inv[r];
	}
}

/* From the derivative by unit vectors to that by the vectors they were made of. */
static void unit_rows_back(rv_real *dx, const rv_real *unit, const rv_real *inv, int64_t rows,
                           int64_t n) {
	for (int64_t r = 0; r < rows; r++) {
		rv_real *d = dx + r * n;
		const rv_real *u = unit + r * n;
		double along = 0;
		for (int64_t i = 0; i < n; i++)
			along += (double)d[i] * (double)u[i];
		if (!RV_TRAIN_KEEPS(unit_tangent))
			along = 0;
		for (int64_t i = 0; i < n; i++)
			d[i] = inv[r] * (d[i] - (rv_real)along * u[i]);
	}
}

/* ---- the parts; a row each. ds: derivatives by the row's similarities, added to ---- */

static int is_positive(const rv_contrastive_batch *b, int64_t i, int64_t j) {
	return i != j && b->label[i] == b->label[j];
}

static int is_hard(const rv_contrastive_batch *b, int64_t i, int64_t j) {
	return b->label[i] != b->label[j] && b->topic[i] >= 0 && b->topic[i] == b->topic[j];
}

static double nce_row(rv_contrastive *c, const rv_contrastive_options *o, const rv_contrastive_batch *b,
                      int64_t i, int64_t n_positives, double share) {
	const rv_real *s = c->s + i * b->n;
	rv_real *ds = c->ds + i * b->n;
	double most = -INFINITY, sum = 0, near = 0;
	for (int64_t j = 0; j < b->n; j++)
		if (j != i && (double)s[j] > most)
			most = (double)s[j];
	for (int64_t j = 0; j < b->n; j++) {
		const double w = j == i ? 0 : is_hard(b, i, j) ? o->hard_weight : 1;
		c->term[j] = w * exp(((double)s[j] - most) / o->temperature);
		sum += c->term[j];
		if (is_positive(b, i, j))
			near += (double)s[j];
	}
	const double scale = share * o->nce_weight / o->temperature;
	for (int64_t j = 0; j < b->n; j++) {
		double d = RV_TRAIN_KEEPS(nce_others) ? c->term[j] / sum : 0;
		if (is_positive(b, i, j) && RV_TRAIN_KEEPS(nce_positives))
			d -= 1 / (double)n_positives;
		ds[j] += (rv_real)(scale * d);
	}
	return log(sum) + (most - near / (double)n_positives) / o->temperature;
}

/* The nearest hard negative, else the nearest text of another class; -1: there is none. */
static int64_t nearest_negative(const rv_contrastive *c, const rv_contrastive_batch *b, int64_t i) {
	const rv_real *s = c->s + i * b->n;
	int64_t best = -1;
	int best_hard = 0;
	for (int64_t j = 0; j < b->n; j++) {
		if (b->label[i] == b->label[j])
			continue;
		const int hard = is_hard(b, i, j);
		if (best < 0 || hard > best_hard || (hard == best_hard && s[j] > s[best])) {
			best = j;
			best_hard = hard;
		}
	}
	return best;
}

static double triplet_row(rv_contrastive *c, const rv_contrastive_options *o,
                          const rv_contrastive_batch *b, int64_t i, int64_t n_positives, double share) {
	const rv_real *s = c->s + i * b->n;
	rv_real *ds = c->ds + i * b->n;
	const int64_t negative = nearest_negative(c, b, i);
	if (negative < 0)
		return 0;
	double near = 0;
	for (int64_t j = 0; j < b->n; j++)
		if (is_positive(b, i, j))
			near += (double)s[j];
	const double loss = o->margin - near / (double)n_positives + (double)s[negative];
	if (!(loss > 0))
		return 0;
	const double scale = share * o->triplet_weight;
	for (int64_t j = 0; j < b->n; j++)
		if (is_positive(b, i, j))
			ds[j] -= (rv_real)(scale / (double)n_positives);
	if (RV_TRAIN_KEEPS(triplet_negative))
		ds[negative] += (rv_real)scale;
	return loss;
}

/* c->t of the row becomes derivatives. */
static double class_row(rv_contrastive *c, const rv_contrastive_options *o,
                        const rv_contrastive_batch *b, int64_t i, double share) {
	rv_real *t = c->t + i * b->n_classes;
	double most = -INFINITY, sum = 0, loss = 0;
	if (b->n_classes == 0)
		return 0;
	for (int64_t k = 0; k < b->n_classes; k++)
		most = (double)t[k] > most ? (double)t[k] : most;
	for (int64_t k = 0; k < b->n_classes; k++) {
		c->term[k] = exp(((double)t[k] - most) / o->class_temperature);
		sum += c->term[k];
	}
	const double scale = share * o->class_weight / o->class_temperature;
	for (int64_t k = 0; k < b->n_classes; k++) {
		const double target = o->class_smoothing / (double)b->n_classes +
		                      (k == b->label[i] ? 1 - o->class_smoothing : 0);
		loss -= target * (((double)t[k] - most) / o->class_temperature - log(sum));
		t[k] = (rv_real)(scale * (c->term[k] / sum - target));
	}
	return loss;
}

/* ---- all of it ---- */

static rv_contrastive_loss rows_loss_of(rv_contrastive *c, const rv_contrastive_options *o,
                                        const rv_contrastive_batch *b) {
	rv_contrastive_loss loss = {0};
	const double share = 1 / (double)b->n;
	memset(c->ds, 0, (size_t)(b->n * b->n) * sizeof *c->ds);
	for (int64_t i = 0; i < b->n; i++) {
		int64_t n_positives = 0;
		for (int64_t j = 0; j < b->n; j++)
			n_positives += is_positive(b, i, j);
		if (n_positives) {
			loss.nce += share * nce_row(c, o, b, i, n_positives, share);
			loss.triplet += share * triplet_row(c, o, b, i, n_positives, share);
		}
		loss.classes += share * class_row(c, o, b, i, share);
	}
	loss.total = o->nce_weight * loss.nce + o->triplet_weight * loss.triplet +
	             o->class_weight * loss.classes;
	return loss;
}

/* ds += its transpose: z_i z_j moves with both. */
static void symmetric(rv_real *ds, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = 0; j < i; j++) {
			const rv_real sum = ds[i * n + j] + ds[j * n + i];
			ds[i * n + j] = ds[j * n + i] = sum;
		}
	for (int64_t i = 0; i < n; i++)
		ds[i * n + i] *= 2;
}

rv_contrastive_loss rv_contrastive_run(rv_contrastive *c, const rv_contrastive_options *o,
                                       const rv_contrastive_batch *b) {
	const int64_t n = b->n, dim = b->dim, n_c = b->n_classes;
	product(0, 1, n, dim, b->n_in, b->mean, b->n_in, b->map, b->n_in, 0, c->z, dim);
	unit_rows(c->z, c->inv, n, dim);
	if (n_c)
		memcpy(c->q, b->classes, (size_t)(n_c * dim) * sizeof *c->q);
	unit_rows(c->q, c->inv_q, n_c, dim);
	product(0, 1, n, n, dim, c->z, dim, c->z, dim, 0, c->s, n);
	if (n_c)
		product(0, 1, n, n_c, dim, c->z, dim, c->q, dim, 0, c->t, n_c);
	rv_contrastive_loss loss = rows_loss_of(c, o, b);
	if (!b->d_mean)
		return loss;
	if (RV_TRAIN_KEEPS(other_side))
		symmetric(c->ds, n);
	product(0, 0, n, dim, n, c->ds, n, c->z, dim, 0, c->dz, dim);
	if (n_c && RV_TRAIN_KEEPS(classes))
		product(0, 0, n, dim, n_c, c->t, n_c, c->q, dim, 1, c->dz, dim);
	if (n_c) {
		product(1, 0, n_c, dim, n, c->t, n_c, c->z, dim, 0, b->d_classes, dim);
		unit_rows_back(b->d_classes, c->q, c->inv_q, n_c, dim);
	}
	unit_rows_back(c->dz, c->z, c->inv, n, dim);
	product(1, 0, dim, b->n_in, n, c->dz, dim, b->mean, b->n_in, 0, b->d_map, b->n_in);
	product(0, 0, n, b->n_in, dim, c->dz, dim, b->map, b->n_in, 0, b->d_mean, b->n_in);
	return loss;
}
