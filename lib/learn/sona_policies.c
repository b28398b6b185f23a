/* Policies: what the loops found, as settings that the next process reads (memory/policies.h). */
#include "base/json.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TAILS = 16, MAX_FISHER = 256 };

/* What the rated requests say, gathered under the lock. */
typedef struct findings {
	float centre[RV_EMBEDDING_DIM]; /* mean of their vectors */
	int64_t n_vectors, n;
	double quality;
	struct {
		int64_t tokens, n;
		double quality;
	} tails[MAX_TAILS];
	int n_tails;
	char kv_policy[32]; /* of the last */
	double temperature, top_p, confidence;
	int slot;
} findings;

static void note_tail(findings *f, int64_t tokens, double quality) {
	int i = 0;
	while (i < f->n_tails && f->tails[i].tokens != tokens)
		i++;
	if (i == MAX_TAILS)
		return;
	f->n_tails += i == f->n_tails;
	f->tails[i].tokens = tokens;
	f->tails[i].n++;
	f->tails[i].quality += quality;
}

static void gather(rv_sona *s, findings *f) {
	double best = -1;
	*f = (findings){.slot = -1};
	pthread_mutex_lock(&s->lock);
	for (int64_t i = 0; i < s->n_records; i++) {
		const rv_sona_record *r = s->records[i];
		if (r->state < RV_RECORD_RATED || isnan(r->quality))
			continue;
		f->n++;
		f->quality += r->quality;
		note_tail(f, r->plan.tail_tokens, r->quality);
		snprintf(f->kv_policy, sizeof f->kv_policy, "%s", r->plan.kv_policy);
		for (int j = 0; r->has_embedding && j < RV_EMBEDDING_DIM; j++)
			f->centre[j] += r->embedding[j];
		f->n_vectors += r->has_embedding;
	}
	for (int slot = 0; slot < RV_FASTGRNN_SLOTS; slot++)
		if (s->n_slot[slot] > 0 && (double)s->success[slot] > best) {
			best = (double)s->success[slot];
			f->slot = slot;
		}
	f->confidence = best > 0 ? best : 0;
	pthread_mutex_unlock(&s->lock);
	if (f->n > 0)
		f->quality /= (double)f->n;
}

/* The shortest tail whose answers are within a hundredth of the best. */
static int64_t best_tail(const findings *f) {
	double best = 0;
	int64_t tail = 256, least = INT64_MAX;
	for (int i = 0; i < f->n_tails; i++)
		best = fmax(best, f->tails[i].quality / (double)f->tails[i].n);
	for (int i = 0; i < f->n_tails; i++)
		if (f->tails[i].quality / (double)f->tails[i].n >= best - 0.01 &&
		    f->tails[i].tokens < least)
			tail = least = f->tails[i].tokens;
	return tail;
}

static json_t *parameters(const rv_sona *s, rv_policy_type type, const findings *f) {
	const rv_bank_options bank = rv_bank_defaults(s->o.variant);
	json_t *o;
	switch (type) {
	case RV_POLICY_QUANTIZATION:
		o = json_pack("{s:s, s:I, s:f}", "precision", rv_model_type_name(s->model),
		              "tail_tokens", (json_int_t)best_tail(f), "pressure_threshold",
		              s->o.rules.pressure);
		if (f->kv_policy[0])
			json_object_set_new(o, "kv_policy", json_string(f->kv_policy));
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
	gather(s, &f);
	r->n = f.n;
	if (f.n == 0 || f.n_vectors == 0)
		return rv_sona_say(r, RV_PART_NOTHING,
		                   "no rated requests with vectors in this process");
	for (int type = 0; type < RV_POLICY_COUNT; type++)
		RV_TRY(write_policy(s, (rv_policy_type)type, &f));
	r->after = f.quality;
	return rv_sona_say(
	        r, RV_PART_DONE,
	        "%d policies from %lld rated requests of mean quality %.3f; tail %lld tokens",
	        RV_POLICY_COUNT, (long long)f.n, f.quality, (long long)best_tail(&f));
}
