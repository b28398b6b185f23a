/* A small random model for tests that need any model: 3 layers, 256 wide, 4/2 heads of 64, 512 tokens.
 */
#ifndef RV_TESTS_SUPPORT_TINY_MODEL_H
#define RV_TESTS_SUPPORT_TINY_MODEL_H

#include "model/model.h"
#include "model/synth.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline rv_hparams tiny_hparams(void) {
	return (rv_hparams){.n_layers = 3,
	                    .n_embd = 256,
	                    .n_heads = 4,
	                    .n_kv_heads = 2,
	                    .head_dim = 64,
	                    .n_ff = 512,
	                    .n_vocab = 512,
	                    .n_ctx_train = 2048,
	                    .n_rot = 64,
	                    .rope_theta = 1e6,
	                    .rms_eps = 1e-6,
	                    .tied = 1};
}

/* Writes the model to a new temporary file, its path into `path`. */
static inline void tiny_model_file(char path[1024], const char *arch, const char *target) {
	const char *tmp = getenv("TMPDIR");
	snprintf(path, 1024, "%s/rv-tiny-XXXXXX", tmp ? tmp : "/tmp");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	rv_synth_options o = {.arch = rv_arch_by_name(arch, strlen(arch)),
	                      .hp = tiny_hparams(),
	                      .target = rv_quant_target_by_name(target),
	                      .seed = 7};
	assert_non_null(o.arch);
	assert_non_null(o.target);
	assert_ok(rv_synth_file(path, &o));
}

/* The model opened; its file is gone when this returns (its map lives on). */
static inline rv_model *tiny_model(const char *arch, const char *target) {
	char path[1024];
	rv_model *model;
	tiny_model_file(path, arch, target);
	rv_status st = rv_model_open(&model, path, NULL);
	unlink(path);
	assert_ok(st);
	return model;
}

#endif
