/* GGUF reader: opening, the header, the key-value section. */
#include "model/gguf.h"

#include "base/mem.h"
#include "model/gguf_internal.h"

#include <strings.h>

/* ---- kinds ---- */

static const struct {
	const char *name;
	size_t bytes; /* 0: not of fixed size */
} kinds[RV_GGUF_KIND_COUNT] = {
        [RV_GGUF_U8] = {"u8", 1},       [RV_GGUF_I8] = {"i8", 1},     [RV_GGUF_U16] = {"u16", 2},
        [RV_GGUF_I16] = {"i16", 2},     [RV_GGUF_U32] = {"u32", 4},   [RV_GGUF_I32] = {"i32", 4},
        [RV_GGUF_F32] = {"f32", 4},     [RV_GGUF_BOOL] = {"bool", 1}, [RV_GGUF_STRING] = {"string", 0},
        [RV_GGUF_ARRAY] = {"array", 0}, [RV_GGUF_U64] = {"u64", 8},   [RV_GGUF_I64] = {"i64", 8},
        [RV_GGUF_F64] = {"f64", 8},
};

const char *rv_gguf_kind_name(rv_gguf_kind kind) {
	return kinds[kind].name;
}
size_t rv_gguf_kind_bytes(rv_gguf_kind kind) {
	return kinds[kind].bytes;
}

/* ---- primitive reads ---- */

static rv_status fail_end(const rv_gguf_cursor *c, uint64_t wanted, const char *what) {
	return rv_fail(
	        RV_ERR_FORMAT,
	        "%s: truncated or damaged: %s at byte %zu needs %llu bytes, the file ends after %zu "
	        "of %zu",
	        c->path, what, c->pos, (unsigned long long)wanted, rv_gguf_left(c), c->size);
}

rv_status rv_gguf_take(rv_gguf_cursor *c, void *out, size_t n, const char *what) {
	if (n > rv_gguf_left(c))
		return fail_end(c, n, what);
	memcpy(out, c->data + c->pos, n);
	c->pos += n;
	return RV_OK;
}

rv_status rv_gguf_take_string(rv_gguf_cursor *c, rv_str *out, const char *what) {
	uint64_t len = 0;
	RV_TRY(rv_gguf_take(c, &len, sizeof len, what));
	if (len > rv_gguf_left(c))
		return fail_end(c, len, what);
	*out = (rv_str){(const char *)c->data + c->pos, (size_t)len};
	c->pos += (size_t)len;
	return RV_OK;
}

/* ---- one key and its value ---- */

static rv_status parse_key(rv_gguf_cursor *c, size_t index, rv_str *key) {
	size_t at = c->pos;
	char shown[RV_GGUF_SHOW];
	RV_TRY(rv_gguf_take_string(c, key, "key"));
	if (key->len == 0)
		return rv_fail(RV_ERR_FORMAT, "%s: key number %zu at byte %zu is empty", c->path, index,
		               at);
	if (key->len > RV_GGUF_KEY_MAX)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: key number %zu at byte %zu has %zu bytes, the limit is %d", c->path,
		               index, at, key->len, RV_GGUF_KEY_MAX);
	if (memchr(key->data, 0, key->len))
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s' at byte %zu contains a NUL", c->path,
		               rv_gguf_show(shown, key->data, key->len), at);
	return RV_OK;
}

/* A kind number that is one of the format's. */
static rv_status parse_kind(rv_gguf_cursor *c, const char *key, const char *what, rv_gguf_kind *out) {
	size_t at = c->pos;
	uint32_t kind = 0;
	RV_TRY(rv_gguf_take(c, &kind, sizeof kind, what));
	if (kind >= RV_GGUF_KIND_COUNT)
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s': unknown %s %u at byte %zu", c->path, key,
		               what, kind, at);
	*out = (rv_gguf_kind)kind;
	return RV_OK;
}

/* `count` values of one kind from the cursor on: sets bytes and n_bytes, and steps over them. */
static rv_status parse_values(rv_gguf_cursor *c, const char *key, rv_gguf_kind kind, uint64_t count,
                              rv_gguf_kv *out) {
	size_t start = c->pos;
	size_t each = kind == RV_GGUF_STRING ? sizeof(uint64_t) : kinds[kind].bytes;
	if (count > rv_gguf_left(c) / each)
		return rv_fail(
		        RV_ERR_FORMAT,
		        "%s: truncated or damaged: key '%s' at byte %zu holds %llu values of kind %s, "
		        "the file has %zu bytes left of %zu",
		        c->path, key, start, (unsigned long long)count, kinds[kind].name,
		        rv_gguf_left(c), c->size);
	out->bytes = c->data + start;
	if (kind != RV_GGUF_STRING) {
		c->pos += (size_t)count * each;
	} else {
		rv_str skipped;
		for (uint64_t i = 0; i < count; i++)
			RV_TRY(rv_gguf_take_string(c, &skipped, key));
	}
	out->n_bytes = c->pos - start;
	for (size_t i = 0; kind == RV_GGUF_BOOL && i < out->n_bytes; i++) {
		if (out->bytes[i] > 1)
			return rv_fail(RV_ERR_FORMAT,
			               "%s: key '%s': bool at byte %zu is %u, not 0 or 1", c->path, key,
			               start + i, out->bytes[i]);
	}
	return RV_OK;
}

rv_status rv_gguf_parse_kv(rv_gguf_cursor *c, size_t index, rv_gguf_kv *out) {
	char key[RV_GGUF_SHOW];
	rv_gguf_kv kv = {.count = 1};
	RV_TRY(parse_key(c, index, &kv.key));
	rv_gguf_show(key, kv.key.data, kv.key.len);
	RV_TRY(parse_kind(c, key, "value kind", &kv.kind));
	kv.elem = kv.kind;
	if (kv.kind == RV_GGUF_ARRAY) {
		RV_TRY(parse_kind(c, key, "array element kind", &kv.elem));
		if (kv.elem == RV_GGUF_ARRAY)
			return rv_fail(RV_ERR_UNSUPPORTED,
			               "%s: key '%s': nested arrays are not supported", c->path, key);
		RV_TRY(rv_gguf_take(c, &kv.count, sizeof kv.count, "array length"));
	}
	RV_TRY(parse_values(c, key, kv.elem, kv.count, &kv));
	*out = kv;
	return RV_OK;
}

/* ---- header ---- */

/* What people hand over in place of a GGUF file, by its first bytes. */
static const struct {
	const char *prefix;
	const char *text;
} lookalikes[] = {
        {"version https://git-lfs", "it is a git-lfs pointer; fetch the file itself (git lfs pull)"},
        {"<!doctype html", "it looks like an HTML page, perhaps a failed download"},
        {"<html", "it looks like an HTML page, perhaps a failed download"},
        {"<?xml", "it looks like an XML page, perhaps a failed download"},
        {"FUGG", "it looks like a big-endian GGUF file"},
        {"lmgg", "it is in the old ggml format; convert it to GGUF"},
        {"fmgg", "it is in the old ggmf format; convert it to GGUF"},
        {"tjgg", "it is in the old ggjt format; convert it to GGUF"},
        {"algg", "it is an old ggla adapter"},
        {"PK\003\004", "it looks like a ZIP archive or a PyTorch checkpoint"},
        {"\037\213", "it is gzip-compressed; unpack it first"},
        {"\050\265\057\375", "it is zstd-compressed; unpack it first"},
        {"\3757zXZ", "it is xz-compressed; unpack it first"},
        {"{", "it looks like JSON"},
};

static const char *lookalike(const uint8_t *data, size_t size) {
	size_t skip = size >= 3 && memcmp(data, "\357\273\277", 3) == 0 ? 3 : 0; /* UTF-8 BOM */
	while (skip < size && skip < 64 && data[skip] && strchr(" \t\r\n", data[skip]))
		skip++;
	for (size_t i = 0; i < sizeof lookalikes / sizeof *lookalikes; i++) {
		size_t len = strlen(lookalikes[i].prefix);
		if (size - skip >= len &&
		    strncasecmp((const char *)data + skip, lookalikes[i].prefix, len) == 0)
			return lookalikes[i].text;
	}
	if (size > 8 && data[8] == '{')
		return "it looks like a safetensors file";
	return "its first bytes are not 'GGUF'";
}

static rv_status check_version(const rv_gguf *g) {
	if (g->version == 2 || g->version == 3)
		return RV_OK;
	/* 2 and 3 with swapped bytes, and any other small number written the other way round */
	if (g->version != 0 && (g->version & 0xffff) == 0)
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: big-endian GGUF file (version field 0x%08x); only little-endian is "
		               "supported",
		               g->path, g->version);
	if (g->version == 1)
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: GGUF version 1 is obsolete; versions 2 and 3 are read", g->path);
	return rv_fail(g->version == 0 ? RV_ERR_FORMAT : RV_ERR_UNSUPPORTED,
	               "%s: unknown GGUF version %u; versions 2 and 3 are read", g->path, g->version);
}

/* Counts are believed only as far as the bytes that would have to hold them. */
static rv_status check_count(const rv_gguf_cursor *c, uint64_t n, size_t least_bytes,
                             const char *what) {
	if (n <= rv_gguf_left(c) / least_bytes)
		return RV_OK;
	return rv_fail(RV_ERR_FORMAT,
	               "%s: truncated or damaged: the header counts %llu %s, the file has room for at "
	               "most %zu",
	               c->path, (unsigned long long)n, what, rv_gguf_left(c) / least_bytes);
}

static rv_status check_tables(const rv_gguf *g, uint64_t n_kv, uint64_t n_tensors) {
	/* an index entry is there twice while it is sorted */
	const size_t kv_bytes = sizeof(rv_gguf_kv) + 2 * sizeof(uint32_t);
	const size_t tensor_bytes = sizeof(rv_gguf_tensor) + 2 * sizeof(uint32_t);
	size_t room = RV_GGUF_TABLE_BYTES_MAX;
	if (n_kv > room / kv_bytes || n_tensors > (room - (size_t)n_kv * kv_bytes) / tensor_bytes)
		return rv_fail(RV_ERR_LIMIT,
		               "%s: %llu keys and %llu tensors exceed the limit of %zu MiB of tables",
		               g->path, (unsigned long long)n_kv, (unsigned long long)n_tensors,
		               room >> 20);
	return RV_OK;
}

static rv_status parse_header(rv_gguf *g, rv_gguf_cursor *c) {
	uint64_t n_tensors = 0, n_kv = 0;
	if (g->size == 0)
		return rv_fail(RV_ERR_FORMAT, "%s: the file is empty", g->path);
	if (g->size < 4 || memcmp(g->data, RV_GGUF_MAGIC, 4) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: not a GGUF file (%zu bytes): %s", g->path, g->size,
		               lookalike(g->data, g->size));
	c->pos = 4;
	RV_TRY(rv_gguf_take(c, &g->version, sizeof g->version, "version"));
	RV_TRY(check_version(g));
	RV_TRY(rv_gguf_take(c, &n_tensors, sizeof n_tensors, "tensor count"));
	RV_TRY(rv_gguf_take(c, &n_kv, sizeof n_kv, "key count"));
	/* shortest key: length, one letter, kind, one byte; shortest tensor: length, one letter,
	 * n_dims, one dimension, type, offset */
	RV_TRY(check_count(c, n_kv, 8 + 1 + 4 + 1, "keys"));
	RV_TRY(check_count(c, n_tensors, 8 + 1 + 4 + 8 + 4 + 8, "tensors"));
	RV_TRY(check_tables(g, n_kv, n_tensors));
	g->n_tensors = (size_t)n_tensors;
	g->n_kv = (size_t)n_kv;
	return RV_OK;
}

/* ---- key-value section ---- */

int rv_gguf_alignment_ok(uint32_t alignment) {
	return alignment >= 8 && alignment <= 1u << 21 && (alignment & (alignment - 1)) == 0;
}
const char *rv_gguf_alignment_text(void) {
	return "a power of two from 8 to 2097152";
}

static rv_status read_alignment(rv_gguf *g) {
	const rv_gguf_kv *kv = rv_gguf_find(g, RV_GGUF_ALIGNMENT_KEY);
	g->alignment = RV_GGUF_DEFAULT_ALIGNMENT;
	if (!kv)
		return RV_OK;
	if (kv->kind != RV_GGUF_U32)
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s' is of kind %s, not u32", g->path,
		               RV_GGUF_ALIGNMENT_KEY, kinds[kv->kind].name);
	memcpy(&g->alignment, kv->bytes, sizeof g->alignment);
	if (!rv_gguf_alignment_ok(g->alignment))
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s': alignment %u is not %s", g->path,
		               RV_GGUF_ALIGNMENT_KEY, g->alignment, rv_gguf_alignment_text());
	return RV_OK;
}

static rv_status parse_kv_section(rv_gguf *g, rv_gguf_cursor *c) {
	RV_TRY(rv_alloc_uninit((void **)&g->kv, g->n_kv, sizeof *g->kv, "GGUF key table"));
	for (size_t i = 0; i < g->n_kv; i++)
		RV_TRY(rv_gguf_parse_kv(c, i, &g->kv[i]));
	RV_TRY(rv_gguf_sort_names(&g->kv_order, g->kv, g->n_kv, rv_gguf_kv_name, "key", g->path));
	return read_alignment(g);
}

/* ---- opening ---- */

rv_status rv_gguf_require_tensors(const rv_gguf *g) {
	if (g->n_tensors > 0)
		return RV_OK;
	return rv_fail(RV_ERR_MISMATCH, "%s: the file holds no tensors (a vocabulary only?)", g->path);
}

static rv_status parse(rv_gguf *g, int flags) {
	rv_gguf_cursor c = {g->data, g->size, 0, g->path};
	RV_TRY(parse_header(g, &c));
	RV_TRY(parse_kv_section(g, &c));
	RV_TRY(rv_gguf_parse_tensors(g, &c));
	return flags & RV_GGUF_VOCAB_ONLY_OK ? RV_OK : rv_gguf_require_tensors(g);
}

static rv_status open_file(rv_gguf *g, const char *path) {
	RV_TRY(rv_map_open(&g->map, path));
	g->data = g->map.data;
	g->size = g->map.size;
	return RV_OK;
}

static rv_status finish_open(rv_gguf **out, rv_gguf *g, rv_status status, int flags) {
	if (status == RV_OK)
		status = parse(g, flags);
	if (status != RV_OK)
		rv_gguf_close(g);
	else
		*out = g;
	return status;
}

rv_status rv_gguf_open(rv_gguf **out, const char *path, int flags) {
	rv_gguf *g;
	RV_TRY(RV_ALLOC(&g, 1, "GGUF reader"));
	rv_status status = rv_strdup(&g->path, path);
	if (status == RV_OK)
		status = open_file(g, path);
	return finish_open(out, g, status, flags);
}

rv_status rv_gguf_open_memory(rv_gguf **out, const void *data, size_t size, const char *name,
                              int flags) {
	rv_gguf *g;
	RV_TRY(RV_ALLOC(&g, 1, "GGUF reader"));
	g->data = data;
	g->size = size;
	return finish_open(out, g, rv_strdup(&g->path, name), flags);
}

void rv_gguf_close(rv_gguf *gguf) {
	if (!gguf)
		return;
	for (size_t i = 0; i < gguf->n_rest; i++)
		rv_gguf_close(gguf->rest[i]);
	rv_free(gguf->rest);
	rv_free(gguf->kv);
	rv_free(gguf->kv_order);
	rv_free(gguf->tensors);
	rv_free(gguf->tensor_order);
	rv_free(gguf->path);
	if (gguf->map.path || gguf->map.data) /* a zeroed map would name descriptor 0 */
		rv_map_close(&gguf->map);
	rv_free(gguf);
}

rv_status rv_gguf_check(const rv_gguf *gguf) {
	if (gguf->map.data)
		RV_TRY(rv_map_check(&gguf->map));
	for (size_t i = 0; i < gguf->n_rest; i++)
		RV_TRY(rv_gguf_check(gguf->rest[i]));
	return RV_OK;
}

const char *rv_gguf_path(const rv_gguf *gguf) {
	return gguf->path;
}
uint32_t rv_gguf_version(const rv_gguf *gguf) {
	return gguf->version;
}
size_t rv_gguf_file_bytes(const rv_gguf *gguf) {
	size_t n = gguf->size;
	for (size_t i = 0; i < gguf->n_rest; i++)
		n += gguf->rest[i]->size;
	return n;
}
uint32_t rv_gguf_alignment(const rv_gguf *gguf) {
	return gguf->alignment;
}
