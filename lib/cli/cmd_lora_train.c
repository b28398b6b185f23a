/* ruvltra lora train: an adapter from a text, a token file or a folder of token files. */
#include "base/file.h"
#include "base/mem.h"
#include "cli/cmd_lora.h"
#include "cli/train_job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEFAULT_EPOCHS = 3, DEFAULT_STEPS = 50 };

typedef struct lora_args {
	const char *data, *out, *name, *mix, *emphasis, *checkpoint, *targets, *layers;
	int type;
	int64_t rank, n_ctx, n_batch, n_steps, warmup, hold_out;
	double alpha, epochs, lr, lr_final, minutes;
} lora_args;

static const char *const types[] = {"F16", "F32", NULL};

#define AT(field) offsetof(lora_args, field)
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
#define REAL(option, field, low, high, of, about)                                                      \
	{                                                                                              \
		.name = option, .kind = RV_OPT_DOUBLE, .offset = AT(field), .min = low, .max = high,   \
		.unit = of, .help = about                                                              \
	}

static const rv_option options[] = {
        TEXT("data", data, "FILE|DIR",
             "text (a line <|endoftext|> separates documents), a .tok file, or a folder of them"),
        TEXT("out", out, "FILE", "adapter to write"),
        TEXT("name", name, "NAME", "general.name of the adapter"),
        {.name = "type",
         .kind = RV_OPT_ENUM,
         .offset = AT(type),
         .choices = types,
         .help = "of its factors"},
        NUMBER("rank", rank, 1, 4096, NULL, "of the adapter"),
        REAL("alpha", alpha, 1e-6, 1e6, NULL, "it is scaled by alpha / rank"),
        TEXT("targets", targets, "LIST", "q,k,v,o,gate,up,down or some of them; all unless given"),
        TEXT("layers", layers, "LIST", "from 0, as 2,4,6; all unless given"),
        NUMBER("n-ctx", n_ctx, 2, 1 << 20, "tokens",
               "length of a sequence; a shorter text makes it shorter"),
        NUMBER("batch", n_batch, 1, 1 << 20, "sequences", "of a step"),
        REAL("epochs", epochs, 0, 1e6, NULL,
             "how often the text is read; 0: 3 times, more in less than 50 steps"),
        NUMBER("steps", n_steps, 0, 1e9, "steps", "instead of --epochs; 0: by these"),
        REAL("lr", lr, 1e-12, 10, NULL, "largest learning rate, after the warm-up"),
        REAL("lr-final", lr_final, 0, 1, NULL, "share of it that is left at the end (cosine)"),
        NUMBER("warmup", warmup, 0, 1e9, "steps", "of warm-up, at most a tenth of all"),
        NUMBER("hold-out", hold_out, 0, 1e9, "documents",
               "of a text every N-th is kept for validation; 0: none"),
        TEXT("mix", mix, "LIST", "of a folder: KIND=SHARE,..."),
        TEXT("emphasis", emphasis, "LIST",
             "TEXT=WEIGHT,...: what a line says after TEXT weighs so much in the loss"),
        TEXT("checkpoint", checkpoint, "FILE", "save there and continue from there; none unless given"),
        REAL("minutes", minutes, 0, 1e6, NULL, "stop after that time; 0: no limit"),
        {0},
};
#undef AT

typedef struct training {
	rv_train_job job;
	lora_args args;
	char init[4096], dir[4096], data[4096], checkpoint[4200];
} training;

static int ends_with(const char *path, const char *end) {
	const size_t n = strlen(path), m = strlen(end);
	return n > m && strcmp(path + n - m, end) == 0;
}

/* ---- the data as a folder of token files ---- */

static rv_status make_dir(training *t) {
	const char *tmp = getenv("TMPDIR");
	if (snprintf(t->dir, sizeof t->dir, "%.3000s/ruvltra-lora-XXXXXX", tmp ? tmp : "/tmp") >=
	            (int)sizeof t->dir ||
	    !mkdtemp(t->dir)) {
		t->dir[0] = '\0';
		return rv_fail_errno(RV_ERR_IO, "%.1000s: a temporary folder", tmp ? tmp : "/tmp");
	}
	return RV_OK;
}

static void remove_dir(const training *t) {
	static const char *const names[] = {"data" RV_TRAIN_SUFFIX, "data" RV_VALID_SUFFIX,
	                                    "checkpoint"};
	char path[4200];
	for (size_t i = 0; i < sizeof names / sizeof *names && t->dir[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", t->dir, names[i]);
		unlink(path);
	}
	if (t->dir[0])
		rmdir(t->dir);
}

static rv_status pack(const training *t, const rv_tokenizer *tok) {
	char train[4200], valid[4200];
	rv_pack_stats stats;
	rv_pack_options o = {
	        .tokenizer = tok, .hold_out = t->args.hold_out, .cancelled = rv_cli_signal};
	snprintf(train, sizeof train, "%s/data" RV_TRAIN_SUFFIX, t->dir);
	snprintf(valid, sizeof valid, "%s/data" RV_VALID_SUFFIX, t->dir);
	RV_TRY(rv_pack_text(t->args.data, "data", train, o.hold_out ? valid : NULL, &o, &stats));
	if (o.hold_out && stats.n_held_out == 0)
		unlink(valid);
	return RV_OK;
}

/* A text is packed, a token file linked, into the temporary folder. */
static rv_status prepare_data(training *t, const rv_tokenizer *tok) {
	struct stat st;
	char link[4200], real[4096];
	if (stat(t->args.data, &st) != 0)
		return rv_fail_errno(RV_ERR_IO, "%s", t->args.data);
	if (S_ISDIR(st.st_mode)) {
		snprintf(t->data, sizeof t->data, "%s", t->args.data);
		return RV_OK;
	}
	snprintf(t->data, sizeof t->data, "%s", t->dir);
	if (!ends_with(t->args.data, ".tok"))
		return pack(t, tok);
	snprintf(link, sizeof link, "%s/data" RV_TRAIN_SUFFIX, t->dir);
	if (!realpath(t->args.data, real) || symlink(real, link) != 0)
		return rv_fail_errno(RV_ERR_IO, "%s", t->args.data);
	return RV_OK;
}

/* Sequences no longer than the shortest kind of text, and as many steps as the epochs take. */
static rv_status plan(training *t, const rv_tokenizer *tok) {
	rv_train_set set = {0};
	int64_t n_tokens = 0, least = INT64_MAX;
	RV_TRY(rv_train_set_open(&set, t->data, tok));
	for (int i = 0; i < set.n; i++) {
		const int64_t n = rv_token_file_info(set.train[i])->n_tokens;
		n_tokens += n;
		least = n < least ? n : least;
	}
	rv_train_set_close(&set);
	lora_args *a = &t->args;
	if (least < 3)
		return rv_fail(RV_ERR_INVALID, "%s: %lld tokens are no sequence", a->data,
		               (long long)(least == INT64_MAX ? 0 : least));
	if (a->n_ctx > least - 1)
		a->n_ctx = least - 1;
	const double epochs = a->epochs > 0 ? a->epochs : DEFAULT_EPOCHS;
	const double wanted = epochs * (double)n_tokens / (double)(a->n_batch * a->n_ctx);
	const double least_steps = a->epochs > 0 ? 1 : DEFAULT_STEPS;
	if (!a->n_steps)
		a->n_steps = (int64_t)(wanted < least_steps ? least_steps : wanted + 0.5);
	if (a->warmup > a->n_steps / 10)
		a->warmup = a->n_steps / 10;
	return RV_OK;
}

/* ---- the run ---- */

static void fill_job(training *t) {
	const lora_args *a = &t->args;
	rv_trainer_options *o = &t->job.options;
	t->job.args = (rv_train_args){.data = t->data,
	                              .init = t->init,
	                              .out = a->out,
	                              .name = a->name,
	                              .mix = a->mix,
	                              .emphasis = a->emphasis,
	                              .checkpoint = t->checkpoint,
	                              .fresh = !a->checkpoint,
	                              .n_batch = a->n_batch,
	                              .n_valid_windows = 8,
	                              .valid_every = a->n_steps / 4,
	                              .save_every = a->checkpoint ? 100 : 0,
	                              .minutes = a->minutes,
	                              .sample_tokens = 1};
	*o = rv_trainer_defaults();
	o->n_ctx = a->n_ctx;
	o->lora_rank = a->rank;
	o->lora_alpha = a->alpha;
	o->lora_targets = a->targets;
	o->lora_layers = a->layers;
	o->n_threads = t->job.cli->common.threads;
	o->schedule.kind = RV_SCHEDULE_COSINE;
	o->schedule.peak = a->lr;
	o->schedule.final_fraction = a->lr_final;
	o->schedule.n_warmup = a->warmup;
	o->schedule.n_steps = a->n_steps;
}

static rv_status train(training *t, const char *model, rv_train_end *end) {
	rv_model *m;
	RV_TRY(rv_cli_check_output(t->args.out));
	RV_TRY(rv_cli_model_path(model, t->init, sizeof t->init));
	RV_TRY(make_dir(t));
	if (t->args.checkpoint)
		snprintf(t->checkpoint, sizeof t->checkpoint, "%s", t->args.checkpoint);
	else
		snprintf(t->checkpoint, sizeof t->checkpoint, "%s/checkpoint", t->dir);
	RV_TRY(rv_model_open(&m, t->init, NULL));
	rv_status st = RV_OK;
	const rv_tokenizer *tok = rv_model_tokenizer(m);
	if (!tok)
		st = rv_fail(RV_ERR_MISMATCH, "%s: has no tokenizer", t->init);
	if (st == RV_OK)
		st = prepare_data(t, tok);
	if (st == RV_OK)
		st = plan(t, tok);
	rv_model_release(m);
	RV_TRY(st);
	fill_job(t);
	RV_TRY(rv_train_job_open(&t->job));
	RV_TRY(rv_train_log_begin(&t->job));
	RV_TRY(rv_train_run_go(&t->job.run, end));
	const rv_train_export export = {.type = rv_type_by_name(types[t->args.type]),
	                                .name = t->args.name};
	return rv_trainer_export(t->job.trainer, t->args.out, &export);
}

int rv_cmd_lora_train(rv_cli *cli) {
	training t = {.args = {.rank = 16,
	                       .alpha = 32,
	                       .n_ctx = 512,
	                       .n_batch = 8,
	                       .lr = 2e-3,
	                       .lr_final = 0.02,
	                       .warmup = 20,
	                       .hold_out = 20}};
	rv_cli_model model = rv_cli_model_defaults();
	const rv_option *tables[] = {rv_cli_model_options, options, NULL};
	void *values[] = {&model, &t.args};
	rv_train_end end = RV_TRAIN_FINISHED;
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (!t.args.data || !*t.args.data)
		return rv_cli_usage(cli, "--data: a text, a token file or a folder of them is needed");
	if (!t.args.out || !*t.args.out)
		return rv_cli_usage(cli, "--out: a file is needed");
	if (rv_file_same(t.args.data, t.args.out))
		return rv_cli_usage(cli, "--out: %s is the input itself", t.args.out);
	t.job.cli = cli;
	rv_cli_hold_signals();
	status =
	        train(&t, model.model, &end) == RV_OK ? rv_train_report(&t.job, end) : rv_cli_fail(cli);
	rv_train_job_close(&t.job);
	remove_dir(&t);
	return status;
}
