#include "cli/cli_sampling.h"

/* What a variant decides of sampling, in the order of rv_cli_variants. */
static const struct variant {
	double temperature, top_p;
} variants[] = {{0.7, 0.9}, {0.2, 0.95}, {0.3, 0.85}};

#define AT(field) offsetof(rv_cli_sampling, field)
const rv_option rv_cli_sampling_options[] = {
        {.name = "temp",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(sampler.temperature),
         .min = 0,
         .max = 1e3,
         .help = "temperature; 0: always the most probable token"},
        {.name = "top-k",
         .kind = RV_OPT_INT,
         .offset = AT(sampler.top_k),
         .min = 0,
         .max = 1 << 30,
         .help = "keep the K most probable tokens; 0: all"},
        {.name = "top-p",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(sampler.top_p),
         .min = 1e-9,
         .max = 1,
         .help = "keep the most probable tokens up to this probability; 1: all"},
        {.name = "min-p",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(sampler.min_p),
         .min = 0,
         .max = 1,
         .help = "keep tokens at least this probable, relative to the best; 0: all"},
        {.name = "repeat-penalty",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(sampler.repeat_penalty),
         .min = 1e-3,
         .max = 1e3,
         .help = "weaken tokens that occurred lately; 1: off"},
        {.name = "repeat-last",
         .kind = RV_OPT_INT,
         .offset = AT(sampler.repeat_last),
         .min = 0,
         .max = 1 << 20,
         .unit = "tokens",
         .help = "how far back --repeat-penalty looks"},
        {.name = "stop", .kind = RV_OPT_LIST, .offset = AT(stop), .help = "end before this text"},
        {0},
};

static rv_cli_sampling defaults(int variant) {
	rv_cli_sampling s = {.sampler = rv_sampler_defaults()};
	s.sampler.temperature = variants[variant].temperature;
	s.sampler.top_p = variants[variant].top_p;
	return s;
}

int rv_cli_parse_sampling(rv_cli *cli, const rv_option *const *tables, void *const *values,
                          rv_cli_sampling *s, rv_cli_model *load) {
	*s = defaults(0);
	int status = rv_cli_parse(cli, tables, values);
	if (status == RV_CLI_GO && load->variant) {
		/* The variant is known now: its defaults, and what was said over them. */
		*s = defaults(load->variant);
		load->lora.n = 0;
		status = rv_cli_parse(cli, tables, values);
	}
	for (int i = 0; status == RV_CLI_GO && i < s->stop.n; i++)
		if (!*s->stop.items[i])
			return rv_cli_usage(cli, "--stop: the text is empty");
	return status;
}

int rv_cli_open_sampler(const rv_cli *cli, const rv_cli_sampling *s, const rv_model *model,
                        rv_sampler **out) {
	rv_sampler_options o = s->sampler;
	o.seed = (uint64_t)cli->common.seed;
	if (rv_sampler_create(out, &o, rv_model_hparams(model)->n_vocab) != RV_OK)
		return rv_cli_fail(cli);
	return RV_CLI_GO;
}
