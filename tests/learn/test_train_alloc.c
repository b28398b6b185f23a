/* Every allocation of a trainer's life, and of what learns beside it, made to fail in turn:
 * RV_ERR_NO_MEMORY, nothing leaked, and what existed before goes on. */
#include "learn/consolidate.h"
#include "learn/ewc.h"
#include "learn/gradient_cosine.h"
#include "learn/replay.h"
#include "tests/learn/train_fixture.h"

#include <stdint.h>

static int64_t live; /* blocks of rv_alloc not yet freed */
static int calls, fail_at;

enum { MAX_BLOCKS = 1024 };
static void *blocks[MAX_BLOCKS];

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	void *p =
	        ++calls == fail_at || live == MAX_BLOCKS ? NULL : __real_aligned_alloc(alignment, size);
	if (p)
		blocks[live++] = p;
	return p;
}

void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p) {
	for (int64_t i = 0; p && i < live; i++)
		if (blocks[i] == p) {
			blocks[i] = blocks[--live];
			break;
		}
	__real_free(p);
}

typedef struct life {
	const rv_model *model;
	const char *path;
	int longer; /* lives that came to the longer sequences */
} life;

static int32_t tokens[FIX_SEQS * (FIX_CTX + 1)];

static rv_status live_through(rv_trainer *t, life *l) {
	RV_TRY(rv_trainer_step(t, tokens, NULL, FIX_SEQS, NULL));
	RV_TRY(rv_trainer_save(t, l->path, "n", 1));
	RV_TRY(rv_trainer_export(t, l->path, NULL));
	RV_TRY(rv_trainer_save(t, l->path, "n", 1));
	void *note;
	RV_TRY(rv_trainer_load(t, l->path, &note, NULL));
	rv_free(note);
	rv_status st = rv_trainer_set_ctx(t, 2 * FIX_CTX);
	if (st != RV_OK) {
		/* no room for longer sequences: those there were still go */
		fail_at = 0;
		assert_int_equal(rv_trainer_get_options(t)->n_ctx, FIX_CTX);
		assert_ok(rv_trainer_step(t, tokens, NULL, FIX_SEQS, NULL));
		l->longer++;
	}
	return st;
}

static rv_status one_life(life *l) {
	rv_trainer_options o = fix_options();
	rv_trainer *t = NULL;
	o.n_threads = 1;
	rv_status st = rv_trainer_create_from(&t, l->model, l->model, &o);
	if (st != RV_OK) {
		assert_null(t);
		return st;
	}
	st = live_through(t, l);
	rv_trainer_destroy(t);
	return st;
}

/* ---- LoRA with an elastic memory, replay, consolidation ---- */

typedef struct parts {
	rv_trainer *t;
	rv_ewc *ewc, *ewc_back;
	rv_replay *replay, *replay_back;
	rv_adapter *adapter, *svd, *ema;
	rv_gradient_set gradient;
} parts;

static rv_status remember(parts *p, const life *l) {
	RV_TRY(rv_ewc_create(&p->ewc, p->t, 0.5));
	RV_TRY(rv_ewc_observe(p->ewc, p->t, tokens, NULL, 3));
	RV_TRY(rv_trainer_set_ewc(p->t, p->ewc, 2));
	RV_TRY(rv_ewc_save(p->ewc, l->path));
	RV_TRY(rv_ewc_load(&p->ewc_back, l->path));
	RV_TRY(rv_replay_create(&p->replay, FIX_CTX, 20, 1));
	RV_TRY(rv_replay_offer(p->replay, tokens, NULL, FIX_SEQS));
	RV_TRY(rv_replay_save(p->replay, l->path));
	RV_TRY(rv_replay_load(&p->replay_back, l->path));
	return rv_replay_draw(p->replay, 0, 2, tokens, NULL);
}

static rv_status use(parts *p, const life *l) {
	const double weights[2] = {0.9, 0.1};
	RV_TRY(rv_trainer_accumulate(p->t, tokens, NULL, 4));
	RV_TRY(rv_trainer_lora_gradient(p->t, &p->gradient));
	RV_TRY(rv_trainer_update(p->t, NULL));
	RV_TRY(rv_trainer_adapter(&p->adapter, p->t, l->model, "one"));
	rv_adapter *const both[2] = {p->adapter, p->adapter};
	RV_TRY(rv_consolidate(&p->svd, RV_CONSOLIDATE_SVD, l->model, "s", both, weights, 2, 3, NULL));
	RV_TRY(rv_consolidate(&p->ema, RV_CONSOLIDATE_EMA, l->model, "e", both, weights, 2, 3, NULL));
	RV_TRY(rv_trainer_export(p->t, l->path, NULL));
	return rv_trainer_restart(p->t, p->adapter, 0, NULL);
}

static rv_status lora_life(life *l) {
	rv_trainer_options o = fix_options();
	parts p = {0};
	o.n_threads = 1;
	o.lora_rank = 2;
	o.lora_layers = "1";
	o.lora_targets = "q,down";
	rv_status st = rv_trainer_create_lora(&p.t, l->model, NULL, &o);
	if (st == RV_OK)
		st = remember(&p, l);
	if (st == RV_OK)
		st = use(&p, l);
	rv_trainer_destroy(p.t);
	rv_ewc_destroy(p.ewc);
	rv_ewc_destroy(p.ewc_back);
	rv_replay_destroy(p.replay);
	rv_replay_destroy(p.replay_back);
	rv_adapter_release(p.adapter);
	rv_adapter_release(p.svd);
	rv_adapter_release(p.ema);
	rv_gradient_set_deinit(&p.gradient);
	return st;
}

/* Allocations of a life; each is made to fail once. */
static int fail_each(rv_status (*live_once)(life *), life *l) {
	const int64_t before = live;
	for (int n = 1;; n++) {
		calls = 0;
		fail_at = n;
		const rv_status st = live_once(l);
		fail_at = 0;
		assert_int_equal(live, before);
		if (st == RV_OK)
			return n;
		assert_int_equal(st, RV_ERR_NO_MEMORY);
	}
}

static void every_allocation(void **state) {
	(void)state;
	char path[1024], base[1024];
	fix_path(path, "alloc");
	fix_path(base, "alloc-base");
	rv_model *model;
	rv_trainer_options o = fix_options();
	rv_trainer *t = fix_trainer(&o);
	assert_ok(rv_trainer_export(t, base, NULL));
	rv_trainer_destroy(t);
	assert_ok(rv_model_open(&model, base, NULL));
	fix_batch(tokens, 0);
	life l = {.model = model, .path = path};
	assert_true(fail_each(one_life, &l) > 30 && l.longer >= 2);
	assert_true(fail_each(lora_life, &l) > 60);
	rv_model_release(model);
	unlink(path);
	unlink(base);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
