#include "memory/id_map.h"

#include "base/mem.h"

#include <string.h>

/* FNV-1a, folded. */
static uint32_t hash_of(const char *id) {
	uint64_t h = 0xcbf29ce484222325u;
	for (const char *p = id; *p != 0; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3u;
	return (uint32_t)(h ^ h >> 32);
}

void rv_id_map_deinit(rv_id_map *map) {
	rv_free(map->cells);
	*map = (rv_id_map){0};
}

static void put(rv_id_map *map, rv_id_cell cell) {
	size_t i = cell.hash & map->mask;
	while (map->cells[i].id != NULL)
		i = (i + 1) & map->mask;
	map->cells[i] = cell;
	map->n++;
}

rv_status rv_id_map_reserve(rv_id_map *map, size_t n) {
	size_t size = map->cells ? map->mask + 1 : 16;
	while (size / 2 < n && size <= SIZE_MAX / 4)
		size *= 2;
	if (map->cells != NULL && size == map->mask + 1)
		return RV_OK;
	rv_id_map grown = {.mask = size - 1};
	RV_TRY(RV_ALLOC(&grown.cells, size, "table of ids"));
	for (size_t i = 0; map->cells != NULL && i <= map->mask; i++)
		if (map->cells[i].id != NULL)
			put(&grown, map->cells[i]);
	rv_free(map->cells);
	*map = grown;
	return RV_OK;
}

/* Its cell, or the free one where the search ends; cells must be there. */
static size_t find(const rv_id_map *map, const char *id, uint32_t hash) {
	size_t i = hash & map->mask;
	while (map->cells[i].id != NULL &&
	       (map->cells[i].hash != hash || strcmp(map->cells[i].id, id) != 0))
		i = (i + 1) & map->mask;
	return i;
}

int32_t rv_id_map_get(const rv_id_map *map, const char *id) {
	if (map->cells == NULL)
		return -1;
	const rv_id_cell *cell = &map->cells[find(map, id, hash_of(id))];
	return cell->id != NULL ? cell->number : -1;
}

void rv_id_map_put(rv_id_map *map, const char *id, int32_t number) {
	put(map, (rv_id_cell){id, number, hash_of(id)});
}

int32_t rv_id_map_remove(rv_id_map *map, const char *id) {
	if (map->cells == NULL)
		return -1;
	size_t hole = find(map, id, hash_of(id));
	if (map->cells[hole].id == NULL)
		return -1;
	int32_t number = map->cells[hole].number;
	/* what follows without a gap moves up, unless it would pass its own place */
	for (size_t i = (hole + 1) & map->mask; map->cells[i].id != NULL; i = (i + 1) & map->mask)
		if (((i - map->cells[i].hash) & map->mask) >= ((i - hole) & map->mask)) {
			map->cells[hole] = map->cells[i];
			hole = i;
		}
	map->cells[hole] = (rv_id_cell){0};
	map->n--;
	return number;
}
