#include "model/site.h"

#include <string.h>

#define QV (RV_ROLE_BIT(RV_ATTN_Q) | RV_ROLE_BIT(RV_ATTN_V))

static const struct {
	const char *name;
	uint32_t roles;
} sites[RV_SITE_COUNT] = {
        [RV_SITE_ATTN_OUT] = {"attn_out", RV_ROLE_BIT(RV_ATTN_OUT)},
        [RV_SITE_FFN_OUT] = {"ffn_out", RV_ROLE_BIT(RV_FFN_DOWN)},
        [RV_SITE_PROJ_QV] = {"proj:qv", QV},
        [RV_SITE_PROJ_QKVO] = {"proj:qkvo", QV | RV_ROLE_BIT(RV_ATTN_K) | RV_ROLE_BIT(RV_ATTN_OUT)},
        [RV_SITE_PROJ_ALL] = {"proj:all", RV_ROLES_LAYER},
};

const char *rv_site_name(rv_site site) {
	return sites[site].name;
}

rv_status rv_site_by_name(rv_site *out, const char *name) {
	for (int i = 0; i < RV_SITE_COUNT; i++)
		if (strcmp(sites[i].name, name) == 0) {
			*out = (rv_site)i;
			return RV_OK;
		}
	return rv_fail(RV_ERR_INVALID, "site '%s': attn_out, ffn_out, proj:qv, proj:qkvo or proj:all",
	               name);
}

uint32_t rv_site_roles(rv_site site) {
	return sites[site].roles;
}
