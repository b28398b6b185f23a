#include "learn/sona_state.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/adapter_write.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FORMAT = 1, MAX_STATE_BYTES = 1 << 20, KEPT = 2 /* generations, the newest included */ };

/* ---- names ---- */

static rv_status path_of(char **out, const char *dir, int64_t generation, const char *name) {
	char tail[160];
	if (generation < 0)
		snprintf(tail, sizeof tail, "/sona%s%s", name ? "/" : "", name ? name : "");
	else
		snprintf(tail, sizeof tail, "/sona/g%08lld%s%s", (long long)generation, name ? "/" : "",
		         name ? name : "");
	size_t n = strlen(dir) + strlen(tail) + 1;
	RV_TRY(RV_ALLOC(out, n, "path"));
	snprintf(*out, n, "%s%s", dir, tail);
	return RV_OK;
}

/* A generation's folder and its files; what is not there is gone already. */
static void sweep(const rv_sona *s, int64_t generation) {
	char *dir = NULL, *file = NULL;
	if (generation < 1 || path_of(&dir, s->dir, generation, NULL) != RV_OK)
		return;
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.' && strlen(e->d_name) < 64 &&
		    path_of(&file, s->dir, generation, e->d_name) == RV_OK) {
			unlink(file);
			rv_free(file);
		}
	if (d)
		closedir(d);
	rmdir(dir);
	rv_free(dir);
}

static rv_status begin_next(rv_sona *s) {
	char *dir;
	if (s->state.next_made)
		return RV_OK;
	sweep(s, s->state.generation + 1); /* what a killed process had begun */
	RV_TRY(path_of(&dir, s->dir, s->state.generation + 1, NULL));
	rv_status st = rv_mkdirs(dir);
	rv_free(dir);
	s->state.next_made = st == RV_OK;
	return st;
}

rv_status rv_sona_state_next(rv_sona *s, const char *name, char **path) {
	RV_TRY(begin_next(s));
	return path_of(path, s->dir, s->state.generation + 1, name);
}

/* ---- the files of a generation: each is written, and read back, by a function of its own ---- */

/* Adapters while a generation is written or read. */
typedef struct moving {
	rv_sona *s;
	rv_adapter *base, *micro;
} moving;

typedef struct state_file {
	const char *name;
	int (*is_there)(const moving *m);
	rv_status (*save)(const moving *m, const char *path);
	rv_status (*load)(moving *m, const char *path);
} state_file;

static rv_adapter_write_options as_f32(void) {
	return (rv_adapter_write_options){.type = rv_type_by_name("F32")};
}

static int has_base(const moving *m) {
	return m->base != NULL;
}
static rv_status save_base(const moving *m, const char *path) {
	const rv_adapter_write_options how = as_f32();
	return rv_adapter_write(path, m->base, m->s->model, &how);
}
static rv_status load_base(moving *m, const char *path) {
	return rv_adapter_open(&m->base, path, m->s->model);
}

static int has_micro(const moving *m) {
	return m->micro != NULL;
}
static rv_status save_micro(const moving *m, const char *path) {
	const rv_adapter_write_options how = as_f32();
	return rv_adapter_write(path, m->micro, m->s->model, &how);
}
static rv_status load_micro(moving *m, const char *path) {
	return rv_adapter_open(&m->micro, path, m->s->model);
}

static int has_ewc(const moving *m) {
	return m->s->state.ewc != NULL;
}
static rv_status save_ewc(const moving *m, const char *path) {
	return rv_ewc_save(m->s->state.ewc, path);
}
static rv_status load_ewc(moving *m, const char *path) {
	return rv_ewc_load(&m->s->state.ewc, path);
}

static rv_status load_replay(rv_sona *s, rv_replay **out, const char *path) {
	rv_replay *loaded;
	RV_TRY(rv_replay_load(&loaded, path));
	if (rv_replay_n_ctx(loaded) != s->o.tuning.n_ctx) {
		int64_t n_ctx = rv_replay_n_ctx(loaded);
		rv_replay_destroy(loaded);
		return rv_fail(RV_ERR_MISMATCH, "%s: sequences of %lld tokens, not %lld", path,
		               (long long)n_ctx, (long long)s->o.tuning.n_ctx);
	}
	rv_replay_destroy(*out);
	*out = loaded;
	return RV_OK;
}

static int has_served(const moving *m) {
	return m->s->state.replay != NULL && rv_replay_count(m->s->state.replay) > 0;
}
static rv_status save_served(const moving *m, const char *path) {
	return rv_replay_save(m->s->state.replay, path);
}
static rv_status load_served(moving *m, const char *path) {
	return load_replay(m->s, &m->s->state.replay, path);
}

static int has_old(const moving *m) {
	return m->s->state.old != NULL && rv_replay_count(m->s->state.old) > 0;
}
static rv_status save_old(const moving *m, const char *path) {
	return rv_replay_save(m->s->state.old, path);
}
static rv_status load_old(moving *m, const char *path) {
	return load_replay(m->s, &m->s->state.old, path);
}

static int has_router(const moving *m) {
	return m->s->state.router != NULL && m->s->state.router_trained;
}
static rv_status save_router(const moving *m, const char *path) {
	return rv_fastgrnn_save(m->s->state.router, path);
}
static rv_status load_router(moving *m, const char *path) {
	rv_fastgrnn *loaded;
	RV_TRY(rv_fastgrnn_load(&loaded, path));
	rv_fastgrnn_destroy(m->s->state.router);
	m->s->state.router = loaded;
	m->s->state.router_trained = 1;
	return RV_OK;
}

/* Written into the next generation's folder by the deep loop itself; else that of the last. */
static int has_draft(const moving *m) {
	return m->s->state.draft != NULL || m->s->state.draft_is_new;
}
static rv_status save_draft(const moving *m, const char *path) {
	if (m->s->state.draft_is_new || link(m->s->state.draft, path) == 0)
		return RV_OK;
	char *data;
	size_t size;
	RV_TRY(rv_file_read(m->s->state.draft, (size_t)1 << 32, &data, &size));
	rv_status st = rv_file_write(path, data, size);
	rv_free(data);
	return st;
}
static rv_status load_draft(moving *m, const char *path) {
	rv_free(m->s->state.draft);
	m->s->state.draft = NULL;
	return rv_strdup(&m->s->state.draft, path);
}

static const state_file files[] = {
        {"base.gguf", has_base, save_base, load_base},
        {"micro.gguf", has_micro, save_micro, load_micro},
        {"ewc.bin", has_ewc, save_ewc, load_ewc},
        {"served.bin", has_served, save_served, load_served},
        {"old.bin", has_old, save_old, load_old},
        {"router.bin", has_router, save_router, load_router},
        {"draft.gguf", has_draft, save_draft, load_draft},
};
enum { N_FILES = sizeof files / sizeof *files };

/* ---- save ---- */

static rv_status save_file(const moving *m, const state_file *f, json_t *list) {
	char *path, hex[65];
	struct stat info;
	if (!f->is_there(m))
		return RV_OK;
	RV_TRY(path_of(&path, m->s->dir, m->s->state.generation + 1, f->name));
	rv_status st = f->save(m, path);
	if (st == RV_OK && stat(path, &info) != 0)
		st = rv_fail_errno(RV_ERR_IO, "%s", path);
	if (st == RV_OK)
		st = rv_file_sha256(path, hex);
	rv_free(path);
	if (st == RV_OK && json_object_set_new(list, f->name,
	                                       json_pack("{s:I, s:s}", "size", (json_int_t)info.st_size,
	                                                 "sha256", hex)) != 0)
		st = rv_fail(RV_ERR_NO_MEMORY, "learning state: out of memory");
	return st;
}

static json_t *small_numbers(const rv_sona *s) {
	const rv_sona_state *state = &s->state;
	const rv_micro_lora_options *micro = &s->o.micro;
	json_t *o = json_pack("{s:i, s:I, s:s, s:s, s:s, s:I, s:b, s:f, s:f, s:f, s:I, s:I}", "format",
	                      FORMAT, "generation", (json_int_t)(state->generation + 1), "model_sha256",
	                      s->model_sha256, "variant", rv_bank_variant_name(s->o.variant), "site",
	                      rv_site_name(micro->site), "rank", (json_int_t)micro->rank, "ewc_whole",
	                      state->ewc_whole, "likelihood_slope", state->slope, "likelihood_offset",
	                      state->offset, "quality_sum", state->quality_sum, "tuned_ms",
	                      (json_int_t)state->tuned_ms, "indexed", (json_int_t)state->indexed);
	json_t *layers = json_array();
	for (int i = 0; i < micro->n_layers; i++)
		json_array_append_new(layers, json_integer(micro->layers[i]));
	json_object_set_new(o, "layers", layers);
	for (int i = 0; i < RV_SONA_LOOPS; i++)
		json_object_set_new(o, rv_sona_loop_names[i],
		                    json_pack("{s:I, s:I}", "passes", (json_int_t)state->n_passes[i],
		                              "last_ms", (json_int_t)state->last_ms[i]));
	return o;
}

static rv_status commit(rv_sona *s, json_t *list) {
	char *path;
	json_t *o = small_numbers(s);
	if (!o || json_object_set(o, "files", list) != 0) {
		json_decref(o);
		return rv_fail(RV_ERR_NO_MEMORY, "learning state: out of memory");
	}
	rv_status st = path_of(&path, s->dir, -1, "state.json");
	if (st == RV_OK) {
		st = rv_json_write(path, o);
		rv_free(path);
	}
	json_decref(o);
	return st;
}

rv_status rv_sona_state_save(rv_sona *s) {
	moving m = {.s = s};
	json_t *list = json_object();
	rv_status st = begin_next(s);
	if (st == RV_OK)
		st = rv_instant_snapshot(s->instant, &m.base, &m.micro);
	for (int i = 0; st == RV_OK && i < N_FILES; i++)
		st = save_file(&m, &files[i], list);
	if (st == RV_OK)
		st = commit(s, list);
	json_decref(list);
	rv_adapter_release(m.base);
	rv_adapter_release(m.micro);
	s->state.next_made = 0;
	int has_draft_file = s->state.draft || s->state.draft_is_new;
	s->state.draft_is_new = 0;
	if (st != RV_OK)
		return st;
	s->state.generation++;
	pthread_mutex_lock(&s->lock);
	s->stats.generation = s->state.generation;
	pthread_mutex_unlock(&s->lock);
	if (has_draft_file) { /* where it is from now on */
		char *draft;
		RV_TRY(path_of(&draft, s->dir, s->state.generation, "draft.gguf"));
		rv_free(s->state.draft);
		s->state.draft = draft;
	}
	sweep(s, s->state.generation - KEPT);
	return RV_OK;
}

/* ---- load ---- */

static rv_status same_text(const json_t *o, const char *where, const char *key, const char *mine) {
	const char *text;
	RV_TRY(rv_json_string(o, where, key, &text));
	if (strcmp(text, mine) != 0)
		return rv_fail(RV_ERR_MISMATCH, "%s: key '%s': learnt with %s, here it is %s", where,
		               key, text, mine);
	return RV_OK;
}

static rv_status check_same(const rv_sona *s, const json_t *o, const char *where) {
	const rv_micro_lora_options *micro = &s->o.micro;
	const json_t *layers = json_object_get(o, "layers");
	int64_t rank;
	RV_TRY(same_text(o, where, "model_sha256", s->model_sha256));
	RV_TRY(same_text(o, where, "variant", rv_bank_variant_name(s->o.variant)));
	RV_TRY(same_text(o, where, "site", rv_site_name(micro->site)));
	RV_TRY(rv_json_int(o, where, "rank", 1, RV_MICRO_MAX_RANK, &rank));
	int same = rank == micro->rank && json_array_size(layers) == (size_t)micro->n_layers;
	for (int i = 0; same && i < micro->n_layers; i++)
		same = json_integer_value(json_array_get(layers, (size_t)i)) == micro->layers[i];
	if (!same)
		return rv_fail(RV_ERR_MISMATCH, "%s: learnt with other hook layers, or rank %lld",
		               where, (long long)rank);
	return RV_OK;
}

static rv_status check_file(const char *path, const json_t *entry) {
	const char *sha;
	char hex[65];
	int64_t size;
	struct stat info;
	RV_TRY(rv_json_int(entry, path, "size", 0, INT64_MAX, &size));
	RV_TRY(rv_json_string(entry, path, "sha256", &sha));
	if (stat(path, &info) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: is missing (%s)", path, strerror(errno));
	if (info.st_size != size)
		return rv_fail(RV_ERR_FORMAT, "%s: has %lld bytes, not %lld", path,
		               (long long)info.st_size, (long long)size);
	RV_TRY(rv_file_sha256(path, hex));
	if (strcmp(hex, sha) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: is damaged: its SHA-256 is another", path);
	return RV_OK;
}

static rv_status load_file(moving *m, const state_file *f, const json_t *list) {
	const json_t *entry = json_object_get(list, f->name);
	char *path;
	if (!entry)
		return RV_OK;
	RV_TRY(path_of(&path, m->s->dir, m->s->state.generation, f->name));
	rv_status st = check_file(path, entry);
	if (st == RV_ERR_NOT_FOUND)
		st = rv_fail(RV_ERR_FORMAT, "%s: named without size or sum", path);
	if (st == RV_OK)
		st = f->load(m, path);
	rv_free(path);
	return st;
}

static rv_status read_finite(const json_t *o, const char *where, const char *key, double *out) {
	RV_TRY(rv_json_double(o, where, key, out));
	return isfinite(*out) ? RV_OK : rv_fail(RV_ERR_FORMAT, "%s: key '%s': not finite", where, key);
}

static rv_status read_numbers(rv_sona *s, const json_t *o, const char *where) {
	rv_sona_state *state = &s->state;
	RV_TRY(rv_json_int(o, where, "generation", 1, INT64_C(1) << 52, &state->generation));
	RV_TRY(rv_json_bool(o, where, "ewc_whole", &state->ewc_whole));
	RV_TRY(read_finite(o, where, "likelihood_slope", &state->slope));
	RV_TRY(read_finite(o, where, "likelihood_offset", &state->offset));
	RV_TRY(read_finite(o, where, "quality_sum", &state->quality_sum));
	RV_TRY(rv_json_int(o, where, "tuned_ms", 0, INT64_MAX, &state->tuned_ms));
	RV_TRY(rv_json_int(o, where, "indexed", 0, INT64_MAX, &state->indexed));
	for (int i = 0; i < RV_SONA_LOOPS; i++) {
		const json_t *loop = json_object_get(o, rv_sona_loop_names[i]);
		RV_TRY(rv_json_int(loop, where, "passes", 0, INT64_MAX, &state->n_passes[i]));
		RV_TRY(rv_json_int(loop, where, "last_ms", 0, INT64_MAX, &state->last_ms[i]));
	}
	s->stats.generation = state->generation;
	s->stats.quality_sum = state->quality_sum;
	return RV_OK;
}

static rv_status load_all(rv_sona *s, const json_t *o, const char *where) {
	const json_t *list = json_object_get(o, "files");
	moving m = {.s = s};
	int64_t format;
	RV_TRY(rv_json_int(o, where, "format", 1, INT32_MAX, &format));
	if (format != FORMAT)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: format %lld, this program knows %d", where,
		               (long long)format, FORMAT);
	RV_TRY(check_same(s, o, where));
	RV_TRY(read_numbers(s, o, where));
	if (!json_is_object(list))
		return rv_fail(RV_ERR_FORMAT, "%s: key 'files': an object is wanted", where);
	rv_status st = RV_OK;
	for (int i = 0; st == RV_OK && i < N_FILES; i++)
		st = load_file(&m, &files[i], list);
	if (st == RV_OK && (m.base || m.micro))
		st = rv_instant_restore(s->instant, m.base, m.micro, rv_sona_seed(s));
	rv_adapter_release(m.base);
	rv_adapter_release(m.micro);
	return st;
}

rv_status rv_sona_state_read(rv_sona *s, const char *text, size_t size, const char *name) {
	json_t *o;
	RV_TRY(rv_json_parse(text, size, name, &o));
	rv_status st = load_all(s, o, name);
	json_decref(o);
	if (st == RV_ERR_NOT_FOUND) /* a missing key, not a missing file */
		st = rv_fail_in(RV_ERR_FORMAT, "learning state");
	return st;
}

rv_status rv_sona_state_load(rv_sona *s) {
	char *path, *text;
	size_t size;
	RV_TRY(path_of(&path, s->dir, -1, "state.json"));
	rv_status st = RV_OK;
	if (access(path, F_OK) == 0) {
		st = rv_file_read(path, MAX_STATE_BYTES, &text, &size);
		if (st == RV_OK) {
			st = rv_sona_state_read(s, text, size, path);
			rv_free(text);
		}
	}
	rv_free(path);
	return st;
}
