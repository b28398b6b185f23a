/* Shared between the files of the tokenizer. Not a public header.
 *
 * Both kinds run on one machine: a text is cut into pieces, a piece becomes a row of symbols (ids of
 * bytes or characters), and neighbouring symbols are replaced by the id that a table of pairs names,
 * lowest rank first, leftmost first. Byte-level BPE takes the pairs from its merges;
 * SentencePiece-style BPE from the scores: every cut of a token into two symbols is a pair with the
 * rank of the token's score.
 */
#ifndef RV_MODEL_TOKENIZER_INTERNAL_H
#define RV_MODEL_TOKENIZER_INTERNAL_H

#include "model/pretokenize.h"
#include "model/tokenizer.h"

#include <string.h>

/* Longest special or user-defined text that is looked for in a text, and longest token that
 * SentencePiece merging produces, in bytes. They bound the work a crafted vocabulary can cause; longer
 * ones are counted and warned about. (The longest of the common vocabularies has 93.) */
#define RV_TOK_MATCH_MAX 256
#define RV_TOK_SPM_MAX 128
#define RV_TOK_SPACE "\xe2\x96\x81" /* U+2581, how SentencePiece writes a space */
#define RV_TOK_SPACE_LEN 3

/* Values are those of tokenizer.ggml.token_type. */
typedef enum rv_tok_type {
	RV_TOK_NORMAL = 1,
	RV_TOK_UNKNOWN,
	RV_TOK_CONTROL,
	RV_TOK_USER,
	RV_TOK_UNUSED,
	RV_TOK_BYTE
} rv_tok_type;

/* ---- hash tables: open addressing, linear probing of a bounded length ---- */

typedef struct rv_tok_strings rv_tok_strings;

/* Exact text -> id. Slots hold 32 bits of the hash to spare comparisons. */
typedef struct rv_tok_slot {
	uint32_t tag;
	int32_t id; /* -1: empty */
} rv_tok_slot;
typedef struct rv_tok_map {
	rv_tok_slot *slots;
	uint64_t seed;
	size_t mask;
} rv_tok_map;

/* (left, right) -> (rank, id); also used for the edges of a trie. */
typedef struct rv_tok_pair {
	uint64_t key; /* left << 32 | right */
	uint32_t rank;
	int32_t id; /* -1: empty */
} rv_tok_pair;
typedef struct rv_tok_pairs {
	rv_tok_pair *slots; /* NULL: an empty table */
	uint64_t seed;
	size_t mask;
} rv_tok_pairs;

/* Texts of at most RV_TOK_SHORT bytes that are one token -> id. */
#define RV_TOK_SHORT 15
typedef struct rv_tok_word {
	uint64_t lo, hi; /* the bytes, zero-padded, length in the top byte of hi */
	int32_t id;      /* -1: empty */
} rv_tok_word;
typedef struct rv_tok_words {
	rv_tok_word *slots;
	uint64_t seed;
	size_t mask;
} rv_tok_words;

/* n texts one after the other: text i is blob[start[i] .. start[i + 1]). */
struct rv_tok_strings {
	char *blob;
	uint32_t *start; /* n + 1 */
	size_t n;
};

static inline rv_str rv_tok_text(const rv_tok_strings *s, size_t i) {
	return (rv_str){s->blob + s->start[i], s->start[i + 1] - s->start[i]};
}

/* Bounds that a table gives up at: probes of one look-up, seeds tried before the table is doubled. */
#define RV_TOK_PROBES 128

static inline uint64_t rv_tok_mix(uint64_t a, uint64_t b) {
	unsigned __int128 m = (unsigned __int128)a * b;
	return (uint64_t)m ^ (uint64_t)(m >> 64);
}
static inline uint64_t rv_tok_hash2(uint64_t a, uint64_t b, uint64_t seed) {
	return rv_tok_mix(a ^ seed,
	                  rv_tok_mix(b ^ 0x9e3779b97f4a7c15u, seed | 1) ^ 0xd6e8feb86659fd93u);
}

static inline const rv_tok_pair *rv_tok_pairs_find(const rv_tok_pairs *t, int32_t left, int32_t right) {
	uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
	size_t i = rv_tok_hash2(key, 0, t->seed) & t->mask;
	for (;; i = (i + 1) & t->mask) {
		const rv_tok_pair *slot = &t->slots[i];
		if (slot->id < 0)
			return NULL;
		if (slot->key == key)
			return slot;
	}
}

/* The first 15 bytes at p as two words; `safe` says that 16 bytes may be read. */
static inline void rv_tok_word_key(const char *p, size_t len, int safe, uint64_t *lo, uint64_t *hi) {
	uint64_t w[2] = {0, 0};
	if (safe) {
		memcpy(w, p, 16);
		if (len < 8) {
			w[0] &= ((uint64_t)1 << 8 * len) - 1;
			w[1] = 0;
		} else {
			w[1] &= ((uint64_t)1 << 8 * (len - 8)) - 1;
		}
	} else {
		memcpy(w, p, len);
	}
	*lo = w[0];
	*hi = w[1] | (uint64_t)len << 56;
}

static inline int32_t rv_tok_words_find(const rv_tok_words *t, uint64_t lo, uint64_t hi) {
	size_t i = rv_tok_hash2(lo, hi, t->seed) & t->mask;
	for (;; i = (i + 1) & t->mask) {
		const rv_tok_word *slot = &t->slots[i];
		if (slot->id < 0 || (slot->lo == lo && slot->hi == hi))
			return slot->id;
	}
}

/* Of equal texts the first id stays; *n_duplicates counts the others. Empty texts are left out. */
rv_status rv_tok_map_build(rv_tok_map *map, const rv_tok_strings *texts, size_t *n_duplicates);
int32_t rv_tok_map_find(const rv_tok_map *map, const rv_tok_strings *texts, const char *s, size_t len);
/* Of equal pairs the first stays. `pairs`: n rows, id >= 0. */
rv_status rv_tok_pairs_build(rv_tok_pairs *table, const rv_tok_pair *pairs, size_t n,
                             size_t *n_duplicates);
rv_status rv_tok_words_build(rv_tok_words *table, const rv_tok_word *words, size_t n);

/* ---- special and user-defined tokens in a text ---- */

/* Which texts are looked for: a trie; node 0 is the root. */
typedef struct rv_tok_finder {
	rv_tok_pairs edges; /* (node, byte) -> node */
	int32_t *token;     /* of a node; -1: none ends here */
	uint8_t first[256]; /* bytes that some text begins with */
	int any;
} rv_tok_finder;

/* The leftmost, then longest, match in [p, end): its start, with *id and *len; `end` when there is
 * none. */
const char *rv_tok_finder_next(const rv_tok_finder *f, const char *p, const char *end, int32_t *id,
                               size_t *len);
rv_status rv_tok_finder_build(rv_tok_finder *f, const rv_tok_strings *texts, const int32_t *ids,
                              size_t n);
void rv_tok_finder_free(rv_tok_finder *f);

/* ---- the tokenizer ---- */

enum {
	RV_TOK_END = 1, /* ends a generation */
	RV_TOK_LATE = 2 /* looked for after normalisation (tokenizer.json: "normalized": true) */
};

typedef enum rv_tok_prefix {
	RV_TOK_PREFIX_NEVER,
	RV_TOK_PREFIX_FIRST,
	RV_TOK_PREFIX_ALWAYS
} rv_tok_prefix;

/* X(field, GGUF key without "tokenizer.ggml.") */
#define RV_TOK_SPECIALS(X)                                                                             \
	X(bos, "bos_token_id")                                                                         \
	X(eos, "eos_token_id")                                                                         \
	X(unk, "unknown_token_id")                                                                     \
	X(pad, "padding_token_id")                                                                     \
	X(eot, "eot_token_id")                                                                         \
	X(eom, "eom_token_id")                                                                         \
	X(sep, "seperator_token_id") /* spelled so by the format */                                    \
	X(mask, "mask_token_id")

struct rv_tokenizer {
	char *name; /* of the file, for messages */
	rv_tokenizer_kind kind;
	rv_pretok pre;
	int32_t n_vocab;
	int nfc, ignore_merges, add_bos, add_eos;
	rv_tok_prefix prefix;
	int cut_at_space; /* SPM: no token continues over a space, so that words merge apart */

	/* n_vocab of the file; for SPM then characters that only occur inside tokens. */
	rv_tok_strings entries;
	rv_tok_strings bytes;  /* [n_vocab] what a token decodes to */
	uint8_t *type, *flags; /* [n_vocab] */
	float *scores;         /* [n_vocab]; NULL for BPE */
	rv_tok_pair *merges;   /* BPE: (left, right, rank, id) by rank, for writing */
	size_t n_merges;
	size_t max_bytes;

	rv_tok_map map; /* of entries */
	rv_tok_pairs pairs;
	rv_tok_words words;
	int32_t byte_id[256];        /* token of a byte; -1: none */
	int32_t ascii_id[128];       /* SPM: symbol of a character; -1: none */
	rv_tok_finder finders[2][2]; /* [parse_special][after normalisation] */

#define RV_TOK_FIELD(field, key) int32_t field;
	RV_TOK_SPECIALS(RV_TOK_FIELD)
#undef RV_TOK_FIELD
};

static inline int rv_tok_is_mergeable(const rv_tokenizer *t, int32_t id) {
	uint8_t type = t->type[id];
	return type == RV_TOK_NORMAL || type == RV_TOK_USER || type == RV_TOK_UNUSED;
}

/* ---- building: a loader calls these in order ---- */

rv_status rv_tok_new(rv_tokenizer **out, const char *name);
/* Copies the entries, makes the map; `n` >= 1. Types are NORMAL until the loader says otherwise. */
rv_status rv_tok_set_entries(rv_tokenizer *t, const rv_str *entries, size_t n, const rv_log *log);
/* Resolves (left, right) by text; a pair of unknown or special parts is not added: *added 0. */
rv_status rv_tok_add_merge(rv_tokenizer *t, size_t capacity, rv_str left, rv_str right, int *added);
/* No ordinary text may merge into a control token: removes the merges that would. */
void rv_tok_drop_control_merges(rv_tokenizer *t);
/* The rest, once types, merges or scores, special ids (-1: none) and options are there. */
rv_status rv_tok_finish(rv_tokenizer *t, const rv_log *log);
rv_status rv_tok_finish_bpe(rv_tokenizer *t, const rv_log *log);
/* Scores, or merges of a tokenizer.json (scores are then made from them). */
rv_status rv_tok_finish_spm(rv_tokenizer *t, const rv_log *log);
/* Texts from `parts` into one blob. */
rv_status rv_tok_strings_copy(rv_tok_strings *out, const rv_str *parts, size_t n, const char *what);
void rv_tok_strings_free(rv_tok_strings *s);

/* <0x00> .. <0xFF> exactly, or -1. */
int rv_tok_parse_byte(rv_str text);
/* The bytes a byte-level entry stands for into out[text.len]; characters that stand for no byte are
 * kept as they are and counted in *foreign (may be NULL). Returns the bytes written. */
size_t rv_tok_letters_to_bytes(rv_str text, char *out, size_t *foreign);
/* The reverse: out[2 * len]. */
size_t rv_tok_bytes_to_letters(const char *bytes, size_t len, char *out);

/* ---- encoding ---- */

typedef struct rv_tok_node rv_tok_node;

/* One encode call: what it made so far and memory it uses again and again. */
typedef struct rv_tok_work {
	const rv_tokenizer *t;
	int32_t *ids;
	size_t n, cap;
	int32_t *symbols;
	size_t symbols_cap;
	rv_tok_node *nodes;
	size_t nodes_cap;
	uint64_t *heap;
	size_t heap_cap;
	char *text; /* escaped or normalised */
	size_t text_cap;
	char *escaped;
	size_t escaped_cap;
	int32_t *chars; /* of one stretch being normalised */
	size_t chars_cap;
} rv_tok_work;

void rv_tok_work_free(rv_tok_work *w); /* all but ids */
/* Makes room for `extra` more elements after the n used ones; grows by half at least. */
rv_status rv_tok_reserve(void **p, size_t *cap, size_t n, size_t extra, size_t size, const char *what);
#define RV_TOK_RESERVE(pp, cap, n, extra, what)                                                        \
	((n) + (extra) <= *(cap) ? RV_OK                                                               \
	                         : rv_tok_reserve((void **)(pp), cap, n, extra, sizeof **(pp), what))

/* Appends one symbol: a token, an inner character or (negative) a symbol without id, by its bytes. */
rv_status rv_tok_emit(rv_tok_work *w, int32_t symbol);
/* A symbol for what has no id: a character, or a byte that is none. */
static inline int32_t rv_tok_symbol_of(int32_t cp, uint8_t byte) {
	return -2 - (cp >= 0 ? cp : 0x110000 + byte);
}
/* Merges a row of symbols (changed) and appends the result. */
rv_status rv_tok_merge(rv_tok_work *w, int32_t *symbols, size_t n);
/* One stretch of ordinary text, normalised. `at_start`: what precedes it is no text. */
rv_status rv_tok_encode_bpe(rv_tok_work *w, const char *text, size_t len);
rv_status rv_tok_encode_spm(rv_tok_work *w, const char *text, size_t len, int prefix);
/* One piece of bytes without the whole-token short cut. */
rv_status rv_tok_piece_bpe(rv_tok_work *w, const char *p, size_t len);
rv_status rv_tok_piece_spm(rv_tok_work *w, const char *p, size_t len);
/* Fills the table of whole-token pieces with every token that merging its own bytes gives back. */
rv_status rv_tok_build_words(rv_tokenizer *t);

/* NFC of the valid stretches of text into w->text; *out points there, or at `text` when nothing
 * changes. */
rv_status rv_tok_nfc(rv_tok_work *w, const char *text, size_t len, const char **out, size_t *out_len);

#endif
