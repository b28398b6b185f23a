/* Codes of 8, 4 and 1 bits a component: integers times one scale a vector.
 *
 * Coded is a = x - mean (4 bits and 1: rotated). A code holds integers c and a scale s with a ~ s c. c
 * is nearest to a, and s = |a|^2 / (a c), so that s (c q) has no bias along a: the estimator of RaBitQ
 * (Gao and Long 2024), there for one bit. A query becomes 8-bit integers likewise, and every distance
 *
 *     alpha(query) + beta(code) + gamma(query) s (sum of products)
 *
 *   l2       |q - x|^2 = |aq|^2 + |ax|^2 - 2 aq ax
 *   inner    -q x      = -mean q  - mean ax - aq ax
 *   cosine   1 + that, of vectors of length 1
 *
 * with beta kept beside the code: |ax|^2, or -mean ax. Integers are odd where zero has none of its own:
 * 2 u - 15 for u = 0..15, and 2 b - 1 for a bit b; so the sum of products is twice the sum over u or b,
 * less 15 times or once the sum of the query.
 *
 * One scale a vector and an 8-bit query lose next to nothing: with 8-bit codes of 4000 clustered
 * vectors of 768 components 99.3 % of the ten nearest are among the first ten by code, as with an f32
 * query; 99.8 % with a scale a dimension, which products of integers have no place for. Among the first
 * 20 are all, either way. */
#include "memory/codec_internal.h"

#include "base/mem.h"
#include "base/rng.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
	TRAIN_ROWS = 16384, /* of which the mean is taken, evenly spaced */
	BATCH = 64,         /* distances at once */
	STEPS = 12          /* scales tried for 4 bits */
};

typedef struct trailer {
	float scale, beta;
} trailer;

typedef struct query {
	float alpha, gamma;
	int32_t sum; /* of codes */
	float bend;  /* of a query that is one bit itself: see bent */
	float reserved[12];
	int8_t codes[];
} query;
_Static_assert(sizeof(query) == 64, "the codes of a query are aligned");

/* sum of products = times * kernel's sum - offset * sum of the query */
static const struct kind {
	int bits, times, offset, rotated;
	float range; /* the largest integer */
} kinds[RV_CODE_COUNT] = {
        [RV_CODE_SQ8] = {8, 1, 0, 0, 127},
        [RV_CODE_INT4] = {4, 2, 15, 1, 15},
        [RV_CODE_BINARY] = {1, 2, 1, 1, 1},
};

static const struct kind *kind_of(const rv_codec *c) {
	return &kinds[c->options.kind];
}

/* Where the trailer is. */
static size_t packed_bytes(const rv_codec_options *o) {
	const size_t bits = (size_t)o->dim * (size_t)kinds[o->kind].bits;
	return (bits + 31) / 32 * 4;
}

static size_t code_bytes(const rv_codec_options *o) {
	return packed_bytes(o) + sizeof(trailer);
}

static size_t query_bytes(const rv_codec_options *o) {
	return (sizeof(query) + (size_t)o->dim + 63) / 64 * 64;
}

static size_t n_learned(const rv_codec_options *o) {
	return (size_t)o->dim;
}

static trailer trailer_of(const rv_codec *c, const uint8_t *code) {
	trailer t;
	memcpy(&t, code + packed_bytes(&c->options), sizeof t);
	return t;
}

/* ---- learning ---- */

static rv_status learn(rv_codec *c, const float *x, int64_t n, float *mean, rv_threads *threads) {
	const int dim = c->options.dim;
	const int64_t step = (n + TRAIN_ROWS - 1) / TRAIN_ROWS, rows = (n + step - 1) / step;
	double *sum;
	float row[dim], square;
	(void)threads;
	RV_TRY(RV_ALLOC(&sum, dim, "mean of vectors"));
	for (int64_t r = 0; r < n; r += step) {
		c->options.kernels->dot_f32(&square, x + r * dim, x + r * dim, dim);
		rv_codec_scale_row(c, x + r * dim, square, row);
		for (int i = 0; i < dim; i++)
			sum[i] += (double)row[i];
	}
	for (int i = 0; i < dim; i++)
		mean[i] = (float)(sum[i] / (double)rows);
	rv_free(sum);
	return RV_OK;
}

static rv_status derive(rv_codec *c) {
	const size_t dim = (size_t)c->options.dim, n = RV_ROTATION_ROUNDS * dim;
	rv_rng rng;
	c->options.kernels->dot_f32(&c->mean_square, c->learned, c->learned, (int64_t)dim);
	if (!kind_of(c)->rotated)
		return RV_OK;
	RV_TRY(RV_ALLOC(&c->signs, n, "rotation"));
	rv_rng_seed(&rng, c->options.seed);
	for (size_t i = 0; i < n; i++)
		c->signs[i] = rv_rng_u64(&rng) >> 63 ? 1 : -1;
	return RV_OK;
}

/* ---- encoding ---- */

/* a = x - mean and what the metric wants of it; then a is rotated. */
static float centre(const rv_codec *c, const float *x, float *a) {
	const rv_kernels *k = c->options.kernels;
	const int dim = c->options.dim;
	float beta;
	for (int i = 0; i < dim; i++)
		a[i] = x[i] - c->learned[i];
	if (c->options.metric == RV_METRIC_L2) {
		k->dot_f32(&beta, a, a, dim);
	} else {
		k->dot_f32(&beta, a, c->learned, dim);
		beta = -beta;
	}
	if (c->signs)
		rv_rotate(c->signs, dim, a);
	return beta;
}

/* In lanes, so that the compiler can take several at once. */
static float largest(const float *a, int dim) {
	enum { LANES = 16 };
	float most[LANES] = {0}, all = 0;
	int i = 0;
	for (; i + LANES <= dim; i += LANES) {
		for (int l = 0; l < LANES; l++) {
			const float v = fabsf(a[i + l]);
			most[l] = v > most[l] ? v : most[l];
		}
	}
	for (int l = 0; i + l < dim; l++)
		most[l] = fabsf(a[i + l]) > most[l] ? fabsf(a[i + l]) : most[l];
	for (int l = 0; l < LANES; l++)
		all = most[l] > all ? most[l] : all;
	return all;
}

/* To nearest, ties to even, for |v| < 2^22: without a call on machines that have no instruction for it.
 */
static float rounded(float v) {
	const float shift = 0x1.8p23f;
	return (v + shift) - shift;
}

static float inverse_of(float unit) {
	return unit >= FLT_MIN ? 1 / unit : 0;
}

/* The integer of a kind that is nearest to v. */
static float nearest_integer(const struct kind *kind, float v) {
	const float range = kind->range;
	v = v > range ? range : v < -range ? -range : v;
	return kind->offset ? 2 * rounded(0.5f * (v - 1)) + 1 : rounded(v);
}

/* Nearest integers to a / unit, and the scale without bias; the squared error of unit c. */
static float nearest(const float *a, int dim, const struct kind *kind, float unit, int8_t *c,
                     float *scale) {
	const float inverse = inverse_of(unit);
	float aa = 0, ac = 0, error = 0;
	for (int i = 0; i < dim; i++) {
		const float v = nearest_integer(kind, a[i] * inverse), e = a[i] - unit * v;
		aa += a[i] * a[i];
		ac += a[i] * v;
		error += e * e;
		c[i] = (int8_t)v;
	}
	*scale = ac > 0 && isfinite(aa / ac) ? aa / ac : 0;
	return error;
}

/* The largest component takes the largest integer; with few integers, cutting off the largest ones may
 * serve the others better. */
static float integers(const float *a, int dim, const struct kind *kind, int8_t *c) {
	const float unit = largest(a, dim) / kind->range;
	float best = INFINITY, best_unit = unit, scale;
	for (int i = 0; kind->bits == 4 && i < STEPS; i++) {
		const float tried = unit * (1 - (float)i * (0.6f / STEPS));
		const float error = nearest(a, dim, kind, tried, c, &scale);
		if (error < best) {
			best = error;
			best_unit = tried;
		}
	}
	nearest(a, dim, kind, best_unit, c, &scale);
	return scale;
}

static void pack(const rv_codec *codec, const int8_t *c, uint8_t *code) {
	const int dim = codec->options.dim, half = (dim + 1) / 2;
	memset(code, 0, packed_bytes(&codec->options));
	switch (kind_of(codec)->bits) {
	case 8:
		memcpy(code, c, (size_t)dim);
		return;
	case 4:
		for (int i = 0; i < dim; i++) {
			const int u = (c[i] + 15) / 2;
			code[i < half ? i : i - half] |= (uint8_t)(i < half ? u : u << 4);
		}
		return;
	default:
		for (int i = 0; i < dim; i++)
			code[i / 8] |= (uint8_t)((c[i] > 0) << i % 8);
	}
}

static void unpack(const rv_codec *codec, const uint8_t *code, int8_t *c) {
	const int dim = codec->options.dim, half = (dim + 1) / 2;
	switch (kind_of(codec)->bits) {
	case 8:
		memcpy(c, code, (size_t)dim);
		return;
	case 4:
		for (int i = 0; i < half; i++)
			c[i] = (int8_t)(2 * (code[i] & 15) - 15);
		for (int i = half; i < dim; i++)
			c[i] = (int8_t)(2 * (code[i - half] >> 4) - 15);
		return;
	default:
		for (int i = 0; i < dim; i++)
			c[i] = (int8_t)(2 * (code[i / 8] >> i % 8 & 1) - 1);
	}
}

static void encode(const rv_codec *codec, const float *x, uint8_t *code, float *work) {
	const int dim = codec->options.dim;
	int8_t *c = (int8_t *)(work + dim);
	trailer t;
	t.beta = centre(codec, x, work);
	t.scale = integers(work, dim, kind_of(codec), c);
	pack(codec, c, code);
	memcpy(code + packed_bytes(&codec->options), &t, sizeof t);
}

static void decode(const rv_codec *codec, const uint8_t *code, float *x) {
	const int dim = codec->options.dim;
	/* a sign alone: the scale without bias is too long by what the sign misses */
	const float shrink = kind_of(codec)->bits == 1 ? (float)M_2_PI : 1;
	const float scale = trailer_of(codec, code).scale * shrink;
	int8_t c[dim];
	unpack(codec, code, c);
	for (int i = 0; i < dim; i++)
		x[i] = scale * (float)c[i];
	if (codec->signs)
		rv_rotate_back(codec->signs, dim, x);
	for (int i = 0; i < dim; i++)
		x[i] += codec->learned[i];
}

static int code_ok(const rv_codec *codec, const uint8_t *code) {
	const trailer t = trailer_of(codec, code);
	if (!isfinite(t.scale) || t.scale < 0 || !isfinite(t.beta))
		return 0;
	for (int i = 0; kind_of(codec)->bits == 8 && i < codec->options.dim; i++) {
		if ((int8_t)code[i] == -128) /* beyond what the products take */
			return 0;
	}
	return 1;
}

/* ---- distances ---- */

static float gamma_of(const rv_codec *c) {
	return c->options.metric == RV_METRIC_L2 ? -2 : -1;
}

/* What two vectors' betas lack to a distance. */
static float constant(const rv_codec *c) {
	return c->options.metric == RV_METRIC_L2       ? 0
	       : c->options.metric == RV_METRIC_COSINE ? 1 - c->mean_square
	                                               : -c->mean_square;
}

static int32_t sum_of(const int8_t *c, int dim) {
	int32_t sum = 0;
	for (int i = 0; i < dim; i++)
		sum += c[i];
	return sum;
}

/* aq and ax meet in -mean q = -|mean|^2 - mean aq, so that a query's beta is used like a code's. */
static void prepare(const rv_codec *codec, const float *x, void *prepared, float *work) {
	const int dim = codec->options.dim;
	query *q = prepared;
	*q = (query){.alpha = constant(codec) + centre(codec, x, work)};
	const float unit = largest(work, dim) / 127, inverse = inverse_of(unit);
	q->gamma = gamma_of(codec) * unit;
	for (int i = 0; i < dim; i++)
		q->codes[i] = (int8_t)nearest_integer(&kinds[RV_CODE_SQ8], work[i] * inverse);
	q->sum = sum_of(q->codes, dim);
}

static float bend_of(const rv_codec *codec) {
	return kind_of(codec)->bits == 1 ? (float)M_2_PI * (float)codec->options.dim : 0;
}

static void prepare_code(const rv_codec *codec, const uint8_t *code, void *prepared, float *work) {
	const trailer t = trailer_of(codec, code);
	query *q = prepared;
	(void)work;
	*q = (query){.alpha = constant(codec) + t.beta, .gamma = gamma_of(codec) * t.scale};
	q->bend = bend_of(codec);
	unpack(codec, code, q->codes);
	q->sum = sum_of(q->codes, codec->options.dim);
}

/* Signs on both sides: their products' mean is not the cosine of the angle, but 1 - 2 angle / pi. */
static float bent(float sum, float bend) {
	return bend > 0 ? bend * sinf(sum / bend) : sum;
}

static void distances(const rv_codec *codec, const void *prepared, const uint8_t *const *codes,
                      int64_t n, float *out) {
	const rv_kernels *k = codec->options.kernels;
	const struct kind *kind = kind_of(codec);
	const size_t at = packed_bytes(&codec->options);
	const query *q = prepared;
	const int dim = codec->options.dim, less = kind->offset * q->sum;
	int32_t sums[BATCH];
	for (int64_t i = 0; i < n; i += BATCH) {
		const int m = n - i < BATCH ? (int)(n - i) : BATCH;
		if (kind->bits == 8)
			k->dot_rows_i8(sums, q->codes, (const int8_t *const *)(codes + i), m, dim);
		else if (kind->bits == 4)
			k->dot_rows_i4(sums, q->codes, codes + i, m, dim);
		else
			k->dot_rows_b1(sums, q->codes, codes + i, m, dim);
		for (int j = 0; j < m; j++) {
			trailer t;
			memcpy(&t, codes[i + j] + at, sizeof t);
			const float sum = bent((float)(kind->times * sums[j] - less), q->bend);
			out[i + j] = (q->alpha + t.beta) + (q->gamma * t.scale) * sum;
		}
	}
}

static float code_distance(const rv_codec *codec, const uint8_t *a, const uint8_t *b) {
	const rv_kernels *k = codec->options.kernels;
	const int dim = codec->options.dim;
	const trailer ta = trailer_of(codec, a), tb = trailer_of(codec, b);
	int32_t sum = 0;
	if (kind_of(codec)->bits == 8) {
		k->dot_i8(&sum, (const int8_t *)a, (const int8_t *)b, dim);
	} else if (kind_of(codec)->bits == 1) {
		k->hamming(&sum, a, b, (dim + 7) / 8);
		sum = dim - 2 * sum;
	} else {
		int8_t ca[dim], cb[dim];
		unpack(codec, a, ca);
		unpack(codec, b, cb);
		k->dot_i8(&sum, ca, cb, dim);
	}
	return constant(codec) + (ta.beta + tb.beta) +
	       (gamma_of(codec) * (ta.scale * tb.scale)) * bent((float)sum, bend_of(codec));
}

const rv_codec_kind rv_codec_linear = {
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
