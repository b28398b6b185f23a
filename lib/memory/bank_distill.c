/* Distillation: what says the same becomes one pattern.
 *
 * First near-duplicates: patterns in descending worth (quality, weight, age) each take in the
 * neighbours of the same verdict that are alike enough and not taken yet. Then, if there are still too
 * many, K-means++ (Arthur and Vassilvitskii 2007) over unit vectors with weight * quality as mass; of
 * each cluster the member nearest to the centre represents it. */
#include "base/mem.h"
#include "kernels/kernels.h"
#include "memory/bank_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NEIGHBOURS 32

rv_bank_distill_options rv_bank_distill_defaults(void) {
	return (rv_bank_distill_options){.merge_similarity = 0.95f, .max_rounds = 10};
}

/* One pattern while it is distilled. */
typedef struct member {
	rv_bank_entry entry;
	int64_t into; /* the member it went into; itself: it stays */
	int grew;
} member;

typedef struct distilling {
	const rv_bank_distill_options *options;
	rv_bank *bank;
	member *members; /* ascending by key */
	int64_t n;
	int64_t *order; /* members, best first */
	rv_bank_distill_report report;
} distilling;

static int64_t find_member(const distilling *d, int64_t key) {
	int64_t low = 0, high = d->n;
	while (low < high) {
		int64_t middle = (low + high) / 2;
		if (d->members[middle].entry.key < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low < d->n && d->members[low].entry.key == key ? low : -1;
}

static int better_first(const void *a, const void *b, void *user) {
	const distilling *d = user;
	const rv_bank_entry *x = &d->members[*(const int64_t *)a].entry;
	const rv_bank_entry *y = &d->members[*(const int64_t *)b].entry;
	if (x->quality != y->quality)
		return x->quality > y->quality ? -1 : 1;
	if (x->weight != y->weight)
		return x->weight > y->weight ? -1 : 1;
	return x->key < y->key ? -1 : x->key > y->key;
}

static rv_status gather(distilling *d) {
	rv_bank *bank = d->bank;
	pthread_rwlock_rdlock(&bank->lock);
	rv_status st = RV_ALLOC(&d->members, bank->n_live, "patterns");
	if (st == RV_OK)
		st = RV_ALLOC(&d->order, bank->n_live, "order of patterns");
	for (int64_t i = 0; st == RV_OK && i < bank->n_entries; i++)
		if (!bank->entries[i].dead) {
			d->members[d->n] = (member){bank->entries[i], d->n, 0};
			d->order[d->n] = d->n;
			d->n++;
		}
	pthread_rwlock_unlock(&bank->lock);
	if (st == RV_OK && d->n > 0)
		qsort_r(d->order, (size_t)d->n, sizeof *d->order, better_first, d);
	return st;
}

/* Puts `from` into `into`, which stays: quality weighted, weights added. */
static void take_in(distilling *d, int64_t into, int64_t from) {
	rv_bank_entry *a = &d->members[into].entry;
	const rv_bank_entry *b = &d->members[from].entry;
	double weight = (double)a->weight + (double)b->weight;
	a->quality = (float)(((double)a->quality * (double)a->weight +
	                      (double)b->quality * (double)b->weight) /
	                     weight);
	a->weight = (float)weight;
	d->members[into].grew = 1;
	d->members[from].into = into;
}

static rv_status check_cancel(const distilling *d) {
	const rv_bank_distill_options *o = d->options;
	return o->cancelled != NULL && o->cancelled(o->user)
	               ? rv_fail(RV_ERR_CANCELLED, "distillation: cancelled, nothing was changed")
	               : RV_OK;
}

static rv_status merge_near(distilling *d) {
	uint64_t ids[NEIGHBOURS];
	float distances[NEIGHBOURS], *vector = NULL;
	rv_status st = RV_ALLOC(&vector, RV_EMBEDDING_DIM, "vector");
	for (int64_t o = 0; o < d->n && st == RV_OK; o++) {
		int64_t at = d->order[o], found = 0;
		member *m = &d->members[at];
		if (m->into != at)
			continue;
		if ((st = check_cancel(d)) == RV_OK)
			st = rv_hnsw_get(d->bank->index, (uint64_t)m->entry.key, vector);
		if (st == RV_OK)
			st = rv_hnsw_search(d->bank->index, vector, NEIGHBOURS, 2 * NEIGHBOURS, NULL,
			                    ids, distances, &found);
		for (int64_t i = 0; i < found && st == RV_OK; i++) {
			int64_t other = find_member(d, (int64_t)ids[i]);
			if (other < 0 || other == at || d->members[other].into != other ||
			    1 - distances[i] < d->options->merge_similarity ||
			    d->members[other].entry.verdict != m->entry.verdict)
				continue;
			take_in(d, at, other);
			d->report.merged++;
		}
	}
	rv_free(vector);
	return st;
}

/* ---- clusters ---- */

typedef struct clusters {
	distilling *d;
	const rv_kernels *kernels;
	float *x;        /* [n, dim] unit vectors of those that stayed */
	int64_t *member; /* [n] */
	int64_t n, k;
	float *centres;  /* [k, dim] */
	int64_t *of;     /* [n] cluster */
	double *nearest; /* [n] squared distance to its centre */
} clusters;

static double mass(const clusters *c, int64_t i) {
	const rv_bank_entry *e = &c->d->members[c->member[i]].entry;
	return (double)e->weight * ((double)e->quality + 1e-6);
}

static float *row(float *x, int64_t i) {
	return x + i * RV_EMBEDDING_DIM;
}

static double square_distance(const clusters *c, int64_t i, int64_t centre) {
	float sum;
	c->kernels->l2_f32(&sum, row(c->x, i), row(c->centres, centre), RV_EMBEDDING_DIM);
	return (double)sum;
}

/* The first centre by mass, each further one by mass * squared distance to those before. */
static rv_status choose_centres(clusters *c) {
	rv_rng rng;
	rv_rng_seed(&rng, c->d->options->seed);
	for (int64_t j = 0; j < c->k; j++) {
		double sum = 0;
		RV_TRY(check_cancel(c->d));
		for (int64_t i = 0; i < c->n; i++)
			sum += mass(c, i) * (j > 0 ? c->nearest[i] : 1);
		double at = rv_rng_double(&rng) * sum;
		int64_t chosen = 0;
		for (int64_t i = 0; i < c->n; i++) {
			double m = mass(c, i) * (j > 0 ? c->nearest[i] : 1);
			if (m > 0) /* the last with any mass when rounding carries past the end */
				chosen = i;
			if ((at -= m) < 0)
				break;
		}
		memcpy(row(c->centres, j), row(c->x, chosen), RV_EMBEDDING_DIM * sizeof(float));
		for (int64_t i = 0; i < c->n; i++) {
			double distance = square_distance(c, i, j);
			if (j == 0 || distance < c->nearest[i]) {
				c->nearest[i] = distance;
				c->of[i] = j;
			}
		}
	}
	return RV_OK;
}

static rv_status assign(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	clusters *c = arg;
	for (int64_t i = begin; i < end; i++) {
		if (i % 64 == 0)
			RV_TRY(check_cancel(c->d));
		c->nearest[i] = INFINITY;
		for (int64_t j = 0; j < c->k; j++) {
			double distance = square_distance(c, i, j);
			if (distance < c->nearest[i]) {
				c->nearest[i] = distance;
				c->of[i] = j;
			}
		}
	}
	return RV_OK;
}

/* Weighted means, scaled to length 1; a cluster without members keeps its centre. */
static rv_status move_centres(clusters *c) {
	double *sums = NULL;
	RV_TRY(RV_ALLOC(&sums, c->k * RV_EMBEDDING_DIM, "sums of clusters"));
	for (int64_t i = 0; i < c->n; i++)
		for (int64_t f = 0; f < RV_EMBEDDING_DIM; f++)
			sums[c->of[i] * RV_EMBEDDING_DIM + f] += mass(c, i) * (double)row(c->x, i)[f];
	for (int64_t j = 0; j < c->k; j++) {
		const double *sum = sums + j * RV_EMBEDDING_DIM;
		double length = 0;
		for (int64_t f = 0; f < RV_EMBEDDING_DIM; f++)
			length += sum[f] * sum[f];
		for (int64_t f = 0; f < RV_EMBEDDING_DIM && length > 0; f++)
			row(c->centres, j)[f] = (float)(sum[f] / sqrt(length));
	}
	rv_free(sums);
	return RV_OK;
}

static rv_status settle(clusters *c) {
	rv_threads *threads = c->d->bank->options.threads;
	for (int round = 0; round < c->d->options->max_rounds; round++) {
		RV_TRY(move_centres(c));
		RV_TRY(threads ? rv_threads_for(threads, c->n, 256, assign, c) : assign(c, 0, c->n, 0));
	}
	return RV_OK;
}

/* The member nearest to its centre represents its cluster; verdicts are not mixed, so a cluster has one
 * representative for each. */
static rv_status represent(clusters *c) {
	distilling *d = c->d;
	int64_t *best = NULL;
	RV_TRY(RV_ALLOC(&best, c->k * RV_VERDICT_COUNT, "representatives"));
	for (int64_t j = 0; j < c->k * RV_VERDICT_COUNT; j++)
		best[j] = -1;
	for (int64_t i = 0; i < c->n; i++) {
		int64_t *b =
		        &best[c->of[i] * RV_VERDICT_COUNT + d->members[c->member[i]].entry.verdict];
		if (*b < 0 || c->nearest[i] < c->nearest[*b])
			*b = i;
	}
	for (int64_t i = 0; i < c->n; i++) {
		int64_t b = best[c->of[i] * RV_VERDICT_COUNT + d->members[c->member[i]].entry.verdict];
		if (b == i)
			continue;
		take_in(d, c->member[b], c->member[i]);
		d->report.clustered++;
	}
	rv_free(best);
	return RV_OK;
}

static rv_status fill(clusters *c) {
	RV_TRY(RV_ALLOC(&c->x, c->n * RV_EMBEDDING_DIM, "vectors of patterns"));
	RV_TRY(RV_ALLOC(&c->member, c->n, "patterns"));
	RV_TRY(RV_ALLOC(&c->centres, c->k * RV_EMBEDDING_DIM, "centres"));
	RV_TRY(RV_ALLOC(&c->of, c->n, "clusters"));
	RV_TRY(RV_ALLOC(&c->nearest, c->n, "distances"));
	int64_t at = 0;
	for (int64_t i = 0; i < c->d->n; i++)
		if (c->d->members[i].into == i) {
			c->member[at] = i;
			RV_TRY(rv_hnsw_get(c->d->bank->index, (uint64_t)c->d->members[i].entry.key,
			                   row(c->x, at++)));
		}
	return RV_OK;
}

static rv_status cluster(distilling *d) {
	clusters c = {.d = d,
	              .kernels = rv_kernels_for(rv_level_best()),
	              .n = d->n - d->report.merged,
	              .k = d->options->max_patterns};
	if (c.k == 0 || c.n <= c.k)
		return RV_OK;
	rv_status st = fill(&c);
	if (st == RV_OK) {
		st = choose_centres(&c);
		if (st == RV_OK)
			st = settle(&c);
	}
	if (st == RV_OK)
		st = represent(&c);
	rv_free(c.x);
	rv_free(c.member);
	rv_free(c.centres);
	rv_free(c.of);
	rv_free(c.nearest);
	return st;
}

/* ---- into the store ---- */

/* What went into a pattern that went into another itself went there too. */
static void tell(const distilling *d) {
	for (int64_t i = 0; i < d->n && d->options->went != NULL; i++) {
		char id[RV_UUID_TEXT], into[RV_UUID_TEXT];
		int64_t stays = i;
		while (d->members[stays].into != stays)
			stays = d->members[stays].into;
		if (stays == i)
			continue;
		rv_bank_id_text(d->members[i].entry.id, id);
		rv_bank_id_text(d->members[stays].entry.id, into);
		d->options->went(d->options->user, id, into);
	}
}

static rv_status write_out(distilling *d) {
	rv_bank_change c = {.bank = d->bank};
	rv_status st = RV_ALLOC(&c.removed, d->n, "keys");
	if (st == RV_OK)
		st = RV_ALLOC(&c.updated, d->n, "figures of patterns");
	for (int64_t i = 0; i < d->n && st == RV_OK; i++) {
		const member *m = &d->members[i];
		if (m->into != i)
			c.removed[c.n_removed++] = m->entry.key;
		else if (m->grew)
			c.updated[c.n_updated++] = m->entry;
	}
	if (st == RV_OK && c.n_removed > 0) {
		st = rv_store_write(d->bank->store, rv_bank_change_write, rv_bank_change_done, &c);
		if (st == RV_OK)
			tell(d);
	}
	rv_free(c.removed);
	rv_free(c.updated);
	return st;
}

rv_status rv_bank_distill(rv_bank *bank, const rv_bank_distill_options *options,
                          rv_bank_distill_report *report) {
	rv_bank_distill_options o = options ? *options : rv_bank_distill_defaults();
	if (!(o.merge_similarity > 0) || o.max_patterns < 0 || o.max_rounds < 0)
		return rv_fail(RV_ERR_INVALID,
		               "distillation: merge_similarity %g, max_patterns %lld, "
		               "max_rounds %d: out of bounds",
		               (double)o.merge_similarity, (long long)o.max_patterns, o.max_rounds);
	RV_TRY(rv_bank_check_whole(bank));
	distilling d = {.options = &o, .bank = bank};
	rv_status st = gather(&d);
	d.report.before = d.n;
	if (st == RV_OK)
		st = merge_near(&d);
	if (st == RV_OK)
		st = cluster(&d);
	if (st == RV_OK)
		st = write_out(&d);
	rv_free(d.members);
	rv_free(d.order);
	RV_TRY(st);
	d.report.after = d.report.before - d.report.merged - d.report.clustered;
	if (report != NULL)
		*report = d.report;
	return RV_OK;
}

/* ---- retention ---- */

typedef struct pruning {
	rv_bank_change change; /* first: the done callback's */
	const rv_bank_pruning *how;
	char (*ids)[RV_UUID_TEXT]; /* of those removed */
} pruning;

static int is_pruned(const pruning *p, const rv_bank_entry *e) {
	const rv_bank_pruning *how = p->how;
	float quality = how->undecayed ? e->quality : rv_bank_decayed(p->change.bank, e, how->now);
	return !e->dead && !e->doomed && how->now - e->created_at >= how->max_age_ms &&
	       quality < how->min_quality;
}

/* On the writer thread, where nobody else changes the figures. */
static rv_status prune(void *user, rv_db *db) {
	pruning *p = user;
	rv_bank_change *c = &p->change;
	RV_TRY(RV_ALLOC(&c->removed, c->bank->n_entries, "keys"));
	RV_TRY(RV_ALLOC(&p->ids, c->bank->n_entries, "ids"));
	for (int64_t i = 0; i < c->bank->n_entries; i++)
		if (is_pruned(p, &c->bank->entries[i])) {
			rv_bank_id_text(c->bank->entries[i].id, p->ids[c->n_removed]);
			c->removed[c->n_removed++] = c->bank->entries[i].key;
		}
	return rv_bank_change_write(c, db);
}

rv_status rv_bank_prune_by(rv_bank *bank, const rv_bank_pruning *how, int64_t *n) {
	pruning p = {.change = {.bank = bank}, .how = how};
	RV_TRY(rv_bank_check_whole(bank));
	rv_status st = rv_store_write(bank->store, prune, rv_bank_change_done, &p);
	for (int64_t i = 0; st == RV_OK && how->went != NULL && i < p.change.n_removed; i++)
		how->went(how->user, p.ids[i], NULL);
	if (st == RV_OK && n != NULL)
		*n = p.change.n_removed;
	rv_free(p.ids);
	rv_free(p.change.removed);
	return st;
}

rv_status rv_bank_prune(rv_bank *bank, int64_t max_age_ms, float min_quality, int64_t *n) {
	const rv_bank_pruning how = {.now = rv_store_now_ms(bank->store),
	                             .max_age_ms = max_age_ms,
	                             .min_quality = min_quality};
	return rv_bank_prune_by(bank, &how, n);
}
