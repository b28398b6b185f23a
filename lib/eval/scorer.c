/* Scores of token ids: what is shared, what is evaluated together, and the arithmetic. */
#include "eval/scorer.h"

#include "base/mem.h"
#include "engine/sampler.h"
#include "eval/logits.h"
#include "eval/scorer_internal.h"

#include <string.h>

/* ---- creation ---- */

rv_scorer_options rv_scorer_defaults(void) {
	return (rv_scorer_options){.context = rv_context_defaults(), .n_parallel = 8};
}

/* Has the budget of pages room for every sequence at its full length? */
static int holds_all(const rv_context *ctx) {
	rv_kv_stats stats;
	rv_context_kv_stats(ctx, &stats);
	return stats.budget_bytes >= stats.reserved_bytes;
}

/* The context, with as many sequences as memory allows. */
static rv_status create_context(rv_scorer *s, rv_model *model, const rv_scorer_options *options) {
	rv_context_options o = options->context;
	o.n_ctx = options->max_length;
	o.n_seqs = options->no_sharing ? 1 : options->n_parallel;
	for (;;) {
		rv_status status = rv_context_create(&s->ctx, model, &o);
		if (status == RV_OK && o.n_seqs > 1 && !holds_all(s->ctx)) {
			rv_context_destroy(s->ctx);
			s->ctx = NULL;
			status = RV_ERR_NO_MEMORY;
		}
		if (status != RV_ERR_NO_MEMORY || o.n_seqs <= 1)
			return status;
		o.n_seqs /= 2;
		rv_logf(&o.log, RV_LOG_WARN,
		        "memory suffices for %d continuations at once at most, not %d", o.n_seqs,
		        options->n_parallel);
	}
}

static rv_status create_into(rv_scorer *s, rv_model *model, const rv_scorer_options *options) {
	s->tok = rv_model_tokenizer(model);
	if (s->tok == NULL)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: has no tokenizer, texts cannot be scored",
		               rv_model_path(model));
	RV_TRY(create_context(s, model, options));
	const rv_context_options *o = rv_context_get_options(s->ctx);
	s->max_length = o->n_ctx;
	s->n_batch = o->n_batch;
	s->n_vocab = rv_model_hparams(model)->n_vocab;
	s->no_sharing = options->no_sharing;
	s->counts.n_parallel = o->n_seqs;
	RV_TRY(RV_ALLOC(&s->held, s->max_length, "scorer"));
	RV_TRY(RV_ALLOC(&s->rows, s->n_batch, "scorer"));
	return RV_ALLOC(&s->targets, s->n_batch, "scorer");
}

rv_status rv_scorer_create(rv_scorer **out, rv_model *model, const rv_scorer_options *options) {
	rv_scorer_options defaults = rv_scorer_defaults();
	rv_scorer *s;
	*out = NULL;
	RV_TRY(RV_ALLOC(&s, 1, "scorer"));
	rv_status status = create_into(s, model, options != NULL ? options : &defaults);
	if (status != RV_OK) {
		rv_scorer_destroy(s);
		return status;
	}
	*out = s;
	return RV_OK;
}

void rv_scorer_destroy(rv_scorer *s) {
	if (s == NULL)
		return;
	rv_context_destroy(s->ctx);
	rv_free(s->held);
	rv_free(s->rows);
	rv_free(s->targets);
	rv_free(s);
}

rv_context *rv_scorer_context(rv_scorer *s) {
	return s->ctx;
}
int64_t rv_scorer_max_length(const rv_scorer *s) {
	return s->max_length;
}
rv_scorer_counts rv_scorer_get_counts(const rv_scorer *s) {
	return s->counts;
}

/* ---- what sequence 0 holds ---- */

void rv_scorer_forget(rv_scorer *s) {
	for (int32_t seq = 0; seq < s->counts.n_parallel; seq++)
		rv_seq_truncate(s->ctx, seq, 0);
	s->n_held = 0;
	s->n_rows = 0;
}

int64_t rv_scorer_common(const rv_scorer *s, const int32_t *ids, int64_t n) {
	int64_t same = 0;
	while (!s->no_sharing && same < n && same < s->n_held && s->held[same] == ids[same])
		same++;
	return same;
}

rv_status rv_scorer_begin(rv_scorer *s, int32_t seq, int64_t length) {
	if (seq == 0)
		s->n_held = length;
	return rv_seq_copy(s->ctx, 0, seq, length);
}

/* ---- rows waiting to be evaluated ---- */

static void add_position(rv_score *score, const float *logits, double norm, int64_t top,
                         int32_t token) {
	score->logprob += logits[token] - norm;
	score->is_greedy = score->is_greedy && top == token;
}

rv_status rv_scorer_flush(rv_scorer *s) {
	int64_t n = s->n_rows;
	s->n_rows = 0;
	RV_TRY(rv_context_eval(s->ctx, s->rows, n));
	s->counts.n_evaluated += n;
	for (int64_t i = 0; i < n; i++) {
		const rv_row *row = &s->rows[i];
		const float *logits = rv_context_logits(s->ctx, i);
		if (row->seq == 0) {
			s->held[row->position] = row->token;
			s->n_held = row->position + 1;
		}
		if (logits != NULL && s->targets[i].score != NULL)
			add_position(s->targets[i].score, logits, rv_log_sum_exp(logits, s->n_vocab),
			             rv_argmax(logits, s->n_vocab), s->targets[i].token);
	}
	return RV_OK;
}

rv_status rv_scorer_push(rv_scorer *s, int32_t seq, int64_t position, int32_t token, int32_t flags,
                         rv_scorer_target target) {
	if (s->n_rows == s->n_batch)
		RV_TRY(rv_scorer_flush(s));
	s->rows[s->n_rows] = (rv_row){.token = token,
	                              .seq = seq,
	                              .position = (int32_t)position,
	                              .parent = -1,
	                              .flags = flags};
	s->targets[s->n_rows++] = target;
	return RV_OK;
}

rv_status rv_scorer_continue(rv_scorer *s, int32_t seq, const int32_t *ids, int64_t n,
                             const float **logits) {
	for (int64_t i = rv_seq_length(s->ctx, seq); i < n; i++)
		RV_TRY(rv_scorer_push(s, seq, i, ids[i], i == n - 1 ? RV_ROW_LOGITS : 0,
		                      (rv_scorer_target){0}));
	int64_t last = s->n_rows - 1;
	RV_TRY(rv_scorer_flush(s));
	*logits = rv_context_logits(s->ctx, last);
	return RV_OK;
}

/* ---- continuations of one context ---- */

/* Tokens at the beginning of its context that a continuation leaves no room for. The last token is not
 * fed to the model, so one more than max_length has room. */
static int64_t cut_of(const rv_scorer *s, const rv_score_ids *r) {
	int64_t over = (int64_t)(r->n_context + r->n_continuation) - (s->max_length + 1);
	return over > 0 ? over : 0;
}

/* A continuation after its first token, in a sequence that begins as the first `at` tokens of sequence
 * 0: in itself for the first one, which the last step of score_cut takes back. */
static rv_status push_branch(rv_scorer *s, const rv_score_ids *r, int32_t seq, int64_t at,
                             rv_score *score) {
	if (seq > 0)
		RV_TRY(rv_scorer_begin(s, seq, at));
	for (size_t i = 0; i + 1 < r->n_continuation; i++)
		RV_TRY(rv_scorer_push(s, seq, at + (int64_t)i, r->continuation[i], RV_ROW_LOGITS,
		                      (rv_scorer_target){score, r->continuation[i + 1]}));
	return RV_OK;
}

/* Scores those of the group whose context is cut by `cut` tokens: one pass for the context, whose last
 * row predicts every first token, then the other tokens, n_parallel continuations at once. */
static rv_status score_cut(rv_scorer *s, const rv_score_ids *group, size_t n, int64_t cut,
                           rv_score *out) {
	const float *logits;
	int64_t trunk = (int64_t)group->n_context - cut;
	int32_t seq = 0;
	const int32_t *context = group->context + cut;
	RV_TRY(rv_scorer_begin(s, 0, rv_scorer_common(s, context, trunk - 1)));
	RV_TRY(rv_scorer_continue(s, 0, context, trunk, &logits));
	double norm = rv_log_sum_exp(logits, s->n_vocab);
	int64_t top = rv_argmax(logits, s->n_vocab);
	for (size_t i = 0; i < n; i++) {
		const rv_score_ids *r = &group[i];
		if (cut_of(s, r) != cut)
			continue;
		out[i] = (rv_score){
		        .is_greedy = 1, .n_tokens = (int32_t)r->n_continuation, .n_cut = (int32_t)cut};
		add_position(&out[i], logits, norm, top, r->continuation[0]);
	}
	for (size_t i = 0; i < n; i++) {
		if (cut_of(s, &group[i]) != cut || group[i].n_continuation < 2)
			continue;
		if (seq == s->counts.n_parallel) {
			RV_TRY(rv_scorer_flush(s));
			RV_TRY(rv_scorer_begin(s, 0, trunk));
			seq = 0;
		}
		RV_TRY(push_branch(s, &group[i], seq++, trunk, &out[i]));
	}
	RV_TRY(rv_scorer_flush(s));
	return rv_scorer_begin(s, 0, trunk);
}

static rv_status check_ids(const rv_scorer *s, const int32_t *ids, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (ids[i] < 0 || ids[i] >= s->n_vocab)
			return rv_fail(RV_ERR_INVALID, "token %d is not in [0, %lld)", ids[i],
			               (long long)s->n_vocab);
	return RV_OK;
}

static rv_status check_group(const rv_scorer *s, const rv_score_ids *group, size_t n) {
	RV_TRY(check_ids(s, group->context, group->n_context));
	for (size_t i = 0; i < n; i++) {
		if (group[i].n_context == 0 || group[i].n_continuation == 0)
			return rv_fail(RV_ERR_INVALID, "continuation %zu: %s has no token", i,
			               group[i].n_context == 0 ? "its context" : "it");
		if (group[i].n_continuation > (size_t)s->max_length)
			return rv_fail(RV_ERR_LIMIT,
			               "continuation %zu: its %zu tokens exceed the context of %lld", i,
			               group[i].n_continuation, (long long)s->max_length);
		RV_TRY(check_ids(s, group[i].continuation, group[i].n_continuation));
	}
	return RV_OK;
}

static rv_status score_group(rv_scorer *s, const rv_score_ids *group, size_t n, rv_score *out) {
	for (size_t i = 0; i < n; i++) {
		int seen = 0;
		for (size_t j = 0; j < i && !seen; j++)
			seen = cut_of(s, &group[j]) == cut_of(s, &group[i]);
		if (s->no_sharing)
			RV_TRY(score_cut(s, &group[i], 1, cut_of(s, &group[i]), &out[i]));
		else if (!seen)
			RV_TRY(score_cut(s, group, n, cut_of(s, &group[i]), out));
	}
	return RV_OK;
}

rv_status rv_scorer_group(rv_scorer *s, const rv_score_ids *group, size_t n, rv_score *out) {
	RV_TRY(check_group(s, group, n));
	rv_status status = score_group(s, group, n, out);
	if (status != RV_OK) {
		rv_scorer_forget(s);
		return status;
	}
	for (size_t i = 0; i < n; i++) {
		int64_t all = (int64_t)(group[i].n_context + group[i].n_continuation) - 1;
		s->counts.n_requested += all - out[i].n_cut;
		s->counts.n_cut += out[i].n_cut > 0;
		s->counts.n_scores++;
	}
	return RV_OK;
}

static int same_context(const rv_score_ids *a, const rv_score_ids *b) {
	return a->n_context == b->n_context &&
	       (a->context == b->context ||
	        memcmp(a->context, b->context, a->n_context * sizeof *a->context) == 0);
}

rv_status rv_scorer_loglikelihood_ids(rv_scorer *s, const rv_score_ids *requests, size_t n,
                                      rv_score *out) {
	for (size_t i = 0, m; i < n; i += m) {
		m = 1;
		while (i + m < n && same_context(&requests[i], &requests[i + m]))
			m++;
		RV_TRY(rv_scorer_group(s, requests + i, m, out + i));
	}
	return RV_OK;
}
