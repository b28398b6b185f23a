#include "lab/shift_fit.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "learn/train_products.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- packing ---- */

static rv_status new_sequence(rv_shift_pack *p, int32_t end) {
	if (p->n == p->cap) {
		const int64_t cap = 2 * p->cap + 16;
		RV_TRY(RV_GROW(&p->tokens, p->cap * (RV_SHIFT_CTX + 1), cap * (RV_SHIFT_CTX + 1),
		               "sequences"));
		RV_TRY(RV_GROW(&p->weights, p->cap * RV_SHIFT_CTX, cap * RV_SHIFT_CTX, "weights"));
		p->cap = cap;
	}
	int32_t *tokens = p->tokens + p->n++ * (RV_SHIFT_CTX + 1);
	for (int i = 0; i <= RV_SHIFT_CTX; i++)
		tokens[i] = end;
	return RV_OK;
}

rv_status rv_shift_pack_docs(rv_shift_pack *p, const rv_shift_stream *stream,
                             const rv_shift_doc *const *docs, int64_t n) {
	int32_t at = RV_SHIFT_CTX + 1;
	for (int64_t i = 0; i < n; i++) {
		const rv_shift_doc *d = docs[i];
		const int32_t len = d->n < RV_SHIFT_CTX ? d->n : RV_SHIFT_CTX;
		if (at + len + 1 > RV_SHIFT_CTX + 1) {
			RV_TRY(new_sequence(p, stream->end));
			at = 0;
		}
		int32_t *tokens = p->tokens + (p->n - 1) * (RV_SHIFT_CTX + 1) + at;
		float *weights = p->weights + (p->n - 1) * RV_SHIFT_CTX + at;
		memcpy(tokens, d->ids, (size_t)len * sizeof *tokens);
		for (int32_t t = d->answer; t < len; t++)
			weights[t - 1] = 1 / (float)(len - d->answer); /* t - 1 predicts t */
		at += len + 1;                                         /* one token that ends it */
	}
	return RV_OK;
}

void rv_shift_pack_free(rv_shift_pack *p) {
	rv_free(p->tokens);
	rv_free(p->weights);
	*p = (rv_shift_pack){0};
}

/* ---- the fitter ---- */

rv_status rv_shift_fitter_open(rv_shift_fitter *f, const rv_run_config *config, const rv_model *model,
                               const rv_shift_stream *stream) {
	*f = (rv_shift_fitter){.config = config, .model = model, .stream = stream};
	const rv_shift_docs *old = &stream->replay;
	RV_TRY(RV_ALLOC(&f->order, stream->pool.n > old->n ? stream->pool.n : old->n, "documents"));
	for (int64_t i = 0; i < old->n; i++)
		f->order[i] = &old->items[i];
	return rv_shift_pack_docs(&f->replay, stream, f->order, old->n);
}

void rv_shift_fitter_close(rv_shift_fitter *f) {
	rv_trainer_destroy(f->lora);
	rv_ewc_destroy(f->ewc);
	rv_shift_pack_free(&f->replay);
	rv_free(f->order);
	*f = (rv_shift_fitter){0};
}

static const char *targets_of(rv_site site) {
	static const char *const targets[RV_SITE_COUNT] = {[RV_SITE_ATTN_OUT] = "o",
	                                                   [RV_SITE_FFN_OUT] = "down",
	                                                   [RV_SITE_PROJ_QV] = "q,v",
	                                                   [RV_SITE_PROJ_QKVO] = "q,k,v,o",
	                                                   [RV_SITE_PROJ_ALL] = NULL};
	return targets[site];
}

static void layers_text(const rv_shift_plan *plan, char *out, size_t size) {
	size_t at = 0;
	out[0] = '\0';
	for (int i = 0; i < plan->n_layers && at < size; i++)
		at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? "," : "",
		                       (long long)plan->layers[i]);
}

static rv_trainer_options options_of(const rv_shift_fitter *f, const rv_shift_plan *plan,
                                     const char *layers) {
	rv_trainer_options o = rv_trainer_defaults();
	o.n_ctx = RV_SHIFT_CTX;
	o.seed = (int64_t)plan->seed;
	o.segments = 1;
	o.segment_token = f->stream->end;
	o.schedule = (rv_schedule){.kind = RV_SCHEDULE_CONSTANT, .peak = plan->lr, .n_warmup = 5};
	o.weight_decay = 0; /* it would be a pull to zero, not to the base */
	o.n_threads = f->config->n_threads;
	o.products = rv_gemm_bf16_available() ? RV_PRODUCTS_BF16 : RV_PRODUCTS_F32;
	o.n_slices = 2;
	o.log = f->config->log;
	if (!plan->full) {
		o.lora_rank = plan->rank;
		o.lora_alpha = 2 * (double)plan->rank;
		o.lora_targets = targets_of(plan->site);
		o.lora_layers = layers[0] ? layers : NULL;
	}
	return o;
}

static rv_status open_trainer(rv_shift_fitter *f, const rv_shift_plan *plan, rv_trainer **out) {
	char layers[200], shape[256];
	layers_text(plan, layers, sizeof layers);
	const rv_trainer_options o = options_of(f, plan, layers);
	if (plan->full)
		return rv_trainer_create_from(out, f->model, NULL, &o);
	snprintf(shape, sizeof shape, "%s %s %lld", layers, rv_site_name(plan->site),
	         (long long)plan->rank);
	*out = f->lora;
	if (f->lora != NULL && strcmp(shape, f->lora_shape) == 0)
		return rv_trainer_restart(f->lora, NULL, (int64_t)plan->seed, &o.schedule);
	rv_trainer_destroy(f->lora);
	f->lora = NULL;
	RV_TRY(rv_trainer_create_lora(&f->lora, f->model, NULL, &o));
	snprintf(f->lora_shape, sizeof f->lora_shape, "%s", shape);
	*out = f->lora;
	return RV_OK;
}

/* What old text minds, at the weights of the base. */
static rv_status want_ewc(rv_shift_fitter *f) {
	const int64_t start = rv_now_ns();
	const rv_shift_plan base = {.full = 1, .lr = 1e-3}; /* no step is made */
	rv_trainer *t = NULL;
	if (f->ewc != NULL)
		return RV_OK;
	RV_TRY(open_trainer(f, &base, &t));
	rv_status status = rv_ewc_create(&f->ewc, t, RV_EWC_DECAY);
	if (status == RV_OK)
		status = rv_ewc_observe(f->ewc, t, f->replay.tokens, f->replay.weights, f->replay.n);
	rv_trainer_destroy(t);
	f->fisher_s = 1e-9 * (double)(rv_now_ns() - start);
	return status;
}

/* ---- one run ---- */

typedef struct step {
	int32_t *tokens;
	float *weights;
	int64_t n, n_new;
} step;

static double sum(const float *x, int64_t n) {
	double s = 0;
	for (int64_t i = 0; i < n; i++)
		s += (double)x[i];
	return s;
}

/* Sequences [from, from + n) of the new, then as many of the old by turns. */
static void fill(const rv_shift_fitter *f, const rv_shift_pack *new, const rv_shift_plan *plan,
                 int64_t from, int64_t number, step *s) {
	enum { T = RV_SHIFT_CTX + 1, W = RV_SHIFT_CTX };
	s->n_new = plan->batch < new->n - from ? plan->batch : new->n - from;
	s->n = plan->replay > 0 && f->replay.n > 0 ? 2 * s->n_new : s->n_new;
	memcpy(s->tokens, new->tokens + from *T, (size_t)(s->n_new * T) * sizeof *s->tokens);
	memcpy(s->weights, new->weights + from *W, (size_t)(s->n_new * W) * sizeof *s->weights);
	if (s->n == s->n_new)
		return;
	rv_rng rng;
	rv_rng_stream(&rng, plan->seed, (uint64_t)number);
	for (int64_t i = s->n_new; i < s->n; i++) {
		const int64_t k = (int64_t)rv_rng_below(&rng, (uint64_t)f->replay.n);
		memcpy(s->tokens + i * T, f->replay.tokens + k * T, T * sizeof *s->tokens);
		memcpy(s->weights + i * W, f->replay.weights + k * W, W * sizeof *s->weights);
	}
	float *old = s->weights + s->n_new * W;
	const double scale =
	        plan->replay * sum(s->weights, s->n_new * W) / fmax(1, sum(old, (s->n - s->n_new) * W));
	for (int64_t i = 0; i < (s->n - s->n_new) * W; i++)
		old[i] *= (float)scale;
}

static rv_status train(rv_shift_fitter *f, rv_trainer *t, const rv_shift_pack *new,
                       const rv_shift_plan *plan, rv_shift_fitted *out) {
	step s = {0};
	rv_status status =
	        RV_ALLOC(&s.tokens, 2 * plan->batch * (RV_SHIFT_CTX + 1), "sequences of a step");
	if (status == RV_OK)
		status = RV_ALLOC(&s.weights, 2 * plan->batch * RV_SHIFT_CTX, "weights of a step");
	for (int epoch = 0; status == RV_OK && epoch < plan->epochs; epoch++) {
		double loss = 0;
		int64_t n = 0;
		for (int64_t from = 0; status == RV_OK && from < new->n; from += plan->batch, n++) {
			rv_train_record record;
			fill(f, new, plan, from, out->n_steps, &s);
			status = rv_trainer_step(t, s.tokens, s.weights, s.n, &record);
			loss += status == RV_OK ? record.loss : 0;
			out->n_steps++;
			if (status == RV_OK && f->config->cancelled(f->config->user))
				status = rv_fail(RV_ERR_CANCELLED, "interrupted");
		}
		out->loss = loss / (double)n;
	}
	rv_free(s.tokens);
	rv_free(s.weights);
	return status;
}

/* Through a file, as anybody's model. */
static rv_status take_model(const rv_shift_fitter *f, const rv_trainer *t, rv_model **out) {
	char path[] = "/tmp/rv_shift_XXXXXX";
	const int fd = mkstemp(path);
	const rv_train_export o = {.type = rv_type_get(RV_F32), .tokenizer = f->stream->tokenizer};
	if (fd < 0)
		return rv_fail(RV_ERR_IO, "%s: no temporary file", path);
	close(fd);
	rv_status status = rv_trainer_export(t, path, &o);
	if (status == RV_OK)
		status = rv_model_open(out, path, NULL);
	unlink(path); /* mapped by now */
	return status;
}

rv_status rv_shift_fit(rv_shift_fitter *f, const rv_shift_plan *plan, rv_shift_fitted *out) {
	const int64_t start = rv_now_ns();
	rv_shift_pack new = {0};
	rv_trainer *t = NULL;
	*out = (rv_shift_fitted){0};
	if (plan->lambda > 0)
		RV_TRY(want_ewc(f));
	rv_shift_stream_draw(f->stream, plan->seed, f->order);
	rv_status status = rv_shift_pack_docs(&new, f->stream, f->order, f->stream->n_stream);
	if (status == RV_OK)
		status = open_trainer(f, plan, &t);
	if (status == RV_OK)
		status = rv_trainer_set_ewc(t, plan->lambda > 0 ? f->ewc : NULL, plan->lambda);
	if (status == RV_OK)
		status = train(f, t, &new, plan, out);
	if (status == RV_OK)
		status = plan->full ? take_model(f, t, &out->whole)
		                    : rv_trainer_adapter(&out->adapter, t, f->model, "plain");
	if (plan->full)
		rv_trainer_destroy(t);
	rv_shift_pack_free(&new);
	out->seconds = 1e-9 * (double)(rv_now_ns() - start);
	return status;
}

void rv_shift_fitted_release(rv_shift_fitted *fitted) {
	rv_adapter_release(fitted->adapter);
	rv_model_release(fitted->whole);
	*fitted = (rv_shift_fitted){0};
}
