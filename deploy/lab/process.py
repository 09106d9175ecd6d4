# SPDX-License-Identifier: Apache-2.0
"""Commands and long-running programs of the lab.

Every program that the lab starts dies with the lab: it gets a process group of its own (so that a
Ctrl-C reaches only the lab, which then takes things down in order), a death signal from the kernel
(for when the lab itself is killed), and a bounded stop.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Times as long as usual before anything is given up: for emulated machines.
PATIENCE = float(os.environ.get("MILLRACE_LAB_PATIENCE", "1"))
COMMAND_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.02


class LabError(Exception):
    """The lab could not do what was asked; the text says what and why."""


class CommandFailed(LabError):
    """A command ended with a non-zero exit code."""

    def __init__(self, argv: Sequence[str], code: int, stdout: str, stderr: str) -> None:
        self.argv, self.code, self.stdout, self.stderr = list(argv), code, stdout, stderr
        said = stderr.strip() or stdout.strip()
        super().__init__(f"`{' '.join(argv)}` ended with {code}: {said}")


def run(
    argv: Sequence[str | Path],
    *,
    check: bool = True,
    timeout_s: float = COMMAND_TIMEOUT_S,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and returns what it said.

    With `check`, a non-zero exit raises CommandFailed. A command that takes longer than `timeout_s`
    is killed and raises LabError.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s * PATIENCE,
            env=None if env is None else {**os.environ, **env},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(words)}` did not end within {timeout_s:g} s") from None
    except FileNotFoundError:
        raise LabError(f"`{words[0]}` is not installed (see deploy/install-packages)") from None
    if check and done.returncode != 0:
        raise CommandFailed(words, done.returncode, done.stdout, done.stderr)
    return done


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    timeout_s: float,
    interval_s: float = POLL_INTERVAL_S,
) -> float:
    """Waits until `condition()` holds and returns the seconds that took; LabError after timeout."""
    start = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - start
        if time.monotonic() - start > timeout_s * PATIENCE:
            raise LabError(f"{what}: not within {timeout_s:g} s")
        time.sleep(interval_s)


class Service:
    """A long-running program of the lab. Not thread-safe; start it from the main thread only,

    because the kernel ties the death signal to the thread that started the program.
    """

    def __init__(self, name: str, argv: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self.argv = [str(word) for word in argv]
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.changed_at = 0.0  # when it was last started, stopped or signalled, by CLOCK_MONOTONIC

    def start(self) -> None:
        if self.running:
            raise LabError(f"{self.name} runs already")
        self.changed_at = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise LabError(f"{self.name} was never started")
        return self._process.pid

    def wait_ready(self, ready: Callable[[], bool], *, timeout_s: float = 15.0) -> float:
        """Waits until `ready()`; a program that ends meanwhile is an error with its last words."""

        def ready_or_ended() -> bool:
            if not self.running:
                raise LabError(f"{self.name} ended with {self.exit_code}:\n{self.log_tail()}")
            return ready()

        try:
            return wait_until(ready_or_ended, f"{self.name} is ready", timeout_s=timeout_s)
        except LabError as error:
            raise LabError(f"{error}\n{self.log_tail()}") from None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Waits for the program to end by itself and returns its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(timeout_s * PATIENCE)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} did not end within {timeout_s:g} s") from None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
        """SIGTERM, then SIGKILL for the whole group. Returns the exit code, None if it hung."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._signal_group(signal.SIGTERM)
            self._signal_group(signal.SIGCONT)
            try:
                self._process.wait(timeout_s * PATIENCE)
            except subprocess.TimeoutExpired:
                pass
        code = self._process.poll()
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        return code

    def kill(self) -> None:
        """kill -9, as a crash would; returns when the process is gone."""
        assert self._process is not None
        self._signal_group(signal.SIGKILL)
        self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        self.changed_at = time.monotonic()
        os.kill(self.pid, number)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the program's log, with its path: for error messages."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join([f"--- {self.log}", *text.splitlines()[-lines:]])

    def _signal_group(self, number: signal.Signals) -> None:
        self.changed_at = time.monotonic()
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass
