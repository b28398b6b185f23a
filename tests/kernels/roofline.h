/* What the core under the caller can do at most, measured: the yardstick of the kernel benchmark. */
#ifndef RV_TESTS_ROOFLINE_H
#define RV_TESTS_ROOFLINE_H

#include "kernels/kernels.h"

#include <stddef.h>
#include <stdint.h>

/* CPU time of the calling thread in nanoseconds: what other programs take of the core does not count.
 */
int64_t thread_ns(void);

/* Bytes per nanosecond (GB/s) of repeated sequential reads of a buffer of that size; buffer: 64-byte
 * aligned, a multiple of 4096. */
double read_bandwidth(const void *buffer, size_t bytes);

/* Operations per nanosecond (multiply and add count as two): the best of the levels the CPU has. */
double peak(rv_peak_kind kind);

#endif
