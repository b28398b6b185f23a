/* MMLU (Hendrycks et al. 2020): 57 subjects, four choices. In the harness's two forms: `mmlu` lists the
 * choices and asks for the letter of the right one, after five shots; `mmlu_continuation` asks for the
 * choice itself, which a model may know that cannot read a lettered list. */
#include "base/mem.h"
#include "eval/python_text.h"
#include "eval/task.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_CHOICES 4
#define N_DEV 5 /* examples of a subject in the published set */
#define TEST_SUFFIX "_test.csv"

/* X(subject, group, documents of the published test split) */
/* clang-format off */
#define SUBJECTS(X) \
	X(abstract_algebra, stem, 100) X(anatomy, stem, 135) X(astronomy, stem, 152) \
	X(business_ethics, other, 100) X(clinical_knowledge, other, 265) X(college_biology, stem, 144) \
	X(college_chemistry, stem, 100) X(college_computer_science, stem, 100) \
	X(college_mathematics, stem, 100) X(college_medicine, other, 173) X(college_physics, stem, 102) \
	X(computer_security, stem, 100) X(conceptual_physics, stem, 235) \
	X(econometrics, social_sciences, 114) X(electrical_engineering, stem, 145) \
	X(elementary_mathematics, stem, 378) X(formal_logic, humanities, 126) X(global_facts, other, 100) \
	X(high_school_biology, stem, 310) X(high_school_chemistry, stem, 203) \
	X(high_school_computer_science, stem, 100) X(high_school_european_history, humanities, 165) \
	X(high_school_geography, social_sciences, 198) \
	X(high_school_government_and_politics, social_sciences, 193) \
	X(high_school_macroeconomics, social_sciences, 390) X(high_school_mathematics, stem, 270) \
	X(high_school_microeconomics, social_sciences, 238) X(high_school_physics, stem, 151) \
	X(high_school_psychology, social_sciences, 545) X(high_school_statistics, stem, 216) \
	X(high_school_us_history, humanities, 204) X(high_school_world_history, humanities, 237) \
	X(human_aging, other, 223) X(human_sexuality, social_sciences, 131) \
	X(international_law, humanities, 121) X(jurisprudence, humanities, 108) \
	X(logical_fallacies, humanities, 163) X(machine_learning, stem, 112) X(management, other, 103) \
	X(marketing, other, 234) X(medical_genetics, other, 100) X(miscellaneous, other, 783) \
	X(moral_disputes, humanities, 346) X(moral_scenarios, humanities, 895) X(nutrition, other, 306) \
	X(philosophy, humanities, 311) X(prehistory, humanities, 324) \
	X(professional_accounting, other, 282) X(professional_law, humanities, 1534) \
	X(professional_medicine, other, 272) X(professional_psychology, social_sciences, 612) \
	X(public_relations, social_sciences, 110) X(security_studies, social_sciences, 245) \
	X(sociology, social_sciences, 201) X(us_foreign_policy, social_sciences, 100) \
	X(virology, other, 166) X(world_religions, humanities, 171)
/* clang-format on */

typedef struct subject {
	const char *name, *group;
	int64_t n;
} subject;
static const subject subjects[] = {
#define ROW(name, group, n) {#name, #group, n},
        SUBJECTS(ROW)
#undef ROW
};
#define N_SUBJECTS (sizeof subjects / sizeof *subjects)

static const subject *subject_by_name(const char *name) {
	for (size_t i = 0; i < N_SUBJECTS; i++)
		if (strcmp(subjects[i].name, name) == 0)
			return &subjects[i];
	return NULL;
}

/* ---- rows ---- */

static const char *const letters[N_CHOICES] = {"A", "B", "C", "D"};

typedef struct rows {
	rv_eval_set *set;
	const char *file, *subject;
	int64_t n;
} rows;

static int by_letter(const rv_eval_set *set) {
	return set->task == &rv_eval_task_mmlu;
}

/* The row's question as it is asked, and which choice answers it. */
static rv_status read_row(rows *r, char *const *f, size_t line, const char **text, int *gold) {
	static const char *const names[] = {"question", "choice A", "choice B",
	                                    "choice C", "choice D", "answer"};
	int64_t doc = r->n++;
	for (int i = 0; i < N_CHOICES + 2; i++)
		RV_TRY(rv_eval_check_field(r->file, line, doc, names[i], f[i]));
	const char *answer = f[N_CHOICES + 1];
	*gold = answer[0] - 'A';
	if (answer[1] != '\0' || *gold < 0 || *gold >= N_CHOICES)
		return rv_fail(RV_ERR_FORMAT,
		               "%s:%zu: document %lld: answer '%.32s' is none of A, B, C, D", r->file,
		               line, (long long)doc, answer);
	size_t len = strlen(f[0]);
	const char *question = rv_python_strip(f[0], &len);
	if (!by_letter(r->set))
		return rv_eval_format(r->set, text, "Question: %.*s\nAnswer:", (int)len, question);
	return rv_eval_format(r->set, text, "%.*s\nA. %s\nB. %s\nC. %s\nD. %s\nAnswer:", (int)len,
	                      question, f[1], f[2], f[3], f[4]);
}

static rv_status add_shot(void *user, char *const *f, size_t line) {
	rows *r = user;
	const char *text;
	int gold;
	RV_TRY(read_row(r, f, line, &text, &gold));
	const char *target = letters[gold];
	if (!by_letter(r->set))
		RV_TRY(rv_eval_format(r->set, &target, "%s", f[1 + gold]));
	return rv_eval_add_shot(r->set, text, target);
}

static rv_status copy_choices(rv_eval_set *set, char *const *texts, const char *const **out) {
	const char **copies;
	RV_TRY(rv_arena_alloc(set->arena, (void **)&copies, N_CHOICES * sizeof *copies));
	for (int i = 0; i < N_CHOICES; i++)
		RV_TRY(rv_eval_format(set, &copies[i], "%s", texts[i]));
	*out = copies;
	return RV_OK;
}

static rv_status add_doc(void *user, char *const *f, size_t line) {
	static const char truth[N_CHOICES][N_CHOICES] = {{1}, {0, 1}, {0, 0, 1}, {0, 0, 0, 1}};
	rows *r = user;
	rv_eval_doc doc = {.choices = letters, .n_choices = N_CHOICES};
	int gold;
	RV_TRY(read_row(r, f, line, &doc.text, &gold));
	if (!rv_eval_counts_doc(r->set))
		return RV_OK;
	doc.truth = truth[gold];
	if (!by_letter(r->set))
		RV_TRY(copy_choices(r->set, f + 1, &doc.choices));
	RV_TRY(rv_eval_format(r->set, &doc.target, "%d", gold));
	doc.source = json_pack("{s:s, s:s, s:[s, s, s, s], s:i}", "question", f[0], "subject",
	                       r->subject, "choices", f[1], f[2], f[3], f[4], "answer", gold);
	return rv_eval_add_doc(r->set, &doc);
}

/* ---- subjects ---- */

static rv_status read_part(rv_eval_set *set, const char *name) {
	const subject *known = subject_by_name(name);
	const char *part, *spaced, *description, *test, *dev;
	RV_TRY(rv_eval_format(set, &part, "mmlu_%s%s", name, by_letter(set) ? "" : "_continuation"));
	RV_TRY(rv_eval_format(set, &spaced, "%s", name));
	for (char *c = (char *)(uintptr_t)spaced; *c != '\0'; c++)
		*c = *c == '_' ? ' ' : *c;
	RV_TRY(rv_eval_format(set, &description,
	                      "The following are %squestions (with answers) about %s.\n\n",
	                      by_letter(set) ? "multiple choice " : "", spaced));
	RV_TRY(rv_eval_add_part(set, part, name, known != NULL ? known->group : NULL, description));

	RV_TRY(rv_eval_format(set, &test, "test/%s" TEST_SUFFIX, name));
	RV_TRY(rv_eval_format(set, &dev, "dev/%s_dev.csv", name));
	rows r = {.set = set, .subject = name};
	RV_TRY(rv_eval_format(set, &r.file, "%s/%s", set->data.folder, test));
	RV_TRY(rv_eval_read_csv(set, test, NULL, N_CHOICES + 2, add_doc, &r));
	if (set->n_fewshot == 0 && !rv_eval_has_file(set, dev))
		return RV_OK;
	r.n = 0;
	RV_TRY(rv_eval_format(set, &r.file, "%s/%s", set->data.folder, dev));
	return rv_eval_read_csv(set, dev, NULL, N_CHOICES + 2, add_shot, &r);
}

static rv_status check_whole(rv_eval_set *set) {
	int64_t n_known = 0, n_rows = 0;
	for (int i = 0; i < set->n_parts; i++)
		n_known += subject_by_name(set->parts[i].alias) != NULL;
	if (n_known == set->n_parts)
		RV_TRY(rv_eval_check_whole(set, "subjects", n_known, N_SUBJECTS));
	else
		RV_TRY(rv_eval_check_whole(set, "subjects with others", set->n_parts, N_SUBJECTS));
	for (int i = 0; set->data.official && i < set->n_parts; i++) {
		const rv_eval_part *part = &set->parts[i];
		char what[128];
		snprintf(what, sizeof what, "documents of %.64s", part->alias);
		RV_TRY(rv_eval_check_whole(set, what, part->n_original,
		                           subject_by_name(part->alias)->n));
		snprintf(what, sizeof what, "examples of %.64s", part->alias);
		if (set->data.official && set->n_fewshot > 0)
			RV_TRY(rv_eval_check_whole(set, what, part->n_shots, N_DEV));
		n_rows += part->n_original;
	}
	if (set->data.official)
		snprintf(set->data.version, sizeof set->data.version,
		         "MMLU test split: %d subjects, %lld documents", set->n_parts,
		         (long long)n_rows);
	return RV_OK;
}

static int is_csv(const struct dirent *e) {
	size_t n = strlen(e->d_name);
	return e->d_name[0] != '.' && n > 4 && strcmp(e->d_name + n - 4, ".csv") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
	return strcmp((*a)->d_name, (*b)->d_name);
}

static rv_status read_named(rv_eval_set *set, const char *file) {
	char name[256];
	size_t n = strlen(file), suffix = sizeof TEST_SUFFIX - 1;
	if (n <= suffix || n >= sizeof name || strcmp(file + n - suffix, TEST_SUFFIX) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s/test/%s: not named <subject>" TEST_SUFFIX,
		               set->data.folder, file);
	snprintf(name, sizeof name, "%.*s", (int)(n - suffix), file);
	return read_part(set, name);
}

static rv_status read_all(rv_eval_set *set) {
	const char *folder;
	struct dirent **files;
	RV_TRY(rv_eval_format(set, &folder, "%s/test", set->data.folder));
	int n = scandir(folder, &files, is_csv, by_bytes);
	if (n < 0)
		return rv_fail_errno(RV_ERR_IO, "%s", folder);
	rv_status status = RV_OK;
	for (int i = 0; i < n; i++) {
		if (status == RV_OK)
			status = read_named(set, files[i]->d_name);
		free(files[i]);
	}
	free(files);
	return status == RV_OK ? check_whole(set) : status;
}

/* UTF-8, and not empty: it was checked when the row was read. */
static size_t count_characters(const char *text) {
	size_t n = 0;
	for (; *text != '\0'; text++)
		n += ((unsigned char)*text & 0xC0) != 0x80;
	return n;
}

/* acc, then acc_norm: a long choice is not less likely for being long, so log-probabilities are taken
 * per character of the choice. */
static rv_status judge_continuation(const rv_eval_set *set, const rv_eval_doc *doc,
                                    const rv_eval_reply *reply, int m, double *value,
                                    json_t **filtered) {
	if (m == 0)
		return rv_eval_judge_accuracy(set, doc, reply, m, value, filtered);
	int best = 0;
	double best_mean = -INFINITY;
	for (int i = 0; i < reply->n; i++) {
		double mean = reply->scores[i].logprob / (double)count_characters(doc->choices[i]);
		if (mean > best_mean) {
			best_mean = mean;
			best = i;
		}
	}
	*value = doc->truth[best];
	if (filtered != NULL)
		*filtered = rv_eval_scores_json(reply);
	return RV_OK;
}

static const rv_eval_group groups[] = {{"humanities", "humanities"},
                                       {"other", "other"},
                                       {"social_sciences", "social sciences"},
                                       {"stem", "stem"},
                                       {0}};

#define COMMON                                                                                         \
	.kind = RV_EVAL_CHOICE, .folder = "mmlu", .marks = {"test"}, .dataset = "cais/mmlu",           \
	.version = 1, .groups = groups, .group_version = 2, .read = read_all

const rv_eval_task rv_eval_task_mmlu = {
        .name = "mmlu",
        COMMON,
        .n_fewshot = 5,
        .metrics = {{.name = "acc", .filter = "none"}},
        .judge = rv_eval_judge_accuracy,
};
const rv_eval_task rv_eval_task_mmlu_continuation = {
        .name = "mmlu_continuation",
        COMMON,
        .n_fewshot = 0, /* as the harness runs it unless told otherwise */
        .metrics = {{.name = "acc", .filter = "none"}, {.name = "acc_norm", .filter = "none"}},
        .judge = judge_continuation,
};
