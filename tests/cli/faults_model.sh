#!/bin/sh
# Every malformed model file the fault table asks for, given to `ruvltra info` and `ruvltra run`: refused
# with one line and exit 1, never a signal, a hang or a large allocation; valid controls are accepted.
# Prints TAP. RV_BUILD names the build folder.
set -u
here=$(dirname "$0")
program=${RV_BUILD:-build}/bin/ruvltra
[ -x "$program" ] || { echo "Bail out! $program is not built"; exit 1; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/rv-faults-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
python3 "$here/make_bad_models.py" write "$dir" || exit 1
python3 "$here/make_bad_models.py" check "$dir" "$program"
