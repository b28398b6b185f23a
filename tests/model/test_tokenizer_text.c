/* What happens around merging: special tokens, normalisation, streaming, leading spaces, time. */
#include "base/rng.h"
#include "model/pretokenize.h"
#include "tests/model/tokenizer_samples.h"

#include <time.h>
#include <utf8proc.h>

/* ---- special tokens ---- */

static void test_special_text(void **state) {
	(void)state;
	vocab v = sample_bpe();
	rv_tokenizer *t;
	assert_ok(load_vocab(&t, &v, NULL));
	int32_t he = 256, end = 263, start = 264, im_end = 265, tool = 266, tools = 267;
	const int32_t asked[] = {start, he, im_end, -1};
	assert_ids(t, "<|im_start|>he<|im_end|>", 24, 1, asked);
	/* A user's text is no control token: here it is letters. */
	const int32_t plain[] = {'<', '|', -1};
	assert_ids(t, "<|", 2, 0, plain);
	rv_encode_options o = {.add_bos = 0};
	int32_t *ids;
	size_t n;
	assert_ok(rv_tokenizer_encode(t, "<|im_start|>", 12, &o, &ids, &n));
	assert_int_equal(n, 12);
	rv_free(ids);
	/* User-defined tokens are always found, the longest first. */
	const int32_t user[] = {he, tool, he, tools, -1};
	assert_ids(t, "he<tool>he<tool>s", 17, 0, user);
	assert_ids(t, "he<tool>he<tool>s", 17, 1, user);
	/* Decoding hides control tokens unless asked. */
	const int32_t all[] = {start, he, tool, end};
	char *text;
	size_t len;
	assert_ok(rv_tokenizer_decode(t, all, 4, 0, 0, &text, &len));
	assert_string_equal(text, "he<tool>");
	rv_free(text);
	assert_ok(rv_tokenizer_decode(t, all, 4, 1, 0, &text, &len));
	assert_string_equal(text, "<|im_start|>he<tool><|endoftext|>");
	rv_free(text);
	assert_true(rv_tokenizer_is_end(t, end) && rv_tokenizer_is_end(t, im_end));
	assert_false(rv_tokenizer_is_end(t, start) || rv_tokenizer_is_end(t, -1) ||
	             rv_tokenizer_is_end(t, 1 << 30));
	assert_true(rv_tokenizer_is_special(t, start) && !rv_tokenizer_is_special(t, tool));
	rv_tokenizer_destroy(t);
}

/* "<s" and ">" are tokens whose join is the text of a control token: it may not come about by merging.
 */
static void test_no_control_by_merging(void **state) {
	(void)state;
	vocab v = sample_spm();
	v.add_space_prefix = 0;
	rv_tokenizer *t;
	assert_ok(load_vocab(&t, &v, NULL));
	int32_t s = rv_tokenizer_find(t, "<s", 2), gt = rv_tokenizer_find(t, ">", 1);
	(void)s;
	rv_encode_options o = {.add_bos = 0};
	int32_t *ids;
	size_t n;
	assert_ok(rv_tokenizer_encode(t, "<s>", 3, &o, &ids, &n));
	for (size_t i = 0; i < n; i++)
		assert_false(rv_tokenizer_is_special(t, ids[i]));
	assert_int_equal(ids[n - 1], gt);
	rv_free(ids);
	const int32_t asked[] = {1, -1};
	assert_ids(t, "<s>", 3, 1, asked);
	/* Nor a byte token from its own text. */
	assert_true(round_trips(t, "<0x41>", 6));
	rv_tokenizer_destroy(t);
}

/* Tokens of Qwen2.5 that mean something, with and without being asked. */
static void test_qwen_specials(void **state) {
	(void)state;
	rv_tokenizer *t = open_reference(QWEN_JSON);
	const int32_t chat[] = {151644, 872, 198, 9707, 151645, 198, -1};
	assert_ids(t, "<|im_start|>user\nHello<|im_end|>\n", 33, 1, chat);
	const int32_t call[] = {151657, 151658, -1};
	assert_ids(t, "<tool_call></tool_call>", 23, 0, call);
	assert_true(rv_tokenizer_is_special(t, 151659)); /* <|fim_prefix|> */
	assert_int_equal(rv_tokenizer_eos(t), 151645);   /* of tokenizer_config.json beside it */
	assert_int_equal(rv_tokenizer_bos(t), -1);
	assert_int_equal(rv_tokenizer_n_vocab(t), 151665);
	assert_true(rv_tokenizer_is_end(t, 151643) && rv_tokenizer_is_end(t, 151645));
	rv_tokenizer_destroy(t);
}

/* ---- the start and end of a text ---- */

static void test_bos_and_space(void **state) {
	(void)state;
	vocab v = sample_spm();
	rv_tokenizer *t;
	assert_ok(load_vocab(&t, &v, NULL));
	int32_t hello = rv_tokenizer_find(t, "\xe2\x96\x81hello", 8);
	int32_t *ids;
	size_t n;
	assert_int_equal(rv_tokenizer_bos(t), 1);
	assert_true(rv_tokenizer_add_bos(t) && !rv_tokenizer_add_eos(t));
	assert_ok(rv_tokenizer_encode(t, "hello", 5, NULL, &ids, &n));
	assert_int_equal(n, 2);
	assert_true(ids[0] == 1 && ids[1] == hello);
	rv_free(ids);
	assert_ok(rv_tokenizer_encode(t, "", 0, NULL, &ids, &n));
	assert_int_equal(n, 1);
	rv_free(ids);
	rv_encode_options o = {.add_bos = 0, .add_eos = 1, .parse_special = 1};
	assert_ok(rv_tokenizer_encode(t, "hello</s>hello", 14, &o, &ids, &n));
	assert_int_equal(n, 4);
	assert_true(ids[0] == hello && ids[1] == 2 && ids[2] == hello && ids[3] == 2);
	char *text;
	size_t len;
	assert_ok(rv_tokenizer_decode(t, ids, n, 0, 1, &text, &len));
	assert_string_equal(text, "hello hello");
	rv_free(text);
	assert_ok(rv_tokenizer_decode(t, ids, n, 0, 0, &text, &len));
	assert_string_equal(text, " hello hello");
	rv_free(text);
	rv_free(ids);
	rv_tokenizer_destroy(t);
}

static void test_ids_out_of_range(void **state) {
	(void)state;
	vocab v = sample_bpe();
	rv_tokenizer *t;
	assert_ok(load_vocab(&t, &v, NULL));
	const int32_t bad[] = {-1, 268, INT32_MAX, INT32_MIN};
	for (int i = 0; i < 4; i++) {
		char *text = NULL, buf[64];
		size_t len, n;
		rv_decoder d = {0};
		assert_int_equal(rv_tokenizer_decode(t, bad + i, 1, 0, 0, &text, &len), RV_ERR_INVALID);
		assert_int_equal(rv_decoder_push(&d, t, bad[i], buf, sizeof buf, &n), RV_ERR_INVALID);
		assert_null(text);
		assert_int_equal(rv_tokenizer_entry(t, bad[i]).len, 0);
	}
	rv_tokenizer_destroy(t);
}

/* ---- normalisation ---- */

static char *encoded_and_back(const rv_tokenizer *t, const char *text, size_t len, size_t *n) {
	rv_encode_options o = {.add_bos = 0};
	int32_t *ids;
	size_t n_ids;
	char *back;
	assert_ok(rv_tokenizer_encode(t, text, len, &o, &ids, &n_ids));
	assert_ok(rv_tokenizer_decode(t, ids, n_ids, 0, 0, &back, n));
	rv_free(ids);
	return back;
}

static void test_nfc_known(void **state) {
	(void)state;
	static const char *const pairs[][2] = {
	        {"e\xcc\x81", "\xc3\xa9"},                                /* e + acute */
	        {"caf\xc3\xa9", "caf\xc3\xa9"},                           /* composed already */
	        {"a\xcc\x81\xcc\xa3", "\xe1\xba\xa1\xcc\x81"},            /* marks are ordered first */
	        {"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"}, /* Hangul */
	        {"\xe2\x84\xab", "\xc3\x85"},                 /* singleton: the Angstrom sign */
	        {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"}, /* excluded from composition */
	        {"\xcc\x81x", "\xcc\x81x"},                   /* a mark with nothing before it */
	        {"e\xff\xcc\x81", "e\xff\xcc\x81"}, /* parted by a byte that is no character */
	        {"\xff"
	         "e\xcc\x81\xfe",
	         "\xff\xc3\xa9\xfe"},
	        {"e\xcc", "e\xcc"},                  /* cut off */
	        {"o\xcc\x88\xcc\x84!", "\xc8\xab!"}, /* two marks into one letter */
	};
	rv_tokenizer *t = open_reference(QWEN_JSON);
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		size_t n;
		char *back = encoded_and_back(t, pairs[i][0], strlen(pairs[i][0]), &n);
		assert_int_equal(n, strlen(pairs[i][1]));
		assert_memory_equal(back, pairs[i][1], n);
		rv_free(back);
	}
	rv_tokenizer_destroy(t);
	/* A GGUF vocabulary does not ask for it. */
	t = open_reference(GPT2_GGUF);
	assert_true(round_trips(t, "e\xcc\x81", 3));
	rv_tokenizer_destroy(t);
}

/* Against the library's own normalisation of whole texts. U+11A7 is left out: the library swallows it
 * after a Hangul syllable. */
static void test_nfc_random(void **state) {
	(void)state;
	static const struct {
		int32_t low, n;
	} spans[] = {{'a', 26},       {0xc0, 0x100},  {0x300, 0x70},   {0x900, 0x80},   {0x1100, 0xa7},
	             {0x1e00, 0x200}, {0xac00, 0x50}, {0x300, 0x70},   {0xf900, 0x100}, {0x1d150, 0x20},
	             {0x11a8, 0x1b},  {0x3040, 0x60}, {0x2000, 0x180}, {0x11900, 0x50}, {0x5b0, 0x40}};
	rv_tokenizer *t = open_reference(QWEN_JSON);
	rv_rng rng;
	rv_rng_seed(&rng, 11);
	for (int i = 0; i < 20000; i++) {
		char text[4 * 40];
		size_t len = 0, n, chars = 1 + rv_rng_below(&rng, i % 10 ? 8 : 38);
		for (size_t k = 0; k < chars; k++) {
			size_t s = rv_rng_below(&rng, sizeof spans / sizeof *spans);
			len += rv_utf8_put(spans[s].low +
			                           (int32_t)rv_rng_below(&rng, (uint64_t)spans[s].n),
			                   text + len);
		}
		utf8proc_uint8_t *wanted;
		utf8proc_ssize_t wanted_len =
		        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)len, &wanted,
		                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
		assert_true(wanted_len >= 0);
		char *back = encoded_and_back(t, text, len, &n);
		assert_int_equal(n, wanted_len);
		assert_memory_equal(back, wanted, n);
		rv_free(back);
		free(wanted);
	}
	rv_tokenizer_destroy(t);
}

/* ---- streaming ---- */

static int is_whole_utf8(const char *s, size_t n) {
	int32_t cp;
	for (size_t i = 0, len; i < n; i += len) {
		len = rv_utf8_next(s + i, s + n, &cp);
		if (cp < 0)
			return 0;
	}
	return 1;
}

/* Streams ids; the text in all, and whether every push gave whole characters. */
static size_t stream(const rv_tokenizer *t, const int32_t *ids, size_t n, char *out, int *whole) {
	rv_decoder d = {0};
	size_t at = 0, got, cap = rv_tokenizer_max_bytes(t) + 8;
	*whole = 1;
	for (size_t i = 0; i < n; i++) {
		assert_ok(rv_decoder_push(&d, t, ids[i], out + at, cap, &got));
		*whole &= is_whole_utf8(out + at, got);
		at += got;
	}
	rv_decoder_flush(&d, out + at, cap, &got);
	*whole &= !got;
	assert_int_equal(d.n_pending, 0);
	return at + got;
}

static void check_stream(const rv_tokenizer *t, const int32_t *ids, size_t n, int expect_whole) {
	static char out[1 << 17];
	char *text;
	size_t len;
	int whole;
	assert_ok(rv_tokenizer_decode(t, ids, n, 0, 1, &text, &len));
	assert_int_equal(stream(t, ids, n, out, &whole), len);
	assert_memory_equal(out, text, len);
	assert_true(whole || !expect_whole);
	rv_free(text);
}

static void test_streaming(void **state) {
	(void)state;
	static const char *const files[] = {GPT2_GGUF, LLAMA_GGUF, TINY_GGUF};
	static const char text[] =
	        " \xf0\x9f\x98\x80 na\xc3\xafve \xe4\xb8\xad\xe6\x96\x87 \xf0\x9d\x9f\x98!";
	for (int f = 0; f < 3; f++) {
		rv_tokenizer *t = open_reference(files[f]);
		rv_encode_options o = {.add_bos = 0};
		int32_t *ids, some[200];
		size_t n;
		rv_rng rng;
		rv_rng_seed(&rng, 3);
		assert_ok(rv_tokenizer_encode(t, text, sizeof text - 1, &o, &ids, &n));
		check_stream(t, ids, n, 1);
		for (size_t i = 0; i <= n; i++)
			check_stream(t, ids, i, 0);
		rv_free(ids);
		for (int i = 0; i < 2000; i++) {
			n = rv_rng_below(&rng, 200);
			/* Mostly single bytes: every way to break a character. */
			for (size_t k = 0; k < n; k++)
				some[k] = (int32_t)rv_rng_below(
				        &rng, rv_rng_below(&rng, 4)
				                      ? 259
				                      : (uint64_t)rv_tokenizer_n_vocab(t));
			check_stream(t, some, n, 0);
		}
		rv_tokenizer_destroy(t);
	}
}

static void test_stream_bounds(void **state) {
	(void)state;
	vocab v = sample_spm();
	rv_tokenizer *t;
	assert_ok(load_vocab(&t, &v, NULL));
	rv_decoder d = {0};
	char buf[16];
	size_t n;
	int32_t hello = rv_tokenizer_find(t, "\xe2\x96\x81hello", 8);
	assert_int_equal(rv_decoder_push(&d, t, hello, buf, 2, &n), RV_ERR_INVALID);
	assert_ok(rv_decoder_push(&d, t, hello, buf, 5, &n)); /* the refused push changed nothing */
	assert_memory_equal(buf, "hello", 5);
	rv_decoder next = {.started = 1};
	assert_ok(rv_decoder_push(&next, t, hello, buf, 6, &n));
	assert_memory_equal(buf, " hello", 6);
	rv_tokenizer_destroy(t);
}

/* ---- time: 10 MB of one thing in CPU seconds, on a machine that may be slow and busy ---- */

#define LIMIT_S 60.0

static void check_time(const rv_tokenizer *t, const char *unit, size_t unit_len) {
	const size_t size = 10000000;
	char *text = malloc(size), *back;
	size_t n, back_len;
	int32_t *ids;
	assert_non_null(text);
	for (size_t i = 0; i < size; i++)
		text[i] = unit[i % unit_len];
	rv_encode_options o = {.add_bos = 0, .parse_special = 1};
	clock_t start = clock();
	assert_ok(rv_tokenizer_encode(t, text, size, &o, &ids, &n));
	double s = (double)(clock() - start) / CLOCKS_PER_SEC;
	print_message("10 MB of %02x..: %zu tokens, %.2f s\n", (unsigned)(uint8_t)unit[0], n, s);
	assert_true(s < LIMIT_S);
	assert_ok(rv_tokenizer_decode(t, ids, n, 1, 1, &back, &back_len));
	assert_int_equal(back_len, size);
	assert_memory_equal(back, text, size);
	rv_free(back);
	rv_free(ids);
	free(text);
}

static void test_long_runs(void **state) {
	(void)state;
	rv_tokenizer *t = open_reference(QWEN_JSON);
	check_time(t, "a", 1);
	check_time(t, " ", 1);
	check_time(t, "\n", 1);
	check_time(t, "\xcc\x80", 2);    /* one combining mark */
	check_time(t, "<|im_start", 10); /* nearly a special token */
	rv_tokenizer_destroy(t);
	t = open_reference(LLAMA_GGUF);
	check_time(t, "a", 1);
	check_time(t, "a ", 2);
	check_time(t, " ", 1);
	rv_tokenizer_destroy(t);
}

/* Marks in falling order of class are what a quadratic sort would choke on. */
static void test_marks_in_reverse(void **state) {
	(void)state;
	const size_t half = 2000000;
	char *text = malloc(4 * half);
	assert_non_null(text);
	for (size_t i = 0; i < half; i++) {
		memcpy(text + 2 * i, "\xcc\x81", 2);          /* class 230 */
		memcpy(text + 2 * (half + i), "\xcc\xa3", 2); /* class 220 */
	}
	rv_tokenizer *t = open_reference(QWEN_JSON);
	clock_t start = clock();
	size_t n;
	char *back = encoded_and_back(t, text, 4 * half, &n);
	assert_true((double)(clock() - start) / CLOCKS_PER_SEC < LIMIT_S);
	assert_int_equal(n, 4 * half);
	assert_memory_equal(back, text + 2 * half, 2 * half);
	assert_memory_equal(back + 2 * half, text, 2 * half);
	rv_free(back);
	free(text);
	rv_tokenizer_destroy(t);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_special_text),     cmocka_unit_test(test_no_control_by_merging),
	        cmocka_unit_test(test_qwen_specials),    cmocka_unit_test(test_bos_and_space),
	        cmocka_unit_test(test_ids_out_of_range), cmocka_unit_test(test_nfc_known),
	        cmocka_unit_test(test_nfc_random),       cmocka_unit_test(test_streaming),
	        cmocka_unit_test(test_stream_bounds),    cmocka_unit_test(test_long_runs),
	        cmocka_unit_test(test_marks_in_reverse),
	};
	return cmocka_run_group_tests_name("tokenizer_text", tests, NULL, NULL);
}
