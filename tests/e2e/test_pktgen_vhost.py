# SPDX-License-Identifier: Apache-2.0
"""The DPDK engine with millrace-pktgen at the other end of a vhost-user socket, as a virtual
machine or a container with virtio would be."""

from __future__ import annotations

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import emulated
from lab.generator import assert_clean, connections

LAYOUT = Layout(clients=0, targets=0, generator="vhost")
pytestmark = pytest.mark.only_engine("dpdk", "vhost is a device of DPDK's")


@pytest.fixture(scope="module")
def started(lab: Lab) -> Node:
    """Not waited for: targets are healthy when the generator runs."""
    if not lab.generator.program.exists():
        pytest.skip("millrace-pktgen is not built (ninja -C build bench)")
    lab.node.start(emulated())
    return lab.node


@pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
def test_every_connection_completes_at_one_target(lab: Lab, node: Node, vip: str) -> None:
    """The second run finds the socket that the first one left."""
    profile = {"connections": connections(vip, rate="5kcps")}
    with lab.generator.running(profile, seconds=1):
        lab.generator.begin(node, vip)
        found = assert_clean(lab.generator.result(), opened=1500)
    assert sum(1 for count in found["by_target"] if count > 0) == 20
