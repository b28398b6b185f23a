/* ruvltra bank add and search: what reads text and vectors. */
#include "cli/cmd_bank.h"

#include "base/file.h"
#include "base/jsonl.h"
#include "base/mem.h"
#include "cli/cli_model.h"

#include <stdio.h>
#include <string.h>

/* ---- text to vectors ---- */

/* Vectors of two embedders do not compare: the bank remembers whose it holds. */
static rv_status open_embedder(rv_bank_job *j) {
	char shipped[4096], hex[65];
	const char *path = j->model;
	if (j->embedder != NULL)
		return RV_OK;
	if (path == NULL) {
		RV_TRY(rv_cli_shipped("models/embedder.gguf", shipped, sizeof shipped));
		path = shipped;
	}
	rv_embedder_options o = rv_embedder_defaults();
	rv_model_options how = rv_model_defaults();
	rv_model *model = NULL;
	o.threads = j->threads;
	o.log = how.log = rv_cli_log();
	RV_TRY(rv_file_sha256(path, hex));
	hex[16] = 0;
	RV_TRY(rv_bank_bind_embedder(j->bank, hex));
	RV_TRY(rv_model_open(&model, path, &how));
	rv_status st = rv_embedder_create(&j->embedder, model, &o);
	rv_model_release(model);
	return st;
}

static rv_status embed(rv_bank_job *j, const char *text, float *out) {
	RV_TRY(open_embedder(j));
	return rv_embed_text(j->embedder, text, strlen(text), out);
}

/* ---- add ---- */

typedef struct adding {
	rv_bank_job *job;
	rv_trajectory *items;
	float **embeddings; /* made here; NULL where the item has its own */
	int64_t n, cap;
} adding;

static rv_status push(adding *a, const rv_trajectory *t) {
	if (a->n == a->cap) {
		int64_t cap = a->cap ? 2 * a->cap : 64;
		RV_TRY(RV_GROW(&a->items, a->cap, cap, "trajectories"));
		RV_TRY(RV_GROW(&a->embeddings, a->cap, cap, "embeddings"));
		a->cap = cap;
	}
	rv_trajectory *item = &a->items[a->n];
	*item = *t;
	a->n++;
	if (t->embedding != NULL || t->query_embedding != NULL || t->n_states > 0)
		return RV_OK;
	float *x = NULL;
	RV_TRY(RV_ALLOC(&x, RV_EMBEDDING_DIM, "embedding"));
	a->embeddings[a->n - 1] = x;
	item->embedding = x;
	return embed(a->job, t->task, x);
}

static rv_status add_line(void *user, json_t *row, size_t line) {
	adding *a = user;
	char place[280];
	rv_trajectory t = rv_trajectory_defaults();
	snprintf(place, sizeof place, "%.250s:%zu", a->job->args->file, line);
	RV_TRY(rv_trajectory_from_json(row, place, &t));
	int64_t before = a->n;
	rv_status st = t.embedder ? rv_bank_bind_embedder(a->job->bank, t.embedder) : RV_OK;
	if (st == RV_OK)
		st = push(a, &t);
	if (a->n == before) /* not the list's */
		rv_trajectory_deinit(&t);
	return st == RV_OK ? RV_OK : rv_fail_in(st, place);
}

static rv_status add_text(adding *a) {
	const rv_bank_args *args = a->job->args;
	const rv_action action = {args->action ? args->action : "answer", (float)args->quality};
	rv_trajectory t = rv_trajectory_defaults();
	json_t *metadata = NULL;
	t.task = a->job->word;
	t.actions = &action;
	t.n_actions = 1;
	t.final_quality = (float)args->quality;
	t.verdict = args->verdict == RV_BANK_ANY_VERDICT ? RV_VERDICT_UNKNOWN
	                                                 : (rv_trajectory_verdict)args->verdict;
	t.metadata = args->metadata;
	if (t.metadata != NULL) {
		RV_TRY(rv_json_parse(t.metadata, strlen(t.metadata), "--metadata", &metadata));
		int is_object = json_is_object(metadata);
		json_decref(metadata);
		if (!is_object)
			return rv_fail(RV_ERR_FORMAT, "--metadata: not a JSON object");
	}
	RV_TRY(push(a, &t));
	char id[1][RV_UUID_TEXT];
	RV_TRY(rv_bank_add(a->job->bank, a->items, 1, id));
	memcpy(a->items[0].trajectory_id, id[0], RV_UUID_TEXT);
	return RV_OK;
}

static rv_status add_file(adding *a) {
	char(*ids)[RV_UUID_TEXT] = NULL;
	RV_TRY(rv_jsonl_read(a->job->args->file, add_line, a));
	RV_TRY(RV_ALLOC(&ids, a->n, "ids"));
	rv_status st = rv_bank_add(a->job->bank, a->items, a->n, ids);
	for (int64_t i = 0; i < a->n && st == RV_OK; i++)
		memcpy(a->items[i].trajectory_id, ids[i], RV_UUID_TEXT);
	rv_free(ids);
	return st;
}

static int report_added(const rv_cli *cli, const adding *a) {
	if (!cli->common.json) {
		for (int64_t i = 0; i < a->n; i++)
			printf("%s\n", a->items[i].trajectory_id);
		return rv_cli_finish(cli);
	}
	json_t *ids = json_array();
	for (int64_t i = 0; i < a->n; i++)
		json_array_append_new(ids, json_string(a->items[i].trajectory_id));
	return rv_cli_finish_json(cli, json_pack("{s:I, s:o}", "n", (json_int_t)a->n, "ids", ids));
}

int rv_bank_run_add(rv_bank_job *j) {
	adding a = {.job = j};
	rv_status st = j->args->file ? add_file(&a) : add_text(&a);
	int status = st == RV_OK ? report_added(j->cli, &a) : rv_cli_fail(j->cli);
	for (int64_t i = 0; i < a.n; i++) {
		rv_free(a.embeddings[i]);
		if (j->args->file)
			rv_trajectory_deinit(&a.items[i]);
	}
	rv_free(a.items);
	rv_free(a.embeddings);
	return status;
}

/* ---- search ---- */

static rv_status read_vector(const char *path, float *out) {
	json_t *array = NULL;
	RV_TRY(rv_json_read(path, 1 << 20, &array));
	rv_status st = RV_OK;
	if (json_array_size(array) != RV_EMBEDDING_DIM)
		st = rv_fail(RV_ERR_FORMAT, "%s: not an array of %d numbers", path, RV_EMBEDDING_DIM);
	for (size_t i = 0; i < RV_EMBEDDING_DIM && st == RV_OK; i++) {
		const json_t *item = json_array_get(array, i);
		out[i] = (float)json_number_value(item);
		if (!json_is_number(item))
			st = rv_fail(RV_ERR_FORMAT, "%s: item %zu is no number", path, i);
	}
	json_decref(array);
	return st;
}

static json_t *hit_json(const rv_bank_hit *hit, const rv_trajectory *t) {
	return json_pack("{s:s, s:o, s:o, s:o, s:s, s:s, s:I, s:o}", "trajectory_id",
	                 hit->trajectory_id, "similarity", rv_cli_json_real((double)hit->similarity),
	                 "quality", rv_cli_json_real((double)hit->quality), "weight",
	                 rv_cli_json_real((double)hit->weight), "verdict",
	                 rv_trajectory_verdict_name(hit->verdict), "source",
	                 rv_source_name(hit->source), "created_at", (json_int_t)hit->created_at, "task",
	                 rv_cli_json_text(t->task, strlen(t->task)));
}

/* A line: similarity, decayed quality, id, task; tabs and line feeds of the task as blanks. */
static void print_hit(const rv_bank_hit *hit, const rv_trajectory *t) {
	printf("%.4f\t%.4f\t%s\t", (double)hit->similarity, (double)hit->quality, hit->trajectory_id);
	for (const char *c = t->task; *c != 0; c++)
		putchar((unsigned char)*c < ' ' || *c == 0x7f ? ' ' : *c);
	putchar('\n');
}

static rv_status show_hits(const rv_bank_job *j, const rv_bank_hit *hits, int64_t n, json_t *list) {
	for (int64_t i = 0; i < n; i++) {
		rv_trajectory t;
		RV_TRY(rv_bank_get(j->bank, hits[i].trajectory_id, &t));
		if (list != NULL)
			json_array_append_new(list, hit_json(&hits[i], &t));
		else
			print_hit(&hits[i], &t);
		rv_trajectory_deinit(&t);
	}
	return RV_OK;
}

static rv_status search(rv_bank_job *j, rv_bank_hit *hits, int64_t *n) {
	const rv_bank_args *args = j->args;
	float query[RV_EMBEDDING_DIM];
	rv_bank_query how = rv_bank_query_defaults();
	how.k = args->k;
	how.min_quality = (float)args->min_quality;
	how.verdicts = args->verdict == RV_BANK_ANY_VERDICT ? 0 : 1u << args->verdict;
	how.order = args->by_score ? RV_BANK_BY_SCORE : RV_BANK_BY_SIMILARITY;
	RV_TRY(args->file ? read_vector(args->file, query) : embed(j, j->word, query));
	return rv_bank_search(j->bank, query, &how, hits, n);
}

int rv_bank_run_search(rv_bank_job *j) {
	rv_bank_hit *hits = NULL;
	int64_t n = 0;
	json_t *list = j->cli->common.json ? json_array() : NULL;
	rv_status st = RV_ALLOC(&hits, j->args->k, "hits");
	if (st == RV_OK)
		st = search(j, hits, &n);
	if (st == RV_OK)
		st = show_hits(j, hits, n, list);
	rv_free(hits);
	if (st != RV_OK) {
		json_decref(list);
		return rv_cli_fail(j->cli);
	}
	return list ? rv_cli_finish_json(j->cli, json_pack("{s:o}", "hits", list))
	            : rv_cli_finish(j->cli);
}
