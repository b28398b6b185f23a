/* The graph: recall, order, ids, removal, filters, errors; and that the checks themselves see damage.
 */
#include "hnsw_test.h"

static void finds_what_brute_force_finds(void **state) {
	(void)state;
	for (int metric = 0; metric < RV_METRIC_COUNT; metric++) {
		set *data = set_make(3000, 40, 7);
		rv_hnsw *index = index_of(data, (rv_metric)metric, 3000);
		assert_ok(rv_hnsw_add_batch(index, data->ids, data->x, data->n, NULL));
		assert_ok(rv_hnsw_verify(index));
		const double found = recall(index, data, 10, 64, NULL);
		if (found < 0.97)
			fail_msg("%s: recall@10 %.4f", rv_metric_name((rv_metric)metric), found);
		assert_true(recall(index, data, 10, 10, NULL) < found);
		rv_hnsw_destroy(index);
		set_free(data);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(finds_what_brute_force_finds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
