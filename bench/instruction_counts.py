# SPDX-License-Identifier: Apache-2.0
"""Instructions per packet: how they are counted, and held against those that were agreed on.

A part is a packet path with its compiler: another one makes other code, so figures are comparable
only where the compiler is the one that is noted beside them. Needs no clock and no privilege.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

TOLERANCE = 0.02
TRACE_PACKETS = 6400  # a multiple of a burst; twice as many give the same figures
TRACE_TIMEOUT_S = 120

PROGRAM = "the program"
# Of the XDP program: instructions that it has, and that the verifier looks at over all paths. The
# kernel refuses at a million of the latter; other kernels' verifiers count a little differently.
# The former has no such limit. What few packets take lies in functions of their own, so it costs
# memory and not the cache of known flows, whose instructions are counted case by case.
SIZE_MAX = {"loaded": 16_500, "verified": 500_000}

Figures = dict[str, dict[str, float]]  # case -> what is counted -> per packet


class ToolMissing(Exception):
    """Nothing can be counted on this machine, and why."""


class CountFailed(Exception):
    """A program that is counted did not do what it should."""


@dataclass
class Part:
    """What one packet path takes, by case, and how large it is where that has a limit."""

    compiler: str
    figures: Figures = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)

    def oversizes(self) -> list[str]:
        return [
            f"{PROGRAM}: {size:.0f} {what} instructions, {SIZE_MAX[what]} at most"
            for what, size in self.sizes.items()
            if size > SIZE_MAX[what]
        ]


class Change(Enum):
    GREW = "grew: make it cheaper, or raise the figure (--update) and say why"
    SHRANK = "shrank: lower the figure (--update), so that it stays so"
    NEW = "has no figure yet (--update)"
    GONE = "is no longer measured (--update)"

    @property
    def is_failure(self) -> bool:
        return self is not Change.SHRANK


@dataclass(frozen=True)
class Finding:
    case: str
    what: str
    change: Change

    def __str__(self) -> str:
        return f"{self.case}: {self.what} {self.change.value}"


def compare(agreed: Figures, measured: Figures) -> list[Finding]:
    """What differs by more than TOLERANCE, by case."""
    found = []
    for case, what in sorted(keys_of(agreed) | keys_of(measured)):
        before = agreed.get(case, {}).get(what)
        after = measured.get(case, {}).get(what)
        if before is None:
            found.append(Finding(case, what, Change.NEW))
        elif after is None:
            found.append(Finding(case, what, Change.GONE))
        elif after > before * (1 + TOLERANCE):
            found.append(Finding(case, what, Change.GREW))
        elif after < before * (1 - TOLERANCE):
            found.append(Finding(case, what, Change.SHRANK))
    return found


def keys_of(figures: Figures) -> set[tuple[str, str]]:
    return {(case, what) for case, counts in figures.items() for what in counts}


def table(agreed: Figures, measured: Figures) -> Iterator[str]:
    yield f"{'case':24} {'per packet':14} {'agreed':>9} {'measured':>9} {'change':>8}"
    for case, counts in measured.items():
        for what, after in counts.items():
            before = agreed.get(case, {}).get(what)
            change = "new" if not before else f"{(after / before - 1) * 100:+.1f} %"
            shown = "-" if before is None else f"{before:.1f}"
            yield f"{case:24} {what:14} {shown:>9} {after:9.1f} {change:>8}"


def read_agreed(path: Path) -> dict[str, Part]:
    if not path.exists():
        return {}
    parts = json.loads(path.read_text(encoding="utf-8"))
    return {name: Part(part["compiler"], part["figures"]) for name, part in parts.items()}


def write_agreed(path: Path, parts: dict[str, Part]) -> None:
    plain = {
        name: {"compiler": part.compiler, "figures": part.figures} for name, part in parts.items()
    }
    path.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def output_of(*command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=TRACE_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise ToolMissing(f"{words[0]} is missing (deploy/install-packages --tests)") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CountFailed(f"{' '.join(words)}: exit status {done.returncode}: {last}")
    return done


def count_core(build: Path) -> Part:
    """process_burst() under callgrind: every instruction that the CPU is given, none estimated."""
    program = build / "bench" / "forwarder_trace"
    part = Part("g++ " + output_of(program, "--compiler").stdout.strip())
    for case in output_of(program, "--cases").stdout.splitlines():
        done = output_of(
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=measured_burst*",
            program,
            case,
            str(TRACE_PACKETS),
        )
        part.figures[case] = {"instructions": round(collected(done.stderr) / TRACE_PACKETS, 1)}
    return part


def collected(output: str) -> int:
    """The count in callgrind's closing lines."""
    found = re.search(r"Collected : (\d+)", output)
    if found is None or int(found.group(1)) == 0:
        raise CountFailed(f"callgrind counted nothing:\n{output}")
    return int(found.group(1))


def count_xdp(build: Path) -> Part:
    """The XDP program, interpreted: BPF instructions and helper calls."""
    with_version = re.search(rb"clang version [\d.]+", (build / "bpf/nlb_xdp.bpf.o").read_bytes())
    part = Part(with_version.group().decode() if with_version else "an unknown compiler")
    for line in output_of(build / "bench" / "xdp" / "xdp_trace").stdout.splitlines():
        counts = json.loads(line)
        case = counts.pop("case")
        if case == PROGRAM:
            part.sizes = counts
        else:
            part.figures[case] = counts
    return part


# Part -> what counts it, and the program in the build folder that it needs.
COUNTERS: dict[str, tuple[Callable[[Path], Part], str]] = {
    "core": (count_core, "bench/forwarder_trace"),
    "xdp": (count_xdp, "bench/xdp/xdp_trace"),
}
