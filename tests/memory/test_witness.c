/* The witness log: entries queued, committed, found, counted. */
#include "base/mem.h"
#include "tests/memory/witness_kit.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- fields ---- */

typedef struct seen {
	int64_t keys[4096];
	float similarity[4096];
	int n;
	int n_wrong; /* entries that differ from what was appended */
} seen;

static int same_text(const char *a, const char *b) {
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static int same_f32(const float *a, const float *b) {
	return a == NULL || b == NULL ? a == b : memcmp(a, b, RV_EMBEDDING_DIM * sizeof *a) == 0;
}

static int same_entry(const rv_witness_entry *a, const rv_witness_entry *b) {
	const rv_routing_decision *d = &a->routing_decision, *e = &b->routing_decision;
	int same = same_text(a->request_id, b->request_id) && same_text(a->session_id, b->session_id) &&
	           same_text(a->user_id, b->user_id) && same_text(d->model, e->model) &&
	           same_text(a->model_used, b->model_used) && same_text(a->error, b->error) &&
	           same_f32(a->query_embedding, b->query_embedding) &&
	           same_f32(a->response_embedding, b->response_embedding) &&
	           d->context_size == e->context_size && d->temperature == e->temperature &&
	           d->top_p == e->top_p && d->confidence == e->confidence &&
	           memcmp(d->model_probs, e->model_probs, sizeof d->model_probs) == 0 &&
	           memcmp(a->latency_ms, b->latency_ms, sizeof a->latency_ms) == 0 &&
	           a->timestamp == b->timestamp && a->n_context_doc_ids == b->n_context_doc_ids &&
	           (isnan(a->quality_score) ? isnan(b->quality_score)
	                                    : a->quality_score == b->quality_score);
	for (size_t i = 0; same && i < a->n_context_doc_ids; i++)
		same = same_text(a->context_doc_ids[i], b->context_doc_ids[i]);
	return same;
}

static rv_status see(void *user, const rv_witness_hit *hit) {
	seen *s = user;
	numbered e;
	number_fill(&e, (int)hit->key - 1);
	s->n_wrong += !same_entry(&e.entry, &hit->entry);
	s->keys[s->n] = hit->key;
	s->similarity[s->n++] = hit->similarity;
	return RV_OK;
}

static seen search(rv_witness *w, const rv_witness_query *q) {
	static seen s;
	memset(&s, 0, sizeof s);
	assert_ok(rv_witness_search(w, q, see, &s));
	assert_int_equal(s.n_wrong, 0);
	return s;
}

static void fields_come_back(void **state) {
	(void)state;
	log_kit k;
	rv_witness_options o = kit_make(&k);
	append_numbered(k.witness, 0, 250);
	assert_ok(rv_witness_flush(k.witness));
	rv_witness_query q = rv_witness_query_defaults();
	q.limit = 1000;
	seen s = search(k.witness, &q);
	assert_int_equal(s.n, 250);
	for (int i = 0; i < s.n; i++)
		assert_true(s.keys[i] == 250 - i && isnan(s.similarity[i]));
	/* and after it was closed */
	kit_close(&k);
	kit_open(&k, NULL, &o);
	assert_int_equal(search(k.witness, &q).n, 250);
	/* control: an entry that differs in one field is seen to */
	numbered a, b;
	number_fill(&a, 7);
	number_fill(&b, 7);
	assert_true(same_entry(&a.entry, &b.entry));
	b.entry.latency_ms[RV_LATENCY_ROUTING] += 1e-9;
	assert_false(same_entry(&a.entry, &b.entry));
	kit_drop(&k);
}

static void bad_entries_are_refused(void **state) {
	(void)state;
	log_kit k;
	kit_make(&k);
	numbered e;
	char *names[] = {"request_id",  "model_used",    "temperature",     "top_p",
	                 "model_probs", "quality_score", "latency routing", "query_embedding[5]",
	                 "timestamp",   "user"};
	for (int i = 0; i < 10; i++) {
		number_fill(&e, 1);
		rv_witness_entry *w = &e.entry;
		rv_routing_decision *d = &w->routing_decision;
		w->request_id = i == 0 ? "no id" : w->request_id;
		w->model_used = i == 1 ? NULL : w->model_used;
		d->temperature = i == 2 ? NAN : d->temperature;
		d->top_p = i == 3 ? 1.5f : d->top_p;
		d->model_probs[3] = i == 4 ? -0.1f : 0;
		w->quality_score = i == 5 ? 2 : w->quality_score;
		w->latency_ms[RV_LATENCY_ROUTING] = i == 6 ? -1 : 1;
		e.query[5] = i == 7 ? INFINITY : 0;
		w->timestamp = i == 8 ? -1 : 0;
		w->user_id = i == 9 ? "me" : NULL; /* without a key */
		assert_int_not_equal(rv_witness_append(k.witness, w), RV_OK);
		if (strstr(rv_error_message(), names[i]) == NULL)
			fail_msg("%s: %s", names[i], rv_error_message());
	}
	number_fill(&e, 1);
	assert_ok(rv_witness_append(k.witness, &e.entry)); /* control: as it was it is taken */
	assert_ok(rv_witness_flush(k.witness));
	rv_witness_stats s;
	rv_witness_get_stats(k.witness, &s);
	assert_true(s.appended == 1 && s.committed == 1 && s.dropped == 0);
	kit_drop(&k);
}

/* ---- when ---- */

static void a_hundred_or_a_second(void **state) {
	(void)state;
	log_kit k;
	rv_witness_stats s;
	kit_make(&k);
	int64_t start = rv_now_ns();
	append_numbered(k.witness, 0, 100);
	assert_int_equal(wait_committed(k.witness, 100), 100);
	int64_t by_count = rv_now_ns() - start;
	start = rv_now_ns();
	append_numbered(k.witness, 100, 3);
	assert_int_equal(wait_committed(k.witness, 103), 103);
	int64_t by_time = rv_now_ns() - start;
	assert_true(by_time >= 700000000 && by_time < 5000000000 && by_count < by_time);
	/* the barrier waits for no second */
	append_numbered(k.witness, 103, 1);
	start = rv_now_ns();
	assert_ok(rv_witness_flush(k.witness));
	rv_witness_get_stats(k.witness, &s);
	assert_true(s.committed == 104 && s.batches == 3 && rv_now_ns() - start < 700000000);
	numbered e;
	number_fill(&e, 104);
	assert_ok(rv_witness_append_sync(k.witness, &e.entry));
	rv_witness_get_stats(k.witness, &s);
	assert_int_equal(s.committed, 105);
	kit_drop(&k);
}

/* Holds the writer thread until it is let go. */
static rv_status hold(void *user, rv_db *db) {
	(void)db;
	while (!atomic_load((_Atomic int *)user))
		usleep(1000);
	return RV_OK;
}

static void *append_critical(void *arg) {
	numbered e;
	number_fill(&e, 1);
	return (void *)(intptr_t)rv_witness_append_sync(arg, &e.entry);
}

static void never_waits_for_a_disk(void **state) {
	(void)state;
	enum { CAPACITY = 300, MORE = 50 };
	log_kit k;
	rv_witness_options o = kit_make(&k);
	kit_close(&k);
	o.queue_capacity = CAPACITY;
	kit_open(&k, NULL, &o);
	_Atomic int go = 0;
	assert_ok(rv_store_post(k.store, hold, NULL, &go));
	numbered e;
	int64_t longest = 0;
	for (int i = 0; i < CAPACITY + MORE; i++) {
		number_fill(&e, i);
		int64_t start = rv_now_ns();
		rv_status st = rv_witness_append(k.witness, &e.entry);
		int64_t took = rv_now_ns() - start;
		longest = took > longest ? took : longest;
		assert_int_equal(st, i < CAPACITY ? RV_OK : RV_ERR_LIMIT);
	}
	assert_non_null(strstr(rv_error_message(), "300 entries wait already; dropped"));
	rv_witness_stats s;
	rv_witness_get_stats(k.witness, &s);
	assert_true(s.queued == CAPACITY && s.dropped == MORE && s.committed == 0);
	/* control: who asks for the commit does wait, so the disk was held indeed */
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, append_critical, k.witness), 0);
	int64_t held = rv_now_ns();
	usleep(300000);
	rv_witness_get_stats(k.witness, &s);
	assert_true(s.committed == 0 && s.appended == CAPACITY);
	atomic_store(&go, 1);
	void *status;
	pthread_join(thread, &status);
	held = rv_now_ns() - held;
	assert_true((intptr_t)status == RV_OK && held >= 300000000 && longest < held);
	assert_ok(rv_witness_flush(k.witness));
	rv_witness_get_stats(k.witness, &s);
	assert_true(s.committed == CAPACITY + 1 && s.queued == 0);
	/* what was dropped is on record */
	kit_close(&k);
	kit_open(&k, NULL, &o);
	rv_witness_get_stats(k.witness, &s);
	assert_true(s.dropped_ever == MORE && s.dropped == 0);
	kit_drop(&k);
}

/* ---- search ---- */

static void searches(void **state) {
	(void)state;
	enum { N = 400 };
	log_kit k;
	kit_make(&k);
	append_numbered(k.witness, 0, N);
	assert_ok(rv_witness_flush(k.witness));
	int expected[8] = {0};
	for (int i = 0; i < N; i++) {
		int known = i % 3 != 0;
		expected[0] += i >= 100 && i < 200;
		expected[1] += known && (float)(i % 100) / 100 >= 0.5f;
		expected[2] += known && (float)(i % 100) / 100 <= 0.2f;
		expected[3] += i % 10 == 0;
		expected[4] += i % 10 == 0 && i / 10 % 10 == 7; /* "attempt ?70 " */
		expected[5] += i % 2;
		expected[6] += i % 4 == 0;
		expected[7]++;
	}
	for (int c = 0; c < 8; c++) {
		rv_witness_query q = rv_witness_query_defaults();
		q.limit = 4000;
		q.since = c == 0 ? T0 + 100 : 0;
		q.until = c == 0 ? T0 + 200 : 0;
		q.min_quality = c == 1 ? 0.5f : NAN;
		q.max_quality = c == 2 ? 0.2f : NAN;
		q.error_text = c == 3 ? "" : c == 4 ? "70 RAN" : NULL;
		q.session_id = c == 5 ? "odd" : NULL;
		q.model_used = c == 6 ? "small" : NULL;
		assert_int_equal(search(k.witness, &q).n, expected[c]);
	}
	numbered e;
	number_fill(&e, 33);
	rv_witness_query q = rv_witness_query_defaults();
	q.request_id = e.request_id;
	seen s = search(k.witness, &q);
	assert_true(s.n == 1 && s.keys[0] == 34);
	q.request_id = NULL;
	q.limit = 5;
	s = search(k.witness, &q);
	assert_true(s.n == 5 && s.keys[0] == N && s.keys[4] == N - 4);
	q.limit = 0;
	assert_int_equal(rv_witness_search(k.witness, &q, see, &s), RV_ERR_INVALID);
	kit_drop(&k);
}

static double cosine(const float *a, const float *b) {
	double ab = 0, aa = 0, bb = 0;
	for (int i = 0; i < RV_EMBEDDING_DIM; i++) {
		ab += (double)a[i] * (double)b[i];
		aa += (double)a[i] * (double)a[i];
		bb += (double)b[i] * (double)b[i];
	}
	return ab / sqrt(aa * bb);
}

static void searches_by_similarity(void **state) {
	(void)state;
	enum { N = 300, K = 25 };
	log_kit k;
	kit_make(&k);
	append_numbered(k.witness, 0, N);
	assert_ok(rv_witness_flush(k.witness));
	numbered e, target;
	number_fill(&target, 123);
	rv_witness_query q = rv_witness_query_defaults();
	q.similar_to = target.query;
	q.limit = K;
	q.session_id = "odd";
	seen s = search(k.witness, &q);
	assert_int_equal(s.n, K);
	assert_true(s.keys[0] == 124 && s.similarity[0] > 0.9999f);
	/* all at least as near as the last are there, in order */
	int n_nearer = 0, n_hits = 0;
	double last = (double)s.similarity[K - 1];
	for (int i = 1; i < N; i += 2) {
		number_fill(&e, i);
		n_nearer += cosine(e.query, target.query) > last + 1e-5;
		for (int j = 0; j < K; j++)
			n_hits += s.keys[j] == i + 1 &&
			          fabs(cosine(e.query, target.query) - (double)s.similarity[j]) < 1e-5;
	}
	assert_true(n_nearer <= K - 1 && n_hits == K);
	for (int j = 1; j < K; j++)
		assert_true(s.similarity[j] <= s.similarity[j - 1]);
	q.min_similarity = 0.5f;
	assert_int_equal(search(k.witness, &q).n, 1);
	memset(target.query, 0, sizeof target.query);
	assert_int_equal(rv_witness_search(k.witness, &q, see, &s), RV_ERR_NUMERIC);
	kit_drop(&k);
}

/* ---- aggregates ---- */

static void summarises(void **state) {
	(void)state;
	enum { N = 1000 };
	log_kit k;
	kit_make(&k);
	rv_witness_summary sum;
	assert_ok(rv_witness_summarise(k.witness, 0, 0, 3, &sum));
	assert_true(sum.n == 0 && isnan(sum.latency[0].p50) && isnan(sum.mean_quality) &&
	            sum.n_models == 0);
	rv_witness_summary_deinit(&sum);
	append_numbered(k.witness, 0, N);
	assert_ok(rv_witness_flush(k.witness));
	assert_ok(rv_witness_summarise(k.witness, 0, 0, 10, &sum));
	assert_true(sum.n == N && sum.n_errors == N / 10);
	/* (i * 7919) % 1000 takes every value of 0..999 once */
	for (int p = 0; p < RV_LATENCY_COUNT; p++) {
		const rv_latency_summary *l = &sum.latency[p];
		assert_true(l->p50 == 499 + p && l->p95 == 949 + p && l->p99 == 989 + p);
		assert_true(l->max == 999 + p && fabs(l->mean - 499.5 - p) < 1e-9);
	}
	double sums[10] = {0}, all = 0, st = 0, sq = 0, stt = 0, stq = 0;
	int64_t n[10] = {0}, n_all = 0;
	for (int i = 0; i < N; i++) {
		if (i % 3 == 0)
			continue;
		double qual = (double)((float)(i % 100) / 100);
		sums[i / 100] += qual;
		n[i / 100]++;
		all += qual;
		n_all++;
		st += i;
		stt += (double)i * i;
		sq += qual;
		stq += i * qual;
	}
	for (int b = 0; b < 10; b++)
		assert_true(sum.spans[b].n == n[b] &&
		            fabs(sum.spans[b].mean - sums[b] / (double)n[b]) < 1e-9);
	double slope = ((double)n_all * stq - st * sq) / ((double)n_all * stt - st * st) * 86400000;
	assert_true(sum.n_quality == n_all && fabs(sum.mean_quality - all / (double)n_all) < 1e-9);
	assert_true(fabs(sum.quality_per_day - slope) < 1e-6 * fabs(slope));
	assert_int_equal(sum.n_models, 2);
	assert_string_equal(sum.models[0].model, "nano");
	assert_true(sum.models[0].n == 750 && fabs(sum.models[0].share - 0.75) < 1e-12);
	assert_true(sum.models[0].n_errors + sum.models[1].n_errors == N / 10);
	rv_witness_summary_deinit(&sum);
	assert_ok(rv_witness_summarise(k.witness, T0 + 10, T0 + 20, 1, &sum));
	assert_int_equal(sum.n, 10);
	rv_witness_summary_deinit(&sum);
	kit_drop(&k);
}

/* ---- many at once ---- */

enum { N_THREADS = 6, N_EACH = 150 };

typedef struct worker {
	rv_witness *w;
	int first, n_failed;
} worker;

static void *work(void *arg) {
	worker *w = arg;
	numbered e;
	rv_witness_report report;
	for (int i = 0; i < N_EACH; i++) {
		number_fill(&e, w->first + i);
		w->n_failed += (i % 50 == 49 ? rv_witness_append_sync
		                             : rv_witness_append)(w->w, &e.entry) != RV_OK;
		if (i % 40 == 39)
			w->n_failed += rv_witness_verify(w->w, NULL, &report) != RV_OK;
	}
	return NULL;
}

static rv_status count(void *user, const rv_witness_hit *hit) {
	int *n_of = user;
	n_of[hit->entry.timestamp - T0]++;
	return RV_OK;
}

static void many_writers(void **state) {
	(void)state;
	log_kit k;
	kit_make(&k);
	pthread_t threads[N_THREADS];
	worker workers[N_THREADS];
	for (int i = 0; i < N_THREADS; i++) {
		workers[i] = (worker){k.witness, i * N_EACH, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].n_failed, 0);
	}
	assert_ok(rv_witness_flush(k.witness));
	int n_of[N_THREADS * N_EACH] = {0};
	rv_witness_query q = rv_witness_query_defaults();
	q.limit = N_THREADS * N_EACH + 1;
	assert_ok(rv_witness_search(k.witness, &q, count, n_of));
	for (int i = 0; i < N_THREADS * N_EACH; i++)
		assert_int_equal(n_of[i], 1);
	rv_witness_report report;
	assert_ok(rv_witness_verify(k.witness, NULL, &report));
	assert_int_equal(report.n_entries, N_THREADS * N_EACH);
	kit_drop(&k);
}

static void one_who_reads(void **state) {
	(void)state;
	log_kit k, r;
	kit_make(&k);
	append_numbered(k.witness, 0, 120);
	assert_ok(rv_witness_flush(k.witness));
	rv_store_options o = rv_store_defaults();
	o.read_only = 1;
	r = k;
	kit_open(&r, &o, NULL);
	rv_witness_report report;
	assert_ok(rv_witness_verify(r.witness, NULL, &report));
	assert_int_equal(report.n_entries, 120);
	numbered e;
	number_fill(&e, 1);
	assert_int_equal(rv_witness_append(r.witness, &e.entry), RV_ERR_INVALID);
	assert_int_equal(rv_witness_append_sync(r.witness, &e.entry), RV_ERR_INVALID);
	assert_ok(rv_witness_flush(r.witness));
	kit_close(&r);
	kit_drop(&k);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(fields_come_back),
	        cmocka_unit_test(bad_entries_are_refused),
	        cmocka_unit_test(a_hundred_or_a_second),
	        cmocka_unit_test(never_waits_for_a_disk),
	        cmocka_unit_test(searches),
	        cmocka_unit_test(searches_by_similarity),
	        cmocka_unit_test(summarises),
	        cmocka_unit_test(many_writers),
	        cmocka_unit_test(one_who_reads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
