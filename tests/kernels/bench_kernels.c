/* Times every kernel of every level: bench_kernels [--only PATTERN] [--level LEVEL] [--quick]
 *
 * A line a kernel, shape and level; a level that lists a weaker level's function has no line of its
 * own. Times are medians of batches, the levels of a case taking turns, on one pinned core. `roof` is
 * the time the core needs at least for the same bytes and operations, measured in the same run, over
 * the time taken: bytes at the bandwidth of the memory level that holds the case, operations at the f32
 * or 8-bit integer peak. PATTERN is a shell pattern or a part of "kernel shape". */
#include "tests/kernels/bench.h"
#include "tests/kernels/roofline.h"

#include <fnmatch.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the machine ---- */

static const size_t level_bytes[] = {16 << 10, 256 << 10, 4 << 20, WEIGHT_BYTES};
static const char *const level_names[] = {"L1", "L2", "L3", "memory"};

/* Bandwidth where a working set lives: of the smallest measured size that is not much smaller. */
static double bandwidth_for(const machine *m, double bytes) {
	int i = 0;
	while (i + 1 < COUNT(level_bytes) && bytes > 2 * (double)level_bytes[i])
		i++;
	return m->bandwidth[i];
}

static int pin(void) {
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof set, &set))
		return -1;
	size_t cpu = CPU_SETSIZE - 1;
	while (cpu > 0 && !CPU_ISSET(cpu, &set))
		cpu--;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof set, &set) ? -1 : (int)cpu;
}

static float uniform(uint64_t *state) {
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (float)(*state >> 40) * 0x1p-23f - 1;
}

/* Where a block has its f16 scale and minimum; -1: none. */
static const int scale_at[RV_TYPE_LIMIT][2] = {
        [RV_Q4_0] = {0, -1}, [RV_Q4_1] = {0, 2},    [RV_Q5_0] = {0, -1},   [RV_Q5_1] = {0, 2},
        [RV_Q8_0] = {0, -1}, [RV_Q2_K] = {80, 82},  [RV_Q3_K] = {108, -1}, [RV_Q4_K] = {0, 2},
        [RV_Q5_K] = {0, 2},  [RV_Q6_K] = {208, -1},
};

static void fill_block(uint8_t *p, const rv_type_info *t, uint64_t *state) {
	const float x = uniform(state);
	const rv_f16 half = rv_f32_to_f16(x);
	const rv_bf16 brain = rv_f32_to_bf16(x);
	if (t->type == RV_F32) {
		memcpy(p, &x, sizeof x);
	} else if (t->type == RV_F16 || t->type == RV_BF16) {
		memcpy(p, t->type == RV_F16 ? &half : &brain, sizeof half);
	} else {
		for (int i = 0; i < t->block_bytes; i++)
			p[i] = (uint8_t)(uniform(state) * 128 + 128);
		for (int i = 0; i < 2; i++) {
			if (scale_at[t->type][i] >= 0)
				memcpy(p + scale_at[t->type][i], &half, sizeof half);
		}
	}
}

/* Some distinct blocks, repeated. */
static void fill_weights(data *d, const rv_type_info *t) {
	uint64_t state = 1;
	const size_t distinct = (size_t)t->block_bytes * 4096;
	for (size_t at = 0; at < distinct; at += (size_t)t->block_bytes)
		fill_block(d->weights + at, t, &state);
	for (size_t at = distinct; at < WEIGHT_BYTES; at += distinct)
		memcpy(d->weights + at, d->weights,
		       at + distinct < WEIGHT_BYTES ? distinct : WEIGHT_BYTES - at);
}

/* ---- kernels with a type ---- */

/* The matrix moves on from call to call, so that it comes from memory like a layer's. */
static void run_matmul(const rv_kernels *k, const bench_case *c, data *d) {
	const rv_type_info *t = rv_type_get(c->type);
	const size_t row = rv_type_row_bytes(t, c->b), bytes = row * (size_t)c->a;
	if (d->next + bytes > WEIGHT_BYTES)
		d->next = 0;
	k->type[c->type].matmul[RV_LAYOUT_GGML](d->f[0], c->a, d->weights + d->next, row, d->act,
	                                        rv_act_row_bytes(t->act, c->b), c->b, c->a, c->c);
	d->next += bytes;
}
static void run_matmul_float(const rv_kernels *k, const bench_case *c, data *d) {
	const size_t row = rv_type_row_bytes(rv_type_get(c->type), c->b);
	k->type[c->type].matmul_float(d->f[0], c->a, d->weights, row, d->f[1], (size_t)c->b * 4, c->b,
	                              c->a, c->c);
}
static void run_dequantize(const rv_kernels *k, const bench_case *c, data *d) {
	k->type[c->type].dequantize(d->f[0], d->weights, c->a);
}
static void run_quantize(const rv_kernels *k, const bench_case *c, data *d) {
	k->type[c->type].quantize(d->act, d->f[1], NULL, c->a);
}
static void run_quantize_act(const rv_kernels *k, const bench_case *c, data *d) {
	k->quantize_act[c->type](d->act, d->f[1], c->a);
}
static void run_kv_store(const rv_kernels *k, const bench_case *c, data *d) {
	k->kv[c->type].store(d->act, d->f[1], c->b);
}
static void run_kv_load_keys(const rv_kernels *k, const bench_case *c, data *d) {
	const rv_kv_type t = (rv_kv_type)c->type;
	k->kv[t].load_keys(d->f[0], d->weights, rv_kv_row_bytes(t, c->b), c->a, c->b);
}
static void run_kv_load_values(const rv_kernels *k, const bench_case *c, data *d) {
	const rv_kv_type t = (rv_kv_type)c->type;
	k->kv[t].load_values(d->f[0], d->weights, rv_kv_row_bytes(t, c->b), c->a, c->b);
}

/* ---- timing ---- */

static int ascending(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double time_batch(const rv_kernels *k, const bench_case *c, data *d, int64_t calls) {
	const int64_t start = thread_ns();
	for (int64_t i = 0; i < calls; i++)
		c->run(k, c, d);
	return (double)(thread_ns() - start) / (double)calls;
}

/* Calls that fill a batch; the trial calls also warm up. */
static int64_t calls_per_batch(const rv_kernels *k, const bench_case *c, data *d, int64_t batch_ns) {
	int64_t calls = 1;
	for (;;) {
		const double ns = time_batch(k, c, d, calls) * (double)calls;
		if (ns > (double)batch_ns / 2 || calls > 1 << 24)
			return 1 + (int64_t)((double)calls * (double)batch_ns / (ns + 1));
		calls *= 4;
	}
}

static void print_case(const bench_case *c, const machine *m, const double *median) {
	const double footprint = c->footprint > 0 ? c->footprint : c->bytes;
	const double by_bytes = c->bytes / bandwidth_for(m, footprint);
	const double by_ops = c->ops / (c->is_int8 ? m->int8 : m->f32);
	const double least = by_bytes > by_ops ? by_bytes : by_ops;
	for (int l = 0; l < RV_LEVEL_COUNT; l++) {
		if (median[l] <= 0)
			continue;
		printf("%-20s %-7s %-20s %12.1f %8.2f %8.2f %7.2f %5.0f%%\n", c->name,
		       rv_level_name((rv_level)l), c->shape, median[l], c->bytes / median[l],
		       c->ops / median[l], median[RV_LEVEL_REF] / median[l], 100 * least / median[l]);
	}
	fflush(stdout);
}

static void time_case(const bench_case *c, const settings *s, const machine *m, data *d) {
	int64_t calls[RV_LEVEL_COUNT] = {0};
	double times[RV_LEVEL_COUNT][MAX_BATCHES], median[RV_LEVEL_COUNT] = {0};
	for (int l = 0; l < RV_LEVEL_COUNT; l++) {
		/* The reference always runs: it is the denominator. */
		const int wanted = s->level < 0 || l == s->level || l == RV_LEVEL_REF;
		int own = c->form[l] != NULL;
		for (int weaker = 0; weaker < l; weaker++)
			own = own && c->form[weaker] != c->form[l];
		if (wanted && own && rv_level_available((rv_level)l))
			calls[l] = calls_per_batch(rv_kernels_for((rv_level)l), c, d, s->batch_ns);
	}
	for (int i = 0; i < s->batches; i++) {
		for (int l = 0; l < RV_LEVEL_COUNT; l++) {
			if (calls[l])
				times[l][i] = time_batch(rv_kernels_for((rv_level)l), c, d, calls[l]);
		}
	}
	for (int l = 0; l < RV_LEVEL_COUNT; l++) {
		if (!calls[l])
			continue;
		qsort(times[l], (size_t)s->batches, sizeof times[l][0], ascending);
		median[l] = times[l][s->batches / 2];
	}
	print_case(c, m, median);
}

int asked(const bench_case *c, const settings *s) {
	char both[sizeof c->name + sizeof c->shape];
	snprintf(both, sizeof both, "%s %s", c->name, c->shape);
	return !s->only || strstr(both, s->only) || !fnmatch(s->only, both, 0) ||
	       !fnmatch(s->only, c->name, 0);
}

/* ---- the list ---- */

void do_case(session *s, const bench_case *c) {
	if (!asked(c, &s->set))
		return;
	/* Kernels that work in place would drift to infinity or zero: every case starts afresh. */
	uint64_t state = 7;
	for (int i = 0; i < COUNT(s->d.f); i++) {
		for (int64_t j = 0; j < N_FLOATS; j++)
			s->d.f[i][j] = uniform(&state);
	}
	time_case(c, &s->set, &s->m, &s->d);
}

void use_weights(session *s, const bench_case *c, const rv_type_info *t) {
	if (asked(c, &s->set) && s->filled != (int)t->type) {
		fill_weights(&s->d, t);
		s->filled = (int)t->type;
	}
}

static void matmul_case(session *s, const rv_type_info *t, int64_t rows, int64_t k, int64_t tokens) {
	bench_case c = {.run = run_matmul, .a = rows, .b = k, .c = tokens, .type = (int)t->type};
	const double weights = (double)rv_type_row_bytes(t, k) * (double)rows;
	const size_t act = rv_act_row_bytes(t->act, k);
	snprintf(c.name, sizeof c.name, "matmul_%s", t->name);
	snprintf(c.shape, sizeof c.shape, "%dx%d t=%d", (int)rows, (int)k, (int)tokens);
	c.bytes = weights + (double)act * (double)tokens;
	c.footprint = WEIGHT_BYTES;
	c.ops = 2.0 * (double)rows * (double)k * (double)tokens;
	c.is_int8 = t->act != RV_ACT_F32;
	EACH_LEVEL_FORM(&c, type[t->type].matmul[RV_LAYOUT_GGML])
	use_weights(s, &c, t);
	if (asked(&c, &s->set)) {
		uint64_t state = 3;
		for (int64_t i = 0; i < k; i++)
			s->d.f[1][i] = uniform(&state);
		for (int64_t i = 0; i < tokens; i++)
			rv_kernels_ref.quantize_act[t->act](s->d.act + (size_t)i * act, s->d.f[1], k);
	}
	do_case(s, &c);
}

static void type_kernels(session *s, const rv_type_info *t) {
	matmul_case(s, t, 1024, 2048, 1);
	matmul_case(s, t, 256, 11008, 1);
	matmul_case(s, t, 256, 2048, 4);
	matmul_case(s, t, 48, 2048, PREFILL_TOKENS);
	bench_case c = {.run = run_matmul_float, .a = 16, .b = 2048, .c = 1, .type = (int)t->type};
	snprintf(c.name, sizeof c.name, "matmul_float_%s", t->name);
	snprintf(c.shape, sizeof c.shape, "16x2048 t=1");
	c.bytes = 16 * (double)rv_type_row_bytes(t, 2048) + 4 * 2048;
	c.ops = 2 * 16 * 2048;
	EACH_LEVEL_FORM(&c, type[t->type].matmul_float)
	use_weights(s, &c, t);
	do_case(s, &c);

	c = (bench_case){.run = run_dequantize, .a = 4096, .type = (int)t->type};
	snprintf(c.name, sizeof c.name, "dequantize_%s", t->name);
	snprintf(c.shape, sizeof c.shape, "n=4096");
	c.bytes = (double)rv_type_row_bytes(t, c.a) + 4.0 * (double)c.a;
	c.ops = 2.0 * (double)c.a;
	EACH_LEVEL_FORM(&c, type[t->type].dequantize)
	use_weights(s, &c, t);
	do_case(s, &c);

	if (rv_kernels_ref.type[t->type].quantize) {
		c.run = run_quantize;
		snprintf(c.name, sizeof c.name, "quantize_%s", t->name);
		EACH_LEVEL_FORM(&c, type[t->type].quantize)
		do_case(s, &c);
	}
}

static void act_kernels(session *s) {
	static const char *const names[RV_ACT_COUNT] = {"f32", "q8", "q8k"};
	for (int a = 0; a < RV_ACT_COUNT; a++) {
		bench_case c = {.run = run_quantize_act, .a = 2048, .type = a, .shape = "n=2048"};
		snprintf(c.name, sizeof c.name, "quantize_act_%s", names[a]);
		c.bytes = 4.0 * (double)c.a + (double)rv_act_row_bytes((rv_act)a, c.a);
		c.ops = 3.0 * (double)c.a;
		EACH_LEVEL_FORM(&c, quantize_act[a])
		do_case(s, &c);
	}
}

static void kv_kernels(session *s) {
	for (int t = 0; t < RV_KV_COUNT; t++) {
		const char *name = rv_kv_type_name((rv_kv_type)t);
		const double row = (double)rv_kv_row_bytes((rv_kv_type)t, 128);
		bench_case c = {.run = run_kv_store, .a = 1, .b = 128, .type = t, .shape = "hd=128"};
		snprintf(c.name, sizeof c.name, "kv_store_%s", name);
		c.bytes = row + 4 * 128;
		EACH_LEVEL_FORM(&c, kv[t].store)
		do_case(s, &c);
		c.a = RV_ATTN_BLOCK;
		c.bytes *= (double)c.a;
		snprintf(c.shape, sizeof c.shape, "64 x hd=128");
		c.run = run_kv_load_keys;
		snprintf(c.name, sizeof c.name, "kv_load_keys_%s", name);
		EACH_LEVEL_FORM(&c, kv[t].load_keys)
		do_case(s, &c);
		c.run = run_kv_load_values;
		snprintf(c.name, sizeof c.name, "kv_load_values_%s", name);
		EACH_LEVEL_FORM(&c, kv[t].load_values)
		do_case(s, &c);
	}
}

/* ---- program ---- */

static int parse(settings *s, int argc, char **argv) {
	static const struct option options[] = {{"only", required_argument, NULL, 'o'},
	                                        {"level", required_argument, NULL, 'l'},
	                                        {"quick", no_argument, NULL, 'q'},
	                                        {NULL, 0, NULL, 0}};
	*s = (settings){.level = -1, .batches = MAX_BATCHES, .batch_ns = 8000000};
	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (o == 'o') {
			s->only = optarg;
		} else if (o == 'l') {
			s->level = (int)rv_level_by_name(optarg);
			if (s->level == RV_LEVEL_COUNT || !rv_level_available((rv_level)s->level)) {
				fprintf(stderr, "bench_kernels: --level %s: not available here\n",
				        optarg);
				return -1;
			}
		} else if (o == 'q') {
			s->batches = 5;
			s->batch_ns = 2000000;
		} else {
			return -1;
		}
	}
	return optind == argc ? 0 : -1;
}

static int allocate(data *d) {
	d->weights = aligned_alloc(4096, WEIGHT_BYTES);
	d->act = aligned_alloc(4096, (size_t)PREFILL_TOKENS * 64 * 1024);
	int ok = d->weights && d->act;
	for (int i = 0; i < COUNT(d->f); i++) {
		d->f[i] = aligned_alloc(4096, N_FLOATS * sizeof(float));
		ok = ok && d->f[i];
	}
	for (int i = 0; i < COUNT(d->n_keys); i++)
		d->n_keys[i] = RV_ATTN_BLOCK;
	return ok ? 0 : -1;
}

static void measure_machine(session *s, int cpu) {
	char features[256];
	rv_cpu_features(features, sizeof features);
	memset(s->d.weights, 1, WEIGHT_BYTES);
	printf("# core %d; best level %s; features %s\n# read", cpu, rv_level_name(rv_level_best()),
	       features);
	for (int i = 0; i < COUNT(level_bytes); i++) {
		s->m.bandwidth[i] = read_bandwidth(s->d.weights, level_bytes[i]);
		printf(" %s %.1f", level_names[i], s->m.bandwidth[i]);
	}
	s->m.f32 = peak(RV_PEAK_F32);
	s->m.int8 = peak(RV_PEAK_INT8);
	printf(" GB/s; peak f32 %.1f, int8 %.1f Gop/s\n", s->m.f32, s->m.int8);
	printf("%-20s %-7s %-20s %12s %8s %8s %7s %6s\n", "# kernel", "level", "shape", "ns/call",
	       "GB/s", "Gop/s", "x-ref", "roof");
}

int main(int argc, char **argv) {
	session s = {.filled = -1};
	if (parse(&s.set, argc, argv)) {
		fprintf(stderr, "usage: bench_kernels [--only PATTERN] [--level LEVEL] [--quick]\n");
		return 2;
	}
	if (allocate(&s.d)) {
		fprintf(stderr, "bench_kernels: out of memory\n");
		return 1;
	}
	measure_machine(&s, pin());
	for (int type = 0; type < RV_TYPE_LIMIT; type++) {
		if (rv_type_get(type))
			type_kernels(&s, rv_type_get(type));
	}
	act_kernels(&s);
	kv_kernels(&s);
	plain_kernels(&s);
	free(s.d.weights);
	free(s.d.act);
	for (int i = 0; i < COUNT(s.d.f); i++)
		free(s.d.f[i]);
	return 0;
}
