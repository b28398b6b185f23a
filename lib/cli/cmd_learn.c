/* ruvltra learn: one pass of a loop over what a store holds, on the clock that is given. */
#include "base/rng.h"
#include "cli/cli_sona.h"
#include "cli/commands.h"
#include "engine/speculate.h"
#include "learn/sona.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct learn_args {
	const char *store, *now, *parts, *draft, *key_file;
	double max_seconds, lambda, replay, rate, min_quality;
	int64_t steps, distill_steps, max_patterns;
	int variant, plaintext;
	rv_cli_sona place; /* layers, site and rank alone */
} learn_args;

enum { BY_DEFAULT = -1 };

#define AT(field) offsetof(learn_args, field)
static const rv_option options[] = {
        {.name = "store",
         .kind = RV_OPT_STRING,
         .offset = AT(store),
         .value_name = "DIR",
         .help = "folder of the store (needed)"},
        {.name = "now",
         .kind = RV_OPT_STRING,
         .offset = AT(now),
         .value_name = "TIME",
         .help = "the pass takes place at this time (2026-01-31T12:00:00Z, or UTC ms); default: the "
                 "system's clock"},
        {.name = "variant",
         .kind = RV_OPT_ENUM,
         .offset = AT(variant),
         .choices = rv_cli_variants,
         .help = "whose patterns, hook layers and thresholds"},
        {.name = "sona",
         .kind = RV_OPT_STRING,
         .offset = AT(place.layers),
         .value_name = "LAYERS",
         .help = "layers that learn, as they were served with; `auto`: the variant's; `all`"},
        {.name = "sona-site",
         .kind = RV_OPT_STRING,
         .offset = AT(place.site),
         .value_name = "SITE",
         .help = "what is adapted there, likewise"},
        {.name = "sona-rank",
         .kind = RV_OPT_INT,
         .offset = AT(place.rank),
         .max = RV_MICRO_MAX_RANK,
         .help = "rank of MicroLoRA, likewise; 0: the variant's"},
        {.name = "parts",
         .kind = RV_OPT_STRING,
         .offset = AT(parts),
         .value_name = "LIST",
         .help = "all, or names with commas; -NAME leaves one out"},
        {.name = "max-seconds",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(max_seconds),
         .min = 0,
         .max = 1e6,
         .unit = "s",
         .help = "parts that would begin later are put off, training stops between steps; 0: no "
                 "limit"},
        {.name = "draft",
         .kind = RV_OPT_STRING,
         .offset = AT(draft),
         .value_name = "FILE|auto|none",
         .help = "deep: the draft that learns from the model again; auto: the one beside it"},
        {.name = "steps",
         .kind = RV_OPT_INT,
         .offset = AT(steps),
         .min = BY_DEFAULT,
         .max = 1e6,
         .help = "of fine-tuning; -1: the loop's default"},
        {.name = "distill-steps",
         .kind = RV_OPT_INT,
         .offset = AT(distill_steps),
         .min = BY_DEFAULT,
         .max = 1e6,
         .help = "deep: of the draft's; -1: the default"},
        {.name = "rate",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(rate),
         .min = BY_DEFAULT,
         .max = 1,
         .help = "of fine-tuning; -1: the default"},
        {.name = "lambda",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(lambda),
         .min = BY_DEFAULT,
         .max = 1e9,
         .help = "weight of EWC++; 0: none; -1: the default"},
        {.name = "replay",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(replay),
         .min = BY_DEFAULT,
         .max = 1,
         .help = "share of old text in a batch; -1: the default"},
        {.name = "max-patterns",
         .kind = RV_OPT_INT,
         .offset = AT(max_patterns),
         .max = RV_BANK_MAX_CAPACITY,
         .help = "deep: clusters beyond these; 0: the bank's capacity"},
        {.name = "min-quality",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(min_quality),
         .min = -1,
         .max = 1,
         .help = "deep: of patterns that are kept and learnt from; -1: the variant's threshold"},
        {.name = "key-file",
         .kind = RV_OPT_STRING,
         .offset = AT(key_file),
         .value_name = "FILE",
         .help = "key of an encrypted store"},
        {.name = "plaintext",
         .kind = RV_OPT_FLAG,
         .offset = AT(plaintext),
         .help = "entries of users are stored in plain text"},
        {0},
};
#undef AT

/* One invocation. */
typedef struct learn_job {
	const rv_cli *cli;
	const learn_args *args;
	rv_sona_loop loop;
	unsigned parts;
	int64_t now_ms; /* -1: the system's clock */
	rv_sim_clock clock;
	rv_model *model, *draft;
	rv_sona_pass_report report;
} learn_job;

/* ---- the command line ---- */

static int part_by_name(rv_sona_loop loop, const char *name, size_t len) {
	for (int p = 0; rv_sona_part_name(loop, p) != NULL; p++) {
		const char *there = rv_sona_part_name(loop, p);
		if (strlen(there) == len && strncmp(there, name, len) == 0)
			return p;
	}
	return -1;
}

/* "all", "tune,ewc", "-tune": what is taken away is taken from all. */
static int parse_parts(const rv_cli *cli, rv_sona_loop loop, const char *text, unsigned *parts) {
	*parts = text[0] == '-' ? RV_SONA_ALL_PARTS : 0;
	for (const char *at = text; *at != 0;) {
		size_t len = strcspn(at, ",");
		int away = at[0] == '-';
		int part = part_by_name(loop, at + away, len - (size_t)away);
		if (len == 3 && strncmp(at, "all", 3) == 0)
			*parts = RV_SONA_ALL_PARTS;
		else if (part < 0)
			return rv_cli_usage(cli, "--parts: '%.*s' is no part of the %s loop", (int)len,
			                    at, rv_sona_loop_names[loop]);
		else if (away)
			*parts &= ~RV_SONA_PART(part);
		else
			*parts |= RV_SONA_PART(part);
		at += len + (at[len] == ',');
	}
	return RV_CLI_GO;
}

static int parse_now(const rv_cli *cli, const char *text, int64_t *now_ms) {
	*now_ms = -1;
	if (text == NULL || rv_parse_int(text, 0, RV_TIME_MAX_MS, now_ms) == RV_OK ||
	    rv_time_parse(text, now_ms) == RV_OK)
		return RV_CLI_GO;
	return rv_cli_usage(cli, "--now: '%s' is neither a time nor UTC milliseconds", text);
}

/* ---- the pass ---- */

static void set_tuning(const learn_args *args, rv_sona_tuning *t) {
	if (args->steps != BY_DEFAULT)
		t->steps = args->steps;
	if (args->rate >= 0)
		t->rate = args->rate;
	if (args->lambda >= 0)
		t->lambda = args->lambda;
	if (args->replay >= 0)
		t->replay = args->replay;
}

static rv_sona_options sona_options(learn_job *j) {
	const learn_args *args = j->args;
	rv_sona_options o = rv_sona_defaults((rv_bank_variant)args->variant);
	rv_sona_trigger *trigger = &o.loops[j->loop];
	rv_rng rng;
	trigger->parts = j->parts;
	trigger->max_ms = (int64_t)ceil(args->max_seconds * 1000);
	set_tuning(args, &o.tuning);
	set_tuning(args, &o.deep.tuning);
	o.deep.max_patterns = args->max_patterns;
	o.deep.min_quality = (float)args->min_quality;
	o.deep.draft = j->draft;
	if (args->distill_steps != BY_DEFAULT)
		o.deep.distill_steps = args->distill_steps;
	o.key_file = args->key_file;
	o.plaintext = args->plaintext;
	o.n_threads = (int)j->cli->common.threads;
	/* the same again at the same time alone: ids that were made before are not made again */
	rv_rng_stream(&rng, (uint64_t)j->cli->common.seed,
	              (uint64_t)(j->now_ms >= 0 ? j->now_ms : rv_clock_now_ms(NULL)));
	o.seeded = 1;
	o.seed = rv_rng_u64(&rng);
	o.log = rv_cli_log();
	if (j->now_ms >= 0) {
		rv_sim_clock_init(&j->clock, j->now_ms);
		o.clock = rv_sim_clock_source(&j->clock);
	}
	return o;
}

static rv_status open_draft(learn_job *j) {
	char path[4096];
	const char *name = j->args->draft;
	if (j->loop != RV_SONA_DEEP || strcmp(name, "none") == 0)
		return RV_OK;
	if (strcmp(name, "auto") == 0) {
		if (rv_spec_find_draft(rv_model_path(j->model), path, sizeof path) != RV_OK)
			return RV_OK; /* the part says that there is none */
		name = path;
	}
	return rv_model_open(&j->draft, name, NULL);
}

static rv_status run_pass(learn_job *j) {
	rv_sona *sona = NULL;
	RV_TRY(open_draft(j));
	rv_sona_options o = sona_options(j);
	RV_TRY(rv_cli_sona_place(&j->args->place, j->model, &o.micro));
	RV_TRY(rv_sona_open(&sona, j->model, j->args->store, &o));
	rv_status st = j->loop == RV_SONA_DEEP ? rv_sona_deep_step(sona, j->now_ms, &j->report)
	                                       : rv_sona_background_step(sona, j->now_ms, &j->report);
	if (st == RV_OK)
		return rv_sona_close(sona);
	char why[RV_ERROR_MESSAGE_MAX];
	snprintf(why, sizeof why, "%s", rv_error_message());
	rv_sona_close(sona);
	return rv_fail(st, "%s", why);
}

/* ---- what is printed ---- */

static int n_failed(const rv_sona_pass_report *r) {
	int n = 0;
	for (int p = 0; p < r->n_parts; p++)
		n += r->parts[p].outcome == RV_PART_FAILED;
	return n;
}

static json_t *report_json(const rv_sona_pass_report *r) {
	char now[RV_TIME_TEXT];
	json_t *parts = json_array();
	rv_time_format(r->now_ms, now);
	for (int p = 0; p < r->n_parts; p++) {
		const rv_sona_part_report *part = &r->parts[p];
		json_array_append_new(parts,
		                      json_pack("{s:s, s:s, s:f, s:I, s:o, s:o, s:o}", "name",
		                                rv_sona_part_name(r->loop, p), "outcome",
		                                rv_sona_part_outcome_name(part->outcome), "ms",
		                                (double)part->ns / 1e6, "n", (json_int_t)part->n,
		                                "before", rv_cli_json_real(part->before), "after",
		                                rv_cli_json_real(part->after), "text",
		                                rv_cli_json_text(part->text, strlen(part->text))));
	}
	return json_pack("{s:s, s:I, s:s, s:I, s:I, s:f, s:o}", "loop", rv_sona_loop_names[r->loop],
	                 "pass", (json_int_t)r->number, "now", now, "requests",
	                 (json_int_t)r->n_requests, "generation", (json_int_t)r->generation, "ms",
	                 (double)r->total_ns / 1e6, "parts", parts);
}

static void print_report(const rv_sona_pass_report *r) {
	char now[RV_TIME_TEXT];
	rv_time_format(r->now_ms, now);
	printf("%s loop, pass %lld, %s: %.0f ms, generation %lld\n", rv_sona_loop_names[r->loop],
	       (long long)r->number, now, (double)r->total_ns / 1e6, (long long)r->generation);
	for (int p = 0; p < r->n_parts; p++)
		printf("  %-12s %-8s %8.0f ms  %s\n", rv_sona_part_name(r->loop, p),
		       rv_sona_part_outcome_name(r->parts[p].outcome), (double)r->parts[p].ns / 1e6,
		       r->parts[p].text);
}

static int finish(learn_job *j) {
	int status = RV_EXIT_OK;
	if (j->cli->common.json) {
		status = rv_cli_finish_json(j->cli, report_json(&j->report));
	} else {
		print_report(&j->report);
		status = rv_cli_finish(j->cli);
	}
	return status == RV_EXIT_OK && n_failed(&j->report) > 0 ? RV_EXIT_FAILED : status;
}

static int find_loop(const rv_cli *cli, rv_sona_loop *loop) {
	for (int i = 0; cli->n_words > 0 && i < RV_SONA_LOOPS; i++)
		if (strcmp(cli->words[0], rv_sona_loop_names[i]) == 0) {
			*loop = (rv_sona_loop)i;
			return RV_CLI_GO;
		}
	return rv_cli_usage(cli, "%s: expected background or deep",
	                    cli->n_words > 0 ? cli->words[0] : "LOOP");
}

int rv_cmd_learn(rv_cli *cli) {
	learn_args args = {.parts = "all",
	                   .draft = "auto",
	                   .max_seconds = 600,
	                   .steps = BY_DEFAULT,
	                   .distill_steps = BY_DEFAULT,
	                   .rate = BY_DEFAULT,
	                   .lambda = BY_DEFAULT,
	                   .replay = BY_DEFAULT,
	                   .min_quality = -1,
	                   .place = rv_cli_sona_defaults(RV_CLI_SONA_FEEDBACK)};
	args.place.layers = "auto";
	rv_cli_model load = rv_cli_model_defaults();
	const rv_option *tables[] = {options, rv_cli_model_options, NULL};
	void *values[] = {&args, &load};
	int status = rv_cli_parse(cli, tables, values);
	learn_job j = {.cli = cli, .args = &args};
	if (status == RV_CLI_GO)
		status = find_loop(cli, &j.loop);
	if (status == RV_CLI_GO && (args.store == NULL || *args.store == 0))
		status = rv_cli_usage(cli, "--store: a folder is needed");
	if (status == RV_CLI_GO)
		status = parse_now(cli, args.now, &j.now_ms);
	if (status == RV_CLI_GO)
		status = parse_parts(cli, j.loop, args.parts, &j.parts);
	if (status == RV_CLI_GO)
		status = rv_cli_open_model(cli, load.model, &j.model);
	if (status == RV_CLI_GO)
		status = run_pass(&j) == RV_OK ? finish(&j) : rv_cli_fail(cli);
	rv_model_release(j.draft);
	rv_model_release(j.model);
	return status;
}
