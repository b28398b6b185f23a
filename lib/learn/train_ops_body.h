/* The functions of train_ops.h. The includer has included that header and defines RV_TRAIN_OPS, the
 * name of the table. Plain loops that a compiler turns into vectors; sums keep LANES partial sums,
 * since it may not reorder one by itself. Internal to lib/learn. */
#include <math.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef struct lanes {
	rv_real v[LANES];
} lanes;

INLINE rv_real lanes_sum(lanes a) {
	for (int width = LANES / 2; width > 0; width /= 2)
		for (int l = 0; l < width; l++)
			a.v[l] += a.v[l + width];
	return a.v[0];
}

/* LANE_SUM(result, n, i, term): result = sum over i in [0, n) of term. */
#define LANE_SUM(result, n, i, term)                                                                   \
	do {                                                                                           \
		lanes acc_ = {{0}};                                                                    \
		int64_t base_ = 0;                                                                     \
		for (; base_ + LANES <= (n); base_ += LANES)                                           \
			for (int l_ = 0; l_ < LANES; l_++) {                                           \
				const int64_t i = base_ + l_;                                          \
				acc_.v[l_] += (term);                                                  \
			}                                                                              \
		for (int64_t i = base_; i < (n); i++)                                                  \
			acc_.v[i - base_] += (term);                                                   \
		(result) = lanes_sum(acc_);                                                            \
	} while (0)

/* exp for x <= 0 or small: relative error below 2e-7 (f32), flushed to 0 under 2^-126. */
#ifdef RV_TRAIN_DOUBLE
INLINE rv_real fast_exp(rv_real x) {
	return exp(x);
}
#else
INLINE rv_real fast_exp(rv_real x) {
	const float least = -87.3f, most = 88.3f;
	float c = x < least ? least : x;
	c = c > most ? most : c;
	/* x = n ln 2 + r, |r| <= ln 2 / 2; adding 1.5 2^23 rounds to the nearest integer */
	float shifted = c * 1.44269504f + 12582912.0f;
	float n = shifted - 12582912.0f;
	float r = c - n * 0.693359375f;
	r = r + n * 2.12194440e-4f;
	/* Taylor coefficients to r^7: the rest is below 2^-27 of the value */
	float p = 1.0f / 5040;
	p = p * r + 1.0f / 720;
	p = p * r + 1.0f / 120;
	p = p * r + 1.0f / 24;
	p = p * r + 1.0f / 6;
	p = p * r + 0.5f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	uint32_t bits; /* the low bits of shifted are n */
	float power;
	memcpy(&bits, &shifted, sizeof bits);
	bits = (bits + 127) << 23;
	memcpy(&power, &bits, sizeof power);
	return x < least ? 0.0f : p * power;
}
#endif

INLINE rv_real max_of(const rv_real *x, int64_t n) {
	lanes m;
	for (int l = 0; l < LANES; l++)
		m.v[l] = x[0];
	int64_t i = 0;
	for (; i + LANES <= n; i += LANES)
		for (int l = 0; l < LANES; l++)
			m.v[l] = x[i + l] > m.v[l] ? x[i + l] : m.v[l];
	for (; i < n; i++)
		m.v[0] = x[i] > m.v[0] ? x[i] : m.v[0];
	for (int l = 1; l < LANES; l++)
		m.v[0] = m.v[l] > m.v[0] ? m.v[l] : m.v[0];
	return m.v[0];
}

/* ---- norms, biases, activations ---- */

static void norm(rv_real *y, rv_real *inv, const rv_real *x, const rv_real *w, int64_t rows, int64_t n,
                 rv_real eps) {
	for (int64_t r = 0; r < rows; r++, x += n, y += n) {
		rv_real square;
		LANE_SUM(square, n, i, x[i] * x[i]);
		/* squares that overflow must not turn a row into zeros in silence */
		rv_real scale = isfinite(square)
		                        ? 1 / (rv_real)sqrt((double)(square / (rv_real)n + eps))
		                        : (rv_real)NAN;
		inv[r] = scale;
		for (int64_t i = 0; i < n; i++)
			y[i] = x[i] * scale * w[i];
	}
}

/* With h = x inv: dw = dy h, dx = inv (g - h mean(g h)), g = dy w. */
static void norm_back(rv_real *dx, rv_real *dw, const rv_real *dy, const rv_real *x, const rv_real *inv,
                      const rv_real *w, int64_t rows, int64_t n) {
	for (int64_t r = 0; r < rows; r++, x += n, dx += n, dy += n) {
		rv_real scale = inv[r], dot = 0;
		LANE_SUM(dot, n, i, dy[i] * w[i] * x[i]);
		rv_real second =
		        RV_TRAIN_KEEPS(norm_second_term) ? dot * scale * scale / (rv_real)n : 0;
		for (int64_t i = 0; i < n; i++)
			dx[i] += scale * (dy[i] * w[i] - x[i] * second);
		if (dw)
			for (int64_t i = 0; i < n; i++)
				dw[i] += dy[i] * x[i] * scale;
	}
}

static void add(rv_real *restrict y, const rv_real *restrict x, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		y[i] += x[i];
}

static void add_bias(rv_real *y, const rv_real *b, int64_t rows, int64_t n) {
	for (int64_t r = 0; r < rows; r++)
		add(y + r * n, b, n);
}

static void sum_rows(rv_real *db, const rv_real *dy, int64_t rows, int64_t n) {
	for (int64_t r = 0; r < rows; r++)
		add(db, dy + r * n, n);
}

static void swiglu(rv_real *restrict y, const rv_real *restrict gate, const rv_real *restrict up,
                   int64_t n) {
	for (int64_t i = 0; i < n; i++)
		y[i] = gate[i] / (1 + fast_exp(-gate[i])) * up[i];
}

static void swiglu_back(rv_real *restrict gate, rv_real *restrict up, const rv_real *restrict dy,
                        int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		rv_real g = gate[i], s = 1 / (1 + fast_exp(-g));
		rv_real curve = RV_TRAIN_KEEPS(swiglu_curve) ? g * s * (1 - s) : 0;
		gate[i] = dy[i] * up[i] * (s + curve);
		up[i] = dy[i] * g * s;
	}
}

/* ---- attention ---- */

/* One head; sign -1 turns back. */
INLINE void rotate(rv_real *restrict y, const rv_real *restrict x, const rv_real *restrict cs,
                   rv_real sign, int64_t head_dim, int64_t n_rot) {
	int64_t half = cs ? n_rot / 2 : 0;
	for (int64_t i = 0; i < half; i++) {
		rv_real c = cs[2 * i], s = sign * cs[2 * i + 1], a = x[i], b = x[half + i];
		y[i] = a * c - b * s;
		y[half + i] = b * c + a * s;
	}
	for (int64_t i = 2 * half; i < head_dim; i++)
		y[i] = x[i];
}

static void pack(rv_real *packed, const rv_real *x, const rv_real *cs, const rv_head_shape *shape) {
	for (int64_t r = 0; r < shape->rows; r++)
		for (int64_t g = 0; g < shape->n_groups; g++) {
			const rv_real *from = x + (r * shape->n_groups + g) * shape->width;
			rv_real *to = packed + (g * shape->rows + r) * shape->width;
			for (int64_t i = 0; i < shape->width; i += shape->head_dim)
				rotate(to + i, from + i, cs ? cs + r * shape->n_rot : NULL, 1,
				       shape->head_dim, shape->n_rot);
		}
}

static void unpack(rv_real *x, const rv_real *packed, const rv_real *cs, const rv_head_shape *shape) {
	rv_real sign = RV_TRAIN_KEEPS(rope_turns_back) ? -1 : 1;
	for (int64_t r = 0; r < shape->rows; r++)
		for (int64_t g = 0; g < shape->n_groups; g++) {
			rv_real *to = x + (r * shape->n_groups + g) * shape->width;
			const rv_real *from = packed + (g * shape->rows + r) * shape->width;
			for (int64_t i = 0; i < shape->width; i += shape->head_dim)
				rotate(to + i, from + i, cs ? cs + r * shape->n_rot : NULL, sign,
				       shape->head_dim, shape->n_rot);
		}
}

static void scale_rows(rv_real *x, const rv_real *scale, int64_t rows, int64_t n) {
	for (int64_t r = 0; r < rows; r++)
		for (int64_t i = 0; i < n; i++)
			x[r * n + i] *= scale[r];
}

static void row_dots(rv_real *d, const rv_real *a, const rv_real *b, int64_t rows, int64_t n) {
	for (int64_t r = 0; r < rows; r++, a += n, b += n)
		LANE_SUM(d[r], n, i, a[i] * b[i]);
}

INLINE void zero_outside(rv_real *x, int64_t lo, int64_t hi, int64_t n) {
	for (int64_t i = 0; i < lo; i++)
		x[i] = 0;
	for (int64_t i = hi; i < n; i++)
		x[i] = 0;
}

static void softmax(rv_real *s, rv_real *lse, rv_real *inv, const rv_score_rows *rows, rv_real scale) {
	for (int64_t r = 0; r < rows->rows; r++) {
		rv_real *x = s + r * rows->ld, *seen = x + rows->lo[r], sum;
		int64_t n = rows->hi[r] - rows->lo[r];
		rv_real shift = scale * max_of(seen, n);
		for (int64_t i = 0; i < n; i++)
			seen[i] = fast_exp(scale * seen[i] - shift);
		LANE_SUM(sum, n, i, seen[i]);
		zero_outside(x, rows->lo[r], rows->hi[r], rows->n);
		lse[r] = shift + (rv_real)log((double)sum);
		inv[r] = 1 / sum;
	}
}

static void softmax_back(rv_real *s, rv_real *dp, const rv_real *lse, const rv_real *dots,
                         const rv_score_rows *rows, rv_real scale) {
	for (int64_t r = 0; r < rows->rows; r++) {
		int64_t lo = rows->lo[r] < rows->n ? rows->lo[r] : rows->n;
		int64_t hi = rows->hi[r] > lo ? rows->hi[r] : lo;
		rv_real *restrict x = s + r * rows->ld, *restrict d = dp + r * rows->ld;
		rv_real shift = lse[r], dot = RV_TRAIN_KEEPS(softmax_mean) ? dots[r] : 0;
		for (int64_t i = lo; i < hi; i++) {
			x[i] = fast_exp(scale * x[i] - shift);
			d[i] = x[i] * (d[i] - dot) * scale;
		}
		zero_outside(x, lo, hi, rows->n);
		zero_outside(d, lo, hi, rows->n);
	}
}

/* ---- loss ---- */

/* x becomes its softmax; returns the log of the sum of exp(x). */
INLINE rv_real softmax_in_place(rv_real *x, int64_t n) {
	rv_real sum, shift = max_of(x, n);
	for (int64_t i = 0; i < n; i++)
		x[i] = fast_exp(x[i] - shift);
	LANE_SUM(sum, n, i, x[i]);
	rv_real inv = 1 / sum;
	for (int64_t i = 0; i < n; i++)
		x[i] *= inv;
	return shift + (rv_real)log((double)sum);
}

/* The divergence of the student x from row->teacher at the temperature; teacher becomes
 * weight share T (q_student - q_teacher), the derivative of T^2 KL. */
static double divergence(const rv_real *x, int64_t n, const rv_loss_row *row) {
	const rv_real t = row->temperature, cold = 1 / t;
	rv_real *teacher = row->teacher, kl, sum, shift = max_of(x, n) * cold;
	LANE_SUM(sum, n, i, fast_exp(x[i] * cold - shift));
	const rv_real student_lse = shift + (rv_real)log((double)sum);
	rv_real hot, top = max_of(teacher, n) * cold;
	LANE_SUM(hot, n, i, fast_exp(teacher[i] * cold - top));
	const rv_real teacher_lse = top + (rv_real)log((double)hot);
	const rv_real factor = row->weight * row->distill_weight * t;
	LANE_SUM(kl, n, i,
	         fast_exp(teacher[i] * cold - teacher_lse) *
	                 ((teacher[i] - x[i]) * cold - (teacher_lse - student_lse)));
	for (int64_t i = 0; i < n; i++)
		teacher[i] = factor * (fast_exp(x[i] * cold - student_lse) -
		                       fast_exp(teacher[i] * cold - teacher_lse));
	return (double)kl;
}

static rv_loss_value loss(rv_real *x, int64_t n, const rv_loss_row *row) {
	rv_loss_value out = {0};
	const rv_real at_target = x[row->target];
	rv_real share = 1;
	if (row->teacher) {
		out.kl = divergence(x, n, row);
		share = 1 - row->distill_weight;
	}
	if (!row->gradient) {
		rv_real sum, shift = max_of(x, n);
		LANE_SUM(sum, n, i, fast_exp(x[i] - shift));
		out.cross_entropy = (double)(shift - at_target) + log((double)sum);
		return out;
	}
	out.cross_entropy = (double)(softmax_in_place(x, n) - at_target);
	const rv_real factor = row->weight * share;
	for (int64_t i = 0; i < n; i++)
		x[i] *= RV_TRAIN_KEEPS(cross_entropy_softmax) ? factor : 0;
	x[row->target] -= factor;
	if (row->teacher)
		add(x, row->teacher, n);
	return out;
}

/* ---- optimizer ---- */

static double reduce(rv_real *const *g, int64_t n_slices, int64_t offset, int64_t n, rv_real scale) {
	rv_real *sum = g[0] + offset;
	for (int64_t s = 1; s < n_slices; s++)
		add(sum, g[s] + offset, n);
	for (int64_t i = 0; i < n; i++)
		sum[i] *= scale;
	double total = 0;
	for (int64_t i = 0; i < n; i += 1024) {
		const rv_real *x = sum + i;
		rv_real part;
		LANE_SUM(part, (n - i < 1024 ? n - i : 1024), j, x[j] * x[j]);
		total += (double)part;
	}
	return total;
}

static double hold(rv_real *g, const rv_real *w, const rv_real *anchor, const rv_real *f, int64_t n,
                   rv_real lambda) {
	double total = 0;
	for (int64_t i = 0; i < n; i += 1024) {
		rv_real part;
		LANE_SUM(part, (n - i < 1024 ? n - i : 1024), j,
		         f[i + j] * (w[i + j] - anchor[i + j]) * (w[i + j] - anchor[i + j]));
		total += (double)part;
	}
	for (int64_t i = 0; g && i < n; i++)
		g[i] += lambda * f[i] * (RV_TRAIN_KEEPS(anchor) ? w[i] - anchor[i] : w[i]);
	return total;
}

static void add_squares(rv_real *sum, const rv_real *g, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		sum[i] += g[i] * g[i];
}

static void adamw(rv_real *restrict w, rv_real *restrict m, rv_real *restrict v,
                  const rv_real *restrict g, int64_t n, const rv_adamw_step *step) {
	const rv_adamw_step a = *step;
	for (int64_t i = 0; i < n; i++) {
		rv_real d = g[i] * a.scale;
		m[i] = a.beta1 * m[i] + (1 - a.beta1) * d;
		v[i] = a.beta2 * v[i] + (1 - a.beta2) * d * d;
		rv_real root = __builtin_choose_expr(sizeof(rv_real) == sizeof(float), sqrtf,
		                                     sqrt)(v[i] * a.fix2);
		w[i] -= a.rate * m[i] * a.fix1 / (root + a.epsilon) + a.decay * w[i];
	}
}

const rv_train_ops RV_TRAIN_OPS = {
        .norm = norm,
        .norm_back = norm_back,
        .add = add,
        .add_bias = add_bias,
        .sum_rows = sum_rows,
        .swiglu = swiglu,
        .swiglu_back = swiglu_back,
        .pack = pack,
        .unpack = unpack,
        .scale_rows = scale_rows,
        .row_dots = row_dots,
        .softmax = softmax,
        .softmax_back = softmax_back,
        .loss = loss,
        .reduce = reduce,
        .hold = hold,
        .add_squares = add_squares,
        .adamw = adamw,
};
