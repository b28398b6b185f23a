#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

rv_status rv_alloc_uninit(void **out, size_t count, size_t size, const char *what) {
	size_t bytes, padded;
	*out = NULL;
	/* Padded to whole cache lines, as aligned_alloc asks; PTRDIFF_MAX is the largest C object. */
	if (!rv_mul_ok(count, size, &bytes) || !rv_add_ok(bytes, RV_ALIGN - 1, &padded) ||
	    padded > PTRDIFF_MAX)
		return rv_fail(RV_ERR_NO_MEMORY, "%s: %zu x %zu bytes are more than can be addressed",
		               what, count, size);
	padded -= padded % RV_ALIGN;
	if (!bytes)
		return RV_OK;
	void *data = aligned_alloc(RV_ALIGN, padded);
	if (!data)
		return rv_fail(RV_ERR_NO_MEMORY, "%s: cannot allocate %zu bytes", what, bytes);
	*out = data;
	return RV_OK;
}

rv_status rv_alloc(void **out, size_t count, size_t size, const char *what) {
	RV_TRY(rv_alloc_uninit(out, count, size, what));
	if (*out)
		memset(*out, 0, count * size);
	return RV_OK;
}

rv_status rv_grow(void **ptr, size_t old_count, size_t new_count, size_t size, const char *what) {
	if (new_count <= old_count)
		return RV_OK;
	void *grown;
	RV_TRY(rv_alloc_uninit(&grown, new_count, size, what));
	if (grown) {
		size_t kept = old_count * size;
		if (kept)
			memcpy(grown, *ptr, kept);
		memset((char *)grown + kept, 0, new_count * size - kept);
	}
	rv_free(*ptr);
	*ptr = grown;
	return RV_OK;
}

rv_status rv_strndup(char **out, const char *s, size_t len) {
	size_t bytes;
	char *copy;
	*out = NULL;
	if (!rv_add_ok(len, 1, &bytes))
		return rv_fail(RV_ERR_NO_MEMORY, "string: %zu bytes are more than can be addressed",
		               len);
	RV_TRY(rv_alloc_uninit((void **)&copy, bytes, 1, "string"));
	if (len)
		memcpy(copy, s, len);
	copy[len] = '\0';
	*out = copy;
	return RV_OK;
}

rv_status rv_strdup(char **out, const char *s) {
	return rv_strndup(out, s, strlen(s));
}

void rv_free(void *ptr) {
	free(ptr);
}
