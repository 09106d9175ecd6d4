# SPDX-License-Identifier: Apache-2.0
"""A node whose NIC is a bond of two interfaces, which speaks LACP with the switch.

`tests/run vm` has a kernel with bonds where this machine's has none.
"""

from __future__ import annotations

import time

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.checks import assert_dns_is_shared, assert_http_is_shared
from lab.configs import standard
from lab.node import REPOSITORY
from lab.process import run, wait_until
from lab.traffic import TcpStreams

LAYOUT = Layout(bonded=True)
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
XDP_ALONE = pytest.mark.only_engine("xdp", "AF_XDP takes nothing from a bond")


@pytest.fixture(scope="module", autouse=True)
def with_bonds() -> None:
    # Else the module makes a bond of this machine's own when it is loaded.
    words = ["/usr/sbin/modprobe", "--quiet", "bonding", "max_bonds=0"]
    if run(words, check=False).returncode != 0:
        pytest.skip("this kernel has no bonds (tests/run vm has one that does)")


@pytest.fixture(scope="module")
def started(lab: Lab, engine: str) -> Node:
    if engine == "xdp":
        lab.node.start(standard())
        lab.node.wait_states("healthy")
    return lab.node


@XDP_ALONE
@VIPS
def test_http_and_dns_are_shared(lab: Lab, node: Node, vip: str) -> None:
    assert_http_is_shared(lab.client, vip)
    assert_dns_is_shared(lab.client, vip)


@XDP_ALONE
def test_fault_52_member_that_goes_and_comes_back_ends_no_connection(lab: Lab, node: Node) -> None:
    with TcpStreams(lab.client, VIP_V4, connections=10) as streams:
        for member in ("node-nic0a", "node-nic0b"):
            lab.set_port(member, False)
            time.sleep(2)
            lab.set_port(member, True)
            time.sleep(2)
        report = streams.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report
    node.wait_no_alarms()


@XDP_ALONE
def test_fault_71_member_that_comes_leaves_vlan_tags_in_frames(lab: Lab, node: Node) -> None:
    host = node.namespace
    host.ip("link", "set", "nic0b", "nomaster")
    host.run(["ethtool", "--offload", "nic0b", "rxvlan", "on"])
    host.ip("link", "set", "nic0b", "down")
    host.ip("link", "set", "nic0b", "master", "nic0")
    wait_until(
        lambda: "rx-vlan-offload: off" in host.run(["ethtool", "--show-features", "nic0b"]).stdout,
        "the engine has switched it off",
        timeout_s=5,
    )
    assert_http_is_shared(lab.client, VIP_V4)


@pytest.mark.only_engine("dpdk", "the XDP engine serves bonds")
@pytest.mark.parametrize(("nic", "why"), [("nic0", "is a bond,"), ("nic0a", "is a bond's,")])
def test_bond_is_refused_with_the_remedy(started: Node, nic: str, why: str) -> None:
    words = [nic if word == "nic0" else word for word in started.engine_words()]
    done = started.namespace.run(words, check=False)
    assert done.returncode == 1 and f"nic {nic}: {why}" in done.stderr, done.stderr
    assert "start millrace-xdp" in done.stderr
    checked = started.namespace.run([REPOSITORY / "deploy/host-check", nic], check=False).stdout
    assert why in checked, checked
