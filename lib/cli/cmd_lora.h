/* The verbs of `ruvltra lora`. */
#ifndef RV_CLI_CMD_LORA_H
#define RV_CLI_CMD_LORA_H

#include "cli/cli_model.h"

int rv_cmd_lora_train(rv_cli *cli);
int rv_cmd_lora_merge(rv_cli *cli);
int rv_cmd_lora_apply(rv_cli *cli);
int rv_cmd_lora_info(rv_cli *cli);

#endif
