# SPDX-License-Identifier: Apache-2.0
"""UDP in fragments to targets that answer past the node: in frames (dsr) and inside other packets
(ipip, gue), where they must be smaller than the client thought at first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import direct
from lab.traffic import LargeExchange

LAYOUT = Layout(dsr=True, encapsulated=True)
CONFIG = direct("dsr")
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
QUERY_BYTES = 4000


@pytest.fixture(scope="module", params=["dsr", "ipip", "gue"], autouse=True)
def forwarding(request: pytest.FixtureRequest, started: Node) -> str:
    mode: str = request.param
    started.apply(direct(mode))
    started.wait_adopted()
    started.wait_states("healthy")
    return mode


@pytest.fixture(autouse=True)
def forgetful(lab: Lab) -> Iterator[None]:
    """No test profits from what the client's kernel has learned of the path in another."""
    for family in ("-4", "-6"):
        lab.client.ip(family, "route", "flush", "cache")
    yield


@VIPS
def test_fault_13_large_queries_are_answered(
    lab: Lab, node: Node, forwarding: str, vip: str
) -> None:
    targets = set()
    for _ in range(20):
        with LargeExchange(lab.client, vip) as exchange:
            target, answered = exchange.ask(QUERY_BYTES)
            assert answered > 3800
            targets.add(target)
    assert targets == {"t1", "t2", "t3"}
