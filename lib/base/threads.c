#include "base/threads.h"

#include "base/cpus.h"
#include "base/mem.h"
#include "base/sysinfo.h"
#include "base/sysinfo_cgroup.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)2 << 20)
#define SPIN_NS 100000 /* longer than the serial work between two jobs of a forward pass */
#define PAUSES 32      /* between two looks at the clock */
#define YIELDS 8

/* `gate` of a pool: how many workers are inside the job, and whether more may enter. A worker that
 * wakes late finds the gate closed and goes back to wait, so the caller waits only for those that took
 * part. A job's fields are written while the gate is closed and nobody is inside. */
#define GATE_OPEN 0x80000000u
#define GATE_WAITED 0x40000000u /* the caller sleeps until the last one leaves */
#define GATE_INSIDE 0x3fffffffu

typedef struct worker {
	rv_threads *pool;
	pthread_t thread;
	int index;
	int cpu;        /* to bind to; -1: none */
	int bind_error; /* errno of a failed binding */
} worker;

struct rv_threads {
	int count, wanted, bound;
	int64_t spin_ns;
	worker *workers;           /* [wanted]; 0 is the caller */
	hwloc_topology_t topology; /* while workers start; NULL: unbound */
	char *report;
	pid_t pid;
	pthread_t creator;

	_Alignas(RV_ALIGN) _Atomic uint32_t generation; /* a new job or the end: workers wait on it */
	_Atomic uint32_t ready;                         /* workers that have started */
	_Atomic int ending;
	_Alignas(RV_ALIGN) _Atomic uint32_t sleepers;
	_Alignas(RV_ALIGN) _Atomic uint32_t gate;
	rv_work_fn *fn;
	void *arg;
	int64_t n, grain;
	uint64_t n_chunks;
	_Alignas(RV_ALIGN) _Atomic uint64_t next_chunk;
	_Alignas(RV_ALIGN) _Atomic uint32_t failures;
	rv_status status; /* of the first failure, like its message */
	char message[RV_ERROR_MESSAGE_MAX];
};

/* What this thread was allowed before the first of its living pools bound it to one CPU. */
static _Thread_local struct {
	int pools;
	rv_cpu_mask before;
} binding;

static int usable_mask(rv_cpu_mask *mask) {
	if (!binding.pools)
		return rv_cpu_mask_get(mask);
	*mask = binding.before;
	return 1;
}

static int usable_count(double quota) {
	rv_cpu_mask mask;
	int count = usable_mask(&mask) ? rv_cpu_mask_count(&mask) : 1;
	if (quota > 0 && quota < count)
		count = (int)quota;
	if (count > RV_MAX_THREADS)
		count = RV_MAX_THREADS;
	return count > 0 ? count : 1;
}

int rv_threads_default_count(void) {
	rv_cgroup_limits limits;
	rv_cgroup_read("", &limits);
	return usable_count(limits.cpu_quota);
}

rv_threads_options rv_threads_defaults(void) {
	return (rv_threads_options){.n_threads = 0, .pin = 1};
}

static inline void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count) {
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Spins, then yields, until *word differs from `value`; false when patience ran out. */
static int wait_awake(_Atomic uint32_t *word, uint32_t value, int64_t spin_ns) {
	if (spin_ns) {
		for (int64_t end = 0;;) {
			for (int i = 0; i < PAUSES; i++) {
				if (atomic_load_explicit(word, memory_order_acquire) != value)
					return 1;
				pause_cpu();
			}
			int64_t now = rv_now_ns();
			if (!end)
				end = now + spin_ns;
			else if (now >= end)
				break;
		}
	}
	for (int i = 0; i < YIELDS; i++) {
		if (atomic_load_explicit(word, memory_order_acquire) != value)
			return 1;
		sched_yield();
	}
	return 0;
}

static void wait_generation(rv_threads *pool, uint32_t seen) {
	if (wait_awake(&pool->generation, seen, pool->spin_ns))
		return;
	atomic_fetch_add(&pool->sleepers, 1);
	while (atomic_load(&pool->generation) == seen)
		futex_wait(&pool->generation, seen);
	atomic_fetch_sub(&pool->sleepers, 1);
}

static int enter(rv_threads *pool) {
	uint32_t gate = atomic_load_explicit(&pool->gate, memory_order_relaxed);
	while (gate & GATE_OPEN)
		if (atomic_compare_exchange_weak_explicit(&pool->gate, &gate, gate + 1,
		                                          memory_order_acq_rel, memory_order_relaxed))
			return 1;
	return 0;
}

static void leave(rv_threads *pool) {
	uint32_t before = atomic_fetch_sub_explicit(&pool->gate, 1, memory_order_acq_rel);
	if ((before & GATE_WAITED) && (before & GATE_INSIDE) == 1)
		futex_wake(&pool->gate, 1);
}

/* Closes the gate and waits until everyone is out. */
static void join_job(rv_threads *pool) {
	uint32_t gate = atomic_fetch_and_explicit(&pool->gate, ~GATE_OPEN, memory_order_acq_rel);
	while (gate & GATE_INSIDE) {
		gate &= ~GATE_OPEN;
		if (wait_awake(&pool->gate, gate, pool->spin_ns)) {
			gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
			continue;
		}
		gate = atomic_fetch_or_explicit(&pool->gate, GATE_WAITED, memory_order_acq_rel) |
		       GATE_WAITED;
		while (gate & GATE_INSIDE) {
			futex_wait(&pool->gate, gate);
			gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
		}
	}
}

static void record_failure(rv_threads *pool, rv_status status) {
	if (atomic_fetch_add_explicit(&pool->failures, 1, memory_order_relaxed) == 0) {
		pool->status = status;
		snprintf(pool->message, sizeof pool->message, "%s", rv_error_message());
	}
	atomic_store_explicit(&pool->next_chunk, pool->n_chunks, memory_order_relaxed);
}

static void run_chunks(rv_threads *pool, int thread) {
	for (;;) {
		uint64_t chunk = atomic_fetch_add_explicit(&pool->next_chunk, 1, memory_order_relaxed);
		if (chunk >= pool->n_chunks)
			return;
		int64_t begin = (int64_t)chunk * pool->grain;
		int64_t end = pool->n - begin > pool->grain ? begin + pool->grain : pool->n;
		rv_status status = pool->fn(pool->arg, begin, end, thread);
		if (status != RV_OK) {
			record_failure(pool, status);
			return;
		}
	}
}

static rv_status run_alone(int64_t n, int64_t grain, rv_work_fn *fn, void *arg) {
	for (int64_t begin = 0, end; begin < n; begin = end) {
		end = n - begin > grain ? begin + grain : n;
		RV_TRY(fn(arg, begin, end, 0));
	}
	return RV_OK;
}

rv_status rv_threads_for(rv_threads *pool, int64_t n, int64_t grain, rv_work_fn *fn, void *arg) {
	if (grain < 1)
		return rv_fail(RV_ERR_INVALID, "threads: grain %lld is below 1", (long long)grain);
	if (n <= grain || pool->count == 1)
		return run_alone(n, grain, fn, arg);
	if (atomic_load_explicit(&pool->gate, memory_order_relaxed))
		return rv_fail(RV_ERR_INVALID, "threads: the pool is at work already");
	pool->fn = fn;
	pool->arg = arg;
	pool->n = n;
	pool->grain = grain;
	pool->n_chunks = (uint64_t)(n / grain) + (n % grain != 0);
	atomic_store_explicit(&pool->failures, 0, memory_order_relaxed);
	atomic_store_explicit(&pool->next_chunk, 0, memory_order_relaxed);
	atomic_store_explicit(&pool->gate, GATE_OPEN, memory_order_release);
	/* Sequentially consistent against wait_generation: either the sleeper sees the new generation,
	 * or it is seen here. */
	atomic_fetch_add(&pool->generation, 1);
	if (atomic_load(&pool->sleepers)) {
		uint64_t helpers = pool->n_chunks - 1;
		futex_wake(&pool->generation,
		           helpers < (uint64_t)pool->count ? (int)helpers : pool->count);
	}
	run_chunks(pool, 0);
	join_job(pool);
	/* Also clears GATE_WAITED. */
	atomic_store_explicit(&pool->gate, 0, memory_order_relaxed);
	uint32_t failures = atomic_load_explicit(&pool->failures, memory_order_relaxed);
	if (failures > 1)
		return rv_fail(pool->status, "%s (and %u more failures)", pool->message, failures - 1);
	return failures ? rv_fail(pool->status, "%s", pool->message) : RV_OK;
}

static void bind_self(worker *w) {
	hwloc_bitmap_t set;
	if (!w->pool->topology || w->cpu < 0)
		return;
	set = hwloc_bitmap_alloc();
	if (!set || hwloc_bitmap_only(set, (unsigned)w->cpu) != 0)
		w->bind_error = ENOMEM;
	else if (hwloc_set_cpubind(w->pool->topology, set, HWLOC_CPUBIND_THREAD) != 0)
		w->bind_error = errno ? errno : EPERM;
	hwloc_bitmap_free(set);
}

static void *worker_main(void *arg) {
	worker *w = arg;
	rv_threads *pool = w->pool;
	char name[16];
	snprintf(name, sizeof name, "rv-worker-%d", w->index);
	pthread_setname_np(pthread_self(), name);
	bind_self(w);
	uint32_t seen = atomic_load(&pool->generation);
	atomic_fetch_add(&pool->ready, 1);
	futex_wake(&pool->ready, 1);
	for (;;) {
		wait_generation(pool, seen);
		seen = atomic_load(&pool->generation);
		if (atomic_load(&pool->ending))
			return NULL;
		if (enter(pool)) {
			run_chunks(pool, w->index);
			leave(pool);
		}
	}
}

/* Starts workers 1..wanted-1 and waits until they run; stops at the first that cannot be started.
 * Returns that error, 0 for none. */
static int start_workers(rv_threads *pool) {
	pthread_attr_t attr;
	sigset_t all, old;
	int error = pthread_attr_init(&attr);
	if (error)
		return error;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* Signals are for the program's own threads, but for those a fault raises on the spot. */
	sigfillset(&all);
	static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		sigdelset(&all, faults[i]);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (pool->count < pool->wanted) {
		worker *w = &pool->workers[pool->count];
		error = pthread_create(&w->thread, &attr, worker_main, w);
		if (error)
			break;
		pool->count++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	uint32_t ready, started = (uint32_t)pool->count - 1;
	while ((ready = atomic_load(&pool->ready)) < started)
		futex_wait(&pool->ready, ready);
	return error;
}

/* Chooses a CPU for each worker; fills `why` when they stay unbound. */
static void place_workers(rv_threads *pool, char why[128]) {
	rv_cpu_mask mask;
	int order[RV_MAX_THREADS], n;
	if (!usable_mask(&mask)) {
		snprintf(why, 128, "the affinity mask cannot be read");
		return;
	}
	if (rv_cpu_mask_count(&mask) < pool->wanted) {
		snprintf(why, 128, "more threads than CPUs");
		return;
	}
	pool->topology = rv_cpu_topology(0, why);
	if (!pool->topology)
		return;
	n = rv_cpu_order(pool->topology, &mask, order, RV_MAX_THREADS);
	if (n < pool->wanted) {
		snprintf(why, 128, "hwloc knows %d of the usable CPUs only", n);
		hwloc_topology_destroy(pool->topology);
		pool->topology = NULL;
		return;
	}
	for (int i = 0; i < pool->wanted; i++)
		pool->workers[i].cpu = order[i];
	/* One worker stays where it is: single-threaded pools side by side shall not share the first
	 * CPU. */
	int here = sched_getcpu();
	for (int i = 0; pool->wanted == 1 && i < n; i++)
		if (order[i] == here)
			pool->workers[0].cpu = here;
}

static void bind_caller(rv_threads *pool) {
	if (!pool->topology)
		return;
	rv_cpu_mask before;
	if (!usable_mask(&before))
		return;
	bind_self(&pool->workers[0]);
	if (pool->workers[0].bind_error)
		return;
	binding.before = before;
	binding.pools++;
	pool->bound = 1;
}

static rv_status write_report(rv_threads *pool, double quota, int error, const char *why) {
	size_t cap = 768 + 8 * (size_t)pool->count, n;
	int failed = 0, first_error = 0;
	RV_TRY(rv_alloc((void **)&pool->report, cap, 1, "thread report"));
	n = (size_t)snprintf(pool->report, cap, "%d of %d threads", pool->count, pool->wanted);
	if (error)
		n += (size_t)snprintf(pool->report + n, cap - n, " (no more could be started: %s)",
		                      strerrordesc_np(error));
	for (int i = 0; pool->topology && i < pool->count; i++) {
		const worker *w = &pool->workers[i];
		if (w->bind_error) {
			first_error = failed++ ? first_error : w->bind_error;
			n += (size_t)snprintf(pool->report + n, cap - n, "%s-", i ? " " : ", CPUs ");
		} else {
			n += (size_t)snprintf(pool->report + n, cap - n, "%s%d", i ? " " : ", CPUs ",
			                      w->cpu);
		}
	}
	if (!pool->topology)
		n += (size_t)snprintf(pool->report + n, cap - n, ", not bound: %s", why);
	else if (failed)
		n += (size_t)snprintf(pool->report + n, cap - n, ", %d not bound: %s", failed,
		                      strerrordesc_np(first_error));
	if (quota > 0)
		snprintf(pool->report + n, cap - n, ", cgroup quota %.2f CPUs", quota);
	else
		snprintf(pool->report + n, cap - n, ", no cgroup quota");
	return RV_OK;
}

rv_status rv_threads_create(rv_threads **out, const rv_threads_options *options) {
	rv_threads_options o = options ? *options : rv_threads_defaults();
	rv_threads *pool;
	*out = NULL;
	if (o.n_threads < 0 || o.n_threads > RV_MAX_THREADS)
		return rv_fail(RV_ERR_INVALID, "threads: %d asked, not within 0..%d", o.n_threads,
		               RV_MAX_THREADS);
	rv_cgroup_limits limits;
	rv_cgroup_read("", &limits);
	int usable = usable_count(limits.cpu_quota);
	RV_TRY(RV_ALLOC(&pool, 1, "thread pool"));
	pool->wanted = o.n_threads ? o.n_threads : usable;
	pool->count = 1;
	pool->pid = getpid();
	pool->creator = pthread_self();
	/* Spinning beyond the CPUs there are only keeps others from working. */
	pool->spin_ns = pool->wanted <= usable ? SPIN_NS : 0;
	rv_status status = RV_ALLOC(&pool->workers, pool->wanted, "thread pool");
	if (status != RV_OK) {
		rv_free(pool);
		return status;
	}
	for (int i = 0; i < pool->wanted; i++)
		pool->workers[i] = (worker){.pool = pool, .index = i, .cpu = -1};
	char why[128] = "as asked";
	if (o.pin)
		place_workers(pool, why);
	int error = pool->wanted > 1 ? start_workers(pool) : 0;
	bind_caller(pool);
	status = write_report(pool, limits.cpu_quota, error, why);
	if (pool->topology)
		hwloc_topology_destroy(pool->topology);
	pool->topology = NULL;
	if (status != RV_OK) {
		rv_threads_destroy(pool);
		return status;
	}
	*out = pool;
	return RV_OK;
}

void rv_threads_destroy(rv_threads *pool) {
	if (!pool)
		return;
	if (pool->pid == getpid()) { /* after a fork there are no workers to end */
		atomic_store(&pool->ending, 1);
		atomic_fetch_add(&pool->generation, 1);
		futex_wake(&pool->generation, INT32_MAX);
		for (int i = 1; i < pool->count; i++)
			pthread_join(pool->workers[i].thread, NULL);
	}
	if (pool->bound && pthread_equal(pool->creator, pthread_self()) && --binding.pools == 0)
		rv_cpu_mask_set(&binding.before);
	rv_free(pool->report);
	rv_free(pool->workers);
	rv_free(pool);
}

int rv_threads_count(const rv_threads *pool) {
	return pool->count;
}

int rv_threads_bound(const rv_threads *pool) {
	return pool->bound;
}

const char *rv_threads_report(const rv_threads *pool) {
	return pool->report;
}
