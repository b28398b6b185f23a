/* GGUF v3 writer. Keys gather in memory as they will stand in the file; every record is read back by
 * the reader's own parser before it is kept, so nothing is written that the reader would refuse. */
#include "base/mem.h"
#include "model/gguf_internal.h"

#include <stdio.h>

#define NAME_MAX_BYTES 63 /* what other readers accept */

struct rv_gguf_writer {
	rv_writer *out;
	char *path;
	uint8_t *kv; /* the key-value section */
	size_t kv_bytes, kv_capacity;
	size_t n_kv;
	rv_gguf_tensor *tensors; /* data is unused */
	size_t n_tensors, tensor_capacity;
	uint32_t alignment;
	int header_written;
	rv_status failed; /* of an earlier write: the file can no longer be completed */
	size_t current;   /* tensor whose data comes next */
	size_t done;      /* bytes of it already written */
};

rv_status rv_gguf_writer_open(rv_gguf_writer **out, const char *path) {
	rv_gguf_writer *w;
	RV_TRY(RV_ALLOC(&w, 1, "GGUF writer"));
	w->alignment = RV_GGUF_DEFAULT_ALIGNMENT;
	rv_status status = rv_strdup(&w->path, path);
	if (status == RV_OK)
		status = rv_writer_open(&w->out, path);
	if (status != RV_OK)
		rv_gguf_writer_abort(w);
	else
		*out = w;
	return status;
}

static void destroy(rv_gguf_writer *w) {
	rv_free(w->kv);
	rv_free(w->tensors);
	rv_free(w->path);
	rv_free(w);
}

void rv_gguf_writer_abort(rv_gguf_writer *w) {
	if (!w)
		return;
	rv_writer_abort(w->out);
	destroy(w);
}

/* ---- keys ---- */

static rv_status append(rv_gguf_writer *w, const void *bytes, size_t n) {
	size_t need;
	if (!rv_add_ok(w->kv_bytes, n, &need) || need > SIZE_MAX / 2)
		return rv_fail(RV_ERR_LIMIT, "%s: metadata too large", w->path);
	if (need > w->kv_capacity) {
		size_t capacity = need + need / 2 + 256;
		RV_TRY(RV_GROW(&w->kv, w->kv_capacity, capacity, "GGUF metadata"));
		w->kv_capacity = capacity;
	}
	if (n)
		memcpy(w->kv + w->kv_bytes, bytes, n);
	w->kv_bytes = need;
	return RV_OK;
}

static rv_status append_string(rv_gguf_writer *w, const char *s, size_t len) {
	uint64_t n = len;
	RV_TRY(append(w, &n, sizeof n));
	return append(w, s, len);
}

/* Everything of a record but the values. */
static rv_status append_head(rv_gguf_writer *w, const rv_gguf_kv *kv) {
	uint32_t kind = (uint32_t)kv->kind, elem = (uint32_t)kv->elem;
	RV_TRY(append_string(w, kv->key.data, kv->key.len));
	RV_TRY(append(w, &kind, sizeof kind));
	if (kv->kind != RV_GGUF_ARRAY)
		return RV_OK;
	RV_TRY(append(w, &elem, sizeof elem));
	return append(w, &kv->count, sizeof kv->count);
}

/* Reads the record that was appended last, as the reader will. */
static rv_status check_record(const rv_gguf_writer *w, size_t start, rv_gguf_kv *kv) {
	rv_gguf_cursor c = {w->kv, w->kv_bytes, start, w->path};
	if (rv_gguf_parse_kv(&c, w->n_kv, kv) != RV_OK)
		return rv_fail_in(RV_ERR_INVALID, "cannot write key");
	if (c.pos != w->kv_bytes)
		return rv_fail(RV_ERR_INVALID,
		               "%s: cannot write key number %zu: %zu bytes more than its values",
		               w->path, w->n_kv, w->kv_bytes - c.pos);
	return RV_OK;
}

static rv_status note_alignment(rv_gguf_writer *w, const rv_gguf_kv *kv) {
	static const rv_str key = {RV_GGUF_ALIGNMENT_KEY, sizeof RV_GGUF_ALIGNMENT_KEY - 1};
	uint32_t alignment = 0;
	if (rv_str_cmp(kv->key, key) != 0)
		return RV_OK;
	if (kv->kind == RV_GGUF_U32)
		memcpy(&alignment, kv->bytes, sizeof alignment);
	if (!rv_gguf_alignment_ok(alignment))
		return rv_fail(RV_ERR_INVALID, "%s: key '%s' must be u32, %s", w->path,
		               RV_GGUF_ALIGNMENT_KEY, rv_gguf_alignment_text());
	w->alignment = alignment;
	return RV_OK;
}

static rv_status check_open_for_keys(const rv_gguf_writer *w) {
	if (w->header_written)
		return rv_fail(RV_ERR_INVALID,
		               "%s: keys and tensors cannot be added once data is written", w->path);
	return RV_OK;
}

/* Keeps the record that starts at `start` if appending it went well and it reads back; else nothing. */
static rv_status finish_record(rv_gguf_writer *w, size_t start, rv_status status) {
	rv_gguf_kv kv;
	if (status == RV_OK)
		status = check_record(w, start, &kv);
	if (status == RV_OK)
		status = note_alignment(w, &kv);
	if (status == RV_OK)
		w->n_kv++;
	else
		w->kv_bytes = start;
	return status;
}

rv_status rv_gguf_write_kv(rv_gguf_writer *w, const rv_gguf_kv *kv) {
	RV_TRY(check_open_for_keys(w));
	size_t start = w->kv_bytes;
	rv_status status = append_head(w, kv);
	if (status == RV_OK)
		status = append(w, kv->bytes, kv->n_bytes);
	return finish_record(w, start, status);
}

static rv_status write_values(rv_gguf_writer *w, const char *key, rv_gguf_kind kind, rv_gguf_kind elem,
                              size_t count, const void *values, size_t each) {
	size_t n_bytes;
	if (!rv_mul_ok(count, each, &n_bytes))
		return rv_fail(RV_ERR_INVALID, "%s: key '%s': too many values", w->path, key);
	rv_gguf_kv kv = {{key, strlen(key)}, kind, elem, count, values, n_bytes};
	return rv_gguf_write_kv(w, &kv);
}

rv_status rv_gguf_write_u32(rv_gguf_writer *w, const char *key, uint32_t v) {
	return write_values(w, key, RV_GGUF_U32, RV_GGUF_U32, 1, &v, sizeof v);
}
rv_status rv_gguf_write_u64(rv_gguf_writer *w, const char *key, uint64_t v) {
	return write_values(w, key, RV_GGUF_U64, RV_GGUF_U64, 1, &v, sizeof v);
}
rv_status rv_gguf_write_f32(rv_gguf_writer *w, const char *key, float v) {
	return write_values(w, key, RV_GGUF_F32, RV_GGUF_F32, 1, &v, sizeof v);
}
rv_status rv_gguf_write_bool(rv_gguf_writer *w, const char *key, int v) {
	uint8_t b = v != 0;
	return write_values(w, key, RV_GGUF_BOOL, RV_GGUF_BOOL, 1, &b, sizeof b);
}
rv_status rv_gguf_write_f32s(rv_gguf_writer *w, const char *key, const float *v, size_t n) {
	return write_values(w, key, RV_GGUF_ARRAY, RV_GGUF_F32, n, v, sizeof *v);
}
rv_status rv_gguf_write_i32s(rv_gguf_writer *w, const char *key, const int32_t *v, size_t n) {
	return write_values(w, key, RV_GGUF_ARRAY, RV_GGUF_I32, n, v, sizeof *v);
}

static rv_status write_string_values(rv_gguf_writer *w, const char *key, rv_gguf_kind kind,
                                     const rv_str *s, size_t n) {
	RV_TRY(check_open_for_keys(w));
	size_t start = w->kv_bytes;
	const rv_gguf_kv head = {{key, strlen(key)}, kind, RV_GGUF_STRING, n, NULL, 0};
	rv_status status = append_head(w, &head);
	for (size_t i = 0; i < n && status == RV_OK; i++)
		status = append_string(w, s[i].data, s[i].len);
	return finish_record(w, start, status);
}

rv_status rv_gguf_write_string(rv_gguf_writer *w, const char *key, const char *s) {
	const rv_str one = {s, strlen(s)};
	return write_string_values(w, key, RV_GGUF_STRING, &one, 1);
}
rv_status rv_gguf_write_strings(rv_gguf_writer *w, const char *key, const rv_str *s, size_t n) {
	return write_string_values(w, key, RV_GGUF_ARRAY, s, n);
}

/* ---- tensors ---- */

rv_status rv_gguf_declare(rv_gguf_writer *w, const char *name, rv_type type, int n_dims,
                          const int64_t *dims) {
	char place[1024];
	rv_gguf_tensor t = {.type = type, .n_dims = n_dims, .dims = {1, 1, 1, 1}};
	RV_TRY(check_open_for_keys(w));
	size_t len = strlen(name);
	snprintf(place, sizeof place, "%s: tensor '%.*s'", w->path, NAME_MAX_BYTES + 1, name);
	if (len < 1 || len > NAME_MAX_BYTES)
		return rv_fail(RV_ERR_INVALID, "%s: its name has %zu bytes, not 1 to %d", place, len,
		               NAME_MAX_BYTES);
	if (n_dims < 1 || n_dims > RV_GGUF_MAX_DIMS)
		return rv_fail(RV_ERR_INVALID, "%s: %d dimensions, not 1 to %d", place, n_dims,
		               RV_GGUF_MAX_DIMS);
	const rv_type_info *info = rv_type_get((int)type);
	if (!info)
		return rv_fail(RV_ERR_INVALID, "%s: unknown type %d", place, (int)type);
	memcpy(t.name, name, len);
	memcpy(t.dims, dims, (size_t)n_dims * sizeof *dims);
	if (rv_gguf_tensor_bytes(info, t.dims, n_dims, place, &t.n_bytes) != RV_OK)
		return rv_fail_in(RV_ERR_INVALID, "cannot write");
	if (w->n_tensors == w->tensor_capacity) {
		size_t capacity = 2 * w->tensor_capacity + 64;
		RV_TRY(RV_GROW(&w->tensors, w->tensor_capacity, capacity, "GGUF tensor table"));
		w->tensor_capacity = capacity;
	}
	w->tensors[w->n_tensors++] = t;
	return RV_OK;
}

static rv_status set_offsets(rv_gguf_writer *w) {
	uint64_t next = 0;
	for (size_t i = 0; i < w->n_tensors; i++) {
		w->tensors[i].offset = next;
		if (__builtin_add_overflow(next, w->tensors[i].n_bytes, &next) ||
		    __builtin_add_overflow(next, w->alignment - 1, &next))
			return rv_fail(RV_ERR_INVALID, "%s: the sum of the tensors' sizes overflows",
			               w->path);
		next &= ~(uint64_t)(w->alignment - 1);
	}
	return RV_OK;
}

/* ---- the header ---- */

static rv_status check_duplicate_keys(const rv_gguf_writer *w) {
	rv_gguf_kv *kv;
	uint32_t *order = NULL;
	rv_gguf_cursor c = {w->kv, w->kv_bytes, 0, w->path};
	RV_TRY(RV_ALLOC(&kv, w->n_kv, "GGUF key table"));
	rv_status status = RV_OK;
	for (size_t i = 0; i < w->n_kv && status == RV_OK; i++)
		status = rv_gguf_parse_kv(&c, i, &kv[i]);
	if (status == RV_OK)
		status = rv_gguf_sort_names(&order, kv, w->n_kv, rv_gguf_kv_name, "key", w->path);
	rv_free(order);
	rv_free(kv);
	return status;
}

static rv_status check_duplicate_tensors(const rv_gguf_writer *w) {
	uint32_t *order = NULL;
	rv_status status = rv_gguf_sort_names(&order, w->tensors, w->n_tensors, rv_gguf_tensor_name,
	                                      "tensor", w->path);
	rv_free(order);
	return status;
}

static rv_status write_tensor_entry(rv_gguf_writer *w, const rv_gguf_tensor *t) {
	uint64_t len = strlen(t->name);
	uint32_t n_dims = (uint32_t)t->n_dims, type = (uint32_t)t->type;
	RV_TRY(rv_writer_write(w->out, &len, sizeof len));
	RV_TRY(rv_writer_write(w->out, t->name, (size_t)len));
	RV_TRY(rv_writer_write(w->out, &n_dims, sizeof n_dims));
	RV_TRY(rv_writer_write(w->out, t->dims, (size_t)t->n_dims * sizeof *t->dims));
	RV_TRY(rv_writer_write(w->out, &type, sizeof type));
	return rv_writer_write(w->out, &t->offset, sizeof t->offset);
}

static rv_status write_header(rv_gguf_writer *w) {
	const uint32_t version = 3;
	const uint64_t counts[2] = {w->n_tensors, w->n_kv};
	RV_TRY(check_duplicate_keys(w));
	RV_TRY(check_duplicate_tensors(w));
	RV_TRY(set_offsets(w));
	w->header_written = 1;
	RV_TRY(rv_writer_write(w->out, RV_GGUF_MAGIC, 4));
	RV_TRY(rv_writer_write(w->out, &version, sizeof version));
	RV_TRY(rv_writer_write(w->out, counts, sizeof counts));
	if (w->kv_bytes)
		RV_TRY(rv_writer_write(w->out, w->kv, w->kv_bytes));
	for (size_t i = 0; i < w->n_tensors; i++)
		RV_TRY(write_tensor_entry(w, &w->tensors[i]));
	return rv_writer_pad(w->out, w->alignment);
}

/* ---- data ---- */

static rv_status write_data(rv_gguf_writer *w, const void *data, size_t n_bytes) {
	if (!w->header_written)
		RV_TRY(write_header(w));
	if (n_bytes == 0)
		return RV_OK;
	if (w->current == w->n_tensors)
		return rv_fail(RV_ERR_INVALID, "%s: %zu bytes of data after the last tensor", w->path,
		               n_bytes);
	const rv_gguf_tensor *t = &w->tensors[w->current];
	if (n_bytes > t->n_bytes - w->done)
		return rv_fail(RV_ERR_INVALID, "%s: tensor '%s': %zu bytes given, %zu of %zu wanted",
		               w->path, t->name, n_bytes, t->n_bytes - w->done, t->n_bytes);
	RV_TRY(rv_writer_write(w->out, data, n_bytes));
	w->done += n_bytes;
	if (w->done < t->n_bytes)
		return RV_OK;
	w->current++;
	w->done = 0;
	return rv_writer_pad(w->out, w->alignment);
}

rv_status rv_gguf_write_data(rv_gguf_writer *w, const void *data, size_t n_bytes) {
	if (w->failed != RV_OK)
		return rv_fail(w->failed, "%s: writing failed before", w->path);
	rv_status status = write_data(w, data, n_bytes);
	if (status != RV_OK && status != RV_ERR_INVALID)
		w->failed = status;
	return status;
}

static rv_status check_complete(const rv_gguf_writer *w) {
	if (w->current == w->n_tensors)
		return RV_OK;
	const rv_gguf_tensor *t = &w->tensors[w->current];
	return rv_fail(RV_ERR_INVALID,
	               "%s: data missing: tensor '%s' has %zu of %zu bytes (%zu of %zu tensors "
	               "complete)",
	               w->path, t->name, w->done, t->n_bytes, w->current, w->n_tensors);
}

rv_status rv_gguf_writer_commit(rv_gguf_writer *w) {
	rv_status status = rv_gguf_write_data(w, NULL, 0);
	if (status == RV_OK)
		status = check_complete(w);
	if (status != RV_OK) {
		rv_gguf_writer_abort(w);
		return status;
	}
	status = rv_writer_commit(w->out);
	destroy(w);
	return status;
}
