/* Encoding, decoding and the questions one may ask a tokenizer. */
#include "base/mem.h"
#include "model/tokenizer_internal.h"

/* ---- questions ---- */

rv_tokenizer_kind rv_tokenizer_get_kind(const rv_tokenizer *tok) {
	return tok->kind;
}
const char *rv_tokenizer_pre(const rv_tokenizer *tok) {
	return tok->kind == RV_TOKENIZER_SPM ? "spm" : rv_pretok_name(tok->pre);
}
int32_t rv_tokenizer_n_vocab(const rv_tokenizer *tok) {
	return tok->n_vocab;
}
int32_t rv_tokenizer_bos(const rv_tokenizer *tok) {
	return tok->bos;
}
int32_t rv_tokenizer_eos(const rv_tokenizer *tok) {
	return tok->eos;
}
int rv_tokenizer_add_bos(const rv_tokenizer *tok) {
	return tok->add_bos;
}
int rv_tokenizer_add_eos(const rv_tokenizer *tok) {
	return tok->add_eos;
}
size_t rv_tokenizer_max_bytes(const rv_tokenizer *tok) {
	return tok->max_bytes;
}

static int in_vocab(const rv_tokenizer *tok, int32_t id) {
	return id >= 0 && id < tok->n_vocab;
}

int rv_tokenizer_is_end(const rv_tokenizer *tok, int32_t id) {
	return in_vocab(tok, id) && (tok->flags[id] & RV_TOK_END);
}
int rv_tokenizer_is_special(const rv_tokenizer *tok, int32_t id) {
	return in_vocab(tok, id) &&
	       (tok->type[id] == RV_TOK_CONTROL || tok->type[id] == RV_TOK_UNKNOWN);
}
rv_str rv_tokenizer_entry(const rv_tokenizer *tok, int32_t id) {
	return in_vocab(tok, id) ? rv_tok_text(&tok->entries, (size_t)id) : (rv_str){"", 0};
}
int32_t rv_tokenizer_find(const rv_tokenizer *tok, const char *text, size_t len) {
	int32_t id = rv_tok_map_find(&tok->map, &tok->entries, text, len);
	return in_vocab(tok, id) ? id : -1;
}

/* ---- encoding ---- */

rv_encode_options rv_encode_defaults(void) {
	return (rv_encode_options){.add_bos = -1, .add_eos = -1, .parse_special = 0};
}

/* Where an encode call stands: whether text has come, and whether a token stands just before. */
typedef struct place {
	int parse_special, first, after_token;
} place;

static rv_status encode_stretch(rv_tok_work *w, place *at, const char *text, size_t len) {
	const rv_tokenizer *t = w->t;
	if (!len)
		return RV_OK;
	int prefix = t->prefix == RV_TOK_PREFIX_ALWAYS ? at->after_token
	                                               : t->prefix == RV_TOK_PREFIX_FIRST && at->first;
	at->first = at->after_token = 0;
	if (t->kind == RV_TOKENIZER_BPE)
		return rv_tok_encode_bpe(w, text, len);
	return rv_tok_encode_spm(w, text, len, prefix);
}

/* Cuts a text at the tokens looked for in this stage: on the text as given, then, between those, on the
 * normalised text. */
static rv_status encode_stage(rv_tok_work *w, place *at, int late, const char *text, size_t len) {
	const rv_tok_finder *finder = &w->t->finders[at->parse_special][late];
	const char *end = text + len;
	while (text < end) {
		int32_t id;
		size_t match;
		const char *found = rv_tok_finder_next(finder, text, end, &id, &match);
		const char *stretch = text;
		size_t n = (size_t)(found - text);
		if (!late) {
			if (w->t->nfc)
				RV_TRY(rv_tok_nfc(w, text, n, &stretch, &n));
			RV_TRY(encode_stage(w, at, 1, stretch, n));
		} else {
			RV_TRY(encode_stretch(w, at, stretch, n));
		}
		if (found == end)
			break;
		RV_TRY(rv_tok_emit(w, id));
		at->first = 0;
		at->after_token = 1;
		text = found + match;
	}
	return RV_OK;
}

/* Into w->ids, from their start. */
static rv_status encode(rv_tok_work *w, const char *text, size_t len,
                        const rv_encode_options *options) {
	const rv_tokenizer *tok = w->t;
	rv_encode_options o = options ? *options : rv_encode_defaults();
	int bos = o.add_bos < 0 ? tok->add_bos : o.add_bos;
	int eos = o.add_eos < 0 ? tok->add_eos : o.add_eos;
	place at = {.parse_special = o.parse_special != 0, .first = 1, .after_token = 1};
	w->n = 0;
	if (bos && tok->bos >= 0)
		RV_TRY(rv_tok_emit(w, tok->bos));
	RV_TRY(encode_stage(w, &at, 0, text, len));
	return eos && tok->eos >= 0 ? rv_tok_emit(w, tok->eos) : RV_OK;
}

rv_status rv_tokenizer_encode(const rv_tokenizer *tok, const char *text, size_t len,
                              const rv_encode_options *options, int32_t **ids, size_t *n) {
	rv_tok_work w = {.t = tok};
	rv_status status = encode(&w, text, len, options);
	rv_tok_work_free(&w);
	if (status != RV_OK) {
		rv_free(w.ids);
		return status;
	}
	*ids = w.ids;
	*n = w.n;
	return RV_OK;
}

struct rv_encoder {
	rv_tok_work work;
};

rv_status rv_encoder_create(rv_encoder **out, const rv_tokenizer *tok) {
	RV_TRY(RV_ALLOC(out, 1, "encoder"));
	(*out)->work.t = tok;
	return RV_OK;
}

void rv_encoder_destroy(rv_encoder *e) {
	if (!e)
		return;
	rv_tok_work_free(&e->work);
	rv_free(e->work.ids);
	rv_free(e);
}

rv_status rv_encoder_encode(rv_encoder *e, const char *text, size_t len,
                            const rv_encode_options *options, const int32_t **ids, size_t *n) {
	RV_TRY(encode(&e->work, text, len, options));
	*ids = e->work.ids;
	*n = e->work.n;
	return RV_OK;
}

/* ---- decoding ---- */

static rv_status check_id(const rv_tokenizer *tok, int32_t id) {
	if (in_vocab(tok, id))
		return RV_OK;
	return rv_fail(RV_ERR_INVALID, "%s: token %d is not in 0..%d", tok->name, id, tok->n_vocab - 1);
}

/* What a token adds to a text. The space that SPM encoding puts before the first word is left out while
 * *started is 0; an ordinary token sets it. */
static rv_str token_bytes(const rv_tokenizer *tok, int32_t id, int special, int *started) {
	rv_str s = rv_tok_text(&tok->bytes, (size_t)id);
	uint8_t type = tok->type[id];
	if (type == RV_TOK_CONTROL || type == RV_TOK_UNKNOWN)
		return special ? s : (rv_str){s.data, 0};
	if (!*started && type != RV_TOK_USER) {
		*started = 1;
		if (tok->prefix != RV_TOK_PREFIX_NEVER && type != RV_TOK_BYTE && s.len &&
		    s.data[0] == ' ')
			return (rv_str){s.data + 1, s.len - 1};
	}
	return s;
}

rv_status rv_tokenizer_decode(const rv_tokenizer *tok, const int32_t *ids, size_t n, int special,
                              int strip_space, char **text, size_t *len) {
	size_t total = 1;
	for (size_t i = 0; i < n; i++) {
		RV_TRY(check_id(tok, ids[i]));
		if (!rv_add_ok(total, rv_tok_text(&tok->bytes, (size_t)ids[i]).len, &total))
			return rv_fail(RV_ERR_NO_MEMORY, "%s: decoded text is too long", tok->name);
	}
	char *out;
	RV_TRY(rv_alloc_uninit((void **)&out, total, 1, "decoded text"));
	size_t at = 0;
	int started = !strip_space;
	for (size_t i = 0; i < n; i++) {
		rv_str s = token_bytes(tok, ids[i], special, &started);
		memcpy(out + at, s.data, s.len);
		at += s.len;
	}
	out[at] = '\0';
	*text = out;
	*len = at;
	return RV_OK;
}

/* ---- streaming ---- */

/* Bytes at the end that begin a UTF-8 character but do not finish it: 0..3. */
static size_t unfinished(const char *s, size_t n) {
	/* The first byte after the lead has a narrower range for some leads. */
	static const struct {
		uint8_t lead, low, high;
	} narrow[] = {{0xe0, 0xa0, 0xbf}, {0xed, 0x80, 0x9f}, {0xf0, 0x90, 0xbf}, {0xf4, 0x80, 0x8f}};
	for (size_t k = 1; k <= 3 && k <= n; k++) {
		uint8_t lead = (uint8_t)s[n - k];
		if ((lead & 0xc0) == 0x80)
			continue;
		size_t whole = lead < 0xc2 || lead > 0xf4 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
		if (whole <= k)
			return 0;
		for (size_t i = 0; k > 1 && i < sizeof narrow / sizeof *narrow; i++) {
			uint8_t second = (uint8_t)s[n - k + 1];
			if (narrow[i].lead == lead &&
			    (second < narrow[i].low || second > narrow[i].high))
				return 0;
		}
		return k;
	}
	return 0;
}

rv_status rv_decoder_push(rv_decoder *d, const rv_tokenizer *tok, int32_t id, char *buf, size_t cap,
                          size_t *n) {
	RV_TRY(check_id(tok, id));
	int started = d->started;
	rv_str s = token_bytes(tok, id, 0, &started);
	size_t held = (size_t)d->n_pending, total = held + s.len;
	if (total > cap)
		return rv_fail(RV_ERR_INVALID, "%s: token %d needs a buffer of %zu bytes, not %zu",
		               tok->name, id, total, cap);
	d->started = started;
	memcpy(buf, d->pending, held);
	memcpy(buf + held, s.data, s.len);
	size_t keep = unfinished(buf, total);
	memcpy(d->pending, buf + total - keep, keep);
	d->n_pending = (int)keep;
	*n = total - keep;
	return RV_OK;
}

void rv_decoder_flush(rv_decoder *d, char *buf, size_t cap, size_t *n) {
	size_t held = (size_t)d->n_pending < cap ? (size_t)d->n_pending : cap;
	memcpy(buf, d->pending, held);
	memmove(d->pending, d->pending + held, (size_t)d->n_pending - held);
	d->n_pending -= (int)held;
	*n = held;
}
