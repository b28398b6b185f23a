#include "base/numbers.h"

#include "base/mem.h"
#include "base/text.h"

#include <math.h>
#include <string.h>

int64_t rv_bound_int(double bound) {
	if (!(bound > -0x1p63))
		return INT64_MIN;
	return bound < 0x1p63 ? (int64_t)bound : INT64_MAX;
}

static int is_digit(char c) {
	return c >= '0' && c <= '9';
}

typedef enum scan { SCAN_OK, SCAN_NOT_A_NUMBER, SCAN_TOO_LARGE } scan;

/* Takes "-12" off *s. */
static scan scan_int(const char **s, int64_t *out) {
	const char *p = *s;
	int negative = *p == '-', overflow = 0;
	int64_t value = 0;
	p += *p == '-' || *p == '+';
	if (!is_digit(*p))
		return SCAN_NOT_A_NUMBER;
	for (; is_digit(*p); p++) {
		int64_t digit = *p - '0';
		overflow |= __builtin_mul_overflow(value, 10, &value);
		overflow |= __builtin_add_overflow(value, negative ? -digit : digit, &value);
	}
	*s = p;
	*out = value;
	return overflow ? SCAN_TOO_LARGE : SCAN_OK;
}

/* The words of a failure are the same for one number and for one in a list. */
static rv_status check_int(scan result, int64_t value, const char *s, size_t len, int64_t min,
                           int64_t max) {
	int shown = len < 64 ? (int)len : 64;
	if (result == SCAN_NOT_A_NUMBER)
		return rv_fail(RV_ERR_INVALID, "'%.*s' is not a whole number", shown, s);
	if (result == SCAN_TOO_LARGE && *s != '-')
		return rv_fail(RV_ERR_INVALID, "%.*s is above %lld", shown, s, (long long)max);
	if (result == SCAN_TOO_LARGE)
		return rv_fail(RV_ERR_INVALID, "%.*s is below %lld", shown, s, (long long)min);
	if (value < min)
		return rv_fail(RV_ERR_INVALID, "%lld is below %lld", (long long)value, (long long)min);
	if (value > max)
		return rv_fail(RV_ERR_INVALID, "%lld is above %lld", (long long)value, (long long)max);
	return RV_OK;
}

rv_status rv_parse_int(const char *s, int64_t min, int64_t max, int64_t *out) {
	const char *end = s;
	int64_t value = 0;
	scan result = scan_int(&end, &value);
	if (*end)
		result = SCAN_NOT_A_NUMBER;
	RV_TRY(check_int(result, value, s, strlen(s), min, max));
	*out = value;
	return RV_OK;
}

/* [+-] digits [. digits] [e [+-] digits], with a digit before or after the point: no blanks, no hex, no
 * "inf", no "nan". */
static int is_decimal(const char *s) {
	int digits = 0;
	s += *s == '-' || *s == '+';
	for (; is_digit(*s); s++)
		digits++;
	if (*s == '.')
		for (s++; is_digit(*s); s++)
			digits++;
	if (!digits)
		return 0;
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '-' || *s == '+';
		if (!is_digit(*s))
			return 0;
		while (is_digit(*s))
			s++;
	}
	return *s == '\0';
}

rv_status rv_parse_double(const char *s, double min, double max, double *out) {
	char bound[32];
	if (!is_decimal(s))
		return rv_fail(RV_ERR_INVALID, "'%.64s' is not a number", s);
	double value = rv_text_strtod(s, NULL);
	if (value < min) {
		rv_text_double(bound, min);
		return rv_fail(RV_ERR_INVALID, "%.64s is below %s", s, bound);
	}
	if (value > max) {
		rv_text_double(bound, max);
		return rv_fail(RV_ERR_INVALID, "%.64s is above %s", s, bound);
	}
	if (!isfinite(value))
		return rv_fail(RV_ERR_INVALID, "%.64s is too large for a number", s);
	*out = value;
	return RV_OK;
}

static int is_blank(char c) {
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Length of the word at s, for messages. */
static size_t word_length(const char *s) {
	size_t n = 0;
	while (s[n] && s[n] != ',' && !is_blank(s[n]))
		n++;
	return n;
}

rv_status rv_parse_ints(const char *s, int64_t min, int64_t max, int64_t **out, size_t *n) {
	int64_t *list = NULL;
	size_t count = 0, capacity = 0;
	rv_status status = RV_OK;
	int comma = 0; /* a number must follow */
	*out = NULL;
	*n = 0;
	while (is_blank(*s))
		s++;
	while ((*s || comma) && status == RV_OK) {
		const char *word = s;
		int64_t value = 0;
		scan result = scan_int(&s, &value);
		size_t len = word_length(word);
		if (s != word + len)
			result = SCAN_NOT_A_NUMBER;
		status = check_int(result, value, word, len, min, max);
		if (status == RV_OK && count == capacity) {
			size_t wider = capacity ? 2 * capacity : 64;
			status = RV_GROW(&list, capacity, wider, "number list");
			capacity = status == RV_OK ? wider : capacity;
		}
		if (status != RV_OK)
			break;
		list[count++] = value;
		while (is_blank(*s))
			s++;
		comma = *s == ',';
		for (s += comma; comma && is_blank(*s);)
			s++;
	}
	if (status != RV_OK) {
		rv_free(list);
		return status;
	}
	*out = list;
	*n = count;
	return RV_OK;
}

/* One item of a list of ranges: "A", "A-B", "A-B+STEP" or "A-B*FACTOR". */
typedef struct range {
	int64_t first, last, step, factor;
} range;

static rv_status scan_bounded(const char **s, const char *item, size_t len, int64_t min, int64_t max,
                              int64_t *out) {
	const char *start = *s;
	scan result = scan_int(s, out);
	if (result == SCAN_NOT_A_NUMBER)
		return rv_fail(RV_ERR_INVALID,
		               "'%.*s' is not a number or a range A-B, A-B+STEP, A-B*FACTOR",
		               len < 64 ? (int)len : 64, item);
	return check_int(result, *out, start, (size_t)(*s - start), min, max);
}

static rv_status scan_range(const char *item, size_t len, int64_t min, int64_t max, range *r) {
	const char *s = item;
	RV_TRY(scan_bounded(&s, item, len, min, max, &r->first));
	r->last = r->first;
	r->step = 1;
	r->factor = 1;
	if (*s == '-') {
		s++;
		RV_TRY(scan_bounded(&s, item, len, min, max, &r->last));
		if (*s == '+') {
			s++;
			RV_TRY(scan_bounded(&s, item, len, 1, INT64_MAX, &r->step));
		} else if (*s == '*') {
			s++;
			RV_TRY(scan_bounded(&s, item, len, 2, INT64_MAX, &r->factor));
		}
	}
	if (s != item + len)
		return rv_fail(RV_ERR_INVALID,
		               "'%.*s' is not a number or a range A-B, A-B+STEP, A-B*FACTOR",
		               len < 64 ? (int)len : 64, item);
	if (r->last < r->first)
		return rv_fail(RV_ERR_INVALID, "'%.*s' runs backwards", len < 64 ? (int)len : 64, item);
	if (r->factor > 1 && r->first < 1)
		return rv_fail(RV_ERR_INVALID, "'%.*s' multiplies from below 1",
		               len < 64 ? (int)len : 64, item);
	return RV_OK;
}

static rv_status add_range(const range *r, rv_int_list *list) {
	for (int64_t v = r->first;;) {
		if (list->n == RV_INT_LIST_MAX)
			return rv_fail(RV_ERR_INVALID, "more than %d numbers", RV_INT_LIST_MAX);
		list->v[list->n++] = v;
		int over = r->factor > 1 ? __builtin_mul_overflow(v, r->factor, &v)
		                         : __builtin_add_overflow(v, r->step, &v);
		if (over || v > r->last)
			return RV_OK;
	}
}

rv_status rv_parse_ranges(const char *s, int64_t min, int64_t max, rv_int_list *out) {
	rv_int_list list = {.n = 0};
	for (;; s++) {
		size_t len = strcspn(s, ",");
		range r;
		RV_TRY(scan_range(s, len, min, max, &r));
		RV_TRY(add_range(&r, &list));
		s += len;
		if (!*s)
			break;
	}
	*out = list;
	return RV_OK;
}
