/* Factors lie as the products want them: A by rows, B by columns, so that an update is two small
 * products over the tokens and two sums, each through a kernel. */
#include "learn/micro_lora.h"

#include "base/mem.h"
#include "base/rng.h"
#include "engine/context.h"
#include "learn/micro_lora_internal.h"
#include "learn/top_k.h"

#include <math.h>
#include <string.h>

const char *const rv_micro_forms[] = {"exact", "seeds", NULL};

rv_micro_lora_options rv_micro_lora_defaults(void) {
	return (rv_micro_lora_options){.site = RV_SITE_ATTN_OUT, .rank = 2, .lr = 0.01};
}

int rv_micro_lora_place(const int64_t *hooks, int n_hooks, int64_t n_layers, int64_t *out) {
	int n = 0;
	for (int64_t layer = 0; layer < n_layers; layer++) {
		int hooked = 0;
		for (int i = 0; i < n_hooks; i++) {
			int64_t at = (2 * hooks[i] * n_layers + 32) / 64;
			hooked |= (at < n_layers ? at : n_layers - 1) == layer;
		}
		if (hooked && n < RV_MICRO_MAX_LAYERS)
			out[n++] = layer;
	}
	return n;
}

/* ---- creation ---- */

static rv_status check_options(const rv_micro_lora_options *o, int64_t n_layers) {
	if (o->n_layers < 1 || o->n_layers > RV_MICRO_MAX_LAYERS)
		return rv_fail(RV_ERR_INVALID, "MicroLoRA: %d hooked layers, not 1 to %d", o->n_layers,
		               RV_MICRO_MAX_LAYERS);
	for (int i = 0; i < o->n_layers; i++)
		if (o->layers[i] < 0 || o->layers[i] >= n_layers ||
		    (i > 0 && o->layers[i] <= o->layers[i - 1]))
			return rv_fail(RV_ERR_INVALID,
			               "MicroLoRA: hooked layer %lld: layers are 0 to %lld, ascending, "
			               "each once",
			               (long long)o->layers[i], (long long)n_layers - 1);
	if (o->rank < 1 || o->rank > RV_MICRO_MAX_RANK)
		return rv_fail(RV_ERR_INVALID, "MicroLoRA: rank %lld, not 1 to %d", (long long)o->rank,
		               RV_MICRO_MAX_RANK);
	if ((unsigned)o->site >= RV_SITE_COUNT || (unsigned)o->form >= RV_MICRO_FORM_COUNT)
		return rv_fail(RV_ERR_INVALID, "MicroLoRA: site %d or form %d is not one", (int)o->site,
		               (int)o->form);
	if (!(o->alpha >= 0 && o->alpha <= 1e6) || !(o->lr >= 0 && o->lr <= 1e6) || o->top_k < 0)
		return rv_fail(RV_ERR_INVALID,
		               "MicroLoRA: alpha %g, rate %g or top-k %lld is out of bounds", o->alpha,
		               o->lr, (long long)o->top_k);
	return RV_OK;
}

static size_t padded(int64_t n) {
	return ((size_t)n + 15) & ~(size_t)15;
}

/* Factors of all parts in one block, so that keeping and rolling back are one copy. */
static rv_status allocate(rv_micro_lora *m) {
	int64_t most = 0;
	size_t at = 0;
	for (int i = 0; i < m->n_parts; i++) {
		micro_part *p = &m->parts[i];
		p->a = at;
		at += padded(m->options.rank * p->n_in);
		p->b = at;
		at += padded(m->options.rank * p->n_out);
		most = p->n_in > most ? p->n_in : most;
		most = p->n_out > most ? p->n_out : most;
	}
	m->n_factors = at;
	m->n_delta = padded(m->options.rank * most);
	RV_TRY(RV_ALLOC(&m->factors, m->n_factors, "MicroLoRA"));
	RV_TRY(RV_ALLOC(&m->kept, m->n_factors, "MicroLoRA"));
	RV_TRY(RV_ALLOC(&m->low, 2 * RV_MICRO_MAX_RANK * RV_MICRO_MAX_TOKENS, "MicroLoRA"));
	RV_TRY(RV_ALLOC(&m->delta, m->n_delta, "MicroLoRA"));
	if (m->options.top_k == 0)
		return RV_OK;
	RV_TRY(RV_ALLOC(&m->magnitude, m->n_delta, "MicroLoRA"));
	RV_TRY(RV_ALLOC(&m->top_scratch, rv_top_k_scratch((int64_t)m->n_delta), "MicroLoRA"));
	RV_TRY(RV_ALLOC(&m->top_values, m->options.top_k, "MicroLoRA"));
	return RV_ALLOC(&m->top_ids, m->options.top_k, "MicroLoRA");
}

static rv_status list_parts(rv_micro_lora *m) {
	const uint32_t roles = rv_site_roles(m->options.site);
	RV_TRY(RV_ALLOC(&m->parts, m->options.n_layers * RV_ROLE_COUNT, "MicroLoRA"));
	for (int l = 0; l < m->options.n_layers; l++)
		for (int role = 0; role < RV_ROLE_COUNT; role++) {
			if (!(roles & RV_ROLE_BIT(role)))
				continue;
			const rv_weight *w =
			        rv_model_weight(m->model, (rv_role)role, m->options.layers[l]);
			m->parts[m->n_parts++] = (micro_part){.role = (rv_role)role,
			                                      .layer = m->options.layers[l],
			                                      .n_in = w->cols,
			                                      .n_out = w->rows};
		}
	return RV_OK;
}

static rv_status create_into(rv_micro_lora *m) {
	rv_level level;
	RV_TRY(rv_level_default(&level));
	m->kernels = rv_kernels_for(level);
	RV_TRY(check_options(&m->options, rv_model_hparams(m->model)->n_layers));
	if (!(m->options.alpha > 0))
		m->options.alpha = 2 * (double)m->options.rank;
	m->scale = (float)(m->options.alpha / (double)m->options.rank);
	RV_TRY(list_parts(m));
	RV_TRY(allocate(m));
	rv_micro_lora_reset(m, m->options.seed);
	return RV_OK;
}

rv_status rv_micro_lora_create(rv_micro_lora **out, rv_model *model,
                               const rv_micro_lora_options *options) {
	rv_micro_lora *m;
	*out = NULL;
	RV_TRY(RV_ALLOC(&m, 1, "MicroLoRA"));
	m->model = rv_model_retain(model);
	m->options = *options;
	rv_status status = create_into(m);
	if (status != RV_OK) {
		rv_micro_lora_destroy(m);
		return status;
	}
	*out = m;
	return RV_OK;
}

void rv_micro_lora_destroy(rv_micro_lora *m) {
	if (!m)
		return;
	rv_model_release(m->model);
	rv_free(m->parts);
	rv_free(m->factors);
	rv_free(m->kept);
	rv_free(m->low);
	rv_free(m->delta);
	rv_free(m->magnitude);
	rv_free(m->top_values);
	rv_free(m->top_ids);
	rv_free(m->top_scratch);
	rv_free(m);
}

/* ---- what it is ---- */

const rv_micro_lora_options *rv_micro_lora_get_options(const rv_micro_lora *m) {
	return &m->options;
}
rv_model *rv_micro_lora_model(const rv_micro_lora *m) {
	return m->model;
}
int rv_micro_lora_n_parts(const rv_micro_lora *m) {
	return m->n_parts;
}

size_t rv_micro_lora_bytes(const rv_micro_lora *m) {
	const size_t n_low = 2 * RV_MICRO_MAX_RANK * RV_MICRO_MAX_TOKENS;
	const size_t top = m->magnitude ? m->n_delta + 2 * (size_t)m->options.top_k +
	                                          (size_t)rv_top_k_scratch((int64_t)m->n_delta)
	                                : 0;
	return (2 * m->n_factors + m->n_delta + n_low + top) * sizeof(float);
}

int64_t rv_micro_lora_n_params(const rv_micro_lora *m) {
	int64_t n = 0;
	for (int i = 0; i < m->n_parts; i++)
		n += m->parts[i].rank * (m->parts[i].n_in + m->parts[i].n_out);
	return n;
}

rv_micro_part rv_micro_lora_part(const rv_micro_lora *m, int part) {
	const micro_part *p = &m->parts[part];
	return (rv_micro_part){.role = p->role,
	                       .layer = p->layer,
	                       .n_in = p->n_in,
	                       .n_out = p->n_out,
	                       .rank = p->rank,
	                       .scale = m->scale,
	                       .a = m->factors + p->a,
	                       .b_columns = m->factors + p->b};
}

int rv_micro_lora_find(const rv_micro_lora *m, rv_role role, int64_t layer) {
	for (int i = 0; i < m->n_parts; i++)
		if (m->parts[i].role == role && m->parts[i].layer == layer)
			return i;
	return -1;
}

void rv_micro_lora_set_lr(rv_micro_lora *m, double lr) {
	m->options.lr = lr;
}

/* <row r of x, row q of x> */
static double dot_rows(const rv_micro_lora *m, const float *x, int64_t n, int64_t r, int64_t q) {
	float sum;
	m->kernels->dot_f32(&sum, x + r * n, x + q * n, n);
	return (double)sum;
}

/* |s B A|^2 = s^2 sum over r, q of <column r of B, column q> <row r of A, row q> */
double rv_micro_lora_norm(const rv_micro_lora *m) {
	double sum = 0;
	for (int i = 0; i < m->n_parts; i++) {
		const rv_micro_part p = rv_micro_lora_part(m, i);
		for (int64_t r = 0; r < p.rank; r++)
			for (int64_t q = 0; q < p.rank; q++)
				sum += dot_rows(m, p.a, p.n_in, r, q) *
				       dot_rows(m, p.b_columns, p.n_out, r, q);
	}
	return (double)m->scale * sqrt(sum > 0 ? sum : 0);
}

/* ---- keeping ---- */

static void draw_row(rv_micro_lora *m, micro_part *p, int64_t r, rv_rng *rng) {
	const double std = sqrt(2.0 / (double)(p->n_in + m->options.rank));
	for (int64_t i = 0; i < p->n_in; i++)
		m->factors[p->a + (size_t)(r * p->n_in + i)] = (float)(std * rv_rng_normal(rng));
}

void rv_micro_lora_reset(rv_micro_lora *m, uint64_t seed) {
	memset(m->factors, 0, m->n_factors * sizeof *m->factors);
	for (int i = 0; i < m->n_parts; i++) {
		micro_part *p = &m->parts[i];
		rv_rng rng;
		rv_rng_stream(&rng, seed, (uint64_t)i);
		p->rank = m->options.adaptive ? 1 : m->options.rank;
		p->n_updates = 0;
		for (int64_t r = 0; r < m->options.rank; r++)
			draw_row(m, p, r, &rng);
	}
	rv_micro_lora_keep(m);
}

void rv_micro_lora_keep(rv_micro_lora *m) {
	memcpy(m->kept, m->factors, m->n_factors * sizeof *m->kept);
	for (int i = 0; i < m->n_parts; i++)
		m->parts[i].kept_rank = m->parts[i].rank;
}

void rv_micro_lora_roll_back(rv_micro_lora *m) {
	memcpy(m->factors, m->kept, m->n_factors * sizeof *m->kept);
	for (int i = 0; i < m->n_parts; i++)
		m->parts[i].rank = m->parts[i].kept_rank;
}

/* ---- forward ---- */

/* low[t, r] = <row r of the factor, token t>; RV_MICRO_MAX_RANK apart. */
static void project(const rv_micro_lora *m, const float *factor, int64_t rank, const float *x,
                    int64_t ldx, int64_t n, int64_t n_tokens, float *low) {
	m->kernels->type[RV_F32].matmul_float(low, RV_MICRO_MAX_RANK, factor, (size_t)n * sizeof(float),
	                                      x, (size_t)ldx * sizeof(float), n, rank, n_tokens);
}

void rv_micro_lora_forward(const rv_micro_lora *m, int part, const float *x, int64_t n, float *y) {
	const rv_micro_part p = rv_micro_lora_part(m, part);
	enum { COLUMNS = 512 };
	for (int64_t t = 0; t < n; t++) {
		float low[RV_MICRO_MAX_RANK], sum[COLUMNS];
		project(m, p.a, p.rank, x + t * p.n_in, p.n_in, p.n_in, 1, low);
		for (int64_t r = 0; r < p.rank; r++)
			low[r] *= p.scale;
		for (int64_t c = 0; c < p.n_out; c += COLUMNS) {
			const int64_t width = p.n_out - c < COLUMNS ? p.n_out - c : COLUMNS;
			m->kernels->gemm(sum, COLUMNS, low, p.rank, p.b_columns + c, p.n_out, 1, width,
			                 p.rank);
			m->kernels->add(y + t * p.n_out + c, sum, width);
		}
	}
}

/* ---- updates ---- */

/* Keeps the top_k entries of the n that are largest in magnitude. */
static void keep_largest(rv_micro_lora *m, float *x, int64_t n) {
	const int64_t k = m->options.top_k;
	if (k == 0 || k >= n)
		return;
	for (int64_t i = 0; i < n; i++)
		m->magnitude[i] = fabsf(x[i]);
	rv_top_k(m->magnitude, n, k, m->top_ids, m->top_values, m->top_scratch);
	for (int64_t i = 0; i < k; i++)
		m->top_values[i] = x[m->top_ids[i]];
	memset(x, 0, (size_t)n * sizeof *x);
	for (int64_t i = 0; i < k; i++)
		x[m->top_ids[i]] = m->top_values[i];
}

/* factor[r] -= step sum_t low[t, r] x_t */
static void descend(rv_micro_lora *m, float *factor, int64_t rank, const float *low, const float *x,
                    int64_t ldx, int64_t n, int64_t n_tokens, double step) {
	float *by_rank = m->low + RV_MICRO_MAX_RANK * RV_MICRO_MAX_TOKENS;
	for (int64_t r = 0; r < rank; r++)
		for (int64_t t = 0; t < n_tokens; t++)
			by_rank[r * n_tokens + t] =
			        (float)(-step * (double)low[t * RV_MICRO_MAX_RANK + r]);
	m->kernels->gemm(m->delta, n, by_rank, n_tokens, x, ldx, rank, n, n_tokens);
	keep_largest(m, m->delta, rank * n);
	m->kernels->add(factor, m->delta, rank * n);
}

enum { ADAPT_EVERY = 8 };
#define ALIKE 0.5 /* of the strongest direction: all are used, there is work for another */
#define HARDLY_USED 0.05

/* How much each direction of s B A does; a direction is one column of B with its row of A. */
static void adapt_rank(rv_micro_lora *m, micro_part *p) {
	float *a = m->factors + p->a, *b = m->factors + p->b;
	double least = INFINITY, most = 0;
	int64_t weakest = 0;
	if (!m->options.adaptive || ++p->n_updates % ADAPT_EVERY)
		return;
	for (int64_t r = 0; r < p->rank; r++) {
		const double used =
		        sqrt(dot_rows(m, a, p->n_in, r, r) * dot_rows(m, b, p->n_out, r, r));
		weakest = used < least ? r : weakest;
		least = used < least ? used : least;
		most = used > most ? used : most;
	}
	if (least >= ALIKE * most && p->rank < m->options.rank) {
		p->rank++; /* its column of B is zero */
	} else if (least < HARDLY_USED * most && p->rank > 1) {
		const int64_t last = --p->rank;
		memmove(a + weakest * p->n_in, a + last * p->n_in, (size_t)p->n_in * sizeof *a);
		memmove(b + weakest * p->n_out, b + last * p->n_out, (size_t)p->n_out * sizeof *b);
		memset(b + last * p->n_out, 0, (size_t)p->n_out * sizeof *b);
	}
}

static int is_finite(const rv_micro_lora *m, const float *x, int64_t n) {
	float sum;
	m->kernels->dot_f32(&sum, x, x, n);
	return isfinite(sum);
}

rv_status rv_micro_lora_update(rv_micro_lora *m, int part, const float *x, int64_t ldx, const float *g,
                               int64_t ldg, int64_t n, double step) {
	micro_part *p = &m->parts[part];
	float *a = m->factors + p->a, *b = m->factors + p->b;
	float back[RV_MICRO_MAX_RANK * RV_MICRO_MAX_TOKENS];
	const int exact = m->options.form == RV_MICRO_EXACT;
	const double by = exact ? step * (double)m->scale : step;
	if (n < 0 || n > RV_MICRO_MAX_TOKENS || part < 0 || part >= m->n_parts)
		return rv_fail(RV_ERR_INVALID, "MicroLoRA: part %d, %lld tokens", part, (long long)n);
	project(m, a, p->rank, x, ldx, p->n_in, n, m->low);
	if (exact)
		project(m, b, p->rank, g, ldg, p->n_out, n, back);
	descend(m, b, p->rank, m->low, g, ldg, p->n_out, n, by);
	if (!exact)
		project(m, b, p->rank, g, ldg, p->n_out, n, back);
	descend(m, a, p->rank, back, x, ldx, p->n_in, n, by);
	adapt_rank(m, p);
	if (is_finite(m, a, p->rank * p->n_in) && is_finite(m, b, p->rank * p->n_out))
		return RV_OK;
	return rv_fail(RV_ERR_NUMERIC, "MicroLoRA: layer %lld is not finite after an update",
	               (long long)p->layer);
}

/* |B l|^2 = sum over r, q of l_r l_q <column r of B, column q> */
double rv_micro_lora_ratio(const rv_micro_lora *m, int part, const float *x, int64_t ldx,
                           const float *state, int64_t lds, int64_t n) {
	const rv_micro_part p = rv_micro_lora_part(m, part);
	double gram[RV_MICRO_MAX_RANK][RV_MICRO_MAX_RANK], most = 0;
	for (int64_t r = 0; r < p.rank; r++)
		for (int64_t q = 0; q <= r; q++)
			gram[r][q] = gram[q][r] = dot_rows(m, p.b_columns, p.n_out, r, q);
	project(m, p.a, p.rank, x, ldx, p.n_in, n, m->low);
	for (int64_t t = 0; t < n; t++) {
		const float *low = m->low + t * RV_MICRO_MAX_RANK;
		double change = 0, whole = dot_rows(m, state + t * lds, p.n_out, 0, 0);
		for (int64_t r = 0; r < p.rank; r++)
			for (int64_t q = 0; q < p.rank; q++)
				change += (double)low[r] * (double)low[q] * gram[r][q];
		const double ratio = (double)p.scale * sqrt(fmax(change, 0) / whole);
		if (!isfinite(change) || !isfinite(whole))
			return (double)NAN;
		most = ratio > most ? ratio : most;
	}
	return most;
}
