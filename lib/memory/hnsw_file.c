#include "memory/hnsw_file.h"

#include "base/file.h"
#include "base/mem.h"
#include "memory/hnsw_internal.h"

#include <sodium.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are written as they are");

#define MAGIC "RVHNSW\r\n"
#define PAGE 4096
#define CODEC_ALIGN 4
#define COUNT_ONE(type, name, elements) +1
enum { N_ARRAYS = RV_HNSW_ARRAYS(COUNT_ONE), N_SECTIONS = N_ARRAYS + 1, DIGEST_BYTES = 32 };

typedef struct file_start {
	char magic[8];
	uint32_t version, header_bytes;
	uint8_t digest[DIGEST_BYTES];
} file_start;
_Static_assert(sizeof(file_start) == 48, "on disk");

typedef struct file_section {
	char name[16];
	uint32_t element_bytes, reserved;
	uint64_t offset, bytes;
} file_section;
_Static_assert(sizeof(file_section) == 40, "on disk");

typedef struct file_body {
	uint64_t file_bytes;
	int32_t metric, dim, m, ef_construction, ef_search, sketch, rerank, codes_only;
	uint64_t seed;
	int64_t capacity, n_slots, n_live, n_removed, upper_used;
	uint64_t entry;
	uint32_t n_sections, has_codec;
	file_section sections[N_SECTIONS];
} file_body;
_Static_assert(sizeof(file_body) == 104 + N_SECTIONS * 40, "on disk");

#define HEADER_BYTES (sizeof(file_start) + sizeof(file_body))

/* An array of an index: where it lies and how much of it is in use. */
typedef struct view {
	const char *name;
	void *data;
	size_t element_bytes;
	int64_t count; /* elements in use */
} view;

static void get_views(const rv_hnsw *h, int64_t n_slots, int64_t upper_used, view out[N_SECTIONS]) {
	int i = 0;
#define ADD_VIEW(type, name, elements)                                                                 \
	out[i++] = (view){#name, h->name, sizeof(type), n_slots * (int64_t)(elements)};
	RV_HNSW_ARRAYS(ADD_VIEW)
#undef ADD_VIEW
	out[i] = (view){"upper", h->upper, sizeof *h->upper, upper_used * h->options.m};
}

/* ---- saving ---- */

/* Where a section of `bytes` begins that comes after `at`: such as fill pages can be mapped. */
static size_t place_for(size_t at, uint64_t bytes) {
	const size_t align = bytes < PAGE ? RV_ALIGN : PAGE;
	return (at + align - 1) / align * align;
}

static file_body describe(const rv_hnsw *h, const view views[N_SECTIONS]) {
	const rv_hnsw_options *o = &h->options;
	file_body body = {.metric = (int32_t)o->metric,
	                  .dim = o->dim,
	                  .m = o->m,
	                  .ef_construction = o->ef_construction,
	                  .ef_search = o->ef_search,
	                  .sketch = o->sketch,
	                  .rerank = o->rerank,
	                  .codes_only = o->codes_only,
	                  .seed = o->seed,
	                  .capacity = o->capacity,
	                  .n_slots = atomic_load(&h->n_slots),
	                  .n_live = atomic_load(&h->n_live),
	                  .n_removed = atomic_load(&h->n_removed),
	                  .upper_used = h->upper_used,
	                  .entry = atomic_load(&h->entry),
	                  .n_sections = N_SECTIONS,
	                  .has_codec = o->codec != NULL};
	size_t at = HEADER_BYTES;
	for (int i = 0; i < N_SECTIONS; i++) {
		file_section *s = &body.sections[i];
		snprintf(s->name, sizeof s->name, "%s", views[i].name);
		s->element_bytes = (uint32_t)views[i].element_bytes;
		s->bytes = (uint64_t)views[i].count * views[i].element_bytes;
		s->offset = place_for(at, s->bytes);
		at = s->offset + s->bytes;
	}
	body.file_bytes = at;
	return body;
}

/* What the digest covers, in the order of the file. */
typedef rv_status emit_fn(void *user, const void *data, size_t size);

static rv_status emit(const file_body *body, const view views[N_SECTIONS], emit_fn *fn, void *user) {
	static const uint8_t zeros[PAGE];
	size_t at = HEADER_BYTES;
	RV_TRY(fn(user, body, sizeof *body));
	for (int i = 0; i < N_SECTIONS; i++) {
		RV_TRY(fn(user, zeros, body->sections[i].offset - at));
		RV_TRY(fn(user, views[i].data, body->sections[i].bytes));
		at = body->sections[i].offset + body->sections[i].bytes;
	}
	return RV_OK;
}

static rv_status emit_hash(void *user, const void *data, size_t size) {
	crypto_generichash_update(user, data, size);
	return RV_OK;
}
static rv_status emit_file(void *user, const void *data, size_t size) {
	return size ? rv_writer_write(user, data, size) : RV_OK;
}

static rv_status save(const rv_hnsw *h, rv_writer *w) {
	view views[N_SECTIONS];
	crypto_generichash_state hash;
	get_views(h, atomic_load(&h->n_slots), h->upper_used, views);
	const file_body body = describe(h, views);
	file_start start = {
	        .magic = MAGIC, .version = RV_HNSW_FILE_VERSION, .header_bytes = HEADER_BYTES};
	crypto_generichash_init(&hash, NULL, 0, DIGEST_BYTES);
	RV_TRY(emit(&body, views, emit_hash, &hash));
	crypto_generichash_final(&hash, start.digest, DIGEST_BYTES);
	RV_TRY(rv_writer_write(w, &start, sizeof start));
	RV_TRY(emit(&body, views, emit_file, w));
	if (!h->options.codec)
		return RV_OK;
	RV_TRY(rv_writer_pad(w, CODEC_ALIGN));
	return rv_codec_save(h->options.codec, w);
}

rv_status rv_hnsw_save(rv_hnsw *h, const char *path) {
	rv_writer *w;
	if (sodium_init() < 0)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: libsodium does not start", path);
	RV_TRY(rv_writer_open(&w, path));
	pthread_rwlock_wrlock(&h->gate);
	const rv_status status = save(h, w);
	pthread_rwlock_unlock(&h->gate);
	if (status == RV_OK)
		return rv_writer_commit(w);
	rv_writer_abort(w);
	return status;
}

/* ---- loading: the file as bytes ---- */

typedef struct source {
	const uint8_t *data;
	size_t size;
	const char *place;
	int fd; /* -1: bytes in memory */
} source;

static rv_status wrong(const source *s, const char *what, long long value) {
	return rv_fail(RV_ERR_FORMAT, "%s: %s (%lld)", s->place, what, value);
}

static rv_status read_start(const source *s, file_body *body) {
	file_start start;
	uint8_t digest[DIGEST_BYTES];
	if (s->size < sizeof start.magic || memcmp(s->data, MAGIC, sizeof start.magic) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: not an HNSW index", s->place);
	if (s->size < sizeof start)
		return rv_fail(RV_ERR_FORMAT, "%s: cut off at byte %zu, in its header", s->place,
		               s->size);
	memcpy(&start, s->data, sizeof start);
	if (start.version > RV_HNSW_FILE_VERSION)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: HNSW file version %u, this program reads %d",
		               s->place, start.version, RV_HNSW_FILE_VERSION);
	if (start.version == 0 || start.header_bytes != HEADER_BYTES)
		return rv_fail(RV_ERR_FORMAT, "%s: version %u with a header of %u bytes", s->place,
		               start.version, start.header_bytes);
	if (s->size < HEADER_BYTES)
		return rv_fail(RV_ERR_FORMAT, "%s: cut off at byte %zu, in its header", s->place,
		               s->size);
	memcpy(body, s->data + sizeof start, sizeof *body);
	if (body->file_bytes > s->size)
		return rv_fail(RV_ERR_FORMAT, "%s: cut off at byte %zu of %llu", s->place, s->size,
		               (unsigned long long)body->file_bytes);
	if (body->file_bytes < HEADER_BYTES)
		return wrong(s, "impossible length", (long long)body->file_bytes);
	crypto_generichash(digest, sizeof digest, s->data + sizeof start,
	                   body->file_bytes - sizeof start, NULL, 0);
	if (memcmp(digest, start.digest, sizeof digest) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: its bytes do not have its digest: it was changed",
		               s->place);
	if (!body->has_codec && body->file_bytes != s->size)
		return wrong(s, "bytes after its end", (long long)body->file_bytes);
	return RV_OK;
}

/* Each section is the one expected here, where it is expected, as long as the counts say; no count is
 * multiplied before the bytes that are there were divided. */
static rv_status check_sections(const source *s, const file_body *body, const view views[N_SECTIONS]) {
	size_t at = HEADER_BYTES;
	if (body->n_sections != N_SECTIONS)
		return wrong(s, "number of sections", body->n_sections);
	for (int i = 0; i < N_SECTIONS; i++) {
		const file_section *f = &body->sections[i];
		char name[sizeof f->name] = "";
		snprintf(name, sizeof name, "%s", views[i].name);
		if (memcmp(f->name, name, sizeof name) != 0 ||
		    f->element_bytes != views[i].element_bytes)
			return rv_fail(RV_ERR_FORMAT,
			               "%s: section %d is not '%s' of %zu bytes an element", s->place,
			               i, name, views[i].element_bytes);
		at = place_for(at, f->bytes);
		if (f->offset != at || f->offset > body->file_bytes ||
		    f->bytes > body->file_bytes - f->offset)
			return rv_fail(RV_ERR_FORMAT, "%s: section '%s' is at byte %llu, expected %zu",
			               s->place, name, (unsigned long long)f->offset, at);
		if (f->bytes % f->element_bytes ||
		    f->bytes / f->element_bytes != (uint64_t)views[i].count)
			return rv_fail(RV_ERR_FORMAT,
			               "%s: section '%s' has %llu bytes for %lld elements", s->place,
			               name, (unsigned long long)f->bytes, (long long)views[i].count);
		at += f->bytes;
	}
	return at == body->file_bytes ? RV_OK : wrong(s, "bytes after the last section", (long long)at);
}

static int is_in(int64_t value, int64_t min, int64_t max) {
	return value >= min && value <= max;
}

/* Counts fit each other and the smallest section there can be: one byte a slot. */
static rv_status check_counts(const source *s, const file_body *b) {
	if (!is_in(b->capacity, 1, RV_HNSW_MAX_CAPACITY) || !is_in(b->n_slots, 0, b->capacity) ||
	    (uint64_t)b->n_slots > s->size)
		return wrong(s, "impossible number of slots", b->n_slots);
	if (!is_in(b->n_live, 0, b->n_slots) || !is_in(b->n_removed, 0, b->n_slots - b->n_live))
		return wrong(s, "impossible number of vectors", b->n_live);
	if (!is_in(b->upper_used, 0, b->n_slots * RV_HNSW_MAX_LEVEL))
		return wrong(s, "impossible number of upper lists", b->upper_used);
	return RV_OK;
}

/* ---- loading: the arrays ---- */

/* The section's whole pages over the array's, until they are written to; how many bytes these are. */
static size_t map_section(const source *s, const file_section *f, void *array) {
	const size_t bytes = f->bytes / PAGE * PAGE;
	if (s->fd < 0 || bytes == 0 || sysconf(_SC_PAGESIZE) != PAGE)
		return 0;
	void *at = mmap(array, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, s->fd,
	                (off_t)f->offset);
	return at == array ? bytes : 0;
}

static void take_arrays(const source *s, const file_body *body, const view views[N_SECTIONS], int map) {
	for (int i = 0; i < N_SECTIONS; i++) {
		const file_section *f = &body->sections[i];
		const size_t mapped = map ? map_section(s, f, views[i].data) : 0;
		if (f->bytes > mapped)
			memcpy((uint8_t *)views[i].data + mapped, s->data + f->offset + mapped,
			       f->bytes - mapped);
	}
}

/* ---- loading: what verification takes for granted ---- */

static rv_status slot_wrong(const source *s, int64_t slot, const char *what, long long value) {
	return rv_fail(RV_ERR_FORMAT, "%s: slot %lld: %s (%lld)", s->place, (long long)slot, what,
	               value);
}

static rv_status check_levels(const source *s, const rv_hnsw *h, int64_t n_slots) {
	int64_t upper = 0;
	for (int64_t slot = 0; slot < n_slots; slot++) {
		const int state = rv_hnsw_state(h, (uint32_t)slot);
		if (state > RV_HNSW_REMOVED)
			return slot_wrong(s, slot, "unknown state", state);
		if (h->levels[slot] > RV_HNSW_MAX_LEVEL)
			return slot_wrong(s, slot, "impossible level", h->levels[slot]);
		if (h->upper_at[slot] != upper)
			return slot_wrong(s, slot, "its upper lists are misplaced, at",
			                  h->upper_at[slot]);
		upper += h->levels[slot];
	}
	return upper == h->upper_used ? RV_OK : wrong(s, "upper lists that no slot has", h->upper_used);
}

/* Parents are nodes, lead to a root without a circle, and count their children. */
static rv_status check_tree(const source *s, const rv_hnsw *h, int64_t n_slots, uint32_t *walks,
                            uint16_t *children) {
	for (int64_t slot = 0; slot < n_slots; slot++) {
		if (rv_hnsw_state(h, (uint32_t)slot) == RV_HNSW_FREE)
			continue;
		const uint32_t parent = rv_hnsw_parent(h, (uint32_t)slot);
		if (parent >= n_slots || rv_hnsw_state(h, parent) == RV_HNSW_FREE)
			return slot_wrong(s, slot, "its parent is no node", parent);
		if (parent != slot && children[parent]++ == RV_HNSW_MAX_M)
			return slot_wrong(s, parent, "too many children", RV_HNSW_MAX_M);
	}
	for (int64_t slot = 0; slot < n_slots; slot++) {
		if (rv_hnsw_state(h, (uint32_t)slot) == RV_HNSW_FREE)
			continue;
		if (children[slot] != atomic_load(h->children + slot))
			return slot_wrong(s, slot, "miscounted children",
			                  atomic_load(h->children + slot));
		uint32_t at = (uint32_t)slot;
		for (; !walks[at] && rv_hnsw_parent(h, at) != at; at = rv_hnsw_parent(h, at))
			walks[at] = (uint32_t)slot + 1;
		if (rv_hnsw_parent(h, at) != at && walks[at] == (uint32_t)slot + 1)
			return slot_wrong(s, slot, "its parents lead round in a circle at", at);
	}
	return RV_OK;
}

static rv_status check_graph(const source *s, rv_hnsw *h) {
	const int64_t n_slots = atomic_load(&h->n_slots);
	uint32_t *walks = NULL;
	uint16_t *children = NULL;
	RV_TRY(check_levels(s, h, n_slots));
	rv_status status = RV_ALLOC(&walks, n_slots, "HNSW verification");
	if (status == RV_OK)
		status = RV_ALLOC(&children, n_slots, "HNSW verification");
	if (status == RV_OK)
		status = check_tree(s, h, n_slots, walks, children);
	rv_free(walks);
	rv_free(children);
	if (status != RV_OK)
		return status;
	status = rv_hnsw_index_ids(h);
	for (int64_t slot = 0; h->code_bytes && slot < n_slots && status == RV_OK; slot++)
		if (rv_hnsw_state(h, (uint32_t)slot) != RV_HNSW_FREE)
			status = rv_codec_check_code(h->options.codec, rv_hnsw_code(h, (uint32_t)slot));
	if (status == RV_OK)
		status = rv_hnsw_verify(h);
	return status == RV_OK ? RV_OK : rv_fail_in(status, s->place);
}

/* ---- loading ---- */

static rv_status fill(rv_hnsw *h, const source *s, const file_body *body,
                      const rv_hnsw_load_options *o) {
	view views[N_SECTIONS];
	if (body->upper_used > h->upper_capacity)
		return wrong(s, "more upper lists than there is room for", body->upper_used);
	get_views(h, body->n_slots, body->upper_used, views);
	RV_TRY(check_sections(s, body, views));
	take_arrays(s, body, views, o->map);
	h->upper_used = body->upper_used;
	atomic_store(&h->n_slots, body->n_slots);
	atomic_store(&h->n_live, body->n_live);
	atomic_store(&h->n_removed, body->n_removed);
	atomic_store(&h->entry, body->entry);
	RV_TRY(check_graph(s, h));
	return rv_hnsw_learn_due(h, 0) ? rv_hnsw_learn(h, NULL, 0, o->threads) : RV_OK;
}

/* What stands behind the sections. */
static rv_status load_codec(rv_codec **out, const source *s, const file_body *body,
                            const rv_hnsw_load_options *o) {
	size_t at = (body->file_bytes + CODEC_ALIGN - 1) / CODEC_ALIGN * CODEC_ALIGN, used = 0;
	if (!o->codec)
		return rv_fail(RV_ERR_MISMATCH, "%s: an index of codes, and no place for its codec",
		               s->place);
	if (at > s->size)
		return rv_fail(RV_ERR_FORMAT, "%s: cut off before its codec", s->place);
	for (size_t i = body->file_bytes; i < at; i++)
		if (s->data[i])
			return wrong(s, "a byte before its codec is not 0", s->data[i]);
	RV_TRY(rv_codec_load(out, s->data + at, s->size - at, &used, o->kernels, s->place));
	if (used == s->size - at)
		return RV_OK;
	rv_codec_destroy(*out);
	*out = NULL;
	return wrong(s, "bytes after its codec", (long long)(at + used));
}

static rv_status create(rv_hnsw **out, const source *s, const file_body *body, const rv_codec *codec,
                        const rv_hnsw_load_options *o) {
	const rv_hnsw_options index = {.metric = (rv_metric)body->metric,
	                               .dim = body->dim,
	                               .m = body->m,
	                               .ef_construction = body->ef_construction,
	                               .ef_search = body->ef_search,
	                               .capacity = o->capacity > body->capacity ? o->capacity
	                                                                        : body->capacity,
	                               .seed = body->seed,
	                               .sketch = body->sketch,
	                               .codec = codec,
	                               .rerank = body->rerank,
	                               .codes_only = body->codes_only,
	                               .kernels = o->kernels};
	rv_status status = rv_hnsw_create(out, &index);
	if (status == RV_OK)
		return RV_OK;
	/* invalid is what the file says, not what the caller asked */
	status = status == RV_ERR_NO_MEMORY ? status : RV_ERR_FORMAT;
	return rv_fail_in(status, s->place);
}

static rv_status load(rv_hnsw **out, const source *s, const rv_hnsw_load_options *options) {
	static const rv_hnsw_load_options none;
	const rv_hnsw_load_options *o = options ? options : &none;
	file_body body;
	rv_hnsw *h = NULL;
	rv_codec *codec = NULL;
	*out = NULL;
	if (sodium_init() < 0)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: libsodium does not start", s->place);
	RV_TRY(read_start(s, &body));
	RV_TRY(check_counts(s, &body));
	if (body.has_codec)
		RV_TRY(load_codec(&codec, s, &body, o));
	rv_status status = create(&h, s, &body, codec, o);
	if (status == RV_OK)
		status = fill(h, s, &body, o);
	if (status != RV_OK) {
		rv_hnsw_destroy(h);
		rv_codec_destroy(codec);
		return status;
	}
	if (codec)
		*o->codec = codec;
	*out = h;
	return RV_OK;
}

rv_status rv_hnsw_load(rv_hnsw **out, const char *path, const rv_hnsw_load_options *options) {
	rv_map map;
	*out = NULL;
	RV_TRY(rv_map_open(&map, path));
	const source s = {map.data, map.size, path, map.fd};
	rv_status status = load(out, &s, options);
	if (status == RV_OK && (status = rv_map_check(&map)) != RV_OK) {
		const int has_codec = rv_hnsw_get_options(*out)->codec != NULL;
		rv_hnsw_destroy(*out);
		*out = NULL;
		if (has_codec) {
			rv_codec_destroy(*options->codec);
			*options->codec = NULL;
		}
	}
	rv_map_close(&map);
	return status;
}

rv_status rv_hnsw_load_memory(rv_hnsw **out, const void *data, size_t size, const char *place,
                              const rv_hnsw_load_options *options) {
	const source s = {data, size, place, -1};
	return load(out, &s, options);
}
