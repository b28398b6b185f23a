/* Random adapters made in memory. */
#ifndef RV_TESTS_SUPPORT_MADE_ADAPTER_H
#define RV_TESTS_SUPPORT_MADE_ADAPTER_H

#include "base/mem.h"
#include "base/rng.h"
#include "model/adapter.h"
#include "model/site.h"
#include "tests/support/test.h"

enum { MADE_MAX = 64 };

/* The factors of an adapter, to be changed before it is made. */
typedef struct made {
	rv_adapter_matrix parts[MADE_MAX];
	float *a[MADE_MAX], *b[MADE_MAX];
	int n;
} made;

/* Of the projections `roles` of layers [from, n_layers); RV_OUTPUT, when among them, once. */
static inline void made_begin(made *m, const rv_model *of, uint32_t roles, int64_t from, int64_t rank,
                              uint64_t seed) {
	const rv_arch *arch = rv_model_arch(of);
	const rv_hparams *hp = rv_model_hparams(of);
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	m->n = 0;
	for (int t = 0; t < arch->n_tensors; t++) {
		const rv_tensor_def *def = &arch->tensors[t];
		if (!(roles & RV_ROLE_BIT(def->role)))
			continue;
		const int in_layers = def->flags & RV_TENSOR_LAYER;
		const int64_t n_in = rv_dim_size(def->cols, hp), n_out = rv_dim_size(def->rows, hp);
		for (int64_t l = in_layers ? from : 0; l < (in_layers ? hp->n_layers : 1); l++) {
			float *a, *b;
			assert_true(m->n < MADE_MAX);
			assert_ok(RV_ALLOC(&a, rank * n_in, "A"));
			assert_ok(RV_ALLOC(&b, n_out * rank, "B"));
			for (int64_t i = 0; i < rank * n_in; i++)
				a[i] = (float)(0.2 * rv_rng_normal(&rng));
			for (int64_t i = 0; i < n_out * rank; i++)
				b[i] = (float)(0.2 * rv_rng_normal(&rng));
			m->a[m->n] = a;
			m->b[m->n] = b;
			m->parts[m->n++] = (rv_adapter_matrix){def->role, l, rank, a, b, 0.5f};
		}
	}
}

static inline void made_end(made *m) {
	for (int i = 0; i < m->n; i++) {
		rv_free(m->a[i]);
		rv_free(m->b[i]);
	}
}

static inline rv_adapter *made_adapter(const rv_model *of, const char *name, uint32_t roles,
                                       int64_t from, int64_t rank, uint64_t seed) {
	made m;
	rv_adapter *adapter;
	made_begin(&m, of, roles, from, rank, seed);
	assert_ok(rv_adapter_create(&adapter, of, name, m.parts, m.n));
	made_end(&m);
	return adapter;
}

#endif
