/* Witness entries of a number, and a log to put them in. */
#ifndef RV_TESTS_MEMORY_WITNESS_KIT_H
#define RV_TESTS_MEMORY_WITNESS_KIT_H

#include "base/sysinfo.h"
#include "memory/witness.h"
#include "tests/memory/folder.h"

#include <math.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"

#define T0 INT64_C(1700000000000) /* UTC ms of entry 0 */

/* An entry and what its pointers point to. */
typedef struct numbered {
	char request_id[RV_UUID_TEXT], error[64];
	float query[RV_EMBEDDING_DIM], response[RV_EMBEDDING_DIM];
	const char *docs[2];
	rv_witness_entry entry;
} numbered;

/* Entry i: every tenth has an error, every third no quality. */
static void number_fill(numbered *e, int i) {
	rv_rng rng;
	rv_rng_seed(&rng, (uint64_t)i);
	rv_uuid_v4(&rng, e->request_id);
	for (int d = 0; d < RV_EMBEDDING_DIM; d++) {
		e->query[d] = (float)rv_rng_normal(&rng);
		e->response[d] = (float)rv_rng_normal(&rng);
	}
	snprintf(e->error, sizeof e->error, "Attempt %d ran out of time", i);
	e->docs[0] = "doc-\"1\"";
	e->docs[1] = "doc-\xc3\xa4";
	rv_witness_entry w = rv_witness_entry_defaults();
	w.request_id = e->request_id;
	w.session_id = i % 2 ? "odd" : "even";
	w.query_embedding = e->query;
	w.routing_decision =
	        (rv_routing_decision){"nano", 4096, 0.7f, 0.9f, 0.8f, {0.8f, 0.1f, 0.1f, 0}};
	w.model_used = i % 4 ? "nano" : "small";
	w.quality_score = i % 3 ? (float)(i % 100) / 100 : NAN;
	for (int p = 0; p < RV_LATENCY_COUNT; p++)
		w.latency_ms[p] = (double)((i * 7919) % 1000) + p;
	w.context_doc_ids = e->docs;
	w.n_context_doc_ids = (size_t)(i % 3);
	w.response_embedding = i % 5 ? e->response : NULL;
	w.timestamp = T0 + i;
	w.error = i % 10 ? NULL : e->error;
	e->entry = w;
}

static void append_numbered(rv_witness *w, int first, int n) {
	numbered e;
	for (int i = first; i < first + n; i++) {
		number_fill(&e, i);
		assert_ok(rv_witness_append(w, &e.entry));
	}
}

typedef struct log_kit {
	char dir[256];
	rv_store *store;
	rv_witness *witness;
} log_kit;

static void kit_open(log_kit *k, const rv_store_options *store, const rv_witness_options *options) {
	assert_ok(rv_store_open(&k->store, k->dir, store));
	assert_ok(rv_witness_open(&k->witness, k->store, options));
}

static void kit_close(log_kit *k) {
	assert_ok(rv_witness_close(k->witness));
	assert_ok(rv_store_close(k->store));
}

/* A new folder, a log without retention (entries are old). */
static rv_witness_options kit_make(log_kit *k) {
	rv_witness_options o = rv_witness_defaults();
	o.retain_ms = 0;
	folder_make(k->dir);
	kit_open(k, NULL, &o);
	return o;
}

static void kit_drop(log_kit *k) {
	kit_close(k);
	folder_remove(k->dir);
}

/* Waits for at most 10 s. */
static int64_t wait_committed(rv_witness *w, int64_t n) {
	rv_witness_stats s;
	int64_t end = rv_now_ns() + INT64_C(10000000000);
	do {
		rv_witness_get_stats(w, &s);
		if (s.committed < n)
			usleep(1000);
	} while (s.committed < n && rv_now_ns() < end);
	return s.committed;
}

#pragma GCC diagnostic pop

#endif
