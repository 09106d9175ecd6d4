# SPDX-License-Identifier: Apache-2.0
"""encap_source as a network, to a target behind a router: each flow has a source of its own, and
the node hears of the router's smaller link because it is that network's host."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from lab import Lab, Layout, Node
from lab.addresses import (
    FAR_TARGET_V4,
    FAR_TARGET_V6,
    NODE_TARGET_V4,
    NODE_TARGET_V6,
    VIP_V4,
    VIP_V6,
)
from lab.configs import Config
from lab.decapsulator import GUE_PORT
from lab.outer_way import OUTER_WAYS, OuterWay, to_far_target
from lab.process import wait_until
from lab.traffic import http_get, mtu_towards, upload

LAYOUT = Layout(dsr=True, encapsulated=True, gateway=True)
NETWORKS = {"-4": "172.16.0.0/16", "-6": "100::/64"}
NARROW = 1400
FLOWS = 8
IN_IP = (4, 41)  # protocols of what is in another packet
GUE = GUE_PORT.to_bytes(2, "big")
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])


def asked_for(way: OuterWay, networks: bool) -> Config:
    asked = to_far_target(way)
    if networks:
        asked["node"]["encap_source"] = list(NETWORKS.values())
    return asked


CONFIG = asked_for(OUTER_WAYS[0], networks=False)


def outer_source(frame: bytes) -> str:
    """Of a packet in another one; nothing for all others."""
    kind, ip = frame[12:14], frame[14:]
    if kind == b"\x08\x00" and (ip[9] in IN_IP or ip[22:24] == GUE):
        return str(ipaddress.ip_address(ip[12:16]))
    if kind == b"\x86\xdd" and (ip[6] in IN_IP or ip[42:44] == GUE):
        return str(ipaddress.ip_address(ip[8:24]))
    return ""


def outer_sources(lab: Lab, way: OuterWay, vip: str) -> set[str]:
    """What packets of some flows come from, as the target's link has them."""
    with lab.targets[3].namespace.entered():
        seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with seen:
        seen.setblocking(False)
        for _ in range(FLOWS):
            assert len(http_get(lab.client, vip, 1)) == 1
        sources = set()
        while True:
            try:
                sources.add(outer_source(seen.recv(2048)))
            except BlockingIOError:
                return {one for one in sources if one and (":" in one) == way.goes_by_v6(vip)}


def mtu_of(node: Node, address: str) -> int:
    shown = [one for each in node.json("targets")["target_groups"] for one in each["targets"]]
    return int(next(one["mtu"] for one in shown if one["address"] == address))


@pytest.fixture(scope="module", autouse=True)
def routes(lab: Lab, started: Node) -> None:
    """As the runbook says."""
    for family, network in NETWORKS.items():
        started.namespace.ip(family, "route", "add", "local", network, "dev", "lo")
        own = NODE_TARGET_V4 if family == "-4" else NODE_TARGET_V6
        lab.namespaces["gateway"].ip(family, "route", "add", network, "via", own)


@VIPS
@pytest.mark.parametrize("way", OUTER_WAYS, ids=str)
def test_flows_come_from_addresses_of_the_network_and_errors_come_back(
    lab: Lab, node: Node, way: OuterWay, vip: str
) -> None:
    outer = FAR_TARGET_V6 if way.goes_by_v6(vip) else FAR_TARGET_V4
    network = ipaddress.ip_network(NETWORKS["-6" if way.goes_by_v6(vip) else "-4"])
    node.apply(asked_for(way, networks=False))
    node.wait_adopted()
    node.wait_states("healthy")
    sources = outer_sources(lab, way, vip)
    assert len(sources) == 1
    assert ipaddress.ip_address(sources.pop()) not in network
    node.apply(asked_for(way, networks=True))
    node.wait_adopted()
    sources = outer_sources(lab, way, vip)
    assert len(sources) > FLOWS / 2
    assert all(ipaddress.ip_address(source) in network for source in sources)
    lab.namespaces["gateway"].add_route(outer, "dev", "eth1", "mtu", "lock", str(NARROW))
    try:
        assert upload(lab.client, vip, 400_000).target == "t4"
        assert mtu_towards(lab.client, vip) == NARROW - way.overhead(vip)
        wait_until(lambda: mtu_of(node, outer) == NARROW, "it is shown", timeout_s=5)
    finally:
        lab.namespaces["gateway"].add_route(outer, "dev", "eth1")
        node.controlplane.stop()  # one that starts knows of no router
        node.start_controlplane()
        wait_until(lambda: mtu_of(node, outer) == 1500, "it has forgotten", timeout_s=10)
        for family in NETWORKS:
            lab.client.ip(family, "route", "flush", "cache")
    node.wait_adopted()
    node.wait_states("healthy")
    sources = outer_sources(lab, way, vip)
    assert all(ipaddress.ip_address(source) in network for source in sources)
    node.wait_no_alarms()
