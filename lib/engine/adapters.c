/* Sets of adapters of a context, and what they add to a product on the CPU. */
#include "base/mem.h"
#include "base/vm.h"
#include "engine/backend_cpu.h"
#include "engine/context_internal.h"

#include <math.h>
#include <string.h>

/* ---- sets ---- */

static int64_t round_rank(int64_t rank) {
	return (rank + 15) & ~(int64_t)15;
}

static int64_t set_width(const rv_adapter_set *set) {
	int64_t width = 0;
	for (int i = 0; i < set->n; i++)
		width += round_rank(rv_adapter_max_rank(set->uses[i].adapter));
	return width;
}

static size_t low_bytes(const rv_context *ctx, int64_t width) {
	return (size_t)RV_MAX_PRODUCTS * (size_t)ctx->options.n_batch * (size_t)width * sizeof(float);
}

static rv_status check_uses(const rv_context *ctx, int32_t set, const rv_adapter_use *uses, int n) {
	if (set < 0 || set >= RV_ADAPTER_SETS || n < 0 || n > RV_ADAPTER_SET_USES)
		return rv_fail(RV_ERR_INVALID, "set of adapters %d with %d: at most %d sets of %d", set,
		               n, RV_ADAPTER_SETS, RV_ADAPTER_SET_USES);
	for (int i = 0; i < n; i++) {
		if (!isfinite(uses[i].scale))
			return rv_fail(RV_ERR_INVALID, "%s: scale %g", rv_adapter_path(uses[i].adapter),
			               uses[i].scale);
		if (!rv_adapter_fits(uses[i].adapter, ctx->model))
			return rv_fail(RV_ERR_MISMATCH, "%s: made for another shape than %s",
			               rv_adapter_path(uses[i].adapter), rv_model_path(ctx->model));
	}
	for (int32_t s = 0; s < ctx->options.n_seqs; s++)
		if (ctx->length[s] > 0)
			return rv_fail(RV_ERR_INVALID,
			               "set of adapters %d cannot change: sequence %d holds tokens",
			               set, s);
	return RV_OK;
}

rv_status rv_context_set_adapters(rv_context *ctx, int32_t set, const rv_adapter_use *uses, int n) {
	RV_TRY(check_uses(ctx, set, uses, n));
	rv_adapter_set next = {.n = n};
	for (int i = 0; i < n; i++)
		next.uses[i] = uses[i];
	int64_t width = set_width(&next);
	for (int32_t s = 0; s < RV_ADAPTER_SETS; s++)
		if (s != set && set_width(&ctx->sets[s]) > width)
			width = set_width(&ctx->sets[s]);
	void *low = NULL;
	if (width > 0)
		RV_TRY(rv_vm_alloc(&low, low_bytes(ctx, width), "adapters"));
	for (int i = 0; i < n; i++)
		rv_adapter_retain(uses[i].adapter);
	for (int i = 0; i < ctx->sets[set].n; i++)
		rv_adapter_release(ctx->sets[set].uses[i].adapter);
	rv_vm_free(ctx->deltas.low, low_bytes(ctx, ctx->deltas.width));
	ctx->sets[set] = next;
	ctx->set_version[set] = n ? ++ctx->n_versions : 0;
	ctx->deltas = (rv_deltas){
	        .sets = ctx->sets, .low = low, .n_batch = ctx->options.n_batch, .width = width};
	return RV_OK;
}

uint64_t rv_context_adapter_version(const rv_context *ctx, int32_t set) {
	return set < 0 || set >= RV_ADAPTER_SETS ? 0 : ctx->set_version[set];
}

void rv_context_drop_adapters(rv_context *ctx) {
	for (int32_t s = 0; s < RV_ADAPTER_SETS; s++)
		for (int i = 0; i < ctx->sets[s].n; i++)
			rv_adapter_release(ctx->sets[s].uses[i].adapter);
	rv_vm_free(ctx->deltas.low, low_bytes(ctx, ctx->deltas.width));
}

/* ---- on the CPU ---- */

/* Rows from `begin` on that use the same set. */
static int64_t run_of_rows(const rv_deltas *d, int64_t begin, int64_t end) {
	int64_t i = begin + 1;
	while (i < end && d->rows[i].adapter == d->rows[begin].adapter)
		i++;
	return i;
}

static float *low_row(const rv_deltas *d, int product, int64_t row) {
	return d->low + ((int64_t)product * d->n_batch + row) * d->width;
}

typedef struct low_job {
	const rv_cpu *c;
	const rv_product *products;
	int n_products;
	rv_tensor x;
	const rv_deltas *deltas;
} low_job;

/* scale A x of rows [begin, end), which share a set, for one product. */
static void low_rows(const low_job *j, int product, int64_t begin, int64_t end) {
	const rv_deltas *d = j->deltas;
	const rv_adapter_set *set = &d->sets[d->rows[begin].adapter];
	const rv_product *p = &j->products[product];
	int64_t at = 0;
	for (int u = 0; u < set->n; u++) {
		const rv_adapter_part *part = rv_adapter_find(set->uses[u].adapter, p->role, p->layer);
		float *low = low_row(d, product, begin) + at;
		at += round_rank(rv_adapter_max_rank(set->uses[u].adapter));
		if (!part)
			continue;
		j->c->k->type[part->a.type].matmul_float(
		        low, d->width, part->a.data, part->a.row_bytes, rv_tensor_row(j->x, begin),
		        (size_t)j->x.cols * sizeof(float), part->a.cols, part->a.rows, end - begin);
		const float scale = (float)(set->uses[u].scale * (double)part->scale);
		for (int64_t i = 0; i < end - begin; i++)
			for (int64_t r = 0; r < part->a.rows; r++)
				low[i * d->width + r] *= scale;
	}
}

static rv_status low_chunk(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const low_job *j = arg;
	for (int64_t i = begin; i < end;) {
		int64_t next = run_of_rows(j->deltas, i, end);
		for (int p = 0; p < j->n_products; p++)
			low_rows(j, p, i, next);
		i = next;
	}
	return RV_OK;
}

rv_status rv_cpu_low_rank(const rv_cpu *c, const rv_product *products, int n_products, rv_tensor x,
                          const rv_deltas *deltas) {
	low_job job = {c, products, n_products, x, deltas};
	return rv_threads_for(c->threads, x.rows, 8, low_chunk, &job);
}

enum { TILE_ROWS = 128, TILE_TOKENS = 16 };

/* y += B low for one tile of rows of y and of tokens. */
static void add_tile(const rv_cpu *c, const rv_product *p, const rv_weight *b, const float *low,
                     int64_t width, int64_t first, int64_t n_rows, int64_t token, int64_t n_tokens) {
	float sum[TILE_ROWS * TILE_TOKENS];
	c->k->type[b->type].matmul_float(
	        sum, n_rows, (const char *)b->data + (size_t)first * b->row_bytes, b->row_bytes, low,
	        (size_t)width * sizeof(float), b->cols, n_rows, n_tokens);
	for (int64_t i = 0; i < n_tokens; i++) {
		float *y = rv_tensor_row(p->y, token + i) + first;
		for (int64_t r = 0; r < n_rows; r++)
			y[r] += sum[i * n_rows + r];
	}
}

void rv_cpu_add_deltas(const rv_cpu *c, const rv_product *products, int i, const rv_deltas *d,
                       int64_t begin, int64_t end) {
	const rv_product *p = &products[i];
	for (int64_t t = 0; t < p->y.rows;) {
		int64_t next = run_of_rows(d, t, p->y.rows);
		const rv_adapter_set *set = &d->sets[d->rows[t].adapter];
		if (set->n > 0 && next > t + TILE_TOKENS)
			next = t + TILE_TOKENS;
		int64_t at = 0;
		for (int u = 0; u < set->n; u++) {
			const rv_adapter_part *part =
			        rv_adapter_find(set->uses[u].adapter, p->role, p->layer);
			const float *low = low_row(d, i, t) + at;
			at += round_rank(rv_adapter_max_rank(set->uses[u].adapter));
			for (int64_t r = begin; part && r < end; r += TILE_ROWS)
				add_tile(c, p, &part->b, low, d->width, r,
				         end - r < TILE_ROWS ? end - r : TILE_ROWS, t, next - t);
		}
		t = next;
	}
}
