# SPDX-License-Identifier: Apache-2.0
"""A range of ports and any port where targets hold the VIP: they get the port that was asked."""

from __future__ import annotations

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import Config, config, listener, pair
from lab.target import ANY_PORTS, DNS_PORT_DSR
from lab.traffic import TcpConnection, dns_query

LAYOUT = Layout(dsr=True)
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
ALL = {"t1", "t2", "t3"}


def of_any_port(
    protocol: str, port: str, name: str, forwarding: str
) -> tuple[Config, list[Config]]:
    groups = pair(name, protocol, 0, forwarding=forwarding)
    for group in groups:
        group["port"] = "any"
    return {**listener(protocol, 0, name), "port": port}, groups


def direct(forwarding: str) -> Config:
    tcp, tcp_groups = of_any_port("TCP", f"{ANY_PORTS[0]}-{ANY_PORTS[-1]}", "http", forwarding)
    udp, udp_groups = of_any_port("UDP", "any", "dns", forwarding)
    return config([tcp, udp], [*tcp_groups, *udp_groups])


CONFIG = direct("dsr")


@VIPS
def test_each_port_of_the_range_is_served(lab: Lab, node: Node, vip: str) -> None:
    answered = set()
    for port in ANY_PORTS:
        with TcpConnection(lab.client, vip, port=port) as connection:
            owners = {connection.ask().target for _ in range(3)}
            assert len(owners) == 1
            answered |= owners
    assert answered == ALL
    with pytest.raises(TimeoutError):
        TcpConnection(lab.client, vip, port=ANY_PORTS[-1] + 1, timeout_s=0.3)


@VIPS
def test_any_port_of_udp_is_served(lab: Lab, node: Node, vip: str) -> None:
    assert set(dns_query(lab.client, vip, 30, DNS_PORT_DSR)) == ALL
