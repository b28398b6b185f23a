/* Sweeps that are killed, or refused their writes, at every single write, and resumed. */
#include "tests/lab/program.h"
#include "tests/support/write_shim.h"

#include <glob.h>
#include <hdf5.h>
#include <sys/resource.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STEP 9
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STEP 9
#endif
#endif
#ifndef STEP
#define STEP 1
#endif

/* ---- the sweep: 2 fixtures x 2 points x 3 repetitions ---- */

enum { N_POINTS = 4, N_REPS = 3 };
static const int point_index[N_POINTS] = {0, 1, 3, 4};
static rv_experiment small;

static int run_with(const char *dir, shim_mode mode, long at) {
	shim_set(mode, at);
	int end = end_of(start_program(&small, dir, arm));
	the_shim->pid = 0;
	return end;
}

/* ---- what a sweep left behind ---- */

typedef struct sample {
	double value;
	int run, repetition;
} sample;

typedef struct outcome {
	char *points; /* the table, as bytes */
	size_t n_bytes;
	char keys[N_POINTS][17];
	sample speed[N_POINTS][N_REPS];
	char *tsv;
	int recorded[N_POINTS][N_REPS]; /* how often in the journal */
	int n_journals;
} outcome;

static void outcome_free(outcome *o) {
	free(o->points);
	rv_free(o->tsv);
}

static int read_points(hid_t file, outcome *o) {
	hid_t set = H5Dopen2(file, "points", H5P_DEFAULT);
	hid_t type = set >= 0 ? H5Dget_type(set) : -1, space = set >= 0 ? H5Dget_space(set) : -1;
	int ok = type >= 0 && space >= 0 && H5Sget_simple_extent_npoints(space) == N_POINTS;
	size_t row = ok ? H5Tget_size(type) : 0;
	if (ok) {
		o->n_bytes = N_POINTS * row;
		o->points = calloc(1, o->n_bytes);
		ok = o->points != NULL &&
		     H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, o->points) >= 0;
	}
	for (int p = 0; p < N_POINTS && ok; p++)
		memcpy(o->keys[p], o->points + (size_t)p * row, 16); /* the first column */
	H5Sclose(space);
	H5Tclose(type);
	H5Dclose(set);
	return ok;
}

static int read_samples(hid_t file, int point, outcome *o) {
	char name[64];
	snprintf(name, sizeof name, "samples/%s/speed", o->keys[point]);
	hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
	if (set < 0)
		return 0;
	hid_t space = H5Dget_space(set), type = H5Tcreate(H5T_COMPOUND, sizeof(sample));
	H5Tinsert(type, "value", HOFFSET(sample, value), H5T_NATIVE_DOUBLE);
	H5Tinsert(type, "run", HOFFSET(sample, run), H5T_NATIVE_INT);
	H5Tinsert(type, "repetition", HOFFSET(sample, repetition), H5T_NATIVE_INT);
	int ok = H5Sget_simple_extent_npoints(space) == N_REPS &&
	         H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, o->speed[point]) >= 0;
	H5Sclose(space);
	H5Tclose(type);
	H5Dclose(set);
	return ok;
}

static int read_h5(const char *dir, outcome *o) {
	char path[320];
	snprintf(path, sizeof path, "%s/toy.h5", dir);
	hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	if (file < 0)
		return 0;
	int ok = read_points(file, o);
	for (int p = 0; p < N_POINTS && ok; p++)
		ok = read_samples(file, p, o);
	H5Fclose(file);
	return ok;
}

typedef struct counting {
	const char (*keys)[17];
	int (*recorded)[N_REPS];
} counting;

static rv_status count_record(void *user, const char *payload, size_t size) {
	const counting *c = user;
	json_t *o = NULL;
	RV_TRY(rv_json_parse(payload, size, "record", &o));
	const char *key = json_string_value(json_object_get(o, "key"));
	const char *type = json_string_value(json_object_get(o, "type"));
	json_int_t rep = json_integer_value(json_object_get(o, "rep"));
	for (int p = 0; p < N_POINTS; p++)
		if (type != NULL && key != NULL && strcmp(type, "repetition") == 0 &&
		    strcmp(key, c->keys[p]) == 0 && rep >= 0 && rep < N_REPS)
			c->recorded[p][rep]++;
	json_decref(o);
	return RV_OK;
}

static int find_journal(const char *dir, char path[320]) {
	char pattern[320];
	glob_t g;
	snprintf(pattern, sizeof pattern, "%s/journal/*.journal", dir);
	int n = glob(pattern, 0, NULL, &g) == 0 ? (int)g.gl_pathc : 0;
	if (n > 0)
		snprintf(path, 320, "%s", g.gl_pathv[0]);
	globfree(&g);
	return n;
}

/* How often each repetition is in the journal; a missing journal has none. */
static rv_status read_journal(const char *dir, const char (*keys)[17], int recorded[N_POINTS][N_REPS]) {
	char path[320];
	if (find_journal(dir, path) == 0)
		return RV_OK;
	counting c = {keys, recorded};
	return rv_journal_read(path, NULL, count_record, &c, NULL);
}

static int read_tsv(const char *dir, outcome *o) {
	char path[320];
	size_t size;
	snprintf(path, sizeof path, "%s/data/toy.tsv", dir);
	return rv_file_read(path, 1 << 20, &o->tsv, &size) == RV_OK;
}

/* ---- the checker ---- */

static outcome undisturbed;
static long n_boundaries;

#define PROBLEM(...) return snprintf(why, 256, __VA_ARGS__), 0

/* Is everything in `dir` as if nothing had happened? Repetitions `acknowledged` (may be NULL) were run
 * once and no more. 0: no, for the reason given. */
static int is_whole(const char *dir, const int acknowledged[N_POINTS][N_REPS], char why[256]) {
	outcome o = {0};
	char path[320];
	if (read_journal(dir, undisturbed.keys, o.recorded) != RV_OK)
		PROBLEM("journal: %.200s", rv_error_message());
	if (find_journal(dir, path) != 1)
		PROBLEM("not one journal");
	for (int p = 0; p < N_POINTS; p++)
		for (int r = 0; r < N_REPS; r++) {
			if (o.recorded[p][r] != 1)
				PROBLEM("point %d repetition %d: %d times in the journal", p, r,
				        o.recorded[p][r]);
			int runs = toy.runs_of[point_index[p]][r];
			if (acknowledged != NULL && acknowledged[p][r] && runs != 1)
				PROBLEM("point %d repetition %d: run %d times", p, r, runs);
		}
	int ok = read_h5(dir, &o) && read_tsv(dir, &o);
	int same = ok && o.n_bytes == undisturbed.n_bytes &&
	           memcmp(o.points, undisturbed.points, o.n_bytes) == 0;
	int same_tsv = ok && strcmp(o.tsv, undisturbed.tsv) == 0;
	outcome_free(&o);
	if (!ok)
		PROBLEM("the .h5 or .tsv cannot be read");
	if (!same)
		PROBLEM("/points differ");
	if (!same_tsv)
		PROBLEM("the tables differ");
	for (int p = 0; p < N_POINTS; p++)
		for (int r = 0; r < N_REPS; r++)
			if (o.speed[p][r].value != undisturbed.speed[p][r].value ||
			    o.speed[p][r].repetition != undisturbed.speed[p][r].repetition)
				PROBLEM("samples of point %d differ", p);
	return 1;
}

/* ---- killed, and resumed ---- */

static void forget_runs(void) {
	toy = (toy_faults){.fail_setup_of = -1, .fail_run_of = -1, .end_build = -1};
}

static int begin(void **state) {
	(void)state;
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	shim_make();
	small = toy_experiment;
	small.max_n[RV_PROFILE_QUICK] = N_REPS;
	forget_runs();
	char dir[256], why[256];
	make_folder(dir);
	int end = run_with(dir, SHIM_COUNT, 0);
	n_boundaries = the_shim->n;
	printf("undisturbed: exit %d, %ld writes\n", end, n_boundaries);
	int ok = the_shim != MAP_FAILED && end == 0 && read_h5(dir, &undisturbed) &&
	         read_tsv(dir, &undisturbed) && is_whole(dir, NULL, why);
	remove_folder(dir);
	return ok ? 0 : -1;
}

static int finish(void **state) {
	(void)state;
	outcome_free(&undisturbed);
	return 0;
}

static void kill_everywhere(shim_mode mode, const char *how) {
	int n = 0, tried = 0;
	for (long at = 1; at <= n_boundaries; at += STEP, tried++) {
		char dir[256], why[256] = "";
		int acknowledged[N_POINTS][N_REPS] = {0};
		make_folder(dir);
		forget_runs();
		n += run_with(dir, mode, at) == 1000 + SIGKILL;
		assert_int_equal(read_journal(dir, undisturbed.keys, acknowledged), RV_OK);
		int end = run_with(dir, SHIM_COUNT, 0);
		if (end != 0 || !is_whole(dir, acknowledged, why))
			fail_msg("killed at write %ld: exit %d, %s", at, end, why);
		remove_folder(dir);
	}
	printf("killed at %d of %ld writes, %s\n", n, n_boundaries, how);
	assert_int_equal(n, tried);
}

static void killed_before_each_write(void **state) {
	(void)state;
	kill_everywhere(SHIM_KILL, "before each");
}

static void killed_within_each_write(void **state) {
	(void)state;
	kill_everywhere(SHIM_TEAR, "half of it written");
}

/* Killed again while it resumes. */
static void killed_twice(void **state) {
	(void)state;
	for (long at = n_boundaries / 3, again = 1; again < n_boundaries; again += 7) {
		char dir[256], why[256] = "";
		make_folder(dir);
		forget_runs();
		assert_int_equal(run_with(dir, SHIM_TEAR, at), 1000 + SIGKILL);
		int end = run_with(dir, SHIM_TEAR, again);
		assert_true(end == 1000 + SIGKILL || end == 0);
		end = run_with(dir, SHIM_COUNT, 0);
		if (end != 0 || !is_whole(dir, NULL, why))
			fail_msg("killed at %ld, then %ld: exit %d, %s", at, again, end, why);
		remove_folder(dir);
	}
}

/* ---- writes that fail ---- */

static void disk_full_at_each_write(void **state) {
	(void)state;
	int n_reported = 0, tried = 0;
	for (long at = 1; at <= n_boundaries; at += STEP, tried++) {
		char dir[256], why[256] = "";
		int acknowledged[N_POINTS][N_REPS] = {0};
		make_folder(dir);
		forget_runs();
		int end = run_with(dir, SHIM_FULL, at);
		int lines = lines_with(dir, "No space left on device") + lines_with(dir, "HDF5");
		/* after the last write nothing is left to fail */
		if (end == 1 ? lines != 1 : end != 0 || lines != 0) {
			char *text = said(dir);
			fail_msg("full at %ld: exit %d, said '%s'", at, end, text);
		}
		n_reported += end == 1;
		assert_int_equal(read_journal(dir, undisturbed.keys, acknowledged), RV_OK);
		end = run_with(dir, SHIM_COUNT, 0);
		if (end != 0 || !is_whole(dir, acknowledged, why))
			fail_msg("disk full at write %ld: exit %d, %s", at, end, why);
		remove_folder(dir);
	}
	printf("disk full at %d of %d calls: %d reported in one line, all resumed\n", tried, tried,
	       n_reported);
	assert_true(n_reported > tried / 2);
}

static void limit_files(void) {
	const struct rlimit limit = {4096, 4096};
	setrlimit(RLIMIT_FSIZE, &limit);
	arm();
}

static void file_size_limit(void **state) {
	(void)state;
	char dir[256], why[256] = "";
	int acknowledged[N_POINTS][N_REPS] = {0};
	make_folder(dir);
	forget_runs();
	shim_set(SHIM_COUNT, 0);
	assert_int_equal(end_of(start_program(&small, dir, limit_files)), 1);
	assert_int_equal(lines_with(dir, "File too large"), 1);
	assert_int_equal(lines_with(dir, "run again to resume"), 1);
	assert_int_equal(read_journal(dir, undisturbed.keys, acknowledged), RV_OK);
	assert_int_equal(run_with(dir, SHIM_COUNT, 0), 0);
	if (!is_whole(dir, acknowledged, why))
		fail_msg("%s", why);
	remove_folder(dir);
}

/* Half a sweep, then its folder can only be read. */
static void read_only_results(void **state) {
	(void)state;
	char dir[256], why[256] = "";
	int acknowledged[N_POINTS][N_REPS] = {0};
	make_folder(dir);
	forget_runs();
	assert_int_equal(run_with(dir, SHIM_KILL, n_boundaries / 3), 1000 + SIGKILL);
	assert_int_equal(run_with(dir, SHIM_READ_ONLY, 1), 1);
	assert_int_equal(lines_with(dir, ""), 1);
	assert_int_equal(lines_with(dir, "Read-only file system"), 1);
	assert_int_equal(read_journal(dir, undisturbed.keys, acknowledged), RV_OK);
	assert_int_equal(run_with(dir, SHIM_COUNT, 0), 0);
	if (!is_whole(dir, acknowledged, why))
		fail_msg("%s", why);
	remove_folder(dir);
}

/* ---- negative control: the checker sees what it is there for ---- */

static void append_copy_of_first_repetition(const char *path) {
	char *data = NULL;
	size_t size = 0;
	assert_int_equal(rv_file_read(path, 1 << 20, &data, &size), RV_OK);
	for (size_t at = 8, n; at + 8 < size; at += 8 + n) {
		uint32_t length;
		memcpy(&length, data + at, sizeof length);
		n = length;
		if (memmem(data + at + 8, n, "\"repetition\"", 12) == NULL)
			continue;
		FILE *f = fopen(path, "ae");
		assert_non_null(f);
		assert_int_equal(fwrite(data + at, 8 + n, 1, f), 1);
		fclose(f);
		break;
	}
	rv_free(data);
}

static void flip_byte(const char *path, long at) {
	FILE *f = fopen(path, "r+e");
	assert_non_null(f);
	assert_int_equal(fseek(f, at, SEEK_SET), 0);
	int c = fgetc(f);
	assert_int_equal(fseek(f, at, SEEK_SET), 0);
	assert_int_equal(fputc(c ^ 1, f), c ^ 1);
	fclose(f);
}

static void damage_is_caught(void **state) {
	(void)state;
	for (int torn = 0; torn < 2; torn++) {
		char dir[256], path[320], why[256] = "";
		make_folder(dir);
		forget_runs();
		assert_int_equal(run_with(dir, SHIM_COUNT, 0), 0);
		assert_int_equal(find_journal(dir, path), 1);
		struct stat st;
		assert_int_equal(stat(path, &st), 0);
		if (torn)
			flip_byte(path, st.st_size * 3 / 4);
		else
			append_copy_of_first_repetition(path);
		assert_false(is_whole(dir, NULL, why));
		assert_non_null(strstr(why, torn ? "damaged record" : "2 times in the journal"));
		/* the program refuses it too, and leaves it as it is */
		assert_int_equal(stat(path, &st), 0);
		off_t size = st.st_size;
		assert_int_equal(run_with(dir, SHIM_COUNT, 0), 1);
		assert_true(lines_with(dir, torn ? "damaged record" : "was expected") == 1);
		assert_true(stat(path, &st) == 0 && st.st_size == size);
		remove_folder(dir);
	}
	/* and a repetition run twice though it was acknowledged */
	char dir[256], why[256] = "";
	int acknowledged[N_POINTS][N_REPS] = {{1}};
	make_folder(dir);
	forget_runs();
	assert_int_equal(run_with(dir, SHIM_COUNT, 0), 0);
	assert_true(is_whole(dir, acknowledged, why));
	toy.runs_of[0][0]++;
	assert_false(is_whole(dir, acknowledged, why));
	remove_folder(dir);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(killed_before_each_write),
	        cmocka_unit_test(killed_within_each_write),
	        cmocka_unit_test(killed_twice),
	        cmocka_unit_test(disk_full_at_each_write),
	        cmocka_unit_test(file_size_limit),
	        cmocka_unit_test(read_only_results),
	        cmocka_unit_test(damage_is_caught),
	};
	return cmocka_run_group_tests(tests, begin, finish);
}
