#!/bin/sh
# The README's Python example, run as it stands on the log of a small T1 sweep.
set -u
build=$PWD/${RV_BUILD:-build}
readme=$PWD/README.md
if [ "${RV_VARIANT:-release}" != release ]; then
	echo '1..0 # SKIP instrumented libraries are not installed'
	exit 0
fi
python=/usr/bin/python3
if ! $python -c 'import h5py, pandas' 2>/dev/null; then
	echo '1..0 # SKIP no h5py or no pandas'
	exit 0
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/readme.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/results"
sed -n '/^```python$/,/^```$/p' "$readme" | grep -v '^```' >"$dir/example.py"

# report NUMBER NAME 0|1
report() {
	if [ "$3" = 0 ]; then
		echo "ok $1 - $2"
	else
		echo "not ok $1 - $2"
		tail -n 20 "$dir/out" | sed 's/^/# /'
	fi
}

echo 1..4
wc -l "$dir/example.py" >"$dir/out"
[ "$(wc -l <"$dir/example.py")" -ge 5 ] && [ "$(wc -l <"$dir/example.py")" -le 10 ]
report 1 'the example is there, in at most ten lines' $?
"$build/bin/exp_quant" --profile smoke --out "$dir/results/t1_quantization.h5" >"$dir/out" 2>&1
report 2 'a small sweep writes its log' $?
(cd "$dir" && $python example.py) >"$dir/out" 2>&1 && grep -q Q4_K_M "$dir/out" && grep -q 'samples of' "$dir/out"
report 3 'the example reads it' $?
sed -i 's/"tg_tok_s"\]/"no_such_metric"]/' "$dir/example.py"
! (cd "$dir" && $python example.py) >"$dir/out" 2>&1
report 4 'negative control: a wrong metric name fails' $?
