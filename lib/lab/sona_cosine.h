/* How far the instant loop's gradient points the way the full one does: of requests of T15's stream
 * with their right answers, the local objective's derivative by MicroLoRA's factors beside that of the
 * next-token loss by back-propagation, at the beginning (B = 0, so it is B's that are compared). */
#ifndef RV_LAB_SONA_COSINE_H
#define RV_LAB_SONA_COSINE_H

#include "lab/shift_fit.h"
#include "learn/instant.h"

typedef struct rv_sona_cosine {
	double mean, least, most;
	int64_t n; /* requests; 0: no local gradient there */
} rv_sona_cosine;

/* Of the first n documents of the stream of a seed, or as many as there are. */
rv_status rv_sona_cosine_measure(const rv_run_config *config, rv_model *model,
                                 const rv_shift_stream *stream, const rv_micro_lora_options *micro,
                                 rv_local_reading reading, uint64_t seed, int64_t n,
                                 rv_sona_cosine *out);

#endif
