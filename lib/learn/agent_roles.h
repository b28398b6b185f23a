/* The agents of datasets/roles.def, the classes of tasks and the levels, as numbers and names. */
#ifndef RV_LEARN_AGENT_ROLES_H
#define RV_LEARN_AGENT_ROLES_H

#include <stddef.h>

#define RV_AGENTS 13
#define RV_AGENT_CLASSES (RV_AGENTS + 1) /* an agent's category, or the last: ambiguous */
#define RV_AGENT_LEVELS 3                /* easy, medium, hard */

extern const char *const rv_agent_names[RV_AGENTS];
extern const char *const rv_agent_classes[RV_AGENT_CLASSES];
extern const char *const rv_agent_levels[RV_AGENT_LEVELS];

/* -1: no such name. */
int rv_agent_index(const char *const *names, int n, const char *name, size_t len);

#endif
