# SPDX-License-Identifier: Apache-2.0
"""bench/pktgen/search-millrace searches a real engine's limits to the end and leaves nothing. How
high they are is not looked at: the loads here are ones that any machine carries."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lab.generator import PROGRAM
from lab.machine import reap_dead_runs
from lab.node import REPOSITORY, build_directory

pytestmark = pytest.mark.alone
FOLDER = REPOSITORY / "bench" / "pktgen"
SHORT = ("--trial-seconds", "0.2", "--sum-seconds", "0.2", "--width", "0.5", "--warm-up", "1")


def searched(engine: str, folder: Path, *words: str) -> str:
    """What is said of it; each search's result is in `folder`."""
    if not (build_directory() / PROGRAM).exists():
        pytest.skip("millrace-pktgen is not built (ninja -C build bench)")
    command: list[str | Path] = [
        FOLDER / "search-millrace",
        "--engine",
        engine,
        "--build",
        build_directory(),
    ]
    command += ["--json", folder, *SHORT, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, done.stderr
    assert not reap_dead_runs(), "nothing is left behind"
    said: str = done.stdout
    return said


def assert_carried(found: dict[str, Any], load: float) -> None:
    for one in found["found"]:
        assert (one["lower"], one["upper"]) == (load, None), found
    for trial in found["trials"]:
        assert trial["violations"] == 0
        assert trial["sent"] > 0
    assert found["machine"]["processor"]


# Between them the engines have every search.
NAMES = {"dpdk": ("throughput", "connections"), "xdp": ("throughput", "concurrent")}


def test_every_search_ends_with_what_is_carried(engine: str, tmp_path: Path) -> None:
    names = NAMES[engine]
    page, folder = tmp_path / "report.html", tmp_path / "found"
    words = ("--only", ",".join(names), "--max", "500", "--open-rate", "2000")
    said = searched(engine, folder, *words, "--report", str(page))
    for name in names:
        assert_carried(json.loads((folder / f"{name}.json").read_text()), 500)
    assert said.count("| 500 | not reached | the highest that was tried |") == 3
    assert page.read_text().count("<h2>Search: ") == len(names)
