# SPDX-License-Identifier: Apache-2.0
"""Runs pytest, in one process or in several side by side, and reads what came of it."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from gate.outcome import ROOT, Outcome, say
from gate.spread import ALONE

# More leave too little of two CPUs to each: then tests that look at times fail.
PROCESSES = 4
# So many failed tests get a second run, by themselves. More are no matter of a busy machine.
AGAIN_MAX = 3


def run_spread(name: str, words: Sequence[str]) -> Outcome:
    """The tests in tests/NAME side by side, then those that are marked `alone`.

    A test that fails beside others runs once more by itself. If it passes then, it is told as
    unsteady, with what it said: it depends on the time that it gets, or on chance, and has to be
    looked at."""
    outcome = Outcome()
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="claims-", dir=ROOT / "build") as claims:
        own = ["-m", f"not {ALONE}", f"--claims={claims}", "-o", "console_output_style=classic"]
        running = [Pytest(f"{name}-{number}", name, [*own, *words]) for number in range(PROCESSES)]
        for one in running:
            outcome.add(one.outcome())
            failed += one.failed_ids()
    alone = Pytest(f"{name}-{ALONE}", name, ["-m", ALONE, *words])
    outcome.add(alone.outcome())
    if 0 < len(outcome.failed) == len(failed) <= AGAIN_MAX:
        again = Pytest(f"{name}-again", name, [], tests=failed).outcome()
        if again.passed == len(failed):
            outcome.passed += again.passed
            outcome.unsteady, outcome.failed = outcome.failed, []
    return outcome


def run_single(name: str, words: Sequence[str]) -> Outcome:
    """The tests in tests/NAME, one after the other."""
    return Pytest(name, name, words).outcome()


class Pytest:
    """One process, which runs at once; its lines are shown as they come."""

    def __init__(
        self, title: str, folder: str, words: Sequence[str], *, tests: Sequence[str] = ()
    ) -> None:
        """`tests`: only these, as pytest names them; else all of the folder."""
        self._title = title
        self._report = ROOT / "build" / f"{title}.xml"
        self._report.unlink(missing_ok=True)
        command = ["/usr/bin/python3", "-B", "-m", "pytest", "-v"]
        command += tests or [str(ROOT / "tests" / folder)]
        # Nothing is written outside the build folder.
        command += ["-p", "no:cacheprovider", f"--basetemp={ROOT}/build/pytest/{title}"]
        command += ["--tb=short", f"--junit-xml={self._report}"]
        (ROOT / "build" / "pytest").mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [*command, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, errors="replace"
        )
        self._shows = threading.Thread(target=self._show)
        self._shows.start()

    def _show(self) -> None:
        """Whole lines: several processes write to one terminal."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            say(line.rstrip("\n"))

    def outcome(self) -> Outcome:
        """When it has ended."""
        self._process.wait()
        self._shows.join()
        if not self._report.exists():
            return Outcome(failed=[f"{self._title}: pytest ended with {self._process.returncode}"])
        return read_junit(self._title, self._report)

    def failed_ids(self) -> list[str]:
        """As pytest names them. Of a failure outside of any test there is none."""
        if not self._report.exists():
            return []
        return [
            f"{str(case.get('classname')).replace('.', '/')}.py::{case.get('name')}"
            for case in ElementTree.parse(self._report).iter("testcase")
            if case.find("failure") is not None or case.find("error") is not None
        ]


def read_junit(title: str, report: Path) -> Outcome:
    outcome = Outcome()
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{title.partition('-')[0]}: {case.get('name')}"
        problems = [one for kind in ("failure", "error") for one in case.findall(kind)]
        if problems:
            said = [line for one in problems for line in (one.text or "").splitlines()]
            outcome.fail(name, said)
        elif (skip := case.find("skipped")) is not None:
            outcome.skipped.append(f"{title.partition('-')[0]}: {skip.get('message')}")
        else:
            outcome.passed += 1
    return outcome
