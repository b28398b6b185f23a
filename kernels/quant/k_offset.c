/* Writing of Q4_K and Q5_K: eight sub-blocks of 32 with x = (d sc) q - (dmin m), sc and m of six bits.
 *
 * 1. Each sub-block alone: least-squares line over a range of guesses.
 * 2. d and dmin send the largest scale and minimum to 63; round sc and m; encode.
 * 3. Refit d and dmin to the codes of the whole super-block.
 * 4. Each sub-block tries the neighbours of its sc and m and keeps the best. */
#include "kernels/quant/fit.h"

#include <string.h>

enum { SUBS = 8, SUB = 32, TOP = 63 };

typedef struct state {
	const float *x, *w;
	float high;    /* largest code */
	float d, dmin; /* as f16 holds them */
	float sc[SUBS], m[SUBS];
	float q[RV_QKK];
} state;

static float encode_sub(state *s, int j, float sc, float m, float *q) {
	return rv_encode(q, s->x + j * SUB, s->w + j * SUB, SUB, s->d * sc, s->dmin * m, 0, s->high);
}

static void start(state *s, float first, float step, int n_try) {
	rv_line line[SUBS];
	float max_scale = 0, max_min = 0;
	for (int j = 0; j < SUBS; j++) {
		const float *w = rv_weights(s->w + j * SUB, rv_quant_ones, SUB);
		line[j] = rv_fit_line(s->x + j * SUB, w, SUB, s->high, first, step, n_try, 1);
		max_scale = line[j].scale > max_scale ? line[j].scale : max_scale;
		max_min = line[j].min > max_min ? line[j].min : max_min;
	}
	s->d = rv_as_f16(max_scale / TOP);
	s->dmin = rv_as_f16(max_min / TOP);
	float inverse_d = rv_inverse(s->d), inverse_m = rv_inverse(s->dmin);
	for (int j = 0; j < SUBS; j++) {
		s->sc[j] = rv_code(line[j].scale * inverse_d, 0, TOP);
		s->m[j] = rv_code(line[j].min * inverse_m, 0, TOP);
		encode_sub(s, j, s->sc[j], s->m[j], s->q + j * SUB);
	}
}

/* d and dmin of least error for the codes as they are: x = d (sc q) - dmin m. */
static void refit(state *s) {
	float aa = 0, am = 0, mm = 0, xa = 0, xm = 0;
	for (int j = 0; j < SUBS; j++) {
		rv_sum sw = {0}, sx = {0}, sq = {0}, xq = {0}, qq = {0};
		for (int i = j * SUB; i < (j + 1) * SUB; i += 4) {
			int h = i / 4 % 2;
			rv_quad w = rv_load(s->w + i), x = rv_load(s->x + i), q = rv_load(s->q + i);
			rv_quad wq = w * q;
			sw.half[h] += w;
			sx.half[h] += w * x;
			sq.half[h] += wq;
			xq.half[h] += wq * x;
			qq.half[h] += wq * q;
		}
		aa += s->sc[j] * s->sc[j] * rv_reduce(qq);
		am += s->sc[j] * s->m[j] * rv_reduce(sq);
		mm += s->m[j] * s->m[j] * rv_reduce(sw);
		xa += s->sc[j] * rv_reduce(xq);
		xm += s->m[j] * rv_reduce(sx);
	}
	float det = aa * mm - am * am;
	if (det > 0) {
		float d = (mm * xa - am * xm) / det;
		float dmin = (am * xa - aa * xm) / det;
		if (d > 0 && dmin >= 0) {
			s->d = rv_as_f16(d);
			s->dmin = rv_as_f16(dmin);
		}
	} else if (aa > 0 && mm == 0 && xa > 0) {
		s->d = rv_as_f16(xa / aa);
	}
}

static void improve(state *s, const float moves[][2], int n_moves) {
	float q[SUB];
	for (int j = 0; j < SUBS; j++) {
		float sc = s->sc[j], m = s->m[j];
		float best = encode_sub(s, j, sc, m, s->q + j * SUB);
		for (int t = 0; t < n_moves; t++) {
			float sc_t = sc + moves[t][0], m_t = m + moves[t][1];
			if (sc_t < 0 || sc_t > TOP || m_t < 0 || m_t > TOP) {
				continue;
			}
			float error = encode_sub(s, j, sc_t, m_t, q);
			if (error < best) {
				best = error;
				s->sc[j] = sc_t;
				s->m[j] = m_t;
				memcpy(s->q + j * SUB, q, sizeof q);
			}
		}
	}
}

static void fit(state *s, float first, float step, int n_try) {
	static const float moves[][2] = {{-1, 0}, {1, 0}, {0, -1}, {0, 1}};
	start(s, first, step, n_try);

	refit(s);
	improve(s, moves, sizeof moves / sizeof *moves);
}

static void pack_scales(uint8_t out[12], const state *s) {
	for (int j = 0; j < 4; j++) {
		int sc = (int)s->sc[j], m = (int)s->m[j], sc4 = (int)s->sc[j + 4],
		    m4 = (int)s->m[j + 4];
		out[j] = (uint8_t)(sc | sc4 >> 4 << 6);
		out[j + 4] = (uint8_t)(m | m4 >> 4 << 6);
		out[j + 8] = (uint8_t)((sc4 & 15) | (m4 & 15) << 4);
	}
}

static void pack_nibbles(uint8_t qs[128], const float q[RV_QKK]) {
	for (int i = 0; i < 128; i++) {
		int low = i / 32 * 64 + i % 32;
		qs[i] = (uint8_t)(((int)q[low] & 15) | ((int)q[low + 32] & 15) << 4);
	}
}

static void pack_fifth_bits(uint8_t qh[32], const float q[RV_QKK]) {
	for (int i = 0; i < 32; i++) {
		int bits = 0;
		for (int j = 0; j < SUBS; j++) {
			bits |= ((int)q[j * SUB + i] >> 4 & 1) << j;
		}
		qh[i] = (uint8_t)bits;
	}
}

static void prepare(state *s, const float *x, const float *importance, int64_t i, float high) {
	s->x = x + i * RV_QKK;
	s->w = rv_weights(importance ? importance + i * RV_QKK : NULL, rv_quant_ones, RV_QKK);
	s->high = high;
}

void rv_quantize_q4_k_ref(void *y, const float *x, const float *importance, int64_t n) {
	for (int64_t i = 0; i < n / RV_QKK; i++) {
		state s;
		rv_q4_k b;
		prepare(&s, x, importance, i, 15);
		fit(&s, 13.5f, 0.3f, 9);
		b.d = rv_f32_to_f16(s.d);
		b.dmin = rv_f32_to_f16(s.dmin);
		pack_scales(b.scales, &s);
		pack_nibbles(b.qs, s.q);
		memcpy((rv_q4_k *)y + i, &b, sizeof b);
	}
}

void rv_quantize_q5_k_ref(void *y, const float *x, const float *importance, int64_t n) {
	for (int64_t i = 0; i < n / RV_QKK; i++) {
		state s;
		rv_q5_k b;
		prepare(&s, x, importance, i, 31);
		fit(&s, 29.0f, 0.5f, 8);
		b.d = rv_f32_to_f16(s.d);
		b.dmin = rv_f32_to_f16(s.dmin);
		pack_scales(b.scales, &s);
		pack_fifth_bits(b.qh, s.q);
		pack_nibbles(b.qs, s.q);
		memcpy((rv_q5_k *)y + i, &b, sizeof b);
	}
}
