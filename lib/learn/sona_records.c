/* Requests that are under way, wait for their rating, or wait to be stored. */
#include "base/mem.h"
#include "learn/sona_internal.h"

#include <string.h>

void rv_sona_record_free(rv_sona_record *r) {
	if (!r)
		return;
	rv_captured_release(r->captured);
	rv_free(r->task);
	rv_free(r->action);
	rv_free(r->correction);
	rv_free(r->prompt);
	rv_free(r);
}

rv_status rv_sona_record_add(rv_sona *s, rv_sona_record *r) {
	if (s->n_records == s->cap_records) {
		int64_t cap = s->cap_records ? 2 * s->cap_records : 64;
		RV_TRY(RV_GROW(&s->records, s->cap_records, cap, "requests"));
		s->cap_records = cap;
	}
	s->records[s->n_records++] = r;
	return RV_OK;
}

/* From the newest on: what ends or is rated began lately. */
rv_sona_record *rv_sona_record_find(rv_sona *s, const char *id) {
	for (int64_t i = s->n_records; i-- > 0;)
		if (strcmp(s->records[i]->id, id) == 0)
			return s->records[i];
	return NULL;
}

static void drop_at(rv_sona *s, int64_t i) {
	rv_sona_record_free(s->records[i]);
	s->n_records--;
	memmove(s->records + i, s->records + i + 1, (size_t)(s->n_records - i) * sizeof *s->records);
}

void rv_sona_record_drop(rv_sona *s, rv_sona_record *r) {
	for (int64_t i = s->n_records; i-- > 0;)
		if (s->records[i] == r) {
			drop_at(s, i);
			return;
		}
}

void rv_sona_records_trim(rv_sona *s) {
	int64_t ended = 0;
	for (int64_t i = 0; i < s->n_records; i++)
		ended += s->records[i]->state >= RV_RECORD_ENDED;
	for (int64_t i = 0; i < s->n_records && ended > s->o.ring.capacity;) {
		rv_record_state state = s->records[i]->state;
		if (state == RV_RECORD_ENDED || state == RV_RECORD_STORED) {
			drop_at(s, i);
			ended--;
		} else {
			i++;
		}
	}
}

rv_captured *rv_sona_records_reclaim(rv_sona *s, const rv_sona_attachment *a) {
	for (int64_t i = 0; i < s->n_records; i++) {
		rv_sona_record *r = s->records[i];
		if (r->captured && r->attachment == a && r->state >= RV_RECORD_ENDED) {
			rv_captured *held = r->captured;
			r->captured = NULL;
			return held;
		}
	}
	return NULL;
}

size_t rv_sona_records_bytes(const rv_sona *s) {
	size_t bytes = (size_t)s->cap_records * sizeof *s->records;
	for (int64_t i = 0; i < s->n_records; i++) {
		const rv_sona_record *r = s->records[i];
		bytes += sizeof *r + (r->prompt ? (size_t)r->n_prompt * sizeof *r->prompt : 0);
		bytes += (r->task ? strlen(r->task) : 0) + (r->action ? strlen(r->action) : 0) +
		         (r->correction ? strlen(r->correction) : 0);
	}
	return bytes;
}

rv_status rv_sona_text(char **out, const char *text, size_t len, size_t max, const char *otherwise) {
	json_t *clean = text && len > 0 ? rv_json_text(text, len < max ? len : max) : NULL;
	const char *valid = clean ? json_string_value(clean) : NULL;
	rv_status st = rv_strdup(out, valid && *valid ? valid : otherwise);
	json_decref(clean);
	return st;
}
