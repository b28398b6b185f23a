/* What the files of SONA share. Internal to lib/learn.
 *
 * Locks, in the order they are taken: `pass` (one pass of a loop at a time; state, counters of passes),
 * `drain` (what is written to the store, one batch after the other), `lock` (records, attachments,
 * rules, counters: held for copying), those of the parts (instant loop, ring, memory). */
#ifndef RV_LEARN_SONA_INTERNAL_H
#define RV_LEARN_SONA_INTERNAL_H

#include "learn/ewc.h"
#include "learn/fastgrnn.h"
#include "learn/replay.h"
#include "learn/sona.h"
#include "memory/bank.h"
#include "memory/edges.h"
#include "memory/policies.h"
#include "memory/sessions.h"
#include "memory/witness.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
	RV_SONA_HITS = 8,        /* patterns looked up for a request */
	RV_SONA_NEAR = 4,        /* edges to what a new pattern is like */
	RV_SONA_EXAMPLES = 1024, /* of the router, the last */
	RV_SONA_RATED = 512,     /* pairs (likelihood, quality), the last */
	RV_SONA_TEXT = 1 << 14,  /* bytes of a task or an answer that are kept */
	RV_SONA_FRESH = 1024,    /* new patterns that a pass looks at */
	RV_SONA_FEATURES =
	        RV_FASTGRNN_QUERY + RV_FASTGRNN_POLICY + 2 * RV_FASTGRNN_SLOTS /* of a trajectory */
};
_Static_assert(sizeof(rv_fastgrnn_input) == RV_SONA_FEATURES * sizeof(float),
               "a trajectory's routing features are the router's input");

/* A context that is hooked. */
typedef struct rv_sona_attachment {
	struct rv_sona_attachment *next;
	rv_context *ctx;
	rv_capture *capture;
	int32_t set;
	int follows;       /* the set follows what is learnt */
	rv_adapter *plain; /* what it holds while it does not follow; NULL: nothing */
	int64_t n_active;  /* requests under way */
	int64_t n_busy;    /* threads that read states of its capture */
} rv_sona_attachment;

typedef enum rv_record_state {
	RV_RECORD_ACTIVE,
	RV_RECORD_ENDING,
	RV_RECORD_ENDED, /* not rated yet */
	RV_RECORD_RATED, /* to be stored, or again */
	RV_RECORD_STORING,
	RV_RECORD_STORED
} rv_record_state;

/* A request from its beginning until it is no longer kept. */
typedef struct rv_sona_record {
	rv_record_state state;
	int is_stored; /* a row of the bank has its id */
	char id[RV_UUID_TEXT], session_id[RV_SESSION_MAX_ID + 1], user_id[RV_SESSION_MAX_ID + 1];
	rv_sona_attachment *attachment; /* NULL once ended and let go of */
	int32_t seq;
	char *task, *action; /* UTF-8 */
	char *correction;    /* NULL: none */
	int32_t *prompt;     /* until it ended */
	int64_t n_prompt;
	float embedding[RV_EMBEDDING_DIM];
	int has_embedding;
	char hits[RV_SONA_HITS][RV_UUID_TEXT];
	int n_hits;
	rv_fastgrnn_input features;
	rv_fastgrnn_decision routed; /* confidence 0: no router */
	rv_realtime_plan plan;
	rv_captured *captured; /* while its states are held */
	uint64_t number;       /* in the ring; 0: none */
	double quality, likelihood;
	rv_quality_source source;
	int model_index;
	int64_t begun_ms, begun_ns;
	float embed_ms, search_ms;
} rv_sona_record;

/* What the loops own; a generation on disk is this with BaseLoRA and MicroLoRA. Under `pass`. */
typedef struct rv_sona_state {
	rv_fastgrnn *router; /* NULL: none yet */
	int router_trained;
	rv_ewc *ewc;             /* NULL: none yet */
	int ewc_whole;           /* its tensors are the model's weights, not BaseLoRA's factors */
	int ewc_is_stale;        /* BaseLoRA's factors are others since */
	rv_replay *replay, *old; /* what was served; what was told to be remembered (NULL: nothing) */
	char *draft;      /* file of the distilled draft in the generation's folder; NULL: none */
	int draft_is_new; /* a better one stands in the next generation's folder */
	int64_t generation;
	int next_made; /* the next generation's folder is there, begun by a part of this pass */
	int64_t n_passes[RV_SONA_LOOPS], last_ms[RV_SONA_LOOPS];
	int64_t indexed;      /* key of the last pattern whose likes were looked for */
	int64_t tuned_ms;     /* its time: numbers are of this process */
	uint64_t tuned;       /* number in the ring of the last request that was trained on */
	uint64_t tried;       /* likewise, of the last that training looked at */
	double slope, offset; /* of the likelihood's calibration */
	double quality_sum;   /* at the last pass of the deep loop: of stats */
} rv_sona_state;

struct rv_sona {
	rv_sona_options o;
	rv_model *model;
	char *dir; /* NULL: no store */
	char model_sha256[65];

	rv_adapter_slot *slot;
	rv_instant *instant;
	rv_trajectory_ring *ring;
	rv_store *store;
	rv_bank *bank;
	rv_edges *edges;
	rv_witness *witness;
	rv_policies *policies;
	rv_sessions *sessions;

	pthread_mutex_t pass, drain, embed, lock;
	pthread_cond_t idle; /* with lock: an attachment is no longer busy */
	rv_rng rng;          /* of ids and seeds; lock */
	rv_realtime realtime;
	rv_sona_attachment *attachments;
	rv_sona_record **records; /* oldest first */
	int64_t n_records, cap_records;
	rv_fastgrnn_example *examples; /* [RV_SONA_EXAMPLES], the last */
	int64_t n_examples;            /* ever */
	float success[RV_FASTGRNN_SLOTS], latency_ms[RV_FASTGRNN_SLOTS]; /* moving means of slots */
	int64_t n_slot[RV_FASTGRNN_SLOTS];
	float rated[RV_SONA_RATED][2]; /* likelihood, quality */
	int64_t n_rated_pairs;         /* ever */
	rv_sona_stats stats;
	int64_t pass_requests[RV_SONA_LOOPS]; /* stats.n_ended at the last pass */

	rv_sona_state state;

	pthread_t thread;
	int running;
	atomic_int stop;
	pthread_mutex_t wake_lock;
	pthread_cond_t wake;
	int woken;
};

/* ---- sona.c ---- */
int64_t rv_sona_now(const rv_sona *s);
uint64_t rv_sona_seed(rv_sona *s); /* the next of its generator */
void rv_sona_wake(rv_sona *s);
/* A whole part of the house that failed without failing the request. */
void rv_sona_warn(const rv_sona *s, const char *what);

/* ---- sona_records.c: with `lock` held ---- */
rv_status rv_sona_record_add(rv_sona *s, rv_sona_record *r); /* takes it over */
rv_sona_record *rv_sona_record_find(rv_sona *s, const char *id);
void rv_sona_record_drop(rv_sona *s, rv_sona_record *r);
/* Lets go of the oldest that ended, beyond what the ring holds. */
void rv_sona_records_trim(rv_sona *s);
/* Takes the states of the oldest unrated request of an attachment away: NULL when none holds any. */
rv_captured *rv_sona_records_reclaim(rv_sona *s, const rv_sona_attachment *a);
void rv_sona_record_free(rv_sona_record *r); /* accepts NULL; no lock */
size_t rv_sona_records_bytes(const rv_sona *s);
/* Text as the stores want it: valid UTF-8, at most `max` bytes, not empty (`otherwise`). */
rv_status rv_sona_text(char **out, const char *text, size_t len, size_t max, const char *otherwise);

/* ---- sona_memory.c: the store's side ---- */
rv_status rv_sona_memory_open(rv_sona *s, const char *dir);
rv_status rv_sona_memory_close(rv_sona *s);
/* Vector, patterns near it, features for a request; what fails is logged and left out. */
void rv_sona_look_up(rv_sona *s, rv_sona_record *r, const rv_sona_request *request,
                     double *mean_quality);
/* Edges from the session, or the patterns, by how good the answer was; how many. */
int64_t rv_sona_reinforce(rv_sona *s, const rv_sona_record *r, const char *before, int is_good);
void rv_sona_bear_witness(rv_sona *s, const rv_sona_record *r, const rv_sona_outcome *outcome);
/* Stores what was rated since: trajectories and sessions. *n (may be NULL) trajectories. */
rv_status rv_sona_drain(rv_sona *s, int64_t *n);
/* Fills ring and examples from the last rows of the bank. */
rv_status rv_sona_recall(rv_sona *s);

/* ---- sona_likelihood.c ---- */
/* With `lock` held. */
double rv_sona_calibrated(const rv_sona *s, double likelihood);
void rv_sona_rated_pair(rv_sona *s, double likelihood, double quality);
void rv_sona_calibrate(rv_sona *s); /* fits slope and offset to the pairs */

/* ---- a pass ---- */
typedef struct rv_sona_pass {
	rv_sona *s;
	const rv_sona_trigger *trigger;
	int64_t now_ms, deadline_ns; /* 0: none */
	rv_sona_pass_report *report;
} rv_sona_pass;
/* 0: there is time; RV_SONA_STOPPED: told to stop; else over its time. */
enum { RV_SONA_OVER = 1, RV_SONA_STOPPED };
int rv_sona_pass_over(void *pass);
/* A line and an outcome; RV_OK. */
rv_status rv_sona_say(rv_sona_part_report *r, rv_sona_part_outcome outcome, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

typedef rv_status rv_sona_part_fn(rv_sona_pass *p, rv_sona_part_report *r);
extern rv_sona_part_fn *const rv_sona_background_parts[RV_BACKGROUND_PARTS];
/* Runs the deep parts (sona_deep.h) on the state. */
rv_status rv_sona_deep_pass(rv_sona_pass *p);

/* ---- sona_tune.c ---- */
rv_sona_part_fn rv_sona_part_ewc, rv_sona_part_tune;
/* ---- sona_router.c ---- */
rv_sona_part_fn rv_sona_part_router;
/* ---- sona_policies.c ---- */
rv_sona_part_fn rv_sona_part_policies;

#endif
