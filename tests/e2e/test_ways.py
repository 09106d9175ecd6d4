# SPDX-License-Identifier: Apache-2.0
"""Ways to targets that change, end or lie beside the engine's nics, and nics with other names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, Layout, Node
from lab.addresses import (
    FAR_NET_V4,
    FAR_NET_V6,
    FAR_TARGET_V4,
    FAR_TARGET_V6,
    GATEWAY_V4,
    GATEWAY_V6,
    VIP_V4,
    VIP_V6,
)
from lab.configs import with_far_target
from lab.namespace import Namespace
from lab.process import wait_until
from lab.recording import Recording, firing, record
from lab.traffic import TcpStreams, connect_many
from lab.wires import TARGET_BRIDGE, cable, forwarding_on

LAYOUT = Layout(two_nics=True, gateway=True, hugepages=224)
# A second router between node and t4, and its wire to t4.
OTHER_GATEWAY_V4 = "10.0.1.253"
OTHER_GATEWAY_V6 = "fd00:10:1::fd"
OTHER_PORT = "gateway2"  # of the switch
# A wire between node and t3 that no engine drives.
SIDE = "side0"
SIDE_NODE_V4, SIDE_TARGET_V4 = "10.0.4.1", "10.0.4.3"
SIDE_NODE_V6, SIDE_TARGET_V6 = "fd00:10:4::1", "fd00:10:4::3"


CONFIG = with_far_target()


def wait_alarm(node: Node, *said: str) -> None:
    """One that says all of it."""
    wait_until(
        lambda: any(all(word in alarm for word in said) for alarm in node.status()["alarms"]),
        f"an alarm is raised: {said}",
        timeout_s=10,
    )


def way_to(node: Node, address: str) -> str:
    return next(
        str(one["next_hop"])
        for group in node.json("targets")["target_groups"]
        for one in group["targets"]
        if one["address"] == address
    )


@pytest.fixture
def other_gateway(lab: Lab, node: Node) -> Iterator[Namespace]:
    """Mostly chosen, because it has nearly all of the weight; t4 answers by the first one."""
    router, far = lab.host("gateway2"), lab.namespaces["t4"]
    lab.switch.plug(router, "eth0", TARGET_BRIDGE, OTHER_PORT)
    cable(router, "eth1", far, "eth1")
    forwarding_on(router)
    far.sysctls({"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.eth1.rp_filter": "0"})
    with router.batched():
        router.add_address("eth0", f"{OTHER_GATEWAY_V4}/24")
        router.add_address("eth0", f"{OTHER_GATEWAY_V6}/64")
        router.add_address("eth1", "10.0.3.1/24")
        router.add_address("eth1", "fd00:10:3::1/64")
        router.add_route(FAR_NET_V4, "via", "10.0.3.2")
        router.add_route(FAR_NET_V6, "via", "fd00:10:3::2")
    with far.batched():
        far.add_address("eth1", "10.0.3.2/24")
        far.add_address("eth1", "fd00:10:3::2/64")
    own, interface = node.namespace, node.interface(1)
    own.sysctl("net.ipv4.fib_multipath_use_neigh", "1")
    own.ip(
        *("route", "replace", FAR_NET_V4),
        *("nexthop", "via", OTHER_GATEWAY_V4, "dev", interface, "weight", "255"),
        *("nexthop", "via", GATEWAY_V4, "dev", interface, "weight", "1"),
    )
    # IPv6 passes over a router that does not answer where next hops are objects, or forwarding is
    # off.
    own.ip("nexthop", "add", "id", "1", "via", OTHER_GATEWAY_V6, "dev", interface)
    own.ip("nexthop", "add", "id", "2", "via", GATEWAY_V6, "dev", interface)
    own.ip("nexthop", "add", "id", "3", "group", "1,255/2,1")
    own.ip("-6", "route", "delete", FAR_NET_V6)
    own.ip("-6", "route", "add", FAR_NET_V6, "nhid", "3")
    yield router
    lab.namespaces["switch"].ip("link", "set", OTHER_PORT, "up")
    own.ip("-6", "route", "delete", FAR_NET_V6)
    own.add_route(FAR_NET_V4, "via", GATEWAY_V4)
    own.add_route(FAR_NET_V6, "via", GATEWAY_V6)
    for number in ("3", "2", "1"):
        own.ip("nexthop", "delete", "id", number)
    node.wait_states("healthy")


def test_connections_go_on_by_the_other_router_when_one_dies(
    lab: Lab, node: Node, other_gateway: Namespace
) -> None:
    routers = {
        FAR_TARGET_V4: (OTHER_GATEWAY_V4, GATEWAY_V4),
        FAR_TARGET_V6: (OTHER_GATEWAY_V6, GATEWAY_V6),
    }

    def go_by(which: int) -> bool:
        ways = {far: way_to(node, far) for far in routers}
        return all(
            f"via {routers[far][which]} " in way and "lladdr" in way for far, way in ways.items()
        )

    wait_until(lambda: go_by(0), "t4 is behind the other router", timeout_s=10)
    node.wait_adopted()
    streams = [TcpStreams(lab.client, vip, connections=20) for vip in (VIP_V4, VIP_V6)]
    for stream in streams:
        stream.__enter__()
    lab.namespaces["switch"].ip("link", "set", OTHER_PORT, "down")
    for router in (OTHER_GATEWAY_V4, OTHER_GATEWAY_V6):  # as the kernel finds after a while
        words = ["neighbour", "replace", router, "dev", node.interface(1), "nud", "failed"]
        node.namespace.ip(*words)
    wait_until(lambda: go_by(1), "t4 is behind the router that is left", timeout_s=10)
    for vip in (VIP_V4, VIP_V6):
        assert {one.target for one in connect_many(lab.client, vip, 100)} >= {"t4"}
    # Once the kernel has forgotten that nobody answered there, it turns to the dead one again.
    for router in (OTHER_GATEWAY_V4, OTHER_GATEWAY_V6):
        node.namespace.ip("neighbour", "delete", router, "dev", node.interface(1))
    node.namespace.ip("route", "add", "blackhole", "198.18.99.0/24")  # any change: all is asked
    for _ in range(20):
        assert go_by(1)
        time.sleep(0.2)
    node.namespace.ip("route", "delete", "blackhole", "198.18.99.0/24")
    for stream in streams:
        report = stream.stop()
        assert report.errors == [] and report.moved == 0 and report.lost == 0, report
        assert report.targets["t4"] > 0


def rename(host: Namespace, before: str, after: str) -> None:
    """While it is up, which Linux allows since 6.2."""
    host.ip("link", "set", "dev", before, "name", after)


@pytest.mark.parametrize("nic", [0, 1], ids=["clients' nic", "targets' nic"])
def test_renamed_nic_forwards_as_before_and_is_shown_by_its_name(
    lab: Lab, node: Node, nic: int
) -> None:
    own, before = node.namespace, f"nic{nic}"
    interfaces = {before: "lan0"}
    if node.engine == "dpdk":
        interfaces[node.interface(nic)] = "lantwin0"

    def names() -> tuple[str, str]:
        shown = node.status()["engine"]["nics"][nic]
        return str(shown["name"]), str(shown["twin"])

    was = names()
    streams = [TcpStreams(lab.client, vip, connections=20) for vip in (VIP_V4, VIP_V6)]
    for stream in streams:
        stream.__enter__()
    try:
        for old, new in interfaces.items():
            rename(own, old, new)
        # Another interface that gets the name is not taken for the nic.
        own.ip("link", "add", before, "type", "veth", "peer", "name", "nobody0")
        now = tuple(interfaces.get(name, name) for name in was)
        wait_until(lambda: names() == now, f"the names are {now}", timeout_s=5)
        node.wait_no_alarms()
        for vip in (VIP_V4, VIP_V6):
            answers = connect_many(lab.client, vip, 100)
            assert {one.target for one in answers} == {"t1", "t2", "t3", "t4"}
    finally:
        own.ip("link", "delete", "nobody0")
        for old, new in interfaces.items():
            rename(own, new, old)
    wait_until(lambda: names() == was, f"the names are {was} again", timeout_s=5)
    for stream in streams:
        report = stream.stop()
        assert report.errors == [] and report.moved == 0 and report.lost == 0, report
    assert "is called lan0 now" in node.dataplane.log.read_text()
    node.wait_states("healthy")
    node.wait_no_alarms()


@pytest.fixture
def well(node: Node) -> Recording:
    node.wait_no_alarms()
    return record(node)


@pytest.fixture
def side_way(lab: Lab, node: Node) -> Iterator[list[str]]:
    """The kernel's route to t3 goes by an interface that the engine does not drive."""
    target = lab.target("t3")
    own = node.namespace
    cable(own, SIDE, target.namespace, SIDE)
    own.add_address(SIDE, f"{SIDE_NODE_V4}/24")
    own.add_address(SIDE, f"{SIDE_NODE_V6}/64")
    target.namespace.add_address(SIDE, f"{SIDE_TARGET_V4}/24")
    target.namespace.add_address(SIDE, f"{SIDE_TARGET_V6}/64")
    own.add_route(f"{target.v4}/32", "via", SIDE_TARGET_V4)
    own.add_route(f"{target.v6}/128", "via", SIDE_TARGET_V6)
    yield [target.v4, target.v6]
    own.ip("link", "delete", SIDE)


def test_healthy_target_that_the_engine_cannot_reach_is_told_and_gets_no_new_flows(
    lab: Lab, node: Node, well: Recording, side_way: list[str], tmp_path: Path
) -> None:
    for address in side_way:
        why = f"{address}, although healthy (route leaves by {SIDE}, which no engine drives)"
        wait_alarm(node, "the engine has no way to target", why, "new flows go to the others")
    node.wait_adopted()
    for vip in (VIP_V4, VIP_V6):
        answers = connect_many(lab.client, vip, 100)
        assert len(answers) == 100
        assert {one.target for one in answers} == {"t1", "t2", "t4"}
    node.wait_states("healthy")
    assert firing(well, record(node), tmp_path) == ["MillraceNextHopUnresolved"]
    node.namespace.ip("link", "set", SIDE, "down")
    node.wait_no_alarms()
    node.wait_adopted()
    for vip in (VIP_V4, VIP_V6):
        assert "t3" in {one.target for one in connect_many(lab.client, vip, 200)}


def test_fault_76_clients_nic_without_link_is_an_alarm(lab: Lab, node: Node) -> None:
    lab.set_port("node-nic0", False)
    try:
        wait_alarm(node, "nic nic0 has no link: nothing comes in or leaves by it")
    finally:
        lab.set_port("node-nic0", True)
    node.wait_no_alarms()
