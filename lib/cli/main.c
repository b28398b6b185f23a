#include "cli/cli.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

/* Models are mapped: when somebody truncates such a file the next access raises SIGBUS. The library
 * leaves signals to the program; this program ends with a line like any other error. */
static void on_sigbus(int signal_number) {
	static const char line[] = "ruvltra: model file: a mapped file was truncated while in use\n";
	(void)signal_number;
	ssize_t ignored = write(STDERR_FILENO, line, sizeof line - 1);
	(void)ignored;
	_exit(1);
}

int main(int argc, char **argv) {
	struct sigaction action = {.sa_handler = on_sigbus};
	sigaction(SIGBUS, &action, NULL);
	return rv_cli_main(argc, argv);
}
