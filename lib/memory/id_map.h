/* Ids to numbers: a table of texts in memory, each with a number of the caller's (a slot). */
#ifndef RV_MEMORY_ID_MAP_H
#define RV_MEMORY_ID_MAP_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct rv_id_cell {
	const char *id; /* the caller's, while it is in the map; NULL: free */
	int32_t number;
	uint32_t hash;
} rv_id_cell;

/* Zeroed: empty. Not thread-safe. */
typedef struct rv_id_map {
	rv_id_cell *cells; /* [mask + 1], at most half of them in use */
	size_t mask, n;
} rv_id_map;

void rv_id_map_deinit(rv_id_map *map);
/* Makes room for n ids in all: that many puts cannot fail. */
rv_status rv_id_map_reserve(rv_id_map *map, size_t n);
int32_t rv_id_map_get(const rv_id_map *map, const char *id); /* -1: not there */
/* The id must not be there, and there must be room. */
void rv_id_map_put(rv_id_map *map, const char *id, int32_t number);
/* -1: was not there; else its number. */
int32_t rv_id_map_remove(rv_id_map *map, const char *id);

#endif
