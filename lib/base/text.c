#include "base/text.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Writes the escape of one control character; returns its length, 0 when c needs none. */
static size_t escape_char(unsigned char c, char out[5]) {
	static const char letters[] = "\a\b\t\n\v\f\r", names[] = "abtnvfr";
	static const char hex[] = "0123456789abcdef";
	if (c >= 0x20 && c != 0x7f)
		return 0;
	const char *known = c ? strchr(letters, c) : NULL;
	out[0] = '\\';
	if (known) {
		out[1] = names[known - letters];
		return 2;
	}
	out[1] = 'x';
	out[2] = hex[c >> 4];
	out[3] = hex[c & 15];
	return 4;
}

size_t rv_text_escape(char *dst, size_t cap, const char *src) {
	size_t n = 0, whole = 0; /* whole: the longest prefix that leaves room for "..." */
	for (; *src; src++) {
		char esc[5];
		size_t len = escape_char((unsigned char)*src, esc);
		const char *piece = len ? esc : src;
		if (!len)
			len = 1;
		if ((*src & 0xC0) != 0x80 && n + 4 <= cap)
			whole = n;
		if (n + len + 1 > cap) {
			memcpy(dst + whole, "...", 4);
			return whole + 3;
		}
		memcpy(dst + n, piece, len);
		n += len;
	}
	dst[n] = '\0';
	return n;
}

void rv_text_double(char out[32], double value) {
	if (value > -1e15 && value < 1e15 && value == (double)(long long)value) {
		snprintf(out, 32, "%lld", (long long)value); /* "10", where %g would shorten to 1e+01 */
		return;
	}
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	locale_t old = c ? uselocale(c) : (locale_t)0;
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(out, 32, "%.*g", digits, value);
		if (strtod(out, NULL) == value)
			break;
	}
	if (c) {
		uselocale(old);
		freelocale(c);
	}
}

double rv_text_strtod(const char *s, char **end) {
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!c)
		return strtod(s, end);
	double value = strtod_l(s, end, c);
	freelocale(c);
	return value;
}
