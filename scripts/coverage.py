#!/usr/bin/env python3
"""coverage.py BUILD: line coverage a room and the least covered files, from gcov's counters."""

import collections
import json
import os
import subprocess
import sys


def counters(build):
    for folder, _, names in os.walk(os.path.join(build, "obj")):
        for name in names:
            if name.endswith(".gcda"):
                yield os.path.join(folder, name)


def read(path):
    """The files a counter file speaks of, as gcov's JSON has them."""
    text = subprocess.run(["gcov", "--json-format", "--stdout", path], check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    for line in text.splitlines():
        yield from json.loads(line)["files"]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    hits = collections.defaultdict(dict)
    for path in counters(sys.argv[1]):
        for entry in read(path):
            if entry["file"].startswith(("lib/", "kernels/")):
                lines = hits[entry["file"]]
                for line in entry["lines"]:
                    n = line["line_number"]
                    lines[n] = max(lines.get(n, 0), line["count"])
    if not hits:
        sys.exit(f"coverage: no counters under {sys.argv[1]}/obj")
    files = {f: (sum(c > 0 for c in lines.values()), len(lines)) for f, lines in hits.items() if lines}
    rooms = collections.defaultdict(lambda: [0, 0])
    for f, (hit, total) in files.items():
        room = f.split("/")[1] if f.startswith("lib/") else "kernels"
        for key in (room, "all"):
            rooms[key][0] += hit
            rooms[key][1] += total
    print(f"{'room':10} {'lines':>7} {'run':>7} {'%':>6}")
    for room, (hit, total) in sorted(rooms.items(), key=lambda r: (r[0] == "all", r[0])):
        print(f"{room:10} {total:7} {hit:7} {100 * hit / total:6.1f}")
    print("\nleast covered:")
    for f, (hit, total) in sorted(files.items(), key=lambda f: f[1][0] / f[1][1])[:10]:
        print(f"{100 * hit / total:6.1f} %  {f}")


if __name__ == "__main__":
    main()
