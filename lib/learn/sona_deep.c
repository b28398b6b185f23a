/* The deep loop's table of parts, and those that keep the memory up: filter, prune, cluster, archive.
 */
#include "learn/sona_deep.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "learn/sona_internal.h"
#include "memory/id_map.h"
#include "memory/witness_archive.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define EDGE_HALF_LIFE_MS (INT64_C(30) * 86400000) /* as that of a pattern's quality */

/* ---- ids that go, or become others; what the graph is told ---- */

typedef struct changed_ids {
	rv_deep *deep;
	struct pair {
		char id[RV_UUID_TEXT], into[RV_UUID_TEXT]; /* into "": gone */
	} * pairs;
	int64_t n, cap;
	rv_id_map map;
	rv_status status; /* of noting them */
} changed_ids;

static void note(void *user, const char *id, const char *into) {
	changed_ids *c = user;
	if (c->n == c->cap && c->status == RV_OK) {
		int64_t cap = c->cap ? 2 * c->cap : 64;
		c->status = RV_GROW(&c->pairs, c->cap, cap, "ids of patterns");
		c->cap = c->status == RV_OK ? cap : c->cap;
	}
	if (c->status != RV_OK)
		return;
	snprintf(c->pairs[c->n].id, RV_UUID_TEXT, "%s", id);
	snprintf(c->pairs[c->n++].into, RV_UUID_TEXT, "%s", into != NULL ? into : "");
}

static int is_stopped(void *user) {
	const changed_ids *c = user;
	return c->deep->stop != NULL && c->deep->stop(c->deep->user);
}

static const char *becomes(void *user, const char *id) {
	const changed_ids *c = user;
	int32_t at = rv_id_map_get(&c->map, id);
	if (at < 0)
		return id;
	return c->pairs[at].into[0] != 0 ? c->pairs[at].into : NULL;
}

/* The graph follows. What a kill leaves of this, edges to patterns that are gone, weighs less and less
 * and is pruned in the end. */
static rv_status tell_graph(changed_ids *c, rv_edges_upkeep how, rv_edges_upkeep_report *report) {
	*report = (rv_edges_upkeep_report){.factor = 1};
	RV_TRY(c->status);
	if (c->deep->edges == NULL || (c->n == 0 && how.half_life_ms == 0))
		return RV_OK;
	RV_TRY(rv_id_map_reserve(&c->map, (size_t)c->n));
	for (int64_t i = 0; i < c->n; i++)
		rv_id_map_put(&c->map, c->pairs[i].id, (int32_t)i);
	how.now = c->deep->now_ms;
	how.becomes = c->n > 0 ? becomes : NULL;
	how.user = c;
	return rv_edges_keep_up(c->deep->edges, &how, report);
}

static void free_ids(changed_ids *c) {
	rv_id_map_deinit(&c->map);
	rv_free(c->pairs);
}

/* ---- filter, prune ---- */

static rv_status prune_by(rv_deep *d, rv_bank_pruning pruning, rv_edges_upkeep upkeep,
                          rv_sona_part_report *report, rv_edges_upkeep_report *edges) {
	changed_ids c = {.deep = d};
	pruning.now = d->now_ms;
	pruning.min_quality = d->min_quality;
	pruning.went = note;
	pruning.user = &c;
	report->before = (double)rv_bank_count(d->bank);
	rv_status st = rv_bank_prune_by(d->bank, &pruning, &report->n);
	if (st == RV_OK)
		st = tell_graph(&c, upkeep, edges);
	report->after = (double)rv_bank_count(d->bank);
	free_ids(&c);
	return st;
}

static rv_status no_bank(rv_sona_part_report *report) {
	return rv_sona_say(report, RV_PART_NA, "no store, no patterns");
}

static rv_status filter(rv_deep *d, rv_sona_part_report *report) {
	rv_edges_upkeep_report edges;
	if (d->bank == NULL)
		return no_bank(report);
	RV_TRY(prune_by(d, (rv_bank_pruning){.undecayed = 1}, (rv_edges_upkeep){0}, report, &edges));
	return rv_sona_say(report, report->n > 0 ? RV_PART_DONE : RV_PART_NOTHING,
	                   "%lld of %.0f patterns were stored with a quality below %.2f: gone",
	                   (long long)report->n, report->before, (double)d->min_quality);
}

static rv_status prune(rv_deep *d, rv_sona_part_report *report) {
	rv_edges_upkeep_report edges;
	const rv_sona_deep_options *o = d->options;
	if (d->bank == NULL)
		return no_bank(report);
	RV_TRY(prune_by(d, (rv_bank_pruning){.max_age_ms = o->max_age_ms},
	                (rv_edges_upkeep){.half_life_ms = EDGE_HALF_LIFE_MS, .min_weight = o->min_edge},
	                report, &edges));
	const int decayed = edges.factor < 1 && d->edges != NULL && rv_edges_count(d->edges) > 0;
	return rv_sona_say(report,
	                   report->n + edges.n_gone > 0 || decayed ? RV_PART_DONE : RV_PART_NOTHING,
	                   "%lld of %.0f patterns are old and their quality decayed below %.2f: gone; "
	                   "edges decayed to %.3f of their weight, %lld below %.2f or to nowhere: gone",
	                   (long long)report->n, report->before, (double)d->min_quality, edges.factor,
	                   (long long)edges.n_gone, (double)o->min_edge);
}

/* ---- cluster ---- */

static rv_status cluster(rv_deep *d, rv_sona_part_report *report) {
	rv_bank_distill_options o = rv_bank_distill_defaults();
	rv_bank_distill_report r;
	rv_bank_stats stats;
	rv_edges_upkeep_report edges;
	changed_ids c = {.deep = d};
	if (d->bank == NULL)
		return no_bank(report);
	RV_TRY(rv_bank_stats_get(d->bank, &stats));
	o.max_patterns = d->options->max_patterns > 0 ? d->options->max_patterns : stats.capacity;
	o.merge_similarity = d->options->merge_similarity;
	o.seed = d->seed;
	o.went = note;
	o.cancelled = is_stopped;
	o.user = &c;
	rv_status st = rv_bank_distill(d->bank, &o, &r);
	if (st == RV_ERR_CANCELLED)
		return rv_sona_say(report, RV_PART_PUT_OFF, "clustering was stopped: as before");
	if (st == RV_OK)
		st = tell_graph(&c, (rv_edges_upkeep){0}, &edges);
	free_ids(&c);
	RV_TRY(st);
	report->n = r.before - r.after;
	report->before = (double)r.before;
	report->after = (double)r.after;
	return rv_sona_say(report, report->n > 0 ? RV_PART_DONE : RV_PART_NOTHING,
	                   "%lld patterns: %lld merged with their like, %lld into clusters; %lld left, "
	                   "%lld edges followed",
	                   (long long)r.before, (long long)r.merged, (long long)r.clustered,
	                   (long long)r.after, (long long)edges.n_moved);
}

/* ---- archive ---- */

static rv_status archive(rv_deep *d, rv_sona_part_report *report) {
	rv_witness_archives_report all;
	if (d->witness == NULL)
		return rv_sona_say(report, RV_PART_NA, "no store, no witness log");
	RV_TRY(rv_witness_flush(d->witness));
	RV_TRY(rv_witness_archive(d->witness, d->now_ms - d->options->archive_after_ms, &report->n));
	RV_TRY(rv_witness_archives_verify(d->witness, &all));
	return rv_sona_say(report, report->n > 0 ? RV_PART_DONE : RV_PART_NOTHING,
	                   "%lld witness entries archived; %lld in %lld files, chain sound, %lld gaps",
	                   (long long)report->n, (long long)all.n_entries, (long long)all.n_files,
	                   (long long)all.n_gaps);
}

/* ---- the table ---- */

rv_deep_part *const rv_deep_parts[RV_DEEP_PARTS] = {
        [RV_DEEP_FILTER] = filter,     [RV_DEEP_PRUNE] = prune,
        [RV_DEEP_CLUSTER] = cluster,   [RV_DEEP_TRANSFER] = rv_deep_transfer,
        [RV_DEEP_TUNE] = rv_deep_tune, [RV_DEEP_DISTILL] = rv_deep_distill,
        [RV_DEEP_ARCHIVE] = archive,
};

static void run_part(rv_deep *d, int part, rv_sona_part_report *report) {
	const int64_t begun_ns = rv_now_ns();
	rv_status st = rv_deep_parts[part](d, report);
	if (st != RV_OK) {
		rv_sona_say(report, RV_PART_FAILED, "%s", rv_error_message());
		rv_logf(&d->log, RV_LOG_WARN, "deep loop, %s: %s",
		        rv_sona_part_name(RV_SONA_DEEP, part), report->text);
	}
	report->ns = rv_now_ns() - begun_ns;
}

void rv_deep_run(rv_deep *d, unsigned parts, rv_sona_part_report *reports) {
	for (int part = 0; part < RV_DEEP_PARTS; part++) {
		rv_sona_part_report *report = &reports[part];
		*report = (rv_sona_part_report){.before = NAN, .after = NAN};
		if (!(parts & RV_SONA_PART(part)))
			rv_sona_say(report, RV_PART_OFF, "left out");
		else if (d->stop != NULL && d->stop(d->user))
			rv_sona_say(report, RV_PART_PUT_OFF, "the pass was over its time, or stopped");
		else
			run_part(d, part, report);
	}
}
