/* Pages of the KV cache by themselves: thousands of random operations on sequences against a simple
 * model in which every row says who wrote it, budgets that run out, memory of many page sizes. */
#include "base/rng.h"
#include "engine/kv_pages.h"
#include "tests/support/test.h"

#include <string.h>

enum { N_SEQS = 6, N_CTX = 96, N_OUTSIDE = 5 };

static const rv_hparams hp = {.n_layers = 3, .n_kv_heads = 2, .head_dim = 16};

static rv_kv_pages *open_pages(int64_t page_tokens, size_t budget) {
	rv_kv_pages *kv;
	rv_kv_pages_options o = {.hp = &hp,
	                         .type = RV_KV_F32,
	                         .page_tokens = page_tokens,
	                         .n_ctx = N_CTX,
	                         .n_seqs = N_SEQS,
	                         .budget_bytes = budget};
	if (!budget)
		assert_ok(rv_kv_pages_bytes(&o, &o.budget_bytes));
	assert_ok(rv_kv_pages_create(&kv, &o));
	return kv;
}

/* What a row of a sequence should hold, and page references held outside sequences. */
typedef struct model {
	uint32_t mark[N_SEQS][N_CTX];
	int64_t length[N_SEQS];
	rv_kv_page outside[N_OUTSIDE];
	int64_t n_outside;
	uint32_t next_mark;
} model;

static void write_row(const rv_kv_view *view, int32_t seq, int64_t position, uint32_t mark) {
	for (int64_t layer = 0; layer < hp.n_layers; layer++)
		for (int64_t head = 0; head < hp.n_kv_heads; head++) {
			void *key, *value;
			view->slot(view->cache, seq, layer, head, position, &key, &value);
			uint32_t m = mark + (uint32_t)(layer * hp.n_kv_heads + head);
			for (int64_t d = 0; d < hp.head_dim; d++) {
				memcpy((char *)key + 4 * d, &m, 4);
				m ^= 0x80000000u;
				memcpy((char *)value + 4 * d, &m, 4);
				m ^= 0x80000000u;
			}
		}
}

/* 1 when all rows of a sequence are those of the model, read as attention does. */
static int rows_match(const rv_kv_view *view, const model *m, int32_t seq) {
	rv_segment segments[N_CTX];
	const rv_row row = {.seq = seq, .parent = -1};
	for (int64_t layer = 0; layer < hp.n_layers; layer++)
		for (int64_t head = 0; head < hp.n_kv_heads; head++) {
			int64_t n = view->segments(view->cache, &row, layer, head, m->length[seq],
			                           segments, view->max_segments);
			int64_t at = 0;
			for (int64_t s = 0; s < n; s++)
				for (int64_t t = 0; t < segments[s].n_tokens; t++, at++) {
					uint32_t key, value,
					        want = m->mark[seq][at] +
					               (uint32_t)(layer * hp.n_kv_heads + head);
					size_t row_at = (size_t)t * segments[s].stride + 4 * 15;
					memcpy(&key, (const char *)segments[s].keys + row_at, 4);
					memcpy(&value, (const char *)segments[s].values + row_at, 4);
					if (key != want || value != (want ^ 0x80000000u))
						return 0;
				}
			if (at != m->length[seq])
				return 0;
		}
	return 1;
}

static int all_match(const rv_kv_view *view, const model *m) {
	for (int32_t s = 0; s < N_SEQS; s++)
		if (!rows_match(view, m, s))
			return 0;
	return 1;
}

static void append(rv_kv_pages *kv, const rv_kv_view *view, model *m, int32_t seq, int64_t n) {
	int64_t from = m->length[seq], to = from + n > N_CTX ? N_CTX : from + n;
	rv_kv_pages_counts before, after;
	int64_t needs = rv_kv_seq_needs(kv, seq, from, to);
	rv_kv_pages_count(kv, &before);
	assert_ok(rv_kv_seq_reserve(kv, seq, from, to));
	rv_kv_pages_count(kv, &after);
	assert_int_equal(after.n_pages - before.n_pages, needs);
	assert_int_equal(before.n_free - after.n_free, needs);
	for (int64_t p = from; p < to; p++) {
		m->mark[seq][p] = m->next_mark += 16;
		write_row(view, seq, p, m->mark[seq][p]);
	}
	m->length[seq] = to;
}

static void fork_to(rv_kv_pages *kv, model *m, int32_t from, int32_t to, int64_t n) {
	rv_kv_seq_fork(kv, from, to, n);
	memcpy(m->mark[to], m->mark[from], sizeof m->mark[to]);
	m->length[to] = n;
}

/* Holds a page of a sequence, or lets one go. */
static void hold_or_drop(rv_kv_pages *kv, model *m, int32_t seq, rv_rng *rng) {
	const rv_kv_page *pages;
	int64_t n = rv_kv_seq_pages(kv, seq, &pages);
	if (n && m->n_outside < N_OUTSIDE) {
		rv_kv_page page = pages[rv_rng_below(rng, (uint64_t)n)];
		rv_kv_page_retain(kv, page);
		m->outside[m->n_outside++] = page;
	} else if (m->n_outside) {
		rv_kv_page_release(kv, m->outside[--m->n_outside]);
	}
}

static void random_operations(void **state) {
	static const int64_t sizes[] = {8, 16, 32, 64};
	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		rv_kv_pages *kv = open_pages(sizes[i], 0);
		rv_kv_view view = rv_kv_pages_view(kv);
		static model m;
		rv_rng rng;
		m = (model){0};
		rv_rng_seed(&rng, 11 + i);
		for (int step = 0; step < 4000; step++) {
			int32_t a = (int32_t)rv_rng_below(&rng, N_SEQS),
			        b = (int32_t)rv_rng_below(&rng, N_SEQS);
			int64_t n = (int64_t)rv_rng_below(&rng, (uint64_t)m.length[a] + 1);
			switch (rv_rng_below(&rng, 8)) {
			case 0:
				rv_kv_seq_truncate(kv, a, n);
				m.length[a] = n;
				break;
			case 1:
			case 2:
				fork_to(kv, &m, a, b, a == b || step % 3 ? m.length[a] : n);
				break;
			case 3:
				hold_or_drop(kv, &m, a, &rng);
				break;
			default:
				append(kv, &view, &m, a, 1 + (int64_t)rv_rng_below(&rng, 20));
			}
			assert_ok(rv_kv_pages_verify(kv, m.n_outside));
			assert_true(all_match(&view, &m));
		}
		while (m.n_outside)
			rv_kv_page_release(kv, m.outside[--m.n_outside]);
		for (int32_t s = 0; s < N_SEQS; s++)
			rv_kv_seq_truncate(kv, s, 0);
		rv_kv_pages_counts c;
		rv_kv_pages_count(kv, &c);
		assert_int_equal(c.n_pages, 0);
		assert_int_equal(c.allocated_bytes, 0);
		assert_true(c.n_copies > 100);
		rv_kv_pages_destroy(kv);
	}
}

/* What the checks above must catch: a row written into a page that another sequence reads, a reference
 * too many and one too few. */
static void controls(void **state) {
	(void)state;
	rv_kv_pages *kv = open_pages(16, 0);
	rv_kv_view view = rv_kv_pages_view(kv);
	static model m;
	const rv_kv_page *pages;
	m = (model){0};
	append(kv, &view, &m, 0, 20);
	fork_to(kv, &m, 0, 1, 20);
	assert_true(all_match(&view, &m));
	write_row(&view, 1, 18, 7); /* without reserving: no copy on write */
	assert_false(all_match(&view, &m));
	write_row(&view, 1, 18, m.mark[0][18]);
	assert_true(all_match(&view, &m));
	rv_kv_seq_pages(kv, 0, &pages);
	rv_kv_page_retain(kv, pages[0]);
	assert_int_equal(rv_kv_pages_verify(kv, 0), RV_ERR_INVALID);
	assert_ok(rv_kv_pages_verify(kv, 1));
	rv_kv_page_release(kv, pages[0]);
	rv_kv_page_release(kv, pages[0]); /* one too few */
	assert_int_equal(rv_kv_pages_verify(kv, 0), RV_ERR_INVALID);
	rv_kv_page_retain(kv, pages[0]);
	assert_ok(rv_kv_pages_verify(kv, 0));
	rv_kv_pages_destroy(kv);
}

typedef struct keeper {
	rv_kv_pages *kv;
	rv_kv_page pages[64];
	int n, asked;
} keeper;

static rv_status let_one_go(void *user) {
	keeper *k = user;
	k->asked++;
	if (!k->n)
		return rv_fail(RV_ERR_LIMIT, "nothing left");
	rv_kv_page_release(k->kv, k->pages[--k->n]);
	return RV_OK;
}

/* A budget of one pool page: reserve until it is gone, then what hooks give back. */
static void budget_runs_out(void **state) {
	(void)state;
	rv_kv_pages_options o = {.hp = &(rv_hparams){.n_layers = 8, .n_kv_heads = 8, .head_dim = 128},
	                         .type = RV_KV_F32,
	                         .page_tokens = 8,
	                         .n_ctx = 256,
	                         .n_seqs = 2,
	                         .budget_bytes = RV_POOL_PAGE_BYTES};
	rv_kv_pages *kv;
	rv_kv_pages_counts c;
	assert_ok(rv_kv_pages_create(&kv, &o));
	rv_kv_pages_count(kv, &c);
	assert_int_equal(c.n_free, 4); /* 8 x 8 lanes of 8 tokens x 128 x 4 bytes x 2: 512 KiB a page */
	assert_int_equal(rv_kv_seq_reserve(kv, 0, 0, 33), RV_ERR_LIMIT);
	assert_non_null(strstr(rv_error_message(), "KV pages"));
	rv_kv_seq_truncate(kv, 0, 0);
	assert_ok(rv_kv_seq_reserve(kv, 0, 0, 32));
	assert_int_equal(rv_kv_seq_reserve(kv, 1, 0, 1), RV_ERR_LIMIT);

	keeper k = {.kv = kv};
	const rv_kv_page *pages;
	k.n = (int)rv_kv_seq_pages(kv, 0, &pages);
	memcpy(k.pages, pages, (size_t)k.n * sizeof *pages);
	for (int i = 0; i < k.n; i++)
		rv_kv_page_retain(kv, k.pages[i]);
	rv_kv_seq_truncate(kv, 0, 0);
	assert_ok(rv_kv_pages_add_reclaim(kv, let_one_go, &k));
	assert_ok(rv_kv_seq_reserve(kv, 1, 0, 17)); /* three pages, let go one by one */
	assert_int_equal(k.n, 1);
	assert_ok(rv_kv_pages_verify(kv, 1));
	assert_int_equal(rv_kv_seq_reserve(kv, 0, 0, 16), RV_ERR_LIMIT);
	assert_int_equal(k.n, 0);
	rv_kv_pages_remove_reclaim(kv, let_one_go, &k);
	int asked = k.asked;
	assert_int_equal(rv_kv_seq_reserve(kv, 0, 0, 16), RV_ERR_LIMIT);
	assert_int_equal(k.asked, asked);
	rv_kv_pages_destroy(kv);
}

/* Pages larger than a pool page, of every type: lanes do not overlap and lie within their memory. */
static void lanes(void **state) {
	static const struct {
		int64_t layers, heads, dim, tokens;
	} shapes[] = {
	        {32, 2, 128, 64}, {32, 8, 128, 64}, {24, 2, 64, 256}, {1, 1, 32, 8}, {5, 3, 96, 128}};
	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		for (int type = 0; type < RV_KV_COUNT; type++) {
			rv_hparams shape = {.n_layers = shapes[i].layers,
			                    .n_kv_heads = shapes[i].heads,
			                    .head_dim = shapes[i].dim};
			rv_kv_pages_options o = {.hp = &shape,
			                         .type = (rv_kv_type)type,
			                         .page_tokens = shapes[i].tokens,
			                         .n_ctx = 2 * shapes[i].tokens,
			                         .n_seqs = 1};
			rv_kv_pages *kv;
			assert_ok(rv_kv_pages_bytes(&o, &o.budget_bytes));
			assert_ok(rv_kv_pages_create(&kv, &o));
			assert_ok(rv_kv_seq_reserve(kv, 0, 0, o.n_ctx));
			const rv_kv_page *pages;
			assert_int_equal(rv_kv_seq_pages(kv, 0, &pages), 2);
			int64_t n = rv_kv_pages_n_lanes(kv);
			for (int pass = 0; pass < 2; pass++) /* fill all, then look at all */
				for (int64_t l = 0; l < 2 * n; l++) {
					rv_kv_lane lane = rv_kv_page_lane(kv, pages[l / n], l % n);
					size_t bytes = lane.stride * (size_t)o.page_tokens;
					if (!pass) {
						memset(lane.keys, (int)(2 * l) & 0xff, bytes);
						memset(lane.values, (int)(2 * l + 1) & 0xff, bytes);
						continue;
					}
					for (size_t b = 0; b < bytes; b += 61) {
						assert_int_equal((unsigned char)lane.keys[b],
						                 (2 * l) & 0xff);
						assert_int_equal((unsigned char)lane.values[b],
						                 (2 * l + 1) & 0xff);
					}
					assert_int_equal((uintptr_t)lane.keys % 64, 0);
				}
			rv_kv_pages_destroy(kv);
		}
}

static void refused(void **state) {
	static const int64_t sizes[] = {0, 4, 12, 512, -8};
	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		rv_kv_pages *kv;
		rv_kv_pages_options o = {.hp = &hp,
		                         .page_tokens = sizes[i],
		                         .n_ctx = 64,
		                         .n_seqs = 1,
		                         .budget_bytes = RV_POOL_PAGE_BYTES};
		assert_int_equal(rv_kv_pages_create(&kv, &o), RV_ERR_INVALID);
		assert_null(kv);
		assert_non_null(strstr(rv_error_message(), "page size"));
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(random_operations), cmocka_unit_test(controls),
	        cmocka_unit_test(budget_runs_out),   cmocka_unit_test(lanes),
	        cmocka_unit_test(refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
