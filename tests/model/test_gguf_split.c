/* Split models: pieces come together as the whole file was, and every wrong set is refused by the name
 * of the file at fault. */
#include "model/model.h"
#include "model/quantize.h"
#include "tests/model/split.h"

#include <sys/stat.h>

static const split_options right = {.n_pieces = 3};

static size_t whole_tensors(const char *whole) {
	rv_gguf *g;
	assert_ok(rv_gguf_open(&g, whole, RV_GGUF_DEFAULT));
	size_t n = rv_gguf_n_tensors(g);
	rv_gguf_close(g);
	return n;
}

/* ---- what is read ---- */

/* Same tensors in the same order, found by name, and the same keys but for split.*. */
static void check_same(const rv_gguf *a, const rv_gguf *b) {
	assert_int_equal(rv_gguf_n_tensors(a), rv_gguf_n_tensors(b));
	for (size_t i = 0; i < rv_gguf_n_tensors(a); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(a, i), *u = rv_gguf_tensor_at(b, i);
		assert_string_equal(t->name, u->name);
		assert_ptr_equal(u, rv_gguf_find_tensor(b, t->name));
		assert_int_equal(t->type, u->type);
		assert_int_equal(t->n_dims, u->n_dims);
		assert_memory_equal(t->dims, u->dims, sizeof t->dims);
		assert_int_equal(t->n_bytes, u->n_bytes);
		assert_memory_equal(t->data, u->data, t->n_bytes);
	}
	for (size_t i = 0; i < rv_gguf_n_kv(a); i++) {
		const rv_gguf_kv *kv = rv_gguf_kv_at(a, i), *w = rv_gguf_kv_at(b, i);
		assert_int_equal(kv->n_bytes, w->n_bytes);
		assert_memory_equal(kv->bytes, w->bytes, kv->n_bytes);
	}
}

static void check_pieces(const rv_gguf *g, const char *name, const split_options *o) {
	size_t bytes = 0;
	assert_int_equal(rv_gguf_n_pieces(g), o->n_pieces);
	for (int i = 0; i < o->n_pieces; i++) {
		char path[1024];
		struct stat sb;
		assert_string_equal(rv_gguf_piece_path(g, (size_t)i),
		                    split_path(path, name, i, o->n_pieces));
		assert_int_equal(stat(path, &sb), 0);
		bytes += (size_t)sb.st_size;
	}
	assert_int_equal(rv_gguf_file_bytes(g), bytes);
	size_t n = rv_gguf_n_tensors(g);
	assert_string_equal(rv_gguf_tensor_path(g, rv_gguf_tensor_at(g, 0)),
	                    rv_gguf_piece_path(g, (size_t)o->empty_first));
	assert_string_equal(rv_gguf_tensor_path(g, rv_gguf_tensor_at(g, n - 1)),
	                    rv_gguf_piece_path(g, (size_t)o->n_pieces - 1));
}

static void pieces_are_one_model(void **state) {
	(void)state;
	char whole[1024], first[1024];
	make_small(temp_path(whole, "whole.gguf"), "Q8_0");
	int n = (int)whole_tensors(whole);
	const split_options cases[] = {{.n_pieces = 1},
	                               {.n_pieces = 2},
	                               {.n_pieces = 3},
	                               {.n_pieces = n},
	                               {.n_pieces = 2, .empty_first = 1},
	                               {.n_pieces = n + 1, .empty_first = 1}};
	rv_gguf *a, *b;
	assert_ok(rv_gguf_open_set(&a, whole));
	assert_int_equal(rv_gguf_n_pieces(a), 1);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		split_options o = cases[i];
		o.bad = -1;
		split_file(first, whole, "cut", &o);
		assert_ok(rv_gguf_open_set(&b, first));
		check_same(a, b);
		if (o.n_pieces > 1)
			check_pieces(b, "cut", &o);
		assert_ok(rv_gguf_check(b));
		rv_gguf_close(b);
		remove_split("cut", o.n_pieces);
	}
	rv_gguf_close(a);
	unlink(whole);
	assert_int_equal(count_files(), 0);
}

/* The sum of a split model depends on every piece. */
static void checksum_covers_all_pieces(void **state) {
	(void)state;
	char whole[1024], first[1024], last[1024], sums[3][65];
	split_options o = right;
	o.bad = -1;
	make_small(temp_path(whole, "whole.gguf"), "Q8_0");
	split_file(first, whole, "cut", &o);
	for (int i = 0; i < 3; i++) {
		rv_model *m;
		if (i == 2) { /* one bit of the last piece's data */
			FILE *f = fopen(split_path(last, "cut", 2, 3), "r+b");
			assert_non_null(f);
			fseek(f, -40, SEEK_END);
			int c = fgetc(f);
			fseek(f, -40, SEEK_END);
			fputc(c ^ 1, f);
			fclose(f);
		}
		assert_ok(rv_model_open(&m, first, NULL));
		assert_ok(rv_model_sha256(m, sums[i]));
		assert_int_equal(strlen(sums[i]), 64);
		rv_model_release(m);
	}
	assert_string_equal(sums[0], sums[1]);
	assert_string_not_equal(sums[0], sums[2]);
	remove_split("cut", 3);
	unlink(whole);
}

static void changed_piece_is_noticed(void **state) {
	(void)state;
	char whole[1024], first[1024], second[1024];
	split_options o = right;
	rv_gguf *g;
	o.bad = -1;
	make_small(temp_path(whole, "whole.gguf"), "Q8_0");
	split_file(first, whole, "cut", &o);
	assert_ok(rv_gguf_open_set(&g, first));
	assert_ok(rv_gguf_check(g));
	FILE *f = fopen(split_path(second, "cut", 1, 3), "ab");
	fputc(0, f);
	fclose(f);
	assert_int_equal(rv_gguf_check(g), RV_ERR_IO);
	assert_non_null(strstr(rv_error_message(), second));
	rv_gguf_close(g);
	remove_split("cut", 3);
	unlink(whole);
}

static rv_quant_options to_type(const char *name) {
	return (rv_quant_options){.target = rv_quant_target_by_name(name)};
}

static void quantizes_to_the_same_file(void **state) {
	(void)state;
	char whole[1024], first[1024], last[1024], a[1024], b[1024];
	split_options o = {.n_pieces = 3, .empty_first = 1, .bad = -1};
	rv_quant_options q = to_type("Q4_K_M");
	make_small(temp_path(whole, "whole.gguf"), "F16");
	split_file(first, whole, "cut", &o);
	assert_ok(rv_quantize_file(whole, temp_path(a, "a.gguf"), &q, NULL));
	assert_ok(rv_quantize_file(first, temp_path(b, "b.gguf"), &q, NULL));
	assert_true(same_bytes(a, b));
	char before[65], after[65];
	assert_ok(rv_file_sha256(split_path(last, "cut", 2, 3), before));
	assert_int_equal(rv_quantize_file(first, last, &q, NULL), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), last));
	assert_ok(rv_file_sha256(last, after));
	assert_string_equal(before, after);
	remove_split("cut", 3);
	unlink(whole);
	unlink(a);
	unlink(b);
}

/* ---- what is refused ---- */

typedef struct fault {
	const char *what;
	split_options options;
	int named; /* the piece the message names */
	rv_status status;
	const char *text; /* in the message too */
} fault;

#define KEY_NO "'split.no' is "
static const fault faults[] = {
        {"control", {.n_pieces = 3, .bad = -1}, 0, RV_OK, ""},
        {"split.no too large", {.n_pieces = 3, .bad = 1, .no = 1}, 1, RV_ERR_MISMATCH, KEY_NO "2"},
        {"split.no twice", {.n_pieces = 3, .bad = 2, .no = -1}, 2, RV_ERR_MISMATCH, KEY_NO "1"},
        {"split.no of the first", {.n_pieces = 3, .bad = 0, .no = 1}, 0, RV_ERR_MISMATCH, "-00002-"},
        {"split.no outside", {.n_pieces = 3, .bad = 0, .no = 3}, 0, RV_ERR_FORMAT, "3 of 3"},
        {"split.count", {.n_pieces = 3, .bad = 1, .count = 1}, 1, RV_ERR_MISMATCH, "is 4, expected 3"},
        {"split.count of the first", {.n_pieces = 3, .count = -1}, 0, RV_ERR_MISMATCH, "of-00002"},
        {"more pieces than there are", {.n_pieces = 3, .count = 1}, 0, RV_ERR_MISMATCH, "of-00004"},
        {"split.tensors.count",
         {.n_pieces = 3, .bad = 2, .n_tensors = 1},
         2,
         RV_ERR_MISMATCH,
         "'split.tensors.count'"},
        {"tensors missing", {.n_pieces = 3, .bad = 1, .drop = 1}, 0, RV_ERR_MISMATCH, "3 pieces hold"},
        {"tensors repeated in place of another",
         {.n_pieces = 3, .bad = 2, .drop = 1, .repeat = 1},
         2,
         RV_ERR_FORMAT,
         "duplicate tensor"},
        {"one tensor more", {.n_pieces = 3, .bad = 2, .repeat = 1}, 2, RV_ERR_MISMATCH, "leaves room"},
        {"no split.no", {.n_pieces = 3, .bad = 1, .without = "split.no"}, 1, RV_ERR_NOT_FOUND, ""},
        {"no split.count in a piece",
         {.n_pieces = 3, .bad = 1, .without = "split.count"},
         1,
         RV_ERR_NOT_FOUND,
         ""},
        {"no split.tensors.count",
         {.n_pieces = 3, .bad = 0, .without = "split.tensors.count"},
         0,
         RV_ERR_NOT_FOUND,
         ""},
        {"another model's key",
         {.n_pieces = 3, .bad = 1, .name = "another"},
         1,
         RV_ERR_MISMATCH,
         "general.name"},
};

static void check_fault(const char *first, const char *named, const fault *f) {
	rv_gguf *untouched = (rv_gguf *)(uintptr_t)&faults, *g = untouched;
	rv_status status = rv_gguf_open_set(&g, first);
	if (status == RV_OK && f->status == RV_OK) {
		rv_gguf_close(g);
		return;
	}
	print_message("# %s: %s\n", f->what, rv_error_message());
	if (status != f->status || !strstr(rv_error_message(), named) ||
	    !strstr(rv_error_message(), f->text))
		fail_msg("%s: status %s", f->what, rv_status_text(status));
	assert_ptr_equal(g, untouched);
}

static void wrong_sets(void **state) {
	(void)state;
	char whole[1024], first[1024], named[1024];
	make_small(temp_path(whole, "whole.gguf"), "Q8_0");
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		const fault *f = &faults[i];
		split_file(first, whole, "bad", &f->options);
		check_fault(first, split_path(named, "bad", f->named, f->options.n_pieces), f);
		remove_split("bad", f->options.n_pieces);
	}
	unlink(whole);
}

static void expect(const char *path, rv_status status, const char *text) {
	rv_model *m;
	rv_status st = rv_model_open(&m, path, NULL);
	if (st != status || !strstr(rv_error_message(), text))
		fail_msg("%s: %s: %s", path, rv_status_text(st), rv_error_message());
	assert_null(m);
}

/* Each piece missing, and each piece but the first given. */
static void missing_and_other_pieces(void **state) {
	(void)state;
	char whole[1024], first[1024], piece[1024], aside[1024];
	split_options o = right;
	o.bad = -1;
	make_small(temp_path(whole, "whole.gguf"), "Q8_0");
	split_file(first, whole, "cut", &o);
	for (int i = 1; i < 3; i++) {
		split_path(piece, "cut", i, 3);
		expect(piece, RV_ERR_INVALID, first);
		assert_int_equal(rename(piece, temp_path(aside, "aside")), 0);
		expect(first, RV_ERR_NOT_FOUND, piece);
		assert_int_equal(mkdir(piece, 0700), 0);
		expect(first, RV_ERR_INVALID, piece);
		assert_int_equal(rmdir(piece), 0);
		assert_int_equal(truncate(aside, 100), 0);
		assert_int_equal(rename(aside, piece), 0);
		expect(first, RV_ERR_FORMAT, piece);
		split_file(first, whole, "cut", &o);
	}
	temp_path(piece, "renamed.gguf");
	assert_int_equal(rename(first, piece), 0);
	expect(piece, RV_ERR_MISMATCH, "-00001-of-00003.gguf");
	unlink(piece);
	remove_split("cut", 3);
	unlink(whole);
}

/* The last piece of a model of another shape, with as many tensors of the same names. */
static void piece_of_another_model(void **state) {
	(void)state;
	char whole[1024], other[1024], first[1024], last[1024], from[1024];
	split_options o = right;
	rv_hparams hp = small_shape();
	o.bad = -1;
	hp.n_ff = 768;
	rv_synth_options s = synth_options("qwen2", hp, "Q8_0");
	make_small(temp_path(whole, "whole.gguf"), "Q8_0");
	assert_ok(rv_synth_file(temp_path(other, "other.gguf"), &s));
	split_file(first, other, "other", &o);
	split_file(first, whole, "cut", &o);
	split_path(last, "cut", 2, 3);
	assert_int_equal(rename(split_path(from, "other", 2, 3), last), 0);
	expect(first, RV_ERR_MISMATCH, last);
	rv_quant_options q = to_type("Q4_K");
	assert_int_equal(rv_quantize_file(first, from, &q, NULL), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), last));
	remove_split("cut", 3);
	remove_split("other", 3);
	unlink(whole);
	unlink(other);
	assert_int_equal(count_files(), 0);
}

/* The architecture of a piece is not read without the others. */
static void piece_alone_is_no_model(void **state) {
	(void)state;
	char whole[1024], first[1024];
	split_options o = right;
	rv_gguf *g;
	const rv_arch *arch;
	rv_hparams hp;
	o.bad = -1;
	make_small(temp_path(whole, "whole.gguf"), "Q8_0");
	split_file(first, whole, "cut", &o);
	assert_ok(rv_gguf_open(&g, first, RV_GGUF_DEFAULT));
	assert_int_equal(rv_arch_read(g, &arch, &hp), RV_ERR_MISMATCH);
	rv_gguf_close(g);
	assert_ok(rv_gguf_open_set(&g, first));
	assert_ok(rv_arch_read(g, &arch, &hp));
	rv_gguf_close(g);
	remove_split("cut", 3);
	unlink(whole);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(pieces_are_one_model),
	        cmocka_unit_test(checksum_covers_all_pieces),
	        cmocka_unit_test(changed_piece_is_noticed),
	        cmocka_unit_test(quantizes_to_the_same_file),
	        cmocka_unit_test(wrong_sets),
	        cmocka_unit_test(missing_and_other_pieces),
	        cmocka_unit_test(piece_of_another_model),
	        cmocka_unit_test(piece_alone_is_no_model),
	};
	return cmocka_run_group_tests_name("split models", tests, make_test_dir, remove_test_dir);
}
