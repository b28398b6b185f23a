#!/bin/sh
# ruvltra bank: what is added is found, carried elsewhere, refused when it is wrong.
. tests/cli/tap.inc
store=$dir/store other=$dir/other
python=$(command -v python3)

run bank add --store "$store" "Sort a list of numbers in C" --quality 0.9 --action quicksort --verdict success
id=$(cat "$out")
[ "$status" = 0 ] && echo "$id" | grep -qE '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
report "add prints the id" $?
run bank add --store "$store" "What is the capital of France?" --quality 0.8 --metadata '{"tokens":12}' --json
[ "$status" = 0 ] && grep -q '"n": 1' "$out"
report "add --json" $?
run bank add --store "$store" "Bake a cake" --quality 0.1
report "a bad one is kept too" "$status"
run bank search --store "$store" "Sort a list of numbers in C"
[ "$status" = 0 ] && [ "$(wc -l <"$out")" = 2 ] && head -n 1 "$out" | cut -f 3 | grep -qx "$id" &&
	head -n 1 "$out" | grep -q '^1.0000	0.9000	'
report "search finds the same text first, above the threshold of quality" $?
accepted "search below the threshold" "Bake a cake" bank search --store "$store" cake --min-quality 0 -k 3
run bank search --store "$store" list --verdict success --json
[ "$status" = 0 ] && [ "$(grep -c trajectory_id "$out")" = 1 ] && grep -q '"task": "Sort a list' "$out"
report "search by verdict, as JSON" $?
accepted "show" '"action":"quicksort"' bank show --store "$store" "$id"
accepted "stats verify" "3 of 50000 patterns" bank stats --store "$store"
accepted "another variant has its own bank" "0 of 100000 patterns" bank stats --store "$store" --variant coder

accepted "export" "3 patterns" bank export --store "$store" "$dir/all.jsonl"
run bank export --store "$store" -
[ "$status" = 0 ] && cmp -s "$out" "$dir/all.jsonl"
report "export to stdout is the same" $?
accepted "import" "3 added, 0 here already" bank import --store "$other" "$dir/all.jsonl"
accepted "import again" "0 added, 3 here already" bank import --store "$other" "$dir/all.jsonl"
accepted "imported patterns are federated" '"source": "federated"' bank search --store "$other" list --json
run bank search --store "$other" "Sort a list of numbers in C" -k 1
[ "$status" = 0 ] && cut -f 3 "$out" | grep -qx "$id"
report "and found" $?
{ head -n 1 "$dir/all.jsonl"; echo '{"task":"x"}'; } >"$dir/bad.jsonl"
refused "a malformed line is named" 1 "bad.jsonl:2: key 'final_quality' is missing" \
	bank import --store "$dir/third" "$dir/bad.jsonl"
accepted "and nothing was imported" "0 of 50000 patterns" bank stats --store "$dir/third"

# trajectories of other programs: no embedding, their task is embedded
cat >"$dir/given.jsonl" <<'JSON'
{"task": "Write a unit test", "actions": [{"action": "write", "quality": 0.7}], "final_quality": 0.75, "verdict": "partial", "metadata": {"agent": "tester"}}
{"trajectory_id": "0d9e0e55-8a25-4c7f-9a33-000000000001", "task": "Fix a crash", "states": [], "actions": [{"action": "debug", "quality": 0.9}], "final_quality": 0.9}
JSON
run bank add --store "$store" -f "$dir/given.jsonl"
[ "$status" = 0 ] && [ "$(wc -l <"$out")" = 2 ] && grep -qx 0d9e0e55-8a25-4c7f-9a33-000000000001 "$out"
report "add -f" $?
refused "an id twice" 1 "UNIQUE" bank add --store "$store" -f "$dir/given.jsonl"
accepted "all or none" "5 of 50000 patterns" bank stats --store "$store"
accepted "distill" "5 patterns, 0 merged" bank distill --store "$store" --merge 1.5
accepted "prune keeps what is young" "0 removed" bank prune --store "$store" --min-quality 1 --older-than 1
accepted "prune" "1 removed" bank prune --store "$store" --min-quality 0.5
run bank remove --store "$store" "$id"
report "remove" "$status"
refused "it is gone" 1 "no trajectory '$id'" bank show --store "$store" "$id"

$python -c 'print([0.5] * 768)' >"$dir/vector.json"
accepted "search by a vector" "	" bank search --store "$store" -f "$dir/vector.json" --min-quality 0
$python -c 'print([0.5] * 767)' >"$dir/short.json"
refused "a vector of another length" 1 "not an array of 768 numbers" bank search --store "$store" -f "$dir/short.json"
$python -c 'print([0] * 768)' >"$dir/zero.json"
refused "a vector of length 0" 1 "0" bank search --store "$store" -f "$dir/zero.json"
refused "vectors of another model do not compare" 1 "holds vectors of embedder" \
	bank search --store "$store" -m datasets/models/pico.gguf list

refused "no action" 2 "expected add, search" bank
refused "an unknown action" 2 "frob: expected add, search" bank frob --store "$store"
refused "no store" 2 "--store" bank search x
refused "no text" 2 "search: TEXT or -f FILE is needed" bank search --store "$store"
refused "no quality" 2 "--quality" bank add --store "$store" x
refused "quality beyond 1" 2 "quality" bank add --store "$store" x --quality 1.5
refused "text and file" 2 "TEXT or -f FILE" bank add --store "$store" x -f "$dir/given.jsonl"
refused "an argument too many" 2 "takes no argument" bank stats --store "$store" x
refused "a store that is not there" 1 "memory.db" bank search --store "$dir/none" x
refused "metadata that is no object" 1 "metadata" bank add --store "$store" x --quality 1 --metadata '[1]'
echo "not a database" >"$dir/third/memory.db"
refused "a file that is no database" 1 "no SQLite database" bank stats --store "$dir/third"
run bank --help
[ "$status" = 0 ] && grep -q "distill" "$out" && [ ! -s "$err" ]
report "--help" $?
finish
