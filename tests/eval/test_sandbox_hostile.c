/* Hostile programs against the judge: none may leak, survive, do harm or pass; with a layer of the
 * sandbox left out the same checks must see the harm. */
#include "bait.h"
#include "hostile.h"
#include "isolation.h"

#include "tests/support/test.h"

#define WALL_S 2.0
#define PATIENT_S 20.0 /* for what should have ended by itself, on a busy machine */
#define AT_LEAST 60

static const struct {
	const char *name, *prompt, *test;
} tasks[] = {
        {"add_one", "def add_one(x: int) -> int:\n    \"\"\" Return x + 1. \"\"\"\n",
         "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(41) == 42\n"
         "    assert candidate(-1) == 0\n"},
        {"count_words", "def count_words(words):\n    \"\"\" How many there are. \"\"\"\n",
         "def check(candidate):\n    w = ['a', 'b']\n    assert candidate(w) == 2\n    assert w\n"},
        {"ordered", "def ordered(numbers):\n    \"\"\" The same, ascending. \"\"\"\n",
         "def check(candidate):\n    for x in ([3, 1, 2], [1], [2, 1]):\n"
         "        assert candidate(x) == sorted(x)\n"},
};

static hostile programs[HOSTILE_MAX];
static int n_programs;

/* The program with the bait's names in it. */
static char *with_bait(const char *code, const bait *b) {
	char pid[16], port[16], decoy[16], address[32], host[65] = {0};
	snprintf(pid, sizeof pid, "%d", (int)getpid());
	snprintf(port, sizeof port, "%d", b->port);
	snprintf(decoy, sizeof decoy, "%d", (int)b->decoy);
	snprintf(address, sizeof address, "%p", (void *)bait_secret);
	gethostname(host, sizeof host - 1);
	const struct {
		const char *name, *value;
	} holes[] = {{"%DIR%", b->dir},      {"%PORT%", port},   {"%SOCKET%", b->name}, {"%PID%", pid},
	             {"%ADDRESS%", address}, {"%DECOY%", decoy}, {"%HOST%", host}};
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	for (const char *p = code; *p != 0;) {
		size_t used = 0;
		for (size_t i = 0; i < sizeof holes / sizeof holes[0] && used == 0; i++)
			if (strncmp(p, holes[i].name, strlen(holes[i].name)) == 0) {
				fputs(holes[i].value, out);
				used = strlen(holes[i].name);
			}
		if (used == 0)
			fputc(*p, out);
		p += used > 0 ? used : 1;
	}
	fclose(out);
	return text;
}

static rv_judge_item item_of(const hostile *h, const char *code) {
	for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++)
		if (strcmp(tasks[i].name, h->task) == 0)
			return (rv_judge_item){h->name, tasks[i].prompt, code, tasks[i].test, h->task};
	fail_msg("%s: no task %s", h->name, h->task);
	return (rv_judge_item){0};
}

static rv_judge_options options_without(unsigned layers, double wall_s) {
	rv_judge_options o = rv_judge_defaults();
	o.workers = 4; /* most of the time is spent waiting for limits */
	o.wall_s = wall_s;
	o.sandbox.max_threads = 16;
	o.sandbox.memory_bytes = 512 << 20;
	/* one that user nobody can read, for the controls */
	o.sandbox.python = access("/usr/bin/python3", X_OK) == 0 ? "/usr/bin/python3" : NULL;
	o.sandbox.without = layers;
	o.sandbox.allow_partial = layers != 0;
	return o;
}

typedef struct outcome {
	rv_judge_result result;
	const char *harm; /* NULL: none */
} outcome;

/* Judges n programs, each with bait of its own; returns how many processes were left behind. */
static int judge(const hostile *const *list, int n, unsigned without, double wall_s, outcome *out) {
	bait baits[HOSTILE_MAX];
	static rv_judge_item items[HOSTILE_MAX];
	static rv_judge_result results[HOSTILE_MAX];
	char *codes[HOSTILE_MAX];
	for (int i = 0; i < n; i++) {
		bait_lay(&baits[i]);
		codes[i] = with_bait(list[i]->code, &baits[i]);
		items[i] = item_of(list[i], codes[i]);
	}
	rv_judge_options o = options_without(without, wall_s);
	rv_status status = rv_code_judge(items, n, &o, results, NULL);
	int left = bait_survivors(baits, n, 1);
	for (int i = 0; i < n; i++) {
		out[i].result = results[i];
		out[i].harm = bait_told(results[i].output);
		if (out[i].harm == NULL)
			out[i].harm = bait_told(results[i].reason);
		if (out[i].harm == NULL)
			out[i].harm = bait_harm(&baits[i]);
		bait_remove(&baits[i]);
		free(codes[i]);
	}
	/* what was killed above has become a child of this process */
	for (int tries = 0; tries < 100 && waitpid(-1, NULL, WNOHANG) >= 0; tries++)
		usleep(10000);
	assert_ok(status);
	return left;
}

static int is_expected(const hostile *h, const outcome *o) {
	return (int)(h->expect >> o->result.verdict & 1);
}

/* The same; those that ran out of time and should not have get another chance. */
static int judge_patiently(const hostile *const *list, int n, unsigned without, outcome *out) {
	int left = judge(list, n, without, WALL_S, out);
	for (int i = 0; i < n; i++)
		if (out[i].result.verdict == RV_JUDGE_TIMEOUT && out[i].harm == NULL &&
		    !is_expected(list[i], &out[i]))
			left += judge(&list[i], 1, without, PATIENT_S, &out[i]);
	return left;
}

/* One line a complaint; returns how many. */
static int complain(const hostile *h, const outcome *o, const char *where) {
	int wrong = 0;
	if (o->harm != NULL && ++wrong)
		print_error("%s%s: %s (%s; %s)\n", h->name, where, o->harm, o->result.reason,
		            o->result.output);
	if (!is_expected(h, o) && ++wrong)
		print_error("%s%s: verdict %s (%s; %s)\n", h->name, where,
		            rv_judge_verdict_text(o->result.verdict), o->result.reason,
		            o->result.output);
	return wrong;
}

static void whole_sandbox(void **state) {
	(void)state;
	const hostile *list[HOSTILE_MAX];
	static outcome out[HOSTILE_MAX];
	int wrong = 0, leaks = 0, passes = 0, limits = 0, hostile_ones = 0;
	for (int i = 0; i < n_programs; i++)
		list[i] = &programs[i];
	int left = judge_patiently(list, n_programs, 0, out);
	for (int i = 0; i < n_programs; i++) {
		const hostile *h = &programs[i];
		int honest = h->limit[0] == 0 && (h->expect >> RV_JUDGE_PASSED & 1);
		hostile_ones += !honest;
		wrong += complain(h, &out[i], "");
		leaks += out[i].harm != NULL;
		if (out[i].result.verdict == RV_JUDGE_PASSED && !honest) {
			if (h->limit[0] == 0) {
				passes++;
				continue;
			}
			limits++;
			print_message("# known limit: %s: %s\n", h->name, h->limit);
		}
	}
	print_message(
	        "# %d hostile programs: %d leaks, %d survivors, %d false passes, %d known limits\n",
	        hostile_ones, leaks, left, passes, limits);
	assert_int_equal(wrong + left + passes, 0);
	assert_true(hostile_ones >= AT_LEAST);
}

/* Two layers for each way out: one alone holds too. */
static void one_layer_less(void **state) {
	(void)state;
	const hostile *list[HOSTILE_MAX];
	static outcome out[HOSTILE_MAX];
	int wrong = 0, runs = 0;
	for (unsigned set = 1; set < RV_SANDBOX_ALL; set++) {
		int n = 0;
		for (int i = 0; i < n_programs; i++)
			for (int w = 0; w < programs[i].n_without; w++)
				if (programs[i].without[w] == set)
					list[n++] = &programs[i];
		if (n == 0)
			continue;
		int left = judge_patiently(list, n, set, out);
		char where[32];
		snprintf(where, sizeof where, " without %#x", set);
		for (int i = 0; i < n; i++) {
			wrong += complain(list[i], &out[i], where);
			wrong += out[i].result.verdict == RV_JUDGE_PASSED;
		}
		if (left != 0)
			print_error("%d survivors%s\n", left, where);
		wrong += left;
		runs += n;
	}
	print_message("# %d runs with a layer left out\n", runs);
	assert_int_equal(wrong, 0);
	assert_true(runs > 0);
}

enum { TRIES = 3 };

static void controls(void **state) {
	(void)state;
	int unseen = 0, runs = 0;
	for (int i = 0; i < n_programs; i++) {
		const hostile *h = &programs[i];
		outcome out;
		if (h->control == 0)
			continue;
		int seen = 0;
		for (int try = 0; try < TRIES && !seen; try++) { /* some attacks race with the judge */
			int left = judge(&h, 1, h->control, PATIENT_S, &out);
			seen = out.harm != NULL || left != 0;
		}
		runs++;
		if (!seen && ++unseen)
			print_error("%s: no harm was seen without %#x: %s; %s\n", h->name, h->control,
			            out.result.reason, out.result.output);
	}
	print_message("# %d attacks seen with their layers left out\n", runs - unseen);
	assert_int_equal(unseen, 0);
	assert_true(runs > 0);
}

/* The checks themselves, without any program. */
static void checks_see(void **state) {
	(void)state;
	bait b;
	char path[600];
	assert_string_equal(bait_told(getenv(BAIT_SECRET)), "a secret was read");
	assert_null(bait_told("nothing"));
	bait_lay(&b);
	assert_null(bait_harm(&b));
	bait_file(&b, "more.txt", "x");
	assert_non_null(bait_harm(&b));
	bait_path(&b, "more.txt", path);
	assert_int_equal(unlink(path), 0);
	assert_null(bait_harm(&b));
	bait_file(&b, "keep.txt", "as it wAs");
	assert_non_null(bait_harm(&b));
	bait_file(&b, "keep.txt", BAIT_KEEP);
	assert_int_equal(bait_survivors(&b, 1, 0), 0);
	assert_int_equal(bait_survivors(&b, 0, 0), 1); /* the decoy, not called one */
	kill(b.decoy, SIGKILL);
	siginfo_t info;
	waitid(P_PID, (id_t)b.decoy, &info, WEXITED | WNOWAIT);
	assert_non_null(bait_harm(&b));
	bait_remove(&b);
}

int main(int argc, char **argv) {
	(void)argc;
	bait_begin(argv);
	/* orphans come to this process, where they are counted */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if (cannot_isolate())
		return 0;
	n_programs = hostile_read(programs);
	/* left open on purpose: programs must not find it */
	dup2(STDERR_FILENO, 200);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(checks_see),
	        cmocka_unit_test(whole_sandbox),
	        cmocka_unit_test(one_layer_less),
	        cmocka_unit_test(controls),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	for (int i = 0; i < n_programs; i++)
		free(programs[i].code);
	return failed;
}
