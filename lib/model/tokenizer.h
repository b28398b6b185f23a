/* Text to token ids and back.
 *
 * Byte-level BPE with the qwen2, gpt-2 and llama-bpe pre-tokenizers, and SentencePiece-style BPE
 * (llama), from GGUF metadata (tokenizer.ggml.*) or a Hugging Face tokenizer.json. Pre-tokenizers are
 * linear hand-written scanners over Unicode categories (libutf8proc); merging is O(n log n) in the
 * length of a piece, so no input takes quadratic time. Immutable after creation; thread-safe.
 */
#ifndef RV_MODEL_TOKENIZER_H
#define RV_MODEL_TOKENIZER_H

#include "base/log.h"
#include "base/status.h"
#include "model/gguf.h"

#include <stddef.h>
#include <stdint.h>

typedef struct rv_tokenizer rv_tokenizer;

typedef enum rv_tokenizer_kind { RV_TOKENIZER_BPE, RV_TOKENIZER_SPM } rv_tokenizer_kind;

/* From an open GGUF file (the strings are copied: the file may be closed). RV_ERR_NOT_FOUND when it has
 * no tokenizer.ggml.model; an unknown model or pre-tokenizer is RV_ERR_UNSUPPORTED by name. Special ids
 * out of range are ignored with a warning to `log` (may be NULL). */
rv_status rv_tokenizer_from_gguf(rv_tokenizer **out, const rv_gguf *gguf, const rv_log *log);
/* From tokenizer.json; an unknown pre-tokenizer pattern, normalizer or model is RV_ERR_UNSUPPORTED by
 * name. NFC normalisation is done when the file asks for it. */
rv_status rv_tokenizer_from_json(rv_tokenizer **out, const char *path, const rv_log *log);
rv_status rv_tokenizer_from_json_memory(rv_tokenizer **out, const char *text, size_t size,
                                        const char *name, const rv_log *log);
/* By content: a GGUF file (vocabulary-only too) or a tokenizer.json. */
rv_status rv_tokenizer_open(rv_tokenizer **out, const char *path, const rv_log *log);
void rv_tokenizer_destroy(rv_tokenizer *tok); /* accepts NULL */

/* Writes the vocabulary as tokenizer.ggml.* keys. */
rv_status rv_tokenizer_write_gguf(const rv_tokenizer *tok, rv_gguf_writer *w);

rv_tokenizer_kind rv_tokenizer_get_kind(const rv_tokenizer *tok);
const char *rv_tokenizer_pre(const rv_tokenizer *tok); /* "qwen2", "gpt-2", "llama-bpe", "spm" */
int32_t rv_tokenizer_n_vocab(const rv_tokenizer *tok);
int32_t rv_tokenizer_bos(const rv_tokenizer *tok); /* -1: none */
int32_t rv_tokenizer_eos(const rv_tokenizer *tok);
/* Ends a generation: eos, end of turn (<|im_end|>, <|eot_id|>, ...) by the vocabulary. */
int rv_tokenizer_is_end(const rv_tokenizer *tok, int32_t id);
int rv_tokenizer_add_bos(const rv_tokenizer *tok); /* the file's own policy */
int rv_tokenizer_add_eos(const rv_tokenizer *tok);
/* The id of an exact vocabulary entry (special tokens included), or -1. */
int32_t rv_tokenizer_find(const rv_tokenizer *tok, const char *text, size_t len);
/* The raw entry of a token (as stored: byte-level BPE letters, or with U+2581). Borrowed. */
rv_str rv_tokenizer_entry(const rv_tokenizer *tok, int32_t id);
/* Control and special tokens decode to nothing unless asked. */
int rv_tokenizer_is_special(const rv_tokenizer *tok, int32_t id);

typedef struct rv_encode_options {
	int add_bos;       /* -1 (default): the file's policy; 0 or 1: as said */
	int add_eos;       /* the same for the end token */
	int parse_special; /* 1: special-token text becomes its id; 0 (default): ordinary text */
} rv_encode_options;
rv_encode_options rv_encode_defaults(void);

/* Any bytes are accepted and come back from decoding, except what the model itself normalises (NFC
 * where tokenizer.json asks, on the valid stretches; U+2581 and the first space of SPM). Special and
 * user-defined tokens are found leftmost first, then longest; user-defined ones also without
 * parse_special, control tokens then never, however the text merges. RV_ERR_MISMATCH, naming the byte,
 * when the vocabulary has no token for it and no unknown token. *ids is rv_free'd by the caller (NULL
 * when there are none). */
rv_status rv_tokenizer_encode(const rv_tokenizer *tok, const char *text, size_t len,
                              const rv_encode_options *options, int32_t **ids, size_t *n);

/* The same for many texts: working memory is kept from call to call, so that texts no longer than those
 * before allocate nothing. One caller at a time; the tokenizer outlives it. *ids is borrowed, valid
 * until the next call. */
typedef struct rv_encoder rv_encoder;
rv_status rv_encoder_create(rv_encoder **out, const rv_tokenizer *tok);
void rv_encoder_destroy(rv_encoder *e); /* accepts NULL */
rv_status rv_encoder_encode(rv_encoder *e, const char *text, size_t len,
                            const rv_encode_options *options, const int32_t **ids, size_t *n);

/* The bytes of ids into a rv_free'd buffer, NUL-terminated (NUL not counted). RV_ERR_INVALID for an id
 * out of range. A leading space that encoding added (SPM) is removed when `strip_space`. */
rv_status rv_tokenizer_decode(const rv_tokenizer *tok, const int32_t *ids, size_t n, int special,
                              int strip_space, char **text, size_t *len);

/* Streaming: bytes of one more token, held back until they form whole UTF-8 characters. All pushes and
 * the flush together give what rv_tokenizer_decode(special 0, strip_space 1) gives. Start from a zeroed
 * struct; with started = 1 the leading space stays (for text that continues other text). */
typedef struct rv_decoder {
	char pending[8];
	int n_pending;
	int started; /* an ordinary token has been seen: no leading space is removed any more */
} rv_decoder;
/* Appends at most `cap` bytes to buf and sets *n; cap >= the longest token + 8
 * (rv_tokenizer_max_bytes). */
rv_status rv_decoder_push(rv_decoder *d, const rv_tokenizer *tok, int32_t id, char *buf, size_t cap,
                          size_t *n);
/* What is still held back (an incomplete character, as it is). */
void rv_decoder_flush(rv_decoder *d, char *buf, size_t cap, size_t *n);
size_t rv_tokenizer_max_bytes(const rv_tokenizer *tok);

#endif
