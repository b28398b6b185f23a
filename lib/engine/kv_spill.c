#include "engine/kv_spill.h"

#include "base/file.h"
#include "base/mem.h"
#include "engine/context_internal.h"
#include "engine/kv_identity.h"

#include <stdio.h>
#include <string.h>

#define MAGIC "RVKVSEQ\n"
#define VERSION 1

typedef struct header {
	char magic[8];
	uint32_t version;
	uint32_t n_identity; /* bytes of the identity that follows */
	uint64_t n_tokens;
	uint64_t n_ids;  /* that follow the identity: n_tokens or 0 */
	uint64_t n_runs; /* that follow the ids */
} header;
_Static_assert(sizeof(header) == 40, "header of a sequence's file");

/* Positions in pages of one format, for a cache in one piece in rows of its type. */
typedef struct run {
	uint32_t format; /* rv_kv_type, or another number of kv_pages.h */
	uint32_t n_tokens;
} run;
_Static_assert(sizeof(run) == 8, "run of a sequence's file");

/* ---- saving ---- */

typedef struct output {
	rv_writer *w;
	uint32_t crc;
} output;

static rv_status put(output *out, const void *data, size_t size) {
	out->crc = rv_crc32(out->crc, data, size);
	return rv_writer_write(out->w, data, size);
}

/* Bytes of a segment's keys or values; rows stand without gaps. */
static size_t segment_bytes(const rv_segment *s, int64_t head_dim, int values) {
	if (s->stride)
		return (size_t)s->n_tokens * s->stride;
	int64_t n = s->coding->block.n;
	return (size_t)(s->n_tokens / n) * (values ? rv_kv_values_bytes(s->type, n, head_dim)
	                                           : rv_kv_keys_bytes(s->type, n, head_dim));
}

static int64_t lane_segments(const rv_context *ctx, int32_t seq, int64_t lane, int64_t n_tokens,
                             rv_segment *out) {
	const rv_kv_view *kv = &ctx->kv_view;
	const rv_row row = {.seq = seq, .parent = -1};
	int64_t heads = rv_model_hparams(ctx->model)->n_kv_heads;
	return kv->segments(kv->cache, &row, lane / heads, lane % heads, n_tokens, out,
	                    kv->max_segments);
}

static int64_t n_lanes(const rv_context *ctx) {
	const rv_hparams *hp = rv_model_hparams(ctx->model);
	return hp->n_layers * hp->n_kv_heads;
}

static uint32_t page_format(const rv_context *ctx, int32_t seq, int64_t i) {
	const rv_kv_page *pages;
	if (!ctx->pages)
		return ctx->kv_view.type;
	rv_kv_seq_pages(ctx->pages, seq, &pages);
	return (uint32_t)rv_kv_page_format(ctx->pages, pages[i]);
}

/* Returns how many. */
static uint64_t find_runs(const rv_context *ctx, int32_t seq, const rv_segment *segments, int64_t n,
                          run *runs) {
	uint64_t n_runs = 0;
	for (int64_t i = 0; i < n; i++) {
		uint32_t format = page_format(ctx, seq, i);
		if (n_runs == 0 || runs[n_runs - 1].format != format)
			runs[n_runs++] = (run){format, 0};
		runs[n_runs - 1].n_tokens += (uint32_t)segments[i].n_tokens;
	}
	return n_runs;
}

static rv_status put_lane(output *out, const rv_segment *s, int64_t n, int64_t head_dim) {
	for (int values = 0; values < 2; values++)
		for (int64_t i = 0; i < n; i++)
			RV_TRY(put(out, values ? s[i].values : s[i].keys,
			           segment_bytes(&s[i], head_dim, values)));
	return RV_OK;
}

static rv_status identity(const rv_context *ctx, const rv_seq_stand *stand,
                          char text[RV_KV_IDENTITY_BYTES]) {
	return rv_kv_identity(ctx, stand->set, stand->version != stand->set->version, text);
}

static rv_status put_all(output *out, rv_context *ctx, int32_t seq, const int32_t *tokens,
                         int64_t n_ids, rv_segment *segments, run *runs) {
	char text[RV_KV_IDENTITY_BYTES];
	const rv_seq_stand now = {.set = ctx->sets.of_seq[seq], .version = ctx->sets.seq_version[seq]};
	RV_TRY(identity(ctx, &now, text));
	int64_t head_dim = rv_model_hparams(ctx->model)->head_dim, n_tokens = ctx->length[seq];
	int64_t n = lane_segments(ctx, seq, 0, n_tokens, segments);
	const header h = {.magic = MAGIC,
	                  .version = VERSION,
	                  .n_identity = (uint32_t)strlen(text),
	                  .n_tokens = (uint64_t)n_tokens,
	                  .n_ids = (uint64_t)n_ids,
	                  .n_runs = find_runs(ctx, seq, segments, n, runs)};
	RV_TRY(put(out, &h, sizeof h));
	RV_TRY(put(out, text, h.n_identity));
	RV_TRY(put(out, tokens, h.n_ids * sizeof *tokens));
	RV_TRY(put(out, runs, h.n_runs * sizeof *runs));
	for (int64_t lane = 0; lane < n_lanes(ctx); lane++) {
		n = lane_segments(ctx, seq, lane, n_tokens, segments);
		RV_TRY(put_lane(out, segments, n, head_dim));
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

static rv_status check_runs(const char *path, const rv_context *ctx, const char *runs,
                            const header *h) {
	uint64_t n_tokens = 0;
	for (uint64_t i = 0; i < h->n_runs; i++) {
		run r = run_at(runs, i);
		int known = r.format < (ctx->tiers ? RV_KV_PAGE_FORMATS : RV_KV_COUNT) &&
		            (!ctx->pages || rv_kv_pages_page_bytes(ctx->pages, (int)r.format) > 0);
		if (!known || r.n_tokens == 0 || r.n_tokens > h->n_tokens - n_tokens)
			return rv_fail(RV_ERR_FORMAT, "%s: run %llu: %u tokens of format %u", path,
			               (unsigned long long)i, r.n_tokens, r.format);
		n_tokens += r.n_tokens;
	}
	return n_tokens == h->n_tokens
	               ? RV_OK
	               : rv_fail(RV_ERR_FORMAT, "%s: runs of %llu tokens, the header says %llu", path,
	                         (unsigned long long)n_tokens, (unsigned long long)h->n_tokens);
}

/* ---- room in the cache ---- */

/* Runs of other formats than new pages have fill pages of their own; codes fill them up. */
static rv_status check_places(const char *path, const rv_context *ctx, const char *runs,
                              uint64_t n_runs) {
	int64_t position = 0, page = ctx->pages ? rv_kv_pages_page_tokens(ctx->pages) : 0;
	for (uint64_t i = 0; i < n_runs; i++) {
		run r = run_at(runs, i);
		int cut = page == 0 || position % page ||
		          ((position + r.n_tokens) % page && (i + 1 < n_runs || ctx->tiers));
		if (cut && r.format != (uint32_t)ctx->kv_view.type)
			return rv_fail(
			        RV_ERR_MISMATCH,
			        "%s: what stands from position %lld on is of format %s and needs "
			        "pages of its own",
			        path, (long long)position,
			        r.format < RV_KV_COUNT ? rv_kv_type_name((rv_kv_type)r.format)
			                               : "codes");
		position += r.n_tokens;
	}
	return RV_OK;
}

/* Pages of the runs' formats, which check_places has found to fit. */
static rv_status add_pages(rv_context *ctx, int32_t seq, const char *runs, uint64_t n_runs,
                           rv_kv_page *pages, int64_t *n) {
	int64_t position = 0, tokens = rv_kv_pages_page_tokens(ctx->pages);
	for (uint64_t i = 0; i < n_runs; i++) {
		run r = run_at(runs, i);
		position += r.n_tokens;
		for (; *n * tokens < position; ++*n)
			RV_TRY(rv_kv_page_create(ctx->pages, (int)r.format, &pages[*n]));
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

static rv_status take_lane(input *in, const rv_segment *s, int64_t n, int64_t head_dim) {
	for (int values = 0; values < 2; values++)
		for (int64_t i = 0; i < n; i++) {
			size_t bytes = segment_bytes(&s[i], head_dim, values);
			const char *data = take(in, 1, bytes);
			if (!data)
				return rv_fail(RV_ERR_FORMAT, "%s: ends within the %s", in->path,
				               values ? "values" : "keys");
			/* segments are made for readers; these pages are nobody else's yet */
			memcpy((void *)(uintptr_t)(values ? s[i].values : s[i].keys), data, bytes);
		}
	return RV_OK;
}

static rv_status take_lanes(input in, const rv_context *ctx, int32_t seq, int64_t n_tokens) {
	int64_t head_dim = rv_model_hparams(ctx->model)->head_dim;
	rv_segment *segments;
	rv_status status = RV_OK;
	RV_TRY(RV_ALLOC(&segments, ctx->kv_view.max_segments, "segments"));
	for (int64_t lane = 0; lane < n_lanes(ctx) && status == RV_OK; lane++) {
		int64_t n = lane_segments(ctx, seq, lane, n_tokens, segments);
		status = take_lane(&in, segments, n, head_dim);
	}
	rv_free(segments);
	RV_TRY(status);
	return in.at == in.end ? RV_OK
	                       : rv_fail(RV_ERR_FORMAT, "%s: %lld bytes after its end", in.path,
	                                 (long long)(in.end - in.at));
}

/* The sequence as it was, or empty. */
static rv_status fill(rv_context *ctx, int32_t seq, const rv_seq_stand *stand, input in,
                      const char *runs, const header *h) {
	rv_status status = make_room(ctx, seq, runs, h->n_runs);
	if (status != RV_OK)
		return rv_fail_in(status, in.path);
	ctx->length[seq] = (int64_t)h->n_tokens;
	rv_seq_stand_put(ctx, seq, stand);
	if (ctx->tiers)
		rv_kv_tiers_touch(ctx->tiers, seq);
	status = take_lanes(in, ctx, seq, (int64_t)h->n_tokens);
	if (status != RV_OK)
		rv_seq_truncate(ctx, seq, 0);
	return status;
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

/* As begun with a set as it is now. */
static rv_status newest(rv_context *ctx, int32_t adapter, const char *path, rv_seq_stand *out) {
	if (adapter < 0 || adapter >= RV_ADAPTER_SETS)
		return rv_fail(RV_ERR_INVALID, "%s: set of adapters %d is not in [0, %d)", path,
		               adapter, RV_ADAPTER_SETS);
	RV_TRY(rv_context_poll_slots(ctx));
	*out = (rv_seq_stand){adapter, ctx->sets.now[adapter], ctx->sets.now[adapter]->version};
	return RV_OK;
}

/* What was read, before it is handed out. */
typedef struct loaded {
	header h;
	const char *ids;
} loaded;

static rv_status load(rv_context *ctx, int32_t seq, const rv_seq_stand *stand, input in, int64_t cap,
                      loaded *out) {
	header *h = &out->h;
	char here[RV_KV_IDENTITY_BYTES];
	if (seq < 0 || seq >= ctx->options.n_seqs || ctx->length[seq] != 0)
		return rv_fail(RV_ERR_INVALID, "%s: sequence %d holds tokens or is not in [0, %d)",
		               in.path, seq, ctx->options.n_seqs);
	RV_TRY(read_header(&in, h));
	const char *text = take(&in, h->n_identity, 1);
	RV_TRY(identity(ctx, stand, here));
	if (!text || h->n_identity != strlen(here) || memcmp(text, here, h->n_identity) != 0)
		return rv_kv_identity_differs(in.path, text ? text : "", text ? h->n_identity : 0,
		                              here);
	RV_TRY(check_lengths(h, ctx, in.path, cap));
	out->ids = take(&in, h->n_ids, sizeof(int32_t));
	if (!out->ids)
		return rv_fail(RV_ERR_FORMAT, "%s: ends within the token ids", in.path);
	RV_TRY(check_ids(&in, out->ids, h->n_ids, rv_model_hparams(ctx->model)->n_vocab));
	const char *runs = take(&in, h->n_runs, sizeof(run));
	if (!runs)
		return rv_fail(RV_ERR_FORMAT, "%s: ends within the runs", in.path);
	RV_TRY(check_runs(in.path, ctx, runs, h));
	RV_TRY(check_places(in.path, ctx, runs, h->n_runs));
	return fill(ctx, seq, stand, in, runs, h);
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
	rv_seq_stand stand;
	const input in = {name, data, (const char *)data + size};
	RV_TRY(newest(ctx, adapter, name, &stand));
	RV_TRY(load(ctx, seq, &stand, in, tokens ? cap : -1, &l));
	hand_out(&l, tokens, out);
	return RV_OK;
}

static rv_status load_file(rv_context *ctx, int32_t seq, const rv_seq_stand *stand, const char *path,
                           int32_t *tokens, int64_t cap, rv_seq_file_info *out) {
	rv_map map;
	loaded l;
	RV_TRY(rv_map_open(&map, path));
	const input in = {path, (const char *)map.data, (const char *)map.data + map.size};
	rv_status status = load(ctx, seq, stand, in, tokens ? cap : -1, &l);
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

rv_status rv_seq_load(rv_context *ctx, int32_t seq, int32_t adapter, const char *path, int32_t *tokens,
                      int64_t cap, rv_seq_file_info *out) {
	rv_seq_stand stand;
	RV_TRY(newest(ctx, adapter, path, &stand));
	return load_file(ctx, seq, &stand, path, tokens, cap, out);
}

rv_status rv_seq_load_as(rv_context *ctx, int32_t seq, const rv_seq_stand *stand, const char *path) {
	return load_file(ctx, seq, stand, path, NULL, 0, NULL);
}
