#include "learn/ewc.h"

#include "base/mem.h"
#include "learn/ewc_internal.h"
#include "learn/sealed.h"
#include "learn/trainer_internal.h"

#include <math.h>
#include <string.h>

#define MAGIC "RVELAST"
#define VERSION 1

static int64_t padded(int64_t n) {
	return (n + 15) / 16 * 16;
}

/* ---- making one ---- */

/* Arrays for the elements counted. */
static rv_status make_arrays(rv_ewc *e) {
	RV_TRY(RV_ALLOC(&e->anchor, e->n_elements, "elastic memory"));
	return RV_ALLOC(&e->fisher, e->n_elements, "elastic memory");
}

static void add_tensor(rv_ewc *e, const char *name, int64_t rows, int64_t cols) {
	rv_ewc_row *r = &e->tensors[e->n_tensors++];
	memcpy(r->name, name, strlen(name) + 1);
	r->rows = rows;
	r->cols = cols;
	r->offset = e->n_elements;
	e->n_elements += padded(rows * cols);
}

static rv_status fill(rv_ewc *e, const rv_trainer *t) {
	const rv_train_layout *l = &t->layout;
	RV_TRY(RV_ALLOC(&e->tensors, l->n_params, "elastic memory"));
	for (int64_t i = 0; i < l->n_params; i++)
		if (rv_train_layout_trained(l, &l->params[i]))
			add_tensor(e, l->params[i].name, l->params[i].rows, l->params[i].cols);
	RV_TRY(make_arrays(e));
	return rv_ewc_set_anchor(e, t);
}

rv_status rv_ewc_create(rv_ewc **out, const rv_trainer *t, double decay) {
	rv_ewc *e;
	*out = NULL;
	if (!(decay >= 0 && decay < 1))
		return rv_fail(RV_ERR_INVALID, "elastic memory: decay %g is not in [0, 1)", decay);
	RV_TRY(RV_ALLOC(&e, 1, "elastic memory"));
	e->decay = decay;
	rv_status st = fill(e, t);
	if (st != RV_OK)
		rv_ewc_destroy(e);
	else
		*out = e;
	return st;
}

void rv_ewc_destroy(rv_ewc *e) {
	if (!e)
		return;
	rv_free(e->tensors);
	rv_free(e->anchor);
	rv_free(e->fisher);
	rv_free(e);
}

/* ---- learning ---- */

/* The trained elements of t lie as those of the memory do. */
static rv_status check_same(const rv_ewc *e, const rv_trainer *t) {
	const rv_train_layout *l = &t->layout;
	int64_t n = 0;
	for (int64_t i = 0; i < l->n_params; i++) {
		const rv_param *p = &l->params[i];
		if (!rv_train_layout_trained(l, p))
			continue;
		const rv_ewc_row *r = n < e->n_tensors ? &e->tensors[n++] : NULL;
		if (!r || strcmp(r->name, p->name) != 0 || r->rows != p->rows || r->cols != p->cols)
			return rv_fail(RV_ERR_MISMATCH,
			               "elastic memory: '%s' of the trainer is not what it was made "
			               "for",
			               p->name);
	}
	if (n != e->n_tensors)
		return rv_fail(RV_ERR_MISMATCH, "elastic memory: '%s' is not trained",
		               e->tensors[n].name);
	return RV_OK;
}

rv_status rv_ewc_set_anchor(rv_ewc *e, const rv_trainer *t) {
	RV_TRY(check_same(e, t));
	memcpy(e->anchor, t->weights + t->layout.train_begin, (size_t)e->n_elements * sizeof(float));
	return RV_OK;
}

/* fisher = (decay old_mass fisher + (1 - decay) sum / weight) / new_mass */
static rv_status average(rv_ewc *e, float *sum, double weight) {
	const double before = 1 - pow(e->decay, (double)e->n_observations),
	             after = 1 - pow(e->decay, (double)(e->n_observations + 1));
	const double old = e->decay * before / after, new = (1 - e->decay) / (after * weight);
	for (int64_t i = 0; i < e->n_elements; i++) {
		sum[i] = (float)(old * (double)e->fisher[i] + new *(double)sum[i]);
		if (!isfinite(sum[i]))
			return rv_fail(RV_ERR_NUMERIC, "elastic memory: a squared gradient is %g",
			               (double)sum[i]);
	}
	memcpy(e->fisher, sum, (size_t)e->n_elements * sizeof *sum);
	e->n_observations++;
	return RV_OK;
}

rv_status rv_ewc_observe(rv_ewc *e, rv_trainer *t, const int32_t *tokens, const float *weights,
                         int64_t n_seqs) {
	const rv_train_batch b = {.tokens = tokens, .weights = weights, .n_seqs = n_seqs};
	float *sum;
	double weight;
	RV_TRY(check_same(e, t));
	RV_TRY(RV_ALLOC(&sum, e->n_elements, "squared gradients"));
	rv_status st = rv_train_squares(t, &b, sum, &weight);
	if (st == RV_OK && !(weight > 0))
		st = rv_fail(RV_ERR_INVALID, "elastic memory: no prediction has weight");
	if (st == RV_OK)
		st = average(e, sum, weight);
	rv_free(sum);
	return st;
}

/* ---- looking inside ---- */

const rv_ewc_row *rv_ewc_find(const rv_ewc *e, const char *name, int64_t rows, int64_t cols) {
	for (int64_t i = 0; i < e->n_tensors; i++) {
		const rv_ewc_row *r = &e->tensors[i];
		if (r->rows == rows && r->cols == cols && strcmp(r->name, name) == 0)
			return r;
	}
	return NULL;
}

int64_t rv_ewc_n_tensors(const rv_ewc *e) {
	return e->n_tensors;
}
rv_ewc_tensor rv_ewc_tensor_at(const rv_ewc *e, int64_t i) {
	const rv_ewc_row *r = &e->tensors[i];
	return (rv_ewc_tensor){.name = r->name,
	                       .rows = r->rows,
	                       .cols = r->cols,
	                       .anchor = e->anchor + r->offset,
	                       .fisher = e->fisher + r->offset};
}
int64_t rv_ewc_n_observations(const rv_ewc *e) {
	return e->n_observations;
}
size_t rv_ewc_bytes(const rv_ewc *e) {
	return sizeof *e + (size_t)e->n_tensors * sizeof *e->tensors +
	       2 * (size_t)e->n_elements * sizeof(float);
}

/* ---- files: a section of the head, one of the tensors' names and shapes, one of each array ---- */

typedef struct file_head {
	int64_t n_tensors, n_elements, n_observations;
	double decay;
} file_head;
_Static_assert(sizeof(file_head) == 32, "part of the file format");
_Static_assert(sizeof(rv_ewc_row) == 104, "part of the file format");

rv_status rv_ewc_save(const rv_ewc *e, const char *path) {
	const file_head head = {e->n_tensors, e->n_elements, e->n_observations, e->decay};
	const size_t bytes = (size_t)e->n_elements * sizeof(float);
	rv_sealed_out out = {0};
	rv_sealed_put(&out, &head, sizeof head);
	rv_sealed_put(&out, e->tensors, (size_t)e->n_tensors * sizeof *e->tensors);
	rv_sealed_put(&out, e->anchor, bytes);
	rv_sealed_put(&out, e->fisher, bytes);
	return rv_sealed_write(&out, path, MAGIC, VERSION);
}

/* Tensors lie one behind the other and fill the arrays. */
static rv_status check_tensors(const rv_ewc *e, const char *file) {
	int64_t at = 0;
	for (int64_t i = 0; i < e->n_tensors; i++) {
		const rv_ewc_row *r = &e->tensors[i];
		const int64_t left = e->n_elements - at;
		if (!memchr(r->name, 0, sizeof r->name) || r->rows < 1 || r->cols < 1 ||
		    r->offset != at || r->rows > left / r->cols || padded(r->rows * r->cols) > left)
			return rv_fail(RV_ERR_FORMAT,
			               "%s: tensor %lld of the elastic memory does not fit", file,
			               (long long)i);
		at += padded(r->rows * r->cols);
	}
	if (at != e->n_elements)
		return rv_fail(RV_ERR_FORMAT, "%s: %lld elements, tensors have %lld", file,
		               (long long)e->n_elements, (long long)at);
	return RV_OK;
}

static rv_status check_numbers(const rv_ewc *e, const char *file) {
	for (int64_t i = 0; i < e->n_elements; i++)
		if (!isfinite(e->anchor[i]) || !(e->fisher[i] >= 0 && isfinite(e->fisher[i])))
			return rv_fail(RV_ERR_FORMAT, "%s: element %lld is no anchor or Fisher", file,
			               (long long)i);
	return RV_OK;
}

static rv_status read_memory(rv_ewc *e, rv_sealed_in *in) {
	file_head head;
	RV_TRY(rv_sealed_get(in, "head of an elastic memory", &head, sizeof head));
	const int64_t left = (int64_t)(in->size - in->at);
	if (head.n_tensors < 1 || head.n_tensors > left / (int64_t)sizeof(rv_ewc_row) ||
	    head.n_elements < 1 || head.n_elements > left / (2 * (int64_t)sizeof(float)) ||
	    head.n_observations < 0 || !(head.decay >= 0 && head.decay < 1))
		return rv_fail(RV_ERR_FORMAT, "%s: the head of the elastic memory is damaged",
		               in->name);
	e->decay = head.decay;
	e->n_observations = head.n_observations;
	e->n_tensors = head.n_tensors;
	e->n_elements = head.n_elements;
	RV_TRY(RV_ALLOC(&e->tensors, e->n_tensors, "elastic memory"));
	RV_TRY(rv_sealed_get(in, "tensors", e->tensors, (size_t)e->n_tensors * sizeof *e->tensors));
	RV_TRY(check_tensors(e, in->name));
	RV_TRY(make_arrays(e));
	const size_t bytes = (size_t)e->n_elements * sizeof(float);
	RV_TRY(rv_sealed_get(in, "anchor", e->anchor, bytes));
	RV_TRY(rv_sealed_get(in, "fisher", e->fisher, bytes));
	RV_TRY(check_numbers(e, in->name));
	return rv_sealed_end(in);
}

/* The file is closed. */
static rv_status load(rv_ewc **out, rv_sealed_in *in) {
	rv_ewc *e;
	rv_status st = RV_ALLOC(&e, 1, "elastic memory");
	if (st == RV_OK)
		st = read_memory(e, in);
	rv_sealed_close(in);
	if (st == RV_OK)
		*out = e;
	else
		rv_ewc_destroy(e);
	return st;
}

rv_status rv_ewc_load(rv_ewc **out, const char *path) {
	rv_sealed_in in = {0};
	*out = NULL;
	RV_TRY(rv_sealed_open(&in, path, MAGIC, VERSION));
	return load(out, &in);
}

rv_status rv_ewc_load_memory(rv_ewc **out, const void *data, size_t size, const char *name) {
	rv_sealed_in in = {0};
	*out = NULL;
	RV_TRY(rv_sealed_open_memory(&in, data, size, name, MAGIC, VERSION));
	return load(out, &in);
}
