#!/usr/bin/env python3
"""Vectors for the tests of `ruvltra index`: base, queries and their true neighbours, in DIR."""
import random
import struct
import sys

folder = sys.argv[1]
random.seed(4)


def write(name, rows, code):
    with open(f"{folder}/{name}", "wb") as f:
        for row in rows:
            f.write(struct.pack(f"<i{len(row)}{code}", len(row), *row))


base = [[random.randrange(256) for _ in range(6)] for _ in range(300)]
queries = [[random.uniform(0, 255) for _ in range(6)] for _ in range(20)]
truth = [sorted(range(300), key=lambda i: sum((a - b) ** 2 for a, b in zip(base[i], q)))[:5] for q in queries]
write("base.fvecs", base, "f")
write("base.bvecs", base, "B")
write("queries.fvecs", queries, "f")
write("truth.ivecs", truth, "i")
write("wrong.ivecs", [row[:4] + [row[0]] for row in truth], "i")
write("nan.fvecs", base[:3] + [[0, float("nan"), 0, 0, 0, 0]], "f")
write("zero.fvecs", base[:3] + [[0] * 6], "f")
with open(f"{folder}/nearest", "w") as f:
    f.writelines(f"{row[0]}\n" for row in truth)
