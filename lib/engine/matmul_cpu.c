/* Matrix products on the CPU: y = W x (+ bias) for several W that share x.
 *
 * Rows of all products form one range that threads take in chunks; within a chunk tokens go in tiles so
 * that their rounded activations stay in the L2 cache. Neither changes an output's order of summation
 * (kernels.h), so results do not depend on the cut. */
#include "engine/backend_cpu.h"
#include "engine/blas.h"

#define TILE_BYTES (192 * 1024) /* of activations a tile of tokens may take */
#define ALONE_BYTES (80 * 1024) /* of weights times tokens: less work than handing it to threads */
#define BLAS_ROWS 128           /* weight rows decoded at a time for SGEMM */

typedef struct matmul_job {
	rv_cpu *c;
	const rv_product *products;
	int n_products;
	rv_tensor x;
	const rv_deltas *deltas;       /* NULL: none */
	const char *act[RV_ACT_COUNT]; /* rounded x by format */
	size_t act_stride[RV_ACT_COUNT];
} matmul_job;

size_t rv_cpu_matmul_scratch(const rv_cpu_options *o) {
	return o->kind == RV_BACKEND_BLAS ? (size_t)BLAS_ROWS * (size_t)o->max_k * sizeof(float) : 0;
}

/* ---- rounding activations ---- */

typedef struct round_job {
	rv_quantize_act_fn *fn;
	char *dst;
	size_t stride;
	rv_tensor x;
} round_job;

static rv_status round_rows(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const round_job *j = arg;
	for (int64_t i = begin; i < end; i++)
		j->fn(j->dst + (size_t)i * j->stride, rv_tensor_row(j->x, i), j->x.cols);
	return RV_OK;
}

static rv_status round_activations(matmul_job *j) {
	j->act[RV_ACT_F32] = (const char *)rv_tensor_f32(j->x);
	j->act_stride[RV_ACT_F32] = (size_t)j->x.cols * sizeof(float);
	if (j->c->options.kind != RV_BACKEND_SIMD)
		return RV_OK;
	for (int p = 0; p < j->n_products; p++) {
		rv_act act = rv_type_get((int)j->products[p].w->type)->act;
		if (j->act[act])
			continue;
		round_job r = {j->c->k->quantize_act[act], j->c->act[act],
		               rv_act_row_bytes(act, j->x.cols), j->x};
		RV_TRY(rv_threads_for(j->c->threads, j->x.rows, 4, round_rows, &r));
		j->act[act] = r.dst;
		j->act_stride[act] = r.stride;
	}
	return RV_OK;
}

/* ---- rows [begin, end) of one product ---- */

static void rows_kernel(const matmul_job *j, const rv_product *p, int64_t begin, int64_t end) {
	int is_simd = j->c->options.kind == RV_BACKEND_SIMD;
	const rv_type_ops *ops = &j->c->k->type[p->w->type];
	rv_act act = is_simd ? rv_type_get((int)p->w->type)->act : RV_ACT_F32;
	rv_matmul_fn *fn = is_simd ? ops->matmul[p->w->layout] : ops->matmul_float;
	size_t stride = j->act_stride[act];
	const char *w = (const char *)p->w->data + (size_t)begin * p->w->row_bytes;
	int64_t tile = (int64_t)(TILE_BYTES / stride) & ~(int64_t)3;
	if (tile < 4)
		tile = 4;
	for (int64_t t = 0; t < j->x.rows; t += tile) {
		int64_t n = j->x.rows - t < tile ? j->x.rows - t : tile;
		fn(rv_tensor_row(p->y, t) + begin, p->y.cols, w, p->w->row_bytes,
		   j->act[act] + (size_t)t * stride, stride, p->w->cols, end - begin, n);
	}
}

static void rows_blas(const matmul_job *j, const rv_product *p, int64_t begin, int64_t end,
                      int thread) {
	float *decoded = (float *)(j->c->scratch + (size_t)thread * j->c->thread_bytes);
	int64_t k = p->w->cols;
	for (int64_t r = begin; r < end; r += BLAS_ROWS) {
		int64_t n = end - r < BLAS_ROWS ? end - r : BLAS_ROWS;
		for (int64_t i = 0; i < n; i++)
			j->c->k->type[p->w->type].dequantize(
			        decoded + i * k,
			        (const char *)p->w->data + (size_t)(r + i) * p->w->row_bytes, k);
		rv_blas_gemm(rv_tensor_f32(p->y) + r, p->y.cols, rv_tensor_f32(j->x), k, decoded, k, 1,
		             j->x.rows, n, k);
	}
}

static void add_bias(const rv_product *p, int64_t begin, int64_t end) {
	const float *bias = p->bias->data;
	for (int64_t t = 0; t < p->y.rows; t++) {
		float *y = rv_tensor_row(p->y, t);
		for (int64_t r = begin; r < end; r++)
			y[r] += bias[r];
	}
}

static rv_status matmul_rows(void *arg, int64_t begin, int64_t end, int thread) {
	const matmul_job *j = arg;
	int64_t first = 0; /* of the current product, in the joint range */
	for (int i = 0; i < j->n_products && first < end; i++) {
		const rv_product *p = &j->products[i];
		int64_t b = begin > first ? begin - first : 0;
		int64_t e = end - first < p->w->rows ? end - first : p->w->rows;
		first += p->w->rows;
		if (b >= e)
			continue;
		if (j->c->options.kind == RV_BACKEND_BLAS)
			rows_blas(j, p, b, e, thread);
		else
			rows_kernel(j, p, b, e);
		if (p->bias)
			add_bias(p, b, e);
		if (j->deltas)
			rv_cpu_add_deltas(j->c, j->products, i, j->deltas, b, e);
	}
	return RV_OK;
}

/* Chunks small enough to balance, large enough to stream: about 8 a thread, of 8..64 rows when one
 * token is computed (long runs of memory) and of 32 rows when many are (their weights stay in L1/L2).
 */
static int64_t row_grain(const matmul_job *j, int64_t rows, size_t bytes) {
	if (bytes * (size_t)j->x.rows < ALONE_BYTES)
		return rows;
	int64_t grain = rows / (8 * rv_threads_count(j->c->threads));
	int64_t most = j->c->options.kind == RV_BACKEND_BLAS ? BLAS_ROWS : j->x.rows == 1 ? 64 : 32;
	grain = grain < 8 ? 8 : grain > most ? most : grain;
	return (grain + 7) & ~(int64_t)7;
}

rv_status rv_cpu_matmul(rv_backend *be, const rv_product *products, int n_products, rv_tensor x,
                        const rv_deltas *deltas) {
	matmul_job job = {.c = (rv_cpu *)be, .products = products, .n_products = n_products, .x = x};
	const int by_token = deltas && x.rows >= RV_DELTAS_MANY;
	RV_TRY(round_activations(&job));
	if (deltas && !by_token) {
		job.deltas = deltas;
		RV_TRY(rv_cpu_low_rank(job.c, products, n_products, x, deltas));
	}
	int64_t rows = 0;
	size_t bytes = 0;
	for (int i = 0; i < n_products; i++) {
		rows += products[i].w->rows;
		bytes += (size_t)products[i].w->rows * products[i].w->row_bytes;
	}
	RV_TRY(rv_threads_for(job.c->threads, rows, row_grain(&job, rows, bytes), matmul_rows, &job));
	return by_token ? rv_cpu_deltas_by_token(job.c, products, n_products, x, deltas) : RV_OK;
}
