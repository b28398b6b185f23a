/* Back-propagation through time of the FastGRNN cell against central differences in float64, weight by
 * weight; and each term dropped is noticed. */
enum term {
	DROP_nothing,
	DROP_grnn_gate,
	DROP_grnn_carry,
	DROP_grnn_recurrence,
	DROP_grnn_scalars,
	DROP_COUNT
};
static enum term dropped;

#define RV_TRAIN_DOUBLE
#define RV_TRAIN_KEEPS(term) (dropped != DROP_##term)
#define rv_grnn_forward rv_grnn_forward_f64
#define rv_grnn_backward rv_grnn_backward_f64
#include "learn/fastgrnn_cell_body.h"

#include "base/rng.h"
#include "tests/support/test.h"

static const rv_grnn_shape shape = {
        .in = 5, .hidden = 7, .rank_w = 3, .rank_u = 4, .steps = 6, .out = 3};
enum { COUNT_MAX = 512 };

typedef struct rig {
	rv_grnn_layout layout;
	double params[COUNT_MAX], grad[COUNT_MAX], x[6 * 5], target[3];
	rv_grnn_tape tape;
} rig;

/* half the squared distance from a target */
static double loss(rig *r, double dy[3]) {
	double y[3], sum = 0;
	rv_grnn_forward(&shape, r->params, r->x, &r->tape, y);
	for (int i = 0; i < shape.out; i++) {
		dy[i] = y[i] - r->target[i];
		sum += 0.5 * dy[i] * dy[i];
	}
	return sum;
}

static int n_wrong(void) {
	static rig r;
	rv_rng rng;
	double dy[3];
	int wrong = 0;
	memset(&r, 0, sizeof r);
	r.layout = rv_grnn_layout_of(&shape);
	assert_true(r.layout.count <= COUNT_MAX);
	rv_rng_seed(&rng, 7);
	for (int64_t i = 0; i < r.layout.count; i++)
		r.params[i] = 0.7 * rv_rng_normal(&rng);
	for (size_t i = 0; i < sizeof r.x / sizeof *r.x; i++)
		r.x[i] = rv_rng_normal(&rng);
	for (int i = 0; i < shape.out; i++)
		r.target[i] = rv_rng_normal(&rng);
	loss(&r, dy);
	rv_grnn_backward(&shape, r.params, r.x, &r.tape, dy, r.grad);
	for (int64_t i = 0; i < r.layout.count; i++) {
		const double at = r.params[i], h = 1e-5;
		r.params[i] = at + h;
		const double above = loss(&r, dy);
		r.params[i] = at - h;
		const double below = loss(&r, dy), slope = (above - below) / (2 * h);
		r.params[i] = at;
		wrong += !(fabs(slope - r.grad[i]) <= 1e-7 + 1e-6 * fabs(slope));
	}
	return wrong;
}

static void every_gradient(void **state) {
	(void)state;
	dropped = DROP_nothing;
	assert_int_equal(n_wrong(), 0);
}

static void dropped_terms(void **state) {
	(void)state;
	for (int term = DROP_nothing + 1; term < DROP_COUNT; term++) {
		dropped = (enum term)term;
		const int wrong = n_wrong();
		dropped = DROP_nothing;
		if (wrong < (term == DROP_grnn_scalars ? 2 : 10))
			fail_msg("term %d dropped, and %d gradients are found wrong", term, wrong);
	}
}

/* A first segment must matter at the end: the recurrence is real. */
static void memory(void **state) {
	(void)state;
	static rig r;
	rv_rng rng;
	double first[3], second[3];
	memset(&r, 0, sizeof r);
	r.layout = rv_grnn_layout_of(&shape);
	rv_rng_seed(&rng, 8);
	for (int64_t i = 0; i < r.layout.count; i++)
		r.params[i] = 0.7 * rv_rng_normal(&rng);
	loss(&r, first);
	r.x[0] += 1;
	loss(&r, second);
	assert_true(fabs(first[0] - second[0]) > 1e-6);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_gradient),
	        cmocka_unit_test(dropped_terms),
	        cmocka_unit_test(memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
