# SPDX-License-Identifier: Apache-2.0
"""Thousands of emulated clients and targets around a real node, over veth: every connection keeps
its target and no packet breaks a rule, whatever happens to targets and processes meanwhile."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6, emulated_target_v4
from lab.configs import emulated
from lab.generator import assert_clean, connections, wait_healthy

LAYOUT = Layout(clients=0, targets=0, generator="veth")
# About two seconds each, so that several hundred live through whatever a test does.
LONG: dict[str, Any] = {"rate": "300cps", "requests": 20, "think_ms": 100}
TARGETS = 20


@pytest.fixture(scope="module")
def started(lab: Lab) -> Node:
    """Not waited for: targets are healthy when the generator runs."""
    if not lab.generator.program.exists():
        pytest.skip("millrace-pktgen is not built (ninja -C build bench)")
    lab.node.start(emulated())
    return lab.node


@pytest.mark.parametrize(
    ("forwarding", "protocol", "vip"),
    [
        ("nat", "TCP", VIP_V4),
        ("nat", "TCP", VIP_V6),
        ("nat", "UDP", VIP_V4),
        ("nat", "UDP", VIP_V6),
        ("dsr", "TCP", VIP_V4),
        ("dsr", "UDP", VIP_V6),
        ("ipip", "TCP", VIP_V6),
        ("ipip", "UDP", VIP_V4),
        ("gue", "TCP", VIP_V4),
        ("gue", "UDP", VIP_V6),
    ],
)
def test_every_connection_completes_at_one_target(
    lab: Lab, node: Node, forwarding: str, protocol: str, vip: str
) -> None:
    node.apply(emulated(forwarding))
    # Emulated targets have a MAC address each, but for nat.
    node.namespace.forget_neighbours(node.interface(0))
    # Datagrams are not sent again: few enough that they fit the queues when a CPU stands still.
    rate = "2kcps" if protocol == "TCP" else "600cps"
    load = connections(vip, protocol=protocol, forwarding=forwarding, rate=rate)
    with lab.generator.running({"connections": load}, seconds=1.5):
        lab.generator.begin(node, vip)
        found = assert_clean(lab.generator.result(), opened=500)
    assert sum(1 for count in found["by_target"] if count > 0) == TARGETS


@pytest.mark.parametrize("forwarding", ["nat", "dsr"])
def test_connections_stay_while_targets_come_and_go(lab: Lab, node: Node, forwarding: str) -> None:
    node.apply(emulated(forwarding))
    node.namespace.forget_neighbours(node.interface(0))
    profile = {"connections": connections(VIP_V4, forwarding=forwarding, **LONG)}
    with lab.generator.running(profile, seconds=8):
        lab.generator.begin(node, VIP_V4)
        time.sleep(2)
        node.apply(emulated(forwarding, members=range(1, 31)))  # ten more
        wait_healthy(node, VIP_V4)
        time.sleep(1)
        some = [node.target("tcp", emulated_target_v4(index)) for index in range(1, 4)]
        for target in some:
            node.drain(target)
        time.sleep(1)
        for target in some:
            node.undrain(target)
        node.apply(emulated(forwarding, members=range(6, 31)))  # five are deregistered
        found = assert_clean(lab.generator.result(), opened=1000)
    assert sum(1 for count in found["by_target"] if count > 0) == TARGETS + 10


def test_fault_31_connections_stay_while_the_control_plane_dies_and_returns(
    lab: Lab, node: Node
) -> None:
    node.apply(emulated())
    node.namespace.forget_neighbours(node.interface(0))
    with lab.generator.running({"connections": connections(VIP_V4, **LONG)}, seconds=5):
        lab.generator.begin(node, VIP_V4)
        time.sleep(2)
        node.controlplane.kill()
        time.sleep(1)
        node.start_controlplane()
        node.controlplane.send_signal(signal.SIGSTOP)
        time.sleep(1)
        node.controlplane.send_signal(signal.SIGCONT)
        assert_clean(lab.generator.result(), opened=700)


def test_fault_34_connections_keep_their_targets_while_the_engine_restarts(
    lab: Lab, node: Node
) -> None:
    node.apply(emulated())
    with lab.generator.running({"connections": connections(VIP_V4, **LONG)}, seconds=7):
        lab.generator.begin(node, VIP_V4)
        time.sleep(2)
        node.dataplane.kill()
        node.restart_dataplane()
        found = lab.generator.result()["connections"]
    assert found["violations"]["total"] == 0, found["violations"]
    assert found["reset"] == found["cut_short"] == found["not_over"] == 0
    # Clients have the patience of six repetitions, 1.4 s; a slow machine may need longer.
    assert found["completed"] >= 0.9 * found["opened"] > 1000
