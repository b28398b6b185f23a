/* The forward pass of a decoder: no element is touched here, every step is an operation of the backend.
 */
#include "engine/context_internal.h"

#include <stdio.h>

static rv_tensor first_rows(rv_tensor t, int64_t n) {
	t.rows = n;
	return t;
}
static float *host(rv_tensor t) {
	return (float *)((char *)t.buffer->base + t.offset);
}
static rv_tensor rows_from(rv_tensor t, int64_t begin, int64_t n) {
	t.offset += (size_t)(begin * t.cols) * sizeof(float);
	t.rows = n;
	return t;
}

/* Products on the host, shown to the hooks one by one; that of the output head has no layer. */
static rv_status show(rv_context *ctx, const rv_product *products, int n_products, rv_tensor x,
                      const rv_row *rows) {
	const rv_hooks *hooks = &ctx->hooks;
	for (int i = 0; i < n_products; i++) {
		const rv_product *p = &products[i];
		if (!(hooks->roles & RV_ROLE_BIT(p->role)) ||
		    (hooks->layers && p->role != RV_OUTPUT && !hooks->layers[p->layer]))
			continue;
		const rv_site_view view = {
		        .role = p->role,
		        .layer = p->layer,
		        .rows = rows,
		        .n_rows = x.rows,
		        .n_input = x.cols,
		        .n_output = p->y.cols,
		        .input = host(x),
		        .output = host(p->y),
		        .residual = RV_ROLES_RESIDUAL & RV_ROLE_BIT(p->role) ? host(ctx->x) : NULL};
		RV_TRY(hooks->site(hooks->user, &view));
	}
	return RV_OK;
}

/* rows: those of x, for their adapters. */
static rv_status multiply(rv_context *ctx, const rv_product *products, int n_products, rv_tensor x,
                          const rv_row *rows) {
	rv_deltas deltas = ctx->deltas;
	deltas.rows = rows;
	RV_TRY(ctx->backend->ops->matmul(ctx->backend, products, n_products, x,
	                                 ctx->adapted ? &deltas : NULL));
	return ctx->hooks.site ? show(ctx, products, n_products, x, rows) : RV_OK;
}

static rv_status project(rv_context *ctx, rv_role role, int64_t layer, rv_tensor y, rv_tensor x,
                         const rv_row *rows) {
	rv_product p = {rv_model_weight(ctx->model, role, layer), NULL, y, role, layer};
	return multiply(ctx, &p, 1, x, rows);
}

static rv_status qkv(rv_context *ctx, int64_t layer, const rv_row *rows, int64_t n) {
	const rv_model *m = ctx->model;
	rv_product p[] = {
	        {rv_model_weight(m, RV_ATTN_Q, layer), rv_model_weight(m, RV_ATTN_Q_BIAS, layer),
	         first_rows(ctx->q, n), RV_ATTN_Q, layer},
	        {rv_model_weight(m, RV_ATTN_K, layer), rv_model_weight(m, RV_ATTN_K_BIAS, layer),
	         first_rows(ctx->k, n), RV_ATTN_K, layer},
	        {rv_model_weight(m, RV_ATTN_V, layer), rv_model_weight(m, RV_ATTN_V_BIAS, layer),
	         first_rows(ctx->v, n), RV_ATTN_V, layer},
	};
	return multiply(ctx, p, 3, first_rows(ctx->h, n), rows);
}

static rv_status feed_forward(rv_context *ctx, int64_t layer, const rv_row *rows, int64_t n) {
	const rv_backend_ops *op = ctx->backend->ops;
	rv_tensor gate = first_rows(ctx->gate, n), up = first_rows(ctx->up, n);
	rv_product p[] = {
	        {rv_model_weight(ctx->model, RV_FFN_GATE, layer), NULL, gate, RV_FFN_GATE, layer},
	        {rv_model_weight(ctx->model, RV_FFN_UP, layer), NULL, up, RV_FFN_UP, layer}};
	RV_TRY(multiply(ctx, p, 2, first_rows(ctx->h, n), rows));
	RV_TRY(op->swiglu(ctx->backend, gate, gate, up));
	return project(ctx, RV_FFN_DOWN, layer, first_rows(ctx->r, n), gate, rows);
}

/* After the last layer's keys and values are stored, only rows that asked for an output matter: the
 * others are left out from there on. Returns how many stay. */
static rv_status keep_output_rows(rv_context *ctx, const rv_row **rows, int64_t *n) {
	const rv_backend_ops *op = ctx->backend->ops;
	int64_t kept = 0;
	for (int64_t i = 0; i < *n; i++) {
		if (!(*rows)[i].flags)
			continue;
		ctx->out_index[kept] = i;
		ctx->out_rows[kept++] = (*rows)[i];
	}
	if (kept < *n) {
		RV_TRY(op->gather(ctx->backend, first_rows(ctx->x, kept), ctx->x, ctx->out_index));
		RV_TRY(op->gather(ctx->backend, first_rows(ctx->q, kept), ctx->q, ctx->out_index));
	}
	*rows = ctx->out_rows;
	*n = kept;
	return RV_OK;
}

static rv_status check_output(rv_context *ctx, rv_tensor t, const char *what, const rv_row *row) {
	char name[128];
	snprintf(name, sizeof name, "%s of sequence %d, position %d", what, row->seq, row->position);
	rv_status st = ctx->backend->ops->check(ctx->backend, t, name);
	return st == RV_OK ? st : rv_fail_in(st, rv_model_path(ctx->model));
}

/* Hidden states and logits of the `n` rows that asked, into their slots. */
static rv_status outputs(rv_context *ctx, const rv_row *rows, int64_t n, int64_t first) {
	int any_logits = 0;
	for (int64_t i = 0; i < n; i++)
		any_logits |= rows[i].flags & RV_ROW_LOGITS;
	rv_tensor hidden = rows_from(ctx->hidden, ctx->n_outputs, n),
	          logits = rows_from(ctx->logits, ctx->n_outputs, n);
	const rv_weight *norm = rv_model_weight(ctx->model, RV_OUTPUT_NORM, 0);
	float eps = (float)rv_model_hparams(ctx->model)->rms_eps;
	RV_TRY(ctx->backend->ops->add_norm(ctx->backend, hidden, first_rows(ctx->x, n),
	                                   first_rows(ctx->r, n), norm, eps));
	if (any_logits)
		RV_TRY(project(ctx, RV_OUTPUT, 0, logits, hidden, rows));
	for (int64_t i = 0; i < n; i++) {
		/* The residual too: the norm turns an infinity into zeros. */
		RV_TRY(check_output(ctx, rows_from(ctx->x, i, 1), "residual stream", &rows[i]));
		RV_TRY(check_output(ctx, rows_from(hidden, i, 1), "hidden state", &rows[i]));
		if (any_logits)
			RV_TRY(check_output(ctx, rows_from(logits, i, 1), "logits", &rows[i]));
		ctx->output_row[ctx->n_outputs + i] = first + ctx->out_index[i];
		ctx->output_flags[ctx->n_outputs + i] = rows[i].flags;
	}
	ctx->n_outputs += n;
	return RV_OK;
}

rv_status rv_forward(rv_context *ctx, const rv_row *rows, int64_t n, int64_t first) {
	const rv_backend_ops *op = ctx->backend->ops;
	const rv_model *m = ctx->model;
	const rv_hparams *hp = rv_model_hparams(m);
	const int neox = rv_model_arch(m)->rope_neox;
	float eps = (float)hp->rms_eps;
	for (int64_t i = 0; i < n; i++)
		ctx->ids[i] = rows[i].token;
	RV_TRY(op->embed(ctx->backend, first_rows(ctx->x, n), rv_model_weight(m, RV_TOKEN_EMBD, 0),
	                 ctx->ids));
	RV_TRY(op->rope_table(ctx->backend, first_rows(ctx->rope, n), rows, hp,
	                      rv_model_weight(m, RV_ROPE_FREQS, 0)));
	RV_TRY(op->norm(ctx->backend, first_rows(ctx->h, n), first_rows(ctx->x, n),
	                rv_model_weight(m, RV_ATTN_NORM, 0), eps));
	for (int64_t layer = 0; layer < hp->n_layers; layer++) {
		if (ctx->cancelled && ctx->cancelled(ctx->cancel_user))
			return rv_fail(RV_ERR_CANCELLED, "evaluation cancelled in layer %lld",
			               (long long)layer);
		RV_TRY(qkv(ctx, layer, rows, n));
		rv_status st = op->rope_store(ctx->backend, first_rows(ctx->q, n),
		                              first_rows(ctx->k, n), first_rows(ctx->v, n), ctx->rope,
		                              rv_model_weight(m, RV_ATTN_Q_NORM, layer),
		                              rv_model_weight(m, RV_ATTN_K_NORM, layer), hp, neox, rows,
		                              &ctx->kv_view, layer);
		if (st != RV_OK)
			return rv_fail_in(st, rv_model_path(m));
		if (layer == hp->n_layers - 1) {
			RV_TRY(keep_output_rows(ctx, &rows, &n));
			if (n == 0)
				return RV_OK;
		}
		rv_tensor x = first_rows(ctx->x, n), h = first_rows(ctx->h, n),
		          r = first_rows(ctx->r, n);
		rv_tensor a = first_rows(ctx->a, n);
		RV_TRY(op->attention(ctx->backend, a, first_rows(ctx->q, n), hp, rows, &ctx->kv_view,
		                     layer));
		RV_TRY(project(ctx, RV_ATTN_OUT, layer, r, a, rows));
		RV_TRY(op->add_norm(ctx->backend, h, x, r, rv_model_weight(m, RV_FFN_NORM, layer),
		                    eps));
		RV_TRY(feed_forward(ctx, layer, rows, n));
		if (layer + 1 < hp->n_layers)
			RV_TRY(op->add_norm(ctx->backend, h, x, r,
			                    rv_model_weight(m, RV_ATTN_NORM, layer + 1), eps));
	}
	return outputs(ctx, rows, n, first);
}
