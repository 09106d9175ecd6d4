# SPDX-License-Identifier: Apache-2.0
"""What a listener takes: TCP and UDP by one listener, a target group for each protocol on one port,
and one target group of several load balancers. DNS is asked over both protocols."""

from __future__ import annotations

import copy
import itertools
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Self

import pytest
from lab import Lab, Node
from lab.addresses import OTHER_VIP_V4, OTHER_VIP_V6, VIP_V4, VIP_V6, target_v4, target_v6
from lab.configs import DNS_PORTS, Config, config, listeners, pair
from lab.namespace import Namespace
from lab.process import wait_until
from lab.target import DNS_PORT, WHOAMI
from lab.traffic import UdpStream, by_turns, dns_query, family_of

VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
ALL = {"t1", "t2", "t3"}


def dns(protocol: str, group_protocol: str = "TCP_UDP") -> Config:
    """Ports 53 and 5300 of four VIPs."""
    return config(listeners(protocol, DNS_PORTS, "dns"), pair("dns", group_protocol, DNS_PORT))


CONFIG = dns("TCP_UDP")


PORTS = itertools.count(20_000)  # below those that the kernel chooses


def question() -> bytes:
    name = b"".join(bytes([len(part)]) + part.encode() for part in WHOAMI.split("."))
    header = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0)
    return header + name + b"\0" + struct.pack("!HH", 16, 1)


def target_in(answer: bytes) -> str:
    return answer.rpartition(b"\0")[2][2:].decode()


def asked_by_datagram(client: Namespace, address: str, port: int) -> str:
    """From a port that no flow of this module has had: an old flow would keep its target."""
    with client.socket(family_of(address), socket.SOCK_DGRAM) as asking:
        asking.bind(("", next(PORTS)))
        asking.settimeout(2)
        asking.connect((address, port))
        for _ in range(3):
            asking.send(question())
            with suppress(TimeoutError):
                return target_in(asking.recv(2048))
    raise TimeoutError(f"{address} port {port} does not answer")


class DnsConnection:
    """A TCP connection to a DNS server that is kept open (RFC 7766): who answers on it?"""

    def __init__(self, client: Namespace, address: str, *, timeout_s: float = 5.0) -> None:
        self._socket = client.tcp_socket(family_of(address))
        self._socket.settimeout(timeout_s)
        self._socket.connect((address, 53))
        self.local_port: int = self._socket.getsockname()[1]

    def ask(self) -> str:
        """OSError when the connection is broken or silent."""
        query = question()
        self._socket.sendall(struct.pack("!H", len(query)) + query)
        size = struct.unpack("!H", self._receive(2))[0]
        return target_in(self._receive(size))

    def _receive(self, size: int) -> bytes:
        said = b""
        while len(said) < size:
            block = self._socket.recv(size - len(said))
            if not block:
                raise ConnectionResetError("closed by the other side")
            said += block
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@pytest.fixture(autouse=True)
def as_at_first(lab: Lab, node: Node) -> Iterator[None]:
    """Every test begins and ends with three healthy targets behind TCP_UDP listeners."""
    yield
    for target in lab.targets:
        target.fail_health(False)
    node.apply(CONFIG)
    for view in node.targets():
        if view.operator_drained:
            node.undrain(view)
    node.wait_states("healthy", count=6)
    node.wait_adopted()


def asked(lab: Lab, vip: str, protocol: str, count: int = 60) -> set[str]:
    if protocol == "UDP":
        endpoints = by_turns(lab.client, "UDP", vip, 53, count)
        return {asked_by_datagram(lab.client, *endpoint) for endpoint in endpoints}
    answers = dns_query(lab.client, vip, count, protocol="TCP")
    assert len(answers) == count
    return set(answers)


def is_refused(lab: Lab, vip: str) -> bool:
    """No TCP listener is there: SYNs are dropped."""
    try:
        with DnsConnection(lab.client, vip, timeout_s=0.5):
            return False
    except TimeoutError:
        return True


def address_of(vip: str, index: int) -> str:
    return target_v6(index) if ":" in vip else target_v4(index)


def connections(lab: Lab, vip: str, count: int, stack: ExitStack) -> dict[DnsConnection, str]:
    """With who answers."""
    made = [stack.enter_context(DnsConnection(lab.client, vip)) for _ in range(count)]
    return {connection: connection.ask() for connection in made}


def streams(lab: Lab, vip: str, count: int, stack: ExitStack) -> Sequence[UdpStream]:
    return [stack.enter_context(UdpStream(lab.client, vip, per_second=50)) for _ in range(count)]


@VIPS
def test_one_listener_answers_over_tcp_and_udp(lab: Lab, node: Node, vip: str) -> None:
    assert set(dns_query(lab.client, vip, 60)) == ALL
    assert asked(lab, vip, "UDP") == ALL
    assert asked(lab, vip, "TCP") == ALL


@pytest.mark.exact
def test_flows_are_counted_once_by_protocol_and_by_target(lab: Lab, node: Node) -> None:
    def by_protocol() -> dict[str, int]:
        rows = node.json("listeners")["listeners"]
        assert len(rows) == 4 * len(DNS_PORTS) * 2, "a row for each VIP, port and protocol"
        return {
            protocol: sum(row["new_flows"] for row in rows if row["protocol"] == protocol)
            for protocol in ("TCP", "UDP")
        }

    def by_target() -> int:
        groups = node.json("targets")["target_groups"]
        return sum(target["new_flows"] for group in groups for target in group["targets"])

    listeners_before, targets_before = by_protocol(), by_target()
    asked(lab, VIP_V4, "UDP", 30)
    asked(lab, VIP_V4, "TCP", 20)

    def is_counted() -> bool:
        now = by_protocol()
        grown = {protocol: now[protocol] - listeners_before[protocol] for protocol in now}
        return grown == {"TCP": 20, "UDP": 30} and by_target() - targets_before == 50

    wait_until(is_counted, "each flow is counted once", timeout_s=10)
    group = node.group("dns-4")
    assert group["protocol"] == "TCP_UDP" and len(group["targets"]) == 3


@VIPS
def test_explain_tells_of_either_protocol(lab: Lab, node: Node, vip: str) -> None:
    endpoint = f"[{vip}]:53" if ":" in vip else f"{vip}:53"
    client = "[2001:db8:2::100]:1000" if ":" in vip else "192.0.2.100:1000"
    for protocol in ("TCP", "UDP"):
        said = node.cli("explain", client, endpoint, protocol).stdout
        assert f"listener {protocol} {endpoint} of load balancer web forwards to" in said, said
        assert re.search(r"=> forwarded to dns-[46]/", said), said
    with DnsConnection(lab.client, vip) as connection:
        owner = connection.ask()
        client = client.rpartition(":")[0] + f":{connection.local_port}"
        # The XDP engine's daemon writes what can be read once a second.
        wait_until(
            lambda: "knows this flow" in node.cli("explain", client, endpoint, "TCP").stdout,
            "the flow can be seen",
            timeout_s=10,
        )
        said = node.cli("explain", client, endpoint, "TCP").stdout
        assert address_of(vip, int(owner[1:])) in said, said
        assert "no flow table has this flow" in node.cli("explain", client, endpoint, "UDP").stdout


@VIPS
@pytest.mark.parametrize("is_group_changed", [False, True])
def test_live_flows_outlast_changes_of_what_the_listener_takes(
    lab: Lab, node: Node, vip: str, is_group_changed: bool
) -> None:
    """TCP, TCP_UDP, UDP, and back; with a group that is TCP_UDP throughout, and with one that is
    what its listeners are."""

    def change(protocol: str) -> None:
        node.apply(dns(protocol, protocol if is_group_changed else "TCP_UDP"))
        node.wait_adopted()

    change("TCP")
    node.wait_states("healthy", count=6)
    ids = {view.address: view.id for view in node.targets() if view.state == "healthy"}
    with ExitStack() as stack:
        made = connections(lab, vip, 12, stack)
        change("TCP_UDP")
        assert {c: c.ask() for c in made} == made
        udp = streams(lab, vip, 6, stack)
        assert asked(lab, vip, "UDP", 30) == ALL
        assert {c: c.ask() for c in made} == made
        change("UDP")
        assert is_refused(lab, vip)
        assert asked(lab, vip, "UDP", 30) == ALL
        change("TCP_UDP")
        assert asked(lab, vip, "TCP", 30) == ALL
        reports = [stream.stop() for stream in udp]
    for report in reports:
        assert report.lost == 0 and report.errors == [] and len(report.targets) == 1, report
    assert {v.address: v.id for v in node.targets() if v.state == "healthy"} == ids


@VIPS
def test_unhealthy_target_keeps_connections_and_loses_datagrams(
    lab: Lab, node: Node, vip: str
) -> None:
    with ExitStack() as stack:
        made = connections(lab, vip, 15, stack)
        udp = streams(lab, vip, 15, stack)
        lab.target("t2").fail_health()
        node.wait_states("unhealthy", address=address_of(vip, 2))
        node.wait_adopted()
        assert {c: c.ask() for c in made} == made and "t2" in made.values()
        assert asked(lab, vip, "UDP", 30) == {"t1", "t3"}
        assert asked(lab, vip, "TCP", 30) == {"t1", "t3"}
        reports = [stream.stop() for stream in udp]
    moved = [report for report in reports if len(report.targets) > 1]
    assert moved and all("t2" in report.targets for report in moved)
    assert not any(set(report.targets) == {"t2"} for report in reports)


@VIPS
def test_draining_target_keeps_flows_of_both_protocols(lab: Lab, node: Node, vip: str) -> None:
    with ExitStack() as stack:
        made = connections(lab, vip, 15, stack)
        udp = streams(lab, vip, 15, stack)
        # Each stream has its target once it was answered.
        wait_until(lambda: all(s.report.answered for s in udp), "all are answered", timeout_s=5)
        node.drain(node.target("dns", address_of(vip, 2)))
        node.wait_adopted()
        assert asked(lab, vip, "UDP", 30) == {"t1", "t3"}
        assert asked(lab, vip, "TCP", 30) == {"t1", "t3"}
        assert {c: c.ask() for c in made} == made
        reports = [stream.stop() for stream in udp]
    assert all(report.lost == 0 and len(report.targets) == 1 for report in reports)
    assert "t2" in made.values() and any("t2" in report.targets for report in reports)


@VIPS
def test_port_has_a_group_for_each_protocol_with_the_same_targets(
    lab: Lab, node: Node, vip: str
) -> None:
    """Both groups' targets are the same addresses and ports: a reply's protocol tells them apart.
    UDP's lack t3, and lose t2."""
    apart = config(
        [*listeners("TCP", DNS_PORTS, "tcp"), *listeners("UDP", DNS_PORTS, "udp")],
        [*pair("tcp", "TCP", DNS_PORT), *pair("udp", "UDP", DNS_PORT, members=(1, 2))],
    )
    node.apply(apart)
    node.wait_states("healthy", count=10)
    node.wait_adopted()
    assert asked(lab, vip, "TCP") == ALL
    assert asked(lab, vip, "UDP") == {"t1", "t2"}
    with ExitStack() as stack:
        made = connections(lab, vip, 15, stack)
        node.drain(node.target("udp", address_of(vip, 2)))
        node.wait_adopted()
        assert asked(lab, vip, "UDP", 30) == {"t1"}
        assert asked(lab, vip, "TCP", 30) == ALL
        assert {c: c.ask() for c in made} == made


def of_two_balancers() -> Config:
    """The standard VIPs are one's, the others another's; both have the same target groups."""
    made = copy.deepcopy(CONFIG)
    first = made["load_balancers"][0]
    second = {**copy.deepcopy(first), "name": "other", "addresses": [OTHER_VIP_V4, OTHER_VIP_V6]}
    first["addresses"] = [VIP_V4, VIP_V6]
    made["load_balancers"].append(second)
    return made


@pytest.mark.parametrize("vip, other", [(VIP_V4, OTHER_VIP_V4), (VIP_V6, OTHER_VIP_V6)])
def test_one_group_serves_two_load_balancers(lab: Lab, node: Node, vip: str, other: str) -> None:
    both = of_two_balancers()
    before = {view.address: view.id for view in node.targets()}
    with ExitStack() as stack:
        made = connections(lab, other, 12, stack)
        node.apply(both)
        node.wait_adopted()
        assert {c: c.ask() for c in made} == made, "the VIP is another load balancer's now"
        for asked_vip in (vip, other):
            assert asked(lab, asked_vip, "TCP", 30) == asked(lab, asked_vip, "UDP", 30) == ALL
        rows = node.json("listeners")["listeners"]
        assert {(row["vip"], row["load_balancer"]) for row in rows} == {
            *((one, "web") for one in (VIP_V4, VIP_V6)),
            *((one, "other") for one in (OTHER_VIP_V4, OTHER_VIP_V6)),
        }
        assert {view.address: view.id for view in node.targets()} == before, "each is there once"

        node.drain(node.target("dns", address_of(vip, 2)))
        node.wait_adopted()
        for asked_vip in (vip, other):
            assert asked(lab, asked_vip, "UDP", 30) == {"t1", "t3"}
        assert {c: c.ask() for c in made} == made

        del both["load_balancers"][0]
        node.apply(both)
        node.wait_adopted()
        assert {c: c.ask() for c in made} == made
        assert asked(lab, other, "UDP", 30) == {"t1", "t3"}
