/* Integer sums over vector codes: exact, so that every level gives the same number. Table look-up. */
#include "kernels/kernels_internal.h"

void rv_dot_i8_ref(int32_t *out, const int8_t *x, const int8_t *y, int64_t n) {
	int32_t sum = 0;
	for (int64_t i = 0; i < n; i++) {
		sum += x[i] * y[i];
	}
	*out = sum;
}

void rv_l2_i8_ref(int32_t *out, const int8_t *x, const int8_t *y, int64_t n) {
	int32_t sum = 0;
	for (int64_t i = 0; i < n; i++) {
		sum += (x[i] - y[i]) * (x[i] - y[i]);
	}
	*out = sum;
}

void rv_dot_rows_i8_ref(int32_t *out, const int8_t *x, const int8_t *const *rows, int64_t n_rows,
                        int64_t n) {
	for (int64_t r = 0; r < n_rows; r++) {
		rv_dot_i8_ref(out + r, x, rows[r], n);
	}
}

void rv_dot_rows_i4_ref(int32_t *out, const int8_t *x, const uint8_t *const *rows, int64_t n_rows,
                        int64_t n) {
	const int64_t half = (n + 1) / 2;
	for (int64_t r = 0; r < n_rows; r++) {
		int32_t sum = 0;
		for (int64_t i = 0; i < n; i++) {
			sum += x[i] * (i < half ? rows[r][i] & 15 : rows[r][i - half] >> 4);
		}
		out[r] = sum;
	}
}

void rv_dot_rows_b1_ref(int32_t *out, const int8_t *x, const uint8_t *const *rows, int64_t n_rows,
                        int64_t n) {
	for (int64_t r = 0; r < n_rows; r++) {
		int32_t sum = 0;
		for (int64_t i = 0; i < n; i++) {
			sum += x[i] * (rows[r][i / 8] >> i % 8 & 1);
		}
		out[r] = sum;
	}
}

void rv_hamming_ref(int32_t *out, const uint8_t *x, const uint8_t *y, int64_t n) {
	int32_t sum = 0;
	for (int64_t i = 0; i < n; i++) {
		sum += __builtin_popcount((unsigned)(x[i] ^ y[i]));
	}
	*out = sum;
}

void rv_adc_rows_ref(float *out, const float *table, const uint8_t *const *rows, int64_t n_rows,
                     int64_t n) {
	for (int64_t r = 0; r < n_rows; r++) {
		double sum = 0;
		for (int64_t j = 0; j < n; j++) {
			sum += (double)table[j * 256 + rows[r][j]];
		}
		out[r] = (float)sum;
	}
}
