#include "kernels/kv_codes.h"

#include "kernels/kernels_internal.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#define BLOCK RV_ATTN_BLOCK
#define GROUP RV_KV_GROUP
enum { HEADER = 7 }; /* bytes before the codes of a KVQUANT group */

/* ---- the formats ---- */

enum { ROWS, KIVI, KVQUANT, SQUAT };
static const struct {
	const char *name;
	int how, bits;
	rv_kv_type row; /* of a vector (KIVI, SQUAT) or of a token (rows) */
} formats[RV_KV_FORMATS] = {
#define ROW(NAME, lower) [RV_KV_##NAME] = {#lower, ROWS, 0, RV_KV_##NAME},
        RV_EACH_KV(ROW)
#undef ROW
#define CODE(NAME, text, how, bits) [RV_KV_##NAME] = {text, how, bits, RV_KV_Q##bits},
                RV_EACH_KV_CODE(CODE)
#undef CODE
};

const char *rv_kv_format_name(rv_kv_format format) {
	return format < RV_KV_FORMATS ? formats[format].name : "unknown";
}

rv_kv_format rv_kv_format_by_name(const char *name) {
	for (rv_kv_format i = 0; i < RV_KV_FORMATS; i++) {
		if (strcasecmp(name, formats[i].name) == 0) {
			return i;
		}
	}
	return RV_KV_FORMATS;
}

int rv_kv_format_needs_books(rv_kv_format format) {
	return formats[format].how == KVQUANT;
}

int rv_kv_format_needs_feedback(rv_kv_format format) {
	return formats[format].how == SQUAT;
}

/* Bytes of a KVQUANT vector. */
static size_t picked_bytes(int bits, int64_t n) {
	return (size_t)((n + GROUP - 1) / GROUP * HEADER + n * bits / 8);
}

/* `vectors` of n elements */
static size_t bytes_of(rv_kv_format format, int64_t vectors, int64_t n) {
	size_t one = formats[format].how == KVQUANT ? picked_bytes(formats[format].bits, n)
	                                            : rv_kv_row_bytes(formats[format].row, n);
	return (size_t)vectors * one;
}

size_t rv_kv_keys_bytes(rv_kv_format format, int64_t n, int64_t head_dim) {
	return formats[format].how == ROWS ? bytes_of(format, n, head_dim)
	                                   : bytes_of(format, head_dim, n);
}

size_t rv_kv_values_bytes(rv_kv_format format, int64_t n, int64_t head_dim) {
	return bytes_of(format, n, head_dim);
}

/* ---- KVQUANT: vectors with a codebook and one element apart ---- */

static void put_f16(unsigned char *dst, float x) {
	rv_f16 h = rv_f32_to_f16(x);
	memcpy(dst, &h, sizeof h);
}

static float get_f16(const unsigned char *src) {
	rv_f16 h;
	memcpy(&h, src, sizeof h);
	return rv_f16_to_f32(h);
}

int64_t rv_kv_pick(const float *x, int64_t n, float *low, float *high) {
	int64_t min = 0, max = 0;
	for (int64_t i = 1; i < n; i++) {
		min = x[i] < x[min] ? i : min;
		max = x[i] > x[max] ? i : max;
	}
	float min2 = INFINITY, max2 = -INFINITY; /* without min, without max */
	for (int64_t i = 0; i < n; i++) {
		min2 = i != min && x[i] < min2 ? x[i] : min2;
		max2 = i != max && x[i] > max2 ? x[i] : max2;
	}
	int top = x[max] - max2 >= min2 - x[min];
	*low = top ? x[min] : min2;
	*high = top ? max2 : x[max];
	return top ? max : min;
}

static const float *book_of(const rv_kv_code_block *b, int bits, int values) {
	return b->books + (2 * (bits == 2) + values) * RV_KV_BOOK;
}

/* NaN and infinity in x give a NaN scale, which makes all of the group NaN. */
static void encode_group(unsigned char *dst, const float *x, int64_t n, int bits, const float *book) {
	int finite = 1;
	for (int64_t i = 0; i < n; i++) {
		finite &= isfinite(x[i]);
	}
	float low = 0, high = 0;
	int64_t apart = finite ? rv_kv_pick(x, n, &low, &high) : 0;
	put_f16(dst, finite ? high - low : NAN);
	put_f16(dst + 2, finite ? low : NAN);
	put_f16(dst + 4, finite ? x[apart] : NAN);
	dst[6] = (unsigned char)apart;
	memset(dst + HEADER, 0, (size_t)(n * bits / 8));
	float d = get_f16(dst), m = get_f16(dst + 2);
	float inverse = d > 0 && isfinite(d) && isfinite(m) ? 1 / d : 0;
	const int per_byte = 8 / bits, last = (1 << bits) - 1;
	for (int64_t i = 0; inverse > 0 && i < n; i++) {
		float u = (x[i] - m) * inverse;
		int code = 0;
		while (code < last && u > 0.5f * (book[code] + book[code + 1])) {
			code++;
		}
		dst[HEADER + i / per_byte] |= (unsigned char)(code << i % per_byte * bits);
	}
}

static void encode_picked(unsigned char *dst, const float *x, int64_t n, int bits, const float *book) {
	for (int64_t i = 0; i < n; i += GROUP) {
		int64_t part = n - i < GROUP ? n - i : GROUP;
		encode_group(dst, x + i, part, bits, book);
		dst += HEADER + part * bits / 8;
	}
}

static void decode_group(float *x, const unsigned char *src, int64_t n, int bits, const float *book) {
	float d = get_f16(src), m = get_f16(src + 2), values[RV_KV_BOOK];
	const int per_byte = 8 / bits, mask = (1 << bits) - 1;
	for (int code = 0; code <= mask; code++) {
		values[code] = m + d * book[code];
	}
	for (int64_t i = 0; i < n; i += per_byte) {
		int codes = src[HEADER + i / per_byte];
		for (int j = 0; j < per_byte; j++) {
			x[i + j] = values[codes >> j * bits & mask];
		}
	}
	x[src[6] % GROUP < n ? src[6] : 0] = get_f16(src + 4);
}

static void decode_picked(float *x, const unsigned char *src, int64_t n, int bits, const float *book) {
	for (int64_t i = 0; i < n; i += GROUP) {
		int64_t part = n - i < GROUP ? n - i : GROUP;
		decode_group(x + i, src, part, bits, book);
		src += HEADER + part * bits / 8;
	}
}

/* Rotates columns [0, n) of kt as tokens [from, from + n) were; direction -1 undoes it. A scaled
 * rotation (YaRN) is undone by dividing by the square of its length. */
static void rotate(float *kt, int64_t from, int64_t n, const rv_kv_code_block *b, int direction) {
	const int64_t half = b->n_rot / 2;
	for (int64_t p = 0; p < half; p++) {
		float *x = kt + (b->neox ? p : 2 * p) * BLOCK;
		float *y = kt + (b->neox ? p + half : 2 * p + 1) * BLOCK;
		const float *cosines = b->rope + 2 * p * b->n + from, *sines = cosines + b->n;
		for (int64_t i = 0; i < n; i++) {
			float c = cosines[i], s = sines[i];
			if (direction < 0) {
				float square = c * c + s * s;
				c = c / square;
				s = -s / square;
			}
			float x0 = x[i], y0 = y[i];
			x[i] = x0 * c - y0 * s;
			y[i] = x0 * s + y0 * c;
		}
	}
}

void rv_kv_unrotate(float *kt, const rv_kv_code_block *b) {
	rotate(kt, 0, b->n, b, -1);
}

/* ---- SQUAT: errors passed on ---- */

/* Adds channel c's error, what it should have been less what is stored, to the channels after it. */
static void pass_on(float *kt, int64_t c, const float *stored, const rv_kv_code_block *b) {
	float error[BLOCK] = {0};
	for (int64_t i = 0; i < b->n; i++) {
		error[i] = kt[c * BLOCK + i] - stored[i];
	}
	for (int64_t e = c + 1; e < b->head_dim; e++) {
		const float share = b->feedback[c * b->head_dim + e];
		float *x = kt + e * BLOCK;
		for (int64_t i = 0; i < b->n; i++) {
			x[i] += share * error[i];
		}
	}
}

/* ---- a block ---- */

void rv_kv_encode_keys(const rv_kernels *k, rv_kv_format format, void *dst, float *kt,
                       const rv_kv_code_block *b) {
	const int how = formats[format].how, bits = formats[format].bits;
	const rv_kv_ops *row = &k->kv[formats[format].row];
	size_t bytes = rv_kv_keys_bytes(format, b->n, b->head_dim) /
	               (size_t)(how == ROWS ? b->n : b->head_dim);
	unsigned char *out = dst;
	float vector[RV_KV_MAX_HEAD_DIM];
	if (how == ROWS) {
		for (int64_t i = 0; i < b->n; i++, out += bytes) {
			for (int64_t c = 0; c < b->head_dim; c++) {
				vector[c] = kt[c * BLOCK + i];
			}
			row->store(out, vector, b->head_dim);
		}
		return;
	}
	if (how == KVQUANT) {
		rv_kv_unrotate(kt, b);
	}
	for (int64_t c = 0; c < b->head_dim; c++, out += bytes) {
		if (how == KVQUANT) {
			encode_picked(out, kt + c * BLOCK, b->n, bits, book_of(b, bits, 0));
			continue;
		}
		row->store(out, kt + c * BLOCK, b->n);
		if (how == SQUAT) {
			row->load_values(vector, out, bytes, 1, b->n);
			pass_on(kt, c, vector, b);
		}
	}
}

void rv_kv_encode_values(const rv_kernels *k, rv_kv_format format, void *dst, const float *v,
                         const rv_kv_code_block *b) {
	size_t bytes = bytes_of(format, 1, b->head_dim);
	unsigned char *out = dst;
	for (int64_t i = 0; i < b->n; i++, out += bytes, v += b->head_dim) {
		if (formats[format].how == KVQUANT) {
			encode_picked(out, v, b->head_dim, formats[format].bits,
			              book_of(b, formats[format].bits, 1));
		} else {
			k->kv[formats[format].row].store(out, v, b->head_dim);
		}
	}
}

void rv_kv_load_keys(const rv_kernels *k, rv_kv_format format, float *kt, const void *src, int64_t from,
                     int64_t n, const rv_kv_code_block *b) {
	const int how = formats[format].how;
	const rv_kv_ops *row = &k->kv[formats[format].row];
	const unsigned char *in = src;
	if (how == ROWS) {
		size_t stride = bytes_of(format, 1, b->head_dim);
		row->load_keys(kt, in + (size_t)from * stride, stride, n, b->head_dim);
		return;
	}
	size_t bytes = bytes_of(format, 1, b->n);
	if (how != KVQUANT && n == BLOCK) { /* channels are rows of kt */
		row->load_values(kt, in, bytes, b->head_dim, n);
		return;
	}
	for (int64_t c = 0; c < b->head_dim; c++, in += bytes) {
		float vector[BLOCK];
		if (how == KVQUANT) {
			decode_picked(vector, in, b->n, formats[format].bits,
			              book_of(b, formats[format].bits, 0));
		} else {
			row->load_values(vector, in, bytes, 1, b->n);
		}
		memcpy(kt + c * BLOCK, vector + from, (size_t)n * sizeof *vector);
	}
	if (how == KVQUANT) {
		rotate(kt, from, n, b, 1);
	}
}

void rv_kv_load_values(const rv_kernels *k, rv_kv_format format, float *v, const void *src,
                       int64_t from, int64_t n, const rv_kv_code_block *b) {
	size_t bytes = bytes_of(format, 1, b->head_dim);
	const unsigned char *in = (const unsigned char *)src + (size_t)from * bytes;
	if (formats[format].how != KVQUANT) {
		k->kv[formats[format].row].load_values(v, in, bytes, n, b->head_dim);
		return;
	}
	for (int64_t i = 0; i < n; i++, in += bytes, v += b->head_dim) {
		decode_picked(v, in, b->head_dim, formats[format].bits,
		              book_of(b, formats[format].bits, 1));
	}
}

/* Rows to rows need no columns. */
static void recode_rows(const rv_kernels *k, rv_kv_format to, void *dst, rv_kv_format from,
                        const void *src, const rv_kv_code_block *b, float *scratch) {
	size_t stride = bytes_of(to, 1, b->head_dim);
	rv_kv_load_values(k, from, scratch, src, 0, b->n, b);
	for (int64_t i = 0; i < b->n; i++) {
		k->kv[formats[to].row].store((unsigned char *)dst + (size_t)i * stride,
		                             scratch + i * b->head_dim, b->head_dim);
	}
}

void rv_kv_recode(const rv_kernels *k, rv_kv_format to, void *to_keys, void *to_values,
                  rv_kv_format from, const void *keys, const void *values, const rv_kv_code_block *b,
                  float *scratch) {
	if (formats[to].how == ROWS && formats[from].how == ROWS) {
		recode_rows(k, to, to_keys, from, keys, b, scratch);
	} else {
		rv_kv_load_keys(k, from, scratch, keys, 0, b->n, b);
		rv_kv_encode_keys(k, to, to_keys, scratch, b);
	}
	rv_kv_load_values(k, from, scratch, values, 0, b->n, b);
	rv_kv_encode_values(k, to, to_values, scratch, b);
}
