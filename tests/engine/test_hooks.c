/* Hooks: what they are shown is what the products computed and what is added to the residual stream;
 * looking changes nothing, changing does; rows of drafts say so; off they are never called. */
#include "engine/context.h"
#include "tests/support/made_adapter.h"
#include "tests/support/tiny_model.h"

#include <math.h>

enum { N_VOCAB = 512, N_EMBD = 256, N_FF = 512, N_LAYERS = 3, N_ROWS = 7, N_ROLES = 7 };

static rv_model *model;

static int open_model(void **state) {
	(void)state;
	model = tiny_model("qwen2", "F16");
	return 0;
}
static int close_model(void **state) {
	(void)state;
	rv_model_release(model);
	return 0;
}

static rv_context *open_context(rv_backend_kind backend, int n_threads) {
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = 64;
	o.n_seqs = 2;
	o.n_batch = 16;
	o.n_draft = 8;
	o.backend = backend;
	o.n_threads = n_threads;
	o.pin = 0;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

static rv_row row(int32_t seq, int i, int flags) {
	return (rv_row){(i * 41 + 3) % N_VOCAB, seq, i, -1, 0, flags};
}

/* ---- what was seen ---- */

typedef struct seen {
	rv_role role;
	int64_t layer, n_rows;
	rv_row rows[N_ROWS];
	int has_residual;
	float input[N_ROWS][N_FF], output[N_ROWS][N_FF], residual[N_ROWS][N_EMBD];
} seen;

typedef struct record {
	seen *views; /* [N_LAYERS * N_ROLES] */
	int n;
} record;

static rv_status note(void *user, const rv_site_view *v) {
	record *r = user;
	if (r->n == N_LAYERS * N_ROLES || v->n_rows > N_ROWS)
		return rv_fail(RV_ERR_LIMIT, "more calls or rows than products");
	seen *s = &r->views[r->n++];
	*s = (seen){.role = v->role,
	            .layer = v->layer,
	            .n_rows = v->n_rows,
	            .has_residual = v->residual != NULL};
	for (int64_t i = 0; i < v->n_rows; i++) {
		s->rows[i] = v->rows[i];
		memcpy(s->input[i], v->input + i * v->n_input, (size_t)v->n_input * sizeof(float));
		memcpy(s->output[i], v->output + i * v->n_output, (size_t)v->n_output * sizeof(float));
		if (v->residual)
			memcpy(s->residual[i], v->residual + i * N_EMBD, N_EMBD * sizeof(float));
	}
	return RV_OK;
}

static record new_record(void) {
	record r = {0};
	assert_ok(RV_ALLOC(&r.views, N_LAYERS * N_ROLES, "record"));
	return r;
}

static const seen *find(const record *r, rv_role role, int64_t layer) {
	for (int i = 0; i < r->n; i++)
		if (r->views[i].role == role && r->views[i].layer == layer)
			return &r->views[i];
	fail_msg("role %d of layer %d was not shown", (int)role, (int)layer);
	return NULL;
}

/* Greatest difference between a view's output and W x + bias + scale B A x in double, over the size of
 * the result. */
static double off_by(const seen *s, const rv_adapter *adapter) {
	static const rv_role biases[RV_ROLE_COUNT] = {[RV_ATTN_Q] = RV_ATTN_Q_BIAS,
	                                              [RV_ATTN_K] = RV_ATTN_K_BIAS,
	                                              [RV_ATTN_V] = RV_ATTN_V_BIAS};
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	const rv_weight *w = rv_model_weight(model, s->role, s->layer);
	const rv_weight *bias =
	        biases[s->role] ? rv_model_weight(model, biases[s->role], s->layer) : NULL;
	const rv_adapter_part *part = adapter ? rv_adapter_find(adapter, s->role, s->layer) : NULL;
	float weights[N_FF];
	double worst = 0, size = 0;
	for (int64_t r = 0; r < w->rows; r++) {
		k->type[w->type].dequantize(weights, (const char *)w->data + (size_t)r * w->row_bytes,
		                            w->cols);
		for (int64_t i = 0; i < s->n_rows; i++) {
			double sum = bias ? (double)((const float *)bias->data)[r] : 0;
			for (int64_t c = 0; c < w->cols; c++)
				sum += (double)weights[c] * (double)s->input[i][c];
			for (int64_t q = 0; part && q < part->a.rows; q++) {
				double low = 0;
				for (int64_t c = 0; c < w->cols; c++)
					low += (double)((const float *)part->a.data)[q * w->cols + c] *
					       (double)s->input[i][c];
				sum += (double)part->scale * low *
				       (double)((const float *)part->b.data)[r * part->b.cols + q];
			}
			worst = fmax(worst, fabs(sum - (double)s->output[i][r]));
			size = fmax(size, fabs(sum));
		}
	}
	return worst / size;
}

/* ---- tests ---- */

static void eval(rv_context *ctx, int32_t seq, int n, float *logits) {
	rv_row rows[N_ROWS];
	int at = (int)rv_seq_length(ctx, seq);
	for (int i = 0; i < n; i++)
		rows[i] = row(seq, at + i, i == 1 || i == n - 1 ? RV_ROW_LOGITS : 0);
	assert_ok(rv_context_eval(ctx, rows, n));
	memcpy(logits, rv_context_logits(ctx, n - 1), N_VOCAB * sizeof *logits);
}

static void shows_what_was_computed(void **state) {
	(void)state;
	static const rv_role order[N_ROLES] = {RV_ATTN_Q,   RV_ATTN_K, RV_ATTN_V,  RV_ATTN_OUT,
	                                       RV_FFN_GATE, RV_FFN_UP, RV_FFN_DOWN};
	static const rv_backend_kind backends[] = {RV_BACKEND_SIMD, RV_BACKEND_REF};
	rv_adapter *adapter = made_adapter(model, "random", RV_ROLES_LAYER, 0, 3, 4);
	for (int b = 0; b < 4; b++) {
		rv_context *ctx = open_context(backends[b / 2], 1 + b % 2);
		float plain[N_VOCAB], watched[N_VOCAB];
		record r = new_record();
		const rv_hooks hooks = {.site = note, .roles = RV_ROLES_LAYER, .user = &r};
		const rv_adapter_use use = {adapter, 1};
		if (b % 2)
			assert_ok(rv_context_set_adapters(ctx, 0, &use, 1));
		eval(ctx, 0, N_ROWS, plain);
		assert_ok(rv_context_set_hooks(ctx, &hooks));
		eval(ctx, 1, N_ROWS, watched);
		assert_memory_equal(plain, watched, sizeof plain); /* looking changes nothing */
		assert_int_equal(r.n, N_LAYERS * N_ROLES);
		double worst = 0;
		for (int i = 0; i < r.n; i++) {
			const seen *s = &r.views[i];
			assert_int_equal(s->role, order[i % N_ROLES]);
			assert_int_equal(s->layer, i / N_ROLES);
			/* After the last layer's keys and values only rows that want output are left.
			 */
			int last = s->layer == N_LAYERS - 1 && i % N_ROLES >= 3;
			assert_int_equal(s->n_rows, last ? 2 : N_ROWS);
			assert_int_equal(s->rows[0].position, last ? 1 : 0);
			assert_int_equal(s->rows[s->n_rows - 1].position, N_ROWS - 1);
			assert_int_equal(s->rows[0].parent, -1);
			assert_int_equal(s->has_residual,
			                 s->role == RV_ATTN_OUT || s->role == RV_FFN_DOWN);
			worst = fmax(worst, off_by(s, b % 2 ? adapter : NULL));
		}
		print_message("# %s: outputs within %.2g of what the inputs give\n",
		              rv_backend_name(backends[b / 2]), worst);
		assert_true(worst < 2e-3);
		/* Control: a bias left out of one row, an adapter left out of all, is seen. */
		seen *v = &r.views[2];
		v->output[0][0] += 0.05f * (fabsf(v->output[0][0]) + 1);
		assert_true(off_by(v, b % 2 ? adapter : NULL) > 5e-3);
		assert_true(off_by(&r.views[3], b % 2 ? NULL : adapter) > 5e-3);
		rv_context_destroy(ctx);
		rv_free(r.views);
	}
	rv_adapter_release(adapter);
}

/* Output plus residual is the next residual, to the bit. */
static void outputs_add_up(void **state) {
	(void)state;
	rv_context *ctx = open_context(RV_BACKEND_SIMD, 2);
	record r = new_record();
	float logits[N_VOCAB];
	const rv_hooks hooks = {.site = note, .roles = RV_ROLES_RESIDUAL, .user = &r};
	assert_ok(rv_context_set_hooks(ctx, &hooks));
	eval(ctx, 0, N_ROWS, logits);
	assert_int_equal(r.n, 2 * N_LAYERS);
	int n_wrong = 0, n_differ = 0;
	for (int64_t l = 0; l < N_LAYERS - 1; l++) { /* the last layer has other rows */
		const seen *attn = find(&r, RV_ATTN_OUT, l), *ffn = find(&r, RV_FFN_DOWN, l),
		           *next = l < N_LAYERS - 2 ? find(&r, RV_ATTN_OUT, l + 1) : NULL;
		for (int i = 0; i < N_ROWS; i++)
			for (int j = 0; j < N_EMBD; j++) {
				n_wrong += attn->residual[i][j] + attn->output[i][j] !=
				           ffn->residual[i][j];
				n_wrong += next && ffn->residual[i][j] + ffn->output[i][j] !=
				                           next->residual[i][j];
				n_differ += attn->residual[i][j] != ffn->residual[i][j];
			}
	}
	assert_int_equal(n_wrong, 0);
	assert_true(n_differ > N_ROWS * N_EMBD); /* control: they are not simply the same */
	rv_context_destroy(ctx);
	rv_free(r.views);
}

/* ---- changing what is shown ---- */

typedef struct by_hand {
	const rv_adapter *adapter;
	int64_t n_calls;
} by_hand;

/* y += scale B A x, as an adapter of the hooked layers. */
static rv_status add_low_rank(void *user, const rv_site_view *v) {
	by_hand *h = user;
	const rv_adapter_part *p = rv_adapter_find(h->adapter, v->role, v->layer);
	h->n_calls++;
	for (int64_t i = 0; p && i < v->n_rows; i++)
		for (int64_t q = 0; q < p->a.rows; q++) {
			const float *a = (const float *)p->a.data + q * v->n_input;
			double low = 0;
			for (int64_t c = 0; c < v->n_input; c++)
				low += (double)a[c] * (double)v->input[i * v->n_input + c];
			for (int64_t r = 0; r < v->n_output; r++)
				v->output[i * v->n_output + r] +=
				        (float)((double)p->scale * low *
				                (double)((const float *)p->b.data)[r * p->b.cols + q]);
		}
	return RV_OK;
}

static double difference(const float *x, const float *y) {
	double most = 0;
	for (int i = 0; i < N_VOCAB; i++)
		most = fmax(most, fabs((double)x[i] - (double)y[i]));
	return most;
}

static void adds_like_an_adapter(void **state) {
	(void)state;
	rv_adapter *adapter = made_adapter(model, "random", rv_site_roles(RV_SITE_PROJ_ALL), 1, 2, 8);
	rv_context *ctx = open_context(RV_BACKEND_SIMD, 2);
	static const uint8_t late_layers[N_LAYERS] = {0, 1, 1};
	float plain[N_VOCAB], adapted[N_VOCAB], hooked[N_VOCAB], after[N_VOCAB];
	by_hand h = {adapter, 0};
	const rv_hooks hooks = {
	        .site = add_low_rank, .roles = RV_ROLES_LAYER, .layers = late_layers, .user = &h};
	const rv_adapter_use use = {adapter, 1};
	eval(ctx, 0, N_ROWS, plain);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_ok(rv_context_set_adapters(ctx, 0, &use, 1));
	eval(ctx, 0, N_ROWS, adapted);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_ok(rv_context_set_adapters(ctx, 0, NULL, 0));
	assert_ok(rv_context_set_hooks(ctx, &hooks));
	eval(ctx, 0, N_ROWS, hooked);
	assert_int_equal(h.n_calls, 2 * N_ROLES); /* the first layer is not hooked */
	print_message("# hooks against adapter %.2g, against neither %.2g\n",
	              difference(hooked, adapted), difference(hooked, plain));
	assert_true(difference(hooked, adapted) < 0.02 * difference(hooked, plain));
	/* Off: the bits of before, and no call. */
	assert_ok(rv_context_set_hooks(ctx, NULL));
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	h.n_calls = 0;
	eval(ctx, 0, N_ROWS, after);
	assert_memory_equal(after, plain, sizeof plain);
	assert_int_equal(h.n_calls, 0);
	rv_context_destroy(ctx);
	rv_adapter_release(adapter);
}

/* ---- rules ---- */

static rv_status refuse(void *user, const rv_site_view *v) {
	int *left = user;
	if (v->layer == 1 && (*left)-- == 0)
		return rv_fail(RV_ERR_LIMIT, "the hook has seen enough");
	return RV_OK;
}

static rv_status spoil(void *user, const rv_site_view *v) {
	(void)user;
	v->output[0] = NAN;
	return RV_OK;
}

static void failures(void **state) {
	(void)state;
	rv_context *ctx = open_context(RV_BACKEND_SIMD, 1);
	int left = 1;
	float before[N_VOCAB], after[N_VOCAB];
	rv_hooks hooks = {.site = refuse, .roles = rv_site_roles(RV_SITE_PROJ_QV), .user = &left};
	const rv_row more = row(0, N_ROWS, RV_ROW_LOGITS);
	eval(ctx, 0, N_ROWS, before);
	assert_ok(rv_context_set_hooks(ctx, &hooks));
	assert_int_equal(rv_context_eval(ctx, &more, 1), RV_ERR_LIMIT);
	assert_string_equal(rv_error_message(), "the hook has seen enough");
	assert_int_equal(rv_seq_length(ctx, 0), N_ROWS);
	hooks.site = spoil;
	hooks.roles = rv_site_roles(RV_SITE_FFN_OUT);
	assert_ok(rv_context_set_hooks(ctx, &hooks));
	assert_int_equal(rv_context_eval(ctx, &more, 1), RV_ERR_NUMERIC);
	assert_int_equal(rv_seq_length(ctx, 0), N_ROWS);
	hooks.roles = RV_ROLE_BIT(RV_ATTN_NORM);
	assert_int_equal(rv_context_set_hooks(ctx, &hooks), RV_ERR_INVALID);
	assert_ok(rv_context_set_hooks(ctx, NULL));
	eval(ctx, 1, N_ROWS, after);
	assert_memory_equal(before, after, sizeof before);
	rv_context_destroy(ctx);
}

/* Draft rows are told by their numbers; what is seen of a path is what plain rows show. */
static void drafts(void **state) {
	(void)state;
	rv_context *ctx = open_context(RV_BACKEND_SIMD, 1);
	record plain = new_record(), tree = new_record();
	float logits[N_VOCAB];
	rv_hooks hooks = {.site = note, .roles = rv_site_roles(RV_SITE_ATTN_OUT), .user = &plain};
	eval(ctx, 0, 3, logits);
	assert_ok(rv_seq_copy(ctx, 0, 1, 3));
	assert_ok(rv_context_set_hooks(ctx, &hooks));
	rv_row rows[3];
	for (int i = 0; i < 3; i++)
		rows[i] = row(1, 3 + i, RV_ROW_LOGITS);
	assert_ok(rv_context_eval(ctx, rows, 3));
	hooks.user = &tree;
	assert_ok(rv_context_set_hooks(ctx, &hooks));
	rows[0] = row(0, 3, RV_ROW_LOGITS);
	rows[1] = row(0, 4, RV_ROW_LOGITS);
	rows[2] = row(0, 5, RV_ROW_LOGITS);
	rows[1].parent = 0; /* after the sequence's last token */
	rows[2].parent = 1;
	assert_ok(rv_context_eval(ctx, rows, 3));
	for (int64_t l = 0; l < N_LAYERS; l++) {
		const seen *a = find(&plain, RV_ATTN_OUT, l), *b = find(&tree, RV_ATTN_OUT, l);
		assert_int_equal(b->rows[0].parent, -1);
		assert_int_equal(b->rows[1].parent, 1);
		assert_int_equal(b->rows[2].parent, 2);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(a->rows[i].position, b->rows[i].position);
			assert_memory_equal(a->output[i], b->output[i], N_EMBD * sizeof(float));
		}
	}
	rv_context_destroy(ctx);
	rv_free(plain.views);
	rv_free(tree.views);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(shows_what_was_computed),
	        cmocka_unit_test(outputs_add_up),
	        cmocka_unit_test(adds_like_an_adapter),
	        cmocka_unit_test(failures),
	        cmocka_unit_test(drafts),
	};
	return cmocka_run_group_tests(tests, open_model, close_model);
}
