# SPDX-License-Identifier: Apache-2.0
"""What a part of the test run came to, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Outcome:
    """What one part, or all of them, came to."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)  # with what the test said, if it did
    skipped: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {len(self.failed)} failed"


def say(text: str) -> None:
    print(text, flush=True)
