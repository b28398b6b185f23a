/* The six merges against plain references on full matrices, and cases known by hand. */
#include "base/mem.h"
#include "base/rng.h"
#include "learn/adapter_merge.h"
#include "learn/truncate.h"
#include "model/adapter_write.h"
#include "tests/support/tiny_model.h"

#include <math.h>

enum { ROWS = 128, COLS = 256, SIZE = ROWS * COLS, RANK = 4, N = 2, N_PARTS = 2 };

static const struct {
	rv_role role;
	int64_t layer, in, out;
} shape[N_PARTS] = {{RV_ATTN_V, 1, COLS, ROWS}, {RV_FFN_DOWN, 2, 512, 256}};

typedef struct kit {
	rv_model *model;
	rv_adapter *adapters[N]; /* the first adapts both matrices, the second too unless `alone` */
	float *change[N][N_PARTS];
} kit;

static float *normals(int64_t n, uint64_t stream) {
	float *x;
	rv_rng rng;
	rv_rng_stream(&rng, 11, stream);
	assert_ok(RV_ALLOC(&x, n, "numbers"));
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)rv_rng_normal(&rng);
	return x;
}

/* scale * B A, term by term. */
static float *product(const rv_adapter_matrix *m, int64_t rows, int64_t cols) {
	float *x;
	assert_ok(RV_ALLOC(&x, rows * cols, "product"));
	for (int64_t y = 0; y < rows; y++)
		for (int64_t c = 0; c < cols; c++) {
			double sum = 0;
			for (int64_t r = 0; r < m->rank; r++)
				sum += (double)m->b[y * m->rank + r] * (double)m->a[r * cols + c];
			x[y * cols + c] = (float)(sum * (double)m->scale);
		}
	return x;
}

static void open_kit(kit *k, int alone) {
	k->model = tiny_model("qwen2", "F16");
	for (int i = 0; i < N; i++) {
		rv_adapter_matrix parts[N_PARTS];
		float *data[2 * N_PARTS];
		const int n = alone && i ? 1 : N_PARTS;
		for (int j = 0; j < N_PARTS; j++) {
			const int64_t rank = RANK + i;
			data[2 * j] = normals(rank * shape[j].in, (uint64_t)(10 * i + j));
			data[2 * j + 1] = normals(rank * shape[j].out, (uint64_t)(100 + 10 * i + j));
			parts[j] =
			        (rv_adapter_matrix){shape[j].role, shape[j].layer,  rank,
			                            data[2 * j],   data[2 * j + 1], i ? 0.5f : 0.25f};
			k->change[i][j] = product(&parts[j], shape[j].out, shape[j].in);
			if (j >= n)
				memset(k->change[i][j], 0,
				       (size_t)(shape[j].out * shape[j].in) * sizeof(float));
		}
		assert_ok(rv_adapter_create(&k->adapters[i], k->model, "made", parts, n));
		for (int j = 0; j < 2 * N_PARTS; j++)
			rv_free(data[j]);
	}
}

static void close_kit(kit *k) {
	for (int i = 0; i < N; i++) {
		rv_adapter_release(k->adapters[i]);
		for (int j = 0; j < N_PARTS; j++)
			rv_free(k->change[i][j]);
	}
	rv_model_release(k->model);
}

/* ---- plain references, in double, of two changes ---- */

typedef double plain_fn(const rv_merge_options *o, const double *w, double x, double y);

static double plain_linear(const rv_merge_options *o, const double *w, double x, double y) {
	(void)o;
	return (w[0] * x + w[1] * y) / (w[0] + w[1]);
}
static double plain_task(const rv_merge_options *o, const double *w, double x, double y) {
	return o->scale * (w[0] * x + w[1] * y);
}
static double plain_agree(const rv_merge_options *o, const double *w, double x, double y) {
	const double sum = w[0] * x + w[1] * y;
	const int a = x != 0 && (x > 0) == (sum > 0) && sum != 0;
	const int b = y != 0 && (y > 0) == (sum > 0) && sum != 0;
	return a && b ? o->scale * sum / (w[0] + w[1]) : a ? o->scale * x : b ? o->scale * y : 0;
}

static int by_magnitude(const void *a, const void *b) {
	const float x = fabsf(*(const float *)a), y = fabsf(*(const float *)b);
	return x < y ? 1 : x > y ? -1 : 0;
}

/* By sorting everything. */
static void plain_trim(float *x, int64_t n, double density) {
	float *sorted;
	assert_ok(RV_ALLOC(&sorted, n, "sorted"));
	memcpy(sorted, x, (size_t)n * sizeof *x);
	qsort(sorted, (size_t)n, sizeof *sorted, by_magnitude);
	const float limit = fabsf(sorted[(int64_t)ceil(density * (double)n) - 1]);
	for (int64_t i = 0; i < n; i++)
		x[i] = fabsf(x[i]) >= limit ? x[i] : 0;
	rv_free(sorted);
}

static double norm(const float *x, int64_t n) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += (double)x[i] * (double)x[i];
	return sqrt(sum);
}

/* sin((1 - t) w) / sin(w), sin(t w) / sin(w) of whole matrices. */
static void plain_slerp(const float *x, const float *y, const double *w, int64_t n, float *out) {
	double dot = 0;
	for (int64_t i = 0; i < n; i++)
		dot += (double)x[i] * (double)y[i];
	const double angle = acos(dot / norm(x, n) / norm(y, n)), t = w[1] / (w[0] + w[1]);
	for (int64_t i = 0; i < n; i++)
		out[i] = (float)((sin((1 - t) * angle) * (double)x[i] + sin(t * angle) * (double)y[i]) /
		                 sin(angle));
}

/* |merged - wanted| / |wanted| of one matrix. */
static double distance(const kit *k, const rv_adapter *merged, int j, const float *wanted) {
	const int64_t n = shape[j].in * shape[j].out;
	rv_adapter_matrices m;
	double sum = 0;
	assert_ok(rv_adapter_matrices_init(&m, merged, k->model));
	assert_int_equal(m.n, N_PARTS);
	assert_int_equal(m.parts[j].role, shape[j].role);
	float *x = product(&m.parts[j], shape[j].out, shape[j].in);
	for (int64_t i = 0; i < n; i++)
		sum += pow((double)x[i] - (double)wanted[i], 2);
	rv_free(x);
	rv_adapter_matrices_deinit(&m);
	return sqrt(sum) / norm(wanted, n);
}

static rv_adapter *merge(const kit *k, const rv_merge_options *o, rv_merge_report *report) {
	rv_adapter *merged;
	assert_ok(rv_adapter_merge(&merged, k->model, "merged", k->adapters, N, o, report));
	return merged;
}

/* ---- tests ---- */

static void test_exact(void **state) {
	(void)state;
	static const double weights[N] = {0.3, 1.1};
	for (int alone = 0; alone < 2; alone++) {
		kit k;
		open_kit(&k, alone);
		for (int method = RV_MERGE_LINEAR; method <= RV_MERGE_SLERP; method++) {
			rv_merge_options o = rv_merge_defaults();
			rv_merge_report report;
			o.method = (rv_merge)method;
			o.weights = weights;
			o.scale = 0.7;
			rv_adapter *merged = merge(&k, &o, &report);
			double norm2 = 0;
			for (int j = 0; j < N_PARTS; j++) {
				const int64_t n = shape[j].in * shape[j].out;
				const float *x = k.change[0][j], *y = k.change[1][j];
				float *wanted;
				assert_ok(RV_ALLOC(&wanted, n, "wanted"));
				if (method == RV_MERGE_SLERP && norm(y, n) > 0)
					plain_slerp(x, y, weights, n, wanted);
				else
					for (int64_t i = 0; i < n; i++)
						wanted[i] = (float)(method == RV_MERGE_TASK
						                            ? plain_task
						                            : plain_linear)(
						        &o, weights, (double)x[i], (double)y[i]);
				assert_true(distance(&k, merged, j, wanted) < 1e-5);
				norm2 += pow(norm(wanted, n), 2);
				for (int64_t i = 0; i < n; i++) /* control */
					wanted[i] *= 1.001f;
				assert_true(distance(&k, merged, j, wanted) > 5e-4);
				rv_free(wanted);
			}
			assert_int_equal(report.rank, 2 * RANK + 1);
			assert_true(report.lost == 0 && isnan(report.conflicts));
			assert_true(fabs(report.norm / sqrt(norm2) - 1) < 1e-4);
			rv_adapter_release(merged);
		}
		close_kit(&k);
	}
}

static void test_dense(void **state) {
	(void)state;
	static const double weights[N] = {1, 0.6};
	kit k;
	open_kit(&k, 0);
	for (int method = RV_MERGE_COUNT - 1; method >= RV_MERGE_TIES; method--) { /* ties trims last */
		rv_merge_options o = rv_merge_defaults();
		rv_merge_report report;
		o.method = (rv_merge)method;
		o.weights = weights;
		o.scale = 0.8;
		o.density = method == RV_MERGE_TIES ? 0.3 : 1; /* what dare drops: test_dropping */
		o.rank = 256;                                  /* nothing is truncated */
		rv_adapter *merged = merge(&k, &o, &report);
		for (int j = 0; j < N_PARTS; j++) {
			const int64_t n = shape[j].in * shape[j].out;
			float *wanted, *x = k.change[0][j], *y = k.change[1][j];
			assert_ok(RV_ALLOC(&wanted, n, "wanted"));
			if (method == RV_MERGE_TIES) {
				plain_trim(x, n, o.density);
				plain_trim(y, n, o.density);
			}
			for (int64_t i = 0; i < n; i++)
				wanted[i] = (float)(method == RV_MERGE_DARE ? plain_task : plain_agree)(
				        &o, weights, (double)x[i], (double)y[i]);
			assert_true(distance(&k, merged, j, wanted) < 1e-5);
			double other = 0; /* control: the other rule gives something else */
			for (int64_t i = 0; i < n; i++) {
				const double d = (method == RV_MERGE_DARE ? plain_agree : plain_task)(
				        &o, weights, (double)x[i], (double)y[i]);
				other += pow(d - (double)wanted[i], 2);
			}
			assert_true(sqrt(other) / norm(wanted, n) > 0.05);
			rv_free(wanted);
		}
		assert_true(report.lost == 0);
		assert_int_equal(isnan(report.conflicts), method == RV_MERGE_DARE);
		rv_adapter_release(merged);
	}
	close_kit(&k);
}

/* By hand: of each the two largest of four stay. */
static void test_ties_by_hand(void **state) {
	(void)state;
	float x[4] = {1, -2, 0.1f, 3}, y[4] = {-0.5f, -1, 0.2f, -4}, out[4];
	float *const changes[2] = {x, y};
	const double weights[2] = {1, 1};
	rv_merge_options o = rv_merge_defaults();
	int64_t conflicts = 0, twice = 0;
	o.method = RV_MERGE_TIES;
	o.density = 0.5; /* x: -2, 3; y: -1, -4. Signs: -, - (3 - 4 < 0) */
	rv_merge_dense(&o, changes, weights, 2, 4, 0, out, &conflicts, &twice);
	static const float wanted[4] = {0, -1.5f, 0, -4};
	for (int i = 0; i < 4; i++)
		assert_float_equal(out[i], wanted[i], 1e-6f);
	assert_int_equal(conflicts, 1);
	assert_int_equal(twice, 2);
}

static void test_dropping(void **state) {
	(void)state;
	enum { ROUNDS = 200, SMALL = 1000 };
	rv_merge_options o = rv_merge_defaults();
	const double weights[2] = {1, 1};
	float x[SMALL], y[SMALL], out[SMALL];
	float *const changes[2] = {x, y};
	double sum = 0, ones = 0;
	int64_t conflicts = 0, twice = 0, kept = 0, same = 0;
	o.method = RV_MERGE_DARE;
	o.density = 0.25;
	for (o.seed = 0; o.seed < ROUNDS; o.seed++) {
		for (int i = 0; i < SMALL; i++)
			x[i] = 1, y[i] = 2;
		rv_merge_dense(&o, changes, weights, 2, SMALL, 9, out, &conflicts, &twice);
		for (int i = 0; i < SMALL; i++) {
			assert_true(x[i] == 0 || x[i] == 4); /* 1 / density */
			kept += x[i] > 0;
			same += (x[i] > 0) == (y[i] > 0);
			sum += (double)out[i];
			ones += (double)x[i];
		}
	}
	const double n = (double)ROUNDS * SMALL;
	assert_true(fabs((double)kept / n - 0.25) < 0.005);
	assert_true(fabs(ones / n - 1) < 0.02 && fabs(sum / n - 3) < 0.05); /* the mean stays */
	assert_true(fabs((double)same / n - 0.625) < 0.01); /* each drops by its own numbers */
	/* another matrix drops others; the same one the same */
	float again[SMALL];
	for (int stream = 9; stream < 11; stream++) {
		for (int i = 0; i < SMALL; i++)
			x[i] = 1, y[i] = 2;
		o.seed = ROUNDS - 1;
		rv_merge_dense(&o, changes, weights, 2, SMALL, (uint64_t)stream, again, &conflicts,
		               &twice);
		assert_int_equal(memcmp(again, out, sizeof out) == 0, stream == 9);
	}
}

static void test_known_cases(void **state) {
	(void)state;
	static const double away[N] = {1, -1}, first[N] = {1, 0}, both[N] = {1, 1};
	kit k;
	rv_merge_report report;
	open_kit(&k, 0);
	rv_merge_options o = rv_merge_defaults();
	/* the ends of the arc are the adapters */
	o.method = RV_MERGE_SLERP;
	o.weights = first;
	rv_adapter *merged = merge(&k, &o, NULL);
	assert_true(distance(&k, merged, 0, k.change[0][0]) < 1e-5);
	assert_true(distance(&k, merged, 0, k.change[1][0]) > 0.5);
	rv_adapter_release(merged);
	/* halfway the arc is longer than the chord, by 1 / cos of half the angle */
	o.weights = both;
	rv_merge_report chord, arc;
	merged = merge(&k, &o, &arc);
	rv_adapter_release(merged);
	o.method = RV_MERGE_LINEAR;
	merged = merge(&k, &o, &chord);
	rv_adapter_release(merged);
	assert_true(arc.norm / chord.norm > 1.3 && arc.norm / chord.norm < 1.5);
	/* with itself: itself by every method that keeps everything, on the line too */
	rv_adapter *twins[N] = {k.adapters[0], k.adapters[0]};
	static const rv_merge same[] = {RV_MERGE_LINEAR, RV_MERGE_SLERP, RV_MERGE_TIES,
	                                RV_MERGE_DARE_TIES};
	o.density = 1;
	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		o.method = same[i];
		assert_ok(rv_adapter_merge(&merged, k.model, "twins", twins, N, &o, &report));
		for (int j = 0; j < N_PARTS; j++)
			assert_true(distance(&k, merged, j, k.change[0][j]) < 2e-4);
		assert_true(report.lost < 2e-4 * report.norm);
		rv_adapter_release(merged);
	}
	/* minus itself: nothing */
	o.method = RV_MERGE_TASK;
	o.weights = away;
	assert_ok(rv_adapter_merge(&merged, k.model, "twins", twins, N, &o, &report));
	assert_true(report.norm < 1e-3 * chord.norm);
	rv_adapter_release(merged);
	close_kit(&k);
}

/* The same bits at any number of threads. */
static void test_threads(void **state) {
	(void)state;
	kit k;
	rv_threads *threads;
	rv_threads_options t = rv_threads_defaults();
	t.n_threads = 3;
	t.pin = 0;
	open_kit(&k, 0);
	assert_ok(rv_threads_create(&threads, &t));
	char hex[3][65];
	for (int i = 0; i < 3; i++) {
		rv_merge_options o = rv_merge_defaults();
		o.method = RV_MERGE_DARE_TIES;
		o.seed = i == 2;
		o.threads = i ? threads : NULL;
		rv_adapter *merged = merge(&k, &o, NULL);
		rv_adapter_sha256(merged, hex[i]);
		rv_adapter_release(merged);
	}
	assert_string_equal(hex[0], hex[1]);
	assert_string_not_equal(hex[0], hex[2]); /* control: another seed */
	rv_threads_destroy(threads);
	close_kit(&k);
}

static void expect(const kit *k, rv_merge_options o, int n, rv_status wanted, const char *what) {
	rv_adapter *merged = k->adapters[0],
	           *three[3] = {k->adapters[0], k->adapters[1], k->adapters[0]};
	const rv_status st = rv_adapter_merge(&merged, k->model, "merged", three, n, &o, NULL);
	if (st != wanted || merged || !strstr(rv_error_message(), what))
		fail_msg("expected '%s', got %s: %s", what, rv_status_text(st), rv_error_message());
}

static void test_refused(void **state) {
	(void)state;
	static const double nan[3] = {1, NAN, 1}, below[3] = {1, -1, 1}, zero[3] = {0};
	kit k;
	open_kit(&k, 0);
	rv_merge_options o = rv_merge_defaults();
	expect(&k, o, 1, RV_ERR_INVALID, "2 to 16");
	o.weights = nan;
	expect(&k, o, 2, RV_ERR_INVALID, "adapter 2");
	o.weights = below;
	expect(&k, o, 2, RV_ERR_INVALID, "from 0 on");
	o.weights = zero;
	expect(&k, o, 2, RV_ERR_INVALID, "add up");
	o = rv_merge_defaults();
	o.density = 1.5;
	expect(&k, o, 2, RV_ERR_INVALID, "density");
	o = rv_merge_defaults();
	o.method = RV_MERGE_SLERP;
	expect(&k, o, 3, RV_ERR_INVALID, "slerp takes 2");
	o.method = RV_MERGE_TASK;
	o.scale = 3e38;
	expect(&k, o, 2, RV_ERR_NUMERIC, "NaN or infinity");
	rv_hparams hp = tiny_hparams();
	hp.n_ff = 768;
	rv_model *other = tiny_model_of(&hp, "qwen2", "F16", 1);
	rv_model *mine = k.model;
	k.model = other;
	expect(&k, rv_merge_defaults(), 2, RV_ERR_MISMATCH, "another shape");
	k.model = mine;
	rv_model_release(other);
	close_kit(&k);
}

/* ---- truncation ---- */

/* A matrix of known singular values: sum s_i u_i v_i^T of cosines, which are orthogonal. */
static float *of_spectrum(const double *s, int64_t rows, int64_t cols, int64_t n) {
	float *x;
	assert_ok(RV_ALLOC(&x, rows * cols, "matrix"));
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++) {
			double sum = 0;
			for (int64_t r = 0; r < n; r++) {
				const double f = r ? sqrt(2) : 1;
				sum += s[r] * f *
				       cos(M_PI * (double)r * ((double)i + 0.5) / (double)rows) * f *
				       cos(M_PI * (double)r * ((double)j + 0.5) / (double)cols) /
				       sqrt((double)rows * (double)cols);
			}
			x[i * cols + j] = (float)sum;
		}
	return x;
}

static void test_truncate(void **state) {
	(void)state;
	enum { LOW = 12, ALL = 100, HIGH = 140 };
	for (int spectrum = 0; spectrum < 3; spectrum++) {
		double s[ALL], left = 0, error;
		float b[HIGH * LOW], a[LOW * ALL];
		for (int r = 0; r < ALL; r++) { /* falling fast, slowly, hardly at all */
			s[r] = spectrum == 0   ? pow(0.7, r)
			       : spectrum == 1 ? 1.0 / (1 + r)
			                       : 1 - 0.002 * r;
			left += r >= LOW ? s[r] * s[r] : 0;
		}
		float *x = of_spectrum(s, HIGH, ALL, ALL);
		assert_ok(rv_truncate(x, HIGH, ALL, LOW, 5, b, a, &error));
		assert_true(error >= (1 - 1e-5) * sqrt(left));
		assert_true(error <= (spectrum == 2 ? 1.001 : 1.0001) * sqrt(left));
		double sum = 0; /* and it is the error of what came out */
		for (int64_t i = 0; i < HIGH; i++)
			for (int64_t j = 0; j < ALL; j++) {
				double p = 0;
				for (int64_t r = 0; r < LOW; r++)
					p += (double)b[i * LOW + r] * (double)a[r * ALL + j];
				sum += pow(p - (double)x[i * ALL + j], 2);
			}
		assert_true(fabs(sqrt(sum) / error - 1) < 1e-4);
		rv_free(x);
	}
	/* a matrix of low rank, the matrix 0, and as many columns as there are */
	const double two[2] = {3, 1};
	double error;
	float *x = of_spectrum(two, 40, 30, 2), b[40 * 30], a[30 * 30];
	assert_ok(rv_truncate(x, 40, 30, 5, 1, b, a, &error));
	assert_true(error < 1e-5);
	assert_ok(rv_truncate(x, 40, 30, 1, 1, b, a, &error));
	assert_true(fabs(error - 1) < 1e-4);
	assert_ok(rv_truncate(x, 40, 30, 30, 1, b, a, &error));
	assert_true(error == 0 && memcmp(b, x, 40 * 30 * sizeof *x) == 0);
	memset(x, 0, 40 * 30 * sizeof *x);
	assert_ok(rv_truncate(x, 40, 30, 4, 1, b, a, &error));
	assert_true(error == 0);
	rv_free(x);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_exact),        cmocka_unit_test(test_dense),
	        cmocka_unit_test(test_ties_by_hand), cmocka_unit_test(test_dropping),
	        cmocka_unit_test(test_known_cases),  cmocka_unit_test(test_threads),
	        cmocka_unit_test(test_refused),      cmocka_unit_test(test_truncate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
