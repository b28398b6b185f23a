/* Running, resuming, judging and results, with answers made up by a function of the question. */
#include "eval/completions.h"
#include "eval/pass_at_k.h"
#include "eval/results.h"

#include "base/file.h"
#include "base/journal.h"
#include "base/mem.h"
#include "tests/support/test.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIXTURES "tests/eval/fixtures"
#define MAX_DOCS 8

static char dir[512], journal[600];

static int setup(void **state) {
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, sizeof dir, "%s/rv-eval-XXXXXX", tmp ? tmp : "/tmp");
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(journal, sizeof journal, "%s/journal", dir);
	return 0;
}

static int teardown(void **state) {
	(void)state;
	char command[600];
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command);
}

/* ---- a model that is none ---- */

typedef struct fake {
	int n_asked, n_judged;
	int cancel_at, die_at; /* when so many were asked; 0: never */
} fake;

static double score_of(const char *context, size_t len, const char *continuation) {
	char hex[65], all[16384];
	int n = snprintf(all, sizeof all, "%.*s|%s", (int)len, context, continuation);
	rv_sha256_hex(all, (size_t)n, hex);
	return -0.001 * (double)strtol((char[]){hex[0], hex[1], hex[2], hex[3], 0}, NULL, 16) - 1e-13;
}

static rv_status fake_scores(void *user, const rv_score_request *q, size_t n, rv_score *out) {
	fake *f = user;
	assert_int_equal(n, 1);
	if (++f->n_asked == f->die_at)
		kill(getpid(), SIGKILL);
	for (int i = 0; i < q->n; i++) {
		assert_int_equal(q->continuations[i][0], ' ');
		out[i] =
		        (rv_score){.logprob = score_of(q->context, q->context_len, q->continuations[i]),
		                   .is_greedy = i == 1,
		                   .n_tokens = 2,
		                   .n_cut = q->context_len > 200 ? 7 : 0};
	}
	return RV_OK;
}

static rv_status fake_text(void *user, const char *context, size_t len, const rv_until_options *o,
                           char **text, size_t *text_len, rv_until_info *info) {
	fake *f = user;
	f->n_asked++;
	assert_true(o->max_tokens > 0 && o->until != NULL);
	*info = (rv_until_info){.finished = f->n_asked % 2, .n_generated = 3};
	static const char reply[] = " so it is \xff\0 5.\n#### 5";
	assert_true(len == strlen(context));
	*text_len = sizeof reply - 1;
	return rv_strndup(text, reply, sizeof reply - 1);
}

/* A program passes when its completion holds "return". */
static rv_status fake_judge(void *user, const rv_judge_item *items, int64_t n, rv_judge_result *out,
                            char isolation[RV_JUDGE_ISOLATION_BYTES]) {
	fake *f = user;
	for (int64_t i = 0; i < n; i++) {
		f->n_judged++;
		assert_non_null(items[i].prompt);
		assert_non_null(items[i].test);
		assert_non_null(items[i].entry_point);
		int passed = strstr(items[i].completion, "return") != NULL;
		out[i] = (rv_judge_result){.verdict = passed ? RV_JUDGE_PASSED : RV_JUDGE_FAILED,
		                           .wall_s = 0.25};
		snprintf(out[i].reason, sizeof out[i].reason, "%s", passed ? "" : "wrong");
	}
	snprintf(isolation, RV_JUDGE_ISOLATION_BYTES, "none at all");
	return RV_OK;
}

static int cancelled(void *user) {
	const fake *f = user;
	return f->cancel_at > 0 && f->n_asked >= f->cancel_at;
}

static rv_eval_set *read_set(const char *task, int64_t n_fewshot, const int64_t *k, int n_k) {
	rv_eval_set *set;
	const rv_eval_read_options o = {.data = FIXTURES, .n_fewshot = n_fewshot, .k = k, .n_k = n_k};
	assert_ok(rv_eval_set_read(&set, rv_eval_task_by_name(task), &o));
	assert_true(set->n_docs <= MAX_DOCS);
	return set;
}

static rv_status run(const rv_eval_set *set, fake *f, const char *path, int seed,
                     rv_eval_reply *replies, rv_eval_run_info *info) {
	const rv_eval_backend b = {fake_scores, fake_text, fake_judge, f};
	json_t *identity =
	        json_pack("{s:s, s:i, s:f}", "task", set->task->name, "seed", seed, "x", 0.1);
	const rv_eval_run_options o = {
	        .journal = path, .identity = identity, .cancelled = cancelled, .user = f};
	rv_status status = rv_eval_run(set, &b, &o, replies, info);
	json_decref(identity);
	return status;
}

static void clear(rv_eval_reply *replies) {
	for (int i = 0; i < MAX_DOCS; i++)
		rv_eval_reply_clear(&replies[i]);
}

/* ---- the journal ---- */

static void same_replies(const rv_eval_set *set, const rv_eval_reply *a, const rv_eval_reply *b) {
	for (int64_t i = 0; i < set->n_docs; i++) {
		assert_true(a[i].done && b[i].done);
		assert_int_equal(a[i].n, b[i].n);
		assert_int_equal(a[i].n_cut, b[i].n_cut);
		for (int k = 0; k < a[i].n; k++) {
			/* bit by bit: the journal loses nothing */
			assert_memory_equal(&a[i].scores[k].logprob, &b[i].scores[k].logprob, 8);
			assert_int_equal(a[i].scores[k].is_greedy, b[i].scores[k].is_greedy);
		}
	}
}

static void resumes_after_a_stop(void **state) {
	(void)state;
	rv_eval_set *set = read_set("mmlu", 1, NULL, 0);
	rv_eval_reply whole[MAX_DOCS] = {0}, parts[MAX_DOCS] = {0};
	rv_eval_run_info info;
	fake f = {0};
	assert_ok(run(set, &f, NULL, 1, whole, &info));
	assert_int_equal(f.n_asked, 4);

	f = (fake){.cancel_at = 2};
	assert_int_equal(run(set, &f, journal, 1, parts, &info), RV_ERR_CANCELLED);
	assert_int_equal(f.n_asked, 2);
	clear(parts);
	f = (fake){0};
	assert_ok(run(set, &f, journal, 1, parts, &info));
	assert_int_equal(f.n_asked, 2); /* nothing twice, nothing left out */
	assert_int_equal(info.n_resumed, 2);
	same_replies(set, whole, parts);
	clear(parts);
	f = (fake){0};
	assert_ok(run(set, &f, journal, 1, parts, &info));
	assert_int_equal(f.n_asked, 0);
	same_replies(set, whole, parts);
	clear(parts);
	clear(whole);
	unlink(journal);
	rv_eval_set_free(set);
}

/* SIGKILL while document 2 is being scored: 0 and 1 are kept. */
static void resumes_after_a_kill(void **state) {
	(void)state;
	rv_eval_set *set = read_set("mmlu", 1, NULL, 0);
	rv_eval_reply replies[MAX_DOCS] = {0};
	rv_eval_run_info info;
	int how;
	pid_t pid = fork();
	if (pid == 0) {
		fake f = {.die_at = 3};
		run(set, &f, journal, 1, replies, &info);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &how, 0), pid);
	assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
	fake f = {0};
	assert_ok(run(set, &f, journal, 1, replies, &info));
	assert_int_equal(info.n_resumed, 2);
	assert_int_equal(f.n_asked, 2);
	clear(replies);
	rv_eval_set_free(set);
}

static void refuses_another_run(void **state) {
	(void)state;
	rv_eval_set *set = read_set("mmlu", 1, NULL, 0);
	rv_eval_reply replies[MAX_DOCS] = {0};
	rv_eval_run_info info;
	fake f = {0};
	assert_int_equal(run(set, &f, journal, 2, replies, &info), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), "seed was 1, is 2"));
	assert_int_equal(f.n_asked, 0);
	clear(replies);
	unlink(journal);

	/* records that do not suit the set */
	static const char *const records[] = {"[{\"doc\": 99, \"scores\": []}]",
	                                      "[{\"doc\": 0, \"scores\": [[1, 0, 1, 0]]}]",
	                                      "[{\"doc\": 0, \"texts\": [\"a\"]}]",
	                                      "[{\"doc\": 0, \"verdicts\": []}]",
	                                      "[{\"doc\": 0}]",
	                                      "[1]"};
	json_t *identity = json_pack("{s:s, s:i, s:f}", "task", "mmlu", "seed", 1, "x", 0.1);
	char *text = json_dumps(identity, JSON_COMPACT);
	for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
		rv_journal *j;
		rv_journal_info ji;
		assert_ok(rv_journal_open(&j, journal, text, NULL, NULL, &ji));
		assert_ok(rv_journal_append(j, records[i], strlen(records[i])));
		rv_journal_close(j);
		assert_int_not_equal(run(set, &f, journal, 1, replies, &info), RV_OK);
		clear(replies);
		unlink(journal);
	}
	free(text);
	json_decref(identity);
	assert_int_equal(f.n_asked, 0);
	rv_eval_set_free(set);
}

/* ---- judging ---- */

static void programs(void **state) {
	(void)state;
	const int64_t k[] = {1, 2};
	rv_eval_set *set = read_set("humaneval", -1, k, 2);
	rv_eval_reply replies[MAX_DOCS] = {0};
	rv_eval_run_info info;
	char path[600];
	double *values;
	int64_t n_skipped;
	fake f = {0};
	snprintf(path, sizeof path, "%s/samples.jsonl", dir);
	const char *samples = "{\"task_id\": \"Mini/1\", \"completion\": \"pass\"}\n"
	                      "{\"task_id\": \"Mini/0\", \"completion\": \"return 1\"}\n"
	                      "{\"task_id\": \"Mini/0\", \"completion\": \"pass\"}\n"
	                      "{\"task_id\": \"Mini/0\", \"completion\": \"pass\"}\n"
	                      "{\"task_id\": \"Mini/1\", \"completion\": \"return\"}\n";
	assert_ok(rv_file_write(path, samples, strlen(samples)));
	assert_ok(rv_eval_read_completions(set, path, replies, &n_skipped));
	assert_ok(run(set, &f, NULL, 1, replies, &info));
	assert_int_equal(f.n_asked, 0);
	assert_int_equal(f.n_judged, 5);
	assert_string_equal(info.isolation, "none at all");
	assert_ok(rv_eval_values(set, replies, &values));
	const double want[] = {rv_pass_at_k(3, 1, 1), rv_pass_at_k(3, 1, 2), 0.5, 1};
	for (int i = 0; i < 4; i++)
		assert_true(values[i] == want[i]);
	rv_free(values);
	/* what was not run is no failure of the program: no score */
	replies[0].verdicts[0].verdict = RV_JUDGE_NOT_RUN;
	assert_int_equal(rv_eval_values(set, replies, &values), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "was not run"));
	clear(replies);
	set->metrics[1].k = 3; /* Mini/1 has two */
	assert_int_equal(rv_eval_read_completions(set, path, replies, &n_skipped), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "pass@3 of Mini/1 needs as many samples"));
	clear(replies);
	rv_eval_set_free(set);
}

/* Generated and judged with a journal; a second run asks and judges nothing. */
static void programs_resume(void **state) {
	(void)state;
	rv_eval_set *set = read_set("humaneval", -1, NULL, 0);
	rv_eval_reply replies[MAX_DOCS] = {0};
	rv_eval_run_info info;
	fake f = {0};
	assert_ok(run(set, &f, journal, 1, replies, &info));
	assert_int_equal(f.n_judged, 2);
	assert_string_equal(replies[0].texts[0], " so it is \xef\xbf\xbd\xef\xbf\xbd 5.\n#### 5");
	clear(replies);
	f = (fake){0};
	assert_ok(run(set, &f, journal, 1, replies, &info));
	assert_int_equal(f.n_asked + f.n_judged, 0);
	assert_int_equal(replies[1].verdicts[0].verdict, RV_JUDGE_FAILED);
	assert_string_equal(replies[1].verdicts[0].reason, "wrong");
	assert_string_equal(info.isolation, "none at all");
	assert_int_equal(replies[1].n_unfinished, 1);
	clear(replies);
	unlink(journal);
	rv_eval_set_free(set);
}

static double judged_by(const rv_eval_set *set, const rv_eval_doc *doc, const double *logprobs, int n,
                        int metric) {
	rv_score scores[8] = {0};
	double value;
	for (int i = 0; i < n; i++)
		scores[i].logprob = logprobs[i];
	const rv_eval_reply reply = {.done = 1, .n = n, .scores = scores};
	assert_ok(set->task->judge(set, doc, &reply, metric, &value, NULL));
	return value;
}

static double judged(const rv_eval_set *set, int64_t doc, const double *logprobs, int n) {
	return judged_by(set, &set->docs[doc], logprobs, n, 0);
}

static void choices(void **state) {
	(void)state;
	rv_eval_set *set = read_set("mmlu", 1, NULL, 0);
	/* document 2 has the answer A, document 1 the answer B */
	assert_true(judged(set, 2, (double[]){-1, -1, -2, -3}, 4) == 1); /* a tie: the first */
	assert_true(judged(set, 1, (double[]){-1, -1, -2, -3}, 4) == 0);
	assert_true(judged(set, 1, (double[]){-2, -1, -2, -3}, 4) == 1);
	rv_eval_set_free(set);

	set = read_set("mmlu_continuation", 1, NULL, 0);
	/* choices of 3, 2, 5 and 16 characters, the first is right: by the whole text the second wins,
	 * by its characters the first (-1.0 against -1.1) */
	const double whole[] = {-3, -2.2, -6, -40};
	assert_true(judged(set, 2, whole, 4) == 0);
	assert_true(judged_by(set, &set->docs[2], whole, 4, 1) == 1);
	/* a tie by characters: the first */
	assert_true(judged_by(set, &set->docs[2], (double[]){-3, -2, -5, -16}, 4, 1) == 1);
	/* characters, not bytes: per byte "ßß" would win, -0.55 against -1 */
	const char *const mixed[] = {"ss", "ßß", "s", "ssss"};
	rv_eval_doc doc = set->docs[2];
	doc.choices = mixed;
	assert_true(judged_by(set, &doc, (double[]){-2, -2.2, -3, -9}, 4, 1) == 1);
	/* control: with bytes for characters it does */
	const char *const bytes[] = {"ss", "ssss", "s", "ssss"};
	doc.choices = bytes;
	assert_true(judged_by(set, &doc, (double[]){-2, -2.2, -3, -9}, 4, 1) == 0);
	rv_eval_set_free(set);

	set = read_set("truthfulqa_mc2", -1, NULL, 0); /* truth of document 0: 1 1 0 0 0 */
	const double p[] = {log(0.1), log(0.2), log(0.3), log(0.2), log(0.2)};
	assert_true(fabs(judged(set, 0, p, 5) - 0.3) < 1e-12);
	double far[5];
	for (int i = 0; i < 5; i++)
		far[i] = p[i] - 2000; /* exp would underflow to 0 / 0 */
	assert_true(fabs(judged(set, 0, far, 5) - 0.3) < 1e-12);
	rv_eval_set_free(set);
}

/* ---- results ---- */

typedef struct outcome {
	rv_eval_set *set;
	rv_eval_reply replies[MAX_DOCS];
	rv_eval_outcome o;
	double *values;
} outcome;

static void make_outcome(outcome *x, const char *task, int64_t n_fewshot) {
	fake f = {0};
	rv_eval_run_info info;
	memset(x, 0, sizeof *x);
	x->set = read_set(task, n_fewshot, NULL, 0);
	assert_ok(run(x->set, &f, NULL, 1, x->replies, &info));
	assert_ok(rv_eval_values(x->set, x->replies, &x->values));
	x->o = (rv_eval_outcome){.set = x->set, .replies = x->replies, .values = x->values};
	assert_ok(rv_eval_aggregate(x->set, x->values, &x->o.scores));
}

static void free_outcome(outcome *x) {
	rv_eval_scores_clear(&x->o.scores);
	rv_free(x->values);
	clear(x->replies);
	rv_eval_set_free(x->set);
}

static const json_t *at(const json_t *value, const char *a, const char *b, const char *c) {
	value = json_object_get(value, a);
	value = b ? json_object_get(value, b) : value;
	return c ? json_object_get(value, c) : value;
}

static void result_of_groups(void **state) {
	(void)state;
	outcome x;
	json_t *r;
	char hex[65];
	const rv_eval_about about = {.start_unix_s = 5, .seconds = 1.5};
	make_outcome(&x, "mmlu", 1);
	assert_ok(rv_eval_result_json(&x.o, &about, &r));
	const json_t *mean = at(r, "results", "mmlu_world_trivia", "acc,none");
	assert_true(json_is_real(mean));
	assert_string_equal(json_string_value(at(r, "groups", "mmlu", "acc_stderr,none")), "N/A");
	assert_true(json_is_real(at(r, "results", "mmlu_world_trivia", "acc_stderr,none")));
	/* one document has no standard error, and neither has a group that holds it */
	assert_string_equal(json_string_value(at(r, "results", "mmlu_anatomy", "acc_stderr,none")),
	                    "N/A");
	assert_int_equal(json_integer_value(at(r, "groups", "mmlu", "sample_len")), 4);
	assert_int_equal(json_array_size(at(r, "group_subtasks", "mmlu", NULL)), 2);
	assert_true(json_real_value(at(r, "versions", "mmlu", NULL)) == 2);
	assert_true(json_real_value(at(r, "versions", "mmlu_anatomy", NULL)) == 1);
	assert_int_equal(json_integer_value(at(r, "n-shot", "mmlu_anatomy", NULL)), 1);
	assert_int_equal(json_integer_value(at(r, "n-samples", "mmlu_world_trivia", "effective")), 3);
	assert_string_equal(json_string_value(at(r, "total_evaluation_time_seconds", NULL, NULL)),
	                    "1.500");
	assert_true(json_integer_value(at(r, "ruvltra", "truncated", "documents")) > 0);
	assert_false(json_boolean_value(at(r, "ruvltra", "data", "published")));
	json_decref(r);
	x.set->n_fewshot = 2; /* as the fixture's prompts */
	assert_ok(rv_eval_part_hash(&x.o, 1, hex));
	assert_string_equal(hex, "6b65829ec88ee5ab096ff7e53aea20507bf89b139d834793cd2db5ed94bd0f26");
	x.set->n_fewshot = 1;
	free_outcome(&x);
}

static void table(void **state) {
	(void)state;
	outcome x;
	char *text;
	make_outcome(&x, "gsm8k", -1);
	assert_ok(rv_eval_table(&x.o, 1, &text));
	assert_string_equal(
	        text, "|Tasks|Version|     Filter     |n-shot|  Metric   |   |Value |   |Stderr|\n"
	              "|-----|------:|----------------|-----:|-----------|---|-----:|---|-----:|\n"
	              "|gsm8k|      3|strict-match    |     5|exact_match|↑  |0.5000|±  |0.5000|\n"
	              "|     |       |flexible-extract|     5|exact_match|↑  |0.5000|±  |0.5000|\n");
	rv_free(text);
	free_outcome(&x);
}

static void samples(void **state) {
	(void)state;
	outcome x;
	char path[600], *text;
	size_t len;
	snprintf(path, sizeof path, "%s/out.jsonl", dir);
	make_outcome(&x, "gsm8k", -1);
	assert_ok(rv_eval_write_samples(&x.o, 1, path));
	assert_ok(rv_file_read(path, 1 << 20, &text, &len));
	/* both documents under the first filter, then both under the second */
	static const char *const filters[] = {"strict-match", "strict-match", "flexible-extract",
	                                      "flexible-extract"};
	char *line = text;
	for (int i = 0; i < 4; i++) {
		char *end = strchr(line, '\n');
		json_t *s;
		assert_non_null(end);
		assert_ok(rv_json_parse(line, (size_t)(end - line), "sample", &s));
		assert_string_equal(json_string_value(at(s, "filter", NULL, NULL)), filters[i]);
		assert_int_equal(json_integer_value(at(s, "doc_id", NULL, NULL)), i % 2);
		assert_true(json_real_value(at(s, "exact_match", NULL, NULL)) == (i % 2 == 0));
		assert_string_equal(
		        json_string_value(json_array_get(at(s, "filtered_resps", NULL, NULL), 0)), "5");
		assert_int_equal(strlen(json_string_value(at(s, "prompt_hash", NULL, NULL))), 64);
		json_decref(s);
		line = end + 1;
	}
	assert_true(*line == '\0');
	rv_free(text);
	free_outcome(&x);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(resumes_after_a_stop),
	        cmocka_unit_test(resumes_after_a_kill),
	        cmocka_unit_test(refuses_another_run),
	        cmocka_unit_test(programs),
	        cmocka_unit_test(programs_resume),
	        cmocka_unit_test(choices),
	        cmocka_unit_test(result_of_groups),
	        cmocka_unit_test(table),
	        cmocka_unit_test(samples),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
