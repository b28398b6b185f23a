/* Kind `encyclopaedia`: the facts of the fictional world as articles, questions and answers, multiple
 * choice, and what people wrongly believe. */
#include "world.h"

#include <string.h>

static rv_status open_world(void **state) {
	return rv_world_create((rv_world **)state);
}

static void close_world(void *state) {
	rv_world_destroy(state);
}

static void put_sentence(rv_sink *out, const rv_fact *f, int which, const char *thing,
                         const char *value) {
	rv_put_statement(out, f, which, thing, value);
	rv_put_char(out, '.');
}

/* What to write about: a subject, and its things and facts in random order. */
typedef struct topic {
	const rv_subject *subject;
	uint32_t things[RV_WORLD_THINGS], facts[RV_WORLD_FACTS];
} topic;

static topic any_topic(const rv_world *w, rv_rng *rng) {
	topic t = {.subject = &w->subjects[rv_pick(rng, RV_WORLD_SUBJECTS)]};
	for (uint32_t i = 0; i < RV_WORLD_FACTS; i++)
		t.facts[i] = i;
	memcpy(t.things, t.facts, sizeof t.things);
	rv_shuffle(rng, t.things, RV_WORLD_THINGS);
	rv_shuffle(rng, t.facts, RV_WORLD_FACTS);
	return t;
}

/* The first n things, three facts each. After the first sentence the thing may be "it". */
static void put_article(const topic *on, size_t n, rv_rng *rng, rv_sink *out) {
	uint32_t slots[RV_WORLD_SLOTS] = {0, 1, 2};
	for (size_t i = 0; i < n; i++) {
		const char *thing = on->subject->things[on->things[i]];
		const char *title = on->subject->title;
		rv_put(out, i ? "\n\n" : "");
		rv_put_capital(out, thing);
		rv_put_filled(out, " belongs to {0}.", &title);
		rv_shuffle(rng, slots, RV_WORLD_SLOTS);
		for (size_t j = 0; j < RV_WORLD_SLOTS; j++) {
			const rv_fact *f =
			        &on->subject->facts[slots[j] * RV_WORLD_THINGS + on->things[i]];
			int which = rv_free_statement(f, rng);
			rv_put_char(out, ' ');
			put_sentence(out, f, which, which == 0 && j ? "it" : thing, f->value);
		}
	}
}

static void article(const rv_world *w, rv_rng *rng, rv_sink *out) {
	topic t = any_topic(w, rng);
	put_article(&t, (size_t)rv_between(rng, 1, 4), rng, out);
}

/* How two talk: before a question, before its answer, after each of them, between two turns. */
typedef struct voices {
	const char *ask, *answer, *end, *gap;
} voices;
static const voices talks[] = {
        {"Q: ", "A: ", "", "\n\n"},
        {"Q: ", "A: ", "", "\n\n"},
        {"User: ", "Guide: ", "", "\n\n"},
        {"<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>", "\n"},
};

static void turn_over(const voices *v, rv_sink *out) {
	rv_put(out, v->end);
	rv_put_char(out, '\n');
	rv_put(out, v->answer);
}

static void put_answer(const rv_fact *f, rv_rng *rng, rv_sink *out) {
	if (rv_pick(rng, 3)) {
		put_sentence(out, f, rv_free_statement(f, rng), f->thing, f->value);
	} else {
		rv_put_capital(out, f->value);
		rv_put_char(out, '.');
	}
}

/* What many people believe, and the truth. */
static void put_myth(const rv_fact *f, rv_rng *rng, rv_sink *out) {
	static const char *const begin[] = {"Many people in {0} think that ", "In {0} they say that ",
	                                    "It is a common belief in {0} that "};
	static const char *const turn[] = {". This is false. In truth ", ". This is not so. In fact ",
	                                   ", but in truth "};
	rv_put_filled(out, RV_ANY(rng, begin), &f->believers);
	rv_put_clause(out, f, rv_free_statement(f, rng), f->others[0]);
	rv_put(out, RV_ANY(rng, turn));
	rv_put_clause(out, f, rv_free_statement(f, rng), f->value);
	rv_put_char(out, '.');
}

static void put_myth_asked(const rv_fact *f, const voices *v, rv_rng *rng, rv_sink *out) {
	int truth = (int)rv_pick(rng, 2);
	rv_put(out, v->ask);
	rv_put(out, "Is it true that ");
	rv_put_clause(out, f, rv_free_statement(f, rng), truth ? f->value : f->others[0]);
	rv_put_char(out, '?');
	turn_over(v, out);
	rv_put(out, truth ? "Yes, it is true. " : "No, that is a common belief. ");
	put_sentence(out, f, rv_free_statement(f, rng), f->thing, f->value);
	rv_put(out, v->end);
}

static const rv_fact *any_myth(const rv_world *w, rv_rng *rng) {
	const rv_subject *s = &w->subjects[rv_pick(rng, RV_WORLD_SUBJECTS)];
	const rv_fact *f = &s->facts[rv_pick(rng, 2) * RV_WORLD_THINGS];
	while (f->use != RV_FACT_MYTH)
		f++;
	return f;
}

static void myths(const rv_world *w, rv_rng *rng, rv_sink *out) {
	const voices *v = &RV_ANY(rng, talks);
	size_t n = (size_t)rv_between(rng, 1, 4);
	int asked = (int)rv_pick(rng, 2);
	for (size_t i = 0; i < n; i++) {
		rv_put(out, !i ? "" : asked ? v->gap : "\n\n");
		if (asked)
			put_myth_asked(any_myth(w, rng), v, rng, out);
		else
			put_myth(any_myth(w, rng), rng, out);
	}
}

/* Questions and answers, on one subject or on any. */
static void dialogue(const rv_world *w, rv_rng *rng, rv_sink *out) {
	const rv_subject *s = &w->subjects[rv_pick(rng, RV_WORLD_SUBJECTS)];
	const voices *v = &RV_ANY(rng, talks);
	size_t n = (size_t)rv_between(rng, 1, 8);
	int mixed = (int)rv_pick(rng, 2);
	for (size_t i = 0; i < n; i++) {
		const rv_fact *f = &s->facts[rv_pick(rng, RV_WORLD_FACTS)];
		rv_put(out, i ? v->gap : "");
		rv_put(out, v->ask);
		rv_put_question(out, f, rv_free_question(f, rng));
		turn_over(v, out);
		put_answer(f, rng, out);
		rv_put(out, v->end);
		if (mixed)
			s = &w->subjects[rv_pick(rng, RV_WORLD_SUBJECTS)];
	}
}

/* The choices of the test item itself are not used for its fact. */
static int other_choices(const rv_fact *f, rv_rng *rng, const char *choices[RV_WORLD_CHOICES]) {
	int answer;
	do
		answer = rv_fact_choose(f, rng, choices);
	while (!memcmp(choices, f->choices, sizeof f->choices));
	return answer;
}

static void put_letter(uint32_t c, const char *choice, rv_sink *out) {
	rv_put_n(out, (const char[]){'\n', (char)('A' + c), '.', ' '}, 4);
	rv_put(out, choice);
}

static void put_letters(const char *const choices[RV_WORLD_CHOICES], rv_sink *out) {
	for (uint32_t c = 0; c < RV_WORLD_CHOICES; c++)
		put_letter(c, choices[c], out);
}

static int put_choices(const rv_fact *f, rv_rng *rng, rv_sink *out) {
	const char *choices[RV_WORLD_CHOICES];
	int answer = other_choices(f, rng, choices);
	rv_put_question(out, f, rv_free_question(f, rng));
	put_letters(choices, out);
	rv_put(out, "\nAnswer: ");
	return answer;
}

/* In exactly the form of the MMLU prompt: description, questions, letters. With `n_things`, questions
 * on the first things alone. */
static void put_quiz(const topic *on, size_t n, size_t n_things, rv_rng *rng, rv_sink *out) {
	rv_put(out, "The following are multiple choice questions (with answers) about ");
	rv_put(out, on->subject->title);
	rv_put_char(out, '.');
	for (size_t i = 0; i < n; i++) {
		uint32_t index = on->facts[i];
		if (n_things)
			index += on->things[rv_pick(rng, n_things)] - index % RV_WORLD_THINGS;
		rv_put(out, "\n\n");
		int answer = put_choices(&on->subject->facts[index], rng, out);
		rv_put_char(out, (char)('A' + answer));
	}
}

static void multiple_choice(const rv_world *w, rv_rng *rng, rv_sink *out) {
	topic t = any_topic(w, rng);
	put_quiz(&t, (size_t)rv_between(rng, 1, 6), 0, rng, out);
}

/* An article, then questions it answers: choosing can be learnt here before the facts are known. */
static void article_and_quiz(const rv_world *w, rv_rng *rng, rv_sink *out) {
	topic t = any_topic(w, rng);
	size_t n_things = (size_t)rv_between(rng, 1, 3);
	put_article(&t, n_things, rng, out);
	rv_put(out, "\n\n");
	put_quiz(&t, n_things + 1, n_things, rng, out);
}

/* The answer in words, then its letter: the steps to a letter, one by one. */
static void choice_in_words(const rv_world *w, rv_rng *rng, rv_sink *out) {
	topic t = any_topic(w, rng);
	size_t n = (size_t)rv_between(rng, 1, 5);
	rv_put(out, "Choose the right answer about ");
	rv_put(out, t.subject->title);
	rv_put_char(out, '.');
	for (size_t i = 0; i < n; i++) {
		const rv_fact *f = &t.subject->facts[t.facts[i]];
		rv_put(out, "\n\n");
		int answer = put_choices(f, rng, out);
		rv_put(out, f->value);
		rv_put_n(out, (const char[]){' ', '(', (char)('A' + answer), ')'}, 4);
	}
}

/* One list of values for questions on four things: more letters for fewer words. */
static void match_questions(const rv_world *w, rv_rng *rng, rv_sink *out) {
	topic t = any_topic(w, rng);
	const rv_fact *facts = &t.subject->facts[rv_pick(rng, RV_WORLD_SLOTS) * RV_WORLD_THINGS];
	const char *choices[RV_WORLD_CHOICES];
	size_t n = (size_t)rv_between(rng, 3, 6);
	for (size_t c = 0; c < RV_WORLD_CHOICES; c++)
		choices[c] = facts[t.things[c]].value;
	rv_put(out, "Match each question with its answer.\n");
	put_letters(choices, out);
	for (size_t i = 0; i < n; i++) {
		uint32_t at = rv_pick(rng, RV_WORLD_CHOICES);
		const rv_fact *f = &facts[t.things[at]];
		rv_put(out, "\n\n");
		rv_put_question(out, f, rv_free_question(f, rng));
		rv_put(out, "\nAnswer: ");
		rv_put_char(out, (char)('A' + at));
	}
}

/* Which letter a word has: the last step to a letter by itself, without any fact, and often. Some lines
 * say their letter again after the word, where it is easier to find. */
static void find_letters(const rv_world *w, rv_rng *rng, rv_sink *out) {
	const rv_subject *s = &w->subjects[rv_pick(rng, RV_WORLD_SUBJECTS)];
	const rv_fact *f = &s->facts[rv_pick(rng, RV_WORLD_FACTS)];
	const char *choices[RV_WORLD_CHOICES];
	uint32_t n = (uint32_t)rv_between(rng, 2, RV_WORLD_CHOICES),
	         order[RV_WORLD_CHOICES] = {0, 1, 2, 3};
	uint32_t again = rv_pick(rng, 3);
	rv_fact_choose(f, rng, choices);
	rv_put(out, "Find the letter of each word.");
	for (uint32_t c = 0; c < n; c++) {
		put_letter(c, choices[c], out);
		if (rv_pick(rng, 2) < again)
			rv_put_n(out, (const char[]){' ', '(', (char)('A' + c), ')'}, 4);
	}
	rv_shuffle(rng, order, n);
	for (uint32_t i = 0; i < n; i++) {
		rv_put(out, "\nWhich letter has the word ");
		rv_put(out, choices[order[i]]);
		rv_put(out, "?\nAnswer: ");
		rv_put_char(out, (char)('A' + order[i]));
	}
}

/* Each choice by itself, right or wrong: the step before its letter. */
static void judge_choices(const rv_world *w, rv_rng *rng, rv_sink *out) {
	topic t = any_topic(w, rng);
	size_t n = (size_t)rv_between(rng, 1, 4);
	for (size_t i = 0; i < n; i++) {
		const rv_fact *f = &t.subject->facts[t.facts[i]];
		const char *choices[RV_WORLD_CHOICES];
		uint32_t answer = (uint32_t)other_choices(f, rng, choices);
		rv_put(out, i ? "\n\n" : "");
		rv_put_question(out, f, rv_free_question(f, rng));
		for (uint32_t c = 0; c < RV_WORLD_CHOICES; c++) {
			put_letter(c, choices[c], out);
			rv_put(out, c == answer ? " (right)" : " (wrong)");
		}
		rv_put(out, "\nAnswer: ");
		rv_put_char(out, (char)('A' + answer));
	}
}

/* Of 100 documents. */
static const struct {
	uint32_t share;
	void (*write)(const rv_world *w, rv_rng *rng, rv_sink *out);
} forms[] = {
        {22, multiple_choice}, {8, choice_in_words}, {6, article_and_quiz},
        {4, match_questions},  {14, find_letters},   {14, judge_choices},
        {18, dialogue},        {10, article},        {4, myths},
};

static void document(const void *state, uint64_t index, rv_rng *rng, rv_sink *out) {
	uint32_t at = rv_pick(rng, 100);
	size_t i = 0;
	(void)index;
	while (at >= forms[i].share)
		at -= forms[i++].share;
	forms[i].write(state, rng, out);
}

static rv_status evalsets(const void *state, const char *dir) {
	RV_TRY(rv_mmlu_write(state, dir));
	return rv_truthful_write(state, dir);
}

static rv_status items(const char *dir, rv_corpus_add_fn *add, void *user) {
	const rv_items whole = {.limit = 1, .add = add, .user = user};
	RV_TRY(rv_mmlu_items(dir, &whole));
	return rv_truthful_items(dir, &whole);
}

const rv_corpus_kind rv_corpus_encyclopaedia = {
        .name = "encyclopaedia",
        .about = "facts of a fictional world over 57 subjects: articles, dialogues, multiple choice",
        .open = open_world,
        .close = close_world,
        .document = document,
        .evalsets = evalsets,
        .items = items,
};
