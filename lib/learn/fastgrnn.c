#include "base/mem.h"
#include "base/rng.h"
#include "learn/agent_linear.h" /* rv_agent_softmax */
#include "learn/fastgrnn_cell_body.h"
#include "learn/fastgrnn_internal.h"
#include "learn/sealed.h"

const char *const rv_fastgrnn_slot_names[RV_FASTGRNN_SLOTS] = {"pico", "nano", "small", "medium"};
const int rv_fastgrnn_buckets[RV_FASTGRNN_BUCKETS] = {512, 2048, 4096, 8192, 32768};
const int rv_fastgrnn_tails[RV_FASTGRNN_TAILS] = {64, 128, 256, 512, 1024};
const char *const rv_fastgrnn_kv_types[RV_FASTGRNN_KV_TYPES] = {"f16", "q8", "q4"};

rv_fastgrnn_options rv_fastgrnn_defaults(void) {
	return (rv_fastgrnn_options){.hidden = 32,
	                             .rank_w = 12,
	                             .rank_u = 12,
	                             .kept = 0.5,
	                             .epochs = 30,
	                             .batch = 32,
	                             .rate = 4e-3};
}

/* ---- in and out ---- */

int rv_grnn_segments(const rv_fastgrnn_input *in, float *x) {
	float numbers[RV_GRNN_SEGMENTS * RV_GRNN_SEGMENT] = {0};
	float *slots = numbers + RV_FASTGRNN_QUERY + RV_FASTGRNN_POLICY;
	memcpy(numbers, in->query, sizeof in->query);
	memcpy(numbers + RV_FASTGRNN_QUERY, in->policy, sizeof in->policy);
	for (int i = 0; i < RV_FASTGRNN_SLOTS; i++) {
		if (!(in->latency_ms[i] >= 0))
			return 0;
		slots[i] = 2 * in->success[i] - 1;
		slots[RV_FASTGRNN_SLOTS + i] = log10f(in->latency_ms[i] + 0.01f) / 2;
	}
	memset(x, 0, (size_t)RV_GRNN_SEGMENTS * RV_GRNN_IN * sizeof *x);
	for (int k = 0; k < RV_GRNN_SEGMENTS; k++) {
		for (int i = 0; i < RV_GRNN_SEGMENT; i++) {
			const float v = numbers[k * RV_GRNN_SEGMENT + i];
			if (!isfinite(v))
				return 0;
			x[k * RV_GRNN_IN + i] = v;
		}
		x[k * RV_GRNN_IN + RV_GRNN_SEGMENT + k] = 1;
	}
	return 1;
}

static int best(const float *y, int n) {
	int at = 0;
	for (int i = 1; i < n; i++)
		at = y[i] > y[at] ? i : at;
	return at;
}

void rv_grnn_read(const rv_fastgrnn *g, const float *y, rv_fastgrnn_decision *d) {
	for (int i = 0; i < RV_FASTGRNN_SLOTS; i++)
		d->slots[i] = y[RV_GRNN_SLOT + i] / g->calibration;
	rv_agent_softmax(d->slots, RV_FASTGRNN_SLOTS);
	d->slot = best(d->slots, RV_FASTGRNN_SLOTS);
	d->confidence = d->slots[d->slot];
	d->context_bucket = best(y + RV_GRNN_BUCKET, RV_FASTGRNN_BUCKETS);
	d->kv_type = best(y + RV_GRNN_KV, RV_FASTGRNN_KV_TYPES);
	d->hot_tail = best(y + RV_GRNN_TAIL, RV_FASTGRNN_TAILS);
	d->micro_lora = y[RV_GRNN_LORA] > 0;
	d->temperature = 2 * grnn_sigmoid(y[RV_GRNN_TEMPERATURE]);
	d->top_p = grnn_sigmoid(y[RV_GRNN_TOP_P]);
}

rv_status rv_fastgrnn_route(const rv_fastgrnn *g, const rv_fastgrnn_input *input,
                            rv_fastgrnn_decision *out) {
	float x[RV_GRNN_SEGMENTS * RV_GRNN_IN], y[RV_GRNN_OUT];
	rv_grnn_tape tape;
	if (!rv_grnn_segments(input, x))
		return rv_fail(RV_ERR_NUMERIC,
		               "router of models: an input that is not finite, or a latency below 0");
	rv_grnn_forward(&g->shape, g->params, x, &tape, y);
	rv_grnn_read(g, y, out);
	return RV_OK;
}

/* ---- making ---- */

rv_status rv_grnn_allocate(rv_fastgrnn **out, const rv_fastgrnn_options *o) {
	rv_fastgrnn *g;
	if (o->hidden < 1 || o->hidden > RV_GRNN_HIDDEN_MAX || o->rank_w < 1 ||
	    o->rank_w > RV_GRNN_RANK_MAX || o->rank_u < 1 || o->rank_u > RV_GRNN_RANK_MAX ||
	    !(o->kept > 0 && o->kept <= 1) || o->epochs < 0 || o->batch < 1 ||
	    !(o->rate > 0 && o->rate < 1e3))
		return rv_fail(RV_ERR_INVALID, "router of models: options out of range");
	RV_TRY(RV_ALLOC(&g, 1, "router of models"));
	g->options = *o;
	g->shape = (rv_grnn_shape){RV_GRNN_IN, o->hidden,        o->rank_w,
	                           o->rank_u,  RV_GRNN_SEGMENTS, RV_GRNN_OUT};
	g->layout = rv_grnn_layout_of(&g->shape);
	g->calibration = 1;
	atomic_init(&g->refs, 1);
	const rv_status st = RV_ALLOC(&g->params, g->layout.count, "router of models");
	if (st == RV_OK)
		*out = g;
	else
		rv_free(g);
	return st;
}

static void randomize(float *w, int64_t n, double std, rv_rng *rng) {
	for (int64_t i = 0; i < n; i++)
		w[i] = (float)(std * rv_rng_normal(rng));
}

rv_status rv_fastgrnn_create(rv_fastgrnn **out, const rv_fastgrnn_options *o) {
	rv_rng rng;
	rv_fastgrnn *g;
	RV_TRY(rv_grnn_allocate(&g, o));
	const rv_grnn_layout l = g->layout;
	rv_rng_seed(&rng, o->seed);
	randomize(g->params + l.w1, l.w2 - l.w1, 1 / sqrt(o->rank_w), &rng);
	randomize(g->params + l.w2, l.u1 - l.w2, 1 / sqrt(RV_GRNN_SEGMENT), &rng);
	randomize(g->params + l.u1, l.u2 - l.u1, 0.7 / sqrt(o->rank_u), &rng);
	randomize(g->params + l.u2, l.b_z - l.u2, 0.7 / sqrt(o->hidden), &rng);
	randomize(g->params + l.v, l.b_y - l.v, 1 / sqrt(o->hidden), &rng);
	for (int i = 0; i < o->hidden; i++) {
		g->params[l.b_z + i] = 1;
		g->params[l.b_h + i] = 0;
	}
	g->params[l.zeta_nu] = 1; /* the paper's first values */
	g->params[l.zeta_nu + 1] = -4;
	*out = g;
	return RV_OK;
}

void rv_fastgrnn_destroy(rv_fastgrnn *g) {
	if (!g || atomic_fetch_sub(&g->refs, 1) != 1)
		return;
	if (g->memory.give_back)
		g->memory.give_back(g->memory.user);
	else
		rv_free(g->params);
	rv_free(g);
}

rv_fastgrnn *rv_fastgrnn_retain(rv_fastgrnn *g) {
	atomic_fetch_add(&g->refs, 1);
	return g;
}

int rv_fastgrnn_shared(const rv_fastgrnn *g) {
	return atomic_load(&g->refs) > 1;
}

rv_status rv_fastgrnn_place(rv_fastgrnn **out, const rv_fastgrnn *from,
                            const rv_adapter_memory *memory) {
	const size_t bytes = (size_t)from->layout.count * sizeof *from->params;
	rv_fastgrnn *g = NULL;
	void *params;
	*out = NULL;
	rv_status st = memory->take(memory->user, bytes, &params);
	if (st == RV_OK)
		st = RV_ALLOC(&g, 1, "router of models");
	if (st != RV_OK) {
		memory->give_back(memory->user);
		return st;
	}
	g->options = from->options;
	g->shape = from->shape;
	g->layout = from->layout;
	g->calibration = from->calibration;
	g->params = memcpy(params, from->params, bytes);
	g->memory = *memory;
	atomic_init(&g->refs, 1);
	*out = g;
	return RV_OK;
}

int64_t rv_fastgrnn_count(const rv_fastgrnn *g) {
	return g->layout.count;
}

double rv_fastgrnn_density(const rv_fastgrnn *g) {
	int64_t n = 0;
	for (int64_t i = 0; i < g->layout.b_z; i++)
		n += g->params[i] != 0;
	return (double)n / (double)g->layout.b_z;
}

/* ---- files ---- */

#define MAGIC "RVFGRNN\n"
enum { VERSION = 1 };

typedef struct file_head {
	int32_t hidden, rank_w, rank_u, in, steps, out;
	float kept, calibration;
} file_head;

rv_status rv_fastgrnn_save(const rv_fastgrnn *g, const char *path) {
	rv_sealed_out out = {0};
	const rv_grnn_shape s = g->shape;
	const file_head h = {
	        s.hidden,      s.rank_w, s.rank_u, s.in, s.steps, s.out, (float)g->options.kept,
	        g->calibration};
	rv_sealed_put(&out, &h, sizeof h);
	rv_sealed_put(&out, g->params, (size_t)g->layout.count * sizeof *g->params);
	return rv_sealed_write(&out, path, MAGIC, VERSION);
}

static rv_status load(rv_fastgrnn **out, rv_sealed_in *in) {
	file_head h;
	rv_fastgrnn_options o = rv_fastgrnn_defaults();
	rv_fastgrnn *g;
	RV_TRY(rv_sealed_get(in, "head", &h, sizeof h));
	if (h.in != RV_GRNN_IN || h.steps != RV_GRNN_SEGMENTS || h.out != RV_GRNN_OUT)
		return rv_fail(RV_ERR_MISMATCH, "%s: made for other inputs or decisions", in->name);
	o.hidden = h.hidden;
	o.rank_w = h.rank_w;
	o.rank_u = h.rank_u;
	o.kept = h.kept;
	rv_status st = rv_grnn_allocate(&g, &o);
	if (st != RV_OK)
		return rv_fail_in(st, in->name);
	st = rv_sealed_get(in, "weights", g->params, (size_t)g->layout.count * sizeof *g->params);
	if (st == RV_OK)
		st = rv_sealed_end(in);
	g->calibration = h.calibration;
	if (st == RV_OK && !(h.calibration > 0 && isfinite(h.calibration)))
		st = rv_fail(RV_ERR_NUMERIC, "%s: temperature %g", in->name, (double)h.calibration);
	for (int64_t i = 0; st == RV_OK && i < g->layout.count; i++)
		if (!isfinite(g->params[i]))
			st = rv_fail(RV_ERR_NUMERIC, "%s: weight %lld is not finite", in->name,
			             (long long)i);
	if (st == RV_OK)
		*out = g;
	else
		rv_fastgrnn_destroy(g);
	return st;
}

rv_status rv_fastgrnn_load(rv_fastgrnn **out, const char *path) {
	rv_sealed_in in;
	RV_TRY(rv_sealed_open(&in, path, MAGIC, VERSION));
	const rv_status st = load(out, &in);
	rv_sealed_close(&in);
	return st;
}

rv_status rv_fastgrnn_load_memory(rv_fastgrnn **out, const void *data, size_t size, const char *name) {
	rv_sealed_in in;
	RV_TRY(rv_sealed_open_memory(&in, data, size, name, MAGIC, VERSION));
	const rv_status st = load(out, &in);
	rv_sealed_close(&in);
	return st;
}
