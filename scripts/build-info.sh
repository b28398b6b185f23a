#!/bin/sh
# build-info.sh OUT CC FLAGS VERSION: what rv_build_*() will answer, as a header. OUT is touched only
# when its text changes, so that nothing is rebuilt for nothing.
set -u
out=$1 cc=$2 flags=$3 version=$4

quote() {
	printf '%s' "$1" | tr '\n\t' '  ' | sed 's/[\\"]/\\&/g; s/  */ /g; s/^ //; s/ $//'
}

commit=$(git rev-parse --short=12 HEAD 2>/dev/null) || commit=unknown
if [ "$commit" != unknown ] && [ -n "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]; then
	dirty=1
else
	dirty=0
fi

mkdir -p "$(dirname "$out")" || exit 1
tmp=$out.$$
cat >"$tmp" <<END
#define RV_BUILD_VERSION "$(quote "$version")"
#define RV_BUILD_COMMIT "$(quote "$commit")"
#define RV_BUILD_DIRTY $dirty
#define RV_BUILD_COMPILER "$(quote "$($cc --version | head -n 1)")"
#define RV_BUILD_FLAGS "$(quote "$flags")"
END
if cmp -s "$tmp" "$out"; then
	rm -f "$tmp"
else
	mv -f "$tmp" "$out"
fi
