/* Special and user-defined tokens inside a text: a trie walked from every byte that some of them begins
 * with. Walks are at most RV_TOK_MATCH_MAX steps long, so a text takes linear time. */
#include "base/mem.h"
#include "model/tokenizer_internal.h"

const char *rv_tok_finder_next(const rv_tok_finder *f, const char *p, const char *end, int32_t *id,
                               size_t *len) {
	if (!f->any)
		return end;
	for (; p < end; p++) {
		if (!f->first[(uint8_t)*p])
			continue;
		*id = -1;
		int32_t node = 0;
		for (const char *q = p; q < end; q++) {
			const rv_tok_pair *edge = rv_tok_pairs_find(&f->edges, node, (uint8_t)*q);
			if (!edge)
				break;
			node = edge->id;
			if (f->token[node] >= 0) {
				*id = f->token[node];
				*len = (size_t)(q + 1 - p);
			}
		}
		if (*id >= 0)
			return p;
	}
	return end;
}

void rv_tok_finder_free(rv_tok_finder *f) {
	rv_free(f->edges.slots);
	rv_free(f->token);
	memset(f, 0, sizeof *f);
}

/* A trie under construction: children of a node are a linked list. */
typedef struct trie_node {
	int32_t child, sibling, token;
	uint8_t byte;
} trie_node;

static int32_t child_of(const trie_node *nodes, int32_t node, uint8_t byte) {
	for (int32_t c = nodes[node].child; c >= 0; c = nodes[c].sibling)
		if (nodes[c].byte == byte)
			return c;
	return -1;
}

static void insert(trie_node *nodes, int32_t *n, rv_str s, int32_t id) {
	int32_t at = 0;
	for (size_t i = 0; i < s.len; i++) {
		uint8_t byte = (uint8_t)s.data[i];
		int32_t next = child_of(nodes, at, byte);
		if (next < 0) {
			next = (*n)++;
			nodes[next] = (trie_node){-1, nodes[at].child, -1, byte};
			nodes[at].child = next;
		}
		at = next;
	}
	if (nodes[at].token < 0)
		nodes[at].token = id;
}

static rv_status freeze(rv_tok_finder *f, const trie_node *nodes, int32_t n) {
	rv_tok_pair *edges = NULL;
	size_t n_edges = 0;
	RV_TRY(RV_ALLOC(&f->token, n, "special tokens"));
	RV_TRY(RV_ALLOC(&edges, n, "special tokens"));
	for (int32_t i = 0; i < n; i++) {
		f->token[i] = nodes[i].token;
		for (int32_t c = nodes[i].child; c >= 0; c = nodes[c].sibling)
			edges[n_edges++] =
			        (rv_tok_pair){(uint64_t)(uint32_t)i << 32 | nodes[c].byte, 0, c};
	}
	rv_status status = rv_tok_pairs_build(&f->edges, edges, n_edges, NULL);
	rv_free(edges);
	return status;
}

rv_status rv_tok_finder_build(rv_tok_finder *f, const rv_tok_strings *texts, const int32_t *ids,
                              size_t n) {
	size_t total = 1;
	for (size_t i = 0; i < n; i++)
		total += rv_tok_text(texts, (size_t)ids[i]).len;
	if (total > INT32_MAX)
		return rv_fail(RV_ERR_LIMIT, "special tokens of %zu bytes are too many", total);
	trie_node *nodes;
	RV_TRY(rv_alloc_uninit((void **)&nodes, total, sizeof *nodes, "special tokens"));
	int32_t n_nodes = 1;
	nodes[0] = (trie_node){-1, -1, -1, 0};
	for (size_t i = 0; i < n; i++) {
		rv_str s = rv_tok_text(texts, (size_t)ids[i]);
		insert(nodes, &n_nodes, s, ids[i]);
		f->first[(uint8_t)s.data[0]] = 1;
	}
	f->any = n > 0;
	rv_status status = freeze(f, nodes, n_nodes);
	rv_free(nodes);
	if (status != RV_OK)
		rv_tok_finder_free(f);
	return status;
}
