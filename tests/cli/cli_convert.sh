#!/bin/sh
# A published model becomes a file every command takes; what is wrong is named before anything is written.
# shellcheck disable=SC2154
. tests/cli/tap.inc

python3 tests/cli/make_published.py "$dir/one" && python3 tests/cli/make_published.py "$dir/two" 2
report 'published models are made' $?

accepted 'convert' 'qwen2, F16' convert "$dir/one" "$dir/one.gguf"
accepted 'tokens without a text are counted' '4 tokens' convert "$dir/one" "$dir/one.gguf"
accepted 'the file is described' '264' info -m "$dir/one.gguf"
accepted 'its tokens are those of tokenizer.json' '258' tokenize -m "$dir/one.gguf" hell
accepted 'it runs' ' ' run -m "$dir/one.gguf" --tokens 72 -n 4 --temp 0 --ids
accepted 'it is quantized' 'Q8_0' quantize "$dir/one.gguf" "$dir/q8.gguf" Q8_0
accepted 'F32' 'qwen2, F32' convert "$dir/one" "$dir/f32.gguf" --type F32
accepted 'BF16' '"type": "BF16"' convert "$dir/one" "$dir/bf16.gguf" --type BF16 --json

run convert "$dir/two" "$dir/two.gguf" -t 1
[ "$status" = 0 ] && run info -m "$dir/two.gguf" && [ "$status" = 0 ]
report 'two shards' $?
for name in one f32; do
	"$ruvltra" logits -m "$dir/$name.gguf" --tokens 1,2,3,72 --backend ref --out "$dir/$name.logits" 2>"$err"
done
cmp -s "$dir/one.logits" "$dir/f32.logits"
report 'F16 widened to F32: the same logits' $?

# ---- refused ----
refused 'no words' 2 '0 of 2' convert
refused 'no output' 2 '1 of 2' convert "$dir/one"
refused 'too many words' 2 'stray' convert "$dir/one" "$dir/x" stray
refused 'unknown type' 2 '--type' convert "$dir/one" "$dir/x.gguf" --type Q8_0
refused 'unknown option' 2 '--frobnicate' convert --frobnicate
refused 'the folder as output' 2 'both input and output' convert "$dir/one" "$dir/one"
refused 'a shard as output' 1 'both input and output' convert "$dir/two" "$dir/two/model-00001-of-00002.safetensors"
refused 'a folder as output' 1 'is a directory' convert "$dir/one" "$dir/two"
refused 'no such folder for the output' 1 'none' convert "$dir/one" "$dir/none/x.gguf"
refused 'no such input' 1 'config.json' convert "$dir/none" "$dir/x.gguf"
refused 'a file as input' 1 'config.json' convert "$dir/one.gguf" "$dir/x.gguf"
sed 's/"model-00002[^"]*"/"..\/..\/etc\/passwd"/' "$dir/two/model.safetensors.index.json" >"$dir/index"
cp "$dir/index" "$dir/two/model.safetensors.index.json"
refused 'a shard outside the folder' 1 'not a plain file name' convert "$dir/two" "$dir/x.gguf"
sed 's/"silu"/"gelu"/' "$dir/one/config.json" >"$dir/config" && cp "$dir/config" "$dir/one/config.json"
refused 'an activation that is not implemented' 1 "'hidden_act'" convert "$dir/one" "$dir/x.gguf"
[ ! -e "$dir/x.gguf" ] && [ -z "$(find "$dir" -name '*.tmp')" ]
report 'nothing is left of what was refused' $?
finish
