#!/bin/sh
# ruvltra embed and ruvltra train embedder: files and numbers agree, results repeat, faults are named.
# shellcheck disable=SC2154
. tests/cli/tap.inc

lines=$dir/lines
printf 'Deploy the build.\nWhy is the total wrong?\r\nDeploy the build.' >"$lines"

# floats FILE EXPRESSION: of the list x of the file's numbers
floats() {
	python3 - "$1" "$2" <<'END'
import math, struct, sys
data = open(sys.argv[1], "rb").read()
x = struct.unpack("<%df" % (len(data) // 4), data)
sys.exit(0 if eval(sys.argv[2]) else 1)
END
}

run embed -f "$lines" --out "$dir/a.f32"
[ "$status" = 0 ] && [ "$(cat "$out")" = '3 768' ]
report 'prints n and dim' $?
floats "$dir/a.f32" 'len(x) == 3 * 768 and x[:768] == x[1536:] and x[:768] != x[768:1536]'
report 'equal lines have equal vectors, others have others' $?
floats "$dir/a.f32" 'all(abs(math.fsum(v * v for v in x[i:i + 768]) - 1) < 1e-5 for i in (0, 768, 1536))'
report 'vectors have length 1' $?
run embed -f "$lines" --out "$dir/b.f32" -t 1 --json
[ "$status" = 0 ] && grep -q '"learned_map": true' "$out" && cmp -s "$dir/a.f32" "$dir/b.f32"
report 'one thread gives the same bits; the shipped embedder has its own map' $?
run embed -f - --out "$dir/c.f32" --dim native </dev/null
[ "$status" = 1 ] && [ ! -f "$dir/c.f32" ]
report 'no lines, no file' $?
run embed -m datasets/models/pico.gguf -f "$lines" --out "$dir/n.f32" --dim native --json
grep -q '"dim": 128' "$out" && grep -q '"learned_map": false' "$out" && floats "$dir/n.f32" 'len(x) == 3 * 128'
report 'native vectors of another model' $?

printf 'a\n\nb\n' >"$dir/gap"
refused 'an empty line' 1 'line 2' embed -f "$dir/gap" --out "$dir/x.f32"
refused 'no file of lines' 2 '--file' embed --out "$dir/x.f32"
refused 'no file to write' 2 '--out' embed -f "$lines"
refused 'the file that is read' 2 'is read too' embed -f "$lines" --out "$lines"
refused 'an unknown dimension' 2 'native' embed -f "$lines" --out "$dir/x.f32" --dim 12
refused 'a missing file' 1 'nowhere' embed -f "$dir/nowhere" --out "$dir/x.f32"

# ---- training: two classes told apart by their words ----
table() {
	printf 'agent\ttext\n'
	for thing in tea milk bread soup fish rice corn salt; do
		printf 'coder\tplease write a new program for %s\n' "$thing"
		printf 'tester\tplease check by a test whether %s holds\n' "$thing"
	done
}
table >"$dir/data.tsv"
printf 'agent\ttext\ncoder\twrite something new for wine\ntester\tcheck whether wine holds\n' >"$dir/valid.tsv"
learn() {
	run train embedder --init datasets/models/pico.gguf --data "$dir/data.tsv" --valid "$dir/valid.tsv" \
		--topics 4 --steps 20 --lr 2e-3 --products f32 "$@"
}
learn --out "$dir/e1.gguf" --json --min-score 1
[ "$status" = 0 ] && grep -q '"neighbours": 1.0' "$out"
report 'two classes are learnt' $?
learn --out "$dir/e2.gguf" -t 1
cmp -s "$dir/e1.gguf" "$dir/e2.gguf"
report 'one thread trains the same file' $?
run embed -m "$dir/e1.gguf" -f "$lines" --out "$dir/t.f32" --json
grep -q '"learned_map": true' "$out"
report 'it has a map' $?
sed 's/^coder\tplease write/tester\tplease write/;t;s/^tester\tplease check/coder\tplease check/' \
	"$dir/data.tsv" >"$dir/swapped.tsv"
run train embedder --init datasets/models/pico.gguf --data "$dir/swapped.tsv" --valid "$dir/valid.tsv" --topics 4 \
	--steps 20 --lr 2e-3 --out "$dir/e3.gguf" --min-score 0.5
[ "$status" = 1 ] && grep -q '^ruvltra: .*is below' "$err"
report 'with the classes exchanged the score fails' $?
[ ! -f "$dir/e3.gguf" ]
report 'and writes nothing' $?
printf 'agent\tcategory\ttext\ncoder\tx\n' >"$dir/ragged.tsv"
refused 'a ragged table' 1 'line 2' train embedder --init datasets/models/pico.gguf --data "$dir/ragged.tsv" \
	--out "$dir/x.gguf"
printf 'who\ttext\ncoder\tx\n' >"$dir/head.tsv"
refused 'a table without agents' 1 "'agent'" train embedder --init datasets/models/pico.gguf \
	--data "$dir/head.tsv" --out "$dir/x.gguf"
refused 'no model' 2 '--init' train embedder --data "$dir/data.tsv" --out "$dir/x.gguf"
finish
