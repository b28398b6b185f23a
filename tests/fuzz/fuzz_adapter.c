/* Fuzz target: any bytes as a LoRA adapter of a small model. What opens fits the model in every part
 * and can be applied: a token's logits are finite, or refused as not being so. */
#include "engine/context.h"
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
	rv_adapter_release(ad);
	return 0;
}
