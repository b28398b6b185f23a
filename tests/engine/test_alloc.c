/* Every allocation of rv_model_open and rv_context_create made to fail in turn: the Nth alone, and all
 * from the Nth on. Each failure must be RV_ERR_NO_MEMORY with the output NULL and nothing left behind:
 * no block, no mapping, no open file, no thread. */
#include "base/mem.h"
#include "base/vm.h"
#include "engine/context.h"
#include "tests/support/tiny_model.h"

#include <dirent.h>
#include <errno.h>
#include <sys/mman.h>

/* ---- the allocators ---- */

static int calls, fail_at, fail_after; /* fail_at 0: never */

static int refused(void) {
	calls++;
	return fail_at && (calls == fail_at || (fail_after && calls > fail_at));
}

/* What was handed out and not given back; what malloc gave to others is not among it. */
typedef struct held {
	void *at[4096];
	size_t n;
} held;
static held blocks, maps;

static void *hold(held *h, void *p) {
	if (p && p != MAP_FAILED && h->n < sizeof h->at / sizeof h->at[0])
		h->at[h->n++] = p;
	return p;
}

static void give_back(held *h, const void *p) {
	for (size_t i = h->n; p && i > 0; i--)
		if (h->at[i - 1] == p) {
			h->at[i - 1] = h->at[--h->n];
			return;
		}
}

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	return refused() ? NULL : hold(&blocks, __real_aligned_alloc(alignment, size));
}
void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p) {
	give_back(&blocks, p);
	__real_free(p);
}
void *__real_mmap(void *addr, size_t n, int prot, int flags, int fd, off_t at);
void *__wrap_mmap(void *addr, size_t n, int prot, int flags, int fd, off_t at);
void *__wrap_mmap(void *addr, size_t n, int prot, int flags, int fd, off_t at) {
	if (refused()) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return hold(&maps, __real_mmap(addr, n, prot, flags, fd, at));
}
int __real_munmap(void *p, size_t n);
int __wrap_munmap(void *p, size_t n);
int __wrap_munmap(void *p, size_t n) {
	give_back(&maps, p);
	return __real_munmap(p, n);
}

/* ---- sweeping an operation ---- */

typedef struct resources {
	size_t blocks, maps;
	int files, threads;
} resources;

static int entries(const char *path) {
	int n = 0;
	DIR *d = opendir(path);
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static resources in_use(void) {
	return (resources){blocks.n, maps.n, entries("/proc/self/fd"), entries("/proc/self/task")};
}

/* An operation undoes itself when it succeeds. */
typedef rv_status operation(const void *arg);

/* What is wrong with op when allocation `n` fails; NULL: nothing. *done when op never got there. */
static const char *trouble(operation *op, const void *arg, int n, int *done) {
	resources before = in_use();
	calls = 0;
	fail_at = n;
	rv_status status = op(arg);
	fail_at = 0;
	resources after = in_use();
	*done = calls < n;
	if (after.blocks != before.blocks)
		return "memory leaked";
	if (after.maps != before.maps)
		return "a mapping leaked";
	if (after.files != before.files)
		return "a file was left open";
	/* a joined thread may stand in /proc a little longer */
	for (int i = 0; after.threads > before.threads && i < 1000; i++) {
		usleep(1000);
		after = in_use();
	}
	if (after.threads > before.threads)
		return "a thread was left running";
	if (status != (*done ? RV_OK : RV_ERR_NO_MEMORY))
		return rv_status_text(status);
	return *done || *rv_error_message() ? NULL : "no message";
}

/* Returns how many allocations op makes. */
static int sweep(operation *op, const void *arg) {
	int n = 0;
	for (fail_after = 0; fail_after < 2; fail_after++)
		for (int done = n = 0; !done;) {
			const char *what = trouble(op, arg, ++n, &done);
			if (what)
				fail_msg("allocation %d%s failing: %s (%s)", n,
				         fail_after ? " and all after it" : "", what,
				         rv_error_message());
		}
	return n - 1;
}

/* ---- operations ---- */

static rv_status open_model(const void *path) {
	rv_model *model = (rv_model *)&calls;
	rv_status status = rv_model_open(&model, path, NULL);
	if (status != RV_OK)
		assert_null(model);
	else
		assert_non_null(rv_model_tokenizer(model));
	rv_model_release(model);
	return status;
}

static void test_model(void **state) {
	(void)state;
	static const char *const archs[] = {"qwen2", "llama"};
	for (int i = 0; i < 2; i++) {
		char path[1024];
		tiny_model_file(path, archs[i], "Q4_K_M");
		int n = sweep(open_model, path);
		unlink(path);
		assert_in_range(n, 8, 200);
	}
}

typedef struct creation {
	rv_model *model;
	rv_context_options options;
} creation;

static rv_status create_context(const void *arg) {
	const creation *c = arg;
	rv_context *ctx = (rv_context *)&calls;
	rv_status status = rv_context_create(&ctx, c->model, &c->options);
	if (status != RV_OK)
		assert_null(ctx);
	rv_context_destroy(ctx);
	return status;
}

static void test_context(void **state) {
	(void)state;
	creation c = {tiny_model("qwen2", "Q4_K_M"), rv_context_defaults()};
	c.options.n_threads = 3;
	c.options.n_seqs = 2;
	assert_in_range(sweep(create_context, &c), 10, 60);
	/* It works after all that, and holds the model's last reference. */
	rv_context *ctx;
	rv_row row = {1, 1, 0, -1, 0, RV_ROW_LOGITS};
	assert_ok(rv_context_create(&ctx, c.model, &c.options));
	rv_model_release(c.model);
	assert_ok(rv_context_eval(ctx, &row, 1));
	calls = 0;
	row.position = 1;
	assert_ok(rv_context_eval(ctx, &row, 1));
	assert_int_equal(calls, 0); /* evaluation allocates nothing */
	rv_context_destroy(ctx);
	assert_int_equal(blocks.n + maps.n, 0);
}

/* ---- negative controls ---- */

static void *left;

static rv_status leak_block(const void *arg) {
	void *p = NULL;
	(void)arg;
	RV_TRY(rv_alloc(&left, 1, 1, "kept"));
	RV_TRY(rv_alloc(&p, 1, 1, "other"));
	rv_free(p);
	rv_free(left);
	return RV_OK;
}
static rv_status leak_map(const void *arg) {
	void *p = NULL;
	(void)arg;
	RV_TRY(rv_vm_alloc(&left, 4096, "kept"));
	RV_TRY(rv_alloc(&p, 1, 1, "other"));
	rv_free(p);
	rv_vm_free(left, 4096);
	return RV_OK;
}
static rv_status forget_failure(const void *arg) {
	void *p = NULL;
	(void)arg;
	rv_status ignored = rv_alloc(&p, 1, 1, "optional");
	(void)ignored;
	rv_free(p);
	return RV_OK;
}

static void test_sweep_sees_faults(void **state) {
	(void)state;
	int done;
	fail_after = 0;
	assert_string_equal(trouble(leak_block, NULL, 2, &done), "memory leaked");
	rv_free(left);
	assert_string_equal(trouble(leak_map, NULL, 2, &done), "a mapping leaked");
	rv_vm_free(left, 4096);
	assert_string_equal(trouble(forget_failure, NULL, 1, &done), "ok");
	assert_null(trouble(leak_block, NULL, 3, &done));
	assert_true(done);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_model),
	        cmocka_unit_test(test_context),
	        cmocka_unit_test(test_sweep_sees_faults),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
