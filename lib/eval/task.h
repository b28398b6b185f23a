/* Tasks: what is asked, how replies are scored; as lm-evaluation-harness does.
 *
 * A task is a row: a reader that fills a set of documents from files (eval_set.h), and a judge that
 * turns the model's reply to a document into metrics. Everything else (few-shot context, running,
 * resuming, statistics, result files) is the same for all tasks. A new task is a file and a row. */
#ifndef RV_EVAL_TASK_H
#define RV_EVAL_TASK_H

#include "base/json.h"
#include "eval/code_judge.h"
#include "eval/eval_set.h"
#include "eval/scorer.h"

/* X(name): its row is rv_eval_task_<name>. */
#define RV_EVAL_TASK_TABLE(X)                                                                          \
	X(mmlu)                                                                                        \
	X(mmlu_continuation)                                                                           \
	X(humaneval)                                                                                   \
	X(gsm8k)                                                                                       \
	X(truthfulqa_mc1)                                                                              \
	X(truthfulqa_mc2)                                                                              \
	X(routing)

typedef enum rv_eval_kind {
	RV_EVAL_CHOICE,   /* log-likelihoods of the continuations of a question */
	RV_EVAL_GENERATE, /* a greedy continuation */
	RV_EVAL_CODE      /* a greedy continuation that is run */
} rv_eval_kind;

typedef struct rv_eval_group {
	const char *name, *alias; /* results have the key "<task>_<name>" */
} rv_eval_group;

/* What the model said to a document. */
typedef struct rv_eval_reply {
	int done;
	int n;                     /* choices, or texts */
	rv_score *scores;          /* RV_EVAL_CHOICE: [n] */
	char **texts;              /* otherwise: [n], UTF-8 */
	rv_judge_result *verdicts; /* RV_EVAL_CODE: [n], once judged; NULL before */
	int64_t n_cut;             /* tokens left out at the beginning of its contexts to fit */
	int n_unfinished;          /* texts that ended by their greatest length */
} rv_eval_reply;

/* Releases what it holds and zeroes it. */
void rv_eval_reply_clear(rv_eval_reply *reply);

struct rv_eval_task {
	const char *name;
	rv_eval_kind kind;
	/* A folder of data sets holds `folder`, or "mini-<folder>" in the same form; it is known by one
	 * of `marks` in it. A folder named `folder` must hold the whole published set. */
	const char *folder;
	const char *marks[2];
	const char *dataset;      /* as the harness names it */
	double version;           /* of the harness's task */
	int n_fewshot;            /* as numbers are published */
	int fixed_fewshot;        /* 1: no other number makes sense */
	int64_t max_tokens;       /* of a generated text */
	const char *const *until; /* NULL-terminated */
	/* Parts belong to these groups, all of them to the group named like the task; NULL: no groups.
	 */
	const rv_eval_group *groups; /* name NULL: the end */
	double group_version;
	/* Members of a document's source whose values split the score (slices.h), NULL-terminated;
	 * NULL: none. */
	const char *const *slices;
	/* name "": the end. */
	rv_eval_metric metrics[3];
	/* Files of set->data.folder into parts, documents, shots; says in set->data what they are. */
	rv_status (*read)(rv_eval_set *set);
	/* Metric m of a reply. *filtered (filtered may be NULL): what was compared, the caller's. */
	rv_status (*judge)(const rv_eval_set *set, const rv_eval_doc *doc, const rv_eval_reply *reply,
	                   int m, double *value, json_t **filtered);
};

#define RV_EVAL_TASK_ROW(name) extern const rv_eval_task rv_eval_task_##name;
RV_EVAL_TASK_TABLE(RV_EVAL_TASK_ROW)
#undef RV_EVAL_TASK_ROW
extern const rv_eval_task *const rv_eval_tasks[]; /* NULL-terminated */
/* NULL when there is none of that name. */
const rv_eval_task *rv_eval_task_by_name(const char *name);

/* ---- judges that several tasks share ---- */

/* 1 when the likeliest choice (the first on ties) is a right one. */
rv_status rv_eval_judge_accuracy(const rv_eval_set *set, const rv_eval_doc *doc,
                                 const rv_eval_reply *reply, int m, double *value, json_t **filtered);
/* ["-1.25", "False"] of every choice: log-probability and is_greedy as Python prints them. */
json_t *rv_eval_scores_json(const rv_eval_reply *reply);

#endif
