#!/bin/sh
# ruvltra route: what it prints, from what it reads, what it refuses.
# shellcheck disable=SC2154
. tests/cli/tap.inc

learnt=$PWD/datasets/models/router.bin
tab=$(printf '\t')

run route 'Please review my pull request before I merge it'
[ "$status" = 0 ] && grep -Eq "^reviewer${tab}[01]\.[0-9]{3}$" "$out" && [ "$(wc -l <"$out")" = 1 ]
report 'without options: agent, TAB, confidence' $?

for router in keyword embedding hybrid; do
	accepted "$router" debugger route --router $router 'The server crashes with a segmentation fault, find the bug'
done

printf 'Write unit tests for the parser\nThe query is slow, speed it up\r\nWrite a README' >"$dir/lines"
run route -f "$dir/lines"
[ "$status" = 0 ] && [ "$(cut -f1 "$out" | tr '\n' ' ')" = 'tester optimizer documenter ' ]
report 'a file: a line a request, CRLF and a missing last line feed too' $?

"$ruvltra" route -f - <"$dir/lines" 2>"$err" | cmp -s - "$out"
report 'standard input' $?

run route --json 'Please review my pull request'
[ "$status" = 0 ] && python3 - "$out" <<'PY'
import json, sys
(row,) = json.load(open(sys.argv[1]))
assert row["agent"] == "reviewer" and row["class"] in ("review", "ambiguous")
assert row["complexity"] in ("easy", "medium", "hard") and 0 < row["quality"] < 1
assert abs(sum(row["probabilities"].values()) - 1) < 1e-3 and len(row["probabilities"]) == 13
assert len(row["neighbours"]) == 5 and all(-1.01 <= n["similarity"] <= 1.01 for n in row["neighbours"])
assert row["confidence"] == row["probabilities"]["reviewer"]
PY
report '--json: class, complexity, quality, neighbours' $?

refused 'neither text nor file' 2 'TEXT' route
refused 'text and file' 2 'TEXT' route -f "$dir/lines" text
refused 'no such router' 2 'keyword' route --router oracle text
refused 'no words' 1 'words' route '?!'
: >"$dir/empty"
refused 'an empty file' 1 'empty' route -f "$dir/empty"
refused 'no such file' 1 "$dir/none" route -f "$dir/none"
head -c 5000 "$learnt" >"$dir/cut.bin"
refused 'a file that was cut off' 1 "$dir/cut.bin" route --learnt "$dir/cut.bin" text
{ head -c 9000 "$learnt" && printf 'x' && tail -c +9002 "$learnt"; } >"$dir/changed.bin"
refused 'a file that was changed' 1 'checksum' route --learnt "$dir/changed.bin" text
refused 'a foreign file' 1 "$dir/lines" route --learnt "$dir/lines" text
finish
