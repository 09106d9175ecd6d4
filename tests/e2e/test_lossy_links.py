# SPDX-License-Identifier: Apache-2.0
"""A way between clients and node that loses, doubles, delays and reorders packets.

netem does it, both ways. `tests/run vm` has a kernel with it where this machine's has none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from lab import Lab, Namespace, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.machine import kernel_has
from lab.traffic import TcpStreams, UdpStream, connect_many

CLIENT_PORT = "client"  # of the switch
LOSSY = "loss 2% duplicate 5% delay 8ms 4ms reorder 25% 50%".split()
SECONDS = 5
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])


@pytest.fixture
def lossy(lab: Lab, node: Node) -> Iterator[None]:
    if not kernel_has("sch_netem"):
        pytest.skip("this kernel has no netem (tests/run vm has one that does)")
    ends = [(lab.client, "eth0"), (lab.switch.namespace, CLIENT_PORT)]
    with ExitStack() as stack:
        for end, interface in ends:
            qdisc(end, "add", interface, "netem", *LOSSY)
            stack.callback(qdisc, end, "delete", interface)
        yield
        for end, interface in ends:
            said = end.run(["tc", "-statistics", "qdisc", "show", "dev", interface]).stdout
            assert "dropped 0," not in said, said


def qdisc(host: Namespace, what: str, interface: str, *words: str) -> None:
    host.run(["tc", "qdisc", what, "dev", interface, "root", *words])


@VIPS
def test_fault_57_connections_complete_at_one_target(
    lab: Lab, node: Node, lossy: None, vip: str
) -> None:
    assert len(connect_many(lab.client, vip, 100, parallel=20)) >= 98  # a SYN may be lost thrice


@VIPS
def test_fault_57_long_connections_stay_whole(lab: Lab, node: Node, lossy: None, vip: str) -> None:
    with TcpStreams(lab.client, vip, connections=10) as tcp, UdpStream(
        lab.client, vip, per_second=50
    ) as udp:
        time.sleep(SECONDS)
        long_lived, datagrams = tcp.stop(), udp.stop()
    assert long_lived.errors == [] and long_lived.lost == 0 and long_lived.moved == 0, long_lived
    assert datagrams.errors == [] and len(datagrams.targets) == 1, datagrams
