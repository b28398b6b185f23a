/* Time of day as UTC milliseconds since 1970, from the system or from a simulation. Durations are
 * measured with CLOCK_MONOTONIC elsewhere: this clock may step. */
#ifndef RV_BASE_CLOCK_H
#define RV_BASE_CLOCK_H

#include "base/status.h"

#include <stdint.h>

/* A source of time; zeroed: the system's clock. `now_ms` may be called from any thread. */
typedef struct rv_clock {
	int64_t (*now_ms)(void *user);
	void *user;
} rv_clock;

int64_t rv_clock_now_ms(const rv_clock *clock); /* NULL: the system's clock */

/* A clock that stands still until it is moved. Thread-safe; outlives the rv_clock made of it. */
typedef struct rv_sim_clock {
	_Atomic int64_t now_ms;
} rv_sim_clock;

void rv_sim_clock_init(rv_sim_clock *sim, int64_t now_ms);
void rv_sim_clock_advance(rv_sim_clock *sim, int64_t ms);
rv_clock rv_sim_clock_source(rv_sim_clock *sim);

#define RV_TIME_TEXT 25                         /* "2026-11-21T21:19:37.123Z" and NUL */
#define RV_TIME_MAX_MS INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

/* ISO 8601 text of a time in [0, RV_TIME_MAX_MS]; what lies outside is clamped. */
void rv_time_format(int64_t ms, char out[RV_TIME_TEXT]);
/* The same form back, milliseconds optional. RV_ERR_FORMAT names the text. */
rv_status rv_time_parse(const char *text, int64_t *ms);

#endif
