/* The graph at rest: recall, order, determinism, bounds that change nothing, codes, filters, errors;
 * and that the checks see damage. */
#include "hnsw_test.h"

#include "memory/hnsw_internal.h"

#include <float.h>

static rv_hnsw *built(const set *data, rv_hnsw_options options, rv_threads *threads) {
	rv_hnsw *index;
	options.dim = data->dim;
	options.capacity = data->n;
	assert_ok(rv_hnsw_create(&index, &options));
	assert_ok(rv_hnsw_add_batch(index, data->ids, data->x, data->n, threads));
	assert_ok(rv_hnsw_verify(index));
	return index;
}

static void finds_what_brute_force_finds(void **state) {
	(void)state;
	set *data = set_make(1500, 40, 7);
	for (int metric = 0; metric < RV_METRIC_COUNT; metric++) {
		rv_hnsw_options options = rv_hnsw_defaults();
		options.metric = (rv_metric)metric;
		rv_hnsw *index = built(data, options, NULL);
		const double found = recall(index, data, 10, 64, NULL);
		if (found < 0.98)
			fail_msg("%s: recall@10 %.4f", rv_metric_name((rv_metric)metric), found);
		/* Negative control: a narrower search finds less. */
		assert_true(recall(index, data, 10, 10, NULL) < found);
		/* As wide as the graph, it is exact: each node leads to every other. */
		assert_true(recall(index, data, 10, (int)data->n, NULL) == 1);
		rv_hnsw_destroy(index);
	}
	set_free(data);
}

/* Negative controls: recall falls when links are dropped or lead astray, or the vectors go. */
static void recall_sees_damage(void **state) {
	(void)state;
	set *data = set_make(1200, 32, 3);
	rv_hnsw *index = built(data, rv_hnsw_defaults(), NULL);
	const double sound = recall(index, data, 10, 32, NULL);
	assert_true(sound > 0.95);
	rv_rng rng;
	rv_rng_seed(&rng, 1);
	for (int64_t i = 0; i < data->n * index->m0; i++)
		if (index->links[i] != RV_HNSW_NONE && rv_rng_below(&rng, 4) != 0)
			atomic_store(index->links + i, (uint32_t)rv_rng_below(&rng, 1200));
	assert_true(recall(index, data, 10, 32, NULL) < sound - 0.05);
	for (int64_t i = 0; i < data->n; i++)
		for (int64_t k = 2; k < index->m0; k++)
			atomic_store(index->links + i * index->m0 + k, RV_HNSW_NONE);
	assert_true(recall(index, data, 10, 32, NULL) < sound - 0.3);
	assert_int_equal(rv_hnsw_verify(index), RV_ERR_FORMAT);
	rv_hnsw_destroy(index);
	set_free(data);
}

/* ---- to the bit ---- */

static int same_graph(const rv_hnsw *a, const rv_hnsw *b) {
	const size_t n = (size_t)a->n_slots;
	return a->n_slots == b->n_slots && a->upper_used == b->upper_used && a->entry == b->entry &&
	       memcmp(a->links, b->links, n * (size_t)a->m0 * sizeof *a->links) == 0 &&
	       memcmp(a->parents, b->parents, n * sizeof *a->parents) == 0 &&
	       memcmp(a->upper, b->upper, (size_t)(a->upper_used * a->options.m) * sizeof *a->upper) ==
	               0;
}

static void thin_out(rv_hnsw *index, const set *data, rv_threads *threads) {
	for (int64_t i = 0; i < data->n; i += 3)
		assert_ok(rv_hnsw_remove(index, data->ids[i]));
	assert_ok(rv_hnsw_repair(index, threads));
	assert_ok(rv_hnsw_verify(index));
}

static void threads_do_not_change_the_graph(void **state) {
	(void)state;
	set *data = set_make(1300, 48, 11);
	rv_hnsw *alone = built(data, rv_hnsw_defaults(), NULL);
	rv_hnsw *thinned = built(data, rv_hnsw_defaults(), NULL);
	thin_out(thinned, data, NULL);
	static const int counts[] = {1, 2, 3, 5};
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		rv_threads *threads;
		assert_ok(rv_threads_create(&threads, &(rv_threads_options){.n_threads = counts[i]}));
		rv_hnsw *index = built(data, rv_hnsw_defaults(), threads);
		assert_true(same_graph(alone, index));
		thin_out(index, data, threads);
		assert_true(same_graph(thinned, index));
		/* Negative control: the comparison tells the one from the other. */
		assert_false(same_graph(alone, index));
		rv_hnsw_destroy(index);
		rv_threads_destroy(threads);
	}
	/* Negative control: another seed is another graph. */
	rv_hnsw_options options = rv_hnsw_defaults();
	options.seed = 1;
	rv_hnsw *other = built(data, options, NULL);
	assert_false(same_graph(alone, other));
	rv_hnsw_destroy(other);
	rv_hnsw_destroy(thinned);
	rv_hnsw_destroy(alone);
	set_free(data);
}

static void bounds_change_nothing(void **state) {
	(void)state;
	for (int metric = 0; metric < RV_METRIC_COUNT; metric++) {
		set *data = set_make(1300, 160, 5);
		rv_hnsw_options options = rv_hnsw_defaults();
		options.metric = (rv_metric)metric;
		rv_hnsw *with = built(data, options, NULL);
		options.sketch = 0;
		rv_hnsw *without = built(data, options, NULL);
		assert_non_null(with->sketch);
		assert_null(without->sketch);
		assert_true(same_graph(with, without));
		rv_hnsw_searcher *a, *b;
		assert_ok(rv_hnsw_searcher_create(&a, with));
		assert_ok(rv_hnsw_searcher_create(&b, without));
		for (int q = 0; q < SET_QUERIES; q++) {
			uint64_t ids[2][10];
			float distances[2][10];
			int64_t n[2];
			assert_ok(rv_hnsw_search_with(a, set_row(data, data->n + q), 10, 20, NULL,
			                              ids[0], distances[0], &n[0]));
			assert_ok(rv_hnsw_search_with(b, set_row(data, data->n + q), 10, 20, NULL,
			                              ids[1], distances[1], &n[1]));
			assert_int_equal(n[0], n[1]);
			assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
			assert_memory_equal(distances[0], distances[1], sizeof distances[0]);
		}
		const rv_hnsw_work bounded = rv_hnsw_searcher_work(a), all = rv_hnsw_searcher_work(b);
		assert_int_equal(bounded.distances + bounded.bounded, all.distances);
		assert_true(bounded.distances < all.distances / 2);
		assert_int_equal(all.bounded, 0);
		/* Negative control: bounds that are too tight do change results. */
		for (int64_t i = 0; i < data->n; i++) {
			uint8_t *row = rv_sketch_row(with->sketch, (uint32_t)i);
			rv_sketch_tail tail;
			memcpy(&tail, row + with->sketch->dims, sizeof tail);
			tail.scale *= metric == RV_METRIC_INNER ? 0.5f : 0.8f;
			tail.error = tail.beyond = 0;
			memcpy(row + with->sketch->dims, &tail, sizeof tail);
		}
		assert_true(recall(with, data, 10, 20, NULL) < recall(without, data, 10, 20, NULL));
		rv_hnsw_searcher_destroy(a);
		rv_hnsw_searcher_destroy(b);
		rv_hnsw_destroy(with);
		rv_hnsw_destroy(without);
		set_free(data);
	}
}

/* Each bound holds for every pair, also of vectors the sketch was not made for. */
static void bounds_hold(void **state) {
	(void)state;
	set *data = set_make(1100, 200, 9), *foreign = set_make(300, 200, 10);
	for (int metric = 0; metric < RV_METRIC_COUNT; metric++) {
		rv_hnsw *index = index_of(data, (rv_metric)metric, 2000);
		assert_ok(rv_hnsw_add_batch(index, data->ids, data->x, data->n, NULL));
		for (int64_t i = 0; i < foreign->n; i++) {
			float x[208];
			for (int d = 0; d < 200; d++) /* of very different lengths */
				x[d] = set_row(foreign, i)[d] * powf(10, (float)(i % 7 - 3));
			assert_ok(rv_hnsw_add(index, 1000000 + (uint64_t)i, x));
		}
		const uint32_t n = 1400;
		float lower, upper;
		int32_t sum;
		const int8_t *codes;
		rv_hnsw_searcher *s;
		assert_ok(rv_hnsw_searcher_create(&s, index));
		double slack = 0;
		for (uint32_t i = 0; i < n; i += 7)
			for (uint32_t j = 1; j < n; j += 11) {
				rv_sketch_bound(index->sketch, (rv_metric)metric,
				                rv_sketch_row(index->sketch, i), &j, 1,
				                &(rv_sketch_bounds){&lower, &upper, &sum, &codes});
				rv_hnsw_distances_from(s, i, &j, 1);
				assert_true(lower <= s->distances[0] && s->distances[0] <= upper);
				slack += metric == RV_METRIC_COSINE ? (double)(upper - lower) : 0;
			}
		assert_true(slack / (200.0 * 128.0) < 0.2); /* and is no excuse */
		rv_hnsw_searcher_destroy(s);
		rv_hnsw_destroy(index);
	}
	set_free(data);
	set_free(foreign);
}

/* ---- codes ---- */

static void codes_find_the_same(void **state) {
	(void)state;
	set *data = set_make(1200, 96, 21);
	for (int metric = 0; metric < RV_METRIC_COUNT; metric++) {
		rv_codec_options code = rv_codec_defaults();
		code.metric = (rv_metric)metric;
		code.dim = data->dim;
		rv_codec *codec;
		assert_ok(rv_codec_create(&codec, &code));
		rv_hnsw_options options = rv_hnsw_defaults();
		options.metric = (rv_metric)metric;
		options.dim = data->dim;
		options.capacity = data->n;
		options.codec = codec;
		rv_hnsw *index;
		assert_int_equal(rv_hnsw_create(&index, &options), RV_ERR_INVALID); /* not trained */
		assert_null(index);
		assert_ok(rv_codec_train(codec, data->x, data->n, NULL));
		options.codec = NULL;
		index = built(data, options, NULL);
		const double plain_recall = recall(index, data, 10, 64, NULL);
		rv_hnsw_destroy(index);
		options.codec = codec;
		index = built(data, options, NULL);
		const double found = recall(index, data, 10, 64, NULL); /* of exact distances */
		if (found < plain_recall - 0.01)
			fail_msg("%s: recall@10 %.4f, by vectors %.4f",
			         rv_metric_name((rv_metric)metric), found, plain_recall);
		rv_hnsw_destroy(index);

		options.codes_only = 1;
		index = built(data, options, NULL);
		const rv_hnsw_stats stats = rv_hnsw_get_stats(index);
		assert_int_equal(stats.vector_bytes, 0);
		assert_true(stats.code_bytes < (size_t)data->n * 96 * 4 / 3);
		int64_t hits = 0;
		for (int64_t i = 0; i < 300; i++) {
			uint64_t id;
			int64_t n;
			float x[96];
			assert_ok(rv_hnsw_get(index, data->ids[i], x));
			assert_true(true_distance(RV_METRIC_COSINE, x, set_row(data, i), 96) < 1e-3);
			assert_ok(rv_hnsw_search(index, set_row(data, i), 1, 50, NULL, &id, NULL, &n));
			hits += n == 1 && id == data->ids[i];
		}
		assert_true(metric == RV_METRIC_INNER || hits >= 297);
		for (int64_t i = 0; i < data->n; i += 2)
			assert_ok(rv_hnsw_remove(index, data->ids[i]));
		assert_ok(rv_hnsw_repair(index, NULL));
		assert_ok(rv_hnsw_verify(index));
		/* Negative control: a code that no encoding writes is seen. */
		memset(index->codes + 3 * index->code_bytes, 0xff, (size_t)index->code_bytes);
		assert_int_equal(rv_hnsw_verify(index), RV_ERR_FORMAT);
		rv_hnsw_destroy(index);

		options.dim = 95;
		assert_int_equal(rv_hnsw_create(&index, &options), RV_ERR_MISMATCH);
		options = rv_hnsw_defaults();
		options.dim = 8;
		options.capacity = 8;
		options.codes_only = 1;
		assert_int_equal(rv_hnsw_create(&index, &options), RV_ERR_INVALID);
		rv_codec_destroy(codec);
	}
	set_free(data);
}

/* ---- filters ---- */

typedef struct picks {
	uint8_t row[1500];
	int64_t asked;
} picks;

static int picked(void *user, uint64_t id) {
	picks *p = user;
	p->asked++;
	return p->row[(id - 13) / 7919];
}

static void a_filter_costs_time_not_recall(void **state) {
	(void)state;
	set *data = set_make(1500, 40, 17);
	rv_hnsw *index = built(data, rv_hnsw_defaults(), NULL);
	static const int parts[] = {1, 2, 10, 100, 1000};
	for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
		picks p_user = {.asked = 0};
		const rv_hnsw_filter filter = {picked, &p_user};
		rv_rng rng;
		rv_rng_seed(&rng, p);
		int64_t n_picked = 0;
		for (int64_t i = 0; i < data->n; i++)
			n_picked += p_user.row[i] = rv_rng_below(&rng, (uint64_t)parts[p]) == 0;
		int64_t hits = 0, wanted = 0;
		for (int q = 0; q < SET_QUERIES; q++) {
			const float *query = set_row(data, data->n + q);
			double all[1500];
			int64_t n_all = 0, n;
			for (int64_t i = 0; i < data->n; i++)
				if (p_user.row[i])
					all[n_all++] = true_distance(RV_METRIC_COSINE, query,
					                             set_row(data, i), 40);
			qsort(all, (size_t)n_all, sizeof *all, compare_double);
			uint64_t ids[10];
			float distances[10];
			assert_ok(rv_hnsw_search(index, query, 10, 40, &filter, ids, distances, &n));
			assert_int_equal(n, n_picked < 10 ? n_picked : 10);
			wanted += n;
			for (int64_t i = 0; i < n; i++) {
				assert_true(p_user.row[(ids[i] - 13) / 7919]);
				hits += (double)distances[i] <= all[n - 1] + 1e-6;
			}
		}
		assert_true(p_user.asked > 0);
		if ((double)hits < 0.97 * (double)wanted)
			fail_msg("1 in %d: %lld of %lld", parts[p], (long long)hits, (long long)wanted);
	}
	rv_hnsw_destroy(index);
	set_free(data);
}

/* ---- errors ---- */

static rv_status add_bad(rv_hnsw *index, int at, float value) {
	float x[40] = {1, 2, 3};
	x[at] = value;
	return rv_hnsw_add(index, 99, x);
}

static void errors_are_defined(void **state) {
	(void)state;
	set *data = set_make(40, 40, 2);
	rv_hnsw *index = index_of(data, RV_METRIC_COSINE, 30), *none;
	uint64_t ids[50];
	float distances[50];
	int64_t n = -1;

	assert_ok(rv_hnsw_verify(index));
	assert_ok(rv_hnsw_search(index, data->x, 5, 0, NULL, ids, distances, &n));
	assert_int_equal(n, 0);
	assert_int_equal(rv_hnsw_remove(index, 1), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_hnsw_get(index, 1, distances), RV_ERR_NOT_FOUND);
	assert_ok(rv_hnsw_repair(index, NULL));

	assert_ok(rv_hnsw_add(index, 5, set_row(data, 0)));
	assert_int_equal(rv_hnsw_add(index, 5, set_row(data, 1)), RV_ERR_INVALID);
	assert_int_equal(add_bad(index, 7, NAN), RV_ERR_NUMERIC);
	assert_non_null(strstr(rv_error_message(), "component 7"));
	assert_int_equal(add_bad(index, 39, INFINITY), RV_ERR_NUMERIC);
	float zero[40] = {0}, tiny[40] = {FLT_TRUE_MIN}, huge[40] = {FLT_MAX, FLT_MAX};
	assert_int_equal(rv_hnsw_add(index, 99, zero), RV_ERR_NUMERIC);
	assert_int_equal(rv_hnsw_search(index, zero, 1, 0, NULL, ids, NULL, &n), RV_ERR_NUMERIC);
	assert_int_equal(rv_hnsw_search(index, data->x, 0, 0, NULL, ids, NULL, &n), RV_ERR_INVALID);
	assert_int_equal(rv_hnsw_search(index, data->x, 1, -1, NULL, ids, NULL, &n), RV_ERR_INVALID);
	assert_int_equal(rv_hnsw_count(index), 1);
	assert_false(rv_hnsw_has(index, 99));
	assert_ok(rv_hnsw_add(index, 6, tiny)); /* a direction, however short */
	assert_ok(rv_hnsw_add(index, 7, huge));

	/* More asked than there are; either output may be left out. */
	assert_ok(rv_hnsw_search(index, data->x, 50, 0, NULL, ids, distances, &n));
	assert_int_equal(n, 3);
	assert_int_equal(ids[0], 5);
	assert_true(fabsf(distances[0]) < 1e-6f);
	assert_ok(rv_hnsw_search(index, data->x, 2, 0, NULL, NULL, NULL, &n));
	assert_int_equal(n, 2);

	/* A batch is all or nothing, and says which row. */
	float batch[3 * 40];
	memcpy(batch, data->x, sizeof batch);
	batch[2 * 40 + 4] = NAN;
	assert_int_equal(rv_hnsw_add_batch(index, (uint64_t[]){10, 11, 12}, batch, 3, NULL),
	                 RV_ERR_NUMERIC);
	assert_non_null(strstr(rv_error_message(), "row 2"));
	batch[2 * 40 + 4] = 0;
	assert_int_equal(rv_hnsw_add_batch(index, (uint64_t[]){10, 11, 10}, batch, 3, NULL),
	                 RV_ERR_INVALID);
	assert_int_equal(rv_hnsw_add_batch(index, (uint64_t[]){10, 11, 5}, batch, 3, NULL),
	                 RV_ERR_INVALID);
	assert_int_equal(rv_hnsw_add_batch(index, data->ids, data->x, 28, NULL), RV_ERR_LIMIT);
	assert_int_equal(rv_hnsw_add_batch(index, data->ids, data->x, -1, NULL), RV_ERR_INVALID);
	assert_int_equal(rv_hnsw_count(index), 3);
	assert_ok(rv_hnsw_verify(index));
	assert_ok(rv_hnsw_add_batch(index, data->ids, data->x, 27, NULL));
	assert_int_equal(rv_hnsw_add(index, 1234, data->x), RV_ERR_LIMIT);
	assert_ok(rv_hnsw_verify(index));
	rv_hnsw_destroy(index);

	/* Elsewhere zero is a vector like any other, and length is bounded by what distances hold. */
	index = index_of(data, RV_METRIC_L2, 4);
	assert_ok(rv_hnsw_add(index, 1, zero));
	assert_int_equal(rv_hnsw_add(index, 2, huge), RV_ERR_NUMERIC);
	assert_ok(rv_hnsw_add(index, 3, data->x));
	rv_hnsw_destroy(index);

	rv_hnsw_options bad = rv_hnsw_defaults();
	assert_int_equal(rv_hnsw_create(&none, &bad), RV_ERR_INVALID);
	bad.dim = 4;
	bad.capacity = 10;
	bad.m = 1;
	assert_int_equal(rv_hnsw_create(&none, &bad), RV_ERR_INVALID);
	bad.m = 16;
	bad.ef_construction = 15;
	assert_int_equal(rv_hnsw_create(&none, &bad), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "ef_construction"));
	rv_hnsw_destroy(NULL);
	set_free(data);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(finds_what_brute_force_finds),
	        cmocka_unit_test(recall_sees_damage),
	        cmocka_unit_test(threads_do_not_change_the_graph),
	        cmocka_unit_test(bounds_change_nothing),
	        cmocka_unit_test(bounds_hold),
	        cmocka_unit_test(codes_find_the_same),
	        cmocka_unit_test(a_filter_costs_time_not_recall),
	        cmocka_unit_test(errors_are_defined),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
