/* The scanners. Every rule of a pattern is one `if`, in the order of its alternation. */
#include "model/pretokenize.h"

#include <string.h>
#include <utf8proc.h>

/* Character classes as bits, so that a rule asks for a set of them at once. */
enum {
	LETTER = 1,
	NUMBER = 2,
	NEWLINE = 4, /* CR and LF */
	BLANK = 8,   /* any other White_Space */
	PUNCT = 16,  /* \p{P} and $ + < = > ^ ~ |, which only the default scanner tells from OTHER */
	OTHER = 32,
	SPACES = NEWLINE | BLANK,
	SIGNS = PUNCT | OTHER /* [^\s\p{L}\p{N}] */
};

#define L LETTER
#define N NUMBER
#define P PUNCT
#define O OTHER
#define B BLANK
#define W NEWLINE
static const uint8_t ascii_class[128] = {
        O, O, O, O, O, O, O, O, O, B, W, B, B, W, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
        B, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, N, N, N, N, N, N, N, N, N, N, P, P, P, P, P, P,
        P, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, P, P, P, P, P,
        O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, P, P, P, P, O,
};
#undef L
#undef N
#undef P
#undef O
#undef B
#undef W

static unsigned class_of_code_point(int32_t cp) {
	if (cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
	    cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000)
		return BLANK;
	switch (utf8proc_category(cp)) {
	case UTF8PROC_CATEGORY_LU:
	case UTF8PROC_CATEGORY_LL:
	case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO:
		return LETTER;
	case UTF8PROC_CATEGORY_ND:
	case UTF8PROC_CATEGORY_NL:
	case UTF8PROC_CATEGORY_NO:
		return NUMBER;
	case UTF8PROC_CATEGORY_PC:
	case UTF8PROC_CATEGORY_PD:
	case UTF8PROC_CATEGORY_PS:
	case UTF8PROC_CATEGORY_PE:
	case UTF8PROC_CATEGORY_PI:
	case UTF8PROC_CATEGORY_PF:
	case UTF8PROC_CATEGORY_PO:
		return PUNCT;
	default:
		return OTHER;
	}
}

/* Class of the character at p and its bytes; no class and 0 bytes at the end. */
static inline unsigned class_at(const char *p, const char *end, size_t *len) {
	if (p >= end) {
		*len = 0;
		return 0;
	}
	uint8_t byte = (uint8_t)*p;
	if (byte < 0x80) {
		*len = 1;
		return ascii_class[byte];
	}
	int32_t cp;
	*len = rv_utf8_next(p, end, &cp);
	return cp < 0 ? (unsigned)OTHER : class_of_code_point(cp);
}

/* The end of the run of characters whose class is in `set`. */
static inline const char *skip(const char *p, const char *end, unsigned set) {
	size_t len;
	while (class_at(p, end, &len) & set)
		p += len;
	return p;
}

/* 's 't 're 've 'm 'll 'd at an apostrophe: bytes, or 0. */
static size_t contraction(const char *p, const char *end, int caseless) {
	size_t left = (size_t)(end - p);
	if (left < 2)
		return 0;
	char fold = caseless ? 0x20 : 0;
	char a = (char)(p[1] | fold);
	if (a == 's' || a == 't' || a == 'm' || a == 'd')
		return 2;
	if (left < 3)
		return 0;
	char b = (char)(p[2] | fold);
	if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l'))
		return 3;
	return caseless && memcmp(p + 1, "\xc5\xbf", 2) == 0 ? 3 : 0;
}

/* \s+(?!\S)|\s+ on the run [p, run_end): everything at the end of the text, else all but the last
 * character, which belongs to what follows unless it stands alone. */
static size_t blanks(const char *p, const char *run_end, const char *end) {
	if (run_end == end)
		return (size_t)(run_end - p);
	const char *last = run_end - 1;
	while (last > p && ((uint8_t)*last & 0xc0) == 0x80)
		last--;
	return (size_t)((last > p ? last : run_end) - p);
}

static size_t scan_gpt2(const char *p, const char *end) {
	size_t len;
	unsigned c = class_at(p, end, &len);
	if (*p == '\'') {
		size_t n = contraction(p, end, 0);
		if (n)
			return n;
	}
	const char *body = p + len;
	if (*p == ' ') {
		c = class_at(body, end, &len);
		if (!c || (c & SPACES))
			return blanks(p, skip(body, end, SPACES), end);
		body += len;
	} else if (c & SPACES) {
		return blanks(p, skip(body, end, SPACES), end);
	}
	return (size_t)(skip(body, end, c & SIGNS ? (unsigned)SIGNS : c) - p);
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t spaces_with_newlines(const char *p, const char *end) {
	const char *run_end = skip(p, end, SPACES);
	for (const char *q = run_end; q > p; q--)
		if (q[-1] == '\n' || q[-1] == '\r')
			return (size_t)(q - p);
	return blanks(p, run_end, end);
}

static inline size_t scan_caseless(const char *p, const char *end, int max_digits) {
	size_t len, next_len;
	unsigned c = class_at(p, end, &len);
	if (c & LETTER)
		return (size_t)(skip(p + len, end, LETTER) - p);
	if (c & NUMBER) {
		const char *q = p + len;
		while (--max_digits > 0 && (class_at(q, end, &len) & NUMBER))
			q += len;
		return (size_t)(q - p);
	}
	if (*p == '\'') {
		size_t n = contraction(p, end, 1);
		if (n)
			return n;
	}
	const char *body = p + len;
	unsigned next = class_at(body, end, &next_len);
	if ((next & LETTER) && !(c & NEWLINE))
		return (size_t)(skip(body + next_len, end, LETTER) - p);
	if ((c & SIGNS) || (*p == ' ' && (next & SIGNS)))
		return (size_t)(skip(skip(body, end, SIGNS), end, NEWLINE) - p);
	return spaces_with_newlines(p, end);
}

static size_t scan_qwen2(const char *p, const char *end) {
	return scan_caseless(p, end, 1);
}

static size_t scan_llama3(const char *p, const char *end) {
	return scan_caseless(p, end, 3);
}

static int is_ascii_digits3(const char *p, const char *end) {
	for (int i = 0; i < 3; i++)
		if (p + i >= end || p[i] < '0' || p[i] > '9')
			return 0;
	return 1;
}

/* Four patterns, each cutting what the one before it left:
 *	[\p{P}\$\+<=>\^~\|]+
 *	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)
 *	\p{N}+
 *	[0-9][0-9][0-9]
 * The first takes every apostrophe, so no contraction is left for the second, and a run of blanks
 *before punctuation ends its text; the third takes a number's leading space off again. */
static size_t scan_default(const char *p, const char *end) {
	size_t len;
	unsigned c = class_at(p, end, &len);
	const char *body = p + len;
	if (c & NUMBER) {
		if (is_ascii_digits3(p, end))
			return 3;
		while ((class_at(body, end, &len) & NUMBER) && !is_ascii_digits3(body, end))
			body += len;
		return (size_t)(body - p);
	}
	if (c & SPACES) {
		const char *run_end = skip(body, end, SPACES);
		unsigned next = class_at(run_end, end, &len);
		if (!next || (next & PUNCT))
			return (size_t)(run_end - p);
		if (run_end > body || *p != ' ' || (next & NUMBER))
			return blanks(p, run_end, end);
		c = next;
		body = run_end + len;
	}
	return (size_t)(skip(body, end, c) - p);
}

static rv_pretok_fn *const scanners[RV_PRETOK_COUNT] = {
        [RV_PRETOK_DEFAULT] = scan_default,
        [RV_PRETOK_GPT2] = scan_gpt2,
        [RV_PRETOK_QWEN2] = scan_qwen2,
        [RV_PRETOK_LLAMA3] = scan_llama3,
};

static const struct {
	const char *name, *pattern;
} patterns[RV_PRETOK_COUNT] = {
#define PRETOK_ROW(e, name, pattern) [e] = {name, pattern},
        RV_PRETOK_TABLE(PRETOK_ROW)
#undef PRETOK_ROW
};

/* Names that files use for the identical pattern. */
static const struct {
	const char *name;
	rv_pretok pre;
} aliases[] = {
        {"default", RV_PRETOK_DEFAULT},  {"gpt-2", RV_PRETOK_GPT2},
        {"gpt2", RV_PRETOK_GPT2},        {"phi-2", RV_PRETOK_GPT2},
        {"roberta-bpe", RV_PRETOK_GPT2}, {"gigachat", RV_PRETOK_GPT2},
        {"qwen2", RV_PRETOK_QWEN2},      {"deepseek-r1-qwen", RV_PRETOK_QWEN2},
        {"megrez", RV_PRETOK_QWEN2},     {"llama-bpe", RV_PRETOK_LLAMA3},
        {"llama3", RV_PRETOK_LLAMA3},    {"llama-v3", RV_PRETOK_LLAMA3},
        {"falcon3", RV_PRETOK_LLAMA3},
};

rv_pretok_fn *rv_pretok_scanner(rv_pretok pre) {
	return scanners[pre];
}

const char *rv_pretok_name(rv_pretok pre) {
	return patterns[pre].name;
}

const char *rv_pretok_pattern(rv_pretok pre) {
	return patterns[pre].pattern;
}

int rv_pretok_by_name(const char *name, size_t len, rv_pretok *out) {
	for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
		if (strlen(aliases[i].name) == len && memcmp(aliases[i].name, name, len) == 0) {
			*out = aliases[i].pre;
			return 1;
		}
	return 0;
}

int rv_pretok_by_pattern(const char *pattern, rv_pretok *out) {
	for (rv_pretok i = 0; i < RV_PRETOK_COUNT; i++)
		if (*patterns[i].pattern && strcmp(patterns[i].pattern, pattern) == 0) {
			*out = i;
			return 1;
		}
	return 0;
}
