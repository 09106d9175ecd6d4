# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests in a virtual machine: each test boots one of its own (tests/support/vm)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from vm import Kernel  # noqa: E402


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """Debian 12's own."""
    return Kernel.find()
