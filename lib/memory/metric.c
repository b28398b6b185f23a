#include "memory/metric.h"

#include <string.h>

static const char *const names[] = {
#define RV_METRIC_NAME(name, text) text,
        RV_METRIC_TABLE(RV_METRIC_NAME)
#undef RV_METRIC_NAME
};

const char *rv_metric_name(rv_metric metric) {
	return names[metric];
}

rv_metric rv_metric_by_name(const char *name) {
	rv_metric metric = 0;
	while (metric < RV_METRIC_COUNT && strcmp(names[metric], name) != 0)
		metric++;
	return metric;
}
