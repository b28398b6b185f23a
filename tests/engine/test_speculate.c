/* The loop of speculative decoding: greedy output is plain output, and the sequence is left as plain
 * decoding leaves it. */
#include "engine/scheduler.h"
#include "engine/speculate_internal.h"
#include "tests/engine/speculate_pair.h"

#include <math.h>

enum { MAX_IDS = 2 * PAIR_CTX };

static const int32_t prompt[] = {72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100, 33, 1, 2, 3, 4};
enum { N_PROMPT = sizeof prompt / sizeof prompt[0] };

typedef struct text {
	int32_t ids[MAX_IDS];
	double logprobs[MAX_IDS];
	int n, stop_after;
	int64_t length; /* of the sequence afterwards */
	rv_generate_result result;
} text;

static int keep(void *user, int32_t id, const char *bytes, size_t len, double logprob) {
	text *t = user;
	(void)bytes;
	(void)len;
	if (id < 0)
		return 0;
	t->ids[t->n] = id;
	t->logprobs[t->n++] = logprob;
	return t->stop_after && t->n % t->stop_after == 0;
}

/* Appends what follows the prompt to `t`. */
static void turn(rv_context *ctx, rv_speculator *s, rv_sampler *sampler, int64_t n, text *t) {
	rv_generate_options o = rv_generate_defaults();
	o.n_predict = n;
	o.ignore_end = 1;
	o.on_token = keep;
	o.user = t;
	o.speculator = s;
	assert_ok(rv_generate(ctx, 0, prompt, N_PROMPT, sampler, &o, NULL, &t->result));
	t->length = rv_seq_length(ctx, 0);
}

/* Two turns from an empty sequence; the last token of the first is evaluated between them or not. */
static text two_turns(rv_context *ctx, rv_speculator *s, const rv_sampler_options *how, int64_t n,
                      int stop_after) {
	text t = {.stop_after = stop_after};
	rv_sampler *sampler;
	assert_ok(rv_sampler_create(&sampler, how, PAIR_VOCAB));
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	if (s)
		assert_ok(rv_speculator_reset(s));
	turn(ctx, s, sampler, n, &t);
	if (n % 2) {
		const rv_row last = {.token = t.ids[t.n - 1],
		                     .position = (int32_t)rv_seq_length(ctx, 0),
		                     .parent = -1};
		assert_ok(rv_context_eval(ctx, &last, 1));
	}
	turn(ctx, s, sampler, n, &t);
	rv_sampler_destroy(sampler);
	return t;
}

static int same(const text *a, const text *b) {
	return a->n == b->n && a->length == b->length && a->result.stop == b->result.stop &&
	       memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids) == 0 &&
	       memcmp(a->logprobs, b->logprobs, (size_t)a->n * sizeof *a->logprobs) == 0;
}

static rv_sampler_options sampling(double temperature) {
	rv_sampler_options o = rv_sampler_defaults();
	o.temperature = temperature;
	o.seed = 5;
	return o;
}

/* What was counted adds up to what came out: a round brings what it accepted and one more. */
static void check_counts(const rv_spec_stats *s, const text *t, int whole) {
	int64_t reached = 0, accepted = 0;
	for (int i = 0; i < RV_SPEC_MAX_K; i++) {
		assert_true(s->drafted_at[i] >= s->reached_at[i] &&
		            s->reached_at[i] >= s->accepted_at[i]);
		reached += s->reached_at[i];
		accepted += s->accepted_at[i];
	}
	assert_int_equal(accepted, s->accepted);
	assert_int_equal(reached, s->accepted + s->rejections);
	if (whole) /* the first token of a turn needs no round */
		assert_int_equal(s->rounds + s->plain_rounds + s->accepted, t->n - 2);
}

/* Drafts of every kind: models of three kins, a tree, lookup. */
enum { TREE = N_KINDS, LOOKUP, N_SOURCES };

static rv_speculator *open_source(pair *p, rv_context *target, int source, rv_spec_options *o) {
	rv_speculator *s;
	o->draft = source == LOOKUP ? RV_SPEC_LOOKUP : source == TREE ? RV_SPEC_TREE : RV_SPEC_MODEL;
	assert_ok(rv_speculator_create(
	        &s, target, source == LOOKUP ? NULL : p->draft[source == TREE ? COUSIN : source], o));
	return s;
}

static void greedy_is_plain(void **state) {
	(void)state;
	static const rv_spec_rule rules[] = {RV_SPEC_GREEDY, RV_SPEC_EXACT};
	const rv_sampler_options how = sampling(0);
	pair p;
	pair_open(&p, 2);
	text plain = two_turns(p.target, NULL, &how, 60, 0);
	for (int i = 0; i < N_SOURCES * (RV_SPEC_MAX_K + 1) * 2; i++) {
		int kind = i % N_SOURCES;
		rv_spec_options o = rv_spec_defaults();
		o.rule = rules[i / N_SOURCES % 2];
		o.k = i / N_SOURCES / 2;
		o.width = 2 + o.k % 2;
		rv_speculator *s = open_source(&p, p.target, kind, &o);
		text t = two_turns(p.target, s, &how, 60, 0);
		const rv_spec_stats *stats = rv_speculator_stats(s);
		assert_true(same(&t, &plain));
		check_counts(stats, &t, 1);
		if (kind == TWIN)
			assert_true(stats->accepted == stats->drafted && stats->drafted > 50);
		if (kind == COUSIN || kind == TREE)
			/* the draft knows what was chosen, not what it proposed */
			assert_true(stats->accepted_at[0] > 3 * stats->reached_at[0] / 4 &&
			            stats->accepted < stats->drafted);
		if (kind == STRANGER)
			assert_true(stats->rejections > 0);
		rv_speculator_destroy(s);
	}
	pair_close(&p);
}

/* Other ways to end a turn, other ways to sample: still the same. */
static void like_plain_whatever_ends_it(void **state) {
	(void)state;
	static const struct {
		double temperature, penalty;
		int64_t n;
		int stop_after;
	} cases[] = {{0, 1.3, 40, 0}, {0.8, 1, 40, 0}, {0.8, 1.2, 41, 0},
	             {0, 1, 33, 7},   {1, 1, 33, 5},   {0, 1, -1, 0}};
	pair p;
	pair_open(&p, 1);
	for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
		rv_sampler_options how = sampling(cases[c].temperature);
		how.repeat_penalty = cases[c].penalty;
		how.repeat_last = 20;
		/* without an end but the context's there is no room for a second turn */
		int64_t n_ctx = cases[c].n < 0 ? 2 * N_PROMPT + 1 : PAIR_CTX;
		rv_context *ctx = pair_context(p.target_model, n_ctx, 1);
		for (int kind = 0; kind < N_SOURCES; kind++) {
			rv_spec_options o = rv_spec_defaults();
			o.rule = RV_SPEC_GREEDY;
			o.force = 1;
			o.k = kind == COUSIN || kind == TREE ? 0 : 5;
			rv_speculator *s = open_source(&p, ctx, kind, &o);
			text t[2] = {{.stop_after = cases[c].stop_after},
			             {.stop_after = cases[c].stop_after}};
			if (cases[c].n > 0) {
				t[0] = two_turns(ctx, NULL, &how, cases[c].n, cases[c].stop_after);
				t[1] = two_turns(ctx, s, &how, cases[c].n, cases[c].stop_after);
			}
			for (int i = 0; cases[c].n < 0 && i < 2; i++) {
				rv_sampler *sampler;
				assert_ok(rv_sampler_create(&sampler, &how, PAIR_VOCAB));
				assert_ok(rv_seq_truncate(ctx, 0, 0));
				turn(ctx, i ? s : NULL, sampler, -1, &t[i]);
				assert_int_equal(t[i].result.stop, RV_STOP_CONTEXT);
				assert_int_equal(t[i].n, n_ctx - N_PROMPT + 1);
				rv_sampler_destroy(sampler);
			}
			assert_true(same(&t[0], &t[1]));
			check_counts(rv_speculator_stats(s), &t[1], 0);
			rv_speculator_destroy(s);
		}
		rv_context_destroy(ctx);
	}
	pair_close(&p);
}

/* Drawn drafts are verified by drawing: with one seed, always the same text. */
static void same_seed_same_text(void **state) {
	(void)state;
	const rv_sampler_options how = sampling(0.9);
	pair p;
	pair_open(&p, 1);
	text t[4];
	for (int i = 0; i < 4; i++) {
		rv_spec_options o = rv_spec_defaults();
		rv_speculator *s;
		o.sampled = 1;
		o.force = 1;
		o.seed = i < 2 ? 3 : 4;
		if (i == 3)
			o.rule = RV_SPEC_THRESHOLD;
		assert_ok(rv_speculator_create(&s, p.target, p.draft[COUSIN], &o));
		t[i] = two_turns(p.target, s, &how, 50, 0);
		check_counts(rv_speculator_stats(s), &t[i], 1);
		assert_true(rv_speculator_stats(s)->accepted > 0);
		rv_speculator_destroy(s);
	}
	assert_true(same(&t[0], &t[1]));
	assert_false(same(&t[0], &t[2]));
	assert_false(same(&t[2], &t[3]));
	pair_close(&p);
}

static void hot_text_is_not_drafted(void **state) {
	(void)state;
	pair p;
	pair_open(&p, 1);
	for (int i = 0; i < 3; i++) {
		const rv_sampler_options how = sampling(i == 0 ? 0.5 : 0.51);
		rv_spec_options o = rv_spec_defaults();
		rv_speculator *s;
		o.force = i == 2;
		assert_ok(rv_speculator_create(&s, p.target, p.draft[TWIN], &o));
		two_turns(p.target, s, &how, 20, 0);
		const rv_spec_stats *stats = rv_speculator_stats(s);
		assert_int_equal(stats->drafted > 0, i != 1);
		assert_int_equal(stats->draft_ns > 0, i != 1);
		assert_true(stats->target_ns > 0);
		rv_speculator_destroy(s);
	}
	pair_close(&p);
}

/* A token that the target finds less probable passes the documented rule, and no other. */
static void threshold_is_lossy(void **state) {
	(void)state;
	const rv_sampler_options how = sampling(0);
	pair p;
	pair_open(&p, 1);
	text plain = two_turns(p.target, NULL, &how, 60, 0);
	rv_spec_options o = rv_spec_defaults();
	o.rule = RV_SPEC_THRESHOLD;
	for (int i = 0; i < 2; i++) {
		rv_speculator *s;
		o.threshold = i ? 0.7 : 1e-9; /* whatever the draft says */
		assert_ok(rv_speculator_create(&s, p.target, p.draft[COUSIN], &o));
		text t = two_turns(p.target, s, &how, 60, 0);
		if (i == 0) {
			assert_int_equal(rv_speculator_stats(s)->rejections, 0);
			assert_false(same(&t, &plain));
		}
		rv_speculator_destroy(s);
	}
	pair_close(&p);
}

/* The draft's context is shorter than the target's: drafting ends, the text does not. */
static void a_short_draft_ends_early(void **state) {
	(void)state;
	const rv_sampler_options how = sampling(0);
	pair p;
	pair_open(&p, 1);
	text plain = two_turns(p.target, NULL, &how, 60, 0);
	rv_context *draft = pair_context(p.draft_model[TWIN], N_PROMPT + 30, 1);
	rv_speculator *s;
	assert_ok(rv_speculator_create(&s, p.target, draft, NULL));
	text t = two_turns(p.target, s, &how, 60, 0);
	const rv_spec_stats *stats = rv_speculator_stats(s);
	assert_true(same(&t, &plain));
	assert_true(stats->plain_rounds > 60 && stats->drafted > 10 && stats->drafted <= 30);
	rv_speculator_destroy(s);
	rv_context_destroy(draft);
	pair_close(&p);
}

/* What is proposed after a text, as letters. */
static void lookup(rv_context *ctx, const char *letters, int k, char proposed[RV_SPEC_MAX_K + 1]) {
	rv_spec_options o = rv_spec_defaults();
	rv_speculator *s;
	rv_row rows[64];
	int32_t ids[64];
	int n = (int)strlen(letters);
	for (int i = 0; i < n; i++) {
		ids[i] = letters[i];
		rows[i] = (rv_row){.token = ids[i],
		                   .position = i,
		                   .parent = -1,
		                   .flags = i == n - 1 ? RV_ROW_LOGITS : 0};
	}
	o.draft = RV_SPEC_LOOKUP;
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_ok(rv_speculator_create(&s, ctx, NULL, &o));
	assert_ok(rv_context_eval(ctx, rows, n));
	assert_ok(rv_speculator_begin(s, ids, n, n - 1));
	assert_ok(rv_spec_draft_fill(s, NULL, k));
	for (int i = 0; i < s->n; i++) {
		assert_int_equal(s->node[i + 1].parent, i);
		proposed[i] = (char)s->node[i + 1].token;
	}
	proposed[s->n] = '\0';
	rv_speculator_destroy(s);
}

/* The longest match counts, of equals the latest; a repetition runs on into what is proposed. */
static void lookup_repeats_what_was_there(void **state) {
	(void)state;
	static const struct {
		const char *letters, *proposed;
		int k;
	} cases[] = {{"abcdef ab", "cdef", 4},
	             {"abX abY ab", "Y ab", 4},
	             {"a", "", 4},
	             {"abcdef", "", 4},
	             {"ababab", "abababab", 8},
	             {"xabcQ bcW abc", "Q b", 3},
	             {"wxyzP xyzQ wxyz", "P", 1},
	             {"aa", "", 2},
	             {"aaa", "aaa", 3}};
	char proposed[RV_SPEC_MAX_K + 1];
	pair p;
	pair_open(&p, 1);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		lookup(p.target, cases[i].letters, cases[i].k, proposed);
		assert_string_equal(proposed, cases[i].proposed);
	}
	pair_close(&p);
}

/* Each depth of a tree: the most probable beginnings of the draft model, best first, and none that is
 * hardly worth a row. */
static void a_tree_holds_the_most_probable(void **state) {
	(void)state;
	pair p;
	pair_open(&p, 1);
	int several = 0;
	for (int i = 0; i < 20; i++) {
		const rv_sampler_options how = {
		        .temperature = 0.1 + 0.02 * i, .top_p = 1, .repeat_penalty = 1};
		rv_spec_options o = rv_spec_defaults();
		rv_sampler *sampler;
		float first[PAIR_VOCAB];
		const int32_t ids[] = {3, 5 * i, 7};
		rv_row rows[3];
		for (int j = 0; j < 3; j++)
			rows[j] = (rv_row){
			        .token = ids[j], .position = j, .parent = -1, .flags = RV_ROW_LOGITS};
		o.width = 3;
		rv_speculator *s = open_source(&p, p.target, TREE, &o);
		assert_ok(rv_sampler_create(&sampler, &how, PAIR_VOCAB));
		assert_ok(rv_seq_truncate(p.target, 0, 0));
		assert_ok(rv_context_eval(p.target, rows, 3));
		assert_ok(rv_speculator_begin(s, ids, 3, 2));
		assert_ok(rv_spec_draft_fill(s, sampler, 4));
		int n = s->n;
		assert_ok(rv_speculator_reset(s)); /* the nodes stay */
		assert_ok(rv_context_eval(p.draft[COUSIN], rows, 3));
		assert_ok(rv_sampler_probabilities(sampler, rv_context_logits(p.draft[COUSIN], 2),
		                                   first));
		const rv_spec_node *node = s->node;
		assert_int_equal(node[1].token, rv_argmax(first, PAIR_VOCAB));
		assert_int_equal(node[n].depth, 4);
		for (int j = 1; j <= n; j++) {
			int best = node[j].depth != node[j - 1].depth; /* of its depth */
			assert_int_equal(node[j].depth, node[node[j].parent].depth + 1);
			assert_true(node[j].path == node[node[j].parent].path * node[j].q);
			assert_true(best || (node[j].path <= node[j - 1].path && node[j].path >= 0.1f));
			if (node[j].depth == 1)
				assert_true(node[j].q == first[node[j].token]);
			several += !best;
		}
		rv_sampler_destroy(sampler);
		rv_speculator_destroy(s);
	}
	assert_true(several > 10);
	pair_close(&p);
}

/* ---- faults ---- */

static int always(void *user) {
	(void)user;
	return 1;
}

static void bad_options(void **state) {
	(void)state;
	pair p;
	rv_speculator *s;
	pair_open(&p, 1);
	rv_spec_options base = rv_spec_defaults(), o[11];
	for (int i = 0; i < 11; i++)
		o[i] = base;
	o[0].k = 9;
	o[1].k = -1;
	o[2].threshold = 0;
	o[3].confidence = NAN;
	o[4].ngram_min = 0;
	o[5].ngram_max = 1;
	o[6].seq = 1;
	o[7].draft_seq = 7;
	o[8].draft = o[9].draft = o[10].draft = RV_SPEC_TREE;
	o[8].width = 1;
	o[9].width = 9;
	o[10].width = 7; /* of 4 levels: more than the contexts hold */
	for (int i = 0; i < 11; i++)
		assert_int_equal(rv_speculator_create(&s, p.target, p.draft[TWIN], &o[i]),
		                 RV_ERR_INVALID);
	assert_int_equal(rv_speculator_create(&s, p.target, NULL, NULL), RV_ERR_INVALID);
	assert_int_equal(rv_speculator_create(&s, p.target, p.target, NULL), RV_ERR_INVALID);
	assert_null(s);
	pair_close(&p);
}

/* A prompt whose beginning comes from the prefix cache: the text is still plain decoding's. */
static void after_a_prefix_hit(void **state) {
	(void)state;
	enum { N = 100, TEXT = 40 };
	const rv_sampler_options how = sampling(0);
	int32_t ids[N], plain[TEXT], other[TEXT];
	pair p;
	rv_prefix_cache *cache;
	rv_sampler *sampler;
	rv_generate_result r;
	pair_open(&p, 2);
	for (int i = 0; i < N; i++)
		ids[i] = 5 + i * i % 300;
	assert_ok(rv_sampler_create(&sampler, &how, PAIR_VOCAB));
	rv_generate_options g = rv_generate_defaults();
	g.n_predict = TEXT;
	g.ignore_end = 1;
	assert_ok(rv_generate(p.target, 0, ids, N, sampler, &g, plain, &r));
	assert_ok(rv_prefix_cache_create(&cache, p.target));
	g.prefix = cache;
	for (int i = 0; i < 2 * N_SOURCES; i++) {
		rv_spec_options o = rv_spec_defaults();
		o.rule = RV_SPEC_GREEDY;
		rv_speculator *s = open_source(&p, p.target, i % N_SOURCES, &o);
		g.speculator = s;
		rv_sampler_reset(sampler);
		assert_ok(rv_seq_truncate(p.target, 0, 0));
		assert_ok(rv_speculator_reset(s));
		assert_ok(rv_generate(p.target, 0, ids, N, sampler, &g, other, &r));
		assert_int_equal(r.n_cached, i ? 64 : 0);
		assert_true(rv_speculator_stats(s)->drafted > 0 || i % N_SOURCES == LOOKUP);
		assert_memory_equal(other, plain, sizeof plain);
		rv_speculator_destroy(s);
	}
	rv_prefix_cache_destroy(cache);
	rv_sampler_destroy(sampler);
	pair_close(&p);
}

/* A scheduler decodes plainly: neither takes what the other has. */
static void not_beside_a_scheduler(void **state) {
	(void)state;
	pair p;
	rv_speculator *s;
	rv_scheduler *scheduler, *second;
	pair_open(&p, 1);
	assert_ok(rv_scheduler_create(&scheduler, p.target, NULL));
	assert_int_equal(rv_scheduler_create(&second, p.target, NULL), RV_ERR_UNSUPPORTED);
	assert_int_equal(rv_speculator_create(&s, p.target, p.draft[TWIN], NULL), RV_ERR_UNSUPPORTED);
	assert_non_null(strstr(rv_error_message(), "scheduler"));
	assert_int_equal(rv_speculator_create(&s, p.draft[TWIN], p.target, NULL), RV_ERR_UNSUPPORTED);
	rv_scheduler_destroy(scheduler);
	assert_ok(rv_speculator_create(&s, p.target, p.draft[TWIN], NULL));
	assert_int_equal(rv_scheduler_create(&scheduler, p.target, NULL), RV_ERR_UNSUPPORTED);
	assert_non_null(strstr(rv_error_message(), "speculatively"));
	assert_int_equal(rv_scheduler_create(&scheduler, p.draft[TWIN], NULL), RV_ERR_UNSUPPORTED);
	rv_speculator_destroy(s);
	assert_ok(rv_scheduler_create(&scheduler, p.target, NULL));
	rv_scheduler_destroy(scheduler);
	pair_close(&p);
}

/* A draft whose ids mean other tokens is refused by name. */
static void other_vocabulary(void **state) {
	(void)state;
	pair p;
	rv_speculator *s;
	pair_open(&p, 1);
	rv_hparams hp = pair_hparams();
	hp.n_vocab = 513;
	rv_model *model = tiny_model_of(&hp, "qwen2", "F16", 7);
	rv_context *draft = pair_context(model, 64, 1);
	assert_int_equal(rv_speculator_create(&s, p.target, draft, NULL), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), "vocabulary"));
	rv_context_destroy(draft);
	rv_model_release(model);
	pair_close(&p);
}

/* After a failure in the middle of a round the sequence is whole, and generation can go on. */
static void faults_leave_the_sequence_whole(void **state) {
	(void)state;
	const rv_sampler_options how = sampling(0);
	pair p;
	pair_open(&p, 1);
	text plain = two_turns(p.target, NULL, &how, 60, 0);
	for (int i = 0; i < 2; i++) {
		rv_context *victim = i ? p.draft[COUSIN] : p.target;
		rv_speculator *s;
		rv_sampler *sampler;
		rv_generate_options o = rv_generate_defaults();
		rv_generate_result result;
		text t = {.n = 0};
		assert_ok(rv_speculator_create(&s, p.target, p.draft[COUSIN], NULL));
		assert_ok(rv_sampler_create(&sampler, &how, PAIR_VOCAB));
		assert_ok(rv_seq_truncate(p.target, 0, 0));
		turn(p.target, s, sampler, 60, &t);
		/* the sequence was continued behind the speculator's back */
		int64_t length = rv_seq_length(p.target, 0);
		const rv_row more[2] = {{.token = t.ids[59], .position = (int32_t)length, .parent = -1},
		                        {.token = 3, .position = (int32_t)length + 1, .parent = -1}};
		assert_ok(rv_context_eval(p.target, more, 2));
		o.speculator = s;
		assert_int_equal(rv_generate(p.target, 0, prompt, N_PROMPT, sampler, &o, NULL, &result),
		                 RV_ERR_INVALID);
		assert_ok(rv_seq_truncate(p.target, 0, length));
		rv_sampler_reset(sampler);
		for (int j = 0; j < N_PROMPT; j++)
			rv_sampler_accept(sampler, prompt[j]);
		/* cancelled in the second turn, after the prompt when it is the draft's */
		rv_context_set_cancel(victim, always, NULL);
		assert_int_equal(rv_generate(p.target, 0, prompt, N_PROMPT, sampler, &o, NULL, &result),
		                 RV_ERR_CANCELLED);
		rv_context_set_cancel(victim, NULL, NULL);
		assert_int_equal(rv_seq_length(p.target, 0), i ? length + N_PROMPT : length);
		assert_ok(rv_seq_truncate(p.target, 0, length));
		turn(p.target, s, sampler, 60, &t);
		t.result.stop = plain.result.stop;
		assert_true(same(&t, &plain));
		rv_sampler_destroy(sampler);
		rv_speculator_destroy(s);
	}
	pair_close(&p);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(greedy_is_plain),
	        cmocka_unit_test(like_plain_whatever_ends_it),
	        cmocka_unit_test(same_seed_same_text),
	        cmocka_unit_test(hot_text_is_not_drafted),
	        cmocka_unit_test(threshold_is_lossy),
	        cmocka_unit_test(a_short_draft_ends_early),
	        cmocka_unit_test(lookup_repeats_what_was_there),
	        cmocka_unit_test(a_tree_holds_the_most_probable),
	        cmocka_unit_test(bad_options),
	        cmocka_unit_test(after_a_prefix_hit),
	        cmocka_unit_test(not_beside_a_scheduler),
	        cmocka_unit_test(other_vocabulary),
	        cmocka_unit_test(faults_leave_the_sequence_whole),
	};
	return cmocka_run_group_tests_name("speculate", tests, NULL, NULL);
}
