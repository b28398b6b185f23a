#include "memory/hnsw_sketch.h"

#include "base/mem.h"
#include "base/rng.h"
#include "base/vm.h"

#include <math.h>
#include <string.h>

#define LINE_BYTES 64
#define HUGE_BYTES ((size_t)2 << 20)
#define ITERATIONS 4
/* What rounding may change, of norm_x norm_y: sums of f32 over all components, the basis' being
 * orthonormal only so far. */
#define MARGIN 3e-5
/* Two lines where one leaves more of the squared length out than this, none where two leave this. */
#define BEYOND_ONE 0.06
#define BEYOND_TWO 0.6

/* ---- the basis ---- */

typedef struct training {
	int64_t n, dim, k;
	float *x, *xt; /* [n, dim] and [dim, n]: the sample, each of length 1 */
	float *v;      /* [k, dim] */
	float *yt;     /* [k, n]: v x^T */
	double *row;   /* [dim] */
} training;

static void training_deinit(training *t) {
	rv_free(t->x);
	rv_free(t->xt);
	rv_free(t->v);
	rv_free(t->yt);
	rv_free(t->row);
}

static rv_status training_init(training *t, const float *vectors, int64_t stride, uint64_t seed) {
	RV_TRY(RV_ALLOC(&t->x, t->n * t->dim, "sketch sample"));
	RV_TRY(RV_ALLOC(&t->xt, t->n * t->dim, "sketch sample"));
	RV_TRY(RV_ALLOC(&t->v, t->k * t->dim, "sketch basis"));
	RV_TRY(RV_ALLOC(&t->yt, t->k * t->n, "sketch basis"));
	RV_TRY(RV_ALLOC(&t->row, t->dim, "sketch basis"));
	for (int64_t i = 0; i < t->n; i++) {
		const float *vector = vectors + i * stride;
		double sum = 0;
		for (int64_t d = 0; d < t->dim; d++)
			sum += (double)vector[d] * (double)vector[d];
		const double scale = sum > 0 ? 1 / sqrt(sum) : 0;
		for (int64_t d = 0; d < t->dim; d++)
			t->xt[d * t->n + i] = t->x[i * t->dim + d] = (float)((double)vector[d] * scale);
	}
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	for (int64_t i = 0; i < t->k * t->dim; i++)
		t->v[i] = (float)rv_rng_normal(&rng);
	return RV_OK;
}

/* Makes row r of v orthogonal to those before it and of length 1, twice over: once leaves what rounding
 * lost. A row that vanishes stays zero: it codes nothing. */
static void orthonormalise(training *t, int64_t r) {
	float *v = t->v + r * t->dim;
	for (int turn = 0; turn < 2; turn++) {
		for (int64_t d = 0; d < t->dim; d++)
			t->row[d] = (double)v[d];
		for (int64_t p = 0; p < r; p++) {
			const float *u = t->v + p * t->dim;
			double dot = 0;
			for (int64_t d = 0; d < t->dim; d++)
				dot += (double)v[d] * (double)u[d];
			for (int64_t d = 0; d < t->dim; d++)
				t->row[d] -= dot * (double)u[d];
		}
		double sum = 0;
		for (int64_t d = 0; d < t->dim; d++)
			sum += t->row[d] * t->row[d];
		const double scale = sum > 1e-20 ? 1 / sqrt(sum) : 0;
		for (int64_t d = 0; d < t->dim; d++)
			v[d] = (float)(t->row[d] * scale);
	}
}

/* Orthogonal iteration: v becomes the leading directions, in their order, as far as it matters. */
static void iterate(training *t, const rv_kernels *kernels) {
	for (int turn = 0;; turn++) {
		for (int64_t r = 0; r < t->k; r++)
			orthonormalise(t, r);
		kernels->gemm(t->yt, t->n, t->v, t->dim, t->xt, t->n, t->k, t->n, t->dim);
		if (turn == ITERATIONS)
			return;
		kernels->gemm(t->v, t->dim, t->yt, t->n, t->x, t->dim, t->k, t->dim, t->n);
	}
}

/* The mean part of the squared length that the first k directions leave out. */
static double beyond(const training *t, int64_t k) {
	double sum = 0;
	for (int64_t i = 0; i < k * t->n; i++)
		sum += (double)t->yt[i] * (double)t->yt[i];
	return 1 - sum / (double)t->n;
}

static int dims_of_lines(int lines) {
	return lines * LINE_BYTES - (int)sizeof(rv_sketch_tail);
}

/* ---- the object ---- */

static size_t rows_bytes(const rv_sketch *sketch) {
	const size_t bytes = (size_t)(sketch->capacity * sketch->row_bytes);
	return (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
}

static rv_status make(rv_sketch **out, const training *t, int lines, int64_t stride, int64_t capacity,
                      const rv_kernels *kernels) {
	rv_sketch *sketch;
	RV_TRY(RV_ALLOC(&sketch, 1, "sketch"));
	*sketch = (rv_sketch){.dims = dims_of_lines(lines),
	                      .row_bytes = lines * LINE_BYTES,
	                      .dim = t->dim,
	                      .stride = stride,
	                      .capacity = capacity,
	                      .kernels = kernels};
	rv_status status = RV_ALLOC(&sketch->basis, sketch->dims * stride, "sketch basis");
	if (status == RV_OK)
		status = rv_vm_alloc_aligned((void **)&sketch->rows, rows_bytes(sketch), HUGE_BYTES,
		                             "sketches");
	if (status != RV_OK) {
		rv_sketch_destroy(sketch);
		return status;
	}
	for (int64_t r = 0; r < sketch->dims && r < t->k; r++)
		memcpy(sketch->basis + r * stride, t->v + r * t->dim, (size_t)t->dim * sizeof *t->v);
	*out = sketch;
	return RV_OK;
}

rv_status rv_sketch_create(rv_sketch **out, const float *vectors, int64_t n, int64_t dim,
                           int64_t stride, int64_t capacity, uint64_t seed, const rv_kernels *kernels) {
	*out = NULL;
	const int two = dims_of_lines(2);
	training t = {.n = n, .dim = dim, .k = dim < two ? dim : two};
	rv_status status = training_init(&t, vectors, stride, seed);
	if (status == RV_OK) {
		iterate(&t, kernels);
		const int one = dims_of_lines(1);
		const int lines = t.k <= one || beyond(&t, one) < BEYOND_ONE ? 1
		                  : beyond(&t, t.k) < BEYOND_TWO             ? 2
		                                                             : 0;
		if (lines)
			status = make(out, &t, lines, stride, capacity, kernels);
	}
	training_deinit(&t);
	return status;
}

void rv_sketch_destroy(rv_sketch *sketch) {
	if (!sketch)
		return;
	rv_free(sketch->basis);
	if (sketch->rows)
		rv_vm_free(sketch->rows, rows_bytes(sketch));
	rv_free(sketch);
}

/* ---- rows ---- */

static rv_bf16 bf16_up(double x) {
	const rv_bf16 b = rv_f32_to_bf16((float)x);
	return (double)rv_bf16_to_f32(b) < x ? (rv_bf16)(b + 1) : b;
}

void rv_sketch_encode(const rv_sketch *sketch, const float *x, uint8_t *row) {
	float part[RV_SKETCH_ROW_MAX];
	float norm2;
	sketch->kernels->dot_f32(&norm2, x, x, sketch->stride);
	sketch->kernels->type[RV_F32].matmul[RV_LAYOUT_GGML](part, 1, sketch->basis,
	                                                     (size_t)sketch->stride * sizeof *x, x, 0,
	                                                     sketch->stride, sketch->dims, 1);
	float max = 0;
	double inside = 0;
	for (int i = 0; i < sketch->dims; i++) {
		max = fabsf(part[i]) > max ? fabsf(part[i]) : max;
		inside += (double)part[i] * (double)part[i];
	}
	const float scale = max / 127, inverse = max > 1e-30f ? 127 / max : 0;
	double error2 = 0;
	for (int i = 0; i < sketch->dims; i++) {
		const float code = rintf(part[i] * inverse);
		const double left = (double)part[i] - (double)code * (double)scale;
		error2 += left * left;
		row[i] = (uint8_t)(int8_t)code;
	}
	const double norm = sqrt((double)norm2), rest2 = (double)norm2 - inside;
	const rv_sketch_tail tail = {
	        .scale = scale,
	        .norm = (float)norm,
	        .error = bf16_up(sqrt(error2) + MARGIN * norm),
	        .beyond = bf16_up(sqrt((rest2 > 0 ? rest2 : 0) + MARGIN * (double)norm2)),
	};
	memcpy(row + sketch->dims, &tail, sizeof tail);
}

/* ---- bounds ---- */

void rv_sketch_bound(const rv_sketch *sketch, rv_metric metric, const uint8_t *row,
                     const uint32_t *slots, int64_t n, const rv_sketch_bounds *out) {
	const int dims = sketch->dims;
	for (int64_t i = 0; i < n; i++)
		out->codes[i] = (const int8_t *)rv_sketch_row(sketch, slots[i]);
	sketch->kernels->dot_rows_i8(out->sums, (const int8_t *)row, out->codes, n, dims);
	rv_sketch_tail q;
	memcpy(&q, row + dims, sizeof q);
	const float error = rv_bf16_to_f32(q.error), beyond_q = rv_bf16_to_f32(q.beyond);
	for (int64_t i = 0; i < n; i++) {
		rv_sketch_tail x;
		memcpy(&x, out->codes[i] + dims, sizeof x);
		const float dot = q.scale * x.scale * (float)out->sums[i];
		const float error_x = rv_bf16_to_f32(x.error);
		const float slack = error * (x.norm + error_x) + q.norm * error_x +
		                    beyond_q * rv_bf16_to_f32(x.beyond);
		/* l2 = |q|^2 + |x|^2 - 2 q x */
		const float factor = metric == RV_METRIC_L2 ? 2 : 1;
		float base = metric == RV_METRIC_COSINE ? 1 : 0, rounding = 0;
		if (metric == RV_METRIC_L2) {
			base = q.norm * q.norm + x.norm * x.norm;
			rounding = 4e-6f * base;
		}
		out->lower[i] = base - factor * (dot + slack) - rounding;
		if (out->upper)
			out->upper[i] = base - factor * (dot - slack) + rounding;
	}
}
