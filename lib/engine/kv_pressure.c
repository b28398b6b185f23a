#include "engine/kv_pressure.h"

#include "base/mem.h"
#include "engine/context_internal.h"
#include "engine/kv_convert.h"
#include "engine/kv_spill.h"
#include "engine/kv_spill_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NONE (-1)

const char *const rv_kv_relief_names[RV_KV_RELIEF_COUNT + 1] = {"reject", "evict", "quantize", "spill",
                                                                NULL};

/* Idle sequences that are here form a list, longest idle first. */
typedef struct kept_seq {
	int32_t users;
	rv_kv_place place;
	int listed;
	int32_t prev, next;
	rv_seq_stand stand; /* of a spilled one */
	int64_t n_tokens;   /* of one that is not here */
	size_t file_bytes;
} kept_seq;

struct rv_kv_pressure {
	rv_context *ctx;
	rv_kv_pages *kv;
	rv_kv_pressure_options options;
	kept_seq *seqs; /* [n_seqs] */
	int32_t oldest, newest;
	rv_kv_spill_folder folder;
	int32_t *seen; /* [n_seen] by page; all 0 between calls */
	int64_t n_seen;
	/* QUANTIZE: pages of a type for when there is no memory, as many as free a whole pool page when
	 * they replace wider ones */
	rv_kv_page *reserve[RV_KV_COUNT]; /* [n_reserve] */
	int64_t n_reserve, n_reserved[RV_KV_COUNT];
	rv_kv_pressure_stats stats;
	char refusal[RV_ERROR_MESSAGE_MAX];
};

/* ---- the list ---- */

static void list_remove(rv_kv_pressure *p, int32_t seq) {
	kept_seq *s = &p->seqs[seq];
	if (!s->listed)
		return;
	*(s->prev == NONE ? &p->oldest : &p->seqs[s->prev].next) = s->next;
	*(s->next == NONE ? &p->newest : &p->seqs[s->next].prev) = s->prev;
	s->listed = 0;
}

static void list_append(rv_kv_pressure *p, int32_t seq) {
	kept_seq *s = &p->seqs[seq];
	s->prev = p->newest;
	s->next = NONE;
	*(s->prev == NONE ? &p->oldest : &p->seqs[s->prev].next) = seq;
	p->newest = seq;
	s->listed = 1;
}

/* Rows of it are being evaluated although nobody said that it is in use. */
static int in_flight(const rv_kv_pressure *p, int32_t seq) {
	return p->ctx->length[seq] != p->ctx->old_length[seq];
}

/* ---- giving way ---- */

static rv_status note_page(rv_kv_pressure *p, rv_kv_page page, int32_t *count) {
	if (page >= p->n_seen) {
		int64_t n = page < 512 ? 1024 : 2 * (int64_t)page;
		RV_TRY(RV_GROW(&p->seen, p->n_seen, n, "page counts"));
		p->n_seen = n;
	}
	*count = ++p->seen[page];
	return RV_OK;
}

static rv_status find_page(rv_kv_pressure *p, int32_t *last, rv_kv_page *out) {
	for (int32_t s = p->oldest; s != NONE; s = p->seqs[s].next) {
		const rv_kv_page *pages;
		int64_t n = in_flight(p, s) ? 0 : rv_kv_seq_pages(p->kv, s, &pages);
		*last = s;
		for (int64_t i = 0; i < n; i++) {
			int32_t count;
			RV_TRY(note_page(p, pages[i], &count));
			if (count == rv_kv_page_refs(p->kv, pages[i])) {
				*out = pages[i];
				return RV_OK;
			}
		}
	}
	return rv_fail(RV_ERR_LIMIT, "no idle sequence whose pages nobody else holds");
}

/* The first page that becomes free when sequences let go, the longest idle first. */
static rv_status page_to_free(rv_kv_pressure *p, rv_kv_page *out) {
	int32_t last = NONE;
	rv_status status = find_page(p, &last, out);
	for (int32_t s = p->oldest; last != NONE; s = p->seqs[s].next) {
		const rv_kv_page *pages;
		int64_t n = rv_kv_seq_pages(p->kv, s, &pages);
		for (int64_t i = 0; i < n && pages[i] < p->n_seen; i++)
			p->seen[pages[i]] = 0;
		if (s == last)
			break;
	}
	return status;
}

static int holds(const rv_kv_pressure *p, int32_t seq, rv_kv_page page) {
	const rv_kv_page *pages;
	int64_t n = rv_kv_seq_pages(p->kv, seq, &pages);
	for (int64_t i = 0; i < n; i++)
		if (pages[i] == page)
			return 1;
	return 0;
}

/* Written straight to its file: it need not outlive the process, so nothing is synced. */
static rv_status write_spill(rv_kv_pressure *p, int32_t seq, const char *path) {
	char name[32];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return rv_fail_errno(RV_ERR_IO, "%s: cannot create", path);
	snprintf(name, sizeof name, "/dev/fd/%d", fd);
	rv_status status = rv_seq_save(p->ctx, seq, NULL, 0, name);
	close(fd);
	if (status == RV_OK)
		return RV_OK;
	unlink(path);
	return rv_fail_in(status, path);
}

static rv_status spill(rv_kv_pressure *p, int32_t seq) {
	char path[4096];
	struct stat st;
	kept_seq *s = &p->seqs[seq];
	rv_kv_spill_file(&p->folder, seq, path);
	RV_TRY(write_spill(p, seq, path));
	s->stand = rv_seq_stand_take(p->ctx, seq);
	s->file_bytes = stat(path, &st) == 0 ? (size_t)st.st_size : 0;
	p->stats.n_spilled++;
	p->stats.n_spilled_now++;
	p->stats.spilled_bytes += s->file_bytes;
	return RV_OK;
}

/* The context's record of this call's beginning follows, or a failing call would bring the tokens back
 * without their pages. */
static void empty(rv_context *ctx, int32_t seq) {
	rv_seq_truncate(ctx, seq, 0);
	ctx->old_length[seq] = 0;
}

static rv_status give_way(rv_kv_pressure *p, int32_t seq) {
	kept_seq *s = &p->seqs[seq];
	int64_t n_tokens = p->ctx->length[seq];
	int to_file = p->options.relief == RV_KV_SPILL;
	if (to_file)
		RV_TRY(spill(p, seq));
	list_remove(p, seq);
	empty(p->ctx, seq);
	s->place = to_file ? RV_KV_SPILLED : RV_KV_EVICTED;
	s->n_tokens = n_tokens;
	if (to_file)
		return RV_OK;
	p->stats.n_evicted++;
	p->stats.n_evicted_tokens += n_tokens;
	if (p->options.evicted)
		p->options.evicted(p->options.user, seq, n_tokens);
	return RV_OK;
}

/* No page is the idle sequences' alone: they let go until the prefix cache can. */
static rv_status let_cached_go(rv_kv_pressure *p) {
	for (int32_t s = p->oldest, next; s != NONE; s = next) {
		next = p->seqs[s].next;
		if (in_flight(p, s) || p->ctx->length[s] == 0)
			continue;
		RV_TRY(give_way(p, s));
		if (rv_prefix_cache_evict(p->options.prefix, 1) > 0)
			return RV_OK;
	}
	return RV_ERR_LIMIT;
}

static rv_status let_sequences_go(rv_kv_pressure *p) {
	rv_kv_page page = NONE;
	rv_status status = page_to_free(p, &page);
	if (status != RV_OK)
		return p->options.prefix && let_cached_go(p) == RV_OK ? RV_OK : status;
	for (int32_t s = p->oldest, next; s != NONE && rv_kv_page_refs(p->kv, page) > 0; s = next) {
		next = p->seqs[s].next;
		if (!in_flight(p, s) && holds(p, s, page))
			RV_TRY(give_way(p, s));
	}
	return RV_OK;
}

/* ---- quantizing ---- */

static const int steps[] = {RV_KV_Q8, RV_KV_Q4}; /* page formats */
enum { N_STEPS = sizeof steps / sizeof *steps };

static int is_step(const rv_kv_pressure *p, int to) {
	size_t bytes = rv_kv_pages_page_bytes(p->kv, to);
	return bytes >= rv_kv_pages_page_bytes(p->kv, (int)p->options.smallest) &&
	       bytes < rv_kv_pages_page_bytes(p->kv, (int)p->ctx->options.kv_type);
}

static void fill_reserve(rv_kv_pressure *p, int type) {
	int64_t *n = &p->n_reserved[type];
	while (*n < p->n_reserve && rv_kv_page_create(p->kv, type, &p->reserve[type][*n]) == RV_OK)
		++*n;
}

/* A new page, or one of the reserve. */
static rv_status smaller_page(rv_kv_pressure *p, int type, rv_kv_page *out) {
	rv_status status = rv_kv_page_create(p->kv, type, out);
	if (status == RV_OK || p->n_reserved[type] == 0)
		return status;
	*out = p->reserve[type][--p->n_reserved[type]];
	return RV_OK;
}

/* The context will get its page, and the next call here its smaller ones. */
static int has_enough(rv_kv_pressure *p, int type) {
	rv_pool_stats stats;
	fill_reserve(p, type);
	rv_pool_get_stats(rv_kv_pages_pool(p->kv), &stats);
	return p->n_reserved[type] == p->n_reserve && stats.used_bytes < stats.budget_bytes;
}

static void convert(rv_kv_pressure *p, int32_t seq, int64_t i, rv_kv_page page, rv_kv_page fresh) {
	int64_t tokens = rv_kv_pages_page_tokens(p->kv), n = p->ctx->length[seq] - i * tokens;
	rv_kv_page_convert(p->kv, rv_model_hparams(p->ctx->model)->head_dim, n < tokens ? n : tokens,
	                   page, fresh);
	rv_kv_page_release(p->kv, fresh);
}

/* All pages of one sequence, so that the memory they stand in becomes free as a whole. */
static rv_status quantize_seq(rv_kv_pressure *p, int32_t seq, int to, int64_t *n_done) {
	const rv_kv_page *pages;
	int64_t n = rv_kv_seq_pages(p->kv, seq, &pages);
	for (int64_t i = 0; i < n; i++) {
		rv_kv_page fresh;
		if (rv_kv_page_refs(p->kv, pages[i]) != 1 ||
		    rv_kv_pages_page_bytes(p->kv, rv_kv_page_format(p->kv, pages[i])) <=
		            rv_kv_pages_page_bytes(p->kv, to))
			continue;
		RV_TRY(smaller_page(p, to, &fresh));
		convert(p, seq, i, pages[i], fresh);
		p->stats.n_quantized++;
		++*n_done;
	}
	return RV_OK;
}

static rv_status quantize(rv_kv_pressure *p) {
	int64_t n_done = 0;
	for (int i = 0; i < N_STEPS && n_done == 0; i++) {
		if (!is_step(p, steps[i]))
			continue;
		fill_reserve(p, steps[i]);
		for (int32_t s = p->oldest; s != NONE; s = p->seqs[s].next)
			if (!in_flight(p, s) && (quantize_seq(p, s, steps[i], &n_done) != RV_OK ||
			                         (n_done > 0 && has_enough(p, steps[i]))))
				break;
	}
	return n_done > 0 ? RV_OK
	                  : rv_fail(RV_ERR_LIMIT, "no page of an idle sequence can be made smaller");
}

/* ---- asked by the context ---- */

static rv_status relieve(void *user) {
	rv_kv_pressure *p = user;
	p->stats.n_asked++;
	rv_status status = p->options.relief == RV_KV_QUANTIZE ? quantize(p) : let_sequences_go(p);
	if (status != RV_OK) {
		p->stats.n_refused++;
		snprintf(p->refusal, sizeof p->refusal, "%s", rv_error_message());
	}
	return status;
}

/* ---- life ---- */

rv_kv_pressure_options rv_kv_pressure_defaults(void) {
	return (rv_kv_pressure_options){.relief = RV_KV_REJECT, .smallest = RV_KV_Q4};
}

static rv_status check_options(const rv_kv_pressure_options *o, const rv_context *ctx) {
	if (!ctx->pages)
		return rv_fail(RV_ERR_UNSUPPORTED, "memory pressure: the KV cache has no pages");
	if ((unsigned)o->relief >= RV_KV_RELIEF_COUNT ||
	    (o->smallest != RV_KV_Q8 && o->smallest != RV_KV_Q4))
		return rv_fail(RV_ERR_INVALID, "memory pressure: unknown relief, or a smallest type "
		                               "other than q8 and q4");
	if (o->relief == RV_KV_QUANTIZE && ctx->tiers)
		return rv_fail(RV_ERR_UNSUPPORTED, "memory pressure: quantize under a tiered policy, "
		                                   "which says itself how pages are stored");
	if (o->relief == RV_KV_SPILL && (!o->spill_dir || !*o->spill_dir))
		return rv_fail(RV_ERR_INVALID, "memory pressure: no folder to spill to");
	return RV_OK;
}

static rv_status make_reserves(rv_kv_pressure *p) {
	p->n_reserve = (int64_t)(RV_POOL_PAGE_BYTES /
	                         rv_kv_pages_page_bytes(p->kv, (int)p->ctx->options.kv_type));
	if (p->n_reserve < 1)
		p->n_reserve = 1;
	for (int i = 0; i < N_STEPS; i++) {
		int t = steps[i];
		if (!is_step(p, t))
			continue;
		RV_TRY(RV_ALLOC(&p->reserve[t], p->n_reserve, "reserve of pages"));
		for (; p->n_reserved[t] < p->n_reserve; p->n_reserved[t]++)
			RV_TRY(rv_kv_page_create(p->kv, t, &p->reserve[t][p->n_reserved[t]]));
	}
	return RV_OK;
}

static rv_status create_into(rv_kv_pressure *p) {
	int32_t n = p->ctx->options.n_seqs;
	RV_TRY(RV_ALLOC(&p->seqs, n, "sequences"));
	if (p->options.relief == RV_KV_REJECT)
		return RV_OK;
	if (p->options.relief == RV_KV_SPILL)
		RV_TRY(rv_kv_spill_folder_open(&p->folder, p->options.spill_dir));
	if (p->options.relief == RV_KV_QUANTIZE)
		RV_TRY(make_reserves(p));
	return rv_kv_pages_add_reclaim(p->kv, relieve, p);
}

rv_status rv_kv_pressure_create(rv_kv_pressure **out, rv_context *ctx,
                                const rv_kv_pressure_options *options) {
	rv_kv_pressure *p;
	*out = NULL;
	RV_TRY(check_options(options, ctx));
	RV_TRY(RV_ALLOC(&p, 1, "memory pressure"));
	p->ctx = ctx;
	p->kv = ctx->pages;
	p->options = *options;
	p->oldest = p->newest = NONE;
	rv_status status = create_into(p);
	if (status != RV_OK) {
		rv_kv_pressure_destroy(p);
		return status;
	}
	*out = p;
	return RV_OK;
}

static void remove_file(rv_kv_pressure *p, int32_t seq) {
	char path[4096];
	rv_kv_spill_file(&p->folder, seq, path);
	unlink(path);
	p->stats.n_spilled_now--;
	p->stats.spilled_bytes -= p->seqs[seq].file_bytes;
	p->seqs[seq].file_bytes = 0;
	rv_seq_stand_drop(p->ctx, &p->seqs[seq].stand);
}

void rv_kv_pressure_destroy(rv_kv_pressure *p) {
	if (!p)
		return;
	rv_kv_pages_remove_reclaim(p->kv, relieve, p);
	for (int32_t s = 0; p->seqs && s < p->ctx->options.n_seqs; s++)
		if (p->seqs[s].place == RV_KV_SPILLED)
			remove_file(p, s);
	rv_kv_spill_folder_close(&p->folder);
	for (int t = 0; t < RV_KV_COUNT; t++) {
		while (p->n_reserved[t] > 0)
			rv_kv_page_release(p->kv, p->reserve[t][--p->n_reserved[t]]);
		rv_free(p->reserve[t]);
	}
	rv_free(p->seen);
	rv_free(p->seqs);
	rv_free(p);
}

/* ---- sequences ---- */

static rv_status check_seq(const rv_kv_pressure *p, int32_t seq) {
	return seq >= 0 && seq < p->ctx->options.n_seqs
	               ? RV_OK
	               : rv_fail(RV_ERR_INVALID, "sequence %d is not in [0, %d)", seq,
	                         p->ctx->options.n_seqs);
}

rv_kv_place rv_kv_pressure_place(const rv_kv_pressure *p, int32_t seq) {
	return p->seqs[seq].place;
}

static rv_status read_back(rv_kv_pressure *p, int32_t seq) {
	char path[4096];
	rv_kv_spill_file(&p->folder, seq, path);
	RV_TRY(rv_seq_load_as(p->ctx, seq, &p->seqs[seq].stand, path));
	remove_file(p, seq);
	p->seqs[seq].place = RV_KV_RESIDENT;
	p->stats.n_restored++;
	return RV_OK;
}

rv_status rv_kv_pressure_use(rv_kv_pressure *p, int32_t seq) {
	RV_TRY(check_seq(p, seq));
	kept_seq *s = &p->seqs[seq];
	if (s->place == RV_KV_EVICTED)
		return rv_fail(RV_ERR_NOT_FOUND,
		               "sequence %d: its %lld tokens were evicted under memory pressure", seq,
		               (long long)s->n_tokens);
	if (s->place == RV_KV_SPILLED)
		RV_TRY(read_back(p, seq));
	list_remove(p, seq);
	s->users++;
	return RV_OK;
}

void rv_kv_pressure_idle(rv_kv_pressure *p, int32_t seq) {
	if (check_seq(p, seq) != RV_OK)
		return;
	kept_seq *s = &p->seqs[seq];
	if (s->users == 0 || --s->users > 0)
		return;
	p->ctx->old_length[seq] = p->ctx->length[seq]; /* nothing of it is in flight */
	list_append(p, seq);
}

rv_status rv_kv_pressure_forget(rv_kv_pressure *p, int32_t seq) {
	RV_TRY(check_seq(p, seq));
	kept_seq *s = &p->seqs[seq];
	if (s->place == RV_KV_SPILLED)
		remove_file(p, seq);
	s->place = RV_KV_RESIDENT;
	empty(p->ctx, seq);
	return RV_OK;
}

void rv_kv_pressure_get_stats(const rv_kv_pressure *p, rv_kv_pressure_stats *out) {
	*out = p->stats;
}

const char *rv_kv_pressure_refusal(const rv_kv_pressure *p) {
	return p->refusal;
}
