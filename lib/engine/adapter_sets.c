/* Sets of adapters of a context, version by version, and which version each sequence stands under. */
#include "base/mem.h"
#include "base/vm.h"
#include "engine/context_internal.h"
#include "model/adapter_slot.h"

#include <math.h>

/* ---- versions ---- */

rv_adapter_set *rv_adapter_set_retain(rv_adapter_set *set) {
	set->n_refs++;
	return set;
}

static void release_uses(rv_adapter_use *uses, int n) {
	for (int i = 0; i < n; i++)
		rv_adapter_release(uses[i].adapter);
}

void rv_adapter_set_release(rv_context *ctx, rv_adapter_set *set) {
	if (!set || --set->n_refs > 0 || set == &ctx->sets.empty)
		return;
	release_uses(set->uses, set->n);
	set->next = ctx->sets.unused;
	ctx->sets.unused = set;
}

static rv_status new_version(rv_context *ctx, const rv_adapter_use *uses, int n, rv_adapter_set **out) {
	rv_adapter_set *set = ctx->sets.unused;
	if (n == 0) {
		*out = rv_adapter_set_retain(&ctx->sets.empty);
		return RV_OK;
	}
	if (set)
		ctx->sets.unused = set->next;
	else
		RV_TRY(RV_ALLOC(&set, 1, "set of adapters"));
	*set = (rv_adapter_set){.n = n, .n_refs = 1, .version = ++ctx->sets.n_versions};
	for (int i = 0; i < n; i++) {
		set->uses[i] = uses[i];
		rv_adapter_retain(uses[i].adapter);
	}
	*out = set;
	return RV_OK;
}

/* ---- scratch ---- */

static size_t low_bytes(int64_t n_batch, int64_t width) {
	return (size_t)RV_MAX_PRODUCTS * (size_t)n_batch * (size_t)width * sizeof(float);
}

size_t rv_context_sets_bytes(int64_t n_batch) {
	return low_bytes(n_batch, RV_ADAPTER_SWAP_RANK);
}

static rv_status widen(rv_context *ctx, int64_t width) {
	rv_deltas *d = &ctx->deltas;
	void *low;
	if (width <= d->width)
		return RV_OK;
	RV_TRY(rv_vm_alloc(&low, low_bytes(ctx->options.n_batch, width), "adapters"));
	rv_vm_free(d->low, low_bytes(d->n_batch, d->width));
	*d = (rv_deltas){.of_seq = ctx->sets.of_seq,
	                 .low = low,
	                 .n_batch = ctx->options.n_batch,
	                 .width = width};
	return RV_OK;
}

/* ---- changing a set ---- */

static rv_status check_uses(const rv_context *ctx, int32_t set, const rv_adapter_use *uses, int n) {
	if (set < 0 || set >= RV_ADAPTER_SETS || n < 0 || n > RV_ADAPTER_SET_USES)
		return rv_fail(RV_ERR_INVALID, "set of adapters %d with %d: at most %d sets of %d", set,
		               n, RV_ADAPTER_SETS, RV_ADAPTER_SET_USES);
	for (int i = 0; i < n; i++) {
		if (!isfinite(uses[i].scale))
			return rv_fail(RV_ERR_INVALID, "%s: scale %g", rv_adapter_path(uses[i].adapter),
			               uses[i].scale);
		if (!rv_adapter_fits(uses[i].adapter, ctx->model))
			return rv_fail(RV_ERR_MISMATCH, "%s: made for another shape than %s",
			               rv_adapter_path(uses[i].adapter), rv_model_path(ctx->model));
	}
	return RV_OK;
}

static rv_status install(rv_context *ctx, int32_t set, const rv_adapter_use *uses, int n) {
	rv_adapter_set *next;
	int64_t width = 0;
	RV_TRY(check_uses(ctx, set, uses, n));
	for (int i = 0; i < n; i++)
		width += rv_deltas_round(rv_adapter_max_rank(uses[i].adapter));
	RV_TRY(widen(ctx, width));
	RV_TRY(new_version(ctx, uses, n, &next));
	rv_adapter_set_release(ctx, ctx->sets.now[set]);
	ctx->sets.now[set] = next;
	return RV_OK;
}

static void unfollow(rv_context *ctx, int32_t set) {
	ctx->sets.n_follows -= ctx->sets.follows[set].slot != NULL;
	ctx->sets.follows[set].slot = NULL;
}

rv_status rv_context_swap_adapters(rv_context *ctx, int32_t set, const rv_adapter_use *uses, int n) {
	RV_TRY(install(ctx, set, uses, n));
	unfollow(ctx, set);
	return RV_OK;
}

rv_status rv_context_set_adapters(rv_context *ctx, int32_t set, const rv_adapter_use *uses, int n) {
	for (int32_t s = 0; s < ctx->options.n_seqs; s++)
		if (ctx->length[s] > 0)
			return rv_fail(RV_ERR_INVALID,
			               "set of adapters %d cannot change: sequence %d holds tokens",
			               set, s);
	RV_TRY(rv_context_swap_adapters(ctx, set, uses, n));
	ctx->sets.n_settings[set]++;
	return RV_OK;
}

uint64_t rv_context_adapter_version(const rv_context *ctx, int32_t set) {
	return set < 0 || set >= RV_ADAPTER_SETS ? 0 : ctx->sets.now[set]->version;
}

/* ---- following a slot ---- */

static rv_status take_newest(rv_context *ctx, int32_t set) {
	rv_adapter_slot *slot = ctx->sets.follows[set].slot;
	uint64_t version;
	if (rv_adapter_slot_version(slot) == ctx->sets.follows[set].seen)
		return RV_OK;
	const rv_adapter_use use = {rv_adapter_slot_acquire(slot, &version),
	                            ctx->sets.follows[set].scale};
	rv_status status = install(ctx, set, &use, use.adapter != NULL);
	rv_adapter_release(use.adapter);
	if (status == RV_OK)
		ctx->sets.follows[set].seen = version;
	return status;
}

rv_status rv_context_poll_slots(rv_context *ctx) {
	for (int32_t set = 0, left = ctx->sets.n_follows; left > 0; set++) {
		if (!ctx->sets.follows[set].slot)
			continue;
		RV_TRY(take_newest(ctx, set));
		left--;
	}
	return RV_OK;
}

static rv_status check_slot(const rv_context *ctx, const rv_adapter_slot *slot) {
	const rv_model *of = rv_adapter_slot_model(slot);
	return rv_model_arch(of) == rv_model_arch(ctx->model) &&
	                       rv_hparams_same_shape(rv_model_hparams(of), rv_model_hparams(ctx->model))
	               ? RV_OK
	               : rv_fail(RV_ERR_MISMATCH, "a slot for adapters of %s: of another shape than %s",
	                         rv_model_path(of), rv_model_path(ctx->model));
}

rv_status rv_context_follow_slot(rv_context *ctx, int32_t set, rv_adapter_slot *slot, double scale) {
	RV_TRY(check_uses(ctx, set, NULL, 0));
	if (!isfinite(scale))
		return rv_fail(RV_ERR_INVALID, "set of adapters %d: scale %g", set, scale);
	if (slot)
		RV_TRY(check_slot(ctx, slot));
	unfollow(ctx, set);
	if (!slot)
		return RV_OK;
	ctx->sets.follows[set].slot = slot;
	ctx->sets.follows[set].scale = scale;
	ctx->sets.follows[set].seen = UINT64_MAX; /* an empty slot empties the set */
	ctx->sets.n_follows++;
	return RV_OK;
}

/* ---- sequences ---- */

static void take_set(rv_context *ctx, int32_t seq, rv_adapter_set *set) {
	rv_adapter_set *before = ctx->sets.of_seq[seq];
	if (before == set)
		return;
	ctx->sets.of_seq[seq] = rv_adapter_set_retain(set);
	rv_adapter_set_release(ctx, before);
}

void rv_context_sets_admit(rv_context *ctx, const rv_row *row, int64_t length) {
	int stays = ctx->sets.seq_held[row->seq] || (length > 0 && ctx->options.pin_adapters);
	if (!stays)
		take_set(ctx, row->seq, ctx->sets.now[ctx->seq_adapter[row->seq]]);
	ctx->adapted |= ctx->sets.of_seq[row->seq]->n > 0;
}

void rv_context_sets_commit(rv_context *ctx, const rv_row *rows, int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		const int32_t seq = rows[i].seq;
		const uint64_t version = ctx->sets.of_seq[seq]->version;
		uint64_t *of_all = &ctx->sets.seq_version[seq];
		if (ctx->old_length[seq] == 0)
			*of_all = version;
		else if (*of_all != version)
			*of_all = RV_ADAPTER_MIXED;
		ctx->sets.seq_held[seq] = 0;
	}
}

uint64_t rv_seq_adapter_version(const rv_context *ctx, int32_t seq) {
	return rv_seq_length(ctx, seq) > 0 ? ctx->sets.seq_version[seq] : 0;
}

void rv_seq_put_set(rv_context *ctx, int32_t seq, rv_adapter_set *set, uint64_t version, int hold) {
	take_set(ctx, seq, set);
	ctx->sets.seq_version[seq] = version;
	ctx->sets.seq_held[seq] = (uint8_t)hold;
}

void rv_seq_copy_set(rv_context *ctx, int32_t from, int32_t to) {
	rv_seq_put_set(ctx, to, ctx->sets.of_seq[from], ctx->sets.seq_version[from],
	               ctx->sets.seq_held[from]);
}

rv_seq_stand rv_seq_stand_take(const rv_context *ctx, int32_t seq) {
	return (rv_seq_stand){ctx->seq_adapter[seq], rv_adapter_set_retain(ctx->sets.of_seq[seq]),
	                      ctx->sets.seq_version[seq]};
}

void rv_seq_stand_put(rv_context *ctx, int32_t seq, const rv_seq_stand *stand) {
	ctx->seq_adapter[seq] = stand->adapter;
	rv_seq_put_set(ctx, seq, stand->set, stand->version, 0);
}

void rv_seq_stand_drop(rv_context *ctx, rv_seq_stand *stand) {
	rv_adapter_set_release(ctx, stand->set);
	stand->set = NULL;
}

/* ---- life ---- */

static rv_status keep_first(rv_context *ctx) {
	rv_context_options *o = &ctx->options;
	RV_TRY(rv_context_set_adapters(ctx, 0, o->adapters, o->n_adapters));
	for (; ctx->sets.n_first < o->n_adapters; ctx->sets.n_first++) {
		ctx->sets.first[ctx->sets.n_first] = o->adapters[ctx->sets.n_first];
		rv_adapter_retain(o->adapters[ctx->sets.n_first].adapter);
	}
	o->adapters = ctx->sets.first;
	return RV_OK;
}

rv_status rv_context_sets_open(rv_context *ctx) {
	rv_context_sets *s = &ctx->sets;
	const int32_t n_seqs = ctx->options.n_seqs;
	for (int32_t set = 0; set < RV_ADAPTER_SETS; set++)
		s->now[set] = rv_adapter_set_retain(&s->empty);
	RV_TRY(RV_ALLOC(&s->of_seq, n_seqs, "sequences"));
	for (int32_t i = 0; i < n_seqs; i++)
		s->of_seq[i] = rv_adapter_set_retain(&s->empty);
	RV_TRY(RV_ALLOC(&s->seq_version, n_seqs, "sequences"));
	RV_TRY(RV_ALLOC(&s->seq_held, n_seqs, "sequences"));
	RV_TRY(widen(ctx, RV_ADAPTER_SWAP_RANK));
	return keep_first(ctx);
}

void rv_context_sets_close(rv_context *ctx) {
	rv_context_sets *s = &ctx->sets;
	for (int32_t set = 0; set < RV_ADAPTER_SETS; set++)
		rv_adapter_set_release(ctx, s->now[set]);
	for (int32_t i = 0; s->of_seq && i < ctx->options.n_seqs; i++)
		rv_adapter_set_release(ctx, s->of_seq[i]);
	while (s->unused) {
		rv_adapter_set *next = s->unused->next;
		rv_free(s->unused);
		s->unused = next;
	}
	release_uses(s->first, s->n_first);
	rv_free(s->of_seq);
	rv_free(s->seq_version);
	rv_free(s->seq_held);
	rv_vm_free(ctx->deltas.low, low_bytes(ctx->deltas.n_batch, ctx->deltas.width));
}
