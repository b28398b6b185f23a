/* The `ruvltra` command: a table of sub-commands, and what they share. Thin: parse, call, print.
 *
 * Exit status 0: done. 1: failed. 2: the command line is wrong. 128 + n: ended by signal n. Every error
 * is one line on stderr, "ruvltra: <what> <where>: <why>"; results alone go to stdout.
 */
#ifndef RV_CLI_CLI_H
#define RV_CLI_CLI_H

#include "base/json.h"
#include "base/options.h"
#include "base/status.h"

#include <stdint.h>

#define RV_CLI_GO (-1) /* from rv_cli_parse: no exit status yet */
#define RV_CLI_WORDS 16

enum { RV_EXIT_OK = 0, RV_EXIT_FAILED = 1, RV_EXIT_USAGE = 2 };

/* Options every sub-command takes. */
typedef struct rv_cli_common {
	int help, json;
	int64_t threads; /* filled with what this process may use */
	int64_t seed;
} rv_cli_common;

struct rv_command;

/* One invocation. */
typedef struct rv_cli {
	const struct rv_command *command;
	int argc;
	char **argv; /* argv[0]: the sub-command's name */
	rv_cli_common common;
	const char *words[RV_CLI_WORDS]; /* what is left after the options */
	int n_words;
} rv_cli;

typedef struct rv_command {
	const char *name;
	const char *words; /* arguments beside options, as usage shows them */
	int max_words;
	int own_threads;         /* has its own -t */
	int (*run)(rv_cli *cli); /* exit status */
	const char *summary;
	const char *notes; /* further lines of --help, or NULL */
} rv_command;

/* All sub-commands; the last row's name is NULL. */
extern const rv_command rv_commands[];

/* The whole program. */
int rv_cli_main(int argc, char **argv);

/* Parses the command line into tables[i] -> values[i] (at most 6, NULL-terminated) and the common
 * options. RV_CLI_GO, or the exit status after --help (0) or a message (2). */
int rv_cli_parse(rv_cli *cli, const rv_option *const *tables, void *const *values);

/* Prints the calling thread's rv_error_message() and returns the exit status a failure has. Silent
 * after a held signal (128 + n) and when the reader of stdout went away (0). */
int rv_cli_fail(const rv_cli *cli);
/* Prints "ruvltra: <command> <message>" and returns RV_EXIT_USAGE. */
int rv_cli_usage(const rv_cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Writes to stdout and flushes it. RV_ERR_IO when it cannot be written, RV_ERR_CANCELLED when its
 * reader went away (`| head`). */
rv_status rv_cli_write(const void *data, size_t size);
/* Flushes what printf left; the exit status of a command that has printed its result. */
int rv_cli_finish(const rv_cli *cli);
/* Prints `value` (taken over; NULL: out of memory) and finishes. */
int rv_cli_finish_json(const rv_cli *cli, json_t *value);

/* A JSON string of any bytes: what is no UTF-8 becomes U+FFFD. NULL: out of memory. */
json_t *rv_cli_json_text(const char *text, size_t len);
json_t *rv_cli_json_path(const char *path); /* the same of a string; null for NULL */
/* A JSON number, null when it is not finite. */
json_t *rv_cli_json_real(double value);

/* "1,2 3" into rv_free'd token ids, each in [0, n_vocab). */
rv_status rv_cli_parse_ids(const char *text, int64_t n_vocab, int32_t **ids, size_t *n);

/* From here on SIGINT, SIGTERM and SIGHUP (unless ignored) wait to be asked for. */
void rv_cli_hold_signals(void);
/* The signal that arrived, or 0. Suits the `cancelled` callbacks; `unused` may be NULL. */
int rv_cli_signal(void *unused);

#endif
