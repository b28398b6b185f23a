#include "lab/child.h"

#include "base/mem.h"
#include "base/sysinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utf8proc.h>

/* Between two looks at config->cancelled(), when no signal interrupts the wait. */
#define SLICE_S 0.25
/* For a cancelled callback to come back by itself; together with the teardown well below 5 s. */
#define GRACE_S 1.5
#define TEARDOWN_GRACE_S 1.0
/* From the end of the connection to the end of the process. */
#define DEATH_S 1.0

typedef struct request {
	rv_point point;
	int repetition;
} request;

typedef struct reply {
	int32_t status;
	double cost_s;
	char message[RV_ERROR_MESSAGE_MAX];
	rv_record record;
} reply;

/* The page both processes see. */
typedef struct shared {
	atomic_int cancelled;
} shared;

struct rv_child {
	const rv_run_config *config;
	pid_t pid; /* 0: reaped */
	int how;   /* it ended, by waitpid */
	int socket;
	shared *page;
	reply reply;
};

/* ---- in the child ---- */

static int told_to_stop(void *user) {
	shared *page = user;
	return atomic_load(&page->cancelled);
}

static rv_status send_all(int fd, const void *data, size_t size) {
	ssize_t n;
	do
		n = send(fd, data, size, MSG_NOSIGNAL); /* a message of its own: whole or not at all */
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)size ? RV_OK : rv_fail_errno(RV_ERR_IO, "fixture: sending");
}

static rv_status answer(int fd, rv_status status, reply *r) {
	r->status = (int32_t)status;
	snprintf(r->message, sizeof r->message, "%s", status == RV_OK ? "" : rv_error_message());
	return send_all(fd, r, sizeof *r);
}

/* The parent's files, its lock above all, are not kept open by a child that outlives it for a moment.
 */
static int keep_only(int fd) {
	enum { KEPT = STDERR_FILENO + 1 };
	if (fd != KEPT && dup3(fd, KEPT, O_CLOEXEC) < 0)
		return -1;
	if (close_range(KEPT + 1, ~0u, 0) != 0)
		for (int i = KEPT + 1; i < (int)sysconf(_SC_OPEN_MAX); i++)
			close(i);
	return KEPT;
}

static void settle(pid_t parent) {
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP};
	for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

static void serve(int fd, const rv_experiment *exp, void *fixture, reply *r) {
	request q;
	for (;;) {
		ssize_t n = recv(fd, &q, sizeof q, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != (ssize_t)sizeof q)
			return; /* the parent has closed its end */
		rv_record_clear(&r->record);
		int64_t before = rv_now_ns();
		rv_status status = exp->run(fixture, &q.point, q.repetition, &r->record);
		r->cost_s = (double)(rv_now_ns() - before) * 1e-9;
		if (answer(fd, status, r) != RV_OK)
			return;
	}
}

static void tear_down(const rv_experiment *exp, void *fixture) {
	if (exp->teardown != NULL)
		exp->teardown(fixture);
}

static rv_status set_up(const rv_experiment *exp, const rv_run_config *config, const rv_point *points,
                        int n_points, void *fixture) {
	char message[RV_ERROR_MESSAGE_MAX];
	rv_status status = exp->setup(exp, config, points, n_points, fixture);
	if (status == RV_OK)
		return RV_OK;
	snprintf(message, sizeof message, "%s", rv_error_message());
	tear_down(exp, fixture);
	return rv_fail(status, "%s", message);
}

/* Never returns: exit handlers and buffered output are the parent's. */
static void child_main(int fd, rv_child *c, const rv_experiment *exp, const rv_point *points,
                       int n_points) {
	rv_run_config config = *c->config;
	config.cancelled = told_to_stop;
	config.user = c->page;
	config.threads = NULL; /* a pool's workers are not here: one of its own takes their place */
	char *fixture = NULL;
	rv_status status = RV_ALLOC(&fixture, exp->fixture_bytes, "fixture");
	if (status == RV_OK && config.n_threads > 0) {
		const rv_threads_options threads = {.n_threads = config.n_threads, .pin = 1};
		status = rv_threads_create(&config.threads, &threads);
	}
	if (status == RV_OK)
		status = set_up(exp, &config, points, n_points, fixture);
	if (answer(fd, status, &c->reply) == RV_OK && status == RV_OK)
		serve(fd, exp, fixture, &c->reply);
	if (status == RV_OK)
		tear_down(exp, fixture);
	rv_free(fixture);
	rv_threads_destroy(config.threads);
	_exit(0);
}

/* ---- in the parent ---- */

static int is_cancelled(const rv_child *c) {
	return c->config->cancelled(c->config->user);
}

/* Waits for the end of the process at most that long; -1: it goes on. */
static int wait_end(rv_child *c, double seconds) {
	for (int64_t start = rv_now_ns(); c->pid != 0;) {
		pid_t pid = waitpid(c->pid, &c->how, WNOHANG);
		if (pid == c->pid || (pid < 0 && errno == ECHILD)) {
			c->pid = 0;
			return 0;
		}
		if ((double)(rv_now_ns() - start) * 1e-9 >= seconds)
			return -1;
		poll(NULL, 0, 1);
	}
	return 0;
}

static void kill_child(rv_child *c) {
	if (c->pid == 0)
		return;
	kill(c->pid, SIGKILL);
	while (waitpid(c->pid, &c->how, 0) < 0 && errno == EINTR)
		;
	c->pid = 0;
}

static rv_status fail_ended(int how) {
	if (WIFSIGNALED(how)) {
		const char *name = sigabbrev_np(WTERMSIG(how));
		return name != NULL ? rv_fail(RV_ERR_IO, "fixture killed by SIG%s", name)
		                    : rv_fail(RV_ERR_IO, "fixture killed by signal %d", WTERMSIG(how));
	}
	return rv_fail(RV_ERR_IO, "fixture exited with status %d", WEXITSTATUS(how));
}

static rv_status fail_gone(rv_child *c) {
	if (wait_end(c, DEATH_S) == 0)
		return fail_ended(c->how);
	kill_child(c);
	return rv_fail(RV_ERR_IO, "fixture closed its connection");
}

/* Seconds since `before`, as the watchdog counts them: a stopped or suspended machine is no hang. */
static double counted_s(int64_t before) {
	return fmin((double)(rv_now_ns() - before) * 1e-9, 2 * SLICE_S);
}

/* Text of a child is trusted neither to end nor to be UTF-8, as the journal must be. */
static void mend_text(char *text, size_t size) {
	text[size - 1] = 0;
	for (size_t left = strlen(text); left > 0;) {
		utf8proc_int32_t c;
		utf8proc_ssize_t n =
		        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)left, &c);
		if (n < 1) {
			*text = '?';
			n = 1;
		}
		text += n;
		left -= (size_t)n;
	}
}

/* One message, or the end of the connection, into c->reply. */
static rv_status receive(rv_child *c) {
	ssize_t n;
	do
		n = recv(c->socket, &c->reply, sizeof c->reply, 0);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof c->reply || c->reply.status < 0 || c->reply.status >= RV_STATUS_COUNT)
		return fail_gone(c);
	reply *r = &c->reply;
	mend_text(r->message, sizeof r->message);
	for (int m = 0; m < RV_MAX_METRICS; m++)
		mend_text(r->record.na[m], RV_REASON_BYTES);
	for (int f = 0; f < RV_MAX_FACTS; f++)
		mend_text(r->record.facts[f], RV_REASON_BYTES);
	return r->status == RV_OK ? RV_OK : rv_fail((rv_status)r->status, "%s", r->message);
}

/* The child's answer. A cancelled one has a short time left to finish the repetition whole. */
static rv_status await_reply(rv_child *c, double limit_s) {
	struct pollfd p = {.fd = c->socket, .events = POLLIN};
	double left = limit_s;
	for (int cancelled = 0;;) {
		int64_t before = rv_now_ns();
		int slice_ms = (int)ceil(1000 * fmax(0, fmin(SLICE_S, left)));
		if (poll(&p, 1, slice_ms) > 0)
			return receive(c);
		left -= counted_s(before);
		if (wait_end(c, 0) ==
		    0) /* its end of the connection may live on in a child of its own */
			return poll(&p, 1, 0) > 0 ? receive(c) : fail_ended(c->how);
		if (!cancelled && is_cancelled(c)) {
			cancelled = 1;
			atomic_store(&c->page->cancelled, 1);
			left = fmin(left, GRACE_S);
		}
		if (left <= 0) {
			kill_child(c);
			return cancelled ? rv_fail(RV_ERR_CANCELLED, "interrupted")
			                 : rv_fail(RV_ERR_LIMIT, "no progress for %.3g s", limit_s);
		}
	}
}

static void release(rv_child *c) {
	kill_child(c);
	if (c->socket >= 0)
		close(c->socket);
	if (c->page != NULL)
		munmap(c->page, sizeof *c->page);
	rv_free(c);
}

static rv_status start(rv_child *c, const rv_experiment *exp, const rv_point *points, int n_points) {
	int pair[2];
	void *page =
	        mmap(NULL, sizeof *c->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return rv_fail_errno(RV_ERR_NO_MEMORY, "fixture: shared page");
	c->page = page;
	atomic_init(&c->page->cancelled, 0);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return rv_fail_errno(RV_ERR_IO, "fixture: socketpair");
	c->socket = pair[0];
	pid_t parent = getpid();
	c->pid = fork();
	if (c->pid == 0) {
		settle(parent);
		int fd = keep_only(pair[1]);
		if (fd < 0)
			_exit(1);
		child_main(fd, c, exp, points, n_points);
	}
	rv_status status = RV_OK;
	if (c->pid < 0) {
		c->pid = 0;
		status = rv_fail_errno(RV_ERR_IO, "fixture: fork");
	}
	close(pair[1]);
	return status;
}

rv_status rv_child_start(rv_child **out, const rv_experiment *exp, const rv_run_config *config,
                         const rv_point *points, int n_points, double limit_s) {
	rv_child *c = NULL;
	RV_TRY(RV_ALLOC(&c, 1, "fixture"));
	c->config = config;
	c->socket = -1;
	rv_status status = start(c, exp, points, n_points);
	if (status == RV_OK)
		status = await_reply(c, limit_s);
	if (status != RV_OK) {
		release(c);
		return status;
	}
	*out = c;
	return RV_OK;
}

rv_status rv_child_run(rv_child *child, const rv_point *point, int repetition, double limit_s,
                       rv_record *record, double *cost_s) {
	if (child->pid == 0)
		return fail_ended(child->how);
	const request q = {*point, repetition};
	if (send_all(child->socket, &q, sizeof q) != RV_OK)
		return fail_gone(child);
	RV_TRY(await_reply(child, limit_s));
	*record = child->reply.record;
	*cost_s = child->reply.cost_s;
	return RV_OK;
}

int rv_child_alive(const rv_child *child) {
	return child->pid != 0;
}

rv_status rv_child_end(rv_child *child, double limit_s) {
	rv_status status = RV_OK;
	if (child == NULL)
		return RV_OK;
	shutdown(child->socket, SHUT_RDWR);
	if (is_cancelled(child)) {
		atomic_store(&child->page->cancelled, 1);
		limit_s = fmin(limit_s, TEARDOWN_GRACE_S);
	}
	if (wait_end(child, limit_s) != 0)
		status = rv_fail(RV_ERR_LIMIT, "teardown: no progress for %.3g s", limit_s);
	else if (child->how != 0)
		status = rv_fail_in(fail_ended(child->how), "teardown");
	release(child);
	return status;
}
