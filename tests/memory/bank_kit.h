/* Trajectories whose embeddings lie around a few directions: what is near is known. */
#ifndef RV_TESTS_MEMORY_BANK_KIT_H
#define RV_TESTS_MEMORY_BANK_KIT_H

#include "base/mem.h"
#include "base/rng.h"
#include "memory/bank.h"
#include "tests/memory/folder.h"

#include <math.h>

#define KIT_START INT64_C(1700000000000)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"

/* Direction `topic` with a little of noise `variation`. */
static void kit_vector(int topic, int variation, float noise, float out[RV_EMBEDDING_DIM]) {
	rv_rng base, own;
	rv_rng_stream(&base, 11, (uint64_t)topic);
	rv_rng_stream(&own, 12, (uint64_t)(topic * 1000 + variation));
	for (int i = 0; i < RV_EMBEDDING_DIM; i++)
		out[i] = (float)rv_rng_normal(&base) + noise * (float)rv_rng_normal(&own);
}

typedef struct kit_item {
	float embedding[RV_EMBEDDING_DIM];
	rv_action actions[2];
	char task[64];
	rv_trajectory t;
} kit_item;

/* Fills a trajectory of its own id; what it points to is in the item. */
static void kit_fill(kit_item *item, int topic, int variation, float quality) {
	kit_vector(topic, variation, 0.2f, item->embedding);
	snprintf(item->task, sizeof item->task, "task %d of topic %d", variation, topic);
	item->actions[0] = (rv_action){"think", 0.5f};
	item->actions[1] = (rv_action){"write \"code\"\n", quality};
	item->t = rv_trajectory_defaults();
	snprintf(item->t.trajectory_id, sizeof item->t.trajectory_id, "%08x-0000-4000-8000-%012x",
	         topic, variation);
	item->t.task = item->task;
	item->t.query_embedding = item->embedding;
	item->t.actions = item->actions;
	item->t.n_actions = 2;
	item->t.final_quality = quality;
	item->t.verdict = quality > 0.5f ? RV_VERDICT_SUCCESS : RV_VERDICT_FAILURE;
	item->t.metadata = "{\"agent\":\"coder\",\"tokens\":256,\"x\":0.25}";
}

static rv_status kit_add(rv_bank *bank, int topic, int variation, float quality) {
	kit_item item;
	kit_fill(&item, topic, variation, quality);
	return rv_bank_add(bank, &item.t, 1, NULL);
}

#pragma GCC diagnostic pop

#endif
