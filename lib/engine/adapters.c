/* What adapters add to a product, on the CPU. Rows of a batch may have different adapters: rows of one
 * version that stand side by side are computed together, to the bits of each alone. */
#include "engine/backend_cpu.h"

static const rv_adapter_set *set_of(const rv_deltas *d, int64_t row) {
	return d->of_seq[d->rows[row].seq];
}

/* Rows from `begin` on that use the same set. */
static int64_t run_of_rows(const rv_deltas *d, int64_t begin, int64_t end) {
	int64_t i = begin + 1;
	while (i < end && set_of(d, i) == set_of(d, begin))
		i++;
	return i;
}

static float *low_row(const rv_deltas *d, int product, int64_t row) {
	return d->low + ((int64_t)product * d->n_batch + row) * d->width;
}

/* ---- scale A x ---- */

typedef struct low_job {
	const rv_cpu *c;
	const rv_product *products;
	int n_products;
	rv_tensor x;
	const rv_deltas *deltas;
} low_job;

/* Of rows [begin, end), which share a set, for one product. */
static void low_rows(const low_job *j, int product, int64_t begin, int64_t end) {
	const rv_deltas *d = j->deltas;
	const rv_adapter_set *set = set_of(d, begin);
	const rv_product *p = &j->products[product];
	float *low = low_row(d, product, begin);
	for (int u = 0; u < set->n; u++) {
		const rv_adapter_part *part = rv_adapter_find(set->uses[u].adapter, p->role, p->layer);
		if (!part)
			continue;
		j->c->k->type[part->a.type].matmul_float(
		        low, d->width, part->a.data, part->a.row_bytes, rv_tensor_row(j->x, begin),
		        (size_t)j->x.cols * sizeof(float), part->a.cols, part->a.rows, end - begin);
		const float scale = (float)(set->uses[u].scale * (double)part->scale);
		for (int64_t i = 0; i < end - begin; i++)
			for (int64_t r = 0; r < part->a.rows; r++)
				low[i * d->width + r] *= scale;
		low += rv_deltas_round(part->a.rows);
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

/* ---- y += B of it ---- */

enum { TILE_ROWS = 128, TILE_TOKENS = 16 };

/* For one tile of rows of y and of tokens. */
static void add_tile(const rv_cpu *c, const rv_product *p, const rv_adapter_part *part,
                     const float *low, int64_t width, int64_t first, int64_t n_rows, int64_t token,
                     int64_t n_tokens) {
	float sum[TILE_ROWS * TILE_TOKENS];
	c->k->gemm(sum, n_rows, low, width, part->b_columns + first, part->b.rows, n_tokens, n_rows,
	           part->b.cols);
	for (int64_t i = 0; i < n_tokens; i++)
		c->k->add(rv_tensor_row(p->y, token + i) + first, sum + i * n_rows, n_rows);
}

/* To rows [begin, end) of y, of tokens [t, next), which share a set. */
static void add_rows(const rv_cpu *c, const rv_product *products, int i, const rv_deltas *d,
                     int64_t begin, int64_t end, int64_t t, int64_t next) {
	const rv_product *p = &products[i];
	const rv_adapter_set *set = set_of(d, t);
	const float *low = low_row(d, i, t);
	for (int u = 0; u < set->n; u++) {
		const rv_adapter_part *part = rv_adapter_find(set->uses[u].adapter, p->role, p->layer);
		if (!part)
			continue;
		for (int64_t r = begin; r < end; r += TILE_ROWS)
			add_tile(c, p, part, low, d->width, r,
			         end - r < TILE_ROWS ? end - r : TILE_ROWS, t, next - t);
		low += rv_deltas_round(part->a.rows);
	}
}

void rv_cpu_add_deltas(const rv_cpu *c, const rv_product *products, int i, const rv_deltas *d,
                       int64_t begin, int64_t end) {
	const int64_t n = products[i].y.rows;
	for (int64_t t = 0, next; t < n; t = next) {
		next = run_of_rows(d, t, n < t + TILE_TOKENS ? n : t + TILE_TOKENS);
		add_rows(c, products, i, d, begin, end, t, next);
	}
}

/* ---- both, token by token ---- */

static rv_status delta_chunk(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const low_job *j = arg;
	for (int64_t t = begin, next; t < end; t = next) {
		next = run_of_rows(j->deltas, t, end < t + TILE_TOKENS ? end : t + TILE_TOKENS);
		for (int p = 0; p < j->n_products; p++) {
			low_rows(j, p, t, next);
			add_rows(j->c, j->products, p, j->deltas, 0, j->products[p].y.cols, t, next);
		}
	}
	return RV_OK;
}

rv_status rv_cpu_deltas_by_token(const rv_cpu *c, const rv_product *products, int n_products,
                                 rv_tensor x, const rv_deltas *deltas) {
	low_job job = {c, products, n_products, x, deltas};
	int64_t grain = x.rows / (4 * rv_threads_count(c->threads));
	grain = grain < 1 ? 1 : grain > TILE_TOKENS ? TILE_TOKENS : grain;
	return rv_threads_for(c->threads, x.rows, grain, delta_chunk, &job);
}
