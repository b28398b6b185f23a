/* Diagnostics: a sink the program installs; the library itself never prints. */
#ifndef RV_BASE_LOG_H
#define RV_BASE_LOG_H

typedef enum rv_log_level { RV_LOG_DEBUG, RV_LOG_INFO, RV_LOG_WARN } rv_log_level;

/* A sink is part of the options of whatever object reports through it (model, context, sweep), so
 * there is no global logger. `line` has no newline and is valid during the call only; calls may come
 * from any thread. */
typedef void rv_log_fn(void *user, rv_log_level level, const char *line);
typedef struct rv_log {
	rv_log_fn *fn; /* NULL: discard */
	void *user;
} rv_log;

void rv_logf(const rv_log *log, rv_log_level level, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* A sink that writes "ruvltra: <line>" to stderr, warnings always, info when `user` is not NULL. */
void rv_log_stderr(void *user, rv_log_level level, const char *line);

#endif
