/* Trajectories: what was asked, what was done step by step, how good it was. The reasoning bank's unit.
 *
 * JSON form, one object (field names are those of the stored tables; * marks what must be there):
 *   trajectory_id (UUID), task*, states [{layer*, embedding* [768], timestamp*}], actions*
 *   [{action*, quality*}] (at least one), final_quality*, metadata {}, verdict (success, failure,
 *   partial, unknown), request_id, session_id, query_embedding [768], response_embedding [768],
 *   routing_features [1..1024], model_index 0..3, embedding [768], variant (base, coder, agent),
 * source, created_at (UTC ms), quality, weight, embedder (whose
 *   vectors these are). Qualities lie in [0, 1]; every number is finite. The
 * embedding a trajectory is found by is `embedding`, else the query's, else the mean of its states'.
 * Anything else in the object, another width, NaN, no action: RV_ERR_FORMAT naming the place and the
 * key. */
#ifndef RV_MEMORY_TRAJECTORY_H
#define RV_MEMORY_TRAJECTORY_H

#include "base/arena.h"
#include "base/json.h"
#include "base/uuid.h"
#include "memory/store.h"

#define RV_TRAJECTORY_MAX_STEPS 4096     /* states, actions */
#define RV_TRAJECTORY_MAX_TEXT (1 << 20) /* bytes of a task, an action, metadata */
#define RV_TRAJECTORY_MAX_FEATURES 1024
#define RV_EMBEDDER_TEXT 65 /* an embedder's id, with the NUL */

/* X(enumerator, name) */
#define RV_VERDICT_TABLE(X)                                                                            \
	X(UNKNOWN, "unknown")                                                                          \
	X(SUCCESS, "success")                                                                          \
	X(FAILURE, "failure")                                                                          \
	X(PARTIAL, "partial")
#define RV_SOURCE_TABLE(X)                                                                             \
	X(INSTANT, "instant_loop")                                                                     \
	X(BACKGROUND, "background_loop")                                                               \
	X(DEEP, "deep_loop")                                                                           \
	X(FEDERATED, "federated")
#define RV_BANK_VARIANT_TABLE(X)                                                                       \
	X(BASE, "base")                                                                                \
	X(CODER, "coder")                                                                              \
	X(AGENT, "agent")

typedef enum rv_trajectory_verdict {
#define RV_NAME(name, text) RV_VERDICT_##name,
	RV_VERDICT_TABLE(RV_NAME) RV_VERDICT_COUNT
#undef RV_NAME
} rv_trajectory_verdict;
typedef enum rv_source {
#define RV_NAME(name, text) RV_SOURCE_##name,
	RV_SOURCE_TABLE(RV_NAME) RV_SOURCE_COUNT
#undef RV_NAME
} rv_source;
typedef enum rv_bank_variant {
#define RV_NAME(name, text) RV_BANK_VARIANT_##name,
	RV_BANK_VARIANT_TABLE(RV_NAME) RV_BANK_VARIANT_COUNT
#undef RV_NAME
} rv_bank_variant;

const char *rv_trajectory_verdict_name(rv_trajectory_verdict verdict);
const char *rv_source_name(rv_source source);
const char *rv_bank_variant_name(rv_bank_variant variant);
/* ..._COUNT when unknown (or NULL). */
rv_trajectory_verdict rv_trajectory_verdict_by_name(const char *name);
rv_source rv_source_by_name(const char *name);
rv_bank_variant rv_bank_variant_by_name(const char *name);

typedef struct rv_state {
	int64_t layer;
	int64_t timestamp;      /* UTC ms */
	const float *embedding; /* [RV_EMBEDDING_DIM] */
} rv_state;

typedef struct rv_action {
	const char *action;
	float quality;
} rv_action;

/* Pointers are borrowed, or owned by `memory`. */
typedef struct rv_trajectory {
	char trajectory_id[RV_UUID_TEXT]; /* "": made when it is added */
	rv_bank_variant variant;
	const char *task;
	const float *embedding; /* NULL: query_embedding, else the states' mean */
	const rv_state *states;
	size_t n_states;
	const rv_action *actions;
	size_t n_actions;
	float final_quality;
	const char *metadata; /* a JSON object; NULL: {} */
	rv_trajectory_verdict verdict;
	const char *request_id, *session_id;               /* NULL: none */
	const float *query_embedding, *response_embedding; /* NULL: none */
	const float *routing_features;
	size_t n_routing_features;
	int64_t model_index; /* -1: none */
	rv_source source;
	int64_t created_at;    /* UTC ms; 0: when it is added */
	float quality, weight; /* after distillation: of the trajectories it stands for, and how many.
	                          weight 0: its own (final_quality, 1) */
	const char *embedder;  /* of its vectors, between machines; NULL: not said */
	rv_arena *memory;
} rv_trajectory;

/* unknown, base, instant_loop, no model. */
rv_trajectory rv_trajectory_defaults(void);
/* Frees what a parse or a read allocated; accepts a zeroed one. */
void rv_trajectory_deinit(rv_trajectory *t);

/* Checks every rule above. `place` stands in messages. */
rv_status rv_trajectory_check(const rv_trajectory *t, const char *place);
/* The embedding it is found by into out [RV_EMBEDDING_DIM]. RV_ERR_INVALID when it has none,
 * RV_ERR_NUMERIC when that is zero. */
rv_status rv_trajectory_embedding(const rv_trajectory *t, const char *place, float *out);

/* Reads and checks; *out is untouched on failure. */
rv_status rv_trajectory_from_json(const json_t *obj, const char *place, rv_trajectory *out);
/* One line of JSON without its line feed (rv_free'd by the caller); reads back as the same values. */
rv_status rv_trajectory_to_json(const rv_trajectory *t, char **text, size_t *len);

#endif
