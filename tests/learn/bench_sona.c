/* What learning while serving costs: MicroLoRA of one layer, the instant loop of one request, and the
 * hooks in decoding, on and off in turns. Medians of many repetitions. */
#include "base/mem.h"
#include "base/options.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "engine/context.h"
#include "learn/instant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench_options {
	const char *model;
	int64_t repeats, rounds, n_tokens, rank, threads;
} bench_options;

#define AT(field) offsetof(bench_options, field)
#define COUNT(opt, ch, field, least, most, text)                                                       \
	{                                                                                              \
		.name = opt, .letter = ch, .kind = RV_OPT_INT, .offset = AT(field), .min = least,      \
		.max = most, .help = text                                                              \
	}
static const rv_option options_table[] = {
        {.name = "model",
         .letter = 'm',
         .kind = RV_OPT_STRING,
         .offset = AT(model),
         .value_name = "FILE",
         .help = "model, say synth medium"},
        COUNT("repeats", 'r', repeats, 1, 100000, "of what is short"),
        COUNT("rounds", 0, rounds, 0, 1000, "of decoding, on and off; 0: none"),
        COUNT("tokens", 'n', n_tokens, 1, 128, "of a round"),
        COUNT("rank", 0, rank, 1, RV_MICRO_MAX_RANK, "of MicroLoRA"),
        COUNT("threads", 't', threads, 1, 64, "threads"),
        {0},
};
#undef COUNT
#undef AT

static void must(rv_status status) {
	if (status == RV_OK)
		return;
	fprintf(stderr, "bench_sona: %s\n", rv_error_message());
	exit(1);
}

static int by_value(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double quantile(double *v, int64_t n, double q) {
	qsort(v, (size_t)n, sizeof *v, by_value);
	return v[(int64_t)(q * (double)(n - 1) + 0.5)];
}

static void print_us(const char *what, double *ns, int64_t n) {
	printf("%-44s %9.1f us  (10 %%: %.1f, 90 %%: %.1f; n %lld)\n", what,
	       1e-3 * quantile(ns, n, 0.5), 1e-3 * quantile(ns, n, 0.1), 1e-3 * quantile(ns, n, 0.9),
	       (long long)n);
}

/* ---- MicroLoRA of one layer ---- */

static rv_micro_lora_options micro_options(const rv_model *model, const bench_options *o,
                                           rv_site site) {
	static const int64_t hooks[] = {8, 16, 24, 28};
	rv_micro_lora_options m = rv_micro_lora_defaults();
	m.site = site;
	m.rank = o->rank;
	m.lr = 1e-9; /* one request over and over: its saved states stay what they were */
	m.n_layers = rv_micro_lora_place(hooks, 4, rv_model_hparams(model)->n_layers, m.layers);
	return m;
}

static float *random_floats(int64_t n, double scale) {
	float *x;
	rv_rng rng;
	rv_rng_seed(&rng, 5);
	must(RV_ALLOC(&x, n, "bench"));
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)(scale * rv_rng_normal(&rng));
	return x;
}

static void bench_layer(rv_model *model, const bench_options *o) {
	const rv_micro_lora_options options = micro_options(model, o, RV_SITE_ATTN_OUT);
	rv_micro_lora *m;
	must(rv_micro_lora_create(&m, model, &options));
	const rv_micro_part p = rv_micro_lora_part(m, 0);
	float *x = random_floats(32 * p.n_in, 1), *g = random_floats(32 * p.n_out, 1e-3);
	double *ns = (double *)malloc((size_t)o->repeats * sizeof *ns);
	printf("MicroLoRA, rank %lld, %lld x %lld, one thread\n", (long long)o->rank,
	       (long long)p.n_out, (long long)p.n_in);
	for (int64_t i = 0; i < o->repeats; i++) {
		const int64_t start = rv_now_ns();
		rv_micro_lora_forward(m, 0, x, 1, g);
		ns[i] = (double)(rv_now_ns() - start);
	}
	print_us("  forward, 1 token", ns, o->repeats);
	for (int64_t n = 1; n <= 32; n *= 32) {
		for (int64_t i = 0; i < o->repeats; i++) {
			const int64_t start = rv_now_ns();
			must(rv_micro_lora_update(m, 0, x, p.n_in, g, p.n_out, n, 1e-6));
			ns[i] = (double)(rv_now_ns() - start);
		}
		print_us(n == 1 ? "  update, 1 token" : "  update, 32 tokens", ns, o->repeats);
	}
	free(ns);
	rv_free(x);
	rv_free(g);
	rv_micro_lora_destroy(m);
}

/* ---- serving ---- */

/* One request: a prompt, then greedy tokens. */
typedef struct service {
	rv_model *model;
	rv_context *ctx;
	rv_capture *capture;
	rv_instant *instant;
	rv_adapter_slot *slot;
	int64_t n_tokens;
	int32_t answer[128];
	double *token_ns; /* [n_tokens] of the last request */
	int64_t end_ns;   /* of ending its capture: the last token's gradients among it */
} service;

static int32_t best(const float *logits, int64_t n) {
	int64_t at = 0;
	for (int64_t i = 1; i < n; i++)
		at = logits[i] > logits[at] ? i : at;
	return (int32_t)at;
}

enum { PROMPT = 16 };

/* Returns what was captured; NULL when `on` is 0. */
static rv_captured *serve(service *s, int on, uint64_t seed) {
	const int64_t n_vocab = rv_model_hparams(s->model)->n_vocab;
	rv_row rows[PROMPT];
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	for (int i = 0; i < PROMPT; i++)
		rows[i] = (rv_row){.token = (int32_t)rv_rng_below(&rng, (uint64_t)n_vocab),
		                   .position = i,
		                   .parent = -1,
		                   .flags = i == PROMPT - 1 ? RV_ROW_LOGITS : 0};
	must(rv_seq_truncate(s->ctx, 0, 0));
	if (on)
		must(rv_capture_begin(s->capture, 0, PROMPT - 1));
	must(rv_context_eval(s->ctx, rows, PROMPT));
	int64_t row = PROMPT - 1;
	for (int64_t i = 0; i < s->n_tokens; i++) {
		s->answer[i] = best(rv_context_logits(s->ctx, row), n_vocab);
		row = 0;
		const rv_row next = {.token = s->answer[i],
		                     .position = (int32_t)(PROMPT + i),
		                     .parent = -1,
		                     .flags = RV_ROW_LOGITS};
		const int64_t start = rv_now_ns();
		must(rv_context_eval(s->ctx, &next, 1));
		s->token_ns[i] = (double)(rv_now_ns() - start);
	}
	if (!on)
		return NULL;
	const int64_t start = rv_now_ns();
	rv_captured *seen = rv_capture_end(s->capture, 0, s->answer, s->n_tokens);
	s->end_ns = rv_now_ns() - start;
	return seen;
}

static void attach(service *s, const bench_options *o, rv_site site, int gradients) {
	const rv_micro_lora_options micro = micro_options(s->model, o, site);
	rv_instant_options how = rv_instant_defaults();
	rv_capture_options capture = rv_capture_defaults();
	how.threads = o->threads > 1 ? rv_context_threads(s->ctx) : NULL;
	capture.layers = micro.layers;
	capture.n_layers = micro.n_layers;
	capture.site = site;
	capture.gradients = gradients;
	must(rv_adapter_slot_create(&s->slot, s->model));
	must(rv_instant_create(&s->instant, s->model, &micro, &how, s->slot));
	must(rv_capture_attach(&s->capture, s->ctx, &capture));
	must(rv_context_follow_slot(s->ctx, 0, s->slot, 1));
}

static void detach(service *s) {
	must(rv_context_follow_slot(s->ctx, 0, NULL, 1));
	must(rv_seq_truncate(s->ctx, 0, 0));
	must(rv_context_set_adapters(s->ctx, 0, NULL, 0));
	rv_capture_detach(s->capture);
	rv_instant_destroy(s->instant);
	rv_adapter_slot_destroy(s->slot);
}

/* ---- the instant loop ---- */

static void bench_instant(service *s, const bench_options *o, rv_site site, int gradients) {
	double *total = (double *)malloc(4 * (size_t)o->repeats * sizeof *total);
	int64_t fits = 0;
	attach(s, o, site, gradients);
	rv_captured *seen = serve(s, 1, 1);
	const int64_t all = seen->n_tokens, n = o->repeats < 200 ? o->repeats : 200;
	printf("instant loop at %s, %d layers, rank %lld, %lld candidates a token; %s; learning state "
	       "%.2f MB, captured states %.2f MB a request\n",
	       rv_site_name(site), seen->n_parts, (long long)o->rank, (long long)seen->n_top,
	       gradients == RV_CAPTURE_NOW ? "gradients came with the tokens"
	       : o->threads > 1            ? "gradients by all threads"
	                                   : "gradients by one thread",
	       1e-6 * (double)rv_instant_bytes(s->instant),
	       1e-6 * (double)rv_capture_bytes(s->capture) / 5);
	printf("  ending the capture %46.1f us  (once)\n", 1e-3 * (double)s->end_ns);
	for (int64_t tokens = 1; tokens <= all; tokens = tokens < 8 ? 4 * tokens + 4 : tokens + 8) {
		char what[64];
		double *gradient = total + n, *update = total + 2 * n, *publish = total + 3 * n;
		seen->n_tokens = tokens;
		for (int64_t i = 0; i < n; i++) {
			rv_instant_report r;
			must(rv_instant_learn(s->instant, seen, 1, RV_QUALITY_TASK, &r));
			if (r.outcome != RV_INSTANT_LEARNT) {
				fprintf(stderr, "bench_sona: %s\n", rv_instant_outcome_text(r.outcome));
				exit(1);
			}
			total[i] = (double)r.total_ns;
			gradient[i] = (double)r.gradient_ns;
			update[i] = (double)r.update_ns;
			publish[i] = (double)r.publish_ns;
		}
		snprintf(what, sizeof what, "  %lld tokens", (long long)tokens);
		print_us(what, total, n);
		printf("  %42s gradient %.1f, update %.1f, publish %.1f us\n", "",
		       1e-3 * quantile(gradient, n, 0.5), 1e-3 * quantile(update, n, 0.5),
		       1e-3 * quantile(publish, n, 0.5));
		fits = quantile(total, n, 0.5) < 1e6 ? tokens : fits;
	}
	printf("  tokens of a request that are learnt in 1 ms: %lld%s\n", (long long)fits,
	       fits == all ? " (all)" : "");
	seen->n_tokens = all;
	rv_captured_release(seen);
	detach(s);
	free(total);
}

/* ---- overhead of decoding ---- */

/* What is on beside plain decoding. */
enum { CAPTURE = 1, MICRO = 2, ARMS = 4 };
static const char *const arm_names[ARMS] = {"plain", "hooks and capture", "MicroLoRA", "all of it"};

static void begin_arm(service *s, service *arm, const bench_options *o, rv_site site, int on) {
	rv_context_options how = *rv_context_get_options(s->ctx);
	how.threads = rv_context_threads(s->ctx);
	how.adapters = NULL;
	*arm = (service){.model = s->model, .n_tokens = s->n_tokens, .token_ns = s->token_ns};
	must(rv_context_create(&arm->ctx, s->model, &how));
	if (!on)
		return;
	attach(arm, o, site, RV_CAPTURE_AUTO);
	rv_captured *seen = serve(arm, 1, 1);
	if (on & MICRO)
		must(rv_instant_learn(arm->instant, seen, 1, RV_QUALITY_TASK, NULL));
	rv_captured_release(seen);
	if (!(on & CAPTURE)) {
		rv_capture_detach(arm->capture);
		arm->capture = NULL;
	}
}

static void end_arm(service *arm) {
	if (arm->instant)
		detach(arm);
	rv_context_destroy(arm->ctx);
}

static void shuffle(int *order, rv_rng *rng) {
	for (int i = 0; i < ARMS; i++) {
		const int j = (int)rv_rng_below(rng, (uint64_t)i + 1);
		order[i] = order[j];
		order[j] = i;
	}
}

static int64_t hook_ns_of(const service *arm) {
	rv_capture_stats stats = {0};
	if (arm->capture)
		rv_capture_get_stats(arm->capture, &stats);
	return stats.hook_ns;
}

/* The arms' tokens in turns, in random order: ns [ARMS, rounds * n_tokens]; hooks [rounds * n_tokens]:
 * of that, in the hooks of the first arm that has them. */
static void decode_in_turns(service *arms, const bench_options *o, double *ns, double *hooks) {
	int order[ARMS];
	rv_rng rng;
	rv_rng_seed(&rng, 3);
	const int64_t n = o->rounds * o->n_tokens;
	for (int64_t round = 0; round < o->rounds; round++) {
		for (int a = 0; a < ARMS; a++) {
			arms[a].n_tokens = 1;
			rv_captured_release(serve(&arms[a], 0, (uint64_t)round));
			if (arms[a].capture)
				must(rv_capture_begin(arms[a].capture, 0, PROMPT + 1));
		}
		for (int64_t t = 0; t < o->n_tokens; t++) {
			shuffle(order, &rng);
			for (int turn = 0; turn < ARMS; turn++) {
				const int a = order[turn];
				const rv_row row = {.token = arms[a].answer[0],
				                    .position = (int32_t)(PROMPT + 1 + t),
				                    .parent = -1,
				                    .flags = RV_ROW_LOGITS};
				const int64_t hooked = hook_ns_of(&arms[a]), start = rv_now_ns();
				must(rv_context_eval(arms[a].ctx, &row, 1));
				ns[a * n + round * o->n_tokens + t] = (double)(rv_now_ns() - start);
				if (a == CAPTURE)
					hooks[round * o->n_tokens + t] =
					        (double)(hook_ns_of(&arms[a]) - hooked);
			}
		}
		for (int a = 0; a < ARMS; a++)
			if (arms[a].capture)
				rv_capture_cancel(arms[a].capture, 0);
	}
}

static void bench_overhead(service *s, const bench_options *o, rv_site site) {
	const int64_t n = o->rounds * o->n_tokens;
	service arms[ARMS];
	double *ns = (double *)malloc((2 + ARMS) * (size_t)n * sizeof *ns), *ratio = ns + ARMS * n,
	       *hooks = ratio + n;
	for (int a = 0; a < ARMS; a++)
		begin_arm(s, &arms[a], o, site, a);
	decode_in_turns(arms, o, ns, hooks);
	printf("decoding, hooks at %s of 4 layers, rank %lld, %lld tokens of each in turns\n",
	       rv_site_name(site), (long long)o->rank, (long long)n);
	for (int a = 1; a < ARMS; a++) {
		for (int64_t i = 0; i < n; i++)
			ratio[i] = ns[a * n + i] / ns[i];
		qsort(ratio, (size_t)n, sizeof *ratio, by_value);
		/* distribution-free interval of a median: ranks n / 2 -+ 0.98 sqrt(n) */
		const double half = 0.98 * sqrt((double)n);
		const int64_t low = (int64_t)fmax(0, 0.5 * (double)n - half),
		              high = (int64_t)fmin((double)n - 1, 0.5 * (double)n + half);
		printf("  %-20s %+6.2f %% [%+.2f, %+.2f] (median of ratios, 95 %% interval)\n",
		       arm_names[a], 100 * (ratio[n / 2] - 1), 100 * (ratio[low] - 1),
		       100 * (ratio[high] - 1));
	}
	const double hook_ns = quantile(hooks, n, 0.5), plain_ns = quantile(ns, n, 0.5);
	printf("  in the hooks themselves %.1f us a token: %.2f %%\n", 1e-3 * hook_ns,
	       100 * hook_ns / plain_ns);
	for (int a = 0; a < ARMS; a++)
		printf("  %-20s %9.1f us a token\n", arm_names[a], 1e-3 * quantile(ns + a * n, n, 0.5));
	free(ns);
	for (int a = 0; a < ARMS; a++)
		end_arm(&arms[a]);
}

int main(int argc, char **argv) {
	bench_options o = {.repeats = 1000,
	                   .rounds = 11,
	                   .n_tokens = 32,
	                   .rank = 2,
	                   .threads = rv_threads_default_count()};
	const rv_option *tables[] = {options_table, NULL};
	void *values[] = {&o};
	if (rv_options_parse(tables, values, argc, argv, NULL, 0, NULL) != RV_OK || !o.model) {
		fprintf(stderr, "bench_sona: %s\n", o.model ? rv_error_message() : "-m FILE is needed");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	service s = {.n_tokens = o.n_tokens};
	rv_context_options how = rv_context_defaults();
	how.n_ctx = 256;
	how.n_threads = (int)o.threads;
	must(rv_model_open(&s.model, o.model, NULL));
	must(rv_context_create(&s.ctx, s.model, &how));
	must(RV_ALLOC(&s.token_ns, o.n_tokens, "bench"));
	bench_layer(s.model, &o);
	for (int site = RV_SITE_ATTN_OUT; site <= RV_SITE_FFN_OUT; site++)
		for (int gradients = RV_CAPTURE_LATER; gradients <= RV_CAPTURE_NOW; gradients++)
			bench_instant(&s, &o, (rv_site)site, gradients);
	for (int site = RV_SITE_ATTN_OUT; site <= RV_SITE_FFN_OUT && o.rounds > 0; site++)
		bench_overhead(&s, &o, (rv_site)site);
	rv_free(s.token_ns);
	rv_context_destroy(s.ctx);
	rv_model_release(s.model);
	return 0;
}
