# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests: one lab per module, every test bounded in time.

A module says what it needs: LAYOUT (lab.Layout), CONFIG (a config as a dictionary), WORKERS. Every
test that uses the lab runs with each engine, unless it is marked `only_engine(name, reason)`. After
each test that uses `node`, every worker's packets must balance. Modules run side by side
(gate/spread.py), but for those that are marked `alone`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "deploy")]

from gate import spread  # noqa: E402
from lab import Lab, Layout, Node  # noqa: E402
from lab.configs import standard  # noqa: E402
from lab.node import ENGINES, program_path  # noqa: E402
from lab.process import PATIENCE  # noqa: E402

TEST_SECONDS_MAX = 90


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also what takes long")
    parser.addoption("--claims", type=Path, help="a folder: share the tests with who has it, too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: takes long, runs only with --full")
    config.addinivalue_line("markers", "seconds(n): may take n seconds instead of the usual bound")
    config.addinivalue_line("markers", "only_engine(name, reason): makes no sense with the other")
    config.addinivalue_line("markers", "exact: counts packets, so that nobody else may send any")
    config.addinivalue_line("markers", "alone: beside other labs it would measure those")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        raise pytest.UsageError("the lab needs root for network namespaces")
    for item in items:
        only = item.get_closest_marker("only_engine")
        params: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
        if only is not None and params.get("engine", only.args[0]) != only.args[0]:
            item.add_marker(pytest.mark.skip(reason=f"{only.args[0]} alone: {only.args[1]}"))
    if not config.getoption("--full"):
        skip = pytest.mark.skip(reason="takes long: --full")
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(skip)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With --claims: what no other process has claimed."""
    claims = session.config.getoption("--claims")
    if claims is None or session.config.option.collectonly or session.testsfailed:
        return None
    spread.run_claimed(session, claims)
    return True


@pytest.fixture(autouse=True)
def bounded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that hangs, from inside, so that its lab is still taken down."""
    marker = request.node.get_closest_marker("seconds")
    seconds = int((marker.args[0] if marker else TEST_SECONDS_MAX) * PATIENCE)

    def expire(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    program = ENGINES[request.param]
    if not program_path(program).exists():
        pytest.skip(f"{program} is no part of this build")
    return str(request.param)


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, engine: str) -> Iterator[Lab]:
    """The module's network with its servers; Millrace is not started."""
    with Lab(getattr(request.module, "LAYOUT", Layout()), engine=engine) as lab:
        yield lab


@pytest.fixture(scope="module")
def started(request: pytest.FixtureRequest, lab: Lab) -> Node:
    """Millrace with the module's config, all its targets healthy."""
    config = getattr(request.module, "CONFIG", None) or standard()
    lab.node.start(config, workers=getattr(request.module, "WORKERS", 1))
    lab.node.wait_states("healthy")
    return lab.node


@pytest.fixture
def node(request: pytest.FixtureRequest, lab: Lab, started: Node) -> Iterator[Node]:
    lab.surroundings.complaints()  # of another test
    with lab.surroundings.quiet() if request.node.get_closest_marker("exact") else nullcontext():
        yield started
    assert lab.surroundings.complaints() == []
    if started.dataplane.running and started.controlplane.running:
        for worker in started.settled_balances():
            assert worker.balanced, worker.equation


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """Shows what the programs said last when a test fails."""
    outcome: Any = yield
    report = outcome.get_result()
    lab = next((v for v in getattr(item, "funcargs", {}).values() if isinstance(v, Lab)), None)
    if report.failed and lab is not None:
        for service in (lab.node.dataplane, lab.node.controlplane):
            report.sections.append((service.name, service.log_tail(30)))
