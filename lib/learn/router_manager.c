#include "learn/router_manager.h"

/* It has nothing of its own beside what it is resident by. */

static rv_status open_file(void *user, const char *path, void **out) {
	(void)user;
	return rv_fastgrnn_load((rv_fastgrnn **)out, path);
}

static rv_status place(void *user, const void *from, const rv_adapter_memory *memory, void **out) {
	(void)user;
	return rv_fastgrnn_place((rv_fastgrnn **)out, from, memory);
}

static rv_status save(void *user, const void *router, const char *path) {
	(void)user;
	return rv_fastgrnn_save(router, path);
}

static void retain(void *router) {
	rv_fastgrnn_retain(router);
}
static void release(void *router) {
	rv_fastgrnn_destroy(router);
}
static int shared(const void *router) {
	return rv_fastgrnn_shared(router);
}

static const rv_resident_kind routers = {"routers", ".grnn", open_file, place,
                                         save,      retain,  release,   shared};

rv_status rv_router_manager_create(rv_router_manager **out, const rv_residency_options *options) {
	return rv_residency_create((rv_residency **)out, &routers, NULL, options);
}

void rv_router_manager_destroy(rv_router_manager *m) {
	rv_residency_destroy((rv_residency *)m);
}

rv_status rv_router_manager_add(rv_router_manager *m, const char *name, const char *path) {
	return rv_residency_add((rv_residency *)m, name, path);
}

rv_status rv_router_manager_put(rv_router_manager *m, const char *name, const rv_fastgrnn *router) {
	return rv_residency_put((rv_residency *)m, name, router);
}

rv_status rv_router_manager_acquire(rv_router_manager *m, const char *name, rv_fastgrnn **out) {
	return rv_residency_acquire((rv_residency *)m, name, (void **)out);
}

rv_residency *rv_router_manager_residency(rv_router_manager *m) {
	return (rv_residency *)m;
}
