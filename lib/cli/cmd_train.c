/* ruvltra train: a model from token files; train tokenizer and train pack make those. */
#include "cli/cmd_train.h"

#include "base/file.h"
#include "cli/commands.h"
#include "cli/train_job.h"
#include "model/tokenizer_build.h"

#include <stdio.h>
#include <string.h>

/* ---- options ---- */

static const char *const types[] = {"F16", "F32", NULL};

#define AT(field) offsetof(rv_train_args, field)
#define TEXT(option, field, value, about)                                                              \
	{                                                                                              \
		.name = option, .kind = RV_OPT_STRING, .offset = AT(field), .value_name = value,       \
		.help = about                                                                          \
	}
#define NUMBER(option, field, low, high, of, about)                                                    \
	{                                                                                              \
		.name = option, .kind = RV_OPT_INT, .offset = AT(field), .min = low, .max = high,      \
		.unit = of, .help = about                                                              \
	}

static const rv_option options[] = {
        TEXT("data", data, "DIR", "folder of KIND.train.tok and KIND.valid.tok (train pack)"),
        TEXT("mix", mix, "LIST", "KIND=SHARE,...: shares of the sequences; by default as the data is"),
        TEXT("tokenizer", tokenizer, "FILE", "vocabulary; by default that of --init"),
        TEXT("preset", preset, "NAME", "shape of a new model"),
        TEXT("init", init, "MODEL", "begin with this model's weights"),
        TEXT("distill", distill, "MODEL", "teacher: its distribution is learned too"),
        TEXT("out", out, "FILE", "model (or LoRA adapter) to write"),
        TEXT("name", name, "NAME", "general.name of the model"),
        {.name = "type",
         .kind = RV_OPT_ENUM,
         .offset = AT(type),
         .choices = types,
         .help = "of its matrices"},
        NUMBER("batch", n_batch, 1, 1 << 20, "sequences", "of a step"),
        NUMBER("tokens", n_tokens, 0, 9e15, "tokens", "instead of --steps: as many steps as hold them"),
        NUMBER("long-ctx", long_ctx, 0, 1 << 20, "tokens",
               "length of the sequences in the last steps; 0: as before"),
        NUMBER("long-steps", long_steps, 0, 1e9, "steps",
               "of those steps; each sees as many tokens as before"),
        TEXT("long-mix", long_mix, "LIST", "their shares; by default as --mix"),
        TEXT("emphasis", emphasis, "LIST",
             "TEXT=WEIGHT,...: what a line says after TEXT weighs so much in the loss"),
        TEXT("checkpoint", checkpoint, "FILE", "where to save; by default OUT.ckpt"),
        {.name = "fresh",
         .kind = RV_OPT_FLAG,
         .offset = AT(fresh),
         .help = "begin anew although there is a checkpoint"},
        {.name = "resume",
         .kind = RV_OPT_FLAG,
         .offset = AT(resume),
         .help = "fail when there is no checkpoint (one that fits is continued anyway)"},
        NUMBER("save-every", save_every, 0, 1e9, "steps", "0: at the end only"),
        {.name = "minutes",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(minutes),
         .max = 1e6,
         .help = "stop after that time, with a checkpoint; 0: no limit"},
        NUMBER("valid-every", valid_every, 0, 1e9, "steps", "validate on held-out text; 0: at the end"),
        NUMBER("valid-windows", n_valid_windows, 0, 1e6, "sequences", "of each kind"),
        {.name = "max-loss",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(max_loss),
         .max = 1e6,
         .unit = "nats",
         .help = "fail when the mean held-out loss ends above; 0: any"},
        {.name = "sample",
         .kind = RV_OPT_LIST,
         .offset = AT(samples),
         .value_name = "TEXT",
         .help = "continue this at every validation"},
        NUMBER("sample-tokens", sample_tokens, 1, 4096, "tokens", "of a sample"),
        TEXT("log", log, "FILE", "HDF5 file of every step (its journal is FILE.journal)"),
        {0},
};

static rv_train_args defaults(void) {
	return (rv_train_args){.n_batch = 32,
	                       .save_every = 200,
	                       .valid_every = 200,
	                       .n_valid_windows = 8,
	                       .sample_tokens = 48};
}

/* ---- the model ---- */

static int check(const rv_cli *cli, const rv_train_args *a) {
	if (!a->data || !*a->data)
		return rv_cli_usage(cli, "--data: a folder of token files is needed");
	if (!a->out || !*a->out)
		return rv_cli_usage(cli, "--out: a file is needed");
	if (!a->preset == !a->init)
		return rv_cli_usage(cli, "--preset or --init: one of them is needed");
	if (a->preset && !a->tokenizer)
		return rv_cli_usage(cli, "--tokenizer: a file is needed with --preset");
	if (!a->long_ctx != !a->long_steps)
		return rv_cli_usage(cli, "--long-ctx and --long-steps: both are needed");
	if (a->fresh && a->resume)
		return rv_cli_usage(cli, "--fresh and --resume: only one of them");
	const char *inputs[] = {a->init, a->distill, a->tokenizer};
	for (size_t i = 0; i < 3; i++)
		if (inputs[i] && rv_file_same(inputs[i], a->out))
			return rv_cli_usage(cli, "--out: %s is an input itself", a->out);
	const char *outputs[] = {a->out, a->checkpoint, a->log};
	for (size_t i = 0; i < 3; i++)
		for (size_t k = i + 1; k < 3; k++)
			if (outputs[i] && outputs[k] && strcmp(outputs[i], outputs[k]) == 0)
				return rv_cli_usage(cli,
				                    "--out, --checkpoint, --log: %s is given twice",
				                    outputs[i]);
	return RV_CLI_GO;
}

static rv_status train(rv_train_job *job, rv_train_end *end) {
	RV_TRY(rv_cli_check_output(job->args.out));
	RV_TRY(rv_train_job_open(job));
	RV_TRY(rv_train_log_begin(job));
	rv_status st = rv_train_run_go(&job->run, end);
	if (st == RV_OK || st == RV_ERR_CANCELLED)
		RV_TRY(rv_train_log_end(job));
	RV_TRY(st);
	int has_turns = rv_tokenizer_find(job->tokenizer, "<|im_start|>", 12) >= 0;
	const rv_train_export export = {
	        .type = rv_type_by_name(types[job->args.type]),
	        .tokenizer = job->tokenizer,
	        .chat_template = has_turns ? rv_chatml_template : NULL,
	        .name = job->args.name,
	};
	return rv_trainer_export(job->trainer, job->args.out, &export);
}

static int train_model(rv_cli *cli) {
	rv_train_job job = {.cli = cli, .args = defaults(), .options = rv_trainer_defaults()};
	const rv_option *tables[] = {options, rv_trainer_option_table, NULL};
	void *values[] = {&job.args, &job.options};
	int status = rv_cli_parse(cli, tables, values);
	if (status == RV_CLI_GO)
		status = check(cli, &job.args);
	if (status != RV_CLI_GO)
		return status;
	rv_train_end end = RV_TRAIN_FINISHED;
	rv_cli_hold_signals();
	status = train(&job, &end) == RV_OK ? rv_train_report(&job, end) : rv_cli_fail(cli);
	rv_train_job_close(&job);
	return status;
}

/* ---- verbs ---- */

static const rv_command verbs[] = {
        {"train tokenizer", "", 0, 0, rv_cmd_train_tokenizer, "Train a byte-level BPE vocabulary",
         NULL},
        {"train pack", "", 0, 0, rv_cmd_train_pack, "Turn text into token files",
         "Every document is followed by the end token.\n"},
        {"train embedder", "", 0, 1, rv_cmd_train_embedder,
         "Train a model whose pooled states tell requests apart", NULL},
        {"train router", "", 0, 0, rv_cmd_train_router,
         "Train the agent router from labelled requests, and calibrate it", NULL},
        {0},
};

int rv_cmd_train(rv_cli *cli) {
	for (const rv_command *verb = verbs; verb->name; verb++) {
		if (cli->argc < 2 || strcmp(cli->argv[1], strchr(verb->name, ' ') + 1) != 0)
			continue;
		cli->command = verb;
		cli->argc--;
		cli->argv++;
		return verb->run(cli);
	}
	return train_model(cli);
}
