/* Sums over vector codes, for every level. What the level names before it includes this:
 *   codes                      a register of CODE_LANES bytes
 *   sums                       32-bit sums, added up by sum_all
 *   load_codes, load_codes_part(p, n)   bytes; n of them, then zeros, nothing beyond being read
 *   bits, load_bits(p), load_bits_part(p, n_bytes)   CODE_LANES bits
 *   signed_query, query_i8(x)  what add_i8 wants of a query
 *   add_i8(acc, q, y), add_i4(acc, y, x), add_bits(acc, b, x)   y signed, or codes 0..15
 *   low_codes, high_codes(y)   of two 4-bit codes in a byte */

enum { CODE_ROWS = 4, CODE_STEP = 2 * CODE_LANES };

INLINE void fetch(const void *const *ahead, const int n_rows, int64_t from, int64_t bytes) {
	UNROLL
	for (int r = 0; r < n_rows; r++) {
		UNROLL
		for (int64_t line = 0; line < bytes; line += 64)
			__builtin_prefetch((const char *)ahead[r] + from + line);
	}
}
INLINE int64_t at_most(int64_t n, int64_t most) {
	return n < 0 ? 0 : n < most ? n : most;
}
INLINE void clear_sums(sums acc[CODE_ROWS][2]) {
	UNROLL
	for (int r = 0; r < CODE_ROWS; r++)
		acc[r][0] = acc[r][1] = zero_sums();
}
INLINE void store_sums(int32_t *out, sums acc[CODE_ROWS][2], const int n_rows) {
	UNROLL
	for (int r = 0; r < n_rows; r++)
		out[r] = sum_all(add_sums(acc[r][0], acc[r][1]));
}

/* Each of these: n_rows, a constant, rows at once, while those of `ahead` are fetched, with the line
 * after them. */
INLINE void rows_i8(int32_t *out, const int8_t *x, const int8_t *const *rows,
                    const int8_t *const *ahead, const int n_rows, int64_t n) {
	sums acc[CODE_ROWS][2];
	int64_t i = 0;
	clear_sums(acc);
	for (; i + CODE_STEP <= n; i += CODE_STEP) {
		if (ahead)
			fetch((const void *const *)ahead, n_rows, i, CODE_STEP);
		UNROLL
		for (int h = 0; h < 2; h++) {
			const int64_t at = i + h * CODE_LANES;
			const signed_query q = query_i8(load_codes(x + at));
			UNROLL
			for (int r = 0; r < n_rows; r++)
				acc[r][h] = add_i8(acc[r][h], q, load_codes(rows[r] + at));
		}
	}
	if (ahead)
		fetch((const void *const *)ahead, n_rows, i, CODE_STEP);
	for (; i < n; i += CODE_LANES) {
		const int64_t m = at_most(n - i, CODE_LANES);
		const signed_query q = query_i8(load_codes_part(x + i, m));
		UNROLL
		for (int r = 0; r < n_rows; r++)
			acc[r][0] = add_i8(acc[r][0], q, load_codes_part(rows[r] + i, m));
	}
	store_sums(out, acc, n_rows);
}

INLINE void rows_i4(int32_t *out, const int8_t *x, const uint8_t *const *rows,
                    const uint8_t *const *ahead, const int n_rows, int64_t n) {
	const int64_t half = (n + 1) / 2;
	sums acc[CODE_ROWS][2];
	int64_t i = 0;
	clear_sums(acc);
	for (; i + CODE_LANES <= n - half; i += CODE_LANES) {
		const codes low = load_codes(x + i), high = load_codes(x + half + i);
		if (ahead)
			fetch((const void *const *)ahead, n_rows, i, CODE_LANES);
		UNROLL
		for (int r = 0; r < n_rows; r++) {
			const codes both = load_codes(rows[r] + i);
			acc[r][0] = add_i4(acc[r][0], low_codes(both), low);
			acc[r][1] = add_i4(acc[r][1], high_codes(both), high);
		}
	}
	if (ahead)
		fetch((const void *const *)ahead, n_rows, i, 64);
	for (; i < half; i += CODE_LANES) {
		const int64_t m = at_most(half - i, CODE_LANES);
		const codes low = load_codes_part(x + i, m);
		const codes high = load_codes_part(x + half + i, at_most(n - half - i, CODE_LANES));
		UNROLL
		for (int r = 0; r < n_rows; r++) {
			const codes both = load_codes_part(rows[r] + i, m);
			acc[r][0] = add_i4(acc[r][0], low_codes(both), low);
			acc[r][1] = add_i4(acc[r][1], high_codes(both), high);
		}
	}
	store_sums(out, acc, n_rows);
}

INLINE void rows_b1(int32_t *out, const int8_t *x, const uint8_t *const *rows,
                    const uint8_t *const *ahead, const int n_rows, int64_t n) {
	sums acc[CODE_ROWS][2];
	int64_t i = 0;
	clear_sums(acc);
	for (; i + CODE_STEP <= n; i += CODE_STEP) {
		if (ahead && i % 512 == 0)
			fetch((const void *const *)ahead, n_rows, i / 8, 64);
		UNROLL
		for (int h = 0; h < 2; h++) {
			const int64_t at = i + h * CODE_LANES;
			const codes q = load_codes(x + at);
			UNROLL
			for (int r = 0; r < n_rows; r++)
				acc[r][h] = add_bits(acc[r][h], load_bits(rows[r] + at / 8), q);
		}
	}
	if (ahead)
		fetch((const void *const *)ahead, n_rows, i / 8, 64);
	for (; i < n; i += CODE_LANES) {
		const int64_t m = at_most(n - i, CODE_LANES);
		const codes q = load_codes_part(x + i, m);
		UNROLL
		for (int r = 0; r < n_rows; r++)
			acc[r][0] =
			        add_bits(acc[r][0], load_bits_part(rows[r] + i / 8, (m + 7) / 8), q);
	}
	store_sums(out, acc, n_rows);
}

#define ROWS_KERNEL(kernel, rows_function, element)                                                    \
	void LEVEL_NAME(kernel)(int32_t * out, const int8_t *x, const element *const *rows,            \
	                        int64_t n_rows, int64_t n) {                                           \
		int64_t r = 0;                                                                         \
		for (; r + 2 * CODE_ROWS <= n_rows; r += CODE_ROWS)                                    \
			rows_function(out + r, x, rows + r, rows + r + CODE_ROWS, CODE_ROWS, n);       \
		for (; r + CODE_ROWS <= n_rows; r += CODE_ROWS)                                        \
			rows_function(out + r, x, rows + r, NULL, CODE_ROWS, n);                       \
		for (; r < n_rows; r++)                                                                \
			rows_function(out + r, x, rows + r, NULL, 1, n);                               \
	}
ROWS_KERNEL(rv_dot_rows_i8, rows_i8, int8_t)
ROWS_KERNEL(rv_dot_rows_i4, rows_i4, uint8_t)
ROWS_KERNEL(rv_dot_rows_b1, rows_b1, uint8_t)

void LEVEL_NAME(rv_dot_i8)(int32_t *out, const int8_t *x, const int8_t *y, int64_t n) {
	rows_i8(out, x, &y, NULL, 1, n);
}

/* (x - y)^2 = x x - 2 x y + y y */
void LEVEL_NAME(rv_l2_i8)(int32_t *out, const int8_t *x, const int8_t *y, int64_t n) {
	sums squares = zero_sums(), products = zero_sums();
	for (int64_t i = 0; i < n; i += CODE_LANES) {
		const int64_t m = at_most(n - i, CODE_LANES);
		const int whole = m == CODE_LANES;
		const codes a = whole ? load_codes(x + i) : load_codes_part(x + i, m);
		const codes b = whole ? load_codes(y + i) : load_codes_part(y + i, m);
		const signed_query q = query_i8(a);
		squares = add_i8(squares, q, a);
		squares = add_i8(squares, query_i8(b), b);
		products = add_i8(products, q, b);
	}
	*out = sum_all(squares) - 2 * sum_all(products);
}
