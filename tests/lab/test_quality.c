/* Answers by content: asked once, shared by profiles, not by models, and the same either way. */
#include "lab/quality.h"

#include "base/mem.h"
#include "eval/task.h"
#include "tests/support/tiny_model.h"

#include <limits.h>

static char root[512];
static int n_polls, polls_left;

static int cancelled(void *user) {
	(void)user;
	n_polls++;
	return polls_left > 0 && n_polls > polls_left;
}

static rv_run_config config_of(rv_profile profile) {
	return (rv_run_config){
	        .profile = profile, .root = root, .seed = 1, .n_threads = 1, .cancelled = cancelled};
}

static int setup(void **state) {
	(void)state;
	char link[600], here[PATH_MAX], sets[PATH_MAX + 16];
	const char *tmp = getenv("TMPDIR");
	snprintf(root, sizeof root, "%s/rv-quality-XXXXXX", tmp ? tmp : "/tmp");
	if (mkdtemp(root) == NULL || getcwd(here, sizeof here) == NULL)
		return 1;
	snprintf(link, sizeof link, "%s/datasets", root);
	snprintf(sets, sizeof sets, "%s/datasets", here);
	n_polls = polls_left = 0;
	return symlink(sets, link);
}

static int teardown(void **state) {
	(void)state;
	char command[600];
	snprintf(command, sizeof command, "rm -rf '%s'", root);
	return system(command);
}

static rv_model *model_of(const char *target) {
	char path[1024], sha256[65];
	rv_model *model;
	tiny_model_file(path, "qwen2", target);
	assert_ok(rv_model_open(&model, path, NULL));
	assert_ok(rv_model_sha256(model, sha256)); /* is kept: the file may go */
	remove(path);
	return model;
}

static rv_quality_items ask(rv_profile profile, rv_quality_depth depth, rv_model *model,
                            rv_quality_task task) {
	const rv_run_config c = config_of(profile);
	rv_quality_items q;
	assert_ok(rv_quality_ask(&c, (rv_subject){model, NULL}, task, depth, &q));
	return q;
}

static void asks_once(void **state) {
	(void)state;
	static const rv_quality_task tasks[] = {RV_QUALITY_TRUTHFULQA_MC2, RV_QUALITY_GSM8K};
	rv_model *model = model_of("F16");
	for (size_t t = 0; t < 2; t++) {
		rv_quality_items a = ask(RV_PROFILE_SMOKE, RV_QUALITY_BRIEF, model, tasks[t]);
		assert_true(a.items.n >= 4);
		assert_int_equal(a.n_asked, a.items.n);
		rv_quality_items b = ask(RV_PROFILE_SMOKE, RV_QUALITY_BRIEF, model, tasks[t]);
		assert_int_equal(b.n_asked, 0);
		assert_int_equal(b.items.n, a.items.n);
		assert_memory_equal(a.items.values, b.items.values, (size_t)a.items.n * sizeof(double));
		rv_quality_items_free(&a);
		rv_quality_items_free(&b);
	}
	rv_model_release(model);
}

/* More of the same items: only the rest is asked, and those known stay. */
static void asks_the_rest(void **state) {
	(void)state;
	rv_model *model = model_of("F16"), *other = model_of("Q8_0");
	rv_quality_items few =
	        ask(RV_PROFILE_SMOKE, RV_QUALITY_BRIEF, model, RV_QUALITY_TRUTHFULQA_MC2);
	rv_quality_items more =
	        ask(RV_PROFILE_QUICK, RV_QUALITY_BRIEF, model, RV_QUALITY_TRUTHFULQA_MC2);
	assert_true(more.items.n > few.items.n);
	/* the longest generated text is part of an item's content only where texts are generated */
	assert_int_equal(more.n_asked, more.items.n - few.items.n);
	assert_memory_equal(few.items.values, more.items.values, (size_t)few.items.n * sizeof(double));
	rv_quality_items_free(&few);
	/* control: another model's answers are its own */
	few = ask(RV_PROFILE_SMOKE, RV_QUALITY_BRIEF, other, RV_QUALITY_TRUTHFULQA_MC2);
	assert_int_equal(few.n_asked, few.items.n);
	assert_memory_not_equal(few.items.values, more.items.values,
	                        (size_t)few.items.n * sizeof(double));
	rv_quality_items_free(&few);
	rv_quality_items_free(&more);
	rv_model_release(model);
	rv_model_release(other);
}

/* A run that is ended keeps what was answered. */
static void keeps_answers(void **state) {
	(void)state;
	rv_model *model = model_of("F16");
	const rv_run_config c = config_of(RV_PROFILE_QUICK);
	rv_quality_items q, fresh;
	polls_left = 40;
	assert_int_equal(rv_quality_ask(&c, (rv_subject){model, NULL}, RV_QUALITY_TRUTHFULQA_MC2,
	                                RV_QUALITY_BRIEF, &q),
	                 RV_ERR_CANCELLED);
	polls_left = 0;
	assert_ok(rv_quality_ask(&c, (rv_subject){model, NULL}, RV_QUALITY_TRUTHFULQA_MC2,
	                         RV_QUALITY_BRIEF, &q));
	assert_true(q.n_asked > 0 && q.n_asked < q.items.n);
	/* the same as asked in one go, elsewhere */
	assert_int_equal(teardown(NULL), 0);
	assert_int_equal(setup(NULL), 0);
	assert_ok(rv_quality_ask(&c, (rv_subject){model, NULL}, RV_QUALITY_TRUTHFULQA_MC2,
	                         RV_QUALITY_BRIEF, &fresh));
	assert_int_equal(fresh.n_asked, fresh.items.n);
	assert_memory_equal(q.items.values, fresh.items.values, (size_t)q.items.n * sizeof(double));
	rv_quality_items_free(&q);
	rv_quality_items_free(&fresh);
	rv_model_release(model);
}

static void says_what_means_nothing(void **state) {
	(void)state;
	rv_model *model = model_of("F16");
	assert_string_equal(rv_quality_na(RV_PROFILE_QUICK, model), "untrained weights");
	char text[256], hex[2][65];
	rv_quality_settings(RV_PROFILE_QUICK, RV_QUALITY_USUAL, text, sizeof text);
	assert_non_null(strstr(text, "mmlu_continuation 2, "));
	assert_non_null(strstr(text, "mmlu 1, "));
	assert_non_null(strstr(text, "routing 50 of a part"));
	rv_quality_settings(RV_PROFILE_FULL, RV_QUALITY_BRIEF, text, sizeof text);
	assert_string_equal(
	        text, "mmlu_continuation all, humaneval all, gsm8k all, truthfulqa_mc2 all of a part");
	const rv_run_config c = config_of(RV_PROFILE_QUICK);
	for (int i = 0; i < 2; i++)
		assert_ok(rv_quality_data_sha256(&c, RV_QUALITY_USUAL, hex[i]));
	assert_string_equal(hex[0], hex[1]);
	assert_string_equal(rv_quality_name(RV_QUALITY_ROUTING), "routing");
	for (int t = 0; t < RV_QUALITY_N_TASKS; t++)
		assert_non_null(rv_eval_task_by_name(rv_quality_name((rv_quality_task)t)));
	assert_int_equal(RV_QUALITY_N_COUNTED, 4);
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(asks_once, setup, teardown),
	        cmocka_unit_test_setup_teardown(asks_the_rest, setup, teardown),
	        cmocka_unit_test_setup_teardown(keeps_answers, setup, teardown),
	        cmocka_unit_test_setup_teardown(says_what_means_nothing, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
