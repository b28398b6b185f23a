/* Requests as words; the lexicon: phrases, negation, order; the keyword router's evidence. */
#include "base/mem.h"
#include "learn/agent_lexicon.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

static rv_agent_text text;

static void read(const char *s) {
	rv_agent_text_read(&text, s, strlen(s));
}

static void stems(void **state) {
	(void)state;
	static const char *const same[][2] = {
	        {"optimise", "optimizing"}, {"crashes", "crashed"},   {"queries", "query"},
	        {"stopped", "stop"},        {"migrate", "migration"}, {"documentation", "document"},
	        {"caching", "cache"},       {"renames", "renaming"},  {"slowly", "slow"},
	        {"tests", "testing"},
	};
	static const char *const other[][2] = {
	        {"test", "text"}, {"plan", "plant"}, {"sing", "sin"}, {"less", "le"}};
	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		read(same[i][0]);
		const uint64_t a = text.words[0].stem;
		read(same[i][1]);
		if (a != text.words[0].stem)
			fail_msg("%s and %s have two stems", same[i][0], same[i][1]);
	}
	for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
		read(other[i][0]);
		const uint64_t a = text.words[0].stem;
		read(other[i][1]);
		assert_true(a != text.words[0].stem);
	}
}

static void clauses(void **state) {
	(void)state;
	read("Don't fix main.c, then deploy v1.22!");
	static const char *const words[] = {"dont", "fix",    "main", "c", ",",
	                                    "then", "deploy", "v0",   "0", "!"};
	assert_int_equal(text.n, 10);
	for (int i = 0; i < text.n; i++)
		assert_string_equal(text.words[i].text, words[i]);
	assert_true(text.words[1].negated && !text.words[6].negated);
	assert_int_equal(text.words[1].tense, RV_AGENT_NOW);
	assert_int_equal(text.words[6].tense, RV_AGENT_LATER);
}

static void any_bytes(void **state) {
	(void)state;
	char bytes[4096];
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (char)(i * 37 + i / 251);
	rv_agent_text_read(&text, bytes, sizeof bytes);
	assert_true(text.n <= RV_AGENT_WORDS_MAX);
	memset(bytes, 'a', sizeof bytes);
	rv_agent_text_read(&text, bytes, sizeof bytes);
	assert_int_equal(text.n, 1);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = i % 2 ? ' ' : 'a';
	rv_agent_text_read(&text, bytes, sizeof bytes);
	assert_int_equal(text.n, RV_AGENT_WORDS_MAX);
	rv_agent_text_read(&text, "", 0);
	assert_int_equal(text.n, 0);
}

static const char lines[] = "# a comment\n"
                            "review\treviewer=2\treview | look over | sign off\n"
                            "crash\tdebugger=2 tester=-1\tcrash | falls * over\n"
                            "exact\tcoder=1\t=tests\n";

static rv_agent_lexicon *lexicon(void) {
	rv_agent_lexicon *x;
	assert_ok(rv_agent_lexicon_parse(&x, lines, sizeof lines - 1, "lines"));
	return x;
}

static void phrases(void **state) {
	(void)state;
	rv_agent_lexicon *x = lexicon();
	rv_agent_hit hits[RV_LEXICON_HITS_MAX];
	static const struct {
		const char *text;
		int n, group, first, last;
	} cases[] = {
	        {"please review it", 1, 0, 1, 1},
	        {"he looks over it", 1, 0, 1, 2},
	        {"it needs a sign-off", 1, 0, 3, 4},
	        {"it falls right over", 1, 1, 1, 3},
	        {"it falls a b c over", 1, 1, 1, 5},
	        {"it falls a b c d over", 0, 0, 0, 0},
	        {"it falls. all is over", 0, 0, 0, 0},
	        {"the tests", 1, 2, 1, 1},
	        {"the test", 0, 0, 0, 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		read(cases[i].text);
		const int n = rv_agent_lexicon_match(x, &text, hits);
		if (n != cases[i].n ||
		    (n && (hits[0].group != cases[i].group || hits[0].first != cases[i].first ||
		           hits[0].last != cases[i].last)))
			fail_msg("'%s': %d hits", cases[i].text, n);
	}
	rv_agent_lexicon_destroy(x);
}

static void evidence(void **state) {
	(void)state;
	rv_agent_lexicon *x = lexicon();
	rv_agent_hit hits[RV_LEXICON_HITS_MAX];
	float plain[RV_AGENTS], negated[RV_AGENTS], later[RV_AGENTS];
	const int reviewer = rv_agent_index(rv_agent_names, RV_AGENTS, "reviewer", 8);
	read("please review it");
	rv_agent_lexicon_score(x, &text, hits, rv_agent_lexicon_match(x, &text, hits), plain);
	read("please do not review it");
	rv_agent_lexicon_score(x, &text, hits, rv_agent_lexicon_match(x, &text, hits), negated);
	read("build it, then review it");
	rv_agent_lexicon_score(x, &text, hits, rv_agent_lexicon_match(x, &text, hits), later);
	assert_true(plain[reviewer] == 2 && negated[reviewer] < 0);
	assert_true(later[reviewer] > 0 && later[reviewer] < plain[reviewer]);
	rv_agent_lexicon_destroy(x);
}

static void bad_lines(void **state) {
	(void)state;
	static const char *const bad[] = {"",
	                                  "# nothing\n",
	                                  "name\tcoder=1\n",
	                                  "name\tnobody=1\tbuild\n",
	                                  "name\tcoder=x\tbuild\n",
	                                  "name\tcoder=1\t* build\n",
	                                  "name\tcoder=1\tbuild |\n",
	                                  "name\tcoder=1000\tbuild\n",
	                                  "name\tcoder=1\ta b c d e f g h i\n",
	                                  "\t-\tbuild\n",
	                                  "name\tcoder=1\t\001\n"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		rv_agent_lexicon *x;
		if (rv_agent_lexicon_parse(&x, bad[i], strlen(bad[i]), "bad.tsv") != RV_ERR_FORMAT ||
		    !strstr(rv_error_message(), "bad.tsv"))
			fail_msg("line %zu is taken, or not named", i);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(stems),   cmocka_unit_test(clauses),  cmocka_unit_test(any_bytes),
	        cmocka_unit_test(phrases), cmocka_unit_test(evidence), cmocka_unit_test(bad_lines),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
