# SPDX-License-Identifier: Apache-2.0
"""VLAN interfaces of the kernel's on NICs of the PCI bus: clients and a target in VLANs, beside
untagged ones (lab/vlans.py).

Each place is a NIC with an engine on it; all tests of one place run before the next one is made.
E1000E's driver takes tags off unless it is told not to, and its NIC keeps frames for MAC addresses
that it was not told of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab.lab import Lab
from lab.process import wait_until
from lab.traffic import TcpStreams, connect_many, dns_query, ping, upload
from lab.vlans import (
    CLIENT,
    CLIENTS,
    NODE,
    TAGGED_VIP,
    TARGETS,
    UNTAGGED_VIP,
    WHOLE,
    Vlans,
    interface_of,
    own,
    vlan_config,
)
from vm import Kernel
from vm.nic import E1000E, QUEUES
from vm.node import CONTROL_PLANE, LAYOUT, GuestNode, WireLab, installed_node
from vm.station import NicWorld, Place, Station
from vm.worlds import parametrize_by_place

CONFIG = vlan_config(TARGETS)
OWN_MAC = "02:00:00:00:20:01"
FURTHER_MAC = "00:00:5e:00:01:14"
FURTHER = {4: "10.0.20.3", 6: "fd00:10:20::3"}
NEIGHBOUR = {4: "10.0.20.99", 6: "fd00:10:20::99"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])


WORLDS = (
    NicWorld(
        "uio",
        (
            Place(QUEUES, "xdp"),
            Place(QUEUES, "pci", workers=2),
            Place(E1000E, "xdp-generic"),
            Place(E1000E, "pci"),
            Place(QUEUES, "af_xdp", workers=2),
        ),
    ),
)


class VlanStation(Station):
    """With the kernel's VLAN interfaces on top."""

    def dress(self) -> None:
        for vlan in (CLIENTS, TARGETS):
            self.add_vlan(vlan)
        self.lab.client.forget_neighbours(interface_of(CLIENTS))
        self.lab.targets[1].namespace.forget_neighbours(interface_of(TARGETS))

    def add_vlan(self, vlan: int) -> None:
        """As the runbook says."""
        node, name = self.node, interface_of(vlan)
        words = ["name", name, "type", "vlan", "id", str(vlan)]
        node.run(["ip", "link", "add", "link", self.upper, *words])
        node.give_addresses(name, own(NODE[vlan]))

    def remove_vlan(self, vlan: int) -> None:
        self.node.run(["ip", "link", "delete", interface_of(vlan)])

    def assert_served(self, family: int, http: int = 81, dns: int = 54) -> None:
        for vip in (TAGGED_VIP[family], UNTAGGED_VIP[family]):
            assert len(connect_many(self.lab.client, vip, 10, port=http, parallel=4)) == 10
            assert len(dns_query(self.lab.client, vip, 4, port=dns)) == 4
            assert ping(self.lab.client, vip, count=1) == 1


@contextmanager
def vlans_of(lab: Lab) -> Iterator[None]:
    vlans = Vlans()
    vlans.add_client(lab.client)
    vlans.add_target(lab.targets[1], TARGETS)
    try:
        yield
    finally:
        vlans.close()


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, kernel: Kernel) -> Iterator[tuple[WireLab, GuestNode]]:
    world: NicWorld = request.param
    with installed_node(kernel, LAYOUT, world.nics) as made, vlans_of(made[0]):
        yield made


@pytest.fixture(scope="module")
def station(
    request: pytest.FixtureRequest, made: tuple[WireLab, GuestNode]
) -> Iterator[VlanStation]:
    station = VlanStation(*made, request.param, CONFIG)
    try:
        # Before there is an engine that would turn the tags' offload off.
        made[1].run(["ethtool", "--offload", station.interface, "rxvlan", "on"], check=False)
        station.set_up()
        yield station
    finally:
        station.take_down()
        if station.place.engine == "xdp":  # elsewhere they went with the twin
            for vlan in (CLIENTS, TARGETS):
                made[1].run(["ip", "link", "delete", interface_of(vlan)], check=False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize_by_place(metafunc, WORLDS)


@FAMILIES
def test_clients_are_answered_tagged_and_untagged(station: VlanStation, family: int) -> None:
    station.assert_served(family)
    station.assert_served(family, http=80, dns=53)
    answers = connect_many(station.lab.client, TAGGED_VIP[family], 10, port=81)
    assert {(one.client, one.target) for one in answers} == {(CLIENT[family], "t2")}
    assert ping(station.lab.client, NODE[CLIENTS][family], count=1) == 1


@FAMILIES
def test_frames_as_long_as_the_mtu_pass(station: VlanStation, family: int) -> None:
    client, headers = station.lab.client, {4: 28, 6: 48}[family]
    for address in (TAGGED_VIP[family], NODE[CLIENTS][family]):
        assert ping(client, address, count=2, data_bytes=station.mtu - headers) == 2
    for port in (80, 81):
        assert upload(client, TAGGED_VIP[family], 100_000, port=port).target.startswith("t")


@FAMILIES
def test_vlan_interface_may_have_a_mac_address_of_its_own(
    station: VlanStation, family: int
) -> None:
    node, name = station.node, interface_of(CLIENTS)
    usual = station.mac
    try:
        for mac in (OWN_MAC, usual, OWN_MAC):
            node.run(["ip", "link", "set", name, "address", mac])
            station.lab.client.forget_neighbours(interface_of(CLIENTS))
            wait_until(
                lambda: ping(station.lab.client, TAGGED_VIP[family], count=1) == 1,
                f"{mac} is known",
                timeout_s=5,
            )
            station.assert_served(family)
            assert ping(station.lab.client, NODE[CLIENTS][family], count=1) == 1
            shown = station.lab.client.ip("neighbour", "show", TAGGED_VIP[family])
            assert mac in shown, shown
    finally:
        node.run(["ip", "link", "set", name, "address", usual])
        station.lab.client.forget_neighbours(interface_of(CLIENTS))


@FAMILIES
def test_router_of_the_target_in_its_vlan_may_be_a_virtual_one(
    station: VlanStation, family: int
) -> None:
    """A macvlan on the VLAN interface, as VRRP daemons make it."""
    node, below, name = station.node, interface_of(TARGETS), "vrrp20"
    target = station.lab.targets[1].namespace
    words = ["address", FURTHER_MAC, "type", "macvlan", "mode", "bridge"]
    node.run(["ip", "link", "add", "link", below, name, *words])
    table = ["default", "dev", below, "table", str(TARGETS)]
    try:
        for interface in (below, name):
            node.run(["sysctl", "--quiet", "--write", f"net.ipv4.conf.{interface}.arp_ignore=1"])
        node.give_addresses(name, [f"{FURTHER[family]}/{WHOLE[family]}"])
        target.ip(f"-{family}", "route", "replace", *table, "via", FURTHER[family])
        station.assert_served(family)
        shown = target.ip("neighbour", "show", FURTHER[family])
        assert FURTHER_MAC in shown, shown
    finally:
        target.ip(f"-{family}", "route", "replace", *table, "via", NODE[TARGETS][family])
        node.run(["ip", "link", "delete", name])


def test_vlan_comes_back_and_connections_go_on(station: VlanStation) -> None:
    """By other interfaces with the same numbers: the kernel has others for them."""
    with TcpStreams(station.lab.client, TAGGED_VIP[4], connections=3, port=80) as streams:
        for vlan in (CLIENTS, TARGETS):
            station.remove_vlan(vlan)
        for vlan in (TARGETS, CLIENTS):
            station.add_vlan(vlan)
        station.node.wait_forwarding()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
    for family in (4, 6):
        station.assert_served(family)


def test_parent_goes_down_and_comes_up(station: VlanStation) -> None:
    """The kernel takes VLAN interfaces with it, and brings them up again."""
    node = station.node
    with TcpStreams(station.lab.client, TAGGED_VIP[4], connections=3, port=81) as streams:
        node.run(["ip", "link", "set", station.upper, "down"])
        node.run(["ip", "link", "set", station.upper, "up"])
        for vlan, name in ((vlan, interface_of(vlan)) for vlan in (CLIENTS, TARGETS)):
            node.give_addresses(name, own(NODE[vlan]))  # those of IPv6 went
        node.give_addresses(station.upper)
        station.node.wait_forwarding()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
    for family in (4, 6):
        station.assert_served(family)


def test_crash_of_the_engine_keeps_connections(station: VlanStation) -> None:
    with TcpStreams(station.lab.client, TAGGED_VIP[6], connections=3, port=81) as streams:
        station.node.crash(station.place.unit)
        station.node.wait_forwarding()
        station.node.systemctl("restart", CONTROL_PLANE)
        station.node.wait_forwarding()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
    for family in (4, 6):
        station.assert_served(family)


def test_no_target_is_told_of_a_shorter_way(station: VlanStation) -> None:
    """To a neighbour of its own in the VLAN, which it asks for by the node."""
    node, name = station.node, interface_of(TARGETS)
    target = station.lab.targets[1].namespace
    node.host_setup("forward", name)
    for family, address in NEIGHBOUR.items():
        way = [address, "via", NODE[TARGETS][family], "dev", name]
        target.ip(f"-{family}", "route", "replace", *way)
        words = ["replace", address, "lladdr", OWN_MAC, "dev", name]
        node.run(["ip", "neighbour", *words])
        said = target.run(["ping", "-n", "-c", "2", "-W", "1", address], check=False).stdout
        assert "Redirect" not in said, said
        target.ip(f"-{family}", "route", "delete", *way)
    counted = node.run(["nft", "list", "counter", "inet", "millrace", "redirects"]).stdout
    assert "packets 0" not in counted, counted


def test_no_alarm_is_left(station: VlanStation) -> None:
    wait_until(lambda: station.node.alarms() == [], "it is over", timeout_s=10)
