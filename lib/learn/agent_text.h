/* A request as words: lower case, stems, clauses, what is negated and what is put off till later.
 *
 * Nothing is allocated; any bytes are accepted (what is not ASCII separates words), and only the first
 * RV_AGENT_TEXT_MAX bytes and RV_AGENT_WORDS_MAX words are read. */
#ifndef RV_LEARN_AGENT_TEXT_H
#define RV_LEARN_AGENT_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define RV_AGENT_TEXT_MAX 1024
#define RV_AGENT_WORDS_MAX 192
#define RV_AGENT_WORD_MAX 24 /* bytes of a word that count */

/* What a clause is to the request. */
typedef enum rv_agent_tense {
	RV_AGENT_NOW,   /* what is wanted */
	RV_AGENT_LATER, /* "then ...", "afterwards ...": comes after what is wanted */
	RV_AGENT_GIVEN  /* "before ...", "since ...", "when ...": says when or why */
} rv_agent_tense;

typedef struct rv_agent_word {
	char text[RV_AGENT_WORD_MAX +
	          1];        /* lower case, no apostrophe; figures as one 0; "?" "!" "." "," */
	uint64_t word, stem; /* hashes of the text and of its stem */
	uint8_t stem_len;
	uint8_t negated; /* stands behind a "not", "without", "instead of" of its clause */
	uint8_t clause;  /* number of its clause */
	uint8_t tense;   /* rv_agent_tense of its clause */
	uint8_t mark;    /* it is a punctuation mark */
} rv_agent_word;

typedef struct rv_agent_text {
	rv_agent_word words[RV_AGENT_WORDS_MAX];
	int n;
} rv_agent_text;

void rv_agent_text_read(rv_agent_text *out, const char *text, size_t len);

/* FNV-1a of bytes, continued from `seed`. */
uint64_t rv_agent_hash(uint64_t seed, const void *data, size_t len);
#define RV_AGENT_HASH_SEED 0xcbf29ce484222325u

/* Length of the stem of a lower-case word, which may be altered at its end ("queries": "query").
 * English endings of number, tense and manner only, so that both spellings of -ise and all forms of a
 * verb agree. */
size_t rv_agent_stem(char *word, size_t len);

#endif
