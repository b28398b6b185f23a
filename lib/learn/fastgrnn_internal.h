/* Internal to lib/learn: what fastgrnn*.c share. */
#ifndef RV_LEARN_FASTGRNN_INTERNAL_H
#define RV_LEARN_FASTGRNN_INTERNAL_H

#include "learn/fastgrnn.h"
#include "learn/fastgrnn_cell.h"

#include <stdatomic.h>

/* A segment: 16 numbers and which one it is. */
enum {
	RV_GRNN_SEGMENT = 16,
	RV_GRNN_SEGMENTS = RV_FASTGRNN_QUERY / RV_GRNN_SEGMENT + 2,
	RV_GRNN_IN = RV_GRNN_SEGMENT + RV_GRNN_SEGMENTS
};

/* The heads' places in the output. */
enum {
	RV_GRNN_SLOT,
	RV_GRNN_BUCKET = RV_GRNN_SLOT + RV_FASTGRNN_SLOTS,
	RV_GRNN_KV = RV_GRNN_BUCKET + RV_FASTGRNN_BUCKETS,
	RV_GRNN_TAIL = RV_GRNN_KV + RV_FASTGRNN_KV_TYPES,
	RV_GRNN_LORA = RV_GRNN_TAIL + RV_FASTGRNN_TAILS, /* a logit */
	RV_GRNN_TEMPERATURE,                             /* sigmoid: temperature / 2 */
	RV_GRNN_TOP_P,                                   /* sigmoid */
	RV_GRNN_OUT
};

struct rv_fastgrnn {
	rv_fastgrnn_options options;
	rv_grnn_shape shape;
	rv_grnn_layout layout;
	float *params; /* [layout.count] */
	atomic_int refs;
	rv_adapter_memory memory; /* that params lie in; give_back NULL: allocated */
	float calibration;        /* temperature of the slots' logits */
};

/* x: [RV_GRNN_SEGMENTS, RV_GRNN_IN]; 0 when a number is not finite. */
int rv_grnn_segments(const rv_fastgrnn_input *input, float *x);
/* y: [RV_GRNN_OUT] */
void rv_grnn_read(const rv_fastgrnn *g, const float *y, rv_fastgrnn_decision *out);
rv_status rv_grnn_allocate(rv_fastgrnn **out, const rv_fastgrnn_options *options);

#endif
