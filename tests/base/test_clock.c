/* Times of day as text, clocks that stand still, UUIDs. */
#include "base_test.h"

#include "base/clock.h"
#include "base/uuid.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Every form agrees with the C library's, in both directions. */
static void times_as_text(void **state) {
	(void)state;
	rv_rng rng;
	rv_rng_seed(&rng, 1);
	for (int i = 0; i < 20000; i++) {
		int64_t ms = i < 1000 ? (int64_t)i * 86400000 * 40 + i
		                      : (int64_t)rv_rng_below(&rng, (uint64_t)RV_TIME_MAX_MS + 1);
		if (ms > RV_TIME_MAX_MS)
			continue;
		char text[RV_TIME_TEXT], want[80], date[40];
		int64_t back = -1;
		struct tm tm;
		time_t seconds = (time_t)(ms / 1000);
		assert_non_null(gmtime_r(&seconds, &tm));
		strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
		snprintf(want, sizeof want, "%s.%03dZ", date, (int)(ms % 1000));
		rv_time_format(ms, text);
		assert_string_equal(text, want);
		assert_ok(rv_time_parse(text, &back));
		assert_int_equal(back, ms);
	}
	char text[RV_TIME_TEXT];
	rv_time_format(-5, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000Z");
	rv_time_format(INT64_MAX, text);
	assert_string_equal(text, "9999-12-31T23:59:59.999Z");
}

static void malformed_times(void **state) {
	(void)state;
	static const char *const bad[] = {
	        "",
	        "2026",
	        "2026-11-21",
	        "2026-11-21T21:19:37",
	        "2026-11-21 21:19:37Z",
	        "2026-11-21T21:19:37.1Z",
	        "2026-11-21T21:19:37.1234Z",
	        "2026-11-21T21:19:37.123ZZ",
	        "2026-11-21T24:00:00Z",
	        "2026-11-21T23:60:00Z",
	        "2026-11-21T23:00:60Z",
	        "2026-02-29T00:00:00Z",
	        "2026-04-31T00:00:00Z",
	        "2026-13-01T00:00:00Z",
	        "2026-00-01T00:00:00Z",
	        "1969-12-31T23:59:59Z",
	        "+026-01-01T00:00:00Z",
	        " 2026-01-01T00:00:00Z",
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		int64_t ms = 77;
		if (rv_time_parse(bad[i], &ms) != RV_ERR_FORMAT || ms != 77)
			fail_msg("'%s' was taken", bad[i]);
	}
	int64_t ms;
	assert_ok(rv_time_parse("2024-02-29T00:00:01Z", &ms));
	assert_int_equal(ms, INT64_C(1709164801000));
}

static void clocks(void **state) {
	(void)state;
	rv_sim_clock sim;
	rv_sim_clock_init(&sim, 500);
	rv_clock clock = rv_sim_clock_source(&sim), none = {0};
	assert_int_equal(rv_clock_now_ms(&clock), 500);
	rv_sim_clock_advance(&sim, 250);
	assert_int_equal(rv_clock_now_ms(&clock), 750);
	int64_t before = (int64_t)time(NULL) * 1000;
	assert_true(rv_clock_now_ms(NULL) >= before && rv_clock_now_ms(&none) >= before);
	assert_true(rv_clock_now_ms(NULL) < before + 60000);
}

static void uuids(void **state) {
	(void)state;
	enum { N = 1000 };
	static char ids[N][RV_UUID_TEXT];
	rv_rng rng, same;
	rv_rng_seed(&rng, 9);
	rv_rng_seed(&same, 9);
	unsigned variants = 0;
	for (int i = 0; i < N; i++) {
		char again[RV_UUID_TEXT];
		rv_uuid_v4(&rng, ids[i]);
		rv_uuid_v4(&same, again);
		assert_string_equal(ids[i], again);
		assert_true(rv_uuid_valid(ids[i]) && ids[i][14] == '4' &&
		            strchr("89ab", ids[i][19]) != NULL);
		variants |= 1u << strcspn("89ab", (char[]){ids[i][19], 0});
		for (int j = 0; j < i; j++)
			assert_string_not_equal(ids[i], ids[j]);
	}
	assert_int_equal(variants, 15); /* the free bits are free */
	rv_rng a, b;
	assert_ok(rv_uuid_entropy(&a));
	assert_ok(rv_uuid_entropy(&b));
	assert_memory_not_equal(&a, &b, sizeof a);
	char id[RV_UUID_TEXT + 1];
	memcpy(id, ids[0], RV_UUID_TEXT);
	for (int i = 0; i < RV_UUID_TEXT - 1; i++) { /* any character spoilt, any cut */
		char kept = id[i];
		id[i] = 'g';
		assert_false(rv_uuid_valid(id));
		id[i] = 0;
		assert_false(rv_uuid_valid(id));
		id[i] = kept;
	}
	strcat(id, "0");
	assert_false(rv_uuid_valid(id));
	assert_true(rv_uuid_valid("ABCDEF00-0000-1000-8000-0123456789AB"));
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(times_as_text),
	        cmocka_unit_test(malformed_times),
	        cmocka_unit_test(clocks),
	        cmocka_unit_test(uuids),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
