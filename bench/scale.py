# SPDX-License-Identifier: Apache-2.0
"""What `bench/run --full` measures beside packets' cost: publishing, a hundred million flows, a
second worker, a worker's latency. Each arm of a comparison once per run, in turns."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from results import Figure

HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
FLOWS = 100_000_000
FLOW_CAPACITY = 105_000_000
# For the flow table, and what other programs of a run need.
FLOW_HUGE_PAGES = 4237 + 64
GROUPS = 1_000
TARGETS = 10_000
FLIPS = 100
WORKER_ARMS = ("one", "alone", "two", "null", "half")
LATENCIES = {"p50": "p50_ns", "p99": "p99_ns", "p99.9": "p999_ns", "max": "max_ns"}
LATENCIES |= {f"slice {name}": f"slice_{LATENCIES[name]}" for name in ("p50", "p99", "p99.9")}


def output_of(command: list[str], timeout: int = 600) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        sys.exit(f"bench/run: {' '.join(command)}: {done.stderr.strip()[-400:]}")
    return done.stdout


def json_of(command: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output_of(command))
    return found


class Figures:
    """Figures that grow by a run at a time, in the order in which they first came."""

    def __init__(self) -> None:
        self.by_name: dict[str, Figure] = {}

    def add(self, name: str, unit: str, value: float, is_more_better: bool = False) -> None:
        figure = Figure(name, unit, [], is_more_better)
        self.by_name.setdefault(name, figure).runs.append(value)


@contextlib.contextmanager
def huge_pages(wanted: int) -> Iterator[None]:
    """At least so many for the while; the kernel gives what it finds."""
    before = int(HUGE_PAGES.read_text(encoding="ascii"))
    if before >= wanted:
        yield
        return
    HUGE_PAGES.write_text(str(wanted), encoding="ascii")
    try:
        found = int(HUGE_PAGES.read_text(encoding="ascii"))
        if found < wanted:
            sys.exit(f"bench/run: {wanted} huge pages are needed, {found} could be had")
        yield
    finally:
        HUGE_PAGES.write_text(str(before), encoding="ascii")


def publish_run(build: Path, seconds: float, into: Figures) -> None:
    """One change until every worker obeys it, then a thousand a second."""
    engine = build / "dataplane" / "millrace-dataplane"
    command = [build / "bench" / "publish_bench", engine, GROUPS, TARGETS, FLIPS, max(seconds, 1)]
    found = json_of([str(word) for word in command])
    case = f"publish {GROUPS} groups {TARGETS} targets"
    into.add(f"{case}: one change", "ms", found["flip_ms"])
    into.add(f"{case}: one change, p99", "ms", found["flip_p99_ms"])
    into.add(f"{case}: 1000 a second, p50", "ms", found["sustained_ms"])
    into.add(f"{case}: 1000 a second, max", "ms", found["sustained_max_ms"])
    into.add(f"{case}: changes per image", "changes", found["changes"] / max(found["images"], 1))
    into.add(f"{case}: first config", "ms", found["apply_ms"])


def flow_run(build: Path, cpu: int, seconds: float, into: Figures) -> None:
    program = str(build / "bench" / "flow_scale_bench")
    command = ["taskset", "--cpu-list", str(cpu), program, str(FLOWS), str(FLOW_CAPACITY)]
    # The first second of a sweep over so much memory costs twice what the next ones do.
    found = json_of([*command, str(max(seconds, 3))])
    case = f"{FLOWS} flows"
    into.add(f"{case}: memory", "GiB", found["bytes"] / 2**30)
    into.add(f"{case}: refused", "per million", found["refused_share"] * 1e6)
    into.add(f"{case}: opening", "ns per flow", found["open_ns"])
    into.add(f"{case}: net", "cycles per packet", found["net"])
    into.add(f"{case}: net beside the sweep", "cycles per packet", found["net_sweep"])
    into.add(f"{case}: housekeeping's share", "%", found["house_share"] * 100)


def worker_run(build: Path, cpus: tuple[int, int], seconds: float, into: Figures) -> None:
    """Rates of one worker and of two, and their ratio in this run."""
    program = str(build / "bench" / "workers_bench")
    rates, usual = {}, {}
    for arm in WORKER_ARMS:
        words = output_of([program, arm, "1000000", str(seconds), f"{cpus[0]},{cpus[1]}"]).split()
        rates[arm], usual[arm] = float(words[0]), float(words[1])
        into.add(f"workers {arm}", "Mpps", rates[arm] / 1e6, is_more_better=True)
        into.add(f"workers {arm}, usual", "cycles per packet", usual[arm])
    for arm, base in (("two", "one"), ("two", "alone"), ("half", "null")):
        name = f"workers {arm} / {base}"
        into.add(name, "ratio", rates[arm] / rates[base], is_more_better=True)
        into.add(f"{name}, usual", "ratio", 2 * usual[base] / usual[arm], is_more_better=True)


def latency_run(build: Path, cpus: tuple[int, int], seconds: float, into: Figures) -> None:
    """At half of the rate that comes through the worker at most, both arms alike."""
    program = str(build / "bench" / "latency_bench")
    places = [str(cpus[1]), str(cpus[0])]
    most = json_of([program, "balance", "1000000", "0", str(seconds), *places])["pps"]
    arms = {}
    for arm in ("pass", "balance"):
        arms[arm] = json_of([program, arm, "1000000", str(most / 2), str(seconds), *places])
    into.add("latency: rate at most", "Mpps", most / 1e6, is_more_better=True)
    for name, key in LATENCIES.items():
        for arm, found in arms.items():
            into.add(f"latency {arm} {name}", "ns", found[key])
        into.add(f"latency added {name}", "ns", arms["balance"][key] - arms["pass"][key])
    for arm, found in arms.items():
        into.add(f"latency {arm} slices disturbed", "%", found["disturbed_percent"])


def measure(build: Path, cpu: int, runs: int, seconds: float) -> list[Figure]:
    """All of it; `cpu` is the first of two."""
    into = Figures()
    cpus = (cpu, 0 if cpu != 0 else 1)
    for run in range(runs):
        print(f"scale: run {run + 1} of {runs}", file=sys.stderr)
        if (build / "bench" / "publish_bench").exists():
            publish_run(build, seconds, into)
        worker_run(build, cpus, seconds, into)
        latency_run(build, cpus, seconds, into)
        with huge_pages(FLOW_HUGE_PAGES):
            flow_run(build, cpu, seconds, into)
    return list(into.by_name.values())


def table(figures: list[Figure]) -> str:
    lines = ["| at scale | unit | median (min-max) |", "|---|---|---|"]
    lines += [f"| {figure.name} | {figure.unit} | {figure.text()} |" for figure in figures]
    return "\n".join(lines)
