#include "model/model.h"

#include "base/mem.h"
#include "model/gguf_set.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct rv_model {
	atomic_int refs;
	rv_gguf *gguf;
	const rv_arch *arch;
	rv_hparams hp;
	rv_tokenizer *tokenizer;
	rv_weight *weights;        /* one a tensor of the file */
	const rv_weight **by_role; /* [n_layers + 1][RV_ROLE_COUNT]; the last row is for no layer */
	int64_t n_params;
	size_t weight_bytes;
	const char *type_name;
	pthread_mutex_t sha_lock;
	char sha256[65]; /* "" until asked for */
};

rv_model_options rv_model_defaults(void) {
	return (rv_model_options){.check_values = 1};
}

/* ---- opening ---- */

/* Presence of an unused tensor means mathematics this library would leave out. */
static rv_status bind_tensor(rv_model *m, const rv_gguf_tensor *t, rv_weight *w) {
	const char *path = rv_gguf_tensor_path(m->gguf, t);
	int64_t layer;
	const rv_tensor_def *def = rv_arch_find_tensor(m->arch, t->name, &layer);
	if (!def || layer >= m->hp.n_layers)
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: tensor '%s' is not part of architecture %s with %lld layers", path,
		               t->name, m->arch->name, (long long)m->hp.n_layers);
	int64_t rows = rv_dim_size(def->rows, &m->hp), cols = rv_dim_size(def->cols, &m->hp);
	int vector = (def->flags & RV_TENSOR_VECTOR) != 0;
	if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1)
		return rv_fail(
		        RV_ERR_MISMATCH,
		        "%s: tensor '%s' has shape [%lld, %lld, %lld, %lld], expected [%lld, %lld]",
		        path, t->name, (long long)t->dims[0], (long long)t->dims[1],
		        (long long)t->dims[2], (long long)t->dims[3], (long long)cols, (long long)rows);
	const rv_type_info *info = rv_type_get((int)t->type);
	if (vector && t->type != RV_F32)
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: tensor '%s' is %s; norms, biases and frequencies must be F32", path,
		               t->name, info->name);
	*w = (rv_weight){.name = t->name,
	                 .type = t->type,
	                 .layout = RV_LAYOUT_GGML,
	                 .rows = rows,
	                 .cols = cols,
	                 .row_bytes = rv_type_row_bytes(info, cols),
	                 .data = t->data};
	int64_t row = layer < 0 ? m->hp.n_layers : layer;
	m->by_role[row * RV_ROLE_COUNT + def->role] = w;
	m->n_params += rows * cols;
	m->weight_bytes += t->n_bytes;
	return RV_OK;
}

static rv_status check_complete(const rv_model *m) {
	for (int i = 0; i < m->arch->n_tensors; i++) {
		const rv_tensor_def *def = &m->arch->tensors[i];
		if (def->flags & RV_TENSOR_OPTIONAL)
			continue;
		int in_layer = (def->flags & RV_TENSOR_LAYER) != 0;
		for (int64_t l = 0; l < (in_layer ? m->hp.n_layers : 1); l++) {
			int64_t row = in_layer ? l : m->hp.n_layers;
			if (m->by_role[row * RV_ROLE_COUNT + def->role])
				continue;
			char name[65];
			rv_arch_tensor_name(def, l, name);
			return rv_fail(RV_ERR_NOT_FOUND, "%s: tensor '%s' is missing",
			               rv_gguf_path(m->gguf), name);
		}
	}
	return RV_OK;
}

static rv_status bind_tensors(rv_model *m) {
	size_t n = rv_gguf_n_tensors(m->gguf);
	/* Before the layer count of the file sizes anything: every layer needs tensors of its own. */
	if ((uint64_t)m->hp.n_layers > n)
		return rv_fail(RV_ERR_FORMAT, "%s: %lld layers, but only %zu tensors",
		               rv_gguf_path(m->gguf), (long long)m->hp.n_layers, n);
	RV_TRY(RV_ALLOC(&m->weights, n, "weight table"));
	RV_TRY(RV_ALLOC(&m->by_role, (m->hp.n_layers + 1) * RV_ROLE_COUNT, "weight table"));
	for (size_t i = 0; i < n; i++)
		RV_TRY(bind_tensor(m, rv_gguf_tensor_at(m->gguf, i), &m->weights[i]));
	return check_complete(m);
}

/* Vectors are small; matrices are not read here (see rv_model_options). */
static rv_status check_values(const rv_model *m) {
	for (size_t i = 0; i < rv_gguf_n_tensors(m->gguf); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(m->gguf, i);
		const rv_weight *w = &m->weights[i];
		if (w->rows != 1 || w->type != RV_F32)
			continue;
		for (int64_t j = 0; j < w->cols; j++) {
			float v;
			memcpy(&v, (const char *)w->data + j * (int64_t)sizeof v, sizeof v);
			if (!isfinite(v))
				return rv_fail(RV_ERR_NUMERIC,
				               "%s: tensor '%s': element %lld is not finite",
				               rv_gguf_tensor_path(m->gguf, t), w->name, (long long)j);
		}
	}
	return RV_OK;
}

static rv_status open_tokenizer(rv_model *m, const rv_log *log) {
	rv_status st = rv_tokenizer_from_gguf(&m->tokenizer, m->gguf, log);
	if (st == RV_ERR_NOT_FOUND && !rv_gguf_find(m->gguf, "tokenizer.ggml.model"))
		return RV_OK;
	RV_TRY(st);
	if (rv_tokenizer_n_vocab(m->tokenizer) != m->hp.n_vocab)
		return rv_fail(
		        RV_ERR_MISMATCH,
		        "%s: the tokenizer has %d tokens, tensor 'token_embd.weight' has %lld rows",
		        rv_gguf_path(m->gguf), rv_tokenizer_n_vocab(m->tokenizer),
		        (long long)m->hp.n_vocab);
	return RV_OK;
}

/* general.file_type of llama.cpp's files, for display. */
static const struct {
	int64_t file_type;
	const char *name;
} file_types[] = {{0, "F32"},     {1, "F16"},     {2, "Q4_0"},    {3, "Q4_1"},    {7, "Q8_0"},
                  {8, "Q5_0"},    {9, "Q5_1"},    {10, "Q2_K"},   {11, "Q3_K_S"}, {12, "Q3_K_M"},
                  {13, "Q3_K_L"}, {14, "Q4_K_S"}, {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"},
                  {18, "Q6_K"},   {32, "BF16"}};

static const char *name_of_mix(const rv_model *m) {
	int64_t ft = -1;
	if (rv_gguf_find(m->gguf, "general.file_type") &&
	    rv_gguf_int(m->gguf, "general.file_type", 0, 4096, &ft) == RV_OK)
		for (size_t i = 0; i < sizeof file_types / sizeof file_types[0]; i++)
			if (file_types[i].file_type == ft)
				return file_types[i].name;
	size_t bytes[RV_TYPE_LIMIT] = {0}, best = 0;
	for (size_t i = 0; i < rv_gguf_n_tensors(m->gguf); i++) {
		const rv_weight *w = &m->weights[i];
		bytes[w->type] += w->row_bytes * (size_t)w->rows;
		if (bytes[w->type] > bytes[best])
			best = w->type;
	}
	return rv_type_get((int)best)->name;
}

static rv_status open_into(rv_model *m, const char *path, const rv_model_options *options) {
	RV_TRY(rv_gguf_open_set(&m->gguf, path));
	RV_TRY(rv_arch_read(m->gguf, &m->arch, &m->hp));
	RV_TRY(bind_tensors(m));
	if (options->check_values)
		RV_TRY(check_values(m));
	RV_TRY(open_tokenizer(m, &options->log));
	m->type_name = name_of_mix(m);
	return RV_OK;
}

rv_status rv_model_open(rv_model **out, const char *path, const rv_model_options *options) {
	rv_model_options defaults = rv_model_defaults();
	rv_model *m;
	*out = NULL;
	RV_TRY(RV_ALLOC(&m, 1, "model"));
	atomic_init(&m->refs, 1);
	pthread_mutex_init(&m->sha_lock, NULL);
	rv_status st = open_into(m, path, options ? options : &defaults);
	if (st != RV_OK) {
		rv_model_release(m);
		return st;
	}
	*out = m;
	return RV_OK;
}

rv_model *rv_model_retain(rv_model *m) {
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

void rv_model_release(rv_model *m) {
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return;
	rv_tokenizer_destroy(m->tokenizer);
	rv_free(m->by_role);
	rv_free(m->weights);
	rv_gguf_close(m->gguf);
	pthread_mutex_destroy(&m->sha_lock);
	rv_free(m);
}

/* ---- asking ---- */

const char *rv_model_path(const rv_model *m) {
	return rv_gguf_path(m->gguf);
}
const rv_arch *rv_model_arch(const rv_model *m) {
	return m->arch;
}
const rv_hparams *rv_model_hparams(const rv_model *m) {
	return &m->hp;
}
const rv_gguf *rv_model_gguf(const rv_model *m) {
	return m->gguf;
}
const rv_tokenizer *rv_model_tokenizer(const rv_model *m) {
	return m->tokenizer;
}

rv_status rv_model_same_vocabulary(const rv_model *model, const rv_model *other) {
	const char *path = rv_model_path(model), *other_path = rv_model_path(other);
	const rv_tokenizer *tok = model->tokenizer, *other_tok = other->tokenizer;
	int32_t n = tok ? rv_tokenizer_n_vocab(tok) : 0;
	int32_t n_other = other_tok ? rv_tokenizer_n_vocab(other_tok) : 0;
	if (n != n_other || model->hp.n_vocab != other->hp.n_vocab)
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: vocabulary of %d tokens (%lld logits), %s has %d (%lld)", path, n,
		               (long long)model->hp.n_vocab, other_path, n_other,
		               (long long)other->hp.n_vocab);
	for (int32_t id = 0; id < n; id++) {
		rv_str a = rv_tokenizer_entry(tok, id), b = rv_tokenizer_entry(other_tok, id);
		if (a.len != b.len || (a.len > 0 && memcmp(a.data, b.data, a.len) != 0))
			return rv_fail(RV_ERR_MISMATCH, "%s: token %d is '%.*s', in %s it is '%.*s'",
			               path, id, (int)a.len, a.data, other_path, (int)b.len, b.data);
	}
	return RV_OK;
}
int64_t rv_model_n_params(const rv_model *m) {
	return m->n_params;
}
size_t rv_model_weight_bytes(const rv_model *m) {
	return m->weight_bytes;
}
const char *rv_model_type_name(const rv_model *m) {
	return m->type_name;
}

static int role_in_layer(rv_role role) {
	return role >= RV_ATTN_NORM && role <= RV_FFN_DOWN;
}

const rv_weight *rv_model_weight(const rv_model *m, rv_role role, int64_t layer) {
	if (role == RV_OUTPUT && m->hp.tied)
		role = RV_TOKEN_EMBD;
	int64_t row = role_in_layer(role) ? layer : m->hp.n_layers;
	return m->by_role[row * RV_ROLE_COUNT + role];
}

static rv_status sha256_of_files(const rv_gguf *gguf, char hex[65]) {
	size_t n = rv_gguf_n_pieces(gguf);
	char *all;
	if (n == 1)
		return rv_file_sha256(rv_gguf_path(gguf), hex);
	RV_TRY(RV_ALLOC(&all, n * 64 + 1, "checksums"));
	rv_status st = RV_OK;
	for (size_t i = 0; i < n && st == RV_OK; i++)
		st = rv_file_sha256(rv_gguf_piece_path(gguf, i), all + i * 64);
	if (st == RV_OK)
		rv_sha256_hex(all, n * 64, hex);
	rv_free(all);
	return st;
}

rv_status rv_model_sha256(rv_model *m, char hex[65]) {
	rv_status st = RV_OK;
	pthread_mutex_lock(&m->sha_lock);
	if (!m->sha256[0])
		st = sha256_of_files(m->gguf, m->sha256);
	if (st == RV_OK)
		memcpy(hex, m->sha256, 65);
	else
		m->sha256[0] = '\0';
	pthread_mutex_unlock(&m->sha_lock);
	return st;
}

rv_status rv_model_check(const rv_model *m) {
	return rv_gguf_check(m->gguf);
}
