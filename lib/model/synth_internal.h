/* Private to synth*.c. */
#ifndef RV_MODEL_SYNTH_INTERNAL_H
#define RV_MODEL_SYNTH_INTERNAL_H

#include "model/arch.h"
#include "model/gguf.h"

/* The smallest vocabulary: every byte, the merged pairs, the control tokens. */
int64_t rv_synth_vocab_min(void);
#define RV_SYNTH_VOCAB_MAX ((int64_t)1 << 24)

/* tokenizer.* keys of a byte-level BPE with n tokens: the 256 bytes in GPT-2's order, a few merged
 * pairs, fillers that no merge reaches, and ChatML's three control tokens last. */
rv_status rv_synth_write_vocab(rv_gguf_writer *w, const rv_arch *arch, int64_t n);

#endif
