/* Where drafts come from. */
#include "engine/speculate_internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

rv_status rv_spec_probabilities(rv_speculator *s, rv_sampler *sampler, const float *logits, float *p) {
	if (rv_sampler_get_options(sampler)->temperature > 0)
		return rv_sampler_probabilities(sampler, logits, p);
	memcpy(p, logits, (size_t)s->n_vocab * sizeof *p);
	s->softmax(p, s->n_vocab);
	return RV_OK;
}

void rv_spec_add_node(rv_speculator *s, int parent, int32_t token, float q) {
	const rv_spec_node *from = &s->node[parent];
	s->node[++s->n] = (rv_spec_node){token, parent, from->depth + 1, q, from->path * q};
}

int rv_spec_goes_on(const rv_speculator *s, float path) {
	return s->options.k > 0 || (double)path >= s->options.confidence;
}

/* ---- the draft model ---- */

rv_status rv_spec_catch_up(rv_speculator *s, int64_t *row) {
	int64_t at = rv_seq_length(s->draft, s->options.draft_seq);
	while (at < s->root_size) {
		int64_t n = s->root_size - at < s->n_rows ? s->root_size - at : s->n_rows;
		for (int64_t i = 0; i < n; i++)
			s->rows[i] = (rv_row){.token = s->tokens[at + i],
			                      .seq = s->options.draft_seq,
			                      .position = (int32_t)(at + i),
			                      .parent = -1,
			                      .flags = at + i + 1 == s->root_size ? RV_ROW_LOGITS : 0};
		RV_TRY(rv_context_eval(s->draft, s->rows, n));
		at += n;
		*row = n - 1;
	}
	return RV_OK;
}

static rv_status propose(rv_speculator *s, rv_sampler *sampler, const float *logits) {
	float *p = s->p;
	int64_t x;
	if (s->options.sampled && rv_sampler_get_options(sampler)->temperature > 0) {
		p = s->drawn + s->n * s->n_vocab;
		RV_TRY(rv_sampler_probabilities(sampler, logits, p));
		s->is_drawn = 1;
		x = rv_spec_draw(s, p);
	} else {
		x = rv_argmax(logits, s->n_vocab);
		/* q is needed by a rule that compares, and to see when to stop. */
		if (s->options.rule == RV_SPEC_THRESHOLD || s->options.k == 0)
			RV_TRY(rv_spec_probabilities(s, sampler, logits, p));
		else
			p = NULL;
	}
	rv_spec_add_node(s, s->n, (int32_t)x, p ? p[x] : 1);
	return RV_OK;
}

/* A token is never dropped once it is drawn: that would favour those kept. */
static rv_status fill_chain(rv_speculator *s, rv_sampler *sampler, int k) {
	int64_t row = 0;
	RV_TRY(rv_spec_catch_up(s, &row));
	for (;;) {
		RV_TRY(propose(s, sampler, rv_context_logits(s->draft, row)));
		const rv_spec_node *last = &s->node[s->n];
		if (s->n == k || !rv_spec_goes_on(s, last->path))
			return RV_OK;
		const rv_row next = {.token = last->token,
		                     .seq = s->options.draft_seq,
		                     .position = (int32_t)(s->root_size - 1 + last->depth),
		                     .parent = -1,
		                     .flags = RV_ROW_LOGITS};
		RV_TRY(rv_context_eval(s->draft, &next, 1));
		row = 0;
	}
}

rv_status rv_spec_draft_commit(rv_speculator *s) {
	int32_t seq = s->options.draft_seq;
	int64_t keep = s->root_size + s->n_path;
	if (s->draft && s->n_read > 0) {
		int n = 0;
		while (n < s->n_path && s->path[n] <= s->n_read)
			n++;
		s->n_read = 0;
		RV_TRY(rv_spec_accept_path(s->draft, seq, s->draft_base, s->path, n));
	}
	if (keep > s->n_tokens)
		keep = s->n_tokens;
	return s->draft && rv_seq_length(s->draft, seq) > keep ? rv_seq_truncate(s->draft, seq, keep)
	                                                       : RV_OK;
}

/* ---- lookup ---- */

/* Where the last m tokens stood before, as late as possible: the place after them; -1: nowhere. */
static int64_t find_before(const rv_speculator *s, int64_t m) {
	const int32_t *tail = s->tokens + s->n_tokens - m;
	for (int64_t i = s->n_tokens - m - 1; i >= 0; i--)
		if (s->tokens[i + m - 1] == tail[m - 1] &&
		    memcmp(s->tokens + i, tail, (size_t)m * sizeof *tail) == 0)
			return i + m;
	return -1;
}

/* What followed may run into what is being drafted: a text that repeats itself goes on doing so. */
static rv_status fill_lookup(rv_speculator *s, rv_sampler *sampler, int k) {
	(void)sampler;
	for (int64_t m = s->options.ngram_max; m >= s->options.ngram_min; m--) {
		int64_t at = m < s->n_tokens ? find_before(s, m) : -1;
		if (at < 0)
			continue;
		for (int i = 0; i < k; i++, at++)
			rv_spec_add_node(s, s->n,
			                 at < s->n_tokens ? s->tokens[at]
			                                  : s->node[at - s->n_tokens + 1].token,
			                 1);
		return RV_OK;
	}
	return RV_OK;
}

rv_status rv_spec_draft_fill(rv_speculator *s, rv_sampler *sampler, int k) {
	static rv_status (*const sources[RV_SPEC_DRAFT_COUNT])(rv_speculator *, rv_sampler *, int) = {
	        [RV_SPEC_MODEL] = fill_chain,
	        [RV_SPEC_TREE] = rv_spec_fill_tree,
	        [RV_SPEC_LOOKUP] = fill_lookup,
	};
	return sources[s->options.draft](s, sampler, k);
}

/* ---- files ---- */

static int replaced(const char *path, const char *name, const char *by, char *out, size_t size) {
	const char *slash = strrchr(path, '/');
	const char *at = strstr(slash ? slash : path, name);
	int n = at ? snprintf(out, size, "%.*s%s%s", (int)(at - path), path, by, at + strlen(name))
	           : -1;
	return n > 0 && (size_t)n < size && access(out, R_OK) == 0;
}

rv_status rv_spec_find_draft(const char *model, char *out, size_t size) {
	static const char *const names[][2] = {{"nano", "pico"}, {"medium", "small"}};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (replaced(model, names[i][0], names[i][1], out, size))
			return RV_OK;
	return rv_fail(RV_ERR_NOT_FOUND,
	               "%s: no draft beside it (for nano a file named pico, for medium small)", model);
}
