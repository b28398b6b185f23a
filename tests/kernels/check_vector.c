/* Checks of the kernels over one vector, of rotation and of the f32 product. */
#include "tests/kernels/harness.h"

#include <math.h>
#include <string.h>

enum { MAX_N = 8192 };

static float want[MAX_N], want_x[MAX_N];

static kind some_kind(checker *c) {
	return (kind)below(c, KIND_COUNT);
}

static size_t bytes_of(int64_t n) {
	return (size_t)n * sizeof(float);
}

int check_add(checker *c, int arg) {
	(void)arg;
	for (int i = 0; i < n_vector_sizes; i++) {
		int64_t n = vector_sizes[i];
		reset(c);
		float *y = floats_out(c, n);
		const float *x = floats_in(c, n, some_kind(c));
		fill(c, y, n, some_kind(c));
		memcpy(want, y, bytes_of(n));
		rv_kernels_ref.add(want, x, n);
		seal(c);
		c->k->add(y, x, n);
		if (verify(c, "add") || near(c, "add", y, want, n, row_tolerance[ROW_add], 0)) {
			return -1;
		}
	}
	return 0;
}

/* Four times the length and a quarter of eps double the norm exactly; the zeros themselves must not
 * change the sum. */
static int norm_ignores_zeros(checker *c, int64_t n) {
	reset(c);
	float *wide = take(c, bytes_of(4 * n), 4, 1), *wide_w = take(c, bytes_of(4 * n), 4, 1);
	float *y = floats_out(c, n), *wide_y = floats_out(c, 4 * n);
	memset(wide, 0, bytes_of(4 * n));
	fill(c, wide, n, KIND_GAUSS);
	fill(c, wide_w, 4 * n, KIND_GAUSS);
	c->k->rms_norm(y, wide, wide_w, n, 0x1p-10f);
	c->k->rms_norm(wide_y, wide, wide_w, 4 * n, 0x1p-12f);
	for (int64_t i = 0; i < n; i++) {
		y[i] *= 2;
	}
	return same(c, "rms_norm with zeros appended", wide_y, y, bytes_of(n));
}

int check_rms_norm(checker *c, int arg) {
	(void)arg;
	for (int i = 0; i < n_vector_sizes; i++) {
		int64_t n = vector_sizes[i];
		reset(c);
		float *y = floats_out(c, n);
		const float *x = floats_in(c, n, some_kind(c));
		const float *w = floats_in(c, n, KIND_GAUSS);
		float *in_place = floats_out(c, n);
		rv_kernels_ref.rms_norm(want, x, w, n, 1e-6f);
		memcpy(in_place, x, bytes_of(n));
		seal(c);
		c->k->rms_norm(y, x, w, n, 1e-6f);
		c->k->rms_norm(in_place, in_place, w, n, 1e-6f);
		if (verify(c, "rms_norm") ||
		    near(c, "rms_norm", y, want, n, row_tolerance[ROW_rms_norm], 0) ||
		    same(c, "rms_norm in place", in_place, y, bytes_of(n)) ||
		    (n > 0 && n < 1000 && norm_ignores_zeros(c, n))) {
			return -1;
		}
	}
	return 0;
}

int check_add_rms_norm(checker *c, int arg) {
	(void)arg;
	for (int i = 0; i < n_vector_sizes; i++) {
		int64_t n = vector_sizes[i];
		reset(c);
		float *y = floats_out(c, n), *x = floats_out(c, n), *split = floats_out(c, n);
		kind how = some_kind(c);
		const float *r = floats_in(c, n, how), *w = floats_in(c, n, KIND_GAUSS);
		fill(c, x, n, how);
		memcpy(want_x, x, bytes_of(n));
		rv_kernels_ref.add_rms_norm(want, want_x, r, w, n, 1e-5f);
		seal(c);
		c->k->add_rms_norm(y, x, r, w, n, 1e-5f);
		c->k->rms_norm(split, x, w, n, 1e-5f);
		if (verify(c, "add_rms_norm") || same(c, "add_rms_norm: x", x, want_x, bytes_of(n)) ||
		    near(c, "add_rms_norm", y, want, n, row_tolerance[ROW_add_rms_norm], 0) ||
		    same(c, "add_rms_norm against add, then rms_norm", y, split, bytes_of(n))) {
			return -1;
		}
	}
	return 0;
}

int check_swiglu(checker *c, int arg) {
	(void)arg;
	for (int i = 0; i < 2 * n_vector_sizes; i++) {
		int64_t n = vector_sizes[i / 2];
		reset(c);
		float *y = floats_out(c, n), *over_gate = floats_out(c, n), *over_up = floats_out(c, n);
		float *gate = floats_in(c, n, some_kind(c));
		const float *up = floats_in(c, n, KIND_GAUSS);
		for (int64_t j = 0; i % 2 && j < n; j++) {
			gate[j] = (float)(below(c, 2401) - 1200) * 0.1f; /* the whole range of exp */
		}
		rv_kernels_ref.swiglu(want, gate, up, n);
		memcpy(over_gate, gate, bytes_of(n));
		memcpy(over_up, up, bytes_of(n));
		seal(c);
		c->k->swiglu(y, gate, up, n);
		c->k->swiglu(over_gate, over_gate, up, n);
		c->k->swiglu(over_up, gate, over_up, n);
		if (verify(c, "swiglu") ||
		    near(c, "swiglu", y, want, n, row_tolerance[ROW_swiglu], 0) ||
		    same(c, "swiglu over gate", over_gate, y, bytes_of(n)) ||
		    same(c, "swiglu over up", over_up, y, bytes_of(n))) {
			return -1;
		}
	}
	return 0;
}

static int softmax_ignores_masked(checker *c, const float *x, int64_t n) {
	reset(c);
	int64_t extra = 1 + below(c, 70);
	float *y = floats_out(c, n), *wide = floats_out(c, n + extra);
	memcpy(y, x, bytes_of(n));
	memcpy(wide, x, bytes_of(n));
	for (int64_t i = n; i < n + extra; i++) {
		wide[i] = -INFINITY;
	}
	c->k->softmax(y, n);
	c->k->softmax(wide, n + extra);
	for (int64_t i = n; i < n + extra; i++) {
		if (wide[i] != 0) {
			return fail(c, "softmax: a masked element is %.9g, not 0", (double)wide[i]);
		}
	}
	return same(c, "softmax with -inf appended", wide, y, bytes_of(n));
}

int check_softmax(checker *c, int arg) {
	static float source[MAX_N];
	(void)arg;
	for (int i = 0; i < 3 * n_vector_sizes; i++) {
		int64_t n = vector_sizes[i / 3];
		reset(c);
		float *x = floats_out(c, n);
		fill(c, x, n, i % 3 == 1 ? some_kind(c) : KIND_GAUSS);
		for (int64_t j = 0; i % 3 == 2 && j < n; j++) {
			x[j] = below(c, 3) ? x[j] * 20 : -INFINITY;
		}
		memcpy(source, x, bytes_of(n));
		memcpy(want, x, bytes_of(n));
		rv_kernels_ref.softmax(want, n);
		seal(c);
		c->k->softmax(x, n);
		if (verify(c, "softmax") ||
		    near(c, "softmax", x, want, n, row_tolerance[ROW_softmax], 0) ||
		    (n > 0 && softmax_ignores_masked(c, source, n))) {
			return -1;
		}
	}
	float masked[37];
	for (int i = 0; i < 37; i++) {
		masked[i] = -INFINITY;
	}
	c->k->softmax(masked, 37);
	for (int i = 0; i < 37; i++) {
		if (masked[i] != 0) {
			return fail(c, "softmax: all masked gives %.9g, not 0", (double)masked[i]);
		}
	}
	return 0;
}

int check_rope(checker *c, int arg) {
	static const int64_t dims[][2] = {{2, 2},     {8, 4},    {16, 16},  {32, 32},
	                                  {64, 64},   {64, 32},  {80, 80},  {96, 96},
	                                  {128, 128}, {128, 64}, {100, 46}, {256, 256}};
	(void)arg;
	for (size_t i = 0; i < sizeof dims / sizeof *dims * 4; i++) {
		int64_t head_dim = dims[i / 4][0], n_rot = dims[i / 4][1], heads = below(c, 6);
		int64_t n = heads * head_dim;
		int neox = (int)(i % 2);
		reset(c);
		float *x = floats_out(c, n);
		float *cs = take(c, bytes_of(n_rot), 4, 1);
		fill(c, x, n, KIND_GAUSS);
		for (int64_t j = 0; j < n_rot / 2; j++) {
			double angle = (double)gauss(c) * 10;
			cs[2 * j] = (float)cos(angle);
			cs[2 * j + 1] = (float)sin(angle);
		}
		memcpy(want, x, bytes_of(n));
		rv_kernels_ref.rope(want, cs, heads, head_dim, n_rot, neox);
		seal(c);
		c->k->rope(x, cs, heads, head_dim, n_rot, neox);
		/* an element is a sum of two products of at most the pair's length, here below 6 */
		if (verify(c, "rope") || near(c, "rope", x, want, n, row_tolerance[ROW_rope], 3)) {
			return -1;
		}
	}
	return 0;
}

/* One shape of gemm, whole and cut at (mc, nc). */
static int gemm_shape(checker *c, int64_t m, int64_t n, int64_t k) {
	int64_t lda = k + below(c, 5), ldb = n + below(c, 5), ldc = n + below(c, 5);
	int64_t nc = n ? below(c, n + 1) : 0, mc = m ? below(c, m + 1) : 0;
	int64_t size_c = m ? (m - 1) * ldc + n : 0;
	reset(c);
	const float *a = floats_in(c, m ? (m - 1) * lda + k : 0, KIND_GAUSS);
	const float *b = floats_in(c, k ? (k - 1) * ldb + n : 0, KIND_GAUSS);
	float *whole = floats_out(c, size_c), *cut = floats_out(c, size_c);
	static float expected[130 * 140];
	memset(expected, 0xff, bytes_of(size_c));
	rv_kernels_ref.gemm(expected, ldc, a, lda, b, ldb, m, n, k);
	seal(c);
	c->k->gemm(whole, ldc, a, lda, b, ldb, m, n, k);
	c->k->gemm(cut, ldc, a, lda, b, ldb, mc, nc, k);
	c->k->gemm(cut + nc, ldc, a, lda, b + nc, ldb, mc, n - nc, k);
	c->k->gemm(cut + mc * ldc, ldc, a + mc * lda, lda, b, ldb, m - mc, n, k);
	/* sums of k products of about 0.6: the gap between rows holds NaN and must keep it */
	if (verify(c, "gemm") ||
	    near(c, "gemm", whole, expected, size_c, row_tolerance[ROW_gemm], 0.6 * (double)k)) {
		return -1;
	}
	return same(c, "gemm cut in two", cut, whole, bytes_of(size_c));
}

int check_gemm(checker *c, int arg) {
	static const int64_t sizes[] = {0,  1,  2,  3,  5,  6,  7,  8,   9,  15,
	                                16, 17, 31, 32, 33, 64, 65, 100, 128};
	enum { N_SIZES = sizeof sizes / sizeof *sizes };
	(void)arg;
	for (int i = 0; i < 120; i++) {
		int64_t m = sizes[i < N_SIZES ? i : below(c, N_SIZES)];
		int64_t n = sizes[below(c, N_SIZES)], k = sizes[below(c, N_SIZES)];
		if (gemm_shape(c, m, n, k)) {
			return -1;
		}
	}
	return 0;
}
