/* Adapters written as GGUF files come back as they were; what cannot be written leaves no file. */
#include "model/adapter_write.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/support/tiny_model.h"

#include <math.h>
#include <sys/stat.h>

enum { RANK = 4, N_PARTS = 3 };

typedef struct kit {
	rv_model *model;
	rv_adapter_matrix parts[N_PARTS];
	float *data[2 * N_PARTS];
	char path[1024];
} kit;

static float *random_matrix(int64_t n, uint64_t stream) {
	float *x;
	rv_rng rng;
	rv_rng_stream(&rng, 3, stream);
	assert_ok(RV_ALLOC(&x, n, "matrix"));
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)(0.1 * rv_rng_normal(&rng));
	return x;
}

static void open_kit(kit *k, const char *arch) {
	static const struct {
		rv_role role;
		int64_t layer, in, out, rank;
	} shape[N_PARTS] = {{RV_ATTN_Q, 0, 256, 256, RANK},
	                    {RV_ATTN_V, 2, 256, 128, RANK},
	                    {RV_FFN_DOWN, 1, 512, 256, 2 * RANK}};
	k->model = tiny_model(arch, "F16");
	for (int i = 0; i < N_PARTS; i++) {
		k->data[2 * i] = random_matrix(shape[i].rank * shape[i].in, (uint64_t)i);
		k->data[2 * i + 1] = random_matrix(shape[i].rank * shape[i].out, 100 + (uint64_t)i);
		k->parts[i] = (rv_adapter_matrix){.role = shape[i].role,
		                                  .layer = shape[i].layer,
		                                  .rank = shape[i].rank,
		                                  .a = k->data[2 * i],
		                                  .b = k->data[2 * i + 1],
		                                  .scale = (float)(16.0 / (double)shape[i].rank)};
	}
	const char *tmp = getenv("TMPDIR");
	snprintf(k->path, sizeof k->path, "%s/rv-adapter-%d.gguf", tmp ? tmp : "/tmp", (int)getpid());
}

static void close_kit(kit *k) {
	for (int i = 0; i < 2 * N_PARTS; i++)
		rv_free(k->data[i]);
	rv_model_release(k->model);
	unlink(k->path);
}

static rv_status write_kit(const kit *k, const rv_adapter_write_options *o) {
	return rv_adapter_write_matrices(k->path, rv_model_arch(k->model), rv_model_hparams(k->model),
	                                 k->parts, N_PARTS, o);
}

/* Largest difference of scale * B A between a read part and what was written, relative to the largest
 * element. */
static double difference(const rv_adapter_matrices *m, const kit *k) {
	double worst = 0, most = 0;
	assert_int_equal(m->n, N_PARTS);
	for (int i = 0; i < N_PARTS; i++) {
		const rv_adapter_matrix *w = &k->parts[i], *r = NULL;
		for (int j = 0; j < m->n; j++)
			if (m->parts[j].role == w->role && m->parts[j].layer == w->layer)
				r = &m->parts[j];
		assert_non_null(r);
		assert_int_equal(r->rank, w->rank);
		const int64_t in = w->role == RV_FFN_DOWN ? 512 : 256;
		const int64_t out = w->role == RV_ATTN_V ? 128 : 256;
		for (int64_t y = 0; y < out; y++)
			for (int64_t x = 0; x < in; x++) {
				double a = 0, b = 0;
				for (int64_t j = 0; j < w->rank; j++) {
					a += (double)w->b[y * w->rank + j] * (double)w->a[j * in + x];
					b += (double)r->b[y * w->rank + j] * (double)r->a[j * in + x];
				}
				a *= (double)w->scale, b *= (double)r->scale;
				worst = fmax(worst, fabs(a - b));
				most = fmax(most, fabs(a));
			}
	}
	return worst / most;
}

static double read_back(const kit *k) {
	rv_adapter *ad;
	rv_adapter_matrices m;
	assert_ok(rv_adapter_open(&ad, k->path, k->model));
	assert_ok(rv_adapter_matrices_init(&m, ad, k->model));
	const double d = difference(&m, k);
	rv_adapter_matrices_deinit(&m);
	rv_adapter_release(ad);
	return d;
}

static void test_comes_back(void **state) {
	(void)state;
	static const char *const archs[] = {"qwen2", "qwen3", "llama"};
	for (int a = 0; a < 3; a++) {
		kit k;
		open_kit(&k, archs[a]);
		assert_ok(write_kit(&k, &(rv_adapter_write_options){.type = rv_type_get(RV_F32)}));
		assert_true(read_back(&k) == 0);
		assert_ok(write_kit(&k, NULL)); /* F16 */
		const double f16 = read_back(&k);
		assert_true(f16 > 0 && f16 < 2e-3);
		/* another alpha: the same product */
		assert_ok(write_kit(
		        &k, &(rv_adapter_write_options){.type = rv_type_get(RV_F32), .alpha = 3}));
		assert_true(read_back(&k) < 1e-6);
		/* matrices of unlike scale * rank: the same products under one alpha */
		k.parts[1].scale *= 5;
		assert_ok(write_kit(&k, &(rv_adapter_write_options){.type = rv_type_get(RV_F32)}));
		assert_true(read_back(&k) < 1e-6);
		/* control: the reader is compared with what was written */
		k.parts[1].scale *= 1.01f;
		assert_true(read_back(&k) > 1e-3);
		close_kit(&k);
	}
}

static void test_adapter_in_memory(void **state) {
	(void)state;
	kit k;
	rv_adapter *made, *read;
	char made_hex[65], read_hex[65];
	const rv_adapter_write_options f32 = {.type = rv_type_get(RV_F32), .name = "made"};
	open_kit(&k, "qwen2");
	assert_ok(rv_adapter_create(&made, k.model, "made", k.parts, N_PARTS));
	assert_ok(rv_adapter_write(k.path, made, k.model, &f32));
	assert_ok(rv_adapter_open(&read, k.path, k.model));
	rv_adapter_sha256(made, made_hex);
	rv_adapter_sha256(read, read_hex);
	assert_string_equal(made_hex, read_hex);
	/* and a copy of a copy has the same bytes */
	char first[65], second[65];
	assert_ok(rv_file_sha256(k.path, first));
	assert_ok(rv_adapter_write(k.path, read, k.model, &f32));
	assert_ok(rv_file_sha256(k.path, second));
	assert_string_equal(first, second);
	rv_adapter_release(read);
	rv_adapter_release(made);
	/* control: one number off */
	k.data[0][17] += 1e-3f;
	assert_ok(rv_adapter_create(&made, k.model, "made", k.parts, N_PARTS));
	rv_adapter_sha256(made, made_hex);
	assert_string_not_equal(made_hex, read_hex);
	rv_adapter_release(made);
	close_kit(&k);
}

/* Memory that counts what is taken and given back, and has an end. */
typedef struct memory {
	void *pieces[64];
	int n, given_back, limit;
} memory;

static rv_status take(void *user, size_t bytes, void **out) {
	memory *m = user;
	if (m->n >= m->limit)
		return rv_fail(RV_ERR_LIMIT, "no piece is left");
	RV_TRY(rv_alloc_uninit(out, bytes, 1, "piece"));
	m->pieces[m->n++] = *out;
	return RV_OK;
}

static void give_back(void *user) {
	memory *m = user;
	for (int i = 0; i < m->n; i++)
		rv_free(m->pieces[i]);
	m->given_back++;
}

static void test_placed(void **state) {
	(void)state;
	kit k;
	rv_adapter *made, *placed;
	char made_hex[65], hex[65];
	open_kit(&k, "qwen2");
	assert_ok(write_kit(&k, NULL));
	assert_ok(rv_adapter_open(&made, k.path, k.model));
	rv_adapter_sha256(made, made_hex);
	for (int limit = 0; limit <= 3 * N_PARTS; limit++) {
		memory m = {.limit = limit};
		const rv_adapter_memory to = {take, give_back, &m};
		const rv_status st = rv_adapter_place(&placed, made, &to);
		assert_int_equal(st, limit < 3 * N_PARTS ? RV_ERR_LIMIT : RV_OK);
		assert_int_equal(m.given_back, st != RV_OK);
		assert_int_equal(placed != NULL, st == RV_OK);
		if (st != RV_OK)
			continue;
		rv_adapter_release(made); /* not needed any more */
		rv_adapter_sha256(placed, hex);
		assert_string_equal(made_hex, hex);
		assert_int_equal(rv_adapter_shared(placed), 0);
		rv_adapter_retain(placed);
		assert_int_equal(rv_adapter_shared(placed), 1);
		rv_adapter_release(placed);
		assert_int_equal(m.given_back, 0);
		assert_string_equal(rv_adapter_find(placed, RV_ATTN_V, 2)->b.name,
		                    "blk.2.attn_v.weight.lora_b");
		*(char *)m.pieces[1] ^= 1; /* control: the adapter is what lies there */
		rv_adapter_sha256(placed, hex);
		assert_string_not_equal(made_hex, hex);
		rv_adapter_release(placed);
		assert_int_equal(m.given_back, 1);
	}
	close_kit(&k);
}

static void expect(rv_status st, rv_status wanted, const char *what) {
	if (st != wanted || !strstr(rv_error_message(), what))
		fail_msg("expected '%s', got %s: %s", what, rv_status_text(st), rv_error_message());
}

static void test_refused(void **state) {
	(void)state;
	kit k;
	struct stat st;
	open_kit(&k, "qwen2");
	const float kept = k.data[2][5];
	k.data[2][5] = NAN;
	expect(write_kit(&k, NULL), RV_ERR_NUMERIC, "blk.2.attn_v.weight.lora_a");
	k.data[2][5] = 70000;
	expect(write_kit(&k, NULL), RV_ERR_NUMERIC, "F16");
	assert_int_equal(stat(k.path, &st), -1);
	assert_ok(write_kit(&k, &(rv_adapter_write_options){.type = rv_type_get(RV_F32)}));
	k.data[2][5] = kept;
	expect(write_kit(&k, &(rv_adapter_write_options){.type = rv_type_get(RV_Q8_0)}), RV_ERR_INVALID,
	       "Q8_0");
	expect(write_kit(&k, &(rv_adapter_write_options){.alpha = NAN}), RV_ERR_INVALID, "alpha");
	k.parts[0].layer = 3;
	expect(write_kit(&k, NULL), RV_ERR_INVALID, "matrix 0");
	k.parts[0].layer = 2;
	k.parts[0].role = RV_ATTN_V;
	expect(write_kit(&k, NULL), RV_ERR_INVALID, "matrices 0 and 1");
	k.parts[0].role = RV_ATTN_NORM;
	expect(write_kit(&k, NULL), RV_ERR_INVALID, "matrix 0");
	k.parts[0] = k.parts[1];
	k.parts[0].layer = 0;
	k.parts[0].rank = 0;
	expect(write_kit(&k, NULL), RV_ERR_INVALID, "rank 0");
	k.parts[0].rank = RANK;
	k.parts[0].scale = INFINITY;
	expect(write_kit(&k, NULL), RV_ERR_NUMERIC, "scale");
	expect(rv_adapter_write_matrices(k.path, rv_model_arch(k.model), rv_model_hparams(k.model),
	                                 k.parts, 0, NULL),
	       RV_ERR_INVALID, "nothing");
	close_kit(&k);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_comes_back),
	        cmocka_unit_test(test_adapter_in_memory),
	        cmocka_unit_test(test_placed),
	        cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
