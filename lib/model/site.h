/* Sites: where in a layer learning hooks on (SPEC 3). A site is a set of projections, by role. */
#ifndef RV_MODEL_SITE_H
#define RV_MODEL_SITE_H

#include "base/status.h"
#include "model/arch.h"

#include <stdint.h>

typedef enum rv_site {
	RV_SITE_ATTN_OUT,  /* attn_out: the attention's output projection */
	RV_SITE_FFN_OUT,   /* ffn_out: the feed-forward's down projection */
	RV_SITE_PROJ_QV,   /* proj:qv */
	RV_SITE_PROJ_QKVO, /* proj:qkvo */
	RV_SITE_PROJ_ALL,  /* proj:all: q, k, v, o, gate, up, down */
	RV_SITE_COUNT
} rv_site;

/* A role as a bit of a set of roles. */
#define RV_ROLE_BIT(role) ((uint32_t)1 << (role))

/* The projections that end in the residual stream, whose output is added to the state. */
#define RV_ROLES_RESIDUAL (RV_ROLE_BIT(RV_ATTN_OUT) | RV_ROLE_BIT(RV_FFN_DOWN))
/* All projections of a layer. */
#define RV_ROLES_LAYER                                                                                 \
	(RV_ROLE_BIT(RV_ATTN_Q) | RV_ROLE_BIT(RV_ATTN_K) | RV_ROLE_BIT(RV_ATTN_V) |                    \
	 RV_ROLE_BIT(RV_FFN_GATE) | RV_ROLE_BIT(RV_FFN_UP) | RV_ROLES_RESIDUAL)

const char *rv_site_name(rv_site site); /* "attn_out" */
/* RV_ERR_INVALID names the sites there are. */
rv_status rv_site_by_name(rv_site *out, const char *name);
/* Its roles, as bits. */
uint32_t rv_site_roles(rv_site site);

#endif
