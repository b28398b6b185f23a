/* Adapters that change while sequences decode: every token is computed under exactly one version, and a
 * swap takes no time to speak of. */
#include "base/sysinfo.h"
#include "model/adapter_slot.h"
#include "tests/engine/swap_kit.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* ---- every token under one version ---- */

/* Adapters of what comes after the last layer's keys and values: these do not depend on the version, so
 * a token's logits depend on the version of its own eval alone. */
enum { LATE = 6 };
static rv_adapter *late[LATE];
static float late_logits[LATE][N_TOKENS][N_VOCAB];

static rv_adapter *make_late(const int *seeds) {
	static const uint32_t roles[] = {RV_ROLE_BIT(RV_ATTN_OUT) | RV_ROLE_BIT(RV_FFN_GATE),
	                                 RV_ROLE_BIT(RV_FFN_UP) | RV_ROLE_BIT(RV_FFN_DOWN) |
	                                         RV_ROLE_BIT(RV_OUTPUT)};
	made half[2];
	rv_adapter_matrix all[2 * MADE_MAX];
	rv_adapter *adapter;
	int n = 0;
	for (int h = 0; h < 2; h++) {
		made_begin(&half[h], model, roles[h], 1, 3, (uint64_t)seeds[h] + 50);
		for (int i = 0; i < half[h].n; i++)
			all[n++] = half[h].parts[i];
	}
	assert_ok(rv_adapter_create(&adapter, model, "late", all, n));
	made_end(&half[0]);
	made_end(&half[1]);
	return adapter;
}

static void fill_table(rv_adapter *adapter, float table[N_TOKENS][N_VOCAB]) {
	rv_context *ctx = open_context(1, 64, 0);
	use(ctx, adapter);
	for (int i = 0; i < N_TOKENS; i++)
		memcpy(table[i], go_on(ctx, 0, 0, 1), sizeof table[i]);
	rv_context_destroy(ctx);
}

/* Which version's logits these are; -1: none's. */
static int version_of(const float *logits, int position) {
	int found = -1;
	for (int v = 0; v < LATE; v++)
		if (same(logits, late_logits[v][position]))
			found = found < 0 ? v : LATE;
	return found < LATE ? found : -1;
}

typedef struct decoder {
	rv_context *ctx;
	int n_rounds;
	int64_t n_tokens, n_none, n_changes, n_torn_batches;
	int seen[LATE];
} decoder;

/* Two sequences a token at a time, in one batch, over and over; beginnings in pieces of 8 rows. */
static void *decode(void *arg) {
	decoder *d = arg;
	int last = -1;
	for (int round = 0; round < d->n_rounds; round++) {
		rv_row rows[2 * N_TOKENS];
		int first = round % 2 ? 11 : 1, n = 0;
		rv_seq_truncate(d->ctx, 0, 0);
		rv_seq_truncate(d->ctx, 1, 0);
		for (int at = 0; at < N_TOKENS; at = at ? at + 1 : first) {
			int n_each = at ? 1 : first, of_batch = -1;
			n = 0;
			for (int i = 0; i < n_each; i++)
				for (int32_t s = 0; s < 2; s++)
					rows[n++] = (rv_row){token(0, at + i),
					                     s,
					                     at + i,
					                     -1,
					                     SET,
					                     n_each == 1 || (at + i) % 3 == 0};
			if (rv_context_eval(d->ctx, rows, n) != RV_OK)
				d->n_none += 1000;
			for (int i = 0; i < n; i++) {
				const float *logits = rv_context_logits(d->ctx, i);
				if (!logits)
					continue;
				int v = version_of(logits, rows[i].position);
				d->n_tokens++;
				d->n_none += v < 0;
				d->n_torn_batches += of_batch >= 0 && v != of_batch;
				of_batch = v;
				if (v >= 0)
					d->seen[v]++;
			}
			d->n_changes += at > 0 && of_batch != last;
			last = of_batch;
		}
	}
	return NULL;
}

typedef struct publisher {
	rv_adapter_slot *slot;
	_Atomic int stop;
	int64_t n;
} publisher;

static void *publish(void *arg) {
	publisher *p = arg;
	rv_rng rng;
	rv_rng_seed(&rng, 4);
	while (!atomic_load(&p->stop)) {
		if (rv_adapter_slot_publish(p->slot, late[rv_rng_below(&rng, LATE)], NULL) == RV_OK)
			p->n++;
		const struct timespec pause = {0, (long)rv_rng_below(&rng, 200000)};
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void tokens_are_of_one_version(void **state) {
	(void)state;
	publisher p = {0};
	pthread_t threads[4];
	static const int torn[] = {0, 1};
	static float torn_logits[N_TOKENS][N_VOCAB];
	for (int v = 0; v < LATE; v++) {
		late[v] = make_late((const int[]){v, v});
		fill_table(late[v], late_logits[v]);
	}
	/* Control: half of one version and half of another is neither. */
	rv_adapter *halves = make_late(torn);
	fill_table(halves, torn_logits);
	for (int i = 0; i < N_TOKENS; i++) {
		assert_int_equal(version_of(torn_logits[i], i), -1);
		assert_int_equal(version_of(late_logits[2][i], i), 2);
	}
	assert_ok(rv_adapter_slot_create(&p.slot, model));
	assert_ok(rv_adapter_slot_publish(p.slot, late[0], NULL));
	decoder d[2] = {{open_context(1, 8, 0), 60, .n_none = 0},
	                {open_context(2, 16, 0), 60, .n_none = 0}};
	for (int i = 0; i < 2; i++)
		assert_ok(rv_context_follow_slot(d[i].ctx, SET, p.slot, 1));
	assert_int_equal(pthread_create(&threads[2], NULL, publish, &p), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, decode, &d[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&p.stop, 1);
	pthread_join(threads[2], NULL);
	for (int i = 0; i < 2; i++) {
		int n_seen = 0;
		for (int v = 0; v < LATE; v++)
			n_seen += d[i].seen[v] > 0;
		print_message("# %lld tokens under %d versions, %lld changes within a text, %lld "
		              "published\n",
		              (long long)d[i].n_tokens, n_seen, (long long)d[i].n_changes,
		              (long long)p.n);
		assert_int_equal(d[i].n_none, 0);
		assert_int_equal(d[i].n_torn_batches, 0);
		assert_true(n_seen > 1 && d[i].n_changes > 3);
		rv_context_destroy(d[i].ctx);
	}
	rv_adapter_slot_destroy(p.slot);
	for (int v = 0; v < LATE; v++) {
		assert_false(rv_adapter_shared(late[v])); /* contexts let go of what they had */
		rv_adapter_release(late[v]);
	}
	rv_adapter_release(halves);
}

/* ---- rules ---- */

static void following(void **state) {
	(void)state;
	rv_context *ctx = open_context(1, 64, 0);
	rv_adapter_slot *slot, *other;
	rv_hparams hp = shape();
	hp.n_ff = 256;
	rv_model *narrow = tiny_model_of(&hp, "qwen2", "F16", 3);
	assert_ok(rv_adapter_slot_create(&slot, model));
	assert_ok(rv_adapter_slot_create(&other, narrow));
	assert_int_equal(rv_context_follow_slot(ctx, SET, other, 1), RV_ERR_MISMATCH);
	assert_int_equal(rv_context_follow_slot(ctx, RV_ADAPTER_SETS, slot, 1), RV_ERR_INVALID);
	assert_int_equal(rv_context_follow_slot(ctx, SET, slot, NAN), RV_ERR_INVALID);
	assert_ok(rv_adapter_slot_publish(slot, adapters[0], NULL));
	assert_ok(rv_context_follow_slot(ctx, SET, slot, 1));
	assert_int_equal(rv_context_adapter_version(ctx, SET), 0); /* not before the next eval */
	assert_true(same(go_on(ctx, 0, 0, N_TOKENS), cold[0][0]));
	/* Nothing new: nothing changes. */
	const uint64_t version = rv_context_adapter_version(ctx, SET);
	go_on(ctx, 0, 0, 1);
	assert_int_equal(rv_context_adapter_version(ctx, SET), version);
	/* None published: the set is empty. */
	assert_ok(rv_adapter_slot_publish(slot, NULL, NULL));
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_true(same(go_on(ctx, 0, 0, N_TOKENS), cold[VERSIONS][0]));
	/* Ended: it stays as it was. */
	assert_ok(rv_adapter_slot_publish(slot, adapters[1], NULL));
	assert_ok(rv_context_poll_slots(ctx));
	assert_ok(rv_context_follow_slot(ctx, SET, NULL, 1));
	assert_ok(rv_adapter_slot_publish(slot, adapters[2], NULL));
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_true(same(go_on(ctx, 0, 0, N_TOKENS), cold[1][0]));
	assert_ok(rv_context_follow_slot(ctx, SET, slot, 1));
	use(ctx, adapters[3]);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_true(same(go_on(ctx, 0, 0, N_TOKENS), cold[3][0]));
	/* A swap that is refused leaves everything. */
	const rv_adapter_use bad = {adapters[0], INFINITY};
	assert_int_equal(rv_context_swap_adapters(ctx, SET, &bad, 1), RV_ERR_INVALID);
	rv_adapter *wrong = made_adapter(narrow, "of another shape", RV_ROLES_LAYER, 0, 2, 1);
	const rv_adapter_use misfit = {wrong, 1};
	assert_int_equal(rv_context_swap_adapters(ctx, SET, &misfit, 1), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), "of another shape: made for another shape"));
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_true(same(go_on(ctx, 0, 0, N_TOKENS), cold[3][0]));
	rv_adapter_release(wrong);
	rv_context_destroy(ctx);
	rv_adapter_slot_destroy(slot);
	rv_adapter_slot_destroy(other);
	rv_model_release(narrow);
}

/* Ranks beyond the reserve are taken too. */
static void large_ranks(void **state) {
	(void)state;
	rv_context *ctx = open_context(2, 64, 0);
	static float alone[N_VOCAB];
	rv_adapter *wide = made_adapter(model, "wide", rv_site_roles(RV_SITE_PROJ_QV), 0,
	                                RV_ADAPTER_SWAP_RANK + 5, 9);
	use(ctx, wide);
	memcpy(alone, go_on(ctx, 0, 0, N_TOKENS), sizeof alone);
	use(ctx, adapters[0]);
	assert_true(same(go_on(ctx, 1, 0, N_TOKENS), cold[0][0]));
	go_on(ctx, 2, 0, 9);
	const rv_adapter_use both[] = {{wide, 1}, {adapters[0], 1}, {wide, -1}};
	assert_ok(rv_context_swap_adapters(ctx, SET, both, 3)); /* while three hold tokens */
	go_on(ctx, 2, 0, 9);
	use(ctx, wide);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_true(same(go_on(ctx, 0, 0, N_TOKENS), alone));
	rv_adapter_release(wide);
	rv_context_destroy(ctx);
}

/* ---- time ---- */

/* What the token after a publication waits longer for: the newest version is taken over. */
static void swaps_take_no_time(void **state) {
	(void)state;
	enum { N = 201 };
	rv_context *ctx = open_context(1, 64, 0);
	rv_adapter_slot *slot;
	int64_t took[N];
	assert_ok(rv_adapter_slot_create(&slot, model));
	assert_ok(rv_context_follow_slot(ctx, SET, slot, 1));
	for (int i = 0; i < N; i++) {
		assert_ok(rv_adapter_slot_publish(slot, adapters[i % VERSIONS], NULL));
		const int64_t start = rv_now_ns();
		assert_ok(rv_context_poll_slots(ctx));
		took[i] = rv_now_ns() - start;
		go_on(ctx, 0, 0, 1);
		if (rv_seq_length(ctx, 0) == N_CTX)
			assert_ok(rv_seq_truncate(ctx, 0, 0));
	}
	for (int i = 1; i < N; i++)
		for (int j = i; j > 0 && took[j] < took[j - 1]; j--) {
			int64_t t = took[j];
			took[j] = took[j - 1];
			took[j - 1] = t;
		}
	print_message("# a swap takes %.2f us, at most %.2f us\n", (double)took[N / 2] / 1e3,
	              (double)took[N - 1] / 1e3);
	assert_true(took[N / 2] < 1000000);
	rv_context_destroy(ctx);
	rv_adapter_slot_destroy(slot);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(tokens_are_of_one_version),
	        cmocka_unit_test(following),
	        cmocka_unit_test(large_ranks),
	        cmocka_unit_test(swaps_take_no_time),
	};
	return cmocka_run_group_tests(tests, open_model, close_model);
}
