# SPDX-License-Identifier: Apache-2.0
"""Our systemd units with both engines, on a virtio NIC of a guest. In this order: the guest starts
empty, and each test goes on where the one before stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
from lab.addresses import NODE_CLIENT_V4, VIP_V4, VIP_V6
from lab.configs import standard
from lab.process import wait_until
from lab.traffic import StreamReport, TcpStreams, connect_many, ping
from vm import Kernel
from vm.nic import Nic
from vm.node import CONTROL_PLANE, ETC, LAYOUT, TWIN, GuestNode, WireLab, installed_node

HUGEPAGES = 192
CONFIG = standard(members=(1,))
# What an engine keeps, once it runs: one BPF, PERFMON and NET_ADMIN (linux/capability.h).
CAPABILITIES = {"millrace-xdp": 1 << 39 | 1 << 38 | 1 << 12, "millrace-dataplane": 0}


ONE_TARGET = replace(LAYOUT, targets=1)
NIC_ON_THE_BUS = Nic("virtio", "virtio-net-pci-transitional")
INTERFACE = "eth0"


@pytest.fixture(scope="module")
def made(kernel: Kernel) -> Iterator[tuple[WireLab, GuestNode]]:
    with installed_node(kernel, ONE_TARGET, [NIC_ON_THE_BUS]) as made:
        made[1].give_addresses(INTERFACE)
        yield made


@pytest.fixture
def lab(made: tuple[WireLab, GuestNode]) -> WireLab:
    return made[0]


@pytest.fixture
def node(made: tuple[WireLab, GuestNode]) -> GuestNode:
    return made[1]


def assert_answers(lab: WireLab) -> None:
    for vip in (VIP_V4, VIP_V6):
        assert len(connect_many(lab.client, vip, 20, parallel=4)) == 20
        assert ping(lab.client, vip, count=1) == 1
    assert ping(lab.client, NODE_CLIENT_V4, count=1) == 1


def assert_running(node: GuestNode, unit: str) -> None:
    assert node.property_of(unit, "ActiveState") == "active", node.journal(unit)
    assert node.property_of(unit, "StatusText") == "" and node.main_pid(unit) > 0


def assert_capabilities(node: GuestNode, unit: str) -> None:
    words = ["grep", "--extended-regexp", "--recursive", "--include=status", "CapEff|CapPrm"]
    said = node.run([*words, f"/proc/{node.main_pid(unit)}/task"]).stdout.splitlines()
    assert said and {int(line.split()[-1], 16) for line in said} == {CAPABILITIES[unit]}, said


def crash_beside_connections(lab: WireLab, node: GuestNode, unit: str) -> StreamReport:
    """None of them breaks or moves."""
    with TcpStreams(lab.client, VIP_V4, connections=3) as streams:
        node.crash(unit)
        node.wait_forwarding()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
    assert_running(node, unit)
    assert_answers(lab)
    return report


def test_xdp_engine_starts_and_forwards(lab: WireLab, node: GuestNode) -> None:
    node.run(["rm", "--recursive", "/run/millrace"])  # as on a host that has not booted since
    assert "LACKS" not in node.host_check("--engine", "xdp", INTERFACE)
    node.write_config(CONFIG, "xdp")
    node.write_environment("millrace-xdp", {"NIC": INTERFACE, "XDP_OPTIONS": "--flows 65536"})
    for unit in ("millrace-xdp", CONTROL_PLANE):
        node.systemctl("start", unit)
        assert_running(node, unit)
    node.wait_forwarding()
    assert_answers(lab)
    assert_capabilities(node, "millrace-xdp")
    assert '"xdp":' in node.run(["ip", "-json", "link", "show", INTERFACE]).stdout


def test_engine_that_the_config_does_not_name_is_not_started(lab: WireLab, node: GuestNode) -> None:
    node.write_environment("millrace-dataplane", {"NIC": INTERFACE, "TWIN": TWIN})
    node.systemctl("start", "millrace-dataplane", check=False)
    assert node.property_of("millrace-dataplane", "ActiveState") == "inactive"
    assert node.property_of("millrace-dataplane", "ExecMainStartTimestampMonotonic") == "0"


@pytest.mark.parametrize("unit", ["millrace-xdp", CONTROL_PLANE])
def test_crash_beside_the_xdp_engine_costs_no_connection(
    lab: WireLab, node: GuestNode, unit: str
) -> None:
    assert crash_beside_connections(lab, node, unit).lost == 0


def test_fault_80_crashed_engine_returns_whatever_the_config_file_is(
    lab: WireLab, node: GuestNode
) -> None:
    """While the control plane runs its config counts; the file is what it will read next time.
    Other kinds of broken files: unit/cli/cli_test.cc."""
    node.write_config(CONFIG, "dpdk")  # what is in force says xdp
    node.crash("millrace-xdp")
    node.systemctl("stop", CONTROL_PLANE)
    node.write_text("node: {engine: xdp")
    node.crash("millrace-xdp")
    node.run(["rm", ETC / "millrace.yaml"])
    node.crash("millrace-xdp")
    # Only now somebody knows that it is not wanted.
    node.write_config(CONFIG, "dpdk")
    node.run(["kill", "-KILL", str(node.main_pid("millrace-xdp"))])
    wait_until(
        lambda: node.property_of("millrace-xdp", "ActiveState") == "inactive",
        "the engine is skipped",
        timeout_s=20,
    )
    assert "node.engine is dpdk" in node.journal("millrace-xdp")
    node.write_config(CONFIG, "xdp")
    for unit in ("millrace-xdp", CONTROL_PLANE):
        node.systemctl("start", unit)
    node.wait_forwarding()
    assert_answers(lab)


def test_reload_of_a_wrong_file_fails_with_its_text(lab: WireLab, node: GuestNode) -> None:
    before = node.main_pid(CONTROL_PLANE)
    node.write_text("load_balancers: [{name: web, adresses: [203.0.113.10]}]\n")
    assert node.systemctl("reload", CONTROL_PLANE, check=False) != 0
    assert "millrace.yaml:1:" in node.journal(CONTROL_PLANE)
    assert "adresses" in node.journal(CONTROL_PLANE)
    node.write_config(CONFIG, "xdp")
    assert node.systemctl("reload", CONTROL_PLANE) == 0
    assert node.main_pid(CONTROL_PLANE) == before
    assert node.millrace("status")["config"]["error"] == ""


@pytest.mark.parametrize("unit", ["millrace-xdp", CONTROL_PLANE])
def test_program_that_hangs_is_started_again(lab: WireLab, node: GuestNode, unit: str) -> None:
    with node.drop_in(unit, "[Service]\nWatchdogSec=10s\nTimeoutAbortSec=2s\n"):
        node.systemctl("restart", unit)
        node.crash(unit, signal.SIGSTOP)
    assert "Watchdog timeout" in node.journal(unit)
    node.wait_forwarding()
    assert_answers(lab)


def test_fault_87_restart_of_the_journal_ends_nothing(lab: WireLab, node: GuestNode) -> None:
    units = ("millrace-xdp", CONTROL_PLANE)
    before = [node.main_pid(unit) for unit in units]
    said = f"read {ETC / 'millrace.yaml'}"

    def logged() -> int:
        return node.journal(CONTROL_PLANE).count(said)

    reloads = logged()
    node.systemctl("restart", "systemd-journald")
    assert node.systemctl("reload", CONTROL_PLANE) == 0
    assert [node.main_pid(unit) for unit in units] == before
    wait_until(lambda: logged() > reloads, "the log goes on", timeout_s=20)


def test_fault_87_start_before_the_nic_is_there_comes_to_its_end(
    lab: WireLab, node: GuestNode
) -> None:
    for unit in ("millrace-xdp", "millrace-dataplane", CONTROL_PLANE):
        assert node.property_of(unit, "StartLimitIntervalUSec") == "0"
    node.systemctl("stop", "millrace-xdp")
    node.run(["ip", "link", "set", INTERFACE, "down"])
    node.run(["ip", "link", "set", INTERFACE, "name", "later0"])
    node.systemctl("start", "--no-block", "millrace-xdp")
    waits = f"waiting for the NIC '{INTERFACE}'"
    wait_until(lambda: waits in node.journal("millrace-xdp"), "it says so", timeout_s=20)
    assert node.property_of("millrace-xdp", "ActiveState") == "activating"
    node.run(["ip", "link", "set", "later0", "name", INTERFACE])
    node.run(["ip", "link", "set", INTERFACE, "up"])
    node.give_addresses(INTERFACE)
    wait_until(
        lambda: node.property_of("millrace-xdp", "ActiveState") == "active",
        "the engine runs",
        timeout_s=30,
    )
    node.wait_forwarding()
    assert_answers(lab)


def test_stop_of_the_xdp_engine_leaves_it_forwarding_until_detach(
    lab: WireLab, node: GuestNode
) -> None:
    node.systemctl("stop", "millrace-xdp")
    assert node.property_of("millrace-xdp", "Result") == "success"
    assert_answers(lab)
    node.run(["/usr/local/sbin/millrace-xdp", "detach"])
    assert ping(lab.client, VIP_V4, count=1) == 0
    assert '"xdp":' not in node.run(["ip", "-json", "link", "show", INTERFACE]).stdout


def test_dpdk_engine_drives_the_pci_nic(lab: WireLab, node: GuestNode) -> None:
    pci_address = NIC_ON_THE_BUS.pci_address(0)
    mac = NIC_ON_THE_BUS.mac(0)
    node.write_config(CONFIG, "dpdk")
    node.systemctl("reload", CONTROL_PLANE)
    node.take_addresses(INTERFACE)  # they are the twin's from now on
    node.write_environment(
        "millrace-dataplane",
        {
            "NIC": pci_address,
            "NIC_OR_MAC": mac,
            "TWIN": TWIN,
            "FORWARD": TWIN,
            "HUGEPAGES": str(HUGEPAGES),
            "DATAPLANE_OPTIONS": "--workers 1 --flows 65536",
        },
    )
    node.systemctl("start", "millrace-dataplane")
    assert_running(node, "millrace-dataplane")
    node.give_addresses(TWIN)
    node.systemctl("restart", CONTROL_PLANE)
    node.wait_forwarding()
    assert_answers(lab)
    assert_capabilities(node, "millrace-dataplane")
    said = node.host_check(pci_address)
    assert "LACKS" not in said and "targets have a way out" in said, said
    assert node.millrace("status")["engine"]["kind"] == "dpdk"


@pytest.mark.parametrize("unit", ["millrace-dataplane", CONTROL_PLANE])
def test_crash_beside_the_dpdk_engine_keeps_connections(
    lab: WireLab, node: GuestNode, unit: str
) -> None:
    """Segments that were sent while no engine ran are sent again by TCP."""
    crash_beside_connections(lab, node, unit)


def test_unit_takes_the_pci_nic_from_the_kernel_at_each_start(
    lab: WireLab, node: GuestNode
) -> None:
    """As after a reboot, when the kernel's own driver has it."""
    pci_address = node.environment("millrace-dataplane")["NIC"]
    node.systemctl("stop", "millrace-dataplane")
    node.host_setup("release", pci_address)
    assert node.driver_of(pci_address) == "virtio-pci"
    assert f"LACKS  {pci_address}" in node.host_check(pci_address)
    node.systemctl("start", "millrace-dataplane")
    assert node.driver_of(pci_address) == "uio_pci_generic"
    node.wait_forwarding()
    assert_answers(lab)


def test_units_stop_cleanly(lab: WireLab, node: GuestNode) -> None:
    for unit in (CONTROL_PLANE, "millrace-dataplane"):
        node.systemctl("stop", unit)
        assert node.property_of(unit, "Result") == "success", node.journal(unit)
