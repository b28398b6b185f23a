/* Radix tree from tokens to pages: what the prefix cache keeps (prefix_cache.h), apart from contexts.
 *
 * A tree a KV identity (a number that stands for what pages depend on besides their tokens). A node
 * holds one or more full pages, in order; its children differ in their first page, so one comparison a
 * page finds the way. No page is stored without those before it. A page that is not full is a leaf of
 * its own, a partial, until a fuller one takes its place; none of a node's children begins with
 * another.
 *
 * Each operation touches one path from a root, splitting a node where its first pages only were used,
 * so all pages of a node were last used together. Nodes hang in one list by last use in which children
 * come before their parents: the first leaf in it is the least recently used one, and there are no
 * ties. A node left with a single child is not merged with it: they were used at different times.
 *
 * Not thread-safe. The struct is open to tests, which break it to see rv_prefix_tree_verify notice. */
#ifndef RV_ENGINE_PREFIX_TREE_H
#define RV_ENGINE_PREFIX_TREE_H

#include "base/status.h"

#include <stdint.h>

/* Who counts references to pages. The tree holds one to each of its pages. */
typedef struct rv_page_refs {
	void (*retain)(void *user, int32_t page);
	void (*release)(void *user, int32_t page);
	int32_t (*count)(void *user, int32_t page);
	void *user;
} rv_page_refs;

typedef struct rv_prefix_node rv_prefix_node;
struct rv_prefix_node {
	rv_prefix_node *parent;        /* NULL: a root, which holds no pages */
	uint64_t identity;             /* of a root */
	rv_prefix_node **children;     /* ascending by the tokens of their first page */
	rv_prefix_node *older, *newer; /* by last use; roots are not listed */
	int32_t *tokens;               /* [n_pages * page_size] */
	int32_t *pages;                /* [n_pages] */
	int64_t n_children, n_pages;
	int64_t partial; /* tokens of its only page; 0: its pages are full */
	uint64_t used;   /* when, by the tree's clock */
	int64_t n_pins;  /* held up to its last page */
	int64_t mark;    /* scratch of a walk over all nodes */
};

typedef struct rv_prefix_tree {
	int64_t page_size; /* tokens */
	rv_page_refs refs;
	rv_prefix_node **roots; /* ascending by identity; each has a child or more */
	rv_prefix_node *oldest, *newest;
	uint64_t clock;
	int64_t n_roots, n_nodes, n_pages; /* nodes: roots not counted */
	/* since the beginning; replaced: partials by fuller pages */
	int64_t pages_inserted, pages_evicted, pages_replaced;
} rv_prefix_tree;

void rv_prefix_tree_init(rv_prefix_tree *tree, int64_t page_size, rv_page_refs refs);
void rv_prefix_tree_deinit(rv_prefix_tree *tree); /* gives up all pages, pinned or not */

/* How many of the first n tokens are there: whole pages, and then what the page after them that comes
 * nearest has in common. Touches nothing. */
int64_t rv_prefix_tree_match(const rv_prefix_tree *tree, uint64_t identity, const int32_t *tokens,
                             int64_t n);
/* The same, as used now: *n_found tokens, their pages into `pages` (room for n / page_size, rounded
 * up); of the last one perhaps only the first tokens are meant, which is no use of it. They are
 * borrowed: the next call of insert, evict or clear may give them up. */
rv_status rv_prefix_tree_lookup(rv_prefix_tree *tree, uint64_t identity, const int32_t *tokens,
                                int64_t n, int32_t *pages, int64_t *n_found);
/* Retains those pages of these n tokens that are not there yet, as used now; the last one as a partial
 * when n is no multiple of the page size. */
rv_status rv_prefix_tree_insert(rv_prefix_tree *tree, uint64_t identity, const int32_t *tokens,
                                int64_t n, const int32_t *pages);

/* Keeps the pages that match from eviction; RV_ERR_NOT_FOUND when none does. *pin stands for them until
 * rv_prefix_tree_unpin. */
rv_status rv_prefix_tree_pin(rv_prefix_tree *tree, uint64_t identity, const int32_t *tokens, int64_t n,
                             rv_prefix_node **pin, int64_t *n_pinned);
void rv_prefix_tree_unpin(rv_prefix_node *pin); /* accepts NULL */

/* Gives up least recently used pages until n became free: those first that nobody else holds, others
 * only where that frees pages before them. How many became free. */
int64_t rv_prefix_tree_evict(rv_prefix_tree *tree, int64_t n);
int64_t rv_prefix_tree_reclaimable(const rv_prefix_tree *tree); /* pages evict could free */
void rv_prefix_tree_clear(rv_prefix_tree *tree);                /* all that no pin holds */

/* RV_ERR_INVALID says which invariant does not hold. */
rv_status rv_prefix_tree_verify(const rv_prefix_tree *tree);

#endif
