/* Checks of the weight formats: decoding against blocks worked out by hand and against the reference,
 * writing, scalar conversions, descriptions. */
#include "tests/kernels/harness.h"

#include <math.h>
#include <string.h>

/* ---- blocks worked out by hand ---- */

typedef struct known {
	int type;
	struct {
		int at, byte;
	} set[20]; /* bytes of the block, 0 elsewhere; ends at byte 0 */
	struct {
		int at;
		float value;
	} want[8]; /* elements; ends where at < 0 */
} known;

#define END                                                                                            \
	{ -1, 0 }

static const known known_blocks[] = {
        {RV_F16, {{1, 0x3c}}, {{0, 1}, END}},
        {RV_F16, {{0, 0x01}, {1, 0x80}}, {{0, -0x1p-24f}, END}},
        {RV_F16, {{0, 0xff}, {1, 0x7b}}, {{0, 65504}, END}},
        {RV_BF16, {{0, 0x40}, {1, 0xc0}}, {{0, -3}, END}},
        {RV_F32, {{2, 0x80}, {3, 0x3f}}, {{0, 1}, END}},
        /* d 0.5 */
        {RV_Q4_0,
         {{1, 0x38}, {2, 0x1f}, {17, 0x80}},
         {{0, 3.5f}, {16, -3.5f}, {1, -4}, {15, -4}, {31, 0}, END}},
        /* d 0.5, m -1 */
        {RV_Q4_1, {{1, 0x38}, {3, 0xbc}, {7, 0xa2}}, {{3, 0}, {19, 4}, {0, -1}, {31, -1}, END}},
        /* d 0.25; fifth bits of 2 and 18 */
        {RV_Q5_0,
         {{1, 0x34}, {2, 0x04}, {4, 0x04}, {8, 0x73}},
         {{2, 0.75f}, {18, 1.75f}, {0, -4}, {31, -4}, END}},
        /* d 1, m 2; fifth bit of 21 */
        {RV_Q5_1,
         {{1, 0x3c}, {3, 0x40}, {6, 0x20}, {13, 0x9c}},
         {{5, 14}, {21, 27}, {0, 2}, {31, 2}, END}},
        /* d 2 */
        {RV_Q8_0, {{1, 0x40}, {2, 0x80}, {33, 0x7f}}, {{0, -256}, {31, 254}, {1, 0}, END}},
        /* d 1, dmin 0.5; (sc, m) of sub-blocks 0: (1, 3), 2: (2, 0), 4: (3, 1), 6: (15, 0), 8: (5, 2)
         */
        {RV_Q2_K,
         {{0, 0x31},
          {2, 0x02},
          {4, 0x13},
          {6, 0x0f},
          {8, 0x25},
          {16, 0xe4},
          {48, 0x02},
          {81, 0x3c},
          {83, 0x38}},
         {{0, -1.5f}, {32, 2}, {64, 5.5f}, {96, 45}, {128, 9}, {129, -1}, END}},
        /* d 1; scale of sub-block 0: 33 - 32, of 9: 63 - 32, elsewhere -32 */
        {RV_Q3_K,
         {{0, 0x01},
          {16, 0x10},
          {32, 0x03},
          {33, 0x02},
          {80, 0x01},
          {96, 0x01},
          {97, 0xf0},
          {104, 0x02},
          {105, 0x30},
          {109, 0x3c}},
         {{0, 3}, {1, -2}, {144, 31}, {255, 128}, {145, -124}, END}},
        /* d 1, dmin 1; (sc, m) of sub-block 0: (5, 7), of 5: (58, 19) */
        {RV_Q4_K,
         {{1, 0x3c},
          {3, 0x3c},
          {4, 0x05},
          {5, 0xc0},
          {8, 0x07},
          {9, 0x40},
          {13, 0x3a},
          {16, 0x0c},
          {83, 0x90}},
         {{0, 53}, {1, -7}, {32, 0}, {163, 503}, {160, -19}, END}},
        {RV_Q5_K,
         {{1, 0x3c},
          {3, 0x3c},
          {4, 0x05},
          {5, 0xc0},
          {8, 0x07},
          {9, 0x40},
          {13, 0x3a},
          {16, 0x01},
          {19, 0x20},
          {48, 0x0c},
          {115, 0x90}},
         {{0, 133}, {1, -7}, {32, 0}, {163, 1431}, {160, -19}, END}},
        /* d 0.5; scales of sub-blocks 0: -3, 4: 2, 12: -128 */
        {RV_Q6_K,
         {{0, 0x2b},
          {72, 0xf0},
          {128, 0x13},
          {168, 0x30},
          {192, 0xfd},
          {196, 0x02},
          {204, 0x80},
          {209, 0x38}},
         {{0, -40.5f}, {1, 48}, {64, -14}, {200, -1984}, {201, 2048}, END}},
};

int check_known_blocks(checker *c, int arg) {
	(void)arg;
	for (size_t i = 0; i < sizeof known_blocks / sizeof *known_blocks; i++) {
		const known *b = &known_blocks[i];
		const rv_type_info *t = rv_type_get(b->type);
		unsigned char block[256] = {0};
		float y[RV_QKK];
		for (int j = 0; b->set[j].byte; j++) {
			block[b->set[j].at] = (unsigned char)b->set[j].byte;
		}
		c->k->type[b->type].dequantize(y, block, t->block_elems);
		for (int j = 0; b->want[j].at >= 0; j++) {
			if (y[b->want[j].at] != b->want[j].value) {
				return fail(c, "%s: element %d is %.9g, expected %.9g", t->name,
				            b->want[j].at, (double)y[b->want[j].at],
				            (double)b->want[j].value);
			}
		}
	}
	return 0;
}

/* ---- decoding ---- */

static int every_half(checker *c, rv_type type) {
	static uint16_t all[65536];
	static float got[65536], want[65536];
	for (int i = 0; i < 65536; i++) {
		all[i] = (uint16_t)i;
	}
	c->k->type[type].dequantize(got, all, 65536);
	rv_kernels_ref.type[type].dequantize(want, all, 65536);
	return same(c, "dequantize of all 65536 patterns", got, want, sizeof want);
}

int check_dequantize(checker *c, int arg) {
	static float want[4096];
	rv_type type = (rv_type)arg;
	const rv_type_info *t = rv_type_get(arg);
	for (int i = 0; i < 60; i++) {
		int64_t n = t->block_elems == 1 ? vector_sizes[i % (n_vector_sizes - 1)]
		                                : i % 13 * t->block_elems;
		reset(c);
		void *row = take(c, rv_type_row_bytes(t, n), 1, 1);
		float *y = floats_out(c, n);
		random_weights(c, type, row, n);
		rv_kernels_ref.type[type].dequantize(want, row, n);
		seal(c);
		c->k->type[type].dequantize(y, row, n);
		if (verify(c, "dequantize") ||
		    same(c, "dequantize", y, want, (size_t)n * sizeof *want)) {
			return -1;
		}
	}
	return type == RV_F16 || type == RV_BF16 ? every_half(c, type) : 0;
}

/* ---- writing ---- */

enum { ROW = 512, ROWS = 32 };

/* Largest relative error of Gaussian rows that the search may leave: 1.01 times the worst of 200 draws
 * when it was written. */
static const double gaussian_bound[RV_TYPE_LIMIT] = {
        [RV_F32] = 0,         [RV_F16] = 0.000214,  [RV_BF16] = 0.001708, [RV_Q8_0] = 0.005412,
        [RV_Q4_0] = 0.082234, [RV_Q5_0] = 0.040649, [RV_Q5_1] = 0.034576, [RV_Q4_K] = 0.072006,
        [RV_Q5_K] = 0.035332, [RV_Q6_K] = 0.017366,
};

static double weighted_error(const float *x, const float *y, const float *w, int64_t n) {
	double error = 0, total = 0;
	for (int64_t i = 0; i < n; i++) {
		double weight = w ? (double)w[i] : 1, e = (double)x[i] - (double)y[i];
		error += weight * e * e;
		total += weight * (double)x[i] * (double)x[i];
	}
	return total > 0 ? sqrt(error / total) : sqrt(error);
}

/* Writes one row in guarded memory and decodes it; the bytes must be the reference's. */
static int write_row(checker *c, rv_type type, const float *x, const float *importance, float *y,
                     int64_t n) {
	static unsigned char want[ROW * 4];
	size_t bytes = rv_type_row_bytes(rv_type_get((int)type), n);
	reset(c);
	float *in = take(c, (size_t)n * sizeof *in, 4, 1);
	float *weights = take(c, (size_t)n * sizeof *in, 4, 1);
	void *out = take(c, bytes, 1, 0);
	memcpy(in, x, (size_t)n * sizeof *in);
	if (importance) {
		memcpy(weights, importance, (size_t)n * sizeof *in);
	}
	rv_kernels_ref.type[type].quantize(want, x, importance, n);
	seal(c);
	c->k->type[type].quantize(out, in, importance ? weights : NULL, n);
	if (verify(c, "quantize") || same(c, "quantize against the reference", out, want, bytes)) {
		return -1;
	}
	c->k->type[type].dequantize(y, out, n);
	return 0;
}

static int gaussian_rows(checker *c, rv_type type) {
	static float x[ROWS * ROW], y[ROWS * ROW], w[ROWS * ROW], z[ROWS * ROW], again[ROWS * ROW];
	fill(c, x, ROWS * ROW, KIND_GAUSS);
	for (int i = 0; i < ROWS * ROW; i++) {
		w[i] = below(c, 8) ? 0.05f : 4;
	}
	for (int r = 0; r < ROWS; r++) {
		int at = r * ROW;
		if (write_row(c, type, x + at, NULL, y + at, ROW) ||
		    write_row(c, type, x + at, w + at, z + at, ROW) ||
		    write_row(c, type, y + at, NULL, again + at, ROW)) {
			return -1;
		}
	}
	double plain = weighted_error(x, y, NULL, ROWS * ROW),
	       twice = weighted_error(y, again, NULL, ROWS * ROW);
	double with = weighted_error(x, z, w, ROWS * ROW),
	       without = weighted_error(x, y, w, ROWS * ROW);
	if (!(plain <= gaussian_bound[type])) {
		return fail(c, "relative error of Gaussian rows is %.6f, at most %.6f expected", plain,
		            gaussian_bound[type]);
	}
	if (!(twice <= 0.5 * plain)) {
		return fail(c, "writing decoded rows again loses %.6f after %.6f", twice, plain);
	}
	if (!(with <= without * 1.0001)) {
		return fail(c, "importance makes the weighted error worse: %.6f against %.6f", with,
		            without);
	}
	return 0;
}

int check_quantize(checker *c, int arg) {
	static float x[ROW], y[ROW], zero[ROW];
	rv_type type = (rv_type)arg;
	int elems = rv_type_get(arg)->block_elems;
	if (!c->k->type[type].quantize && !rv_kernels_ref.type[type].quantize) {
		return 0; /* a type that is only read */
	}
	for (int how = 0; how < KIND_COUNT; how++) {
		for (int64_t n = 0; n <= ROW; n += elems == 1 ? 37 : elems) {
			fill(c, x, n, (kind)how);
			if (write_row(c, type, x, how % 2 ? zero : NULL, y, n)) {
				return -1;
			}
		}
	}
	if (write_row(c, type, zero, NULL, y, ROW)) {
		return -1;
	}
	for (int i = 0; i < ROW; i++) {
		if (y[i] != 0) {
			return fail(c, "zero came back as %.9g", (double)y[i]);
		}
	}
	return gaussian_rows(c, type);
}

/* FNV-1a of fixed rows as written: the same number with every compiler, level and machine. */
static const uint64_t stored_bits[RV_TYPE_LIMIT] = {
        [RV_F32] = 0x396d29e4bbc792bau,  [RV_F16] = 0x497e012503097a3du,
        [RV_Q4_0] = 0x5536b49596cf71c4u, [RV_Q5_0] = 0xbf4b99276a07cc46u,
        [RV_Q5_1] = 0x84d5d1c3aa42bdacu, [RV_Q8_0] = 0x90dbd7a63d6081ddu,
        [RV_Q4_K] = 0x7231cb4f7228e2b5u, [RV_Q5_K] = 0xa0cc77acbd444ac4u,
        [RV_Q6_K] = 0xe500fdd9b417095au, [RV_BF16] = 0xa4c12ac8190c4dbfu,
};

int check_stored_bits(checker *c, int arg) {
	static float x[ROWS * ROW];
	static unsigned char out[ROWS * ROW * 4];
	size_t bytes = rv_type_row_bytes(rv_type_get(arg), ROWS * ROW);
	uint64_t h = 0xcbf29ce484222325u;
	c->rng = 1;
	fill(c, x, ROWS * ROW, KIND_GAUSS);
	if (!c->k->type[arg].quantize) {
		return 0;
	}
	c->k->type[arg].quantize(out, x, NULL, ROWS * ROW);
	for (size_t i = 0; i < bytes; i++) {
		h = (h ^ out[i]) * 0x100000001b3u;
	}
	if (h != stored_bits[arg]) {
		return fail(c, "fixed rows are written as 0x%016llxu, expected 0x%016llxu",
		            (unsigned long long)h, (unsigned long long)stored_bits[arg]);
	}
	return 0;
}

/* ---- single numbers and descriptions ---- */

int check_conversions(checker *c, int arg) {
	(void)arg;
	for (int i = 0; i < 65536; i++) {
		float f = rv_f16_to_f32((rv_f16)i), b = rv_bf16_to_f32((rv_bf16)i);
		int quiet = i | (isnan(f) ? 0x200 : 0), quiet_b = i | (isnan(b) ? 0x40 : 0);
		if (rv_f32_to_f16(f) != quiet || rv_f32_to_bf16(b) != quiet_b) {
			return fail(c, "0x%04x does not survive", i);
		}
	}
	/* halfway between neighbours: to the even one; a bit more or less: to the nearer */
	for (int i = 0; i < 0x7bff; i++) {
		float low = rv_f16_to_f32((rv_f16)i), high = rv_f16_to_f32((rv_f16)(i + 1));
		float half = (low + high) / 2; /* exact */
		if (rv_f32_to_f16(half) != i + i % 2 || rv_f32_to_f16(nextafterf(half, 0)) != i ||
		    rv_f32_to_f16(nextafterf(half, INFINITY)) != i + 1) {
			return fail(c, "rounding to f16 after 0x%04x", i);
		}
	}
	if (rv_f32_to_f16(65519.99f) != 0x7bff || rv_f32_to_f16(65520) != 0x7c00 ||
	    rv_f32_to_f16(-INFINITY) != 0xfc00 || rv_f32_to_f16(1e-10f) != 0) {
		return fail(c, "limits of f16");
	}
	return 0;
}

int check_descriptions(checker *c, int arg) {
	char features[512], tiny[4];
	(void)arg;
	for (int i = -1; i <= RV_TYPE_LIMIT; i++) {
		const rv_type_info *t = rv_type_get(i);
		if (t && ((int)t->type != i || rv_type_by_name(t->name) != t)) {
			return fail(c, "type %d", i);
		}
	}
	for (int i = 0; i < RV_LEVEL_COUNT; i++) {
		if (rv_level_by_name(rv_level_name((rv_level)i)) != (rv_level)i) {
			return fail(c, "level %d", i);
		}
	}
	rv_cpu_features(features, sizeof features);
	rv_cpu_features(tiny, sizeof tiny);
	if (strlen(tiny) >= sizeof tiny || rv_level_by_name("none") != RV_LEVEL_COUNT ||
	    rv_type_by_name("Q9") || rv_type_get(4) || !rv_level_available(RV_LEVEL_REF) ||
	    rv_level_available(RV_LEVEL_COUNT)) {
		return fail(c, "names and limits");
	}
	if (rv_act_row_bytes(RV_ACT_F32, 33) != 192 || rv_act_row_bytes(RV_ACT_Q8, 96) != 192 ||
	    rv_act_row_bytes(RV_ACT_Q8K, 512) != 640 || rv_kv_row_bytes(RV_KV_Q8, 192) != 196 ||
	    rv_kv_row_bytes(RV_KV_Q4, 128) != 68 || rv_kv_row_bytes(RV_KV_F16, 64) != 128) {
		return fail(c, "row sizes");
	}
	return 0;
}

int check_full_table(checker *c, int arg) {
	const rv_kernels *k = c->k;
	(void)arg;
	for (int i = 0; i < RV_TYPE_LIMIT; i++) {
		const rv_type_ops *t = &k->type[i];
		int exists = rv_type_get(i) != NULL;
		int filled = t->dequantize && t->matmul[RV_LAYOUT_GGML] && t->matmul_float;
		int writable = rv_kernels_ref.type[i].quantize != NULL;
		if (filled != exists || (t->quantize != NULL) != writable) {
			return fail(c, "type %d", i);
		}
	}
	for (int i = 0; i < RV_ACT_COUNT; i++) {
		if (!k->quantize_act[i]) {
			return fail(c, "activation format %d", i);
		}
	}
	for (int i = 0; i < RV_KV_COUNT; i++) {
		if (!k->kv[i].store || !k->kv[i].load_keys || !k->kv[i].load_values) {
			return fail(c, "cache type %d", i);
		}
	}
#define RV_KERNEL(name, ...)                                                                           \
	if (!k->name) {                                                                                \
		return fail(c, "%s", #name);                                                           \
	}
#include "kernels/kernels.def"
#undef RV_KERNEL
	return 0;
}
