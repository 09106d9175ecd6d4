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
OTHER = Nic("near", "e1000e", "bus=pcie.0", module="e1000e")
PCI, OTHER_PCI = NIC.pci_address(0), OTHER.pci_address(1)
UNIT = ENGINES["dpdk"]
HUGEPAGES = 192
NEAR_CPUS, FAR_CPUS = {0, 1}, {2, 3}
NODES = Path("/sys/devices/system/node")


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[WireLab, GuestNode]]:
    with installed_node(Kernel.find(), LAYOUT, [NIC, OTHER], numa_nodes=2) as (lab, node):
        node.write_config(standard(members=(1, 2)), "dpdk")
        start(node)
        node.systemctl("restart", CONTROL_PLANE)
        node.wait_forwarding()
        yield lab, node


def start(node: GuestNode, *options: str, nic: str = PCI, hugepages: int = HUGEPAGES) -> None:
    values = {
        "NIC": nic,
        "NIC_OR_MAC": NIC.mac(0),
        "TWIN": TWIN,
        "FORWARD": TWIN,
        "HUGEPAGES": str(hugepages),
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


def move_hugepages(node: GuestNode, counts: tuple[int, int]) -> None:
    """With the engine stopped and its flows gone."""
    node.systemctl("stop", UNIT)
    node.run(["rm", "--recursive", "--force", "/dev/hugepages/millrace"])
    for numa_node in (1, 0):
        path = NODES / f"node{numa_node}/hugepages/hugepages-2048kB/nr_hugepages"
        node.guest.write(path, str(counts[numa_node]))


def test_engine_takes_pages_of_the_other_node_where_the_nics_has_none(
    made: tuple[WireLab, GuestNode]
) -> None:
    """DPDK would end the process, and drivers ask for the NIC's node alone."""
    lab, node = made
    move_hugepages(node, (HUGEPAGES, 0))
    start(node, hugepages=0)
    node.wait_forwarding()
    lab.assert_served()
    (worker,) = node.millrace("status")["engine"]["workers"]
    assert worker["cpu"] in NEAR_CPUS
    assert hugepages(node, 1, "nr_hugepages") == 0


def test_main_thread_at_a_node_without_pages_is_refused(made: tuple[WireLab, GuestNode]) -> None:
    _, node = made
    node.systemctl("stop", UNIT)
    words = ["/usr/local/sbin/millrace-dataplane", "--nic", PCI, "--main-cpu", "2"]
    said = node.run(words, check=False).stderr
    assert "there are none free on NUMA node 1, where CPU 2 of the main thread is" in said, said


def test_bond_of_two_nodes_has_pages_on_both(made: tuple[WireLab, GuestNode]) -> None:
    _, node = made
    move_hugepages(node, (0, 0))
    node.guest.write(Path(f"/sys/bus/pci/devices/{OTHER_PCI}/numa_node"), "0")
    start(node, nic=f"bond-active-backup:{PCI},{OTHER_PCI}")
    assert [hugepages(node, one, "nr_hugepages") for one in (0, 1)] == [HUGEPAGES, HUGEPAGES]
    for is_up in (False, True):  # the slot at the second node delivers no interrupts
        node.guest.set_link(NIC, is_up)
        idle = 0 if is_up else 1
        wait_until(
            lambda: bool(node.millrace("status")["engine"]["nics"][0]["idle_members"] == idle),
            "the bond looks at its members' links",
            timeout_s=5,
        )
