/* The scheduler with a thousand live requests, with callers on several threads, and counted
 * allocations. */
#include "tests/engine/scheduler_kit.h"

#include <pthread.h>
#include <stdatomic.h>

static atomic_int n_allocations;
static int fail_at; /* number of the allocation that fails; 0: none */
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	if (atomic_fetch_add(&n_allocations, 1) + 1 == fail_at)
		return NULL;
	return __real_aligned_alloc(alignment, size);
}

static void thousand(void **state) {
	(void)state;
	enum { N = 1000, SEQS = 24 };
	static ticket t[N];
	rv_scheduler *s;
	rv_scheduler_stats stats;
	rv_request_info info;
	rv_context *ctx = kit_context(model, SEQS, 128, 16, 0);
	assert_ok(rv_scheduler_create(&s, ctx, NULL));
	for (int i = 0; i < N; i++)
		ticket_submit(s, &t[i], &kinds[i % KIT_KINDS], i % 3);
	for (int i = 0; i < N; i++)
		for (int j = i - 40 > 0 ? i - 40 : 0; j < i; j++)
			assert_true(t[i].id != t[j].id);
	assert_ok(rv_scheduler_step(s, NULL));
	rv_scheduler_get_stats(s, &stats);
	assert_int_equal(stats.n_submitted, N);
	assert_int_equal(stats.n_running + stats.n_waiting + stats.n_done, N);
	assert_in_range(stats.n_running, 1, SEQS);
	int64_t n_running = 0;
	for (int i = 0; i < N; i++) { /* all are to be found; who waits holds nothing */
		rv_status st = rv_scheduler_find(s, t[i].id, &info);
		assert_int_equal(st, t[i].n_done ? RV_ERR_NOT_FOUND : RV_OK);
		if (st != RV_OK)
			continue;
		n_running += info.state == RV_REQUEST_RUNNING;
		assert_int_equal(info.seq >= 0, info.state == RV_REQUEST_RUNNING);
		assert_true(info.n_cached == 0 || info.state == RV_REQUEST_RUNNING);
		assert_int_equal(info.stats.n_prompt, t[i].k->request.n_prompt);
	}
	assert_int_equal(n_running, stats.n_running);
	for (int i = 13; i < N; i += 97) {
		t[i].cancel_asked = 1;
		assert_int_equal(rv_scheduler_cancel(s, t[i].id),
		                 t[i].n_done ? RV_ERR_NOT_FOUND : RV_OK);
	}
	assert_ok(rv_scheduler_run(s));
	for (int i = 0; i < N; i++)
		if (ticket_trouble(&t[i]))
			fail_msg("request %d: %s", i, ticket_trouble(&t[i]));
	nothing_held(s, ctx);
	rv_scheduler_destroy(s);
	rv_context_destroy(ctx);
}

/* ---- callers on other threads ---- */

enum { THREADS = 3, EACH = 40 };

/* A request of another thread; `got` and what follows are the stepping thread's. */
typedef struct remote {
	const kind *k;
	int cancelled; /* its thread asked for it */
	int32_t got[KIT_CTX + 1];
	int64_t n_got;
	int n_done;
	rv_status status;
} remote;

static int remote_token(void *user, rv_request_id id, int32_t token, double logprob) {
	(void)id, (void)logprob;
	remote *r = user;
	r->got[r->n_got++] = token;
	return 0;
}

static void remote_done(void *user, rv_request_id id, const rv_request_result *result) {
	(void)id;
	remote *r = user;
	r->n_done++;
	r->status = result->status;
}

typedef struct caller {
	rv_scheduler *s;
	uint64_t seed;
	remote requests[EACH];
	int n_failed;
	atomic_int *n_finished;
} caller;

static void *call(void *arg) {
	caller *c = arg;
	rv_request_id ids[EACH];
	rv_rng rng;
	rv_rng_seed(&rng, c->seed);
	for (int i = 0; i < EACH; i++) {
		remote *r = &c->requests[i];
		r->k = &kinds[rv_rng_below(&rng, KIT_KINDS)];
		rv_request q = r->k->request;
		q.priority = (int32_t)rv_rng_below(&rng, 3);
		q.on_token = remote_token;
		q.on_done = remote_done;
		q.user = r;
		c->n_failed += rv_scheduler_submit(c->s, &q, &ids[i]) != RV_OK;
		int at = (int)rv_rng_below(&rng, (uint64_t)i + 1);
		rv_request_info info;
		rv_scheduler_stats stats;
		rv_status st = rv_scheduler_find(c->s, ids[at], &info);
		c->n_failed += st != RV_OK && st != RV_ERR_NOT_FOUND;
		rv_scheduler_get_stats(c->s, &stats);
		if (rv_rng_below(&rng, 6) == 0) {
			c->requests[at].cancelled = 1;
			st = rv_scheduler_cancel(c->s, ids[at]);
			c->n_failed += st != RV_OK && st != RV_ERR_NOT_FOUND;
		}
		usleep((useconds_t)rv_rng_below(&rng, 500));
	}
	atomic_fetch_add(c->n_finished, 1);
	return NULL;
}

static void other_threads(void **state) {
	(void)state;
	static caller callers[THREADS];
	atomic_int n_finished = 0;
	pthread_t threads[THREADS];
	rv_scheduler *s;
	rv_scheduler_options o = rv_scheduler_defaults();
	rv_context *ctx = kit_context(model, 5, 64, 8, 0);
	o.preempt = RV_PREEMPT_SWAP;
	assert_ok(rv_scheduler_create(&s, ctx, &o));
	for (int i = 0; i < THREADS; i++) {
		callers[i] = (caller){.s = s, .seed = (uint64_t)i, .n_finished = &n_finished};
		assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
	}
	for (int64_t n_live = 1; n_live > 0 || atomic_load(&n_finished) < THREADS;)
		assert_ok(rv_scheduler_step(s, &n_live));
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_ok(rv_scheduler_run(s));
	int n_done = 0;
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(callers[i].n_failed, 0);
		for (int j = 0; j < EACH; j++) {
			const remote *r = &callers[i].requests[j];
			assert_int_equal(r->n_done, 1);
			assert_true(r->status == RV_OK ||
			            (r->cancelled && r->status == RV_ERR_CANCELLED));
			assert_true(r->status == RV_OK ? r->n_got == r->k->n_alone
			                               : r->n_got <= r->k->n_alone);
			assert_memory_equal(r->got, r->k->alone, (size_t)r->n_got * sizeof *r->got);
			n_done += r->status == RV_OK;
		}
	}
	assert_true(n_done > THREADS * EACH / 2);
	nothing_held(s, ctx);
	rv_scheduler_destroy(s);
	rv_context_destroy(ctx);
}

/* ---- allocations ---- */

/* Once warm, submitting allocates and steps do not. */
static void steps_allocate_nothing(void **state) {
	(void)state;
	enum { N = 40 };
	static ticket t[N];
	rv_scheduler *s;
	rv_context *ctx = kit_context(model, 6, 64, 8, 0);
	assert_ok(rv_scheduler_create(&s, ctx, NULL));
	for (int round = 0; round < 2; round++) {
		int before = atomic_load(&n_allocations);
		for (int i = 0; i < N; i++)
			ticket_submit(s, &t[i], &kinds[i % KIT_KINDS], i % 2);
		assert_true(atomic_load(&n_allocations) > before); /* it counts */
		before = atomic_load(&n_allocations);
		assert_ok(rv_scheduler_run(s));
		if (round == 1)
			assert_int_equal(atomic_load(&n_allocations), before);
		for (int i = 0; i < N; i++)
			assert_null(ticket_trouble(&t[i]));
	}
	rv_scheduler_destroy(s);
	rv_context_destroy(ctx);
}

/* The n-th allocation of creating and submitting fails: so does the call, and the next one works. */
static void out_of_memory(void **state) {
	(void)state;
	rv_context *ctx = kit_context(model, 2, 32, 8, 0);
	rv_scheduler *s;
	ticket t = {0};
	int n = 0;
	for (rv_status st = RV_ERR_NO_MEMORY; st != RV_OK; n++) {
		atomic_store(&n_allocations, 0);
		fail_at = n + 1;
		st = rv_scheduler_create(&s, ctx, NULL);
		fail_at = 0;
		assert_true(st == RV_OK || (st == RV_ERR_NO_MEMORY && s == NULL));
	}
	assert_in_range(n, 6, 20);
	rv_request q = kinds[5].request;
	q.on_token = ticket_token;
	q.on_done = ticket_done;
	q.user = &t;
	t.k = &kinds[5];
	n = 0;
	for (rv_status st = RV_ERR_NO_MEMORY; st != RV_OK; n++) {
		rv_scheduler_stats stats;
		rv_scheduler_get_stats(s, &stats);
		assert_int_equal(stats.n_submitted, 0);
		atomic_store(&n_allocations, 0);
		fail_at = n + 1;
		st = rv_scheduler_submit(s, &q, &t.id);
		fail_at = 0;
		assert_true(st == RV_OK || st == RV_ERR_NO_MEMORY);
	}
	assert_in_range(n, 5, 10);
	assert_ok(rv_scheduler_run(s));
	assert_null(ticket_trouble(&t));
	nothing_held(s, ctx);
	rv_scheduler_destroy(s);
	rv_context_destroy(ctx);
}

/* A sequence for which there is no memory aside is evaluated again. */
static void nowhere_to_swap(void **state) {
	(void)state;
	enum { N = 12 };
	static ticket t[N];
	rv_scheduler *s;
	rv_scheduler_stats stats;
	rv_scheduler_options o = rv_scheduler_defaults();
	for (int refused = 0; refused < 2; refused++) {
		rv_context *ctx = kit_context(model, N, 64, 8, RV_POOL_PAGE_BYTES);
		o.preempt = RV_PREEMPT_SWAP;
		assert_ok(rv_scheduler_create(&s, ctx, &o));
		for (int i = 0; i < N; i++)
			ticket_submit(s, &t[i], &kinds[7], 0);
		int64_t n_live = 1;
		while (n_live > 0) {
			atomic_store(&n_allocations, 0);
			fail_at = refused ? 1 : 0; /* of each step */
			assert_ok(rv_scheduler_step(s, &n_live));
			fail_at = 0;
		}
		rv_scheduler_get_stats(s, &stats);
		assert_true(stats.n_preempted > 0);
		assert_int_equal(stats.n_swapped > 0, !refused);
		assert_int_equal(stats.again_tokens > 0, refused);
		for (int i = 0; i < N; i++)
			assert_null(ticket_trouble(&t[i]));
		nothing_held(s, ctx);
		rv_scheduler_destroy(s);
		rv_context_destroy(ctx);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(thousand),
	        cmocka_unit_test(other_threads),
	        cmocka_unit_test(steps_allocate_nothing),
	        cmocka_unit_test(out_of_memory),
	        cmocka_unit_test(nowhere_to_swap),
	};
	return cmocka_run_group_tests_name("scheduler, live", tests, open_model, close_model);
}
