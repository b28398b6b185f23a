#include "lab/long_text.h"

#include "base/file.h"
#include "base/mem.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <string.h>

enum { BATCH = 256, MAX_BYTES = 1 << 24 };

static void text_path(const rv_run_config *config, char path[4096]) {
	snprintf(path, 4096, "%s/datasets/longdocs/heldout.txt", config->root);
}

rv_status rv_long_text_sha256(const rv_run_config *config, char hex[65]) {
	char path[4096];
	text_path(config, path);
	return rv_file_sha256(path, hex);
}

rv_status rv_long_text_tokens(const rv_run_config *config, const rv_model *model, int64_t n,
                              int32_t **out) {
	const rv_tokenizer *tokenizer = rv_model_tokenizer(model);
	char path[4096], *text;
	size_t size, n_tokens = 0;
	text_path(config, path);
	if (tokenizer == NULL)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: no tokenizer", rv_model_path(model));
	RV_TRY(rv_file_read(path, MAX_BYTES, &text, &size));
	rv_encode_options options = rv_encode_defaults();
	options.parse_special = 1;
	rv_status status = rv_tokenizer_encode(tokenizer, text, size, &options, out, &n_tokens);
	rv_free(text);
	RV_TRY(status);
	if ((int64_t)n_tokens < n) {
		rv_free(*out);
		return rv_fail(RV_ERR_LIMIT, "%s: %zu tokens of this model, %lld are wanted", path,
		               n_tokens, (long long)n);
	}
	return RV_OK;
}

/* Logits of rows [at, at + m) of the text, of which those from `first` on are scored. */
static rv_status score_rows(rv_context *ctx, const int32_t *tokens, int64_t at, int64_t m,
                            int64_t first, float *logits, int base, rv_perplexity_sums *sums) {
	const int64_t n_vocab = rv_model_hparams(rv_context_model(ctx))->n_vocab;
	for (int64_t i = first > at ? first - at : 0; i < m; i++) {
		float *kept = logits ? logits + (at + i - first) * n_vocab : NULL;
		const float *own = rv_context_logits(ctx, i);
		if (kept && !base)
			memcpy(kept, own, (size_t)n_vocab * sizeof *own);
		RV_TRY(rv_perplexity_add(sums, own, base ? kept : NULL, n_vocab, tokens[at + i + 1]));
	}
	return RV_OK;
}

rv_status rv_long_text_score(rv_context *ctx, const int32_t *tokens, int64_t n, int64_t first,
                             float *logits, int base, rv_perplexity *out) {
	rv_perplexity_sums *sums;
	rv_row rows[BATCH];
	RV_TRY(rv_seq_truncate(ctx, 0, 0));
	RV_TRY(rv_perplexity_sums_create(&sums, n - 1 - first));
	rv_status status = RV_OK;
	for (int64_t at = 0, m; at < n - 1 && status == RV_OK; at += m) {
		m = n - 1 - at < BATCH ? n - 1 - at : BATCH;
		for (int64_t i = 0; i < m; i++)
			rows[i] = (rv_row){.token = tokens[at + i],
			                   .position = (int32_t)(at + i),
			                   .parent = -1,
			                   .flags = at + i < first ? 0 : RV_ROW_LOGITS};
		status = rv_context_eval(ctx, rows, m);
		if (status == RV_OK)
			status = score_rows(ctx, tokens, at, m, first, logits, base, sums);
	}
	if (status == RV_OK)
		*out = rv_perplexity_final(sums);
	rv_perplexity_sums_destroy(sums);
	return status;
}
