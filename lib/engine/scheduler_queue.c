/* Lists of requests, linked through the requests themselves: moving one allocates nothing. */
#include "engine/scheduler_internal.h"

int rv_request_before(const request *a, const request *b) {
	return a->rank < b->rank || (a->rank == b->rank && a->id < b->id);
}

static void link_after(queue *q, request *r, request *prev) {
	r->prev = prev;
	r->next = prev ? prev->next : q->first;
	*(r->next ? &r->next->prev : &q->last) = r;
	*(prev ? &prev->next : &q->first) = r;
	q->n++;
}

void rv_queue_push(queue *q, request *r) {
	link_after(q, r, q->last);
}

/* From the end: most come with a larger rank than all that are there. */
void rv_queue_insert(queue *q, request *r) {
	request *prev = q->last;
	while (prev && rv_request_before(r, prev))
		prev = prev->prev;
	link_after(q, r, prev);
}

void rv_queue_remove(queue *q, request *r) {
	*(r->prev ? &r->prev->next : &q->first) = r->next;
	*(r->next ? &r->next->prev : &q->last) = r->prev;
	r->prev = r->next = NULL;
	q->n--;
}
