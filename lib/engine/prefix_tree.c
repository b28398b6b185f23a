#include "engine/prefix_tree.h"

#include "base/mem.h"

#include <string.h>

void rv_prefix_tree_init(rv_prefix_tree *tree, int64_t page_size, rv_page_refs refs) {
	*tree = (rv_prefix_tree){.page_size = page_size, .refs = refs};
}

static size_t page_bytes(const rv_prefix_tree *t) {
	return (size_t)t->page_size * sizeof(int32_t);
}

/* ---- sorted arrays of nodes: the roots, and the children of a node ---- */

typedef struct slot {
	int64_t at;
	int found;
} slot;

static int64_t n_common(const int32_t *a, const int32_t *b, int64_t n) {
	int64_t i = 0;
	while (i < n && a[i] == b[i])
		i++;
	return i;
}

/* By the first n tokens. */
static int compare_tokens(const int32_t *a, const int32_t *b, int64_t n) {
	int64_t i = n_common(a, b, n);
	return i == n ? 0 : a[i] < b[i] ? -1 : 1;
}

static slot find_root(const rv_prefix_tree *t, uint64_t identity) {
	int64_t lo = 0, hi = t->n_roots;
	while (lo < hi) {
		int64_t mid = (lo + hi) / 2;
		if (t->roots[mid]->identity == identity)
			return (slot){mid, 1};
		if (t->roots[mid]->identity < identity)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (slot){lo, 0};
}

/* A child whose first page begins with these n <= page_size tokens, or where it would stand. */
static slot find_child_from(const rv_prefix_node *node, const int32_t *tokens, int64_t n) {
	int64_t lo = 0, hi = node->n_children;
	while (lo < hi) {
		int64_t mid = (lo + hi) / 2;
		int order = compare_tokens(node->children[mid]->tokens, tokens, n);
		if (order == 0)
			return (slot){mid, 1};
		if (order < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (slot){lo, 0};
}

static slot find_child(const rv_prefix_tree *t, const rv_prefix_node *node, const int32_t *page) {
	return find_child_from(node, page, t->page_size);
}

/* Grows by powers of two: an array of 2^k is full. */
static rv_status put(rv_prefix_node ***list, int64_t *n, int64_t at, rv_prefix_node *node) {
	if ((*n & (*n - 1)) == 0)
		RV_TRY(RV_GROW(list, *n, *n ? 2 * *n : 1, "prefix tree"));
	memmove(*list + at + 1, *list + at, (size_t)(*n - at) * sizeof **list);
	(*list)[at] = node;
	++*n;
	return RV_OK;
}

static void take(rv_prefix_node **list, int64_t *n, int64_t at) {
	--*n;
	memmove(list + at, list + at + 1, (size_t)(*n - at) * sizeof *list);
}

/* ---- the list by last use ---- */

static void unlink_node(rv_prefix_tree *t, rv_prefix_node *node) {
	*(node->older ? &node->older->newer : &t->oldest) = node->newer;
	*(node->newer ? &node->newer->older : &t->newest) = node->older;
}

/* Right after `older` (NULL: first). */
static void link_after(rv_prefix_tree *t, rv_prefix_node *older, rv_prefix_node *node) {
	node->older = older;
	node->newer = older ? older->newer : t->oldest;
	*(node->older ? &node->older->newer : &t->oldest) = node;
	*(node->newer ? &node->newer->older : &t->newest) = node;
}

/* The path to a node was used now; from the leaf up, so that children stay older than their parents. */
static void touch(rv_prefix_tree *t, rv_prefix_node *node) {
	t->clock++;
	for (; node->parent; node = node->parent) {
		unlink_node(t, node);
		link_after(t, t->newest, node);
		node->used = t->clock;
	}
}

/* ---- nodes ---- */

static void free_node(rv_prefix_node *node) {
	rv_free(node->children);
	rv_free(node->tokens);
	rv_free(node->pages);
	rv_free(node);
}

/* A node with n pages of room, in no list. */
static rv_status new_node(const rv_prefix_tree *t, int64_t n, rv_prefix_node **out) {
	rv_prefix_node *node;
	RV_TRY(RV_ALLOC(&node, 1, "prefix tree"));
	rv_status st = RV_ALLOC(&node->tokens, n * t->page_size, "prefix tree");
	if (st == RV_OK)
		st = RV_ALLOC(&node->pages, n, "prefix tree");
	if (st != RV_OK) {
		free_node(node);
		return st;
	}
	*out = node;
	return RV_OK;
}

/* Copies n pages into a node that has room for them after those it holds. */
static void fill(const rv_prefix_tree *t, rv_prefix_node *node, const int32_t *tokens,
                 const int32_t *pages, int64_t n) {
	memcpy(node->tokens + node->n_pages * t->page_size, tokens, (size_t)n * page_bytes(t));
	memcpy(node->pages + node->n_pages, pages, (size_t)n * sizeof *pages);
	node->n_pages += n;
}

/* Puts a new node with the first n pages of `node` before it. The old node keeps what pins stand for.
 */
static rv_status split(rv_prefix_tree *t, rv_prefix_node *node, int64_t n, rv_prefix_node **out) {
	rv_prefix_node *upper;
	RV_TRY(new_node(t, n, &upper));
	rv_status st = put(&upper->children, &upper->n_children, 0, node);
	if (st != RV_OK) {
		free_node(upper);
		return st;
	}
	fill(t, upper, node->tokens, node->pages, n);
	upper->parent = node->parent;
	upper->used = node->used;
	node->parent->children[find_child(t, node->parent, node->tokens).at] = upper;
	link_after(t, node, upper);
	t->n_nodes++;
	node->parent = upper;
	node->n_pages -= n;
	memmove(node->tokens, node->tokens + n * t->page_size, (size_t)node->n_pages * page_bytes(t));
	memmove(node->pages, node->pages + n, (size_t)node->n_pages * sizeof *node->pages);
	*out = upper;
	return RV_OK;
}

/* A leaf under `parent` with n pages, not yet retained. */
static rv_status add_leaf(rv_prefix_tree *t, rv_prefix_node *parent, const int32_t *tokens,
                          const int32_t *pages, int64_t n, rv_prefix_node **out) {
	rv_prefix_node *leaf;
	RV_TRY(new_node(t, n, &leaf));
	fill(t, leaf, tokens, pages, n);
	rv_status st =
	        put(&parent->children, &parent->n_children, find_child(t, parent, tokens).at, leaf);
	if (st != RV_OK) {
		free_node(leaf);
		return st;
	}
	leaf->parent = parent;
	link_after(t, NULL, leaf);
	t->n_nodes++;
	*out = leaf;
	return RV_OK;
}

static rv_status extend_leaf(const rv_prefix_tree *t, rv_prefix_node *leaf, const int32_t *tokens,
                             const int32_t *pages, int64_t n) {
	int64_t now = leaf->n_pages;
	RV_TRY(RV_GROW(&leaf->tokens, now * t->page_size, (now + n) * t->page_size, "prefix tree"));
	RV_TRY(RV_GROW(&leaf->pages, now, now + n, "prefix tree"));
	fill(t, leaf, tokens, pages, n);
	return RV_OK;
}

static rv_status add_root(rv_prefix_tree *t, uint64_t identity, rv_prefix_node **out) {
	rv_prefix_node *root;
	RV_TRY(new_node(t, 0, &root));
	root->identity = identity;
	rv_status st = put(&t->roots, &t->n_roots, find_root(t, identity).at, root);
	if (st != RV_OK) {
		free_node(root);
		return st;
	}
	*out = root;
	return RV_OK;
}

static void drop_empty_root(rv_prefix_tree *t, rv_prefix_node *root) {
	if (root->n_children > 0)
		return;
	take(t->roots, &t->n_roots, find_root(t, root->identity).at);
	free_node(root);
}

/* ---- finding ---- */

/* Where a walk along tokens ends: `n_used` of node's pages match (all of those before it do). */
typedef struct place {
	rv_prefix_node *node; /* NULL: no root */
	int64_t n_used, n_pages;
} place;

static place descend(const rv_prefix_tree *t, uint64_t identity, const int32_t *tokens, int64_t n) {
	int64_t n_pages = n / t->page_size;
	slot root = find_root(t, identity);
	place at = {root.found ? t->roots[root.at] : NULL, 0, 0};
	while (at.node && at.n_used == at.node->n_pages && at.n_pages < n_pages) {
		slot s = find_child(t, at.node, tokens + at.n_pages * t->page_size);
		if (!s.found)
			break;
		at.node = at.node->children[s.at];
		at.n_used = 0;
		do {
			at.n_used++;
			at.n_pages++;
		} while (at.n_used < at.node->n_pages && at.n_pages < n_pages &&
		         memcmp(at.node->tokens + at.n_used * t->page_size,
		                tokens + at.n_pages * t->page_size, page_bytes(t)) == 0);
	}
	return at;
}

/* Makes the place the end of a node, and its path the most recently used one. */
static rv_status arrive(rv_prefix_tree *t, place *at) {
	if (at->n_used < at->node->n_pages)
		RV_TRY(split(t, at->node, at->n_used, &at->node));
	touch(t, at->node);
	return RV_OK;
}

/* How many tokens go on after a place: the page stored there that has most of them in common. */
static int64_t find_tail(const rv_prefix_tree *t, const place *at, const int32_t *tokens, int64_t n,
                         int32_t *page) {
	const rv_prefix_node *node = at->node;
	int64_t most = 0;
	if (!node)
		return 0;
	tokens += at->n_pages * t->page_size;
	n -= at->n_pages * t->page_size;
	n = n < t->page_size ? n : t->page_size;
	if (at->n_used < node->n_pages) {
		*page = node->pages[at->n_used];
		return n_common(node->tokens + at->n_used * t->page_size, tokens, n);
	}
	/* Children are sorted: it is one of the two beside these tokens' place. */
	int64_t next = find_child_from(node, tokens, n).at;
	for (int64_t i = next > 0 ? next - 1 : 0; i <= next && i < node->n_children; i++) {
		int64_t common = n_common(node->children[i]->tokens, tokens, n);
		if (common > most) {
			most = common;
			*page = node->children[i]->pages[0];
		}
	}
	return most;
}

int64_t rv_prefix_tree_match(const rv_prefix_tree *tree, uint64_t identity, const int32_t *tokens,
                             int64_t n) {
	int32_t page;
	place at = descend(tree, identity, tokens, n);
	return at.n_pages * tree->page_size + find_tail(tree, &at, tokens, n, &page);
}

rv_status rv_prefix_tree_lookup(rv_prefix_tree *tree, uint64_t identity, const int32_t *tokens,
                                int64_t n, int32_t *pages, int64_t *n_found) {
	place at = descend(tree, identity, tokens, n);
	int32_t tail_page = -1;
	int64_t n_tail = find_tail(tree, &at, tokens, n, &tail_page);
	if (at.n_pages > 0)
		RV_TRY(arrive(tree, &at));
	if (n_tail > 0)
		pages[at.n_pages] = tail_page;
	int64_t end = at.n_pages;
	for (const rv_prefix_node *node = at.node; end > 0; node = node->parent) {
		end -= node->n_pages;
		memcpy(pages + end, node->pages, (size_t)node->n_pages * sizeof *pages);
	}
	*n_found = at.n_pages * tree->page_size + n_tail;
	return RV_OK;
}

/* ---- adding ---- */

/* The pages after those that are there. */
static rv_status add_rest(rv_prefix_tree *t, place *at, const int32_t *tokens, const int32_t *pages,
                          int64_t n) {
	rv_prefix_node *node = at->node;
	tokens += at->n_pages * t->page_size;
	pages += at->n_pages;
	/* A pin holds a node up to its last page, not what comes after. */
	if (node->parent && node->n_children == 0 && node->n_pins == 0)
		RV_TRY(extend_leaf(t, node, tokens, pages, n));
	else
		RV_TRY(add_leaf(t, node, tokens, pages, n, &at->node));
	for (int64_t i = 0; i < n; i++)
		t->refs.retain(t->refs.user, pages[i]);
	t->n_pages += n;
	t->pages_inserted += n;
	touch(t, at->node);
	return RV_OK;
}

rv_status rv_prefix_tree_insert(rv_prefix_tree *tree, uint64_t identity, const int32_t *tokens,
                                int64_t n, const int32_t *pages) {
	int64_t n_pages = n / tree->page_size;
	if (n_pages == 0)
		return RV_OK;
	place at = descend(tree, identity, tokens, n);
	if (!at.node)
		RV_TRY(add_root(tree, identity, &at.node));
	rv_prefix_node *root = at.node->parent ? NULL : at.node;
	rv_status st = arrive(tree, &at);
	if (st == RV_OK && at.n_pages < n_pages)
		st = add_rest(tree, &at, tokens, pages, n_pages - at.n_pages);
	if (root)
		drop_empty_root(tree, root);
	return st;
}

/* ---- pins ---- */

rv_status rv_prefix_tree_pin(rv_prefix_tree *tree, uint64_t identity, const int32_t *tokens, int64_t n,
                             rv_prefix_node **pin, int64_t *n_pinned) {
	place at = descend(tree, identity, tokens, n);
	if (at.n_pages == 0)
		return rv_fail(RV_ERR_NOT_FOUND, "prefix cache: no page of these tokens to pin");
	RV_TRY(arrive(tree, &at));
	at.node->n_pins++;
	*pin = at.node;
	*n_pinned = at.n_pages;
	return RV_OK;
}

void rv_prefix_tree_unpin(rv_prefix_node *pin) {
	if (pin)
		pin->n_pins--;
}

/* ---- giving up ---- */

static int alone(const rv_prefix_tree *t, int32_t page) {
	return t->refs.count(t->refs.user, page) == 1;
}

static void remove_node(rv_prefix_tree *t, rv_prefix_node *node) {
	rv_prefix_node *parent = node->parent;
	take(parent->children, &parent->n_children, find_child(t, parent, node->tokens).at);
	unlink_node(t, node);
	free_node(node);
	t->n_nodes--;
	if (!parent->parent)
		drop_empty_root(t, parent);
}

/* Gives up a leaf's last page: 1 when that freed it. */
static int trim(rv_prefix_tree *t, rv_prefix_node *leaf) {
	int32_t page = leaf->pages[--leaf->n_pages];
	int freed = alone(t, page);
	t->refs.release(t->refs.user, page);
	t->n_pages--;
	t->pages_evicted++;
	if (leaf->n_pages == 0)
		remove_node(t, leaf);
	return freed;
}

/* The least recently used leaf that no pin holds, of those whose last page nobody else holds. */
static rv_prefix_node *victim(const rv_prefix_tree *t, int in_use_too) {
	rv_prefix_node *node = t->oldest;
	while (node && (node->n_children > 0 || node->n_pins > 0 ||
	                !(in_use_too || alone(t, node->pages[node->n_pages - 1]))))
		node = node->newer;
	return node;
}

int64_t rv_prefix_tree_evict(rv_prefix_tree *tree, int64_t n) {
	int64_t freed = 0;
	while (freed < n) {
		rv_prefix_node *leaf = victim(tree, 0);
		/* A page in use may stand before the one that is not: a sequence has its own copy of
		 * that. */
		if (!leaf && rv_prefix_tree_reclaimable(tree) > 0)
			leaf = victim(tree, 1);
		if (!leaf)
			break;
		freed += trim(tree, leaf);
	}
	return freed;
}

int64_t rv_prefix_tree_reclaimable(const rv_prefix_tree *tree) {
	int64_t n = 0;
	for (rv_prefix_node *node = tree->oldest; node; node = node->newer)
		node->mark = node->n_pins > 0;
	for (rv_prefix_node *node = tree->oldest; node; node = node->newer) {
		if (node->mark)
			node->parent->mark = 1; /* comes later in the list */
		for (int64_t i = 0; i < node->n_pages && !node->mark; i++)
			n += alone(tree, node->pages[i]);
	}
	return n;
}

void rv_prefix_tree_clear(rv_prefix_tree *tree) {
	for (rv_prefix_node *leaf; (leaf = victim(tree, 1)) != NULL;)
		trim(tree, leaf);
}

void rv_prefix_tree_deinit(rv_prefix_tree *tree) {
	for (rv_prefix_node *node = tree->oldest; node; node = node->newer)
		node->n_pins = 0;
	rv_prefix_tree_clear(tree);
	rv_free(tree->roots);
	*tree = (rv_prefix_tree){0};
}

/* ---- checking ---- */

#define HOLDS(cond)                                                                                    \
	do {                                                                                           \
		if (!(cond))                                                                           \
			return rv_fail(RV_ERR_INVALID, "prefix tree: does not hold: %s", #cond);       \
	} while (0)

static rv_status verify_children(const rv_prefix_tree *t, const rv_prefix_node *node) {
	for (int64_t i = 0; i < node->n_children; i++) {
		const rv_prefix_node *child = node->children[i];
		HOLDS(child->parent == node);
		HOLDS(i == 0 ||
		      compare_tokens(node->children[i - 1]->tokens, child->tokens, t->page_size) < 0);
	}
	return RV_OK;
}

static rv_status verify_node(const rv_prefix_tree *t, const rv_prefix_node *node) {
	const rv_prefix_node *parent = node->parent;
	HOLDS(parent);
	HOLDS(node->n_pages > 0);
	HOLDS(node->n_pins >= 0);
	HOLDS(node->used <= t->clock);
	slot s = find_child(t, parent, node->tokens);
	HOLDS(s.found && parent->children[s.at] == node);
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
	HOLDS(tree->pages_inserted - tree->pages_evicted == tree->n_pages);
	for (const rv_prefix_node *node = tree->oldest; node; node = node->newer)
		RV_TRY(verify_node(tree, node));
	return RV_OK;
}
