# SPDX-License-Identifier: Apache-2.0
"""Two results of bench/run held against each other: what changed, and what is noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from results import REFERENCE, Figure, Result

# With five runs each, the least that can come out is 0.008: when every run of one is beyond every
# run of the other.
P_MAX = 0.01
# Below, a change is none, however sure it is.
CHANGE_MIN = 0.02


@dataclass(frozen=True)
class Row:
    old: Figure
    new: Figure
    p: float

    def change(self) -> float:
        """Of the median, as a share of the old one's size."""
        size = abs(self.old.median())
        return (self.new.median() - self.old.median()) / size if size else 0.0

    def verdict(self) -> str:
        if self.p > P_MAX or abs(self.change()) < CHANGE_MIN:
            return ""
        return "better" if (self.change() > 0) == self.old.is_more_better else "WORSE"


def rank_test(old: list[float], new: list[float]) -> float:
    """Probability that two equal things differ in their ranks as much as these or more.

    Wilcoxon's rank sum (Mann and Whitney, 1947), two-sided and exact: of all ways to deal the runs
    out, the share whose sum of ranks is as far from the middle. Equal runs share their ranks.
    """
    together = sorted(old + new)
    # Twice the rank, so that shared ones are whole numbers: first place + last place.
    first = {value: place for place, value in reversed(list(enumerate(together, start=1)))}
    last = {value: place for place, value in enumerate(together, start=1)}
    ranks = [first[value] + last[value] for value in together]
    ways: list[Counter[int]] = [Counter({0: 1})] + [Counter() for _ in old]
    for rank in ranks:
        for taken in range(len(old), 0, -1):
            for total, count in ways[taken - 1].items():
                ways[taken][total + rank] += count
    middle = len(old) * (len(together) + 1)
    distance = abs(sum(first[value] + last[value] for value in old) - middle)
    as_far = sum(n for total, n in ways[len(old)].items() if abs(total - middle) >= distance)
    return as_far / sum(ways[len(old)].values())


def compare(old: Result, new: Result, is_relative: bool = False) -> list[Row]:
    """The figures that both have, in the order of the new one."""
    rows = []
    for after in new.figures:
        before = old.figure(after.name)
        if before is None or before.unit != after.unit:
            continue
        if is_relative and after.name != REFERENCE and "cycles" in after.unit:
            before, after = in_terms_of_reference(old, before), in_terms_of_reference(new, after)
        rows.append(Row(before, after, rank_test(before.runs, after.runs)))
    return rows


def in_terms_of_reference(result: Result, figure: Figure) -> Figure:
    reference = result.figure(REFERENCE)
    return figure if reference is None else figure.divided_by(reference.median())


def differences(old: Result, new: Result) -> Iterator[str]:
    """What else is not the same in both, as sentences."""
    for fact in sorted(old.machine.keys() | new.machine.keys()):
        before, after = old.machine.get(fact, "unknown"), new.machine.get(fact, "unknown")
        if before != after:
            yield f"{fact}: {before} -> {after}"
    before_names = {figure.name for figure in old.figures}
    after_names = {figure.name for figure in new.figures}
    for name in sorted(before_names - after_names):
        yield f"only in the old result: {name}"
    for name in sorted(after_names - before_names):
        yield f"only in the new result: {name}"


def spread(figure: Figure) -> str:
    digits = 2 if abs(figure.median()) < 10 else 0
    ends = f"{min(figure.runs):.{digits}f} to {max(figure.runs):.{digits}f}"
    return f"{figure.median():.{digits}f} ({ends})"


def table(rows: list[Row]) -> Iterator[str]:
    heads = ("figure", "old median (range)", "new median (range)", "change", "p", "")
    cells = [heads] + [
        (
            f"{row.new.name}, {row.new.unit}",
            spread(row.old),
            spread(row.new),
            f"{row.change() * 100:+.1f} %",
            f"{row.p:.3f}",
            row.verdict(),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    for line in cells:
        padded = [line[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        yield "  ".join(padded).rstrip()
