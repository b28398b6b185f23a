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

/* Tokens of a node's first page. */
static int64_t first_tokens(const rv_prefix_tree *t, const rv_prefix_node *node) {
	return node->partial ? node->partial : t->page_size;
}

/* A child whose first page begins with these n <= page_size tokens, or a partial that they begin with;
 * or where these tokens would stand. No child's first page begins with another's: for n = page_size at
 * most one is found. */
static slot find_child(const rv_prefix_tree *t, const rv_prefix_node *node, const int32_t *tokens,
                       int64_t n) {
	int64_t lo = 0, hi = node->n_children;
	while (lo < hi) {
		int64_t mid = (lo + hi) / 2, m = first_tokens(t, node->children[mid]);
		int order = compare_tokens(node->children[mid]->tokens, tokens, m < n ? m : n);
		if (order == 0)
			return (slot){mid, 1};
		if (order < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (slot){lo, 0};
}

static int64_t place_in_parent(const rv_prefix_tree *t, const rv_prefix_node *node) {
	return find_child(t, node->parent, node->tokens, first_tokens(t, node)).at;
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
	node->parent->children[place_in_parent(t, node)] = upper;
	link_after(t, node, upper);
	t->n_nodes++;
	node->parent = upper;
	node->n_pages -= n;
	memmove(node->tokens, node->tokens + n * t->page_size, (size_t)node->n_pages * page_bytes(t));
	memmove(node->pages, node->pages + n, (size_t)node->n_pages * sizeof *node->pages);
	*out = upper;
	return RV_OK;
}

static void retain(rv_prefix_tree *t, const int32_t *pages, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		t->refs.retain(t->refs.user, pages[i]);
	t->n_pages += n;
	t->pages_inserted += n;
}

static void release(rv_prefix_tree *t, int32_t page) {
	t->refs.release(t->refs.user, page);
	t->n_pages--;
}

/* A leaf under `parent` with n full pages, or one with `partial` tokens. */
static rv_status add_leaf(rv_prefix_tree *t, rv_prefix_node *parent, const int32_t *tokens,
                          const int32_t *pages, int64_t n, int64_t partial, rv_prefix_node **out) {
	rv_prefix_node *leaf;
	RV_TRY(new_node(t, n, &leaf));
	leaf->partial = partial;
	leaf->n_pages = n;
	memcpy(leaf->tokens, tokens,
	       partial ? (size_t)partial * sizeof *tokens : (size_t)n * page_bytes(t));
	memcpy(leaf->pages, pages, (size_t)n * sizeof *pages);
	slot s = find_child(t, parent, tokens, first_tokens(t, leaf));
	rv_status st = put(&parent->children, &parent->n_children, s.at, leaf);
	if (st != RV_OK) {
		free_node(leaf);
		return st;
	}
	leaf->parent = parent;
	link_after(t, NULL, leaf);
	t->n_nodes++;
	retain(t, pages, n);
	*out = leaf;
	return RV_OK;
}

static rv_status extend_leaf(rv_prefix_tree *t, rv_prefix_node *leaf, const int32_t *tokens,
                             const int32_t *pages, int64_t n) {
	int64_t now = leaf->n_pages;
	RV_TRY(RV_GROW(&leaf->tokens, now * t->page_size, (now + n) * t->page_size, "prefix tree"));
	RV_TRY(RV_GROW(&leaf->pages, now, now + n, "prefix tree"));
	fill(t, leaf, tokens, pages, n);
	retain(t, pages, n);
	return RV_OK;
}

/* A page with n tokens takes the place of a partial's, with which it begins. */
static void refill(rv_prefix_tree *t, rv_prefix_node *partial, const int32_t *tokens, int64_t n,
                   int32_t page) {
	retain(t, &page, 1);
	release(t, partial->pages[0]);
	t->pages_replaced++;
	memcpy(partial->tokens, tokens, (size_t)n * sizeof *tokens);
	partial->pages[0] = page;
	partial->partial = n < t->page_size ? n : 0;
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
		slot s = find_child(t, at.node, tokens + at.n_pages * t->page_size, t->page_size);
		if (!s.found || at.node->children[s.at]->partial)
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
	int64_t next = find_child(t, node, tokens, n).at;
	for (int64_t i = next > 0 ? next - 1 : 0; i <= next && i < node->n_children; i++) {
		const rv_prefix_node *child = node->children[i];
		int64_t m = first_tokens(t, child),
		        common = n_common(child->tokens, tokens, m < n ? m : n);
		if (common > most) {
			most = common;
			*page = child->pages[0];
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

/* n > 0 full pages after the last of *node, where no full page goes on with them: *node holds the last
 * of them then. */
static rv_status add_pages(rv_prefix_tree *t, rv_prefix_node **node, const int32_t *tokens,
                           const int32_t *pages, int64_t n) {
	slot s = find_child(t, *node, tokens, t->page_size);
	if (s.found) {
		*node = (*node)->children[s.at];
		refill(t, *node, tokens, t->page_size, pages[0]);
		tokens += t->page_size;
		pages++;
		n--;
	}
	if (n == 0)
		return RV_OK;
	/* A pin holds a node up to its last page, not what comes after. */
	if ((*node)->parent && (*node)->n_children == 0 && (*node)->n_pins == 0)
		return extend_leaf(t, *node, tokens, pages, n);
	return add_leaf(t, *node, tokens, pages, n, 0, node);
}

/* A page with n < page_size tokens after the last of *node, unless one there begins with them. */
static rv_status add_partial(rv_prefix_tree *t, rv_prefix_node **node, const int32_t *tokens, int64_t n,
                             int32_t page) {
	slot s = find_child(t, *node, tokens, n);
	if (!s.found)
		return add_leaf(t, *node, tokens, &page, 1, n, node);
	rv_prefix_node *child = (*node)->children[s.at];
	if (first_tokens(t, child) < n) {
		refill(t, child, tokens, n, page);
		*node = child;
	}
	return RV_OK;
}

static rv_status add_rest(rv_prefix_tree *t, place at, const int32_t *tokens, int64_t n,
                          const int32_t *pages) {
	int64_t n_full = n / t->page_size, n_partial = n % t->page_size;
	rv_status st = RV_OK;
	if (n_full > at.n_pages)
		st = add_pages(t, &at.node, tokens + at.n_pages * t->page_size, pages + at.n_pages,
		               n_full - at.n_pages);
	if (st == RV_OK && n_partial > 0)
		st = add_partial(t, &at.node, tokens + n_full * t->page_size, n_partial, pages[n_full]);
	touch(t, at.node);
	return st;
}

rv_status rv_prefix_tree_insert(rv_prefix_tree *tree, uint64_t identity, const int32_t *tokens,
                                int64_t n, const int32_t *pages) {
	if (n == 0)
		return RV_OK;
	place at = descend(tree, identity, tokens, n);
	if (!at.node)
		RV_TRY(add_root(tree, identity, &at.node));
	rv_prefix_node *root = at.node->parent ? NULL : at.node;
	rv_status st = arrive(tree, &at);
	if (st == RV_OK)
		st = add_rest(tree, at, tokens, n, pages);
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
	take(parent->children, &parent->n_children, place_in_parent(t, node));
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
	release(t, page);
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
