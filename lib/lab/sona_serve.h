/* The stream of T15 served by a SONA object on a simulated clock: each request is answered, rated by
 * its source, learnt from, and whatever loop is due runs. What was learnt is looked at on the way. */
#ifndef RV_LAB_SONA_SERVE_H
#define RV_LAB_SONA_SERVE_H

#include "lab/shift_fit.h"
#include "learn/sona.h"

/* Who rates an answer. X(id, name) */
#define RV_SONA_RATINGS(X)                                                                             \
	X(CORRECTION, "correction") /* exact match; after a wrong answer the right one is shown */     \
	X(TASK, "task")             /* exact match, no more: only what was right is learnt */          \
	X(FEEDBACK, "feedback")     /* the same from a caller who is wrong one time in ten */          \
	X(LIKELIHOOD, "likelihood") /* the model's own mean token probability */
typedef enum rv_sona_rating {
#define RV_SONA_RATING_ID(id, name) RV_SONA_RATED_##id,
	RV_SONA_RATINGS(RV_SONA_RATING_ID) RV_SONA_N_RATINGS
#undef RV_SONA_RATING_ID
} rv_sona_rating;

enum { RV_SONA_LOOKS = 4 }; /* at most: after each quarter of the stream */

typedef struct rv_sona_serving {
	rv_sona_options options; /* its clock is replaced */
	rv_sona_rating rating;
	int store;           /* 1: with a store in a folder of its own, which the deep loop needs */
	int64_t interval_ms; /* from one request to the next */
	int remember;        /* 1: the loops are told of the old documents (EWC++, replay) */
	int n_looks;         /* 1..RV_SONA_LOOKS, a divisor of it */
	uint64_t seed;       /* of the stream */
} rv_sona_serving;

typedef struct rv_sona_look {
	rv_shift_new held; /* all zero where nobody looked */
	rv_shift_old old;
} rv_sona_look;

typedef struct rv_sona_served {
	rv_sona_look looks[RV_SONA_LOOKS]; /* the last is the end */
	double right_pct;                  /* of the stream, as answered when it came */
	double instant_s;                  /* median of those learnt from; NaN: none */
	double pass_s[RV_SONA_LOOPS];      /* mean of a pass; NaN: none */
	rv_sona_stats stats;
	size_t state_bytes;
} rv_sona_served;

/* scorer: of the same model; its adapter is changed. */
rv_status rv_sona_serve(const rv_run_config *config, rv_model *model, const rv_shift_stream *stream,
                        rv_shift_scorer *scorer, const rv_shift_pack *old, const rv_sona_serving *how,
                        rv_sona_served *out);

#endif
