# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests in a virtual machine (tests/support/vm)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# An emulated processor is slower than this machine's, by ten times and more.
os.environ.setdefault("MILLRACE_LAB_PATIENCE", "5")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "deploy")]

from vm import Kernel  # noqa: E402


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """Debian 12's own."""
    return Kernel.find()
