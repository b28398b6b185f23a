#include "cli/cli_model.h"

#include "base/mem.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const rv_cli_backends[] = {"ref", "blas", "simd", NULL};
const char *const rv_cli_kv_types[] = {"f32", "f16", "q8", "q4", NULL};
const char *const rv_cli_attentions[] = {"flash", "standard", "standard-causal", NULL};
const char *const rv_cli_ropes[] = {"model", "none", "ntk", "yarn", NULL};
const char *const rv_cli_variants[] = {"base", "coder", "agent", NULL};

#define AT(field) offsetof(rv_cli_model, field)
const rv_option rv_cli_model_options[] = {
        {.name = "model",
         .letter = 'm',
         .kind = RV_OPT_STRING,
         .offset = AT(model),
         .value_name = "FILE",
         .help = "GGUF file, or the name of a model that ships; by default nano"},
        {0},
};
const rv_option rv_cli_context_options[] = {
        {.name = "ctx",
         .letter = 'c',
         .kind = RV_OPT_INT,
         .offset = AT(n_ctx),
         .min = 1,
         .max = 1 << 28,
         .unit = "tokens",
         .help = "room for a sequence; without it the model's own length, at most 4096"},
        {.name = "batch",
         .letter = 'b',
         .kind = RV_OPT_INT,
         .offset = AT(n_batch),
         .min = 1,
         .max = 1 << 16,
         .unit = "tokens",
         .help = "most tokens evaluated at once"},
        {.name = "backend",
         .kind = RV_OPT_ENUM,
         .offset = AT(backend),
         .choices = rv_cli_backends,
         .help = "who computes"},
        {.name = "kv",
         .kind = RV_OPT_ENUM,
         .offset = AT(kv),
         .choices = rv_cli_kv_types,
         .help = "type of cached keys and values"},
        {.name = "kv-policy",
         .kind = RV_OPT_STRING,
         .offset = AT(kv_policy),
         .value_name = "NAME[:tail=N][:warm=N][:store=FORMAT]|FILE.json",
         .help = "how keys and values are stored as they age: flat, two-tier, three-tier, "
                 "three-tier-kivi, 2-bit, kvquant, squat"},
        {.name = "page-size",
         .kind = RV_OPT_INT,
         .offset = AT(page_size),
         .min = 0,
         .max = 256,
         .unit = "tokens",
         .help = "of a KV page, a power of two from 8; 0: a sequence in one piece"},
        {.name = "attn",
         .kind = RV_OPT_ENUM,
         .offset = AT(attention),
         .choices = rv_cli_attentions,
         .help = "attention"},
        {.name = "rope-scaling",
         .kind = RV_OPT_ENUM,
         .offset = AT(rope),
         .choices = rv_cli_ropes,
         .help = "how positions beyond the trained length are squeezed"},
        {.name = "rope-factor",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(rope_factor),
         .min = 1,
         .max = 1e6,
         .help = "by how much; without it so that the context fits"},
        {.name = "lora",
         .kind = RV_OPT_LIST,
         .offset = AT(lora),
         .value_name = "FILE[:SCALE]",
         .help = "LoRA adapter"},
        {.name = "variant",
         .kind = RV_OPT_ENUM,
         .offset = AT(variant),
         .choices = rv_cli_variants,
         .help = "adapter of the nano that ships; where tokens are drawn, defaults of --temp and "
                 "--top-p"},
        {0},
};

rv_cli_model rv_cli_model_defaults(void) {
	rv_context_options o = rv_context_defaults();
	return (rv_cli_model){.n_ctx = o.n_ctx,
	                      .n_batch = o.n_batch,
	                      .page_size = o.page_size,
	                      .backend = (int)o.backend,
	                      .kv = (int)o.kv_type,
	                      .attention = (int)o.attention};
}

rv_log rv_cli_log(void) {
	return (rv_log){.fn = rv_log_stderr};
}

rv_status rv_cli_shipped(const char *name, char *path, size_t size) {
	static const char *const places[] = {"../share/ruvltra/datasets", "../../datasets",
	                                     "../../../datasets"};
	char exe[2048];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	exe[n > 0 ? n : 0] = '\0';
	const char *slash = strrchr(exe, '/');
	for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
		char file[4096], real[PATH_MAX];
		snprintf(file, sizeof file, "%.*s/%s/%.1000s", (int)(slash - exe), exe, places[i],
		         name);
		if (realpath(file, real) && strlen(real) < size) {
			snprintf(path, size, "%s", real);
			return RV_OK;
		}
	}
	return rv_fail(RV_ERR_NOT_FOUND, "%s does not ship with this program", name);
}

rv_status rv_cli_model_path(const char *model, char *path, size_t size) {
	char name[256];
	if (model && (access(model, F_OK) == 0 || strchr(model, '/') || strlen(model) > 200)) {
		if (strlen(model) >= size)
			return rv_fail(RV_ERR_INVALID, "%.64s...: the path is too long", model);
		snprintf(path, size, "%s", model);
		return RV_OK;
	}
	snprintf(name, sizeof name, "models/%s.gguf", model ? model : "nano");
	if (rv_cli_shipped(name, path, size) == RV_OK || !model)
		return path[0] ? RV_OK : RV_ERR_NOT_FOUND;
	snprintf(path, size, "%s", model); /* opening it says what is wrong */
	return RV_OK;
}

int rv_cli_open_model(const rv_cli *cli, const char *model, rv_model **out) {
	char path[4096] = "";
	rv_model_options options = rv_model_defaults();
	options.log = rv_cli_log();
	if (model && !*model)
		return rv_cli_usage(cli, "--model: the name is empty");
	if (rv_cli_model_path(model, path, sizeof path) != RV_OK)
		return model ? rv_cli_fail(cli)
		             : rv_cli_usage(cli, "--model: a GGUF file is needed (-m FILE): %s",
		                            rv_error_message());
	return rv_model_open(out, path, &options) == RV_OK ? RV_CLI_GO : rv_cli_fail(cli);
}

rv_status rv_cli_open_lora(const char *text, const rv_model *model, rv_adapter **out, double *scale) {
	const char *colon = strrchr(text, ':');
	char *path;
	*scale = 1;
	if (!*text)
		return rv_fail(RV_ERR_INVALID, "LoRA adapter: the name is empty");
	if (!colon || access(text, F_OK) == 0)
		return rv_adapter_open(out, text, model);
	if (rv_parse_double(colon + 1, -1e6, 1e6, scale) != RV_OK)
		return rv_fail_in(RV_ERR_INVALID, text);
	RV_TRY(rv_strndup(&path, text, (size_t)(colon - text)));
	rv_status status = rv_adapter_open(out, path, model);
	rv_free(path);
	return status;
}

/* FILE or FILE:SCALE. */
static rv_status add_adapter(rv_cli_model *args, const char *text, const rv_model *model) {
	if (args->n_adapters == RV_ADAPTER_SET_USES)
		return rv_fail(RV_ERR_LIMIT, "--lora: at most %d adapters", RV_ADAPTER_SET_USES);
	rv_adapter_use *use = &args->adapters[args->n_adapters];
	RV_TRY(rv_cli_open_lora(text, model, &use->adapter, &use->scale));
	args->n_adapters++;
	return RV_OK;
}

static rv_status add_adapters(rv_cli_model *args, const rv_model *model) {
	if (args->variant && !args->model) {
		char name[64], path[4096];
		snprintf(name, sizeof name, "models/%s.gguf", rv_cli_variants[args->variant]);
		RV_TRY(rv_cli_shipped(name, path, sizeof path));
		RV_TRY(add_adapter(args, path, model));
	}
	for (int i = 0; i < args->lora.n; i++)
		RV_TRY(add_adapter(args, args->lora.items[i], model));
	return RV_OK;
}

/* On text of the model's own. */
static rv_status calibrate(const rv_cli *cli, rv_cli_model *args, rv_model *model) {
	int64_t n = rv_model_hparams(model)->n_ctx_train / 64 * 64;
	if (!args->kv_policy || !rv_kv_policy_needs_calibration(&args->policy))
		return RV_OK;
	return rv_kv_calibrate_self(&args->calibration, model, n < 512 ? n : 512,
	                            (uint64_t)cli->common.seed);
}

int rv_cli_open_load(const rv_cli *cli, rv_cli_model *args, rv_model **out) {
	if (args->kv_policy && rv_kv_policy_parse(&args->policy, args->kv_policy) != RV_OK)
		return rv_cli_usage(cli, "--kv-policy: %s", rv_error_message());
	int status = rv_cli_open_model(cli, args->model, out);
	if (status == RV_CLI_GO &&
	    (add_adapters(args, *out) != RV_OK || calibrate(cli, args, *out) != RV_OK))
		return rv_cli_fail(cli);
	return status;
}

void rv_cli_close_load(rv_cli_model *args, rv_model *model) {
	while (args->n_adapters > 0)
		rv_adapter_release(args->adapters[--args->n_adapters].adapter);
	rv_kv_calibration_destroy(args->calibration);
	args->calibration = NULL;
	rv_model_release(model);
}

rv_context_options rv_cli_context(const rv_cli *cli, const rv_cli_model *args, const rv_model *model) {
	rv_context_options options = rv_context_defaults();
	options.n_ctx = args->n_ctx;
	options.n_batch = (int32_t)args->n_batch;
	options.backend = (rv_backend_kind)args->backend;
	options.kv_type = (rv_kv_type)args->kv;
	options.page_size = (int32_t)args->page_size;
	options.kv_policy = args->kv_policy ? &args->policy : NULL;
	options.kv_calibration = args->calibration;
	options.attention = (rv_attn_kind)args->attention;
	options.rope = (rv_rope_scaling){.kind = (rv_rope_kind)args->rope, .factor = args->rope_factor};
	options.adapters = args->adapters;
	options.n_adapters = args->n_adapters;
	options.n_threads = (int)cli->common.threads;
	options.log = rv_cli_log();
	const rv_hparams *hp = rv_model_hparams(model);
	int64_t trained = hp->n_ctx_train;
	if (args->n_ctx > trained && args->rope <= RV_ROPE_NONE && hp->rope.kind <= RV_ROPE_NONE)
		rv_logf(&options.log, RV_LOG_WARN,
		        "--ctx: %lld tokens, but the model was made for %lld", (long long)args->n_ctx,
		        (long long)trained);
	return options;
}

int rv_cli_open_context(const rv_cli *cli, const rv_cli_model *args, rv_model *model,
                        rv_context **out) {
	rv_context_options options = rv_cli_context(cli, args, model);
	if (rv_context_create(out, model, &options) != RV_OK) {
		rv_fail_in(RV_ERR_INVALID, rv_model_path(model));
		return rv_cli_fail(cli);
	}
	return RV_CLI_GO;
}

rv_status rv_cli_open_threads(const rv_cli *cli, rv_threads **out) {
	rv_threads_options options = rv_threads_defaults();
	options.n_threads = (int)cli->common.threads;
	RV_TRY(rv_threads_create(out, &options));
	rv_log log = rv_cli_log();
	if (rv_threads_count(*out) < options.n_threads)
		rv_logf(&log, RV_LOG_WARN, "%s", rv_threads_report(*out));
	return RV_OK;
}

rv_status rv_cli_check_output(const char *path) {
	struct stat st;
	if (!*path)
		return rv_fail(RV_ERR_INVALID, "output file: its name is empty");
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? rv_fail(RV_ERR_IO, "%s: is a directory", path) : RV_OK;
	const char *slash = strrchr(path, '/');
	char *dir;
	RV_TRY(slash == path ? rv_strdup(&dir, "/")
	       : slash       ? rv_strndup(&dir, path, (size_t)(slash - path))
	                     : rv_strdup(&dir, "."));
	int bad = access(dir, W_OK | X_OK);
	rv_status status = bad ? rv_fail_errno(RV_ERR_IO, "%s: directory %s", path, dir) : RV_OK;
	rv_free(dir);
	return status;
}
