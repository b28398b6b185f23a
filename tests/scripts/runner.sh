#!/bin/sh
# The test runner itself: what must fail a run fails it, what must not does not.
set -u
dir=$(mktemp -d "${TMPDIR:-/tmp}/runner.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
count=0

fixture() { # name, body on standard input
	{ echo '#!/bin/sh' && cat; } >"$dir/$1"
	chmod +x "$dir/$1"
}

# check NAME STATUS TEXT PROGRAM...: the run exits with STATUS and says TEXT
check() {
	name=$1 want=$2 text=$3
	shift 3
	count=$((count + 1))
	scripts/run-tests.py --timeout 1 --skips "$dir/skips" "$@" >"$dir/out" 2>&1
	got=$?
	if [ $got = "$want" ] && grep -qF -e "$text" "$dir/out"; then
		echo "ok $count - $name"
	else
		echo "not ok $count - $name (exit status $got, wanted $want and '$text')"
		sed 's/^/# /' "$dir/out"
	fi
}

cat >"$dir/skips" <<'END'
listed: gone command:no-such-command-anywhere
listed: here command:sh
END
fixture good <<'END'
echo 1..2; echo "ok 1 - a"; echo "ok 2 - b"
END
fixture twice <<'END'
echo 1..1; echo "ok 1 - a"; echo 1..1; echo "ok 1 - b"
END
fixture failing <<'END'
echo 1..2; echo "ok 1 - a"; echo "not ok 2 - b"; echo "# why it failed"; exit 1
END
fixture quiet_failure <<'END'
echo 1..1; echo "not ok 1 - exits 0 all the same"
END
fixture crashing <<'END'
echo 1..2; echo "ok 1 - a"; kill -SEGV $$
END
fixture late_crash <<'END'
echo 1..1; echo "ok 1 - a"; kill -ABRT $$
END
fixture hanging <<'END'
echo 1..1; echo "ok 1 - a"; sleep 60
END
fixture no_plan <<'END'
echo "ok 1 - a"
END
fixture silent <<'END'
exit 0
END
fixture short <<'END'
echo 1..3; echo "ok 1 - a"
END
fixture bad_status <<'END'
echo 1..1; echo "ok 1 - a"; exit 3
END
fixture litter <<'END'
: >"$TMPDIR/forgotten"; echo 1..1; echo "ok 1 - a"
END
fixture unlisted <<'END'
echo 1..2; echo "ok 1 - a"; echo "not ok 2 # SKIP b"
END
fixture listed <<'END'
echo 1..2; echo "ok 1 - a"; echo "not ok 2 # SKIP $WHICH"
END
mkdir "$dir/standard" "$dir/whole"
fixture standard/listed <<'END'
echo 1..1; echo "ok 1 - gone # SKIP no data"
END
fixture whole/unlisted <<'END'
echo "1..0 # SKIP no data"
END

echo 1..18
check 'a good program passes' 0 '2 passed, 0 failed, 0 skipped' "$dir/good"
check 'several plans in one program' 0 '2 passed, 0 failed, 0 skipped' "$dir/twice"
check 'a failed test' 1 '1 passed, 1 failed, 0 skipped' "$dir/failing"
check 'output of a failed test is shown' 1 '# why it failed' "$dir/failing"
check 'a failure with exit status 0' 1 '0 passed, 1 failed, 0 skipped' "$dir/quiet_failure"
check 'a crash' 1 'killed by SIGSEGV' "$dir/crashing"
check 'a crash after the last test' 1 'killed by SIGABRT' "$dir/late_crash"
check 'a hang' 1 'still running after 1 s' "$dir/hanging"
check 'no plan' 1 'printed no plan' "$dir/no_plan"
check 'no output' 1 'printed no plan' "$dir/silent"
check 'fewer tests than planned' 1 'planned 3 tests, reported 1' "$dir/short"
check 'an exit status that no test explains' 1 'exit status 3' "$dir/bad_status"
check 'files left behind' 1 'left in TMPDIR: forgotten' "$dir/litter"
check 'a skip that is not listed' 1 'does not list' "$dir/unlisted"
WHICH=gone check 'a listed skip, its condition met' 0 '1 passed, 0 failed, 1 skipped' "$dir/listed"
WHICH=here check 'a listed skip, its condition not met' 1 'allowed only under command:sh' "$dir/listed"
check 'a skip in the standard form' 0 '0 passed, 0 failed, 1 skipped' "$dir/standard/listed"
check 'a whole program skipped' 1 'does not list' "$dir/whole/unlisted"
