#include "cli/cli_sona.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const qualities[] = {"likelihood", "feedback", NULL};

#define AT(field) offsetof(rv_cli_sona, field)
const rv_option rv_cli_sona_options[] = {
        {.name = "sona",
         .kind = RV_OPT_STRING,
         .offset = AT(layers),
         .value_name = "off|LAYERS",
         .help = "learn while serving at these layers (from 0, with commas); `auto`: the variant's, "
                 "placed on the model's depth; `all`"},
        {.name = "sona-site",
         .kind = RV_OPT_STRING,
         .offset = AT(site),
         .value_name = "SITE",
         .help = "what is adapted there: attn_out, ffn_out, proj:qv, proj:qkvo, proj:all"},
        {.name = "sona-rank",
         .kind = RV_OPT_INT,
         .offset = AT(rank),
         .min = 0,
         .max = RV_MICRO_MAX_RANK,
         .help = "rank of MicroLoRA; 0: the variant's"},
        {.name = "sona-lr",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(lr),
         .min = -1,
         .max = 1e6,
         .help = "learning rate of the instant update; -1: the variant's"},
        {.name = "sona-quality",
         .kind = RV_OPT_ENUM,
         .offset = AT(quality),
         .choices = qualities,
         .help = "who rates an answer: the model's own likelihood, or feedback alone (chat: "
                 "/good /bad /rate Q /correct TEXT)"},
        {.name = "store",
         .kind = RV_OPT_STRING,
         .offset = AT(store),
         .value_name = "DIR",
         .help = "with --sona: keep what is learnt in the store of this folder"},
        {.name = "session",
         .kind = RV_OPT_STRING,
         .offset = AT(session),
         .value_name = "ID",
         .help = "with --sona: the requests belong to this session (a UUID)"},
        {.name = "key-file",
         .kind = RV_OPT_STRING,
         .offset = AT(key_file),
         .value_name = "FILE",
         .help = "key of an encrypted store"},
        {0},
};
#undef AT

rv_cli_sona rv_cli_sona_defaults(int quality) {
	return (rv_cli_sona){.layers = "off",
	                     .site = "attn_out",
	                     .lr = -1,
	                     .quality = quality,
	                     .report = {.quality = (double)NAN}};
}

/* ---- opening ---- */

static int ascending(const void *a, const void *b) {
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static rv_status set_layers(const rv_cli_sona *s, const rv_model *model, rv_micro_lora_options *micro) {
	const int64_t n_layers = rv_model_hparams(model)->n_layers;
	int64_t *list;
	size_t n;
	micro->n_layers = 0; /* the variant's */
	if (strcmp(s->layers, "auto") == 0)
		return RV_OK;
	if (strcmp(s->layers, "all") == 0) {
		for (int64_t i = 0; i < n_layers && i < RV_MICRO_MAX_LAYERS; i++)
			micro->layers[micro->n_layers++] = i;
		return RV_OK;
	}
	RV_TRY(rv_parse_ints(s->layers, 0, n_layers - 1, &list, &n));
	if (n > 0)
		qsort(list, n, sizeof *list, ascending);
	rv_status status =
	        n >= 1 && n <= RV_MICRO_MAX_LAYERS
	                ? RV_OK
	                : rv_fail(RV_ERR_INVALID, "1 to %d layers are needed", RV_MICRO_MAX_LAYERS);
	for (size_t i = 0; status == RV_OK && i < n; i++)
		micro->layers[micro->n_layers++] = list[i];
	rv_free(list);
	return status;
}

rv_status rv_cli_sona_place(const rv_cli_sona *s, const rv_model *model, rv_micro_lora_options *micro) {
	rv_status status = set_layers(s, model, micro);
	if (status != RV_OK)
		return rv_fail_in(status, "--sona");
	status = rv_site_by_name(&micro->site, s->site);
	if (status != RV_OK)
		return rv_fail_in(status, "--sona-site");
	micro->rank = s->rank ? s->rank : micro->rank;
	return RV_OK;
}

/* Vectors of what is asked, for the store's patterns. */
static rv_status open_embedder(rv_cli_sona *s) {
	char path[4096];
	rv_model *model;
	rv_embedder_options o = rv_embedder_defaults();
	o.n_threads = 1;
	o.pin = 0;
	o.log = rv_cli_log();
	RV_TRY(rv_cli_shipped("models/embedder.gguf", path, sizeof path));
	RV_TRY(rv_model_open(&model, path, NULL));
	rv_status status = rv_embedder_create(&s->embedder, model, &o);
	rv_model_release(model);
	return status;
}

/* An adapter of the command line is the base that learning begins with, unless the store has one
 * already, which then began with it. */
static int take_adapter(const rv_cli *cli, rv_cli_sona *s, rv_cli_model *load) {
	rv_adapter *base;
	if (load->n_adapters == 0)
		return RV_CLI_GO;
	if (load->n_adapters > 1 || fabs(load->adapters[0].scale - 1) > 0)
		return rv_cli_usage(cli, "--sona: begins with one adapter of scale 1; merge them first "
		                         "(lora merge)");
	rv_status status = rv_instant_snapshot(rv_sona_instant(s->sona), &base, NULL);
	if (status == RV_OK && !base)
		status = rv_instant_set_base(rv_sona_instant(s->sona), load->adapters[0].adapter);
	rv_adapter_release(base);
	if (status != RV_OK)
		return rv_cli_fail(cli);
	rv_adapter_release(load->adapters[0].adapter);
	load->n_adapters = 0;
	return RV_CLI_GO;
}

static int set_options(const rv_cli *cli, rv_cli_sona *s, rv_cli_model *load, const rv_model *model,
                       rv_sona_options *o) {
	*o = rv_sona_defaults((rv_bank_variant)load->variant);
	if (rv_cli_sona_place(s, model, &o->micro) != RV_OK)
		return rv_cli_usage(cli, "%s", rv_error_message());
	if (s->session && !rv_uuid_valid(s->session))
		return rv_cli_usage(cli, "--session: '%s' is no UUID", s->session);
	o->micro.lr = s->lr < 0 ? o->micro.lr : s->lr;
	o->micro.seed = o->seed = (uint64_t)cli->common.seed;
	o->use_likelihood = s->quality == RV_CLI_SONA_LIKELIHOOD;
	o->key_file = s->key_file;
	o->log = rv_cli_log();
	return RV_CLI_GO;
}

int rv_cli_open_sona(const rv_cli *cli, rv_cli_sona *s, rv_cli_model *load, rv_model *model) {
	rv_sona_options o;
	if (strcmp(s->layers, "off") == 0)
		return s->store || s->session ? rv_cli_usage(cli, "--%s: needs --sona, which is off",
		                                             s->store ? "store" : "session")
		                              : RV_CLI_GO;
	int status = set_options(cli, s, load, model, &o);
	if (status != RV_CLI_GO)
		return status;
	if (s->store && open_embedder(s) != RV_OK)
		return rv_cli_fail(cli);
	o.embedder = s->embedder;
	if (rv_sona_open(&s->sona, model, s->store, &o) != RV_OK) {
		rv_fail_in(RV_ERR_INVALID, "--sona");
		return rv_cli_fail(cli);
	}
	return take_adapter(cli, s, load);
}

int rv_cli_attach_sona(const rv_cli *cli, rv_cli_sona *s, rv_context *ctx) {
	if (!s->sona)
		return RV_CLI_GO;
	if (rv_sona_attach(s->sona, ctx, 0) != RV_OK)
		return rv_cli_fail(cli);
	s->ctx = ctx;
	return RV_CLI_GO;
}

int rv_cli_close_sona(const rv_cli *cli, rv_cli_sona *s, int status) {
	rv_status closed = RV_OK;
	if (s->ctx)
		closed = rv_sona_detach(s->sona, s->ctx);
	if (s->sona && rv_sona_close(s->sona) != RV_OK)
		closed = RV_ERR_IO;
	rv_embedder_destroy(s->embedder);
	s->sona = NULL;
	s->ctx = NULL;
	s->embedder = NULL;
	return closed != RV_OK && status == RV_EXIT_OK ? rv_cli_fail(cli) : status;
}

/* ---- requests ---- */

rv_status rv_cli_sona_generate(rv_cli_sona *s, rv_context *ctx, const char *text, size_t len,
                               const int32_t *prompt, int64_t n_prompt, rv_sampler *sampler,
                               const rv_generate_options *how, rv_generate_result *result) {
	if (!s->sona)
		return rv_generate(ctx, 0, prompt, n_prompt, sampler, how, NULL, result);
	rv_sona_request request = rv_sona_request_defaults(ctx);
	request.text = text;
	request.len = len;
	request.session_id = s->session;
	request.prompt = prompt;
	request.n_prompt = n_prompt;
	s->id[0] = 0;
	return rv_sona_generate(s->sona, ctx, &request, sampler, how, NULL, NULL, result, s->id,
	                        &s->report);
}

/* The rest of a line after a word and blanks; NULL: another word. */
static const char *after_word(const char *line, size_t len, const char *word, size_t *rest) {
	const size_t n = strlen(word);
	size_t at = n;
	if (len < n || memcmp(line, word, n) != 0 || (len > n && line[n] != ' '))
		return NULL;
	while (at < len && line[at] == ' ')
		at++;
	*rest = len - at;
	return line + at;
}

static rv_status correct(rv_cli_sona *s, const char *text, size_t len) {
	const rv_tokenizer *tok = rv_model_tokenizer(rv_context_model(s->ctx));
	int32_t *ids;
	size_t n;
	if (len == 0)
		return rv_fail(RV_ERR_INVALID, "/correct: the right answer is needed");
	RV_TRY(rv_tokenizer_encode(tok, text, len, NULL, &ids, &n));
	rv_status status =
	        rv_sona_feedback(s->sona, s->id, 0, RV_QUALITY_FEEDBACK, ids, (int64_t)n, &s->report);
	rv_free(ids);
	return status;
}

static rv_status rate(rv_cli_sona *s, const char *text, size_t len) {
	char number[64];
	double quality;
	snprintf(number, sizeof number, "%.*s", (int)(len < 63 ? len : 63), text);
	rv_status status = rv_parse_double(number, 0, 1, &quality);
	if (status != RV_OK)
		return rv_fail_in(status, "/rate");
	return rv_sona_feedback(s->sona, s->id, quality, RV_QUALITY_FEEDBACK, NULL, 0, &s->report);
}

rv_status rv_cli_sona_line(rv_cli_sona *s, const char *line, size_t len, int *taken) {
	size_t n;
	const char *rest;
	rv_status status = RV_OK;
	*taken = 0;
	if (!s->sona || len == 0 || line[0] != '/')
		return RV_OK;
	*taken = 1;
	if (!s->id[0])
		status = rv_fail(RV_ERR_NOT_FOUND, "%.*s: there is no answer yet to be rated",
		                 (int)(len < 40 ? len : 40), line);
	else if (after_word(line, len, "/good", &n))
		status = rate(s, "1", 1);
	else if (after_word(line, len, "/bad", &n))
		status = rate(s, "0", 1);
	else if ((rest = after_word(line, len, "/rate", &n)) != NULL)
		status = rate(s, rest, n);
	else if ((rest = after_word(line, len, "/correct", &n)) != NULL)
		status = correct(s, rest, n);
	else
		*taken = 0; /* an ordinary line that begins so */
	if (*taken && status == RV_OK)
		rv_cli_sona_print(s);
	return *taken ? status : RV_OK;
}

/* ---- what came of it ---- */

static void print_layers(const rv_micro_lora_options *micro, char *out, size_t size) {
	size_t at = 0;
	out[0] = 0;
	for (int i = 0; i < micro->n_layers && at < size; i++)
		at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? " " : "",
		                       (long long)micro->layers[i]);
}

void rv_cli_sona_print(const rv_cli_sona *s) {
	char layers[400];
	const rv_instant_report *r = &s->report.instant;
	if (!s->sona)
		return;
	const rv_micro_lora_options *micro = &rv_sona_get_options(s->sona)->micro;
	print_layers(micro, layers, sizeof layers);
	if (isnan(s->report.quality)) {
		fprintf(stderr, "sona: %s of layers %s, rank %lld: request %s waits to be rated\n",
		        rv_site_name(micro->site), layers, (long long)micro->rank, s->id);
		return;
	}
	fprintf(stderr, "sona: %s of layers %s, rank %lld: quality %.2f (%s), %s",
	        rv_site_name(micro->site), layers, (long long)micro->rank, s->report.quality,
	        rv_quality_source_name(s->report.source), rv_instant_outcome_text(r->outcome));
	if (r->outcome == RV_INSTANT_LEARNT)
		fprintf(stderr,
		        " from %lld tokens in %.3f ms (documented 0.05), loss %.3f, change %.3g of "
		        "the state",
		        (long long)r->n_tokens, 1e-6 * (double)r->total_ns, r->loss, r->ratio);
	fputc('\n', stderr);
}

json_t *rv_cli_sona_json(const rv_cli_sona *s) {
	const rv_instant_report *r = &s->report.instant;
	if (!s->sona)
		return json_null();
	const rv_micro_lora_options *micro = &rv_sona_get_options(s->sona)->micro;
	json_t *layers = json_array();
	for (int i = 0; i < micro->n_layers; i++)
		json_array_append_new(layers, json_integer(micro->layers[i]));
	return json_pack("{s:s, s:s, s:o, s:I, s:f, s:o, s:s, s:s, s:I, s:o, s:o, s:o, s:f}",
	                 "request_id", s->id, "site", rv_site_name(micro->site), "layers", layers,
	                 "rank", (json_int_t)micro->rank, "lr", micro->lr, "quality",
	                 rv_cli_json_real(s->report.quality), "source",
	                 rv_quality_source_name(s->report.source), "instant",
	                 isnan(s->report.quality) ? "waits to be rated"
	                                          : rv_instant_outcome_text(r->outcome),
	                 "n_tokens", (json_int_t)r->n_tokens, "loss", rv_cli_json_real(r->loss),
	                 "gradient_norm", rv_cli_json_real(r->gradient_norm), "ratio",
	                 rv_cli_json_real(r->ratio), "instant_ms", 1e-6 * (double)r->total_ns);
}
