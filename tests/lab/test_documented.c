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
	assert_int_equal(read_text(HEADER "T9,a=b,speed,1.5,2,x,claimed,M3,S0,\r\n"
	                                  "T9,\"a=\"\"c\"\", d\",speed,,3,x,target,,S1,\"two\nlines\"",
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
	        {HEADER "a,b,c,one,1,u,k,h,s,\n", ":2: 'one'"},
	        {HEADER "a,b,c,,,u,k,h,s,\n", ":2: value range"},
	        {HEADER "a,b,c,2,1,u,k,h,s,\n", ":2: value range"},
	        {HEADER "a,b,c,nan,1,u,k,h,s,\n", ":2: 'nan'"},
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
	assert_int_equal(judge(9, 9, 1, (rv_measured){NAN, NAN, NAN, "untrained", NULL}, "other"),
	                 RV_NA);
	assert_int_equal(judge(9, 9, 1, (rv_measured){NAN, NAN, NAN, NULL, "budget"}, ""), RV_NOT_RUN);
	/* no interval decides nothing */
	assert_int_equal(judge(9, 9, 1, (rv_measured){10, NAN, NAN, NULL, NULL}, ""), RV_INCONCLUSIVE);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(reads_rows),
	        cmocka_unit_test(refuses),
	        cmocka_unit_test(shipped_files),
	        cmocka_unit_test(verdicts),
	};
	return cmocka_run_group_tests(tests, make_path, remove_path);
}
