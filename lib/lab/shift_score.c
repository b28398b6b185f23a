#include "lab/shift_score.h"

#include "eval/logits.h"
#include "lab/models.h"

#include <math.h>
#include <string.h>

enum { SEQS = 16, MAX_DOC = 768, ROWS = 2048 };

/* ---- the tree of names ---- */

static int32_t child(const rv_shift_tree *tree, int32_t parent, int32_t token) {
	for (int32_t i = 1; i <= tree->n; i++)
		if (tree->parent[i] == parent && tree->token[i] == token)
			return i;
	return 0;
}

/* The last token of a name needs no node: nothing follows it. */
void rv_shift_tree_build(rv_shift_tree *tree, const rv_shift_stream *stream) {
	*tree = (rv_shift_tree){0};
	for (int a = 0; a < RV_AGENTS; a++) {
		const rv_shift_doc *d = &stream->agents[a];
		int32_t at = 0;
		for (int32_t i = 0; i + 1 < d->n; i++) {
			int32_t next = child(tree, at, d->ids[i]);
			if (next == 0 && tree->n + 1 < RV_SHIFT_TREE) {
				next = ++tree->n;
				tree->token[next] = d->ids[i];
				tree->parent[next] = at;
			}
			at = next;
		}
	}
}

static double logprob(const float *logits, double norm, int32_t token) {
	return (double)logits[token] - norm;
}

/* Adds what follows the first tokens of the names, from the nodes of one sequence. */
static void add_names(const rv_context *ctx, const rv_shift_stream *stream, const rv_shift_tree *tree,
                      int64_t first_row, double *out) {
	const int64_t n_vocab = rv_model_hparams(rv_context_model(ctx))->n_vocab;
	double norm[RV_SHIFT_TREE];
	for (int32_t i = 1; i <= tree->n; i++)
		norm[i] = rv_log_sum_exp(rv_context_logits(ctx, first_row + i - 1), n_vocab);
	for (int a = 0; a < RV_AGENTS; a++) {
		const rv_shift_doc *d = &stream->agents[a];
		int32_t at = child(tree, 0, d->ids[0]);
		for (int32_t i = 1; i < d->n; i++) {
			out[a] += logprob(rv_context_logits(ctx, first_row + at - 1), norm[at],
			                  d->ids[i]);
			at = i + 1 < d->n ? child(tree, at, d->ids[i]) : at;
		}
	}
}

rv_status rv_shift_score_agents(rv_context *ctx, const rv_shift_stream *stream,
                                const rv_shift_tree *tree, const int32_t *row, int n, double *out) {
	const int64_t n_vocab = rv_model_hparams(rv_context_model(ctx))->n_vocab;
	rv_row rows[SEQS * RV_SHIFT_TREE];
	const int32_t before = rv_context_n_drafts(ctx);
	if (n > SEQS)
		return rv_fail(RV_ERR_LIMIT, "more than %d requests at once", SEQS);
	for (int s = 0; s < n; s++) { /* the next evaluation overwrites them */
		const float *logits = rv_context_logits(ctx, row[s]);
		const double norm = rv_log_sum_exp(logits, n_vocab);
		for (int a = 0; a < RV_AGENTS; a++)
			out[s * RV_AGENTS + a] = logprob(logits, norm, stream->agents[a].ids[0]);
	}
	for (int s = 0; s < n; s++)
		for (int32_t i = 1; i <= tree->n; i++) {
			const int32_t parent = tree->parent[i], base = before + s * tree->n;
			int32_t depth = 0;
			for (int32_t p = parent; p; p = tree->parent[p])
				depth++;
			rows[s * tree->n + i - 1] =
			        (rv_row){.token = tree->token[i],
			                 .seq = s,
			                 .position = (int32_t)rv_seq_length(ctx, s) + depth,
			                 .parent = parent ? base + parent : 0,
			                 .adapter = rv_seq_adapter(ctx, s),
			                 .flags = RV_ROW_LOGITS};
		}
	RV_TRY(rv_context_eval(ctx, rows, (int64_t)n * tree->n));
	for (int s = 0; s < n; s++)
		add_names(ctx, stream, tree, (int64_t)s * tree->n, out + s * RV_AGENTS);
	for (int s = 0; s < n; s++)
		RV_TRY(rv_seq_accept(ctx, s, NULL, 0));
	return RV_OK;
}

/* ---- a scorer ---- */

rv_status rv_shift_scorer_open(rv_shift_scorer *scorer, const rv_run_config *config, rv_model *model,
                               const rv_shift_stream *stream) {
	rv_context_options o = rv_context_defaults();
	*scorer = (rv_shift_scorer){.stream = stream, .n_seqs = SEQS};
	rv_shift_tree_build(&scorer->tree, stream);
	o.n_ctx = MAX_DOC;
	o.n_seqs = SEQS;
	o.n_batch = ROWS;
	o.n_draft = SEQS * scorer->tree.n;
	return rv_lab_context(config, model, &o, &scorer->ctx);
}

void rv_shift_scorer_close(rv_shift_scorer *scorer) {
	rv_context_destroy(scorer->ctx);
	*scorer = (rv_shift_scorer){0};
}

static rv_status empty(rv_context *ctx, int n) {
	for (int s = 0; s < n; s++)
		RV_TRY(rv_seq_truncate(ctx, s, 0));
	return RV_OK;
}

rv_status rv_shift_scorer_adapt(rv_shift_scorer *scorer, rv_adapter *adapter) {
	const rv_adapter_use use = {adapter, 1};
	RV_TRY(empty(scorer->ctx, scorer->n_seqs));
	return rv_context_set_adapters(scorer->ctx, 0, &use, adapter != NULL);
}

/* Rows of docs[i, i + n) in sequences 0.. as far as they fit; want_from: first row that wants logits,
 * relative to a document's answer. first[s]: row of the document's first token. Returns how many. */
static int fill(const rv_shift_docs *docs, int64_t from, int prompts, rv_row *rows, int64_t *n_rows,
                int32_t *first) {
	int s = 0;
	*n_rows = 0;
	for (int64_t i = from; i < docs->n && s < SEQS; i++, s++) {
		const rv_shift_doc *d = &docs->items[i];
		const int32_t n = prompts ? d->answer : d->n - 1;
		if (s > 0 && *n_rows + n > ROWS)
			break;
		first[s] = (int32_t)*n_rows;
		for (int32_t t = 0; t < n; t++)
			rows[(*n_rows)++] = (rv_row){.token = d->ids[t],
			                             .seq = s,
			                             .position = t,
			                             .parent = -1,
			                             .flags = t >= d->answer - 1 ? RV_ROW_LOGITS : 0};
	}
	return s;
}

rv_status rv_shift_score_new(rv_shift_scorer *k, const rv_shift_docs *docs, rv_shift_new *out) {
	rv_row rows[ROWS + MAX_DOC];
	double names[SEQS * RV_AGENTS], right = 0, nll = 0;
	for (int64_t i = 0, n_rows; i < docs->n;) {
		int32_t first[SEQS];
		const int n = fill(docs, i, 1, rows, &n_rows, first);
		RV_TRY(empty(k->ctx, k->n_seqs));
		RV_TRY(rv_context_eval(k->ctx, rows, n_rows));
		for (int s = 0; s < n; s++)
			first[s] += docs->items[i + s].answer - 1; /* the prompt's last row */
		RV_TRY(rv_shift_score_agents(k->ctx, k->stream, &k->tree, first, n, names));
		for (int s = 0; s < n; s++, i++) {
			const double *x = names + s * RV_AGENTS;
			const int agent = docs->items[i].agent;
			double sum = 0;
			int best = 0;
			for (int a = 0; a < RV_AGENTS; a++) {
				sum += exp(x[a]);
				best = x[a] > x[best] ? a : best;
			}
			right += best == agent;
			nll += log(sum) - x[agent];
		}
	}
	*out = (rv_shift_new){100 * right / (double)docs->n, nll / (double)docs->n};
	return RV_OK;
}

typedef struct tally {
	double nll, right, n;
} tally;

static void add_doc(const rv_context *ctx, const rv_shift_doc *d, int64_t first, tally *t) {
	const int64_t n_vocab = rv_model_hparams(rv_context_model(ctx))->n_vocab;
	for (int32_t i = d->answer; i < d->n; i++) {
		const float *logits = rv_context_logits(ctx, first + i - 1);
		const float own = logits[d->ids[i]];
		int right = 1;
		for (int64_t v = 0; v < n_vocab && right; v++)
			right = logits[v] <= own;
		t->nll += rv_log_sum_exp(logits, n_vocab) - (double)own;
		t->right += right;
		t->n++;
	}
}

rv_status rv_shift_score_old(rv_shift_scorer *k, const rv_shift_docs *docs, rv_shift_old *out) {
	rv_row rows[ROWS + MAX_DOC];
	tally t[RV_SHIFT_N_OLD] = {{0}};
	for (int64_t i = 0, n_rows; i < docs->n;) {
		int32_t first[SEQS];
		const int n = fill(docs, i, 0, rows, &n_rows, first);
		RV_TRY(empty(k->ctx, k->n_seqs));
		RV_TRY(rv_context_eval(k->ctx, rows, n_rows));
		for (int s = 0; s < n; s++, i++)
			add_doc(k->ctx, &docs->items[i], first[s], &t[docs->items[i].domain]);
	}
	memset(out, 0, sizeof *out);
	for (int d = 0; d < RV_SHIFT_N_OLD; d++) {
		out->nll[d] = t[d].nll / t[d].n;
		out->right_pct[d] = 100 * t[d].right / t[d].n;
		out->mean_nll += out->nll[d] / RV_SHIFT_N_OLD;
		out->mean_right_pct += out->right_pct[d] / RV_SHIFT_N_OLD;
	}
	return RV_OK;
}
