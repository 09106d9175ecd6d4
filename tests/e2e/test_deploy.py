# SPDX-License-Identifier: Apache-2.0
"""What operators get besides the programs: units, scripts and the runbook."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from lab import Lab
from lab.node import REPOSITORY, build_directory
from lab.process import run

DEPLOY = REPOSITORY / "deploy"
RUNBOOK = DEPLOY / "runbook.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    build = build_directory()
    run(["meson", "install", "-C", build, "--destdir", root, "--no-rebuild"], timeout_s=60)
    return root


def test_install_puts_programs_units_and_documents_in_place(installed: Path) -> None:
    prefix = installed / "usr" / "local"
    engines = ("sbin/millrace-dataplane", "sbin/millrace-xdp")
    for name in ("bin/millrace", "bin/millrace-controlplane", *engines):
        assert (prefix / name).is_file()
    for name in ("millrace-dataplane", "millrace-xdp", "millrace-controlplane"):
        unit = (units(installed) / f"{name}.service").read_text()
        assert "@" not in re.sub(r"@system-service", "", unit)
    assert (prefix / "share" / "doc" / "millrace" / "runbook.md").is_file()


def units(installed: Path) -> Path:
    return installed / "usr" / "local" / "lib" / "systemd" / "system"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_finds_nothing_wrong_with_the_units(installed: Path) -> None:
    # Beside ours, the root holds what every Debian has: the base units, and what we call of it.
    shutil.copytree("/lib/systemd/system", installed / "lib" / "systemd" / "system", symlinks=True)
    (installed / "bin").mkdir()
    shutil.copy("/bin/kill", installed / "bin" / "kill")
    for unit in sorted(units(installed).glob("*.service")):
        words = ["systemd-analyze", "verify", "--man=no", f"--root={installed}", unit.name]
        done = run(words, check=False)
        own = [line for line in (done.stdout + done.stderr).splitlines() if "millrace" in line]
        assert own == []


@pytest.mark.parametrize("words", [["--help"], ["hugepages", "x"], ["twin", "a", "nosuch0"], []])
def test_host_setup_says_what_is_wrong(words: list[str]) -> None:
    done = run([DEPLOY / "host-setup", *words], check=False)
    assert (done.returncode == 0) == (words == ["--help"])
    assert done.stdout or done.stderr


@pytest.mark.only_engine("dpdk", "it is about the kernel twin")
def test_host_setup_may_be_repeated(lab: Lab) -> None:
    node = lab.node.namespace
    before = node.ip("address", "show", "twin0")
    node.run([DEPLOY / "host-setup", "twin", "twin0", "nic0"])
    assert node.ip("address", "show", "twin0") == before


@pytest.mark.only_engine("dpdk", "it is about the kernel twin")
def test_host_check_finds_the_lab_node_ready_and_a_missing_nic(lab: Lab) -> None:
    node = lab.node.namespace
    ready = node.run([DEPLOY / "host-check", "nic0"], check=False)
    assert "LACKS  nic0" not in ready.stdout, ready.stdout
    assert "its twin is twin0" in ready.stdout
    lacking = node.run([DEPLOY / "host-check", "nosuch0"], check=False)
    assert lacking.returncode == 1 and "LACKS  nosuch0" in lacking.stdout


@pytest.mark.only_engine("xdp", "it is about XDP")
def test_host_check_for_xdp_finds_an_interface_ready_and_a_missing_one(lab: Lab) -> None:
    node = lab.node.namespace
    ready = node.run([DEPLOY / "host-check", "--engine", "xdp", "nic0"], check=False)
    assert "ok     nic0" in ready.stdout and "LACKS  nic0" not in ready.stdout, ready.stdout
    assert "hugepages" not in ready.stdout
    lacking = node.run([DEPLOY / "host-check", "--engine", "xdp", "nosuch0"], check=False)
    assert lacking.returncode == 1 and "LACKS  nosuch0" in lacking.stdout


def test_runbook_has_every_drop_reason() -> None:
    source = (REPOSITORY / "dataplane" / "core" / "drop_reason.cc").read_text()
    table = source.partition("kDropReasonNames = {")[2].partition("}")[0]
    reasons = set(re.findall(r'"(\w+)"', table)) - {"none"}
    assert reasons
    told = RUNBOOK.read_text()
    assert {reason for reason in reasons if f"`{reason}`" not in told} == set()


def test_runbook_has_every_alert() -> None:
    rules = "".join(path.read_text() for path in (DEPLOY / "alerts").glob("*.y*ml"))
    alerts = set(re.findall(r"alert: *(\w+)", rules))
    assert alerts
    told = RUNBOOK.read_text()
    assert {alert for alert in alerts if f"`{alert}`" not in told} == set()


def test_packages_are_all_in_the_install_list() -> None:
    """What the lab calls must come from a package that the script installs."""
    listed = set(run([DEPLOY / "install-packages", "--tests", "--list"]).stdout.split())
    needed = {
        "ip": "iproute2",
        "ethtool": "ethtool",
        "nginx": "nginx-light",
        "dnsmasq": "dnsmasq-base",
        "curl": "curl",
        "dig": "bind9-dnsutils",
        "ping": "iputils-ping",
        "sysctl": "procps",
        "iperf3": "iperf3",
        "prometheus": "prometheus",
    }
    assert set(needed.values()) <= listed
    for program in needed:
        assert shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"), program
