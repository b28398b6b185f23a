#!/bin/sh
# The commands on real models: golden tokens and logits, streams, signals, odd environments.
# shellcheck disable=SC2154
. tests/cli/tap.inc

if [ ! -d "$models" ]; then
	echo '1..0 # SKIP no reference data'
	exit 0
fi
stories=$models/stories260K.f32.gguf
golden=$(python3 -c 'import json, sys
print(*json.load(open(sys.argv[1]))["tokens"][1:])' "$models/stories260K.golden.json")

# golden NAME ARGUMENT...: the 63 greedy tokens after BOS
golden() {
	name=$1
	shift
	run run -m "$stories" --tokens 1 -n 63 --temp 0 --ids "$@"
	[ "$status" = 0 ] && [ "$(cat "$out")" = "$golden" ] && [ "$(wc -l <"$out")" = 1 ]
	report "golden tokens: $name" $?
}

# ---- the same tokens, however they are computed ----
golden 'defaults'
for threads in 1 2 3 5; do golden "$threads threads" -t $threads; done
for backend in ref blas simd; do golden "backend $backend" --backend $backend; done
for kv in f32 f16 q8; do golden "cache $kv" --kv $kv; done
golden 'standard attention' --attn standard
golden 'standard attention by blocks' --attn standard-causal
golden 'one row a batch' -b 1
golden 'cache in one piece' --page-size 0
golden 'pages of 8 tokens' --page-size 8
golden 'old pages as q8' --page-size 8 --kv-policy two-tier:tail=16
golden 'the F16 file' -m "$models/stories260K.f16.gguf"
golden 'ids with blanks' --tokens ' 1 '
golden 'top-k 1 at a temperature' --temp 1 --top-k 1
for locale in de_DE.UTF-8 tr_TR.UTF-8 C; do
	LC_ALL=$locale LANG=$locale golden "locale $locale"
done
(unset HOME && golden 'no HOME') && count=$((count + 1))
(umask 077 && golden 'umask 077') && count=$((count + 1))
env -i PATH="$PATH" "$ruvltra" run -m "$stories" --tokens 1 -n 63 --temp 0 --ids >"$out" 2>"$err"
[ "$(cat "$out")" = "$golden" ]
report 'golden tokens: empty environment' $?
mkdir "$dir/gone"
(cd "$dir/gone" && rmdir "$dir/gone" &&
	"$ruvltra" run -m "$stories" --tokens 1 -n 63 --temp 0 --ids) >"$out" 2>"$err"
[ "$(cat "$out")" = "$golden" ]
report 'golden tokens: working directory deleted' $?
prompt=$(echo "$golden" | cut -d' ' -f1-20)
run run -m "$stories" --tokens "1,$(echo "$prompt" | tr ' ' ,)" -n 43 --temp 0 --ids
[ "$prompt $(cat "$out")" = "$golden" ]
report 'golden tokens: a longer prompt' $?

# ---- text ----
text='Once upon a time, there was a little girl named Lily. She loved to play outside in the park.'
run run -m "$stories" --tokens 1 -n 63 --temp 0
[ "$status" = 0 ] && case $(cat "$out") in "$text"*) true ;; *) false ;; esac
report 'text alone on stdout' $?
grep -q 'first token .* decode .* stop: length' "$err"
report 'timings on stderr' $?
run run -m "$stories" --tokens 1 -n 400 --temp 0 --stop ' play' --stop ' xyz'
[ "$(cat "$out")" = 'Once upon a time, there was a little girl named Lily. She loved to' ] &&
	grep -q 'stop: stop string' "$err"
report 'a stop string ends the text and is not printed' $?
run run -m "$stories" --tokens 1 -n 10000 --temp 0 --ids --ignore-eos
[ "$status" = 0 ] && [ "$(wc -w <"$out")" = 512 ] && grep -q 'stop: context' "$err"
report 'a full context ends the text' $?
run run -m "$stories" --tokens 1 -n 63 --temp 0 --json
python3 - "$out" "$golden" <<'END' >"$err" 2>&1
import json, sys
r = json.load(open(sys.argv[1]))
assert r["tokens"] == [int(t) for t in sys.argv[2].split()]
assert len(r["logprobs"]) == 63 and all(-5 < p <= 0 for p in r["logprobs"]), r["logprobs"]
assert r["text"].startswith("Once upon a time") and r["stop"] == "length"
assert r["timing"]["decode_tok_s"] > 0
END
report 'JSON' $?
run run -m "$stories" --tokens 1 -n 40 --seed 7 --ids
first=$(cat "$out")
run run -m "$stories" --tokens 1 -n 40 --seed 7 --ids -t 1
[ "$first" = "$(cat "$out")" ]
report 'one seed, one text' $?
run run -m "$stories" --tokens 1 -n 40 --seed 8 --ids
[ "$first" != "$(cat "$out")" ]
report 'another seed, another text' $?
run run -m "$stories" --tokens 1 -n 40 --seed 7 --ids --variant coder
coder=$(cat "$out")
run run -m "$stories" --tokens 1 -n 40 --seed 7 --ids --temp 0.2 --top-p 0.95
[ "$coder" = "$(cat "$out")" ] && [ "$coder" != "$first" ]
report 'a variant is its temperature and top-p' $?
run run -m "$stories" --tokens 1 -n 40 --seed 7 --ids --variant coder --temp 0
[ "$(cat "$out")" = "$(echo "$golden" | cut -d' ' -f1-40)" ]
report 'a given temperature wins over the variant' $?

# ---- streams ----
{ "$ruvltra" run -m "$stories" --tokens 1 -n 400000 -c 400001 --temp 0 --ignore-eos 2>"$err"; echo $? >"$dir/code"; } |
	head -c 20 >"$out"
[ "$(cat "$dir/code")" = 0 ] && [ "$(cat "$out")" = 'Once upon a time, th' ] && grep -q 'stop: caller' "$err"
report 'a reader that leaves ends the run' $?
"$ruvltra" run -m "$stories" --tokens 1 -n 5 --temp 0 >&- 2>"$err"
[ $? = 1 ] && grep -q '^ruvltra: run stdout: ' "$err"
report 'closed stdout' $?
"$ruvltra" run -m "$stories" --tokens 1 -n 5 --temp 0 >/dev/full 2>"$err"
[ $? = 1 ] && grep -q '^ruvltra: run stdout: No space' "$err"
report 'full device' $?
"$ruvltra" info -m "$stories" >/dev/full 2>"$err"
[ $? = 1 ] && grep -q '^ruvltra: info stdout: ' "$err"
report 'full device, printed at the end' $?
"$ruvltra" run -m "$stories" --tokens 1 -n 63 --temp 0 --ids >"$out" 2>&- <&-
[ $? = 0 ] && [ "$(cat "$out")" = "$golden" ]
report 'closed stdin and stderr' $?
"$ruvltra" quantize "$stories" "$dir/open.gguf" Q8_0 >"$out" 2>"$err" &&
	! "$ruvltra" quantize "$stories" "$dir/closed.gguf" Q8_0 >&- 2>&- <&- && cmp -s "$dir/open.gguf" "$dir/closed.gguf"
report 'closed streams do not end up in files' $?
for signal in INT:130 TERM:143 HUP:129; do
	timeout --preserve-status -s "${signal%:*}" 1 "$ruvltra" run -m "$stories" --tokens 1 -n 400000 \
		-c 400001 --temp 0 --ids --ignore-eos >"$out" 2>"$err"
	[ $? = "${signal#*:}" ] && [ "$(cut -d' ' -f1-63 "$out")" = "$golden" ] && [ "$(wc -l <"$out")" = 1 ]
	report "SIG${signal%:*} ends a run between tokens" $?
done

# ---- the other commands ----
run logits -m "$stories" --kv f32 --tokens "1 $golden" --out "$dir/logits"
python3 - "$dir/logits" "$models/stories260K.golden.logits.f32.bin" >"$out" 2>&1 <<'END'
import struct, sys
a, b = (struct.unpack("<32768f", open(f, "rb").read()) for f in sys.argv[1:])
spread = max(b) - min(b)
worst = max(abs(x - y) for x, y in zip(a, b)) / spread
print("largest difference", worst, "of the range")
assert worst <= 2e-4
END
report 'logits within 2e-4 of the golden range' $?
run logits -m "$stories" --kv f32 --tokens "1 $golden" --out "$dir/logits2" -b 7 -t 3
cmp -s "$dir/logits" "$dir/logits2"
report 'logits do not depend on batch and threads' $?
run tokenize -m "$stories" --detokenize "1 $golden"
case $(cat "$out") in *"$text"*) true ;; *) false ;; esac
report 'detokenize' $?
run tokenize -m "$stories" --no-special --detokenize "1 $golden"
case $(cat "$out") in "$text"*) true ;; *) false ;; esac
report 'detokenize without special tokens' $?
tokenizer=$reference/tokenizers/gpt-2/ggml-vocab-gpt-2.gguf
head -c 20000 /dev/urandom >"$dir/bytes"
run tokenize --tokenizer "$tokenizer" --no-special -f "$dir/bytes"
[ "$status" = 0 ] && [ "$(wc -l <"$out")" = 1 ] &&
	[ "$(head -c 40 "$dir/bytes" | "$ruvltra" tokenize --tokenizer "$tokenizer" --no-special -f - | wc -l)" = 1 ]
report 'random bytes from a file and from stdin' $?
head -c 1500 "$dir/bytes" >"$dir/some"
run tokenize --tokenizer "$tokenizer" --no-special -f "$dir/some"
run tokenize --tokenizer "$tokenizer" --detokenize "$(cat "$out")"
cmp -s "$out" "$dir/some"
report 'bytes come back' $?
run tokenize --tokenizer "$tokenizer" ''
[ "$status" = 0 ] && [ "$(od -An -c "$out" | tr -d ' ')" = '\n' ]
report 'an empty text is an empty line' $?
qwen=$reference/tokenizers/qwen2.5/tokenizer.json
run tokenize --tokenizer "$qwen" '<|im_start|>user'
[ "$(cat "$out")" = '151644 872' ]
report 'special tokens' $?
run tokenize --tokenizer "$qwen" --no-special '<|im_start|>'
[ "$(wc -w <"$out")" -gt 1 ]
report 'special tokens as ordinary text' $?
run tokenize -m "$stories" --bos a
with=$(cat "$out")
run tokenize -m "$stories" a
[ "$with" = "1 $(cat "$out")" ]
report 'begin of sequence' $?

accepted 'bits per weight of Q4_K_M' ', 4.844 bits per weight' quantize llama-2-7b Q4_K_M --dry-run
accepted 'bits per weight of Q5_K_M' ', 5.678 bits per weight' quantize llama-2-7b Q5_K_M --dry-run
accepted 'fall-backs are counted' 'fall-backs' quantize "$stories" Q4_K_M --dry-run
accepted 'override by pattern' 'F32   -> Q4_0' \
	quantize "$stories" Q8_0 --dry-run --tensor-type 'blk.0.attn_q*=Q4_0'
accepted 'info of what was quantized' 'Q8_0' info -m "$dir/open.gguf"
accepted 'a quantized model runs' ' ' run -m "$dir/open.gguf" --tokens 1 -n 20 --ids --temp 0
odd=$dir/$(printf '\377') # no UTF-8
for arguments in "info --system" "info -m $stories" "quantize $stories Q8_0 --dry-run" "tokenize -m $stories a" \
	"logits -m $stories --tokens 1 --out $odd.l" "bench -m $stories -p 8 -n 4 -r 2" "synth pico $odd.p" \
	"quantize $odd.p $odd.q Q8_0" "run -m $odd.q -p a -n 2" "tokenize -m $stories --detokenize 1,403"; do
	# shellcheck disable=SC2086
	run $arguments --json
	[ "$status" = 0 ] && python3 -m json.tool "$out" >/dev/null 2>>"$err"
	report "JSON of ${arguments%% *}" $?
done
accepted 'bench as a table' '| tg4 @ d8 |' bench -m "$stories" -p 8 -n 4 -d 0,8 -r 2 -t 1
run bench -m "$stories" -p 8,16 -n 2-4*2 -r 3 -o csv --kv f16,q8
python3 - "$out" >>"$err" 2>&1 <<'END'
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
assert len(rows) == 8, len(rows)
assert {(r["n_prompt"], r["n_gen"], r["type_k"]) for r in rows} == {
    (p, n, k) for p, n in (("8", "0"), ("16", "0"), ("0", "2"), ("0", "4")) for k in ("f16", "q8")}
assert all(None not in r and float(r["avg_ts"]) > 0 and float(r["lo95_ts"]) <= float(r["median_ts"]) for r in rows)
END
report 'bench as CSV, lists crossed' $?
run bench -m "$stories" -m "$dir/none.gguf" -p 8 -n 4 -r 3 -o jsonl
[ "$status" = 1 ] && grep -q 'none.gguf' "$err" && python3 - "$out" >>"$err" 2>&1 <<'END'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert len(rows) == 2 and all(len(r["samples_ns"]) == 3 for r in rows)
assert rows[0]["p99_ms"] is None and rows[1]["p50_ms"] <= rows[1]["p95_ms"] <= rows[1]["p99_ms"]
assert all(r["ttft_ms"] > 0 and r["peak_anon_bytes"] > 0 for r in rows)
END
report 'bench goes on after a model that cannot be opened' $?
finish
