/* ruvltra info: a model file, or this machine. */
#include "base/build_info.h"
#include "base/sysinfo.h"
#include "cli/cli_model.h"
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

typedef struct info_args {
	const char *model;
	int system;
} info_args;

static const rv_option options[] = {
        {.name = "model",
         .letter = 'm',
         .kind = RV_OPT_STRING,
         .offset = offsetof(info_args, model),
         .value_name = "FILE",
         .help = "describe this GGUF file"},
        {.name = "system",
         .kind = RV_OPT_FLAG,
         .offset = offsetof(info_args, system),
         .help = "describe this machine, as is done without -m"},
        {0},
};

/* ---- one list of facts, printed as lines or as JSON ---- */

/* Adds to a JSON object; a NULL value is the error, noticed at the end. */
static void add(json_t *to, const char *key, json_t *value, int *failed) {
	*failed |= json_object_set_new(to, key, value) != 0;
}

static void print_value(const char *key, const json_t *value, int depth);

static void print_object(const json_t *object, int depth) {
	const char *key;
	const json_t *value;
	/* jansson's iteration macro takes the object without const but does not change it */
	json_object_foreach((json_t *)(uintptr_t)object, key, value) print_value(key, value, depth);
}

static void print_value(const char *key, const json_t *value, int depth) {
	printf("%*s%-*s ", 2 * depth, "", 24 - 2 * depth, key);
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		putchar('\n');
		print_object(value, depth + 1);
		return;
	case JSON_ARRAY:
		for (size_t i = 0; i < json_array_size(value); i++)
			printf("%s%s", i ? " " : "", json_string_value(json_array_get(value, i)));
		break;
	case JSON_INTEGER:
		printf("%lld", (long long)json_integer_value(value));
		break;
	case JSON_REAL:
		printf("%.6g", json_real_value(value));
		break;
	case JSON_STRING:
		printf("%s", json_string_value(value));
		break;
	default:
		printf("%s", json_is_true(value) ? "yes" : "no");
	}
	putchar('\n');
}

static int print_facts(const rv_cli *cli, json_t *facts, int failed) {
	if (failed || cli->common.json)
		return rv_cli_finish_json(cli, failed ? (json_decref(facts), NULL) : facts);
	print_object(facts, 0);
	json_decref(facts);
	return rv_cli_finish(cli);
}

/* ---- a model ---- */

static json_t *shape(const rv_hparams *hp) {
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b}", "n_layers",
	                 (json_int_t)hp->n_layers, "n_embd", (json_int_t)hp->n_embd, "n_heads",
	                 (json_int_t)hp->n_heads, "n_kv_heads", (json_int_t)hp->n_kv_heads, "head_dim",
	                 (json_int_t)hp->head_dim, "n_ff", (json_int_t)hp->n_ff, "n_vocab",
	                 (json_int_t)hp->n_vocab, "n_ctx_train", (json_int_t)hp->n_ctx_train, "n_rot",
	                 (json_int_t)hp->n_rot, "rope_theta", hp->rope_theta, "rms_eps", hp->rms_eps,
	                 "tied", hp->tied);
}

/* "Q4_K": "12 tensors, 34567 bytes" a type. */
static json_t *histogram(const rv_gguf *gguf) {
	json_t *out = json_object();
	for (int type = 0; type < RV_TYPE_LIMIT; type++) {
		size_t n = 0, bytes = 0;
		for (size_t i = 0; i < rv_gguf_n_tensors(gguf); i++) {
			const rv_gguf_tensor *t = rv_gguf_tensor_at(gguf, i);
			if ((int)t->type != type)
				continue;
			n++;
			bytes += t->n_bytes;
		}
		if (n)
			json_object_set_new(out, rv_type_get(type)->name,
			                    json_pack("{s:I, s:I}", "tensors", (json_int_t)n, "bytes",
			                              (json_int_t)bytes));
	}
	return out;
}

static json_t *vocabulary(const rv_tokenizer *tok) {
	if (!tok)
		return json_string("none");
	return json_pack("{s:s, s:s, s:i, s:i, s:i, s:b}", "kind",
	                 rv_tokenizer_get_kind(tok) == RV_TOKENIZER_BPE ? "bpe" : "spm", "pre",
	                 rv_tokenizer_pre(tok), "tokens", (int)rv_tokenizer_n_vocab(tok), "bos",
	                 (int)rv_tokenizer_bos(tok), "eos", (int)rv_tokenizer_eos(tok), "add_bos",
	                 rv_tokenizer_add_bos(tok));
}

static int64_t kv_bytes_per_token(const rv_hparams *hp, rv_kv_type type) {
	return 2 * hp->n_layers * hp->n_kv_heads * (int64_t)rv_kv_row_bytes(type, hp->head_dim);
}

/* A cache type a row: bytes a token takes, and how many fit into the memory that is available. The
 * mapped weights are file pages, but to run at speed they have to stay in memory too. */
static json_t *cache(const rv_hparams *hp, size_t weight_bytes) {
	rv_sysinfo sys;
	rv_sysinfo_get(&sys);
	size_t room =
	        sys.mem_available_bytes > weight_bytes ? sys.mem_available_bytes - weight_bytes : 0;
	json_t *out = json_object();
	for (int type = 0; type < RV_KV_COUNT; type++) {
		int64_t bytes = kv_bytes_per_token(hp, (rv_kv_type)type);
		json_object_set_new(out, rv_kv_type_name((rv_kv_type)type),
		                    json_pack("{s:I, s:I}", "bytes_per_token", (json_int_t)bytes,
		                              "tokens_that_fit",
		                              (json_int_t)(room / (size_t)(bytes > 0 ? bytes : 1))));
	}
	json_object_set_new(out, "memory_available_bytes",
	                    json_integer((json_int_t)sys.mem_available_bytes));
	json_object_set_new(out, "weights_fit", json_boolean(weight_bytes <= sys.mem_available_bytes));
	return out;
}

static int describe_model(const rv_cli *cli, const char *path) {
	rv_model *model;
	int status = rv_cli_open_model(cli, path, &model);
	if (status != RV_CLI_GO)
		return status;
	const rv_hparams *hp = rv_model_hparams(model);
	const rv_gguf *gguf = rv_model_gguf(model);
	size_t bytes = rv_model_weight_bytes(model);
	int64_t n_params = rv_model_n_params(model);
	json_t *facts = json_object();
	int failed = 0;
	add(facts, "model", rv_cli_json_path(path), &failed);
	add(facts, "gguf_version", json_integer(rv_gguf_version(gguf)), &failed);
	add(facts, "file_bytes", json_integer((json_int_t)rv_gguf_file_bytes(gguf)), &failed);
	add(facts, "architecture", json_string(rv_model_arch(model)->name), &failed);
	add(facts, "type", json_string(rv_model_type_name(model)), &failed);
	add(facts, "n_params", json_integer(n_params), &failed);
	add(facts, "weight_bytes", json_integer((json_int_t)bytes), &failed);
	add(facts, "bits_per_weight", json_real(8.0 * (double)bytes / (double)n_params), &failed);
	add(facts, "shape", shape(hp), &failed);
	add(facts, "types", histogram(gguf), &failed);
	add(facts, "tokenizer", vocabulary(rv_model_tokenizer(model)), &failed);
	add(facts, "kv_cache", cache(hp, bytes), &failed);
	rv_model_release(model);
	return print_facts(cli, facts, failed);
}

/* ---- the machine ---- */

static json_t *levels(void) {
	json_t *out = json_array();
	for (int level = 0; level < RV_LEVEL_COUNT; level++)
		if (rv_level_available((rv_level)level))
			json_array_append_new(out, json_string(rv_level_name((rv_level)level)));
	return out;
}

static json_t *backends(void) {
	json_t *out = json_array();
	for (int kind = 0; kind < RV_BACKEND_COUNT; kind++)
		json_array_append_new(out, json_string(rv_backend_name((rv_backend_kind)kind)));
	return out;
}

static json_t *build(void) {
	return json_pack("{s:s, s:s, s:s, s:s}", "version", rv_build_version(), "commit",
	                 rv_build_commit(), "compiler", rv_build_compiler(), "flags", rv_build_flags());
}

static int describe_system(const rv_cli *cli) {
	rv_level level;
	rv_threads *threads;
	if (rv_level_default(&level) != RV_OK || rv_cli_open_threads(cli, &threads) != RV_OK)
		return rv_cli_fail(cli);
	rv_sysinfo sys;
	rv_sysinfo_get(&sys);
	char features[1024];
	rv_cpu_features(features, sizeof features);
	json_t *facts = json_object();
	int failed = 0;
	add(facts, "cpu", json_string(sys.cpu_model), &failed);
	add(facts, "os", json_string(sys.os), &failed);
	add(facts, "cpus_online", json_integer(sys.n_cpus), &failed);
	add(facts, "cpus_usable", json_integer(sys.n_usable), &failed);
	add(facts, "cpu_quota", sys.cpu_quota > 0 ? json_real(sys.cpu_quota) : json_string("none"),
	    &failed);
	add(facts, "threads", json_string(rv_threads_report(threads)), &failed);
	add(facts, "features", json_string(features), &failed);
	add(facts, "levels", levels(), &failed);
	add(facts, "level_used", json_string(rv_level_name(level)), &failed);
	add(facts, "backends", backends(), &failed);
	add(facts, "l1d_bytes", json_integer((json_int_t)sys.l1d_bytes), &failed);
	add(facts, "l2_bytes", json_integer((json_int_t)sys.l2_bytes), &failed);
	add(facts, "l3_bytes", json_integer((json_int_t)sys.l3_bytes), &failed);
	add(facts, "memory_total_bytes", json_integer((json_int_t)sys.mem_total_bytes), &failed);
	add(facts, "memory_available_bytes", json_integer((json_int_t)sys.mem_available_bytes),
	    &failed);
	add(facts, "build", build(), &failed);
	rv_threads_destroy(threads);
	return print_facts(cli, facts, failed);
}

int rv_cmd_info(rv_cli *cli) {
	info_args args = {0};
	const rv_option *tables[] = {options, NULL};
	void *values[] = {&args};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (args.model && args.system)
		return rv_cli_usage(cli, "--system: -m asks for a model, --system for the machine");
	return args.model ? describe_model(cli, args.model) : describe_system(cli);
}
