/* Whole requests in one call: an answer that is shown, an answer that is generated. */
#include "base/mem.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <string.h>

/* Prompt and answer in one sequence; what follows the prompt's last token and each of the answer's is
 * known, and captured. The answer's last token is not evaluated: nothing follows it. */
static rv_status evaluate(rv_context *ctx, const rv_sona_request *request, const int32_t *answer,
                          int64_t n_answer, int64_t n_wanted) {
	int64_t n = request->n_prompt + n_answer - 1;
	rv_row *rows;
	RV_TRY(RV_ALLOC(&rows, n, "rows"));
	for (int64_t i = 0; i < n; i++) {
		int64_t of_answer = i - request->n_prompt;
		rows[i] = (rv_row){.token = of_answer < 0 ? request->prompt[i] : answer[of_answer],
		                   .seq = request->seq,
		                   .position = (int32_t)i,
		                   .parent = -1,
		                   .flags = of_answer >= -1 && of_answer + 1 < n_wanted ? RV_ROW_LOGITS
		                                                                        : 0};
	}
	rv_status st = rv_context_eval(ctx, rows, n);
	rv_free(rows);
	return st;
}

rv_status rv_sona_teach(rv_sona *s, rv_context *ctx, const rv_sona_request *request,
                        const int32_t *answer, int64_t n_answer, double quality,
                        rv_quality_source source, char id[RV_UUID_TEXT], rv_sona_report *report) {
	rv_sona_request shown = *request;
	rv_sona_outcome outcome = rv_sona_outcome_defaults();
	int64_t wanted = s->o.capture_tokens < rv_context_get_options(ctx)->n_batch
	                         ? s->o.capture_tokens
	                         : rv_context_get_options(ctx)->n_batch;
	if (n_answer < 1)
		return rv_fail(RV_ERR_INVALID, "teaching: an answer needs a token at least");
	if (rv_seq_length(ctx, request->seq) != 0)
		return rv_fail(RV_ERR_INVALID, "teaching: sequence %d is not empty", request->seq);
	shown.first = request->n_prompt - 1;
	outcome.answer = answer;
	outcome.n_answer = n_answer;
	outcome.quality = quality;
	outcome.source = source;
	RV_TRY(rv_sona_begin(s, ctx, &shown, id, NULL));
	rv_status st = evaluate(ctx, request, answer, n_answer, wanted);
	if (st == RV_OK)
		st = rv_sona_end(s, id, &outcome, report);
	if (st != RV_OK)
		rv_sona_cancel(s, id);
	rv_status emptied = rv_seq_truncate(ctx, request->seq, 0);
	return st != RV_OK ? st : emptied;
}

/* ---- generating ---- */

typedef struct producing {
	const rv_generate_options *how;
	int32_t *tokens;
	int64_t n, cap;
	rv_status status;
} producing;

static int keep_token(void *user, int32_t id, const char *text, size_t len, double logprob) {
	producing *p = user;
	if (id >= 0 && p->n < p->cap)
		p->tokens[p->n++] = id;
	return p->how->on_token ? p->how->on_token(p->how->user, id, text, len, logprob) : 0;
}

rv_status rv_sona_generate(rv_sona *s, rv_context *ctx, const rv_sona_request *request,
                           rv_sampler *sampler, const rv_generate_options *how,
                           const rv_sona_outcome *rating, int32_t *out, rv_generate_result *result,
                           char id[RV_UUID_TEXT], rv_sona_report *report) {
	rv_sona_request asked = *request;
	rv_sona_outcome outcome = rating ? *rating : rv_sona_outcome_defaults();
	rv_generate_options heard = *how;
	producing p = {.how = how, .cap = s->o.ring.max_tokens};
	asked.first = rv_seq_length(ctx, request->seq) + request->n_prompt - 1;
	RV_TRY(RV_ALLOC(&p.tokens, p.cap, "tokens"));
	heard.on_token = keep_token;
	heard.user = &p;
	rv_status st = rv_sona_begin(s, ctx, &asked, id, NULL);
	if (st == RV_OK) {
		st = rv_generate(ctx, request->seq, request->prompt, request->n_prompt, sampler, &heard,
		                 out, result);
		if (st == RV_OK) {
			double seconds = 1e-9 * (double)(result->prompt_ns + result->generate_ns -
			                                 result->first_token_ns);
			outcome.answer = p.tokens;
			outcome.n_answer = p.n;
			outcome.total_ms = 1e-6 * (double)(result->prompt_ns + result->generate_ns);
			outcome.first_ms = 1e-6 * (double)result->first_token_ns;
			if (result->n_generated > 1 && seconds > 0)
				outcome.tok_s = (double)(result->n_generated - 1) / seconds;
			st = rv_sona_end(s, id, &outcome, report);
		} else {
			rv_sona_cancel(s, id);
		}
	}
	rv_free(p.tokens);
	return st;
}
