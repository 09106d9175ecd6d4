# SPDX-License-Identifier: Apache-2.0
"""Tests that are run at several places of several guests, which are called worlds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pytest


class World(Protocol):
    """A guest, with the places that are tried in it one after the other."""

    @property
    def name(self) -> str:
        ...

    @property
    def places(self) -> Sequence[object]:
        ...


def parametrize_by_place(metafunc: pytest.Metafunc, worlds: Sequence[World]) -> None:
    """Gives the fixture `made` a world and `station` a place of it: each guest is made once."""
    pairs = [
        pytest.param(world, place, id=f"{world.name}-{place}")
        for world in worlds
        for place in world.places
    ]
    metafunc.parametrize("made,station", pairs, indirect=True, scope="module")
