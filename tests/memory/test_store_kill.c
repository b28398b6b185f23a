/* A store and a bank that are killed, or refused their writes, at every single write: what was
 * acknowledged is there, what was not is there whole or not at all, and the index says what the store
 * says. */
#include "tests/memory/bank_kit.h"
#include "tests/support/write_shim.h"

#include "base/file.h"

#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STEP 11
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STEP 11
#endif
#endif
#ifndef STEP
#define STEP 1
#endif

/* ---- what the program does: operations, each acknowledged by a byte in a pipe ---- */

typedef enum kind { ADD, REMOVE, SAVE, DISTILL, PRUNE, IMPORT } kind;

typedef struct operation {
	kind kind;
	int topic, variation;
	float quality;
} operation;

static const operation script[] = {
        {ADD, 1, 0, 0.9f}, {ADD, 1, 1, 0.8f},  {ADD, 2, 0, 0.9f},  {ADD, 2, 1, 0.1f},
        {SAVE, 0, 0, 0},   {REMOVE, 1, 0, 0},  {ADD, 3, 0, 0.9f},  {ADD, 3, 1, 0.7f},
        {SAVE, 0, 0, 0},   {ADD, 3, 2, 0.95f}, {DISTILL, 0, 0, 0}, {ADD, 4, 0, 0.05f},
        {ADD, 4, 1, 0.9f}, {PRUNE, 0, 0, 0},   {IMPORT, 0, 0, 0},  {REMOVE, 2, 0, 0},
        {ADD, 5, 0, 0.9f}, {SAVE, 0, 0, 0},    {ADD, 5, 1, 0.9f},  {ADD, 6, 0, 0.9f},
};
enum { N_OPERATIONS = sizeof script / sizeof *script };

static char import_path[300];

static void id_of(int topic, int variation, char id[RV_UUID_TEXT]) {
	snprintf(id, RV_UUID_TEXT, "%08x-0000-4000-8000-%012x", (unsigned)topic, (unsigned)variation);
}

static rv_status perform(rv_bank *bank, const operation *o) {
	char id[RV_UUID_TEXT];
	rv_bank_distill_options how = rv_bank_distill_defaults();
	how.merge_similarity = 0.9f;
	rv_bank_import_report report;
	switch (o->kind) {
	case ADD:
		return kit_add(bank, o->topic, o->variation, o->quality);
	case REMOVE:
		id_of(o->topic, o->variation, id);
		return rv_bank_remove(bank, id);
	case SAVE:
		return rv_bank_save(bank);
	case DISTILL:
		return rv_bank_distill(bank, &how, NULL);
	case PRUNE:
		return rv_bank_prune(bank, 0, 0.2f, NULL);
	case IMPORT:
		return rv_bank_import(bank, import_path, &report);
	}
	return RV_OK;
}

static rv_status open_as(const char *dir, int read_only, rv_store **store, rv_bank **bank) {
	rv_bank_options options = rv_bank_defaults(RV_BANK_VARIANT_BASE);
	rv_store_options how = rv_store_defaults();
	options.capacity = 100;
	options.half_life_ms = 0;
	how.read_only = read_only;
	RV_TRY(rv_store_open(store, dir, &how));
	rv_status st = rv_bank_open(bank, *store, &options);
	if (st != RV_OK)
		rv_store_close(*store);
	return st;
}

static rv_status open_both(const char *dir, rv_store **store, rv_bank **bank) {
	return open_as(dir, 0, store, bank);
}

static rv_status close_both(rv_store *store, rv_bank *bank) {
	rv_status st = rv_bank_close(bank), closed = rv_store_close(store);
	return st != RV_OK ? st : closed;
}

/* The first n operations; each done is told. */
static rv_status run(const char *dir, int n, int tell) {
	rv_store *store = NULL;
	rv_bank *bank = NULL;
	RV_TRY(open_both(dir, &store, &bank));
	rv_status st = RV_OK;
	for (int i = 0; i < n && st == RV_OK; i++) {
		st = perform(bank, &script[i]);
		if (st == RV_OK && tell >= 0 && write(tell, "x", 1) != 1)
			st = RV_ERR_IO;
	}
	char message[RV_ERROR_MESSAGE_MAX];
	snprintf(message, sizeof message, "%s", rv_error_message());
	rv_status closed = close_both(store, bank);
	return st != RV_OK ? rv_fail(st, "%s", message) : closed;
}

typedef struct ending {
	int how; /* exit status, 1000 + signal when one killed it */
	int acknowledged;
	char message[RV_ERROR_MESSAGE_MAX];
} ending;

/* In a process of its own, under the shim; ends with n operations. */
static ending run_program(const char *dir, int n_operations, shim_mode mode, long at) {
	int acks[2], errors[2];
	char bytes[N_OPERATIONS];
	ending e = {0};
	assert_true(pipe(acks) == 0 && pipe(errors) == 0);
	shim_set(mode, at);
	fflush(stdout);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		arm();
		if (run(dir, n_operations, acks[1]) == RV_OK)
			_exit(0);
		const char *message = rv_error_message();
		_exit(write(errors[1], message, strlen(message)) > 0 ? 1 : 2);
	}
	close(acks[1]);
	close(errors[1]);
	int status = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	e.how = WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
	ssize_t n = read(acks[0], bytes, sizeof bytes);
	e.acknowledged = n > 0 ? (int)n : 0;
	n = read(errors[0], e.message, sizeof e.message - 1);
	e.message[n > 0 ? n : 0] = 0;
	close(acks[0]);
	close(errors[0]);
	the_shim->pid = 0;
	return e;
}

/* ---- what it leaves ---- */

/* The state after each number of operations: an export with the store's own times left out. */
static char *states[N_OPERATIONS + 1];

static rv_status without_times(rv_bank *bank, const char *dir, char **out) {
	char path[320];
	int64_t n;
	size_t size;
	snprintf(path, sizeof path, "%s/export", dir);
	RV_TRY(rv_bank_export(bank, path, 0, &n));
	RV_TRY(rv_file_read(path, 1 << 24, out, &size));
	for (char *at = *out; (at = strstr(at, "\"created_at\":")) != NULL;)
		for (at += 13; *at >= '0' && *at <= '9'; at++)
			*at = '0';
	return unlink(path) == 0 ? RV_OK : RV_ERR_IO;
}

#define PROBLEM(...) return snprintf(why, 512, __VA_ARGS__), 0

/* Is the folder in the state after `acknowledged` operations, or one more, with its index? */
static int is_sound(const char *dir, int acknowledged, char why[512]) {
	rv_store *store = NULL;
	rv_bank *bank = NULL;
	char *now = NULL;
	if (open_both(dir, &store, &bank) != RV_OK)
		PROBLEM("opening: %.400s", rv_error_message());
	rv_status st = rv_bank_verify(bank);
	if (st == RV_OK)
		st = without_times(bank, dir, &now);
	if (st != RV_OK)
		snprintf(why, 512, "%.400s", rv_error_message());
	if (close_both(store, bank) != RV_OK || st != RV_OK) {
		rv_free(now);
		return 0;
	}
	int same = strcmp(now, states[acknowledged]) == 0 ||
	           (acknowledged < N_OPERATIONS && strcmp(now, states[acknowledged + 1]) == 0);
	rv_free(now);
	if (!same)
		PROBLEM("neither the state after %d operations nor the next", acknowledged);
	return 1;
}

/* Can it be read before anyone who may write has put it in order? Where there is nothing yet it says
 * so.
 */
static int is_readable(const char *dir, char why[512]) {
	rv_store *store = NULL;
	rv_bank *bank = NULL;
	rv_status st = open_as(dir, 1, &store, &bank);
	if (st == RV_ERR_NOT_FOUND || st == RV_ERR_UNSUPPORTED)
		return 1;
	if (st != RV_OK)
		PROBLEM("opening for reading: %.400s", rv_error_message());
	st = rv_bank_verify(bank);
	if (st != RV_OK)
		snprintf(why, 512, "reading: %.400s", rv_error_message());
	return close_both(store, bank) == RV_OK && st == RV_OK;
}

static long n_writes;

static void make_import(void) {
	char dir[256];
	folder_make(dir);
	rv_store *store;
	rv_bank *bank;
	assert_ok(open_both(dir, &store, &bank));
	assert_ok(kit_add(bank, 7, 0, 0.9f));
	assert_ok(kit_add(bank, 8, 0, 0.8f));
	int64_t n;
	assert_ok(rv_bank_export(bank, import_path, 0, &n));
	assert_ok(close_both(store, bank));
	folder_remove(dir);
}

static char home[256];

static int begin(void **state) {
	(void)state;
	if (!shim_make())
		return -1;
	the_shim->no_sync = 1;
	folder_make(home);
	snprintf(import_path, sizeof import_path, "%s/import.jsonl", home);
	make_import();
	for (int n = 0; n <= N_OPERATIONS; n++) {
		char dir[256];
		rv_store *store;
		rv_bank *bank;
		folder_make(dir);
		assert_ok(run(dir, n, -1));
		assert_ok(open_both(dir, &store, &bank));
		assert_ok(rv_bank_verify(bank));
		assert_ok(without_times(bank, dir, &states[n]));
		assert_ok(close_both(store, bank));
		folder_remove(dir);
	}
	char dir[256], why[512] = "";
	folder_make(dir);
	ending e = run_program(dir, N_OPERATIONS, SHIM_COUNT, 0);
	n_writes = the_shim->n;
	int ok = e.how == 0 && e.acknowledged == N_OPERATIONS && is_sound(dir, N_OPERATIONS, why);
	folder_remove(dir);
	printf("# undisturbed: exit %d, %d operations, %ld writes%s%s\n", e.how, e.acknowledged,
	       n_writes, ok ? "" : ": ",
	       ok       ? ""
	       : why[0] ? why
	                : e.message);
	return ok ? 0 : -1;
}

static int finish(void **state) {
	(void)state;
	for (int n = 0; n <= N_OPERATIONS; n++)
		rv_free(states[n]);
	folder_remove(home);
	return 0;
}

static void kill_everywhere(shim_mode mode, const char *how) {
	long killed = 0, tried = 0;
	for (long at = 1; at <= n_writes; at += STEP, tried++) {
		char dir[256], why[512] = "";
		folder_make(dir);
		ending e = run_program(dir, N_OPERATIONS, mode, at);
		killed += e.how == 1000 + SIGKILL;
		if ((at % 5 == 0 && !is_readable(dir, why)) || !is_sound(dir, e.acknowledged, why))
			fail_msg("killed at write %ld after %d operations: %s", at, e.acknowledged,
			         why);
		folder_remove(dir);
	}
	printf("# killed at %ld of %ld writes, %s%s\n", killed, n_writes, how,
	       STEP > 1 ? " (every 11th: sanitizer)" : "");
	assert_int_equal(killed, tried);
}

static void killed_before_each_write(void **state) {
	(void)state;
	kill_everywhere(SHIM_KILL, "before each");
}

static void killed_within_each_write(void **state) {
	(void)state;
	kill_everywhere(SHIM_TEAR, "half of it written");
}

/* Killed again while it recovers and goes on: opening is a write too. */
static void killed_twice(void **state) {
	(void)state;
	long killed = 0;
	for (long at = n_writes / 2, again = 1; again < 60; again += STEP) {
		char dir[256], why[512] = "";
		folder_make(dir);
		ending e = run_program(dir, N_OPERATIONS, SHIM_TEAR, at);
		assert_int_equal(e.how, 1000 + SIGKILL);
		ending second = run_program(dir, 0, SHIM_TEAR, again);
		killed += second.how == 1000 + SIGKILL;
		if (!is_sound(dir, e.acknowledged, why))
			fail_msg("killed at write %ld, then at %ld: %s", at, again, why);
		folder_remove(dir);
	}
	printf("# killed again at %ld writes while opening\n", killed);
	assert_true(killed > 0);
}

/* Space runs out at a write: said with the file's name; what was acknowledged is there when there is
 * space again. */
static void disk_full_at_each_third_write(void **state) {
	(void)state;
	long said = 0, tried = 0;
	for (long at = 1; at <= n_writes; at += 3 * STEP, tried++) {
		char dir[256], why[512] = "";
		folder_make(dir);
		ending e = run_program(dir, N_OPERATIONS, SHIM_FULL, at);
		if (e.how == 1 && strstr(e.message, dir) == NULL)
			fail_msg("full at write %ld: '%s' names no file", at, e.message);
		if (e.how != 0 && e.how != 1)
			fail_msg("full at write %ld: ended by %d", at, e.how);
		said += e.how == 1;
		if (!is_sound(dir, e.acknowledged, why))
			fail_msg("full at write %ld after %d operations (%s): %s", at, e.acknowledged,
			         e.message, why);
		folder_remove(dir);
	}
	printf("# disk full at %ld of %ld writes (every third): %ld reported by name\n", tried,
	       n_writes, said);
	assert_true(said > tried / 2);
}

static void read_only_at_each_fifth_write(void **state) {
	(void)state;
	for (long at = 1; at <= n_writes; at += 5 * STEP) {
		char dir[256], why[512] = "";
		folder_make(dir);
		ending e = run_program(dir, N_OPERATIONS, SHIM_READ_ONLY, at);
		if ((e.how != 0 && e.how != 1) || (e.how == 1 && strstr(e.message, dir) == NULL))
			fail_msg("read-only at write %ld: ended by %d, '%s'", at, e.how, e.message);
		if (!is_sound(dir, e.acknowledged, why))
			fail_msg("read-only at write %ld (%s): %s", at, e.message, why);
		folder_remove(dir);
	}
}

/* Negative control: the checker sees a lost operation, one too many, an index that disagrees. */
static void losses_are_seen(void **state) {
	(void)state;
	char dir[256], why[512] = "";
	folder_make(dir);
	ending e = run_program(dir, N_OPERATIONS, SHIM_COUNT, 0);
	assert_int_equal(e.how, 0);
	assert_true(is_sound(dir, N_OPERATIONS, why));
	assert_false(is_sound(dir, N_OPERATIONS - 2, why));
	rv_store *store;
	rv_bank *bank;
	char id[RV_UUID_TEXT];
	id_of(6, 0, id);
	assert_ok(open_both(dir, &store, &bank));
	assert_ok(rv_bank_remove(bank, id));
	assert_ok(close_both(store, bank));
	assert_true(is_sound(dir, N_OPERATIONS - 1, why)); /* just what was undone */
	assert_false(is_sound(dir, N_OPERATIONS, why));
	assert_non_null(strstr(why, "neither the state"));
	folder_remove(dir);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(killed_before_each_write),
	        cmocka_unit_test(killed_within_each_write),
	        cmocka_unit_test(killed_twice),
	        cmocka_unit_test(disk_full_at_each_third_write),
	        cmocka_unit_test(read_only_at_each_fifth_write),
	        cmocka_unit_test(losses_are_seen),
	};
	return cmocka_run_group_tests(tests, begin, finish);
}
