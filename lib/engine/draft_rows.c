#include "engine/draft_rows.h"

#include "base/mem.h"
#include "base/vm.h"

#include <string.h>

size_t rv_draft_rows_bytes(const rv_hparams *hp, rv_kv_type type, int32_t capacity) {
	return (size_t)capacity * (size_t)(hp->n_layers * hp->n_kv_heads) * 2 *
	       rv_kv_row_bytes(type, hp->head_dim);
}

/* ---- the view ---- */

/* The key of a row, a layer and a head; its value follows. */
static char *row_data(const rv_draft_rows *d, int32_t number, int64_t layer, int64_t head) {
	int64_t index = ((number - 1) * d->n_layers + layer) * d->n_kv_heads + head;
	return d->data + (size_t)index * 2 * d->row_bytes;
}

static int64_t segments(const void *user, const rv_row *row, int64_t layer, int64_t head, int64_t n,
                        rv_segment *out, int64_t cap) {
	const rv_draft_rows *d = user;
	int64_t depth = 0, cached, count;
	rv_row plain = *row;
	plain.parent = -1;
	for (int32_t i = row->parent; i > 0; i = d->parent[i])
		depth++;
	cached = row->position + 1 - depth;
	if (depth == 0 || n <= cached)
		return d->cache.segments(d->cache.cache, &plain, layer, head, n, out, cap);
	count = d->cache.segments(d->cache.cache, &plain, layer, head, cached, out, cap - depth);
	int64_t at = depth;
	for (int32_t i = row->parent; i > 0; i = d->parent[i]) {
		char *key = row_data(d, i, layer, head);
		out[count + --at] = (rv_segment){.keys = key,
		                                 .values = key + d->row_bytes,
		                                 .stride = d->row_bytes,
		                                 .n_tokens = 1,
		                                 .type = d->cache.type,
		                                 .first = d->position[i]};
	}
	return count + n - cached;
}

static void slot(const void *user, int32_t seq, int64_t layer, int64_t head, int64_t position,
                 void **key, void **value) {
	const rv_draft_rows *d = user;
	d->cache.slot(d->cache.cache, seq, layer, head, position, key, value);
}

static void draft_slot(const void *user, int32_t number, int64_t layer, int64_t head, void **key,
                       void **value) {
	const rv_draft_rows *d = user;
	char *data = row_data(d, number, layer, head);
	*key = data;
	*value = data + d->row_bytes;
}

/* ---- life ---- */

rv_status rv_draft_rows_init(rv_draft_rows *d, const rv_hparams *hp, rv_kv_view *view, int32_t n_seqs,
                             int32_t capacity) {
	*d = (rv_draft_rows){.cache = *view,
	                     .capacity = capacity,
	                     .n_layers = hp->n_layers,
	                     .n_kv_heads = hp->n_kv_heads,
	                     .row_bytes = rv_kv_row_bytes(view->type, hp->head_dim)};
	if (capacity == 0)
		return RV_OK;
	RV_TRY(RV_ALLOC(&d->parent, capacity + 1, "draft rows"));
	RV_TRY(RV_ALLOC(&d->seq, capacity + 1, "draft rows"));
	RV_TRY(RV_ALLOC(&d->position, capacity + 1, "draft rows"));
	RV_TRY(RV_ALLOC(&d->held, n_seqs, "draft rows"));
	d->bytes = rv_draft_rows_bytes(hp, view->type, capacity);
	RV_TRY(rv_vm_alloc((void **)&d->data, d->bytes, "draft rows"));
	view->segments = segments;
	view->slot = slot;
	view->draft_slot = draft_slot;
	view->cache = d;
	view->max_segments += capacity;
	return RV_OK;
}

void rv_draft_rows_deinit(rv_draft_rows *d) {
	rv_free(d->parent);
	rv_free(d->seq);
	rv_free(d->position);
	rv_free(d->held);
	rv_vm_free(d->data, d->bytes);
	*d = (rv_draft_rows){0};
}

/* ---- rows ---- */

rv_status rv_draft_rows_admit(rv_draft_rows *d, const rv_row *row, int64_t i, int64_t length) {
	if (d->capacity == 0)
		return rv_fail(RV_ERR_INVALID,
		               "row %lld: a draft row, but the context holds none (n_draft)",
		               (long long)i);
	if (length == 0 || row->parent > d->n || (row->parent > 0 && d->seq[row->parent] != row->seq))
		return rv_fail(RV_ERR_INVALID, "row %lld: parent %d is nothing that sequence %d holds",
		               (long long)i, row->parent, row->seq);
	int64_t position = row->parent > 0 ? d->position[row->parent] + 1 : length;
	if (row->position != position)
		return rv_fail(RV_ERR_INVALID, "row %lld: position %d, but %lld follows its parent",
		               (long long)i, row->position, (long long)position);
	if (d->n == d->capacity)
		return rv_fail(RV_ERR_LIMIT, "row %lld: the context holds %d draft rows at most",
		               (long long)i, d->capacity);
	d->n++;
	d->parent[d->n] = row->parent;
	d->seq[d->n] = row->seq;
	d->position[d->n] = row->position;
	d->held[row->seq]++;
	return RV_OK;
}

void rv_draft_rows_cut(rv_draft_rows *d, int32_t n) {
	for (; d->n > n; d->n--)
		if (d->seq[d->n] >= 0)
			d->held[d->seq[d->n]]--;
}

void rv_draft_rows_drop(rv_draft_rows *d, int32_t seq) {
	if (d->capacity == 0 || d->held[seq] == 0)
		return;
	d->held[seq] = 0;
	for (int32_t i = 1; i <= d->n; i++)
		if (d->seq[i] == seq)
			d->seq[i] = -1;
	while (d->n > 0 && d->seq[d->n] < 0)
		d->n--;
}

rv_status rv_draft_rows_check_path(const rv_draft_rows *d, int32_t seq, const int32_t *path,
                                   int64_t n) {
	for (int64_t i = 0; i < n; i++)
		if (path[i] < 1 || path[i] > d->n || d->seq[path[i]] != seq ||
		    d->parent[path[i]] != (i ? path[i - 1] : 0))
			return rv_fail(RV_ERR_INVALID, "draft row %d does not follow %d in sequence %d",
			               path[i], i ? path[i - 1] : 0, seq);
	return RV_OK;
}

void rv_draft_rows_store(const rv_draft_rows *d, int32_t seq, const int32_t *path, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		for (int64_t layer = 0; layer < d->n_layers; layer++)
			for (int64_t head = 0; head < d->n_kv_heads; head++) {
				const char *data = row_data(d, path[i], layer, head);
				void *key, *value;
				d->cache.slot(d->cache.cache, seq, layer, head, d->position[path[i]],
				              &key, &value);
				memcpy(key, data, d->row_bytes);
				memcpy(value, data + d->row_bytes, d->row_bytes);
			}
}
