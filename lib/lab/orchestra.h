/* A small system to measure: embedders, an index of patterns, a router and the stores that last, as one
 * process has them open. For experiments; one caller at a time. */
#ifndef RV_LAB_ORCHESTRA_H
#define RV_LAB_ORCHESTRA_H

#include "base/sysinfo.h"
#include "engine/context.h"
#include "engine/embed.h"
#include "lab/experiment.h"
#include "lab/vector_index.h"
#include "learn/agent_router.h"
#include "learn/fastgrnn.h"
#include "memory/edges.h"
#include "memory/sessions.h"
#include "memory/witness.h"

enum {
	RV_ORCHESTRA_K = 10,
	RV_ORCHESTRA_EF = 50,
	RV_ORCHESTRA_SESSIONS = 1000,
	RV_ORCHESTRA_REQUEST = 16, /* tokens */
	RV_ORCHESTRA_ANSWER = 32
};

/* The one that was trained for it, and two models as they are; all Q8_0. */
typedef enum rv_orchestra_embedder {
	RV_ORCHESTRA_TRAINED,
	RV_ORCHESTRA_NANO,
	RV_ORCHESTRA_PICO,
	RV_ORCHESTRA_EMBEDDERS
} rv_orchestra_embedder;

typedef struct rv_orchestra {
	const rv_run_config *config;
	rv_model *models[RV_ORCHESTRA_EMBEDDERS];
	rv_embedder *embedders[RV_ORCHESTRA_EMBEDDERS];
	float embedding[RV_EMBEDDING_DIM]; /* of the request, by who embedded it last */
	rv_context *ctx;                   /* nano's, to answer with */
	int32_t answer[RV_ORCHESTRA_ANSWER];
	char dir[256]; /* of the stores; gone at close */
	int lock;
	rv_store *store;
	rv_witness *witness;
	rv_sessions *sessions; /* RV_ORCHESTRA_SESSIONS of them: session-0 .. */
	rv_edges *edges;
	rv_vector_set set;     /* clustered, RV_EMBEDDING_DIM */
	rv_vector_index index; /* f32, M 16, ef_construction 200 */
	rv_hnsw_searcher *searcher;
	rv_fastgrnn
	        *model_router; /* of the default size; seeded weights: what it decides means nothing */
	rv_agent_router *agent_router; /* NULL: none ships */
	rv_memuse base; /* of the process with stores, trained embedder and routers, all empty */
} rv_orchestra;

/* Adds what an orchestra depends on: the checksums of its models and router. */
rv_status rv_orchestra_describe(const rv_run_config *config, rv_inputs *in);
/* Why no agent can be chosen (constant text), or NULL. */
const char *rv_orchestra_no_agents(const rv_run_config *config);

/* With n patterns; vectors and index are those of T4 with as many. `o` is zeroed; close it after a
 * failure too. */
rv_status rv_orchestra_open(rv_orchestra *o, const rv_run_config *config, int64_t n);
void rv_orchestra_close(rv_orchestra *o);

/* ---- what is done for a request; inputs vary with i where they can ---- */

rv_status rv_orchestra_embed(rv_orchestra *o, rv_orchestra_embedder which);
rv_status rv_orchestra_retrieve(rv_orchestra *o); /* the nearest patterns of the request's vector */
rv_status rv_orchestra_search(rv_orchestra *o, int64_t i); /* of query i of the set */
/* Which model answers, by FastGRNN: its 128 features are the request's vector, six components each. */
rv_status rv_orchestra_route(rv_orchestra *o);
/* Which agent acts, by the hybrid router, which embeds the text by itself. RV_ERR_NOT_FOUND: no router.
 */
rv_status rv_orchestra_route_agent(rv_orchestra *o);
rv_status rv_orchestra_answer(rv_orchestra *o); /* RV_ORCHESTRA_ANSWER tokens, one after the other */
rv_status rv_orchestra_look_up(rv_orchestra *o, int64_t i); /* each session once in 1000 calls */
rv_status rv_orchestra_witness(rv_orchestra *o, int64_t i); /* appends an entry with two embeddings */

#endif
