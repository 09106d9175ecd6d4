# SPDX-License-Identifier: Apache-2.0
"""What bench/run measured, as a file: every run of every figure, and what places them."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FORMAT = 1  # bumped when a key changes its meaning
REFERENCE = "testpmd 5tswap"


class BadResult(Exception):
    """A file that is no result of bench/run, and why."""


@dataclass(frozen=True)
class Figure:
    """One case of a result. `runs` in the order they were made."""

    name: str
    unit: str
    runs: list[float]
    is_more_better: bool = False

    def median(self) -> float:
        return statistics.median(self.runs)

    def text(self) -> str:
        digits = 0 if abs(self.median()) >= 10 else 2
        ends = f"{min(self.runs):.{digits}f}-{max(self.runs):.{digits}f}"
        return f"{self.median():.{digits}f} ({ends})"

    def divided_by(self, divisor: float) -> Figure:
        runs = [run / divisor for run in self.runs]
        return Figure(self.name, f"{self.unit} / {REFERENCE}", runs, self.is_more_better)


@dataclass(frozen=True)
class Result:
    machine: dict[str, str]
    command_line: list[str]
    started_at: str  # UTC, ISO 8601
    figures: list[Figure]

    def figure(self, name: str) -> Figure | None:
        return next((figure for figure in self.figures if figure.name == name), None)


def save(path: Path, result: Result) -> None:
    path.write_text(json.dumps({"format": FORMAT, **asdict(result)}, indent=1) + "\n", "utf-8")


def load(path: Path) -> Result:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadResult(f"{path}: {error}") from error
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        found = read.get("format") if isinstance(read, dict) else "none"
        raise BadResult(f"{path}: format {found}, where {FORMAT} is known (bench/run --json)")
    try:
        return Result(
            machine=read["machine"],
            command_line=read["command_line"],
            started_at=read["started_at"],
            figures=[figure_of(path, plain) for plain in read["figures"]],
        )
    except (KeyError, TypeError) as error:
        raise BadResult(f"{path}: {error!r} is missing or of another kind") from error


def figure_of(path: Path, plain: dict[str, Any]) -> Figure:
    figure = Figure(**plain)
    if not figure.runs:
        raise BadResult(f"{path}: {figure.name}: no run")
    return figure
