#include "learn/agent_roles.h"

#include <string.h>

#define RV_ROLE(name, category, description) name,
const char *const rv_agent_names[RV_AGENTS] = {
#include "datasets/roles.def"
};
#undef RV_ROLE

#define RV_ROLE(name, category, description) category,
const char *const rv_agent_classes[RV_AGENT_CLASSES] = {
#include "datasets/roles.def"
        "ambiguous"};
#undef RV_ROLE

const char *const rv_agent_levels[RV_AGENT_LEVELS] = {"easy", "medium", "hard"};

int rv_agent_index(const char *const *names, int n, const char *name, size_t len) {
	for (int i = 0; i < n; i++)
		if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
			return i;
	return -1;
}
