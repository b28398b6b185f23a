/* ruvltra eval all: every task on one model, one after the other: one table, one result, one estimate
 * of the time that is left. Each task has a journal of its own, so that a run that was ended goes on.
 */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "cli/cmd_eval.h"

#include <stdio.h>
#include <string.h>

typedef struct every {
	rv_eval_whole whole;
	rv_eval_work *works; /* [n], of which the first holds what all share */
	rv_eval_outcome *outcomes;
	int n;
} every;

/* Only how tasks compare counts. A choice is read; a generated text is written token by token, each
 * about as long as reading eight; texts rarely get to their greatest length. */
double rv_eval_weight(const rv_eval_work *w) {
	const rv_eval_set *set = w->set;
	double bytes = 0, shots = 0;
	for (int64_t i = 0; i < set->n_docs; i++) {
		const rv_eval_doc *doc = &set->docs[i];
		bytes += (double)strlen(doc->text);
		for (int c = 0; c < doc->n_choices; c++)
			bytes += (double)strlen(doc->choices[c]);
		if (set->task->kind != RV_EVAL_CHOICE)
			bytes += 8 * (double)strlen(doc->target);
	}
	for (int p = 0; p < set->n_parts; p++) { /* read once a part, or with every document */
		const rv_eval_part *part = &set->parts[p];
		double all = 0;
		for (int64_t k = 0; k < part->n_shots; k++)
			all += (double)(strlen(part->shots[k].text) + strlen(part->shots[k].target));
		if (part->n_shots > 0)
			shots += all / (double)part->n_shots * (double)set->n_fewshot *
			         (set->sampled ? (double)part->n : 1);
	}
	return bytes + shots;
}

static int check_line(const rv_eval_work *w) {
	const rv_eval_args *a = &w->args;
	const struct {
		int wrong;
		const char *what;
	} rules[] = {
	        {a->judge != NULL, "--judge: of one task, humaneval, not of all"},
	        {a->k.n > 0, "--k: of one task, humaneval, not of all"},
	        {a->n_fewshot >= 0, "--fewshot: all tasks have as many as published numbers have"},
	};
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (rules[i].wrong)
			return rv_cli_usage(w->cli, "%s", rules[i].what);
	return rv_eval_check_line(w);
}

/* Everything that can be refused is, before anything is loaded. */
static int prepare(every *e, const rv_eval_work *common) {
	for (int i = 0; i < e->n; i++) {
		rv_eval_work *w = &e->works[i];
		*w = *common;
		w->task = rv_eval_tasks[i];
		w->whole = &e->whole;
		int status = i == 0 ? check_line(w) : RV_CLI_GO;
		if (status != RV_CLI_GO)
			return status;
		if (rv_eval_check_files(w) != RV_OK || rv_eval_read_data(w) != RV_OK ||
		    rv_eval_check_sandbox(w) != RV_OK)
			return rv_cli_fail(w->cli);
		e->whole.n_all += w->set->n_docs;
		e->whole.weight_all += rv_eval_weight(w);
	}
	return RV_CLI_GO;
}

/* One task after the other, with the first one's model. */
static int ask(every *e) {
	rv_progress progress;
	int status = rv_eval_load_model(&e->works[0]);
	rv_progress_init(&progress, stderr, "all");
	e->whole.start_ns = rv_now_ns();
	for (int i = 0; status == RV_CLI_GO && i < e->n; i++) {
		rv_eval_work *w = &e->works[i];
		w->model = e->works[0].model;
		w->answerer.scorer = e->works[0].answerer.scorer;
		memcpy(w->model_sha256, e->works[0].model_sha256, sizeof w->model_sha256);
		w->progress = progress;
		w->start_ns = rv_now_ns();
		e->whole.begun = 0;
		status = rv_eval_ask(w);
		progress = w->progress;
		e->whole.n_before += w->set->n_docs;
		e->whole.weight_before += rv_eval_weight(w);
		w->seconds = 1e-9 * (double)(rv_now_ns() - w->start_ns);
	}
	return status;
}

static rv_status collect(every *e, json_t **result) {
	for (int i = 0; i < e->n; i++) {
		json_t *one;
		RV_TRY(rv_eval_outcome_of(&e->works[i], &e->outcomes[i]));
		RV_TRY(rv_eval_work_result(&e->works[i], &e->outcomes[i], &one));
		RV_TRY(rv_eval_merge_result(result, e->works[i].task->name, one));
	}
	return RV_OK;
}

static int print(const every *e, const json_t *result) {
	char *table;
	if (rv_eval_table(e->outcomes, e->n, &table) != RV_OK)
		return rv_cli_fail(e->works->cli);
	rv_eval_print_head(e->works, result, "each task's own");
	fputs(table, stdout);
	rv_free(table);
	for (int i = 0; i < e->n; i++) {
		printf("\n%s\n", e->works[i].task->name);
		rv_eval_print_notes(
		        &e->works[i],
		        json_object_get(json_object_get(json_object_get(result, "ruvltra"), "tasks"),
		                        e->works[i].task->name));
	}
	return rv_cli_finish(e->works->cli);
}

static int finish(every *e) {
	const rv_eval_work *w = e->works;
	json_t *result = NULL;
	int status;
	if (collect(e, &result) != RV_OK ||
	    (w->args.samples != NULL &&
	     rv_eval_write_samples(e->outcomes, e->n, w->args.samples) != RV_OK) ||
	    (w->args.out != NULL && rv_json_write(w->args.out, result) != RV_OK))
		status = rv_cli_fail(w->cli);
	else
		status = w->cli->common.json ? rv_cli_finish_json(w->cli, json_incref(result))
		                             : print(e, result);
	json_decref(result);
	return status;
}

int rv_eval_all(const rv_eval_work *common) {
	every e = {0};
	while (rv_eval_tasks[e.n] != NULL)
		e.n++;
	if (RV_ALLOC(&e.works, e.n, "tasks") != RV_OK ||
	    RV_ALLOC(&e.outcomes, e.n, "outcomes") != RV_OK) {
		rv_free(e.works);
		return rv_cli_fail(common->cli);
	}
	int status = prepare(&e, common);
	if (status == RV_CLI_GO)
		status = ask(&e);
	if (status == RV_CLI_GO)
		status = finish(&e);
	for (int i = 0; i < e.n; i++) {
		rv_eval_outcome_clear(&e.outcomes[i]);
		rv_eval_work_clear(&e.works[i]);
	}
	rv_scorer_destroy(e.works[0].answerer.scorer);
	rv_cli_close_load(&e.works[0].load, e.works[0].model);
	rv_free(e.outcomes);
	rv_free(e.works);
	return status;
}
