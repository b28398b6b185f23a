/* Split models for tests: a whole file cut into pieces, rightly or with one thing wrong. */
#ifndef RV_TESTS_MODEL_SPLIT_H
#define RV_TESTS_MODEL_SPLIT_H

#include "model/gguf_set.h"
#include "tests/model/files.h"

typedef struct split_options {
	int n_pieces;
	int empty_first; /* the first piece holds no tensors */
	/* What is wrong, in piece number `bad` (from 0). */
	int bad, no, count, n_tensors; /* added to what the keys should say */
	int drop;                      /* tensors left out */
	int repeat;                    /* the first piece's first tensor once more */
	const char *without;           /* key left out */
	const char *name;              /* general.name of the piece; NULL: no such key */
} split_options;

static inline const char *split_path(char buf[1024], const char *name, int piece, int n) {
	snprintf(buf, 1024, "%s/%s-%05d-of-%05d.gguf", test_dir, name, piece + 1, n);
	return buf;
}

static inline void write_number(rv_gguf_writer *w, const split_options *o, const char *key,
                                rv_gguf_kind kind, int value) {
	uint8_t bytes[sizeof value]; /* the low bytes come first */
	memcpy(bytes, &value, sizeof value);
	rv_gguf_kv kv = {{key, strlen(key)}, kind, kind, 1, bytes, kind == RV_GGUF_U16 ? 2 : 4};
	if (!o->without || strcmp(o->without, key) != 0)
		assert_ok(rv_gguf_write_kv(w, &kv));
}

static inline void write_piece_keys(rv_gguf_writer *w, const rv_gguf *g, const split_options *o,
                                    int piece) {
	static const split_options right;
	const split_options *bad = piece == o->bad ? o : &right;
	for (size_t i = 0; piece == 0 && i < rv_gguf_n_kv(g); i++)
		assert_ok(rv_gguf_write_kv(w, rv_gguf_kv_at(g, i)));
	if (bad->name)
		assert_ok(rv_gguf_write_string(w, "general.name", bad->name));
	write_number(w, bad, "split.no", RV_GGUF_U16, piece + bad->no);
	write_number(w, bad, "split.count", RV_GGUF_U16, o->n_pieces + bad->count);
	write_number(w, bad, "split.tensors.count", RV_GGUF_I32,
	             (int)rv_gguf_n_tensors(g) + bad->n_tensors);
}

/* Writes one piece: tensors [begin, end) and perhaps the model's first once more. */
static inline void write_piece(const rv_gguf *g, const char *path, const split_options *o, int piece,
                               size_t begin, size_t end) {
	rv_gguf_writer *w;
	int repeat = piece == o->bad && o->repeat;
	if (piece == o->bad)
		end -= (size_t)o->drop;
	assert_ok(rv_gguf_writer_open(&w, path));
	write_piece_keys(w, g, o, piece);
	for (size_t i = begin; i < end + (size_t)repeat; i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i < end ? i : 0);
		assert_ok(rv_gguf_declare(w, t->name, t->type, t->n_dims, t->dims));
	}
	for (size_t i = begin; i < end + (size_t)repeat; i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i < end ? i : 0);
		assert_ok(rv_gguf_write_data(w, t->data, t->n_bytes));
	}
	assert_ok(rv_gguf_writer_commit(w));
}

/* Cuts `whole` into test_dir/NAME-0000I-of-0000N.gguf; first[] receives the first piece's path. */
static inline void split_file(char first[1024], const char *whole, const char *name,
                              const split_options *o) {
	rv_gguf *g;
	assert_ok(rv_gguf_open(&g, whole, RV_GGUF_DEFAULT));
	size_t n = rv_gguf_n_tensors(g), holders = (size_t)(o->n_pieces - o->empty_first);
	for (int i = 0; i < o->n_pieces; i++) {
		char path[1024];
		size_t at = (size_t)(i - o->empty_first);
		int empty = i < o->empty_first;
		write_piece(g, split_path(path, name, i, o->n_pieces), o, i,
		            empty ? 0 : n * at / holders, empty ? 0 : n * (at + 1) / holders);
	}
	rv_gguf_close(g);
	split_path(first, name, 0, o->n_pieces);
}

static inline void remove_split(const char *name, int n_pieces) {
	for (int i = 0; i < n_pieces; i++) {
		char path[1024];
		unlink(split_path(path, name, i, n_pieces));
	}
}

#endif
