# SPDX-License-Identifier: Apache-2.0
"""`nat` with two nodes, an engine each: requests come by the first, replies go by the second, as
equal-cost routes make it. Neither sees the other half of a connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab import Lab, Layout, Node
from lab.addresses import (
    NODE_CLIENT_V4,
    NODE_CLIENT_V6,
    SECOND_TARGET_V4,
    SECOND_TARGET_V6,
    VIP_NET_V4,
    VIP_NET_V6,
    VIP_V4,
    VIP_V6,
)
from lab.configs import Config, config, listener, pair
from lab.node import ENGINES, program_path
from lab.process import wait_until
from lab.target import DNS_PORT, HTTP_PORT, Target
from lab.traffic import TcpConnection, UdpStream, connect_many, dns_query, family_of

# Whose targets are asked by no bystander: a bystander's answers would go by the second node, too.
# Noise would count as flows.
LAYOUT = Layout(hugepages=320, bystander=False, noise_per_second=0, second_mac=False)
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
CONNECTIONS = 20
# Longer than a flow lives whose handshake was never completed.
IDLE_S = 45.0


LATE_PATIENCE_S = 6.0
LATE_PORT, LATE_BLOCKS, LATE_BLOCK_BYTES = 7000, 6, 20_000
# A reply says nothing of the VIP: the node that has not seen its request knows it by the target's
# port alone, which has one listener of a family.
ASYMMETRIC = {"millrace.asymmetric_returns.enabled": True}
GROUPS = [
    *pair("http", "TCP", HTTP_PORT, attributes=ASYMMETRIC),
    *pair("dns", "UDP", DNS_PORT, attributes=ASYMMETRIC),
    *pair("late", "TCP", LATE_PORT, members=[1], attributes=ASYMMETRIC),
]


def asymmetric_config() -> Config:
    return config(
        [
            listener("TCP", 80, "http"),
            listener("UDP", 53, "dns"),
            listener("TCP", LATE_PORT, "late"),
        ],
        GROUPS,
        addresses=[VIP_V4, VIP_V6],
    )


@pytest.fixture(scope="module")
def started(lab: Lab) -> Node:
    """The first node; the second has the same config."""
    own = asymmetric_config()
    both = nodes(lab)
    for node in both:
        if node.dataplane.running:
            node.apply(own)
            node.wait_adopted()
        else:
            node.start(own)
    for node in both:
        node.wait_states("healthy")
    return lab.node


def nodes(lab: Lab) -> tuple[Node, Node]:
    """First and second; the second is made when it is first asked for."""
    found: Node | None = getattr(lab, "asymmetric_second", None)
    if found is None:
        other = next(engine for engine in ENGINES if engine != lab.engine)
        if not program_path(ENGINES[other]).exists():
            pytest.skip(f"{ENGINES[other]} is no part of this build")
        found = lab.add_second_node(other)
        setattr(lab, "asymmetric_second", found)
        lab.client.add_route(VIP_NET_V4, "via", NODE_CLIENT_V4)
        lab.client.add_route(VIP_NET_V6, "via", NODE_CLIENT_V6)
        for target in lab.targets:
            target.namespace.add_route("0.0.0.0/0", "via", SECOND_TARGET_V4)
            target.namespace.add_route("::/0", "via", SECOND_TARGET_V6)
    return lab.node, found


def forwarded(node: Node) -> int:
    return int(node.totals()["forwarded_packets"])


@VIPS
def test_fault_68_requests_go_by_one_node_and_replies_by_the_other(
    lab: Lab, node: Node, vip: str
) -> None:
    both = nodes(lab)
    before = [forwarded(one) for one in both]
    assert len(connect_many(lab.client, vip, 60)) == 60
    assert len(dns_query(lab.client, vip, 60)) == 60
    wait_until(
        lambda: all(forwarded(one) >= count + 60 for one, count in zip(both, before)),
        "each node forwards its half",
        timeout_s=5,
    )


@VIPS
def test_fault_68_datagrams_of_one_flow_are_all_answered(lab: Lab, node: Node, vip: str) -> None:
    with UdpStream(lab.client, vip, per_second=100) as stream:
        time.sleep(2)
        report = stream.stop()
    assert report.sent > 100 and report.lost == 0 and report.errors == [], report
    assert len(report.targets) == 1


@VIPS
@pytest.mark.seconds(150)
def test_fault_68_idle_connection_lives_as_with_one_node(lab: Lab, node: Node, vip: str) -> None:
    """Its flow is there after longer than a handshake may take, and its target the same."""
    connections = [TcpConnection(lab.client, vip) for _ in range(CONNECTIONS)]
    first = [connection.ask().target for connection in connections]
    time.sleep(IDLE_S)
    active = sum(int(worker["flows_active"]) for worker in node.status()["engine"]["workers"])
    assert [connection.ask().target for connection in connections] == first
    for connection in connections:
        connection.close()
    assert active >= CONNECTIONS


@contextmanager
def late_server(target: Target) -> Iterator[None]:
    """Reads until the client's FIN, which nginx takes for its end, and then answers for seconds."""
    with target.namespace.socket(socket.AF_INET6, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("::", LATE_PORT))
        server.listen()
        server.settimeout(LATE_PATIENCE_S)

        def serve() -> None:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                return  # the client says what became of it
            with connection:
                connection.settimeout(LATE_PATIENCE_S)
                while connection.recv(4096):
                    pass
                for _ in range(LATE_BLOCKS):
                    time.sleep(0.5)
                    connection.sendall(bytes(LATE_BLOCK_BYTES))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join()


@VIPS
def test_fault_68_half_closed_connection_gets_all_of_its_answer(
    lab: Lab, node: Node, vip: str
) -> None:
    """The client's FIN goes by the first node, the answer behind it by the second."""
    with late_server(lab.target("t1")):
        with lab.client.tcp_socket(family_of(vip)) as asking:
            asking.settimeout(5)
            asking.connect((vip, LATE_PORT))
            asking.sendall(b"a question")
            asking.shutdown(socket.SHUT_WR)
            received = 0
            while block := asking.recv(65536):
                received += len(block)
    assert received == LATE_BLOCKS * LATE_BLOCK_BYTES
