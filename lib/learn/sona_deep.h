/* The deep loop's parts (sona.h: RV_SONA_DEEP_TABLE), each a function of what it is given here: what
 * owns state is sona.c. Internal to lib/learn.
 *
 * A part leaves its report and never half a change: rows of the store change in one transaction each,
 * adapter, Fisher diagonal and draft are handed back for the next generation of state. Killed at any
 * moment, the store and the last generation are whole, and the next pass does again what is missing. */
#ifndef RV_LEARN_SONA_DEEP_H
#define RV_LEARN_SONA_DEEP_H

#include "learn/ewc.h"
#include "learn/replay.h"
#include "learn/sona.h"
#include "memory/bank.h"
#include "memory/edges.h"
#include "memory/witness.h"

typedef struct rv_deep {
	/* borrowed; NULL where there is none: parts that need it say n/a */
	rv_model *model;
	rv_bank *bank;
	rv_edges *edges;
	rv_witness *witness;
	const rv_sona_deep_options *options; /* draft: the one in use */
	/* text to be remembered: what was served, what was told to be; of tuning.n_ctx tokens */
	const rv_replay *replay, *old;
	const rv_micro_lora_options *micro; /* where a BaseLoRA sits that begins from nothing */
	int64_t base_rank;
	float min_quality; /* of options, resolved */
	int64_t now_ms;
	uint64_t seed;
	int n_threads;
	rv_log log;
	/* Is the pass over its time (not 0), or stopped (RV_SONA_STOPPED)? Asked between steps; NULL:
	 * never. */
	int (*stop)(void *user);
	void *user;

	/* changed: */
	rv_adapter *base; /* BaseLoRA (NULL: none); a better one replaces it: released, retained */
	rv_ewc *ewc;      /* NULL: none. Observed and anchored anew when `base` changed */
	const char *draft_path; /* where a better draft is written (NULL: nothing is distilled); */
	int draft_written;      /* 1: it was, whole */
} rv_deep;

/* RV_ERR_* : report->text says why too, and what it would have changed is as before. */
typedef rv_status rv_deep_part(rv_deep *d, rv_sona_part_report *report);
/* By number of RV_SONA_DEEP_TABLE. */
extern rv_deep_part *const rv_deep_parts[RV_DEEP_PARTS];

rv_deep_part rv_deep_transfer, rv_deep_tune, rv_deep_distill; /* in files of their own */

/* Runs those of `parts` (RV_SONA_PART bits) in order into reports [RV_DEEP_PARTS]: off, put off once
 * `stop` says so, failed (logged; the others go on). */
void rv_deep_run(rv_deep *d, unsigned parts, rv_sona_part_report *reports);

/* ---- sona_deep_text.c: the bank's good trajectories as sequences for training ---- */

/* Task and best action of each good trajectory (decayed quality and action's at least min_quality, no
 * failure), the end token behind it, packed whole into sequences of n_ctx + 1 tokens. A prediction
 * weighs its trajectory's quality in the action and its end, nothing elsewhere. One in five, chosen by
 * its id for good, is held out. */
typedef struct rv_deep_text {
	int64_t n_ctx;
	int64_t n[2];       /* sequences: learnt from, held out */
	int64_t n_items[2]; /* trajectories */
	int32_t *tokens[2]; /* [n, n_ctx + 1] */
	float *weights[2];  /* [n, n_ctx] */
	/* the first prompts of those held out, one after the other: tokens [prompt_at[i], prompt_at[i +
	 * 1]) */
	int32_t *prompts;
	int64_t *prompt_at; /* [n_prompts + 1] */
	int64_t n_prompts;
	int32_t end; /* the end token: what is behind the last of a sequence */
} rv_deep_text;
rv_status rv_deep_text_read(rv_deep_text *out, const rv_deep *d, int64_t n_ctx);
void rv_deep_text_deinit(rv_deep_text *text); /* accepts a zeroed one */

/* ---- sona_deep_tune.c: steps of training on that, and what they are judged by ---- */

/* Options of a trainer for the text, at a constant rate. */
rv_trainer_options rv_deep_trainer_options(const rv_deep *d, const rv_deep_text *text, double rate);
/* `steps` updates of `batch` sequences, of which `replay`, a share, are text to be remembered (none
 * where there is none). *done: updates; fewer when `stop` said so. */
rv_status rv_deep_train(rv_trainer *t, const rv_deep *d, const rv_deep_text *text, int64_t steps,
                        int64_t batch, double replay, int64_t *done);
/* Mean loss, nats a token, of what was held out and of text to be remembered; NaN: there is none. */
typedef struct rv_deep_loss {
	double held, old;
} rv_deep_loss;
rv_status rv_deep_judge(rv_trainer *t, const rv_deep *d, const rv_deep_text *text, rv_deep_loss *out);
/* The tuning part on any text (which stays the caller's): the background loop's too. */
rv_status rv_deep_tune_on(rv_deep *d, rv_deep_text *text, rv_sona_part_report *report);
/* More parameters than tuning.max_params: then the report says so. */
int rv_deep_too_large(const rv_deep *d, rv_sona_part_report *report);

/* ---- sona_deep_distill.c ---- */

/* The share of drafted tokens that `model` with `adapter` (NULL: none) accepts, greedy, 4 at a time, in
 * `n_predict` tokens after each prompt of the text; NaN: nothing was drafted. */
rv_status rv_deep_acceptance(const rv_deep *d, rv_model *draft, rv_adapter *adapter,
                             const rv_deep_text *text, int64_t n_predict, double *share);

#endif
