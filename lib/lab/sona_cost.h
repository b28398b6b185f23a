/* What learning while serving costs: requests decoded with it and without, in turns token by token, so
 * that what slows the machine down slows both down. */
#ifndef RV_LAB_SONA_COST_H
#define RV_LAB_SONA_COST_H

#include "lab/experiment.h"
#include "learn/instant.h"

enum { RV_SONA_COST_PROMPT = 16, RV_SONA_COST_TOKENS = 32 };

typedef struct rv_sona_cost {
	/* plain; with capture alone; with capture and MicroLoRA */
	rv_context *ctx[3];
	rv_capture *capture[3];
	rv_adapter_slot *slot;
	rv_instant *instant;
	int64_t n_vocab;
} rv_sona_cost;

/* Medians, s. */
typedef struct rv_sona_cost_sample {
	double token[3]; /* a token decoded; as ctx */
	double learn;    /* the instant loop at a request's end; NaN: no local gradient */
} rv_sona_cost_sample;

/* `cost` is zeroed; close it after a failure too. */
rv_status rv_sona_cost_open(rv_sona_cost *cost, const rv_run_config *config, rv_model *model,
                            const rv_micro_lora_options *micro);
void rv_sona_cost_close(rv_sona_cost *cost);
enum { RV_SONA_COST_REQUESTS = 64 };
/* 1..RV_SONA_COST_REQUESTS requests of random tokens under the seed, after one that is not counted. */
rv_status rv_sona_cost_measure(rv_sona_cost *cost, uint64_t seed, int n_requests,
                               rv_sona_cost_sample *out);

#endif
