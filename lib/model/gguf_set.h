/* Split models: one model in the files NAME-00001-of-0000N.gguf to NAME-0000N-of-0000N.gguf. Each holds
 * split.no (from 0), split.count and split.tensors.count (of all pieces together); the first holds the
 * model's other keys too. A piece may hold no tensors.
 */
#ifndef RV_MODEL_GGUF_SET_H
#define RV_MODEL_GGUF_SET_H

#include "base/status.h"
#include "model/gguf.h"

/* Opens a model: a whole file, or all pieces of a split one given by its first. The result has the keys
 * of the first piece and the tensors of all, in the order of the pieces; rv_gguf_close, rv_gguf_check
 * and rv_gguf_file_bytes mean all pieces, rv_gguf_path the first. Refused, with the file at fault
 * named: another piece than the first (the message names the first), a piece that is missing, has
 * another number or other counts than the first says, a key that differs from the first piece's, or a
 * tensor that an earlier piece has; a model without tensors (RV_ERR_MISMATCH). */
rv_status rv_gguf_open_set(rv_gguf **out, const char *path);

/* Files the container was opened from: 1 unless rv_gguf_open_set found a split model. */
size_t rv_gguf_n_pieces(const rv_gguf *gguf);
const char *rv_gguf_piece_path(const rv_gguf *gguf, size_t i); /* i < n_pieces */
/* The file a tensor of `gguf` lies in, for messages. */
const char *rv_gguf_tensor_path(const rv_gguf *gguf, const rv_gguf_tensor *tensor);

#endif
