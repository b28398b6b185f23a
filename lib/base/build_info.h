/* What this library was built from and how: for provenance and --version. Static strings, never NULL;
 * "unknown" where the build could not tell (no git, not built by the Makefile). Thread-safe. */
#ifndef RV_BASE_BUILD_INFO_H
#define RV_BASE_BUILD_INFO_H

const char *rv_build_version(void); /* "0.1.0" */
const char *rv_build_commit(void); /* 12 hex digits, followed by "-dirty" when tracked files differed */
int rv_build_dirty(void);          /* 1 when tracked files differed from the commit */
const char *rv_build_compiler(void); /* first line of `cc --version` */
const char *rv_build_flags(void);    /* compiler flags without warnings */
/* The sanitizer the code is built with ("address", "undefined", "thread"), or NULL. Speeds measured
 * with one mean nothing. */
const char *rv_build_sanitizer(void);

#endif
