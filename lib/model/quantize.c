/* Rewriting a model file in other types, slice by slice. */
#include "model/quantize.h"

#include "base/mem.h"
#include "model/gguf_set.h"
#include "model/quant_rules.h"

#include <math.h>
#include <string.h>

#define SLICE_BYTES ((size_t)8 << 20) /* of the output written at once */
#define GRAIN_ELEMS 16384             /* work handed to a thread: at least a row */

/* ---- values ---- */

#define INF_BITS 0x7f800000u
/* From 65520 on a value rounds to infinity in F16, and so may the scale of a block that holds it. */
#define F16_LIMIT_BITS 0x477ff000u

static uint32_t magnitude_bits(float x) {
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	return u & 0x7fffffffu;
}

static uint32_t largest_magnitude(const float *x, int64_t n) {
	uint32_t most = 0;
	for (int64_t i = 0; i < n; i++) {
		uint32_t u = magnitude_bits(x[i]);
		most = u > most ? u : most;
	}
	return most;
}

/* One tensor's slice, as its workers see it. */
typedef struct quant_slice {
	const rv_gguf *in;
	const rv_quant_tensor_plan *plan;
	rv_dequantize_fn *decode;
	rv_quantize_fn *encode;  /* NULL: same type, copied */
	const uint8_t *src;      /* row 0 of the tensor */
	size_t src_row, dst_row; /* bytes */
	int64_t first;           /* row of the tensor at dst */
	uint8_t *dst;
	float *scratch; /* one row a thread */
	size_t scratch_stride;
} quant_slice;

static rv_status check_row(const quant_slice *s, const float *x, int64_t row) {
	int wide = s->plan->to == RV_F32 || s->plan->to == RV_BF16 || !s->encode;
	uint32_t limit = wide ? INF_BITS : F16_LIMIT_BITS;
	if (largest_magnitude(x, s->plan->cols) < limit)
		return RV_OK;
	int64_t i = 0;
	while (magnitude_bits(x[i]) < limit)
		i++;
	const char *path = rv_gguf_tensor_path(s->in, rv_gguf_find_tensor(s->in, s->plan->name));
	if (!isfinite(x[i]))
		return rv_fail(RV_ERR_NUMERIC, "%s: tensor '%s' row %lld element %lld is not finite",
		               path, s->plan->name, (long long)row, (long long)i);
	return rv_fail(RV_ERR_NUMERIC, "%s: tensor '%s' row %lld element %lld: %g is too large for %s",
	               path, s->plan->name, (long long)row, (long long)i, (double)x[i],
	               rv_type_get((int)s->plan->to)->name);
}

static rv_status quantize_rows(void *arg, int64_t begin, int64_t end, int thread) {
	const quant_slice *s = arg;
	float *x = s->scratch + (size_t)thread * s->scratch_stride;
	for (int64_t i = begin; i < end; i++) {
		int64_t row = s->first + i;
		const uint8_t *src = s->src + (size_t)row * s->src_row;
		uint8_t *dst = s->dst + (size_t)i * s->dst_row;
		s->decode(x, src, s->plan->cols);
		RV_TRY(check_row(s, x, row));
		if (s->encode)
			s->encode(dst, x, NULL, s->plan->cols);
		else
			memcpy(dst, src, s->dst_row);
	}
	return RV_OK;
}

/* ---- the file ---- */

typedef struct quant_run {
	const rv_quant_options *options;
	const rv_gguf *in;
	const rv_quant_plan *plan;
	rv_gguf_writer *out;
	uint8_t *slice; /* output rows of one slice */
	float *scratch;
	size_t scratch_stride;
	size_t done_bytes; /* of the source */
} quant_run;

static size_t row_bytes(rv_type type, int64_t cols) {
	return rv_type_row_bytes(rv_type_get((int)type), cols);
}

static rv_status allocate(quant_run *run) {
	int64_t cols = 1;
	size_t widest = 1;
	for (size_t i = 0; i < run->plan->n_tensors; i++) {
		const rv_quant_tensor_plan *t = &run->plan->tensors[i];
		size_t row = row_bytes(t->to, t->cols);
		cols = t->cols > cols ? t->cols : cols;
		widest = row > widest ? row : widest;
	}
	size_t threads = run->options->threads ? (size_t)rv_threads_count(run->options->threads) : 1;
	run->scratch_stride = ((size_t)cols + 15) & ~(size_t)15;
	RV_TRY(rv_alloc_uninit((void **)&run->scratch, threads, run->scratch_stride * sizeof(float),
	                       "rows to quantize"));
	size_t slice = widest > SLICE_BYTES ? widest : SLICE_BYTES;
	return rv_alloc_uninit((void **)&run->slice, slice, 1, "quantized rows");
}

/* After each slice, on the caller's thread. */
static rv_status report(quant_run *run, const rv_quant_tensor_plan *t, size_t bytes) {
	const rv_quant_options *o = run->options;
	run->done_bytes += bytes;
	if (o->progress) {
		double all = (double)(run->plan->from_bytes ? run->plan->from_bytes : 1);
		o->progress(o->user, (double)run->done_bytes / all, t->name);
	}
	if (o->cancelled && o->cancelled(o->user))
		return rv_fail(RV_ERR_CANCELLED, "%s: cancelled at tensor '%s'", rv_gguf_path(run->in),
		               t->name);
	return RV_OK;
}

static rv_status quantize_tensor(quant_run *run, const rv_quant_tensor_plan *t, const uint8_t *data) {
	/* Encoders give the same bits at every level. */
	const rv_kernels *k = rv_kernels_for(rv_level_best());
	quant_slice s = {
	        .in = run->in,
	        .plan = t,
	        .decode = k->type[t->from].dequantize,
	        .encode = t->from == t->to ? NULL : k->type[t->to].quantize,
	        .src = data,
	        .src_row = row_bytes(t->from, t->cols),
	        .dst_row = row_bytes(t->to, t->cols),
	        .dst = run->slice,
	        .scratch = run->scratch,
	        .scratch_stride = run->scratch_stride,
	};
	int64_t per_slice = s.dst_row < SLICE_BYTES ? (int64_t)(SLICE_BYTES / s.dst_row) : 1;
	int64_t grain = t->cols < GRAIN_ELEMS ? GRAIN_ELEMS / t->cols : 1;
	for (; s.first < t->rows; s.first += per_slice) {
		int64_t n = t->rows - s.first < per_slice ? t->rows - s.first : per_slice;
		if (run->options->threads)
			RV_TRY(rv_threads_for(run->options->threads, n, grain, quantize_rows, &s));
		else
			RV_TRY(quantize_rows(&s, 0, n, 0));
		RV_TRY(rv_gguf_write_data(run->out, s.dst, (size_t)n * s.dst_row));
		RV_TRY(report(run, t, (size_t)n * s.src_row));
	}
	return RV_OK;
}

/* Keys that describe the container or the types of the source, not the model. */
static const char *const replaced_keys[] = {
        "general.file_type", "general.quantization_version", "general.alignment", "split.no",
        "split.count",       "split.tensors.count",          RV_QUANT_TARGET_KEY,
};

static int is_replaced(const rv_str *key) {
	for (size_t i = 0; i < sizeof replaced_keys / sizeof replaced_keys[0]; i++)
		if (strlen(replaced_keys[i]) == key->len &&
		    memcmp(replaced_keys[i], key->data, key->len) == 0)
			return 1;
	return 0;
}

rv_status rv_quant_write_type(rv_gguf_writer *w, const rv_quant_target *target) {
	RV_TRY(rv_gguf_write_u32(w, "general.quantization_version", 2));
	if (target->file_type >= 0)
		return rv_gguf_write_u32(w, "general.file_type", (uint32_t)target->file_type);
	return rv_gguf_write_string(w, RV_QUANT_TARGET_KEY, target->name);
}

static rv_status write_header(const quant_run *run) {
	for (size_t i = 0; i < rv_gguf_n_kv(run->in); i++) {
		const rv_gguf_kv *kv = rv_gguf_kv_at(run->in, i);
		if (!is_replaced(&kv->key))
			RV_TRY(rv_gguf_write_kv(run->out, kv));
	}
	RV_TRY(rv_quant_write_type(run->out, run->options->target));
	for (size_t i = 0; i < run->plan->n_tensors; i++) {
		const rv_quant_tensor_plan *t = &run->plan->tensors[i];
		const rv_gguf_tensor *in = rv_gguf_tensor_at(run->in, i);
		RV_TRY(rv_gguf_declare(run->out, t->name, t->to, in->n_dims, in->dims));
	}
	return RV_OK;
}

static rv_status write_tensors(quant_run *run) {
	for (size_t i = 0; i < run->plan->n_tensors; i++)
		RV_TRY(quantize_tensor(run, &run->plan->tensors[i],
		                       rv_gguf_tensor_at(run->in, i)->data));
	/* A source that changed under the map would have given a mixture of two files. */
	return rv_gguf_check(run->in);
}

static void warn(const rv_quant_options *o, const rv_gguf *in, const rv_quant_plan *plan) {
	const rv_quant_tensor_plan *first = NULL;
	size_t n = 0;
	for (size_t i = 0; i < plan->n_tensors; i++) {
		const rv_quant_tensor_plan *t = &plan->tensors[i];
		if (t->from == t->to || rv_type_get((int)t->from)->block_elems == 1)
			continue;
		first = first ? first : t;
		n++;
	}
	if (n)
		rv_logf(o->log, RV_LOG_WARN,
		        "%s: requantizing %zu tensors that are quantized already (first: '%s', %s): "
		        "their errors add up, quantize from F16 or F32 instead",
		        rv_gguf_path(in), n, first->name, rv_type_get((int)first->from)->name);
	for (int i = 0; i < o->n_overrides; i++) {
		int used = 0;
		for (size_t j = 0; j < plan->n_tensors && !used; j++)
			used = rv_quant_override_matches(&o->overrides[i], plan->tensors[j].name);
		if (!used)
			rv_logf(o->log, RV_LOG_WARN, "%s: override '%s' matches no tensor",
			        rv_gguf_path(in), o->overrides[i].pattern);
	}
}

static rv_status quantize_to(const rv_gguf *in, const char *out, const rv_quant_options *options,
                             const rv_quant_plan *plan) {
	quant_run run = {.options = options, .in = in, .plan = plan};
	rv_status st = allocate(&run);
	if (st == RV_OK)
		st = rv_gguf_writer_open(&run.out, out);
	if (st == RV_OK)
		st = write_header(&run);
	if (st == RV_OK)
		st = write_tensors(&run);
	if (st == RV_OK)
		st = rv_gguf_writer_commit(run.out);
	else
		rv_gguf_writer_abort(run.out);
	rv_free(run.slice);
	rv_free(run.scratch);
	return st;
}

static rv_status check_output(const rv_gguf *in, const char *out) {
	for (size_t i = 1; i < rv_gguf_n_pieces(in); i++)
		if (rv_file_same(rv_gguf_piece_path(in, i), out))
			return rv_fail(RV_ERR_INVALID, "%s: the output is a piece of the input", out);
	return RV_OK;
}

static rv_status quantize_set(const rv_gguf *in, const char *out, const rv_quant_options *options,
                              rv_quant_plan *plan_out) {
	rv_quant_plan plan;
	RV_TRY(rv_quant_plan_file(&plan, in, options));
	warn(options, in, &plan);
	rv_status st = quantize_to(in, out, options, &plan);
	if (st == RV_OK && plan_out)
		*plan_out = plan;
	else
		rv_quant_plan_free(&plan);
	return st;
}

rv_status rv_quantize_file(const char *in, const char *out, const rv_quant_options *options,
                           rv_quant_plan *plan_out) {
	if (rv_file_same(in, out))
		return rv_fail(RV_ERR_INVALID, "%s: input and output are the same file", out);
	rv_gguf *gguf;
	RV_TRY(rv_gguf_open_set(&gguf, in));
	rv_status st = check_output(gguf, out);
	if (st == RV_OK)
		st = quantize_set(gguf, out, options, plan_out);
	rv_gguf_close(gguf);
	return st;
}
