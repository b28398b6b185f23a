/* Passes: when they are due, one after the other, step by step or on a thread. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "learn/sona_deep.h"
#include "learn/sona_internal.h"
#include "learn/sona_state.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

const char *rv_sona_part_outcome_name(rv_sona_part_outcome outcome) {
	static const char *const names[RV_PART_OUTCOMES] = {"off",     "done",   "nothing", "n/a",
	                                                    "put off", "undone", "failed"};
	return names[outcome];
}

rv_status rv_sona_say(rv_sona_part_report *r, rv_sona_part_outcome outcome, const char *fmt, ...) {
	va_list args;
	va_start(args, fmt);
	vsnprintf(r->text, sizeof r->text, fmt, args);
	va_end(args);
	r->outcome = outcome;
	return RV_OK;
}

int rv_sona_pass_over(void *pass) {
	const rv_sona_pass *p = pass;
	if (atomic_load(&p->s->stop))
		return RV_SONA_STOPPED;
	return p->deadline_ns > 0 && rv_now_ns() > p->deadline_ns ? RV_SONA_OVER : 0;
}

/* ---- the deep loop's parts on our state ---- */

static rv_status open_draft(rv_sona *s, rv_model **out) {
	*out = NULL;
	if (s->state.draft)
		return rv_model_open(out, s->state.draft, NULL);
	if (s->o.deep.draft)
		*out = rv_model_retain(s->o.deep.draft);
	return RV_OK;
}

rv_status rv_sona_deep_pass(rv_sona_pass *p) {
	rv_sona *s = p->s;
	rv_sona_deep_options options = s->o.deep;
	rv_adapter *before = NULL;
	char *path = NULL;
	rv_status st = open_draft(s, &options.draft);
	if (st == RV_OK)
		st = rv_instant_snapshot(s->instant, &before, NULL);
	if (st == RV_OK && s->dir && !s->o.read_only && options.draft)
		st = rv_sona_state_next(s, "draft.gguf", &path);
	if (st == RV_OK) {
		rv_deep d = {.model = s->model,
		             .bank = s->bank,
		             .edges = s->edges,
		             .witness = s->witness,
		             .options = &options,
		             .replay = s->state.replay,
		             .old = s->state.old,
		             .micro = &s->o.micro,
		             .base_rank = s->o.base_rank,
		             .min_quality = options.min_quality >= 0
		                                    ? options.min_quality
		                                    : rv_bank_defaults(s->o.variant).quality_threshold,
		             .now_ms = p->now_ms,
		             .seed = rv_sona_seed(s),
		             .n_threads = s->o.n_threads,
		             .log = s->o.log,
		             .stop = rv_sona_pass_over,
		             .user = p,
		             .base = before ? rv_adapter_retain(before) : NULL,
		             .ewc = s->state.ewc,
		             .draft_path = path};
		rv_deep_run(&d, p->trigger->parts, p->report->parts);
		if (d.base != before)
			st = rv_instant_set_base(s->instant, d.base);
		rv_adapter_release(d.base);
		s->state.draft_is_new |= d.draft_written;
	}
	rv_adapter_release(before);
	rv_model_release(options.draft);
	rv_free(path);
	return st;
}

/* ---- a pass ---- */

static void run_part(rv_sona_pass *p, int part) {
	rv_sona_part_report *r = &p->report->parts[part];
	int64_t start = rv_now_ns();
	if (!(p->trigger->parts & RV_SONA_PART(part))) {
		rv_sona_say(r, RV_PART_OFF, "left out");
		return;
	}
	if (rv_sona_pass_over(p)) {
		rv_sona_say(r, RV_PART_PUT_OFF, "the pass was over its time, or stopped");
		return;
	}
	if (rv_sona_background_parts[part](p, r) != RV_OK) {
		rv_sona_say(r, RV_PART_FAILED, "%s", rv_error_message());
		rv_sona_warn(p->s, rv_sona_part_name(RV_SONA_BACKGROUND, part));
	}
	r->ns = rv_now_ns() - start;
}

static rv_status run_parts(rv_sona_pass *p) {
	for (int i = 0; i < RV_SONA_MAX_PARTS; i++)
		p->report->parts[i] = (rv_sona_part_report){.before = NAN, .after = NAN};
	if (p->report->loop == RV_SONA_DEEP) {
		p->report->n_parts = RV_DEEP_PARTS;
		return rv_sona_deep_pass(p);
	}
	p->report->n_parts = RV_BACKGROUND_PARTS;
	for (int part = 0; part < RV_BACKGROUND_PARTS; part++)
		run_part(p, part);
	return RV_OK;
}

/* With the lock of passes held, before: what it begins with. */
static void open_pass(rv_sona *s, rv_sona_pass_report *report) {
	const rv_sona_loop loop = report->loop;
	pthread_mutex_lock(&s->lock);
	report->n_requests = s->stats.n_ended - s->pass_requests[loop];
	s->pass_requests[loop] = s->stats.n_ended;
	if (loop == RV_SONA_DEEP)
		s->state.quality_sum = s->stats.quality_sum;
	s->state.last_ms[loop] = report->now_ms;
	report->number = ++s->state.n_passes[loop];
	pthread_mutex_unlock(&s->lock);
}

static void close_pass(rv_sona *s, const rv_sona_pass_report *report, rv_status st) {
	pthread_mutex_lock(&s->lock);
	rv_sona_calibrate(s);
	s->stats.n_passes[report->loop]++;
	s->stats.pass_ns[report->loop] += report->total_ns;
	int failed = st != RV_OK;
	for (int i = 0; i < report->n_parts; i++) {
		s->stats.n_undone += report->parts[i].outcome == RV_PART_UNDONE;
		failed |= report->parts[i].outcome == RV_PART_FAILED;
	}
	s->stats.n_failed_passes += failed;
	pthread_mutex_unlock(&s->lock);
}

static rv_status run_pass(rv_sona *s, rv_sona_loop loop, int64_t now_ms, rv_sona_pass_report *out) {
	rv_sona_pass_report report = {.loop = loop, .now_ms = now_ms < 0 ? rv_sona_now(s) : now_ms};
	rv_sona_pass p = {
	        .s = s, .trigger = &s->o.loops[loop], .now_ms = report.now_ms, .report = &report};
	int64_t start = rv_now_ns();
	if (s->o.read_only)
		return rv_fail(RV_ERR_INVALID, "SONA: the store is open for reading only");
	pthread_mutex_lock(&s->pass);
	open_pass(s, &report);
	if (p.trigger->max_ms > 0)
		p.deadline_ns = start + p.trigger->max_ms * 1000000;
	if (rv_sona_drain(s, NULL) != RV_OK)
		rv_sona_warn(s, "trajectories");
	rv_status st = run_parts(&p);
	report.total_ns = rv_now_ns() - start;
	close_pass(s, &report, st);
	if (st == RV_OK && s->dir)
		st = rv_sona_state_save(s);
	report.generation = st == RV_OK && s->dir ? s->state.generation : 0;
	pthread_mutex_unlock(&s->pass);
	if (out)
		*out = report;
	return st;
}

rv_status rv_sona_background_step(rv_sona *s, int64_t now_ms, rv_sona_pass_report *report) {
	return run_pass(s, RV_SONA_BACKGROUND, now_ms, report);
}

rv_status rv_sona_deep_step(rv_sona *s, int64_t now_ms, rv_sona_pass_report *report) {
	return run_pass(s, RV_SONA_DEEP, now_ms, report);
}

/* ---- when ---- */

/* With the lock held. */
static int is_due(const rv_sona *s, rv_sona_loop loop, int64_t now_ms) {
	const rv_sona_trigger *t = &s->o.loops[loop];
	const rv_sona_state *state = &s->state;
	if (!t->on)
		return 0;
	double gathered = s->stats.quality_sum - state->quality_sum;
	return (t->every_ms > 0 && now_ms - state->last_ms[loop] >= t->every_ms) ||
	       (t->every_n > 0 && s->stats.n_ended - s->pass_requests[loop] >= t->every_n) ||
	       (t->every_sum > 0 && gathered >= t->every_sum);
}

int rv_sona_due(rv_sona *s, int64_t now_ms) {
	int due = 0;
	pthread_mutex_lock(&s->lock);
	if (s->o.rules.rules & RV_RULE_BIT(RV_RULE_TRIGGERS))
		for (int loop = 0; loop < RV_SONA_LOOPS; loop++)
			due |= is_due(s, (rv_sona_loop)loop, now_ms) << loop;
	pthread_mutex_unlock(&s->lock);
	return due;
}

rv_status rv_sona_run_due(rv_sona *s, int64_t now_ms, rv_sona_pass_report *reports) {
	int64_t now = now_ms < 0 ? rv_sona_now(s) : now_ms;
	int due = rv_sona_due(s, now);
	for (int loop = 0; loop < RV_SONA_LOOPS; loop++) {
		rv_sona_pass_report *report = reports ? &reports[loop] : NULL;
		if (report)
			*report = (rv_sona_pass_report){.loop = (rv_sona_loop)loop};
		if (due & 1 << loop)
			RV_TRY(run_pass(s, (rv_sona_loop)loop, now, report));
	}
	return RV_OK;
}

/* ---- the thread ---- */

/* Serving goes first: the kernel gives this thread what is left. */
static void lower_priority(void) {
	errno = 0;
	if (setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10) != 0)
		errno = 0; /* not allowed: it runs at the same priority */
}

/* Until something ended, or a tenth of a second: clocks of the options cannot be waited on. */
static void wait_a_while(rv_sona *s) {
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += 100000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&s->wake_lock);
	while (!s->woken && !atomic_load(&s->stop) &&
	       pthread_cond_timedwait(&s->wake, &s->wake_lock, &until) == 0)
		;
	s->woken = 0;
	pthread_mutex_unlock(&s->wake_lock);
}

static void *run_thread(void *user) {
	rv_sona *s = user;
	lower_priority();
	while (!atomic_load(&s->stop)) {
		wait_a_while(s);
		if (atomic_load(&s->stop))
			break;
		if (rv_sona_drain(s, NULL) != RV_OK)
			rv_sona_warn(s, "trajectories");
		if (rv_sona_run_due(s, -1, NULL) != RV_OK)
			rv_sona_warn(s, "pass");
	}
	return NULL;
}

rv_status rv_sona_start(rv_sona *s) {
	if (s->running)
		return rv_fail(RV_ERR_INVALID, "SONA: its thread runs already");
	atomic_store(&s->stop, 0);
	int error = pthread_create(&s->thread, NULL, run_thread, s);
	if (error != 0) {
		errno = error;
		return rv_fail_errno(RV_ERR_LIMIT, "SONA: thread");
	}
	s->running = 1;
	return RV_OK;
}

void rv_sona_wake(rv_sona *s) {
	pthread_mutex_lock(&s->wake_lock);
	s->woken = 1;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->wake_lock);
}

void rv_sona_stop(rv_sona *s) {
	if (!s->running)
		return;
	atomic_store(&s->stop, 1);
	rv_sona_wake(s);
	pthread_join(s->thread, NULL);
	atomic_store(&s->stop, 0);
	s->running = 0;
}
