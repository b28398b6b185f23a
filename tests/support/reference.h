/* Where reference data is, and small readers for it. Tests without it are skipped by name. */
#ifndef RV_TESTS_SUPPORT_REFERENCE_H
#define RV_TESTS_SUPPORT_REFERENCE_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* Path of a reference file, in a static buffer of the calling test; NULL when it is not there. */
static inline const char *reference_path(char buf[1024], const char *name) {
	const char *dir = getenv("RV_REFERENCE");
	struct stat sb;
	snprintf(buf, 1024, "%s/%s", dir ? dir : "../shared/reference", name);
	return stat(buf, &sb) == 0 ? buf : NULL;
}

/* A reference file's bytes (malloc'd); NULL when it is not there. */
static inline void *reference_bytes(const char *name, size_t *size) {
	char path[1024];
	if (!reference_path(path, name))
		return NULL;
	FILE *f = fopen(path, "rb");
	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	*size = (size_t)ftell(f);
	rewind(f);
	char *data = malloc(*size + 1);
	if (!data || fread(data, 1, *size, f) != *size) {
		free(data);
		data = NULL;
	} else {
		data[*size] = '\0';
	}
	fclose(f);
	return data;
}

/* Unpacks a .gz reference file beside the tests' temporary files; 0 on success. Unlink it when done. */
static inline int reference_gunzip(const char *name, char out[1024]) {
	char path[1024], block[1 << 16];
	if (!reference_path(path, name))
		return -1;
	const char *tmp = getenv("TMPDIR");
	snprintf(out, 1024, "%s/rv-reference-XXXXXX", tmp ? tmp : "/tmp");
	int fd = mkstemp(out);
	gzFile in = gzopen(path, "rb");
	int n = fd >= 0 && in ? 1 : -1;
	while (n > 0) {
		n = gzread(in, block, sizeof block);
		if (n > 0 && write(fd, block, (size_t)n) != n)
			n = -1;
	}
	if (in)
		gzclose(in);
	if (fd >= 0)
		close(fd);
	return n;
}

#endif
