/* Linked with --wrap=rv_level_available: every level of the build counts as available, since what the
 * CPU lacks is emulated. */
#include "kernels/kernels.h"

int __wrap_rv_level_available(rv_level level);

int __wrap_rv_level_available(rv_level level) {
	return rv_kernels_for(level) != NULL;
}
