/* Builds small GGUF files in memory for tests, right or wrong in any field. Independent of the writer
 * under test: the bytes are put down one field after the other. */
#ifndef TESTS_MODEL_GGUF_BUILDER_H
#define TESTS_MODEL_GGUF_BUILDER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct builder {
	uint8_t *data;
	size_t n, capacity;
} builder;

static inline void put(builder *b, const void *bytes, size_t n) {
	if (b->n + n > b->capacity) {
		b->capacity = 2 * (b->n + n) + 1024;
		b->data = realloc(b->data, b->capacity);
		if (!b->data)
			abort();
	}
	if (n)
		memcpy(b->data + b->n, bytes, n);
	b->n += n;
}
/* The low `width` bytes of v. */
static inline void put_int(builder *b, uint64_t v, size_t width) {
	put(b, &v, width);
}
static inline void put_u32(builder *b, uint32_t v) {
	put_int(b, v, 4);
}
static inline void put_u64(builder *b, uint64_t v) {
	put_int(b, v, 8);
}
static inline void put_text(builder *b, const char *s, size_t len) {
	put_u64(b, len);
	put(b, s, len);
}
static inline void put_str(builder *b, const char *s) {
	put_text(b, s, strlen(s));
}
static inline void put_zeros(builder *b, size_t n) {
	for (size_t i = 0; i < n; i++)
		put_int(b, 0, 1);
}
static inline void put_pad(builder *b, size_t alignment) {
	put_zeros(b, (alignment - b->n % alignment) % alignment);
}
static inline void put_header(builder *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
	put(b, "GGUF", 4);
	put_u32(b, version);
	put_u64(b, n_tensors);
	put_u64(b, n_kv);
}
/* Key and kind; the value follows. */
static inline void put_key(builder *b, const char *key, uint32_t kind) {
	put_str(b, key);
	put_u32(b, kind);
}
static inline void put_tensor(builder *b, const char *name, uint32_t type, uint32_t n_dims,
                              const uint64_t *dims, uint64_t offset) {
	put_str(b, name);
	put_u32(b, n_dims);
	for (uint32_t d = 0; d < n_dims; d++)
		put_u64(b, dims[d]);
	put_u32(b, type);
	put_u64(b, offset);
}
static inline void builder_free(builder *b) {
	free(b->data);
	*b = (builder){0};
}

/* The places of a sample file's fields. */
typedef enum place {
	AT_MAGIC,
	AT_VERSION,
	AT_N_TENSORS,
	AT_N_KV,
	AT_KEY_LEN,
	AT_KEY,
	AT_KEY_KIND,
	AT_STRING_LEN,
	AT_STRING, /* the first key, a string */
	AT_BOOL,
	AT_U32_KIND,
	AT_STRINGS_ELEM,
	AT_STRINGS_COUNT,
	AT_STRINGS_FIRST_LEN,
	AT_STRINGS_LAST_LEN,
	AT_FLOATS_ELEM,
	AT_FLOATS_COUNT,
	AT_BYTES_COUNT,
	AT_BOOLS,
	AT_NAME_LEN,
	AT_NAME,
	AT_N_DIMS,
	AT_DIM0,
	AT_DIM1,
	AT_TYPE,
	AT_OFFSET, /* tensor 0: F32 [32, 2] */
	AT_NAME_1,
	AT_1_N_DIMS,
	AT_1_DIM0,
	AT_1_DIM1,
	AT_1_TYPE,
	AT_1_OFFSET, /* tensor 1: Q8_0 [32, 3] */
	AT_2_DIM0,
	AT_2_DIM1,
	AT_2_DIM2,
	AT_2_DIM3,
	AT_2_TYPE,
	AT_2_OFFSET, /* tensor 2: F16 [4, 3, 2, 2] */
	AT_HEADER_END,
	AT_DATA,
	AT_DATA_END,
	AT_COUNT
} place;

typedef struct sample {
	builder b;
	size_t at[AT_COUNT];
} sample;

enum { K_U8, K_I8, K_U16, K_I16, K_U32, K_I32, K_F32, K_BOOL, K_STRING, K_ARRAY, K_U64, K_I64, K_F64 };

static inline void sample_keys(sample *s) {
	builder *b = &s->b;
	s->at[AT_KEY_LEN] = b->n;
	s->at[AT_KEY] = b->n + 8;
	put_str(b, "general.architecture");
	s->at[AT_KEY_KIND] = b->n;
	put_u32(b, K_STRING);
	s->at[AT_STRING_LEN] = b->n;
	s->at[AT_STRING] = b->n + 8;
	put_str(b, "llama");
	put_key(b, "a.bool", K_BOOL);
	s->at[AT_BOOL] = b->n;
	put_int(b, 1, 1);
	put_str(b, "general.number32a");
	s->at[AT_U32_KIND] = b->n;
	put_u32(b, K_U32);
	put_u32(b, 32);
	put_key(b, "a.strings", K_ARRAY);
	s->at[AT_STRINGS_ELEM] = b->n;
	put_u32(b, K_STRING);
	s->at[AT_STRINGS_COUNT] = b->n;
	put_u64(b, 3);
	s->at[AT_STRINGS_FIRST_LEN] = b->n;
	put_str(b, "one");
	put_str(b, "");
	s->at[AT_STRINGS_LAST_LEN] = b->n;
	put_text(b, "th\0ree", 6);
	put_key(b, "a.floats", K_ARRAY);
	s->at[AT_FLOATS_ELEM] = b->n;
	put_u32(b, K_F32);
	s->at[AT_FLOATS_COUNT] = b->n;
	put_u64(b, 2);
	put_zeros(b, 8);
	put_key(b, "a.bytes", K_ARRAY);
	put_u32(b, K_U8);
	s->at[AT_BYTES_COUNT] = b->n;
	put_u64(b, 5);
	put(b, "bytes", 5);
	put_key(b, "a.bools", K_ARRAY);
	put_u32(b, K_BOOL);
	put_u64(b, 3);
	s->at[AT_BOOLS] = b->n;
	put(b, "\1\0\1", 3);
}
#define SAMPLE_N_KV 7

static inline void sample_tensors(sample *s) {
	builder *b = &s->b;
	s->at[AT_NAME_LEN] = b->n;
	s->at[AT_NAME] = b->n + 8;
	s->at[AT_N_DIMS] = b->n + 16;
	s->at[AT_DIM0] = b->n + 20;
	s->at[AT_DIM1] = b->n + 28;
	s->at[AT_TYPE] = b->n + 36;
	s->at[AT_OFFSET] = b->n + 40;
	put_tensor(b, "a.weight", 0, 2, (uint64_t[]){32, 2}, 0);
	s->at[AT_NAME_1] = b->n + 8;
	s->at[AT_1_N_DIMS] = b->n + 16;
	s->at[AT_1_DIM0] = b->n + 20;
	s->at[AT_1_DIM1] = b->n + 28;
	s->at[AT_1_TYPE] = b->n + 36;
	s->at[AT_1_OFFSET] = b->n + 40;
	put_tensor(b, "b.weight", 8, 2, (uint64_t[]){32, 3}, 256);
	for (place p = AT_2_DIM0; p <= AT_2_DIM3; p++)
		s->at[p] = b->n + 20 + 8 * (size_t)(p - AT_2_DIM0);
	s->at[AT_2_TYPE] = b->n + 52;
	s->at[AT_2_OFFSET] = b->n + 56;
	put_tensor(b, "c.weight", 1, 4, (uint64_t[]){4, 3, 2, 2}, 256 + 128);
}

/* A valid file with a value of every interesting shape, 3 tensors and their data. builder_free(&s.b).
 */
static inline sample sample_file(void) {
	sample s = {.at[AT_VERSION] = 4, .at[AT_N_TENSORS] = 8, .at[AT_N_KV] = 16};
	put_header(&s.b, 3, 3, SAMPLE_N_KV);
	sample_keys(&s);
	sample_tensors(&s);
	s.at[AT_HEADER_END] = s.b.n;
	put_pad(&s.b, 32);
	s.at[AT_DATA] = s.b.n;
	put_zeros(&s.b, 256);
	put_zeros(&s.b, 102);
	put_pad(&s.b, 32);
	put_zeros(&s.b, 96);
	s.at[AT_DATA_END] = s.b.n;
	put_pad(&s.b, 32);
	return s;
}

#endif
