/* A loop of independent multiply-adds (rv_peak in kernels.h). Included once a loop, after these macros:
 *
 *   PEAK_NAME      of the rv_peak it defines
 *   PEAK_VEC       type of an accumulator
 *   PEAK_CHAINS    accumulators: at least latency times issue width, and all of them in registers
 *   PEAK_OPS       operations of one PEAK_STEP
 *   PEAK_OPERANDS  declares what is multiplied
 *   PEAK_FIRST(j)  what chain j starts from; chains found equal would be computed once
 *   PEAK_STEP(a)   a += one more product, and nothing else: no load, no move
 *   PEAK_SUM(a)    sum of the lanes
 *
 * and UNROLL. The macros are undefined again. */
#define PEAK_RUN_OF(name) name##_run
#define PEAK_RUN(name) PEAK_RUN_OF(name)

static double PEAK_RUN(PEAK_NAME)(int64_t steps) {
	PEAK_OPERANDS
	PEAK_VEC acc[PEAK_CHAINS];
	UNROLL
	for (int j = 0; j < PEAK_CHAINS; j++)
		acc[j] = PEAK_FIRST(j);
	for (int64_t i = 0; i < steps; i++) {
		UNROLL
		for (int j = 0; j < PEAK_CHAINS; j++) {
			PEAK_STEP(acc[j]);
		}
	}
	double sum = 0;
	UNROLL
	for (int j = 0; j < PEAK_CHAINS; j++)
		sum += PEAK_SUM(acc[j]);
	return sum;
}

const rv_peak PEAK_NAME = {PEAK_RUN(PEAK_NAME), PEAK_CHAINS *PEAK_OPS};

#undef PEAK_RUN_OF
#undef PEAK_RUN
#undef PEAK_NAME
#undef PEAK_VEC
#undef PEAK_CHAINS
#undef PEAK_OPS
#undef PEAK_OPERANDS
#undef PEAK_FIRST
#undef PEAK_STEP
#undef PEAK_SUM
