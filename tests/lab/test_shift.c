/* T15's stream, scores, packing and places, and sweeps whose points are few among many combinations. */
#include "base/mem.h"
#include "base/threads.h"
#include "eval/logits.h"
#include "lab/shift_fit.h"
#include "lab/sona_place.h"
#include "lab/sweep.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct room {
	rv_threads *threads;
	rv_run_config config;
	rv_model *model;
	rv_shift_stream stream;
} room;

static int never(void *user) {
	(void)user;
	return 0;
}

static int open_room(void **state) {
	static room r;
	rv_threads_options threads = rv_threads_defaults();
	const rv_shift_sizes sizes = {.stream = 40, .held = 20, .tune = 20, .old = 3, .replay = 5};
	threads.n_threads = 1;
	*state = &r;
	if (rv_threads_create(&r.threads, &threads) != RV_OK)
		return -1;
	r.config =
	        (rv_run_config){.root = ".", .n_threads = 1, .threads = r.threads, .cancelled = never};
	if (rv_model_open(&r.model, "datasets/models/nano.gguf", NULL) != RV_OK)
		return -1;
	return rv_shift_stream_open(&r.stream, ".", r.model, &sizes) == RV_OK ? 0 : -1;
}

static int close_room(void **state) {
	room *r = *state;
	rv_shift_stream_close(&r->stream);
	rv_model_release(r->model);
	rv_threads_destroy(r->threads);
	return 0;
}

/* ---- the stream ---- */

static int same(const rv_shift_doc *a, const rv_shift_doc *b) {
	return a->n == b->n && memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids) == 0;
}

static int n_shared(const rv_shift_docs *a, const rv_shift_docs *b) {
	int n = 0;
	for (int64_t i = 0; i < a->n; i++)
		for (int64_t k = 0; k < b->n; k++)
			n += same(&a->items[i], &b->items[k]);
	return n;
}

static void sets_are_apart(void **state) {
	const rv_shift_stream *s = &((room *)*state)->stream;
	assert_int_equal(s->held.n, 20);
	assert_int_equal(s->tune.n, 20);
	assert_int_equal(s->old.n, 3 * RV_SHIFT_N_OLD);
	assert_int_equal(s->replay.n, 5 * RV_SHIFT_N_OLD);
	assert_int_equal(n_shared(&s->held, &s->pool), 0);
	assert_int_equal(n_shared(&s->tune, &s->pool), 0);
	assert_int_equal(n_shared(&s->held, &s->tune), 0);
	assert_int_equal(n_shared(&s->old, &s->replay), 0);
	assert_true(n_shared(&s->held, &s->held) >= 20); /* control: what is shared is seen */
	for (int64_t i = 0; i < s->pool.n; i++) {
		const rv_shift_doc *d = &s->pool.items[i];
		assert_int_equal(d->n - d->answer, s->agents[d->agent].n);
		assert_memory_equal(d->ids + d->answer, s->agents[d->agent].ids,
		                    (size_t)(d->n - d->answer) * sizeof *d->ids);
	}
}

static void none_to_choose_by(void **state) {
	const room *r = *state;
	const rv_shift_sizes sizes = {.stream = 5, .held = 5, .old = 1, .replay = 1};
	rv_shift_stream s;
	assert_int_equal(rv_shift_stream_open(&s, ".", r->model, &sizes), RV_OK);
	assert_int_equal(s.tune.n, 0);
	rv_shift_stream_close(&s);
}

static void draws(void **state) {
	const rv_shift_stream *s = &((room *)*state)->stream;
	const rv_shift_doc **a, **b, **c;
	int n_same = 0;
	assert_int_equal(RV_ALLOC(&a, s->pool.n, "stream"), RV_OK);
	assert_int_equal(RV_ALLOC(&b, s->pool.n, "stream"), RV_OK);
	assert_int_equal(RV_ALLOC(&c, s->pool.n, "stream"), RV_OK);
	rv_shift_stream_draw(s, 1, a);
	rv_shift_stream_draw(s, 1, b);
	rv_shift_stream_draw(s, 2, c);
	for (int64_t i = 0; i < s->n_stream; i++) {
		assert_ptr_equal(a[i], b[i]);
		n_same += a[i] == c[i];
		for (int64_t k = 0; k < i; k++)
			assert_ptr_not_equal(a[i], a[k]);
	}
	assert_true(n_same < s->n_stream / 2);
	rv_free(a);
	rv_free(b);
	rv_free(c);
}

static void packed(void **state) {
	const rv_shift_stream *s = &((room *)*state)->stream;
	rv_shift_pack pack = {0};
	const rv_shift_doc *docs[20];
	double weight = 0;
	int n_doc = 0;
	for (int i = 0; i < 20; i++)
		docs[i] = &s->held.items[i];
	assert_int_equal(rv_shift_pack_docs(&pack, s, docs, 20), RV_OK);
	for (int64_t q = 0; q < pack.n; q++)
		for (int t = 0; t < RV_SHIFT_CTX; t++) {
			const float w = pack.weights[q * RV_SHIFT_CTX + t];
			const int32_t next = pack.tokens[q * (RV_SHIFT_CTX + 1) + t + 1];
			weight += (double)w;
			if (w > 0) { /* the answers, one after the other */
				const rv_shift_doc *d = docs[n_doc];
				assert_int_equal(next, d->ids[d->answer]);
				for (int32_t k = d->answer; k + 1 < d->n; k++, t++)
					weight += (double)pack.weights[q * RV_SHIFT_CTX + t + 1];
				n_doc++;
			}
		}
	assert_int_equal(n_doc, 20);
	assert_true(fabs(weight - 20) < 1e-4); /* a document weighs 1 */
	rv_shift_pack_free(&pack);
}

/* ---- scores ---- */

static double one_by_one(rv_context *ctx, const rv_shift_doc *prompt, const rv_shift_doc *name) {
	const int64_t n_vocab = rv_model_hparams(rv_context_model(ctx))->n_vocab;
	double sum = 0;
	assert_int_equal(rv_seq_truncate(ctx, 0, 0), RV_OK);
	for (int32_t i = 0; i < prompt->answer + name->n; i++) {
		const int32_t next = i - prompt->answer;
		if (next >= 0) {
			const float *logits = rv_context_logits(ctx, 0);
			sum += (double)logits[name->ids[next]] - rv_log_sum_exp(logits, n_vocab);
		}
		const rv_row row = {.token = next < 0 ? prompt->ids[i] : name->ids[next],
		                    .position = i,
		                    .parent = -1,
		                    .flags = RV_ROW_LOGITS};
		assert_int_equal(rv_context_eval(ctx, &row, 1), RV_OK);
	}
	return sum;
}

/* What the tree says of a name is what the model says of its tokens one after the other. */
static void names_by_tree(void **state) {
	room *r = *state;
	rv_shift_scorer k;
	double tree[RV_AGENTS], nll = 0;
	rv_shift_new of_one;
	const rv_shift_doc *d = &r->stream.held.items[0];
	assert_int_equal(rv_shift_scorer_open(&k, &r->config, r->model, &r->stream), RV_OK);
	rv_row rows[256];
	for (int32_t i = 0; i < d->answer; i++)
		rows[i] = (rv_row){.token = d->ids[i],
		                   .position = i,
		                   .parent = -1,
		                   .flags = i + 1 == d->answer ? RV_ROW_LOGITS : 0};
	const int32_t last = d->answer - 1;
	assert_int_equal(rv_context_eval(k.ctx, rows, d->answer), RV_OK);
	assert_int_equal(rv_shift_score_agents(k.ctx, &r->stream, &k.tree, &last, 1, tree), RV_OK);
	for (int a = 0; a < RV_AGENTS; a++) {
		const double one = one_by_one(k.ctx, d, &r->stream.agents[a]);
		assert_true(fabs(tree[a] - one) < 1e-9);
		assert_false(fabs(tree[(a + 1) % RV_AGENTS] - one) < 1e-9); /* control */
		nll += exp(one);
	}
	nll = log(nll) - tree[d->agent];
	const rv_shift_docs docs = {.items = &r->stream.held.items[0], .n = 1};
	assert_int_equal(rv_shift_score_new(&k, &docs, &of_one), RV_OK);
	assert_true(fabs(of_one.nll - nll) < 1e-9);
	rv_shift_scorer_close(&k);
}

static void old_domains_are_known(void **state) {
	room *r = *state;
	rv_shift_scorer k;
	rv_shift_old old, shifted;
	assert_int_equal(rv_shift_scorer_open(&k, &r->config, r->model, &r->stream), RV_OK);
	assert_int_equal(rv_shift_score_old(&k, &r->stream.old, &old), RV_OK);
	assert_true(old.mean_right_pct > 85);
	/* control: answers one token late are not what the model knows */
	for (int64_t i = 0; i < r->stream.old.n; i++)
		r->stream.old.items[i].ids++;
	assert_int_equal(rv_shift_score_old(&k, &r->stream.old, &shifted), RV_OK);
	for (int64_t i = 0; i < r->stream.old.n; i++)
		r->stream.old.items[i].ids--;
	assert_true(shifted.mean_nll > old.mean_nll);
	rv_shift_scorer_close(&k);
}

/* ---- places ---- */

static void assert_place(const char *name, int64_t n_layers, const char *expected) {
	int64_t at[RV_MICRO_MAX_LAYERS];
	char text[256] = "";
	const int n = rv_sona_place(name, n_layers, at);
	for (int i = 0; i < n; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), "%s%lld", i ? " " : "",
		         (long long)at[i]);
	assert_string_equal(text, expected);
}

static void places(void **state) {
	(void)state;
	assert_place("base", 32, "8 16 24");
	assert_place("coder", 32, "8 16 24 28");
	assert_place("base", 8, "2 4 6");
	assert_place("early", 8, "0 1");
	assert_place("late", 8, "6 7");
	assert_place("middle", 8, "2 3 4 5");
	assert_place("all", 3, "0 1 2");
	assert_place("spread2", 8, "2 6");
	assert_place("spread8", 4, "0 1 2 3");
	assert_place("at7", 8, "7");
	assert_place("at8", 8, "");
	assert_place("at", 8, "");
	assert_place("spread", 8, "");
	assert_place("elsewhere", 8, "");
}

/* ---- sparse sweeps ---- */

enum { MANY = 200 };
static rv_param_value many[MANY];
static rv_param sparse_params[4];

/* Points: all values alike. */
static int n_fitting(const rv_experiment *exp, const rv_point *p) {
	int n = 1;
	while (n < exp->n_params && p->values[n] == p->values[0])
		n++;
	return n;
}

static void sparse(void **state) {
	static const rv_selection all = {0};
	static char names[MANY][8];
	rv_experiment exp = {.name = "sparse", .params = sparse_params, .n_params = 4};
	rv_point *p = NULL;
	int n = 0;
	(void)state;
	for (int i = 0; i < MANY; i++) {
		snprintf(names[i], sizeof names[i], "v%d", i);
		many[i] = (rv_param_value){names[i], i, RV_PROFILE_SMOKE};
	}
	for (int i = 0; i < 4; i++)
		sparse_params[i] = (rv_param){(const char *[]){"a", "b", "c", "d"}[i],
		                              "",
		                              "",
		                              RV_PARAM_QUERY,
		                              RV_PARAM_TEXT,
		                              many,
		                              MANY};
	assert_int_equal(rv_sweep_points(&exp, RV_PROFILE_FULL, &all, &p, &n), RV_ERR_LIMIT);
	exp.n_fitting = n_fitting;
	assert_int_equal(rv_sweep_points(&exp, RV_PROFILE_FULL, &all, &p, &n), RV_OK);
	assert_int_equal(n, MANY);
	for (int i = 0; i < n; i++) {
		assert_int_equal(p[i].index, i);
		for (int k = 0; k < 4; k++)
			assert_int_equal(p[i].values[k], i);
	}
	rv_free(p);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(sets_are_apart), cmocka_unit_test(none_to_choose_by),
	        cmocka_unit_test(draws),          cmocka_unit_test(packed),
	        cmocka_unit_test(names_by_tree),  cmocka_unit_test(old_domains_are_known),
	        cmocka_unit_test(places),         cmocka_unit_test(sparse),
	};
	return cmocka_run_group_tests(tests, open_room, close_room);
}
