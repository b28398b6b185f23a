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

/* Writes a model of a shape and seed to a new temporary file, its path into `path`. */
static inline void tiny_model_file_of(char path[1024], const rv_hparams *hp, const char *arch,
                                      const char *target, uint64_t seed) {
	const char *tmp = getenv("TMPDIR");
	snprintf(path, 1024, "%s/rv-tiny-XXXXXX", tmp ? tmp : "/tmp");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	rv_synth_options o = {.arch = rv_arch_by_name(arch, strlen(arch)),
	                      .hp = *hp,
	                      .target = rv_quant_target_by_name(target),
	                      .seed = seed};
	assert_non_null(o.arch);
	assert_non_null(o.target);
	assert_ok(rv_synth_file(path, &o));
}

static inline void tiny_model_file(char path[1024], const char *arch, const char *target) {
	rv_hparams hp = tiny_hparams();
	tiny_model_file_of(path, &hp, arch, target, 7);
}

/* The model opened; its file is gone when this returns (its map lives on). */
static inline rv_model *tiny_model_open(const char *path) {
	rv_model *model;
	rv_status st = rv_model_open(&model, path, NULL);
	unlink(path);
	assert_ok(st);
	return model;
}

static inline rv_model *tiny_model_of(const rv_hparams *hp, const char *arch, const char *target,
                                      uint64_t seed) {
	char path[1024];
	tiny_model_file_of(path, hp, arch, target, seed);
	return tiny_model_open(path);
}

static inline rv_model *tiny_model(const char *arch, const char *target) {
	char path[1024];
	tiny_model_file(path, arch, target);
	return tiny_model_open(path);
}

#endif
