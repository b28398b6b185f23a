/* ruvltra train router: the agent router's file from labelled requests. */
#include "cli/cmd_train.h"
#include "learn/agent_train.h"

#include <stdio.h>

typedef struct router_args {
	const char *lexicon, *held, *embedder, *held_embedder, *out;
	rv_option_list data, more;
	double more_weight, min_score;
	int64_t more_limit, epochs;
	int shuffle;
} router_args;

#define AT(field) offsetof(router_args, field)
static const rv_option options[] = {
        {"lexicon", 0, RV_OPT_STRING, AT(lexicon), 0, 0, NULL, NULL, "TSV", "phrases by meaning"},
        {"data", 0, RV_OPT_LIST, AT(data), 0, 0, NULL, NULL, "TSV",
         "requests written by hand: learnt, and examples that vote; repeatable"},
        {"more", 0, RV_OPT_LIST, AT(more), 0, 0, NULL, NULL, "FILE",
         "other requests to learn from: a table or corpus text; repeatable"},
        {"more-weight", 0, RV_OPT_DOUBLE, AT(more_weight), 0, 100, NULL, NULL, NULL,
         "weight of a request of these"},
        {"more-limit", 0, RV_OPT_INT, AT(more_limit), 0, 1e9, NULL, "requests", NULL,
         "taken of each of these; 0: all"},
        {"held", 0, RV_OPT_STRING, AT(held), 0, 0, NULL, NULL, "TSV",
         "the file of --data to calibrate on"},
        {"embedder", 0, RV_OPT_STRING, AT(embedder), 0, 0, NULL, NULL, "MODEL", "embeds the examples"},
        {"held-embedder", 0, RV_OPT_STRING, AT(held_embedder), 0, 0, NULL, NULL, "MODEL",
         "one that was not trained on --held, for the calibration"},
        {"epochs", 0, RV_OPT_INT, AT(epochs), 1, 10000, NULL, NULL, NULL, "of the linear classifier"},
        {"min-score", 0, RV_OPT_DOUBLE, AT(min_score), 0, 1, NULL, NULL, NULL,
         "fail when the hybrid router's share right on --held is below"},
        {"shuffle-labels", 0, RV_OPT_FLAG, AT(shuffle), 0, 0, NULL, NULL, NULL,
         "a control: labels are dealt at random, and nothing can be learnt"},
        {"out", 0, RV_OPT_STRING, AT(out), 0, 0, NULL, NULL, "FILE",
         "file to write; none: scores alone"},
        {0},
};

typedef struct embedder {
	rv_model *model;
	rv_embedder *e;
} embedder;

static rv_status open_embedder(embedder *x, const char *path, int threads) {
	rv_embedder_options o = rv_embedder_defaults();
	if (!path)
		return RV_OK;
	o.n_threads = threads;
	o.log = rv_cli_log();
	RV_TRY(rv_model_open(&x->model, path, NULL));
	return rv_embedder_create(&x->e, x->model, &o);
}

static void close_embedder(embedder *x) {
	rv_embedder_destroy(x->e);
	rv_model_release(x->model);
}

static int report(const rv_cli *cli, const rv_agent_held_score *scores) {
	json_t *all = json_object();
	for (int k = 0; k < RV_ROUTERS; k++) {
		const rv_agent_held_score *s = &scores[k];
		if (!cli->common.json)
			printf("%-9s  %5.1f %% of %lld  Brier %.3f  ECE %.3f  complexity %.1f %%\n",
			       rv_agent_router_names[k], 100 * s->accuracy, (long long)s->n, s->brier,
			       s->ece, 100 * s->complexity);
		json_object_set_new(all, rv_agent_router_names[k],
		                    json_pack("{s:f, s:f, s:f, s:f, s:I}", "accuracy", s->accuracy,
		                              "brier", s->brier, "ece", s->ece, "complexity",
		                              s->complexity, "n", (json_int_t)s->n));
	}
	if (cli->common.json)
		return rv_cli_finish_json(cli, all);
	json_decref(all);
	return rv_cli_finish(cli);
}

static rv_status train(const rv_cli *cli, const router_args *args, rv_agent_held_score *scores) {
	rv_agent_train_options o = rv_agent_train_defaults();
	embedder shipped = {0}, held = {0};
	o.lexicon = args->lexicon;
	o.tables = args->data.items;
	o.n_tables = args->data.n;
	o.more = args->more.items;
	o.n_more = args->more.n;
	o.more_weight = args->more_weight;
	o.more_limit = args->more_limit;
	o.held = args->held;
	o.linear.epochs = (int)args->epochs;
	o.linear.seed = (uint64_t)cli->common.seed;
	o.shuffle_labels = args->shuffle;
	rv_status st = open_embedder(&shipped, args->embedder, (int)cli->common.threads);
	if (st == RV_OK)
		st = open_embedder(&held, args->held_embedder, (int)cli->common.threads);
	o.embedder = shipped.e;
	o.held_embedder = held.e;
	if (st == RV_OK)
		st = rv_agent_router_train(&o, args->out, scores);
	if (st == RV_OK && scores[RV_ROUTER_HYBRID].accuracy < args->min_score)
		st = rv_fail(RV_ERR_INVALID, "%s: held-out score %.3f is below %.3f", args->held,
		             scores[RV_ROUTER_HYBRID].accuracy, args->min_score);
	close_embedder(&held);
	close_embedder(&shipped);
	return st;
}

int rv_cmd_train_router(rv_cli *cli) {
	const rv_agent_train_options defaults = rv_agent_train_defaults();
	router_args args = {.more_weight = defaults.more_weight,
	                    .more_limit = defaults.more_limit,
	                    .epochs = defaults.linear.epochs};
	rv_agent_held_score scores[RV_ROUTERS];
	const rv_option *tables[] = {options, NULL};
	void *values[] = {&args};
	const int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (!args.lexicon || !args.held)
		return rv_cli_usage(cli, "--lexicon and --held: files are needed");
	if (args.data.n < 2)
		return rv_cli_usage(cli, "--data: at least two files are needed");
	return train(cli, &args, scores) == RV_OK ? report(cli, scores) : rv_cli_fail(cli);
}
