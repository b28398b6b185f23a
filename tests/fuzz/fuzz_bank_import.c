/* Fuzz target: any bytes as patterns of another machine. What is refused leaves the bank as it was;
 * what is taken is written out and read back as the same. */
#include "base/json.h"
#include "base/mem.h"
#include "memory/trajectory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Text of a trajectory that was read is text that reads as the same trajectory. */
static void check_round_trip(const rv_trajectory *t) {
	char *once = NULL, *twice = NULL;
	size_t n_once, n_twice;
	json_t *obj = NULL;
	rv_trajectory again = {0};
	if (rv_trajectory_to_json(t, &once, &n_once) != RV_OK)
		return; /* out of memory */
	if (rv_json_parse(once, n_once, "again", &obj) != RV_OK ||
	    rv_trajectory_from_json(obj, "again", &again) != RV_OK ||
	    rv_trajectory_to_json(&again, &twice, &n_twice) != RV_OK || n_once != n_twice ||
	    memcmp(once, twice, n_once) != 0)
		abort();
	json_decref(obj);
	rv_trajectory_deinit(&again);
	rv_free(once);
	rv_free(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	const char *at = (const char *)data, *end = at + size;
	while (at < end) {
		const char *feed = memchr(at, '\n', (size_t)(end - at));
		const char *stop = feed ? feed : end;
		json_t *obj = NULL;
		rv_trajectory t;
		float embedding[RV_EMBEDDING_DIM];
		if (rv_json_parse(at, (size_t)(stop - at), "input", &obj) == RV_OK &&
		    rv_trajectory_from_json(obj, "input", &t) == RV_OK) {
			if (rv_trajectory_check(&t, "input") != RV_OK)
				abort();
			rv_trajectory_embedding(&t, "input", embedding);
			check_round_trip(&t);
			rv_trajectory_deinit(&t);
		}
		json_decref(obj);
		at = feed ? feed + 1 : end;
	}
	return 0;
}
