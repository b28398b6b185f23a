/* The router's file: lexicon (its text), linear weights (8 bits; rows of buckets that matter),
 * calibration, examples. */
#include "base/mem.h"
#include "learn/agent_router_internal.h"

#include <math.h>
#include <string.h>

typedef struct head {
	uint32_t bucket_bits, outputs, examples; /* examples: 0 or 1 */
} head;

enum { MAP_BYTES = RV_AGENT_BUCKETS / 8 };
#define LEAST_CODE 1 /* rows whose codes are all below are left out */

/* ---- writing ---- */

static void scales_of(const rv_agent_linear *m, float scale[RV_LINEAR_OUT]) {
	for (int k = 0; k < RV_LINEAR_OUT; k++)
		scale[k] = 1e-12f;
	for (size_t b = 0; b < RV_AGENT_BUCKETS; b++)
		for (int k = 0; k < RV_LINEAR_OUT; k++) {
			const float w = fabsf(m->weights[b * RV_LINEAR_OUT + (size_t)k]) / 127;
			scale[k] = w > scale[k] ? w : scale[k];
		}
}

static void put_linear(const rv_agent_linear *m, uint8_t *map, int8_t *codes, rv_sealed_out *out) {
	float scale[RV_LINEAR_OUT];
	size_t n = 0;
	scales_of(m, scale);
	for (size_t b = 0; b < RV_AGENT_BUCKETS; b++) {
		int8_t *row = codes + n * RV_LINEAR_OUT;
		int most = 0;
		for (int k = 0; k < RV_LINEAR_OUT; k++) {
			row[k] = (int8_t)lrintf(m->weights[b * RV_LINEAR_OUT + (size_t)k] / scale[k]);
			const int size = row[k] < 0 ? -row[k] : row[k];
			most = size > most ? size : most;
		}
		if (most < LEAST_CODE)
			continue;
		map[b / 8] |= (uint8_t)(1 << b % 8);
		n++;
	}
	rv_sealed_put(out, m->bias, sizeof m->bias);
	rv_sealed_put(out, scale, sizeof scale);
	rv_sealed_put(out, map, MAP_BYTES);
	rv_sealed_put(out, codes, n * RV_LINEAR_OUT);
}

rv_status rv_agent_router_save(const rv_agent_router *r, const char *path) {
	rv_sealed_out out = {0};
	uint8_t *map;
	int8_t *codes;
	const head h = {RV_AGENT_BUCKET_BITS, RV_LINEAR_OUT, r->examples != NULL};
	RV_TRY(RV_ALLOC(&map, MAP_BYTES, "weights"));
	const rv_status st = RV_ALLOC(&codes, (size_t)RV_AGENT_BUCKETS * RV_LINEAR_OUT, "weights");
	if (st == RV_OK) {
		rv_sealed_put(&out, &h, sizeof h);
		rv_sealed_put(&out, r->lexicon_text, r->lexicon_size);
		rv_sealed_put(&out, &r->calibration, sizeof r->calibration);
		put_linear(&r->linear, map, codes, &out);
		if (r->examples)
			rv_agent_examples_put(r->examples, &out);
	}
	rv_free(map);
	rv_free(codes);
	RV_TRY(st);
	return rv_sealed_write(&out, path, RV_AGENT_ROUTER_MAGIC, RV_AGENT_ROUTER_VERSION);
}

/* ---- reading ---- */

static int all_finite(const void *data, size_t bytes) {
	const float *v = data;
	for (size_t i = 0; i < bytes / sizeof *v; i++)
		if (!isfinite(v[i]))
			return 0;
	return 1;
}

static rv_status get_linear(rv_agent_linear *m, rv_sealed_in *in) {
	float scale[RV_LINEAR_OUT];
	const char *map = NULL, *codes = NULL;
	size_t n_map = 0, n_codes = 0, n = 0;
	RV_TRY(rv_sealed_get(in, "bias", m->bias, sizeof m->bias));
	RV_TRY(rv_sealed_get(in, "scales", scale, sizeof scale));
	RV_TRY(rv_sealed_next(in, "buckets", &map, &n_map));
	RV_TRY(rv_sealed_next(in, "weights", &codes, &n_codes));
	if (n_map != MAP_BYTES)
		return rv_fail(RV_ERR_FORMAT, "%s: section 'buckets' has %zu bytes", in->name, n_map);
	for (size_t i = 0; i < MAP_BYTES; i++)
		n += (size_t)__builtin_popcount((uint8_t)map[i]);
	if (n_codes != n * RV_LINEAR_OUT)
		return rv_fail(RV_ERR_FORMAT, "%s: %zu weights of %zu buckets", in->name, n_codes, n);
	if (!all_finite(m->bias, sizeof m->bias) || !all_finite(scale, sizeof scale))
		return rv_fail(RV_ERR_NUMERIC, "%s: a weight that is not finite", in->name);
	RV_TRY(RV_ALLOC(&m->weights, (size_t)RV_AGENT_BUCKETS * RV_LINEAR_OUT, "weights"));
	const int8_t *row = (const int8_t *)codes;
	for (size_t b = 0; b < RV_AGENT_BUCKETS; b++) {
		if (!((uint8_t)map[b / 8] >> b % 8 & 1))
			continue;
		for (int k = 0; k < RV_LINEAR_OUT; k++)
			m->weights[b * RV_LINEAR_OUT + (size_t)k] = scale[k] * (float)row[k];
		row += RV_LINEAR_OUT;
	}
	return RV_OK;
}

rv_status rv_agent_router_load(rv_agent_router *r, rv_sealed_in *in) {
	head h;
	const char *text = NULL;
	size_t n = 0;
	RV_TRY(rv_sealed_get(in, "head", &h, sizeof h));
	if (h.bucket_bits != RV_AGENT_BUCKET_BITS || h.outputs != RV_LINEAR_OUT || h.examples > 1)
		return rv_fail(RV_ERR_MISMATCH, "%s: made for other agents or features", in->name);
	RV_TRY(rv_sealed_next(in, "lexicon", &text, &n));
	RV_TRY(rv_agent_lexicon_parse(&r->lexicon, text, n, in->name));
	RV_TRY(rv_sealed_get(in, "calibration", &r->calibration, sizeof r->calibration));
	if (!all_finite(&r->calibration, sizeof r->calibration))
		return rv_fail(RV_ERR_NUMERIC, "%s: a calibration that is not finite", in->name);
	RV_TRY(get_linear(&r->linear, in));
	if (h.examples)
		RV_TRY(rv_agent_examples_get(&r->examples, in));
	return rv_sealed_end(in);
}
