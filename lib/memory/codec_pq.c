/* Product quantization (Jegou, Douze, Schmid 2011): the vector is cut into m sub-vectors, each of which
 * becomes the number of the nearest of 256 centroids of its sub-space. Centroids are learned by K-means
 * from K-means++ seeds (Arthur and Vassilvitskii 2007). A query becomes a table of its parts' exact
 * distances to all centroids; a distance is a sum of m of them.
 *
 * Sub-spaces are learned apart from each other, each with its own random stream: the result depends on
 * no number of threads.
 *
 * Tables of 16 centroids, looked up by shuffles, want the codes of many vectors side by side; a graph
 * asks for one here and one there, so there is no such form. */
#include "memory/codec_internal.h"

#include "base/mem.h"
#include "base/rng.h"

#include <math.h>
#include <string.h>

enum {
	K = RV_PQ_CENTROIDS,
	TRAIN_ROWS = 32 * K, /* evenly spaced */
	ROUNDS = 10,         /* of K-means */
	BLOCK = 32           /* rows whose nearest centroids are sought at once */
};

static int width_of(const rv_codec_options *o) {
	return o->dim / o->pq_m;
}

static size_t code_bytes(const rv_codec_options *o) {
	return ((size_t)o->pq_m + 3) / 4 * 4;
}

/* alpha, then the table, aligned */
enum { TABLE_AT = 16 };
static size_t query_bytes(const rv_codec_options *o) {
	return (TABLE_AT + (size_t)o->pq_m * K) * sizeof(float);
}

static size_t n_learned(const rv_codec_options *o) {
	return (size_t)o->dim * K;
}

/* ---- nearest centroids ---- */

/* columns: [width, K] from rows [K, width], and half the squared length of each. */
static void transpose(const float *rows, int width, float *columns, float *halves) {
	for (int i = 0; i < K; i++) {
		float sum = 0;
		for (int d = 0; d < width; d++) {
			const float v = rows[i * width + d];
			columns[d * K + i] = v;
			sum += v * v;
		}
		halves[i] = 0.5f * sum;
	}
}

/* |x - c|^2 / 2 = |x|^2 / 2 - (x c - |c|^2 / 2). products: x c of K centroids. */
static int nearest_of(const float *products, const float *halves) {
	enum { LANES = 4, SETS = 4 };
	typedef float values __attribute__((vector_size(LANES * 4)));
	typedef int32_t numbers __attribute__((vector_size(LANES * 4)));
	values best[SETS], p, h;
	numbers at[SETS], here = {0, 1, 2, 3};
	for (int u = 0; u < SETS; u++) {
		best[u] = (values){-INFINITY, -INFINITY, -INFINITY, -INFINITY};
		at[u] = here;
	}
	for (int i = 0; i < K; i += SETS * LANES) {
		for (int u = 0; u < SETS; u++) {
			memcpy(&p, products + i + u * LANES, sizeof p);
			memcpy(&h, halves + i + u * LANES, sizeof h);
			const values v = p - h;
			const numbers nearer = v > best[u];
			at[u] = (here & nearer) | (at[u] & ~nearer);
			best[u] = (values)(((numbers)v & nearer) | ((numbers)best[u] & ~nearer));
			here += LANES;
		}
	}
	float most = -INFINITY;
	int first = 0;
	for (int l = 0; l < SETS * LANES; l++) {
		const float v = best[l / LANES][l % LANES];
		const int number = at[l / LANES][l % LANES];
		if (v > most || (v == most && number < first)) {
			most = v;
			first = number;
		}
	}
	return first;
}

/* ---- learning ---- */

typedef struct learn_job {
	const rv_codec *codec;
	const float *x; /* rows as given, `step` apart */
	int64_t step, n;
	float *learned;
} learn_job;

/* What one sub-space works on. */
typedef struct space {
	const rv_kernels *kernels;
	int width;
	int64_t n;
	float *x;        /* [n, width] */
	float *turned;   /* [width, n]: the same */
	float *distance; /* [n] */
	float *rows;     /* [K, width]: the centroids */
	float *columns;  /* [width, K] */
	float *halves;   /* [K] */
	float *error;    /* [n]: squared distance to the nearest */
	uint8_t *near;   /* [n] */
	double *sums;    /* [K, width] */
	int64_t *count;  /* [K] */
} space;

static float squared_distance(const float *a, const float *b, int width) {
	float sum = 0;
	for (int d = 0; d < width; d++)
		sum += (a[d] - b[d]) * (a[d] - b[d]);
	return sum;
}

/* Each error becomes at most the squared distance to this centre; returns their sum. */
static double come_nearer(space *s, const float *centre) {
	double total = 0;
	memset(s->distance, 0, (size_t)s->n * sizeof *s->distance);
	for (int d = 0; d < s->width; d++) {
		const float *column = s->turned + d * s->n;
		for (int64_t i = 0; i < s->n; i++) {
			const float by = column[i] - centre[d];
			s->distance[i] += by * by;
		}
	}
	for (int64_t i = 0; i < s->n; i++)
		s->error[i] = s->distance[i] < s->error[i] ? s->distance[i] : s->error[i];
	for (int64_t i = 0; i < s->n; i++)
		total += (double)s->error[i];
	return total;
}

/* Each next centre is a vector, drawn by its squared distance to the nearest centre so far. */
static void seed_centroids(space *s, rv_rng *rng) {
	const size_t bytes = (size_t)s->width * sizeof(float);
	int64_t pick = (int64_t)rv_rng_below(rng, (uint64_t)s->n);
	for (int64_t i = 0; i < s->n; i++)
		s->error[i] = INFINITY;
	for (int c = 0; c < K; c++) {
		float *centre = s->rows + (size_t)c * (size_t)s->width;
		memcpy(centre, s->x + pick * s->width, bytes);
		double left = rv_rng_double(rng) * come_nearer(s, centre);
		for (pick = 0; pick + 1 < s->n && left >= (double)s->error[pick]; pick++)
			left -= (double)s->error[pick];
	}
}

static void assign(space *s) {
	float products[BLOCK * K];
	for (int64_t at = 0; at < s->n; at += BLOCK) {
		const int64_t m = s->n - at < BLOCK ? s->n - at : BLOCK;
		s->kernels->gemm(products, K, s->x + at * s->width, s->width, s->columns, K, m, K,
		                 s->width);
		for (int64_t i = 0; i < m; i++) {
			const float *x = s->x + (at + i) * s->width;
			s->near[at + i] = (uint8_t)nearest_of(products + i * K, s->halves);
			s->error[at + i] =
			        squared_distance(x, s->rows + s->near[at + i] * s->width, s->width);
		}
	}
}

/* Means of what is nearest; a centroid that nothing is nearest to takes the worst served vector. */
static void move_centroids(space *s) {
	const int w = s->width;
	memset(s->sums, 0, (size_t)(K * w) * sizeof *s->sums);
	memset(s->count, 0, K * sizeof *s->count);
	for (int64_t i = 0; i < s->n; i++) {
		for (int d = 0; d < w; d++)
			s->sums[s->near[i] * w + d] += (double)s->x[i * w + d];
		s->count[s->near[i]]++;
	}
	for (int c = 0; c < K; c++) {
		int64_t worst = 0;
		for (int d = 0; d < w && s->count[c]; d++)
			s->rows[c * w + d] = (float)(s->sums[c * w + d] / (double)s->count[c]);
		if (s->count[c])
			continue;
		for (int64_t i = 1; i < s->n; i++)
			worst = s->error[i] > s->error[worst] ? i : worst;
		memcpy(s->rows + c * w, s->x + worst * w, (size_t)w * sizeof(float));
		s->error[worst] = 0;
	}
}

static rv_status allocate_space(space *s) {
	const size_t n = (size_t)s->n, w = (size_t)s->width;
	RV_TRY(RV_ALLOC(&s->x, n * w, "sub-vectors"));
	RV_TRY(RV_ALLOC(&s->turned, n * w, "sub-vectors"));
	RV_TRY(RV_ALLOC(&s->distance, n, "distances of sub-vectors"));
	RV_TRY(RV_ALLOC(&s->columns, w * K, "centroids"));
	RV_TRY(RV_ALLOC(&s->halves, K, "centroids"));
	RV_TRY(RV_ALLOC(&s->error, n, "errors of sub-vectors"));
	RV_TRY(RV_ALLOC(&s->near, n, "nearest centroids"));
	RV_TRY(RV_ALLOC(&s->sums, w * K, "sums of sub-vectors"));
	return RV_ALLOC(&s->count, K, "counts of sub-vectors");
}

static void free_space(space *s) {
	rv_free(s->x);
	rv_free(s->turned);
	rv_free(s->distance);
	rv_free(s->columns);
	rv_free(s->halves);
	rv_free(s->error);
	rv_free(s->near);
	rv_free(s->sums);
	rv_free(s->count);
}

/* Columns j w .. (j + 1) w of the rows, scaled as codes see them. */
static void take_columns(const learn_job *job, int64_t j, space *s) {
	const rv_codec_options *o = &job->codec->options;
	for (int64_t i = 0; i < job->n; i++) {
		const float *x = job->x + i * job->step * o->dim;
		float square = 1;
		if (o->metric == RV_METRIC_COSINE)
			o->kernels->dot_f32(&square, x, x, o->dim);
		for (int d = 0; d < s->width; d++)
			s->turned[d * s->n + i] = s->x[i * s->width + d] =
			        x[j * s->width + d] / sqrtf(square);
	}
}

static rv_status learn_spaces(void *arg, int64_t begin, int64_t end, int thread) {
	const learn_job *job = arg;
	const rv_codec_options *o = &job->codec->options;
	space s = {.kernels = o->kernels, .width = width_of(o), .n = job->n};
	(void)thread;
	rv_status status = allocate_space(&s);
	for (int64_t j = begin; j < end && status == RV_OK; j++) {
		rv_rng rng;
		s.rows = job->learned + (size_t)j * K * (size_t)s.width;
		take_columns(job, j, &s);
		rv_rng_stream(&rng, o->seed, (uint64_t)j);
		seed_centroids(&s, &rng);
		for (int round = 0; round < ROUNDS; round++) {
			transpose(s.rows, s.width, s.columns, s.halves);
			assign(&s);
			move_centroids(&s);
		}
	}
	free_space(&s);
	return status;
}

static rv_status learn(rv_codec *c, const float *x, int64_t n, float *learned, rv_threads *threads) {
	const int64_t step = (n + TRAIN_ROWS - 1) / TRAIN_ROWS;
	learn_job job = {c, x, step, (n + step - 1) / step, learned};
	return threads ? rv_threads_for(threads, c->options.pq_m, 1, learn_spaces, &job)
	               : learn_spaces(&job, 0, c->options.pq_m, 0);
}

static rv_status derive(rv_codec *c) {
	const int w = width_of(&c->options);
	RV_TRY(RV_ALLOC(&c->columns, n_learned(&c->options), "centroids"));
	RV_TRY(RV_ALLOC(&c->halves, (size_t)c->options.pq_m * K, "lengths of centroids"));
	for (int j = 0; j < c->options.pq_m; j++) {
		const size_t at = (size_t)j * K * (size_t)w;
		transpose(c->learned + at, w, c->columns + at, c->halves + j * K);
	}
	return RV_OK;
}

/* ---- encoding ---- */

static void products_with(const rv_codec *c, const float *x, int j, float *products) {
	const int w = width_of(&c->options);
	c->options.kernels->gemm(products, K, x + j * w, w, c->columns + (size_t)j * K * (size_t)w, K,
	                         1, K, w);
}

static void encode(const rv_codec *c, const float *x, uint8_t *code, float *work) {
	float products[K];
	(void)work;
	memset(code, 0, code_bytes(&c->options));
	for (int j = 0; j < c->options.pq_m; j++) {
		products_with(c, x, j, products);
		code[j] = (uint8_t)nearest_of(products, c->halves + j * K);
	}
}

static const float *centroid(const rv_codec *c, int j, int i) {
	return c->learned + ((size_t)j * K + (size_t)i) * (size_t)width_of(&c->options);
}

static void decode(const rv_codec *c, const uint8_t *code, float *x) {
	const int w = width_of(&c->options);
	for (int j = 0; j < c->options.pq_m; j++)
		memcpy(x + j * w, centroid(c, j, code[j]), (size_t)w * sizeof *x);
}

static int code_ok(const rv_codec *c, const uint8_t *code) {
	for (size_t i = (size_t)c->options.pq_m; i < code_bytes(&c->options); i++) {
		if (code[i])
			return 0;
	}
	return 1;
}

/* ---- distances ---- */

/* l2: |x|^2 + sum (|c|^2 - 2 x c), half of it for cosine: centroids are shorter than what they stand
 * for, and -x c alone would favour the longer ones. inner: -sum x c. */
static void prepare(const rv_codec *c, const float *x, void *prepared, float *work) {
	const rv_codec_options *o = &c->options;
	const float factor = o->metric == RV_METRIC_L2 ? 2 : 1, length = o->metric != RV_METRIC_INNER;
	float *head = prepared, *table = head + TABLE_AT;
	(void)work;
	memset(head, 0, TABLE_AT * sizeof *head);
	o->kernels->dot_f32(head, x, x, o->dim);
	*head *= length * factor / 2;
	for (int j = 0; j < o->pq_m; j++) {
		float *t = table + (size_t)j * K;
		const float *halves = c->halves + j * K;
		products_with(c, x, j, t);
		for (int i = 0; i < K; i++)
			t[i] = factor * (length * halves[i] - t[i]);
	}
}

static void prepare_code(const rv_codec *c, const uint8_t *code, void *prepared, float *work) {
	decode(c, code, work);
	prepare(c, work, prepared, NULL);
}

static void distances(const rv_codec *c, const void *prepared, const uint8_t *const *codes, int64_t n,
                      float *out) {
	const float *head = prepared;
	c->options.kernels->adc_rows(out, head + TABLE_AT, codes, n, c->options.pq_m);
	for (int64_t i = 0; i < n; i++)
		out[i] += *head;
}

static float code_distance(const rv_codec *c, const uint8_t *a, const uint8_t *b) {
	const rv_codec_options *o = &c->options;
	const int w = width_of(o);
	float sum = 0;
	for (int j = 0; j < o->pq_m; j++) {
		const float *x = centroid(c, j, a[j]), *y = centroid(c, j, b[j]);
		if (o->metric != RV_METRIC_INNER) {
			sum += squared_distance(x, y, w);
			continue;
		}
		for (int d = 0; d < w; d++)
			sum -= x[d] * y[d];
	}
	return o->metric == RV_METRIC_COSINE ? sum / 2 : sum;
}

const rv_codec_kind rv_codec_pq = {
        .code_bytes = code_bytes,
        .query_bytes = query_bytes,
        .n_learned = n_learned,
        .learn = learn,
        .derive = derive,
        .encode = encode,
        .decode = decode,
        .code_ok = code_ok,
        .prepare = prepare,
        .prepare_code = prepare_code,
        .distances = distances,
        .code_distance = code_distance,
};
