/* MicroLoRA as an adapter, alone or on top of another, and back. */
#include "base/mem.h"
#include "learn/micro_lora_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- making one ---- */

/* Matrices of an adapter that is being made. */
typedef struct builder {
	const rv_micro_lora *micro;
	const rv_adapter *base; /* NULL: none */
	rv_adapter_matrix *list;
	int n;
	float *memory; /* of their factors; NULL: only count */
	size_t n_floats;
} builder;

static int is_zero(const rv_micro_lora *m, const rv_micro_part *p) {
	float sum;
	m->kernels->dot_f32(&sum, p->b_columns, p->b_columns, p->rank * p->n_out);
	return !(sum > 0);
}

/* Rows of a factor as floats, times `by`, into rows of `stride` floats. */
static void decode(const builder *b, const rv_weight *w, float by, float *out, int64_t stride) {
	for (int64_t r = 0; r < w->rows; r++) {
		b->micro->kernels->type[w->type].dequantize(
		        out + r * stride, (const char *)w->data + (size_t)r * w->row_bytes, w->cols);
		for (int64_t i = 0; i < w->cols; i++)
			out[r * stride + i] *= by;
	}
}

/* One projection: the ranks of both, one after the other. Scales go into B, unless there is one alone.
 */
static void add(builder *b, rv_role role, int64_t layer, const rv_adapter_part *base,
                const rv_micro_part *micro) {
	const int64_t base_rank = base ? base->a.rows : 0, rank = base_rank + (micro ? micro->rank : 0);
	const int64_t n_in = base ? base->a.cols : micro->n_in,
	              n_out = base ? base->b.rows : micro->n_out;
	const float scale = !base ? micro->scale : !micro ? base->scale : 1;
	const size_t at = b->n_floats;
	b->n_floats += (size_t)(rank * (n_in + n_out));
	if (!b->memory) {
		b->n++;
		return;
	}
	float *a = b->memory + at, *columns = a + rank * n_in;
	if (base) {
		decode(b, &base->a, 1, a, n_in);
		decode(b, &base->b, base->scale / scale, columns, rank);
	}
	if (micro) {
		memcpy(a + base_rank * n_in, micro->a, (size_t)(micro->rank * n_in) * sizeof *a);
		for (int64_t i = 0; i < n_out; i++)
			for (int64_t r = 0; r < micro->rank; r++)
				columns[i * rank + base_rank + r] =
				        micro->scale / scale * micro->b_columns[r * n_out + i];
	}
	b->list[b->n++] = (rv_adapter_matrix){role, layer, rank, a, columns, scale};
}

/* All projections that either changes. */
static void add_all(builder *b) {
	const rv_arch *arch = rv_model_arch(b->micro->model);
	const int64_t n_layers = rv_model_hparams(b->micro->model)->n_layers;
	const uint32_t projections = RV_ROLES_LAYER | RV_ROLE_BIT(RV_OUTPUT);
	b->n = 0;
	b->n_floats = 0;
	for (int d = 0; d < arch->n_tensors; d++) {
		const rv_role role = arch->tensors[d].role;
		const int64_t n = arch->tensors[d].flags & RV_TENSOR_LAYER ? n_layers : 1;
		for (int64_t layer = 0; (projections & RV_ROLE_BIT(role)) && layer < n; layer++) {
			const int part = rv_micro_lora_find(b->micro, role, layer);
			const rv_adapter_part *base =
			        b->base ? rv_adapter_find(b->base, role, layer) : NULL;
			rv_micro_part micro = {0};
			if (part >= 0)
				micro = rv_micro_lora_part(b->micro, part);
			const int changes = part >= 0 && !(b->base && is_zero(b->micro, &micro));
			if (base || changes)
				add(b, role, layer, base, changes ? &micro : NULL);
		}
	}
}

rv_status rv_micro_lora_adapter(const rv_micro_lora *m, const rv_adapter *base, const char *name,
                                rv_adapter **out) {
	builder b = {.micro = m, .base = base};
	*out = NULL;
	add_all(&b);
	rv_status status = RV_ALLOC(&b.list, b.n, "MicroLoRA");
	if (status == RV_OK)
		status = rv_alloc_uninit((void **)&b.memory, b.n_floats, sizeof *b.memory, "MicroLoRA");
	if (status == RV_OK) {
		add_all(&b);
		status = rv_adapter_create(out, m->model, name, b.list, b.n);
	}
	rv_free(b.list);
	rv_free(b.memory);
	return status;
}

/* ---- and back ---- */

static rv_status check_part(const rv_micro_lora *m, const rv_adapter *adapter, int i) {
	const micro_part *p = &m->parts[i];
	const rv_adapter_part *from = rv_adapter_find(adapter, p->role, p->layer);
	const int fits = from && from->a.cols == p->n_in && from->b.rows == p->n_out;
	if (!fits ||
	    (m->options.adaptive ? from->a.rows > m->options.rank : from->a.rows != m->options.rank))
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: projection %d of layer %lld: rank %lld, MicroLoRA here has rank "
		               "%lld",
		               rv_adapter_path(adapter), (int)p->role, (long long)p->layer,
		               (long long)(from ? from->a.rows : 0), (long long)m->options.rank);
	if (fabsf(from->scale - m->scale) > 1e-5f * m->scale)
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: projection %d of layer %lld: scale %g, MicroLoRA here has %g",
		               rv_adapter_path(adapter), (int)p->role, (long long)p->layer,
		               (double)from->scale, (double)m->scale);
	return RV_OK;
}

static void take_part(rv_micro_lora *m, micro_part *to, const rv_adapter_part *from) {
	const builder b = {.micro = m};
	float *columns = m->factors + to->b, row[RV_MICRO_MAX_RANK];
	to->rank = from->a.rows;
	decode(&b, &from->a, 1, m->factors + to->a, to->n_in);
	for (int64_t i = 0; i < to->n_out; i++) {
		m->kernels->type[from->b.type].dequantize(
		        row, (const char *)from->b.data + (size_t)i * from->b.row_bytes, to->rank);
		for (int64_t r = 0; r < to->rank; r++)
			columns[r * to->n_out + i] = row[r];
	}
}

rv_status rv_micro_lora_load(rv_micro_lora *m, const rv_adapter *adapter) {
	int64_t n = 0;
	for (int i = 0; i < m->n_parts; i++) {
		RV_TRY(check_part(m, adapter, i));
		const rv_adapter_part *p =
		        rv_adapter_find(adapter, m->parts[i].role, m->parts[i].layer);
		n += p->a.rows * (p->a.cols + p->b.rows);
	}
	if (n != rv_adapter_n_params(adapter))
		return rv_fail(RV_ERR_MISMATCH, "%s: adapts more than MicroLoRA here",
		               rv_adapter_path(adapter));
	rv_micro_lora_reset(m, m->options.seed);
	for (int i = 0; i < m->n_parts; i++)
		take_part(m, &m->parts[i],
		          rv_adapter_find(adapter, m->parts[i].role, m->parts[i].layer));
	rv_micro_lora_keep(m);
	return RV_OK;
}
