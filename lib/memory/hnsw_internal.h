/* What the parts of the graph share; hnsw_file.c saves and maps the arrays.
 *
 * A vector has a slot, 0..capacity-1, and everything about it lies in arrays indexed by slot. A list of
 * links is a row of slots, RV_HNSW_NONE from its end on: m0 = 2 m of layer 0, m of an upper layer. Each
 * entry is atomic and names a whole node at any moment, so a reader that meets a list being rewritten
 * sees some old and some new links, never a wrong one. Lists are written under the lock of their slot.
 *
 * The tree: parents[x] of every node but the root is a node that x links to in layer 0 and that links
 * to x; children[] counts, at most m. These two links of each edge are in no selection dropped. A node
 * becomes a parent only when it has one, or is the root (its own parent): there is no cycle. */
#ifndef RV_MEMORY_HNSW_INTERNAL_H
#define RV_MEMORY_HNSW_INTERNAL_H

#include "memory/hnsw.h"
#include "memory/hnsw_sketch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define RV_HNSW_NONE UINT32_MAX
#define RV_HNSW_MAX_LEVEL 30
#define RV_HNSW_IDLE 64 /* searchers kept for rv_hnsw_search */
#define RV_HNSW_LOCKS 4096
#define RV_HNSW_LEARN_AT 1000 /* vectors; below, sketches do not pay */

typedef _Atomic uint32_t rv_hnsw_link;

/* Of a slot. Removed: in the graph, in no result. */
enum { RV_HNSW_FREE, RV_HNSW_LIVE, RV_HNSW_REMOVED };

/* X(type, name, elements a slot): the arrays indexed by slot. */
#define RV_HNSW_ARRAYS(X)                                                                              \
	X(float, vectors, h->options.codes_only ? 0 : h->stride)                                       \
	X(uint8_t, codes, h->code_bytes)                                                               \
	X(rv_hnsw_link, links, h->m0)                                                                  \
	X(uint64_t, ids, 1)                                                                            \
	X(rv_hnsw_link, parents, 1)                                                                    \
	X(_Atomic uint16_t, children, 1)                                                               \
	X(uint32_t, upper_at, 1) /* its row of layer 1 in `upper`; those above follow */               \
	X(uint8_t, levels, 1)                                                                          \
	X(_Atomic uint8_t, states, 1)

struct rv_hnsw {
	rv_hnsw_options options;
	const rv_kernels *kernels;
	int64_t stride; /* floats from a vector to the next: dim, filled up with zeros to 16 */
	int64_t m0;
	int64_t code_bytes; /* 0: no codes */

#define RV_HNSW_ARRAY(type, name, elements) type *name;
	RV_HNSW_ARRAYS(RV_HNSW_ARRAY)
#undef RV_HNSW_ARRAY
	rv_hnsw_link *upper; /* [upper_capacity, m] */
	int64_t upper_capacity, upper_used;

	_Atomic(rv_sketch *) sketch; /* NULL: none, or not yet */
	_Atomic int64_t learn_at;    /* at this many vectors it is learned anew */

	_Atomic uint64_t entry;  /* level << 32 | slot; RV_HNSW_NONE in the low half: empty */
	_Atomic int64_t n_slots; /* in use or free again; those above were never used */
	_Atomic int64_t n_live, n_removed;

	/* Writers: shared for one vector, exclusive for a batch or a repair. */
	pthread_rwlock_t gate;
	/* Slots and ids: the table [table_size], a power of two, of slots (NONE: empty), the free list.
	 */
	pthread_mutex_t table_lock;
	uint32_t *table, *free_slots;
	int64_t table_size, n_ids, n_free, free_capacity;
	_Atomic uint32_t locks[RV_HNSW_LOCKS];

	/* Searchers, all of them and those to borrow. */
	pthread_mutex_t searchers_lock;
	rv_hnsw_searcher *searchers;
	_Atomic(rv_hnsw_searcher *) idle[RV_HNSW_IDLE];
};

/* A slot and its distance in one number, ascending by distance, then slot; the lowest bit is free for a
 * mark. */
typedef uint64_t rv_hnsw_near;

static inline rv_hnsw_near rv_hnsw_near_of(float distance, uint32_t slot) {
	union {
		float f;
		uint32_t u;
	} v = {distance + 0.0f}; /* no -0 */
	const uint32_t ordered = v.u & 0x80000000u ? ~v.u : v.u | 0x80000000u;
	return (uint64_t)ordered << 32 | (uint64_t)slot << 1;
}
static inline float rv_hnsw_distance_of(rv_hnsw_near near) {
	const uint32_t ordered = (uint32_t)(near >> 32);
	union {
		uint32_t u;
		float f;
	} v = {ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered};
	return v.f;
}
static inline uint32_t rv_hnsw_slot_of(rv_hnsw_near near) {
	return (uint32_t)near >> 1;
}

static inline float *rv_hnsw_vector(const rv_hnsw *h, uint32_t slot) {
	return h->vectors + (int64_t)slot * h->stride;
}
static inline uint8_t *rv_hnsw_code(const rv_hnsw *h, uint32_t slot) {
	return h->codes + (int64_t)slot * h->code_bytes;
}
/* The list of a node that has this level, and how many links it may hold. */
static inline rv_hnsw_link *rv_hnsw_list(const rv_hnsw *h, uint32_t slot, int level) {
	return level ? h->upper + ((int64_t)h->upper_at[slot] + level - 1) * h->options.m
	             : h->links + (int64_t)slot * h->m0;
}
static inline int64_t rv_hnsw_degree_max(const rv_hnsw *h, int level) {
	return level ? h->options.m : h->m0;
}
static inline int64_t rv_hnsw_list_read(const rv_hnsw *h, uint32_t slot, int level, uint32_t *out) {
	const rv_hnsw_link *list = rv_hnsw_list(h, slot, level);
	const int64_t max = rv_hnsw_degree_max(h, level);
	int64_t n = 0;
	while (n < max &&
	       (out[n] = atomic_load_explicit(list + n, memory_order_acquire)) != RV_HNSW_NONE)
		n++;
	return n;
}
static inline int rv_hnsw_state(const rv_hnsw *h, uint32_t slot) {
	return atomic_load_explicit(h->states + slot, memory_order_relaxed);
}
static inline uint32_t rv_hnsw_parent(const rv_hnsw *h, uint32_t slot) {
	return atomic_load_explicit(h->parents + slot, memory_order_acquire);
}

typedef struct rv_hnsw_entry {
	uint32_t slot; /* NONE: empty */
	int level;
} rv_hnsw_entry;
static inline rv_hnsw_entry rv_hnsw_get_entry(const rv_hnsw *h) {
	const uint64_t entry = atomic_load_explicit(&h->entry, memory_order_acquire);
	return (rv_hnsw_entry){(uint32_t)entry, (int)(entry >> 32)};
}
static inline void rv_hnsw_set_entry(rv_hnsw *h, uint32_t slot, int level) {
	atomic_store_explicit(&h->entry, (uint64_t)level << 32 | slot, memory_order_release);
}

/* ---- hnsw.c ---- */

/* x checked, and copied or scaled, into out[stride]. */
rv_status rv_hnsw_take_vector(const rv_hnsw *h, const float *x, float *out);

/* ---- hnsw_distance.c ---- */

/* Keeps x[stride], as take_vector wrote it, in the forms the index has. */
rv_status rv_hnsw_keep(rv_hnsw *h, uint32_t slot, const float *x);
/* The vector, or the one its code stands for: x[stride]. */
void rv_hnsw_kept(const rv_hnsw *h, uint32_t slot, float *x);
/* s->query is set: distances from here on are its. */
rv_status rv_hnsw_aim(rv_hnsw_searcher *s, int by_codes);
/* Of n slots to the query, or to another slot's vector (by code where there is no vector), into
 * s->distances. */
void rv_hnsw_distances(rv_hnsw_searcher *s, const uint32_t *slots, int64_t n);
void rv_hnsw_distances_from(rv_hnsw_searcher *s, uint32_t from, const uint32_t *slots, int64_t n);
/* Keeps of s->slots[0, n) those whose bound does not show that they are too far. */
int64_t rv_hnsw_drop_far(rv_hnsw_searcher *s, int64_t n, float limit);
/* The nearest n of s->best, in the order of their vectors. */
void rv_hnsw_rerank(rv_hnsw_searcher *s, int64_t n);

/* ---- hnsw_slots.c: slots and ids ---- */

/* Slots for n new ids, with levels and empty lists; all or none. */
rv_status rv_hnsw_take_slots(rv_hnsw *h, const uint64_t *ids, int64_t n, uint32_t *slots);
/* Gives back what take_slots gave, ids too. */
void rv_hnsw_untake_slots(rv_hnsw *h, const uint64_t *ids, int64_t n, const uint32_t *slots);
/* Frees slots that no list names and no search sees. */
void rv_hnsw_free_slots(rv_hnsw *h, const uint32_t *slots, int64_t n);
/* RV_HNSW_NONE when absent. The caller holds table_lock. */
uint32_t rv_hnsw_find_id(const rv_hnsw *h, uint64_t id);
void rv_hnsw_drop_id(rv_hnsw *h, uint64_t id);
/* Fills the table anew from states and ids (a loaded index); RV_ERR_FORMAT for an id twice. */
rv_status rv_hnsw_index_ids(rv_hnsw *h);

/* ---- hnsw_searcher.c ---- */

struct rv_hnsw_searcher {
	rv_hnsw *index;
	rv_hnsw_searcher *next;
	_Atomic uint64_t turns; /* odd while a search is under way */

	uint8_t *marks; /* [capacity]: equals `mark` where seen in this walk */
	uint8_t mark;
	float *query;            /* [stride] */
	const rv_sketch *sketch; /* of this search, and of its query */
	uint8_t *probe;          /* [RV_SKETCH_ROW_MAX] */
	int by_codes;
	void *prepared, *prepared_node; /* [query bytes of the codec]: the query, another node */

	rv_hnsw_near *best, *open; /* n_best sorted; a heap of n_open, of walks that not all may end */
	int64_t best_capacity, n_best, open_capacity, n_open;

	/* [batch_capacity]: nodes to look at, and what was seen of them */
	uint32_t *slots;
	const float **rows;
	const uint8_t **codes;
	float *distances;
	rv_hnsw_near *found;
	rv_sketch_bounds bounds;
	int64_t batch_capacity;
	uint32_t *kept, *open_kept; /* [m0]: a selection, and those of it that bounds leave open */
	rv_hnsw_work work;
};

rv_status rv_hnsw_borrow(rv_hnsw *h, rv_hnsw_searcher **out);
void rv_hnsw_give_back(rv_hnsw *h, rv_hnsw_searcher *s);
/* Room for `best` nearest ones, and to look at `batch` nodes at once. */
rv_status rv_hnsw_reserve(rv_hnsw_searcher *s, int64_t best, int64_t batch);
/* Returns when all searches that were under way have ended. */
void rv_hnsw_wait_for_searches(rv_hnsw *h);
void rv_hnsw_new_marks(rv_hnsw_searcher *s);

/* ---- hnsw_search.c ---- */

/* The nearest node to s->query that a descent from `entry` to `level` finds, as s->best. */
void rv_hnsw_descend(rv_hnsw_searcher *s, rv_hnsw_entry entry, int level);
/* From s->best on, the ef nearest of a layer, removed ones left out where there are any.
 * RV_ERR_NO_MEMORY only then. */
rv_status rv_hnsw_walk(rv_hnsw_searcher *s, int level, int64_t ef, const rv_hnsw_filter *filter);
/* Puts those of s->slots[0, n) that are near enough into s->best, which holds ef. */
void rv_hnsw_offer(rv_hnsw_searcher *s, int64_t n, int64_t ef);

/* ---- hnsw_learn.c ---- */

int rv_hnsw_learn_due(rv_hnsw *h, int64_t n); /* before n more are inserted? */
/* Sketches for the graph's vectors and those of `slots` that are to join it. The gate is exclusive. */
rv_status rv_hnsw_learn(rv_hnsw *h, const uint32_t *slots, int64_t n, rv_threads *threads);

/* ---- hnsw_links.c ---- */

/* Chooses from the ascending near[0, n), at most `max`, those nearer to `slot` than to any chosen
 * before; with `tree`, the tree's neighbours of slot always. Returns how many, in s->kept, nearest
 * first. */
int64_t rv_hnsw_select(rv_hnsw_searcher *s, uint32_t slot, const rv_hnsw_near *near, int64_t n,
                       int64_t max, int tree);
void rv_hnsw_list_write(rv_hnsw *h, uint32_t slot, int level, const uint32_t *links, int64_t n);
/* Adds the links slot -> sources[0, n), choosing anew when the list is full. s: reserved for a list and
 * n more. */
void rv_hnsw_link_back(rv_hnsw_searcher *s, uint32_t slot, int level, const uint32_t *sources,
                       int64_t n);
/* Makes a node the parent of slot: the first of `links` that has room, or else any that has. */
uint32_t rv_hnsw_find_parent(rv_hnsw *h, uint32_t slot, const uint32_t *links, int64_t n);
int rv_hnsw_take_child(rv_hnsw *h, uint32_t parent); /* one more, if there is room */
void rv_hnsw_sort(rv_hnsw_near *near, int64_t n);

static inline int rv_hnsw_in_tree(const rv_hnsw *h, uint32_t a, uint32_t b) {
	return rv_hnsw_parent(h, a) == b || rv_hnsw_parent(h, b) == a;
}

#endif
