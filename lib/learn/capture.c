#include "learn/capture.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "base/vm.h"
#include "learn/top_k.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { MAX_TOKENS = 128, MAX_TOP = 256, MAX_PLACES = 4096, SPARE_PLACES = 4 };

/* Where one request's states go. */
typedef struct place {
	rv_captured seen; /* first: what the caller is given */
	rv_capture *owner;
	_Atomic int taken;
	int64_t first;
	int64_t n_rows; /* one more than the last token that was seen */
	int32_t *token; /* [max_tokens] id of the row */
	int16_t *
	        n_seen; /* [max_tokens] parts seen of it in their order; then n_parts + 1: logits too */
	int32_t *ids, *chosen;
	float *values;
	int32_t *taught;   /* [max_tokens] the token its gradients are of; -1: none yet */
	double *loss;      /* [max_tokens, n_parts] */
	int32_t *next;     /* [max_tokens] the token of the row behind it in its batch; -1: none */
	float *next_value; /* [max_tokens] its logit */
} place;

struct rv_capture {
	rv_context *ctx;
	rv_capture_options options;
	rv_capture_part parts[RV_CAPTURE_MAX_PARTS];
	int n_parts;
	int8_t *part_of; /* [n_layers, RV_ROLE_COUNT] -1: none */
	uint8_t *hooked; /* [n_layers] */
	place **of_seq;  /* [n_seqs] NULL: no request */
	int32_t n_seqs;
	place *places;
	int eager; /* gradients with the tokens */
	rv_local_objective objective;
	void *gradient_scratch;
	float **pointers; /* of all places: inputs and states of their parts */
	void *memory;     /* of all places */
	size_t memory_bytes, place_bytes;
	int32_t *scratch; /* of rv_top_k */
	_Atomic int64_t n_requests, n_tokens, n_no_place, hook_ns;
};

rv_capture_options rv_capture_defaults(void) {
	return (rv_capture_options){.site = RV_SITE_ATTN_OUT,
	                            .max_tokens = 32,
	                            .n_top = 64,
	                            .gradients = RV_CAPTURE_AUTO,
	                            .reading = RV_LOCAL_LENS};
}

/* ---- the hook ---- */

/* The place and number of the token a row is captured as; NULL: it is not. */
static place *place_of(const rv_capture *c, const rv_row *row, int64_t *token) {
	place *p = c->of_seq[row->seq];
	if (!p || !(row->flags & RV_ROW_LOGITS) || row->parent != -1)
		return NULL;
	*token = row->position - p->first;
	return *token >= 0 && *token < c->options.max_tokens ? p : NULL;
}

/* The first a row shows of itself. */
static void begin_row(const rv_capture *c, place *p, int64_t i, const rv_row *row) {
	p->token[i] = row->token;
	p->taught[i] = -1;
	p->n_seen[i] = 0;
	p->n_rows = i + 1 > p->n_rows ? i + 1 : p->n_rows;
	p->seen.version = rv_context_adapter_version(c->ctx, row->adapter);
}

static void save_states(const rv_capture *c, const rv_site_view *v, int part) {
	for (int64_t r = 0; r < v->n_rows; r++) {
		int64_t i;
		place *p = place_of(c, &v->rows[r], &i);
		if (!p)
			continue;
		if (part == 0)
			begin_row(c, p, i, &v->rows[r]);
		if (p->n_seen[i] != part)
			continue;
		p->n_seen[i]++;
		memcpy(p->seen.inputs[part] + i * v->n_input, v->input + r * v->n_input,
		       (size_t)v->n_input * sizeof(float));
		float *state = p->seen.states[part] + i * v->n_output;
		const float *x = v->residual + r * v->n_output, *y = v->output + r * v->n_output;
		for (int64_t k = 0; k < v->n_output; k++)
			state[k] = x[k] + y[k];
	}
}

static int64_t find(const int32_t *ids, int64_t n, int32_t id) {
	int64_t i = 0;
	while (i < n && ids[i] != id)
		i++;
	return i;
}

static int64_t lowest(const float *values, int64_t n) {
	int64_t at = 0;
	for (int64_t i = 1; i < n; i++)
		at = values[i] < values[at] ? i : at;
	return at;
}

/* The token becomes one of row i's candidates, if it is not yet: in place of the lowest. Returns which.
 */
static int64_t choose(const place *p, int64_t i, int64_t n_top, int32_t token, int32_t *ids,
                      float *values) {
	int64_t at = find(ids, n_top, token);
	if (at < n_top)
		return at;
	at = lowest(values, n_top);
	ids[at] = token;
	values[at] = p->next[i] == token ? p->next_value[i] : values[at];
	return at;
}

/* Gradients of row i, after which `token` was chosen. */
static void teach(const rv_capture *c, place *p, int64_t i, int32_t token) {
	const int64_t n_top = c->options.n_top, n_embd = p->seen.n_embd;
	int32_t ids[MAX_TOP];
	float values[MAX_TOP], *gradients[RV_CAPTURE_MAX_PARTS];
	const float *states[RV_CAPTURE_MAX_PARTS];
	memcpy(ids, p->ids + i * n_top, (size_t)n_top * sizeof *ids);
	memcpy(values, p->values + i * n_top, (size_t)n_top * sizeof *values);
	for (int part = 0; part < c->n_parts; part++) {
		states[part] = p->seen.states[part] + i * n_embd;
		gradients[part] = p->seen.gradients[part] + i * n_embd;
	}
	const rv_local_token t = {.ids = ids,
	                          .saved = values,
	                          .n_top = n_top,
	                          .chosen = choose(p, i, n_top, token, ids, values),
	                          .states = states,
	                          .n_states = c->n_parts};
	rv_local_objective_gradient(&c->objective, c->options.reading, &t, c->gradient_scratch,
	                            p->loss + i * c->n_parts, gradients);
	p->taught[i] = token;
}

static int is_whole(const rv_capture *c, const place *p, int64_t i) {
	return p->n_seen[i] == c->n_parts + 1;
}

static void save_logits(const rv_capture *c, const rv_site_view *v) {
	const int64_t n_top = c->options.n_top;
	for (int64_t r = 0; r < v->n_rows; r++) {
		int64_t i;
		const rv_row *row = &v->rows[r];
		place *p = place_of(c, row, &i);
		if (!p)
			continue;
		if (c->n_parts == 0)
			begin_row(c, p, i, row);
		if (p->n_seen[i] != c->n_parts)
			continue;
		p->n_seen[i]++;
		int32_t *ids = p->ids + i * n_top;
		float *values = p->values + i * n_top;
		const float *logits = v->output + r * v->n_output;
		rv_top_k(logits, v->n_output, n_top, ids, values, c->scratch);
		/* Of a text that is given the next token is here already, unless it is a draft. */
		const int next = r + 1 < v->n_rows && row[1].seq == row->seq &&
		                 row[1].position == row->position + 1;
		p->next[i] = next ? row[1].token : -1;
		p->next_value[i] = next ? logits[row[1].token] : 0;
		if (c->eager && i > 0 && is_whole(c, p, i - 1) && p->taught[i - 1] != row->token)
			teach(c, p, i - 1, row->token);
	}
}

static rv_status on_site(void *user, const rv_site_view *view) {
	rv_capture *c = user;
	const int64_t start = rv_now_ns();
	if (view->role == RV_OUTPUT)
		save_logits(c, view);
	else
		save_states(c, view, c->part_of[view->layer * RV_ROLE_COUNT + view->role]);
	atomic_fetch_add(&c->hook_ns, rv_now_ns() - start);
	return RV_OK;
}

/* ---- requests ---- */

rv_status rv_capture_begin(rv_capture *c, int32_t seq, int64_t first) {
	if (seq < 0 || seq >= c->n_seqs || first < 0)
		return rv_fail(RV_ERR_INVALID, "capture: sequence %d from position %lld", seq,
		               (long long)first);
	if (c->of_seq[seq])
		return rv_fail(RV_ERR_INVALID, "capture: sequence %d has a request already", seq);
	for (int64_t i = 0; i < c->options.n_places; i++) {
		place *p = &c->places[i];
		int is_free = 0;
		if (!atomic_compare_exchange_strong(&p->taken, &is_free, 1))
			continue;
		p->first = first;
		p->n_rows = 0;
		p->seen.version = 0;
		c->of_seq[seq] = p;
		atomic_fetch_add(&c->n_requests, 1);
		return RV_OK;
	}
	atomic_fetch_add(&c->n_no_place, 1);
	return rv_fail(RV_ERR_LIMIT, "capture: all %lld places are taken",
	               (long long)c->options.n_places);
}

/* Token i of the place becomes its token n. */
static void move_token(const rv_capture *c, place *p, int64_t i, int64_t n) {
	const int64_t n_top = c->options.n_top, n_embd = p->seen.n_embd;
	if (i == n)
		return;
	for (int part = 0; part < c->n_parts; part++) {
		const int64_t n_input = c->parts[part].n_input;
		float *inputs = p->seen.inputs[part], *states = p->seen.states[part];
		memcpy(inputs + n * n_input, inputs + i * n_input, (size_t)n_input * sizeof(float));
		memcpy(states + n * n_embd, states + i * n_embd, (size_t)n_embd * sizeof(float));
		if (c->eager) {
			float *gradients = p->seen.gradients[part];
			memcpy(gradients + n * n_embd, gradients + i * n_embd,
			       (size_t)n_embd * sizeof(float));
			p->loss[n * c->n_parts + part] = p->loss[i * c->n_parts + part];
		}
	}
	memcpy(p->ids + n * n_top, p->ids + i * n_top, (size_t)n_top * sizeof *p->ids);
	memcpy(p->values + n * n_top, p->values + i * n_top, (size_t)n_top * sizeof *p->values);
}

/* Probability of the token chosen, among the n_top. */
static double probability(const float *values, int64_t n, int64_t chosen) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += exp((double)values[i] - (double)values[chosen]);
	return 1 / sum;
}

rv_captured *rv_capture_end(rv_capture *c, int32_t seq, const int32_t *tokens, int64_t n) {
	place *p = seq >= 0 && seq < c->n_seqs ? c->of_seq[seq] : NULL;
	const int64_t n_top = c->options.n_top;
	double likelihood = 0;
	int64_t kept = 0;
	if (!p)
		return NULL;
	c->of_seq[seq] = NULL;
	for (int64_t i = 0; i < n && i < p->n_rows; i++) {
		/* Not seen whole, or another token stood there when it was. */
		if (!is_whole(c, p, i) || (i > 0 && p->token[i] != tokens[i - 1]))
			continue;
		if (c->eager && p->taught[i] != tokens[i])
			teach(c, p, i, tokens[i]);
		move_token(c, p, i, kept);
		int32_t *ids = p->ids + kept * n_top;
		float *values = p->values + kept * n_top;
		const int64_t at = choose(p, i, n_top, tokens[i], ids, values);
		p->chosen[kept] = (int32_t)at;
		likelihood += probability(values, n_top, at);
		kept++;
	}
	p->seen.n_tokens = kept;
	p->seen.n_missed = n - kept;
	p->seen.likelihood = kept ? likelihood / (double)kept : (double)NAN;
	atomic_fetch_add(&c->n_tokens, kept);
	return &p->seen;
}

void rv_captured_release(rv_captured *captured) {
	if (captured)
		atomic_store(&((place *)captured)->taken, 0);
}

void rv_capture_cancel(rv_capture *c, int32_t seq) {
	rv_captured_release(rv_capture_end(c, seq, NULL, 0));
}

void rv_capture_get_stats(const rv_capture *c, rv_capture_stats *out) {
	*out = (rv_capture_stats){.n_requests = atomic_load(&c->n_requests),
	                          .n_tokens = atomic_load(&c->n_tokens),
	                          .n_no_place = atomic_load(&c->n_no_place),
	                          .hook_ns = atomic_load(&c->hook_ns)};
	for (int64_t i = 0; i < c->options.n_places; i++)
		out->n_held += atomic_load(&c->places[i].taken);
}

size_t rv_capture_bytes(const rv_capture *c) {
	return c->memory_bytes;
}

/* ---- creation ---- */

static rv_status in_bounds(const char *name, int64_t v, int64_t min, int64_t max) {
	return v >= min && v <= max ? RV_OK
	                            : rv_fail(RV_ERR_INVALID, "capture: %s %lld is not in [%lld, %lld]",
	                                      name, (long long)v, (long long)min, (long long)max);
}

static rv_status check_options(const rv_capture *c, const rv_hparams *hp) {
	const rv_capture_options *o = &c->options;
	RV_TRY(in_bounds("layers", o->n_layers, 1, hp->n_layers));
	for (int i = 0; i < o->n_layers; i++)
		RV_TRY(in_bounds("layer", o->layers[i], i ? o->layers[i - 1] + 1 : 0,
		                 hp->n_layers - 1));
	RV_TRY(in_bounds("site", (int64_t)o->site, 0, RV_SITE_COUNT - 1));
	RV_TRY(in_bounds("max_tokens", o->max_tokens, 1, MAX_TOKENS));
	RV_TRY(in_bounds("n_top", o->n_top, 2, MAX_TOP < hp->n_vocab ? MAX_TOP : hp->n_vocab));
	RV_TRY(in_bounds("gradients", o->gradients, RV_CAPTURE_LATER, RV_CAPTURE_AUTO));
	RV_TRY(in_bounds("reading", (int64_t)o->reading, 0, RV_LOCAL_READING_COUNT - 1));
	return in_bounds("n_places", o->n_places, 1, MAX_PLACES);
}

static rv_status list_parts(rv_capture *c) {
	const rv_model *model = rv_context_model(c->ctx);
	const uint32_t roles = rv_site_roles(c->options.site) & RV_ROLES_RESIDUAL;
	for (int l = 0; l < c->options.n_layers; l++)
		for (int role = 0; role < RV_ROLE_COUNT; role++) {
			const int64_t layer = c->options.layers[l];
			if (!(roles & RV_ROLE_BIT(role)))
				continue;
			if (c->n_parts == RV_CAPTURE_MAX_PARTS)
				return rv_fail(RV_ERR_LIMIT, "capture: more than %d projections",
				               RV_CAPTURE_MAX_PARTS);
			c->part_of[layer * RV_ROLE_COUNT + role] = (int8_t)c->n_parts;
			c->hooked[layer] = 1;
			c->parts[c->n_parts++] =
			        (rv_capture_part){(rv_role)role, layer,
			                          rv_model_weight(model, (rv_role)role, layer)->cols};
		}
	return RV_OK;
}

/* Cuts `bytes` off a place's memory; sizes alone when there is none yet. */
static void *cut(char *memory, size_t *at, size_t bytes) {
	const size_t begin = *at;
	*at += (bytes + RV_ALIGN - 1) / RV_ALIGN * RV_ALIGN;
	return memory ? memory + begin : NULL;
}

/* Lays a place out; returns its size. */
static size_t lay_out(rv_capture *c, place *p, char *memory, float **pointers) {
	const size_t n = (size_t)c->options.max_tokens, n_top = (size_t)c->options.n_top;
	const int64_t n_embd = rv_model_hparams(rv_context_model(c->ctx))->n_embd;
	size_t at = 0;
	p->owner = c;
	p->token = cut(memory, &at, n * sizeof *p->token);
	p->n_seen = cut(memory, &at, n * sizeof *p->n_seen);
	p->chosen = cut(memory, &at, n * sizeof *p->chosen);
	p->taught = cut(memory, &at, n * sizeof *p->taught);
	p->loss = cut(memory, &at, n * (size_t)c->n_parts * sizeof *p->loss);
	p->next = cut(memory, &at, n * sizeof *p->next);
	p->next_value = cut(memory, &at, n * sizeof *p->next_value);
	p->ids = cut(memory, &at, n * n_top * sizeof *p->ids);
	p->values = cut(memory, &at, n * n_top * sizeof *p->values);
	for (int i = 0; pointers && i < c->n_parts; i++) {
		pointers[i] = cut(memory, &at, n * (size_t)c->parts[i].n_input * sizeof(float));
		pointers[c->n_parts + i] = cut(memory, &at, n * (size_t)n_embd * sizeof(float));
		if (c->eager)
			pointers[2 * c->n_parts + i] =
			        cut(memory, &at, n * (size_t)n_embd * sizeof(float));
	}
	p->seen = (rv_captured){.parts = c->parts,
	                        .n_parts = c->n_parts,
	                        .n_embd = n_embd,
	                        .n_top = c->options.n_top,
	                        .ids = p->ids,
	                        .values = p->values,
	                        .chosen = p->chosen,
	                        .inputs = pointers,
	                        .states = pointers ? pointers + c->n_parts : NULL,
	                        .gradients = c->eager ? pointers + 2 * c->n_parts : NULL,
	                        .loss = c->eager ? p->loss : NULL,
	                        .reading = c->options.reading};
	return at;
}

static rv_status allocate(rv_capture *c) {
	const rv_hparams *hp = rv_model_hparams(rv_context_model(c->ctx));
	const int64_t n_places = c->options.n_places, n_pointers = (c->eager ? 3 : 2) * c->n_parts;
	place sample = {0};
	RV_TRY(RV_ALLOC(&c->of_seq, c->n_seqs, "capture"));
	RV_TRY(RV_ALLOC(&c->places, n_places, "capture"));
	RV_TRY(RV_ALLOC(&c->pointers, n_places * n_pointers, "capture"));
	RV_TRY(RV_ALLOC(&c->scratch, rv_top_k_scratch(hp->n_vocab), "capture"));
	c->place_bytes = lay_out(c, &sample, NULL, c->pointers);
	if (!rv_mul_ok(c->place_bytes, (size_t)n_places, &c->memory_bytes))
		return rv_fail(RV_ERR_NO_MEMORY, "capture: %lld places of %zu bytes",
		               (long long)n_places, c->place_bytes);
	RV_TRY(rv_vm_alloc(&c->memory, c->memory_bytes, "captured states"));
	for (int64_t i = 0; i < n_places; i++) {
		lay_out(c, &c->places[i], (char *)c->memory + (size_t)i * c->place_bytes,
		        c->pointers + i * n_pointers);
		atomic_init(&c->places[i].taken, 0);
	}
	return RV_OK;
}

static rv_status prepare_gradients(rv_capture *c) {
	const rv_model *model = rv_context_model(c->ctx);
	const int64_t n_candidates = c->options.n_top * rv_model_hparams(model)->n_embd;
	rv_level level;
	c->eager = c->n_parts > 0 && (c->options.gradients == RV_CAPTURE_NOW ||
	                              (c->options.gradients == RV_CAPTURE_AUTO &&
	                               rv_model_n_params(model) / RV_CAPTURE_DEAR >= n_candidates));
	if (!c->eager)
		return RV_OK;
	RV_TRY(rv_level_default(&level));
	rv_local_objective_init(&c->objective, model, rv_kernels_for(level));
	return rv_alloc(&c->gradient_scratch, 1,
	                rv_local_scratch_bytes(&c->objective, c->options.n_top, c->n_parts), "capture");
}

static rv_status attach_into(rv_capture *c) {
	const rv_hparams *hp = rv_model_hparams(rv_context_model(c->ctx));
	c->n_seqs = rv_context_get_options(c->ctx)->n_seqs;
	if (c->options.n_places == 0)
		c->options.n_places = (int64_t)c->n_seqs + SPARE_PLACES;
	if (c->options.n_places > MAX_PLACES)
		c->options.n_places = MAX_PLACES;
	RV_TRY(check_options(c, hp));
	RV_TRY(RV_ALLOC(&c->part_of, hp->n_layers * RV_ROLE_COUNT, "capture"));
	RV_TRY(RV_ALLOC(&c->hooked, hp->n_layers, "capture"));
	RV_TRY(list_parts(c));
	c->options.layers = NULL; /* the caller's */
	RV_TRY(prepare_gradients(c));
	RV_TRY(allocate(c));
	const rv_hooks hooks = {.site = on_site,
	                        .roles = (rv_site_roles(c->options.site) & RV_ROLES_RESIDUAL) |
	                                 RV_ROLE_BIT(RV_OUTPUT),
	                        .layers = c->hooked,
	                        .user = c};
	return rv_context_set_hooks(c->ctx, &hooks);
}

static void release(rv_capture *c) {
	rv_free(c->part_of);
	rv_free(c->hooked);
	rv_free(c->of_seq);
	rv_free(c->places);
	rv_free(c->pointers);
	rv_free(c->scratch);
	rv_free(c->gradient_scratch);
	rv_vm_free(c->memory, c->memory_bytes);
	rv_free(c);
}

rv_status rv_capture_attach(rv_capture **out, rv_context *ctx, const rv_capture_options *options) {
	rv_capture *c;
	*out = NULL;
	RV_TRY(RV_ALLOC(&c, 1, "capture"));
	c->ctx = ctx;
	c->options = *options;
	rv_status status = attach_into(c);
	if (status != RV_OK) {
		release(c);
		return status;
	}
	*out = c;
	return RV_OK;
}

void rv_capture_detach(rv_capture *c) {
	if (!c)
		return;
	rv_context_set_hooks(c->ctx, NULL);
	release(c);
}
