/* Chat templates: from a conversation to the ids a model was tuned on.
 *
 * A GGUF file carries its template as a program (Jinja, tokenizer.chat_template). It is never run: the
 * text is searched for what characterises the few forms in use, and a form is a row of constant data
 * here. An unknown one is refused. All functions are pure; thread-safe.
 *
 * Published sources of the forms: the chat_template entries of Qwen2.5, Llama-2-chat, Llama-3-Instruct
 * and of Mistral-Instruct v0.1 (mistral-v0.1), v0.2 (mistral-v1), v0.3 (mistral) and Nemo
 * (mistral-tekken). Llama 2 and Mistral put the system message into the first user turn.
 */
#ifndef RV_MODEL_CHAT_TEMPLATE_H
#define RV_MODEL_CHAT_TEMPLATE_H

#include "base/status.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

#include <stddef.h>
#include <stdint.h>

typedef struct rv_chat_template rv_chat_template; /* constant data; never freed */

/* "chatml", "llama2", ...; an unknown name is RV_ERR_NOT_FOUND, the message lists the names. */
rv_status rv_chat_template_by_name(const rv_chat_template **out, const char *name);
const char *rv_chat_template_name(const rv_chat_template *t);
const char *rv_chat_template_names(void); /* all of them, separated by ", " */

/* What a template's text says. */
typedef struct rv_chat_found {
	const rv_chat_template *form;
	rv_str default_system; /* the system message it puts where there is none (borrowed); data NULL:
	                          none */
	const char *left_out;  /* what it would add and the form here does not, or NULL */
} rv_chat_found;

/* RV_ERR_UNSUPPORTED, quoting the beginning, when the text has no known form's marks. */
rv_status rv_chat_recognise(rv_str text, rv_chat_found *out);
/* The same of tokenizer.chat_template; RV_ERR_NOT_FOUND without that key. Messages name the file. */
rv_status rv_chat_recognise_gguf(const rv_gguf *gguf, rv_chat_found *out);

typedef enum rv_chat_role { RV_CHAT_SYSTEM, RV_CHAT_USER, RV_CHAT_ASSISTANT } rv_chat_role;

typedef struct rv_chat_message {
	rv_chat_role role;
	const char *content; /* any bytes, borrowed */
	size_t len;
} rv_chat_message;

typedef enum rv_chat_kind {
	RV_CHAT_TEXT,    /* of the template, ordinary */
	RV_CHAT_CONTENT, /* of a message: never read for tokens */
	RV_CHAT_MARKER,  /* of the template: a special token where the vocabulary has it */
	RV_CHAT_BOS,     /* the vocabulary's own begin and end tokens; `text` is their usual spelling */
	RV_CHAT_EOS
} rv_chat_kind;

typedef struct rv_chat_piece {
	rv_chat_kind kind;
	const char *text; /* borrowed from the template or a message */
	size_t len;
} rv_chat_piece;

/* The conversation up to the place where the answer begins, as rv_free'd pieces. Messages are an
 * optional system message, then user and assistant in turn, the last one the user's; anything else is
 * RV_ERR_INVALID naming the message. The first n_done messages (0, or up to and including an
 * assistant's) stand in the sequence already, the last of them as it was generated, without its end
 * token: the pieces go on from there. */
rv_status rv_chat_render(const rv_chat_template *t, const rv_chat_message *messages, size_t n,
                         size_t n_done, rv_chat_piece **pieces, size_t *n_pieces);

/* Ids of pieces (rv_free'd). Ordinary text and content between two tokens is encoded as one stretch,
 * so ids are those of the joined text; but no special-token text in content becomes that token, nor a
 * user-defined token that is one of the template's markers. `first`: the sequence is empty; BOS comes
 * before a template without one when the vocabulary's policy asks for it. RV_ERR_MISMATCH, naming the
 * token, when the vocabulary lacks one that the template cannot do without. For vocabularies that put
 * a space before the very first word only (some tokenizer.json), stretches after it get one too. */
rv_status rv_chat_encode(const rv_chat_template *t, const rv_tokenizer *tok,
                         const rv_chat_piece *pieces, size_t n, int first, int32_t **ids,
                         size_t *n_ids);

#endif
