/* Vector codes: what all kinds share. */
#include "memory/codec_internal.h"

#include "base/mem.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { ENCODE_GRAIN = 64 }; /* rows a thread takes at once */

static const char *const names[RV_CODE_COUNT] = {
#define X(id, name) [RV_CODE_##id] = name,
        RV_CODE_TABLE(X)
#undef X
};

const char *rv_code_name(rv_code_kind kind) {
	return (unsigned)kind < RV_CODE_COUNT ? names[kind] : "unknown";
}

rv_code_kind rv_code_by_name(const char *name) {
	for (int i = 0; name && i < RV_CODE_COUNT; i++) {
		if (strcasecmp(name, names[i]) == 0)
			return (rv_code_kind)i;
	}
	return RV_CODE_COUNT;
}

rv_codec_options rv_codec_defaults(void) {
	return (rv_codec_options){.kind = RV_CODE_SQ8, .metric = RV_METRIC_COSINE};
}

/* The number of sub-spaces whose vectors have at least 8 components, as near to 8 as divides dim. */
static int default_pq_m(int dim) {
	int width = dim < 8 ? dim : 8;
	while (dim % width)
		width++;
	return dim / width;
}

rv_status rv_codec_create(rv_codec **out, const rv_codec_options *options) {
	const rv_codec_options *o = options;
	rv_codec *c;
	*out = NULL;
	if ((unsigned)o->kind >= RV_CODE_COUNT || (unsigned)o->metric >= RV_METRIC_COUNT)
		return rv_fail(RV_ERR_INVALID, "codec: unknown kind %d or metric %d", (int)o->kind,
		               (int)o->metric);
	if (o->dim < 1 || o->dim > RV_CODEC_MAX_DIM)
		return rv_fail(RV_ERR_INVALID, "codec: dim %d is not in 1..%d", o->dim,
		               RV_CODEC_MAX_DIM);
	if (o->kind == RV_CODE_PQ && o->pq_m && (o->pq_m < 0 || o->dim % o->pq_m))
		return rv_fail(RV_ERR_INVALID, "codec: %d sub-spaces do not divide dim %d", o->pq_m,
		               o->dim);
	RV_TRY(RV_ALLOC(&c, 1, "codec"));
	c->options = *o;
	c->kind = o->kind == RV_CODE_PQ ? &rv_codec_pq : &rv_codec_linear;
	c->options.pq_m = o->kind != RV_CODE_PQ ? 0 : o->pq_m ? o->pq_m : default_pq_m(o->dim);
	if (!c->options.kernels)
		c->options.kernels = rv_kernels_for(rv_level_best());
	*out = c;
	return RV_OK;
}

static void forget(rv_codec *c) {
	rv_free(c->learned);
	rv_free(c->signs);
	rv_free(c->columns);
	rv_free(c->halves);
}

void rv_codec_destroy(rv_codec *codec) {
	if (!codec)
		return;
	forget(codec);
	rv_free(codec);
}

const rv_codec_options *rv_codec_get_options(const rv_codec *codec) {
	return &codec->options;
}

int rv_codec_is_trained(const rv_codec *codec) {
	return codec->learned != NULL;
}

size_t rv_codec_code_bytes(const rv_codec *codec) {
	return codec->kind->code_bytes(&codec->options);
}

size_t rv_codec_query_bytes(const rv_codec *codec) {
	return codec->kind->query_bytes(&codec->options);
}

/* ---- rows ---- */

rv_status rv_codec_check_row(const rv_codec *c, const float *x, int64_t row, float *square) {
	const rv_codec_options *o = &c->options;
	char where[32] = "vector";
	if (row >= 0)
		snprintf(where, sizeof where, "row %lld", (long long)row);
	o->kernels->dot_f32(square, x, x, o->dim);
	if (!isfinite(*square)) {
		for (int i = 0; i < o->dim; i++) {
			if (!isfinite(x[i]))
				return rv_fail(RV_ERR_NUMERIC, "codec: %s: component %d is not finite",
				               where, i);
		}
		return rv_fail(RV_ERR_NUMERIC, "codec: %s: too long", where);
	}
	if (o->metric == RV_METRIC_COSINE && *square < FLT_MIN)
		return rv_fail(RV_ERR_NUMERIC, "codec: %s: no direction, its length is 0", where);
	return RV_OK;
}

void rv_codec_scale_row(const rv_codec *c, const float *x, float square, float *out) {
	const float scale = c->options.metric == RV_METRIC_COSINE ? 1 / sqrtf(square) : 1;
	for (int i = 0; i < c->options.dim; i++)
		out[i] = x[i] * scale;
}

static rv_status need_trained(const rv_codec *c) {
	return c->learned ? RV_OK
	                  : rv_fail(RV_ERR_INVALID, "codec %s: not trained",
	                            rv_code_name(c->options.kind));
}

/* ---- training ---- */

typedef struct check_job {
	const rv_codec *codec;
	const float *x;
} check_job;

static rv_status check_rows(void *arg, int64_t begin, int64_t end, int thread) {
	const check_job *job = arg;
	float square;
	(void)thread;
	for (int64_t i = begin; i < end; i++)
		RV_TRY(rv_codec_check_row(job->codec, job->x + i * job->codec->options.dim, i,
		                          &square));
	return RV_OK;
}

static rv_status for_rows(rv_threads *threads, int64_t n, rv_work_fn *fn, void *job) {
	return threads ? rv_threads_for(threads, n, ENCODE_GRAIN, fn, job) : fn(job, 0, n, 0);
}

rv_status rv_codec_train(rv_codec *codec, const float *x, int64_t n, rv_threads *threads) {
	const size_t n_learned = codec->kind->n_learned(&codec->options);
	check_job job = {codec, x};
	rv_codec next = {.options = codec->options, .kind = codec->kind};
	if (n < (codec->options.kind == RV_CODE_PQ ? RV_PQ_CENTROIDS : 1))
		return rv_fail(RV_ERR_INVALID, "codec %s: %lld vectors are too few to learn from",
		               rv_code_name(codec->options.kind), (long long)n);
	RV_TRY(for_rows(threads, n, check_rows, &job));
	RV_TRY(RV_ALLOC(&next.learned, n_learned, "learned part of a codec"));
	rv_status status = codec->kind->learn(&next, x, n, next.learned, threads);
	if (status == RV_OK)
		status = codec->kind->derive(&next);
	if (status != RV_OK) {
		forget(&next);
		return status;
	}
	forget(codec);
	*codec = next;
	return RV_OK;
}

/* ---- encoding ---- */

typedef struct encode_job {
	const rv_codec *codec;
	const float *x;
	uint8_t *codes;
	float *work; /* [threads, 3 dim] */
} encode_job;

static rv_status encode_rows(void *arg, int64_t begin, int64_t end, int thread) {
	const encode_job *job = arg;
	const rv_codec *c = job->codec;
	const size_t dim = (size_t)c->options.dim, bytes = rv_codec_code_bytes(c);
	float *row = job->work + (size_t)thread * 3 * dim, square;
	for (int64_t i = begin; i < end; i++) {
		const float *x = job->x + (size_t)i * dim;
		RV_TRY(rv_codec_check_row(c, x, i, &square));
		rv_codec_scale_row(c, x, square, row);
		c->kind->encode(c, row, job->codes + (size_t)i * bytes, row + dim);
	}
	return RV_OK;
}

rv_status rv_codec_encode_batch(const rv_codec *codec, const float *x, int64_t n, uint8_t *codes,
                                rv_threads *threads) {
	const int n_threads = threads ? rv_threads_count(threads) : 1;
	check_job check = {codec, x};
	encode_job job = {codec, x, codes, NULL};
	RV_TRY(need_trained(codec));
	RV_TRY(for_rows(threads, n, check_rows, &check));
	RV_TRY(RV_ALLOC(&job.work, (size_t)n_threads * 3 * (size_t)codec->options.dim,
	                "rows to encode"));
	rv_status status = for_rows(threads, n, encode_rows, &job);
	rv_free(job.work);
	return status;
}

rv_status rv_codec_encode(const rv_codec *codec, const float *x, uint8_t *code) {
	const size_t dim = (size_t)codec->options.dim;
	float work[3 * dim], square;
	RV_TRY(need_trained(codec));
	RV_TRY(rv_codec_check_row(codec, x, -1, &square));
	rv_codec_scale_row(codec, x, square, work);
	codec->kind->encode(codec, work, code, work + dim);
	return RV_OK;
}

void rv_codec_decode(const rv_codec *codec, const uint8_t *code, float *x) {
	codec->kind->decode(codec, code, x);
}

rv_status rv_codec_check_code(const rv_codec *codec, const uint8_t *code) {
	RV_TRY(need_trained(codec));
	return codec->kind->code_ok(codec, code)
	               ? RV_OK
	               : rv_fail(RV_ERR_FORMAT, "codec %s: bytes that are no code",
	                         rv_code_name(codec->options.kind));
}

/* ---- distances ---- */

rv_status rv_codec_prepare(const rv_codec *codec, const float *query, void *prepared) {
	const size_t dim = (size_t)codec->options.dim;
	float work[3 * dim], square;
	RV_TRY(need_trained(codec));
	RV_TRY(rv_codec_check_row(codec, query, -1, &square));
	rv_codec_scale_row(codec, query, square, work);
	codec->kind->prepare(codec, work, prepared, work + dim);
	return RV_OK;
}

rv_status rv_codec_prepare_code(const rv_codec *codec, const uint8_t *code, void *prepared) {
	float work[codec->options.dim];
	RV_TRY(need_trained(codec));
	codec->kind->prepare_code(codec, code, prepared, work);
	return RV_OK;
}

float rv_codec_distance(const rv_codec *codec, const void *prepared, const uint8_t *code) {
	float distance;
	codec->kind->distances(codec, prepared, &code, 1, &distance);
	return distance;
}

void rv_codec_distances(const rv_codec *codec, const void *prepared, const uint8_t *const *codes,
                        int64_t n, float *out) {
	codec->kind->distances(codec, prepared, codes, n, out);
}

float rv_codec_code_distance(const rv_codec *codec, const uint8_t *a, const uint8_t *b) {
	return codec->kind->code_distance(codec, a, b);
}
