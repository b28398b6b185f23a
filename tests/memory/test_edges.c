/* The graph: weights learned and kept, walks against a plain search of all paths, re-ranking. */
#include "base/mem.h"
#include "memory/edges.h"
#include "tests/memory/folder.h"

#include <math.h>
#include <pthread.h>
#include <sqlite3.h>

typedef struct kit {
	char dir[256];
	rv_store *store;
	rv_edges *edges;
} kit;

static void open_kit(kit *k) {
	rv_store_options o = rv_store_defaults();
	o.busy_timeout_ms = 20;
	assert_ok(rv_store_open(&k->store, k->dir, &o));
	assert_ok(rv_edges_open(&k->edges, k->store, NULL));
}

static void close_kit(kit *k) {
	assert_ok(rv_edges_close(k->edges));
	assert_ok(rv_store_close(k->store));
}

static void make_kit(kit *k) {
	folder_make(k->dir);
	open_kit(k);
}

static void drop_kit(kit *k) {
	close_kit(k);
	folder_remove(k->dir);
}

static void set(kit *k, const char *source, const char *target, rv_edge_kind kind, float weight) {
	const rv_edge edge = {source, target, kind, weight};
	assert_ok(rv_edges_set(k->edges, &edge));
}

/* -1: there is none. */
static float weight_of(kit *k, const char *source, const char *target, rv_edge_kind kind) {
	float weight = -1;
	rv_status st = rv_edges_weight(k->edges, source, target, kind, &weight);
	assert_true(st == RV_OK || st == RV_ERR_NOT_FOUND);
	return weight;
}

static void weights_are_kept(void **state) {
	(void)state;
	kit k;
	make_kit(&k);
	set(&k, "a", "b", RV_EDGE_SESSION, 0.25f);
	set(&k, "a", "b", RV_EDGE_SIMILAR, 0.5f);
	set(&k, "b", "a", RV_EDGE_PATTERN, 1);
	set(&k, "a", "b", RV_EDGE_SESSION, 0.75f);
	for (int again = 0; again < 2; again++) {
		assert_int_equal(rv_edges_count(k.edges), 3);
		assert_true(weight_of(&k, "a", "b", RV_EDGE_SESSION) == 0.75f);
		assert_true(weight_of(&k, "a", "b", RV_EDGE_SIMILAR) == 0.5f);
		assert_true(weight_of(&k, "b", "a", RV_EDGE_PATTERN) == 1);
		assert_true(weight_of(&k, "b", "a", RV_EDGE_SESSION) == -1);
		assert_true(weight_of(&k, "z", "a", RV_EDGE_SESSION) == -1);
		close_kit(&k);
		open_kit(&k);
	}
	const struct {
		rv_edge edge;
		const char *says;
	} bad[] = {{{NULL, "b", 0, 0.5f}, "source"},  {{"a", "", 0, 0.5f}, "target"},
	           {{"a", "a", 0, 0.5f}, "itself"},   {{"a", "b", RV_EDGE_COUNT, 0.5f}, "kind"},
	           {{"a", "b", 0, 1.01f}, "weight"},  {{"a", "b", 0, -0.1f}, "weight"},
	           {{"a", "b", 0, NAN}, "weight nan"}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_not_equal(rv_edges_set(k.edges, &bad[i].edge), RV_OK);
		assert_non_null(strstr(rv_error_message(), bad[i].says));
	}
	assert_int_equal(rv_edges_count(k.edges), 3);
	drop_kit(&k);
}

static void five_per_cent(void **state) {
	(void)state;
	kit k;
	make_kit(&k);
	assert_ok(rv_edges_reinforce(k.edges, "a", "b", RV_EDGE_PATTERN, 0));
	assert_int_equal(rv_edges_count(k.edges), 0); /* nothing to weaken */
	assert_ok(rv_edges_reinforce(k.edges, "a", "b", RV_EDGE_PATTERN, 1));
	assert_true(weight_of(&k, "a", "b", RV_EDGE_PATTERN) == 0.5f);
	float expected = 0.5f;
	for (int i = 0; i < 40; i++) {
		int good = i % 4 != 3;
		expected = fminf(expected * (good ? 1.05f : 0.95f), 1);
		assert_ok(rv_edges_reinforce(k.edges, "a", "b", RV_EDGE_PATTERN, good));
		assert_true(fabsf(weight_of(&k, "a", "b", RV_EDGE_PATTERN) - expected) < 1e-6f);
	}
	assert_true(expected > 0.9f && expected <= 1);
	close_kit(&k);
	open_kit(&k);
	assert_true(fabsf(weight_of(&k, "a", "b", RV_EDGE_PATTERN) - expected) < 1e-6f);
	drop_kit(&k);
}

static void light_edges_are_pruned(void **state) {
	(void)state;
	kit k;
	char id[16];
	int64_t n;
	make_kit(&k);
	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof id, "n%d", i);
		set(&k, "a", id, RV_EDGE_SIMILAR, (float)i / 100);
	}
	assert_ok(rv_edges_prune(k.edges, 0.5f, &n));
	assert_int_equal(n, 50);
	set(&k, "a", "n3", RV_EDGE_SIMILAR, 0.9f); /* its place is used again */
	for (int again = 0; again < 2; again++) {
		assert_int_equal(rv_edges_count(k.edges), 51);
		assert_true(weight_of(&k, "a", "n49", RV_EDGE_SIMILAR) == -1);
		assert_true(weight_of(&k, "a", "n50", RV_EDGE_SIMILAR) == 0.5f);
		assert_true(weight_of(&k, "a", "n3", RV_EDGE_SIMILAR) == 0.9f);
		close_kit(&k);
		open_kit(&k);
	}
	drop_kit(&k);
}

/* A store that does not take them: the graph goes on, and is written when it does. */
static void a_locked_store_is_waited_for(void **state) {
	(void)state;
	kit k;
	char path[300];
	sqlite3 *other;
	make_kit(&k);
	snprintf(path, sizeof path, "%s/memory.db", k.dir);
	assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	set(&k, "a", "b", RV_EDGE_SESSION, 0.25f);
	assert_int_equal(rv_edges_flush(k.edges), RV_ERR_LIMIT);
	set(&k, "b", "c", RV_EDGE_SESSION, 0.5f);
	assert_int_equal(rv_edges_count(k.edges), 2);
	assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	assert_ok(rv_edges_flush(k.edges));
	sqlite3_close(other);
	assert_ok(rv_edges_close(k.edges));
	rv_store_flush(k.store); /* tells of the post that failed */
	assert_ok(rv_edges_open(&k.edges, k.store, NULL));
	assert_int_equal(rv_edges_count(k.edges), 2);
	drop_kit(&k);
}

/* ---- walks ---- */

enum { N_NODES = 24, N_EDGES = 90 };

typedef struct plain {
	float weight[N_NODES][N_NODES][RV_EDGE_COUNT]; /* -1: none */
} plain;

static const char *name_of(int i) {
	static char names[N_NODES][8];
	snprintf(names[i], sizeof names[i], "n%02d", i);
	return names[i];
}

static void make_graph(kit *k, plain *p, uint64_t seed) {
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	for (size_t i = 0; i < sizeof p->weight / sizeof(float); i++)
		((float *)p->weight)[i] = -1;
	for (int i = 0; i < N_EDGES; i++) {
		int a = (int)rv_rng_below(&rng, N_NODES), b = (int)rv_rng_below(&rng, N_NODES);
		int kind = (int)rv_rng_below(&rng, RV_EDGE_COUNT);
		if (a == b)
			continue;
		p->weight[a][b][kind] = rv_rng_float(&rng);
		set(k, name_of(a), name_of(b), (rv_edge_kind)kind, p->weight[a][b][kind]);
	}
}

/* Every path of at most `hops` from `node`, one by one. */
static void all_paths(const plain *p, unsigned kinds, int node, int hops, float score, float *best) {
	best[node] = fmaxf(best[node], score);
	for (int b = 0; b < N_NODES && hops > 0; b++)
		for (int kind = 0; kind < RV_EDGE_COUNT; kind++)
			if ((kinds >> kind & 1) && p->weight[node][b][kind] > 0)
				all_paths(p, kinds, b, hops - 1, score * p->weight[node][b][kind],
				          best);
}

/* Number of nodes on which a walk and the plain search differ. */
static int differences(kit *k, const plain *p, const rv_walk *how, int start) {
	float best[N_NODES] = {0}, got[N_NODES] = {0};
	rv_walk_hit hits[N_NODES];
	size_t n;
	const char *starts[] = {name_of(start)};
	all_paths(p, how->kinds, start, how->hops, 1, best);
	assert_ok(rv_edges_walk(k->edges, how, starts, 1, hits, N_NODES, &n));
	got[start] = 1;
	for (size_t i = 0; i < n; i++) {
		got[atoi(hits[i].id + 1)] = hits[i].score;
		assert_true(hits[i].hops >= 1 && hits[i].hops <= how->hops);
		assert_true(i == 0 || hits[i].score <= hits[i - 1].score);
	}
	int different = 0;
	for (int i = 0; i < N_NODES; i++)
		different += fabsf(best[i] - got[i]) > 1e-6f;
	return different;
}

static void walks_find_the_best_paths(void **state) {
	(void)state;
	kit k;
	static plain p;
	make_kit(&k);
	make_graph(&k, &p, 5);
	rv_walk how = rv_walk_defaults();
	how.min_score = 0;
	for (how.hops = 1; how.hops <= 4; how.hops++)
		for (unsigned kinds = 1; kinds <= RV_EDGE_ANY; kinds += 3)
			for (int start = 0; start < N_NODES; start++) {
				how.kinds = kinds;
				assert_int_equal(differences(&k, &p, &how, start), 0);
			}
	/* control: a hop too few or weights that differ show */
	int short_walk = 0, other_weight = 0;
	how.kinds = RV_EDGE_ANY;
	for (int start = 0; start < N_NODES; start++) {
		rv_walk_hit hits[N_NODES];
		size_t n1, n2;
		const char *starts[] = {name_of(start)};
		how.hops = 1;
		assert_ok(rv_edges_walk(k.edges, &how, starts, 1, hits, N_NODES, &n1));
		how.hops = 2;
		assert_ok(rv_edges_walk(k.edges, &how, starts, 1, hits, N_NODES, &n2));
		short_walk += n2 > n1;
	}
	plain q = p;
	for (size_t i = 0; i < sizeof q.weight / sizeof(float); i++)
		((float *)q.weight)[i] *= 1.001f;
	for (int start = 0; start < N_NODES; start++)
		other_weight += differences(&k, &q, &how, start) != 0;
	assert_true(short_walk > 5 && other_weight > 15);
	/* limits */
	rv_walk_hit hits[N_NODES];
	size_t n;
	const char *starts[] = {name_of(0), "unknown"};
	how.max_nodes = 3;
	assert_ok(rv_edges_walk(k.edges, &how, starts, 2, hits, N_NODES, &n));
	assert_true(n <= 2);
	assert_ok(rv_edges_walk(k.edges, &how, starts + 1, 1, hits, N_NODES, &n));
	assert_int_equal(n, 0);
	how.hops = 0;
	assert_int_equal(rv_edges_walk(k.edges, &how, starts, 1, hits, N_NODES, &n), RV_ERR_INVALID);
	drop_kit(&k);
}

/* ---- re-ranking ---- */

/* Share of the pairs that stand the other way round. */
static double turned_pairs(const size_t *order, size_t n) {
	int64_t turned = 0;
	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n; j++)
			turned += order[i] > order[j];
	return (double)turned / ((double)n * ((double)n - 1) / 2);
}

/* Two results a and b with similarities that differ by d: an edge of weight w to b turns them round
 * exactly where share w > (1 - share) d. */
static void an_edge_turns_two_results(void **state) {
	(void)state;
	static const char *const ids[] = {"a", "b"}, *const starts[] = {"q"};
	const float similarity[] = {0.8f, 0.7f};
	rv_walk how = rv_walk_defaults();
	kit k;
	make_kit(&k);
	int n_turned = 0;
	for (int w = 1; w <= 20; w++)
		for (int s = 0; s <= 10; s++) {
			float weight = (float)w / 20, share = (float)s / 10, scores[2];
			size_t order[2];
			float margin = share * weight - (1 - share) * 0.1f;
			if (fabsf(margin) < 1e-5f)
				continue;
			set(&k, "q", "b", RV_EDGE_PATTERN, weight);
			assert_ok(rv_edges_rerank(k.edges, &how, starts, 1, share, ids, similarity, 2,
			                          order, scores));
			assert_int_equal(order[0], margin > 0);
			float b = (1 - share) * 0.7f + share * weight;
			assert_true(fabsf(scores[order[0] == 1 ? 0 : 1] - b) < 1e-6f);
			n_turned += order[0] == 1;
		}
	assert_true(n_turned > 100 && n_turned < 200);
	drop_kit(&k);
}

/* Ten results of which those that helped before (edges from where the request comes from) move up:
 * the more, the larger the share; never without edges, never at share 0. */
static void the_share_decides_how_much(void **state) {
	(void)state;
	enum { N = 10, N_QUERIES = 200 };
	static const float shares[] = {0, 0.1f, 0.3f, 0.6f, 1};
	enum { N_SHARES = sizeof shares / sizeof *shares };
	kit k;
	rv_rng rng;
	rv_walk how = rv_walk_defaults();
	make_kit(&k);
	rv_rng_seed(&rng, 9);
	char names[N][16];
	const char *ids[N];
	double turned[2][N_SHARES] = {{0}}, rank[N_SHARES] = {0};
	for (int i = 0; i < N; i++) {
		snprintf(names[i], sizeof names[i], "r%d", i);
		ids[i] = names[i];
	}
	for (int q = 0; q < N_QUERIES; q++) {
		char with[16], without[16];
		snprintf(with, sizeof with, "q%d", q);
		snprintf(without, sizeof without, "none%d", q);
		const char *starts[] = {with, without};
		float similarity[N];
		size_t order[N], helped = (size_t)rv_rng_below(&rng, N);
		for (int i = 0; i < N; i++)
			similarity[i] = 0.9f - 0.05f * (float)i + 0.02f * rv_rng_float(&rng);
		set(&k, with, ids[helped], RV_EDGE_PATTERN, 0.5f + 0.5f * rv_rng_float(&rng));
		for (int s = 0; s < N_SHARES; s++)
			for (int no_edges = 0; no_edges < 2; no_edges++) {
				assert_ok(rv_edges_rerank(k.edges, &how, &starts[no_edges], 1,
				                          shares[s], ids, similarity, N, order, NULL));
				turned[no_edges][s] += turned_pairs(order, N) / N_QUERIES;
				for (size_t i = 0; i < N && !no_edges; i++)
					rank[s] += order[i] == helped ? (double)(i + 1) / N_QUERIES : 0;
			}
	}
	for (int s = 0; s < N_SHARES; s++) {
		print_message(
		        "share %.1f: %.1f %% of the pairs turned, mean rank of what helped %.2f\n",
		        (double)shares[s], 100 * turned[0][s], rank[s]);
		assert_true(turned[1][s] == 0);
		assert_true(s == 0 ? turned[0][s] == 0 : turned[0][s] >= turned[0][s - 1]);
	}
	assert_true(turned[0][N_SHARES - 1] > 0.05 && rank[0] > 4 &&
	            fabs(rank[N_SHARES - 1] - 1) < 1e-9);
	drop_kit(&k);
}

/* ---- many at once ---- */

enum { N_THREADS = 6, N_ROUNDS = 300 };

static void *work(void *arg) {
	kit *k = arg;
	rv_walk how = rv_walk_defaults();
	rv_walk_hit hits[8];
	size_t n;
	intptr_t n_failed = 0;
	for (int i = 0; i < N_ROUNDS; i++) {
		char target[16];
		const char *starts[] = {"hub"};
		snprintf(target, sizeof target, "t%d", i % 50);
		n_failed += rv_edges_reinforce(k->edges, "hub", target, RV_EDGE_PATTERN, 1) != RV_OK;
		n_failed +=
		        rv_edges_reinforce(k->edges, "hub", "counted", RV_EDGE_SIMILAR, i % 2) != RV_OK;
		n_failed += rv_edges_walk(k->edges, &how, starts, 1, hits, 8, &n) != RV_OK;
		if (i % 100 == 99)
			n_failed += rv_edges_flush(k->edges) != RV_OK;
		if (i % 150 == 149)
			n_failed += rv_edges_prune(k->edges, 0.01f, NULL) != RV_OK;
	}
	return (void *)n_failed;
}

static void many_at_once(void **state) {
	(void)state;
	kit k;
	make_kit(&k);
	set(&k, "hub", "counted", RV_EDGE_SIMILAR, 0.9f);
	pthread_t threads[N_THREADS];
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, &k), 0);
	for (int i = 0; i < N_THREADS; i++) {
		void *n_failed;
		pthread_join(threads[i], &n_failed);
		assert_int_equal((intptr_t)n_failed, 0);
	}
	float before[51];
	char target[16];
	int64_t n = rv_edges_count(k.edges);
	for (int i = 0; i < 50; i++) {
		snprintf(target, sizeof target, "t%d", i);
		before[i] = weight_of(&k, "hub", target, RV_EDGE_PATTERN);
		assert_true(before[i] > 0.5f); /* 36 times by 5 % */
	}
	before[50] = weight_of(&k, "hub", "counted", RV_EDGE_SIMILAR);
	close_kit(&k);
	open_kit(&k);
	assert_int_equal(rv_edges_count(k.edges), n);
	for (int i = 0; i < 50; i++) {
		snprintf(target, sizeof target, "t%d", i);
		assert_true(weight_of(&k, "hub", target, RV_EDGE_PATTERN) == before[i]);
	}
	assert_true(weight_of(&k, "hub", "counted", RV_EDGE_SIMILAR) == before[50]);
	drop_kit(&k);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(weights_are_kept),
	        cmocka_unit_test(five_per_cent),
	        cmocka_unit_test(light_edges_are_pruned),
	        cmocka_unit_test(a_locked_store_is_waited_for),
	        cmocka_unit_test(walks_find_the_best_paths),
	        cmocka_unit_test(an_edge_turns_two_results),
	        cmocka_unit_test(the_share_decides_how_much),
	        cmocka_unit_test(many_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
