#include "learn/instant.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "learn/micro_lora_internal.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct rv_instant {
	pthread_mutex_t lock;
	rv_instant_options options;
	rv_model *model;
	rv_adapter_slot *slot;
	rv_local_objective objective;
	rv_micro_lora *micro;
	rv_adapter *base;                   /* NULL: none */
	int residual[RV_CAPTURE_MAX_PARTS]; /* parts of `micro` that have a local gradient */
	int n_residual;
	int n_threads;
	char *scratch; /* [n_threads] of scratch_bytes */
	size_t scratch_bytes;
	float *gradients; /* [n_residual, max_tokens, n_embd] dL/dy */
	double *loss;     /* [max_tokens, n_residual] */
	int64_t token_ns; /* what a token took; 0: not known */
	rv_instant_stats stats;
};

rv_instant_options rv_instant_defaults(void) {
	return (rv_instant_options){.threshold = 0.6,
	                            .reading = RV_LOCAL_LENS,
	                            .max_tokens = 32,
	                            .n_top = 64,
	                            .max_ratio = 0.5,
	                            .budget_ns = 1000000};
}

const char *rv_instant_outcome_text(rv_instant_outcome outcome) {
	static const char *const texts[] = {
	        [RV_INSTANT_LEARNT] = "learnt",
	        [RV_INSTANT_OFF] = "off: the learning rate is 0",
	        [RV_INSTANT_BELOW] = "quality below the threshold",
	        [RV_INSTANT_NOTHING] = "nothing was captured",
	        [RV_INSTANT_NO_GRADIENT] =
	                ("n/a: no hooked projection ends in the residual stream; the background "
	                 "loop's back-propagation alone learns it"),
	        [RV_INSTANT_NOT_FINITE] = "rolled back: not a finite number",
	        [RV_INSTANT_EXPLODED] = "rolled back: the change would outgrow the state",
	};
	return texts[outcome];
}

/* ---- creation ---- */

static rv_status check_options(const rv_instant_options *o) {
	if (!rv_quality_ok(o->threshold) || !(o->max_ratio > 0) || o->budget_ns < 0 ||
	    (unsigned)o->reading >= RV_LOCAL_READING_COUNT || o->max_tokens < 1 ||
	    o->max_tokens > RV_MICRO_MAX_TOKENS || o->n_top < 2 || o->n_top > RV_LOCAL_MAX_TOP)
		return rv_fail(RV_ERR_INVALID,
		               "instant loop: threshold %g, largest ratio %g, %lld tokens or %lld "
		               "candidates: out of bounds",
		               o->threshold, o->max_ratio, (long long)o->max_tokens,
		               (long long)o->n_top);
	return RV_OK;
}

static rv_status allocate(rv_instant *l) {
	const int64_t n_embd = rv_model_hparams(l->model)->n_embd;
	l->n_threads = l->options.threads ? rv_threads_count(l->options.threads) : 1;
	l->scratch_bytes = rv_local_scratch_bytes(&l->objective, l->options.n_top, l->n_residual);
	RV_TRY(rv_alloc((void **)&l->scratch, (size_t)l->n_threads, l->scratch_bytes, "instant loop"));
	RV_TRY(RV_ALLOC(&l->gradients, l->n_residual * l->options.max_tokens * n_embd, "instant loop"));
	return RV_ALLOC(&l->loss, l->n_residual * l->options.max_tokens, "instant loop");
}

static rv_status create_into(rv_instant *l, const rv_micro_lora_options *micro) {
	rv_level level;
	RV_TRY(check_options(&l->options));
	RV_TRY(rv_level_default(&level));
	rv_local_objective_init(&l->objective, l->model, rv_kernels_for(level));
	RV_TRY(rv_micro_lora_create(&l->micro, l->model, micro));
	for (int i = 0; i < rv_micro_lora_n_parts(l->micro); i++)
		if (RV_ROLES_RESIDUAL & RV_ROLE_BIT(rv_micro_lora_part(l->micro, i).role))
			l->residual[l->n_residual++] = i;
	return allocate(l);
}

rv_status rv_instant_create(rv_instant **out, rv_model *model, const rv_micro_lora_options *micro,
                            const rv_instant_options *options, rv_adapter_slot *slot) {
	rv_instant *l;
	*out = NULL;
	RV_TRY(RV_ALLOC(&l, 1, "instant loop"));
	l->options = options ? *options : rv_instant_defaults();
	l->model = rv_model_retain(model);
	l->slot = slot;
	pthread_mutex_init(&l->lock, NULL);
	rv_status status = create_into(l, micro);
	if (status != RV_OK) {
		rv_instant_destroy(l);
		return status;
	}
	*out = l;
	return RV_OK;
}

void rv_instant_destroy(rv_instant *l) {
	if (!l)
		return;
	pthread_mutex_destroy(&l->lock);
	rv_micro_lora_destroy(l->micro);
	rv_adapter_release(l->base);
	rv_model_release(l->model);
	rv_free(l->scratch);
	rv_free(l->gradients);
	rv_free(l->loss);
	rv_free(l);
}

size_t rv_instant_bytes(const rv_instant *l) {
	const size_t n = (size_t)(l->n_residual * l->options.max_tokens);
	return rv_micro_lora_bytes(l->micro) + (size_t)l->n_threads * l->scratch_bytes +
	       n * ((size_t)l->objective.n_embd * sizeof(float) + sizeof *l->loss);
}

/* ---- gradients ---- */

/* Tokens 0, stride, 2 stride, ... of a captured request. */
typedef struct lesson {
	rv_instant *l;
	const rv_captured *seen;
	int64_t n, stride;
	const float *gradients[RV_CAPTURE_MAX_PARTS]; /* of token 0; those of the next are ldg behind */
	const double *loss;                           /* likewise */
	int64_t ldg, ld_loss;
} lesson;

static float *gradient_of(const rv_instant *l, int part, int64_t token) {
	return l->gradients + ((int64_t)part * l->options.max_tokens + token) * l->objective.n_embd;
}

static rv_status differentiate(void *arg, int64_t begin, int64_t end, int thread) {
	const lesson *s = arg;
	const rv_instant *l = s->l;
	const rv_captured *seen = s->seen;
	for (int64_t t = begin; t < end; t++) {
		const int64_t at = t * s->stride;
		const float *states[RV_CAPTURE_MAX_PARTS];
		float *gradients[RV_CAPTURE_MAX_PARTS];
		for (int i = 0; i < l->n_residual; i++) {
			states[i] = seen->states[i] + at * seen->n_embd;
			gradients[i] = gradient_of(l, i, t);
		}
		const rv_local_token token = {.ids = seen->ids + at * seen->n_top,
		                              .saved = seen->values + at * seen->n_top,
		                              .n_top = seen->n_top,
		                              .chosen = seen->chosen[at],
		                              .states = states,
		                              .n_states = l->n_residual};
		rv_local_objective_gradient(&l->objective, l->options.reading, &token,
		                            l->scratch + (size_t)thread * l->scratch_bytes,
		                            l->loss + t * l->n_residual, gradients);
	}
	return RV_OK;
}

/* Means over tokens and layers. Returns whether all is finite. */
static int summarise(const lesson *s, rv_instant_report *report) {
	const rv_instant *l = s->l;
	const double n = (double)(s->n * l->n_residual);
	double loss = 0, squares = 0;
	for (int64_t t = 0; t < s->n; t++)
		for (int i = 0; i < l->n_residual; i++) {
			const float *g = s->gradients[i] + t * s->ldg;
			float sum;
			l->objective.kernels->dot_f32(&sum, g, g, l->objective.n_embd);
			squares += (double)sum;
			loss += s->loss[t * s->ld_loss + i];
		}
	report->loss = loss / n;
	report->gradient_norm = sqrt(squares / n);
	return isfinite(loss) && isfinite(squares);
}

/* Where gradients and losses of the lesson's tokens are: computed with the capture, or here. */
static rv_status find_gradients(lesson *s) {
	rv_instant *l = s->l;
	rv_threads *threads = l->options.threads;
	const int there = s->seen->gradients && s->seen->reading == l->options.reading;
	for (int i = 0; i < l->n_residual; i++)
		s->gradients[i] = there ? s->seen->gradients[i] : gradient_of(l, i, 0);
	s->ldg = l->objective.n_embd * (there ? s->stride : 1);
	s->loss = there ? s->seen->loss : l->loss;
	s->ld_loss = l->n_residual * (there ? s->stride : 1);
	return there     ? RV_OK
	       : threads ? rv_threads_for(threads, s->n, 1, differentiate, s)
	                 : differentiate(s, 0, s->n, 0);
}

/* ---- the step ---- */

/* One step of every part with a local gradient, of the mean over the tokens; looks at the guards. */
static rv_instant_outcome step(const lesson *s, double size, rv_instant_report *report) {
	const rv_instant *l = s->l;
	for (int i = 0; i < l->n_residual; i++) {
		const int64_t ldx = s->seen->parts[i].n_input * s->stride,
		              lds = s->seen->n_embd * s->stride;
		const float *x = s->seen->inputs[i];
		if (rv_micro_lora_update(l->micro, l->residual[i], x, ldx, s->gradients[i], s->ldg,
		                         s->n, size / (double)s->n) != RV_OK)
			return RV_INSTANT_NOT_FINITE;
		const double ratio = rv_micro_lora_ratio(l->micro, l->residual[i], x, ldx,
		                                         s->seen->states[i], lds, s->n);
		if (!isfinite(ratio))
			return RV_INSTANT_NOT_FINITE;
		report->ratio = ratio > report->ratio ? ratio : report->ratio;
		if (ratio > l->options.max_ratio)
			return RV_INSTANT_EXPLODED;
	}
	return RV_INSTANT_LEARNT;
}

/* What is decoded with from now on. Nothing learnt and no base: no adapter. */
static rv_status publish(rv_instant *l, uint64_t *version) {
	rv_adapter *adapter = NULL;
	if (!l->slot)
		return RV_OK;
	if (l->base || rv_micro_lora_norm(l->micro) > 0)
		RV_TRY(rv_micro_lora_adapter(l->micro, l->base, "sona", &adapter));
	rv_status status = rv_adapter_slot_publish(l->slot, adapter, version);
	rv_adapter_release(adapter);
	return status;
}

/* ---- a request ---- */

static rv_status check_captured(const rv_instant *l, const rv_captured *seen) {
	int fits = seen->n_parts == l->n_residual && seen->n_embd == l->objective.n_embd &&
	           seen->n_top <= l->options.n_top;
	for (int i = 0; fits && i < l->n_residual; i++) {
		const rv_micro_part p = rv_micro_lora_part(l->micro, l->residual[i]);
		const rv_capture_part *c = &seen->parts[i];
		fits = p.role == c->role && p.layer == c->layer && p.n_in == c->n_input;
	}
	return fits ? RV_OK
	            : rv_fail(RV_ERR_MISMATCH, "instant loop: the request was captured at other "
	                                       "layers or sites, or with more candidates");
}

/* How many tokens are learnt from. */
static int64_t tokens_of(const rv_instant *l, const rv_captured *seen) {
	int64_t n = seen->n_tokens < l->options.max_tokens ? seen->n_tokens : l->options.max_tokens;
	if (l->options.bounded && l->token_ns > 0 && l->options.budget_ns / l->token_ns < n)
		n = l->options.budget_ns / l->token_ns;
	return n > 0 ? n : 1;
}

static rv_instant_outcome before(const rv_instant *l, const rv_captured *seen, double quality) {
	return !(rv_micro_lora_get_options(l->micro)->lr > 0) ? RV_INSTANT_OFF
	       : l->n_residual == 0                           ? RV_INSTANT_NO_GRADIENT
	       : quality < l->options.threshold               ? RV_INSTANT_BELOW
	       : seen->n_tokens == 0                          ? RV_INSTANT_NOTHING
	                                                      : RV_INSTANT_LEARNT;
}

static rv_status learn(rv_instant *l, const rv_captured *seen, rv_instant_report *report) {
	const int64_t start = rv_now_ns(), most = tokens_of(l, seen);
	lesson s = {.l = l, .seen = seen, .stride = (seen->n_tokens + most - 1) / most};
	s.n = (seen->n_tokens + s.stride - 1) / s.stride;
	RV_TRY(find_gradients(&s));
	const int finite = summarise(&s, report);
	const int64_t computed = rv_now_ns();
	const double size = rv_micro_lora_get_options(l->micro)->lr * report->quality;
	rv_micro_lora_keep(l->micro);
	report->n_tokens = s.n;
	report->outcome = finite ? step(&s, size, report) : RV_INSTANT_NOT_FINITE;
	const int64_t stepped = rv_now_ns();
	rv_status status = report->outcome == RV_INSTANT_LEARNT ? publish(l, &report->version) : RV_OK;
	if (status != RV_OK || report->outcome != RV_INSTANT_LEARNT)
		rv_micro_lora_roll_back(l->micro);
	const int64_t end = rv_now_ns();
	report->gradient_ns = computed - start;
	report->update_ns = stepped - computed;
	report->publish_ns = end - stepped;
	report->total_ns = end - start;
	report->n_parts = report->outcome == RV_INSTANT_LEARNT ? l->n_residual : 0;
	l->token_ns = report->total_ns / s.n;
	return status;
}

static void count(rv_instant *l, const rv_instant_report *r) {
	l->stats.n_requests++;
	l->stats.n_outcome[r->outcome]++;
	if (r->outcome != RV_INSTANT_LEARNT)
		return;
	l->stats.n_tokens += r->n_tokens;
	l->stats.total_ns += r->total_ns;
	l->stats.max_ns = r->total_ns > l->stats.max_ns ? r->total_ns : l->stats.max_ns;
}

rv_status rv_instant_learn(rv_instant *l, const rv_captured *captured, double quality,
                           rv_quality_source source, rv_instant_report *report) {
	rv_instant_report r = {.quality = quality, .source = source};
	if (!rv_quality_ok(quality))
		return rv_fail(RV_ERR_INVALID, "quality %g is not in [0, 1]", quality);
	pthread_mutex_lock(&l->lock);
	rv_status status = check_captured(l, captured);
	r.outcome = before(l, captured, quality);
	r.n_skipped = rv_micro_lora_n_parts(l->micro) - l->n_residual;
	if (status == RV_OK && r.outcome == RV_INSTANT_LEARNT)
		status = learn(l, captured, &r);
	if (status == RV_OK)
		count(l, &r);
	pthread_mutex_unlock(&l->lock);
	if (status == RV_OK && report)
		*report = r;
	return status;
}

/* ---- base and MicroLoRA ---- */

static void take_base(rv_instant *l, rv_adapter *base) {
	if (base)
		rv_adapter_retain(base);
	rv_adapter_release(l->base);
	l->base = base;
}

rv_status rv_instant_set_base(rv_instant *l, rv_adapter *base) {
	if (base && !rv_adapter_fits(base, l->model))
		return rv_fail(RV_ERR_MISMATCH, "%s: made for another shape than %s",
		               rv_adapter_path(base), rv_model_path(l->model));
	pthread_mutex_lock(&l->lock);
	rv_adapter *old = l->base ? rv_adapter_retain(l->base) : NULL;
	take_base(l, base);
	rv_status status = publish(l, NULL);
	if (status != RV_OK)
		take_base(l, old);
	rv_adapter_release(old);
	pthread_mutex_unlock(&l->lock);
	return status;
}

/* What is published stays as it is: base + MicroLoRA is the new base, to the bit. */
rv_status rv_instant_fold(rv_instant *l, uint64_t seed, rv_adapter **base) {
	rv_adapter *folded = NULL;
	rv_status status = RV_OK;
	*base = NULL;
	pthread_mutex_lock(&l->lock);
	if (l->base || rv_micro_lora_norm(l->micro) > 0)
		status = rv_micro_lora_adapter(l->micro, l->base, "sona base", &folded);
	if (status == RV_OK) {
		take_base(l, folded);
		rv_micro_lora_reset(l->micro, seed);
		*base = folded;
	}
	pthread_mutex_unlock(&l->lock);
	return status;
}

rv_status rv_instant_snapshot(rv_instant *l, rv_adapter **base, rv_adapter **micro) {
	rv_status status = RV_OK;
	if (base)
		*base = NULL;
	if (micro)
		*micro = NULL;
	pthread_mutex_lock(&l->lock);
	if (micro)
		status = rv_micro_lora_adapter(l->micro, NULL, "MicroLoRA", micro);
	if (status == RV_OK && base && l->base)
		*base = rv_adapter_retain(l->base);
	pthread_mutex_unlock(&l->lock);
	return status;
}

rv_status rv_instant_restore(rv_instant *l, rv_adapter *base, const rv_adapter *micro, uint64_t seed) {
	if (base && !rv_adapter_fits(base, l->model))
		return rv_fail(RV_ERR_MISMATCH, "%s: made for another shape than %s",
		               rv_adapter_path(base), rv_model_path(l->model));
	pthread_mutex_lock(&l->lock);
	rv_status status = micro ? rv_micro_lora_load(l->micro, micro) : RV_OK;
	if (status == RV_OK) {
		if (!micro)
			rv_micro_lora_reset(l->micro, seed);
		take_base(l, base);
		status = publish(l, NULL);
	}
	pthread_mutex_unlock(&l->lock);
	return status;
}

rv_status rv_instant_set_lr(rv_instant *l, double lr) {
	if (!(lr >= 0 && lr <= 1e6))
		return rv_fail(RV_ERR_INVALID, "learning rate %g is not in [0, 1e6]", lr);
	pthread_mutex_lock(&l->lock);
	rv_micro_lora_set_lr(l->micro, lr);
	pthread_mutex_unlock(&l->lock);
	return RV_OK;
}

void rv_instant_get_stats(rv_instant *l, rv_instant_stats *out) {
	pthread_mutex_lock(&l->lock);
	*out = l->stats;
	out->norm = rv_micro_lora_norm(l->micro);
	pthread_mutex_unlock(&l->lock);
}
