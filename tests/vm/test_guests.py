# SPDX-License-Identifier: Apache-2.0
"""Tests that run in the guest, all of one file in one virtual machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lab.node import REPOSITORY
from vm import Kernel, Machine

# An emulated processor is slower than this machine's, by ten times and more.
PATIENCE = "10"
MEMORY_MIB = 3072
SECONDS_MAX = 2700.0
PYTEST = ("/usr/bin/python3", "-B", "-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short")


def run_tests(machine: Machine, file: Path, words: Sequence[str] = ()) -> None:
    done = machine.run(
        [*PYTEST, file, *words],
        timeout_s=SECONDS_MAX,
        environment={"MILLRACE_LAB_PATIENCE": PATIENCE},
    )
    passed = re.search(r"(\d+) passed", done.output)
    assert done.code == 0 and passed is not None, done.output[-12000:]
    print(done.output)


def test_xdp_engine_shares_its_interface_with_other_programs(kernel: Kernel) -> None:
    machine = Machine(kernel, memory_mib=MEMORY_MIB)
    run_tests(machine, REPOSITORY / "tests/e2e/test_chain.py", ["-k", "xdp"])
