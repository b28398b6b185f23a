#!/bin/sh
# Debian packages the project needs.
#
#   scripts/setup.sh                  install everything that is missing (root)
#   scripts/setup.sh --check GROUP    do that only when something of GROUP (build or test) is missing;
#                                     silent and quick when nothing is
#   scripts/setup.sh --list           print the names
#
# Build and test packages must be there; optional ones widen the tests, and when one cannot be
# installed a note says so. Without root the one command to run is printed and the exit status is 1.
# Lists of names are split into words on purpose.
# shellcheck disable=SC2086
set -u

build="gcc libc6-dev make pkg-config git python3 gnuplot-nox
	libopenblas0-pthread libgsl-dev libhdf5-dev libhwloc-dev libcmocka-dev libsqlite3-dev
	libutf8proc-dev libjansson-dev libseccomp-dev libsodium-dev zlib1g-dev"
test="libpcre2-dev clang libclang-rt-14-dev python3-h5py python3-pandas"
optional="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user valgrind libsimde-dev"
modules="jansson hwloc libutf8proc libsodium zlib sqlite3 hdf5 gsl libseccomp"

say() {
	echo "setup: $*" >&2
}

# missing PACKAGE...: those that are not installed
missing() {
	have=$(dpkg-query -W -f '${Status} ${Package}\n' "$@" 2>/dev/null |
		sed -n 's/^install ok installed //p')
	for p in "$@"; do
		case "
$have
" in
		*"
$p
"*) ;;
		*) echo "$p" ;;
		esac
	done
}

apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "$@" >&2
}

install() {
	apt install -y --no-install-recommends "$@"
}

# Another distribution: the libraries may well be there under other package names.
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	[ "${1-}" = --list ] || {
		pkg-config --exists $modules && command -v gnuplot python3 >/dev/null && exit 0
		say "this is no Debian system; install the equivalents of:" $build $test
		exit 1
	}
fi

case "${1-}" in
--list)
	echo "build:" $build
	echo "test:" $test
	echo "optional:" $optional
	exit 0
	;;
--check)
	case "${2-}" in
	build) wanted=$build ;;
	test) wanted="$build $test" ;;
	*) say "--check: expected build or test" && exit 2 ;;
	esac
	[ -z "$(missing $wanted)" ] && exit 0
	;;
'') wanted="$build $test" ;;
*) say "unknown option $1" && exit 2 ;;
esac

required=$(missing $build $test)
extra=$(missing $optional)
if [ "$(id -u)" != 0 ]; then
	needed=$(missing $wanted)
	[ -z "$needed" ] && say "everything needed is installed" && exit 0
	say "packages are missing; run this, then try again:"
	echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends" $needed >&2
	exit 1
fi

if [ -n "$required" ]; then
	say "installing" $required
	# The lists of a fresh machine are empty or old: update only when the first try shows it.
	install $required 2>/dev/null || { apt update && install $required; } ||
		for p in $required; do
			install "$p" || say "$p could not be installed"
		done
fi
for p in $extra; do
	install "$p" 2>/dev/null || say "note: optional package $p could not be installed"
done
needed=$(missing $wanted)
[ -z "$needed" ] || { say "still missing:" $needed && exit 1; }
