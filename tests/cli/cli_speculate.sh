#!/bin/sh
# Speculative decoding by the commands, with the models that ship.
# shellcheck disable=SC2154
. tests/cli/tap.inc

story='Once upon a time'
run run -p "$story" -n 120 --temp 0 -t 1
cp "$out" "$dir/plain"

# like_plain NAME ARGUMENT...: the same text as without a draft, and some of it drafted
like_plain() {
	name=$1
	shift
	run run -p "$story" -n 120 --temp 0 -t 1 "$@"
	[ "$status" = 0 ] && cmp -s "$out" "$dir/plain" &&
		grep -q 'accepted [0-9]* of [1-9][0-9]* drafted ([0-9.]* %)' "$err"
	report "greedy text: $name" $?
}
like_plain 'the draft beside the model' --draft auto
like_plain 'a named draft, eight at a time' --draft datasets/models/pico.gguf --draft-k 8
like_plain 'adaptive lookahead' --draft auto --draft-k adaptive
like_plain 'rule greedy' --draft auto --spec-rule greedy --draft-k 2
like_plain 'lookup' --draft lookup --draft-k 1
like_plain 'a tree' --draft auto --draft-tree 3
like_plain 'an adaptive tree' --draft auto --draft-tree 2 --draft-k adaptive
like_plain 'two threads' --draft auto -t 2

# ---- at a temperature ----
run run -p "$story" -n 60 --temp 1 --seed 3
cp "$out" "$dir/plain"
run run -p "$story" -n 60 --temp 1 --seed 3 --draft auto
[ "$status" = 0 ] && cmp -s "$out" "$dir/plain" && grep -q 'nothing drafted' "$err"
report 'hot text is not drafted' $?
run run -p "$story" -n 60 --temp 1 --seed 3 --draft auto --draft-force --spec-rule greedy
[ "$status" = 0 ] && cmp -s "$out" "$dir/plain" && grep -q ' drafted (' "$err"
report 'forced: rule greedy keeps the random numbers' $?
run run -p "$story" -n 60 --temp 1 --seed 3 --draft auto --draft-force --draft-sampled
cp "$out" "$dir/first"
run run -p "$story" -n 60 --temp 1 --seed 3 --draft auto --draft-force --draft-sampled
[ "$status" = 0 ] && cmp -s "$out" "$dir/first" && ! cmp -s "$out" "$dir/plain"
report 'a drawn draft: the same text by the same seed' $?

# ---- counts ----
run run -p "$story" -n 60 --temp 0 --draft auto --json
python3 - "$out" <<'PYTHON'
import json, sys
run = json.load(open(sys.argv[1]))
d = run["draft"]
assert d["kind"] == "model" and d["model"].endswith("pico.gguf") and d["k"] == 4 and d["rule"] == "exact"
assert d["rounds"] + d["plain_rounds"] + d["accepted"] == run["n_generated"] - 1
assert sum(d["accepted_at"]) == d["accepted"] and d["drafted"] >= d["accepted"] > 0
assert sum(d["reached_at"]) == d["accepted"] + d["rejections"]
PYTHON
report 'JSON: counts add up' $?
run run -p "$story" -n 5 --json
python3 -c 'import json, sys; sys.exit(json.load(open(sys.argv[1]))["draft"] is not None)' "$out"
report 'JSON: no draft' $?

# ---- a conversation ----
talk() {
	printf '%s\n' 'What is 2 + 2?' 'And 3 + 3?' | "$ruvltra" chat --template chatml --temp 0 -n 40 "$@" 2>"$err"
}
talk >"$dir/plain" && talk --draft auto --draft-k adaptive >"$out" && cmp -s "$out" "$dir/plain" && [ -s "$out" ]
report 'chat: two turns as without a draft' $?

# ---- refused ----
"$ruvltra" synth pico "$dir/other-nano.gguf" >/dev/null 2>&1
refused 'another vocabulary' 1 'draft: ' run -p a --draft "$dir/other-nano.gguf"
grep -q "token [0-9]* is '" "$err"
report 'the message names a token' $?
refused 'a policy of tiers' 1 'rejected would count' run -p a --draft lookup --kv-policy three-tier
refused 'a missing file' 1 'nowhere.gguf' run -p a --draft "$dir/nowhere.gguf"
refused 'no draft beside the model' 1 'no draft beside it' run -p a -m "$dir/other-nano.gguf" --draft auto
for k in 0 9 four -1 ''; do
	refused "--draft-k '$k'" 2 '--draft-k' run -p a --draft auto --draft-k "$k"
done
refused 'an unknown rule' 2 '--spec-rule' run -p a --draft auto --spec-rule hopeful
refused 'an empty name' 2 '--draft' run -p a --draft ''
finish
