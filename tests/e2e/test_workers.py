# SPDX-License-Identifier: Apache-2.0
"""Two workers share one AF_XDP queue: what arrives on the wrong one is handed over."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import standard
from lab.traffic import TcpStreams, connect_many, dns_query, ping

LAYOUT = Layout(hugepages=224)
CONFIG = standard()
WORKERS = 2
pytestmark = pytest.mark.only_engine("dpdk", "XDP has no workers; CPUs share all flows")
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])


@VIPS
def test_every_request_is_answered(lab: Lab, node: Node, vip: str) -> None:
    answers = connect_many(lab.client, vip, 1000)
    assert len(answers) == 1000
    assert set(Counter(answer.target for answer in answers)) == {"t1", "t2", "t3"}
    assert len(dns_query(lab.client, vip, 200)) == 200
    assert ping(lab.client, vip, 3) == 3


@pytest.mark.exact
def test_both_workers_own_flows_and_hand_over_balances(lab: Lab, node: Node) -> None:
    with TcpStreams(lab.client, VIP_V4, connections=100):
        time.sleep(0.5)
        active = [worker["flows_active"] for worker in node.status()["engine"]["workers"]]
    assert len(active) == 2 and min(active) >= 20, active
    balances = node.settled_balances()
    assert sum(w.counters["handover_in"] for w in balances) > 0
    assert sum(w.counters["handover_in"] for w in balances) == sum(
        w.counters["handover_out"] - w.drops.get("handover_full", 0) for w in balances
    )


def test_established_connections_survive_a_restart(lab: Lab, node: Node) -> None:
    with TcpStreams(lab.client, VIP_V6, connections=40) as streams:
        time.sleep(0.5)
        node.dataplane.kill()
        node.restart_dataplane()
        time.sleep(3)
        report = streams.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report
