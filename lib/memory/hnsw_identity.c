/* What is in an index, whatever the order and the graph. */
#include "base/mem.h"
#include "memory/hnsw_file.h"
#include "memory/hnsw_internal.h"

#include <sodium.h>

/* Of a vector, what the index holds: its floats, or its code. */
typedef struct kept {
	const void *data;
	size_t size;
} kept;

static kept kept_at(const rv_hnsw *h, uint32_t slot) {
	if (h->options.codes_only)
		return (kept){rv_hnsw_code(h, slot), (size_t)h->code_bytes};
	return (kept){rv_hnsw_vector(h, slot), (size_t)h->options.dim * sizeof(float)};
}

static void count_in(rv_hnsw_identity *identity, uint64_t id, kept k) {
	static const uint8_t key[crypto_shorthash_KEYBYTES] = "ruvltra identity";
	uint64_t hash[2];
	crypto_shorthash((uint8_t *)&hash[0], (const uint8_t *)&id, sizeof id, key);
	crypto_shorthash((uint8_t *)&hash[1], k.data, k.size, key);
	identity->n++;
	identity->ids += hash[0];
	/* together: which vector goes with which id */
	crypto_shorthash((uint8_t *)&hash[0], (const uint8_t *)hash, sizeof hash, key);
	identity->vectors += hash[0];
}

rv_hnsw_identity rv_hnsw_identify(rv_hnsw *h) {
	rv_hnsw_identity identity = {0};
	pthread_rwlock_wrlock(&h->gate);
	const int64_t n_slots = atomic_load(&h->n_slots);
	for (int64_t slot = 0; slot < n_slots; slot++)
		if (rv_hnsw_state(h, (uint32_t)slot) == RV_HNSW_LIVE)
			count_in(&identity, h->ids[slot], kept_at(h, (uint32_t)slot));
	pthread_rwlock_unlock(&h->gate);
	return identity;
}

rv_status rv_hnsw_identity_add(rv_hnsw_identity *identity, rv_hnsw *h, uint64_t id,
                               const float *vector) {
	rv_hnsw_searcher *s;
	uint8_t *code = NULL;
	RV_TRY(rv_hnsw_borrow(h, &s));
	rv_status status = rv_hnsw_take_vector(h, vector, s->query);
	kept k = {s->query, (size_t)h->options.dim * sizeof(float)};
	if (status == RV_OK && h->options.codes_only) {
		status = RV_ALLOC(&code, h->code_bytes, "code");
		if (status == RV_OK)
			status = rv_codec_encode(h->options.codec, s->query, code);
		k = (kept){code, (size_t)h->code_bytes};
	}
	if (status == RV_OK)
		count_in(identity, id, k);
	rv_free(code);
	rv_hnsw_give_back(h, s);
	return status;
}
