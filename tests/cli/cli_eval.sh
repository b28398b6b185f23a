#!/bin/sh
# ruvltra eval: a tiny model of random weights on small sets; resuming, refusing, judging.
# shellcheck disable=SC2154
. tests/cli/tap.inc

sets=$PWD/tests/eval/fixtures
model=$dir/pico.gguf
"$ruvltra" synth pico "$model" >/dev/null 2>"$err" || exit 1

# says NAME EXPRESSION [FILE]: of the JSON value `r` in FILE ($out), and of `own` in it
says() {
	python3 - "${3:-$out}" "$2" <<'END' 2>>"$err"
import json, sys
r = json.load(open(sys.argv[1]))
own = r["ruvltra"]
sys.exit(0 if eval("(" + sys.argv[2] + ")") else 1)
END
	report "$1" $?
}

# ---- the command line ----
accepted "help needs no model" '--fewshot' eval --help
refused "no task" 2 "TASK: none given; known are mmlu, mmlu_continuation, humaneval" eval -m "$model"
refused "unknown task" 2 "TASK 'mmmlu': not known" eval mmmlu -m "$model"
refused "negative limit" 2 "--limit" eval mmlu -m "$model" --limit -1
refused "limit is a number" 2 "--limit" eval mmlu -m "$model" --limit 3x
refused "resume and force" 2 "--resume, --force" eval mmlu -m "$model" --resume --force --out "$dir/r"
refused "resume without a file" 2 "--resume" eval mmlu -m "$model" --resume
refused "judge is for programs" 2 "--judge" eval mmlu --judge "$dir/s"
refused "judge or model" 2 "--judge, --model" eval humaneval --judge "$dir/s" -m "$model"
refused "k is for programs" 2 "--k" eval gsm8k -m "$model" --k 2
refused "one completion of a model" 2 "--k" eval humaneval -m "$model" --k 1,2
refused "one file twice" 2 "the same file" eval mmlu -m "$model" --out "$dir/r" --samples "$dir/r"
refused "empty name" 2 "--out" eval mmlu -m "$model" --out ""
refused "fixed shots" 2 "--fewshot: the task has a fixed prompt" eval truthfulqa_mc1 -m "$model" --data "$sets" --fewshot 5
refused "too many shots" 1 "--fewshot: 3, but mmlu_anatomy has 1" eval mmlu -m "$model" --data "$sets" --fewshot 3

# ---- files, before the model is looked at ----
none=$dir/none.gguf
: >"$dir/there"
refused "no data" 1 "$dir: no data of gsm8k" eval gsm8k -m "$none" --data "$dir"
refused "a result is there" 1 "there: is there already" eval mmlu -m "$none" --data "$sets" --out "$dir/there"
refused "samples are there" 1 "there: is there already" eval mmlu -m "$none" --data "$sets" --samples "$dir/there"
refused "no folder for the result" 1 "$dir/no/r.json" eval mmlu -m "$none" --data "$sets" --out "$dir/no/r.json"
refused "result over the model" 1 "also an input" eval mmlu -m "$model" --data "$sets" --out "$model" --force
refused "no such model" 1 "$none" eval mmlu -m "$none" --data "$sets" --fewshot 1
mkdir -p "$dir/own/test" "$dir/own/dev"
cp "$sets/mini-mmlu/dev/anatomy_dev.csv" "$dir/own/dev/x_dev.csv"
printf 'q,a,b,c,d,A\nq,a,b,\377,d,A\n' >"$dir/own/test/x_test.csv"
refused "not UTF-8" 1 "x_test.csv:2: document 1: choice C: not UTF-8" eval mmlu -m "$none" --data "$dir/own" --fewshot 1

# ---- a run ----
run eval mmlu -m "$model" --data "$sets" --fewshot 1 --out "$dir/m.json" --samples "$dir/m.jsonl" --json
says "stdout has the result of the file" "r.keys() == json.load(open('$dir/m.json')).keys() and
	r['task_hashes'] == json.load(open('$dir/m.json'))['task_hashes']"
says "members of the harness" 'all(k in r for k in ("results", "groups", "group_subtasks", "configs", "versions",
	"n-shot", "higher_is_better", "n-samples", "config", "git_hash", "date", "task_hashes", "model_name",
	"total_evaluation_time_seconds"))'
says "counts and sources" 'r["n-samples"]["mmlu_world_trivia"] == {"original": 3, "effective": 3} and own["data"]["files"] == 4
	and own["data"]["published"] is False and own["tokens"]["evaluated"] < own["tokens"]["without_sharing"]'
[ "$(wc -l <"$dir/m.jsonl")" = 4 ]
report "a sample a document" $?
run eval mmlu -m "$model" --data "$sets" --fewshot 1
[ "$status" = 0 ] && head -n 2 "$out" | tail -n 1 | grep -q '^| *Tasks *|Version|Filter|n-shot|Metric|' &&
	grep -q '^|mmlu  *|  *2|none  |     1|acc   |↑  |' "$out" && grep -q 'not the published set' "$out"
report "the harness's table, and what is different" $?
"$ruvltra" eval mmlu -m "$model" --data "$sets" --fewshot 1 --samples /dev/stdout 2>"$err" | cat >"$out"
[ "$(grep -c '^{"task":"mmlu' "$out")" = 4 ] && [ ! -e /dev/stdout.journal ]
report "samples into a pipe" $?
run eval mmlu -m "$model" --data "$sets" --fewshot 1 --limit 1 --json
says "a limit is said" 'r["config"]["limit"] == 1 and r["n-samples"]["mmlu_world_trivia"] == {"original": 3, "effective": 1}'
run eval mmlu_continuation -m "$model" --data "$sets" --fewshot 1 --json
says "the choice itself, by its text and by its characters" 'set(r["results"]) > {"mmlu_anatomy_continuation",
	"mmlu_world_trivia_continuation"} and all({"acc,none", "acc_norm,none"} <= set(v) for v in r["results"].values())'
for task in truthfulqa_mc1 truthfulqa_mc2 gsm8k; do
	run eval $task -m "$model" --data "$sets" --json --max-tokens 8
	says "$task runs" 'len(r["results"]) == 1 and 0 <= min(v for k, v in list(r["results"].values())[0].items()
		if k.startswith(("acc,", "exact_match,"))) <= 1'
done

# ---- a draft beside its target ----
seq 400 >"$dir/text"
refused "draft: no text" 2 "eval draft --file" eval draft -m "$model" --draft "$model"
refused "draft: a short text" 1 "tokens, --chunk is 65536" eval draft -m "$model" --draft "$model" -f "$dir/text" --chunk 65536
refused "draft: k" 2 "--k" eval draft -m "$model" --draft "$model" -f "$dir/text" --k 17
run eval draft -m "$model" --draft "$model" -f "$dir/text" --chunk 64 --chunks 3 --k 3 --times 5 --json
report "draft: runs" "$status"
python3 -c 'import json, sys
r = json.load(open(sys.argv[1]))
sys.exit(not (r["starts"] == 3 * 33 and r["drafted"] == r["accepted"] == 9 * 33 and r["tokens_per_step"]["value"] == 4
	and r["positions"][2] == {"position": 3, "reached": 99, "accepted": 99, "share": 1.0} and r["steps"]["draft_ratio"] > 0))' "$out"
report "draft: a model agrees with itself" $?
"$ruvltra" synth pico "$dir/draft.gguf" --seed 5 >/dev/null 2>&1
run eval draft -m "$model" --draft "$dir/draft.gguf" -f "$dir/text" --chunk 64 --chunks 3 --times 5
grep -q '^accepted / drafted  *[0-9.]* %' "$out" && ! grep -q '^accepted / drafted  *100' "$out" && ! grep -q nan "$out"
report "draft: another model does not" $?

# ---- resuming ----
cp "$dir/m.json" "$dir/before.json"
run eval mmlu -m "$model" --data "$sets" --fewshot 1 --out "$dir/m.json" --resume --json
says "a whole run is not repeated" "own['resumed_documents'] == 4 and own['tokens']['evaluated'] == 0 and
	r['results'] == json.load(open('$dir/before.json'))['results']" "$dir/m.json"
refused "other options" 1 "fewshot was 1, is 0" eval mmlu -m "$model" --data "$sets" --fewshot 0 --out "$dir/m.json" --resume
"$ruvltra" synth pico "$dir/other.gguf" --seed 1 >/dev/null
refused "another model" 1 "model_sha256 was" eval mmlu -m "$dir/other.gguf" --data "$sets" --fewshot 1 --out "$dir/m.json" --resume
refused "another task" 1 "task was" eval gsm8k -m "$model" --data "$sets" --out "$dir/m.json" --resume
mv "$dir/m.json.journal" "$dir/m.away"
refused "a journal that is gone" 1 "m.json.journal is not" eval mmlu -m "$model" --data "$sets" --fewshot 1 --out "$dir/m.json" --resume
mv "$dir/m.away" "$dir/m.json.journal"
run eval mmlu -m "$dir/other.gguf" --data "$sets" --fewshot 1 --out "$dir/m.json" --force --json
says "force begins anew" 'own["resumed_documents"] == 0'

# 200 documents: long enough to be ended on the way
mkdir "$dir/long"
cp "$sets/mini-gsm8k/train.jsonl" "$dir/long/"
for i in $(seq 200); do
	echo "{\"question\": \"What is $i and $i?\", \"answer\": \"#### $((2 * i))\"}"
done >"$dir/long/test.jsonl"
# ended NAME SIGNAL: starts a run, ends it once its journal has grown, and leaves its status in $status
ended() {
	rm -f "$dir/l.json"*
	"$ruvltra" eval gsm8k -m "$model" --data "$dir/long" --max-tokens 24 --out "$dir/l.json" >"$out" 2>"$err" </dev/null &
	pid=$!
	for _ in $(seq 200); do
		size=$(stat -c %s "$dir/l.json.journal" 2>/dev/null || echo 0)
		[ "$size" -gt 2000 ] && break
		sleep 0.05
	done
	kill -"$2" $pid
	wait $pid
	status=$?
	[ "$size" -gt 2000 ] && [ ! -e "$dir/l.json" ] && [ "$status" = "$3" ]
	report "$1: no result yet (exit $status)" $?
}
# goes_on NAME: the run is finished, and is what it would have been
goes_on() {
	refused "$1: not without being told" 1 "is there already" eval gsm8k -m "$model" --data "$dir/long" --max-tokens 24 --out "$dir/l.json"
	run eval gsm8k -m "$model" --data "$dir/long" --max-tokens 24 --out "$dir/l.json" --samples "$dir/l.jsonl" --resume --json
	says "$1: resumes" '0 < own["resumed_documents"] < 200 and r["n-samples"]["gsm8k"]["effective"] == 200'
	cmp -s "$dir/l.jsonl" "$dir/whole.jsonl"
	report "$1: the same samples" $?
	rm -f "$dir/l.jsonl"
}
run eval gsm8k -m "$model" --data "$dir/long" --max-tokens 24 --samples "$dir/whole.jsonl"
ended "killed" KILL 137
goes_on "killed"
ended "interrupted" TERM 143
grep -q 'interrupted; .* of 200 documents are in' "$err"
report "interrupted: says what is kept" $?
goes_on "interrupted"

# ---- judging ----
code=$sets/mini-humaneval
python3 - "$code/HumanEval.jsonl" >"$dir/s.jsonl" <<'END'
import json, sys
for line in open(sys.argv[1]):
    task = json.loads(line)
    for completion in (task["canonical_solution"], "    pass\n"):
        print(json.dumps({"task_id": task["task_id"], "completion": completion}))
END
sandboxed=true
unshare --user --map-root-user --pid --mount --net --ipc --uts --fork true 2>/dev/null || sandboxed=false
if ! $sandboxed; then
	skip "judging" "no namespaces"
else
	run eval humaneval --judge "$dir/s.jsonl" --data "$code" --k 1,2 --samples "$dir/j.jsonl" --json
	says "right and wrong programs" 'r["results"]["humaneval"]["pass@1,create_test"] == 0.5 and
		r["results"]["humaneval"]["pass@2,create_test"] == 1 and own["verdicts"] == {"passed": 2, "failed": 2}
		and "seccomp" in own["isolation"]'
	refused "three of two" 1 "pass@3 of Mini/0 needs as many samples, it has 2" eval humaneval --judge "$dir/s.jsonl" --data "$code" --k 3
	head -n 2 "$dir/s.jsonl" >"$dir/half.jsonl"
	refused "a task without a completion" 1 "1 of 2 tasks have no completion, the first is Mini/1" eval humaneval --judge "$dir/half.jsonl" --data "$code"
	run eval humaneval --judge "$dir/half.jsonl" --data "$code" --limit 1 --json
	says "a limit leaves the rest out" 'r["n-samples"]["humaneval"] == {"original": 2, "effective": 1}'
	run eval humaneval -m "$model" --data "$code" --max-tokens 16 --json --samples "$dir/h.jsonl"
	says "completions of a model" 'r["results"]["humaneval"]["pass@1,create_test"] == 0 and own["isolation"] != ""'
	run eval humaneval --judge "$dir/h.jsonl" --data "$code" --json
	says "samples can be judged again" 'r["results"]["humaneval"]["pass@1,create_test"] == 0'
fi

# ---- every task ----
refused "all: each task's own shots" 2 "--fewshot" eval all -m "$model" --fewshot 1
refused "all: nothing to judge" 2 "--judge" eval all --judge "$dir/s"
refused "all: needs every set" 1 "no data of mmlu" eval all -m "$model" --data "$dir"
if ! $sandboxed; then
	skip "every task" "no namespaces"
else
	short="eval all -m $model --limit 1 --max-tokens 4"
	# shellcheck disable=SC2086
	run $short --out "$dir/all.json" --samples "$dir/all.jsonl" --json
	says "all: one result of every task" 'set(own["tasks"]) == {"mmlu", "mmlu_continuation", "humaneval", "gsm8k", "truthfulqa_mc1", "truthfulqa_mc2",
	"routing"} and all(k in r["results"] for k in own["tasks"]) and set(r["groups"]) > {"mmlu", "mmlu_continuation", "routing"} and
	r["n-samples"]["routing_heldout"]["effective"] == 1 and abs(own["tasks"]["routing"]["chance"] - 1 / 13) < 1e-9 and
	all(k in r["task_hashes"] for k in ("gsm8k", "routing_requests"))'
	[ "$(wc -l <"$dir/all.jsonl")" = 121 ] # 57 subjects twice, 1 + 2 filters + 1 + 1, 2 sets
	report "all: samples of every task" $?
	run eval mmlu -m "$model" --limit 1 --out "$dir/alone.json"
	says "all: as each alone" "r['results'] == {k: v for k, v in json.load(open('$dir/all.json'))['results'].items() if k.startswith('mmlu') and 'continuation' not in k}" "$dir/alone.json"
	# shellcheck disable=SC2086
	run $short
	[ "$status" = 0 ] && [ "$(grep -c '^|Tasks\|^|  *Tasks' "$out")" = 1 ] && grep -q '^|routing ' "$out" && grep -q '^chance: 0.0769' "$out"
	report "all: one table" $?
	# ended between two tasks, and within one: the journals say how far it got
	rm "$dir/all.json" "$dir/all.jsonl" "$dir/all.json.routing.journal"
	# shellcheck disable=SC2086
	run $short --out "$dir/all.json" --samples "$dir/all.jsonl" --resume --json
	says "all: goes on" 'own["tasks"]["mmlu"]["resumed_documents"] == 57 and own["tasks"]["mmlu"]["tokens"]["evaluated"] == 0 and
	own["tasks"]["routing"]["resumed_documents"] == 0 and own["tasks"]["routing"]["tokens"]["evaluated"] > 0'
fi

# ---- the published sets ----
tiny=$models/tiny-qwen2/tiny-qwen2.q8_0.gguf
if [ ! -f "$tiny" ]; then
	skip "published sets" "no reference data"
else
	for task in mmlu mmlu_continuation humaneval gsm8k truthfulqa_mc1 truthfulqa_mc2; do
		[ $task = humaneval ] && ! $sandboxed && continue
		run eval $task -m "$tiny" --data "$reference/datasets" --limit 1 --max-tokens 16 --json
		says "$task, published" 'own["data"]["published"] is True and own["data"]["version"] != "" and
			sum(n["original"] for n in r["n-samples"].values()) in (14042, 164, 1319, 817)'
	done
fi
finish
