#include "model/quant_rules.h"

#include <fnmatch.h>
#include <string.h>
#include <strings.h>

/* ---- conditions ---- */

int rv_quant_more_bits(int64_t layer, int64_t n_layers) {
	int64_t first = n_layers / 8;
	return layer < first || layer >= 7 * n_layers / 8 || (layer - first) % 3 == 2;
}

/* llama.cpp counts attn_v tensors as it meets them; with one a layer that is the layer. */
static int more_bits(const rv_quant_site *s) {
	return rv_quant_more_bits(s->layer, s->hp->n_layers);
}

/* What llama.cpp takes for a 70B model. Only there are value rows few enough to be worth more bits; a
 * llama without grouped heads is its "65B". */
static int is_70b(const rv_quant_site *s) {
	int grouped = s->hp->n_heads != s->hp->n_kv_heads;
	return s->hp->n_layers == 80 && (grouped || strcmp(s->arch->name, "llama") != 0);
}

static int misfits_base(const rv_quant_site *s) {
	return s->cols % rv_type_get((int)s->base)->block_elems != 0;
}

/* ---- targets ---- */

#define END                                                                                            \
	{ RV_ROLE_COUNT, NULL, RV_F32 }
/* The head by rule, not by fall-back, is Q8_0 where rows do not fit the base type. */
#define HEAD_RULES                                                                                     \
	{RV_OUTPUT, misfits_base, RV_Q8_0}, {                                                          \
		RV_OUTPUT, NULL, RV_Q6_K                                                               \
	}

static const rv_quant_rule head_rules[] = {HEAD_RULES, END};
static const rv_quant_rule q4_k_m_rules[] = {
        HEAD_RULES,
        {RV_ATTN_V, more_bits, RV_Q6_K},
        {RV_ATTN_V, is_70b, RV_Q5_K},
        {RV_FFN_DOWN, more_bits, RV_Q6_K},
        END,
};
static const rv_quant_rule q5_k_m_rules[] = {
        HEAD_RULES,
        {RV_ATTN_V, more_bits, RV_Q6_K},
        {RV_FFN_DOWN, more_bits, RV_Q6_K},
        END,
};
static const rv_quant_rule mixed_rules[] = {
        {RV_TOKEN_EMBD, NULL, RV_Q6_K},
        {RV_OUTPUT, NULL, RV_Q6_K},
        {RV_ATTN_Q, NULL, RV_F16},
        {RV_ATTN_K, NULL, RV_F16},
        {RV_ATTN_V, NULL, RV_F16},
        {RV_ATTN_OUT, NULL, RV_F16},
        END,
};
static const rv_quant_rule no_rules[] = {END};

static const rv_quant_target targets[] = {
        {"F16", RV_F16, 1, no_rules},          {"Q8_0", RV_Q8_0, 7, no_rules},
        {"Q4_0", RV_Q4_0, 2, head_rules},      {"Q5_0", RV_Q5_0, 8, head_rules},
        {"Q5_1", RV_Q5_1, 9, head_rules},      {"Q4_K_M", RV_Q4_K, 15, q4_k_m_rules},
        {"Q5_K_M", RV_Q5_K, 17, q5_k_m_rules}, {"Q6_K", RV_Q6_K, 18, head_rules},
        {"Mixed", RV_Q4_K, -1, mixed_rules},
};
/* Other names of targets; those llama-quantize knows mean the same there. */
static const struct { const char *alias, *name; } aliases[] = {{"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const rv_quant_target *rv_quant_target_by_name(const char *name) {
	if (!name)
		return NULL;
	for (size_t i = 0; i < COUNT(aliases); i++)
		if (strcasecmp(name, aliases[i].alias) == 0)
			name = aliases[i].name;
	for (size_t i = 0; i < COUNT(targets); i++)
		if (strcasecmp(name, targets[i].name) == 0)
			return &targets[i];
	return NULL;
}

const char *rv_quant_target_names(void) {
	return "F16, Q8_0, Q4_0, Q5_0, Q5_1, Q4_K_M (Q4_K), Q5_K_M (Q5_K), Q6_K, Mixed";
}

const char *rv_quant_target_name(const rv_quant_target *t) {
	return t->name;
}

/* ---- picking ---- */

/* What stands in for a type whose blocks do not fit; types without a row, and stand-ins that do not fit
 * either, become F16. */
static const struct {
	rv_type wanted, instead;
} fallbacks[] = {{RV_Q4_K, RV_Q5_0}, {RV_Q5_K, RV_Q5_1}, {RV_Q6_K, RV_Q8_0}};

static int fits(rv_type type, int64_t cols) {
	return cols % rv_type_get((int)type)->block_elems == 0;
}

static rv_type fall_back(rv_type wanted, int64_t cols) {
	for (size_t i = 0; i < COUNT(fallbacks); i++)
		if (fallbacks[i].wanted == wanted && fits(fallbacks[i].instead, cols))
			return fallbacks[i].instead;
	return RV_F16;
}

int rv_quant_override_matches(const rv_quant_override *override, const char *name) {
	if (strpbrk(override->pattern, "*?"))
		return fnmatch(override->pattern, name, 0) == 0;
	return strstr(name, override->pattern) != NULL;
}

static rv_type wanted_type(const rv_quant_options *o, const rv_quant_site *site, const char *name) {
	for (int i = 0; i < o->n_overrides; i++)
		if (rv_quant_override_matches(&o->overrides[i], name))
			return o->overrides[i].type;
	for (const rv_quant_rule *r = o->target->rules; !o->pure && r->role != RV_ROLE_COUNT; r++)
		if (r->role == site->role && (!r->when || r->when(site)))
			return r->type;
	return o->target->base;
}

rv_type rv_quant_pick(const rv_quant_options *options, const rv_quant_site *site, const char *name,
                      int *fallback) {
	rv_quant_site ruled = *site;
	ruled.base = options->target->base;
	if (ruled.role == RV_TOKEN_EMBD && ruled.hp->tied)
		ruled.role = RV_OUTPUT;
	rv_type type = wanted_type(options, &ruled, name);
	*fallback = !fits(type, site->cols);
	return *fallback ? fall_back(type, site->cols) : type;
}

rv_status rv_quant_options_check(const rv_quant_options *o) {
	if (!o->target)
		return rv_fail(RV_ERR_INVALID, "quantize: no target type (known: %s)",
		               rv_quant_target_names());
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	for (int i = 0; i < o->n_overrides; i++) {
		const rv_type_info *info = rv_type_get((int)o->overrides[i].type);
		if (!info || !k->type[info->type].quantize)
			return rv_fail(RV_ERR_UNSUPPORTED,
			               "quantize: override '%s': type %s can be read but not written",
			               o->overrides[i].pattern, info ? info->name : "unknown");
	}
	return RV_OK;
}
