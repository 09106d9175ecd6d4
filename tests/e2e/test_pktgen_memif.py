# SPDX-License-Identifier: Apache-2.0
"""The DPDK engine with millrace-pktgen at the other end of a memif, without a kernel between."""

from __future__ import annotations

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4
from lab.configs import emulated
from lab.generator import assert_clean, connections

LAYOUT = Layout(clients=0, targets=0, generator="memif")
pytestmark = pytest.mark.only_engine("dpdk", "memif is a device of DPDK's")


@pytest.fixture(scope="module")
def started(lab: Lab) -> Node:
    """Not waited for: targets are healthy when the generator runs."""
    if not lab.generator.program.exists():
        pytest.skip("millrace-pktgen is not built (ninja -C build bench)")
    lab.node.start(emulated())
    return lab.node


def test_every_connection_completes_at_one_target(lab: Lab, node: Node) -> None:
    """One run alone: DPDK's driver may crash an engine when the other end goes."""
    profile = {"connections": connections(VIP_V4, rate="10kcps")}
    with lab.generator.running(profile, seconds=1):
        lab.generator.begin(node, VIP_V4)
        found = assert_clean(lab.generator.result(), opened=3000)
    assert sum(1 for count in found["by_target"] if count > 0) == 20
