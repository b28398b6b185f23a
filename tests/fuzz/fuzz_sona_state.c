/* Fuzz target: any bytes as the manifest of what was learnt (state.json). It is either read or refused
 * with a message; the files that it names are not there. */
#include "base/mem.h"
#include "learn/sona_state.h"
#include "tests/fuzz/small_model.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static rv_sona *object(void) {
	static rv_sona *s;
	if (s)
		return s;
	rv_sona_options o = rv_sona_defaults(RV_BANK_VARIANT_BASE);
	o.seeded = 1;
	o.tuning.n_ctx = o.deep.tuning.n_ctx = 16;
	check(rv_sona_open(&s, small_model(2, 320, 64, 1), NULL, &o) == RV_OK);
	check(rv_strdup(&s->dir, "/nowhere") == RV_OK);
	memset(s->model_sha256, 'a', sizeof s->model_sha256 - 1);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	rv_status st = rv_sona_state_read(object(), (const char *)data, size, "fuzz");
	check(st == RV_OK || *rv_error_message() != 0);
	return 0;
}
