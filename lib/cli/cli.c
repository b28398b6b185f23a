#include "cli/cli.h"

#include "base/build_info.h"
#include "base/mem.h"
#include "base/threads.h"
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_TABLES 9
#define MAX_THREADS 1024

const rv_command rv_commands[] = {
#define ROW(name, words, max_words, own_threads, summary, notes)                                       \
	{#name, words, max_words, own_threads, rv_cmd_##name, summary, notes},
        RV_COMMAND_TABLE(ROW)
#undef ROW
                {0},
};

/* ---- options ---- */

#define ROW(field) offsetof(rv_cli_common, field)
static const rv_option common_options[] = {
        {.name = "help", .letter = 'h', .kind = RV_OPT_FLAG, .offset = ROW(help), .help = "this text"},
        {.name = "json", .kind = RV_OPT_FLAG, .offset = ROW(json), .help = "print one JSON value"},
        {.name = "seed",
         .kind = RV_OPT_INT,
         .offset = ROW(seed),
         .min = 0,
         .max = 9007199254740992.0,
         .help = "of everything random"},
        {0},
};
static const rv_option threads_options[] = {
        {.name = "threads",
         .letter = 't',
         .kind = RV_OPT_INT,
         .offset = ROW(threads),
         .min = 1,
         .max = MAX_THREADS,
         .help = "worker threads"},
        {0},
};
#undef ROW

static int print_help(const rv_cli *cli, const rv_option *const *tables, void *const *values) {
	const rv_command *c = cli->command;
	char *text;
	if (rv_options_help(tables, values, &text) != RV_OK)
		return rv_cli_fail(cli);
	printf("usage: ruvltra %s [OPTIONS]%s%s\n\n%s.\n%s\n%s", c->name, c->words[0] ? " " : "",
	       c->words, c->summary, c->notes ? c->notes : "", text);
	rv_free(text);
	return rv_cli_finish(cli);
}

/* --help wins over whatever else is wrong with the line, but "--" ends options. */
static int asks_for_help(int argc, char **argv) {
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return 1;
	return 0;
}

int rv_cli_parse(rv_cli *cli, const rv_option *const *tables, void *const *values) {
	const rv_option *all[MAX_TABLES] = {0};
	void *into[MAX_TABLES] = {0};
	int n = 0;
	for (; tables && tables[n]; n++) {
		all[n] = tables[n];
		into[n] = values[n];
	}
	if (!cli->command->own_threads) {
		all[n] = threads_options;
		into[n++] = &cli->common;
	}
	all[n] = common_options;
	into[n] = &cli->common;
	if (asks_for_help(cli->argc, cli->argv))
		return print_help(cli, all, into);
	if (rv_options_parse(all, into, cli->argc, cli->argv, cli->words, cli->command->max_words,
	                     &cli->n_words) != RV_OK)
		return rv_cli_usage(cli, "%s", rv_error_message());
	return RV_CLI_GO;
}

/* ---- messages ---- */

static void print_error(const rv_cli *cli, const char *why) {
	fprintf(stderr, "ruvltra: %s%s%s\n", cli->command ? cli->command->name : "",
	        cli->command ? " " : "", why);
}

/* Whoever read our output has left (`| head`): what it wanted it has. */
static int reader_gone(void) {
	struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
	return poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
}

int rv_cli_fail(const rv_cli *cli) {
	int signal_number = rv_cli_signal(NULL);
	if (signal_number)
		return 128 + signal_number;
	if (reader_gone())
		return RV_EXIT_OK;
	print_error(cli, rv_error_message());
	return RV_EXIT_FAILED;
}

int rv_cli_usage(const rv_cli *cli, const char *fmt, ...) {
	char text[1024];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	rv_fail(RV_ERR_INVALID, "%s", text); /* escapes what the user typed */
	print_error(cli, rv_error_message());
	return RV_EXIT_USAGE;
}

/* ---- output ---- */

rv_status rv_cli_write(const void *data, size_t size) {
	if (fwrite(data, 1, size, stdout) == size && fflush(stdout) == 0)
		return RV_OK;
	return rv_fail_errno(reader_gone() ? RV_ERR_CANCELLED : RV_ERR_IO, "stdout");
}

int rv_cli_finish(const rv_cli *cli) {
	if (fflush(stdout) != 0)
		rv_fail_errno(RV_ERR_IO, "stdout");
	else if (ferror(stdout))
		rv_fail(RV_ERR_IO, "stdout: cannot be written");
	else
		return RV_EXIT_OK;
	return rv_cli_fail(cli);
}

/* ---- signals ---- */

static void held_signals(sigset_t *set) {
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	sigemptyset(set);
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		struct sigaction old;
		if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(set, numbers[i]);
	}
}

/* Blocked rather than caught: no handler, no global flag, and worker threads inherit the mask. */
void rv_cli_hold_signals(void) {
	sigset_t set;
	held_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int rv_cli_signal(void *unused) {
	(void)unused;
	sigset_t held, pending;
	held_signals(&held);
	if (sigpending(&pending) != 0)
		return 0;
	for (int i = 1; i < NSIG; i++)
		if (sigismember(&held, i) == 1 && sigismember(&pending, i) == 1)
			return i;
	return 0;
}

/* ---- start ---- */

/* A closed standard stream would give its number to the next file that is opened. The stand-in for
 * stdout and stderr refuses writes, so that lost output is still an error. */
static void open_standard_streams(void) {
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
			return;
}

static int print_usage(const rv_cli *cli, FILE *to) {
	fprintf(to, "usage: ruvltra COMMAND [OPTIONS] ...\n\n");
	for (const rv_command *c = rv_commands; c->name; c++)
		fprintf(to, "  %-10s %s\n", c->name, c->summary);
	fprintf(to, "\n'ruvltra COMMAND --help' lists the options of one; 'ruvltra --version'.\n");
	return rv_cli_finish(cli);
}

static int print_version(const rv_cli *cli) {
	printf("ruvltra %s\ncommit %s\n%s\nflags %s\n", rv_build_version(), rv_build_commit(),
	       rv_build_compiler(), rv_build_flags());
	return rv_cli_finish(cli);
}

int rv_cli_main(int argc, char **argv) {
	rv_cli cli = {.argc = argc - 1, .argv = argv + 1};
	open_standard_streams();
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		return rv_cli_usage(&cli, "command line: no command given; see 'ruvltra --help'");
	const char *name = argv[1];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
		return print_usage(&cli, stdout);
	if (strcmp(name, "--version") == 0)
		return print_version(&cli);
	for (const rv_command *c = rv_commands; c->name; c++) {
		if (strcmp(c->name, name) != 0)
			continue;
		cli.command = c;
		cli.common.threads = rv_threads_default_count();
		return c->run(&cli);
	}
	return rv_cli_usage(&cli, "command '%.64s': unknown; see 'ruvltra --help'", name);
}
