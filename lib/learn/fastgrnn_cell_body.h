/* The functions of fastgrnn_cell.h. Internal to lib/learn. */
#include "learn/fastgrnn_cell.h"

#include <math.h>
#include <string.h>

/* y (+)= A x; A: [rows, n] */
static void grnn_product(const rv_real *a, const rv_real *x, int rows, int n, rv_real *y) {
	for (int i = 0; i < rows; i++) {
		rv_real sum = 0;
		for (int j = 0; j < n; j++)
			sum += a[(int64_t)i * n + j] * x[j];
		y[i] = sum;
	}
}

/* dx += A' dy, dA += dy x' */
static void grnn_back(const rv_real *a, const rv_real *x, const rv_real *dy, int rows, int n,
                      rv_real *da, rv_real *dx) {
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < n; j++) {
			da[(int64_t)i * n + j] += dy[i] * x[j];
			if (dx)
				dx[j] += a[(int64_t)i * n + j] * dy[i];
		}
}

static rv_real grnn_sigmoid(rv_real x) {
	return (rv_real)(1 / (1 + exp((double)-x)));
}

void rv_grnn_forward(const rv_grnn_shape *s, const rv_real *p, const rv_real *x, rv_grnn_tape *t,
                     rv_real *y) {
	const rv_grnn_layout l = rv_grnn_layout_of(s);
	const rv_real zeta = grnn_sigmoid(p[l.zeta_nu]), nu = grnn_sigmoid(p[l.zeta_nu + 1]);
	rv_real from_x[RV_GRNN_HIDDEN_MAX], from_h[RV_GRNN_HIDDEN_MAX];
	memset(t->h[0], 0, sizeof t->h[0]);
	for (int k = 0; k < s->steps; k++) {
		grnn_product(p + l.w2, x + (int64_t)k * s->in, s->rank_w, s->in, t->a[k]);
		grnn_product(p + l.u2, t->h[k], s->rank_u, s->hidden, t->b[k]);
		grnn_product(p + l.w1, t->a[k], s->hidden, s->rank_w, from_x);
		grnn_product(p + l.u1, t->b[k], s->hidden, s->rank_u, from_h);
		for (int i = 0; i < s->hidden; i++) {
			const rv_real sum = from_x[i] + from_h[i];
			const rv_real z = grnn_sigmoid(sum + p[l.b_z + i]);
			const rv_real c = (rv_real)tanh((double)(sum + p[l.b_h + i]));
			t->z[k][i] = z;
			t->c[k][i] = c;
			t->h[k + 1][i] = (zeta * (1 - z) + nu) * c + z * t->h[k][i];
		}
	}
	grnn_product(p + l.v, t->h[s->steps], s->out, s->hidden, y);
	for (int i = 0; i < s->out; i++)
		y[i] += p[l.b_y + i];
}

void rv_grnn_backward(const rv_grnn_shape *s, const rv_real *p, const rv_real *x, const rv_grnn_tape *t,
                      const rv_real *dy, rv_real *g) {
	const rv_grnn_layout l = rv_grnn_layout_of(s);
	const rv_real zeta = grnn_sigmoid(p[l.zeta_nu]), nu = grnn_sigmoid(p[l.zeta_nu + 1]);
	rv_real dh[RV_GRNN_HIDDEN_MAX] = {0}, dp[RV_GRNN_HIDDEN_MAX], before[RV_GRNN_HIDDEN_MAX];
	rv_real d_zeta = 0, d_nu = 0;
	grnn_back(p + l.v, t->h[s->steps], dy, s->out, s->hidden, g + l.v, dh);
	for (int i = 0; i < s->out; i++)
		g[l.b_y + i] += dy[i];
	for (int k = s->steps - 1; k >= 0; k--) {
		rv_real da[RV_GRNN_RANK_MAX] = {0}, db[RV_GRNN_RANK_MAX] = {0};
		for (int i = 0; i < s->hidden; i++) {
			const rv_real z = t->z[k][i], c = t->c[k][i], h = t->h[k][i], d = dh[i];
			const rv_real dz =
			        RV_TRAIN_KEEPS(grnn_gate) ? d * (h - zeta * c) * z * (1 - z) : 0;
			const rv_real dc = d * (zeta * (1 - z) + nu) * (1 - c * c);
			d_zeta += d * (1 - z) * c;
			d_nu += d * c;
			g[l.b_z + i] += dz;
			g[l.b_h + i] += dc;
			dp[i] = dz + dc;
			before[i] = RV_TRAIN_KEEPS(grnn_carry) ? d * z : 0;
		}
		grnn_back(p + l.w1, t->a[k], dp, s->hidden, s->rank_w, g + l.w1, da);
		grnn_back(p + l.w2, x + (int64_t)k * s->in, da, s->rank_w, s->in, g + l.w2, NULL);
		grnn_back(p + l.u1, t->b[k], dp, s->hidden, s->rank_u, g + l.u1, db);
		grnn_back(p + l.u2, t->h[k], db, s->rank_u, s->hidden, g + l.u2,
		          RV_TRAIN_KEEPS(grnn_recurrence) ? before : NULL);
		memcpy(dh, before, (size_t)s->hidden * sizeof *dh);
	}
	if (RV_TRAIN_KEEPS(grnn_scalars)) {
		g[l.zeta_nu] += d_zeta * zeta * (1 - zeta);
		g[l.zeta_nu + 1] += d_nu * nu * (1 - nu);
	}
}
