/* Attention of the CPU backends against sums in double precision, and against itself: the same bits
 * whatever the pages, threads, tiles and batches. */
#include "tests/engine/attention_problem.h"

#include <stdio.h>

/* ---- right ---- */

static const struct shape {
	int64_t head_dim, n_heads, n_kv_heads, n;
} shapes[] = {{64, 4, 2, 200}, {128, 16, 2, 333}, {80, 3, 1, 65}, {40, 8, 8, 130},
              {64, 14, 2, 63}, {96, 12, 4, 64},   {2, 5, 5, 71},  {256, 2, 1, 129}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static rv_level best(void) {
	return rv_level_best();
}

static void against_plain_sums(void **state) {
	(void)state;
	static float out[400 * 16 * 128];
	rv_row rows[400];
	for (int i = 0; i < N_SHAPES; i++)
		for (int type = 0; type < RV_KV_COUNT; type++) {
			problem *p =
			        problem_create(shapes[i].head_dim, shapes[i].n_heads,
			                       shapes[i].n_kv_heads, shapes[i].n, (rv_kv_type)type, 1);
			cut(p, 64, i % 2);
			for (int kind = 0; kind < 2 * RV_ATTN_COUNT; kind++) {
				setting s = {.kind = (rv_attn_kind)(kind / 2),
				             .backend = kind % 2 && i % 2 ? RV_BACKEND_REF
				                                          : RV_BACKEND_SIMD,
				             .level = best(),
				             .n_threads = 1 + i % 3};
				/* a whole prompt, then its last token alone */
				int64_t n = add_rows(rows, 0, 0, kind % 2 ? p->n - 1 : 0, p->n);
				attend(p, &s, rows, n, out);
				double e = largest_error(p, rows, n, out, RIGHT);
				if (!(e <= TOLERANCE))
					fail_msg("%s, %s, head %lld, %lld/%lld heads, %lld keys, %lld "
					         "rows: "
					         "off by %g",
					         kind_names[s.kind], rv_kv_type_name(p->type),
					         (long long)p->head_dim, (long long)p->n_heads,
					         (long long)p->n_kv_heads, (long long)p->n,
					         (long long)n, e);
			}
			problem_destroy(p);
		}
}

static void blas(void **state) {
	(void)state;
	static float out[200 * 16 * 64];
	rv_row rows[200];
	problem *p = problem_create(64, 4, 2, 200, RV_KV_F16, 1);
	int64_t n = add_rows(rows, 0, 0, 0, 200);
	for (int kind = 0; kind < RV_ATTN_COUNT; kind++) {
		setting s = {(rv_attn_kind)kind, RV_BACKEND_BLAS, best(), 2, 0, 0};
		attend(p, &s, rows, n, out);
		assert_true(largest_error(p, rows, n, out, RIGHT) <= TOLERANCE);
	}
	problem_destroy(p);
}

static void faults_are_seen(void **state) {
	(void)state;
	static float out[200 * 4 * 64];
	rv_row rows[200];
	problem *p = problem_create(64, 4, 2, 200, RV_KV_F16, 1);
	for (int kind = 0; kind < RV_ATTN_COUNT; kind++) {
		setting s = {(rv_attn_kind)kind, RV_BACKEND_SIMD, best(), 2, 0, 0};
		int64_t n = add_rows(rows, 0, 0, 0, 200);
		attend(p, &s, rows, n, out);
		assert_true(largest_error(p, rows, n, out, RIGHT) <= TOLERANCE);
		for (int wrong = NO_MASK; wrong <= WRONG_HEAD; wrong++)
			assert_true(largest_error(p, rows, n, out, (fault)wrong) > 20 * TOLERANCE);
		out[(n - 1) * width(p)] = NAN;
		assert_false(largest_error(p, rows, n, out, RIGHT) <= TOLERANCE);
	}
	problem_destroy(p);
}

/* ---- the same bits ---- */

static void assert_bits(const float *got, const float *want, int64_t n, const char *what,
                        int64_t value) {
	for (int64_t i = 0; i < n; i++)
		if (memcmp(&got[i], &want[i], sizeof *got) != 0)
			fail_msg("%s %lld: element %lld is %.9g, not %.9g", what, (long long)value,
			         (long long)i, (double)got[i], (double)want[i]);
}

#define N_KEYS 517
#define MAX_WIDTH (16 * 128)

/* Sequence 0 by chunks of rows, each from a backend of its own. */
static void by_chunks(const problem *p, const setting *s, int64_t chunk, float *out) {
	static rv_row rows[N_KEYS];
	for (int64_t at = 0; at < p->n; at += chunk) {
		int64_t to = at + chunk < p->n ? at + chunk : p->n;
		attend(p, s, rows, add_rows(rows, 0, 0, at, to), out + at * width(p));
	}
}

static void same_bits(void **state) {
	const setting *given = *state;
	static float base[N_KEYS * MAX_WIDTH], other[N_KEYS * MAX_WIDTH];
	static const struct shape few[] = {{128, 16, 2, N_KEYS}, {64, 3, 1, 200}};
	static const int64_t pages[] = {1, 8, 13, 64, 100, 256};
	for (int i = 0; i < 2; i++) {
		problem *p = problem_create(few[i].head_dim, few[i].n_heads, few[i].n_kv_heads,
		                            few[i].n, i ? RV_KV_Q8 : RV_KV_F16, 1);
		setting s = *given;
		int64_t n = p->n * width(p);
		s.n_threads = 1;
		by_chunks(p, &s, p->n, base);
		for (int64_t chunk = 3; chunk < p->n; chunk = chunk * 3 + 1) {
			by_chunks(p, &s, chunk, other);
			assert_bits(other, base, n, "rows a call", chunk);
		}
		for (s.n_threads = 2; s.n_threads <= 7; s.n_threads += s.n_threads == 3 ? 4 : 1) {
			by_chunks(p, &s, p->n, other);
			assert_bits(other, base, n, "threads", s.n_threads);
			/* the last tokens one by one: threads share the keys of each */
			rv_row row;
			for (int64_t at = p->n - 5; at < p->n; at++) {
				attend(p, &s, &row, add_rows(&row, 0, 0, at, at + 1), other);
				assert_bits(other, base + at * width(p), width(p), "decoding, threads",
				            s.n_threads);
			}
		}
		s.n_threads = 2;
		for (size_t k = 0; k < sizeof pages / sizeof *pages; k++)
			for (int ragged = 0; ragged < 2; ragged++) {
				cut(p, pages[k], ragged);
				by_chunks(p, &s, ragged ? 100 : p->n, other);
				assert_bits(other, base, n, ragged ? "pages of up to" : "pages of",
				            pages[k]);
			}
		for (size_t cache = 1; cache < (size_t)1 << 26; cache *= 37) {
			s.l1 = cache;
			s.l2 = 4 * cache;
			by_chunks(p, &s, p->n, other);
			assert_bits(other, base, n, "caches of", (int64_t)cache);
		}
		problem_destroy(p);
	}
}

/* Rows of three sequences in one call, runs of all lengths, as each of them alone. */
static void batches(void **state) {
	const setting *given = *state;
	static float base[3][150 * 8 * 64], out[450 * 8 * 64];
	rv_row rows[450];
	problem *p = problem_create(64, 8, 2, 150, RV_KV_F16, 3);
	setting s = *given;
	cut(p, 16, 0);
	for (int32_t seq = 0; seq < 3; seq++)
		attend(p, &s, rows, add_rows(rows, 0, seq, 0, p->n), base[seq]);
	int64_t at[3] = {0}, n = 0;
	while (n < 3 * p->n) {
		int32_t seq = (int32_t)rv_rng_below(&p->rng, 3);
		int64_t m = 1 + (int64_t)rv_rng_below(&p->rng, 40);
		m = m < p->n - at[seq] ? m : p->n - at[seq];
		n = add_rows(rows, n, seq, at[seq], at[seq] + m);
		at[seq] += m;
	}
	attend(p, &s, rows, n, out);
	for (int64_t i = 0; i < n; i++)
		assert_bits(out + i * width(p), base[rows[i].seq] + rows[i].position * width(p),
		            width(p), "row", i);
	problem_destroy(p);
}

/* Rows of a draft tree, some at the same position, each with keys of its own at the end. */
static void draft_rows(void **state) {
	const setting *given = *state;
	static float out[8 * 4 * 64], alone[4 * 64];
	rv_row rows[8];
	problem *p = problem_create(64, 4, 2, 300, RV_KV_F16, 1);
	p->own = 3;
	cut(p, 32, 1);
	int64_t n = add_rows(rows, 0, 0, 197, 200);
	for (; n < 8; n++)
		rows[n] = (rv_row){.position = (int32_t)(200 + n / 3), .parent = (int32_t)n - 3};
	attend(p, given, rows, n, out);
	assert_true(largest_error(p, rows, n, out, RIGHT) <= TOLERANCE);
	for (int64_t i = 0; i < n; i++) {
		attend(p, given, &rows[i], 1, alone);
		assert_bits(alone, out + i * width(p), width(p), "row", i);
	}
	p->own = 0; /* control: without its own keys a draft row gives something else */
	assert_true(largest_error(p, rows, n, out, RIGHT) > 20 * TOLERANCE);
	problem_destroy(p);
}

/* ---- the order of the merge ---- */

/* Flash from its parts: each block from nothing, merged upwards or downwards. */
static void from_blocks(const problem *p, int64_t position, int64_t h, int down, float *o) {
	enum { B = RV_ATTN_BLOCK };
	static float kt[64 * B], v[B * 64];
	const rv_kernels *k = rv_kernels_for(best());
	const lane *l = lane_of(p, 0, h / (p->n_heads / p->n_kv_heads));
	float q[64], max = -INFINITY, sum = 0, scale = 1.0f / sqrtf((float)p->head_dim);
	int64_t n = position + 1, n_blocks = (n + B - 1) / B;
	for (int64_t d = 0; d < 64; d++)
		q[d] = p->q[position * width(p) + h * 64 + d] * scale;
	for (int64_t i = 0; i < n_blocks; i++) {
		int64_t b = down ? n_blocks - 1 - i : i;
		int32_t seen = (int32_t)(n - b * B < B ? n - b * B : B);
		size_t at = (size_t)(b * B) * p->row_bytes;
		float o2[64], max2 = -INFINITY, sum2 = 0;
		k->kv[p->type].load_keys(kt, l->keys + at, p->row_bytes, seen, 64);
		k->kv[p->type].load_values(v, l->values + at, p->row_bytes, seen, 64);
		k->attn_block(o2, &max2, &sum2, q, kt, v, &seen, 1, 64);
		k->attn_merge(o, &max, &sum, o2, &max2, &sum2, 1, 64);
	}
	k->attn_finish(o, &sum, 1, 64);
}

static void merge_order(void **state) {
	(void)state;
	float o[64], out[4 * 64];
	rv_row row;
	int differs = 0;
	problem *p = problem_create(64, 4, 2, 500, RV_KV_F16, 1);
	for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
		setting s = {RV_ATTN_FLASH, RV_BACKEND_SIMD, best(), n_threads, 0, 0};
		attend(p, &s, &row, add_rows(&row, 0, 0, p->n - 1, p->n), out);
		for (int64_t h = 0; h < p->n_heads; h++) {
			from_blocks(p, p->n - 1, h, 0, o);
			assert_bits(out + h * 64, o, 64, "upwards, head", h);
			from_blocks(p, p->n - 1, h, 1, o); /* control */
			differs += memcmp(out + h * 64, o, sizeof o) != 0;
		}
	}
	assert_int_equal(differs, 2 * p->n_heads);
	problem_destroy(p);
}

/* ---- memory ---- */

/* Beside room for the list of segments, flash takes what the caches allow, whatever the length. */
static void memory(void **state) {
	(void)state;
	rv_cpu_options o = {.n_batch = 8192,
	                    .n_ctx = 8192,
	                    .head_dim = 128,
	                    .n_heads = 16,
	                    .n_kv_heads = 2,
	                    .max_segments = 1,
	                    .l1d_bytes = 32 << 10,
	                    .l2_bytes = 1 << 20};
	size_t bytes[RV_ATTN_COUNT][2];
	for (int kind = 0; kind < RV_ATTN_COUNT; kind++)
		for (int i = 0; i < 2; i++) {
			o.attention = (rv_attn_kind)kind;
			o.n_ctx = o.n_batch = 8192 * (1 + i);
			bytes[kind][i] = rv_cpu_attention_scratch(&o);
		}
	assert_true(bytes[RV_ATTN_FLASH][0] < 1 << 20);
	assert_int_equal(bytes[RV_ATTN_FLASH][0], bytes[RV_ATTN_FLASH][1]);
	assert_true(bytes[RV_ATTN_STANDARD][0] > (size_t)8192 * 8192 * 4);
	assert_true(bytes[RV_ATTN_STANDARD][1] > 3 * bytes[RV_ATTN_STANDARD][0]);
	assert_true(bytes[RV_ATTN_STANDARD_CAUSAL][1] < 3 * bytes[RV_ATTN_STANDARD_CAUSAL][0]);
	o.attention = RV_ATTN_FLASH; /* shared results of decoding: O(n), none where not needed */
	assert_int_equal(rv_cpu_attention_shared(&o, 2), 0);
	assert_true(rv_cpu_attention_shared(&o, 3) > 0);
}

int main(void) {
	static setting settings[RV_ATTN_COUNT];
	static const struct {
		const char *name;
		CMUnitTestFunction fn;
	} each[] = {{"same bits", same_bits}, {"batches", batches}, {"draft rows", draft_rows}};
	enum { N_EACH = sizeof each / sizeof *each };
	static char names[RV_ATTN_COUNT * N_EACH][64];
	struct CMUnitTest tests[5 + RV_ATTN_COUNT * N_EACH] = {
	        cmocka_unit_test(against_plain_sums), cmocka_unit_test(blas),
	        cmocka_unit_test(faults_are_seen), cmocka_unit_test(merge_order),
	        cmocka_unit_test(memory)};
	for (int i = 0; i < RV_ATTN_COUNT * N_EACH; i++) {
		int kind = i / N_EACH;
		settings[kind] = (setting){(rv_attn_kind)kind, RV_BACKEND_SIMD, best(), 2, 0, 0};
		snprintf(names[i], sizeof names[i], "%s: %s", kind_names[kind], each[i % N_EACH].name);
		tests[5 + i] =
		        (struct CMUnitTest){names[i], each[i % N_EACH].fn, NULL, NULL, &settings[kind]};
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
