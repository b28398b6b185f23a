/* ruvltra bank: the reasoning bank of a store; its actions are rows of a table. */
#include "cli/cmd_bank.h"

#include "base/mem.h"
#include "cli/cli_model.h"
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

static const char *const verdicts[] = {"unknown", "success", "failure", "partial", "any", NULL};

#define AT(field) offsetof(rv_bank_args, field)
static const rv_option options[] = {
        {.name = "store",
         .kind = RV_OPT_STRING,
         .offset = AT(store),
         .value_name = "DIR",
         .help = "folder of the store (needed)"},
        {.name = "variant",
         .kind = RV_OPT_ENUM,
         .offset = AT(variant),
         .choices = rv_cli_variants,
         .help = "whose bank"},
        {.name = "file",
         .letter = 'f',
         .kind = RV_OPT_STRING,
         .offset = AT(file),
         .value_name = "FILE",
         .help = "add: trajectories as JSON lines (-: stdin); search: a JSON array of 768 numbers"},
        {.name = "quality",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(quality),
         .min = -1,
         .max = 1,
         .help = "add: how good the outcome was, 0..1 (needed with TEXT)"},
        {.name = "action",
         .kind = RV_OPT_STRING,
         .offset = AT(action),
         .value_name = "TEXT",
         .help = "add: what was done"},
        {.name = "metadata",
         .kind = RV_OPT_STRING,
         .offset = AT(metadata),
         .value_name = "JSON",
         .help = "add: an object kept with it"},
        {.name = "verdict",
         .kind = RV_OPT_ENUM,
         .offset = AT(verdict),
         .choices = verdicts,
         .help = "add: its verdict (any: unknown); search: only these"},
        {.name = "top-k",
         .letter = 'k',
         .kind = RV_OPT_INT,
         .offset = AT(k),
         .min = 1,
         .max = 100000,
         .help = "search: how many"},
        {.name = "min-quality",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(min_quality),
         .min = -1,
         .max = 1,
         .help = "search, export, prune: decayed quality at least this; -1: the variant's threshold, "
                 "or "
                 "(export) all"},
        {.name = "by-score",
         .kind = RV_OPT_FLAG,
         .offset = AT(by_score),
         .help = "search: order by similarity * decayed quality"},
        {.name = "merge",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(merge),
         .max = 2,
         .help = "distill: patterns at least this alike become one"},
        {.name = "older-than",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(older_days),
         .max = 1e6,
         .unit = "days",
         .help = "prune: only patterns of this age"},
        {.name = "max-patterns",
         .kind = RV_OPT_INT,
         .offset = AT(max_patterns),
         .max = RV_BANK_MAX_CAPACITY,
         .help = "distill: clusters beyond these; 0: no limit"},
        {0},
};
#undef AT

/* ---- the small ones ---- */

static int run_export(rv_bank_job *j) {
	int64_t n = 0;
	if (rv_bank_export(j->bank, j->word, (float)j->args->min_quality, &n) != RV_OK)
		return rv_cli_fail(j->cli);
	if (strcmp(j->word, "-") == 0) /* the patterns are the output */
		return rv_cli_finish(j->cli);
	if (j->cli->common.json)
		return rv_cli_finish_json(
		        j->cli,
		        json_pack("{s:o, s:I}", "out", rv_cli_json_path(j->word), "n", (json_int_t)n));
	printf("%lld patterns\n", (long long)n);
	return rv_cli_finish(j->cli);
}

static int run_import(rv_bank_job *j) {
	rv_bank_import_report r = {0};
	if (rv_bank_import(j->bank, j->word, &r) != RV_OK)
		return rv_cli_fail(j->cli);
	if (j->cli->common.json)
		return rv_cli_finish_json(
		        j->cli, json_pack("{s:I, s:I, s:I}", "lines", (json_int_t)r.lines, "added",
		                          (json_int_t)r.added, "duplicates", (json_int_t)r.duplicates));
	printf("%lld added, %lld here already\n", (long long)r.added, (long long)r.duplicates);
	return rv_cli_finish(j->cli);
}

/* The whole of one pattern, in the form add and import read. */
static int run_show(rv_bank_job *j) {
	rv_trajectory t;
	char *text = NULL;
	size_t len = 0;
	rv_status st = rv_bank_get(j->bank, j->word, &t);
	if (st == RV_OK) {
		st = rv_trajectory_to_json(&t, &text, &len);
		rv_trajectory_deinit(&t);
	}
	if (st == RV_OK) {
		text[len] = '\n'; /* in the place of the NUL */
		st = rv_cli_write(text, len + 1);
	}
	rv_free(text);
	return st == RV_OK ? RV_EXIT_OK : rv_cli_fail(j->cli);
}

static int run_remove(rv_bank_job *j) {
	return rv_bank_remove(j->bank, j->word) == RV_OK ? RV_EXIT_OK : rv_cli_fail(j->cli);
}

static int run_distill(rv_bank_job *j) {
	rv_bank_distill_options o = rv_bank_distill_defaults();
	rv_bank_distill_report r;
	o.merge_similarity = (float)j->args->merge;
	o.max_patterns = j->args->max_patterns;
	o.seed = (uint64_t)j->cli->common.seed;
	if (rv_bank_distill(j->bank, &o, &r) != RV_OK)
		return rv_cli_fail(j->cli);
	if (j->cli->common.json)
		return rv_cli_finish_json(
		        j->cli, json_pack("{s:I, s:I, s:I, s:I}", "before", (json_int_t)r.before,
		                          "merged", (json_int_t)r.merged, "clustered",
		                          (json_int_t)r.clustered, "after", (json_int_t)r.after));
	printf("%lld patterns, %lld merged, %lld clustered: %lld\n", (long long)r.before,
	       (long long)r.merged, (long long)r.clustered, (long long)r.after);
	return rv_cli_finish(j->cli);
}

/* Retention: what is old enough and not good enough goes. */
static int run_prune(rv_bank_job *j) {
	const rv_bank_args *args = j->args;
	float least = args->min_quality < 0
	                      ? rv_bank_defaults((rv_bank_variant)args->variant).quality_threshold
	                      : (float)args->min_quality;
	int64_t n = 0;
	if (rv_bank_prune(j->bank, (int64_t)(args->older_days * 86400000), least, &n) != RV_OK)
		return rv_cli_fail(j->cli);
	if (j->cli->common.json)
		return rv_cli_finish_json(j->cli, json_pack("{s:I}", "removed", (json_int_t)n));
	printf("%lld removed\n", (long long)n);
	return rv_cli_finish(j->cli);
}

/* Figures, after everything was compared. */
static int run_stats(rv_bank_job *j) {
	rv_bank_stats s;
	char oldest[RV_TIME_TEXT], newest[RV_TIME_TEXT];
	if (rv_bank_verify(j->bank) != RV_OK || rv_bank_stats_get(j->bank, &s) != RV_OK)
		return rv_cli_fail(j->cli);
	rv_time_format(s.oldest, oldest);
	rv_time_format(s.newest, newest);
	json_t *by_verdict = json_object(), *by_source = json_object();
	for (int v = 0; v < RV_VERDICT_COUNT; v++)
		json_object_set_new(by_verdict, rv_trajectory_verdict_name((rv_trajectory_verdict)v),
		                    json_integer(s.by_verdict[v]));
	for (int v = 0; v < RV_SOURCE_COUNT; v++)
		json_object_set_new(by_source, rv_source_name((rv_source)v),
		                    json_integer(s.by_source[v]));
	json_t *all = json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "variant",
	                        rv_bank_variant_name((rv_bank_variant)j->args->variant), "count",
	                        (json_int_t)s.count, "capacity", (json_int_t)s.capacity, "mean_quality",
	                        rv_cli_json_real(s.mean_quality), "total_weight",
	                        rv_cli_json_real(s.total_weight), "by_verdict", by_verdict, "by_source",
	                        by_source, "oldest", s.count ? json_string(oldest) : json_null(),
	                        "newest", s.count ? json_string(newest) : json_null(), "resident_bytes",
	                        (json_int_t)s.resident_bytes);
	if (j->cli->common.json)
		return rv_cli_finish_json(j->cli, all);
	json_decref(all);
	printf("%s: %lld of %lld patterns, mean quality %.3f, stand for %.0f, %.1f MiB resident; "
	       "sound\n",
	       rv_bank_variant_name((rv_bank_variant)j->args->variant), (long long)s.count,
	       (long long)s.capacity, s.mean_quality, s.total_weight,
	       (double)s.resident_bytes / 1048576);
	return rv_cli_finish(j->cli);
}

/* ---- the table ---- */

typedef struct bank_action {
	const char *name;
	int (*run)(rv_bank_job *j);
	int writes;
	enum { NO_WORD, WORD, WORD_OR_FILE } word;
	const char *what; /* the word, for messages */
} bank_action;

static const bank_action actions[] = {
        {"add", rv_bank_run_add, 1, WORD_OR_FILE, "TEXT or -f FILE"},
        {"search", rv_bank_run_search, 0, WORD_OR_FILE, "TEXT or -f FILE"},
        {"export", run_export, 0, WORD, "FILE"},
        {"import", run_import, 1, WORD, "FILE"},
        {"show", run_show, 0, WORD, "ID"},
        {"remove", run_remove, 1, WORD, "ID"},
        {"distill", run_distill, 1, NO_WORD, NULL},
        {"prune", run_prune, 1, NO_WORD, NULL},
        {"stats", run_stats, 0, NO_WORD, NULL},
        {0},
};

static int run_action(rv_bank_job *j, const bank_action *action) {
	rv_store_options o = rv_store_defaults();
	rv_bank_options b = rv_bank_defaults((rv_bank_variant)j->args->variant);
	o.read_only = !action->writes;
	o.log = rv_cli_log();
	rv_status st = rv_cli_open_threads(j->cli, &j->threads);
	b.threads = j->threads;
	if (st == RV_OK)
		st = rv_store_open(&j->store, j->args->store, &o);
	if (st == RV_OK)
		st = rv_bank_open(&j->bank, j->store, &b);
	int status = st == RV_OK ? action->run(j) : rv_cli_fail(j->cli);
	rv_embedder_destroy(j->embedder);
	if (rv_bank_close(j->bank) != RV_OK && status == RV_EXIT_OK)
		status = rv_cli_fail(j->cli);
	if (rv_store_close(j->store) != RV_OK && status == RV_EXIT_OK)
		status = rv_cli_fail(j->cli);
	rv_threads_destroy(j->threads);
	return status;
}

static const bank_action *find_action(const char *name) {
	const bank_action *a = actions;
	while (a->name != NULL && strcmp(a->name, name) != 0)
		a++;
	return a->name != NULL ? a : NULL;
}

static int check_words(const rv_cli *cli, const rv_bank_args *args, const bank_action *a) {
	int given = cli->n_words - 1 + (args->file != NULL);
	if (args->file != NULL && a->word != WORD_OR_FILE)
		return rv_cli_usage(cli, "%s: -f is for add and search", a->name);
	if (given != (a->word != NO_WORD))
		return rv_cli_usage(cli,
		                    a->word == NO_WORD ? "%s: takes no argument" : "%s: %s is needed",
		                    a->name, a->what);
	if (args->store == NULL || *args->store == 0)
		return rv_cli_usage(cli, "--store: a folder is needed");
	if (a->run == rv_bank_run_add && args->file == NULL && args->quality < 0)
		return rv_cli_usage(cli, "--quality: 0..1 is needed with TEXT");
	return RV_CLI_GO;
}

int rv_cmd_bank(rv_cli *cli) {
	rv_bank_args args = {.k = 10,
	                     .quality = -1,
	                     .min_quality = -1,
	                     .merge = 0.95,
	                     .verdict = RV_BANK_ANY_VERDICT};
	rv_cli_model load = rv_cli_model_defaults();
	const rv_option *tables[] = {options, rv_cli_model_options, NULL};
	void *values[] = {&args, &load};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	const bank_action *action = cli->n_words > 0 ? find_action(cli->words[0]) : NULL;
	if (action == NULL)
		return rv_cli_usage(cli,
		                    "%s: expected add, search, export, import, show, remove, distill, "
		                    "prune or stats",
		                    cli->n_words > 0 ? cli->words[0] : "ACTION");
	status = check_words(cli, &args, action);
	if (status != RV_CLI_GO)
		return status;
	rv_bank_job j = {.cli = cli,
	                 .args = &args,
	                 .model = load.model,
	                 .word = cli->n_words > 1 ? cli->words[1] : NULL};
	return run_action(&j, action);
}
