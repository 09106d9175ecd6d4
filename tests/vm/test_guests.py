# SPDX-License-Identifier: Apache-2.0
"""End-to-end tests for which this machine's kernel may lack something: they run in guests, those of
one file in one virtual machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from lab.node import REPOSITORY
from vm import Kernel, Machine

# An emulated processor is slower than this machine's, by ten times and more.
PATIENCE = "10"
MEMORY_MIB = 3072
SECONDS_MAX = 2700.0
ENGINES = pytest.mark.parametrize("engine", ["xdp", "dpdk"])
PYTEST = ("/usr/bin/python3", "-B", "-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short")


def run_tests(machine: Machine, file: Path, words: Sequence[str] = ()) -> str:
    done = machine.run(
        [*PYTEST, file, *words],
        timeout_s=SECONDS_MAX,
        environment={"MILLRACE_LAB_PATIENCE": PATIENCE},
    )
    passed = re.search(r"(\d+) passed", done.output)
    assert done.code == 0 and passed is not None, done.output[-12000:]
    print(done.output)
    return done.output


def run_file(kernel: Kernel, name: str, expression: str) -> str:
    machine = Machine(kernel, memory_mib=MEMORY_MIB)
    return run_tests(machine, REPOSITORY / "tests/e2e" / name, ["-k", expression])


def test_xdp_engine_shares_its_interface_with_other_programs(kernel: Kernel) -> None:
    run_file(kernel, "test_chain.py", "xdp")


@ENGINES
def test_targets_take_packets_out_of_packets_as_the_example_says(
    kernel: Kernel, engine: str
) -> None:
    said = run_file(kernel, "test_encap.py", f"{engine} and (shared or kernel or fault_54)")
    # Where a kernel lacks devices of the example, a program of the lab takes their place.
    by_kernel = re.findall(r"test_kernel_of_the_targets_takes_packets_out\S* (\w+)", said)
    assert by_kernel == ["PASSED"] * 8, said


@ENGINES
def test_bond_of_two_interfaces(kernel: Kernel, engine: str) -> None:
    run_file(kernel, "test_bond.py", engine)


@ENGINES
def test_way_that_loses_and_reorders_packets(kernel: Kernel, engine: str) -> None:
    run_file(kernel, "test_lossy_links.py", engine)


@ENGINES
def test_vlans_of_the_kernel(kernel: Kernel, engine: str) -> None:
    """Its own interfaces, whose tags travel beside frames, on the virtual wires of a lab. What
    counts losses is left out: an emulated lab with all its surroundings has some of its own."""
    run_file(kernel, "test_vlans.py", f"{engine} and (clients or echo or own)")
