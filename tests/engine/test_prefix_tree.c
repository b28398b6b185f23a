/* The radix tree of the prefix cache: what its check notices, pins, partials, failing allocations.
 * test_prefix_model.c holds it against a model. */
#include "tests/engine/page_counter.h"

#include <string.h>

static int allocations, alloc_fails_at;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	return ++allocations == alloc_fails_at ? NULL : __real_aligned_alloc(alignment, size);
}

/* Two prompts of five pages sharing three, and one under another identity. */
static void small_tree(rv_prefix_tree *t, counter *c) {
	static const int32_t tokens[2][10] = {{1, 1, 2, 2, 3, 3, 4, 4, 5, 5},
	                                      {1, 1, 2, 2, 3, 3, 6, 6, 7, 7}};
	int32_t pages[5];
	*c = (counter){.next = 0};
	rv_prefix_tree_init(t, 2, page_refs(c));
	for (int i = 0; i < 3; i++) {
		for (int p = 0; p < 5; p++)
			pages[p] = take_page(c);
		assert_ok(rv_prefix_tree_insert(t, i == 2, tokens[i % 2], 10, pages));
		for (int p = 0; p < 5; p++)
			release(c, pages[p]);
	}
	assert_int_equal(t->n_nodes, 4);
	assert_int_equal(t->n_pages, 12);
	assert_int_equal(t->n_roots, 2);
	assert_ok(rv_prefix_tree_verify(t));
}

#define NOTICED(place, value)                                                                          \
	do {                                                                                           \
		__typeof__(place) was = place;                                                         \
		place = value;                                                                         \
		assert_int_equal(rv_prefix_tree_verify(&t), RV_ERR_INVALID);                           \
		place = was;                                                                           \
		assert_ok(rv_prefix_tree_verify(&t));                                                  \
	} while (0)

/* Each breaks one thing of the small tree and says how to mend it. */
static void verify_notices(void **state) {
	(void)state;
	counter c;
	rv_prefix_tree t;
	small_tree(&t, &c);
	rv_prefix_node *oldest = t.oldest, *newest = t.newest;
	rv_prefix_node *upper = t.roots[0]->children[0];
	NOTICED(t.n_nodes, 3);
	NOTICED(t.n_nodes, 5);
	NOTICED(t.n_pages, 11);
	NOTICED(t.pages_inserted, 11);
	NOTICED(t.clock, 0);
	NOTICED(t.newest, oldest);
	NOTICED(oldest->n_pages, 0);
	NOTICED(oldest->n_pins, -1);
	NOTICED(oldest->partial, 1);
	NOTICED(oldest->partial, 2);
	NOTICED(oldest->parent, t.roots[1]);
	NOTICED(newest->older, NULL);
	NOTICED(upper->used, 0);
	NOTICED(upper->n_children, 1);
	NOTICED(upper->children[0], upper->children[1]);
	NOTICED(upper->children[0]->tokens[0], 9);
	NOTICED(t.roots[1]->identity, 0);
	NOTICED(t.roots[0]->n_children, 0);
	NOTICED(c.refs[upper->pages[2]], 0);
	rv_prefix_tree_deinit(&t);
}

/* A pin holds up to its last page; what is added after it goes first, and when it is taken back all
 * goes.
 */
static void pins_hold(void **state) {
	(void)state;
	static const int32_t tokens[] = {1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6};
	counter c;
	rv_prefix_tree t;
	rv_prefix_node *pin, *none;
	int64_t n;
	small_tree(&t, &c);
	assert_int_equal(rv_prefix_tree_match(&t, 0, tokens, 9), 9);
	assert_int_equal(rv_prefix_tree_pin(&t, 7, tokens, 12, &none, &n), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_prefix_tree_pin(&t, 0, tokens, 1, &none, &n), RV_ERR_NOT_FOUND);
	assert_ok(rv_prefix_tree_pin(&t, 0, tokens, 12, &pin, &n));
	assert_int_equal(n, 5);
	int32_t pages[6], more = take_page(&c);
	assert_ok(rv_prefix_tree_lookup(&t, 0, tokens, 12, pages, &n));
	assert_int_equal(n, 10);
	pages[5] = more;
	assert_ok(rv_prefix_tree_insert(&t, 0, tokens, 12, pages));
	release(&c, more);
	assert_int_equal(rv_prefix_tree_reclaimable(&t), 13 - 5);
	assert_int_equal(rv_prefix_tree_evict(&t, 100), 13 - 5);
	assert_int_equal(rv_prefix_tree_match(&t, 0, tokens, 12), 10);
	assert_int_equal(t.n_roots, 1);
	assert_ok(rv_prefix_tree_verify(&t));
	rv_prefix_tree_unpin(pin);
	rv_prefix_tree_unpin(NULL);
	assert_int_equal(rv_prefix_tree_evict(&t, 1), 1);
	assert_int_equal(rv_prefix_tree_match(&t, 0, tokens, 12), 8);
	rv_prefix_tree_clear(&t);
	assert_int_equal(t.n_pages + t.n_nodes + t.n_roots, 0);
	assert_ok(rv_prefix_tree_verify(&t));
	rv_prefix_tree_deinit(&t);
}

/* A page that is not full waits for a fuller one, which takes its place; one that goes on differently
 * stands beside it. */
static void partials(void **state) {
	(void)state;
	static const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, other[] = {1, 2, 9};
	counter c = {.next = 0};
	rv_prefix_tree t;
	int32_t pages[4];
	int64_t n;
	rv_prefix_tree_init(&t, 4, page_refs(&c));
	for (int i = 0; i < 4; i++)
		pages[i] = take_page(&c);
	assert_ok(rv_prefix_tree_insert(&t, 0, tokens, 2, &pages[3]));
	assert_int_equal(rv_prefix_tree_match(&t, 0, other, 3), 2);
	assert_ok(rv_prefix_tree_insert(&t, 0, tokens, 3, pages));
	assert_int_equal(c.refs[pages[3]], 1); /* given up */
	assert_ok(rv_prefix_tree_insert(&t, 0, tokens, 1, &pages[3]));
	assert_int_equal(c.refs[pages[3]], 1); /* not wanted */
	assert_ok(rv_prefix_tree_insert(&t, 0, other, 3, &pages[3]));
	assert_int_equal(t.n_nodes, 2);
	assert_ok(rv_prefix_tree_verify(&t));
	/* The whole page, two more, a partial after them: the first partial's node and another. */
	assert_ok(rv_prefix_tree_insert(&t, 0, tokens, 10, pages));
	assert_int_equal(t.n_nodes, 3);
	assert_int_equal(t.n_pages, 4);
	assert_ok(rv_prefix_tree_lookup(&t, 0, tokens, 12, pages, &n));
	assert_int_equal(n, 10);
	rv_prefix_node *partial = t.roots[0]->children[0]->children[0];
	assert_int_equal(partial->partial, 2);
	NOTICED(partial->partial, 4);
	NOTICED(partial->partial, -1);
	NOTICED(partial->n_pins, 1);
	NOTICED(t.roots[0]->children[0]->tokens[2], 9);
	assert_ok(rv_prefix_tree_verify(&t));
	rv_prefix_tree_deinit(&t);
	for (int i = 0; i < N_PAGES; i++)
		assert_in_range(c.refs[i], 0, 1);
}

/* Whichever allocation of an insertion that splits fails: nothing is lost, and it works the next time.
 */
static void no_memory(void **state) {
	(void)state;
	static const int32_t tokens[] = {1, 1, 2, 2, 8, 8, 9, 9};
	int failed = 0;
	for (int i = 1; i == 1 || failed == i - 1; i++)
		for (int new_root = 0; new_root < 2; new_root++) {
			counter c;
			rv_prefix_tree t;
			small_tree(&t, &c);
			int32_t pages[4];
			for (int p = 0; p < 4; p++)
				pages[p] = take_page(&c);
			const uint64_t identity = new_root ? 2 : 0;
			alloc_fails_at = allocations + i;
			rv_status st = rv_prefix_tree_insert(&t, identity, tokens, 8, pages);
			alloc_fails_at = 0;
			assert_ok(rv_prefix_tree_verify(&t));
			if (st != RV_OK) {
				assert_int_equal(st, RV_ERR_NO_MEMORY);
				assert_int_equal(t.n_pages, 12);
				failed = i;
			}
			assert_ok(rv_prefix_tree_insert(&t, identity, tokens, 8, pages));
			assert_int_equal(rv_prefix_tree_match(&t, identity, tokens, 8), 8);
			assert_int_equal(t.n_pages, new_root ? 16 : 14);
			rv_prefix_tree_deinit(&t);
		}
	assert_in_range(failed, 5, 20);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(verify_notices),
	        cmocka_unit_test(pins_hold),
	        cmocka_unit_test(partials),
	        cmocka_unit_test(no_memory),
	};
	return cmocka_run_group_tests_name("prefix tree", tests, NULL, NULL);
}
