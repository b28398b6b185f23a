#include "engine/backend_cpu.h"
#include "engine/blas.h"

#include "base/mem.h"
#include "base/vm.h"

#include <float.h>
#include <math.h>
#include <string.h>

static rv_cpu *cpu_of(rv_backend *be) {
	return (rv_cpu *)be;
}

/* ---- operations on rows ---- */

typedef struct embed_job {
	const rv_kernels *k;
	rv_tensor y;
	const rv_weight *w;
	const int32_t *ids;
} embed_job;

static rv_status embed_rows(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const embed_job *j = arg;
	for (int64_t i = begin; i < end; i++)
		j->k->type[j->w->type].dequantize(
		        rv_tensor_row(j->y, i),
		        (const char *)j->w->data + (size_t)j->ids[i] * j->w->row_bytes, j->w->cols);
	return RV_OK;
}

static rv_status op_embed(rv_backend *be, rv_tensor y, const rv_weight *w, const int32_t *ids) {
	rv_cpu *c = cpu_of(be);
	embed_job job = {c->k, y, w, ids};
	return rv_threads_for(c->threads, y.rows, 16, embed_rows, &job);
}

typedef struct norm_job {
	const rv_kernels *k;
	rv_tensor y, x, r; /* r.buffer NULL: no residual */
	const float *w;
	float eps;
} norm_job;

static rv_status norm_rows(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const norm_job *j = arg;
	for (int64_t i = begin; i < end; i++) {
		float *y = rv_tensor_row(j->y, i), *x = rv_tensor_row(j->x, i);
		if (j->r.buffer)
			j->k->add_rms_norm(y, x, rv_tensor_row(j->r, i), j->w, j->x.cols, j->eps);
		else
			j->k->rms_norm(y, x, j->w, j->x.cols, j->eps);
	}
	return RV_OK;
}

static rv_status op_add_norm(rv_backend *be, rv_tensor y, rv_tensor x, rv_tensor r, const rv_weight *w,
                             float eps) {
	rv_cpu *c = cpu_of(be);
	norm_job job = {c->k, y, x, r, w->data, eps};
	return rv_threads_for(c->threads, x.rows, 8, norm_rows, &job);
}

static rv_status op_norm(rv_backend *be, rv_tensor y, rv_tensor x, const rv_weight *w, float eps) {
	return op_add_norm(be, y, x, (rv_tensor){0}, w, eps);
}

/* ---- positions ---- */

/* Angles in double: a float product position * frequency loses digits at long contexts. */
static rv_status op_rope_table(rv_backend *be, rv_tensor table, const rv_row *rows,
                               const rv_hparams *hp, const rv_weight *freqs) {
	const rv_rope_scaling *rope = &cpu_of(be)->options.rope;
	double magnitude = rv_rope_magnitude(rope);
	for (int64_t p = 0; p < hp->n_rot / 2; p++) {
		double f = rv_rope_frequency(rope, hp->rope_theta, hp->n_rot, p);
		if (freqs)
			f /= (double)((const float *)freqs->data)[p];
		for (int64_t i = 0; i < table.rows; i++) {
			double angle = f * (double)rows[i].position;
			float *cs = rv_tensor_row(table, i) + 2 * p;
			cs[0] = (float)(magnitude * cos(angle));
			cs[1] = (float)(magnitude * sin(angle));
		}
	}
	return RV_OK;
}

typedef struct rope_job {
	const rv_kernels *k;
	rv_tensor q, key, v, table;
	const rv_weight *q_norm, *k_norm;
	const rv_hparams *hp;
	int neox;
	const rv_row *rows;
	const rv_kv_view *kv;
	int64_t layer;
} rope_job;

static void norm_heads(const rv_kernels *k, float *x, int64_t n_heads, const rv_weight *w,
                       const rv_hparams *hp) {
	for (int64_t h = 0; w && h < n_heads; h++)
		k->rms_norm(x + h * hp->head_dim, x + h * hp->head_dim, w->data, hp->head_dim,
		            (float)hp->rms_eps);
}

/* Largest magnitude a cache type keeps finite. A score of minus infinity would hide a key in silence,
 * so infinite queries, and what would become infinite in the cache, are refused. Q8's scale turns into
 * NaN, which shows. */
static const float kv_most[RV_KV_COUNT] = {[RV_KV_F32] = FLT_MAX,
                                           [RV_KV_F16] = 65504,
                                           [RV_KV_Q8] = FLT_MAX,
                                           [RV_KV_Q4] = 65504,
                                           [RV_KV_Q2] = 65504};

/* False for NaN too. */
static int all_within(const float *x, int64_t n, float most) {
	int within = 1;
	for (int64_t i = 0; i < n; i++)
		within &= fabsf(x[i]) <= most;
	return within;
}

static rv_status check_row(const rope_job *j, int64_t i) {
	const rv_row *row = &j->rows[i];
	float most = kv_most[j->kv->type];
	if (all_within(rv_tensor_row(j->q, i), j->q.cols, FLT_MAX) &&
	    all_within(rv_tensor_row(j->key, i), j->key.cols, most) &&
	    all_within(rv_tensor_row(j->v, i), j->v.cols, most))
		return RV_OK;
	return rv_fail(RV_ERR_NUMERIC,
	               "layer %lld, sequence %d, position %d: a query, or a key or value as %s, is not "
	               "finite",
	               (long long)j->layer, row->seq, row->position, rv_kv_type_name(j->kv->type));
}

static void row_slot(const rope_job *j, const rv_row *row, int64_t head, void **key, void **value) {
	if (row->parent > 0)
		j->kv->draft_slot(j->kv->cache, row->parent, j->layer, head, key, value);
	else
		j->kv->slot(j->kv->cache, row->seq, j->layer, head, row->position, key, value);
}

static rv_status rope_rows(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const rope_job *j = arg;
	const rv_hparams *hp = j->hp;
	const rv_kv_ops *kv_ops = &j->k->kv[j->kv->type];
	for (int64_t i = begin; i < end; i++) {
		float *q = rv_tensor_row(j->q, i), *key = rv_tensor_row(j->key, i),
		      *v = rv_tensor_row(j->v, i);
		const float *cs = rv_tensor_row(j->table, i);
		norm_heads(j->k, q, hp->n_heads, j->q_norm, hp);
		norm_heads(j->k, key, hp->n_kv_heads, j->k_norm, hp);
		j->k->rope(q, cs, hp->n_heads, hp->head_dim, hp->n_rot, j->neox);
		j->k->rope(key, cs, hp->n_kv_heads, hp->head_dim, hp->n_rot, j->neox);
		RV_TRY(check_row(j, i));
		if (j->kv->observe)
			j->kv->observe(j->kv->observer, &j->rows[i], j->layer, cs, q, key, v);
		for (int64_t h = 0; h < hp->n_kv_heads; h++) {
			void *kslot, *vslot;
			row_slot(j, &j->rows[i], h, &kslot, &vslot);
			kv_ops->store(kslot, key + h * hp->head_dim, hp->head_dim);
			kv_ops->store(vslot, v + h * hp->head_dim, hp->head_dim);
		}
	}
	return RV_OK;
}

static rv_status op_rope_store(rv_backend *be, rv_tensor q, rv_tensor key, rv_tensor v, rv_tensor table,
                               const rv_weight *q_norm, const rv_weight *k_norm, const rv_hparams *hp,
                               int neox, const rv_row *rows, const rv_kv_view *kv, int64_t layer) {
	rv_cpu *c = cpu_of(be);
	rope_job job = {c->k, q, key, v, table, q_norm, k_norm, hp, neox, rows, kv, layer};
	return rv_threads_for(c->threads, q.rows, 4, rope_rows, &job);
}

/* ---- feed-forward activation ---- */

#define SWIGLU_CHUNK 2048 /* elements; a multiple of every level's lanes, so cuts never move a lane */

typedef struct swiglu_job {
	const rv_kernels *k;
	float *y;
	const float *gate, *up;
	int64_t n;
} swiglu_job;

static rv_status swiglu_chunks(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const swiglu_job *j = arg;
	int64_t b = begin * SWIGLU_CHUNK, e = end * SWIGLU_CHUNK < j->n ? end * SWIGLU_CHUNK : j->n;
	j->k->swiglu(j->y + b, j->gate + b, j->up + b, e - b);
	return RV_OK;
}

static rv_status op_swiglu(rv_backend *be, rv_tensor y, rv_tensor gate, rv_tensor up) {
	rv_cpu *c = cpu_of(be);
	swiglu_job job = {c->k, rv_tensor_f32(y), rv_tensor_f32(gate), rv_tensor_f32(up),
	                  y.rows * y.cols};
	return rv_threads_for(c->threads, (job.n + SWIGLU_CHUNK - 1) / SWIGLU_CHUNK, 1, swiglu_chunks,
	                      &job);
}

/* ---- moving and checking ---- */

static rv_status op_gather(rv_backend *be, rv_tensor y, rv_tensor x, const int64_t *rows) {
	(void)be;
	for (int64_t i = 0; i < y.rows; i++)
		memmove(rv_tensor_row(y, i), rv_tensor_row(x, rows[i]), (size_t)x.cols * sizeof(float));
	return RV_OK;
}

static rv_status op_check(rv_backend *be, rv_tensor x, const char *what) {
	(void)be;
	for (int64_t i = 0; i < x.rows; i++) {
		const float *p = rv_tensor_row(x, i);
		uint32_t bad = 0;
		for (int64_t j = 0; j < x.cols; j++) {
			uint32_t bits;
			memcpy(&bits, &p[j], sizeof bits);
			bad |= (bits & 0x7f800000u) == 0x7f800000u;
		}
		if (bad)
			return rv_fail(RV_ERR_NUMERIC, "%s: output row %lld holds a NaN or infinity",
			               what, (long long)i);
	}
	return RV_OK;
}

/* ---- life ---- */

static void op_destroy(rv_backend *be) {
	if (!be)
		return;
	rv_cpu *c = cpu_of(be);
	if (!c->options.threads)
		rv_threads_destroy(c->threads);
	rv_vm_free(c->scratch, c->scratch_bytes);
	rv_free(c);
}

#define CPU_OPS(label)                                                                                 \
	{                                                                                              \
		.name = label, .embed = op_embed, .norm = op_norm, .add_norm = op_add_norm,            \
		.matmul = rv_cpu_matmul, .rope_table = op_rope_table, .rope_store = op_rope_store,     \
		.attention = rv_cpu_attention, .swiglu = op_swiglu, .gather = op_gather,               \
		.check = op_check, .destroy = op_destroy                                               \
	}
static const rv_backend_ops cpu_ops[RV_BACKEND_COUNT] = {
        [RV_BACKEND_REF] = CPU_OPS("ref"),
        [RV_BACKEND_BLAS] = CPU_OPS("blas"),
        [RV_BACKEND_SIMD] = CPU_OPS("simd"),
};

const char *rv_backend_name(rv_backend_kind kind) {
	return cpu_ops[kind].name;
}

static size_t align64(size_t n) {
	return (n + 63) & ~(size_t)63;
}

static size_t thread_scratch(const rv_cpu_options *o) {
	size_t attention = rv_cpu_attention_scratch(o), matmul = rv_cpu_matmul_scratch(o);
	return align64(attention > matmul ? attention : matmul);
}

static size_t tiles_bytes(const rv_cpu_options *o) {
	return align64((size_t)(o->n_batch + 1) * sizeof(int64_t));
}

static size_t act_bytes(const rv_cpu_options *o, rv_act act) {
	return act == RV_ACT_F32 || o->kind != RV_BACKEND_SIMD
	               ? 0
	               : (size_t)o->n_batch * rv_act_row_bytes(act, o->max_k);
}

size_t rv_cpu_scratch_bytes(const rv_cpu_options *o, int n_threads) {
	size_t total = thread_scratch(o) * (size_t)n_threads + tiles_bytes(o) +
	               align64(rv_cpu_attention_shared(o, n_threads));
	for (int a = 0; a < RV_ACT_COUNT; a++)
		total += act_bytes(o, (rv_act)a);
	return total;
}

rv_status rv_cpu_backend_create(rv_backend **out, const rv_cpu_options *o) {
	rv_cpu *c;
	*out = NULL;
	if (o->kind == RV_BACKEND_BLAS)
		RV_TRY(rv_blas_open());
	RV_TRY(RV_ALLOC(&c, 1, "backend"));
	c->base.ops = &cpu_ops[o->kind];
	c->options = *o;
	c->k = rv_kernels_for(o->kind == RV_BACKEND_REF ? RV_LEVEL_REF : o->level);
	rv_threads_options t = {o->n_threads, o->pin};
	c->threads = o->threads;
	rv_status st = c->threads ? RV_OK : rv_threads_create(&c->threads, &t);
	if (st == RV_OK) {
		c->thread_bytes = thread_scratch(o);
		c->scratch_bytes = rv_cpu_scratch_bytes(o, rv_threads_count(c->threads));
		st = rv_vm_alloc((void **)&c->scratch, c->scratch_bytes, "scratch memory");
	}
	if (st != RV_OK) {
		op_destroy(&c->base);
		return st;
	}
	char *p = c->scratch + c->thread_bytes * (size_t)rv_threads_count(c->threads);
	c->tiles = (int64_t *)p;
	p += tiles_bytes(o);
	c->partials = (float *)p;
	p += align64(rv_cpu_attention_shared(o, rv_threads_count(c->threads)));
	for (int a = 0; a < RV_ACT_COUNT; a++) {
		size_t bytes = act_bytes(o, (rv_act)a);
		c->act[a] = bytes ? p : NULL;
		p += bytes;
	}
	*out = &c->base;
	return RV_OK;
}

rv_threads *rv_cpu_threads(const rv_backend *be) {
	return ((const rv_cpu *)be)->threads;
}
