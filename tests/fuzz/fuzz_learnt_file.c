/* Fuzz target: any bytes as a file of the router of models, of the agent router, of an elastic memory
 * or a replay buffer, and as a lexicon. The bytes are also taken as what follows a right header, so
 * that what lies behind the checksum is reached. */
#include "base/file.h"
#include "learn/agent_router_internal.h"
#include "learn/ewc.h"
#include "learn/fastgrnn.h"
#include "learn/replay.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(rv_status status) {
	if (status != RV_OK && *rv_error_message() == '\0')
		abort();
}

static void take(const void *data, size_t size) {
	rv_fastgrnn *g;
	rv_agent_router *r;
	rv_agent_decision d;
	rv_status st = rv_fastgrnn_load_memory(&g, data, size, "fuzz");
	check(st);
	if (st == RV_OK)
		rv_fastgrnn_destroy(g);
	st = rv_agent_router_open_memory(&r, data, size, "fuzz", NULL);
	check(st);
	if (st == RV_OK) {
		check(rv_agent_route(r, RV_ROUTER_KEYWORD, "please review it", 16, &d));
		rv_agent_router_destroy(r);
	}
}

static void take_memories(const void *data, size_t size) {
	rv_ewc *e;
	rv_replay *r;
	rv_status st = rv_ewc_load_memory(&e, data, size, "fuzz");
	check(st);
	if (st == RV_OK && rv_ewc_bytes(e) == 0)
		abort();
	rv_ewc_destroy(e);
	st = rv_replay_load_memory(&r, data, size, "fuzz");
	check(st);
	if (st == RV_OK && rv_replay_count(r) > 0) { /* what was taken can be used */
		int32_t *tokens = malloc((size_t)(rv_replay_n_ctx(r) + 1) * sizeof *tokens);
		if (tokens) {
			check(rv_replay_draw(r, 1, 1, tokens, NULL));
			check(rv_replay_offer(r, tokens, NULL, 1));
		}
		free(tokens);
	}
	rv_replay_destroy(r);
}

static void take_sealed(const char *magic, uint32_t version, const uint8_t *data, size_t size) {
	char *file = malloc(size + 24);
	const uint32_t crc = rv_crc32(0, data, size);
	const uint64_t n = size;
	if (!file)
		return;
	memcpy(file, magic, 8);
	memcpy(file + 8, &version, 4);
	memcpy(file + 12, &crc, 4);
	memcpy(file + 16, &n, 8);
	if (size)
		memcpy(file + 24, data, size);
	take(file, size + 24);
	take_memories(file, size + 24);
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	rv_agent_lexicon *lexicon;
	rv_agent_text text;
	rv_agent_hit hits[RV_LEXICON_HITS_MAX];
	take(data, size);
	take_memories(data, size);
	take_sealed("RVELAST", 1, data, size);
	take_sealed("RVREPLAY", 1, data, size);
	take_sealed("RVFGRNN\n", 1, data, size);
	take_sealed(RV_AGENT_ROUTER_MAGIC, RV_AGENT_ROUTER_VERSION, data, size);
	const rv_status st = rv_agent_lexicon_parse(&lexicon, (const char *)data, size, "fuzz");
	check(st);
	if (st == RV_OK) {
		rv_agent_text_read(&text, (const char *)data, size);
		rv_agent_lexicon_match(lexicon, &text, hits);
		rv_agent_lexicon_destroy(lexicon);
	}
	return 0;
}
