/* Sums over vector codes that need no products; for levels with what codes_body.h asks for, and
 *   differing(x, y)    bits that differ
 *   add_ones(acc, y)   the number of ones in a register */

void LEVEL_NAME(rv_hamming)(int32_t *out, const uint8_t *x, const uint8_t *y, int64_t n) {
	sums acc = zero_sums();
	int64_t i = 0;
	for (; i + CODE_LANES <= n; i += CODE_LANES)
		acc = add_ones(acc, differing(load_codes(x + i), load_codes(y + i)));
	if (i < n)
		acc = add_ones(acc,
		               differing(load_codes_part(x + i, n - i), load_codes_part(y + i, n - i)));
	*out = sum_all(acc);
}

/* Entry j goes to sum j % 8; the sums meet as l + l4, then + l2, then + l1. */
void LEVEL_NAME(rv_adc_rows)(float *out, const float *table, const uint8_t *const *rows, int64_t n_rows,
                             int64_t n) {
	for (int64_t r = 0; r < n_rows; r++) {
		const uint8_t *const row = rows[r];
		float s[8] = {0};
		int64_t j = 0;
		if (r + 2 < n_rows)
			__builtin_prefetch(rows[r + 2]);
		for (; j + 8 <= n; j += 8) {
			UNROLL
			for (int l = 0; l < 8; l++)
				s[l] += table[(j + l) * 256 + row[j + l]];
		}
		for (int l = 0; j + l < n; l++)
			s[l] += table[(j + l) * 256 + row[j + l]];
		out[r] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
	}
}
