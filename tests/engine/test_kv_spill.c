/* Sequences in files: a restored one goes on with the same bits; those of another identity are refused
 * by name; a killed or failed save leaves the old file. */
#include "base/rng.h"
#include "engine/kv_convert.h"
#include "engine/kv_pages.h"
#include "engine/kv_policy.h"
#include "tests/engine/spill_kit.h"

#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* ---- the same bits ---- */

enum { N_MORE = 8 };

/* Goes on for N_MORE tokens; their logits. */
static void go_on(rv_context *ctx, int32_t seq, float *out) {
	int32_t more[N_MORE];
	some_tokens(more, N_MORE, 99);
	for (int32_t i = 0; i < N_MORE; i++) {
		const float *logits;
		assert_ok(append(ctx, seq, &more[i], 1, 0, &logits));
		memcpy(out + i * N_VOCAB, logits, N_VOCAB * sizeof *out);
	}
}

static const int32_t page_sizes[] = {0, 8, 64, 256};
#define N_PAGE_SIZES (sizeof page_sizes / sizeof *page_sizes)

/* From every page size, and a cache in one piece, to every other. */
static void goes_on(void **state) {
	(void)state;
	static const rv_kv_type types[] = {RV_KV_F32, RV_KV_F16, RV_KV_Q8, RV_KV_Q4};
	static float expected[N_MORE * N_VOCAB], found[N_MORE * N_VOCAB];
	int32_t tokens[N_TOKENS], back[N_CTX];
	some_tokens(tokens, N_TOKENS, 1);
	for (size_t t = 0; t < sizeof types / sizeof *types * N_PAGE_SIZES; t++) {
		rv_context_options o = kv_options(3, types[t / N_PAGE_SIZES]);
		rv_seq_file_info info;
		o.page_size = page_sizes[t % N_PAGE_SIZES];
		rv_context *from = filled(o, 1, 1);
		assert_ok(rv_seq_save(from, 1, tokens, N_TOKENS, file_path));
		go_on(from, 1, expected);
		rv_context_destroy(from);
		for (size_t p = 0; p < N_PAGE_SIZES; p++) {
			o.page_size = page_sizes[p];
			rv_context *to = filled(o, 0, 2); /* beside another one */
			assert_ok(rv_seq_load(to, 2, 0, file_path, back, N_CTX, &info));
			assert_true(info.n_tokens == N_TOKENS && info.has_ids);
			assert_memory_equal(back, tokens, sizeof tokens);
			assert_int_equal(rv_seq_length(to, 2), N_TOKENS);
			go_on(to, 2, found);
			assert_memory_equal(found, expected, sizeof found);
			if (rv_context_kv_pages(to))
				assert_ok(rv_kv_pages_verify(rv_context_kv_pages(to), 0));
			rv_context_destroy(to);
		}
	}
	/* Negative control: one bit of one key changed, the checksum made right. */
	size_t size;
	char *data = slurp(&size);
	data[size - 40] ^= 0x40;
	mend(data, size);
	rv_context *to = kv_context(model, kv_options(1, RV_KV_Q4));
	assert_ok(load_bytes(to, data, size));
	go_on(to, 0, found);
	assert_memory_not_equal(found, expected, sizeof found);
	rv_context_destroy(to);
	rv_free(data);
}

/* Pages that were quantized stay so; where a page would hold rows of two types it is refused. */
static void mixed_types(void **state) {
	(void)state;
	static float expected[N_MORE * N_VOCAB], found[N_MORE * N_VOCAB];
	rv_context_options o = kv_options(2, RV_KV_F16);
	const int64_t head_dim = kv_shape().head_dim;
	o.page_size = 16;
	o.kv_budget_bytes = 8 * RV_POOL_PAGE_BYTES; /* a pool page a type */
	rv_context *from = filled(o, 0, 1);
	rv_kv_pages *kv = rv_context_kv_pages(from);
	const rv_kv_page *pages;
	int64_t n = rv_kv_seq_pages(kv, 0, &pages);
	assert_int_equal(n, 5); /* the last one in part */
	for (int64_t i = 1; i < n; i += 3) {
		rv_kv_page fresh;
		assert_ok(rv_kv_page_create(kv, i == 1 ? RV_KV_Q8 : RV_KV_Q4, &fresh));
		rv_kv_page_convert(kv, head_dim, i == 1 ? 16 : N_TOKENS - 64, pages[i], fresh);
		rv_kv_page_release(kv, fresh);
	}
	assert_ok(rv_seq_save(from, 0, NULL, 0, file_path));
	go_on(from, 0, expected);
	assert_ok(rv_kv_pages_verify(kv, 0));
	rv_context_destroy(from);
	for (int32_t p = 8; p <= 32; p *= 2) {
		o.page_size = p;
		rv_context *to = kv_context(model, o);
		if (p == 32) { /* 0 to 15 F16, 16 to 31 Q8 */
			assert_fails(rv_seq_load(to, 1, 0, file_path, NULL, 0, NULL), RV_ERR_MISMATCH,
			             "from position 16 on is of format q8");
			assert_int_equal(rv_seq_length(to, 1), 0);
		} else {
			assert_ok(rv_seq_load(to, 1, 0, file_path, NULL, 0, NULL));
			go_on(to, 1, found);
			assert_memory_equal(found, expected, sizeof found);
		}
		assert_ok(rv_kv_pages_verify(rv_context_kv_pages(to), 0));
		rv_context_destroy(to);
	}
	o.page_size = 0;
	rv_context *to = kv_context(model, o);
	assert_fails(rv_seq_load(to, 1, 0, file_path, NULL, 0, NULL), RV_ERR_MISMATCH,
	             "needs pages of its own");
	rv_context_destroy(to);
}

/* Pages that aged under a policy are restored as they were, by the same policy and page size alone. */
static void tiered(void **state) {
	(void)state;
	static const char *const names[] = {"two-tier:tail=16", "three-tier:tail=16:warm=32",
	                                    "three-tier-kivi:tail=16:warm=32",
	                                    "two-tier:tail=32:store=kivi2"};
	enum { N_POLICIES = sizeof names / sizeof *names };
	static float expected[N_MORE * N_VOCAB], found[N_MORE * N_VOCAB];
	rv_kv_policy policies[N_POLICIES];
	rv_context_options o = kv_options(2, RV_KV_F16);
	o.kv_budget_bytes = 12 * RV_POOL_PAGE_BYTES;
	for (int i = 0; i < N_POLICIES; i++)
		assert_ok(rv_kv_policy_parse_name(&policies[i], names[i]));
	for (int i = 0; i < N_POLICIES; i++) {
		o.kv_policy = &policies[i];
		o.page_size = 16;
		rv_context *from = filled(o, 0, 1);
		const rv_kv_page *pages;
		rv_kv_seq_pages(rv_context_kv_pages(from), 0, &pages);
		assert_int_not_equal(rv_kv_page_format(rv_context_kv_pages(from), pages[0]), RV_KV_F16);
		assert_ok(rv_seq_save(from, 0, NULL, 0, file_path));
		go_on(from, 0, expected);
		rv_context_destroy(from);
		for (int k = 0; k < N_POLICIES + 2; k++) {
			rv_context_options other = o;
			other.kv_policy = k < N_POLICIES    ? &policies[k]
			                  : k == N_POLICIES ? NULL
			                                    : o.kv_policy;
			other.page_size = k > N_POLICIES ? 32 : 16;
			rv_context *to = filled(other, 0, 2);
			if (k == i) {
				assert_ok(rv_seq_load(to, 1, 0, file_path, NULL, 0, NULL));
				go_on(to, 1, found);
				assert_memory_equal(found, expected, sizeof found);
			} else {
				assert_fails(rv_seq_load(to, 1, 0, file_path, NULL, 0, NULL),
				             RV_ERR_MISMATCH, "'pages of 16, tail");
				assert_int_equal(rv_seq_length(to, 1), 0);
			}
			assert_ok(rv_kv_pages_verify(rv_context_kv_pages(to), -1));
			rv_context_destroy(to);
		}
	}
}

/* No pages left for it: by name, and none kept. */
static void no_pages(void **state) {
	(void)state;
	rv_context_options o = kv_options(4, RV_KV_F16);
	save_some(1, N_TOKENS);
	o.page_size = 8;
	o.kv_budget_bytes = 1;
	o.n_ctx = 8192;
	rv_context *ctx = kv_context(model, o);
	rv_kv_stats stats;
	rv_context_kv_stats(ctx, &stats);
	int32_t token = 1, n = 0;
	for (rv_status status = RV_OK; status == RV_OK; n++) {
		rv_row rows[64];
		for (int i = 0; i < 64; i++)
			rows[i] = (rv_row){token, 1, n * 64 + i, -1, 0, 0};
		status = rv_context_eval(ctx, rows, 64);
		assert_true(status == RV_OK || status == RV_ERR_LIMIT);
	}
	assert_ok(rv_seq_truncate(ctx, 1, rv_seq_length(ctx, 1) - 30)); /* some pages are free */
	assert_fails(rv_seq_load(ctx, 0, 0, file_path, NULL, 0, NULL), RV_ERR_LIMIT,
	             "seq.kv: KV pages");
	assert_int_equal(rv_seq_length(ctx, 0), 0);
	assert_ok(rv_kv_pages_verify(rv_context_kv_pages(ctx), 0));
	assert_ok(rv_seq_truncate(ctx, 1, rv_seq_length(ctx, 1) - 64));
	assert_ok(rv_seq_load(ctx, 0, 0, file_path, NULL, 0, NULL));
	assert_ok(rv_kv_pages_verify(rv_context_kv_pages(ctx), 0));
	rv_context_destroy(ctx);
}

/* A file without ids; a truncated sequence; a second save over the first. */
static void without_ids(void **state) {
	(void)state;
	rv_seq_file_info info;
	int32_t untouched = -5;
	rv_context *ctx = filled(kv_options(2, RV_KV_F16), 0, 1);
	save_some(3, 5);
	assert_ok(rv_seq_truncate(ctx, 0, 33));
	assert_ok(rv_seq_save(ctx, 0, NULL, 0, file_path));
	assert_ok(rv_seq_load(ctx, 1, 0, file_path, &untouched, 0, &info));
	assert_true(info.n_tokens == 33 && !info.has_ids && untouched == -5);
	assert_int_equal(rv_seq_length(ctx, 1), 33);
	rv_context_destroy(ctx);
}

static void rules(void **state) {
	(void)state;
	int32_t tokens[N_TOKENS];
	some_tokens(tokens, N_TOKENS, 1);
	rv_context *ctx = filled(kv_options(2, RV_KV_F16), 0, 1);
	assert_fails(rv_seq_save(ctx, 1, NULL, 0, file_path), RV_ERR_INVALID, "empty");
	assert_fails(rv_seq_save(ctx, 2, NULL, 0, file_path), RV_ERR_INVALID, "not in [0, 2)");
	assert_fails(rv_seq_save(ctx, 0, tokens, 5, file_path), RV_ERR_INVALID, "5 token ids");
	assert_fails(rv_seq_save(ctx, 0, NULL, 5, file_path), RV_ERR_INVALID, "5 token ids");
	assert_ok(rv_seq_save(ctx, 0, tokens, N_TOKENS, file_path));
	assert_fails(rv_seq_load(ctx, 0, 0, file_path, NULL, 0, NULL), RV_ERR_INVALID, "holds tokens");
	assert_int_equal(rv_seq_length(ctx, 0), N_TOKENS);
	assert_fails(rv_seq_load(ctx, 2, 0, file_path, NULL, 0, NULL), RV_ERR_INVALID, "[0, 2)");
	assert_fails(rv_seq_load(ctx, 1, RV_ADAPTER_SETS, file_path, NULL, 0, NULL), RV_ERR_INVALID,
	             "adapters");
	assert_fails(rv_seq_load(ctx, 1, 0, file_path, tokens, N_TOKENS - 1, NULL), RV_ERR_LIMIT,
	             "room for 69");
	assert_fails(rv_seq_load(ctx, 1, 0, "/nowhere/seq.kv", NULL, 0, NULL), RV_ERR_NOT_FOUND,
	             "/nowhere/seq.kv");
	assert_fails(rv_seq_save(ctx, 0, NULL, 0, "/nowhere/seq.kv"), RV_ERR_NOT_FOUND,
	             "/nowhere/seq.kv");
	assert_int_equal(rv_seq_length(ctx, 1), 0);
	rv_context_destroy(ctx);
	rv_context_options o = kv_options(1, RV_KV_F16);
	o.n_ctx = N_TOKENS - 1;
	ctx = kv_context(model, o);
	assert_fails(rv_seq_load(ctx, 0, 0, file_path, NULL, 0, NULL), RV_ERR_LIMIT,
	             "a sequence holds 69 here");
	assert_int_equal(rv_seq_length(ctx, 0), 0);
	rv_context_destroy(ctx);
}

/* ---- foreign files ---- */

static void other_identities(void **state) {
	(void)state;
	rv_model *other = kv_model("other.gguf", 8);
	rv_context_options plain = kv_options(1, RV_KV_F16), o;
	save_some(1, 20);
	struct {
		rv_model *model;
		rv_context_options options;
		const char *part;
	} rows[6];
	for (int i = 0; i < 6; i++) {
		rows[i].model = i == 0 ? other : model;
		rows[i].options = plain;
	}
	rows[0].part = "'model ";
	rows[1].options.kv_type = RV_KV_F32;
	rows[1].part = "'cache f16', here 'cache f32'";
	rows[2].options.backend = RV_BACKEND_REF;
	rows[2].part = "here 'backend ref";
	rows[3].options.attention = RV_ATTN_STANDARD;
	rows[3].part = "standard attention'";
	rows[4].options.attention = RV_ATTN_STANDARD_CAUSAL;
	rows[4].part = "standard-causal attention'";
	rows[5].options.rope = (rv_rope_scaling){.kind = RV_ROPE_NTK, .factor = 2};
	rows[5].part = "scaling ntk 2";
	for (int i = 0; i < 6; i++) {
		rv_context *ctx = kv_context(rows[i].model, rows[i].options);
		assert_fails(rv_seq_load(ctx, 0, 0, file_path, NULL, 0, NULL), RV_ERR_MISMATCH,
		             rows[i].part);
		assert_int_equal(rv_seq_length(ctx, 0), 0);
		rv_context_destroy(ctx);
	}
	/* Threads, batches and sequences are no part of the identity. */
	o = plain;
	o.n_threads = 2;
	o.n_seqs = 4;
	o.n_batch = 7;
	rv_context *ctx = kv_context(model, o);
	assert_ok(rv_seq_load(ctx, 3, 0, file_path, NULL, 0, NULL));
	rv_context_destroy(ctx);
	rv_model_release(other);
}

/* The adapters a sequence was begun with, by content and scale, in order. */
static void adapters(void **state) {
	(void)state;
	int32_t tokens[10];
	rv_adapter *one = kv_adapter(model, "one.gguf", 0.1f),
	           *two = kv_adapter(model, "two.gguf", 0.2f),
	           *copy = kv_adapter(model, "copy.gguf", 0.1f);
	const rv_adapter_use sets[][2] = {{{one, 1}, {two, 1}},
	                                  {{two, 1}, {one, 1}},
	                                  {{one, 1}, {NULL, 0}},
	                                  {{one, 2}, {two, 1}},
	                                  {{copy, 1}, {two, 1}}};
	rv_context *from = kv_context(model, kv_options(2, RV_KV_F16));
	some_tokens(tokens, 10, 1);
	assert_ok(rv_context_set_adapters(from, 3, sets[0], 2));
	assert_ok(append(from, 0, tokens, 10, 3, NULL));
	assert_ok(rv_seq_save(from, 0, NULL, 0, file_path));
	rv_context *to = kv_context(model, kv_options(1, RV_KV_F16));
	for (int i = 0; i < 5; i++) {
		assert_ok(rv_context_set_adapters(to, 1, sets[i], i == 2 ? 1 : 2));
		rv_status status = rv_seq_load(to, 0, 1, file_path, NULL, 0, NULL);
		assert_int_equal(status, i == 0 || i == 4 ? RV_OK : RV_ERR_MISMATCH);
		if (status != RV_OK)
			assert_non_null(strstr(rv_error_message(), "'adapters "));
		else /* it goes on with this set alone */
			assert_int_equal(append(to, 0, tokens, 1, 0, NULL), RV_ERR_INVALID);
		assert_ok(rv_seq_truncate(to, 0, 0));
	}
	assert_fails(rv_seq_load(to, 0, 0, file_path, NULL, 0, NULL), RV_ERR_MISMATCH,
	             "here 'adapters none'");
	rv_context_destroy(from);
	rv_context_destroy(to);
	rv_adapter_release(one);
	rv_adapter_release(two);
	rv_adapter_release(copy);
}

/* ---- failures while writing ---- */

/* A full disk, as far as one can be had without rights. */
static void disk_full(void **state) {
	(void)state;
	char before[65], after[65];
	save_some(1, 3);
	assert_ok(rv_file_sha256(file_path, before));
	int files = count_files();
	rv_context *ctx = filled(kv_options(1, RV_KV_F16), 0, 2);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit limit = {5000, 5000};
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
		rv_status status = rv_seq_save(ctx, 0, NULL, 0, file_path);
		_exit(status == RV_ERR_IO && strstr(rv_error_message(), "File too large") &&
		                      rv_seq_length(ctx, 0) == N_TOKENS
		              ? 0
		              : 1);
	}
	int status = 1;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_ok(rv_file_sha256(file_path, after));
	assert_string_equal(before, after);
	assert_int_equal(count_files(), files);
	assert_ok(rv_seq_save(ctx, 0, NULL, 0, file_path)); /* negative control: with room it works */
	rv_context_destroy(ctx);
}

/* Two versions are saved in turns until killed: the file is always one of them. */
static void killed(void **state) {
	(void)state;
	int seen[2] = {0, 0};
	rv_rng rng;
	rv_rng_seed(&rng, 5);
	save_some(1, 3);
	rv_context *ctx = filled(kv_options(1, RV_KV_F16), 0, 1);
	fflush(stdout);
	for (int i = 0; i < 40; i++) {
		int saved[2];
		char byte;
		assert_int_equal(pipe(saved), 0);
		pid_t pid = fork();
		if (pid == 0) {
			rv_context *child = filled(kv_options(2, RV_KV_F16), 0, 1);
			rv_seq_truncate(child, 0, 30);
			rv_seq_copy(child, 0, 1, 20);
			for (int32_t turn = 0;; turn ^= 1)
				if (rv_seq_save(child, turn, NULL, 0, file_path) != RV_OK ||
				    write(saved[1], "", 1) != 1)
					_exit(1);
		}
		close(saved[1]);
		/* after its first one, in the middle of some other */
		assert_int_equal(read(saved[0], &byte, 1), 1);
		const struct timespec wait = {0, (long)rv_rng_below(&rng, 8000000)};
		nanosleep(&wait, NULL);
		kill(pid, SIGKILL);
		int status;
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status));
		close(saved[0]);
		rv_seq_file_info info;
		assert_ok(rv_seq_truncate(ctx, 0, 0));
		assert_ok(rv_seq_load(ctx, 0, 0, file_path, NULL, 0, &info));
		assert_true(info.n_tokens == 20 || info.n_tokens == 30);
		seen[info.n_tokens == 30]++;
	}
	print_message("# killed 40 times: the file of 20 tokens %d times, of 30 %d\n", seen[0],
	              seen[1]);
	rv_context_destroy(ctx);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(goes_on),          cmocka_unit_test(mixed_types),
	        cmocka_unit_test(tiered),           cmocka_unit_test(no_pages),
	        cmocka_unit_test(without_ids),      cmocka_unit_test(rules),
	        cmocka_unit_test(other_identities), cmocka_unit_test(adapters),
	        cmocka_unit_test(disk_full),        cmocka_unit_test(killed),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
