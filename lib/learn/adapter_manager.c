#include "learn/adapter_manager.h"

#include "base/mem.h"
#include "model/adapter_write.h"

struct rv_adapter_manager {
	rv_model *model;
	rv_residency *residency;
};

static rv_status open_file(void *user, const char *path, void **out) {
	const rv_adapter_manager *m = user;
	return rv_adapter_open((rv_adapter **)out, path, m->model);
}

static rv_status place(void *user, const void *from, const rv_adapter_memory *memory, void **out) {
	(void)user;
	return rv_adapter_place((rv_adapter **)out, from, memory);
}

static rv_status save(void *user, const void *adapter, const char *path) {
	const rv_adapter_manager *m = user;
	const rv_adapter_write_options f32 = {.type = rv_type_get(RV_F32)};
	return rv_adapter_write(path, adapter, m->model, &f32);
}

static void retain(void *adapter) {
	rv_adapter_retain(adapter);
}
static void release(void *adapter) {
	rv_adapter_release(adapter);
}
static int shared(const void *adapter) {
	return rv_adapter_shared(adapter);
}

static const rv_resident_kind adapters = {"adapters", ".gguf", open_file, place,
                                          save,       retain,  release,   shared};

rv_status rv_adapter_manager_create(rv_adapter_manager **out, rv_model *model,
                                    const rv_residency_options *options) {
	rv_adapter_manager *m;
	*out = NULL;
	RV_TRY(RV_ALLOC(&m, 1, "adapter manager"));
	m->model = rv_model_retain(model);
	rv_status st = rv_residency_create(&m->residency, &adapters, m, options);
	if (st == RV_OK)
		*out = m;
	else
		rv_adapter_manager_destroy(m);
	return st;
}

void rv_adapter_manager_destroy(rv_adapter_manager *m) {
	if (!m)
		return;
	rv_residency_destroy(m->residency);
	rv_model_release(m->model);
	rv_free(m);
}

rv_status rv_adapter_manager_add(rv_adapter_manager *m, const char *name, const char *path) {
	return rv_residency_add(m->residency, name, path);
}

rv_status rv_adapter_manager_put(rv_adapter_manager *m, const char *name, const rv_adapter *adapter) {
	return rv_adapter_fits(adapter, m->model)
	               ? rv_residency_put(m->residency, name, adapter)
	               : rv_fail(RV_ERR_MISMATCH, "%s: made for models of another shape than %s",
	                         rv_adapter_path(adapter), rv_model_path(m->model));
}

rv_status rv_adapter_manager_acquire(rv_adapter_manager *m, const char *name, rv_adapter **out) {
	return rv_residency_acquire(m->residency, name, (void **)out);
}

rv_residency *rv_adapter_manager_residency(rv_adapter_manager *m) {
	return m->residency;
}
