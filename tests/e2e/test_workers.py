# SPDX-License-Identifier: Apache-2.0
"""Two workers share one AF_XDP queue: what arrives on the wrong one is handed over."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

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


def test_fault_88_workers_change_and_change_back_under_connections(lab: Lab, node: Node) -> None:
    """More of them with each start, while targets come and go: nothing is lost, moved or reset."""
    with TcpStreams(lab.client, VIP_V4, connections=40) as first:
        for index, workers in enumerate((1, WORKERS, 1, WORKERS)):
            with TcpStreams(lab.client, VIP_V6, connections=20) as later:
                time.sleep(0.5)
                node.apply(standard(members=(1, 2) if index % 2 == 0 else (1, 2, 3)))
                node.wait_adopted()
                node.dataplane.kill()
                node.start_dataplane(workers=workers)
                node.wait_adopted()
                time.sleep(3)
                report = later.stop()
            assert report.errors == [] and report.lost == 0 and report.moved == 0, report
        report = first.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report
    assert sorted(path.name for path in node.flow_dir.iterdir()) == ["flows.0", "flows.1"]


def free_hugepages() -> int:
    path = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    return int(path.read_text())


def flows_for(pages: int) -> int:
    """As many as a table of so many huge pages holds: at most 96 bytes each, and the neighbours."""
    return ((pages - 1) << 21) // 96


@pytest.mark.alone  # it counts the machine's huge pages, which other labs take and give back
def test_fault_91_tables_that_do_not_fit_beside_the_old_ones_take_their_place(
    lab: Lab, node: Node
) -> None:
    """And those that fit nowhere leave them as they are: a start that fails costs no connection."""
    free = free_hugepages()
    with TcpStreams(lab.client, VIP_V4, connections=40) as streams:
        time.sleep(0.5)
        for pages in (free * 3 // 5, free * 2 // 3):
            assert node.dataplane.stop() == 0
            said = node.namespace.run(
                node.dataplane_words(flows=4 * flows_for(free + 100)), check=False, timeout_s=30
            ).stderr
            assert "hold the last engine's flows" in said and "free huge pages" in said, said
            node.dataplane = node.namespace.service(
                "dataplane", node.dataplane_words(flows=flows_for(pages))
            )
            node.restart_dataplane()
            node.wait_adopted()
            time.sleep(3)
        report = streams.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report
    assert not list(node.runtime_dir.glob("flows.saved*"))
    assert node.dataplane.stop() == 0
    node.start_dataplane(workers=WORKERS)
    node.wait_adopted()
