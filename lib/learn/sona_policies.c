/* Policies: what the loops found, as settings that the next process reads (memory/policies.h). */
#include "base/json.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PLANS = 32, MAX_FISHER = 256 };

/* How requests went under one plan. */
typedef struct plan_score {
	char kv_policy[32];
	int64_t tail_tokens, n;
	double quality; /* sum */
} plan_score;

/* What the last rows of the bank say. */
typedef struct findings {
	float centre[RV_EMBEDDING_DIM]; /* sum of their vectors */
	int64_t n;
	double quality; /* mean */
	plan_score plans[MAX_PLANS];
	int n_plans;
	double confidence;
	int slot;
} findings;

static void note_plan(findings *f, const char *kv_policy, int64_t tail, double quality) {
	int i = 0;
	while (i < f->n_plans &&
	       (f->plans[i].tail_tokens != tail || strcmp(f->plans[i].kv_policy, kv_policy) != 0))
		i++;
	if (i == MAX_PLANS)
		return;
	f->n_plans += i == f->n_plans;
	snprintf(f->plans[i].kv_policy, sizeof f->plans[i].kv_policy, "%s", kv_policy);
	f->plans[i].tail_tokens = tail;
	f->plans[i].n++;
	f->plans[i].quality += quality;
}

static rv_status note_row(void *user, const rv_db_row *row) {
	findings *f = user;
	float vector[RV_EMBEDDING_DIM];
	const char *text = rv_row_text(row, 1);
	json_t *o = NULL;
	RV_TRY(rv_row_f32(row, 2, vector, RV_EMBEDDING_DIM));
	RV_TRY(rv_json_parse(text ? text : "{}", text ? strlen(text) : 2, "metadata", &o));
	const json_t *rated = json_object_get(o, "rated"), *tail = json_object_get(o, "tail_tokens");
	const char *kv_policy = json_string_value(json_object_get(o, "kv_policy"));
	if (json_is_number(rated) && rv_quality_ok(json_number_value(rated))) {
		const double quality = json_number_value(rated);
		f->n++;
		f->quality += quality;
		for (int i = 0; i < RV_EMBEDDING_DIM; i++)
			f->centre[i] += vector[i];
		if (json_is_integer(tail) && json_integer_value(tail) > 0)
			note_plan(f, kv_policy ? kv_policy : "", json_integer_value(tail), quality);
	}
	json_decref(o);
	return RV_OK;
}

typedef struct gathering {
	const rv_sona *s;
	findings *f;
} gathering;

static rv_status read_rows(void *user, rv_db *db) {
	const gathering *g = user;
	return RV_DB_QUERY(db, "trajectories", note_row, g->f,
	                   "SELECT key, metadata, embedding FROM trajectories"
	                   " WHERE variant = ?1 ORDER BY key DESC LIMIT ?2",
	                   RV_TEXT(rv_bank_variant_name(g->s->o.variant)),
	                   RV_INT(g->s->o.ring.capacity));
}

static rv_status gather(rv_sona *s, findings *f) {
	gathering g = {s, f};
	double best = -1;
	*f = (findings){.slot = -1};
	RV_TRY(rv_store_read(s->store, read_rows, &g));
	pthread_mutex_lock(&s->lock);
	for (int slot = 0; slot < RV_FASTGRNN_SLOTS; slot++)
		if (s->n_slot[slot] > 0 && (double)s->success[slot] > best) {
			best = (double)s->success[slot];
			f->slot = slot;
		}
	pthread_mutex_unlock(&s->lock);
	f->confidence = best > 0 ? best : 0;
	if (f->n > 0)
		f->quality /= (double)f->n;
	return RV_OK;
}

/* Of the plans whose answers are within a hundredth of the best, the one of the shortest tail. */
static const plan_score *best_plan(const findings *f) {
	static const plan_score none = {.tail_tokens = 256};
	const plan_score *found = NULL;
	double best = 0;
	for (int i = 0; i < f->n_plans; i++)
		best = fmax(best, f->plans[i].quality / (double)f->plans[i].n);
	for (int i = 0; i < f->n_plans; i++)
		if (f->plans[i].quality / (double)f->plans[i].n >= best - 0.01 &&
		    (!found || f->plans[i].tail_tokens < found->tail_tokens))
			found = &f->plans[i];
	return found ? found : &none;
}

static json_t *parameters(const rv_sona *s, rv_policy_type type, const findings *f) {
	const rv_bank_options bank = rv_bank_defaults(s->o.variant);
	const plan_score *plan = best_plan(f);
	json_t *o;
	switch (type) {
	case RV_POLICY_QUANTIZATION:
		o = json_pack("{s:s, s:I, s:f}", "precision", rv_model_type_name(s->model),
		              "tail_tokens", (json_int_t)plan->tail_tokens, "pressure_threshold",
		              s->o.rules.pressure);
		if (plan->kv_policy[0])
			json_object_set_new(o, "kv_policy", json_string(plan->kv_policy));
		return o;
	case RV_POLICY_ROUTER:
		return json_pack("{s:s, s:I, s:f, s:f, s:f}", "model",
		                 f->slot < 0 ? "nano" : rv_fastgrnn_slot_names[f->slot], "context_size",
		                 (json_int_t)rv_model_hparams(s->model)->n_ctx_train, "temperature",
		                 0.7, "top_p", 0.9, "confidence", f->confidence);
	case RV_POLICY_EWC:
		return json_pack("{s:f, s:f, s:I}", "lambda", s->o.tuning.lambda, "decay",
		                 s->o.fisher_decay, "observations",
		                 (json_int_t)(s->state.ewc ? rv_ewc_n_observations(s->state.ewc) : 0));
	default:
		return json_pack("{s:f, s:I, s:f, s:f}", "quality_threshold",
		                 s->o.instant_how.threshold, "capacity", (json_int_t)bank.capacity,
		                 "half_life_days", (double)bank.half_life_ms / 86400000.0,
		                 "mean_quality", f->quality);
	}
}

/* The Fisher diagonal in short: its mean a tensor. */
static size_t fisher_means(const rv_ewc *ewc, float out[MAX_FISHER]) {
	int64_t n = ewc ? rv_ewc_n_tensors(ewc) : 0;
	n = n < MAX_FISHER ? n : MAX_FISHER;
	for (int64_t i = 0; i < n; i++) {
		const rv_ewc_tensor t = rv_ewc_tensor_at(ewc, i);
		double sum = 0;
		for (int64_t j = 0; j < t.rows * t.cols; j++)
			sum += (double)t.fisher[j];
		out[i] = (float)(sum / (double)(t.rows * t.cols));
	}
	return (size_t)n;
}

/* One policy of this loop a type: the one before is replaced. */
static rv_status write_policy(rv_sona *s, rv_policy_type type, const findings *f) {
	rv_policy known, next = {.policy_type = type, .source = RV_SOURCE_BACKGROUND};
	float fisher[MAX_FISHER];
	json_t *o = parameters(s, type, f);
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	if (!text)
		return rv_fail(RV_ERR_NO_MEMORY, "policy: out of memory");
	rv_status st = rv_policies_get(s->policies, type, &known);
	if (st == RV_OK) {
		if (known.source == RV_SOURCE_BACKGROUND && known.origin != RV_POLICY_COLD_START &&
		    known.origin != RV_POLICY_UNAVAILABLE)
			memcpy(next.id, known.id, sizeof next.id);
		rv_policy_deinit(&known);
		next.embedding = f->centre;
		next.parameters = text;
		next.confidence = (float)((double)f->n / (double)(f->n + 20)); /* of 20: a half */
		if (type == RV_POLICY_EWC) {
			next.n_fisher = fisher_means(s->state.ewc, fisher);
			next.fisher_diagonal = next.n_fisher ? fisher : NULL;
		}
		st = rv_policies_put(s->policies, &next, NULL);
	}
	free(text);
	return st;
}

rv_status rv_sona_part_policies(rv_sona_pass *p, rv_sona_part_report *r) {
	rv_sona *s = p->s;
	findings f;
	if (!s->policies)
		return rv_sona_say(r, RV_PART_NA, "no store, no policies");
	RV_TRY(gather(s, &f));
	r->n = f.n;
	if (f.n == 0)
		return rv_sona_say(r, RV_PART_NOTHING, "no rated requests in the bank");
	for (int type = 0; type < RV_POLICY_COUNT; type++)
		RV_TRY(write_policy(s, (rv_policy_type)type, &f));
	r->after = f.quality;
	return rv_sona_say(
	        r, RV_PART_DONE,
	        "%d policies from %lld rated requests of mean quality %.3f; tail %lld tokens",
	        RV_POLICY_COUNT, (long long)f.n, f.quality, (long long)best_plan(&f)->tail_tokens);
}
