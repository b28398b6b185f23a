/* The program around an experiment: options, root folder, signals, files. Like lib/cli/ this is a front
 * end: the only part of the lab that prints. */
#include "lab/experiment.h"

#include "base/file.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/sysinfo.h"
#include "lab/h5log.h"
#include "lab/h5probe.h"
#include "lab/progress.h"
#include "lab/provenance.h"
#include "lab/sweep.h"

#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const rv_profile_names[RV_PROFILE_COUNT + 1] = {"smoke", "quick", "full", NULL};

/* ---- options ---- */

typedef struct options {
	int profile;
	const char *model, *out;
	int fresh, list, json, help;
	rv_option_list only;
	int64_t seed, n_threads;
	double limit;
	int64_t repetitions;
} options;

static const rv_option table[] = {
        {.name = "profile",
         .kind = RV_OPT_ENUM,
         .offset = offsetof(options, profile),
         .choices = rv_profile_names,
         .help = "how much to measure"},
        {.name = "model",
         .letter = 'm',
         .kind = RV_OPT_STRING,
         .offset = offsetof(options, model),
         .value_name = "FILE",
         .help = "GGUF model to measure"},
        {.name = "out",
         .kind = RV_OPT_STRING,
         .offset = offsetof(options, out),
         .value_name = "F.h5",
         .help = "HDF5 file to write (journal and tables go beside it)"},
        {.name = "fresh",
         .kind = RV_OPT_FLAG,
         .offset = offsetof(options, fresh),
         .help = "begin anew instead of resuming; the old journal is kept aside"},
        {.name = "list",
         .kind = RV_OPT_FLAG,
         .offset = offsetof(options, list),
         .help = "list the points and exit"},
        {.name = "only",
         .kind = RV_OPT_LIST,
         .offset = offsetof(options, only),
         .value_name = "K=V",
         .help = "measure only points with this parameter value"},
        {.name = "seed",
         .kind = RV_OPT_INT,
         .offset = offsetof(options, seed),
         .min = 0,
         .max = 9007199254740992.0,
         .help = "of everything random"},
        {.name = "threads",
         .letter = 't',
         .kind = RV_OPT_INT,
         .offset = offsetof(options, n_threads),
         .min = 0,
         .max = RV_MAX_THREADS,
         .help = "threads; 0: all this process may use"},
        {.name = "limit",
         .kind = RV_OPT_DOUBLE,
         .offset = offsetof(options, limit),
         .min = 0,
         .max = 1e6,
         .value_name = "S",
         .help = "seconds without progress until a fixture is given up; 0: by the budget"},
        {.name = "repetitions",
         .kind = RV_OPT_INT,
         .offset = offsetof(options, repetitions),
         .min = 0,
         .max = 1e6,
         .help = "stop when every point has so many, those of earlier runs included; 0: by the "
                 "profile"},
        {.name = "json",
         .kind = RV_OPT_FLAG,
         .offset = offsetof(options, json),
         .help = "print the results as JSON on standard output"},
        {.name = "help",
         .letter = 'h',
         .kind = RV_OPT_FLAG,
         .offset = offsetof(options, help),
         .help = "this text"},
        {.name = NULL},
};

/* ---- signals ---- */

/* The one piece of state a signal handler can reach; read through config.cancelled. */
static volatile sig_atomic_t caught_signal;

static void on_signal(int signal_number) {
	caught_signal = signal_number;
}

static int was_cancelled(void *user) {
	(void)user;
	return caught_signal != 0;
}

static void install_signals(void) {
	/* a second signal of a kind ends the process at once */
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
		sigaction(signals[i], &action, NULL);
	/* a file size limit is a failed write, to be reported like a full disk */
	signal(SIGXFSZ, SIG_IGN);
}

/* ---- one run of the program ---- */

typedef struct program {
	const rv_experiment *exp;
	const char *name; /* of argv[0] */
	int argc;
	char **argv;
	options opt;
	int64_t start_ns;
	char root[PATH_MAX];
	char out[PATH_MAX], journal_path[PATH_MAX], json_path[PATH_MAX], tsv_path[PATH_MAX];
	rv_run_config config;
	rv_point *points;
	int n_points;
	char *identity;
	int lock;
	rv_journal *journal;
	rv_results results;
	rv_documented documented;
	rv_progress progress;
} program;

static int is_root(const char *dir) {
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/datasets/documented", dir);
	return n < (int)sizeof path && access(path, R_OK | X_OK) == 0;
}

/* The project's folder: the working directory, or one above the program. */
static rv_status find_root(char root[PATH_MAX]) {
	if (is_root(".")) {
		memcpy(root, ".", 2);
		return RV_OK;
	}
	ssize_t n = readlink("/proc/self/exe", root, PATH_MAX - 1);
	root[n > 0 ? n : 0] = 0;
	for (char *slash; (slash = strrchr(root, '/')) != NULL;) {
		*slash = 0;
		if (root[0] != 0 && is_root(root))
			return RV_OK;
	}
	return rv_fail(RV_ERR_NOT_FOUND, "datasets/documented: not here nor above the program");
}

static rv_status format_path(char out[PATH_MAX], const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));
static rv_status format_path(char out[PATH_MAX], const char *fmt, ...) {
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(out, PATH_MAX, fmt, args);
	va_end(args);
	return n >= 0 && n < PATH_MAX ? RV_OK : rv_fail(RV_ERR_LIMIT, "%.200s...: path too long", out);
}

static rv_status check_out(const char *out) {
	const char *slash = strrchr(out, '/');
	size_t n = strlen(slash != NULL ? slash + 1 : out);
	if (n <= 3 || n > NAME_MAX - 40 || strcmp(out + strlen(out) - 3, ".h5") != 0)
		return rv_fail(RV_ERR_INVALID, "--out %.200s: expected a file name ending in .h5", out);
	return RV_OK;
}

/* Folder and stem of the .h5 give the names of everything beside it. */
static rv_status name_files(program *p) {
	char dir[PATH_MAX], stem[NAME_MAX + 1], hex[65];
	if (p->opt.out != NULL)
		RV_TRY(format_path(p->out, "%s", p->opt.out));
	else
		RV_TRY(format_path(p->out, "%s/results/%s.h5", p->root, p->exp->name));
	const char *slash = strrchr(p->out, '/');
	const char *base = slash != NULL ? slash + 1 : p->out;
	RV_TRY(format_path(dir, "%.*s", slash != NULL ? (int)(slash - p->out) + 1 : 2,
	                   slash != NULL ? p->out : "./"));
	size_t n = strlen(base);
	snprintf(stem, sizeof stem, "%.*s", (int)n - 3, base);
	rv_sha256_hex(p->identity, strlen(p->identity), hex);
	char path[PATH_MAX];
	static const char *const folders[] = {"journal", "data"};
	for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
		RV_TRY(format_path(path, "%s%s", dir, folders[i]));
		RV_TRY(rv_mkdirs(path));
	}
	RV_TRY(format_path(path, "%sjournal/%s.lock", dir, stem));
	RV_TRY(rv_lock_take(path, &p->lock));
	RV_TRY(format_path(p->journal_path, "%sjournal/%s-%.16s.journal", dir, stem, hex));
	RV_TRY(format_path(p->json_path, "%sdata/%s.json", dir, stem));
	return format_path(p->tsv_path, "%sdata/%s.tsv", dir, stem);
}

/* Moves the journal of an earlier run of the same sweep aside. */
static rv_status set_aside(const program *p) {
	char utc[32], aside[PATH_MAX];
	rv_utc_now(utc);
	RV_TRY(format_path(aside, "%s.%s", p->journal_path, utc));
	if (rename(p->journal_path, aside) != 0 && errno != ENOENT)
		return rv_fail_errno(RV_ERR_IO, "%s: setting aside", p->journal_path);
	return RV_OK;
}

/* A torn file is made again from the journal; anything else that is not this sweep's stays. */
static rv_status make_way(const program *p) {
	char aside[PATH_MAX];
	RV_TRY(rv_h5_make_way(p->out, p->exp->id, aside, sizeof aside));
	if (aside[0] != 0)
		rv_logf(&p->config.log, RV_LOG_WARN,
		        "%s: cannot be read; set aside as %s, it is made again from the journal",
		        p->out, aside);
	return RV_OK;
}

static rv_status open_journal(program *p) {
	rv_journal_info info;
	if (p->opt.fresh)
		RV_TRY(set_aside(p));
	RV_TRY(rv_journal_open(&p->journal, p->journal_path, p->identity, rv_results_add, &p->results,
	                       &info));
	if (info.torn_bytes > 0)
		rv_logf(&p->config.log, RV_LOG_WARN, "%s: cut off an unfinished record of %llu bytes",
		        p->journal_path, (unsigned long long)info.torn_bytes);
	if (info.n_records > 0)
		rv_logf(&p->config.log, RV_LOG_INFO, "%s: resuming after %lld records", p->journal_path,
		        (long long)info.n_records);
	return RV_OK;
}

static int is_complete(const program *p) {
	int aim = p->exp->max_n[p->config.profile];
	if (p->opt.repetitions > 0 && p->opt.repetitions < aim)
		aim = (int)p->opt.repetitions;
	for (int i = 0; i < p->n_points; i++) {
		const rv_point_result *r = &p->results.results[i];
		if (r->cannot_run == NULL && r->n_done < aim && r->n_failures < RV_MAX_FAILURES)
			return 0;
	}
	return 1;
}

/* Calibration, the run's record, the measurements. */
static rv_status measure(program *p) {
	if (is_complete(p))
		return RV_OK;
	RV_TRY(rv_calibrate(&p->config.calibration, p->config.threads));
	int run = (int)json_array_size(p->results.runs);
	json_t *provenance = NULL;
	char *text = NULL;
	RV_TRY(rv_provenance_json(p->exp, &p->config, run, p->argc, p->argv, &provenance));
	rv_status status = rv_results_encode_run(provenance, &text);
	json_decref(provenance);
	if (status == RV_OK)
		status = rv_journal_append(p->journal, text, strlen(text));
	if (status == RV_OK)
		status = rv_results_add(&p->results, text, strlen(text));
	rv_free(text);
	RV_TRY(status);
	const rv_sweep sweep = {.exp = p->exp,
	                        .config = &p->config,
	                        .results = &p->results,
	                        .journal = p->journal,
	                        .run = run,
	                        .start_ns = p->start_ns,
	                        .limit_s = p->opt.limit,
	                        .max_n = (int)p->opt.repetitions,
	                        .progress = rv_progress_show,
	                        .user = &p->progress};
	status = rv_sweep_run(&sweep);
	rv_progress_clear(&p->progress);
	return status;
}

static rv_status write_files(program *p) {
	char bandwidth[PATH_MAX];
	json_t *json = NULL;
	RV_TRY(rv_results_finish(&p->results, p->config.seed,
	                         caught_signal != 0 ? "interrupted" : "budget"));
	RV_TRY(rv_h5log_write(p->out, &p->results, &p->documented));
	RV_TRY(format_path(bandwidth, "%s/datasets/documented/hardware.csv", p->root));
	RV_TRY(rv_results_json(&p->results, &p->documented, bandwidth, &json));
	rv_status status = rv_json_write(p->json_path, json);
	if (status == RV_OK && p->opt.json)
		status = rv_json_write("-", json);
	json_decref(json);
	RV_TRY(status);
	return rv_results_write_tsv(&p->results, p->tsv_path);
}

static int print_summary(const program *p) {
	int n_failed = 0;
	for (int i = 0; i < p->n_points; i++) {
		const rv_point_result *r = &p->results.results[i];
		n_failed += r->status == RV_POINT_FAILED;
		if (r->status != RV_POINT_OK)
			fprintf(stderr, "%s: %s: %s: %s\n", p->name, p->points[i].label,
			        rv_point_status_text(r->status), r->reason);
		if (p->opt.json || r->n_done == 0)
			continue;
		printf("%-28s", p->points[i].label);
		for (int m = 0; m < p->exp->n_metrics; m++) {
			const rv_experiment_metric *metric = &p->exp->metrics[m];
			const rv_summary *s = &r->metrics[m].summary;
			if (metric->hidden || s->n == 0)
				continue;
			printf("  %s ", metric->name);
			printf(metric->format, s->median);
			if (isfinite(s->lo95))
				printf(" [%.4g, %.4g]", s->lo95, s->hi95);
			if (!metric->exact && isfinite(s->lo95))
				printf(" n %lld", (long long)s->n);
		}
		printf("\n");
	}
	fprintf(stderr, "%s: %s in %.1f s\n", p->name, p->out,
	        (double)(rv_now_ns() - p->start_ns) * 1e-9);
	return n_failed;
}

/* A documented row that is judged by one point must not name several of the declared ones. */
static rv_status check_documented(const program *p) {
	const rv_selection all = {0};
	rv_point *points;
	int n;
	RV_TRY(rv_sweep_points(p->exp, RV_PROFILE_FULL, &all, &points, &n));
	rv_status status = RV_OK;
	for (size_t i = 0; status == RV_OK && i < p->documented.n; i++) {
		const rv_documented_row *row = &p->documented.rows[i];
		if (row->point[0] != 0 && row->comparable_reason[0] == 0 &&
		    rv_results_find_metric(p->exp, row->metric) >= 0 &&
		    rv_points_find(points, n, row->point) == RV_SEVERAL_POINTS)
			status = rv_fail(RV_ERR_INVALID,
			                 "datasets/documented/%s: %s of %s: several points are meant",
			                 p->exp->documented, row->metric, row->point);
	}
	rv_free(points);
	return status;
}

static rv_status prepare(program *p) {
	rv_run_config *c = &p->config;
	const rv_threads_options threads = {.n_threads = (int)p->opt.n_threads, .pin = 1};
	char path[PATH_MAX];
	RV_TRY(rv_threads_create(&c->threads, &threads));
	c->n_threads = rv_threads_count(c->threads);
	if (p->exp->documented != NULL) {
		RV_TRY(format_path(path, "%s/datasets/documented/%s", p->root, p->exp->documented));
		RV_TRY(rv_documented_read(&p->documented, path));
		RV_TRY(check_documented(p));
	}
	rv_inputs inputs = {0};
	if (p->exp->prepare != NULL)
		RV_TRY(p->exp->prepare(p->exp, c, &inputs));
	c->inputs = inputs;
	RV_TRY(rv_sweep_identity(p->exp, c, &p->identity));
	rv_sweep_keys(p->exp, p->identity, p->points, p->n_points);
	return rv_results_init(&p->results, p->exp, c, p->points, p->n_points);
}

static void list_points(const program *p) {
	for (int i = 0; i < p->n_points; i++)
		printf("%d\t%s\n", p->points[i].index, p->points[i].label);
}

/* A failure that leaves whole what is in the journal. */
static rv_status fail_resumable(rv_status status) {
	char why[RV_ERROR_MESSAGE_MAX];
	snprintf(why, sizeof why, "%s", rv_error_message());
	return rv_fail(status, "%.800s; what was measured is kept, run again to resume", why);
}

static rv_status run_program(program *p) {
	const rv_selection only = {p->opt.only.items, p->opt.only.n};
	if (p->opt.out != NULL)
		RV_TRY(check_out(p->opt.out));
	RV_TRY(rv_sweep_points(p->exp, p->config.profile, &only, &p->points, &p->n_points));
	if (p->opt.list) {
		list_points(p);
		return RV_OK;
	}
	RV_TRY(find_root(p->root));
	RV_TRY(prepare(p));
	RV_TRY(name_files(p));
	RV_TRY(make_way(p));
	RV_TRY(open_journal(p));
	rv_status measured = measure(p);
	if (measured != RV_OK && measured != RV_ERR_CANCELLED)
		return fail_resumable(measured);
	rv_status written = write_files(p);
	if (written != RV_OK)
		return fail_resumable(written);
	int n_failed = print_summary(p);
	if (measured == RV_ERR_CANCELLED)
		return rv_fail(measured, "interrupted; run again to resume");
	if (n_failed > 0)
		return rv_fail(RV_ERR_NOT_FOUND, "%d of %d points failed", n_failed, p->n_points);
	return RV_OK;
}

static void release(program *p) {
	rv_journal_close(p->journal);
	rv_lock_release(p->lock);
	rv_results_free(&p->results);
	rv_documented_free(&p->documented);
	rv_threads_destroy(p->config.threads);
	rv_free(p->identity);
	rv_free(p->points);
}

static void log_line(void *user, rv_log_level level, const char *line) {
	program *p = user;
	if (level == RV_LOG_DEBUG)
		return;
	rv_progress_clear(&p->progress);
	fprintf(stderr, "%s: %s\n", p->name, line);
}

static rv_status print_help(const program *p, const rv_option *const *tables, void *const *values) {
	char *text = NULL;
	RV_TRY(rv_options_help(tables, values, &text));
	printf("%s %s: %s\n\nusage: %s [options]\n\n%s", p->exp->id, p->exp->name, p->exp->title,
	       p->name, text);
	rv_free(text);
	return RV_OK;
}

int rv_experiment_main(int argc, char **argv, const rv_experiment *exp) {
	program p = {.exp = exp, .argc = argc, .argv = argv, .lock = -1, .start_ns = rv_now_ns()};
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	p.name = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : exp->name;
	p.opt = (options){.profile = RV_PROFILE_QUICK};
	rv_progress_init(&p.progress, stderr, exp->id);
	const rv_option *const tables[] = {table, NULL};
	void *const values[] = {&p.opt, NULL};
	int n_positional = 0;
	if (rv_options_parse(tables, values, argc, argv, NULL, 0, &n_positional) != RV_OK) {
		fprintf(stderr, "%s: %s\n", p.name, rv_error_message());
		return 2;
	}
	rv_status status;
	if (p.opt.help) {
		options defaults = {.profile = RV_PROFILE_QUICK};
		status = print_help(&p, tables, (void *const[]){&defaults, NULL});
	} else {
		install_signals();
		p.config = (rv_run_config){.profile = (rv_profile)p.opt.profile,
		                           .model = p.opt.model,
		                           .root = p.root,
		                           .seed = (uint64_t)p.opt.seed,
		                           .log = {log_line, &p},
		                           .cancelled = was_cancelled};
		status = run_program(&p);
	}
	if (status == RV_OK && fflush(stdout) != 0)
		status = rv_fail_errno(RV_ERR_IO, "standard output");
	if (status != RV_OK)
		fprintf(stderr, "%s: %s\n", p.name, rv_error_message());
	release(&p);
	if (caught_signal != 0)
		return 128 + caught_signal;
	return status == RV_OK ? 0 : status == RV_ERR_INVALID && p.n_points == 0 ? 2 : 1;
}
