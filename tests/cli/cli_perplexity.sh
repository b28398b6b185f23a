#!/bin/sh
# ruvltra perplexity on real models: what must be exact is exact, quantization shows, faults are named.
# shellcheck disable=SC2154
. tests/cli/tap.inc

tiny=$models/tiny-qwen2
questions=$reference/datasets/gsm8k/test.jsonl
if [ ! -d "$tiny" ] || [ ! -f "$questions" ]; then
	echo '1..0 # SKIP no reference data'
	exit 0
fi
f16=$tiny/tiny-qwen2.f16.gguf
words=$dir/questions
python3 - "$questions" >"$words" <<'END'
import itertools, json, sys
for line in itertools.islice(open(sys.argv[1], encoding="utf-8"), 40):
    print(json.loads(line)["question"])
END

# score MODEL ARGUMENT...: 12 chunks of 128 tokens
score() {
	model=$1
	shift
	run perplexity -m "$model" -f "$words" -c 128 --chunks 12 "$@"
}

# says NAME EXPRESSION: of the JSON value `r` on stdout, and of `kl` in it
says() {
	[ "$status" = 0 ] && python3 - "$out" "$2" <<'END' 2>>"$err"
import json, sys
r = json.load(open(sys.argv[1]))
kl = r.get("kl", {})
sys.exit(0 if eval(sys.argv[2]) else 1)
END
	report "$1" $?
}

# ---- alone ----
score "$f16"
[ "$status" = 0 ] && [ "$(wc -l <"$out")" = 1 ] &&
	grep -Eq '^Final estimate: PPL = [0-9]+\.[0-9]{4} \+/- [0-9]+\.[0-9]{5}$' "$out"
report 'one line on stdout' $?
final=$(sed 's/.*PPL = \([0-9.]*\) .*/\1/' "$out")
# random weights: somewhat worse than guessing among 1024 tokens
python3 -c "assert 3000 < $final < 30000" 2>>"$err"
report "perplexity $final" $?
grep -Eq '^\[1\][0-9.]+,\[2\][0-9.]+,.*\[12\]'"$final"'$' "$err" && [ "$(wc -l <"$err")" = 2 ]
report 'running values on stderr, the last is the result' $?
line=$(cat "$out")
score "$f16" -b 50 -t 1
[ "$status" = 0 ] && [ "$(cat "$out")" = "$line" ]
report 'neither batch nor threads change it' $?
"$ruvltra" perplexity -m "$f16" -f - -c 128 --chunks 12 <"$words" >"$out" 2>"$err" &&
	[ "$(cat "$out")" = "$line" ]
report 'text from standard input' $?
score "$f16" --json
says 'JSON' "abs(r['ppl']['value'] - $final) < 1e-3 and r['n_chunks'] == 12 and r['n_scored'] == 12 * 63 \
	and r['n_ctx'] == 128 and r['n_tokens'] > 12 * 128 and not kl and r['n_zero_probability'] == 0"
score "$f16" --chunks 2 --json
says 'fewer chunks, another value' "r['n_chunks'] == 2 and abs(r['ppl']['value'] - $final) > 1"

# ---- against itself: exact ----
score "$f16" --kl-base "$f16" --json
says 'KL divergence of a model from itself is 0' "kl['kld']['value'] == 0 and kl['kld']['se'] == 0 \
	and set(kl['kld']['percentiles'].values()) == {0}"
says 'its probabilities do not move' "kl['rms_delta_p']['value'] == 0 \
	and set(kl['delta_p']['percentiles'].values()) == {0}"
says 'same top token always' "kl['same_top_p'] == {'value': 1, 'se': 0}"
says 'ratio 1, difference 0, correlation 1' "kl['ppl_ratio'] == {'value': 1, 'se': 0} \
	and kl['ppl_difference'] == {'value': 0, 'se': 0} and kl['correlation'] == 1 \
	and r['ppl'] == kl['ppl_base'] and abs(r['ppl']['value'] - $final) < 1e-3"

# ---- quantized against unquantized ----
score "$tiny/tiny-qwen2.q8_0.gguf" --kl-base "$f16" --json
says 'Q8_0 is near' "0 < kl['kld']['value'] < 0.01 and kl['kld']['percentiles']['min'] > 0 \
	and kl['same_top_p']['value'] > 0.85 and abs(kl['ppl_base']['value'] - $final) < 1e-3"
q8=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["kl"]["kld"]["value"])' "$out" 2>>"$err")
score "$tiny/tiny-qwen2.q4_k_m.gguf" --kl-base "$f16" --json
says "Q4_K_M is farther than Q8_0 ($q8 nats)" "kl['kld']['value'] > 10 * ${q8:-inf} \
	and 0 < kl['correlation'] < 1 and kl['same_top_p']['value'] < 0.85"
says 'percentiles ascend' "all(list(s['percentiles'].values()) == sorted(s['percentiles'].values(), reverse=True) \
	and len(s['percentiles']) == 13 for s in (kl['kld'], kl['delta_p']))"
says 'ratio, logarithm and difference agree' "abs(kl['ppl_ratio']['value'] - r['ppl']['value'] / kl['ppl_base']['value']) < 1e-8 \
	and abs(kl['ppl_difference']['value'] - r['ppl']['value'] + kl['ppl_base']['value']) < 1e-4"
score "$tiny/tiny-qwen2.q4_k_m.gguf" --kl-base "$f16"
for label in 'Mean PPL(Q)  ' 'Mean PPL(base)' 'Cor(ln(PPL(Q)), ln(PPL(base)))' 'Mean ln(PPL(Q)/PPL(base))' \
	'Mean PPL(Q)/PPL(base)' 'Mean PPL(Q)-PPL(base)' 'Mean    KLD' 'Maximum KLD' 'Median  KLD' 'Minimum KLD' \
	'Mean    Δp' '99.9%   Δp' '0.1%    Δp' 'RMS Δp' 'Same top p'; do
	grep -qF "$label" "$out" || echo "missing: $label" >>"$err"
done
[ "$status" = 0 ] && ! grep -q '^missing' "$err" && ! grep -Eqi 'nan|inf' "$out"
report 'all statistics as text' $?
[ "$(grep -c '^ *[0-9][0-9]* .*±' "$err")" = 12 ]
report 'a line a chunk on stderr' $?

# ---- faults ----
refused 'no text' 2 '--file' perplexity -m "$f16"
refused 'an empty base name' 2 '--kl-base' perplexity -m "$f16" -f "$words" --kl-base ''
refused 'a chunk of 2 tokens' 2 '-c' perplexity -m "$f16" -f "$words" -c 2
refused 'chunks -1' 2 '--chunks' perplexity -m "$f16" -f "$words" --chunks -1
refused 'a stray word' 2 "'x'" perplexity -m "$f16" -f "$words" x
refused 'no such text' 1 'none.txt' perplexity -m "$f16" -f "$dir/none.txt"
refused 'a directory as text' 1 "$dir" perplexity -m "$f16" -f "$dir"
: >"$dir/empty"
refused 'an empty text' 1 'empty: the text is empty' perplexity -m "$f16" -f "$dir/empty"
head -c 200 "$words" >"$dir/short"
refused 'a text that is too short' 1 'needs a text of at least 1024' perplexity -m "$f16" -f "$dir/short"
refused 'another vocabulary' 1 'vocabulary of 1024 tokens' \
	perplexity -m "$f16" -f "$words" --kl-base "$models/stories260K.f16.gguf"
refused 'no such base' 1 'none.gguf' perplexity -m "$f16" -f "$words" --kl-base "$dir/none.gguf"
python3 - "$f16" "$dir/entry.gguf" <<'END'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
entry = (10).to_bytes(8, "little") + b"<|im_end|>"
at = data.index(entry)
data[at + len(entry) - 3] = ord("D")
open(sys.argv[2], "wb").write(data)
END
refused 'another entry' 1 "'<|im_end|>'" perplexity -m "$f16" -f "$words" --kl-base "$dir/entry.gguf"
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do cat "$words"; done >"$dir/long"
timeout --preserve-status -s INT 0.5 "$ruvltra" perplexity -m "$f16" -f "$dir/long" >"$out" 2>"$err"
[ $? = 130 ] && [ ! -s "$out" ] && ! grep -q '^ruvltra' "$err"
report 'SIGINT ends it' $?
finish
