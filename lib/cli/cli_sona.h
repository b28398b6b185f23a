/* Options of sub-commands that generate: learning while serving. */
#ifndef RV_CLI_CLI_SONA_H
#define RV_CLI_CLI_SONA_H

#include "cli/cli_model.h"
#include "engine/generate.h"
#include "learn/sona.h"

typedef struct rv_cli_sona {
	const char *layers; /* "off" */
	const char *site, *store, *session, *key_file;
	int64_t rank; /* 0: the variant's */
	double lr;    /* negative: the variant's */
	int quality;  /* rv_cli_sona_qualities */
	/* opened by rv_cli_open_sona */
	rv_sona *sona; /* NULL: off */
	rv_embedder *embedder;
	rv_context *ctx;       /* attached; NULL: not yet */
	char id[RV_UUID_TEXT]; /* of the last request; "": none */
	rv_sona_report report; /* of it */
	int n_asked;           /* hook layers before they were placed on the model's depth */
} rv_cli_sona;

extern const rv_option rv_cli_sona_options[];
/* How an answer is rated that nobody rates: "likelihood", "feedback" (not at all). */
enum { RV_CLI_SONA_LIKELIHOOD, RV_CLI_SONA_FEEDBACK };
rv_cli_sona rv_cli_sona_defaults(int quality);

/* Layers, site and rank into `micro`, which holds the variant's. RV_ERR_INVALID names the option. */
rv_status rv_cli_sona_place(const rv_cli_sona *s, const rv_model *model, rv_micro_lora_options *micro);

/* RV_CLI_GO with `s` opened when it is on (rv_cli_close_sona ends it), or an exit status, already
 * printed. Before the context is made: an adapter of --lora or --variant is taken over from `load`, as
 * the base that learning begins with. */
int rv_cli_open_sona(const rv_cli *cli, rv_cli_sona *s, rv_cli_model *load, rv_model *model);
/* The context's requests are learnt from; nothing when it is off. */
int rv_cli_attach_sona(const rv_cli *cli, rv_cli_sona *s, rv_context *ctx);
/* Before the context goes. Keeps what was learnt, where there is a store; returns `status`, or when
 * that is 0 the exit status of a failure to keep it. */
int rv_cli_close_sona(const rv_cli *cli, rv_cli_sona *s, int status);

/* rv_generate of sequence 0, captured and learnt from when it is on; text (may be NULL): what is asked.
 */
rv_status rv_cli_sona_generate(rv_cli_sona *s, rv_context *ctx, const char *text, size_t len,
                               const int32_t *prompt, int64_t n_prompt, rv_sampler *sampler,
                               const rv_generate_options *how, rv_generate_result *result);

/* A line that rates the last answer: "/good", "/bad", "/rate 0.7", "/correct TEXT". *taken: it was
 * one. Rates it; what came of it is printed as by rv_cli_sona_print. */
rv_status rv_cli_sona_line(rv_cli_sona *s, const char *line, size_t len, int *taken);

/* What became of the last request, one line on stderr; nothing when it is off. */
void rv_cli_sona_print(const rv_cli_sona *s);
/* The same as an object; JSON null when it is off. */
json_t *rv_cli_sona_json(const rv_cli_sona *s);

#endif
