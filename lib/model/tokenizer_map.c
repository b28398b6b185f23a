/* Hash tables of the tokenizer. They are filled once, from files nobody vouches for: a table in which
 * some look-up would take more than RV_TOK_PROBES steps is built anew with another seed, then twice as
 * large. */
#include "base/mem.h"
#include "base/rng.h"
#include "model/tokenizer_internal.h"

#define TRIES 12

static uint64_t hash_text(const char *s, size_t len, uint64_t seed) {
	uint64_t h = seed ^ len;
	for (; len > 8; s += 8, len -= 8) {
		uint64_t w;
		memcpy(&w, s, 8);
		h = rv_tok_mix(h ^ w, 0xa0761d6478bd642fu) + w;
	}
	uint64_t w = 0;
	if (len)
		memcpy(&w, s, len);
	return rv_tok_hash2(w, h, seed);
}

/* How a kind of table is filled; one attempt with the table's seed and mask. */
typedef struct filler {
	size_t slot_bytes;
	/* Puts row i; the probes it took, 0 when it was there already. */
	size_t (*put)(void *slots, size_t mask, uint64_t seed, const void *rows, size_t i);
} filler;

/* Allocates and fills; seeds and sizes are tried until no probe is too long. */
static rv_status build(const filler *f, const void *rows, size_t n, void **slots, uint64_t *seed,
                       size_t *mask, size_t *n_duplicates) {
	size_t size = 16;
	while (size < 2 * n)
		size *= 2;
	rv_rng rng;
	rv_rng_seed(&rng, n);
	for (int try = 0; try < TRIES; try++) {
		if (try && try % 4 == 0)
			size *= 2;
		void *table;
		RV_TRY(rv_alloc_uninit(&table, size, f->slot_bytes, "tokenizer table"));
		memset(table, 0xff, size * f->slot_bytes);
		uint64_t s = rv_rng_u64(&rng);
		size_t duplicates = 0, i = 0;
		for (; i < n; i++) {
			size_t probes = f->put(table, size - 1, s, rows, i);
			if (probes > RV_TOK_PROBES)
				break;
			duplicates += !probes;
		}
		if (i == n) {
			*slots = table;
			*seed = s;
			*mask = size - 1;
			if (n_duplicates)
				*n_duplicates = duplicates;
			return RV_OK;
		}
		rv_free(table);
	}
	return rv_fail(RV_ERR_LIMIT, "the vocabulary's texts collide in every hash table tried");
}

/* ---- text -> id ---- */

static size_t put_text(void *slots, size_t mask, uint64_t seed, const void *rows, size_t i) {
	const rv_tok_strings *texts = rows;
	rv_tok_slot *table = slots;
	rv_str s = rv_tok_text(texts, i);
	if (!s.len)
		return 1;
	uint64_t h = hash_text(s.data, s.len, seed);
	uint32_t tag = (uint32_t)(h >> 32);
	size_t at = h & mask;
	for (size_t probes = 1;; at = (at + 1) & mask, probes++) {
		if (table[at].id < 0 || probes > RV_TOK_PROBES) {
			table[at] = (rv_tok_slot){tag, (int32_t)i};
			return probes;
		}
		rv_str other = rv_tok_text(texts, (size_t)table[at].id);
		if (table[at].tag == tag && other.len == s.len &&
		    memcmp(other.data, s.data, s.len) == 0)
			return 0;
	}
}

rv_status rv_tok_map_build(rv_tok_map *map, const rv_tok_strings *texts, size_t *n_duplicates) {
	static const filler f = {sizeof(rv_tok_slot), put_text};
	rv_tok_map made;
	RV_TRY(build(&f, texts, texts->n, (void **)&made.slots, &made.seed, &made.mask, n_duplicates));
	rv_free(map->slots);
	*map = made;
	return RV_OK;
}

int32_t rv_tok_map_find(const rv_tok_map *map, const rv_tok_strings *texts, const char *s, size_t len) {
	uint64_t h = hash_text(s, len, map->seed);
	uint32_t tag = (uint32_t)(h >> 32);
	for (size_t at = h & map->mask;; at = (at + 1) & map->mask) {
		rv_tok_slot slot = map->slots[at];
		if (slot.id < 0)
			return -1;
		if (slot.tag != tag)
			continue;
		rv_str other = rv_tok_text(texts, (size_t)slot.id);
		if (other.len == len && memcmp(other.data, s, len) == 0)
			return slot.id;
	}
}

/* ---- pair -> rank and id ---- */

static size_t put_pair(void *slots, size_t mask, uint64_t seed, const void *rows, size_t i) {
	const rv_tok_pair *row = (const rv_tok_pair *)rows + i;
	rv_tok_pair *table = slots;
	size_t at = rv_tok_hash2(row->key, 0, seed) & mask;
	for (size_t probes = 1;; at = (at + 1) & mask, probes++) {
		if (table[at].id < 0 || probes > RV_TOK_PROBES) {
			table[at] = *row;
			return probes;
		}
		if (table[at].key == row->key)
			return 0;
	}
}

rv_status rv_tok_pairs_build(rv_tok_pairs *table, const rv_tok_pair *pairs, size_t n,
                             size_t *n_duplicates) {
	static const filler f = {sizeof(rv_tok_pair), put_pair};
	return build(&f, pairs, n, (void **)&table->slots, &table->seed, &table->mask, n_duplicates);
}

/* ---- short text -> id ---- */

static size_t put_word(void *slots, size_t mask, uint64_t seed, const void *rows, size_t i) {
	const rv_tok_word *row = (const rv_tok_word *)rows + i;
	rv_tok_word *table = slots;
	size_t at = rv_tok_hash2(row->lo, row->hi, seed) & mask;
	for (size_t probes = 1;; at = (at + 1) & mask, probes++) {
		if (table[at].id < 0 || probes > RV_TOK_PROBES) {
			table[at] = *row;
			return probes;
		}
		if (table[at].lo == row->lo && table[at].hi == row->hi)
			return 0;
	}
}

rv_status rv_tok_words_build(rv_tok_words *table, const rv_tok_word *words, size_t n) {
	static const filler f = {sizeof(rv_tok_word), put_word};
	return build(&f, words, n, (void **)&table->slots, &table->seed, &table->mask, NULL);
}
