#include "base/status.h"

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[RV_ERROR_MESSAGE_MAX];

const char *rv_status_text(rv_status status) {
	static const char *const texts[] = {
#define STATUS_TEXT(name, text) [name] = text,
	        RV_STATUS_TABLE(STATUS_TEXT)
#undef STATUS_TEXT
	};
	return (unsigned)status < RV_STATUS_COUNT ? texts[status] : "unknown status";
}

const char *rv_error_message(void) {
	return message;
}

/* The arguments may point into the current message, so it is replaced only at the end. */
static void store(const char *fmt, va_list args, int error) {
	char text[RV_ERROR_MESSAGE_MAX + 8];
	int written = vsnprintf(text, sizeof text, fmt, args);
	size_t n = written < 0 ? 0 : (size_t)written;
	if (n >= sizeof text)
		n = sizeof text - 1;
	text[n] = '\0';
	if (error) {
		char reason[128], whole[2 * RV_ERROR_MESSAGE_MAX];
		snprintf(whole, sizeof whole, "%s: %s", text, strerror_r(error, reason, sizeof reason));
		rv_text_escape(message, sizeof message, whole);
	} else {
		rv_text_escape(message, sizeof message, text);
	}
}

rv_status rv_fail(rv_status status, const char *fmt, ...) {
	int saved = errno;
	va_list args;
	va_start(args, fmt);
	store(fmt, args, 0);
	va_end(args);
	errno = saved;
	return status;
}

rv_status rv_fail_errno(rv_status status, const char *fmt, ...) {
	int saved = errno;
	va_list args;
	va_start(args, fmt);
	store(fmt, args, saved);
	va_end(args);
	errno = saved;
	return status;
}

rv_status rv_fail_in(rv_status status, const char *prefix) {
	return rv_fail(status, "%s: %s", prefix, message);
}
