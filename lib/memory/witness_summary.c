/* What the log says of a time: latencies, quality, models. */
#include "base/mem.h"
#include "memory/witness_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TABLE "witness"

typedef struct gathered {
	double *ms; /* [RV_LATENCY_COUNT][n_wanted] */
	int64_t n_wanted;
	int64_t since, until;
	double t0, st, stt, sq, stq; /* sums of days since t0 and quality, for the slope */
	rv_witness_summary *out;
} gathered;

static double mean_of(double sum, int64_t n) {
	return n > 0 ? sum / (double)n : NAN;
}

static void take_quality(gathered *g, int64_t time, double q) {
	rv_witness_summary *s = g->out;
	double day = ((double)time - g->t0) / 86400000;
	s->n_quality++;
	g->st += day;
	g->stt += day * day;
	g->sq += q;
	g->stq += day * q;
	/* the spans' ends decide: integer division would put a time at an edge by its rounding */
	int64_t i = 0;
	while (i + 1 < s->n_spans && time >= s->spans[i].until)
		i++;
	s->spans[i].n++;
	s->spans[i].mean += q;
}

static rv_status take_model(gathered *g, const rv_db_row *row, const char *name, int is_error,
                            double quality, double total_ms) {
	rv_witness_summary *s = g->out;
	int64_t i = 0;
	if (name == NULL)
		return rv_row_damaged(row, "no model_used");
	while (i < s->n_models && strcmp(s->models[i].model, name) != 0)
		i++;
	if (i == s->n_models) {
		RV_TRY(RV_GROW(&s->models, s->n_models, s->n_models + 1, "model use"));
		RV_TRY(rv_strdup(&s->models[i].model, name));
		s->n_models++;
	}
	rv_model_use *m = &s->models[i];
	m->n++;
	m->n_errors += is_error;
	m->mean_total_ms += total_ms;
	if (!isnan(quality)) {
		m->mean_quality += quality;
		m->n_quality++;
	}
	return RV_OK;
}

static rv_status take_row(void *user, const rv_db_row *row) {
	gathered *g = user;
	rv_witness_summary *s = g->out;
	int64_t time = rv_row_int(row, 1);
	double quality = rv_row_is_null(row, 2) ? NAN : rv_row_real(row, 2);
	int is_error = rv_row_int(row, 3) != 0;
	if (s->n == g->n_wanted) /* cannot be within one snapshot */
		return rv_row_damaged(row, "one more than were counted");
	for (int i = 0; i < RV_LATENCY_COUNT; i++)
		g->ms[i * g->n_wanted + s->n] = rv_row_real(row, 5 + i);
	double total_ms = g->ms[RV_LATENCY_TOTAL * g->n_wanted + s->n];
	s->n++;
	s->n_errors += is_error;
	if (!isnan(quality))
		take_quality(g, time, quality);
	return take_model(g, row, rv_row_text(row, 4), is_error, quality, total_ms);
}

static int by_value(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static int by_use(const void *a, const void *b) {
	const rv_model_use *x = a, *y = b;
	return x->n != y->n ? (x->n < y->n ? 1 : -1) : strcmp(x->model, y->model);
}

/* The smallest of n sorted values that at least `percent` % of them do not exceed. */
static double percentile(const double *sorted, int64_t n, int percent) {
	return n > 0 ? sorted[(n * percent + 99) / 100 - 1] : NAN;
}

static void finish_latencies(gathered *g) {
	rv_witness_summary *s = g->out;
	for (int i = 0; i < RV_LATENCY_COUNT; i++) {
		double *ms = g->ms + i * g->n_wanted, sum = 0;
		if (s->n > 0)
			qsort(ms, (size_t)s->n, sizeof *ms, by_value);
		for (int64_t j = 0; j < s->n; j++)
			sum += ms[j];
		s->latency[i] = (rv_latency_summary){
		        .mean = mean_of(sum, s->n),
		        .p50 = percentile(ms, s->n, 50),
		        .p95 = percentile(ms, s->n, 95),
		        .p99 = percentile(ms, s->n, 99),
		        .max = percentile(ms, s->n, 100),
		};
	}
}

static void finish_quality(gathered *g) {
	rv_witness_summary *s = g->out;
	double n = (double)s->n_quality, spread = n * g->stt - g->st * g->st;
	s->mean_quality = mean_of(g->sq, s->n_quality);
	s->quality_per_day =
	        s->n_quality >= 2 && spread > 0 ? (n * g->stq - g->st * g->sq) / spread : NAN;
	for (int64_t i = 0; i < s->n_spans; i++)
		s->spans[i].mean = mean_of(s->spans[i].mean, s->spans[i].n);
}

static void finish_models(gathered *g) {
	rv_witness_summary *s = g->out;
	for (int64_t i = 0; i < s->n_models; i++) {
		rv_model_use *m = &s->models[i];
		m->mean_quality = mean_of(m->mean_quality, m->n_quality);
		m->mean_total_ms = mean_of(m->mean_total_ms, m->n);
		m->share = (double)m->n / (double)s->n;
	}
	if (s->n_models > 0)
		qsort(s->models, (size_t)s->n_models, sizeof *s->models, by_use);
}

static rv_status take_extent(void *user, const rv_db_row *row) {
	gathered *g = user;
	g->n_wanted = rv_row_int(row, 0);
	int64_t first = rv_row_int(row, 1), last = rv_row_int(row, 2);
	if (g->n_wanted > 0 && first > g->since)
		g->since = first; /* spans where there are entries */
	if (g->until == INT64_MAX)
		g->until = g->n_wanted > 0 ? last + 1 : g->since;
	return RV_OK;
}

static rv_status make_spans(gathered *g) {
	rv_witness_summary *s = g->out;
	RV_TRY(RV_ALLOC(&s->spans, s->n_spans, "quality spans"));
	double length = (double)(g->until - g->since) / (double)s->n_spans;
	for (int64_t i = 0; i < s->n_spans; i++) {
		s->spans[i].since = i ? s->spans[i - 1].until : g->since;
		s->spans[i].until =
		        i + 1 == s->n_spans ? g->until : g->since + (int64_t)(length * (double)(i + 1));
	}
	return RV_OK;
}

static rv_status gather(void *user, rv_db *db) {
	gathered *g = user;
	const rv_db_value when[] = {RV_INT(g->since), RV_INT(g->until)};
	RV_TRY(rv_db_query(db, TABLE,
	                   "SELECT count(*), min(timestamp), max(timestamp) FROM witness"
	                   " WHERE timestamp >= ?1 AND timestamp < ?2",
	                   when, 2, take_extent, g));
	RV_TRY(make_spans(g));
	g->t0 = (double)g->since;
	RV_TRY(RV_ALLOC(&g->ms, RV_LATENCY_COUNT * g->n_wanted, "latencies"));
	return rv_db_query(db, TABLE,
	                   "SELECT key, timestamp, quality_score, error IS NOT NULL, model_used,"
	                   " embedding_ms, retrieval_ms, routing_ms, attention_ms, generation_ms,"
	                   " total_ms FROM witness WHERE timestamp >= ?1 AND timestamp < ?2",
	                   when, 2, take_row, g);
}

rv_status rv_witness_summarise(rv_witness *w, int64_t since, int64_t until, int64_t n_spans,
                               rv_witness_summary *out) {
	if (since < 0 || until < 0 || (until != 0 && until <= since) || n_spans < 1)
		return rv_fail(RV_ERR_INVALID, "witness summary: since %lld, until %lld, n_spans %lld",
		               (long long)since, (long long)until, (long long)n_spans);
	rv_witness_summary s = {.n_spans = n_spans};
	gathered g = {.since = since, .until = until ? until : INT64_MAX, .out = &s};
	rv_status st = rv_store_read(w->store, gather, &g);
	if (st == RV_OK) {
		finish_latencies(&g);
		finish_quality(&g);
		finish_models(&g);
		*out = s;
	} else {
		rv_witness_summary_deinit(&s);
	}
	rv_free(g.ms);
	return st;
}

void rv_witness_summary_deinit(rv_witness_summary *s) {
	for (int64_t i = 0; i < s->n_models; i++)
		rv_free(s->models[i].model);
	rv_free(s->models);
	rv_free(s->spans);
	*s = (rv_witness_summary){0};
}
