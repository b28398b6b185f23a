/* Rows of draft trees: tokens that may follow a sequence, several in its place, without being part of
 * it.
 *
 * Their keys and values live in a scratch area beside the cache, numbered from 1 in the order of
 * evaluation; number 0 stands for the last token of the sequence. A row sees the sequence, then its
 * ancestors, then itself: the same keys in the same order as if its path stood in the cache. The view
 * is one around the cache's own. Rows given to a backend carry a draft row's own number as `parent`. */
#ifndef RV_ENGINE_DRAFT_ROWS_H
#define RV_ENGINE_DRAFT_ROWS_H

#include "engine/backend.h"

typedef struct rv_draft_rows {
	rv_kv_view cache;                 /* of what is around */
	int32_t capacity, n;              /* rows; the last number */
	int32_t *parent, *seq, *position; /* [capacity + 1] by number; seq -1: dropped */
	int32_t *held;                    /* [n_seqs] rows of each sequence */
	int64_t n_layers, n_kv_heads;
	size_t row_bytes; /* of a key or value of one head */
	char *data;       /* [number - 1][layer][kv head][key, value] */
	size_t bytes;
} rv_draft_rows;

/* Bytes of scratch for `capacity` rows. */
size_t rv_draft_rows_bytes(const rv_hparams *hp, rv_kv_type type, int32_t capacity);
/* Around `cache`, which stays valid as long as this is used. capacity 0: none, *view unchanged. */
rv_status rv_draft_rows_init(rv_draft_rows *d, const rv_hparams *hp, rv_kv_view *view, int32_t n_seqs,
                             int32_t capacity);
void rv_draft_rows_deinit(rv_draft_rows *d); /* accepts a zeroed one */

/* Checks row i against sequence length and the rows so far, and numbers it. RV_ERR_INVALID;
 * RV_ERR_LIMIT when there is no number left. */
rv_status rv_draft_rows_admit(rv_draft_rows *d, const rv_row *row, int64_t i, int64_t length);
/* Forgets the numbers after n. */
void rv_draft_rows_cut(rv_draft_rows *d, int32_t n);
/* Forgets the rows of a sequence; numbers begin anew when no sequence holds any. */
void rv_draft_rows_drop(rv_draft_rows *d, int32_t seq);
/* Is it a path of this sequence from its last token on? RV_ERR_INVALID names where it is not. */
rv_status rv_draft_rows_check_path(const rv_draft_rows *d, int32_t seq, const int32_t *path, int64_t n);
/* Copies the keys and values of a path to the cache, whose positions are there. */
void rv_draft_rows_store(const rv_draft_rows *d, int32_t seq, const int32_t *path, int64_t n);

#endif
