/* What was learnt on disk: comes back as it was, one generation after the other; what is damaged or of
 * something else is refused by name. */
#include "base/file.h"
#include "learn/sona_state.h"
#include "tests/learn/sona_fixture.h"

#include <glob.h>
#include <sys/stat.h>

static void learn_something(sona_fixture *f) {
	sona_asked a;
	static const int32_t right[] = {17, 18, 19};
	int32_t old[2 * 33];
	for (int i = 0; i < 2 * 33; i++)
		old[i] = (i * 37) % 512;
	assert_ok(rv_sona_remember(f->sona, old, NULL, 2));
	for (int i = 0; i < 48; i++) {
		sona_serve(f, i % 12, i % 2 ? 1 : 0, &a);
		if (i % 2 == 0)
			assert_ok(rv_sona_feedback(f->sona, a.id, 0, RV_QUALITY_TASK, right, 3, NULL));
		rv_sim_clock_advance(&f->clock, 10);
	}
	assert_ok(rv_sona_background_step(f->sona, -1, NULL));
	sona_serve(f, 3, 1, &a); /* MicroLoRA on top of BaseLoRA */
}

static rv_sona_options with_tuning(sona_fixture *f) {
	rv_sona_options o = sona_options(f);
	o.tuning.rate = 5e-3;
	o.rules.rules &= ~RV_RULE_BIT(RV_RULE_MICRO);
	return o;
}

static char *file_of(const sona_fixture *f, const char *pattern) {
	static char path[1200];
	glob_t found;
	snprintf(path, sizeof path, "%s/sona/%s", f->dir, pattern);
	assert_int_equal(glob(path, 0, NULL, &found), 0);
	snprintf(path, sizeof path, "%s", found.gl_pathv[found.gl_pathc - 1]); /* the newest */
	globfree(&found);
	return path;
}

static size_t count_files(const sona_fixture *f, const char *pattern) {
	char path[1200];
	glob_t found;
	snprintf(path, sizeof path, "%s/sona/%s", f->dir, pattern);
	size_t n = glob(path, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
	globfree(&found);
	return n;
}

static void it_comes_back(void **state) {
	(void)state;
	sona_fixture f;
	char before[65], after[65];
	float logits[2][512];
	rv_sona_stats stats[2];
	uint64_t oldest, newest;
	sona_setup(&f, 1);
	const rv_sona_options o = with_tuning(&f);
	sona_open_with(&f, &o);
	learn_something(&f);
	sona_hash(&f, before);
	sona_logits(&f, 2, logits[0]);
	rv_sona_get_stats(f.sona, &stats[0]);
	assert_ok(rv_sona_close(f.sona));
	sona_open_with(&f, &o);
	sona_hash(&f, after);
	sona_logits(&f, 2, logits[1]);
	rv_sona_get_stats(f.sona, &stats[1]);
	assert_string_equal(before, after);
	assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
	assert_true(stats[1].likelihood_slope == stats[0].likelihood_slope);
	assert_int_equal(stats[1].generation, stats[0].generation + 1); /* close wrote one */
	rv_trajectory_ring_range(rv_sona_ring(f.sona), &oldest, &newest);
	assert_int_equal(newest - oldest + 1, 49);
	rv_sona_bytes bytes;
	rv_sona_count_bytes(f.sona, &bytes);
	assert_true(bytes.part[RV_SONA_BYTES_EWC] > 0);
	assert_true(bytes.part[RV_SONA_BYTES_REPLAY] > 0);
	/* what was trained on is not trained on again: there is one that was not */
	rv_sona_pass_report r;
	assert_ok(rv_sona_background_step(f.sona, -1, &r));
	print_message("    tune after opening again: %s\n", r.parts[RV_BACKGROUND_TUNE].text);
	assert_true(r.parts[RV_BACKGROUND_TUNE].outcome == RV_PART_NOTHING ||
	            strstr(r.parts[RV_BACKGROUND_TUNE].text, "on 1 trajectories") != NULL);
	sona_teardown(&f);
}

static void few_generations_are_kept(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	sona_setup(&f, 1);
	sona_open(&f);
	for (int i = 0; i < 6; i++) {
		sona_serve(&f, i, 1, &a);
		assert_ok(rv_sona_save(f.sona));
	}
	assert_int_equal(count_files(&f, "g*"), 2);
	assert_int_equal(count_files(&f, "g00000006"), 1);
	assert_int_equal(count_files(&f, "*.tmp*"), 0);
	sona_teardown(&f);
}

/* The next generation cannot be begun (its name is taken by a file): the last stays in force. */
static void a_failed_save_leaves_the_last(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	char kept[65], after[65], path[1200];
	sona_setup(&f, 1);
	sona_open(&f);
	sona_serve(&f, 1, 1, &a);
	assert_ok(rv_sona_save(f.sona));
	sona_hash(&f, kept);
	snprintf(path, sizeof path, "%s/sona/g00000002", f.dir);
	assert_ok(rv_file_write(path, "x", 1));
	sona_serve(&f, 2, 1, &a);
	assert_int_not_equal(rv_sona_save(f.sona), RV_OK);
	assert_int_not_equal(rv_sona_close(f.sona), RV_OK); /* which would have saved too */
	sona_open(&f);
	sona_hash(&f, after);
	assert_string_equal(kept, after);
	assert_int_equal(unlink(path), 0);
	sona_teardown(&f);
}

/* What a killed process had begun of the next generation is in nobody's way. */
static void leftovers_are_swept(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	char path[1200];
	sona_setup(&f, 1);
	sona_open(&f);
	sona_serve(&f, 1, 1, &a);
	snprintf(path, sizeof path, "%s/sona/g00000001", f.dir);
	assert_ok(rv_mkdirs(path));
	snprintf(path, sizeof path, "%s/sona/g00000001/base.gguf", f.dir);
	assert_ok(rv_file_write(path, "half", 4));
	assert_ok(rv_sona_save(f.sona));
	assert_int_equal(count_files(&f, "g00000001/base.gguf"), 0);
	assert_int_equal(count_files(&f, "g00000001/micro.gguf"), 1);
	sona_teardown(&f);
}

static void refused(sona_fixture *f, const rv_sona_options *o, rv_status status, const char *word) {
	rv_sona *s = (rv_sona *)1;
	assert_int_equal(rv_sona_open(&s, f->model, f->dir, o), status);
	assert_ptr_equal(s, (rv_sona *)1);
	if (strstr(rv_error_message(), word) == NULL)
		fail_msg("'%s' does not name %s", rv_error_message(), word);
}

/* Each file of a generation: a flipped bit, cut short, gone. */
static void damage_is_refused_by_name(void **state) {
	(void)state;
	static const char *const names[] = {"base.gguf",  "micro.gguf", "ewc.bin",
	                                    "served.bin", "old.bin",    "router.bin"};
	sona_fixture f;
	sona_setup(&f, 1);
	const rv_sona_options o = with_tuning(&f);
	sona_open_with(&f, &o);
	learn_something(&f);
	assert_ok(rv_sona_close(f.sona));
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char pattern[64], *data;
		size_t size;
		snprintf(pattern, sizeof pattern, "g*/%s", names[i]);
		const char *path = file_of(&f, pattern);
		assert_ok(rv_file_read(path, (size_t)1 << 30, &data, &size));
		data[size / 2] ^= 1;
		assert_ok(rv_file_write(path, data, size));
		refused(&f, &o, RV_ERR_FORMAT, names[i]);
		data[size / 2] ^= 1;
		assert_ok(rv_file_write(path, data, size - 1));
		refused(&f, &o, RV_ERR_FORMAT, names[i]);
		assert_int_equal(unlink(path), 0);
		refused(&f, &o, RV_ERR_FORMAT, names[i]);
		assert_ok(rv_file_write(path, data, size));
		rv_free(data);
	}
	sona_open_with(&f, &o); /* whole again */
	sona_teardown(&f);
}

/* state.json itself: cut anywhere, or with any key taken away, it is refused, never half read. */
static void a_bad_manifest(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	char *data;
	size_t size;
	sona_setup(&f, 1);
	const rv_sona_options o = sona_options(&f);
	sona_open_with(&f, &o);
	sona_serve(&f, 1, 1, &a);
	assert_ok(rv_sona_close(f.sona));
	char path[1200];
	snprintf(path, sizeof path, "%s", file_of(&f, "state.json"));
	assert_ok(rv_file_read(path, (size_t)1 << 20, &data, &size));
	for (size_t n = 0; n + 2 < size; n += 97) {
		assert_ok(rv_file_write(path, data, n));
		refused(&f, &o, RV_ERR_FORMAT, "");
	}
	json_t *whole;
	assert_ok(rv_json_parse(data, size, "state", &whole));
	const char *key;
	json_t *value;
	json_object_foreach(whole, key, value) {
		json_t *less = json_copy(whole);
		json_object_del(less, key);
		assert_ok(rv_json_write(path, less));
		json_decref(less);
		rv_sona *s;
		assert_int_not_equal(rv_sona_open(&s, f.model, f.dir, &o), RV_OK);
	}
	json_decref(whole);
	assert_ok(rv_file_write(path, data, size));
	rv_free(data);
	sona_open_with(&f, &o);
	sona_teardown(&f);
}

static void of_something_else(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	char other[1024];
	sona_setup(&f, 1);
	rv_sona_options o = sona_options(&f);
	sona_open_with(&f, &o);
	sona_serve(&f, 1, 1, &a);
	assert_ok(rv_sona_close(f.sona));
	o.micro.rank = 2;
	refused(&f, &o, RV_ERR_MISMATCH, "rank");
	o = sona_options(&f);
	o.micro.site = RV_SITE_FFN_OUT;
	refused(&f, &o, RV_ERR_MISMATCH, "site");
	o = sona_options(&f);
	o.micro.layers[0] = 0;
	o.micro.n_layers = 1;
	refused(&f, &o, RV_ERR_MISMATCH, "layers");
	rv_model *mine = f.model;
	const rv_hparams hp = tiny_hparams();
	tiny_model_file_of(other, &hp, "qwen2", "F16", 8);
	assert_ok(rv_model_open(&f.model, other, NULL));
	o = sona_options(&f);
	refused(&f, &o, RV_ERR_MISMATCH, "model_sha256");
	rv_model_release(f.model);
	unlink(other);
	f.model = mine;
	sona_open_with(&f, &o);
	sona_teardown(&f);
}

static void a_reader_changes_nothing(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	char before[65], after[65];
	sona_setup(&f, 1);
	rv_sona_options o = sona_options(&f);
	sona_open_with(&f, &o);
	sona_serve(&f, 1, 1, &a);
	sona_hash(&f, before);
	assert_ok(rv_sona_close(f.sona));
	o.read_only = 1;
	sona_open_with(&f, &o);
	sona_hash(&f, after);
	assert_string_equal(before, after);
	sona_serve(&f, 2, 1, &a); /* learns for itself, in memory */
	assert_int_equal(rv_sona_background_step(f.sona, -1, NULL), RV_ERR_INVALID);
	assert_int_equal(rv_sona_save(f.sona), RV_ERR_INVALID);
	assert_ok(rv_sona_close(f.sona));
	o.read_only = 0;
	sona_open_with(&f, &o);
	sona_hash(&f, after);
	assert_string_equal(before, after);
	sona_teardown(&f);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(it_comes_back),
	        cmocka_unit_test(few_generations_are_kept),
	        cmocka_unit_test(a_failed_save_leaves_the_last),
	        cmocka_unit_test(leftovers_are_swept),
	        cmocka_unit_test(damage_is_refused_by_name),
	        cmocka_unit_test(a_bad_manifest),
	        cmocka_unit_test(of_something_else),
	        cmocka_unit_test(a_reader_changes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
