# SPDX-License-Identifier: Apache-2.0
"""Client and target agree on segments that fit, where nobody tells them of a narrow link."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from lab import Lab, Layout, Node
from lab.addresses import REMOTE_CLIENT_V4, REMOTE_CLIENT_V6, VIP_V4, VIP_V6
from lab.configs import Config, standard
from lab.namespace import Namespace
from lab.process import wait_until
from lab.target import BLOB_BYTES
from lab.traffic import download, family_of, upload

LAYOUT = Layout(gateway=True)
CONFIG = standard()
NARROW = 1300
CLAMP = "millrace.tcp.mss_clamp"
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
TCP_MAXSEG = 2


def headers_of(vip: str) -> int:
    return 60 if ":" in vip else 40


def announced(client: Namespace, vip: str) -> int:
    """Bytes of data in the largest segment that a new connection may send."""
    with client.socket(family_of(vip), socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect((vip, 80))
        # The kernel takes the room for its timestamps (12 bytes) off what the target announced.
        return connection.getsockopt(socket.IPPROTO_TCP, TCP_MAXSEG) + 12


def clamped(value: object, protocol: str) -> Config:
    found = standard()
    for group in found["target_groups"]:
        if group["protocol"] == protocol and value is not None:
            group["attributes"] = {**group.get("attributes", {}), CLAMP: value}
    return found


def clamp(node: Node, value: object) -> None:
    node.apply(clamped(value, "TCP"))
    node.wait_adopted()
    node.wait_states("healthy", count=12)


@pytest.fixture
def narrow_link(lab: Lab) -> Iterator[None]:
    """A link between router and remote client that takes less, and a router that tells nobody."""
    router = lab.namespaces["router"]
    rules = [
        f"add rule {table} quiet output {protocol} type {kind} drop"
        for table, protocol, kind in (
            ("ip", "icmp", "destination-unreachable"),
            ("ip6", "icmpv6", "packet-too-big"),
        )
    ]
    chains = [
        f"add table {table} quiet\n"
        f"add chain {table} quiet output {{ type filter hook output priority 0; }}"
        for table in ("ip", "ip6")
    ]
    router.run(["nft", "--file", "-"], stdin="\n".join([*chains, *rules]))
    for host in (REMOTE_CLIENT_V4, REMOTE_CLIENT_V6):
        router.add_route(host, "dev", "eth1", "mtu", "lock", str(NARROW))
    yield
    router.run(["nft", "--file", "-"], stdin="delete table ip quiet\ndelete table ip6 quiet")


@VIPS
def test_sizes_that_are_announced(lab: Lab, node: Node, vip: str) -> None:
    """By the number, by the MTU of the route to the target, and not at all."""
    clamp(node, None)
    assert announced(lab.client, vip) == 1500 - headers_of(vip)
    clamp(node, 1000)
    assert announced(lab.client, vip) == 1000
    clamp(node, "auto")
    assert announced(lab.client, vip) == 1500 - headers_of(vip)
    addresses = [one.v6 if ":" in vip else one.v4 for one in lab.targets[:3]]
    for address in addresses:
        node.namespace.add_route(address, "dev", node.interface(0), "mtu", str(NARROW))
    try:
        wait_until(
            lambda: announced(lab.client, vip) == NARROW - headers_of(vip),
            "the route's MTU counts",
            timeout_s=10,
        )
    finally:
        for address in addresses:
            node.namespace.ip("route", "del", address, "dev", node.interface(0))
    clamp(node, "off")
    assert announced(lab.client, vip) == 1500 - headers_of(vip)


@VIPS
@pytest.mark.usefixtures("narrow_link")
def test_fault_54_download_over_a_narrow_link_that_nobody_tells_of(
    lab: Lab, node: Node, vip: str
) -> None:
    clamp(node, None)
    assert (
        download(lab.remote, vip, timeout_s=4) < BLOB_BYTES
    ), "the link loses nothing: it shows nothing"
    clamp(node, NARROW - headers_of(vip))
    assert download(lab.remote, vip) == BLOB_BYTES


@VIPS
def test_connection_that_was_there_before_goes_on(lab: Lab, node: Node, vip: str) -> None:
    clamp(node, None)
    address = (vip, 80)
    with lab.client.socket(family_of(vip), socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect(address)
        clamp(node, 600)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert upload(lab.client, vip, 100_000).target in ("t1", "t2", "t3")


def test_groups_that_cannot_have_it(node: Node) -> None:
    """UDP has no connections, and elsewhere than in nat a client never hears of it."""
    node.write_config(clamped("auto", "UDP"))
    refused = node.cli("validate", str(node.config_file), check=False)
    assert refused.returncode != 0
    assert f"{CLAMP}: is for protocol: TCP and TCP_UDP; this group's is UDP" in refused.stderr
