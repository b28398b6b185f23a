/* Options of every sub-command that samples tokens, and the sampler they describe. */
#ifndef RV_CLI_CLI_SAMPLING_H
#define RV_CLI_CLI_SAMPLING_H

#include "cli/cli_model.h"
#include "engine/sampler.h"
#include "model/model.h"

typedef struct rv_cli_sampling {
	rv_sampler_options sampler; /* its seed is --seed, set by rv_cli_open_sampler */
	rv_option_list stop;        /* texts that end an answer, none of them empty */
} rv_cli_sampling;

extern const rv_option rv_cli_sampling_options[];

/* rv_cli_parse with *s and *load among `values`: s filled with the defaults of the variant that is
 * asked for. The line may be read twice, so no other of the structs may hold a list. */
int rv_cli_parse_sampling(rv_cli *cli, const rv_option *const *tables, void *const *values,
                          rv_cli_sampling *s, rv_cli_model *load);

/* RV_CLI_GO with *out set (the caller destroys it), or the exit status of a failure, already printed.
 */
int rv_cli_open_sampler(const rv_cli *cli, const rv_cli_sampling *s, const rv_model *model,
                        rv_sampler **out);

#endif
