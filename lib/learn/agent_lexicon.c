#include "learn/agent_lexicon.h"

#include "base/mem.h"
#include "base/options.h"

#include <stdlib.h>
#include <string.h>

enum { PHRASE_WORDS = 8, GAP = 0 /* in place of a hash */ };

typedef struct phrase {
	uint64_t words[PHRASE_WORDS]; /* hashes of stems, or of words where exact; GAP */
	uint8_t exact[PHRASE_WORDS];
	uint8_t n;
	uint16_t group;
	uint32_t hash; /* of its words */
} phrase;

struct rv_agent_lexicon {
	phrase *phrases; /* by the first word's hash */
	size_t n_phrases, cap;
	char *names[RV_LEXICON_GROUPS_MAX];
	float (*weights)[RV_AGENTS]; /* [n_groups] */
	int n_groups;
};

void rv_agent_lexicon_destroy(rv_agent_lexicon *x) {
	if (!x)
		return;
	for (int i = 0; i < x->n_groups; i++)
		rv_free(x->names[i]);
	rv_free(x->phrases);
	rv_free(x->weights);
	rv_free(x);
}

int rv_agent_lexicon_groups(const rv_agent_lexicon *x) {
	return x->n_groups;
}

const char *rv_agent_lexicon_name(const rv_agent_lexicon *x, int group) {
	return x->names[group];
}

/* ---- reading ---- */

typedef struct place {
	const char *name;
	long long line;
} place;

static rv_status wrong(const place *p, const char *what, const char *at, size_t len) {
	return rv_fail(RV_ERR_FORMAT, "%s, line %lld: %s: '%.*s'", p->name, p->line, what,
	               (int)(len < 60 ? len : 60), at);
}

/* A blank-separated part of a phrase; "sign-off" is two words. */
static rv_status add_words(phrase *made, const place *p, const char *at, size_t len) {
	const int exact = *at == '=' && len > 1, gap = len == 1 && *at == '*';
	rv_agent_text t;
	rv_agent_text_read(&t, at + exact, len - (size_t)exact);
	if (t.n == 0 && !gap)
		return wrong(p, "not a word", at, len);
	for (int i = 0; i < (gap ? 1 : t.n); i++) {
		if (made->n == PHRASE_WORDS)
			return wrong(p, "more than 8 words in a phrase", at, len);
		made->words[made->n] = gap ? GAP : exact ? t.words[i].word : t.words[i].stem;
		made->exact[made->n++] = (uint8_t)exact;
	}
	return RV_OK;
}

static rv_status add_phrase(rv_agent_lexicon *x, const place *p, const char *at, size_t len) {
	phrase made = {.group = (uint16_t)(x->n_groups - 1)};
	const char *end = at + len, *begin = at;
	while (at < end) {
		while (at < end && *at == ' ')
			at++;
		const char *stop = at;
		while (stop < end && *stop != ' ')
			stop++;
		if (stop == at)
			break;
		RV_TRY(add_words(&made, p, at, (size_t)(stop - at)));
		at = stop;
	}
	if (made.n == 0 || made.words[0] == GAP || made.words[made.n - 1] == GAP)
		return wrong(p, "a phrase begins and ends with a word", begin, len);
	if (x->n_phrases == x->cap) {
		const size_t cap = x->cap ? 2 * x->cap : 1024;
		RV_TRY(RV_GROW(&x->phrases, x->cap, cap, "phrases"));
		x->cap = cap;
	}
	made.hash = (uint32_t)rv_agent_hash(RV_AGENT_HASH_SEED, made.words, sizeof made.words);
	x->phrases[x->n_phrases++] = made;
	return RV_OK;
}

static rv_status read_weights(rv_agent_lexicon *x, const place *p, const char *at, size_t len) {
	const char *end = at + len;
	if (len == 1 && *at == '-')
		return RV_OK;
	while (at < end) {
		const char *stop = memchr(at, ' ', (size_t)(end - at));
		stop = stop ? stop : end;
		const char *sign = memchr(at, '=', (size_t)(stop - at));
		char number[16] = "";
		double weight;
		const int agent =
		        sign ? rv_agent_index(rv_agent_names, RV_AGENTS, at, (size_t)(sign - at)) : -1;
		if (agent < 0 || stop - sign > (int)sizeof number)
			return wrong(p, "not agent=weight", at, (size_t)(stop - at));
		memcpy(number, sign + 1, (size_t)(stop - sign - 1));
		if (rv_parse_double(number, -100, 100, &weight) != RV_OK)
			return wrong(p, "not a weight of -100 to 100", at, (size_t)(stop - at));
		x->weights[x->n_groups - 1][agent] = (float)weight;
		at = stop < end ? stop + 1 : end;
	}
	return RV_OK;
}

static rv_status read_group(rv_agent_lexicon *x, const place *p, const char *line, size_t len) {
	const char *end = line + len;
	const char *weights = memchr(line, '\t', len);
	const char *phrases = weights ? memchr(weights + 1, '\t', (size_t)(end - weights - 1)) : NULL;
	if (!phrases || weights == line)
		return wrong(p, "not name, weights, phrases (TAB-separated)", line, len);
	if (x->n_groups == RV_LEXICON_GROUPS_MAX)
		return wrong(p, "too many groups", line, (size_t)(weights - line));
	RV_TRY(rv_strndup(&x->names[x->n_groups], line, (size_t)(weights - line)));
	x->n_groups++;
	RV_TRY(read_weights(x, p, weights + 1, (size_t)(phrases - weights - 1)));
	for (const char *at = phrases + 1; at <= end;) {
		const char *stop = memchr(at, '|', (size_t)(end - at));
		stop = stop ? stop : end;
		RV_TRY(add_phrase(x, p, at, (size_t)(stop - at)));
		at = stop + 1;
	}
	return RV_OK;
}

static int by_first_word(const void *a, const void *b) {
	const phrase *x = a, *y = b;
	return x->words[0] < y->words[0] ? -1 : x->words[0] > y->words[0];
}

static rv_status read_lines(rv_agent_lexicon *x, const char *data, size_t size, const char *name) {
	place p = {.name = name};
	for (const char *at = data, *end = data + size; at < end;) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		stop = stop ? stop : end;
		p.line++;
		if (stop > at && *at != '#')
			RV_TRY(read_group(x, &p, at, (size_t)(stop - at)));
		at = stop < end ? stop + 1 : end;
	}
	if (x->n_phrases == 0)
		return rv_fail(RV_ERR_FORMAT, "%s: no phrases", name);
	qsort(x->phrases, x->n_phrases, sizeof *x->phrases, by_first_word);
	return RV_OK;
}

rv_status rv_agent_lexicon_parse(rv_agent_lexicon **out, const char *data, size_t size,
                                 const char *name) {
	rv_agent_lexicon *x;
	RV_TRY(RV_ALLOC(&x, 1, "lexicon"));
	rv_status st = RV_ALLOC(&x->weights, RV_LEXICON_GROUPS_MAX, "lexicon weights");
	if (st == RV_OK)
		st = read_lines(x, data, size, name);
	if (st == RV_OK)
		*out = x;
	else
		rv_agent_lexicon_destroy(x);
	return st;
}

/* ---- matching ---- */

/* The last word of a match of p's words [k, n) at word i, or -1. */
static int match_from(const phrase *p, int k, const rv_agent_text *t, int i) {
	for (; k < p->n; k++, i++) {
		if (p->words[k] == GAP) {
			const int clause = t->words[i - 1].clause;
			for (int skip = 0; skip <= RV_LEXICON_GAP && i + skip < t->n; skip++) {
				const int last = match_from(p, k + 1, t, i + skip);
				if (last >= 0)
					return last;
				if (t->words[i + skip].clause != clause)
					break;
			}
			return -1;
		}
		if (i >= t->n || (p->exact[k] ? t->words[i].word : t->words[i].stem) != p->words[k])
			return -1;
	}
	return i - 1;
}

/* The first phrase whose first hash is not below `hash`. */
static size_t lower_bound(const rv_agent_lexicon *x, uint64_t hash) {
	size_t low = 0, high = x->n_phrases;
	while (low < high) {
		const size_t middle = (low + high) / 2;
		if (x->phrases[middle].words[0] < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int add_hit(rv_agent_hit *hits, int n, const phrase *p, int first, int last) {
	for (int i = n; i-- > 0;)
		if (hits[i].group == p->group && hits[i].last >= first) {
			hits[i].last = (uint8_t)(last > hits[i].last ? last : hits[i].last);
			return n;
		}
	if (n == RV_LEXICON_HITS_MAX)
		return n;
	hits[n] = (rv_agent_hit){p->group, (uint8_t)first, (uint8_t)last, p->hash};
	return n + 1;
}

int rv_agent_lexicon_match(const rv_agent_lexicon *x, const rv_agent_text *t,
                           rv_agent_hit hits[RV_LEXICON_HITS_MAX]) {
	int n = 0;
	for (int i = 0; i < t->n; i++) {
		const uint64_t first[2] = {t->words[i].stem, t->words[i].word};
		for (int form = 0; form < 2; form++) {
			if (form == 1 && first[1] == first[0])
				break;
			for (size_t k = lower_bound(x, first[form]);
			     k < x->n_phrases && x->phrases[k].words[0] == first[form]; k++) {
				const int last = match_from(&x->phrases[k], 0, t, i);
				if (last >= 0)
					n = add_hit(hits, n, &x->phrases[k], i, last);
			}
		}
	}
	return n;
}

/* ---- the keyword router ---- */

/* Chosen by hand. */
static const float of_tense[] = {[RV_AGENT_NOW] = 1, [RV_AGENT_LATER] = 0.4f, [RV_AGENT_GIVEN] = 0.6f};
#define OF_NEGATED (-0.5f)
#define OF_FIRST_WORD 1.5f

void rv_agent_lexicon_score(const rv_agent_lexicon *x, const rv_agent_text *t, const rv_agent_hit *hits,
                            int n_hits, float score[RV_AGENTS]) {
	memset(score, 0, RV_AGENTS * sizeof *score);
	for (int i = 0; i < n_hits; i++) {
		const rv_agent_word *w = &t->words[hits[i].first];
		const float factor = of_tense[w->tense] * (w->negated ? OF_NEGATED : 1) *
		                     (hits[i].first == 0 ? OF_FIRST_WORD : 1);
		for (int a = 0; a < RV_AGENTS; a++)
			score[a] += factor * x->weights[hits[i].group][a];
	}
}
