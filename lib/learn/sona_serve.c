/* Contexts and the beginning of requests. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- contexts ---- */

static rv_sona_attachment *find_attachment(rv_sona *s, const rv_context *ctx) {
	rv_sona_attachment *a = s->attachments;
	while (a && a->ctx != ctx)
		a = a->next;
	return a;
}

rv_status rv_sona_attach(rv_sona *s, rv_context *ctx, int32_t set) {
	rv_capture_options how = rv_capture_defaults();
	rv_sona_attachment *a;
	const rv_micro_lora_options *micro = &s->o.micro;
	how.layers = micro->layers;
	how.n_layers = micro->n_layers;
	how.site = micro->site;
	how.max_tokens = s->o.capture_tokens;
	how.n_top = s->o.capture_top;
	how.n_places = s->o.n_places;
	how.gradients = s->o.capture_gradients;
	how.reading = s->o.instant_how.reading;
	if (rv_context_model(ctx) != s->model)
		return rv_fail(RV_ERR_MISMATCH, "SONA: the context is of another model");
	RV_TRY(RV_ALLOC(&a, 1, "SONA"));
	*a = (rv_sona_attachment){.ctx = ctx, .set = set, .follows = 1};
	rv_status st = rv_capture_attach(&a->capture, ctx, &how);
	if (st == RV_OK)
		st = rv_context_follow_slot(ctx, set, s->slot, 1);
	if (st != RV_OK) {
		rv_capture_detach(a->capture);
		rv_free(a);
		return st;
	}
	pthread_mutex_lock(&s->lock);
	a->next = s->attachments;
	s->attachments = a;
	pthread_mutex_unlock(&s->lock);
	return RV_OK;
}

/* With the lock held: nothing refers to the context's capture any more. */
static void let_go(rv_sona *s, rv_sona_attachment *a) {
	while (a->n_busy > 0)
		pthread_cond_wait(&s->idle, &s->lock);
	for (int64_t i = s->n_records; i-- > 0;) {
		rv_sona_record *r = s->records[i];
		if (r->attachment != a)
			continue;
		rv_captured_release(r->captured);
		r->captured = NULL;
		r->attachment = NULL;
		if (r->state < RV_RECORD_ENDED)
			rv_sona_record_drop(s, r);
	}
}

rv_status rv_sona_detach(rv_sona *s, rv_context *ctx) {
	pthread_mutex_lock(&s->lock);
	rv_sona_attachment **at = &s->attachments;
	while (*at && (*at)->ctx != ctx)
		at = &(*at)->next;
	rv_sona_attachment *a = *at;
	if (a) {
		let_go(s, a);
		*at = a->next;
	}
	pthread_mutex_unlock(&s->lock);
	if (!a)
		return rv_fail(RV_ERR_NOT_FOUND, "SONA: the context is not attached");
	rv_capture_detach(a->capture);
	rv_status st = rv_context_follow_slot(ctx, a->set, NULL, 1);
	rv_adapter_release(a->plain);
	rv_free(a);
	return st;
}

/* ---- begin ---- */

rv_sona_request rv_sona_request_defaults(const rv_context *ctx) {
	const rv_context_options *o = rv_context_get_options(ctx);
	return (rv_sona_request){.memory_pressure = NAN,
	                         .plan = {.kv_type = o->kv_type,
	                                  .tail_tokens = 256,
	                                  .micro_lora = 1,
	                                  .n_batch = o->n_batch,
	                                  .n_draft = o->n_draft}};
}

static void copy_id(char *out, size_t size, const char *id) {
	snprintf(out, size, "%s", id ? id : "");
}

/* The request in words: what the caller gave, or its tokens as text. */
static rv_status task_of(const rv_sona *s, const rv_sona_request *request, char **out) {
	const rv_tokenizer *tok = rv_model_tokenizer(s->model);
	char *text = NULL;
	size_t len = 0;
	if (!request->text && tok)
		RV_TRY(rv_tokenizer_decode(tok, request->prompt, (size_t)request->n_prompt, 0, 1, &text,
		                           &len));
	rv_status st = rv_sona_text(out, request->text ? request->text : text,
	                            request->text ? request->len : len, RV_SONA_TEXT, "(tokens)");
	rv_free(text);
	return st;
}

static rv_status check_request(const rv_sona *s, const rv_sona_request *request) {
	int64_t n_vocab = rv_model_hparams(s->model)->n_vocab;
	if (request->n_prompt < 1 || request->first < 0)
		return rv_fail(RV_ERR_INVALID, "request: a prompt of %lld tokens at position %lld",
		               (long long)request->n_prompt, (long long)request->first);
	for (int64_t i = 0; i < request->n_prompt; i++)
		if (request->prompt[i] < 0 || request->prompt[i] >= n_vocab)
			return rv_fail(RV_ERR_INVALID,
			               "request: token %lld of the prompt is %d, not below %lld",
			               (long long)i, request->prompt[i], (long long)n_vocab);
	for (int64_t i = 0; request->query_embedding && i < RV_EMBEDDING_DIM; i++)
		if (!isfinite(request->query_embedding[i]))
			return rv_fail(RV_ERR_NUMERIC, "request: its vector, number %lld",
			               (long long)i);
	return RV_OK;
}

static rv_status new_record(rv_sona *s, const rv_sona_request *request, rv_sona_record **out) {
	rv_sona_record *r;
	RV_TRY(check_request(s, request));
	RV_TRY(RV_ALLOC(&r, 1, "request"));
	r->quality = r->likelihood = NAN;
	r->model_index = -1;
	r->seq = request->seq;
	r->n_prompt = request->n_prompt;
	r->begun_ms = rv_sona_now(s);
	r->begun_ns = rv_now_ns();
	copy_id(r->session_id, sizeof r->session_id, request->session_id);
	copy_id(r->user_id, sizeof r->user_id, request->user_id);
	rv_status st = task_of(s, request, &r->task);
	if (st == RV_OK)
		st = RV_ALLOC(&r->prompt, r->n_prompt, "prompt");
	if (st != RV_OK) {
		rv_sona_record_free(r);
		return st;
	}
	memcpy(r->prompt, request->prompt, (size_t)r->n_prompt * sizeof *r->prompt);
	*out = r;
	return RV_OK;
}

/* With the lock held: what the router says, which a pass may replace. */
static void route(rv_sona *s, rv_sona_record *r) {
	memcpy(r->features.success, s->success, sizeof s->success);
	memcpy(r->features.latency_ms, s->latency_ms, sizeof s->latency_ms);
	r->features.policy[0] = (float)r->plan.kv_type / RV_KV_COUNT;
	r->features.policy[1] = (float)r->plan.tail_tokens / 1024;
	r->features.policy[2] = (float)r->plan.micro_lora;
	if (s->state.router && s->state.router_trained && r->has_embedding &&
	    rv_fastgrnn_route(s->state.router, &r->features, &r->routed) != RV_OK)
		r->routed = (rv_fastgrnn_decision){0};
}

/* With the lock held. */
static void plan_request(rv_sona *s, rv_sona_record *r, const rv_sona_request *request,
                         double mean_quality, const rv_policy *policy) {
	int learned = policy->origin != RV_POLICY_COLD_START && policy->origin != RV_POLICY_UNAVAILABLE;
	rv_realtime_before seen = {.base = request->plan,
	                           .memory_pressure = request->memory_pressure,
	                           .mean_pattern_quality = mean_quality,
	                           .policy = learned ? policy->parameters : NULL};
	r->plan = request->plan;
	route(s, r);
	seen.router_tail = r->routed.confidence > 0 ? rv_fastgrnn_tails[r->routed.hot_tail] : 0;
	if (rv_realtime_before_request(&s->realtime, &seen, &r->plan) != RV_OK)
		rv_sona_warn(s, "realtime optimiser");
}

/* BaseLoRA alone: what the request decodes with when MicroLoRA is left out. */
static rv_status decode_plainly(rv_sona *s, rv_sona_attachment *a) {
	rv_adapter *base;
	RV_TRY(rv_instant_snapshot(s->instant, &base, NULL));
	rv_status st = RV_OK;
	if (a->follows || base != a->plain) {
		const rv_adapter_use use = {base, 1};
		st = rv_context_swap_adapters(a->ctx, a->set, &use, base != NULL);
	}
	if (st != RV_OK) {
		rv_adapter_release(base);
		return st;
	}
	rv_adapter_release(a->plain);
	a->plain = base;
	a->follows = 0;
	return RV_OK;
}

/* The context's set follows what is learnt, or not, while no other request depends on it. */
static rv_status switch_learning(rv_sona *s, rv_sona_attachment *a, rv_sona_record *r) {
	if (a->n_active > 0) {
		r->plan.micro_lora = a->follows;
		return RV_OK;
	}
	if (!r->plan.micro_lora)
		return decode_plainly(s, a);
	if (!a->follows)
		RV_TRY(rv_context_follow_slot(a->ctx, a->set, s->slot, 1));
	a->follows = 1;
	return RV_OK;
}

/* A place for its states, at need that of the oldest request nobody has rated yet. */
static rv_status begin_capture(rv_sona *s, rv_sona_attachment *a, const rv_sona_request *request) {
	rv_status st = rv_capture_begin(a->capture, request->seq, request->first);
	if (st != RV_ERR_LIMIT)
		return st;
	rv_captured *held = rv_sona_records_reclaim(s, a);
	if (!held)
		return RV_OK; /* served without being captured */
	rv_captured_release(held);
	st = rv_capture_begin(a->capture, request->seq, request->first);
	return st == RV_ERR_LIMIT ? RV_OK : st;
}

/* With the lock held. */
static rv_status enter(rv_sona *s, rv_context *ctx, rv_sona_record *r, const rv_sona_request *request,
                       double mean_quality, const rv_policy *policy) {
	rv_sona_attachment *a = find_attachment(s, ctx);
	if (!a)
		return rv_fail(RV_ERR_NOT_FOUND, "SONA: the context is not attached");
	r->attachment = a;
	rv_uuid_v4(&s->rng, r->id);
	plan_request(s, r, request, mean_quality, policy);
	RV_TRY(switch_learning(s, a, r));
	RV_TRY(begin_capture(s, a, request));
	rv_status st = rv_sona_record_add(s, r);
	if (st != RV_OK) {
		rv_capture_cancel(a->capture, request->seq);
		return st;
	}
	a->n_active++;
	s->stats.n_begun++;
	return RV_OK;
}

rv_status rv_sona_begin(rv_sona *s, rv_context *ctx, const rv_sona_request *request,
                        char id[RV_UUID_TEXT], rv_realtime_plan *plan) {
	rv_sona_record *r;
	rv_policy policy = {.origin = RV_POLICY_UNAVAILABLE};
	double mean_quality;
	RV_TRY(new_record(s, request, &r));
	rv_sona_look_up(s, r, request, &mean_quality);
	if (s->policies && rv_policies_get(s->policies, RV_POLICY_QUANTIZATION, &policy) != RV_OK)
		rv_sona_warn(s, "policy");
	pthread_mutex_lock(&s->lock);
	rv_status st = enter(s, ctx, r, request, mean_quality, &policy);
	if (st == RV_OK) {
		memcpy(id, r->id, RV_UUID_TEXT);
		if (plan)
			*plan = r->plan;
	}
	pthread_mutex_unlock(&s->lock);
	rv_policy_deinit(&policy);
	if (st != RV_OK)
		rv_sona_record_free(r);
	return st;
}
