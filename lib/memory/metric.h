/* What "near" means for two vectors. A distance is smaller for what is nearer:
 *   cosine  1 - cos(x, y), in [0, 2]; the length of a vector does not matter, but may not be 0
 *   l2      sum (x - y)^2, the squared Euclidean distance
 *   inner   - sum x y; no metric in the strict sense: a vector need not be its own nearest */
#ifndef RV_MEMORY_METRIC_H
#define RV_MEMORY_METRIC_H

/* X(enumerator, name) */
#define RV_METRIC_TABLE(X)                                                                             \
	X(COSINE, "cosine")                                                                            \
	X(L2, "l2")                                                                                    \
	X(INNER, "inner")

typedef enum rv_metric {
#define RV_METRIC_ENUM(name, text) RV_METRIC_##name,
	RV_METRIC_TABLE(RV_METRIC_ENUM)
#undef RV_METRIC_ENUM
	        RV_METRIC_COUNT
} rv_metric;

const char *rv_metric_name(rv_metric metric); /* "cosine" */
/* RV_METRIC_COUNT when unknown. */
rv_metric rv_metric_by_name(const char *name);

#endif
