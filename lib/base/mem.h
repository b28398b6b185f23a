/* Heap allocation with overflow-checked sizes and 64-byte alignment. */
#ifndef RV_BASE_MEM_H
#define RV_BASE_MEM_H

#include "base/status.h"

#include <stddef.h>

#define RV_ALIGN 64 /* bytes: a cache line, and the widest SIMD register */

/* Allocates count * size bytes, zeroed, aligned to RV_ALIGN. *out is NULL for 0 bytes. `what` names
 * the thing in the message ("KV cache", "tensor table"). Free with rv_free. */
rv_status rv_alloc(void **out, size_t count, size_t size, const char *what);

/* As rv_alloc, memory not zeroed. */
rv_status rv_alloc_uninit(void **out, size_t count, size_t size, const char *what);

/* Grows *ptr (NULL, or from rv_alloc) from old_count to new_count elements of `size` bytes, new ones
 * zeroed. On failure *ptr is unchanged and still owned by the caller. */
rv_status rv_grow(void **ptr, size_t old_count, size_t new_count, size_t size, const char *what);

/* Copies a string (rv_free'd by the caller). */
rv_status rv_strdup(char **out, const char *s);
rv_status rv_strndup(char **out, const char *s, size_t len);

/* Accepts NULL. */
void rv_free(void *ptr);

/* Typed front ends: RV_ALLOC(&p, n, "rows") with `T *p`. */
#define RV_ALLOC(pp, count, what) rv_alloc((void **)(pp), (size_t)(count), sizeof **(pp), what)
#define RV_GROW(pp, old_n, new_n, what)                                                                \
	rv_grow((void **)(pp), (size_t)(old_n), (size_t)(new_n), sizeof **(pp), what)

/* a * b and a + b into *out; false on overflow. */
static inline int rv_mul_ok(size_t a, size_t b, size_t *out) {
	return !__builtin_mul_overflow(a, b, out);
}
static inline int rv_add_ok(size_t a, size_t b, size_t *out) {
	return !__builtin_add_overflow(a, b, out);
}

#endif
