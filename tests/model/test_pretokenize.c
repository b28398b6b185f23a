/* The scanners against the published regular expressions, run by PCRE2: every code point's class, then
 * random strings that favour what the patterns treat specially. */
#include "base/rng.h"
#include "base/sysinfo.h"
#include "model/pretokenize.h"
#include "tests/support/test.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRINGS 120000
#define MAX_CHARS 24
#define MAX_PIECES (4 * MAX_CHARS + 1)

/* \s of the engines that published the patterns is White_Space; PCRE2 adds this one. */
#define MONGOLIAN_VOWEL_SEPARATOR 0x180e

/* Cut points of a text: piece i ends at end[i]. */
typedef struct cuts {
	size_t end[MAX_PIECES], n;
} cuts;

/* ---- PCRE2 ---- */

typedef struct regex {
	pcre2_code *code;
	pcre2_match_data *match;
} regex;

static regex compile(const char *pattern) {
	int error;
	PCRE2_SIZE at;
	regex r;
	r.code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
	                       &error, &at, NULL);
	assert_non_null(r.code);
	assert_int_equal(pcre2_jit_compile(r.code, PCRE2_JIT_COMPLETE), 0);
	r.match = pcre2_match_data_create_from_pattern(r.code, NULL);
	assert_non_null(r.match);
	return r;
}

static void release(regex *r) {
	pcre2_match_data_free(r->match);
	pcre2_code_free(r->code);
}

/* Adds the matches of r in text[0 .. len), and what lies between them, as pieces. */
static void split(const regex *r, const char *text, size_t base, size_t len, cuts *out) {
	size_t at = 0;
	while (at < len) {
		int rc = pcre2_match(r->code, (PCRE2_SPTR)text + base, len, at, PCRE2_NO_UTF_CHECK,
		                     r->match, NULL);
		if (rc < 0)
			break;
		const PCRE2_SIZE *span = pcre2_get_ovector_pointer(r->match);
		assert_true(span[1] > span[0]);
		if (span[0] > at)
			out->end[out->n++] = base + span[0];
		out->end[out->n++] = base + span[1];
		at = span[1];
	}
	if (at < len)
		out->end[out->n++] = base + len;
}

/* One expression after the other, each inside the pieces of the one before. */
static void split_all(const regex *rs, size_t n_rs, const char *text, size_t len, cuts *out) {
	*out = (cuts){{len}, len > 0};
	for (size_t i = 0; i < n_rs; i++) {
		cuts in = *out;
		size_t base = 0;
		out->n = 0;
		for (size_t k = 0; k < in.n; base = in.end[k++])
			split(&rs[i], text, base, in.end[k] - base, out);
	}
}

/* ---- scanners ---- */

static void scan(rv_pretok pre, const char *text, size_t len, cuts *out) {
	rv_pretok_fn *fn = rv_pretok_scanner(pre);
	out->n = 0;
	for (size_t at = 0; at < len;) {
		size_t n = fn(text + at, text + len);
		assert_true(n >= 1 && n <= len - at);
		at += n;
		out->end[out->n++] = at;
	}
}

static int same_cuts(const cuts *a, const cuts *b) {
	return a->n == b->n && memcmp(a->end, b->end, a->n * sizeof *a->end) == 0;
}

/* ---- random text ---- */

static const char *const palette[] = {
        "'",
        "'s",
        "'S",
        "'t",
        "'RE",
        "'ve",
        "'vE",
        "'m",
        "'ll",
        "'lL",
        "'d",
        "'D",
        "'\xc5\xbf",
        "'r",
        "'l",
        "\xc5\xbf",
        "s",
        " ",
        "  ",
        "   ",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\x0b",
        "\x0c",
        "\xc2\x85",
        "\xc2\xa0",
        "a",
        "B",
        "z",
        "0",
        "7",
        "123",
        "4567",
        "\xc2\xb2",
        "\xd9\xa3",
        "\xe2\x85\xa3",
        "!",
        "?!",
        "$",
        "+",
        "<",
        "`",
        "^",
        "~",
        "|",
        "_",
        "-",
        "\x01",
        "\x1c",
        "\x7f",
        "\xc3\xa9",
        "e\xcc\x81",
        "\xcc\x81",
        "\xe4\xb8\xad",
        "\xe0\xa4\xbf",
        "\xef\xbc\x91",
        "\xe2\x80\x83",
        "\xe2\x80\xa8",
        "\xe3\x80\x80",
        "\xe2\x80\x8b",
        "\xef\xbb\xbf",
        "\xe2\x80\x99",
        "\xf0\x9f\x98\x80",
        "\xe2\x9d\xa4\xef\xb8\x8f",
        "\xf0\x9d\x9f\x98",
        "\xc2\xb1",
        "\xe2\x82\xac",
};

static int is_scalar(int32_t cp) {
	return cp < 0xd800 || cp >= 0xe000;
}

/* Mostly the palette, else code points of any plane that both libraries know alike. */
static size_t random_text(rv_rng *rng, const uint8_t *agreed, char *out) {
	size_t n = 0, chars = 1 + rv_rng_below(rng, MAX_CHARS);
	for (size_t i = 0; i < chars; i++) {
		if (rv_rng_below(rng, 5)) {
			const char *s = palette[rv_rng_below(rng, sizeof palette / sizeof *palette)];
			memcpy(out + n, s, strlen(s));
			n += strlen(s);
			continue;
		}
		static const uint32_t spans[] = {0x100, 0x800, 0x3100, 0x10000, 0x20000, 0x110000};
		int32_t cp = (int32_t)rv_rng_below(rng, spans[rv_rng_below(rng, 6)]);
		if (is_scalar(cp) && agreed[cp])
			n += rv_utf8_put(cp, out + n);
	}
	return n;
}

/* ---- fixtures ---- */

/* As the header says that `default` is made. */
static const char *const default_patterns[] = {
        "[\\p{P}\\$\\+<=>\\^~\\|]+",
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)",
        "\\p{N}+",
        "[0-9][0-9][0-9]",
};

static size_t patterns_of(rv_pretok pre, regex out[4]) {
	size_t n = pre == RV_PRETOK_DEFAULT ? 4 : 1;
	for (size_t i = 0; i < n; i++)
		out[i] = compile(pre == RV_PRETOK_DEFAULT ? default_patterns[i]
		                                          : rv_pretok_pattern(pre));
	return n;
}

static uint8_t agreed[0x110000];

static int matches(const regex *r, const char *s, size_t len) {
	return pcre2_match(r->code, (PCRE2_SPTR)s, len, 0, PCRE2_NO_UTF_CHECK, r->match, NULL) > 0;
}

/* Which class a scanner gives a character, seen from outside: what it joins with. gpt-2 keeps " x"
 * whole unless x is a space; "xa" and "x1" are whole for letters and numbers. */
static char class_seen(int32_t cp) {
	char text[8];
	size_t len = rv_utf8_put(cp, text);
	rv_pretok_fn *gpt2 = rv_pretok_scanner(RV_PRETOK_GPT2);
	text[len] = 'a';
	if (gpt2(text, text + len + 1) == len + 1)
		return 'L';
	text[len] = '1';
	if (gpt2(text, text + len + 1) == len + 1)
		return cp == ' ' ? 'S' : 'N';
	text[len] = '\x01';
	if (cp != ' ' && gpt2(text, text + len + 1) == len + 1)
		return 'O';
	return 'S';
}

static char class_wanted(const regex r[3], int32_t cp) {
	char text[4];
	size_t len = rv_utf8_put(cp, text);
	for (int i = 0; i < 3; i++)
		if (matches(&r[i], text, len))
			return "LNS"[i];
	return 'O';
}

/* Every code point has the class PCRE2 gives it, but for those that are unassigned in PCRE2's Unicode.
 */
static void test_every_code_point(void **state) {
	(void)state;
	regex r[3] = {compile("^\\p{L}"), compile("^\\p{N}"), compile("^\\s")};
	regex unassigned = compile("^\\p{Cn}"), punct = compile("^[\\p{P}]");
	int n_newer = 0;
	for (int32_t cp = 0; cp < 0x110000; cp++) {
		char text[4];
		if (!is_scalar(cp))
			continue;
		/* ' ' alone joins everything by its own rule; it is a blank by the table. */
		if (cp == ' ' || cp == '\'') {
			agreed[cp] = 1;
			continue;
		}
		char seen = class_seen(cp), wanted = class_wanted(r, cp);
		if (cp == MONGOLIAN_VOWEL_SEPARATOR) {
			assert_int_equal(seen, 'O');
			continue;
		}
		size_t len = rv_utf8_put(cp, text);
		int newer = matches(&unassigned, text, len);
		/* "(x" is one piece of `default` when x is punctuation: its first pattern. */
		char pair[8] = "(";
		memcpy(pair + 1, text, len);
		int is_punct = rv_pretok_scanner(RV_PRETOK_DEFAULT)(pair, pair + 1 + len) == 1 + len;
		int want_punct =
		        matches(&punct, text, len) || (cp < 128 && strchr("$+<=>^~|", cp) && cp);
		agreed[cp] = seen == wanted && is_punct == want_punct;
		if (!agreed[cp] && !newer)
			fail_msg("U+%04X: %c, not %c", (unsigned)cp, seen, wanted);
		n_newer += !agreed[cp];
	}
	print_message("%d code points are newer than PCRE2's tables\n", n_newer);
	for (int i = 0; i < 3; i++)
		release(&r[i]);
	release(&unassigned);
	release(&punct);
}

static void show(const char *what, const char *text, const cuts *c) {
	size_t at = 0;
	print_message("%s:", what);
	for (size_t i = 0; i < c->n; at = c->end[i++]) {
		print_message(" [");
		for (size_t k = at; k < c->end[i]; k++)
			print_message(text[k] > ' ' && text[k] < 127 ? "%c" : "\\x%02x",
			              (uint8_t)text[k]);
		print_message("]");
	}
	print_message("\n");
}

/* Strings on which scanner `pre` and the expressions of `other` differ. */
static int count_differences(rv_pretok pre, rv_pretok other, int n_strings, int print) {
	regex rs[4];
	rv_rng rng;
	char text[16 * MAX_CHARS];
	size_t n_rs = patterns_of(other, rs);
	int differ = 0;
	rv_rng_seed(&rng, 20240917u + (unsigned)pre);
	for (int i = 0; i < n_strings; i++) {
		cuts wanted, got;
		size_t len = random_text(&rng, agreed, text);
		split_all(rs, n_rs, text, len, &wanted);
		scan(pre, text, len, &got);
		if (same_cuts(&wanted, &got))
			continue;
		if (print && ++differ < 4) {
			show("wanted", text, &wanted);
			show("got   ", text, &got);
		} else if (!print) {
			differ++;
		}
	}
	for (size_t i = 0; i < n_rs; i++)
		release(&rs[i]);
	return differ;
}

static void test_random_strings(void **state) {
	(void)state;
	for (rv_pretok pre = 0; pre < RV_PRETOK_COUNT; pre++) {
		int differ = count_differences(pre, pre, STRINGS, 1);
		print_message("%s: %d of %d strings differ\n", rv_pretok_name(pre), differ, STRINGS);
		assert_int_equal(differ, 0);
	}
}

/* Negative control: each scanner differs from every other scanner's expressions. */
static void test_random_strings_can_fail(void **state) {
	(void)state;
	for (rv_pretok a = 0; a < RV_PRETOK_COUNT; a++)
		for (rv_pretok b = 0; b < RV_PRETOK_COUNT; b++)
			if (a != b)
				assert_true(count_differences(a, b, 2000, 0) > 10);
}

/* ---- what PCRE2 cannot be asked ---- */

static void test_invalid_bytes(void **state) {
	(void)state;
	cuts c;
	/* A lone continuation byte, an overlong form, a surrogate, a cut-off character: no class each.
	 */
	static const char text[] = " \x80\xc0\xaf\xed\xa0\x80 a\xe4\xb8";
	scan(RV_PRETOK_QWEN2, text, sizeof text - 1, &c);
	const size_t wanted[] = {7, 9, 11};
	assert_int_equal(c.n, 3);
	assert_memory_equal(c.end, wanted, sizeof wanted);
	rv_rng rng;
	rv_rng_seed(&rng, 1);
	for (int i = 0; i < 20000; i++) {
		char bytes[24];
		for (size_t k = 0; k < sizeof bytes; k++)
			bytes[k] = (char)rv_rng_u64(&rng);
		for (rv_pretok pre = 0; pre < RV_PRETOK_COUNT; pre++)
			scan(pre, bytes, 1 + (size_t)i % sizeof bytes, &c);
	}
}

static void test_names(void **state) {
	(void)state;
	static const struct {
		const char *name;
		rv_pretok pre;
	} known[] = {{"default", RV_PRETOK_DEFAULT},  {"gpt-2", RV_PRETOK_GPT2},
	             {"qwen2", RV_PRETOK_QWEN2},      {"deepseek-r1-qwen", RV_PRETOK_QWEN2},
	             {"llama-bpe", RV_PRETOK_LLAMA3}, {"llama3", RV_PRETOK_LLAMA3},
	             {"llama-v3", RV_PRETOK_LLAMA3}};
	rv_pretok pre;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		assert_true(rv_pretok_by_name(known[i].name, strlen(known[i].name), &pre));
		assert_int_equal(pre, known[i].pre);
	}
	assert_false(rv_pretok_by_name("qwen", 4, &pre));
	assert_false(rv_pretok_by_name("qwen2\0", 6, &pre));
	assert_false(rv_pretok_by_pattern("", &pre));
	assert_false(rv_pretok_by_pattern("\\p{L}+", &pre));
	assert_true(rv_pretok_by_pattern(rv_pretok_pattern(RV_PRETOK_LLAMA3), &pre));
	assert_int_equal(pre, RV_PRETOK_LLAMA3);
}

/* Runs of one character of any class: a scanner that looked at bytes again and again would take hours.
 */
static void test_linear(void **state) {
	(void)state;
	static const char *const units[] = {"a",   " ",    "\n", "\t",  "'",     "7",  "\xc2\xa0",
	                                    " \n", "\x80", "a ", " \t", "\r\n ", "'s", "\xc2\xb2\x31"};
	const size_t size = 4u << 20;
	char *text = malloc(size);
	assert_non_null(text);
	for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
		size_t len = strlen(units[u]);
		for (size_t i = 0; i < size; i++)
			text[i] = units[u][i % len];
		for (rv_pretok pre = 0; pre < RV_PRETOK_COUNT; pre++) {
			int64_t start = rv_now_ns();
			for (const char *p = text; p < text + size;)
				p += rv_pretok_scanner(pre)(p, text + size);
			assert_true(rv_now_ns() - start < 20000000000);
		}
	}
	free(text);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_every_code_point), /* first: it finds the code points to draw from
	                                                  */
	        cmocka_unit_test(test_random_strings),   cmocka_unit_test(test_random_strings_can_fail),
	        cmocka_unit_test(test_invalid_bytes),    cmocka_unit_test(test_names),
	        cmocka_unit_test(test_linear),
	};
	return cmocka_run_group_tests_name("pretokenize", tests, NULL, NULL);
}
