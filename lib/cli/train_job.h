/* A training run of the command line: what was asked, what was opened, what is shown. Internal to
 * lib/cli. */
#ifndef RV_CLI_TRAIN_JOB_H
#define RV_CLI_TRAIN_JOB_H

#include "cli/cli_model.h"
#include "lab/train_log.h"
#include "learn/train_run.h"
#include "learn/train_set.h"

#define RV_TRAIN_FIXED_METRICS 9 /* before those of the held-out kinds */

typedef struct rv_train_args {
	const char *data, *tokenizer, *preset, *init, *distill, *out, *name, *mix, *long_mix,
	        *checkpoint, *log, *emphasis;
	int type, fresh, resume;
	int64_t n_batch, n_tokens, long_ctx, long_steps, valid_every, n_valid_windows, save_every,
	        sample_tokens;
	double minutes, max_loss;
	rv_option_list samples;
} rv_train_args;

typedef struct rv_train_job {
	rv_cli *cli;
	rv_train_args args;
	rv_trainer_options options;
	rv_model *init, *teacher;
	rv_tokenizer *own_tokenizer;   /* from --tokenizer, or NULL */
	const rv_tokenizer *tokenizer; /* that, or the model's */
	rv_train_set set;
	rv_mixture *mixtures[2];
	rv_emphasis emphasis;
	rv_trainer *trainer;
	rv_train_run run;
	char *identity, *checkpoint;
	int resumed;

	rv_train_log *log;
	rv_experiment_metric metrics[RV_MAX_METRICS];
	char names[RV_MIXTURE_MAX][72]; /* of the held-out kinds' metrics */
	int n_metrics;
	double row[RV_MAX_METRICS]; /* of the step being recorded */
	int row_pending;
	double row_seconds;

	int64_t next_show_ns;
	double first_loss, last_loss; /* of this process */
	double valid[RV_MIXTURE_MAX], valid_mean;
	double tokens_s, seconds; /* mean speed and time of this process */
	int64_t tokens_done;
} rv_train_job;

/* train_open.c: everything a run needs, by the arguments. What is wrong with them is said. */
rv_status rv_train_job_open(rv_train_job *job);
void rv_train_job_close(rv_train_job *job);

/* train_show.c: callbacks of the run (user: the job), and the report. */
rv_status rv_train_on_step(void *user, int phase, const rv_train_record *r);
rv_status rv_train_on_valid(void *user, int phase, int64_t step, const double *cross_entropy,
                            double mean);
rv_status rv_train_on_save(void *user, int64_t step);
rv_status rv_train_log_begin(rv_train_job *job);
rv_status rv_train_log_end(rv_train_job *job);
/* Exit status. */
int rv_train_report(rv_train_job *job, rv_train_end end);

#endif
