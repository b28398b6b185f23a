/* Quality of a model in experiments: its answers to the small sets in datasets/, item by item, asked
 * once and kept under <root>/build/cache/items by content: of a model, an item (prompt, choices, tests)
 * and the code that asks. Experiments and profiles that ask the same share the answers. */
#ifndef RV_LAB_QUALITY_H
#define RV_LAB_QUALITY_H

#include "lab/experiment.h"
#include "lab/item_stats.h"
#include "lab/subject.h"

/* X(id, task of lib/eval, its metric, does it count in the geometric mean?)
 *
 * MMLU counts by its choices' texts, per character (acc_norm), as OLMES (Gu et al. 2024) recommends for
 * small models: these may know an answer and not be able to name its letter in a list. The letters, the
 * form of published scores, stand beside it. */
#define RV_QUALITY_TASKS(X)                                                                            \
	X(MMLU_CONTINUATION, "mmlu_continuation", 1, 1)                                                \
	X(HUMANEVAL, "humaneval", 0, 1)                                                                \
	X(GSM8K, "gsm8k", 0, 1)                                                                        \
	X(TRUTHFULQA_MC2, "truthfulqa_mc2", 0, 1)                                                      \
	X(TRUTHFULQA_MC1, "truthfulqa_mc1", 0, 0)                                                      \
	X(MMLU, "mmlu", 0, 0)                                                                          \
	X(ROUTING, "routing", 0, 0)

typedef enum rv_quality_task {
#define RV_QUALITY_ID(id, task, metric, counts) RV_QUALITY_##id,
	RV_QUALITY_TASKS(RV_QUALITY_ID)
#undef RV_QUALITY_ID
	        RV_QUALITY_N_TASKS
} rv_quality_task;
/* Those that count come first. */
#define RV_QUALITY_COUNT_ONE(id, task, metric, counts) +(counts)
enum { RV_QUALITY_N_COUNTED = 0 RV_QUALITY_TASKS(RV_QUALITY_COUNT_ONE) };
const char *rv_quality_name(rv_quality_task task); /* "truthfulqa_mc2" */
/* A sentence for reports: which of MMLU's forms counts, and why. */
#define RV_QUALITY_MMLU_NOTE                                                                           \
	"MMLU is asked in both of lm-evaluation-harness's forms: mmlu lists the choices and asks for " \
	"a letter, mmlu_continuation asks for the choice itself, by its characters. The latter "       \
	"counts "                                                                                      \
	"in quality, as OLMES recommends for small models: they do not read lettered lists."

/* Why the model's answers mean nothing or take too long in this profile (constant text), or NULL. */
const char *rv_quality_na(rv_profile profile, rv_model *model);
/* Of a model among many in one experiment fewer items are asked in `quick`: the first ones of those
 * that are asked of a model in an experiment about quality. */
typedef enum rv_quality_depth {
	RV_QUALITY_BRIEF,
	RV_QUALITY_USUAL,
	RV_QUALITY_N_DEPTHS
} rv_quality_depth;
/* How many items are asked, for rv_inputs.settings; and the checksum of all sets. */
void rv_quality_settings(rv_profile profile, rv_quality_depth depth, char *out, size_t size);
rv_status rv_quality_data_sha256(const rv_run_config *config, rv_quality_depth depth, char hex[65]);

typedef struct rv_quality_items {
	rv_task_items items; /* values owned by it */
	int64_t n_asked;     /* of them now; the rest were known */
} rv_quality_items;
void rv_quality_items_free(rv_quality_items *q); /* accepts a zeroed one; zeroes it */

/* Items of one task. RV_ERR_UNSUPPORTED or RV_ERR_NOT_FOUND where programs cannot be run apart from the
 * system; RV_ERR_CANCELLED: what was answered is kept. */
rv_status rv_quality_ask(const rv_run_config *config, rv_subject who, rv_quality_task task,
                         rv_quality_depth depth, rv_quality_items *out);
/* Quality over the tasks that count, asked in brief, and its ratio to that of `base` on the same items.
 */
typedef struct rv_quality {
	rv_interval mean, ratio;
	char na[RV_REASON_BYTES];       /* why neither is there; "" when they are */
	char ratio_na[RV_REASON_BYTES]; /* why the ratio is not */
} rv_quality;
rv_status rv_quality_measure(const rv_run_config *config, rv_subject who, rv_subject base,
                             rv_quality *out);
/* Values of `metric` and of the two after it, its interval's ends, in %; or why there is none. */
void rv_quality_record(rv_record *record, int metric, const rv_interval *value, const char *na);

#endif
