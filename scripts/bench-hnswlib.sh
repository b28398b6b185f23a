#!/bin/sh
# Our HNSW beside hnswlib (Debian: libhnswlib-dev), both built and searched in one process in turns, on the
# clustered vectors of T4: queries a second at recall@10 0.95 and 0.99, read off each one's front of recall
# and speed, time of the build, bytes. The comparison is compiled with -O3 -march=native.
#
# usage: bench-hnswlib.sh [N [DIM [M [EF_CONSTRUCTION [THREADS [ROUNDS [QUERIES]]]]]]]
#        (20000 768 16 200 2 5 500; B=build: where the libraries are)
set -u
cd "$(dirname "$0")/.." || exit 1
B=${B:-build} CXX=${CXX:-g++}
if ! command -v "$CXX" >/dev/null 2>&1; then
	echo "n/a: no C++ compiler"
	exit 0
fi
if ! echo '#include <hnswlib/hnswlib.h>' | "$CXX" -E -x c++ - >/dev/null 2>&1; then
	echo "n/a: hnswlib not installed"
	exit 0
fi
for lib in libruvlab libruvltra; do
	[ -r "$B/lib/$lib.a" ] || { echo "bench-hnswlib: $B/lib/$lib.a: run make first" >&2; exit 1; }
done
mkdir -p "$B/bin" || exit 1
# shellcheck disable=SC2046
"$CXX" -std=c++17 -O3 -march=native -DNDEBUG -I. -Ilib -D_GNU_SOURCE $(pkg-config --cflags hdf5 jansson) \
	-o "$B/bin/bench_hnswlib" scripts/bench-hnswlib.cpp "$B/lib/libruvlab.a" "$B/lib/libruvltra.a" \
	$(pkg-config --libs hdf5 gsl libseccomp jansson hwloc libutf8proc libsodium zlib sqlite3) -lm -lpthread ||
	exit 1
exec "$B/bin/bench_hnswlib" "$@"
