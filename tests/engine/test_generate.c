/* The generation loop: stops, streaming, and no heap allocation a token. */
#include "engine/generate.h"
#include "tests/support/tiny_model.h"

#include <stdatomic.h>

/* Every allocation of the process passes here (the test is linked before libc), so that the decode loop
 * can be shown to make none. */
static atomic_long n_allocations;
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
#ifndef __SANITIZE_ADDRESS__
void *malloc(size_t n) {
	atomic_fetch_add(&n_allocations, 1);
	return __libc_malloc(n);
}
void *calloc(size_t n, size_t m) {
	atomic_fetch_add(&n_allocations, 1);
	return __libc_calloc(n, m);
}
void *realloc(void *p, size_t n) {
	atomic_fetch_add(&n_allocations, 1);
	return __libc_realloc(p, n);
}
void *aligned_alloc(size_t a, size_t n) {
	atomic_fetch_add(&n_allocations, 1);
	return __libc_memalign(a, n);
}
int posix_memalign(void **p, size_t a, size_t n) {
	atomic_fetch_add(&n_allocations, 1);
	*p = __libc_memalign(a, n);
	return *p ? 0 : 12;
}
#endif

typedef struct capture {
	char text[8192];
	size_t len;
	int32_t ids[512];
	int n_ids, stop_after;
	long first_allocations, last_allocations;
} capture;

static int on_token(void *user, int32_t id, const char *text, size_t len, double logprob) {
	capture *c = user;
	assert_true(logprob <= 0);
	assert_true(c->len + len < sizeof c->text);
	memcpy(c->text + c->len, text, len);
	c->len += len;
	if (id >= 0)
		c->ids[c->n_ids++] = id;
	long now = atomic_load(&n_allocations);
	if (c->n_ids == 2 && id >= 0)
		c->first_allocations = now;
	c->last_allocations = now;
	return c->stop_after && c->n_ids >= c->stop_after;
}

typedef struct fixture {
	rv_model *model;
	rv_context *ctx;
	rv_sampler *sampler;
} fixture;

static void set_up(fixture *f, const char *type, double temperature) {
	rv_context_options o = rv_context_defaults();
	rv_sampler_options s = rv_sampler_defaults();
	o.n_ctx = 256;
	o.n_threads = 2;
	o.n_batch = 16; /* prompts are cut */
	s.temperature = temperature;
	f->model = tiny_model("qwen2", type);
	assert_ok(rv_context_create(&f->ctx, f->model, &o));
	assert_ok(rv_sampler_create(&f->sampler, &s, rv_model_hparams(f->model)->n_vocab));
}

static void tear_down(fixture *f) {
	rv_sampler_destroy(f->sampler);
	rv_context_destroy(f->ctx);
	rv_model_release(f->model);
}

static rv_generate_result generate(fixture *f, capture *c, int64_t n, const char *const *stops) {
	static const int32_t prompt[] = {72,  101, 108, 108, 111, 32, 119, 111, 114, 108,
	                                 100, 33,  1,   2,   3,   4,  5,   6,   7,   8};
	rv_generate_options o = rv_generate_defaults();
	rv_generate_result r;
	o.n_predict = n;
	o.stop_strings = stops;
	o.ignore_end = 1;
	o.on_token = on_token;
	o.user = c;
	assert_ok(rv_seq_truncate(f->ctx, 0, 0));
	rv_sampler_reset(f->sampler);
	assert_ok(rv_generate(f->ctx, 0, prompt, sizeof prompt / sizeof prompt[0], f->sampler, &o, NULL,
	                      &r));
	return r;
}

static void no_allocation_per_token(void **state) {
	(void)state;
	static const char *const types[] = {"Q4_K_M", "Q8_0", "F16"};
	for (size_t i = 0; i < 3; i++) {
		fixture f;
		capture c = {0};
		set_up(&f, types[i], 0.8);
		rv_generate_result r = generate(&f, &c, 100, NULL);
		assert_int_equal(r.n_generated, 100);
#ifndef __SANITIZE_ADDRESS__
		assert_int_equal(c.last_allocations - c.first_allocations, 0);
		/* negative control: the counter sees an allocation */
		long before = atomic_load(&n_allocations);
		void *volatile p = malloc(10);
		free(p);
		assert_int_equal(atomic_load(&n_allocations) - before, 1);
#endif
		tear_down(&f);
	}
}

static void text_streams_and_equals_the_whole(void **state) {
	(void)state;
	fixture f;
	capture c = {0};
	set_up(&f, "Q8_0", 0.9);
	rv_generate_result r = generate(&f, &c, 120, NULL);
	assert_int_equal(r.stop, RV_STOP_LENGTH);
	char *whole;
	size_t len;
	assert_ok(rv_tokenizer_decode(rv_model_tokenizer(f.model), c.ids, (size_t)c.n_ids, 0, 0, &whole,
	                              &len));
	assert_int_equal(c.len, len);
	assert_memory_equal(c.text, whole, len);
	free(whole);
	tear_down(&f);
}

/* A stop string taken from the middle of the text ends it just before. */
static void stop_strings(void **state) {
	(void)state;
	fixture f;
	capture all = {0}, cut = {0};
	set_up(&f, "Q8_0", 0.9);
	generate(&f, &all, 60, NULL);
	assert_true(all.len > 20);
	char stop[8] = {0};
	size_t at = all.len / 2;
	memcpy(stop, all.text + at, 5);
	if (strlen(stop) == 5) {
		const char *const stops[] = {"never to be seen", stop, NULL};
		char *first = memmem(all.text, all.len, stop, 5);
		rv_generate_result r = generate(&f, &cut, 60, stops);
		assert_int_equal(r.stop, RV_STOP_STRING);
		assert_int_equal(cut.len, (size_t)(first - all.text));
		assert_memory_equal(cut.text, all.text, cut.len);
	}
	/* a stop string that never comes holds nothing back in the end */
	char never[16];
	memcpy(never, all.text + all.len - 1, 1);
	strcpy(never + 1, "\x01never");
	const char *const stops[] = {never, NULL};
	capture held = {0};
	generate(&f, &held, 60, stops);
	assert_int_equal(held.len, all.len);
	tear_down(&f);
}

static void other_stops(void **state) {
	(void)state;
	fixture f;
	capture c = {.stop_after = 7}, d = {0};
	set_up(&f, "F16", 0);
	assert_int_equal(generate(&f, &c, 50, NULL).stop, RV_STOP_CALLER);
	assert_int_equal(c.n_ids, 7);
	rv_generate_result r = generate(&f, &d, -1, NULL);
	assert_int_equal(r.stop, RV_STOP_CONTEXT);
	assert_int_equal(r.n_generated, 256 - 20 + 1); /* the last one is chosen, not evaluated */
	tear_down(&f);
}

static int always(void *user) {
	(void)user;
	return 1;
}

static void faults(void **state) {
	(void)state;
	fixture f;
	rv_generate_options o = rv_generate_defaults();
	rv_generate_result r;
	int32_t prompt[300] = {0};
	set_up(&f, "F16", 0);
	assert_int_equal(rv_generate(f.ctx, 0, prompt, 0, f.sampler, &o, NULL, &r), RV_ERR_INVALID);
	assert_int_equal(rv_generate(f.ctx, 0, prompt, 300, f.sampler, &o, NULL, &r), RV_ERR_LIMIT);
	assert_int_equal(rv_generate(f.ctx, 5, prompt, 3, f.sampler, &o, NULL, &r), RV_ERR_INVALID);
	rv_context_set_cancel(f.ctx, always, NULL);
	assert_int_equal(rv_generate(f.ctx, 0, prompt, 3, f.sampler, &o, NULL, &r), RV_ERR_CANCELLED);
	assert_int_equal(rv_seq_length(f.ctx, 0), 0);
	tear_down(&f);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(no_allocation_per_token),
	        cmocka_unit_test(text_streams_and_equals_the_whole),
	        cmocka_unit_test(stop_strings),
	        cmocka_unit_test(other_stops),
	        cmocka_unit_test(faults),
	};
	return cmocka_run_group_tests_name("generate", tests, NULL, NULL);
}
