/* What targets that need a model share: one of random weights, and a check that says what failed. */
#ifndef RV_TESTS_FUZZ_SMALL_MODEL_H
#define RV_TESTS_FUZZ_SMALL_MODEL_H

#include "model/model.h"
#include "model/synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void check(int ok) {
	if (!ok) {
		fprintf(stderr, "last failure: %s\n", rv_error_message());
		abort();
	}
}

/* Heads of 16, 32 wide; for the life of the process. */
static inline rv_model *small_model(int64_t n_layers, int64_t n_vocab, int64_t n_ctx, int tied) {
	char path[] = "/tmp/rv-fuzz-XXXXXX", hex[65];
	rv_model *model;
	int fd = mkstemp(path);
	check(fd >= 0);
	close(fd);
	const rv_synth_options synth = {.arch = rv_arch_by_name("qwen2", 5),
	                                .hp = {.n_layers = n_layers,
	                                       .n_embd = 32,
	                                       .n_heads = 2,
	                                       .n_kv_heads = 1,
	                                       .head_dim = 16,
	                                       .n_ff = 32,
	                                       .n_vocab = n_vocab,
	                                       .n_ctx_train = n_ctx,
	                                       .n_rot = 16,
	                                       .rope_theta = 1e4,
	                                       .rms_eps = 1e-6,
	                                       .tied = tied},
	                                .target = rv_quant_target_by_name("F32"),
	                                .seed = 1};
	check(rv_synth_file(path, &synth) == RV_OK);
	check(rv_model_open(&model, path, NULL) == RV_OK);
	check(rv_model_sha256(model, hex) == RV_OK); /* read once and kept: the file goes */
	unlink(path);
	return model;
}

#endif
