/* Speed of training, held against the matrix products alone: the same products of the same sizes
 * through OpenBLAS on the same threads, a training step and the products in turn. The products are
 * those of the mathematics at the size of a piece (512 tokens, or one sequence): forward, by the input
 * and by the weights for every matrix; for attention, blocks of 128 queries against the keys they may
 * see, two products forward and five back (scores are computed again). */
#include "base/mem.h"
#include "base/options.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "engine/blas.h"
#include "learn/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct bench_options {
	const char *preset;
	int64_t n_seqs, repeats;
} bench_options;

static const rv_option options_table[] = {{"preset", 0, RV_OPT_STRING, offsetof(bench_options, preset),
                                           0, 0, NULL, NULL, "NAME", "shape"},
                                          {"seqs", 0, RV_OPT_INT, offsetof(bench_options, n_seqs), 1,
                                           4096, NULL, NULL, NULL, "sequences of a step"},
                                          {"repeats", 'r', RV_OPT_INT, offsetof(bench_options, repeats),
                                           1, 1000, NULL, NULL, NULL, "steps measured"},
                                          {NULL, 0, RV_OPT_FLAG, 0, 0, 0, NULL, NULL, NULL, NULL}};

/* ---- the products ---- */

typedef struct product {
	int trans_a, trans_b;
	int64_t m, n, k, times;
} product;

#define MAX_PRODUCTS 1024
typedef struct products {
	product list[MAX_PRODUCTS];
	int n;
	double flop;  /* of a piece */
	int64_t most; /* elements of the largest operand */
} products;

static void add(products *p, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, int64_t times) {
	const int64_t sizes[] = {m * n, m * k, k * n};
	if (p->n == MAX_PRODUCTS) {
		fprintf(stderr, "bench_train: too many products\n");
		exit(1);
	}
	p->list[p->n++] = (product){trans_a, trans_b, m, n, k, times};
	p->flop += 2.0 * (double)m * (double)n * (double)k * (double)times;
	for (int i = 0; i < 3; i++)
		p->most = sizes[i] > p->most ? sizes[i] : p->most;
}

static void add_matrix(products *p, int64_t rows, int64_t out, int64_t in, int64_t times) {
	add(p, 0, 1, rows, out, in, times);
	add(p, 0, 0, rows, in, out, times);
	add(p, 1, 0, out, in, rows, times);
}

/* One piece of n_seqs sequences. */
static void list_products(products *p, const rv_arch *arch, const rv_hparams *hp, int64_t n_seqs,
                          int64_t n_ctx) {
	const int64_t rows = n_seqs * n_ctx, group = hp->n_heads / hp->n_kv_heads, d = hp->head_dim;
	for (int i = 0; i < arch->n_tensors; i++) {
		const rv_tensor_def *def = &arch->tensors[i];
		if (def->flags & RV_TENSOR_VECTOR || (def->role == RV_TOKEN_EMBD && !hp->tied) ||
		    (def->role == RV_OUTPUT && hp->tied))
			continue;
		add_matrix(p, rows, rv_dim_size(def->rows, hp), rv_dim_size(def->cols, hp),
		           def->flags & RV_TENSOR_LAYER ? hp->n_layers : 1);
	}
	const int64_t block = 128 / group > 0 ? 128 / group : 1,
	              times = hp->n_layers * n_seqs * hp->n_kv_heads;
	for (int64_t t = 0; t < n_ctx; t += block) {
		int64_t end = t + block < n_ctx ? t + block : n_ctx, m = (end - t) * group;
		add(p, 0, 1, m, end, d, 3 * times); /* scores, again, and by probabilities */
		add(p, 0, 0, m, d, end, 2 * times); /* outputs, by queries */
		add(p, 1, 0, end, d, m, 2 * times); /* by values, by keys */
	}
}

typedef struct product_job {
	const products *p;
	float **buffers; /* three a thread */
} product_job;

static rv_status run_products(void *arg, int64_t begin, int64_t end, int thread) {
	const product_job *j = arg;
	float *a = j->buffers[3 * thread], *b = j->buffers[3 * thread + 1],
	      *c = j->buffers[3 * thread + 2];
	for (int64_t i = begin; i < end; i++)
		for (int x = 0; x < j->p->n; x++) {
			const product *q = &j->p->list[x];
			for (int64_t r = 0; r < q->times; r++)
				rv_blas_sgemm(q->trans_a, q->trans_b, q->m, q->n, q->k, 1, a,
				              q->trans_a ? q->m : q->k, b, q->trans_b ? q->k : q->n, 0,
				              c, q->n);
		}
	return RV_OK;
}

static rv_status make_buffers(product_job *j, int n_threads) {
	rv_rng rng;
	rv_rng_seed(&rng, 1);
	RV_TRY(RV_ALLOC(&j->buffers, 3 * n_threads, "buffers"));
	for (int i = 0; i < 3 * n_threads; i++) {
		RV_TRY(RV_ALLOC(&j->buffers[i], j->p->most, "buffers"));
		for (int64_t x = 0; x < j->p->most; x++)
			j->buffers[i][x] = rv_rng_float(&rng) - 0.5f;
	}
	return RV_OK;
}

/* ---- measuring ---- */

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *v, int64_t n) {
	qsort(v, (size_t)n, sizeof *v, ascending);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Elapsed time, and the processor time of all threads: on a busy machine only the second compares. */
typedef struct stamp {
	double elapsed, cpu;
} stamp;

static stamp now(void) {
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (stamp){(double)rv_now_ns() * 1e-9, (double)t.tv_sec + (double)t.tv_nsec * 1e-9};
}

typedef struct samples {
	double *elapsed, *cpu;
} samples;

static rv_status make_samples(samples *s, int64_t n) {
	RV_TRY(RV_ALLOC(&s->elapsed, n, "samples"));
	return RV_ALLOC(&s->cpu, n, "samples");
}

static void keep(samples *s, int64_t i, stamp from, stamp to) {
	s->elapsed[i] = to.elapsed - from.elapsed;
	s->cpu[i] = to.cpu - from.cpu;
}

static rv_status measure(rv_trainer *t, rv_threads *threads, const bench_options *o) {
	const rv_trainer_options *to = rv_trainer_get_options(t);
	const rv_hparams *hp = rv_trainer_hparams(t);
	const int64_t piece = to->n_ctx < to->piece_tokens ? to->piece_tokens / to->n_ctx : 1,
	              n_tok = o->n_seqs * to->n_ctx;
	static products p;
	product_job job = {.p = &p};
	int32_t *tokens;
	samples steps, gemms;
	rv_rng rng;
	rv_rng_seed(&rng, 2);
	list_products(&p, rv_trainer_arch(t), hp, piece, to->n_ctx);
	RV_TRY(make_buffers(&job, rv_threads_count(threads)));
	RV_TRY(make_samples(&steps, o->repeats));
	RV_TRY(make_samples(&gemms, o->repeats));
	RV_TRY(RV_ALLOC(&tokens, o->n_seqs * (to->n_ctx + 1), "tokens"));
	for (int64_t i = 0; i < o->n_seqs * (to->n_ctx + 1); i++)
		tokens[i] = (int32_t)rv_rng_below(&rng, (uint64_t)hp->n_vocab);
	for (int64_t i = -1; i < o->repeats; i++) { /* the first warms up */
		stamp begin = now();
		RV_TRY(rv_trainer_step(t, tokens, NULL, o->n_seqs, NULL));
		stamp middle = now();
		RV_TRY(rv_threads_for(threads, o->n_seqs / piece, 1, run_products, &job));
		if (i < 0)
			continue;
		keep(&steps, i, begin, middle);
		keep(&gemms, i, middle, now());
	}
	double step = median(steps.elapsed, o->repeats), gemm = median(gemms.elapsed, o->repeats),
	       step_cpu = median(steps.cpu, o->repeats), gemm_cpu = median(gemms.cpu, o->repeats);
	rv_memuse mem;
	rv_memuse_get(&mem);
	printf("%s, %lld sequences of %lld, %d threads, %lld slices%s, %s\n", o->preset,
	       (long long)o->n_seqs, (long long)to->n_ctx, rv_threads_count(threads),
	       (long long)to->n_slices, to->checkpoint_activations ? ", activations recomputed" : "",
	       rv_blas_description());
	printf("training       %8.3f s a step %9.0f tokens/s %8.3f s of processors\n", step,
	       (double)n_tok / step, step_cpu);
	printf("SGEMM alone    %8.3f s        %9.0f tokens/s %8.3f s of processors, %.1f GFLOP/s\n",
	       gemm, (double)n_tok / gemm, gemm_cpu,
	       p.flop * (double)(o->n_seqs / piece) * 1e-9 / gemm);
	printf("share of the bound %5.1f %% of time, %5.1f %% of processor time\n", 100 * gemm / step,
	       100 * gemm_cpu / step_cpu);
	printf("memory         trainer %.0f MB, peak resident %.0f MB\n",
	       (double)rv_trainer_bytes(t) * 1e-6, (double)mem.peak_rss_bytes * 1e-6);
	for (int i = 0; i < 3 * rv_threads_count(threads); i++)
		rv_free(job.buffers[i]);
	rv_free(job.buffers);
	rv_free(steps.elapsed);
	rv_free(steps.cpu);
	rv_free(gemms.elapsed);
	rv_free(gemms.cpu);
	rv_free(tokens);
	return RV_OK;
}

static rv_status run(int argc, char **argv) {
	bench_options o = {.preset = "nano", .n_seqs = 16, .repeats = 5};
	rv_trainer_options to = rv_trainer_defaults();
	const rv_option *tables[] = {options_table, rv_trainer_option_table, NULL};
	void *values[] = {&o, &to};
	const char *words[1];
	int n_words;
	RV_TRY(rv_options_parse(tables, values, argc, argv, words, 0, &n_words));
	const rv_preset *preset = rv_preset_by_name(o.preset);
	if (!preset)
		return rv_fail(RV_ERR_INVALID, "preset '%s' is none of %s", o.preset,
		               rv_preset_names());
	rv_trainer *t;
	rv_threads *threads;
	RV_TRY(rv_trainer_create(&t, rv_arch_by_name(preset->arch, strlen(preset->arch)), &preset->hp,
	                         NULL, &to));
	rv_threads_options tho = {.n_threads = (int)to.n_threads, .pin = to.pin};
	RV_TRY(rv_threads_create(&threads, &tho));
	rv_status st = measure(t, threads, &o);
	rv_threads_destroy(threads);
	rv_trainer_destroy(t);
	return st;
}

int main(int argc, char **argv) {
	if (run(argc, argv) == RV_OK)
		return 0;
	fprintf(stderr, "bench_train: %s\n", rv_error_message());
	return 1;
}
