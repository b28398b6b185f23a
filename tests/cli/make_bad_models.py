#!/usr/bin/env python3
"""Malformed model files: writes them, and checks how the ruvltra command takes them.

usage: make_bad_models.py write DIR             a valid tiny model mutated in every way, and cases.tsv
       make_bad_models.py check DIR RUVLTRA     runs `info` and `run` on each; prints TAP
       make_bad_models.py seeds DIR             a few tiny GGUF files as fuzzing seeds

What a case expects of the command (second column of cases.tsv):
  ok      both commands exit 0: the controls
  refuse  both exit 1 with one line "ruvltra: ..." on stderr that names the file, and nothing on stdout
  run     the fault lies in values: `run` is refused, `info` may accept
  either  accepted or refused, as long as it ends well (a stated cap, a warning)
Never a signal, never longer than 10 s, and memory within that of the valid model + file size + 64 MiB.
"""

import copy
import os
import random
import re
import struct
import subprocess
import sys
import threading

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B",
        U64: "<Q", I64: "<q", F64: "<d"}
T_F32, T_F16, T_Q8_0, T_Q4_K = 0, 1, 8, 12
BLOCK = {T_F32: (1, 4), T_F16: (1, 2), T_Q8_0: (32, 34), T_Q4_K: (256, 144)}


# ---- a GGUF file as Python values; any field can be overridden when it is written ----

def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    """The bytes of a value; `bytes` stand for themselves where they are not a string."""
    if kind == STR:
        return string(v)
    if isinstance(v, bytes):
        return v
    if kind == ARR:
        elem, items = v
        return struct.pack("<IQ", elem, len(items)) + b"".join(value(elem, i) for i in items)
    return struct.pack(PACK[kind], v)


class Tensor:
    def __init__(self, name, kind, dims, data):
        self.name, self.type, self.dims, self.data = name, kind, list(dims), data
        self.n_dims = self.offset = self.name_len = None  # None: what is right


class Model:
    def __init__(self):
        self.magic, self.version, self.alignment = b"GGUF", 3, 32
        self.n_kv = self.n_tensors = None
        self.kv, self.tensors = [], []  # kv: [key, kind, value]
        self.tail = b""

    def key(self, name):
        return next(k for k in self.kv if k[0] == name)

    def set(self, name, kind, v):
        for k in self.kv:
            if k[0] == name:
                k[1:] = [kind, v]
                return
        self.kv.append([name, kind, v])

    def drop(self, name):
        self.kv = [k for k in self.kv if k[0] != name]
        self.tensors = [t for t in self.tensors if t.name != name]

    def tensor(self, name):
        return next(t for t in self.tensors if t.name == name)

    def bytes(self, marks=None):
        """The file. `marks` receives the end of every section, for cutting."""
        n_kv = len(self.kv) if self.n_kv is None else self.n_kv
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        out = bytearray(self.magic + struct.pack("<IQQ", self.version, n_tensors, n_kv))
        marks = marks if marks is not None else []
        marks += [4, 8, 16, 24]
        for name, kind, v in self.kv:
            out += string(name) + struct.pack("<I", kind) + value(kind, v)
            marks.append(len(out))
        offset = 0
        for t in self.tensors:
            name = string(t.name)
            if t.name_len is not None:
                name = struct.pack("<Q", t.name_len) + name[8:]
            n_dims = len(t.dims) if t.n_dims is None else t.n_dims
            out += name + struct.pack("<I", n_dims)
            out += b"".join(struct.pack("<Q", d % 2**64) for d in t.dims) + struct.pack("<I", t.type)
            out += struct.pack("<Q", (offset if t.offset is None else t.offset) % 2**64)
            offset += -(-len(t.data) // self.alignment) * self.alignment
            marks.append(len(out))
        out += bytes(-len(out) % self.alignment)
        marks.append(len(out))
        for t in self.tensors:
            out += t.data
            marks.append(len(out))
            out += bytes(-len(out) % self.alignment)
        return bytes(out) + self.tail


# ---- the valid models ----

def byte_letters():
    """The printable stand-ins of the 256 bytes in byte-level BPE."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = {}, 0
    for b in range(256):
        letters[b] = chr(b) if b in plain else chr(256 + extra)
        extra += b not in plain
    return [letters[b] for b in range(256)]


def byte_bpe(m):
    tokens = byte_letters()
    rng, merges = random.Random(3), []
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + ["\u0120"]
    while len(tokens) < 297:
        a, b = rng.choice(letters), rng.choice(letters[:26])
        if a + b not in tokens:
            tokens.append(a + b)
            merges.append(a + " " + b)
    tokens += ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    m.set("tokenizer.ggml.model", STR, "gpt2")
    m.set("tokenizer.ggml.pre", STR, "qwen2")
    m.set("tokenizer.ggml.tokens", ARR, (STR, tokens))
    m.set("tokenizer.ggml.token_type", ARR, (I32, [1] * 297 + [3] * 3))
    m.set("tokenizer.ggml.merges", ARR, (STR, merges))
    m.set("tokenizer.ggml.eos_token_id", U32, 297)
    m.set("tokenizer.ggml.bos_token_id", U32, 297)


HIDDEN, FF, HEADS, KV_HEADS, VOCAB = 32, 64, 2, 1, 300


def tiny(arch):
    """One layer, hidden 32: everything a real file has, in about 100 KB."""
    rng = random.Random(1)
    m = Model()
    m.set("general.architecture", STR, arch)
    m.set("general.name", STR, "tiny")
    for name, v in (("block_count", 1), ("context_length", 64), ("embedding_length", HIDDEN),
                    ("feed_forward_length", FF), ("attention.head_count", HEADS),
                    ("attention.head_count_kv", KV_HEADS)):
        m.set(f"{arch}.{name}", U32, v)
    m.set(f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-6)
    m.set(f"{arch}.rope.freq_base", F32, 1e4)
    byte_bpe(m)

    def add(name, *dims, one=False):
        n = 1
        for d in dims:
            n *= d
        values = [1.0] * n if one else [rng.gauss(0, 0.2) for _ in range(n)]
        m.tensors.append(Tensor(name, T_F32, dims, struct.pack(f"<{n}f", *values)))

    kv_dim = HIDDEN // HEADS * KV_HEADS
    add("token_embd.weight", HIDDEN, VOCAB)
    add("blk.0.attn_norm.weight", HIDDEN, one=True)
    for name, rows in (("q", HIDDEN), ("k", kv_dim), ("v", kv_dim)):
        add(f"blk.0.attn_{name}.weight", HIDDEN, rows)
        if arch == "qwen2":
            add(f"blk.0.attn_{name}.bias", rows)
    add("blk.0.attn_output.weight", HIDDEN, HIDDEN)
    add("blk.0.ffn_norm.weight", HIDDEN, one=True)
    add("blk.0.ffn_gate.weight", HIDDEN, FF)
    add("blk.0.ffn_up.weight", HIDDEN, FF)
    add("blk.0.ffn_down.weight", FF, HIDDEN)
    add("output_norm.weight", HIDDEN, one=True)
    add("output.weight", HIDDEN, VOCAB)
    return m


# ---- the cases: (name, expectation, bytes) ----

class Cases:
    def __init__(self):
        self.all = []
        self.bases = {arch: tiny(arch) for arch in ("qwen2", "llama")}

    def raw(self, name, expect, data):
        assert name not in (n for n, _, _ in self.all), name
        self.all.append((name, expect, data))

    def model(self, name, change, expect="refuse", arch="qwen2"):
        """A copy of the valid model after change(copy)."""
        m = copy.deepcopy(self.bases[arch])
        change(m)
        self.raw(name, expect, m.bytes())

    def key(self, name, suffix, kind, v, expect="refuse", arch="qwen2"):
        self.model(name, lambda m: m.set(f"{arch}.{suffix}", kind, v), expect, arch)

    def attr(self, name, tensor, expect="refuse", **fields):
        def change(m):
            for k, v in fields.items():
                setattr(m.tensor(tensor) if tensor else m, k, v)
        self.model(name, change, expect)


def rows_1_2(c):
    """No GGUF file at all; cut files."""
    c.raw("01-empty", "refuse", b"")
    c.raw("01-one-byte", "refuse", b"G")
    c.raw("01-magic-only", "refuse", b"GGUF")
    c.raw("01-lfs-pointer", "refuse", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    c.raw("01-html", "refuse", b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n")
    c.raw("01-json", "refuse", b'{"error": "gated repository"}')
    c.raw("01-zip", "refuse", b"PK\x03\x04" + bytes(100))
    c.raw("01-gzip", "refuse", b"\x1f\x8b\x08" + bytes(100))
    c.raw("01-zeros", "refuse", bytes(4096))
    c.raw("01-random", "refuse", random.Random(5).randbytes(4096))
    c.raw("01-escapes", "refuse", b"\x1b[2J\x1b]0;x\x07%n%n%s" * 50)
    c.attr("01-bad-magic", None, magic=b"GGUG")
    for version in (0, 1, 4, 2**24 * 3, 2**32 - 1):
        c.attr(f"01-version-{version}", None, version=version)
    marks = []
    whole = c.bases["qwen2"].bytes(marks)
    cuts = {at + d for at in marks for d in (-1, 0, 1)}
    for at in sorted(cut for cut in cuts if 4 < cut < marks[-1]):
        c.raw(f"02-cut-{at:06}", "refuse", whole[:at])
    c.raw("02-half", "refuse", whole[:len(whole) // 2])


HUGE = (2**64 - 1, 2**63, 2**62 + 1, 2**61 + 1, 2**60, 2**40, 2**32, 2**30)


def patched(c, name, needle, skip, data, expect="refuse"):
    """The valid file with bytes overwritten `skip` after the first occurrence of needle."""
    whole = bytearray(c.bases["qwen2"].bytes())
    at = whole.index(needle) + len(needle) + skip
    whole[at:at + len(data)] = data
    c.raw(name, expect, bytes(whole))


def rows_3_5(c):
    """Counts and lengths; nesting; duplicates and NULs."""
    for v in HUGE:
        q = struct.pack("<Q", v)
        c.attr(f"03-n-kv-{v:x}", None, n_kv=v)
        c.attr(f"03-n-tensors-{v:x}", None, n_tensors=v)
        patched(c, f"03-string-{v:x}", b"general.architecture", 4, q)
        patched(c, f"03-tokens-{v:x}", b"tokenizer.ggml.tokens", 8, q)
        patched(c, f"03-token-{v:x}", b"tokenizer.ggml.tokens", 16, q)
        patched(c, f"03-types-{v:x}", b"tokenizer.ggml.token_type", 8, q)
        c.attr(f"03-name-{v:x}", "token_embd.weight", name_len=v)
    for n, what in ((1, "more"), (-1, "fewer")):
        c.model(f"03-n-kv-one-{what}", lambda m, n=n: setattr(m, "n_kv", len(m.kv) + n))
        c.model(f"03-n-tensors-one-{what}", lambda m, n=n: setattr(m, "n_tensors", len(m.tensors) + n))

    def many_keys(m, again=0):
        names = [f"k{i:06}" for i in range(300000)]
        random.Random(2).shuffle(names)
        m.kv += [[name, U8, 1] for name in names + names[:again]]
    c.model("03-300000-keys", many_keys, "ok")
    c.model("05-300000-keys-and-a-duplicate", lambda m: many_keys(m, 1))
    deep = struct.pack("<IQ", ARR, 1) * 200000
    c.model("04-nested-200000", lambda m: m.kv.append(["deep", ARR, deep]))
    c.model("04-nested-once", lambda m: m.kv.append(["deep", ARR, (ARR, [(U8, [1])])]))
    for kind in (13, 14, 99, 2**31, 2**32 - 1):
        c.model(f"04-element-kind-{kind}",
                lambda m, k=kind: m.kv.append(["odd", ARR, struct.pack("<IQ", k, 2**60)]))
        c.model(f"04-value-kind-{kind}", lambda m, k=kind: m.kv.append(["odd", k, b"1234"]))
    c.model("04-bool-2", lambda m: m.kv.append(["odd", BOOL, b"\2"]))
    c.model("05-duplicate-key", lambda m: m.kv.append(["general.name", STR, "again"]))
    c.model("05-duplicate-layers", lambda m: m.kv.append(["qwen2.block_count", U32, 2]))
    c.model("05-duplicate-tensor", lambda m: m.tensors.append(copy.deepcopy(m.tensors[0])))
    c.model("05-empty-key", lambda m: m.kv.append(["", U8, 1]))
    c.model("05-nul-in-key", lambda m: m.kv.append(["a\0b", U8, 1]))
    c.model("05-long-key", lambda m: m.kv.append(["k" * 70000, U8, 1]))
    c.model("05-nul-in-name", lambda m: setattr(m.tensors[0], "name", "token_embd.weight\0"))
    c.model("05-empty-name", lambda m: setattr(m.tensors[0], "name", ""))
    c.model("05-long-name", lambda m: setattr(m.tensors[0], "name", "n" * 65))
    c.model("05-escapes-in-key", lambda m: m.kv.append(["\x1b[2J%n\n\x07", 99, b""]))


def rows_6_9(c):
    """Dimensions, offsets, types, alignment."""
    w = "blk.0.ffn_up.weight"
    for n in (0, 5, 2**31, 2**32 - 1):
        c.attr(f"06-n-dims-{n}", w, n_dims=n)
    for dims in ((0, 64), (32, 0), (0, 0), (-1, 64), (32, -64), (2**63 - 1, 1), (2**62, 4), (2**61, 1),
                 (2**32, 2**32), (2**31, 2**31), (32, 2**50), (32, 64, 0), (32, 64, 1, 0),
                 (32, 64, 2**63 - 1), (1, 1, 1, 1)):
        c.attr("06-dims-" + "x".join(map(str, dims)), w, dims=list(dims))
    for offset in (1, 8, 32, -32, 2**63, 2**64 - 1, 2**64 - 4096, 0, 2**40):
        c.attr(f"07-offset-{offset}", "output.weight", offset=offset)
        c.attr(f"07-first-offset-{offset}", "token_embd.weight", offset=offset,
               expect="refuse" if offset else "ok")
    for kind in (4, 5, 9, 15, 16, 23, 24, 26, 27, 28, 31, 36, 39, 40, 1000, 2**31, 2**32 - 1):
        c.attr(f"08-type-{kind}", w, type=kind)
    c.attr("08-block-misfit-q8", "blk.0.attn_norm.weight", type=T_Q4_K)
    c.attr("08-q4k-row-32", w, type=T_Q4_K)

    def requantize(name, kind):
        def change(m):
            t = m.tensor(name)
            elems, size = BLOCK[kind]
            t.type, t.data = kind, bytes(len(t.data) // 4 // elems * size)
        return change
    for name in ("blk.0.attn_norm.weight", "output_norm.weight", "blk.0.attn_q.bias"):
        c.model(f"08-{name}-q8_0", requantize(name, T_Q8_0))
    for a in (0, 1, 3, 24, 33, 2**22, 2**31, 2**32 - 1):
        c.model(f"09-alignment-{a}", lambda m, a=a: m.set("general.alignment", U32, a))
    for kind, v in ((U64, 32), (I32, 32), (U8, 32), (STR, "32"), (F32, 32.0), (BOOL, 1),
                    (ARR, (U32, [32]))):
        c.model(f"09-alignment-kind-{kind}", lambda m, k=kind, v=v: m.set("general.alignment", k, v))
    c.model("09-alignment-64-not-kept", lambda m: m.set("general.alignment", U32, 4096))


def rows_10_11(c):
    """Hyper-parameters."""
    for suffix, values in (
            ("attention.head_count", (0, 3, 7, 64, 2**32 - 1)),
            ("attention.head_count_kv", (0, 3, 4, 2**32 - 1)),
            ("block_count", (0, 2, 1000, 2**32 - 1)),
            ("embedding_length", (0, 16, 33, 64, 2**32 - 1)),
            ("feed_forward_length", (0, 63, 128, 2**32 - 1)),
            ("rope.dimension_count", (0, 1, 15, 32, 2**32 - 1)),
            ("attention.key_length", (0, 1, 15, 17, 32, 2**32 - 1)),
            ("attention.value_length", (0, 8, 2**32 - 1))):
        for v in values:
            c.key(f"10-{suffix}-{v}", suffix, U32, v)
    for suffix, legal in (("attention.head_count", HEADS), ("block_count", 1), ("embedding_length", HIDDEN),
                          ("feed_forward_length", FF), ("attention.head_count_kv", KV_HEADS)):
        c.key(f"10-{suffix}-truncates", suffix, U64, 2**32 + legal)
        c.key(f"10-{suffix}-negative", suffix, I32, -1)
        c.key(f"10-{suffix}-float", suffix, F32, float(legal))
        c.key(f"10-{suffix}-string", suffix, STR, str(legal))
        c.key(f"10-{suffix}-array", suffix, ARR, (U32, [legal]))
        if suffix != "attention.head_count_kv":
            c.model(f"10-{suffix}-missing", lambda m, s=suffix: m.drop(f"qwen2.{s}"))
    c.key("10-experts", "expert_count", U32, 8)
    c.key("10-sliding-window", "attention.sliding_window", U32, 32)
    c.key("10-soft-cap", "attn_logit_softcapping", F32, 50.0)
    c.key("10-rope-scaling", "rope.scaling.type", STR, "linear")
    c.key("10-rope-yarn-without-factor", "rope.scaling.type", STR, "yarn")
    c.key("10-rope-factor-without-type", "rope.scaling.factor", F32, 4.0)
    c.key("11-context-0", "context_length", U32, 0)
    c.key("11-context-2^32-1", "context_length", U32, 2**32 - 1, expect="either")
    c.key("11-context-2^24", "context_length", U32, 2**24, expect="either")
    c.key("11-context-2^63", "context_length", U64, 2**63)
    c.model("11-context-missing", lambda m: m.drop("qwen2.context_length"))


def row_12(c):
    """Tensors missing, misshapen, superfluous; a file of another sort."""
    for t in c.bases["qwen2"].tensors:
        tied = t.name == "output.weight"  # without a head the embedding is used
        c.model(f"12-missing-{t.name}", lambda m, n=t.name: m.drop(n), "ok" if tied else "refuse")

        def longer(m, name=t.name):
            x = m.tensor(name)
            x.dims[-1] += 1
            x.data += bytes(4 * (x.dims[0] if len(x.dims) > 1 else 1))
        c.model(f"12-longer-{t.name}", longer)
        if len(t.dims) == 2 and t.dims[0] != t.dims[1]:
            c.model(f"12-transposed-{t.name}", lambda m, n=t.name: m.tensor(n).dims.reverse())
    c.model("12-three-dims", lambda m: m.tensor("blk.0.ffn_up.weight").dims.append(1), "either")
    c.model("12-no-tensors", lambda m: m.tensors.clear())
    c.model("12-extra-tensor", lambda m: m.tensors.append(Tensor("blk.0.extra", T_F32, [4], bytes(16))))
    c.model("12-second-layer", lambda m: m.tensors.append(
        Tensor("blk.1.attn_norm.weight", T_F32, [HIDDEN], bytes(4 * HIDDEN))))
    c.model("12-adapter", lambda m: m.set("general.type", STR, "adapter"))
    c.model("12-mmproj", lambda m: m.set("general.architecture", STR, "clip"))
    c.model("12-unknown-architecture", lambda m: m.set("general.architecture", STR, "\x1b[2Jmamba%n"))
    c.model("12-architecture-u32", lambda m: m.set("general.architecture", U32, 1))
    c.model("12-no-architecture", lambda m: m.drop("general.architecture"))

    def shard(m):
        m.set("split.no", U16, 0)
        m.set("split.count", U16, 2)
        m.set("split.tensors.count", I32, 2 * len(m.tensors))
    c.model("12-missing-shard", shard)


def rows_16_19(c):
    """Tokenizers. Here only: it ends well; what is accepted is the tokenizer's own tests' matter."""
    tokens = c.bases["qwen2"].key("tokenizer.ggml.tokens")[2][1]
    lists = {"fewer": (STR, tokens[:290]), "more": (STR, tokens + ["x%d" % i for i in range(50)]),
             "empty": (STR, []), "u32": (U32, list(range(300))), "equal": (STR, ["a"] * 300),
             "huge": (STR, ["x" * (1 << 20)] + tokens[1:]), "odd": (STR, [b"\0\xff\x1b[2J%n"] + tokens[1:])}
    for name, v in lists.items():
        c.model(f"16-tokens-{name}", lambda m, v=v: m.set("tokenizer.ggml.tokens", ARR, v), "either")
    c.model("16-tokens-string", lambda m: m.set("tokenizer.ggml.tokens", STR, "abc"), "either")
    c.model("16-no-tokens", lambda m: m.drop("tokenizer.ggml.tokens"), "either")
    c.model("16-unknown-tokenizer", lambda m: m.set("tokenizer.ggml.model", STR, "wp"), "either")
    for key in ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id"):
        for v in (300, 2**31, 2**32 - 1):
            c.model(f"17-{key}-{v}", lambda m, k=key, v=v: m.set(f"tokenizer.ggml.{k}", U32, v), "either")
        c.model(f"17-{key}-negative", lambda m, k=key: m.set(f"tokenizer.ggml.{k}", I32, -1), "either")
    for name, v in (("no-blank", (STR, ["ab", "c"])), ("unknown", (STR, ["zzz yyy"] * 100)),
                    ("u32", (U32, [1, 2])), ("loop", (STR, ["a a"] * 1000)), ("blanks", (STR, [" ", "  "]))):
        c.model(f"18-merges-{name}", lambda m, v=v: m.set("tokenizer.ggml.merges", ARR, v), "either")
    c.model("18-types-u8", lambda m: m.set("tokenizer.ggml.token_type", ARR, (U8, [1] * 300)), "either")
    c.model("18-types-few", lambda m: m.set("tokenizer.ggml.token_type", ARR, (I32, [1])), "either")


def rows_34_36(c):
    """Values that are no numbers, and parameters that make them."""
    values = (("nan", float("nan")), ("inf", float("inf")), ("minus-inf", float("-inf")))
    for t in c.bases["qwen2"].tensors:
        for name, v in values:
            def spoil(m, tensor=t.name, v=v):
                x = m.tensor(tensor)
                x.data = struct.pack(f"<{len(x.data) // 4}f", *[v] * (len(x.data) // 4))
            vector = len(t.dims) == 1
            c.model(f"34-{name}-{t.name}", spoil, "refuse" if vector else "run")
    for name, v in values + (("zero", 0.0), ("negative", -1e-6), ("large", 1e30)):
        c.key(f"36-eps-{name}", "attention.layer_norm_rms_epsilon", F32, v)
        c.key(f"36-base-{name}", "rope.freq_base", F32, v)
    c.key("36-eps-string", "attention.layer_norm_rms_epsilon", STR, "1e-6")
    c.key("36-base-string", "rope.freq_base", STR, "10000")
    c.model("36-eps-missing", lambda m: m.drop("qwen2.attention.layer_norm_rms_epsilon"))


def controls(c):
    for arch in c.bases:
        c.model(f"00-valid-{arch}", lambda m: None, "ok", arch)
        c.model(f"00-version-2-{arch}", lambda m: setattr(m, "version", 2), "ok", arch)
    c.model("00-trailing-bytes", lambda m: setattr(m, "tail", b"tail"), "ok")
    c.model("00-unknown-key", lambda m: m.set("something.else", ARR, (F64, [1.0, 2.0])), "ok")
    c.model("00-u64-values", lambda m: m.set("qwen2.block_count", U64, 1), "ok")

    def aligned(m):
        m.alignment = 4096
        m.set("general.alignment", U32, 4096)
    c.model("00-alignment-4096", aligned, "ok")


def all_cases():
    c = Cases()
    for part in (controls, rows_1_2, rows_3_5, rows_6_9, rows_10_11, row_12, rows_16_19,
                 rows_34_36):
        part(c)
    return c.all


# Paths that are no regular file: made in place of a model.
SPECIAL = {
    "01-directory": os.mkdir,
    "01-fifo": os.mkfifo,
    "01-dangling-link": lambda path: os.symlink("no-such-file", path),
    "01-looping-link": lambda path: os.symlink(os.path.basename(path), path),
    "01-device-link": lambda path: os.symlink("/dev/zero", path),
    "01-missing": lambda path: None,
}


def write(folder):
    os.makedirs(folder, exist_ok=True)
    rows = []
    for name, expect, data in all_cases():
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
        with open(os.path.join(folder, name + ".gguf"), "wb") as f:
            f.write(data)
        rows.append((name, expect))
    for name, make in SPECIAL.items():
        make(os.path.join(folder, name + ".gguf"))
        rows.append((name, "refuse"))
    with open(os.path.join(folder, "cases.tsv"), "w") as f:
        f.writelines(f"{name}\t{expect}\n" for name, expect in rows)
    return len(rows)


# ---- running the command on them ----

TIMEOUT_S = 10
ALLOWANCE_KIB = 64 * 1024


class Outcome:
    """One run of a command: status, output, and the peak of its resident memory in KiB."""

    def __init__(self, argv):
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.hung = False

        def stop():
            self.hung = True
            p.kill()
        timer = threading.Timer(TIMEOUT_S, stop)
        timer.start()
        self.out = []
        reader = threading.Thread(target=lambda: self.out.append(p.stdout.read()))
        reader.start()
        self.err = p.stderr.read()
        reader.join()
        _, status, usage = os.wait4(p.pid, 0)
        timer.cancel()
        p.stdout.close()
        p.stderr.close()
        self.out = self.out[0]
        self.code = p.returncode = os.waitstatus_to_exitcode(status)
        self.rss = usage.ru_maxrss


def complaint(r, verdict, name, limit):
    """What is wrong with an outcome, or None. verdict: ok, refuse or either."""
    if r.hung:
        return f"no end after {TIMEOUT_S} s"
    if r.code < 0 or r.code > 1:
        return f"exit {r.code}: {r.err[-300:]!r}"
    if verdict == "ok" and r.code != 0:
        return f"refused: {r.err!r}"
    if verdict == "refuse" and r.code != 1:
        return f"accepted, printing {r.out[:200]!r}"
    if r.rss > limit:
        return f"{r.rss} KiB resident, limit {limit}"
    lines = r.err.decode("utf-8", "replace").split("\n")[:-1]
    if any(ord(ch) < 32 or 127 <= ord(ch) < 160 for line in lines for ch in line):
        return f"control bytes in the message: {r.err!r}"
    if r.code == 0:
        return None
    if len(lines) != 1 or not lines[0].startswith("ruvltra: "):
        return f"stderr is not one line 'ruvltra: ...': {r.err[:400]!r}"
    if verdict == "refuse" and name not in lines[0]:
        return f"the message does not name the file: {r.err!r}"
    if r.out:
        return f"refused after output {r.out[:200]!r}"
    return None


# The judge judged: (shell command, verdict, whether it must complain).
CONTROLS = (
    ("exit 0", "ok", False),
    ("exit 0", "refuse", True),
    ("echo 'ruvltra: FILE: bad' >&2; exit 1", "refuse", False),
    ("echo 'ruvltra: FILE: bad' >&2; exit 1", "ok", True),
    ("echo 'ruvltra: bad' >&2; exit 1", "refuse", True),
    ("echo 'FILE: bad' >&2; exit 1", "either", True),
    ("echo 'ruvltra: FILE: bad' >&2; exit 2", "refuse", True),
    ("printf 'ruvltra: FILE: bad\\nmore\\n' >&2; exit 1", "refuse", True),
    ("printf 'ruvltra: FILE: \\033[2J\\n' >&2; exit 1", "refuse", True),
    ("echo 12; echo 'ruvltra: FILE: bad' >&2; exit 1", "refuse", True),
    ("printf 'warning \\033[2J\\n' >&2", "ok", True),
    ("exit 1", "refuse", True),
    ("kill -SEGV $$", "either", True),
    ("kill -ABRT $$", "refuse", True),
)


def check_judge():
    return [f"{script!r} as {verdict}" for script, verdict, wrong in CONTROLS
            if bool(complaint(Outcome(["sh", "-c", script]), verdict, "FILE", 2**30)) != wrong] + [
            f"memory: {script!r}" for script in ("exit 0",)
            if not complaint(Outcome(["sh", "-c", script]), "ok", "FILE", 1)]


def check(folder, program):
    commands = {"info": [program, "info", "-m"],
                "run": [program, "run", "--tokens", "1,2", "-n", "1", "--ids", "-m"]}
    with open(os.path.join(folder, "cases.tsv")) as f:
        rows = [line.rstrip("\n").split("\t") for line in f]
    rows.sort()
    valid = os.path.join(folder, "00-valid-qwen2.gguf")
    usual = {c: Outcome(argv + [valid]).rss for c, argv in commands.items()}
    print(f"1..{len(rows) + 1}")
    wrong = check_judge()
    failed = bool(wrong)
    print("not ok" if wrong else "ok", len(rows) + 1, "- the judge sees every defect", *wrong)
    for i, (name, expect) in enumerate(rows, 1):
        path = os.path.join(folder, name + ".gguf")
        size = os.path.getsize(path) >> 10 if os.path.isfile(path) else 0
        problems = []
        for command, argv in commands.items():
            verdict = expect if expect != "run" else "refuse" if command == "run" else "either"
            named = name if expect != "run" else ""
            problem = complaint(Outcome(argv + [path]), verdict, named, usual[command] + size + ALLOWANCE_KIB)
            if problem:
                problems.append(f"{command}: {problem}")
        failed += bool(problems)
        print(("not ok" if problems else "ok"), i, "-", name)
        for problem in problems:
            print(f"# {problem}", flush=True)
    return failed


# ---- seeds for fuzzing ----

def seeds(folder):
    os.makedirs(folder, exist_ok=True)
    kinds = Model()
    for kind in range(13):
        v = {STR: "text", ARR: (U8, [1, 2, 3])}.get(kind, 1)
        kinds.kv.append([f"k{kind}", kind, v])
        if kind != ARR:
            kinds.kv.append([f"array{kind}", ARR, (kind, [v, v])])
    aligned = Model()
    aligned.alignment = 64
    aligned.set("general.alignment", U32, 64)
    for i, kind in enumerate(BLOCK):
        n = BLOCK[kind][0]
        aligned.tensors.append(Tensor(f"t{i}", kind, [n, 1, 2][:1 + i % 3],
                                      bytes(BLOCK[kind][1] * (2 if i % 3 == 2 else 1))))
    vocabulary = Model()
    vocabulary.version = 2
    vocabulary.set("general.architecture", STR, "llama")
    vocabulary.set("tokenizer.ggml.tokens", ARR, (STR, ["<unk>", "a", "b", "ab"]))
    vocabulary.set("tokenizer.ggml.scores", ARR, (F32, [0.0, -1.0, -2.0, -3.0]))
    nested = Model()
    nested.kv.append(["deep", ARR, struct.pack("<IQ", ARR, 1) * 4])
    wrap = Model()
    wrap.kv.append(["wrap", ARR, struct.pack("<IQ", F32, 2**62 + 1) + b"1234"])
    twice = Model()
    twice.kv += [["same", U8, 1], ["same", U8, 2]]
    for name, m in (("kinds", kinds), ("aligned", aligned), ("vocabulary", vocabulary), ("nested", nested),
                    ("wrap", wrap), ("twice", twice), ("nothing", Model())):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(m.bytes())


def main(argv):
    if len(argv) == 3 and argv[1] == "write":
        print(f"# {write(argv[2])} files")
    elif len(argv) == 4 and argv[1] == "check":
        return 1 if check(argv[2], argv[3]) else 0
    elif len(argv) == 3 and argv[1] == "seeds":
        seeds(argv[2])
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
