#include "model/adapter.h"

#include "base/file.h"
#include "base/mem.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 80 };

struct rv_adapter {
	atomic_int refs;
	rv_gguf *gguf;
	const rv_arch *arch;
	rv_hparams hp;
	rv_adapter_part *parts;    /* [n_layers + 1][RV_ROLE_COUNT]; the last row is for no layer */
	float *columns;            /* of all B */
	double alpha;              /* of a file */
	char *name;                /* made in memory: what it is called, */
	char (*names)[NAME_BYTES]; /* what its matrices are, */
	float *factors;            /* and these */
	rv_adapter_memory memory;  /* placed: where these are instead */
	size_t bytes;
	int64_t n_params, max_rank;
};

static int64_t n_slots(const rv_adapter *ad) {
	return (ad->hp.n_layers + 1) * RV_ROLE_COUNT;
}

static rv_adapter_part *part_at(const rv_adapter *ad, rv_role role, int64_t layer) {
	return &ad->parts[layer * RV_ROLE_COUNT + role];
}

/* What x W^T is computed for; the token embedding is looked up, not multiplied. */
static int is_projection(const rv_tensor_def *def) {
	return !(def->flags & RV_TENSOR_VECTOR) && def->role != RV_TOKEN_EMBD;
}

static rv_status check_keys(rv_adapter *ad, const char *path) {
	rv_str type, arch;
	if (rv_gguf_string(ad->gguf, "general.type", &type) != RV_OK || type.len != 7 ||
	    memcmp(type.data, "adapter", 7) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: no adapter (key 'general.type')", path);
	RV_TRY(rv_gguf_string(ad->gguf, "adapter.type", &type));
	if (type.len != 4 || memcmp(type.data, "lora", 4) != 0)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: adapter type '%.*s'; lora is known", path,
		               (int)(type.len < 64 ? type.len : 64), type.data);
	RV_TRY(rv_gguf_string(ad->gguf, "general.architecture", &arch));
	if (rv_arch_by_name(arch.data, arch.len) != ad->arch)
		return rv_fail(RV_ERR_MISMATCH, "%s: made for architecture '%.*s', the model is %s",
		               path, (int)(arch.len < 64 ? arch.len : 64), arch.data, ad->arch->name);
	RV_TRY(rv_gguf_double(ad->gguf, "adapter.lora.alpha", &ad->alpha));
	return isfinite(ad->alpha) && fabs(ad->alpha) <= 1e6
	               ? RV_OK
	               : rv_fail(RV_ERR_FORMAT, "%s: adapter.lora.alpha is %g", path, ad->alpha);
}

static rv_status check_finite(const char *path, const rv_weight *w) {
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	float *row;
	rv_status status = RV_OK;
	RV_TRY(RV_ALLOC(&row, w->cols, "row"));
	for (int64_t r = 0; r < w->rows && status == RV_OK; r++) {
		k->type[w->type].dequantize(row, (const char *)w->data + (size_t)r * w->row_bytes,
		                            w->cols);
		for (int64_t i = 0; i < w->cols && status == RV_OK; i++)
			if (!isfinite(row[i]))
				status = rv_fail(RV_ERR_NUMERIC,
				                 "%s: tensor '%s' holds a NaN or infinity", path,
				                 w->name);
	}
	rv_free(row);
	return status;
}

/* A [rank, cols of the projection], B [its rows, rank]. */
static rv_status bind_tensor(rv_adapter *ad, const rv_gguf_tensor *t) {
	static const char a_end[] = ".lora_a", b_end[] = ".lora_b";
	const char *path = rv_gguf_path(ad->gguf);
	const size_t len = strlen(t->name), end = sizeof a_end - 1;
	const int is_a = len > end && strcmp(t->name + len - end, a_end) == 0;
	const int is_b = len > end && strcmp(t->name + len - end, b_end) == 0;
	char name[sizeof t->name];
	int64_t layer = -1;
	if (!is_a && !is_b)
		return rv_fail(RV_ERR_FORMAT, "%s: tensor '%s' is neither .lora_a nor .lora_b", path,
		               t->name);
	memcpy(name, t->name, len - end);
	name[len - end] = '\0';
	const rv_tensor_def *def = rv_arch_find_tensor(ad->arch, name, &layer);
	if (!def || layer >= ad->hp.n_layers || !is_projection(def))
		return rv_fail(RV_ERR_MISMATCH, "%s: tensor '%s': the model has no projection '%s'",
		               path, t->name, name);
	const int64_t outer = rv_dim_size(is_a ? def->cols : def->rows, &ad->hp);
	const int64_t rank = is_a ? t->dims[1] : t->dims[0];
	if ((is_a ? t->dims[0] : t->dims[1]) != outer || t->dims[2] != 1 || t->dims[3] != 1)
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: tensor '%s' has shape [%lld, %lld], expected %s %lld", path,
		               t->name, (long long)t->dims[0], (long long)t->dims[1],
		               is_a ? "rows of" : "this many rows:", (long long)outer);
	if (rank > RV_ADAPTER_MAX_RANK)
		return rv_fail(RV_ERR_LIMIT, "%s: tensor '%s' has rank %lld, at most %d is read", path,
		               t->name, (long long)rank, RV_ADAPTER_MAX_RANK);
	rv_adapter_part *part =
	        part_at(ad, def->role, (def->flags & RV_TENSOR_LAYER) ? layer : ad->hp.n_layers);
	rv_weight *w = is_a ? &part->a : &part->b;
	*w = (rv_weight){.name = t->name,
	                 .type = t->type,
	                 .layout = RV_LAYOUT_GGML,
	                 .rows = t->dims[1],
	                 .cols = t->dims[0],
	                 .row_bytes = rv_type_row_bytes(rv_type_get((int)t->type), t->dims[0]),
	                 .data = t->data};
	return check_finite(path, w);
}

static rv_status check_pairs(rv_adapter *ad) {
	const char *path = rv_gguf_path(ad->gguf);
	int n_pairs = 0;
	for (int64_t i = 0; i < n_slots(ad); i++) {
		rv_adapter_part *p = &ad->parts[i];
		if (!p->a.data != !p->b.data)
			return rv_fail(RV_ERR_FORMAT, "%s: tensor '%s' has no counterpart", path,
			               p->a.data ? p->a.name : p->b.name);
		if (!p->a.data)
			continue;
		if (p->a.rows != p->b.cols)
			return rv_fail(RV_ERR_MISMATCH, "%s: '%s' has rank %lld, '%s' %lld", path,
			               p->a.name, (long long)p->a.rows, p->b.name,
			               (long long)p->b.cols);
		p->scale = (float)(ad->alpha / (double)p->a.rows);
		n_pairs++;
	}
	return n_pairs ? RV_OK : rv_fail(RV_ERR_FORMAT, "%s: adapts nothing", path);
}

static rv_status open_into(rv_adapter *ad, const char *path) {
	RV_TRY(rv_gguf_open(&ad->gguf, path, RV_GGUF_DEFAULT));
	RV_TRY(check_keys(ad, path));
	for (size_t i = 0; i < rv_gguf_n_tensors(ad->gguf); i++)
		RV_TRY(bind_tensor(ad, rv_gguf_tensor_at(ad->gguf, i)));
	return check_pairs(ad);
}

/* ---- made in memory ---- */

static const rv_tensor_def *projection(const rv_arch *arch, rv_role role) {
	for (int i = 0; i < arch->n_tensors; i++)
		if (arch->tensors[i].role == role && is_projection(&arch->tensors[i]))
			return &arch->tensors[i];
	return NULL;
}

/* Floats of a factor; factors begin at cache lines. */
static size_t padded(int64_t rows, int64_t cols) {
	return ((size_t)rows * (size_t)cols + 15) & ~(size_t)15;
}

static rv_status check_matrix(const rv_adapter *ad, const rv_adapter_matrix *m, int i) {
	const rv_tensor_def *def = projection(ad->arch, m->role);
	if (!def || ((def->flags & RV_TENSOR_LAYER) && (m->layer < 0 || m->layer >= ad->hp.n_layers)))
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: matrix %d: the model has no projection %d in "
		               "layer %lld",
		               ad->name, i, (int)m->role, (long long)m->layer);
	if (m->rank < 1 || m->rank > RV_ADAPTER_MAX_RANK)
		return rv_fail(RV_ERR_LIMIT, "%s: matrix %d has rank %lld, not in [1, %d]", ad->name, i,
		               (long long)m->rank, RV_ADAPTER_MAX_RANK);
	if (!isfinite(m->scale) || !m->a || !m->b)
		return rv_fail(RV_ERR_INVALID, "%s: matrix %d: a factor is missing, or scale %g",
		               ad->name, i, (double)m->scale);
	return RV_OK;
}

/* Copies one factor to *at, named after its projection. */
static rv_status take_factor(rv_adapter *ad, rv_weight *w, char name[NAME_BYTES], const char *end,
                             const float *from, int64_t rows, int64_t cols, float **at) {
	snprintf(name + strlen(name), NAME_BYTES - strlen(name), "%s", end);
	memcpy(*at, from, (size_t)rows * (size_t)cols * sizeof *from);
	*w = (rv_weight){.name = name,
	                 .type = RV_F32,
	                 .layout = RV_LAYOUT_GGML,
	                 .rows = rows,
	                 .cols = cols,
	                 .row_bytes = (size_t)cols * sizeof(float),
	                 .data = *at};
	*at += padded(rows, cols);
	return check_finite(ad->name, w);
}

static rv_status take_matrix(rv_adapter *ad, const rv_adapter_matrix *m, int i, float **at) {
	const rv_tensor_def *def = projection(ad->arch, m->role);
	const int64_t layer = def->flags & RV_TENSOR_LAYER ? m->layer : ad->hp.n_layers;
	rv_adapter_part *part = part_at(ad, m->role, layer);
	char *a = ad->names[2 * i], *b = ad->names[2 * i + 1];
	rv_arch_tensor_name(def, m->layer, a);
	rv_arch_tensor_name(def, m->layer, b);
	if (part->a.data)
		return rv_fail(RV_ERR_INVALID, "%s: matrix %d: '%s' is adapted already", ad->name, i,
		               a);
	part->scale = m->scale;
	RV_TRY(take_factor(ad, &part->a, a, ".lora_a", m->a, m->rank, rv_dim_size(def->cols, &ad->hp),
	                   at));
	return take_factor(ad, &part->b, b, ".lora_b", m->b, rv_dim_size(def->rows, &ad->hp), m->rank,
	                   at);
}

static rv_status fill_from(rv_adapter *ad, const char *name, const rv_adapter_matrix *parts, int n) {
	size_t total = 0;
	RV_TRY(rv_strdup(&ad->name, name));
	if (n < 1)
		return rv_fail(RV_ERR_INVALID, "%s: adapts nothing", name);
	for (int i = 0; i < n; i++) {
		RV_TRY(check_matrix(ad, &parts[i], i));
		const rv_tensor_def *def = projection(ad->arch, parts[i].role);
		total += padded(parts[i].rank, rv_dim_size(def->cols, &ad->hp)) +
		         padded(parts[i].rank, rv_dim_size(def->rows, &ad->hp));
	}
	RV_TRY(RV_ALLOC(&ad->names, 2 * (int64_t)n, "adapter"));
	RV_TRY(rv_alloc_uninit((void **)&ad->factors, total, sizeof *ad->factors, "adapter"));
	float *at = ad->factors;
	for (int i = 0; i < n; i++)
		RV_TRY(take_matrix(ad, &parts[i], i, &at));
	return RV_OK;
}

/* ---- both ---- */

static void transpose(const rv_weight *b, float *row, float *columns) {
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	for (int64_t r = 0; r < b->rows; r++) {
		k->type[b->type].dequantize(row, (const char *)b->data + (size_t)r * b->row_bytes,
		                            b->cols);
		for (int64_t i = 0; i < b->cols; i++)
			columns[i * b->rows + r] = row[i];
	}
}

/* Counts, and every B by columns: what is added to a product runs along its rows. */
static rv_status finish(rv_adapter *ad) {
	size_t total = 0;
	for (int64_t i = 0; i < n_slots(ad); i++) {
		const rv_adapter_part *p = &ad->parts[i];
		if (!p->a.data)
			continue;
		ad->n_params += p->a.rows * p->a.cols + p->b.rows * p->b.cols;
		ad->max_rank = p->a.rows > ad->max_rank ? p->a.rows : ad->max_rank;
		ad->bytes += (size_t)p->a.rows * p->a.row_bytes + (size_t)p->b.rows * p->b.row_bytes;
		total += padded(p->b.rows, p->b.cols);
	}
	float *row, *at;
	RV_TRY(rv_alloc_uninit((void **)&ad->columns, total, sizeof *ad->columns, "adapter"));
	RV_TRY(rv_alloc_uninit((void **)&row, (size_t)ad->max_rank, sizeof *row, "adapter"));
	at = ad->columns;
	for (int64_t i = 0; i < n_slots(ad); i++) {
		rv_adapter_part *p = &ad->parts[i];
		if (!p->a.data)
			continue;
		transpose(&p->b, row, at);
		p->b_columns = at;
		at += padded(p->b.rows, p->b.cols);
	}
	rv_free(row);
	return RV_OK;
}

static rv_status make(rv_adapter **out, const rv_model *model, const char *name,
                      const rv_adapter_matrix *parts, int n) {
	rv_adapter *ad;
	*out = NULL;
	RV_TRY(RV_ALLOC(&ad, 1, "adapter"));
	atomic_init(&ad->refs, 1);
	ad->arch = rv_model_arch(model);
	ad->hp = *rv_model_hparams(model);
	rv_status status = RV_ALLOC(&ad->parts, n_slots(ad), "adapter");
	if (status == RV_OK)
		status = parts ? fill_from(ad, name, parts, n) : open_into(ad, name);
	if (status == RV_OK)
		status = finish(ad);
	if (status != RV_OK) {
		rv_adapter_release(ad);
		return status;
	}
	*out = ad;
	return RV_OK;
}

rv_status rv_adapter_open(rv_adapter **out, const char *path, const rv_model *model) {
	return make(out, model, path, NULL, 0);
}

rv_status rv_adapter_create(rv_adapter **out, const rv_model *model, const char *name,
                            const rv_adapter_matrix *parts, int n) {
	static const rv_adapter_matrix none;
	return make(out, model, name, n > 0 ? parts : &none, n);
}

/* ---- placed ---- */

static rv_status place_factor(rv_adapter *ad, rv_weight *w, char *name) {
	void *at;
	RV_TRY(ad->memory.take(ad->memory.user, (size_t)w->rows * w->row_bytes, &at));
	memcpy(at, w->data, (size_t)w->rows * w->row_bytes);
	snprintf(name, NAME_BYTES, "%s", w->name);
	w->name = name;
	w->data = at;
	return RV_OK;
}

static rv_status place_part(rv_adapter *ad, rv_adapter_part *p, char (*names)[NAME_BYTES]) {
	const size_t bytes = (size_t)(p->b.rows * p->b.cols) * sizeof(float);
	void *at;
	RV_TRY(place_factor(ad, &p->a, names[0]));
	RV_TRY(place_factor(ad, &p->b, names[1]));
	RV_TRY(ad->memory.take(ad->memory.user, bytes, &at));
	memcpy(at, p->b_columns, bytes);
	p->b_columns = at;
	return RV_OK;
}

static rv_status place(rv_adapter *ad, const rv_adapter *from) {
	int n = 0;
	RV_TRY(rv_strdup(&ad->name, rv_adapter_path(from)));
	RV_TRY(RV_ALLOC(&ad->parts, n_slots(ad), "adapter"));
	memcpy(ad->parts, from->parts, (size_t)n_slots(ad) * sizeof *ad->parts);
	for (int64_t i = 0; i < n_slots(ad); i++)
		n += ad->parts[i].a.data != NULL;
	RV_TRY(RV_ALLOC(&ad->names, 2 * (int64_t)n, "adapter"));
	n = 0;
	for (int64_t i = 0; i < n_slots(ad); i++)
		if (ad->parts[i].a.data)
			RV_TRY(place_part(ad, &ad->parts[i], &ad->names[2 * n++]));
	return RV_OK;
}

rv_status rv_adapter_place(rv_adapter **out, const rv_adapter *from, const rv_adapter_memory *memory) {
	rv_adapter *ad;
	*out = NULL;
	rv_status status = RV_ALLOC(&ad, 1, "adapter");
	if (status != RV_OK) {
		memory->give_back(memory->user);
		return status;
	}
	*ad = (rv_adapter){.arch = from->arch,
	                   .hp = from->hp,
	                   .memory = *memory,
	                   .bytes = from->bytes,
	                   .n_params = from->n_params,
	                   .max_rank = from->max_rank};
	atomic_init(&ad->refs, 1);
	status = place(ad, from);
	if (status == RV_OK)
		*out = ad;
	else
		rv_adapter_release(ad);
	return status;
}

rv_adapter *rv_adapter_retain(rv_adapter *ad) {
	atomic_fetch_add(&ad->refs, 1);
	return ad;
}

void rv_adapter_release(rv_adapter *ad) {
	if (!ad || atomic_fetch_sub(&ad->refs, 1) != 1)
		return;
	rv_gguf_close(ad->gguf);
	if (ad->memory.give_back)
		ad->memory.give_back(ad->memory.user);
	rv_free(ad->parts);
	rv_free(ad->columns);
	rv_free(ad->name);
	rv_free(ad->names);
	rv_free(ad->factors);
	rv_free(ad);
}

int rv_adapter_shared(const rv_adapter *ad) {
	return atomic_load(&ad->refs) > 1;
}

const char *rv_adapter_path(const rv_adapter *ad) {
	return ad->name ? ad->name : rv_gguf_path(ad->gguf);
}
size_t rv_adapter_bytes(const rv_adapter *ad) {
	return ad->bytes;
}
const rv_gguf *rv_adapter_gguf(const rv_adapter *ad) {
	return ad->gguf;
}
int64_t rv_adapter_n_params(const rv_adapter *ad) {
	return ad->n_params;
}
int64_t rv_adapter_max_rank(const rv_adapter *ad) {
	return ad->max_rank;
}

int rv_adapter_fits(const rv_adapter *ad, const rv_model *model) {
	return rv_model_arch(model) == ad->arch &&
	       rv_hparams_same_shape(rv_model_hparams(model), &ad->hp);
}

const rv_adapter_part *rv_adapter_find(const rv_adapter *ad, rv_role role, int64_t layer) {
	const rv_adapter_part *p = part_at(ad, role, role == RV_OUTPUT ? ad->hp.n_layers : layer);
	return p->a.data ? p : NULL;
}

void rv_adapter_sha256(const rv_adapter *ad, char hex[65]) {
	struct {
		char before[65], a[65], b[65], part[65];
	} text;
	memset(&text, 0, sizeof text);
	for (int64_t i = 0; i < n_slots(ad); i++) {
		const rv_adapter_part *p = &ad->parts[i];
		if (!p->a.data)
			continue;
		rv_sha256_hex(p->a.data, (size_t)p->a.rows * p->a.row_bytes, text.a);
		rv_sha256_hex(p->b.data, (size_t)p->b.rows * p->b.row_bytes, text.b);
		uint32_t scale;
		memcpy(&scale, &p->scale, sizeof scale);
		snprintf(text.part, sizeof text.part, "%lld %d %d %lld %x", (long long)i,
		         (int)p->a.type, (int)p->b.type, (long long)p->a.rows, scale);
		rv_sha256_hex(&text, sizeof text, text.before);
	}
	memcpy(hex, text.before, sizeof text.before);
}
