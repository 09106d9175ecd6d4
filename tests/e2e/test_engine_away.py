# SPDX-License-Identifier: Apache-2.0
"""While no engine runs, targets go on speaking to clients, and their segments reach the kernel.

Were they forwarded, they would leave with the target's own address, and a client's kernel answers
such a segment with a RST. Nor may they wait in the kernel for a neighbour and leave when the engine
is back. With the DPDK engine the guard of deploy/host-setup is in the way; the XDP engine's program
stays in the driver when its daemon goes.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence

import pytest
from lab import Lab, Layout, Namespace, Node, addresses
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import Config, config, listener, pair, standard
from lab.process import wait_until
from lab.talker import TALK_PORT
from lab.talks import Talk, listen, open_talks, talking
from lab.traffic import family_of, ping

LAYOUT = Layout(clients=2)
CONNECTIONS = 3  # of each client to each VIP
AWAY_SECONDS = 0.5
LINES = 20
# Four seconds: for three the kernel asks for a neighbour, and would send what waits for it.
LINES_AFTER = 80
AFTER_SECONDS_MAX = 25.0

# Sources that no client may ever see on a frame: the targets' own.
_WATCH = f"""
table inet watch {{
  counter from_targets {{ }}
  chain seen {{
    type filter hook prerouting priority -400; policy accept;
    meta l4proto {{ tcp, udp }} ip saddr {addresses.TARGET_NET_V4} counter name from_targets
    meta l4proto {{ tcp, udp }} ip6 saddr {addresses.TARGET_NET_V6} counter name from_targets
  }}
}}
"""
# Each time that a datagram of the client behind the router comes to it.
_WATCH_VIPS = f"""
table inet watch {{
  counter to_vips {{ }}
  chain seen {{
    type filter hook prerouting priority -400; policy accept;
    meta l4proto udp ip saddr {addresses.REMOTE_NET_V4} counter name to_vips
    meta l4proto udp ip6 saddr {addresses.REMOTE_NET_V6} counter name to_vips
  }}
}}
"""


# For up to a second after the engine is back the kernel does not ask for a target's link address
# again, and probes wait for it; an unhealthy target's connections would be reset.
PATIENT = {
    "millrace.health_check.interval_milliseconds": 1000,
    "millrace.health_check.timeout_milliseconds": 900,
}


def talk_config() -> Config:
    own = standard()
    groups = [*own["target_groups"], *pair("talk", "TCP", TALK_PORT, attributes=PATIENT)]
    listeners = own["load_balancers"][0]["listeners"]
    return config([*listeners, listener("TCP", TALK_PORT, "talk")], groups)


CONFIG = talk_config()


@pytest.fixture(scope="module")
def started(lab: Lab) -> Iterator[Node]:
    with talking(lab.targets):
        for host in all_clients(lab):
            host.run(["nft", "--file", "-"], stdin=_WATCH)
        node = lab.node
        node.start(CONFIG)
        node.wait_states("healthy")
        yield node


def all_clients(lab: Lab) -> list[Namespace]:
    return [*lab.clients, lab.remote]


def seen_from_targets(host: Namespace) -> int:
    return counted(host, "watch", "from_targets")


def counted(host: Namespace, table: str, counter: str) -> int:
    said = host.run(["nft", "--json", "list", "counter", "inet", table, counter]).stdout
    found = [entry["counter"] for entry in json.loads(said)["nftables"] if "counter" in entry]
    return int(found[0]["packets"])


def forget_neighbours(node: Node) -> None:
    for interface in {*node.nics, node.interface(0)}:
        node.namespace.forget_neighbours(interface)


def stop(node: Node, how: str) -> None:
    if how == "kill -9":
        node.dataplane.kill()
    else:
        assert node.dataplane.stop() == 0


def all_talks(lab: Lab) -> list[Talk]:
    return [
        talk
        for client in all_clients(lab)
        for vip in (VIP_V4, VIP_V6)
        for talk in open_talks(client, vip, CONNECTIONS)
    ]


def problems(talks: Sequence[Talk]) -> list[str]:
    return [f"{talk.client}: {talk.problem}" for talk in talks if talk.problem]


@pytest.mark.parametrize("how", ["kill -9", "stop"])
def test_fault_89_targets_that_talk_keep_their_connections_over_a_restart(
    lab: Lab, node: Node, how: str
) -> None:
    before = [seen_from_targets(client) for client in all_clients(lab)]
    talks = all_talks(lab)
    listen(talks, lines=LINES, timeout_s=10)
    forget_neighbours(node)
    stop(node, how)
    time.sleep(AWAY_SECONDS)
    forget_neighbours(node)
    node.restart_dataplane()
    listen(talks, lines=LINES_AFTER, timeout_s=AFTER_SECONDS_MAX)
    for talk in talks:
        talk.socket.close()
    assert problems(talks) == []
    assert [
        t.client for t in talks if t.lines < LINES + LINES_AFTER
    ] == [], "silent since the restart"
    assert [seen_from_targets(client) for client in all_clients(lab)] == before
    node.wait_adopted()


def on_link_clients(lab: Lab) -> list[str]:
    indexes = range(len(lab.clients))
    return [of(index) for index in indexes for of in (addresses.client_v4, addresses.client_v6)]


def send_past_the_balancer(lab: Lab, count: int) -> None:
    """Datagrams of a target to each client by way of the node, whose link address it knows."""
    target = lab.targets[0].namespace
    shown = json.loads(lab.node.namespace.ip("-json", "link", "show", "dev", "nic0"))
    for router in (addresses.NODE_TARGET_V4, addresses.NODE_TARGET_V6):
        words = ["lladdr", shown[0]["address"], "dev", "eth0", "nud", "permanent"]
        target.ip("neighbour", "replace", router, *words)
    for client in on_link_clients(lab):
        with target.socket(family_of(client), socket.SOCK_DGRAM) as out:
            for _ in range(count):
                out.sendto(b"past the balancer", (client, 9))
    for router in (addresses.NODE_TARGET_V4, addresses.NODE_TARGET_V6):
        target.ip("neighbour", "delete", router, "dev", "eth0")


@pytest.mark.only_engine("dpdk", "the XDP engine's NIC is the kernel's own for bystanders")
def test_fault_89_nothing_on_a_closed_nic_is_forwarded_even_when_forwarding_is_turned_on(
    lab: Lab, node: Node
) -> None:
    space = node.namespace
    before = [seen_from_targets(client) for client in all_clients(lab)]
    kept_back = counted(space, "millrace", "from_closed_nics")
    stop(node, "stop")
    # What somebody may do later, and what the sysctls of host-setup alone would not survive.
    space.sysctl("net.ipv6.conf.nic0.disable_ipv6", "0")
    space.sysctl("net.ipv4.ip_forward", "1")
    space.sysctl("net.ipv6.conf.all.forwarding", "1")
    # Another way to the clients than the twin, which is deaf now.
    for client in on_link_clients(lab):
        space.add_route(client, "dev", "nic0")
    count = 10
    send_past_the_balancer(lab, count)
    time.sleep(0.5)
    for client in on_link_clients(lab):
        space.ip("-6" if ":" in client else "-4", "route", "delete", client, "dev", "nic0")
    node.host_setup("close", "nic0")
    node.restart_dataplane()
    assert [seen_from_targets(client) for client in all_clients(lab)] == before
    grown = counted(space, "millrace", "from_closed_nics") - kept_back
    assert grown >= count * len(on_link_clients(lab))
    node.wait_states("healthy")
    node.wait_adopted()


@pytest.mark.only_engine("dpdk", "the XDP engine's NIC carries the node's addresses itself")
def test_fault_89_closed_nic_answers_for_none_of_the_nodes_addresses(lab: Lab, node: Node) -> None:
    """It would tell its own MAC address for those that have another one."""
    host = lab.target("t1").namespace
    stop(node, "stop")
    try:
        for address in (addresses.SECOND_MAC_V4, addresses.NODE_TARGET_V4):
            host.forget_neighbours("eth0")
            assert ping(host, address, 1) == 0
            assert "lladdr" not in host.ip("neighbour", "show", address)
    finally:
        node.restart_dataplane()
        node.wait_adopted()
        node.wait_states("healthy")
    # What stands on the twin has a carrier again when the kernel has come to tell it.
    wait_until(lambda: ping(host, addresses.SECOND_MAC_V4, 1) > 0, "it answers", timeout_s=10)
    assert addresses.SECOND_MAC in host.ip("neighbour", "show", addresses.SECOND_MAC_V4)


@pytest.mark.only_engine("xdp", "the DPDK engine's NIC is closed for good")
def test_fault_89_closed_nic_keeps_connections_while_the_program_is_detached(
    lab: Lab, node: Node
) -> None:
    before = [seen_from_targets(client) for client in all_clients(lab)]
    talks = all_talks(lab)
    listen(talks, lines=LINES, timeout_s=10)
    node.host_setup("close", "nic0")
    stop(node, "stop")
    node.detach()
    forget_neighbours(node)
    time.sleep(AWAY_SECONDS)
    node.restart_dataplane()
    assert counted(node.namespace, "millrace", "from_closed_nics") > 0
    node.host_setup("open", "nic0")
    listen(talks, lines=LINES_AFTER, timeout_s=AFTER_SECONDS_MAX)
    for talk in talks:
        talk.socket.close()
    assert problems(talks) == []
    assert [
        t.client for t in talks if t.lines < LINES + LINES_AFTER
    ] == [], "silent since the start"
    assert [seen_from_targets(client) for client in all_clients(lab)] == before
    node.wait_adopted()


@pytest.fixture
def vips_routed_to_the_node(lab: Lab) -> Iterator[None]:
    """As behind a real router, whose default route the node itself follows."""
    router, node = lab.namespaces["router"], lab.node.namespace
    router.run(["nft", "--file", "-"], stdin=_WATCH_VIPS)
    router.add_route(addresses.VIP_NET_V4, "via", addresses.NODE_CLIENT_V4)
    router.add_route(addresses.VIP_NET_V6, "via", addresses.NODE_CLIENT_V6)
    node.add_route(addresses.VIP_NET_V4, "via", addresses.ROUTER_V4)
    node.add_route(addresses.VIP_NET_V6, "via", addresses.ROUTER_V6)
    yield
    for net in (addresses.VIP_NET_V4, addresses.VIP_NET_V6):
        node.ip("-6" if ":" in net else "-4", "route", "delete", net)
        router.add_route(net, "dev", "eth0")


def test_fault_89_packets_to_a_vip_do_not_go_round_while_there_is_no_config(
    lab: Lab, node: Node, vips_routed_to_the_node: None
) -> None:
    """An engine without a config leaves everything to the kernel, which knows a way to the VIP:
    back to the router, and so until the packet's TTL is spent."""
    node.host_setup("vips", addresses.VIP_NET_V4, addresses.VIP_NET_V6)
    node.close()
    if node.engine == "xdp":
        node.detach()
    (node.runtime_dir / "config").unlink()
    node.restart_dataplane()
    before = counted(node.namespace, "millrace", "to_vips")
    count = 20
    for family, vip in ((socket.AF_INET, VIP_V4), (socket.AF_INET6, VIP_V6)):
        with lab.remote.socket(family, socket.SOCK_DGRAM) as out:
            for _ in range(count):
                out.sendto(b"query", (vip, 53))
    time.sleep(0.5)
    at_router = counted(lab.namespaces["router"], "watch", "to_vips")
    kept_back = counted(node.namespace, "millrace", "to_vips") - before
    node.host_setup("vips")
    node.start_controlplane()
    node.wait_states("healthy")
    node.wait_adopted()
    assert at_router == 2 * count, "more would have come back, to be sent on again"
    assert kept_back >= 2 * count
