#include "engine/embed.h"

#include "base/mem.h"
#include "base/rng.h"
#include "engine/context.h"

#include <math.h>
#include <string.h>

#define SEQS 32       /* texts evaluated at once */
#define DIM_MAX 65536 /* numbers of a vector */
#define ROW_FLOATS 16 /* rows of floats begin at multiples of RV_ALIGN */

struct rv_embedder {
	rv_embedder_options options;
	rv_model *model;
	rv_context *ctx;
	rv_encoder *encoder; /* NULL: the model has no tokenizer */
	const rv_kernels *kernels;
	int64_t native, dim;
	float *map; /* [dim, native]; NULL: vectors are native */
	int64_t map_stride;
	int learned;

	/* the texts being gathered */
	rv_row *rows; /* [n_batch] */
	int64_t n_rows;
	int64_t end[SEQS]; /* rows of texts up to the i-th */
	int32_t n_texts;
	float *mean; /* [SEQS, mean_stride] */
	int64_t mean_stride;
	int64_t n_tokens; /* of the last call */
};

rv_embedder_options rv_embedder_defaults(void) {
	return (rv_embedder_options){.dim = RV_EMBED_DIM,
	                             .max_tokens = 512,
	                             .n_batch = 512,
	                             .level = RV_LEVEL_COUNT,
	                             .pin = 1};
}

static int64_t padded(int64_t n) {
	return (n + ROW_FLOATS - 1) / ROW_FLOATS * ROW_FLOATS;
}

/* ---- the map ---- */

/* Makes n vectors of `len` numbers (n <= len), `stride` apart, orthonormal (modified Gram-Schmidt). */
static void orthonormalise(float *x, int64_t n, int64_t len, int64_t stride) {
	for (int64_t i = 0; i < n; i++) {
		float *a = x + i * stride;
		double squares = 0;
		for (int64_t j = 0; j < len; j++)
			squares += (double)a[j] * (double)a[j];
		const float scale = (float)(1 / sqrt(squares));
		for (int64_t j = 0; j < len; j++)
			a[j] *= scale;
		for (int64_t k = i + 1; k < n; k++) {
			float *b = x + k * stride, dot = 0;
			for (int64_t j = 0; j < len; j++)
				dot += a[j] * b[j];
			for (int64_t j = 0; j < len; j++)
				b[j] -= dot * a[j];
		}
	}
}

/* Gaussian; to more dimensions with orthonormal columns. */
rv_status rv_embed_fixed_map(float *map, int64_t dim, int64_t native, int64_t stride, uint64_t seed) {
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	if (dim < native) {
		for (int64_t i = 0; i < dim; i++)
			for (int64_t j = 0; j < native; j++)
				map[i * stride + j] = (float)rv_rng_normal(&rng);
		return RV_OK;
	}
	float *columns;
	RV_TRY(RV_ALLOC(&columns, native * dim, "columns of a map"));
	for (int64_t i = 0; i < native * dim; i++)
		columns[i] = (float)rv_rng_normal(&rng);
	orthonormalise(columns, native, dim, dim);
	for (int64_t i = 0; i < dim; i++)
		for (int64_t j = 0; j < native; j++)
			map[i * stride + j] = columns[j * dim + i];
	rv_free(columns);
	return RV_OK;
}

/* The file's own map when it has one for this dimension: learned is set. */
static rv_status file_map(rv_embedder *e) {
	const rv_gguf *gguf = rv_model_gguf(e->model);
	int64_t dim;
	if (!rv_gguf_find(gguf, RV_EMBED_KEY_DIM))
		return RV_OK;
	RV_TRY(rv_gguf_int(gguf, RV_EMBED_KEY_DIM, 1, DIM_MAX, &dim));
	float *values;
	size_t n;
	RV_TRY(rv_gguf_floats(gguf, RV_EMBED_KEY_MAP, &values, &n));
	rv_status st = RV_OK;
	if (n != (size_t)(dim * e->native))
		st = rv_fail(RV_ERR_FORMAT, "%s: key '%s' has %zu numbers, not %lld x %lld",
		             rv_model_path(e->model), RV_EMBED_KEY_MAP, n, (long long)dim,
		             (long long)e->native);
	for (size_t i = 0; st == RV_OK && i < n; i++)
		if (!isfinite(values[i]))
			st = rv_fail(RV_ERR_NUMERIC, "%s: key '%s': number %zu is not finite",
			             rv_model_path(e->model), RV_EMBED_KEY_MAP, i);
	if (st == RV_OK && dim == e->dim) {
		for (int64_t i = 0; i < dim; i++)
			memcpy(e->map + i * e->map_stride, values + i * e->native,
			       (size_t)e->native * sizeof *values);
		e->learned = 1;
	}
	rv_free(values);
	return st;
}

static rv_status make_map(rv_embedder *e) {
	if (e->options.dim == 0)
		return RV_OK;
	e->map_stride = padded(e->native);
	RV_TRY(RV_ALLOC(&e->map, e->dim * e->map_stride, "map of embeddings"));
	RV_TRY(file_map(e));
	return e->learned
	               ? RV_OK
	               : rv_embed_fixed_map(e->map, e->dim, e->native, e->map_stride, e->options.seed);
}

/* ---- making one ---- */

static rv_status check_options(const rv_embedder_options *o) {
	if (o->dim < 0 || o->dim > DIM_MAX)
		return rv_fail(RV_ERR_INVALID, "embedder option dim: %lld is not in [0, %d]",
		               (long long)o->dim, DIM_MAX);
	if (o->max_tokens < 1 || o->n_batch < 1)
		return rv_fail(RV_ERR_INVALID, "embedder option %s: at least one token is needed",
		               o->max_tokens < 1 ? "max_tokens" : "n_batch");
	return RV_OK;
}

static rv_status open_context(rv_embedder *e) {
	rv_embedder_options *o = &e->options;
	if (o->level == RV_LEVEL_COUNT)
		RV_TRY(rv_level_default(&o->level));
	const int64_t n_ctx = rv_model_hparams(e->model)->n_ctx_train;
	if (o->max_tokens > n_ctx)
		o->max_tokens = n_ctx;
	if (o->n_batch < o->max_tokens)
		o->n_batch = o->max_tokens; /* a text is evaluated in one piece */
	rv_context_options c = rv_context_defaults();
	c.n_ctx = o->max_tokens;
	c.n_seqs = SEQS;
	c.n_batch = (int32_t)(o->n_batch < SEQS * c.n_ctx ? o->n_batch : SEQS * c.n_ctx);
	c.page_size = 0;
	c.level = o->level;
	c.n_threads = o->n_threads;
	c.pin = o->pin;
	c.threads = o->threads;
	c.log = o->log;
	RV_TRY(rv_context_create(&e->ctx, e->model, &c));
	o->n_batch = rv_context_get_options(e->ctx)->n_batch;
	return RV_OK;
}

static rv_status fill(rv_embedder *e) {
	RV_TRY(check_options(&e->options));
	e->native = rv_model_hparams(e->model)->n_embd;
	e->dim = e->options.dim ? e->options.dim : e->native;
	RV_TRY(open_context(e));
	e->kernels = rv_kernels_for(e->options.level);
	if (rv_model_tokenizer(e->model))
		RV_TRY(rv_encoder_create(&e->encoder, rv_model_tokenizer(e->model)));
	e->mean_stride = padded(e->native);
	RV_TRY(RV_ALLOC(&e->mean, SEQS * e->mean_stride, "means of hidden states"));
	RV_TRY(RV_ALLOC(&e->rows, e->options.n_batch, "rows of texts"));
	return make_map(e);
}

rv_status rv_embedder_create(rv_embedder **out, rv_model *model, const rv_embedder_options *options) {
	rv_embedder *e;
	*out = NULL;
	RV_TRY(RV_ALLOC(&e, 1, "embedder"));
	e->options = options ? *options : rv_embedder_defaults();
	e->model = rv_model_retain(model);
	rv_status st = fill(e);
	if (st != RV_OK)
		rv_embedder_destroy(e);
	else
		*out = e;
	return st;
}

void rv_embedder_destroy(rv_embedder *e) {
	if (!e)
		return;
	rv_context_destroy(e->ctx);
	rv_encoder_destroy(e->encoder);
	rv_model_release(e->model);
	rv_free(e->map);
	rv_free(e->rows);
	rv_free(e->mean);
	rv_free(e);
}

rv_model *rv_embedder_model(const rv_embedder *e) {
	return e->model;
}
int64_t rv_embedder_dim(const rv_embedder *e) {
	return e->dim;
}
int64_t rv_embedder_native(const rv_embedder *e) {
	return e->native;
}
int rv_embedder_learned(const rv_embedder *e) {
	return e->learned;
}
int64_t rv_embedder_n_tokens(const rv_embedder *e) {
	return e->n_tokens;
}

/* ---- embedding ---- */

/* The sum over a text's tokens in ascending order; its length is of no matter. */
static void pool(const rv_embedder *e, int64_t begin, int64_t end, float *mean) {
	memset(mean, 0, (size_t)e->native * sizeof *mean);
	for (int64_t row = begin; row < end; row++)
		e->kernels->add(mean, rv_context_hidden(e->ctx, row), e->native);
}

/* Length 1; the sum of squares in double and in order. */
static rv_status normalise(float *x, int64_t n, int64_t text) {
	double squares = 0;
	for (int64_t i = 0; i < n; i++)
		squares += (double)x[i] * (double)x[i];
	if (!(squares > 0) || !isfinite(squares))
		return rv_fail(RV_ERR_NUMERIC,
		               "embedding of text %lld: the mean hidden state has no direction",
		               (long long)text);
	const double scale = 1 / sqrt(squares);
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)((double)x[i] * scale);
	return RV_OK;
}

/* Evaluates what was gathered; the first of it is text `first` of the call, its vector goes to out. */
static rv_status finish(rv_embedder *e, int64_t first, float *out) {
	rv_status st = rv_context_eval(e->ctx, e->rows, e->n_rows);
	for (int32_t i = 0; st == RV_OK && i < e->n_texts; i++)
		pool(e, i ? e->end[i - 1] : 0, e->end[i], e->mean + i * e->mean_stride);
	for (int32_t i = 0; i < e->n_texts; i++) {
		rv_status cut = rv_seq_truncate(e->ctx, i, 0);
		st = st == RV_OK ? cut : st;
	}
	if (st == RV_OK && e->map)
		e->kernels->type[RV_F32].matmul_float(
		        out, e->dim, e->map, (size_t)e->map_stride * sizeof(float), e->mean,
		        (size_t)e->mean_stride * sizeof(float), e->native, e->dim, e->n_texts);
	for (int32_t i = 0; st == RV_OK && i < e->n_texts; i++) {
		if (!e->map)
			memcpy(out + i * e->dim, e->mean + i * e->mean_stride,
			       (size_t)e->dim * sizeof *out);
		st = normalise(out + i * e->dim, e->dim, first + i);
	}
	e->n_tokens += e->n_rows;
	e->n_rows = e->n_texts = 0;
	return st;
}

static void gather(rv_embedder *e, const int32_t *ids, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		e->rows[e->n_rows++] = (rv_row){.token = ids[i],
		                                .seq = e->n_texts,
		                                .position = (int32_t)i,
		                                .parent = -1,
		                                .flags = RV_ROW_HIDDEN};
	e->end[e->n_texts++] = e->n_rows;
}

/* Text `index` of the call joins those gathered; *done texts of the call are in `out` already. */
static rv_status take(rv_embedder *e, const int32_t *ids, int64_t n, int64_t index, float *out,
                      int64_t *done) {
	if (n < 1)
		return rv_fail(RV_ERR_INVALID, "embedding of text %lld: it has no tokens",
		               (long long)index);
	n = n < e->options.max_tokens ? n : e->options.max_tokens;
	if (e->n_texts == SEQS || e->n_rows + n > e->options.n_batch) {
		RV_TRY(finish(e, *done, out + *done * e->dim));
		*done = index;
	}
	gather(e, ids, n);
	return RV_OK;
}

static rv_status embed_all(rv_embedder *e, const rv_embed_input *texts, int64_t n, float *out) {
	int64_t done = 0;
	for (int64_t i = 0; i < n; i++) {
		const int32_t *ids;
		size_t n_ids;
		RV_TRY(rv_encoder_encode(e->encoder, texts[i].text, texts[i].len, NULL, &ids, &n_ids));
		RV_TRY(take(e, ids, (int64_t)n_ids, i, out, &done));
	}
	return n > done ? finish(e, done, out + done * e->dim) : RV_OK;
}

static void begin(rv_embedder *e) {
	e->n_rows = e->n_texts = 0;
	e->n_tokens = 0;
}

rv_status rv_embed_batch(rv_embedder *e, const rv_embed_input *texts, int64_t n, float *out) {
	if (!e->encoder)
		return rv_fail(RV_ERR_MISMATCH, "%s: the model has no tokenizer to embed texts with",
		               rv_model_path(e->model));
	begin(e);
	return embed_all(e, texts, n, out);
}

rv_status rv_embed_text(rv_embedder *e, const char *text, size_t len, float *out) {
	return rv_embed_batch(e, &(rv_embed_input){text, len}, 1, out);
}

rv_status rv_embed_tokens(rv_embedder *e, const int32_t *ids, int64_t n, float *out) {
	int64_t done = 0;
	begin(e);
	RV_TRY(take(e, ids, n, 0, out, &done));
	return finish(e, 0, out);
}
