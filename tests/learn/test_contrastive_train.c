/* Training an embedder: the trainer's pooled states are the engine's; wrong texts are refused by name;
 * threads change no bit; what is exported embeds as the trainer scored; classes are learnt, and dealt
 * anew they are not. */
#include "engine/embed.h"
#include "learn/contrastive_train.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_CTX = 32, N_EMBD = 128 };

static rv_model *open_pico(void) {
	static const char *const places[] = {"datasets/models/pico.gguf",
	                                     "../datasets/models/pico.gguf"};
	rv_model *model = NULL;
	for (int i = 0; i < 2 && !model; i++)
		if (rv_model_open(&model, places[i], NULL) != RV_OK)
			model = NULL;
	assert_non_null(model);
	return model;
}

static rv_trainer *open_trainer(const rv_model *model, int64_t n_threads) {
	rv_trainer_options o = rv_trainer_defaults();
	rv_trainer *t;
	o.n_ctx = N_CTX;
	o.segments = 1;
	o.n_threads = n_threads;
	o.pin = 0;
	o.schedule.peak = 2e-3;
	o.schedule.n_steps = 15;
	assert_ok(rv_trainer_create_from(&t, model, NULL, &o));
	return t;
}

/* ---- pooled states ---- */

typedef struct packed {
	int32_t tokens[2 * N_CTX], text[2 * N_CTX];
	rv_train_texts texts;
} packed;

/* Texts of 5, 9 and 12 tokens: two in the first sequence, one in the second. */
static void lay_out(packed *p) {
	static const int64_t length[] = {5, 9, 12}, first[] = {0, 6, N_CTX};
	for (int i = 0; i < 2 * N_CTX; i++) {
		p->tokens[i] = 0;
		p->text[i] = -1;
	}
	for (int32_t k = 0; k < 3; k++)
		for (int64_t i = 0; i < length[k]; i++) {
			p->tokens[first[k] + i] = (int32_t)(300 + 17 * i + 100 * k);
			p->text[first[k] + i] = k;
		}
	p->texts = (rv_train_texts){p->tokens, p->text, 2, 3};
}

static double cosine(const float *a, const float *b) {
	double dot = 0, aa = 0, bb = 0;
	for (int i = 0; i < N_EMBD; i++) {
		dot += (double)a[i] * (double)b[i];
		aa += (double)a[i] * (double)a[i];
		bb += (double)b[i] * (double)b[i];
	}
	return dot / sqrt(aa * bb);
}

static void pooled_as_the_engine_does(void **state) {
	(void)state;
	rv_model *model = open_pico();
	rv_trainer *t = open_trainer(model, 2);
	rv_embedder_options o = rv_embedder_defaults();
	rv_embedder *e;
	packed p;
	float mean[3][N_EMBD], want[N_EMBD];
	lay_out(&p);
	o.dim = 0;
	assert_ok(rv_embedder_create(&e, model, &o));
	assert_ok(rv_trainer_pool(t, &p.texts, mean[0]));
	const int64_t first[] = {0, 6, N_CTX}, length[] = {5, 9, 12};
	for (int k = 0; k < 3; k++) {
		assert_ok(rv_embed_tokens(e, p.tokens + first[k], length[k], want));
		assert_true(cosine(mean[k], want) > 0.9999);
		assert_true(cosine(mean[(k + 1) % 3], want) < 0.99); /* others are others */
	}
	rv_embedder_destroy(e);
	rv_trainer_destroy(t);
	rv_model_release(model);
}

static void wrong_texts(void **state) {
	(void)state;
	rv_model *model = open_pico();
	rv_trainer *t = open_trainer(model, 1);
	float mean[4 * N_EMBD] = {0};
	packed p;
	lay_out(&p);
	p.text[2] = 7;
	assert_int_equal(rv_trainer_pool(t, &p.texts, mean), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "position 2: text 7"));
	lay_out(&p);
	p.text[N_CTX + 20] = 0;
	assert_int_equal(rv_trainer_pool(t, &p.texts, mean), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "text 0 began in sequence 0"));
	lay_out(&p);
	p.texts.n_texts = 4;
	assert_int_equal(rv_trainer_pool(t, &p.texts, mean), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "text 3 has no tokens"));
	lay_out(&p);
	p.tokens[3] = 99999;
	assert_int_equal(rv_trainer_pool(t, &p.texts, mean), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "position 3: token 99999"));
	lay_out(&p);
	assert_int_equal(rv_trainer_accumulate_pooled(t, &p.texts, mean, (double)NAN), RV_ERR_NUMERIC);
	/* nothing of it stayed */
	assert_int_equal(rv_trainer_update(t, NULL), RV_ERR_INVALID);
	assert_ok(rv_trainer_accumulate_pooled(t, &p.texts, mean, 1));
	assert_ok(rv_trainer_update(t, NULL));
	rv_trainer_destroy(t);
	rv_model_release(model);
}

/* ---- training ---- */

static const char *const things[] = {"tea", "milk", "bread", "soup", "fish", "rice", "corn", "salt"};

/* Two classes told apart by their words; `dealt`: by nothing. */
static void make_set(rv_request_set *set, int dealt, int n) {
	char text[4096] = "agent\ttext\n";
	for (int i = 0; i < n; i++) {
		const int swap = dealt && (i * 5 + 1) % 3 == 0;
		snprintf(text + strlen(text), sizeof text - strlen(text),
		         "%s\tplease write a program for %s\n%s\tcheck by a test whether %s holds\n",
		         swap ? "tester" : "coder", things[i], swap ? "coder" : "tester", things[i]);
	}
	assert_ok(rv_request_set_parse(set, text, strlen(text), "made.tsv", 1));
	assert_ok(rv_request_set_finish(set));
}

static rv_contrastive_plan small_plan(void) {
	rv_contrastive_plan plan = rv_contrastive_defaults();
	plan.n_topics = 4;
	plan.dim = 32;
	plan.topic_dim = 8;
	return plan;
}

static rv_contrastive_loss learn(rv_contrastive_trainer *c, int n_steps) {
	rv_contrastive_loss loss = {0};
	for (int i = 0; i < n_steps; i++)
		assert_ok(rv_contrastive_trainer_step(c, &loss, NULL));
	return loss;
}

static void threads_change_no_bit(void **state) {
	(void)state;
	rv_model *model = open_pico();
	rv_request_set set = {0};
	float map[2][32 * N_EMBD];
	make_set(&set, 0, 8);
	const rv_contrastive_plan plan = small_plan();
	for (int k = 0; k < 2; k++) {
		rv_trainer *t = open_trainer(model, 1 + 2 * k);
		rv_contrastive_trainer *c;
		assert_ok(rv_contrastive_trainer_create(&c, t, &set, rv_model_tokenizer(model), &plan));
		learn(c, 3);
		rv_contrastive_trainer_settle(c);
		memcpy(map[k], rv_contrastive_trainer_map(c), sizeof map[k]);
		rv_contrastive_trainer_destroy(c);
		rv_trainer_destroy(t);
	}
	assert_memory_equal(map[0], map[1], sizeof map[0]);
	rv_request_set_free(&set);
	rv_model_release(model);
}

/* Share of two held-out requests that the embedder of a file puts nearest to one of their class. */
static int right_by_file(const char *path, const rv_request_set *set) {
	static const char *const asked[] = {"write a program for wine",
	                                    "check by a test whether wine holds"};
	rv_embedder_options o = rv_embedder_defaults();
	rv_model *model;
	rv_embedder *e;
	float known[32], z[2][32];
	int label[2] = {-1, -1}, right = 0;
	double best[2] = {-2, -2};
	o.dim = 32;
	assert_ok(rv_model_open(&model, path, NULL));
	assert_ok(rv_embedder_create(&e, model, &o));
	assert_true(rv_embedder_learned(e));
	for (int k = 0; k < 2; k++)
		assert_ok(rv_embed_text(e, asked[k], strlen(asked[k]), z[k]));
	for (int64_t i = 0; i < set->n; i++) {
		assert_ok(rv_embed_text(e, set->items[i].text, set->items[i].len, known));
		for (int k = 0; k < 2; k++) {
			double dot = 0;
			for (int j = 0; j < 32; j++)
				dot += (double)known[j] * (double)z[k][j];
			if (dot > best[k]) {
				best[k] = dot;
				label[k] = set->items[i].label;
			}
		}
	}
	right = (label[0] == rv_request_class(set, "coder", 5)) +
	        (label[1] == rv_request_class(set, "tester", 6));
	rv_embedder_destroy(e);
	rv_model_release(model);
	return right;
}

static void classes_are_learnt(void **state) {
	(void)state;
	for (int dealt = 0; dealt < 2; dealt++) {
		rv_model *model = open_pico();
		rv_trainer *t = open_trainer(model, 2);
		rv_request_set set = {0};
		rv_contrastive_plan plan = small_plan();
		rv_contrastive_trainer *c;
		rv_contrastive_score score;
		char path[] = "/tmp/rv-contrastive-XXXXXX";
		plan.average = 0.5;
		make_set(&set, dealt, 8);
		assert_ok(rv_contrastive_trainer_create(&c, t, &set, rv_model_tokenizer(model), &plan));
		const rv_contrastive_loss begin = learn(c, 1), end = learn(c, 14);
		rv_contrastive_trainer_settle(c);
		assert_ok(rv_contrastive_trainer_score(c, &set, 0, &score));
		if (!dealt) {
			assert_true(end.total < begin.total && end.classes < 0.8 * begin.classes);
			assert_true(score.classes > 0.99);
			close(mkstemp(path));
			const rv_train_export out = {.tokenizer = rv_model_tokenizer(model),
			                             .embed_map = rv_contrastive_trainer_map(c),
			                             .embed_dim = plan.dim};
			assert_ok(rv_trainer_export(t, path, &out));
			assert_int_equal(right_by_file(path, &set), 2);
			unlink(path);
		} else { /* what is by chance cannot be told from the words of a class */
			assert_true(score.classes < 0.95);
		}
		rv_contrastive_trainer_destroy(c);
		rv_request_set_free(&set);
		rv_trainer_destroy(t);
		rv_model_release(model);
	}
}

static void options_are_checked(void **state) {
	(void)state;
	rv_model *model = open_pico();
	rv_trainer *t = open_trainer(model, 1);
	rv_request_set set = {0};
	rv_contrastive_trainer *c;
	make_set(&set, 0, 8);
	rv_contrastive_plan plan = small_plan();
	plan.topic_dim = plan.dim;
	assert_int_equal(rv_contrastive_trainer_create(&c, t, &set, rv_model_tokenizer(model), &plan),
	                 RV_ERR_INVALID);
	plan = small_plan();
	plan.n_topics = 0;
	assert_int_equal(rv_contrastive_trainer_create(&c, t, &set, rv_model_tokenizer(model), &plan),
	                 RV_ERR_INVALID);
	rv_request_set_free(&set);
	rv_trainer_destroy(t);
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(pooled_as_the_engine_does), cmocka_unit_test(wrong_texts),
	        cmocka_unit_test(threads_change_no_bit),     cmocka_unit_test(classes_are_learnt),
	        cmocka_unit_test(options_are_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
