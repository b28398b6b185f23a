/* The gradient of the local objective against finite differences of the objective in doubles, at a tiny
 * model and at nano. */
#include "base/mem.h"
#include "base/rng.h"
#include "engine/context.h"
#include "learn/local_objective.h"
#include "tests/learn/local_reference.h"
#include "tests/support/tiny_model.h"

enum { N_TOP = 64, N_STATES = 3, PROBES = 40 };

/* One token over several states. */
typedef struct problem {
	rv_model *model;
	rv_local_objective objective;
	int32_t ids[N_TOP];
	float saved[N_TOP];
	float *states, *gradients; /* [N_STATES, n_embd] */
	double loss[N_STATES];
	void *scratch;
	int64_t n, chosen;
} problem;

static void setup(problem *p, rv_model *model, uint64_t seed) {
	rv_level level;
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	assert_ok(rv_level_default(&level));
	*p = (problem){.model = model, .n = rv_model_hparams(model)->n_embd, .chosen = 5};
	rv_local_objective_init(&p->objective, model, rv_kernels_for(level));
	assert_ok(RV_ALLOC(&p->states, N_STATES * p->n, "test"));
	assert_ok(RV_ALLOC(&p->gradients, N_STATES * p->n, "test"));
	assert_ok(rv_alloc(&p->scratch, 1, rv_local_scratch_bytes(&p->objective, N_TOP, N_STATES),
	                   "test"));
	for (int64_t i = 0; i < N_STATES * p->n; i++)
		p->states[i] = (float)(0.5 * (double)(i / p->n + 1) * rv_rng_normal(&rng));
	for (int i = 0; i < N_TOP; i++) {
		p->ids[i] = (int32_t)(7 * i + (int)(seed % 5));
		p->saved[i] = (float)(2 * rv_rng_normal(&rng));
	}
}

static void teardown(problem *p) {
	rv_free(p->states);
	rv_free(p->gradients);
	rv_free(p->scratch);
}

static void differentiate(problem *p, rv_local_reading reading) {
	const float *states[N_STATES];
	float *gradients[N_STATES];
	for (int i = 0; i < N_STATES; i++) {
		states[i] = p->states + i * p->n;
		gradients[i] = p->gradients + i * p->n;
	}
	const rv_local_token token = {p->ids, p->saved, N_TOP, p->chosen, states, N_STATES};
	rv_local_objective_gradient(&p->objective, reading, &token, p->scratch, p->loss, gradients);
}

/* Largest error of gradient entries against central differences, as a share of the gradient's largest
 * entry. */
static double error_of(const problem *p, rv_local_reading reading, int state, const float *gradient) {
	const float *h = p->states + state * p->n;
	const local_reference r = {.model = p->model,
	                           .ids = p->ids,
	                           .saved = reading == RV_LOCAL_ANCHORED ? p->saved : NULL,
	                           .at = h,
	                           .n_top = N_TOP,
	                           .chosen = p->chosen};
	double *x = (double *)malloc((size_t)p->n * sizeof *x), worst = 0, most = 0;
	for (int64_t k = 0; k < p->n; k++) {
		x[k] = (double)h[k];
		most = fmax(most, fabs((double)gradient[k]));
	}
	for (int i = 0; i < PROBES; i++) {
		const int64_t k = i * (p->n - 1) / (PROBES - 1);
		const double step = 1e-5, was = x[k];
		x[k] = was + step;
		const double up = reference_loss(&r, x);
		x[k] = was - step;
		const double down = reference_loss(&r, x);
		x[k] = was;
		worst = fmax(worst, fabs((up - down) / (2 * step) - (double)gradient[k]));
	}
	free(x);
	return worst / most;
}

static double loss_error(const problem *p, rv_local_reading reading, int state) {
	double *x = (double *)malloc((size_t)p->n * sizeof *x);
	const local_reference r = {p->model,
	                           p->ids,
	                           reading == RV_LOCAL_ANCHORED ? p->saved : NULL,
	                           p->states + state * p->n,
	                           N_TOP,
	                           p->chosen};
	for (int64_t k = 0; k < p->n; k++)
		x[k] = (double)p->states[state * p->n + k];
	const double error = fabs(reference_loss(&r, x) - p->loss[state]);
	free(x);
	return error;
}

static void check(rv_model *model) {
	for (uint64_t seed = 1; seed <= 3; seed++)
		for (int reading = 0; reading < RV_LOCAL_READING_COUNT; reading++) {
			problem p;
			setup(&p, model, seed);
			differentiate(&p, (rv_local_reading)reading);
			for (int s = 0; s < N_STATES; s++) {
				assert_true(loss_error(&p, (rv_local_reading)reading, s) < 1e-4);
				assert_true(error_of(&p, (rv_local_reading)reading, s,
				                     p.gradients + s * p.n) < 1e-4);
			}
			teardown(&p);
		}
}

static void exact_at_tiny_shapes(void **state) {
	static const char *const types[] = {"F16", "Q8_0", "Q4_K_M"};
	(void)state;
	for (int i = 0; i < 3; i++) {
		rv_model *model = tiny_model(i == 1 ? "llama" : "qwen2", types[i]);
		check(model);
		rv_model_release(model);
	}
}

static void exact_at_nano(void **state) {
	(void)state;
	rv_model *model;
	assert_ok(rv_model_open(&model, "datasets/models/nano.gguf", NULL));
	check(model);
	rv_model_release(model);
}

/* Controls: a gradient without the norm's second term, without its weights, of the other reading, or
 * moved by a thousandth of its size is not what the differences say. */
static void dropped_terms_are_caught(void **state) {
	(void)state;
	rv_model *model;
	problem p;
	assert_ok(rv_model_open(&model, "datasets/models/nano.gguf", NULL));
	setup(&p, model, 1);
	differentiate(&p, RV_LOCAL_LENS);
	float *wrong;
	assert_ok(RV_ALLOC(&wrong, p.n, "test"));
	double along = 0, squares = 0, most = 0;
	const float *norm = rv_model_weight(model, RV_OUTPUT_NORM, 0)->data;
	for (int64_t k = 0; k < p.n; k++) {
		squares += (double)(p.states[k] * p.states[k]);
		most = fmax(most, fabs((double)p.gradients[k]));
	}
	/* The gradient is orthogonal to the state but for eps: what was taken away along it. */
	for (int64_t k = 0; k < p.n; k++)
		along += (double)(p.gradients[k] * p.states[k]);
	assert_true(fabs(along) < 1e-4 * sqrt(squares) * most);
	for (int64_t k = 0; k < p.n; k++)
		wrong[k] = p.gradients[k] + (float)(0.05 * most) * p.states[k] / sqrtf((float)squares);
	assert_true(error_of(&p, RV_LOCAL_LENS, 0, wrong) > 1e-3);
	for (int64_t k = 0; k < p.n; k++)
		wrong[k] = p.gradients[k] / norm[k];
	assert_true(error_of(&p, RV_LOCAL_LENS, 0, wrong) > 1e-2);
	assert_true(error_of(&p, RV_LOCAL_ANCHORED, 0, p.gradients) > 1e-2);
	for (int64_t k = 0; k < p.n; k++)
		wrong[k] = p.gradients[k] + (float)(1e-3 * most);
	assert_true(error_of(&p, RV_LOCAL_LENS, 0, wrong) > 5e-4);
	rv_free(wrong);
	teardown(&p);
	rv_model_release(model);
}

static void not_finite_shows(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "Q8_0");
	problem p;
	setup(&p, model, 1);
	p.states[p.n + 3] = NAN;
	differentiate(&p, RV_LOCAL_LENS);
	assert_true(isfinite(p.loss[0]) && isfinite(p.gradients[0]));
	assert_false(isfinite(p.loss[1]) && isfinite(p.gradients[p.n]));
	assert_true(isfinite(p.loss[2]) && isfinite(p.gradients[2 * p.n]));
	teardown(&p);
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(exact_at_tiny_shapes),
	        cmocka_unit_test(exact_at_nano),
	        cmocka_unit_test(dropped_terms_are_caught),
	        cmocka_unit_test(not_finite_shows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
