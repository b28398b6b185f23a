/* Fuzz target: any bytes as an archive file of the witness log. They are also taken as the one entry of
 * a file whose hashes are right, so that what lies behind the hash is reached. */
#include "memory/witness_archive.h"
#include "memory/witness_internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const void *data, size_t size) {
	rv_witness_archive_report report;
	if (rv_witness_archive_verify_memory(data, size, "fuzz", &report) != RV_OK &&
	    *rv_error_message() == '\0')
		abort();
}

static char *put(char *at, const void *data, size_t size) {
	if (size > 0)
		memcpy(at, data, size);
	return at + size;
}

static void check_entry(const uint8_t *data, size_t size) {
	const uint8_t zero[8 + RV_WITNESS_HASH] = {0};
	const int64_t first = 1;
	uint32_t record = (uint32_t)(sizeof first + size + RV_WITNESS_HASH);
	uint8_t hash[RV_WITNESS_HASH];
	crypto_hash_sha256_state state;
	char *file = malloc(size + 256);
	if (file == NULL)
		return;
	rv_witness_hash_begin(&state, zero);
	rv_witness_hash_put(&state, &first, sizeof first);
	rv_witness_hash_put(&state, data, size);
	crypto_hash_sha256_final(&state, hash);
	char *at = put(file, "RVWARCH1", 8);
	at = put(at, zero, sizeof zero);
	at = put(at, &record, sizeof record);
	at = put(at, &first, sizeof first);
	at = put(at, data, size);
	at = put(at, hash, sizeof hash);
	at = put(at, zero, sizeof record);
	at = put(at, &first, sizeof first);
	at = put(at, hash, sizeof hash);
	check(file, (size_t)(at - file));
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	check(data, size);
	check_entry(data, size);
	return 0;
}
