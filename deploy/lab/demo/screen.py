# SPDX-License-Identifier: Apache-2.0
"""How the demo talks: headings, facts, bars and checks, in colour on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping

BAR_COLUMNS = 24  # for all targets of a line together


class Screen:
    """Remembers whether every check held."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.held = 0
        self._colour = sys.stdout.isatty()

    def heading(self, text: str) -> None:
        print(f"\n{self._paint('1', text)}", flush=True)

    def say(self, text: str = "") -> None:
        print(f"  {text}" if text else "", flush=True)

    def check(self, held: bool, claim: str, seen: str = "") -> bool:
        """Shows whether `claim` holds; `seen` is what was measured."""
        mark = self._paint("32", "ok  ") if held else self._paint("1;31", "FAIL")
        print(f"  {mark} {claim}{f': {seen}' if seen else ''}", flush=True)
        if held:
            self.held += 1
        else:
            self.failed.append(claim)
        return held

    def shares(self, what: str, counts: Mapping[str, int]) -> None:
        """One line: what was sent, and each target's part of the answers with a bar."""
        total = max(1, sum(counts.values()))
        parts = []
        for name, count in sorted(counts.items()):
            bar = ("█" * round(BAR_COLUMNS * count / total)).ljust(BAR_COLUMNS // 2 + 2)
            parts.append(f"{name} {self._paint('36', bar)}{100 * count / total:3.0f} %")
        print(f"       {what:<16}{'  '.join(parts)}", flush=True)

    def state(self, healthy: bool, text: str) -> str:
        return self._paint("32" if healthy else "31", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text
