/* All pieces of a split model as one container. */
#include "model/gguf_set.h"

#include "base/mem.h"
#include "model/gguf_internal.h"

#include <stdio.h>

#define PIECES_MAX 65535 /* split.count is a u16 where it is written */
#define SUFFIX_LEN 20    /* "-00001-of-00003.gguf" */

/* What a piece says of itself. */
typedef struct split {
	int64_t no, count, n_tensors;
} split;

typedef struct gguf_set {
	rv_gguf *first;
	split split; /* of the first piece */
	rv_gguf_tensor *tensors;
	size_t n_tensors; /* so far */
} gguf_set;

static rv_status read_split(const rv_gguf *g, split *out) {
	RV_TRY(rv_gguf_int(g, "split.no", 0, PIECES_MAX - 1, &out->no));
	RV_TRY(rv_gguf_int(g, "split.count", 1, PIECES_MAX, &out->count));
	return rv_gguf_int(g, "split.tensors.count", 0, INT32_MAX, &out->n_tensors);
}

/* ---- names ---- */

/* The name of piece `no`, from that of any piece; rv_free'd by the caller. */
static rv_status piece_path(char **out, const char *path, int64_t no, int64_t count) {
	char suffix[64];
	snprintf(suffix, sizeof suffix, "-%05lld-of-%05lld.gguf", (long long)no + 1, (long long)count);
	RV_TRY(rv_strdup(out, path));
	memcpy(*out + strlen(path) - SUFFIX_LEN, suffix, SUFFIX_LEN);
	return RV_OK;
}

static rv_status check_name(const char *path, const split *s) {
	char suffix[64];
	size_t len = strlen(path);
	snprintf(suffix, sizeof suffix, "-%05lld-of-%05lld.gguf", (long long)s->no + 1,
	         (long long)s->count);
	if (len >= SUFFIX_LEN && strcmp(path + len - SUFFIX_LEN, suffix) == 0)
		return RV_OK;
	return rv_fail(RV_ERR_MISMATCH,
	               "%s: piece %lld of %lld of a split model, but its name does not end in '%s'",
	               path, (long long)s->no + 1, (long long)s->count, suffix);
}

static rv_status check_first(const char *path, const split *s) {
	char *first;
	if (s->no >= s->count)
		return rv_fail(RV_ERR_FORMAT, "%s: key 'split.no' is %lld of %lld", path,
		               (long long)s->no, (long long)s->count);
	RV_TRY(check_name(path, s));
	if (s->no == 0)
		return RV_OK;
	RV_TRY(piece_path(&first, path, 0, s->count));
	rv_fail(RV_ERR_INVALID, "%s: piece %lld of %lld of a split model; open its first piece, %s",
	        path, (long long)s->no + 1, (long long)s->count, first);
	rv_free(first);
	return RV_ERR_INVALID;
}

/* ---- pieces ---- */

/* A piece has few keys. One that the first piece has too must say the same. */
static rv_status check_keys(const rv_gguf *first, const rv_gguf *piece) {
	for (size_t i = 0; i < piece->n_kv; i++) {
		const rv_gguf_kv *kv = &piece->kv[i], *own = NULL;
		char key[256], shown[RV_GGUF_SHOW];
		int counts = kv->key.len > 6 && memcmp(kv->key.data, "split.", 6) == 0;
		if (!counts && kv->key.len < sizeof key) {
			memcpy(key, kv->key.data, kv->key.len);
			key[kv->key.len] = 0;
			own = rv_gguf_find(first, key);
		}
		if (!own || (kv->kind == own->kind && kv->n_bytes == own->n_bytes &&
		             memcmp(kv->bytes, own->bytes, kv->n_bytes) == 0))
			continue;
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: key '%s' is not what it is in %s: a piece of another model?",
		               piece->path, rv_gguf_show(shown, kv->key.data, kv->key.len),
		               first->path);
	}
	return RV_OK;
}

static rv_status check_piece(const gguf_set *set, const rv_gguf *piece, int64_t no) {
	split s;
	RV_TRY(read_split(piece, &s));
	const struct {
		const char *key;
		int64_t is, expected;
	} rows[] = {{"split.no", s.no, no},
	            {"split.count", s.count, set->split.count},
	            {"split.tensors.count", s.n_tensors, set->split.n_tensors}};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].is != rows[i].expected)
			return rv_fail(RV_ERR_MISMATCH, "%s: key '%s' is %lld, expected %lld from %s",
			               piece->path, rows[i].key, (long long)rows[i].is,
			               (long long)rows[i].expected, set->first->path);
	return check_keys(set->first, piece);
}

static rv_status append_tensors(gguf_set *set, const rv_gguf *piece) {
	size_t room = (size_t)set->split.n_tensors - set->n_tensors;
	if (piece->n_tensors > room)
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: %zu tensors, but key 'split.tensors.count' leaves room for %zu",
		               piece->path, piece->n_tensors, room);
	if (piece->n_tensors)
		memcpy(set->tensors + set->n_tensors, piece->tensors,
		       piece->n_tensors * sizeof *piece->tensors);
	set->n_tensors += piece->n_tensors;
	return RV_OK;
}

/* What the set has copied or does not need: the tables of many pieces would add up. */
static void drop_tables(rv_gguf *piece) {
	rv_free(piece->kv);
	rv_free(piece->kv_order);
	rv_free(piece->tensors);
	rv_free(piece->tensor_order);
	piece->kv = NULL;
	piece->tensors = NULL;
	piece->kv_order = piece->tensor_order = NULL;
	piece->n_kv = piece->n_tensors = 0;
}

static rv_status open_piece(gguf_set *set, int64_t no) {
	char *path, place[64];
	rv_gguf *piece;
	RV_TRY(piece_path(&path, set->first->path, no, set->split.count));
	rv_status status = rv_gguf_open(&piece, path, RV_GGUF_VOCAB_ONLY_OK);
	rv_free(path);
	if (status != RV_OK) {
		snprintf(place, sizeof place, "piece %lld of %lld", (long long)no + 1,
		         (long long)set->split.count);
		return rv_fail_in(status, place);
	}
	set->first->rest[set->first->n_rest++] = piece;
	RV_TRY(check_piece(set, piece, no));
	RV_TRY(append_tensors(set, piece));
	drop_tables(piece);
	return RV_OK;
}

/* ---- the set ---- */

static rv_status allocate(gguf_set *set) {
	const size_t tensor_bytes = sizeof(rv_gguf_tensor) + 2 * sizeof(uint32_t);
	size_t n = (size_t)set->split.n_tensors;
	if (n > RV_GGUF_TABLE_BYTES_MAX / tensor_bytes)
		return rv_fail(RV_ERR_LIMIT,
		               "%s: key 'split.tensors.count': %zu tensors exceed the limit of %zu MiB "
		               "of tables",
		               set->first->path, n, RV_GGUF_TABLE_BYTES_MAX >> 20);
	RV_TRY(RV_ALLOC(&set->first->rest, set->split.count - 1, "pieces of a split model"));
	return rv_alloc_uninit((void **)&set->tensors, n, sizeof *set->tensors, "GGUF tensor table");
}

static rv_status open_pieces(gguf_set *set) {
	RV_TRY(allocate(set));
	RV_TRY(append_tensors(set, set->first));
	for (int64_t no = 1; no < set->split.count; no++)
		RV_TRY(open_piece(set, no));
	if (set->n_tensors != (size_t)set->split.n_tensors)
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: key 'split.tensors.count' is %lld, but the %lld pieces hold %zu "
		               "tensors",
		               set->first->path, (long long)set->split.n_tensors,
		               (long long)set->split.count, set->n_tensors);
	return RV_OK;
}

static rv_status check_duplicates(const gguf_set *set, const uint32_t *order) {
	for (size_t i = 1; i < set->n_tensors; i++) {
		uint32_t p = order[i - 1], q = order[i];
		const rv_gguf_tensor *a = &set->tensors[p < q ? p : q],
		                     *b = &set->tensors[p < q ? q : p];
		char shown[RV_GGUF_SHOW];
		if (strcmp(a->name, b->name) == 0)
			return rv_fail(RV_ERR_FORMAT, "%s: duplicate tensor '%s': it is in %s too",
			               rv_gguf_tensor_path(set->first, b),
			               rv_gguf_show(shown, b->name, strlen(b->name)),
			               rv_gguf_tensor_path(set->first, a));
	}
	return RV_OK;
}

/* The first piece takes over the tensors of all. */
static rv_status join(gguf_set *set) {
	uint32_t *order;
	RV_TRY(rv_gguf_order_names(&order, set->tensors, set->n_tensors, rv_gguf_tensor_name));
	rv_status status = check_duplicates(set, order);
	if (status != RV_OK) {
		rv_free(order);
		return status;
	}
	rv_gguf *g = set->first;
	rv_free(g->tensors);
	rv_free(g->tensor_order);
	g->tensors = set->tensors;
	g->n_tensors = set->n_tensors;
	g->tensor_order = order;
	return RV_OK;
}

static rv_status open_rest(rv_gguf *g) {
	gguf_set set = {.first = g};
	int64_t count = 0; /* 0 and 1: a whole file, as a merged one says */
	if (rv_gguf_find(g, "split.count"))
		RV_TRY(rv_gguf_int(g, "split.count", 0, PIECES_MAX, &count));
	if (count <= 1)
		return RV_OK;
	RV_TRY(read_split(g, &set.split));
	RV_TRY(check_first(g->path, &set.split));
	rv_status status = open_pieces(&set);
	if (status == RV_OK)
		status = join(&set);
	if (status != RV_OK)
		rv_free(set.tensors);
	return status;
}

rv_status rv_gguf_open_set(rv_gguf **out, const char *path) {
	rv_gguf *g;
	RV_TRY(rv_gguf_open(&g, path, RV_GGUF_VOCAB_ONLY_OK));
	rv_status status = open_rest(g);
	if (status == RV_OK)
		status = rv_gguf_require_tensors(g);
	if (status != RV_OK) {
		rv_gguf_close(g);
		return status;
	}
	*out = g;
	return RV_OK;
}

/* ---- asking ---- */

size_t rv_gguf_n_pieces(const rv_gguf *gguf) {
	return 1 + gguf->n_rest;
}

const char *rv_gguf_piece_path(const rv_gguf *gguf, size_t i) {
	return i ? gguf->rest[i - 1]->path : gguf->path;
}

const char *rv_gguf_tensor_path(const rv_gguf *gguf, const rv_gguf_tensor *tensor) {
	for (size_t i = 0; i < gguf->n_rest; i++) {
		const rv_gguf *piece = gguf->rest[i];
		uintptr_t at = (uintptr_t)tensor->data, start = (uintptr_t)piece->data;
		if (at >= start && at - start < piece->size)
			return piece->path;
	}
	return gguf->path;
}
