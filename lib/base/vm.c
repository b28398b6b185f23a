#include "base/vm.h"

#include <stdint.h>
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

rv_status rv_vm_alloc_aligned(void **out, size_t bytes, size_t align, const char *what) {
	void *p;
	RV_TRY(rv_vm_alloc(&p, bytes + align, what));
	char *base = p, *end = base + bytes + align;
	char *at = (char *)(((uintptr_t)base + align - 1) / align * align);
	if (at > base)
		munmap(base, (size_t)(at - base));
	if (at + bytes < end)
		munmap(at + bytes, (size_t)(end - at) - bytes);
	if (bytes >= (size_t)2 << 20)
		(void)madvise(at, bytes, MADV_HUGEPAGE); /* a wish: slower without, not wrong */
	*out = at;
	return RV_OK;
}

void rv_vm_free(void *ptr, size_t bytes) {
	if (ptr)
		munmap(ptr, bytes);
}
