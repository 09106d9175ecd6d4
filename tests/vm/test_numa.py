# SPDX-License-Identifier: Apache-2.0
"""The DPDK engine on a machine with two NUMA nodes, whose NIC is at the second one: what the unit
starts is all there, and the engine tells of what is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.configs import standard
from lab.process import wait_until
from vm import Kernel
from vm.nic import Nic
from vm.node import CONTROL_PLANE, ENGINES, LAYOUT, TWIN, GuestNode, WireLab, installed_node

NIC = Nic("far", "e1000e", module="e1000e", is_far=True)
PCI = NIC.pci_address(0)
UNIT = ENGINES["dpdk"]
HUGEPAGES = 192
FAR_CPUS = {2, 3}
NODES = Path("/sys/devices/system/node")


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[WireLab, GuestNode]]:
    with installed_node(Kernel.find(), LAYOUT, [NIC], numa_nodes=2) as (lab, node):
        node.write_config(standard(members=(1, 2)), "dpdk")
        start(node)
        node.systemctl("restart", CONTROL_PLANE)
        node.wait_forwarding()
        yield lab, node


def start(node: GuestNode, *options: str) -> None:
    values = {
        "NIC": PCI,
        "NIC_OR_MAC": NIC.mac(0),
        "TWIN": TWIN,
        "FORWARD": TWIN,
        "HUGEPAGES": str(HUGEPAGES),
        "DATAPLANE_OPTIONS": " ".join(["--workers 1 --flows 65536", *options]),
    }
    node.write_environment(UNIT, values)
    node.systemctl("restart", UNIT)
    assert node.property_of(UNIT, "ActiveState") == "active", node.journal(UNIT)
    node.give_addresses(TWIN)


def hugepages(node: GuestNode, numa_node: int, which: str) -> int:
    return int(node.guest.read(NODES / f"node{numa_node}/hugepages/hugepages-2048kB/{which}"))


def test_serves_from_the_second_node(made: tuple[WireLab, GuestNode]) -> None:
    lab, node = made
    lab.assert_served()
    assert node.alarms() == []


def test_workers_and_memory_are_at_the_nics_node(made: tuple[WireLab, GuestNode]) -> None:
    _, node = made
    (worker,) = node.millrace("status")["engine"]["workers"]
    assert worker["cpu"] in FAR_CPUS
    assert hugepages(node, 0, "nr_hugepages") == 0
    assert hugepages(node, 1, "nr_hugepages") == HUGEPAGES
    maps = node.guest.read(Path(f"/proc/{node.main_pid(UNIT)}/numa_maps")).splitlines()
    nodes = [re.findall(r"\bN(\d+)=", line) for line in maps if " huge " in line]
    assert {number for numbers in nodes for number in numbers} == {"1"}, maps


def test_host_check_names_the_node(made: tuple[WireLab, GuestNode]) -> None:
    _, node = made
    said = node.host_check(PCI)
    assert "NUMA node 1, with the CPUs 2-3, which workers get first" in said, said


def test_worker_of_another_node_is_told_of(made: tuple[WireLab, GuestNode]) -> None:
    lab, node = made
    assert "NUMA" not in node.journal(UNIT)
    start(node, "--worker-cpus 0")
    node.wait_forwarding()
    lab.assert_served()
    wait_until(
        lambda: f"nic {PCI}: is on NUMA node 1, but a worker is on other nodes"
        in node.journal(UNIT),
        "the log says so",
        timeout_s=5,
    )
