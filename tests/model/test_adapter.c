/* Adapters made in memory, the slot they are published in, and the names of sites. */
#include "base/threads.h"
#include "model/adapter_slot.h"
#include "tests/support/made_adapter.h"
#include "tests/support/tiny_model.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

static rv_model *model;

static int open_model(void **state) {
	(void)state;
	model = tiny_model("qwen2", "F16");
	return 0;
}
static int close_model(void **state) {
	(void)state;
	rv_model_release(model);
	return 0;
}

/* ---- made in memory ---- */

static void holds_what_it_was_given(void **state) {
	(void)state;
	made m;
	rv_adapter *adapter;
	const uint32_t roles = RV_ROLES_LAYER | RV_ROLE_BIT(RV_OUTPUT);
	made_begin(&m, model, roles, 1, 3, 5);
	assert_ok(rv_adapter_create(&adapter, model, "made", m.parts, m.n));
	assert_string_equal(rv_adapter_path(adapter), "made");
	assert_null(rv_adapter_gguf(adapter));
	assert_int_equal(rv_adapter_max_rank(adapter), 3);
	assert_true(rv_adapter_fits(adapter, model));
	int64_t n_params = 0;
	for (int i = 0; i < m.n; i++) {
		const rv_adapter_matrix *want = &m.parts[i];
		const rv_adapter_part *p = rv_adapter_find(adapter, want->role, want->layer);
		assert_non_null(p);
		assert_true(p->scale == want->scale);
		assert_int_equal(p->a.rows, 3);
		assert_int_equal(p->b.cols, 3);
		assert_memory_equal(p->a.data, m.a[i], (size_t)(p->a.cols * 3) * sizeof(float));
		assert_memory_equal(p->b.data, m.b[i], (size_t)(p->b.rows * 3) * sizeof(float));
		for (int64_t r = 0; r < p->b.rows; r++)
			for (int64_t k = 0; k < 3; k++)
				assert_true(p->b_columns[k * p->b.rows + r] == m.b[i][r * 3 + k]);
		n_params += 3 * (p->a.cols + p->b.rows);
	}
	assert_int_equal(rv_adapter_n_params(adapter), n_params);
	assert_int_equal(rv_adapter_bytes(adapter), (size_t)n_params * sizeof(float));
	assert_null(rv_adapter_find(adapter, RV_ATTN_Q, 0)); /* not among its layers */
	const rv_adapter_part *o = rv_adapter_find(adapter, RV_ATTN_OUT, 2);
	assert_string_equal(o->a.name, "blk.2.attn_output.weight.lora_a");
	assert_string_equal(rv_adapter_find(adapter, RV_OUTPUT, 0)->b.name, "output.weight.lora_b");
	/* Copied: changing what it was made from does not reach it. */
	const float before = *(const float *)o->a.data;
	for (int i = 0; i < m.n; i++)
		m.a[i][0] += 1;
	assert_true(*(const float *)o->a.data == before);
	made_end(&m);
	rv_adapter_release(adapter);
}

static void digest(const made *m, const char *name, char hex[65]) {
	rv_adapter *adapter;
	assert_ok(rv_adapter_create(&adapter, model, name, m->parts, m->n));
	rv_adapter_sha256(adapter, hex);
	rv_adapter_release(adapter);
}

static void digest_is_of_the_content(void **state) {
	(void)state;
	made m;
	char first[65], other[65];
	made_begin(&m, model, rv_site_roles(RV_SITE_PROJ_QV), 0, 2, 1);
	digest(&m, "one", first);
	digest(&m, "two", other);
	assert_string_equal(first, other);
	const rv_adapter_matrix swapped = m.parts[0];
	m.parts[0] = m.parts[1];
	m.parts[1] = swapped;
	digest(&m, "in another order", other);
	assert_string_equal(first, other);
	m.b[2][1] += 1e-6f;
	digest(&m, "one", other);
	assert_string_not_equal(first, other);
	m.b[2][1] -= 1e-6f;
	m.parts[2].scale *= 2;
	digest(&m, "one", other);
	assert_string_not_equal(first, other);
	m.parts[2].scale /= 2;
	m.n--;
	digest(&m, "one", other);
	assert_string_not_equal(first, other);
	m.n++;
	made_end(&m);
}

#define REFUSED(change, back, status, text)                                                            \
	do {                                                                                           \
		rv_adapter *bad;                                                                       \
		change;                                                                                \
		assert_int_equal(rv_adapter_create(&bad, model, "bad one", m.parts, m.n), status);     \
		assert_null(bad);                                                                      \
		if (!strstr(rv_error_message(), text) || !strstr(rv_error_message(), "bad one"))       \
			fail_msg("'%s' is not in '%s'", text, rv_error_message());                     \
		back;                                                                                  \
	} while (0)

static void refuses_by_name(void **state) {
	(void)state;
	made m;
	rv_adapter *adapter;
	made_begin(&m, model, rv_site_roles(RV_SITE_ATTN_OUT), 0, 2, 1);
	rv_adapter_matrix *p = &m.parts[1];
	const rv_adapter_matrix kept = *p;
	float *b = m.b[2];
	const float x = b[511];
	REFUSED(p->role = RV_ATTN_NORM, *p = kept, RV_ERR_MISMATCH, "matrix 1");
	REFUSED(p->role = RV_TOKEN_EMBD, *p = kept, RV_ERR_MISMATCH, "matrix 1");
	REFUSED(p->role = (rv_role)-1, *p = kept, RV_ERR_MISMATCH, "matrix 1");
	REFUSED(p->role = RV_ROLE_COUNT, *p = kept, RV_ERR_MISMATCH, "matrix 1");
	REFUSED(p->layer = 3, *p = kept, RV_ERR_MISMATCH, "layer 3");
	REFUSED(p->layer = -1, *p = kept, RV_ERR_MISMATCH, "layer -1");
	REFUSED(p->layer = 0, *p = kept, RV_ERR_INVALID, "'blk.0.attn_output.weight' is adapted");
	REFUSED(p->rank = 0, *p = kept, RV_ERR_LIMIT, "rank 0");
	REFUSED(p->rank = RV_ADAPTER_MAX_RANK + 1, *p = kept, RV_ERR_LIMIT, "rank 4097");
	REFUSED(p->scale = NAN, *p = kept, RV_ERR_INVALID, "scale");
	REFUSED(p->a = NULL, *p = kept, RV_ERR_INVALID, "a factor is missing");
	REFUSED(p->b = NULL, *p = kept, RV_ERR_INVALID, "a factor is missing");
	REFUSED(b[511] = INFINITY, b[511] = x, RV_ERR_NUMERIC, "blk.2.attn_output.weight.lora_b");
	REFUSED(b[511] = NAN, b[511] = x, RV_ERR_NUMERIC, "blk.2.attn_output.weight.lora_b");
	REFUSED(m.a[0][0] = -INFINITY, m.a[0][0] = 0, RV_ERR_NUMERIC,
	        "blk.0.attn_output.weight.lora_a");
	REFUSED(m.n = 0, m.n = 3, RV_ERR_INVALID, "adapts nothing");
	assert_ok(rv_adapter_create(&adapter, model, "good again", m.parts, m.n));
	rv_adapter_release(adapter);
	made_end(&m);
}

/* ---- the slot ---- */

static rv_adapter *numbered(uint64_t i) {
	char name[32];
	snprintf(name, sizeof name, "%llu", (unsigned long long)i);
	return made_adapter(model, name, rv_site_roles(RV_SITE_ATTN_OUT), 2, 1, i);
}

static void slot_gives_the_newest(void **state) {
	(void)state;
	rv_adapter_slot *slot;
	uint64_t version = 9;
	assert_ok(rv_adapter_slot_create(&slot, model));
	assert_ptr_equal(rv_adapter_slot_model(slot), model);
	assert_null(rv_adapter_slot_acquire(slot, &version));
	assert_int_equal(version, 0);
	rv_adapter *one = numbered(1), *two = numbered(2);
	assert_ok(rv_adapter_slot_publish(slot, one, &version));
	assert_int_equal(version, 1);
	assert_true(rv_adapter_shared(one));
	rv_adapter *got = rv_adapter_slot_acquire(slot, &version);
	assert_ptr_equal(got, one);
	assert_int_equal(version, 1);
	assert_ok(rv_adapter_slot_publish(slot, two, NULL));
	assert_int_equal(rv_adapter_slot_version(slot), 2);
	rv_adapter_release(got);
	assert_false(rv_adapter_shared(one)); /* the slot let go of it */
	/* What does not fit is refused, and the slot holds what it held. */
	rv_hparams other = tiny_hparams();
	other.n_ff = 256;
	rv_model *narrow = tiny_model_of(&other, "qwen2", "F16", 1);
	rv_adapter *wrong = made_adapter(narrow, "narrow", rv_site_roles(RV_SITE_ATTN_OUT), 2, 1, 1);
	assert_int_equal(rv_adapter_slot_publish(slot, wrong, &version), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), "narrow: made for another shape"));
	got = rv_adapter_slot_acquire(slot, &version);
	assert_ptr_equal(got, two);
	assert_int_equal(version, 2);
	rv_adapter_release(got);
	assert_ok(rv_adapter_slot_publish(slot, NULL, &version));
	assert_null(rv_adapter_slot_acquire(slot, &version));
	assert_int_equal(version, 3);
	/* The same one again is another publication. */
	assert_ok(rv_adapter_slot_publish(slot, one, NULL));
	assert_ok(rv_adapter_slot_publish(slot, one, &version));
	assert_int_equal(version, 5);
	rv_adapter_slot_destroy(slot);
	rv_adapter_slot_destroy(NULL);
	assert_false(rv_adapter_shared(one) || rv_adapter_shared(two));
	rv_adapter_release(one);
	rv_adapter_release(two);
	rv_adapter_release(wrong);
	rv_model_release(narrow);
}

/* Writers publish adapters whose name and values tell their origin, readers take them out all the
 * while. */
enum { WRITERS = 2, READERS = 3, EACH = 1500 };

typedef struct race {
	rv_adapter_slot *slot;
	rv_adapter *made[WRITERS][8];
	_Atomic int writing;
	_Atomic int64_t n_taken, n_new, n_wrong;
} race;

static void *write_some(void *arg) {
	race *r = arg;
	static _Atomic int n_writers;
	const int me = atomic_fetch_add(&n_writers, 1) % WRITERS;
	uint64_t last = 0, version;
	for (int i = 0; i < EACH; i++) {
		rv_adapter *one = r->made[me][i % 8];
		if (rv_adapter_slot_publish(r->slot, i % 16 == 15 ? NULL : one, &version) != RV_OK ||
		    version <= last)
			atomic_fetch_add(&r->n_wrong, 1);
		last = version;
	}
	atomic_fetch_sub(&r->writing, 1);
	return NULL;
}

/* All values are what its name says. */
static int is_whole(const rv_adapter *adapter) {
	const rv_adapter_part *p = rv_adapter_find(adapter, RV_ATTN_OUT, 2);
	const float *a = p->a.data;
	int whole = (float)atoi(rv_adapter_path(adapter)) == a[0];
	for (int64_t i = 0; i < p->a.cols; i++)
		whole &= a[i] == a[0];
	return whole;
}

static void *read_some(void *arg) {
	race *r = arg;
	uint64_t last = 0, version;
	while (atomic_load(&r->writing) > 0) {
		const uint64_t before = rv_adapter_slot_version(r->slot);
		rv_adapter *one = rv_adapter_slot_acquire(r->slot, &version);
		int wrong = version < last || version < before;
		wrong |= one && !is_whole(one); /* though it may have been replaced meanwhile */
		rv_adapter_release(one);
		atomic_fetch_add(&r->n_new, version != last);
		atomic_fetch_add(&r->n_wrong, wrong);
		atomic_fetch_add(&r->n_taken, 1);
		last = version;
	}
	return NULL;
}

static rv_adapter *constant(int number) {
	made m;
	rv_adapter *adapter;
	char name[16];
	snprintf(name, sizeof name, "%d", number);
	made_begin(&m, model, rv_site_roles(RV_SITE_ATTN_OUT), 2, 1, 1);
	for (int i = 0; i < 256; i++)
		m.a[0][i] = (float)number;
	assert_ok(rv_adapter_create(&adapter, model, name, m.parts, m.n));
	made_end(&m);
	return adapter;
}

static void writers_and_readers(void **state) {
	(void)state;
	race r = {.writing = WRITERS};
	pthread_t threads[WRITERS + READERS];
	uint64_t version;
	rv_adapter *control = numbered(7); /* random values: the checker says so */
	assert_false(is_whole(control));
	rv_adapter_release(control);
	assert_ok(rv_adapter_slot_create(&r.slot, model));
	for (int i = 0; i < WRITERS * 8; i++)
		r.made[i / 8][i % 8] = constant(i + 1);
	for (int i = 0; i < WRITERS + READERS; i++)
		assert_int_equal(
		        pthread_create(&threads[i], NULL, i < WRITERS ? write_some : read_some, &r), 0);
	for (int i = 0; i < WRITERS + READERS; i++)
		pthread_join(threads[i], NULL);
	rv_adapter_release(rv_adapter_slot_acquire(r.slot, &version));
	print_message("# %lld taken, %lld of them new, of %d published\n", (long long)r.n_taken,
	              (long long)r.n_new, WRITERS * EACH);
	assert_int_equal(version, WRITERS * EACH);
	assert_int_equal(r.n_wrong, 0);
	rv_adapter_slot_destroy(r.slot);
	for (int i = 0; i < WRITERS * 8; i++) { /* nobody kept one, nobody lost one */
		assert_false(rv_adapter_shared(r.made[i / 8][i % 8]));
		rv_adapter_release(r.made[i / 8][i % 8]);
	}
}

/* ---- sites ---- */

static void sites(void **state) {
	(void)state;
	rv_site site = RV_SITE_COUNT;
	for (int i = 0; i < RV_SITE_COUNT; i++) {
		assert_ok(rv_site_by_name(&site, rv_site_name((rv_site)i)));
		assert_int_equal(site, i);
		assert_int_equal(rv_site_roles(site) & ~RV_ROLES_LAYER, 0);
	}
	assert_int_equal(rv_site_roles(RV_SITE_PROJ_ALL), RV_ROLES_LAYER);
	assert_int_equal(__builtin_popcount(rv_site_roles(RV_SITE_PROJ_QKVO)), 4);
	assert_int_equal(rv_site_roles(RV_SITE_FFN_OUT), RV_ROLE_BIT(RV_FFN_DOWN));
	site = RV_SITE_COUNT;
	assert_int_equal(rv_site_by_name(&site, "proj:kv"), RV_ERR_INVALID);
	assert_int_equal(site, RV_SITE_COUNT);
	assert_non_null(strstr(rv_error_message(), "proj:qkvo"));
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(holds_what_it_was_given), cmocka_unit_test(digest_is_of_the_content),
	        cmocka_unit_test(refuses_by_name),         cmocka_unit_test(slot_gives_the_newest),
	        cmocka_unit_test(writers_and_readers),     cmocka_unit_test(sites),
	};
	return cmocka_run_group_tests(tests, open_model, close_model);
}
