/* Passes of a loop that are killed at every single write: the state in force is the one before or the
 * one after, whole; the store is sound; and a pass that runs afterwards ends where an undisturbed one
 * does. For one source file of a test program. */
#ifndef RV_TESTS_LEARN_SONA_KILL_H
#define RV_TESTS_LEARN_SONA_KILL_H

#include "base/file.h"
#include "memory/witness_archive.h"
#include "tests/learn/deep_kit.h"
#include "tests/support/write_shim.h"

#include <dirent.h>
#include <math.h>
#include <sys/wait.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"

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

enum { N_PATTERNS = 24, N_WITNESSES = 20, N_TAUGHT = 12 };

/* opened once, shared with the programs that are killed */
static rv_model *model, *draft;
static rv_sim_clock clock_now;
static uint64_t options_seed = 5000; /* of ids, among others: none of deep_fill's */
static char before_dir[256];         /* the store as every pass finds it */
static char home[256];

/* ---- a store, and a pass over it ---- */

static rv_sona_options small_options(void) {
	rv_sona_options o = rv_sona_defaults(RV_BANK_VARIANT_BASE);
	o.tuning.n_ctx = o.deep.tuning.n_ctx = 32;
	o.tuning.steps = o.deep.tuning.steps = 2;
	o.tuning.batch = o.deep.tuning.batch = 2;
	o.tuning.rate = o.deep.tuning.rate = 3e-3;
	o.deep.distill_steps = 4;
	o.deep.distill_rate = 5e-3;
	o.deep.max_patterns = 12;
	o.deep.draft = draft;
	o.loops[RV_SONA_BACKGROUND].max_ms = o.loops[RV_SONA_DEEP].max_ms = 0;
	o.clock = rv_sim_clock_source(&clock_now);
	o.seeded = 1;
	o.seed = options_seed;
	return o;
}

static rv_status open_sona(const char *dir, int read_only, rv_sona **sona) {
	rv_sona_options o = small_options();
	o.read_only = read_only;
	return rv_sona_open(sona, model, dir, &o);
}

/* As `ruvltra learn` does it. */
static rv_status run(const char *dir, rv_sona_loop loop, rv_sona_pass_report *report) {
	rv_sona *sona;
	RV_TRY(open_sona(dir, 0, &sona));
	rv_status st = loop == RV_SONA_DEEP ? rv_sona_deep_step(sona, -1, report)
	                                    : rv_sona_background_step(sona, -1, report);
	rv_status closed = rv_sona_close(sona);
	return st != RV_OK ? st : closed;
}

static void fill(const char *dir) {
	rv_store *store;
	rv_bank *bank;
	rv_witness *witness;
	rv_store_options how = rv_store_defaults();
	rv_bank_options b = rv_bank_defaults(RV_BANK_VARIANT_BASE);
	rv_witness_options w = rv_witness_defaults();
	how.clock = rv_sim_clock_source(&clock_now);
	w.retain_ms = 0;
	assert_ok(rv_store_open(&store, dir, &how));
	assert_ok(rv_bank_open(&bank, store, &b));
	assert_ok(rv_witness_open(&witness, store, &w));
	assert_ok(deep_add(bank, 0, N_PATTERNS, 0.9f));
	assert_ok(deep_add(bank, N_PATTERNS, 4, 0.3f));
	for (int i = 0; i < N_WITNESSES; i++) {
		rv_witness_entry e = rv_witness_entry_defaults();
		deep_item x;
		deep_fill(&x, i, 0.9f);
		e.request_id = x.item.t.trajectory_id;
		e.model_used = e.routing_decision.model = "nano";
		e.timestamp = KIT_START + i * DAY;
		assert_ok(rv_witness_append(witness, &e));
	}
	assert_ok(rv_witness_close(witness));
	assert_ok(rv_bank_close(bank));
	assert_ok(rv_store_close(store));
}

/* Requests that were shown their right answers: what the loops learn from. */
static void teach(const char *dir, int from, int to) {
	rv_sona *sona;
	rv_context *ctx;
	rv_context_options how = rv_context_defaults();
	how.n_threads = 1;
	how.n_ctx = 256;
	assert_ok(rv_context_create(&ctx, model, &how));
	assert_ok(open_sona(dir, 0, &sona));
	assert_ok(rv_sona_attach(sona, ctx, 0));
	for (int i = from; i < to; i++) {
		rv_sona_request request = rv_sona_request_defaults(ctx);
		char task[160], answer[64], id[RV_UUID_TEXT];
		float vector[RV_EMBEDDING_DIM];
		int32_t *prompt, *ids;
		size_t n_prompt, n_ids;
		deep_text(100 + i, task, answer);
		kit_vector(30 + i, 0, 0.2f, vector);
		assert_ok(rv_tokenizer_encode(rv_model_tokenizer(model), task, strlen(task), NULL,
		                              &prompt, &n_prompt));
		assert_ok(rv_tokenizer_encode(rv_model_tokenizer(model), answer, strlen(answer), NULL,
		                              &ids, &n_ids));
		request.text = task;
		request.len = strlen(task);
		request.query_embedding = vector;
		request.prompt = prompt;
		request.n_prompt = (int64_t)n_prompt;
		assert_ok(rv_sona_teach(sona, ctx, &request, ids, (int64_t)n_ids, 0.9, RV_QUALITY_TASK,
		                        id, NULL));
		rv_free(prompt);
		rv_free(ids);
	}
	assert_ok(rv_sona_detach(sona, ctx));
	assert_ok(rv_sona_close(sona));
	rv_context_destroy(ctx);
}

/* A draft that lost its way, so that distillation has something to put right. */
static rv_model *spoilt_draft(const char *path) {
	rv_trainer *t;
	rv_model *out;
	rv_trainer_options o = rv_trainer_defaults();
	const rv_train_export how = {.tokenizer = rv_model_tokenizer(model), .name = "draft"};
	int32_t tokens[17];
	o.n_ctx = 16;
	o.n_threads = 1;
	o.schedule.kind = RV_SCHEDULE_CONSTANT;
	o.schedule.n_steps = 0;
	o.schedule.peak = 2e-2;
	for (int i = 0; i < 17; i++)
		tokens[i] = 300 + 7 * i;
	assert_ok(rv_trainer_create_from(&t, model, NULL, &o));
	for (int i = 0; i < 12; i++)
		assert_ok(rv_trainer_step(t, tokens, NULL, 1, NULL));
	assert_ok(rv_trainer_export(t, path, &how));
	rv_trainer_destroy(t);
	assert_ok(rv_model_open(&out, path, NULL));
	return out;
}

static void copy_folder(const char *from, const char *to) {
	DIR *d = opendir(from);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		char a[600], b[600], *data;
		struct stat st;
		size_t size;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(a, sizeof a, "%s/%s", from, e->d_name);
		snprintf(b, sizeof b, "%s/%s", to, e->d_name);
		assert_int_equal(stat(a, &st), 0);
		if (S_ISDIR(st.st_mode)) {
			assert_int_equal(mkdir(b, 0700), 0);
			copy_folder(a, b);
			continue;
		}
		assert_ok(rv_file_read(a, 1 << 28, &data, &size));
		FILE *f = fopen(b, "wb");
		assert_non_null(f);
		assert_int_equal(fwrite(data, 1, size, f), size);
		assert_int_equal(fclose(f), 0);
		rv_free(data);
	}
	closedir(d);
}

/* ---- what a folder holds ---- */

typedef struct content {
	int64_t generation, n_archived;
	char base[65]; /* sha256 of BaseLoRA; "": none */
	char *patterns;
} content;

static void free_content(content *c) {
	rv_free(c->patterns);
	*c = (content){0};
}

#define PROBLEM(...) return snprintf(why, 512, __VA_ARGS__), 0

/* The store by itself: rows, index, chain, archive. */
static int read_store(const char *dir, content *c, char why[512]) {
	rv_store *store = NULL;
	rv_bank *bank = NULL;
	rv_witness *witness = NULL;
	rv_witness_report chain = {0};
	rv_witness_archives_report all = {0};
	rv_store_options how = rv_store_defaults();
	rv_bank_options b = rv_bank_defaults(RV_BANK_VARIANT_BASE);
	rv_witness_options w = rv_witness_defaults();
	char path[320];
	size_t size;
	int64_t n;
	how.clock = rv_sim_clock_source(&clock_now);
	w.retain_ms = 0;
	if (rv_store_open(&store, dir, &how) != RV_OK)
		PROBLEM("store: %.400s", rv_error_message());
	rv_status st = rv_bank_open(&bank, store, &b);
	if (st == RV_OK)
		st = rv_bank_verify(bank);
	if (st == RV_OK)
		st = rv_witness_open(&witness, store, &w);
	if (st == RV_OK)
		st = rv_witness_verify(witness, NULL, &chain);
	if (st == RV_OK)
		st = rv_witness_archives_verify(witness, &all);
	snprintf(path, sizeof path, "%s/export", dir);
	if (st == RV_OK)
		st = rv_bank_export(bank, path, 0, &n);
	if (st == RV_OK)
		st = rv_file_read(path, 1 << 26, &c->patterns, &size);
	snprintf(why, 512, "%.400s", rv_error_message());
	unlink(path);
	rv_witness_close(witness);
	rv_bank_close(bank);
	rv_store_close(store);
	if (st != RV_OK)
		return 0;
	c->n_archived = all.n_entries;
	int64_t kept = chain.n_entries + (all.is_pending ? 0 : all.n_entries);
	if (kept < N_WITNESSES || all.n_gaps != 0)
		PROBLEM("%lld of %d witness entries are left", (long long)kept, N_WITNESSES);
	return 1;
}

static int read_content(const char *dir, content *c, char why[512]) {
	rv_sona *sona = NULL;
	rv_sona_stats stats;
	rv_adapter *base = NULL;
	*c = (content){0};
	if (!read_store(dir, c, why))
		return 0;
	if (open_sona(dir, 1, &sona) != RV_OK)
		PROBLEM("state: %.400s", rv_error_message());
	rv_sona_get_stats(sona, &stats);
	c->generation = stats.generation;
	if (rv_instant_snapshot(rv_sona_instant(sona), &base, NULL) != RV_OK)
		PROBLEM("%.400s", rv_error_message());
	if (base != NULL)
		rv_adapter_sha256(base, c->base);
	rv_adapter_release(base);
	if (rv_sona_close(sona) != RV_OK)
		PROBLEM("closing: %.400s", rv_error_message());
	return 1;
}

static content before, after; /* of an undisturbed pass */

/* A pass over what a killed one left ends well, and where an undisturbed one does. */
static int goes_on(const char *dir, rv_sona_loop loop, char why[512]) {
	content then;
	rv_sona_pass_report report;
	if (run(dir, loop, &report) != RV_OK)
		PROBLEM("the next pass: %.400s", rv_error_message());
	for (int i = 0; i < report.n_parts; i++)
		if (report.parts[i].outcome == RV_PART_FAILED)
			PROBLEM("the next pass, %s: %.300s", rv_sona_part_name(loop, i),
			        report.parts[i].text);
	if (!read_content(dir, &then, why)) {
		free_content(&then);
		return 0;
	}
	int same = strcmp(then.patterns, after.patterns) == 0;
	int64_t archived = then.n_archived;
	free_content(&then);
	if (!same)
		PROBLEM("other patterns than after an undisturbed pass");
	if (archived != after.n_archived)
		PROBLEM("%lld witness entries archived, not %lld", (long long)archived,
		        (long long)after.n_archived);
	return 1;
}

/* The folder a killed pass left: the state before or after, whole. */
static int is_whole(const char *dir, char why[512]) {
	content now;
	const int can_be_read = read_content(dir, &now, why);
	rv_free(now.patterns); /* the figures alone are compared */
	if (!can_be_read)
		return 0;
	int is_before = strcmp(now.base, before.base) == 0;
	int is_after = strcmp(now.base, after.base) == 0;
	if (!is_before && !is_after)
		PROBLEM("a BaseLoRA that is neither the last one nor the new one");
	if (is_after && !is_before && now.generation == before.generation)
		PROBLEM("the new BaseLoRA in generation %lld, which is the old one",
		        (long long)now.generation);
	return 1;
}

static int is_sound(const char *dir, rv_sona_loop loop, char why[512]) {
	return is_whole(dir, why) && goes_on(dir, loop, why);
}

/* ---- killing ---- */

/* In a process of its own, under the shim: its wait status. */
static int run_killed(const char *dir, rv_sona_loop loop, shim_mode mode, long at) {
	int status = 0;
	shim_set(mode, at);
	fflush(stdout);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		arm();
		_exit(run(dir, loop, NULL) == RV_OK ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	the_shim->pid = 0;
	return status;
}

static void kill_everywhere(rv_sona_loop loop) {
	static const struct {
		shim_mode mode;
		const char *what;
	} modes[] = {{SHIM_KILL, "before each"}, {SHIM_TEAR, "half of it written"}};
	char dir[256], why[512] = "";
	rv_sona_pass_report report;
	folder_make(dir);
	copy_folder(before_dir, dir);
	assert_int_equal(run_killed(dir, loop, SHIM_COUNT, 0), 0);
	const long n_writes = the_shim->n;
	folder_remove(dir);
	/* here, where its report can be read */
	folder_make(dir);
	copy_folder(before_dir, dir);
	assert_true(read_content(dir, &before, why));
	folder_remove(dir);
	folder_make(dir);
	copy_folder(before_dir, dir);
	assert_ok(run(dir, loop, &report));
	for (int i = 0; i < report.n_parts; i++)
		printf("# %s: %s: %s\n", rv_sona_part_name(loop, i),
		       rv_sona_part_outcome_name(report.parts[i].outcome), report.parts[i].text);
	assert_true(read_content(dir, &after, why));
	folder_remove(dir);
	assert_true(after.generation > before.generation);
	for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
		long killed = 0, tried = 0;
		for (long at = 1; at <= n_writes; at += STEP, tried++) {
			folder_make(dir);
			copy_folder(before_dir, dir);
			int status = run_killed(dir, loop, modes[m].mode, at);
			killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
			const int further = at % 7 == (long)m; /* a pass takes its time */
			if (!is_whole(dir, why) || (further && !goes_on(dir, loop, why)))
				fail_msg("%s loop, killed at write %ld of %ld, %s: %s",
				         rv_sona_loop_names[loop], at, n_writes, modes[m].what, why);
			folder_remove(dir);
		}
		printf("# %s loop, %s: killed at %ld of %ld%s\n", rv_sona_loop_names[loop],
		       modes[m].what, killed, n_writes, STEP > 1 ? " (every 11th: sanitizer)" : "");
		assert_int_equal(killed, tried);
	}
	free_content(&before);
	free_content(&after);
}

/* Control: what would be wrong is seen. */
static void losses_are_seen(void **state) {
	(void)state;
	char dir[256], path[400], why[512] = "", *data;
	size_t size;
	content c;
	folder_make(dir);
	copy_folder(before_dir, dir);
	assert_true(read_content(dir, &before, why));
	assert_ok(run(dir, RV_SONA_DEEP, NULL));
	assert_true(read_content(dir, &after, why));
	assert_true(is_sound(dir, RV_SONA_DEEP, why));
	/* an archive that is cut off */
	snprintf(path, sizeof path, "%s/archive/witness-000000000001.archive", dir);
	assert_ok(rv_file_read(path, 1 << 26, &data, &size));
	assert_ok(rv_file_write(path, data, size - 100));
	assert_false(is_sound(dir, RV_SONA_DEEP, why));
	assert_non_null(strstr(why, "archive"));
	assert_ok(rv_file_write(path, data, size));
	rv_free(data);
	/* a BaseLoRA that nobody made */
	assert_true(read_content(dir, &c, why));
	snprintf(before.base, sizeof before.base, "another");
	snprintf(after.base, sizeof after.base, "another");
	assert_false(is_sound(dir, RV_SONA_DEEP, why));
	assert_non_null(strstr(why, "BaseLoRA"));
	memcpy(after.base, c.base, sizeof after.base);
	/* patterns that are not there any more */
	after.patterns[0] = '!';
	assert_false(is_sound(dir, RV_SONA_DEEP, why));
	free_content(&c);
	free_content(&before);
	free_content(&after);
	folder_remove(dir);
}

static int begin(void **state) {
	(void)state;
	char path[300];
	if (!shim_make())
		return -1;
	the_shim->no_sync = 1;
	rv_sim_clock_init(&clock_now, KIT_START);
	model = shipped("pico");
	folder_make(home);
	snprintf(path, sizeof path, "%s/draft.gguf", home);
	draft = spoilt_draft(path);
	folder_make(before_dir);
	fill(before_dir);
	rv_sim_clock_advance(&clock_now, 15 * DAY);
	teach(before_dir, 0, N_TAUGHT / 2);
	assert_ok(run(before_dir, RV_SONA_BACKGROUND, NULL)); /* so that there is something before */
	rv_sim_clock_advance(&clock_now, DAY);
	options_seed = 6000;
	teach(before_dir, N_TAUGHT / 2, N_TAUGHT);
	rv_sim_clock_advance(&clock_now, 3 * DAY); /* witness entries grow old meanwhile */
	return 0;
}

static int finish(void **state) {
	(void)state;
	folder_remove(before_dir);
	folder_remove(home);
	rv_model_release(draft);
	rv_model_release(model);
	return 0;
}

#pragma GCC diagnostic pop

#endif
