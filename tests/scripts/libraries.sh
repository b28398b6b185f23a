#!/bin/sh
# libruvltra as others get it: what it needs, what it exports, and a program built on the installed copy.
set -u
build=${RV_BUILD:-build}
cc=${CC:-cc}
if [ "${RV_VARIANT:-release}" != release ]; then
	echo '1..0 # SKIP instrumented libraries are not installed'
	exit 0
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/libraries.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
count=0

report() { # name, 0 when good
	count=$((count + 1))
	if [ "$2" = 0 ]; then
		echo "ok $count - $1"
	else
		echo "not ok $count - $1"
		sed 's/^/# /' "$dir/out"
	fi
}

# no_lab FILE: FILE needs no library of the lab
no_lab() {
	readelf -d "$1" >"$dir/out" && ! grep -E 'NEEDED.*(gsl|hdf5|seccomp)' "$dir/out" >/dev/null
}

echo 1..8
no_lab "$build/lib/libruvltra.so"
report 'libruvltra needs neither GSL nor HDF5' $?
! no_lab "$build/bin/ruvltra"
report 'the same check finds the lab in the command' $?
ldd -r "$build/lib/libruvltra.so" >"$dir/out" 2>&1 && ! grep -qE 'undefined symbol|not found' "$dir/out"
report 'libruvltra is complete' $?
nm -D --defined-only "$build/lib/libruvltra.so" | awk '{ print $NF }' | grep -v '^rv_' >"$dir/out"
[ ! -s "$dir/out" ]
report 'libruvltra exports rv_ names only' $?

version=$(sed -n 's/^VERSION := //p' Makefile)
# shellcheck disable=SC2046
scripts/install.sh "$dir/root" /opt/rv "$build" "$version" $(find kernels lib -name '*.h' -o -name '*.def') \
	>"$dir/out" 2>&1
report 'installs under DESTDIR' $?
cat >"$dir/embed.c" <<'END'
#include <base/build_info.h>
#include <kernels/kernels.h>
#include <model/model.h>
#include <stdio.h>
int main(void) {
	rv_model *model = NULL;
	rv_status status = rv_model_open(&model, "no/such/model.gguf", NULL);
	printf("%d %s\n%s\n", status == RV_ERR_IO || status == RV_ERR_NOT_FOUND, rv_type_get(12)->name, rv_error_message());
	return 0;
}
END
export PKG_CONFIG_SYSROOT_DIR="$dir/root" PKG_CONFIG_PATH="$dir/root/opt/rv/lib/pkgconfig"
# shellcheck disable=SC2046
$cc -o "$dir/shared" "$dir/embed.c" $(pkg-config --cflags --libs ruvltra) >"$dir/out" 2>&1 &&
	LD_LIBRARY_PATH="$dir/root/opt/rv/lib" "$dir/shared" >"$dir/out" 2>&1 && grep -q '^1 Q4_K$' "$dir/out"
report 'a program on the installed shared library' $?
unset PKG_CONFIG_SYSROOT_DIR
static=$(pkg-config --static --libs ruvltra | sed 's|-L[^ ]*||g; s|-lruvltra||g')
# shellcheck disable=SC2086
$cc -o "$dir/static" "$dir/embed.c" -I"$dir/root/opt/rv/include/ruvltra" \
	"$dir/root/opt/rv/lib/libruvltra.a" $static >"$dir/out" 2>&1 &&
	"$dir/static" >"$dir/out" 2>&1 && grep -q '^1 Q4_K$' "$dir/out"
report 'a program on the installed static library' $?
(cd "$dir" && root/opt/rv/bin/ruvltra --version) >"$dir/out" 2>&1
report 'the installed command' $?
