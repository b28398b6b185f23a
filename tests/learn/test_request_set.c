/* Requests: tables and corpus text read, topics found, texts altered as asked and not otherwise. */
#include "learn/request_set.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *write_file(char path[64], const char *suffix, const char *text) {
	snprintf(path, 64, "/tmp/rv-requests-XXXXXX%s", suffix);
	const int fd = mkstemps(path, (int)strlen(suffix));
	assert_true(fd >= 0);
	FILE *f = fdopen(fd, "w");
	fputs(text, f);
	fclose(f);
	return path;
}

static const char table[] = "agent\tlevel\ttext\n"
                            "coder\teasy\tbuild the zebra page\n"
                            "tester\teasy\ttest the zebra page now\n"
                            "coder\thard\tadd a quokka button please\n"
                            "tester\thard\tcheck every quokka button\n"
                            "planner\thard\twhat about wombats\n";
static const char corpus[] = "Role: x\nRequest: speed it up\nTask: t\nAgent: optimizer\n\n"
                             "Request: dropped\nRequest: write _ again\nAgent: coder\n";

static void open_set(rv_request_set *set) {
	char a[64], b[64];
	write_file(a, ".tsv", table);
	write_file(b, ".txt", corpus);
	assert_ok(rv_request_set_add(set, a, 1));
	assert_ok(rv_request_set_add(set, b, 0));
	assert_ok(rv_request_set_finish(set));
	unlink(a);
	unlink(b);
}

static void what_is_read(void **state) {
	(void)state;
	rv_request_set set = {0};
	open_set(&set);
	assert_int_equal(set.n, 7);
	assert_int_equal(set.n_classes, 4);
	assert_int_equal(set.n_topics, 2);
	assert_int_equal(set.n_sources, 2);
	assert_string_equal(set.items[5].text, "speed it up");
	assert_string_equal(set.items[6].text, "write _ again");
	assert_int_equal(set.items[6].label, rv_request_class(&set, "coder", 5));
	assert_int_equal(rv_request_class(&set, "code", 4), -1);
	assert_true(set.items[1].topic == 0 && set.items[2].topic == 1 && set.items[4].topic == 1);
	assert_int_equal(set.items[5].topic, -1);
	/* zebra and quokka name their topics; the and page are no different here, but "now" is alone */
	int topical = 0;
	for (int64_t w = 0; w < set.n_words; w++)
		topical += set.words[w].topical;
	assert_int_equal(topical, 2 * 3 + 2 * 2);
	rv_request_set_free(&set);
}

static int has(const char *text, const char *word) {
	return strstr(text, word) != NULL;
}

static void what_is_altered(void **state) {
	(void)state;
	rv_request_set set = {0};
	char out[256];
	int exchanged, others = 0, dropped = 0, cut = 0;
	rv_rng rng;
	rv_rng_seed(&rng, 1);
	open_set(&set);
	const rv_request_noise none = {0}, swap = {.exchange = 1}, drop = {.drop = 0.5},
	                       split = {.split = 1}, lower = {.lower = 1};
	for (int i = 0; i < 50; i++) {
		rv_request_alter(&set, 1, &none, &rng, out, sizeof out, &exchanged);
		assert_string_equal(out, "test the zebra page now");
		assert_false(exchanged);
		rv_request_alter(&set, 1, &swap, &rng, out, sizeof out, &exchanged);
		assert_true(exchanged && has(out, "test ") && has(out, " now"));
		others += has(out, "quokka") || has(out, "button");
		rv_request_alter(&set, 1, &drop, &rng, out, sizeof out, &exchanged);
		dropped += strlen(out) < 23;
		rv_request_alter(&set, 1, &split, &rng, out, sizeof out, &exchanged);
		cut += strchr(out, RV_REQUEST_CUT) != NULL;
		/* the blank always becomes a topic's word */
		rv_request_alter(&set, 6, &none, &rng, out, sizeof out, &exchanged);
		assert_false(has(out, "_"));
		assert_true(has(out, "write ") && has(out, " again") && strlen(out) > 12);
		assert_int_equal(rv_request_alter(&set, 1, &none, &rng, out, 8, &exchanged), 7);
	}
	assert_true(others > 20 && dropped > 30);
	assert_int_equal(cut, 50);
	rv_request_alter(&set, 6, &lower, &rng, out, sizeof out, &exchanged);
	for (const char *p = out; *p; p++)
		assert_false(*p >= 'A' && *p <= 'Z');
	rv_request_set_free(&set);
}

static void faults(void **state) {
	(void)state;
	static const struct {
		const char *suffix, *text, *message;
	} bad[] = {
	        {".tsv", "who\ttext\nx\ty\n", "'agent'"},
	        {".tsv", "agent\twhat\nx\ty\n", "'text'"},
	        {".tsv", "agent\ttext\ncoder\n", "line 2"},
	        {".tsv", "agent\ttext\n\tsomething\n", "line 2"},
	        {".tsv", "agent\ttext\ncoder\t\n", "line 2"},
	        {".tsv", "agent\ttext\n", "no requests"},
	        {".tsv", "", "no requests"},
	        {".txt", "Agent: coder\n", "no requests"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		rv_request_set set = {0};
		char path[64];
		write_file(path, bad[i].suffix, bad[i].text);
		assert_int_equal(rv_request_set_add(&set, path, 1), RV_ERR_FORMAT);
		assert_non_null(strstr(rv_error_message(), bad[i].message));
		unlink(path);
		rv_request_set_free(&set);
	}
}

static void no_zero_bytes(void **state) {
	(void)state;
	static const char bytes[] = "agent\ttext\ncoder\ta\0b\n";
	rv_request_set set = {0};
	assert_int_equal(rv_request_set_parse(&set, bytes, sizeof bytes - 1, "x.tsv", 0),
	                 RV_ERR_FORMAT);
	assert_non_null(strstr(rv_error_message(), "byte 18"));
	rv_request_set_free(&set);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(what_is_read),
	        cmocka_unit_test(what_is_altered),
	        cmocka_unit_test(faults),
	        cmocka_unit_test(no_zero_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
