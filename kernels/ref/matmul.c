/* Products of quantized weights with quantized activations, and of any weights with f32 activations.
 *
 * Order of summation, the same for every row and token count:
 *   blocks of 32:   whole-number sum of the block, then acc += (d da) isum [+ m s], blocks ascending
 *   blocks of 256:  whole-number sums weighted by the sub-block scales, then
 *                   acc += (d da) isum - (dmin da) msum, blocks ascending
 *   f32 activations: one double accumulator, elements ascending */
#include "kernels/kernels_internal.h"
#include "kernels/ref/unpack.h"

#include <string.h>

/* One row of weights against one row of activations. */
typedef float dot_fn(const void *w, const void *a, int64_t k);

static void each_output(float *y, int64_t ldy, const void *w, size_t w_stride, const void *a,
                        size_t a_stride, int64_t k, int64_t rows, int64_t n_tok, dot_fn *dot) {
	for (int64_t t = 0; t < n_tok; t++) {
		for (int64_t r = 0; r < rows; r++) {
			const char *wr = (const char *)w + (size_t)r * w_stride;
			const char *at = (const char *)a + (size_t)t * a_stride;
			y[t * ldy + r] = dot(wr, at, k);
		}
	}
}

#define MATMUL(type, name, dot)                                                                        \
	void rv_##name##_##type##_ref(float *y, int64_t ldy, const void *w, size_t w_stride,           \
	                              const void *a, size_t a_stride, int64_t k, int64_t rows,         \
	                              int64_t n_tok) {                                                 \
		each_output(y, ldy, w, w_stride, a, a_stride, k, rows, n_tok, dot);                    \
	}

/* ---- quantized activations ---- */

static float dot32(const rv_block32 *w, const int8_t *a, float da, float sa) {
	int32_t isum = 0;
	for (int i = 0; i < RV_QK; i++) {
		isum += w->q[i] * a[i];
	}
	return w->d * da * (float)isum + w->m * sa;
}

#define DOT32(type, has_min)                                                                           \
	static float dot_##type(const void *w, const void *a, int64_t k) {                             \
		const float *d = (const float *)((const char *)a + rv_act_scale_offset(k));            \
		const float *s = d + k / RV_QK;                                                        \
		float acc = 0;                                                                         \
		rv_block32 b;                                                                          \
		for (int64_t i = 0; i < k / RV_QK; i++) {                                              \
			rv_unpack_##type(&b, (const rv_##type *)w + i);                                \
			acc += dot32(&b, (const int8_t *)a + i * RV_QK, d[i], has_min ? s[i] : 0);     \
		}                                                                                      \
		return acc;                                                                            \
	}                                                                                              \
	MATMUL(type, matmul, dot_##type)
RV_EACH_BLOCK32_TYPE(DOT32)

static float dot256(const rv_block256 *w, const int8_t *a, float da, const int16_t *bsum) {
	int32_t isum = 0, msum = 0;
	for (int j = 0; j < 16; j++) {
		int32_t sub = 0;
		for (int i = 16 * j; i < 16 * j + 16; i++) {
			sub += w->q[i] * a[i];
		}
		isum += w->scale[j] * sub;
		msum += w->min[j] * bsum[j];
	}
	return w->d * da * (float)isum - w->dmin * da * (float)msum;
}

#define DOT256(type)                                                                                   \
	static float dot_##type(const void *w, const void *a, int64_t k) {                             \
		const float *d = (const float *)((const char *)a + rv_act_scale_offset(k));            \
		const int16_t *bsum = (const int16_t *)(d + k / RV_QKK);                               \
		float acc = 0;                                                                         \
		rv_block256 b;                                                                         \
		for (int64_t i = 0; i < k / RV_QKK; i++) {                                             \
			rv_unpack_##type(&b, (const rv_##type *)w + i);                                \
			acc += dot256(&b, (const int8_t *)a + i * RV_QKK, d[i], bsum + i * 16);        \
		}                                                                                      \
		return acc;                                                                            \
	}                                                                                              \
	MATMUL(type, matmul, dot_##type)
RV_EACH_BLOCK256_TYPE(DOT256)

/* ---- f32 activations ---- */

static float dot_float(const void *w, const void *a, int64_t k, rv_dequantize_fn *decode, int elems,
                       size_t bytes) {
	float block[RV_QKK];
	const float *x = a;
	double acc = 0;
	for (int64_t i = 0; i < k; i += elems) {
		decode(block, (const char *)w + (size_t)(i / elems) * bytes, elems);
		for (int64_t j = 0; j < elems; j++) {
			acc += (double)block[j] * (double)x[i + j];
		}
	}
	return (float)acc;
}

#define DOT_FLOAT(NAME, type)                                                                          \
	static float dot_float_##type(const void *w, const void *a, int64_t k) {                       \
		return dot_float(w, a, k, rv_dequantize_##type##_ref, ELEMS_##NAME, BYTES_##NAME);     \
	}                                                                                              \
	MATMUL(type, matmul_float, dot_float_##type)

enum {
#define RV_TYPE(name, id, elems, bytes, act) ELEMS_##name = elems, BYTES_##name = bytes,
#include "kernels/types.def"
#undef RV_TYPE
};
RV_EACH_TYPE(DOT_FLOAT)

/* The unquantized types have the same product in both places. */
MATMUL(f32, matmul, dot_float_f32)
MATMUL(f16, matmul, dot_float_f16)
MATMUL(bf16, matmul, dot_float_bf16)
