/* JSON on stdout, and token ids from the command line. */
#include "base/mem.h"
#include "cli/cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

json_t *rv_cli_json_text(const char *text, size_t len) {
	static const char replacement[] = "\xef\xbf\xbd";
	char *clean;
	size_t n = 0;
	if (len > SIZE_MAX / 4 || rv_alloc_uninit((void **)&clean, len + 1, 3, "text") != RV_OK)
		return NULL;
	for (size_t i = 0; i < len;) {
		utf8proc_int32_t point;
		utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text + i,
		                                         (utf8proc_ssize_t)(len - i), &point);
		size_t step = used > 0 ? (size_t)used : 1;
		const char *from = used > 0 ? text + i : replacement;
		size_t bytes = used > 0 ? step : sizeof replacement - 1;
		memcpy(clean + n, from, bytes);
		n += bytes;
		i += step;
	}
	json_t *out = json_stringn(clean, n);
	rv_free(clean);
	return out;
}

json_t *rv_cli_json_path(const char *path) {
	return path ? rv_cli_json_text(path, strlen(path)) : json_null();
}

json_t *rv_cli_json_real(double value) {
	return isfinite(value) ? json_real(value) : json_null();
}

int rv_cli_finish_json(const rv_cli *cli, json_t *value) {
	char *text = value ? json_dumps(value, JSON_INDENT(2) | JSON_PRESERVE_ORDER |
	                                               JSON_REAL_PRECISION(10) | JSON_ENCODE_ANY)
	                   : NULL;
	json_decref(value);
	if (!text) {
		rv_fail(RV_ERR_NO_MEMORY, "JSON output: out of memory");
		return rv_cli_fail(cli);
	}
	puts(text);
	free(text);
	return rv_cli_finish(cli);
}

rv_status rv_cli_parse_ids(const char *text, int64_t n_vocab, int32_t **ids, size_t *n) {
	int64_t *wide;
	int32_t *narrow;
	size_t count;
	RV_TRY(rv_parse_ints(text, 0, n_vocab - 1, &wide, &count));
	rv_status st = RV_ALLOC(&narrow, count, "token ids");
	for (size_t i = 0; st == RV_OK && i < count; i++)
		narrow[i] = (int32_t)wide[i];
	rv_free(wide);
	if (st != RV_OK)
		return st;
	*ids = narrow;
	*n = count;
	return RV_OK;
}
