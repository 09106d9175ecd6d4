# SPDX-License-Identifier: Apache-2.0
"""traceroute through the node: where it translates, it is a hop like any router."""

from __future__ import annotations

import re

import pytest
from lab import Lab, Layout, Node
from lab.addresses import (
    NODE_CLIENT_V4,
    NODE_CLIENT_V6,
    NODE_TARGET_V4,
    NODE_TARGET_V6,
    ROUTER_V4,
    ROUTER_V6,
    VIP_V4,
    VIP_V6,
    client_v4,
    client_v6,
)
from lab.configs import direct, standard
from lab.namespace import Namespace
from lab.process import wait_until
from lab.target import DNS_PORT

LAYOUT = Layout(gateway=True)
CONFIG = standard()
WORKERS = 2
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
OWN = {NODE_CLIENT_V4, NODE_CLIENT_V6, NODE_TARGET_V4, NODE_TARGET_V6}
TCP = ("-T", "-p", "80")
UDP = ("-U", "-p", "53")


def hops(client: Namespace, address: str, *how: str) -> list[str]:
    """Who answers, by distance; "*" for nobody."""
    words = ["traceroute", "-6" if ":" in address else "-4", "-n", "-q", "1", "-w", "2", "-m", "4"]
    said = client.run([*words, *how, address], timeout_s=40).stdout
    return re.findall(r"^ *\d+ +(\S+)", said, flags=re.MULTILINE)


@VIPS
@pytest.mark.parametrize("how", [TCP, UDP], ids=["tcp", "udp"])
def test_fault_07_node_is_the_hop_before_the_vip(
    lab: Lab, node: Node, vip: str, how: tuple[str, ...]
) -> None:
    before = node.totals()["time_exceeded_sent"]
    seen = hops(lab.client, vip, *how)
    assert seen[0] in OWN, seen
    if how is TCP:  # a DNS server answers no nonsense
        assert seen[1:] == [vip]
    wait_until(lambda: node.totals()["time_exceeded_sent"] > before, "it is counted", timeout_s=5)


@VIPS
def test_node_is_a_hop_behind_the_clients_router(lab: Lab, node: Node, vip: str) -> None:
    seen = hops(lab.remote, vip, *TCP)
    assert seen[0] in (ROUTER_V4, ROUTER_V6) or seen[0] not in OWN
    assert seen[1] in OWN, seen
    assert seen[2] == vip, seen


@VIPS
def test_echo_shows_the_vip_where_it_is_answered(lab: Lab, node: Node, vip: str) -> None:
    assert hops(lab.client, vip, "-I") == [vip]


@VIPS
def test_replies_of_a_target_have_the_node_as_a_hop(lab: Lab, node: Node, vip: str) -> None:
    """Of a flow that lives: from the target's service port to the client's."""
    is_v4 = ":" not in vip
    client = client_v4(0) if is_v4 else client_v6(0)
    port = 40007
    ask = ["dig", "+time=2", "+tries=1", f"@{vip}", "-b", f"{client}#{port}", "x.example"]
    target = lab.client.run(ask, check=False).stdout
    assert "status: NOERROR" in target or "ANSWER" in target, target
    flows = node.json("flows", "--client", client)["flows"]
    of_port = [flow for flow in flows if flow["client"].endswith(f":{port}")]
    address = re.sub(r"^.*/", "", of_port[0]["target"]).rpartition(":")[0].strip("[]")
    host = next(one for one in lab.targets if address in (one.v4, one.v6))
    seen = hops(host.namespace, client, "-U", "-p", str(port), f"--sport={DNS_PORT}", "-m", "1")
    assert seen[0] in OWN, seen


@VIPS
def test_targets_that_answer_directly_have_no_node_before_them(
    lab: Lab, node: Node, vip: str
) -> None:
    node.apply(direct())
    node.wait_adopted()
    node.wait_states("healthy")
    assert hops(lab.client, vip, *TCP) == [vip]
