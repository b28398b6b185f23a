#!/usr/bin/env python3
"""Writes a tiny qwen2 model as such models are published: one file, or two with an index.

usage: make_published.py DIR [SHARDS]
"""
import json
import os
import random
import struct
import sys

DIM, FF, HEADS, KV, HEAD_DIM, LAYERS, ROWS = 64, 96, 2, 1, 32, 2, 264


def letters():
    """Byte-level BPE's letter of every byte."""
    own = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xFF and b != 0xAD]
    rest = [b for b in range(256) if b not in own]
    return [chr(b) for b in own] + [chr(256 + i) for i in range(len(rest))]


def shapes():
    yield "model.embed_tokens.weight", [ROWS, DIM]
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name, rows in (("q", HEADS), ("k", KV), ("v", KV)):
            yield f"{at}self_attn.{name}_proj.weight", [rows * HEAD_DIM, DIM]
            yield f"{at}self_attn.{name}_proj.bias", [rows * HEAD_DIM]
        yield f"{at}self_attn.o_proj.weight", [DIM, HEADS * HEAD_DIM]
        yield f"{at}mlp.gate_proj.weight", [FF, DIM]
        yield f"{at}mlp.up_proj.weight", [FF, DIM]
        yield f"{at}mlp.down_proj.weight", [DIM, FF]
        yield f"{at}input_layernorm.weight", [DIM]
        yield f"{at}post_attention_layernorm.weight", [DIM]
    yield "model.norm.weight", [DIM]


def write_file(path, tensors, rng):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, shape in tensors:
        n = shape[0] * (shape[1] if len(shape) == 2 else 1)
        values = [1.0] * n if "norm" in name else [rng.gauss(0, 0.1) for _ in range(n)]
        block = struct.pack(f"<{n}e", *values)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data) + len(block)]}
        data += block
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def main():
    folder, shards = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    os.makedirs(folder, exist_ok=True)
    rng, tensors, listed = random.Random(1), list(shapes()), {}
    for i in range(shards):
        name = "model.safetensors" if shards == 1 else f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = tensors[len(tensors) * i // shards : len(tensors) * (i + 1) // shards]
        write_file(os.path.join(folder, name), part, rng)
        listed.update({tensor: name for tensor, _ in part})
    tokens = letters() + ["he", "ll", "hell"]
    pattern = (
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
        " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    )
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    end = {"id": len(tokens), "content": "<|endoftext|>", "special": True, "normalized": False}
    files = {
        "config.json": {
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
            "hidden_size": DIM, "intermediate_size": FF, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV, "vocab_size": ROWS,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "tie_word_embeddings": True, "torch_dtype": "float16",
        },
        "tokenizer.json": {
            "added_tokens": [end], "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)},
                      "merges": ["h e", "l l", "he ll"]},
        },
        "tokenizer_config.json": {"eos_token": "<|endoftext|>", "add_bos_token": False},
    }
    if shards > 1:
        files["model.safetensors.index.json"] = {"metadata": {}, "weight_map": listed}
    for name, value in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(value, f)


main()
