/* One safetensors file, and what is asked of a reader. Folders: safetensors_dir.c. */
#include "model/safetensors.h"

#include "base/file.h"
#include "base/mem.h"
#include "model/safetensors_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are read as the file stores them");

#define LENGTH_BYTES 8

/* ---- element types ---- */

/* Those of the format; `type` is meaningful for the ones that are read. */
static const struct {
	const char *name;
	int is_read;
	rv_type type;
} dtypes[] = {
        {"F32", 1, RV_F32},     {"F16", 1, RV_F16},     {"BF16", 1, RV_BF16},   {"F64", 0, RV_F32},
        {"F8_E4M3", 0, RV_F32}, {"F8_E5M2", 0, RV_F32}, {"F8_E8M0", 0, RV_F32}, {"F6_E2M3", 0, RV_F32},
        {"F6_E3M2", 0, RV_F32}, {"F4", 0, RV_F32},      {"C64", 0, RV_F32},     {"BOOL", 0, RV_F32},
        {"I8", 0, RV_F32},      {"U8", 0, RV_F32},      {"I16", 0, RV_F32},     {"U16", 0, RV_F32},
        {"I32", 0, RV_F32},     {"U32", 0, RV_F32},     {"I64", 0, RV_F32},     {"U64", 0, RV_F32},
};

static rv_status parse_dtype(const char *place, const char *name, rv_type *out) {
	for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
		if (strcmp(dtypes[i].name, name) != 0)
			continue;
		if (!dtypes[i].is_read)
			return rv_fail(RV_ERR_UNSUPPORTED,
			               "%s: dtype %s; only F32, F16 and BF16 are read", place, name);
		*out = dtypes[i].type;
		return RV_OK;
	}
	return rv_fail(RV_ERR_FORMAT, "%s: unknown dtype '%.64s'", place, name);
}

/* ---- one tensor of the header ---- */

static rv_status parse_shape(const char *place, const json_t *shape, rv_safetensor *t) {
	if (!json_is_array(shape))
		return rv_fail(RV_ERR_FORMAT, "%s: 'shape' is no array", place);
	size_t n = json_array_size(shape);
	if (n > RV_SAFETENSORS_DIMS_MAX)
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: 'shape' has %zu dimensions, at most %d are read", place, n,
		               RV_SAFETENSORS_DIMS_MAX);
	for (size_t i = 0; i < RV_SAFETENSORS_DIMS_MAX; i++)
		t->shape[i] = 1;
	for (size_t i = 0; i < n; i++) {
		const json_t *v = json_array_get(shape, i);
		if (!json_is_integer(v) || json_integer_value(v) < 0)
			return rv_fail(RV_ERR_FORMAT,
			               "%s: 'shape' element %zu is not an integer from 0 on", place, i);
		t->shape[i] = json_integer_value(v);
	}
	t->n_dims = (int)n;
	return RV_OK;
}

/* Zero in any place makes the product zero, whatever the others are. */
static rv_status shape_bytes(const char *place, const rv_safetensor *t, size_t *out) {
	size_t n = (size_t)rv_type_get((int)t->type)->block_bytes;
	for (int i = 0; i < t->n_dims; i++)
		if (t->shape[i] == 0) {
			*out = 0;
			return RV_OK;
		}
	for (int i = 0; i < t->n_dims; i++)
		if (!rv_mul_ok(n, (size_t)t->shape[i], &n))
			return rv_fail(RV_ERR_FORMAT, "%s: the product of 'shape' overflows", place);
	*out = n;
	return RV_OK;
}

static rv_status parse_offsets(const char *place, const json_t *offsets, size_t data_bytes,
                               rv_safetensor *t) {
	int64_t v[2];
	if (!json_is_array(offsets) || json_array_size(offsets) != 2)
		return rv_fail(RV_ERR_FORMAT, "%s: 'data_offsets' is no array of two", place);
	for (size_t i = 0; i < 2; i++) {
		const json_t *o = json_array_get(offsets, i);
		if (!json_is_integer(o) || json_integer_value(o) < 0)
			return rv_fail(RV_ERR_FORMAT,
			               "%s: 'data_offsets' element %zu is not an integer from 0 on",
			               place, i);
		v[i] = json_integer_value(o);
	}
	if (v[0] > v[1])
		return rv_fail(RV_ERR_FORMAT, "%s: 'data_offsets' are reversed: %lld to %lld", place,
		               (long long)v[0], (long long)v[1]);
	if ((uint64_t)v[1] > data_bytes)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: ends at byte %lld, past the data section of %zu bytes", place,
		               (long long)v[1], data_bytes);
	t->begin = (size_t)v[0];
	t->n_bytes = (size_t)(v[1] - v[0]);
	return RV_OK;
}

static rv_status parse_tensor(const rv_st_file *f, const char *name, const json_t *info,
                              rv_safetensor *t) {
	static const char *const keys[] = {"dtype", "shape", "data_offsets"};
	char place[RV_ERROR_MESSAGE_MAX];
	snprintf(place, sizeof place, "%.512s: tensor '%.128s'", f->path, name);
	if (!*name)
		return rv_fail(RV_ERR_FORMAT, "%s: the name is empty", place);
	if (!json_is_object(info))
		return rv_fail(RV_ERR_FORMAT, "%s: is no object", place);
	for (size_t i = 0; i < 3; i++)
		if (!json_object_get(info, keys[i]))
			return rv_fail(RV_ERR_FORMAT, "%s: '%s' is missing", place, keys[i]);
	if (json_object_size(info) != 3)
		return rv_fail(RV_ERR_FORMAT, "%s: has other keys than dtype, shape and data_offsets",
		               place);
	const char *dtype = json_string_value(json_object_get(info, "dtype"));
	if (!dtype)
		return rv_fail(RV_ERR_FORMAT, "%s: 'dtype' is no string", place);
	size_t wanted = 0;
	RV_TRY(parse_dtype(place, dtype, &t->type));
	RV_TRY(parse_shape(place, json_object_get(info, "shape"), t));
	RV_TRY(shape_bytes(place, t, &wanted));
	RV_TRY(parse_offsets(place, json_object_get(info, "data_offsets"), f->data_bytes, t));
	if (wanted != t->n_bytes)
		return rv_fail(RV_ERR_FORMAT, "%s: its shape has %zu bytes, 'data_offsets' span %zu",
		               place, wanted, t->n_bytes);
	t->name = name;
	t->data = f->data + t->begin;
	return RV_OK;
}

/* ---- the header ---- */

/* A bracket or a comma goes before every value; tables of tensors have few of each. */
rv_status rv_st_check_budget(const char *text, size_t size, const char *name) {
	const size_t most = RV_SAFETENSORS_TENSORS_MAX;
	size_t braces = 0, brackets = 0, commas = 0;
	int in_string = 0;
	for (size_t i = 0; i < size; i++) {
		char c = text[i];
		if (c == '"')
			in_string = !in_string;
		else if (in_string)
			i += c == '\\';
		else if (c == '{')
			braces++;
		else if (c == '[')
			brackets++;
		else if (c == ',')
			commas++;
	}
	if (braces > most + 2 || brackets > 2 * most || commas > 12 * most)
		return rv_fail(RV_ERR_LIMIT, "%s: more JSON values than %zu tensors have", name, most);
	return RV_OK;
}

static rv_status check_metadata(const char *path, const json_t *metadata) {
	const char *key;
	json_t *value;
	if (!json_is_object(metadata))
		return rv_fail(RV_ERR_FORMAT, "%s: '__metadata__' is no object", path);
	json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
		if (!json_is_string(value))
			return rv_fail(RV_ERR_FORMAT, "%s: '__metadata__' key '%.128s' is no string",
			               path, key);
	}
	return RV_OK;
}

static int by_place(const void *pa, const void *pb) {
	const rv_safetensor *a = pa, *b = pb;
	if (a->begin != b->begin)
		return a->begin < b->begin ? -1 : 1;
	return (a->n_bytes > b->n_bytes) - (a->n_bytes < b->n_bytes);
}

/* Every byte of the data section belongs to exactly one tensor. Sorts by place. */
static rv_status check_cover(const rv_st_file *f, rv_safetensor *tensors, size_t n) {
	size_t end = 0;
	if (n)
		qsort(tensors, n, sizeof *tensors, by_place);
	for (size_t i = 0; i < n; i++) {
		const rv_safetensor *t = &tensors[i];
		if (t->begin < end)
			return rv_fail(RV_ERR_FORMAT,
			               "%s: tensor '%.128s' at byte %zu overlaps tensor '%.128s', "
			               "which ends at %zu",
			               f->path, t->name, t->begin, tensors[i - 1].name, end);
		if (t->begin > end)
			return rv_fail(RV_ERR_FORMAT,
			               "%s: a hole: bytes %zu to %zu before tensor '%.128s' belong to "
			               "none",
			               f->path, end, t->begin, t->name);
		end += t->n_bytes;
	}
	if (end != f->data_bytes)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: %zu bytes after the last tensor belong to none (the data section "
		               "has %zu)",
		               f->path, f->data_bytes - end, f->data_bytes);
	return RV_OK;
}

static rv_status parse_tensors(rv_st_file *f, size_t index, rv_st_table *table) {
	const char *name;
	json_t *info;
	size_t n = json_object_size(f->header), first = table->n;
	if (n > RV_SAFETENSORS_TENSORS_MAX)
		return rv_fail(RV_ERR_LIMIT, "%s: the header has more than %zu tensors", f->path,
		               RV_SAFETENSORS_TENSORS_MAX);
	RV_TRY(RV_GROW(&table->tensors, table->n, table->n + n + 1, "tensor table"));
	json_object_foreach(f->header, name, info) {
		if (strcmp(name, "__metadata__") == 0) {
			RV_TRY(check_metadata(f->path, info));
			continue;
		}
		rv_safetensor *t = &table->tensors[table->n];
		RV_TRY(parse_tensor(f, name, info, t));
		t->file = index;
		table->n++;
	}
	return check_cover(f, table->tensors + first, table->n - first);
}

/* `size` bytes at `data`: the whole file. */
static rv_status parse_file(rv_st_file *f, const uint8_t *data, size_t size, size_t index,
                            rv_st_table *table) {
	uint64_t length;
	if (size < LENGTH_BYTES)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: %zu bytes are too few: a header's length alone takes %d", f->path,
		               size, LENGTH_BYTES);
	memcpy(&length, data, sizeof length);
	if (length > RV_SAFETENSORS_HEADER_MAX)
		return rv_fail(RV_ERR_LIMIT, "%s: a header of %llu bytes is too large (at most %zu)",
		               f->path, (unsigned long long)length, RV_SAFETENSORS_HEADER_MAX);
	if (length > size - LENGTH_BYTES)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: a header of %llu bytes is longer than the file, which has %zu",
		               f->path, (unsigned long long)length, size);
	const char *text = (const char *)data + LENGTH_BYTES;
	f->data = data + LENGTH_BYTES + length;
	f->data_bytes = size - LENGTH_BYTES - (size_t)length;
	RV_TRY(rv_st_check_budget(text, (size_t)length, f->path));
	RV_TRY(rv_json_parse(text, (size_t)length, f->path, &f->header));
	if (!json_is_object(f->header))
		return rv_fail(RV_ERR_FORMAT, "%s: the header is no JSON object", f->path);
	return parse_tensors(f, index, table);
}

rv_status rv_st_load(rv_st_file *f, const char *path, size_t index, rv_st_table *table) {
	RV_TRY(rv_map_open(&f->map, path));
	RV_TRY(rv_strdup(&f->path, path));
	return parse_file(f, f->map.data, f->map.size, index, table);
}

void rv_st_unload(rv_st_file *f) {
	rv_map_close(&f->map);
	json_decref(f->header);
	rv_free(f->path);
}

/* ---- the reader ---- */

static int by_name(const void *pa, const void *pb) {
	const rv_safetensor *a = pa, *b = pb;
	return strcmp(a->name, b->name);
}

rv_status rv_st_finish(rv_safetensors *st) {
	rv_safetensor *t = st->table.tensors;
	if (st->table.n)
		qsort(t, st->table.n, sizeof *t, by_name);
	for (size_t i = 1; i < st->table.n; i++)
		if (strcmp(t[i - 1].name, t[i].name) == 0)
			return rv_fail(RV_ERR_FORMAT, "%s: duplicate tensor '%.128s', also in %s",
			               st->files[t[i].file].path, t[i].name,
			               st->files[t[i - 1].file].path);
	return RV_OK;
}

rv_status rv_st_new(rv_safetensors **out, size_t n_files) {
	rv_safetensors *st;
	RV_TRY(RV_ALLOC(&st, 1, "safetensors reader"));
	rv_status status = RV_ALLOC(&st->files, n_files, "safetensors reader");
	if (status != RV_OK) {
		rv_free(st);
		return status;
	}
	st->n_files = n_files;
	*out = st;
	return RV_OK;
}

rv_status rv_safetensors_open(rv_safetensors **out, const char *path) {
	rv_safetensors *st;
	*out = NULL;
	RV_TRY(rv_st_new(&st, 1));
	rv_status status = rv_st_load(&st->files[0], path, 0, &st->table);
	if (status == RV_OK)
		status = rv_st_finish(st);
	if (status != RV_OK)
		rv_safetensors_close(st);
	else
		*out = st;
	return status;
}

rv_status rv_safetensors_open_memory(rv_safetensors **out, const void *data, size_t size,
                                     const char *name) {
	rv_safetensors *st;
	*out = NULL;
	RV_TRY(rv_st_new(&st, 1));
	rv_status status = rv_strdup(&st->files[0].path, name);
	if (status == RV_OK)
		status = parse_file(&st->files[0], data, size, 0, &st->table);
	if (status == RV_OK)
		status = rv_st_finish(st);
	if (status != RV_OK)
		rv_safetensors_close(st);
	else
		*out = st;
	return status;
}

void rv_safetensors_close(rv_safetensors *st) {
	if (!st)
		return;
	for (size_t i = 0; i < st->n_files; i++)
		rv_st_unload(&st->files[i]);
	rv_free(st->files);
	rv_free(st->table.tensors);
	rv_free(st);
}

size_t rv_safetensors_n_tensors(const rv_safetensors *st) {
	return st->table.n;
}
const rv_safetensor *rv_safetensors_at(const rv_safetensors *st, size_t i) {
	return &st->table.tensors[i];
}

const rv_safetensor *rv_safetensors_find(const rv_safetensors *st, const char *name) {
	const rv_safetensor key = {.name = name};
	if (!st->table.n)
		return NULL;
	return bsearch(&key, st->table.tensors, st->table.n, sizeof key, by_name);
}

size_t rv_safetensors_n_files(const rv_safetensors *st) {
	return st->n_files;
}
const char *rv_safetensors_file(const rv_safetensors *st, size_t i) {
	return st->files[i].path;
}

size_t rv_safetensors_bytes(const rv_safetensors *st) {
	size_t total = 0;
	for (size_t i = 0; i < st->table.n; i++)
		total += st->table.tensors[i].n_bytes;
	return total;
}

rv_status rv_safetensors_check(const rv_safetensors *st) {
	for (size_t i = 0; i < st->n_files; i++)
		if (st->files[i].map.path)
			RV_TRY(rv_map_check(&st->files[i].map));
	return RV_OK;
}

void rv_safetensors_drop(const rv_safetensors *st, const rv_safetensor *t) {
	long page = sysconf(_SC_PAGESIZE);
	if (page <= 0 || !st->files[t->file].map.path)
		return;
	uintptr_t mask = (uintptr_t)page - 1, first = ((uintptr_t)t->data + mask) & ~mask;
	uintptr_t last = ((uintptr_t)t->data + t->n_bytes) & ~mask;
	if (first < last) /* whole pages only: the others are the neighbours' too */
		madvise((void *)first, last - first, MADV_DONTNEED);
}
