/* The report program. It writes results/report.md and report.html from the tables the experiments left,
 * or prints the foot line of a plot. */
#include "lab/report.h"
#include "base/options.h"

#include <stdio.h>

typedef struct options {
	const char *results, *no_plots, *footer;
	int help;
} options;

static const rv_option table[] = {
        {.name = "results",
         .kind = RV_OPT_STRING,
         .offset = offsetof(options, results),
         .value_name = "DIR",
         .help = "folder of the experiments' results"},
        {.name = "no-plots",
         .kind = RV_OPT_STRING,
         .offset = offsetof(options, no_plots),
         .value_name = "WHY",
         .help = "say why there are no plots instead of showing them"},
        {.name = "footer",
         .kind = RV_OPT_STRING,
         .offset = offsetof(options, footer),
         .value_name = "EXPERIMENT",
         .help = "print the line for the foot of its plot, write nothing"},
        {.name = "help",
         .letter = 'h',
         .kind = RV_OPT_FLAG,
         .offset = offsetof(options, help),
         .help = "this text"},
        {.name = NULL},
};

#define MAX_EXPERIMENTS 64

int main(int argc, char **argv) {
	options opt = {.results = "results"}, defaults = opt;
	const rv_option *const tables[] = {table, NULL};
	const char *names[MAX_EXPERIMENTS];
	int n_names = 0;
	if (rv_options_parse(tables, (void *const[]){&opt, NULL}, argc, argv, names, MAX_EXPERIMENTS,
	                     &n_names) != RV_OK) {
		fprintf(stderr, "report: %s\n", rv_error_message());
		return 2;
	}
	rv_status status;
	if (opt.help) {
		char *text = NULL;
		status = rv_options_help(tables, (void *const[]){&defaults, NULL}, &text);
		if (status == RV_OK)
			printf("usage: report [options] EXPERIMENT...\n\n%s", text);
	} else if (opt.footer != NULL) {
		char line[512];
		status = rv_report_footer(opt.results, opt.footer, line, sizeof line);
		if (status == RV_OK)
			printf("%s\n", line);
	} else {
		status = rv_report_write(
		        &(rv_report_options){opt.results, names, n_names, opt.no_plots});
	}
	if (status != RV_OK)
		fprintf(stderr, "report: %s\n", rv_error_message());
	return status == RV_OK ? 0 : 1;
}
