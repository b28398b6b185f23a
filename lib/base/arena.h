/* Bump allocator: many allocations, one release. Not thread-safe. */
#ifndef RV_BASE_ARENA_H
#define RV_BASE_ARENA_H

#include "base/status.h"

#include <stddef.h>

typedef struct rv_arena rv_arena;

/* Reserves `capacity` bytes at once, so that later allocations never touch the heap; with
 * `growable`, further blocks are added when it is full. Owned by the caller. */
rv_status rv_arena_create(rv_arena **out, size_t capacity, int growable);
void rv_arena_destroy(rv_arena *arena); /* accepts NULL */

/* `bytes` of zeroed memory aligned to 64, valid until reset or destroy; NULL for 0 bytes. RV_ERR_LIMIT
 * when a fixed arena is full. */
rv_status rv_arena_alloc(rv_arena *arena, void **out, size_t bytes);
rv_status rv_arena_strndup(rv_arena *arena, char **out, const char *s, size_t len);

/* A mark to go back to: everything allocated after it is released, nothing is returned to the heap. */
size_t rv_arena_mark(const rv_arena *arena);
void rv_arena_reset(rv_arena *arena, size_t mark);

size_t rv_arena_used(const rv_arena *arena); /* bytes handed out, padding included */
size_t rv_arena_peak(const rv_arena *arena); /* largest rv_arena_used() ever seen */

#endif
