# SPDX-License-Identifier: Apache-2.0
"""Real clients reach real targets: shares, addresses, neighbours, drops; IPv4 and IPv6."""

from __future__ import annotations

import json
import math
import re
import socket
from collections import Counter

import pytest
from lab import Lab, Node
from lab.addresses import (
    NODE_CLIENT_V4,
    NODE_CLIENT_V6,
    NODE_TARGET_V4,
    VIP_V4,
    VIP_V6,
    client_v4,
    client_v6,
)
from lab.configs import config, listener, pair, standard
from lab.process import run, wait_until
from lab.target import BLOB_BYTES, HTTP_PORT
from lab.traffic import (
    bracketed,
    connect_many,
    dns_query,
    download,
    family_of,
    http_get,
    ping,
)

IPERF_PORT = 5201
CONFIG = config(
    [*standard()["load_balancers"][0]["listeners"], listener("TCP", IPERF_PORT, "iperf")],
    [*standard()["target_groups"], *pair("iperf", "TCP", IPERF_PORT, members=[1])],
)
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
FLOWS = 300


def assert_shares(node: Node, lab: Lab, vip: str, protocol: str, counts: Counter[str]) -> None:
    """Within five standard deviations of what the lookup table says."""
    port = 80 if protocol == "TCP" else 53
    total = sum(counts.values())
    views = [view for view in node.targets() if view.group == node.group_of(vip, protocol, port)]
    assert len(views) == 3
    for view in views:
        name = next(t.name for t in lab.targets if view.address in (t.v4, t.v6))
        spread = math.sqrt(total * view.share * (1 - view.share))
        assert abs(counts[name] - total * view.share) <= 5 * spread + 1, (counts, view)


@VIPS
def test_http_reaches_every_target_by_its_share_with_the_clients_address(
    lab: Lab, node: Node, vip: str
) -> None:
    answers = http_get(lab.client, vip, FLOWS)
    assert len(answers) == FLOWS
    own = client_v6(0) if ":" in vip else client_v4(0)
    assert {answer.client for answer in answers} == {own}
    assert_shares(node, lab, vip, "TCP", Counter(answer.target for answer in answers))


@VIPS
def test_dns_reaches_every_target_by_its_share(lab: Lab, node: Node, vip: str) -> None:
    answers = dns_query(lab.client, vip, FLOWS)
    assert len(answers) == FLOWS
    assert_shares(node, lab, vip, "UDP", Counter(answers))


@VIPS
def test_two_thousand_parallel_connections_are_all_answered(lab: Lab, node: Node, vip: str) -> None:
    answers = connect_many(lab.client, vip, 2000, parallel=500)
    assert len(answers) == 2000
    assert len({answer.port for answer in answers}) > 1000
    assert_shares(node, lab, vip, "TCP", Counter(answer.target for answer in answers))


@VIPS
@pytest.mark.parametrize("direction", ["to target", "to client"])
def test_iperf3_runs_through_the_vip(lab: Lab, node: Node, vip: str, direction: str) -> None:
    server = lab.target("t1").namespace.service("iperf3", ["iperf3", "--server", "--one-off"])
    server.start()
    try:
        words = ["ss", "--no-header", "--listening", "--tcp", f"sport = {IPERF_PORT}"]
        server.wait_ready(lambda: bool(server_sockets(lab, words)))
        reverse = ["--reverse"] if direction == "to client" else []
        said = lab.client.run(
            ["iperf3", "--client", vip, "--time", "2", "--json", *reverse], timeout_s=30
        ).stdout
    finally:
        server.stop()
    rate = json.loads(said)["end"]["sum_received"]["bits_per_second"]
    print(f"iperf3 {direction} over {vip}: {rate / 1e6:.0f} Mbit/s")
    assert rate > 20e6


def server_sockets(lab: Lab, words: list[str]) -> str:
    return lab.target("t1").namespace.run(words).stdout.strip()


@VIPS
def test_large_answers_arrive_whole(lab: Lab, node: Node, vip: str) -> None:
    assert download(lab.client, vip) == BLOB_BYTES


@pytest.mark.parametrize("address", [VIP_V4, VIP_V6])
def test_engine_answers_echo_to_the_vip(lab: Lab, node: Node, address: str) -> None:
    before = node.totals()
    assert ping(lab.client, address, 5) == 5
    assert node.totals()["replied_packets"] >= before["replied_packets"] + 5


@pytest.mark.parametrize("address", [NODE_CLIENT_V4, NODE_CLIENT_V6, NODE_TARGET_V4])
def test_kernel_answers_for_the_nodes_own_address(lab: Lab, node: Node, address: str) -> None:
    before = node.totals()
    assert ping(lab.client, address, 5) == 5
    assert node.totals()["punted_packets"] >= before["punted_packets"] + 5


@VIPS
def test_engine_answers_arp_and_neighbour_solicitations_for_the_vip(
    lab: Lab, node: Node, vip: str
) -> None:
    lab.client.forget_neighbours("eth0")
    assert ping(lab.client, vip, 1) == 1
    mac = json.loads(node.namespace.ip("-json", "link", "show", "nic0"))[0]["address"]
    entries = json.loads(lab.client.ip("-json", "neighbour", "show", vip))
    assert [entry["lladdr"] for entry in entries] == [mac]


@VIPS
def test_packets_to_an_unknown_port_are_counted_each_once(lab: Lab, node: Node, vip: str) -> None:
    before = node.drops().get("no_listener", 0)
    sender = lab.client.socket(family_of(vip), socket.SOCK_DGRAM)
    for _ in range(50):
        sender.sendto(b"x", (vip, 9999))
    sender.close()
    wait_until(lambda: node.drops().get("no_listener", 0) >= before + 50, "50 drops", timeout_s=5)
    assert node.drops()["no_listener"] == before + 50


def test_the_nodes_own_connections_go_through(lab: Lab, node: Node) -> None:
    words = ["curl", "--silent", "--max-time", "5", "http://10.0.1.11:8080/"]
    assert "target=t1 client=10.0.1.1 " in node.namespace.run(words).stdout


def test_targets_reach_clients_through_the_node(lab: Lab, node: Node) -> None:
    assert ping(lab.target("t1").namespace, client_v4(0), 3) == 3
    assert ping(lab.target("t1").namespace, client_v6(0), 3) == 3


def test_weights_decide_the_shares(lab: Lab, node: Node) -> None:
    node.apply(standard(weights={1: 300, 2: 100, 3: 100}))
    node.wait_adopted()
    shares = {view.address: view.share for view in node.targets() if view.group == "http-4"}
    assert shares == pytest.approx({"10.0.1.11": 0.6, "10.0.1.12": 0.2, "10.0.1.13": 0.2}, abs=0.01)
    for vip in (VIP_V4, VIP_V6):
        answers = http_get(lab.client, vip, FLOWS)
        assert len(answers) == FLOWS
        assert_shares(node, lab, vip, "TCP", Counter(answer.target for answer in answers))
    node.apply(CONFIG)
    node.wait_adopted()


def test_explain_names_the_target_that_the_flow_then_gets(lab: Lab, node: Node) -> None:
    for vip in (VIP_V4, VIP_V6):
        for answer in http_get(lab.client, vip, 20):
            client = f"{bracketed(answer.client)}:{answer.port}"
            asked = f"{bracketed(answer.vip)}:{answer.vip_port}"
            told = node.json("explain", client, asked, "TCP")
            target = lab.target(answer.target)
            address = target.v6 if ":" in vip else target.v4
            assert told["target"].endswith(f"/{bracketed(address)}:{HTTP_PORT}"), told


def test_programs_said_nothing_alarming(lab: Lab, node: Node) -> None:
    assert node.complaints() == []
    assert run(["ip", "netns", "pids", node.namespace.name]).stdout


def test_engine_says_nothing_but_by_its_log(node: Node) -> None:
    """Libraries print what looks like faults and is none, to whom a newcomer would listen first."""
    said = node.dataplane.log.read_text().splitlines()
    foreign = [line for line in said if not re.match(r"\[[^]]+\] \[millrace-\w+\] \[\w+\] ", line)]
    assert said and foreign == []
    assert not [line for line in said if re.search(r"EAL|libbpf|libxdp|DPDK", line)]
