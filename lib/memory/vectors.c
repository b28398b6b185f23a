#include "memory/vectors.h"

#include "base/file.h"
#include "base/mem.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are copied as they are");

static const struct {
	const char *ending;
	size_t size;
} kinds[] = {
#define RV_VECTORS_ROW(name, ending, type) {ending, sizeof(type)},
        RV_VECTORS_TABLE(RV_VECTORS_ROW)
#undef RV_VECTORS_ROW
};

rv_vectors_kind rv_vectors_kind_of(const char *path) {
	const size_t len = strlen(path);
	rv_vectors_kind kind = 0;
	for (; kind < RV_VECTORS_COUNT; kind++) {
		const size_t n = strlen(kinds[kind].ending);
		if (len > n && strcmp(path + len - n, kinds[kind].ending) == 0)
			break;
	}
	return kind;
}

void rv_vectors_free(rv_vectors *v) {
	rv_free(v->data);
	*v = (rv_vectors){0};
}

/* A row's dimension, at `at` of the file. */
static rv_status read_dim(const uint8_t *data, size_t size, size_t at, const char *place, int64_t row,
                          int expected, int *out) {
	int32_t dim;
	if (size - at < sizeof dim)
		return rv_fail(RV_ERR_FORMAT, "%s: row %lld at byte %zu is cut off", place,
		               (long long)row, at);
	memcpy(&dim, data + at, sizeof dim);
	if (dim < 1 || dim > RV_VECTORS_MAX_DIM)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: row %lld at byte %zu has dimension %d, expected 1 to %d", place,
		               (long long)row, at, dim, RV_VECTORS_MAX_DIM);
	if (expected && dim != expected)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: row %lld at byte %zu has dimension %d, the first has %d", place,
		               (long long)row, at, dim, expected);
	*out = dim;
	return RV_OK;
}

rv_status rv_vectors_parse(rv_vectors *out, const uint8_t *data, size_t size, const char *place,
                           rv_vectors_kind kind, int64_t max_rows) {
	int dim;
	*out = (rv_vectors){0};
	if (size == 0)
		return rv_fail(RV_ERR_FORMAT, "%s: it has no rows", place);
	RV_TRY(read_dim(data, size, 0, place, 0, 0, &dim));
	const size_t row_bytes = (size_t)dim * kinds[kind].size, step = sizeof(int32_t) + row_bytes;
	const size_t n = size / step;
	if (size % step)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: row %zu at byte %zu is cut off: rows are %zu bytes, the file %zu",
		               place, n, n * step, step, size);
	const int64_t keep = max_rows > 0 && (size_t)max_rows < n ? max_rows : (int64_t)n;
	rv_vectors v = {.n = keep, .dim = dim};
	RV_TRY(rv_alloc_uninit(&v.data, (size_t)keep, row_bytes, "vectors"));
	for (int64_t row = 0; row < (int64_t)n; row++) {
		const size_t at = (size_t)row * step;
		const rv_status status = read_dim(data, size, at, place, row, v.dim, &dim);
		if (status != RV_OK) {
			rv_vectors_free(&v);
			return status;
		}
		if (row < keep)
			memcpy((uint8_t *)v.data + (size_t)row * row_bytes, data + at + sizeof(int32_t),
			       row_bytes);
	}
	*out = v;
	return RV_OK;
}

rv_status rv_vectors_read(rv_vectors *out, const char *path, rv_vectors_kind kind, int64_t max_rows) {
	rv_map map;
	*out = (rv_vectors){0};
	RV_TRY(rv_map_open(&map, path));
	rv_status status = rv_vectors_parse(out, map.data, map.size, path, kind, max_rows);
	if (status == RV_OK && (status = rv_map_check(&map)) != RV_OK)
		rv_vectors_free(out);
	rv_map_close(&map);
	return status;
}

rv_status rv_vectors_read_f32(rv_vectors *out, const char *path, int64_t max_rows) {
	const rv_vectors_kind kind = rv_vectors_kind_of(path);
	*out = (rv_vectors){0};
	if (kind != RV_VECTORS_F32 && kind != RV_VECTORS_U8)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: vectors are read from .fvecs and .bvecs", path);
	RV_TRY(rv_vectors_read(out, path, kind, max_rows));
	if (kind == RV_VECTORS_F32)
		return RV_OK;
	const uint8_t *bytes = out->data;
	const int64_t n = out->n * out->dim;
	float *wide;
	const rv_status status = RV_ALLOC(&wide, n, "vectors");
	for (int64_t i = 0; status == RV_OK && i < n; i++)
		wide[i] = bytes[i];
	rv_free(out->data);
	out->data = wide;
	if (status != RV_OK)
		*out = (rv_vectors){0};
	return status;
}

rv_status rv_vectors_write(const char *path, rv_vectors_kind kind, const void *data, int64_t n,
                           int dim) {
	rv_writer *w;
	if (n < 1 || dim < 1 || dim > RV_VECTORS_MAX_DIM)
		return rv_fail(RV_ERR_INVALID,
		               "%s: %lld vectors of dimension %d, expected 1 or more of 1 to %d", path,
		               (long long)n, dim, RV_VECTORS_MAX_DIM);
	const size_t row_bytes = (size_t)dim * kinds[kind].size;
	const int32_t head = dim;
	RV_TRY(rv_writer_open(&w, path));
	rv_status status = RV_OK;
	for (int64_t row = 0; row < n && status == RV_OK; row++) {
		status = rv_writer_write(w, &head, sizeof head);
		if (status == RV_OK)
			status = rv_writer_write(w, (const uint8_t *)data + (size_t)row * row_bytes,
			                         row_bytes);
	}
	if (status == RV_OK)
		return rv_writer_commit(w);
	rv_writer_abort(w);
	return status;
}
