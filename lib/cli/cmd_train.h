/* The verbs of `ruvltra train`. */
#ifndef RV_CLI_CMD_TRAIN_H
#define RV_CLI_CMD_TRAIN_H

#include "cli/cli_model.h"

int rv_cmd_train_tokenizer(rv_cli *cli);
int rv_cmd_train_pack(rv_cli *cli);
int rv_cmd_train_embedder(rv_cli *cli);
int rv_cmd_train_router(rv_cli *cli);

#endif
