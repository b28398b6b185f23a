#include "learn/agent_text.h"

#include <string.h>

uint64_t rv_agent_hash(uint64_t seed, const void *data, size_t len) {
	const uint8_t *p = data;
	for (size_t i = 0; i < len; i++)
		seed = (seed ^ p[i]) * 0x100000001b3u;
	return seed;
}

/* ---- stems ---- */

static int ends(const char *word, size_t len, const char *suffix) {
	const size_t n = strlen(suffix);
	return len > n && memcmp(word + len - n, suffix, n) == 0;
}

static int has_vowel(const char *word, size_t len) {
	for (size_t i = 0; i < len; i++)
		if (strchr("aeiouy", word[i]))
			return 1;
	return 0;
}

/* "stopped": "stop", but "falling": "fall" */
static size_t undouble(const char *word, size_t len) {
	return len > 3 && word[len - 1] == word[len - 2] && !strchr("lsz", word[len - 1]) ? len - 1
	                                                                                  : len;
}

/* British to American: optimise, optimising, optimisation */
static void respell(char *word, size_t len) {
	static const char *const endings[] = {"isation", "ising", "ised", "ises", "ise", "iser"};
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
		if (ends(word, len, endings[i]) && len >= strlen(endings[i]) + 4) {
			word[len - strlen(endings[i]) + 1] = 'z';
			return;
		}
}

size_t rv_agent_stem(char *word, size_t len) {
	if (len < 4)
		return len;
	respell(word, len);
	if (ends(word, len, "ies") && len > 4) {
		word[len - 3] = 'y';
		len -= 2;
	} else if (ends(word, len, "sses") || ends(word, len, "shes") || ends(word, len, "ches") ||
	           ends(word, len, "xes"))
		len -= 2;
	else if (word[len - 1] == 's' && !strchr("sui", word[len - 2]))
		len--;
	if (ends(word, len, "ied") && len > 4) {
		word[len - 3] = 'y';
		len -= 2;
	} else if (ends(word, len, "ing") && len > 5 && has_vowel(word, len - 3))
		len = undouble(word, len - 3);
	else if (ends(word, len, "ed") && len > 4 && has_vowel(word, len - 2))
		len = undouble(word, len - 2);
	if (ends(word, len, "ly") && len > 5)
		len -= 2;
	if (ends(word, len, "ization"))
		len -= 5;
	else if (ends(word, len, "ation") && len > 7)
		len -= 5;
	else if (ends(word, len, "at") && len > 5) /* migrated */
		len -= 2;
	else if (ends(word, len, "ate") && len > 5)
		len -= 3;
	if (len > 4 && word[len - 1] == 'e')
		len--;
	return len;
}

/* ---- words ---- */

static int is_letter(char c) {
	return c >= 'a' && c <= 'z';
}

static int is_digit(char c) {
	return c >= '0' && c <= '9';
}

static char lower(char c) {
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static int is_mark(char c) {
	return c == '?' || c == '!' || c == '.' || c == ',' || c == ';' || c == ':' || c == '(';
}

/* The word at text[*at], moving on behind it; its length, 0 when a byte belongs to none. */
static size_t take_word(const char *text, size_t len, size_t *at, char out[RV_AGENT_WORD_MAX + 1]) {
	size_t n = 0, i = *at;
	while (i < len) {
		const char c = lower(text[i]);
		if (is_letter(c)) {
			if (n < RV_AGENT_WORD_MAX)
				out[n++] = c;
		} else if (is_digit(c)) {
			if (n < RV_AGENT_WORD_MAX && (n == 0 || out[n - 1] != '0'))
				out[n++] = '0';
		} else if (!(c == '\'' && n > 0 && i + 1 < len && is_letter(lower(text[i + 1]))))
			break;
		i++;
	}
	if (n == 0 && is_mark(text[i])) {
		/* a point within a name or number ("v1.2", "main.c") is no end */
		const int inner = text[i] == '.' && i + 1 < len && text[i + 1] != ' ';
		if (!inner)
			out[n++] = text[i];
		i++;
	} else if (n == 0)
		i++;
	*at = i;
	out[n] = '\0';
	return n;
}

/* ---- clauses ---- */

/* A blank at both ends so that whole words are found. */
static int among(const char *list, const char *word) {
	char key[RV_AGENT_WORD_MAX + 3] = " ";
	strcat(strcat(key, word), " ");
	return strstr(list, key) != NULL;
}

static int negates(const rv_agent_text *t, int i) {
	const char *w = t->words[i].text;
	if (among(" not no dont doesnt didnt isnt arent wasnt without never nothing cannot cant wont "
	          "neither nor nobody ",
	          w))
		return 1;
	return i > 0 && ((strcmp(w, "of") == 0 && strcmp(t->words[i - 1].text, "instead") == 0) ||
	                 (strcmp(w, "than") == 0 && strcmp(t->words[i - 1].text, "rather") == 0));
}

static rv_agent_tense opens(const char *w) {
	if (among(" then afterwards later finally next ", w))
		return RV_AGENT_LATER;
	if (among(" before after once when while since because until if although though whenever ", w))
		return RV_AGENT_GIVEN;
	return RV_AGENT_NOW;
}

enum { NEGATION_REACH = 4 }; /* words */

static void read_clauses(rv_agent_text *t) {
	int clause = 0, negated = 0;
	uint8_t tense = RV_AGENT_NOW;
	for (int i = 0; i < t->n; i++) {
		rv_agent_word *w = &t->words[i];
		if (w->mark) {
			clause += clause < 255;
			negated = 0;
			tense = RV_AGENT_NOW;
		} else if (opens(w->text) != RV_AGENT_NOW) {
			clause += clause < 255;
			tense = (uint8_t)opens(w->text);
		}
		w->clause = (uint8_t)clause;
		w->tense = tense;
		w->negated = negated > 0 && !w->mark;
		negated -= negated > 0;
		if (negates(t, i))
			negated = NEGATION_REACH;
	}
}

void rv_agent_text_read(rv_agent_text *out, const char *text, size_t len) {
	out->n = 0;
	if (len > RV_AGENT_TEXT_MAX)
		len = RV_AGENT_TEXT_MAX;
	for (size_t at = 0; at < len && out->n < RV_AGENT_WORDS_MAX;) {
		rv_agent_word *w = &out->words[out->n];
		char stem[RV_AGENT_WORD_MAX + 1];
		memset(w, 0, sizeof *w);
		const size_t n = take_word(text, len, &at, w->text);
		if (n == 0)
			continue;
		memcpy(stem, w->text, n);
		w->mark = (uint8_t)is_mark(w->text[0]);
		w->stem_len = (uint8_t)(w->mark ? n : rv_agent_stem(stem, n));
		w->word = rv_agent_hash(RV_AGENT_HASH_SEED, w->text, n);
		w->stem = rv_agent_hash(RV_AGENT_HASH_SEED, stem, w->stem_len);
		out->n++;
	}
	read_clauses(out);
}
