# SPDX-License-Identifier: Apache-2.0
"""A link that goes and comes back, and a worker that stands still: targets are not to blame."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import standard
from lab.node import STALL_ALARM
from lab.process import PATIENCE, wait_until
from lab.stall import thread_stopped
from lab.traffic import TcpStreams, UdpStream, connect_many

LAYOUT = Layout(hugepages=224)
CONFIG = standard()
WORKERS = 2
PORT = "node-nic0"  # of the switch


@pytest.fixture(autouse=True)
def as_at_first(lab: Lab, node: Node) -> Iterator[None]:
    yield
    lab.set_port(PORT, True)
    node.wait_states("healthy", count=12)
    node.wait_no_alarms()


def watch(node: Node, seconds: float) -> tuple[set[str], set[str]]:
    """All states of targets and all alarms that show within the time."""
    states: set[str] = set()
    alarms: set[str] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        states |= {view.state for view in node.targets()}
        alarms |= set(node.status()["alarms"])
        time.sleep(0.05)
    return states, alarms


@pytest.mark.parametrize("seconds", [2, 4])
def test_fault_76_flap_of_the_nodes_link_costs_no_connection(
    lab: Lab, node: Node, seconds: int
) -> None:
    streams = [TcpStreams(lab.client, vip, connections=20) for vip in (VIP_V4, VIP_V6)]
    udp = UdpStream(lab.client, VIP_V4, per_second=20)
    for stream in (*streams, udp):
        stream.__enter__()
    time.sleep(0.5)
    lab.set_port(PORT, False)
    states, alarms = watch(node, seconds)
    nic = node.status()["engine"]["nics"][0]
    assert nic["link_up"] is False
    assert "NO-CARRIER" in node.namespace.ip("link", "show", node.interface(0))
    assert any("nic nic0 has no link" in alarm for alarm in alarms), alarms
    lab.set_port(PORT, True)
    later, _ = watch(node, 5)
    assert states | later == {"healthy"}
    node.wait_no_alarms()
    time.sleep(seconds)  # what TCP's back-off may still wait
    for stream in streams:
        report = stream.stop()
        assert report.errors == [] and report.moved == 0 and report.lost == 0, report
    report = udp.stop()
    assert len(report.targets) == 1 and report.longest_gap_s < seconds + 5 * PATIENCE, report


def test_fault_76_target_that_dies_with_the_link_is_found_after_it(lab: Lab, node: Node) -> None:
    lab.set_port(PORT, False)
    lab.target("t2").fail_health()
    try:
        states, _ = watch(node, 3)
        assert states == {"healthy"}
        lab.set_port(PORT, True)
        node.wait_states("unhealthy", address=lab.target("t2").v4)
        node.wait_adopted()
        assert {a.target for a in connect_many(lab.client, VIP_V4, 60)} == {"t1", "t3"}
    finally:
        lab.target("t2").fail_health(False)


@pytest.mark.only_engine("dpdk", "XDP has no workers that could stand still")
def test_fault_92_targets_stay_healthy_while_a_worker_stands_still(lab: Lab, node: Node) -> None:
    streams = [TcpStreams(lab.client, vip, connections=20) for vip in (VIP_V4, VIP_V6)]
    for stream in streams:
        stream.__enter__()
    time.sleep(0.5)
    with node.outage.lasting(), thread_stopped(node.dataplane.pid, "worker"):
        states, alarms = watch(node, 6)
    assert any(STALL_ALARM in alarm for alarm in alarms), alarms
    later, _ = watch(node, 3)
    assert states | later == {"healthy"}
    node.wait_no_alarms()
    wait_until(lambda: len(connect_many(lab.client, VIP_V6, 20)) == 20, "all", timeout_s=20)
    for stream in streams:
        report = stream.stop()
        assert report.errors == [] and report.moved == 0, report
