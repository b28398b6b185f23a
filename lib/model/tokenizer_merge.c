/* Merging a row of symbols: the neighbouring pair of lowest rank, the leftmost among equals, becomes
 * one symbol, until no pair is left. A short row is searched again for every merge; a long one keeps
 * its pairs in a heap, so that n symbols take O(n log n). */
#include "base/mem.h"
#include "model/tokenizer_internal.h"

#define SHORT_ROW 48
#define NO_RANK UINT32_MAX
#define NO_NODE UINT32_MAX

struct rv_tok_node {
	int32_t symbol;
	uint32_t prev, next;
	uint32_t rank; /* of (this, next); NO_RANK: no pair, or merged away */
};

/* Symbols without an id pair with nothing. */
static inline const rv_tok_pair *find_pair(const rv_tokenizer *t, int32_t left, int32_t right) {
	return (left | right) < 0 ? NULL : rv_tok_pairs_find(&t->pairs, left, right);
}

/* ---- emitting ---- */

static rv_status push_id(rv_tok_work *w, int32_t id) {
	RV_TRY(RV_TOK_RESERVE(&w->ids, &w->cap, w->n, 1, "token ids"));
	w->ids[w->n++] = id;
	return RV_OK;
}

/* Byte tokens; the unknown token once for a character that lacks one of them. */
static rv_status emit_bytes(rv_tok_work *w, const char *s, size_t len) {
	const rv_tokenizer *t = w->t;
	for (size_t i = 0; i < len; i++) {
		if (t->byte_id[(uint8_t)s[i]] >= 0)
			continue;
		if (t->unk < 0)
			return rv_fail(
			        RV_ERR_MISMATCH,
			        "%s: the vocabulary has no token for byte 0x%02x and no unknown token",
			        t->name, (unsigned)(uint8_t)s[i]);
		return push_id(w, t->unk);
	}
	for (size_t i = 0; i < len; i++)
		RV_TRY(push_id(w, t->byte_id[(uint8_t)s[i]]));
	return RV_OK;
}

rv_status rv_tok_emit(rv_tok_work *w, int32_t symbol) {
	const rv_tokenizer *t = w->t;
	if (symbol >= 0 && symbol < t->n_vocab)
		return push_id(w, symbol);
	if (symbol >= 0) {
		rv_str s = rv_tok_text(&t->entries, (size_t)symbol);
		return emit_bytes(w, s.data, s.len);
	}
	int32_t cp = -2 - symbol;
	char buf[4];
	if (cp < 0x110000)
		return emit_bytes(w, buf, rv_utf8_put(cp, buf));
	buf[0] = (char)(cp - 0x110000);
	return emit_bytes(w, buf, 1);
}

/* ---- short rows ---- */

static rv_status merge_short(rv_tok_work *w, int32_t *symbols, size_t n) {
	const rv_tokenizer *t = w->t;
	uint32_t rank[SHORT_ROW];
	int32_t merged[SHORT_ROW];
	for (size_t i = 0; i + 1 < n; i++) {
		const rv_tok_pair *pair = find_pair(t, symbols[i], symbols[i + 1]);
		rank[i] = pair ? pair->rank : NO_RANK;
		merged[i] = pair ? pair->id : -1;
	}
	while (n > 1) {
		size_t best = 0;
		for (size_t i = 1; i + 1 < n; i++)
			if (rank[i] < rank[best])
				best = i;
		if (rank[best] == NO_RANK)
			break;
		symbols[best] = merged[best];
		for (size_t i = best + 1; i + 1 < n; i++) {
			symbols[i] = symbols[i + 1];
			rank[i] = rank[i + 1];
			merged[i] = merged[i + 1];
		}
		n--;
		for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
			const rv_tok_pair *pair = find_pair(t, symbols[i], symbols[i + 1]);
			rank[i] = pair ? pair->rank : NO_RANK;
			merged[i] = pair ? pair->id : -1;
		}
	}
	for (size_t i = 0; i < n; i++)
		RV_TRY(rv_tok_emit(w, symbols[i]));
	return RV_OK;
}

/* ---- long rows: a heap of rank << 32 | position, eight children a node (one cache line) ---- */

#define WAYS 8

static void sift_down(uint64_t *heap, size_t n, size_t i) {
	uint64_t v = heap[i];
	for (;;) {
		size_t child = i * WAYS + 1;
		if (child >= n)
			break;
		size_t last = child + WAYS < n ? child + WAYS : n, best = child;
		for (size_t c = child + 1; c < last; c++)
			if (heap[c] < heap[best])
				best = c;
		if (heap[best] >= v)
			break;
		heap[i] = heap[best];
		i = best;
	}
	heap[i] = v;
}

static void sift_up(uint64_t *heap, size_t i) {
	uint64_t v = heap[i];
	while (i && heap[(i - 1) / WAYS] > v) {
		heap[i] = heap[(i - 1) / WAYS];
		i = (i - 1) / WAYS;
	}
	heap[i] = v;
}

static uint32_t rank_at(const rv_tokenizer *t, const rv_tok_node *nodes, uint32_t i) {
	if (nodes[i].next == NO_NODE)
		return NO_RANK;
	const rv_tok_pair *pair = find_pair(t, nodes[i].symbol, nodes[nodes[i].next].symbol);
	return pair ? pair->rank : NO_RANK;
}

/* The pair that begins at node i has changed: notes its rank and queues it. */
static rv_status queue_pair(rv_tok_work *w, size_t *n_heap, uint32_t i) {
	uint32_t rank = rank_at(w->t, w->nodes, i);
	w->nodes[i].rank = rank;
	if (rank == NO_RANK)
		return RV_OK;
	RV_TRY(RV_TOK_RESERVE(&w->heap, &w->heap_cap, *n_heap, 1, "merge queue"));
	w->heap[*n_heap] = (uint64_t)rank << 32 | i;
	sift_up(w->heap, (*n_heap)++);
	return RV_OK;
}

static rv_status link_row(rv_tok_work *w, const int32_t *symbols, size_t n, size_t *n_heap) {
	RV_TRY(RV_TOK_RESERVE(&w->nodes, &w->nodes_cap, 0, n, "merge row"));
	RV_TRY(RV_TOK_RESERVE(&w->heap, &w->heap_cap, 0, n, "merge queue"));
	for (size_t i = 0; i < n; i++)
		w->nodes[i] = (rv_tok_node){symbols[i], i ? (uint32_t)i - 1 : NO_NODE,
		                            i + 1 < n ? (uint32_t)i + 1 : NO_NODE, NO_RANK};
	*n_heap = 0;
	for (size_t i = 0; i + 1 < n; i++) {
		const rv_tok_pair *pair = find_pair(w->t, symbols[i], symbols[i + 1]);
		if (!pair)
			continue;
		w->nodes[i].rank = pair->rank;
		w->heap[(*n_heap)++] = (uint64_t)pair->rank << 32 | i;
	}
	for (size_t i = *n_heap / WAYS + 1; i-- > 0;)
		if (i < *n_heap)
			sift_down(w->heap, *n_heap, i);
	return RV_OK;
}

static rv_status merge_long(rv_tok_work *w, const int32_t *symbols, size_t n) {
	const rv_tokenizer *t = w->t;
	size_t n_heap;
	if (n >= NO_NODE)
		return rv_fail(RV_ERR_LIMIT, "%s: a piece of %zu symbols is too long", t->name, n);
	RV_TRY(link_row(w, symbols, n, &n_heap));
	while (n_heap) {
		rv_tok_node *nodes = w->nodes;
		uint32_t rank = (uint32_t)(w->heap[0] >> 32), i = (uint32_t)w->heap[0];
		w->heap[0] = w->heap[--n_heap];
		if (n_heap)
			sift_down(w->heap, n_heap, 0);
		/* An entry outlives its pair; a pair of the same rank at the same place has the same
		 * key. */
		if (nodes[i].rank != rank)
			continue;
		uint32_t gone = nodes[i].next, next = nodes[gone].next;
		nodes[i].symbol = find_pair(t, nodes[i].symbol, nodes[gone].symbol)->id;
		nodes[i].next = next;
		nodes[gone].rank = NO_RANK;
		if (next != NO_NODE)
			nodes[next].prev = i;
		RV_TRY(queue_pair(w, &n_heap, i));
		if (nodes[i].prev != NO_NODE)
			RV_TRY(queue_pair(w, &n_heap, nodes[i].prev));
	}
	for (uint32_t i = 0; i != NO_NODE; i = w->nodes[i].next)
		RV_TRY(rv_tok_emit(w, w->nodes[i].symbol));
	return RV_OK;
}

rv_status rv_tok_merge(rv_tok_work *w, int32_t *symbols, size_t n) {
	if (n <= SHORT_ROW)
		return merge_short(w, symbols, n);
	return merge_long(w, symbols, n);
}

/* ---- working memory ---- */

void rv_tok_work_free(rv_tok_work *w) {
	rv_free(w->symbols);
	rv_free(w->nodes);
	rv_free(w->heap);
	rv_free(w->text);
	rv_free(w->escaped);
	rv_free(w->chars);
}

rv_status rv_tok_reserve(void **p, size_t *cap, size_t n, size_t extra, size_t size, const char *what) {
	size_t need, grown = *cap + *cap / 2;
	if (!rv_add_ok(n, extra, &need))
		return rv_fail(RV_ERR_NO_MEMORY, "%s: too many", what);
	if (need < grown)
		need = grown;
	if (need < 64)
		need = 64;
	RV_TRY(rv_grow(p, n, need, size, what));
	*cap = need;
	return RV_OK;
}
