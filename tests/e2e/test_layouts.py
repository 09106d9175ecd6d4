# SPDX-License-Identifier: Apache-2.0
"""Targets behind a gateway, clients behind a router, and a node with two NICs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from lab import Lab, Layout
from lab.addresses import (
    REMOTE_CLIENT_V4,
    REMOTE_CLIENT_V6,
    VIP_V4,
    VIP_V6,
)
from lab.configs import with_far_target
from lab.traffic import connect_many, dns_query, http_get, ping

VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])


@pytest.fixture(scope="module", params=[False, True], ids=["one nic", "two nics"])
def routed(request: pytest.FixtureRequest, engine: str) -> Iterator[Lab]:
    layout = Layout(two_nics=request.param, gateway=True, hugepages=224)
    with Lab(layout, engine=engine) as lab:
        lab.node.start(with_far_target())
        lab.node.wait_states("healthy")
        yield lab


@VIPS
def test_a_target_behind_a_gateway_gets_its_share(routed: Lab, vip: str) -> None:
    counts = Counter(answer.target for answer in connect_many(routed.client, vip, 400))
    assert sum(counts.values()) == 400
    assert set(counts) == {"t1", "t2", "t3", "t4"} and counts["t4"] > 40, counts


@VIPS
def test_dns_to_a_target_behind_a_gateway(routed: Lab, vip: str) -> None:
    counts = Counter(dns_query(routed.client, vip, 200))
    assert sum(counts.values()) == 200 and counts["t4"] > 15, counts


@VIPS
def test_a_client_behind_a_router_is_answered_through_that_router(routed: Lab, vip: str) -> None:
    remote = routed.remote
    answers = http_get(remote, vip, 200)
    own = REMOTE_CLIENT_V6 if ":" in vip else REMOTE_CLIENT_V4
    assert len(answers) == 200
    assert {answer.client for answer in answers} == {own}
    assert {answer.target for answer in answers} == {"t1", "t2", "t3", "t4"}
    assert ping(remote, vip, 3) == 3


def test_every_packet_is_accounted_for(routed: Lab) -> None:
    for worker in routed.node.settled_balances():
        assert worker.balanced, worker.equation
