# SPDX-License-Identifier: Apache-2.0
"""Samples of the lab comparison as figures and tables. A figure's runs are its rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

from candidates import HAPROXY, IPVS, NFTABLES, NOTHING
from load import CLOSE_64, KEEP_1, KEEP_64, Load, Sample

LATENCY = "us of a request, one client, balancer on its own core"
RIVALS = (NFTABLES, IPVS, HAPROXY)
LOADS = (CLOSE_64, KEEP_64, KEEP_1)


@dataclass(frozen=True)
class Figure:
    """As bench/results.py has it."""

    name: str
    unit: str
    runs: list[float]
    is_more_better: bool = False

    def text(self, digits: int = 1) -> str:
        median = statistics.median(self.runs)
        return f"{median:.{digits}f} ({min(self.runs):.{digits}f}-{max(self.runs):.{digits}f})"


@dataclass
class Samples:
    """By candidate and load, a list over the rounds."""

    names: list[str]
    by_case: dict[tuple[str, Load], list[Sample]] = field(default_factory=dict)

    def add(self, name: str, load: Load, sample: Sample) -> None:
        self.by_case.setdefault((name, load), []).append(sample)

    def of(self, name: str, load: Load) -> list[Sample]:
        return self.by_case[name, load]

    def added_us(self, name: str, load: Load) -> list[float]:
        """Over no balancer in the same round."""
        pairs = zip(self.of(name, load), self.of(NOTHING, load))
        return [own.us_each - nothing.us_each for own, nothing in pairs]


def cost_figures(samples: Samples) -> list[Figure]:
    """One core for all: the time of a request is its whole CPU cost."""
    figures = []
    for load in LOADS:
        whole = [sample.us_each for sample in samples.of(NOTHING, load)]
        unit = f"us per {load.unit}, {load.name}"
        figures.append(Figure(f"lab {load.name}: {NOTHING}", unit, whole))
        for name in samples.names[1:]:
            title = f"lab {load.name}: {name}"
            figures.append(Figure(title, f"{unit}, added", samples.added_us(name, load)))
    return [*figures, *ratio_figures(samples)]


def ratio_figures(samples: Samples) -> Iterator[Figure]:
    """What the last candidate adds, in terms of what its rivals add in the same round."""
    own = samples.names[-1]
    for rival in RIVALS:
        if rival not in samples.names:
            continue
        for load in LOADS:
            pairs = zip(samples.added_us(own, load), samples.added_us(rival, load))
            ratios = [ours / theirs for ours, theirs in pairs]
            title = f"lab {load.name}: {own} / {rival}"
            yield Figure(title, "ratio of added time", ratios)


def apart_figures(samples: Samples) -> list[Figure]:
    """The balancer on a core of its own: latency with one client, and the highest rates."""
    figures = []
    for name in samples.names:
        alone = samples.of(name, KEEP_1)
        if name != NOTHING:
            added = samples.added_us(name, KEEP_1)
            figures.append(Figure(apart_title("added", name), LATENCY, added))
        for label, runs in (
            ("mean", [sample.us_each for sample in alone]),
            ("p50", [sample.p50_us for sample in alone]),
            ("p99", [sample.p99_us for sample in alone]),
        ):
            figures.append(Figure(apart_title(label, name), LATENCY, runs))
        for load in (KEEP_64, CLOSE_64):
            rates = [sample.rate for sample in samples.of(name, load)]
            unit = f"{load.unit}s per second"
            title = apart_title(load.name, name)
            figures.append(Figure(title, unit, rates, is_more_better=True))
    return figures


def apart_title(what: str, name: str) -> str:
    return f"lab apart, {what}: {name}"


def cost_table(samples: Samples, figures: list[Figure]) -> str:
    known = {figure.name: figure for figure in figures}

    def row(name: str) -> str:
        cells = [known[f"lab {load.name}: {name}"] for load in LOADS]
        digits = 2 if "/" in name else 1
        return f"| {name} | {' | '.join(cell.text(digits) for cell in cells)} |"

    heads = [f"per {load.unit}, {load.name}" for load in LOADS]
    lines = [f"| one core, added over no balancer, us | {' | '.join(heads)} |", "|---|---|---|---|"]
    lines.append(row(NOTHING).replace(NOTHING, f"({NOTHING}: the whole cost)"))
    lines += [row(name) for name in samples.names[1:]]
    own = samples.names[-1]
    rivals = [rival for rival in RIVALS if rival in samples.names]
    lines += [row(f"{own} / {rival}") for rival in rivals]
    return "\n".join(lines)


def apart_table(samples: Samples, figures: list[Figure]) -> str:
    known = {figure.name: figure for figure in figures}
    lines = [
        "| balancer on its own core | added latency, us | p50 | p99 | requests/s | connections/s |",
        "|---|---|---|---|---|---|",
    ]
    for name in samples.names:
        added = known.get(apart_title("added", name))
        mean = known[apart_title("mean", name)]
        cells = [added.text() if added else f"(whole: {mean.text()})"]
        cells += [known[apart_title(label, name)].text(0) for label in ("p50", "p99")]
        cells += [known[apart_title(load.name, name)].text(0) for load in (KEEP_64, CLOSE_64)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
