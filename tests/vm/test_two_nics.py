# SPDX-License-Identifier: Apache-2.0
"""The units with two NICs, one towards the clients and one towards the targets: their settings are
lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from lab.addresses import VIP_V4
from lab.configs import standard
from lab.traffic import TcpStreams
from vm import Kernel
from vm.nic import E1000E, Nic
from vm.node import (
    CONTROL_PLANE,
    ENGINES,
    LAYOUT,
    NODE_ADDRESSES,
    GuestNode,
    WireLab,
    installed_node,
)

TWO_SIDES = replace(LAYOUT, two_nics=True, tagged=False)
CLIENTS = replace(E1000E, name="clients")
# Behind an IOMMU the one is vfio-pci's; the other is not seen by it, and uio_pci_generic's.
NICS = {
    "alike": (CLIENTS, replace(E1000E, name="targets")),
    "vfio-and-uio": (CLIENTS, Nic("targets", "virtio-net-pci-transitional")),
}
# The XDP engine leaves NICs to the kernel's drivers: for it the others would be no other place.
PLACES = [("alike", "xdp"), ("alike", "dpdk"), ("vfio-and-uio", "dpdk")]
PCI = [nic.pci_address(number) for number, nic in enumerate(NICS["alike"])]
TWINS = ["twin0", "twin1"]
CLIENT_SIDE, TARGET_SIDE = NODE_ADDRESSES[::2], NODE_ADDRESSES[1::2]


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Iterator[tuple[WireLab, GuestNode]]:
    has_both = request.param == "vfio-and-uio"
    nics = NICS[request.param]
    with installed_node(Kernel.find(), TWO_SIDES, nics, with_iommu=has_both) as made:
        yield made


@pytest.fixture(scope="module")
def forwarding(
    request: pytest.FixtureRequest, made: tuple[WireLab, GuestNode]
) -> Iterator[tuple[WireLab, GuestNode]]:
    lab, node = made
    interfaces = [node.interface_of(address) for address in PCI]
    engine: str = request.param
    unit = ENGINES[engine]
    node.write_config(standard(members=(1, 2)), engine)
    if engine == "xdp":
        names = " ".join(interfaces)
        values = {"NIC": names, "FORWARD": names}
        values["XDP_OPTIONS"] = "--mode generic --flows 65536"
    else:
        macs = [nic.mac(number) for number, nic in enumerate(node.guest.nics)]
        values = {"NIC": " ".join(PCI), "NIC_OR_MAC": " ".join(macs)}
        values |= {"TWIN": " ".join(TWINS), "FORWARD": " ".join(TWINS)}
        values |= {"HUGEPAGES": "192", "DATAPLANE_OPTIONS": "--workers 1 --flows 65536"}
    node.write_environment(unit, values)
    uppers = interfaces if engine == "xdp" else TWINS
    if engine == "xdp":
        for interface in interfaces:
            node.run(["ip", "link", "set", interface, "up"])
    node.systemctl("restart", unit)
    assert node.property_of(unit, "ActiveState") == "active", node.journal(unit)
    for upper, given in zip(uppers, (CLIENT_SIDE, TARGET_SIDE)):
        node.give_addresses(upper, given)
    node.systemctl("restart", CONTROL_PLANE)
    node.wait_forwarding()
    yield lab, node
    for one in (CONTROL_PLANE, unit):
        node.systemctl("stop", one)
    if engine == "xdp":
        node.run(["/usr/local/sbin/millrace-xdp", "detach"])
        for interface in interfaces:
            node.take_addresses(interface)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    pairs = [pytest.param(*place, id="-".join(place)) for place in PLACES]
    metafunc.parametrize("made,forwarding", pairs, indirect=True, scope="module")


def test_both_nics_forward(forwarding: tuple[WireLab, GuestNode]) -> None:
    lab, node = forwarding
    lab.assert_served()
    assert node.alarms() == []
    status = node.millrace("status")["engine"]
    assert len(status["nics"]) == 2
    if status["kind"] == "dpdk":
        second = "uio_pci_generic"
        first = second if node.guest.nics == NICS["alike"] else "vfio-pci"
        assert [node.driver_of(address) for address in PCI] == [first, second]


def test_crash_keeps_connections(forwarding: tuple[WireLab, GuestNode]) -> None:
    lab, node = forwarding
    with TcpStreams(lab.client, VIP_V4, connections=3) as streams:
        node.crash(ENGINES[node.millrace("status")["engine"]["kind"]])
        node.wait_forwarding()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
