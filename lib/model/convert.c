/* Converting a folder: which tensor becomes which, and their way into the file. */
#include "model/convert.h"

#include "base/file.h"
#include "base/mem.h"
#include "model/convert_internal.h"
#include "model/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SLICE_BYTES ((size_t)8 << 20) /* of the output written at once */
#define GRAIN_ELEMS 16384             /* work handed to a thread: at least a row */
#define CONFIG_BYTES_MAX ((size_t)16 << 20)
#define NAME_BYTES 128

/* Published names by role; the same in every architecture here. */
static const char *const published_names[RV_ROLE_COUNT] = {
        [RV_TOKEN_EMBD] = "model.embed_tokens.weight",
        [RV_ATTN_NORM] = "model.layers.%d.input_layernorm.weight",
        [RV_ATTN_Q] = "model.layers.%d.self_attn.q_proj.weight",
        [RV_ATTN_K] = "model.layers.%d.self_attn.k_proj.weight",
        [RV_ATTN_V] = "model.layers.%d.self_attn.v_proj.weight",
        [RV_ATTN_Q_BIAS] = "model.layers.%d.self_attn.q_proj.bias",
        [RV_ATTN_K_BIAS] = "model.layers.%d.self_attn.k_proj.bias",
        [RV_ATTN_V_BIAS] = "model.layers.%d.self_attn.v_proj.bias",
        [RV_ATTN_Q_NORM] = "model.layers.%d.self_attn.q_norm.weight",
        [RV_ATTN_K_NORM] = "model.layers.%d.self_attn.k_norm.weight",
        [RV_ATTN_OUT] = "model.layers.%d.self_attn.o_proj.weight",
        [RV_FFN_NORM] = "model.layers.%d.post_attention_layernorm.weight",
        [RV_FFN_GATE] = "model.layers.%d.mlp.gate_proj.weight",
        [RV_FFN_UP] = "model.layers.%d.mlp.up_proj.weight",
        [RV_FFN_DOWN] = "model.layers.%d.mlp.down_proj.weight",
        [RV_OUTPUT_NORM] = "model.norm.weight",
        [RV_OUTPUT] = "lm_head.weight",
};

/* Buffers that older files hold and that follow from the configuration. */
static const char derived_suffix[] = ".rotary_emb.inv_freq";

static void published_name(rv_role role, int64_t layer, char buf[NAME_BYTES]) {
	const char *pattern = published_names[role], *hole = strstr(pattern, "%d");
	if (hole)
		snprintf(buf, NAME_BYTES, "%.*s%lld%s", (int)(hole - pattern), pattern,
		         (long long)layer, hole + 2);
	else
		snprintf(buf, NAME_BYTES, "%s", pattern);
}

int64_t rv_convert_rotary_row(int64_t row, int64_t head_dim) {
	int64_t at = row % head_dim;
	return row - at + at % 2 * (head_dim / 2) + at / 2;
}

/* ---- the plan ---- */

typedef struct convert_tensor {
	char name[65];
	const rv_safetensor *in; /* NULL: rotation frequencies, from the configuration */
	rv_type to;
	int vector;
	int64_t rotary; /* rows are put into the interleaved order of heads this wide; 0: they stay */
	int64_t rows, cols;
} convert_tensor;

typedef struct convert_run {
	const rv_convert_options *options;
	const char *dir;
	rv_convert_config config;
	rv_safetensors *in;
	rv_convert_vocab *vocab;
	convert_tensor *tensors;
	uint8_t *used; /* one a tensor of `in` */
	rv_gguf_writer *out;
	uint8_t *slice;
	float *scratch; /* one row a thread */
	size_t scratch_stride;
	size_t done_bytes;
	rv_convert_report report;
} convert_run;

static rv_status check_shape(const convert_run *run, const rv_safetensor *in, const convert_tensor *t) {
	const char *file = rv_safetensors_file(run->in, in->file);
	int matrix = in->n_dims == 2 && in->shape[0] == t->rows && in->shape[1] == t->cols;
	int vector = in->n_dims == 1 && in->shape[0] == t->cols;
	if (t->vector ? vector : matrix)
		return RV_OK;
	char wanted[64], found[192] = "";
	for (int i = 0; i < in->n_dims; i++) {
		size_t at = strlen(found);
		snprintf(found + at, sizeof found - at, "%s%lld", i ? ", " : "",
		         (long long)in->shape[i]);
	}
	if (t->vector)
		snprintf(wanted, sizeof wanted, "%lld", (long long)t->cols);
	else
		snprintf(wanted, sizeof wanted, "%lld, %lld", (long long)t->rows, (long long)t->cols);
	return rv_fail(RV_ERR_MISMATCH, "%s: tensor '%s' has shape [%s], expected [%s]", file, in->name,
	               found, wanted);
}

static size_t row_bytes(rv_type type, int64_t cols) {
	return rv_type_row_bytes(rv_type_get((int)type), cols);
}

/* Adds the tensor of a definition to the plan. */
static rv_status plan_tensor(convert_run *run, const rv_tensor_def *def, int64_t layer) {
	const rv_convert_config *c = &run->config;
	const rv_type_info *wanted = run->options->type;
	convert_tensor *t = &run->tensors[run->report.n_tensors];
	char name[NAME_BYTES];
	rv_arch_tensor_name(def, layer, t->name);
	t->rows = rv_dim_size(def->rows, &c->hp);
	t->cols = rv_dim_size(def->cols, &c->hp);
	t->vector = (def->flags & RV_TENSOR_VECTOR) != 0;
	t->to = RV_F32;
	if (def->role != RV_ROPE_FREQS) {
		published_name(def->role, layer, name);
		t->in = rv_safetensors_find(run->in, name);
		if (!t->in)
			return rv_fail(RV_ERR_NOT_FOUND, "%s: tensor '%s' is missing", run->dir, name);
		RV_TRY(check_shape(run, t->in, t));
		run->used[t->in - rv_safetensors_at(run->in, 0)] = 1;
		if (!t->vector)
			t->to = wanted ? wanted->type : t->in->type;
		if (!c->arch->rope_neox && (def->role == RV_ATTN_Q || def->role == RV_ATTN_K))
			t->rotary = c->hp.head_dim;
		run->report.from_bytes += t->in->n_bytes;
		run->report.n_params += t->rows * t->cols;
	}
	run->report.to_bytes += (size_t)t->rows * row_bytes(t->to, t->cols);
	run->report.n_tensors++;
	return RV_OK;
}

static int is_wanted(const rv_convert_config *c, const rv_tensor_def *def) {
	return def->role == RV_OUTPUT ? !c->hp.tied : def->role == RV_ROPE_FREQS ? c->rope.on : 1;
}

static rv_status plan_part(convert_run *run, int64_t layer, rv_role first, rv_role last) {
	const rv_arch *arch = run->config.arch;
	for (int i = 0; i < arch->n_tensors; i++) {
		const rv_tensor_def *def = &arch->tensors[i];
		int in_layer = (def->flags & RV_TENSOR_LAYER) != 0;
		if (in_layer == (layer >= 0) && def->role >= first && def->role <= last &&
		    is_wanted(&run->config, def))
			RV_TRY(plan_tensor(run, def, layer));
	}
	return RV_OK;
}

/* A tied model may store its head all the same; then it must be the embedding. */
static rv_status check_tied_head(convert_run *run) {
	const rv_safetensor *head = rv_safetensors_find(run->in, published_names[RV_OUTPUT]);
	const rv_safetensor *embd = rv_safetensors_find(run->in, published_names[RV_TOKEN_EMBD]);
	if (!run->config.hp.tied || !head)
		return RV_OK;
	run->used[head - rv_safetensors_at(run->in, 0)] = 1;
	if (embd && head->type == embd->type && head->n_bytes == embd->n_bytes &&
	    memcmp(head->data, embd->data, head->n_bytes) == 0)
		return RV_OK;
	return rv_fail(RV_ERR_MISMATCH,
	               "%s: tensor '%s' differs from the embedding, but key 'tie_word_embeddings' says "
	               "that they are one",
	               rv_safetensors_file(run->in, head->file), head->name);
}

static rv_status check_all_used(const convert_run *run) {
	for (size_t i = 0; i < rv_safetensors_n_tensors(run->in); i++) {
		const rv_safetensor *t = rv_safetensors_at(run->in, i);
		size_t len = strlen(t->name), suffix = sizeof derived_suffix - 1;
		if (run->used[i] ||
		    (len > suffix && strcmp(t->name + len - suffix, derived_suffix) == 0))
			continue;
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: tensor '%.128s' is not part of architecture %s with %lld layers",
		               rv_safetensors_file(run->in, t->file), t->name, run->config.arch->name,
		               (long long)run->config.hp.n_layers);
	}
	return RV_OK;
}

/* The type of most bytes of the matrices. */
static const rv_type_info *main_type(const convert_run *run) {
	size_t bytes[RV_TYPE_LIMIT] = {0}, best = RV_F32;
	for (size_t i = 0; i < run->report.n_tensors; i++) {
		const convert_tensor *t = &run->tensors[i];
		if (!t->vector)
			bytes[t->to] += (size_t)t->rows * row_bytes(t->to, t->cols);
	}
	for (size_t i = 0; i < RV_TYPE_LIMIT; i++)
		if (bytes[i] > bytes[best])
			best = i;
	return rv_type_get((int)best);
}

static rv_status plan(convert_run *run) {
	const rv_convert_config *c = &run->config;
	size_t n = rv_safetensors_n_tensors(run->in);
	/* Before the layer count sizes anything: every layer needs tensors of its own. */
	if ((uint64_t)c->hp.n_layers > n)
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: key 'num_hidden_layers': %lld layers, but only %zu tensors",
		               run->dir, (long long)c->hp.n_layers, n);
	RV_TRY(RV_ALLOC(&run->used, n, "tensor table"));
	RV_TRY(RV_ALLOC(&run->tensors, (c->hp.n_layers + 1) * c->arch->n_tensors, "tensor table"));
	RV_TRY(plan_part(run, -1, RV_TOKEN_EMBD, RV_ROPE_FREQS));
	for (int64_t layer = 0; layer < c->hp.n_layers; layer++)
		RV_TRY(plan_part(run, layer, RV_ATTN_NORM, RV_FFN_DOWN));
	RV_TRY(plan_part(run, -1, RV_OUTPUT_NORM, RV_OUTPUT));
	RV_TRY(check_tied_head(run));
	run->report.type_name = main_type(run)->name;
	return check_all_used(run);
}

/* ---- values ---- */

#define INF_BITS 0x7f800000u
#define F16_LIMIT_BITS 0x477ff000u /* 65520: from here on a value rounds to infinity in F16 */

static uint32_t magnitude_bits(float x) {
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	return u & 0x7fffffffu;
}

static rv_status check_row(const convert_run *run, const convert_tensor *t, const float *x,
                           int64_t row) {
	uint32_t limit = t->to == RV_F16 ? F16_LIMIT_BITS : INF_BITS, most = 0;
	for (int64_t i = 0; i < t->cols; i++) {
		uint32_t u = magnitude_bits(x[i]);
		most = u > most ? u : most;
	}
	if (most < limit)
		return RV_OK;
	int64_t i = 0;
	while (magnitude_bits(x[i]) < limit)
		i++;
	const char *file = rv_safetensors_file(run->in, t->in->file);
	if (!isfinite(x[i]))
		return rv_fail(RV_ERR_NUMERIC, "%s: tensor '%s' row %lld element %lld is not finite",
		               file, t->in->name, (long long)row, (long long)i);
	return rv_fail(RV_ERR_NUMERIC, "%s: tensor '%s' row %lld element %lld: %g is too large for F16",
	               file, t->in->name, (long long)row, (long long)i, (double)x[i]);
}

/* Rows of one tensor, from `first` on, as their workers see them. */
typedef struct convert_slice {
	const convert_run *run;
	const convert_tensor *t;
	int64_t first;
} convert_slice;

static rv_status convert_rows(void *arg, int64_t begin, int64_t end, int thread) {
	const convert_slice *s = arg;
	const convert_tensor *t = s->t;
	const rv_kernels *k = rv_kernels_for(rv_level_best());
	float *x = s->run->scratch + (size_t)thread * s->run->scratch_stride;
	size_t from = row_bytes(t->in->type, t->cols), to = row_bytes(t->to, t->cols);
	for (int64_t i = begin; i < end; i++) {
		int64_t row = s->first + i;
		int64_t source = t->rotary ? rv_convert_rotary_row(row, t->rotary) : row;
		const uint8_t *src = t->in->data + (size_t)source * from;
		uint8_t *dst = s->run->slice + (size_t)i * to;
		k->type[t->in->type].dequantize(x, src, t->cols);
		RV_TRY(check_row(s->run, t, x, source));
		if (t->to == t->in->type)
			memcpy(dst, src, from);
		else
			k->type[t->to].quantize(dst, x, NULL, t->cols);
	}
	return RV_OK;
}

/* After each slice. */
static rv_status report_progress(convert_run *run, const convert_tensor *t, size_t bytes) {
	const rv_convert_options *o = run->options;
	run->done_bytes += bytes;
	if (o->progress)
		o->progress(o->user, (double)run->done_bytes / (double)run->report.to_bytes, t->name);
	if (o->cancelled && o->cancelled(o->user))
		return rv_fail(RV_ERR_CANCELLED, "%s: cancelled at tensor '%s'", run->dir, t->name);
	return RV_OK;
}

static rv_status write_tensor(convert_run *run, const convert_tensor *t) {
	rv_threads *threads = run->options->threads;
	size_t bytes = row_bytes(t->to, t->cols);
	int64_t per_slice = bytes < SLICE_BYTES ? (int64_t)(SLICE_BYTES / bytes) : 1;
	int64_t grain = t->cols < GRAIN_ELEMS ? GRAIN_ELEMS / t->cols : 1;
	if (!t->in) {
		rv_convert_rope_freqs(&run->config, run->scratch);
		return rv_gguf_write_data(run->out, run->scratch, bytes);
	}
	convert_slice s = {run, t, 0};
	for (; s.first < t->rows; s.first += per_slice) {
		int64_t n = t->rows - s.first < per_slice ? t->rows - s.first : per_slice;
		if (threads)
			RV_TRY(rv_threads_for(threads, n, grain, convert_rows, &s));
		else
			RV_TRY(convert_rows(&s, 0, n, 0));
		RV_TRY(rv_gguf_write_data(run->out, run->slice, (size_t)n * bytes));
		RV_TRY(report_progress(run, t, (size_t)n * bytes));
	}
	rv_safetensors_drop(run->in, t->in);
	return RV_OK;
}

/* ---- the file ---- */

/* general.file_type; its numbers for these types are not the types' own. */
static uint32_t file_type(const char *type_name) {
	return strcmp(type_name, "F16") == 0 ? 1 : strcmp(type_name, "BF16") == 0 ? 32 : 0;
}

/* The folder's name, links and dots resolved. */
static rv_status write_name(const convert_run *run) {
	char *real = realpath(run->dir, NULL);
	const char *slash = real ? strrchr(real, '/') : NULL;
	const char *name = slash && slash[1] ? slash + 1 : run->config.arch->name;
	rv_status status = rv_gguf_write_string(run->out, "general.name", name);
	free(real);
	return status;
}

static rv_status write_header(const convert_run *run) {
	RV_TRY(rv_arch_write(run->out, run->config.arch, &run->config.hp));
	RV_TRY(rv_gguf_write_string(run->out, "general.type", "model"));
	RV_TRY(write_name(run));
	RV_TRY(rv_gguf_write_u32(run->out, "general.quantization_version", 2));
	RV_TRY(rv_gguf_write_u32(run->out, "general.file_type", file_type(run->report.type_name)));
	RV_TRY(rv_convert_vocab_write(run->vocab, run->out));
	for (size_t i = 0; i < run->report.n_tensors; i++) {
		const convert_tensor *t = &run->tensors[i];
		int64_t dims[2] = {t->cols, t->rows};
		RV_TRY(rv_gguf_declare(run->out, t->name, t->to, t->vector ? 1 : 2, dims));
	}
	return RV_OK;
}

static rv_status allocate(convert_run *run) {
	int64_t cols = 1;
	for (size_t i = 0; i < run->report.n_tensors; i++)
		cols = run->tensors[i].cols > cols ? run->tensors[i].cols : cols;
	size_t widest = (size_t)cols * sizeof(float);
	size_t threads = run->options->threads ? (size_t)rv_threads_count(run->options->threads) : 1;
	run->scratch_stride = ((size_t)cols + 15) & ~(size_t)15;
	RV_TRY(rv_alloc_uninit((void **)&run->scratch, threads, run->scratch_stride * sizeof(float),
	                       "rows to convert"));
	return rv_alloc_uninit((void **)&run->slice, widest > SLICE_BYTES ? widest : SLICE_BYTES, 1,
	                       "rows to write");
}

static rv_status write_file(convert_run *run, const char *out) {
	RV_TRY(allocate(run));
	RV_TRY(rv_gguf_writer_open(&run->out, out));
	rv_status status = write_header(run);
	for (size_t i = 0; i < run->report.n_tensors && status == RV_OK; i++)
		status = write_tensor(run, &run->tensors[i]);
	if (status == RV_OK) /* a file that changed under the map would give a mixture of two */
		status = rv_safetensors_check(run->in);
	if (status == RV_OK)
		return rv_gguf_writer_commit(run->out);
	rv_gguf_writer_abort(run->out);
	return status;
}

/* ---- the whole ---- */

/* OUT must not be what is read. */
static rv_status check_output(const convert_run *run, const char *out) {
	static const char *const names[] = {"config.json",         "generation_config.json",
	                                    "tokenizer.json",      "tokenizer_config.json",
	                                    "chat_template.jinja", RV_SAFETENSORS_FILE,
	                                    RV_SAFETENSORS_INDEX};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		char *path;
		RV_TRY(rv_convert_join(&path, run->dir, names[i]));
		int same = rv_file_same(path, out);
		rv_free(path);
		if (same)
			return rv_fail(RV_ERR_INVALID, "%s: is both input and output", out);
	}
	for (size_t i = 0; run->in && i < rv_safetensors_n_files(run->in); i++)
		if (rv_file_same(rv_safetensors_file(run->in, i), out))
			return rv_fail(RV_ERR_INVALID, "%s: is both input and output", out);
	return RV_OK;
}

static rv_status read_config(convert_run *run) {
	char *path;
	json_t *config;
	RV_TRY(rv_convert_join(&path, run->dir, "config.json"));
	rv_status status = rv_safetensors_json(path, CONFIG_BYTES_MAX, &config);
	if (status == RV_OK) {
		status = rv_convert_config_read(config, path, run->options->log, &run->config);
		json_decref(config);
	}
	rv_free(path);
	return status;
}

/* Its token ids go before those of config.json; sampling is none of a model file's business. */
static rv_status read_generation_config(convert_run *run) {
	char *path;
	json_t *config;
	struct stat st;
	RV_TRY(rv_convert_join(&path, run->dir, "generation_config.json"));
	rv_status status = RV_OK;
	if (lstat(path, &st) == 0) {
		status = rv_safetensors_json(path, CONFIG_BYTES_MAX, &config);
		if (status == RV_OK) {
			rv_convert_read_ids(config, &run->config);
			json_decref(config);
		}
	}
	rv_free(path);
	return status;
}

static rv_status convert(convert_run *run, const char *out) {
	const rv_type_info *type = run->options->type;
	if (type && type->type != RV_F32 && type->type != RV_F16 && type->type != RV_BF16)
		return rv_fail(RV_ERR_INVALID, "type %s: is none of F32, F16, BF16", type->name);
	RV_TRY(check_output(run, out));
	RV_TRY(read_config(run));
	RV_TRY(read_generation_config(run));
	RV_TRY(rv_safetensors_open_dir(&run->in, run->dir));
	RV_TRY(check_output(run, out));
	RV_TRY(plan(run));
	RV_TRY(rv_convert_vocab_open(&run->vocab, run->dir, &run->config, run->options->log));
	return write_file(run, out);
}

rv_status rv_convert_dir(const char *dir, const char *out, const rv_convert_options *options,
                         rv_convert_report *report) {
	static const rv_convert_options defaults = {0};
	convert_run run = {.options = options ? options : &defaults, .dir = dir};
	rv_status status = convert(&run, out);
	if (status == RV_OK && report) {
		*report = run.report;
		report->arch = run.config.arch;
		report->hp = run.config.hp;
		report->n_files = rv_safetensors_n_files(run.in);
		report->n_padded = rv_convert_vocab_padded(run.vocab);
	}
	rv_convert_vocab_close(run.vocab);
	rv_safetensors_close(run.in);
	rv_free(run.tensors);
	rv_free(run.used);
	rv_free(run.slice);
	rv_free(run.scratch);
	return status;
}
