#include "eval/routing_set.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "learn/agent_roles.h"

#include <stdio.h>
#include <string.h>

#define SET_BYTES_MAX ((size_t)1 << 26)

/* The number of a member's value among names. */
static rv_status member(const json_t *row, const char *where, const char *key, const char *const *names,
                        int n, int *out) {
	const char *value;
	RV_TRY(rv_json_string(row, where, key, &value));
	*out = rv_agent_index(names, n, value, strlen(value));
	return *out >= 0 ? RV_OK
	                 : rv_fail(RV_ERR_FORMAT, "%s: key '%s': '%.64s' is no value of it", where, key,
	                           value);
}

static rv_status read_row(rv_routing_item *item, const json_t *row, const char *where) {
	const char *text, *form;
	RV_TRY(rv_json_string(row, where, "text", &text));
	RV_TRY(rv_json_string(row, where, "form", &form));
	RV_TRY(member(row, where, "agent", rv_agent_names, RV_AGENTS, &item->agent));
	RV_TRY(member(row, where, "category", rv_agent_classes, RV_AGENT_CLASSES, &item->task_class));
	RV_TRY(member(row, where, "difficulty", rv_agent_levels, RV_AGENT_LEVELS, &item->difficulty));
	RV_TRY(member(row, where, "complexity", rv_agent_levels, RV_AGENT_LEVELS, &item->complexity));
	if (item->task_class != item->agent && item->task_class != RV_AGENTS)
		return rv_fail(RV_ERR_FORMAT, "%s: key 'category': not that of its agent", where);
	item->adversarial = strcmp(form, "adversarial") == 0;
	item->len = strlen(text);
	return rv_strdup(&item->text, text);
}

static rv_status read_all(rv_routing_set *set, const char *path, const char *data, size_t size) {
	long long line = 0;
	int64_t cap = 0;
	for (const char *at = data, *end = data + size; at < end;) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		char where[4200];
		json_t *row;
		stop = stop ? stop : end;
		snprintf(where, sizeof where, "%s:%lld", path, ++line);
		if (set->n == cap) {
			RV_TRY(RV_GROW(&set->items, cap, 2 * cap + 256, "requests"));
			cap = 2 * cap + 256;
		}
		RV_TRY(rv_json_parse(at, (size_t)(stop - at), where, &row));
		const rv_status st = read_row(&set->items[set->n], row, where);
		json_decref(row);
		RV_TRY(st);
		set->n++;
		at = stop + 1;
	}
	return set->n ? RV_OK : rv_fail(RV_ERR_FORMAT, "%s: it holds no requests", path);
}

rv_status rv_routing_set_open(rv_routing_set *out, const char *path) {
	char *data;
	size_t size;
	rv_routing_set set = {0};
	RV_TRY(rv_file_read(path, SET_BYTES_MAX, &data, &size));
	const rv_status st = read_all(&set, path, data, size);
	rv_free(data);
	if (st == RV_OK)
		*out = set;
	else
		rv_routing_set_close(&set);
	return st;
}

void rv_routing_set_close(rv_routing_set *set) {
	for (int64_t i = 0; i < set->n; i++)
		rv_free(set->items[i].text);
	rv_free(set->items);
	memset(set, 0, sizeof *set);
}
