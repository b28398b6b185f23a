#include "lab/sona_bench.h"

#include "lab/sona_place.h"

#include <string.h>

/* The best of a few tried on one stream (seed 1) and the writers that are for choosing: of 3e-4 and
 * 1e-3, of 2e-3, 3e-3 and 6e-3. Layers, site and rank of plain adaptation were not varied: the full
 * profile sweeps all of them, its tune_right_pct says whether another is better. */
#define FULL_LR 3e-4
#define PLAIN_LR 3e-3
enum { BATCH = 4 /* sequences of a step: about a dozen requests */ };
/* Plain adaptation: what forgetting is held against. */
static const rv_sona_knobs plain_knobs = {.layers = "all", .site = RV_SITE_PROJ_ALL, .rank = 4};

static rv_status score(rv_sona_bench *b, rv_shift_scorer *scorer, rv_sona_scores *out) {
	*out = (rv_sona_scores){0};
	RV_TRY(rv_shift_score_new(scorer, &b->stream.held, &out->held));
	if (b->stream.tune.n > 0)
		RV_TRY(rv_shift_score_new(scorer, &b->stream.tune, &out->tune));
	return rv_shift_score_old(scorer, &b->stream.old, &out->old);
}

rv_status rv_sona_bench_open(rv_sona_bench *b, const rv_run_config *config, rv_model *model,
                             const rv_sona_bench_size *size) {
	memset(b, 0, sizeof *b);
	b->config = config;
	b->model = model;
	b->n_looks = size->n_looks;
	RV_TRY(rv_shift_stream_open(&b->stream, config->root, model, &size->docs));
	RV_TRY(rv_shift_scorer_open(&b->scorer, config, model, &b->stream));
	RV_TRY(rv_shift_fitter_open(&b->fitter, config, model, &b->stream));
	return score(b, &b->scorer, &b->base);
}

void rv_sona_bench_close(rv_sona_bench *b) {
	rv_shift_fitter_close(&b->fitter);
	rv_shift_scorer_close(&b->scorer);
	rv_shift_stream_close(&b->stream);
	memset(b, 0, sizeof *b);
}

/* ---- by back-propagation ---- */

static rv_status score_whole(rv_sona_bench *b, rv_model *whole, rv_sona_scores *out) {
	rv_shift_scorer scorer;
	rv_status status = rv_shift_scorer_open(&scorer, b->config, whole, &b->stream);
	if (status == RV_OK)
		status = score(b, &scorer, out);
	rv_shift_scorer_close(&scorer);
	return status;
}

static rv_status fit(rv_sona_bench *b, int full, const rv_sona_knobs *knobs, rv_sona_learnt *out) {
	rv_shift_plan plan = {.full = full,
	                      .site = knobs->site,
	                      .rank = knobs->rank,
	                      .lr = knobs->lr > 0 ? knobs->lr
	                            : full        ? FULL_LR
	                                          : PLAIN_LR,
	                      .epochs = 1,
	                      .batch = BATCH,
	                      .lambda = knobs->lambda > 0 ? knobs->lambda : 0,
	                      .replay = knobs->replay > 0 ? knobs->replay : 0,
	                      .seed = knobs->seed};
	rv_shift_fitted fitted;
	plan.n_layers = rv_sona_place(knobs->layers, rv_model_hparams(b->model)->n_layers, plan.layers);
	*out = (rv_sona_learnt){0};
	rv_status status = rv_shift_fit(&b->fitter, &plan, &fitted);
	if (status == RV_OK && full)
		status = score_whole(b, fitted.whole, &out->end);
	if (status == RV_OK && !full)
		status = rv_shift_scorer_adapt(&b->scorer, fitted.adapter);
	if (status == RV_OK && !full)
		status = score(b, &b->scorer, &out->end);
	out->seconds = fitted.seconds;
	out->n_steps = fitted.n_steps;
	rv_shift_fitted_release(&fitted);
	return status;
}

rv_status rv_sona_bench_yardstick(rv_sona_bench *b, uint64_t seed, const rv_sona_yardstick **out) {
	for (int i = 0; i < b->n_yardsticks; i++)
		if (b->yardsticks[i].seed == seed) {
			*out = &b->yardsticks[i];
			return RV_OK;
		}
	if (b->n_yardsticks == RV_SONA_YARDSTICKS)
		return rv_fail(RV_ERR_LIMIT, "more than %d seeds", RV_SONA_YARDSTICKS);
	rv_sona_yardstick *y = &b->yardsticks[b->n_yardsticks];
	rv_sona_knobs knobs = plain_knobs;
	y->seed = knobs.seed = seed;
	for (int full = 0; full < 2; full++)
		RV_TRY(fit(b, full, &knobs, &y->learnt[full]));
	b->n_yardsticks++;
	*out = y;
	return RV_OK;
}

/* Is it a yardstick, by another name? */
static int is_plain(const rv_sona_knobs *k) {
	return k->lr <= 0 && k->lambda <= 0 && k->replay <= 0 &&
	       strcmp(k->layers, plain_knobs.layers) == 0 && k->site == plain_knobs.site &&
	       k->rank == plain_knobs.rank;
}

rv_status rv_sona_bench_fit(rv_sona_bench *b, int full, const rv_sona_knobs *knobs,
                            rv_sona_learnt *out) {
	const rv_sona_yardstick *y;
	if (!is_plain(knobs))
		return fit(b, full, knobs, out);
	RV_TRY(rv_sona_bench_yardstick(b, knobs->seed, &y));
	*out = y->learnt[full];
	return RV_OK;
}

/* ---- while serving ---- */

/* Of one arm the way is shown, of its variations where they end. */
static int is_served_usually(const rv_sona_knobs *k) {
	return k->lr <= 0 && k->lambda < 0 && k->replay < 0 && strcmp(k->layers, "base") == 0 &&
	       k->site == RV_SITE_ATTN_OUT && k->rank == 4;
}

rv_status rv_sona_bench_serve(rv_sona_bench *b, rv_sona_arm arm, const rv_sona_knobs *knobs,
                              rv_sona_learnt *out) {
	rv_sona_serving serving;
	*out = (rv_sona_learnt){0};
	RV_TRY(rv_sona_arm_serving(arm, knobs, rv_model_hparams(b->model)->n_layers, b->stream.n_stream,
	                           &serving));
	serving.n_looks = is_served_usually(knobs) ? b->n_looks : 1;
	serving.options.n_threads = b->config->n_threads;
	RV_TRY(rv_sona_serve(b->config, b->model, &b->stream, &b->scorer, &b->fitter.replay, &serving,
	                     &out->served));
	const rv_sona_look *last = &out->served.looks[RV_SONA_LOOKS - 1];
	out->end = (rv_sona_scores){.held = last->held, .old = last->old};
	return b->stream.tune.n > 0 ? rv_shift_score_new(&b->scorer, &b->stream.tune, &out->end.tune)
	                            : RV_OK;
}
