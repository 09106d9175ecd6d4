# SPDX-License-Identifier: Apache-2.0
"""Targets come, drain, die and return under load; no established connection pays for it."""

from __future__ import annotations

import copy
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from lab import Lab, Node
from lab.addresses import VIP_V4, VIP_V6, target_v4, target_v6
from lab.configs import Config, listener, pair, standard, vips
from lab.process import wait_until
from lab.target import HTTP_PORT
from lab.traffic import TcpConnection, TcpStreams, UdpStream, connect_many, dns_query

VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
CONFIG = standard()


@pytest.fixture(autouse=True)
def as_at_first(lab: Lab, node: Node) -> Iterator[None]:
    """Every test begins and ends with three healthy, registered targets."""
    yield
    for target in lab.targets:
        target.fail_health(False)
        if not target.http.running:
            target.start()
    node.apply(CONFIG)
    for view in node.targets():
        if view.operator_drained:
            node.undrain(view)
    node.wait_states("healthy", count=12)


def answering(lab: Lab, vip: str, count: int = 150) -> Counter[str]:
    answers = connect_many(lab.client, vip, count)
    assert len(answers) == count
    return Counter(answer.target for answer in answers)


def address_of(vip: str, index: int) -> str:
    return target_v6(index) if ":" in vip else target_v4(index)


@VIPS
def test_draining_target_keeps_its_connections_and_gets_no_new_ones(
    lab: Lab, node: Node, vip: str
) -> None:
    with TcpStreams(lab.client, vip, connections=30) as streams:
        time.sleep(0.5)
        view = node.target("http", address_of(vip, 2))
        node.drain(view)
        node.wait_adopted()
        assert set(answering(lab, vip)) == {"t1", "t3"}
        assert node.target("http", view.address).state == "draining"
        time.sleep(1)
        report = streams.stop()
    assert streams.targets["t2"] > 0
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report


def test_deregistration_delay_counts_down_where_it_can_be_seen(lab: Lab, node: Node) -> None:
    view = node.target("http", target_v4(1))
    node.drain(view)

    def seconds_left() -> int:
        return node.target("http", view.address).drain_seconds_left or 0

    first = seconds_left()
    assert 50 <= first <= 60
    wait_until(lambda: 0 < seconds_left() < first, "the delay counts down", timeout_s=5)
    node.undrain(view)
    wait_until(
        lambda: node.target("http", view.address).state == "healthy", "undrained", timeout_s=10
    )


@VIPS
def test_target_removed_from_the_file_finishes_its_connections(
    lab: Lab, node: Node, vip: str
) -> None:
    with TcpStreams(lab.client, vip, connections=30) as streams:
        time.sleep(0.5)
        outcome = node.apply(standard(members=(1, 3)))
        assert outcome["targets_removed"] == 4
        node.wait_adopted()
        assert set(answering(lab, vip)) == {"t1", "t3"}
        time.sleep(1)
        report = streams.stop()
    assert streams.targets["t2"] > 0
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report


def test_udp_flows_of_other_targets_do_not_move_when_one_is_removed(lab: Lab, node: Node) -> None:
    streams = [UdpStream(lab.client, VIP_V4, per_second=50) for _ in range(12)]
    for stream in streams:
        stream.__enter__()
    time.sleep(0.5)
    node.apply(standard(members=(1, 3)))
    node.wait_adopted()
    time.sleep(1)
    reports = [stream.stop() for stream in streams]
    stayed = [report for report in reports if "t2" not in report.targets]
    assert stayed and all(len(report.targets) == 1 for report in stayed)
    assert sum(report.lost for report in stayed) == 0


@VIPS
def test_dead_target_gets_no_new_flow_once_it_is_unhealthy(lab: Lab, node: Node, vip: str) -> None:
    lab.target("t2").stop()
    node.wait_states("unhealthy", address=address_of(vip, 2))
    node.wait_adopted()
    assert set(answering(lab, vip)) == {"t1", "t3"}
    assert set(dns_query(lab.client, vip, 60)) == {"t1", "t3"}


def test_connections_of_an_unhealthy_target_are_reset(lab: Lab, node: Node) -> None:
    connections = [TcpConnection(lab.client, VIP_V4) for _ in range(20)]
    owners = {connection: connection.ask().target for connection in connections}
    lab.target("t2").fail_health()
    node.wait_states("unhealthy", address=target_v4(2))
    node.wait_adopted()
    for connection, owner in owners.items():
        if owner == "t2":
            with pytest.raises(ConnectionResetError):
                connection.ask()
        else:
            assert connection.ask().target == owner
        connection.close()
    assert "t2" in owners.values()


def test_group_fails_open_when_no_target_is_healthy(lab: Lab, node: Node) -> None:
    for target in lab.targets:
        target.fail_health()
    node.wait_states("unhealthy")
    node.wait_adopted()
    for vip in (VIP_V4, VIP_V6):
        assert set(answering(lab, vip)) == {"t1", "t2", "t3"}
    assert node.group("http-4")["fail_open"] is True
    lab.target("t1").fail_health(False)
    node.wait_states("healthy", address=target_v4(1))
    node.wait_adopted()
    assert set(answering(lab, VIP_V4)) == {"t1"}


def test_new_target_gets_traffic_after_its_first_passing_check(lab: Lab, node: Node) -> None:
    """t3 on a port that it was never registered with is a target of its own."""
    lab.target("t3").fail_health()
    changed = standard(members=(1, 2))
    changed["target_groups"][0]["targets"].append({"id": target_v4(3), "port": 80})
    node.apply(changed)
    node.wait_adopted()
    new = next(view for view in node.targets() if view.port == 80)
    assert new.state in ("initial", "unhealthy") and new.share == 0
    assert set(answering(lab, VIP_V4)) == {"t1", "t2"}
    lab.target("t3").fail_health(False)
    wait_until(lambda: node.target("http", target_v4(3), 80).share > 0, "t3", timeout_s=10)
    node.wait_adopted()
    assert set(answering(lab, VIP_V4)) == {"t1", "t2", "t3"}


def test_weight_zero_gets_no_new_flow(lab: Lab, node: Node) -> None:
    node.apply(standard(weights={2: 0}))
    node.wait_adopted()
    assert set(answering(lab, VIP_V4)) == {"t1", "t3"}


def test_apply_touches_only_what_differs(lab: Lab, node: Node) -> None:
    before = {(view.group, view.address): view.id for view in node.targets()}
    generation = node.status()["generation"]
    outcome = node.apply(CONFIG)
    assert outcome["generation"] == generation
    changed: Config = copy.deepcopy(CONFIG)
    changed["target_groups"][0]["targets"][0]["weight"] = 50
    outcome = node.apply(changed)
    assert outcome["targets_changed"] == 1
    assert (outcome["targets_added"], outcome["targets_removed"]) == (0, 0)
    assert {(view.group, view.address): view.id for view in node.targets()} == before


def test_sighup_reads_the_file_again(lab: Lab, node: Node) -> None:
    node.write_config(standard(weights={1: 0}))
    node.controlplane.send_signal(signal.SIGHUP)
    wait_until(lambda: node.target("http", target_v4(1)).share == 0, "the new weight", timeout_s=5)


def test_listener_comes_and_goes_at_run_time(lab: Lab, node: Node) -> None:
    changed: Config = copy.deepcopy(CONFIG)
    # Another port of the targets: two listeners on one would give a client that uses the same port
    # of its own for both the same connection at the target.
    changed["load_balancers"][0]["listeners"].append(listener("TCP", HTTP_PORT, "alternative"))
    changed["target_groups"] += pair("alternative", "TCP", 80)
    assert node.apply(changed)["listeners_added"] == len(vips())
    wait_until(
        lambda: node.target("alternative", target_v4(1)).state == "healthy", "t1", timeout_s=10
    )
    node.wait_adopted()
    assert len(connect_many(lab.client, VIP_V4, 20, port=HTTP_PORT)) == 20
    assert node.apply(CONFIG)["listeners_removed"] == len(vips())
    node.wait_adopted()
    before = node.drops().get("no_listener", 0)
    with pytest.raises(OSError):
        TcpConnection(lab.client, VIP_V4, port=HTTP_PORT, timeout_s=1.0)
    assert node.drops()["no_listener"] > before
