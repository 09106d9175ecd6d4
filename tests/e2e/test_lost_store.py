# SPDX-License-Identifier: Apache-2.0
"""The control plane's store is lost, emptied, put back from an older copy, or on a full disk."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import Lab, Node
from lab.addresses import VIP_V4, VIP_V6, target_v4
from lab.configs import Config, standard
from lab.small_disk import fill, small_disk, store_files
from lab.traffic import StreamReport, TcpStreams, UdpStream, connect_many

CONFIG = standard()


@pytest.fixture(autouse=True)
def as_at_first(lab: Lab, node: Node) -> Iterator[None]:
    yield
    if not node.controlplane.running:
        node.start_controlplane()
    node.apply(CONFIG)
    node.wait_states("healthy", count=12)
    node.wait_adopted()


@contextmanager
def connections(lab: Lab) -> Iterator[list[StreamReport]]:
    """Streams of all four kinds, also for a while before and after the block; their reports are in
    the list afterwards."""
    reports: list[StreamReport] = []
    tcp = [TcpStreams(lab.client, vip, connections=20) for vip in (VIP_V4, VIP_V6)]
    udp = [UdpStream(lab.client, vip, per_second=50) for vip in (VIP_V4, VIP_V6)]
    for stream in (*tcp, *udp):
        stream.__enter__()
    try:
        time.sleep(0.5)
        yield reports
        time.sleep(1)
    finally:
        reports += [stream.stop() for stream in (*tcp, *udp)]


def identities(node: Node) -> dict[tuple[str, str, int], int]:
    return {(view.group, view.address, view.port): view.id for view in node.targets()}


def with_another_port(port: int, weight: int = 0) -> Config:
    """t1 and t3 get a second place in the group: machines that were not there before."""
    changed: Config = copy.deepcopy(CONFIG)
    for index in (1, 3):
        new = {"id": target_v4(index), "port": port, "weight": weight}
        changed["target_groups"][0]["targets"].append(new)
    return changed


@pytest.mark.parametrize("loss", ["lost", "empty", "older"])
def test_fault_75_connections_go_on_whatever_becomes_of_the_store(
    lab: Lab, node: Node, tmp_path: Path, loss: str
) -> None:
    node.controlplane.stop()
    for file in store_files(node):
        shutil.copy(file, tmp_path)
    node.start_controlplane()
    node.apply(with_another_port(80, weight=100))
    node.wait_states("healthy", count=14)
    node.wait_adopted()
    before, states = identities(node), [view.state for view in node.targets()]
    with connections(lab) as reports:
        node.controlplane.stop()
        for file in store_files(node):
            file.unlink()
        if loss == "empty":
            (node.state_dir / "state.db").touch()
        if loss == "older":
            for file in tmp_path.iterdir():
                shutil.copy(file, node.state_dir)
        node.start_controlplane()
        node.wait_adopted()
        assert identities(node) == before
        assert [view.state for view in node.targets()] == states
        # Others get slots that were free; nobody's flows lead to them.
        node.apply(with_another_port({"lost": 81, "empty": 82, "older": 83}[loss]))
        node.wait_adopted()
        assert len(connect_many(lab.client, VIP_V4, 50)) == 50
    for report in reports:
        assert report.sent > 20 and report.errors == [] and report.moved == 0, report
        assert report.lost == 0 and len(report.targets) <= 3, report
    new = {key: number for key, number in identities(node).items() if key not in before}
    assert new and not set(new.values()) & set(before.values())


def test_fault_75_full_disk_gives_no_id_to_two_machines(lab: Lab, node: Node) -> None:
    with small_disk(node) as filler:
        node.start_controlplane()
        node.wait_adopted()
        fill(filler)
        with connections(lab) as reports:
            names: dict[int, tuple[str, str, int]] = {}
            for port in (84, 85, 86):
                node.write_config(with_another_port(port))
                said = node.cli("apply", str(node.config_file), check=False)
                if said.returncode != 0:  # nothing has changed, and what was saved still is
                    assert "cannot be stored" in said.stderr and "state.db" in said.stderr
                else:
                    alarms = node.status()["alarms"]
                    assert any("state is not saved" in alarm for alarm in alarms), alarms
                node.controlplane.kill()
                node.start_controlplane()
                node.wait_adopted()
                for key, number in identities(node).items():
                    assert names.setdefault(number, key) == key
            filler.unlink()
            node.apply(with_another_port(87))
            node.wait_no_alarms()
        for report in reports:
            assert report.errors == [] and report.lost == 0 and report.moved == 0, report
