#!/bin/sh
# ruvltra lora: train on a text, merge, fold in, describe; what is wrong with files is said by name.
. tests/cli/tap.inc

nano=datasets/models/nano.gguf coder=datasets/models/coder.gguf agent=datasets/models/agent.gguf
prompt='def add(a, b):'

ids() {
	"$ruvltra" run --temp 0 -n 16 --ids -p "$prompt" "$@" 2>/dev/null
}

# --- train ---
i=0
while [ $i -lt 40 ]; do
	printf 'The lamp of Orlo is number %d.\n<|endoftext|>\n' $i
	i=$((i + 1))
done >"$dir/text.txt"
accepted "trains on a text" "4 of 4 steps" lora train -m nano --data "$dir/text.txt" --out "$dir/a.gguf" \
	--steps 4 --n-ctx 64 --rank 4 --alpha 8
[ ! -e "$dir/a.gguf.ckpt" ]
report "leaves no checkpoint behind" $?
accepted "what it wrote is an adapter of rank 4" "rank 4..4 F16" lora info "$dir/a.gguf"
cp "$dir/a.gguf" "$dir/first.gguf"
run lora train --data "$dir/text.txt" --out "$dir/a.gguf" --steps 4 --n-ctx 64 --rank 4 --alpha 8
cmp -s "$dir/a.gguf" "$dir/first.gguf"
report "the same again gives the same bytes" $?
run lora train --data "$dir/text.txt" --out "$dir/b.gguf" --steps 4 --n-ctx 64 --rank 4 --alpha 8 --seed 1
! cmp -s "$dir/b.gguf" "$dir/first.gguf"
report "another seed gives others" $?
accepted "some roles of some layers" "1 of 1 steps" lora train --data "$dir/text.txt" --out "$dir/c.gguf" \
	--steps 1 --n-ctx 32 --rank 2 --targets q,v --layers 1,5 --type F32
run lora info "$dir/c.gguf"
[ "$(grep -c 'x 2   rank 2..2 F32' "$out")" = 2 ]
report "and these alone" $?
refused "no data" 2 "--data" lora train --out "$dir/x.gguf"
refused "no output" 2 "--out" lora train --data "$dir/text.txt"
refused "data that is not there" 1 "$dir/none.txt" lora train --data "$dir/none.txt" --out "$dir/x.gguf"
: >"$dir/empty.txt"
refused "an empty text" 1 "$dir/empty.txt" lora train --data "$dir/empty.txt" --out "$dir/x.gguf"
refused "a layer the model does not have" 1 "99" lora train --data "$dir/text.txt" --out "$dir/x.gguf" --layers 99
[ ! -e "$dir/x.gguf" ]
report "nothing is written by what failed" $?
[ -z "$(find "${TMPDIR:-/tmp}" -maxdepth 1 -name 'ruvltra-lora-*' -newer "$dir/text.txt" -user "$(id -u)" 2>/dev/null | head -1)" ]
report "no temporary folder is left" $?

# --- merge ---
for method in linear task slerp ties dare dare-ties; do
	accepted "merges by $method" "$method, 56 matrices, rank 32" lora merge --method $method \
		$coder:0.6 $agent:0.4 --out "$dir/$method.gguf"
done
accepted "a merge is an adapter" "rank 32..32" lora info "$dir/ties.gguf"
run lora merge $coder $agent:0 --out "$dir/one.gguf" --type F32
[ "$(ids --lora "$dir/one.gguf")" = "$(ids --lora $coder)" ] && [ "$(ids --lora "$dir/one.gguf")" != "$(ids)" ]
report "with the other's weight 0 it says what the one says" $?
accepted "of a given rank" "rank 8" lora merge $coder $agent --rank 8 --out "$dir/r8.gguf"
refused "one is no merge" 2 "at least two" lora merge $coder --out "$dir/x.gguf"
refused "slerp of three" 1 "slerp takes 2" lora merge --method slerp $coder $agent $coder --out "$dir/x.gguf"
refused "a weight that is no number" 1 "agent.gguf:much" lora merge $coder $agent:much --out "$dir/x.gguf"
refused "an input as output" 2 "an input itself" lora merge "$dir/a.gguf" "$dir/b.gguf" --out "$dir/a.gguf"
refused "a method there is not" 2 "--method" lora merge --method mean $coder $agent --out "$dir/x.gguf"
refused "a model is no adapter" 1 "nano.gguf: no adapter" lora merge $coder $nano --out "$dir/x.gguf"

# --- apply ---
accepted "folds in" "56 matrices changed" lora apply $coder --out "$dir/folded.gguf" --type F32
[ "$(ids -m "$dir/folded.gguf")" = "$(ids --lora $coder)" ]
report "the model with it folded in says what both say" $?
[ "$(ids -m "$dir/folded.gguf")" != "$(ids)" ]
report "which is not what the model says alone" $?
refused "not over the model itself" 2 "an input itself" lora apply -m "$dir/folded.gguf" $coder --out "$dir/folded.gguf"
refused "an adapter for another shape" 1 "coder.gguf" lora apply -m datasets/models/pico.gguf $coder --out "$dir/x.gguf"

# --- damage ---
size=$(stat -c %s $coder)
head -c $((size / 2)) $coder >"$dir/cut.gguf"
refused "cut off" 1 "cut.gguf" lora info "$dir/cut.gguf"
cp $coder "$dir/nan.gguf"
printf '\377\377\377\377' | dd of="$dir/nan.gguf" bs=1 seek=$((size - 4096)) conv=notrunc 2>/dev/null
refused "a NaN in a factor" 1 "NaN or infinity" lora info "$dir/nan.gguf"
refused "and nothing is computed with it" 1 "NaN or infinity" run --lora "$dir/nan.gguf" -p x -n 1
refused "no such verb" 2 "train, merge, apply or info" lora prune
[ ! -e "$dir/x.gguf" ]
report "nothing is written by what failed, again" $?
finish
