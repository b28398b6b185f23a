/* Pages that are only counted, for tests of what holds references to pages. */
#ifndef RV_TESTS_ENGINE_PAGE_COUNTER_H
#define RV_TESTS_ENGINE_PAGE_COUNTER_H

#include "engine/prefix_tree.h"
#include "tests/support/test.h"

enum { N_PAGES = 1024 };

typedef struct counter {
	int32_t refs[N_PAGES];
	int32_t next;
} counter;

static inline void retain(void *user, int32_t page) {
	((counter *)user)->refs[page]++;
}
static inline void release(void *user, int32_t page) {
	assert_true(((counter *)user)->refs[page]-- > 0);
}
static inline int32_t count(void *user, int32_t page) {
	return ((counter *)user)->refs[page];
}
static inline rv_page_refs page_refs(counter *c) {
	return (rv_page_refs){retain, release, count, c};
}

static inline int32_t take_page(counter *c) {
	do
		c->next = (c->next + 1) % N_PAGES;
	while (c->refs[c->next] > 0);
	c->refs[c->next] = 1;
	return c->next;
}

#endif
