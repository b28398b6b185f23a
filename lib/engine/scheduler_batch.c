/* Which rows are evaluated together: one of each sequence that decodes, then chunks of prompts. */
#include "engine/scheduler_internal.h"

static int64_t pending(const request *r) {
	return r->n_tokens - r->n_cached;
}

static void add_group(rv_scheduler *s, request *r, int64_t n) {
	s->groups[s->n_groups++] = (group){.r = r, .n = n};
	s->n_rows += n;
}

/* Groups of one set of adapters come to stand side by side, as their rows are computed together; within
 * a set they stay in their order. */
static void sort_groups(rv_scheduler *s) {
	int64_t place[RV_ADAPTER_SETS + 1] = {0};
	group *unsorted = s->groups;
	for (int64_t i = 0; i < s->n_groups; i++)
		place[unsorted[i].r->ask.adapter + 1]++;
	for (int set = 0; set < RV_ADAPTER_SETS; set++)
		place[set + 1] += place[set];
	for (int64_t i = 0; i < s->n_groups; i++)
		s->spare[place[unsorted[i].r->ask.adapter]++] = unsorted[i];
	s->groups = s->spare;
	s->spare = unsorted;
}

static void write_rows(rv_scheduler *s) {
	rv_row *row = s->rows;
	for (group *g = s->groups; g < s->groups + s->n_groups; g++) {
		const request *r = g->r;
		g->first = row - s->rows;
		for (int64_t at = r->n_cached; at < r->n_cached + g->n; at++)
			*row++ = (rv_row){.token = r->tokens[at],
			                  .seq = r->seq,
			                  .position = (int32_t)at,
			                  .parent = -1,
			                  .adapter = r->ask.adapter,
			                  .flags = at + 1 == r->n_tokens ? RV_ROW_LOGITS : 0};
	}
}

/* Decoding rows, at most `most`; from where the last step stopped when there are more, so that each
 * sequence has its turn. Returns whether one lacked a page. */
static int add_decoding(rv_scheduler *s, int64_t most, int64_t *pages) {
	int32_t seq = s->next_seq < s->n_seqs ? s->next_seq : 0;
	int lacking = 0;
	for (int32_t i = 0; i < s->n_seqs && s->n_rows < most; i++, seq = (seq + 1) % s->n_seqs) {
		request *r = s->of_seq[seq];
		if (!r || pending(r) != 1)
			continue;
		int64_t need = rv_seq_pages_needed(s->ctx, seq, 1);
		if (need > *pages) {
			lacking = 1;
			continue;
		}
		*pages -= need;
		add_group(s, r, 1);
	}
	s->next_seq = seq;
	return lacking;
}

/* Chunks of prompts, first ranks first. */
static void add_prefill(rv_scheduler *s, int64_t room, int64_t *pages) {
	for (request *r = s->running.first; r && room > 0; r = r->next) {
		int64_t n = pending(r);
		if (n == 1)
			continue;
		n = n < room ? n : room;
		int64_t need = rv_seq_pages_needed(s->ctx, r->seq, n);
		for (; need > *pages && n > 0; need = rv_seq_pages_needed(s->ctx, r->seq, n))
			n -= n < s->page_size ? n : s->page_size;
		if (n == 0)
			continue;
		*pages -= need;
		room -= n;
		add_group(s, r, n);
	}
}

/* Returns whether somebody must give way first. */
static int fill(rv_scheduler *s) {
	int64_t n_decoding = 0, pages = rv_scheduler_free_pages(s), budget = s->options.step_rows;
	for (const request *r = s->running.first; r; r = r->next)
		n_decoding += pending(r) == 1;
	int64_t n_prefill = s->running.n - n_decoding, most = budget;
	if (n_prefill > 0) /* on average an eighth is for prompts, however many decode */
		most -= (budget + atomic_load(&s->clock) % 8) / 8;
	s->n_groups = s->n_rows = 0;
	int lacking = add_decoding(s, most, &pages);
	if (n_prefill > 0) {
		int64_t room = budget - s->n_rows, limit = s->options.prefill_rows;
		add_prefill(s, limit > 0 && n_decoding > 0 && limit < room ? limit : room, &pages);
	}
	sort_groups(s);
	write_rows(s);
	return lacking || s->n_groups == 0;
}

void rv_scheduler_plan(rv_scheduler *s) {
	while (s->running.n > 0 && fill(s)) {
		request *last = s->running.last;
		if (s->running.n > 1) {
			rv_scheduler_preempt(s, last);
		} else {
			rv_fail(RV_ERR_LIMIT, "KV pages: none is left after %lld tokens",
			        (long long)last->n_cached);
			rv_scheduler_end(s, last, RV_ERR_LIMIT, RV_STOP_LENGTH);
		}
	}
	if (s->running.n == 0)
		s->n_groups = s->n_rows = 0;
}
