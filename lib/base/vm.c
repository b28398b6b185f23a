#include "base/vm.h"

#include <sys/mman.h>

rv_status rv_vm_alloc(void **out, size_t bytes, const char *what) {
	*out = NULL;
	if (bytes == 0)
		return RV_OK;
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	               -1, 0);
	if (p == MAP_FAILED)
		return rv_fail_errno(RV_ERR_NO_MEMORY, "%s: cannot reserve %zu bytes", what, bytes);
	*out = p;
	return RV_OK;
}

void rv_vm_free(void *ptr, size_t bytes) {
	if (ptr)
		munmap(ptr, bytes);
}
