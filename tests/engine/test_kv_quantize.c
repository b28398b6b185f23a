/* Pages made smaller under memory pressure: more sequences fit, all of them stay and can go on. */
#include "engine/kv_convert.h"
#include "tests/engine/pressure_kit.h"

static int page_type(const subject *s, int32_t seq, int64_t i) {
	const rv_kv_page *pages;
	assert_true(rv_kv_seq_pages(s->kv, seq, &pages) > i);
	return rv_kv_page_format(s->kv, pages[i]);
}

static void quantizes(void **state) {
	(void)state;
	subject s;
	int n = capacity(), admitted = 0;
	float before[N_VOCAB], after[N_VOCAB];
	open_subject(&s, RV_KV_REJECT);
	assert_ok(fill_idle(&s, 0));
	last_logits(&s, 0, before);
	close_subject(&s);
	open_subject(&s, RV_KV_QUANTIZE);
	rv_kv_pressure_stats stats;
	while (admitted < N_SEQS && fill_idle(&s, admitted) == RV_OK) {
		admitted++;
		rv_kv_pressure_get_stats(s.p, &stats);
	}
	print_message("# %d sequences in F16, %d when quantized under pressure (%lld conversions)\n", n,
	              admitted, (long long)stats.n_quantized);
	assert_true(admitted > n + n / 2);
	assert_int_equal(page_type(&s, 0, 0), RV_KV_Q4);
	/* All is there, only coarser. */
	for (int32_t i = 0; i < admitted; i++) {
		assert_int_equal(rv_kv_pressure_place(s.p, i), RV_KV_RESIDENT);
		assert_int_equal(rv_seq_length(s.ctx, i), LENGTH);
	}
	assert_ok(rv_kv_pressure_forget(s.p, admitted - 1));
	last_logits(&s, 0, after);
	double dot = 0, a = 0, b = 0;
	for (int i = 0; i < N_VOCAB; i++) {
		dot += (double)before[i] * (double)after[i];
		a += (double)before[i] * (double)before[i];
		b += (double)after[i] * (double)after[i];
	}
	print_message("# cosine of the logits after q4: %.4f\n", dot / sqrt(a * b));
	assert_true(dot / sqrt(a * b) > 0.9);
	assert_memory_not_equal(before, after, sizeof before); /* it did change */
	rv_kv_pressure_destroy(s.p);
	assert_ok(rv_kv_pages_verify(s.kv, 0));
	rv_context_destroy(s.ctx);
}

/* Cut into a page that was quantized, or forked there, and gone on with: its rows are those of a page
 * of the cache's type again, and other pages are untouched. */
static void quantized_goes_on(void **state) {
	(void)state;
	subject s;
	open_subject(&s, RV_KV_QUANTIZE);
	int32_t n = 0;
	rv_kv_pressure_stats stats = {0};
	while (stats.n_quantized == 0) {
		assert_ok(fill_idle(&s, n++));
		rv_kv_pressure_get_stats(s.p, &stats);
	}
	for (int32_t q = 1; q < n; q++)
		assert_ok(rv_kv_pressure_forget(s.p, q));
	assert_ok(rv_kv_pressure_use(s.p, 0));
	assert_ok(rv_kv_pressure_use(s.p, 1));
	assert_int_equal(page_type(&s, 0, 1), RV_KV_Q8);
	const rv_kv_page *pages;
	rv_kv_seq_pages(s.kv, 0, &pages);
	rv_kv_lane lane = rv_kv_page_lane(s.kv, pages[1], 3);
	char before[PAGE * 260], row[512];
	size_t bytes = PAGE * lane.stride;
	assert_int_equal(bytes, sizeof before);
	memcpy(before, lane.values, bytes);
	assert_ok(rv_seq_copy(s.ctx, 0, 1, PAGE + 10));
	assert_int_equal(rv_seq_pages_needed(s.ctx, 1, 1), 1);
	assert_ok(fill(&s, 1, 20, NULL));
	assert_int_equal(page_type(&s, 1, 0), RV_KV_Q8);
	assert_int_equal(page_type(&s, 1, 1), RV_KV_F16);
	assert_memory_equal(lane.values, before, bytes); /* sequence 0 has its own still */
	assert_ok(rv_seq_truncate(s.ctx, 0, PAGE + 10));
	assert_ok(fill(&s, 0, 20, NULL));
	assert_int_equal(page_type(&s, 0, 1), RV_KV_F16);
	const rv_kv_ops *ops = rv_kernels_for(RV_LEVEL_REF)->kv;
	rv_kv_seq_pages(s.kv, 0, &pages);
	lane = rv_kv_page_lane(s.kv, pages[1], 3);
	for (size_t i = 0; i < 10; i++) {
		float x[256];
		ops[RV_KV_Q8].load_values(x, before + i * 260, 260, 1, 256);
		ops[RV_KV_F16].store(row, x, 256);
		assert_memory_equal(lane.values + i * lane.stride, row, sizeof row);
	}
	assert_ok(rv_kv_pages_verify(s.kv, -1));
	close_subject(&s);
}

/* Every row is decoded and rounded as its type says, in all lanes. */
static void conversion(void **state) {
	(void)state;
	subject s;
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	float row[256], found[256];
	open_subject(&s, RV_KV_REJECT);
	assert_ok(fill_idle(&s, 0));
	assert_ok(rv_kv_pressure_use(s.p, 1));
	assert_ok(rv_seq_copy(s.ctx, 0, 1, 2 * PAGE)); /* who shares a page sees the same */
	const rv_kv_page *pages;
	rv_kv_page page, copy;
	rv_kv_seq_pages(s.kv, 0, &pages);
	page = pages[1];
	assert_ok(rv_kv_page_create(s.kv, RV_KV_F16, &copy));
	for (int64_t lane = 0; lane < rv_kv_pages_n_lanes(s.kv); lane++) {
		rv_kv_lane a = rv_kv_page_lane(s.kv, page, lane), b = rv_kv_page_lane(s.kv, copy, lane);
		memcpy(b.keys, a.keys, PAGE * a.stride);
		memcpy(b.values, a.values, PAGE * a.stride);
	}
	rv_kv_page fresh;
	assert_ok(rv_kv_page_create(s.kv, RV_KV_Q8, &fresh));
	rv_kv_page_convert(s.kv, 256, PAGE, page, fresh);
	rv_kv_page_release(s.kv, fresh);
	assert_int_equal(page_type(&s, 0, 1), RV_KV_Q8);
	assert_int_equal(page_type(&s, 1, 1), RV_KV_Q8);
	assert_int_equal(page_type(&s, 0, 0), RV_KV_F16);
	int64_t wrong = 0;
	for (int64_t lane = 0; lane < rv_kv_pages_n_lanes(s.kv); lane++) {
		rv_kv_lane a = rv_kv_page_lane(s.kv, copy, lane), b = rv_kv_page_lane(s.kv, page, lane);
		for (size_t i = 0; i < PAGE; i++)
			for (int values = 0; values < 2; values++) {
				char expected[512];
				k->kv[RV_KV_F16].load_values(
				        row, (values ? a.values : a.keys) + i * a.stride, a.stride, 1,
				        256);
				k->kv[RV_KV_Q8].store(expected, row, 256);
				const char *got = (values ? b.values : b.keys) + i * b.stride;
				assert_memory_equal(got, expected, rv_kv_row_bytes(RV_KV_Q8, 256));
				k->kv[RV_KV_Q8].load_values(found, got, b.stride, 1, 256);
				wrong += memcmp(found, row, sizeof row) != 0;
			}
	}
	assert_true(wrong > 0); /* negative control: rounding does change rows */
	rv_kv_page_release(s.kv, copy);
	close_subject(&s);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(quantizes),
	        cmocka_unit_test(quantized_goes_on),
	        cmocka_unit_test(conversion),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
