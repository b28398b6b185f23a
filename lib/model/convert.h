/* A folder of safetensors, config.json and tokenizer.json, as models are published, to one GGUF file
 * that this library and llama.cpp load.
 *
 * Architectures: Qwen2ForCausalLM, Qwen3ForCausalLM, LlamaForCausalLM, and MistralForCausalLM, which is
 * `llama` in GGUF. A configuration key that changes the mathematics and is not implemented is refused
 * by its name; so are tensors that are missing, unknown or of another shape.
 */
#ifndef RV_MODEL_CONVERT_H
#define RV_MODEL_CONVERT_H

#include "base/log.h"
#include "base/status.h"
#include "base/threads.h"
#include "model/arch.h"

#include <stddef.h>
#include <stdint.h>

/* llama3's stretching of slow rotations (rope_scaling of config.json). */
typedef struct rv_rope_llama3 {
	int on;
	double factor, low_freq, high_freq, n_ctx_original;
} rv_rope_llama3;

/* What config.json says. hp.tied: "tie_word_embeddings". */
typedef struct rv_convert_config {
	const rv_arch *arch;
	rv_hparams hp;
	rv_rope_llama3 rope;
	int64_t bos, eos, pad; /* token ids; -1: not named. Not yet checked against a vocabulary */
} rv_convert_config;

/* Reads and checks the text of a config.json; `name` stands in messages. Keys of unknown meaning are
 * warned about to `log` (may be NULL). */
rv_status rv_convert_config_parse(const char *text, size_t size, const char *name, const rv_log *log,
                                  rv_convert_config *out);

/* rope_freqs.weight: what each of the n_rot / 2 rotation frequencies is divided by, in single
 * precision. */
void rv_convert_rope_freqs(const rv_convert_config *config, float *out);

/* The row of a half-split matrix [heads * head_dim, ...] that row `row` of the interleaved one is. */
int64_t rv_convert_rotary_row(int64_t row, int64_t head_dim);

typedef struct rv_convert_options {
	const rv_type_info
	        *type;       /* of the matrices: F32, F16 or BF16; NULL: as stored. Vectors are F32 */
	rv_threads *threads; /* NULL: this thread alone; the file does not depend on it */
	const rv_log *log;
	int (*cancelled)(void *user); /* NULL: never */
	void (*progress)(void *user, double fraction, const char *tensor);
	void *user;
} rv_convert_options;

typedef struct rv_convert_report {
	const rv_arch *arch;
	rv_hparams hp;
	const char *type_name; /* of most bytes of the matrices */
	size_t n_files, n_tensors;
	int64_t n_params;
	size_t from_bytes, to_bytes; /* of the tensors */
	int64_t n_padded;            /* tokens the vocabulary lacked beside the embedding's rows */
} rv_convert_report;

/* Writes OUT from the folder DIR, row slice by row slice: memory stays far below the model's size. OUT
 * appears when it is complete. Refused before anything is written: OUT being one of the input files
 * (RV_ERR_INVALID), whatever is wrong with configuration, vocabulary or tensor table. A value that is
 * not finite, or too large for the type, is RV_ERR_NUMERIC by tensor, row and element. `report` may be
 * NULL. */
rv_status rv_convert_dir(const char *dir, const char *out, const rv_convert_options *options,
                         rv_convert_report *report);

#endif
