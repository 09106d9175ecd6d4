# SPDX-License-Identifier: Apache-2.0
"""How the end-to-end tests are spread over processes: a lab belongs to one, and most of its time is
waiting, so several stand side by side.

A unit of work is what shares a lab: a module's tests with one engine. Units go one after the other
to whichever process is free, the longest first, so that none ends alone. What needs the machine for
itself is marked `alone` and runs afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

ALONE = "alone"
ENGINES = ("dpdk", "xdp")
# More leave too little of two CPUs for each: then tests that look at times fail.
PROCESSES = 4
# Of a test that says nothing of it, against `seconds(n)` of one that takes long.
USUAL_SECONDS = 5


def unit_of(nodeid: str) -> str:
    """The module, and the engine if the test is of one."""
    module, _, test = nodeid.partition("::")
    parameters = test.partition("[")[2].rstrip("]").split("-")
    engine = next((word for word in parameters if word in ENGINES), "")
    return f"{module} {engine}".rstrip()


def longest_first(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """By how many tests a unit has, and what they say that they take."""
    order: dict[str, float] = {}
    listed = list(items)
    for item in listed:
        unit = unit_of(item.nodeid)
        says = item.get_closest_marker("seconds")
        skipped = item.get_closest_marker("skip") is not None
        seconds = 0 if skipped else (says.args[0] if says else USUAL_SECONDS)
        order[unit] = order.get(unit, 0) + seconds
    return sorted(listed, key=lambda item: -order[unit_of(item.nodeid)])


def scheduler(config: pytest.Config, log: Any) -> Any:
    """For `pytest_xdist_make_scheduler`."""
    from xdist.scheduler import LoadScopeScheduling  # absent where tests run in one process

    class UnitScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    return UnitScheduling(config, log)
