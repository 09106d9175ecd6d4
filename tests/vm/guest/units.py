# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: our systemd units with both engines, on a virtio NIC. In this order: the
machine starts empty, and each test goes on where the one before stopped."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import node  # noqa: E402
from lab import Layout  # noqa: E402
from lab.addresses import NODE_CLIENT_V4, VIP_V4, VIP_V6  # noqa: E402
from lab.configs import standard  # noqa: E402
from lab.process import run, wait_until  # noqa: E402
from lab.traffic import TcpStreams, connect_many, ping  # noqa: E402

HUGEPAGES = 192
CONFIG = standard(members=(1,))
# What an engine keeps, once it runs: one BPF, PERFMON and NET_ADMIN (linux/capability.h).
CAPABILITIES = {"millrace-xdp": 1 << 39 | 1 << 38 | 1 << 12, "millrace-dataplane": 0}


@pytest.fixture(scope="module")
def lab() -> Iterator[node.WireLab]:
    layout = Layout(targets=1, hugepages=0, noise_per_second=0, bystander=False, second_mac=False)
    lab = node.WireLab(layout)
    with lab:
        node.install()
        node.give_addresses(node.NIC)
        yield lab


def assert_answers(lab: node.WireLab) -> None:
    for vip in (VIP_V4, VIP_V6):
        assert len(connect_many(lab.client, vip, 20, parallel=4)) == 20
        assert ping(lab.client, vip, count=1) == 1
    assert ping(lab.client, NODE_CLIENT_V4, count=1) == 1


def kill(unit: str, number: signal.Signals = signal.SIGKILL) -> None:
    """As a crash would; until systemd has it running again."""
    before = node.main_pid(unit)
    os.kill(before, number)
    wait_until(
        lambda: node.main_pid(unit) not in (0, before)
        and node.property_of(unit, "ActiveState") == "active",
        f"{unit} is back",
        timeout_s=30,
    )


def assert_running(unit: str) -> None:
    assert node.property_of(unit, "ActiveState") == "active", node.journal(unit)
    assert node.property_of(unit, "StatusText") == "" and node.main_pid(unit) > 0


def assert_capabilities(unit: str) -> None:
    for thread in Path(f"/proc/{node.main_pid(unit)}/task").iterdir():
        fields = dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines())
        held = {int(fields[name], 16) for name in ("CapEff", "CapPrm")}
        assert held == {CAPABILITIES[unit]}, (thread, fields["Name"])


def test_xdp_engine_starts_and_forwards(lab: node.WireLab) -> None:
    run(["rm", "--recursive", "/run/millrace"])  # as on a host that has not booted since
    assert "LACKS" not in node.host_check("--engine", "xdp", node.NIC)
    node.write_config(CONFIG, "xdp")
    node.write_environment("millrace-xdp", {"NIC": node.NIC, "XDP_OPTIONS": "--flows 65536"})
    for unit in ("millrace-xdp", node.CONTROL_PLANE):
        node.systemctl("start", unit)
        assert_running(unit)
    node.wait_forwarding()
    assert_answers(lab)
    assert_capabilities("millrace-xdp")
    assert '"xdp":' in run(["ip", "-json", "link", "show", node.NIC]).stdout


def test_engine_that_the_config_does_not_name_is_not_started(lab: node.WireLab) -> None:
    node.write_environment("millrace-dataplane", {"NIC": node.NIC, "TWIN": node.TWIN})
    node.systemctl("start", "millrace-dataplane", check=False)
    assert node.property_of("millrace-dataplane", "ActiveState") == "inactive"
    assert node.property_of("millrace-dataplane", "ExecMainStartTimestampMonotonic") == "0"


@pytest.mark.parametrize("unit", ["millrace-xdp", node.CONTROL_PLANE])
def test_crash_beside_the_xdp_engine_costs_no_connection(lab: node.WireLab, unit: str) -> None:
    with TcpStreams(lab.client, VIP_V4, connections=3) as streams:
        kill(unit)
        node.wait_forwarding()
        report = streams.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report
    assert_running(unit)
    assert_answers(lab)


def test_fault_80_crashed_engine_returns_whatever_the_config_file_is(lab: node.WireLab) -> None:
    """While the control plane runs its config counts; the file is what it will read next time.
    Other kinds of broken files: unit/cli/cli_test.cc."""
    node.write_config(CONFIG, "dpdk")  # what is in force says xdp
    kill("millrace-xdp")
    node.systemctl("stop", node.CONTROL_PLANE)
    node.write_text("node: {engine: xdp")
    kill("millrace-xdp")
    (node.ETC / "millrace.yaml").unlink()
    kill("millrace-xdp")
    # Only now somebody knows that it is not wanted.
    node.write_config(CONFIG, "dpdk")
    os.kill(node.main_pid("millrace-xdp"), signal.SIGKILL)
    wait_until(
        lambda: node.property_of("millrace-xdp", "ActiveState") == "inactive",
        "the engine is skipped",
        timeout_s=20,
    )
    assert "node.engine is dpdk" in node.journal("millrace-xdp")
    node.write_config(CONFIG, "xdp")
    for unit in ("millrace-xdp", node.CONTROL_PLANE):
        node.systemctl("start", unit)
    node.wait_forwarding()
    assert_answers(lab)


def test_reload_of_a_wrong_file_fails_with_its_text(lab: node.WireLab) -> None:
    before = node.main_pid(node.CONTROL_PLANE)
    node.write_text("load_balancers: [{name: web, adresses: [203.0.113.10]}]\n")
    assert node.systemctl("reload", node.CONTROL_PLANE, check=False) != 0
    assert "millrace.yaml:1:" in node.journal(node.CONTROL_PLANE)
    assert "adresses" in node.journal(node.CONTROL_PLANE)
    node.write_config(CONFIG, "xdp")
    assert node.systemctl("reload", node.CONTROL_PLANE) == 0
    assert node.main_pid(node.CONTROL_PLANE) == before
    assert node.millrace("status")["config"]["error"] == ""


@pytest.mark.parametrize("unit", ["millrace-xdp", node.CONTROL_PLANE])
def test_program_that_hangs_is_started_again(lab: node.WireLab, unit: str) -> None:
    with node.drop_in(unit, "[Service]\nWatchdogSec=10s\nTimeoutAbortSec=2s\n"):
        node.systemctl("restart", unit)
        kill(unit, signal.SIGSTOP)
    assert "Watchdog timeout" in node.journal(unit)
    node.wait_forwarding()
    assert_answers(lab)


def test_fault_87_restart_of_the_journal_ends_nothing(lab: node.WireLab) -> None:
    units = ("millrace-xdp", node.CONTROL_PLANE)
    before = [node.main_pid(unit) for unit in units]
    said = f"read {node.ETC / 'millrace.yaml'}"

    def logged() -> int:
        return node.journal(node.CONTROL_PLANE).count(said)

    reloads = logged()
    node.systemctl("restart", "systemd-journald")
    assert node.systemctl("reload", node.CONTROL_PLANE) == 0
    assert [node.main_pid(unit) for unit in units] == before
    wait_until(lambda: logged() > reloads, "the log goes on", timeout_s=20)


def test_fault_87_start_before_the_nic_is_there_comes_to_its_end(lab: node.WireLab) -> None:
    for unit in ("millrace-xdp", "millrace-dataplane", node.CONTROL_PLANE):
        assert node.property_of(unit, "StartLimitIntervalUSec") == "0"
    node.systemctl("stop", "millrace-xdp")
    run(["ip", "link", "set", node.NIC, "down"])
    run(["ip", "link", "set", node.NIC, "name", "later0"])
    node.systemctl("start", "--no-block", "millrace-xdp")
    waits = f"waiting for the NIC '{node.NIC}'"
    wait_until(lambda: waits in node.journal("millrace-xdp"), "it says so", timeout_s=20)
    assert node.property_of("millrace-xdp", "ActiveState") == "activating"
    run(["ip", "link", "set", "later0", "name", node.NIC])
    run(["ip", "link", "set", node.NIC, "up"])
    node.give_addresses(node.NIC)
    wait_until(
        lambda: node.property_of("millrace-xdp", "ActiveState") == "active",
        "the engine runs",
        timeout_s=30,
    )
    node.wait_forwarding()
    assert_answers(lab)


def test_stop_of_the_xdp_engine_leaves_it_forwarding_until_detach(lab: node.WireLab) -> None:
    node.systemctl("stop", "millrace-xdp")
    assert node.property_of("millrace-xdp", "Result") == "success"
    assert_answers(lab)
    run(["/usr/local/sbin/millrace-xdp", "detach"])
    assert ping(lab.client, VIP_V4, count=1) == 0
    assert '"xdp":' not in run(["ip", "-json", "link", "show", node.NIC]).stdout


def test_dpdk_engine_drives_the_pci_nic(lab: node.WireLab) -> None:
    pci_address = node.pci_address_of(node.NIC)
    mac = Path(f"/sys/class/net/{node.NIC}/address").read_text().strip()
    node.write_config(CONFIG, "dpdk")
    node.write_environment(
        "millrace-dataplane",
        {
            "NIC": pci_address,
            "NIC_OR_MAC": mac,
            "TWIN": node.TWIN,
            "FORWARD": node.TWIN,
            "HUGEPAGES": str(HUGEPAGES),
            "DATAPLANE_OPTIONS": "--workers 1 --flows 65536",
        },
    )
    node.systemctl("start", "millrace-dataplane")
    assert_running("millrace-dataplane")
    node.give_addresses(node.TWIN)
    node.systemctl("restart", node.CONTROL_PLANE)
    node.wait_forwarding()
    assert_answers(lab)
    assert_capabilities("millrace-dataplane")
    said = node.host_check(pci_address)
    assert "LACKS" not in said and "targets have a way out" in said, said
    assert node.millrace("status")["engine"]["kind"] == "dpdk"


@pytest.mark.xfail(
    strict=False,
    reason="passes on a quiet machine; beside much other work, under emulation, it was red once, "
    "unexplained",
)
@pytest.mark.parametrize("unit", ["millrace-dataplane", node.CONTROL_PLANE])
def test_crash_beside_the_dpdk_engine_keeps_connections(lab: node.WireLab, unit: str) -> None:
    """Segments that were sent while no engine ran are sent again by TCP."""
    with TcpStreams(lab.client, VIP_V4, connections=3) as streams:
        kill(unit)
        node.wait_forwarding()
        report = streams.stop()
    assert report.errors == [] and report.moved == 0, report
    assert_running(unit)
    assert_answers(lab)


def test_unit_takes_the_pci_nic_from_the_kernel_at_each_start(lab: node.WireLab) -> None:
    """As after a reboot, when the kernel's own driver has it."""
    pci_address = node.environment("millrace-dataplane")["NIC"]
    node.systemctl("stop", "millrace-dataplane")
    run([node.LIBEXEC / "host-setup", "release", pci_address])
    assert node.driver_of(pci_address) == "virtio-pci"
    assert f"LACKS  {pci_address}" in node.host_check(pci_address)
    node.systemctl("start", "millrace-dataplane")
    assert node.driver_of(pci_address) == "uio_pci_generic"
    node.wait_forwarding()
    assert_answers(lab)


def test_units_stop_cleanly(lab: node.WireLab) -> None:
    for unit in (node.CONTROL_PLANE, "millrace-dataplane"):
        node.systemctl("stop", unit)
        assert node.property_of(unit, "Result") == "success", node.journal(unit)
