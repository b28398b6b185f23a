/* The tables, as the steps that made them. A step is never changed once a release has it: changes are
 * further steps. The version (user_version) is the number of steps done. */
#include "base/mem.h"
#include "memory/store_internal.h"

#include <stdio.h>

/* Every table: `key` is the row's number in its index and is never used twice (AUTOINCREMENT). Times
 * are UTC milliseconds. Embeddings are RV_EMBEDDING_DIM little-endian f32. content_crc covers what
 * never changes, state_crc what does. */
static const char *const steps[] = {
        /* 1 */
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"

        "CREATE TABLE policies ("
        " key INTEGER PRIMARY KEY AUTOINCREMENT,"
        " id TEXT NOT NULL UNIQUE,"
        " policy_type TEXT NOT NULL CHECK (policy_type IN ('quantization','router','ewc','pattern')),"
        " embedding BLOB NOT NULL,"
        " parameters TEXT NOT NULL," /* JSON */
        " confidence REAL NOT NULL CHECK (confidence BETWEEN 0 AND 1),"
        " fisher_diagonal BLOB," /* f32 */
        " created_at INTEGER NOT NULL,"
        " source TEXT NOT NULL CHECK (source IN"
        "  ('instant_loop','background_loop','deep_loop','federated')),"
        " content_crc INTEGER NOT NULL,"
        " last_accessed INTEGER NOT NULL);"
        "CREATE INDEX policies_type ON policies (policy_type, confidence DESC, key);"

        "CREATE TABLE sessions ("
        " key INTEGER PRIMARY KEY AUTOINCREMENT,"
        " session_id TEXT NOT NULL UNIQUE,"
        " user_id TEXT,"
        " context_embedding BLOB,"
        " kv_tier TEXT CHECK (kv_tier IN ('hot','warm','cold')),"
        " kv_location TEXT,"
        " kv_cached_tokens INTEGER,"
        " kv_quantization TEXT,"
        " kv_created_at INTEGER,"
        " active_adapter TEXT,"
        " turn_count INTEGER NOT NULL CHECK (turn_count >= 0),"
        " last_active INTEGER NOT NULL,"
        " metadata BLOB," /* JSON, sealed */
        " crc INTEGER NOT NULL);"
        "CREATE INDEX sessions_user ON sessions (user_id);"
        "CREATE INDEX sessions_active ON sessions (last_active);"

        "CREATE TABLE witness ("
        " key INTEGER PRIMARY KEY AUTOINCREMENT," /* the order of the chain */
        " request_id TEXT NOT NULL,"
        " session_id TEXT,"
        " user_id TEXT,"
        " query_embedding BLOB,"
        " model TEXT NOT NULL," /* routing decision: model .. probability_3 */
        " context_size INTEGER NOT NULL,"
        " temperature REAL NOT NULL,"
        " top_p REAL NOT NULL,"
        " confidence REAL NOT NULL,"
        " probability_0 REAL NOT NULL, probability_1 REAL NOT NULL,"
        " probability_2 REAL NOT NULL, probability_3 REAL NOT NULL,"
        " model_used TEXT NOT NULL,"
        " quality_score REAL,"
        " embedding_ms REAL NOT NULL, retrieval_ms REAL NOT NULL, routing_ms REAL NOT NULL,"
        " attention_ms REAL NOT NULL, generation_ms REAL NOT NULL, total_ms REAL NOT NULL,"
        " context_doc_ids TEXT NOT NULL," /* JSON array */
        " response_embedding BLOB,"
        " timestamp INTEGER NOT NULL,"
        " error BLOB,"          /* sealed */
        " hash BLOB NOT NULL);" /* of this entry and the hash before it */
        "CREATE INDEX witness_time ON witness (timestamp);"
        "CREATE INDEX witness_request ON witness (request_id);"

        "CREATE TABLE edges ("
        " source TEXT NOT NULL,"
        " target TEXT NOT NULL,"
        " kind TEXT NOT NULL CHECK (kind IN ('session','similar','pattern')),"
        " weight REAL NOT NULL CHECK (weight BETWEEN 0 AND 1),"
        " updated_at INTEGER NOT NULL,"
        " PRIMARY KEY (source, kind, target)) WITHOUT ROWID;"
        "CREATE INDEX edges_target ON edges (target, kind);"

        "CREATE TABLE trajectories ("
        " key INTEGER PRIMARY KEY AUTOINCREMENT,"
        " trajectory_id TEXT NOT NULL UNIQUE,"
        " variant TEXT NOT NULL CHECK (variant IN ('base','coder','agent')),"
        " task TEXT NOT NULL,"
        " embedding BLOB NOT NULL,"
        " states BLOB NOT NULL,"  /* bank_rows.c */
        " actions TEXT NOT NULL," /* JSON [{action, quality}] */
        " final_quality REAL NOT NULL CHECK (final_quality BETWEEN 0 AND 1),"
        " metadata TEXT NOT NULL," /* JSON object */
        " verdict TEXT NOT NULL CHECK (verdict IN ('success','failure','partial','unknown')),"
        " request_id TEXT,"
        " session_id TEXT,"
        " query_embedding BLOB,"
        " response_embedding BLOB,"
        " routing_features BLOB," /* f32 */
        " model_index INTEGER,"
        " source TEXT NOT NULL CHECK (source IN"
        "  ('instant_loop','background_loop','deep_loop','federated')),"
        " created_at INTEGER NOT NULL,"
        " content_crc INTEGER NOT NULL,"
        " quality REAL NOT NULL CHECK (quality BETWEEN 0 AND 1)," /* after merging */
        " weight REAL NOT NULL CHECK (weight > 0),"               /* trajectories it stands for */
        " state_crc INTEGER NOT NULL);"
        "CREATE INDEX trajectories_variant ON trajectories (variant, key);",
};

#define N_STEPS ((int)(sizeof steps / sizeof *steps))

int rv_store_version(void) {
	return N_STEPS;
}

rv_status rv_store_migrate(rv_db *db, const rv_log *log) {
	int64_t version;
	RV_TRY(rv_db_int(db, "(header)", "PRAGMA user_version", NULL, 0, &version));
	for (int64_t v = version; v < N_STEPS; v++) {
		char header[96];
		snprintf(header, sizeof header, "PRAGMA application_id = %d; PRAGMA user_version = %d",
		         RV_STORE_APPLICATION_ID, (int)v + 1);
		rv_status st = rv_db_exec(db, "(header)", "BEGIN IMMEDIATE");
		if (st == RV_OK)
			st = rv_db_exec(db, "(migration)", steps[v]);
		if (st == RV_OK)
			st = rv_db_exec(db, "(header)", header);
		if (st == RV_OK)
			st = rv_db_exec(db, "(migration)", "COMMIT");
		if (st != RV_OK) {
			sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
			return st;
		}
		if (version > 0)
			rv_logf(log, RV_LOG_INFO, "%s: migrated to version %d", db->path, (int)v + 1);
	}
	return RV_OK;
}
