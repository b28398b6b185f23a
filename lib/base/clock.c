#include "base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MS_PER_DAY INT64_C(86400000)

int64_t rv_clock_now_ms(const rv_clock *clock) {
	if (clock != NULL && clock->now_ms != NULL)
		return clock->now_ms(clock->user);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void rv_sim_clock_init(rv_sim_clock *sim, int64_t now_ms) {
	atomic_init(&sim->now_ms, now_ms);
}

void rv_sim_clock_advance(rv_sim_clock *sim, int64_t ms) {
	atomic_fetch_add(&sim->now_ms, ms);
}

static int64_t sim_now(void *user) {
	return atomic_load(&((rv_sim_clock *)user)->now_ms);
}

rv_clock rv_sim_clock_source(rv_sim_clock *sim) {
	return (rv_clock){sim_now, sim};
}

/* Civil dates by the proleptic Gregorian calendar, in eras of 400 years that begin on 1 March, so that
 * the leap day ends a year. */
static void civil_from_days(int64_t days, int *year, int *month, int *day) {
	days += 719468;
	int64_t era = days / 146097, of_era = days % 146097;
	int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t m = (5 * day_of_year + 2) / 153;
	*day = (int)(day_of_year - (153 * m + 2) / 5 + 1);
	*month = (int)(m < 10 ? m + 3 : m - 9);
	*year = (int)(year_of_era + era * 400 + (*month <= 2));
}

static int64_t days_from_civil(int year, int month, int day) {
	int64_t y = year - (month <= 2), era = y / 400, year_of_era = y % 400;
	int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
	       719468;
}

void rv_time_format(int64_t ms, char out[RV_TIME_TEXT]) {
	ms = ms < 0 ? 0 : ms > RV_TIME_MAX_MS ? RV_TIME_MAX_MS : ms;
	int year, month, day, rest = (int)(ms % MS_PER_DAY);
	civil_from_days(ms / MS_PER_DAY, &year, &month, &day);
	char text[80];
	snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year, month, day,
	         rest / 3600000, rest / 60000 % 60, rest / 1000 % 60, rest % 1000);
	memcpy(out, text, RV_TIME_TEXT - 1);
	out[RV_TIME_TEXT - 1] = 0;
}

/* Exactly `n` digits at *s, which moves on; -1 when there are fewer. */
static int digits(const char **s, int n) {
	int value = 0;
	for (int i = 0; i < n; i++, (*s)++) {
		if (**s < '0' || **s > '9')
			return -1;
		value = value * 10 + (**s - '0');
	}
	return value;
}

rv_status rv_time_parse(const char *text, int64_t *ms) {
	static const struct {
		int n_digits, min, max;
		char after;
	} part[] = {{4, 1970, 9999, '-'}, {2, 1, 12, '-'}, {2, 1, 31, 'T'},
	            {2, 0, 23, ':'},      {2, 0, 59, ':'}, {2, 0, 59, 0}};
	int value[6], milli = 0;
	const char *s = text;
	for (int i = 0; i < 6; i++) {
		value[i] = digits(&s, part[i].n_digits);
		if (value[i] < part[i].min || value[i] > part[i].max ||
		    (part[i].after != 0 && *s++ != part[i].after))
			goto malformed;
	}
	if (*s == '.' && (s++, milli = digits(&s, 3)) < 0)
		goto malformed;
	if (s[0] != 'Z' || s[1] != 0)
		goto malformed;
	int64_t days = days_from_civil(value[0], value[1], value[2]);
	int year, month, day;
	civil_from_days(days, &year, &month, &day);
	if (month != value[1] || day != value[2]) /* 30 February */
		goto malformed;
	*ms = days * MS_PER_DAY + ((value[3] * 60 + value[4]) * 60 + value[5]) * INT64_C(1000) + milli;
	return RV_OK;
malformed:
	return rv_fail(RV_ERR_FORMAT, "'%.40s': no time of the form 2026-11-21T21:19:37.123Z", text);
}
