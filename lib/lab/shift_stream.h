/* What T15 learns, and what it must not forget.
 *
 * New: requests that people wrote (datasets/routing/written_*.tsv), to be given to one of 13 agents, in
 * the document form of that folder. nano was trained on generated requests alone. The stream is a
 * seeded sample of the files of some writers; three other files are left out: two to choose
 * settings by, one to be judged on. Old: documents of the kinds nano was trained on, held out of
 * its training (the small sets of datasets/); some are judged on, others can be replayed.
 */
#ifndef RV_LAB_SHIFT_STREAM_H
#define RV_LAB_SHIFT_STREAM_H

#include "base/arena.h"
#include "lab/experiment.h"
#include "learn/agent_roles.h"
#include "model/model.h"
#include "model/tokenizer.h"

/* X(id, name) */
#define RV_SHIFT_OLD_DOMAINS(X)                                                                        \
	X(ROUTING, "routing")                                                                          \
	X(ARITHMETIC, "arithmetic")                                                                    \
	X(PYTHON, "python")                                                                            \
	X(FACTS, "facts")                                                                              \
	X(LONGDOCS, "longdocs")
enum {
#define RV_SHIFT_OLD_ID(id, name) RV_SHIFT_##id,
	RV_SHIFT_OLD_DOMAINS(RV_SHIFT_OLD_ID)
#undef RV_SHIFT_OLD_ID
	        RV_SHIFT_N_OLD,
	RV_SHIFT_NEW = RV_SHIFT_N_OLD
};
const char *rv_shift_domain_name(int domain); /* "new" for RV_SHIFT_NEW */

/* A document in tokens: what is learnt of it is [answer, n). */
typedef struct rv_shift_doc {
	const int32_t *ids;
	int32_t n, answer;
	int domain, agent; /* agent: of requests, else -1 */
} rv_shift_doc;

typedef struct rv_shift_docs {
	rv_shift_doc *items;
	int64_t n, cap;
} rv_shift_docs;

typedef struct rv_shift_sizes {
	int64_t stream, held, tune; /* requests; tune 0: none */
	int64_t old, replay;        /* documents of a domain: judged on; that can be replayed */
} rv_shift_sizes;

typedef struct rv_shift_stream {
	rv_arena *arena;
	const rv_tokenizer *tokenizer;  /* the model's, which outlives this */
	int32_t end;                    /* token between documents */
	rv_shift_doc agents[RV_AGENTS]; /* " coder", answer 0; none begins another */
	rv_shift_docs pool;             /* of the writers that are learnt from */
	rv_shift_docs held, tune, old, replay;
	int64_t n_stream;
} rv_shift_stream;

/* Of the files of `root`/datasets. The sizes are cut to what there is. */
rv_status rv_shift_stream_open(rv_shift_stream *s, const char *root, const rv_model *model,
                               const rv_shift_sizes *sizes);
void rv_shift_stream_close(rv_shift_stream *s); /* accepts a zeroed one */
/* SHA-256 over the tokens of all documents. */
void rv_shift_stream_sha256(const rv_shift_stream *s, char hex[65]);

/* The stream of a seed is out[0, s->n_stream); out has room for s->pool.n. */
void rv_shift_stream_draw(const rv_shift_stream *s, uint64_t seed, const rv_shift_doc **out);

#endif
