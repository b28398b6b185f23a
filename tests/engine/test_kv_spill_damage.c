/* Whatever is not exactly the file of a sequence is refused by name and leaves the sequence empty. */
#include "tests/engine/spill_kit.h"

static void not_such_a_file(void **state) {
	(void)state;
	rv_context *ctx = kv_context(model, kv_options(1, RV_KV_F16));
	assert_fails(load_bytes(ctx, "", 0), RV_ERR_FORMAT, "0 bytes");
	assert_fails(load_bytes(ctx, "RVKVSEQ\n", 8), RV_ERR_FORMAT, "no file of a sequence");
	assert_fails(rv_seq_load(ctx, 0, 0, rv_model_path(model), NULL, 0, NULL), RV_ERR_FORMAT,
	             "no file of a sequence");
	assert_fails(rv_seq_load(ctx, 0, 0, test_dir, NULL, 0, NULL), RV_ERR_INVALID, "a directory");
	rv_context_destroy(ctx);
}

/* ---- damage ---- */

static void every_byte_flipped(void **state) {
	(void)state;
	size_t size;
	save_some(1, 3);
	char *data = slurp(&size);
	rv_context *ctx = kv_context(model, kv_options(1, RV_KV_F16));
	for (size_t i = 0; i < size; i++)
		for (int bits = 0; bits < 3; bits++) {
			const char old = data[i];
			data[i] = (char)(old ^ (bits == 0 ? 1 : bits == 1 ? 0x80 : 0xff));
			if (load_bytes(ctx, data, size) == RV_OK)
				fail_msg("byte %zu of %zu changed from %d to %d: not seen", i, size,
				         old, data[i]);
			data[i] = old;
		}
	assert_ok(load_bytes(ctx, data, size)); /* negative control: whole, it loads */
	rv_context_destroy(ctx);
	rv_free(data);
}

static void cut_or_longer(void **state) {
	(void)state;
	size_t size;
	save_some(1, 3);
	char *data = slurp(&size);
	char *copy = malloc(size + 100);
	rv_context *ctx = kv_context(model, kv_options(1, RV_KV_F16));
	for (size_t n = 0; n < size; n++) {
		memcpy(copy, data, n); /* a buffer of its own: reading on is seen by the sanitizer */
		char *exact = malloc(n ? n : 1);
		memcpy(exact, data, n);
		assert_int_not_equal(load_bytes(ctx, exact, n), RV_OK);
		if (n > 4) { /* and with a right checksum at the cut */
			mend(exact, n);
			assert_int_not_equal(load_bytes(ctx, exact, n), RV_OK);
		}
		free(exact);
	}
	for (size_t more = 1; more <= 100; more++) {
		memset(copy, 0, size + more);
		memcpy(copy, data, size);
		assert_int_equal(load_bytes(ctx, copy, size + more), RV_ERR_FORMAT);
		memcpy(copy, data, size - 4);
		mend(copy, size + more);
		assert_fails(load_bytes(ctx, copy, size + more), RV_ERR_FORMAT, "after its end");
	}
	rv_context_destroy(ctx);
	rv_free(data);
	free(copy);
}

/* Fields that lie, under a right checksum: offsets are those of the header and of the first run. */
static void forged(void **state) {
	(void)state;
	size_t size;
	save_some(1, 3);
	char *data = slurp(&size);
	rv_context *ctx = kv_context(model, kv_options(1, RV_KV_F16));
	uint32_t n_identity;
	memcpy(&n_identity, data + 12, 4);
	const size_t ids = 40 + n_identity, runs = ids + 3 * 4;
	const struct {
		size_t at;
		uint64_t value;
		int bytes;
		rv_status status;
		const char *part;
	} rows[] = {
	        {8, 2, 4, RV_ERR_UNSUPPORTED, "version 2"},
	        {12, 0, 4, RV_ERR_MISMATCH, "identity: ''"},
	        {12, UINT32_MAX, 4, RV_ERR_MISMATCH, "another identity"},
	        {12, n_identity - 1, 4, RV_ERR_MISMATCH, "another identity"},
	        {16, 0, 8, RV_ERR_FORMAT, "0 tokens"},
	        {16, 2, 8, RV_ERR_FORMAT, "2 tokens with 3 ids"},
	        {16, UINT64_MAX, 8, RV_ERR_FORMAT, "tokens with 3 ids"},
	        {24, UINT64_MAX, 8, RV_ERR_FORMAT, "ids"},
	        {24, 0, 8, RV_ERR_FORMAT, "run 0"},
	        {32, 0, 8, RV_ERR_FORMAT, "runs of 0 tokens, the header says 3"},
	        {32, UINT64_MAX, 8, RV_ERR_FORMAT, "ends within the runs"},
	        {32, 2, 8, RV_ERR_FORMAT, "run 1"},
	        {ids + 4, N_VOCAB, 4, RV_ERR_FORMAT, "token 1 is 320"},
	        {ids + 8, UINT32_MAX, 4, RV_ERR_FORMAT, "token 2 is -1"},
	        {runs, RV_KV_COUNT, 4, RV_ERR_FORMAT, "run 0"},
	        {runs, RV_KV_F32, 4, RV_ERR_FORMAT, "ends within the keys"},
	        {runs + 4, 0, 4, RV_ERR_FORMAT, "0 tokens of format"},
	        {runs + 4, 2, 4, RV_ERR_FORMAT, "runs of 2 tokens, the header says 3"},
	        {runs + 4, UINT32_MAX, 4, RV_ERR_FORMAT, "4294967295 tokens"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char *copy = malloc(size);
		memcpy(copy, data, size);
		memcpy(copy + rows[i].at, &rows[i].value, (size_t)rows[i].bytes);
		mend(copy, size);
		assert_fails(load_bytes(ctx, copy, size), rows[i].status, rows[i].part);
		free(copy);
	}
	rv_context_destroy(ctx);
	rv_free(data);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(not_such_a_file),
	        cmocka_unit_test(every_byte_flipped),
	        cmocka_unit_test(cut_or_longer),
	        cmocka_unit_test(forged),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
