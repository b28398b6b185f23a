/* Options of every sub-command that loads a model, and loading by them. */
#ifndef RV_CLI_CLI_MODEL_H
#define RV_CLI_CLI_MODEL_H

#include "base/threads.h"
#include "cli/cli.h"
#include "engine/context.h"
#include "engine/kv_calibration.h"
#include "engine/kv_policy.h"

typedef struct rv_cli_model {
	const char *model; /* NULL: the shipped nano */
	int64_t n_ctx;     /* 0: by the model */
	int64_t n_batch;
	int64_t page_size;                            /* of the KV cache, tokens; 0: in one piece */
	const char *kv_policy;                        /* NULL: flat */
	int backend, kv, attention;                   /* rv_backend_kind, rv_kv_type, rv_attn_kind */
	int rope;                                     /* rv_rope_kind */
	double rope_factor;                           /* 0: by the context */
	int variant;                                  /* rv_cli_variants */
	rv_option_list lora;                          /* FILE or FILE:SCALE */
	rv_adapter_use adapters[RV_ADAPTER_SET_USES]; /* opened by rv_cli_open_load */
	int n_adapters;
	rv_kv_policy policy; /* likewise */
	rv_kv_calibration *calibration;
} rv_cli_model;

extern const rv_option rv_cli_model_options[];   /* -m */
extern const rv_option rv_cli_context_options[]; /* -c -b --backend --kv --attn --rope-* ...; same
                                                  * struct */
rv_cli_model rv_cli_model_defaults(void);

/* Spellings of the enumerations, NULL-terminated. */
extern const char *const rv_cli_backends[];
extern const char *const rv_cli_kv_types[];
extern const char *const rv_cli_attentions[];
extern const char *const rv_cli_ropes[];
extern const char *const rv_cli_variants[]; /* base, coder, agent */

/* Warnings of the library go to stderr. */
rv_log rv_cli_log(void);

/* The path of a file that ships ("models/nano.gguf"): beside an installed program, or in the source
 * tree it was built in. RV_ERR_NOT_FOUND when it is in neither. */
rv_status rv_cli_shipped(const char *name, char *path, size_t size);

/* The file that -m names: that of the name, else the model that ships under it; NULL: nano. */
rv_status rv_cli_model_path(const char *model, char *path, size_t size);
/* An adapter and its factor by FILE or FILE:FACTOR; a file of the whole name comes first. */
rv_status rv_cli_open_lora(const char *text, const rv_model *model, rv_adapter **out, double *scale);

/* Exit status: RV_CLI_GO with *out set (the caller releases it), or that of the failure, already
 * printed. */
int rv_cli_open_model(const rv_cli *cli, const char *model, rv_model **out);
/* The same of args->model, with the adapters of --lora and, of the shipped nano, of --variant, which
 * rv_cli_close_load releases with the model (both NULL-safe). */
int rv_cli_open_load(const rv_cli *cli, rv_cli_model *args, rv_model **out);
void rv_cli_close_load(rv_cli_model *args, rv_model *model);
/* The options of a context by `args`; warns when the model was not made for so many tokens. */
rv_context_options rv_cli_context(const rv_cli *cli, const rv_cli_model *args, const rv_model *model);
/* As rv_cli_open_model, a context by `args` (the caller destroys it). */
int rv_cli_open_context(const rv_cli *cli, const rv_cli_model *args, rv_model *model, rv_context **out);

/* A pool of -t threads for work outside a context; threads that could not be had are warned of. */
rv_status rv_cli_open_threads(const rv_cli *cli, rv_threads **out);
/* Fails when a file `path` cannot be made, before any work is done for it. */
rv_status rv_cli_check_output(const char *path);

#endif
