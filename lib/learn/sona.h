/* SONA: learning while serving, in three loops around one model (SPEC 3).
 *
 * instant     per request, as it ends: its trajectory into a ring, MicroLoRA one step when the quality
 *             reaches the threshold, the edges to the patterns that helped +- 5 %, a witness entry
 * background  every T or after N requests: patterns into the bank's index, the router, the Fisher
 *             diagonal, MicroLoRA into BaseLoRA, policies
 * deep        weekly, or when enough quality was gathered: the pattern bank clustered, pruned and
 *             filtered, transfer across sessions, fine-tuning with EWC++, the draft distilled again,
 *             old witness entries archived
 *
 * The loops run on a thread of their own (rv_sona_start), or step by step on whatever clock the options
 * name: both are the same code. What decodes follows a slot (model/adapter_slot.h): base + MicroLoRA,
 * taken over at the next token.
 *
 * With a store, what was learnt is kept in its folder, DIR/sona: one generation after the other, each
 * written whole before a file names it, so that a kill at any moment leaves the last one
 * (learn/sona_state.h). Trajectories, edges, policies and witness entries are rows of the store.
 * Without one all is in memory and gone at close.
 *
 * Threads: begin, end and teach belong to the caller of the context they name; feedback, steps and all
 * else may come from any thread. Nothing that serves waits for a loop: the longest either holds a lock
 * that the other takes is the copying of an entry, or one instant update.
 */
#ifndef RV_LEARN_SONA_H
#define RV_LEARN_SONA_H

#include "engine/context.h"
#include "engine/embed.h"
#include "engine/generate.h"
#include "learn/capture.h"
#include "learn/consolidate.h"
#include "learn/instant.h"
#include "learn/realtime.h"
#include "learn/trajectory_ring.h"
#include "memory/bank.h"
#include "model/model.h"

#include <stdint.h>

typedef struct rv_sona rv_sona;

/* ---- what is on ---- */

typedef enum rv_sona_loop { RV_SONA_BACKGROUND, RV_SONA_DEEP, RV_SONA_LOOPS } rv_sona_loop;
extern const char *const rv_sona_loop_names[RV_SONA_LOOPS + 1]; /* ends with NULL */

/* The parts of the loops, in the order they run; each can be left out. X(enumerator, name) */
#define RV_SONA_BACKGROUND_TABLE(X)                                                                    \
	X(INDEX, "index")             /* edges from new patterns to what is like them */               \
	X(ROUTER, "router")           /* the FastGRNN on recent trajectories */                        \
	X(POLICIES, "policies")       /* what was found, for the next process */                       \
	X(CONSOLIDATE, "consolidate") /* MicroLoRA into BaseLoRA: svd or ema */                        \
	X(EWC, "ewc")                 /* the Fisher diagonal of what came before, online */            \
	X(TUNE, "tune")               /* back-propagation on recent trajectories, with EWC++ */
#define RV_SONA_DEEP_TABLE(X)                                                                          \
	X(FILTER, "filter")     /* patterns below the quality threshold go */                          \
	X(PRUNE, "prune")       /* so do old ones whose quality has decayed, and weak edges */         \
	X(CLUSTER, "cluster")   /* K-means++ over the pattern bank */                                  \
	X(TRANSFER, "transfer") /* what helped one session is offered to those like it */              \
	X(TUNE, "tune")         /* fine-tuning with EWC++ and replay */                                \
	X(DISTILL, "distill")   /* the draft model learns from the target again */                     \
	X(ARCHIVE, "archive")   /* old witness entries into files */

enum {
#define RV_NAME(name, text) RV_BACKGROUND_##name,
	RV_SONA_BACKGROUND_TABLE(RV_NAME) RV_BACKGROUND_PARTS
#undef RV_NAME
};
enum {
#define RV_NAME(name, text) RV_DEEP_##name,
	RV_SONA_DEEP_TABLE(RV_NAME) RV_DEEP_PARTS
#undef RV_NAME
};
enum { RV_SONA_MAX_PARTS = 8 };
#define RV_SONA_PART(part) (1u << (part))
#define RV_SONA_ALL_PARTS 0xffu
/* NULL beyond the loop's last. */
const char *rv_sona_part_name(rv_sona_loop loop, int part);

/* When a loop runs, and what one pass may cost. */
typedef struct rv_sona_trigger {
	int on;
	int64_t every_ms; /* since its last pass; 0: not by time */
	int64_t every_n;  /* requests that ended since; 0: not by number */
	double every_sum; /* quality gathered since (sum over rated requests); 0: not by quality */
	int64_t max_ms;   /* of CPU work of a pass: parts that begin later are put off; training stops
	                   * between steps. 0: no limit */
	unsigned parts;   /* RV_SONA_PART bits that are on */
} rv_sona_trigger;

/* Back-propagation in either loop: LoRA of the base's rank at the hooked layers, with EWC++ and replay.
 */
typedef struct rv_sona_tuning {
	int64_t steps;      /* of a pass at most; background 4, deep 32 */
	int64_t batch;      /* sequences of a step: 4 */
	int64_t n_ctx;      /* tokens a sequence: 128 */
	double rate;        /* constant; 1e-3 */
	double lambda;      /* of EWC++; 0: none. 100 */
	double replay;      /* share of a batch's sequences from the replay reservoir: 0.25 */
	int64_t max_params; /* larger models are not back-propagated through here (n/a): 100e6 */
} rv_sona_tuning;

typedef struct rv_sona_deep_options {
	int64_t max_patterns;         /* clusters that are left; 0: the bank's capacity */
	float merge_similarity;       /* 0.95 */
	float min_quality;            /* of patterns kept; negative: the bank's threshold */
	int64_t max_age_ms;           /* pruned beyond that and below min_quality: 30 days */
	float min_edge;               /* weaker edges go: 0.05 */
	int transfer_hops;            /* 2 */
	int64_t transfer_per_session; /* new edges of a session at most: 4 */
	rv_sona_tuning tuning;
	rv_model *draft;          /* retained; NULL: nothing is distilled (n/a) */
	int64_t distill_steps;    /* 32 */
	double distill_rate;      /* 1e-4 */
	int64_t archive_after_ms; /* witness entries older than that: 7 days */
} rv_sona_deep_options;

typedef struct rv_sona_options {
	rv_bank_variant variant;     /* hook layers, threshold, bank, rank and rate by SPEC 1 */
	int instant;                 /* 0: requests are recorded, MicroLoRA does not learn. Default 1 */
	rv_micro_lora_options micro; /* n_layers 0: the variant's hooks, placed on the model's depth */
	rv_instant_options instant_how;
	rv_ring_options ring;
	int64_t capture_tokens, capture_top; /* 32, 64 */
	int capture_gradients; /* learn/capture.h: with the tokens, later, or RV_CAPTURE_AUTO (default)
	                        */
	int64_t n_places;      /* requests whose captured states are held at once; 0: by the context */
	int use_likelihood;    /* 1: what ends unrated is rated by the calibrated mean token
	                        * probability. 0 (default): it waits for feedback */
	rv_realtime_options rules;

	rv_sona_trigger loops[RV_SONA_LOOPS];
	rv_consolidation consolidation;
	double ema_keep;         /* of `ema`: 0.99 */
	int64_t base_rank;       /* 8 */
	double fisher_decay;     /* of online EWC++: 0.9 */
	int64_t replay_capacity; /* sequences: 256 */
	size_t ewc_bytes;        /* 64 MiB: rv_sona_remember */
	rv_sona_tuning tuning;   /* of the background loop */
	rv_sona_deep_options deep;

	rv_embedder *embedder; /* of queries that come without a vector; outlives this; NULL: none */
	const char *router;    /* a FastGRNN file to begin with; NULL: random weights */
	const char *key_file;  /* of the store (memory/store.h) */
	int plaintext;
	int read_only;  /* of the store: nothing learnt is kept */
	int n_threads;  /* of training; 1 */
	rv_clock clock; /* zeroed: the system's */
	int seeded;     /* ids and times of day aside, the same again */
	uint64_t seed;
	rv_log log;
} rv_sona_options;

/* By variant: SPEC 1's table. */
rv_sona_options rv_sona_defaults(rv_bank_variant variant);

/* `dir`: folder of the store, made when missing; NULL: none. Takes up the last generation of state
 * there. RV_ERR_MISMATCH: it was learnt on another model (its shape or its file's sum), or with other
 * layers, site or rank; RV_ERR_FORMAT: a file of it is damaged, by name. Retains the model. */
rv_status rv_sona_open(rv_sona **out, rv_model *model, const char *dir, const rv_sona_options *options);
/* Stops the thread, keeps what was learnt (a last generation), closes the store. The first failure of
 * that; the object is gone either way. Contexts are detached before. Accepts NULL. */
rv_status rv_sona_close(rv_sona *s);
const rv_sona_options *rv_sona_get_options(const rv_sona *s); /* with defaults resolved */

/* ---- serving ---- */

/* Hooks the context, of the same model, and lets its adapter set follow what is learnt. */
rv_status rv_sona_attach(rv_sona *s, rv_context *ctx, int32_t set);
rv_status rv_sona_detach(rv_sona *s, rv_context *ctx); /* RV_ERR_NOT_FOUND */

typedef struct rv_sona_request {
	const char *text; /* what is asked; the trajectory's task. NULL: its tokens stand for it */
	size_t len;
	const char *session_id, *user_id; /* NULL: none */
	const float *query_embedding; /* [RV_EMBEDDING_DIM]; NULL: by the embedder, if there is one */
	const int32_t *prompt;        /* copied; positions before `first` */
	int64_t n_prompt;
	int32_t seq;            /* of the context */
	int64_t first;          /* position of the last prompt token: it yields the first token */
	double memory_pressure; /* for the rules; NaN: not known */
	rv_realtime_plan plan;  /* as configured: what the rules begin with */
} rv_sona_request;
/* No session, plan of the context's options. */
rv_sona_request rv_sona_request_defaults(const rv_context *ctx);

/* A request begins: `id` is what feedback names it by. *plan (may be NULL): what the realtime rules
 * make of it; whether the set follows what is learnt is set here. A store or embedder that fails is
 * logged, and the request goes on without. */
rv_status rv_sona_begin(rv_sona *s, rv_context *ctx, const rv_sona_request *request,
                        char id[RV_UUID_TEXT], rv_realtime_plan *plan);

typedef struct rv_sona_outcome {
	const int32_t *answer; /* the tokens produced, the last may be unevaluated */
	int64_t n_answer;
	const char *text; /* of the answer; NULL: none. The trajectory's action */
	size_t len;
	double quality; /* [0, 1]; NaN: not rated yet */
	rv_quality_source source;
	double tok_s; /* of decoding; 0: not known */
	double total_ms, first_ms;
	int64_t n_drafted, n_accepted;
	int model_index;   /* slot of the router's model; -1: none */
	const char *error; /* NULL: none */
} rv_sona_outcome;
rv_sona_outcome rv_sona_outcome_defaults(void);

typedef struct rv_sona_report {
	double quality; /* NaN: waits for feedback */
	rv_quality_source source;
	rv_instant_report instant;
	int64_t n_edges; /* reinforced */
	unsigned rules;  /* that fired after it */
	int64_t total_ns;
	int due; /* bits 1 << loop: passes that are due now */
} rv_sona_report;

/* The request ends. Rated (or use_likelihood): it is learnt from at once. report may be NULL.
 * RV_ERR_NOT_FOUND: no such request is under way. */
rv_status rv_sona_end(rv_sona *s, const char *id, const rv_sona_outcome *outcome,
                      rv_sona_report *report);
/* The same of a request that failed or was cancelled: nothing is learnt, it cannot be rated. */
void rv_sona_cancel(rv_sona *s, const char *id);

/* Says how good the answer of a request was that ended. Its states may still be held: then it is learnt
 * from at once, otherwise it is the background loop's alone (report->instant.outcome NOTHING). A
 * correction, the right answer's tokens, is what the background loop learns instead of the answer.
 * RV_ERR_NOT_FOUND: unknown, still under way, or no longer kept; RV_ERR_INVALID: a quality outside [0,
 * 1] or a token outside the vocabulary. Nothing changed then. */
rv_status rv_sona_feedback(rv_sona *s, const char *id, double quality, rv_quality_source source,
                           const int32_t *correction, int64_t n_correction, rv_sona_report *report);

/* A right answer is shown: prompt and answer are evaluated in the empty sequence `seq` (emptied again
 * afterwards), its states captured, and learnt from with the given quality as a request is. */
rv_status rv_sona_teach(rv_sona *s, rv_context *ctx, const rv_sona_request *request,
                        const int32_t *answer, int64_t n_answer, double quality,
                        rv_quality_source source, char id[RV_UUID_TEXT], rv_sona_report *report);

/* rv_sona_begin, rv_generate and rv_sona_end in one; outcome: its rating alone is read, tokens, times
 * and text are filled in. how->on_token is called as ever. out may be NULL (then at most ring tokens
 * are remembered). */
rv_status rv_sona_generate(rv_sona *s, rv_context *ctx, const rv_sona_request *request,
                           rv_sampler *sampler, const rv_generate_options *how,
                           const rv_sona_outcome *rating, int32_t *out, rv_generate_result *result,
                           char id[RV_UUID_TEXT], rv_sona_report *report);

/* ---- loops ---- */

typedef enum rv_sona_part_outcome {
	RV_PART_OFF, /* left out */
	RV_PART_DONE,
	RV_PART_NOTHING, /* there was nothing to do */
	RV_PART_NA,      /* cannot be done here: text says why */
	RV_PART_PUT_OFF, /* the pass was over its time, or stopped */
	RV_PART_UNDONE,  /* not finite, exploding or worse than before: rolled back */
	RV_PART_FAILED,  /* an error: text; what it would have changed is as before */
	RV_PART_OUTCOMES
} rv_sona_part_outcome;
const char *rv_sona_part_outcome_name(rv_sona_part_outcome outcome);

typedef struct rv_sona_part_report {
	rv_sona_part_outcome outcome;
	int64_t ns;
	int64_t n;            /* what it worked on: trajectories, patterns, steps */
	double before, after; /* of its measure (a loss, a number of patterns); NaN: none */
	char text[200];       /* one line for people */
} rv_sona_part_report;

typedef struct rv_sona_pass_report {
	rv_sona_loop loop;
	int64_t number; /* of the pass, from 1 */
	int64_t now_ms;
	int64_t n_requests; /* since the last pass */
	rv_sona_part_report parts[RV_SONA_MAX_PARTS];
	int n_parts;
	int64_t generation; /* of state written; 0: none (no store, or nothing changed) */
	int64_t total_ns;
} rv_sona_pass_report;

/* One pass, whether it is due or not, at time `now_ms` (UTC ms; -1: the clock's). Waits for a pass
 * under way. A part that fails says so in the report and the others go on; the state that was learnt so
 * far is kept. RV_ERR_*: the new generation could not be written; the last is whole and in force. */
rv_status rv_sona_background_step(rv_sona *s, int64_t now_ms, rv_sona_pass_report *report);
rv_status rv_sona_deep_step(rv_sona *s, int64_t now_ms, rv_sona_pass_report *report);
/* Bits 1 << loop of the passes that are due at that time by their triggers. */
int rv_sona_due(rv_sona *s, int64_t now_ms);
/* Runs those that are due, background first; reports (may be NULL): [RV_SONA_LOOPS], number 0 where
 * none ran. What the thread does, on a simulated clock. */
rv_status rv_sona_run_due(rv_sona *s, int64_t now_ms, rv_sona_pass_report *reports);

/* A thread that runs what is due, at lowered priority. RV_ERR_INVALID: it runs. Failures of passes are
 * logged and counted (rv_sona_stats). */
rv_status rv_sona_start(rv_sona *s);
/* Stops it: a pass under way ends between two steps of training, within about the time of one. */
void rv_sona_stop(rv_sona *s);
/* Waits until all trajectories, edges and witness entries so far are committed. */
rv_status rv_sona_flush(rv_sona *s);
/* Writes a generation of state now. RV_ERR_INVALID: no store. */
rv_status rv_sona_save(rv_sona *s);

/* What must not be forgotten: text of before, as sequences of tuning.n_ctx tokens (learn/trainer.h:
 * tokens [n_seqs, n_ctx + 1], weights [n_seqs, n_ctx] or NULL). They join a replay reservoir of their
 * own, which training draws from, and are observed into a Fisher diagonal of the model's own weights,
 * if two numbers a weight fit into ewc_bytes; else (and without old text) the diagonal is that of
 * BaseLoRA's factors, observed on what was served. RV_ERR_UNSUPPORTED: a model too large to be
 * back-propagated through; what came before is as it was. */
rv_status rv_sona_remember(rv_sona *s, const int32_t *tokens, const float *weights, int64_t n_seqs);

/* ---- looking in ---- */

rv_adapter_slot *rv_sona_slot(rv_sona *s);
rv_instant *rv_sona_instant(rv_sona *s);
rv_trajectory_ring *rv_sona_ring(rv_sona *s);
rv_bank *rv_sona_bank(rv_sona *s);   /* NULL without a store */
rv_store *rv_sona_store(rv_sona *s); /* NULL without */

/* The learning state in memory, part by part. X(enumerator, name) */
#define RV_SONA_BYTES_TABLE(X)                                                                         \
	X(MICRO, "MicroLoRA")                                                                          \
	X(BASE, "BaseLoRA")                                                                            \
	X(CAPTURE, "captured states")                                                                  \
	X(RING, "trajectory ring")                                                                     \
	X(PATTERNS, "patterns")                                                                        \
	X(EWC, "Fisher diagonal")                                                                      \
	X(REPLAY, "replay")                                                                            \
	X(ROUTER, "router")                                                                            \
	X(REQUESTS, "requests")
typedef enum rv_sona_bytes_part {
#define RV_NAME(name, text) RV_SONA_BYTES_##name,
	RV_SONA_BYTES_TABLE(RV_NAME) RV_SONA_BYTES_PARTS
#undef RV_NAME
} rv_sona_bytes_part;
extern const char *const rv_sona_bytes_names[RV_SONA_BYTES_PARTS + 1]; /* ends with NULL */
typedef struct rv_sona_bytes {
	size_t part[RV_SONA_BYTES_PARTS], total;
} rv_sona_bytes;
/* Allocated now; what a pass of a loop takes while it runs is not state. */
void rv_sona_count_bytes(rv_sona *s, rv_sona_bytes *out);

typedef struct rv_sona_stats {
	int64_t n_begun, n_ended, n_cancelled, n_rated, n_feedback,
	        n_unknown; /* unknown: feedback for */
	int64_t n_passes[RV_SONA_LOOPS], n_failed_passes;
	int64_t pass_ns[RV_SONA_LOOPS];
	int64_t n_undone; /* parts that were rolled back */
	int64_t generation;
	int64_t n_fired[RV_RULE_COUNT]; /* realtime rules */
	double quality_sum;             /* of rated requests */
	double likelihood_slope,
	        likelihood_offset; /* its calibration: logit q = slope logit p + offset */
	rv_instant_stats instant;
} rv_sona_stats;
void rv_sona_get_stats(rv_sona *s, rv_sona_stats *out);

#endif
