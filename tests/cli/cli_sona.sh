#!/bin/sh
# ruvltra run and chat --sona: learning while serving, kept in a store.
. tests/cli/tap.inc

prompt='The animal of the'
greedy="--temp 0 -n 24"

# number KEY: of the "sona" object in $out
number() {
	sed -n '/"sona"/,$p' "$out" | sed -n "s/.*\"$1\": \([-0-9.e]*\).*/\1/p" | head -1
}
text() {
	sed -n 's/^ *"text": \(.*\),$/\1/p' "$out"
}

# shellcheck disable=SC2086
{
run run -p "$prompt" $greedy --json
plain=$(text)
run run -p "$prompt" $greedy --json --sona auto --sona-quality feedback
[ "$status" = 0 ] && [ -n "$plain" ] && [ "$(text)" = "$plain" ] && grep -q 'waits to be rated' "$out"
report "what has learnt nothing says what the model says" $?

run run -p "$prompt" $greedy --json --sona 2,4,6 --sona-rank 2 --sona-lr 0.05 --store "$dir/store"
first=$(number ratio)
[ "$status" = 0 ] && [ "$(text)" = "$plain" ] && grep -q '"instant": "learnt"' "$out" &&
	grep -q '"source": "likelihood"' "$out" && [ "$(number n_tokens)" -gt 0 ]
report "a request is learnt from as it ends" $?
run run -p "$prompt" $greedy --json --sona 2,4,6 --sona-rank 2 --sona-lr 0.05 --store "$dir/store"
second=$(number ratio)
[ "$status" = 0 ] && awk "BEGIN { exit !($second > 1.2 * $first && $first > 0) }"
report "the next process goes on where the last one stopped" $?
run run -p "$prompt" $greedy --json --sona 2,4,6 --sona-rank 2 --sona-lr 0.05 --store "$dir/other"
[ "$(number ratio)" = "$first" ]
report "another store begins anew, to the same numbers" $?
run run -p "$prompt" $greedy --json --sona 2,4,6 --sona-lr 0
grep -q 'off: the learning rate is 0' "$out"
report "rate 0 learns nothing" $?
run run -p "$prompt" $greedy --json --sona 2 --sona-site proj:qv
grep -q 'n/a: no hooked projection' "$out"
report "a site without a local gradient says so" $?
run run -p 'def add(a, b):' $greedy --variant coder --json
coder=$(text)
run run -p 'def add(a, b):' $greedy --variant coder --json --sona auto
[ "$status" = 0 ] && [ -n "$coder" ] && [ "$(text)" = "$coder" ]
report "an adapter of the command line is what learning begins with" $?
}

printf 'hello there\n/good\n/rate 0.8\n/correct Hello, friend\n/help\n' |
	"$ruvltra" chat --temp 0 -n 8 --sona auto >"$out" 2>"$err"
[ $? = 0 ] && grep -q 'waits to be rated' "$err" && grep -q 'quality 1.00 (feedback), learnt' "$err" &&
	grep -q 'quality 0.80 (feedback)' "$err" && grep -q 'quality 0.00 (feedback)' "$err" &&
	[ "$(wc -l <"$out")" = 2 ]
report "an answer is rated by the lines after it, other lines are turns" $?
printf 'hello\n/rate 2\n' | "$ruvltra" chat --temp 0 -n 4 --sona auto >"$out" 2>"$err"
[ $? = 1 ] && grep -q '^ruvltra: chat /rate: ' "$err"
report "a rating outside 0 to 1 is an error" $?
printf '/bad\n' | "$ruvltra" chat --temp 0 -n 4 --sona auto >"$out" 2>"$err"
[ $? = 1 ] && grep -q 'no answer yet' "$err"
report "nothing can be rated before the first answer" $?
printf '/good\n' | "$ruvltra" chat --temp 0 -n 4 >"$out" 2>"$err"
[ $? = 0 ] && [ "$(wc -l <"$out")" = 1 ]
report "without --sona such a line is a turn" $?

refused "a layer that is not there" 2 '--sona: 99' run -p x --sona 2,99
refused "a layer twice" 1 'each once' run -p x --sona 2,2
refused "no layers" 2 '--sona: ' run -p x --sona ''
refused "an unknown site" 2 "site 'foo'" run -p x --sona auto --sona-site foo
refused "a rank out of bounds" 2 '--sona-rank' run -p x --sona auto --sona-rank 9
refused "a store without learning" 2 'needs --sona' run -p x --store "$dir/none"
refused "a session that is no UUID" 2 'no UUID' run -p x --sona auto --session me
refused "state of other layers" 1 'other hook layers' run -p x --sona 1,4,6 --sona-rank 2 --store "$dir/store"
finish
