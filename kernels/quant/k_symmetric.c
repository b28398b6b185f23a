/* Writing of Q6_K: sixteen sub-blocks of 16 with x = (d sc) q, sc of eight signed bits. The steps are
 * those of the types with minimum. */
#include "kernels/quant/fit.h"

#include <string.h>

enum { SUBS = 16, SUB = 16 };

typedef struct state {
	const float *x, *w;
	float d; /* as f16 holds it */
	float sc[SUBS];
	float q[RV_QKK];
} state;

static float encode_sub(state *s, int j, float sc, float *q) {
	return rv_encode(q, s->x + j * SUB, s->w + j * SUB, SUB, s->d * sc, 0, -32, 31);
}

static void start(state *s) {
	float scale[SUBS];
	for (int j = 0; j < SUBS; j++) {
		const float *w = rv_weights(s->w + j * SUB, rv_quant_ones, SUB);
		scale[j] = rv_fit_scale(s->x + j * SUB, w, SUB, -32, 31, -30.5f, -0.5f, 6);
	}
	s->d = rv_as_f16(rv_extreme(scale, SUBS) / -128);
	float inverse = rv_inverse(s->d);
	for (int j = 0; j < SUBS; j++) {
		s->sc[j] = rv_code(scale[j] * inverse, -128, 127);
		encode_sub(s, j, s->sc[j], s->q + j * SUB);
	}
}

/* d of least error for the codes as they are: x = d (sc q). */
static void refit(state *s) {
	float xa = 0, aa = 0;
	for (int j = 0; j < SUBS; j++) {
		rv_sum xq = {0}, qq = {0};
		for (int i = j * SUB; i < (j + 1) * SUB; i += 4) {
			int h = i / 4 % 2;
			rv_quad x = rv_load(s->x + i), q = rv_load(s->q + i);
			rv_quad wq = rv_load(s->w + i) * q;
			xq.half[h] += wq * x;
			qq.half[h] += wq * q;
		}
		xa += s->sc[j] * rv_reduce(xq);
		aa += s->sc[j] * s->sc[j] * rv_reduce(qq);
	}
	if (aa > 0) {
		s->d = rv_as_f16(xa / aa);
	}
}

static void improve(state *s) {
	float q[SUB];
	for (int j = 0; j < SUBS; j++) {
		float sc = s->sc[j];
		float best = encode_sub(s, j, sc, s->q + j * SUB);
		for (int t = -1; t <= 1; t += 2) {
			float sc_t = sc + (float)t;
			if (sc_t < -128 || sc_t > 127) {
				continue;
			}
			float error = encode_sub(s, j, sc_t, q);
			if (error < best) {
				best = error;
				s->sc[j] = sc_t;
				memcpy(s->q + j * SUB, q, sizeof q);
			}
		}
	}
}

static void pack(rv_q6_k *b, const state *s) {
	memset(b, 0, sizeof *b);
	b->d = rv_f32_to_f16(s->d);
	for (int j = 0; j < SUBS; j++) {
		b->scales[j] = (int8_t)s->sc[j];
	}
	for (int i = 0; i < RV_QKK; i++) {
		int q = (int)s->q[i] + 32;
		int half = i / 128, in_half = i % 128;
		b->ql[half * 64 + in_half % 64] |= (uint8_t)((q & 15) << in_half / 64 * 4);
		b->qh[half * 32 + in_half % 32] |= (uint8_t)(q >> 4 << in_half / 32 * 2);
	}
}

void rv_quantize_q6_k_ref(void *y, const float *x, const float *importance, int64_t n) {
	for (int64_t i = 0; i < n / RV_QKK; i++) {
		state s;
		rv_q6_k b;
		s.x = x + i * RV_QKK;
		s.w = rv_weights(importance ? importance + i * RV_QKK : NULL, rv_quant_ones, RV_QKK);
		start(&s);
		refit(&s);
		improve(&s);
		pack(&b, &s);
		memcpy((rv_q6_k *)y + i, &b, sizeof b);
	}
}
