/* Distances between f32 vectors, for every level that has a `vec`. Element i goes to lane i % VEC_LANES
 * of accumulator i / VEC_LANES % 4; the accumulators meet as (a0 + a1) + (a2 + a3), then the lane tree.
 * A row has these bits whichever form computes it. */
enum { DISTANCE_ACCS = 4, DISTANCE_STEP = DISTANCE_ACCS * VEC_LANES };
/* Rows in flight: their accumulators, two loads and a difference fit the registers. */
enum { DISTANCE_ROWS = VEC_REGISTERS >= 32 ? 4 : 2 };

typedef vec distance_step(vec acc, vec x, vec y);

INLINE vec step_dot(vec acc, vec x, vec y) {
	return vec_fma(x, y, acc);
}
INLINE vec step_l2(vec acc, vec x, vec y) {
	const vec d = vec_sub(x, y);
	return vec_fma(d, d, acc);
}
INLINE vec step_l1(vec acc, vec x, vec y) {
	return vec_add(acc, vec_abs(vec_sub(x, y)));
}

INLINE float sum_accs(const vec *acc) {
	return vec_sum(vec_add(vec_add(acc[0], acc[1]), vec_add(acc[2], acc[3])));
}
/* Where the j-th vector of a tail starts, and how much of it there is. */
INLINE int64_t tail_at(int64_t i, int j, int64_t n) {
	return i + j * VEC_LANES < n ? i + j * VEC_LANES : n;
}
INLINE vec_mask tail_mask(int64_t at, int64_t n) {
	return vec_first(n - at < VEC_LANES ? n - at : VEC_LANES);
}

/* n_rows, a constant where this is inlined, rows at once; those that come next are fetched meanwhile.
 */
INLINE void distance_rows(float *out, const float *x, const float *const *rows,
                          const float *const *ahead, const int n_rows, int64_t n,
                          distance_step *const step) {
	vec acc[DISTANCE_ROWS][DISTANCE_ACCS];
	UNROLL
	for (int r = 0; r < n_rows; r++) {
		UNROLL
		for (int j = 0; j < DISTANCE_ACCS; j++)
			acc[r][j] = vec_zero();
	}
	int64_t i = 0;
	for (; i + DISTANCE_STEP <= n; i += DISTANCE_STEP) {
		UNROLL
		for (int r = 0; ahead && r < n_rows; r++) {
			UNROLL
			for (int line = 0; line < DISTANCE_STEP; line += 16)
				__builtin_prefetch(ahead[r] + i + line);
		}
		UNROLL
		for (int j = 0; j < DISTANCE_ACCS; j++) {
			const vec v = vec_load(x + i + j * VEC_LANES);
			UNROLL
			for (int r = 0; r < n_rows; r++)
				acc[r][j] = step(acc[r][j], v, vec_load(rows[r] + i + j * VEC_LANES));
		}
	}
	UNROLL
	for (int j = 0; i < n && j < DISTANCE_ACCS; j++) {
		const int64_t at = tail_at(i, j, n);
		const vec_mask mask = tail_mask(at, n);
		const vec v = vec_load_part(x + at, mask);
		UNROLL
		for (int r = 0; r < n_rows; r++)
			acc[r][j] = step(acc[r][j], v, vec_load_part(rows[r] + at, mask));
	}
	UNROLL
	for (int r = 0; r < n_rows; r++)
		out[r] = sum_accs(acc[r]);
}

INLINE void distance_all(float *out, const float *x, const float *const *rows, int64_t n_rows,
                         int64_t n, distance_step *const step) {
	int64_t r = 0;
	for (; r + 2 * DISTANCE_ROWS <= n_rows; r += DISTANCE_ROWS)
		distance_rows(out + r, x, rows + r, rows + r + DISTANCE_ROWS, DISTANCE_ROWS, n, step);
	for (; r + DISTANCE_ROWS <= n_rows; r += DISTANCE_ROWS)
		distance_rows(out + r, x, rows + r, NULL, DISTANCE_ROWS, n, step);
	for (; r < n_rows; r++)
		distance_rows(out + r, x, rows + r, NULL, 1, n, step);
}

void LEVEL_NAME(rv_dot_f32)(float *out, const float *x, const float *y, int64_t n) {
	distance_rows(out, x, &y, NULL, 1, n, step_dot);
}
void LEVEL_NAME(rv_l2_f32)(float *out, const float *x, const float *y, int64_t n) {
	distance_rows(out, x, &y, NULL, 1, n, step_l2);
}
void LEVEL_NAME(rv_l1_f32)(float *out, const float *x, const float *y, int64_t n) {
	distance_rows(out, x, &y, NULL, 1, n, step_l1);
}
void LEVEL_NAME(rv_dot_rows_f32)(float *out, const float *x, const float *const *rows, int64_t n_rows,
                                 int64_t n) {
	distance_all(out, x, rows, n_rows, n, step_dot);
}
void LEVEL_NAME(rv_l2_rows_f32)(float *out, const float *x, const float *const *rows, int64_t n_rows,
                                int64_t n) {
	distance_all(out, x, rows, n_rows, n, step_l2);
}

/* The three sums of one pass; each has the bits of rv_dot_f32. */
INLINE void cosine_step(vec acc[3][DISTANCE_ACCS], int j, vec a, vec b) {
	acc[0][j] = vec_fma(a, b, acc[0][j]);
	acc[1][j] = vec_fma(a, a, acc[1][j]);
	acc[2][j] = vec_fma(b, b, acc[2][j]);
}
void LEVEL_NAME(rv_cosine_f32)(float *out, const float *x, const float *y, int64_t n) {
	vec acc[3][DISTANCE_ACCS];
	UNROLL
	for (int j = 0; j < DISTANCE_ACCS; j++)
		acc[0][j] = acc[1][j] = acc[2][j] = vec_zero();
	int64_t i = 0;
	for (; i + DISTANCE_STEP <= n; i += DISTANCE_STEP) {
		UNROLL
		for (int j = 0; j < DISTANCE_ACCS; j++)
			cosine_step(acc, j, vec_load(x + i + j * VEC_LANES),
			            vec_load(y + i + j * VEC_LANES));
	}
	UNROLL
	for (int j = 0; i < n && j < DISTANCE_ACCS; j++) {
		const int64_t at = tail_at(i, j, n);
		const vec_mask mask = tail_mask(at, n);
		cosine_step(acc, j, vec_load_part(x + at, mask), vec_load_part(y + at, mask));
	}
	UNROLL
	for (int s = 0; s < 3; s++)
		out[s] = sum_accs(acc[s]);
}
