# SPDX-License-Identifier: Apache-2.0
"""Owning addresses on a link without the kernel: further and changing MAC addresses, switches that
snoop on MLD, VLAN tags, and a VIP that is the node's own address."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from lab import Lab, Node
from lab.addresses import (
    NODE_CLIENT_V4,
    NODE_TARGET_V4,
    NODE_TARGET_V6,
    VIP_V4,
    VIP_V6,
)
from lab.configs import standard
from lab.frames import frame_to, send_frames
from lab.namespace import Namespace
from lab.process import wait_until as wait_until_within
from lab.traffic import connect_many, dns_query, http_get, ping
from lab.wires import FORGETS_WITHIN_S

VIPS = (VIP_V4, VIP_V6)
VRRP_MAC = "00:00:5e:00:01:33"
FOREIGN_MAC = "02:00:00:00:00:77"
VRRP_V4, VRRP_V6 = "10.0.1.200", "fd00:10:1::c8"
ETH_P_ALL = 3


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 10) -> None:
    wait_until_within(condition, what, timeout_s=timeout_s, interval_s=0.1)


def mac_of(host: Namespace, interface: str) -> str:
    shown = json.loads(host.ip("-json", "link", "show", "dev", interface))
    return str(shown[0]["address"])


def all_answer(client: Namespace) -> bool:
    """TCP and UDP by both VIPs."""
    return all(
        len(http_get(client, vip, 2)) == 2 and len(dns_query(client, vip, 2)) == 2 for vip in VIPS
    )


def wait_all_answer(client: Namespace, what: str) -> None:
    wait_until(lambda: all_answer(client), what, timeout_s=20)


# ---- MAC addresses


@contextmanager
def vrrp_router(node: Node, targets: list[Namespace]) -> Iterator[None]:
    """A virtual router on the node as keepalived makes it, which the targets send replies to."""
    host, below = node.namespace, node.interface(0)
    words = ["link", below, "name", "vrrp51", "address", VRRP_MAC]
    host.ip("link", "add", *words, "type", "macvlan", "mode", "private")
    for interface in (below, "vrrp51"):
        host.sysctl(f"net.ipv4.conf.{interface}.arp_ignore", "1")
    host.ip("link", "set", "vrrp51", "up")
    host.ip("address", "add", f"{VRRP_V4}/32", "dev", "vrrp51")
    host.ip("address", "add", f"{VRRP_V6}/128", "dev", "vrrp51", "nodad")
    try:
        for target in targets:
            target.add_route("0.0.0.0/0", "via", VRRP_V4)
            target.add_route("::/0", "via", VRRP_V6)
        yield
    finally:
        for target in targets:
            target.add_route("0.0.0.0/0", "via", NODE_TARGET_V4)
            target.add_route("::/0", "via", NODE_TARGET_V6)
        host.ip("link", "delete", "vrrp51")
        host.sysctl(f"net.ipv4.conf.{below}.arp_ignore", "0")


def test_fault_71_replies_come_by_a_vrrp_address_of_the_node(lab: Lab, node: Node) -> None:
    hosts = [target.namespace for target in lab.targets]
    with vrrp_router(node, hosts):
        wait_all_answer(lab.client, "VIPs answer by the VRRP address")
        # What is the node's own behind that MAC address is still the kernel's.
        for host in hosts:
            for address in (VRRP_V4, VRRP_V6):
                assert ping(host, address) > 0
                shown = host.ip("neighbour", "show", address)
                assert VRRP_MAC in shown, shown
        assert all_answer(lab.client)
    wait_all_answer(lab.client, "VIPs answer as before")


def link_local_of(host: Namespace, interface: str) -> str:
    shown = json.loads(host.ip("-json", "-6", "address", "show", "dev", interface))
    own = (str(entry["local"]) for entry in shown[0]["addr_info"])
    return next(address for address in own if address.startswith("fe80:"))


def test_fault_93_nobody_is_told_of_a_way_past_the_node(lab: Lab, node: Node) -> None:
    """A host on the targets' wire asks them past the VIP; told of the shorter way to it, they would
    send it all answers by that. IPv6 takes such news from a router's link-local address alone."""
    hosts = [target.namespace for target in lab.targets]
    router = link_local_of(node.namespace, node.interface(0))
    for host in hosts:
        host.add_route("0.0.0.0/0", "via", NODE_TARGET_V4)
        host.add_route("::/0", "via", router, "dev", "eth0")
    try:
        for _ in range(4):  # the kernel tells a host once a second
            for target in lab.targets:
                for address in (target.v4, target.v6):
                    assert ping(lab.client, address, 5) > 0
            time.sleep(1)
        for vip in VIPS:
            assert len(connect_many(lab.client, vip, 30)) == 30
    finally:
        for host in hosts:
            host.add_route("::/0", "via", NODE_TARGET_V6)


@pytest.mark.exact
def test_fault_71_other_machines_frames_are_the_kernels_but_none_for_a_vip(
    lab: Lab, node: Node
) -> None:
    own = mac_of(lab.client, "eth0")
    before, drops = node.totals(), node.drops()
    send_frames(lab.client, frame_to(FOREIGN_MAC, own, VIP_V4), 5)
    send_frames(lab.client, frame_to(FOREIGN_MAC, own, NODE_CLIENT_V4), 5)
    wait_until(
        lambda: node.drops()["other_mac"] - drops["other_mac"] == 5
        and node.totals()["punted_packets"] - before["punted_packets"] >= 5,
        "five are dropped and five punted",
    )
    assert node.totals()["flow_inserted"] == before["flow_inserted"]


def test_fault_71_mac_address_of_the_nic_changes(lab: Lab, node: Node) -> None:
    before = mac_of(node.namespace, "nic0")
    pid = node.dataplane.pid
    try:
        for changed in ("02:00:00:00:07:07", before):
            node.namespace.ip("link", "set", "dev", "nic0", "address", changed)
            wait_all_answer(lab.client, f"VIPs answer with {changed}")
            for vip in VIPS:
                shown = lab.client.ip("neighbour", "show", vip)
                assert changed in shown, shown
            # The kernel's part of the traffic goes with it.
            assert mac_of(node.namespace, node.interface(0)) == changed
            wait_until(lambda: ping(lab.client, NODE_CLIENT_V4) == 3, "the node answers")
            assert changed in lab.client.ip("neighbour", "show", NODE_CLIENT_V4)
            assert changed in json.dumps(node.status()["engine"]["nics"])
    finally:
        node.namespace.ip("link", "set", "dev", "nic0", "address", before)
    assert node.dataplane.pid == pid, "without a restart"
    node.wait_states("healthy")


# ---- MLD


def is_solicitation_of_the_vip(frame: bytes) -> bool:
    vip = socket.inet_pton(socket.AF_INET6, VIP_V6)
    return frame[12:14] == b"\x86\xdd" and frame[54:55] == b"\x87" and frame[62:78] == vip


def resolves_anew(lab: Lab) -> bool:
    """The VIP by a solicitation to its group, which the switch gives nobody that did not join."""
    bystander = lab.targets[0].namespace
    with bystander.entered():
        capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with capture:
        capture.bind(("eth0", ETH_P_ALL))
        capture.setblocking(False)
        lab.client.forget_neighbours("eth0")
        answered = ping(lab.client, VIP_V6, 1)
        try:
            while True:
                frame = capture.recv(2048)
                assert not is_solicitation_of_the_vip(frame), "the switch does not snoop"
        except BlockingIOError:
            pass
    return answered == 1


def test_fault_71_ipv6_vip_is_found_behind_a_switch_that_snoops(lab: Lab, node: Node) -> None:
    time.sleep(FORGETS_WITHIN_S)
    assert resolves_anew(lab)
    assert len(http_get(lab.client, VIP_V6, 2)) == 2
    node.dataplane.stop()
    time.sleep(FORGETS_WITHIN_S)
    if lab.engine == "xdp":
        assert resolves_anew(lab), "without the daemon"
    node.restart_dataplane()
    node.wait_adopted()
    wait_until(lambda: resolves_anew(lab), "the VIP is found again", timeout_s=10)


VIP_GROUP = "ff0200000000000000000001ff000010"


def groups_of(node: Node) -> set[str]:
    """Solicited-node groups that the kernel reports."""
    shown = node.namespace.run(["cat", "/proc/net/igmp6"]).stdout
    rows = [row.split() for row in shown.splitlines()]
    return {row[2] for row in rows if row[1] == node.interface(0) and row[2][20:26] == "0001ff"}


def test_fault_71_groups_come_and_go_with_the_vips(node: Node) -> None:
    wait_until(lambda: VIP_GROUP in groups_of(node), "the VIP's group is joined")
    config = standard()
    config["load_balancers"][0]["addresses"] = ["203.0.113.99", "2001:db8:113::ab:cdef"]
    try:
        node.apply(config)
        wait_until(
            lambda: "ff0200000000000000000001ffabcdef" in groups_of(node)
            and VIP_GROUP not in groups_of(node),
            "the other VIP's group is joined in its place",
        )
    finally:
        node.apply(standard())
        wait_until(lambda: VIP_GROUP in groups_of(node), "the VIP's group is joined again")
        node.wait_states("healthy")


@pytest.mark.only_engine("xdp", "the other engine's groups go with its process")
def test_fault_71_detach_leaves_no_group_behind(node: Node) -> None:
    wait_until(lambda: VIP_GROUP in groups_of(node), "the VIP's group is joined")
    node.dataplane.stop()
    assert VIP_GROUP in groups_of(node), "forwarding goes on"
    node.detach()
    assert VIP_GROUP not in groups_of(node)
    assert "autojoin" not in node.namespace.ip("-6", "address", "show", "dev", "nic0")
    node.restart_dataplane()
    node.wait_adopted()
    wait_until(lambda: VIP_GROUP in groups_of(node), "the VIP's group is joined again")


# ---- VLAN tags


def test_fault_71_engine_makes_the_nic_leave_vlan_tags_alone(lab: Lab, node: Node) -> None:
    node.dataplane.stop()
    host = node.namespace
    host.run(["ethtool", "--offload", "nic0", "rxvlan", "on"])
    node.restart_dataplane()
    node.wait_adopted()
    assert "rx-vlan-offload: off" in host.run(["ethtool", "--show-features", "nic0"]).stdout
    assert "leaves VLAN tags in frames" in node.dataplane.log.read_text()
    wait_all_answer(lab.client, "VIPs answer")


def test_fault_71_nic_that_takes_tags_off_again_is_noticed(lab: Lab, node: Node) -> None:
    """The XDP engine may also switch it off."""
    host, log = node.namespace, node.dataplane.log
    host.run(["ethtool", "--offload", "nic0", "rxvlan", "on"])
    if node.engine == "dpdk":
        said = "nic0: takes VLAN tags off"
        wait_until(lambda: said in log.read_text(), "the log says so", timeout_s=5)
        host.run(["ethtool", "--offload", "nic0", "rxvlan", "off"])
        wait_until(lambda: f"over: nic {said}" in log.read_text(), "it is over", timeout_s=5)
        return
    wait_until(
        lambda: "rx-vlan-offload: off" in host.run(["ethtool", "--show-features", "nic0"]).stdout,
        "the engine has switched it off",
        timeout_s=5,
    )
    assert "took VLAN tags off" in log.read_text()


@pytest.mark.exact
def test_fault_71_frames_of_a_vlan_are_the_kernels_and_priority_tags_are_none(
    lab: Lab, node: Node
) -> None:
    # A veth would else hand the tag over beside the frame, as no wire does.
    lab.namespaces["switch"].run(["ethtool", "--offload", "node-nic0", "txvlan", "off"])
    own, mac = mac_of(lab.client, "eth0"), mac_of(node.namespace, "nic0")
    before = node.totals()
    send_frames(lab.client, frame_to(mac, own, VIP_V4, tag=7), 5)
    wait_until(
        lambda: node.totals()["punted_packets"] - before["punted_packets"] >= 5,
        "frames of VLAN 7 are punted",
    )
    assert node.totals()["flow_inserted"] == before["flow_inserted"]
    send_frames(lab.client, frame_to(mac, own, VIP_V4, tag=0xE000), 1)
    wait_until(
        lambda: node.totals()["flow_inserted"] == before["flow_inserted"] + 1,
        "the priority tagged SYN is balanced",
    )


# ---- the node's own addresses as VIPs


def test_fault_79_vip_that_is_the_nodes_own_is_refused(lab: Lab, node: Node) -> None:
    generation = node.status()["generation"]
    config = standard()
    for balancer in config["load_balancers"]:
        balancer["addresses"] = [
            NODE_CLIENT_V4 if a == VIP_V4 else a for a in balancer["addresses"]
        ]
    before = node.config_file.read_text()
    node.write_config(config)
    refused = node.cli("apply", str(node.config_file), check=False)
    node.config_file.write_text(before)
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert re.search(
        rf"addresses\[\d\]: {NODE_CLIENT_V4} is an address of this node itself, on "
        rf"{node.interface(0)}",
        said,
    ), said
    assert node.status()["generation"] == generation
    assert all_answer(lab.client)


@pytest.mark.parametrize("vip", VIPS)
def test_fault_79_address_that_comes_later_is_the_kernels_and_raises_an_alarm(
    lab: Lab, node: Node, vip: str
) -> None:
    host, interface = node.namespace, node.interface(0)
    address = f"{vip}/{128 if ':' in vip else 32}"
    host.add_address(interface, address)
    try:
        wait_until(
            lambda: any(f"the VIP {vip}" in alarm for alarm in node.status()["alarms"]),
            "an alarm names the VIP",
        )
        node.wait_adopted()
        # The kernel refuses what nobody listens on; the engine would have dropped it.
        wait_until(lambda: is_refused(lab.client, vip, 22), "the kernel answers for its address")
    finally:
        host.ip("address", "delete", address, "dev", interface)
    node.wait_no_alarms()
    wait_all_answer(lab.client, "the VIP is the engine's again")


def is_refused(client: Namespace, address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    probe = client.socket(family, socket.SOCK_STREAM)
    probe.settimeout(1)
    try:
        probe.connect((address, port))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    finally:
        probe.close()
    return False
