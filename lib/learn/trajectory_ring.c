#include "learn/trajectory_ring.h"

#include "base/mem.h"

#include <pthread.h>
#include <string.h>

struct rv_trajectory_ring {
	rv_ring_options options;
	pthread_mutex_t lock;
	rv_served *entries; /* [capacity] number n at (n - 1) % capacity */
	int32_t *tokens;    /* [capacity, max_tokens + max_correction] */
	uint64_t newest;
};

rv_ring_options rv_ring_defaults(void) {
	return (rv_ring_options){.capacity = 1024, .max_tokens = 512, .max_correction = 128};
}

static rv_status in_bounds(const char *name, int64_t v, int64_t min, int64_t max) {
	return v >= min && v <= max ? RV_OK
	                            : rv_fail(RV_ERR_INVALID, "ring: %s %lld is not in [%lld, %lld]",
	                                      name, (long long)v, (long long)min, (long long)max);
}

static rv_status allocate(rv_trajectory_ring *r) {
	const rv_ring_options *o = &r->options;
	RV_TRY(in_bounds("capacity", o->capacity, RV_RING_MIN, RV_RING_MAX));
	RV_TRY(in_bounds("max_tokens", o->max_tokens, 1, 1 << 20));
	RV_TRY(in_bounds("max_correction", o->max_correction, 0, 1 << 20));
	RV_TRY(RV_ALLOC(&r->entries, o->capacity, "ring of trajectories"));
	return RV_ALLOC(&r->tokens, o->capacity * (o->max_tokens + o->max_correction),
	                "ring of trajectories");
}

rv_status rv_trajectory_ring_create(rv_trajectory_ring **out, const rv_ring_options *options) {
	rv_trajectory_ring *r;
	*out = NULL;
	RV_TRY(RV_ALLOC(&r, 1, "ring of trajectories"));
	r->options = options ? *options : rv_ring_defaults();
	pthread_mutex_init(&r->lock, NULL);
	rv_status status = allocate(r);
	if (status != RV_OK) {
		rv_trajectory_ring_destroy(r);
		return status;
	}
	*out = r;
	return RV_OK;
}

void rv_trajectory_ring_destroy(rv_trajectory_ring *r) {
	if (!r)
		return;
	pthread_mutex_destroy(&r->lock);
	rv_free(r->entries);
	rv_free(r->tokens);
	rv_free(r);
}

const rv_ring_options *rv_trajectory_ring_options(const rv_trajectory_ring *r) {
	return &r->options;
}

size_t rv_trajectory_ring_bytes(const rv_trajectory_ring *r) {
	const rv_ring_options *o = &r->options;
	return (size_t)o->capacity *
	       (sizeof *r->entries + (size_t)(o->max_tokens + o->max_correction) * sizeof *r->tokens);
}

/* ---- with the lock held ---- */

static rv_served *entry_at(const rv_trajectory_ring *r, uint64_t number) {
	return &r->entries[(number - 1) % (uint64_t)r->options.capacity];
}

static int32_t *tokens_at(const rv_trajectory_ring *r, const rv_served *e) {
	return r->tokens + (e - r->entries) * (r->options.max_tokens + r->options.max_correction);
}

static void set_correction(const rv_trajectory_ring *r, rv_served *e, const int32_t *tokens,
                           int64_t n) {
	int32_t *to = tokens_at(r, e) + r->options.max_tokens;
	if (n > 0)
		memcpy(to, tokens, (size_t)n * sizeof *to);
	e->correction = n > 0 ? to : NULL;
	e->n_correction = n;
}

static void fill(const rv_trajectory_ring *r, rv_served *e, const rv_served *from) {
	const int64_t most = r->options.max_tokens;
	const uint64_t number = r->newest;
	*e = *from;
	e->number = number;
	int32_t *to = tokens_at(r, e);
	e->n_answer = from->n_answer < most ? from->n_answer : most;
	e->n_prompt = from->n_prompt < most - e->n_answer ? from->n_prompt : most - e->n_answer;
	e->cut = from->cut || e->n_prompt < from->n_prompt;
	if (e->n_prompt > 0)
		memcpy(to, from->prompt + (from->n_prompt - e->n_prompt),
		       (size_t)e->n_prompt * sizeof *to);
	if (e->n_answer > 0)
		memcpy(to + e->n_prompt, from->answer, (size_t)e->n_answer * sizeof *to);
	e->prompt = to;
	e->answer = to + e->n_prompt;
	set_correction(r, e, from->correction, from->n_correction);
}

static uint64_t oldest(const rv_trajectory_ring *r) {
	const uint64_t capacity = (uint64_t)r->options.capacity;
	return r->newest == 0 ? 0 : r->newest > capacity ? r->newest - capacity + 1 : 1;
}

static rv_served *find(const rv_trajectory_ring *r, const char *request_id) {
	for (uint64_t number = r->newest; number > 0 && number >= oldest(r); number--)
		if (strcmp(entry_at(r, number)->request_id, request_id) == 0)
			return entry_at(r, number);
	return NULL;
}

/* ---- calls ---- */

static rv_status check_rating(const rv_trajectory_ring *r, double quality, rv_quality_source source,
                              int64_t n_correction) {
	if ((unsigned)source >= RV_QUALITY_COUNT ||
	    (!rv_quality_ok(quality) && !(isnan(quality) && source == RV_QUALITY_NONE)))
		return rv_fail(RV_ERR_INVALID, "quality %g is not in [0, 1], or without its source",
		               quality);
	return in_bounds("tokens of a correction", n_correction, 0, r->options.max_correction);
}

rv_status rv_trajectory_ring_push(rv_trajectory_ring *r, const rv_served *served, uint64_t *number) {
	RV_TRY(check_rating(r, served->quality, served->source, served->n_correction));
	if (served->n_prompt < 0 || served->n_answer < 0)
		return rv_fail(RV_ERR_INVALID, "ring: a prompt of %lld tokens, an answer of %lld",
		               (long long)served->n_prompt, (long long)served->n_answer);
	pthread_mutex_lock(&r->lock);
	r->newest++;
	fill(r, entry_at(r, r->newest), served);
	if (number)
		*number = r->newest;
	pthread_mutex_unlock(&r->lock);
	return RV_OK;
}

rv_status rv_trajectory_ring_rate(rv_trajectory_ring *r, const char *request_id, double quality,
                                  rv_quality_source source, const int32_t *correction,
                                  int64_t n_correction) {
	RV_TRY(check_rating(r, quality, source, correction ? n_correction : 0));
	pthread_mutex_lock(&r->lock);
	rv_served *e = find(r, request_id);
	if (e) {
		e->quality = quality;
		e->source = source;
		if (correction)
			set_correction(r, e, correction, n_correction);
	}
	pthread_mutex_unlock(&r->lock);
	return e ? RV_OK
	         : rv_fail(RV_ERR_NOT_FOUND, "request '%s': not among the last %lld", request_id,
	                   (long long)r->options.capacity);
}

void rv_trajectory_ring_range(rv_trajectory_ring *r, uint64_t *from, uint64_t *to) {
	pthread_mutex_lock(&r->lock);
	*from = oldest(r);
	*to = r->newest;
	pthread_mutex_unlock(&r->lock);
}

rv_status rv_trajectory_ring_read(rv_trajectory_ring *r, uint64_t number, rv_served *out,
                                  int32_t *tokens) {
	const int64_t n = r->options.max_tokens + r->options.max_correction;
	pthread_mutex_lock(&r->lock);
	const int there = number > 0 && number >= oldest(r) && number <= r->newest;
	if (there) {
		const rv_served *e = entry_at(r, number);
		*out = *e;
		memcpy(tokens, tokens_at(r, e), (size_t)n * sizeof *tokens);
	}
	pthread_mutex_unlock(&r->lock);
	if (!there)
		return rv_fail(RV_ERR_NOT_FOUND, "ring: entry %llu is not there",
		               (unsigned long long)number);
	out->prompt = tokens;
	out->answer = tokens + out->n_prompt;
	out->correction = out->correction ? tokens + r->options.max_tokens : NULL;
	return RV_OK;
}
