#!/bin/sh
# run-experiments.sh BUILD run|report: runs the experiments of experiments/list.txt, draws their plots and
# writes results/report.md and report.html; with `report` nothing is measured.
# From the environment: PROFILE (quick), MODEL, ONLY (T1,T2,...), RESULTS (results), ARGS (further options).
set -u
build=$1 mode=$2
profile=${PROFILE:-quick} results=${RESULTS:-results} only=${ONLY:-}
list=experiments/list.txt
failed=0 why=

fail() {
	printf 'experiments: %s\n' "$1" >&2
	exit 2
}

wanted() { # ID
	[ -z "$only" ] && return 0
	case ",$only," in *",$1,"*) return 0 ;; esac
	return 1
}

measured() { # TSV: does it hold a point with numbers? Nothing else can be drawn.
	[ -r "$1" ] && awk -F '\t' 'NR > 1 && $2 == "ok" { found = 1 } END { exit !found }' "$1"
}

ids=$(sed -n 's/^\(T[0-9]*\) .*/\1/p' $list | tr '\n' ' ')
for id in $(printf '%s' "$only" | tr ',' ' '); do
	case " $ids " in *" $id "*) ;; *) fail "ONLY=$id: no such experiment; there are: $ids" ;; esac
done
[ -z "${MODEL:-}" ] || [ -r "$MODEL" ] || fail "MODEL=$MODEL: cannot be read"

mkdir -p "$results/data" "$results/plots" || exit 1
names=
while read -r id program name plot; do
	case $id in '' | '#'*) continue ;; esac
	names="$names $name"
	if [ "$mode" = run ] && wanted "$id"; then
		# shellcheck disable=SC2086
		"$build/bin/$program" --profile "$profile" --out "$results/$name.h5" \
			${MODEL:+-m "$MODEL"} ${ARGS:-}
		code=$?
		[ $code -lt 128 ] || exit $code
		[ $code -eq 0 ] || failed=1
	fi
	if ! command -v gnuplot >/dev/null 2>&1; then
		why='gnuplot not installed'
	elif measured "$results/data/$name.tsv"; then
		footer=$("$build/bin/report" --results "$results" --footer "$name") || failed=1
		gnuplot -e "data='$results/data/$name.tsv'; out='$results/plots/$name'; footer='$footer'" \
			"scripts/plots/$plot" || failed=1
	else
		rm -f "$results/plots/$name".* # of an earlier run, whose numbers are gone
	fi
done <$list

if [ -n "$why" ]; then
	# shellcheck disable=SC2086
	"$build/bin/report" --results "$results" --no-plots "$why" $names || failed=1
else
	# shellcheck disable=SC2086
	"$build/bin/report" --results "$results" $names || failed=1
fi
[ $failed -eq 0 ] && printf 'Report: %s/report.md and %s/report.html\n' "$results" "$results"
exit $failed
