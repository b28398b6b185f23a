/* The last requests that were served, as tokens with their quality: what the background loop learns
 * from. The oldest give way to new ones. Bounded: all memory is allocated at creation.
 *
 * Thread-safe; a lock is held for the time of copying one entry, so that serving does not wait for a
 * reader that goes through all of them. */
#ifndef RV_LEARN_TRAJECTORY_RING_H
#define RV_LEARN_TRAJECTORY_RING_H

#include "base/status.h"
#include "base/uuid.h"
#include "learn/quality.h"

#include <stdint.h>

enum { RV_RING_MIN = 256, RV_RING_MAX = 4096 };

typedef struct rv_ring_options {
	int64_t capacity;       /* entries, RV_RING_MIN..RV_RING_MAX; default 1024 */
	int64_t max_tokens;     /* of prompt and answer together; default 512 */
	int64_t max_correction; /* tokens; default 128 */
} rv_ring_options;
rv_ring_options rv_ring_defaults(void);

/* One request. Tokens are borrowed (pushing) or point into the caller's buffer (reading). */
typedef struct rv_served {
	uint64_t number; /* from 1 on, in the order of pushing; 0 before */
	char request_id[RV_UUID_TEXT];
	char session_id[RV_UUID_TEXT]; /* "": none */
	int64_t time_ms;               /* UTC */
	double quality;                /* [0, 1]; NaN: not rated */
	rv_quality_source source;
	double likelihood;                           /* mean token probability; NaN: unknown */
	uint64_t version;                            /* of the adapters it was served with */
	const int32_t *prompt, *answer, *correction; /* correction: the right answer; NULL: none */
	int64_t n_prompt, n_answer, n_correction;
	int cut; /* 1: the beginning of the prompt was left out */
} rv_served;

typedef struct rv_trajectory_ring rv_trajectory_ring;

rv_status rv_trajectory_ring_create(rv_trajectory_ring **out, const rv_ring_options *options);
void rv_trajectory_ring_destroy(rv_trajectory_ring *r); /* accepts NULL */
const rv_ring_options *rv_trajectory_ring_options(const rv_trajectory_ring *r);
size_t rv_trajectory_ring_bytes(const rv_trajectory_ring *r);

/* Copied. A prompt too long loses its beginning; an answer longer than max_tokens its end.
 * RV_ERR_INVALID: a quality outside [0, 1] that is not NaN, a correction that is too long. *number (may
 * be NULL): its number. */
rv_status rv_trajectory_ring_push(rv_trajectory_ring *r, const rv_served *served, uint64_t *number);
/* Rates an entry, which may have a correction (NULL: none, what it has stays). RV_ERR_NOT_FOUND: no
 * request of that id, or not any more. */
rv_status rv_trajectory_ring_rate(rv_trajectory_ring *r, const char *request_id, double quality,
                                  rv_quality_source source, const int32_t *correction,
                                  int64_t n_correction);

/* Numbers of the entries that are there: [*oldest, *newest]; both 0 when empty. */
void rv_trajectory_ring_range(rv_trajectory_ring *r, uint64_t *oldest, uint64_t *newest);
/* Copies an entry, its tokens into `tokens` [max_tokens + max_correction]. RV_ERR_NOT_FOUND: not there
 * (any more). */
rv_status rv_trajectory_ring_read(rv_trajectory_ring *r, uint64_t number, rv_served *out,
                                  int32_t *tokens);

#endif
