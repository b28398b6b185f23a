#!/usr/bin/env python3
"""Speed beside other engines, as ratios from interleaved runs.

  scripts/bench-peers.py -m MODEL [-m MODEL] --peer NAME=LLAMA_BENCH [--peer ...] [--first-token CMD]

Every round runs ours and each peer once a model and test, in an order that rotates, on the same threads,
pinned to the same CPUs; the figures are medians over rounds and the ratio is ours / theirs, pair by pair
(median, least, greatest). A peer is any program that takes llama-bench's options and prints its JSON.
--first-token 'CMD' times whole processes from start to the first token of a one-token prompt against
`ruvltra run -n 1`; {model} in CMD stands for the file.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", action="append", required=True)
    p.add_argument("--peer", action="append", default=[], metavar="NAME=PROGRAM [ARGS]")
    p.add_argument("--first-token", action="append", default=[], metavar="NAME=CMD")
    p.add_argument("--ours", default="build/bin/ruvltra")
    p.add_argument("-r", "--rounds", type=int, default=5)
    p.add_argument("-t", "--threads", type=int, default=2)
    p.add_argument("-p", "--n-prompt", type=int, default=0, help="0: no prefill test")
    p.add_argument("-n", "--n-gen", type=int, default=24, help="0: no decode test")
    p.add_argument("--cpus", default="", help="taskset list; default: all allowed")
    p.add_argument("--json", metavar="FILE", help="every figure of every round")
    return p.parse_args()


def run(cmd, cpus):
    if cpus:
        cmd = ["taskset", "-c", cpus] + cmd
    start = time.monotonic()
    done = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seconds = time.monotonic() - start
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        sys.exit(f"bench-peers: {shlex.join(cmd)}: exit {done.returncode}: {' '.join(last)}")
    return done.stdout, seconds


def rates(text):
    """tokens/s by test name, from llama-bench's JSON or ours (same field names)."""
    found = {}
    for row in json.loads(text):
        name = f"pp{row['n_prompt']}" if row["n_gen"] == 0 else f"tg{row['n_gen']}"
        found[name] = statistics.median(row.get("samples_ts") or [row["avg_ts"]])
    return found


def bench_round(opt, model, name, program):
    tests = ["-p", str(opt.n_prompt), "-n", str(opt.n_gen)]
    out, _ = run(program + ["-m", model, "-t", str(opt.threads), "-r", "1", "-o", "json"] + tests, opt.cpus)
    return {(model, test, name): rate for test, rate in rates(out).items()}


def first_token_round(opt, model, name, cmd):
    words = [w.replace("{model}", model) for w in cmd]
    return {(model, "first token", name): run(words, opt.cpus)[1]}


def split(named):
    name, _, cmd = named.partition("=")
    return name, shlex.split(cmd)


def main():
    opt = options()
    ours = [opt.ours, "run", "-m", "{model}", "-t", str(opt.threads), "--tokens", "1", "-n", "1", "--temp", "0", "--ids"]
    jobs = []
    if opt.peer:
        jobs += [(bench_round, n, c) for n, c in [("ours", [opt.ours, "bench"])] + [split(p) for p in opt.peer]]
    if opt.first_token:
        jobs += [(first_token_round, n, c) for n, c in [("ours", ours)] + [split(p) for p in opt.first_token]]
    samples = {}
    for r in range(opt.rounds):
        for model in opt.model:
            for i in range(len(jobs)):
                fn, name, cmd = jobs[(i + r) % len(jobs)]
                for key, value in fn(opt, model, name, cmd).items():
                    samples.setdefault(key, []).append(value)
        print(f"round {r + 1} of {opt.rounds} done", file=sys.stderr)
    print(f"load {os.getloadavg()[0]:.1f}, {opt.threads} threads, {opt.rounds} rounds, interleaved; "
          "tests in tokens/s, first token in seconds of the whole process")
    print(f"{'model':28} {'test':12} {'engine':16} {'median':>9} {'ours/theirs':>12} {'least':>7} {'greatest':>8}")
    for (model, test, name), values in samples.items():
        mine = samples[(model, test, "ours")]
        pairs = [a / b for a, b in zip(mine, values)]
        ratio = "" if name == "ours" else f"{statistics.median(pairs):12.3f} {min(pairs):7.3f} {max(pairs):8.3f}"
        print(f"{os.path.basename(model)[:28]:28} {test:12} {name:16} {statistics.median(values):9.3f} {ratio}")
    if opt.json:
        with open(opt.json, "w") as f:
            json.dump([{"model": m, "test": t, "engine": e, "samples": v} for (m, t, e), v in samples.items()], f, indent=1)


if __name__ == "__main__":
    main()
