/* A store and its bank under a simulated clock. */
#ifndef RV_TESTS_MEMORY_BANK_FIXTURE_H
#define RV_TESTS_MEMORY_BANK_FIXTURE_H

#include "base/clock.h"
#include "tests/memory/bank_kit.h"

typedef struct fixture {
	char dir[256];
	rv_sim_clock clock;
	rv_store *store;
	rv_bank *bank;
	rv_bank_options options;
} fixture;

static void open_bank(fixture *f) {
	rv_store_options o = rv_store_defaults();
	o.clock = rv_sim_clock_source(&f->clock);
	assert_ok(rv_store_open(&f->store, f->dir, &o));
	assert_ok(rv_bank_open(&f->bank, f->store, &f->options));
}

static void close_bank(fixture *f) {
	assert_ok(rv_bank_close(f->bank));
	assert_ok(rv_store_close(f->store));
}

static void begin(fixture *f) {
	folder_make(f->dir);
	rv_sim_clock_init(&f->clock, KIT_START);
	f->options = rv_bank_defaults(RV_BANK_VARIANT_BASE);
	open_bank(f);
}

static void end(fixture *f) {
	close_bank(f);
	folder_remove(f->dir);
}

#endif
