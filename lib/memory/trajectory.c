#include "memory/trajectory.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

#define RV_NAME(name, text) text,
static const char *const verdicts[] = {RV_VERDICT_TABLE(RV_NAME)};
static const char *const sources[] = {RV_SOURCE_TABLE(RV_NAME)};
static const char *const variants[] = {RV_BANK_VARIANT_TABLE(RV_NAME)};
#undef RV_NAME

static int find(const char *const *names, int n, const char *name) {
	int i = 0;
	while (i < n && (name == NULL || strcmp(names[i], name) != 0))
		i++;
	return i;
}

const char *rv_trajectory_verdict_name(rv_trajectory_verdict verdict) {
	return verdicts[verdict];
}

const char *rv_source_name(rv_source source) {
	return sources[source];
}

const char *rv_bank_variant_name(rv_bank_variant variant) {
	return variants[variant];
}

rv_trajectory_verdict rv_trajectory_verdict_by_name(const char *name) {
	return (rv_trajectory_verdict)find(verdicts, RV_VERDICT_COUNT, name);
}

rv_source rv_source_by_name(const char *name) {
	return (rv_source)find(sources, RV_SOURCE_COUNT, name);
}

rv_bank_variant rv_bank_variant_by_name(const char *name) {
	return (rv_bank_variant)find(variants, RV_BANK_VARIANT_COUNT, name);
}

rv_trajectory rv_trajectory_defaults(void) {
	return (rv_trajectory){.model_index = -1};
}

void rv_trajectory_deinit(rv_trajectory *t) {
	rv_arena_destroy(t->memory);
	*t = rv_trajectory_defaults();
}

/* ---- rules ---- */

static rv_status check_quality(float q, const char *place, const char *key) {
	if (!(q >= 0 && q <= 1))
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s' is %g, not within 0..1", place, key,
		               (double)q);
	return RV_OK;
}

static rv_status check_finite(const float *x, size_t n, const char *place, const char *key) {
	for (size_t i = 0; x != NULL && i < n; i++)
		if (!isfinite(x[i]))
			return rv_fail(RV_ERR_NUMERIC, "%s: key '%s', item %zu: not a finite number",
			               place, key, i);
	return RV_OK;
}

static rv_status check_text(const char *text, int needed, const char *place, const char *key) {
	if (needed && (text == NULL || text[0] == 0))
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s' is empty", place, key);
	if (text != NULL && strnlen(text, RV_TRAJECTORY_MAX_TEXT + 1) > RV_TRAJECTORY_MAX_TEXT)
		return rv_fail(RV_ERR_LIMIT, "%s: key '%s' is longer than %d bytes", place, key,
		               RV_TRAJECTORY_MAX_TEXT);
	return RV_OK;
}

static rv_status check_steps(const rv_trajectory *t, const char *place) {
	if (t->n_actions == 0)
		return rv_fail(RV_ERR_FORMAT, "%s: key 'actions' is empty", place);
	if (t->n_actions > RV_TRAJECTORY_MAX_STEPS || t->n_states > RV_TRAJECTORY_MAX_STEPS)
		return rv_fail(RV_ERR_LIMIT, "%s: more than %d actions or states", place,
		               RV_TRAJECTORY_MAX_STEPS);
	for (size_t i = 0; i < t->n_actions; i++) {
		RV_TRY(check_text(t->actions[i].action, 1, place, "action"));
		RV_TRY(check_quality(t->actions[i].quality, place, "quality"));
	}
	for (size_t i = 0; i < t->n_states; i++)
		RV_TRY(check_finite(t->states[i].embedding, RV_EMBEDDING_DIM, place, "states"));
	return RV_OK;
}

rv_status rv_trajectory_check(const rv_trajectory *t, const char *place) {
	if (t->trajectory_id[0] != 0 && !rv_uuid_valid(t->trajectory_id))
		return rv_fail(RV_ERR_FORMAT, "%s: key 'trajectory_id': '%.40s' is no UUID", place,
		               t->trajectory_id);
	RV_TRY(check_text(t->task, 1, place, "task"));
	RV_TRY(check_text(t->metadata, 0, place, "metadata"));
	RV_TRY(check_text(t->request_id, 0, place, "request_id"));
	RV_TRY(check_text(t->session_id, 0, place, "session_id"));
	if (t->embedder != NULL && (t->embedder[0] == 0 || strlen(t->embedder) >= RV_EMBEDDER_TEXT))
		return rv_fail(RV_ERR_FORMAT, "%s: key 'embedder' is empty or longer than %d", place,
		               RV_EMBEDDER_TEXT - 1);
	RV_TRY(check_steps(t, place));
	RV_TRY(check_quality(t->final_quality, place, "final_quality"));
	RV_TRY(check_quality(t->quality, place, "quality"));
	if (!(t->weight >= 0) || !isfinite(t->weight))
		return rv_fail(RV_ERR_FORMAT, "%s: key 'weight' is %g", place, (double)t->weight);
	RV_TRY(check_finite(t->embedding, RV_EMBEDDING_DIM, place, "embedding"));
	RV_TRY(check_finite(t->query_embedding, RV_EMBEDDING_DIM, place, "query_embedding"));
	RV_TRY(check_finite(t->response_embedding, RV_EMBEDDING_DIM, place, "response_embedding"));
	if (t->n_routing_features > RV_TRAJECTORY_MAX_FEATURES)
		return rv_fail(RV_ERR_LIMIT, "%s: key 'routing_features': more than %d", place,
		               RV_TRAJECTORY_MAX_FEATURES);
	RV_TRY(check_finite(t->routing_features, t->n_routing_features, place, "routing_features"));
	if (t->model_index < -1 || t->model_index > 3)
		return rv_fail(RV_ERR_FORMAT, "%s: key 'model_index' is %lld, not within 0..3", place,
		               (long long)t->model_index);
	if (t->created_at < 0 || t->created_at > RV_TIME_MAX_MS)
		return rv_fail(RV_ERR_FORMAT, "%s: key 'created_at' is %lld", place,
		               (long long)t->created_at);
	if ((unsigned)t->verdict >= RV_VERDICT_COUNT || (unsigned)t->source >= RV_SOURCE_COUNT ||
	    (unsigned)t->variant >= RV_BANK_VARIANT_COUNT)
		return rv_fail(RV_ERR_INVALID, "%s: verdict, source or variant out of bounds", place);
	return RV_OK;
}

rv_status rv_trajectory_embedding(const rv_trajectory *t, const char *place, float *out) {
	const float *own = t->embedding != NULL ? t->embedding : t->query_embedding;
	if (own == NULL && t->n_states == 0)
		return rv_fail(RV_ERR_INVALID, "%s: no embedding, no query_embedding and no states",
		               place);
	double sum = 0;
	for (size_t i = 0; i < RV_EMBEDDING_DIM; i++) {
		double x = own != NULL ? (double)own[i] : 0;
		for (size_t s = 0; own == NULL && s < t->n_states; s++)
			x += (double)t->states[s].embedding[i] / (double)t->n_states;
		out[i] = (float)x;
		sum += (double)out[i] * (double)out[i];
	}
	if (!(sum > 0) || !isfinite((float)sum))
		return rv_fail(RV_ERR_NUMERIC, "%s: an embedding of length 0 (or beyond f32)", place);
	return RV_OK;
}
