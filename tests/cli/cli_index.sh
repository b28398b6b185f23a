#!/bin/sh
# Vectors become an index, queries find their nearest, recall is right; what is wrong is named.
# shellcheck disable=SC2154
. tests/cli/tap.inc

python3 tests/cli/make_vectors.py "$dir"
report 'vectors are made' $?

accepted 'build' '300 vectors of 6, l2, M 16' index build "$dir/base.fvecs" --out "$dir/i.hnsw"
accepted 'info' '300 of 6, l2, f32' index info "$dir/i.hnsw"
accepted 'info as JSON' '"ef_construction": 200' index info "$dir/i.hnsw" --json
accepted 'bytes widened' '300 vectors of 6, cosine' index build "$dir/base.bvecs" --metric cosine --out "$dir/b.hnsw"
accepted 'a part' '10 vectors' index build "$dir/base.fvecs" --limit 10 --out "$dir/ten.hnsw"
accepted 'codes' 'sq8' index build "$dir/base.fvecs" --code sq8 --out "$dir/sq8.hnsw"
accepted 'codes alone' '"code": "int4"' index build "$dir/base.fvecs" --code int4 --codes-only --out "$dir/int4.hnsw" --json
run index info "$dir/int4.hnsw"
grep -q 'int4 alone' "$out"
report 'codes alone are described' $?

accepted 'search' ':' index search "$dir/i.hnsw" "$dir/queries.fvecs" -k 5 --neighbors "$dir/truth.ivecs"
grep -q 'recall 1.0000' "$err" && [ "$(wc -l <"$out")" = 20 ] && [ "$(head -n 1 "$out" | tr '\t' '\n' | wc -l)" = 5 ]
report '20 lines of 5, all found' $?
cut -d: -f1 "$out" >"$dir/first" && cmp -s "$dir/first" "$dir/nearest"
report 'the nearest is the nearest' $?
run index search "$dir/i.hnsw" "$dir/queries.fvecs" -k 5 --neighbors "$dir/wrong.ivecs"
grep -q 'recall 0\.' "$err"
report 'with other neighbours as the truth recall falls' $?
run index search "$dir/sq8.hnsw" "$dir/queries.fvecs" -k 5 --neighbors "$dir/truth.ivecs" --json
grep -q '"recall": 1' "$out" && grep -q '"ids"' "$out"
report 'codes put in order find all' $?
run index search "$dir/i.hnsw" "$dir/queries.fvecs" -k 5 --out "$dir/found.ivecs" --distances "$dir/found.fvecs"
[ "$status" = 0 ] && [ ! -s "$out" ] && cmp -s "$dir/found.ivecs" "$dir/truth.ivecs" && [ "$(wc -c <"$dir/found.fvecs")" = 480 ]
report 'files of ids and distances' $?
run index search "$dir/i.hnsw" "$dir/queries.fvecs" -k 5 --runs 2 --out "$dir/found.h5"
[ "$status" = 0 ] && head -c 4 "$dir/found.h5" | grep -q HDF
report 'results as ann-benchmarks keeps them' $?

accepted 'build from HDF5' '60 vectors of 8, l2' index build tests/cli/ann_small.hdf5 --out "$dir/h.hnsw"
run index search "$dir/h.hnsw" tests/cli/ann_small.hdf5 -k 10 --limit 7
grep -q '^7 queries.*recall 1.0000' "$err" && [ "$(wc -l <"$out")" = 7 ]
report 'HDF5 brings its neighbours' $?

# ---- refused ----
refused 'no verb' 2 'a verb' index
refused 'another verb' 2 'frob' index frob
refused 'no vectors' 2 '0 of 1' index build --out "$dir/x"
refused 'no output' 2 '--out' index build "$dir/base.fvecs"
refused 'the input as output' 2 'is read too' index build "$dir/base.fvecs" --out "$dir/base.fvecs"
refused 'another ending' 1 '.fvecs' index build "$dir/truth.ivecs" --out "$dir/x.hnsw"
refused 'codes alone of none' 2 '--codes-only' index build "$dir/base.fvecs" --codes-only --out "$dir/x.hnsw"
refused 'unknown metric' 2 '--metric' index build "$dir/base.fvecs" --metric hamming --out "$dir/x.hnsw"
head -c 100 "$dir/base.fvecs" >"$dir/cut.fvecs"
refused 'a file cut off' 1 'row 3 at byte 84' index build "$dir/cut.fvecs" --out "$dir/x.hnsw"
refused 'a row that is not finite' 1 'row' index build "$dir/nan.fvecs" --out "$dir/x.hnsw"
refused 'no direction' 1 'row' index build "$dir/zero.fvecs" --metric cosine --out "$dir/x.hnsw"
[ ! -e "$dir/x.hnsw" ]
report 'nothing was written' $?
cp "$dir/base.fvecs" "$dir/fake.h5"
refused 'no HDF5' 1 'fake.h5' index build "$dir/fake.h5" --out "$dir/x.hnsw"
refused 'no index' 1 'not an HNSW index' index info "$dir/base.fvecs"
head -c 5000 "$dir/i.hnsw" >"$dir/half.hnsw"
refused 'half an index' 1 'cut off' index info "$dir/half.hnsw"
python3 -c 'import sys; d = bytearray(open(sys.argv[1], "rb").read()); d[len(d) // 2] ^= 4; open(sys.argv[2], "wb").write(d)' "$dir/i.hnsw" "$dir/flipped.hnsw"
refused 'a changed index' 1 'digest' index search "$dir/flipped.hnsw" "$dir/queries.fvecs"
refused 'queries of another dimension' 1 'dimension 8' index search "$dir/i.hnsw" tests/cli/ann_small.hdf5
refused 'too few true neighbours' 1 'truth.ivecs' index search "$dir/i.hnsw" "$dir/queries.fvecs" -k 6 --neighbors "$dir/truth.ivecs"
refused 'k 0' 2 '-k' index search "$dir/i.hnsw" "$dir/queries.fvecs" -k 0
refused 'another kind of output' 2 '--out' index search "$dir/i.hnsw" "$dir/queries.fvecs" --out "$dir/x.txt"

finish
