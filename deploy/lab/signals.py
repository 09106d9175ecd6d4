# SPDX-License-Identifier: Apache-2.0
"""What becomes of signals while a lab stands: its end is orderly, whoever asks for it."""

from __future__ import annotations

import signal
from types import FrameType


class Terminated(SystemExit, KeyboardInterrupt):
    """The latter for pytest: any other exception fails a test, and the next one starts."""


class terminate_as_exit:
    """Turns SIGTERM and SIGHUP into an exception that ends the program, so that a `with` cleans
    up."""

    SIGNALS = (signal.SIGTERM, signal.SIGHUP)

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._exit) for number in self.SIGNALS}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @staticmethod
    def _exit(number: int, frame: FrameType | None) -> None:
        raise Terminated(128 + number)


class signals_ignored:
    """So that a second Ctrl-C does not stop the cleaning up half-way."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, signal.SIG_IGN) for number in self.SIGNALS}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
