#include "lab/spec_bench.h"

#include "base/mem.h"
#include "engine/generate.h"
#include "eval/draft_agreement.h"
#include "eval/eval_set.h"
#include "eval/task.h"
#include "lab/models.h"
#include "lab/speed.h"
#include "lab/subject.h"

#include <stdio.h>
#include <string.h>

enum { N_CTX = 2048 };
static const char *const sources[] = {"gsm8k", "humaneval", "routing"};
enum { N_SOURCES = sizeof sources / sizeof sources[0] };

/* ---- opening ---- */

static rv_status open_context(const rv_run_config *c, rv_model *model, rv_context **out) {
	rv_context_options o = rv_context_defaults();
	int64_t trained = rv_model_hparams(model)->n_ctx_train;
	o.n_ctx = trained < N_CTX ? trained : N_CTX;
	o.n_draft = RV_SPEC_MAX_NODES;
	return rv_lab_context(c, model, &o, out);
}

/* Questions as the tasks ask them, without examples before. */
static rv_status read_prompts(rv_spec_bench *b, int source) {
	char data[4096];
	rv_eval_set *set;
	snprintf(data, sizeof data, "%.4000s/datasets", b->config->root);
	const rv_eval_read_options o = {.data = data, .limit = b->n_prompts};
	RV_TRY(rv_eval_set_read(&set, rv_eval_task_by_name(sources[source]), &o));
	rv_status status = RV_OK;
	for (int i = source; i < b->n_prompts && status == RV_OK; i += N_SOURCES) {
		const char *question = set->docs[i / N_SOURCES % set->n_docs].text;
		const rv_encode_options encode = rv_encode_defaults();
		int32_t *ids;
		size_t n;
		status = rv_tokenizer_encode(rv_model_tokenizer(b->target_model), question,
		                             strlen(question), &encode, &ids, &n);
		if (status != RV_OK)
			break;
		n = n < RV_SPEC_BENCH_PROMPT ? n : RV_SPEC_BENCH_PROMPT;
		memcpy(b->prompts[i], ids, n * sizeof *ids);
		b->lengths[i] = (int64_t)n;
		rv_free(ids);
	}
	rv_eval_set_free(set);
	return status;
}

static rv_status open_models(rv_spec_bench *b, const char *format) {
	const rv_run_config *c = b->config;
	char path[4096];
	rv_subject target;
	if (format) {
		RV_TRY(rv_subject_open(&target, c, RV_VARIANT_BASE, format));
		b->target_model = target.model;
	} else {
		RV_TRY(rv_model_open(&b->target_model, c->inputs.model_path, NULL));
	}
	RV_TRY(open_context(c, b->target_model, &b->target));
	if (rv_spec_find_draft(c->inputs.model_path, path, sizeof path) != RV_OK)
		return RV_OK;
	RV_TRY(rv_model_open(&b->draft_model, path, NULL));
	return open_context(c, b->draft_model, &b->draft);
}

rv_status rv_spec_bench_open(rv_spec_bench *b, const rv_run_config *config, const char *format,
                             int n_prompts, int n_tokens) {
	int n = 0;
	b->config = config;
	b->n_prompts = n_prompts;
	b->n_tokens = n_tokens;
	RV_TRY(open_models(b, format));
	for (int i = 0; i < N_SOURCES; i++)
		RV_TRY(read_prompts(b, i));
	for (int i = 0; n < 2 * RV_SPEC_BENCH_DEPTH; i = (i + 1) % n_prompts)
		for (int j = 0; j < b->lengths[i] && n < 2 * RV_SPEC_BENCH_DEPTH; j++)
			b->stretch[n++] = b->prompts[i][j];
	return RV_OK;
}

void rv_spec_bench_close(rv_spec_bench *b) {
	rv_context_destroy(b->draft);
	rv_context_destroy(b->target);
	rv_model_release(b->draft_model);
	rv_model_release(b->target_model);
}

/* ---- a text ---- */

static int keep(void *user, int32_t id, const char *bytes, size_t len, double logprob) {
	rv_spec_text *t = user;
	(void)bytes;
	(void)len;
	if (id >= 0) {
		t->ids[t->n++] = id;
		t->logprob += logprob;
	}
	return 0;
}

/* The prompt's last token is read again by what follows. */
static rv_status generate(const rv_spec_bench *b, rv_speculator *s, rv_sampler *sampler, int prompt,
                          int64_t from, int64_t n_predict, rv_spec_text *out,
                          rv_generate_result *result) {
	rv_generate_options g = rv_generate_defaults();
	g.speculator = s;
	g.ignore_end = 1;
	g.n_predict = n_predict;
	g.on_token = out ? keep : NULL;
	g.user = out;
	RV_TRY(rv_seq_truncate(b->target, 0, from));
	return rv_generate(b->target, 0, b->prompts[prompt] + from, b->lengths[prompt] - from, sampler,
	                   &g, NULL, result);
}

static rv_status open_sampler(const rv_spec_bench *b, double temperature, uint64_t seed,
                              rv_sampler **out) {
	const rv_sampler_options how = {
	        .temperature = temperature, .top_p = 1, .repeat_penalty = 1, .seed = seed};
	return rv_sampler_create(out, &how, rv_model_hparams(b->target_model)->n_vocab);
}

rv_status rv_spec_bench_read(const rv_spec_bench *b, rv_speculator *s, int prompt) {
	rv_generate_result result;
	rv_sampler *sampler;
	RV_TRY(open_sampler(b, 0, 0, &sampler));
	rv_status status = s ? rv_speculator_reset(s) : RV_OK;
	/* 3 tokens: the second one has a draft, for which its model reads the prompt */
	if (status == RV_OK)
		status = generate(b, s, sampler, prompt, 0, 3, NULL, &result);
	rv_sampler_destroy(sampler);
	return status;
}

rv_status rv_spec_bench_decode(const rv_spec_bench *b, rv_speculator *s, double temperature, int prompt,
                               uint64_t seed, rv_spec_text *out, double *ns) {
	rv_generate_result r = {0};
	rv_sampler *sampler;
	if (out)
		*out = (rv_spec_text){.n = 0};
	RV_TRY(open_sampler(b, temperature, seed, &sampler));
	rv_status status =
	        generate(b, s, sampler, prompt, b->lengths[prompt] - 1, b->n_tokens, out, &r);
	rv_sampler_destroy(sampler);
	*ns = (double)(r.prompt_ns + r.generate_ns - r.first_token_ns);
	return status;
}

/* ---- costs ---- */

static rv_status time_steps(rv_context *target, rv_context *draft, const int32_t *tokens, int k,
                            int n_times, double *draft_cost, double *verify_cost) {
	rv_draft_options o = rv_draft_defaults();
	rv_draft_times times;
	o.k = k;
	o.chunk = RV_SPEC_BENCH_DEPTH;
	RV_TRY(rv_draft_time_steps(target, draft, tokens, 2 * RV_SPEC_BENCH_DEPTH, &o, n_times,
	                           &times));
	*draft_cost = times.draft_ratio;
	*verify_cost = times.verify_ratio;
	return RV_OK;
}

rv_status rv_spec_bench_costs(const rv_spec_bench *b, int k, int n_times, rv_spec_costs *out) {
	return time_steps(b->target, b->draft, b->stretch, k, n_times, &out->draft, &out->verify[k]);
}

rv_status rv_spec_medium_costs(const rv_run_config *c, rv_spec_costs *out) {
	static const char *const presets[] = {"medium", "small"};
	rv_model *models[2] = {NULL, NULL};
	rv_context *ctx[2] = {NULL, NULL};
	int32_t tokens[2 * RV_SPEC_BENCH_DEPTH];
	rv_status status = RV_OK;
	for (int i = 0; i < 2 && status == RV_OK; i++) {
		char path[4096];
		status = rv_lab_synth(c, presets[i], "Q4_K_M", c->seed, path, sizeof path);
		if (status == RV_OK)
			status = rv_model_open(&models[i], path, NULL);
		if (status == RV_OK)
			status = open_context(c, models[i], &ctx[i]);
	}
	if (status == RV_OK)
		rv_random_tokens(tokens, 2 * RV_SPEC_BENCH_DEPTH, c->seed,
		                 rv_model_hparams(models[0])->n_vocab);
	for (int k = 1; k <= RV_SPEC_MAX_K && status == RV_OK; k++)
		status = time_steps(ctx[0], ctx[1], tokens, k, 5, &out->draft, &out->verify[k]);
	for (int i = 1; i >= 0; i--) {
		rv_context_destroy(ctx[i]);
		rv_model_release(models[i]);
	}
	return status;
}

/* Bytes of the weights of a step, by shape: all but the embedding, of which the head is as large. */
static double step_bytes(const char *preset) {
	const rv_hparams *hp = &rv_preset_by_name(preset)->hp;
	double d = (double)hp->n_embd, heads = (double)((hp->n_heads + hp->n_kv_heads) * hp->head_dim);
	return (double)hp->n_layers * (2 * d * heads + 3 * d * (double)hp->n_ff) +
	       d * (double)hp->n_vocab;
}

double rv_spec_medium_bytes(void) {
	return step_bytes("small") / step_bytes("medium");
}
