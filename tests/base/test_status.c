/* Status codes, the per-thread message, escaping, logs. */
#include "base_test.h"

#include "base/log.h"
#include "base/text.h"

#include <locale.h>
#include <pthread.h>

/* One line that cannot drive a terminal. */
static int is_clean(const char *s) {
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return 0;
	return 1;
}

static int is_utf8(const char *s) {
	for (int more = 0; *s || more; s++) {
		unsigned char c = (unsigned char)*s;
		if (more) {
			if ((c & 0xC0) != 0x80)
				return 0;
			more--;
		} else {
			more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : c >= 0xC0 ? 1 : 0;
		}
	}
	return 1;
}

static void every_status_has_a_text(void **state) {
	(void)state;
	for (int i = 0; i < RV_STATUS_COUNT; i++) {
		assert_non_null(rv_status_text((rv_status)i));
		for (int j = 0; j < i; j++)
			assert_string_not_equal(rv_status_text((rv_status)i),
			                        rv_status_text((rv_status)j));
	}
	assert_string_equal(rv_status_text((rv_status)-1), "unknown status");
	assert_string_equal(rv_status_text(RV_STATUS_COUNT), "unknown status");
}

static void message_is_stored(void **state) {
	(void)state;
	errno = 7;
	assert_int_equal(rv_fail(RV_ERR_FORMAT, "%s: key '%s' at byte %d", "f.gguf", "a.b", 12),
	                 RV_ERR_FORMAT);
	assert_int_equal(errno, 7);
	assert_string_equal(rv_error_message(), "f.gguf: key 'a.b' at byte 12");
	assert_int_equal(rv_fail_in(RV_ERR_IO, "outer"), RV_ERR_IO);
	assert_string_equal(rv_error_message(), "outer: f.gguf: key 'a.b' at byte 12");
	errno = ENOENT;
	rv_fail_errno(RV_ERR_IO, "open %s", "x");
	assert_string_equal(rv_error_message(), "open x: No such file or directory");
	rv_fail(RV_ERR_IO, "again: %s",
	        rv_error_message()); /* an argument that is the message itself */
	assert_string_equal(rv_error_message(), "again: open x: No such file or directory");
}

static void control_characters_are_escaped(void **state) {
	(void)state;
	rv_fail(RV_ERR_FORMAT, "name '%s'", "a\nb\t\x1b[31mred\x7f\x01");
	assert_string_equal(rv_error_message(), "name 'a\\nb\\t\\x1b[31mred\\x7f\\x01'");
	assert_true(is_clean(rv_error_message()));
	rv_fail_in(RV_ERR_FORMAT, "pre\nfix");
	assert_true(is_clean(rv_error_message()));
	/* Negative control: the check sees what was not escaped. */
	assert_false(is_clean("name 'a\nb'"));
	assert_false(is_clean("\x1b[31m"));
}

static void long_messages_end_whole(void **state) {
	(void)state;
	char text[3 * RV_ERROR_MESSAGE_MAX];
	for (size_t offset = 0; offset < 5; offset++) {
		memset(text, 'a', offset);
		for (size_t i = offset; i + 3 < sizeof text; i += 3)
			memcpy(text + i, "\xe2\x82\xac", 4);
		rv_fail(RV_ERR_FORMAT, "%s", text);
		const char *m = rv_error_message();
		size_t n = strlen(m);
		assert_true(n < RV_ERROR_MESSAGE_MAX && n > RV_ERROR_MESSAGE_MAX - 10);
		assert_string_equal(m + n - 3, "...");
		assert_true(is_utf8(m));
	}
	memset(text, '\x01', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	rv_fail(RV_ERR_FORMAT, "%s", text);
	assert_true(is_clean(rv_error_message()));
	assert_false(is_utf8("ab\xe2\x82"
	                     "..."));
}

static void escape_fits_any_room(void **state) {
	(void)state;
	char out[64];
	for (size_t cap = 8; cap < 40; cap++) {
		memset(out, 'X', sizeof out);
		size_t n = rv_text_escape(out, cap, "plain \n text, longer than it can be");
		assert_true(n < cap);
		assert_int_equal(strlen(out), n);
		assert_int_equal(out[cap], 'X');
	}
	assert_int_equal(rv_text_escape(out, 8, "exactly"), 7);
	assert_string_equal(out, "exactly");
	rv_text_escape(out, 8, "exactly8");
	assert_string_equal(out, "exac...");
}

static void *other_thread(void *arg) {
	(void)arg;
	assert_string_equal(rv_error_message(), "");
	rv_fail(RV_ERR_LIMIT, "theirs");
	return NULL;
}

static void each_thread_has_its_own(void **state) {
	(void)state;
	pthread_t t;
	rv_fail(RV_ERR_IO, "mine");
	assert_int_equal(pthread_create(&t, NULL, other_thread, NULL), 0);
	pthread_join(t, NULL);
	assert_string_equal(rv_error_message(), "mine");
}

static void doubles_are_shortest(void **state) {
	(void)state;
	static const struct {
		double value;
		const char *text;
	} rows[] = {{0.1, "0.1"}, {10, "10"},      {-1e6, "-1000000"}, {1e300, "1e+300"},
	            {1, "1"},     {1e-5, "1e-05"}, {0.85, "0.85"},     {1.0 / 3, "0.3333333333333333"}};
	char out[32];
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		rv_text_double(out, rows[i].value);
		assert_string_equal(out, rows[i].text);
		assert_true(rv_text_strtod(out, NULL) == rows[i].value);
	}
}

typedef struct seen {
	int calls;
	rv_log_level level;
	char line[4096];
} seen;

static void keep_line(void *user, rv_log_level level, const char *line) {
	seen *s = user;
	s->calls++;
	s->level = level;
	snprintf(s->line, sizeof s->line, "%s", line);
}

static void log_reaches_its_sink(void **state) {
	(void)state;
	seen s = {0};
	rv_log log = {keep_line, &s}, none = {0};
	rv_fail(RV_ERR_IO, "kept");
	rv_logf(&log, RV_LOG_WARN, "%d of %s", 3, "a\nb");
	assert_string_equal(s.line, "3 of a\\nb");
	assert_int_equal(s.level, RV_LOG_WARN);
	rv_logf(&none, RV_LOG_WARN, "nowhere");
	rv_logf(NULL, RV_LOG_WARN, "nowhere");
	assert_int_equal(s.calls, 1);
	assert_string_equal(rv_error_message(), "kept");
	char big[5000];
	memset(big, 'z', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	rv_logf(&log, RV_LOG_INFO, "%s", big);
	assert_true(strlen(s.line) < sizeof big && strlen(s.line) > 1000);
}

/* What rv_log_stderr writes for one call. */
static void stderr_of(void *user, rv_log_level level, char out[256]) {
	int ends[2], saved = dup(2);
	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], 2);
	rv_log_stderr(user, level, "line");
	dup2(saved, 2);
	close(saved);
	close(ends[1]);
	ssize_t n = read(ends[0], out, 255);
	out[n > 0 ? n : 0] = '\0';
	close(ends[0]);
}

static void stderr_sink_filters(void **state) {
	(void)state;
	char out[256];
	int verbose = 1;
	stderr_of(NULL, RV_LOG_WARN, out);
	assert_string_equal(out, "ruvltra: line\n");
	stderr_of(NULL, RV_LOG_INFO, out);
	assert_string_equal(out, "");
	stderr_of(&verbose, RV_LOG_INFO, out);
	assert_string_equal(out, "ruvltra: line\n");
	stderr_of(&verbose, RV_LOG_DEBUG, out);
	assert_string_equal(out, "");
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_status_has_a_text),
	        cmocka_unit_test(message_is_stored),
	        cmocka_unit_test(control_characters_are_escaped),
	        cmocka_unit_test(long_messages_end_whole),
	        cmocka_unit_test(escape_fits_any_room),
	        cmocka_unit_test(each_thread_has_its_own),
	        cmocka_unit_test(doubles_are_shortest),
	        cmocka_unit_test(log_reaches_its_sink),
	        cmocka_unit_test(stderr_sink_filters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
