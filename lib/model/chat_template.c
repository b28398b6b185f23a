#include "model/chat_template.h"

#include "base/mem.h"

#include <string.h>

#define MAX_MARKERS 4
#define MAX_MARKS 4
#define TEMPLATE_KEY "tokenizer.chat_template"
#define QUOTED_BYTES 48

/* ---- the forms ---- */

enum { TRIM_SYSTEM = 1, TRIM_USER = 2, TRIM_ANSWER = 4 };

struct rv_chat_template {
	const char *name;
	/* Recognition: all of `marks` occur in the text and none of `without`; ' stands for either
	 * quote.
	 */
	const char *marks[MAX_MARKS], *without[MAX_MARKS];
	const char *markers[MAX_MARKERS]; /* special tokens within the strings below */
	int needs_markers;                /* 0: a vocabulary without them spells them out */
	const char *bos, *eos;            /* how the strings below write these two; NULL: not used */
	const char *begin;
	const char *system[2], *user[2]; /* before and after the content */
	int system_in_user;              /* the system message stands within the first user turn */
	const char *answer[2];           /* what asks for it, and its end */
	const char *blank[2];            /* around an answer that is given rather than generated */
	int trim;
};

/* What the Mistral forms share. */
#define MISTRAL                                                                                        \
	.markers = {"[INST]", "[/INST]"}, .bos = "<s>", .eos = "</s>", .begin = "<s>",                 \
	.system = {"", "\n\n"}, .system_in_user = 1
#define NOT_MISTRAL "<<SYS>>", "[SYSTEM_PROMPT]"

static const rv_chat_template forms[] = {
        {.name = "chatml",
         .marks = {"<|im_start|>", "<|im_end|>"},
         .without = {"<|im_sep|>", "<end_of_utterance>"},
         .markers = {"<|im_start|>", "<|im_end|>"},
         .needs_markers = 1,
         .begin = "",
         .system = {"<|im_start|>system\n", "<|im_end|>\n"},
         .user = {"<|im_start|>user\n", "<|im_end|>\n"},
         .answer = {"<|im_start|>assistant\n", "<|im_end|>\n"},
         .blank = {"", ""}},
        {.name = "llama2",
         .marks = {"[INST]", "[/INST]", "<<SYS>>"},
         .without = {"[SYSTEM_PROMPT]"},
         .bos = "<s>",
         .eos = "</s>",
         .begin = "",
         .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
         .system_in_user = 1,
         .user = {"<s>[INST] ", " [/INST]"},
         .answer = {"", "</s>"},
         .blank = {" ", " "},
         .trim = TRIM_USER | TRIM_ANSWER},
        {.name = "llama3",
         .marks = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
         .without = {"<|im_start|>"},
         .markers = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
         .needs_markers = 1,
         .bos = "<|begin_of_text|>",
         .begin = "<|begin_of_text|>",
         .system = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
         .user = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
         .answer = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"},
         .blank = {"", ""},
         .trim = TRIM_SYSTEM | TRIM_USER | TRIM_ANSWER},
        {.name = "mistral",
         .marks = {"'[INST] ", "'[/INST]'"},
         .without = {NOT_MISTRAL, "'[INST]'"},
         MISTRAL,
         .user = {"[INST] ", "[/INST]"},
         .answer = {"", "</s>"},
         .blank = {" ", ""},
         .trim = TRIM_ANSWER},
        {.name = "mistral-v0.1",
         .marks = {"'[INST] '", "' [/INST]'"},
         .without = {NOT_MISTRAL},
         MISTRAL,
         .user = {"[INST] ", " [/INST]"},
         .answer = {"", "</s>"},
         .blank = {"", ""}},
        {.name = "mistral-v1",
         .marks = {"' [INST] '", "' [/INST]'"},
         .without = {NOT_MISTRAL},
         MISTRAL,
         .user = {" [INST] ", " [/INST]"},
         .answer = {"", "</s>"},
         .blank = {" ", ""}},
        {.name = "mistral-tekken",
         .marks = {"'[INST]'", "'[/INST]'"},
         .without = {NOT_MISTRAL},
         MISTRAL,
         .user = {"[INST]", "[/INST]"},
         .answer = {"", "</s>"},
         .blank = {"", ""}},
};
#define N_FORMS (sizeof forms / sizeof *forms)
#define NAMES "chatml, llama2, llama3, mistral, mistral-v0.1, mistral-v1, mistral-tekken"

const char *rv_chat_template_name(const rv_chat_template *t) {
	return t->name;
}

const char *rv_chat_template_names(void) {
	return NAMES;
}

rv_status rv_chat_template_by_name(const rv_chat_template **out, const char *name) {
	for (size_t i = 0; i < N_FORMS; i++)
		if (strcmp(forms[i].name, name) == 0) {
			*out = &forms[i];
			return RV_OK;
		}
	return rv_fail(RV_ERR_NOT_FOUND, "chat template '%.64s': is none of %s", name, NAMES);
}

/* ---- recognition ---- */

static char one_quote(char c) {
	return c == '"' ? '\'' : c;
}

static const char *find(rv_str text, const char *mark) {
	size_t len = strlen(mark);
	for (size_t at = 0; len <= text.len && at <= text.len - len; at++) {
		size_t i = 0;
		while (i < len && one_quote(text.data[at + i]) == mark[i])
			i++;
		if (i == len)
			return text.data + at;
	}
	return NULL;
}

static int has_form(rv_str text, const rv_chat_template *t) {
	for (int i = 0; i < MAX_MARKS && t->marks[i]; i++)
		if (!find(text, t->marks[i]))
			return 0;
	for (int i = 0; i < MAX_MARKS && t->without[i]; i++)
		if (find(text, t->without[i]))
			return 0;
	return 1;
}

/* ChatML templates write their default system message out: "<|im_start|>system\n", letters,
 * "<|im_end|>", within one string of the program. A quote or brace before the end says that it is
 * something else. */
static rv_str default_system(rv_str text) {
	static const char start[] = "<|im_start|>system", end[] = "<|im_end|>";
	const char *stop = text.data + text.len, *p;
	while ((p = find(text, start))) {
		p += sizeof start - 1;
		text = (rv_str){p, (size_t)(stop - p)};
		size_t line_end = text.len && *p == '\n'                        ? 1
		                  : text.len > 1 && p[0] == '\\' && p[1] == 'n' ? 2
		                                                                : 0;
		size_t at = line_end;
		while (at < text.len && !memchr("'\"{}\\<", p[at], 6))
			at++;
		if (line_end && at > line_end && text.len - at >= sizeof end - 1 &&
		    memcmp(p + at, end, sizeof end - 1) == 0)
			return (rv_str){p + line_end, at - line_end};
	}
	return (rv_str){NULL, 0};
}

rv_status rv_chat_recognise(rv_str text, rv_chat_found *out) {
	for (size_t i = 0; i < N_FORMS; i++) {
		if (!has_form(text, &forms[i]))
			continue;
		*out = (rv_chat_found){.form = &forms[i]};
		if (find(text, "<|im_start|>"))
			out->default_system = default_system(text);
		if (find(text, "Cutting Knowledge Date"))
			out->left_out = "the lines with dates before the system message";
		return RV_OK;
	}
	int shown = (int)(text.len < QUOTED_BYTES ? text.len : QUOTED_BYTES);
	while (text.len > QUOTED_BYTES && shown > 0 && (text.data[shown] & 0xc0) == 0x80)
		shown--;
	return rv_fail(RV_ERR_UNSUPPORTED, "'%.*s%s': is no known chat template, they are %s", shown,
	               text.data, text.len > QUOTED_BYTES ? "..." : "", NAMES);
}

rv_status rv_chat_recognise_gguf(const rv_gguf *gguf, rv_chat_found *out) {
	rv_str text;
	RV_TRY(rv_gguf_string(gguf, TEMPLATE_KEY, &text));
	rv_status status = rv_chat_recognise(text, out);
	if (status == RV_OK)
		return RV_OK;
	rv_fail_in(status, TEMPLATE_KEY);
	return rv_fail_in(status, rv_gguf_path(gguf));
}

/* ---- rendering ---- */

typedef struct pieces {
	const rv_chat_template *t;
	rv_chat_piece *v;
	size_t n, cap;
} pieces;

static rv_status add(pieces *p, rv_chat_kind kind, const char *text, size_t len) {
	if (len == 0)
		return RV_OK;
	if (p->n == p->cap) {
		RV_TRY(RV_GROW(&p->v, p->cap, 2 * p->cap + 16, "chat pieces"));
		p->cap = 2 * p->cap + 16;
	}
	p->v[p->n++] = (rv_chat_piece){kind, text, len};
	return RV_OK;
}

/* The special token that begins at s: its length and kind; 0: none does. */
static size_t token_at(const rv_chat_template *t, const char *s, rv_chat_kind *kind) {
	const struct {
		const char *text;
		rv_chat_kind kind;
	} all[] = {{t->bos, RV_CHAT_BOS},           {t->eos, RV_CHAT_EOS},
	           {t->markers[0], RV_CHAT_MARKER}, {t->markers[1], RV_CHAT_MARKER},
	           {t->markers[2], RV_CHAT_MARKER}, {t->markers[3], RV_CHAT_MARKER}};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (all[i].text && strncmp(s, all[i].text, strlen(all[i].text)) == 0) {
			*kind = all[i].kind;
			return strlen(all[i].text);
		}
	return 0;
}

static rv_status add_fixed(pieces *p, const char *s) {
	const char *plain = s;
	while (*s) {
		rv_chat_kind kind;
		size_t len = token_at(p->t, s, &kind);
		if (!len) {
			s++;
			continue;
		}
		RV_TRY(add(p, RV_CHAT_TEXT, plain, (size_t)(s - plain)));
		RV_TRY(add(p, kind, s, len));
		plain = s += len;
	}
	return add(p, RV_CHAT_TEXT, plain, (size_t)(s - plain));
}

static int is_blank(char c) {
	return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
}

static rv_status add_content(pieces *p, const rv_chat_message *m, int trim_left, int trim_right) {
	const char *s = m->content;
	size_t len = m->len;
	for (; trim_left && len && is_blank(*s); s++)
		len--;
	while (trim_right && len && is_blank(s[len - 1]))
		len--;
	return add(p, RV_CHAT_CONTENT, s, len);
}

static rv_status add_system(pieces *p, const rv_chat_message *m) {
	int trim = p->t->trim & TRIM_SYSTEM;
	RV_TRY(add_fixed(p, p->t->system[0]));
	RV_TRY(add_content(p, m, trim, trim));
	return add_fixed(p, p->t->system[1]);
}

/* system: NULL, or the message that stands in this turn. */
static rv_status add_user(pieces *p, const rv_chat_message *system, const rv_chat_message *m) {
	int trim = p->t->trim & TRIM_USER;
	RV_TRY(add_fixed(p, p->t->user[0]));
	if (system)
		RV_TRY(add_system(p, system));
	/* The published forms trim system and user content as one text. */
	RV_TRY(add_content(p, m, trim && !system, trim));
	return add_fixed(p, p->t->user[1]);
}

static rv_status add_answer(pieces *p, const rv_chat_message *m) {
	int trim = p->t->trim & TRIM_ANSWER;
	RV_TRY(add_fixed(p, p->t->answer[0]));
	RV_TRY(add_fixed(p, p->t->blank[0]));
	RV_TRY(add_content(p, m, trim, trim));
	RV_TRY(add_fixed(p, p->t->blank[1]));
	return add_fixed(p, p->t->answer[1]);
}

static rv_status check(const rv_chat_message *m, size_t n, size_t n_done) {
	size_t first = n && m[0].role == RV_CHAT_SYSTEM;
	for (size_t i = first; i < n; i++)
		if (m[i].role != ((i - first) % 2 ? RV_CHAT_ASSISTANT : RV_CHAT_USER))
			return rv_fail(RV_ERR_INVALID,
			               "chat message %zu: user and assistant must take turns", i);
	if (n == first || m[n - 1].role != RV_CHAT_USER)
		return rv_fail(RV_ERR_INVALID, "chat message %zu: a user's message must be the last",
		               n - (n > 0));
	if (n_done && (n_done >= n || m[n_done - 1].role != RV_CHAT_ASSISTANT))
		return rv_fail(RV_ERR_INVALID, "chat message %zu: what is done must end with an answer",
		               n_done);
	return RV_OK;
}

static rv_status render(pieces *p, const rv_chat_message *m, size_t n, size_t n_done) {
	const rv_chat_message *system = n_done == 0 && m[0].role == RV_CHAT_SYSTEM ? m : NULL;
	RV_TRY(add_fixed(p, n_done ? p->t->answer[1] : p->t->begin));
	if (system && !p->t->system_in_user)
		RV_TRY(add_system(p, system));
	for (size_t i = system ? 1 : n_done; i < n; i++) {
		if (m[i].role == RV_CHAT_ASSISTANT)
			RV_TRY(add_answer(p, &m[i]));
		else
			RV_TRY(add_user(p, i == 1 && p->t->system_in_user ? system : NULL, &m[i]));
	}
	return add_fixed(p, p->t->answer[0]);
}

rv_status rv_chat_render(const rv_chat_template *t, const rv_chat_message *messages, size_t n,
                         size_t n_done, rv_chat_piece **out, size_t *n_out) {
	pieces p = {.t = t};
	RV_TRY(check(messages, n, n_done));
	rv_status status = render(&p, messages, n, n_done);
	if (status != RV_OK) {
		rv_free(p.v);
		return status;
	}
	*out = p.v;
	*n_out = p.n;
	return RV_OK;
}

/* ---- encoding ---- */

typedef struct encoder {
	const rv_chat_template *t;
	const rv_tokenizer *tok;
	int32_t marker[MAX_MARKERS]; /* -1: the vocabulary has none, it is ordinary text */
	char *stretch;               /* text since the last token, all pieces' bytes of room */
	size_t n_stretch;
	int32_t *ids;
	size_t n, cap;
} encoder;

static rv_status put(encoder *e, const int32_t *ids, size_t n) {
	if (n > e->cap - e->n) {
		size_t cap;
		if (!rv_add_ok(e->n, n, &cap) || !rv_mul_ok(cap, 2, &cap))
			return rv_fail(RV_ERR_NO_MEMORY, "chat ids: too many");
		RV_TRY(RV_GROW(&e->ids, e->cap, cap, "chat ids"));
		e->cap = cap;
	}
	if (n)
		memcpy(e->ids + e->n, ids, n * sizeof *ids);
	e->n += n;
	return RV_OK;
}

static rv_status encode_text(const rv_tokenizer *tok, const char *text, size_t len, int special,
                             int32_t **ids, size_t *n) {
	rv_encode_options how = {.add_bos = 0, .add_eos = 0, .parse_special = special};
	return rv_tokenizer_encode(tok, text, len, &how, ids, n);
}

/* A marker counts when its text is read as that one token. */
static rv_status find_markers(encoder *e) {
	for (int i = 0; i < MAX_MARKERS && e->t->markers[i]; i++) {
		const char *text = e->t->markers[i];
		int32_t id = rv_tokenizer_find(e->tok, text, strlen(text)), *ids;
		size_t n;
		RV_TRY(encode_text(e->tok, text, strlen(text), 1, &ids, &n));
		e->marker[i] = n == 1 && ids[0] == id ? id : -1;
		rv_free(ids);
		if (e->marker[i] < 0 && e->t->needs_markers)
			return rv_fail(RV_ERR_MISMATCH,
			               "chat template %s: the vocabulary has no token '%s'", e->t->name,
			               text);
	}
	return RV_OK;
}

static int32_t marker_id(const encoder *e, const char *text, size_t len) {
	for (int i = 0; i < MAX_MARKERS && e->t->markers[i]; i++)
		if (strlen(e->t->markers[i]) == len && memcmp(e->t->markers[i], text, len) == 0)
			return e->marker[i];
	return -1;
}

/* Whether a marker that the tokenizer finds unasked (user-defined tokens are) begins here. */
static int is_found_unasked(const encoder *e, const char *text, size_t len) {
	for (int i = 0; i < MAX_MARKERS && e->t->markers[i]; i++) {
		size_t n = strlen(e->t->markers[i]);
		if (e->marker[i] >= 0 && !rv_tokenizer_is_special(e->tok, e->marker[i]) && n <= len &&
		    memcmp(text, e->t->markers[i], n) == 0)
			return 1;
	}
	return 0;
}

/* Where to cut a stretch, which holds no markers of the template's own, so that it is read for none:
 * after the first byte of one. */
static size_t safe_length(const encoder *e, const char *text, size_t len) {
	for (size_t at = 0; at < len; at++)
		if (is_found_unasked(e, text + at, len - at))
			return at + 1;
	return len;
}

static rv_status end_stretch(encoder *e) {
	rv_status status = RV_OK;
	for (size_t at = 0; at < e->n_stretch && status == RV_OK;) {
		int32_t *ids = NULL;
		size_t n = 0, len = safe_length(e, e->stretch + at, e->n_stretch - at);
		status = encode_text(e->tok, e->stretch + at, len, 0, &ids, &n);
		if (status == RV_OK)
			status = put(e, ids, n);
		rv_free(ids);
		at += len;
	}
	e->n_stretch = 0;
	return status;
}

static rv_status put_piece(encoder *e, const rv_chat_piece *p) {
	int32_t id = p->kind == RV_CHAT_BOS      ? rv_tokenizer_bos(e->tok)
	             : p->kind == RV_CHAT_EOS    ? rv_tokenizer_eos(e->tok)
	             : p->kind == RV_CHAT_MARKER ? marker_id(e, p->text, p->len)
	                                         : -1;
	if (id >= 0) {
		RV_TRY(end_stretch(e));
		return put(e, &id, 1);
	}
	if (p->kind == RV_CHAT_EOS)
		return rv_fail(RV_ERR_MISMATCH, "chat template %s: the vocabulary has no end token",
		               e->t->name);
	if (p->kind == RV_CHAT_BOS)
		return RV_OK;
	memcpy(e->stretch + e->n_stretch, p->text, p->len);
	e->n_stretch += p->len;
	return RV_OK;
}

static rv_status encode(encoder *e, const rv_chat_piece *p, size_t n, int first) {
	size_t total = 0;
	for (size_t i = 0; i < n; i++)
		if (!rv_add_ok(total, p[i].len, &total))
			return rv_fail(RV_ERR_NO_MEMORY, "chat text: too long");
	RV_TRY(rv_alloc_uninit((void **)&e->stretch, total, 1, "chat text"));
	RV_TRY(find_markers(e));
	int32_t bos = rv_tokenizer_bos(e->tok);
	if (first && bos >= 0 && rv_tokenizer_add_bos(e->tok) && (!n || p[0].kind != RV_CHAT_BOS))
		RV_TRY(put(e, &bos, 1));
	for (size_t i = 0; i < n; i++)
		RV_TRY(put_piece(e, &p[i]));
	return end_stretch(e);
}

rv_status rv_chat_encode(const rv_chat_template *t, const rv_tokenizer *tok, const rv_chat_piece *list,
                         size_t n, int first, int32_t **ids, size_t *n_ids) {
	encoder e = {.t = t, .tok = tok};
	rv_status status = encode(&e, list, n, first);
	rv_free(e.stretch);
	if (status != RV_OK) {
		rv_free(e.ids);
		return status;
	}
	*ids = e.ids;
	*n_ids = e.n;
	return RV_OK;
}
