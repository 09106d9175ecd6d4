# SPDX-License-Identifier: Apache-2.0
"""How the end-to-end tests are spread over processes: a lab belongs to one, and most of its time is
waiting, so several stand side by side.

A unit of work is what shares a lab: a module's tests with one engine. Every process collects all
tests; then each takes the unit that nobody has claimed yet, the longest first, so that none is left
alone with a long one. A claim is a file. What needs the machine for itself is marked `alone`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ALONE = "alone"
ENGINES = ("dpdk", "xdp")
# Of a test that says nothing of it, against `seconds(n)` of one that takes long.
USUAL_SECONDS = 5.0


def unit_of(nodeid: str) -> str:
    """The module, and the engine if the test is of one."""
    module, _, test = nodeid.partition("::")
    parameters = test.partition("[")[2].rstrip("]").split("-")
    engine = next((word for word in parameters if word in ENGINES), "")
    return f"{module} {engine}".rstrip()


def units_of(items: Sequence[pytest.Item]) -> list[list[pytest.Item]]:
    """The tests by unit, the longest first by what they say that they take."""
    units: dict[str, list[pytest.Item]] = {}
    for item in items:
        units.setdefault(unit_of(item.nodeid), []).append(item)
    return sorted(units.values(), key=_seconds, reverse=True)


def _seconds(unit: Sequence[pytest.Item]) -> float:
    total = 0.0
    for item in unit:
        says = item.get_closest_marker("seconds")
        if item.get_closest_marker("skip") is None:
            total += float(says.args[0]) if says else USUAL_SECONDS
    return total


def claimed_units(items: Sequence[pytest.Item], claims: Path) -> Iterator[list[pytest.Item]]:
    """One after the other, those that this process is the first to ask for."""
    for number, unit in enumerate(units_of(items)):
        try:
            os.close(os.open(claims / str(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            continue
        yield unit


def run_claimed(session: pytest.Session, claims: Path) -> None:
    """pytest's own loop over what is claimed: a unit's last test takes its lab down."""
    for unit in claimed_units(session.items, claims):
        for item, following in zip(unit, [*unit[1:], None]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
