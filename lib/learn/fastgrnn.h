/* The router of models: which of four slots should answer a request, with how much context, which
 * sampling, which KV cache, and whether MicroLoRA is on. A FastGRNN (fastgrnn_cell.h) reads what is
 * known of the request as a sequence of segments of 16 numbers: eight of query features, one of the
 * policy in force, one of how the slots have done so far.
 *
 * Training is back-propagation through time with Adam, then iterative hard thresholding: only the
 * largest share of each factor of W and U is kept, and trained on. The confidence is the slot's
 * probability after temperature scaling on held-out examples (Guo et al. 2017).
 *
 * A loaded router is read by any number of threads; deciding takes no memory but the stack's. */
#ifndef RV_LEARN_FASTGRNN_H
#define RV_LEARN_FASTGRNN_H

#include "base/status.h"
#include "model/adapter.h"

#include <stddef.h>
#include <stdint.h>

#define RV_FASTGRNN_QUERY 128
#define RV_FASTGRNN_POLICY 16
#define RV_FASTGRNN_SLOTS 4
#define RV_FASTGRNN_BUCKETS 5
#define RV_FASTGRNN_TAILS 5
#define RV_FASTGRNN_KV_TYPES 3

extern const char
        *const rv_fastgrnn_slot_names[RV_FASTGRNN_SLOTS];  /* pico, nano, small, medium: the default */
extern const int rv_fastgrnn_buckets[RV_FASTGRNN_BUCKETS]; /* tokens of context */
extern const int rv_fastgrnn_tails[RV_FASTGRNN_TAILS];     /* tokens of the hot tail */
extern const char *const rv_fastgrnn_kv_types[RV_FASTGRNN_KV_TYPES]; /* f16, q8, q4 */

typedef struct rv_fastgrnn_input {
	float query[RV_FASTGRNN_QUERY];      /* features of the request */
	float policy[RV_FASTGRNN_POLICY];    /* parameters of the policy in force */
	float success[RV_FASTGRNN_SLOTS];    /* share of answers that were good, in [0, 1] */
	float latency_ms[RV_FASTGRNN_SLOTS]; /* mean, at least 0 */
} rv_fastgrnn_input;

typedef struct rv_fastgrnn_decision {
	int slot;
	float confidence; /* calibrated probability of the slot */
	float slots[RV_FASTGRNN_SLOTS];
	int context_bucket;       /* into rv_fastgrnn_buckets */
	float temperature, top_p; /* [0, 2], [0, 1] */
	int kv_type, hot_tail;    /* into rv_fastgrnn_kv_types, rv_fastgrnn_tails */
	int micro_lora;           /* 0 or 1 */
} rv_fastgrnn_decision;

/* An input with what would have been the right decision (its confidence and slots are not read). */
typedef struct rv_fastgrnn_example {
	rv_fastgrnn_input input;
	rv_fastgrnn_decision target;
} rv_fastgrnn_example;

typedef struct rv_fastgrnn rv_fastgrnn;

typedef struct rv_fastgrnn_options {
	int hidden, rank_w, rank_u; /* default 32, 12, 12 */
	double kept;                /* share of W's and U's factors left after training; default 0.5 */
	int epochs, batch;          /* default 30, 32 */
	double rate;                /* of Adam; default 4e-3, falling to 0 */
	uint64_t seed;
} rv_fastgrnn_options;
rv_fastgrnn_options rv_fastgrnn_defaults(void);

/* RV_ERR_INVALID: options out of range. Random weights by the seed. */
rv_status rv_fastgrnn_create(rv_fastgrnn **out, const rv_fastgrnn_options *options);
/* A new one has one reference; destroy gives one back. */
void rv_fastgrnn_destroy(rv_fastgrnn *g); /* accepts NULL */
rv_fastgrnn *rv_fastgrnn_retain(rv_fastgrnn *g);
int rv_fastgrnn_shared(const rv_fastgrnn *g); /* 1 when there is more than one reference */
/* A copy whose weights lie in that memory. */
rv_status rv_fastgrnn_place(rv_fastgrnn **out, const rv_fastgrnn *from,
                            const rv_adapter_memory *memory);

/* RV_ERR_NUMERIC: an input that is not finite, with its number. loss: mean of the last epoch, may be
 * NULL. */
rv_status rv_fastgrnn_train(rv_fastgrnn *g, const rv_fastgrnn_example *examples, int64_t n,
                            double *loss);

typedef struct rv_fastgrnn_score {
	double slot_accuracy, brier, ece; /* of the slot; ece: 10 bins */
	double bucket_accuracy, kv_accuracy, tail_accuracy, lora_accuracy;
	double temperature_error, top_p_error; /* root mean square */
} rv_fastgrnn_score;
/* Sets the temperature that makes the slot's probabilities fit these examples best. */
rv_status rv_fastgrnn_calibrate(rv_fastgrnn *g, const rv_fastgrnn_example *examples, int64_t n);
rv_status rv_fastgrnn_evaluate(const rv_fastgrnn *g, const rv_fastgrnn_example *examples, int64_t n,
                               rv_fastgrnn_score *out);

/* RV_ERR_NUMERIC: an input that is not finite. */
rv_status rv_fastgrnn_route(const rv_fastgrnn *g, const rv_fastgrnn_input *input,
                            rv_fastgrnn_decision *out);

/* RV_ERR_FORMAT (foreign, cut off, changed), RV_ERR_UNSUPPORTED (version), RV_ERR_NUMERIC name the
 * file. */
rv_status rv_fastgrnn_save(const rv_fastgrnn *g, const char *path);
rv_status rv_fastgrnn_load(rv_fastgrnn **out, const char *path);
rv_status rv_fastgrnn_load_memory(rv_fastgrnn **out, const void *data, size_t size, const char *name);

/* Share of the parameters of W and U that are not 0, and the number of all parameters. */
double rv_fastgrnn_density(const rv_fastgrnn *g);
int64_t rv_fastgrnn_count(const rv_fastgrnn *g);

/* ---- a synthetic task ----
 * Requests of a hidden difficulty and a hidden field, seen through noisy features; slots that get
 * better and slower with their size and answer rightly by chance; the label is the quickest slot that
 * did (the largest when none). *bayes, may be NULL: the accuracy of one who knows the hidden numbers,
 * which nobody can exceed. A seeded generator, not measurements of models. */
rv_status rv_fastgrnn_synthesize(rv_fastgrnn_example *out, int64_t n, uint64_t seed, double *bayes);

#endif
