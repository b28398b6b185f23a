#include "base/build_info.h"

#include <stddef.h>
#include <string.h>

/* Written by scripts/build-info.sh; absent when the file is compiled by hand. */
#if __has_include("rv_build_gen.h")
#include "rv_build_gen.h"
#else
#define RV_BUILD_VERSION "unknown"
#define RV_BUILD_COMMIT "unknown"
#define RV_BUILD_DIRTY 0
#define RV_BUILD_COMPILER __VERSION__
#define RV_BUILD_FLAGS "unknown"
#endif

const char *rv_build_version(void) {
	return RV_BUILD_VERSION;
}

const char *rv_build_commit(void) {
	return RV_BUILD_DIRTY ? RV_BUILD_COMMIT "-dirty" : RV_BUILD_COMMIT;
}

int rv_build_dirty(void) {
	return RV_BUILD_DIRTY;
}

const char *rv_build_compiler(void) {
	return RV_BUILD_COMPILER;
}

const char *rv_build_flags(void) {
	return RV_BUILD_FLAGS;
}

const char *rv_build_sanitizer(void) {
#ifdef __SANITIZE_ADDRESS__
	return "address";
#elif defined(__SANITIZE_THREAD__)
	return "thread";
#else
	/* gcc has no macro for the undefined-behaviour sanitizer, clang none for any of them */
	static const char *const names[] = {"address", "thread", "undefined"};
	const char *flag = strstr(RV_BUILD_FLAGS, "-fsanitize=");
	for (size_t i = 0; flag != NULL && i < sizeof names / sizeof names[0]; i++)
		if (strstr(flag, names[i]) != NULL)
			return names[i];
	return NULL;
#endif
}
