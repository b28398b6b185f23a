#!/bin/sh
# The command line itself: what is wrong is named in one line, what asks for help gets it.
# shellcheck disable=SC2154
. tests/cli/tap.inc

model=$dir/pico.gguf
"$ruvltra" synth pico "$model" --seed 1 >"$out" 2>"$err"
report 'synth makes the model the other tests use' $?
printf 'GGUF but not really' >"$dir/broken.gguf"

# ---- help works whatever else is wrong ----
accepted 'help' 'usage: ruvltra COMMAND' --help
accepted 'version' "ruvltra $(sed -n 's/^VERSION := //p' Makefile)" --version
for command in info tokenize logits run quantize synth bench; do
	accepted "help of $command" "usage: ruvltra $command" $command --help
	accepted "help of $command, model broken" "usage: ruvltra $command" \
		$command -m "$dir/none.gguf" --nonsense --help
	accepted "-h of $command" '--json' $command -h
	refused "$command: unknown option" 2 '--frobnicate' $command --frobnicate
	refused "$command: 0 threads" 2 '-t' $command -t 0
	refused "$command: -1 threads" 2 '-t' $command -t -1
	refused "$command: a million threads" 2 '--threads' $command --threads 1000000
	refused "$command: seed -1" 2 '--seed' $command --seed -1
	refused "$command: value missing" 2 '--seed' $command --seed
done

# ---- no command, or none we know ----
refused 'no arguments' 2 'no command'
refused 'unknown command' 2 "'frobnicate'" frobnicate
refused 'empty command' 2 "''" ''
refused 'control characters are escaped' 2 '\x1b' "$(printf 'a\033[31m\nb')"

# ---- run: numbers ----
bad_value() { # option, values...
	option=$1
	shift
	for value; do
		refused "run $option '$value'" 2 "$option" run -m "$model" --tokens 1 --ids "$option" "$value"
	done
}
bad_value -n -1 0 abc '' ' 1' 1x 1e3 0x10 9223372036854775808 99999999999999999999
bad_value -c 0 -1 4e9 4000000000 9223372036854775808 abc
bad_value -b 0 -5 65537
bad_value --temp abc nan inf -1 0,5 1001 '' '0.5 '
bad_value --top-p 0 -0.1 1.1 nan
bad_value --top-k -1 1.5
bad_value --min-p -1 2 x
bad_value --repeat-penalty 0 -1 nan
bad_value --kv q9 F16 ''
bad_value --backend gpu hybrid
bad_value --attn fast
bad_value --kv-policy three 'two-tier:' '2-bit:tail=x' 'two-tier:store=q9' ''
bad_value --page-size -1 257 x
bad_value --variant expert
bad_value --stop ''
bad_value --tokens '' ' ' 1,x -1 1.5 99999999999 3072

# ---- run: what is given twice, or not at all ----
# away from the files that ship there is no default
mkdir -p "$dir/alone/bin" && cp "$ruvltra" "$dir/alone/bin/"
whole=$ruvltra ruvltra=$dir/alone/bin/ruvltra
refused 'run without a model' 2 '--model' run --tokens 1
refused 'bench without a model' 1 '--model' bench
refused 'eval draft without a draft' 2 '--draft' eval draft -m "$model" -f "$model"
ruvltra=$whole
refused 'run with an empty model name' 2 '--model' run -m '' --tokens 1
refused 'run without a prompt' 2 '--prompt' run -m "$model"
refused 'run with two prompts' 2 '--prompt' run -m "$model" -p a --tokens 1
refused 'run with a stray word' 2 "'stray'" run -m "$model" --tokens 1 stray
refused 'run with an empty prompt' 2 'empty' run -m "$model" -p ''
refused 'a policy for a cache in one piece' 1 'paged' run -m "$model" --tokens 1 --kv-policy 2-bit --page-size 0
refused 'a page of 12 tokens' 1 'page size' run -m "$model" --tokens 1 --page-size 12
refused 'a value for a flag' 2 '--ids' run -m "$model" --tokens 1 --ids=1
# Options that come with later parts of the project must not be taken and ignored.
for option in --sona --store --session; do
	refused "run $option" 2 "$option" run -m "$model" --tokens 1 $option x
done
long=$(head -c 120000 /dev/zero | tr '\0' a)
refused 'an option of 120 kB' 2 'unknown option' run "--$long"
refused 'a file name of 120 kB' 1 'aaaa' run -m "$long" --tokens 1
refused 'a number of 120 kB' 2 '-n' run -m "$model" --tokens 1 -n "$long"

# ---- files that are no models ----
for command in info 'run --tokens 1' "logits --tokens 1 --out $dir/x"; do
	# shellcheck disable=SC2086
	refused "$command: no such file" 1 'none.gguf' $command -m "$dir/none.gguf"
	# shellcheck disable=SC2086
	refused "$command: a directory" 1 "$dir" $command -m "$dir"
	# shellcheck disable=SC2086
	refused "$command: not a model" 1 'broken.gguf' $command -m "$dir/broken.gguf"
done
mkfifo "$dir/fifo"
refused 'a FIFO is not waited for' 1 'fifo' info -m "$dir/fifo"
[ ! -e "$dir/x" ]
report 'no output file is left behind' $?
RV_CPU=sse9 run run -m "$model" --tokens 1 --ids
[ "$status" = 1 ] && grep -q 'RV_CPU=sse9' "$err"
report 'RV_CPU of no level is an error' $?

# ---- the other commands ----
refused 'info of both' 2 '--system' info -m "$model" --system
refused 'tokenize without a tokenizer' 2 '--tokenizer' tokenize text
refused 'tokenize without a text' 2 'TEXT' tokenize -m "$model"
refused 'tokenize of two texts' 2 "'b'" tokenize -m "$model" a b
refused 'tokenize of text and file' 2 'TEXT' tokenize -m "$model" a -f "$dir/x"
refused 'detokenize an id out of range' 2 '--detokenize' tokenize -m "$model" --detokenize 3072
refused 'detokenize no number' 2 '--detokenize' tokenize -m "$model" --detokenize 1,a
refused 'logits without tokens' 2 '--tokens' logits -m "$model" --out "$dir/x"
refused 'logits without a file' 2 '--out' logits -m "$model" --tokens 1
refused 'logits over the model' 2 'the model itself' logits -m "$model" --tokens 1 --out "$model"
refused 'logits into a missing directory' 1 "$dir/no" logits -m "$model" --tokens 1 --out "$dir/no/x"
refused 'logits into a directory' 1 'is a directory' logits -m "$model" --tokens 1 --out "$dir"
refused 'more tokens than context' 1 'sequence 0 is full' logits -m "$model" -c 2 --tokens 1,2,3 --out "$dir/x"
refused 'quantize without words' 2 'IN OUT TYPE' quantize
refused 'quantize of two words' 2 'IN OUT TYPE' quantize "$model" Q8_0
refused 'quantize into itself' 2 'both input and output' quantize "$model" "$dir/../$(basename "$dir")/pico.gguf" Q8_0
ln "$model" "$dir/link.gguf"
refused 'quantize into a link to itself' 2 'both input and output' quantize "$model" "$dir/link.gguf" Q8_0
refused 'quantize to an unknown type' 2 'Q4_K_M' quantize "$model" "$dir/x" Q4_K_XXL
refused 'quantize into a missing directory' 1 "$dir/no" quantize "$model" "$dir/no/x" Q8_0
refused 'quantize of nothing' 1 'none.gguf' quantize "$dir/none.gguf" "$dir/x" Q8_0
refused 'tensor type without =' 2 '--tensor-type' quantize "$model" "$dir/x" Q8_0 --tensor-type attn_q
refused 'tensor type unknown' 2 '--tensor-type' quantize "$model" "$dir/x" Q8_0 --tensor-type attn_q=Q9
refused 'dry run of an unknown shape' 1 'giant' quantize giant Q8_0 --dry-run
refused 'synth of an unknown preset' 2 'medium' synth giant "$dir/x"
refused 'synth of an unknown type' 2 '--type' synth pico "$dir/x" --type Q9
refused 'synth without a file' 2 'PRESET OUT' synth pico
refused 'synth into a missing directory' 1 "$dir/no" synth pico "$dir/no/x"
refused 'bench of nothing' 2 '--n-prompt' bench -m "$model" -p 0 -n 0
refused 'bench with a bad range' 2 '-p' bench -m "$model" -p 8-4
refused 'bench with a bad list' 2 '-n' bench -m "$model" -n 1,,2
refused 'bench with 0 repetitions' 2 '-r' bench -m "$model" -r 0
refused 'bench with an unknown format' 2 '-o' bench -m "$model" -o sql
refused 'bench with an unknown cache type' 2 '--kv' bench -m "$model" --kv f16,q9
[ ! -e "$dir/x" ]
report 'still no output file is left behind' $?
finish
