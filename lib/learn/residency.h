/* Things that are used while they are in memory and otherwise wait on disk, by name, in pages of a pool
 * that others share: what adapter_manager.h and router_manager.h have in common.
 *
 *   hot   in pages of the pool, in use or ready to be
 *   warm  its file is mapped
 *   cold  on disk alone
 *
 * The pool asks for pages back, least recently used first, when it passes its limit. A thing leaves as
 * a whole and turns warm; one that somebody holds stays. What was made in memory is written to a file
 * before it leaves. More than max_warm files are not kept mapped: the longest unused turn cold.
 *
 * Thread-safe. A thing is loaded once, however many ask for it; nobody else waits for that. */
#ifndef RV_LEARN_RESIDENCY_H
#define RV_LEARN_RESIDENCY_H

#include "base/pool.h"
#include "base/status.h"
#include "model/adapter.h"

#include <stddef.h>
#include <stdint.h>

typedef enum rv_residence {
	RV_RESIDENCE_COLD,
	RV_RESIDENCE_WARM,
	RV_RESIDENCE_HOT,
	RV_RESIDENCE_COUNT
} rv_residence;
extern const char *const rv_residence_names[RV_RESIDENCE_COUNT + 1]; /* ends with NULL */

#define RV_RESIDENT_NAME_MAX 63 /* bytes: letters, digits, '.', '-', '_'; not a '.' first */

/* What kind of things: reference-counted, immutable objects. */
typedef struct rv_resident_kind {
	const char *owner;                                           /* name in the pool */
	const char *suffix;                                          /* of files written, ".gguf" */
	rv_status (*open)(void *user, const char *path, void **out); /* checks everything */
	/* A copy whose numbers lie in `memory`; on failure that has been given back. */
	rv_status (*place)(void *user, const void *from, const rv_adapter_memory *memory, void **out);
	rv_status (*save)(void *user, const void *object, const char *path);
	void (*retain)(void *object);
	void (*release)(void *object);
	int (*shared)(const void *object); /* has it other references? */
} rv_resident_kind;

typedef struct rv_residency_options {
	rv_pool *pool;     /* borrowed; outlives every object handed out */
	const char *space; /* namespace of the pages; NULL: none */
	const char *dir;   /* for what was made in memory; NULL: that is never evicted */
	int max_warm;      /* default 64 */
} rv_residency_options;
rv_residency_options rv_residency_defaults(void);

typedef struct rv_residency rv_residency;

rv_status rv_residency_create(rv_residency **out, const rv_resident_kind *kind, void *user,
                              const rv_residency_options *options);
/* What was not flushed and lives in memory alone is lost. Objects handed out live on, their pages with
 * them, until they are released. No other call may be under way. Accepts NULL. */
void rv_residency_destroy(rv_residency *r);

/* A file under a name, which turns warm: the file is checked. RV_ERR_INVALID: the name is taken, or
 * none; else what is wrong with the file. */
rv_status rv_residency_add(rv_residency *r, const char *name, const char *path);
/* A thing made in memory under a name, or a new version of the name: a hot copy of `from`.
 * RV_ERR_LIMIT: the pool has no room; then all is as before. */
rv_status rv_residency_put(rv_residency *r, const char *name, const void *from);
/* Made hot if it is not, and retained for the caller. RV_ERR_NOT_FOUND: no such name; RV_ERR_LIMIT: the
 * pool has no room, or a piece is larger than a page; RV_ERR_MISMATCH: the file changed since it was
 * added; or what else is wrong with it now. After a failure the next call tries again. */
rv_status rv_residency_acquire(rv_residency *r, const char *name, void **out);
/* Forgets the name, not its file. */
rv_status rv_residency_remove(rv_residency *r, const char *name);
/* Writes what was made in memory and has no file yet. RV_ERR_INVALID without a folder. */
rv_status rv_residency_flush(rv_residency *r);

typedef struct rv_resident_info {
	char name[RV_RESIDENT_NAME_MAX + 1];
	rv_residence residence;
	int unsaved;              /* made in memory, and its file is not written */
	uint64_t version;         /* 1, one more at each put */
	size_t hot_bytes;         /* of pages held, whole ones; 0 unless hot */
	int64_t n_acquired;       /* asked for, */
	int64_t n_loaded;         /* of those not hot and loaded, */
	int64_t n_from_cold;      /* of those cold */
	int64_t n_evicted;        /* by the pool */
	int64_t load_ns, cold_ns; /* spent in those loads; in those from cold */
} rv_resident_info;
rv_status rv_residency_find(rv_residency *r, const char *name, rv_resident_info *out);
/* The i-th in order of adding; RV_ERR_NOT_FOUND: there are fewer. */
rv_status rv_residency_at(rv_residency *r, int i, rv_resident_info *out);

#endif
