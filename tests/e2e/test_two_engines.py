# SPDX-License-Identifier: Apache-2.0
"""Two nodes behind equal-cost routes, one with each engine: either carries on the other's flows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from lab import Lab, Layout, Node
from lab.addresses import (
    NODE_CLIENT_V4,
    NODE_CLIENT_V6,
    SECOND_CLIENT_V4,
    SECOND_CLIENT_V6,
    VIP_NET_V4,
    VIP_NET_V6,
    VIP_V4,
    VIP_V6,
)
from lab.configs import config, listener, pair
from lab.node import ENGINES, program_path
from lab.traffic import TcpStreams, connect_many

LAYOUT = Layout(dsr=True, hugepages=320)
# Targets have just become healthy when these tests begin, so that slots have changed. A connection
# opened since, in the middle of which the other node takes over, is not to be tried on the target
# of before: with direct server return the RST from there passes the node.
AT_ONCE = {"millrace.previous_target.timeout_seconds": 0}
CONFIG = config(
    [listener("TCP", 80, "http")],
    pair("http", "TCP", 80, forwarding="dsr", attributes=AT_ONCE),
)
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])


@pytest.fixture(scope="module")
def second(lab: Lab, started: Node) -> Iterator[Node]:
    other = next(engine for engine in ENGINES if engine != lab.engine)
    if not program_path(ENGINES[other]).exists():
        pytest.skip(f"{ENGINES[other]} is no part of this build")
    node = lab.add_second_node(other)
    node.start(CONFIG)
    node.wait_states("healthy")
    for family in ("ipv4", "ipv6"):
        lab.client.sysctl(f"net.{family}.fib_multipath_hash_policy", "1")
    yield node


def route_to(lab: Lab, *, first: bool, second: bool) -> None:
    """Which nodes the client's router sends to."""
    for net, gateways in (
        (VIP_NET_V4, (NODE_CLIENT_V4, SECOND_CLIENT_V4)),
        (VIP_NET_V6, (NODE_CLIENT_V6, SECOND_CLIENT_V6)),
    ):
        used = [gateway for gateway, wanted in zip(gateways, (first, second)) if wanted]
        hops = [word for gateway in used for word in ("nexthop", "via", gateway)]
        lab.client.add_route(net, *hops)


def forwarded(node: Node) -> int:
    return node.totals()["forwarded_packets"]


@VIPS
def test_fault_51_either_engine_carries_on_what_the_other_began(
    lab: Lab, node: Node, second: Node, vip: str
) -> None:
    route_to(lab, first=True, second=True)
    before = forwarded(node), forwarded(second)
    with TcpStreams(lab.client, vip, connections=40) as streams:
        time.sleep(1)
        assert forwarded(node) > before[0] + 20 and forwarded(second) > before[1] + 20
        for alive in ({"first": False, "second": True}, {"first": True, "second": False}):
            route_to(lab, **alive)
            time.sleep(1)
        report = streams.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report


def test_fault_50_both_engines_have_the_same_lookup_tables(node: Node, second: Node) -> None:
    def digests(of: Node) -> dict[str, str]:
        groups = of.json("targets")["target_groups"]
        return {group["name"]: group["table_digest"] for group in groups}

    assert digests(node) == digests(second) and len(digests(node)) == 2


@VIPS
def test_new_flows_reach_the_same_target_through_either(
    lab: Lab, node: Node, second: Node, vip: str
) -> None:
    route_to(lab, first=True, second=True)
    for answer in connect_many(lab.client, vip, 50):
        client = f"[{answer.client}]" if ":" in answer.client else answer.client
        asked = f"[{answer.vip}]" if ":" in vip else answer.vip
        words = [f"{client}:{answer.port}", f"{asked}:{answer.vip_port}", "TCP"]
        told = [of.json("explain", *words)["target"] for of in (node, second)]
        assert told[0] == told[1]
