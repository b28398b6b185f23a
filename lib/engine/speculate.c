#include "engine/speculate.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/context_internal.h"
#include "engine/kv_policy.h"
#include "engine/speculate_internal.h"

enum { MIN_ADAPTIVE = 2, FIRST_ADAPTIVE = 4 };

const char *const rv_spec_drafts[] = {"model", "tree", "lookup", NULL};
const char *const rv_spec_rules[] = {"threshold", "exact", "greedy", NULL};

rv_spec_options rv_spec_defaults(void) {
	return (rv_spec_options){.draft = RV_SPEC_MODEL,
	                         .rule = RV_SPEC_EXACT,
	                         .k = 4,
	                         .confidence = 0.5,
	                         .width = 2,
	                         .threshold = 0.7,
	                         .ngram_max = 4,
	                         .ngram_min = 2};
}

/* ---- creation ---- */

static rv_status in_bounds(const char *name, double v, double min, double max) {
	return v >= min && v <= max
	               ? RV_OK
	               : rv_fail(RV_ERR_INVALID, "speculation option %s: %g is not in [%g, %g]", name,
	                         v, min, max);
}

static rv_status check_options(const rv_spec_options *o) {
	RV_TRY(in_bounds("draft", o->draft, 0, RV_SPEC_DRAFT_COUNT - 1));
	RV_TRY(in_bounds("rule", o->rule, 0, RV_SPEC_RULE_COUNT - 1));
	RV_TRY(in_bounds("k", o->k, 0, RV_SPEC_MAX_K));
	RV_TRY(in_bounds("confidence", o->confidence, 0, 1));
	RV_TRY(in_bounds("width", o->width, 2, RV_SPEC_MAX_WIDTH));
	RV_TRY(in_bounds("threshold", o->threshold, 1e-9, 1));
	RV_TRY(in_bounds("ngram_min", o->ngram_min, 1, 64));
	return in_bounds("ngram_max", o->ngram_max, o->ngram_min, 64);
}

/* Most depths of a draft. */
static int most_k(const rv_spec_options *o) {
	return o->k ? o->k : RV_SPEC_MAX_K;
}

static rv_status check_tree(const rv_spec_options *o, const rv_context *ctx) {
	int n_draft = rv_context_get_options(ctx)->n_draft, need = o->width * most_k(o);
	if (o->draft != RV_SPEC_TREE || n_draft >= need)
		return RV_OK;
	return rv_fail(RV_ERR_INVALID,
	               "speculation: %s: a tree of %d tokens, but its context holds %d (n_draft)",
	               rv_model_path(rv_context_model(ctx)), need, n_draft);
}

static rv_status check_contexts(const rv_speculator *s) {
	const rv_spec_options *o = &s->options;
	if (s->target->scheduled || (s->draft && s->draft->scheduled))
		return rv_fail(RV_ERR_UNSUPPORTED, "speculation: the context's sequences are a "
		                                   "scheduler's, which does not decode speculatively");
	if (rv_seq_length(s->target, o->seq) < 0)
		return rv_fail(RV_ERR_INVALID, "speculation: sequence %d does not exist", o->seq);
	const rv_kv_policy *policy = rv_context_get_options(s->target)->kv_policy;
	if (policy && policy->n_tiers > 0)
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "speculation: KV policy %s stores pages by the length of the text, and "
		               "tokens that are rejected would count",
		               policy->name);
	if (o->draft == RV_SPEC_LOOKUP)
		return RV_OK;
	if (!s->draft || s->draft == s->target)
		return rv_fail(RV_ERR_INVALID,
		               "speculation: the draft model needs a context of its own");
	if (rv_seq_length(s->draft, o->draft_seq) < 0)
		return rv_fail(RV_ERR_INVALID, "speculation: sequence %d of the draft does not exist",
		               o->draft_seq);
	RV_TRY(check_tree(o, s->target));
	RV_TRY(check_tree(o, s->draft));
	rv_status status =
	        rv_model_same_vocabulary(rv_context_model(s->draft), rv_context_model(s->target));
	return status == RV_OK ? status : rv_fail_in(status, "draft");
}

static rv_status allocate(rv_speculator *s) {
	s->cap = rv_context_get_options(s->target)->n_ctx + 1;
	s->n_rows = RV_SPEC_MAX_NODES + 1 + RV_SPEC_MAX_K;
	if (s->draft && rv_context_get_options(s->draft)->n_batch > s->n_rows)
		s->n_rows = rv_context_get_options(s->draft)->n_batch;
	RV_TRY(RV_ALLOC(&s->tokens, s->cap, "speculation"));
	RV_TRY(RV_ALLOC(&s->rows, s->n_rows, "speculation"));
	RV_TRY(RV_ALLOC(&s->p, s->n_vocab, "speculation"));
	return s->options.sampled ? RV_ALLOC(&s->drawn, RV_SPEC_MAX_K * s->n_vocab, "speculation")
	                          : RV_OK;
}

static rv_status create_into(rv_speculator *s, rv_context *target, rv_context *draft) {
	const rv_context_options *o = rv_context_get_options(target);
	RV_TRY(check_options(&s->options));
	s->target = target;
	s->draft = s->options.draft == RV_SPEC_LOOKUP ? NULL : draft;
	s->n_vocab = rv_model_hparams(rv_context_model(target))->n_vocab;
	s->softmax = rv_kernels_for(o->backend == RV_BACKEND_REF ? RV_LEVEL_REF : o->level)->softmax;
	RV_TRY(check_contexts(s));
	RV_TRY(allocate(s));
	return rv_speculator_reset(s);
}

static void release(rv_speculator *s) {
	rv_free(s->tokens);
	rv_free(s->rows);
	rv_free(s->p);
	rv_free(s->drawn);
	rv_free(s);
}

static void count_in(rv_speculator *s, int change) {
	s->target->n_speculators += change;
	if (s->draft)
		s->draft->n_speculators += change;
}

rv_status rv_speculator_create(rv_speculator **out, rv_context *target, rv_context *draft,
                               const rv_spec_options *options) {
	rv_speculator *s;
	*out = NULL;
	RV_TRY(RV_ALLOC(&s, 1, "speculation"));
	s->options = options ? *options : rv_spec_defaults();
	rv_status status = create_into(s, target, draft);
	if (status != RV_OK) {
		release(s);
		return status;
	}
	count_in(s, 1);
	*out = s;
	return RV_OK;
}

void rv_speculator_destroy(rv_speculator *s) {
	if (!s)
		return;
	count_in(s, -1);
	release(s);
}

rv_status rv_speculator_reset(rv_speculator *s) {
	rv_rng_stream(&s->rng, s->options.seed, 1); /* the sampler has stream 0's numbers */
	s->stats = (rv_spec_stats){0};
	s->limit = FIRST_ADAPTIVE;
	s->n_tokens = s->root_size = 0;
	s->n = s->n_path = s->n_read = s->n_held = s->walking = 0;
	return s->draft ? rv_seq_truncate(s->draft, s->options.draft_seq, 0) : RV_OK;
}

double rv_spec_tokens_a_round(const rv_spec_stats *s) {
	double rounds = (double)(s->rounds + s->plain_rounds);
	return (rounds + (double)s->accepted) / rounds;
}

double rv_spec_drafted_a_round(const rv_spec_stats *s) {
	int64_t depths = 0;
	for (int i = 0; i < RV_SPEC_MAX_K; i++)
		depths += s->drafted_at[i];
	return (double)depths / (double)(s->rounds + s->plain_rounds);
}

const rv_spec_stats *rv_speculator_stats(const rv_speculator *s) {
	return &s->stats;
}
const rv_spec_options *rv_speculator_options(const rv_speculator *s) {
	return &s->options;
}
rv_context *rv_speculator_target(const rv_speculator *s) {
	return s->target;
}

/* ---- rounds ---- */

/* The walk begins at the last chosen token, whose logits are (or will be) row `row` of the target's
 * last evaluation. */
static void place_root(rv_speculator *s, int64_t row) {
	s->node[0] = (rv_spec_node){.token = s->tokens[s->n_tokens - 1], .q = 1, .path = 1};
	s->root_size = s->n_tokens;
	s->root_row = row;
	s->n = s->at = s->n_path = 0;
	s->is_drawn = 0;
}

rv_status rv_speculator_begin(rv_speculator *s, const int32_t *tokens, int64_t n, int64_t row) {
	int64_t length = rv_seq_length(s->target, s->options.seq);
	if (n < 1 || length < n || length - n > s->n_tokens)
		return rv_fail(RV_ERR_INVALID,
		               "speculation: sequence %d holds %lld tokens, %lld of them unknown",
		               s->options.seq, (long long)length, (long long)(length - s->n_tokens));
	s->n_tokens = length - n;
	RV_TRY(rv_spec_draft_commit(s));
	for (int64_t i = 0; i < n; i++)
		s->tokens[s->n_tokens++] = tokens[i];
	place_root(s, row);
	s->walking = 1;
	return RV_OK;
}

/* What was not chosen is forgotten, on both sides. */
static rv_status commit(rv_speculator *s) {
	int32_t seq = s->options.seq;
	int64_t keep = s->n_tokens - 1;
	RV_TRY(rv_spec_draft_commit(s));
	if (s->n_held > 0) {
		int n = (int)(keep - s->root_size);
		s->n_held = 0;
		RV_TRY(rv_spec_accept_path(s->target, seq, s->target_base, s->path, n > 0 ? n : 0));
	}
	return rv_seq_length(s->target, seq) > keep ? rv_seq_truncate(s->target, seq, keep) : RV_OK;
}

static int least(int a, int64_t b) {
	return b < a ? (b > 0 ? (int)b : 0) : a;
}

/* Tokens to draft now. */
static int lookahead(const rv_speculator *s, const rv_sampler *sampler, int64_t most) {
	const rv_spec_options *o = &s->options;
	const rv_context_options *target = rv_context_get_options(s->target);
	if (!o->force && rv_sampler_get_options(sampler)->temperature > RV_SPEC_MAX_TEMPERATURE)
		return 0;
	int width = o->draft == RV_SPEC_TREE ? o->width : 1;
	int k = least(o->k ? o->k : s->limit, most - 1);
	k = least(k, target->n_ctx - s->n_tokens);
	k = least(k, (target->n_batch - 1) / width);
	return s->draft ? least(k, rv_context_get_options(s->draft)->n_ctx - s->n_tokens) : k;
}

static rv_status draft(rv_speculator *s, rv_sampler *sampler, int k) {
	int64_t start = rv_now_ns();
	rv_status status = rv_spec_draft_fill(s, sampler, k);
	s->stats.draft_ns += rv_now_ns() - start;
	if (status == RV_ERR_LIMIT) { /* no room for a draft: the target goes on alone */
		s->n = 0;
		return RV_OK;
	}
	return status == RV_OK || !s->draft
	               ? status
	               : rv_fail_in(status, rv_model_path(rv_context_model(s->draft)));
}

static rv_row target_row(const rv_speculator *s, int32_t token, int64_t position, int32_t parent) {
	return (rv_row){.token = token,
	                .seq = s->options.seq,
	                .position = (int32_t)position,
	                .parent = parent,
	                .flags = RV_ROW_LOGITS};
}

/* What the target has not read up to the root, and all nodes of the draft, in one evaluation. A chain
 * stands in the sequence itself, to be cut where it was wrong; a tree beside it. */
static rv_status verify(rv_speculator *s) {
	int64_t start = rv_now_ns(), n = 0, at = rv_seq_length(s->target, s->options.seq);
	int tree = s->options.draft == RV_SPEC_TREE;
	for (; at < s->root_size; at++)
		s->rows[n++] = target_row(s, s->tokens[at], at, -1);
	s->root_row = n - 1;
	s->target_base = rv_context_n_drafts(s->target);
	for (int i = 1; i <= s->n; i++)
		s->rows[n++] =
		        target_row(s, s->node[i].token, s->root_size - 1 + s->node[i].depth,
		                   tree ? rv_spec_number(s->target_base, s->node[i].parent) : -1);
	rv_status status = rv_context_eval(s->target, s->rows, n);
	if (status == RV_ERR_LIMIT && s->n > 0) { /* of keys and values: perhaps there is for one */
		s->n = 0;
		status = rv_context_eval(s->target, s->rows, s->root_row + 1);
	}
	s->n_held = tree && status == RV_OK ? s->n : 0;
	s->stats.target_ns += rv_now_ns() - start;
	return status;
}

static void count_round(rv_speculator *s) {
	rv_spec_stats *stats = &s->stats;
	int deepest = s->n ? s->node[s->n].depth : 0;
	stats->rounds += s->n > 0;
	stats->plain_rounds += s->n == 0;
	stats->drafted += s->n;
	for (int depth = 0; depth < deepest; depth++)
		stats->drafted_at[depth]++;
}

static rv_status start_round(rv_speculator *s, rv_sampler *sampler, int64_t most) {
	RV_TRY(commit(s));
	place_root(s, 0);
	if (s->n_tokens >= s->cap)
		return rv_fail(RV_ERR_LIMIT, "sequence %d is full (%lld tokens)", s->options.seq,
		               (long long)(s->cap - 1));
	int k = lookahead(s, sampler, most);
	if (k > 0)
		RV_TRY(draft(s, sampler, k));
	RV_TRY(verify(s));
	count_round(s);
	s->walking = 1;
	return RV_OK;
}

/* Documented: the lookahead follows what is accepted. */
static void adapt(rv_speculator *s) {
	int whole = s->n_path > 0 && s->node[s->at].depth == s->node[s->n].depth;
	if (s->n == 0)
		return;
	s->limit += whole ? 2 : -1;
	s->limit = s->limit < MIN_ADAPTIVE    ? MIN_ADAPTIVE
	           : s->limit > RV_SPEC_MAX_K ? RV_SPEC_MAX_K
	                                      : s->limit;
}

rv_status rv_speculator_next(rv_speculator *s, rv_sampler *sampler, int64_t most, int32_t *id,
                             double *logprob) {
	int child;
	if (s->n_tokens < 1)
		return rv_fail(RV_ERR_INVALID, "speculation: the sequence has not begun");
	if (!s->walking)
		RV_TRY(start_round(s, sampler, most));
	const float *logits = rv_context_logits(s->target, s->root_row + s->at);
	if (!logits)
		return rv_fail(RV_ERR_INVALID, "speculation: row %lld of the target has no logits",
		               (long long)(s->root_row + s->at));
	RV_TRY(rv_spec_choose(s, sampler, logits, id, &child));
	if (logprob)
		*logprob = rv_logprob(logits, s->n_vocab, *id);
	s->tokens[s->n_tokens++] = *id;
	if (child) {
		s->path[s->n_path++] = child;
		s->at = child;
	} else {
		adapt(s);
		s->walking = 0;
	}
	return RV_OK;
}

rv_status rv_speculator_end(rv_speculator *s) {
	s->walking = 0;
	return s->n_tokens > 0 ? commit(s) : RV_OK;
}
