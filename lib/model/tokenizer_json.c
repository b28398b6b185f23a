/* The vocabulary as a Hugging Face tokenizer.json: what would change results and is not implemented is
 * refused by its name in the file. */
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/tokenizer_internal.h"

#define MAX_FILE_BYTES ((size_t)1 << 30)
#define MAX_HOLES 65536 /* ids below the largest that nothing uses */

/* ---- small questions to JSON ---- */

static const char *text_of(const json_t *obj, const char *key) {
	const char *s = json_string_value(json_object_get(obj, key));
	return s ? s : "";
}

static const char *type_of(const json_t *obj) {
	return text_of(obj, "type");
}

static int is_type(const json_t *obj, const char *type) {
	return strcmp(type_of(obj), type) == 0;
}

static int flag_of(const json_t *obj, const char *key, int absent) {
	const json_t *v = json_object_get(obj, key);
	return v ? json_is_true(v) : absent;
}

static int is_given(const json_t *v) {
	return v && !json_is_null(v);
}

static rv_status refuse(const rv_tokenizer *t, const char *what, const char *name) {
	return rv_fail(RV_ERR_UNSUPPORTED, "%s: %s '%s' is not implemented", t->name, what, name);
}

/* A component, or the components of a Sequence: at most `cap` of them. */
static rv_status parts_of(const rv_tokenizer *t, const json_t *root, const char *key, const char *list,
                          const json_t **parts, size_t cap, size_t *n) {
	const json_t *value = json_object_get(root, key);
	*n = 0;
	if (!is_given(value))
		return RV_OK;
	if (!json_is_object(value))
		return rv_fail(RV_ERR_FORMAT, "%s: '%s' is no object", t->name, key);
	if (!is_type(value, "Sequence")) {
		parts[(*n)++] = value;
		return RV_OK;
	}
	const json_t *items = json_object_get(value, list);
	if (!json_is_array(items) || json_array_size(items) > cap)
		return refuse(t, key, "Sequence of this length");
	for (; *n < json_array_size(items); ++*n)
		parts[*n] = json_array_get(items, *n);
	return RV_OK;
}

/* ---- the components around the model ---- */

#define MAX_PARTS 8

typedef struct outline {
	int metaspace;  /* spaces become U+2581 */
	int byte_level; /* bytes become letters */
} outline;

static int is_space_replacement(const json_t *part) {
	return strcmp(text_of(json_object_get(part, "pattern"), "String"), " ") == 0 &&
	       strcmp(text_of(part, "content"), RV_TOK_SPACE) == 0;
}

static rv_status read_normalizer(rv_tokenizer *t, const json_t *root, outline *o) {
	const json_t *parts[MAX_PARTS];
	size_t n;
	RV_TRY(parts_of(t, root, "normalizer", "normalizers", parts, MAX_PARTS, &n));
	for (size_t i = 0; i < n; i++) {
		if (is_type(parts[i], "NFC") && !o->metaspace)
			t->nfc = 1;
		else if (is_type(parts[i], "Prepend") && !o->metaspace &&
		         strcmp(text_of(parts[i], "prepend"), RV_TOK_SPACE) == 0)
			t->prefix = RV_TOK_PREFIX_ALWAYS;
		else if (is_type(parts[i], "Replace") && is_space_replacement(parts[i]))
			o->metaspace = 1;
		else
			return refuse(t, "normalizer", type_of(parts[i]));
	}
	return RV_OK;
}

static rv_status read_split(rv_tokenizer *t, const json_t *part) {
	const char *pattern = text_of(json_object_get(part, "pattern"), "Regex");
	const char *behavior = text_of(part, "behavior");
	int invert = flag_of(part, "invert", 0);
	/* The patterns leave no character out, so dropping what lies between matches drops nothing. */
	if (!(strcmp(behavior, "Isolated") == 0 && !invert) &&
	    !(strcmp(behavior, "Removed") == 0 && invert))
		return refuse(t, "pre-tokenizer Split behaviour", behavior);
	if (!rv_pretok_by_pattern(pattern, &t->pre))
		return refuse(t, "pre-tokenizer pattern", pattern);
	return RV_OK;
}

static rv_status read_metaspace(rv_tokenizer *t, const json_t *part) {
	const char *scheme = text_of(part, "prepend_scheme");
	const char *replacement = text_of(part, "replacement");
	if (strcmp(replacement, RV_TOK_SPACE) != 0)
		return refuse(t, "Metaspace replacement", replacement);
	if (flag_of(part, "split", 1))
		return refuse(t, "pre-tokenizer", "Metaspace with split");
	if (strcmp(scheme, "always") == 0 || (!*scheme && flag_of(part, "add_prefix_space", 1)))
		t->prefix = RV_TOK_PREFIX_ALWAYS;
	else if (strcmp(scheme, "first") == 0)
		t->prefix = RV_TOK_PREFIX_FIRST;
	else if (*scheme && strcmp(scheme, "never") != 0)
		return refuse(t, "Metaspace prepend_scheme", scheme);
	return RV_OK;
}

static rv_status read_pre_tokenizer(rv_tokenizer *t, const json_t *root, outline *o) {
	const json_t *parts[MAX_PARTS];
	size_t n, n_splits = 0;
	RV_TRY(parts_of(t, root, "pre_tokenizer", "pretokenizers", parts, MAX_PARTS, &n));
	for (size_t i = 0; i < n; i++) {
		int last = i + 1 == n;
		if (is_type(parts[i], "Split") && i == 0 && !last) {
			RV_TRY(read_split(t, parts[i]));
			n_splits++;
		} else if (is_type(parts[i], "ByteLevel") && last) {
			if (flag_of(parts[i], "add_prefix_space", 1))
				return refuse(t, "pre-tokenizer", "ByteLevel with add_prefix_space");
			if (flag_of(parts[i], "use_regex", 1)) {
				t->pre = RV_PRETOK_GPT2;
				n_splits++;
			}
			o->byte_level = 1;
		} else if (is_type(parts[i], "Metaspace") && n == 1 && !o->metaspace) {
			RV_TRY(read_metaspace(t, parts[i]));
			o->metaspace = 1;
		} else {
			return refuse(t, "pre-tokenizer", type_of(parts[i]));
		}
	}
	if (o->byte_level && n_splits != 1)
		return refuse(t, "pre-tokenizer", "ByteLevel with none or two patterns");
	return RV_OK;
}

/* Components that change nothing here, by kind of vocabulary. */
static rv_status check_decoder(const rv_tokenizer *t, const json_t *root) {
	static const char *const spm[] = {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"};
	const json_t *parts[MAX_PARTS];
	size_t n;
	RV_TRY(parts_of(t, root, "decoder", "decoders", parts, MAX_PARTS, &n));
	for (size_t i = 0; i < n; i++) {
		int known = t->kind == RV_TOKENIZER_BPE && is_type(parts[i], "ByteLevel");
		for (size_t k = 0; k < sizeof spm / sizeof *spm; k++)
			known |= t->kind == RV_TOKENIZER_SPM && is_type(parts[i], spm[k]);
		if (!known)
			return refuse(t, "decoder", type_of(parts[i]));
	}
	return RV_OK;
}

/* ---- vocabulary ---- */

typedef struct table {
	rv_str *text; /* by id */
	size_t n, cap;
} table;

static rv_status put(const rv_tokenizer *t, table *v, const json_t *id, rv_str text) {
	if (!json_is_integer(id) || json_integer_value(id) < 0 ||
	    (uint64_t)json_integer_value(id) >= v->cap)
		return rv_fail(RV_ERR_FORMAT, "%s: token '%.*s' has no id in 0..%zu", t->name,
		               (int)(text.len < 64 ? text.len : 64), text.data, v->cap - 1);
	size_t i = (size_t)json_integer_value(id);
	if (v->text[i].data)
		return rv_fail(RV_ERR_FORMAT, "%s: id %zu belongs to two tokens", t->name, i);
	v->text[i] = text;
	if (i >= v->n)
		v->n = i + 1;
	return RV_OK;
}

static rv_str content_of(const json_t *added) {
	const json_t *s = json_object_get(added, "content");
	return (rv_str){json_string_value(s), json_string_length(s)};
}

/* An added token may repeat an entry of the vocabulary, or an earlier one: then it is that token. */
static rv_status put_added(const rv_tokenizer *t, table *v, const json_t *vocab, const json_t *added,
                           size_t *ignored) {
	static const char *const strict[] = {"lstrip", "rstrip", "single_word"};
	size_t i;
	const json_t *a;
	json_array_foreach(added, i, a) {
		rv_str s = content_of(a);
		if (!s.data || !s.len)
			return rv_fail(RV_ERR_FORMAT, "%s: added token %zu has no content", t->name, i);
		for (size_t k = 0; k < 3; k++)
			if (flag_of(a, strict[k], 0))
				return rv_fail(RV_ERR_UNSUPPORTED,
				               "%s: added token '%s': '%s' is not implemented", t->name,
				               s.data, strict[k]);
		const json_t *id = json_object_get(a, "id"), *own = json_object_get(vocab, s.data);
		if (own) {
			*ignored += !json_equal(id, own);
			continue;
		}
		json_int_t at = json_integer_value(id);
		rv_str *old =
		        json_is_integer(id) && at >= 0 && (uint64_t)at < v->cap ? &v->text[at] : NULL;
		if (old && old->len == s.len && memcmp(old->data, s.data, s.len) == 0)
			*ignored += 1;
		else
			RV_TRY(put(t, v, id, s));
	}
	return RV_OK;
}

static rv_status read_vocab(rv_tokenizer *t, const json_t *vocab, const json_t *added,
                            const rv_log *log) {
	table v = {NULL, 0, json_object_size(vocab) + json_array_size(added) + MAX_HOLES};
	size_t ignored = 0;
	const char *key;
	json_t *id;
	RV_TRY(RV_ALLOC(&v.text, v.cap, "vocabulary"));
	rv_status status = RV_OK;
	json_object_foreach((json_t *)(uintptr_t)vocab, key, id) {
		if (status == RV_OK)
			status = put(t, &v, id, (rv_str){key, strlen(key)});
	}
	if (status == RV_OK)
		status = put_added(t, &v, vocab, added, &ignored);
	if (status == RV_OK)
		status = rv_tok_set_entries(t, v.text, v.n, log);
	rv_free(v.text);
	if (status == RV_OK && ignored)
		rv_logf(log, RV_LOG_WARN, "%s: %zu added tokens repeat another token: its id stays",
		        t->name, ignored);
	return status;
}

/* Types: bytes by their form, added tokens by "special". */
static void set_types(rv_tokenizer *t, const json_t *model, const json_t *added) {
	for (int32_t id = 0; id < t->n_vocab; id++) {
		rv_str s = rv_tok_text(&t->entries, (size_t)id);
		if (!s.len)
			t->type[id] = RV_TOK_UNUSED;
		else if (t->kind == RV_TOKENIZER_SPM && rv_tok_parse_byte(s) >= 0)
			t->type[id] = RV_TOK_BYTE;
	}
	size_t i;
	const json_t *a;
	json_array_foreach(added, i, a) {
		rv_str s = content_of(a);
		int32_t id = rv_tokenizer_find(t, s.data, s.len);
		int special = flag_of(a, "special", 0);
		t->type[id] = special ? RV_TOK_CONTROL : RV_TOK_USER;
		if (flag_of(a, "normalized", !special))
			t->flags[id] |= RV_TOK_LATE;
	}
	const json_t *unk = json_object_get(model, "unk_token");
	if (json_is_string(unk))
		t->unk = rv_tokenizer_find(t, json_string_value(unk), json_string_length(unk));
	if (t->unk >= 0)
		t->type[t->unk] = RV_TOK_UNKNOWN;
}

/* "left right" or ["left", "right"]. */
static rv_status add_merge(rv_tokenizer *t, size_t n, const json_t *merge, int *added) {
	*added = 0;
	if (json_is_array(merge) && json_array_size(merge) == 2) {
		const json_t *l = json_array_get(merge, 0), *r = json_array_get(merge, 1);
		if (!json_is_string(l) || !json_is_string(r))
			return rv_fail(RV_ERR_FORMAT, "%s: a merge is no pair of strings", t->name);
		return rv_tok_add_merge(t, n, (rv_str){json_string_value(l), json_string_length(l)},
		                        (rv_str){json_string_value(r), json_string_length(r)}, added);
	}
	if (!json_is_string(merge))
		return rv_fail(RV_ERR_FORMAT, "%s: a merge is neither a string nor a pair", t->name);
	const char *s = json_string_value(merge);
	size_t len = json_string_length(merge);
	const char *space = len < 2 ? NULL : memchr(s + 1, ' ', len - 1);
	if (!space)
		return RV_OK;
	size_t left = (size_t)(space - s);
	return rv_tok_add_merge(t, n, (rv_str){s, left}, (rv_str){space + 1, len - left - 1}, added);
}

static rv_status read_merges(rv_tokenizer *t, const json_t *merges, const rv_log *log) {
	size_t i, n = json_array_size(merges), skipped = 0;
	const json_t *m;
	/* Allocated even when there are none: they say that scores come from merges. */
	RV_TRY(RV_ALLOC(&t->merges, n + 1, "merges"));
	json_array_foreach(merges, i, m) {
		int added;
		RV_TRY(add_merge(t, n, m, &added));
		skipped += !added;
	}
	if (skipped)
		rv_logf(log, RV_LOG_WARN,
		        "%s: %zu of %zu merges do not join two tokens into a third: skipped", t->name,
		        skipped, n);
	return RV_OK;
}

static rv_status check_model(const rv_tokenizer *t, const json_t *model) {
	static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
	if (is_given(json_object_get(model, "type")) && !is_type(model, "BPE"))
		return refuse(t, "tokenizer model", type_of(model));
	for (size_t i = 0; i < 2; i++)
		if (*text_of(model, affixes[i]))
			return refuse(t, affixes[i], text_of(model, affixes[i]));
	if (json_number_value(json_object_get(model, "dropout")) > 0)
		return refuse(t, "model option", "dropout");
	if (!json_is_object(json_object_get(model, "vocab")))
		return rv_fail(RV_ERR_FORMAT, "%s: 'model.vocab' is no object", t->name);
	if (!json_is_array(json_object_get(model, "merges")))
		return rv_fail(RV_ERR_FORMAT, "%s: 'model.merges' is no array", t->name);
	return RV_OK;
}

/* ---- special ids: from the template, and from tokenizer_config.json beside the file ---- */

static int32_t find_text(const rv_tokenizer *t, const char *s) {
	return *s ? rv_tokenizer_find(t, s, strlen(s)) : -1;
}

/* TemplateProcessing's "single": tokens before and after the text. */
static rv_status read_template(rv_tokenizer *t, const json_t *part) {
	const json_t *single = json_object_get(part, "single"), *item;
	size_t i;
	int seen_text = 0;
	json_array_foreach(single, i, item) {
		const json_t *special = json_object_get(item, "SpecialToken");
		if (!special) {
			seen_text = 1;
			continue;
		}
		int32_t id = find_text(t, text_of(special, "id"));
		int *add = seen_text ? &t->add_eos : &t->add_bos;
		if (id < 0 || *add)
			return refuse(t, "TemplateProcessing token", text_of(special, "id"));
		*(seen_text ? &t->eos : &t->bos) = id;
		*add = 1;
	}
	return RV_OK;
}

static rv_status read_post_processor(rv_tokenizer *t, const json_t *root) {
	const json_t *parts[MAX_PARTS];
	size_t n;
	RV_TRY(parts_of(t, root, "post_processor", "processors", parts, MAX_PARTS, &n));
	for (size_t i = 0; i < n; i++) {
		if (is_type(parts[i], "TemplateProcessing"))
			RV_TRY(read_template(t, parts[i]));
		else if (!is_type(parts[i], "ByteLevel"))
			return refuse(t, "post-processor", type_of(parts[i]));
	}
	return RV_OK;
}

/* "bos_token": "<s>" or {"content": "<s>"}. */
static void read_config_token(const rv_tokenizer *t, const json_t *config, const char *key,
                              int32_t *id) {
	const json_t *v = json_object_get(config, key);
	const char *s = json_is_object(v) ? text_of(v, "content") : text_of(config, key);
	int32_t found = find_text(t, s);
	if (found >= 0)
		*id = found;
}

static void apply_config(rv_tokenizer *t, const json_t *config) {
	if (!config)
		return;
	read_config_token(t, config, "bos_token", &t->bos);
	read_config_token(t, config, "eos_token", &t->eos);
	read_config_token(t, config, "unk_token", &t->unk);
	read_config_token(t, config, "pad_token", &t->pad);
	if (json_is_boolean(json_object_get(config, "add_bos_token")))
		t->add_bos = flag_of(config, "add_bos_token", 0);
	if (json_is_boolean(json_object_get(config, "add_eos_token")))
		t->add_eos = flag_of(config, "add_eos_token", 0);
}

/* ---- the whole file ---- */

static rv_status read_all(rv_tokenizer *t, const json_t *root, const json_t *config,
                          const rv_log *log) {
	const json_t *model = json_object_get(root, "model");
	const json_t *added = json_object_get(root, "added_tokens");
	outline o = {0, 0};
	if (!json_is_object(model))
		return rv_fail(RV_ERR_FORMAT, "%s: no tokenizer.json: 'model' is no object", t->name);
	if (is_given(added) && !json_is_array(added))
		return rv_fail(RV_ERR_FORMAT, "%s: 'added_tokens' is no array", t->name);
	RV_TRY(check_model(t, model));
	RV_TRY(read_normalizer(t, root, &o));
	RV_TRY(read_pre_tokenizer(t, root, &o));
	if (o.byte_level == o.metaspace)
		return refuse(t, "pre-tokenizer", o.metaspace ? "Metaspace and ByteLevel" : "null");
	if (o.metaspace && t->nfc)
		return refuse(t, "normalizer", "NFC with Metaspace");
	t->kind = o.byte_level ? RV_TOKENIZER_BPE : RV_TOKENIZER_SPM;
	t->ignore_merges = flag_of(model, "ignore_merges", 0);
	if (t->ignore_merges && t->kind == RV_TOKENIZER_SPM)
		return refuse(t, "model option", "ignore_merges with Metaspace");
	RV_TRY(check_decoder(t, root));
	RV_TRY(read_vocab(t, json_object_get(model, "vocab"), added, log));
	set_types(t, model, added);
	RV_TRY(read_merges(t, json_object_get(model, "merges"), log));
	RV_TRY(read_post_processor(t, root));
	apply_config(t, config);
	return rv_tok_finish(t, log);
}

static rv_status from_text(rv_tokenizer **out, const char *text, size_t size, const char *name,
                           const json_t *config, const rv_log *log) {
	rv_tokenizer *t = NULL;
	json_t *root;
	RV_TRY(rv_json_parse(text, size, name, &root));
	rv_status status = rv_tok_new(&t, name);
	if (status == RV_OK)
		status = read_all(t, root, config, log);
	json_decref(root);
	if (status != RV_OK) {
		rv_tokenizer_destroy(t);
		return status;
	}
	*out = t;
	return RV_OK;
}

rv_status rv_tokenizer_from_json_memory(rv_tokenizer **out, const char *text, size_t size,
                                        const char *name, const rv_log *log) {
	*out = NULL;
	return from_text(out, text, size, name, NULL, log);
}

/* tokenizer_config.json in the same folder, where there is one. */
static rv_status read_config(const char *path, json_t **config) {
	static const char file[] = "tokenizer_config.json";
	const char *slash = strrchr(path, '/');
	size_t folder = slash ? (size_t)(slash + 1 - path) : 0;
	char *name;
	*config = NULL;
	RV_TRY(rv_alloc((void **)&name, folder + sizeof file, 1, "path"));
	memcpy(name, path, folder);
	memcpy(name + folder, file, sizeof file);
	rv_status status = RV_OK;
	rv_map map = {0};
	if (rv_map_open(&map, name) == RV_OK) {
		status = rv_json_parse((const char *)map.data, map.size, name, config);
		rv_map_close(&map);
	}
	rv_free(name);
	return status;
}

rv_status rv_tokenizer_from_json(rv_tokenizer **out, const char *path, const rv_log *log) {
	json_t *config = NULL;
	char *text = NULL;
	size_t size;
	*out = NULL;
	RV_TRY(read_config(path, &config));
	rv_status status = rv_file_read(path, MAX_FILE_BYTES, &text, &size);
	if (status == RV_OK)
		status = from_text(out, text, size, path, config, log);
	rv_free(text);
	json_decref(config);
	return status;
}

rv_status rv_tokenizer_open(rv_tokenizer **out, const char *path, const rv_log *log) {
	rv_map map = {0};
	*out = NULL;
	RV_TRY(rv_map_open(&map, path));
	int is_gguf = map.size >= 4 && memcmp(map.data, "GGUF", 4) == 0;
	rv_map_close(&map);
	if (!is_gguf)
		return rv_tokenizer_from_json(out, path, log);
	rv_gguf *gguf;
	RV_TRY(rv_gguf_open(&gguf, path, RV_GGUF_VOCAB_ONLY_OK));
	rv_status status = rv_tokenizer_from_gguf(out, gguf, log);
	rv_gguf_close(gguf);
	return status;
}
