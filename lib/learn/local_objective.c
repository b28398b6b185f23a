#include "learn/local_objective.h"

#include <math.h>
#include <string.h>

const char *const rv_local_readings[] = {"lens", "anchored", NULL};

void rv_local_objective_init(rv_local_objective *o, const rv_model *model, const rv_kernels *kernels) {
	const rv_hparams *hp = rv_model_hparams(model);
	*o = (rv_local_objective){.kernels = kernels,
	                          .output = rv_model_weight(model, RV_OUTPUT, 0),
	                          .norm = rv_model_weight(model, RV_OUTPUT_NORM, 0)->data,
	                          .eps = (float)hp->rms_eps,
	                          .n_embd = hp->n_embd,
	                          .n_vocab = hp->n_vocab};
}

/* ---- scratch ---- */

typedef struct scratch {
	float *rows;    /* [n_top, n_embd] output rows of the candidates */
	float *normed;  /* [n_states, n_embd]; later the gradients by them */
	float *logits;  /* [n_states, n_top] */
	float *factors; /* [n_states, n_top] dL/dz */
} scratch;

static size_t padded(int64_t n) {
	return ((size_t)n + 15) & ~(size_t)15;
}

static scratch cut(const rv_local_objective *o, void *memory, int64_t n_top, int64_t n_states) {
	scratch s;
	s.rows = memory;
	s.normed = s.rows + padded(n_top * o->n_embd);
	s.logits = s.normed + padded(n_states * o->n_embd);
	s.factors = s.logits + padded(n_states * n_top);
	return s;
}

size_t rv_local_scratch_bytes(const rv_local_objective *o, int64_t n_top, int64_t n_states) {
	return (padded(n_top * o->n_embd) + padded(n_states * o->n_embd) +
	        2 * padded(n_states * n_top)) *
	       sizeof(float);
}

/* ---- the objective ---- */

static void decode_rows(const rv_local_objective *o, const rv_local_token *t, float *rows) {
	const rv_weight *w = o->output;
	rv_dequantize_fn *decode = o->kernels->type[w->type].dequantize;
	for (int64_t i = 0; i < t->n_top; i++)
		decode(rows + i * o->n_embd, (const char *)w->data + (size_t)t->ids[i] * w->row_bytes,
		       o->n_embd);
}

/* Cross-entropy of the token chosen; d: softmax(z) - one at the token chosen. */
static double cross_entropy(const rv_kernels *k, const float *z, int64_t n, int64_t chosen, float *d) {
	int64_t top = 0;
	for (int64_t i = 1; i < n; i++)
		top = z[i] > z[top] ? i : top;
	memcpy(d, z, (size_t)n * sizeof *d);
	k->softmax(d, n);
	const double loss = (double)z[top] - (double)z[chosen] - log((double)d[top]);
	d[chosen] -= 1;
	return loss;
}

/* Elements at a time: what every x86 and ARM has. */
typedef float quad __attribute__((vector_size(16), aligned(4)));

/* g = r (v * w) + c h: from the gradient v by the normed state to that by the state. */
static void through_norm(float *g, const float *v, const float *w, const float *h, float r, float c,
                         int64_t n) {
	int64_t i = 0;
	const quad r4 = {r, r, r, r}, c4 = {c, c, c, c};
	for (; i + 4 <= n; i += 4) {
		quad v4, w4, h4;
		memcpy(&v4, v + i, sizeof v4);
		memcpy(&w4, w + i, sizeof w4);
		memcpy(&h4, h + i, sizeof h4);
		v4 = r4 * (v4 * w4) + c4 * h4;
		memcpy(g + i, &v4, sizeof v4);
	}
	for (; i < n; i++)
		g[i] = r * (v[i] * w[i]) + c * h[i];
}

/* With n_k = r h_k w_k, r = (mean(h^2) + eps)^(-1/2), and v = dL/dn:
 *   dL/dh_j = r v_j w_j - r^3 / n_embd h_j sum_k v_k w_k h_k
 * and sum_k v_k w_k h_k = sum_i d_i z_i / r, for v = sum_i d_i (output row of i). */
void rv_local_objective_gradient(const rv_local_objective *o, rv_local_reading reading,
                                 const rv_local_token *t, void *memory, double *loss,
                                 float *const *gradients) {
	const rv_kernels *k = o->kernels;
	const int64_t n = o->n_embd, n_top = t->n_top;
	const size_t row_bytes = (size_t)n * sizeof(float);
	const scratch s = cut(o, memory, n_top, t->n_states);
	decode_rows(o, t, s.rows);
	for (int64_t i = 0; i < t->n_states; i++)
		k->rms_norm(s.normed + i * n, t->states[i], o->norm, n, o->eps);
	k->type[RV_F32].matmul_float(s.logits, n_top, s.rows, row_bytes, s.normed, row_bytes, n, n_top,
	                             t->n_states);
	for (int64_t i = 0; i < t->n_states; i++)
		loss[i] =
		        cross_entropy(k, reading == RV_LOCAL_ANCHORED ? t->saved : s.logits + i * n_top,
		                      n_top, t->chosen, s.factors + i * n_top);
	if (!gradients)
		return;
	k->gemm(s.normed, n, s.factors, n_top, s.rows, n, t->n_states, n, n_top);
	for (int64_t i = 0; i < t->n_states; i++) {
		const float *z = s.logits + i * n_top, *d = s.factors + i * n_top;
		float squares;
		double along = 0; /* sum of d z */
		for (int64_t j = 0; j < n_top; j++)
			along += (double)d[j] * (double)z[j];
		k->dot_f32(&squares, t->states[i], t->states[i], n);
		const double r2 = 1 / ((double)squares / (double)n + (double)o->eps);
		through_norm(gradients[i], s.normed + i * n, o->norm, t->states[i], (float)sqrt(r2),
		             (float)(-r2 * along / (double)n), n);
	}
}
