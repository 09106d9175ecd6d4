# SPDX-License-Identifier: Apache-2.0
"""Builds every variant and runs every test, part by part, and sums up in one line.

A part is one build folder with the suites that run in it. A part that does not build counts as one
failed test and the next part goes on, so that one run shows everything that is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gate.outcome import ROOT, Outcome, say
from gate.pytests import run_single, run_spread


@dataclass(frozen=True)
class Part:
    """One build folder. `tests` names meson tests; empty means all of `suites`. No suites: what
    would run is, to the byte, what another part has run."""

    name: str
    about: str
    folder: str
    options: tuple[str, ...] = ()
    compiler: tuple[str, str] = ("gcc", "g++")
    suites: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    timeout_factor: int = 1
    all: bool = False  # also programs and benchmarks

    @property
    def build(self) -> Path:
        return ROOT / self.folder


# Lines in reports, but no more debug information: that is a third of the compile time.
QUICK = ("-Ddebug=false", "-Dcpp_args=-g1")
# With sanitizers the compiler spends most of its time on optimizing what they put in. Without that,
# most of it goes into headers, which nearly all sources of a target then share.
SANITIZE = (
    *QUICK,
    *("-Dbench=disabled", "-Doptimization=0", "-Db_lundef=false", "-Dunity_size=24"),
)
# A part whose library or tool is missing would be left out, and its tests skipped.
PROGRAMS = ("-Ddpdk=enabled", "-Dxdp=enabled", "-Dcontrolplane=enabled")
ALL_OF_IT = (*PROGRAMS, "-Dbench=enabled")
PARTS = (
    Part(
        "main",
        "g++, everything",
        "build",
        options=(*QUICK, *ALL_OF_IT),
        # The others run with sanitizers below, and here only with --full.
        suites=("lint", "abi", "integration", "bpf"),
        all=True,
    ),
    Part(
        "no-dpdk",
        "g++, without either engine: that it builds",
        "build-no-dpdk",
        options=(*QUICK, "-Ddpdk=disabled", "-Dxdp=disabled", "-Dbench=disabled"),
    ),
    Part(
        "asan",
        "clang, address and undefined behaviour sanitizers",
        "build-asan",
        options=(*SANITIZE, *PROGRAMS, "-Db_sanitize=address,undefined"),
        compiler=("clang", "clang++"),
        suites=("unit", "property", "fuzz", "integration"),
        timeout_factor=5,
    ),
    Part(
        "tsan",
        "g++, thread sanitizer",
        "build-tsan",
        options=(*SANITIZE, "-Db_sanitize=thread"),
        suites=("unit",),
        tests=("shm", "publish", "worker"),
        timeout_factor=10,
    ),
)
# Of --full: a file compiles without the others of its target, and clang-tidy sees it by itself.
FILE_BY_FILE = Part(
    "file by file",
    "g++, each source by itself",
    "build-file-by-file",
    options=(*QUICK, *ALL_OF_IT, "-Dunity=off"),
    suites=("unit", "property", "fuzz"),
    all=True,
)
E2E = "e2e"
# Boots kernels of Debian's: all of it only when asked for, by name or by --full.
VM = "vm"
VM_SMOKE = "uio and (virtio4-xdp or virtio4-pci-2 or e1000e-pci) and (serves or share)"
NOT_ROOT = Outcome(skipped=["e2e and vm: need root for network namespaces"])
# What a part may take of the processors when nothing is compiled yet, in minutes. More is told, and
# fails nothing: how long a machine takes says nothing about the change.
BUDGETS = {"main": 15, "no-dpdk": 2, "asan": 12, "tsan": 4, E2E: 20, VM: 6}
FUZZ_SECONDS = 60
# What --full adds: each is one test.
LONG = {
    "every fuzz target searches": ["tests/fuzz/run", str(FUZZ_SECONDS)],
    "clang-tidy over everything": [
        "tests/lint/lint.py",
        f"--build={FILE_BY_FILE.folder}",
        "--full",
    ],
}


def build(part: Part) -> bool:
    """Compiles what the part's tests need, and for e2e everything else."""
    if not compile_targets(part, ["build.ninja"]):
        return False
    if not part.suites:
        return compile_targets(part, ["meson-test-prereq"])
    return compile_targets(part, programs(part))


def compile_targets(part: Part, targets: Sequence[str]) -> bool:
    c, cxx = part.compiler
    environment = {**os.environ, "CC": f"ccache {c}", "CXX": f"ccache {cxx}"}
    if c == "clang" and shutil.which("ld.lld"):
        # Takes a quarter of the time of binutils' linker for programs with sanitizers.
        environment |= {"CC_LD": "lld", "CXX_LD": "lld"}
    words = [str(ROOT / "deploy" / "build"), str(part.build), *part.options, "--", *targets]
    return subprocess.run(words, env=environment, check=False).returncode == 0


def introspect(part: Part, what: str) -> list[dict[str, Any]]:
    words = ["meson", "introspect", str(part.build), f"--{what}"]
    found: list[dict[str, Any]] = json.loads(
        subprocess.run(words, capture_output=True, check=True).stdout
    )
    return found


def programs(part: Part) -> list[str]:
    """What the part's tests run and, if it is to have all, what is built by default; as ninja calls
    it. (Its own target `all` has every test's program in it, too.)"""
    suites = {f"millrace:{suite}" for suite in part.suites}
    needed = {
        target
        for test in introspect(part, "tests")
        if suites & set(test["suite"]) and (not part.tests or test["name"] in part.tests)
        for target in test["depends"]
    }
    files = [
        one["filename"]
        for one in introspect(part, "targets")
        if one["id"] in needed or (part.all and one["build_by_default"])
    ]
    return [str(Path(file).relative_to(part.build)) for named in files for file in named]


def suite_words(part: Part) -> list[str]:
    return [word for suite in part.suites for word in ("--suite", suite)]


def run_part(part: Part) -> Outcome:
    if not build(part):
        return Outcome(failed=[f"{part.name}: build"])
    if not part.suites:
        return Outcome(passed=1)
    words = ["meson", "test", "-C", str(part.build), "--no-rebuild", "--print-errorlogs"]
    words += ["--timeout-multiplier", str(part.timeout_factor), *suite_words(part)]
    log = part.build / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "TSAN_OPTIONS": f"halt_on_error=1:suppressions={Path(__file__).with_name('tsan.supp')}",
    }
    subprocess.run([*words, *part.tests], env=environment, check=False)
    return read_meson_log(part, log)


def is_good(line: str) -> bool:
    """What googletest says of a test that did not fail."""
    return line.startswith(("[ RUN ", "[       OK ]", "[-----"))


def read_meson_log(part: Part, log: Path) -> Outcome:
    outcome = Outcome()
    if not log.exists():
        return Outcome(failed=[f"{part.name}: no test ran"])
    for line in log.read_text().splitlines():
        test = json.loads(line)
        name = f"{part.name}: {test['name']}"
        if test["result"] in ("OK", "EXPECTEDFAIL"):
            outcome.passed += 1
        elif test["result"] == "SKIP":
            outcome.skipped.append(name)
        else:
            said = (test.get("stdout", "") + test.get("stderr", "")).splitlines()
            outcome.fail(f"{name} ({test['result']})", [line for line in said if not is_good(line)])
    return outcome


def run_e2e(words: Sequence[str]) -> Outcome:
    """The end-to-end tests, with the programs of build/."""
    if os.geteuid() != 0:
        return NOT_ROOT
    if not (ROOT / "build" / "build.ninja").exists() and not build(PARTS[0]):
        return Outcome(failed=["e2e: build"])
    return run_spread(E2E, words)


def run_vm(whole: bool) -> Outcome:
    """The tests in virtual machines, or some of them, with the programs of build/."""
    if os.geteuid() != 0:
        return NOT_ROOT
    installs = [str(ROOT / "deploy" / "install-packages"), "--tests", "--vm"]
    if subprocess.run(installs, check=False).returncode != 0:
        return Outcome(failed=["vm: packages"])
    if not build(PARTS[0]):
        return Outcome(failed=["vm: build"])
    return run_single(VM, [] if whole else ["-k", VM_SMOKE])


def run_long() -> Outcome:
    outcome = run_part(FILE_BY_FILE)
    if not compile_targets(FILE_BY_FILE, ["meson-test-prereq", "bench"]):
        return Outcome(failed=["long: build"])
    for name, words in LONG.items():
        say(f"\n{name}")
        if subprocess.run([ROOT / words[0], *words[1:]], cwd=ROOT, check=False).returncode == 0:
            outcome.passed += 1
        else:
            outcome.failed.append(name)
    return outcome


def arguments() -> argparse.Namespace:
    names = [*(part.name for part in PARTS), E2E, VM]
    parser = argparse.ArgumentParser(prog="tests/run", description="Builds and runs every test.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(names)}")
    parser.add_argument("--full", action="store_true", help="also what takes long")
    parser.add_argument("-k", dest="expression", help="only end-to-end tests that match")
    found = parser.parse_args()
    unknown = [name for name in found.parts if name not in names]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}: there are {', '.join(names)}")
    return found


class Spent:
    """Time since it was made, and that of the processors in it: of all processes that ended."""

    def __init__(self) -> None:
        self._start, self._processors = time.monotonic(), self._processor_seconds()

    @staticmethod
    def _processor_seconds() -> float:
        times = os.times()
        return times.children_user + times.children_system

    @property
    def processor_minutes(self) -> float:
        return (self._processor_seconds() - self._processors) / 60

    def __str__(self) -> str:
        minutes = (time.monotonic() - self._start) / 60
        return f"{minutes:.1f} minutes, {self.processor_minutes:.1f} of processors"


def steps_of(options: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[], Outcome]]]:
    """Name, what it is, and what runs it."""

    def is_wanted(name: str) -> bool:
        return not options.parts or name in options.parts

    for part in PARTS:
        if is_wanted(part.name):
            yield part.name, part.about, partial(run_part, part)
    if is_wanted(E2E):
        words = ["-k", options.expression] if options.expression else []
        words += ["--full"] if options.full else []
        yield E2E, "the programs of build/ in the lab", partial(run_e2e, words)
    if is_wanted(VM):
        about = "Debian's kernels in virtual machines, on PCI NICs"
        yield VM, about, partial(run_vm, whole=options.full or VM in options.parts)
    if options.full:
        yield "long", "fuzzers that search, clang-tidy", run_long


def main() -> int:
    options = arguments()
    total, whole, slow = Outcome(), Spent(), list[str]()
    steps = list(steps_of(options))
    for number, (name, about, run) in enumerate(steps, start=1):
        say(f"\n[{number}/{len(steps)}] {name}: {about}")
        spent = Spent()
        outcome = run()
        say(f"[{number}/{len(steps)}] {name}: {outcome}, {spent}")
        budget = BUDGETS.get(name)
        if budget is not None and not options.full and spent.processor_minutes > budget:
            slow.append(f"{name}: {spent}, with a budget of {budget} of processors")
        total.add(outcome)
    say(f"\n{whole}")
    for name, count in Counter(total.skipped).items():
        say(f"skipped  {name}" + (f" ({count} tests)" if count > 1 else ""))
    for name in slow:
        say(f"SLOW     {name}")
    for name in total.unsteady:
        say(f"UNSTEADY {name}")
    for name in total.failed:
        say(f"FAILED   {name}")
    say(str(total))
    return 1 if total.failed or total.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
