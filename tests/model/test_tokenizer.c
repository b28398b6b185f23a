/* Tokenizers against published vectors, by round trips, and by properties. */
#include "base/rng.h"
#include "model/pretokenize.h"
#include "tests/model/tokenizer_samples.h"

/* ---- reference vocabularies ---- */

typedef struct reference {
	const char *name, *file, *vectors;
} reference;

static const reference references[] = {
        {"qwen2.5", QWEN_JSON, "tokenizers/qwen2.5/vectors"},
        {"gpt-2", GPT2_GGUF, "tokenizers/gpt-2/vectors"},
        {"llama-spm", LLAMA_GGUF, "tokenizers/llama-spm/vectors"},
};
#define N_REFERENCES 3

/* ids as the vectors write them. */
static void format_ids(const int32_t *ids, size_t n, char *out, size_t cap) {
	size_t at = 0;
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(out + at, cap - at, " %d", ids[i]);
	out[at] = '\0';
}

static int decodes_to(const rv_tokenizer *t, const int32_t *ids, size_t n, const char *text,
                      size_t len) {
	char *back;
	size_t back_len;
	assert_ok(rv_tokenizer_decode(t, ids, n, 1, 1, &back, &back_len));
	int same = back_len == len && memcmp(back, text, len) == 0;
	rv_free(back);
	return same;
}

/* Encodes a vector's text; 1 when ids and the decoded text are right. */
static int vector_holds(const rv_tokenizer *t, const char *text, size_t len, const char *wanted) {
	static char line[1 << 16];
	rv_encode_options o = {.add_bos = 0};
	int32_t *ids;
	size_t n;
	assert_ok(rv_tokenizer_encode(t, text, len, &o, &ids, &n));
	format_ids(ids, n, line, sizeof line);
	while (*wanted == ' ')
		wanted++;
	const char *got = *line ? line + 1 : line;
	int ok = strcmp(got, wanted) == 0;
	if (!ok)
		print_message("text '%.*s'\n  wanted %s\n  got    %s\n", (int)len, text, wanted, got);
	ok &= decodes_to(t, ids, n, text, len);
	rv_free(ids);
	return ok;
}

static int run_vectors(const rv_tokenizer *t, const char *base, int *total) {
	static const char separator[] = "\n__ggml_vocab_test__\n";
	char name[256];
	size_t n_in, n_out;
	snprintf(name, sizeof name, "%s.inp", base);
	char *in = reference_bytes(name, &n_in);
	snprintf(name, sizeof name, "%s.out", base);
	char *out = reference_bytes(name, &n_out);
	assert_true(in && out);
	int ok = 0;
	char *text = in, *line = out;
	*total = 0;
	for (char *next; (next = strstr(text, separator)); text = next + sizeof separator - 1) {
		char *newline = strchr(line, '\n');
		assert_non_null(newline);
		*newline = '\0';
		ok += vector_holds(t, text, (size_t)(next - text), line);
		line = newline + 1;
		++*total;
	}
	free(in);
	free(out);
	return ok;
}

static void test_vectors(void **state) {
	(void)state;
	for (int i = 0; i < N_REFERENCES; i++) {
		int total;
		rv_tokenizer *t = open_reference(references[i].file);
		int ok = run_vectors(t, references[i].vectors, &total);
		print_message("%s: %d of %d\n", references[i].name, ok, total);
		assert_int_equal(total, 46);
		assert_int_equal(ok, 46);
		rv_tokenizer_destroy(t);
	}
}

/* Negative control: the vectors of one vocabulary fail with another. */
static void test_vectors_can_fail(void **state) {
	(void)state;
	rv_encode_options o = {.add_bos = 0};
	rv_tokenizer *t = open_reference(references[1].file);
	int32_t *ids;
	size_t n;
	char line[64];
	assert_ok(rv_tokenizer_encode(t, "Hello", 5, &o, &ids, &n));
	format_ids(ids, n, line, sizeof line);
	assert_string_equal(line, " 15496");
	assert_false(decodes_to(t, ids, n, "hello", 5));
	rv_free(ids);
	rv_tokenizer_destroy(t);
}

/* ---- merging, against the plainest program that does it ---- */

/* One row of symbols as byte spans of a text; rank_of says which neighbours join first. */
typedef struct span_row {
	const char *text;
	size_t start[4096], n; /* start[n] ends the last */
} span_row;

/* Position in an order of preference, smaller first; INT64_MAX: never. */
typedef int64_t rank_fn(const void *user, const char *p, size_t left, size_t right);

static void merge_plainly(span_row *row, rank_fn *rank_of, const void *user) {
	for (;;) {
		int64_t best = INT64_MAX;
		size_t at = 0;
		for (size_t i = 0; i + 2 <= row->n; i++) {
			const size_t *s = row->start + i;
			int64_t rank = rank_of(user, row->text + s[0], s[1] - s[0], s[2] - s[1]);
			if (rank < best) {
				best = rank;
				at = i;
			}
		}
		if (best == INT64_MAX)
			return;
		memmove(row->start + at + 1, row->start + at + 2,
		        (row->n - at - 1) * sizeof *row->start);
		row->n--;
	}
}

typedef struct merge_list {
	rv_str *lines;
	size_t n;
} merge_list;

static int64_t merge_rank(const void *user, const char *p, size_t left, size_t right) {
	const merge_list *m = user;
	for (size_t i = 0; i < m->n; i++) {
		rv_str s = m->lines[i];
		if (s.len == left + 1 + right && s.data[left] == ' ' && memcmp(s.data, p, left) == 0 &&
		    memcmp(s.data + left + 1, p + left, right) == 0)
			return (int64_t)i;
	}
	return INT64_MAX;
}

/* Appends the ids of one piece of bytes, merged plainly. */
static void piece_plainly(const rv_tokenizer *t, const merge_list *m, const char *p, size_t len,
                          int32_t *ids, size_t *n) {
	static char letters[8192];
	static span_row row;
	size_t at = 0;
	row.text = letters;
	row.n = len;
	for (size_t i = 0; i < len; i++) {
		row.start[i] = at;
		at += byte_letter((uint8_t)p[i], letters + at);
	}
	row.start[len] = at;
	merge_plainly(&row, merge_rank, m);
	for (size_t i = 0; i < row.n; i++) {
		ids[*n] = rv_tokenizer_find(t, letters + row.start[i], row.start[i + 1] - row.start[i]);
		assert_true(ids[(*n)++] >= 0);
	}
}

static size_t encode_plainly(const rv_tokenizer *t, const merge_list *m, const char *text, size_t len,
                             int32_t *ids) {
	size_t n = 0, piece;
	for (size_t at = 0; at < len; at += piece) {
		piece = rv_pretok_scanner(RV_PRETOK_QWEN2)(text + at, text + len);
		piece_plainly(t, m, text + at, piece, ids, &n);
	}
	return n;
}

/* Words of few letters, some very long, so that short rows and the heap are both used. */
static size_t random_words(rv_rng *rng, char *out, size_t cap) {
	static const char letters[] = "eeeetttaaoin shrdlu  \n\xc3\xa9.,'$0127";
	size_t len = 1 + rv_rng_below(rng, cap), kinds = 1 + rv_rng_below(rng, sizeof letters - 1);
	for (size_t i = 0; i < len; i++)
		out[i] = letters[rv_rng_below(rng, kinds)];
	return len;
}

static void test_merges_plainly(void **state) {
	(void)state;
	rv_gguf *gguf;
	char path[1024], text[400];
	int32_t wanted[400];
	merge_list m;
	if (!reference_path(path, TINY_GGUF))
		skip();
	rv_tokenizer *t = open_reference(TINY_GGUF);
	assert_ok(rv_gguf_open(&gguf, path, RV_GGUF_DEFAULT));
	assert_ok(rv_gguf_strings(gguf, "tokenizer.ggml.merges", &m.lines, &m.n));
	rv_rng rng;
	rv_rng_seed(&rng, 5);
	for (int i = 0; i < 300; i++) {
		rv_encode_options o = {.add_bos = 0};
		int32_t *ids;
		size_t n, len = random_words(&rng, text, i % 8 ? 60 : sizeof text);
		assert_ok(rv_tokenizer_encode(t, text, len, &o, &ids, &n));
		assert_int_equal(n, encode_plainly(t, &m, text, len, wanted));
		assert_memory_equal(ids, wanted, n * sizeof *ids);
		rv_free(ids);
	}
	rv_free(m.lines);
	rv_gguf_close(gguf);
	rv_tokenizer_destroy(t);
}

/* ---- SentencePiece, likewise ---- */

typedef struct scored_vocab {
	const rv_tokenizer *t;
	float *scores;
} scored_vocab;

static int64_t score_rank(const void *user, const char *p, size_t left, size_t right) {
	const scored_vocab *v = user;
	int32_t id = rv_tokenizer_find(v->t, p, left + right);
	return id < 0 ? INT64_MAX : -(int64_t)v->scores[id]; /* scores of this vocabulary are whole */
}

static size_t escape(const char *text, size_t len, char *out) {
	size_t n = 3;
	memcpy(out, "\xe2\x96\x81", 3);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == ' ') {
			memcpy(out + n, "\xe2\x96\x81", 3);
			n += 3;
		} else {
			out[n++] = text[i];
		}
	}
	return n;
}

static size_t spm_plainly(const scored_vocab *v, const char *text, size_t len, int32_t *ids) {
	static char escaped[4096];
	static span_row row;
	size_t total = escape(text, len, escaped), n = 0;
	row.text = escaped;
	row.n = 0;
	for (size_t at = 0; at < total;) {
		int32_t cp;
		row.start[row.n++] = at;
		at += rv_utf8_next(escaped + at, escaped + total, &cp);
	}
	row.start[row.n] = total;
	merge_plainly(&row, score_rank, v);
	for (size_t i = 0; i < row.n; i++) {
		const char *p = escaped + row.start[i];
		size_t bytes = row.start[i + 1] - row.start[i];
		int32_t id = rv_tokenizer_find(v->t, p, bytes);
		if (id >= 0) {
			ids[n++] = id;
			continue;
		}
		for (size_t k = 0; k < bytes; k++)
			ids[n++] = 3 + (uint8_t)p[k]; /* <0x00> is token 3 */
	}
	return n;
}

static void test_scores_plainly(void **state) {
	(void)state;
	rv_gguf *gguf;
	char path[1024], text[400];
	int32_t wanted[4096];
	size_t n_scores;
	scored_vocab v;
	if (!reference_path(path, LLAMA_GGUF))
		skip();
	rv_tokenizer *t = open_reference(LLAMA_GGUF);
	v.t = t;
	assert_ok(rv_gguf_open(&gguf, path, RV_GGUF_VOCAB_ONLY_OK));
	assert_ok(rv_gguf_floats(gguf, "tokenizer.ggml.scores", &v.scores, &n_scores));
	rv_rng rng;
	rv_rng_seed(&rng, 6);
	for (int i = 0; i < 300; i++) {
		rv_encode_options o = {.add_bos = 0};
		int32_t *ids;
		size_t n, len = random_words(&rng, text, i % 8 ? 60 : sizeof text);
		assert_ok(rv_tokenizer_encode(t, text, len, &o, &ids, &n));
		assert_int_equal(n, spm_plainly(&v, text, len, wanted));
		assert_memory_equal(ids, wanted, n * sizeof *ids);
		rv_free(ids);
	}
	rv_free(v.scores);
	rv_gguf_close(gguf);
	rv_tokenizer_destroy(t);
}

/* ---- round trips ---- */

/* Bytes that cannot make a character which normalisation changes. */
static char inert_byte(rv_rng *rng) {
	uint64_t b = rv_rng_below(rng, 256);
	return (char)(b >= 0xcc && b < 0xf5 ? b - 0x80 : b);
}

static void test_random_bytes(void **state) {
	(void)state;
	static const char *const files[] = {GPT2_GGUF, TINY_GGUF, LLAMA_GGUF, QWEN_JSON};
	char text[300];
	for (int f = 0; f < 4; f++) {
		rv_tokenizer *t = open_reference(files[f]);
		rv_rng rng;
		rv_rng_seed(&rng, 7);
		for (int i = 0; i < 4000; i++) {
			size_t len = rv_rng_below(&rng, sizeof text);
			for (size_t k = 0; k < len; k++)
				text[k] = f == 3 ? inert_byte(&rng) : (char)rv_rng_u64(&rng);
			assert_true(round_trips(t, text, len));
		}
		rv_tokenizer_destroy(t);
	}
}

static void test_every_byte(void **state) {
	(void)state;
	vocab bpe = sample_bpe(), spm = sample_spm();
	rv_tokenizer *t[2];
	assert_ok(load_vocab(&t[0], &bpe, NULL));
	assert_ok(load_vocab(&t[1], &spm, NULL));
	char all[256];
	for (int b = 0; b < 256; b++)
		all[b] = (char)b;
	for (int i = 0; i < 2; i++) {
		assert_true(round_trips(t[i], all, 256));
		assert_true(round_trips(t[i], "", 0));
		assert_true(round_trips(t[i], "  a  b \xff hello", 15));
		rv_tokenizer_destroy(t[i]);
	}
}

/* ---- writing and reading again ---- */

static void same_encoding(const rv_tokenizer *a, const rv_tokenizer *b, const char *text, size_t len) {
	rv_encode_options o = {.add_bos = -1, .add_eos = -1, .parse_special = 1};
	int32_t *ia, *ib;
	size_t na, nb;
	assert_ok(rv_tokenizer_encode(a, text, len, &o, &ia, &na));
	assert_ok(rv_tokenizer_encode(b, text, len, &o, &ib, &nb));
	assert_int_equal(na, nb);
	assert_memory_equal(ia, ib, na * sizeof *ia);
	rv_free(ia);
	rv_free(ib);
}

static void same_vocabulary(const rv_tokenizer *a, const rv_tokenizer *b) {
	assert_int_equal(rv_tokenizer_n_vocab(a), rv_tokenizer_n_vocab(b));
	assert_int_equal(rv_tokenizer_get_kind(a), rv_tokenizer_get_kind(b));
	assert_string_equal(rv_tokenizer_pre(a), rv_tokenizer_pre(b));
	assert_int_equal(rv_tokenizer_bos(a), rv_tokenizer_bos(b));
	assert_int_equal(rv_tokenizer_eos(a), rv_tokenizer_eos(b));
	assert_int_equal(rv_tokenizer_add_bos(a), rv_tokenizer_add_bos(b));
	for (int32_t id = 0; id < rv_tokenizer_n_vocab(a); id++) {
		rv_str x = rv_tokenizer_entry(a, id), y = rv_tokenizer_entry(b, id);
		assert_int_equal(x.len, y.len);
		assert_memory_equal(x.data, y.data, x.len);
		assert_int_equal(rv_tokenizer_is_special(a, id), rv_tokenizer_is_special(b, id));
		assert_int_equal(rv_tokenizer_is_end(a, id), rv_tokenizer_is_end(b, id));
	}
}

static void test_written_file(void **state) {
	(void)state;
	static const char *const files[] = {QWEN_JSON, GPT2_GGUF, LLAMA_GGUF};
	static const char text[] =
	        "Hello <|im_start|>world</s> it's 1234 \n\n  caf\xc3\xa9 <tool_call>\xe4\xb8\xad";
	const char *tmp = getenv("TMPDIR");
	for (int f = 0; f < 3; f++) {
		char path[256];
		rv_gguf_writer *w;
		rv_tokenizer *a = open_reference(files[f]), *b;
		snprintf(path, sizeof path, "%s/rv-tokenizer-XXXXXX", tmp ? tmp : "/tmp");
		int fd = mkstemp(path);
		assert_true(fd >= 0);
		close(fd);
		assert_ok(rv_gguf_writer_open(&w, path));
		assert_ok(rv_gguf_write_string(w, "general.architecture", "llama"));
		assert_ok(rv_tokenizer_write_gguf(a, w));
		assert_ok(rv_gguf_writer_commit(w));
		assert_ok(rv_tokenizer_open(&b, path, NULL));
		same_vocabulary(a, b);
		same_encoding(a, b, text, sizeof text - 1);
		unlink(path);
		rv_tokenizer_destroy(a);
		rv_tokenizer_destroy(b);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_vectors),        cmocka_unit_test(test_vectors_can_fail),
	        cmocka_unit_test(test_merges_plainly), cmocka_unit_test(test_scores_plainly),
	        cmocka_unit_test(test_random_bytes),   cmocka_unit_test(test_every_byte),
	        cmocka_unit_test(test_written_file),
	};
	return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
