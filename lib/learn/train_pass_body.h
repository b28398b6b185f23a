/* The pass of train_pass.h: memory, layers forward and backward. Internal to lib/learn. */
#include "base/mem.h"
#include "learn/train_pass.h"

#include <math.h>
#include <string.h>

/* Tests choose small ones, to see every edge. */
#ifndef SCORE_ROWS
#define SCORE_ROWS 128 /* queries whose scores are held at once (tokens times heads of a group) */
#define KEY_TILE 512   /* keys at a time on the way back */
#define LOGIT_ROWS 128 /* rows whose logits are held at once */
#endif

/* c = alpha op(a) op(b) + beta c, as the BLAS has it; beta 0 or 1 */
static void gemm(const rv_pass *p, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k,
                 rv_real alpha, const rv_real *a, int64_t lda, const rv_real *b, int64_t ldb,
                 rv_real beta, rv_real *c, int64_t ldc);

/* Bytes of scratch the products of this pass need in bfloat16. */
static size_t products_scratch(const rv_pass *p);

static void embed(rv_pass *p, const rv_piece *piece);
static void layer_forward(rv_pass *p, int64_t l, rv_real *x_next, const rv_piece *piece);
static rv_real *leaves(const rv_pass *p, int64_t l);

#include "learn/train_attention_body.h"
#include "learn/train_loss_body.h"

/* ---- memory ---- */

/* Hands out consecutive parts of one block; with base NULL it only counts. */
typedef struct carver {
	char *base;
	size_t used;
} carver;

static void *carve(carver *c, int64_t count, size_t size) {
	void *p = c->base ? c->base + c->used : NULL;
	c->used += ((size_t)count * size + RV_ALIGN - 1) / RV_ALIGN * RV_ALIGN;
	return p;
}

static rv_real *reals(carver *c, int64_t rows, int64_t cols) {
	return carve(c, rows * cols, sizeof(rv_real));
}

static void carve_layer(carver *c, rv_layer_state *s, const rv_hparams *hp, int64_t rows) {
	int64_t n_q = hp->n_heads * hp->head_dim, n_kv = hp->n_kv_heads * hp->head_dim;
	s->h1 = reals(c, rows, hp->n_embd);
	s->inv1 = reals(c, rows, 1);
	s->q = reals(c, rows, n_q);
	s->k = reals(c, rows, n_kv);
	s->v = reals(c, rows, n_kv);
	s->a = reals(c, rows, n_q);
	s->lse = reals(c, rows, hp->n_heads);
	s->mid = reals(c, rows, hp->n_embd);
	s->h2 = reals(c, rows, hp->n_embd);
	s->inv2 = reals(c, rows, 1);
	s->gate = reals(c, rows, hp->n_ff);
	s->up = reals(c, rows, hp->n_ff);
	s->act = reals(c, rows, hp->n_ff);
}

/* Layers that are not walked back need nothing of each other: they share one state, x included. */
static void carve_layers(carver *c, rv_pass *p) {
	const rv_hparams *hp = &p->layout->hp;
	const int64_t rows = p->o.max_rows;
	const int with_gradient = p->o.with_gradient;
	rv_layer_state first = {0};
	for (int64_t l = 0; l < hp->n_layers; l++) {
		rv_layer_state s = first;
		const int own = with_gradient && l >= p->layout->last_layer;
		if (l == 0 || own)
			s.x = reals(c, rows, hp->n_embd);
		if (l == 0 || (own && !p->o.recompute))
			carve_layer(c, &s, hp, rows);
		if (l == 0)
			first = s;
		if (c->base)
			p->layers[l] = s;
	}
	p->x_last = with_gradient ? reals(c, rows, hp->n_embd) : first.x;
}

static void carve_pass(carver *c, rv_pass *p) {
	const rv_hparams *hp = &p->layout->hp;
	const int64_t rows = p->o.max_rows, n_q = hp->n_heads * hp->head_dim,
	              n_kv = hp->n_kv_heads * hp->head_dim;
	const int64_t score_rows = score_block(hp) * (hp->n_heads / hp->n_kv_heads);
	p->layers = carve(c, hp->n_layers, sizeof *p->layers);
	carve_layers(c, p);
	p->h_last = reals(c, rows, hp->n_embd);
	p->inv_last = reals(c, rows, 1);
	p->cs = reals(c, p->o.n_ctx, hp->n_rot);
	p->proj_q = reals(c, rows, n_q);
	p->proj_kv = reals(c, rows, n_kv);
	p->pack_q = reals(c, rows, n_q);
	p->scores = reals(c, score_rows, p->o.n_ctx);
	p->inv_sum = reals(c, score_rows, 1);
	p->lo = carve(c, score_rows, sizeof *p->lo);
	p->hi = carve(c, score_rows, sizeof *p->hi);
	p->low = reals(c, rows, p->layout->lora_rank);
	p->logits = reals(c, LOGIT_ROWS, hp->n_vocab);
	if (p->o.with_teacher)
		p->teacher_logits = reals(c, LOGIT_ROWS, hp->n_vocab);
	p->asked = carve(c, rows, sizeof *p->asked);
	p->some = reals(c, LOGIT_ROWS, hp->n_embd);
	p->start = carve(c, rows, sizeof *p->start);
	if (p->o.bf16)
		p->products = carve(c, (int64_t)products_scratch(p), 1);
	if (!p->o.with_gradient)
		return;
	p->dx = reals(c, rows, hp->n_embd);
	p->dh = reals(c, rows, hp->n_embd);
	p->wide = reals(c, rows, n_q > hp->n_ff ? n_q : hp->n_ff);
	p->pack_q2 = reals(c, rows, n_q);
	p->pack_kv = reals(c, rows, n_kv);
	p->dv = reals(c, rows, n_kv);
	p->dots = reals(c, rows, hp->n_heads);
	p->scores2 = reals(c, score_rows, p->o.n_ctx < KEY_TILE ? p->o.n_ctx : KEY_TILE);
	p->low2 = reals(c, rows, p->layout->lora_rank);
}

size_t rv_pass_bytes(const rv_train_layout *layout, const rv_pass_options *options) {
	rv_pass p = {.layout = layout, .o = *options};
	carver c = {0};
	carve_pass(&c, &p);
	return c.used;
}

/* Angles as the engine computes them. */
static void fill_rope(rv_pass *p) {
	const rv_hparams *hp = &p->layout->hp;
	for (int64_t i = 0; i < hp->n_rot / 2; i++) {
		double f = pow(hp->rope_theta, -2.0 * (double)i / (double)hp->n_rot);
		for (int64_t t = 0; t < p->o.n_ctx; t++) {
			rv_real *cs = p->cs + t * hp->n_rot + 2 * i;
			cs[0] = (rv_real)cos(f * (double)t);
			cs[1] = (rv_real)sin(f * (double)t);
		}
	}
}

rv_status rv_pass_init(rv_pass *out, const rv_train_layout *layout, const rv_train_ops *ops,
                       const rv_pass_options *options) {
	rv_pass p = {.layout = layout, .ops = ops, .o = *options};
	RV_TRY(rv_alloc_uninit(&p.memory, rv_pass_bytes(layout, options), 1, "activations"));
	carver c = {.base = p.memory};
	carve_pass(&c, &p);
	fill_rope(&p);
	*out = p;
	return RV_OK;
}

void rv_pass_deinit(rv_pass *pass) {
	rv_free(pass->memory);
	*pass = (rv_pass){0};
}

/* ---- products with weights ---- */

const rv_real *rv_pass_weight(const rv_pass *p, rv_role role, int64_t layer, rv_part part) {
	int64_t i = rv_train_layout_find(p->layout, role, layer, part);
	return i < 0 ? NULL : p->weights + p->layout->params[i].offset;
}

rv_real *rv_pass_gradient(const rv_pass *p, rv_role role, int64_t layer, rv_part part) {
	int64_t i = rv_train_layout_find(p->layout, role, layer, part);
	if (i < 0 || !p->gradient || !rv_train_layout_trained(p->layout, &p->layout->params[i]))
		return NULL;
	return p->gradient + p->layout->params[i].offset - p->layout->train_begin;
}

/* The adapter of a projection; a NULL: none. */
typedef struct adapted {
	const rv_real *a, *b;
	int64_t rank;
	rv_real scale;
} adapted;

static adapted adapter_of(const rv_pass *p, rv_role role, int64_t layer) {
	const rv_train_layout *l = p->layout;
	const int64_t a = rv_train_layout_find(l, role, layer, RV_PART_LORA_A);
	if (a < 0)
		return (adapted){0};
	return (adapted){.a = p->weights + l->params[a].offset,
	                 .b = rv_pass_weight(p, role, layer, RV_PART_LORA_B),
	                 .rank = l->params[a].rows,
	                 .scale = (rv_real)l->params[a].scale};
}

/* y[rows, out] (+)= x W^T + s (x A^T) B^T */
static void linear(rv_pass *p, rv_role role, int64_t layer, rv_real *y, const rv_real *x, int64_t rows,
                   int accumulate) {
	const rv_train_layout *l = p->layout;
	const rv_param *w = &l->params[rv_train_layout_find(l, role, layer, RV_PART_WEIGHT)];
	const adapted ad = adapter_of(p, role, layer);
	const int64_t in = w->cols, out = w->rows, rank = ad.rank;
	gemm(p, 0, 1, rows, out, in, 1, x, in, p->weights + w->offset, in, accumulate ? 1 : 0, y, out);
	if (!ad.a)
		return;
	gemm(p, 0, 1, rows, rank, in, 1, x, in, ad.a, in, 0, p->low, rank);
	gemm(p, 0, 1, rows, out, rank, ad.scale, p->low, rank, ad.b, rank, 1, y, out);
}

/* dx[rows, in] (+)= the derivative by x (NULL: nobody wants it); the gradients of what is trained are
 * added. */
static void linear_back(rv_pass *p, rv_role role, int64_t layer, rv_real *dx, const rv_real *dy,
                        const rv_real *x, int64_t rows, int accumulate) {
	const rv_train_layout *l = p->layout;
	const rv_param *w = &l->params[rv_train_layout_find(l, role, layer, RV_PART_WEIGHT)];
	const adapted ad = adapter_of(p, role, layer);
	rv_real *dw = rv_pass_gradient(p, role, layer, RV_PART_WEIGHT),
	        *da = rv_pass_gradient(p, role, layer, RV_PART_LORA_A),
	        *db = rv_pass_gradient(p, role, layer, RV_PART_LORA_B);
	const int64_t in = w->cols, out = w->rows, rank = ad.rank;
	const rv_real scale = RV_TRAIN_KEEPS(lora_scale) ? ad.scale : 1;
	if (dx)
		gemm(p, 0, 0, rows, in, out, 1, dy, out, p->weights + w->offset, in, accumulate ? 1 : 0,
		     dx, in);
	if (dw)
		gemm(p, 1, 0, out, in, rows, 1, dy, out, x, in, 1, dw, in);
	if (!ad.a)
		return;
	gemm(p, 0, 0, rows, rank, out, scale, dy, out, ad.b, rank, 0, p->low2, rank);
	if (dx && RV_TRAIN_KEEPS(lora_into_x))
		gemm(p, 0, 0, rows, in, rank, 1, p->low2, rank, ad.a, in, 1, dx, in);
	if (!da)
		return;
	gemm(p, 0, 1, rows, rank, in, 1, x, in, ad.a, in, 0, p->low, rank);
	gemm(p, 1, 0, out, rank, rows, scale, dy, out, p->low, rank, 1, db, rank);
	gemm(p, 1, 0, rank, in, rows, 1, p->low2, rank, x, in, 1, da, in);
}

#include "learn/train_hold_body.h"

/* A projection with its bias. */
static void project(rv_pass *p, rv_role role, rv_role bias_role, int64_t layer, rv_real *y,
                    const rv_real *x, int64_t rows, int64_t n) {
	linear(p, role, layer, y, x, rows, 0);
	const rv_real *bias = rv_pass_weight(p, bias_role, layer, RV_PART_WEIGHT);
	if (bias)
		p->ops->add_bias(y, bias, rows, n);
}

static void project_back(rv_pass *p, rv_role role, rv_role bias_role, int64_t layer, rv_real *dx,
                         const rv_real *dy, const rv_real *x, int64_t rows, int64_t n, int accumulate) {
	linear_back(p, role, layer, dx, dy, x, rows, accumulate);
	rv_real *bias = rv_pass_gradient(p, bias_role, layer, RV_PART_WEIGHT);
	if (bias && RV_TRAIN_KEEPS(bias))
		p->ops->sum_rows(bias, dy, rows, n);
}

/* ---- layers ---- */

static void layer_forward(rv_pass *p, int64_t l, rv_real *x_next, const rv_piece *piece) {
	const rv_hparams *hp = &p->layout->hp;
	rv_layer_state *s = &p->layers[l];
	const int64_t rows = piece->n_seqs * piece->n_tokens, n_e = hp->n_embd;
	const int64_t n_q = hp->n_heads * hp->head_dim, n_kv = hp->n_kv_heads * hp->head_dim;
	const rv_real eps = (rv_real)hp->rms_eps;
	p->ops->norm(s->h1, s->inv1, s->x, rv_pass_weight(p, RV_ATTN_NORM, l, RV_PART_WEIGHT), rows,
	             n_e, eps);
	project(p, RV_ATTN_Q, RV_ATTN_Q_BIAS, l, p->proj_q, s->h1, rows, n_q);
	project(p, RV_ATTN_K, RV_ATTN_K_BIAS, l, p->proj_kv, s->h1, rows, n_kv);
	project(p, RV_ATTN_V, RV_ATTN_V_BIAS, l, s->v, s->h1, rows, n_kv);
	rv_pass_attention(p, s, piece);
	memcpy(s->mid, s->x, (size_t)(rows * n_e) * sizeof *s->x);
	linear(p, RV_ATTN_OUT, l, s->mid, s->a, rows, 1);
	p->ops->norm(s->h2, s->inv2, s->mid, rv_pass_weight(p, RV_FFN_NORM, l, RV_PART_WEIGHT), rows,
	             n_e, eps);
	linear(p, RV_FFN_GATE, l, s->gate, s->h2, rows, 0);
	linear(p, RV_FFN_UP, l, s->up, s->h2, rows, 0);
	p->ops->swiglu(s->act, s->gate, s->up, rows * hp->n_ff);
	if (!x_next)
		return;
	memcpy(x_next, s->mid, (size_t)(rows * n_e) * sizeof *x_next);
	linear(p, RV_FFN_DOWN, l, x_next, s->act, rows, 1);
}

/* dx: the derivative by what leaves the layer becomes that by what enters it; in the last layer of the
 * way back no product is made for what nobody wants. */
static void layer_back(rv_pass *p, int64_t l, const rv_piece *piece) {
	const rv_hparams *hp = &p->layout->hp;
	rv_layer_state *s = &p->layers[l];
	const int64_t rows = piece->n_seqs * piece->n_tokens, n_e = hp->n_embd;
	const int64_t n_q = hp->n_heads * hp->head_dim, n_kv = hp->n_kv_heads * hp->head_dim;
	const rv_role last = l == p->layout->last_layer ? p->layout->last_role : RV_TOKEN_EMBD;
	linear_back(p, RV_FFN_DOWN, l, last < RV_FFN_DOWN ? p->wide : NULL, p->dx, s->act, rows, 0);
	if (last >= RV_FFN_DOWN)
		return;
	p->ops->swiglu_back(s->gate, s->up, p->wide, rows * hp->n_ff);
	rv_real *dh = last < RV_FFN_GATE ? p->dh : NULL;
	linear_back(p, RV_FFN_GATE, l, dh, s->gate, s->h2, rows, 0);
	linear_back(p, RV_FFN_UP, l, dh, s->up, s->h2, rows, 1);
	if (!dh)
		return;
	p->ops->norm_back(p->dx, rv_pass_gradient(p, RV_FFN_NORM, l, RV_PART_WEIGHT), p->dh, s->mid,
	                  s->inv2, rv_pass_weight(p, RV_FFN_NORM, l, RV_PART_WEIGHT), rows, n_e);
	linear_back(p, RV_ATTN_OUT, l, last < RV_ATTN_OUT ? p->wide : NULL, p->dx, s->a, rows, 0);
	if (last >= RV_ATTN_OUT)
		return;
	rv_pass_attention_back(p, s, piece);
	dh = last < RV_ATTN_Q ? p->dh : NULL;
	project_back(p, RV_ATTN_Q, RV_ATTN_Q_BIAS, l, dh, p->proj_q, s->h1, rows, n_q, 0);
	project_back(p, RV_ATTN_K, RV_ATTN_K_BIAS, l, dh, p->proj_kv, s->h1, rows, n_kv, 1);
	project_back(p, RV_ATTN_V, RV_ATTN_V_BIAS, l, dh, p->dv, s->h1, rows, n_kv, 1);
	if (dh)
		p->ops->norm_back(p->dx, rv_pass_gradient(p, RV_ATTN_NORM, l, RV_PART_WEIGHT), p->dh,
		                  s->x, s->inv1, rv_pass_weight(p, RV_ATTN_NORM, l, RV_PART_WEIGHT),
		                  rows, n_e);
}

static void embed(rv_pass *p, const rv_piece *piece) {
	const int64_t n_e = p->layout->hp.n_embd;
	const rv_real *table = rv_pass_weight(p, RV_TOKEN_EMBD, -1, RV_PART_WEIGHT);
	for (int64_t s = 0; s < piece->n_seqs; s++) {
		const int32_t *tokens = piece->tokens + s * piece->stride;
		int32_t start = 0;
		for (int64_t t = 0; t < piece->n_tokens; t++) {
			int64_t row = s * piece->n_tokens + t;
			memcpy(p->layers[0].x + row * n_e, table + tokens[t] * n_e,
			       (size_t)n_e * sizeof *table);
			p->start[row] = start;
			if (tokens[t] == piece->segment_token)
				start = (int32_t)t + 1;
		}
	}
}

static void embed_back(rv_pass *p, const rv_piece *piece) {
	const int64_t n_e = p->layout->hp.n_embd;
	rv_real *table = rv_pass_gradient(p, RV_TOKEN_EMBD, -1, RV_PART_WEIGHT);
	if (!table || !RV_TRAIN_KEEPS(embedding))
		return;
	for (int64_t s = 0; s < piece->n_seqs; s++)
		for (int64_t t = 0; t < piece->n_tokens; t++)
			p->ops->add(table + piece->tokens[s * piece->stride + t] * n_e,
			            p->dx + (s * piece->n_tokens + t) * n_e, n_e);
}

static rv_real *leaves(const rv_pass *p, int64_t l) {
	return l + 1 < p->layout->hp.n_layers ? p->layers[l + 1].x : p->x_last;
}

void rv_pass_forward(rv_pass *p, const rv_piece *piece) {
	const rv_hparams *hp = &p->layout->hp;
	embed(p, piece);
	for (int64_t l = 0; l < hp->n_layers; l++)
		layer_forward(p, l, leaves(p, l), piece);
	p->ops->norm(p->h_last, p->inv_last, p->x_last,
	             rv_pass_weight(p, RV_OUTPUT_NORM, -1, RV_PART_WEIGHT),
	             piece->n_seqs * piece->n_tokens, hp->n_embd, (rv_real)hp->rms_eps);
}

/* From dh, the derivative by h_last, to the gradient of all that comes before. */
static void walk_back(rv_pass *p, const rv_piece *piece) {
	const rv_hparams *hp = &p->layout->hp;
	const int64_t rows = piece->n_seqs * piece->n_tokens;
	memset(p->dx, 0, (size_t)(rows * hp->n_embd) * sizeof *p->dx);
	p->ops->norm_back(p->dx, rv_pass_gradient(p, RV_OUTPUT_NORM, -1, RV_PART_WEIGHT), p->dh,
	                  p->x_last, p->inv_last, rv_pass_weight(p, RV_OUTPUT_NORM, -1, RV_PART_WEIGHT),
	                  rows, hp->n_embd);
	for (int64_t l = hp->n_layers - 1; l >= p->layout->last_layer; l--) {
		if (p->o.recompute && l < hp->n_layers - 1)
			layer_forward(p, l, NULL, piece);
		layer_back(p, l, piece);
	}
	embed_back(p, piece);
}

rv_loss_sum rv_pass_loss(rv_pass *p, const rv_piece *piece) {
	rv_loss_sum sum = output_loss(p, piece);
	if (p->gradient && isfinite(sum.cross_entropy + sum.kl))
		walk_back(p, piece);
	return sum;
}

/* ---- pooled hidden states ---- */

void rv_pass_pool(rv_pass *p, const rv_piece *piece, const rv_pooling *pooling) {
	const int64_t rows = piece->n_seqs * piece->n_tokens, n_e = p->layout->hp.n_embd;
	for (int64_t row = 0; row < rows; row++) {
		const int64_t text = pooling->text[row];
		if (text < 0)
			continue;
		rv_real *mean = pooling->mean + text * n_e;
		const rv_real *h = p->h_last + row * n_e, scale = pooling->scale[text];
		for (int64_t i = 0; i < n_e; i++)
			mean[i] += scale * h[i];
	}
}

void rv_pass_pool_back(rv_pass *p, const rv_piece *piece, const rv_pooling *pooling) {
	const int64_t rows = piece->n_seqs * piece->n_tokens, n_e = p->layout->hp.n_embd;
	memset(p->dh, 0, (size_t)(rows * n_e) * sizeof *p->dh);
	for (int64_t row = 0; row < rows; row++) {
		const int64_t text = pooling->text[row];
		if (text < 0)
			continue;
		rv_real *dh = p->dh + row * n_e;
		const rv_real *g = pooling->gradient + text * n_e;
		const rv_real scale = RV_TRAIN_KEEPS(pool_scale) ? pooling->scale[text] : 1;
		for (int64_t i = 0; i < n_e; i++)
			dh[i] = scale * g[i];
	}
	walk_back(p, piece);
}
