/* What policies.c and policies_rows.c share. */
#ifndef RV_MEMORY_POLICIES_INTERNAL_H
#define RV_MEMORY_POLICIES_INTERNAL_H

#include "memory/policies.h"

#include <pthread.h>

/* All policies of a type, most confidence first. */
typedef struct rv_policy_list {
	rv_policy *policies;
	int64_t n, cap;
	int fetched;
	int64_t fetched_at;
} rv_policy_list;

struct rv_policies {
	rv_store *store;
	rv_policies_options options;
	pthread_mutex_t lock;
	rv_policy_list lists[RV_POLICY_COUNT];
	int accessed; /* last_accessed moved since it was written */
	rv_policies_stats stats;
};

rv_status rv_policy_copy(const rv_policy *from, rv_policy *out);
rv_status rv_policy_list_fetch(rv_store *store, rv_policy_type type, rv_policy_list *out);
void rv_policy_list_free(rv_policy_list *list);
/* Times of access in the old list that are later than the new one's. */
void rv_policy_list_keep_access(const rv_policy_list *old, rv_policy_list *anew);
/* Writes the times of access, if any moved. */
rv_status rv_policies_note_access(rv_policies *policies);

#endif
