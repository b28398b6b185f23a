#include "memory/secret.h"

#include "base/file.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_BYTES crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES crypto_aead_xchacha20poly1305_ietf_ABYTES
#define ID_BYTES 8
#define SEALED_FORM 1
#define PREFIX "ruvltra-key-1 "
#define FILE_BYTES (sizeof PREFIX - 1 + 2 * KEY_BYTES + 1)

_Static_assert(1 + ID_BYTES + NONCE_BYTES + TAG_BYTES == RV_SECRET_OVERHEAD, "layout of sealed bytes");
_Static_assert(2 * ID_BYTES + 1 == RV_SECRET_ID_TEXT, "key id text");

struct rv_secret {
	uint8_t key[KEY_BYTES];
	uint8_t id[ID_BYTES];
	char id_text[RV_SECRET_ID_TEXT];
	char *path;
};

static rv_status init(void) {
	return sodium_init() >= 0 ? RV_OK
	                          : rv_fail(RV_ERR_UNSUPPORTED, "libsodium: cannot be initialised");
}

rv_status rv_secret_create_key(const char *path) {
	RV_TRY(init());
	uint8_t key[KEY_BYTES];
	char text[FILE_BYTES + 1] = PREFIX;
	randombytes_buf(key, sizeof key);
	sodium_bin2hex(text + sizeof PREFIX - 1, 2 * KEY_BYTES + 1, key, sizeof key);
	text[FILE_BYTES - 1] = '\n';
	rv_status st = RV_OK;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		st = errno == EEXIST
		             ? rv_fail(RV_ERR_INVALID, "%s: exists; a key is never replaced", path)
		             : rv_fail_errno(RV_ERR_IO, "%s: creating", path);
	if (fd >= 0) {
		errno = ENOSPC; /* stays when too little is written */
		if (write(fd, text, FILE_BYTES) != (ssize_t)FILE_BYTES || fsync(fd) != 0) {
			st = rv_fail_errno(RV_ERR_IO, "%s: writing", path);
			unlink(path);
		}
		close(fd);
	}
	sodium_memzero(key, sizeof key);
	sodium_memzero(text, sizeof text);
	return st;
}

static rv_status check_rights(const char *path, const struct stat *st) {
	if (!S_ISREG(st->st_mode))
		return rv_fail(RV_ERR_INVALID, "%s: key file: not a regular file", path);
	if (st->st_uid != geteuid())
		return rv_fail(RV_ERR_INVALID, "%s: key file: belongs to another user", path);
	if (st->st_mode & 077)
		return rv_fail(RV_ERR_INVALID,
		               "%s: key file: others may use it (mode %04o, expected 0600)", path,
		               (unsigned)st->st_mode & 07777);
	return RV_OK;
}

/* One byte more than a key file has, so that a longer one shows. */
static rv_status read_key_text(const char *path, char text[FILE_BYTES + 1], size_t *size) {
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ELOOP)
		return rv_fail(RV_ERR_INVALID, "%s: key file: a link, not a regular file", path);
	if (fd < 0)
		return rv_fail_errno(errno == ENOENT ? RV_ERR_NOT_FOUND : RV_ERR_IO, "%s: key file",
		                     path);
	struct stat info;
	rv_status st = fstat(fd, &info) == 0 ? check_rights(path, &info)
	                                     : rv_fail_errno(RV_ERR_IO, "%s: key file", path);
	ssize_t n = st == RV_OK ? read(fd, text, FILE_BYTES + 1) : 0;
	if (n < 0)
		st = rv_fail_errno(RV_ERR_IO, "%s: key file", path);
	close(fd);
	*size = n > 0 ? (size_t)n : 0;
	return st;
}

static rv_status parse_key(rv_secret *secret, const char *path) {
	char text[FILE_BYTES + 1] = {0};
	size_t size = 0, n = 0;
	RV_TRY(read_key_text(path, text, &size));
	int ok = (size == FILE_BYTES ? text[FILE_BYTES - 1] == '\n' : size == FILE_BYTES - 1) &&
	         memcmp(text, PREFIX, sizeof PREFIX - 1) == 0 &&
	         sodium_hex2bin(secret->key, KEY_BYTES, text + sizeof PREFIX - 1, 2 * KEY_BYTES, NULL,
	                        &n, NULL) == 0 &&
	         n == KEY_BYTES;
	sodium_memzero(text, sizeof text);
	if (!ok)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: no key file (\"" PREFIX "\" and %d hexadecimal digits)", path,
		               (int)(2 * KEY_BYTES));
	/* a one-way image of the key, under a name of its own */
	static const char domain[] = "ruvltra key id";
	uint8_t image[crypto_generichash_BYTES];
	crypto_generichash(image, sizeof image, (const uint8_t *)domain, sizeof domain, secret->key,
	                   KEY_BYTES);
	memcpy(secret->id, image, ID_BYTES);
	sodium_bin2hex(secret->id_text, sizeof secret->id_text, secret->id, ID_BYTES);
	return RV_OK;
}

rv_status rv_secret_open(rv_secret **out, const char *path) {
	RV_TRY(init());
	rv_secret *secret = NULL;
	RV_TRY(RV_ALLOC(&secret, 1, "key"));
	rv_status st = rv_strdup(&secret->path, path);
	if (st == RV_OK)
		st = parse_key(secret, path);
	if (st != RV_OK) {
		rv_secret_close(secret);
		return st;
	}
	*out = secret;
	return RV_OK;
}

void rv_secret_close(rv_secret *secret) {
	if (secret == NULL)
		return;
	rv_free(secret->path);
	sodium_memzero(secret, sizeof *secret);
	rv_free(secret);
}

const char *rv_secret_id(const rv_secret *secret) {
	return secret->id_text;
}

const char *rv_secret_path(const rv_secret *secret) {
	return secret->path;
}

void rv_secret_seal(const rv_secret *secret, const char *context, const void *text, size_t len,
                    uint8_t *out) {
	uint8_t *nonce = out + 1 + ID_BYTES;
	out[0] = SEALED_FORM;
	memcpy(out + 1, secret->id, ID_BYTES);
	randombytes_buf(nonce, NONCE_BYTES); /* 192 bits: random nonces do not repeat */
	crypto_aead_xchacha20poly1305_ietf_encrypt(nonce + NONCE_BYTES, NULL, text, len,
	                                           (const uint8_t *)context, strlen(context), NULL,
	                                           nonce, secret->key);
}

rv_status rv_secret_unseal(const rv_secret *secret, const char *context, const uint8_t *sealed,
                           size_t size, void *out) {
	if (size < RV_SECRET_OVERHEAD || sealed[0] != SEALED_FORM)
		return rv_fail(RV_ERR_FORMAT, "%s: no sealed text", context);
	if (memcmp(sealed + 1, secret->id, ID_BYTES) != 0) {
		char id[RV_SECRET_ID_TEXT];
		sodium_bin2hex(id, sizeof id, sealed + 1, ID_BYTES);
		return rv_fail(RV_ERR_MISMATCH, "%s: sealed with key %s; %s is key %s", context, id,
		               secret->path, secret->id_text);
	}
	const uint8_t *nonce = sealed + 1 + ID_BYTES, *cipher = nonce + NONCE_BYTES;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(
	            out, NULL, NULL, cipher, size - (RV_SECRET_OVERHEAD - TAG_BYTES),
	            (const uint8_t *)context, strlen(context), nonce, secret->key) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: sealed text was changed, or belongs elsewhere",
		               context);
	return RV_OK;
}
