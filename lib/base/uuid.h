/* UUIDs of version 4 (RFC 9562): 122 random bits as 36 lower-case characters. */
#ifndef RV_BASE_UUID_H
#define RV_BASE_UUID_H

#include "base/rng.h"
#include "base/status.h"

#define RV_UUID_TEXT 37 /* with the NUL */

void rv_uuid_v4(rv_rng *rng, char out[RV_UUID_TEXT]);

/* 8-4-4-4-12 hexadecimal digits, any version and case? */
int rv_uuid_valid(const char *text);

/* A generator whose whole state comes from the system's entropy: ids that no other process makes. */
rv_status rv_uuid_entropy(rv_rng *rng);

#endif
