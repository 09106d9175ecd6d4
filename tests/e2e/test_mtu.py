# SPDX-License-Identifier: Apache-2.0
"""A link with an MTU of 3000: long frames pass both ways, and what is too long is counted."""

from __future__ import annotations

import socket

import pytest
from lab import Lab, Layout, Node
from lab.addresses import NODE_CLIENT_V4, NODE_CLIENT_V6, VIP_V4, VIP_V6
from lab.configs import standard
from lab.process import wait_until
from lab.traffic import LargeQuery, family_of, ping, upload

MTU = 3000
BODY_BYTES = 800_000  # nginx takes a megabyte
LAYOUT = Layout(mtu=MTU, hugepages=224)
CONFIG = standard()
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
DPDK_ALONE = pytest.mark.only_engine("dpdk", "the kernel's driver counts in its own words")


@VIPS
def test_long_frames_reach_vips_targets_and_the_node(lab: Lab, node: Node, vip: str) -> None:
    headers = 48 if ":" in vip else 28
    own = NODE_CLIENT_V6 if ":" in vip else NODE_CLIENT_V4
    for address in (vip, own):
        ping(lab.client, address, 1)  # may wait for its neighbour for too long
        assert ping(lab.client, address, 3, data_bytes=MTU - headers) == 3
    query = LargeQuery(lab.client, vip)
    assert query.ask(MTU).startswith("t")
    query.close()


@pytest.mark.exact
@VIPS
def test_connections_use_long_segments(lab: Lab, node: Node, vip: str) -> None:
    before = node.totals()
    assert upload(lab.client, vip, BODY_BYTES).target.startswith("t")
    after = node.totals()
    packets = after["forwarded_packets"] - before["forwarded_packets"]
    assert after["forwarded_bytes"] - before["forwarded_bytes"] > BODY_BYTES
    assert packets < BODY_BYTES / 1100, "of 1500 bytes there would be more, with acknowledgements"


def test_twin_has_the_mtu_of_its_nic(lab: Lab, node: Node) -> None:
    shown = node.namespace.ip("link", "show", "dev", node.interface(0))
    assert f"mtu {MTU} " in shown


def rx_errors(node: Node) -> int:
    return int(node.json("counters")["nics"][0]["drops"]["rx_errors"])


def send_too_long(lab: Lab, vip: str, count: int) -> None:
    lab.client.ip("link", "set", "dev", "eth0", "mtu", "3400")
    with lab.client.socket(family_of(vip), socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(bytes(3300), (vip, 53))
    lab.client.ip("link", "set", "dev", "eth0", "mtu", str(MTU))


@DPDK_ALONE
@VIPS
@pytest.mark.parametrize("nic_mtu", [MTU, 3400], ids=["nic refuses", "engine has no room"])
def test_fault_77_frames_that_are_too_long_are_counted(
    lab: Lab, node: Node, vip: str, nic_mtu: int
) -> None:
    switch = lab.namespaces["switch"]
    assert ping(lab.client, vip, 1) == 1  # knows its neighbour
    before = rx_errors(node)
    for port in ("client", "node-nic0"):
        switch.ip("link", "set", "dev", port, "mtu", "3400")
    node.namespace.ip("link", "set", "dev", "nic0", "mtu", str(nic_mtu))
    try:
        send_too_long(lab, vip, 5)
        wait_until(lambda: rx_errors(node) >= before + 5, "they are counted", timeout_s=5)
    finally:
        for port in ("client", "node-nic0"):
            switch.ip("link", "set", "dev", port, "mtu", str(MTU))
        node.namespace.ip("link", "set", "dev", "nic0", "mtu", str(MTU))
    assert rx_errors(node) == before + 5
    assert "rx_errors" in node.cli("status").stdout
    assert ping(lab.client, vip, 3) == 3


@DPDK_ALONE
def test_mtu_that_af_xdp_does_not_take_is_refused(lab: Lab, node: Node) -> None:
    node.dataplane.stop()
    node.namespace.ip("link", "set", "dev", "nic0", "xdp", "off")
    node.namespace.ip("link", "set", "dev", "nic0", "mtu", "9000")
    said = node.namespace.run(node.dataplane_words(), check=False).stderr
    assert (
        "nic nic0: has an MTU of 9000, AF_XDP takes up to 3434; try: ip link set dev nic0 mtu 3434"
        in said
    )
    node.namespace.ip("link", "set", "dev", "nic0", "mtu", "3434")
    node.restart_dataplane()
    node.wait_adopted()
    assert ping(lab.client, VIP_V4, 3) == 3
