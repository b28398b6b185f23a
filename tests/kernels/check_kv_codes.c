/* Checks of the formats that a whole block of cached tokens is stored in. */
#include "kernels/kv_codes.h"
#include "tests/kernels/harness.h"

#include <math.h>
#include <string.h>

enum { BLOCK = RV_ATTN_BLOCK, MAX_DIM = 256 };

/* What a format is given beside the block, and its values in plain floats. */
static float rope[MAX_DIM * BLOCK], books[RV_KV_BOOKS], feedback[MAX_DIM * MAX_DIM];
static float keys[MAX_DIM * BLOCK], values[MAX_DIM * BLOCK]; /* as encoded */

static int bits_of(rv_kv_format format) {
	static const int bits[] = {
#define X(name, text, how, b) b,
	        RV_EACH_KV_CODE(X)
#undef X
	};
	return bits[format - RV_KV_COUNT];
}

/* Rotations by the position, codebooks that are not even, a feedback of small random shares. */
static rv_kv_code_block make_block(checker *c, rv_kv_format format, int64_t n, int64_t head_dim) {
	const int last = (1 << bits_of(format)) - 1;
	rv_kv_code_block b = {.n = n, .head_dim = head_dim, .rope = rope, .n_rot = head_dim};
	b.n_rot = below(c, 2) ? head_dim : head_dim / 8 * 4;
	b.neox = (int)below(c, 2);
	b.books = books;
	b.feedback = feedback;
	for (int64_t p = 0; p < b.n_rot / 2; p++) {
		for (int64_t i = 0; i < n; i++) {
			double angle =
			        (double)(1000 + i) * pow(1e4, -2.0 * (double)p / (double)b.n_rot);
			rope[2 * p * n + i] = (float)cos(angle);
			rope[(2 * p + 1) * n + i] = (float)sin(angle);
		}
	}
	for (int i = 0; i <= last; i++) {
		float *pair = books + (last == 3 ? 2 * RV_KV_BOOK : 0);
		pair[i] = (float)i / (float)last;
		pair[RV_KV_BOOK + i] = pair[i] * pair[i];
	}
	for (int64_t i = 0; i < head_dim * head_dim; i++) {
		feedback[i] = 0.02f * gauss(c);
	}
	return b;
}

static void fill_block(checker *c, const rv_kv_code_block *b, kind how) {
	for (int64_t i = 0; i < b->head_dim; i++) {
		fill(c, keys + i * BLOCK, b->n, how);
	}
	fill(c, values, b->n * b->head_dim, how);
}

/* ---- encoding and decoding against the reference ---- */

typedef struct stored {
	unsigned char *keys, *values;
	size_t key_bytes, value_bytes;
} stored;

/* As k encodes what is in keys and values, in guarded memory. */
static int encode(checker *c, const rv_kernels *k, rv_kv_format format, const rv_kv_code_block *b,
                  stored *out) {
	out->key_bytes = rv_kv_keys_bytes(format, b->n, b->head_dim);
	out->value_bytes = rv_kv_values_bytes(format, b->n, b->head_dim);
	out->keys = take(c, out->key_bytes, 1, 0);
	out->values = take(c, out->value_bytes, 1, 0);
	float *kt = take(c, (size_t)(b->head_dim * BLOCK) * sizeof *kt, sizeof *kt, 0);
	memcpy(kt, keys, (size_t)(b->head_dim * BLOCK) * sizeof *kt);
	seal(c);
	rv_kv_encode_keys(k, format, out->keys, kt, b);
	rv_kv_encode_values(k, format, out->values, values, b);
	return verify(c, "kv encode");
}

/* Tokens [from, from + n) come out the same as from the reference's whole block, and nothing else. */
static int decode_part(checker *c, rv_kv_format format, const stored *s, const rv_kv_code_block *b,
                       int64_t from, int64_t n) {
	static float want_k[MAX_DIM * BLOCK], want_v[MAX_DIM * BLOCK], part[MAX_DIM * BLOCK];
	float *kt = floats_out(c, b->head_dim * BLOCK), *v = floats_out(c, n * b->head_dim);
	rv_kv_load_keys(&rv_kernels_ref, format, want_k, s->keys, 0, b->n, b);
	rv_kv_load_values(&rv_kernels_ref, format, want_v, s->values, 0, b->n, b);
	memset(part, 0xff, sizeof part);
	for (int64_t i = 0; i < b->head_dim; i++) {
		memcpy(part + i * BLOCK, want_k + i * BLOCK + from, (size_t)n * sizeof *part);
	}
	seal(c);
	rv_kv_load_keys(c->k, format, kt, s->keys, from, n, b);
	rv_kv_load_values(c->k, format, v, s->values, from, n, b);
	return verify(c, "kv decode") ||
	                       same(c, "kv codes: keys", kt, part,
	                            (size_t)(b->head_dim * BLOCK) * sizeof *kt) ||
	                       same(c, "kv codes: values", v, want_v + from * b->head_dim,
	                            (size_t)(n * b->head_dim) * sizeof *v)
	               ? -1
	               : 0;
}

/* Largest error of an element of x[0..n) that a format of evenly or unevenly spaced codes allows. */
static float bound(rv_kv_format format, const float *x, int64_t n, int uneven) {
	float min = INFINITY, max = -INFINITY, top = 0;
	for (int64_t i = 0; i < n; i++) {
		min = fminf(min, x[i]);
		max = fmaxf(max, x[i]);
		top = fmaxf(top, fabsf(x[i]));
	}
	const float last = (float)((1 << bits_of(format)) - 1);
	/* the widest gap of a book of squares is that of its last two */
	const float gap = uneven ? (2 * last - 1) / (last * last) : 1 / last;
	return (max - min) * gap * 0.51f + 3 * 0x1p-11f * top + 0x1p-16f;
}

static int within(checker *c, const char *what, const float *got, const float *want, int64_t n,
                  float most) {
	for (int64_t i = 0; i < n; i++) {
		if (!(fabsf(got[i] - want[i]) <= most)) {
			return fail(c, "kv codes: %s: %.9g came back as %.9g", what, (double)want[i],
			            (double)got[i]);
		}
	}
	return 0;
}

static int round_trip(checker *c, rv_kv_format format, const stored *s, const rv_kv_code_block *b) {
	static float kt[MAX_DIM * BLOCK], v[MAX_DIM * BLOCK];
	const int books_used = rv_kv_format_needs_books(format);
	rv_kv_load_keys(c->k, format, kt, s->keys, 0, b->n, b);
	rv_kv_load_values(c->k, format, v, s->values, 0, b->n, b);
	for (int64_t i = 0; i < b->n; i++) {
		for (int64_t g = 0; g < b->head_dim; g += RV_KV_GROUP) {
			int64_t n = b->head_dim - g < RV_KV_GROUP ? b->head_dim - g : RV_KV_GROUP;
			const float *x = values + i * b->head_dim + g;
			if (within(c, "value", v + i * b->head_dim + g, x, n,
			           bound(format, x, n, books_used))) {
				return -1;
			}
		}
	}
	/* Keys of the others are not near their own channel's values: by rotation, by feedback. */
	for (int64_t i = 0; !books_used && !rv_kv_format_needs_feedback(format) && i < b->head_dim;
	     i++) {
		const float *x = keys + i * BLOCK;
		if (within(c, "key", kt + i * BLOCK, x, b->n, bound(format, x, b->n, 0))) {
			return -1;
		}
	}
	return 0;
}

static int block_shape(checker *c, rv_kv_format format, int64_t n, int64_t head_dim, kind how) {
	reset(c);
	rv_kv_code_block b = make_block(c, format, n, head_dim);
	stored got, want;
	fill_block(c, &b, how);
	if (encode(c, &rv_kernels_ref, format, &b, &want) || encode(c, c->k, format, &b, &got) ||
	    same(c, "kv codes: stored keys", got.keys, want.keys, want.key_bytes) ||
	    same(c, "kv codes: stored values", got.values, want.values, want.value_bytes) ||
	    round_trip(c, format, &got, &b)) {
		return -1;
	}
	for (int i = 0; i < c->used; i++) {
		c->slots[i].input = 1;
	}
	int64_t from = below(c, n);
	return decode_part(c, format, &got, &b, 0, n) ||
	                       decode_part(c, format, &got, &b, from, below(c, n - from + 1))
	               ? -1
	               : 0;
}

/* ---- what each format is for ---- */

/* Bits of an element of a block of 64 tokens x 128, keys and values. */
static int check_sizes(checker *c, rv_kv_format format) {
	static const struct {
		rv_kv_format format;
		double key_bits, value_bits;
	} sizes[] = {{RV_KV_KIVI4, 4.5, 4.25},        {RV_KV_KIVI2, 2.5, 2.25},
	             {RV_KV_SQUAT4, 4.5, 4.25},       {RV_KV_SQUAT2, 2.5, 2.25},
	             {RV_KV_KVQUANT4, 4.875, 4.4375}, {RV_KV_KVQUANT2, 2.875, 2.4375}};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		double k = 8.0 / 8192 * (double)rv_kv_keys_bytes(sizes[i].format, 64, 128);
		double v = 8.0 / 8192 * (double)rv_kv_values_bytes(sizes[i].format, 64, 128);
		if (sizes[i].format == format && (k != sizes[i].key_bits || v != sizes[i].value_bits)) {
			return fail(c, "kv codes: %g and %g bits", k, v);
		}
	}
	return 0;
}

static double error_of_keys(const rv_kernels *k, rv_kv_format format, const rv_kv_code_block *b,
                            const float *direction) {
	static float kt[MAX_DIM * BLOCK];
	static unsigned char bytes[MAX_DIM * BLOCK * 2];
	memcpy(kt, keys, sizeof kt);
	rv_kv_encode_keys(k, format, bytes, kt, b);
	rv_kv_load_keys(k, format, kt, bytes, 0, b->n, b);
	double total = 0;
	for (int64_t i = 0; i < b->n; i++) {
		double along = 0;
		for (int64_t d = 0; d < b->head_dim; d++) {
			double e = (double)(kt[d * BLOCK + i] - keys[d * BLOCK + i]);
			if (!direction) {
				total += e * e;
			} else {
				along += e * (double)direction[d];
			}
		}
		total += along * along;
	}
	return total;
}

/* Keys that are the same vector at every position before RoPE have channels of one value: a format that
 * undoes the rotation stores them but for rounding to f16, one that does not cannot. */
static int rotation_undone(checker *c, rv_kv_format format, rv_kv_format plain) {
	rv_kv_code_block b = make_block(c, format, BLOCK, 64);
	double power = 0;
	for (int64_t p = 0; p < b.n_rot / 2; p++) {
		float *x = keys + (b.neox ? p : 2 * p) * BLOCK;
		float *y = keys + (b.neox ? p + b.n_rot / 2 : 2 * p + 1) * BLOCK;
		float x0 = gauss(c), y0 = gauss(c);
		for (int i = 0; i < BLOCK; i++) {
			float cosine = rope[2 * p * BLOCK + i], sine = rope[(2 * p + 1) * BLOCK + i];
			x[i] = x0 * cosine - y0 * sine;
			y[i] = x0 * sine + y0 * cosine;
		}
	}
	for (int64_t d = b.n_rot; d < b.head_dim; d++) {
		float x0 = gauss(c);
		for (int i = 0; i < BLOCK; i++) {
			keys[d * BLOCK + i] = x0;
		}
	}
	for (int64_t d = 0; d < b.head_dim * BLOCK; d++) {
		power += (double)(keys[d] * keys[d]);
	}
	double got = error_of_keys(c->k, format, &b, NULL) / power;
	double other = error_of_keys(c->k, plain, &b, NULL) / power;
	return got < 1e-6 && other > 1e-4
	               ? 0
	               : fail(c, "kv codes: unrotated keys: error %g, rotated %g", got, other);
}

/* One large element a vector costs the others nothing. */
static int outlier_apart(checker *c, rv_kv_format format, rv_kv_format plain) {
	static float v[MAX_DIM * BLOCK];
	static unsigned char bytes[MAX_DIM * BLOCK * 2];
	const rv_kv_format both[2] = {format, plain};
	float worst[2] = {0, 0};
	rv_kv_code_block b = make_block(c, format, BLOCK, 64);
	fill(c, values, BLOCK * 64, KIND_GAUSS);
	for (int i = 0; i < BLOCK; i++) {
		values[i * 64 + below(c, 64)] = i % 2 ? 500.0f : -500.0f;
	}
	for (int f = 0; f < 2; f++) {
		rv_kv_encode_values(c->k, both[f], bytes, values, &b);
		rv_kv_load_values(c->k, both[f], v, bytes, 0, BLOCK, &b);
		for (int i = 0; i < BLOCK * 64; i++) {
			float e = fabsf(v[i] - values[i]);
			worst[f] = e > worst[f] ? e : worst[f];
		}
	}
	return worst[0] < 3 && worst[1] > 2 * worst[0]
	               ? 0
	               : fail(c, "kv codes: beside outliers: error %g, without care %g",
	                      (double)worst[0], (double)worst[1]);
}

/* Without shares the bytes are KIVI's; with those of one strong direction the error along it shrinks.
 * For H = I + s q q^T the share of channel c's error that e > c takes is -s q_c q_e / (1 + s |q of
 * c + 1 ..|^2): what minimises the weighted error over the channels to come. */
static int errors_passed_on(checker *c, rv_kv_format format, rv_kv_format plain) {
	enum { DRAWS = 8 }; /* one of 64 keys may be unlucky */
	double along = 0, before = 0;
	for (int draw = 0; draw < DRAWS; draw++) {
		float q[64];
		rv_kv_code_block b = make_block(c, format, BLOCK, 64);
		fill_block(c, &b, KIND_GAUSS);
		memset(feedback, 0, sizeof feedback);
		double zero = error_of_keys(c->k, format, &b, NULL),
		       base = error_of_keys(c->k, plain, &b, NULL);
		if (zero != base) {
			return fail(c, "kv codes: without feedback: error %g, KIVI's %g", zero, base);
		}
		fill(c, q, 64, KIND_GAUSS);
		double rest = 0; /* of the channels after i */
		for (int i = 63; i >= 0; i--) {
			for (int e = i + 1; e < 64; e++) {
				feedback[i * 64 + e] =
				        (float)(-(-100.0 * (double)(q[i] * q[e]) / (1 + 100.0 * rest)));
			}
			rest += (double)(q[i] * q[i]);
		}
		along += error_of_keys(c->k, format, &b, q);
		before += error_of_keys(c->k, plain, &b, q);
	}
	return along < 0.2 * before
	               ? 0
	               : fail(c, "kv codes: error along the queries %g, KIVI's %g", along, before);
}

static int not_finite(checker *c, rv_kv_format format, float bad) {
	static float v[MAX_DIM * BLOCK];
	static unsigned char bytes[MAX_DIM * BLOCK * 2];
	rv_kv_code_block b = make_block(c, format, 16, 64);
	fill_block(c, &b, KIND_GAUSS);
	int64_t at = below(c, 16 * 64);
	values[at] = bad;
	rv_kv_encode_values(c->k, format, bytes, values, &b);
	rv_kv_load_values(c->k, format, v, bytes, 0, 16, &b);
	return isfinite(v[at])
	               ? fail(c, "kv codes: %.9g was hidden as %.9g", (double)bad, (double)v[at])
	               : 0;
}

int check_kv_codes(checker *c, int arg) {
	static const int64_t dims[] = {8, 16, 40, 64, 128, 192, 256};
	static const kind kinds[] = {KIND_GAUSS,    KIND_SMALL,    KIND_ZEROS,
	                             KIND_DENORMAL, KIND_EXTREMES, KIND_SPIKE};
	const rv_kv_format format = (rv_kv_format)arg;
	const rv_kv_format plain = bits_of(format) == 4 ? RV_KV_KIVI4 : RV_KV_KIVI2;
	for (int i = 0; i < 6 * 7; i++) {
		if (block_shape(c, format, 8 << below(c, 4), dims[i / 6], kinds[i % 6])) {
			return -1;
		}
	}
	if (check_sizes(c, format) || not_finite(c, format, NAN) || not_finite(c, format, INFINITY)) {
		return -1;
	}
	if (rv_kv_format_needs_books(format)) {
		return rotation_undone(c, format, plain) || outlier_apart(c, format, plain) ? -1 : 0;
	}
	return rv_kv_format_needs_feedback(format) ? errors_passed_on(c, format, plain) : 0;
}
