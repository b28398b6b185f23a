#!/bin/sh
# The layer check: this tree passes, and every kind of planted violation is found.
set -u
dir=$(mktemp -d "${TMPDIR:-/tmp}/layers.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
cc=${CC:-cc}
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

# planted NAME TEXT FILE LINE: FILE holding LINE is complained of with TEXT
planted() {
	mkdir -p "$dir/tree/$(dirname "$3")"
	printf '%s\n' "$4" >"$dir/tree/$3"
	scripts/check-layers.sh "$dir/tree" >"$dir/out" 2>&1
	[ $? = 1 ] && grep -qF -e "$2" "$dir/out"
	report "$1" $?
	rm "$dir/tree/$3"
}

# object NAME TEXT ROOM CODE: an archive of ROOM made of CODE is complained of with TEXT
object() {
	mkdir -p "$dir/build/lib"
	printf '%s\n' "$4" | $cc -O0 -x c -c -o "$dir/x.o" - && ar rcs "$dir/build/lib/$3.a" "$dir/x.o"
	scripts/check-layers.sh "$dir/tree" "$dir/build" >"$dir/out" 2>&1
	[ $? = 1 ] && grep -qF -e "$2" "$dir/out"
	report "$1" $?
	rm -r "$dir/build" "$dir/x.o"
}

echo 1..14
# Sanitizers and coverage add data and calls of their own to the objects.
case ${RV_VARIANT:-release} in release | debug) build=${RV_BUILD:-build} ;; *) build= ;; esac
scripts/check-layers.sh . "$build" >"$dir/out" 2>&1
report 'this tree' $?
mkdir "$dir/tree"
scripts/check-layers.sh "$dir/tree" >"$dir/out" 2>&1
report 'an empty tree' $?
planted 'engine includes learn' 'higher room learn' lib/engine/a.c '#include "learn/lora.h"'
planted 'base includes model' 'lib/base/a.h:1' lib/base/a.h '  #  include "model/gguf.h"'
planted 'kernels include base' 'higher room base' kernels/x86/a.c '#include "base/status.h"'
planted 'kernels include a library' 'not <jansson.h>' kernels/a.c '#include <jansson.h>'
planted 'a way around by ..' 'leaves its folder' lib/base/a.c '#include "../model/gguf.h"'
planted 'a test of model includes engine' 'higher room engine' tests/model/a.c '#include "engine/context.h"'
planted 'an unknown room' 'belongs to no room' lib/base/a.c '#include "attic/x.h"'
planted 'data that is no table' 'belongs to no room' lib/base/a.c '#include "datasets/x.h"'
planted 'a table of data in kernels' 'belongs to no room' kernels/a.c '#include "datasets/x.def"'
object 'an object of base needs a symbol of nobody below' 'rv_lora_open' base \
	'int rv_lora_open(void); int rv_x(void) { return rv_lora_open(); }'
object 'a kernel allocates' 'must not call malloc' kernels \
	'#include <stdlib.h>
	void *rv_x(unsigned long n) { return malloc(n); }'
object 'a kernel keeps state' 'writable data' kernels 'int rv_x(void) { static int n = 1; return n++; }'
