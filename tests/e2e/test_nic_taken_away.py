# SPDX-License-Identifier: Apache-2.0
"""A NIC that the kernel takes away under the running engine: a driver that is loaded anew, a NIC of
a virtual machine that is unplugged, a move to another network namespace. Or it loses its link while
another one is on the same wire."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.process import wait_until
from lab.traffic import TcpStreams, connect_many
from lab.wires import TARGET_BRIDGE

LAYOUT = Layout(two_nics=True, hugepages=224)
DPDK_ALONE = pytest.mark.only_engine("dpdk", "the XDP engine attaches its program again")


def wait_alarm(node: Node, said: str) -> None:
    wait_until(
        lambda: any(said in alarm for alarm in node.status()["alarms"]),
        f"an alarm is raised: {said}",
        timeout_s=5,
    )


def wait_served(lab: Lab) -> None:
    wait_until(
        lambda: all(len(connect_many(lab.client, vip, 4)) == 4 for vip in (VIP_V4, VIP_V6)),
        "both VIPs answer",
        timeout_s=40,
    )


def restart(lab: Lab, node: Node) -> None:
    node.dataplane.stop()
    node.restart_dataplane()
    node.wait_adopted()
    wait_served(lab)
    node.wait_states("healthy")
    node.wait_no_alarms()


@DPDK_ALONE
def test_fault_92_nic_that_was_away_is_told_of_though_it_looks_as_before(
    lab: Lab, node: Node
) -> None:
    elsewhere = lab.host("elsewhere")
    with node.outage.lasting():
        node.namespace.ip("link", "set", "nic1", "netns", elsewhere.name)
        elsewhere.ip("link", "set", "nic1", "netns", node.namespace.name)
        node.namespace.ip("link", "set", "nic1", "up")
        assert "xsk_def_prog" in node.namespace.ip("link", "show", "nic1")
        wait_alarm(node, "nic nic1 has lost its XDP program: nothing that comes in by it")
        assert "nic nic1: was taken away from this engine" in node.dataplane.log.read_text()
        restart(lab, node)


def plug_again(lab: Lab, node: Node, mac: str) -> None:
    """As a driver makes its interface anew: the same name and MAC address, another number."""
    lab.switch.plug(node.namespace, "nic1", TARGET_BRIDGE, "node-nic1")
    node.namespace.ip("link", "set", "nic1", "address", mac)
    if node.engine == "xdp":
        passes = str(node.build / "deploy/lab/pass.bpf.o")
        words = ["dev", "node-nic1", "xdp", "object", passes, "section", "xdp"]
        lab.namespaces["switch"].ip("link", "set", *words)


def test_fault_92_nic_that_comes_back_as_another_blames_no_target(lab: Lab, node: Node) -> None:
    own, mac = node.addresses_of(node.interface(1)), node.status()["engine"]["nics"][1]["mac"]
    said = "is gone" if node.engine == "xdp" else "has lost its XDP program"
    with ExitStack() as stack:
        streams = [
            stack.enter_context(TcpStreams(lab.client, vip, connections=10))
            for vip in (VIP_V4, VIP_V6)
        ]
        stack.enter_context(node.outage.lasting())
        node.namespace.ip("link", "delete", "nic1")
        wait_alarm(node, f"nic nic1 {said}")
        for _ in range(30):
            assert {view.state for view in node.targets()} == {"healthy"}
            time.sleep(0.1)
        log = node.dataplane.log.read_text()
        assert "restart the" in log and "refused" not in log and "optmem" not in log
        plug_again(lab, node, mac)
        if node.engine == "xdp":
            for address in own:
                node.namespace.add_address("nic1", address)
            node.dress()
        restart(lab, node)
        for stream in streams:
            report = stream.stop()
            # Until the new interface is closed, XDP's kernel may forward what a target says.
            assert report.moved == 0 and (report.errors == [] or node.engine == "xdp"), report


def test_fault_76_interface_that_takes_its_routes_with_it_blames_no_target(
    lab: Lab, node: Node
) -> None:
    """The default route is left, by which nobody reaches the targets."""
    interface = node.interface(1)
    own = node.addresses_of(interface)
    with node.outage.lasting():
        node.namespace.ip("link", "set", interface, "down")
        for _ in range(40):
            assert {view.state for view in node.targets()} == {"healthy"}
            time.sleep(0.1)
        node.namespace.ip("link", "set", interface, "up")
        for address in set(own) - set(node.addresses_of(interface)):
            node.namespace.add_address(interface, address)
        node.dress()
    wait_served(lab)
    node.wait_states("healthy")
    node.wait_no_alarms()


def test_fault_76_nic_on_the_same_wire_takes_over(lab: Lab, node: Node) -> None:
    switch = lab.namespaces["switch"]
    far = [target.name for target in lab.targets] + ["node-nic1"]
    try:
        for port in far:
            switch.ip("link", "set", port, "master", "br-clients")
        wait_served(lab)
        lab.set_port("node-nic0", False)
        began = time.monotonic()
        wait_served(lab)
        assert time.monotonic() - began < 15
    finally:
        lab.set_port("node-nic0", True)
        for port in far:
            switch.ip("link", "set", port, "master", "br-targets")
    wait_served(lab)
    node.wait_no_alarms()
