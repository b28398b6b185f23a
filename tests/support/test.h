/* cmocka with what it needs before it, in the order it needs it. */
#ifndef RV_TESTS_SUPPORT_TEST_H
#define RV_TESTS_SUPPORT_TEST_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

/* Fails with the library's own message. */
#define assert_ok(expr)                                                                                \
	do {                                                                                           \
		if ((expr) != RV_OK)                                                                   \
			fail_msg("%s: %s", #expr, rv_error_message());                                 \
	} while (0)

#endif
