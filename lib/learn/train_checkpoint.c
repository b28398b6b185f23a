/* Checkpoints are GGUF files of type "checkpoint": the reader's checks of counts, offsets and bounds
 * hold for them, and their tensors can be looked at with any GGUF tool. A trained tensor T is stored as
 * T, T.m1 and T.m2 (weights and both moments, F32). Keys, all "ruvltra.checkpoint.*": version; the
 * shape (table below); step, tokens; note: the caller's bytes; base_crc32: of weights that are not
 * trained; crc32: of the counters, the note and all tensors. */
#include "base/file.h"
#include "base/mem.h"
#include "learn/trainer_internal.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define VERSION 1
#define KEY(name) "ruvltra.checkpoint." name
#define N_ARRAYS 3
static const char *const suffixes[N_ARRAYS] = {"", ".m1", ".m2"};

/* What must be equal for weights to fit. */
#define HP(field) offsetof(rv_hparams, field)
static const struct {
	const char *key;
	size_t offset;
} sizes[] = {
        {KEY("n_layers"), HP(n_layers)}, {KEY("n_embd"), HP(n_embd)},
        {KEY("n_heads"), HP(n_heads)},   {KEY("n_kv_heads"), HP(n_kv_heads)},
        {KEY("head_dim"), HP(head_dim)}, {KEY("n_ff"), HP(n_ff)},
        {KEY("n_vocab"), HP(n_vocab)},   {KEY("n_rot"), HP(n_rot)},
};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

typedef struct state {
	int64_t step, tokens;
	const void *note;
	size_t n_note;
	const float *arrays[N_ARRAYS]; /* of the trained elements */
} state;

static uint32_t state_crc(const state *s, int64_t n_active) {
	uint32_t crc = rv_crc32(0, &s->step, sizeof s->step);
	crc = rv_crc32(crc, &s->tokens, sizeof s->tokens);
	if (s->n_note > 0)
		crc = rv_crc32(crc, s->note, s->n_note);
	for (int a = 0; a < N_ARRAYS; a++)
		crc = rv_crc32(crc, s->arrays[a], (size_t)n_active * sizeof(float));
	return crc;
}

/* Of the weights in front of the trained ones: what adapters belong to; and of scales that are not that
 * of the key lora_scale. */
static uint32_t base_crc(const rv_trainer *t) {
	const rv_train_layout *l = &t->layout;
	uint32_t crc = rv_crc32(0, t->weights, (size_t)l->train_begin * sizeof(float));
	for (int64_t i = rv_train_first_adapter(l); i < l->n_params; i++)
		if (l->params[i].scale != l->lora_scale)
			crc = rv_crc32(crc, &l->params[i].scale, sizeof l->params[i].scale);
	return crc;
}

static void tensor_name(char name[96], const rv_param *p, int array) {
	snprintf(name, 96, "%s%s", p->name, suffixes[array]);
}

/* ---- writing ---- */

static rv_status write_keys(rv_gguf_writer *w, const rv_trainer *t, const state *s) {
	const rv_hparams *hp = &t->layout.hp;
	RV_TRY(rv_gguf_write_string(w, "general.type", "checkpoint"));
	RV_TRY(rv_gguf_write_string(w, "general.architecture", t->layout.arch->name));
	RV_TRY(rv_gguf_write_u32(w, KEY("version"), VERSION));
	for (int i = 0; i < N_SIZES; i++)
		RV_TRY(rv_gguf_write_u64(
		        w, sizes[i].key,
		        *(const uint64_t *)(const void *)((const char *)hp + sizes[i].offset)));
	RV_TRY(rv_gguf_write_u32(w, KEY("tied"), (uint32_t)hp->tied));
	RV_TRY(rv_gguf_write_f32(w, KEY("rope_theta"), (float)hp->rope_theta));
	RV_TRY(rv_gguf_write_f32(w, KEY("rms_eps"), (float)hp->rms_eps));
	RV_TRY(rv_gguf_write_u64(w, KEY("lora_rank"), (uint64_t)t->layout.lora_rank));
	RV_TRY(rv_gguf_write_f32(w, KEY("lora_scale"), (float)t->layout.lora_scale));
	RV_TRY(rv_gguf_write_u64(w, KEY("n_slices"), (uint64_t)t->options.n_slices));
	RV_TRY(rv_gguf_write_u32(w, KEY("products"), (uint32_t)t->options.products));
	RV_TRY(rv_gguf_write_u64(w, KEY("piece_tokens"), (uint64_t)t->options.piece_tokens));
	RV_TRY(rv_gguf_write_u64(w, KEY("step"), (uint64_t)s->step));
	RV_TRY(rv_gguf_write_u64(w, KEY("tokens"), (uint64_t)s->tokens));
	rv_gguf_kv note = {.key = {KEY("note"), strlen(KEY("note"))},
	                   .kind = RV_GGUF_ARRAY,
	                   .elem = RV_GGUF_U8,
	                   .count = s->n_note,
	                   .bytes = s->note,
	                   .n_bytes = s->n_note};
	if (s->n_note > 0)
		RV_TRY(rv_gguf_write_kv(w, &note));
	RV_TRY(rv_gguf_write_u32(w, KEY("base_crc32"), base_crc(t)));
	return rv_gguf_write_u32(w, KEY("crc32"), state_crc(s, rv_trainer_n_active(t)));
}

/* Calls fn for every stored tensor in the order of the file. */
typedef rv_status tensor_fn(void *user, const rv_param *p, int array, const char *name);
static rv_status each_tensor(const rv_train_layout *l, tensor_fn *fn, void *user) {
	for (int64_t i = 0; i < l->n_params; i++)
		for (int a = 0; a < N_ARRAYS && rv_train_layout_trained(l, &l->params[i]); a++) {
			char name[96];
			tensor_name(name, &l->params[i], a);
			RV_TRY(fn(user, &l->params[i], a, name));
		}
	return RV_OK;
}

static rv_status declare_tensor(void *user, const rv_param *p, int array, const char *name) {
	(void)array;
	int64_t dims[2] = {p->cols, p->rows};
	return rv_gguf_declare(user, name, RV_F32, 2, dims);
}

typedef struct copying {
	const rv_trainer *t;
	const state *s;          /* saving: where it is */
	rv_gguf_writer *w;       /* saving */
	const rv_gguf *gguf;     /* loading */
	float *arrays[N_ARRAYS]; /* loading: where it goes */
} copying;

static rv_status write_tensor(void *user, const rv_param *p, int array, const char *name) {
	(void)name;
	const copying *c = user;
	return rv_gguf_write_data(c->w, c->s->arrays[array] + p->offset - c->t->layout.train_begin,
	                          (size_t)(p->rows * p->cols) * sizeof(float));
}

rv_status rv_trainer_save(const rv_trainer *t, const char *path, const void *note, size_t n_note) {
	state s = {.step = t->step,
	           .tokens = t->n_tokens,
	           .note = note,
	           .n_note = n_note,
	           .arrays = {t->weights + t->layout.train_begin, t->moment1, t->moment2}};
	copying c = {.t = t, .s = &s};
	RV_TRY(rv_gguf_writer_open(&c.w, path));
	rv_status st = write_keys(c.w, t, &s);
	if (st == RV_OK)
		st = each_tensor(&t->layout, declare_tensor, c.w);
	if (st == RV_OK)
		st = each_tensor(&t->layout, write_tensor, &c);
	if (st == RV_OK)
		return rv_gguf_writer_commit(c.w);
	rv_gguf_writer_abort(c.w);
	return st;
}

/* ---- reading ---- */

static rv_status differs(const rv_gguf *g, const char *key, double file, double trainer) {
	return rv_fail(RV_ERR_MISMATCH, "%s: key '%s' is %g, the trainer's is %g", rv_gguf_path(g), key,
	               file, trainer);
}

static rv_status same_int(const rv_gguf *g, const char *key, int64_t wanted) {
	int64_t v;
	RV_TRY(rv_gguf_int(g, key, 0, INT64_MAX, &v));
	return v == wanted ? RV_OK : differs(g, key, (double)v, (double)wanted);
}

static rv_status same_real(const rv_gguf *g, const char *key, double wanted) {
	double v;
	RV_TRY(rv_gguf_double(g, key, &v));
	return (float)v == (float)wanted ? RV_OK : differs(g, key, v, wanted);
}

static rv_status same_text(const rv_gguf *g, const char *key, const char *wanted) {
	rv_str v;
	RV_TRY(rv_gguf_string(g, key, &v));
	if (v.len == strlen(wanted) && memcmp(v.data, wanted, v.len) == 0)
		return RV_OK;
	return rv_fail(RV_ERR_MISMATCH, "%s: key '%s' is '%.*s', expected '%s'", rv_gguf_path(g), key,
	               (int)(v.len < 64 ? v.len : 64), v.data, wanted);
}

static rv_status check_keys(const rv_gguf *g, const rv_trainer *t) {
	const rv_hparams *hp = &t->layout.hp;
	RV_TRY(same_text(g, "general.type", "checkpoint"));
	RV_TRY(same_int(g, KEY("version"), VERSION));
	RV_TRY(same_text(g, "general.architecture", t->layout.arch->name));
	for (int i = 0; i < N_SIZES; i++)
		RV_TRY(same_int(g, sizes[i].key,
		                *(const int64_t *)(const void *)((const char *)hp + sizes[i].offset)));
	RV_TRY(same_int(g, KEY("tied"), hp->tied));
	RV_TRY(same_real(g, KEY("rope_theta"), hp->rope_theta));
	RV_TRY(same_real(g, KEY("rms_eps"), hp->rms_eps));
	RV_TRY(same_int(g, KEY("lora_rank"), t->layout.lora_rank));
	RV_TRY(same_real(g, KEY("lora_scale"), t->layout.lora_scale));
	int64_t crc;
	RV_TRY(rv_gguf_int(g, KEY("base_crc32"), 0, UINT32_MAX, &crc));
	if (crc != base_crc(t))
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: key '" KEY("base_crc32") "': the adapters belong to another model",
		               rv_gguf_path(g));
	return RV_OK;
}

static rv_status read_tensor(void *user, const rv_param *p, int array, const char *name) {
	const copying *c = user;
	const rv_gguf_tensor *g = rv_gguf_find_tensor(c->gguf, name);
	if (!g)
		return rv_fail(RV_ERR_MISMATCH, "%s: tensor '%s' is missing", rv_gguf_path(c->gguf),
		               name);
	if (g->type != RV_F32 || g->dims[0] != p->cols || g->dims[1] != p->rows || g->dims[2] != 1 ||
	    g->dims[3] != 1)
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: tensor '%s' is [%lld, %lld], the trainer's [%lld, %lld] F32",
		               rv_gguf_path(c->gguf), name, (long long)g->dims[1],
		               (long long)g->dims[0], (long long)p->rows, (long long)p->cols);
	memcpy(c->arrays[array] + p->offset - c->t->layout.train_begin, g->data,
	       (size_t)(p->rows * p->cols) * sizeof(float));
	return RV_OK;
}

/* What changes the bits of a run, not what it computes: a difference is told. */
static rv_status warn_settings(const rv_gguf *g, const rv_trainer *t) {
	const struct {
		const char *key;
		int64_t value, before; /* the trainer's; where files did not say yet */
	} settings[] = {{KEY("n_slices"), t->options.n_slices, 0},
	                {KEY("products"), t->options.products, 0},
	                {KEY("piece_tokens"), t->options.piece_tokens, 512}};
	for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
		int64_t n = settings[i].before;
		if (n == 0 || rv_gguf_find(g, settings[i].key))
			RV_TRY(rv_gguf_int(g, settings[i].key, 0, INT64_MAX, &n));
		if (n != settings[i].value)
			rv_logf(&t->options.log, RV_LOG_WARN,
			        "%s: key '%s' is %lld, the trainer's %lld: right, but not the bits of "
			        "one run",
			        rv_gguf_path(g), settings[i].key, (long long)n,
			        (long long)settings[i].value);
	}
	return RV_OK;
}

/* Everything into c->arrays and s, checked; the trainer is not touched. */
static rv_status read_state(copying *c, state *s) {
	const rv_gguf *g = c->gguf;
	const rv_trainer *t = c->t;
	RV_TRY(check_keys(g, t));
	RV_TRY(warn_settings(g, t));
	RV_TRY(rv_gguf_int(g, KEY("step"), 0, INT64_MAX, &s->step));
	RV_TRY(rv_gguf_int(g, KEY("tokens"), 0, INT64_MAX, &s->tokens));
	const rv_gguf_kv *note = rv_gguf_find(g, KEY("note"));
	if (note && (note->kind != RV_GGUF_ARRAY || note->elem != RV_GGUF_U8))
		return rv_fail(RV_ERR_FORMAT, "%s: key '" KEY("note") "' is no array of bytes",
		               rv_gguf_path(g));
	s->note = note ? note->bytes : NULL;
	s->n_note = note ? note->n_bytes : 0;
	RV_TRY(each_tensor(&t->layout, read_tensor, c));
	int64_t crc;
	RV_TRY(rv_gguf_int(g, KEY("crc32"), 0, UINT32_MAX, &crc));
	for (int a = 0; a < N_ARRAYS; a++)
		s->arrays[a] = c->arrays[a];
	if (crc != state_crc(s, rv_trainer_n_active(t)))
		return rv_fail(RV_ERR_FORMAT, "%s: key '" KEY("crc32") "': the contents are damaged",
		               rv_gguf_path(g));
	return RV_OK;
}

static rv_status copy_note(const state *s, void **note, size_t *n_note) {
	char *copy;
	RV_TRY(RV_ALLOC(&copy, s->n_note + 1, "note"));
	if (s->n_note > 0)
		memcpy(copy, s->note, s->n_note);
	*note = copy;
	if (n_note)
		*n_note = s->n_note;
	return RV_OK;
}

static rv_status load_into(rv_trainer *t, copying *c, void **note, size_t *n_note) {
	state s;
	const size_t n = (size_t)rv_trainer_n_active(t);
	for (int a = 0; a < N_ARRAYS; a++)
		RV_TRY(RV_ALLOC(&c->arrays[a], n, "checkpoint"));
	RV_TRY(read_state(c, &s));
	if (note)
		RV_TRY(copy_note(&s, note, n_note));
	memcpy(t->weights + t->layout.train_begin, c->arrays[0], n * sizeof(float));
	memcpy(t->moment1, c->arrays[1], n * sizeof(float));
	memcpy(t->moment2, c->arrays[2], n * sizeof(float));
	t->step = s.step;
	t->n_tokens = s.tokens;
	rv_train_drop_pending(t);
	return RV_OK;
}

rv_status rv_trainer_load(rv_trainer *t, const char *path, void **note, size_t *n_note) {
	rv_gguf *gguf;
	RV_TRY(rv_gguf_open(&gguf, path, RV_GGUF_DEFAULT));
	copying c = {.t = t, .gguf = gguf};
	rv_status st = load_into(t, &c, note, n_note);
	for (int a = 0; a < N_ARRAYS; a++)
		rv_free(c.arrays[a]);
	rv_gguf_close(gguf);
	return st;
}
