/* Slots and the table of ids: open addressing with linear probing over slots, ids read through them. */
#include "base/mem.h"
#include "base/rng.h"
#include "memory/hnsw_internal.h"

#include <math.h>

#define TABLE_MIN 64

static int64_t home_of(const rv_hnsw *h, uint64_t id) {
	id ^= id >> 32;
	id *= 0x9e3779b97f4a7c15u;
	return (int64_t)(id >> 20) & (h->table_size - 1);
}

/* Where the id stands, or the empty place where it would. */
static int64_t place_of(const rv_hnsw *h, uint64_t id) {
	int64_t at = home_of(h, id);
	while (h->table[at] != RV_HNSW_NONE && h->ids[h->table[at]] != id)
		at = (at + 1) & (h->table_size - 1);
	return at;
}

uint32_t rv_hnsw_find_id(const rv_hnsw *h, uint64_t id) {
	return h->table_size ? h->table[place_of(h, id)] : RV_HNSW_NONE;
}

void rv_hnsw_drop_id(rv_hnsw *h, uint64_t id) {
	const int64_t mask = h->table_size - 1;
	int64_t hole = place_of(h, id);
	/* Those after it move up unless that took them before their home. */
	for (int64_t at = (hole + 1) & mask; h->table[at] != RV_HNSW_NONE; at = (at + 1) & mask) {
		const int64_t home = home_of(h, h->ids[h->table[at]]);
		if (((at - home) & mask) >= ((at - hole) & mask)) {
			h->table[hole] = h->table[at];
			hole = at;
		}
	}
	h->table[hole] = RV_HNSW_NONE;
	h->n_ids--;
}

/* A table for n ids and more, at most half full. */
static rv_status grow_table(rv_hnsw *h, int64_t n) {
	int64_t size = h->table_size ? h->table_size : TABLE_MIN;
	while (size < 2 * n)
		size *= 2;
	if (size == h->table_size)
		return RV_OK;
	uint32_t *old = h->table, *table;
	const int64_t old_size = h->table_size;
	RV_TRY(RV_ALLOC(&table, size, "HNSW table of ids"));
	memset(table, 0xff, (size_t)size * sizeof *table);
	h->table = table;
	h->table_size = size;
	for (int64_t i = 0; i < old_size; i++)
		if (old[i] != RV_HNSW_NONE)
			table[place_of(h, h->ids[old[i]])] = old[i];
	rv_free(old);
	return RV_OK;
}

rv_status rv_hnsw_index_ids(rv_hnsw *h) {
	const int64_t n_slots = atomic_load(&h->n_slots);
	int64_t n_free = 0;
	for (int64_t slot = 0; slot < n_slots; slot++)
		n_free += rv_hnsw_state(h, (uint32_t)slot) == RV_HNSW_FREE;
	RV_TRY(grow_table(h, n_slots - n_free));
	/* Room to give every slot back. */
	RV_TRY(RV_GROW(&h->free_slots, h->free_capacity, n_slots, "HNSW free slots"));
	h->free_capacity = n_slots;
	memset(h->table, 0xff, (size_t)h->table_size * sizeof *h->table);
	h->n_ids = h->n_free = 0;
	for (int64_t slot = n_slots - 1; slot >= 0; slot--) {
		const int state = rv_hnsw_state(h, (uint32_t)slot);
		if (state == RV_HNSW_FREE)
			h->free_slots[h->n_free++] = (uint32_t)slot;
		if (state != RV_HNSW_LIVE)
			continue;
		const int64_t at = place_of(h, h->ids[slot]);
		if (h->table[at] != RV_HNSW_NONE)
			return rv_fail(RV_ERR_FORMAT, "HNSW: slots %u and %lld have the same id %llu",
			               h->table[at], (long long)slot, (unsigned long long)h->ids[slot]);
		h->table[at] = (uint32_t)slot;
		h->n_ids++;
	}
	return RV_OK;
}

/* ---- slots ---- */

/* Geometric, by the slot's number alone: who comes and goes does not change it. */
static int level_of(const rv_hnsw *h, uint32_t slot) {
	rv_rng rng;
	rv_rng_stream(&rng, h->options.seed, slot);
	const double level = -log(1 - rv_rng_double(&rng)) / log(h->options.m);
	return level < RV_HNSW_MAX_LEVEL ? (int)level : RV_HNSW_MAX_LEVEL;
}

static uint32_t new_slot(rv_hnsw *h) {
	if (h->n_free)
		return h->free_slots[--h->n_free];
	const uint32_t slot = (uint32_t)atomic_load(&h->n_slots);
	int level = level_of(h, slot);
	if (level > h->upper_capacity - h->upper_used)
		level = (int)(h->upper_capacity - h->upper_used);
	h->levels[slot] = (uint8_t)level;
	h->upper_at[slot] = (uint32_t)h->upper_used;
	h->upper_used += level;
	atomic_store(&h->n_slots, (int64_t)slot + 1);
	return slot;
}

static void empty_slot(rv_hnsw *h, uint32_t slot) {
	for (int level = 0; level <= h->levels[slot]; level++)
		rv_hnsw_list_write(h, slot, level, NULL, 0);
	atomic_store(h->parents + slot, RV_HNSW_NONE);
	atomic_store(h->children + slot, 0);
}

static void give_back(rv_hnsw *h, uint32_t slot) {
	atomic_store(h->states + slot, RV_HNSW_FREE);
	h->free_slots[h->n_free++] = slot;
}

static void untake_slots(rv_hnsw *h, const uint64_t *ids, int64_t n, const uint32_t *slots) {
	for (int64_t i = n - 1; i >= 0; i--) {
		rv_hnsw_drop_id(h, ids[i]);
		give_back(h, slots[i]);
	}
}

static rv_status take_slots(rv_hnsw *h, const uint64_t *ids, int64_t n, uint32_t *slots) {
	const int64_t in_use = atomic_load(&h->n_slots) - h->n_free;
	if (n > h->options.capacity - in_use)
		return rv_fail(RV_ERR_LIMIT,
		               "HNSW: %lld more than the %lld there exceed the capacity of %lld",
		               (long long)n, (long long)in_use, (long long)h->options.capacity);
	RV_TRY(grow_table(h, h->n_ids + n));
	/* Room to give every slot back. */
	const int64_t all = in_use + h->n_free + n;
	if (all > h->free_capacity) {
		const int64_t room = all + all / 2;
		RV_TRY(RV_GROW(&h->free_slots, h->free_capacity, room, "HNSW free slots"));
		h->free_capacity = room;
	}
	for (int64_t i = 0; i < n; i++) {
		const int64_t at = place_of(h, ids[i]);
		if (h->table[at] != RV_HNSW_NONE) {
			untake_slots(h, ids, i, slots);
			return rv_fail(RV_ERR_INVALID, "HNSW: id %llu is there already",
			               (unsigned long long)ids[i]);
		}
		slots[i] = new_slot(h);
		h->ids[slots[i]] = ids[i];
		h->table[at] = slots[i];
		h->n_ids++;
		empty_slot(h, slots[i]);
	}
	return RV_OK;
}

rv_status rv_hnsw_take_slots(rv_hnsw *h, const uint64_t *ids, int64_t n, uint32_t *slots) {
	pthread_mutex_lock(&h->table_lock);
	const rv_status status = take_slots(h, ids, n, slots);
	pthread_mutex_unlock(&h->table_lock);
	return status;
}

void rv_hnsw_untake_slots(rv_hnsw *h, const uint64_t *ids, int64_t n, const uint32_t *slots) {
	pthread_mutex_lock(&h->table_lock);
	untake_slots(h, ids, n, slots);
	pthread_mutex_unlock(&h->table_lock);
}

void rv_hnsw_free_slots(rv_hnsw *h, const uint32_t *slots, int64_t n) {
	pthread_mutex_lock(&h->table_lock);
	for (int64_t i = n - 1; i >= 0; i--)
		give_back(h, slots[i]);
	pthread_mutex_unlock(&h->table_lock);
}
