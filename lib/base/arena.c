#include "base/arena.h"

#include "base/mem.h"

#include <string.h>

#define MIN_BLOCK_BYTES ((size_t)64 << 10)

/* Blocks are kept in the order of use. The live ones run from the first to `current`; later ones were
 * used before a reset and wait for reuse. `base` is the arena's use when the block was entered, which
 * makes a mark (a count of bytes) enough to find the block to go back to. */
typedef struct block {
	struct block *next;
	char *data;
	size_t capacity, used, base;
} block;

struct rv_arena {
	block *first, *current;
	size_t peak;
	int growable;
};

static rv_status block_create(block **out, size_t capacity) {
	block *b;
	RV_TRY(RV_ALLOC(&b, 1, "arena block"));
	rv_status status = rv_alloc_uninit((void **)&b->data, capacity, 1, "arena");
	if (status != RV_OK) {
		rv_free(b);
		return status;
	}
	b->capacity = capacity;
	*out = b;
	return RV_OK;
}

static int round_up(size_t bytes, size_t *out) {
	if (!rv_add_ok(bytes, RV_ALIGN - 1, out))
		return 0;
	*out -= *out % RV_ALIGN;
	return 1;
}

rv_status rv_arena_create(rv_arena **out, size_t capacity, int growable) {
	rv_arena *arena;
	size_t rounded;
	*out = NULL;
	if (!round_up(capacity, &rounded))
		return rv_fail(RV_ERR_NO_MEMORY, "arena: %zu bytes are more than can be addressed",
		               capacity);
	RV_TRY(RV_ALLOC(&arena, 1, "arena"));
	rv_status status = block_create(&arena->first, rounded);
	if (status != RV_OK) {
		rv_free(arena);
		return status;
	}
	arena->current = arena->first;
	arena->growable = growable;
	*out = arena;
	return RV_OK;
}

void rv_arena_destroy(rv_arena *arena) {
	if (!arena)
		return;
	for (block *b = arena->first, *next; b; b = next) {
		next = b->next;
		rv_free(b->data);
		rv_free(b);
	}
	rv_free(arena);
}

/* Makes the block after `current` one with room for `bytes`: a waiting one, else a new one. */
static rv_status next_block(rv_arena *arena, size_t bytes) {
	block **link = &arena->current->next, *found;
	while (*link && (*link)->capacity < bytes)
		link = &(*link)->next;
	found = *link;
	if (found) {
		*link = found->next;
	} else {
		size_t capacity = arena->current->capacity;
		if (!rv_mul_ok(capacity, 2, &capacity))
			capacity = bytes;
		if (capacity < MIN_BLOCK_BYTES)
			capacity = MIN_BLOCK_BYTES;
		RV_TRY(block_create(&found, capacity < bytes ? bytes : capacity));
	}
	found->next = arena->current->next;
	arena->current->next = found;
	return RV_OK;
}

rv_status rv_arena_alloc(rv_arena *arena, void **out, size_t bytes) {
	size_t rounded;
	*out = NULL;
	if (!round_up(bytes, &rounded))
		return rv_fail(RV_ERR_LIMIT, "arena: %zu bytes asked", bytes);
	if (!rounded)
		return RV_OK;
	block *b = arena->current;
	if (rounded > b->capacity - b->used) {
		if (!arena->growable)
			return rv_fail(RV_ERR_LIMIT, "arena: %zu bytes asked, %zu of %zu left", bytes,
			               b->capacity - b->used, b->capacity);
		RV_TRY(next_block(arena, rounded));
		b->next->base = b->base + b->used;
		b->next->used = 0;
		arena->current = b = b->next;
	}
	*out = memset(b->data + b->used, 0, bytes);
	b->used += rounded;
	if (rv_arena_used(arena) > arena->peak)
		arena->peak = rv_arena_used(arena);
	return RV_OK;
}

rv_status rv_arena_strndup(rv_arena *arena, char **out, const char *s, size_t len) {
	size_t bytes;
	void *copy;
	*out = NULL;
	if (!rv_add_ok(len, 1, &bytes))
		return rv_fail(RV_ERR_LIMIT, "arena: string of %zu bytes asked", len);
	RV_TRY(rv_arena_alloc(arena, &copy, bytes));
	if (len)
		memcpy(copy, s, len);
	*out = copy;
	return RV_OK;
}

size_t rv_arena_mark(const rv_arena *arena) {
	return rv_arena_used(arena);
}

void rv_arena_reset(rv_arena *arena, size_t mark) {
	if (mark >= rv_arena_used(arena))
		return;
	block *b = arena->first;
	while (b != arena->current && mark > b->base + b->used)
		b = b->next;
	b->used = mark - b->base;
	arena->current = b;
}

size_t rv_arena_used(const rv_arena *arena) {
	return arena->current->base + arena->current->used;
}

size_t rv_arena_peak(const rv_arena *arena) {
	return arena->peak;
}
