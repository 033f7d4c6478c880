#!/usr/bin/env python3
"""Works the demo's totals out again from its rows, and checks what the demo promises.

Usage: check_demo.py DEMO.json
"""
import json
import sys

# The bound that the demo states: each of P50, P90 and P99 is within 5 % of the exact value or within 2 % of its rank (at a
# cliff between two modes a tiny error of rank is a large one of value), and values are off by 2 % on average at most.
MAX_ERROR = 0.05
MAX_RANK_ERROR = 0.02
MEAN_ERROR = 0.02


def fail(message):
    print(f"demo check: {message}")
    sys.exit(1)


def main(path):
    with open(path, encoding="utf-8") as file:
        demo = json.load(file)
    rows, totals = demo["containers"], demo["totals"]
    if len({(row["namespace"], row["kind"], row["workload"]) for row in rows}) < 40:
        fail("fewer than 40 workloads")
    if {row["kind"] for row in rows} != {"Deployment", "StatefulSet", "DaemonSet"}:
        fail("not all three kinds of workload are there")
    errors, rank_errors = [], []
    for row in rows:
        if row["usage"]["samples"] != row["exact"]["samples"]:
            fail(f"{row['workload']}/{row['container']}: {row['usage']['samples']} samples of {row['exact']['samples']}")
        for resource in ("cpu", "memory"):
            for quantile in ("p50", "p90", "p99"):
                answer, exact = row["usage"][resource][quantile], row["exact"][resource][quantile]
                error = abs(answer - exact) / exact if exact else abs(answer)
                if abs(error - row["error"][resource][quantile]) > 1e-6:
                    fail(f"{row['workload']}/{row['container']}: the error of {resource} {quantile} is {error}, not as stated")
                rank_error = row["rankError"][resource][quantile]
                if error > MAX_ERROR and rank_error > MAX_RANK_ERROR:
                    fail(
                        f"{row['workload']}/{row['container']}: {resource} {quantile} is off by {error:.2%} of its value "
                        f"and {rank_error:.2%} of its rank"
                    )
                rank_errors.append(rank_error)
                errors.append(error)
    if sum(errors) / len(errors) > MEAN_ERROR:
        fail(f"the mean error is {sum(errors) / len(errors):.3%}")

    def total(when, key):
        return sum(row[when][key] for row in rows)

    checks = {
        "cpuMillicoresBefore": total("before", "cpuMillicores"),
        "cpuMillicoresAfter": total("after", "cpuMillicores"),
        "memoryBytesBefore": total("before", "memoryBytes"),
        "memoryBytesAfter": total("after", "memoryBytes"),
        "oomKillsBefore": sum(row["oomKills"]["before"] for row in rows),
        "oomKillsAfter": sum(row["oomKills"]["after"] for row in rows),
    }
    for key, value in checks.items():
        if totals[key] != value:
            fail(f"totals.{key} is {totals[key]}, the rows give {value}")
    if totals["oomKillsAfter"] > totals["oomKillsBefore"]:
        fail(f"OOM kills rose from {totals['oomKillsBefore']} to {totals['oomKillsAfter']}")
    if totals["changedWorkloads"] < 20:
        fail(f"only {totals['changedWorkloads']} workloads were changed")
    if not all(row["explanation"] for row in rows if row["recommendation"]):
        fail("a recommendation without explanation")
    cores = (totals["cpuMillicoresBefore"] - totals["cpuMillicoresAfter"]) / 1000
    gib = (totals["memoryBytesBefore"] - totals["memoryBytesAfter"]) / 2**30
    print(
        f"demo check: {len(rows)} containers, mean error {sum(errors) / len(errors):.3%}, largest {max(errors):.2%}, "
        f"largest error of rank {max(rank_errors):.2%}, "
        f"{cores:.1f} cores and {gib:.1f} GiB freed, OOM kills {totals['oomKillsBefore']} -> {totals['oomKillsAfter']}"
    )


main(sys.argv[1])
