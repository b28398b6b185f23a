/* What the kinds of vector codes share. A kind is a row of rv_codec_kinds. */
#ifndef RV_MEMORY_CODEC_INTERNAL_H
#define RV_MEMORY_CODEC_INTERNAL_H

#include "memory/codec.h"

typedef struct rv_codec_kind {
	/* Sizes, from the options alone. */
	size_t (*code_bytes)(const rv_codec_options *o);
	size_t (*query_bytes)(const rv_codec_options *o);
	size_t (*n_learned)(const rv_codec_options *o); /* floats of rv_codec.learned */
	/* Learns c->learned from rows that were checked; may use scratch of its own. */
	rv_status (*learn)(rv_codec *c, const float *x, int64_t n, float *learned, rv_threads *threads);
	/* What follows from c->learned: after training and loading. */
	rv_status (*derive)(rv_codec *c);
	/* x was checked and, with cosine, is of length 1. work: [2 dim] floats. */
	void (*encode)(const rv_codec *c, const float *x, uint8_t *code, float *work);
	void (*decode)(const rv_codec *c, const uint8_t *code, float *x);
	int (*code_ok)(const rv_codec *c, const uint8_t *code);
	void (*prepare)(const rv_codec *c, const float *query, void *prepared, float *work);
	void (*prepare_code)(const rv_codec *c, const uint8_t *code, void *prepared, float *work);
	void (*distances)(const rv_codec *c, const void *prepared, const uint8_t *const *codes,
	                  int64_t n, float *out);
	float (*code_distance)(const rv_codec *c, const uint8_t *a, const uint8_t *b);
} rv_codec_kind;

extern const rv_codec_kind rv_codec_linear, rv_codec_pq;

struct rv_codec {
	rv_codec_options options; /* kernels and pq_m filled in */
	const rv_codec_kind *kind;
	float *learned; /* NULL: not trained. linear: the mean [dim]; pq: centroids [m, 256, dim / m] */
	/* linear */
	float *signs;      /* of the rotation: [RV_ROTATION_ROUNDS, dim], or NULL where there is none */
	float mean_square; /* |mean|^2 */
	/* pq */
	float *columns; /* the centroids as [m, dim / m, 256] */
	float *halves;  /* half of a centroid's squared length: [m, 256] */
};

enum { RV_ROTATION_ROUNDS = 2 };

/* Squared length. RV_ERR_NUMERIC when it has none in f32 or, with cosine, is as good as 0. The message
 * names the row when row >= 0. */
rv_status rv_codec_check_row(const rv_codec *c, const float *x, int64_t row, float *square);
/* The row as codes see it: with cosine, scaled to length 1. */
void rv_codec_scale_row(const rv_codec *c, const float *x, float square, float *out);

/* An orthonormal map of `dim` components made of the signs, and its inverse. */
void rv_rotate(const float *signs, int dim, float *x);
void rv_rotate_back(const float *signs, int dim, float *x);

#endif
