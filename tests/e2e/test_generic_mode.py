# SPDX-License-Identifier: Apache-2.0
"""The XDP engine in the kernel's stack instead of the driver: same traffic, same counters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from lab import Lab, Layout, Node
from lab.addresses import NODE_CLIENT_V4, NODE_CLIENT_V6, VIP_V4, VIP_V6
from lab.checks import TARGETS, assert_dns_is_shared, assert_http_is_shared
from lab.configs import direct, standard
from lab.process import LabError, wait_until
from lab.target import BLOB_BYTES
from lab.traffic import download, ping, upload

pytestmark = pytest.mark.only_engine("xdp", "generic is a mode of XDP")
PLACES = {
    "nat": (Layout(noise_per_second=0), standard()),
    "ipip": (
        Layout(dsr=True, encapsulated=True, noise_per_second=0),
        direct("ipip"),
    ),
}
ATTACHED = {"native": 1, "generic": 2}  # XDP_ATTACHED_DRV, XDP_ATTACHED_SKB
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
REQUESTS = 100


@pytest.fixture(scope="module", params=PLACES)
def forwarding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(forwarding: str, engine: str) -> Iterator[Lab]:
    layout, config = PLACES[forwarding]
    with Lab(layout, engine=engine) as lab:
        lab.node.start(config)
        lab.node.wait_states("healthy")
        yield lab


@pytest.fixture(scope="module", params=ATTACHED)
def started(request: pytest.FixtureRequest, lab: Lab) -> Node:
    """In that mode, changed to on the way if it was the other one."""
    node = lab.node
    if node.xdp_mode != request.param:
        assert node.dataplane.stop() == 0
        node.xdp_mode = request.param
        node.start_dataplane()
        node.wait_adopted()
    return node


def assert_grows(node: Node, before: Counter[str], counters: set[str], by: int) -> None:
    """`counters` together, since `before`."""

    def grown() -> int:
        return sum((node.totals() - before)[counter] for counter in counters)

    try:
        wait_until(lambda: grown() >= by, f"{counters} grow by {by}", timeout_s=5)
    except LabError:
        pass  # the comparison says more
    assert grown() == by, node.totals() - before


def test_the_program_is_attached_in_that_mode(node: Node) -> None:
    (shown,) = json.loads(node.namespace.ip("-json", "link", "show", "nic0"))
    assert shown["xdp"]["mode"] == ATTACHED[node.xdp_mode]


@VIPS
def test_udp_is_forwarded_and_counted_to_the_packet(
    lab: Lab, node: Node, forwarding: str, vip: str
) -> None:
    before = node.totals()
    assert_dns_is_shared(lab.client, vip, REQUESTS)
    packets = REQUESTS * (
        2 if forwarding == "nat" else 1
    )  # encapsulated ones are not answered here
    assert_grows(node, before, {"forwarded_packets"}, by=packets)
    # A port may come a second time, so that its flow is known.
    assert_grows(node, before, {"flow_inserted", "flow_hits"}, by=packets)


@VIPS
def test_tcp_is_forwarded_with_the_clients_address(lab: Lab, node: Node, vip: str) -> None:
    before = node.totals()
    assert_http_is_shared(lab.client, vip, REQUESTS)
    assert_grows(node, before, {"flow_inserted"}, by=REQUESTS)
    assert_grows(node, before, {"untracked_packets"}, by=0)


@VIPS
def test_what_is_large_arrives_whole(lab: Lab, node: Node, vip: str) -> None:
    """Segments of a full MTU both ways; encapsulated ones once the client knows what fits."""
    assert download(lab.client, vip) == BLOB_BYTES
    assert upload(lab.client, vip, 300_000).target in TARGETS


@VIPS
def test_the_node_answers_echo_for_the_vip_and_the_kernel_for_itself(
    lab: Lab, node: Node, vip: str
) -> None:
    own = NODE_CLIENT_V6 if ":" in vip else NODE_CLIENT_V4
    for address, counter in ((vip, "replied_packets"), (own, "punted_packets")):
        before = node.totals()[counter]
        assert ping(lab.client, address, 3) == 3
        wait_until(lambda: node.totals()[counter] >= before + 3, counter, timeout_s=5)


@VIPS
def test_frames_that_a_sender_leaves_to_the_kernel_to_cut_are_no_large_packets(
    engine: str, vip: str
) -> None:
    """On one machine a connection's frames come as long as TCP makes them, when nothing cuts them
    on the way. Targets that hold the VIP get them as they are."""
    with Lab(Layout(dsr=True, noise_per_second=0), engine=engine) as lab:
        lab.node.xdp_mode = "generic"
        lab.node.start(direct())
        lab.node.wait_states("healthy")
        switch = lab.namespaces["switch"]
        for host, name in ((lab.client, "eth0"), (switch, "client"), (switch, "node-nic0")):
            host.run(["ethtool", "--offload", name, "tx", "on", "sg", "on", "tso", "on"])
        before = lab.node.totals()
        assert upload(lab.client, vip, 800_000).target in TARGETS
        grown = lab.node.totals() - before
        assert grown["too_big_sent"] == 0
        assert grown["forwarded_bytes"] / grown["forwarded_packets"] > 3000, "no frame was long"
