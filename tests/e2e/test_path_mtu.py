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
    REMOTE_CLIENT_V4,
    REMOTE_CLIENT_V6,
    VIP_V4,
    VIP_V6,
)
from lab.configs import config, direct, group, listener, standard
from lab.namespace import Namespace
from lab.process import wait_until
from lab.target import BLOB_BYTES, HTTP_PORT
from lab.traffic import bracketed, family_of, mtu_towards, upload

LAYOUT = Layout(gateway=True)
CONFIG = standard()
WORKERS = 2  # most errors come to the worker that has not the flow
NARROW = 1300
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
DOWNLOADS = 3


def narrow(router: Namespace, net: str, device: str) -> None:
    """The router sends nothing larger that way, and says so."""
    router.ip("route", "change", net, "dev", device, "mtu", "lock", str(NARROW))


def narrow_towards_remote(lab: Lab) -> None:
    for net in ("198.51.100.0/24", "2001:db8:51::/64"):
        narrow(lab.namespaces["router"], net, "eth1")


def download(client: Namespace, vip: str) -> int:
    """Bytes of a target's file that arrived."""
    words = ["curl", "--silent", "--globoff", "--max-time", "30", "--output", "/dev/null"]
    words += ["--write-out", "%{size_download}", f"http://{bracketed(vip)}/blob"]
    return int(client.run(words, check=False, timeout_s=60).stdout)


def passed_errors(node: Node) -> int:
    return node.totals()["icmp_errors_passed"]


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
    narrow_towards_remote(lab)
    assert_downloads_are_whole(lab, node, vip)


@VIPS
def test_fault_73_upload_over_a_smaller_link_of_the_target(lab: Lab, node: Node, vip: str) -> None:
    for net in ("10.0.2.0/24", "fd00:10:2::/64"):
        narrow(lab.namespaces["gateway"], net, "eth1")
    far = {"far-4": FAR_TARGET_V4, "far-6": FAR_TARGET_V6}
    groups = [group(name, "TCP", HTTP_PORT, [{"id": target}]) for name, target in far.items()]
    node.apply(config([listener("TCP", 80, "far")], groups))
    node.wait_adopted()
    node.wait_states("healthy")
    before = passed_errors(node)
    lab.client.ip("route", "flush", "cache")
    lab.client.ip("-6", "route", "flush", "cache")
    assert upload(lab.client, vip, 800_000).target == "t4"
    assert mtu_towards(lab.client, vip) == NARROW
    wait_until(lambda: passed_errors(node) > before, "errors are counted", timeout_s=5)


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
            target.start()


@pytest.fixture(scope="module", params=["dsr", "ipip", "gue"])
def direct_answers(request: pytest.FixtureRequest, engine: str) -> Iterator[Lab]:
    """Targets that answer past the node."""
    layout = Layout(dsr=True, encapsulated=request.param != "dsr")
    with Lab(layout, engine=engine) as lab:
        lab.node.start(direct(request.param), workers=WORKERS)
        lab.node.wait_states("healthy")
        narrow_towards_remote(lab)
        yield lab


@VIPS
def test_fault_16_download_from_targets_that_answer_directly(direct_answers: Lab, vip: str) -> None:
    assert_downloads_are_whole(direct_answers, direct_answers.node, vip)
