#!/bin/sh
# The corpus generator: same seed, same bytes; its speed; the committed evaluation sets are its output;
# letters balanced; nothing to gain from the choices alone; no test item in training, and a planted one
# is found.
# shellcheck disable=SC1091,SC2154
. tests/cli/tap.inc
corpus=$PWD/${RV_BUILD:-build}/bin/corpus
python=/usr/bin/python3
sets=datasets/mini-mmlu
text=$dir/text

# train FOLDER ARGUMENT...
train() {
	folder=$1
	shift
	"$corpus" train --out "$folder" "$@" >"$out" 2>"$err"
}

# ---- generation ----
train "$text" --bytes 8000000 --seed 7
report 'a corpus is generated' $?
cp "$err" "$dir/speeds"
train "$dir/again" --bytes 8000000 --seed 7 && diff -r "$text" "$dir/again" >"$out"
report 'the same seed gives the same bytes' $?
train "$dir/other" --bytes 8000000 --seed 8 && ! cmp -s "$text/encyclopaedia.txt" "$dir/other/encyclopaedia.txt"
report 'another seed gives others' $?
train "$dir/one" --bytes 500000 --seed 7 --kinds encyclopaedia &&
	cmp -n 500000 "$text/encyclopaedia.txt" "$dir/one/encyclopaedia.txt" >"$out"
report 'a kind alone has the text it has beside others' $?
"$corpus" kinds | awk '{ print $1 ".txt" }' | sort >"$dir/want"
(cd "$text" && ls) | sort | diff "$dir/want" - >"$out"
report 'every kind has its file' $?
if [ "${RV_VARIANT:-release}" = release ]; then
	awk '$(NF - 4) < 5 { print "slow: " $0; bad = 1 } END { exit bad || NR == 0 }' "$dir/speeds" >"$out"
	report 'every kind is generated at 5 MB/s or more' $?
else
	skip 'speed' 'an instrumented build'
fi
for wrong in '--kinds nothing' '--mix encyclopaedia' '--mix encyclopaedia=0' '--bytes 0'; do
	# shellcheck disable=SC2086
	train "$dir/wrong" --kinds encyclopaedia $wrong
	[ $? = 2 ] && [ "$(wc -l <"$err")" = 1 ] && [ ! -e "$dir/wrong" ]
	report "refused: train $wrong" $?
done

# ---- evaluation sets ----
"$corpus" evalsets --out "$dir/sets" >"$out" 2>&1
report 'the evaluation sets are generated' $?
# same FOLDER: every generated file of FOLDER is the committed one
same() {
	(cd "$1" && find . -type f) | while read -r file; do cmp "$1/$file" "datasets/$file" 2>&1; done >"$out"
	[ ! -s "$out" ]
}
same "$dir/sets"
report 'they are the committed ones, byte for byte' $?
for set in mini-mmlu mini-truthfulqa; do
	diff -rq -x README.md "$dir/sets/$set" "datasets/$set" >"$out" 2>&1
	report "nothing else is committed in $set" $?
done
cp -r "$dir/sets" "$dir/changed" && printf 'x' | dd of="$dir/changed/mini-mmlu/test/virology_test.csv" conv=notrunc 2>/dev/null
! same "$dir/changed"
report 'a changed byte would be seen' $?

# shape FOLDER ROWS: 57 files of ROWS rows of 4 choices, letters dealt evenly
shape() {
	$python - "$1" "$2" >"$out" 2>&1 <<'END'
import collections, csv, os, sys
letters, folder = collections.Counter(), sys.argv[1]
assert len(os.listdir(folder)) == 57
for name in os.listdir(folder):
    with open(os.path.join(folder, name), newline="") as f:
        rows = list(csv.reader(f))
    assert len(rows) == int(sys.argv[2]), name
    assert all(len(set(row[1:5])) == 4 and len(row) == 6 for row in rows), name
    letters.update(row[5] for row in rows)
assert set(letters) == set("ABCD") and max(letters.values()) - min(letters.values()) <= 1, letters
END
}
shape $sets/test 10 && shape $sets/dev 5
report 'mini-mmlu: 570 questions and 285 shots, letters balanced' $?
$python - >"$out" 2>&1 <<'END'
import csv
with open("datasets/mini-truthfulqa/TruthfulQA.csv", newline="") as f:
    rows = list(csv.DictReader(f))
assert len(rows) >= 100
for row in rows:
    right, wrong = row["Correct Answers"].split("; "), row["Incorrect Answers"].split("; ")
    assert row["Best Answer"] == right[0] and not set(right) & set(wrong) and len(wrong) == 4, row
END
report 'mini-truthfulqa: at least 100 rows, right and wrong answers apart' $?

# below LIMIT KIND ARGUMENT...: the worst prior scores at most LIMIT %
below() {
	limit=$1 kind=$2
	shift 2
	$python tests/scripts/corpus_blank.py "$text/$kind.txt" $sets "$@" >"$out" 2>&1 &&
		awk -v limit="$limit" '/^worst/ { seen = 1; bad = $2 > limit } END { exit bad || !seen }' "$out"
}
for kind in encyclopaedia questions; do
	below 30 $kind
	report "$kind: with the question blanked no prior scores more than 30 %" $?
	! below 30 $kind --control
	report "$kind: a tell-tale choice would be seen" $?
done

# ---- the split ----
# check FOLDER [DATA]
check() {
	"$corpus" check --train "$1" --data "${2:-datasets}" >"$out" 2>"$err"
	status=$?
}
check "$text"
[ $status = 0 ] && grep -q ': 0 leaks$' "$out"
report 'no test item occurs in training' $?

# planted NAME FOUND FILE TEXT: with a document of TEXT added to FILE, the check finds a leak (or not)
planted() {
	rm -rf "$dir/planted" && cp -r "$text" "$dir/planted"
	lines=$(wc -l <"$text/$3")
	printf 'Some words before.\n%s\n<|endoftext|>\n' "$4" >>"$dir/planted/$3"
	check "$dir/planted"
	if [ "$2" = yes ]; then
		[ $status = 1 ] && grep -q "^leak: .*$3:$((lines + 1))$" "$out"
	else
		[ $status = 0 ]
	fi
	report "$1" $?
}
question=$(sed -n '3s/?,.*/?/p' $sets/test/virology_test.csv)
best=$(awk -F, 'NR == 5 { print $4 }' datasets/mini-truthfulqa/TruthfulQA.csv)
planted 'a planted test question is found' yes encyclopaedia.txt "And so: $question Nobody knows."
planted 'in text of another kind too' yes questions.txt "Question: $question"
planted 'in other case and punctuation too' yes encyclopaedia.txt "$(echo "$question" | tr 'a-z ?' 'A-Z-!')"
planted 'a planted best answer is found' yes encyclopaedia.txt "$best, as is known."
planted 'a question with one word changed is another' no encyclopaedia.txt "$(echo "$question" | sed 's/the [A-Z][a-z]*/the Xyzzy/')"
planted 'the second half of a question is none' no encyclopaedia.txt "${question#* }"

truncate -s -5 "$dir/planted/encyclopaedia.txt"
check "$dir/planted"
[ $status = 1 ] && grep -q 'encyclopaedia.txt:[0-9]*: the last document is cut off' "$err"
report 'a truncated corpus is refused with file and line' $?
rm "$dir/planted/encyclopaedia.txt"
check "$dir/planted"
[ $status = 1 ] && grep -q 'encyclopaedia.txt' "$err"
report 'a missing training file is refused' $?
cp -r datasets "$dir/data" && printf '"an open quote,A,B,C,D,A\n' >>"$dir/data/mini-mmlu/test/virology_test.csv"
check "$text" "$dir/data"
[ $status = 1 ] && grep -q 'virology_test.csv:11' "$err"
report 'a damaged set is refused with file and line' $?
finish
