# SPDX-License-Identifier: Apache-2.0
"""A control plane that may not read what the engine says of itself: what is in force goes on, what
cannot be seen is said to be so, and no more than that."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import standard
from lab.process import wait_until
from lab.traffic import connect_many
from lab.views import Json

LAYOUT = Layout(noise_per_second=0)
CONFIG = standard()
NOBODY = 65534


def in_group(words: Sequence[str | Path], *more: str) -> list[str | Path]:
    """Run as the units run programs, with `nobody` in the place of `millrace`."""
    who = ["setpriv", "--regid", str(NOBODY), "--clear-groups", "--pdeathsig", "TERM", *more]
    return [*who, "--", *words]


@pytest.fixture(scope="module")
def started(lab: Lab) -> Iterator[Node]:
    node = lab.node
    node.engine_options = ["--control-user", "nobody"]
    os.chown(node.runtime_dir, 0, NOBODY)
    node.runtime_dir.chmod(0o2770)
    os.chown(node.state_dir, NOBODY, NOBODY)
    node.dataplane = node.namespace.service("dataplane", in_group(node.engine_words()))
    capable = ["--inh-caps", "+net_admin", "--ambient-caps", "+net_admin"]
    words = in_group(node.controlplane_words(), "--reuid", str(NOBODY), *capable)
    node.controlplane = node.namespace.service("controlplane", words)
    node.restart_dataplane()
    node.start_controlplane(CONFIG)
    node.wait_adopted()
    node.wait_states("healthy")
    yield node


def answer_of(node: Node, command: str) -> Json:
    """Whatever the command ends with."""
    answer: Json = json.loads(node.cli(command, "--json", check=False).stdout)
    return answer


def next_hops_resolved(node: Node) -> set[bool | None]:
    groups = answer_of(node, "targets")["target_groups"]
    return {target["next_hop_resolved"] for group in groups for target in group["targets"]}


def test_fault_92_engine_that_cannot_be_seen_goes_on_and_is_told_once(lab: Lab, node: Node) -> None:
    assert next_hops_resolved(node) == {True}
    node.controlplane.stop()
    stats = node.runtime_dir / "stats"
    stats.chmod(0o600)
    said = node.controlplane.log.stat().st_size
    node.controlplane.start()
    why = f"cannot open {stats}: Permission denied"
    wait_until(lambda: why in node.cli("status", check=False).stdout, "it is told", timeout_s=10)
    generation = answer_of(node, "status")["generation"]
    time.sleep(15)  # longer than what the kernel says is waited for
    status = node.cli("status", check=False)
    assert status.returncode == 1
    assert status.stdout.count(why) == 1 and "NOT TO BE SEEN" in status.stdout, status.stdout
    alarms = answer_of(node, "status")["alarms"]
    assert len(alarms) == 1, alarms
    assert next_hops_resolved(node) == {None}
    counters = node.cli("counters", check=False)
    assert counters.returncode == 1 and counters.stdout.startswith("Not read: ")
    assert counters.stdout.count("\n") == 1, counters.stdout
    targets = node.cli("targets", check=False)
    assert targets.returncode == 1 and "Not read: " in targets.stdout
    assert "no engine drives" not in targets.stdout and "UNRESOLVED" not in targets.stdout
    log = node.controlplane.log.read_text()[said:]
    assert sum(why in line and "[error]" in line for line in log.splitlines()) == 1, log
    # Forwarding goes on, also by what is published meanwhile.
    node.write_config(standard(weights={1: 300}))
    node.cli("apply", str(node.config_file))
    assert answer_of(node, "status")["generation"] > generation
    time.sleep(0.5)
    for vip in (VIP_V4, VIP_V6):
        assert len(connect_many(lab.client, vip, 50)) == 50
    stats.chmod(0o640)
    wait_until(node.controlplane_answers, "it can be seen again", timeout_s=5)
    node.wait_adopted()
    node.wait_no_alarms()
    assert next_hops_resolved(node) == {True}


def test_fault_36_config_of_another_user_is_not_believed(lab: Lab, node: Node) -> None:
    """Who may put files into the runtime directory may not thereby tell the engine what to do."""
    adopted = node.status()["engine"]["adopted_generation"]
    node.controlplane.stop()
    config = node.runtime_dir / "config"
    planted = config.with_name("planted")
    planted.write_bytes(config.read_bytes())
    os.chown(planted, NOBODY - 1, NOBODY - 1)
    planted.rename(config)
    refused = f"{config}: others than root and the user of this program may write to it"
    wait_until(
        lambda: refused in node.dataplane.log.read_text(), "the engine refuses it", timeout_s=5
    )
    assert len(connect_many(lab.client, VIP_V4, 50)) == 50
    node.controlplane.start()
    node.controlplane.wait_ready(node.controlplane_answers)
    node.wait_adopted()
    assert node.status()["engine"]["adopted_generation"] > adopted
    node.wait_states("healthy")
    assert len(connect_many(lab.client, VIP_V6, 50)) == 50
