/* The sub-commands, one row and one file (cmd_<name>.c) each.
 * X(name, words, most words, has its own -t, summary, further help) */
#ifndef RV_CLI_COMMANDS_H
#define RV_CLI_COMMANDS_H

#include "cli/cli.h"

/* clang-format off */
#define RV_COMMAND_TABLE(X)                                                                            \
	X(info, "", 0, 0, "Describe a model file (-m) or this machine (--system)", NULL)               \
	X(tokenize, "[TEXT]", 1, 0, "Turn text into token ids, or ids into bytes",                     \
	  "Bytes are taken as they are; ids are printed on one line, separated by blanks.\n")          \
	X(logits, "", 0, 0, "Write the logits of every token of a sequence to a file",                 \
	  "The file is raw little-endian f32, n_tokens x vocabulary.\n")                               \
	X(run, "", 0, 0, "Continue a prompt",                                                          \
	  "Text alone goes to stdout as it is made; timings go to stderr.\n")                          \
	X(chat, "", 0, 0, "Talk with a model: a line of stdin is a turn, its answer goes to stdout",   \
	  "The file's chat template is recognised, never run. Ends at the end of input.\n")            \
	X(embed, "", 0, 0, "Write a vector of length 1 for each line of a file",                        \
	  "The file is raw little-endian f32, lines x numbers; `n dim` goes to stdout. 768 numbers come from\n" \
	  "the projection in the model's file, or from a fixed random one; native: n_embd, not projected.\n" \
	  "Without -m: the embedder that ships.\n")                                                   \
	X(route, "[TEXT]", 1, 0, "Say which agent should act on a request, and how sure that is",         \
	  "A line a request: agent, TAB, confidence. --json adds class, complexity, quality, neighbours.\n") \
	X(quantize, "IN [OUT] TYPE", 3, 0, "Write a model file in another type or mix of types",       \
	  "With --dry-run IN may be a preset or llama-2-7b, OUT is not needed and nothing is written.\n") \
	X(synth, "PRESET OUT", 2, 0, "Write a model file of a preset's shape with random weights",     \
	  "For speed and memory at true shapes; its text means nothing.\n")                            \
	X(perplexity, "", 0, 0, "Score a text, alone or beside a base model (KL divergence)",            \
	  "Chunks of -c tokens, the second half of each scored. The estimates go to stdout, the running\n" \
	  "ones to stderr; +/- and ± are standard errors over tokens.\n")                              \
	X(eval, "TASK", 1, 0, "Score a model by a benchmark, as lm-evaluation-harness does",             \
	  "TASK: mmlu, mmlu_continuation, humaneval, gsm8k, truthfulqa_mc1, truthfulqa_mc2, routing; or all\n" \
	  "of them. The table goes to stdout, progress to stderr. With --out or --samples journals beside it\n" \
	  "let --resume go on after a kill. `ruvltra eval draft` compares two models; it has its own --help.\n")     \
	X(convert, "DIR OUT", 2, 0, "Write a model file from a published one (safetensors)",           \
	  "DIR holds model.safetensors, or shards and model.safetensors.index.json.\n")                \
	X(train, "", 0, 1, "Train a model from token files",                                           \
	  "`ruvltra train tokenizer` and `ruvltra train pack` make those from text; each has its own --help.\n") \
	X(lora, "train|merge|apply|info", 1, 0, "Train, merge, fold in and describe LoRA adapters",        \
	  "`ruvltra lora train`, `merge`, `apply` and `info` each have their own --help.\n")              \
	X(bank, "ACTION [TEXT|FILE|ID]", 2, 0, "Keep what worked and find it by meaning (reasoning bank)",  \
	  "ACTION: add TEXT --quality Q, add -f TRAJECTORIES, search TEXT, export FILE, import FILE, show ID,\n" \
	  "remove ID, distill, prune, stats. search prints similarity, decayed quality, id and task of each.\n" \
	  "Without -m: the embedder that ships.\n")   \
	X(learn, "background|deep", 1, 0, "Run one pass of a learning loop over what a store holds",       \
	  "A line a part: what it did, or why not. background: index, router, consolidate, tune, ewc,\n"   \
	  "policies. deep: filter, prune, cluster, transfer, tune, distill, archive. What was learnt is kept\n" \
	  "in DIR/sona, old witness entries in DIR/archive. Exit status 1 when a part failed.\n")        \
	X(index, "build|search|info", 1, 0, "Build and search an index of vectors (HNSW)",               \
	  "`ruvltra index build`, `search` and `info` each have their own --help.\n")                    \
	X(bench, "", 0, 1, "Measure prompt and decode speed",                                          \
	  "Lists and ranges (1,2,8-32*2,64-128+32) are crossed; repetitions are interleaved over the\n" \
	  "tests of a model, after a warm-up of each that is not counted.\n")
/* clang-format on */

#define ROW(name, words, max_words, own_threads, summary, notes) int rv_cmd_##name(rv_cli *cli);
RV_COMMAND_TABLE(ROW)
#undef ROW

#endif
