/* What gives way when KV pages run out: idle sequences only, the longest idle first; nothing is lost
 * when it cannot; spilled ones come back with the same bits. */
#include "base/mem.h"
#include "tests/engine/pressure_kit.h"
#include "tests/support/made_adapter.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- evict ---- */

static void evicts_the_longest_idle(void **state) {
	(void)state;
	subject s;
	int n = capacity();
	open_subject(&s, RV_KV_EVICT);
	/* 0 is in use, 1 is used again after 3: 2, 3, 1 is the order. */
	for (int32_t i = 0; i < 4; i++)
		assert_ok(fill_idle(&s, i));
	assert_ok(rv_kv_pressure_use(s.p, 0));
	assert_ok(rv_kv_pressure_use(s.p, 1));
	rv_kv_pressure_idle(s.p, 1);
	for (int32_t i = 4; s.told.n < 3; i++)
		assert_ok(fill_idle(&s, i));
	assert_int_equal(s.told.seqs[0], 2);
	assert_int_equal(s.told.seqs[1], 3);
	assert_int_equal(s.told.seqs[2], 1);
	assert_int_equal(s.told.tokens, s.told.n * LENGTH);
	assert_int_equal(rv_kv_pressure_place(s.p, 2), RV_KV_EVICTED);
	assert_int_equal(rv_seq_length(s.ctx, 2), 0);
	assert_int_equal(rv_seq_length(s.ctx, 0), LENGTH);
	assert_fails(rv_kv_pressure_use(s.p, 2), RV_ERR_NOT_FOUND, "256 tokens were evicted");
	assert_ok(rv_kv_pressure_forget(s.p, 2));
	assert_ok(fill_idle(&s, 2));
	assert_ok(rv_kv_pages_verify(s.kv, 0));
	/* All in use: nothing can give way, and nothing does. */
	for (int32_t i = 0; i < N_SEQS; i++) {
		if (rv_kv_pressure_place(s.p, i) != RV_KV_RESIDENT)
			assert_ok(rv_kv_pressure_forget(s.p, i));
		assert_ok(rv_kv_pressure_use(s.p, i));
	}
	int64_t before = s.told.n;
	rv_status status = RV_OK;
	for (int32_t i = 0; i < N_SEQS && status == RV_OK; i++)
		if (rv_seq_length(s.ctx, i) == 0)
			status = fill(&s, i, LENGTH, NULL);
	assert_int_equal(status, RV_ERR_LIMIT);
	assert_int_equal(s.told.n, before);
	assert_string_equal(rv_kv_pressure_refusal(s.p),
	                    "no idle sequence whose pages nobody else holds");
	assert_true(n > 4);
	close_subject(&s);
}

/* A sequence that is evaluated though it was handed over as idle keeps its pages; a failing call does
 * not bring back the tokens of one that gave way in it. */
static void within_a_call(void **state) {
	(void)state;
	subject s;
	int n = capacity();
	open_subject(&s, RV_KV_EVICT);
	for (int32_t i = 0; i < n; i++)
		if (s.told.n == 0)
			assert_ok(fill_idle(&s, i));
	/* More than there is, of sequence 0: the others give way, then the call fails. */
	rv_row *rows;
	int64_t n_rows = 0;
	assert_ok(RV_ALLOC(&rows, 512 * N_SEQS, "rows"));
	int32_t last = 0;
	for (int32_t q = 0; q < N_SEQS; q++) {
		int64_t length = rv_seq_length(s.ctx, q);
		if (q > 0 && length > 0)
			continue;
		for (int32_t i = (int32_t)length; i < 512; i++)
			rows[n_rows++] = (rv_row){1, q, i, -1, 0, 0};
		last = q;
	}
	assert_int_equal(rv_context_eval(s.ctx, rows, n_rows), RV_ERR_LIMIT);
	rv_free(rows);
	assert_int_equal(rv_seq_length(s.ctx, last), 0);
	for (int32_t q = 0; q < N_SEQS; q++) {
		const rv_kv_page *pages;
		assert_int_equal(rv_kv_seq_pages(s.kv, q, &pages),
		                 (rv_seq_length(s.ctx, q) + PAGE - 1) / PAGE);
	}
	assert_ok(rv_kv_pages_verify(s.kv, 0));
	assert_true(s.told.n > 0);
	if (rv_kv_pressure_place(s.p, 0) == RV_KV_RESIDENT)
		assert_ok(fill(&s, 0, 1, NULL));
	close_subject(&s);
}

/* Forks give way together, and only where that frees something. */
static void shared_pages(void **state) {
	(void)state;
	subject s;
	open_subject(&s, RV_KV_EVICT);
	/* 0 (in use) and 1 share all; 2 and 3 share all and are both idle. */
	for (int32_t i = 0; i < 4; i += 2) {
		assert_ok(fill_idle(&s, i));
		assert_ok(rv_kv_pressure_use(s.p, i + 1));
		assert_ok(rv_seq_copy(s.ctx, i, i + 1, LENGTH));
		rv_kv_pressure_idle(s.p, i + 1);
	}
	assert_ok(rv_kv_pressure_use(s.p, 0));
	for (int32_t i = 4; s.told.n == 0; i++) {
		assert_ok(rv_kv_pressure_use(s.p, i));
		assert_ok(fill(&s, i, LENGTH, NULL));
	}
	assert_int_equal(s.told.n, 2);
	assert_int_equal(s.told.seqs[0], 2);
	assert_int_equal(s.told.seqs[1], 3);
	assert_int_equal(rv_seq_length(s.ctx, 1), LENGTH);
	assert_ok(rv_kv_pages_verify(s.kv, 0));
	close_subject(&s);
}

/* Idle sequences whose pages the prefix cache holds too: both let go, and the cache alone of pages that
 * no sequence uses. */
static void beside_a_prefix_cache(void **state) {
	(void)state;
	subject s;
	rv_prefix_cache *cache;
	rv_prefix_cache_stats stats;
	int32_t tokens[LENGTH];
	int n = capacity();
	for (int named = 0; named < 2; named++) {
		open_subject(&s, RV_KV_REJECT);
		rv_kv_pressure_destroy(s.p);
		rv_kv_pressure_options po = rv_kv_pressure_defaults();
		assert_ok(rv_prefix_cache_create(&cache, s.ctx));
		po.relief = RV_KV_EVICT;
		po.evicted = on_evicted;
		po.user = &s.told;
		po.prefix = named ? cache : NULL;
		assert_ok(rv_kv_pressure_create(&s.p, s.ctx, &po));
		rv_status status = RV_OK;
		for (int32_t i = 0; i < 2 * n && status == RV_OK; i++) {
			status = fill_idle(&s, i);
			some_tokens(tokens, LENGTH, i);
			if (status == RV_OK)
				assert_ok(rv_prefix_cache_insert(cache, i, tokens, LENGTH));
			assert_ok(rv_kv_pages_verify(s.kv, -1));
		}
		rv_prefix_cache_get_stats(cache, &stats);
		/* negative control: not named, nothing can be done */
		assert_int_equal(status, named ? RV_OK : RV_ERR_LIMIT);
		assert_true((s.told.n > 0) == named && (stats.pages_evicted > 0) == named);
		rv_kv_pressure_destroy(s.p);
		rv_prefix_cache_destroy(cache);
		assert_ok(rv_kv_pages_verify(s.kv, 0));
		rv_context_destroy(s.ctx);
	}
}

/* ---- spill ---- */

static int files_in(const char *dir) {
	int n = 0;
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static void come_back(const rv_kv_policy *policy, int32_t n) {
	static float expected[N_SEQS][N_VOCAB], found[N_VOCAB];
	subject alone, s;
	for (int32_t i = 0; i < n; i++) {
		open_tiered(&alone, RV_KV_REJECT, policy);
		assert_ok(fill_idle(&alone, i));
		last_logits(&alone, i, expected[i]);
		close_subject(&alone);
	}
	open_tiered(&s, RV_KV_SPILL, policy);
	for (int32_t i = 0; i < n; i++)
		assert_ok(fill_idle(&s, i));
	rv_kv_pressure_stats stats;
	rv_kv_pressure_get_stats(s.p, &stats);
	assert_true(stats.n_spilled_now > 5 && stats.spilled_bytes > (size_t)1 << 20);
	assert_int_equal(rv_kv_pressure_place(s.p, 0), RV_KV_SPILLED);
	for (int32_t i = 0; i < n; i++) {
		int32_t seq = (i * 7) % n;
		last_logits(&s, seq, found);
		assert_memory_equal(found, expected[seq], sizeof found);
		assert_ok(rv_kv_pages_verify(s.kv, 0));
	}
	rv_kv_pressure_get_stats(s.p, &stats);
	assert_true(stats.n_restored > 5);
	print_message("# %d sequences: %lld spilled, %lld restored\n", n, (long long)stats.n_spilled,
	              (long long)stats.n_restored);
	/* Forgotten wherever they are; the rest with the folder. */
	assert_int_equal(files_in(spill_dir), 1);
	for (int32_t i = 0; i < 10; i++)
		assert_ok(rv_kv_pressure_forget(s.p, i));
	assert_int_equal(rv_kv_pressure_forget(s.p, N_SEQS), RV_ERR_INVALID);
	close_subject(&s);
	assert_int_equal(files_in(spill_dir), 0);
}

static void spilled_come_back(void **state) {
	(void)state;
	come_back(NULL, 30);
}
static void tiered_come_back(void **state) {
	(void)state;
	rv_kv_policy policy;
	assert_ok(rv_kv_policy_parse_name(&policy, "three-tier-kivi:tail=64:warm=128"));
	come_back(&policy, 36);
}

/* The only folder in the spill folder. */
static void spill_folder(char path[2048]) {
	DIR *d = opendir(spill_dir);
	assert_non_null(d);
	path[0] = '\0';
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			snprintf(path, 2048, "%s/%s", spill_dir, e->d_name);
	closedir(d);
}

/* Adapters that were swapped while a sequence lay in its file: it comes back under what it stood. */
static void spilled_under_older_adapters(void **state) {
	(void)state;
	float with[N_VOCAB], without[N_VOCAB];
	const rv_adapter_use uses[] = {{made_adapter(model, "older", RV_ROLES_LAYER, 0, 2, 1), 1},
	                               {made_adapter(model, "newer", RV_ROLES_LAYER, 0, 2, 2), 1}};
	for (int spilled = 0; spilled < 2; spilled++) {
		subject s;
		open_subject(&s, RV_KV_SPILL);
		assert_ok(rv_context_set_adapters(s.ctx, 0, &uses[0], 1));
		assert_ok(fill_idle(&s, 0));
		const uint64_t older = rv_seq_adapter_version(s.ctx, 0);
		for (int32_t i = 1; spilled && i < 30; i++)
			assert_ok(fill_idle(&s, i));
		assert_int_equal(rv_kv_pressure_place(s.p, 0),
		                 spilled ? RV_KV_SPILLED : RV_KV_RESIDENT);
		assert_ok(rv_context_swap_adapters(s.ctx, 0, &uses[1], 1));
		assert_ok(rv_kv_pressure_use(s.p, 0));
		assert_int_equal(rv_seq_adapter_version(s.ctx, 0), older);
		rv_kv_pressure_idle(s.p, 0);
		last_logits(&s, 0, spilled ? with : without);
		assert_int_equal(rv_seq_adapter_version(s.ctx, 0), RV_ADAPTER_MIXED);
		close_subject(&s);
	}
	assert_memory_equal(with, without, sizeof with);
	for (int i = 0; i < 2; i++) { /* nothing kept them */
		assert_false(rv_adapter_shared(uses[i].adapter));
		rv_adapter_release(uses[i].adapter);
	}
}

static void damaged_spill(void **state) {
	(void)state;
	subject s;
	char folder[2048], path[4096];
	open_subject(&s, RV_KV_SPILL);
	for (int32_t i = 0; i < 30; i++)
		assert_ok(fill_idle(&s, i));
	spill_folder(folder);
	snprintf(path, sizeof path, "%s/0.kv", folder);
	FILE *f = fopen(path, "r+b");
	assert_non_null(f);
	fseek(f, 100000, SEEK_SET);
	int byte = getc(f);
	fseek(f, 100000, SEEK_SET);
	putc(byte ^ 4, f);
	fclose(f);
	assert_fails(rv_kv_pressure_use(s.p, 0), RV_ERR_FORMAT, "0.kv: wrong checksum");
	assert_int_equal(rv_kv_pressure_place(s.p, 0), RV_KV_SPILLED);
	assert_int_equal(rv_seq_length(s.ctx, 0), 0);
	assert_ok(rv_kv_pressure_forget(s.p, 0));
	assert_ok(fill_idle(&s, 0));
	close_subject(&s);
	assert_int_equal(files_in(spill_dir), 0);
}

/* Exit status of the child: 0 when all is as it should be. */
static int with_full_disk(subject *s, int n) {
	const struct rlimit small = {100000, RLIM_INFINITY}, large = {RLIM_INFINITY, RLIM_INFINITY};
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	rv_status status = RV_OK;
	int32_t i = 0;
	while (status == RV_OK && i < N_SEQS)
		if ((status = fill_idle(s, i)) == RV_OK)
			i++;
	if (status != RV_ERR_LIMIT || i < n - 1)
		return 1;
	if (!strstr(rv_kv_pressure_refusal(s->p), "File too large"))
		return 2;
	for (int32_t q = 0; q < i; q++) /* nothing lost, nothing moved */
		if (rv_kv_pressure_place(s->p, q) != RV_KV_RESIDENT ||
		    rv_seq_length(s->ctx, q) != LENGTH)
			return 3;
	if (rv_kv_pages_verify(s->kv, 0) != RV_OK)
		return 4;
	setrlimit(RLIMIT_FSIZE, &large); /* room again: it goes on */
	if (fill_idle(s, i) != RV_OK || rv_kv_pressure_place(s->p, 0) != RV_KV_SPILLED)
		return 5;
	return 0;
}

static void disk_full(void **state) {
	(void)state;
	int n = capacity();
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		subject s;
		open_subject(&s, RV_KV_SPILL);
		int result = with_full_disk(&s, n);
		rv_kv_pressure_destroy(s.p);
		_exit(result);
	}
	int status = -1;
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(files_in(spill_dir), 0);
}

/* What killed processes leave goes when the next one spills there; what lives stays, and so does what
 * is not ours. */
static void killed_ones_are_cleaned_up(void **state) {
	(void)state;
	char folder[2048], other[2048], path[2100], byte;
	int began[2];
	subject s, second;
	assert_int_equal(pipe(began), 0);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		open_subject(&s, RV_KV_SPILL);
		for (int32_t i = 0; i < 30; i++)
			fill_idle(&s, i);
		if (write(began[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	close(began[1]);
	assert_int_equal(read(began[0], &byte, 1), 1);
	close(began[0]);
	spill_folder(folder);
	/* it lives: its folder stays beside another */
	open_subject(&s, RV_KV_SPILL);
	assert_int_equal(files_in(spill_dir), 2);
	assert_true(files_in(folder) > 0);
	close_subject(&s);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(files_in(spill_dir), 1);
	/* a folder of the same form with something else in it is left alone */
	snprintf(other, sizeof other, "%s/kv-abc123", spill_dir);
	assert_int_equal(mkdir(other, 0700), 0);
	snprintf(path, sizeof path, "%s/letter.txt", other);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	open_subject(&s, RV_KV_SPILL);
	assert_int_equal(access(folder, F_OK), -1);
	assert_int_equal(access(path, F_OK), 0);
	open_subject(&second, RV_KV_SPILL); /* of the same process */
	assert_int_equal(files_in(spill_dir), 3);
	close_subject(&second);
	close_subject(&s);
	unlink(path);
	rmdir(other);
	assert_int_equal(files_in(spill_dir), 0);
}

/* ---- rules ---- */

static void rules(void **state) {
	(void)state;
	rv_context_options o = kv_options(2, RV_KV_F16);
	rv_kv_pressure_options po = rv_kv_pressure_defaults();
	rv_kv_pressure *p;
	o.page_size = 0;
	rv_context *ctx = kv_context(model, o);
	assert_fails(rv_kv_pressure_create(&p, ctx, &po), RV_ERR_UNSUPPORTED, "no pages");
	rv_context_destroy(ctx);
	o.page_size = 64;
	o.kv_budget_bytes = (size_t)16 << 20;
	ctx = kv_context(model, o);
	po.relief = RV_KV_RELIEF_COUNT;
	assert_fails(rv_kv_pressure_create(&p, ctx, &po), RV_ERR_INVALID, "unknown relief");
	po.relief = RV_KV_QUANTIZE;
	po.smallest = RV_KV_F16;
	assert_fails(rv_kv_pressure_create(&p, ctx, &po), RV_ERR_INVALID, "q8 and q4");
	po.relief = RV_KV_SPILL;
	po.smallest = RV_KV_Q4;
	assert_fails(rv_kv_pressure_create(&p, ctx, &po), RV_ERR_INVALID, "no folder");
	po.spill_dir = "/proc/nowhere";
	assert_fails(rv_kv_pressure_create(&p, ctx, &po), RV_ERR_IO, "/proc/nowhere");
	assert_null(p);
	po.relief = RV_KV_EVICT;
	assert_ok(rv_kv_pressure_create(&p, ctx, &po));
	assert_fails(rv_kv_pressure_use(p, 2), RV_ERR_INVALID, "not in [0, 2)");
	assert_fails(rv_kv_pressure_use(p, -1), RV_ERR_INVALID, "not in [0, 2)");
	rv_kv_pressure_idle(p, 1); /* nobody uses it: nothing happens */
	rv_kv_pressure_idle(p, 2);
	rv_kv_pressure_idle(p, -1);
	assert_string_equal(rv_kv_pressure_refusal(p), "");
	rv_kv_pressure_destroy(p);
	rv_kv_pressure_destroy(NULL);
	rv_context_destroy(ctx);
	assert_string_equal(rv_kv_relief_names[RV_KV_SPILL], "spill");
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(evicts_the_longest_idle),
	        cmocka_unit_test(within_a_call),
	        cmocka_unit_test(shared_pages),
	        cmocka_unit_test(beside_a_prefix_cache),
	        cmocka_unit_test(spilled_come_back),
	        cmocka_unit_test(tiered_come_back),
	        cmocka_unit_test(spilled_under_older_adapters),
	        cmocka_unit_test(damaged_spill),
	        cmocka_unit_test(disk_full),
	        cmocka_unit_test(killed_ones_are_cleaned_up),
	        cmocka_unit_test(rules),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
