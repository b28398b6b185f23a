#include "learn/agent_features.h"

#include <math.h>
#include <string.h>

const float rv_agent_kind_weights[RV_AGENT_KINDS] = {
        [RV_AGENT_STEM] = 1,     [RV_AGENT_PAIR] = 1,      [RV_AGENT_PIECE] = 0.7f,
        [RV_AGENT_GROUP] = 1.5f, [RV_AGENT_GROUPS] = 0.7f, [RV_AGENT_SHAPE] = 0.5f,
};

/* splitmix64's last step: all bits of a hash matter in the bucket's */
static uint32_t bucket_of(uint64_t h) {
	h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
	h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
	return (uint32_t)(h >> (64 - RV_AGENT_BUCKET_BITS));
}

static void put(rv_agent_features *f, rv_agent_kind kind, int form, uint64_t a, uint64_t b,
                uint64_t c) {
	if (f->n == RV_AGENT_FEATURES_MAX)
		return;
	const uint64_t parts[4] = {(uint64_t)kind * 64 + (uint64_t)form, a, b, c};
	f->items[f->n].bucket = bucket_of(rv_agent_hash(RV_AGENT_HASH_SEED, parts, sizeof parts));
	f->items[f->n].value = 1;
	f->kind[f->n++] = (uint8_t)kind;
}

static void put_words(rv_agent_features *f, const rv_agent_text *t) {
	for (int i = 0; i < t->n; i++) {
		const rv_agent_word *w = &t->words[i];
		const uint64_t next = i + 1 < t->n ? w[1].word : 1,
		               after = i + 2 < t->n ? w[2].word : 1;
		put(f, RV_AGENT_STEM, 0, w->stem, 0, 0);
		if (w->negated || w->tense != RV_AGENT_NOW)
			put(f, RV_AGENT_STEM, 1, w->stem, w->negated, w->tense);
		put(f, RV_AGENT_PAIR, 0, w->word, next, 0);
		put(f, RV_AGENT_PAIR, 1, w->word, next, after);
		if (i + 2 < t->n && !w->mark)
			put(f, RV_AGENT_PAIR, 2, w->stem, w[2].stem, 0);
	}
}

static void put_pieces(rv_agent_features *f, const rv_agent_text *t) {
	for (int i = 0; i < t->n; i++) {
		char word[RV_AGENT_WORD_MAX + 3] = "<";
		if (t->words[i].mark)
			continue;
		strcat(strcat(word, t->words[i].text), ">");
		const size_t n = strlen(word);
		for (size_t width = 4; width <= 5; width++)
			for (size_t k = 0; k + width <= n; k++)
				put(f, RV_AGENT_PIECE, 0,
				    rv_agent_hash(RV_AGENT_HASH_SEED, word + k, width), 0, 0);
	}
}

static void put_groups(rv_agent_features *f, const rv_agent_text *t, const rv_agent_hit *hits, int n) {
	for (int i = 0; i < n; i++) {
		const rv_agent_word *w = &t->words[hits[i].first];
		const uint64_t group = hits[i].group;
		put(f, RV_AGENT_GROUP, 0, group, 0, 0);
		put(f, RV_AGENT_GROUP, 1, group, w->negated, w->tense);
		put(f, RV_AGENT_GROUP, 2, group, w->clause == 0, hits[i].first < 2);
		put(f, RV_AGENT_PAIR, 3, hits[i].phrase, 0, 0);
		if (hits[i].last + 1 < t->n)
			put(f, RV_AGENT_GROUPS, 0, group, t->words[hits[i].last + 1].stem, 0);
		if (hits[i].first > 0)
			put(f, RV_AGENT_GROUPS, 1, group, w[-1].stem, 0);
		for (int k = i + 1; k < n; k++)
			put(f, RV_AGENT_GROUPS, 2, group, hits[k].group, 0);
	}
}

static void put_shape(rv_agent_features *f, const rv_agent_text *t) {
	if (t->n == 0)
		return;
	const rv_agent_word *w = t->words;
	put(f, RV_AGENT_SHAPE, 0, w[0].stem, 0, 0);
	if (t->n > 1)
		put(f, RV_AGENT_SHAPE, 1, w[0].word, w[1].word, 0);
	if (t->n > 2)
		put(f, RV_AGENT_SHAPE, 2, w[0].word, w[1].word, w[2].word);
	put(f, RV_AGENT_SHAPE, 3, w[t->n - 1].mark ? w[t->n - 1].word : 0, 0, 0);
	put(f, RV_AGENT_SHAPE, 4, (uint64_t)log2((double)t->n), 0, 0);
	put(f, RV_AGENT_SHAPE, 5, w[t->n - 1].clause < 4 ? w[t->n - 1].clause : 4, 0, 0);
}

/* A feature counts once; each kind becomes as long as its weight. */
static void scale(rv_agent_features *f, const float *weights) {
	uint8_t seen[RV_AGENT_BUCKETS / 8];
	int count[RV_AGENT_KINDS] = {0}, n = 0;
	memset(seen, 0, sizeof seen);
	for (int i = 0; i < f->n; i++) {
		const uint32_t b = f->items[i].bucket;
		if (seen[b / 8] >> b % 8 & 1)
			continue;
		seen[b / 8] |= (uint8_t)(1 << b % 8);
		f->items[n] = f->items[i];
		f->kind[n++] = f->kind[i];
		count[f->kind[i]]++;
	}
	f->n = n;
	for (int i = 0; i < n; i++)
		f->items[i].value = weights[f->kind[i]] / sqrtf((float)count[f->kind[i]]);
}

void rv_agent_features_read(rv_agent_features *out, const rv_agent_text *text, const rv_agent_hit *hits,
                            int n_hits, const float *kind_weights) {
	out->n = 0;
	put_words(out, text);
	put_groups(out, text, hits, n_hits);
	put_shape(out, text);
	put_pieces(out, text);
	scale(out, kind_weights ? kind_weights : rv_agent_kind_weights);
}
