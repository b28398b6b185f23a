/* A folder of safetensors: one file, or the shards an index lists. */
#include "base/mem.h"
#include "model/safetensors_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define INDEX_BYTES_MAX ((size_t)64 << 20)

static rv_status parse_object(const char *text, size_t size, const char *name, json_t **out) {
	RV_TRY(rv_st_check_budget(text, size, name));
	RV_TRY(rv_json_parse(text, size, name, out));
	if (json_is_object(*out))
		return RV_OK;
	json_decref(*out);
	*out = NULL;
	return rv_fail(RV_ERR_FORMAT, "%s: is no JSON object", name);
}

rv_status rv_safetensors_json(const char *path, size_t max_bytes, json_t **out) {
	rv_map map;
	*out = NULL;
	RV_TRY(rv_map_open(&map, path));
	rv_status status = map.size > max_bytes
	                           ? rv_fail(RV_ERR_LIMIT, "%s: %zu bytes, more than %zu", path,
	                                     map.size, max_bytes)
	                           : parse_object((const char *)map.data, map.size, path, out);
	rv_map_close(&map);
	return status;
}

/* ---- the index ---- */

/* A shard lies in the folder itself: no name leads out of it. */
static rv_status check_shard_name(const char *name, const char *tensor, const json_t *value) {
	const char *shard = json_string_value(value);
	if (!shard)
		return rv_fail(RV_ERR_FORMAT, "%s: tensor '%.128s': its shard is no string", name,
		               tensor);
	if (!*shard || strlen(shard) > 255 || strchr(shard, '/') || strchr(shard, '\\') ||
	    strcmp(shard, ".") == 0 || strcmp(shard, "..") == 0)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: tensor '%.128s': shard '%.128s' is not a plain file name", name,
		               tensor, shard);
	return RV_OK;
}

static rv_status check_weight_map(const json_t *map, const char *name) {
	const char *tensor;
	json_t *shard;
	if (!map)
		return rv_fail(RV_ERR_FORMAT, "%s: key 'weight_map' is missing", name);
	if (!json_is_object(map))
		return rv_fail(RV_ERR_FORMAT, "%s: 'weight_map' is no object", name);
	if (!json_object_size(map))
		return rv_fail(RV_ERR_FORMAT, "%s: 'weight_map' is empty", name);
	json_object_foreach((json_t *)(uintptr_t)map, tensor, shard) {
		RV_TRY(check_shard_name(name, tensor, shard));
	}
	return RV_OK;
}

static rv_status take_weight_map(const json_t *index, const char *name, json_t **out) {
	json_t *map = json_object_get(index, "weight_map");
	RV_TRY(check_weight_map(map, name));
	*out = json_incref(map);
	return RV_OK;
}

rv_status rv_safetensors_index(const char *text, size_t size, const char *name, json_t **weight_map) {
	json_t *index;
	*weight_map = NULL;
	RV_TRY(parse_object(text, size, name, &index));
	rv_status status = take_weight_map(index, name, weight_map);
	json_decref(index);
	return status;
}

/* ---- the shards ---- */

/* The set of shard names, in the order of the index, as keys of an object (json_decref). */
static rv_status list_shards(const json_t *map, const char *name, json_t **out) {
	const char *tensor;
	json_t *shard, *set = json_object();
	rv_status status = set ? RV_OK : rv_fail(RV_ERR_NO_MEMORY, "%s: no memory for shards", name);
	json_object_foreach((json_t *)(uintptr_t)map, tensor, shard) {
		if (status != RV_OK)
			break;
		if (json_object_set_new(set, json_string_value(shard), json_true()) != 0)
			status = rv_fail(RV_ERR_NO_MEMORY, "%s: no memory for shards", name);
		else if (json_object_size(set) > RV_SAFETENSORS_FILES_MAX)
			status = rv_fail(RV_ERR_LIMIT, "%s: more than %zu shards", name,
			                 RV_SAFETENSORS_FILES_MAX);
	}
	if (status != RV_OK)
		json_decref(set);
	else
		*out = set;
	return status;
}

static const char *base_name(const char *path) {
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* List and shards name the same tensors in the same places. */
static rv_status check_agreement(const rv_safetensors *st, const json_t *map, const char *name) {
	const char *tensor;
	json_t *shard;
	for (size_t i = 0; i < st->table.n; i++) {
		const rv_safetensor *t = &st->table.tensors[i];
		const char *path = st->files[t->file].path;
		const char *listed = json_string_value(json_object_get(map, t->name));
		if (!listed)
			return rv_fail(RV_ERR_MISMATCH, "%s: tensor '%.128s' of %s is not listed", name,
			               t->name, path);
		if (strcmp(listed, base_name(path)) != 0)
			return rv_fail(RV_ERR_MISMATCH,
			               "%s: tensor '%.128s' is listed in %.128s, but is in %s", name,
			               t->name, listed, path);
	}
	json_object_foreach((json_t *)(uintptr_t)map, tensor, shard) {
		if (!rv_safetensors_find(st, tensor))
			return rv_fail(RV_ERR_NOT_FOUND, "%s: tensor '%.128s' is missing in %.128s",
			               name, tensor, json_string_value(shard));
	}
	return RV_OK;
}

static rv_status join(char **out, const char *dir, const char *name) {
	size_t bytes = strlen(dir) + strlen(name) + 2;
	RV_TRY(rv_alloc((void **)out, bytes, 1, "path"));
	snprintf(*out, bytes, "%s/%s", dir, name);
	return RV_OK;
}

static rv_status load_shards(rv_safetensors *st, const char *dir, const json_t *shards) {
	const char *shard;
	json_t *unused;
	size_t i = 0;
	json_object_foreach((json_t *)(uintptr_t)shards, shard, unused) {
		char *path;
		RV_TRY(join(&path, dir, shard));
		rv_status status = rv_st_load(&st->files[i], path, i, &st->table);
		rv_free(path);
		RV_TRY(status);
		i++;
	}
	return rv_st_finish(st);
}

static rv_status open_shards(rv_safetensors **out, const char *dir, const json_t *map,
                             const char *index) {
	json_t *shards;
	rv_safetensors *st = NULL;
	RV_TRY(list_shards(map, index, &shards));
	rv_status status = rv_st_new(&st, json_object_size(shards));
	if (status == RV_OK)
		status = load_shards(st, dir, shards);
	if (status == RV_OK)
		status = check_agreement(st, map, index);
	json_decref(shards);
	if (status != RV_OK)
		rv_safetensors_close(st);
	else
		*out = st;
	return status;
}

static rv_status open_index(rv_safetensors **out, const char *dir, const char *path) {
	json_t *index, *map = NULL;
	RV_TRY(rv_safetensors_json(path, INDEX_BYTES_MAX, &index));
	rv_status status = take_weight_map(index, path, &map);
	if (status == RV_OK)
		status = open_shards(out, dir, map, path);
	json_decref(map);
	json_decref(index);
	return status;
}

static int exists(const char *path) {
	struct stat st;
	return lstat(path, &st) == 0;
}

rv_status rv_safetensors_open_dir(rv_safetensors **out, const char *dir) {
	char *one = NULL, *index = NULL;
	*out = NULL;
	rv_status status = join(&one, dir, RV_SAFETENSORS_FILE);
	if (status == RV_OK)
		status = join(&index, dir, RV_SAFETENSORS_INDEX);
	if (status == RV_OK && exists(one))
		status = rv_safetensors_open(out, one);
	else if (status == RV_OK && exists(index))
		status = open_index(out, dir, index);
	else if (status == RV_OK)
		status = rv_fail(RV_ERR_NOT_FOUND, "%s: has neither %s nor %s", dir,
		                 RV_SAFETENSORS_FILE, RV_SAFETENSORS_INDEX);
	rv_free(one);
	rv_free(index);
	return status;
}
