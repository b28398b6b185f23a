/* Fuzz target: any bytes as an archive file of the witness log. */
#include "memory/witness_archive.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	rv_witness_archive_report report;
	if (rv_witness_archive_verify_memory(data, size, "fuzz", &report) != RV_OK &&
	    *rv_error_message() == '\0')
		abort();
	return 0;
}
