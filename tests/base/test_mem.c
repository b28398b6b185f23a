/* Allocation and arenas, also when the heap fails at the n-th call. */
#include "base_test.h"

#include "base/arena.h"
#include "base/mem.h"

/* The n-th allocation fails (once, or from then on); 0: none. */
static int fail_at, fail_on, calls, live;

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *ptr);
void __wrap_free(void *ptr);

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	calls++;
	if (fail_at && (calls == fail_at || (fail_on && calls > fail_at)))
		return NULL;
	void *p = __real_aligned_alloc(alignment, size);
	if (p) {
		memset(p, 0xA5, size); /* what the heap hands out is never zero by luck */
		live++;
	}
	return p;
}

void __wrap_free(void *ptr) {
	live -= ptr != NULL;
	__real_free(ptr);
}

static void faults(int at, int on) {
	fail_at = at;
	fail_on = on;
	calls = 0;
}

static int all_zero(const void *data, size_t size) {
	const unsigned char *p = data;
	for (size_t i = 0; i < size; i++)
		if (p[i])
			return 0;
	return 1;
}

static void memory_is_aligned_and_zero(void **state) {
	(void)state;
	static const size_t sizes[] = {1, 3, 63, 64, 65, 4097, 1 << 20};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		void *p;
		assert_ok(rv_alloc(&p, sizes[i], 1, "x"));
		assert_int_equal((uintptr_t)p % RV_ALIGN, 0);
		assert_true(all_zero(p, sizes[i]));
		rv_free(p);
		/* Negative control: the check sees memory that was not zeroed. */
		assert_ok(rv_alloc_uninit(&p, sizes[i], 1, "x"));
		assert_int_equal((uintptr_t)p % RV_ALIGN, 0);
		assert_false(all_zero(p, sizes[i]));
		rv_free(p);
	}
	void *none = &none;
	assert_ok(rv_alloc(&none, 0, 8, "x"));
	assert_null(none);
	none = &none;
	assert_ok(rv_alloc(&none, 8, 0, "x"));
	assert_null(none);
	rv_free(NULL);
}

static void sizes_cannot_wrap(void **state) {
	(void)state;
	void *p = &p;
	assert_fails(rv_alloc(&p, SIZE_MAX / 2, 3, "KV cache"), RV_ERR_NO_MEMORY, "KV cache");
	assert_null(p);
	assert_fails(rv_alloc(&p, SIZE_MAX, 1, "x"), RV_ERR_NO_MEMORY, "x");
	assert_fails(rv_alloc(&p, SIZE_MAX - 64, 1, "x"), RV_ERR_NO_MEMORY, "x");
	assert_fails(rv_alloc(&p, 1, (size_t)PTRDIFF_MAX, "x"), RV_ERR_NO_MEMORY, "x");
	uint64_t *list = NULL;
	assert_int_equal(RV_GROW(&list, 0, SIZE_MAX / 4, "list"), RV_ERR_NO_MEMORY);
	assert_null(list);
	char *s = NULL;
	assert_fails(rv_strndup(&s, "", SIZE_MAX), RV_ERR_NO_MEMORY, "string");
}

static void grow_keeps_and_zeroes(void **state) {
	(void)state;
	int *list = NULL;
	assert_ok(RV_GROW(&list, 0, 10, "list"));
	assert_true(all_zero(list, 10 * sizeof *list));
	for (int i = 0; i < 10; i++)
		list[i] = i + 1;
	assert_ok(RV_GROW(&list, 10, 1000, "list"));
	for (int i = 0; i < 1000; i++)
		assert_int_equal(list[i], i < 10 ? i + 1 : 0);
	int *same = list;
	assert_ok(RV_GROW(&list, 1000, 5, "list"));
	assert_ptr_equal(list, same);
	faults(1, 0);
	assert_fails(RV_GROW(&list, 1000, 2000, "list"), RV_ERR_NO_MEMORY, "list");
	faults(0, 0);
	assert_ptr_equal(list, same);
	assert_int_equal(list[9], 10);
	rv_free(list);
}

static void strings_are_copied(void **state) {
	(void)state;
	char *s;
	assert_ok(rv_strdup(&s, "text"));
	assert_string_equal(s, "text");
	rv_free(s);
	assert_ok(rv_strndup(&s, "text", 2));
	assert_string_equal(s, "te");
	rv_free(s);
	assert_ok(rv_strndup(&s, NULL, 0));
	assert_string_equal(s, "");
	rv_free(s);
}

static void fixed_arena_has_a_limit(void **state) {
	(void)state;
	rv_arena *a;
	void *p;
	assert_ok(rv_arena_create(&a, 1000, 0)); /* 1024 */
	faults(0, 0);
	for (int i = 0; i < 16; i++) {
		assert_ok(rv_arena_alloc(a, &p, 1 + (size_t)i * 4));
		assert_int_equal((uintptr_t)p % 64, 0);
		memset(p, 0xff, 1 + (size_t)i * 4);
	}
	assert_int_equal(rv_arena_used(a), 1024);
	assert_fails(rv_arena_alloc(a, &p, 1), RV_ERR_LIMIT, "arena");
	assert_null(p);
	assert_int_equal(rv_arena_used(a), 1024);
	rv_arena_reset(a, 0);
	assert_int_equal(rv_arena_used(a), 0);
	assert_int_equal(rv_arena_peak(a), 1024);
	assert_ok(rv_arena_alloc(a, &p, 1024));
	assert_true(all_zero(p, 1024));
	assert_int_equal(rv_arena_alloc(a, &p, SIZE_MAX), RV_ERR_LIMIT);
	assert_int_equal(rv_arena_alloc(a, &p, SIZE_MAX - 100), RV_ERR_LIMIT);
	assert_ok(rv_arena_alloc(a, &p, 0));
	assert_null(p);
	assert_int_equal(calls, 0); /* nothing here touched the heap */
	rv_arena_destroy(a);
	rv_arena_destroy(NULL);
}

/* Many allocations and resets against what each allocation should hold. */
static void growable_arena_keeps_contents(void **state) {
	(void)state;
	enum { N = 400 };
	struct {
		unsigned char *p;
		size_t size, mark;
	} held[N];
	uint32_t random = 1;
	rv_arena *a;
	int n = 0, heap_calls = 0;
	assert_ok(rv_arena_create(&a, 100, 1));
	for (int step = 0; step < 20000; step++) {
		random = random * 1664525 + 1013904223;
		if (n == N || (n && (random >> 16 & 15) == 0)) {
			int back = (int)(random >> 20) % n;
			rv_arena_reset(a, held[back].mark);
			assert_int_equal(rv_arena_used(a), held[back].mark);
			n = back;
		}
		size_t size = (random >> 8) % (step % 97 ? 3000 : 200000) + 1;
		held[n].mark = rv_arena_mark(a);
		held[n].size = size;
		assert_ok(rv_arena_alloc(a, (void **)&held[n].p, size));
		assert_true(all_zero(held[n].p, size));
		memset(held[n].p, n % 255 + 1, size);
		n++;
		if (step % 50 == 0) {
			for (int i = 0; i < n; i++)
				for (size_t k = 0; k < held[i].size; k += 61)
					assert_int_equal(held[i].p[k], i % 255 + 1);
		}
		if (step == 10000)
			heap_calls = calls;
	}
	assert_true(rv_arena_peak(a) >= rv_arena_used(a));
	/* Going back releases nothing, so the second half needs hardly any new block. */
	assert_true(calls - heap_calls < 10);
	rv_arena_destroy(a);
}

static void arena_strings(void **state) {
	(void)state;
	rv_arena *a;
	char *s;
	assert_ok(rv_arena_create(&a, 0, 1));
	assert_ok(rv_arena_strndup(a, &s, "hello", 3));
	assert_string_equal(s, "hel");
	assert_ok(rv_arena_strndup(a, &s, NULL, 0));
	assert_string_equal(s, "");
	assert_int_equal(rv_arena_strndup(a, &s, "", SIZE_MAX), RV_ERR_LIMIT);
	rv_arena_destroy(a);
}

static rv_status use_arena(void) {
	rv_arena *a = NULL;
	void *p;
	rv_status status = rv_arena_create(&a, 64, 1);
	for (int i = 0; status == RV_OK && i < 5; i++)
		status = rv_arena_alloc(a, &p, (size_t)100000 << i);
	rv_arena_destroy(a);
	return status;
}

static void arena_survives_every_heap_failure(void **state) {
	(void)state;
	for (int on = 0; on < 2; on++) {
		int n = 1;
		for (;; n++) {
			int before = live;
			faults(n, on);
			rv_status status = use_arena();
			faults(0, 0);
			assert_int_equal(live, before);
			if (status == RV_OK)
				break;
			assert_int_equal(status, RV_ERR_NO_MEMORY);
		}
		assert_in_range(n, 5, 30); /* the sweep did hit something */
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(memory_is_aligned_and_zero),
	        cmocka_unit_test(sizes_cannot_wrap),
	        cmocka_unit_test(grow_keeps_and_zeroes),
	        cmocka_unit_test(strings_are_copied),
	        cmocka_unit_test(fixed_arena_has_a_limit),
	        cmocka_unit_test(growable_arena_keeps_contents),
	        cmocka_unit_test(arena_strings),
	        cmocka_unit_test(arena_survives_every_heap_failure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
