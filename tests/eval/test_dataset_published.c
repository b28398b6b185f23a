/* The published sets: whole, quick to read, and TruthfulQA's answers as upstream derives them. */
#include "eval/task.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "tests/support/reference.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

static rv_eval_set *read_set(const char *task, const char *folder) {
	char path[1024];
	rv_eval_set *set;
	if (!reference_path(path, folder))
		skip();
	const rv_eval_read_options o = {.data = path, .n_fewshot = -1};
	assert_ok(rv_eval_set_read(&set, rv_eval_task_by_name(task), &o));
	return set;
}

static void mmlu(void **state) {
	(void)state;
	int64_t before = rv_now_ns(), n[4] = {0};
	rv_eval_set *set = read_set("mmlu", "datasets");
	double seconds = 1e-9 * (double)(rv_now_ns() - before);
	assert_int_equal(set->n_parts, 57);
	assert_int_equal(set->n_docs, 14042);
	assert_true(set->data.official);
	for (int64_t i = 0; i < set->n_docs; i++)
		n[set->docs[i].target[0] - '0']++;
	assert_int_equal(n[0], 3222);
	assert_int_equal(n[1], 3462);
	assert_int_equal(n[2], 3582);
	assert_int_equal(n[3], 3776);
	print_message("# 14042 rows in %.2f s\n", seconds);
#if !defined(__SANITIZE_ADDRESS__) && defined(NDEBUG) /* the bar is one of release builds */
	assert_true(seconds < 1);
#endif
	rv_eval_set_free(set);
	/* the other form: the same documents */
	set = read_set("mmlu_continuation", "datasets");
	assert_int_equal(set->n_docs, 14042);
	assert_true(set->data.official);
	rv_eval_set_free(set);
}

static void others(void **state) {
	(void)state;
	rv_eval_set *set = read_set("gsm8k", "datasets");
	assert_int_equal(set->n_docs, 1319);
	assert_true(set->data.official);
	assert_string_equal(set->data.shots, "local, not comparable"); /* train.jsonl is not there */
	rv_eval_set_free(set);
	set = read_set("humaneval", "datasets");
	assert_int_equal(set->n_docs, 164);
	assert_true(set->data.official);
	rv_eval_set_free(set);
}

/* ---- TruthfulQA ---- */

static const json_t *find_question(const json_t *all, const char *question) {
	size_t i;
	json_t *one;
	json_array_foreach((json_t *)(uintptr_t)all, i, one) {
		if (strcmp(json_string_value(json_object_get(one, "question")), question) == 0)
			return one;
	}
	return NULL;
}

/* Is this target (mc1 or mc2) the ordered map of upstream's file? */
static int same_target(const rv_eval_doc *doc, const json_t *target) {
	const char *answer;
	json_t *truth;
	int i = 0, same = (int)json_object_size(target) == doc->n_choices;
	json_object_foreach((json_t *)(uintptr_t)target, answer, truth) {
		same = same && strcmp(doc->choices[i], answer) == 0 &&
		       doc->truth[i] == json_integer_value(truth);
		i++;
	}
	return same;
}

static void compare(const char *folder, const char *mc_task, const char *version) {
	static const char *const tasks[] = {"truthfulqa_mc1", "truthfulqa_mc2"};
	static const char *const targets[] = {"mc1_targets", "mc2_targets"};
	char path[1024];
	json_error_t error;
	if (!reference_path(path, mc_task))
		skip();
	json_t *upstream = json_load_file(path, 0, &error);
	assert_non_null(upstream);
	for (int t = 0; t < 2; t++) {
		rv_eval_set *set = read_set(tasks[t], folder);
		assert_int_equal(set->n_docs, 817);
		assert_true(set->data.official);
		assert_non_null(strstr(set->data.version, version));
		int n_same = 0, n_control = 0;
		for (int64_t i = 0; i < set->n_docs; i++) {
			const char *q =
			        json_string_value(json_object_get(set->docs[i].source, "question"));
			const json_t *one = find_question(upstream, q);
			assert_non_null(one);
			n_same += same_target(&set->docs[i], json_object_get(one, targets[t]));
			n_control += same_target(&set->docs[i], json_object_get(one, targets[1 - t]));
		}
		assert_int_equal(n_same, 817);
		assert_in_range(n_control, 0, 200); /* the other target is mostly another */
		rv_eval_set_free(set);
	}
	json_decref(upstream);
}

static void truthfulqa_v0(void **state) {
	(void)state;
	compare("datasets/truthfulqa", "datasets/truthfulqa/v1/mc_task.v0.json", "v0");
}

static void truthfulqa_v1(void **state) {
	(void)state;
	compare("datasets/truthfulqa/v1", "datasets/truthfulqa/v1/mc_task.json", "v1");
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(mmlu),
	        cmocka_unit_test(others),
	        cmocka_unit_test(truthfulqa_v0),
	        cmocka_unit_test(truthfulqa_v1),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
