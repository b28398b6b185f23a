/* Contexts of the tasks, byte for byte: fixtures written from the harness's templates, with line
 * breaks, white space at both ends, quotes and other scripts in them. */
#include "eval/task.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURES "tests/eval/fixtures"

static rv_eval_set *read_set(const char *task, const char *folder, int64_t n_fewshot, int64_t limit) {
	rv_eval_set *set;
	const rv_eval_read_options o = {.data = folder, .n_fewshot = n_fewshot, .limit = limit};
	assert_non_null(rv_eval_task_by_name(task));
	assert_ok(rv_eval_set_read(&set, rv_eval_task_by_name(task), &o));
	return set;
}

static void same_context(const rv_eval_set *set, int64_t i, const char *prompt) {
	char path[256], *want, *got;
	size_t want_len, got_len;
	snprintf(path, sizeof path, FIXTURES "/prompts/%s.txt", prompt);
	assert_ok(rv_file_read(path, 1 << 20, &want, &want_len));
	assert_ok(rv_eval_context(set, i, &got, &got_len));
	if (got_len != want_len || memcmp(got, want, got_len) != 0)
		fail_msg("%s: '%s' is not '%s'", prompt, got, want);
	/* control: the comparison sees one byte */
	got[got_len / 2] ^= 1;
	assert_memory_not_equal(got, want, got_len);
	rv_free(want);
	rv_free(got);
}

static void same_source(const rv_eval_doc *doc, const char *sha256) {
	char hex[65], *text = json_dumps(doc->source, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	rv_sha256_hex(text, strlen(text), hex);
	assert_string_equal(hex, sha256);
	free(text);
}

static void mmlu(void **state) {
	(void)state;
	rv_eval_set *set = read_set("mmlu", FIXTURES, 1, 0);
	assert_int_equal(set->n_parts, 2);
	assert_int_equal(set->n_docs, 4);
	assert_string_equal(set->parts[0].name, "mmlu_anatomy");
	assert_string_equal(set->parts[0].group, "stem");
	assert_null(set->parts[1].group); /* no subject of the published set */
	assert_false(set->data.official);
	rv_eval_set_free(set);

	/* two shots of one subject: the folder of the one task, and anatomy has but one */
	const rv_eval_read_options o = {.data = FIXTURES "/mini-mmlu", .n_fewshot = 2};
	assert_int_equal(rv_eval_set_read(&set, rv_eval_task_by_name("mmlu"), &o), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "--fewshot: 2, but mmlu_anatomy has 1"));

	set = read_set("mmlu", FIXTURES, 1, 0);
	set->n_fewshot = 2; /* world_trivia has three */
	for (int i = 0; i < 3; i++) {
		char name[32];
		snprintf(name, sizeof name, "mmlu_%d", i);
		same_context(set, 1 + i, name);
	}
	same_source(&set->docs[3], "2360ac022c06999bb75f57ebb1eb5fd08c42d18df2be62507802fe1573d3406c");
	assert_string_equal(set->docs[3].target, "0");
	assert_string_equal(set->docs[1].choices[3], "D");
	assert_int_equal(set->docs[1].truth[1], 1);
	rv_eval_set_free(set);
}

/* The same documents, asked for the choice itself. */
static void mmlu_continuation(void **state) {
	(void)state;
	rv_eval_set *set = read_set("mmlu_continuation", FIXTURES, -1, 0);
	assert_int_equal(set->n_fewshot, 0);
	assert_int_equal(set->n_parts, 2);
	assert_int_equal(set->n_docs, 4);
	assert_string_equal(set->parts[0].name, "mmlu_anatomy_continuation");
	assert_string_equal(set->parts[0].alias, "anatomy");
	assert_string_equal(set->parts[0].group, "stem");
	same_context(set, 0, "mmlu_continuation_0");
	set->n_fewshot = 2;
	for (int i = 1; i < 4; i++) {
		char name[32];
		snprintf(name, sizeof name, "mmlu_continuation_%d", i);
		same_context(set, i, name);
	}
	/* choices as they are in the file, white space too; the answer is their index */
	assert_string_equal(set->docs[1].choices[1], "4 ");
	assert_string_equal(set->docs[3].choices[3], "ε");
	assert_string_equal(set->docs[3].target, "0");
	assert_int_equal(set->docs[1].truth[1], 1);
	same_source(&set->docs[3], "2360ac022c06999bb75f57ebb1eb5fd08c42d18df2be62507802fe1573d3406c");
	assert_string_equal(set->metrics[0].name, "acc");
	assert_string_equal(set->metrics[1].name, "acc_norm");
	rv_eval_set_free(set);
}

static void gsm8k(void **state) {
	(void)state;
	rv_eval_set *set = read_set("gsm8k", FIXTURES, -1, 0);
	same_context(set, 0, "gsm8k_0");
	same_context(set, 1, "gsm8k_1");
	same_source(&set->docs[1], "6121e07ce665a0065317f9b3edcd79f4fcd44a93b94f9a656fdd3e6a2fe28557");
	assert_string_equal(set->data.shots, "local, not comparable"); /* 30 rows are no train split */
	rv_eval_set_free(set);
	/* what a document is shown does not depend on the limit */
	set = read_set("gsm8k", FIXTURES, -1, 1);
	assert_int_equal(set->n_docs, 1);
	assert_int_equal(set->parts[0].n_original, 2);
	same_context(set, 0, "gsm8k_0");
	rv_eval_set_free(set);
	/* without a train split: the first rows of fewshot.jsonl */
	set = read_set("gsm8k", FIXTURES "/local-gsm8k", -1, 0);
	same_context(set, 0, "gsm8k_local_0");
	assert_string_equal(set->data.shots, "local, not comparable");
	rv_eval_set_free(set);
}

static void humaneval(void **state) {
	(void)state;
	rv_eval_set *set = read_set("humaneval", FIXTURES, -1, 0);
	same_context(set, 0, "humaneval_0");
	assert_string_equal(set->docs[1].name, "Mini/1");
	assert_string_equal(set->docs[1].target,
	                    "def check(candidate):\n    assert candidate([1, 2]) == "
	                    "2\n\ncheck(last)");
	rv_eval_set_free(set);
}

static void truthfulqa(void **state) {
	(void)state;
	rv_eval_set *set = read_set("truthfulqa_mc1", FIXTURES, -1, 0);
	same_context(set, 0, "truthfulqa_0");
	same_context(set, 1, "truthfulqa_1");
	same_source(&set->docs[0], "62b7a0377c000e6d4cc323478c14338862ea8b9b966a3433d4ffb595ff6d0191");
	assert_int_equal(set->docs[0].n_choices, 4);
	assert_memory_equal(set->docs[0].truth, "\1\0\0\0", 4);
	/* the preamble alone, against its checksum */
	char *text, hex[65];
	size_t len;
	assert_ok(rv_eval_context(set, 0, &text, &len));
	assert_true(len > 573);
	rv_sha256_hex(text, 573, hex);
	assert_string_equal(hex, "5c0da5f346e8652c9a85061a6e3aca6bc82e10a8a7dad4596fe980a9c9bae543");
	rv_free(text);
	rv_eval_set_free(set);

	/* "Unknown." is right and wrong: it keeps its place and is wrong */
	set = read_set("truthfulqa_mc2", FIXTURES, -1, 0);
	assert_int_equal(set->docs[0].n_choices, 5);
	assert_string_equal(set->docs[0].choices[2], "Unknown.");
	assert_memory_equal(set->docs[0].truth, "\1\1\0\0\0", 5);
	assert_string_equal(set->docs[1].choices[4], "7.");
	rv_eval_set_free(set);
	/* zero shots are a part of the task */
	const rv_eval_read_options o = {.data = FIXTURES, .n_fewshot = 3};
	assert_int_equal(rv_eval_set_read(&set, rv_eval_task_by_name("truthfulqa_mc2"), &o),
	                 RV_ERR_INVALID);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(mmlu),       cmocka_unit_test(mmlu_continuation),
	        cmocka_unit_test(gsm8k),      cmocka_unit_test(humaneval),
	        cmocka_unit_test(truthfulqa),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
