# SPDX-License-Identifier: Apache-2.0
"""Direct server return: targets hold the VIP, replies never pass the node."""

from __future__ import annotations


import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.checks import assert_dns_is_shared, assert_http_is_shared
from lab.configs import direct
from lab.process import wait_until
from lab.traffic import TcpConnection, ping

LAYOUT = Layout(dsr=True)
CONFIG = direct()
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])


@VIPS
def test_http_is_shared_and_shows_the_clients_address(lab: Lab, node: Node, vip: str) -> None:
    assert_http_is_shared(lab.client, vip)


@VIPS
def test_dns_is_shared(lab: Lab, node: Node, vip: str) -> None:
    assert_dns_is_shared(lab.client, vip)


@pytest.mark.exact
@VIPS
def test_replies_do_not_pass_the_node(lab: Lab, node: Node, vip: str) -> None:
    connection = TcpConnection(lab.client, vip)
    connection.ask()
    before = node.totals()["forwarded_packets"]
    asked = 200
    for _ in range(asked):
        connection.ask()

    def forwarded() -> int:
        return node.totals()["forwarded_packets"] - before

    # The worker tells its counters between bursts, perhaps a moment after the last answer.
    wait_until(lambda: forwarded() >= asked, "every request is counted", timeout_s=5)
    connection.close()
    # A request and at most one acknowledgement each; the answers would make it twice as many.
    assert forwarded() <= 2 * asked + 10


@VIPS
def test_the_node_alone_answers_for_the_vip(lab: Lab, node: Node, vip: str) -> None:
    lab.client.forget_neighbours("eth0")
    assert ping(lab.client, vip, 3) == 3
