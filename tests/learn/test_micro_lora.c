/* MicroLoRA: updates against finite differences of the local objective in doubles, as a function of
 * both factors; what is decoded with it; keeping, loading, stacking, sparse and adaptive forms. */
#include "base/mem.h"
#include "base/rng.h"
#include "engine/context.h"
#include "learn/micro_lora.h"
#include "tests/learn/local_reference.h"
#include "tests/support/tiny_model.h"

#include <string.h>

enum { N_TOP = 64, N_TOKENS = 3 };

static float *random_floats(int64_t n, double scale, uint64_t seed) {
	float *x;
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	assert_ok(RV_ALLOC(&x, n, "test"));
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)(scale * rv_rng_normal(&rng));
	return x;
}

static rv_micro_lora_options options_of(rv_site site, int64_t rank) {
	rv_micro_lora_options o = rv_micro_lora_defaults();
	o.layers[0] = 1;
	o.layers[1] = 2;
	o.n_layers = 2;
	o.site = site;
	o.rank = rank;
	o.seed = 3;
	return o;
}

/* A MicroLoRA whose B is not zero. */
static rv_micro_lora *moved(rv_model *model, const rv_micro_lora_options *options) {
	rv_micro_lora *m;
	assert_ok(rv_micro_lora_create(&m, model, options));
	for (int i = 0; i < rv_micro_lora_n_parts(m); i++) {
		const rv_micro_part p = rv_micro_lora_part(m, i);
		float *x = random_floats(4 * p.n_in, 1, 10 + (uint64_t)i),
		      *g = random_floats(4 * p.n_out, 0.05, 20 + (uint64_t)i);
		assert_ok(rv_micro_lora_update(m, i, x, p.n_in, g, p.n_out, 4, 0.5));
		rv_free(x);
		rv_free(g);
	}
	return m;
}

/* ---- the gradient by both factors ---- */

/* Sum over tokens of the loss at state + s (B A - B0 A0) x. */
typedef struct problem {
	rv_model *model;
	rv_micro_lora *m;
	rv_micro_part part;
	double *a, *b; /* what is moved: [rank, n_in], [rank, n_out] */
	float *x, *states, *gradients;
	int32_t ids[N_TOP];
} problem;

static double loss_at(const problem *p) {
	const int64_t n_in = p->part.n_in, n_out = p->part.n_out;
	double total = 0, *h = (double *)malloc((size_t)n_out * sizeof *h);
	for (int t = 0; t < N_TOKENS; t++) {
		const local_reference r = {p->model, p->ids, NULL, NULL, N_TOP, 2 * t};
		const float *x = p->x + t * n_in;
		for (int64_t k = 0; k < n_out; k++)
			h[k] = (double)p->states[t * n_out + k];
		for (int64_t q = 0; q < p->part.rank; q++) {
			double low = 0, before = 0;
			for (int64_t i = 0; i < n_in; i++) {
				low += p->a[q * n_in + i] * (double)x[i];
				before += (double)p->part.a[q * n_in + i] * (double)x[i];
			}
			for (int64_t k = 0; k < n_out; k++)
				h[k] += (double)p->part.scale *
				        (p->b[q * n_out + k] * low -
				         (double)p->part.b_columns[q * n_out + k] * before);
		}
		total += reference_loss(&r, h);
	}
	free(h);
	return total;
}

static void setup(problem *p, rv_model *model, rv_site site, rv_micro_form form, int64_t rank) {
	rv_micro_lora_options o = options_of(site, rank);
	rv_level level;
	o.form = form;
	p->model = model;
	p->m = moved(model, &o);
	p->part = rv_micro_lora_part(p->m, 0);
	const int64_t n_a = rank * p->part.n_in, n_b = rank * p->part.n_out;
	p->a = (double *)malloc((size_t)n_a * sizeof *p->a);
	p->b = (double *)malloc((size_t)n_b * sizeof *p->b);
	for (int64_t i = 0; i < n_a; i++)
		p->a[i] = (double)p->part.a[i];
	for (int64_t i = 0; i < n_b; i++)
		p->b[i] = (double)p->part.b_columns[i];
	p->x = random_floats(N_TOKENS * p->part.n_in, 1, 1);
	p->states = random_floats(N_TOKENS * p->part.n_out, 1, 2);
	p->gradients = random_floats(N_TOKENS * p->part.n_out, 0, 2);
	for (int i = 0; i < N_TOP; i++)
		p->ids[i] = 5 * i;
	rv_local_objective objective;
	assert_ok(rv_level_default(&level));
	rv_local_objective_init(&objective, model, rv_kernels_for(level));
	void *scratch;
	assert_ok(rv_alloc(&scratch, 1, rv_local_scratch_bytes(&objective, N_TOP, 1), "test"));
	for (int t = 0; t < N_TOKENS; t++) {
		const float *state = p->states + t * p->part.n_out;
		float *gradient = p->gradients + t * p->part.n_out;
		double loss;
		const rv_local_token token = {p->ids, NULL, N_TOP, 2 * t, &state, 1};
		rv_local_objective_gradient(&objective, RV_LOCAL_LENS, &token, scratch, &loss,
		                            &gradient);
	}
	rv_free(scratch);
}

static void teardown(problem *p) {
	rv_micro_lora_destroy(p->m);
	free(p->a);
	free(p->b);
	rv_free(p->x);
	rv_free(p->states);
	rv_free(p->gradients);
}

/* Largest difference of (before - after) / step and central differences, over probes of one factor, as
 * a share of the largest difference there is. `before`: the factor as it was. */
static double factor_error(const problem *p, double *moving, const float *after, int64_t n,
                           double step) {
	double worst = 0, most = 0;
	for (int i = 0; i < 25; i++) {
		const int64_t k = i * (n - 1) / 24;
		const double was = moving[k], by = 1e-5;
		moving[k] = was + by;
		const double up = loss_at(p);
		moving[k] = was - by;
		const double down = loss_at(p);
		moving[k] = was;
		const double slope = (up - down) / (2 * by);
		worst = fmax(worst, fabs((was - (double)after[k]) / step - slope));
		most = fmax(most, fabs(slope));
	}
	return worst / most;
}

/* Errors of one update by A and by B. */
static void errors(rv_model *model, rv_site site, rv_micro_form form, int64_t rank, double drop,
                   double *by_a, double *by_b) {
	problem p;
	setup(&p, model, site, form, rank);
	const int64_t n_a = rank * p.part.n_in, n_b = rank * p.part.n_out;
	const double step = 1; /* large, so that rounding of the factors does not show */
	float *a = random_floats(n_a, 0, 1), *b = random_floats(n_b, 0, 1);
	memcpy(a, p.part.a, (size_t)n_a * sizeof *a);
	memcpy(b, p.part.b_columns, (size_t)n_b * sizeof *b);
	for (int64_t i = 0; i < N_TOKENS * p.part.n_out; i++)
		p.gradients[i] *= (float)(1 - drop);
	rv_micro_lora_keep(p.m);
	assert_ok(rv_micro_lora_update(p.m, 0, p.x, p.part.n_in, p.gradients, p.part.n_out, N_TOKENS,
	                               step));
	/* The borrowed factors have moved; differences are taken where they were. */
	float *new_a = random_floats(n_a, 0, 1), *new_b = random_floats(n_b, 0, 1);
	memcpy(new_a, p.part.a, (size_t)n_a * sizeof *a);
	memcpy(new_b, p.part.b_columns, (size_t)n_b * sizeof *b);
	rv_micro_lora_roll_back(p.m);
	assert_memory_equal(p.part.a, a, (size_t)n_a * sizeof *a);
	assert_memory_equal(p.part.b_columns, b, (size_t)n_b * sizeof *b);
	*by_a = factor_error(&p, p.a, new_a, n_a, step);
	*by_b = factor_error(&p, p.b, new_b, n_b, step);
	rv_free(a);
	rv_free(b);
	rv_free(new_a);
	rv_free(new_b);
	teardown(&p);
}

static void check_model(rv_model *model) {
	static const rv_site sites[] = {RV_SITE_ATTN_OUT, RV_SITE_FFN_OUT};
	double by_a, by_b;
	for (int s = 0; s < 2; s++)
		for (int64_t rank = 1; rank <= RV_MICRO_MAX_RANK; rank *= 2) {
			errors(model, sites[s], RV_MICRO_EXACT, rank, 0, &by_a, &by_b);
			assert_true(by_a < 2e-3 && by_b < 2e-3);
		}
	/* Controls: the seeds' form, and a gradient a hundredth too small. */
	errors(model, RV_SITE_ATTN_OUT, RV_MICRO_SEEDS, 2, 0, &by_a, &by_b);
	assert_true(by_a > 1e-1 && by_b > 1e-1);
	errors(model, RV_SITE_ATTN_OUT, RV_MICRO_EXACT, 2, 0.01, &by_a, &by_b);
	assert_true(by_a > 4e-3 && by_b > 4e-3);
}

static void updates_follow_the_gradient(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "Q8_0");
	check_model(model);
	rv_model_release(model);
	assert_ok(rv_model_open(&model, "datasets/models/nano.gguf", NULL));
	check_model(model);
	rv_model_release(model);
}

/* ---- decoding ---- */

static void logits_with(rv_model *model, rv_adapter *const *adapters, int n, float *out) {
	rv_adapter_use uses[2];
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	rv_row rows[12];
	for (int i = 0; i < n; i++)
		uses[i] = (rv_adapter_use){adapters[i], 1};
	o.adapters = uses;
	o.n_adapters = n;
	o.backend = RV_BACKEND_REF;
	assert_ok(rv_context_create(&ctx, model, &o));
	for (int i = 0; i < 12; i++)
		rows[i] = (rv_row){.token = 31 * i % 500,
		                   .position = i,
		                   .parent = -1,
		                   .flags = i == 11 ? RV_ROW_LOGITS : 0};
	assert_ok(rv_context_eval(ctx, rows, 12));
	memcpy(out, rv_context_logits(ctx, 11), (size_t)rv_model_hparams(model)->n_vocab * sizeof *out);
	rv_context_destroy(ctx);
}

static double largest_difference(const float *x, const float *y, int64_t n) {
	double most = 0;
	for (int64_t i = 0; i < n; i++)
		most = fmax(most, fabs((double)x[i] - (double)y[i]));
	return most;
}

static void adapters_decode_what_it_is(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	const rv_micro_lora_options o = options_of(RV_SITE_PROJ_ALL, 2),
	                            other = options_of(RV_SITE_ATTN_OUT, 3);
	rv_micro_lora *fresh, *m = moved(model, &o), *base = moved(model, &other);
	float plain[512], with[512], both[512], apart[512];
	rv_adapter *list[2], *stacked, *none;
	assert_ok(rv_micro_lora_create(&fresh, model, &o));
	logits_with(model, NULL, 0, plain);
	assert_ok(rv_micro_lora_adapter(fresh, NULL, "fresh", &none));
	logits_with(model, &none, 1, with);
	assert_true(largest_difference(plain, with, 512) < 1e-6); /* B is zero */
	assert_ok(rv_micro_lora_adapter(m, NULL, "micro", &list[0]));
	logits_with(model, &list[0], 1, with);
	assert_true(largest_difference(plain, with, 512) > 1e-2);
	/* On top of a base: as both side by side. */
	assert_ok(rv_micro_lora_adapter(base, NULL, "base", &list[1]));
	logits_with(model, list, 2, apart);
	assert_ok(rv_micro_lora_adapter(m, list[1], "stacked", &stacked));
	logits_with(model, &stacked, 1, both);
	assert_true(largest_difference(apart, both, 512) < 1e-4);
	assert_true(largest_difference(with, both, 512) > 1e-2);
	/* What adds nothing leaves the base's ranks alone. */
	rv_adapter *same;
	assert_ok(rv_micro_lora_adapter(fresh, list[1], "same", &same));
	assert_int_equal(rv_adapter_n_params(same), rv_adapter_n_params(list[1]));
	/* And back: the same factors to the bit. */
	assert_ok(rv_micro_lora_load(fresh, list[0]));
	for (int i = 0; i < rv_micro_lora_n_parts(m); i++) {
		const rv_micro_part p = rv_micro_lora_part(m, i), q = rv_micro_lora_part(fresh, i);
		assert_memory_equal(p.a, q.a, (size_t)(p.rank * p.n_in) * sizeof *p.a);
		assert_memory_equal(p.b_columns, q.b_columns, (size_t)(p.rank * p.n_out) * sizeof *p.a);
	}
	assert_int_equal(rv_micro_lora_load(fresh, list[1]), RV_ERR_MISMATCH);
	assert_int_equal(rv_micro_lora_load(base, stacked), RV_ERR_MISMATCH);
	rv_adapter *const all[] = {none, list[0], list[1], stacked, same};
	for (int i = 0; i < 5; i++)
		rv_adapter_release(all[i]);
	rv_micro_lora_destroy(fresh);
	rv_micro_lora_destroy(m);
	rv_micro_lora_destroy(base);
	rv_model_release(model);
}

static void forward_and_ratio(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	const rv_micro_lora_options o = options_of(RV_SITE_FFN_OUT, 3);
	rv_micro_lora *m = moved(model, &o);
	const rv_micro_part p = rv_micro_lora_part(m, 1);
	float *x = random_floats(2 * p.n_in, 1, 5), *y = random_floats(2 * p.n_out, 0, 5),
	      *h = random_floats(2 * p.n_out, 1, 6);
	rv_micro_lora_forward(m, 1, x, 2, y);
	double most = 0, norm = 0;
	for (int t = 0; t < 2; t++) {
		double change = 0, whole = 0;
		for (int64_t k = 0; k < p.n_out; k++) {
			double sum = 0;
			for (int64_t r = 0; r < p.rank; r++) {
				double low = 0;
				for (int64_t i = 0; i < p.n_in; i++)
					low += (double)p.a[r * p.n_in + i] * (double)x[t * p.n_in + i];
				sum += low * (double)p.b_columns[r * p.n_out + k];
			}
			sum *= (double)p.scale;
			assert_true(fabs(sum - (double)y[t * p.n_out + k]) < 1e-4);
			change += sum * sum;
			whole += (double)(h[t * p.n_out + k] * h[t * p.n_out + k]);
		}
		most = fmax(most, sqrt(change / whole));
	}
	const double ratio = rv_micro_lora_ratio(m, 1, x, p.n_in, h, p.n_out, 2);
	assert_true(fabs(ratio - most) < 1e-4 * most);
	/* Norm of all parts: every entry of s B A. */
	for (int i = 0; i < rv_micro_lora_n_parts(m); i++) {
		const rv_micro_part q = rv_micro_lora_part(m, i);
		for (int64_t k = 0; k < q.n_out; k++)
			for (int64_t j = 0; j < q.n_in; j++) {
				double w = 0;
				for (int64_t r = 0; r < q.rank; r++)
					w += (double)q.b_columns[r * q.n_out + k] *
					     (double)q.a[r * q.n_in + j];
				norm += w * w;
			}
	}
	norm = (double)p.scale * sqrt(norm);
	assert_true(norm > 0 && fabs(rv_micro_lora_norm(m) - norm) < 1e-4 * norm);
	x[3] = NAN;
	assert_true(isnan(rv_micro_lora_ratio(m, 1, x, p.n_in, h, p.n_out, 2)));
	rv_free(x);
	rv_free(y);
	rv_free(h);
	rv_micro_lora_destroy(m);
	rv_model_release(model);
}

/* ---- forms ---- */

static void sparse_updates_touch_the_largest(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_micro_lora_options o = options_of(RV_SITE_ATTN_OUT, 2);
	rv_micro_lora *dense, *sparse;
	assert_ok(rv_micro_lora_create(&dense, model, &o));
	o.top_k = 17;
	assert_ok(rv_micro_lora_create(&sparse, model, &o));
	const rv_micro_part d = rv_micro_lora_part(dense, 0), s = rv_micro_lora_part(sparse, 0);
	const int64_t n = d.rank * d.n_out;
	float *x = random_floats(d.n_in, 1, 1), *g = random_floats(d.n_out, 1, 2);
	assert_ok(rv_micro_lora_update(dense, 0, x, d.n_in, g, d.n_out, 1, 0.1));
	assert_ok(rv_micro_lora_update(sparse, 0, x, d.n_in, g, d.n_out, 1, 0.1));
	int64_t touched = 0;
	double least = INFINITY, left = 0;
	for (int64_t i = 0; i < n; i++) {
		const double b = fabs((double)d.b_columns[i]);
		if (s.b_columns[i] < 0 || s.b_columns[i] > 0) {
			touched++;
			least = fmin(least, b);
			assert_true(fabs((double)(s.b_columns[i] - d.b_columns[i])) < 1e-9);
		} else {
			left = fmax(left, b);
		}
	}
	assert_int_equal(touched, 17);
	assert_true(least >= left && left > 0);
	rv_free(x);
	rv_free(g);
	rv_micro_lora_destroy(dense);
	rv_micro_lora_destroy(sparse);
	rv_model_release(model);
}

/* Gradients of one direction need one rank, of many different ones all. */
static int64_t rank_after(rv_model *model, int different) {
	rv_micro_lora_options o = options_of(RV_SITE_ATTN_OUT, 4);
	rv_micro_lora *m;
	o.adaptive = 1;
	assert_ok(rv_micro_lora_create(&m, model, &o));
	assert_int_equal(rv_micro_lora_part(m, 0).rank, 1);
	const rv_micro_part p = rv_micro_lora_part(m, 0);
	for (int i = 0; i < 400; i++) {
		const uint64_t seed = different ? 100 + (uint64_t)i : 100;
		float *x = random_floats(p.n_in, 1, seed), *g = random_floats(p.n_out, 1, seed + 1000);
		assert_ok(
		        rv_micro_lora_update(m, 0, x, p.n_in, g, p.n_out, 1, different ? 1e-2 : 1e-4));
		rv_free(x);
		rv_free(g);
	}
	const int64_t rank = rv_micro_lora_part(m, 0).rank;
	assert_in_range(rank, 1, 4);
	rv_micro_lora_roll_back(m);
	assert_int_equal(rv_micro_lora_part(m, 0).rank, 1);
	rv_micro_lora_destroy(m);
	return rank;
}

static void adaptive_rank(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	assert_true(rank_after(model, 1) > 1);
	rv_model_release(model);
}

static void faults(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_micro_lora *m;
	rv_micro_lora_options o = options_of(RV_SITE_ATTN_OUT, 2);
	struct {
		int64_t layer, rank, top_k;
		double alpha, lr;
		int n_layers;
	} const bad[] = {{3, 2, 0, 1, 1, 2},           {1, 2, 0, 1, 1, 2},
	                 {2, 0, 0, 1, 1, 2},           {2, 9, 0, 1, 1, 2},
	                 {2, 2, -1, 1, 1, 2},          {2, 2, 0, -1, 1, 2},
	                 {2, 2, 0, 1, -1, 2},          {2, 2, 0, 1, 1, 0},
	                 {2, 2, 0, (double)NAN, 1, 2}, {2, 2, 0, 1, (double)INFINITY, 2}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		rv_micro_lora_options b = o;
		b.layers[1] = bad[i].layer;
		b.rank = bad[i].rank;
		b.top_k = bad[i].top_k;
		b.alpha = bad[i].alpha;
		b.lr = bad[i].lr;
		b.n_layers = bad[i].n_layers;
		assert_int_equal(rv_micro_lora_create(&m, model, &b), RV_ERR_INVALID);
		assert_null(m);
	}
	assert_ok(rv_micro_lora_create(&m, model, &o));
	const rv_micro_part p = rv_micro_lora_part(m, 0);
	float *x = random_floats(p.n_in, 1, 1), *g = random_floats(p.n_out, 1, 2);
	float *before = random_floats(p.rank * p.n_in, 0, 0);
	memcpy(before, p.a, (size_t)(p.rank * p.n_in) * sizeof *before);
	g[1] = NAN;
	assert_int_equal(rv_micro_lora_update(m, 0, x, p.n_in, g, p.n_out, 1, 1), RV_ERR_NUMERIC);
	rv_micro_lora_roll_back(m);
	assert_memory_equal(before, p.a, (size_t)(p.rank * p.n_in) * sizeof *before);
	g[1] = 3e38f;
	assert_int_equal(rv_micro_lora_update(m, 0, x, p.n_in, g, p.n_out, 1, 1e6), RV_ERR_NUMERIC);
	rv_free(x);
	rv_free(g);
	rv_free(before);
	rv_micro_lora_destroy(m);
	rv_model_release(model);
}

static void hooks_on_other_depths(void **state) {
	(void)state;
	static const int64_t hooks[] = {8, 16, 24, 28};
	int64_t out[8];
	assert_int_equal(rv_micro_lora_place(hooks, 4, 32, out), 4);
	assert_int_equal(out[0] + out[1] + out[2] + out[3], 8 + 16 + 24 + 28);
	assert_int_equal(rv_micro_lora_place(hooks, 4, 8, out), 4); /* 2 4 6 7 */
	assert_int_equal(out[0] * 1000 + out[1] * 100 + out[2] * 10 + out[3], 2467);
	assert_int_equal(rv_micro_lora_place(hooks, 4, 2, out), 1); /* 0.5 1 1.5 1.75: 1, once */
	assert_int_equal(out[0], 1);
	assert_int_equal(rv_micro_lora_place(hooks, 3, 24, out), 3);
	assert_int_equal(out[0] * 10000 + out[1] * 100 + out[2], 61218);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(updates_follow_the_gradient),
	        cmocka_unit_test(adapters_decode_what_it_is),
	        cmocka_unit_test(forward_and_ratio),
	        cmocka_unit_test(sparse_updates_touch_the_largest),
	        cmocka_unit_test(adaptive_rank),
	        cmocka_unit_test(faults),
	        cmocka_unit_test(hooks_on_other_depths),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
