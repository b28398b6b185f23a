/* The end of `ruvltra eval`: what is written, what is printed. */
#include "base/build_info.h"
#include "base/mem.h"
#include "base/sysinfo.h"
#include "cli/cmd_eval.h"

#include <stdio.h>
#include <string.h>

/* ---- what the result says about model and run ---- */

static json_t *model_args(const rv_eval_work *w) {
	if (w->model == NULL)
		return rv_cli_json_text(w->args.judge, strlen(w->args.judge));
	char text[8192];
	size_t n = (size_t)snprintf(
	        text, sizeof text, "model=%.4000s,n_ctx=%lld,backend=%s,kv=%s,attn=%s",
	        rv_model_path(w->model), (long long)rv_scorer_max_length(w->answerer.scorer),
	        rv_cli_backends[w->load.backend], rv_cli_kv_types[w->load.kv],
	        rv_cli_attentions[w->load.attention]);
	for (int i = 0; i < w->load.n_adapters && n < sizeof text - 512; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, ",lora=%.400s:%g",
		                      rv_adapter_path(w->load.adapters[i].adapter),
		                      w->load.adapters[i].scale);
	return rv_cli_json_text(text, n);
}

/* Their checksums and scales; NULL: none, or out of memory. */
static json_t *adapters_json(const rv_eval_work *w) {
	json_t *all = w->load.n_adapters > 0 ? json_array() : NULL;
	for (int i = 0; i < w->load.n_adapters; i++) {
		const rv_adapter_use *use = &w->load.adapters[i];
		char sha256[65];
		if (rv_file_sha256(rv_adapter_path(use->adapter), sha256) != RV_OK)
			sha256[0] = '\0';
		json_array_append_new(all,
		                      json_pack("{s:s, s:f}", "sha256", sha256, "scale", use->scale));
	}
	return all;
}

json_t *rv_eval_identity(const rv_eval_work *w) {
	const rv_eval_set *set = w->set;
	json_t *id = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:f}", "task", set->task->name,
	                       "program", rv_build_version(), "commit", rv_build_commit(),
	                       "data_sha256", set->data.sha256, "fewshot", (json_int_t)set->n_fewshot,
	                       "limit", (json_int_t)set->limit, "task_version", set->task->version);
	if (id != NULL && set->max_tokens > 0)
		json_object_set_new(id, "max_tokens", json_integer(set->max_tokens));
	if (id == NULL || w->model == NULL)
		return id;
	json_object_set_new(id, "model_sha256", json_string(w->model_sha256));
	json_object_set_new(id, "ctx", json_integer(rv_scorer_max_length(w->answerer.scorer)));
	json_object_set_new(id, "backend", json_string(rv_cli_backends[w->load.backend]));
	json_object_set_new(id, "kv", json_string(rv_cli_kv_types[w->load.kv]));
	json_object_set_new(id, "attn", json_string(rv_cli_attentions[w->load.attention]));
	if (w->load.n_adapters > 0)
		json_object_set_new(id, "adapters", adapters_json(w));
	return id;
}

static json_t *config_json(const rv_eval_work *w) {
	json_t *c = json_pack("{s:s, s:o, s:o, s:n, s:s, s:n, s:i, s:n, s:I, s:n, s:n, s:i}", "model",
	                      w->model ? "ruvltra" : "samples", "model_args", model_args(w), "limit",
	                      w->set->limit ? json_integer(w->set->limit) : json_null(), "gen_kwargs",
	                      "device", "cpu", "use_cache", "bootstrap_iters", 0, "model_revision",
	                      "random_seed", (json_int_t)w->cli->common.seed, "numpy_seed",
	                      "torch_seed", "fewshot_seed", 1234);
	if (c == NULL || w->model == NULL)
		return c;
	json_object_set_new(c, "batch_size", json_integer(w->load.n_batch));
	json_object_set_new(c, "model_num_parameters", json_integer(rv_model_n_params(w->model)));
	json_object_set_new(c, "model_dtype", json_string(rv_model_type_name(w->model)));
	json_object_set_new(c, "model_sha", json_string(w->model_sha256));
	return c;
}

/* [text, id] as the harness has it. */
static json_t *token_json(const rv_tokenizer *tok, int32_t id) {
	if (id < 0)
		return json_null();
	rv_str entry = rv_tokenizer_entry(tok, id);
	return json_pack("[o, o]", rv_json_text(entry.data, entry.len), json_sprintf("%d", (int)id));
}

static json_t *members_json(const rv_eval_work *w) {
	const char *path = w->model ? rv_model_path(w->model) : w->args.judge;
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	json_t *clean = rv_json_text(path, strlen(path)), *last = rv_json_text(name, strlen(name));
	json_t *m = json_pack("{s:s, s:o, s:o}", "model_source", w->model ? "ruvltra" : "samples",
	                      "model_name", clean, "model_name_sanitized", last);
	if (m == NULL || w->model == NULL)
		return m;
	const rv_tokenizer *tok = rv_model_tokenizer(w->model);
	json_object_set_new(m, "tokenizer_pad_token", json_null());
	json_object_set_new(m, "tokenizer_eos_token", token_json(tok, rv_tokenizer_eos(tok)));
	json_object_set_new(m, "tokenizer_bos_token", token_json(tok, rv_tokenizer_bos(tok)));
	json_object_set_new(m, "eot_token_id", json_integer(rv_tokenizer_eos(tok)));
	json_object_set_new(m, "max_length", json_integer(rv_scorer_max_length(w->answerer.scorer)));
	return m;
}

static json_t *own_json(const rv_eval_work *w) {
	json_t *own = json_pack("{s:s, s:I, s:I, s:{s:f, s:f}}", "version", rv_build_version(),
	                        "threads", (json_int_t)w->cli->common.threads, "resumed_documents",
	                        (json_int_t)w->info.n_resumed, "seconds", "model", w->info.ask_s,
	                        "programs", w->info.judge_s);
	json_object_set_new(own, "run", rv_eval_identity(w));
	if (w->model != NULL) {
		rv_scorer_counts c = w->counts;
		json_object_set_new(own, "tokens",
		                    json_pack("{s:I, s:I, s:I}", "evaluated",
		                              (json_int_t)(c.n_evaluated - w->before.n_evaluated),
		                              "without_sharing",
		                              (json_int_t)(c.n_requested - w->before.n_requested),
		                              "parallel_continuations", (json_int_t)c.n_parallel));
	}
	if (w->shortened)
		json_object_set_new(own, "shortened_from", json_integer(w->task->max_tokens));
	if (w->task->kind == RV_EVAL_CODE) {
		json_object_set_new(own, "isolation", json_string(w->info.isolation));
		json_object_set_new(own, "completions_beyond_limit", json_integer(w->n_skipped));
	}
	return own;
}

rv_status rv_eval_work_result(const rv_eval_work *w, const rv_eval_outcome *o, json_t **out) {
	rv_eval_about about = {.config = config_json(w),
	                       .members = members_json(w),
	                       .own = own_json(w),
	                       .start_unix_s = w->start_unix_s,
	                       .seconds = w->seconds > 0 ? w->seconds
	                                                 : 1e-9 * (double)(rv_now_ns() - w->start_ns)};
	rv_status status = rv_eval_result_json(o, &about, out);
	json_decref(about.config);
	json_decref(about.members);
	json_decref(about.own);
	return status;
}

/* ---- on stdout ---- */

void rv_eval_print_notes(const rv_eval_work *w, const json_t *own) {
	const rv_eval_data *d = &w->set->data;
	printf("data: %s, %s\n", d->folder, d->version);
	if (w->task->kind == RV_EVAL_CHOICE)
		printf("chance: %.4f\n", rv_eval_chance(w->set));
	if (d->shots[0] != '\0')
		printf("shots: %s\n", d->shots);
	if (w->set->limit > 0)
		printf("limit: the first %lld documents of each part\n", (long long)w->set->limit);
	json_int_t n =
	        json_integer_value(json_object_get(json_object_get(own, "truncated"), "documents"));
	if (n > 0)
		printf("truncated: the contexts of %lld documents were too long, their beginning is "
		       "left "
		       "out\n",
		       (long long)n);
	n = json_integer_value(json_object_get(own, "unfinished"));
	if (w->shortened)
		printf("shortened: the context has room for texts of %lld tokens, the task has %lld\n",
		       (long long)w->set->max_tokens, (long long)w->task->max_tokens);
	if (n > 0)
		printf("unfinished: %lld texts ended by their greatest length\n", (long long)n);
	if (w->task->kind == RV_EVAL_CODE)
		printf("isolation: %s\n", json_string_value(json_object_get(own, "isolation")));
}

void rv_eval_print_head(const rv_eval_work *w, const json_t *result, const char *num_fewshot) {
	const json_t *config = json_object_get(result, "config");
	char limit[32] = "None";
	if (w->set->limit > 0)
		snprintf(limit, sizeof limit, "%lld", (long long)w->set->limit);
	char batch[32] = "None";
	if (w->model != NULL)
		snprintf(batch, sizeof batch, "%lld", (long long)w->load.n_batch);
	printf("%s (%s), gen_kwargs: (None), limit: %s, num_fewshot: %s, batch_size: %s\n",
	       json_string_value(json_object_get(config, "model")),
	       json_string_value(json_object_get(config, "model_args")), limit, num_fewshot, batch);
}

static int print_text(const rv_eval_work *w, const rv_eval_outcome *o, const json_t *result) {
	char *table, shots[32];
	if (rv_eval_table(o, 1, &table) != RV_OK)
		return rv_cli_fail(w->cli);
	snprintf(shots, sizeof shots, "%lld", (long long)w->set->n_fewshot);
	rv_eval_print_head(w, result, shots);
	fputs(table, stdout);
	rv_free(table);
	putchar('\n');
	rv_eval_print_notes(w, json_object_get(result, "ruvltra"));
	return rv_cli_finish(w->cli);
}

/* ---- all of it ---- */

static int finish_with(rv_eval_work *w, const rv_eval_outcome *o) {
	json_t *result = NULL;
	if (w->args.samples != NULL && rv_eval_write_samples(o, 1, w->args.samples) != RV_OK)
		return rv_cli_fail(w->cli);
	if (rv_eval_work_result(w, o, &result) != RV_OK)
		return rv_cli_fail(w->cli);
	if (w->args.out != NULL && rv_json_write(w->args.out, result) != RV_OK) {
		json_decref(result);
		return rv_cli_fail(w->cli);
	}
	if (w->cli->common.json)
		return rv_cli_finish_json(w->cli, result);
	int status = print_text(w, o, result);
	json_decref(result);
	return status;
}

rv_status rv_eval_outcome_of(const rv_eval_work *w, rv_eval_outcome *o) {
	double *values = NULL;
	*o = (rv_eval_outcome){.set = w->set, .replies = w->replies};
	RV_TRY(rv_eval_values(w->set, w->replies, &values));
	o->values = values;
	return rv_eval_aggregate(w->set, values, &o->scores);
}

void rv_eval_outcome_clear(rv_eval_outcome *o) {
	rv_eval_scores_clear(&o->scores);
	rv_free((void *)(uintptr_t)o->values);
}

int rv_eval_finish(rv_eval_work *w) {
	rv_eval_outcome o;
	int status = rv_eval_outcome_of(w, &o) == RV_OK ? finish_with(w, &o) : rv_cli_fail(w->cli);
	rv_eval_outcome_clear(&o);
	return status;
}
