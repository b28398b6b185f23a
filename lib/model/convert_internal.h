/* What the files of the converter share. Not a public header. */
#ifndef RV_MODEL_CONVERT_INTERNAL_H
#define RV_MODEL_CONVERT_INTERNAL_H

#include "base/json.h"
#include "model/convert.h"
#include "model/gguf.h"

#define RV_CONVERT_CLASSES "Qwen2ForCausalLM, Qwen3ForCausalLM, LlamaForCausalLM, MistralForCausalLM"

rv_status rv_convert_config_read(const json_t *config, const char *name, const rv_log *log,
                                 rv_convert_config *out);
/* bos, eos and pad of a config.json or generation_config.json, where it names them. */
void rv_convert_read_ids(const json_t *config, rv_convert_config *out);

/* The vocabulary of a folder, of as many tokens as the embedding has rows. */
typedef struct rv_convert_vocab rv_convert_vocab;
rv_status rv_convert_vocab_open(rv_convert_vocab **out, const char *dir,
                                const rv_convert_config *config, const rv_log *log);
void rv_convert_vocab_close(rv_convert_vocab *v); /* accepts NULL */
int64_t rv_convert_vocab_padded(const rv_convert_vocab *v);
rv_status rv_convert_vocab_write(const rv_convert_vocab *v, rv_gguf_writer *w);

/* "DIR/NAME" (rv_free'd by the caller). */
rv_status rv_convert_join(char **out, const char *dir, const char *name);

#endif
