#include "lab/models.h"

#include "base/file.h"
#include "model/arch.h"
#include "model/synth.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Hash of the sources that decide what a made file holds; written by the Makefile. */
#if __has_include("rv_model_code.h")
#include "rv_model_code.h"
#else
#include "base/build_info.h"
#define RV_MODEL_CODE rv_build_commit()
#endif

/* <root>/build/cache/models/<16 hex of the hash of `content`>-<label>.gguf */
static rv_status cache_path(const rv_run_config *config, const char *content, const char *label,
                            char *path, size_t size) {
	char hex[65], dir[4096];
	rv_sha256_hex(content, strlen(content), hex);
	int n = snprintf(dir, sizeof dir, "%s/build/cache/models", config->root);
	if (n < 0 || (size_t)n >= sizeof dir)
		return rv_fail(RV_ERR_LIMIT, "%.200s...: path too long", config->root);
	RV_TRY(rv_mkdirs(dir));
	n = snprintf(path, size, "%s/%.16s-%s.gguf", dir, hex, label);
	return n > 0 && (size_t)n < size ? RV_OK
	                                 : rv_fail(RV_ERR_LIMIT, "%.200s...: path too long", dir);
}

rv_status rv_lab_synth(const rv_run_config *config, const char *preset, const char *target,
                       uint64_t seed, char *path, size_t path_size) {
	const rv_preset *p = rv_preset_by_name(preset);
	const rv_quant_target *t = rv_quant_target_by_name(target);
	if (p == NULL || t == NULL)
		return rv_fail(RV_ERR_INVALID, "synth %s %s: unknown preset or type", preset, target);
	char content[512], label[96];
	snprintf(content, sizeof content, "synth %s %s %llu %s", preset, target,
	         (unsigned long long)seed, RV_MODEL_CODE);
	snprintf(label, sizeof label, "synth-%s-%s", preset, target);
	RV_TRY(cache_path(config, content, label, path, path_size));
	if (access(path, R_OK) == 0)
		return RV_OK;
	rv_logf(&config->log, RV_LOG_INFO, "making a model of random weights: %s, %s", preset, target);
	const rv_synth_options options = {.arch = rv_arch_by_name(p->arch, strlen(p->arch)),
	                                  .hp = p->hp,
	                                  .target = t,
	                                  .seed = seed,
	                                  .threads = config->threads,
	                                  .log = &config->log};
	return rv_synth_file(path, &options);
}

rv_status rv_lab_quantized(const rv_run_config *config, const char *source, const char *sha256,
                           const rv_quant_target *target, char *path, size_t path_size) {
	char content[512];
	const char *name = rv_quant_target_name(target);
	snprintf(content, sizeof content, "quantize %s %s %s", sha256, name, RV_MODEL_CODE);
	RV_TRY(cache_path(config, content, name, path, path_size));
	if (access(path, R_OK) == 0)
		return RV_OK;
	rv_logf(&config->log, RV_LOG_INFO, "quantizing to %s", name);
	const rv_quant_options options = {.target = target,
	                                  .threads = config->threads,
	                                  .cancelled = config->cancelled,
	                                  .user = config->user};
	return rv_quantize_file(source, path, &options, NULL);
}

int rv_lab_is_synth(const rv_gguf *gguf) {
	return rv_gguf_find(gguf, "ruvltra.synth.seed") != NULL;
}

int rv_lab_shipped(const rv_run_config *config, const char *name, char *path, size_t size) {
	int n = snprintf(path, size, "%s/datasets/models/%s.gguf", config->root, name);
	return n > 0 && (size_t)n < size && access(path, R_OK) == 0;
}

rv_status rv_lab_open_model(const rv_run_config *config, const char *preset, rv_model **out,
                            rv_inputs *in) {
	rv_model *model;
	*out = NULL;
	if (config->model != NULL)
		snprintf(in->model_path, sizeof in->model_path, "%s", config->model);
	else if (!rv_lab_shipped(config, preset, in->model_path, sizeof in->model_path))
		RV_TRY(rv_lab_synth(config, preset, "F16", config->seed, in->model_path,
		                    sizeof in->model_path));
	RV_TRY(rv_model_open(&model, in->model_path, NULL));
	rv_status status = rv_model_sha256(model, in->model_sha256);
	if (status != RV_OK) {
		rv_model_release(model);
		return status;
	}
	const char *slash = strrchr(in->model_path, '/');
	const char *name = config->model == NULL ? preset : slash != NULL ? slash + 1 : in->model_path;
	snprintf(in->model_label, sizeof in->model_label, "%.80s, %.3g M parameters%s", name,
	         (double)rv_model_n_params(model) * 1e-6,
	         rv_lab_is_synth(rv_model_gguf(model)) ? ", seeded random weights" : "");
	*out = model;
	return RV_OK;
}

rv_status rv_lab_context(const rv_run_config *config, rv_model *model,
                         const rv_context_options *options, rv_context **out) {
	rv_context_options o = *options;
	if (o.threads == NULL) {
		o.threads = config->threads;
		o.n_threads = config->n_threads;
	}
	RV_TRY(rv_context_create(out, model, &o));
	rv_context_set_cancel(*out, config->cancelled, config->user);
	return RV_OK;
}
