/* Requests with the class each belongs to, for contrastive training: from tables written by hand and
 * from the corpus generator's text; and batches of them, altered so that a model learns what is wanted
 * and not what it is wanted of.
 *
 * Tables (.tsv): a head line names the columns, TAB-separated; `agent` (the class) and `text` must be
 * among them. In a table with `topics` the lines of one topic stand together, at most one a class: a
 * topic ends where a class would come again. Other files are corpus text, of which lines "Request:
 * TEXT" with the next "Agent: CLASS" are taken. */
#ifndef RV_LEARN_REQUEST_SET_H
#define RV_LEARN_REQUEST_SET_H

#include "base/rng.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define RV_REQUEST_CLASSES_MAX 64
#define RV_REQUEST_SOURCES_MAX 32

/* A word of a text: bytes between blanks. */
typedef struct rv_request_word {
	uint32_t begin, len;
	int topical; /* it names the topic: other requests of the topic have it, hardly any other topic
	              */
} rv_request_word;

typedef struct rv_request {
	char *text; /* NUL-terminated */
	size_t len;
	int32_t label, topic, source; /* topic -1: none */
	int64_t first_word, n_words;  /* in rv_request_set.words */
} rv_request;

typedef struct rv_request_set {
	rv_request *items;
	int64_t n, cap;
	char *classes[RV_REQUEST_CLASSES_MAX]; /* in order of appearance */
	int32_t n_classes;
	int32_t n_topics, n_sources;
	int source_has_topics[RV_REQUEST_SOURCES_MAX];
	rv_request_word *words;
	int64_t n_words;
	int64_t *topic_items; /* [n_topics] first item of a topic */
	int64_t *topical;     /* [n_topical, (item, word)] words that name a topic, for exchange */
	int64_t n_topical;
	int64_t *by_class;    /* items by (source, class) */
	int64_t *class_begin; /* [n_sources * n_classes + 1] into by_class */
} rv_request_set;

/* Adds the requests of a file as a source of its own. RV_ERR_FORMAT names file and line. */
rv_status rv_request_set_add(rv_request_set *set, const char *path, int topics);
/* The same of bytes in memory; the end of `name`, which stands in messages, says which form it is. */
rv_status rv_request_set_parse(rv_request_set *set, const char *data, size_t size, const char *name,
                               int topics);
/* After the last add: words, topics, order. */
rv_status rv_request_set_finish(rv_request_set *set);
void rv_request_set_free(rv_request_set *set); /* accepts a zeroed one */
/* -1: there is no such class. */
int32_t rv_request_class(const rv_request_set *set, const char *name, size_t len);

/* How a text is altered: probabilities. */
typedef struct rv_request_noise {
	double drop;     /* a word is left out */
	double exchange; /* a word that names the topic becomes one of another topic */
	double lower;    /* the text is in lower case, without its last full stop */
	double split;    /* a word is cut in two for the tokenizer */
} rv_request_noise;

#define RV_REQUEST_BLANK '_'  /* a word of its own: stands for whatever a topic is called */
#define RV_REQUEST_CUT '\x01' /* where a word was cut */

/* The altered text into out[cap] (cut off there), NUL-terminated; its length. *exchanged: some word
 * is another topic's. */
size_t rv_request_alter(const rv_request_set *set, int64_t item, const rv_request_noise *noise,
                        rv_rng *rng, char *out, size_t cap, int *exchanged);

#endif
