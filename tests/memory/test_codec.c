/* Vector codes: errors against what theory says, distances against decoded vectors, recall on clustered
 * data; codes that were tampered with must be noticed. */
#include "memory/rerank.h"
#include "tests/memory/codec_test.h"

#include <stdlib.h>

enum { ROWS = 4000, QUERIES = 60, TOP = 10 };

static const rv_metric metrics[] = {RV_METRIC_COSINE, RV_METRIC_L2, RV_METRIC_INNER};

/* In double, of vectors as they are given. */
static double exact(rv_metric metric, const float *x, const float *y) {
	double xy = 0, xx = 0, yy = 0, l2 = 0;
	for (int d = 0; d < DIM; d++) {
		xy += (double)x[d] * (double)y[d];
		xx += (double)x[d] * (double)x[d];
		yy += (double)y[d] * (double)y[d];
		l2 += pow((double)x[d] - (double)y[d], 2);
	}
	return metric == RV_METRIC_L2 ? l2 : metric == RV_METRIC_INNER ? -xy : 1 - xy / sqrt(xx * yy);
}

/* ---- errors of reconstruction ---- */

/* Share of the squared length that decoding loses, of Gaussian vectors the codec has not seen. */
static double loss(rv_code_kind kind, int tamper) {
	float *x = gaussian(16384 * DIM, 5), *y = gaussian(200 * DIM, 6), back[DIM];
	rv_codec *c = trained(kind, RV_METRIC_L2, x, 16384);
	uint8_t *codes = encoded(c, y, 200);
	double lost = 0, all = 0;
	for (int64_t i = 0; i < 200; i++) {
		uint8_t *code = codes + (size_t)i * rv_codec_code_bytes(c);
		code[0] ^= (uint8_t)(tamper ? 0xff : 0);
		rv_codec_decode(c, code, back);
		for (int d = 0; d < DIM; d++) {
			lost += pow((double)(back[d] - y[i * DIM + d]), 2);
			all += pow((double)y[i * DIM + d], 2);
		}
	}
	rv_free(x);
	rv_free(y);
	rv_free(codes);
	rv_codec_destroy(c);
	return lost / all;
}

/* Of a Gaussian component: step^2 / 12 with the step of 8 bits, whose largest integer is that of the
 * largest of 96 components, about 2.5; 0.0115 of the best uniform 4 bits (Max 1960), to which the scale
 * of each vector adapts; 1 - 2 / pi of one bit. One bit a component in 8 dimensions: above Shannon's
 * bound 1/4, below one bit alone. */
static void losses_are_what_theory_says(void **state) {
	const double sq8 = pow(2.5 / 127, 2) / 12;
	(void)state;
	double got = loss(RV_CODE_SQ8, 0);
	assert_true(got > 0.7 * sq8 && got < 1.4 * sq8);
	got = loss(RV_CODE_INT4, 0);
	assert_true(got > 0.006 && got < 0.0125);
	got = loss(RV_CODE_BINARY, 0);
	assert_true(fabs(got - (1 - M_2_PI)) < 0.02);
	got = loss(RV_CODE_PQ, 0);
	assert_true(got > 0.25 && got < 0.34);
}

/* Halves, bytes of bits and rotations that do not come out even. */
static void lengths_may_be_odd(void **state) {
	static const int lengths[] = {1, 2, 3, 5, 7, 8, 9, 31, 63, 65, 127, 129, 300, 769};
	(void)state;
	for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
		const int dim = lengths[l];
		float *x = gaussian(300 * dim, 19), *back = zeros(dim);
		for (int kind = 0; kind < RV_CODE_PQ; kind++) {
			rv_codec *c = codec_of((rv_code_kind)kind, RV_METRIC_L2, dim);
			double lost = 0, all = 0;
			assert_ok(rv_codec_train(c, x, 300, NULL));
			uint8_t *codes = encoded(c, x, 300);
			for (int64_t i = 0; i < 300; i++) {
				rv_codec_decode(c, codes + (size_t)i * rv_codec_code_bytes(c), back);
				for (int d = 0; d < dim; d++) {
					lost += pow((double)(back[d] - x[i * dim + d]), 2);
					all += pow((double)x[i * dim + d], 2);
				}
			}
			/* of a sign in few dimensions: its length is right on the average alone */
			assert_true(lost / all < (kind == RV_CODE_BINARY ? 0.45 : 0.02));
			rv_free(codes);
			rv_codec_destroy(c);
		}
		rv_free(x);
		rv_free(back);
	}
}

static void tampered_codes_lose_more(void **state) {
	(void)state;
	for (int kind = 0; kind < RV_CODE_COUNT; kind++)
		assert_true(loss((rv_code_kind)kind, 1) > loss((rv_code_kind)kind, 0) * 1.01);
}

/* ---- distances ---- */

/* Root of the mean squared difference between the codec's distances and those of decoded vectors, in
 * units of the distances' own spread. */
static double distance_error(rv_code_kind kind, rv_metric metric) {
	float *x = clustered(1000, 7), *queries = clustered(10, 8), back[DIM];
	rv_codec *c = trained(kind, metric, x, 1000);
	uint8_t *codes = encoded(c, x, 1000);
	const size_t bytes = rv_codec_code_bytes(c);
	double error = 0, sum = 0, squares = 0;
	for (int q = 0; q < 10; q++) {
		void *query = query_of(c, queries + q * DIM);
		for (size_t i = 0; i < 1000; i++) {
			rv_codec_decode(c, codes + i * bytes, back);
			const double want = exact(metric, queries + q * DIM, back);
			const double got = (double)rv_codec_distance(c, query, codes + i * bytes);
			error += (got - want) * (got - want);
			sum += want;
			squares += want * want;
		}
		rv_free(query);
	}
	rv_free(x);
	rv_free(queries);
	rv_free(codes);
	rv_codec_destroy(c);
	const double n = 10 * 1000;
	return sqrt(error / n) / sqrt(squares / n - sum / n * (sum / n));
}

/* One bit is left out: its distances estimate those of the original, not of the decoded signs. */
static void distances_are_those_of_decoded_vectors(void **state) {
	(void)state;
	for (size_t m = 0; m < 3; m++) {
		assert_true(distance_error(RV_CODE_SQ8, metrics[m]) < 0.01);
		assert_true(distance_error(RV_CODE_INT4, metrics[m]) < 0.05);
	}
	assert_true(distance_error(RV_CODE_PQ, RV_METRIC_L2) < 1e-5);
	assert_true(distance_error(RV_CODE_PQ, RV_METRIC_INNER) < 1e-5);
	assert_true(distance_error(RV_CODE_PQ, RV_METRIC_COSINE) < 0.2); /* decoded ones are shorter */
}

static void many_distances_have_the_bits_of_one(void **state) {
	float *x = clustered(600, 9), out[300];
	const uint8_t *at[300];
	(void)state;
	for (int i = 0; i < RV_CODE_COUNT * 3; i++) {
		rv_codec *c = trained((rv_code_kind)(i / 3), metrics[i % 3], x, 600);
		uint8_t *codes = encoded(c, x, 300);
		void *query = query_of(c, x + 500 * DIM);
		for (size_t j = 0; j < 300; j++)
			at[j] = codes + j * 7 % 300 * rv_codec_code_bytes(c);
		rv_codec_distances(c, query, at, 300, out);
		for (int j = 0; j < 300; j++)
			assert_true(out[j] == rv_codec_distance(c, query, at[j]));
		rv_free(codes);
		rv_free(query);
		rv_codec_destroy(c);
	}
	rv_free(x);
}

static void codes_have_distances_to_each_other(void **state) {
	float *x = clustered(600, 10);
	(void)state;
	for (int i = 0; i < RV_CODE_COUNT * 3; i++) {
		rv_codec *c = trained((rv_code_kind)(i / 3), metrics[i % 3], x, 600);
		uint8_t *codes = encoded(c, x, 600);
		const size_t bytes = rv_codec_code_bytes(c);
		void *query = query_of(c, x);
		for (size_t a = 0; a < 40; a++) {
			assert_ok(rv_codec_prepare_code(c, codes + a * bytes, query));
			for (size_t b = 0; b < 600; b += 13) {
				const float d =
				        rv_codec_code_distance(c, codes + a * bytes, codes + b * bytes);
				const float e = rv_codec_distance(c, query, codes + b * bytes);
				assert_true(d == rv_codec_code_distance(c, codes + b * bytes,
				                                        codes + a * bytes));
				assert_true(fabsf(d - e) < 1e-3f * (1 + fabsf(d)));
			}
		}
		rv_free(codes);
		rv_free(query);
		rv_codec_destroy(c);
	}
	rv_free(x);
}

/* ---- recall ---- */

typedef struct pair {
	float distance;
	int64_t row;
} pair;

static int nearer(const void *a, const void *b) {
	const pair *x = a, *y = b;
	return (x->distance > y->distance) - (x->distance < y->distance);
}

/* Rows in the order of their distances to the query. */
static void rank(pair *order, int64_t n) {
	qsort(order, (size_t)n, sizeof *order, nearer);
}

static int common(const int64_t *found, const pair *truth) {
	int n = 0;
	for (int i = 0; i < TOP; i++) {
		for (int j = 0; j < TOP; j++)
			n += found[i] == truth[j].row;
	}
	return n;
}

typedef struct recalls {
	double raw, reranked; /* recall at 10; re-ranked: of the best 40 */
} recalls;

static recalls recall_of(rv_code_kind kind, rv_metric metric, int tamper) {
	static pair order[ROWS], truth[ROWS];
	float *x = clustered(ROWS, 11), *queries = clustered(QUERIES, 12);
	rv_codec *c = trained(kind, metric, x, ROWS);
	uint8_t *codes = encoded(c, x, ROWS);
	const size_t bytes = rv_codec_code_bytes(c);
	const rv_originals originals = {x, ROWS, DIM};
	recalls r = {0, 0};
	for (size_t i = 0; tamper && i < ROWS; i++)
		codes[i * bytes + i % 8] ^= 0x80;
	for (int q = 0; q < QUERIES; q++) {
		const float *query = queries + q * DIM;
		void *prepared = query_of(c, query);
		int64_t best[40], kept;
		float distances[40];
		for (int64_t i = 0; i < ROWS; i++) {
			order[i] = (pair){rv_codec_distance(c, prepared, codes + (size_t)i * bytes), i};
			truth[i] = (pair){(float)exact(metric, query, x + i * DIM), i};
		}
		rank(order, ROWS);
		rank(truth, ROWS);
		for (int i = 0; i < 40; i++)
			best[i] = order[i].row;
		r.raw += common(best, truth);
		assert_ok(rv_rerank(rv_codec_get_options(c)->kernels, metric, &originals, query, best,
		                    distances, 40, TOP, &kept));
		assert_int_equal(kept, TOP);
		for (int i = 0; i < TOP; i++)
			assert_true(
			        fabs((double)distances[i] - exact(metric, query, x + best[i] * DIM)) <
			        1e-4 * (1 + fabs((double)distances[i])));
		r.reranked += common(best, truth);
		rv_free(prepared);
	}
	rv_free(x);
	rv_free(queries);
	rv_free(codes);
	rv_codec_destroy(c);
	r.raw /= QUERIES * TOP;
	r.reranked /= QUERIES * TOP;
	return r;
}

static void recall_has_floors(void **state) {
	static const recalls floors[RV_CODE_COUNT] = {[RV_CODE_SQ8] = {0.97, 0.999},
	                                              [RV_CODE_INT4] = {0.85, 0.99},
	                                              [RV_CODE_BINARY] = {0.45, 0.9},
	                                              [RV_CODE_PQ] = {0.5, 0.92}};
	(void)state;
	for (int i = 0; i < RV_CODE_COUNT * 3; i++) {
		const recalls r = recall_of((rv_code_kind)(i / 3), metrics[i % 3], 0);
		print_message("%s %s: recall@10 %.3f, after re-ranking 40 %.3f\n",
		              rv_code_name((rv_code_kind)(i / 3)), rv_metric_name(metrics[i % 3]),
		              r.raw, r.reranked);
		assert_true(r.raw >= floors[i / 3].raw);
		assert_true(r.reranked >= floors[i / 3].reranked);
	}
}

static void tampered_codes_cost_recall(void **state) {
	(void)state;
	for (int i = 0; i < RV_CODE_COUNT; i++) {
		const recalls good = recall_of((rv_code_kind)i, RV_METRIC_L2, 0),
		              bad = recall_of((rv_code_kind)i, RV_METRIC_L2, 1);
		assert_true(bad.raw < good.raw);
	}
}

/* ---- training ---- */

/* Vectors that are all the same leave nothing to code, and pq without centroids to tell apart. */
static void equal_vectors_have_distance_zero(void **state) {
	float *x = zeros(300 * DIM);
	(void)state;
	for (int i = 0; i < 300 * DIM; i++)
		x[i] = (float)(1 + i % DIM);
	for (int kind = 0; kind < RV_CODE_COUNT; kind++) {
		rv_codec *c = trained((rv_code_kind)kind, RV_METRIC_L2, x, 300);
		uint8_t *codes = encoded(c, x, 1);
		void *query = query_of(c, x);
		assert_true(fabsf(rv_codec_distance(c, query, codes)) < 1e-2f);
		assert_true(fabsf(rv_codec_code_distance(c, codes, codes)) < 1e-2f);
		rv_free(codes);
		rv_free(query);
		rv_codec_destroy(c);
	}
	rv_free(x);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(losses_are_what_theory_says),
	        cmocka_unit_test(lengths_may_be_odd),
	        cmocka_unit_test(tampered_codes_lose_more),
	        cmocka_unit_test(distances_are_those_of_decoded_vectors),
	        cmocka_unit_test(many_distances_have_the_bits_of_one),
	        cmocka_unit_test(codes_have_distances_to_each_other),
	        cmocka_unit_test(recall_has_floors),
	        cmocka_unit_test(tampered_codes_cost_recall),
	        cmocka_unit_test(equal_vectors_have_distance_zero),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
