/* The bank's good trajectories as sequences for training. */
#include "base/file.h"
#include "base/mem.h"
#include "learn/sona_deep.h"

#include <string.h>

#define MAX_ITEMS 4096 /* of a larger bank one in so many, by id and seed */
#define MAX_PROMPTS 16
#define ONE_IN 5 /* is held out */

typedef struct item {
	const int32_t *ids; /* prompt, answer, end */
	int64_t n, n_prompt;
	float quality;
} item;

typedef struct reading {
	rv_deep_text *out;
	const rv_deep *d;
	const rv_tokenizer *tok;
	int64_t cap[2];  /* sequences */
	int64_t used[2]; /* tokens of the last */
	int64_t stride;
	int64_t n_prompt_tokens, cap_prompt;
	int32_t *ids; /* of the item */
	int64_t cap_ids;
} reading;

/* ---- sequences ---- */

static rv_status begin_sequence(reading *r, int held) {
	rv_deep_text *t = r->out;
	const int64_t row = t->n_ctx + 1;
	if (t->n[held] == r->cap[held]) {
		int64_t cap = r->cap[held] ? 2 * r->cap[held] : 16;
		/* weights first: the count is of both */
		RV_TRY(RV_GROW(&t->weights[held], r->cap[held] * t->n_ctx, cap * t->n_ctx,
		               "weights of predictions"));
		RV_TRY(RV_GROW(&t->tokens[held], r->cap[held] * row, cap * row, "sequences"));
		r->cap[held] = cap;
	}
	int32_t *tokens = t->tokens[held] + t->n[held]++ * row;
	for (int64_t i = 0; i < row; i++)
		tokens[i] = t->end;
	r->used[held] = 0;
	return RV_OK;
}

/* What does not fit into a sequence loses the beginning of its prompt; an answer that does not fit
 * alone is left out. */
static rv_status put_item(reading *r, int held, item x) {
	rv_deep_text *t = r->out;
	const int64_t row = t->n_ctx + 1, n_answer = x.n - x.n_prompt;
	if (n_answer >= row)
		return RV_OK;
	if (x.n > row) {
		x.ids += x.n - row;
		x.n_prompt = row - n_answer;
		x.n = row;
	}
	if (t->n[held] == 0 || r->used[held] + x.n > row)
		RV_TRY(begin_sequence(r, held));
	const int64_t at = r->used[held], last = t->n[held] - 1;
	memcpy(t->tokens[held] + last * row + at, x.ids, (size_t)x.n * sizeof *x.ids);
	/* prediction j is of token j + 1 */
	for (int64_t i = x.n_prompt > 0 ? x.n_prompt : 1; i < x.n; i++)
		t->weights[held][last * t->n_ctx + at + i - 1] = x.quality;
	r->used[held] += x.n;
	t->n_items[held]++;
	return RV_OK;
}

static rv_status put_prompt(reading *r, const item *x) {
	rv_deep_text *t = r->out;
	if (t->n_prompts == MAX_PROMPTS || x->n_prompt == 0)
		return RV_OK;
	if (r->n_prompt_tokens + x->n_prompt > r->cap_prompt) {
		int64_t cap = 2 * (r->n_prompt_tokens + x->n_prompt);
		RV_TRY(RV_GROW(&t->prompts, r->cap_prompt, cap, "prompts"));
		r->cap_prompt = cap;
	}
	memcpy(t->prompts + r->n_prompt_tokens, x->ids, (size_t)x->n_prompt * sizeof *x->ids);
	r->n_prompt_tokens += x->n_prompt;
	t->prompt_at[++t->n_prompts] = r->n_prompt_tokens;
	return RV_OK;
}

/* ---- items ---- */

static rv_status append(reading *r, item *x, const char *text, size_t len, int add_bos) {
	rv_encode_options o = rv_encode_defaults();
	int32_t *ids = NULL;
	size_t n = 0;
	o.add_bos = add_bos;
	o.add_eos = 0;
	RV_TRY(rv_tokenizer_encode(r->tok, text, len, &o, &ids, &n));
	const int64_t need = x->n + (int64_t)n + 1; /* the end token too */
	if (need > r->cap_ids) {
		rv_status st = RV_GROW(&r->ids, r->cap_ids, 2 * need, "tokens");
		if (st != RV_OK) {
			rv_free(ids);
			return st;
		}
		r->cap_ids = 2 * need;
	}
	if (n > 0)
		memcpy(r->ids + x->n, ids, n * sizeof *ids);
	x->n += (int64_t)n;
	rv_free(ids);
	return RV_OK;
}

static int is_space(char c) {
	return c == ' ' || c == '\n' || c == '\t';
}

/* Asked and answered; a line feed between where neither side has a blank. */
static rv_status tokenize(reading *r, const rv_trajectory *t, const rv_action *best, item *x) {
	const size_t n_task = strlen(t->task);
	RV_TRY(append(r, x, t->task, n_task, -1));
	if (n_task > 0 && !is_space(t->task[n_task - 1]) && !is_space(best->action[0]))
		RV_TRY(append(r, x, "\n", 1, 0));
	x->n_prompt = x->n;
	RV_TRY(append(r, x, best->action, strlen(best->action), 0));
	r->ids[x->n++] = r->out->end;
	x->ids = r->ids;
	return RV_OK;
}

static const rv_action *best_action(const rv_trajectory *t) {
	const rv_action *best = &t->actions[0];
	for (size_t i = 1; i < t->n_actions; i++)
		if (t->actions[i].quality > best->quality)
			best = &t->actions[i];
	return best;
}

static rv_status read_pattern(void *user, const rv_bank_pattern *p) {
	reading *r = user;
	const rv_trajectory *t = p->t;
	const rv_action *best = best_action(t);
	const uint32_t draw = rv_crc32((uint32_t)r->d->seed, t->trajectory_id, RV_UUID_TEXT - 1);
	const uint32_t fixed = rv_crc32(0, t->trajectory_id, RV_UUID_TEXT - 1);
	item x = {.quality = p->quality};
	if (t->verdict == RV_VERDICT_FAILURE || best->quality < r->d->min_quality ||
	    best->action[0] == 0 || draw % (uint32_t)r->stride != 0)
		return RV_OK;
	const int held = fixed % ONE_IN == 0;
	RV_TRY(tokenize(r, t, best, &x));
	if (held)
		RV_TRY(put_prompt(r, &x));
	return put_item(r, held, x);
}

rv_status rv_deep_text_read(rv_deep_text *out, const rv_deep *d, int64_t n_ctx) {
	*out = (rv_deep_text){.n_ctx = n_ctx};
	reading r = {.out = out,
	             .d = d,
	             .tok = rv_model_tokenizer(d->model),
	             .stride = 1 + rv_bank_count(d->bank) / MAX_ITEMS};
	if (r.tok == NULL)
		return rv_fail(RV_ERR_MISMATCH, "%s: has no tokenizer", rv_model_path(d->model));
	out->end = rv_tokenizer_eos(r.tok);
	if (out->end < 0)
		return rv_fail(RV_ERR_MISMATCH, "%s: its vocabulary has no end token",
		               rv_model_path(d->model));
	rv_status st = RV_ALLOC(&out->prompt_at, MAX_PROMPTS + 1, "prompts");
	if (st == RV_OK)
		st = rv_bank_visit(d->bank, d->now_ms, d->min_quality, read_pattern, &r);
	rv_free(r.ids);
	if (st != RV_OK)
		rv_deep_text_deinit(out);
	return st;
}

void rv_deep_text_deinit(rv_deep_text *t) {
	for (int held = 0; held < 2; held++) {
		rv_free(t->tokens[held]);
		rv_free(t->weights[held]);
	}
	rv_free(t->prompts);
	rv_free(t->prompt_at);
	*t = (rv_deep_text){0};
}
