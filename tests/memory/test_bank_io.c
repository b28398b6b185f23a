/* Patterns between machines: JSON Lines out and in, and what is refused. */
#include "tests/memory/bank_fixture.h"

#include "base/file.h"

static void write_text(const char *path, const char *text) {
	assert_ok(rv_file_write(path, text, strlen(text)));
}

static void carries_elsewhere(void **state) {
	(void)state;
	fixture f, g;
	char path[300];
	begin(&f);
	begin(&g);
	for (int v = 0; v < 30; v++)
		assert_ok(kit_add(f.bank, v % 3, v, 0.5f + 0.01f * (float)v));
	snprintf(path, sizeof path, "%s/patterns.jsonl", f.dir);
	int64_t n;
	assert_ok(rv_bank_export(f.bank, path, 0.6f, &n));
	assert_int_equal(n, 20);
	rv_bank_import_report report;
	assert_ok(kit_add(g.bank, 2, 29, 0.3f)); /* here already: stays as it is */
	assert_ok(rv_bank_import(g.bank, path, &report));
	assert_true(report.lines == 20 && report.added == 19 && report.duplicates == 1);
	rv_trajectory t;
	assert_ok(rv_bank_get(g.bank, "00000001-0000-4000-8000-00000000001c", &t));
	kit_item item;
	kit_fill(&item, 1, 28, 0.5f + 0.28f);
	assert_true(t.source == RV_SOURCE_FEDERATED && t.created_at == KIT_START);
	assert_memory_equal(t.query_embedding, item.embedding, sizeof item.embedding);
	assert_string_equal(t.metadata, item.t.metadata);
	rv_trajectory_deinit(&t);
	assert_ok(rv_bank_get(g.bank, "00000002-0000-4000-8000-00000000001d", &t));
	assert_true(t.final_quality == 0.3f && t.source == RV_SOURCE_INSTANT);
	rv_trajectory_deinit(&t);
	assert_ok(rv_bank_import(g.bank, path, &report)); /* again: nothing new */
	assert_true(report.added == 0 && report.duplicates == 20);
	assert_int_equal(rv_bank_count(g.bank), 20);
	assert_ok(rv_bank_verify(g.bank));
	/* vectors of another embedder are refused by line, and those of none are taken */
	assert_ok(rv_bank_bind_embedder(f.bank, "0123456789abcdef"));
	assert_ok(rv_bank_bind_embedder(f.bank, "0123456789abcdef"));
	assert_int_equal(rv_bank_bind_embedder(f.bank, "fedcba9876543210"), RV_ERR_MISMATCH);
	assert_int_equal(rv_bank_bind_embedder(f.bank, ""), RV_ERR_INVALID);
	assert_ok(rv_bank_export(f.bank, path, 0, &n));
	fixture h;
	begin(&h);
	assert_ok(rv_bank_bind_embedder(h.bank, "fedcba9876543210"));
	assert_int_equal(rv_bank_import(h.bank, path, &report), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), "patterns.jsonl:1: "));
	assert_non_null(strstr(rv_error_message(), "fedcba9876543210; these are of 0123456789abcdef"));
	assert_int_equal(rv_bank_count(h.bank), 0);
	end(&h);
	assert_ok(rv_bank_import(g.bank, path, &report));
	assert_int_equal(rv_bank_bind_embedder(g.bank, "fedcba9876543210"), RV_ERR_MISMATCH);
	assert_ok(rv_bank_export(f.bank, path, 0.6f, &n));
	/* an export of the import has as many */
	assert_ok(rv_bank_export(g.bank, path, 0, &n));
	assert_int_equal(n, 30);
	end(&f);
	end(&g);
}

/* One bad line anywhere: named, and nothing of the file is there. */
static void malformed_lines(void **state) {
	(void)state;
	static const struct {
		const char *from, *to, *message;
	} cases[] = {
	        {"\"final_quality\"", "\"final_qualitz\"", "unknown key 'final_qualitz'"},
	        {"\"task\"", "\"task\":1,\"task\"", "duplicate"},
	        {"\"success\"", "\"winning\"", "unknown 'winning'"},
	        {"\"actions\":[", "\"actions\":[3,", "action 0: not a JSON object"},
	        {"\"query_embedding\":[", "\"query_embedding\":[0.5,", "769 numbers"},
	        {"\"query_embedding\":[", "\"query_embedding\":[1e999,", ":2:"},
	        {"\"created_at\":", "\"created_at\":-", "created_at"},
	        {"\"final_quality\":0", "\"final_quality\":7", "final_quality"},
	        {"{\"", "[{\"", ":2"},
	        {"\n", "\n\n", ":2: blank line"},
	        {"\"trajectory_id\":\"0", "\"trajectory_id\":\"x", "no UUID"},
	};
	fixture f, g;
	char path[300];
	begin(&f);
	begin(&g);
	for (int v = 0; v < 3; v++)
		assert_ok(kit_add(f.bank, v, v, 0.75f));
	snprintf(path, sizeof path, "%s/patterns.jsonl", f.dir);
	int64_t n;
	char *text = NULL;
	size_t size;
	assert_ok(rv_bank_export(f.bank, path, 0, &n));
	assert_ok(rv_file_read(path, 1 << 20, &text, &size));
	rv_bank_import_report report = {77, 77, 77};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		/* in the second line (the feed: that before it) */
		char *second = strchr(text, '\n') + (cases[i].from[0] == '\n' ? 0 : 1);
		char *at = strstr(second, cases[i].from);
		assert_non_null(at);
		char *bad = malloc(size + 64);
		int len = sprintf(bad, "%.*s%s%s", (int)(at - text), text, cases[i].to,
		                  at + strlen(cases[i].from));
		assert_true(len > 0);
		write_text(path, bad);
		rv_status st = rv_bank_import(g.bank, path, &report);
		if (st == RV_OK || strstr(rv_error_message(), cases[i].message) == NULL ||
		    strstr(rv_error_message(), "patterns.jsonl:2") == NULL)
			fail_msg("case %zu: status %d, %s", i, (int)st, rv_error_message());
		assert_int_equal(rv_bank_count(g.bank), 0);
		assert_int_equal(report.lines, 77);
		free(bad);
	}
	/* an id twice; cut in the middle of a line; every cut */
	char *twice = malloc(2 * size + 1);
	sprintf(twice, "%s%s", text, text);
	write_text(path, twice);
	assert_int_equal(rv_bank_import(g.bank, path, &report), RV_ERR_FORMAT);
	assert_non_null(strstr(rv_error_message(), "patterns.jsonl:4: trajectory '00000000-"));
	free(twice);
	for (size_t cut = 1; cut < size - 1; cut += 997) {
		if (text[cut - 1] == '\n' || text[cut] == '\n')
			continue;
		assert_int_not_equal(rv_bank_import_text(g.bank, text, cut, "cut", &report), RV_OK);
	}
	assert_int_equal(rv_bank_count(g.bank), 0);
	/* and the negative control: unchanged it goes in; nothing is a bank of nothing */
	assert_ok(rv_bank_import_text(g.bank, "", 0, "empty", &report));
	assert_int_equal(report.lines, 0);
	assert_ok(rv_bank_import_text(g.bank, text, size, "whole", &report));
	assert_int_equal(report.added, 3);
	assert_ok(rv_bank_verify(g.bank));
	rv_free(text);
	end(&f);
	end(&g);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(carries_elsewhere),
	        cmocka_unit_test(malformed_lines),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
