/* The graph under change: thousands of random additions, removals, repairs and searches against a model
 * that is a plain list; and that verification sees every kind of damage. */
#include "hnsw_test.h"

#include "memory/hnsw_internal.h"

/* ---- against a model ---- */

enum { N_IDS = 1200, DIM = 24, CAPACITY = 500, STEPS = 6000 };

typedef struct model {
	set *data;
	rv_hnsw *index;
	uint8_t there[N_IDS]; /* by row of the data */
	int64_t n;
	rv_rng rng;
} model;

static void search_all(model *m) {
	uint64_t ids[CAPACITY];
	float distances[CAPACITY];
	int64_t n;
	const float *query = set_row(m->data, (int64_t)rv_rng_below(&m->rng, N_IDS));
	/* As wide as the graph: exactly the model, in order of distance. */
	assert_ok(rv_hnsw_search(m->index, query, CAPACITY, CAPACITY, NULL, ids, distances, &n));
	assert_int_equal(n, m->n);
	uint8_t seen[N_IDS] = {0};
	for (int64_t i = 0; i < n; i++) {
		const int64_t row = (int64_t)((ids[i] - 13) / 7919);
		assert_true(m->there[row] && !seen[row]);
		seen[row] = 1;
		assert_true(i == 0 || distances[i] >= distances[i - 1]);
		const double d = true_distance(rv_hnsw_get_options(m->index)->metric, query,
		                               set_row(m->data, row), DIM);
		assert_true(fabs(d - (double)distances[i]) < 1e-4 * (1 + fabs(d)));
	}
}

static void add_some(model *m) {
	uint64_t ids[40];
	float x[40 * DIM];
	int64_t rows[40], n = 0;
	for (int64_t tries = 1 + (int64_t)rv_rng_below(&m->rng, 40); tries; tries--) {
		const int64_t row = (int64_t)rv_rng_below(&m->rng, N_IDS);
		int taken = m->there[row];
		for (int64_t i = 0; i < n; i++)
			taken |= rows[i] == row;
		if (taken)
			continue;
		rows[n] = row;
		ids[n] = m->data->ids[row];
		memcpy(x + n++ * DIM, set_row(m->data, row), DIM * sizeof *x);
	}
	const rv_status status = rv_hnsw_add_batch(m->index, ids, x, n, NULL);
	assert_int_equal(status, m->n + n <= CAPACITY ? RV_OK : RV_ERR_LIMIT);
	for (int64_t i = 0; i < n && status == RV_OK; i++)
		m->there[rows[i]] = 1;
	m->n += status == RV_OK ? n : 0;
}

static void add_one(model *m) {
	const int64_t row = (int64_t)rv_rng_below(&m->rng, N_IDS);
	const rv_status status = rv_hnsw_add(m->index, m->data->ids[row], set_row(m->data, row));
	/* What is there is refused as that even when the index is full. */
	const rv_status due = m->n == CAPACITY ? RV_ERR_LIMIT : m->there[row] ? RV_ERR_INVALID : RV_OK;
	assert_int_equal(status, due);
	m->n += status == RV_OK;
	m->there[row] |= status == RV_OK;
}

static void remove_one(model *m) {
	const int64_t row = (int64_t)rv_rng_below(&m->rng, N_IDS);
	const rv_status status = rv_hnsw_remove(m->index, m->data->ids[row]);
	assert_int_equal(status, m->there[row] ? RV_OK : RV_ERR_NOT_FOUND);
	m->n -= m->there[row];
	m->there[row] = 0;
}

static void remove_many(model *m) {
	const uint64_t part = 1 + rv_rng_below(&m->rng, 4);
	for (int64_t row = 0; row < N_IDS; row++)
		if (m->there[row] && rv_rng_below(&m->rng, 4) < part) {
			assert_ok(rv_hnsw_remove(m->index, m->data->ids[row]));
			m->there[row] = 0;
			m->n--;
		}
}

static void run_model(rv_metric metric, int links, uint64_t seed) {
	rv_hnsw_options options = rv_hnsw_defaults();
	options.metric = metric;
	options.dim = DIM;
	options.m = links;
	options.ef_construction = 24;
	options.capacity = CAPACITY;
	options.seed = seed;
	model m = {.data = set_make(N_IDS, DIM, seed)};
	rv_rng_seed(&m.rng, seed);
	assert_ok(rv_hnsw_create(&m.index, &options));
	int64_t repairs = 0;
	for (int step = 0; step < STEPS; step++) {
		const uint64_t what = rv_rng_below(&m.rng, 1000);
		if (what < 60)
			add_some(&m);
		else if (what < 500)
			add_one(&m);
		else if (what < 940)
			remove_one(&m);
		else if (what < 945)
			remove_many(&m);
		else if (what < 965) {
			assert_ok(rv_hnsw_repair(m.index, NULL));
			assert_int_equal(rv_hnsw_get_stats(m.index).removed, 0);
			repairs++;
		} else
			search_all(&m);
		assert_int_equal(rv_hnsw_count(m.index), m.n);
		if (step % 10 == 0)
			assert_ok(rv_hnsw_verify(m.index));
	}
	assert_true(repairs > STEPS / 100);
	/* Down to nothing, and up again. */
	for (int64_t row = 0; row < N_IDS; row++)
		if (m.there[row])
			assert_ok(rv_hnsw_remove(m.index, m.data->ids[row]));
	memset(m.there, 0, sizeof m.there);
	m.n = 0;
	assert_ok(rv_hnsw_verify(m.index));
	search_all(&m);
	if (seed % 2)
		assert_ok(rv_hnsw_repair(m.index, NULL));
	assert_ok(rv_hnsw_add_batch(m.index, m.data->ids, m.data->x, CAPACITY, NULL));
	memset(m.there, 1, CAPACITY);
	m.n = CAPACITY;
	assert_ok(rv_hnsw_verify(m.index));
	search_all(&m);
	rv_hnsw_destroy(m.index);
	set_free(m.data);
}

static void follows_a_model(void **state) {
	(void)state;
	run_model(RV_METRIC_COSINE, 8, 1);
	run_model(RV_METRIC_L2, 2, 2); /* lists as short as can be: the tree needs most of them */
	run_model(RV_METRIC_INNER, 3, 3);
}

/* Vectors that are all the same, or lie on a line from one hub, leave nothing to choose among. */
static void crowds_stay_connected(void **state) {
	(void)state;
	enum { N = 400 };
	for (int kind = 0; kind < 3; kind++) {
		set data = {.n = N, .dim = 4};
		float x[N * 4] = {0};
		rv_hnsw_options options = rv_hnsw_defaults();
		options.metric = kind == 2 ? RV_METRIC_INNER : RV_METRIC_L2;
		options.dim = data.dim;
		options.m = 2;
		options.ef_construction = 10;
		options.capacity = N;
		rv_hnsw *index;
		assert_ok(rv_hnsw_create(&index, &options));
		for (int i = 0; i < N; i++) {
			x[i * 4] = kind ? (float)i : 1;
			assert_ok(rv_hnsw_add(index, (uint64_t)i, x + (int64_t)i * 4));
			if (i % 50 == 0)
				assert_ok(rv_hnsw_verify(index));
		}
		for (int round = 0; round < 4; round++) {
			for (int i = round; i < N; i += 4)
				assert_ok(rv_hnsw_remove(index, (uint64_t)i));
			assert_ok(rv_hnsw_repair(index, NULL));
			assert_ok(rv_hnsw_verify(index));
		}
		assert_int_equal(rv_hnsw_count(index), 0);
		rv_hnsw_destroy(index);
	}
}

/* After much coming and going searches are as good as in a graph built at once. */
static void repairs_keep_recall(void **state) {
	(void)state;
	set *data = set_make(2000, 40, 31);
	uint8_t among[2000] = {0};
	rv_hnsw *worn = index_of(data, RV_METRIC_COSINE, 1300);
	for (int64_t i = 0; i < 2000; i += 100) { /* a window of 1000 moves over the set */
		assert_ok(rv_hnsw_add_batch(worn, data->ids + i, set_row(data, i), 100, NULL));
		memset(among + i, 1, 100);
		for (int64_t k = i - 1000; k >= 0 && k < i - 900; k++) {
			assert_ok(rv_hnsw_remove(worn, data->ids[k]));
			among[k] = 0;
		}
	}
	assert_ok(rv_hnsw_repair(worn, NULL));
	assert_ok(rv_hnsw_verify(worn));
	rv_hnsw *fresh = index_of(data, RV_METRIC_COSINE, 1300);
	for (int64_t i = 0; i < 2000; i++)
		if (among[i])
			assert_ok(rv_hnsw_add(fresh, data->ids[i], set_row(data, i)));
	const double old = recall(worn, data, 10, 40, among), new = recall(fresh, data, 10, 40, among);
	if (old < new - 0.02)
		fail_msg("recall@10 %.4f after repairs, %.4f built at once", old, new);
	rv_hnsw_destroy(worn);
	rv_hnsw_destroy(fresh);
	set_free(data);
}

/* ---- damage ---- */

static uint32_t leaf_of(const rv_hnsw *h) {
	uint32_t slot = 0;
	while (atomic_load(h->children + slot) || rv_hnsw_parent(h, slot) == slot)
		slot++;
	return slot;
}

/* Takes every link to `slot` out of all lists. */
static void cut_off(rv_hnsw *h, uint32_t slot) {
	for (int64_t from = 0; from < h->n_slots; from++) {
		uint32_t links[64], kept[64];
		const int64_t n = rv_hnsw_list_read(h, (uint32_t)from, 0, links);
		int64_t n_kept = 0;
		for (int64_t i = 0; i < n; i++)
			if (links[i] != slot)
				kept[n_kept++] = links[i];
		rv_hnsw_list_write(h, (uint32_t)from, 0, kept, n_kept);
	}
}

static void damage(rv_hnsw *h, int kind) {
	const uint32_t leaf = leaf_of(h), parent = rv_hnsw_parent(h, leaf);
	rv_hnsw_link *list = rv_hnsw_list(h, leaf, 0);
	switch (kind) {
	case 0:
		cut_off(h, leaf);
		break;
	case 1:
		atomic_store(list, leaf);
		break;
	case 2:
		atomic_store(list + 1, atomic_load(list));
		break;
	case 3:
		atomic_store(list, (uint32_t)h->n_slots);
		break;
	case 4:
		atomic_store(list, RV_HNSW_NONE);
		break;
	case 5:
		atomic_store(h->parents + leaf, leaf);
		break;
	case 6:
		atomic_store(h->parents + leaf, RV_HNSW_NONE);
		break;
	case 7:
		atomic_store(h->children + parent, (uint16_t)(h->options.m + 1));
		break;
	case 8:
		h->ids[leaf] = h->ids[parent];
		break;
	case 9:
		rv_hnsw_vector(h, leaf)[3] = NAN;
		break;
	case 10:
		memset(rv_hnsw_vector(h, leaf), 0, (size_t)h->stride * sizeof(float));
		break;
	case 11:
		atomic_store(h->states + leaf, RV_HNSW_REMOVED);
		break;
	case 12:
		atomic_store(h->states + leaf, 7);
		break;
	case 13:
		h->levels[leaf] = RV_HNSW_MAX_LEVEL + 1;
		break;
	case 14:
		rv_hnsw_set_entry(h, leaf, h->levels[leaf] + 1);
		break;
	case 15:
		rv_hnsw_set_entry(h, RV_HNSW_NONE, 0);
		break;
	case 16:
		h->n_live++;
		break;
	case 17:
		atomic_store(h->upper, leaf_of(h));
		break;
	default:
		rv_hnsw_drop_id(h, h->ids[leaf]);
		break;
	}
}

static void verification_sees_damage(void **state) {
	(void)state;
	enum { KINDS = 19 };
	set *data = set_make(300, 24, 41);
	for (int kind = 0; kind < KINDS; kind++) {
		rv_hnsw *index = index_of(data, RV_METRIC_COSINE, 300);
		assert_ok(rv_hnsw_add_batch(index, data->ids, data->x, data->n, NULL));
		assert_ok(rv_hnsw_verify(index));
		damage(index, kind);
		if (rv_hnsw_verify(index) != RV_ERR_FORMAT)
			fail_msg("damage %d is not seen", kind);
		rv_hnsw_destroy(index);
	}
	set_free(data);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(follows_a_model),
	        cmocka_unit_test(crowds_stay_connected),
	        cmocka_unit_test(repairs_keep_recall),
	        cmocka_unit_test(verification_sees_damage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
