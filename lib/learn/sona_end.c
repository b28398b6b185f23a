/* The end of requests, their ratings, and what is learnt from them. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- learning from one that is rated ---- */

static void learn(rv_sona *s, rv_sona_record *r, rv_captured *captured, const char *before, int update,
                  rv_sona_report *report) {
	report->quality = r->quality;
	report->source = r->source;
	if (!captured || captured->n_tokens == 0) {
		report->instant.outcome = RV_INSTANT_NOTHING;
	} else if (!s->o.instant) {
		report->instant.outcome = RV_INSTANT_OFF;
	} else if (!update) {
		report->instant.outcome = RV_INSTANT_BELOW;
	} else if (rv_instant_learn(s->instant, captured, r->quality, r->source, &report->instant) !=
	           RV_OK) {
		rv_sona_warn(s, "instant update");
		report->instant.outcome = RV_INSTANT_NOTHING;
	}
	report->n_edges = rv_sona_reinforce(s, r, before, r->quality >= s->o.instant_how.threshold);
}

/* With the lock held: what the loops learn from the rating. */
static void note_rating(rv_sona *s, rv_sona_record *r) {
	s->stats.n_rated++;
	s->stats.quality_sum += r->quality;
	if (r->source != RV_QUALITY_LIKELIHOOD)
		rv_sona_rated_pair(s, r->likelihood, r->quality);
	int slot = r->model_index;
	if (slot < 0 || slot >= RV_FASTGRNN_SLOTS)
		return;
	int good = r->quality >= s->o.instant_how.threshold;
	float share = s->n_slot[slot]++ ? 0.1f : 1;
	float ms = (float)(1e-6 * (double)(rv_now_ns() - r->begun_ns));
	s->success[slot] += share * ((float)good - s->success[slot]);
	s->latency_ms[slot] += share * (ms - s->latency_ms[slot]);
	if (!r->has_embedding)
		return;
	/* A slot that answered well was right; one that did not was too small. */
	rv_fastgrnn_example *e = &s->examples[s->n_examples++ % RV_SONA_EXAMPLES];
	e->input = r->features;
	e->target =
	        (rv_fastgrnn_decision){.slot = good || slot == RV_FASTGRNN_SLOTS - 1 ? slot : slot + 1,
	                               .temperature = 0.7f,
	                               .top_p = 0.9f,
	                               .kv_type = r->plan.kv_type == RV_KV_Q4   ? 2
	                                          : r->plan.kv_type == RV_KV_Q8 ? 1
	                                                                        : 0,
	                               .micro_lora = r->plan.micro_lora};
	while (e->target.context_bucket + 1 < RV_FASTGRNN_BUCKETS &&
	       rv_fastgrnn_buckets[e->target.context_bucket] < r->n_prompt)
		e->target.context_bucket++;
	while (e->target.hot_tail + 1 < RV_FASTGRNN_TAILS &&
	       rv_fastgrnn_tails[e->target.hot_tail] < r->plan.tail_tokens)
		e->target.hot_tail++;
}

/* ---- end ---- */

rv_sona_outcome rv_sona_outcome_defaults(void) {
	return (rv_sona_outcome){.quality = NAN, .model_index = -1};
}

static rv_status answer_text(const rv_sona *s, const int32_t *tokens, int64_t n, char **out) {
	const rv_tokenizer *tok = rv_model_tokenizer(s->model);
	char *text = NULL;
	size_t len = 0;
	if (tok && n > 0)
		RV_TRY(rv_tokenizer_decode(tok, tokens, (size_t)n, 0, 0, &text, &len));
	rv_status st = rv_sona_text(out, text, len, RV_SONA_TEXT, "(tokens)");
	rv_free(text);
	return st;
}

static rv_status check_rating(double quality, rv_quality_source source) {
	if (!rv_quality_ok(quality))
		return rv_fail(RV_ERR_INVALID, "quality %g is not within 0..1", quality);
	if ((int)source <= RV_QUALITY_NONE || source >= RV_QUALITY_COUNT)
		return rv_fail(RV_ERR_INVALID, "quality: source %d", (int)source);
	return RV_OK;
}

static rv_status check_tokens(const rv_sona *s, const int32_t *tokens, int64_t n, const char *what) {
	int64_t n_vocab = rv_model_hparams(s->model)->n_vocab;
	for (int64_t i = 0; i < n; i++)
		if (tokens[i] < 0 || tokens[i] >= n_vocab)
			return rv_fail(RV_ERR_INVALID, "%s: token %lld is %d, not below %lld", what,
			               (long long)i, tokens[i], (long long)n_vocab);
	return RV_OK;
}

/* The request before in the same session. */
static void previous_of(rv_sona *s, const rv_sona_record *r, char before[RV_UUID_TEXT]) {
	before[0] = 0;
	for (int64_t i = s->n_records; r->session_id[0] && i-- > 0;) {
		const rv_sona_record *other = s->records[i];
		if (other != r && other->state >= RV_RECORD_ENDED &&
		    strcmp(other->session_id, r->session_id) == 0) {
			memcpy(before, other->id, RV_UUID_TEXT);
			return;
		}
	}
}

static rv_sona_record *take_active(rv_sona *s, const char *id, char before[RV_UUID_TEXT]) {
	pthread_mutex_lock(&s->lock);
	rv_sona_record *r = rv_sona_record_find(s, id);
	if (r && r->state != RV_RECORD_ACTIVE)
		r = NULL;
	if (r) {
		r->state = RV_RECORD_ENDING;
		r->attachment->n_active--;
		previous_of(s, r, before);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

static rv_status push(rv_sona *s, rv_sona_record *r, const rv_sona_outcome *outcome, uint64_t version) {
	rv_served served = {.time_ms = r->begun_ms,
	                    .quality = r->quality,
	                    .source = r->source,
	                    .likelihood = r->likelihood,
	                    .version = version,
	                    .prompt = r->prompt,
	                    .answer = outcome->answer,
	                    .n_prompt = r->n_prompt,
	                    .n_answer = outcome->n_answer};
	memcpy(served.request_id, r->id, sizeof served.request_id);
	snprintf(served.session_id, sizeof served.session_id, "%.36s", r->session_id);
	return rv_trajectory_ring_push(s->ring, &served, &r->number);
}

static rv_realtime_steps steps_after(rv_sona *s, const rv_sona_record *r,
                                     const rv_sona_outcome *outcome) {
	const rv_realtime_after seen = {r->quality, outcome->tok_s, outcome->n_drafted,
	                                outcome->n_accepted};
	pthread_mutex_lock(&s->lock);
	rv_realtime_steps steps = rv_realtime_after_request(&s->realtime, &seen);
	pthread_mutex_unlock(&s->lock);
	return steps;
}

static void rate_by_likelihood(rv_sona *s, rv_sona_record *r) {
	if (!isnan(r->quality) || !s->o.use_likelihood || isnan(r->likelihood))
		return;
	pthread_mutex_lock(&s->lock);
	r->quality = rv_sona_calibrated(s, r->likelihood);
	pthread_mutex_unlock(&s->lock);
	r->source = RV_QUALITY_LIKELIHOOD;
}

/* With the lock held: where the record stands from now on. */
static void settle_record(rv_sona *s, rv_sona_record *r, rv_captured *captured, int record) {
	int rated = !isnan(r->quality);
	rv_free(r->prompt);
	r->prompt = NULL;
	s->stats.n_ended++;
	if (rated)
		note_rating(s, r);
	else
		r->captured = captured;
	r->state = !rated ? RV_RECORD_ENDED : record ? RV_RECORD_RATED : RV_RECORD_STORED;
	rv_sona_records_trim(s);
}

rv_status rv_sona_end(rv_sona *s, const char *id, const rv_sona_outcome *outcome,
                      rv_sona_report *report) {
	char before[RV_UUID_TEXT], *action;
	rv_sona_report own = {0};
	int64_t start = rv_now_ns();
	if (!isnan(outcome->quality))
		RV_TRY(check_rating(outcome->quality, outcome->source));
	RV_TRY(check_tokens(s, outcome->answer, outcome->n_answer, "answer"));
	if (outcome->text)
		RV_TRY(rv_sona_text(&action, outcome->text, outcome->len, RV_SONA_TEXT, "(nothing)"));
	else
		RV_TRY(answer_text(s, outcome->answer, outcome->n_answer, &action));
	rv_sona_record *r = take_active(s, id, before);
	if (!r) {
		rv_free(action);
		return rv_fail(RV_ERR_NOT_FOUND, "request '%.40s': none of that id is under way", id);
	}
	rv_captured *captured =
	        rv_capture_end(r->attachment->capture, r->seq, outcome->answer, outcome->n_answer);
	r->action = action;
	r->quality = outcome->quality;
	r->source = isnan(outcome->quality) ? RV_QUALITY_NONE : outcome->source;
	r->likelihood = captured ? captured->likelihood : NAN;
	r->model_index = outcome->model_index;
	rate_by_likelihood(s, r);
	rv_realtime_steps steps = steps_after(s, r, outcome);
	rv_status st = steps.record ? push(s, r, outcome, captured ? captured->version : 0) : RV_OK;
	own.quality = r->quality;
	own.rules = steps.fired;
	if (!isnan(r->quality))
		learn(s, r, captured, before, steps.update, &own);
	rv_sona_bear_witness(s, r, outcome);
	int keep = isnan(r->quality);
	pthread_mutex_lock(&s->lock);
	settle_record(s, r, captured, steps.record);
	pthread_mutex_unlock(&s->lock);
	if (!keep)
		rv_captured_release(captured);
	own.due = steps.triggers ? rv_sona_due(s, rv_sona_now(s)) : 0;
	rv_sona_wake(s);
	own.total_ns = rv_now_ns() - start;
	if (report)
		*report = own;
	return st;
}

void rv_sona_cancel(rv_sona *s, const char *id) {
	char before[RV_UUID_TEXT];
	rv_sona_record *r = take_active(s, id, before);
	if (!r)
		return;
	rv_capture_cancel(r->attachment->capture, r->seq);
	pthread_mutex_lock(&s->lock);
	s->stats.n_cancelled++;
	rv_sona_record_drop(s, r);
	pthread_mutex_unlock(&s->lock);
}

/* ---- feedback ---- */

static rv_status unknown(rv_sona *s, const char *id) {
	s->stats.n_unknown++;
	return rv_fail(RV_ERR_NOT_FOUND, "request '%.40s': unknown, still under way, or no longer kept",
	               id);
}

/* With the lock held: the rating into ring and record; its states, if they are still held. */
static rv_status rate(rv_sona *s, const char *id, double quality, rv_quality_source source,
                      const int32_t *correction, int64_t n_correction, rv_sona_record **out) {
	rv_sona_record *r = rv_sona_record_find(s, id);
	if (!r || r->state < RV_RECORD_ENDED)
		return unknown(s, id);
	if (r->number)
		RV_TRY(rv_trajectory_ring_rate(s->ring, id, quality, source, correction, n_correction));
	s->stats.n_feedback++;
	r->quality = quality;
	r->source = source;
	*out = r;
	return RV_OK;
}

/* A copy of the record to learn from without the lock; texts stay with the record. */
static void begin_learning(rv_sona_record *r, rv_sona_record *copy) {
	*copy = *r;
	copy->task = copy->action = copy->correction = NULL;
	copy->prompt = NULL;
	r->captured = NULL;
	if (copy->captured)
		r->attachment->n_busy++;
}

static void end_learning(rv_sona *s, rv_sona_record *copy) {
	if (!copy->captured)
		return;
	rv_captured_release(copy->captured);
	pthread_mutex_lock(&s->lock);
	copy->attachment->n_busy--;
	pthread_cond_broadcast(&s->idle);
	pthread_mutex_unlock(&s->lock);
}

rv_status rv_sona_feedback(rv_sona *s, const char *id, double quality, rv_quality_source source,
                           const int32_t *correction, int64_t n_correction, rv_sona_report *report) {
	rv_sona_report own = {0};
	rv_sona_record *r = NULL, *copy;
	char *text = NULL;
	int64_t start = rv_now_ns();
	RV_TRY(check_rating(quality, source));
	RV_TRY(check_tokens(s, correction, correction ? n_correction : 0, "correction"));
	RV_TRY(RV_ALLOC(&copy, 1, "request"));
	rv_status st = correction ? answer_text(s, correction, n_correction, &text) : RV_OK;
	pthread_mutex_lock(&s->lock);
	if (st == RV_OK)
		st = rate(s, id, quality, source, correction, n_correction, &r);
	if (st == RV_OK) {
		if (text) {
			rv_free(r->correction);
			r->correction = text;
			text = NULL;
		}
		note_rating(s, r);
		r->state = r->number ? RV_RECORD_RATED : RV_RECORD_STORED;
		const rv_realtime_after seen = {.quality = quality};
		rv_realtime_steps steps = rv_realtime_after_request(&s->realtime, &seen);
		own.rules = steps.fired;
		begin_learning(r, copy);
		pthread_mutex_unlock(&s->lock);
		learn(s, copy, copy->captured, NULL, steps.update, &own);
		end_learning(s, copy);
		own.due = steps.triggers ? rv_sona_due(s, rv_sona_now(s)) : 0;
		rv_sona_wake(s);
	} else {
		pthread_mutex_unlock(&s->lock);
	}
	rv_free(text);
	rv_free(copy);
	own.total_ns = rv_now_ns() - start;
	if (st == RV_OK && report)
		*report = own;
	return st;
}
