# SPDX-License-Identifier: Apache-2.0
"""Floods beside real connections: those go on, memory and the flow table stay bounded, and every
packet of the flood is accounted for (by the `node` fixture, to the packet)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import emulated
from lab.generator import assert_clean, connections
from lab.views import Json

pytestmark = pytest.mark.alone
LAYOUT = Layout(clients=0, targets=0, generator="fast")
# Two seconds each: some are established before the flood is at its height, others open in it.
LONG: dict[str, Any] = {"rate": "300cps", "requests": 20, "think_ms": 100}
SECONDS = 6
# A table that the slowest flood fills: flows that nothing confirmed make way for each other then.
FLOWS = 16384


@pytest.fixture(scope="module")
def started(lab: Lab) -> Node:
    """Not waited for: targets are healthy when the generator runs."""
    if not lab.generator.program.exists():
        pytest.skip("millrace-pktgen is not built (ninja -C build bench)")
    # What finds no room in the table is forwarded by lookup table alone, and while a slot has two
    # targets (a deregistration delay after any change of the targets) that is not steady.
    lab.node.flows = FLOWS
    lab.node.start(emulated(attributes={"deregistration_delay.timeout_seconds": 1}))
    return lab.node


def flood(name: str, **keys: Any) -> dict[str, Any]:
    """From sources that hardly ever come twice, more than the flow table has room for."""
    return {
        "name": name,
        "protocol": "TCP",
        "measure": False,
        "clients": "10.128.0.0/9",
        "destination": VIP_V4,
        "port": 80,
        "flows": {"count": 100_000_000, "order": "random"},
        "rate": "12kpps",
        **keys,
    }


class Watch:
    """The most that the engine had of anything while a flood ran."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.flows_max = 0
        self.resident_kib: list[int] = []

    def look(self) -> None:
        workers = self._node.status()["engine"]["workers"]
        self.flows_max = max(self.flows_max, sum(worker["flows_active"] for worker in workers))
        status = Path(f"/proc/{self._node.dataplane.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        self.resident_kib.append(int(line.split()[1]))


@contextmanager
def watching(node: Node) -> Iterator[Watch]:
    watch = Watch(node)
    watch.look()
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(0.5):
            watch.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watch
    finally:
        is_over.set()
        thread.join()


def flooded(lab: Lab, node: Node, *streams: dict[str, Any]) -> Json:
    """What a run with connections and these streams found."""
    profile = {"connections": connections(VIP_V4, **LONG), "streams": list(streams)}
    with lab.generator.running(profile, seconds=SECONDS):
        lab.generator.begin(node, VIP_V4)
        with watching(node) as watch:
            result = lab.generator.result()
    assert_clean(result, opened=SECONDS * 200)
    sent = sum(stream["sent_packets"] for stream in result["streams"])
    assert sent > SECONDS * 4000, "the machine could not make the flood"
    assert watch.flows_max <= FLOWS
    # Flows have their memory from the start; shared pages count when they are first touched.
    assert max(watch.resident_kib) - watch.resident_kib[0] < 16384, watch.resident_kib
    return result


def test_fault_20_connections_live_through_a_syn_flood(lab: Lab, node: Node) -> None:
    before = node.totals()["flow_given_up"]
    flooded(lab, node, flood("syn", flags="S"))
    assert node.totals()["flow_given_up"] > before


def test_fault_21_connections_live_through_acks_resets_and_fins(lab: Lab, node: Node) -> None:
    before = node.totals()["flow_given_up"]
    flooded(
        lab,
        node,
        flood("ack", flags="A", rate="5kpps"),
        flood("rst", flags="R", rate="5kpps"),
        flood("fin", flags="FA", rate="5kpps"),
    )
    assert node.totals()["flow_given_up"] > before


def test_fault_22_connections_live_through_a_udp_flood(lab: Lab, node: Node) -> None:
    before = node.totals()["flow_given_up"]
    flooded(lab, node, flood("udp", protocol="UDP", port=53))
    assert node.totals()["flow_given_up"] > before


def test_connections_live_among_malformed_packets(lab: Lab, node: Node) -> None:
    before = node.drops()
    result = flooded(
        lab,
        node,
        {**flood("v4", rate="6kpps"), "kind": "malformed"},
        {
            **flood("v6", rate="6kpps"),
            "kind": "malformed",
            "clients": "2001:db8:19::/112",
            "destination": VIP_V6,
        },
    )
    dropped = node.drops() - before
    assert len(dropped) >= 10, dropped
    # Some kinds are whole and go their way: other protocols' frames, echo, what is not for a VIP.
    sent = sum(stream["sent_packets"] for stream in result["streams"])
    assert 0.5 * sent < sum(dropped.values()) <= sent, dropped
