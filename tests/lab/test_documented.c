/* Documented rows: CSV reading, refusals by line, verdicts. */
#include "base/file.h"
#include "lab/documented.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HEADER "table,point,metric,value_lo,value_hi,unit,kind,hardware,seed,comparable_reason\n"

static char path[256];

static int make_path(void **state) {
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(path, sizeof path, "%s/rv_documented_XXXXXX", tmp != NULL ? tmp : "/tmp");
	int fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
	(void)state;
	return unlink(path);
}

static rv_status read_text(const char *text, rv_documented *doc) {
	*doc = (rv_documented){0};
	assert_int_equal(rv_file_write(path, text, strlen(text)), RV_OK);
	return rv_documented_read(doc, path);
}

static void reads_rows(void **state) {
	(void)state;
	rv_documented d;
	assert_int_equal(read_text(HEADER
	                           "T9,a=b,speed,1.5,2,x,claimed,M3 Max,S0,\r\n"
	                           "T9,\"a=\"\"c\"\", d\",speed,,3,x,target,unstated,S1,\"two\nlines\"",
	                           &d),
	                 RV_OK);
	assert_int_equal(d.n, 2);
	assert_true(d.rows[0].lo == 1.5 && d.rows[0].hi == 2 && isnan(d.rows[1].lo));
	assert_string_equal(d.rows[0].comparable_reason, "");
	assert_string_equal(d.rows[1].point, "a=\"c\", d");
	assert_string_equal(d.rows[1].comparable_reason, "two\nlines");
	rv_documented_free(&d);
}

static void refuses(void **state) {
	(void)state;
	static const struct {
		const char *text, *says;
	} cases[] = {
	        {"table,point\n", ":1: 2 fields"},
	        {"xable,point,metric,value_lo,value_hi,unit,kind,hardware,seed,comparable_reason\n",
	         "'xable'"},
	        {HEADER "a,b\n", ":2: 2 fields"},
	        {HEADER "a,b,c,1,1,u,k,h,s,r,extra\n", ":2: 11 fields"},
	        {HEADER "a,b,c,1,1,u,k,h,s,\"open\n", ":2: quote left open"},
	        {HEADER "a,b,c,1,1,u,k,h,s,\"x\"y\n", ":2: text after"},
	        {HEADER "a,b,c,one,1,u,target,M3 Max,S0,\n", ":2: 'one'"},
	        {HEADER "a,b,c,,,u,target,M3 Max,S0,\n", ":2: value range"},
	        {HEADER "a,b,c,2,1,u,target,M3 Max,S0,\n", ":2: value range"},
	        {HEADER "a,b,c,nan,1,u,target,M3 Max,S0,\n", ":2: 'nan'"},
	        {HEADER "a,b,c,1,1,u,rumoured,M3 Max,S0,\n", ":2: kind 'rumoured'"},
	        {HEADER "a,b,c,1,1,u,,M3 Max,S0,\n", ":2: kind ''"},
	        {HEADER "a,b,c,1,1,u,target,M3,S0,\n", ":2: hardware 'M3'"},
	        {HEADER "a,b,c,1,1,u,target,,S0,\n", ":2: hardware ''"},
	        {HEADER "a,b,c,1,1,u,target,M3 Max,S5,\n", ":2: seed 'S5'"},
	        {HEADER "a,b,c,1,1,u,target,M3 Max,S0 ,\n", ":2: seed 'S0 '"},
	        {HEADER "a,b,c,1,1,u,target,M3 Max,S0,\na,b,c,1,1,u,target,m3 max,S0,\n",
	         ":3: hardware 'm3 max'"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		rv_documented d;
		assert_int_equal(read_text(cases[i].text, &d), RV_ERR_FORMAT);
		if (strstr(rv_error_message(), cases[i].says) == NULL)
			fail_msg("'%s' does not say '%s'", rv_error_message(), cases[i].says);
		assert_int_equal(d.n, 0);
	}
}

/* every shipped file is well-formed */
static void shipped_files(void **state) {
	(void)state;
	rv_documented d;
	double gb_s = 0;
	assert_int_equal(rv_documented_read(&d, "datasets/documented/t1_quantization.csv"), RV_OK);
	assert_true(d.n > 10);
	rv_documented_free(&d);
	assert_int_equal(rv_documented_bandwidth("datasets/documented/hardware.csv", "M3 Max", &gb_s),
	                 RV_OK);
	assert_true(gb_s > 100);
	assert_int_equal(rv_documented_bandwidth("datasets/documented/hardware.csv", "abacus", &gb_s),
	                 RV_ERR_NOT_FOUND);
}

static rv_verdict judge(double lo, double hi, int higher, rv_measured m, const char *why) {
	char empty[] = "", reason[64];
	snprintf(reason, sizeof reason, "%s", why);
	rv_documented_row row = {.comparable_reason = why[0] ? reason : empty, .lo = lo, .hi = hi};
	const char *said = NULL;
	return rv_judge(&row, higher, &m, &said);
}

static void verdicts(void **state) {
	(void)state;
	const rv_measured m = {10, 9, 12, NULL, NULL};
	assert_int_equal(judge(9, 9, 1, m, ""), RV_MET);
	assert_int_equal(judge(9.5, 9.5, 1, m, ""), RV_INCONCLUSIVE);
	assert_int_equal(judge(12, 12, 1, m, ""), RV_INCONCLUSIVE);
	assert_int_equal(judge(12.1, 12.1, 1, m, ""), RV_NOT_MET);
	assert_int_equal(judge(12, 12, 0, m, ""), RV_MET);
	assert_int_equal(judge(11, 11, 0, m, ""), RV_INCONCLUSIVE);
	assert_int_equal(judge(8.9, 8.9, 0, m, ""), RV_NOT_MET);
	/* ranges are reached at their worse end, open ends do not count */
	assert_int_equal(judge(8, 20, 1, m, ""), RV_MET);
	assert_int_equal(judge(1, 13, 0, m, ""), RV_MET);
	assert_int_equal(judge(NAN, 13, 0, m, ""), RV_MET);
	assert_int_equal(judge(13, NAN, 1, m, ""), RV_NOT_MET);
	assert_int_equal(judge(9, 9, 1, m, "other hardware"), RV_NOT_COMPARABLE);
	/* the row's own data comes before what was measured, or whether */
	assert_int_equal(judge(9, 9, 1, (rv_measured){NAN, NAN, NAN, "untrained", NULL}, "other"),
	                 RV_NOT_COMPARABLE);
	assert_int_equal(judge(9, 9, 1, (rv_measured){NAN, NAN, NAN, NULL, "budget"}, "other"),
	                 RV_NOT_COMPARABLE);
	assert_int_equal(judge(9, 9, 1, (rv_measured){NAN, NAN, NAN, "untrained", NULL}, ""), RV_NA);
	assert_int_equal(judge(9, 9, 1, (rv_measured){NAN, NAN, NAN, NULL, "budget"}, ""), RV_NOT_RUN);
	/* no interval decides nothing */
	assert_int_equal(judge(9, 9, 1, (rv_measured){10, NAN, NAN, NULL, NULL}, ""), RV_INCONCLUSIVE);
}

/* ---- rows of the whole table ---- */

static const rv_measured fast = {20, 19, 21, NULL, NULL}, slow = {10, 9, 11, NULL, NULL},
                         middle = {15, 14, 16, NULL, NULL}, skipped = {NAN, NAN, NAN, NULL, "budget"},
                         lacking = {NAN, NAN, NAN, "no such part", NULL};

/* Judges lo..hi, higher is better; *at is the decisive point. */
static rv_verdict judge_all(double lo, double hi, const rv_measured *m, int n, const char *why, int *at,
                            const char **said) {
	char reason[64];
	snprintf(reason, sizeof reason, "%s", why);
	rv_documented_row row = {.comparable_reason = reason, .lo = lo, .hi = hi};
	rv_verdict v = rv_judge_all(&row, 1, m, n, at, said);
	if (*said == reason)
		*said = why;
	return v;
}

static void whole_table(void **state) {
	(void)state;
	const char *said;
	int at;
	const rv_measured good[] = {fast, lacking, slow, middle},
	                  part[] = {fast, skipped, slow, lacking}, none[] = {lacking, lacking},
	                  unmeasured[] = {lacking, skipped};
	/* met when its worst point reaches the worse end */
	assert_int_equal(judge_all(8, 18, good, 4, "", &at, &said), RV_MET);
	assert_true(at == 2 && said == NULL);
	assert_int_equal(judge_all(10.5, 18, good, 4, "", &at, &said), RV_INCONCLUSIVE);
	assert_int_equal(at, 2);
	assert_int_equal(judge_all(12, 18, good, 4, "", &at, &said), RV_NOT_MET);
	assert_int_equal(at, 2);
	/* of several that fail, the worst */
	assert_int_equal(judge_all(18, 18, good, 4, "", &at, &said), RV_NOT_MET);
	assert_int_equal(at, 2);
	/* a point that was not measured might fail, but cannot undo a failure */
	assert_int_equal(judge_all(8, 18, part, 4, "", &at, &said), RV_NOT_RUN);
	assert_true(at == 1 && strcmp(said, "budget") == 0);
	assert_int_equal(judge_all(12, 18, part, 4, "", &at, &said), RV_NOT_MET);
	assert_int_equal(at, 2);
	assert_int_equal(judge_all(8, 18, none, 2, "", &at, &said), RV_NA);
	assert_string_equal(said, "no such part");
	assert_int_equal(judge_all(8, 18, unmeasured, 2, "", &at, &said), RV_NOT_RUN);
	assert_int_equal(judge_all(8, 18, good, 0, "", &at, &said), RV_NOT_RUN);
	assert_int_equal(at, -1);
	/* not comparable whatever was measured; beside it stands the worst point */
	assert_int_equal(judge_all(8, 18, part, 4, "other machine", &at, &said), RV_NOT_COMPARABLE);
	assert_true(at == 2 && strcmp(said, "other machine") == 0);
	assert_int_equal(judge_all(8, 18, good, 0, "other machine", &at, &said), RV_NOT_COMPARABLE);
}

/* Lower is better: the worst point is the one with the largest median. */
static void whole_table_lower(void **state) {
	(void)state;
	const rv_measured all[] = {slow, fast, middle};
	char empty[] = "";
	const rv_documented_row row = {.comparable_reason = empty, .lo = 2, .hi = 22};
	const char *said;
	int at;
	assert_int_equal(rv_judge_all(&row, 0, all, 3, &at, &said), RV_MET);
	assert_int_equal(at, 1);
	/* a judgement by the best point would not notice this */
	const rv_documented_row tight = {.comparable_reason = empty, .lo = 2, .hi = 12};
	assert_int_equal(rv_judge_all(&tight, 0, all, 1, &at, &said), RV_MET);
	assert_int_equal(rv_judge_all(&tight, 0, all, 3, &at, &said), RV_NOT_MET);
	assert_int_equal(at, 1);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(reads_rows),    cmocka_unit_test(refuses),
	        cmocka_unit_test(shipped_files), cmocka_unit_test(verdicts),
	        cmocka_unit_test(whole_table),   cmocka_unit_test(whole_table_lower),
	};
	return cmocka_run_group_tests(tests, make_path, remove_path);
}
