# SPDX-License-Identifier: Apache-2.0
"""NICs that spread frames over several rx queues: all clients are served, whatever queue their
packets come by, or somebody is told."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from lab import Lab, Layout, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import standard
from lab.process import wait_until
from lab.traffic import connect_many, dns_query, ping

QUEUES = 4
QUEUES_MAX = 32  # RTE_MAX_ETHPORTS of Debian's DPDK: each queue is a device
FLOWS = 200
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])
DPDK_ALONE = pytest.mark.only_engine("dpdk", "the program of the XDP engine runs on every queue")


def shapes() -> list[object]:
    return [
        pytest.param((1, False), id="one worker"),
        pytest.param((2, False), id="two workers"),
        pytest.param((2, True), id="two workers, two nics"),
    ]


@pytest.fixture(scope="module", params=shapes())
def spread(request: pytest.FixtureRequest, engine: str) -> Iterator[Lab]:
    workers, two_nics = request.param
    if engine == "xdp" and workers == 1:
        pytest.skip("XDP has no workers: the same as with two")
    layout = Layout(nic_queues=QUEUES, two_nics=two_nics, hugepages=260)
    with Lab(layout, engine=engine) as lab:
        lab.node.start(standard(), workers=workers)
        lab.node.wait_states("healthy")
        yield lab


def queue_packets(node: Node) -> list[int]:
    """What came by each rx queue of the first nic."""
    shown = node.namespace.run(["ethtool", "--statistics", "nic0"]).stdout
    return [int(count) for count in re.findall(r"rx_queue_\d+_xdp_packets: (\d+)", shown)]


@VIPS
def test_fault_63_clients_of_every_queue_are_served(spread: Lab, vip: str) -> None:
    before = queue_packets(spread.node)
    assert len(connect_many(spread.client, vip, FLOWS)) == FLOWS
    assert len(dns_query(spread.client, vip, FLOWS)) == FLOWS
    assert ping(spread.client, vip, 3) == 3
    came = [now - then for now, then in zip(queue_packets(spread.node), before, strict=True)]
    assert len(came) == QUEUES and min(came) > FLOWS / 10, "the switch spreads them"


def test_every_packet_is_accounted_for(spread: Lab) -> None:
    for worker in spread.node.settled_balances():
        assert worker.balanced, worker.equation
    spread.node.wait_no_alarms()


def set_queues(lab: Lab, count: int) -> None:
    """Of the first nic and of the switch's end, which must not spread over more."""
    ends = [(lab.node.namespace, "nic0"), (lab.namespaces["switch"], "node-nic0")]
    for host, interface in ends if count == QUEUES else reversed(ends):
        host.run(["ethtool", "--set-channels", interface, "rx", str(count), "tx", str(count)])


def wait_alarm(node: Node, said: str) -> None:
    """Beside others: after a start of the engine one says that nobody is probed yet."""
    wait_until(
        lambda: any(said in alarm for alarm in node.status()["alarms"]),
        f"an alarm is raised: {said}",
        timeout_s=2,
    )


def refusal(node: Node, *more: str) -> str:
    """The line that a refused start of the engine leaves; what runs is stopped before."""
    node.dataplane.stop()
    words = [*node.dataplane_words(), *more]
    return str(node.namespace.run(words, check=False).stderr)


@DPDK_ALONE
def test_fault_63_all_queues_that_dpdk_drives_by_af_xdp_are_served(engine: str) -> None:
    layout = Layout(nic_queues=QUEUES_MAX, hugepages=400)
    with Lab(layout, engine=engine) as lab:
        lab.node.start(standard())
        lab.node.wait_states("healthy")
        assert len(connect_many(lab.client, VIP_V4, FLOWS)) == FLOWS
        came = queue_packets(lab.node)
        assert len(came) == QUEUES_MAX and min(came) > 0


@DPDK_ALONE
def test_fault_63_fewer_queues_than_the_nic_spreads_over_are_refused(spread: Lab) -> None:
    said = refusal(spread.node, "--queues", "2")
    assert (
        "nic nic0: spreads frames over 4 rx queues, --queues asks for 2: a part of the clients "
        "would get no service; leave --queues out, or: ethtool -L nic0 rx 2 tx 2" in said
    )
    spread.node.restart_dataplane()
    spread.node.wait_adopted()


@DPDK_ALONE
def test_fault_63_queues_added_while_the_engine_runs_raise_an_alarm(spread: Lab) -> None:
    node = spread.node
    node.dataplane.stop()
    set_queues(spread, 2)
    node.restart_dataplane()
    node.wait_adopted()
    node.wait_no_alarms()
    assert len(connect_many(spread.client, VIP_V4, FLOWS)) == FLOWS
    set_queues(spread, QUEUES)
    wait_alarm(node, "nic nic0: frames on 2 of its rx queues reach no worker")
    assert node.status()["engine"]["nics"][0]["unserved_queues"] == 2
    assert "restart the engine, or: ethtool -L nic0 rx 2 tx 2" in node.dataplane.log_tail(5)
    node.dataplane.stop()
    node.restart_dataplane()
    node.wait_adopted()
    node.wait_no_alarms()
    assert len(connect_many(spread.client, VIP_V4, FLOWS)) == FLOWS


@DPDK_ALONE
def test_another_program_on_the_nic_is_named_with_what_takes_it_off(spread: Lab) -> None:
    node = spread.node
    node.dataplane.stop()
    node.namespace.ip("link", "set", "dev", "nic0", "xdp", "off")
    passes = str(node.build / "deploy/lab/pass.bpf.o")
    for mode in ("xdp", "xdpgeneric"):
        words = ["dev", "nic0", mode, "object", passes, "section", "xdp"]
        node.namespace.ip("link", "set", *words)
        said = refusal(node)
        assert "nic nic0: the XDP program 'pass' (id " in said, said
        assert f"(ip link set dev nic0 {mode} off takes it off)" in said, said
        node.namespace.ip("link", "set", "dev", "nic0", mode, "off")
    node.restart_dataplane()
    node.wait_adopted()


@DPDK_ALONE
def test_fault_92_program_that_somebody_takes_off_raises_an_alarm(spread: Lab) -> None:
    node = spread.node
    node.namespace.ip("link", "set", "dev", "nic0", "xdp", "off")
    wait_alarm(node, "nic nic0 has lost its XDP program: nothing that comes in by it is forwarded")
    nic = node.status()["engine"]["nics"][0]
    assert (nic["has_program"], nic["link_up"], nic["unserved_queues"]) == (False, False, 0)
    assert "XDP PROGRAM LOST" in node.cli("status").stdout
    said = "somebody took off its XDP program"
    wait_until(lambda: said in node.dataplane.log_tail(5), "the log says why", timeout_s=2)
    for _ in range(20):  # IPv6 probes fail, IPv4 ones do not
        assert {view.state for view in node.targets()} == {"healthy"}
        time.sleep(0.2)
    node.dataplane.stop()
    node.restart_dataplane()
    node.wait_adopted()
    assert len(connect_many(spread.client, VIP_V4, FLOWS)) == FLOWS
