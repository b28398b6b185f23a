/* Models that experiments make for themselves, kept under <root>/build/cache by content: a file is made
 * once and shared by every experiment until its source, its target or the code that makes it changes.
 */
#ifndef RV_LAB_MODELS_H
#define RV_LAB_MODELS_H

#include "base/threads.h"
#include "engine/context.h"
#include "lab/experiment.h"
#include "model/model.h"
#include "model/quantize.h"

#include <stddef.h>

/* Seeded random weights of a preset in one target; `path` receives the file's name. */
rv_status rv_lab_synth(const rv_run_config *config, const char *preset, const char *target,
                       uint64_t seed, char *path, size_t path_size);

/* `source` (with the given SHA-256) quantized to `target`. */
rv_status rv_lab_quantized(const rv_run_config *config, const char *source, const char *sha256,
                           const rv_quant_target *target, char *path, size_t path_size);

/* The model a run is about: the one given with -m, else `preset`: the trained one that ships
 * (datasets/models), or F16 under the run's seed. Opens it (one reference, the caller's) and fills the
 * path, checksum and label of `in`. */
rv_status rv_lab_open_model(const rv_run_config *config, const char *preset, rv_model **out,
                            rv_inputs *in);

/* A context on the run's threads (unless the options name others), so that contexts which take turns do
 * not stand in each other's way; it hears of the run's cancellation. */
rv_status rv_lab_context(const rv_run_config *config, rv_model *model,
                         const rv_context_options *options, rv_context **out);

/* 1 when a file <name>.gguf ships in datasets/models; `path` receives its name. */
int rv_lab_shipped(const rv_run_config *config, const char *name, char *path, size_t size);

/* 1 when the file's weights are random (made by synth): its quality means nothing. */
int rv_lab_is_synth(const rv_gguf *gguf);

#endif
