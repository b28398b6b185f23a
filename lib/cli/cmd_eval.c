/* ruvltra eval: a task's questions to a model, or completions made elsewhere to the judge. */
#include "cli/cmd_eval.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/sysinfo.h"
#include "cli/commands.h"
#include "eval/completions.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ALL "all" /* of the tasks */

#define AT(field) offsetof(rv_eval_args, field)
static const rv_option options[] = {
        {.name = "data",
         .kind = RV_OPT_STRING,
         .offset = AT(data),
         .value_name = "DIR",
         .help = "folder of data sets, or of the one task; without it the small sets that ship"},
        {.name = "fewshot",
         .kind = RV_OPT_INT,
         .offset = AT(n_fewshot),
         .min = -1,
         .max = 64,
         .help = "examples before each question; -1: as many as published numbers have"},
        {.name = "limit",
         .kind = RV_OPT_INT,
         .offset = AT(limit),
         .min = 0,
         .max = 1e9,
         .unit = "documents",
         .help = "the first ones of each part (of each subject of mmlu) only; 0: all"},
        {.name = "max-tokens",
         .kind = RV_OPT_INT,
         .offset = AT(max_tokens),
         .min = 0,
         .max = 1 << 20,
         .help = "longest generated text; 0: the task's own (gsm8k 256, humaneval 1024)"},
        {.name = "samples",
         .kind = RV_OPT_STRING,
         .offset = AT(samples),
         .value_name = "FILE",
         .help = "write every prompt, reply and verdict (JSON Lines)"},
        {.name = "out",
         .kind = RV_OPT_STRING,
         .offset = AT(out),
         .value_name = "FILE",
         .help = "write the result (JSON)"},
        {.name = "resume",
         .kind = RV_OPT_FLAG,
         .offset = AT(resume),
         .help = "go on with the run whose journal is beside --out (or --samples)"},
        {.name = "force",
         .kind = RV_OPT_FLAG,
         .offset = AT(force),
         .help = "begin anew, over existing files"},
        {.name = "judge",
         .kind = RV_OPT_STRING,
         .offset = AT(judge),
         .value_name = "FILE",
         .help = "humaneval: judge these completions, {\"task_id\", \"completion\"} a line; no model"},
        {.name = "k",
         .kind = RV_OPT_INTS,
         .offset = AT(k),
         .min = 1,
         .max = 1e6,
         .help = "humaneval: pass@k of these"},
        {.name = "allow-unsandboxed",
         .kind = RV_OPT_FLAG,
         .offset = AT(allow_unsandboxed),
         .help = "humaneval: run programs also where not every layer of isolation can be had"},
        {0},
};
#undef AT

/* ---- the command line ---- */

static int unknown_task(const rv_cli *cli, const char *name) {
	char list[512] = "";
	for (int i = 0; rv_eval_tasks[i] != NULL; i++) {
		size_t n = strlen(list);
		snprintf(list + n, sizeof list - n, "%s%s", i > 0 ? ", " : "", rv_eval_tasks[i]->name);
	}
	if (name == NULL)
		return rv_cli_usage(cli, "TASK: none given; known are %s, and " ALL, list);
	return rv_cli_usage(cli, "TASK '%.64s': not known; known are %s, and " ALL, name, list);
}

int rv_eval_check_line(const rv_eval_work *w) {
	const rv_eval_args *a = &w->args;
	const rv_cli *cli = w->cli;
	const struct {
		int wrong;
		const char *what;
	} rules[] = {
	        {a->data != NULL && !*a->data, "--data: its name is empty"},
	        {a->samples != NULL && !*a->samples, "--samples: its name is empty"},
	        {a->out != NULL && !*a->out, "--out: its name is empty"},
	        {a->judge != NULL && !*a->judge, "--judge: its name is empty"},
	        {a->resume && a->force, "--resume, --force: only one of them"},
	        {a->resume && a->out == NULL && a->samples == NULL,
	         "--resume: the journal is beside --out or --samples, and neither is given"},
	        {a->judge != NULL && w->task->kind != RV_EVAL_CODE,
	         "--judge: only humaneval has completions to judge"},
	        {a->judge != NULL && a->resume, "--judge, --resume: judging begins anew"},
	        {a->judge != NULL && w->load.model != NULL, "--judge, --model: only one of them"},
	        {a->k.n > 0 && w->task->kind != RV_EVAL_CODE, "--k: only humaneval has pass@k"},
	        {a->k.n > RV_EVAL_MAX_METRICS, "--k: at most 8 values"},
	        {a->k.n > 0 && a->judge == NULL && (a->k.n > 1 || a->k.v[0] != 1),
	         "--k: a model gives one completion a task; more need --judge"},
	        {w->task->fixed_fewshot && a->n_fewshot >= 0 && a->n_fewshot != w->task->n_fewshot,
	         "--fewshot: the task has a fixed prompt, and no other"},
	        {a->allow_unsandboxed && w->task->kind != RV_EVAL_CODE && w->whole == NULL,
	         "--allow-unsandboxed: the task runs no programs"},
	        {a->out != NULL && a->samples != NULL && strcmp(a->out, a->samples) == 0,
	         "--out, --samples: the same file"},
	};
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (rules[i].wrong)
			return rv_cli_usage(cli, "%s", rules[i].what);
	return RV_CLI_GO;
}

/* ---- files, before anything is loaded ---- */

/* The small sets: beside an installed program, or in the source tree it was built in. */
static rv_status find_data(rv_eval_work *w) {
	char set[256], path[sizeof w->data];
	if (w->args.data != NULL) {
		snprintf(w->data, sizeof w->data, "%s", w->args.data);
		return strlen(w->args.data) < sizeof w->data
		               ? RV_OK
		               : rv_fail(RV_ERR_INVALID, "--data: its name is too long");
	}
	snprintf(set, sizeof set, "mini-%.200s", w->task->folder);
	if (rv_cli_shipped(set, path, sizeof path) != RV_OK &&
	    rv_cli_shipped(w->task->folder, path, sizeof path) != RV_OK)
		return rv_fail(RV_ERR_NOT_FOUND,
		               "--data: not given, and no set of %s ships with this program",
		               w->task->name);
	*strrchr(path, '/') = '\0'; /* the folder that holds the set */
	snprintf(w->data, sizeof w->data, "%s", path);
	return RV_OK;
}

/* A file, as opposed to a terminal, a pipe or nothing yet. */
static int is_file(const char *path) {
	struct stat st;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* An output must be writable, no input, and not there yet unless the user says what to do with it. */
static rv_status check_output(const rv_eval_work *w, const char *path, const char *what) {
	const char *const inputs[] = {w->load.model, w->args.judge};
	if (path == NULL)
		return RV_OK;
	for (int i = 0; i < 2; i++)
		if (inputs[i] != NULL && rv_file_same(path, inputs[i]))
			return rv_fail(RV_ERR_INVALID, "%s %s: is also an input", what, path);
	RV_TRY(rv_cli_check_output(path));
	if (!w->args.resume && !w->args.force && is_file(path))
		return rv_fail(RV_ERR_INVALID,
		               "%s %s: is there already (--resume goes on, --force begins anew)", what,
		               path);
	return RV_OK;
}

rv_status rv_eval_check_files(rv_eval_work *w) {
	const char *beside = w->args.out != NULL ? w->args.out : w->args.samples;
	RV_TRY(check_output(w, w->args.out, "--out"));
	RV_TRY(check_output(w, w->args.samples, "--samples"));
	if (w->args.out != NULL && w->args.samples != NULL &&
	    rv_file_same(w->args.out, w->args.samples))
		return rv_fail(RV_ERR_INVALID, "--out, --samples: the same file");
	if (beside == NULL || w->args.judge != NULL || (access(beside, F_OK) == 0 && !is_file(beside)))
		return RV_OK; /* nothing to resume for, or nothing to be beside of */
	const char *dot = w->whole != NULL ? "." : "", *name = w->whole != NULL ? w->task->name : "";
	size_t room = strlen(beside) + strlen(name) + sizeof "..journal";
	RV_TRY(rv_alloc((void **)&w->journal, room, 1, "path"));
	snprintf(w->journal, room, "%s%s%s.journal", beside, dot, name);
	if (w->args.resume && access(beside, F_OK) == 0 && access(w->journal, F_OK) != 0)
		return rv_fail(RV_ERR_NOT_FOUND,
		               "--resume: %s is there, but %s is not (--force begins anew)", beside,
		               w->journal);
	return check_output(w, w->journal, "journal");
}

rv_status rv_eval_read_data(rv_eval_work *w) {
	RV_TRY(find_data(w));
	const rv_eval_read_options o = {.data = w->data,
	                                .n_fewshot = w->args.n_fewshot,
	                                .limit = w->args.limit,
	                                .max_tokens = w->args.max_tokens,
	                                .k = w->args.k.v,
	                                .n_k = w->args.k.n};
	RV_TRY(rv_eval_set_read(&w->set, w->task, &o));
	RV_TRY(RV_ALLOC(&w->replies, w->set->n_docs, "replies"));
	return w->args.judge != NULL
	               ? rv_eval_read_completions(w->set, w->args.judge, w->replies, &w->n_skipped)
	               : RV_OK;
}

rv_status rv_eval_check_sandbox(rv_eval_work *w) {
	rv_judge_options *judge = &w->answerer.judge;
	rv_sandbox *sandbox;
	*judge = rv_judge_defaults();
	judge->workers = (int)w->cli->common.threads;
	judge->sandbox.allow_partial = w->args.allow_unsandboxed;
	judge->cancelled = rv_cli_signal;
	if (w->task->kind != RV_EVAL_CODE)
		return RV_OK;
	RV_TRY(rv_sandbox_open(&sandbox, &judge->sandbox));
	rv_sandbox_close(sandbox);
	return RV_OK;
}

/* ---- the model ---- */

/* Where a task's texts leave no room for its prompts, they get half of the context; the result says so.
 * (The harness refuses such a model.) */
void rv_eval_shorten_texts(rv_eval_work *w) {
	if (w->answerer.scorer == NULL)
		return;
	int64_t room = rv_scorer_max_length(w->answerer.scorer);
	if (w->args.max_tokens > 0 || w->set->max_tokens < room)
		return;
	w->set->max_tokens = room > 1 ? room / 2 : 1;
	w->shortened = 1;
}

int rv_eval_load_model(rv_eval_work *w) {
	int status = rv_cli_open_load(w->cli, &w->load, &w->model);
	if (status != RV_CLI_GO)
		return status;
	rv_scorer_options o = rv_scorer_defaults();
	o.context = rv_cli_context(w->cli, &w->load, w->model);
	o.max_length = w->load.n_ctx;
	if (rv_model_sha256(w->model, w->model_sha256) != RV_OK)
		return rv_cli_fail(w->cli);
	if (rv_scorer_create(&w->answerer.scorer, w->model, &o) != RV_OK) {
		rv_fail_in(RV_ERR_INVALID, rv_model_path(w->model));
		return rv_cli_fail(w->cli);
	}
	rv_context_set_cancel(rv_scorer_context(w->answerer.scorer), rv_cli_signal, NULL);
	return RV_CLI_GO;
}

/* ---- the run ---- */

/* The share of the whole that the present task's documents make, and what is left at the speed so far.
 */
static void add_whole(rv_eval_whole *all, double weight, const rv_eval_progress *at,
                      rv_sweep_progress *p) {
	double share = at->total > 0 ? (double)at->done / (double)at->total : 1;
	if (strcmp(at->what, "documents") != 0) /* programs come after all of its documents */
		share = 1;
	else if (!all->begun)
		all->weight_resumed += weight * share;
	all->begun = 1;
	double now = all->weight_before + weight * share, done = now - all->weight_resumed;
	p->done = (int)(all->n_before + (share < 1 ? at->done : 0));
	p->total = (int)all->n_all;
	p->elapsed_s = 1e-9 * (double)(rv_now_ns() - all->start_ns);
	p->left_s = done > 0 ? p->elapsed_s / done * (all->weight_all - now) : NAN;
}

static void show_progress(void *user, const rv_eval_progress *at) {
	rv_eval_work *w = user;
	rv_sweep_progress p = {.done = (int)at->done,
	                       .total = (int)at->total,
	                       .elapsed_s = at->elapsed_s,
	                       .left_s = at->left_s,
	                       .label = ""};
	w->progress.unit = at->what;
	if (w->whole != NULL) {
		add_whole(w->whole, rv_eval_weight(w), at, &p);
		w->progress.unit = "documents";
		p.label = w->task->name;
	}
	if (at->total > at->done) /* the last one is followed by the result itself */
		rv_progress_show(&w->progress, &p);
}

static int64_t count_done(const rv_eval_work *w) {
	int64_t n = 0;
	for (int64_t i = 0; i < w->set->n_docs; i++)
		n += w->replies[i].done != 0;
	return n;
}

int rv_eval_ask(rv_eval_work *w) {
	rv_eval_shorten_texts(w);
	json_t *identity = rv_eval_identity(w);
	const rv_eval_run_options o = {.journal = w->journal,
	                               .identity = identity,
	                               .cancelled = rv_cli_signal,
	                               .progress = show_progress,
	                               .user = w};
	const rv_eval_backend backend = rv_eval_backend_of(&w->answerer);
	if (w->args.force && w->journal != NULL)
		unlink(w->journal);
	if (w->whole == NULL)
		rv_progress_init(&w->progress, stderr, w->task->name);
	if (w->answerer.scorer != NULL)
		w->before = rv_scorer_get_counts(w->answerer.scorer);
	rv_status status = rv_eval_run(w->set, &backend, &o, w->replies, &w->info);
	if (w->answerer.scorer != NULL)
		w->counts = rv_scorer_get_counts(w->answerer.scorer);
	rv_progress_clear(&w->progress);
	json_decref(identity);
	if (status == RV_ERR_CANCELLED && rv_cli_signal(NULL) && w->journal != NULL)
		fprintf(stderr,
		        "ruvltra: eval: interrupted; %lld of %lld documents are in %s, --resume "
		        "goes on\n",
		        (long long)count_done(w), (long long)w->set->n_docs, w->journal);
	return status == RV_OK ? RV_CLI_GO : rv_cli_fail(w->cli);
}

void rv_eval_work_clear(rv_eval_work *w) {
	for (int64_t i = 0; w->replies != NULL && i < w->set->n_docs; i++)
		rv_eval_reply_clear(&w->replies[i]);
	rv_free(w->replies);
	rv_eval_set_free(w->set);
	rv_free(w->journal);
}

static int work_on(rv_eval_work *w) {
	int status = rv_eval_check_line(w);
	if (status != RV_CLI_GO)
		return status;
	if (rv_eval_check_files(w) != RV_OK || rv_eval_read_data(w) != RV_OK ||
	    rv_eval_check_sandbox(w) != RV_OK)
		return rv_cli_fail(w->cli);
	if (w->args.judge == NULL)
		status = rv_eval_load_model(w);
	if (status == RV_CLI_GO)
		status = rv_eval_ask(w);
	return status == RV_CLI_GO ? rv_eval_finish(w) : status;
}

static const rv_command draft_verb = {
        .name = "eval draft",
        .words = "",
        .run = rv_cmd_eval_draft,
        .summary = "How often are a draft model's greedy tokens the target's?",
        .notes =
                "Simulates speculative decoding at temperature 0, position by position on a text, and\n"
                "times a step of each model in turns.\n"};

static int run_verb(rv_cli *cli) {
	cli->command = &draft_verb;
	cli->argc--;
	cli->argv++;
	return draft_verb.run(cli);
}

int rv_cmd_eval(rv_cli *cli) {
	if (cli->argc > 1 && strcmp(cli->argv[1], "draft") == 0)
		return run_verb(cli);
	struct timespec now;
	rv_eval_work w = {.cli = cli, .load = rv_cli_model_defaults(), .args = {.n_fewshot = -1}};
	const rv_option *tables[] = {options, rv_cli_model_options, rv_cli_context_options, NULL};
	void *values[] = {&w.args, &w.load, &w.load};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	const char *name = cli->n_words > 0 ? cli->words[0] : NULL;
	int all = name != NULL && strcmp(name, ALL) == 0;
	w.task = name != NULL ? rv_eval_task_by_name(name) : NULL;
	if (w.task == NULL && !all)
		return unknown_task(cli, name);
	rv_cli_hold_signals();
	clock_gettime(CLOCK_REALTIME, &now);
	w.start_unix_s = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
	w.start_ns = rv_now_ns();
	if (all)
		return rv_eval_all(&w);
	status = work_on(&w);
	rv_eval_work_clear(&w);
	rv_scorer_destroy(w.answerer.scorer);
	rv_cli_close_load(&w.load, w.model);
	return status;
}
