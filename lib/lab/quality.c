#include "lab/quality.h"

#include "base/file.h"
#include "base/journal.h"
#include "base/lock.h"
#include "base/mem.h"
#include "eval/aggregate.h"
#include "eval/eval_run.h"
#include "eval/results.h"
#include "lab/models.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Hash of the sources that decide what a model answers; written by the Makefile. */
#if __has_include("rv_answer_code.h")
#include "rv_answer_code.h"
#else
#include "base/build_info.h"
#define RV_ANSWER_CODE rv_build_commit()
#endif

static const struct {
	const char *name;
	int metric;
} tasks[] = {
#define ROW(id, task, metric, counts) {task, metric},
        RV_QUALITY_TASKS(ROW)
#undef ROW
};

const char *rv_quality_name(rv_quality_task task) {
	return tasks[task].name;
}

/* ---- how much is asked ---- */

typedef struct scale {
	int64_t limit[RV_QUALITY_N_TASKS]; /* documents of each part; 0: all */
	int64_t mmlu_shots;                /* of the letters; -1: the task's own */
	int64_t max_tokens;                /* of a generated text */
	double max_params;                 /* of a model that is asked */
} scale;

#define SMOKE                                                                                          \
	{ {1, 4, 4, 8, 8, 1, 8}, 0, 96, 2e7 }
#define FULL                                                                                           \
	{ {0}, -1, 256, 1e12 }
static const scale scales[RV_PROFILE_COUNT][RV_QUALITY_N_DEPTHS] = {
        [RV_PROFILE_SMOKE] = {SMOKE, SMOKE},
        [RV_PROFILE_QUICK] = {{{2, 10, 10, 24, 24, 1, 24}, -1, 160, 5e7},
                              {{2, 20, 20, 40, 40, 1, 50}, -1, 160, 5e7}},
        [RV_PROFILE_FULL] = {FULL, FULL},
};

const char *rv_quality_na(rv_profile profile, rv_model *model) {
	if (rv_lab_is_synth(rv_model_gguf(model)))
		return "untrained weights";
	if (rv_model_tokenizer(model) == NULL)
		return "model has no tokenizer";
	return (double)rv_model_n_params(model) > scales[profile][RV_QUALITY_USUAL].max_params
	               ? "model too large for this profile's budget"
	               : NULL;
}

void rv_quality_settings(rv_profile profile, rv_quality_depth depth, char *out, size_t size) {
	const scale *s = &scales[profile][depth];
	size_t at = 0;
	int n = depth == RV_QUALITY_BRIEF ? RV_QUALITY_N_COUNTED : RV_QUALITY_N_TASKS;
	for (int t = 0; t < n && at < size; t++)
		if (s->limit[t] > 0)
			at += (size_t)snprintf(out + at, size - at, "%s%s %lld", at > 0 ? ", " : "",
			                       tasks[t].name, (long long)s->limit[t]);
		else
			at += (size_t)snprintf(out + at, size - at, "%s%s all", at > 0 ? ", " : "",
			                       tasks[t].name);
	int no_shots = n == RV_QUALITY_N_TASKS && s->mmlu_shots == 0;
	if (at < size)
		snprintf(out + at, size - at, " of a part%s", no_shots ? ", mmlu without shots" : "");
}

static rv_status read_set(const rv_run_config *config, rv_quality_task task, rv_quality_depth depth,
                          rv_eval_set **out) {
	const scale *s = &scales[config->profile][depth];
	char data[4096];
	snprintf(data, sizeof data, "%.4000s/datasets", config->root);
	const rv_eval_read_options o = {.data = data,
	                                .n_fewshot = task == RV_QUALITY_MMLU ? s->mmlu_shots : -1,
	                                .limit = s->limit[task],
	                                .max_tokens = s->max_tokens};
	return rv_eval_set_read(out, rv_eval_task_by_name(tasks[task].name), &o);
}

rv_status rv_quality_data_sha256(const rv_run_config *config, rv_quality_depth depth, char hex[65]) {
	char all[64 * RV_QUALITY_N_TASKS];
	for (int t = 0; t < RV_QUALITY_N_TASKS; t++) {
		rv_eval_set *set;
		RV_TRY(read_set(config, (rv_quality_task)t, depth, &set));
		memcpy(all + (size_t)64 * (size_t)t, set->data.sha256, 64);
		rv_eval_set_free(set);
	}
	rv_sha256_hex(all, sizeof all, hex);
	return RV_OK;
}

/* ---- items by content ---- */

typedef char item_key[65];

typedef struct asking {
	const rv_run_config *config;
	rv_eval_set *set;
	item_key *keys;         /* [n_docs] */
	rv_eval_reply *replies; /* [n_docs] */
	char *known;            /* [n_docs]: the journal has it */
	char path[4096];
	rv_journal *journal;
	int lock;
} asking;

/* Everything the answer to a document follows from, but the model and the code. */
static rv_status make_key(const asking *a, int64_t i, item_key key) {
	const rv_eval_doc *doc = &a->set->docs[i];
	char *context, limit[48];
	size_t len;
	json_t *content = json_array();
	RV_TRY(rv_eval_context(a->set, i, &context, &len));
	int generates = a->set->task->kind != RV_EVAL_CHOICE;
	snprintf(limit, sizeof limit, "%lld", generates ? (long long)a->set->max_tokens : 0LL);
	json_array_append_new(content, json_string(limit));
	json_array_append_new(content, rv_json_text(context, len));
	json_array_append_new(content, json_string(doc->target));
	for (int c = 0; c < doc->n_choices; c++)
		json_array_append_new(content, json_string(doc->choices[c]));
	char *text = json_dumps(content, JSON_COMPACT);
	json_decref(content);
	rv_free(context);
	if (text == NULL)
		return rv_fail(RV_ERR_NO_MEMORY, "item: out of memory");
	rv_sha256_hex(text, strlen(text), key);
	free(text);
	return RV_OK;
}

/* Of an answer kept before: to the document with the same content, where the set has it. */
static rv_status take_item(asking *a, json_t *item) {
	const char *key = json_string_value(json_object_get(item, "key"));
	if (key == NULL)
		return rv_fail(RV_ERR_FORMAT, "an item without its key");
	for (int64_t i = 0; i < a->set->n_docs; i++) {
		int verdicts = json_object_get(item, "verdicts") != NULL;
		const rv_eval_reply *r = &a->replies[i];
		if (strcmp(a->keys[i], key) != 0 || (verdicts ? r->verdicts != NULL : r->done))
			continue;
		json_object_set_new(item, "doc", json_integer(i));
		a->known[i] = 1;
		RV_TRY(rv_eval_reply_read(a->set, item, a->replies));
	}
	return RV_OK;
}

static rv_status visit(void *user, const char *payload, size_t size) {
	asking *a = user;
	json_t *items, *item;
	size_t i;
	RV_TRY(rv_json_parse(payload, size, a->path, &items));
	rv_status status = RV_OK;
	json_array_foreach(items, i, item) {
		if (status == RV_OK)
			status = take_item(a, item);
	}
	json_decref(items);
	return status;
}

static rv_status open_items(asking *a, rv_subject who) {
	char sha256[65], adapter[65] = "", identity[512], hex[65], path[4096];
	rv_journal_info info;
	rv_level level;
	RV_TRY(rv_model_sha256(who.model, sha256));
	if (who.adapter != NULL)
		RV_TRY(rv_file_sha256(rv_adapter_path(who.adapter), adapter));
	RV_TRY(rv_level_default(&level));
	snprintf(identity, sizeof identity, "%s %g %s%s %s %s", a->set->task->name,
	         a->set->task->version, sha256, adapter, rv_level_name(level), RV_ANSWER_CODE);
	rv_sha256_hex(identity, strlen(identity), hex);
	snprintf(path, sizeof path, "%.3900s/build/cache/items", a->config->root);
	RV_TRY(rv_mkdirs(path));
	snprintf(a->path, sizeof a->path, "%.3990s/%.16s-%s.journal", path, hex, a->set->task->name);
	snprintf(path, sizeof path, "%.4080s.lock", a->path);
	RV_TRY(rv_lock_take(path, &a->lock));
	return rv_journal_open(&a->journal, a->path, identity, visit, a, &info);
}

static void add_item(const asking *a, int64_t i, int verdicts, json_t *items) {
	json_t *item = rv_eval_reply_json(i, &a->replies[i], verdicts);
	json_object_set_new(item, "key", json_string(a->keys[i]));
	json_array_append_new(items, item);
}

/* What is new, in one record: also of a run that was ended. */
static rv_status keep_items(const asking *a) {
	json_t *items = json_array();
	int programs = a->set->task->kind == RV_EVAL_CODE;
	for (int64_t i = 0; i < a->set->n_docs; i++) {
		const rv_eval_reply *r = &a->replies[i];
		if (a->known[i] || !r->done || (programs && r->verdicts == NULL))
			continue;
		add_item(a, i, 0, items);
		if (programs)
			add_item(a, i, 1, items);
	}
	char *text = json_array_size(items) > 0
	                     ? json_dumps(items, JSON_COMPACT | JSON_REAL_PRECISION(17))
	                     : NULL;
	rv_status status = text != NULL ? rv_journal_append(a->journal, text, strlen(text)) : RV_OK;
	free(text);
	json_decref(items);
	return status;
}

/* ---- asking ---- */

static rv_status ask_rest(asking *a, rv_subject who) {
	const rv_run_config *c = a->config;
	rv_eval_answerer answerer = {.judge = rv_judge_defaults()};
	rv_scorer_options o = rv_scorer_defaults();
	rv_eval_run_info info;
	const rv_adapter_use use = {who.adapter, 1};
	o.context.n_threads = c->n_threads;
	o.context.adapters = &use;
	o.context.n_adapters = who.adapter != NULL;
	answerer.judge.workers = c->n_threads;
	answerer.judge.cancelled = c->cancelled;
	answerer.judge.user = c->user;
	RV_TRY(rv_scorer_create(&answerer.scorer, who.model, &o));
	rv_context_set_cancel(rv_scorer_context(answerer.scorer), c->cancelled, c->user);
	int64_t room = rv_scorer_max_length(answerer.scorer);
	if (a->set->max_tokens >= room) /* as `ruvltra eval` does */
		a->set->max_tokens = room > 1 ? room / 2 : 1;
	const rv_eval_backend backend = rv_eval_backend_of(&answerer);
	const rv_eval_run_options options = {.cancelled = c->cancelled, .user = c->user};
	rv_status status = rv_eval_run(a->set, &backend, &options, a->replies, &info);
	rv_scorer_destroy(answerer.scorer);
	if (status == RV_OK)
		return keep_items(a);
	/* the message is the run's, whatever becomes of keeping the rest */
	char message[512];
	snprintf(message, sizeof message, "%.500s", rv_error_message());
	keep_items(a);
	return rv_fail(status, "%s", message);
}

static rv_status values_of(const asking *a, int metric, rv_quality_items *out) {
	double *all;
	int64_t n = a->set->n_docs;
	RV_TRY(rv_eval_values(a->set, a->replies, &all));
	for (int64_t i = 0; i < n; i++)
		all[i] = all[i * a->set->n_metrics + metric];
	*out = (rv_quality_items){.items = {all, n, rv_eval_chance(a->set)}};
	for (int64_t i = 0; i < n; i++)
		out->n_asked += !a->known[i];
	return RV_OK;
}

static rv_status ask_set(asking *a, rv_subject who, int metric, rv_quality_items *out) {
	int64_t n = a->set->n_docs, n_known = 0;
	RV_TRY(RV_ALLOC(&a->keys, n, "items"));
	RV_TRY(RV_ALLOC(&a->replies, n, "items"));
	RV_TRY(RV_ALLOC(&a->known, n, "items"));
	for (int64_t i = 0; i < n; i++)
		RV_TRY(make_key(a, i, a->keys[i]));
	RV_TRY(open_items(a, who));
	for (int64_t i = 0; i < n; i++)
		n_known += a->known[i];
	if (n_known < n)
		RV_TRY(ask_rest(a, who));
	return values_of(a, metric, out);
}

rv_status rv_quality_ask(const rv_run_config *config, rv_subject who, rv_quality_task task,
                         rv_quality_depth depth, rv_quality_items *out) {
	asking a = {.config = config, .lock = -1};
	*out = (rv_quality_items){0};
	RV_TRY(read_set(config, task, depth, &a.set));
	rv_status status = ask_set(&a, who, tasks[task].metric, out);
	rv_journal_close(a.journal);
	rv_lock_release(a.lock);
	for (int64_t i = 0; a.replies != NULL && i < a.set->n_docs; i++)
		rv_eval_reply_clear(&a.replies[i]);
	rv_free(a.replies);
	rv_free(a.known);
	rv_free(a.keys);
	rv_eval_set_free(a.set);
	return status;
}

void rv_quality_items_free(rv_quality_items *q) {
	rv_free((void *)(uintptr_t)q->items.values);
	*q = (rv_quality_items){0};
}

/* ---- several tasks as one number ---- */

typedef struct answers {
	rv_quality_items of[RV_QUALITY_N_COUNTED];
	rv_task_items items[RV_QUALITY_N_COUNTED]; /* the same, borrowed */
} answers;

static void free_answers(answers *a) {
	for (int t = 0; t < RV_QUALITY_N_COUNTED; t++)
		rv_quality_items_free(&a->of[t]);
}

static rv_status ask_counted(const rv_run_config *config, rv_subject who, answers *a) {
	for (int t = 0; t < RV_QUALITY_N_COUNTED; t++) {
		RV_TRY(rv_quality_ask(config, who, (rv_quality_task)t, RV_QUALITY_BRIEF, &a->of[t]));
		a->items[t] = a->of[t].items;
	}
	return RV_OK;
}

/* A status that is a reason rather than a failure. */
static rv_status as_reason(rv_status status, char na[RV_REASON_BYTES]) {
	if (status != RV_ERR_NUMERIC && status != RV_ERR_UNSUPPORTED && status != RV_ERR_NOT_FOUND)
		return status;
	snprintf(na, RV_REASON_BYTES, "%.120s", rv_error_message());
	return RV_OK;
}

rv_status rv_quality_measure(const rv_run_config *config, rv_subject who, rv_subject base,
                             rv_quality *out) {
	answers own = {0}, of_base = {0};
	enum { N = RV_QUALITY_N_COUNTED };
	*out = (rv_quality){0};
	rv_status status = ask_counted(config, who, &own);
	if (status == RV_OK)
		status = ask_counted(config, base, &of_base);
	int asked = status == RV_OK;
	if (asked)
		status = rv_items_quality(own.items, N, config->seed, &out->mean);
	else
		status = as_reason(status, out->na);
	if (asked && status == RV_OK)
		status = as_reason(
		        rv_items_quality_ratio(own.items, of_base.items, N, config->seed, &out->ratio),
		        out->ratio_na);
	free_answers(&own);
	free_answers(&of_base);
	return status;
}

void rv_quality_record(rv_record *record, int metric, const rv_interval *value, const char *na) {
	const double ends[] = {value->value, value->lo95, value->hi95};
	for (int i = 0; i < 3 && na[0] == '\0'; i++)
		if (!isfinite(ends[i]))
			na = "unbounded: the base may score at chance";
	for (int i = 0; i < 3; i++)
		if (na[0] != '\0')
			rv_record_na(record, metric + i, na);
		else
			record->values[metric + i] = 100 * ends[i];
}
