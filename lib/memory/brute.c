#include "memory/brute.h"

#include "base/mem.h"
#include "engine/blas.h"
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

enum { QUERY_BLOCK = 64, ROW_BLOCK = 1024, SCAN = 64 };

struct rv_brute {
	rv_brute_kind kind;
	rv_metric metric;
	const rv_kernels *kernels;
	const float *rows;
	int64_t n;
	int dim;
	float *scale; /* [n], cosine: 1 / length */
	float *norm2; /* [n], blas with l2 */
};

static const char *const names[] = {
#define RV_BRUTE_NAME(name, text) text,
        RV_BRUTE_TABLE(RV_BRUTE_NAME)
#undef RV_BRUTE_NAME
};

const char *rv_brute_name(rv_brute_kind kind) {
	return names[kind];
}

/* Sum of squares; RV_ERR_NUMERIC where there is no distance. */
static rv_status length2(const rv_brute *b, const float *x, const char *what, int64_t number,
                         double *out) {
	double sum = 0;
	for (int d = 0; d < b->dim; d++)
		sum += (double)x[d] * x[d];
	if (!isfinite(sum))
		return rv_fail(RV_ERR_NUMERIC, "%s %lld: not finite", what, (long long)number);
	if (b->metric == RV_METRIC_COSINE && sum == 0)
		return rv_fail(RV_ERR_NUMERIC, "%s %lld: its length is 0, it has no direction", what,
		               (long long)number);
	*out = sum;
	return RV_OK;
}

static rv_status look_at_rows(rv_brute *b) {
	RV_TRY(RV_ALLOC(&b->scale, b->n, "brute force"));
	RV_TRY(RV_ALLOC(&b->norm2, b->n, "brute force"));
	for (int64_t i = 0; i < b->n; i++) {
		double sum;
		RV_TRY(length2(b, b->rows + i * b->dim, "row", i, &sum));
		b->scale[i] = b->metric == RV_METRIC_COSINE ? (float)(1 / sqrt(sum)) : 1;
		b->norm2[i] = (float)sum;
	}
	return RV_OK;
}

rv_status rv_brute_create(rv_brute **out, rv_brute_kind kind, rv_metric metric, const float *rows,
                          int64_t n, int dim) {
	*out = NULL;
	if (n < 1 || n > INT32_MAX || dim < 1)
		return rv_fail(RV_ERR_INVALID, "brute force over %lld rows of dimension %d",
		               (long long)n, dim);
	if (kind == RV_BRUTE_BLAS)
		RV_TRY(rv_blas_open());
	rv_brute *b;
	RV_TRY(RV_ALLOC(&b, 1, "brute force"));
	*b = (rv_brute){.kind = kind, .metric = metric, .rows = rows, .n = n, .dim = dim};
	b->kernels = rv_kernels_for(kind == RV_BRUTE_SCALAR ? RV_LEVEL_REF : rv_level_best());
	const rv_status status = look_at_rows(b);
	if (status != RV_OK) {
		rv_brute_destroy(b);
		return status;
	}
	*out = b;
	return RV_OK;
}

void rv_brute_destroy(rv_brute *b) {
	if (!b)
		return;
	rv_free(b->scale);
	rv_free(b->norm2);
	rv_free(b);
}

/* ---- the nearest so far: sorted, few are inserted ---- */

typedef struct nearest {
	float *distances;
	int32_t *rows;
	int64_t k, n;
} nearest;

static inline int nearer(float distance, int32_t row, const nearest *s, int64_t i) {
	return distance < s->distances[i] || (distance == s->distances[i] && row < s->rows[i]);
}

static inline void offer(nearest *s, float distance, int32_t row) {
	if (s->n == s->k && !nearer(distance, row, s, s->k - 1))
		return;
	int64_t at = s->n < s->k ? s->n++ : s->k - 1;
	for (; at && nearer(distance, row, s, at - 1); at--) {
		s->distances[at] = s->distances[at - 1];
		s->rows[at] = s->rows[at - 1];
	}
	s->distances[at] = distance;
	s->rows[at] = row;
}

/* ---- one query ---- */

static inline float distance_of(const rv_brute *b, float sum, int64_t row, float query_scale) {
	if (b->metric == RV_METRIC_COSINE)
		return 1 - sum * b->scale[row] * query_scale;
	return b->metric == RV_METRIC_INNER ? -sum : sum;
}

/* Exact distances of n rows, given by pointer or by number (NULL: rows first, first + 1, ...). */
static void exact(const rv_brute *b, const float *query, float query_scale, const int32_t *rows,
                  int64_t first, int64_t n, float *out) {
	const float *at[SCAN];
	for (int64_t done = 0, m; done < n; done += m) {
		m = n - done < SCAN ? n - done : SCAN;
		for (int64_t i = 0; i < m; i++)
			at[i] = b->rows + (rows ? rows[done + i] : first + done + i) * b->dim;
		if (b->metric == RV_METRIC_L2)
			b->kernels->l2_rows_f32(out + done, query, at, m, b->dim);
		else
			b->kernels->dot_rows_f32(out + done, query, at, m, b->dim);
		for (int64_t i = 0; i < m; i++)
			out[done + i] =
			        distance_of(b, out[done + i], rows ? rows[done + i] : first + done + i,
			                    query_scale);
	}
}

static void scan(const rv_brute *b, const float *query, float query_scale, nearest *s) {
	float distances[SCAN];
	for (int64_t at = 0, m; at < b->n; at += m) {
		m = b->n - at < SCAN ? b->n - at : SCAN;
		exact(b, query, query_scale, NULL, at, m, distances);
		for (int64_t i = 0; i < m; i++)
			offer(s, distances[i], (int32_t)(at + i));
	}
}

/* ---- many queries ---- */

typedef struct job {
	const rv_brute *b;
	const float *queries;
	int64_t n_queries, k, wide; /* wide: candidates that blas keeps */
	int32_t *rows;
	float *distances;
} job;

static rv_status query_scale_of(const rv_brute *b, const float *query, int64_t number, float *out) {
	double sum;
	RV_TRY(length2(b, query, "query", number, &sum));
	*out = b->metric == RV_METRIC_COSINE ? (float)(1 / sqrt(sum)) : 1;
	return RV_OK;
}

static void finish(const job *j, int64_t query, const nearest *s) {
	int32_t *rows = j->rows + query * j->k;
	float *distances = j->distances ? j->distances + query * j->k : NULL;
	for (int64_t i = 0; i < j->k; i++) {
		rows[i] = i < s->n ? s->rows[i] : -1;
		if (distances)
			distances[i] = i < s->n ? s->distances[i] : INFINITY;
	}
}

/* Candidates by a product of matrices; what it says of a row: a number that ascends with its distance.
 */
static void scan_block(const job *j, int64_t first, int64_t n_queries, float *product, nearest *s) {
	const rv_brute *b = j->b;
	for (int64_t at = 0, m; at < b->n; at += m) {
		m = b->n - at < ROW_BLOCK ? b->n - at : ROW_BLOCK;
		rv_blas_gemm(product, ROW_BLOCK, j->queries + first * b->dim, b->dim,
		             b->rows + at * b->dim, b->dim, 1, n_queries, m, b->dim);
		for (int64_t q = 0; q < n_queries; q++)
			for (int64_t i = 0; i < m; i++) {
				const float dot = product[q * ROW_BLOCK + i];
				offer(&s[q],
				      b->metric == RV_METRIC_L2 ? b->norm2[at + i] - 2 * dot
				                                : -dot * b->scale[at + i],
				      (int32_t)(at + i));
			}
	}
}

static rv_status search_block(const job *j, int64_t begin, int64_t end) {
	const rv_brute *b = j->b;
	nearest s[QUERY_BLOCK];
	float *floats;
	int32_t *rows;
	const int64_t n = end - begin, n_product = QUERY_BLOCK * ROW_BLOCK;
	RV_TRY(rv_alloc_uninit((void **)&floats, (size_t)(n_product + (n + 1) * j->wide),
	                       sizeof *floats, "brute force"));
	rv_status status = RV_ALLOC(&rows, n * j->wide, "brute force");
	if (status == RV_OK) {
		for (int64_t q = 0; q < n; q++)
			s[q] = (nearest){floats + n_product + q * j->wide, rows + q * j->wide, j->wide,
			                 0};
		scan_block(j, begin, n, floats, s);
	}
	float *distances = floats + n_product + n * j->wide;
	for (int64_t q = 0; q < n && status == RV_OK; q++) {
		float scale;
		const float *query = j->queries + (begin + q) * b->dim;
		status = query_scale_of(b, query, begin + q, &scale);
		if (status != RV_OK)
			break;
		exact(b, query, scale, s[q].rows, 0, s[q].n, distances);
		nearest best = {s[q].distances, s[q].rows, j->k, 0};
		/* Insertion sort in place: what is offered was read before its place is written. */
		for (int64_t i = 0, all = s[q].n; i < all; i++)
			offer(&best, distances[i], s[q].rows[i]);
		finish(j, begin + q, &best);
	}
	rv_free(rows);
	rv_free(floats);
	return status;
}

static rv_status search_blas(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	for (int64_t at = begin; at < end; at += QUERY_BLOCK)
		RV_TRY(search_block(arg, at, at + QUERY_BLOCK < end ? at + QUERY_BLOCK : end));
	return RV_OK;
}

static rv_status search_scan(void *arg, int64_t begin, int64_t end, int thread) {
	const job *j = arg;
	float *distances;
	int32_t *rows;
	(void)thread;
	RV_TRY(RV_ALLOC(&distances, j->k, "brute force"));
	rv_status status = RV_ALLOC(&rows, j->k, "brute force");
	for (int64_t q = begin; q < end && status == RV_OK; q++) {
		const float *query = j->queries + q * j->b->dim;
		nearest s = {distances, rows, j->k, 0};
		float scale;
		status = query_scale_of(j->b, query, q, &scale);
		if (status == RV_OK) {
			scan(j->b, query, scale, &s);
			finish(j, q, &s);
		}
	}
	rv_free(distances);
	rv_free(rows);
	return status;
}

rv_status rv_brute_search(const rv_brute *b, const float *queries, int64_t n_queries, int64_t k,
                          int32_t *rows, float *distances, rv_threads *threads) {
	if (k < 1 || n_queries < 0)
		return rv_fail(RV_ERR_INVALID, "brute force: k %lld, expected 1 or more", (long long)k);
	job j = {b, queries, n_queries, k, k + 32 + k / 4, rows, distances};
	j.wide = j.wide < b->n ? j.wide : b->n;
	const int blas = b->kind == RV_BRUTE_BLAS;
	const int64_t grain = blas ? QUERY_BLOCK : 1;
	rv_work_fn *fn = blas ? search_blas : search_scan;
	return threads ? rv_threads_for(threads, n_queries, grain, fn, &j) : fn(&j, 0, n_queries, 0);
}

/* ---- recall ---- */

static int seen_before(const int32_t *found, int64_t i) {
	for (int64_t j = 0; j < i; j++)
		if (found[j] == found[i])
			return 1;
	return 0;
}

rv_status rv_brute_recall(const rv_brute *b, const float *queries, int64_t n_queries, int64_t k,
                          const int32_t *found, int64_t stride_found, const float *truth,
                          int64_t stride_truth, double epsilon, double *mean, double *share) {
	const int unsquare = b->metric == RV_METRIC_L2;
	double sum = 0;
	if (k < 1 || k > stride_found || k > stride_truth)
		return rv_fail(RV_ERR_INVALID, "recall at %lld of %lld found and %lld true neighbours",
		               (long long)k, (long long)stride_found, (long long)stride_truth);
	for (int64_t q = 0; q < n_queries; q++) {
		const float *query = queries + q * b->dim;
		const int32_t *rows = found + q * stride_found;
		const double edge = truth[q * stride_truth + k - 1];
		const double limit = (unsquare ? sqrt(edge) : edge) + epsilon;
		int64_t hits = 0;
		float scale;
		RV_TRY(query_scale_of(b, query, q, &scale));
		for (int64_t i = 0; i < k; i++) {
			float distance;
			if (rows[i] < 0)
				continue;
			if (rows[i] >= b->n)
				return rv_fail(RV_ERR_INVALID,
				               "recall: query %lld found row %d of %lld", (long long)q,
				               rows[i], (long long)b->n);
			exact(b, query, scale, rows + i, 0, 1, &distance);
			hits += (unsquare ? sqrt((double)distance) : (double)distance) <= limit &&
			        !seen_before(rows, i);
		}
		sum += (double)hits / (double)k;
		if (share)
			share[q] = (double)hits / (double)k;
	}
	*mean = n_queries ? sum / (double)n_queries : NAN;
	return RV_OK;
}
