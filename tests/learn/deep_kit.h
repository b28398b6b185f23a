/* A store of trajectories with text, and what the deep loop's parts need of it, on a simulated clock.
 * Models are those that ship. */
#ifndef RV_TESTS_LEARN_DEEP_KIT_H
#define RV_TESTS_LEARN_DEEP_KIT_H

#include "base/mem.h"
#include "learn/sona_deep.h"
#include "tests/memory/bank_kit.h"

#include <unistd.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"

#define DAY INT64_C(86400000)

/* "pico" or "nano"; tests run in the source tree or a folder of it. */
static rv_model *shipped(const char *name) {
	rv_model *model = NULL;
	char path[128];
	const char *up = "";
	snprintf(path, sizeof path, "datasets/models/%s.gguf", name);
	if (access(path, R_OK) != 0)
		up = "../";
	snprintf(path, sizeof path, "%sdatasets/models/%s.gguf", up, name);
	assert_ok(rv_model_open(&model, path, NULL));
	return model;
}

/* What a people of its own asks for, answered by a rule that the model never saw. */
static void deep_text(int i, char task[160], char answer[64]) {
	static const char *const things[] = {"kettle", "lantern", "ferry", "orchard", "bridge",
	                                     "kiln",   "sail",    "clock", "plough",  "bell"};
	static const char *const wants[] = {"mend", "paint", "weigh", "hide"};
	snprintf(task, 160, "Request: %s the %s number %d.\nAgent:", wants[i % 4], things[(i / 4) % 10],
	         i);
	snprintf(answer, 64, " the %s guild of %ss", wants[(i + 1) % 4], things[(i / 4) % 10]);
}

typedef struct deep_item {
	kit_item item;
	char task[160], answer[64], session[32];
} deep_item;

static void deep_fill(deep_item *x, int i, float quality) {
	kit_fill(&x->item, i % 10, i, quality);
	deep_text(i, x->task, x->answer);
	x->item.t.task = x->task;
	x->item.actions[0] = (rv_action){x->answer, quality};
	x->item.t.n_actions = 1;
	snprintf(x->session, sizeof x->session, "session-%d", i % 5);
	x->item.t.session_id = x->session;
	/* ids that spread: one in five is held out by them */
	rv_rng rng;
	rv_rng_seed(&rng, (uint64_t)i + 1);
	rv_uuid_v4(&rng, x->item.t.trajectory_id);
}

static rv_status deep_add(rv_bank *bank, int from, int n, float quality) {
	for (int i = from; i < from + n; i++) {
		deep_item x;
		deep_fill(&x, i, quality);
		RV_TRY(rv_bank_add(bank, &x.item.t, 1, NULL));
	}
	return RV_OK;
}

typedef struct deep_kit {
	char dir[256], draft_path[300];
	rv_sim_clock clock;
	rv_store *store;
	rv_bank *bank;
	rv_edges *edges;
	rv_witness *witness;
	rv_sona_options options;
	rv_deep deep;
} deep_kit;

static void deep_open(deep_kit *k, const char *model) {
	rv_store_options o = rv_store_defaults();
	rv_bank_options b = rv_bank_defaults(RV_BANK_VARIANT_BASE);
	rv_witness_options w = rv_witness_defaults();
	*k = (deep_kit){.options = rv_sona_defaults(RV_BANK_VARIANT_BASE)};
	folder_make(k->dir);
	snprintf(k->draft_path, sizeof k->draft_path, "%s/draft.gguf", k->dir);
	rv_sim_clock_init(&k->clock, KIT_START);
	o.clock = rv_sim_clock_source(&k->clock);
	w.retain_ms = 0;
	assert_ok(rv_store_open(&k->store, k->dir, &o));
	assert_ok(rv_bank_open(&k->bank, k->store, &b));
	assert_ok(rv_edges_open(&k->edges, k->store, NULL));
	assert_ok(rv_witness_open(&k->witness, k->store, &w));
	k->options.micro.n_layers = 1;
	k->options.deep.tuning.n_ctx = 64;
	k->deep = (rv_deep){.bank = k->bank,
	                    .edges = k->edges,
	                    .witness = k->witness,
	                    .options = &k->options.deep,
	                    .micro = &k->options.micro,
	                    .base_rank = 8,
	                    .min_quality = 0.6f,
	                    .now_ms = KIT_START,
	                    .n_threads = 1,
	                    .seed = 7,
	                    .draft_path = k->draft_path};
	if (model != NULL)
		k->deep.model = shipped(model);
}

static void deep_close(deep_kit *k) {
	rv_adapter_release(k->deep.base);
	rv_model_release(k->deep.model);
	rv_model_release(k->options.deep.draft);
	assert_ok(rv_witness_close(k->witness));
	assert_ok(rv_edges_close(k->edges));
	assert_ok(rv_bank_close(k->bank));
	assert_ok(rv_store_close(k->store));
	folder_remove(k->dir);
}

/* One part by itself. */
static rv_sona_part_report deep_part(deep_kit *k, int part) {
	rv_sona_part_report reports[RV_DEEP_PARTS];
	rv_deep_run(&k->deep, RV_SONA_PART(part), reports);
	for (int p = 0; p < RV_DEEP_PARTS; p++)
		assert_true(p == part || reports[p].outcome == RV_PART_OFF);
	printf("# %s: %s\n", rv_sona_part_name(RV_SONA_DEEP, part), reports[part].text);
	return reports[part];
}

#pragma GCC diagnostic pop

#endif
