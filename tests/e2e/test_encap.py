# SPDX-License-Identifier: Apache-2.0
"""ipip and gue: packets travel to targets inside packets of either family, replies go past the
node, and packets that are too large for that are answered with the size that fits."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import pytest
from lab import Lab, Layout, Node
from lab.addresses import (
    NODE_TARGET_V4,
    TARGET_NET_V4,
    TARGET_NET_V6,
    VIP_V4,
    VIP_V6,
    client_v4,
    client_v6,
)
from lab.checks import assert_dns_is_shared, assert_http_is_shared
from lab.configs import direct
from lab.outer_way import OUTER_WAYS, OuterWay
from lab.process import wait_until
from lab.target import DECAPSULATING_MODULES
from lab.traffic import LargeQuery, http_get, mtu_towards, upload

LAYOUT = Layout(dsr=True, encapsulated=True)
CONFIG = direct("ipip")
LINK_MTU = 1500
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])


@pytest.fixture(scope="module", params=OUTER_WAYS, ids=str, autouse=True)
def way(request: pytest.FixtureRequest, started: Node) -> OuterWay:
    asked: OuterWay = request.param
    started.apply(direct(asked.forwarding, crosses=asked.crosses))
    started.wait_adopted()
    started.wait_states("healthy")
    return asked


@pytest.fixture(autouse=True)
def forgetful(lab: Lab) -> Iterator[None]:
    """No test profits from what the client's kernel has learned of the path in another."""
    for family in ("-4", "-6"):
        lab.client.ip(family, "route", "flush", "cache")
    yield


@VIPS
def test_http_is_shared_and_shows_the_clients_address(lab: Lab, node: Node, vip: str) -> None:
    assert_http_is_shared(lab.client, vip)


@VIPS
def test_curl_gets_its_answers(lab: Lab, node: Node, vip: str) -> None:
    assert len(http_get(lab.client, vip, 20)) == 20


@VIPS
def test_dns_is_shared(lab: Lab, node: Node, vip: str) -> None:
    assert_dns_is_shared(lab.client, vip)


@VIPS
def test_kernel_of_the_targets_takes_packets_out(
    lab: Lab, node: Node, way: OuterWay, vip: str
) -> None:
    """As the example says. `tests/run vm` has a kernel that can, and sees that this is not
    skipped."""
    if any(target.decapsulator for target in lab.targets):
        pytest.skip(f"this kernel lacks one of {', '.join(DECAPSULATING_MODULES)}")
    device = way.device(vip)
    before = sum(target.packets_by(device) for target in lab.targets)
    assert len(http_get(lab.client, vip, 4)) == 4
    # Each with a SYN, an ACK, a request and a FIN at least.
    assert sum(target.packets_by(device) for target in lab.targets) >= before + 4 * 4


@VIPS
def test_fault_54_large_upload_arrives_once_the_client_knows_the_mtu(
    lab: Lab, node: Node, way: OuterWay, vip: str
) -> None:
    before = node.totals()["too_big_sent"]
    assert upload(lab.client, vip, 600_000).target in ("t1", "t2", "t3")
    wait_until(
        lambda: node.totals()["too_big_sent"] > before, "the answers are counted", timeout_s=3
    )
    assert mtu_towards(lab.client, vip) == LINK_MTU - way.overhead(vip)


@VIPS
def test_fault_54_datagram_of_the_largest_size_arrives_and_a_larger_one_is_refused(
    lab: Lab, node: Node, way: OuterWay, vip: str
) -> None:
    fits = LINK_MTU - way.overhead(vip)
    query = LargeQuery(lab.client, vip)
    assert query.ask(fits) in ("t1", "t2", "t3")
    assert mtu_towards(lab.client, vip) is None
    # It is answered with the MTU, which the kernel then holds the socket to. A datagram or its
    # answer may get lost.
    before = node.totals()["too_big_sent"]
    for _ in range(2):
        with contextlib.suppress(OSError):
            query.ask(LINK_MTU)
    answered = node.totals()["too_big_sent"] - before
    assert mtu_towards(lab.client, vip) == fits, f"the node counts {answered} answers"
    with pytest.raises(OSError) as refused:
        query.ask(fits + 1)
    assert refused.value.errno == errno.EMSGSIZE
    assert query.ask(fits) in ("t1", "t2", "t3")
    query.close()


def set_mtu(node: Node, mtu: int) -> None:
    """Of the routes towards the targets, until the engine knows it."""

    def is_seen() -> bool:
        groups = node.json("targets")["target_groups"]
        return {target["mtu"] for group in groups for target in group["targets"]} == {mtu}

    interface = node.interface(len(node.nics) - 1)
    limit = ["mtu", str(mtu)] if mtu != LINK_MTU else []
    way = ["dev", interface, "proto", "kernel"]
    node.namespace.add_route(TARGET_NET_V4, *way, "scope", "link", "src", NODE_TARGET_V4, *limit)
    node.namespace.add_route(TARGET_NET_V6, *way, "metric", "256", *limit)
    wait_until(is_seen, f"the control plane sees the MTU {mtu}", timeout_s=5)
    node.wait_adopted()


@VIPS
def test_mtu_of_the_route_is_followed(lab: Lab, node: Node, way: OuterWay, vip: str) -> None:
    try:
        set_mtu(node, 1400)
        assert upload(lab.client, vip, 100_000).target in ("t1", "t2", "t3")
        assert mtu_towards(lab.client, vip) == 1400 - way.overhead(vip)
    finally:
        set_mtu(node, LINK_MTU)


def test_way_that_carries_no_packet_of_a_usual_size_is_an_alarm(
    lab: Lab, node: Node, way: OuterWay
) -> None:
    overhead = way.overhead(VIP_V6)
    try:
        set_mtu(node, 1279 + overhead)
        said = "IPv6 packets of 1280 bytes do not fit the MTU of "
        wait_until(
            lambda: any(said in alarm for alarm in node.status()["alarms"]),
            "an alarm names the MTU",
            timeout_s=5,
        )
        set_mtu(node, 1280 + overhead)
        node.wait_no_alarms()
    finally:
        set_mtu(node, LINK_MTU)


@VIPS
def test_explain_tells_how_a_flow_travels(lab: Lab, node: Node, way: OuterWay, vip: str) -> None:
    client = f"[{client_v6(0)}]:40000" if ":" in vip else f"{client_v4(0)}:40000"
    endpoint = f"[{vip}]:80" if ":" in vip else f"{vip}:80"
    said = node.cli("explain", client, endpoint, "tcp").stdout
    assert f"it travels by {way.forwarding} from " in said
    listeners = node.json("listeners")["listeners"]
    assert {entry["forwarding"] for entry in listeners} == {way.forwarding}
    node.wait_no_alarms()
