/* Trees of the draft model: at each depth the most probable beginnings, level by level, each level one
 * evaluation. */
#include "engine/speculate_internal.h"

typedef struct candidate {
	int parent;
	int32_t token;
	float q, path;
} candidate;

/* A node besides a level's best is worth a row of verification only where it is that probable. */
#define LEAST_PATH 0.1f

/* Keeps the `width` best of what it is offered, best first; of equals the one offered first. */
static void offer(candidate *best, int *n, int width, candidate c) {
	int i = *n < width ? (*n)++ : width;
	if (i == width && best[--i].path >= c.path)
		return;
	for (; i > 0 && best[i - 1].path < c.path; i--)
		best[i] = best[i - 1];
	best[i] = c;
}

/* Children of `parent` among the best so far. */
static rv_status offer_children(rv_speculator *s, rv_sampler *sampler, const float *logits, int parent,
                                candidate *best, int *n) {
	RV_TRY(rv_spec_probabilities(s, sampler, logits, s->p));
	float from = s->node[parent].path;
	for (int64_t i = 0; i < s->n_vocab; i++) {
		float path = from * s->p[i];
		if (path > 0 && (*n < s->options.width || path > best[*n - 1].path))
			offer(best, n, s->options.width,
			      (candidate){parent, (int32_t)i, s->p[i], path});
	}
	return RV_OK;
}

/* Evaluates nodes [from, s->n] on the draft model as rows of its tree. */
static rv_status eval_level(rv_speculator *s, int from) {
	for (int i = from; i <= s->n; i++)
		s->rows[i - from] = (rv_row){.token = s->node[i].token,
		                             .seq = s->options.draft_seq,
		                             .position = (int32_t)(s->root_size - 1 + s->node[i].depth),
		                             .parent = rv_spec_number(s->draft_base, s->node[i].parent),
		                             .flags = RV_ROW_LOGITS};
	RV_TRY(rv_context_eval(s->draft, s->rows, s->n - from + 1));
	s->n_read = s->n;
	return RV_OK;
}

rv_status rv_spec_fill_tree(rv_speculator *s, rv_sampler *sampler, int k) {
	candidate best[RV_SPEC_MAX_WIDTH];
	int64_t row = 0;
	int from = 0; /* first node of the deepest level */
	RV_TRY(rv_spec_catch_up(s, &row));
	s->draft_base = rv_context_n_drafts(s->draft);
	for (int depth = 1;; depth++) {
		int n = 0, last = s->n;
		for (int i = from; i <= last; i++)
			RV_TRY(offer_children(s, sampler, rv_context_logits(s->draft, row + i - from),
			                      i, best, &n));
		while (n > 1 && best[n - 1].path < LEAST_PATH)
			n--;
		for (int i = 0; i < n; i++)
			rv_spec_add_node(s, best[i].parent, best[i].token, best[i].q);
		if (depth == k || n == 0 || !rv_spec_goes_on(s, best[0].path))
			return RV_OK;
		from = last + 1;
		RV_TRY(eval_level(s, from));
		row = 0;
	}
}

rv_status rv_spec_accept_path(rv_context *ctx, int32_t seq, int32_t base, const int *path, int n) {
	int32_t numbers[RV_SPEC_MAX_K];
	for (int i = 0; i < n; i++)
		numbers[i] = rv_spec_number(base, path[i]);
	rv_status status = rv_seq_accept(ctx, seq, numbers, n);
	/* no room for them in the cache: they are read again when there is */
	return status == RV_ERR_LIMIT ? rv_seq_accept(ctx, seq, NULL, 0) : status;
}
