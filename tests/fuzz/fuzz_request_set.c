/* Fuzz target: any bytes as a table of requests and as corpus text; what is read is altered too. */
#include "learn/request_set.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void alter_some(const rv_request_set *set) {
	static const rv_request_noise noise = {
	        .drop = 0.3, .exchange = 0.5, .lower = 0.5, .split = 0.5};
	char out[64];
	rv_rng rng;
	int exchanged;
	rv_rng_seed(&rng, 1);
	for (int64_t i = 0; i < set->n && i < 50; i++)
		if (rv_request_alter(set, i, &noise, &rng, out, sizeof out, &exchanged) != strlen(out))
			abort();
}

static void read_as(const uint8_t *data, size_t size, const char *name, int topics) {
	rv_request_set set = {0};
	rv_status st = rv_request_set_parse(&set, (const char *)data, size, name, topics);
	if (st == RV_OK)
		st = rv_request_set_finish(&set);
	if (st == RV_OK)
		alter_some(&set);
	else if (*rv_error_message() == '\0')
		abort();
	rv_request_set_free(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	read_as(data, size, "fuzz.tsv", 1);
	read_as(data, size, "fuzz.txt", 0);
	return 0;
}
