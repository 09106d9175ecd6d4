# SPDX-License-Identifier: Apache-2.0
"""Each fault that a node can have raises its own alert, and none of those that are for others.

The node's metrics are recorded while it has the fault, and promtool plays them to the rules of
deploy/alerts: what would fire after half an hour of it?
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Lab, Layout, Node, Target
from lab.addresses import VIP_V4
from lab.configs import group, standard
from lab.process import wait_until
from lab.recording import DEAD, Recording, firing, record
from lab.stall import thread_stopped

LAYOUT = Layout(noise_per_second=0)
CONFIG = standard()
PORT = "node-nic0"  # of the switch
NEW_VIP = "203.0.113.200"
NOBODY = "10.0.1.250"
# The first result is that of the fourth probe.
SLOW_CHECK = {"millrace.health_check.interval_milliseconds": 60_000}


@pytest.fixture(scope="module")
def well(started: Node) -> Recording:
    started.wait_no_alarms()
    return record(started)


@pytest.fixture
def alerts(node: Node, well: Recording, tmp_path: Path) -> Callable[[], list[str]]:
    def now() -> list[str]:
        wait_until(lambda: is_settled(node), "changes are in force", timeout_s=10)
        return firing(well, record(node), tmp_path)

    return now


def is_settled(node: Node) -> bool:
    """What workers are there have the newest generation, but for one that stands still."""
    status = node.status()
    return not status["engine"]["running"] or all(
        worker["acknowledged_generation"] >= status["generation"]
        or worker["heartbeat_age_ms"] > 1000
        for worker in status["engine"]["workers"]
    )


@pytest.fixture(autouse=True)
def as_at_first(lab: Lab, started: Node) -> Iterator[None]:
    yield
    if not started.controlplane.running:
        started.start_controlplane()
    if not started.dataplane.running:
        started.restart_dataplane()
    lab.set_port(PORT, True)
    started.apply(CONFIG)
    started.wait_adopted()
    started.wait_states("healthy", count=12, timeout_s=40)
    started.wait_no_alarms()
    started.outage.end()


def engine_is(node: Node, *, running: bool, forwarding: bool) -> Callable[[], bool]:
    def is_so() -> bool:
        engine = node.status()["engine"]
        return (engine["running"], engine["forwarding"]) == (running, forwarding)

    return is_so


def wait_engine(node: Node, *, running: bool, forwarding: bool) -> None:
    wait_until(
        engine_is(node, running=running, forwarding=forwarding),
        f"the engine is seen, running: {running}, forwarding: {forwarding}",
        timeout_s=10,
    )


def explained(node: Node) -> str:
    return str(node.cli("explain", "192.0.2.100:1000", f"{VIP_V4}:80", "TCP").stdout)


def test_fault_86_node_that_is_well_raises_nothing(alerts: Callable[[], list[str]]) -> None:
    assert alerts() == []


def test_fault_86_node_that_does_not_answer_raises_that_alone(
    well: Recording, tmp_path: Path
) -> None:
    assert firing(well, DEAD, tmp_path) == ["MillraceNodeSilent"]


@pytest.mark.only_engine("dpdk", "the XDP engine's program stays")
@pytest.mark.parametrize("with_new_control_plane", [False, True])
def test_fault_86_engine_that_is_dead_raises_that_alone(
    node: Node, alerts: Callable[[], list[str]], with_new_control_plane: bool
) -> None:
    node.outage.begin()
    node.dataplane.kill()
    if with_new_control_plane:  # which has never seen the kernel's neighbours on the twin
        node.controlplane.stop()
        node.start_controlplane()
    wait_engine(node, running=False, forwarding=False)
    assert alerts() == ["MillraceEngineDown"]
    assert "nothing is forwarded" in explained(node)
    assert "NOT RUNNING" in node.cli("status").stdout


@pytest.mark.only_engine("xdp", "nothing of the DPDK engine stays")
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_fault_86_xdp_daemon_that_is_away_is_not_said_to_forward_nothing(
    lab: Lab, node: Node, alerts: Callable[[], list[str]], how: str
) -> None:
    getattr(node.dataplane, how)()
    wait_engine(node, running=False, forwarding=True)
    assert alerts() == ["MillraceEngineUnattended"]
    assert "UNATTENDED: xdp goes on forwarding" in node.cli("status").stdout
    assert "=> forwarded to" in explained(node)
    # It carries probes, so that a target that dies meanwhile is known when the daemon is back.
    lab.target("t2").fail_health()
    try:
        node.wait_states("unhealthy", address=lab.target("t2").v4)
        assert alerts() == ["MillraceEngineUnattended", "MillraceTargetUnhealthy"]
        assert "this answer is by a newer one" in explained(node)
    finally:
        lab.target("t2").fail_health(False)


@pytest.mark.only_engine("xdp", "nothing of the DPDK engine stays")
def test_fault_86_xdp_program_that_is_detached_raises_that_alone(
    node: Node, alerts: Callable[[], list[str]]
) -> None:
    node.outage.begin()
    node.dataplane.stop()
    wait_engine(node, running=False, forwarding=True)
    node.detach()
    wait_engine(node, running=False, forwarding=False)
    assert alerts() == ["MillraceEngineDown"]
    assert "nothing is forwarded" in explained(node)


@pytest.mark.only_engine("dpdk", "XDP has no workers that could stand still")
def test_fault_86_worker_that_stands_still_raises_that_alone(
    node: Node, alerts: Callable[[], list[str]]
) -> None:
    with node.outage.lasting(), thread_stopped(node.dataplane.pid, "worker"):
        wait_until(lambda: bool(node.status()["alarms"]), "the worker is seen", timeout_s=10)
        wait_until(
            lambda: bool(node.status()["engine"]["workers"][0]["heartbeat_age_ms"] > 1000),
            "it is old",
            timeout_s=10,
        )
        assert alerts() == ["MillraceWorkerStuck"]


def test_fault_86_link_that_is_down_raises_that_alone(
    lab: Lab, node: Node, alerts: Callable[[], list[str]]
) -> None:
    lab.set_port(PORT, False)
    wait_until(lambda: bool(node.status()["alarms"]), "the link is seen", timeout_s=10)
    assert alerts() == ["MillraceNicLinkDown"]


@pytest.mark.only_engine("dpdk", "the XDP engine has no twin")
def test_fault_86_twin_that_is_set_down_raises_that_alone(
    lab: Lab, node: Node, alerts: Callable[[], list[str]]
) -> None:
    own, routes = node.own()
    with node.outage.lasting():
        node.namespace.ip("link", "set", "dev", "twin0", "down")
        wait_until(
            lambda: not any(any(ways_to(node, target)) for target in lab.targets),
            "no way to them",
            timeout_s=10,
        )
        time.sleep(6)  # until targets without a way would be told
        assert alerts() == ["MillraceTwinLost"]
        node.namespace.ip("link", "set", "dev", "twin0", "up")
        node.give(own, routes)


@pytest.mark.parametrize("how", ["its servers", "its host"])
def test_fault_86_target_that_dies_raises_that_alone(
    lab: Lab, node: Node, alerts: Callable[[], list[str]], how: str
) -> None:
    target = lab.target("t2")
    if how == "its host":
        lab.set_port("t2", False)
    else:
        target.fail_health()
    try:
        node.wait_states("unhealthy", address=target.v4, timeout_s=30)
        node.wait_states("unhealthy", address=target.v6, timeout_s=30)
        if how == "its host":
            for address in (target.v4, target.v6):  # as the kernel finds after a while
                words = ["neighbour", "replace", address, "dev", node.interface(0)]
                node.namespace.ip(*words, "nud", "failed")
            wait_until(
                lambda: not any(ways_to(node, target)),
                "no way to it",
                timeout_s=20,
            )
        assert alerts() == ["MillraceTargetUnhealthy"]
    finally:
        lab.set_port("t2", True)
        target.fail_health(False)


def ways_to(node: Node, target: Target) -> list[bool]:
    return [
        bool(one["next_hop_resolved"])
        for group in node.json("targets")["target_groups"]
        for one in group["targets"]
        if one["address"] in (target.v4, target.v6)
    ]


def test_fault_86_group_whose_targets_are_all_dead_raises_that_alone(
    lab: Lab, node: Node, alerts: Callable[[], list[str]]
) -> None:
    for target in lab.targets:
        target.fail_health()
    try:
        node.wait_states("unhealthy")
        assert alerts() == ["MillraceNoHealthyTarget"]
        assert "FAILS OPEN" in node.cli("status").stdout
    finally:
        for target in lab.targets:
            target.fail_health(False)


def test_fault_86_targets_that_are_drained_raise_nothing_before_the_last(
    node: Node, alerts: Callable[[], list[str]]
) -> None:
    views = [view for view in node.targets() if view.group == "http-4"]
    node.drain(views[0])
    assert alerts() == []
    try:
        for view in views[1:]:
            node.drain(view)
        assert alerts() == ["MillraceNoTarget"]
    finally:
        for view in views:
            node.undrain(view)


@pytest.mark.parametrize("how", ["apply", "reload"])
def test_fault_86_config_that_is_refused_raises_that_alone(
    node: Node, alerts: Callable[[], list[str]], how: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("load_balancers: 1\n")
    if how == "apply":
        assert node.cli("apply", str(wrong), check=False).returncode != 0
    else:
        node.config_file.write_text(wrong.read_text())
        node.controlplane.send_signal(signal.SIGHUP)
    wait_until(lambda: "Refused" in node.cli("status").stdout, "it is seen", timeout_s=5)
    assert alerts() == ["MillraceConfigRefused"]


def test_fault_86_vip_that_becomes_the_nodes_own_raises_that_alone(
    node: Node, alerts: Callable[[], list[str]]
) -> None:
    node.namespace.ip("address", "add", f"{VIP_V4}/32", "dev", "lo")
    try:
        wait_until(lambda: bool(node.status()["alarms"]), "it is seen", timeout_s=5)
        assert alerts() == ["MillraceControlPlaneFails"]
    finally:
        node.namespace.ip("address", "delete", f"{VIP_V4}/32", "dev", "lo")
        node.wait_no_alarms()


def test_fault_86_targets_that_nobody_has_checked_yet_raise_nothing(
    node: Node, alerts: Callable[[], list[str]]
) -> None:
    absent = group("new", "TCP", 8080, [{"id": NOBODY}], attributes=SLOW_CHECK)
    balancer = {
        "name": "new",
        "type": "network",
        "addresses": [NEW_VIP],
        "listeners": [{"protocol": "TCP", "port": 80, "default_target_group": "new"}],
    }
    config = standard()
    config["target_groups"].append(absent)
    config["load_balancers"].append(balancer)
    node.apply(config)
    assert alerts() == []
    assert "not checked yet" in node.cli("status").stdout
    said = node.cli("explain", "192.0.2.100:1000", f"{NEW_VIP}:80", "TCP").stdout
    assert "no health check has had a result yet" in said
