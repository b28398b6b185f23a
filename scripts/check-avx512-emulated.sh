#!/bin/sh
# The kernel checker on the AVX-512 and VNNI forms, on any x86-64 CPU: their sources are compiled
# against SIMDe (Debian: libsimde-dev) instead of the compiler's intrinsics. Slow, and proves results,
# not speed. Usage: check-avx512-emulated.sh BUILD_DIR
set -eu
cd "$(dirname "$0")/.."
CC=${CC:-gcc}
out=${1:-build}/emulated
if ! echo '#include <simde/x86/avx512.h>' | $CC -E - >/dev/null 2>&1; then
	echo "check-avx512-emulated: SKIPPED: SIMDe is not installed (apt-get install libsimde-dev)"
	exit 0
fi
mkdir -p "$out"
flags="-std=gnu11 -O2 -g -I. -D_GNU_SOURCE -ffp-contract=off -fno-math-errno"

compile() { # source, more flags
	source=$1
	shift
	object="$out/$(echo "$source" | tr / _).o"
	$CC $flags "$@" -c "$source" -o "$object"
	objects="$objects $object"
}

objects=
for source in kernels/*.c kernels/ref/*.c kernels/quant/*.c tests/kernels/check_*.c \
	tests/kernels/controls.c tests/kernels/harness.c tests/kernels/test_kernels.c \
	tests/kernels/emulated/levels.c kernels/x86/table_*.c; do
	compile "$source"
done
for source in kernels/x86/*_avx2.c; do
	case $source in */table_*) continue ;; esac
	compile "$source" -mavx2 -mfma -mf16c -mbmi2
done
for source in kernels/x86/*_avx512.c kernels/x86/*_vnni.c; do
	case $source in */table_*) continue ;; esac
	compile "$source" -O1 -I tests/kernels/emulated -w -Wno-psabi
done
$CC -Wl,--wrap=rv_level_available -o "$out/test_kernels" $objects -lm
"$out/test_kernels"
