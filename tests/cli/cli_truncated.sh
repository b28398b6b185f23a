#!/bin/sh
# A model file truncated while it is mapped: one line and exit 1, never a signal. The command waits for its
# prompt on a FIFO, with the model open, while the file shrinks.
# shellcheck disable=SC2154
. tests/cli/tap.inc

"$ruvltra" synth nano "$dir/m.gguf" --type F16 >/dev/null 2>&1
mkfifo "$dir/prompt"

# with_prompt BYTES_KEPT|all: runs the command, shrinking the file before the prompt arrives
with_prompt() {
	cp "$dir/m.gguf" "$dir/shrinks.gguf"
	timeout 60 "$ruvltra" run -m "$dir/shrinks.gguf" -f "$dir/prompt" -n 3 --temp 0 >"$out" 2>"$err" &
	pid=$!
	exec 3>"$dir/prompt" # opens when the reader has opened it
	[ "$1" = all ] || truncate -s "$1" "$dir/shrinks.gguf"
	echo "hello" >&3
	exec 3>&-
	wait $pid
	status=$?
}

with_prompt 65536
[ "$status" = 1 ] && [ "$(wc -l <"$err")" = 1 ] && grep -q '^ruvltra: .*truncated' "$err"
report 'model truncated while in use' $?
with_prompt all
[ "$status" = 0 ]
report 'negative control: the same without truncation succeeds' $?
finish
