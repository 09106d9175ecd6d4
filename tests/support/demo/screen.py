# SPDX-License-Identifier: Apache-2.0
"""How the demo talks: headings, facts, bars and checks, in colour on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping

BAR_COLUMNS = 40


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

    def shares(self, counts: Mapping[str, int]) -> None:
        """One bar per target, as parts of all."""
        total = max(1, sum(counts.values()))
        for name, count in sorted(counts.items()):
            bar = "█" * round(BAR_COLUMNS * count / total)
            print(f"       {name}  {self._paint('36', bar)} {100 * count / total:.0f} %  ({count})")

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text
