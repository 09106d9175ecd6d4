# SPDX-License-Identifier: Apache-2.0
"""The lab's shapes are there, and the node is at home in them (ARCHITECTURE.md)."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator

import pytest
from lab import Lab, Layout, Node
from lab.addresses import (
    REMOTE_CLIENT_V4,
    REMOTE_CLIENT_V6,
    SECOND_MAC_V4,
    SECOND_MAC_V6,
    VIP_V4,
    VIP_V6,
    VLAN_NODE_V4,
    VLAN_NODE_V6,
    client_v4,
    client_v6,
)
from lab.configs import standard
from lab.endpoints import Endpoints
from lab.process import wait_until
from lab.surroundings import VLAN_INTERFACE
from lab.traffic import connect_many, dns_query, family_of, ping

VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])


def own_address(vip: str) -> str:
    return client_v6(0) if ":" in vip else client_v4(0)


@VIPS
def test_every_endpoint_of_the_load_balancer_answers(lab: Lab, node: Node, vip: str) -> None:
    for protocol, port in (("TCP", 80), ("UDP", 53)):
        for address, number in Endpoints(node).like(protocol, vip, port):
            if protocol == "TCP":
                assert len(connect_many(lab.client, address, 40, port=number)) == 40
            else:
                assert len(dns_query(lab.client, address, 40, port=number)) == 40


@VIPS
def test_clients_on_the_link_and_behind_a_router_are_answered_alike(
    lab: Lab, node: Node, vip: str
) -> None:
    behind = REMOTE_CLIENT_V6 if ":" in vip else REMOTE_CLIENT_V4
    for client, own in ((lab.client, own_address(vip)), (lab.remote, behind)):
        answers = connect_many(client, vip, 60)
        assert len(answers) == 60 and {answer.client for answer in answers} == {own}
        assert len(dns_query(client, vip, 60)) == 60


@pytest.mark.parametrize("address", [VLAN_NODE_V4, VLAN_NODE_V6])
def test_tagged_frames_reach_the_kernels_vlan(lab: Lab, node: Node, address: str) -> None:
    assert ping(lab.client, address, 3) == 3


@VIPS
def test_packet_to_a_vip_in_a_vlan_is_not_balanced(lab: Lab, node: Node, vip: str) -> None:
    """The VIP is on the link and not in that network, where nothing has its address."""
    by = VLAN_NODE_V6 if ":" in vip else VLAN_NODE_V4
    net = f"{vip}/{128 if ':' in vip else 32}"
    lab.client.ip("route", "add", net, "via", by, "dev", VLAN_INTERFACE, "metric", "9999")
    asking = lab.client.socket(family_of(vip), socket.SOCK_STREAM)
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, VLAN_INTERFACE.encode())
    asking.settimeout(1.5)
    try:
        with pytest.raises(OSError):
            asking.connect((vip, 80))
    finally:
        asking.close()
        lab.client.ip("route", "del", net, "via", by, "dev", VLAN_INTERFACE, "metric", "9999")


def test_noise_is_on_the_wire(lab: Lab, node: Node) -> None:
    """Of each second's packets some come from addresses that nobody has."""
    wanted = lab.layout.noise_per_second
    before = node.totals()["flow_inserted"]
    wait_until(
        lambda: node.totals()["flow_inserted"] >= before + wanted, "noise makes flows", timeout_s=20
    )


def test_a_nic_with_several_queues_gets_frames_in_all(lab: Lab, node: Node) -> None:
    """The lab's part of it: what the engine does with them is told by all other tests."""
    shown = lab.switch.namespace.run(["ls", "/sys/class/net/node-nic0/queues"]).stdout
    queues = len(re.findall(r"tx-\d+", shown))
    assert queues == lab.layout.nic_queues
    if lab.engine != "xdp" or queues == 1:
        return
    assert len(dns_query(lab.client, VIP_V4, 100)) == 100
    said = node.namespace.run(["ethtool", "--statistics", "nic0"]).stdout
    found = [int(count) for count in re.findall(r"rx_queue_\d+_xdp_packets: (\d+)", said)]
    assert len(found) == queues and min(found) > 0, found


@VIPS
def test_second_mac_address_answers_and_routes(lab: Lab, node: Node, vip: str) -> None:
    second = SECOND_MAC_V6 if ":" in vip else SECOND_MAC_V4
    assert ping(lab.target("t1").namespace, second, 3) == 3
    shown = json.loads(lab.target("t1").namespace.ip("-json", "neighbour", "show", second))
    nic = json.loads(node.namespace.ip("-json", "link", "show", "nic0"))[0]["address"]
    assert shown[0]["lladdr"] != nic
    assert ping(lab.target("t1").namespace, own_address(vip), 3) == 3


def test_bystander_and_asking_targets_are_served(lab: Lab, node: Node) -> None:
    """Every test with `node` fails when one of them is not; here they are known to have asked."""
    time.sleep(2)
    asked = lab.surroundings.questions()
    wait_until(
        lambda: all(count > 3 for count in (lab.surroundings.questions() - asked).values()),
        "each of them asks",
        timeout_s=20,
    )
    assert len(asked) == 1 + len(lab.targets)


@pytest.fixture(scope="module")
def without_default_route(engine: str) -> Iterator[Lab]:
    with Lab(Layout(default_route=False), engine=engine) as lab:
        lab.node.start(standard())
        lab.node.wait_states("healthy")
        yield lab


@VIPS
def test_without_a_default_route_clients_are_answered_where_they_came_from(
    without_default_route: Lab, vip: str
) -> None:
    lab = without_default_route
    node = lab.node.namespace
    assert node.ip("-6" if ":" in vip else "-4", "route", "show", "default") == ""
    for client in (lab.client, lab.remote):
        assert len(connect_many(client, vip, 60)) == 60
        assert len(dns_query(client, vip, 60)) == 60
    assert lab.surroundings.complaints() == []
