/* Points of a sweep: combinations of values, selections, keys. */
#include "lab/sweep.h"

#include "base/file.h"
#include "base/mem.h"
#include "lab/provenance.h"

#include <stdio.h>
#include <string.h>

const rv_param_value *rv_point_value(const rv_experiment *exp, const rv_point *point, int param) {
	return &exp->params[param].values[point->values[param]];
}

/* ---- selections ---- */

static int names_value(const char *item, const rv_param *p, const rv_param_value *v) {
	size_t n = strlen(p->name);
	return strncmp(item, p->name, n) == 0 && item[n] == '=' && strcmp(item + n + 1, v->text) == 0;
}

static rv_status unknown_value(const rv_param *p, const char *item, rv_profile profile) {
	char list[512] = "";
	size_t at = 0;
	for (int v = 0; v < p->n_values && at + 64 < sizeof list; v++)
		if (p->values[v].smallest <= profile)
			at += (size_t)snprintf(list + at, sizeof list - at, " %.60s",
			                       p->values[v].text);
	return rv_fail(RV_ERR_INVALID, "--only %s: %s is one of:%s", item, p->name, list);
}

static rv_status check_item(const rv_experiment *exp, rv_profile profile, const char *item) {
	const char *equals = strchr(item, '=');
	size_t n = equals != NULL ? (size_t)(equals - item) : 0;
	for (int i = 0; i < exp->n_params; i++) {
		const rv_param *p = &exp->params[i];
		if (equals == NULL || strlen(p->name) != n || memcmp(p->name, item, n) != 0)
			continue;
		for (int v = 0; v < p->n_values; v++)
			if (p->values[v].smallest <= profile && names_value(item, p, &p->values[v]))
				return RV_OK;
		return unknown_value(p, item, profile);
	}
	char names[256] = "";
	size_t at = 0;
	for (int i = 0; i < exp->n_params && at + 32 < sizeof names; i++)
		at += (size_t)snprintf(names + at, sizeof names - at, " %.30s", exp->params[i].name);
	return rv_fail(RV_ERR_INVALID, "--only %s: expected parameter=value; parameters:%s", item,
	               names);
}

/* Is the value in the profile, and not ruled out by selections of its parameter? */
static int is_selected(const rv_param *p, int value, rv_profile profile, const rv_selection *only) {
	if (p->values[value].smallest > profile)
		return 0;
	int mentioned = 0;
	size_t n = strlen(p->name);
	for (int i = 0; i < only->n; i++) {
		if (names_value(only->items[i], p, &p->values[value]))
			return 1;
		mentioned |= strncmp(only->items[i], p->name, n) == 0 && only->items[i][n] == '=';
	}
	return !mentioned;
}

/* ---- combinations ---- */

/* Parameters in the order they vary, slowest first: BUILD before QUERY. */
static void vary_order(const rv_experiment *exp, int order[RV_MAX_PARAMS]) {
	int n = 0;
	for (int phase = RV_PARAM_BUILD; phase <= RV_PARAM_QUERY; phase++)
		for (int i = 0; i < exp->n_params; i++)
			if ((int)exp->params[i].phase == phase)
				order[n++] = i;
}

static void set_label(const rv_experiment *exp, rv_point *p) {
	size_t at = 0;
	for (int i = 0; i < exp->n_params && at < sizeof p->label; i++)
		at += (size_t)snprintf(p->label + at, sizeof p->label - at, "%s%s=%s", i > 0 ? ";" : "",
		                       exp->params[i].name, rv_point_value(exp, p, i)->text);
}

/* Advances to the next combination in the first n parameters of `order`, the last fastest; 0 after the
 * last one. */
static int next_combination(const rv_experiment *exp, const int *order, int n, int *values) {
	for (int i = exp->n_params - 1; i >= 0; i--) {
		int p = order[i];
		if (i >= n) {
			values[p] = 0;
			continue;
		}
		if (++values[p] < exp->params[p].n_values)
			return 1;
		values[p] = 0;
	}
	return 0;
}

static rv_status add_point(rv_point **list, int *n, int *cap, const rv_point *p) {
	if (*n == *cap) {
		RV_TRY(RV_GROW(list, *cap, 2 * *cap + 64, "points"));
		*cap = 2 * *cap + 64;
	}
	(*list)[(*n)++] = *p;
	return RV_OK;
}

rv_status rv_sweep_points(const rv_experiment *exp, rv_profile profile, const rv_selection *only,
                          rv_point **points, int *n_points) {
	for (int i = 0; i < only->n; i++)
		RV_TRY(check_item(exp, profile, only->items[i]));
	size_t total = 1;
	for (int i = 0; i < exp->n_params && exp->n_fitting == NULL; i++)
		if (!rv_mul_ok(total, (size_t)exp->params[i].n_values, &total) || total > 1000000)
			return rv_fail(RV_ERR_LIMIT, "%s: more than a million points", exp->name);
	rv_point *list = NULL;
	int order[RV_MAX_PARAMS], values[RV_MAX_PARAMS] = {0}, n = 0, cap = 0, index = 0, n_vary;
	vary_order(exp, order);
	do {
		rv_point p = {.index = index};
		memcpy(p.values, values, sizeof values);
		n_vary = exp->n_params;
		const int n_fitting = exp->n_fitting != NULL ? exp->n_fitting(exp, &p) : n_vary;
		if (n_fitting < exp->n_params) {
			n_vary = n_fitting + 1;
			continue;
		}
		if (exp->has_point != NULL && !exp->has_point(exp, &p))
			continue;
		int in_profile = exp->in_profile == NULL || exp->in_profile(exp, profile, &p);
		int selected = in_profile;
		for (int i = 0; i < exp->n_params; i++) {
			in_profile &= exp->params[i].values[values[i]].smallest <= profile;
			selected &= is_selected(&exp->params[i], values[i], profile, only);
		}
		if (selected) {
			set_label(exp, &p);
			rv_status status = add_point(&list, &n, &cap, &p);
			if (status != RV_OK) {
				rv_free(list);
				return status;
			}
		}
		index += in_profile;
	} while (next_combination(exp, order, n_vary, values));
	if (n == 0) {
		rv_free(list);
		return rv_fail(RV_ERR_INVALID, "--only: %s has no point with these values together",
		               exp->name);
	}
	*points = list;
	*n_points = n;
	return RV_OK;
}

/* ---- keys ---- */

rv_status rv_sweep_identity(const rv_experiment *exp, const rv_run_config *config, char **identity) {
	char build[65], machine[256], text[4096];
	RV_TRY(rv_build_id(build));
	RV_TRY(rv_machine_class(machine, sizeof machine));
	const rv_inputs *in = &config->inputs;
	snprintf(text, sizeof text,
	         "%s profile %s seed %llu threads %d settings [%s] model %s data %s build %s machine "
	         "[%s]",
	         exp->name, rv_profile_names[config->profile], (unsigned long long)config->seed,
	         config->n_threads, in->settings, in->model_sha256[0] ? in->model_sha256 : "none",
	         in->data_sha256[0] ? in->data_sha256 : "none", build, machine);
	return rv_strdup(identity, text);
}

void rv_sweep_keys(const rv_experiment *exp, const char *identity, rv_point *points, int n_points) {
	(void)exp;
	for (int i = 0; i < n_points; i++) {
		char text[8192], hex[65];
		int n = snprintf(text, sizeof text, "%s|%s", identity, points[i].label);
		rv_sha256_hex(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1, hex);
		memcpy(points[i].key, hex, 16);
		points[i].key[16] = 0;
	}
}
