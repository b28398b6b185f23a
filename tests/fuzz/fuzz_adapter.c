/* Fuzz target: any bytes as a LoRA adapter of a small model. What opens fits the model in every part
 * and can be applied: a token's logits are finite, or refused as not being so. It can be written and
 * read again, merged by every method and folded into the model, or is refused with a reason. */
#include "engine/context.h"
#include "learn/adapter_merge.h"
#include "model/adapter_fold.h"
#include "model/adapter_write.h"
#include "tests/fuzz/small_model.h"

#include <math.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every projection the adapter has, counted in parameters. */
static int64_t check_parts(const rv_adapter *ad, const rv_model *model) {
	const rv_arch *arch = rv_model_arch(model);
	const rv_hparams *hp = rv_model_hparams(model);
	int64_t n = 0;
	for (int t = 0; t < arch->n_tensors; t++) {
		const rv_tensor_def *def = &arch->tensors[t];
		int64_t n_layers = def->flags & RV_TENSOR_LAYER ? hp->n_layers : 1;
		if (!(def->flags & RV_TENSOR_LAYER) && def->role != RV_OUTPUT)
			continue;
		for (int64_t l = 0; l < n_layers; l++) {
			const rv_adapter_part *p = rv_adapter_find(ad, def->role, l);
			if (!p)
				continue;
			check(p->a.rows == p->b.cols && p->a.rows >= 1 &&
			      p->a.rows <= rv_adapter_max_rank(ad) && isfinite(p->scale));
			check(p->a.cols == rv_dim_size(def->cols, hp) &&
			      p->b.rows == rv_dim_size(def->rows, hp));
			n += p->a.rows * p->a.cols + p->b.rows * p->b.cols;
		}
	}
	return n;
}

static void apply(rv_adapter *ad, rv_model *model) {
	const rv_adapter_use use = {ad, 1};
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = 8;
	o.n_batch = 2;
	o.n_threads = 1;
	o.pin = 0;
	o.level = RV_LEVEL_REF;
	o.backend = RV_BACKEND_REF;
	o.adapters = &use;
	o.n_adapters = 1;
	check(rv_context_create(&ctx, model, &o) == RV_OK);
	const rv_row row = {.token = 7, .parent = -1, .flags = RV_ROW_LOGITS};
	rv_status status = rv_context_eval(ctx, &row, 1);
	check(status == RV_OK || status == RV_ERR_NUMERIC);
	rv_context_destroy(ctx);
}

static void check_status(rv_status status) {
	check(status == RV_OK || *rv_error_message());
}

static void write_and_fold(rv_adapter *ad, const rv_model *model) {
	const rv_adapter_write_options f32 = {.type = rv_type_get(RV_F32)};
	char path[] = "/tmp/rv-fuzz-adapter-XXXXXX";
	rv_adapter *again;
	int fd = mkstemp(path);
	check(fd >= 0);
	close(fd);
	rv_status status = rv_adapter_write(path, ad, model, &f32);
	check_status(status);
	if (status == RV_OK) { /* folding scale into B may overflow no factor: the writer looked */
		check(rv_adapter_open(&again, path, model) == RV_OK);
		check(rv_adapter_n_params(again) == rv_adapter_n_params(ad));
		rv_adapter_release(again);
	}
	check_status(rv_adapter_fold(path, model, &ad, 1, NULL, NULL));
	unlink(path);
}

static void merge(rv_adapter *ad, const rv_model *model) {
	rv_adapter *twice[2] = {ad, ad}, *merged;
	rv_merge_options o = rv_merge_defaults();
	for (int method = 0; method < RV_MERGE_COUNT; method++) {
		o.method = (rv_merge)method;
		const rv_status status = rv_adapter_merge(&merged, model, "merged", twice, 2, &o, NULL);
		check_status(status);
		check((status == RV_OK) == (merged != NULL));
		rv_adapter_release(merged);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static rv_model *model;
	if (!model)
		model = small_model(2, 300, 8, 0); /* with an output matrix of its own */
	char path[64];
	rv_adapter *ad = NULL;
	int fd = memfd_create("adapter", MFD_CLOEXEC);
	check(fd >= 0);
	check(write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	rv_status status = rv_adapter_open(&ad, path, model);
	close(fd);
	if (status != RV_OK) {
		check(!ad && *rv_error_message());
		return 0;
	}
	check(check_parts(ad, model) == rv_adapter_n_params(ad) && rv_adapter_n_params(ad) > 0);
	check(rv_adapter_fits(ad, model));
	apply(ad, model);
	write_and_fold(ad, model);
	merge(ad, model);
	rv_adapter_release(ad);
	return 0;
}
