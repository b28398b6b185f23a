#include "learn/request_set.h"

#include "base/file.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)1 << 30)
#define COLUMNS_MAX 32
#define TOPICAL_TOPICS 3 /* a word of more topics than this names none */

/* ---- reading ---- */

int32_t rv_request_class(const rv_request_set *set, const char *name, size_t len) {
	for (int32_t i = 0; i < set->n_classes; i++)
		if (strlen(set->classes[i]) == len && memcmp(set->classes[i], name, len) == 0)
			return i;
	return -1;
}

/* A place in a file being read. */
typedef struct reader {
	rv_request_set *set;
	const char *path;
	long long line;
	int topics;
	uint64_t seen; /* classes of the present topic */
} reader;

static rv_status class_of(reader *r, const char *name, size_t len, int32_t *out) {
	rv_request_set *set = r->set;
	*out = rv_request_class(set, name, len);
	if (*out >= 0)
		return RV_OK;
	if (len == 0 || set->n_classes == RV_REQUEST_CLASSES_MAX)
		return rv_fail(RV_ERR_FORMAT, "%s, line %lld: %s", r->path, r->line,
		               len ? "more than 64 classes" : "a request without a class");
	RV_TRY(rv_strndup(&set->classes[set->n_classes], name, len));
	*out = set->n_classes++;
	return RV_OK;
}

static rv_status add_request(reader *r, const char *text, size_t n_text, const char *name,
                             size_t n_name) {
	rv_request_set *set = r->set;
	int32_t label;
	RV_TRY(class_of(r, name, n_name, &label));
	if (n_text == 0)
		return rv_fail(RV_ERR_FORMAT, "%s, line %lld: a request without text", r->path,
		               r->line);
	if (set->n == set->cap) {
		const int64_t cap = set->cap ? 2 * set->cap : 1024;
		RV_TRY(RV_GROW(&set->items, set->cap, cap, "requests"));
		set->cap = cap;
	}
	rv_request *q = &set->items[set->n];
	RV_TRY(rv_strndup(&q->text, text, n_text));
	set->n++;
	q->len = n_text;
	q->label = label;
	q->source = set->n_sources;
	q->topic = -1;
	if (!r->topics)
		return RV_OK;
	if (r->seen >> label & 1 || r->seen == 0) {
		set->n_topics++;
		r->seen = 0;
	}
	r->seen |= (uint64_t)1 << label;
	q->topic = set->n_topics - 1;
	return RV_OK;
}

/* The next line without its end; 0 when there is none. */
static int next_line(const char **at, const char *end, const char **line, size_t *len) {
	if (*at >= end)
		return 0;
	const char *stop = memchr(*at, '\n', (size_t)(end - *at));
	*line = *at;
	*at = stop ? stop + 1 : end;
	stop = stop ? stop : end;
	*len = (size_t)(stop - *line);
	if (*len && (*line)[*len - 1] == '\r')
		--*len;
	return 1;
}

/* Fields of a line: starts, and one past the end. */
static int cut_fields(const char *line, size_t len, const char *field[COLUMNS_MAX + 1]) {
	int n = 0;
	field[n++] = line;
	for (size_t i = 0; i < len && n < COLUMNS_MAX; i++)
		if (line[i] == '\t')
			field[n++] = line + i + 1;
	field[n] = line + len + 1;
	return n;
}

static rv_status read_table(reader *r, const char *data, size_t size) {
	const char *at = data, *line, *field[COLUMNS_MAX + 1];
	size_t len;
	int n_columns = 0, agent = -1, text = -1;
	for (; next_line(&at, data + size, &line, &len); r->line++) {
		const int n = cut_fields(line, len, field);
		if (r->line == 1) {
			n_columns = n;
			for (int i = 0; i < n; i++) {
				const size_t width = (size_t)(field[i + 1] - field[i] - 1);
				agent = width == 5 && memcmp(field[i], "agent", 5) == 0 ? i : agent;
				text = width == 4 && memcmp(field[i], "text", 4) == 0 ? i : text;
			}
			if (agent < 0 || text < 0)
				return rv_fail(RV_ERR_FORMAT,
				               "%s, line 1: no column '%s' (TAB-separated)", r->path,
				               agent < 0 ? "agent" : "text");
			continue;
		}
		if (n != n_columns)
			return rv_fail(RV_ERR_FORMAT, "%s, line %lld: %d fields, not %d", r->path,
			               r->line, n, n_columns);
		RV_TRY(add_request(r, field[text], (size_t)(field[text + 1] - field[text] - 1),
		                   field[agent], (size_t)(field[agent + 1] - field[agent] - 1)));
	}
	return RV_OK;
}

static int starts(const char *line, size_t len, const char *with) {
	const size_t n = strlen(with);
	return len > n && memcmp(line, with, n) == 0;
}

static rv_status read_corpus(reader *r, const char *data, size_t size) {
	static const char request[] = "Request: ", agent[] = "Agent: ";
	const char *at = data, *line, *text = NULL;
	size_t len, n_text = 0;
	for (; next_line(&at, data + size, &line, &len); r->line++) {
		if (starts(line, len, request)) {
			text = line + sizeof request - 1;
			n_text = len - (sizeof request - 1);
		} else if (text && starts(line, len, agent)) {
			RV_TRY(add_request(r, text, n_text, line + sizeof agent - 1,
			                   len - (sizeof agent - 1)));
			text = NULL;
		}
	}
	return RV_OK;
}

rv_status rv_request_set_parse(rv_request_set *set, const char *data, size_t size, const char *name,
                               int topics) {
	const size_t n_name = strlen(name);
	const int table = n_name > 4 && strcmp(name + n_name - 4, ".tsv") == 0;
	reader r = {.set = set, .path = name, .line = 1, .topics = topics};
	const int64_t before = set->n;
	if (set->n_sources == RV_REQUEST_SOURCES_MAX)
		return rv_fail(RV_ERR_LIMIT, "%s: more than %d files of requests", name,
		               RV_REQUEST_SOURCES_MAX);
	if (memchr(data, 0, size))
		return rv_fail(RV_ERR_FORMAT, "%s: byte %zu is 0", name,
		               (size_t)((const char *)memchr(data, 0, size) - data));
	RV_TRY(table ? read_table(&r, data, size) : read_corpus(&r, data, size));
	if (set->n == before)
		return rv_fail(RV_ERR_FORMAT, "%s: no requests", name);
	set->source_has_topics[set->n_sources++] = topics;
	return RV_OK;
}

rv_status rv_request_set_add(rv_request_set *set, const char *path, int topics) {
	char *data;
	size_t size;
	RV_TRY(rv_file_read(path, FILE_BYTES_MAX, &data, &size));
	rv_status st = rv_request_set_parse(set, data, size, path, topics);
	rv_free(data);
	return st;
}

/* ---- words ---- */

/* FNV-1a of a word's letters and digits in lower case; 0 when it has none. */
static uint64_t word_hash(const char *s, size_t len) {
	uint64_t h = 14695981039346656037u;
	int any = 0;
	for (size_t i = 0; i < len; i++)
		if (isalnum((unsigned char)s[i])) {
			h = (h ^ (uint64_t)tolower((unsigned char)s[i])) * 1099511628211u;
			any = 1;
		}
	return any ? h : 0;
}

/* A word of a text with a topic. */
typedef struct use {
	uint64_t hash;
	int64_t item;
	int32_t topic;
	int64_t word;
} use;

static int use_order(const void *a, const void *b) {
	const use *x = a, *y = b;
	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	if (x->topic != y->topic)
		return x->topic < y->topic ? -1 : 1;
	return (x->word > y->word) - (x->word < y->word);
}

static rv_status find_words(rv_request_set *set) {
	int64_t n = 0;
	for (int pass = 0; pass < 2; pass++) {
		n = 0;
		for (int64_t i = 0; i < set->n; i++) {
			rv_request *q = &set->items[i];
			q->first_word = n;
			for (size_t at = 0; at < q->len;) {
				while (at < q->len && q->text[at] == ' ')
					at++;
				const size_t begin = at;
				while (at < q->len && q->text[at] != ' ')
					at++;
				if (at == begin)
					continue;
				if (pass)
					set->words[n] = (rv_request_word){(uint32_t)begin,
					                                  (uint32_t)(at - begin), 0};
				n++;
			}
			q->n_words = n - q->first_word;
		}
		if (!pass)
			RV_TRY(RV_ALLOC(&set->words, n, "words of requests"));
	}
	set->n_words = n;
	return RV_OK;
}

/* Marks the uses of one word: topical where several texts of the topic have it and few topics do. */
static void mark(rv_request_set *set, const use *u, int64_t n) {
	int64_t n_topics = 0;
	for (int64_t i = 0; i < n; i++)
		n_topics += i == 0 || u[i].topic != u[i - 1].topic;
	if (n_topics > TOPICAL_TOPICS)
		return;
	for (int64_t i = 0; i < n;) {
		int64_t end = i, texts = 0;
		for (; end < n && u[end].topic == u[i].topic; end++)
			texts += end == i || u[end].item != u[end - 1].item;
		for (; i < end; i++)
			set->words[u[i].word].topical = texts > 1;
	}
}

static rv_status find_topical(rv_request_set *set) {
	use *uses;
	int64_t n = 0;
	RV_TRY(RV_ALLOC(&uses, set->n_words, "uses of words"));
	for (int64_t i = 0; i < set->n; i++) {
		const rv_request *q = &set->items[i];
		for (int64_t w = q->first_word; q->topic >= 0 && w < q->first_word + q->n_words; w++) {
			const uint64_t h = word_hash(q->text + set->words[w].begin, set->words[w].len);
			if (h)
				uses[n++] = (use){h, i, q->topic, w};
		}
	}
	if (n > 0) /* without words there is no table, and qsort wants one */
		qsort(uses, (size_t)n, sizeof *uses, use_order);
	for (int64_t i = 0, end; i < n; i = end) {
		for (end = i; end < n && uses[end].hash == uses[i].hash;)
			end++;
		mark(set, uses + i, end - i);
	}
	rv_status st = RV_ALLOC(&set->topical, 2 * (n > 0 ? n : 1), "topical words");
	for (int64_t i = 0; st == RV_OK && i < n; i++)
		if (set->words[uses[i].word].topical) {
			set->topical[2 * set->n_topical] = uses[i].item;
			set->topical[2 * set->n_topical++ + 1] = uses[i].word;
		}
	rv_free(uses);
	return st;
}

/* ---- order ---- */

static rv_status order(rv_request_set *set) {
	const int64_t n_cells = (int64_t)set->n_sources * set->n_classes;
	RV_TRY(RV_ALLOC(&set->topic_items, set->n_topics + 1, "topics"));
	RV_TRY(RV_ALLOC(&set->class_begin, n_cells + 1, "classes of sources"));
	RV_TRY(RV_ALLOC(&set->by_class, set->n, "requests by class"));
	int32_t topics = 0;
	for (int64_t i = 0; i < set->n; i++)
		if (set->items[i].topic >= topics)
			set->topic_items[topics++] = i;
	for (int64_t cell = 0, n = 0; cell < n_cells; cell++) {
		set->class_begin[cell] = n;
		for (int64_t i = 0; i < set->n; i++)
			if ((int64_t)set->items[i].source * set->n_classes + set->items[i].label ==
			    cell)
				set->by_class[n++] = i;
		set->class_begin[cell + 1] = n;
	}
	return RV_OK;
}

rv_status rv_request_set_finish(rv_request_set *set) {
	RV_TRY(find_words(set));
	RV_TRY(find_topical(set));
	return order(set);
}

void rv_request_set_free(rv_request_set *set) {
	for (int64_t i = 0; i < set->n; i++)
		rv_free(set->items[i].text);
	for (int32_t i = 0; i < set->n_classes; i++)
		rv_free(set->classes[i]);
	rv_free(set->items);
	rv_free(set->words);
	rv_free(set->topical);
	rv_free(set->topic_items);
	rv_free(set->class_begin);
	rv_free(set->by_class);
	*set = (rv_request_set){0};
}

/* ---- noise ---- */

typedef struct letters {
	char *out;
	size_t n, cap;
} letters;

static void put(letters *l, const char *s, size_t len) {
	for (size_t i = 0; i < len && l->n + 1 < l->cap; i++)
		l->out[l->n++] = s[i];
}

static void put_word(letters *l, const char *s, size_t len, const rv_request_noise *noise,
                     rv_rng *rng) {
	if (l->n)
		put(l, " ", 1);
	if (len < 4 || rv_rng_double(rng) >= noise->split) {
		put(l, s, len);
		return;
	}
	const size_t at = 1 + (size_t)rv_rng_below(rng, len - 1);
	put(l, s, at);
	put(l, (const char[]){RV_REQUEST_CUT}, 1);
	put(l, s + at, len - at);
}

size_t rv_request_alter(const rv_request_set *set, int64_t item, const rv_request_noise *noise,
                        rv_rng *rng, char *out, size_t cap, int *exchanged) {
	const rv_request *q = &set->items[item];
	letters l = {.out = out, .cap = cap};
	*exchanged = 0;
	for (int64_t w = q->first_word; w < q->first_word + q->n_words; w++) {
		const rv_request_word *word = &set->words[w];
		const rv_request *from = q;
		const int blank = word->len == 1 && q->text[word->begin] == RV_REQUEST_BLANK;
		if (blank ? !set->n_topical : q->n_words > 3 && rv_rng_double(rng) < noise->drop)
			continue;
		if (blank ||
		    (word->topical && set->n_topical && rv_rng_double(rng) < noise->exchange)) {
			*exchanged = 1;
			const uint64_t k = rv_rng_below(rng, (uint64_t)set->n_topical);
			from = &set->items[set->topical[2 * k]];
			word = &set->words[set->topical[2 * k + 1]];
		}
		put_word(&l, from->text + word->begin, word->len, noise, rng);
	}
	if (l.n == 0)
		put(&l, q->text, q->len);
	if (rv_rng_double(rng) < noise->lower) {
		for (size_t i = 0; i < l.n; i++)
			l.out[i] = (char)tolower((unsigned char)l.out[i]);
		if (l.n > 1 && l.out[l.n - 1] == '.')
			l.n--;
	}
	l.out[l.n] = 0;
	return l.n;
}
