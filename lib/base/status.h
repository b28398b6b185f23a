/* Status codes and the per-thread error message.
 *
 * Rule of the house: a fallible function returns rv_status; on anything but RV_OK the calling
 * thread's rv_error_message() says what went wrong and where (file, tensor, key, offset), and every
 * output parameter is untouched or NULL. Library code never prints, exits or aborts.
 */
#ifndef RV_BASE_STATUS_H
#define RV_BASE_STATUS_H

/* X(enumerator, short text) */
#define RV_STATUS_TABLE(X)                                                                             \
	X(RV_OK, "ok")                                                                                 \
	X(RV_ERR_INVALID, "invalid argument")  /* the caller's value is out of its bounds */           \
	X(RV_ERR_FORMAT, "malformed input")    /* a file or text does not follow its format */         \
	X(RV_ERR_UNSUPPORTED, "not supported") /* well-formed, but not implemented: by name */         \
	X(RV_ERR_MISMATCH, "does not match")   /* two well-formed things do not fit together */        \
	X(RV_ERR_NOT_FOUND, "not found")                                                               \
	X(RV_ERR_IO, "input/output error")                                                             \
	X(RV_ERR_NO_MEMORY, "out of memory")                                                           \
	X(RV_ERR_LIMIT, "limit exceeded")        /* a stated limit (context, budget, quota) */         \
	X(RV_ERR_NUMERIC, "not a finite number") /* NaN or infinity where none may be */               \
	X(RV_ERR_CANCELLED, "cancelled")

typedef enum rv_status {
#define RV_STATUS_ENUM(name, text) name,
	RV_STATUS_TABLE(RV_STATUS_ENUM)
#undef RV_STATUS_ENUM
	        RV_STATUS_COUNT
} rv_status;

/* The short text of a code; never NULL. */
const char *rv_status_text(rv_status status);

#define RV_ERROR_MESSAGE_MAX                                                                           \
	1024 /* bytes of a message, the final NUL included; longer ones end in "..." */

/* Message of the calling thread's last failure; "" before the first. Valid until the next failing
 * call on this thread. */
const char *rv_error_message(void);

/* Stores a message for the calling thread and returns `status`, so that
 *     return rv_fail(RV_ERR_FORMAT, "%s: key '%s' at byte %zu: ...", path, key, offset);
 * reads as one step. Bytes of `fmt`'s arguments below 0x20 are escaped when stored. */
rv_status rv_fail(rv_status status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* rv_fail for a failed system call: appends ": " and strerror(errno). */
rv_status rv_fail_errno(rv_status status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prefixes the current message with "<prefix>: "; returns `status`. For callers that know more
 * about the place than the callee did. */
rv_status rv_fail_in(rv_status status, const char *prefix);

/* Forwards a failure: RV_TRY(rv_open(...)); */
#define RV_TRY(expr)                                                                                   \
	do {                                                                                           \
		rv_status rv_try_status_ = (expr);                                                     \
		if (rv_try_status_ != RV_OK)                                                           \
			return rv_try_status_;                                                         \
	} while (0)

#endif
