# SPDX-License-Identifier: Apache-2.0
"""Both engines on NICs of the PCI bus, set up as README says, one after the other in one guest.

Each place is a NIC with an engine on it; all tests of one place run before the next one is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from lab.addresses import (
    NODE_CLIENT_V4,
    NODE_CLIENT_V6,
    SECOND_MAC,
    VIP_V4,
    VIP_V6,
    VLAN,
    VLAN_CLIENT_V4,
    VLAN_NODE_V4,
)
from lab.configs import standard
from lab.frames import frame_to, send_frames
from lab.process import wait_until
from lab.surroundings import SECOND_MAC_INTERFACE, mac_of
from lab.traffic import TcpStreams, ping, upload
from vm import Kernel
from vm.kernel import NEWEST, OLDEST, STANDARD
from vm.nic import E1000E, ONE_QUEUE, QUEUES, Nic
from vm.node import CONTROL_PLANE, ENGINES, LAYOUT, TWIN, GuestNode, WireLab, installed_node
from vm.station import FLOW_DIR, HUGEPAGES, XDP, NicWorld, Place, Station
from vm.worlds import parametrize_by_place

CONFIG = standard(members=(1, 2))
MACVLAN_V4 = "192.0.2.3"

# Of before version 1, by ports instead of memory.
LEGACY = Nic("virtio0", "virtio-net-pci", "disable-modern=on,disable-legacy=off")
# Without RSS, by which QEMU itself moves frames between queues: a frame for a queue that the driver
# is about to fill holds up the tap's queue that it came by, and only a notice of that one's own
# virtqueue goes on. Linux 6.12 meets that when it changes its queues under traffic, and is deaf.
HOST_QUEUES = Nic("virtioh", "virtio-net-pci-transitional", "mq=on,vectors=10", queues=4)
BEHIND_IOMMU = Nic(
    "virtiov",
    "virtio-net-pci-non-transitional",
    "mq=on,rss=on,vectors=10,iommu_platform=on",
    queues=4,
)
VMXNET3 = Nic("vmxnet3", "vmxnet3", module="vmxnet3")


@dataclass(frozen=True)
class World(NicWorld):
    suite: str = STANDARD
    with_iommu: bool = False
    mtu: int = 1500


WORLDS = (
    World(
        "uio",
        (
            Place(ONE_QUEUE, "xdp"),
            Place(ONE_QUEUE, "pci"),
            Place(LEGACY, "pci"),
            Place(QUEUES, "xdp"),
            Place(QUEUES, "pci", workers=2),
            Place(QUEUES, "pci", workers=1),
            Place(QUEUES, "pci", workers=2, queues=4),
            Place(E1000E, "xdp-generic"),
            Place(E1000E, "pci"),
            Place(VMXNET3, "xdp-generic"),
            Place(VMXNET3, "pci"),
            Place(QUEUES, "af_xdp", workers=2),
        ),
    ),
    World(
        "jumbo",
        (Place(QUEUES, "pci", workers=2), Place(E1000E, "pci"), Place(VMXNET3, "pci")),
        mtu=9000,
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
    World("new", (Place(HOST_QUEUES, "xdp"), Place(HOST_QUEUES, "pci", workers=2)), suite=NEWEST),
    World("old", (Place(QUEUES, "pci", workers=2), Place(QUEUES, "af_xdp")), suite=OLDEST),
)


class MovedStation(Station):
    """Between engines, as the runbook has it."""

    def move_to_dpdk(self) -> None:
        node = self.node
        node.systemctl("stop", CONTROL_PLANE)
        node.write_config(self.config, "dpdk")
        node.write_environment(ENGINES["dpdk"], self.environment(Place(self.place.nic, "pci")))
        node.host_setup("hugepages", str(HUGEPAGES))
        node.host_setup("twin", TWIN, self.interface)
        node.take_addresses(self.interface)
        node.give_addresses(TWIN)
        node.host_setup("twin", TWIN, self.interface)
        node.systemctl("disable", "--now", ENGINES["xdp"])
        node.run([XDP, "detach", "--flow-dir", FLOW_DIR])
        node.systemctl("enable", "--now", ENGINES["dpdk"])
        node.systemctl("start", CONTROL_PLANE)
        node.wait_forwarding()

    def move_to_xdp(self) -> None:
        node = self.node
        node.systemctl("stop", CONTROL_PLANE)
        node.write_config(self.config, "xdp")
        environment = self.environment(self.place)
        environment["XDP_OPTIONS"] += f" --flow-dir {FLOW_DIR}"
        node.write_environment(ENGINES["xdp"], environment)
        node.systemctl("disable", "--now", ENGINES["dpdk"])
        node.host_setup("release", self.pci_address)
        node.systemctl("enable", "--now", ENGINES["xdp"])
        node.give_addresses(self.interface)
        node.run(["ip", "link", "delete", TWIN])
        node.systemctl("start", CONTROL_PLANE)
        node.wait_forwarding()


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Iterator[tuple[WireLab, GuestNode]]:
    world: World = request.param
    kernel = Kernel.find(world.suite)
    layout = replace(LAYOUT, mtu=world.mtu)
    with installed_node(kernel, layout, world.nics, with_iommu=world.with_iommu) as made:
        yield made


@pytest.fixture(scope="module")
def station(
    request: pytest.FixtureRequest, made: tuple[WireLab, GuestNode]
) -> Iterator[MovedStation]:
    station = MovedStation(*made, request.param, CONFIG)
    try:
        station.set_up()
        yield station
    finally:
        station.take_down()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize_by_place(metafunc, WORLDS)


def test_serves_and_nothing_is_amiss(station: Station) -> None:
    station.lab.assert_served()
    assert station.node.alarms() == [], station.said()
    assert station.node.millrace("status")["engine"]["kind"] == station.place.engine
    named = station.pci_address if station.place.taken_by == "pci" else station.interface
    said = station.node.host_check("--engine", station.place.engine, named)
    assert "LACKS" not in said, said
    complaints = station.node.run(["dmesg", "--level=warn,err,crit"]).stdout
    assert "millrace" not in complaints, "the kernel names programs that ask it wrongly"


def test_frames_as_long_as_the_mtu_pass(station: Station) -> None:
    client = station.lab.client
    for address in (VIP_V4, VIP_V6, NODE_CLIENT_V4, NODE_CLIENT_V6):
        headers = 48 if ":" in address else 28
        assert ping(client, address, count=2, data_bytes=station.mtu - headers) == 2, address
    for vip in (VIP_V4, VIP_V6):
        assert upload(client, vip, 200_000).target.startswith("t")
    assert station.node.millrace("status")["alarms"] == []


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
    station.lab.assert_served()
    wait_until(lambda: station.node.alarms() == [], "it is over", timeout_s=10)


def test_crash_of_the_engine_keeps_connections(station: Station) -> None:
    with TcpStreams(station.lab.client, VIP_V4, connections=3) as streams:
        station.node.crash(station.place.unit)
        station.node.wait_forwarding()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
    station.lab.assert_served()


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


def test_second_address_on_top_goes_on(station: Station) -> None:
    """A macvlan, as VRRP daemons and containers make them."""
    node, name = station.node, SECOND_MAC_INTERFACE
    words = ["address", SECOND_MAC, "type", "macvlan", "mode", "bridge"]
    node.run(["ip", "link", "add", "link", station.upper, name, *words])
    try:
        for interface in (station.upper, name):  # each answers for what is its own
            node.run(["sysctl", "--quiet", "--write", f"net.ipv4.conf.{interface}.arp_ignore=1"])
        node.run(["ip", "address", "add", f"{MACVLAN_V4}/32", "dev", name])
        node.run(["ip", "link", "set", name, "up"])
        assert ping(station.lab.client, MACVLAN_V4, count=2) == 2
        known = station.lab.client.run(["ip", "neighbour", "show", MACVLAN_V4]).stdout
        assert SECOND_MAC in known, known
        station.lab.assert_served()
    finally:
        node.run(["ip", "link", "delete", name])


def test_nic_that_af_xdp_had_is_given_to_dpdk(station: Station) -> None:
    if station.place.taken_by != "af_xdp":
        pytest.skip("it is DPDK's already, or another test gives it")
    node = station.node
    for unit in (CONTROL_PLANE, station.place.unit):
        node.systemctl("stop", unit)
    node.host_setup("bind", station.pci_address)
    assert node.driver_of(station.pci_address) == "uio_pci_generic"
    node.host_setup("release", station.pci_address)


def test_live_node_moves_to_the_other_engine_and_back(station: MovedStation) -> None:
    if station.place.taken_by != "xdp":
        pytest.skip("from the XDP engine to DPDK and back")
    with TcpStreams(station.lab.client, VIP_V4, connections=3) as streams:
        station.move_to_dpdk()
        station.lab.assert_served()
        station.move_to_xdp()
        station.lab.assert_served()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
