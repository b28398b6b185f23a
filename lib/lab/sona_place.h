/* Where MicroLoRA sits: sets of layers by name, for sweeps. */
#ifndef RV_LAB_SONA_PLACE_H
#define RV_LAB_SONA_PLACE_H

#include "learn/micro_lora.h"

/* The layers of a name on a model of n_layers, ascending, duplicates merged; returns how many, 0 for an
 * unknown name.
 *   base, coder          8 16 24 and 8 16 24 28 of 32, scaled to the depth
 *   early, middle, late  the thirds of the depth
 *   spread1 .. spread8   as many, evenly spread
 *   all                  every one
 *   at0, at1, ..         that one alone; none beyond the depth */
int rv_sona_place(const char *name, int64_t n_layers, int64_t out[RV_MICRO_MAX_LAYERS]);

#endif
