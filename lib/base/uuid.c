#include "base/uuid.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/random.h>

void rv_uuid_v4(rv_rng *rng, char out[RV_UUID_TEXT]) {
	uint64_t high = rv_rng_u64(rng), low = rv_rng_u64(rng);
	high = (high & ~UINT64_C(0xf000)) | 0x4000;               /* version 4 */
	low = (low & ~(UINT64_C(3) << 62)) | (UINT64_C(2) << 62); /* variant 10 */
	snprintf(out, RV_UUID_TEXT, "%08x-%04x-%04x-%04x-%012llx", (unsigned)(high >> 32),
	         (unsigned)(high >> 16 & 0xffff), (unsigned)(high & 0xffff), (unsigned)(low >> 48),
	         (unsigned long long)(low & UINT64_C(0xffffffffffff)));
}

int rv_uuid_valid(const char *text) {
	for (int i = 0; i < RV_UUID_TEXT - 1; i++) {
		int dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return 0;
	}
	return text[RV_UUID_TEXT - 1] == 0;
}

rv_status rv_uuid_entropy(rv_rng *rng) {
	if (getrandom(rng->s, sizeof rng->s, 0) != (ssize_t)sizeof rng->s)
		return rv_fail_errno(RV_ERR_IO, "reading the system's entropy");
	return RV_OK;
}
