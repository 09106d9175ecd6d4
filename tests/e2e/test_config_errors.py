# SPDX-License-Identifier: Apache-2.0
"""demo.yaml edited wrongly: each edit gives its own clear error, and what runs goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from lab import Lab, Node
from lab.addresses import VIP_V4
from lab.node import REPOSITORY
from lab.traffic import http_get

CONFIG = REPOSITORY / "deploy" / "examples" / "demo.yaml"
DEMO = CONFIG.read_text()
pytestmark = pytest.mark.only_engine("dpdk", "the engine plays no part in it")


@dataclass(frozen=True)
class Edit:
    """Replaces the first `old` by `new`; the error must contain every one of `told`."""

    name: str
    old: str
    new: str
    told: tuple[str, ...]


EDITS = (
    Edit("unknown key", "protocol: TCP, port: 80", "protocl: TCP, port: 80", ("protocl",)),
    Edit("port out of range", "port: 80,", "port: 65536,", ("listeners[0].port", "65535")),
    Edit("port zero", "port: 53,", "port: 0,", ("listeners[1].port",)),
    Edit("unknown protocol", "{protocol: TCP,", "{protocol: SCTP,", ("protocol", "SCTP")),
    Edit("dangling reference", "ipv4: http-4", "ipv4: http-9", ("http-9",)),
    Edit("duplicate group name", "name: dns-4", "name: http-4", ("target_groups[2]", "http-4")),
    Edit("not an address", "id: 10.0.1.12", "id: 10.0.1.512", ("targets[1].id", "10.0.1.512")),
    Edit("duplicate target", "id: 10.0.1.12", "id: 10.0.1.11", ("targets[1]", "10.0.1.11")),
    Edit("family mix", "id: 10.0.1.13", 'id: "fd00:10:1::13"', ("targets[2]",)),
    Edit("weight", "{id: 10.0.1.11,", "{id: 10.0.1.11, weight: 1000,", ("weight", "999")),
    Edit("negative weight", "{id: 10.0.1.11,", "{id: 10.0.1.11, weight: -1,", ("weight",)),
    Edit("threshold", "healthy_threshold: 2", "healthy_threshold: 11", ("healthy_threshold", "10")),
    Edit("matcher", "matcher: 200-299", "matcher: 200-700", ("matcher",)),
    Edit("forwarding", "forwarding: nat", "forwarding: teleport", ("forwarding", "teleport")),
    Edit("VIP twice", '"2001:db8:113::10"]', "203.0.113.10]", ("addresses[1]", "203.0.113.10")),
    Edit("duplicate key", "node: {name: lb-1,", "node: {name: lb-1, name: lb-2,", ("name",)),
    Edit(
        "cut short", "targets:\n      - {id: 10.0.1.11, zone: a}", "targets:\n      - {id: 10.", ()
    ),
)


def broken(edit: Edit, folder: Path) -> Path:
    assert edit.old in DEMO, f"{edit.name}: demo.yaml no longer has '{edit.old}'"
    path = folder / "edited.yaml"
    path.write_text(DEMO.replace(edit.old, edit.new, 1))
    return path


@pytest.mark.parametrize("edit", EDITS, ids=[edit.name for edit in EDITS])
def test_wrong_edit_is_refused_with_place_and_reason(
    lab: Lab, node: Node, tmp_path: Path, edit: Edit
) -> None:
    path = broken(edit, tmp_path)
    generation = node.status()["generation"]
    for command in ("validate", "apply"):
        done = node.cli(command, str(path), check=False)
        assert done.returncode != 0
        assert "edited.yaml:" in done.stderr, done.stderr
        for word in edit.told:
            assert word in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) < 10
    assert node.status()["generation"] == generation
    assert len(http_get(lab.client, VIP_V4, 5)) == 5


@pytest.mark.parametrize("text", ["", "null\n", "[]\n", "\0\0", "a" * 100, "{" * 5000])
def test_empty_or_senseless_file_is_refused(
    lab: Lab, node: Node, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "edited.yaml"
    path.write_text(text)
    generation = node.status()["generation"]
    done = node.cli("apply", str(path), check=False)
    assert done.returncode != 0 and "edited.yaml" in done.stderr, done.stderr
    assert node.status()["generation"] == generation
    assert len(http_get(lab.client, VIP_V4, 5)) == 5


def test_all_errors_of_a_file_are_told_at_once(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "edited.yaml"
    text = DEMO.replace("port: 80,", "port: 65536,", 1).replace("id: 10.0.1.12", "id: x", 1)
    path.write_text(text)
    done = node.cli("validate", str(path), check=False)
    assert "listeners[0].port" in done.stderr and "targets[1].id" in done.stderr


def test_file_that_is_not_there_is_named(node: Node) -> None:
    done = node.cli("apply", "/nowhere/at/all.yaml", check=False)
    assert done.returncode != 0
    assert "/nowhere/at/all.yaml" in done.stderr and "No such file" in done.stderr


def test_examples_are_valid(node: Node) -> None:
    for path in sorted((REPOSITORY / "deploy" / "examples").glob("*.yaml")):
        assert node.cli("validate", str(path)).returncode == 0
