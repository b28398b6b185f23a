/* The measures of embedding_set.h on vectors. */
#include "base/mem.h"
#include "base/rng.h"
#include "eval/embedding_set.h"

#include <math.h>
#include <string.h>

static double dot(const float *a, const float *b, int64_t n) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += (double)a[i] * (double)b[i];
	return sum;
}

/* ---- pairs ---- */

/* Mean rank of x[i] among x (ties share theirs). */
static double rank_of(const double *x, int64_t n, int64_t stride, int64_t i) {
	double below = 0, same = 0;
	for (int64_t j = 0; j < n; j++) {
		below += x[j * stride] < x[i * stride];
		same += x[j * stride] == x[i * stride];
	}
	return below + (same + 1) / 2;
}

/* xy: (similarity, grade) pairs. */
static double spearman(const double *xy, int64_t n) {
	const double middle = (double)(n + 1) / 2;
	double xx = 0, yy = 0, both = 0;
	for (int64_t i = 0; i < n; i++) {
		const double x = rank_of(xy, n, 2, i) - middle, y = rank_of(xy + 1, n, 2, i) - middle;
		xx += x * x;
		yy += y * y;
		both += x * y;
	}
	return xx > 0 && yy > 0 ? both / sqrt(xx * yy) : NAN;
}

static double ordered_pct(const double *xy, int64_t n) {
	double right = 0, all = 0;
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = 0; j < n; j++) {
			if (!(xy[2 * i + 1] > xy[2 * j + 1]))
				continue;
			all++;
			right += xy[2 * i] > xy[2 * j];
		}
	return all > 0 ? 100 * right / all : NAN;
}

rv_status rv_embedding_pairs_of(const float *a, const float *b, const int *band, int64_t n, int64_t dim,
                                rv_embedding_pairs *out) {
	double *xy, sum[RV_EMBEDDING_BANDS] = {0};
	int64_t count[RV_EMBEDDING_BANDS] = {0};
	RV_TRY(RV_ALLOC(&xy, 2 * n, "similarities"));
	for (int64_t i = 0; i < n; i++) {
		xy[2 * i] = dot(a + i * dim, b + i * dim, dim);
		xy[2 * i + 1] = -band[i];
		sum[band[i]] += xy[2 * i];
		count[band[i]]++;
	}
	*out = (rv_embedding_pairs){
	        .n = n, .spearman = spearman(xy, n), .ordered_pct = ordered_pct(xy, n)};
	for (int k = 0; k < RV_EMBEDDING_BANDS; k++) {
		out->mean[k] = count[k] ? sum[k] / (double)count[k] : NAN;
		out->n_bands += count[k] > 0;
	}
	rv_free(xy);
	return RV_OK;
}

/* ---- searches ---- */

void rv_embedding_search_of(const double *similarity, const int *grade, int64_t n, double *reciprocal,
                            double *ndcg) {
	double gain = 0, ideal = 0;
	*reciprocal = 0;
	for (int64_t i = 0; i < n; i++) {
		int64_t rank = 1, best = 1; /* by similarity, and by grade */
		for (int64_t j = 0; j < n; j++) {
			/* of equals the lower grade comes first */
			rank += similarity[j] > similarity[i] ||
			        (similarity[j] == similarity[i] && j != i &&
			         (grade[j] < grade[i] || (grade[j] == grade[i] && j < i)));
			best += grade[j] > grade[i] || (grade[j] == grade[i] && j < i);
		}
		const double g = exp2(grade[i]) - 1;
		gain += g / log2((double)rank + 1);
		ideal += g / log2((double)best + 1);
		if (grade[i] == 3 && 1 / (double)rank > *reciprocal)
			*reciprocal = 1 / (double)rank;
	}
	*ndcg = ideal > 0 ? gain / ideal : 0;
}

/* ---- clusters ---- */

typedef struct means {
	const float *x;
	int64_t n, dim, k;
	float *centre; /* [k, dim] of length 1 */
	int *nearest;  /* [n] */
} means;

static void assign(means *m, double *total) {
	*total = 0;
	for (int64_t i = 0; i < m->n; i++) {
		double best = -INFINITY;
		for (int64_t c = 0; c < m->k; c++) {
			const double s = dot(m->x + i * m->dim, m->centre + c * m->dim, m->dim);
			if (s > best) {
				best = s;
				m->nearest[i] = (int)c;
			}
		}
		*total += best;
	}
}

/* A cluster that lost all its texts keeps its centre. */
static void recentre(means *m) {
	for (int64_t c = 0; c < m->k; c++) {
		float *centre = m->centre + c * m->dim;
		int64_t count = 0;
		for (int64_t i = 0; i < m->n; i++)
			count += m->nearest[i] == c;
		if (!count)
			continue;
		memset(centre, 0, (size_t)m->dim * sizeof *centre);
		for (int64_t i = 0; i < m->n; i++)
			for (int64_t j = 0; m->nearest[i] == c && j < m->dim; j++)
				centre[j] += m->x[i * m->dim + j];
		const double length = sqrt(dot(centre, centre, m->dim));
		for (int64_t j = 0; length > 0 && j < m->dim; j++)
			centre[j] = (float)((double)centre[j] / length);
	}
}

/* k-means++ on 1 - cosine (Arthur and Vassilvitskii 2007). */
static void first_centres(means *m, rv_rng *rng, double *far) {
	for (int64_t i = 0; i < m->n; i++)
		far[i] = 1;
	for (int64_t c = 0; c < m->k; c++) {
		double total = 0;
		for (int64_t i = 0; i < m->n; i++)
			total += far[i];
		double at = rv_rng_double(rng) * total;
		int64_t chosen = m->n - 1;
		for (int64_t i = 0; i < m->n; i++) {
			if (at < far[i]) {
				chosen = i;
				break;
			}
			at -= far[i];
		}
		memcpy(m->centre + c * m->dim, m->x + chosen * m->dim,
		       (size_t)m->dim * sizeof *m->centre);
		for (int64_t i = 0; i < m->n; i++) {
			const double d = 1 - dot(m->x + i * m->dim, m->centre + c * m->dim, m->dim);
			far[i] = d < far[i] ? (d > 0 ? d : 0) : far[i];
		}
	}
}

static double purity(const means *m, const int *cluster) {
	int64_t right = 0;
	for (int64_t c = 0; c < m->k; c++) {
		int64_t most = 0;
		for (int64_t label = 0; label < m->k; label++) {
			int64_t count = 0;
			for (int64_t i = 0; i < m->n; i++)
				count += m->nearest[i] == c && cluster[i] == label;
			most = count > most ? count : most;
		}
		right += most;
	}
	return (double)right / (double)m->n;
}

/* The purity of the start whose texts lie nearest to their centres. */
static double best_purity(means *m, const int *cluster, uint64_t seed, double *far) {
	enum { STARTS = 32, ROUNDS = 50 };
	double best = -INFINITY, found = 0;
	for (uint64_t start = 0; start < STARTS; start++) {
		rv_rng rng;
		double total, before = -INFINITY;
		rv_rng_stream(&rng, seed, start);
		first_centres(m, &rng, far);
		assign(m, &total);
		for (int round = 0; round < ROUNDS && total > before; round++) {
			before = total;
			recentre(m);
			assign(m, &total);
		}
		if (total > best) {
			best = total;
			found = purity(m, cluster);
		}
	}
	return found;
}

static double silhouette(const float *x, const int *cluster, int64_t n, int64_t dim, int64_t k) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++) {
		double own = NAN, other = INFINITY;
		for (int64_t c = 0; c < k; c++) {
			double total = 0, count = 0;
			for (int64_t j = 0; j < n; j++)
				if (j != i && cluster[j] == c) {
					total += 1 - dot(x + i * dim, x + j * dim, dim);
					count++;
				}
			if (cluster[i] == c)
				own = count > 0 ? total / count : NAN;
			else if (count > 0 && total / count < other)
				other = total / count;
		}
		const double most = own > other ? own : other;
		sum += isnan(own) || !(most > 0) ? 0 : (other - own) / most;
	}
	return sum / (double)n;
}

rv_status rv_embedding_clusters_of(const float *x, const int *cluster, int64_t n, int64_t dim,
                                   int64_t n_clusters, uint64_t seed, rv_embedding_clusters *out) {
	means m = {.x = x, .n = n, .dim = dim, .k = n_clusters};
	double *far = NULL;
	if (n < 2 || n_clusters < 2 || n_clusters > n)
		return rv_fail(RV_ERR_INVALID, "%lld texts in %lld clusters", (long long)n,
		               (long long)n_clusters);
	rv_status st = RV_ALLOC(&m.centre, n_clusters * dim, "centres");
	if (st == RV_OK)
		st = RV_ALLOC(&m.nearest, n, "clusters");
	if (st == RV_OK)
		st = RV_ALLOC(&far, n, "distances");
	if (st == RV_OK)
		*out = (rv_embedding_clusters){n, n_clusters, best_purity(&m, cluster, seed, far),
		                               silhouette(x, cluster, n, dim, n_clusters)};
	rv_free(m.centre);
	rv_free(m.nearest);
	rv_free(far);
	return st;
}
