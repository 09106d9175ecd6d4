# SPDX-License-Identifier: Apache-2.0
"""What a test takes away on purpose: who asks meanwhile may get no answer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Outage:
    """The last one of a node or a target; times are CLOCK_MONOTONIC's, in seconds."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self) -> None:
        self._until = math.inf

    def end(self) -> None:
        self._until = time.monotonic()

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """As long as the block."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def reaches(self, moment: float) -> bool:
        return self._until > moment
