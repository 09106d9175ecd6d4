# SPDX-License-Identifier: Apache-2.0
"""The client of the lab comparison: wrk in a closed loop, and what it saw."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lab.namespace import Namespace
from lab.process import LabError

SCRIPT = Path(__file__).resolve().parent / "wrk.lua"


@dataclass(frozen=True)
class Load:
    """`is_closing`: every request on a connection of its own."""

    clients: int
    is_closing: bool

    @property
    def name(self) -> str:
        return f"{'close' if self.is_closing else 'keep-alive'} {self.clients}"

    @property
    def unit(self) -> str:
        return "connection" if self.is_closing else "request"


CLOSE_64 = Load(64, is_closing=True)
KEEP_64 = Load(64, is_closing=False)
KEEP_1 = Load(1, is_closing=False)


@dataclass(frozen=True)
class Sample:
    """One run of wrk. With one client the time of a request is its latency."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    idle: float  # share of the run that the client's CPU had nothing to do

    @property
    def us_each(self) -> float:
        return self.seconds * 1e6 / self.requests

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def ask(client: Namespace, cpu: int, address: str, load: Load, seconds: int) -> Sample:
    """Runs wrk on that CPU. LabError when any request failed: then the rate means nothing."""
    words = ["env", f"LAB_CPU={cpu}", "taskset", "--cpu-list", str(cpu), "wrk", "--threads", "1"]
    words += ["--connections", str(load.clients), "--duration", f"{seconds}s"]
    words += ["--script", str(SCRIPT)]
    if load.is_closing:
        words += ["--header", "Connection: close"]
    said = client.run([*words, f"http://{address}/"], timeout_s=seconds + 30).stdout
    found = json.loads(said.splitlines()[-1])
    if found["errors"] != 0 or found["requests"] == 0:
        raise LabError(f"wrk, {load.name}, {address}: {said}")
    taken = found["duration_us"] / 1e6
    idle = found["idle_s"] / taken
    return Sample(found["requests"], taken, found["p50_us"], found["p99_us"], idle)
