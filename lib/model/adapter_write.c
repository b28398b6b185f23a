#include "model/adapter_write.h"

#include "base/mem.h"
#include "model/gguf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TENSOR_NAME_BYTES = 80 };

typedef struct writing {
	const char *path;
	const rv_arch *arch;
	const rv_hparams *hp;
	const rv_adapter_matrix *parts;
	int n;
	const rv_type_info *type;
	double alpha;
	const rv_kernels *kernels;
	rv_gguf_writer *w;
	float *row;
	char *stored;
} writing;

static const rv_tensor_def *projection(const rv_arch *arch, rv_role role) {
	for (int i = 0; i < arch->n_tensors; i++)
		if (arch->tensors[i].role == role && role != RV_TOKEN_EMBD &&
		    !(arch->tensors[i].flags & RV_TENSOR_VECTOR))
			return &arch->tensors[i];
	return NULL;
}

static double scale_rank(const rv_adapter_matrix *m) {
	return (double)m->scale * (double)m->rank;
}

/* What B is multiplied by so that the file's alpha is right for it; 1 when it is already, but for the
 * rounding of alpha / rank. */
static double b_factor(const writing *x, const rv_adapter_matrix *m) {
	const double f = scale_rank(m) / x->alpha;
	return fabs(f - 1) < 1e-6 ? 1 : f;
}

static int same_projection(const rv_tensor_def *def, const rv_adapter_matrix *m,
                           const rv_adapter_matrix *other) {
	return m->role == other->role && (!(def->flags & RV_TENSOR_LAYER) || m->layer == other->layer);
}

static rv_status check(writing *x, double alpha) {
	for (int i = 0; i < x->n; i++) {
		const rv_adapter_matrix *m = &x->parts[i];
		const rv_tensor_def *def = projection(x->arch, m->role);
		if (!def ||
		    ((def->flags & RV_TENSOR_LAYER) && (m->layer < 0 || m->layer >= x->hp->n_layers)))
			return rv_fail(RV_ERR_INVALID,
			               "%s: matrix %d: %s has no projection %d in layer %lld", x->path,
			               i, x->arch->name, (int)m->role, (long long)m->layer);
		if (m->rank < 1 || m->rank > RV_ADAPTER_MAX_RANK)
			return rv_fail(RV_ERR_INVALID, "%s: matrix %d: rank %lld, not in [1, %d]",
			               x->path, i, (long long)m->rank, RV_ADAPTER_MAX_RANK);
		if (!isfinite(m->scale))
			return rv_fail(RV_ERR_NUMERIC, "%s: matrix %d: scale %g", x->path, i,
			               (double)m->scale);
		for (int j = 0; j < i; j++)
			if (same_projection(def, m, &x->parts[j]))
				return rv_fail(RV_ERR_INVALID,
				               "%s: matrices %d and %d are of one projection", x->path,
				               j, i);
	}
	for (int i = 0; i < x->n && alpha == 0; i++)
		alpha = scale_rank(&x->parts[i]);
	/* An alpha of 0 means none to other readers: matrices that add nothing get a B of 0. */
	x->alpha = (float)(alpha == 0 ? 1 : alpha);
	return fabs(x->alpha) <= 1e6 && x->alpha != 0
	               ? RV_OK
	               : rv_fail(RV_ERR_INVALID, "%s: alpha %g, not in [-1e6, 1e6]", x->path, alpha);
}

static void tensor_name(const writing *x, const rv_adapter_matrix *m, const char *end,
                        char name[TENSOR_NAME_BYTES]) {
	rv_arch_tensor_name(projection(x->arch, m->role), m->layer, name);
	strcat(name, end);
}

static rv_status write_header(const writing *x, const char *name) {
	RV_TRY(rv_gguf_write_string(x->w, "general.type", "adapter"));
	if (name)
		RV_TRY(rv_gguf_write_string(x->w, "general.name", name));
	RV_TRY(rv_gguf_write_u32(x->w, "general.file_type", x->type->type == RV_F16 ? 1 : 0));
	RV_TRY(rv_gguf_write_string(x->w, "general.architecture", x->arch->name));
	RV_TRY(rv_gguf_write_string(x->w, "adapter.type", "lora"));
	RV_TRY(rv_gguf_write_f32(x->w, "adapter.lora.alpha", (float)x->alpha));
	for (int i = 0; i < x->n; i++) {
		const rv_adapter_matrix *m = &x->parts[i];
		const rv_tensor_def *def = projection(x->arch, m->role);
		const int64_t a[2] = {rv_dim_size(def->cols, x->hp), m->rank};
		const int64_t b[2] = {m->rank, rv_dim_size(def->rows, x->hp)};
		char tensor[TENSOR_NAME_BYTES];
		tensor_name(x, m, ".lora_a", tensor);
		RV_TRY(rv_gguf_declare(x->w, tensor, x->type->type, 2, a));
		tensor_name(x, m, ".lora_b", tensor);
		RV_TRY(rv_gguf_declare(x->w, tensor, x->type->type, 2, b));
	}
	return RV_OK;
}

static rv_status write_factor(const writing *x, const rv_adapter_matrix *m, const char *end,
                              const float *data, int64_t rows, int64_t cols, double factor) {
	const float most = x->type->type == RV_F16 ? 65504.0f : 3.4e38f;
	for (int64_t r = 0; r < rows; r++) {
		for (int64_t i = 0; i < cols; i++) {
			x->row[i] =
			        factor == 1 ? data[r * cols + i] : (float)(factor * data[r * cols + i]);
			if (!(fabsf(x->row[i]) <= most)) {
				char name[TENSOR_NAME_BYTES];
				tensor_name(x, m, end, name);
				return rv_fail(RV_ERR_NUMERIC,
				               "%s: tensor '%s': element %lld, %g, has no %s", x->path,
				               name, (long long)(r * cols + i), (double)x->row[i],
				               x->type->name);
			}
		}
		x->kernels->type[x->type->type].quantize(x->stored, x->row, NULL, cols);
		RV_TRY(rv_gguf_write_data(x->w, x->stored, rv_type_row_bytes(x->type, cols)));
	}
	return RV_OK;
}

static rv_status write_all(writing *x, const char *name) {
	int64_t widest = RV_ADAPTER_MAX_RANK;
	for (int i = 0; i < x->n; i++) {
		const int64_t cols = rv_dim_size(projection(x->arch, x->parts[i].role)->cols, x->hp);
		widest = cols > widest ? cols : widest;
	}
	RV_TRY(RV_ALLOC(&x->row, widest, "row"));
	RV_TRY(rv_alloc((void **)&x->stored, (size_t)widest, sizeof(float), "row"));
	RV_TRY(write_header(x, name));
	for (int i = 0; i < x->n; i++) {
		const rv_adapter_matrix *m = &x->parts[i];
		const rv_tensor_def *def = projection(x->arch, m->role);
		RV_TRY(write_factor(x, m, ".lora_a", m->a, m->rank, rv_dim_size(def->cols, x->hp), 1));
		RV_TRY(write_factor(x, m, ".lora_b", m->b, rv_dim_size(def->rows, x->hp), m->rank,
		                    b_factor(x, m)));
	}
	return RV_OK;
}

rv_status rv_adapter_write_matrices(const char *path, const rv_arch *arch, const rv_hparams *hp,
                                    const rv_adapter_matrix *parts, int n,
                                    const rv_adapter_write_options *options) {
	static const rv_adapter_write_options none;
	const rv_adapter_write_options *o = options ? options : &none;
	writing x = {.path = path,
	             .arch = arch,
	             .hp = hp,
	             .parts = parts,
	             .n = n,
	             .type = o->type ? o->type : rv_type_get(RV_F16),
	             .kernels = rv_kernels_for(RV_LEVEL_REF)};
	if (x.type->type != RV_F16 && x.type->type != RV_F32)
		return rv_fail(RV_ERR_INVALID, "%s: an adapter is written as F32 or F16, not %s", path,
		               x.type->name);
	if (n < 1)
		return rv_fail(RV_ERR_INVALID, "%s: adapts nothing", path);
	rv_status st = check(&x, o->alpha);
	if (st == RV_OK)
		st = rv_gguf_writer_open(&x.w, path);
	if (st == RV_OK)
		st = write_all(&x, o->name);
	rv_free(x.row);
	rv_free(x.stored);
	if (st == RV_OK)
		return rv_gguf_writer_commit(x.w);
	rv_gguf_writer_abort(x.w);
	return st;
}

/* ---- from an adapter ---- */

static void decode(float *to, const rv_weight *w) {
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	for (int64_t r = 0; r < w->rows; r++)
		k->type[w->type].dequantize(to + r * w->cols,
		                            (const char *)w->data + (size_t)r * w->row_bytes, w->cols);
}

static rv_status decode_all(rv_adapter_matrices *m, const rv_adapter *adapter, int64_t n_layers) {
	float *at;
	RV_TRY(RV_ALLOC(&m->parts, (n_layers + 1) * RV_ROLE_COUNT, "adapter's matrices"));
	RV_TRY(rv_alloc_uninit((void **)&m->factors, (size_t)rv_adapter_n_params(adapter), sizeof *at,
	                       "adapter's matrices"));
	at = m->factors;
	/* Roles outside layers last. */
	for (int64_t layer = 0; layer <= n_layers; layer++)
		for (int role = 0; role < RV_ROLE_COUNT; role++) {
			if ((layer == n_layers) != (role == RV_OUTPUT))
				continue;
			const rv_adapter_part *p = rv_adapter_find(adapter, (rv_role)role, layer);
			if (!p)
				continue;
			const int64_t n_a = p->a.rows * p->a.cols, n_b = p->b.rows * p->b.cols;
			m->parts[m->n++] = (rv_adapter_matrix){.role = (rv_role)role,
			                                       .layer = layer == n_layers ? -1 : layer,
			                                       .rank = p->a.rows,
			                                       .a = at,
			                                       .b = at + n_a,
			                                       .scale = p->scale};
			decode(at, &p->a);
			decode(at + n_a, &p->b);
			at += n_a + n_b;
		}
	return RV_OK;
}

rv_status rv_adapter_matrices_init(rv_adapter_matrices *out, const rv_adapter *adapter,
                                   const rv_model *model) {
	rv_adapter_matrices m = {0};
	if (!rv_adapter_fits(adapter, model))
		return rv_fail(RV_ERR_MISMATCH, "%s: made for models of another shape than %s",
		               rv_adapter_path(adapter), rv_model_path(model));
	rv_status st = decode_all(&m, adapter, rv_model_hparams(model)->n_layers);
	if (st == RV_OK)
		*out = m;
	else
		rv_adapter_matrices_deinit(&m);
	return st;
}

void rv_adapter_matrices_deinit(rv_adapter_matrices *m) {
	rv_free(m->parts);
	rv_free(m->factors);
	*m = (rv_adapter_matrices){0};
}

rv_status rv_adapter_write(const char *path, const rv_adapter *adapter, const rv_model *model,
                           const rv_adapter_write_options *options) {
	rv_adapter_matrices m;
	RV_TRY(rv_adapter_matrices_init(&m, adapter, model));
	rv_status st = rv_adapter_write_matrices(path, rv_model_arch(model), rv_model_hparams(model),
	                                         m.parts, m.n, options);
	rv_adapter_matrices_deinit(&m);
	return st;
}
