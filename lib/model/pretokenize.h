/* Pre-tokenizers: where a byte-level BPE may cut a text before merging.
 *
 * Each is a published regular expression (given beside its row) turned into a linear scanner: no
 * backtracking, every byte is looked at a constant number of times. \s is Unicode White_Space, \p{L}
 * and \p{N} are the general categories of libutf8proc. Caseless 's also takes U+017F (long s), which
 * folds to s. A byte that starts no valid UTF-8 character counts as one character of no class. Pure
 * functions.
 */
#ifndef RV_MODEL_PRETOKENIZE_H
#define RV_MODEL_PRETOKENIZE_H

#include <stddef.h>
#include <stdint.h>

/* X(enumerator, canonical name, pattern as in tokenizer.json; "": not a single pattern) */
#define RV_PRETOK_TABLE(X)                                                                             \
	X(RV_PRETOK_DEFAULT, "default", "")                                                            \
	X(RV_PRETOK_GPT2, "gpt-2",                                                                     \
	  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+")        \
	X(RV_PRETOK_QWEN2, "qwen2",                                                                    \
	  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"                         \
	  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")                             \
	X(RV_PRETOK_LLAMA3, "llama-bpe",                                                               \
	  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"                    \
	  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")

typedef enum rv_pretok {
#define RV_PRETOK_ENUM(e, name, pattern) e,
	RV_PRETOK_TABLE(RV_PRETOK_ENUM)
#undef RV_PRETOK_ENUM
	        RV_PRETOK_COUNT
} rv_pretok;

/* Bytes of the piece that starts at `p` (1 .. end - p; p < end). `end` is the end of the text, which
 * counts for "(?!\S)". */
typedef size_t rv_pretok_fn(const char *p, const char *end);
rv_pretok_fn *rv_pretok_scanner(rv_pretok pre);

const char *rv_pretok_name(rv_pretok pre);
const char *rv_pretok_pattern(rv_pretok pre);
/* By the names GGUF files use (tokenizer.ggml.pre), aliases of the identical pattern included; 0 when
 * unknown. */
int rv_pretok_by_name(const char *name, size_t len, rv_pretok *out);
/* By the regular expression of a tokenizer.json; 0 when unknown. */
int rv_pretok_by_pattern(const char *pattern, rv_pretok *out);

/* Strict UTF-8: bytes of the character at p (p < end) and its code point; 1 and -1 for a byte that
 * starts none (overlong, surrogate, above U+10FFFF, cut off). */
static inline size_t rv_utf8_next(const char *p, const char *end, int32_t *cp) {
	const uint8_t *s = (const uint8_t *)p;
	size_t left = (size_t)(end - p);
	if (s[0] < 0x80) {
		*cp = s[0];
		return 1;
	}
	*cp = -1;
	if (s[0] < 0xc2 || s[0] > 0xf4 || left < 2 || (s[1] & 0xc0) != 0x80)
		return 1;
	if (s[0] < 0xe0) {
		*cp = (s[0] & 0x1f) << 6 | (s[1] & 0x3f);
		return 2;
	}
	if (left < 3 || (s[2] & 0xc0) != 0x80)
		return 1;
	if (s[0] < 0xf0) {
		int32_t c = (s[0] & 0x0f) << 12 | (s[1] & 0x3f) << 6 | (s[2] & 0x3f);
		if (c < 0x800 || (c >= 0xd800 && c < 0xe000))
			return 1;
		*cp = c;
		return 3;
	}
	if (left < 4 || (s[3] & 0xc0) != 0x80)
		return 1;
	int32_t c = (s[0] & 0x07) << 18 | (s[1] & 0x3f) << 12 | (s[2] & 0x3f) << 6 | (s[3] & 0x3f);
	if (c < 0x10000 || c > 0x10ffff)
		return 1;
	*cp = c;
	return 4;
}

/* Bytes of `cp` (a scalar value) as UTF-8 into out[4]. */
static inline size_t rv_utf8_put(int32_t cp, char *out) {
	uint32_t c = (uint32_t)cp;
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

#endif
