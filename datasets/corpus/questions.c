/* Kind `questions`: the facts of the fictional world asked in the form of MMLU's continuation prompt
 * (question, then the answer itself), beside articles that state them. */
#include "world.h"

static rv_status open_world(void **state) {
	return rv_world_create((rv_world **)state);
}

static void close_world(void *state) {
	rv_world_destroy(state);
}

/* One in four documents is about one subject and says so. */
static void questions(const rv_world *w, rv_rng *rng, rv_sink *out) {
	const rv_subject *s = &w->subjects[rv_pick(rng, RV_WORLD_SUBJECTS)];
	int described = rv_pick(rng, 4) == 0;
	size_t n = (size_t)rv_between(rng, 1, 6);
	const char *title = s->title;
	if (described)
		rv_put_filled(out, "The following are questions (with answers) about {0}.\n\n", &title);
	for (size_t i = 0; i < n; i++) {
		if (i && !described)
			s = &w->subjects[rv_pick(rng, RV_WORLD_SUBJECTS)];
		const rv_fact *f = &s->facts[rv_pick(rng, RV_WORLD_FACTS)];
		rv_put(out, i ? "\n\nQuestion: " : "Question: ");
		rv_put_question(out, f, rv_free_question(f, rng));
		rv_put(out, "\nAnswer: ");
		rv_put(out, f->value);
	}
}

/* The three facts of a thing. */
static void statements(const rv_world *w, rv_rng *rng, rv_sink *out) {
	const rv_subject *s = &w->subjects[rv_pick(rng, RV_WORLD_SUBJECTS)];
	size_t thing = rv_pick(rng, RV_WORLD_THINGS);
	uint32_t slots[RV_WORLD_SLOTS] = {0, 1, 2};
	rv_shuffle(rng, slots, RV_WORLD_SLOTS);
	for (size_t i = 0; i < RV_WORLD_SLOTS; i++) {
		const rv_fact *f = &s->facts[slots[i] * RV_WORLD_THINGS + thing];
		rv_put(out, i ? " " : "");
		rv_put_statement(out, f, rv_free_statement(f, rng), f->thing, f->value);
		rv_put_char(out, '.');
	}
}

static void document(const void *state, uint64_t index, rv_rng *rng, rv_sink *out) {
	(void)index;
	(rv_pick(rng, 4) ? questions : statements)(state, rng, out);
}

const rv_corpus_kind rv_corpus_questions = {
        .name = "questions",
        .about = "facts of the fictional world, asked and answered in words",
        .open = open_world,
        .close = close_world,
        .document = document,
};
