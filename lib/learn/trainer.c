#include "learn/trainer.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/blas.h"
#include "engine/context.h"
#include "learn/train_products.h"
#include "learn/trainer_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int64_t rv_trainer_piece_seqs(const rv_trainer *t) {
	int64_t n = t->options.piece_tokens / t->options.n_ctx;
	return n > 0 ? n : 1;
}

/* ---- making one ---- */

static void free_passes(rv_pass **passes, int64_t n) {
	for (int64_t i = 0; *passes && i < n; i++)
		rv_pass_deinit(&(*passes)[i]);
	rv_free(*passes);
	*passes = NULL;
}

static rv_pass_options pass_options(const rv_trainer *t, int with_gradient) {
	const rv_trainer_options *o = &t->options;
	return (rv_pass_options){.max_rows = rv_trainer_piece_seqs(t) * o->n_ctx,
	                         .n_ctx = o->n_ctx,
	                         .with_gradient = with_gradient,
	                         .recompute = o->checkpoint_activations,
	                         .with_teacher = with_gradient && t->teacher,
	                         .bf16 = o->products == RV_PRODUCTS_BF16};
}

static rv_status make_passes(rv_pass **out, const rv_trainer *t, const rv_train_layout *layout,
                             const float *weights, int with_gradient) {
	rv_pass *passes;
	RV_TRY(RV_ALLOC(&passes, t->n_threads, "passes"));
	rv_status st = RV_OK;
	const rv_pass_options o = pass_options(t, with_gradient);
	for (int64_t i = 0; st == RV_OK && i < t->n_threads; i++) {
		st = rv_pass_init(&passes[i], layout, t->ops, &o);
		passes[i].weights = weights;
	}
	if (st != RV_OK)
		free_passes(&passes, t->n_threads);
	else
		*out = passes;
	return st;
}

static void free_all_passes(rv_trainer *t) {
	free_passes(&t->passes, t->n_threads);
	if (t->teacher)
		free_passes(&t->teacher->passes, t->n_threads);
}

static rv_status make_all_passes(rv_trainer *t) {
	RV_TRY(make_passes(&t->passes, t, &t->layout, t->weights, 1));
	rv_train_teacher *teacher = t->teacher;
	return teacher ? make_passes(&teacher->passes, t, &teacher->layout, teacher->weights, 0)
	               : RV_OK;
}

static rv_status make_teacher(rv_trainer *t, const rv_model *model) {
	const rv_hparams *hp = rv_model_hparams(model);
	if (hp->n_vocab != t->layout.hp.n_vocab)
		return rv_fail(RV_ERR_MISMATCH, "%s: the teacher has %lld tokens, the student %lld",
		               rv_model_path(model), (long long)hp->n_vocab,
		               (long long)t->layout.hp.n_vocab);
	RV_TRY(RV_ALLOC(&t->teacher, 1, "teacher"));
	RV_TRY(rv_train_layout_init(&t->teacher->layout, rv_model_arch(model), hp, NULL));
	RV_TRY(RV_ALLOC(&t->teacher->weights, t->teacher->layout.n_elements, "teacher's weights"));
	return rv_train_decode(&t->teacher->layout, t->teacher->weights, model);
}

static rv_status make_threads(rv_trainer *t) {
	rv_threads_options o = {.n_threads = (int)t->options.n_threads, .pin = t->options.pin};
	if (o.n_threads == 0)
		o.n_threads = rv_threads_default_count();
	if (o.n_threads > t->options.n_slices)
		o.n_threads = (int)t->options.n_slices;
	RV_TRY(rv_threads_create(&t->threads, &o));
	t->n_threads = rv_threads_count(t->threads);
	return RV_OK;
}

static rv_status make_arrays(rv_trainer *t) {
	size_t n = (size_t)rv_trainer_n_active(t);
	RV_TRY(RV_ALLOC(&t->weights, t->layout.n_elements, "weights"));
	RV_TRY(RV_ALLOC(&t->moment1, n, "moments"));
	RV_TRY(RV_ALLOC(&t->moment2, n, "moments"));
	RV_TRY(RV_ALLOC(&t->gradients, t->options.n_slices, "gradients"));
	for (int64_t i = 0; i < t->options.n_slices; i++)
		RV_TRY(RV_ALLOC(&t->gradients[i], n, "gradients"));
	return rv_train_chunks(t);
}

/* What a trainer is made of. */
typedef struct source {
	const rv_arch *arch;
	const rv_hparams *hp;
	const rv_model *weights; /* NULL: random */
	const rv_adapter *start; /* NULL: random, where there are adapters */
	const rv_model *teacher;
} source;

static rv_status copy_texts(rv_trainer *t) {
	rv_trainer_options *o = &t->options;
	if (o->lora_targets)
		RV_TRY(rv_strdup(&t->lora_targets, o->lora_targets));
	if (o->lora_layers)
		RV_TRY(rv_strdup(&t->lora_layers, o->lora_layers));
	o->lora_targets = t->lora_targets;
	o->lora_layers = t->lora_layers;
	return RV_OK;
}

static rv_status make_layout(rv_trainer *t, const source *from) {
	rv_trainer_options *o = &t->options;
	const rv_train_lora lora = {.rank = o->lora_rank,
	                            .alpha = o->lora_alpha,
	                            .targets = o->lora_targets,
	                            .layers = o->lora_layers,
	                            .start = from->start};
	RV_TRY(rv_train_layout_init(&t->layout, from->arch, from->hp,
	                            o->lora_rank > 0 || from->start ? &lora : NULL));
	if (!from->start)
		return RV_OK;
	o->lora_rank = t->layout.lora_rank;
	o->lora_alpha = t->layout.lora_scale * (double)t->layout.lora_rank;
	return RV_OK;
}

static rv_status fill(rv_trainer *t, const source *from) {
	const rv_trainer_options *o = &t->options;
	rv_level level;
	RV_TRY(rv_train_check_options(o));
	RV_TRY(rv_train_check_shape(from->hp));
	if (o->products == RV_PRODUCTS_BF16 && !rv_gemm_bf16_available())
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "training option products: bf16 needs a CPU with AVX512_BF16");
	RV_TRY(copy_texts(t));
	RV_TRY(make_layout(t, from));
	RV_TRY(rv_blas_open());
	RV_TRY(rv_level_default(&level));
	t->ops = rv_train_ops_for(level);
	RV_TRY(make_threads(t));
	RV_TRY(make_arrays(t));
	const int64_t adapters = rv_train_first_adapter(&t->layout);
	rv_train_random(&t->layout, t->weights, o, from->weights ? adapters : 0);
	if (from->weights)
		RV_TRY(rv_train_decode(&t->layout, t->weights, from->weights));
	if (from->start)
		rv_train_take_adapter(&t->layout, t->weights, from->start);
	if (from->teacher)
		RV_TRY(make_teacher(t, from->teacher));
	return make_all_passes(t);
}

static rv_status create(rv_trainer **out, const source *from, const rv_trainer_options *options) {
	rv_trainer *t;
	RV_TRY(RV_ALLOC(&t, 1, "trainer"));
	t->options = options ? *options : rv_trainer_defaults();
	rv_status st = fill(t, from);
	if (st != RV_OK)
		rv_trainer_destroy(t);
	else
		*out = t;
	return st;
}

static source source_of(const rv_model *model) {
	return (source){.arch = rv_model_arch(model), .hp = rv_model_hparams(model), .weights = model};
}

rv_status rv_trainer_create(rv_trainer **out, const rv_arch *arch, const rv_hparams *hp,
                            const rv_model *teacher, const rv_trainer_options *options) {
	const source from = {.arch = arch, .hp = hp, .teacher = teacher};
	return create(out, &from, options);
}

rv_status rv_trainer_create_from(rv_trainer **out, const rv_model *model, const rv_model *teacher,
                                 const rv_trainer_options *options) {
	source from = source_of(model);
	from.teacher = teacher;
	return create(out, &from, options);
}

rv_status rv_trainer_create_lora(rv_trainer **out, const rv_model *model, const rv_adapter *start,
                                 const rv_trainer_options *options) {
	source from = source_of(model);
	from.start = start;
	if (start && !rv_adapter_fits(start, model))
		return rv_fail(RV_ERR_MISMATCH, "%s: made for models of another shape than %s",
		               rv_adapter_path(start), rv_model_path(model));
	if (!start && (!options || options->lora_rank < 1))
		return rv_fail(RV_ERR_INVALID, "training option lora-rank: at least 1 without an "
		                               "adapter to start from");
	return create(out, &from, options);
}

void rv_trainer_destroy(rv_trainer *t) {
	if (!t)
		return;
	free_all_passes(t);
	if (t->teacher) {
		rv_train_layout_deinit(&t->teacher->layout);
		rv_free(t->teacher->weights);
		rv_free(t->teacher);
	}
	for (int64_t i = 0; t->gradients && i < t->options.n_slices; i++)
		rv_free(t->gradients[i]);
	rv_free(t->gradients);
	rv_free(t->moment1);
	rv_free(t->moment2);
	rv_free(t->weights);
	rv_free(t->chunks);
	rv_train_free_holds(t);
	rv_free(t->lora_targets);
	rv_free(t->lora_layers);
	rv_threads_destroy(t->threads);
	rv_train_layout_deinit(&t->layout);
	rv_free(t);
}

/* ---- what it is ---- */

const rv_trainer_options *rv_trainer_get_options(const rv_trainer *t) {
	return &t->options;
}
const rv_arch *rv_trainer_arch(const rv_trainer *t) {
	return t->layout.arch;
}
const rv_hparams *rv_trainer_hparams(const rv_trainer *t) {
	return &t->layout.hp;
}
int64_t rv_trainer_n_params(const rv_trainer *t) {
	return rv_arch_n_params(t->layout.arch, &t->layout.hp);
}
int64_t rv_trainer_n_trained(const rv_trainer *t) {
	int64_t n = 0;
	for (int64_t i = 0; i < t->layout.n_params; i++)
		if (rv_train_layout_trained(&t->layout, &t->layout.params[i]))
			n += t->layout.params[i].rows * t->layout.params[i].cols;
	return n;
}
int64_t rv_trainer_step_count(const rv_trainer *t) {
	return t->step;
}
int64_t rv_trainer_token_count(const rv_trainer *t) {
	return t->n_tokens;
}
const char *rv_trainer_threads_report(const rv_trainer *t) {
	return rv_threads_report(t->threads);
}

size_t rv_trainer_bytes(const rv_trainer *t) {
	const rv_pass_options student = pass_options(t, 1), teacher = pass_options(t, 0);
	int64_t floats = t->layout.n_elements + (2 + t->options.n_slices) * rv_trainer_n_active(t);
	size_t each = rv_pass_bytes(&t->layout, &student);
	if (t->teacher) {
		floats += t->teacher->layout.n_elements;
		each += rv_pass_bytes(&t->teacher->layout, &teacher);
	}
	return (size_t)floats * sizeof(float) + (size_t)t->n_threads * each;
}

int64_t rv_trainer_n_tensors(const rv_trainer *t) {
	return t->layout.n_params;
}
rv_train_tensor rv_trainer_tensor(const rv_trainer *t, int64_t i) {
	const rv_param *p = &t->layout.params[i];
	return (rv_train_tensor){.name = p->name,
	                         .rows = p->rows,
	                         .cols = p->cols,
	                         .trained = rv_train_layout_trained(&t->layout, p),
	                         .data = t->weights + p->offset};
}

/* ---- what can be changed ---- */

rv_status rv_trainer_set_ctx(rv_trainer *t, int64_t n_ctx) {
	rv_trainer_options o = t->options;
	o.n_ctx = n_ctx;
	RV_TRY(rv_train_check_options(&o));
	if (t->n_pieces > 0)
		return rv_fail(RV_ERR_INVALID, "training: the length changes between updates only");
	int64_t before = t->options.n_ctx;
	free_all_passes(t);
	t->options.n_ctx = n_ctx;
	rv_status st = make_all_passes(t);
	if (st == RV_OK)
		return st;
	/* back to what there was room for */
	free_all_passes(t);
	t->options.n_ctx = before;
	RV_TRY(make_all_passes(t));
	return rv_fail(st, "training: no memory for sequences of %lld tokens", (long long)n_ctx);
}

rv_status rv_trainer_set_schedule(rv_trainer *t, const rv_schedule *schedule) {
	RV_TRY(rv_schedule_check(schedule));
	t->options.schedule = *schedule;
	return RV_OK;
}

void rv_trainer_set_cancel(rv_trainer *t, int (*cancelled)(void *user), void *user) {
	t->cancelled = cancelled;
	t->cancel_user = user;
}

void rv_trainer_set_record(rv_trainer *t, void (*record)(void *user, const rv_train_record *r),
                           void *user) {
	t->record = record;
	t->record_user = user;
}
