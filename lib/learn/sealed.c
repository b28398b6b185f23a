#include "learn/sealed.h"

#include "base/file.h"
#include "base/mem.h"

#include <string.h>

#define FILE_BYTES_MAX ((size_t)1 << 30)

typedef struct header {
	char magic[RV_SEALED_MAGIC];
	uint32_t version, crc;
	uint64_t size; /* of what follows */
} header;
_Static_assert(sizeof(header) == 24, "the header is part of the file format");

/* ---- writing ---- */

static void append(rv_sealed_out *out, const void *data, size_t size) {
	size_t need;
	if (out->status != RV_OK)
		return;
	if (!rv_add_ok(out->size, size, &need) || need > FILE_BYTES_MAX) {
		out->status = rv_fail(RV_ERR_LIMIT, "a file of learnt numbers: over 1 GiB");
		return;
	}
	if (need > out->cap) {
		const size_t cap = 2 * need;
		out->status = RV_GROW(&out->data, out->cap, cap, "file of learnt numbers");
		if (out->status != RV_OK)
			return;
		out->cap = cap;
	}
	if (size)
		memcpy(out->data + out->size, data, size);
	out->size = need;
}

void rv_sealed_put(rv_sealed_out *out, const void *data, size_t size) {
	const uint64_t length = size;
	append(out, &length, sizeof length);
	append(out, data, size);
}

static rv_status write_file(const rv_sealed_out *out, const char *path, const header *h) {
	rv_writer *w;
	RV_TRY(rv_writer_open(&w, path));
	rv_status st = rv_writer_write(w, h, sizeof *h);
	if (st == RV_OK)
		st = rv_writer_write(w, out->data, out->size);
	if (st == RV_OK)
		return rv_writer_commit(w);
	rv_writer_abort(w);
	return st;
}

rv_status rv_sealed_write(rv_sealed_out *out, const char *path, const char magic[RV_SEALED_MAGIC],
                          uint32_t version) {
	header h = {.version = version, .size = out->size};
	memcpy(h.magic, magic, RV_SEALED_MAGIC);
	h.crc = rv_crc32(0, out->data, out->size);
	const rv_status st = out->status == RV_OK ? write_file(out, path, &h) : out->status;
	rv_free(out->data);
	memset(out, 0, sizeof *out);
	return st;
}

/* ---- reading ---- */

static rv_status check(rv_sealed_in *in, const char *magic, uint32_t version) {
	header h;
	if (in->size < sizeof h || memcmp(in->data, magic, RV_SEALED_MAGIC) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: not a file of kind %.*s", in->name, RV_SEALED_MAGIC,
		               magic);
	memcpy(&h, in->data, sizeof h);
	if (h.version != version)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: version %u, this program reads %u", in->name,
		               h.version, version);
	if (h.size != in->size - sizeof h)
		return rv_fail(RV_ERR_FORMAT, "%s: %zu bytes, its header says %llu: it was cut off",
		               in->name, in->size - sizeof h, (unsigned long long)h.size);
	if (h.crc != rv_crc32(0, in->data + sizeof h, in->size - sizeof h))
		return rv_fail(RV_ERR_FORMAT, "%s: wrong checksum: it was changed", in->name);
	in->at = sizeof h;
	return RV_OK;
}

rv_status rv_sealed_open(rv_sealed_in *in, const char *path, const char magic[RV_SEALED_MAGIC],
                         uint32_t version) {
	memset(in, 0, sizeof *in);
	in->name = path;
	RV_TRY(rv_file_read(path, FILE_BYTES_MAX, &in->data, &in->size));
	const rv_status st = check(in, magic, version);
	if (st != RV_OK)
		rv_sealed_close(in);
	return st;
}

rv_status rv_sealed_open_memory(rv_sealed_in *in, const void *data, size_t size, const char *name,
                                const char magic[RV_SEALED_MAGIC], uint32_t version) {
	memset(in, 0, sizeof *in);
	in->name = name;
	RV_TRY(rv_alloc_uninit((void **)&in->data, size + 1, 1, "file of learnt numbers"));
	if (size)
		memcpy(in->data, data, size);
	in->size = size;
	const rv_status st = check(in, magic, version);
	if (st != RV_OK)
		rv_sealed_close(in);
	return st;
}

void rv_sealed_close(rv_sealed_in *in) {
	rv_free(in->data);
	memset(in, 0, sizeof *in);
}

rv_status rv_sealed_next(rv_sealed_in *in, const char *what, const char **data, size_t *size) {
	uint64_t length;
	if (in->size - in->at < sizeof length)
		return rv_fail(RV_ERR_FORMAT, "%s: byte %zu: no section '%s'", in->name, in->at, what);
	memcpy(&length, in->data + in->at, sizeof length);
	if (length > in->size - in->at - sizeof length)
		return rv_fail(RV_ERR_FORMAT, "%s: byte %zu: section '%s' is longer than the file",
		               in->name, in->at, what);
	*data = in->data + in->at + sizeof length;
	*size = (size_t)length;
	in->at += sizeof length + (size_t)length;
	return RV_OK;
}

rv_status rv_sealed_get(rv_sealed_in *in, const char *what, void *out, size_t size) {
	const char *data = NULL;
	size_t n = 0;
	RV_TRY(rv_sealed_next(in, what, &data, &n));
	if (n != size)
		return rv_fail(RV_ERR_FORMAT, "%s: section '%s' has %zu bytes, not %zu", in->name, what,
		               n, size);
	if (size)
		memcpy(out, data, size);
	return RV_OK;
}

rv_status rv_sealed_end(const rv_sealed_in *in) {
	return in->at == in->size ? RV_OK
	                          : rv_fail(RV_ERR_FORMAT, "%s: byte %zu: more than is expected",
	                                    in->name, in->at);
}
