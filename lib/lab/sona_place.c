#include "lab/sona_place.h"

#include <stdlib.h>
#include <string.h>

static int range(int64_t from, int64_t to, int64_t *out) {
	int n = 0;
	for (int64_t i = from; i < to && n < RV_MICRO_MAX_LAYERS; i++)
		out[n++] = i;
	return n;
}

static int spread(int64_t n, int64_t n_layers, int64_t *out) {
	int placed = 0;
	for (int64_t i = 0; i < n && i < RV_MICRO_MAX_LAYERS; i++) {
		const int64_t layer = (2 * i + 1) * n_layers / (2 * n);
		if (placed == 0 || out[placed - 1] != layer)
			out[placed++] = layer;
	}
	return placed;
}

static int number_after(const char *name, const char *prefix, int64_t *number) {
	const size_t len = strlen(prefix);
	char *end;
	if (strncmp(name, prefix, len) != 0 || name[len] < '0' || name[len] > '9')
		return 0;
	*number = strtol(name + len, &end, 10);
	return *end == '\0';
}

int rv_sona_place(const char *name, int64_t n_layers, int64_t out[RV_MICRO_MAX_LAYERS]) {
	static const int64_t hooks[] = {8, 16, 24, 28};
	int64_t n;
	if (strcmp(name, "base") == 0)
		return rv_micro_lora_place(hooks, 3, n_layers, out);
	if (strcmp(name, "coder") == 0)
		return rv_micro_lora_place(hooks, 4, n_layers, out);
	if (strcmp(name, "early") == 0)
		return range(0, n_layers / 3, out);
	if (strcmp(name, "middle") == 0)
		return range(n_layers / 3, n_layers - n_layers / 3, out);
	if (strcmp(name, "late") == 0)
		return range(n_layers - n_layers / 3, n_layers, out);
	if (strcmp(name, "all") == 0)
		return range(0, n_layers, out);
	if (number_after(name, "spread", &n))
		return spread(n, n_layers, out);
	if (number_after(name, "at", &n) && n < n_layers)
		return range(n, n + 1, out);
	return 0;
}
