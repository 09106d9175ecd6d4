# SPDX-License-Identifier: Apache-2.0
"""What an operator was told is so: over restarts, on a full disk, with very many groups."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import FIRST_OF_MORE_PORTS, Config, standard, with_more_groups
from lab.process import wait_until
from lab.small_disk import fill, small_disk
from lab.traffic import TcpStreams, connect_many

CONFIG = standard()
WITHOUT_T2 = standard(members=(1, 3))


@pytest.fixture(autouse=True)
def as_at_first(node: Node) -> Iterator[None]:
    yield
    if not node.controlplane.running:
        node.start_controlplane()
    node.apply(CONFIG)
    for view in node.targets():
        if view.operator_drained:
            node.undrain(view)
    node.wait_states("healthy", count=12)
    node.wait_adopted()


def apply_past_the_file(node: Node, path: Path, config: Config) -> None:
    path.write_text(json.dumps({**config, "node": {**config["node"], "engine": node.engine}}))
    node.cli("apply", str(path))


def states(node: Node) -> list[tuple[str, int, str]]:
    return [(view.address, view.port, view.state) for view in node.targets()]


def test_fault_81_restart_undoes_no_apply(lab: Lab, node: Node, tmp_path: Path) -> None:
    node.apply(CONFIG)
    node.wait_states("healthy", count=12)
    apply_past_the_file(node, tmp_path / "other.yaml", WITHOUT_T2)
    node.wait_adopted()
    before = states(node)
    assert {state for _, _, state in before} == {"healthy", "draining"}
    with TcpStreams(lab.client, VIP_V4, connections=20) as streams:
        for _ in range(2):
            node.controlplane.kill()
            node.start_controlplane()
            node.wait_adopted()
            assert states(node) == before
            config = node.status()["config"]
            assert "other.yaml" in config["source"] and config["file"] == str(node.config_file)
            assert f"{node.config_file} is not in force" in node.cli("status").stdout
        assert f"{node.config_file} has not changed since" in node.controlplane.log.read_text()
        report = streams.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report

    # Whoever reads the file again says a newer word.
    node.controlplane.send_signal(signal.SIGHUP)
    wait_until(
        lambda: bool(node.status()["config"]["source"] == str(node.config_file)),
        "the file is in force",
        timeout_s=5,
    )
    assert "draining" not in {state for _, _, state in states(node)}


def test_fault_81_file_that_changed_after_an_apply_is_the_newer_word(
    node: Node, tmp_path: Path
) -> None:
    node.apply(CONFIG)
    apply_past_the_file(node, tmp_path / "other.yaml", WITHOUT_T2)
    node.controlplane.kill()
    node.write_config(standard(weights={1: 200, 2: 100, 3: 100}))
    node.start_controlplane()
    assert node.status()["config"]["source"] == str(node.config_file)
    assert "draining" not in {state for _, _, state in states(node)}


def test_fault_83_full_disk_refuses_changes_as_a_whole(lab: Lab, node: Node) -> None:
    with small_disk(node) as filler:
        node.start_controlplane()
        node.apply(CONFIG)
        node.wait_states("healthy", count=12)
        node.wait_adopted()
        before, source = states(node), node.status()["config"]["source"]
        fill(filler)
        with TcpStreams(lab.client, VIP_V4, connections=20) as streams:
            node.write_config(WITHOUT_T2)
            refused = node.cli("apply", str(node.config_file), check=False)
            assert refused.returncode == 1 and "state.db" in refused.stderr, refused
            assert "nothing was changed" in refused.stderr
            view = node.targets()[0]
            refused = node.cli("drain", view.group, view.address, check=False)
            assert refused.returncode == 1 and "state.db" in refused.stderr, refused
            assert states(node) == before and node.status()["config"]["source"] == source
            assert len(connect_many(lab.client, VIP_V4, 50)) == 50
            report = streams.stop()
        assert report.errors == [] and report.lost == 0 and report.moved == 0, report
        filler.unlink()
        assert node.apply(WITHOUT_T2)["targets_removed"] == 4
        node.wait_no_alarms()


@pytest.mark.seconds(180)
def test_fault_83_hundreds_of_groups_come_into_force_and_change_at_once(
    lab: Lab, node: Node
) -> None:
    """600 lookup tables of 256 KiB: the segment grows under load, then all groups change."""
    with TcpStreams(lab.client, VIP_V6, connections=20) as streams:
        time.sleep(0.5)
        large = with_more_groups(600)
        node.apply(large)
        node.wait_adopted(timeout_s=60)
        for index in (0, 299):
            answers = connect_many(lab.client, VIP_V4, 10, port=FIRST_OF_MORE_PORTS + index)
            assert len(answers) == 10
        for group in large["target_groups"]:
            group["targets"][1]["weight"] = 300
        assert node.apply(large)["targets_changed"] >= 600
        node.wait_adopted(timeout_s=60)
        node.wait_no_alarms(timeout_s=30)  # while 600 tables are made, probes may be late
        report = streams.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report
