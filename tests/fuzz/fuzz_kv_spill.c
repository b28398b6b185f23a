/* Fuzz target: any bytes as a sequence's file, with and without what guards its rows made right (magic,
 * version, identity, checksum). What loads has the header's length and can be gone on with; what does
 * not leaves the sequence empty. */
#include "base/file.h"
#include "base/pool.h"
#include "engine/kv_policy.h"
#include "engine/kv_spill.h"
#include "tests/fuzz/small_model.h"

#include <string.h>

#define HEADER_BYTES 40
#define N_BYTES 24 /* of the header: numbers of tokens, ids, runs */
#define N_CTX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One layer, one head of 16 for keys and values; for the life of the process. */
static rv_context *new_context(const rv_kv_policy *policy) {
	rv_model *model = small_model(1, 300, N_CTX, 1);
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = N_CTX;
	o.n_batch = 1;
	o.page_size = 8;
	o.kv_budget_bytes = 8 * RV_POOL_PAGE_BYTES;
	o.kv_policy = policy;
	o.n_threads = 1;
	o.pin = 0;
	o.level = RV_LEVEL_REF;
	o.backend = RV_BACKEND_REF;
	check(rv_context_create(&ctx, model, &o) == RV_OK);
	rv_model_release(model);
	return ctx;
}

/* A context, flat or tiered, and a file it wrote, for its identity. */
typedef struct target {
	rv_context *ctx;
	char *sample;
	size_t n_identity;
} target;

static void make_sample(target *t) {
	char path[] = "/tmp/rv-fuzz-XXXXXX";
	size_t size;
	uint32_t n;
	rv_context *ctx = t->ctx;
	const rv_row row = {.token = 1, .parent = -1};
	int fd = mkstemp(path);
	check(fd >= 0);
	close(fd);
	check(rv_context_eval(ctx, &row, 1) == RV_OK);
	check(rv_seq_save(ctx, 0, &row.token, 1, path) == RV_OK);
	check(rv_file_read(path, 1 << 16, &t->sample, &size) == RV_OK);
	unlink(path);
	memcpy(&n, t->sample + 12, sizeof n);
	t->n_identity = n;
	check(rv_seq_truncate(ctx, 0, 0) == RV_OK);
}

static void as_file(rv_context *ctx, const void *data, size_t size) {
	int32_t tokens[N_CTX];
	rv_seq_file_info info;
	rv_status status = rv_seq_load_memory(ctx, 0, 0, data, size, "fuzz.kv", tokens, N_CTX, &info);
	check(rv_seq_length(ctx, 0) == (status == RV_OK ? info.n_tokens : 0));
	if (status == RV_OK && info.n_tokens < N_CTX) {
		const rv_row row = {.token = 2,
		                    .position = (int32_t)info.n_tokens,
		                    .parent = -1,
		                    .flags = RV_ROW_LOGITS};
		status = rv_context_eval(ctx, &row, 1);
		check(status == RV_OK || status == RV_ERR_NUMERIC);
	}
	check(rv_seq_truncate(ctx, 0, 0) == RV_OK);
}

/* The input as numbers of tokens and what follows the identity. */
static void as_mended_file(const target *t, const uint8_t *data, size_t size) {
	if (size < N_BYTES)
		return;
	size_t total = HEADER_BYTES + t->n_identity + (size - N_BYTES) + 4;
	char *file = malloc(total);
	memcpy(file, t->sample, HEADER_BYTES + t->n_identity);
	memcpy(file + 16, data, N_BYTES);
	if (data[0] & 1) { /* plausible numbers */
		const uint64_t n[3] = {data[1] % 32u + 1, data[2] & 1 ? data[1] % 32u + 1 : 0,
		                       data[3] % 4u};
		memcpy(file + 16, n, sizeof n);
	}
	memcpy(file + HEADER_BYTES + t->n_identity, data + N_BYTES, size - N_BYTES);
	uint32_t crc = rv_crc32(0, file, total - 4);
	memcpy(file + total - 4, &crc, 4);
	as_file(t->ctx, file, total);
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static target targets[2];
	if (!targets[0].ctx) {
		rv_kv_policy policy;
		check(rv_kv_policy_parse_name(&policy, "three-tier-kivi:tail=8:warm=16") == RV_OK);
		targets[0].ctx = new_context(NULL);
		targets[1].ctx = new_context(&policy);
		make_sample(&targets[0]);
		make_sample(&targets[1]);
	}
	as_file(targets[0].ctx, data, size);
	as_mended_file(&targets[0], data, size);
	as_mended_file(&targets[1], data, size);
	return 0;
}
