/* Patterns between machines, as JSON Lines. */
#include "base/file.h"
#include "base/mem.h"
#include "memory/bank_internal.h"

#include <stdio.h>
#include <string.h>

/* ---- out ---- */

typedef struct exporting {
	rv_bank *bank;
	rv_writer *writer;
	float min_quality;
	int64_t now, n;
	char embedder[RV_EMBEDDER_TEXT]; /* "": not known */
} exporting;

static rv_status export_row(void *user, int64_t key, const rv_trajectory *t, const float *embedding) {
	(void)key;
	(void)embedding;
	exporting *x = user;
	const rv_bank_entry figures = {.created_at = t->created_at, .quality = t->quality};
	if (rv_bank_decayed(x->bank, &figures, x->now) < x->min_quality)
		return RV_OK;
	char *text = NULL;
	size_t len;
	rv_trajectory told = *t;
	told.embedder = x->embedder[0] != 0 ? x->embedder : NULL;
	RV_TRY(rv_trajectory_to_json(&told, &text, &len));
	text[len] = '\n'; /* in the place of the NUL */
	rv_status st = rv_writer_write(x->writer, text, len + 1);
	rv_free(text);
	x->n += st == RV_OK;
	return st;
}

static rv_status export_rows(void *user, rv_db *db) {
	exporting *x = user;
	rv_status st = rv_store_meta_get(db, "embedder", x->embedder, sizeof x->embedder);
	if (st != RV_OK && st != RV_ERR_NOT_FOUND)
		return st;
	return rv_bank_rows_visit(db, x->bank->options.variant, export_row, x);
}

rv_status rv_bank_export(rv_bank *bank, const char *path, float min_quality, int64_t *n) {
	exporting x = {.bank = bank, .min_quality = min_quality, .now = rv_store_now_ms(bank->store)};
	RV_TRY(rv_writer_open(&x.writer, strcmp(path, "-") != 0 ? path : "/dev/stdout"));
	rv_status st = rv_store_read(bank->store, export_rows, &x);
	if (st != RV_OK) {
		rv_writer_abort(x.writer);
		return st;
	}
	RV_TRY(rv_writer_commit(x.writer));
	*n = x.n;
	return RV_OK;
}

/* ---- to a callback ---- */

typedef struct visiting {
	rv_bank *bank;
	int64_t now;
	float min_quality;
	rv_bank_visit_fn *fn;
	void *user;
} visiting;

static rv_status visit_row(void *user, int64_t key, const rv_trajectory *t, const float *embedding) {
	(void)key;
	const visiting *v = user;
	const rv_bank_entry figures = {.created_at = t->created_at, .quality = t->quality};
	const rv_bank_pattern p = {t, embedding, rv_bank_decayed(v->bank, &figures, v->now)};
	return p.quality >= v->min_quality ? v->fn(v->user, &p) : RV_OK;
}

static rv_status visit_rows(void *user, rv_db *db) {
	const visiting *v = user;
	return rv_bank_rows_visit(db, v->bank->options.variant, visit_row, user);
}

rv_status rv_bank_visit(rv_bank *bank, int64_t now, float min_quality, rv_bank_visit_fn *fn,
                        void *user) {
	visiting v = {bank, now, min_quality, fn, user};
	return rv_store_read(bank->store, visit_rows, &v);
}

/* ---- in: one transaction of the whole file, a line at a time ---- */

typedef struct importing {
	rv_bank_change change; /* first: the done callback's */
	const char *name, *data;
	size_t size;
	float *embeddings;
	int64_t cap;
	int64_t last_before; /* keys up to this one were there before */
	rv_bank_import_report report;
} importing;

static rv_status room_for_one(importing *im) {
	rv_bank_change *c = &im->change;
	if (c->n_added >= c->bank->options.capacity + RV_BANK_SLACK)
		return rv_fail(RV_ERR_LIMIT,
		               "%s: more patterns at once than the bank's capacity of %lld allows",
		               im->name, (long long)c->bank->options.capacity);
	if (c->n_added < im->cap)
		return RV_OK;
	int64_t cap = im->cap ? 2 * im->cap : 64;
	RV_TRY(RV_GROW(&c->added, im->cap, cap, "figures of patterns"));
	RV_TRY(RV_GROW(&im->embeddings, im->cap * RV_EMBEDDING_DIM, cap * RV_EMBEDDING_DIM,
	               "embeddings"));
	im->cap = cap;
	c->embeddings = im->embeddings;
	return RV_OK;
}

static rv_status find_key(rv_db *db, const char *id, int64_t *key) {
	*key = 0;
	rv_status st =
	        rv_db_int(db, "trajectories", "SELECT key FROM trajectories WHERE trajectory_id = ?1",
	                  RV_DB_VALUES(RV_TEXT(id)), key);
	return st == RV_ERR_NOT_FOUND ? RV_OK : st;
}

static rv_status import_one(importing *im, rv_db *db, const char *place, rv_trajectory *t) {
	rv_bank_change *c = &im->change;
	int64_t key;
	if (t->trajectory_id[0] == 0)
		return rv_fail(RV_ERR_FORMAT, "%s: key 'trajectory_id' is missing", place);
	RV_TRY(find_key(db, t->trajectory_id, &key));
	if (key > im->last_before)
		return rv_fail(RV_ERR_FORMAT, "%s: trajectory '%s' stands in the file twice", place,
		               t->trajectory_id);
	if (t->embedder != NULL) {
		rv_status st = rv_bank_embedder_bind(db, t->embedder);
		if (st != RV_OK)
			return rv_fail_in(st, place);
	}
	if (key > 0) {
		im->report.duplicates++;
		return RV_OK;
	}
	RV_TRY(room_for_one(im));
	float *embedding = im->embeddings + c->n_added * RV_EMBEDDING_DIM;
	RV_TRY(rv_trajectory_embedding(t, place, embedding));
	t->variant = c->bank->options.variant;
	t->source = RV_SOURCE_FEDERATED;
	if (t->created_at == 0)
		t->created_at = rv_store_now_ms(c->bank->store);
	RV_TRY(rv_bank_row_insert(db, t, embedding, &c->added[c->n_added]));
	c->n_added++;
	im->report.added++;
	return RV_OK;
}

static rv_status import_line(importing *im, rv_db *db, const char *line, size_t len) {
	char place[280];
	json_t *obj = NULL;
	rv_trajectory t = rv_trajectory_defaults();
	size_t name_len = strlen(im->name); /* the end of a long path says more than its beginning */
	snprintf(place, sizeof place, "%s:%lld", im->name + (name_len > 240 ? name_len - 240 : 0),
	         (long long)im->report.lines);
	if (len == 0)
		return rv_fail(RV_ERR_FORMAT, "%s: blank line", place);
	RV_TRY(rv_json_parse(line, len, place, &obj));
	rv_status st = rv_trajectory_from_json(obj, place, &t);
	json_decref(obj);
	if (st == RV_OK)
		st = import_one(im, db, place, &t);
	rv_trajectory_deinit(&t);
	return st;
}

static rv_status import_lines(void *user, rv_db *db) {
	importing *im = user;
	const char *at = im->data, *end = im->data + im->size;
	RV_TRY(rv_db_int(db, "trajectories", "SELECT coalesce(max(key), 0) FROM trajectories", NULL, 0,
	                 &im->last_before));
	while (at < end) {
		const char *feed = memchr(at, '\n', (size_t)(end - at));
		const char *stop = feed != NULL ? feed : end;
		size_t len = (size_t)(stop - at);
		if (len > 0 && at[len - 1] == '\r')
			len--;
		im->report.lines++;
		RV_TRY(import_line(im, db, at, len));
		at = feed != NULL ? feed + 1 : end;
	}
	im->change.counted = im->change.n_added;
	im->change.bank->n_rows += im->change.counted;
	return RV_OK;
}

rv_status rv_bank_import_text(rv_bank *bank, const char *data, size_t size, const char *name,
                              rv_bank_import_report *report) {
	importing im = {.change = {.bank = bank}, .name = name, .data = data, .size = size};
	RV_TRY(rv_bank_check_whole(bank));
	rv_status st = rv_store_write(bank->store, import_lines, rv_bank_change_done, &im);
	rv_free(im.change.added);
	rv_free(im.embeddings);
	RV_TRY(st);
	*report = im.report;
	return rv_bank_evict(bank);
}

rv_status rv_bank_import(rv_bank *bank, const char *path, rv_bank_import_report *report) {
	if (strcmp(path, "-") == 0) {
		char *data = NULL;
		size_t size;
		RV_TRY(rv_file_read(path, (size_t)1 << 32, &data, &size));
		rv_status read = rv_bank_import_text(bank, data, size, "standard input", report);
		rv_free(data);
		return read;
	}
	rv_map map;
	RV_TRY(rv_map_open(&map, path));
	rv_status st = rv_bank_import_text(bank, (const char *)map.data, map.size, path, report);
	rv_map_close(&map);
	return st;
}
