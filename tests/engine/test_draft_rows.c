/* Draft trees: the logits of a draft row are those of its path evaluated plainly, bit by bit, whatever
 * else is in the tree, and accepting a path leaves what evaluating it would. */
#include "base/rng.h"
#include "engine/context.h"
#include "tests/support/tiny_model.h"

enum { N_VOCAB = 512, N_CTX = 160, MAX_NODES = 24, N_TREES = 40 };

typedef struct setting {
	rv_kv_type kv;
	rv_attn_kind attention;
	int32_t page_size, n_batch;
	int n_threads;
	rv_backend_kind backend;
} setting;

static const setting settings[] = {
        {RV_KV_F16, RV_ATTN_FLASH, 64, 64, 1, RV_BACKEND_SIMD},
        {RV_KV_F16, RV_ATTN_FLASH, 8, 5, 2, RV_BACKEND_SIMD},
        {RV_KV_Q8, RV_ATTN_FLASH, 0, 64, 2, RV_BACKEND_SIMD},
        {RV_KV_F32, RV_ATTN_STANDARD, 16, 64, 1, RV_BACKEND_SIMD},
        {RV_KV_F16, RV_ATTN_FLASH, 16, 9, 1, RV_BACKEND_REF},
};

static rv_hparams small_hparams(void) {
	rv_hparams hp = tiny_hparams();
	hp.n_layers = 2;
	hp.n_embd = 128;
	hp.n_ff = 128;
	return hp;
}

static rv_context *open_context(rv_model *model, const setting *s, int32_t n_draft) {
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = N_CTX;
	o.n_seqs = 3;
	o.n_draft = n_draft;
	o.n_batch = s->n_batch;
	o.kv_type = s->kv;
	o.attention = s->attention;
	o.page_size = s->page_size;
	o.n_threads = s->n_threads;
	o.backend = s->backend;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

static int32_t any_token(rv_rng *rng) {
	return (int32_t)rv_rng_below(rng, N_VOCAB);
}

static rv_row row_of(int32_t token, int32_t seq, int64_t position, int32_t parent) {
	return (rv_row){.token = token,
	                .seq = seq,
	                .position = (int32_t)position,
	                .parent = parent,
	                .flags = RV_ROW_LOGITS};
}

/* Appends n tokens to a sequence, the last one's logits at row n - 1. */
static void append(rv_context *ctx, int32_t seq, const int32_t *tokens, int n) {
	rv_row rows[N_CTX];
	int64_t at = rv_seq_length(ctx, seq);
	for (int i = 0; i < n; i++) {
		rows[i] = row_of(tokens[i], seq, at + i, -1);
		rows[i].flags = i == n - 1 ? RV_ROW_LOGITS : 0;
	}
	assert_ok(rv_context_eval(ctx, rows, n));
}

typedef struct tree {
	int n; /* nodes 1..n, after node 0, the sequence's last token */
	int32_t token[MAX_NODES + 1];
	int parent[MAX_NODES + 1], depth[MAX_NODES + 1];
	float logits[MAX_NODES + 1][N_VOCAB];
} tree;

static void grow(tree *t, rv_rng *rng) {
	t->n = 1 + (int)rv_rng_below(rng, MAX_NODES);
	t->depth[0] = 0;
	for (int i = 1; i <= t->n; i++) {
		t->parent[i] = (int)rv_rng_below(rng, (uint64_t)i);
		t->depth[i] = t->depth[t->parent[i]] + 1;
		t->token[i] = any_token(rng);
	}
}

/* Evaluates the tree in one or several calls, the first of them with the sequence's last token. */
static void eval_tree(rv_context *ctx, tree *t, int32_t last, rv_rng *rng) {
	int64_t length = rv_seq_length(ctx, 0);
	int most = rv_context_get_options(ctx)->n_batch;
	int32_t base = rv_context_n_drafts(ctx);
	rv_row rows[MAX_NODES + 1] = {row_of(last, 0, length, -1)};
	int n = 1;
	for (int i = 1; i <= t->n; i++) {
		int parent = t->parent[i];
		rows[n++] = row_of(t->token[i], 0, length + t->depth[i], parent ? base + parent : 0);
		if (n < most && i < t->n && rv_rng_below(rng, 4) > 0)
			continue;
		assert_ok(rv_context_eval(ctx, rows, n));
		for (int j = 0; j < n && rows[j].parent >= 0; j++)
			memcpy(t->logits[i - n + 1 + j], rv_context_logits(ctx, j),
			       sizeof t->logits[0]);
		for (int j = 1; j < n && rows[0].parent < 0; j++)
			memcpy(t->logits[j], rv_context_logits(ctx, j), sizeof t->logits[0]);
		n = 0;
	}
	assert_int_equal(rv_context_n_drafts(ctx), base + t->n);
	assert_int_equal(rv_seq_length(ctx, 0), length + 1);
}

static int path_to(const tree *t, int node, int path[MAX_NODES]) {
	int n = t->depth[node];
	for (int i = n; node; node = t->parent[node])
		path[--i] = node;
	return n;
}

/* Logits after the path in a copy of the sequence. */
static const float *plainly(rv_context *ctx, const tree *t, const int *path, int n) {
	int32_t tokens[MAX_NODES];
	assert_ok(rv_seq_copy(ctx, 0, 1, rv_seq_length(ctx, 0)));
	for (int i = 0; i < n; i++)
		tokens[i] = t->token[path[i]];
	append(ctx, 1, tokens, n);
	return rv_context_logits(ctx, n - 1);
}

static int same(const float *a, const float *b) {
	return memcmp(a, b, N_VOCAB * sizeof *a) == 0;
}

/* The node's logits are those of its path, and not of a path with another node in place of one. */
static int check_node(rv_context *ctx, const tree *t, int node) {
	int path[MAX_NODES], n = path_to(t, node, path), controls = 0;
	assert_true(same(t->logits[node], plainly(ctx, t, path, n)));
	for (int i = 1; i <= t->n && n > 1; i++) {
		int leaked = path[n - 2];
		if (i == leaked || t->depth[i] != t->depth[leaked] || t->token[i] == t->token[leaked])
			continue;
		path[n - 2] = i;
		assert_false(same(t->logits[node], plainly(ctx, t, path, n)));
		controls++;
		path[n - 2] = leaked;
	}
	return controls;
}

static void trees_are_paths(void **state) {
	(void)state;
	static tree t;
	rv_hparams hp = small_hparams();
	rv_model *model = tiny_model_of(&hp, "qwen2", "Q8_0", 7);
	int controls = 0;
	for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
		rv_context *ctx = open_context(model, &settings[s], MAX_NODES);
		rv_rng rng;
		rv_rng_seed(&rng, 31 + s);
		for (int i = 0; i < N_TREES; i++) {
			int32_t tokens[N_CTX], next = any_token(&rng), numbers[MAX_NODES];
			int n = 1 + (int)rv_rng_below(&rng, N_CTX - MAX_NODES - 3), path[MAX_NODES];
			for (int j = 0; j < n; j++)
				tokens[j] = any_token(&rng);
			assert_ok(rv_seq_truncate(ctx, 0, 0));
			append(ctx, 0, tokens, n);
			/* another sequence's draft rows stand before */
			int32_t other = 0;
			if (i % 3 == 0) {
				const rv_row rows[] = {row_of(next, 2, 0, -1), row_of(next, 2, 1, 0),
				                       row_of(next, 2, 1, 0)};
				assert_ok(rv_seq_truncate(ctx, 2, 0));
				assert_ok(rv_context_eval(ctx, rows, 3));
				other = 2;
			}
			grow(&t, &rng);
			if (t.n + other > MAX_NODES)
				t.n = MAX_NODES - other;
			eval_tree(ctx, &t, next, &rng);
			for (int node = 1; node <= t.n; node += 1 + (int)rv_rng_below(&rng, 3))
				controls += check_node(ctx, &t, node);
			/* accept a path, or a part of one, or nothing */
			int m = path_to(&t, (int)rv_rng_below(&rng, (uint64_t)t.n + 1), path);
			const float *logits = NULL;
			float expected[N_VOCAB];
			if (m > 0)
				plainly(ctx, &t, path, m);
			else
				assert_ok(rv_seq_copy(ctx, 0, 1, rv_seq_length(ctx, 0)));
			append(ctx, 1, &next, 1);
			logits = rv_context_logits(ctx, 0);
			memcpy(expected, logits, sizeof expected);
			for (int j = 0; j < m; j++)
				numbers[j] = other + path[j];
			assert_ok(rv_seq_accept(ctx, 0, numbers, m));
			assert_int_equal(rv_seq_length(ctx, 0), n + 1 + m);
			append(ctx, 0, &next, 1);
			assert_true(same(expected, rv_context_logits(ctx, 0)));
			assert_ok(rv_seq_accept(ctx, 2, NULL, 0));
			assert_int_equal(rv_context_n_drafts(ctx), 0);
		}
		rv_context_destroy(ctx);
	}
	assert_true(controls > 100);
	rv_model_release(model);
}

/* A tree beside a sequence takes nothing from its pages until a path is accepted. */
static void no_pages_for_drafts(void **state) {
	(void)state;
	rv_hparams hp = small_hparams();
	rv_model *model = tiny_model_of(&hp, "qwen2", "F16", 7);
	rv_context *ctx = open_context(model, &settings[1], 4);
	const int32_t tokens[7] = {1, 2, 3, 4, 5, 6, 7}, path[2] = {1, 3};
	const rv_row rows[] = {row_of(8, 0, 7, -1), row_of(9, 0, 8, 0), row_of(10, 0, 8, 0),
	                       row_of(11, 0, 9, 1), row_of(12, 0, 9, 2)};
	rv_kv_stats before, drafted, accepted;
	append(ctx, 0, tokens, 7);
	rv_context_kv_stats(ctx, &before);
	assert_ok(rv_context_eval(ctx, rows, 5));
	rv_context_kv_stats(ctx, &drafted);
	assert_int_equal(before.n_pages, 1);
	assert_int_equal(drafted.n_pages, 1);
	assert_ok(rv_seq_accept(ctx, 0, path, 2));
	rv_context_kv_stats(ctx, &accepted);
	assert_int_equal(accepted.n_pages, 2);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

/* ---- faults ---- */

static int always(void *user) {
	(void)user;
	return 1;
}

static void bad_rows(void **state) {
	(void)state;
	rv_hparams hp = small_hparams();
	rv_model *model = tiny_model_of(&hp, "qwen2", "F16", 7);
	rv_context *plain = open_context(model, &settings[0], 0),
	           *ctx = open_context(model, &settings[0], 3);
	const int32_t tokens[4] = {1, 2, 3, 4};
	append(plain, 0, tokens, 4);
	append(ctx, 0, tokens, 4);
	append(ctx, 1, tokens, 4);
	const rv_row first = row_of(5, 0, 4, 0);
	assert_int_equal(rv_context_eval(plain, &first, 1), RV_ERR_INVALID);
	const rv_row bad[] = {
	        row_of(5, 0, 4, 1),  row_of(5, 0, 3, 0), row_of(5, 0, 5, 0),
	        row_of(5, 0, 4, -2), row_of(5, 2, 0, 0), /* an empty sequence has no last token */
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(rv_context_eval(ctx, &bad[i], 1), RV_ERR_INVALID);
		assert_int_equal(rv_context_n_drafts(ctx), 0);
	}
	assert_ok(rv_context_eval(ctx, &first, 1));
	const rv_row later[] = {
	        row_of(5, 0, 4, -1), /* plain, while drafts are held */
	        row_of(5, 1, 5, 1),  /* a parent of another sequence */
	        row_of(5, 0, 6, 1),  /* not after its parent */
	};
	for (size_t i = 0; i < sizeof later / sizeof *later; i++)
		assert_int_equal(rv_context_eval(ctx, &later[i], 1), RV_ERR_INVALID);
	const rv_row many[] = {row_of(5, 0, 5, 1), row_of(5, 0, 6, 2), row_of(5, 0, 4, 0)};
	assert_int_equal(rv_context_eval(ctx, many, 3), RV_ERR_LIMIT);
	rv_context_set_cancel(ctx, always, NULL);
	assert_int_equal(rv_context_eval(ctx, many, 2), RV_ERR_CANCELLED);
	rv_context_set_cancel(ctx, NULL, NULL);
	assert_int_equal(rv_context_n_drafts(ctx), 1);
	assert_ok(rv_context_eval(ctx, many, 2));
	const int32_t paths[][2] = {{2, 3}, {1, 3}, {0, 1}, {1, 4}, {-1, 2}};
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		assert_int_equal(rv_seq_accept(ctx, 0, paths[i], 2), RV_ERR_INVALID);
	assert_int_equal(rv_seq_accept(ctx, 1, paths[1], 1), RV_ERR_INVALID);
	assert_int_equal(rv_seq_accept(ctx, 9, paths[1], 1), RV_ERR_INVALID);
	assert_int_equal(rv_seq_length(ctx, 0), 4);
	assert_ok(rv_seq_truncate(ctx, 0, 4)); /* drops them */
	assert_int_equal(rv_context_n_drafts(ctx), 0);
	assert_int_equal(rv_seq_accept(ctx, 0, paths[1], 1), RV_ERR_INVALID);
	append(ctx, 0, tokens, 4);
	rv_context_destroy(ctx);
	rv_context_destroy(plain);
	rv_model_release(model);
}

/* The end of the context holds for drafts too. */
static void no_draft_beyond_the_context(void **state) {
	(void)state;
	rv_hparams hp = small_hparams();
	rv_model *model = tiny_model_of(&hp, "qwen2", "F16", 7);
	rv_context *ctx = open_context(model, &settings[0], 3);
	int32_t tokens[N_CTX] = {0};
	append(ctx, 0, tokens, N_CTX - 1);
	const rv_row rows[] = {row_of(5, 0, N_CTX - 1, 0), row_of(5, 0, N_CTX, 1)};
	assert_int_equal(rv_context_eval(ctx, rows, 2), RV_ERR_LIMIT);
	assert_ok(rv_context_eval(ctx, rows, 1));
	rv_context_destroy(ctx);
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(trees_are_paths),
	        cmocka_unit_test(no_pages_for_drafts),
	        cmocka_unit_test(bad_rows),
	        cmocka_unit_test(no_draft_beyond_the_context),
	};
	return cmocka_run_group_tests_name("draft rows", tests, NULL, NULL);
}
