# SPDX-License-Identifier: Apache-2.0
"""VLANs on the node's one NIC: clients in VLAN 10, a target in VLAN 20, both beside untagged ones.

The other VIPs are asked for in VLAN 10, the first ones untagged. Port 81 (UDP: 54) has the target
in VLAN 20; ports 80 and 53 have those of the lab's ordinary network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from lab import Lab, Layout, Node
from lab.addresses import OTHER_VIP_V4, OTHER_VIP_V6, VIP_V4, VIP_V6
from lab.configs import Config, config, group, listener, pair
from lab.target import DNS_PORT, HTTP_PORT
from lab.traffic import UdpStream, connect_many, dns_query, ping
from lab.vlans import Vlans, interface_of, tell_of

LAYOUT = Layout(clients=1, targets=2)
CLIENTS, TARGETS, LATE = 10, 20, 30
CLIENT = {4: "192.0.10.100", 6: "2001:db8:a::100"}
NODE = {
    CLIENTS: {4: "192.0.10.1", 6: "2001:db8:a::1"},
    TARGETS: {4: "10.0.20.1", 6: "fd00:10:20::1"},
    LATE: {4: "10.0.30.1", 6: "fd00:10:30::1"},
}
TARGET = {
    TARGETS: {4: "10.0.20.12", 6: "fd00:10:20::12"},
    LATE: {4: "10.0.30.12", 6: "fd00:10:30::12"},
}
UNTAGGED_VIP = {4: VIP_V4, 6: VIP_V6}
TAGGED_VIP = {4: OTHER_VIP_V4, 6: OTHER_VIP_V6}
LENGTH = {4: 24, 6: 64}
WHOLE = {4: 32, 6: 128}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
WAYS = pytest.mark.parametrize(
    ("vips", "http", "dns"),
    [
        pytest.param(TAGGED_VIP, 80, 53, id="client-in-a-vlan"),
        pytest.param(UNTAGGED_VIP, 81, 54, id="target-in-a-vlan"),
        pytest.param(TAGGED_VIP, 81, 54, id="two-vlans"),
        pytest.param(UNTAGGED_VIP, 80, 53, id="untagged"),
    ],
)


def own(addresses: dict[int, str]) -> list[str]:
    return [f"{address}/{LENGTH[family]}" for family, address in addresses.items()]


def groups_in(vlan: int, name: str) -> list[Config]:
    found = []
    for kind, protocol, port in (("http", "TCP", HTTP_PORT), ("dns", "UDP", DNS_PORT)):
        for family, address in TARGET[vlan].items():
            targets = [{"id": address}]
            found.append(group(f"{name}-{kind}-{family}", protocol, port, targets))
    return found


CONFIG = config(
    [
        listener("TCP", 80, "http"),
        listener("UDP", 53, "dns"),
        listener("TCP", 81, "far-http"),
        listener("UDP", 54, "far-dns"),
        listener("TCP", 82, "late-http"),
        listener("UDP", 55, "late-dns"),
    ],
    [
        *pair("http", "TCP", HTTP_PORT, members=(1, 2)),
        *pair("dns", "UDP", DNS_PORT, members=(1, 2)),
        *groups_in(TARGETS, "far"),
        *groups_in(LATE, "late"),
    ],
)


def routes_of_its_own(lab: Lab, vlan: int) -> None:
    """What the target sends from its address in the VLAN goes to the node in the VLAN."""
    host, name = lab.targets[1].namespace, interface_of(vlan)
    for family, address in TARGET[vlan].items():
        host.ip(f"-{family}", "rule", "add", "from", address, "lookup", str(vlan))
        way = ["default", "via", NODE[vlan][family], "dev", name, "table", str(vlan)]
        host.ip(f"-{family}", "route", "replace", *way)


@pytest.fixture(scope="module")
def vlans(lab: Lab) -> Iterator[Vlans]:
    """Client, node and target get their interfaces; VLAN 30 is not there yet."""
    vlans, node, client = Vlans(), lab.node, lab.client
    tell_of(node, CLIENTS, TARGETS, LATE)
    for vlan in (CLIENTS, TARGETS):
        vlans.add(node.namespace, node.interface(0), vlan, *own(NODE[vlan]))
    name = vlans.add(client, "eth0", CLIENTS, *own(CLIENT))
    for family, vip in TAGGED_VIP.items():
        way = [f"{vip}/{WHOLE[family]}", "dev", name, "src", CLIENT[family]]
        client.ip(f"-{family}", "route", "replace", *way)
    vlans.add(lab.targets[1].namespace, "eth0", TARGETS, *own(TARGET[TARGETS]))
    routes_of_its_own(lab, TARGETS)
    client.siblings = lambda protocol, address, port: [(address, port)]
    yield vlans
    vlans.close()


@pytest.fixture(scope="module")
def started(lab: Lab, vlans: Vlans) -> Node:
    lab.node.start(CONFIG)
    wait_for(lab.node, TARGET[TARGETS], "healthy")
    wait_for(lab.node, TARGET[LATE], "unhealthy")
    for target in lab.targets:
        for address in (target.v4, target.v6):
            lab.node.wait_states("healthy", address=address)
    return lab.node


def wait_for(node: Node, addresses: dict[int, str], state: str) -> None:
    for address in addresses.values():
        node.wait_states(state, address=address, timeout_s=30)


def asked(lab: Lab, vip: str, http: int, dns: int, count: int = 40) -> Sequence[str]:
    """Who answered; all must have."""
    answers = connect_many(lab.client, vip, count, port=http)
    said = dns_query(lab.client, vip, count, port=dns)
    assert len(answers) == count and len(said) == count
    return [answer.target for answer in answers]


@FAMILIES
@WAYS
def test_clients_are_answered(
    lab: Lab, node: Node, vips: dict[int, str], http: int, dns: int, family: int
) -> None:
    answers = connect_many(lab.client, vips[family], 40, port=http)
    assert len(answers) == 40
    if vips is TAGGED_VIP:
        assert {answer.client for answer in answers} == {CLIENT[family]}
    assert {answer.target for answer in answers} == ({"t2"} if http == 81 else {"t1", "t2"})
    assert len(dns_query(lab.client, vips[family], 40, port=dns)) == 40


@FAMILIES
def test_vip_answers_echo_requests_in_the_vlan(lab: Lab, node: Node, family: int) -> None:
    assert ping(lab.client, TAGGED_VIP[family], 3) == 3
    known = lab.client.ip("neighbour", "show", "dev", interface_of(CLIENTS))
    assert TAGGED_VIP[family] in known


@FAMILIES
def test_what_is_the_nodes_own_reaches_it_in_the_vlan(lab: Lab, node: Node, family: int) -> None:
    assert ping(lab.client, NODE[CLIENTS][family], 3) == 3


def test_vlan_comes_and_goes_while_packets_flow(lab: Lab, node: Node, vlans: Vlans) -> None:
    with UdpStream(lab.client, TAGGED_VIP[4], per_second=50) as stream:
        for _ in range(2):
            vlans.add(node.namespace, node.interface(0), LATE, *own(NODE[LATE]))
            vlans.add(lab.targets[1].namespace, "eth0", LATE, *own(TARGET[LATE]))
            routes_of_its_own(lab, LATE)
            wait_for(node, TARGET[LATE], "healthy")
            for family in (4, 6):
                assert set(asked(lab, TAGGED_VIP[family], 82, 55)) == {"t2"}
                assert set(asked(lab, UNTAGGED_VIP[family], 82, 55)) == {"t2"}
            vlans.remove(lab.targets[1].namespace, LATE)
            vlans.remove(node.namespace, LATE)
            wait_for(node, TARGET[LATE], "unhealthy")
            assert len(connect_many(lab.client, TAGGED_VIP[4], 20)) == 20
        report = stream.stop()
    assert report.lost <= 2, report


def test_new_control_plane_goes_on_with_the_vlans(lab: Lab, node: Node) -> None:
    with UdpStream(lab.client, TAGGED_VIP[4], per_second=50) as stream:
        node.controlplane.stop()
        node.start_controlplane()
        node.wait_adopted()
        assert set(asked(lab, TAGGED_VIP[6], 81, 54)) == {"t2"}
        report = stream.stop()
    assert report.lost <= 2, report
