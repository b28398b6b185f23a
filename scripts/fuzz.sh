#!/bin/sh
# Runs libFuzzer programs one after the other, each for an equal share of the time, starting from its
# committed seeds. A crash, leak, hang (10 s), allocation above 256 MB or RSS above 2 GB fails the run; the
# input that caused it is kept and named.
#
# usage: fuzz.sh DIR SECONDS FUZZER...      (programs DIR/FUZZER, new inputs DIR/corpus/NAME)
set -u
dir=$1 seconds=$2
shift 2
[ $# -gt 0 ] || { echo "fuzz: no targets" >&2; exit 1; }
share=$((seconds / $#))
[ "$share" -ge 1 ] || share=1
export ASAN_OPTIONS="detect_leaks=1:${ASAN_OPTIONS:-}"
failed=0
for fuzzer; do
	name=${fuzzer#fuzz_}
	work=$dir/corpus/$name seeds=tests/fuzz/corpus/$name log=$dir/$fuzzer.log
	mkdir -p "$work" "$dir/found/$name"
	[ -d "$seeds" ] || { echo "FAIL $fuzzer: no seeds in $seeds"; failed=1; continue; }
	if "$dir/$fuzzer" -max_total_time="$share" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=256 \
		-max_len=65536 -print_final_stats=1 -artifact_prefix="$dir/found/$name/" "$work" "$seeds" \
		>"$log" 2>&1; then
		echo "ok   $fuzzer: $(sed -n 's/^Done \([0-9]* runs in [0-9]*\) .*/\1/p' "$log") s"
	else
		echo "FAIL $fuzzer: $(ls -t "$dir/found/$name" | head -n 1) in $dir/found/$name, log in $log"
		tail -n 40 "$log"
		failed=1
	fi
done
exit $failed
