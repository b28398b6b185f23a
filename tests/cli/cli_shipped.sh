#!/bin/sh
# The models that ship: the default of every command, the variants, adapters by name.
# shellcheck disable=SC2154
. tests/cli/tap.inc

shipped=$PWD/datasets/models
nano=$shipped/nano.gguf coder=$shipped/coder.gguf agent=$shipped/agent.gguf

# same NAME ARGUMENTS... -- ARGUMENTS...: the same standard output, not empty, both ways
same() {
	name=$1
	shift
	first=
	while [ "$1" != -- ]; do
		first="$first $1"
		shift
	done
	shift
	# shellcheck disable=SC2086
	run $first
	mv "$out" "$dir/first"
	run "$@"
	[ "$status" = 0 ] && [ -s "$out" ] && cmp -s "$out" "$dir/first"
	report "$name" $?
}

greedy='-n 24 --temp 0 --ids'
# shellcheck disable=SC2086
{
	same 'without -m it is nano' run -p Once $greedy -- run -m "$nano" -p Once $greedy
	same 'the coder is its adapter' run --variant coder -p Once $greedy -- \
		run -m "$nano" --lora "$coder" --temp 0 -p Once $greedy
	same 'the agent is its adapter' run --variant agent -p Once $greedy -- \
		run -m "$nano" --lora "$agent" -p Once $greedy
	same 'an adapter of scale 0 is none' run -p Once $greedy -- run --lora "$coder:0" -p Once $greedy
	same 'two halves are a whole' run --lora "$coder:0.5" --lora "$coder:0.5" -p Once $greedy -- \
		run --variant coder -p Once $greedy
	same 'another model has no variant of its own' run -m "$shipped/pico.gguf" -p Once $greedy -- \
		run -m "$shipped/pico.gguf" --variant coder -p Once $greedy
	run run -p 'def ' $greedy
	mv "$out" "$dir/plain"
	run run --lora "$coder:3" -p 'def ' $greedy
	! cmp -s "$out" "$dir/plain"
	report 'negative control: an adapter changes what is said' $?
}
run run --variant coder -p Once -n 8 --temp 0 --json
[ "$status" = 0 ]
report 'as JSON too' $?
accepted 'eval takes the variant' routing eval routing --variant agent --limit 3
accepted 'bench measures nano' qwen2 bench -p 8 -n 4 -r 1
refused 'no such adapter' 1 'nothing.gguf' run --lora "$dir/nothing.gguf" -p Once
refused 'an empty name' 1 'the name is empty' run --lora '' -p Once
refused 'a scale that is no number' 1 "'much' is not a number" run --lora "$coder:much" -p Once
refused 'a model is no adapter' 1 'no adapter' run --lora "$nano" -p Once
refused "an adapter of nano's shape" 1 'has shape' run -m "$shipped/pico.gguf" --lora "$coder" -p Once
refused 'too many' 1 'at most 8' run --lora "$coder" --lora "$coder" --lora "$coder" --lora "$coder" \
	--lora "$coder" --lora "$coder" --lora "$coder" --lora "$coder" --lora "$coder" -p Once
finish
