#include "base/log.h"

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

void rv_logf(const rv_log *log, rv_log_level level, const char *fmt, ...) {
	if (!log || !log->fn)
		return;
	int saved = errno;
	char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
	va_list args;
	va_start(args, fmt);
	if (vsnprintf(text, sizeof text, fmt, args) < 0)
		text[0] = '\0';
	va_end(args);
	rv_text_escape(line, sizeof line, text);
	log->fn(log->user, level, line);
	errno = saved;
}

void rv_log_stderr(void *user, rv_log_level level, const char *line) {
	if (level != RV_LOG_WARN && (level != RV_LOG_INFO || !user))
		return;
	/* One write a line, so that lines of several threads do not mix. */
	char out[LINE_MAX_BYTES + 16];
	int n = snprintf(out, sizeof out, "ruvltra: %s\n", line);
	if (n < 0)
		return;
	size_t size = (size_t)n < sizeof out ? (size_t)n : sizeof out - 1;
	out[size - 1] = '\n';
	for (size_t done = 0; done < size;) {
		ssize_t put = write(STDERR_FILENO, out + done, size - done);
		if (put > 0)
			done += (size_t)put;
		else if (put == 0 || errno != EINTR)
			return; /* there is nowhere left to say so */
	}
}
