/* Normalisation form C (UAX #15) in linear time, on valid UTF-8 only: a byte that is no character stays
 * as it is and separates what stands around it. Only stretches that may change are decomposed; ordering
 * a stretch by combining class is a counting sort, since texts of millions of marks exist. */
#include "base/mem.h"
#include "model/tokenizer_internal.h"

#include <utf8proc.h>

#define OPTIONS (UTF8PROC_STABLE | UTF8PROC_COMPOSE)
#define MAX_DECOMPOSED 18 /* code points of one character; Unicode's own limit */
#define SHORT_RUN 16

/* A starter that is its own form and never joins what stands before it: text may be cut in front of it.
 */
static int is_boundary(int32_t cp) {
	if (cp < 0x300)
		return 1;
	if ((cp >= 0x1161 && cp <= 0x1175) || (cp >= 0x11a8 && cp <= 0x11c2))
		return 0; /* vowels and tails that Hangul composes */
	const utf8proc_property_t *p = utf8proc_get_property(cp);
	int decomposes = !p->decomp_type && p->decomp_seqindex != UINT16_MAX;
	int joins = p->comb_index != UINT16_MAX && p->comb_index >= 0x8000;
	return !p->combining_class && !decomposes && !joins;
}

static unsigned combining_class(int32_t cp) {
	return cp < 0x300 ? 0 : (unsigned)utf8proc_get_property(cp)->combining_class;
}

/* Stable order of one run of marks by class; `spare` has room for n more. */
static void order_run(int32_t *run, size_t n, int32_t *spare) {
	if (n <= SHORT_RUN) {
		for (size_t i = 1; i < n; i++) {
			int32_t v = run[i];
			unsigned class = combining_class(v);
			size_t j = i;
			for (; j && combining_class(run[j - 1]) > class; j--)
				run[j] = run[j - 1];
			run[j] = v;
		}
		return;
	}
	size_t start[257] = {0};
	for (size_t i = 0; i < n; i++)
		start[combining_class(run[i]) + 1]++;
	for (size_t c = 1; c < 257; c++)
		start[c] += start[c - 1];
	for (size_t i = 0; i < n; i++)
		spare[start[combining_class(run[i])]++] = run[i];
	memcpy(run, spare, n * sizeof *run);
}

/* Decomposes the characters of [p, end) into w->chars, with as much spare room behind. */
static rv_status decompose(rv_tok_work *w, const char *p, const char *end, size_t *n_out) {
	size_t n = 0;
	while (p < end) {
		int32_t cp;
		int boundclass = 0;
		p += rv_utf8_next(p, end, &cp);
		RV_TRY(RV_TOK_RESERVE(&w->chars, &w->chars_cap, n, MAX_DECOMPOSED, "normalised text"));
		utf8proc_ssize_t got =
		        utf8proc_decompose_char(cp, w->chars + n, MAX_DECOMPOSED, OPTIONS, &boundclass);
		if (got < 0 || got > MAX_DECOMPOSED)
			return rv_fail(RV_ERR_UNSUPPORTED, "U+%04X cannot be decomposed", (unsigned)cp);
		n += (size_t)got;
	}
	RV_TRY(RV_TOK_RESERVE(&w->chars, &w->chars_cap, n, n, "normalised text"));
	*n_out = n;
	return RV_OK;
}

/* The composed form of [p, end) as w->chars. */
static rv_status compose(rv_tok_work *w, const char *p, const char *end, size_t *n_out) {
	size_t n = 0;
	RV_TRY(decompose(w, p, end, &n));
	for (size_t i = 0; i < n;) {
		size_t run = i;
		while (run < n && combining_class(w->chars[run]))
			run++;
		if (run > i + 1)
			order_run(w->chars + i, run - i, w->chars + n);
		i = run + 1;
	}
	utf8proc_ssize_t got = utf8proc_normalize_utf32(w->chars, (utf8proc_ssize_t)n, OPTIONS);
	if (got < 0)
		return rv_fail(RV_ERR_UNSUPPORTED, "normalisation: %s", utf8proc_errmsg(got));
	*n_out = (size_t)got;
	return RV_OK;
}

static rv_status append(rv_tok_work *w, size_t *n, const char *p, size_t len) {
	RV_TRY(RV_TOK_RESERVE(&w->text, &w->text_cap, *n, len, "normalised text"));
	if (len)
		memcpy(w->text + *n, p, len);
	*n += len;
	return RV_OK;
}

/* Whether w->chars[0 .. n) written as UTF-8 is [p, end). */
static int is_same(const rv_tok_work *w, size_t n, const char *p, const char *end) {
	char buf[4];
	for (size_t i = 0; i < n; i++) {
		size_t len = rv_utf8_put(w->chars[i], buf);
		if ((size_t)(end - p) < len || memcmp(p, buf, len) != 0)
			return 0;
		p += len;
	}
	return p == end;
}

/* The end of the stretch that begins with a character which is no boundary. */
static const char *stretch_end(const char *p, const char *end) {
	int32_t cp;
	while (p < end) {
		size_t len = rv_utf8_next(p, end, &cp);
		if (cp < 0 || is_boundary(cp))
			break;
		p += len;
	}
	return p;
}

rv_status rv_tok_nfc(rv_tok_work *w, const char *text, size_t len, const char **out, size_t *out_len) {
	const char *end = text + len, *p = text;
	const char *done = text;  /* what has been written to w->text */
	const char *start = text; /* of the last boundary character */
	size_t n = 0;
	while (p < end) {
		int32_t cp;
		size_t bytes = rv_utf8_next(p, end, &cp);
		if (cp < 0 || is_boundary(cp)) {
			start = cp < 0 ? p + bytes : p;
			p += bytes;
			continue;
		}
		p = stretch_end(p, end);
		size_t n_chars = 0;
		RV_TRY(compose(w, start, p, &n_chars));
		if (!is_same(w, n_chars, start, p)) {
			RV_TRY(append(w, &n, done, (size_t)(start - done)));
			for (size_t i = 0; i < n_chars; i++) {
				char buf[4];
				RV_TRY(append(w, &n, buf, rv_utf8_put(w->chars[i], buf)));
			}
			done = p;
		}
		start = p;
	}
	if (done == text) {
		*out = text;
		*out_len = len;
		return RV_OK;
	}
	RV_TRY(append(w, &n, done, (size_t)(end - done)));
	*out = w->text;
	*out_len = n;
	return RV_OK;
}
