#include "lab/shift_stream.h"

#include "base/csv.h"
#include "base/file.h"
#include "base/jsonl.h"
#include "base/mem.h"
#include "base/rng.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUTING "datasets/routing/"
/* The writers of the stream; those that settings were chosen by; one to be judged on, by whom nothing
 * was chosen. */
static const char *const learnt_writers[] = {"d", "f", "h", "k", "n", "p"};
static const char *const tune_writers[] = {"c", "i"}, *const held_writers[] = {"g"};
#define COUNT(a) (int)(sizeof(a) / sizeof(a)[0])
enum { PIECE = 96 }; /* tokens of a piece of a long document */
#define MAX_FILE ((size_t)64 << 20)

static const char *const domain_names[] = {
#define OLD_NAME(id, name) name,
        RV_SHIFT_OLD_DOMAINS(OLD_NAME)
#undef OLD_NAME
                "new"};

const char *rv_shift_domain_name(int domain) {
	return domain_names[domain];
}

/* ---- documents ---- */

/* Where a reader puts what it reads: documents in turn to `a` and to `b` (the same: all to one). */
typedef struct sink {
	rv_shift_stream *s;
	rv_shift_docs *a, *b;
	int64_t limit_a, limit_b; /* documents; 0: none */
	int domain, n;
	const char *file;
} sink;

static int is_full(const sink *k) {
	return k->limit_a > 0 && k->a->n >= k->limit_a && k->b->n >= k->limit_b;
}

static rv_status push(sink *k, rv_shift_doc doc) {
	const int full_a = k->limit_a > 0 && k->a->n >= k->limit_a,
	          full_b = k->limit_b > 0 && k->b->n >= k->limit_b;
	rv_shift_docs *to = (k->n++ % 2 && !full_b) || full_a ? k->b : k->a;
	if (to->n == to->cap) {
		RV_TRY(RV_GROW(&to->items, to->cap, 2 * to->cap + 64, "documents"));
		to->cap = 2 * to->cap + 64;
	}
	to->items[to->n++] = doc;
	return RV_OK;
}

static rv_status encode(rv_shift_stream *s, const char *text, size_t len, const int32_t **out,
                        int32_t *n) {
	rv_encode_options o = rv_encode_defaults();
	int32_t *ids, *kept;
	size_t count;
	o.add_bos = o.add_eos = 0;
	RV_TRY(rv_tokenizer_encode(s->tokenizer, text, len, &o, &ids, &count));
	rv_status status = rv_arena_alloc(s->arena, (void **)&kept, (count + 1) * sizeof *kept);
	if (status == RV_OK) {
		memcpy(kept, ids, count * sizeof *kept);
		kept[count] = s->end;
		*out = kept;
		*n = (int32_t)count;
	}
	rv_free(ids);
	return status;
}

/* Prompt and answer are tokens of their own, as they are while serving. The line's end is left out: it
 * stands alone at the end of a text and as half of a token elsewhere. */
static rv_status push_text(sink *k, const char *prompt, const char *answer, int agent) {
	rv_shift_stream *s = k->s;
	const int32_t *a, *b;
	int32_t n_a, n_b, *ids;
	size_t len = strlen(answer);
	while (len > 0 && answer[len - 1] == '\n')
		len--;
	RV_TRY(encode(s, prompt, strlen(prompt), &a, &n_a));
	RV_TRY(encode(s, answer, len, &b, &n_b));
	RV_TRY(rv_arena_alloc(s->arena, (void **)&ids, (size_t)(n_a + n_b + 1) * sizeof *ids));
	memcpy(ids, a, (size_t)n_a * sizeof *ids);
	memcpy(ids + n_a, b, (size_t)n_b * sizeof *ids);
	ids[n_a + n_b] = s->end;
	return push(k, (rv_shift_doc){ids, n_a + n_b, n_a, k->domain, agent});
}

static rv_status push_request(sink *k, const char *text, const char *agent, size_t agent_len) {
	char prompt[2048], answer[64];
	const int a = rv_agent_index(rv_agent_names, RV_AGENTS, agent, agent_len);
	if (a < 0)
		return rv_fail(RV_ERR_FORMAT, "%s: '%.*s' is no agent", k->file, (int)agent_len, agent);
	snprintf(prompt, sizeof prompt, "Request: %s\nAgent:", text);
	snprintf(answer, sizeof answer, " %s", rv_agent_names[a]);
	return push_text(k, prompt, answer, a);
}

/* ---- files ---- */

static rv_status path_of(char *out, size_t size, const char *root, const char *file) {
	const int n = snprintf(out, size, "%s/%s", root, file);
	return n > 0 && (size_t)n < size ? RV_OK : rv_fail(RV_ERR_LIMIT, "%s: too long a path", root);
}

/* agent TAB category TAB difficulty TAB complexity TAB text */
static rv_status read_written(sink *k, const char *root, const char *writer) {
	char path[4096], file[64], *data, *line, *rest;
	size_t size;
	snprintf(file, sizeof file, ROUTING "written_%s.tsv", writer);
	RV_TRY(path_of(path, sizeof path, root, file));
	RV_TRY(rv_file_read(path, MAX_FILE, &data, &size));
	rv_status status = RV_OK;
	k->file = path;
	(void)strtok_r(data, "\n", &rest); /* names of the columns */
	while (status == RV_OK && (line = strtok_r(NULL, "\n", &rest)) != NULL) {
		const char *text = strrchr(line, '\t'), *end = strchr(line, '\t');
		status = text != NULL ? push_request(k, text + 1, line, (size_t)(end - line))
		                      : rv_fail(RV_ERR_FORMAT, "%s: a line without TAB", path);
	}
	rv_free(data);
	return status;
}

static rv_status member(const sink *k, const json_t *row, size_t line, const char *key,
                        const char **out) {
	*out = json_string_value(json_object_get(row, key));
	return *out ? RV_OK : rv_fail(RV_ERR_FORMAT, "%s:%zu: no string '%s'", k->file, line, key);
}

static rv_status request_row(void *user, json_t *row, size_t line) {
	sink *k = user;
	const char *text, *agent;
	RV_TRY(member(k, row, line, "text", &text));
	RV_TRY(member(k, row, line, "agent", &agent));
	return is_full(k) ? RV_OK : push_request(k, text, agent, strlen(agent));
}

static rv_status gsm8k_row(void *user, json_t *row, size_t line) {
	sink *k = user;
	const char *question, *answer;
	char prompt[2048], text[2048];
	RV_TRY(member(k, row, line, "question", &question));
	RV_TRY(member(k, row, line, "answer", &answer));
	snprintf(prompt, sizeof prompt, "Question: %s\nAnswer:", question);
	snprintf(text, sizeof text, " %s", answer);
	return is_full(k) ? RV_OK : push_text(k, prompt, text, -1);
}

static rv_status humaneval_row(void *user, json_t *row, size_t line) {
	sink *k = user;
	const char *prompt, *solution;
	RV_TRY(member(k, row, line, "prompt", &prompt));
	RV_TRY(member(k, row, line, "canonical_solution", &solution));
	return is_full(k) ? RV_OK : push_text(k, prompt, solution, -1);
}

/* question, four choices, letter */
static rv_status mmlu_row(void *user, char *const *fields, size_t line) {
	char prompt[2048], text[1024];
	sink *k = user;
	const int right = fields[5][0] - 'A';
	if (right < 0 || right > 3)
		return rv_fail(RV_ERR_FORMAT, "%s:%zu: '%s' is no letter A to D", k->file, line,
		               fields[5]);
	snprintf(prompt, sizeof prompt, "Question: %s\nAnswer:", fields[0]);
	snprintf(text, sizeof text, " %s", fields[1 + right]);
	return is_full(k) || line > 2 ? RV_OK : push_text(k, prompt, text, -1);
}

static int is_csv(const struct dirent *e) {
	const char *dot = strrchr(e->d_name, '.');
	return dot != NULL && strcmp(dot, ".csv") == 0;
}

/* Two questions of each subject. */
static rv_status read_mmlu(sink *k, const char *folder) {
	struct dirent **files;
	const int n = scandir(folder, &files, is_csv, alphasort);
	rv_status status = n >= 0 ? RV_OK : rv_fail(RV_ERR_NOT_FOUND, "%s: no such folder", folder);
	for (int i = 0; i < n; i++) {
		char path[4096];
		if (status == RV_OK)
			status = path_of(path, sizeof path, folder, files[i]->d_name);
		k->file = path;
		if (status == RV_OK && !is_full(k))
			status = rv_csv_read(path, NULL, 6, mmlu_row, k);
		free(files[i]);
	}
	if (n >= 0)
		free(files);
	return status;
}

static rv_status read_longdocs(sink *k, const char *path) {
	const int32_t *ids;
	int32_t n;
	char *data;
	size_t size;
	RV_TRY(rv_file_read(path, MAX_FILE, &data, &size));
	rv_status status = encode(k->s, data, size, &ids, &n);
	rv_free(data);
	for (int32_t i = 0; status == RV_OK && i + PIECE < n && !is_full(k); i += PIECE)
		status = push(k, (rv_shift_doc){ids + i, PIECE, PIECE / 4, k->domain, -1});
	return status;
}

static rv_status read_jsonl(sink *k, const char *path, rv_jsonl_row_fn *row) {
	return rv_jsonl_read(path, row, k);
}

static const char *const old_files[RV_SHIFT_N_OLD] = {
        [RV_SHIFT_ROUTING] = ROUTING "heldout.jsonl",
        [RV_SHIFT_ARITHMETIC] = "datasets/mini-gsm8k/test.jsonl",
        [RV_SHIFT_PYTHON] = "datasets/mini-humaneval/HumanEval.jsonl",
        [RV_SHIFT_FACTS] = "datasets/mini-mmlu/test",
        [RV_SHIFT_LONGDOCS] = "datasets/longdocs/heldout.txt",
};

static rv_status read_old(rv_shift_stream *s, const char *root, int domain, rv_shift_docs *judged,
                          rv_shift_docs *replayed, const rv_shift_sizes *sizes) {
	char path[4096];
	sink k = {.s = s,
	          .a = judged,
	          .b = replayed,
	          .domain = domain,
	          .limit_a = sizes->old,
	          .limit_b = sizes->replay,
	          .file = path};
	RV_TRY(path_of(path, sizeof path, root, old_files[domain]));
	switch (domain) {
	case RV_SHIFT_ROUTING:
		return read_jsonl(&k, path, request_row);
	case RV_SHIFT_ARITHMETIC:
		return read_jsonl(&k, path, gsm8k_row);
	case RV_SHIFT_PYTHON:
		return read_jsonl(&k, path, humaneval_row);
	case RV_SHIFT_FACTS:
		return read_mmlu(&k, path);
	default:
		return read_longdocs(&k, path);
	}
}

/* ---- sets ---- */

static void shuffle(rv_shift_doc *items, int64_t n, rv_rng *rng) {
	for (int64_t i = n - 1; i > 0; i--) {
		const int64_t j = (int64_t)rv_rng_below(rng, (uint64_t)i + 1);
		const rv_shift_doc t = items[i];
		items[i] = items[j];
		items[j] = t;
	}
}

static rv_status read_writers(rv_shift_stream *s, const char *root, const char *const *writers, int n,
                              rv_shift_docs *to, int64_t limit) {
	rv_rng rng;
	sink k = {.s = s, .a = to, .b = to, .domain = RV_SHIFT_NEW};
	for (int i = 0; i < n; i++)
		RV_TRY(read_written(&k, root, writers[i]));
	rv_rng_stream(&rng, 0, 15); /* the same sample whatever the seed of the run */
	shuffle(to->items, to->n, &rng);
	to->n = limit > 0 && limit < to->n ? limit : to->n;
	return RV_OK;
}

static rv_status append(rv_shift_docs *to, const rv_shift_docs *from) {
	const int64_t n = to->n + from->n;
	RV_TRY(RV_GROW(&to->items, to->cap, n, "documents"));
	to->cap = n;
	if (from->n > 0)
		memcpy(to->items + to->n, from->items, (size_t)from->n * sizeof *from->items);
	to->n = n;
	return RV_OK;
}

static rv_status read_old_domains(rv_shift_stream *s, const char *root, const rv_shift_sizes *sizes) {
	rv_status status = RV_OK;
	for (int d = 0; d < RV_SHIFT_N_OLD && status == RV_OK; d++) {
		rv_shift_docs judged = {0}, replayed = {0};
		status = read_old(s, root, d, &judged, &replayed, sizes);
		if (status == RV_OK)
			status = append(&s->old, &judged);
		if (status == RV_OK)
			status = append(&s->replay, &replayed);
		rv_free(judged.items);
		rv_free(replayed.items);
	}
	return status;
}

static rv_status read_agents(rv_shift_stream *s) {
	for (int a = 0; a < RV_AGENTS; a++) {
		char text[64];
		rv_shift_doc *d = &s->agents[a];
		snprintf(text, sizeof text, " %s", rv_agent_names[a]);
		RV_TRY(encode(s, text, strlen(text), &d->ids, &d->n));
		d->domain = RV_SHIFT_NEW;
		d->agent = a;
	}
	return RV_OK;
}

rv_status rv_shift_stream_open(rv_shift_stream *s, const char *root, const rv_model *model,
                               const rv_shift_sizes *sizes) {
	*s = (rv_shift_stream){.tokenizer = rv_model_tokenizer(model)};
	if (s->tokenizer == NULL)
		return rv_fail(RV_ERR_NOT_FOUND, "a model without a tokenizer");
	s->end = rv_tokenizer_eos(s->tokenizer);
	RV_TRY(rv_arena_create(&s->arena, (size_t)1 << 20, 1));
	RV_TRY(read_agents(s));
	RV_TRY(read_writers(s, root, learnt_writers, COUNT(learnt_writers), &s->pool, 0));
	if (sizes->tune > 0)
		RV_TRY(read_writers(s, root, tune_writers, COUNT(tune_writers), &s->tune, sizes->tune));
	RV_TRY(read_writers(s, root, held_writers, COUNT(held_writers), &s->held, sizes->held));
	s->n_stream = sizes->stream < s->pool.n ? sizes->stream : s->pool.n;
	return read_old_domains(s, root, sizes);
}

void rv_shift_stream_close(rv_shift_stream *s) {
	rv_shift_docs *const sets[] = {&s->pool, &s->held, &s->tune, &s->old, &s->replay};
	for (int i = 0; i < COUNT(sets); i++)
		rv_free(sets[i]->items);
	rv_arena_destroy(s->arena);
	*s = (rv_shift_stream){0};
}

void rv_shift_stream_sha256(const rv_shift_stream *s, char hex[65]) {
	const rv_shift_docs *const sets[] = {&s->pool, &s->held, &s->tune, &s->old, &s->replay};
	char sums[65 + 64];
	memset(sums, '0', sizeof sums);
	for (int i = 0; i < COUNT(sets); i++)
		for (int64_t k = 0; k < sets[i]->n; k++) {
			const rv_shift_doc *d = &sets[i]->items[k];
			rv_sha256_hex(d->ids, (size_t)d->n * sizeof *d->ids, sums + 64);
			rv_sha256_hex(sums, 128, sums);
		}
	memcpy(hex, sums, 65);
}

void rv_shift_stream_draw(const rv_shift_stream *s, uint64_t seed, const rv_shift_doc **out) {
	rv_rng rng;
	rv_rng_stream(&rng, seed, 16);
	for (int64_t i = 0; i < s->pool.n; i++)
		out[i] = &s->pool.items[i];
	for (int64_t i = 0; i < s->n_stream; i++) { /* Fisher and Yates, as far as needed */
		const int64_t j = i + (int64_t)rv_rng_below(&rng, (uint64_t)(s->pool.n - i));
		const rv_shift_doc *t = out[i];
		out[i] = out[j];
		out[j] = t;
	}
}
