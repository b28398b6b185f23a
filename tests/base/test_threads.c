/* The thread pool: every item once, failures at the join, more threads than CPUs, binding, cost. */
#include "base_test.h"

#include "base/cpus.h"
#include "base/mem.h"
#include "base/sysinfo.h"
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const int counts[] = {1, 2, 3, 5, 17, 64};
#define N_COUNTS ((int)(sizeof counts / sizeof *counts))

/* pthread_create fails from the n-th call on; 0: never. */
static int create_fails_at, creates;
static _Atomic int allocations, alloc_fails_at;

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg) {
	if (create_fails_at && ++creates >= create_fails_at)
		return EAGAIN;
	return __real_pthread_create(t, a, fn, arg);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	return ++allocations == alloc_fails_at ? NULL : __real_aligned_alloc(alignment, size);
}

/* This many bindings are refused, as a container may do. */
static _Atomic int bindings_refused;

int __real_hwloc_set_cpubind(hwloc_topology_t topology, hwloc_const_cpuset_t set, int flags);
int __wrap_hwloc_set_cpubind(hwloc_topology_t topology, hwloc_const_cpuset_t set, int flags);

int __wrap_hwloc_set_cpubind(hwloc_topology_t topology, hwloc_const_cpuset_t set, int flags) {
	if (bindings_refused > 0) {
		bindings_refused--;
		errno = EPERM;
		return -1;
	}
	return __real_hwloc_set_cpubind(topology, set, flags);
}

static rv_threads *pool_of(int n, int pin) {
	rv_threads_options o = rv_threads_defaults();
	rv_threads *pool;
	o.n_threads = n;
	o.pin = pin;
	assert_ok(rv_threads_create(&pool, &o));
	assert_int_equal(rv_threads_count(pool), n);
	return pool;
}

typedef struct tally {
	_Atomic int *seen; /* times each item was handed out */
	int64_t n, grain;
	int threads;
	_Atomic int bad; /* chunk outside the bounds, thread number out of range */
} tally;

static rv_status count_items(void *arg, int64_t begin, int64_t end, int thread) {
	tally *t = arg;
	if (begin < 0 || end > t->n || begin >= end || end - begin > t->grain || begin % t->grain ||
	    thread < 0 || thread >= t->threads)
		t->bad++;
	for (int64_t i = begin; i < end; i++)
		t->seen[i]++;
	return RV_OK;
}

/* How many items were not handed out exactly once. */
static int wrong_items(const tally *t) {
	int wrong = 0;
	for (int64_t i = 0; i < t->n; i++)
		wrong += t->seen[i] != 1;
	return wrong;
}

static void every_item_once(void **state) {
	(void)state;
	static const int64_t sizes[] = {0, 1, 2, 7, 64, 1000, 4097};
	static const int64_t grains[] = {1, 3, 64, 5000};
	static _Atomic int seen[4097];
	for (int c = 0; c < N_COUNTS; c++) {
		rv_threads *pool = pool_of(counts[c], c & 1);
		for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
			for (size_t g = 0; g < sizeof grains / sizeof *grains; g++) {
				tally t = {seen, sizes[s], grains[g], counts[c], 0};
				memset(seen, 0, sizeof seen);
				assert_ok(rv_threads_for(pool, t.n, t.grain, count_items, &t));
				assert_int_equal(wrong_items(&t), 0);
				assert_int_equal(t.bad, 0);
			}
		}
		rv_threads_destroy(pool);
	}
	/* Negative control: the check sees an item handed out twice and one left out. */
	tally t = {seen, 4097, 1, 1, 0};
	memset(seen, 0, sizeof seen);
	count_items(&t, 0, 4096, 0);
	assert_int_equal(t.bad, 1);
	assert_int_equal(wrong_items(&t), 1);
	count_items(&t, 0, 1, 0);
	assert_int_equal(wrong_items(&t), 2);
}

static rv_status add_one(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	atomic_fetch_add_explicit((_Atomic int64_t *)arg, end - begin, memory_order_relaxed);
	return RV_OK;
}

/* Plain memory written by workers must be visible at the join, and the caller's before the start. */
static rv_status double_items(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	int64_t *v = arg;
	for (int64_t i = begin; i < end; i++)
		v[i] *= 2;
	return RV_OK;
}

static void many_short_jobs(void **state) {
	(void)state;
	for (int c = 0; c < N_COUNTS; c++) {
		enum { JOBS = SANITIZED ? 300 : 2000, N = 64 };
		rv_threads *pool = pool_of(counts[c], 0);
		_Atomic int64_t sum = 0;
		int64_t v[N], start = rv_now_ns();
		for (int job = 0; job < JOBS; job++) {
			for (int i = 0; i < N; i++)
				v[i] = job + i;
			assert_ok(rv_threads_for(pool, N, 1, double_items, v));
			assert_ok(rv_threads_for(pool, N, 5, add_one, &sum));
			for (int i = 0; i < N; i++)
				assert_int_equal(v[i], 2 * (job + i));
			if (job % 100 == 0)
				usleep(300); /* long enough for the workers to fall asleep */
		}
		assert_int_equal(sum, (int64_t)JOBS * N);
		rv_threads_destroy(pool);
		assert_true(rv_now_ns() - start < 20000000000); /* never hangs, whatever the CPUs */
	}
}

typedef struct slow {
	_Atomic int started, finished;
} slow;

/* Only workers are slow: the caller is done long before and has to sleep until they are. */
static rv_status slow_worker(void *arg, int64_t begin, int64_t end, int thread) {
	slow *s = arg;
	(void)begin, (void)end;
	if (thread > 0) {
		s->started++;
		usleep(5000);
		s->finished++;
	} else {
		for (int i = 0; i < 2000 && !s->started; i++)
			usleep(100);
	}
	return RV_OK;
}

static void the_caller_sleeps_for_slow_workers(void **state) {
	(void)state;
	for (int n = 2; n <= 17; n += 5) {
		rv_threads *pool = pool_of(n, 0);
		for (int round = 0; round < 5; round++) {
			slow s = {0, 0};
			assert_ok(rv_threads_for(pool, n, 1, slow_worker, &s));
			assert_true(s.started > 0);
			assert_int_equal(s.started, s.finished);
		}
		rv_threads_destroy(pool);
	}
}

typedef struct failing {
	int64_t bad_from;
	_Atomic int after; /* chunks run although a failure was known */
	_Atomic int failed;
	int silent;
} failing;

static rv_status fail_late(void *arg, int64_t begin, int64_t end, int thread) {
	failing *f = arg;
	(void)end;
	if (f->failed)
		f->after++;
	if (begin < f->bad_from)
		return RV_OK;
	rv_status status = rv_fail(RV_ERR_FORMAT, "row %d is bad", (int)begin);
	f->failed = 1;
	(void)thread;
	return status;
}

static void failures_reach_the_caller(void **state) {
	(void)state;
	for (int c = 0; c < N_COUNTS; c++) {
		rv_threads *pool = pool_of(counts[c], 0);
		for (int round = 0; round < 50; round++) {
			failing f = {.bad_from = 100};
			rv_fail(RV_ERR_IO, "stale");
			assert_fails(rv_threads_for(pool, 1000000, 1, fail_late, &f), RV_ERR_FORMAT,
			             "row 1");
			assert_null(strstr(rv_error_message(), "stale"));
			/* The hand-out stops: each other thread may finish what it holds. */
			assert_true(f.after <= 2 * counts[c]);
			_Atomic int64_t sum = 0;
			assert_ok(
			        rv_threads_for(pool, 100, 1, add_one, &sum)); /* and the pool goes on */
			assert_int_equal(sum, 100);
		}
		rv_threads_destroy(pool);
	}
	/* Negative control: without a failure there is none. */
	rv_threads *pool = pool_of(3, 0);
	failing f = {.bad_from = 2000000};
	assert_ok(rv_threads_for(pool, 1000, 1, fail_late, &f));
	rv_threads_destroy(pool);
}

typedef struct meeting {
	_Atomic int here;
	int threads;
} meeting;

/* Every thread waits for all others, so all fail in the same job. */
static rv_status fail_together(void *arg, int64_t begin, int64_t end, int thread) {
	meeting *m = arg;
	(void)begin, (void)end;
	m->here++;
	while (m->here < m->threads)
		sched_yield();
	return rv_fail(RV_ERR_NUMERIC, "thread %d of %d", thread, m->threads);
}

static void other_failures_are_counted(void **state) {
	(void)state;
	for (int c = 1; c < N_COUNTS; c++) {
		rv_threads *pool = pool_of(counts[c], 0);
		meeting m = {0, counts[c]};
		char part[64];
		snprintf(part, sizeof part, "(and %d more failures)", counts[c] - 1);
		assert_fails(rv_threads_for(pool, counts[c], 1, fail_together, &m), RV_ERR_NUMERIC,
		             part);
		rv_threads_destroy(pool);
	}
}

typedef struct nested {
	rv_threads *pool;
	_Atomic int refused;
} nested;

static rv_status call_again(void *arg, int64_t begin, int64_t end, int thread) {
	nested *n = arg;
	_Atomic int64_t sum = 0;
	(void)begin, (void)end, (void)thread;
	n->refused += rv_threads_for(n->pool, 10, 1, add_one, &sum) == RV_ERR_INVALID;
	return RV_OK;
}

static void bad_arguments_are_refused(void **state) {
	(void)state;
	rv_threads *pool = (rv_threads *)&pool;
	rv_threads_options o = {.n_threads = -1};
	assert_fails(rv_threads_create(&pool, &o), RV_ERR_INVALID, "-1");
	assert_null(pool);
	o.n_threads = 1000000;
	assert_fails(rv_threads_create(&pool, &o), RV_ERR_INVALID, "1000000");
	pool = pool_of(3, 0);
	assert_int_equal(rv_threads_for(pool, 10, 0, add_one, NULL), RV_ERR_INVALID);
	assert_ok(rv_threads_for(pool, -5, 1, add_one, NULL));
	nested n = {pool, 0};
	assert_ok(rv_threads_for(pool, 4, 1, call_again, &n));
	assert_int_equal(n.refused, 4);
	rv_threads_destroy(pool);
	rv_threads_destroy(NULL);
}

static void defaults_are_usable(void **state) {
	(void)state;
	rv_threads *pool;
	assert_ok(rv_threads_create(&pool, NULL));
	assert_int_equal(rv_threads_count(pool), rv_threads_default_count());
	assert_true(strlen(rv_threads_report(pool)) > 10);
	assert_null(strchr(rv_threads_report(pool), '\n'));
	print_message("%s\n", rv_threads_report(pool));
	rv_threads_destroy(pool);
}

static void workers_are_bound_and_the_caller_freed(void **state) {
	(void)state;
	rv_cpu_mask before, during, after;
	assert_true(rv_cpu_mask_get(&before));
	int usable = rv_cpu_mask_count(&before);
	rv_threads *a = pool_of(usable, 1), *b = pool_of(1, 1);
	assert_non_null(strstr(rv_threads_report(a), "CPUs "));
	assert_true(rv_cpu_mask_get(&during));
	assert_int_equal(rv_cpu_mask_count(&during), 1);
	/* Bound by a pool, the thread still knows what the process may use. */
	assert_true(rv_threads_default_count() >= 1);
	rv_threads *c = pool_of(usable, 1);
	assert_non_null(strstr(rv_threads_report(c), "CPUs "));
	/* In any order. */
	rv_threads_destroy(a);
	rv_threads_destroy(c);
	rv_threads_destroy(b);
	assert_true(rv_cpu_mask_get(&after));
	assert_memory_equal(&before, &after, sizeof before);
	if (usable > 1) /* negative control */
		assert_memory_not_equal(&before, &during, sizeof before);
	rv_threads *more = pool_of(usable + 1, 1);
	assert_non_null(strstr(rv_threads_report(more), "more threads than CPUs"));
	rv_threads_destroy(more);
	rv_threads *loose = pool_of(2, 0);
	assert_non_null(strstr(rv_threads_report(loose), "not bound: as asked"));
	rv_threads_destroy(loose);
}

/* A forked child's verdict: its exit status. */
static int in_child(void (*body)(void)) {
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(60);
		body();
		_exit(0);
	}
	int status = 0;
	waitpid(pid, &status, 0);
	return status;
}

#define child_check(cond)                                                                              \
	do {                                                                                           \
		if (!(cond)) {                                                                         \
			fprintf(stderr, "%s:%d: %s [%s]\n", __FILE__, __LINE__, #cond,                 \
			        rv_error_message());                                                   \
			_exit(1);                                                                      \
		}                                                                                      \
	} while (0)

static void run_everywhere(void) {
	for (int c = 0; c < N_COUNTS; c++) {
		rv_threads_options o = {.n_threads = counts[c], .pin = 1};
		rv_threads *pool;
		child_check(rv_threads_create(&pool, &o) == RV_OK);
		_Atomic int64_t sum = 0;
		for (int job = 0; job < 200; job++)
			child_check(rv_threads_for(pool, 100, 1, add_one, &sum) == RV_OK);
		child_check(sum == 20000);
		rv_threads_destroy(pool);
	}
}

static void on_one_cpu_body(void) {
	rv_cpu_mask mask;
	child_check(rv_cpu_mask_get(&mask));
	cpu_set_t one;
	CPU_ZERO(&one);
	size_t cpu = 0;
	while (!(mask.bits[0] >> cpu & 1))
		cpu++;
	CPU_SET(cpu, &one);
	child_check(sched_setaffinity(0, sizeof one, &one) == 0);
	child_check(rv_threads_default_count() == 1);
	rv_threads *pool;
	child_check(rv_threads_create(&pool, NULL) == RV_OK);
	child_check(rv_threads_count(pool) == 1);
	rv_threads_destroy(pool);
	int64_t start = rv_now_ns();
	run_everywhere();
	child_check(rv_now_ns() - start < 30000000000);
}

static void affinity_of_one_cpu(void **state) {
	(void)state;
	assert_int_equal(in_child(on_one_cpu_body), 0);
}

static void hostile_hwloc_body(void) {
	setenv("HWLOC_SYNTHETIC", "pack:4 core:16 pu:2", 1);
	rv_threads_options o = {.n_threads = 1, .pin = 1};
	rv_threads *pool;
	child_check(rv_threads_create(&pool, &o) == RV_OK);
	child_check(strstr(rv_threads_report(pool), "not bound: hwloc") != NULL);
	rv_threads_destroy(pool);
	unsetenv("HWLOC_SYNTHETIC");
	setenv("HWLOC_XMLFILE", "/nonexistent/topology.xml", 1);
	child_check(rv_threads_create(&pool, &o) == RV_OK);
	rv_threads_destroy(pool);
}

static void another_machines_topology(void **state) {
	(void)state;
	assert_int_equal(in_child(hostile_hwloc_body), 0);
}

static void refused_bindings(void **state) {
	(void)state;
	rv_cpu_mask before, after;
	assert_true(rv_cpu_mask_get(&before));
	int usable = rv_cpu_mask_count(&before);
	for (int refused = 1; refused <= usable && usable <= 64; refused++) {
		char part[64];
		_Atomic int64_t sum = 0;
		bindings_refused = refused;
		rv_threads *pool = pool_of(usable, 1);
		bindings_refused = 0;
		snprintf(part, sizeof part, "%d not bound: Operation not permitted", refused);
		assert_non_null(strstr(rv_threads_report(pool), part));
		assert_ok(rv_threads_for(pool, 1000, 7, add_one, &sum));
		assert_int_equal(sum, 1000);
		rv_threads_destroy(pool);
		assert_true(rv_cpu_mask_get(&after));
		assert_memory_equal(&before, &after, sizeof before);
	}
}

static void too_few_threads(void **state) {
	(void)state;
	for (int at = 1; at <= 4; at++) {
		rv_threads_options o = {.n_threads = 5, .pin = 0};
		rv_threads *pool;
		_Atomic int64_t sum = 0;
		creates = 0;
		create_fails_at = at;
		assert_ok(rv_threads_create(&pool, &o));
		create_fails_at = 0;
		assert_int_equal(rv_threads_count(pool), at);
		char part[64];
		snprintf(part, sizeof part, "%d of 5 threads (no more could be started", at);
		assert_non_null(strstr(rv_threads_report(pool), part));
		assert_ok(rv_threads_for(pool, 1000, 7, add_one, &sum));
		assert_int_equal(sum, 1000);
		rv_threads_destroy(pool);
	}
}

static void heap_failures(void **state) {
	(void)state;
	rv_threads_options o = {.n_threads = 3, .pin = 1};
	int n = 1;
	for (;; n++) {
		rv_threads *pool = (rv_threads *)&n;
		rv_cpu_mask before, after;
		assert_true(rv_cpu_mask_get(&before));
		allocations = 0;
		alloc_fails_at = n;
		rv_status status = rv_threads_create(&pool, &o);
		alloc_fails_at = 0;
		if (status == RV_OK) {
			rv_threads_destroy(pool);
			break;
		}
		assert_int_equal(status, RV_ERR_NO_MEMORY);
		assert_null(pool);
		assert_true(rv_cpu_mask_get(&after));
		assert_memory_equal(&before, &after, sizeof before);
	}
	assert_true(n > 2);
}

static void jobs_allocate_nothing(void **state) {
	(void)state;
	rv_threads *pool = pool_of(4, 0);
	_Atomic int64_t sum = 0;
	allocations = 0;
	for (int i = 0; i < 100; i++)
		assert_ok(rv_threads_for(pool, 64, 1, add_one, &sum));
	assert_int_equal(allocations, 0);
	rv_threads_destroy(pool);
}

static rv_threads *forked_pool;

static void forked_body(void) {
	_Atomic int64_t sum = 0;
	child_check(rv_threads_for(forked_pool, 1000, 1, add_one, &sum) == RV_OK);
	child_check(sum == 1000);
	rv_threads_destroy(forked_pool);
}

/* The workers are not there after a fork; what is called by mistake must still not hang. */
static void after_a_fork(void **state) {
	(void)state;
	forked_pool = pool_of(4, 0);
	assert_int_equal(in_child(forked_body), 0);
	rv_threads_destroy(forked_pool);
}

static void *own_pool(void *arg) {
	rv_threads *pool;
	rv_threads_options o = {.n_threads = 3, .pin = 0};
	_Atomic int64_t sum = 0;
	if (rv_threads_create(&pool, &o) != RV_OK)
		return arg;
	for (int i = 0; i < 200; i++)
		if (rv_threads_for(pool, 50, 3, add_one, &sum) != RV_OK)
			return arg;
	rv_threads_destroy(pool);
	return sum == 10000 ? NULL : arg;
}

static void pools_side_by_side(void **state) {
	(void)state;
	pthread_t threads[8];
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, own_pool, threads), 0);
	for (int i = 0; i < 8; i++) {
		void *wrong;
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
}

static void pools_leave_nothing_behind(void **state) {
	(void)state;
	rv_memuse before, after;
	int fds = open_fds(), rounds = SANITIZED ? 20 : 200;
	for (int i = 0; i < rounds + 20; i++) {
		if (i == 20)
			rv_memuse_get(&before);
		rv_threads_destroy(pool_of(4, 1 & i));
	}
	rv_memuse_get(&after);
	assert_int_equal(open_fds(), fds);
	if (!SANITIZED)
		assert_true(after.anon_bytes < before.anon_bytes + (4 << 20));
	/* A joined thread's entry may stay a moment longer; ThreadSanitizer has one thread of its own.
	 */
	int left = 0;
	for (int tries = 0; tries < 1000 && (left = entries("/proc/self/task")) > 1 + SANITIZED;
	     tries++)
		usleep(1000);
	assert_in_range(left, 1, 1 + SANITIZED);
}

static int by_value(const void *a, const void *b) {
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

/* The price of one empty job, in nanoseconds: median of batches, so that a busy machine hardly shows.
 */
static void cost_of_a_job(void **state) {
	(void)state;
	int usable = rv_threads_default_count();
	rv_threads *pool = pool_of(usable, 1);
	enum { BATCHES = 101, JOBS = 100 };
	int64_t ns[BATCHES];
	_Atomic int64_t sum = 0;
	for (int b = 0; b < BATCHES; b++) {
		int64_t start = rv_now_ns();
		for (int i = 0; i < JOBS; i++)
			assert_ok(rv_threads_for(pool, 4 * usable, 1, add_one, &sum));
		ns[b] = (rv_now_ns() - start) / JOBS;
	}
	qsort(ns, BATCHES, sizeof *ns, by_value);
	print_message(
	        "rv_threads_for, %d threads, %d chunks: least %lld ns, median %lld ns, p90 %lld ns\n",
	        usable, 4 * usable, (long long)ns[0], (long long)ns[BATCHES / 2],
	        (long long)ns[BATCHES * 9 / 10]);
	rv_threads_destroy(pool);
	if (!SANITIZED)
		assert_true(ns[0] < 20000);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_item_once),
	        cmocka_unit_test(many_short_jobs),
	        cmocka_unit_test(the_caller_sleeps_for_slow_workers),
	        cmocka_unit_test(failures_reach_the_caller),
	        cmocka_unit_test(other_failures_are_counted),
	        cmocka_unit_test(bad_arguments_are_refused),
	        cmocka_unit_test(defaults_are_usable),
	        cmocka_unit_test(workers_are_bound_and_the_caller_freed),
	        cmocka_unit_test(affinity_of_one_cpu),
	        cmocka_unit_test(another_machines_topology),
	        cmocka_unit_test(refused_bindings),
	        cmocka_unit_test(too_few_threads),
	        cmocka_unit_test(heap_failures),
	        cmocka_unit_test(jobs_allocate_nothing),
	        cmocka_unit_test(after_a_fork),
	        cmocka_unit_test(pools_side_by_side),
	        cmocka_unit_test(pools_leave_nothing_behind),
	        cmocka_unit_test(cost_of_a_job),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
