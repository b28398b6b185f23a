/* Text helpers shared by messages, logs and option tables. Internal to lib/base. */
#ifndef RV_BASE_TEXT_H
#define RV_BASE_TEXT_H

#include <stddef.h>

/* Copies the string `src` to dst[cap] (cap >= 8) with control characters escaped (\n, \t, \x1b ...), so
 * that hostile names cannot break a line or drive a terminal. What does not fit ends in "...", never in
 * half a UTF-8 character. Returns the length written. dst and src must not overlap. */
size_t rv_text_escape(char *dst, size_t cap, const char *src);

/* The shortest decimal form that reads back as `value`, with '.' in every locale. */
void rv_text_double(char out[32], double value);

/* Reads a number with '.' in every locale; the grammar is strtod's. *end: first unused character. */
double rv_text_strtod(const char *s, char **end);

#endif
