# SPDX-License-Identifier: Apache-2.0
"""The DPDK engine with millrace-pktgen at the other end of a memif, without a kernel between."""

from __future__ import annotations

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import emulated
from lab.generator import assert_clean, connections, wait_healthy

LAYOUT = Layout(clients=0, targets=0, generator="memif")
pytestmark = pytest.mark.only_engine("dpdk", "memif is a device of DPDK's")


@pytest.fixture(scope="module")
def started(lab: Lab) -> Node:
    """Not waited for: targets are healthy when the generator runs."""
    if not lab.generator.program.exists():
        pytest.skip("millrace-pktgen is not built (ninja -C build bench)")
    lab.node.start(emulated())
    return lab.node


@pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
@pytest.mark.parametrize("forwarding", ["nat", "dsr"])
def test_every_connection_completes_at_one_target(
    lab: Lab, node: Node, forwarding: str, vip: str
) -> None:
    node.apply(emulated(forwarding))
    node.namespace.ip("neighbour", "flush", "dev", node.interface(0))
    profile = {"connections": connections(vip, forwarding=forwarding, rate="10kcps")}
    with lab.generator.running(profile, seconds=1):
        wait_healthy(node, vip)
        found = assert_clean(lab.generator.result(), opened=3000)
    assert sum(1 for count in found["by_target"] if count > 0) == 20
