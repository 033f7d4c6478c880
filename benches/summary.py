#!/usr/bin/env python3
"""Runs the benches and VPA's histogram on the same samples, one after the other, and prints the
ratios against the bars, and plain ratios where there is none. `--no-run` prints what the last run measured.

Every figure is a ratio within one run: machines differ, ratios hardly do. Exit code 1 when a ratio
is below its bar."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CRITERION = TARGET / "criterion"
VPA = CRITERION / "vpa.txt"
INTERVAL = "the interval of 15 s"

# What is measured, which is the faster by how much, and than what.
BARS = [
    ("insert, hot: t-digest", "insert/t-digest/hot", 1.5, "insert/vpa/hot"),
    ("insert, 100,000 series: t-digest", "insert/t-digest/100k", 3, "insert/vpa/100k"),
    ("insert, hot: log-linear", "insert/log-linear/hot", 30, "insert/vpa/hot"),
    ("insert, 100,000 series: log-linear", "insert/log-linear/100k", 3, "insert/vpa/100k"),
    ("24 slots, decoded: t-digest", "window_24h/t-digest/decoded", 4, "window_24h/crate-tdigest"),
    ("24 slots, encoded: t-digest", "window_24h/t-digest/encoded", 3, "window_24h/crate-tdigest"),
    ("24 slots, decoded: log-linear", "window_24h/log-linear/decoded", 20, "window_24h/crate-tdigest"),
    ("24 slots, cached: t-digest", "window_24h/t-digest/cached", 20, "window_24h/t-digest/decoded"),
    ("24 slots, cached, open slot merged in", "window_24h/t-digest/cached-and-open", 4, "window_24h/t-digest/decoded"),
    ("tick of 300,000 containers: protobuf", "tick_300k/protobuf", 5, INTERVAL),
    ("tick of 300,000 containers: JSON", "tick_300k/json", 3, INTERVAL),
    ("parse of 300,000 containers", "parse_300k/protobuf", 0.5, "parse_300k/zero-copy-walk"),
]

# What has no bar, and the crate that does the same; `tdigest` has no bytes of its own.
PLAIN = [
    ("merge: t-digest", "merge/t-digest", "merge/crate-tdigest"),
    ("merge: log-linear", "merge/log-linear", "merge/crate-hdrhistogram"),
    ("encode: t-digest", "encode/t-digest", "encode/crate-hdrhistogram"),
    ("encode: log-linear", "encode/log-linear", "encode/crate-hdrhistogram"),
    ("decode: t-digest", "decode/t-digest", "decode/crate-hdrhistogram"),
    ("decode: log-linear", "decode/log-linear", "decode/crate-hdrhistogram"),
]


def run():
    """Both sides anew; what an earlier run left is removed, so that no two runs are compared."""
    shutil.rmtree(CRITERION, ignore_errors=True)
    subprocess.run(["cargo", "bench", "-p", "optipod", "--bench", "percentile", "--bench", "tick"], cwd=ROOT, check=True)
    if not shutil.which("go"):
        print("no go here: VPA's histogram is left out", file=sys.stderr)
        return
    vpa = ROOT / "benches" / "peers" / "vpa"
    VPA.write_text(subprocess.run(["go", "run", "."], cwd=vpa, check=True, capture_output=True, text=True).stdout)


def measured():
    """Nanoseconds by id: the fastest of a hundred samples, the least disturbed by other programs."""
    found = {INTERVAL: 15e9}
    for path in CRITERION.glob("**/new/sample.json"):
        name = "/".join(path.relative_to(CRITERION).parts[:-2])
        sample = json.loads(path.read_text())
        found[name] = min(time / count for time, count in zip(sample["times"], sample["iters"]))
    for line in VPA.read_text().splitlines() if VPA.exists() else []:
        name, nanoseconds = line.split()
        found[name] = float(nanoseconds)
    return found


def main():
    if "--no-run" not in sys.argv[1:]:
        run()
    times = measured()
    missed = False
    print("| what | ns | against | ns | ratio | bar | |\n|---|---|---|---|---|---|---|")
    for what, ours, bar, theirs in BARS:
        if ours not in times or theirs not in times:
            print(f"| {what} | | {theirs} | | not measured | {bar} | |")
            continue
        ratio = times[theirs] / times[ours]
        verdict = "reached" if ratio >= bar else "**missed**"
        missed |= ratio < bar
        print(f"| {what} | {times[ours]:.1f} | {theirs} | {times[theirs]:.1f} | {ratio:.1f} | {bar} | {verdict} |")
    print("\n| what, without a bar | ns | against | ns | ratio |\n|---|---|---|---|---|")
    for what, ours, theirs in PLAIN:
        if ours in times and theirs in times:
            ratio = f"{times[theirs] / times[ours]:.1f}"
            print(f"| {what} | {times[ours]:.1f} | {theirs} | {times[theirs]:.1f} | {ratio} |")
        else:
            print(f"| {what} | | {theirs} | | not measured |")
    print("\n| id | ns |\n|---|---|")
    for name in sorted(times.keys() - {INTERVAL}):
        print(f"| {name} | {times[name]:.1f} |")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
