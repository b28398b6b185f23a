/* A small model and batches to train it on. */
#ifndef RV_TESTS_LEARN_TRAIN_FIXTURE_H
#define RV_TESTS_LEARN_TRAIN_FIXTURE_H

#include "base/mem.h"
#include "base/rng.h"
#include "learn/trainer.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIX_CTX = 48, FIX_SEQS = 24, FIX_VOCAB = 40 };

static inline rv_hparams fix_shape(void) {
	return (rv_hparams){.n_layers = 2,
	                    .n_embd = 32,
	                    .n_heads = 4,
	                    .n_kv_heads = 2,
	                    .head_dim = 8,
	                    .n_ff = 48,
	                    .n_vocab = FIX_VOCAB,
	                    .n_ctx_train = 64,
	                    .n_rot = 8,
	                    .rope_theta = 1000,
	                    .rms_eps = 1e-6,
	                    .tied = 1};
}

static inline const rv_arch *fix_arch(void) {
	return rv_arch_by_name("qwen2", 5);
}

static inline rv_trainer_options fix_options(void) {
	rv_trainer_options o = rv_trainer_defaults();
	o.n_ctx = FIX_CTX;
	o.schedule.peak = 5e-3;
	o.schedule.n_warmup = 2;
	o.schedule.n_steps = 40;
	o.init_std = 0.1;
	o.n_threads = 2;
	o.pin = 0;
	return o;
}

static inline rv_trainer *fix_trainer(const rv_trainer_options *o) {
	rv_hparams hp = fix_shape();
	rv_trainer *t;
	assert_ok(rv_trainer_create(&t, fix_arch(), &hp, NULL, o));
	return t;
}

/* Sequences that count up by a step of their own: predictable from two tokens. */
static inline void fix_batch(int32_t tokens[FIX_SEQS * (FIX_CTX + 1)], int64_t step) {
	rv_rng rng;
	rv_rng_stream(&rng, 3, (uint64_t)step);
	for (int s = 0; s < FIX_SEQS; s++) {
		int64_t by = 1 + (int64_t)rv_rng_below(&rng, 5),
		        at = (int64_t)rv_rng_below(&rng, FIX_VOCAB);
		for (int i = 0; i <= FIX_CTX; i++, at += by)
			tokens[s * (FIX_CTX + 1) + i] = (int32_t)(at % FIX_VOCAB);
	}
}

/* Steps `from` to `to`; the last loss. */
static inline double fix_train(rv_trainer *t, int64_t from, int64_t to) {
	static int32_t tokens[FIX_SEQS * (FIX_CTX + 1)];
	rv_train_record r = {0};
	for (int64_t i = from; i < to; i++) {
		fix_batch(tokens, i);
		assert_ok(rv_trainer_step(t, tokens, NULL, FIX_SEQS, &r));
		assert_int_equal(r.step, i);
	}
	return r.loss;
}

/* Do all tensors have the same bits? */
static inline int fix_same(const rv_trainer *a, const rv_trainer *b) {
	for (int64_t i = 0; i < rv_trainer_n_tensors(a); i++) {
		rv_train_tensor x = rv_trainer_tensor(a, i), y = rv_trainer_tensor(b, i);
		assert_string_equal(x.name, y.name);
		if (memcmp(x.data, y.data, (size_t)(x.rows * x.cols) * sizeof(float)) != 0)
			return 0;
	}
	return 1;
}

static inline void fix_path(char path[1024], const char *name) {
	const char *tmp = getenv("TMPDIR");
	snprintf(path, 1024, "%s/rv-train-%d-%s", tmp ? tmp : "/tmp", (int)getpid(), name);
}

/* A model trained for some steps, as a file that was opened. */
static inline rv_model *fix_model(int64_t steps) {
	char path[1024];
	rv_model *model;
	fix_path(path, "base.gguf");
	rv_trainer_options o = fix_options();
	rv_trainer *t = fix_trainer(&o);
	fix_train(t, 0, steps);
	assert_ok(rv_trainer_export(t, path, &(rv_train_export){.type = rv_type_get(RV_F32)}));
	rv_trainer_destroy(t);
	rv_status st = rv_model_open(&model, path, NULL);
	unlink(path);
	assert_ok(st);
	return model;
}

#endif
