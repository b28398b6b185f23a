#include "cli/cli_draft.h"

#include <stdio.h>
#include <string.h>

#define AT(field) offsetof(rv_cli_draft, field)
const rv_option rv_cli_draft_options[] = {
        {.name = "draft",
         .kind = RV_OPT_STRING,
         .offset = AT(source),
         .value_name = "FILE|auto|lookup",
         .help = "draft for speculative decoding: a smaller model, `auto`: the one beside the "
                 "model (nano: pico, medium: small), `lookup`: what stood in the text before"},
        {.name = "draft-k",
         .kind = RV_OPT_STRING,
         .offset = AT(k),
         .value_name = "N|adaptive",
         .help = "tokens drafted at a time, 1 to 8; `adaptive`: 2 to 8 as they are accepted"},
        {.name = "spec-rule",
         .kind = RV_OPT_ENUM,
         .offset = AT(rule),
         .choices = rv_spec_rules,
         .help = "what is accepted; `threshold` changes what the model says"},
        {.name = "draft-sampled",
         .kind = RV_OPT_FLAG,
         .offset = AT(sampled),
         .help = "draw the draft at the model's temperature rather than at 0"},
        {.name = "draft-tree",
         .kind = RV_OPT_INT,
         .offset = AT(width),
         .min = 1,
         .max = RV_SPEC_MAX_WIDTH,
         .help = "draft a tree of so many tokens at each depth; 1: a chain"},
        {.name = "draft-force",
         .kind = RV_OPT_FLAG,
         .offset = AT(force),
         .help = "draft above temperature 0.5 too"},
        {0},
};

rv_cli_draft rv_cli_draft_defaults(void) {
	return (rv_cli_draft){.k = "4", .rule = (int)rv_spec_defaults().rule, .width = 1};
}

/* ---- the draft's model ---- */

/* Room for draft rows in both contexts. */
static int32_t n_draft(const rv_cli_draft *d) {
	return d->source && d->width > 1 ? (int32_t)d->width * RV_SPEC_MAX_K : 0;
}

int rv_cli_open_target(const rv_cli *cli, const rv_cli_model *load, const rv_cli_draft *d,
                       rv_model *model, rv_context **out) {
	rv_context_options options = rv_cli_context(cli, load, model);
	options.n_draft = n_draft(d);
	if (rv_context_create(out, model, &options) == RV_OK)
		return RV_CLI_GO;
	rv_fail_in(RV_ERR_INVALID, rv_model_path(model));
	return rv_cli_fail(cli);
}

static int open_model(const rv_cli *cli, rv_cli_draft *d, const rv_cli_model *load,
                      rv_context *target) {
	char found[4096];
	const char *path = d->source;
	if (strcmp(path, "auto") == 0) {
		if (rv_spec_find_draft(rv_model_path(rv_context_model(target)), found, sizeof found) !=
		    RV_OK) {
			rv_fail_in(RV_ERR_NOT_FOUND, "--draft auto");
			return rv_cli_fail(cli);
		}
		path = found;
	}
	rv_cli_model how = *load;
	how.n_adapters = 0; /* the adapters and the policy are the target's */
	how.kv_policy = NULL;
	how.n_ctx = 0;
	int status = rv_cli_open_model(cli, path, &d->model);
	if (status != RV_CLI_GO)
		return status;
	int64_t n_ctx = rv_context_get_options(target)->n_ctx;
	int64_t trained = rv_model_hparams(d->model)->n_ctx_train;
	how.n_ctx = n_ctx < trained ? n_ctx : trained;
	rv_context_options options = rv_cli_context(cli, &how, d->model);
	options.threads = rv_context_threads(target); /* the two take turns */
	options.n_draft = n_draft(d);
	return rv_context_create(&d->ctx, d->model, &options) == RV_OK ? RV_CLI_GO : rv_cli_fail(cli);
}

/* ---- opening ---- */

static int parse_k(const rv_cli *cli, const char *text, int *k) {
	int64_t n = 0;
	if (strcmp(text, "adaptive") != 0 && rv_parse_int(text, 1, RV_SPEC_MAX_K, &n) != RV_OK)
		return rv_cli_usage(cli, "--draft-k: '%s' is neither 1 to %d nor `adaptive`", text,
		                    RV_SPEC_MAX_K);
	*k = (int)n;
	return RV_CLI_GO;
}

int rv_cli_open_draft(const rv_cli *cli, rv_cli_draft *d, const rv_cli_model *load,
                      rv_context *target) {
	rv_spec_options o = rv_spec_defaults();
	int status = parse_k(cli, d->k, &o.k);
	if (status != RV_CLI_GO || !d->source)
		return status;
	if (!*d->source)
		return rv_cli_usage(cli, "--draft: the name is empty");
	o.draft = strcmp(d->source, "lookup") == 0 ? RV_SPEC_LOOKUP
	          : d->width > 1                   ? RV_SPEC_TREE
	                                           : RV_SPEC_MODEL;
	o.width = d->width > 1 ? (int)d->width : o.width;
	o.rule = (rv_spec_rule)d->rule;
	o.sampled = d->sampled;
	o.force = d->force;
	o.seed = (uint64_t)cli->common.seed;
	if (o.draft != RV_SPEC_LOOKUP)
		status = open_model(cli, d, load, target);
	if (status != RV_CLI_GO)
		return status;
	return rv_speculator_create(&d->speculator, target, d->ctx, &o) == RV_OK ? RV_CLI_GO
	                                                                         : rv_cli_fail(cli);
}

void rv_cli_close_draft(rv_cli_draft *d) {
	rv_speculator_destroy(d->speculator);
	rv_context_destroy(d->ctx);
	rv_model_release(d->model);
}

/* ---- what came of it ---- */

void rv_cli_draft_line(const rv_cli_draft *d, char *out, size_t size) {
	out[0] = '\0';
	if (!d->speculator)
		return;
	const rv_spec_stats *s = rv_speculator_stats(d->speculator);
	if (s->drafted == 0)
		snprintf(out, size, "; nothing drafted (above temperature %g only by --draft-force)",
		         RV_SPEC_MAX_TEMPERATURE);
	else
		snprintf(
		        out, size,
		        "; accepted %lld of %lld drafted (%.1f %%), %.2f tokens a round, draft %.0f %% "
		        "of the time",
		        (long long)s->accepted, (long long)s->drafted,
		        100 * (double)s->accepted / (double)s->drafted, rv_spec_tokens_a_round(s),
		        100 * (double)s->draft_ns / (double)(s->draft_ns + s->target_ns));
}

static json_t *counts(const int64_t *n) {
	json_t *list = json_array();
	for (int i = 0; i < RV_SPEC_MAX_K; i++)
		json_array_append_new(list, json_integer(n[i]));
	return list;
}

json_t *rv_cli_draft_json(const rv_cli_draft *d) {
	if (!d->speculator)
		return json_null();
	const rv_spec_stats *s = rv_speculator_stats(d->speculator);
	const rv_spec_options *o = rv_speculator_options(d->speculator);
	return json_pack("{s:s, s:o, s:i, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:f, s:f}",
	                 "kind", rv_spec_drafts[o->draft], "model",
	                 rv_cli_json_path(d->model ? rv_model_path(d->model) : NULL), "k", o->k, "rule",
	                 rv_spec_rules[o->rule], "sampled", o->sampled, "rounds", (json_int_t)s->rounds,
	                 "plain_rounds", (json_int_t)s->plain_rounds, "drafted", (json_int_t)s->drafted,
	                 "accepted", (json_int_t)s->accepted, "rejections", (json_int_t)s->rejections,
	                 "drafted_at", counts(s->drafted_at), "reached_at", counts(s->reached_at),
	                 "accepted_at", counts(s->accepted_at), "draft_ms", 1e-6 * (double)s->draft_ns,
	                 "target_ms", 1e-6 * (double)s->target_ns);
}
