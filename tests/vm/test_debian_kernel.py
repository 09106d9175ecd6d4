# SPDX-License-Identifier: Apache-2.0
"""The XDP engine's program in kernels of Debian's: other verifiers judge the same program anew."""

from __future__ import annotations

import json
import re

import pytest
from lab.node import REPOSITORY, build_directory
from vm import Kernel, Machine
from vm.kernel import NEWEST, OLDEST, STANDARD

BUILD = build_directory()
SUITES = (STANDARD, NEWEST)
# As bench/instructions has it for this machine's kernel; a million is where kernels refuse.
VERIFIED_INSTRUCTIONS_MAX = 500_000


@pytest.mark.parametrize("suite", SUITES)
def test_program_loads_and_forwards_all_golden_packets(suite: str) -> None:
    packets = REPOSITORY / "tests" / "packets"
    program = BUILD / "tests/integration/bpf/xdp_golden_test"
    done = Machine(Kernel.find(suite)).run([program, packets])
    assert done.code == 0, done.output[-4000:]
    passed = re.search(r"PASSED  \] (\d+) tests", done.output)
    assert passed is not None and int(passed[1]) >= len(golden_cases()), done.output[-2000:]


def golden_cases() -> list[str]:
    """Names of the cases, of which the test program makes one test each or more."""
    files = (REPOSITORY / "tests" / "packets").glob("*.packets")
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if line.startswith("case ")]


@pytest.mark.parametrize("suite", SUITES)
def test_verifier_has_room_for_the_program(suite: str) -> None:
    kernel = Kernel.find(suite)
    done = Machine(kernel).run([BUILD / "bench/xdp/xdp_trace"])
    assert done.code == 0, done.output[-4000:]
    figures = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    verified = next(line["verified"] for line in figures if "verified" in line)
    print(f"Linux {kernel.release}: the verifier looks at {verified} instructions")
    assert 0 < verified <= VERIFIED_INSTRUCTIONS_MAX


def test_kernel_that_is_too_old_is_told_so() -> None:
    kernel = Kernel.find(OLDEST)
    engine = BUILD / "bpf/engine/millrace-xdp"
    words = "--interface any0 --mode generic --runtime-dir /run --flow-dir /run/flows"
    line = f"ip link add any0 type dummy && {engine} {words}"
    done = Machine(kernel).run(["bash", "-c", line])
    assert done.code == 1 and "it needs Linux 5.12 or newer" in done.output, done.output[-4000:]
    checked = Machine(kernel).run([REPOSITORY / "deploy/host-check", "--engine", "xdp", "lo"])
    assert "older than 5.12" in checked.output, checked.output
