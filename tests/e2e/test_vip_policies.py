# SPDX-License-Identifier: Apache-2.0
"""What a VIP does with what no listener is for: echo requests, and packets to ports without one."""

from __future__ import annotations

import copy
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab import Lab, Node
from lab.addresses import VIP_V4, VIP_V6, client_v4, client_v6
from lab.configs import Config, standard
from lab.namespace import Namespace
from lab.process import PATIENCE, wait_until
from lab.traffic import family_of, http_get, ping

CONFIG = standard()
WORKERS = 2
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
CLOSED_PORT = 4999  # of TCP and UDP: nobody listens
AT_ONCE_S = 1.0
REFUSED, TIMED_OUT = 7, 28  # curl's exit codes


def with_policies(**policies: str) -> Config:
    changed = copy.deepcopy(CONFIG)
    named = {f"millrace.{name}": value for name, value in policies.items()}
    changed["load_balancers"][0]["attributes"] = named
    return changed


def put(node: Node, config: Config) -> None:
    node.apply(config)
    node.wait_adopted()


@contextmanager
def policies(node: Node, **wanted: str) -> Iterator[None]:
    put(node, with_policies(**wanted))
    try:
        yield
    finally:
        put(node, CONFIG)


def is_answered(client: Namespace, vip: str) -> bool:
    return ping(client, vip, count=1) == 1


def is_served(client: Namespace, vip: str) -> bool:
    return [answer.target for answer in http_get(client, vip, 1)] in (["t1"], ["t2"], ["t3"])


def curl(client: Namespace, vip: str, port: int, patience_s: int = 10) -> tuple[int, float]:
    """Exit code, and how long it took."""
    host = f"[{vip}]" if ":" in vip else vip
    words = ["curl", "-sS", "--connect-timeout", str(patience_s), f"http://{host}:{port}/"]
    start = time.monotonic()
    code = client.run(words, check=False).returncode
    return code, time.monotonic() - start


def dig(client: Namespace, vip: str, port: int, patience_s: int = 10) -> tuple[str, float]:
    words = ["dig", f"+time={patience_s}", "+tries=1", "-p", str(port), f"@{vip}", "target"]
    start = time.monotonic()
    said = client.run(words, check=False).stdout
    return said, time.monotonic() - start


def clients(lab: Lab) -> list[Namespace]:
    """On the link, and behind a router."""
    return [lab.client, lab.remote]


@VIPS
def test_echo_follows_the_health_of_targets(lab: Lab, node: Node, vip: str) -> None:
    targets = [lab.target(name) for name in ("t1", "t2", "t3")]
    with policies(node, echo="healthy"):
        wait_until(lambda: is_answered(lab.client, vip), "the VIP answers", timeout_s=10)
        try:
            for target in targets[:2]:
                target.fail_health()
                node.wait_states("unhealthy", address=target.v6 if ":" in vip else target.v4)
            assert is_answered(lab.client, vip), "one is left"
            targets[2].fail_health()
            node.wait_states("unhealthy")
            wait_until(lambda: not is_answered(lab.client, vip), "it is silent", timeout_s=10)
            before = node.drops()["no_echo"]
            assert [ping(client, vip) for client in clients(lab)] == [0, 0]
            wait_until(lambda: node.drops()["no_echo"] >= before + 6, "it is counted", timeout_s=5)
            assert is_served(lab.client, vip), "it fails open"
            assert "NOT ANSWERED" in node.cli("listeners").stdout
        finally:
            for target in targets:
                target.fail_health(False)
        node.wait_states("healthy")
        wait_until(lambda: is_answered(lab.client, vip), "the VIP answers again", timeout_s=10)
        assert ping(lab.remote, vip) == 3


@VIPS
def test_echo_that_is_never_answered(lab: Lab, node: Node, vip: str) -> None:
    assert ping(lab.client, vip) == 3
    with policies(node, echo="never"):
        before = node.drops()["no_echo"]
        assert ping(lab.client, vip) == 0
        wait_until(lambda: node.drops()["no_echo"] >= before + 3, "it is counted", timeout_s=5)
        assert is_served(lab.client, vip)
    assert ping(lab.client, vip) == 3


@VIPS
def test_fault_25_refused_port_is_told_at_once(lab: Lab, node: Node, vip: str) -> None:
    with policies(node, no_listener="reject"):
        before = node.totals()["refusals_sent"]
        for client in clients(lab):
            code, seconds = curl(client, vip, CLOSED_PORT)
            assert code == REFUSED and seconds < AT_ONCE_S * PATIENCE, (client.role, seconds)
            said, seconds = dig(client, vip, CLOSED_PORT)
            assert "refused" in said and seconds < 5 * PATIENCE, said
            said, _ = dig(client, vip, 80)  # which is TCP's alone
            assert "refused" in said, said
        asked = lab.client.socket(family_of(vip), socket.SOCK_DGRAM)
        with asked:
            asked.settimeout(5 * PATIENCE)
            asked.connect((vip, CLOSED_PORT))
            asked.send(b"anybody there?")
            with pytest.raises(ConnectionRefusedError):
                asked.recv(100)
        wait_until(lambda: node.totals()["refusals_sent"] >= before + 7, "counted", timeout_s=5)
        assert is_served(lab.client, vip)
        endpoint = f"[{vip}]:{CLOSED_PORT}" if ":" in vip else f"{vip}:{CLOSED_PORT}"
        own = f"[{client_v6(0)}]:40000" if ":" in vip else f"{client_v4(0)}:40000"
        assert "answered by the node itself" in node.cli("explain", own, endpoint, "udp").stdout


@VIPS
def test_port_without_a_listener_is_silent_by_default(lab: Lab, node: Node, vip: str) -> None:
    before = node.drops()["no_listener"]
    assert curl(lab.client, vip, CLOSED_PORT, patience_s=2)[0] == TIMED_OUT
    assert "timed out" in dig(lab.client, vip, CLOSED_PORT, patience_s=1)[0]
    wait_until(lambda: node.drops()["no_listener"] >= before + 2, "it is counted", timeout_s=5)


def exchange(connection: socket.socket, vip: str) -> bytes:
    host = f"[{vip}]" if ":" in vip else vip
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return connection.recv(4096)


@VIPS
def test_connection_goes_on_while_policies_change_and_ends_with_its_listener(
    lab: Lab, node: Node, vip: str
) -> None:
    connection = lab.client.tcp_socket(family_of(vip))
    with connection, policies(node):
        connection.settimeout(5 * PATIENCE)
        connection.connect((vip, 80))
        for policy in ("reject", "kernel", "drop", "reject"):
            put(node, with_policies(no_listener=policy, echo="never"))
            assert exchange(connection, vip).startswith(b"HTTP/1.1 200")
        without = with_policies(no_listener="reject")
        balancer = without["load_balancers"][0]
        balancer["listeners"] = [one for one in balancer["listeners"] if one["port"] != 80]
        put(node, without)
        with pytest.raises(ConnectionResetError):
            exchange(connection, vip)
            exchange(connection, vip)


@contextmanager
def local_route(node: Node, vip: str) -> Iterator[None]:
    """The kernel takes packets for the VIP as its own, without having the address."""
    words = ("-6" if ":" in vip else "-4", "route")
    node.namespace.ip(*words, "add", "local", vip, "dev", "lo")
    try:
        yield
    finally:
        node.namespace.ip(*words, "delete", "local", vip, "dev", "lo")


@VIPS
def test_kernel_serves_a_port_that_has_no_listener(lab: Lab, node: Node, vip: str) -> None:
    family = family_of(vip)
    served = node.namespace.socket(family, socket.SOCK_STREAM)
    with served, local_route(node, vip), policies(node, no_listener="kernel"):
        served.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        served.bind(("", CLOSED_PORT))
        served.listen()
        served.settimeout(5 * PATIENCE)
        for client in clients(lab):
            asked = client.tcp_socket(family)
            with asked:
                asked.settimeout(5 * PATIENCE)
                asked.connect((vip, CLOSED_PORT))
                answering = served.accept()[0]
                with answering:
                    answering.sendall(b"the kernel")
                assert asked.recv(100) == b"the kernel"
        # What nobody serves there, the kernel refuses itself.
        assert curl(lab.client, vip, CLOSED_PORT + 1)[0] == REFUSED
        assert is_served(lab.client, vip)
        assert ping(lab.client, vip) == 3
        node.wait_no_alarms()


@VIPS
def test_vip_without_listeners_is_there(lab: Lab, node: Node, vip: str) -> None:
    bare = with_policies(no_listener="reject")
    bare["load_balancers"][0]["listeners"] = []
    with policies(node):
        put(node, bare)
        assert ping(lab.client, vip) == 3
        assert curl(lab.client, vip, 80)[0] == REFUSED
    node.wait_states("healthy")
