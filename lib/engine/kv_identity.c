#include "engine/kv_identity.h"

#include "base/file.h"
#include "base/text.h"
#include "engine/context_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const attentions[RV_ATTN_COUNT] = {"flash", "standard", "standard-causal"};

/* How positions turn keys and queries. */
static void rope_text(const rv_rope_scaling *r, const rv_hparams *hp, char *text, size_t size) {
	char number[5][32];
	const double values[] = {hp->rope_theta, r->factor, r->beta_fast, r->beta_slow, r->attn_factor};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		rv_text_double(number[i], values[i]);
	int n = snprintf(text, size, "%lld elements, theta %s, scaling %s", (long long)hp->n_rot,
	                 number[0], rv_rope_kind_name(r->kind));
	if (r->kind != RV_ROPE_NONE)
		snprintf(text + n, size - (size_t)n, " %s of %lld, beta %s to %s, magnitude %s",
		         number[1], (long long)r->n_ctx_original, number[2], number[3], number[4]);
}

/* A text that grows up to `size`, and is full then. */
typedef struct growing {
	char *text;
	size_t size, n;
} growing;

static void add(growing *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(growing *g, const char *fmt, ...) {
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(g->text + g->n, g->size - g->n, fmt, args);
	va_end(args);
	g->n = n < 0 || (size_t)n >= g->size - g->n ? g->size - 1 : g->n + (size_t)n;
}

static void add_tier(growing *g, const rv_kv_tier *t) {
	add(g, "; %lld: %s", (long long)t->tokens, rv_kv_format_name(t->format));
	for (int i = 0; i < t->n_ranges; i++)
		add(g, " %d-%d: %s", t->ranges[i].from, t->ranges[i].to,
		    rv_kv_format_name(t->ranges[i].format));
}

static void add_calibration(growing *g, const rv_kv_calibration *c) {
	char books[65], feedback[65];
	size_t n_books = (size_t)c->n_layers * RV_KV_BOOKS;
	size_t n_feedback = (size_t)(c->n_layers * c->n_kv_heads * c->head_dim * c->head_dim);
	rv_sha256_hex(c->books, n_books * sizeof *c->books, books);
	rv_sha256_hex(c->feedback, n_feedback * sizeof *c->feedback, feedback);
	add(g, "calibration %s %s\n", books, feedback);
}

static void add_policy(growing *g, const rv_context *ctx) {
	const rv_kv_policy *policy = rv_kv_tiers_policy(ctx->tiers);
	add(g, "pages of %d, tail %lld", ctx->options.page_size, (long long)policy->tail);
	for (int i = 0; i < policy->n_tiers; i++)
		add_tier(g, &policy->tiers[i]);
	add(g, "\n");
	if (rv_kv_policy_needs_calibration(policy))
		add_calibration(g, ctx->options.kv_calibration);
}

rv_status rv_kv_identity(const rv_context *ctx, const struct rv_adapter_set *set, int mixed,
                         char text[RV_KV_IDENTITY_BYTES]) {
	const rv_context_options *o = &ctx->options;
	growing g = {text, RV_KV_IDENTITY_BYTES, 0};
	char hex[65], rope[256], scale[32];
	RV_TRY(rv_model_sha256(ctx->model, hex));
	rope_text(&o->rope, rv_model_hparams(ctx->model), rope, sizeof rope);
	add(&g, "model %s\ncache %s\nrope %s\nbackend %s, %s, %s attention\nadapters", hex,
	    rv_kv_type_name(o->kv_type), rope, rv_backend_name(o->backend), rv_level_name(o->level),
	    attentions[o->attention]);
	for (int i = 0; i < set->n; i++) {
		rv_text_double(scale, set->uses[i].scale);
		rv_adapter_sha256(set->uses[i].adapter, hex);
		add(&g, " %s x %s", hex, scale);
	}
	add(&g, "%s%s\n", set->n == 0 ? " none" : "", mixed ? ", and others before" : "");
	if (ctx->tiers)
		add_policy(&g, ctx);
	return g.n + 1 < g.size
	               ? RV_OK
	               : rv_fail(RV_ERR_LIMIT, "KV identity: more than %d bytes", RV_KV_IDENTITY_BYTES);
}

rv_status rv_kv_identity_differs(const char *path, const char *file, size_t n_file, const char *here) {
	const char *end = file + n_file, *here_end = here + strlen(here);
	for (;;) {
		size_t a = (size_t)(end - file), b = (size_t)(here_end - here);
		const char *stop = memchr(file, '\n', a), *here_stop = memchr(here, '\n', b);
		a = stop ? (size_t)(stop - file) : a;
		b = here_stop ? (size_t)(here_stop - here) : b;
		if (a != b || memcmp(file, here, a) != 0 || !stop || !here_stop)
			return rv_fail(RV_ERR_MISMATCH,
			               "%s: keys and values of another identity: '%.*s', here '%.*s'",
			               path, (int)(a < 200 ? a : 200), file, (int)(b < 200 ? b : 200),
			               here);
		file = stop + 1;
		here = here_stop + 1;
	}
}
