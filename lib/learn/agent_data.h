/* Labelled requests: tables written by hand (.tsv; the head names the columns, `agent` the first of
 * them and `text` among them; category, difficulty and complexity where they are known) and the corpus
 * generator's text ("Request:", "Task:", "Complexity:", "Agent:" lines). */
#ifndef RV_LEARN_AGENT_DATA_H
#define RV_LEARN_AGENT_DATA_H

#include "base/status.h"
#include "learn/agent_roles.h"

#include <stdint.h>

typedef struct rv_agent_example {
	char *text;
	uint32_t len;
	int8_t agent;
	int8_t ambiguous;  /* 1, 0, or -1: not said */
	int8_t difficulty; /* -1: not said */
	int8_t complexity; /* -1: not said */
	int8_t source;     /* number of the file */
} rv_agent_example;

typedef struct rv_agent_data {
	rv_agent_example *items;
	int64_t n, cap;
	int n_sources;
} rv_agent_data;

/* Adds a file's requests, at most `limit` of them (0: all). RV_ERR_FORMAT names file and line. */
rv_status rv_agent_data_add(rv_agent_data *data, const char *path, int64_t limit);
void rv_agent_data_free(rv_agent_data *data); /* accepts a zeroed one */

#endif
