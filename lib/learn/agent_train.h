/* Training of the agent router's file.
 *
 * The linear classifier learns from all data, the vote from the tables. What is calibrated (the weights
 * of the hybrid router's signals, each router's temperature, the quality) is fitted on one table that
 * classifier, vote and embedder of a second, temporary training did not see. */
#ifndef RV_LEARN_AGENT_TRAIN_H
#define RV_LEARN_AGENT_TRAIN_H

#include "learn/agent_linear.h"
#include "learn/agent_router.h"

typedef struct rv_agent_train_options {
	const char *lexicon;       /* file of phrases */
	const char *const *tables; /* [n_tables] written by hand: learnt, and voting */
	int n_tables;
	const char *const *more; /* [n_more] other requests: learnt, with weight more_weight */
	int n_more;
	double more_weight;
	int64_t more_limit;         /* requests taken of each of these; 0: all */
	const char *held;           /* the table of `tables` to calibrate on */
	rv_embedder *embedder;      /* NULL: no votes */
	rv_embedder *held_embedder; /* one that did not see `held`; needed with an embedder */
	rv_linear_options linear;
	int shuffle_labels; /* a control: agents of the tables are dealt anew */
} rv_agent_train_options;

rv_agent_train_options rv_agent_train_defaults(void);

/* Of one router on the held table: before calibration saw it, except for the few numbers fitted there.
 */
typedef struct rv_agent_held_score {
	double accuracy, brier, ece, complexity; /* shares; ece: 10 bins of equal width */
	int64_t n;
} rv_agent_held_score;

rv_status rv_agent_router_train(const rv_agent_train_options *options, const char *out,
                                rv_agent_held_score scores[RV_ROUTERS]);

/* Expected calibration error of n confidences in [0, 1] of which right[i] were right: 10 bins. */
double rv_calibration_error(const float *confidence, const int *right, int64_t n);

#endif
