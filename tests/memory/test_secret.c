/* Keys and sealed text. */
#include "base/file.h"
#include "base/mem.h"
#include "memory/store.h"
#include "tests/memory/folder.h"

#include <sqlite3.h>
#include <sys/stat.h>

static char dir[256], key_path[300], other_path[300];

static int begin(void **state) {
	(void)state;
	folder_make(dir);
	snprintf(key_path, sizeof key_path, "%s/key", dir);
	snprintf(other_path, sizeof other_path, "%s/other", dir);
	return rv_secret_create_key(key_path) == RV_OK && rv_secret_create_key(other_path) == RV_OK
	               ? 0
	               : -1;
}

static int finish(void **state) {
	(void)state;
	folder_remove(dir);
	return 0;
}

static void key_files(void **state) {
	(void)state;
	rv_secret *a, *b;
	char path[320];
	struct stat st;
	assert_int_equal(stat(key_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(rv_secret_create_key(key_path), RV_ERR_INVALID); /* never replaced */
	assert_ok(rv_secret_open(&a, key_path));
	assert_ok(rv_secret_open(&b, other_path));
	assert_string_not_equal(rv_secret_id(a), rv_secret_id(b));
	rv_secret_close(a);
	rv_secret_close(b);
	a = NULL;
	snprintf(path, sizeof path, "%s/none", dir);
	assert_int_equal(rv_secret_open(&a, path), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_secret_open(&a, dir), RV_ERR_INVALID);
	assert_int_equal(symlink(key_path, path), 0);
	assert_int_equal(rv_secret_open(&a, path), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "a link"));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(rv_secret_open(&a, path), RV_ERR_INVALID); /* not read, not waited for */
	unlink(path);
	static const mode_t open_to_others[] = {0640, 0604, 0620, 0601};
	for (int i = 0; i < 4; i++) {
		assert_int_equal(chmod(key_path, open_to_others[i]), 0);
		assert_int_equal(rv_secret_open(&a, key_path), RV_ERR_INVALID);
		assert_non_null(strstr(rv_error_message(), "expected 0600"));
	}
	assert_int_equal(chmod(key_path, 0600), 0);
	char *text;
	size_t size;
	assert_ok(rv_file_read(key_path, 1000, &text, &size));
	for (size_t cut = 0; cut + 1 < size; cut++) { /* without its line feed it is whole */
		assert_ok(rv_file_write(path, text, cut));
		chmod(path, 0600);
		assert_int_equal(rv_secret_open(&a, path), RV_ERR_FORMAT);
		assert_non_null(strstr(rv_error_message(), "no key file"));
	}
	char longer[200];
	int n = snprintf(longer, sizeof longer, "%s0", text);
	assert_ok(rv_file_write(path, longer, (size_t)n));
	chmod(path, 0600);
	assert_int_equal(rv_secret_open(&a, path), RV_ERR_FORMAT);
	text[20] = 'g';
	assert_ok(rv_file_write(path, text, size));
	chmod(path, 0600);
	assert_int_equal(rv_secret_open(&a, path), RV_ERR_FORMAT);
	assert_null(a);
	unlink(path);
	rv_free(text);
}

static void sealed_text(void **state) {
	(void)state;
	static const char text[] = "what the user said";
	enum { N = sizeof text };
	rv_secret *a, *b;
	uint8_t sealed[N + RV_SECRET_OVERHEAD], again[sizeof sealed];
	char out[N];
	assert_ok(rv_secret_open(&a, key_path));
	assert_ok(rv_secret_open(&b, other_path));
	rv_secret_seal(a, "witness/1", text, N, sealed);
	rv_secret_seal(a, "witness/1", text, N, again);
	assert_memory_not_equal(sealed, again, sizeof sealed); /* a nonce of its own */
	assert_null(memmem(sealed, sizeof sealed, "user", 4));
	assert_ok(rv_secret_unseal(a, "witness/1", sealed, sizeof sealed, out));
	assert_memory_equal(out, text, N);
	assert_int_equal(rv_secret_unseal(a, "witness/2", sealed, sizeof sealed, out), RV_ERR_FORMAT);
	assert_int_equal(rv_secret_unseal(b, "witness/1", sealed, sizeof sealed, out), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), rv_secret_id(a)));
	assert_non_null(strstr(rv_error_message(), other_path));
	for (size_t bit = 0; bit < 8 * sizeof sealed; bit++) {
		sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(rv_secret_unseal(a, "witness/1", sealed, sizeof sealed, out),
		                     RV_OK);
		sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t size = 0; size < sizeof sealed; size++)
		assert_int_not_equal(rv_secret_unseal(a, "witness/1", sealed, size, out), RV_OK);
	rv_secret_seal(a, "empty", "", 0, sealed);
	assert_ok(rv_secret_unseal(a, "empty", sealed, RV_SECRET_OVERHEAD, out));
	rv_secret_close(a);
	rv_secret_close(b);
}

typedef struct blob {
	uint8_t *data;
	size_t size;
} blob;

static rv_status seal(rv_store *store, const char *user, blob *b) {
	return rv_store_seal(store, user, "sessions", "s-1", "private words", 13, &b->data, &b->size);
}

static void store_with_a_key(void **state) {
	(void)state;
	char path[320], *text;
	size_t len;
	blob b;
	rv_store *store;
	rv_store_options o = rv_store_defaults();
	snprintf(path, sizeof path, "%s/store", dir);
	/* no key: text of nobody is plain, that of a user refused unless asked for */
	assert_ok(rv_store_open(&store, path, &o));
	assert_int_equal(seal(store, "ada", &b), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "needs a key file"));
	assert_ok(seal(store, NULL, &b));
	assert_non_null(memmem(b.data, b.size, "private", 7));
	assert_ok(rv_store_unseal(store, "sessions", "s-1", b.data, b.size, &text, &len));
	assert_string_equal(text, "private words");
	rv_free(text);
	rv_free(b.data);
	assert_ok(rv_store_close(store));
	o.plaintext = 1;
	assert_ok(rv_store_open(&store, path, &o));
	assert_ok(seal(store, "ada", &b));
	rv_free(b.data);
	assert_ok(rv_store_close(store));
	/* with one */
	o.plaintext = 0;
	o.key_file = key_path;
	assert_ok(rv_store_open(&store, path, &o));
	assert_ok(seal(store, "ada", &b));
	assert_null(memmem(b.data, b.size, "private", 7));
	assert_ok(rv_store_close(store));
	/* another key is refused at open, by name */
	o.key_file = other_path;
	store = NULL;
	assert_int_equal(rv_store_open(&store, path, &o), RV_ERR_MISMATCH);
	assert_null(store);
	assert_non_null(strstr(rv_error_message(), other_path));
	assert_non_null(strstr(rv_error_message(), "memory.db"));
	/* none: the store opens, its sealed text does not */
	o.key_file = NULL;
	assert_ok(rv_store_open(&store, path, &o));
	assert_int_equal(rv_store_unseal(store, "sessions", "s-1", b.data, b.size, &text, &len),
	                 RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "a key file is needed"));
	assert_ok(rv_store_close(store));
	o.key_file = key_path;
	assert_ok(rv_store_open(&store, path, &o));
	assert_ok(rv_store_unseal(store, "sessions", "s-1", b.data, b.size, &text, &len));
	assert_true(len == 13 && strcmp(text, "private words") == 0);
	rv_free(text);
	assert_int_equal(rv_store_unseal(store, "sessions", "s-2", b.data, b.size, &text, &len),
	                 RV_ERR_FORMAT);
	assert_int_equal(rv_store_unseal(store, "witness", "s-1", b.data, b.size, &text, &len),
	                 RV_ERR_FORMAT);
	assert_int_equal(rv_store_unseal(store, "sessions", "s-1", b.data, 0, &text, &len),
	                 RV_ERR_FORMAT);
	b.data[0] = 7;
	assert_int_equal(rv_store_unseal(store, "sessions", "s-1", b.data, b.size, &text, &len),
	                 RV_ERR_FORMAT);
	rv_free(b.data);
	assert_ok(rv_store_close(store));
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(key_files),
	        cmocka_unit_test(sealed_text),
	        cmocka_unit_test(store_with_a_key),
	};
	return cmocka_run_group_tests(tests, begin, finish);
}
