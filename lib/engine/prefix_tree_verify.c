/* What must hold in a prefix tree (for tests). */
#include "engine/prefix_tree.h"

#include <stddef.h>

#define HOLDS(cond)                                                                                    \
	do {                                                                                           \
		if (!(cond))                                                                           \
			return rv_fail(RV_ERR_INVALID, "prefix tree: does not hold: %s", #cond);       \
	} while (0)

/* By the tokens they both have: of two children of a node never equal. */
static int stands_before(const rv_prefix_tree *t, const rv_prefix_node *a, const rv_prefix_node *b) {
	for (int64_t i = 0; i < t->page_size; i++) {
		if ((a->partial && i == a->partial) || (b->partial && i == b->partial))
			return 0;
		if (a->tokens[i] != b->tokens[i])
			return a->tokens[i] < b->tokens[i];
	}
	return 0;
}

static rv_status verify_children(const rv_prefix_tree *t, const rv_prefix_node *node) {
	for (int64_t i = 0; i < node->n_children; i++) {
		HOLDS(node->children[i]->parent == node);
		HOLDS(i == 0 || stands_before(t, node->children[i - 1], node->children[i]));
	}
	return RV_OK;
}

static rv_status verify_node(const rv_prefix_tree *t, const rv_prefix_node *node) {
	const rv_prefix_node *parent = node->parent;
	int64_t at = 0;
	HOLDS(parent);
	HOLDS(node->n_pages > 0);
	HOLDS(node->n_pins >= 0);
	HOLDS(node->used <= t->clock);
	HOLDS(node->partial >= 0 && node->partial < t->page_size);
	HOLDS(!node->partial || (node->n_pages == 1 && node->n_children == 0 && node->n_pins == 0));
	while (at < parent->n_children && parent->children[at] != node)
		at++;
	HOLDS(at < parent->n_children);
	if (parent->parent) {
		HOLDS(parent->mark > node->mark); /* used later, and listed */
		HOLDS(parent->used >= node->used);
	}
	for (int64_t i = 0; i < node->n_pages; i++)
		HOLDS(t->refs.count(t->refs.user, node->pages[i]) > 0);
	return verify_children(t, node);
}

rv_status rv_prefix_tree_verify(const rv_prefix_tree *tree) {
	int64_t n_nodes = 0, n_pages = 0, n_children = 0;
	const rv_prefix_node *last = NULL;
	for (rv_prefix_node *node = tree->oldest; node; last = node, node = node->newer) {
		HOLDS(node->older == last);
		HOLDS(n_nodes < tree->n_nodes);
		HOLDS(!last || last->used <= node->used);
		node->mark = n_nodes++;
		n_pages += node->n_pages;
		n_children += node->n_children;
	}
	HOLDS(tree->newest == last);
	for (int64_t i = 0; i < tree->n_roots; i++) {
		const rv_prefix_node *root = tree->roots[i];
		HOLDS(!root->parent && root->n_pages == 0);
		HOLDS(root->n_children > 0);
		HOLDS(i == 0 || tree->roots[i - 1]->identity < root->identity);
		RV_TRY(verify_children(tree, root));
		n_children += root->n_children;
	}
	HOLDS(n_nodes == tree->n_nodes && n_children == tree->n_nodes);
	HOLDS(n_pages == tree->n_pages);
	HOLDS(tree->pages_inserted - tree->pages_evicted - tree->pages_replaced == tree->n_pages);
	for (const rv_prefix_node *node = tree->oldest; node; node = node->newer)
		RV_TRY(verify_node(tree, node));
	return RV_OK;
}
