/* GGUF reader: the tensor table and where each tensor's data lies. */
#include "base/mem.h"
#include "model/gguf_internal.h"

#include <stdio.h>

/* Type numbers the format has given out that are not read here, for the message only. */
static const struct {
	uint32_t number;
	const char *name;
} other_types[] = {
        {4, "Q4_2, removed"},
        {5, "Q4_3, removed"},
        {9, "Q8_1"},
        {15, "Q8_K"},
        {16, "IQ2_XXS"},
        {17, "IQ2_XS"},
        {18, "IQ3_XXS"},
        {19, "IQ1_S"},
        {20, "IQ4_NL"},
        {21, "IQ3_S"},
        {22, "IQ2_S"},
        {23, "IQ4_XS"},
        {24, "I8"},
        {25, "I16"},
        {26, "I32"},
        {27, "I64"},
        {28, "F64"},
        {29, "IQ1_M"},
        {31, "Q4_0_4_4, removed"},
        {32, "Q4_0_4_8, removed"},
        {33, "Q4_0_8_8, removed"},
        {34, "TQ1_0"},
        {35, "TQ2_0"},
        {36, "IQ4_NL_4_4, removed"},
        {37, "IQ4_NL_4_8, removed"},
        {38, "IQ4_NL_8_8, removed"},
        {39, "MXFP4"},
};

#define PLACE_BYTES 1024 /* "FILE: tensor 'NAME'" */

static rv_status find_type(uint32_t number, const char *place, const rv_type_info **out) {
	*out = number < RV_TYPE_LIMIT ? rv_type_get((int)number) : NULL;
	if (*out)
		return RV_OK;
	for (size_t i = 0; i < sizeof other_types / sizeof *other_types; i++) {
		if (other_types[i].number == number)
			return rv_fail(RV_ERR_UNSUPPORTED, "%s: type %u (%s) is not supported", place,
			               number, other_types[i].name);
	}
	return rv_fail(RV_ERR_UNSUPPORTED, "%s: unknown type %u", place, number);
}

rv_status rv_gguf_tensor_bytes(const rv_type_info *type, const int64_t *dims, int n_dims,
                               const char *place, size_t *out) {
	int64_t elements = 1;
	for (int d = 0; d < n_dims; d++) {
		if (dims[d] < 1)
			return rv_fail(RV_ERR_FORMAT, "%s: dimension %d is %lld, not at least 1", place,
			               d, (long long)dims[d]);
		if (dims[d] > INT64_MAX / elements)
			return rv_fail(RV_ERR_FORMAT, "%s: the product of its dimensions overflows",
			               place);
		elements *= dims[d];
	}
	if (dims[0] % type->block_elems != 0)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: row length %lld is not a multiple of %d, the block of %s", place,
		               (long long)dims[0], type->block_elems, type->name);
	size_t blocks = (size_t)(elements / type->block_elems);
	if (blocks > (size_t)INT64_MAX / (size_t)type->block_bytes)
		return rv_fail(RV_ERR_FORMAT, "%s: its size in bytes overflows", place);
	*out = blocks * (size_t)type->block_bytes;
	return RV_OK;
}

static rv_status parse_name(const rv_gguf *g, rv_gguf_cursor *c, size_t index, rv_gguf_tensor *t) {
	size_t at = c->pos;
	rv_str name;
	char shown[RV_GGUF_SHOW];
	RV_TRY(rv_gguf_take_string(c, &name, "tensor name"));
	if (name.len == 0 || name.len >= sizeof t->name)
		return rv_fail(
		        RV_ERR_FORMAT,
		        "%s: the name of tensor number %zu at byte %zu has %zu bytes, not 1 to %zu",
		        g->path, index, at, name.len, sizeof t->name - 1);
	if (memchr(name.data, 0, name.len))
		return rv_fail(RV_ERR_FORMAT, "%s: tensor name '%s' at byte %zu contains a NUL",
		               g->path, rv_gguf_show(shown, name.data, name.len), at);
	memcpy(t->name, name.data, name.len);
	t->name[name.len] = 0;
	return RV_OK;
}

static rv_status parse_dims(rv_gguf_cursor *c, const char *place, rv_gguf_tensor *t) {
	uint32_t n_dims = 0;
	RV_TRY(rv_gguf_take(c, &n_dims, sizeof n_dims, "tensor dimensions"));
	if (n_dims < 1 || n_dims > RV_GGUF_MAX_DIMS)
		return rv_fail(RV_ERR_FORMAT, "%s: %u dimensions, not 1 to %d", place, n_dims,
		               RV_GGUF_MAX_DIMS);
	t->n_dims = (int)n_dims;
	for (uint32_t d = 0; d < n_dims; d++)
		RV_TRY(rv_gguf_take(c, &t->dims[d], sizeof t->dims[d], "tensor dimensions"));
	return RV_OK;
}

static rv_status parse_tensor(const rv_gguf *g, rv_gguf_cursor *c, size_t index, rv_gguf_tensor *out) {
	rv_gguf_tensor t = {.dims = {1, 1, 1, 1}};
	const rv_type_info *type;
	uint32_t number = 0;
	char place[PLACE_BYTES], shown[RV_GGUF_SHOW];
	RV_TRY(parse_name(g, c, index, &t));
	snprintf(place, sizeof place, "%s: tensor '%s'", g->path,
	         rv_gguf_show(shown, t.name, strlen(t.name)));
	RV_TRY(parse_dims(c, place, &t));
	RV_TRY(rv_gguf_take(c, &number, sizeof number, "tensor type"));
	RV_TRY(rv_gguf_take(c, &t.offset, sizeof t.offset, "tensor offset"));
	RV_TRY(find_type(number, place, &type));
	t.type = type->type;
	RV_TRY(rv_gguf_tensor_bytes(type, t.dims, t.n_dims, place, &t.n_bytes));
	*out = t;
	return RV_OK;
}

/* ---- where the data lies ---- */

static rv_status fail_offset(const rv_gguf *g, const rv_gguf_tensor *t, uint64_t expected) {
	char shown[RV_GGUF_SHOW];
	const char *why = t->offset % g->alignment ? "is not aligned"
	                  : t->offset < expected   ? "overlaps what lies before it"
	                                           : "leaves a gap";
	return rv_fail(RV_ERR_FORMAT, "%s: tensor '%s': offset %llu %s (expected %llu, alignment %u)",
	               g->path, rv_gguf_show(shown, t->name, strlen(t->name)),
	               (unsigned long long)t->offset, why, (unsigned long long)expected, g->alignment);
}

/* Tensors lie one after the other in the order of the table, each start padded to the alignment: any
 * other offset is refused, which rules out overlap and wrap-around at once. */
static rv_status place_tensors(rv_gguf *g, size_t data_start) {
	uint64_t next = 0, end = 0;
	const rv_gguf_tensor *outside = NULL;
	size_t room = data_start < g->size ? g->size - data_start : 0;
	for (size_t i = 0; i < g->n_tensors; i++) {
		rv_gguf_tensor *t = &g->tensors[i];
		if (t->offset != next)
			return fail_offset(g, t, next);
		if (__builtin_add_overflow(next, t->n_bytes, &end) ||
		    __builtin_add_overflow(end, g->alignment - 1, &next))
			return rv_fail(RV_ERR_FORMAT, "%s: the sum of the tensors' sizes overflows",
			               g->path);
		next &= ~(uint64_t)(g->alignment - 1);
		if (end > room && !outside)
			outside = t;
		t->data = outside ? NULL : g->data + data_start + t->offset;
	}
	if (!outside)
		return RV_OK;
	char shown[RV_GGUF_SHOW];
	uint64_t expected;
	if (__builtin_add_overflow(end, data_start, &expected))
		expected = UINT64_MAX;
	return rv_fail(RV_ERR_FORMAT,
	               "%s: truncated: expected at least %llu bytes, actual size %zu (the data of "
	               "tensor '%s' lies "
	               "beyond the end)",
	               g->path, (unsigned long long)expected, g->size,
	               rv_gguf_show(shown, outside->name, strlen(outside->name)));
}

/* A header that counts too few tensors would shift all data: then the padding, which the format wants
 * to be zero, holds what is left of the table. */
static rv_status check_padding(const rv_gguf *g, size_t header_end, size_t data_start) {
	size_t end = data_start < g->size ? data_start : g->size;
	for (size_t at = header_end; at < end; at++) {
		if (g->data[at])
			return rv_fail(RV_ERR_FORMAT,
			               "%s: byte %zu between header and data is not zero: damaged, or "
			               "more than "
			               "the %zu tensors the header counts",
			               g->path, at, g->n_tensors);
	}
	return RV_OK;
}

rv_status rv_gguf_parse_tensors(rv_gguf *g, rv_gguf_cursor *c) {
	RV_TRY(rv_alloc_uninit((void **)&g->tensors, g->n_tensors, sizeof *g->tensors,
	                       "GGUF tensor table"));
	for (size_t i = 0; i < g->n_tensors; i++)
		RV_TRY(parse_tensor(g, c, i, &g->tensors[i]));
	RV_TRY(rv_gguf_sort_names(&g->tensor_order, g->tensors, g->n_tensors, rv_gguf_tensor_name,
	                          "tensor", g->path));
	/* c->pos is at most the size of something in memory: adding an alignment cannot wrap */
	size_t align = g->alignment;
	size_t data_start = (c->pos + align - 1) / align * align;
	RV_TRY(place_tensors(g, data_start));
	return check_padding(g, c->pos, data_start);
}
