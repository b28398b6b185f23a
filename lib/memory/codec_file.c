/* Codecs as bytes: a header, what was learned, a checksum of both. */
#include "memory/codec_internal.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

#define MAGIC "RVCODEC"
enum { VERSION = 1 };

typedef struct file_header {
	char magic[8];
	uint32_t version, kind, metric;
	int32_t dim, pq_m;
	uint32_t crc; /* of the header with crc 0, then what was learned */
	uint64_t seed, n_learned;
} file_header;
_Static_assert(sizeof(file_header) == 48, "a header on disk");
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "files are little-endian"
#endif

static uint32_t checksum(file_header h, const void *learned) {
	h.crc = 0;
	return rv_crc32(rv_crc32(0, &h, sizeof h), learned, (size_t)h.n_learned * sizeof(float));
}

rv_status rv_codec_save(const rv_codec *codec, rv_writer *writer) {
	const rv_codec_options *o = &codec->options;
	file_header h = {MAGIC,     VERSION, o->kind,
	                 o->metric, o->dim,  o->pq_m,
	                 0,         o->seed, codec->kind->n_learned(o)};
	if (!codec->learned)
		return rv_fail(RV_ERR_INVALID, "codec %s: not trained", rv_code_name(o->kind));
	h.crc = checksum(h, codec->learned);
	RV_TRY(rv_writer_write(writer, &h, sizeof h));
	return rv_writer_write(writer, codec->learned, (size_t)h.n_learned * sizeof(float));
}

/* The codec of a header, its learned part still missing. */
static rv_status create_from(rv_codec **out, const file_header *h, size_t left,
                             const rv_kernels *kernels, const char *place) {
	if (memcmp(h->magic, MAGIC, sizeof h->magic) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: no codec", place);
	if (h->version != VERSION)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: codec of version %u, not %d", place, h->version,
		               VERSION);
	if (h->kind >= RV_CODE_COUNT || h->metric >= RV_METRIC_COUNT || h->pq_m < 0 ||
	    (h->kind == RV_CODE_PQ) != (h->pq_m > 0))
		return rv_fail(RV_ERR_FORMAT, "%s: codec of kind %u, metric %u, %d sub-spaces", place,
		               h->kind, h->metric, h->pq_m);
	rv_codec_options o = {
	        (rv_code_kind)h->kind, (rv_metric)h->metric, h->dim, h->pq_m, h->seed, kernels};
	rv_status status = rv_codec_create(out, &o);
	if (status != RV_OK)
		return rv_fail_in(status == RV_ERR_INVALID ? RV_ERR_FORMAT : status, place);
	const size_t expected = (*out)->kind->n_learned(&(*out)->options);
	if (h->n_learned == expected && expected <= left / sizeof(float))
		return RV_OK;
	rv_codec_destroy(*out);
	*out = NULL;
	return rv_fail(RV_ERR_FORMAT, "%s: codec of %llu numbers, expected %zu; %zu bytes are there",
	               place, (unsigned long long)h->n_learned, expected, left);
}

static rv_status read_learned(rv_codec *c, const uint8_t *data, const file_header *h,
                              const char *place) {
	const size_t n = (size_t)h->n_learned;
	if (checksum(*h, data) != h->crc)
		return rv_fail(RV_ERR_FORMAT, "%s: codec: checksum differs", place);
	RV_TRY(RV_ALLOC(&c->learned, n, "learned part of a codec"));
	memcpy(c->learned, data, n * sizeof(float));
	for (size_t i = 0; i < n; i++) {
		if (!isfinite(c->learned[i]))
			return rv_fail(RV_ERR_FORMAT, "%s: codec: number %zu is not finite", place, i);
	}
	return c->kind->derive(c);
}

rv_status rv_codec_load(rv_codec **out, const uint8_t *data, size_t size, size_t *used,
                        const rv_kernels *kernels, const char *place) {
	file_header h;
	*out = NULL;
	if (size < sizeof h)
		return rv_fail(RV_ERR_FORMAT, "%s: codec: %zu bytes are too few", place, size);
	memcpy(&h, data, sizeof h);
	RV_TRY(create_from(out, &h, size - sizeof h, kernels, place));
	rv_status status = read_learned(*out, data + sizeof h, &h, place);
	if (status != RV_OK) {
		rv_codec_destroy(*out);
		*out = NULL;
		return status;
	}
	*used = sizeof h + (size_t)h.n_learned * sizeof(float);
	return RV_OK;
}
