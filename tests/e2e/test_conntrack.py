# SPDX-License-Identifier: Apache-2.0
"""Targets with a stateful firewall: their connection tracking follows what passes the node."""

from __future__ import annotations

import re
import time

import pytest
from lab import Lab, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.checks import assert_dns_is_shared, assert_http_is_shared
from lab.configs import standard
from lab.traffic import TcpStreams, http_get, upload

CONFIG = standard()
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
# `tcp_loose`: else a connection is also taken up in its middle, and nothing is invalid.
STRICT = {"net.netfilter.nf_conntrack_tcp_loose": "0"}
RULES = """table inet watch {
  chain input {
    type filter hook input priority 0
    ct state invalid counter drop
    ct state established counter
  }
}
"""


def tracked(lab: Lab) -> tuple[int, int]:
    """Packets that the targets' connection tracking could make nothing of, and those of known
    connections."""
    said = [one.namespace.run(["nft", "list", "table", "inet", "watch"]) for one in lab.targets]
    counts = [[int(count) for count in re.findall(r"packets (\d+)", one.stdout)] for one in said]
    return sum(one[0] for one in counts), sum(one[1] for one in counts)


@pytest.fixture(scope="module", autouse=True)
def firewalls(lab: Lab) -> None:
    for target in lab.targets:
        done = target.namespace.run(["nft", "--file", "-"], stdin=RULES, check=False)
        if done.returncode != 0:
            pytest.skip("this kernel tracks no connections")
        target.namespace.sysctls(STRICT)


@VIPS
def test_connections_and_datagrams_are_valid_to_targets(lab: Lab, node: Node, vip: str) -> None:
    invalid, established = tracked(lab)
    assert_http_is_shared(lab.client, vip)
    assert_dns_is_shared(lab.client, vip)
    assert len(http_get(lab.client, vip, 20)) == 20
    assert upload(lab.client, vip, 600_000).target in ("t1", "t2", "t3")
    now = tracked(lab)
    assert now[0] == invalid and now[1] > established + 10


def test_connections_stay_valid_through_a_restart_of_the_engine(lab: Lab, node: Node) -> None:
    invalid, established = tracked(lab)
    with TcpStreams(lab.client, VIP_V4, connections=10) as streams:
        with node.outage.lasting():
            node.dataplane.kill()
            time.sleep(1)
            node.restart_dataplane()
            node.wait_adopted()
        time.sleep(3)
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
    now = tracked(lab)
    assert now[0] == invalid and now[1] > established + 10
