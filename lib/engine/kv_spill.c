#include "engine/kv_spill.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "engine/context_internal.h"

#include <stdio.h>
#include <string.h>

#define MAGIC "RVKVSEQ\n"
#define VERSION 1
#define IDENTITY_BYTES 2048 /* at most, terminating NUL included */

typedef struct header {
	char magic[8];
	uint32_t version;
	uint32_t n_identity; /* bytes of the identity that follows */
	uint64_t n_tokens;
	uint64_t n_ids;  /* that follow the identity: n_tokens or 0 */
	uint64_t n_runs; /* that follow the ids */
} header;
_Static_assert(sizeof(header) == 40, "header of a sequence's file");

/* Positions whose rows have one type, in every lane (the keys and values of a layer and KV head). */
typedef struct run {
	uint32_t type; /* rv_kv_type */
	uint32_t n_tokens;
} run;
_Static_assert(sizeof(run) == 8, "run of a sequence's file");

/* ---- identity ---- */

/* Digest of what an adapter adds: its factors and their scale, not its name. */
static void adapter_digest(const rv_adapter_use *use, char hex[65]) {
	const rv_gguf *gguf = rv_adapter_gguf(use->adapter);
	struct {
		char factors[65];
		char name[65];
		char data[65];
		char scale[32], alpha[32];
	} text;
	memset(&text, 0, sizeof text);
	double alpha = 0;
	if (rv_gguf_find(gguf, "adapter.lora.alpha"))
		rv_gguf_double(gguf, "adapter.lora.alpha", &alpha);
	rv_text_double(text.scale, use->scale);
	rv_text_double(text.alpha, alpha);
	for (size_t i = 0; i < rv_gguf_n_tensors(gguf); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(gguf, i);
		memcpy(text.name, t->name, sizeof text.name);
		rv_sha256_hex(t->data, t->n_bytes, text.data);
		rv_sha256_hex(&text, sizeof text, text.factors);
	}
	memcpy(hex, text.factors, 65);
}

static const char *const attentions[RV_ATTN_COUNT] = {"flash", "standard", "standard-causal"};

/* How positions turn keys and queries. */
static void rope_text(const rv_rope_scaling *r, const rv_hparams *hp, char *text, size_t size) {
	char number[5][32];
	const double values[] = {hp->rope_theta, r->factor, r->beta_fast, r->beta_slow, r->attn_factor};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		rv_text_double(number[i], values[i]);
	int n = snprintf(text, size, "%lld elements, theta %s, scaling %s", (long long)hp->n_rot,
	                 number[0], rv_rope_kind_name(r->kind));
	if (r->kind != RV_ROPE_NONE)
		snprintf(text + n, size - (size_t)n, " %s of %lld, beta %s to %s, magnitude %s",
		         number[1], (long long)r->n_ctx_original, number[2], number[3], number[4]);
}

/* One line a thing that decides the bits of keys and values. */
static rv_status identity(const rv_context *ctx, int32_t adapter, char text[IDENTITY_BYTES]) {
	const rv_context_options *o = &ctx->options;
	char model[65], digest[65], rope[256];
	RV_TRY(rv_model_sha256(ctx->model, model));
	rope_text(&o->rope, rv_model_hparams(ctx->model), rope, sizeof rope);
	int n = snprintf(text, IDENTITY_BYTES,
	                 "model %s\ncache %s\nrope %s\nbackend %s, %s, %s attention\nadapters", model,
	                 rv_kv_type_name(o->kv_type), rope, rv_backend_name(o->backend),
	                 rv_level_name(o->level), attentions[o->attention]);
	for (int i = 0; i < ctx->sets[adapter].n; i++) {
		adapter_digest(&ctx->sets[adapter].uses[i], digest);
		n += snprintf(text + n, (size_t)(IDENTITY_BYTES - n), " %s", digest);
	}
	snprintf(text + n, (size_t)(IDENTITY_BYTES - n), "%s\n",
	         ctx->sets[adapter].n == 0 ? " none" : "");
	return RV_OK;
}

/* The first line in which the file's identity is not the one here. */
static rv_status other_identity(const char *path, const char *file, size_t n_file, const char *here) {
	const char *end = file + n_file, *here_end = here + strlen(here);
	for (;;) {
		size_t a = (size_t)(end - file), b = (size_t)(here_end - here);
		const char *stop = memchr(file, '\n', a), *here_stop = memchr(here, '\n', b);
		a = stop ? (size_t)(stop - file) : a;
		b = here_stop ? (size_t)(here_stop - here) : b;
		if (a != b || memcmp(file, here, a) != 0 || !stop || !here_stop)
			return rv_fail(RV_ERR_MISMATCH,
			               "%s: keys and values of another identity: '%.*s', here '%.*s'",
			               path, (int)(a < 200 ? a : 200), file, (int)(b < 200 ? b : 200),
			               here);
		file = stop + 1;
		here = here_stop + 1;
	}
}

/* ---- saving ---- */

static rv_status check_flat(const rv_context *ctx, const char *path) {
	return ctx->tiers ? rv_fail(RV_ERR_UNSUPPORTED,
	                            "%s: sequences under a tiered policy are not kept in files", path)
	                  : RV_OK;
}

typedef struct output {
	rv_writer *w;
	uint32_t crc;
} output;

static rv_status put(output *out, const void *data, size_t size) {
	out->crc = rv_crc32(out->crc, data, size);
	return rv_writer_write(out->w, data, size);
}

static rv_status put_rows(output *out, const void *rows, const rv_segment *s, size_t row_bytes) {
	if (s->stride == row_bytes)
		return put(out, rows, (size_t)s->n_tokens * row_bytes);
	for (int64_t i = 0; i < s->n_tokens; i++)
		RV_TRY(put(out, (const char *)rows + (size_t)i * s->stride, row_bytes));
	return RV_OK;
}

static rv_status put_lane(output *out, const rv_segment *segments, int64_t n, int64_t head_dim) {
	for (int64_t i = 0; i < n; i++)
		RV_TRY(put_rows(out, segments[i].keys, &segments[i],
		                rv_kv_row_bytes((rv_kv_type)segments[i].type, head_dim)));
	for (int64_t i = 0; i < n; i++)
		RV_TRY(put_rows(out, segments[i].values, &segments[i],
		                rv_kv_row_bytes((rv_kv_type)segments[i].type, head_dim)));
	return RV_OK;
}

static int64_t lane_segments(const rv_context *ctx, int32_t seq, int64_t layer, int64_t head,
                             rv_segment *out) {
	const rv_kv_view *kv = &ctx->kv_view;
	const rv_row row = {.seq = seq, .parent = -1};
	return kv->segments(kv->cache, &row, layer, head, ctx->length[seq], out, kv->max_segments);
}

/* The types of a sequence's positions: a page has one for all its lanes. Returns how many runs. */
static uint64_t find_runs(const rv_segment *segments, int64_t n, run *runs) {
	uint64_t n_runs = 0;
	for (int64_t i = 0; i < n; i++) {
		if (n_runs == 0 || runs[n_runs - 1].type != (uint32_t)segments[i].type)
			runs[n_runs++] = (run){(uint32_t)segments[i].type, 0};
		runs[n_runs - 1].n_tokens += (uint32_t)segments[i].n_tokens;
	}
	return n_runs;
}

static rv_status put_all(output *out, rv_context *ctx, int32_t seq, const int32_t *tokens,
                         int64_t n_ids, rv_segment *segments, run *runs) {
	const rv_hparams *hp = rv_model_hparams(ctx->model);
	char text[IDENTITY_BYTES];
	RV_TRY(identity(ctx, ctx->seq_adapter[seq], text));
	int64_t n = lane_segments(ctx, seq, 0, 0, segments);
	const header h = {.magic = MAGIC,
	                  .version = VERSION,
	                  .n_identity = (uint32_t)strlen(text),
	                  .n_tokens = (uint64_t)ctx->length[seq],
	                  .n_ids = (uint64_t)n_ids,
	                  .n_runs = find_runs(segments, n, runs)};
	RV_TRY(put(out, &h, sizeof h));
	RV_TRY(put(out, text, h.n_identity));
	RV_TRY(put(out, tokens, h.n_ids * sizeof *tokens));
	RV_TRY(put(out, runs, h.n_runs * sizeof *runs));
	for (int64_t layer = 0; layer < hp->n_layers; layer++)
		for (int64_t head = 0; head < hp->n_kv_heads; head++) {
			n = lane_segments(ctx, seq, layer, head, segments);
			RV_TRY(put_lane(out, segments, n, hp->head_dim));
		}
	const uint32_t crc = out->crc;
	return rv_writer_write(out->w, &crc, sizeof crc);
}

static rv_status write_file(output *out, rv_context *ctx, int32_t seq, const int32_t *tokens,
                            int64_t n_ids) {
	rv_segment *segments = NULL;
	run *runs = NULL;
	rv_status status = RV_ALLOC(&segments, ctx->kv_view.max_segments, "segments");
	if (status == RV_OK)
		status = RV_ALLOC(&runs, ctx->kv_view.max_segments, "runs");
	if (status == RV_OK)
		status = put_all(out, ctx, seq, tokens, n_ids, segments, runs);
	rv_free(segments);
	rv_free(runs);
	return status;
}

rv_status rv_seq_save(rv_context *ctx, int32_t seq, const int32_t *tokens, int64_t n,
                      const char *path) {
	output out = {0};
	if (seq < 0 || seq >= ctx->options.n_seqs || ctx->length[seq] == 0)
		return rv_fail(RV_ERR_INVALID, "%s: sequence %d is empty or not in [0, %d)", path, seq,
		               ctx->options.n_seqs);
	if (tokens ? n != ctx->length[seq] : n != 0)
		return rv_fail(RV_ERR_INVALID, "%s: %lld token ids, but sequence %d has %lld tokens",
		               path, (long long)n, seq, (long long)ctx->length[seq]);
	RV_TRY(check_flat(ctx, path));
	RV_TRY(rv_writer_open(&out.w, path));
	rv_status status = write_file(&out, ctx, seq, tokens, n);
	if (status == RV_OK)
		return rv_writer_commit(out.w);
	rv_writer_abort(out.w);
	return status;
}

/* ---- reading ---- */

/* The part of a file that is still to be read. */
typedef struct input {
	const char *path, *at, *end;
} input;

/* `count` items of `size` bytes; NULL when fewer are left. */
static const char *take(input *in, uint64_t count, size_t size) {
	const char *at = in->at;
	if (count > (uint64_t)(in->end - at) / size)
		return NULL;
	in->at += count * size;
	return at;
}

static run run_at(const char *runs, uint64_t i) {
	run r; /* the file's may be unaligned */
	memcpy(&r, runs + i * sizeof r, sizeof r);
	return r;
}

/* The runs cover the sequence, and their rows the rest of the file, exactly. */
static rv_status check_runs(const input *in, const char *runs, const header *h, const rv_hparams *hp) {
	uint64_t n_tokens = 0, left = (uint64_t)(in->end - in->at), n_lanes, bytes = 0;
	n_lanes = (uint64_t)(hp->n_layers * hp->n_kv_heads);
	for (uint64_t i = 0; i < h->n_runs; i++) {
		run r = run_at(runs, i);
		if (r.type >= RV_KV_COUNT || r.n_tokens == 0 || r.n_tokens > h->n_tokens - n_tokens)
			return rv_fail(RV_ERR_FORMAT, "%s: run %llu: %u tokens of type %u", in->path,
			               (unsigned long long)i, r.n_tokens, r.type);
		n_tokens += r.n_tokens;
		bytes += r.n_tokens * 2 * rv_kv_row_bytes((rv_kv_type)r.type, hp->head_dim);
	}
	if (n_tokens != h->n_tokens)
		return rv_fail(RV_ERR_FORMAT, "%s: runs of %llu tokens, the header says %llu", in->path,
		               (unsigned long long)n_tokens, (unsigned long long)h->n_tokens);
	/* n_tokens is at most n_ctx, so that bytes cannot overflow. */
	if (bytes > left / n_lanes || bytes * n_lanes != left)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: %llu bytes of keys and values, %llu x %llu are needed", in->path,
		               (unsigned long long)left, (unsigned long long)n_lanes,
		               (unsigned long long)bytes);
	return RV_OK;
}

/* ---- room in the cache ---- */

static rv_status no_place(const char *path, run r, int64_t position, const rv_context *ctx) {
	return rv_fail(RV_ERR_MISMATCH,
	               "%s: rows of type %s from position %lld on cannot stand in %s of type %s", path,
	               rv_kv_type_name((rv_kv_type)r.type), (long long)position,
	               ctx->pages ? "pages of this size beside others, or in pages" : "a cache",
	               rv_kv_type_name(ctx->kv_view.type));
}

/* Runs of other types than new pages fill pages of their own. */
static rv_status check_types(const char *path, const rv_context *ctx, const char *runs,
                             uint64_t n_runs) {
	int64_t position = 0, page = ctx->pages ? rv_kv_pages_page_tokens(ctx->pages) : 0;
	for (uint64_t i = 0; i < n_runs; i++) {
		run r = run_at(runs, i);
		int plain = r.type == (uint32_t)ctx->kv_view.type, last = i + 1 == n_runs;
		if (!plain &&
		    (page == 0 || position % page || (!last && (position + r.n_tokens) % page)))
			return no_place(path, r, position, ctx);
		position += r.n_tokens;
	}
	return RV_OK;
}

/* Pages of the runs' types, which check_types has found to fit. */
static rv_status add_pages(rv_context *ctx, int32_t seq, const char *runs, uint64_t n_runs,
                           rv_kv_page *pages, int64_t *n) {
	int64_t position = 0, tokens = rv_kv_pages_page_tokens(ctx->pages);
	for (uint64_t i = 0; i < n_runs; i++) {
		run r = run_at(runs, i);
		position += r.n_tokens;
		for (; *n * tokens < position; ++*n)
			RV_TRY(rv_kv_page_create(ctx->pages, (int)r.type, &pages[*n]));
	}
	rv_kv_seq_attach(ctx->pages, seq, pages, *n);
	return RV_OK;
}

static rv_status make_room(rv_context *ctx, int32_t seq, const char *runs, uint64_t n_runs) {
	rv_kv_page *pages;
	int64_t n = 0;
	if (!ctx->pages)
		return RV_OK;
	RV_TRY(RV_ALLOC(&pages, ctx->kv_view.max_segments, "pages"));
	rv_status status = add_pages(ctx, seq, runs, n_runs, pages, &n);
	while (n-- > 0) /* the sequence has references of its own */
		rv_kv_page_release(ctx->pages, pages[n]);
	rv_free(pages);
	return status;
}

/* ---- loading ---- */

static void store_rows(const rv_context *ctx, int32_t seq, int64_t layer, int64_t head,
                       int64_t position, run r, const char *rows, int values) {
	const rv_kv_view *kv = &ctx->kv_view;
	size_t bytes = rv_kv_row_bytes((rv_kv_type)r.type, rv_model_hparams(ctx->model)->head_dim);
	for (uint32_t i = 0; i < r.n_tokens; i++) {
		void *at[2];
		kv->slot(kv->cache, seq, layer, head, position + i, &at[0], &at[1]);
		memcpy(at[values], rows + i * bytes, bytes);
	}
}

/* Takes over what check_runs has found to be there. */
static void read_rows(input in, const rv_context *ctx, int32_t seq, const char *runs, uint64_t n_runs) {
	const rv_hparams *hp = rv_model_hparams(ctx->model);
	for (int64_t lane = 0; lane < hp->n_layers * hp->n_kv_heads; lane++)
		for (int values = 0; values < 2; values++) {
			int64_t position = 0;
			for (uint64_t i = 0; i < n_runs; i++) {
				run r = run_at(runs, i);
				const char *rows =
				        take(&in, r.n_tokens,
				             rv_kv_row_bytes((rv_kv_type)r.type, hp->head_dim));
				store_rows(ctx, seq, lane / hp->n_kv_heads, lane % hp->n_kv_heads,
				           position, r, rows, values);
				position += r.n_tokens;
			}
		}
}

/* The header, with the checksum at the end, before anything else is believed. */
static rv_status read_header(input *in, header *h) {
	size_t size = (size_t)(in->end - in->at);
	uint32_t crc;
	if (size < sizeof *h + sizeof crc || memcmp(in->at, MAGIC, sizeof h->magic) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: no file of a sequence (%zu bytes)", in->path, size);
	memcpy(h, in->at, sizeof *h);
	if (h->version != VERSION)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: version %u of sequence files: known is %d",
		               in->path, h->version, VERSION);
	in->end -= sizeof crc;
	memcpy(&crc, in->end, sizeof crc);
	if (rv_crc32(0, in->at, size - sizeof crc) != crc)
		return rv_fail(RV_ERR_FORMAT, "%s: wrong checksum: cut short or damaged", in->path);
	in->at += sizeof *h;
	return RV_OK;
}

static rv_status check_lengths(const header *h, const rv_context *ctx, const char *path, int64_t cap) {
	uint64_t room = (uint64_t)ctx->options.n_ctx;
	if (h->n_tokens < 1 || (h->n_ids != 0 && h->n_ids != h->n_tokens))
		return rv_fail(RV_ERR_FORMAT, "%s: %llu tokens with %llu ids", path,
		               (unsigned long long)h->n_tokens, (unsigned long long)h->n_ids);
	if (h->n_tokens > room)
		return rv_fail(RV_ERR_LIMIT, "%s: %llu tokens, a sequence holds %lld here", path,
		               (unsigned long long)h->n_tokens, (long long)room);
	if (cap >= 0 && h->n_ids > (uint64_t)cap)
		return rv_fail(RV_ERR_LIMIT, "%s: %llu token ids, room for %lld", path,
		               (unsigned long long)h->n_ids, (long long)cap);
	return RV_OK;
}

static rv_status check_ids(const input *in, const char *ids, uint64_t n, int64_t n_vocab) {
	for (uint64_t i = 0; i < n; i++) {
		int32_t id;
		memcpy(&id, ids + i * sizeof id, sizeof id);
		if (id < 0 || id >= n_vocab)
			return rv_fail(RV_ERR_FORMAT, "%s: token %llu is %d of a vocabulary of %lld",
			               in->path, (unsigned long long)i, id, (long long)n_vocab);
	}
	return RV_OK;
}

static rv_status check_target(const rv_context *ctx, int32_t seq, int32_t adapter, const char *path) {
	if (seq < 0 || seq >= ctx->options.n_seqs || ctx->length[seq] != 0)
		return rv_fail(RV_ERR_INVALID, "%s: sequence %d holds tokens or is not in [0, %d)",
		               path, seq, ctx->options.n_seqs);
	if (adapter < 0 || adapter >= RV_ADAPTER_SETS)
		return rv_fail(RV_ERR_INVALID, "%s: set of adapters %d is not in [0, %d)", path,
		               adapter, RV_ADAPTER_SETS);
	return RV_OK;
}

/* What was read, before it is handed out. */
typedef struct loaded {
	header h;
	const char *ids;
} loaded;

static rv_status load(rv_context *ctx, int32_t seq, int32_t adapter, input in, int64_t cap,
                      loaded *out) {
	const rv_hparams *hp = rv_model_hparams(ctx->model);
	header *h = &out->h;
	char here[IDENTITY_BYTES];
	RV_TRY(check_flat(ctx, in.path));
	RV_TRY(check_target(ctx, seq, adapter, in.path));
	RV_TRY(read_header(&in, h));
	const char *text = take(&in, h->n_identity, 1);
	RV_TRY(identity(ctx, adapter, here));
	if (!text || h->n_identity != strlen(here) || memcmp(text, here, h->n_identity) != 0)
		return other_identity(in.path, text ? text : "", text ? h->n_identity : 0, here);
	RV_TRY(check_lengths(h, ctx, in.path, cap));
	out->ids = take(&in, h->n_ids, sizeof(int32_t));
	if (!out->ids)
		return rv_fail(RV_ERR_FORMAT, "%s: ends within the token ids", in.path);
	RV_TRY(check_ids(&in, out->ids, h->n_ids, hp->n_vocab));
	const char *runs = take(&in, h->n_runs, sizeof(run));
	if (!runs)
		return rv_fail(RV_ERR_FORMAT, "%s: ends within the runs", in.path);
	RV_TRY(check_runs(&in, runs, h, hp));
	RV_TRY(check_types(in.path, ctx, runs, h->n_runs));
	rv_status status = make_room(ctx, seq, runs, h->n_runs);
	if (status != RV_OK)
		return rv_fail_in(status, in.path);
	read_rows(in, ctx, seq, runs, h->n_runs);
	ctx->length[seq] = (int64_t)h->n_tokens;
	ctx->seq_adapter[seq] = adapter;
	return RV_OK;
}

static void hand_out(const loaded *l, int32_t *tokens, rv_seq_file_info *out) {
	if (tokens && l->h.n_ids)
		memcpy(tokens, l->ids, l->h.n_ids * sizeof *tokens);
	if (out)
		*out = (rv_seq_file_info){(int64_t)l->h.n_tokens, l->h.n_ids != 0};
}

rv_status rv_seq_load_memory(rv_context *ctx, int32_t seq, int32_t adapter, const void *data,
                             size_t size, const char *name, int32_t *tokens, int64_t cap,
                             rv_seq_file_info *out) {
	loaded l;
	const input in = {name, data, (const char *)data + size};
	RV_TRY(load(ctx, seq, adapter, in, tokens ? cap : -1, &l));
	hand_out(&l, tokens, out);
	return RV_OK;
}

rv_status rv_seq_load(rv_context *ctx, int32_t seq, int32_t adapter, const char *path, int32_t *tokens,
                      int64_t cap, rv_seq_file_info *out) {
	rv_map map;
	loaded l;
	RV_TRY(rv_map_open(&map, path));
	const input in = {path, (const char *)map.data, (const char *)map.data + map.size};
	rv_status status = load(ctx, seq, adapter, in, tokens ? cap : -1, &l);
	if (status == RV_OK) {
		status = rv_map_check(&map); /* changed between its check and its use? */
		if (status == RV_OK)
			hand_out(&l, tokens, out);
		else
			rv_seq_truncate(ctx, seq, 0);
	}
	rv_map_close(&map);
	return status;
}
