# SPDX-License-Identifier: Apache-2.0
"""Bonds of PCI NICs with the DPDK engine, in one guest that has both ends of the cables: two NICs
are the engine's, two are in a network namespace that stands for the switch, under a kernel bond
where there is LACP. A bridge there joins them with the lab.

Each place is a bond; all tests of one place run before the next one is made. Behind an IOMMU the
members are vfio-pci's, elsewhere uio_pci_generic's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from lab.addresses import VIP_V4
from lab.configs import standard
from lab.process import wait_until
from lab.traffic import TcpStreams
from lab.wires import BOND
from vm import Kernel
from vm.nic import E1000E, Nic
from vm.node import CONTROL_PLANE, LAYOUT, LIBEXEC, TWIN, GuestNode, WireLab, installed_node
from vm.worlds import parametrize_by_place

CONFIG = standard(members=(1, 2))
ENGINE = "millrace-dataplane"
FLOW_DIR = "/dev/hugepages/millrace"
SWITCH = "switch"
UIO, VFIO = "uio_pci_generic", "vfio-pci"
# Both ends wait two seconds before they take a member into a bond.
LACP_S = 10.0

# LACP is for what has a speed and two directions.
GIGABIT = "speed=1000,duplex=full"
VIRTIO = Nic("virtio", "virtio-net-pci-transitional", GIGABIT)
# A transitional one is not seen by the IOMMU.
VIRTIO_SEEN = Nic("virtio", "virtio-net-pci-non-transitional", f"{GIGABIT},iommu_platform=on")
UPLINK = Nic("uplink", "virtio-net-pci-transitional")


def pair(model: Nic, first_cable: int) -> tuple[Nic, ...]:
    """The engine's ends of two cables, and then the switch's."""
    return tuple(
        replace(model, name=f"{model.name}-{end}{cable}", cable=first_cable + cable)
        for end in ("node", "switch")
        for cable in (0, 1)
    )


@dataclass(frozen=True)
class Place:
    ends: tuple[Nic, ...]
    has_lacp: bool
    driver: str = UIO  # of the members, when they are the engine's

    def __str__(self) -> str:
        model, _, _ = self.ends[0].name.partition("-")
        return f"{model}-{'lacp' if self.has_lacp else 'active-backup'}"


@dataclass(frozen=True)
class World:
    """A guest, with the places that are tried in it one after the other."""

    name: str
    places: tuple[Place, ...]

    @property
    def with_iommu(self) -> bool:
        return any(place.driver == VFIO for place in self.places)

    @property
    def nics(self) -> list[Nic]:
        ends = dict.fromkeys(nic for place in self.places for nic in place.ends)
        return [*ends, UPLINK]


E1000E_PAIR, VIRTIO_PAIR, VIRTIO_SEEN_PAIR = pair(E1000E, 1), pair(VIRTIO, 3), pair(VIRTIO_SEEN, 3)
WORLDS = (
    World(
        "uio",
        (
            Place(E1000E_PAIR, has_lacp=True),
            Place(VIRTIO_PAIR, has_lacp=True),
            Place(E1000E_PAIR, has_lacp=False),
            Place(VIRTIO_PAIR, has_lacp=False),
        ),
    ),
    World(
        "vfio",
        (
            Place(E1000E_PAIR, has_lacp=True, driver=VFIO),
            Place(VIRTIO_SEEN_PAIR, has_lacp=True, driver=VFIO),
        ),
    ),
)


class Station:
    """The node on one place."""

    def __init__(self, lab: WireLab, node: GuestNode, place: Place) -> None:
        self.lab, self.node, self.place = lab, node, place
        self.nics = list(node.guest.nics)
        self.members = [self._address(nic) for nic in place.ends[:2]]
        self.mac = place.ends[0].mac(self.nics.index(place.ends[0]))
        mode = "bond" if place.has_lacp else "bond-active-backup"
        self.device = f"{mode}:{','.join(self.members)}"
        self.ports = [node.interface_of(self._address(nic)) for nic in place.ends[2:]]
        self.uplink = node.interface_of(self._address(UPLINK))

    def _address(self, nic: Nic) -> str:
        return nic.pci_address(self.nics.index(nic))

    def switch(self, *words: str) -> str:
        return self.node.run(["ip", "-netns", SWITCH, *words]).stdout

    def set_up(self) -> None:
        node = self.node
        self.lab.forget_neighbours()
        self._make_switch()
        # One cable comes later: what the driver needs for it must be there by then.
        self.plug(1, False)
        node.write_config(CONFIG, "dpdk")
        node.write_environment(
            ENGINE,
            {
                "NIC": self.device,
                "NIC_OR_MAC": self.mac,
                "TWIN": TWIN,
                "FORWARD": TWIN,
                "HUGEPAGES": "256",
                "DATAPLANE_OPTIONS": "--workers 2 --flows 65536",
            },
        )
        node.systemctl("start", ENGINE)
        assert node.property_of(ENGINE, "ActiveState") == "active", self.said()
        node.give_addresses(TWIN)
        node.systemctl("restart", CONTROL_PLANE)
        node.wait_forwarding()

    def _make_switch(self) -> None:
        self.node.run(["ip", "netns", "add", SWITCH])
        for interface in (*self.ports, self.uplink):
            self.node.run(["ip", "link", "set", interface, "netns", SWITCH])
        self.switch("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        bridged = [*self.ports, self.uplink]
        if self.place.has_lacp:
            self.switch("link", "add", "bond0", "type", "bond", *BOND)
            for port in self.ports:
                self.switch("link", "set", port, "master", "bond0")
            bridged = ["bond0", self.uplink]
        for port in bridged:
            self.switch("link", "set", port, "master", "br0", "up")
        self.switch("link", "set", "br0", "up")

    def move_to_switch(self, port: str, bond: str) -> None:
        for words in (["down"], ["nomaster"], ["master", bond]):
            self.switch("link", "set", port, *words)

    def take_down(self) -> None:
        node = self.node
        for unit in (CONTROL_PLANE, ENGINE):
            node.systemctl("stop", unit)
        node.run(["ip", "link", "delete", TWIN])
        node.host_setup("release", self.device)
        node.run(["ip", "netns", "delete", SWITCH])  # the NICs come back
        node.run(["rm", "--recursive", "--force", FLOW_DIR])
        wait_until(
            lambda: node.interface_of(self._address(UPLINK)) != "", "they are back", timeout_s=10
        )

    def plug(self, cable: int, is_up: bool) -> None:
        """Both ends: a hub of QEMU's keeps it from the other one."""
        for end in self.place.ends[cable::2]:
            self.node.guest.set_link(end, is_up)

    def said(self) -> str:
        return self.node.journal(ENGINE)

    def idle_members(self) -> int:
        nics = self.node.millrace("status")["engine"]["nics"]
        return sum(int(nic["idle_members"]) for nic in nics)

    def wait_complete(self) -> None:
        wait_until(lambda: self.idle_members() == 0, "all members carry", timeout_s=LACP_S)

    def received_by(self, port: str) -> int:
        statistics = f"/sys/class/net/{port}/statistics/rx_packets"
        words = ["ip", "netns", "exec", SWITCH, "cat", statistics]
        return int(self.node.run(words).stdout)


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, kernel: Kernel) -> Iterator[tuple[WireLab, GuestNode]]:
    world: World = request.param
    with installed_node(kernel, LAYOUT, world.nics, with_iommu=world.with_iommu) as made:
        made[1].run(["modprobe", "bonding", "max_bonds=0"])
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
    parametrize_by_place(metafunc, WORLDS)


def test_member_that_gets_its_link_after_the_start_is_taken(station: Station) -> None:
    station.lab.assert_served()
    assert station.idle_members() == 1, station.said()
    station.plug(1, True)
    station.wait_complete()
    station.lab.assert_served()


def test_switch_and_engine_agree(station: Station) -> None:
    """And the kernel sees the bond as one machine, with the first member's MAC address."""
    shown = station.node.run(["ip", "link", "show", TWIN]).stdout
    assert station.mac in shown and "NO-CARRIER" not in shown, shown
    assert station.node.alarms() == [], station.said()
    said = station.node.host_check(station.device)
    assert "LACKS" not in said, said
    drivers = {station.node.driver_of(member) for member in station.members}
    assert drivers == {station.place.driver}
    if not station.place.has_lacp:
        return
    words = ["ip", "netns", "exec", SWITCH, "cat", "/proc/net/bonding/bond0"]
    agreed = station.node.run(words).stdout
    assert f"Partner Mac Address: {station.mac}" in agreed, agreed
    assert "Number of ports: 2" in agreed, agreed


def test_work_is_shared_by_workers_and_by_members_with_lacp(station: Station) -> None:
    before = [station.received_by(port) for port in station.ports]
    station.lab.assert_served()
    sent = [station.received_by(port) - one for port, one in zip(station.ports, before)]
    if station.place.has_lacp:
        assert min(sent) > 10, sent
    workers = station.node.millrace("counters")["workers"]
    forwarded = [int(worker["counters"]["forwarded_packets"]) for worker in workers]
    assert len(forwarded) == 2 and min(forwarded) > 0, forwarded


def test_switches_that_do_not_act_as_one_are_told_of(station: Station) -> None:
    """They would learn one MAC address in two places."""
    if not station.place.has_lacp:
        pytest.skip("one member alone carries")
    station.switch("link", "add", "bond1", "type", "bond", *BOND)
    station.switch("link", "set", "bond1", "master", "br0", "up")
    station.move_to_switch(station.ports[1], "bond1")
    said = f"its member {station.members[1]} is in another channel than {station.members[0]}"
    wait_until(lambda: said in station.said(), "the log says so", timeout_s=LACP_S)
    wait_until(
        lambda: any("would not carry" in alarm for alarm in station.node.alarms()),
        "an alarm says so",
        timeout_s=10,
    )
    station.move_to_switch(station.ports[1], "bond0")
    station.switch("link", "delete", "bond1")
    station.wait_complete()
    station.lab.assert_served()
    wait_until(lambda: station.node.alarms() == [], "it is over", timeout_s=10)


def test_fault_52_member_that_goes_and_comes_back_ends_no_connection(station: Station) -> None:
    with TcpStreams(station.lab.client, VIP_V4, connections=6) as streams:
        for cable in (0, 1):
            station.plug(cable, False)
            wait_until(lambda: station.idle_members() == 1, "it is noticed", timeout_s=5)
            station.lab.assert_served()
            station.plug(cable, True)
            station.wait_complete()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
    wait_until(lambda: station.node.alarms() == [], "it is over", timeout_s=10)


def test_without_any_member_the_bond_has_no_link(station: Station) -> None:
    for cable in (0, 1):
        station.plug(cable, False)
    wait_until(
        lambda: any("has no link" in alarm for alarm in station.node.alarms()),
        "an alarm says so",
        timeout_s=10,
    )
    for cable in (0, 1):
        station.plug(cable, True)
    station.wait_complete()
    station.node.wait_forwarding()
    station.lab.assert_served()
    wait_until(lambda: station.node.alarms() == [], "it is over", timeout_s=10)


def test_release_of_a_member_in_use_is_refused(station: Station) -> None:
    setup = f"{LIBEXEC}/host-setup"
    done = station.node.run([setup, "release", station.members[1]], check=False)
    assert done.returncode == 1 and "is in use by process" in done.stderr, done
    station.lab.assert_served()


def test_bond_goes_on_without_a_nic_that_leaves_the_bus(station: Station) -> None:
    """As one that broke is not there when the machine boots."""
    node, gone = station.node, station.members[0]
    if station.place.driver == VFIO:
        node.systemctl("stop", ENGINE)  # it holds the NIC: the kernel would wait for that
    node.guest.write(Path(f"/sys/bus/pci/devices/{gone}/remove"), "1")
    try:
        node.systemctl("restart", ENGINE)
        node.wait_forwarding()
        station.lab.assert_served()
        assert station.idle_members() == 1, station.said()
        assert "there is no such PCI device" in station.said()
    finally:
        node.guest.write(Path("/sys/bus/pci/rescan"), "1")
    node.systemctl("restart", ENGINE)
    station.wait_complete()
    node.wait_forwarding()
    station.lab.assert_served()


def test_crash_of_the_engine_keeps_connections(station: Station) -> None:
    with TcpStreams(station.lab.client, VIP_V4, connections=3) as streams:
        station.node.crash(ENGINE)
        station.wait_complete()
        station.node.wait_forwarding()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
    station.lab.assert_served()
    drops = station.node.millrace("counters")["nics"][0]
    assert re.match("bond:0", drops["name"]), drops
