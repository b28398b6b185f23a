#include "memory/policies.h"

#include "base/mem.h"
#include "memory/policies_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RV_NAME(name, text, parameters) {text, parameters},
static const struct { const char *name, *parameters; } types[] = {RV_POLICY_TABLE(RV_NAME)};
#undef RV_NAME

const char *rv_policy_type_name(rv_policy_type type) {
	return types[type].name;
}

rv_policy_type rv_policy_type_by_name(const char *name) {
	int i = 0;
	while (i < RV_POLICY_COUNT && (name == NULL || strcmp(types[i].name, name) != 0))
		i++;
	return (rv_policy_type)i;
}

const char *rv_policy_origin_name(rv_policy_origin origin) {
	static const char *const names[] = {"stored", "cached", "stale", "cold_start", "unavailable"};
	return names[origin];
}

void rv_policy_deinit(rv_policy *policy) {
	rv_arena_destroy(policy->memory);
	*policy = (rv_policy){0};
}

rv_policies_options rv_policies_defaults(void) {
	return (rv_policies_options){.ttl_ms = 60000};
}

/* ---- copies ---- */

static rv_status copy_floats(rv_arena *memory, const float *x, size_t n, const float **out) {
	float *copy = NULL;
	if (x == NULL)
		return RV_OK;
	RV_TRY(rv_arena_alloc(memory, (void **)&copy, n * sizeof *copy));
	memcpy(copy, x, n * sizeof *copy);
	*out = copy;
	return RV_OK;
}

static rv_status copy_parts(const rv_policy *from, rv_policy *to) {
	char *parameters = NULL;
	RV_TRY(rv_arena_strndup(to->memory, &parameters, from->parameters, strlen(from->parameters)));
	to->parameters = parameters;
	to->embedding = to->fisher_diagonal = NULL;
	RV_TRY(copy_floats(to->memory, from->embedding, RV_EMBEDDING_DIM, &to->embedding));
	return copy_floats(to->memory, from->fisher_diagonal, from->n_fisher, &to->fisher_diagonal);
}

rv_status rv_policy_copy(const rv_policy *from, rv_policy *out) {
	rv_policy to = *from;
	to.memory = NULL;
	RV_TRY(rv_arena_create(&to.memory, 4096 + 4 * from->n_fisher, 1));
	rv_status st = copy_parts(from, &to);
	if (st != RV_OK) {
		rv_arena_destroy(to.memory);
		return st;
	}
	*out = to;
	return RV_OK;
}

static rv_status default_policy(rv_policies *p, rv_policy_type type, rv_policy_origin origin,
                                rv_policy *out) {
	const rv_policy standard = {.id = "00000000-0000-0000-0000-000000000000",
	                            .policy_type = type,
	                            .parameters = types[type].parameters,
	                            .origin = origin};
	p->stats.defaults++;
	return rv_policy_copy(&standard, out);
}

/* ---- opening ---- */

rv_status rv_policies_open(rv_policies **out, rv_store *store, const rv_policies_options *options) {
	rv_policies *p = NULL;
	rv_policies_options o = options ? *options : rv_policies_defaults();
	if (o.ttl_ms < 0)
		return rv_fail(RV_ERR_INVALID, "policies: ttl_ms %lld is negative",
		               (long long)o.ttl_ms);
	RV_TRY(RV_ALLOC(&p, 1, "policies"));
	p->store = store;
	p->options = o;
	pthread_mutex_init(&p->lock, NULL);
	*out = p;
	return RV_OK;
}

rv_status rv_policies_close(rv_policies *p) {
	if (p == NULL)
		return RV_OK;
	rv_status st = rv_policies_note_access(p);
	for (int type = 0; type < RV_POLICY_COUNT; type++)
		rv_policy_list_free(&p->lists[type]);
	pthread_mutex_destroy(&p->lock);
	rv_free(p);
	return st;
}

/* ---- reading ---- */

/* The list of a type, as fresh as it can be had; *origin of what it holds. Under the lock. */
static rv_policy_list *fresh(rv_policies *p, rv_policy_type type, rv_policy_origin *origin) {
	rv_policy_list *list = &p->lists[type];
	int64_t now = p->store != NULL ? rv_store_now_ms(p->store) : 0;
	p->stats.reads++;
	/* a clock that stepped back makes it old too */
	int young =
	        list->fetched && now >= list->fetched_at && now - list->fetched_at < p->options.ttl_ms;
	*origin = RV_POLICY_CACHED;
	if (young)
		return list;
	rv_policy_list anew = {0};
	rv_status st = p->store != NULL ? rv_policy_list_fetch(p->store, type, &anew)
	                                : rv_fail(RV_ERR_INVALID, "policies: no store");
	p->stats.fetches++;
	*origin = RV_POLICY_STORED;
	if (st == RV_OK) {
		rv_policy_list_keep_access(list, &anew);
		rv_policy_list_free(list);
		anew.fetched = 1;
		anew.fetched_at = now;
		*list = anew;
		return list;
	}
	if (p->store != NULL)
		rv_logf(rv_store_log(p->store), RV_LOG_WARN, "policies: %s", rv_error_message());
	*origin = list->fetched ? RV_POLICY_STALE : RV_POLICY_UNAVAILABLE;
	return list;
}

static rv_status answer(rv_policies *p, rv_policy *kept, rv_policy_origin origin, rv_policy *out) {
	kept->last_accessed = rv_store_now_ms(p->store);
	p->accessed = 1;
	RV_TRY(rv_policy_copy(kept, out));
	out->origin = origin;
	return RV_OK;
}

/* What a list without an answer means. */
static rv_policy_origin why_default(rv_policy_origin origin) {
	return origin == RV_POLICY_UNAVAILABLE || origin == RV_POLICY_STALE ? RV_POLICY_UNAVAILABLE
	                                                                    : RV_POLICY_COLD_START;
}

static rv_status check_type(rv_policy_type type) {
	if ((unsigned)type >= RV_POLICY_COUNT)
		return rv_fail(RV_ERR_INVALID, "policies: unknown type %d", (int)type);
	return RV_OK;
}

rv_status rv_policies_get(rv_policies *p, rv_policy_type type, rv_policy *out) {
	rv_policy_origin origin;
	RV_TRY(check_type(type));
	pthread_mutex_lock(&p->lock);
	rv_policy_list *list = fresh(p, type, &origin);
	rv_status st = list->n > 0 ? answer(p, &list->policies[0], origin, out)
	                           : default_policy(p, type, why_default(origin), out);
	pthread_mutex_unlock(&p->lock);
	return st;
}

static double length_of(const float *x) {
	double sum = 0;
	for (int i = 0; i < RV_EMBEDDING_DIM; i++)
		sum += (double)x[i] * (double)x[i];
	return sqrt(sum);
}

static float cosine(const float *x, const float *y) {
	double sum = 0;
	for (int i = 0; i < RV_EMBEDDING_DIM; i++)
		sum += (double)x[i] * (double)y[i];
	return (float)(sum / (length_of(x) * length_of(y)));
}

static int nearest_first(const void *a, const void *b) {
	const rv_policy *x = *(rv_policy *const *)a, *y = *(rv_policy *const *)b;
	if (x->similarity != y->similarity)
		return x->similarity > y->similarity ? -1 : 1;
	return strcmp(x->id, y->id);
}

static rv_status search(rv_policies *p, rv_policy_list *list, rv_policy_origin origin,
                        const float *query, int64_t k, float min_confidence, rv_policy *out,
                        int64_t *n) {
	rv_policy **found = NULL;
	int64_t n_found = 0;
	RV_TRY(RV_ALLOC(&found, list->n, "policies found"));
	for (int64_t i = 0; i < list->n; i++) {
		rv_policy *policy = &list->policies[i];
		if (policy->confidence < min_confidence)
			continue;
		policy->similarity = cosine(query, policy->embedding);
		found[n_found++] = policy;
	}
	if (n_found > 0)
		qsort(found, (size_t)n_found, sizeof *found, nearest_first);
	rv_status st = RV_OK;
	for (*n = 0; st == RV_OK && *n < k && *n < n_found; *n += st == RV_OK)
		st = answer(p, found[*n], origin, &out[*n]);
	rv_free(found);
	return st;
}

rv_status rv_policies_search(rv_policies *p, rv_policy_type type, const float *query, int64_t k,
                             float min_confidence, rv_policy *out, int64_t *n) {
	double length = length_of(query);
	int64_t got = 0;
	rv_policy_origin origin;
	RV_TRY(check_type(type));
	if (k < 1)
		return rv_fail(RV_ERR_INVALID, "policy search: k is %lld", (long long)k);
	if (!(length > 0) || !isfinite(length))
		return rv_fail(RV_ERR_NUMERIC, "policy search: a query of length 0 or not finite");
	pthread_mutex_lock(&p->lock);
	rv_policy_list *list = fresh(p, type, &origin);
	rv_status st = search(p, list, origin, query, k, min_confidence, out, &got);
	if (st == RV_OK && got == 0) {
		st = default_policy(p, type, why_default(origin), &out[0]);
		got = st == RV_OK;
	}
	pthread_mutex_unlock(&p->lock);
	if (st != RV_OK) {
		for (int64_t i = 0; i < got; i++)
			rv_policy_deinit(&out[i]);
		return st;
	}
	*n = got;
	return RV_OK;
}

rv_policies_stats rv_policies_stats_get(rv_policies *p) {
	pthread_mutex_lock(&p->lock);
	rv_policies_stats s = p->stats;
	for (int type = 0; type < RV_POLICY_COUNT; type++)
		s.count[type] = p->lists[type].n;
	pthread_mutex_unlock(&p->lock);
	return s;
}
