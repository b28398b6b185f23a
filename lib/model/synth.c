/* Random weights at memory speed.
 *
 * Rows of a matrix are strings of blocks drawn from a pool that the type's own quantizer made from
 * Gaussian values, so codes and scales are those of quantized Gaussian rows. Where a row is so short
 * that two could come out equal, every row is quantized for itself. Each row has its own random stream:
 * the file depends on the seed and the shape, not on threads. */
#include "model/synth.h"

#include "base/mem.h"
#include "base/rng.h"
#include "model/quant_rules.h"
#include "model/synth_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define POOL_BITS 10 /* an index into the pool */
#define POOL_UNITS (1 << POOL_BITS)
#define PLAIN_UNIT 64                   /* elements drawn at once for the types without blocks */
#define SLICE_BYTES ((size_t)16 << 20)  /* written at once */
#define GRAIN_BYTES ((size_t)256 << 10) /* of work handed to a thread */
#define STREAM_POOL ((uint64_t)1 << 63)

/* ---- what the weights are ---- */

typedef enum law_scale { SCALE_NONE, SCALE_INPUT, SCALE_RESIDUAL } law_scale;

/* x ~ mean + sd N(0, 1), sd divided by sqrt(row length), and by sqrt(2 n_layers) too for what is added
 * to the residual stream: activations are then of order one at every depth. The gain of the head is the
 * standard deviation of the logits, since the final norm gives rows of unit mean square. The layers'
 * gain outweighs the embedding in the stream: else the head of a tied model would answer every token
 * with itself. */
static const struct law {
	double mean, sd;
	law_scale scale;
} laws[RV_ROLE_COUNT] = {
        [RV_TOKEN_EMBD] = {0, 2, SCALE_INPUT},    [RV_ROPE_FREQS] = {1, 0, SCALE_NONE},
        [RV_ATTN_NORM] = {1, 0, SCALE_NONE},      [RV_ATTN_Q] = {0, 1, SCALE_INPUT},
        [RV_ATTN_K] = {0, 1, SCALE_INPUT},        [RV_ATTN_V] = {0, 1, SCALE_INPUT},
        [RV_ATTN_Q_BIAS] = {0, 0.02, SCALE_NONE}, [RV_ATTN_K_BIAS] = {0, 0.02, SCALE_NONE},
        [RV_ATTN_V_BIAS] = {0, 0.02, SCALE_NONE}, [RV_ATTN_Q_NORM] = {1, 0, SCALE_NONE},
        [RV_ATTN_K_NORM] = {1, 0, SCALE_NONE},    [RV_ATTN_OUT] = {0, 4, SCALE_RESIDUAL},
        [RV_FFN_NORM] = {1, 0, SCALE_NONE},       [RV_FFN_GATE] = {0, 1, SCALE_INPUT},
        [RV_FFN_UP] = {0, 1, SCALE_INPUT},        [RV_FFN_DOWN] = {0, 4, SCALE_RESIDUAL},
        [RV_OUTPUT_NORM] = {1, 0, SCALE_NONE},    [RV_OUTPUT] = {0, 2, SCALE_INPUT},
};

static double law_sd(rv_role role, int64_t cols, int64_t n_layers) {
	double sd = laws[role].sd;
	if (laws[role].scale != SCALE_NONE)
		sd /= sqrt((double)cols);
	if (laws[role].scale == SCALE_RESIDUAL)
		sd /= sqrt(2.0 * (double)n_layers);
	return sd;
}

static void fill_normal(float *x, int64_t n, double mean, double sd, rv_rng *rng) {
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)(sd > 0 ? mean + sd * rv_rng_normal(rng) : mean);
}

/* ---- one run ---- */

/* Blocks of one (role, type): POOL_UNITS units of `unit` elements. */
typedef struct pool {
	uint8_t *units;
	int64_t unit;
	size_t unit_bytes;
} pool;

typedef struct synth_run {
	const rv_synth_options *options;
	const rv_kernels *kernels;
	rv_quant_plan plan;
	rv_gguf_writer *out;
	uint8_t *slice;
	float *scratch; /* one row a thread */
	size_t scratch_stride;
	pool pools[RV_ROLE_COUNT][RV_TYPE_LIMIT]; /* made when first needed */
} synth_run;

/* A tensor, or a pool, as its workers see it. */
typedef struct synth_job {
	synth_run *run;
	rv_quantize_fn *encode;
	const pool *from; /* NULL: rows are quantized for themselves */
	double mean, sd;
	int64_t cols;
	size_t row_bytes;
	uint64_t stream; /* of row 0 */
	int64_t first;   /* row at dst */
	uint8_t *dst;
} synth_job;

static rv_status encode_rows(void *arg, int64_t begin, int64_t end, int thread) {
	const synth_job *j = arg;
	float *x = j->run->scratch + (size_t)thread * j->run->scratch_stride;
	for (int64_t i = begin; i < end; i++) {
		rv_rng rng;
		rv_rng_stream(&rng, j->run->options->seed, j->stream + (uint64_t)(j->first + i));
		fill_normal(x, j->cols, j->mean, j->sd, &rng);
		j->encode(j->dst + (size_t)i * j->row_bytes, x, NULL, j->cols);
	}
	return RV_OK;
}

static void draw_row(uint8_t *dst, size_t bytes, const pool *p, rv_rng *rng) {
	uint64_t bits = 0;
	int left = 0;
	while (bytes > 0) {
		if (left < POOL_BITS) {
			bits = rv_rng_u64(rng);
			left = 64;
		}
		size_t n = bytes < p->unit_bytes ? bytes : p->unit_bytes;
		memcpy(dst, p->units + (bits & (POOL_UNITS - 1)) * p->unit_bytes, n);
		bits >>= POOL_BITS;
		left -= POOL_BITS;
		dst += n;
		bytes -= n;
	}
}

static rv_status draw_rows(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	const synth_job *j = arg;
	for (int64_t i = begin; i < end; i++) {
		rv_rng rng;
		rv_rng_stream(&rng, j->run->options->seed, j->stream + (uint64_t)(j->first + i));
		draw_row(j->dst + (size_t)i * j->row_bytes, j->row_bytes, j->from, &rng);
	}
	return RV_OK;
}

static rv_status run_job(synth_job *j, int64_t n) {
	rv_work_fn *fn = j->from ? draw_rows : encode_rows;
	rv_threads *threads = j->run->options->threads;
	if (!threads)
		return fn(j, 0, n, 0);
	int64_t grain = j->row_bytes < GRAIN_BYTES ? (int64_t)(GRAIN_BYTES / j->row_bytes) : 1;
	return rv_threads_for(threads, n, j->from ? grain : grain / 16 + 1, fn, j);
}

/* ---- pools ---- */

/* Whether rows drawn from a pool are distinct but for a chance of 2^-40 (birthday bound). */
static int can_draw(int64_t rows, int64_t cols, int64_t unit) {
	double row_bits = (double)POOL_BITS * (double)(cols / unit);
	return row_bits >= 2 * log2((double)rows) + 40;
}

static rv_status get_pool(synth_run *run, rv_role role, const rv_type_info *type, double sd,
                          const pool **out) {
	pool *p = &run->pools[role][type->type];
	*out = p;
	if (p->units)
		return RV_OK;
	p->unit = type->block_elems > 1 ? type->block_elems : PLAIN_UNIT;
	p->unit_bytes = rv_type_row_bytes(type, p->unit);
	RV_TRY(rv_alloc_uninit((void **)&p->units, POOL_UNITS, p->unit_bytes, "pool of blocks"));
	synth_job j = {
	        .run = run,
	        .encode = run->kernels->type[type->type].quantize,
	        .mean = laws[role].mean,
	        .sd = sd,
	        .cols = p->unit,
	        .row_bytes = p->unit_bytes,
	        .stream = STREAM_POOL | (uint64_t)role << 48 | (uint64_t)type->type << 32,
	        .dst = p->units,
	};
	return run_job(&j, POOL_UNITS);
}

static void free_pools(synth_run *run) {
	for (int r = 0; r < RV_ROLE_COUNT; r++)
		for (int t = 0; t < RV_TYPE_LIMIT; t++)
			rv_free(run->pools[r][t].units);
}

/* ---- the file ---- */

static rv_status write_tensor(synth_run *run, size_t index) {
	const rv_quant_tensor_plan *t = &run->plan.tensors[index];
	const rv_synth_options *o = run->options;
	const rv_type_info *type = rv_type_get((int)t->to);
	int64_t layer;
	rv_role role = rv_arch_find_tensor(o->arch, t->name, &layer)->role;
	synth_job j = {
	        .run = run,
	        .encode = run->kernels->type[t->to].quantize,
	        .mean = laws[role].mean,
	        .sd = law_sd(role, t->cols, o->hp.n_layers),
	        .cols = t->cols,
	        .row_bytes = rv_type_row_bytes(type, t->cols),
	        .stream = (uint64_t)index << 32,
	        .dst = run->slice,
	};
	int64_t unit = type->block_elems > 1 ? type->block_elems : PLAIN_UNIT;
	if (t->rows > 1 && can_draw(t->rows, t->cols, unit))
		RV_TRY(get_pool(run, role, type, j.sd, &j.from));
	int64_t per_slice = j.row_bytes < SLICE_BYTES ? (int64_t)(SLICE_BYTES / j.row_bytes) : 1;
	for (; j.first < t->rows; j.first += per_slice) {
		int64_t n = t->rows - j.first < per_slice ? t->rows - j.first : per_slice;
		RV_TRY(run_job(&j, n));
		RV_TRY(rv_gguf_write_data(run->out, j.dst, (size_t)n * j.row_bytes));
	}
	return RV_OK;
}

static rv_status write_header(const synth_run *run) {
	const rv_synth_options *o = run->options;
	char name[128];
	snprintf(name, sizeof name, "synthetic %s %lldx%lld, random weights, seed %llu", o->arch->name,
	         (long long)o->hp.n_layers, (long long)o->hp.n_embd, (unsigned long long)o->seed);
	RV_TRY(rv_arch_write(run->out, o->arch, &o->hp));
	RV_TRY(rv_gguf_write_string(run->out, "general.name", name));
	RV_TRY(rv_gguf_write_u64(run->out, "ruvltra.synth.seed", o->seed));
	RV_TRY(rv_quant_write_type(run->out, o->target));
	RV_TRY(rv_synth_write_vocab(run->out, o->arch, o->hp.n_vocab));
	for (size_t i = 0; i < run->plan.n_tensors; i++) {
		const rv_quant_tensor_plan *t = &run->plan.tensors[i];
		int64_t dims[2] = {t->cols, t->rows}, layer;
		const rv_tensor_def *def = rv_arch_find_tensor(o->arch, t->name, &layer);
		int n_dims = def->flags & RV_TENSOR_VECTOR ? 1 : 2;
		RV_TRY(rv_gguf_declare(run->out, t->name, t->to, n_dims, dims));
	}
	return RV_OK;
}

/* The bounds within which a loader accepts a shape, and that keep products of two sizes small. */
static rv_status check_shape(const rv_hparams *hp) {
	const struct {
		const char *name;
		int64_t value, min, max;
	} fields[] = {
	        {"layers", hp->n_layers, 1, 4096},
	        {"hidden size", hp->n_embd, 2, 1 << 20},
	        {"heads", hp->n_heads, 1, 1 << 16},
	        {"key-value heads", hp->n_kv_heads, 1, hp->n_heads},
	        {"head dimension", hp->head_dim, 2, 1024},
	        {"feed-forward size", hp->n_ff, 1, 1 << 24},
	        {"vocabulary", hp->n_vocab, rv_synth_vocab_min(), RV_SYNTH_VOCAB_MAX},
	        {"context", hp->n_ctx_train, 1, 1 << 24},
	        {"rotated elements", hp->n_rot, 2, hp->head_dim},
	};
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
		if (fields[i].value < fields[i].min || fields[i].value > fields[i].max)
			return rv_fail(RV_ERR_INVALID, "synth: %s %lld is not in [%lld, %lld]",
			               fields[i].name, (long long)fields[i].value,
			               (long long)fields[i].min, (long long)fields[i].max);
	if (hp->n_heads % hp->n_kv_heads != 0 || hp->head_dim % 2 != 0 || hp->n_rot % 2 != 0)
		return rv_fail(RV_ERR_INVALID,
		               "synth: heads must be a multiple of key-value heads, head dimension and "
		               "rotated elements even");
	return RV_OK;
}

static rv_status allocate(synth_run *run) {
	int64_t cols = 256; /* a pool's unit */
	size_t widest = SLICE_BYTES;
	for (size_t i = 0; i < run->plan.n_tensors; i++) {
		const rv_quant_tensor_plan *t = &run->plan.tensors[i];
		size_t row = rv_type_row_bytes(rv_type_get((int)t->to), t->cols);
		cols = t->cols > cols ? t->cols : cols;
		widest = row > widest ? row : widest;
	}
	rv_threads *threads = run->options->threads;
	run->scratch_stride = ((size_t)cols + 15) & ~(size_t)15;
	RV_TRY(rv_alloc_uninit((void **)&run->scratch, threads ? (size_t)rv_threads_count(threads) : 1,
	                       run->scratch_stride * sizeof(float), "synthetic rows"));
	return rv_alloc_uninit((void **)&run->slice, widest, 1, "synthetic rows");
}

static rv_status write_file(synth_run *run, const char *out) {
	RV_TRY(allocate(run));
	RV_TRY(rv_gguf_writer_open(&run->out, out));
	rv_status st = write_header(run);
	for (size_t i = 0; st == RV_OK && i < run->plan.n_tensors; i++)
		st = write_tensor(run, i);
	if (st == RV_OK)
		return rv_gguf_writer_commit(run->out);
	rv_gguf_writer_abort(run->out);
	return st;
}

rv_status rv_synth_file(const char *out, const rv_synth_options *options) {
	rv_synth_options resolved = *options;
	if (!resolved.target)
		resolved.target = rv_quant_target_by_name("F16");
	RV_TRY(check_shape(&resolved.hp));
	synth_run *run;
	RV_TRY(RV_ALLOC(&run, 1, "synthesis"));
	run->options = &resolved;
	run->kernels = rv_kernels_for(rv_level_best());
	rv_quant_options quant = {.target = resolved.target};
	rv_status st = rv_quant_plan_shape(&run->plan, resolved.arch, &resolved.hp, &quant);
	if (st == RV_OK)
		st = write_file(run, out);
	if (st == RV_OK)
		rv_logf(resolved.log, RV_LOG_INFO, "%s: %lld parameters, %.3f bits a weight, %.3f GB",
		        out, (long long)run->plan.n_params, run->plan.bits_per_weight,
		        (double)run->plan.to_bytes * 1e-9);
	free_pools(run);
	rv_quant_plan_free(&run->plan);
	rv_free(run->scratch);
	rv_free(run->slice);
	rv_free(run);
	return st;
}
