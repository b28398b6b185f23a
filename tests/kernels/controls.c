/* Negative controls: kernels broken in one way each. A checker that lets one pass is broken itself. */
#include "kernels/kv_codes.h"
#include "tests/kernels/harness.h"

#include <math.h>
#include <string.h>

#define MATMUL_PARAMS                                                                                  \
	float *y, int64_t ldy, const void *w, size_t w_stride, const void *a, size_t a_stride,         \
	        int64_t k, int64_t rows, int64_t n_tok
#define MATMUL_ARGS y, ldy, w, w_stride, a, a_stride, k, rows, n_tok

static void matmul_zero(MATMUL_PARAMS) {
	rv_matmul_q4_k_ref(MATMUL_ARGS);
	for (int64_t i = 0; i < n_tok; i++) {
		memset(y + i * ldy, 0, (size_t)rows * sizeof *y);
	}
}

static void matmul_perturbed(MATMUL_PARAMS) {
	rv_matmul_q4_k_ref(MATMUL_ARGS);
	if (rows > 2 && n_tok > 3) {
		y[3 * ldy + 2] *= 1.01f;
	}
}

static void matmul_nan(MATMUL_PARAMS) {
	rv_matmul_q4_k_ref(MATMUL_ARGS);
	if (rows && n_tok) {
		y[(n_tok - 1) * ldy + rows - 1] = NAN;
	}
}

static void matmul_unwritten(MATMUL_PARAMS) {
	rv_matmul_q4_k_ref(y, ldy, w, w_stride, a, a_stride, k, rows > 16 ? 16 : rows, n_tok);
}

static void matmul_gap(MATMUL_PARAMS) {
	rv_matmul_q4_k_ref(MATMUL_ARGS);
	if (n_tok > 1 && ldy > rows) {
		y[rows] = 0;
	}
}

/* Sums single elements upwards alone, downwards in company: each within tolerance. */
static void matmul_order(MATMUL_PARAMS) {
	const float *x = a;
	for (int64_t i = 0; i < n_tok; i++) {
		for (int64_t r = 0; r < rows; r++) {
			float acc = 0;
			for (int64_t j = 0; j < k; j++) {
				int64_t at = n_tok > 1 ? k - 1 - j : j;
				float wj;
				memcpy(&wj, (const char *)w + (size_t)r * w_stride + 4 * at, sizeof wj);
				acc += wj *
				       ((const float *)((const char *)x + (size_t)i * a_stride))[at];
			}
			y[i * ldy + r] = acc;
		}
	}
}

static void matmul_hides_nan(MATMUL_PARAMS) {
	rv_matmul_q8_0_ref(MATMUL_ARGS);
	for (int64_t i = 0; i < n_tok; i++) {
		for (int64_t r = 0; r < rows; r++) {
			y[i * ldy + r] = isnan(y[i * ldy + r]) ? 0 : y[i * ldy + r];
		}
	}
}

static void add_past_output(float *y, const float *x, int64_t n) {
	rv_add_ref(y, x, n);
	((volatile float *)y)[n] = 1;
}

static void add_past_input(float *y, const float *x, int64_t n) {
	for (int64_t i = n; i < (n + 7) / 8 * 8; i++) {
		(void)((const volatile float *)x)[i];
	}
	rv_add_ref(y, x, n);
}

static void add_before_input(float *y, const float *x, int64_t n) {
	(void)((const volatile float *)x)[-1];
	rv_add_ref(y, x, n);
}

static void add_changes_input(float *y, const float *x, int64_t n) {
	rv_add_ref(y, x, n);
	if (n > 0) {
		((float *)(uintptr_t)x)[n - 1] += 1;
	}
}

/* Adds in an order that depends on the length. */
static void softmax_order(float *x, int64_t n) {
	float max = -INFINITY, sum = 0;
	for (int64_t i = 0; i < n; i++) {
		max = x[i] > max ? x[i] : max;
	}
	for (int64_t i = 0; i < n; i++) {
		x[i] = max == -INFINITY ? 0 : expf(x[i] - max);
	}
	for (int64_t lane = 0; lane < 1 + n % 5; lane++) {
		float part = 0;
		for (int64_t i = lane; i < n; i += 1 + n % 5) {
			part += x[i];
		}
		sum += part;
	}
	for (int64_t i = 0; i < n; i++) {
		x[i] = sum == 0 ? 0 : x[i] / sum;
	}
}

static void gemm_order(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb,
                       int64_t m, int64_t n, int64_t k) {
	rv_gemm_ref(c, ldc, a, lda, b, ldb, m, n, k);
	for (int64_t i = 0; i < m && n % 8; i++) {
		float acc = 0;
		for (int64_t l = k - 1; l >= 0; l--) {
			acc = fmaf(a[i * lda + l], b[l * ldb + n - 1], acc);
		}
		c[i * ldc + n - 1] = acc;
	}
}

static void dequantize_fused_wrong(float *y, const void *x, int64_t n) {
	rv_dequantize_q6_k_ref(y, x, n);
	for (int64_t i = 0; i < n; i++) {
		y[i] = nextafterf(y[i], 0);
	}
}

static void act_half_up(void *y, const float *x, int64_t k) {
	rv_quantize_act_q8_ref(y, x, k);
	if (k > 40) {
		((int8_t *)y)[40] ^= 1;
	}
}

static void load_all_columns(float *kt, const void *src, size_t stride, int64_t n, int64_t head_dim) {
	rv_kv_load_keys_f16_ref(kt, src, stride, n, head_dim);
	if (n < RV_ATTN_BLOCK && head_dim > 1) {
		kt[n] = 0;
	}
}

static void store_one_code_off(void *dst, const float *src, int64_t head_dim) {
	rv_kv_store_q2_ref(dst, src, head_dim);
	((unsigned char *)dst)[rv_kv_row_bytes(RV_KV_Q2, head_dim) - 1] ^= 1;
}

static void load_without_minimum(float *v, const void *src, size_t stride, int64_t n,
                                 int64_t head_dim) {
	rv_kv_load_values_q4_ref(v, src, stride, n, head_dim);
	for (int64_t i = 0; i < n; i++) {
		rv_f16 minimum;
		memcpy(&minimum, (const char *)src + (size_t)i * stride + 2, sizeof minimum);
		v[i * head_dim] -= rv_f16_to_f32(minimum);
	}
}

static double half_the_products(int64_t steps) {
	return rv_peak_int8_ref.run(steps / 2);
}
static const rv_peak peak_half_done = {half_the_products, 12};

/* Attention to a block in which each query with n keys sees change(n). */
static void attend_with(float *o, float *max, float *sum, const float *q, const float *kt,
                        const float *v, const int32_t *n_keys, int64_t n_q, int64_t head_dim,
                        int32_t change(int32_t)) {
	for (int64_t i = 0; i < n_q; i++) {
		int32_t n = change(n_keys[i]);
		rv_kernels_ref.attn_block(o + i * head_dim, max + i, sum + i, q + i * head_dim, kt, v,
		                          &n, 1, head_dim);
	}
}
static int32_t one_less(int32_t n) {
	return n > 1 ? n - 1 : n;
}
static int32_t no_mask(int32_t n) {
	return n > 0 ? RV_ATTN_BLOCK : n;
}
#define ATTENTION(name, change)                                                                        \
	static void name(float *o, float *max, float *sum, const float *q, const float *kt,            \
	                 const float *v, const int32_t *n_keys, int64_t n_q, int64_t head_dim) {       \
		attend_with(o, max, sum, q, kt, v, n_keys, n_q, head_dim, change);                     \
	}
ATTENTION(attn_misses_key, one_less)
ATTENTION(attn_without_mask, no_mask)
/* The value of the first key is another's. */
static void rows_mixed_up(float *o, float *max, float *sum, const float *q, const rv_f16 *const *keys,
                          const rv_f16 *const *values, const rv_f16 *const *next_keys,
                          const rv_f16 *const *next_values, const int32_t *n_keys, int64_t n_q,
                          int64_t head_dim) {
	const rv_f16 *other[RV_ATTN_BLOCK];
	int64_t n = 0;
	for (int64_t i = 0; i < n_q; i++) {
		n = n_keys[i] > n ? n_keys[i] : n;
	}
	for (int64_t j = 0; j < n; j++) {
		other[j] = values[j ? j : n - 1];
	}
	rv_attn_rows_ref(o, max, sum, q, keys, other, next_keys, next_values, n_keys, n_q, head_dim);
}
/* The right side merged as if it were the left: the same value, rounded otherwise. */
static void merge_other_way(float *o, float *max, float *sum, const float *o2, const float *max2,
                            const float *sum2, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++) {
		float left[256], left_max = max2[i], left_sum = sum2[i];
		memcpy(left, o2 + i * head_dim, (size_t)head_dim * sizeof *left);
		rv_kernels_ref.attn_merge(left, &left_max, &left_sum, o + i * head_dim, max + i,
		                          sum + i, 1, head_dim);
		memcpy(o + i * head_dim, left, (size_t)head_dim * sizeof *left);
		max[i] = left_max;
		sum[i] = nextafterf(left_sum, 0);
	}
}

/* Misses the last element; rows summed in an order that depends on how many there are. */
static void l2_drops_last(float *out, const float *x, const float *y, int64_t n) {
	rv_l2_f32_ref(out, x, y, n > 40 ? n - 1 : n);
}
static void dot_hides_nan(float *out, const float *x, const float *y, int64_t n) {
	rv_dot_f32_ref(out, x, y, n);
	*out = isnan(*out) ? 0 : *out;
}
static void cosine_zero(float *out, const float *x, const float *y, int64_t n) {
	rv_cosine_f32_ref(out, x, y, n);
	out[2] = 0;
}
static void rows_one_bit(float *out, const float *x, const float *const *rows, int64_t n_rows,
                         int64_t n) {
	rv_dot_rows_f32_ref(out, x, rows, n_rows, n);
	if (n_rows > 4 && n > 0) {
		out[4] = nextafterf(out[4], INFINITY);
	}
}

/* Adds up in 16 bits; the high half one element early; the last bit left out. */
static void i8_saturates(int32_t *out, const int8_t *x, const int8_t *y, int64_t n) {
	rv_dot_i8_ref(out, x, y, n);
	*out = *out > 32767 ? 32767 : *out;
}
static void i4_shifted(int32_t *out, const int8_t *x, const uint8_t *const *rows, int64_t n_rows,
                       int64_t n) {
	rv_dot_rows_i4_ref(out, x, rows, n_rows, n - n % 2);
}
static void b1_drops_last(int32_t *out, const int8_t *x, const uint8_t *const *rows, int64_t n_rows,
                          int64_t n) {
	rv_dot_rows_b1_ref(out, x, rows, n_rows, n % 64 == 1 ? n - 1 : n);
}

#define SET(name, slot, value)                                                                         \
	static void name(rv_kernels *k) {                                                              \
		k->slot = value;                                                                       \
	}
SET(set_zero, type[RV_Q4_K].matmul[RV_LAYOUT_GGML], matmul_zero)
SET(set_perturbed, type[RV_Q4_K].matmul[RV_LAYOUT_GGML], matmul_perturbed)
SET(set_nan, type[RV_Q4_K].matmul[RV_LAYOUT_GGML], matmul_nan)
SET(set_unwritten, type[RV_Q4_K].matmul[RV_LAYOUT_GGML], matmul_unwritten)
SET(set_gap, type[RV_Q4_K].matmul[RV_LAYOUT_GGML], matmul_gap)
SET(set_order, type[RV_F32].matmul[RV_LAYOUT_GGML], matmul_order)
SET(set_hides_nan, type[RV_Q8_0].matmul[RV_LAYOUT_GGML], matmul_hides_nan)
SET(set_past_output, add, add_past_output)
SET(set_past_input, add, add_past_input)
SET(set_before_input, add, add_before_input)
SET(set_changes_input, add, add_changes_input)
SET(set_softmax_order, softmax, softmax_order)
SET(set_gemm_order, gemm, gemm_order)
SET(set_dequantize, type[RV_Q6_K].dequantize, dequantize_fused_wrong)
SET(set_act, quantize_act[RV_ACT_Q8], act_half_up)
SET(set_columns, kv[RV_KV_F16].load_keys, load_all_columns)
SET(set_code, kv[RV_KV_Q2].store, store_one_code_off)
SET(set_no_minimum, kv[RV_KV_Q4].load_values, load_without_minimum)
SET(set_misses_key, attn_block, attn_misses_key)
SET(set_without_mask, attn_block, attn_without_mask)
SET(set_rows_mixed_up, attn_rows, rows_mixed_up)
SET(set_merge, attn_merge, merge_other_way)
SET(set_missing, attn_merge, NULL)
SET(set_l2_drops_last, l2_f32, l2_drops_last)
SET(set_dot_hides_nan, dot_f32, dot_hides_nan)
SET(set_cosine_zero, cosine_f32, cosine_zero)
SET(set_rows_one_bit, dot_rows_f32, rows_one_bit)
SET(set_i8_saturates, dot_i8, i8_saturates)
SET(set_i4_shifted, dot_rows_i4, i4_shifted)
SET(set_b1_drops_last, dot_rows_b1, b1_drops_last)
SET(set_peak, peak[RV_PEAK_INT8], &peak_half_done)

const control controls[] = {
        {"all-zero output", set_zero, check_matmul, RV_Q4_K, "expected", 0},
        {"one perturbed value", set_perturbed, check_matmul, RV_Q4_K, "expected", 0},
        {"NaN", set_nan, check_matmul, RV_Q4_K, "nan, expected", 0},
        {"unwritten output", set_unwritten, check_matmul, RV_Q4_K, "nan, expected", 0},
        {"write between the rows of the output", set_gap, check_matmul, RV_Q4_K, "between the rows", 0},
        {"reduction order varies with n_tok", set_order, check_matmul, RV_F32, "other bits", 0},
        {"NaN hidden", set_hides_nan, check_matmul, RV_Q8_0, "left", 0},
        {"write past the end", set_past_output, check_add, 0, "outside", 0},
        {"read past the input", set_past_input, check_add, 0, "outside", 1},
        {"read before the input", set_before_input, check_add, 0, "outside", 1},
        {"input changed", set_changes_input, check_add, 0, "changed its input", 0},
        {"softmax order varies with the length", set_softmax_order, check_softmax, 0, "appended", 0},
        {"gemm order varies with the column", set_gemm_order, check_gemm, 0, "cut in two", 0},
        {"dequantize off by one bit", set_dequantize, check_dequantize, RV_Q6_K, "differs in a bit", 0},
        {"one activation code off by one", set_act, check_quantize_act, RV_ACT_Q8, "codes", 0},
        {"neighbouring columns overwritten", set_columns, check_kv, RV_KV_F16, "load_keys", 0},
        {"one two-bit code off by one", set_code, check_kv_codes, RV_KV_KIVI2, "stored keys", 0},
        {"error passed on from a wrong code", set_code, check_kv_codes, RV_KV_SQUAT2, "stored keys", 0},
        {"minimum left out", set_no_minimum, check_kv_codes, RV_KV_KIVI4, "came back", 0},
        {"attention that misses the last key", set_misses_key, check_attn_block, 0, "expected", 0},
        {"attention without a mask", set_without_mask, check_attn_block, 0, "expected", 0},
        {"attention to a wrong row", set_rows_mixed_up, check_attn_rows, 0, "attn_rows against", 0},
        {"merge of attention that rounds otherwise", set_merge, check_attn_block, 0, "then attn_merge",
         0},
        {"empty slot", set_missing, check_full_table, 0, "attn_merge", 0},
        {"distance that misses the last element", set_l2_drops_last, check_l2_f32, 0, "l2_f32", 0},
        {"distance that hides a NaN", set_dot_hides_nan, check_dot_f32, 0, "a NaN gave", 0},
        {"one sum of three missing", set_cosine_zero, check_cosine_f32, 0, "expected", 0},
        {"one row rounded otherwise", set_rows_one_bit, check_dot_rows_f32, 0, "differs in a bit", 0},
        {"8-bit products summed in 16 bits", set_i8_saturates, check_dot_i8, 0, "differs in a bit", 0},
        {"4-bit codes cut in halves at the wrong place", set_i4_shifted, check_dot_rows_i4, 0,
         "differs in a bit", 0},
        {"bit of the last element left out", set_b1_drops_last, check_dot_rows_b1, 0,
         "differs in a bit", 0},
        {"peak loop that skips every other product", set_peak, check_peak, RV_PEAK_INT8, "products", 0},
};
const int n_controls = sizeof controls / sizeof *controls;
