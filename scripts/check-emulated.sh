#!/bin/sh
# Runs the kernel checker on CPUs this machine does not have: an x86-64 without AVX (no illegal
# instruction, SIMD levels skipped), one with AVX2, and aarch64. What is not installed is skipped by name.
#
#   scripts/check-emulated.sh [BUILD]      BUILD: the build folder (default build)
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
failed=0

have() {
	command -v "$1" >/dev/null 2>&1
}

# check NAME COMMAND...: the command prints TAP.
check() {
	name=$1
	shift
	log=$build/check-emulated-$(echo "$name" | tr ' ' '-').tap
	"$@" >"$log" 2>&1
	status=$?
	passed=$(grep '^ok' "$log" | grep -vc '# SKIP')
	skipped=$(grep -c '# SKIP' "$log")
	if [ $status -eq 0 ] && grep -q '^1\.\.' "$log"; then
		echo "ok: $name: $passed passed, $skipped skipped"
	else
		echo "FAILED: $name: exit $status, see $log"
		grep -A1 '^not ok' "$log" | head -20
		failed=1
	fi
}

if [ "$(uname -m)" = x86_64 ] && have qemu-x86_64; then
	make --no-print-directory B="$build" "$build/tests/kernels/test_kernels" >/dev/null || exit 1
	check "x86_64 Nehalem" qemu-x86_64 -cpu Nehalem "$build/tests/kernels/test_kernels"
	# qemu reads the whole vector of a masked load, so the arrays need readable space around them
	check "x86_64 Haswell" env RV_GUARD=pads qemu-x86_64 -cpu Haswell "$build/tests/kernels/test_kernels" avx2
else
	echo "skipped: x86_64 Nehalem, Haswell: qemu-x86_64 is not installed or this is no x86_64"
fi

if have aarch64-linux-gnu-gcc && have qemu-aarch64; then
	make --no-print-directory B="$build/aarch64" CC=aarch64-linux-gnu-gcc LDFLAGS=-static \
		"$build/aarch64/tests/kernels/test_kernels" >/dev/null || exit 1
	check aarch64 qemu-aarch64 "$build/aarch64/tests/kernels/test_kernels"
else
	echo "skipped: aarch64: aarch64-linux-gnu-gcc or qemu-aarch64 is not installed"
fi
exit $failed
