/* The radix tree of the prefix cache against a plain model of what its header says: a list of stored
 * prefixes, each with its page. */
#include "base/mem.h"
#include "base/rng.h"
#include "tests/engine/page_counter.h"

#include <string.h>

enum { MAX_PAGES = 10, MAX_TOKENS = 16 * MAX_PAGES, MAX_ENTRIES = 512, N_SEQS = 6 };
enum { N_IDENTITIES = 3 };

/* ---- the model ---- */

/* What a model may get wrong: each must be noticed. */
typedef enum fault { NONE, NO_TOUCH, NO_PINS, USE_IGNORED, IDENTITY_IGNORED, NO_TAIL, NO_STUBS } fault;

typedef struct entry {
	int identity, n; /* tokens [n] lead to `page`, which ends with them, full or not */
	int32_t tokens[MAX_TOKENS], page;
	long used;
	int pins;
} entry;

typedef struct world {
	fault wrong;
	int page_size;
	counter pages;
	rv_prefix_tree tree;
	entry entries[MAX_ENTRIES];
	int n_entries;
	long clock;
	struct {
		int n, identity; /* tokens; 0: none */
		int32_t tokens[MAX_TOKENS], pages[MAX_PAGES];
	} seqs[N_SEQS];
	struct {
		int n, identity;
		int32_t tokens[MAX_TOKENS];
		rv_prefix_node *pin;
	} pins[4];
	rv_rng rng;
} world;

static int below(world *w, int n) {
	return (int)rv_rng_below(&w->rng, (uint64_t)n);
}

/* Is entry e on the way to these tokens? */
static int leads_to(const world *w, const entry *e, int identity, const int32_t *tokens, int n) {
	return (e->identity == identity || w->wrong == IDENTITY_IGNORED) && e->n <= n &&
	       memcmp(e->tokens, tokens, (size_t)e->n * sizeof *tokens) == 0;
}

/* The entry on the way to tokens [0, n) that ends after `from` tokens, at `to` at most. */
static entry *find(world *w, int identity, const int32_t *tokens, int from, int to) {
	for (entry *e = w->entries; e < w->entries + w->n_entries; e++)
		if (e->n > from && leads_to(w, e, identity, tokens, to))
			return e;
	return NULL;
}

static entry *find_full(world *w, int identity, const int32_t *tokens, int n_pages) {
	return find(w, identity, tokens, n_pages * w->page_size - 1, n_pages * w->page_size);
}

/* Whole pages. */
static int model_match(world *w, int identity, const int32_t *tokens, int n) {
	int m = 0;
	while (m < n / w->page_size && find_full(w, identity, tokens, m + 1))
		m++;
	return m;
}

/* Most tokens that a page after the m that match has in common with tokens [0, n); of `page` only,
 * unless that is -1. */
static int model_tail(world *w, int identity, const int32_t *tokens, int n, int m, int32_t page) {
	int most = 0, begin = m * w->page_size;
	for (const entry *e = w->entries; e < w->entries + w->n_entries && w->wrong != NO_TAIL; e++) {
		int i = begin;
		if ((e->n - 1) / w->page_size != m || e->identity != identity ||
		    (page >= 0 && page != e->page) ||
		    memcmp(e->tokens, tokens, (size_t)i * sizeof *tokens) != 0)
			continue;
		while (i < n && i < e->n && e->tokens[i] == tokens[i])
			i++;
		most = i - begin > most ? i - begin : most;
	}
	return most;
}

static void model_touch(world *w, int identity, const int32_t *tokens, int n_pages) {
	w->clock++;
	for (int m = 1; m <= n_pages; m++)
		find_full(w, identity, tokens, m)->used = w->clock;
}

/* The page that ends after n tokens, in the place of a less full one. */
static entry *model_add(world *w, int identity, const int32_t *tokens, int n, int32_t page) {
	entry *e = find(w, identity, tokens, (n - 1) / w->page_size * w->page_size, n);
	if (!e)
		e = &w->entries[w->n_entries++];
	*e = (entry){.identity = identity, .n = n, .page = page};
	memcpy(e->tokens, tokens, sizeof e->tokens);
	return e;
}

static void model_insert(world *w, int identity, const int32_t *tokens, int n, const int32_t *pages) {
	int n_full = n / w->page_size;
	entry *partial = NULL;
	for (int m = model_match(w, identity, tokens, n); m < n_full; m++)
		model_add(w, identity, tokens, (m + 1) * w->page_size, pages[m]);
	if (n > n_full * w->page_size && w->wrong != NO_STUBS &&
	    model_tail(w, identity, tokens, n, n_full, -1) < n - n_full * w->page_size)
		partial = model_add(w, identity, tokens, n, pages[n_full]);
	model_touch(w, identity, tokens, n_full);
	if (partial)
		partial->used = w->clock;
}

static int is_leaf(const world *w, const entry *e) {
	for (const entry *o = w->entries; o < w->entries + w->n_entries; o++)
		if (o->n > e->n && leads_to(w, e, o->identity, o->tokens, o->n))
			return 0;
	return 1;
}

static int lone(const world *w, const entry *e) {
	return w->pages.refs[e->page] == 1 || w->wrong == USE_IGNORED;
}

static entry *model_victim(world *w, int in_use_too) {
	entry *best = NULL;
	for (entry *e = w->entries; e < w->entries + w->n_entries; e++)
		if ((e->pins == 0 || w->wrong == NO_PINS) && (in_use_too || lone(w, e)) &&
		    (!best || e->used < best->used) && is_leaf(w, e))
			best = e;
	return best;
}

static int model_reclaimable(const world *w) {
	int n = 0;
	for (const entry *e = w->entries; e < w->entries + w->n_entries; e++) {
		int held = 0;
		for (const entry *o = w->entries; o < w->entries + w->n_entries; o++)
			held |= o->pins > 0 && leads_to(w, e, o->identity, o->tokens, o->n);
		n += !held && lone(w, e);
	}
	return n;
}

/* Which pages the model gives up for n, into `given`; how many of them became free. */
static int model_evict(world *w, int n, int32_t *given, int *n_given) {
	int freed = 0;
	while (freed < n) {
		entry *e = model_victim(w, 0);
		if (!e && model_reclaimable(w) > 0)
			e = model_victim(w, 1);
		if (!e)
			break;
		freed += lone(w, e);
		given[(*n_given)++] = e->page;
		*e = w->entries[--w->n_entries];
	}
	return freed;
}

/* ---- random prompts that share beginnings ---- */

/* Usually the beginning of a sequence's tokens, or of stored ones, and a random rest. */
static int random_tokens(world *w, int *identity, int32_t *tokens) {
	const int n = 1 + below(w, w->page_size * MAX_PAGES), s = below(w, N_SEQS);
	int keep = 0, from = below(w, 4);
	*identity = below(w, N_IDENTITIES);
	if (from < 2) {
		keep = w->seqs[s].n;
		memcpy(tokens, w->seqs[s].tokens, sizeof w->seqs[s].tokens);
		*identity = below(w, 4) > 0 ? w->seqs[s].identity : *identity;
	} else if (from == 2 && w->n_entries > 0) {
		const entry *e = &w->entries[below(w, w->n_entries)];
		keep = e->n;
		memcpy(tokens, e->tokens, sizeof e->tokens);
		*identity = below(w, 4) > 0 ? e->identity : *identity;
	}
	if (keep > 0 && below(w, 2))
		keep = below(w, keep + 1);
	for (int i = keep; i < n; i++)
		tokens[i] = below(w, 3);
	return n;
}

/* ---- operations: 0 when tree and model differ ---- */

static int n_pages_of(const world *w, int n) {
	return (n + w->page_size - 1) / w->page_size;
}

static void end_seq(world *w, int s) {
	for (int i = 0; i < n_pages_of(w, w->seqs[s].n); i++)
		release(&w->pages, w->seqs[s].pages[i]);
	w->seqs[s].n = 0;
}

/* A sequence begins with the whole pages found (of a last one only some tokens are good: it copies
 * them), or (one in four) evaluates all itself; then it is inserted, with the last page or without. */
static int op_prompt(world *w) {
	int s = below(w, N_SEQS), identity, m = 0;
	int64_t found = 0;
	int32_t tokens[MAX_TOKENS];
	int n = random_tokens(w, &identity, tokens);
	end_seq(w, s);
	int32_t *pages = w->seqs[s].pages;
	if (below(w, 4) > 0) {
		m = model_match(w, identity, tokens, n);
		assert_ok(
		        rv_prefix_tree_lookup(&w->tree, (uint64_t)identity, tokens, n, pages, &found));
		int tail = model_tail(w, identity, tokens, n, m, -1);
		if (found != m * w->page_size + tail)
			return 0;
		if (tail > 0 && model_tail(w, identity, tokens, n, m, pages[m]) != tail)
			return 0;
		for (int i = 0; i < m; i++)
			if (find_full(w, identity, tokens, i + 1)->page != pages[i])
				return 0;
		if (m > 0 && w->wrong != NO_TOUCH)
			model_touch(w, identity, tokens, m);
	}
	for (int i = 0; i < m; i++)
		retain(&w->pages, pages[i]);
	for (int i = m; i < n_pages_of(w, n); i++)
		pages[i] = take_page(&w->pages);
	w->seqs[s].n = n;
	w->seqs[s].identity = identity;
	memcpy(w->seqs[s].tokens, tokens, sizeof tokens);
	if (below(w, 3) == 0 || w->n_entries + MAX_PAGES > MAX_ENTRIES)
		return 1;
	if (below(w, 2))
		n = n / w->page_size * w->page_size;
	assert_ok(rv_prefix_tree_insert(&w->tree, (uint64_t)identity, tokens, n, pages));
	if (n > 0)
		model_insert(w, identity, tokens, n, pages);
	return 1;
}

static int op_match(world *w) {
	int identity;
	int32_t tokens[MAX_TOKENS];
	int n = random_tokens(w, &identity, tokens), m = model_match(w, identity, tokens, n);
	return rv_prefix_tree_match(&w->tree, (uint64_t)identity, tokens, n) ==
	       m * w->page_size + model_tail(w, identity, tokens, n, m, -1);
}

static int op_evict(world *w) {
	int32_t given[MAX_ENTRIES];
	int n_given = 0, n = below(w, 2) ? 1 : 1 + below(w, 20);
	int64_t before = w->tree.n_pages;
	int64_t freed = rv_prefix_tree_evict(&w->tree, n);
	/* The model looks at counts as they were. */
	counter after = w->pages;
	for (int i = 0; i < N_PAGES; i++)
		w->pages.refs[i] = 0;
	for (int s = 0; s < N_SEQS; s++)
		for (int i = 0; i < n_pages_of(w, w->seqs[s].n); i++)
			w->pages.refs[w->seqs[s].pages[i]]++;
	for (int i = 0; i < w->n_entries; i++)
		w->pages.refs[w->entries[i].page]++;
	int expected = model_evict(w, n, given, &n_given);
	for (int i = 0; i < n_given; i++)
		w->pages.refs[given[i]]--;
	int same = memcmp(w->pages.refs, after.refs, sizeof after.refs) == 0;
	w->pages = after;
	return same && freed == expected && before - w->tree.n_pages == n_given;
}

static int op_pin(world *w) {
	int i = below(w, 4), identity;
	int32_t tokens[MAX_TOKENS];
	int64_t n_pinned = 0;
	if (w->pins[i].pin) {
		rv_prefix_tree_unpin(w->pins[i].pin);
		w->pins[i].pin = NULL;
		entry *e = find_full(w, w->pins[i].identity, w->pins[i].tokens, w->pins[i].n);
		if (!e)
			return 0;
		e->pins--;
		return 1;
	}
	int n = random_tokens(w, &identity, tokens), m = model_match(w, identity, tokens, n);
	rv_status st =
	        rv_prefix_tree_pin(&w->tree, (uint64_t)identity, tokens, n, &w->pins[i].pin, &n_pinned);
	if (n_pinned != m || st != (m ? RV_OK : RV_ERR_NOT_FOUND))
		return 0;
	if (m == 0)
		return 1;
	w->pins[i].n = m;
	w->pins[i].identity = identity;
	memcpy(w->pins[i].tokens, tokens, sizeof tokens);
	find_full(w, identity, tokens, m)->pins++;
	model_touch(w, identity, tokens, m);
	return 1;
}

static int op_end(world *w) {
	end_seq(w, below(w, N_SEQS));
	return rv_prefix_tree_reclaimable(&w->tree) == model_reclaimable(w);
}

static int (*const ops[])(world *) = {op_prompt, op_prompt, op_prompt, op_prompt, op_match,
                                      op_evict,  op_evict,  op_pin,    op_end,    op_end};

/* The number of the first operation after which tree and model differ, or n_ops. */
static int run_world(fault wrong, int page_size, uint64_t seed, int n_ops) {
	world *w;
	int op = 0;
	assert_ok(RV_ALLOC(&w, 1, "world"));
	w->wrong = wrong;
	w->page_size = page_size;
	rv_rng_seed(&w->rng, seed);
	rv_prefix_tree_init(&w->tree, page_size, page_refs(&w->pages));
	for (; op < n_ops; op++) {
		int same = ops[below(w, sizeof ops / sizeof *ops)](w);
		if (same)
			assert_ok(rv_prefix_tree_verify(&w->tree));
		if (!same || w->tree.n_pages != w->n_entries)
			break;
	}
	for (int s = 0; s < N_SEQS; s++)
		end_seq(w, s);
	rv_prefix_tree_deinit(&w->tree);
	for (int i = 0; i < N_PAGES; i++) /* no reference is left behind */
		assert_true(op < n_ops || w->pages.refs[i] == 0);
	rv_free(w);
	return op;
}

/* ---- tests ---- */

static void as_the_model(void **state) {
	(void)state;
	static const int sizes[] = {1, 2, 8, 16};
	for (uint64_t seed = 0; seed < 4; seed++)
		for (int i = 0; i < 4; i++)
			if (run_world(NONE, sizes[i], seed, 4000) != 4000)
				fail_msg("page size %d, seed %d: tree and model differ", sizes[i],
				         (int)seed);
}

static void wrong_models_are_noticed(void **state) {
	(void)state;
	for (fault f = NO_TOUCH; f <= NO_STUBS; f++) {
		int op = run_world(f, 2, 1, 4000);
		print_message("# wrong model %d: noticed at operation %d\n", (int)f, op);
		assert_in_range(op, 0, 3999);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(as_the_model),
	        cmocka_unit_test(wrong_models_are_noticed),
	};
	return cmocka_run_group_tests_name("prefix model", tests, NULL, NULL);
}
