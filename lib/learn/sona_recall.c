/* What an earlier process stored is learnt from too: the last rows of the bank back into the ring. */
#include "base/mem.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct recalling {
	rv_sona *s;
	int32_t *tokens; /* [3, cap] */
	int64_t cap;
} recalling;

/* A list of ids that the vocabulary has; what is malformed was written by somebody else: none. */
static int64_t read_ids(const recalling *c, const json_t *o, const char *key, int32_t *out) {
	const json_t *list = json_object_get(o, key);
	int64_t n_vocab = rv_model_hparams(c->s->model)->n_vocab;
	size_t n = json_array_size(list);
	if (n > (size_t)c->cap)
		return 0;
	for (size_t i = 0; i < n; i++) {
		json_int_t id = json_integer_value(json_array_get(list, i));
		if (!json_is_integer(json_array_get(list, i)) || id < 0 || id >= n_vocab)
			return 0;
		out[i] = (int32_t)id;
	}
	return (int64_t)n;
}

static rv_status push_served(recalling *c, const rv_db_row *row, const json_t *metadata) {
	const char *request = rv_row_text(row, 1), *session = rv_row_text(row, 2);
	const char *source = json_string_value(json_object_get(metadata, "quality_source"));
	const json_t *likelihood = json_object_get(metadata, "likelihood");
	const double rated = json_number_value(json_object_get(metadata, "rated"));
	const int is_rated = json_is_number(json_object_get(metadata, "rated")) && rv_quality_ok(rated);
	const rv_quality_source known = rv_quality_source_by_name(source);
	rv_served served = {.time_ms = rv_row_int(row, 3),
	                    .quality = is_rated ? rated : rv_row_real(row, 4),
	                    .source = known < RV_QUALITY_COUNT ? known : RV_QUALITY_NONE,
	                    .likelihood = json_is_number(likelihood) ? json_number_value(likelihood)
	                                                             : (double)NAN,
	                    .prompt = c->tokens,
	                    .answer = c->tokens + c->cap,
	                    .correction = c->tokens + 2 * c->cap};
	served.n_prompt = read_ids(c, metadata, "prompt", c->tokens);
	served.n_answer = read_ids(c, metadata, "answer", c->tokens + c->cap);
	served.n_correction = read_ids(c, metadata, "correction", c->tokens + 2 * c->cap);
	if (served.n_prompt == 0 || served.n_correction > c->s->o.ring.max_correction)
		return RV_OK;
	if (served.n_correction == 0)
		served.correction = NULL;
	snprintf(served.request_id, sizeof served.request_id, "%s", request ? request : "");
	snprintf(served.session_id, sizeof served.session_id, "%.36s", session ? session : "");
	return rv_trajectory_ring_push(c->s->ring, &served, NULL);
}

/* The router's example of a row that says which model answered. */
static rv_status push_example(rv_sona *s, const rv_db_row *row) {
	rv_fastgrnn_example *e = &s->examples[s->n_examples % RV_SONA_EXAMPLES];
	size_t size;
	rv_row_blob(row, 6, &size);
	if (rv_row_is_null(row, 7) || size != RV_SONA_FEATURES * sizeof(float))
		return RV_OK;
	int slot = (int)rv_row_int(row, 7);
	int good = rv_row_real(row, 4) >= s->o.instant_how.threshold;
	if (slot < 0 || slot >= RV_FASTGRNN_SLOTS)
		return RV_OK;
	*e = (rv_fastgrnn_example){0};
	RV_TRY(rv_row_f32(row, 6, e->input.query, RV_SONA_FEATURES));
	e->target =
	        (rv_fastgrnn_decision){.slot = good || slot == RV_FASTGRNN_SLOTS - 1 ? slot : slot + 1,
	                               .temperature = 0.7f,
	                               .top_p = 0.9f,
	                               .micro_lora = e->input.policy[2] > 0.5f};
	s->n_examples++;
	return RV_OK;
}

static rv_status recall_row(void *user, const rv_db_row *row) {
	recalling *c = user;
	const char *text = rv_row_text(row, 5);
	json_t *metadata = NULL;
	if (text)
		RV_TRY(rv_json_parse(text, strlen(text), "trajectory's metadata", &metadata));
	rv_status st = push_served(c, row, metadata);
	json_decref(metadata);
	return st == RV_OK ? push_example(c->s, row) : st;
}

/* Ids of a seeded generator go on where those of the rows that are there ended. */
static rv_status skip_ids(rv_sona *s, rv_db *db) {
	int64_t last;
	RV_TRY(rv_db_int(db, "trajectories", "SELECT coalesce(max(key), 0) FROM trajectories", NULL, 0,
	                 &last));
	if (s->o.seeded)
		rv_rng_stream(&s->rng, s->o.seed,
		              ((uint64_t)s->state.generation << 32) + (uint64_t)last + 1);
	return RV_OK;
}

static rv_status read_rows(void *user, rv_db *db) {
	recalling *c = user;
	RV_TRY(skip_ids(c->s, db));
	return RV_DB_QUERY(db, "trajectories", recall_row, c,
	                   "SELECT * FROM (SELECT key, request_id, session_id, created_at,"
	                   " final_quality, metadata, routing_features, model_index FROM trajectories"
	                   " WHERE variant = ?1 ORDER BY key DESC LIMIT ?2) ORDER BY key",
	                   RV_TEXT(rv_bank_variant_name(c->s->o.variant)),
	                   RV_INT(c->s->o.ring.capacity));
}

/* Which of them were trained on already: numbers are this process's, times are not. */
static rv_status find_tuned(rv_sona *s, int32_t *tokens) {
	uint64_t oldest, newest;
	rv_served v;
	rv_trajectory_ring_range(s->ring, &oldest, &newest);
	for (uint64_t i = oldest; i > 0 && i <= newest; i++) {
		RV_TRY(rv_trajectory_ring_read(s->ring, i, &v, tokens));
		if (v.time_ms <= s->state.tuned_ms)
			s->state.tuned = i;
	}
	return RV_OK;
}

rv_status rv_sona_recall(rv_sona *s) {
	recalling c = {.s = s, .cap = s->o.ring.max_tokens};
	RV_TRY(RV_ALLOC(&c.tokens, 3 * c.cap + s->o.ring.max_correction, "tokens"));
	rv_status st = rv_store_read(s->store, read_rows, &c);
	if (st == RV_OK)
		st = find_tuned(s, c.tokens);
	rv_free(c.tokens);
	return st;
}
