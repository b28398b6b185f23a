/* Pages moved closer together: memory that pages of another format could not have is given back, and
 * nothing that anybody holds changes. */
#include "base/rng.h"
#include "engine/kv_pages.h"
#include "tests/support/test.h"

#include <string.h>

/* A page of 64 tokens takes 256 KiB in F16: eight share a slab. */
enum { PAGE = 64, PER_SLAB = 8, N_SLABS = 8, N_HELD = 160 };
static const rv_hparams hp = {.n_layers = 8, .n_kv_heads = 2, .head_dim = 64};

static rv_kv_pages *open_pages(void) {
	rv_kv_pages *kv;
	const rv_kv_pages_options o = {.hp = &hp,
	                               .type = RV_KV_F16,
	                               .page_tokens = PAGE,
	                               .n_ctx = N_HELD * PAGE,
	                               .n_seqs = 1,
	                               .budget_bytes = N_SLABS * RV_POOL_PAGE_BYTES};
	assert_ok(rv_kv_pages_create(&kv, &o));
	assert_int_equal(rv_kv_pages_page_bytes(kv, RV_KV_F16) * PER_SLAB, RV_POOL_PAGE_BYTES);
	return kv;
}

/* A byte of each lane's first and last row. */
static void mark(const rv_kv_pages *kv, rv_kv_page page, uint8_t value) {
	for (int64_t i = 0; i < rv_kv_pages_n_lanes(kv); i++) {
		rv_kv_lane lane = rv_kv_page_lane(kv, page, i);
		lane.keys[0] = lane.values[PAGE * lane.stride - 1] = (char)(value + i);
	}
}

static int is_marked(const rv_kv_pages *kv, rv_kv_page page, uint8_t value) {
	for (int64_t i = 0; i < rv_kv_pages_n_lanes(kv); i++) {
		rv_kv_lane lane = rv_kv_page_lane(kv, page, i);
		if (lane.keys[0] != (char)(value + i) ||
		    lane.values[PAGE * lane.stride - 1] != (char)(value + i))
			return 0;
	}
	return 1;
}

static size_t allocated(const rv_kv_pages *kv) {
	rv_kv_pages_counts c;
	rv_kv_pages_count(kv, &c);
	return c.allocated_bytes / RV_POOL_PAGE_BYTES;
}

/* All slabs full, then one page of eight is left in each: half a slab's worth of pages. */
static void scatter(rv_kv_pages *kv, rv_kv_page kept[N_SLABS]) {
	rv_kv_page pages[N_SLABS * PER_SLAB];
	for (int i = 0; i < N_SLABS * PER_SLAB; i++)
		assert_ok(rv_kv_page_create(kv, RV_KV_F16, &pages[i]));
	for (int i = 0; i < N_SLABS * PER_SLAB; i++)
		if (i % PER_SLAB == i / PER_SLAB)
			mark(kv, kept[i / PER_SLAB] = pages[i], (uint8_t)i);
		else
			rv_kv_page_release(kv, pages[i]);
	assert_int_equal(allocated(kv), N_SLABS);
}

static void check_kept(const rv_kv_pages *kv, const rv_kv_page kept[N_SLABS]) {
	for (int i = 0; i < N_SLABS; i++)
		assert_true(is_marked(kv, kept[i], (uint8_t)(i * PER_SLAB + i)));
	assert_ok(rv_kv_pages_verify(kv, -1));
}

static void gives_back(void **state) {
	(void)state;
	rv_kv_pages *kv = open_pages();
	rv_kv_page kept[N_SLABS];
	rv_kv_pages_counts c;
	scatter(kv, kept);
	assert_int_equal(rv_kv_pages_compact(kv), N_SLABS - 1);
	assert_int_equal(allocated(kv), 1);
	check_kept(kv, kept);
	rv_kv_pages_count(kv, &c);
	assert_int_equal(c.n_moved, N_SLABS - 1);
	assert_int_equal(rv_kv_pages_compact(kv), 0); /* nothing is left to gain */
	/* the check sees a page that was not taken along */
	mark(kv, kept[3], 0);
	assert_false(is_marked(kv, kept[3], 3 * PER_SLAB + 3));
	for (int i = 0; i < N_SLABS; i++)
		rv_kv_page_release(kv, kept[i]);
	assert_int_equal(allocated(kv), 0);
	rv_kv_pages_destroy(kv);
}

/* Pages of another format need slabs of their own, and there is none left: they get those that become
 * free by moving. */
static void for_another_format(void **state) {
	(void)state;
	rv_kv_pages *kv = open_pages();
	rv_kv_page kept[N_SLABS], q8[2 * N_SLABS * PER_SLAB];
	int n = 0;
	scatter(kv, kept);
	while (n < 2 * N_SLABS * PER_SLAB && rv_kv_page_create(kv, RV_KV_Q8, &q8[n]) == RV_OK)
		mark(kv, q8[n], (uint8_t)n), n++;
	size_t per_slab = RV_POOL_PAGE_BYTES / rv_kv_pages_page_bytes(kv, RV_KV_Q8);
	assert_int_equal(n, (N_SLABS - 1) * (int)per_slab);
	check_kept(kv, kept);
	for (int i = 0; i < n; i++) {
		assert_true(is_marked(kv, q8[i], (uint8_t)i));
		rv_kv_page_release(kv, q8[i]);
	}
	for (int i = 0; i < N_SLABS; i++)
		rv_kv_page_release(kv, kept[i]);
	rv_kv_pages_destroy(kv);
}

/* Pages of three formats made, let go and moved at random under a budget that is too small for them. */
static void random_operations(void **state) {
	static const int formats[] = {RV_KV_F16, RV_KV_Q8, RV_KV_Q4};
	struct {
		rv_kv_page page;
		uint8_t value;
	} held[N_HELD];
	(void)state;
	rv_kv_pages *kv = open_pages();
	rv_kv_pages_counts c;
	rv_rng rng;
	int n = 0, n_refused = 0;
	rv_rng_seed(&rng, 5);
	for (int step = 0; step < 4000; step++) {
		int format = formats[rv_rng_below(&rng, 3)];
		if (rv_rng_below(&rng, 100) == 0)
			rv_kv_pages_compact(kv);
		int grows = step / 200 % 2 == 0; /* by turns */
		if (n < N_HELD && (int)rv_rng_below(&rng, 4) < 1 + 2 * grows) {
			if (rv_kv_page_create(kv, format, &held[n].page) != RV_OK) {
				n_refused++;
				continue;
			}
			mark(kv, held[n].page, held[n].value = (uint8_t)step);
			n++;
		} else if (n > 0) {
			int i = (int)rv_rng_below(&rng, (uint64_t)n);
			assert_true(is_marked(kv, held[i].page, held[i].value));
			rv_kv_page_release(kv, held[i].page);
			held[i] = held[--n];
		}
		if (step % 64 == 0)
			assert_ok(rv_kv_pages_verify(kv, n));
	}
	rv_kv_pages_count(kv, &c);
	print_message("# %lld blocks moved, %d refused\n", (long long)c.n_moved, n_refused);
	assert_true(c.n_moved > 0 && n_refused > 0);
	while (n-- > 0) {
		assert_true(is_marked(kv, held[n].page, held[n].value));
		rv_kv_page_release(kv, held[n].page);
	}
	assert_int_equal(allocated(kv), 0);
	rv_kv_pages_destroy(kv);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(gives_back),
	        cmocka_unit_test(for_another_format),
	        cmocka_unit_test(random_operations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
