/* The parts of an elastic memory. Internal to lib/learn. */
#ifndef RV_LEARN_EWC_INTERNAL_H
#define RV_LEARN_EWC_INTERNAL_H

#include "learn/ewc.h"

typedef struct rv_ewc_row {
	char name[80];
	int64_t rows, cols;
	int64_t offset; /* of the first element in the arrays; a multiple of 16 */
} rv_ewc_row;

struct rv_ewc {
	rv_ewc_row *tensors;
	int64_t n_tensors, n_elements;
	float *anchor, *fisher; /* [n_elements], gaps 0 */
	double decay;
	int64_t n_observations;
};

/* NULL when it has none of this name and shape. */
const rv_ewc_row *rv_ewc_find(const rv_ewc *ewc, const char *name, int64_t rows, int64_t cols);

#endif
