/* Bad input, bad numbers, bad files, full disks: each is named, and nothing is lost. */
#include "tests/learn/train_fixture.h"

#include "base/file.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>

static int32_t tokens[FIX_SEQS * (FIX_CTX + 1)];

static void expect(rv_status got, rv_status wanted, const char *part) {
	if (got != wanted || !strstr(rv_error_message(), part))
		fail_msg("status %d, message '%s': expected %d and '%s'", got, rv_error_message(),
		         wanted, part);
}

/* Writes into master weights: the only way to make bad ones. */
static float *data_of(rv_trainer *t, const char *name) {
	for (int64_t i = 0; i < rv_trainer_n_tensors(t); i++)
		if (strcmp(rv_trainer_tensor(t, i).name, name) == 0)
			return (float *)(uintptr_t)rv_trainer_tensor(t, i).data;
	fail_msg("no tensor %s", name);
	return NULL;
}

static void fill(rv_trainer *t, const char *name, int64_t n, float scale) {
	float *x = data_of(t, name);
	for (int64_t i = 0; i < n; i++)
		x[i] *= scale;
}

static void bad_arguments(void **state) {
	(void)state;
	rv_trainer_options o = fix_options();
	rv_trainer *t = fix_trainer(&o), *none;
	rv_hparams hp = fix_shape();
	float weights[FIX_SEQS * FIX_CTX] = {0};
	fix_batch(tokens, 0);
	expect(rv_trainer_step(t, tokens, weights, FIX_SEQS, NULL), RV_ERR_INVALID,
	       "no prediction has weight");
	weights[FIX_CTX + 3] = -1;
	expect(rv_trainer_step(t, tokens, weights, FIX_SEQS, NULL), RV_ERR_INVALID,
	       "sequence 1, position 3: weight -1");
	tokens[2 * (FIX_CTX + 1) + 7] = FIX_VOCAB;
	expect(rv_trainer_step(t, tokens, NULL, FIX_SEQS, NULL), RV_ERR_INVALID,
	       "sequence 2, position 7: token 40");
	expect(rv_trainer_step(t, tokens, NULL, 0, NULL), RV_ERR_INVALID, "0 sequences");
	rv_trainer_destroy(t);

	expect(rv_trainer_create(&none, rv_arch_by_name("llama", 5), &hp, NULL, &o), RV_ERR_UNSUPPORTED,
	       "architecture 'llama'");
	expect(rv_trainer_create(&none, rv_arch_by_name("qwen3", 5), &hp, NULL, &o), RV_ERR_UNSUPPORTED,
	       "architecture 'qwen3'");
	o.clip = NAN;
	expect(rv_trainer_create(&none, fix_arch(), &hp, NULL, &o), RV_ERR_INVALID, "clip");
	o = fix_options();
	o.lora_rank = 2;
	o.lora_targets = "q,x";
	expect(rv_trainer_create(&none, fix_arch(), &hp, NULL, &o), RV_ERR_INVALID, "'x'");
	hp.n_kv_heads = 3;
	expect(rv_trainer_create(&none, fix_arch(), &hp, NULL, NULL), RV_ERR_INVALID, "heads");
}

/* A step that fails leaves every weight, and the next good step is the one that would have been. */
static void fails_and_goes_on(rv_status wanted, const char *part, const char *tensor, int64_t n,
                              float scale) {
	rv_trainer_options o = fix_options();
	rv_trainer *t = fix_trainer(&o), *twin = fix_trainer(&o);
	fix_train(t, 0, 2);
	fix_train(twin, 0, 2);
	fix_batch(tokens, 2);
	float *x = data_of(t, tensor), first = x[1];
	if (n == 0)
		x[1] = NAN;
	else
		fill(t, tensor, n, scale);
	expect(rv_trainer_step(t, tokens, NULL, FIX_SEQS, NULL), wanted, part);
	assert_int_equal(rv_trainer_step_count(t), 2);
	if (n == 0) {
		x[1] = first;
		assert_true(fix_same(t, twin));
		fix_train(t, 2, 4);
		fix_train(twin, 2, 4);
		assert_true(fix_same(t, twin));
	}
	rv_trainer_destroy(t);
	rv_trainer_destroy(twin);
}

static void bad_numbers(void **state) {
	(void)state;
	fails_and_goes_on(RV_ERR_NUMERIC,
	                  "is not finite; what is computed "
	                  "with tensor 'blk.1.attn_k.weight'",
	                  "blk.1.attn_k.weight", 0, 0);
	/* finite weights whose squares are not: no norm may turn them into zeros in silence */
	fails_and_goes_on(RV_ERR_NUMERIC, "'blk.0.attn_norm.weight'", "token_embd.weight",
	                  FIX_VOCAB * 32, 1e25f);
	/* a finite loss with a gradient too large */
	fails_and_goes_on(RV_ERR_NUMERIC,
	                  "step 2: the gradient of tensor 'token_embd.weight' is not finite",
	                  "output_norm.weight", 32, 1e25f);
}

static int cancel_after;
static int cancelled(void *user) {
	(void)user;
	return cancel_after-- <= 0;
}

static void cancels(void **state) {
	(void)state;
	rv_trainer_options o = fix_options();
	o.n_threads = 1;
	rv_trainer *t = fix_trainer(&o), *twin = fix_trainer(&o);
	fix_train(t, 0, 1);
	fix_train(twin, 0, 1);
	rv_trainer_set_cancel(t, cancelled, NULL);
	fix_batch(tokens, 1);
	cancel_after = 2; /* in the midst of a batch */
	expect(rv_trainer_step(t, tokens, NULL, FIX_SEQS, NULL), RV_ERR_CANCELLED, "step 1");
	assert_true(fix_same(t, twin));
	rv_trainer_set_cancel(t, NULL, NULL);
	fix_train(t, 1, 2);
	fix_train(twin, 1, 2);
	assert_true(fix_same(t, twin));
	rv_trainer_destroy(t);
	rv_trainer_destroy(twin);
}

/* ---- files ---- */

/* The file is refused with the message, and the trainer is as it was. */
static void refuses(rv_trainer *t, rv_trainer *twin, const char *path, const char *part) {
	rv_status st = rv_trainer_load(t, path, NULL, NULL);
	if (st == RV_OK || !strstr(rv_error_message(), part) || !strstr(rv_error_message(), path))
		fail_msg("status %d, message '%s': expected '%s' of %s", st, rv_error_message(), part,
		         path);
	assert_true(fix_same(t, twin));
}

static void bad_checkpoints(void **state) {
	(void)state;
	char path[1024], other[1024];
	char *data;
	size_t size;
	fix_path(path, "good");
	fix_path(other, "bad");
	rv_trainer_options o = fix_options();
	rv_trainer *t = fix_trainer(&o), *twin = fix_trainer(&o);
	fix_train(t, 0, 1);
	fix_train(twin, 0, 1);
	assert_ok(rv_trainer_save(t, path, "note", 4));
	assert_ok(rv_file_read(path, 1 << 26, &data, &size));
	for (size_t cut = 0; cut < size; cut += cut < 4096 ? 509 : size / 9) {
		assert_ok(rv_file_write(other, data, cut));
		refuses(t, twin, other, "");
	}
	data[size - 1000] ^= 4;
	assert_ok(rv_file_write(other, data, size));
	refuses(t, twin, other, "crc32");
	rv_free(data);

	rv_hparams hp = fix_shape();
	hp.n_ff = 64;
	rv_trainer *wide;
	assert_ok(rv_trainer_create(&wide, fix_arch(), &hp, NULL, &o));
	assert_ok(rv_trainer_save(wide, other, NULL, 0));
	refuses(t, twin, other, "'ruvltra.checkpoint.n_ff' is 64, the trainer's is 48");
	assert_ok(rv_trainer_export(wide, other, NULL));
	refuses(t, twin, other, "general.type");
	rv_trainer_destroy(wide);
	o.lora_rank = 2;
	rv_trainer *lora = fix_trainer(&o);
	assert_ok(rv_trainer_save(lora, other, NULL, 0));
	refuses(t, twin, other, "lora_rank");
	o.seed++;
	rv_trainer *stranger = fix_trainer(&o);
	expect(rv_trainer_load(stranger, other, NULL, NULL), RV_ERR_MISMATCH,
	       "belong to another model");
	unlink(other);
	refuses(t, twin, other, "");
	assert_ok(rv_trainer_load(t, path, NULL, NULL)); /* and the good one is good */
	unlink(path);
	rv_trainer_destroy(t);
	rv_trainer_destroy(twin);
	rv_trainer_destroy(lora);
	rv_trainer_destroy(stranger);
}

/* No room for the new file: the old one stays, whole. */
static void full_disk(void **state) {
	(void)state;
	char path[1024];
	fix_path(path, "full");
	rv_trainer_options o = fix_options();
	rv_trainer *t = fix_trainer(&o), *old = fix_trainer(&o), *back = fix_trainer(&o);
	fix_train(old, 0, 1);
	fix_train(t, 0, 2);
	assert_ok(rv_trainer_save(old, path, NULL, 0));
	char *data;
	size_t size;
	assert_ok(rv_file_read(path, 1 << 26, &data, &size));
	rv_free(data);
	struct rlimit before, small;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
	for (size_t room = 0; room < size; room += size / 5 + 1) {
		small.rlim_cur = room;
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
		rv_status st = rv_trainer_save(t, path, NULL, 0);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
		expect(st, RV_ERR_IO, path);
		assert_ok(rv_trainer_load(back, path, NULL, NULL));
		assert_true(fix_same(old, back));
	}
	signal(SIGXFSZ, handler);
	assert_ok(rv_trainer_save(t, path, NULL, 0)); /* with room it is replaced */
	assert_ok(rv_trainer_load(back, path, NULL, NULL));
	assert_true(fix_same(t, back));
	unlink(path);
	rv_trainer_destroy(t);
	rv_trainer_destroy(old);
	rv_trainer_destroy(back);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(bad_arguments), cmocka_unit_test(bad_numbers),
	        cmocka_unit_test(cancels),       cmocka_unit_test(bad_checkpoints),
	        cmocka_unit_test(full_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
