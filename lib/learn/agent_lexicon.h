/* Phrases by meaning: groups of words and phrases that say the same, each group with what it tells of
 * the agent that is wanted.
 *
 * Text form, a group a line, TAB-separated; lines that begin with # are comments:
 *     name    agent=weight agent=weight ...    phrase | phrase | ...
 * "-" for a group without weights. A phrase is matched word by word by stem (learn/agent_text.h);
 * "=word" matches this form alone, "*" stands for at most RV_LEXICON_GAP words of the clause. Marks
 * such as "?" are words. Where phrases of one group overlap, the group counts once.
 *
 * A read lexicon is immutable: any number of threads may use it. */
#ifndef RV_LEARN_AGENT_LEXICON_H
#define RV_LEARN_AGENT_LEXICON_H

#include "base/status.h"
#include "learn/agent_roles.h"
#include "learn/agent_text.h"

#define RV_LEXICON_GAP 3
#define RV_LEXICON_GROUPS_MAX 2048
#define RV_LEXICON_HITS_MAX 128 /* of a text; later ones are not seen */

typedef struct rv_agent_lexicon rv_agent_lexicon;

/* `name` stands in messages as the place. RV_ERR_FORMAT names the line. */
rv_status rv_agent_lexicon_parse(rv_agent_lexicon **out, const char *data, size_t size,
                                 const char *name);
void rv_agent_lexicon_destroy(rv_agent_lexicon *lexicon); /* accepts NULL */
int rv_agent_lexicon_groups(const rv_agent_lexicon *lexicon);
const char *rv_agent_lexicon_name(const rv_agent_lexicon *lexicon, int group);

typedef struct rv_agent_hit {
	uint16_t group;
	uint8_t first, last; /* words of the text */
	uint32_t phrase;     /* hash of the phrase that was found first */
} rv_agent_hit;

/* Groups found, in the order of the text; the number of hits. */
int rv_agent_lexicon_match(const rv_agent_lexicon *lexicon, const rv_agent_text *text,
                           rv_agent_hit hits[RV_LEXICON_HITS_MAX]);

/* The keyword router's evidence: weights of the hits, added up; what is negated counts against, what
 * comes later or says when counts less, and what is said first more. */
void rv_agent_lexicon_score(const rv_agent_lexicon *lexicon, const rv_agent_text *text,
                            const rv_agent_hit *hits, int n_hits, float score[RV_AGENTS]);

#endif
