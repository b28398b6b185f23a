#include "learn/sona.h"

#include "base/file.h"
#include "base/mem.h"
#include "learn/sona_internal.h"
#include "learn/sona_state.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)

const char *const rv_sona_loop_names[RV_SONA_LOOPS + 1] = {"background", "deep", NULL};

#define RV_NAME(name, text) text,
static const char *const part_names[RV_SONA_LOOPS][RV_SONA_MAX_PARTS + 1] = {
        {RV_SONA_BACKGROUND_TABLE(RV_NAME) NULL},
        {RV_SONA_DEEP_TABLE(RV_NAME) NULL},
};
const char *const rv_sona_bytes_names[RV_SONA_BYTES_PARTS + 1] = {RV_SONA_BYTES_TABLE(RV_NAME) NULL};
#undef RV_NAME

const char *rv_sona_part_name(rv_sona_loop loop, int part) {
	return part >= 0 && part < RV_SONA_MAX_PARTS ? part_names[loop][part] : NULL;
}

/* ---- options ---- */

/* SPEC 1: hook layers of a model of 32, rank and rate of MicroLoRA. */
static const struct {
	int64_t hooks[4];
	int n_hooks;
	int64_t rank;
	double rate;
} by_variant[RV_BANK_VARIANT_COUNT] = {
        [RV_BANK_VARIANT_BASE] = {{8, 16, 24}, 3, 4, 0.01},
        [RV_BANK_VARIANT_CODER] = {{8, 16, 24, 28}, 4, 4, 0.01},
        [RV_BANK_VARIANT_AGENT] = {{8, 16, 24}, 3, 2, 0.02},
};

static rv_sona_tuning tuning_defaults(int64_t steps) {
	return (rv_sona_tuning){.steps = steps,
	                        .batch = 4,
	                        .n_ctx = 128,
	                        .rate = 1e-3,
	                        .lambda = 100,
	                        .replay = 0.25,
	                        .max_params = 100000000};
}

rv_sona_options rv_sona_defaults(rv_bank_variant variant) {
	rv_sona_options o = {.variant = variant,
	                     .instant = 1,
	                     .micro = rv_micro_lora_defaults(),
	                     .instant_how = rv_instant_defaults(),
	                     .ring = rv_ring_defaults(),
	                     .capture_tokens = 32,
	                     .capture_top = 64,
	                     .capture_gradients = RV_CAPTURE_AUTO,
	                     .rules = rv_realtime_defaults(),
	                     .consolidation = RV_CONSOLIDATE_SVD,
	                     .ema_keep = RV_EMA_BASE,
	                     .base_rank = RV_CONSOLIDATE_RANK,
	                     .fisher_decay = RV_EWC_DECAY,
	                     .replay_capacity = 256,
	                     .ewc_bytes = (size_t)64 << 20,
	                     .tuning = tuning_defaults(4),
	                     .n_threads = 1};
	o.micro.rank = by_variant[variant].rank;
	o.micro.lr = by_variant[variant].rate;
	o.instant_how.threshold = (double)rv_bank_defaults(variant).quality_threshold;
	o.loops[RV_SONA_BACKGROUND] = (rv_sona_trigger){
	        .on = 1, .every_ms = 10000, .max_ms = 2000, .parts = RV_SONA_ALL_PARTS};
	o.loops[RV_SONA_DEEP] = (rv_sona_trigger){.on = 1,
	                                          .every_ms = 7 * DAY_MS,
	                                          .every_sum = 1000,
	                                          .max_ms = 60000,
	                                          .parts = RV_SONA_ALL_PARTS};
	o.deep = (rv_sona_deep_options){.merge_similarity = 0.95f,
	                                .min_quality = -1,
	                                .max_age_ms = 30 * DAY_MS,
	                                .min_edge = 0.05f,
	                                .transfer_hops = 2,
	                                .transfer_per_session = 4,
	                                .tuning = tuning_defaults(32),
	                                .distill_steps = 32,
	                                .distill_rate = 1e-4,
	                                .archive_after_ms = 7 * DAY_MS};
	return o;
}

static int tuning_ok(const rv_sona_tuning *t) {
	return t->steps >= 0 && t->batch >= 1 && t->n_ctx >= 2 && t->rate >= 0 && t->lambda >= 0 &&
	       t->replay >= 0 && t->replay <= 1;
}

static rv_status check_options(const rv_sona_options *o) {
	const struct {
		const char *name;
		int ok;
	} checks[] = {
	        {"variant", (int)o->variant >= 0 && o->variant < RV_BANK_VARIANT_COUNT},
	        {"consolidation",
	         (int)o->consolidation >= 0 && o->consolidation < RV_CONSOLIDATE_COUNT},
	        {"ema_keep", o->ema_keep >= 0 && o->ema_keep <= 1},
	        {"base_rank", o->base_rank >= 1 && o->base_rank <= RV_ADAPTER_SWAP_RANK / 2},
	        {"fisher_decay", o->fisher_decay >= 0 && o->fisher_decay < 1},
	        {"replay_capacity", o->replay_capacity >= 1},
	        {"tuning", tuning_ok(&o->tuning)},
	        {"deep.tuning", tuning_ok(&o->deep.tuning)},
	        {"deep.tuning.n_ctx (that of the background loop)",
	         o->deep.tuning.n_ctx == o->tuning.n_ctx},
	        {"n_threads", o->n_threads >= 0},
	};
	for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
		if (!checks[i].ok)
			return rv_fail(RV_ERR_INVALID, "SONA: option %s is out of bounds",
			               checks[i].name);
	return RV_OK;
}

static void resolve(rv_sona *s) {
	rv_sona_options *o = &s->o;
	if (o->micro.n_layers == 0)
		o->micro.n_layers = rv_micro_lora_place(
		        by_variant[o->variant].hooks, by_variant[o->variant].n_hooks,
		        rv_model_hparams(s->model)->n_layers, o->micro.layers);
	if (o->n_threads == 0)
		o->n_threads = rv_threads_default_count();
	rv_model_retain(s->model);
	if (o->deep.draft)
		rv_model_retain(o->deep.draft);
}

const rv_sona_options *rv_sona_get_options(const rv_sona *s) {
	return &s->o;
}

/* ---- small services ---- */

int64_t rv_sona_now(const rv_sona *s) {
	return rv_clock_now_ms(&s->o.clock);
}

uint64_t rv_sona_seed(rv_sona *s) {
	pthread_mutex_lock(&s->lock);
	uint64_t seed = rv_rng_u64(&s->rng);
	pthread_mutex_unlock(&s->lock);
	return seed;
}

void rv_sona_warn(const rv_sona *s, const char *what) {
	rv_logf(&s->o.log, RV_LOG_WARN, "learning: %s: %s", what, rv_error_message());
}

/* ---- open, close ---- */

static rv_status open_parts(rv_sona *s, const char *dir) {
	const rv_sona_options *o = &s->o;
	if (o->seeded)
		rv_rng_seed(&s->rng, o->seed);
	else
		RV_TRY(rv_uuid_entropy(&s->rng));
	RV_TRY(rv_realtime_init(&s->realtime, &o->rules));
	RV_TRY(RV_ALLOC(&s->examples, RV_SONA_EXAMPLES, "router's examples"));
	RV_TRY(rv_adapter_slot_create(&s->slot, s->model));
	RV_TRY(rv_instant_create(&s->instant, s->model, &o->micro, &o->instant_how, s->slot));
	RV_TRY(rv_trajectory_ring_create(&s->ring, &o->ring));
	RV_TRY(rv_replay_create(&s->state.replay, o->tuning.n_ctx, o->replay_capacity,
	                        (int64_t)(o->seed & INT64_MAX)));
	if (o->router)
		RV_TRY(rv_fastgrnn_load(&s->state.router, o->router));
	s->state.router_trained = o->router != NULL;
	if (!dir)
		return RV_OK;
	RV_TRY(rv_strdup(&s->dir, dir));
	RV_TRY(rv_model_sha256(s->model, s->model_sha256));
	RV_TRY(rv_sona_memory_open(s, dir));
	RV_TRY(rv_sona_state_load(s));
	return rv_sona_recall(s);
}

/* Everything but what is written first. */
static rv_status release(rv_sona *s) {
	while (s->attachments)
		rv_sona_detach(s, s->attachments->ctx);
	for (int64_t i = 0; i < s->n_records; i++)
		rv_sona_record_free(s->records[i]);
	rv_free(s->records);
	rv_status st = rv_sona_memory_close(s);
	rv_instant_destroy(s->instant);
	rv_adapter_slot_destroy(s->slot);
	rv_trajectory_ring_destroy(s->ring);
	rv_fastgrnn_destroy(s->state.router);
	rv_ewc_destroy(s->state.ewc);
	rv_replay_destroy(s->state.replay);
	rv_replay_destroy(s->state.old);
	rv_free(s->state.draft);
	rv_free(s->examples);
	rv_free(s->dir);
	rv_model_release(s->o.deep.draft);
	rv_model_release(s->model);
	pthread_mutex_t *locks[] = {&s->pass, &s->drain, &s->embed, &s->lock, &s->wake_lock};
	for (size_t i = 0; i < sizeof locks / sizeof *locks; i++)
		pthread_mutex_destroy(locks[i]);
	pthread_cond_destroy(&s->idle);
	pthread_cond_destroy(&s->wake);
	rv_free(s);
	return st;
}

rv_status rv_sona_open(rv_sona **out, rv_model *model, const char *dir,
                       const rv_sona_options *options) {
	const rv_sona_options o = options ? *options : rv_sona_defaults(RV_BANK_VARIANT_BASE);
	rv_sona *s;
	pthread_condattr_t attr;
	RV_TRY(check_options(&o));
	RV_TRY(RV_ALLOC(&s, 1, "SONA"));
	s->o = o;
	s->model = model;
	s->state.slope = 1;
	pthread_mutex_t *locks[] = {&s->pass, &s->drain, &s->embed, &s->lock, &s->wake_lock};
	for (size_t i = 0; i < sizeof locks / sizeof *locks; i++)
		pthread_mutex_init(locks[i], NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->idle, NULL);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	resolve(s);
	rv_status st = open_parts(s, dir);
	if (st != RV_OK) {
		char why[RV_ERROR_MESSAGE_MAX];
		snprintf(why, sizeof why, "%s", rv_error_message());
		release(s);
		return rv_fail(st, "%s", why);
	}
	s->state.last_ms[RV_SONA_BACKGROUND] = s->state.last_ms[RV_SONA_BACKGROUND]
	                                               ? s->state.last_ms[RV_SONA_BACKGROUND]
	                                               : rv_sona_now(s);
	s->state.last_ms[RV_SONA_DEEP] =
	        s->state.last_ms[RV_SONA_DEEP] ? s->state.last_ms[RV_SONA_DEEP] : rv_sona_now(s);
	*out = s;
	return RV_OK;
}

rv_status rv_sona_flush(rv_sona *s) {
	RV_TRY(rv_sona_drain(s, NULL));
	if (s->edges && !s->o.read_only)
		RV_TRY(rv_edges_flush(s->edges));
	return s->witness ? rv_witness_flush(s->witness) : RV_OK;
}

rv_status rv_sona_save(rv_sona *s) {
	if (!s->dir || s->o.read_only)
		return rv_fail(RV_ERR_INVALID, "SONA: no store to save to");
	pthread_mutex_lock(&s->pass);
	rv_status st = rv_sona_state_save(s);
	pthread_mutex_unlock(&s->pass);
	return st;
}

rv_status rv_sona_close(rv_sona *s) {
	if (!s)
		return RV_OK;
	rv_sona_stop(s);
	char why[RV_ERROR_MESSAGE_MAX] = "";
	rv_status st = RV_OK;
	if (s->dir && !s->o.read_only) {
		st = rv_sona_flush(s);
		rv_status saved = rv_sona_save(s);
		st = st == RV_OK ? saved : st;
		snprintf(why, sizeof why, "%s", rv_error_message());
	}
	rv_status closed = release(s);
	return st != RV_OK ? rv_fail(st, "%s", why) : closed;
}

/* ---- looking in ---- */

rv_adapter_slot *rv_sona_slot(rv_sona *s) {
	return s->slot;
}

rv_instant *rv_sona_instant(rv_sona *s) {
	return s->instant;
}

rv_trajectory_ring *rv_sona_ring(rv_sona *s) {
	return s->ring;
}

rv_bank *rv_sona_bank(rv_sona *s) {
	return s->bank;
}

rv_store *rv_sona_store(rv_sona *s) {
	return s->store;
}

static size_t replay_bytes(const rv_replay *r) {
	return r ? (size_t)rv_replay_count(r) * (size_t)(2 * rv_replay_n_ctx(r) + 1) * 4 : 0;
}

static size_t base_bytes(rv_sona *s) {
	rv_adapter *base = NULL;
	size_t bytes = 0;
	if (rv_instant_snapshot(s->instant, &base, NULL) == RV_OK && base)
		bytes = rv_adapter_bytes(base);
	rv_adapter_release(base);
	return bytes;
}

void rv_sona_count_bytes(rv_sona *s, rv_sona_bytes *out) {
	rv_bank_stats bank = {0};
	*out = (rv_sona_bytes){0};
	size_t *part = out->part;
	if (s->bank && rv_bank_stats_get(s->bank, &bank) != RV_OK)
		rv_sona_warn(s, "patterns");
	part[RV_SONA_BYTES_MICRO] = rv_instant_bytes(s->instant);
	part[RV_SONA_BYTES_BASE] = base_bytes(s);
	part[RV_SONA_BYTES_RING] = rv_trajectory_ring_bytes(s->ring);
	part[RV_SONA_BYTES_PATTERNS] = bank.resident_bytes;
	pthread_mutex_lock(&s->pass);
	part[RV_SONA_BYTES_EWC] = s->state.ewc ? rv_ewc_bytes(s->state.ewc) : 0;
	part[RV_SONA_BYTES_REPLAY] = replay_bytes(s->state.replay) + replay_bytes(s->state.old);
	part[RV_SONA_BYTES_ROUTER] =
	        RV_SONA_EXAMPLES * sizeof *s->examples +
	        (s->state.router ? (size_t)rv_fastgrnn_count(s->state.router) * sizeof(float) : 0);
	pthread_mutex_unlock(&s->pass);
	pthread_mutex_lock(&s->lock);
	for (const rv_sona_attachment *a = s->attachments; a; a = a->next)
		part[RV_SONA_BYTES_CAPTURE] += rv_capture_bytes(a->capture);
	part[RV_SONA_BYTES_REQUESTS] = sizeof *s + rv_sona_records_bytes(s);
	pthread_mutex_unlock(&s->lock);
	for (int i = 0; i < RV_SONA_BYTES_PARTS; i++)
		out->total += part[i];
}

void rv_sona_get_stats(rv_sona *s, rv_sona_stats *out) {
	rv_instant_stats instant;
	rv_instant_get_stats(s->instant, &instant);
	pthread_mutex_lock(&s->lock);
	*out = s->stats;
	memcpy(out->n_fired, s->realtime.n_fired, sizeof out->n_fired);
	out->likelihood_slope = s->state.slope;
	out->likelihood_offset = s->state.offset;
	pthread_mutex_unlock(&s->lock);
	out->instant = instant;
}
