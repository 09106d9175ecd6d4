# SPDX-License-Identifier: Apache-2.0
"""Listeners with several ports or any, targets that get the port that the client asked for, and
networks of VIPs."""

from __future__ import annotations

import copy
import errno
import itertools
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from lab import Lab, Node
from lab.addresses import OTHER_VIP_V4, OTHER_VIP_V6, VIP_V4, VIP_V6, target_v4, target_v6
from lab.configs import Config, config, listener, pair
from lab.process import wait_until
from lab.target import ANY_PORTS, BLOB_BYTES, DNS_PORT, HTTP_PORT
from lab.traffic import TcpConnection, bracketed, dns_query, family_of, http_get

VIPS = pytest.mark.parametrize("vip, other", [(VIP_V4, OTHER_VIP_V4), (VIP_V6, OTHER_VIP_V6)])
ALL = {"t1", "t2", "t3"}
FIRST, LAST = ANY_PORTS[0], ANY_PORTS[-1]
APART = FIRST + 5  # has a listener of its own
CLIENT_PORTS = itertools.count(21_000)


def ranged(name: str, protocol: str) -> list[Config]:
    """Groups whose targets take any port."""
    groups = pair(name, protocol, 0)
    for group in groups:
        group["port"] = "any"
    return groups


def tcp_listener(port: int | str, name: str) -> Config:
    entry = listener("TCP", 0, name)
    entry["port"] = port
    return entry


def udp_listener(port: int | str, name: str) -> Config:
    return {**tcp_listener(port, name), "protocol": "UDP"}


CONFIG = config(
    [
        tcp_listener(f"{FIRST}-{LAST}", "kept"),
        tcp_listener(APART, "one"),
        tcp_listener("30000-30010", "one"),
        udp_listener("any", "asked"),
        udp_listener(53, "dns"),
    ],
    [
        *ranged("kept", "TCP"),
        *pair("one", "TCP", HTTP_PORT, members=(1,)),
        *ranged("asked", "UDP"),
        *pair("dns", "UDP", DNS_PORT, members=(2,)),
    ],
    # The lab's VIPs, as networks.
    addresses=[f"{VIP_V4}/31", f"{VIP_V6}/127"],
)


@pytest.fixture(autouse=True)
def as_at_first(lab: Lab, node: Node) -> Iterator[None]:
    yield
    node.apply(CONFIG)
    node.wait_adopted()


def ports_asked(lab: Lab) -> set[int]:
    """By which nginx was asked, of all targets."""
    lines = [line.split() for target in lab.targets for line in _log(target.home)]
    return {int(words[4]) for words in lines if len(words) >= 7}


def _log(home: object) -> list[str]:
    path = f"{home}/http-requests.log"
    with open(path, errors="replace", encoding="utf-8") as log:
        return log.read().splitlines()


@VIPS
def test_target_gets_the_port_that_the_client_asked_for(
    lab: Lab, node: Node, vip: str, other: str
) -> None:
    answered: set[str] = set()
    for port in ANY_PORTS:
        for address in (vip, other):
            answers = http_get(lab.client, address, 3, port)
            assert len(answers) == 3, (address, port)
            if port == APART:
                assert {answer.target for answer in answers} == {"t1"}
            else:
                answered |= {answer.target for answer in answers}
    assert answered == ALL
    assert set(ANY_PORTS) - {APART} <= ports_asked(lab)
    assert APART not in ports_asked(lab)


@VIPS
def test_ports_beside_the_range_have_no_listener(
    lab: Lab, node: Node, vip: str, other: str
) -> None:
    for port in (FIRST - 1, LAST + 1, 29_999, 30_011):
        with pytest.raises(TimeoutError):
            TcpConnection(lab.client, vip, port=port, timeout_s=0.3)


@VIPS
def test_all_ports_of_a_range_lead_to_one_port(lab: Lab, node: Node, vip: str, other: str) -> None:
    for port in (30_000, 30_005, 30_010):
        with TcpConnection(lab.client, vip, port=port) as connection:
            assert [connection.ask().target for _ in range(3)] == ["t1"] * 3


@VIPS
def test_one_client_port_has_a_flow_for_each_port(
    lab: Lab, node: Node, vip: str, other: str
) -> None:
    """Targets tell them apart by their own port, so none of the connections disturbs another."""
    with ExitStack() as stack:
        local_port = next(CLIENT_PORTS)
        made = []
        for port in (FIRST, FIRST + 1, LAST):
            connection = stack.enter_context(lab.client.socket(family_of(vip), socket.SOCK_STREAM))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.settimeout(5)
            connection.bind(("", local_port))
            connection.connect((vip, port))
            made.append(connection)
        for _ in range(3):
            for connection in made:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200 OK" in connection.recv(4096)


@VIPS
def test_download_by_a_port_of_a_range(lab: Lab, node: Node, vip: str, other: str) -> None:
    words = ["curl", "--silent", "--globoff", "--max-time", "30", "--output", "/dev/null"]
    words += ["--write-out", "%{size_download}", f"http://{bracketed(vip)}:{LAST}/blob"]
    assert int(lab.client.run(words, timeout_s=60).stdout) == BLOB_BYTES


@VIPS
def test_any_port_of_udp(lab: Lab, node: Node, vip: str, other: str) -> None:
    assert set(dns_query(lab.client, vip, 30, DNS_PORT)) == ALL
    assert set(dns_query(lab.client, vip, 5)) == {"t2"}, "53 has a listener of its own"


@VIPS
def test_refusal_of_the_target_names_the_port_that_was_asked(
    lab: Lab, node: Node, vip: str, other: str
) -> None:
    """ICMP's "port unreachable" about a port that nothing on the target listens on."""
    with lab.client.socket(family_of(vip), socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.connect((vip, 5999))
        asking.send(b"?")
        with pytest.raises(ConnectionRefusedError) as refused:
            asking.recv(100)
        assert refused.value.errno == errno.ECONNREFUSED


@VIPS
def test_connections_outlast_a_longer_range(lab: Lab, node: Node, vip: str, other: str) -> None:
    changed = copy.deepcopy(CONFIG)
    changed["load_balancers"][0]["listeners"][0]["port"] = f"{FIRST}-{LAST + 100}"
    with TcpConnection(lab.client, vip, port=LAST) as connection:
        owner = connection.ask().target
        node.apply(changed)
        node.wait_adopted()
        assert connection.ask().target == owner
        # The way of a port that has just come: a target refuses it, where it had no answer before.
        with pytest.raises(ConnectionRefusedError):
            TcpConnection(lab.client, vip, port=LAST + 50)
        assert connection.ask().target == owner


@VIPS
@pytest.mark.parametrize("before, after", [(FIRST, f"{FIRST}-{LAST}"), (f"{FIRST}-{LAST}", FIRST)])
def test_connections_outlast_one_port_that_becomes_a_range_and_back(
    lab: Lab, node: Node, vip: str, other: str, before: int | str, after: int | str
) -> None:
    """Also those whose target is taken out at the same time: it drains."""
    changed = copy.deepcopy(CONFIG)
    changed["load_balancers"][0]["listeners"][0]["port"] = before
    node.apply(changed)
    node.wait_adopted()
    with ExitStack() as stack:
        made = [stack.enter_context(TcpConnection(lab.client, vip, port=FIRST)) for _ in range(12)]
        owners = [connection.ask().target for connection in made]
        assert "t2" in owners
        changed["load_balancers"][0]["listeners"][0]["port"] = after
        for group in changed["target_groups"]:
            if group["name"].startswith("kept"):
                gone = (target_v4(2), target_v6(2))
                group["targets"] = [one for one in group["targets"] if one["id"] not in gone]
        node.apply(changed)
        node.wait_adopted()
        assert [connection.ask().target for connection in made] == owners


@VIPS
def test_cli_tells_of_ports(lab: Lab, node: Node, vip: str, other: str) -> None:
    shown = node.cli("listeners").stdout
    assert f"{FIRST}-{LAST}" in shown and "any" in shown, shown
    assert node.group("kept-4")["port"] == "any" and node.group("one-4")["port"] == HTTP_PORT
    assert re.search(rf"^kept-4/{target_v4(1)} ", node.cli("targets").stdout, re.MULTILINE)
    client = "[2001:db8:2::100]" if ":" in vip else "192.0.2.100"
    with TcpConnection(lab.client, vip, port=FIRST + 1) as connection:
        owner = int(connection.ask().target[1:])
        own = target_v6(owner) if ":" in vip else target_v4(owner)
        where = (f"{client}:{connection.local_port}", f"{bracketed(vip)}:{FIRST + 1}", "TCP")
        wait_until(
            lambda: "knows this flow" in node.cli("explain", *where).stdout,
            "the flow can be seen",
            timeout_s=10,
        )
        said = node.cli("explain", *where).stdout
        assert f"=> forwarded to kept-{'6' if ':' in vip else '4'}/{own}" in said, said
        flows = node.cli("flows", "--vip", f"{bracketed(vip)}:{FIRST + 1}").stdout
        assert f"{bracketed(own)}:{FIRST + 1}" in flows, flows
        assert f"{bracketed(vip)}:{FIRST + 1}" in flows, flows


@VIPS
def test_target_of_any_port_drains_by_its_address(
    lab: Lab, node: Node, vip: str, other: str
) -> None:
    family = "6" if ":" in vip else "4"
    own = target_v6(2) if ":" in vip else target_v4(2)
    with ExitStack() as stack:
        made = [stack.enter_context(TcpConnection(lab.client, vip, port=FIRST)) for _ in range(12)]
        owners = [connection.ask().target for connection in made]
        node.cli("drain", f"kept-{family}", own)
        node.wait_adopted()
        assert {answer.target for answer in http_get(lab.client, vip, 20, FIRST)} == {"t1", "t3"}
        assert [connection.ask().target for connection in made] == owners
    node.cli("undrain", f"kept-{family}", own)
