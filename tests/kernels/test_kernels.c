/* Every kernel of every level that this CPU runs, on random shapes and values, in guarded memory. Needs
 * the kernels and libc only, so that it cross-compiles. Output is TAP. RV_SEED=N repeats a run;
 * RV_GUARD=pads leaves readable space around the arrays, for emulators that read whole vectors under a
 * mask; an argument restricts it to the tests whose names contain it. */
#include "kernels/kv_codes.h"
#include "tests/kernels/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct run {
	checker *c;
	uint64_t seed;
	const char *filter;
	int count, failed;
} run;

typedef struct subject {
	const char *group, *name;
	check_fn *fn;
	int arg;
} subject;

/* One line a kernel, from the registry's own tables. */
static const subject subjects[] = {{"table", "every slot", check_full_table, 0},
                                   {"decode", "blocks worked out by hand", check_known_blocks, 0},
#define RV_KERNEL(name, ...) {"kernel", #name, check_##name, 0},
#include "kernels/kernels.def"
#undef RV_KERNEL
#define RV_TYPE(name, ...)                                                                             \
	{"dequantize", #name, check_dequantize, RV_##name},                                            \
	        {"quantize", #name, check_quantize, RV_##name},                                        \
	        {"stored bits", #name, check_stored_bits, RV_##name},                                  \
	        {"matmul", #name, check_matmul, RV_##name},                                            \
	        {"matmul_float", #name, check_matmul_float, RV_##name},
#include "kernels/types.def"
#undef RV_TYPE
                                   {"peak", "f32", check_peak, RV_PEAK_F32},
                                   {"peak", "int8", check_peak, RV_PEAK_INT8},
                                   {"quantize_act", "F32", check_quantize_act, RV_ACT_F32},
                                   {"quantize_act", "Q8", check_quantize_act, RV_ACT_Q8},
                                   {"quantize_act", "Q8K", check_quantize_act, RV_ACT_Q8K},
#define X(NAME, lower) {"kv", #lower, check_kv, RV_KV_##NAME},
                                   RV_EACH_KV(X)
#undef X
#define X(NAME, text, how, bits) {"kv codes", text, check_kv_codes, RV_KV_##NAME},
                                           RV_EACH_KV_CODE(X)
#undef X
};
enum { N_SUBJECTS = sizeof subjects / sizeof *subjects };

static int wanted(const run *r, const char *name) {
	return !r->filter || strstr(name, r->filter);
}

static void report(run *r, int ok, const char *name, const char *why) {
	r->count++;
	r->failed += !ok;
	printf("%sok %d - %s\n", ok ? "" : "not ", r->count, name);
	if (!ok) {
		printf("# %s\n", why);
	}
	fflush(stdout);
}

static void test_table(run *r, const rv_kernels *k) {
	for (int i = 0; i < N_SUBJECTS; i++) {
		const subject *s = &subjects[i];
		char name[128];
		snprintf(name, sizeof name, "%s: %s %s", rv_level_name(k->level), s->group, s->name);
		if (wanted(r, name)) {
			/* a subject's values do not depend on which others run */
			int ok = checker_run(r->c, k, s->fn, s->arg, r->seed + (uint64_t)i) == 0;
			report(r, ok, name, r->c->why);
		}
	}
}

static void test_levels(run *r) {
	for (int i = 0; i < RV_LEVEL_COUNT; i++) {
		const rv_kernels *k = rv_kernels_for((rv_level)i);
		if (k && rv_level_available((rv_level)i)) {
			test_table(r, k);
		} else if (k) {
			printf("ok %d - level %s # SKIP level %s: not on this CPU\n", ++r->count,
			       rv_level_name((rv_level)i), rv_level_name((rv_level)i));
		}
	}
}

static void test_controls(run *r) {
	for (int i = 0; i < n_controls; i++) {
		rv_kernels broken = rv_kernels_ref;
		char name[128], why[320];
		snprintf(name, sizeof name, "negative control: %s", controls[i].name);
		if (!wanted(r, name)) {
			continue;
		}
		if (r->c->margin && controls[i].needs_guard) {
			printf("ok %d - %s # SKIP RV_GUARD=pads\n", ++r->count, name);
			continue;
		}
		controls[i].break_table(&broken);
		int caught = checker_run(r->c, &broken, controls[i].fn, controls[i].arg, r->seed) != 0;
		snprintf(why, sizeof why, "%s: %s", caught ? "caught for another reason" : "not caught",
		         r->c->why);
		report(r, caught && strstr(r->c->why, controls[i].reason), name, why);
	}
}

int main(int argc, char **argv) {
	static checker c;
	const char *given = getenv("RV_SEED"), *guard = getenv("RV_GUARD");
	run r = {.c = &c, .seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL)};
	r.filter = argc > 1 ? argv[1] : NULL;
	char features[512];
	rv_cpu_features(features, sizeof features);
	printf("# seed %llu (RV_SEED), CPU: %s\n", (unsigned long long)r.seed, features);
	if (checker_init(&c, guard && strcmp(guard, "pads") == 0 ? PAD : 0)) {
		printf("Bail out! no memory for the guarded buffers\n");
		return 1;
	}
	if (wanted(&r, "scalar conversions")) {
		int ok = checker_run(&c, &rv_kernels_ref, check_conversions, 0, r.seed) == 0;
		report(&r, ok, "scalar conversions", c.why);
	}
	if (wanted(&r, "descriptions")) {
		int ok = checker_run(&c, &rv_kernels_ref, check_descriptions, 0, r.seed) == 0;
		report(&r, ok, "descriptions", c.why);
	}
	test_levels(&r);
	test_controls(&r);
	checker_deinit(&c);
	printf("1..%d\n", r.count);
	return r.failed != 0;
}
