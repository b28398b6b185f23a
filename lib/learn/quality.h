/* How good an answer was, and who says so. A quality without its source is worth nothing: a caller's
 * opinion and a passed test are not the same thing. */
#ifndef RV_LEARN_QUALITY_H
#define RV_LEARN_QUALITY_H

#include <math.h>
#include <string.h>

/* X(enumerator, name) */
#define RV_QUALITY_TABLE(X)                                                                            \
	X(NONE, "none")             /* not rated yet */                                                \
	X(TASK, "task")             /* a test passed, an exact match */                                \
	X(FEEDBACK, "feedback")     /* the caller says so */                                           \
	X(LIKELIHOOD, "likelihood") /* the model's own mean token probability */

typedef enum rv_quality_source {
#define RV_QUALITY_ENUM(name, text) RV_QUALITY_##name,
	RV_QUALITY_TABLE(RV_QUALITY_ENUM)
#undef RV_QUALITY_ENUM
	        RV_QUALITY_COUNT
} rv_quality_source;

static inline const char *rv_quality_source_name(rv_quality_source source) {
	static const char *const names[] = {
#define RV_QUALITY_TEXT(name, text) text,
	        RV_QUALITY_TABLE(RV_QUALITY_TEXT)
#undef RV_QUALITY_TEXT
	};
	return names[source];
}

/* RV_QUALITY_COUNT when unknown (or NULL). */
static inline rv_quality_source rv_quality_source_by_name(const char *name) {
	int i = 0;
	while (i < RV_QUALITY_COUNT &&
	       (!name || strcmp(name, rv_quality_source_name((rv_quality_source)i)) != 0))
		i++;
	return (rv_quality_source)i;
}

/* In [0, 1]; false for NaN. */
static inline int rv_quality_ok(double quality) {
	return quality >= 0 && quality <= 1;
}

#endif
