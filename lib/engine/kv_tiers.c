#include "engine/kv_tiers.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "base/vm.h"
#include "engine/backend_cpu.h"

#include <string.h>

typedef struct replaced {
	int32_t seq;
	int64_t i;
	rv_kv_page page; /* its reference is ours */
} replaced;

struct rv_kv_tiers {
	rv_kv_policy policy;
	rv_kv_pages *pages;
	const rv_kv_calibration *calibration;
	const rv_hparams *hp;
	const rv_kernels *k;
	rv_threads *threads;
	int formats[RV_KV_TIERS + 1]; /* of pages, by tier */
	int64_t page_tokens, block_tokens, n_lanes;
	int32_t n_seqs;
	rv_kv_coding *codings; /* [n_layers] */
	float *rope;           /* [n_ctx / block_tokens][n_rot / 2][cos, sin][block_tokens] */
	size_t rope_bytes;
	float *scratch;        /* [threads][RV_ATTN_BLOCK * head_dim] */
	int64_t *n_done;       /* [n_seqs] complete pages the tiers are right for; -1: not known */
	const int64_t *before; /* [n_seqs] tokens whose pages rollback must find */
	replaced *undo;
	int64_t n_undo, undo_room;
	int64_t n_encoded, n_taken, encode_ns, encode_max_ns;
};

/* ---- life ---- */

static rv_status check_calibration(const rv_kv_policy *p, const rv_kv_calibration *c,
                                   const rv_hparams *hp) {
	if (!rv_kv_policy_needs_calibration(p))
		return RV_OK;
	if (!c)
		return rv_fail(RV_ERR_INVALID, "KV policy %s: needs a calibration of the model",
		               p->name);
	return c->n_layers == hp->n_layers && c->n_kv_heads == hp->n_kv_heads &&
	                       c->head_dim == hp->head_dim
	               ? RV_OK
	               : rv_fail(RV_ERR_INVALID, "KV policy %s: calibration of another shape", p->name);
}

/* Rotations of all positions as the forward pass makes them. */
static rv_status make_rope(rv_kv_tiers *t, rv_backend *backend, int64_t n_ctx, const rv_weight *freqs) {
	const int64_t n = t->block_tokens, n_rot = t->hp->n_rot, blocks = (n_ctx + n - 1) / n;
	rv_row rows[RV_ATTN_BLOCK];
	rv_buffer buffer;
	buffer.bytes = (size_t)(n * n_rot) * sizeof(float);
	t->rope_bytes = (size_t)(blocks * n * n_rot) * sizeof(float);
	RV_TRY(rv_vm_alloc((void **)&t->rope, t->rope_bytes, "KV rotations"));
	RV_TRY(rv_alloc(&buffer.base, 1, buffer.bytes, "KV rotations"));
	const rv_tensor table = {&buffer, 0, n, n_rot};
	rv_status st = RV_OK;
	for (int64_t b = 0; b < blocks && st == RV_OK; b++) {
		for (int64_t i = 0; i < n; i++)
			rows[i] = (rv_row){.position = (int32_t)(b * n + i), .parent = -1};
		st = backend->ops->rope_table(backend, table, rows, t->hp, freqs);
		for (int64_t i = 0; i < n; i++)
			for (int64_t r = 0; r < n_rot; r++)
				t->rope[(b * n_rot + r) * n + i] = rv_tensor_row(table, i)[r];
	}
	rv_free(buffer.base);
	return st;
}

static rv_status add_formats(rv_kv_tiers *t, rv_kv_type tail) {
	rv_kv_format *of_layer;
	t->formats[0] = (int)tail;
	RV_TRY(RV_ALLOC(&of_layer, t->hp->n_layers, "KV policy"));
	rv_status st = RV_OK;
	for (int i = 0; i < t->policy.n_tiers && st == RV_OK; i++) {
		for (int64_t layer = 0; layer < t->hp->n_layers; layer++)
			of_layer[layer] = rv_kv_tier_format(&t->policy.tiers[i], layer);
		st = rv_kv_pages_add_format(t->pages, of_layer, &t->formats[i + 1]);
	}
	rv_free(of_layer);
	return st;
}

static rv_status open_codings(rv_kv_tiers *t, rv_backend *backend, const rv_context_options *o,
                              const rv_model *model) {
	RV_TRY(RV_ALLOC(&t->codings, t->hp->n_layers, "KV policy"));
	if (rv_kv_policy_needs_calibration(&t->policy))
		RV_TRY(make_rope(t, backend, o->n_ctx, rv_model_weight(model, RV_ROPE_FREQS, 0)));
	for (int64_t i = 0; i < t->hp->n_layers; i++)
		t->codings[i] = (rv_kv_coding){
		        .block = {.n = t->block_tokens,
		                  .head_dim = t->hp->head_dim,
		                  .n_rot = t->hp->n_rot,
		                  .neox = rv_model_arch(model)->rope_neox,
		                  .books = t->calibration ? t->calibration->books + i * RV_KV_BOOKS
		                                          : NULL},
		        .rope = t->rope};
	rv_kv_pages_set_codings(t->pages, t->codings);
	return RV_OK;
}

static rv_status create_into(rv_kv_tiers *t, rv_backend *backend, const rv_context_options *o,
                             const rv_model *model) {
	t->hp = rv_model_hparams(model);
	t->k = rv_kernels_for(o->level);
	t->threads = ((rv_cpu *)backend)->threads;
	t->page_tokens = rv_kv_pages_page_tokens(t->pages);
	t->block_tokens = t->page_tokens < RV_ATTN_BLOCK ? t->page_tokens : RV_ATTN_BLOCK;
	t->n_lanes = rv_kv_pages_n_lanes(t->pages);
	t->n_seqs = o->n_seqs;
	RV_TRY(check_calibration(&t->policy, t->calibration, t->hp));
	RV_TRY(add_formats(t, o->kv_type));
	RV_TRY(open_codings(t, backend, o, model));
	RV_TRY(RV_ALLOC(&t->scratch, rv_threads_count(t->threads) * RV_ATTN_BLOCK * t->hp->head_dim,
	                "KV policy"));
	t->undo_room =
	        2 * (int64_t)o->n_seqs; /* what a step of decoding can need; longer calls grow it */
	RV_TRY(RV_ALLOC(&t->undo, t->undo_room, "KV policy"));
	return RV_ALLOC(&t->n_done, o->n_seqs, "KV policy");
}

rv_status rv_kv_tiers_create(rv_kv_tiers **out, const rv_kv_policy *policy,
                             const rv_kv_calibration *calibration, rv_kv_pages *pages,
                             rv_backend *backend, const rv_context_options *options,
                             const rv_model *model) {
	rv_kv_tiers *t;
	*out = NULL;
	RV_TRY(RV_ALLOC(&t, 1, "KV policy"));
	t->policy = *policy;
	t->pages = pages;
	t->calibration = calibration;
	rv_status st = create_into(t, backend, options, model);
	if (st != RV_OK) {
		rv_kv_tiers_destroy(t);
		return st;
	}
	*out = t;
	return RV_OK;
}

void rv_kv_tiers_destroy(rv_kv_tiers *t) {
	if (!t)
		return;
	rv_kv_tiers_commit(t);
	rv_kv_pages_set_codings(t->pages, NULL);
	rv_vm_free(t->rope, t->rope_bytes);
	rv_free(t->codings);
	rv_free(t->scratch);
	rv_free(t->undo);
	rv_free(t->n_done);
	rv_free(t);
}

/* ---- one page ---- */

typedef struct encode_job {
	const rv_kv_tiers *t;
	rv_kv_page from, to;
	int64_t first; /* position */
} encode_job;

static rv_status encode_lanes(void *arg, int64_t begin, int64_t end, int thread) {
	const encode_job *j = arg;
	const rv_kv_tiers *t = j->t;
	const int64_t n = t->block_tokens, d = t->hp->head_dim;
	float *scratch = t->scratch + thread * RV_ATTN_BLOCK * d;
	for (int64_t lane = begin; lane < end; lane++) {
		const rv_kv_coding *coding = &t->codings[lane / t->hp->n_kv_heads];
		const rv_kv_lane from = rv_kv_page_lane(t->pages, j->from, lane),
		                 to = rv_kv_page_lane(t->pages, j->to, lane);
		const size_t from_keys = rv_kv_keys_bytes(from.type, n, d),
		             from_values = rv_kv_values_bytes(from.type, n, d),
		             to_keys = rv_kv_keys_bytes(to.type, n, d),
		             to_values = rv_kv_values_bytes(to.type, n, d);
		rv_kv_code_block b = coding->block;
		b.feedback = t->calibration ? t->calibration->feedback + lane * d * d : NULL;
		for (int64_t i = 0; i < t->page_tokens / n; i++) {
			const size_t s = (size_t)i;
			b.rope = coding->rope ? coding->rope + (j->first / n + i) * n * b.n_rot : NULL;
			rv_kv_recode(t->k, to.type, to.keys + s * to_keys, to.values + s * to_values,
			             from.type, from.keys + s * from_keys,
			             from.values + s * from_values, &b, scratch);
		}
	}
	return RV_OK;
}

static rv_status encode(rv_kv_tiers *t, rv_kv_page page, int format, int64_t first, rv_kv_page *out) {
	RV_TRY(rv_kv_page_create(t->pages, format, out));
	encode_job job = {t, page, *out, first};
	int64_t start = rv_now_ns();
	rv_status st = rv_threads_for(t->threads, t->n_lanes, 1, encode_lanes, &job);
	int64_t ns = rv_now_ns() - start;
	if (st != RV_OK) {
		rv_kv_page_release(t->pages, *out);
		return st;
	}
	t->n_encoded++;
	t->encode_ns += ns;
	t->encode_max_ns = ns > t->encode_max_ns ? ns : t->encode_max_ns;
	if (rv_kv_page_refs(t->pages, page) > 1)
		rv_kv_page_set_twin(t->pages, page, *out);
	return RV_OK;
}

static rv_status remember(rv_kv_tiers *t, replaced r) {
	if (t->n_undo == t->undo_room) {
		RV_TRY(RV_GROW(&t->undo, t->undo_room, 2 * t->undo_room, "KV policy"));
		t->undo_room *= 2;
	}
	t->undo[t->n_undo++] = r;
	return RV_OK;
}

/* Page i of a sequence goes over to the next colder tier. */
static rv_status move(rv_kv_tiers *t, int32_t seq, int64_t i, int tier) {
	const rv_kv_page *table;
	rv_kv_seq_pages(t->pages, seq, &table);
	rv_kv_page old = table[i], page = rv_kv_page_twin(t->pages, old, t->formats[tier]);
	if (page >= 0) {
		rv_kv_page_retain(t->pages, page);
		t->n_taken++;
	} else {
		RV_TRY(encode(t, old, t->formats[tier], i * t->page_tokens, &page));
	}
	rv_status st = RV_OK;
	if (!t->before || i * t->page_tokens < t->before[seq])
		st = remember(t, (replaced){seq, i, old});
	else
		rv_kv_page_release(t->pages, old);
	if (st != RV_OK) {
		rv_kv_page_release(t->pages, page);
		return st;
	}
	rv_kv_seq_replace(t->pages, seq, i, page);
	return RV_OK;
}

/* ---- a sequence ---- */

static int tier_of(const rv_kv_tiers *t, rv_kv_page page) {
	int format = rv_kv_page_format(t->pages, page);
	for (int tier = 1; tier <= t->policy.n_tiers; tier++)
		if (t->formats[tier] == format)
			return tier;
	return 0;
}

rv_status rv_kv_tiers_advance(rv_kv_tiers *t, int32_t seq, int64_t length) {
	const rv_kv_page *table;
	const int64_t n = length / t->page_tokens;
	if (t->n_done[seq] == n)
		return RV_OK;
	rv_kv_seq_pages(t->pages, seq, &table);
	for (int64_t i = 0; i < n; i++) {
		int want = rv_kv_policy_tier(&t->policy, i, n, t->page_tokens);
		if (want == 0)
			break; /* and so are those after it */
		for (int tier = tier_of(t, table[i]); tier < want;)
			RV_TRY(move(t, seq, i, ++tier));
	}
	t->n_done[seq] = n;
	return RV_OK;
}

void rv_kv_tiers_begin(rv_kv_tiers *t, const int64_t *length) {
	t->before = length;
}

void rv_kv_tiers_commit(rv_kv_tiers *t) {
	while (t->n_undo > 0)
		rv_kv_page_release(t->pages, t->undo[--t->n_undo].page);
}

void rv_kv_tiers_rollback(rv_kv_tiers *t) {
	while (t->n_undo > 0) {
		const replaced *r = &t->undo[--t->n_undo];
		const rv_kv_page *table;
		rv_kv_seq_pages(t->pages, r->seq, &table);
		rv_kv_page_release(t->pages, table[r->i]);
		rv_kv_seq_replace(t->pages, r->seq, r->i, r->page);
	}
	for (int32_t s = 0; s < t->n_seqs; s++)
		t->n_done[s] = -1;
}

void rv_kv_tiers_touch(rv_kv_tiers *t, int32_t seq) {
	t->n_done[seq] = -1;
}

/* ---- what others may do with pages ---- */

rv_status rv_kv_tiers_check_cut(const rv_kv_tiers *t, const rv_kv_page *pages, int64_t length) {
	if (length % t->page_tokens == 0 || tier_of(t, pages[length / t->page_tokens]) == 0)
		return RV_OK;
	return rv_fail(RV_ERR_UNSUPPORTED,
	               "KV policy %s: position %lld is within a page that has left the tail; cut at a "
	               "multiple of %lld tokens",
	               t->policy.name, (long long)length, (long long)t->page_tokens);
}

rv_status rv_kv_tiers_check_attach(const rv_kv_tiers *t, const rv_kv_page *pages, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		if (tier_of(t, pages[i]) > rv_kv_policy_tier(&t->policy, i, n, t->page_tokens))
			return rv_fail(
			        RV_ERR_MISMATCH,
			        "KV policy %s: page %lld is stored more coarsely than a sequence "
			        "of %lld pages has it",
			        t->policy.name, (long long)i, (long long)n);
	return RV_OK;
}

/* ---- what it did ---- */

void rv_kv_tiers_stats(const rv_kv_tiers *t, rv_kv_tier_stats *out) {
	*out = (rv_kv_tier_stats){.n_encoded = t->n_encoded,
	                          .n_taken = t->n_taken,
	                          .encode_ns = t->encode_ns,
	                          .encode_max_ns = t->encode_max_ns};
	for (int tier = 0; tier <= t->policy.n_tiers; tier++)
		out->page_bytes[tier] = rv_kv_pages_page_bytes(t->pages, t->formats[tier]);
	for (int32_t s = 0; s < t->n_seqs; s++) {
		const rv_kv_page *table;
		int64_t n = rv_kv_seq_pages(t->pages, s, &table);
		for (int64_t i = 0; i < n; i++)
			out->n_pages[tier_of(t, table[i])]++;
	}
}

const rv_kv_policy *rv_kv_tiers_policy(const rv_kv_tiers *t) {
	return &t->policy;
}
