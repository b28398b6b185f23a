/* A model file of a given shape with seeded random weights, for speed and memory at true shapes.
 *
 * Weights are written directly in their quantized form: codes and scales are drawn so that decoded rows
 * are distributed like those of a quantized Gaussian row; norms are 1, biases small. Logits come out
 * finite with a standard deviation of 0.5 to 5. A vocabulary of the preset's size is included
 * (byte-level BPE: 256 bytes and unused fillers), so that every command runs on the file.
 */
#ifndef RV_MODEL_SYNTH_H
#define RV_MODEL_SYNTH_H

#include "base/threads.h"
#include "model/arch.h"
#include "model/quantize.h"

typedef struct rv_synth_options {
	const rv_arch *arch;
	rv_hparams hp;
	const rv_quant_target *target; /* NULL: F16 */
	uint64_t seed;
	rv_threads *threads; /* NULL: this thread alone; the file does not depend on it */
	const rv_log *log;
} rv_synth_options;

rv_status rv_synth_file(const char *out, const rv_synth_options *options);

#endif
