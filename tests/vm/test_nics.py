# SPDX-License-Identifier: Apache-2.0
"""Both engines on NICs of the PCI bus, set up as README says, one after the other in one guest.

Each place is a NIC with an engine on it; all tests of one place run before the next one is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from lab import Layout
from lab.addresses import (
    NODE_CLIENT_V4,
    NODE_CLIENT_V6,
    VIP_V4,
    VIP_V6,
    VLAN,
    VLAN_CLIENT_V4,
    VLAN_NODE_V4,
)
from lab.configs import standard
from lab.frames import frame_to, send_frames
from lab.process import wait_until
from lab.surroundings import mac_of
from lab.traffic import TcpStreams, connect_many, dns_query, ping
from vm import Kernel
from vm.kernel import NEWEST, OLDEST, STANDARD
from vm.nic import Nic
from vm.node import CONTROL_PLANE, ENGINES, TWIN, GuestNode, WireLab, installed_node

CONFIG = standard(members=(1, 2))
HUGEPAGES = 192
LAYOUT = Layout(targets=2, hugepages=0, noise_per_second=0, bystander=False, second_mac=False)

ONE_QUEUE = Nic("virtio1", "virtio-net-pci-transitional")
QUEUES = Nic("virtio4", "virtio-net-pci-transitional", "mq=on,rss=on,vectors=10", queues=4)
BEHIND_IOMMU = Nic(
    "virtiov",
    "virtio-net-pci-non-transitional",
    "mq=on,rss=on,vectors=10,iommu_platform=on",
    queues=4,
)
E1000E = Nic("e1000e", "e1000e", module="e1000e")
VMXNET3 = Nic("vmxnet3", "vmxnet3", module="vmxnet3")


@dataclass(frozen=True)
class Place:
    """`taken_by` is what has the NIC: "xdp" and "xdp-generic" leave it to the kernel, and so does
    "af_xdp"; "pci" gives it to DPDK."""

    nic: Nic
    taken_by: str
    workers: int = 1

    @property
    def engine(self) -> str:
        return "xdp" if self.taken_by.startswith("xdp") else "dpdk"

    @property
    def unit(self) -> str:
        return ENGINES[self.engine]

    def __str__(self) -> str:
        return f"{self.nic.name}-{self.taken_by}-{self.workers}"


@dataclass(frozen=True)
class World:
    """A guest, with the places that are tried in it one after the other."""

    name: str
    places: tuple[Place, ...]
    suite: str = STANDARD
    with_iommu: bool = False

    @property
    def nics(self) -> list[Nic]:
        return list(dict.fromkeys(place.nic for place in self.places))


WORLDS = (
    World(
        "uio",
        (
            Place(ONE_QUEUE, "xdp"),
            Place(ONE_QUEUE, "pci"),
            Place(QUEUES, "xdp"),
            Place(QUEUES, "pci", workers=2),
            Place(QUEUES, "af_xdp"),
            Place(E1000E, "xdp-generic"),
            Place(E1000E, "pci"),
            Place(VMXNET3, "xdp-generic"),
            Place(VMXNET3, "pci"),
        ),
    ),
    World(
        "vfio",
        (
            Place(BEHIND_IOMMU, "xdp"),
            Place(BEHIND_IOMMU, "pci", workers=2),
            Place(ONE_QUEUE, "pci"),  # which the IOMMU does not see
            Place(E1000E, "pci"),
            Place(VMXNET3, "pci"),
        ),
        with_iommu=True,
    ),
    World("new", (Place(QUEUES, "xdp"), Place(QUEUES, "pci", workers=2)), suite=NEWEST),
    World("old", (Place(QUEUES, "pci", workers=2), Place(QUEUES, "af_xdp")), suite=OLDEST),
)


class Station:
    """The node on one place."""

    def __init__(self, lab: WireLab, node: GuestNode, place: Place) -> None:
        self.lab, self.node, self.place = lab, node, place
        number = node.guest.nics.index(place.nic)
        self.pci_address = place.nic.pci_address(number)
        self.mac = place.nic.mac(number)
        self.interface = node.interface_of(self.pci_address)
        self.upper = TWIN if place.engine == "dpdk" else self.interface

    def set_up(self) -> None:
        node = self.node
        for nic in node.guest.nics:
            node.guest.set_link(nic, nic == self.place.nic)
        self.lab.forget_neighbours()
        node.run(["ip", "link", "set", self.interface, "up"])
        if self.place.nic.queues > 1:
            node.run(["ethtool", "--set-channels", self.interface, "combined", "2"], check=False)
        node.write_config(CONFIG, self.place.engine)
        node.write_environment(self.place.unit, self._environment())
        if self.place.engine == "xdp":
            node.give_addresses(self.interface)
        node.systemctl("start", self.place.unit)
        assert node.property_of(self.place.unit, "ActiveState") == "active", self.said()
        if self.place.engine == "dpdk":
            node.give_addresses(TWIN)
        node.systemctl("restart", CONTROL_PLANE)
        node.wait_forwarding()

    def _environment(self) -> dict[str, str]:
        if self.place.engine == "xdp":
            generic = " --mode generic" if self.place.taken_by == "xdp-generic" else ""
            options = f"--flows 65536{generic}"
            return {"NIC": self.interface, "FORWARD": self.interface, "XDP_OPTIONS": options}
        is_pci = self.place.taken_by == "pci"
        return {
            "NIC": self.pci_address if is_pci else self.interface,
            "NIC_OR_MAC": self.mac if is_pci else self.interface,
            "TWIN": TWIN,
            "FORWARD": TWIN,
            "HUGEPAGES": str(HUGEPAGES),
            "DATAPLANE_OPTIONS": f"--workers {self.place.workers} --flows 65536",
        }

    def take_down(self) -> None:
        node = self.node
        for unit in (CONTROL_PLANE, self.place.unit):
            node.systemctl("stop", unit)
        if self.place.engine == "xdp":
            node.run(["/usr/local/sbin/millrace-xdp", "detach"])
            node.take_addresses(self.interface)
            node.run(["ip", "link", "set", self.interface, "down"])
        else:
            node.run(["ip", "link", "delete", TWIN])
            if self.place.taken_by == "pci":
                node.host_setup("release", self.pci_address)
            else:
                node.run(["ip", "link", "set", self.interface, "down"])
        node.run(["rm", "--recursive", "--force", "/dev/hugepages/millrace"])

    def said(self) -> str:
        return self.node.journal(self.place.unit)

    def counter(self, name: str) -> int:
        said = self.node.millrace("counters")
        return sum(int(worker["drops"].get(name, 0)) for worker in said["workers"])

    def assert_serves(self) -> None:
        client = self.lab.client
        for vip in (VIP_V4, VIP_V6):
            assert len(connect_many(client, vip, 20, parallel=4)) == 20
            assert len(dns_query(client, vip, 4)) == 4
            assert ping(client, vip, count=1) == 1
        for own in (NODE_CLIENT_V4, NODE_CLIENT_V6):
            assert ping(client, own, count=1) == 1


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Iterator[tuple[WireLab, GuestNode]]:
    world: World = request.param
    kernel = Kernel.find(world.suite)
    with installed_node(kernel, LAYOUT, world.nics, with_iommu=world.with_iommu) as made:
        yield made


@pytest.fixture(scope="module")
def station(request: pytest.FixtureRequest, made: tuple[WireLab, GuestNode]) -> Iterator[Station]:
    station = Station(*made, request.param)
    try:
        station.set_up()
        yield station
    finally:
        station.take_down()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    pairs = [
        pytest.param(world, place, id=f"{world.name}-{place}")
        for world in WORLDS
        for place in world.places
    ]
    metafunc.parametrize("made,station", pairs, indirect=True, scope="module")


def test_serves_and_nothing_is_amiss(station: Station) -> None:
    station.assert_serves()
    assert station.node.alarms() == [], station.said()
    assert station.node.millrace("status")["engine"]["kind"] == station.place.engine
    named = station.pci_address if station.place.taken_by == "pci" else station.interface
    said = station.node.host_check("--engine", station.place.engine, named)
    assert "LACKS" not in said, said


def test_workers_share_the_queues(station: Station) -> None:
    if station.place.engine == "xdp":
        pytest.skip("XDP has no workers")
    said = station.node.millrace("counters")
    received = [int(worker["counters"]["rx_packets"]) for worker in said["workers"]]
    assert len(received) == station.place.workers and min(received) > 0, received


def test_wrong_checksum_of_ip_is_counted(station: Station) -> None:
    own = mac_of(station.lab.client, "eth0")
    before = station.counter("bad_ip_checksum")
    frame = frame_to(station.mac, own, VIP_V4, is_sound=False)
    send_frames(station.lab.client, frame, 5)
    wait_until(
        lambda: station.counter("bad_ip_checksum") >= before + 5, "it is counted", timeout_s=5
    )


def test_link_goes_and_comes_back(station: Station) -> None:
    guest = station.node.guest
    guest.set_link(station.place.nic, False)
    wait_until(
        lambda: any("link" in alarm for alarm in station.node.alarms()),
        "an alarm says so",
        timeout_s=10,
    )
    guest.set_link(station.place.nic, True)
    station.node.wait_forwarding()
    station.assert_serves()
    wait_until(lambda: station.node.alarms() == [], "it is over", timeout_s=10)


def test_crash_of_the_engine_keeps_connections(station: Station) -> None:
    with TcpStreams(station.lab.client, VIP_V4, connections=3) as streams:
        station.node.crash(station.place.unit)
        station.node.wait_forwarding()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
    station.assert_serves()


def test_vlan_interface_on_top_goes_on(station: Station) -> None:
    node, name = station.node, f"{station.upper}.{VLAN}"
    words = ["name", name, "type", "vlan", "id", str(VLAN)]
    node.run(["ip", "link", "add", "link", station.upper, *words])
    try:
        node.run(["ip", "address", "add", f"{VLAN_NODE_V4}/24", "dev", name])
        node.run(["ip", "link", "set", name, "up"])
        assert ping(station.lab.client, VLAN_NODE_V4, count=2) == 2
        assert node.run(["ping", "-c", "1", VLAN_CLIENT_V4], check=False).returncode == 0
    finally:
        node.run(["ip", "link", "delete", name])
