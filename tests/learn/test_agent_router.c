/* The agent router: trained on two small tables it routes a third; shuffled labels fall to chance, and
 * a router that always says the same is caught; calibration; files that were changed are refused.
 */
#include "base/file.h"
#include "base/mem.h"
#include "learn/agent_router_internal.h"
#include "learn/agent_train.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATA "datasets/routing/"
static const char *const tables[] = {DATA "written_a.tsv", DATA "written_b.tsv"};
static char path[] = "/tmp/rv_agent_router_XXXXXX";

static rv_agent_train_options quick(void) {
	rv_agent_train_options o = rv_agent_train_defaults();
	o.lexicon = DATA "lexicon.tsv";
	o.tables = tables;
	o.n_tables = 2;
	o.held = tables[1];
	o.linear.epochs = 4;
	return o;
}

static int open_all(void **state) {
	(void)state;
	const int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	return 0;
}

static int close_all(void **state) {
	(void)state;
	unlink(path);
	return 0;
}

static void learns(void **state) {
	(void)state;
	const rv_agent_train_options o = quick();
	rv_agent_held_score s[RV_ROUTERS];
	assert_ok(rv_agent_router_train(&o, path, s));
	for (int k = 0; k < RV_ROUTERS; k++)
		printf("# %s: %.3f, Brier %.3f, ECE %.3f\n", rv_agent_router_names[k], s[k].accuracy,
		       s[k].brier, s[k].ece);
	assert_true(s[RV_ROUTER_HYBRID].accuracy > 0.62);
	assert_true(s[RV_ROUTER_HYBRID].accuracy > s[RV_ROUTER_KEYWORD].accuracy + 0.05);
	assert_true(s[RV_ROUTER_KEYWORD].accuracy > 0.4);
	assert_true(s[RV_ROUTER_HYBRID].ece < 0.08 && s[RV_ROUTER_KEYWORD].ece < 0.08);
	/* without an embedder there is no vote: as good as always the same agent */
	assert_true(s[RV_ROUTER_EMBEDDING].accuracy < 0.12);
}

static void shuffled_labels(void **state) {
	(void)state;
	rv_agent_train_options o = quick();
	rv_agent_held_score s[RV_ROUTERS];
	o.shuffle_labels = 1;
	assert_ok(rv_agent_router_train(&o, NULL, s));
	for (int k = 0; k < RV_ROUTERS; k++)
		if (s[k].accuracy > 1.0 / RV_AGENTS + 0.04)
			fail_msg("%s: %.3f right of shuffled labels", rv_agent_router_names[k],
			         s[k].accuracy);
}

static void routes(void **state) {
	(void)state;
	static const char *const cases[][2] = {
	        {"Please review my pull request before I merge it", "reviewer"},
	        {"Write unit tests for the date parser", "tester"},
	        {"The app crashes with a null pointer exception since yesterday", "debugger"},
	        {"Refactor the duplicated code into one helper without changing its behaviour",
	         "refactorer"},
	        {"Write the OpenAPI reference for the orders endpoint with all status codes",
	         "api-docs"},
	        {"Break the project down into tasks with estimates and milestones", "planner"},
	};
	rv_agent_router *r;
	rv_agent_decision d;
	assert_ok(rv_agent_router_open(&r, path, NULL));
	int seen[RV_AGENTS] = {0}, kinds = 0;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		float sum = 0;
		assert_ok(rv_agent_route(r, RV_ROUTER_KEYWORD, cases[i][0], strlen(cases[i][0]), &d));
		if (strcmp(rv_agent_names[d.agent], cases[i][1]) != 0)
			fail_msg("'%s': %s", cases[i][0], rv_agent_names[d.agent]);
		for (int a = 0; a < RV_AGENTS; a++)
			sum += d.probabilities[a];
		assert_true(fabsf(sum - 1) < 1e-4f && d.confidence == d.probabilities[d.agent]);
		assert_true(d.quality > 0 && d.quality < 1 && d.complexity >= 0 &&
		            d.complexity < RV_AGENT_LEVELS);
		assert_true(d.task_class == d.agent || d.task_class == RV_AGENTS);
		kinds += !seen[d.agent]++;
	}
	assert_true(kinds > 1); /* a router that always says coder would not */
	assert_int_equal(rv_agent_route(r, RV_ROUTER_KEYWORD, " ?! ", 4, &d), RV_ERR_INVALID);
	assert_int_equal(rv_agent_route(r, RV_ROUTER_KEYWORD, "", 0, &d), RV_ERR_INVALID);
	assert_int_equal(rv_agent_route(r, RV_ROUTER_HYBRID, "review it", 9, &d), RV_ERR_INVALID);
	rv_agent_router_destroy(r);
}

/* Without an embedder examples are not loaded, but their bytes are: the checksum covers all. */
static void changed_files(void **state) {
	(void)state;
	rv_agent_router *r;
	char *bytes;
	size_t size;
	assert_ok(rv_file_read(path, 1 << 26, &bytes, &size));
	for (size_t i = 0; i < size * 8; i += i < 256 ? 1 : size * 8 / 40 + 3) {
		bytes[i / 8] = (char)(bytes[i / 8] ^ (1 << i % 8));
		const rv_status st = rv_agent_router_open_memory(&r, bytes, size, "changed", NULL);
		if (st == RV_OK || !strstr(rv_error_message(), "changed"))
			fail_msg("bit %zu changed, and the file is taken, or not named", i);
		bytes[i / 8] = (char)(bytes[i / 8] ^ (1 << i % 8));
	}
	for (size_t n = 0; n < size; n += 1 + n / 2)
		assert_int_equal(rv_agent_router_open_memory(&r, bytes, n, "cut off", NULL),
		                 RV_ERR_FORMAT);
	rv_free(bytes);
}

static void bad_tables(void **state) {
	(void)state;
	static const char *const bad[] = {"text\tagent\nx\tcoder\n",
	                                  "agent\ttext\nnobody\tdo it\n",
	                                  "agent\ttext\ncoder\n",
	                                  "agent\ttext\n",
	                                  "agent\tcategory\ttext\ncoder\treview\tdo it\n",
	                                  "agent\ttext\ncoder\t\n",
	                                  "",
	                                  "Request: x\nAgent: nobody\n"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		rv_agent_data data = {0};
		assert_ok(rv_file_write(path, bad[i], strlen(bad[i])));
		if (rv_agent_data_add(&data, path, 0) != RV_ERR_FORMAT ||
		    !strstr(rv_error_message(), path))
			fail_msg("table %zu is taken, or not named", i);
		rv_agent_data_free(&data);
	}
}

static void calibration_error(void **state) {
	(void)state;
	float sure[100];
	int right[100];
	for (int i = 0; i < 100; i++) {
		sure[i] = 0.75f;
		right[i] = i % 4 != 0;
	}
	assert_true(rv_calibration_error(sure, right, 100) < 1e-6);
	for (int i = 0; i < 100; i++)
		right[i] = 0;
	assert_true(fabs(rv_calibration_error(sure, right, 100) - 0.75) < 1e-6);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(learns),        cmocka_unit_test(routes),
	        cmocka_unit_test(changed_files), cmocka_unit_test(shuffled_labels),
	        cmocka_unit_test(bad_tables),    cmocka_unit_test(calibration_error),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
