/* Option tables and number parsing. */
#include "base_test.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/options.h"

#include <locale.h>
#include <math.h>

static _Atomic int allocations, alloc_fails_at;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	return ++allocations == alloc_fails_at ? NULL : __real_aligned_alloc(alignment, size);
}

typedef struct common {
	int json;
	int64_t seed;
} common;
typedef struct own {
	int64_t n_predict;
	double temp;
	const char *model;
	int attn;
	rv_option_list lora;
	rv_int_list depths;
} own;

static const char *const attns[] = {"standard", "flash", NULL};
static const rv_option common_table[] = {
        {.name = "json", .kind = RV_OPT_FLAG, .offset = offsetof(common, json), .help = "print JSON"},
        {.name = "seed",
         .kind = RV_OPT_INT,
         .offset = offsetof(common, seed),
         .min = -INFINITY,
         .max = INFINITY,
         .help = "of all randomness"},
        {.name = NULL},
};
static const rv_option own_table[] = {
        {.name = "n-predict",
         .letter = 'n',
         .kind = RV_OPT_INT,
         .offset = offsetof(own, n_predict),
         .min = 1,
         .max = 100000,
         .unit = "tokens",
         .help = "tokens to produce"},
        {.name = "temp",
         .kind = RV_OPT_DOUBLE,
         .offset = offsetof(own, temp),
         .min = 0,
         .max = 10,
         .help = "0 is greedy"},
        {.name = "model",
         .letter = 'm',
         .kind = RV_OPT_STRING,
         .offset = offsetof(own, model),
         .value_name = "FILE",
         .help = "GGUF file"},
        {.name = "attn",
         .kind = RV_OPT_ENUM,
         .offset = offsetof(own, attn),
         .choices = attns,
         .help = "kernel"},
        {.name = "lora", .kind = RV_OPT_LIST, .offset = offsetof(own, lora), .help = "adapter"},
        {.name = "depth",
         .letter = 'd',
         .kind = RV_OPT_INTS,
         .offset = offsetof(own, depths),
         .min = 0,
         .max = 1000000,
         .help = "context before"},
        {.name = NULL},
};
static const rv_option *const tables[] = {common_table, own_table, NULL};

typedef struct parsed {
	common c;
	own o;
	const char *words[3];
	int n_words;
} parsed;

static parsed defaults(void) {
	return (parsed){.c = {.seed = 7}, .o = {.n_predict = 128, .temp = 0.7, .depths = {{512}, 1}}};
}

/* Splits at '|'. */
static rv_status parse(const char *line, parsed *p) {
	static char copy[4096];
	char *argv[64];
	int argc = 1;
	*p = defaults();
	argv[0] = (char[]){"program"};
	snprintf(copy, sizeof copy, "%s", line);
	for (char *s = copy, *word; *line && (word = strsep(&s, "|"));)
		argv[argc++] = word;
	void *values[] = {&p->c, &p->o};
	return rv_options_parse(tables, values, argc, argv, p->words, 3, &p->n_words);
}

static void every_form_is_read(void **state) {
	(void)state;
	parsed p;
	assert_ok(parse("", &p));
	assert_int_equal(p.o.n_predict, 128);
	assert_ok(parse("--json|-n|5|--temp=0.25|-m|x.gguf|--attn|flash|in|--seed|-9|out", &p));
	assert_int_equal(p.c.json, 1);
	assert_int_equal(p.c.seed, -9);
	assert_int_equal(p.o.n_predict, 5);
	assert_true(p.o.temp == 0.25);
	assert_string_equal(p.o.model, "x.gguf");
	assert_int_equal(p.o.attn, 1);
	assert_int_equal(p.n_words, 2);
	assert_string_equal(p.words[0], "in");
	assert_string_equal(p.words[1], "out");
	assert_ok(parse("-temp|1e-1|-n=3|-model|m|--n-predict|4", &p)); /* the last one counts */
	assert_true(p.o.temp == 0.1);
	assert_int_equal(p.o.n_predict, 4);
	assert_ok(parse("--model=a=b|-|--|--json|-n", &p));
	assert_string_equal(p.o.model, "a=b");
	assert_int_equal(p.n_words, 3);
	assert_string_equal(p.words[0], "-");
	assert_string_equal(p.words[1], "--json");
	assert_int_equal(p.c.json, 0);
	assert_ok(parse("--model=|--lora|a:0.5|--lora=b", &p));
	assert_string_equal(p.o.model, "");
	assert_int_equal(p.o.lora.n, 2);
	assert_string_equal(p.o.lora.items[1], "b");
}

static void refusals_name_the_option(void **state) {
	(void)state;
	static const struct {
		const char *line, *message;
	} rows[] = {
	        {"--temp|abc", "--temp: 'abc' is not a number"},
	        {"-n|-5", "-n: -5 is below 1"},
	        {"-n|0", "-n: 0 is below 1"},
	        {"--n-predict=100001", "--n-predict: 100001 is above 100000"},
	        {"-n|9223372036854775808", "-n: 9223372036854775808 is above 100000"},
	        {"-n|-99999999999999999999", "-n: -99999999999999999999 is below 1"},
	        {"-n|4e9", "-n: '4e9' is not a whole number"},
	        {"-n|12x", "-n: '12x' is not a whole number"},
	        {"-n|", "-n: '' is not a whole number"},
	        {"-n| 5", "-n: ' 5' is not a whole number"},
	        {"-n|0x10", "-n: '0x10' is not a whole number"},
	        {"-n", "-n: its value is missing"},
	        {"--temp", "--temp: its value is missing"},
	        {"--temp|nan", "--temp: 'nan' is not a number"},
	        {"--temp|inf", "--temp: 'inf' is not a number"},
	        {"--temp|1,5", "--temp: '1,5' is not a number"},
	        {"--temp|1e999", "--temp: 1e999 is above 10"},
	        {"--temp|-0.5", "--temp: -0.5 is below 0"},
	        {"--temp|0x1p3", "--temp: '0x1p3' is not a number"},
	        {"--temp|.", "--temp: '.' is not a number"},
	        {"--temp|1e", "--temp: '1e' is not a number"},
	        {"--attn|fast", "--attn: 'fast' is not one of standard, flash"},
	        {"--json=1", "--json: takes no value"},
	        {"--tmep|1", "--tmep: unknown option; is --temp meant?"},
	        {"-modl|1", "-modl: unknown option; is --model meant?"},
	        {"--quantum", "--quantum: unknown option"},
	        {"-z", "-z: unknown option"},
	        {"--=3", "--: unknown option"},
	        {"a|b|c|d", "'d': unexpected argument"},
	        {"-d|1,,2", "-d: '' is not a number or a range A-B, A-B+STEP, A-B*FACTOR"},
	        {"-d|5-2", "-d: '5-2' runs backwards"},
	        {"-d|0-8*2", "-d: '0-8*2' multiplies from below 1"},
	        {"-d|1-8*1", "-d: 1 is below 2"},
	        {"-d|1-8+0", "-d: 0 is below 1"},
	        {"-d|0-1000000", "-d: more than 256 numbers"},
	        {"-d|3x", "-d: '3x' is not a number or a range A-B, A-B+STEP, A-B*FACTOR"},
	        {"-d|-1", "-d: -1 is below 0"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		parsed p;
		assert_int_equal(parse(rows[i].line, &p), RV_ERR_INVALID);
		assert_string_equal(rv_error_message(), rows[i].message);
	}
}

static void huge_words_are_survived(void **state) {
	(void)state;
	static char word[1 << 20];
	void *values[2];
	parsed p = defaults();
	values[0] = &p.c;
	values[1] = &p.o;
	static const char *const starts[] = {
	        "-", "--", "--temp=", "--n-predict=", "--attn=", "--depth=", "-n=1"};
	for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
		memset(word, '1', sizeof word - 1);
		memcpy(word, starts[i], strlen(starts[i]));
		char *argv[] = {word, word};
		assert_int_equal(rv_options_parse(tables, values, 2, argv, p.words, 3, NULL),
		                 RV_ERR_INVALID);
		assert_true(strlen(rv_error_message()) < RV_ERROR_MESSAGE_MAX);
	}
	char *argv[2 * RV_OPTION_LIST_MAX + 3];
	argv[0] = word;
	static char lora[] = "--lora", item[] = "x";
	for (int i = 1; i < 2 * RV_OPTION_LIST_MAX + 3; i++)
		argv[i] = i % 2 ? lora : item;
	assert_fails(
	        rv_options_parse(tables, values, 2 * RV_OPTION_LIST_MAX + 3, argv, p.words, 3, NULL),
	        RV_ERR_INVALID, "--lora: given more than 64 times");
}

static void ranges_expand(void **state) {
	(void)state;
	static const struct {
		const char *text;
		int n;
		int64_t v[8];
	} rows[] = {
	        {"5", 1, {5}},
	        {"1,2,8-32*2", 5, {1, 2, 8, 16, 32}},
	        {"64-128+32", 3, {64, 96, 128}},
	        {"1-4", 4, {1, 2, 3, 4}},
	        {"1-10*3", 3, {1, 3, 9}},
	        {"10-15+4,0", 3, {10, 14, 0}},
	        {"7-7", 1, {7}},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		parsed p;
		char line[64];
		snprintf(line, sizeof line, "-d|%s", rows[i].text);
		assert_ok(parse(line, &p));
		assert_int_equal(p.o.depths.n, rows[i].n);
		for (int k = 0; k < rows[i].n; k++)
			assert_true(p.o.depths.v[k] == rows[i].v[k]);
	}
}

static void number_lists(void **state) {
	(void)state;
	int64_t *v;
	size_t n;
	static const char *const good[] = {"1,2,3", "1 2 3", " 1, 2\t3\n", "1 ,2 ,3", "+1,002,3"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_ok(rv_parse_ints(good[i], 0, 10, &v, &n));
		assert_int_equal(n, 3);
		for (int k = 0; k < 3; k++)
			assert_true(v[k] == k + 1);
		rv_free(v);
	}
	assert_ok(rv_parse_ints(" \n", 0, 10, &v, &n));
	assert_int_equal(n, 0);
	assert_null(v);
	static const struct {
		const char *text, *message;
	} bad[] = {
	        {"1,,2", "'' is not a whole number"},
	        {"1,2,", "'' is not a whole number"},
	        {",1", "'' is not a whole number"},
	        {"1;2", "'1;2' is not a whole number"},
	        {"1 x", "'x' is not a whole number"},
	        {"1,-1", "-1 is below 0"},
	        {"3 11", "11 is above 10"},
	        {"1.5", "'1.5' is not a whole number"},
	        {"99999999999999999999 1", "99999999999999999999 is above 10"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(rv_parse_ints(bad[i].text, 0, 10, &v, &n), RV_ERR_INVALID);
		assert_string_equal(rv_error_message(), bad[i].message);
		assert_null(v);
	}
	/* A million numbers, and a heap that fails while they grow. */
	char *text = malloc(2000001);
	assert_non_null(text);
	for (int i = 0; i < 1000000; i++)
		memcpy(text + 2 * i, "7 ", 3);
	assert_ok(rv_parse_ints(text, 0, 10, &v, &n));
	assert_int_equal(n, 1000000);
	assert_true(v[999999] == 7);
	rv_free(v);
	allocations = 0;
	alloc_fails_at = 5;
	assert_int_equal(rv_parse_ints(text, 0, 10, &v, &n), RV_ERR_NO_MEMORY);
	alloc_fails_at = 0;
	assert_null(v);
	free(text);
}

static void numbers_are_exact(void **state) {
	(void)state;
	int64_t i = 5;
	double d;
	assert_ok(rv_parse_int("9223372036854775807", INT64_MIN, INT64_MAX, &i));
	assert_true(i == INT64_MAX);
	assert_ok(rv_parse_int("-9223372036854775808", INT64_MIN, INT64_MAX, &i));
	assert_true(i == INT64_MIN);
	i = 5;
	assert_int_equal(rv_parse_int("-9223372036854775809", INT64_MIN, INT64_MAX, &i),
	                 RV_ERR_INVALID);
	assert_int_equal(rv_parse_int("--5", INT64_MIN, INT64_MAX, &i), RV_ERR_INVALID);
	assert_true(i == 5);
	static const struct {
		const char *text;
		double value;
	} rows[] = {{"0.1", 0.1},      {"1e-300", 1e-300},     {".5", 0.5}, {"5.", 5},
	            {"-2.5E+2", -250}, {"4.9e-324", 4.9e-324}, {"0", 0},    {"+1", 1}};
	for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
		assert_ok(rv_parse_double(rows[k].text, -INFINITY, INFINITY, &d));
		assert_true(d == rows[k].value);
	}
	assert_fails(rv_parse_double("1e999", -INFINITY, INFINITY, &d), RV_ERR_INVALID, "too large");
}

static void help_shows_everything(void **state) {
	(void)state;
	parsed p = defaults();
	void *values[] = {&p.c, &p.o};
	char *text;
	assert_ok(rv_options_help(tables, values, &text));
	static const char *const lines[] = {
	        "      --json ",
	        "  -n, --n-predict N ",
	        "tokens to produce (1..100000 tokens, default 128)\n",
	        "      --temp X ",
	        "0 is greedy (0..10, default 0.7)\n",
	        "  -m, --model FILE ",
	        "      --attn standard|flash ",
	        "kernel (default standard)\n",
	        "adapter (repeatable)\n",
	        "of all randomness (default 7)\n",
	        "context before (0..1000000, default 512)\n",
	};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		if (!strstr(text, lines[i]))
			fail_msg("'%s' is not in\n%s", lines[i], text);
	assert_null(strstr(text, "default 127")); /* negative control */
	rv_free(text);
	for (int n = 1;; n++) {
		allocations = 0;
		alloc_fails_at = n;
		rv_status status = rv_options_help(tables, values, &text);
		alloc_fails_at = 0;
		if (status == RV_OK)
			break;
		assert_int_equal(status, RV_ERR_NO_MEMORY);
		assert_null(text);
	}
	rv_free(text);
	static const rv_option none[] = {{.name = NULL}};
	assert_ok(rv_options_help((const rv_option *const[]){none, NULL}, values, &text));
	assert_string_equal(text, "");
	rv_free(text);
}

/* Makes and enters a locale whose decimal point is a comma; false without localedef. */
static int enter_comma_locale(temp_dir *dir) {
	char command[1024];
	spit(temp_path(dir, "source"),
	     "LC_NUMERIC\ndecimal_point \"<U002C>\"\nthousands_sep \"<U002E>\"\n"
	     "grouping 3;3\nEND LC_NUMERIC\n");
	snprintf(command, sizeof command, "cd '%s' && localedef -c -i source ./comma >log 2>&1",
	         dir->path);
	(void)!system(command); /* it warns of the missing categories; what counts is the result */
	setenv("LOCPATH", dir->path, 1);
	return setlocale(LC_ALL, "comma") != NULL;
}

static void the_locale_changes_nothing(void **state) {
	(void)state;
	temp_dir dir;
	temp_dir_make(&dir);
	int entered = enter_comma_locale(&dir);
	remove_tree(dir.path);
	if (!entered)
		skip();
	parsed p;
	char *text, plain[32];
	snprintf(plain, sizeof plain, "%g", 0.5);
	assert_string_equal(plain, "0,5"); /* the control: this locale does change numbers */
	void *values[] = {&p.c, &p.o};
	assert_ok(parse("--temp|0.25", &p));
	assert_true(p.o.temp == 0.25);
	assert_int_equal(parse("--temp|0,25", &p), RV_ERR_INVALID);
	assert_ok(parse("--temp|0.25", &p));
	assert_ok(rv_options_help(tables, values, &text));
	assert_non_null(strstr(text, "default 0.25"));
	rv_free(text);
	json_t *json;
	assert_ok(rv_json_parse("[0.5]", 5, "test", &json));
	assert_true(json_real_value(json_array_get(json, 0)) == 0.5);
	char *dumped = json_dumps(json, JSON_COMPACT);
	assert_string_equal(dumped, "[0.5]");
	free(dumped);
	json_decref(json);
	setlocale(LC_ALL, "C");
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_form_is_read),
	        cmocka_unit_test(refusals_name_the_option),
	        cmocka_unit_test(huge_words_are_survived),
	        cmocka_unit_test(ranges_expand),
	        cmocka_unit_test(number_lists),
	        cmocka_unit_test(numbers_are_exact),
	        cmocka_unit_test(help_shows_everything),
	        cmocka_unit_test(the_locale_changes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
