/* Vocabularies that are wrong: refused by name or taken with a warning, never a crash, a hang or a
 * leak. */
#include "model/pretokenize.h"
#include "tests/model/tokenizer_samples.h"

#include <time.h>

/* ---- allocations that fail ---- */

static long allocs_left = -1; /* -1: all succeed */

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	if (allocs_left == 0)
		return NULL;
	if (allocs_left > 0)
		allocs_left--;
	return __real_aligned_alloc(alignment, size);
}

/* ---- GGUF: one thing wrong with a good vocabulary ---- */

typedef struct fault {
	const char *what;
	void (*break_it)(vocab *v);
	int spm;
	rv_status status; /* RV_OK: loads, with a warning */
	const char *says; /* part of the message or warning */
} fault;

static void empty_list(vocab *v) {
	v->n = v->n_types = v->n_scores = 0;
}
static void few_types(vocab *v) {
	v->n_types--;
}
static void few_scores(vocab *v) {
	v->n_scores--;
}
static void no_scores(vocab *v) {
	v->n_scores = 0;
}
static void nan_score(vocab *v) {
	v->score[262] = __builtin_nanf("");
}
static void no_merges(vocab *v) {
	v->merges[0] = NULL;
}
static void odd_model(vocab *v) {
	v->model = "t5";
}
static void odd_pre(vocab *v) {
	v->pre = "klingon";
}
static void no_pre(vocab *v) {
	v->pre = NULL;
}
static void bos_above(vocab *v) {
	v->bos = (int64_t)v->n;
}
static void eos_negative(vocab *v) {
	v->eos = -7;
}
static void unk_huge(vocab *v) {
	v->unk = INT64_MAX;
}
static void merge_without_space(vocab *v) {
	v->merges[6] = "aaaa";
}
static void merge_of_unknown(vocab *v) {
	v->merges[6] = "aa hell";
}
static void merge_empty(vocab *v) {
	v->merges[6] = "";
}
static void merge_twice(vocab *v) {
	v->merges[6] = "h e";
}
static void token_twice(vocab *v) {
	memcpy(v->text[260], "he", 2);
	v->len[260] = 2;
}
static void odd_type(vocab *v) {
	v->type[5] = 99;
}
static void byte_minus_one(vocab *v) {
	memcpy(v->text[3 + 255], "<0x-1>", 6);
}
static void byte_lower_case(vocab *v) {
	memcpy(v->text[3 + 255], "<0xff>", 6);
}
static void no_letter(vocab *v) {
	memcpy(v->text['q'], "QQ", 2);
	v->len['q'] = 2;
}
static void space_prefix(vocab *v) {
	v->add_space_prefix = 1;
}

static const fault faults[] = {
        {"empty list", empty_list, 0, RV_ERR_FORMAT, "empty"},
        {"empty list", empty_list, 1, RV_ERR_FORMAT, "empty"},
        {"too few types", few_types, 0, RV_ERR_FORMAT, "token_type"},
        {"too few scores", few_scores, 1, RV_ERR_FORMAT, "scores"},
        {"no scores", no_scores, 1, RV_ERR_FORMAT, "scores"},
        {"score not a number", nan_score, 1, RV_ERR_NUMERIC, "token 262"},
        {"no merges", no_merges, 0, RV_ERR_FORMAT, "merges"},
        {"unknown model", odd_model, 0, RV_ERR_UNSUPPORTED, "'t5'"},
        {"unknown pre-tokenizer", odd_pre, 0, RV_ERR_UNSUPPORTED, "'klingon'"},
        {"no pre-tokenizer", no_pre, 0, RV_OK, "'default'"},
        {"bos above", bos_above, 0, RV_OK, "bos_token_id"},
        {"eos negative", eos_negative, 1, RV_OK, "eos_token_id"},
        {"unk huge", unk_huge, 1, RV_OK, "unknown_token_id"},
        {"merge without space", merge_without_space, 0, RV_OK, "1 of 7 merges"},
        {"merge of unknown parts", merge_of_unknown, 0, RV_OK, "1 of 7 merges"},
        {"empty merge", merge_empty, 0, RV_OK, "1 of 7 merges"},
        {"merge twice", merge_twice, 0, RV_OK, "1 merges repeat"},
        {"token twice", token_twice, 0, RV_OK, "repeat the text"},
        {"unknown type", odd_type, 0, RV_OK, "unknown type"},
        {"byte token <0x-1>", byte_minus_one, 1, RV_OK, "<0xXX>"},
        {"byte token in lower case", byte_lower_case, 1, RV_OK, "<0xXX>"},
        {"byte without a letter", no_letter, 0, RV_OK, "1 of 256 bytes"},
        {"space prefix", space_prefix, 0, RV_OK, "add_space_prefix"},
};

/* What a loaded vocabulary must stand whatever it holds: any text in, ids in range out. */
static void use(const rv_tokenizer *t) {
	static const char text[] = "hello  h\xc3\xa9llo <s>\xff\n<|im_end|><tool>\0zz\xe2\x96\x81 q";
	for (int special = 0; special < 2; special++) {
		rv_encode_options o = {.add_bos = -1, .add_eos = 1, .parse_special = special};
		int32_t *ids;
		size_t n, len;
		char *back;
		rv_status status = rv_tokenizer_encode(t, text, sizeof text - 1, &o, &ids, &n);
		if (status == RV_ERR_MISMATCH)
			continue; /* a byte without a token, which the message names */
		assert_ok(status);
		for (size_t i = 0; i < n; i++)
			assert_true(ids[i] >= 0 && ids[i] < rv_tokenizer_n_vocab(t));
		assert_ok(rv_tokenizer_decode(t, ids, n, 1, 0, &back, &len));
		rv_free(back);
		rv_free(ids);
	}
}

static void test_gguf_faults(void **state) {
	(void)state;
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		const fault *f = &faults[i];
		vocab v = f->spm ? sample_spm() : sample_bpe();
		rv_tokenizer *t;
		warnings w = {0, ""};
		f->break_it(&v);
		rv_status status = load_vocab(&t, &v, &w);
		const char *said = status == RV_OK ? w.said : rv_error_message();
		if (status != f->status || !strstr(said, f->says) || (status == RV_OK && w.n < 1))
			fail_msg("%s: status %d, says '%s', not '%s'", f->what, status, said, f->says);
		assert_true((status == RV_OK) == (t != NULL));
		if (t)
			use(t);
		rv_tokenizer_destroy(t);
	}
}

/* Negative control: nothing wrong, no warning. */
static void test_good_samples(void **state) {
	(void)state;
	vocab v[2] = {sample_bpe(), sample_spm()};
	for (int i = 0; i < 2; i++) {
		rv_tokenizer *t;
		warnings w = {0, ""};
		assert_ok(load_vocab(&t, &v[i], &w));
		assert_string_equal(w.said, "");
		use(t);
		rv_tokenizer_destroy(t);
	}
}

/* A special id that is ignored is no index later. */
static void test_bad_specials(void **state) {
	(void)state;
	vocab v = sample_bpe();
	rv_tokenizer *t;
	v.bos = 1 << 20;
	v.eos = -2;
	v.add_bos = 1;
	assert_ok(load_vocab(&t, &v, NULL));
	assert_int_equal(rv_tokenizer_bos(t), -1);
	assert_int_equal(rv_tokenizer_eos(t), -1);
	assert_false(rv_tokenizer_add_bos(t));
	use(t);
	rv_tokenizer_destroy(t);
}

static void test_missing_byte_is_named(void **state) {
	(void)state;
	vocab v = sample_bpe();
	rv_tokenizer *t;
	int32_t *ids = NULL;
	size_t n = 77;
	no_letter(&v);
	assert_ok(load_vocab(&t, &v, NULL));
	assert_int_equal(rv_tokenizer_encode(t, "aq", 2, NULL, &ids, &n), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), "0x71"));
	assert_true(!ids && n == 77);
	rv_tokenizer_destroy(t);
}

/* Arrays of the wrong kind, by hand. */
static void test_wrong_kinds(void **state) {
	(void)state;
	for (int k = 0; k < 3; k++) {
		builder b = {0};
		rv_tokenizer *t;
		put_header(&b, 3, 0, k == 2 ? 3 : 2);
		put_key(&b, "tokenizer.ggml.model", K_STRING);
		put_str(&b, "gpt2");
		if (k == 0) { /* not an array */
			put_key(&b, "tokenizer.ggml.tokens", K_STRING);
			put_str(&b, "a");
		} else if (k == 1) { /* numbers */
			put_array(&b, "tokenizer.ggml.tokens", K_U32, 1);
			put_u32(&b, 1);
		} else { /* merges as numbers */
			put_array(&b, "tokenizer.ggml.tokens", K_STRING, 1);
			put_str(&b, "a");
			put_array(&b, "tokenizer.ggml.merges", K_U32, 1);
			put_u32(&b, 1);
		}
		put_pad(&b, 32);
		assert_int_equal(load_bytes(&t, b.data, b.n, NULL), RV_ERR_FORMAT);
		assert_non_null(strstr(rv_error_message(), k < 2 ? "tokens" : "merges"));
		assert_null(t);
		builder_free(&b);
	}
}

/* ---- tokens of any length and content ---- */

static builder file_with_token(const char *text, size_t len, int32_t type, int spm) {
	vocab v = spm ? sample_spm() : sample_bpe();
	builder b = {0};
	put_header(&b, 3, 0, spm ? 4 : 5);
	put_key(&b, "tokenizer.ggml.model", K_STRING);
	put_str(&b, v.model);
	put_array(&b, "tokenizer.ggml.tokens", K_STRING, v.n + 1);
	for (size_t i = 0; i < v.n; i++)
		put_text(&b, v.text[i], v.len[i]);
	put_text(&b, text, len);
	put_array(&b, "tokenizer.ggml.token_type", K_I32, v.n + 1);
	put(&b, v.type, v.n * sizeof *v.type);
	put_u32(&b, (uint32_t)type);
	if (spm) {
		put_array(&b, "tokenizer.ggml.scores", K_F32, v.n + 1);
		put_zeros(&b, 4 * (v.n + 1));
	} else {
		put_key(&b, "tokenizer.ggml.pre", K_STRING);
		put_str(&b, "gpt-2");
		put_array(&b, "tokenizer.ggml.merges", K_STRING, 1);
		put_str(&b, "h e");
	}
	put_pad(&b, 32);
	return b;
}

static void test_strange_tokens(void **state) {
	(void)state;
	const size_t size = 1u << 20;
	char *big = malloc(size);
	assert_non_null(big);
	memset(big, 'a', size);
	const struct {
		const char *text;
		size_t len;
	} tokens[] = {{big, size}, {"a\0b", 3}, {"\xff\xfe\xe2\x96", 4}, {"\x1b[31m", 5}, {"%n%s", 4},
	              {"", 0},     {" ", 1},    {"\xe2\x96\x81", 3}};
	for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
		for (int spm = 0; spm < 2; spm++)
			for (int32_t type = TYPE_NORMAL; type <= TYPE_BYTE; type++) {
				rv_tokenizer *t;
				warnings w = {0, ""};
				builder b = file_with_token(tokens[i].text, tokens[i].len, type, spm);
				assert_ok(load_bytes(&t, b.data, b.n, &w));
				use(t);
				rv_str s = rv_tokenizer_entry(t, rv_tokenizer_n_vocab(t) - 1);
				assert_int_equal(s.len, tokens[i].len);
				assert_memory_equal(s.data, tokens[i].text, s.len);
				rv_tokenizer_destroy(t);
				builder_free(&b);
			}
	free(big);
}

/* ---- tokenizer.json ---- */

#define HEAD "{\"added_tokens\":["
#define BYTES                                                                                          \
	"],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"                     \
	"\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}"
#define META(prefix, rest)                                                                             \
	"{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true}],"                       \
	"\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[" prefix                               \
	"{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]}," rest   \
	"\"model\":{\"unk_token\":\"<unk>\",\"byte_fallback\":true,\"vocab\":{\"<unk>\":0,"            \
	"\"<0x63>\":1,\"\xe2\x96\x81\":2,\"a\":3,\"b\":4,\"ab\":5,\"\xe2\x96\x81"                      \
	"ab\":6},"                                                                                     \
	"\"merges\":[[\"a\",\"b\"],[\"\xe2\x96\x81\",\"ab\"]]}}"
#define PREPEND "{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},"

static const struct {
	const char *text;
	rv_status status;
	const char *says;
} json_faults[] = {
        {"", RV_ERR_FORMAT, ""},
        {"[]", RV_ERR_FORMAT, "model"},
        {"{\"model\":3}", RV_ERR_FORMAT, "model"},
        {"{\"model\":{\"type\":\"Unigram\"}}", RV_ERR_UNSUPPORTED, "'Unigram'"},
        {"{\"model\":{\"vocab\":[],\"merges\":[]}}", RV_ERR_FORMAT, "vocab"},
        {"{\"model\":{\"vocab\":{},\"merges\":{}}}", RV_ERR_FORMAT, "merges"},
        {"{\"model\":{\"vocab\":{},\"merges\":[],\"dropout\":0.1}}", RV_ERR_UNSUPPORTED, "dropout"},
        {"{\"model\":{\"vocab\":{},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}", RV_ERR_UNSUPPORTED,
         "</w>"},
        {"{\"model\":{\"vocab\":{},\"merges\":[]}}", RV_ERR_UNSUPPORTED, "pre-tokenizer"},
        {"{\"normalizer\":{\"type\":\"NFKC\"},\"model\":{\"vocab\":{},\"merges\":[]}}",
         RV_ERR_UNSUPPORTED, "'NFKC'"},
        {"{\"pre_tokenizer\":{\"type\":\"Whitespace\"},\"model\":{\"vocab\":{},\"merges\":[]}}",
         RV_ERR_UNSUPPORTED, "'Whitespace'"},
        {"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
         "{\"Regex\":\"(a+)+$\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\"}]},"
         "\"model\":{\"vocab\":{},\"merges\":[]}}",
         RV_ERR_UNSUPPORTED, "(a+)+$"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true},"
         "\"model\":{\"vocab\":{},\"merges\":[]}}",
         RV_ERR_UNSUPPORTED, "add_prefix_space"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
         "\"model\":{\"vocab\":{},\"merges\":[]}}",
         RV_ERR_FORMAT, "empty"},
        {"{\"decoder\":{\"type\":\"WordPiece\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
         "\"add_prefix_space\":false},\"model\":{\"vocab\":{},\"merges\":[]}}",
         RV_ERR_UNSUPPORTED, "'WordPiece'"},
        {HEAD "{\"id\":3,\"content\":\"<m>\",\"lstrip\":true}" BYTES, RV_ERR_UNSUPPORTED, "lstrip"},
        {HEAD "{\"id\":3,\"content\":\"<m>\",\"single_word\":true}" BYTES, RV_ERR_UNSUPPORTED,
         "single_word"},
        {HEAD "{\"id\":1,\"content\":\"<m>\"}" BYTES, RV_ERR_FORMAT, "id 1"},
        {HEAD "{\"id\":-1,\"content\":\"<m>\"}" BYTES, RV_ERR_FORMAT, "<m>"},
        {HEAD "{\"id\":2147483647,\"content\":\"<m>\"}" BYTES, RV_ERR_FORMAT, "<m>"},
        {HEAD "{\"id\":3.5,\"content\":\"<m>\"}" BYTES, RV_ERR_FORMAT, "<m>"},
        {HEAD "{\"id\":3,\"content\":\"\"}" BYTES, RV_ERR_FORMAT, "content"},
        {HEAD "7" BYTES, RV_ERR_FORMAT, "content"},
        {HEAD "{\"id\":3,\"content\":\"<m>\"},{\"id\":3,\"content\":\"<m>\"}" BYTES, RV_OK, "repeat"},
        {HEAD "{\"id\":3,\"content\":\"<m>\"},{\"id\":4,\"content\":\"<m>\"}" BYTES, RV_OK, "repeat"},
        {HEAD "{\"id\":9,\"content\":\"ab\"}" BYTES, RV_OK, "repeat"},
        {HEAD "{\"id\":3,\"content\":\"<m>\"}" BYTES, RV_OK, "of 256 bytes"},
        {META(PREPEND, ""), RV_OK, NULL},
        {META("", "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"},"),
         RV_ERR_UNSUPPORTED, "Metaspace"},
        {META(PREPEND, "\"post_processor\":{\"type\":\"BertProcessing\"},"), RV_ERR_UNSUPPORTED,
         "'BertProcessing'"},
        {META(PREPEND, "\"decoder\":{\"type\":\"ByteLevel\"},"), RV_ERR_UNSUPPORTED, "'ByteLevel'"},
        {META("{\"type\":\"NFC\"},", ""), RV_ERR_UNSUPPORTED, "NFC"},
};

static void test_json_faults(void **state) {
	(void)state;
	for (size_t i = 0; i < sizeof json_faults / sizeof *json_faults; i++) {
		rv_tokenizer *t;
		warnings w = {0, ""};
		rv_log log = {count_warning, &w};
		const char *text = json_faults[i].text, *says = json_faults[i].says;
		rv_status status =
		        rv_tokenizer_from_json_memory(&t, text, strlen(text), "x.json", &log);
		const char *said = status == RV_OK ? w.said : rv_error_message();
		int found = says ? strstr(said, says) != NULL : w.n == 0;
		if (status != json_faults[i].status || !found)
			fail_msg("%s: status %d, says '%s'", text, status, said);
		if (t)
			use(t);
		rv_tokenizer_destroy(t);
	}
}

static void test_json_spm(void **state) {
	(void)state;
	static const char text[] = META(PREPEND, "");
	rv_tokenizer *t;
	assert_ok(rv_tokenizer_from_json_memory(&t, text, sizeof text - 1, "x.json", NULL));
	assert_string_equal(rv_tokenizer_pre(t), "spm");
	const int32_t wanted[] = {6, 2, 1, 0, -1}; /* "_ab" "_" <0x63> <unk> */
	assert_ids(t, "ab cd", 5, 0, wanted);
	rv_tokenizer_destroy(t);
}

/* ---- size: a million merges, of which none or all can be used ---- */

/* Appends at *n, growing; for texts of many megabytes. */
__attribute__((format(printf, 4, 0))) static void
appendf(char **text, size_t *n, size_t *cap, const char *format, const char *a, const char *b) {
	if (*n + 128 > *cap) {
		*cap = 2 * *cap + 4096;
		*text = realloc(*text, *cap);
		assert_non_null(*text);
	}
	*n += (size_t)snprintf(*text + *n, 128, format, a, b);
}

#define SINGLES 1000 /* characters from U+4E00 on; a merge of every pair, every thousandth of use */

static void put_char(char out[5], int i) {
	out[rv_utf8_put(0x4e00 + i, out)] = '\0';
}

static void append_merges(char **text, size_t *n, size_t *cap) {
	char a[5], b[5];
	for (int i = 0; i < SINGLES * SINGLES; i++) {
		put_char(a, i / SINGLES);
		put_char(b, i % SINGLES);
		appendf(text, n, cap, i ? ",\"%s %s\"" : "\"%s %s\"", a, b);
	}
}

static void append_entries(char **text, size_t *n, size_t *cap) {
	char a[5], b[5], id[16];
	for (int i = 0; i < SINGLES; i++) {
		put_char(a, i);
		put_char(b, SINGLES - 1 - i);
		snprintf(id, sizeof id, "%d", 2 * i);
		appendf(text, n, cap, i ? ",\"%s\":%s" : "\"%s\":%s", a, id);
		snprintf(id, sizeof id, "%d", 2 * i + 1);
		appendf(text, n, cap, ",\"%s", a, "");
		appendf(text, n, cap, "%s\":%s", b, id);
	}
}

static void test_a_million_merges(void **state) {
	(void)state;
	char *text = NULL;
	size_t n = 0, cap = 0;
	appendf(&text, &n, &cap,
	        "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},%s%s", "", "");
	appendf(&text, &n, &cap, "\"model\":{\"vocab\":{%s%s", "", "");
	append_entries(&text, &n, &cap);
	appendf(&text, &n, &cap, "},\"merges\":[%s%s", "", "");
	append_merges(&text, &n, &cap);
	appendf(&text, &n, &cap, "%s%s", "]}", "}");
	rv_tokenizer *t;
	warnings w = {0, ""};
	rv_log log = {count_warning, &w};
	clock_t start = clock();
	assert_ok(rv_tokenizer_from_json_memory(&t, text, n, "x.json", &log));
	double s = (double)(clock() - start) / CLOCKS_PER_SEC;
	print_message("a million merges: %.2f s; %s", s, w.said);
	assert_non_null(strstr(w.said, "999000 of 1000000 merges"));
	assert_true(s < 60);
	rv_tokenizer_destroy(t);
	free(text);
}

/* Equal added tokens by the hundred thousand. */
static void test_many_equal_tokens(void **state) {
	(void)state;
	char *text = NULL;
	size_t n = 0, cap = 0;
	appendf(&text, &n, &cap, "{\"added_tokens\":[{\"id\":3,\"content\":\"%s\"}%s", "<m>", "");
	for (int i = 4; i < 100000; i++) {
		char id[16];
		snprintf(id, sizeof id, "%d", i);
		appendf(&text, &n, &cap, ",{\"id\":%s,\"content\":\"%s\"}", id, "<m>");
	}
	static const char rest[] = BYTES;
	text = realloc(text, n + sizeof rest);
	memcpy(text + n, rest, sizeof rest);
	rv_tokenizer *t;
	clock_t start = clock();
	assert_ok(rv_tokenizer_from_json_memory(&t, text, n + sizeof rest - 1, "x.json", NULL));
	assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 30);
	assert_int_equal(rv_tokenizer_find(t, "<m>", 3), 3);
	rv_tokenizer_destroy(t);
	free(text);
}

/* ---- the malloc-failure sweep ---- */

typedef rv_status load_fn(rv_tokenizer **out);

static rv_status load_bpe(rv_tokenizer **out) {
	vocab v = sample_bpe();
	return load_vocab(out, &v, NULL);
}
static rv_status load_spm(rv_tokenizer **out) {
	vocab v = sample_spm();
	return load_vocab(out, &v, NULL);
}
static rv_status load_json(rv_tokenizer **out) {
	static const char text[] = HEAD "{\"id\":3,\"content\":\"<m>\"}" BYTES;
	return rv_tokenizer_from_json_memory(out, text, sizeof text - 1, "x.json", NULL);
}
static rv_status load_json_spm(rv_tokenizer **out) {
	static const char text[] = META(PREPEND, "");
	return rv_tokenizer_from_json_memory(out, text, sizeof text - 1, "x.json", NULL);
}

static void test_failing_loads(void **state) {
	(void)state;
	load_fn *const loads[] = {load_bpe, load_spm, load_json, load_json_spm};
	for (size_t i = 0; i < 4; i++) {
		long n = 0;
		for (;; n++) {
			rv_tokenizer *t = NULL;
			allocs_left = n;
			rv_status status = loads[i](&t);
			int spare = allocs_left > 0;
			allocs_left = -1;
			if (status == RV_OK) {
				use(t);
				rv_tokenizer_destroy(t);
				if (spare)
					break;
				continue;
			}
			assert_int_equal(status, RV_ERR_NO_MEMORY);
			assert_null(t);
		}
		print_message("loader %zu: %ld allocations failed in turn\n", i, n);
		assert_true(n > 10);
	}
}

static void test_failing_encodes(void **state) {
	(void)state;
	load_fn *const loads[] = {load_bpe, load_spm};
	char text[1000];
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = "hello"[i % 5];
	for (int k = 0; k < 2; k++) {
		rv_tokenizer *t;
		assert_ok(loads[k](&t));
		for (long n = 0;; n++) {
			int32_t *ids = NULL;
			size_t n_ids;
			allocs_left = n;
			rv_status status =
			        rv_tokenizer_encode(t, text, sizeof text, NULL, &ids, &n_ids);
			allocs_left = -1;
			rv_free(ids);
			if (status == RV_OK)
				break;
			assert_int_equal(status, RV_ERR_NO_MEMORY);
			assert_null(ids);
		}
		rv_tokenizer_destroy(t);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_good_samples),     cmocka_unit_test(test_gguf_faults),
	        cmocka_unit_test(test_bad_specials),     cmocka_unit_test(test_missing_byte_is_named),
	        cmocka_unit_test(test_wrong_kinds),      cmocka_unit_test(test_strange_tokens),
	        cmocka_unit_test(test_json_faults),      cmocka_unit_test(test_json_spm),
	        cmocka_unit_test(test_a_million_merges), cmocka_unit_test(test_many_equal_tokens),
	        cmocka_unit_test(test_failing_loads),    cmocka_unit_test(test_failing_encodes),
	};
	return cmocka_run_group_tests_name("tokenizer_faults", tests, NULL, NULL);
}
