#include "lab/subject.h"

#include "base/file.h"
#include "lab/models.h"

#include <stdio.h>
#include <string.h>

const rv_param_value rv_variants[RV_VARIANT_COUNT] = {
        [RV_VARIANT_BASE] = {"base", 0, RV_PROFILE_SMOKE},
        [RV_VARIANT_CODER] = {"coder", 0, RV_PROFILE_SMOKE},
        [RV_VARIANT_AGENT] = {"agent", 0, RV_PROFILE_SMOKE},
};

/* NULL with the adapter's file in `path`, "" for the base; or why there is none. */
static const char *find_adapter(const rv_run_config *config, const rv_inputs *in, rv_variant variant,
                                char *path, size_t size) {
	path[0] = '\0';
	if (variant == RV_VARIANT_BASE)
		return NULL;
	if (!rv_lab_shipped(config, "nano", path, size) || strcmp(path, in->model_path) != 0)
		return "adapters ship for the nano that ships";
	return rv_lab_shipped(config, rv_variants[variant].text, path, size)
	               ? NULL
	               : "no adapter for this variant ships";
}

const char *rv_variant_na(const rv_run_config *config, rv_variant variant) {
	char path[4096];
	return find_adapter(config, &config->inputs, variant, path, sizeof path);
}

void rv_variant_note_all(const rv_run_config *config, rv_inputs *in) {
	char path[4096], hex[65];
	for (int v = 0; v < RV_VARIANT_COUNT; v++) {
		size_t at = strlen(in->settings);
		if (find_adapter(config, in, (rv_variant)v, path, sizeof path) == NULL &&
		    path[0] != '\0' && rv_file_sha256(path, hex) == RV_OK)
			snprintf(in->settings + at, sizeof in->settings - at, " %s %.8s",
			         rv_variants[v].text, hex);
	}
}

rv_status rv_subject_open(rv_subject *out, const rv_run_config *config, rv_variant variant,
                          const char *target) {
	const rv_inputs *in = &config->inputs;
	char path[4096], adapter[4096];
	*out = (rv_subject){NULL, NULL};
	const char *na = find_adapter(config, in, variant, adapter, sizeof adapter);
	if (na != NULL)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: %s", rv_variants[variant].text, na);
	RV_TRY(rv_lab_quantized(config, in->model_path, in->model_sha256,
	                        rv_quant_target_by_name(target), path, sizeof path));
	RV_TRY(rv_model_open(&out->model, path, NULL));
	rv_status status =
	        adapter[0] != '\0' ? rv_adapter_open(&out->adapter, adapter, out->model) : RV_OK;
	if (status != RV_OK)
		rv_subject_close(out);
	return status;
}

void rv_subject_close(rv_subject *s) {
	rv_adapter_release(s->adapter);
	rv_model_release(s->model);
	*s = (rv_subject){NULL, NULL};
}
