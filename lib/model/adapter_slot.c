/* The newest version stands behind one word: the address of its box and, in the word's low bits, how
 * many readers are just taking it out. Whoever exchanges the word books that count on the box; a reader
 * that finds the word exchanged gives its part back there. So neither side ever waits for the other (a
 * split reference count). Boxes are aligned to 64 bytes and no address has more than 57 bits, which
 * leaves 13 bits for readers that are between two instructions of theirs: 8191. */
#include "model/adapter_slot.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>

enum { READER_BITS = 13, ALIGN_BITS = 6 };
#define READERS (((uint64_t)1 << READER_BITS) - 1)
_Static_assert(RV_ALIGN == 1 << ALIGN_BITS, "alignment of boxes");

typedef struct box {
	_Atomic int64_t owed; /* to readers when it was exchanged, less those that gave back */
	rv_adapter *adapter;  /* NULL: none */
	uint64_t version;
} box;

struct rv_adapter_slot {
	_Atomic uint64_t word;
	_Atomic uint64_t version;
	pthread_mutex_t publishing; /* publishers alone take it */
	box *newest; /* what `word` holds, as an address that leak checkers can see; publishers' */
	rv_model *model;
};

static uint64_t word_of(const box *b) {
	return (uint64_t)(uintptr_t)b >> ALIGN_BITS << READER_BITS;
}
static box *box_of(uint64_t word) {
	return (box *)(uintptr_t)(word >> READER_BITS << ALIGN_BITS);
}

/* Who brings the account to zero frees the box: it is below zero as long as readers that gave back are
 * not booked yet, and above as long as booked ones have not. */
static void settle(box *b, int64_t n) {
	if (atomic_fetch_add(&b->owed, n) != -n)
		return;
	rv_adapter_release(b->adapter);
	rv_free(b);
}

rv_status rv_adapter_slot_create(rv_adapter_slot **out, rv_model *model) {
	rv_adapter_slot *slot;
	box *empty;
	*out = NULL;
	RV_TRY(RV_ALLOC(&slot, 1, "adapter slot"));
	rv_status status = RV_ALLOC(&empty, 1, "adapter slot");
	if (status != RV_OK) {
		rv_free(slot);
		return status;
	}
	atomic_init(&empty->owed, 0);
	atomic_init(&slot->word, word_of(empty));
	atomic_init(&slot->version, 0);
	pthread_mutex_init(&slot->publishing, NULL);
	slot->newest = empty;
	slot->model = rv_model_retain(model);
	*out = slot;
	return RV_OK;
}

void rv_adapter_slot_destroy(rv_adapter_slot *slot) {
	if (!slot)
		return;
	settle(box_of(atomic_load(&slot->word)), 0);
	pthread_mutex_destroy(&slot->publishing);
	rv_model_release(slot->model);
	rv_free(slot);
}

rv_status rv_adapter_slot_publish(rv_adapter_slot *slot, rv_adapter *adapter, uint64_t *version) {
	box *b;
	if (adapter && !rv_adapter_fits(adapter, slot->model))
		return rv_fail(RV_ERR_MISMATCH, "%s: made for another shape than %s",
		               rv_adapter_path(adapter), rv_model_path(slot->model));
	RV_TRY(RV_ALLOC(&b, 1, "adapter version"));
	atomic_init(&b->owed, 0);
	b->adapter = adapter ? rv_adapter_retain(adapter) : NULL;
	pthread_mutex_lock(&slot->publishing);
	b->version = atomic_load(&slot->version) + 1;
	if (version)
		*version = b->version;
	uint64_t before = atomic_exchange(&slot->word, word_of(b));
	slot->newest = b;
	atomic_store(&slot->version, b->version); /* b stays: who exchanges it waits for the lock */
	pthread_mutex_unlock(&slot->publishing);
	settle(box_of(before), (int64_t)(before & READERS));
	return RV_OK;
}

rv_adapter *rv_adapter_slot_acquire(rv_adapter_slot *slot, uint64_t *version) {
	uint64_t word = atomic_fetch_add(&slot->word, 1) + 1;
	box *b = box_of(word);
	rv_adapter *adapter = b->adapter ? rv_adapter_retain(b->adapter) : NULL;
	if (version)
		*version = b->version;
	while (box_of(word) == b) {
		if (atomic_compare_exchange_weak(&slot->word, &word, word - 1))
			return adapter;
	}
	settle(b, -1);
	return adapter;
}

uint64_t rv_adapter_slot_version(const rv_adapter_slot *slot) {
	return atomic_load(&slot->version);
}

rv_model *rv_adapter_slot_model(const rv_adapter_slot *slot) {
	return slot->model;
}
