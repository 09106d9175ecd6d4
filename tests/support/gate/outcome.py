# SPDX-License-Identifier: Apache-2.0
"""What a part of the test run came to, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# Of what a failed test said, in the summary.
FAILURE_LINES = 40


@dataclass
class Outcome:
    """What one part, or all of them, came to."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)  # with what the test said, if it did
    skipped: list[str] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)  # failed beside others, and passed alone

    def fail(self, name: str, said: Sequence[str]) -> None:
        """The end of what it said goes with it: often nothing else of the run is kept."""
        self.failed.append("\n    ".join([name, *said[-FAILURE_LINES:]]))

    def add(self, other: Outcome) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.unsteady += other.unsteady

    def __str__(self) -> str:
        return f"{self.passed} passed, {len(self.failed)} failed"


def say(text: str) -> None:
    print(text, flush=True)
