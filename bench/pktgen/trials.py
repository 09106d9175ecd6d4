# SPDX-License-Identifier: Apache-2.0
"""Trials with millrace-pktgen: one run of the program each, its JSON result as a Trial."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import]  # its stubs are a package of their own
from load_search import Trial

# Less of the schedule given up than this is noise of a machine that others use too.
GIVEN_UP_SHARE = 0.005
START_AND_DRAIN_S = 60.0


class TrialFailed(Exception):
    """The program did not run to its end; the message is what it said."""


@dataclass
class Generator:
    """How the program is started."""

    program: Path
    words: Sequence[str]  # --nic and --eal
    results: list[dict[str, Any]] = field(default_factory=list)  # of every run, in order

    def run(self, profile: Path, rate: str, seconds: float, drain: float) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "result.json"
            command = [str(self.program), *self.words, str(profile), "--quiet"]
            command += ["--rate", rate, "--seconds", f"{seconds:.6f}", "--drain", f"{drain:.3f}"]
            done = subprocess.run(
                [*command, "--json", str(out)],
                capture_output=True,
                text=True,
                timeout=seconds + drain + START_AND_DRAIN_S,
                check=False,
            )
            if done.returncode not in (0, 2):  # 2: wrong checksums, which are losses here
                ended = f"{self.program.name} ended with {done.returncode}"
                raise TrialFailed(done.stderr.strip() or ended)
            result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        self.results.append(result)
        return result


def is_reached(given_up_ns: int, seconds: float) -> bool:
    return given_up_ns <= GIVEN_UP_SHARE * seconds * 1e9


def shares(result: dict[str, Any]) -> dict[str, Any]:
    """What the generator's time went to."""
    return {key: result[key] for key in ("busy_share", "blocked_share")}


def packet_trial(generator: Generator, profile: Path, load: float, seconds: float) -> Trial:
    """`load` packets per second of the profile's one stream; lost is what did not come back."""
    result = generator.run(profile, f"{load:.3f}pps", seconds, 0.5)
    streams = result["streams"]
    if len(streams) != 1 or "lost_packets" not in streams[0]:
        raise TrialFailed(f"{profile}: a search needs exactly one stream, and that measured")
    stream = streams[0]
    return Trial(
        load,
        seconds,
        stream["sent_packets"],
        stream["lost_packets"],
        is_reached(stream["given_up_ns"], seconds),
        **shares(result),
    )


def _connections_of(profile: Path, result: dict[str, Any]) -> dict[str, Any]:
    if "connections" not in result:
        raise TrialFailed(f"{profile}: has no connections")
    connections: dict[str, Any] = result["connections"]
    return connections


def _lost(connections: dict[str, Any], wanted: int) -> int:
    """Connections that did not complete; all of them if any packet broke a rule."""
    is_broken = connections["violations"]["total"] > 0
    return wanted if is_broken else wanted - int(connections["completed"])


def connection_trial(generator: Generator, profile: Path, load: float, seconds: float) -> Trial:
    """`load` connections per second (RFC 9411, 7.2)."""
    result = generator.run(profile, f"{load:.3f}cps", seconds, 2.0)
    connections = _connections_of(profile, result)
    has_kept_up = is_reached(connections["given_up_ns"], seconds) and connections["flow_busy"] == 0
    opened = connections["opened"]
    lost = _lost(connections, opened)
    violations = connections["violations"]["total"]
    return Trial(load, seconds, opened, lost, has_kept_up, violations=violations, **shares(result))


def concurrent_trial(
    generator: Generator, profile: Path, load: float, open_per_second: float
) -> Trial:
    """`load` connections open at once (RFC 9411, 7.5): all are opened, rest until the last one is
    there, and each asks once more before it closes."""
    count = max(1, round(load))
    ramp = count / open_per_second
    described = yaml.safe_load(profile.read_text(encoding="utf-8"))
    if "connections" not in described:
        raise TrialFailed(f"{profile}: has no connections")
    described["connections"] |= {"flows": count, "requests": 2, "think_ms": int(ramp * 1000) + 1000}
    described.pop("streams", None)
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / profile.name
        own.write_text(yaml.safe_dump(described), encoding="utf-8")
        # Half a connection less than the time of all, so that the last is opened and none more.
        seconds = (count - 0.5) / open_per_second
        result = generator.run(own, f"{open_per_second:.3f}cps", seconds, ramp + 5.0)
    connections = _connections_of(profile, result)
    return Trial(
        load,
        seconds,
        count,
        max(0, _lost(connections, count)),
        is_reached(connections["given_up_ns"], max(seconds, 1.0)),
        violations=connections["violations"]["total"],
        **shares(result),
    )
