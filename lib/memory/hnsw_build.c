/* Insertion, in rounds. The nodes of a round look for neighbours in the graph as it was before, and
 * among those before them in the round; then they get their parents, one after the other; then each
 * node they chose learns of them, in order. So no result depends on who computes what, or when. A
 * single add is a round of one. */
#include "base/mem.h"
#include "memory/hnsw_internal.h"

#include <stdio.h>

#define ROUND_MAX 512
#define ROUND_PART 8 /* a round adds at most this part of what is there */

/* One link back: level, whom, and the number of the source in its round; ascending is the order of
 * work. */
typedef uint64_t link_back;
enum { SOURCE_BITS = 16, SLOT_BITS = 32 };

typedef struct build {
	rv_hnsw *h;
	rv_hnsw_searcher **searchers; /* one a worker */
	int n_searchers;
	rv_hnsw_entry entry;   /* before the round */
	const uint32_t *slots; /* of the round */
	int64_t n;
	link_back *backs; /* [n_backs], sorted; groups[i] is where the i-th node's begin */
	int64_t *groups;
	int64_t n_backs, n_groups, backs_capacity;

	const float *vectors; /* the batch's, as given */
	const uint32_t *all_slots;
	int64_t done; /* of the batch, before this round */
} build;

/* ---- looking for neighbours ---- */

/* Those before number i in its round that have the level. */
static int64_t mates_of(const build *b, rv_hnsw_searcher *s, int64_t i, int level) {
	int64_t n = 0;
	for (int64_t j = 0; j < i; j++)
		if (b->h->levels[b->slots[j]] >= level)
			s->slots[n++] = b->slots[j];
	return n;
}

static rv_status find_neighbours(const build *b, rv_hnsw_searcher *s, int64_t i) {
	rv_hnsw *h = b->h;
	const uint32_t slot = b->slots[i];
	const int64_t ef = h->options.ef_construction;
	const int top = h->levels[slot];
	RV_TRY(rv_hnsw_take_vector(h, b->vectors + (b->done + i) * h->options.dim, s->query));
	RV_TRY(rv_hnsw_aim(s, h->options.codes_only));
	s->n_best = 0;
	if (b->entry.slot != RV_HNSW_NONE)
		rv_hnsw_descend(s, b->entry, top);
	rv_hnsw_near from = s->n_best ? s->best[0] : 0;
	for (int level = top; level >= 0; level--) {
		const int walks = b->entry.slot != RV_HNSW_NONE && level <= b->entry.level;
		s->n_best = 0;
		if (walks) {
			s->best[s->n_best++] = from;
			RV_TRY(rv_hnsw_walk(s, level, ef, NULL));
			/* All may be removed ones: the way down stays where it was. */
			from = s->n_best ? s->best[0] : from;
		}
		const int64_t n_mates = mates_of(b, s, i, level);
		if (n_mates)
			rv_hnsw_offer(s, n_mates, ef);
		const int64_t n_kept = rv_hnsw_select(s, slot, s->best, s->n_best, h->options.m, 0);
		rv_hnsw_list_write(h, slot, level, s->kept, n_kept);
	}
	return RV_OK;
}

static rv_status find_job(void *arg, int64_t begin, int64_t end, int thread) {
	const build *b = arg;
	for (int64_t i = begin; i < end; i++)
		RV_TRY(find_neighbours(b, b->searchers[thread], i));
	return RV_OK;
}

/* ---- joining the graph ---- */

static void join_tree(build *b, rv_hnsw_searcher *s, int64_t i) {
	rv_hnsw *h = b->h;
	const uint32_t slot = b->slots[i];
	int64_t n = rv_hnsw_list_read(h, slot, 0, s->slots);
	if (b->entry.slot == RV_HNSW_NONE && i == 0) {
		atomic_store(h->parents + slot, slot);
	} else {
		const uint32_t parent = rv_hnsw_find_parent(h, slot, s->slots, n);
		int64_t at = 0;
		while (at < n && s->slots[at] != parent)
			at++;
		if (at == n) { /* n <= m: there is room */
			s->slots[n++] = parent;
			rv_hnsw_list_write(h, slot, 0, s->slots, n);
		}
	}
	atomic_store_explicit(h->states + slot, RV_HNSW_LIVE, memory_order_release);
	for (int level = 0; level <= h->levels[slot]; level++) {
		n = rv_hnsw_list_read(h, slot, level, s->slots);
		for (int64_t k = 0; k < n; k++)
			b->backs[b->n_backs++] = (uint64_t)level << (SLOT_BITS + SOURCE_BITS) |
			                         (uint64_t)s->slots[k] << SOURCE_BITS | (uint64_t)i;
	}
}

static rv_status back_job(void *arg, int64_t begin, int64_t end, int thread) {
	build *b = arg;
	for (int64_t g = begin; g < end; g++) {
		const int64_t from = b->groups[g], n = b->groups[g + 1] - from;
		uint32_t sources[ROUND_MAX];
		for (int64_t i = 0; i < n; i++)
			sources[i] = b->slots[b->backs[from + i] & ((1u << SOURCE_BITS) - 1)];
		const uint64_t to = b->backs[from] >> SOURCE_BITS;
		rv_hnsw_link_back(b->searchers[thread], (uint32_t)to, (int)(to >> SLOT_BITS), sources,
		                  n);
	}
	return RV_OK;
}

static void group_backs(build *b) {
	rv_hnsw_sort(b->backs, b->n_backs);
	b->n_groups = 0;
	for (int64_t i = 0; i < b->n_backs; i++)
		if (i == 0 || b->backs[i] >> SOURCE_BITS != b->backs[i - 1] >> SOURCE_BITS)
			b->groups[b->n_groups++] = i;
	b->groups[b->n_groups] = b->n_backs;
}

/* The highest is where searches begin, the first of them when there are several. */
static void raise_entry(rv_hnsw *h, uint32_t slot) {
	const int level = h->levels[slot];
	uint64_t entry = atomic_load(&h->entry);
	while ((uint32_t)entry == RV_HNSW_NONE || level > (int)(entry >> 32))
		if (atomic_compare_exchange_weak(&h->entry, &entry, (uint64_t)level << 32 | slot))
			return;
}

/* ---- rounds ---- */

static rv_status run(rv_threads *threads, int64_t n, int64_t grain, rv_work_fn *fn, build *b) {
	return threads ? rv_threads_for(threads, n, grain, fn, b) : fn(b, 0, n, 0);
}

static rv_status reserve_backs(build *b) {
	int64_t n = 0;
	for (int64_t i = 0; i < b->n; i++)
		n += (b->h->levels[b->slots[i]] + 1) * (int64_t)b->h->options.m + 1;
	if (n <= b->backs_capacity)
		return RV_OK;
	RV_TRY(RV_GROW(&b->backs, b->backs_capacity, n, "HNSW round"));
	RV_TRY(RV_GROW(&b->groups, b->backs_capacity ? b->backs_capacity + 1 : 0, n + 1, "HNSW round"));
	b->backs_capacity = n;
	return RV_OK;
}

/* Nothing fails once the first of its nodes has a parent. */
static rv_status insert_round(build *b, rv_threads *threads) {
	rv_hnsw *h = b->h;
	RV_TRY(reserve_backs(b));
	b->entry = rv_hnsw_get_entry(h);
	RV_TRY(run(threads, b->n, 4, find_job, b));
	b->n_backs = 0;
	for (int64_t i = 0; i < b->n; i++)
		join_tree(b, b->searchers[0], i);
	group_backs(b);
	(void)run(threads, b->n_groups, 8, back_job, b);
	for (int64_t i = 0; i < b->n; i++)
		raise_entry(h, b->slots[i]);
	atomic_fetch_add(&h->n_live, b->n);
	return RV_OK;
}

static void build_deinit(build *b) {
	for (int i = 0; i < b->n_searchers; i++)
		rv_hnsw_give_back(b->h, b->searchers[i]);
	rv_free(b->searchers);
	rv_free(b->backs);
	rv_free(b->groups);
}

static rv_status build_init(build *b, rv_hnsw *h, int n_threads) {
	*b = (build){.h = h};
	RV_TRY(RV_ALLOC(&b->searchers, n_threads, "HNSW builders"));
	for (; b->n_searchers < n_threads; b->n_searchers++) {
		RV_TRY(rv_hnsw_borrow(h, &b->searchers[b->n_searchers]));
		const rv_status status = rv_hnsw_reserve(b->searchers[b->n_searchers],
		                                         h->options.ef_construction, h->m0 + ROUND_MAX);
		if (status != RV_OK) {
			b->n_searchers++;
			return status;
		}
	}
	return RV_OK;
}

/* ---- the calls ---- */

/* Makes room where removed vectors take it. */
static rv_status make_room(rv_hnsw *h, int64_t n, rv_threads *threads) {
	const int64_t in_use = atomic_load(&h->n_live) + atomic_load(&h->n_removed);
	return in_use + n > h->options.capacity && atomic_load(&h->n_removed)
	               ? rv_hnsw_repair(h, threads)
	               : RV_OK;
}

static rv_status add_one(build *b, uint64_t id, const float *vector) {
	rv_hnsw *h = b->h;
	uint32_t slot;
	RV_TRY(rv_hnsw_take_vector(h, vector, b->searchers[0]->query));
	RV_TRY(rv_hnsw_take_slots(h, &id, 1, &slot));
	b->vectors = vector;
	b->slots = &slot;
	b->n = 1;
	rv_status status = rv_hnsw_keep(h, slot, b->searchers[0]->query);
	if (status == RV_OK)
		status = insert_round(b, NULL);
	if (status != RV_OK)
		rv_hnsw_untake_slots(h, &id, 1, &slot);
	return status;
}

/* The first node is alone: a second one must find it. So is who learns. */
static int must_be_alone(rv_hnsw *h) {
	return rv_hnsw_get_entry(h).slot == RV_HNSW_NONE || rv_hnsw_learn_due(h, 1);
}

rv_status rv_hnsw_add(rv_hnsw *h, uint64_t id, const float *vector) {
	RV_TRY(make_room(h, 1, NULL));
	if (must_be_alone(h))
		return rv_hnsw_add_batch(h, &id, vector, 1, NULL);
	build b;
	rv_status status = build_init(&b, h, 1);
	if (status == RV_OK) {
		pthread_rwlock_rdlock(&h->gate);
		status = add_one(&b, id, vector);
		pthread_rwlock_unlock(&h->gate);
	}
	build_deinit(&b);
	return status;
}

static rv_status take_job(void *arg, int64_t begin, int64_t end, int thread) {
	const build *b = arg;
	float *x = b->searchers[thread]->query;
	for (int64_t i = begin; i < end; i++) {
		rv_status status = rv_hnsw_take_vector(b->h, b->vectors + i * b->h->options.dim, x);
		if (status == RV_OK)
			status = rv_hnsw_keep(b->h, b->all_slots[i], x);
		if (status != RV_OK) {
			char row[32];
			snprintf(row, sizeof row, "row %lld", (long long)i);
			return rv_fail_in(status, row);
		}
	}
	return RV_OK;
}

static int64_t round_size(const rv_hnsw *h, int64_t left) {
	rv_hnsw *index = (rv_hnsw *)(uintptr_t)h;
	int64_t n = (atomic_load(&index->n_live) + atomic_load(&index->n_removed)) / ROUND_PART;
	n = n < 1 ? 1 : n > ROUND_MAX ? ROUND_MAX : n;
	return n < left ? n : left;
}

static rv_status add_rounds(build *b, const uint64_t *ids, int64_t n, uint32_t *slots,
                            rv_threads *threads) {
	RV_TRY(rv_hnsw_take_slots(b->h, ids, n, slots));
	b->all_slots = slots;
	rv_status status = run(threads, n, 64, take_job, b);
	if (status == RV_OK && rv_hnsw_learn_due(b->h, n))
		status = rv_hnsw_learn(b->h, slots, n, threads);
	while (status == RV_OK && b->done < n) {
		b->slots = slots + b->done;
		b->n = round_size(b->h, n - b->done);
		status = insert_round(b, threads);
		b->done += status == RV_OK ? b->n : 0;
	}
	if (status != RV_OK)
		rv_hnsw_untake_slots(b->h, ids + b->done, n - b->done, slots + b->done);
	return status;
}

rv_status rv_hnsw_add_batch(rv_hnsw *h, const uint64_t *ids, const float *vectors, int64_t n,
                            rv_threads *threads) {
	if (n < 0)
		return rv_fail(RV_ERR_INVALID, "HNSW: a batch of %lld vectors", (long long)n);
	if (n == 0)
		return RV_OK;
	RV_TRY(make_room(h, n, threads));
	build b;
	uint32_t *slots = NULL;
	rv_status status = build_init(&b, h, threads ? rv_threads_count(threads) : 1);
	if (status == RV_OK)
		status = RV_ALLOC(&slots, n, "HNSW slots");
	if (status == RV_OK) {
		b.vectors = vectors;
		pthread_rwlock_wrlock(&h->gate);
		status = add_rounds(&b, ids, n, slots, threads);
		pthread_rwlock_unlock(&h->gate);
		/* Without memory half-way: what came before the round goes again. */
		for (int64_t i = 0; status != RV_OK && i < b.done; i++)
			(void)rv_hnsw_remove(h, ids[i]);
	}
	rv_free(slots);
	build_deinit(&b);
	return status;
}
