#!/bin/sh
# ruvltra learn: one pass of a loop over a store, at a given time; what it reports, what it refuses.
. tests/cli/tap.inc
store=$dir/store
python=$(command -v python3)

$python - >"$dir/given.jsonl" <<'PY'
import json, random
random.seed(1)
for i in range(30):
    print(json.dumps({
        "task": "Request: %s the bell number %d.\nAgent:" % (["mend", "hide"][i % 2], i),
        "actions": [{"action": " the %s guild" % ["bell", "fog"][i % 2], "quality": 0.9}],
        "final_quality": 0.9 if i % 5 else 0.2, "verdict": "success", "session_id": "s%d" % (i % 3),
        "embedding": [random.gauss(0, 1) for _ in range(768)], "created_at": 1763700000000}))
PY
run bank add --store "$store" -f "$dir/given.jsonl"
report "patterns to learn from" "$status"
set -- learn deep --store "$store" -t 1 --steps 2 --distill-steps 1
run "$@" --now 2025-11-22T00:00:00Z
[ "$status" = 0 ] && grep -q "^deep loop, pass 1, 2025-11-22T00:00:00.000Z" "$out" &&
	[ "$(wc -l <"$out")" = 8 ] && grep -q "6 of 30 patterns were stored" "$out"
report "a pass of the deep loop, a line a part" $?
grep -q "^  tune  *done  .*: 2 steps on " "$out"
report "it fine-tunes" $?
[ -s "$store/sona/state.json" ]
report "what was learnt is kept" $?
run "$@" --now 1764374400000 --parts filter,prune --json
[ "$status" = 0 ] && [ "$(grep -c '"outcome": "off"' "$out")" = 5 ] && grep -q '"pass": 2' "$out"
report "parts by name, milliseconds, JSON" $?
accepted "a part left out" "  archive      off" "$@" --now 1764374400001 --parts -archive,-tune,-distill
accepted "no time left" "put off" "$@" --now 1764374400002 --max-seconds 1e-6
run "$@" --now 2026-03-01T00:00:00Z --parts all,-tune,-distill
[ "$status" = 0 ] && grep -q "24 of 24 patterns are old" "$out"
report "time is what is given: all fades" $?
accepted "background" "background loop, pass 1" learn background --store "$store" --now 2026-03-01T01:00:00Z
refused "no loop" 2 "expected background or deep" learn --store "$store"
refused "another loop" 2 "expected background or deep" learn weekly --store "$store"
refused "no store" 2 "--store: a folder is needed" learn deep
refused "no time" 2 "neither a time nor" learn deep --store "$store" --now soon
refused "no part" 2 "'index' is no part of the deep loop" learn deep --store "$store" --parts index
refused "a draft that is none" 1 "given.jsonl" learn deep --store "$store" --draft "$dir/given.jsonl"
finish
