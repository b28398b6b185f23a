/* Encryption at rest: XChaCha20-Poly1305 (libsodium) with a key file.
 *
 * Key file: one line of text, "ruvltra-key-1 " and 64 hexadecimal digits (256 bits), readable by its
 * owner alone (0600 or 0400). Sealed bytes: u8 form (1), the key's id (8 bytes), nonce (24),
 * ciphertext, tag (16); plain bytes: u8 form (0), text. The context ("table/id") is authenticated with
 * them.
 */
#ifndef RV_MEMORY_SECRET_H
#define RV_MEMORY_SECRET_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define RV_SECRET_ID_TEXT 17                 /* 16 hexadecimal digits and NUL */
#define RV_SECRET_OVERHEAD (1 + 8 + 24 + 16) /* bytes a sealed text is longer */

typedef struct rv_secret rv_secret;

/* Makes a new random key; an existing file is RV_ERR_INVALID and left alone. */
rv_status rv_secret_create_key(const char *path);
/* Reads a key. Refused by name: what is no key file, one that is a link or not a regular file, one
 * others may read or write, one of another user. */
rv_status rv_secret_open(rv_secret **out, const char *path);
void rv_secret_close(rv_secret *secret);           /* wipes the key; accepts NULL */
const char *rv_secret_id(const rv_secret *secret); /* tells keys apart, tells nothing about them */
const char *rv_secret_path(const rv_secret *secret);

/* `out` holds len + RV_SECRET_OVERHEAD bytes. Thread-safe. */
void rv_secret_seal(const rv_secret *secret, const char *context, const void *text, size_t len,
                    uint8_t *out);
/* `out` holds size - RV_SECRET_OVERHEAD bytes. Sealed with another key: RV_ERR_MISMATCH naming both;
 * changed bytes or another context: RV_ERR_FORMAT. */
rv_status rv_secret_unseal(const rv_secret *secret, const char *context, const uint8_t *sealed,
                           size_t size, void *out);

#endif
