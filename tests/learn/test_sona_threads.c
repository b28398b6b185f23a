/* Loops running under load: contexts decode, learn and are rated on threads of their own while the
 * loops' thread consolidates, trains and writes. For ThreadSanitizer, and for what must hold whatever
 * the order: every request is answered, what is decoded with is always whole. */
#include "base/sysinfo.h"
#include "tests/learn/sona_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { SERVERS = 2, REQUESTS = 60 };

typedef struct load {
	rv_sona *sona;
	rv_model *model;
	_Atomic int n_done, n_failed, stop;
	char message[RV_ERROR_MESSAGE_MAX];
} load;

typedef struct server {
	load *load;
	int number;
} server;

static rv_status serve(load *l, rv_context *ctx, int number, int i) {
	sona_fixture f = {.model = l->model, .ctx = ctx, .sona = l->sona};
	sona_asked a;
	rv_sona_outcome outcome = rv_sona_outcome_defaults();
	sona_ask(&f, number * 100 + i % 10, 0, &a);
	RV_TRY(rv_sona_begin(l->sona, ctx, &a.request, a.id, NULL));
	rv_row rows[PROMPT];
	for (int j = 0; j < PROMPT; j++)
		rows[j] = (rv_row){.token = a.prompt[j], .position = j, .parent = -1};
	rows[PROMPT - 1].flags = RV_ROW_LOGITS;
	RV_TRY(rv_context_eval(ctx, rows, PROMPT));
	a.answer[0] = best_token(rv_context_logits(ctx, PROMPT - 1), 512);
	for (int j = 1; j < ANSWER; j++) {
		rows[0] = (rv_row){.token = a.answer[j - 1],
		                   .position = PROMPT + j - 1,
		                   .parent = -1,
		                   .flags = RV_ROW_LOGITS};
		RV_TRY(rv_context_eval(ctx, rows, 1));
		a.answer[j] = best_token(rv_context_logits(ctx, 0), 512);
	}
	RV_TRY(rv_seq_truncate(ctx, 0, 0));
	outcome.answer = a.answer;
	outcome.n_answer = ANSWER;
	outcome.model_index = i % 4;
	if (i % 3) {
		outcome.quality = i % 5 ? 1 : 0.2;
		outcome.source = RV_QUALITY_TASK;
	}
	if (i % 7 == 6) {
		rv_sona_cancel(l->sona, a.id);
		return RV_OK;
	}
	return rv_sona_end(l->sona, a.id, &outcome, NULL);
}

static void *run_server(void *user) {
	server *v = user;
	load *l = v->load;
	rv_context_options how = rv_context_defaults();
	rv_context *ctx = NULL;
	how.n_ctx = 64;
	how.n_threads = 1;
	how.pin = 0;
	rv_status st = rv_context_create(&ctx, l->model, &how);
	if (st == RV_OK)
		st = rv_sona_attach(l->sona, ctx, 0);
	for (int i = 0; st == RV_OK && i < REQUESTS; i++)
		if ((st = serve(l, ctx, v->number, i)) == RV_OK)
			atomic_fetch_add(&l->n_done, 1);
	if (st == RV_OK)
		st = rv_sona_detach(l->sona, ctx);
	if (st != RV_OK && atomic_fetch_add(&l->n_failed, 1) == 0)
		snprintf(l->message, sizeof l->message, "%s", rv_error_message());
	rv_context_destroy(ctx);
	return NULL;
}

/* Rates what it can find; looks at everything there is to be looked at. */
static void *run_rater(void *user) {
	load *l = user;
	rv_sona_bytes bytes;
	rv_sona_stats stats;
	uint64_t oldest, newest;
	rv_served served;
	int32_t tokens[2048];
	while (!atomic_load(&l->stop)) {
		rv_trajectory_ring_range(rv_sona_ring(l->sona), &oldest, &newest);
		for (uint64_t i = oldest; i > 0 && i <= newest; i++)
			if (rv_trajectory_ring_read(rv_sona_ring(l->sona), i, &served, tokens) ==
			            RV_OK &&
			    isnan(served.quality))
				rv_sona_feedback(l->sona, served.request_id, 0.9, RV_QUALITY_FEEDBACK,
				                 tokens, 3, NULL);
		rv_sona_count_bytes(l->sona, &bytes);
		rv_sona_get_stats(l->sona, &stats);
		rv_sona_due(l->sona, 0);
		usleep(2000);
	}
	return NULL;
}

static void loops_under_load(void **state) {
	(void)state;
	static load l;
	sona_fixture f;
	pthread_t servers[SERVERS], rater;
	server args[SERVERS];
	sona_setup(&f, 1);
	rv_sona_options o = sona_options(&f);
	o.clock = (rv_clock){0};
	o.use_likelihood = 0;
	o.tuning.steps = 1;
	o.deep.tuning.steps = 1;
	o.loops[RV_SONA_BACKGROUND].every_n = 10;
	o.loops[RV_SONA_BACKGROUND].every_ms = 50;
	o.loops[RV_SONA_DEEP].every_n = 40;
	o.loops[RV_SONA_BACKGROUND].max_ms = o.loops[RV_SONA_DEEP].max_ms = 20000;
	sona_open_with(&f, &o);
	l = (load){.sona = f.sona, .model = f.model};
	assert_ok(rv_sona_start(f.sona));
	assert_int_equal(rv_sona_start(f.sona), RV_ERR_INVALID);
	for (int i = 0; i < SERVERS; i++) {
		args[i] = (server){&l, i};
		assert_int_equal(pthread_create(&servers[i], NULL, run_server, &args[i]), 0);
	}
	assert_int_equal(pthread_create(&rater, NULL, run_rater, &l), 0);
	for (int i = 0; i < SERVERS; i++)
		pthread_join(servers[i], NULL);
	rv_sona_stats stats;
	for (int i = 0; i < 600; i++) { /* what is due is done, with nobody serving */
		rv_sona_get_stats(f.sona, &stats);
		if (stats.n_passes[RV_SONA_BACKGROUND] > 1 && stats.n_passes[RV_SONA_DEEP] > 0)
			break;
		usleep(50000);
	}
	atomic_store(&l.stop, 1);
	pthread_join(rater, NULL);
	int64_t begun = rv_now_ns();
	rv_sona_stop(f.sona);
	print_message("    stopped in %.0f ms; %lld background and %lld deep passes, %lld learnt\n",
	              1e-6 * (double)(rv_now_ns() - begun),
	              (long long)stats.n_passes[RV_SONA_BACKGROUND],
	              (long long)stats.n_passes[RV_SONA_DEEP],
	              (long long)stats.instant.n_outcome[RV_INSTANT_LEARNT]);
	if (atomic_load(&l.n_failed))
		fail_msg("%s", l.message);
	assert_int_equal(atomic_load(&l.n_done), SERVERS * REQUESTS);
	rv_sona_get_stats(f.sona, &stats);
	assert_int_equal(stats.n_begun, stats.n_ended + stats.n_cancelled);
	assert_int_equal(stats.n_begun, SERVERS * REQUESTS);
	assert_true(stats.n_passes[RV_SONA_BACKGROUND] > 1);
	assert_true(stats.instant.n_outcome[RV_INSTANT_LEARNT] > 0);
	assert_int_equal(stats.n_failed_passes, 0);
	float logits[512];
	sona_logits(&f, 1, logits);
	assert_true(isfinite(logits[0]));
	sona_teardown(&f);
}

/* Closing while the thread runs, with requests under way, leaves nothing behind. */
static void closed_in_the_middle(void **state) {
	(void)state;
	for (int round = 0; round < 5; round++) {
		sona_fixture f;
		sona_asked a;
		sona_setup(&f, 1);
		rv_sona_options o = sona_options(&f);
		o.clock = (rv_clock){0};
		o.loops[RV_SONA_BACKGROUND].every_n = 1;
		sona_open_with(&f, &o);
		assert_ok(rv_sona_start(f.sona));
		for (int i = 0; i < 4; i++)
			sona_serve(&f, i, i % 2 ? NAN : 1, &a);
		sona_ask(&f, 9, 0, &a);
		assert_ok(rv_sona_begin(f.sona, f.ctx, &a.request, a.id, NULL));
		sona_teardown(&f);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(loops_under_load),
	        cmocka_unit_test(closed_in_the_middle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
