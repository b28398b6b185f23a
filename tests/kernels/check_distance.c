/* Checks of the distances. */
#include "tests/kernels/harness.h"

#include <math.h>
#include <string.h>

enum { MAX_N = 8192, MAX_ROWS = 12 };

static kind some_kind(checker *c) {
	return (kind)below(c, KIND_COUNT);
}

/* What the rounding errors of a dot product are relative to. Sums of distances have terms of one sign.
 */
static double magnitude(const float *x, const float *y, int64_t n) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++) {
		sum += fabs((double)x[i] * (double)y[i]);
	}
	return sum;
}

typedef void pair_fn(float *out, const float *x, const float *y, int64_t n);

/* With zeros appended, and with a NaN in one place. */
static int zeros_and_nan(checker *c, const char *what, pair_fn *f, int n_out, int64_t n) {
	reset(c);
	int64_t extra = 1 + below(c, 70);
	size_t sums = (size_t)n_out * sizeof(float);
	float *x = floats_in(c, n, KIND_GAUSS), *y = floats_in(c, n, KIND_GAUSS);
	float *wide_x = take(c, (size_t)(n + extra) * 4, 4, 0);
	float *wide_y = take(c, (size_t)(n + extra) * 4, 4, 0);
	float *got = floats_out(c, n_out), *wide = floats_out(c, n_out);
	memset(wide_x, 0, (size_t)(n + extra) * 4);
	memset(wide_y, 0, (size_t)(n + extra) * 4);
	memcpy(wide_x, x, (size_t)n * 4);
	memcpy(wide_y, y, (size_t)n * 4);
	f(got, x, y, n);
	f(wide, wide_x, wide_y, n + extra);
	if (same(c, what, wide, got, sums)) {
		return fail(c, "%s with zeros appended: other bits", what);
	}
	if (n > 0) {
		wide_y[below(c, n)] = NAN;
		f(wide, wide_x, wide_y, n + extra);
		if (!isnan(wide[0])) {
			return fail(c, "%s: a NaN gave %.9g", what, (double)wide[0]);
		}
	}
	return 0;
}

static int check_pair(checker *c, const char *what, pair_fn *f, pair_fn *reference, int row, int n_out,
                      int signed_terms) {
	for (int i = 0; i < 2 * n_vector_sizes; i++) {
		int64_t n = vector_sizes[i / 2];
		float want[3];
		reset(c);
		const float *x = floats_in(c, n, some_kind(c)), *y = floats_in(c, n, some_kind(c));
		float *got = floats_out(c, n_out);
		reference(want, x, y, n);
		seal(c);
		f(got, x, y, n);
		double scale = signed_terms ? magnitude(x, y, n) : 0;
		if (verify(c, what) || near(c, what, got, want, n_out, row_tolerance[row], scale)) {
			return -1;
		}
		if (zeros_and_nan(c, what, f, n_out, n)) {
			return -1;
		}
	}
	return 0;
}

#define CHECK_PAIR(name, n_out, signed_terms)                                                          \
	int check_##name(checker *c, int arg) {                                                        \
		(void)arg;                                                                             \
		return check_pair(c, #name, c->k->name, rv_##name##_ref, ROW_##name, n_out,            \
		                  signed_terms);                                                       \
	}
CHECK_PAIR(dot_f32, 1, 1)
CHECK_PAIR(l2_f32, 1, 0)
CHECK_PAIR(l1_f32, 1, 0)
CHECK_PAIR(cosine_f32, 3, 1)

typedef void rows_fn(float *out, const float *x, const float *const *rows, int64_t n_rows, int64_t n);

/* Rows in several buffers, some of them twice; each must have the bits of the pair's form, and those
 * are compared with the reference's. */
static int check_rows(checker *c, const char *what, rows_fn *f, pair_fn *pair) {
	for (int i = 0; i < 2 * n_vector_sizes; i++) {
		int64_t n = vector_sizes[i / 2], n_rows = below(c, MAX_ROWS + 1);
		const float *rows[MAX_ROWS];
		float want[MAX_ROWS];
		reset(c);
		const float *x = floats_in(c, n, some_kind(c));
		for (int64_t r = 0; r < n_rows; r++) {
			rows[r] = r > 2 && below(c, 3) == 0 ? rows[below(c, r)]
			                                    : floats_in(c, n, some_kind(c));
		}
		float *got = floats_out(c, n_rows);
		seal(c);
		f(got, x, rows, n_rows, n);
		if (verify(c, what)) {
			return -1;
		}
		for (int64_t r = 0; r < n_rows; r++) {
			pair(want + r, x, rows[r], n);
		}
		if (same(c, what, got, want, (size_t)n_rows * sizeof *got)) {
			return -1;
		}
	}
	return 0;
}

int check_dot_rows_f32(checker *c, int arg) {
	(void)arg;
	return check_rows(c, "dot_rows_f32 against dot_f32", c->k->dot_rows_f32, c->k->dot_f32);
}

int check_l2_rows_f32(checker *c, int arg) {
	(void)arg;
	return check_rows(c, "l2_rows_f32 against l2_f32", c->k->l2_rows_f32, c->k->l2_f32);
}

/* ---- codes: integer sums have the reference's bits ---- */

/* Signed codes -127..127, the extremes often. */
static int8_t *codes_in(checker *c, int64_t n) {
	int8_t *x = take(c, (size_t)n, 1, 1);
	int64_t extremes = below(c, 3);
	for (int64_t i = 0; i < n; i++) {
		x[i] = (int8_t)(below(c, 255) - 127);
		if (extremes == 0) {
			x[i] = x[i] < 0 ? -127 : 127;
		}
	}
	return x;
}

static uint8_t *bytes_in(checker *c, int64_t n) {
	uint8_t *x = take(c, (size_t)n, 1, 1);
	int64_t extremes = below(c, 3);
	for (int64_t i = 0; i < n; i++) {
		x[i] = extremes ? (uint8_t)below(c, 256) : 255;
	}
	return x;
}

/* Both arrays of bytes, signed or not. */
#define CHECK_CODES(name, type, make)                                                                  \
	int check_##name(checker *c, int arg) {                                                        \
		(void)arg;                                                                             \
		for (int i = 0; i < 4 * n_vector_sizes; i++) {                                         \
			int64_t n = i < 4 ? RV_CODE_MAX : vector_sizes[i / 4];                         \
			int32_t want;                                                                  \
			reset(c);                                                                      \
			const type *x = make(c, n), *y = make(c, n);                                   \
			int32_t *got = take(c, sizeof *got, sizeof *got, 0);                           \
			rv_##name##_ref(&want, x, y, n);                                               \
			seal(c);                                                                       \
			c->k->name(got, x, y, n);                                                      \
			if (verify(c, #name) || same(c, #name, got, &want, sizeof want)) {             \
				return -1;                                                             \
			}                                                                              \
		}                                                                                      \
		return 0;                                                                              \
	}
CHECK_CODES(dot_i8, int8_t, codes_in)
CHECK_CODES(l2_i8, int8_t, codes_in)
CHECK_CODES(hamming, uint8_t, bytes_in)

/* Rows of `bytes` bytes each. */
static int64_t random_rows(checker *c, const void **rows, int64_t bytes, int is_signed) {
	int64_t n_rows = below(c, MAX_ROWS + 1);
	for (int64_t r = 0; r < n_rows; r++) {
		if (r > 2 && below(c, 3) == 0) {
			rows[r] = rows[below(c, r)];
		} else {
			rows[r] = is_signed ? (const void *)codes_in(c, bytes) : bytes_in(c, bytes);
		}
	}
	return n_rows;
}

#define CHECK_CODE_ROWS(name, type, bytes, is_signed)                                                  \
	int check_##name(checker *c, int arg) {                                                        \
		(void)arg;                                                                             \
		for (int i = 0; i < 4 * n_vector_sizes; i++) {                                         \
			int64_t n = vector_sizes[i / 4];                                               \
			const void *rows[MAX_ROWS];                                                    \
			int32_t want[MAX_ROWS];                                                        \
			reset(c);                                                                      \
			const int8_t *x = codes_in(c, n);                                              \
			int64_t n_rows = random_rows(c, rows, bytes, is_signed);                       \
			int32_t *got = take(c, (size_t)n_rows * sizeof *got, sizeof *got, 0);          \
			rv_##name##_ref(want, x, (const type *const *)rows, n_rows, n);                \
			seal(c);                                                                       \
			c->k->name(got, x, (const type *const *)rows, n_rows, n);                      \
			if (verify(c, #name) ||                                                        \
			    same(c, #name, got, want, (size_t)n_rows * sizeof *got)) {                 \
				return -1;                                                             \
			}                                                                              \
		}                                                                                      \
		return 0;                                                                              \
	}
CHECK_CODE_ROWS(dot_rows_i8, int8_t, n, 1)
CHECK_CODE_ROWS(dot_rows_i4, uint8_t, (n + 1) / 2, 0)
CHECK_CODE_ROWS(dot_rows_b1, uint8_t, (n + 7) / 8, 0)

int check_adc_rows(checker *c, int arg) {
	static const int64_t sizes[] = {0, 1, 2, 7, 8, 9, 16, 31, 48, 96, 100, 192};
	(void)arg;
	for (size_t i = 0; i < 4 * sizeof sizes / sizeof *sizes; i++) {
		int64_t n = sizes[i / 4];
		const void *rows[MAX_ROWS];
		float want[MAX_ROWS];
		reset(c);
		const float *table = floats_in(c, n * 256, KIND_GAUSS);
		int64_t n_rows = random_rows(c, rows, n, 0);
		float *got = floats_out(c, n_rows), *single = floats_out(c, n_rows);
		rv_adc_rows_ref(want, table, (const uint8_t *const *)rows, n_rows, n);
		seal(c);
		c->k->adc_rows(got, table, (const uint8_t *const *)rows, n_rows, n);
		for (int64_t r = 0; r < n_rows; r++) {
			c->k->adc_rows(single + r, table, (const uint8_t *const *)rows + r, 1, n);
		}
		/* sums of n values of about 1 */
		if (verify(c, "adc_rows") ||
		    near(c, "adc_rows", got, want, n_rows, row_tolerance[ROW_adc_rows], (double)n) ||
		    same(c, "adc_rows one at a time", single, got, (size_t)n_rows * sizeof *got)) {
			return -1;
		}
	}
	return 0;
}
