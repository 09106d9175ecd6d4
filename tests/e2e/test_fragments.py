# SPDX-License-Identifier: Apache-2.0
"""UDP in fragments through `nat`: queries of 4,000 bytes, and answers of almost 4,096."""

from __future__ import annotations

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import standard
from lab.target import WHOAMI
from lab.traffic import LargeExchange

LAYOUT = Layout(hugepages=224)
CONFIG = standard()
WORKERS = 2  # of the DPDK engine: a fragment is not its flow's owner's at once
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
ALL = {"t1", "t2", "t3"}
QUERY_BYTES = 4000


@VIPS
def test_fault_73_large_answers_of_all_targets_arrive(lab: Lab, node: Node, vip: str) -> None:
    targets = set()
    for _ in range(30):
        with LargeExchange(lab.client, vip) as exchange:
            target, answered = exchange.ask(tries=1)
            assert answered > 3800
            targets.add(target)
    assert targets == ALL


@VIPS
def test_fault_13_large_queries_get_large_answers(lab: Lab, node: Node, vip: str) -> None:
    targets = set()
    for _ in range(20):
        with LargeExchange(lab.client, vip) as exchange:
            target, answered = exchange.ask(QUERY_BYTES, tries=1)
            assert answered > 3800
            # The same flow, with one packet.
            assert exchange.ask(name=WHOAMI, tries=1)[0] == target
            targets.add(target)
    assert targets == ALL


@pytest.mark.exact
@VIPS
def test_fault_13_fragments_are_counted(lab: Lab, node: Node, vip: str) -> None:
    before = node.totals()
    with LargeExchange(lab.client, vip) as exchange:
        exchange.ask(QUERY_BYTES, tries=1)
    balances = node.settled_balances()
    assert all(worker.balanced for worker in balances)
    after = node.totals()
    grown = {name: after[name] - before[name] for name in ("fragments_forwarded", "flow_inserted")}
    # 4,008 bytes of UDP are three fragments; and so is the answer.
    assert grown == {"fragments_forwarded": 6, "flow_inserted": 1}
