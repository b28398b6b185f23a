/* What a training run shows and records: progress, validation, samples, the HDF5 log, the report. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "cli/train_job.h"
#include "engine/sampler.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PLAIN_EVERY_NS ((int64_t)10 * 1000000000)
#define BUCKET_WINDOWS 4 /* sequences a kind for the loss by position */

/* ---- the log ---- */

enum { M_STEP, M_TOKENS, M_LOSS, M_CE, M_KL, M_NORM, M_LR, M_SPEED, M_VALID };

static const rv_experiment_metric fixed[RV_TRAIN_FIXED_METRICS] = {
        {"step", "", "step", "updates done, this one included", RV_HIGHER, 0, 0, NULL, "%.0f"},
        {"tokens", "", "tokens", "seen so far", RV_HIGHER, 0, 0, NULL, "%.0f"},
        {"loss", "nats", "loss", "what is minimised", RV_LOWER, 0, 0, NULL, "%.4f"},
        {"cross_entropy", "nats", "cross-entropy", "of the next token", RV_LOWER, 0, 0, NULL, "%.4f"},
        {"kl", "nats", "KL", "teacher against student", RV_LOWER, 0, 0, NULL, "%.4f"},
        {"gradient_norm", "", "gradient", "norm before clipping", RV_LOWER, 0, 0, NULL, "%.4f"},
        {"learning_rate", "", "learning rate", "of this step", RV_LOWER, 0, 0, NULL, "%.3g"},
        {"tok_s", "1/s", "tokens/s", "of this step", RV_HIGHER, 0, 0, NULL, "%.0f"},
        {"valid_mean", "nats", "held-out", "mean over the kinds", RV_LOWER, 0, 0, NULL, "%.4f"},
};

static void kind_metrics(rv_train_job *job) {
	memcpy(job->metrics, fixed, sizeof fixed);
	job->n_metrics = RV_TRAIN_FIXED_METRICS;
	for (int k = 0; k < job->set.n && job->n_metrics < RV_MAX_METRICS; k++) {
		char *name = job->names[k];
		snprintf(name, sizeof job->names[k], "valid_%s",
		         rv_token_file_info(job->set.train[k])->name);
		for (char *p = name; *p; p++)
			if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_",
			            *p))
				*p = '_';
		rv_experiment_metric m = fixed[M_VALID];
		m.name = m.title = name;
		m.help = "cross-entropy of held-out text";
		job->metrics[job->n_metrics++] = m;
	}
}

static void clear_row(rv_train_job *job) {
	for (int m = 0; m < RV_MAX_METRICS; m++)
		job->row[m] = NAN;
	job->row_pending = 0;
}

/* A row waits for the validation of its step. */
static rv_status flush_row(rv_train_job *job) {
	rv_status st = RV_OK;
	if (job->log && job->row_pending)
		st = rv_train_log_add(job->log, job->row, job->row_seconds);
	clear_row(job);
	return st;
}

rv_status rv_train_log_begin(rv_train_job *job) {
	job->first_loss = job->last_loss = job->valid_mean = NAN;
	for (int k = 0; k < RV_MIXTURE_MAX; k++)
		job->valid[k] = NAN;
	kind_metrics(job);
	clear_row(job);
	if (job->resumed)
		fprintf(stderr, "resuming %s after step %lld\n", job->checkpoint,
		        (long long)rv_trainer_step_count(job->trainer));
	if (!job->args.log)
		return RV_OK;
	rv_run_config config = {.profile = RV_PROFILE_FULL,
	                        .seed = (uint64_t)job->cli->common.seed,
	                        .n_threads = (int)job->options.n_threads};
	config.calibration = (rv_calibration){.read_gb_s = NAN, .f32_gflop_s = NAN, .int8_gop_s = NAN};
	snprintf(config.calibration.threads, sizeof config.calibration.threads, "%s",
	         rv_trainer_threads_report(job->trainer));
	snprintf(config.inputs.settings, sizeof config.inputs.settings, "%.200s",
	         job->args.preset ? job->args.preset : job->args.init);
	const rv_train_log_options o = {.path = job->args.log,
	                                .title = job->args.name ? job->args.name : "model",
	                                .identity = job->identity,
	                                .metrics = job->metrics,
	                                .n_metrics = job->n_metrics,
	                                .fresh = !job->resumed,
	                                .config = &config,
	                                .argc = job->cli->argc,
	                                .argv = job->cli->argv};
	return rv_train_log_open(&job->log, &o);
}

rv_status rv_train_log_end(rv_train_job *job) {
	RV_TRY(flush_row(job));
	return job->log ? rv_train_log_write(job->log) : RV_OK;
}

/* ---- progress ---- */

static void show_step(rv_train_job *job, const rv_train_record *r) {
	int terminal = isatty(STDERR_FILENO);
	int64_t now = rv_now_ns(), n = rv_train_run_steps(&job->run);
	char eta[48] = "";
	if (!terminal && now < job->next_show_ns)
		return;
	job->next_show_ns = now + PLAIN_EVERY_NS;
	if (isfinite(r->eta_seconds))
		snprintf(eta, sizeof eta, ", about %.0f s left", r->eta_seconds);
	fprintf(stderr, "%sstep %lld/%lld, loss %.4f, |g| %.3f, lr %.3g, %.0f tokens/s%s%s",
	        terminal ? "\r\033[K" : "", (long long)r->step + 1, (long long)n, r->loss,
	        r->gradient_norm, r->learning_rate, (double)r->n_tokens / r->seconds, eta,
	        terminal ? "" : "\n");
	if (terminal && r->step + 1 == n)
		fputc('\n', stderr);
}

rv_status rv_train_on_step(void *user, int phase, const rv_train_record *r) {
	rv_train_job *job = user;
	(void)phase;
	RV_TRY(flush_row(job));
	if (isnan(job->first_loss))
		job->first_loss = r->loss;
	job->last_loss = r->loss;
	job->seconds += r->seconds;
	job->tokens_done += r->n_tokens;
	job->row[M_STEP] = (double)(r->step + 1);
	job->row[M_TOKENS] = (double)r->tokens_total;
	job->row[M_LOSS] = r->loss;
	job->row[M_CE] = r->cross_entropy;
	job->row[M_KL] = r->kl;
	job->row[M_NORM] = r->gradient_norm;
	job->row[M_LR] = r->learning_rate;
	job->row[M_SPEED] = (double)r->n_tokens / r->seconds;
	job->row_seconds = r->seconds;
	job->row_pending = 1;
	show_step(job, r);
	return RV_OK;
}

rv_status rv_train_on_save(void *user, int64_t step) {
	rv_train_job *job = user;
	(void)step;
	return flush_row(job);
}

/* ---- validation and samples ---- */

static rv_status continue_ids(const rv_train_job *job, int32_t *ids, int64_t *n, int64_t limit) {
	int64_t n_vocab = rv_tokenizer_n_vocab(job->tokenizer);
	rv_sampler_options o = rv_sampler_defaults();
	rv_sampler *sampler;
	float *logits;
	o.temperature = 0.7;
	o.seed = (uint64_t)job->cli->common.seed;
	RV_TRY(rv_sampler_create(&sampler, &o, n_vocab));
	rv_status st = RV_ALLOC(&logits, limit * n_vocab, "logits");
	while (st == RV_OK && *n < limit) {
		st = rv_trainer_logits(job->trainer, ids, *n, logits);
		if (st == RV_OK)
			st = rv_sampler_next(sampler, logits + (*n - 1) * n_vocab, &ids[*n], NULL);
		if (st != RV_OK || rv_tokenizer_is_end(job->tokenizer, ids[*n]))
			break;
		++*n;
	}
	rv_free(logits);
	rv_sampler_destroy(sampler);
	return st;
}

static rv_status show_sample(const rv_train_job *job, const char *prompt) {
	const rv_encode_options encode = {.add_bos = 0, .add_eos = 0, .parse_special = 1};
	int64_t limit = rv_trainer_get_options(job->trainer)->n_ctx, n;
	int32_t *prompt_ids, *ids = NULL;
	size_t n_prompt, len;
	char *text = NULL;
	RV_TRY(rv_tokenizer_encode(job->tokenizer, prompt, strlen(prompt), &encode, &prompt_ids,
	                           &n_prompt));
	n = (int64_t)n_prompt;
	if (n + job->args.sample_tokens < limit)
		limit = n + job->args.sample_tokens;
	rv_status st = RV_OK;
	if (n > 0 && n < limit) {
		st = RV_ALLOC(&ids, limit + 1, "sample");
		if (st == RV_OK) {
			memcpy(ids, prompt_ids, n_prompt * sizeof *ids);
			st = continue_ids(job, ids, &n, limit);
		}
		if (st == RV_OK)
			st = rv_tokenizer_decode(job->tokenizer, ids, (size_t)n, 1, 0, &text, &len);
	}
	if (st == RV_OK && text)
		fprintf(stderr, "sample: %s\n", text);
	rv_free(text);
	rv_free(ids);
	rv_free(prompt_ids);
	return st;
}

static void show_valid(const rv_train_job *job, int64_t step) {
	if (isnan(job->valid_mean))
		return; /* nothing was held out */
	fprintf(stderr, "%sheld out, after step %lld: %.4f nats",
	        isatty(STDERR_FILENO) ? "\r\033[K" : "", (long long)step, job->valid_mean);
	for (int k = 0; k < job->set.n; k++)
		if (!isnan(job->valid[k]))
			fprintf(stderr, "%s %s %.4f", k ? "," : ":",
			        rv_token_file_info(job->set.train[k])->name, job->valid[k]);
	fputc('\n', stderr);
}

rv_status rv_train_on_valid(void *user, int phase, int64_t step, const double *cross_entropy,
                            double mean) {
	rv_train_job *job = user;
	(void)phase;
	memcpy(job->valid, cross_entropy, (size_t)job->set.n * sizeof *cross_entropy);
	job->valid_mean = job->row[M_VALID] = mean;
	for (int k = 0; k < job->n_metrics - RV_TRAIN_FIXED_METRICS; k++)
		job->row[RV_TRAIN_FIXED_METRICS + k] = cross_entropy[k];
	show_valid(job, step);
	for (int i = 0; i < job->args.samples.n; i++)
		RV_TRY(show_sample(job, job->args.samples.items[i]));
	return RV_OK;
}

/* ---- the report ---- */

static int reached_long(const rv_train_job *job) {
	return rv_trainer_get_options(job->trainer)->n_ctx > job->run.phases[0].n_ctx;
}

/* Perplexity of held-out text by position: [0, first), then doubling up to the sequence length. */
static rv_status report_positions(const rv_train_job *job, json_t *out) {
	int64_t n_ctx = rv_trainer_get_options(job->trainer)->n_ctx;
	int64_t bounds[RV_TRAIN_BUCKETS_MAX + 1] = {0, job->run.phases[0].n_ctx};
	int n = 1;
	while (bounds[n] < n_ctx && n < RV_TRAIN_BUCKETS_MAX) {
		bounds[n + 1] = 2 * bounds[n] < n_ctx ? 2 * bounds[n] : n_ctx;
		n++;
	}
	bounds[n] = n_ctx;
	for (int k = 0; k < job->set.n; k++) {
		const rv_token_file *f = job->set.valid[k];
		double loss[RV_TRAIN_BUCKETS_MAX];
		if (!f || rv_token_file_info(f)->n_tokens <= n_ctx)
			continue;
		RV_TRY(rv_train_positions(job->trainer, f, BUCKET_WINDOWS, bounds, n, loss));
		for (int b = 0; b < n; b++)
			json_array_append_new(out, json_pack("{s:s, s:I, s:I, s:f}", "kind",
			                                     rv_token_file_info(f)->name, "from",
			                                     (json_int_t)bounds[b], "to",
			                                     (json_int_t)bounds[b + 1], "perplexity",
			                                     exp(loss[b])));
	}
	return RV_OK;
}

static json_t *valid_json(const rv_train_job *job) {
	json_t *kinds = json_object();
	for (int k = 0; k < job->set.n; k++)
		json_object_set_new(kinds, rv_token_file_info(job->set.train[k])->name,
		                    rv_cli_json_real(job->valid[k]));
	return kinds;
}

static json_t *summary(const rv_train_job *job, rv_train_end end, json_t *positions) {
	return json_pack(
	        "{s:o, s:b, s:b, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "out",
	        rv_cli_json_path(job->args.out), "finished", end == RV_TRAIN_FINISHED, "resumed",
	        job->resumed, "steps", (json_int_t)rv_trainer_step_count(job->trainer), "tokens",
	        (json_int_t)rv_trainer_token_count(job->trainer), "n_params",
	        (json_int_t)rv_trainer_n_trained(job->trainer), "first_loss",
	        rv_cli_json_real(job->first_loss), "last_loss", rv_cli_json_real(job->last_loss),
	        "valid_mean", rv_cli_json_real(job->valid_mean), "valid", valid_json(job), "seconds",
	        rv_cli_json_real(job->seconds), "tok_s",
	        rv_cli_json_real((double)job->tokens_done / job->seconds), "positions", positions);
}

static void print_positions(const json_t *positions) {
	size_t i;
	const json_t *p;
	json_array_foreach(positions, i, p) {
		const char *kind = NULL;
		json_int_t from = 0, to = 0;
		double perplexity = 0;
		json_unpack((json_t *)(uintptr_t)p, "{s:s, s:I, s:I, s:f}", "kind", &kind, "from",
		            &from, "to", &to, "perplexity", &perplexity);
		printf("  %-16s positions %6lld to %6lld: perplexity %.4f\n", kind, (long long)from,
		       (long long)to - 1, perplexity);
	}
}

static void print_report(const rv_train_job *job, rv_train_end end, const json_t *positions) {
	printf("%s: %lld of %lld steps, %lld tokens, %lld parameters trained%s\n", job->args.out,
	       (long long)rv_trainer_step_count(job->trainer), (long long)rv_train_run_steps(&job->run),
	       (long long)rv_trainer_token_count(job->trainer),
	       (long long)rv_trainer_n_trained(job->trainer),
	       end == RV_TRAIN_FINISHED ? "" : "; stopped by --minutes, the checkpoint continues");
	if (job->seconds > 0)
		printf("  loss %.4f -> %.4f nats, %.0f tokens/s over %.1f s\n", job->first_loss,
		       job->last_loss, (double)job->tokens_done / job->seconds, job->seconds);
	for (int k = 0; k < job->set.n; k++)
		if (isfinite(job->valid[k]))
			printf("  %-16s held out %.4f nats, perplexity %.4f\n",
			       rv_token_file_info(job->set.train[k])->name, job->valid[k],
			       exp(job->valid[k]));
	print_positions(positions);
}

int rv_train_report(rv_train_job *job, rv_train_end end) {
	json_t *positions = json_array();
	if (reached_long(job) && report_positions(job, positions) != RV_OK) {
		json_decref(positions);
		return rv_cli_fail(job->cli);
	}
	int status;
	if (job->cli->common.json) {
		status = rv_cli_finish_json(job->cli, summary(job, end, positions));
	} else {
		print_report(job, end, positions);
		json_decref(positions);
		status = rv_cli_finish(job->cli);
	}
	/* NaN (nothing held out) is no loss below the bar */
	if (status == RV_EXIT_OK && job->args.max_loss > 0 &&
	    !(job->valid_mean <= job->args.max_loss)) {
		rv_fail(RV_ERR_NUMERIC, "%s: the mean held-out loss is %.4f nats, above --max-loss %g",
		        job->args.out, job->valid_mean, job->args.max_loss);
		return rv_cli_fail(job->cli);
	}
	return status;
}
