# SPDX-License-Identifier: Apache-2.0
"""traceroute through the node: where it translates, it is a hop like any router."""

from __future__ import annotations

import re
import socket
import struct

import pytest
from lab import Lab, Layout, Node
from lab.addresses import (
    NODE_CLIENT_V4,
    NODE_CLIENT_V6,
    NODE_TARGET_V4,
    NODE_TARGET_V6,
    ROUTER_V4,
    ROUTER_V6,
    VIP_V4,
    VIP_V6,
    client_v4,
    client_v6,
)
from lab.configs import config, direct, listener, pair, standard
from lab.namespace import Namespace
from lab.process import wait_until
from lab.target import DNS_PORT

CONFIG = standard()
WORKERS = 2
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
OWN = {NODE_CLIENT_V4, NODE_CLIENT_V6, NODE_TARGET_V4, NODE_TARGET_V6}
TCP = ("-T", "-p", "80")
UDP = ("-U", "-p", "53")


def hops(client: Namespace, address: str, *how: str) -> list[str]:
    """Who answers, by distance; "*" for nobody."""
    words = ["traceroute", "-6" if ":" in address else "-4", "-n", "-q", "1", "-w", "2", "-m", "4"]
    said = client.run([*words, *how, address], timeout_s=40).stdout
    return re.findall(r"^ *\d+ +(\S+)", said, flags=re.MULTILINE)


@VIPS
@pytest.mark.parametrize("how", [TCP, UDP], ids=["tcp", "udp"])
def test_fault_07_node_is_the_hop_before_the_vip(
    lab: Lab, node: Node, vip: str, how: tuple[str, ...]
) -> None:
    before = node.totals()["time_exceeded_sent"]
    seen = hops(lab.client, vip, *how)
    assert seen[0] in (NODE_CLIENT_V4, NODE_CLIENT_V6), seen
    if how is TCP:  # a DNS server answers no nonsense
        assert seen[1:] == [vip]
    wait_until(lambda: node.totals()["time_exceeded_sent"] > before, "it is counted", timeout_s=5)


@VIPS
def test_node_is_a_hop_behind_the_clients_router(lab: Lab, node: Node, vip: str) -> None:
    seen = hops(lab.remote, vip, *TCP)
    assert seen[0] in (ROUTER_V4, ROUTER_V6) or seen[0] not in OWN
    assert seen[1] in (NODE_CLIENT_V4, NODE_CLIENT_V6), seen
    assert seen[2] == vip, seen


@VIPS
def test_echo_shows_the_vip_where_it_is_answered(lab: Lab, node: Node, vip: str) -> None:
    assert hops(lab.client, vip, "-I") == [vip]


def hop_of_a_reply(target: Namespace, client: str, port: int) -> str:
    """Who says that a datagram from the target's service port ended its hops; past its socket."""
    is_v4 = ":" not in client
    family = socket.AF_INET if is_v4 else socket.AF_INET6
    errors = socket.IPPROTO_ICMP if is_v4 else socket.IPPROTO_ICMPV6
    with target.entered():
        heard = socket.socket(family, socket.SOCK_RAW, errors)
        sent = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP)
    with heard, sent:
        heard.settimeout(5)
        if is_v4:
            sent.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        else:
            sent.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
            sent.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, 6)
        sent.sendto(struct.pack("!HHHH", DNS_PORT, port, 8, 0), (client, 0))
        while True:
            message, (source, *_) = heard.recvfrom(2048)
            if message[20 if is_v4 else 0] == (11 if is_v4 else 3):
                return str(source)


@VIPS
def test_replies_of_a_target_have_the_node_as_a_hop(lab: Lab, node: Node, vip: str) -> None:
    groups = pair("dns", "UDP", DNS_PORT, members=[1])
    node.apply(config([listener("UDP", 53, "dns")], groups))
    node.wait_adopted()
    node.wait_states("healthy")
    client, port = client_v6(0) if ":" in vip else client_v4(0), 40007
    ask = ["dig", "+time=2", "+tries=1", "-b", f"{client}#{port}", f"@{vip}", "target"]
    assert lab.client.run(ask, check=False).returncode == 0
    assert hop_of_a_reply(lab.target("t1").namespace, client, port) in OWN


@VIPS
def test_targets_that_answer_directly_have_no_node_before_them(engine: str, vip: str) -> None:
    with Lab(Layout(dsr=True), engine=engine) as lab:
        lab.node.start(direct())
        lab.node.wait_states("healthy")
        assert hops(lab.client, vip, *TCP) == [vip]
