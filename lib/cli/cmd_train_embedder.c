/* ruvltra train embedder: contrastive training on requests of several classes. */
#include "base/mem.h"
#include "cli/cmd_train.h"
#include "learn/contrastive_train.h"

#include <math.h>
#include <stdio.h>

typedef struct embedder_args {
	const char *init, *out, *name, *valid;
	rv_option_list data, more;
	int64_t valid_every;
	double min_score;
} embedder_args;

#define AT(field) offsetof(embedder_args, field)
static const rv_option options[] = {
        {"init", 0, RV_OPT_STRING, AT(init), 0, 0, NULL, NULL, "MODEL",
         "begin with this model's weights"},
        {"data", 0, RV_OPT_LIST, AT(data), 0, 0, NULL, NULL, "TSV",
         "requests, the lines of a topic together; repeatable"},
        {"more", 0, RV_OPT_LIST, AT(more), 0, 0, NULL, NULL, "FILE",
         "requests without topics: a table or corpus text; repeatable"},
        {"valid", 0, RV_OPT_STRING, AT(valid), 0, 0, NULL, NULL, "TSV",
         "requests to score on; they are not learnt"},
        {"valid-every", 0, RV_OPT_INT, AT(valid_every), 0, 1e9, NULL, "steps", NULL,
         "0: at the end only"},
        {"min-score", 0, RV_OPT_DOUBLE, AT(min_score), 0, 1, NULL, NULL, NULL,
         "fail when the share of --valid given the right class by 10 neighbours ends below"},
        {"out", 0, RV_OPT_STRING, AT(out), 0, 0, NULL, NULL, "FILE", "model to write, with its map"},
        {"name", 0, RV_OPT_STRING, AT(name), 0, 0, NULL, NULL, "NAME", "general.name of the model"},
        {0},
};

typedef struct job {
	const rv_cli *cli;
	embedder_args args;
	rv_trainer_options options;
	rv_contrastive_plan plan;
	rv_model *init;
	rv_trainer *trainer;
	rv_request_set set, test;
	rv_contrastive_trainer *contrastive;
	rv_contrastive_score score;
	double seconds;
} job;

static rv_status open_job(job *j) {
	RV_TRY(rv_cli_check_output(j->args.out));
	for (int i = 0; i < j->args.data.n; i++)
		RV_TRY(rv_request_set_add(&j->set, j->args.data.items[i], 1));
	for (int i = 0; i < j->args.more.n; i++)
		RV_TRY(rv_request_set_add(&j->set, j->args.more.items[i], 0));
	RV_TRY(rv_request_set_finish(&j->set));
	if (j->args.valid) {
		RV_TRY(rv_request_set_add(&j->test, j->args.valid, 0));
		RV_TRY(rv_request_set_finish(&j->test));
	}
	RV_TRY(rv_model_open(&j->init, j->args.init, NULL));
	const rv_tokenizer *tokenizer = rv_model_tokenizer(j->init);
	if (!tokenizer)
		return rv_fail(RV_ERR_MISMATCH, "%s: it has no tokenizer", j->args.init);
	j->options.segments = 1;
	j->options.log = rv_cli_log();
	RV_TRY(rv_trainer_create_from(&j->trainer, j->init, NULL, &j->options));
	rv_trainer_set_cancel(j->trainer, rv_cli_signal, NULL);
	return rv_contrastive_trainer_create(&j->contrastive, j->trainer, &j->set, tokenizer, &j->plan);
}

static void close_job(job *j) {
	rv_contrastive_trainer_destroy(j->contrastive);
	rv_trainer_destroy(j->trainer);
	rv_request_set_free(&j->set);
	rv_request_set_free(&j->test);
	rv_model_release(j->init);
}

static rv_status validate(job *j) {
	if (!j->args.valid)
		return RV_OK;
	RV_TRY(rv_contrastive_trainer_score(j->contrastive, &j->test, 0, &j->score));
	fprintf(stderr,
	        "step %lld: held out: nearest %.1f %%, 10 nearest %.1f %%, class vectors %.1f %%\n",
	        (long long)rv_trainer_step_count(j->trainer), 100 * j->score.nearest,
	        100 * j->score.neighbours, 100 * j->score.classes);
	return RV_OK;
}

static rv_status train(job *j) {
	const int64_t n_steps = j->options.schedule.n_steps, show = n_steps / 40 > 0 ? n_steps / 40 : 1;
	for (int64_t step = 0; step < n_steps; step++) {
		rv_contrastive_loss loss;
		rv_train_record r;
		RV_TRY(rv_contrastive_trainer_step(j->contrastive, &loss, &r));
		j->seconds += r.seconds;
		if (step % show == 0)
			fprintf(stderr,
			        "step %lld of %lld: loss %.4f (InfoNCE %.4f, triplet %.4f, classes "
			        "%.4f, topics %.4f), "
			        "%.2f s a step\n",
			        (long long)step, (long long)n_steps, loss.total, loss.nce, loss.triplet,
			        loss.classes, loss.topics, r.seconds);
		if (j->args.valid_every && (step + 1) % j->args.valid_every == 0 && step + 1 < n_steps)
			RV_TRY(validate(j));
	}
	rv_contrastive_trainer_settle(j->contrastive);
	RV_TRY(validate(j));
	if (j->args.valid && j->score.neighbours < j->args.min_score)
		return rv_fail(RV_ERR_INVALID, "%s: held-out score %.3f is below %.3f", j->args.valid,
		               j->score.neighbours, j->args.min_score);
	const rv_train_export export = {.tokenizer = rv_model_tokenizer(j->init),
	                                .name = j->args.name,
	                                .embed_map = rv_contrastive_trainer_map(j->contrastive),
	                                .embed_dim = j->plan.dim};
	return rv_trainer_export(j->trainer, j->args.out, &export);
}

static int report(const job *j) {
	if (!j->cli->common.json)
		return rv_cli_finish(j->cli);
	const double none = NAN;
	const int has = j->args.valid != NULL;
	return rv_cli_finish_json(
	        j->cli,
	        json_pack("{s:o, s:I, s:I, s:o, s:o, s:o, s:f}", "out", rv_cli_json_path(j->args.out),
	                  "requests", (json_int_t)j->set.n, "steps",
	                  (json_int_t)rv_trainer_step_count(j->trainer), "nearest",
	                  rv_cli_json_real(has ? j->score.nearest : none), "neighbours",
	                  rv_cli_json_real(has ? j->score.neighbours : none), "classes",
	                  rv_cli_json_real(has ? j->score.classes : none), "seconds", j->seconds));
}

int rv_cmd_train_embedder(rv_cli *cli) {
	job j = {.cli = cli, .options = rv_trainer_defaults(), .plan = rv_contrastive_defaults()};
	j.options.n_ctx = 256;
	j.options.schedule.n_steps = 500;
	const rv_option *tables[] = {options, rv_contrastive_option_table, rv_trainer_option_table,
	                             NULL};
	void *values[] = {&j.args, &j.plan, &j.options};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (!j.args.init || !*j.args.init)
		return rv_cli_usage(cli, "--init: a model is needed");
	if (!j.args.out || !*j.args.out)
		return rv_cli_usage(cli, "--out: a file is needed");
	if (j.args.data.n + j.args.more.n < 1)
		return rv_cli_usage(cli, "--data or --more: requests are needed");
	rv_cli_hold_signals();
	rv_status st = open_job(&j);
	if (st == RV_OK)
		st = train(&j);
	status = st == RV_OK ? report(&j) : rv_cli_fail(cli);
	close_job(&j);
	return status;
}
