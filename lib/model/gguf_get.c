/* GGUF reader: look-up by name and typed access to values. */
#include "base/mem.h"
#include "model/gguf_internal.h"

/* ---- look-up ---- */

/* The position of `name` in a sorted index, or n. */
static size_t search(const uint32_t *order, size_t n, const char *name, const void *table,
                     rv_gguf_name_fn *name_of) {
	rv_str wanted = {name, strlen(name)};
	size_t low = 0, high = n;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = rv_str_cmp(name_of(table, order[mid]), wanted);
		if (c == 0)
			return order[mid];
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return n;
}

const rv_gguf_kv *rv_gguf_find(const rv_gguf *gguf, const char *key) {
	return rv_gguf_kv_at(gguf, search(gguf->kv_order, gguf->n_kv, key, gguf->kv, rv_gguf_kv_name));
}
const rv_gguf_tensor *rv_gguf_find_tensor(const rv_gguf *gguf, const char *name) {
	return rv_gguf_tensor_at(gguf, search(gguf->tensor_order, gguf->n_tensors, name, gguf->tensors,
	                                      rv_gguf_tensor_name));
}

size_t rv_gguf_n_kv(const rv_gguf *gguf) {
	return gguf->n_kv;
}
const rv_gguf_kv *rv_gguf_kv_at(const rv_gguf *gguf, size_t i) {
	return i < gguf->n_kv ? &gguf->kv[i] : NULL;
}
size_t rv_gguf_n_tensors(const rv_gguf *gguf) {
	return gguf->n_tensors;
}
const rv_gguf_tensor *rv_gguf_tensor_at(const rv_gguf *gguf, size_t i) {
	return i < gguf->n_tensors ? &gguf->tensors[i] : NULL;
}

/* ---- typed access ---- */

static rv_status get(const rv_gguf *g, const char *key, const rv_gguf_kv **out) {
	*out = rv_gguf_find(g, key);
	if (!*out)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: key '%s' is missing", g->path, key);
	return RV_OK;
}

static rv_status fail_kind(const rv_gguf *g, const rv_gguf_kv *kv, const char *key,
                           const char *wanted) {
	int array = kv->kind == RV_GGUF_ARRAY;
	return rv_fail(RV_ERR_FORMAT, "%s: key '%s' is %s%s, not %s", g->path, key,
	               array ? "an array of " : "", rv_gguf_kind_name(kv->elem), wanted);
}

#define BIT(kind) (1u << (kind))
static const unsigned unsigned_kinds =
        BIT(RV_GGUF_U8) | BIT(RV_GGUF_U16) | BIT(RV_GGUF_U32) | BIT(RV_GGUF_U64);
static const unsigned signed_kinds =
        BIT(RV_GGUF_I8) | BIT(RV_GGUF_I16) | BIT(RV_GGUF_I32) | BIT(RV_GGUF_I64);

rv_status rv_gguf_int(const rv_gguf *gguf, const char *key, int64_t min, int64_t max, int64_t *out) {
	const rv_gguf_kv *kv;
	uint64_t raw = 0;
	RV_TRY(get(gguf, key, &kv));
	if (!(BIT(kv->kind) & (unsigned_kinds | signed_kinds)))
		return fail_kind(gguf, kv, key, "an integer");
	memcpy(&raw, kv->bytes, kv->n_bytes);
	if ((BIT(kv->kind) & unsigned_kinds) && raw > INT64_MAX)
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s': value %llu is not in %lld..%lld",
		               gguf->path, key, (unsigned long long)raw, (long long)min,
		               (long long)max);
	/* the sign bit goes to the top and comes back as the sign */
	unsigned shift = BIT(kv->kind) & signed_kinds ? 64 - 8 * (unsigned)kv->n_bytes : 0;
	int64_t v = (int64_t)(raw << shift) >> shift;
	if (v < min || v > max)
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s': value %lld is not in %lld..%lld",
		               gguf->path, key, (long long)v, (long long)min, (long long)max);
	*out = v;
	return RV_OK;
}

rv_status rv_gguf_double(const rv_gguf *gguf, const char *key, double *out) {
	const rv_gguf_kv *kv;
	float f;
	RV_TRY(get(gguf, key, &kv));
	if (kv->kind == RV_GGUF_F64) {
		memcpy(out, kv->bytes, sizeof *out);
	} else if (kv->kind == RV_GGUF_F32) {
		memcpy(&f, kv->bytes, sizeof f);
		*out = (double)f;
	} else {
		return fail_kind(gguf, kv, key, "a floating-point number");
	}
	return RV_OK;
}

rv_status rv_gguf_bool(const rv_gguf *gguf, const char *key, int *out) {
	const rv_gguf_kv *kv;
	RV_TRY(get(gguf, key, &kv));
	if (kv->kind != RV_GGUF_BOOL)
		return fail_kind(gguf, kv, key, "a bool");
	*out = kv->bytes[0];
	return RV_OK;
}

rv_status rv_gguf_string(const rv_gguf *gguf, const char *key, rv_str *out) {
	const rv_gguf_kv *kv;
	RV_TRY(get(gguf, key, &kv));
	if (kv->kind != RV_GGUF_STRING)
		return fail_kind(gguf, kv, key, "a string");
	*out = (rv_str){(const char *)kv->bytes + sizeof(uint64_t), kv->n_bytes - sizeof(uint64_t)};
	return RV_OK;
}

static rv_status get_array(const rv_gguf *g, const char *key, rv_gguf_kind elem, const char *wanted,
                           const rv_gguf_kv **out) {
	RV_TRY(get(g, key, out));
	if ((*out)->kind != RV_GGUF_ARRAY || (*out)->elem != elem)
		return fail_kind(g, *out, key, wanted);
	return RV_OK;
}

rv_status rv_gguf_strings(const rv_gguf *gguf, const char *key, rv_str **out, size_t *n) {
	const rv_gguf_kv *kv;
	rv_str *views;
	RV_TRY(get_array(gguf, key, RV_GGUF_STRING, "an array of strings", &kv));
	if (kv->count > RV_GGUF_STRINGS_MAX)
		return rv_fail(RV_ERR_LIMIT, "%s: key '%s' holds %llu strings, the limit is %zu",
		               gguf->path, key, (unsigned long long)kv->count, RV_GGUF_STRINGS_MAX);
	RV_TRY(rv_alloc_uninit((void **)&views, (size_t)kv->count, sizeof *views, key));
	const uint8_t *at = kv->bytes; /* lengths were checked when the file was opened */
	for (size_t i = 0; i < kv->count; i++) {
		uint64_t len;
		memcpy(&len, at, sizeof len);
		views[i] = (rv_str){(const char *)at + sizeof len, (size_t)len};
		at += sizeof len + (size_t)len;
	}
	*out = views;
	*n = (size_t)kv->count;
	return RV_OK;
}

static rv_status copy_array(const rv_gguf *g, const char *key, rv_gguf_kind elem, const char *wanted,
                            void **out, size_t *n) {
	const rv_gguf_kv *kv;
	void *copy;
	RV_TRY(get_array(g, key, elem, wanted, &kv));
	RV_TRY(rv_alloc_uninit(&copy, (size_t)kv->count, rv_gguf_kind_bytes(elem), key));
	if (kv->n_bytes)
		memcpy(copy, kv->bytes, kv->n_bytes);
	*out = copy;
	*n = (size_t)kv->count;
	return RV_OK;
}

rv_status rv_gguf_floats(const rv_gguf *gguf, const char *key, float **out, size_t *n) {
	void *copy;
	RV_TRY(copy_array(gguf, key, RV_GGUF_F32, "an array of f32", &copy, n));
	*out = copy;
	return RV_OK;
}

rv_status rv_gguf_i32s(const rv_gguf *gguf, const char *key, int32_t **out, size_t *n) {
	void *copy;
	RV_TRY(copy_array(gguf, key, RV_GGUF_I32, "an array of i32", &copy, n));
	*out = copy;
	return RV_OK;
}
