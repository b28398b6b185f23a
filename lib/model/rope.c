#include "model/rope.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))
enum { KEY_MAX = 128 };

const char *rv_rope_kind_name(rv_rope_kind kind) {
	static const char *const names[RV_ROPE_COUNT] = {"model", "none", "ntk", "yarn"};
	return (unsigned)kind < RV_ROPE_COUNT ? names[kind] : "unknown";
}

/* ---- defaults ---- */

static void fill(double *field, double value) {
	if (*field == 0)
		*field = value;
}

static rv_status check(const rv_rope_scaling *r) {
	if (!(r->factor >= 1 && r->factor <= 1e6))
		return rv_fail(RV_ERR_INVALID, "rope factor %g is not in [1, 1e6]", r->factor);
	if (r->n_ctx_original < 1 || r->n_ctx_original > INT32_MAX)
		return rv_fail(RV_ERR_INVALID, "rope: original context of %lld tokens",
		               (long long)r->n_ctx_original);
	if (!(r->beta_slow > 0 && r->beta_fast > r->beta_slow && r->beta_fast <= 1e6))
		return rv_fail(RV_ERR_INVALID, "rope: beta_fast %g and beta_slow %g are not in order",
		               r->beta_fast, r->beta_slow);
	if (!(r->attn_factor > 0 && r->attn_factor <= 1e3))
		return rv_fail(RV_ERR_INVALID, "rope: attn_factor %g is not in (0, 1e3]",
		               r->attn_factor);
	return RV_OK;
}

rv_status rv_rope_resolve(rv_rope_scaling *rope, const rv_rope_scaling *model, int64_t n_ctx_trained,
                          int64_t n_ctx) {
	if ((unsigned)rope->kind >= RV_ROPE_COUNT)
		return rv_fail(RV_ERR_INVALID, "unknown rope scaling %d", (int)rope->kind);
	if (rope->kind == RV_ROPE_MODEL)
		rope->kind = model->kind == RV_ROPE_MODEL ? RV_ROPE_NONE : model->kind;
	if (rope->kind == RV_ROPE_NONE && rope->factor != 0 && rope->factor != 1)
		return rv_fail(RV_ERR_INVALID, "rope factor %g without a scaling: ntk or yarn",
		               rope->factor);
	if (rope->kind == model->kind) {
		fill(&rope->factor, model->factor);
		fill(&rope->beta_fast, model->beta_fast);
		fill(&rope->beta_slow, model->beta_slow);
		fill(&rope->attn_factor, model->attn_factor);
	}
	if (rope->n_ctx_original == 0)
		rope->n_ctx_original = model->n_ctx_original ? model->n_ctx_original : n_ctx_trained;
	double fits = (double)n_ctx / (double)rope->n_ctx_original;
	fill(&rope->factor, rope->kind == RV_ROPE_NONE || !(fits > 1) ? 1 : fits);
	fill(&rope->beta_fast, 32);
	fill(&rope->beta_slow, 1);
	fill(&rope->attn_factor, 1);
	return check(rope);
}

/* ---- mathematics ---- */

/* The pair that turns `turns` times within the original context, as a real number. */
static double pair_of_turns(const rv_rope_scaling *r, double theta, double n_rot, double turns) {
	const double two_pi = 6.283185307179586476925;
	return n_rot * log((double)r->n_ctx_original / (turns * two_pi)) / (2 * log(theta));
}

/* How much of the unscaled frequency a pair keeps. */
static double kept(const rv_rope_scaling *r, double theta, int64_t n_rot, int64_t pair) {
	double n = (double)n_rot;
	double low = fmax(0, floor(pair_of_turns(r, theta, n, r->beta_fast)));
	double high = fmin(n - 1, ceil(pair_of_turns(r, theta, n, r->beta_slow)));
	double ramp = ((double)pair - low) / fmax(0.001, high - low);
	return 1 - fmin(1, fmax(0, ramp));
}

double rv_rope_frequency(const rv_rope_scaling *r, double theta, int64_t n_rot, int64_t pair) {
	double exponent = -2.0 * (double)pair / (double)n_rot;
	if (r->kind == RV_ROPE_NTK && n_rot > 2)
		theta *= pow(r->factor, (double)n_rot / (double)(n_rot - 2));
	double f = pow(theta, exponent);
	if (r->kind != RV_ROPE_YARN)
		return f;
	double keep = kept(r, theta, n_rot, pair);
	return f / r->factor * (1 - keep) + f * keep;
}

double rv_rope_magnitude(const rv_rope_scaling *r) {
	return r->kind == RV_ROPE_YARN ? r->attn_factor * (1 + 0.1 * log(r->factor)) : 1;
}

/* ---- metadata ---- */

static void make_key(char key[KEY_MAX], const char *arch, const char *suffix) {
	snprintf(key, KEY_MAX, "%s.rope.scaling.%s", arch, suffix);
}

static rv_status read_real(const rv_gguf *gguf, const char *arch, const char *suffix, double *out) {
	char key[KEY_MAX];
	make_key(key, arch, suffix);
	rv_status st = rv_gguf_double(gguf, key, out);
	return st == RV_ERR_NOT_FOUND ? RV_OK : st;
}

static rv_status refuse(const rv_gguf *gguf, const char *arch, const char *suffix) {
	return rv_fail(
	        RV_ERR_UNSUPPORTED,
	        "%s: key '%s.rope.scaling.%s': this value changes the model's mathematics and is "
	        "not implemented",
	        rv_gguf_path(gguf), arch, suffix);
}

/* Constants that must have their usual value. */
static rv_status check_usual(const rv_gguf *gguf, const char *arch, int yarn) {
	static const struct {
		const char *suffix;
		double usual;
		int yarn_too;
	} keys[] = {{"factor", 1, 0},
	            {"attn_factor", 1, 0},
	            {"yarn_ext_factor", 1, 1},
	            {"yarn_attn_factor", 1, 1},
	            {"yarn_log_multiplier", 0, 1}};
	for (int i = 0; i < COUNT(keys); i++) {
		double v = keys[i].usual;
		if (yarn && !keys[i].yarn_too)
			continue;
		RV_TRY(read_real(gguf, arch, keys[i].suffix, &v));
		if (!(fabs(v - keys[i].usual) < 1e-6))
			return refuse(gguf, arch, keys[i].suffix);
	}
	return RV_OK;
}

static rv_status read_yarn(const rv_gguf *gguf, const char *arch, rv_rope_scaling *out) {
	char key[KEY_MAX];
	RV_TRY(read_real(gguf, arch, "factor", &out->factor));
	RV_TRY(read_real(gguf, arch, "attn_factor", &out->attn_factor));
	RV_TRY(read_real(gguf, arch, "yarn_beta_fast", &out->beta_fast));
	RV_TRY(read_real(gguf, arch, "yarn_beta_slow", &out->beta_slow));
	make_key(key, arch, "original_context_length");
	rv_status st = rv_gguf_int(gguf, key, 1, INT32_MAX, &out->n_ctx_original);
	if (st != RV_OK && st != RV_ERR_NOT_FOUND)
		return st;
	rv_rope_scaling resolved = *out;
	st = rv_rope_resolve(&resolved, out, 1, 1);
	if (st == RV_OK && out->factor == 0)
		st = rv_fail(RV_ERR_INVALID, "no factor");
	if (st == RV_OK)
		return RV_OK;
	char why[256];
	snprintf(why, sizeof why, "%s", rv_error_message());
	return rv_fail(RV_ERR_FORMAT, "%s: key '%s.rope.scaling.type': yarn: %s", rv_gguf_path(gguf),
	               arch, why);
}

rv_status rv_rope_read(const rv_gguf *gguf, const char *arch, rv_rope_scaling *out) {
	char key[KEY_MAX];
	rv_str type = {"none", 4};
	*out = (rv_rope_scaling){.kind = RV_ROPE_NONE};
	make_key(key, arch, "type");
	rv_status st = rv_gguf_string(gguf, key, &type);
	if (st != RV_OK && st != RV_ERR_NOT_FOUND)
		return st;
	int none = type.len == 4 && memcmp(type.data, "none", 4) == 0;
	int yarn = type.len == 4 && memcmp(type.data, "yarn", 4) == 0;
	if (!none && !yarn)
		return refuse(gguf, arch, "type");
	RV_TRY(check_usual(gguf, arch, yarn));
	if (none)
		return RV_OK;
	out->kind = RV_ROPE_YARN;
	return read_yarn(gguf, arch, out);
}

rv_status rv_rope_write(rv_gguf_writer *w, const char *arch, const rv_rope_scaling *rope) {
	const struct {
		const char *suffix;
		double value;
	} reals[] = {{"factor", rope->factor},
	             {"attn_factor", rope->attn_factor},
	             {"yarn_beta_fast", rope->beta_fast},
	             {"yarn_beta_slow", rope->beta_slow}};
	char key[KEY_MAX];
	if (rope->kind != RV_ROPE_YARN)
		return RV_OK;
	make_key(key, arch, "type");
	RV_TRY(rv_gguf_write_string(w, key, "yarn"));
	for (int i = 0; i < COUNT(reals); i++) {
		make_key(key, arch, reals[i].suffix);
		if (reals[i].value != 0)
			RV_TRY(rv_gguf_write_f32(w, key, (float)reals[i].value));
	}
	make_key(key, arch, "original_context_length");
	return rope->n_ctx_original ? rv_gguf_write_u32(w, key, (uint32_t)rope->n_ctx_original) : RV_OK;
}
