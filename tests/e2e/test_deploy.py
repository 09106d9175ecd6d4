# SPDX-License-Identifier: Apache-2.0
"""What operators get besides the programs: units, scripts and the runbook."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab
from lab.node import REPOSITORY
from lab.process import run, wait_until

DEPLOY = REPOSITORY / "deploy"
RUNBOOK = DEPLOY / "runbook.md"
UNITS = ("millrace-controlplane", "millrace-dataplane", "millrace-xdp")


def settings_of(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / f"{unit}.service.in").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_fault_80_units_have_no_condition_that_keeps_them_down_for_good(unit: str) -> None:
    """Whatever a guard cannot say for sure must not be a no."""
    settings = settings_of(unit)
    assert settings["StartLimitIntervalSec"] == ["0"] and settings["Restart"] == ["always"]
    assert settings["Type"] == ["notify"] and "WatchdogSec" in settings
    assert not [name for name in settings if name.startswith(("Condition", "Assert"))]
    for name in ("Requires", "BindsTo", "PartOf", "Requisite", "Conflicts"):
        assert name not in settings, "the stop of one must not stop another"
    for path in " ".join(settings["ReadWritePaths"]).split():
        assert path.startswith("-"), f"{path}: without it, not even a message of our own"
    for condition in settings.get("ExecCondition", []):
        # Outside of the sandbox, of which a part may be missing, and by what every Debian has.
        assert condition.startswith("+/bin/sh -c ") and "test $$? -ne 3" in condition


@pytest.mark.parametrize("unit", UNITS)
def test_units_allow_the_system_calls_of_a_service_and_no_others(unit: str) -> None:
    settings = settings_of(unit)
    assert settings["SystemCallFilter"][0].split()[0] == "@system-service"
    assert settings["SystemCallErrorNumber"] == ["EPERM"]
    assert settings["NoNewPrivileges"] == ["yes"]


def test_condition_of_a_unit_skips_only_the_engine_that_is_not_wanted(tmp_path: Path) -> None:
    """The unit's own words, with each answer that may come from the program."""
    for unit in UNITS:
        for condition in settings_of(unit).get("ExecCondition", []):
            script = condition.partition("'")[2].rpartition("'")[0].replace("$$", "$")
            for code in (0, 1, 2, 3, 127):
                program = tmp_path / "millrace"
                program.write_text(f"#!/bin/sh\nexit {code}\n")
                program.chmod(0o755)
                words = ["/bin/sh", "-c", script.replace("@bindir@", str(tmp_path))]
                assert (run(words, check=False).returncode == 0) == (code != 3)
            program.unlink()
            assert run(words, check=False).returncode == 0, "no program at all"


def test_fault_87_host_setup_waits_for_a_nic_and_names_it(lab: Lab) -> None:
    node = lab.node.namespace
    waiting = node.service("await", [DEPLOY / "host-setup", "await", "late0"])
    waiting.start()
    wait_until(
        lambda: "waiting for the NIC 'late0'" in waiting.log_tail(), "it says so", timeout_s=10
    )
    assert waiting.running
    node.ip("link", "add", "late0", "type", "veth", "peer", "name", "late1")
    try:
        assert waiting.wait(timeout_s=20) == 0
    finally:
        node.ip("link", "delete", "late0")
    assert node.run([DEPLOY / "host-setup", "await", "nic0", "net_null0"]).stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["await", ""],
        ["xdp", ""],
        ["hugepages", "x"],
        ["hugepages", "08"],
        ["twin", "a", "nosuch0"],
        ["twin", "", "02:00:00:00:00:01"],
        ["twin", "02:00:00:00:00:01", "a-name-of-an-interface"],
        ["twin", "twin9"],
        ["twin", "twin9", "a", "b"],
        ["twin", "twin9 twin9", "lo lo"],
        ["twin", "--help-me"],
        ["xdp", ""],
        ["xdp", "../net/lo"],
        ["neighbours", "x"],
        ["forward", "nosuch0"],
        ["bind", "nosuch0"],
        ["bind", "0000:ff:1f.7"],
        ["release", "3b:00.0"],
        ["driver", "lo"],
        ["--foo"],
        ["foo", "bar"],
        ["close", "nosuch0"],
        ["open", "nosuch0"],
        ["vips", "203.0.113.0/24", "203.0.113.256"],
        ["vips", "lb.example.org"],
        [],
    ],
)
def test_host_setup_says_what_is_wrong(words: list[str]) -> None:
    done = run([DEPLOY / "host-setup", *words], check=False)
    assert (done.returncode == 0) == (words == ["--help"])
    assert done.stdout or done.stderr
    if words and words != ["--help"]:
        assert done.stderr.startswith("host-setup: ") and done.stderr.count("\n") == 1
        assert any((word or "''") in done.stderr for word in words[-2:])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--foo"], "'--foo' is no option"),
        (["--engine"], "--engine: dpdk or xdp is missing"),
        (["--engine", "linux"], "--engine: 'linux' is neither dpdk nor xdp"),
        (["lo", "--foo"], "'--foo' is no option"),
    ],
)
def test_host_check_takes_no_option_for_a_nic(words: list[str], said: str) -> None:
    done = run([DEPLOY / "host-check", *words], check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"host-check: {said} (see --help)\n"
    assert "Usage" in run([DEPLOY / "host-check", "lo", "--help"]).stdout


@pytest.mark.parametrize("nic", ["nosuch0", "../net/lo", "", "0000:ff:1f.7"])
@pytest.mark.parametrize("engine", ["dpdk", "xdp"])
def test_host_check_names_what_does_not_exist(engine: str, nic: str) -> None:
    done = run([DEPLOY / "host-check", f"--engine={engine}", nic], check=False)
    assert done.returncode == 1 and done.stderr == ""
    assert re.search(rf"^LACKS  {re.escape(nic or chr(39) * 2)} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("nic", "said"),
    [
        ("bond:0000:ff:1f.6,0000:ff:1f.7", ["0000:ff:1f.6 no such", "0000:ff:1f.7 no such"]),
        ("bond:0000:ff:1f.7,0000:ff:1f.7", ["has a member twice"]),
        ("bond-active-backup:0000:ff:1f.7", ["has one member only", "0000:ff:1f.7 no such PCI"]),
        ("bond:lo,0000:ff:1f.7", ["its member 'lo' is no PCI address", "0000:ff:1f.7 no such PCI"]),
    ],
)
def test_bonds_are_checked_and_bound_by_their_members(nic: str, said: list[str]) -> None:
    done = run([DEPLOY / "host-check", nic], check=False)
    lacking = [line for line in done.stdout.splitlines() if line.startswith("LACKS")]
    assert done.returncode == 1
    for text in said:
        assert any(text in line for line in lacking), done.stdout
    for command in ("bind", "release"):
        refused = run([DEPLOY / "host-setup", command, nic], check=False)
        assert refused.returncode == 1 and nic not in refused.stderr
        assert "'0000:ff:1f." in refused.stderr or "'lo'" in refused.stderr, refused.stderr


def test_host_setup_binds_nothing_but_pci_nics() -> None:
    """A kernel interface is AF_XDP's as it is; a bridge or a disk is nobody's."""
    assert "nothing to bind" in run([DEPLOY / "host-setup", "bind", "lo"]).stderr
    others = [
        device.name
        for device in Path("/sys/bus/pci/devices").iterdir()
        if not (device / "class").read_text().startswith("0x02")
    ]
    for address in others[:2]:
        refused = run([DEPLOY / "host-setup", "bind", address], check=False)
        assert refused.returncode == 1 and "is no network device" in refused.stderr
    assert run([DEPLOY / "host-setup", "driver"]).stdout in ("vfio-pci\n", "uio_pci_generic\n")


def test_targets_way_out_is_seen_and_opened(lab: Lab, spare: str) -> None:
    """The node is their router: what is no flow's is the kernel's to forward."""
    node = lab.node.namespace
    engine = ["--engine", lab.engine]
    interface = lab.node.interface(0)
    keys = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
    assert f"ok     {interface}" in forwarding_lines(lab, engine)
    try:
        for key in keys:
            node.sysctl(key, "0")
        assert "forwards no IPv4 and IPv6 that arrives here" in forwarding_lines(lab, engine)
        node.sysctl(keys[1], "1")
        assert "forwards no IPv4 that arrives here" in forwarding_lines(lab, engine)
        node.sysctl(keys[1], "0")
        lab.node.host_setup("forward", interface)
        assert f"ok     {interface}" in forwarding_lines(lab, engine)
        assert settings(lab, spare)[0] == "0", "others stay as they were"
        assert lab.node.host_setup("forward") == "", "a unit may name none"
    finally:
        for key in keys:
            node.sysctl(key, "1")
        if lab.engine == "dpdk":
            lab.node.host_setup("close", "nic0")


def forwarding_lines(lab: Lab, engine: list[str]) -> str:
    said = lab.node.namespace.run([DEPLOY / "host-check", *engine, "nic0"], check=False).stdout
    return "\n".join(line for line in said.splitlines() if "the kernel forwards" in line)


def test_advertised_default_route_outlives_forwarding(lab: Lab, spare: str) -> None:
    """The kernel forgets what it heard from routers when it becomes one, unless it is told."""
    node = lab.node.namespace
    node.sysctl("net.ipv6.conf.all.forwarding", "0")
    try:
        route = ["default", "via", "fe80::1", "dev", spare, "proto", "ra", "metric", "4000"]
        node.ip("-6", "route", "add", *route)
        lab.node.host_setup("forward", lab.node.interface(0))
        words = ["sysctl", "--values", f"net.ipv6.conf.{spare}.accept_ra"]
        assert node.run(words).stdout.strip() == "2"
    finally:
        node.sysctl("net.ipv6.conf.all.forwarding", "1")


@pytest.mark.only_engine("dpdk", "it is about the kernel twin")
def test_host_setup_may_be_repeated(lab: Lab) -> None:
    node = lab.node.namespace
    before = node.ip("address", "show", "twin0")
    node.run([DEPLOY / "host-setup", "twin", "twin0", "nic0"])
    assert node.ip("address", "show", "twin0") == before


@pytest.fixture
def spare(lab: Lab) -> Iterator[str]:
    """An interface of the node's that no engine has, with addresses; and no twin9."""
    node = lab.node.namespace
    node.ip("link", "add", "spare0", "type", "veth", "peer", "name", "spare1")
    node.ip("link", "set", "spare0", "up")
    node.add_address("spare0", "192.0.2.33/28")
    node.add_address("spare0", "2001:db8:33::1/64")
    yield "spare0"
    node.ip("link", "delete", "spare0")
    node.run(["ip", "link", "delete", "twin9"], check=False)


def settings(lab: Lab, interface: str) -> list[str]:
    keys = (
        "net.ipv4.conf.{}.forwarding",
        "net.ipv4.conf.{}.arp_ignore",
        "net.ipv6.conf.{}.disable_ipv6",
    )
    words = [key.format(interface) for key in keys]
    return lab.node.namespace.run(["sysctl", "--values", *words]).stdout.split()


def closed_nics(lab: Lab) -> set[str]:
    words = ["nft", "list", "set", "inet", "millrace", "closed_nics"]
    elements = lab.node.namespace.run(words).stdout.partition("elements = {")[2].partition("}")[0]
    return set(re.findall(r'"(\w+)"', elements))


@pytest.mark.only_engine("dpdk", "it is about the kernel twin")
def test_fault_89_host_setup_closes_a_nic_once_its_addresses_are_gone(lab: Lab, spare: str) -> None:
    """Before, whoever came by them would be locked out before they are on the twin."""
    before = settings(lab, spare)
    assert "still has addresses" in lab.node.host_setup("twin", "twin9", spare)
    assert settings(lab, spare) == before and spare not in closed_nics(lab)
    said = lab.node.namespace.run([DEPLOY / "host-check", spare], check=False).stdout
    assert f"LACKS  {spare}" in said and "untranslated" in said, said
    lab.node.namespace.ip("address", "flush", "dev", spare, "scope", "global")
    for _ in range(2):
        assert lab.node.host_setup("twin", "twin9", spare) == ""
        assert settings(lab, spare) == ["0", "8", "1"] and spare in closed_nics(lab)
    said = lab.node.namespace.run([DEPLOY / "host-check", spare], check=False).stdout
    assert f"LACKS  {spare}" not in said, said
    lab.node.host_setup("open", spare)
    assert settings(lab, spare) == before and closed_nics(lab) == {"nic0"}


def test_twin_and_nic_in_the_wrong_order_are_told_apart(lab: Lab, spare: str) -> None:
    before = settings(lab, spare)
    refused = lab.node.namespace.run([DEPLOY / "host-setup", "twin", spare, "nic0"], check=False)
    assert refused.returncode != 0
    assert f"'{spare}' is no TAP device, which a twin is" in refused.stderr
    assert settings(lab, spare) == before and spare not in closed_nics(lab)


def test_fault_89_nic_that_got_addresses_since_is_opened_whole(lab: Lab, spare: str) -> None:
    before = settings(lab, spare)
    lab.node.namespace.ip("address", "flush", "dev", spare, "scope", "global")
    lab.node.host_setup("close", spare)
    assert settings(lab, spare) == ["0", "8", "1"]
    lab.node.namespace.add_address(spare, "192.0.2.34/28")
    lab.node.host_setup("open", spare)
    assert settings(lab, spare) == before


def test_fault_89_host_setup_leaves_alone_what_it_did_not_close(lab: Lab, spare: str) -> None:
    lab.node.namespace.sysctl(f"net.ipv4.conf.{spare}.forwarding", "0")
    before = settings(lab, spare)
    lab.node.host_setup("open", spare)
    assert settings(lab, spare) == before
    lab.node.host_setup("close", spare)
    assert settings(lab, spare) == before, "it has addresses"
    lab.node.host_setup("open", spare)


def test_fault_89_host_setup_opens_a_nic_whatever_came_and_went_on_it(lab: Lab, spare: str) -> None:
    """A VRRP daemon makes its macvlans when it starts, and takes them along when it ends."""
    node = lab.node.namespace
    node.ip("link", "add", "vrrp8", "link", spare, "type", "macvlan")
    lab.node.host_setup("close", spare)
    assert closed_nics(lab) >= {spare, "vrrp8"}
    node.ip("link", "delete", "vrrp8")
    node.ip("link", "add", "vrrp9", "link", spare, "type", "macvlan")
    lab.node.host_setup("open", spare)
    assert closed_nics(lab).isdisjoint({spare, "vrrp8", "vrrp9"})


@pytest.mark.only_engine("dpdk", "it is about the kernel twin")
def test_host_check_finds_the_lab_node_ready_and_a_missing_nic(lab: Lab) -> None:
    node = lab.node.namespace
    ready = node.run([DEPLOY / "host-check", "nic0"], check=False)
    assert "LACKS  nic0" not in ready.stdout, ready.stdout
    assert "its twin is twin0" in ready.stdout
    assert "the kernel forwards nothing that arrives here" in ready.stdout
    lacking = node.run([DEPLOY / "host-check", "nosuch0"], check=False)
    assert lacking.returncode == 1 and "LACKS  nosuch0" in lacking.stdout


@pytest.mark.only_engine("dpdk", "queues of other NICs are the engine's own business")
def test_host_check_knows_what_af_xdp_takes_of_queues_and_mtu(lab: Lab) -> None:
    node = lab.node.namespace
    queues = 33 - lab.layout.nic_queues  # one more than there is room for in both together
    words = ["numtxqueues", str(queues), "numrxqueues", str(queues)]
    node.ip("link", "add", "wide0", *words, "mtu", "9000", "type", "veth", "peer", "name", "wide1")
    said = node.run([DEPLOY / "host-check", "nic0", "wide0"], check=False).stdout
    node.ip("link", "delete", "wide0")
    assert re.search(r"ok +nic0 +\d+ rx queues, all of which the engine reads", said), said
    assert re.search(r"ok +nic0 +MTU 1500\n", said), said
    assert re.search(rf"LACKS +wide0 +{queues} rx queues, 33 with those of the NICs", said), said
    assert "ip link set dev wide0 mtu 3434" in said


def test_engine_documents_tell_one_number_of_huge_pages() -> None:
    """The formula stands in the runbook; elsewhere there is the default of the unit, or a name."""
    default = re.search(
        r"^HUGEPAGES=(\d+)$", (DEPLOY / "systemd" / "dataplane.env").read_text(), re.M
    )
    assert default
    files = [REPOSITORY / "README.md", RUNBOOK, DEPLOY / "host-check", DEPLOY / "host-setup"]
    files += [REPOSITORY / "dataplane" / "main.cc"]
    told = re.findall(r"hugepages (\d+)", "".join(file.read_text() for file in files))
    assert told and set(told) == {default[1]}


@pytest.mark.only_engine("xdp", "it is about XDP")
def test_host_check_for_xdp_finds_an_interface_ready_and_a_missing_one(lab: Lab) -> None:
    node = lab.node.namespace
    ready = node.run([DEPLOY / "host-check", "--engine", "xdp", "nic0"], check=False)
    assert "ok     nic0" in ready.stdout and "LACKS  nic0" not in ready.stdout, ready.stdout
    assert "hugepages" not in ready.stdout
    lab.node.host_setup("close", "nic0")
    closed = node.run([DEPLOY / "host-check", "--engine", "xdp", "nic0"], check=False)
    lab.node.host_setup("open", "nic0")
    assert "is closed" in closed.stdout and "is closed" not in ready.stdout
    lacking = node.run([DEPLOY / "host-check", "--engine", "xdp", "nosuch0"], check=False)
    assert lacking.returncode == 1 and "LACKS  nosuch0" in lacking.stdout


NEIGHBOUR_LIMITS = [
    Path(f"/proc/sys/net/{family}/neigh/default/gc_thresh{step}")
    for family in ("ipv4", "ipv6")
    for step in (1, 2, 3)
]


@pytest.fixture
def neighbour_limits() -> Iterator[list[int]]:
    """Those of the machine, which they are again afterwards."""
    before = [int(path.read_text()) for path in NEIGHBOUR_LIMITS]
    yield before
    for path, limit in zip(NEIGHBOUR_LIMITS, before, strict=True):
        path.write_text(str(limit))


def test_fault_72_host_setup_raises_the_limits_of_neighbours_and_never_lowers_them(
    neighbour_limits: list[int],
) -> None:
    for path in NEIGHBOUR_LIMITS:
        path.write_text("1024")
    low = run([DEPLOY / "host-check"], check=False).stdout
    assert "note   neighbours  ipv4: 1024 at most" in low
    assert "note   neighbours  ipv6: 1024 at most" in low
    run([DEPLOY / "host-setup", "neighbours", "5000"])
    raised = [int(path.read_text()) for path in NEIGHBOUR_LIMITS]
    assert raised == [5000, 10000, 20000] * 2
    assert "ok     neighbours  ipv6: 20000" in run([DEPLOY / "host-check"], check=False).stdout
    run([DEPLOY / "host-setup", "neighbours", "100"])
    assert [int(path.read_text()) for path in NEIGHBOUR_LIMITS] == raised


def test_fault_71_host_setup_and_host_check_know_nics_that_take_tags_off(lab: Lab) -> None:
    node, switch = lab.node.namespace, lab.namespaces["switch"]
    switch.ip("link", "add", "tagged0", "type", "veth", "peer", "name", "nic9", "netns", node.name)
    engine = ["--engine", lab.engine]
    told = node.run([DEPLOY / "host-check", *engine, "nic9"], check=False).stdout
    assert "takes VLAN tags off" in told
    words = ["twin", "twin9", "nic9"] if lab.engine == "dpdk" else ["xdp", "nic9"]
    try:
        node.run([DEPLOY / "host-setup", *words])
        told = node.run([DEPLOY / "host-check", *engine, "nic9"], check=False).stdout
        assert "takes VLAN tags off" not in told
    finally:
        node.ip("link", "delete", "nic9")
        if lab.engine == "dpdk":
            node.ip("link", "delete", "twin9")


def test_runbook_has_every_drop_reason() -> None:
    source = (REPOSITORY / "dataplane" / "core" / "drop_reason.cc").read_text()
    table = source.partition("kDropReasonNames = {")[2].partition("}")[0]
    reasons = set(re.findall(r'"(\w+)"', table)) - {"none"}
    assert reasons
    told = RUNBOOK.read_text()
    assert {reason for reason in reasons if f"`{reason}`" not in told} == set()


def test_runbook_has_every_alert_and_no_other() -> None:
    rules = "".join(path.read_text() for path in (DEPLOY / "alerts").glob("*.y*ml"))
    alerts = set(re.findall(r"alert: *(\w+)", rules))
    assert alerts
    told = RUNBOOK.read_text()
    assert set(re.findall(r"`(Millrace[A-Z]\w+)`", told)) == alerts


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
        "nft": "nftables",
        "sysctl": "procps",
        "iperf3": "iperf3",
        "prometheus": "prometheus",
    }
    assert set(needed.values()) <= listed
    for program in needed:
        assert shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"), program
