# SPDX-License-Identifier: Apache-2.0
"""bench/lab runs to its end, gives every figure and leaves nothing. Times are not looked at."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from lab.machine import reap_dead_runs
from lab.node import REPOSITORY, build_directory

pytestmark = pytest.mark.alone
LAB = REPOSITORY / "bench" / "lab" / "run"
LOADS = ("close 64", "keep-alive 64", "keep-alive 1")


def figures_of(folder: Path, *words: str) -> dict[str, list[float]]:
    """bench/lab itself refuses runs in which a request failed or went another way."""
    result = folder / "lab.json"
    command = [str(LAB), "--build", str(build_directory()), "--json", str(result)]
    command += ["--rounds", "1", *words]
    subprocess.run(command, check=True, timeout=80)
    return {figure["name"]: figure["runs"] for figure in json.loads(result.read_text())}


def test_what_each_candidate_adds_on_one_core_is_a_figure(tmp_path: Path) -> None:
    names = ["no balancer", "nftables DNAT", "HAProxy TCP", "bare XDP", "Millrace XDP"]
    found = figures_of(tmp_path, "--part", "one core", "--only", ",".join(names))
    for load in LOADS:
        for name in [*names, "Millrace XDP / nftables DNAT", "Millrace XDP / HAProxy TCP"]:
            assert len(found[f"lab {load}: {name}"]) == 1
        assert found[f"lab {load}: no balancer"][0] > 0
    assert not reap_dead_runs(), "nothing is left behind"


def test_latency_and_rates_with_a_core_for_the_balancer_are_figures(tmp_path: Path) -> None:
    names = ["no balancer", "nginx stream", "Millrace DPDK"]
    found = figures_of(tmp_path, "--part", "two cores", "--only", ",".join(names))
    for name in names:
        for what in ("p50", "p99", "keep-alive 64", "close 64"):
            assert found[f"lab apart, {what}: {name}"][0] > 0
    assert not reap_dead_runs(), "nothing is left behind"
