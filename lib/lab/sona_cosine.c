#include "lab/sona_cosine.h"

#include "base/mem.h"
#include "lab/models.h"
#include "learn/gradient_cosine.h"
#include "model/adapter_write.h"

#include <math.h>
#include <string.h>

#define NO_GUARD 1e30 /* a step of 1 is far too long to be one; it is read off, not gone */

typedef struct bench {
	const rv_run_config *config;
	rv_model *model;
	rv_context *ctx;
	rv_capture *capture;
	rv_instant *instant;
	rv_adapter *start; /* MicroLoRA as it begins */
	rv_adapter_matrices before;
	float *difference; /* [n_params] */
	int64_t n_params;
	rv_trainer *trainer;
	rv_shift_pack pack;
	const rv_shift_doc **order;
} bench;

static rv_status open_all(bench *b, const rv_shift_stream *stream, const rv_micro_lora_options *micro,
                          rv_local_reading reading, uint64_t seed) {
	rv_context_options c = rv_context_defaults();
	rv_capture_options capture = rv_capture_defaults();
	rv_instant_options instant = rv_instant_defaults();
	rv_micro_lora_options unit = *micro;
	rv_trainer_options t = rv_trainer_defaults();
	c.n_ctx = RV_SHIFT_CTX;
	capture.layers = micro->layers;
	capture.n_layers = micro->n_layers;
	capture.site = micro->site;
	instant.reading = reading;
	instant.max_ratio = NO_GUARD;
	unit.lr = 1;
	t.n_ctx = RV_SHIFT_CTX;
	t.n_slices = 1;
	t.n_threads = 1;
	t.clip = 0;
	t.log = b->config->log;
	RV_TRY(rv_lab_context(b->config, b->model, &c, &b->ctx));
	RV_TRY(rv_capture_attach(&b->capture, b->ctx, &capture));
	RV_TRY(rv_instant_create(&b->instant, b->model, &unit, &instant, NULL));
	RV_TRY(rv_instant_snapshot(b->instant, NULL, &b->start));
	RV_TRY(rv_adapter_matrices_init(&b->before, b->start, b->model));
	RV_TRY(rv_trainer_create_lora(&b->trainer, b->model, b->start, &t));
	RV_TRY(RV_ALLOC(&b->order, stream->pool.n, "stream"));
	rv_shift_stream_draw(stream, seed, b->order);
	b->n_params = rv_adapter_n_params(b->start);
	return RV_ALLOC(&b->difference, b->n_params, "gradient");
}

static void close_all(bench *b) {
	rv_free(b->order);
	rv_free(b->difference);
	rv_shift_pack_free(&b->pack);
	rv_trainer_destroy(b->trainer);
	rv_adapter_matrices_deinit(&b->before);
	rv_adapter_release(b->start);
	rv_instant_destroy(b->instant);
	rv_capture_detach(b->capture);
	rv_context_destroy(b->ctx);
}

/* One instant update of step 1 from the beginning. */
static rv_status step(bench *b, const rv_shift_doc *d, rv_instant_report *report, rv_adapter **after) {
	rv_row rows[RV_SHIFT_CTX];
	for (int32_t i = 0; i + 1 < d->n; i++)
		rows[i] = (rv_row){.token = d->ids[i],
		                   .position = i,
		                   .parent = -1,
		                   .flags = i + 1 >= d->answer ? RV_ROW_LOGITS : 0};
	RV_TRY(rv_seq_truncate(b->ctx, 0, 0));
	RV_TRY(rv_capture_begin(b->capture, 0, d->answer - 1));
	const rv_status evaluated = rv_context_eval(b->ctx, rows, d->n - 1);
	rv_captured *captured = rv_capture_end(b->capture, 0, d->ids + d->answer, d->n - d->answer);
	rv_status status = evaluated;
	if (status == RV_OK)
		status = rv_instant_restore(b->instant, NULL, b->start, 0);
	if (status == RV_OK)
		status = rv_instant_learn(b->instant, captured, 1, RV_QUALITY_TASK, report);
	rv_captured_release(captured);
	RV_TRY(status);
	return rv_instant_snapshot(b->instant, NULL, after);
}

/* before - after, which is the gradient, into b->difference and a table of it. */
static void local_gradient(const bench *b, const rv_adapter_matrices *after, rv_lora_gradient *out) {
	const rv_adapter_matrices *before = &b->before; /* of the same parts, in the same order */
	for (int64_t k = 0; k < b->n_params; k++)
		b->difference[k] = before->factors[k] - after->factors[k];
	for (int i = 0; i < after->n; i++) {
		const rv_adapter_matrix *m = &after->parts[i];
		const rv_weight *w = rv_model_weight(b->model, m->role, m->layer);
		out[i] = (rv_lora_gradient){m->role,
		                            m->layer,
		                            m->rank,
		                            w->cols,
		                            w->rows,
		                            b->difference + (m->a - after->factors),
		                            b->difference + (m->b - after->factors)};
	}
}

static rv_status compare(bench *b, const rv_shift_stream *stream, const rv_shift_doc *d,
                         rv_adapter *after, double *cosine) {
	rv_adapter_matrices m = {0};
	rv_gradient_set full = {0};
	rv_lora_gradient local[RV_CAPTURE_MAX_PARTS];
	rv_cosine c = {.b = NAN};
	rv_shift_pack_free(&b->pack);
	rv_status status = rv_shift_pack_docs(&b->pack, stream, &d, 1);
	if (status == RV_OK)
		status = rv_trainer_restart(b->trainer, b->start, 0, NULL);
	if (status == RV_OK)
		status = rv_trainer_accumulate(b->trainer, b->pack.tokens, b->pack.weights, 1);
	if (status == RV_OK)
		status = rv_trainer_lora_gradient(b->trainer, &full);
	if (status == RV_OK)
		status = rv_adapter_matrices_init(&m, after, b->model);
	if (status == RV_OK) {
		local_gradient(b, &m, local);
		status = rv_gradient_cosine(&c, local, m.n, full.matrices, full.n);
	}
	*cosine = c.b;
	rv_adapter_matrices_deinit(&m);
	rv_gradient_set_deinit(&full);
	return status;
}

static rv_status measure(bench *b, const rv_shift_stream *stream, int64_t n, rv_sona_cosine *out) {
	double sum = 0;
	for (int64_t i = 0; i < n && i < stream->n_stream; i++) {
		rv_instant_report report;
		rv_adapter *after = NULL;
		double cosine = NAN;
		if (b->order[i]->n > RV_SHIFT_CTX)
			continue;
		RV_TRY(step(b, b->order[i], &report, &after));
		rv_status status = report.outcome == RV_INSTANT_LEARNT
		                           ? compare(b, stream, b->order[i], after, &cosine)
		                           : RV_OK;
		rv_adapter_release(after);
		RV_TRY(status);
		if (isnan(cosine))
			continue;
		out->least = out->n == 0 || cosine < out->least ? cosine : out->least;
		out->most = out->n == 0 || cosine > out->most ? cosine : out->most;
		sum += cosine;
		out->n++;
	}
	out->mean = out->n > 0 ? sum / (double)out->n : NAN;
	return RV_OK;
}

rv_status rv_sona_cosine_measure(const rv_run_config *config, rv_model *model,
                                 const rv_shift_stream *stream, const rv_micro_lora_options *micro,
                                 rv_local_reading reading, uint64_t seed, int64_t n,
                                 rv_sona_cosine *out) {
	bench b = {.config = config, .model = model};
	*out = (rv_sona_cosine){.mean = NAN};
	if ((rv_site_roles(micro->site) & RV_ROLES_RESIDUAL) == 0)
		return RV_OK;
	rv_status status = open_all(&b, stream, micro, reading, seed);
	if (status == RV_OK)
		status = measure(&b, stream, n, out);
	close_all(&b);
	return status;
}
