/* Trajectories as JSON, in and out. */
#include "base/mem.h"
#include "memory/trajectory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[] = {
        "trajectory_id",
        "task",
        "states",
        "actions",
        "final_quality",
        "metadata",
        "verdict",
        "request_id",
        "session_id",
        "query_embedding",
        "response_embedding",
        "routing_features",
        "model_index",
        "embedding",
        "variant",
        "source",
        "created_at",
        "quality",
        "weight",
        "embedder",
};

typedef struct reader {
	const json_t *obj;
	const char *place;
	rv_arena *memory;
} reader;

static rv_status check_keys(const json_t *obj, const char *place, const char *const *known, size_t n) {
	const char *key;
	json_t *value;
	if (!json_is_object(obj))
		return rv_fail(RV_ERR_FORMAT, "%s: not a JSON object", place);
	json_object_foreach((json_t *)(uintptr_t)obj, key, value) {
		size_t i = 0;
		while (i < n && strcmp(known[i], key) != 0)
			i++;
		if (i == n)
			return rv_fail(RV_ERR_FORMAT, "%s: unknown key '%s'", place, key);
	}
	return RV_OK;
}

/* RV_OK with the output untouched when the key is not there. */
static rv_status optional(rv_status status) {
	return status == RV_ERR_NOT_FOUND ? RV_OK : status;
}

static rv_status needed(rv_status status) {
	return status == RV_ERR_NOT_FOUND ? RV_ERR_FORMAT : status;
}

static rv_status copy_text(const reader *r, const char *text, const char **out) {
	char *copy = NULL;
	RV_TRY(rv_arena_strndup(r->memory, &copy, text, strlen(text)));
	*out = copy;
	return RV_OK;
}

static rv_status read_text(const reader *r, const char *key, const char **out) {
	const char *text = NULL;
	RV_TRY(rv_json_string(r->obj, r->place, key, &text));
	return copy_text(r, text, out);
}

static rv_status read_real(const json_t *obj, const char *place, const char *key, float *out) {
	double value = 0;
	RV_TRY(rv_json_double(obj, place, key, &value));
	*out = (float)value;
	return RV_OK;
}

/* An array of `min`..`max` finite numbers. */
static rv_status read_vector(const reader *r, const json_t *obj, const char *key, size_t min,
                             size_t max, const float **out, size_t *n_out) {
	const json_t *array = json_object_get(obj, key);
	if (array == NULL)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: key '%s' is missing", r->place, key);
	size_t n = json_array_size(array);
	if (!json_is_array(array) || n < min || n > max)
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s': %zu numbers, not %zu..%zu", r->place, key,
		               n, min, max);
	float *x = NULL;
	RV_TRY(rv_arena_alloc(r->memory, (void **)&x, n * sizeof *x));
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_array_get(array, i);
		x[i] = (float)json_number_value(item);
		if (!json_is_number(item) || !isfinite(x[i]))
			return rv_fail(RV_ERR_FORMAT, "%s: key '%s', item %zu: no finite number of f32",
			               r->place, key, i);
	}
	*out = x;
	if (n_out != NULL)
		*n_out = n;
	return RV_OK;
}

static rv_status read_embedding(const reader *r, const json_t *obj, const char *key,
                                const float **out) {
	return read_vector(r, obj, key, RV_EMBEDDING_DIM, RV_EMBEDDING_DIM, out, NULL);
}

/* The array at `key`; *n is 0 when it is not there. */
static rv_status read_steps(const reader *r, const char *key, const json_t **array, size_t *n) {
	*array = json_object_get(r->obj, key);
	*n = 0;
	if (*array == NULL)
		return RV_OK;
	if (!json_is_array(*array))
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s' is not an array", r->place, key);
	*n = json_array_size(*array);
	if (*n > RV_TRAJECTORY_MAX_STEPS)
		return rv_fail(RV_ERR_LIMIT, "%s: key '%s': more than %d", r->place, key,
		               RV_TRAJECTORY_MAX_STEPS);
	return RV_OK;
}

static rv_status read_states(const reader *r, rv_trajectory *t) {
	static const char *const known[] = {"layer", "embedding", "timestamp"};
	const json_t *array;
	RV_TRY(read_steps(r, "states", &array, &t->n_states));
	rv_state *states = NULL;
	RV_TRY(rv_arena_alloc(r->memory, (void **)&states, t->n_states * sizeof *states));
	for (size_t i = 0; i < t->n_states; i++) {
		const json_t *item = json_array_get(array, i);
		char place[320];
		snprintf(place, sizeof place, "%.250s: state %zu", r->place, i);
		const reader inner = {item, place, r->memory};
		RV_TRY(check_keys(item, place, known, 3));
		RV_TRY(needed(rv_json_int(item, place, "layer", 0, 100000, &states[i].layer)));
		RV_TRY(needed(rv_json_int(item, place, "timestamp", 0, RV_TIME_MAX_MS,
		                          &states[i].timestamp)));
		RV_TRY(needed(read_embedding(&inner, item, "embedding", &states[i].embedding)));
	}
	t->states = states;
	return RV_OK;
}

static rv_status read_actions(const reader *r, rv_trajectory *t) {
	static const char *const known[] = {"action", "quality"};
	const json_t *array;
	RV_TRY(read_steps(r, "actions", &array, &t->n_actions));
	rv_action *actions = NULL;
	RV_TRY(rv_arena_alloc(r->memory, (void **)&actions, t->n_actions * sizeof *actions));
	for (size_t i = 0; i < t->n_actions; i++) {
		const json_t *item = json_array_get(array, i);
		char place[320];
		snprintf(place, sizeof place, "%.250s: action %zu", r->place, i);
		const reader inner = {item, place, r->memory};
		RV_TRY(check_keys(item, place, known, 2));
		RV_TRY(needed(read_text(&inner, "action", &actions[i].action)));
		RV_TRY(needed(read_real(item, place, "quality", &actions[i].quality)));
	}
	t->actions = actions;
	return RV_OK;
}

static rv_status read_metadata(const reader *r, rv_trajectory *t) {
	const json_t *value = json_object_get(r->obj, "metadata");
	if (value == NULL)
		return RV_OK;
	if (!json_is_object(value))
		return rv_fail(RV_ERR_FORMAT, "%s: key 'metadata' is not an object", r->place);
	char *text = json_dumps(value, JSON_COMPACT);
	if (text == NULL)
		return rv_fail(RV_ERR_NO_MEMORY, "%s: key 'metadata'", r->place);
	rv_status st = copy_text(r, text, &t->metadata);
	free(text);
	return st;
}

/* A word of a table; `count` means unknown. */
static rv_status read_word(const reader *r, const char *key, int (*by_name)(const char *), int count,
                           int *out) {
	const char *word = NULL;
	RV_TRY(rv_json_string(r->obj, r->place, key, &word));
	int found = by_name(word);
	if (found == count)
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s': unknown '%.40s'", r->place, key, word);
	*out = found;
	return RV_OK;
}

static int verdict_of(const char *name) {
	return (int)rv_trajectory_verdict_by_name(name);
}

static int source_of(const char *name) {
	return (int)rv_source_by_name(name);
}

static int variant_of(const char *name) {
	return (int)rv_bank_variant_by_name(name);
}

static rv_status read_words(const reader *r, rv_trajectory *t) {
	int verdict = (int)t->verdict, source = (int)t->source, variant = (int)t->variant;
	RV_TRY(optional(read_word(r, "verdict", verdict_of, RV_VERDICT_COUNT, &verdict)));
	RV_TRY(optional(read_word(r, "source", source_of, RV_SOURCE_COUNT, &source)));
	RV_TRY(optional(read_word(r, "variant", variant_of, RV_BANK_VARIANT_COUNT, &variant)));
	t->verdict = (rv_trajectory_verdict)verdict;
	t->source = (rv_source)source;
	t->variant = (rv_bank_variant)variant;
	return RV_OK;
}

static rv_status read_id(const reader *r, rv_trajectory *t) {
	const char *id = NULL;
	RV_TRY(rv_json_string(r->obj, r->place, "trajectory_id", &id));
	if (!rv_uuid_valid(id))
		return rv_fail(RV_ERR_FORMAT, "%s: key 'trajectory_id': '%.40s' is no UUID", r->place,
		               id);
	memcpy(t->trajectory_id, id, RV_UUID_TEXT);
	return RV_OK;
}

static rv_status read_all(const reader *r, rv_trajectory *t) {
	RV_TRY(check_keys(r->obj, r->place, keys, sizeof keys / sizeof *keys));
	RV_TRY(optional(read_id(r, t)));
	RV_TRY(needed(read_text(r, "task", &t->task)));
	RV_TRY(read_states(r, t));
	RV_TRY(read_actions(r, t));
	RV_TRY(needed(read_real(r->obj, r->place, "final_quality", &t->final_quality)));
	RV_TRY(read_metadata(r, t));
	RV_TRY(read_words(r, t));
	RV_TRY(optional(read_text(r, "request_id", &t->request_id)));
	RV_TRY(optional(read_text(r, "session_id", &t->session_id)));
	RV_TRY(optional(read_embedding(r, r->obj, "query_embedding", &t->query_embedding)));
	RV_TRY(optional(read_embedding(r, r->obj, "response_embedding", &t->response_embedding)));
	RV_TRY(optional(read_embedding(r, r->obj, "embedding", &t->embedding)));
	RV_TRY(optional(read_vector(r, r->obj, "routing_features", 1, RV_TRAJECTORY_MAX_FEATURES,
	                            &t->routing_features, &t->n_routing_features)));
	RV_TRY(optional(rv_json_int(r->obj, r->place, "model_index", 0, 3, &t->model_index)));
	RV_TRY(optional(
	        rv_json_int(r->obj, r->place, "created_at", 0, RV_TIME_MAX_MS, &t->created_at)));
	RV_TRY(optional(read_real(r->obj, r->place, "quality", &t->quality)));
	RV_TRY(optional(read_real(r->obj, r->place, "weight", &t->weight)));
	RV_TRY(optional(read_text(r, "embedder", &t->embedder)));
	return rv_trajectory_check(t, r->place);
}

rv_status rv_trajectory_from_json(const json_t *obj, const char *place, rv_trajectory *out) {
	rv_trajectory t = rv_trajectory_defaults();
	RV_TRY(rv_arena_create(&t.memory, 16384, 1));
	const reader r = {obj, place, t.memory};
	rv_status st = read_all(&r, &t);
	if (st != RV_OK) {
		rv_trajectory_deinit(&t);
		return st;
	}
	*out = t;
	return RV_OK;
}

/* ---- out ---- */

static json_t *vector(const float *x, size_t n) {
	json_t *array = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, json_real((double)x[i]));
	return array;
}

static void set_vector(json_t *obj, const char *key, const float *x, size_t n) {
	if (x != NULL)
		json_object_set_new(obj, key, vector(x, n));
}

static void set_text(json_t *obj, const char *key, const char *text) {
	if (text != NULL)
		json_object_set_new(obj, key, json_string(text));
}

static json_t *states_json(const rv_trajectory *t) {
	json_t *array = json_array();
	for (size_t i = 0; i < t->n_states; i++) {
		const rv_state *s = &t->states[i];
		json_array_append_new(array,
		                      json_pack("{s:I, s:o, s:I}", "layer", (json_int_t)s->layer,
		                                "embedding", vector(s->embedding, RV_EMBEDDING_DIM),
		                                "timestamp", (json_int_t)s->timestamp));
	}
	return array;
}

static json_t *actions_json(const rv_trajectory *t) {
	json_t *array = json_array();
	for (size_t i = 0; i < t->n_actions; i++)
		json_array_append_new(array, json_pack("{s:s, s:f}", "action", t->actions[i].action,
		                                       "quality", (double)t->actions[i].quality));
	return array;
}

/* Everything but the metadata. NULL: out of memory, or text that is no UTF-8. */
static json_t *to_object(const rv_trajectory *t) {
	json_t *obj = json_pack("{s:s, s:o, s:o, s:f, s:s, s:s, s:s}", "task", t->task, "states",
	                        states_json(t), "actions", actions_json(t), "final_quality",
	                        (double)t->final_quality, "verdict",
	                        rv_trajectory_verdict_name(t->verdict), "variant",
	                        rv_bank_variant_name(t->variant), "source", rv_source_name(t->source));
	if (obj == NULL)
		return NULL;
	if (t->trajectory_id[0] != 0)
		set_text(obj, "trajectory_id", t->trajectory_id);
	set_text(obj, "request_id", t->request_id);
	set_text(obj, "session_id", t->session_id);
	set_text(obj, "embedder", t->embedder);
	set_vector(obj, "query_embedding", t->query_embedding, RV_EMBEDDING_DIM);
	set_vector(obj, "response_embedding", t->response_embedding, RV_EMBEDDING_DIM);
	set_vector(obj, "routing_features", t->routing_features, t->n_routing_features);
	if (t->embedding != t->query_embedding)
		set_vector(obj, "embedding", t->embedding, RV_EMBEDDING_DIM);
	if (t->model_index >= 0)
		json_object_set_new(obj, "model_index", json_integer(t->model_index));
	json_object_set_new(obj, "created_at", json_integer(t->created_at));
	if (t->weight > 0) {
		json_object_set_new(obj, "quality", json_real((double)t->quality));
		json_object_set_new(obj, "weight", json_real((double)t->weight));
	}
	return obj;
}

rv_status rv_trajectory_to_json(const rv_trajectory *t, char **text, size_t *len) {
	/* 9 digits bring every f32 back; metadata is the caller's own JSON and stays as it is */
	json_t *obj = to_object(t);
	char *head = obj ? json_dumps(obj, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	json_decref(obj);
	if (head == NULL)
		return rv_fail(RV_ERR_INVALID, "trajectory %s: cannot be written as JSON",
		               t->trajectory_id);
	const char *metadata = t->metadata ? t->metadata : "{}";
	size_t n = strlen(head) - 1, size = n + strlen(metadata) + sizeof ",\"metadata\":}";
	char *out = NULL;
	rv_status st = rv_alloc_uninit((void **)&out, size, 1, "trajectory's JSON");
	if (st == RV_OK) {
		int written = snprintf(out, size, "%.*s,\"metadata\":%s}", (int)n, head, metadata);
		*text = out;
		*len = (size_t)written;
	}
	free(head);
	return st;
}
