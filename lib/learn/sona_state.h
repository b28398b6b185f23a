/* What was learnt, on disk: DIR/sona/state.json and the folder of the generation that it names.
 *
 * A generation is written whole into a new folder, every file synced; then state.json, which holds its
 * number, each file's size and SHA-256 and the small numbers, is replaced in one rename: that is the
 * commit. A kill before it leaves the last generation in force, and what it had begun is swept by the
 * next. Internal to lib/learn. */
#ifndef RV_LEARN_SONA_STATE_H
#define RV_LEARN_SONA_STATE_H

#include "learn/sona_internal.h"

/* Both with the lock of passes held (or before anybody else can hold it). */
rv_status rv_sona_state_save(rv_sona *s);
/* Nothing there: RV_OK, and nothing is loaded. RV_ERR_MISMATCH: learnt on another model, or with other
 * layers, site or rank; RV_ERR_FORMAT names the file that is damaged or missing. */
rv_status rv_sona_state_load(rv_sona *s);
/* The same of state.json's bytes; its files are looked for in the folder. After a failure the object is
 * only good to be closed. */
rv_status rv_sona_state_read(rv_sona *s, const char *text, size_t size, const char *name);

/* The path of a file of the next generation, whose folder is made; rv_free'd by the caller. */
rv_status rv_sona_state_next(rv_sona *s, const char *name, char **path);

#endif
