# SPDX-License-Identifier: Apache-2.0
"""Machines that are taken out of the config and then switched off, as in every rolling update."""

from __future__ import annotations

import copy
import socket
import time
from collections.abc import Iterator

import pytest
from lab import Lab, Node
from lab.addresses import VIP_V4, VIP_V6, target_v4, target_v6
from lab.configs import Config, standard
from lab.process import PATIENCE, wait_until
from lab.traffic import TcpConnection, UdpStream, family_of

VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
CONFIG = standard()
# Four health checks, the time until the engine has heard, and a busy machine.
NOTICED_WITHIN_S = 10 * PATIENCE


@pytest.fixture(autouse=True)
def as_at_first(lab: Lab, node: Node) -> Iterator[None]:
    yield
    lab.set_port("t2", True)
    node.apply(CONFIG)
    node.wait_states("healthy", count=12)
    # The next test's flows begin at once: t2 must get some of them.
    wait_until(
        lambda: all(view.share > 0 for view in node.targets() if view.state == "healthy"),
        "all targets have a share",
        timeout_s=NOTICED_WITHIN_S,
    )
    node.wait_adopted()


def address_of(vip: str) -> str:
    return target_v6(2) if ":" in vip else target_v4(2)


def without_t2(how: str) -> Config:
    """t2 leaves its groups, or all its groups leave: the listeners forward to others."""
    changed = standard(members=(1, 3))
    if how == "group":
        for group in changed["target_groups"]:
            group["name"] = "new-" + group["name"]
        for listener in changed["load_balancers"][0]["listeners"]:
            names = listener["default_target_groups"]
            listener["default_target_groups"] = {
                family: "new-" + name for family, name in names.items()
            }
    if how == "listener":
        changed = without_t2("group")
        changed["target_groups"] += copy.deepcopy(CONFIG["target_groups"])
    return changed


def wait_noticed(node: Node, vip: str, group: str) -> None:
    """In the groups whose flows it has; where it has none nobody looks."""

    def is_noticed() -> bool:
        views = [v for v in node.targets() if v.address == address_of(vip) and group in v.group]
        return bool(views) and all(view.health == "unhealthy" for view in views)

    wait_until(is_noticed, "the death of t2 is noticed", timeout_s=NOTICED_WITHIN_S)
    node.wait_adopted()


@VIPS
@pytest.mark.parametrize("how", ["target", "group", "listener"])
def test_fault_67_tcp_clients_of_a_target_taken_out_and_switched_off_are_told(
    lab: Lab, node: Node, vip: str, how: str
) -> None:
    connections = [TcpConnection(lab.client, vip) for _ in range(20)]
    owners = {connection: connection.ask().target for connection in connections}
    assert "t2" in owners.values()
    node.apply(without_t2(how))
    node.wait_adopted()
    assert all(connection.ask().target == owner for connection, owner in owners.items())
    lab.set_port("t2", False)
    wait_noticed(node, vip, "http")
    states = {v.state for v in node.targets() if v.address == address_of(vip) and "http" in v.group}
    assert states == {"unused" if how == "listener" else "draining"}
    for connection, owner in owners.items():
        if owner == "t2":
            with pytest.raises(ConnectionResetError):
                connection.ask()
        else:
            assert connection.ask().target == owner
        connection.close()


@VIPS
def test_fault_67_client_port_that_comes_again_is_not_tied_to_the_dead(
    lab: Lab, node: Node, vip: str
) -> None:
    ports = []
    for _ in range(20):
        connection = TcpConnection(lab.client, vip)
        if connection.ask().target == "t2":
            ports.append(connection.local_port)
        connection.vanish()
    assert ports
    node.apply(without_t2("target"))
    lab.set_port("t2", False)
    wait_noticed(node, vip, "http")
    for port in ports:
        again = lab.client.socket(family_of(vip), socket.SOCK_STREAM)
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("", port))
        again.settimeout(3 * PATIENCE)
        again.connect((vip, 80))  # TimeoutError when the SYN goes to t2
        again.close()


@VIPS
@pytest.mark.parametrize("how", ["target", "group"])
def test_fault_67_udp_flows_of_a_target_taken_out_and_switched_off_go_to_the_living(
    lab: Lab, node: Node, vip: str, how: str
) -> None:
    streams = [UdpStream(lab.client, vip, per_second=10) for _ in range(24)]
    for stream in streams:
        stream.__enter__()
    time.sleep(0.5)
    node.apply(without_t2(how))
    node.wait_adopted()
    lab.set_port("t2", False)
    wait_noticed(node, vip, "dns")
    time.sleep(1)
    answered = [stream.report.answered for stream in streams]
    time.sleep(1)
    reports = [stream.stop() for stream in streams]
    orphans = [i for i, report in enumerate(reports) if "t2" in report.targets]
    assert orphans
    for i in orphans:
        assert reports[i].answered > answered[i], "answers come again"
        assert len(reports[i].targets) == 2
