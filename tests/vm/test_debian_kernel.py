# SPDX-License-Identifier: Apache-2.0
"""The XDP engine's program in Debian 12's kernel: other verifiers judge the same program anew."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lab.node import REPOSITORY, build_directory
from vm import Kernel, Machine

BUILD = build_directory()
# As bench/instructions has it for this machine's kernel; a million is where kernels refuse.
VERIFIED_INSTRUCTIONS_MAX = 500_000


def test_program_loads_and_forwards_all_golden_packets(kernel: Kernel) -> None:
    packets = REPOSITORY / "tests" / "packets"
    program = BUILD / "tests/integration/bpf/xdp_golden_test"
    done = Machine(kernel).run([program, packets])
    assert done.code == 0, done.output[-4000:]
    passed = re.search(r"PASSED  \] (\d+) tests", done.output)
    assert passed is not None and int(passed[1]) >= len(golden_cases(packets)), done.output[-2000:]


def golden_cases(packets: Path) -> list[str]:
    """Names of the cases, of which the test program makes one test each or more."""
    lines = [line for file in packets.glob("*.packets") for line in file.read_text().splitlines()]
    return [line for line in lines if line.startswith("case ")]


def test_verifier_has_room_for_the_program(kernel: Kernel) -> None:
    done = Machine(kernel).run([BUILD / "bench/xdp/xdp_trace"])
    assert done.code == 0, done.output[-4000:]
    figures = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    verified = next(line["verified"] for line in figures if "verified" in line)
    print(f"Linux {kernel.release}: the verifier looks at {verified} instructions")
    assert 0 < verified <= VERIFIED_INSTRUCTIONS_MAX
