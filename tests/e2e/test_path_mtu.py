# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about packets of flows find their way: beyond the node a link takes smaller packets
than those on either side of it, and ports are closed."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from lab import Lab, Layout, Node
from lab.addresses import (
    FAR_TARGET_V4,
    FAR_TARGET_V6,
    NODE_CLIENT_V4,
    NODE_TARGET_V4,
    REMOTE_CLIENT_V4,
    REMOTE_CLIENT_V6,
    VIP_V4,
    VIP_V6,
)
from lab.configs import Config, config, direct, group, listener, standard
from lab.namespace import Namespace
from lab.outer_way import OUTER_WAYS, OuterWay, to_far_target
from lab.process import LabError, wait_until
from lab.target import BLOB_BYTES, HTTP_PORT
from lab.traffic import dns_query, download, family_of, mtu_towards, upload
from scapy.layers.inet import ICMP, IP, TCP

LAYOUT = Layout(gateway=True)
CONFIG = standard()
WORKERS = 2  # most errors come to the worker that has not the flow
NARROW = 1300
OUTER_NARROW = 1400  # there is room for IPv6's smallest packet in each kind of outer packet
REMOTE = (REMOTE_CLIENT_V4, REMOTE_CLIENT_V6)
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
DOWNLOADS = 3


@pytest.fixture(autouse=True)
def forgetful(lab: Lab) -> None:
    """No test profits from what a kernel has learned of the path in another."""
    for host in (lab.client, lab.remote, *(one.namespace for one in lab.targets)):
        for family in ("-4", "-6"):
            host.ip(family, "route", "flush", "cache")


def narrow(router: Namespace, *hosts: str, mtu: int = NARROW) -> None:
    """The router sends them nothing larger, and says so."""
    for host in hosts:
        router.add_route(host, "dev", "eth1", "mtu", "lock", str(mtu))


def passed_errors(node: Node) -> int:
    return node.totals()["icmp_errors_passed"]


def mtus_of(node: Node, addresses: list[str]) -> set[int]:
    """As `millrace targets` has them."""
    groups = node.json("targets")["target_groups"]
    shown = [target for group in groups for target in group["targets"]]
    return {target["mtu"] for target in shown if target["address"] in addresses}


def remote_address(vip: str) -> str:
    return REMOTE_CLIENT_V6 if ":" in vip else REMOTE_CLIENT_V4


def assert_downloads_are_whole(lab: Lab, node: Node, vip: str) -> None:
    """Targets send packets that fit their own links, and hear what the client's takes."""
    before = passed_errors(node)
    for _ in range(DOWNLOADS):
        assert download(lab.remote, vip) == BLOB_BYTES
    known = {mtu_towards(one.namespace, remote_address(vip)) for one in lab.targets}
    assert NARROW in known
    wait_until(lambda: passed_errors(node) > before, "errors are counted", timeout_s=5)


@VIPS
def test_fault_16_download_over_a_smaller_link_of_the_client(
    lab: Lab, node: Node, vip: str
) -> None:
    narrow(lab.namespaces["router"], *REMOTE)
    assert_downloads_are_whole(lab, node, vip)


@VIPS
def test_fault_73_upload_over_a_smaller_link_of_the_target(lab: Lab, node: Node, vip: str) -> None:
    narrow(lab.namespaces["gateway"], FAR_TARGET_V4, FAR_TARGET_V6)
    far = {"far-4": FAR_TARGET_V4, "far-6": FAR_TARGET_V6}
    groups = [group(name, "TCP", HTTP_PORT, [{"id": target}]) for name, target in far.items()]
    node.apply(config([listener("TCP", 80, "far")], groups))
    node.wait_adopted()
    node.wait_states("healthy")
    before = passed_errors(node)
    assert upload(lab.client, vip, 800_000).target == "t4"
    assert mtu_towards(lab.client, vip) == NARROW
    wait_until(lambda: passed_errors(node) > before, "errors are counted", timeout_s=5)


@VIPS
def test_upload_to_targets_whose_route_takes_less(lab: Lab, node: Node, vip: str) -> None:
    """The node itself tells the client, before anybody behind it could."""
    node.apply(standard())
    addresses = [one.v6 if ":" in vip else one.v4 for one in lab.targets[:3]]
    for address in addresses:
        node.namespace.add_route(address, "dev", node.interface(0), "mtu", str(NARROW))
    try:
        wait_until(lambda: mtus_of(node, addresses) == {NARROW}, "the MTU is known", timeout_s=10)
        node.wait_adopted()
        before = node.totals()["too_big_sent"]
        assert upload(lab.client, vip, 800_000).target in ("t1", "t2", "t3")
        assert mtu_towards(lab.client, vip) == NARROW
        wait_until(
            lambda: node.totals()["too_big_sent"] > before, "answers are counted", timeout_s=5
        )
    finally:
        for address in addresses:
            node.namespace.ip("route", "del", address, "dev", node.interface(0))


def test_fault_16_forged_error_to_the_node_changes_no_clients_mtu(lab: Lab, node: Node) -> None:
    """The node's kernel believes one about an echo reply, which it can't check."""
    node.apply(standard())
    addresses = [one.v4 for one in lab.targets[:3]]
    with lab.client.entered():
        forger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with forger:
        for address in addresses:
            quoted = IP(src=NODE_TARGET_V4, dst=address, flags="DF", len=1500) / ICMP(type=0)
            error = ICMP(type=3, code=4, nexthopmtu=600) / quoted
            forger.sendto(bytes(error), (NODE_CLIENT_V4, 0))
    known = [mtu_towards(node.namespace, address) for address in addresses]
    assert known == [600, 600, 600], "the kernel has learned it"
    node.namespace.add_route("203.0.113.200/32", "dev", "lo")  # all are asked for anew
    try:
        with pytest.raises(LabError):
            wait_until(lambda: mtus_of(node, addresses) != {1500}, "it is believed", timeout_s=3)
    finally:
        node.namespace.ip("route", "del", "203.0.113.200/32", "dev", "lo")
        node.namespace.ip("route", "flush", "cache")


@VIPS
def test_fault_73_closed_port_of_a_target_is_heard_of(lab: Lab, node: Node, vip: str) -> None:
    """As if the VIP had said it: the client's kernel knows nobody else."""
    node.apply(standard())
    node.wait_adopted()
    node.wait_states("healthy")
    for target in lab.targets:
        target.dns.stop()
    try:
        with lab.client.socket(family_of(vip), socket.SOCK_DGRAM) as asking:
            asking.settimeout(5)
            asking.connect((vip, 53))
            asking.send(b"anybody there?")
            with pytest.raises(ConnectionRefusedError):
                asking.recv(100)
    finally:
        for target in lab.targets:
            target.dns.start()
        wait_until(
            lambda: len(dns_query(lab.client, vip, 4)) == 4, "DNS answers again", timeout_s=10
        )


@pytest.fixture(scope="module", params=["dsr", "ipip", "gue"])
def direct_answers(request: pytest.FixtureRequest, engine: str) -> Iterator[Lab]:
    """Targets that answer past the node."""
    layout = Layout(dsr=True, encapsulated=request.param != "dsr")
    with Lab(layout, engine=engine) as lab:
        lab.node.start(direct(request.param), workers=WORKERS)
        lab.node.wait_states("healthy")
        narrow(lab.namespaces["router"], *REMOTE)
        yield lab


@VIPS
def test_fault_16_download_from_targets_that_answer_directly(direct_answers: Lab, vip: str) -> None:
    assert_downloads_are_whole(direct_answers, direct_answers.node, vip)


@pytest.fixture(scope="module")
def far(engine: str) -> Iterator[Lab]:
    """The target is behind a router whose other link takes less than the node's route says."""
    with Lab(Layout(dsr=True, encapsulated=True, gateway=True), engine=engine) as lab:
        lab.node.start(direct("ipip"), workers=WORKERS)
        narrow(lab.namespaces["gateway"], FAR_TARGET_V4, FAR_TARGET_V6, mtu=OUTER_NARROW)
        yield lab


def restart_controlplane(node: Node, asked: Config) -> None:
    """One that starts knows of no router."""
    node.controlplane.stop()
    node.start_controlplane(asked)


@VIPS
@pytest.mark.parametrize("way", OUTER_WAYS, ids=str)
def test_fault_16_router_that_takes_less_than_the_outer_packet_is_heard(
    far: Lab, way: OuterWay, vip: str
) -> None:
    """It tells the node, which is the outer packet's source; the node then tells the client."""
    node, client = far.node, far.client
    restart_controlplane(node, to_far_target(way))
    node.wait_adopted()
    node.wait_states("healthy")
    for family in ("-4", "-6"):
        client.ip(family, "route", "flush", "cache")
    outer = FAR_TARGET_V6 if way.goes_by_v6(vip) else FAR_TARGET_V4
    wait_until(lambda: mtus_of(node, [outer]) == {1500}, "the route's MTU counts", timeout_s=5)
    assert upload(client, vip, 800_000).target == "t4"
    assert mtu_towards(client, vip) == OUTER_NARROW - way.overhead(vip)
    assert mtus_of(node, [outer]) == {OUTER_NARROW}
    node.wait_no_alarms()


def test_fault_16_forged_error_about_an_outer_packet_ends_no_connection(far: Lab) -> None:
    """An error that quotes no packet of the node's is not believed; one that could be true lowers
    the MTU, but not below what every client may send."""
    node = far.node
    restart_controlplane(node, direct("ipip"))
    node.wait_adopted()
    node.wait_states("healthy")
    address = far.targets[0].v4
    with far.client.entered():
        forger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with forger:

        def forge(source: str, vip: str) -> None:
            inner = IP(src=REMOTE_CLIENT_V4, dst=vip) / TCP(sport=1024, dport=80)
            quoted = IP(src=source, dst=address, flags="DF", id=0) / inner
            error = ICMP(type=3, code=4, nexthopmtu=100) / quoted
            forger.sendto(bytes(error), (NODE_CLIENT_V4, 0))

        forge(REMOTE_CLIENT_V4, VIP_V4)
        forge(NODE_TARGET_V4, "203.0.113.250")
        forge(NODE_TARGET_V4, VIP_V4)
    wait_until(lambda: mtus_of(node, [address]) == {596}, "the last one counts", timeout_s=5)
    said = "IPv4 packets of 576 bytes do not fit the MTU of 100 towards target "
    wait_until(
        lambda: any(said in alarm for alarm in node.status()["alarms"]), "an alarm", timeout_s=5
    )
    assert upload(far.client, VIP_V4, 100_000).target in ("t1", "t2", "t3")
