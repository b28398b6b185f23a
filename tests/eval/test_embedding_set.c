/* Measures of embeddings against values by hand, and against worse orders; the sets that ship. */
#include "eval/embedding_set.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define near(got, want) assert_true(fabs((got) - (want)) < 1e-6)

static void pairs(void **state) {
	(void)state;
	/* cosines 1, 0.8, 0.6, 0 */
	const float a[] = {1, 0, 1, 0, 1, 0, 1, 0}, b[] = {1, 0, 0.8f, 0.6f, 0.6f, 0.8f, 0, 1};
	const int right[] = {0, 1, 2, 3}, wrong[] = {3, 2, 1, 0}, mixed[] = {0, 0, 3, 3};
	rv_embedding_pairs p;
	assert_ok(rv_embedding_pairs_of(a, b, right, 4, 2, &p));
	near(p.ordered_pct, 100);
	near(p.spearman, 1);
	near(p.mean[1], (double)0.8f);
	assert_int_equal(p.n_bands, 4);
	assert_ok(rv_embedding_pairs_of(a, b, wrong, 4, 2, &p));
	near(p.ordered_pct, 0);
	near(p.spearman, -1);
	assert_ok(rv_embedding_pairs_of(a, b, mixed, 4, 2, &p));
	near(p.ordered_pct, 100);
	near(p.mean[0], (1 + (double)0.8f) / 2);
	assert_true(isnan(p.mean[1]));
	assert_int_equal(p.n_bands, 2);
}

static void searches(void **state) {
	(void)state;
	const int grade[] = {3, 1, 0};
	double r, n;
	rv_embedding_search_of((const double[]){0.9, 0.5, 0.1}, grade, 3, &r, &n);
	near(r, 1);
	near(n, 1);
	rv_embedding_search_of((const double[]){0.5, 0.9, 0.1}, grade, 3, &r, &n);
	near(r, 0.5);
	/* gains 7 and 1: (1 + 7 / log2 3) / (7 + 1 / log2 3) */
	near(n, (1 + 7 / log2(3)) / (7 + 1 / log2(3)));
	/* equal similarities rank as the worst order */
	rv_embedding_search_of((const double[]){0.5, 0.5, 0.5}, grade, 3, &r, &n);
	near(r, 1.0 / 3);
	rv_embedding_search_of((const double[]){0.5, 0.4}, (const int[]){0, 0}, 2, &r, &n);
	near(r, 0);
	near(n, 0);
}

static void clusters(void **state) {
	(void)state;
	const float x[] = {1, 0, 0.98f, 0.199f, 0.995f, 0.0999f, 0, 1, 0.0999f, 0.995f, 0.199f, 0.98f};
	const int right[] = {0, 0, 0, 1, 1, 1}, wrong[] = {0, 1, 0, 1, 0, 1};
	rv_embedding_clusters c;
	assert_ok(rv_embedding_clusters_of(x, right, 6, 2, 2, 0, &c));
	near(c.purity, 1);
	assert_true(c.silhouette > 0.9);
	assert_ok(rv_embedding_clusters_of(x, wrong, 6, 2, 2, 0, &c));
	assert_true(c.purity < 0.7 && c.silhouette < 0.1);
	assert_int_equal(rv_embedding_clusters_of(x, right, 6, 2, 7, 0, &c), RV_ERR_INVALID);
}

static const char *data_dir(void) {
	return access("datasets/embedding/pairs.jsonl", R_OK) == 0 ? "datasets/embedding"
	                                                           : "../datasets/embedding";
}

static void the_sets_that_ship(void **state) {
	(void)state;
	rv_embedding_set *set;
	rv_model *model;
	rv_embedder *e;
	char path[512];
	assert_ok(rv_embedding_set_open(&set, data_dir()));
	snprintf(path, sizeof path, "%s/../models/pico.gguf", data_dir());
	assert_ok(rv_model_open(&model, path, NULL));
	assert_ok(rv_embedder_create(&e, model, NULL));
	rv_embedding_pairs p;
	rv_embedding_search s;
	rv_embedding_clusters c;
	assert_ok(rv_embedding_pairs_run(set, e, &p));
	assert_ok(rv_embedding_search_run(set, e, &s));
	assert_ok(rv_embedding_clusters_run(set, e, 0, &c));
	assert_true(p.n >= 36 && p.n_bands == 4 && s.n >= 5 && c.n_clusters >= 5);
	assert_true(s.mrr > 0.1 && s.mrr <= 1 && s.ndcg > 0.3 && s.ndcg <= 1);
	assert_true(c.purity >= 1.0 / 6 && c.purity <= 1);
	rv_embedder_destroy(e);
	rv_model_release(model);
	rv_embedding_set_close(set);
}

static void write_text(const char *dir, const char *name, const char *text) {
	char path[600];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void faults_name_file_and_line(void **state) {
	(void)state;
	char dir[] = "/tmp/rv-embedding-XXXXXX", path[600];
	static const char good[] = "{\"a\": \"x\", \"b\": \"y\", \"grade\": \"high\"}\n";
	static const char *const bad[][3] = {
	        {"{\"a\": \"x\", \"b\": \"y\", \"grade\": \"huge\"}\n", "huge", ""},
	        {"{\"a\": \"x\", \"grade\": \"high\"}\n", "'b'", ""},
	        {good, "documents", "{\"query\": \"q\"}\n"},
	        {good, "grade",
	         "{\"query\": \"q\", \"documents\": [{\"grade\": 9, \"text\": \"t\"}]}\n"},
	};
	rv_embedding_set *set;
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		write_text(dir, "pairs.jsonl", bad[i][0]);
		write_text(dir, "searches.jsonl", bad[i][2]);
		write_text(dir, "clusters.jsonl", "{\"cluster\": \"c\", \"text\": \"t\"}\n");
		assert_int_not_equal(rv_embedding_set_open(&set, dir), RV_OK);
		assert_non_null(strstr(rv_error_message(), bad[i][1]));
		assert_non_null(strstr(rv_error_message(), "line 1"));
	}
	static const char *const names[] = {"pairs", "searches", "clusters"};
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/%s.jsonl", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
	assert_int_not_equal(rv_embedding_set_open(&set, dir), RV_OK);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(pairs),
	        cmocka_unit_test(searches),
	        cmocka_unit_test(clusters),
	        cmocka_unit_test(the_sets_that_ship),
	        cmocka_unit_test(faults_name_file_and_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
