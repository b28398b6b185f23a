/* Who is measured: the run's model in one type, as itself or as one of its variants. */
#ifndef RV_LAB_SUBJECT_H
#define RV_LAB_SUBJECT_H

#include "lab/experiment.h"
#include "model/adapter.h"
#include "model/model.h"

typedef struct rv_subject {
	rv_model *model;
	rv_adapter *adapter; /* NULL: none */
} rv_subject;

/* Values of a parameter `variant`. */
typedef enum rv_variant {
	RV_VARIANT_BASE,
	RV_VARIANT_CODER,
	RV_VARIANT_AGENT,
	RV_VARIANT_COUNT
} rv_variant;
extern const rv_param_value rv_variants[RV_VARIANT_COUNT];

/* Why the run's model has no such variant (constant text), or NULL: adapters ship for the nano that
 * ships. */
const char *rv_variant_na(const rv_run_config *config, rv_variant variant);
/* Adds which adapters there are to in->settings; `in` knows its model already. */
void rv_variant_note_all(const rv_run_config *config, rv_inputs *in);

/* The run's model quantized to `target`, with the variant's adapter. On failure there is nothing to
 * close. */
rv_status rv_subject_open(rv_subject *out, const rv_run_config *config, rv_variant variant,
                          const char *target);
void rv_subject_close(rv_subject *s); /* accepts a zeroed one; zeroes it */

#endif
