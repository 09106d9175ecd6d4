# SPDX-License-Identifier: Apache-2.0
"""A kernel twin that somebody deletes or sets down under the running engine: that is told, with
what to do, and no target is to blame."""

from __future__ import annotations

import time

import pytest
from lab import Lab, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.node import STALL_ALARM
from lab.process import wait_until
from lab.traffic import connect_many

pytestmark = pytest.mark.only_engine("dpdk", "the XDP engine has no twin")


def wait_told(node: Node, alarm: str, shown: str) -> None:
    wait_until(
        lambda: [a for a in node.status()["alarms"] if a.startswith(alarm)] != [],
        f"an alarm is raised: {alarm}",
        timeout_s=2,
    )
    assert shown in node.cli("status").stdout


def assert_nobody_is_blamed(node: Node, alarm: str, seconds: float) -> None:
    """Nor does anything else than the twin show as wrong, but that nobody can be probed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert {view.state for view in node.targets()} == {"healthy"}
        others = [a for a in node.status()["alarms"] if not a.startswith(alarm)]
        expected = ("targets not probed", STALL_ALARM)  # a stall: of a busy machine
        assert all(any(said in other for said in expected) for other in others), others
        time.sleep(0.1)


def assert_serves(lab: Lab, node: Node) -> None:
    node.wait_no_alarms()
    node.wait_states("healthy", count=12)
    node.wait_adopted()
    for vip in (VIP_V4, VIP_V6):
        assert len(connect_many(lab.client, vip, 50)) == 50


def test_fault_92_twin_that_is_set_down_is_told_and_blames_nobody(lab: Lab, node: Node) -> None:
    own, routes = node.own()
    with node.outage.lasting():
        node.namespace.ip("link", "set", "dev", "twin0", "down")
        alarm = "twin twin0 of nic nic0 is down"
        wait_told(node, alarm, "kernel twin twin0 DOWN")
        assert_nobody_is_blamed(node, alarm, 8)
        node.namespace.ip("link", "set", "dev", "twin0", "up")
        node.give(own, routes)
    assert_serves(lab, node)


def test_fault_92_twin_that_is_deleted_is_told_and_blames_nobody(lab: Lab, node: Node) -> None:
    own, routes = node.own()
    with node.outage.lasting():
        node.namespace.ip("link", "delete", "twin0")
        alarm = "twin twin0 of nic nic0 is gone"
        wait_told(node, alarm, "kernel twin twin0 GONE")
        assert_nobody_is_blamed(node, alarm, 8)
        # As the alarm says, and the unit does with the first and the last.
        node.take_nics(node.nics)
        node.give(own, routes)
        node.dataplane.stop()
        node.restart_dataplane()
    assert_serves(lab, node)
