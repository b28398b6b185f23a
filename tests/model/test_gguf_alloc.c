/* Every allocation of the GGUF reader and writer made to fail in turn: the Nth alone, and all from the
 * Nth on. Each failure must be RV_ERR_NO_MEMORY with the outputs untouched and nothing leaked. */
#include "base/file.h"
#include "base/mem.h"
#include "model/gguf.h"

#include "gguf_builder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the allocator ---- */

static int calls, fail_at, fail_after; /* fail_at 0: never */
static const char *old_file = "old";

/* Blocks not yet freed; what malloc gave to others (cmocka, realpath) is not among them. */
static void *blocks[1024];
static size_t live;

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	calls++;
	if (live == sizeof blocks / sizeof *blocks ||
	    (fail_at && (calls == fail_at || (fail_after && calls > fail_at))))
		return NULL;
	void *p = __real_aligned_alloc(alignment, size);
	if (p)
		blocks[live++] = p;
	return p;
}
void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p) {
	for (size_t i = 0; p && i < live; i++) {
		if (blocks[i] == p) {
			blocks[i] = blocks[--live];
			break;
		}
	}
	__real_free(p);
}

/* ---- sweeping an operation ---- */

typedef rv_status operation(const void *arg);

/* Runs op with every allocation failing in turn until it succeeds untroubled. Returns the number of
 * allocations it makes. */
static int sweep(operation *op, const void *arg) {
	int n = 0;
	for (fail_after = 0; fail_after < 2; fail_after++) {
		for (n = 1;; n++) {
			fail_at = n;
			calls = 0;
			size_t before = live;
			rv_status status = op(arg);
			fail_at = 0;
			if (live != before)
				fail_msg("allocation %d failing: %zu blocks leaked", n, live - before);
			if (status == RV_OK && calls < n)
				break;
			if (status != RV_ERR_NO_MEMORY)
				fail_msg("allocation %d failing: %s", n, rv_status_text(status));
			assert_true(*rv_error_message() != 0);
		}
	}
	return n - 1;
}

static rv_status open_memory(const void *arg) {
	const sample *s = arg;
	rv_gguf *untouched = (rv_gguf *)&calls, *g = untouched;
	rv_status status = rv_gguf_open_memory(&g, s->b.data, s->b.n, "sample", RV_GGUF_DEFAULT);
	if (status != RV_OK)
		assert_ptr_equal(g, untouched);
	else
		rv_gguf_close(g);
	return status;
}

static void test_open_memory(void **state) {
	(void)state;
	sample s = sample_file();
	assert_in_range(sweep(open_memory, &s), 6, 20);
	builder_free(&s.b);
}

static rv_status open_file(const void *arg) {
	rv_gguf *untouched = (rv_gguf *)&calls, *g = untouched;
	rv_status status = rv_gguf_open(&g, arg, RV_GGUF_DEFAULT);
	if (status != RV_OK)
		assert_ptr_equal(g, untouched);
	else
		rv_gguf_close(g);
	return status;
}

static void test_open_file(void **state) {
	char *dir = *state, path[300];
	sample s = sample_file();
	snprintf(path, sizeof path, "%s/in.gguf", dir);
	assert_int_equal(rv_file_write(path, s.b.data, s.b.n), RV_OK);
	assert_in_range(sweep(open_file, path), 7, 24);
	unlink(path);
	builder_free(&s.b);
}

static rv_status get_arrays(const void *arg) {
	rv_str *strings = (rv_str *)&calls;
	float *floats = (float *)&calls;
	size_t n = 12345;
	rv_status status = rv_gguf_strings(arg, "a.strings", &strings, &n);
	if (status != RV_OK) {
		assert_true((void *)strings == (void *)&calls && n == 12345);
		return status;
	}
	rv_free(strings);
	n = 12345;
	status = rv_gguf_floats(arg, "a.floats", &floats, &n);
	if (status != RV_OK)
		assert_true((void *)floats == (void *)&calls && n == 12345);
	else
		rv_free(floats);
	return status;
}

static void test_arrays(void **state) {
	(void)state;
	sample s = sample_file();
	rv_gguf *g;
	assert_int_equal(rv_gguf_open_memory(&g, s.b.data, s.b.n, "sample", RV_GGUF_DEFAULT), RV_OK);
	assert_int_equal(sweep(get_arrays, g), 2);
	rv_gguf_close(g);
	builder_free(&s.b);
}

/* A failed call does not spoil the writer for the abort or commit that follows. */
static rv_status write_steps(rv_gguf_writer *w) {
	static const uint8_t data[256];
	char name[32];
	for (int i = 0; i < 40; i++) { /* enough to grow the tables */
		snprintf(name, sizeof name, "key.%d", i);
		RV_TRY(rv_gguf_write_string(w, name, "a value of some length, so that buffers grow"));
	}
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof name, "tensor.%d", i);
		RV_TRY(rv_gguf_declare(w, name, RV_F32, 1, (int64_t[]){64}));
	}
	for (int i = 0; i < 100; i++)
		RV_TRY(rv_gguf_write_data(w, data, sizeof data));
	return RV_OK;
}

static rv_status write_file(const void *arg) {
	rv_gguf_writer *untouched = (rv_gguf_writer *)&calls, *w = untouched;
	rv_status status = rv_gguf_writer_open(&w, arg);
	if (status != RV_OK) {
		assert_ptr_equal(w, untouched);
		return status;
	}
	status = write_steps(w);
	if (status != RV_OK) {
		rv_gguf_writer_abort(w);
		return status;
	}
	return rv_gguf_writer_commit(w);
}

static void test_write(void **state) {
	char *dir = *state, path[300];
	snprintf(path, sizeof path, "%s/out.gguf", dir);
	FILE *f = fopen(path, "w");
	fputs(old_file, f);
	fclose(f);
	assert_in_range(sweep(write_file, path), 10, 60);
	rv_gguf *g; /* the last run succeeded; nothing but the file is there (teardown's rmdir) */
	assert_int_equal(rv_gguf_open(&g, path, RV_GGUF_DEFAULT), RV_OK);
	assert_int_equal(rv_gguf_n_tensors(g), 100);
	rv_gguf_close(g);
	unlink(path);
}

/* A check that never fails proves nothing: the sweep must see a leak and a wrong status. */
static rv_status leaks(const void *arg) {
	void *p = NULL, *q = NULL;
	RV_TRY(rv_alloc(&p, 1, 1, "kept"));
	*(void **)(uintptr_t)arg = p;
	rv_status status = rv_alloc(&q, 1, 1, "other");
	rv_free(q);
	return status;
}

static void test_sweep_sees_leaks(void **state) {
	(void)state;
	void *kept = NULL;
	size_t before = live;
	fail_at = 2;
	calls = 0;
	assert_int_equal(leaks(&kept), RV_ERR_NO_MEMORY);
	fail_at = 0;
	assert_int_equal(live, before + 1);
	rv_free(kept);
}

static int setup(void **state) {
	char *dir = calloc(1, 256);
	const char *base = getenv("TMPDIR");
	snprintf(dir, 256, "%s/rv-alloc-XXXXXX", base ? base : "/tmp");
	*state = dir;
	return mkdtemp(dir) ? 0 : -1;
}
static int teardown(void **state) {
	int left = rmdir(*state);
	free(*state);
	return left;
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_open_memory),
	        cmocka_unit_test_setup_teardown(test_open_file, setup, teardown),
	        cmocka_unit_test(test_arrays),
	        cmocka_unit_test_setup_teardown(test_write, setup, teardown),
	        cmocka_unit_test(test_sweep_sees_leaks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
