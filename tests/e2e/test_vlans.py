# SPDX-License-Identifier: Apache-2.0
"""VLANs on the node's one NIC, as lab/vlans.py has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from lab import Lab, Layout, Node
from lab.traffic import UdpStream, connect_many, dns_query, ping
from lab.vlans import (
    CLIENT,
    CLIENTS,
    LATE,
    NODE,
    TAGGED_VIP,
    TARGET,
    TARGETS,
    UNTAGGED_VIP,
    Vlans,
    interface_of,
    own,
    tell_of,
    vlan_config,
)

LAYOUT = Layout(clients=1, targets=2)
CONFIG = vlan_config(TARGETS, LATE)
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


@pytest.fixture(scope="module")
def vlans(lab: Lab) -> Iterator[Vlans]:
    """Client, node and target get their interfaces; VLAN 30 is not there yet."""
    vlans, node = Vlans(), lab.node
    tell_of(node, CLIENTS, TARGETS, LATE)
    for vlan in (CLIENTS, TARGETS):
        vlans.add(node.namespace, node.interface(0), vlan, *own(NODE[vlan]))
    vlans.add_client(lab.client)
    vlans.add_target(lab.targets[1], TARGETS)
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
            vlans.add_target(lab.targets[1], LATE)
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
