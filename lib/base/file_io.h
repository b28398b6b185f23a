/* Descriptors shared by file.c and file_writer.c. Internal to lib/base. */
#ifndef RV_BASE_FILE_IO_H
#define RV_BASE_FILE_IO_H

#include "base/status.h"

#include <sys/types.h>

/* open(2) with O_CLOEXEC that retries EINTR and never returns descriptors 0..2, which a program started
 * with closed standard streams would otherwise take for its own output. -1 and errno on failure. */
int rv_fd_open(const char *path, int flags, mode_t mode);
int rv_fd_above_stdio(int fd); /* moves fd above 2, closing the old one; -1 and errno on failure */

/* RV_ERR_NOT_FOUND for ENOENT and ENOTDIR, RV_ERR_IO otherwise; the message ends with the reason. */
rv_status rv_fd_fail(const char *path, const char *doing);

#endif
