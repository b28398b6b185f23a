/* Policies from JSON files. */
#include "engine/kv_policy.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define MAX_BYTES ((size_t)1 << 20)

static rv_status get_format(const json_t *obj, const char *where, rv_kv_format *out) {
	const char *name;
	RV_TRY(rv_json_string(obj, where, "format", &name));
	*out = rv_kv_format_by_name(name);
	return *out == RV_KV_FORMATS
	               ? rv_fail(RV_ERR_INVALID, "%s: unknown KV format '%s'", where, name)
	               : RV_OK;
}

static rv_status get_range(const json_t *obj, const char *where, rv_kv_layer_range *out) {
	int64_t from, to;
	RV_TRY(rv_json_int(obj, where, "from", 0, INT16_MAX, &from));
	RV_TRY(rv_json_int(obj, where, "to", from, INT16_MAX, &to));
	out->from = (int32_t)from;
	out->to = (int32_t)to;
	return get_format(obj, where, &out->format);
}

/* The last tier has no end. */
static rv_status get_tier(const json_t *obj, const char *where, int last, rv_kv_tier *out) {
	out->tokens = INT64_MAX;
	if (!json_is_object(obj))
		return rv_fail(RV_ERR_FORMAT, "%s: not an object", where);
	if (!last)
		RV_TRY(rv_json_int(obj, where, "tokens", 0, INT32_MAX, &out->tokens));
	RV_TRY(get_format(obj, where, &out->format));
	const json_t *layers = json_object_get(obj, "layers");
	if (layers && (!json_is_array(layers) || json_array_size(layers) > RV_KV_RANGES))
		return rv_fail(RV_ERR_FORMAT, "%s: 'layers' is not a list of at most %d", where,
		               RV_KV_RANGES);
	for (size_t i = 0; i < json_array_size(layers); i++) {
		char place[160];
		snprintf(place, sizeof place, "%.100s, layers %zu", where, i);
		RV_TRY(get_range(json_array_get(layers, i), place, &out->ranges[out->n_ranges++]));
	}
	return RV_OK;
}

static rv_status get_policy(const json_t *obj, const char *name, rv_kv_policy *out) {
	const json_t *tiers = json_object_get(obj, "tiers");
	if (!json_is_object(obj) || !json_is_array(tiers) || json_array_size(tiers) > RV_KV_TIERS)
		return rv_fail(RV_ERR_FORMAT, "%s: 'tiers' is not a list of at most %d", name,
		               RV_KV_TIERS);
	out->n_tiers = (int)json_array_size(tiers);
	RV_TRY(rv_json_int(obj, name, "tail", 0, INT32_MAX, &out->tail));
	for (int i = 0; i < out->n_tiers; i++) {
		char place[128];
		snprintf(place, sizeof place, "%.100s: tier %d", name, i);
		RV_TRY(get_tier(json_array_get(tiers, (size_t)i), place, i + 1 == out->n_tiers,
		                &out->tiers[i]));
	}
	return RV_OK;
}

rv_status rv_kv_policy_parse_json(rv_kv_policy *out, const char *name, const char *text, size_t size) {
	json_t *json;
	*out = (rv_kv_policy){.n_tiers = 0};
	snprintf(out->name, sizeof out->name, "%s", name);
	RV_TRY(rv_json_parse(text, size, name, &json));
	rv_status st = get_policy(json, name, out);
	json_decref(json);
	return st;
}

rv_status rv_kv_policy_parse(rv_kv_policy *out, const char *text) {
	size_t n = strlen(text), size;
	char *data;
	if (n < 5 || strcmp(text + n - 5, ".json") != 0)
		return rv_kv_policy_parse_name(out, text);
	RV_TRY(rv_file_read(text, MAX_BYTES, &data, &size));
	rv_status st = rv_kv_policy_parse_json(out, text, data, size);
	rv_free(data);
	return st;
}
