# SPDX-License-Identifier: Apache-2.0
"""What the XDP engine promises beyond the other one: forwarding does not need its daemon."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, Node
from lab.addresses import VIP_V4, VIP_V6
from lab.configs import FIRST_OF_MORE_PORTS, standard, with_more_groups
from lab.load import Load
from lab.process import wait_until
from lab.traffic import TcpStreams, connect_many, ping

pytestmark = pytest.mark.only_engine("xdp", "its process forwards itself")
NAMES = ("t1", "t2", "t3")
VIPS = pytest.mark.parametrize("vip", [VIP_V4, VIP_V6])


@pytest.fixture(autouse=True)
def running(started: Node) -> Iterator[None]:
    """Whatever a test did, the next one finds both programs running."""
    yield
    if not started.dataplane.running:
        started.restart_dataplane()
    if not started.controlplane.running:
        started.start_controlplane()
    started.wait_states("healthy")
    started.wait_adopted()


def tx_dropped(node: Node) -> int:
    return int(node.json("counters")["nics"][0]["drops"]["tx_dropped"])


@pytest.mark.exact
def test_frames_that_a_veth_drops_are_counted_and_told(lab: Lab, node: Node) -> None:
    """Its other end has no program, as a newcomer's veth."""
    switch, port = lab.switch.namespace, "node-nic0"
    passes = node.build / "deploy/lab/pass.bpf.o"
    assert tx_dropped(node) == 0
    switch.run(["ethtool", "--offload", port, "gro", "off"])  # else frames wait there
    switch.ip("link", "set", "dev", port, "xdp", "off")
    try:
        assert ping(lab.client, VIP_V4, 3) == 0
        wait_until(lambda: tx_dropped(node) >= 3, "they are counted", timeout_s=10)
        assert "tx_dropped" in node.cli("status").stdout
        log = node.dataplane.log.read_text()
        assert "interface nic0: its driver dropped" in log and "other end has no XDP program" in log
    finally:
        switch.ip("link", "set", "dev", port, "xdp", "object", str(passes), "section", "xdp")


def is_attached(node: Node) -> bool:
    return '"xdp":' in node.namespace.ip("-json", "link", "show", "nic0")


def active_flows(node: Node) -> int:
    return sum(int(worker["flows_active"]) for worker in node.status()["engine"]["workers"])


def test_fault_34_killed_daemon_costs_no_packet_and_no_connection(lab: Lab, node: Node) -> None:
    with Load(lab) as load:
        node.dataplane.kill()
        time.sleep(1.5)
        for vip in (VIP_V4, VIP_V6):
            assert len(connect_many(lab.client, vip, 50)) == 50
        node.restart_dataplane()
        time.sleep(1)
        load.assert_untouched()
    assert "going on with the maps of an earlier daemon" in node.dataplane.log.read_text()


def test_fault_39_upgrade_under_load_is_an_exchange_without_a_gap(lab: Lab, node: Node) -> None:
    """Stopped and started, three times: each start loads its own program and swaps it in."""
    with Load(lab) as load:
        for _ in range(3):
            assert node.dataplane.stop() == 0
            assert is_attached(node)
            node.restart_dataplane()
        time.sleep(0.5)
        load.assert_untouched()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_fault_74_connections_of_a_drained_target_outlive_the_daemon(
    lab: Lab, node: Node, how: str
) -> None:
    """What it has not counted yet is no sign that nobody is there: the target stays until then."""
    delay = {"deregistration_delay.timeout_seconds": 1}
    node.apply(standard(attributes=delay))
    node.wait_adopted()
    streams = [TcpStreams(lab.client, vip, connections=20) for vip in (VIP_V4, VIP_V6)]
    try:
        for stream in streams:
            stream.__enter__()
        wait_until(
            lambda: all(stream.targets["t2"] for stream in streams), "t2 has some", timeout_s=10
        )
        node.apply(standard(members=(1, 3), attributes=delay))
        time.sleep(2.5)  # the delay is over
        for _ in range(2):
            if how == "kill":
                node.dataplane.kill()
            else:
                assert node.dataplane.stop() == 0
            node.restart_dataplane()
            node.wait_adopted()
            time.sleep(1.5)
        reports = [stream.stop() for stream in streams]
    finally:
        node.apply(standard())
        node.wait_states("healthy", count=12)
        node.wait_adopted()
    for report in reports:
        assert report.errors == [] and report.lost == 0 and report.moved == 0, report


def test_flows_of_other_sized_maps_are_taken_over(lab: Lab, node: Node) -> None:
    with Load(lab) as load:
        assert node.dataplane.stop() == 0
        before = node.dataplane
        larger = node.engine_words(flows=4 * 65536)
        node.dataplane = node.namespace.service("dataplane", larger)
        node.restart_dataplane()
        time.sleep(0.5)
        load.assert_untouched()
    assert "taken over from maps of another size" in node.dataplane.log.read_text()
    assert node.dataplane.stop() == 0
    node.dataplane = before


def test_config_changes_of_a_restarted_daemon_and_a_new_segment_are_seamless(
    lab: Lab, node: Node
) -> None:
    """Lines that packets are reading are never overwritten, whoever wrote them."""
    with Load(lab) as load:
        for weight in (100, 300, 500):
            node.dataplane.kill()
            node.restart_dataplane()
            node.apply(standard(weights={1: weight}))
            node.wait_adopted()
            node.controlplane.kill()
            (node.runtime_dir / "config").unlink()
            node.start_controlplane(standard())
            node.wait_states("healthy")
            node.wait_adopted()
        load.assert_untouched()


def test_change_while_the_daemon_is_away_is_adopted_when_it_is_back(lab: Lab, node: Node) -> None:
    node.dataplane.kill()
    node.apply(standard(members=(1, 3)))
    assert {answer.target for answer in connect_many(lab.client, VIP_V4, 100)} == set(NAMES)
    node.restart_dataplane()
    node.wait_adopted()
    answers = connect_many(lab.client, VIP_V4, 100)
    assert {answer.target for answer in answers} == {"t1", "t3"} and len(answers) == 100
    node.apply(standard())


def detach_words(node: Node) -> list[str | Path]:
    words: list[str | Path] = [node.program("millrace-xdp"), "detach"]
    return [*words, "--runtime-dir", node.runtime_dir, "--pin-dir", node.pin_dir]


def test_detach_leaves_nothing_and_keeps_the_flows(lab: Lab, node: Node) -> None:
    refused = node.namespace.run(
        [node.program("millrace-xdp"), "detach", "--runtime-dir", node.runtime_dir], check=False
    )
    assert refused.returncode == 1
    holder = f"process {node.dataplane.pid}, which runs with this directory: stop it first"
    assert holder in refused.stderr and "a daemon runs" not in refused.stderr
    with TcpStreams(lab.client, VIP_V4, connections=20) as streams:
        time.sleep(0.5)
        assert node.dataplane.stop() == 0
        # The kernel must not forward replies of the flows untranslated while no engine runs.
        node.namespace.sysctl("net.ipv4.ip_forward", "0")
        off = ["ip", "link", "set", "dev", "nic0", "xdp", "off"]
        assert node.namespace.run(off, check=False).returncode != 0
        wrong = [*detach_words(node), "--flow-dir", "/proc/nowhere"]
        refused = node.namespace.run(wrong, check=False)
        assert refused.returncode == 1
        assert "; nothing was detached, and what is attached goes on" in refused.stderr
        assert is_attached(node)
        copy = (node.flow_dir / "flows.0").stat().st_ino
        node.detach()
        assert not is_attached(node) and not node.pin_dir.exists()
        assert (node.flow_dir / "flows.0").stat().st_ino == copy, "no huge pages for another"
        node.restart_dataplane()
        node.namespace.sysctl("net.ipv4.ip_forward", "1")
        time.sleep(2)
        report = streams.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report
    assert f"flows taken over from {node.flow_dir}" in node.dataplane.log.read_text()


def test_detach_takes_the_flow_directory_of_the_daemon_and_says_what_it_leaves(
    node: Node,
) -> None:
    detach = detach_words(node)
    assert node.dataplane.stop() == 0
    said = node.namespace.run(detach).stderr
    assert "interface nic0: detached" in said and f"flows are in {node.flow_dir}" in said, said
    node.restart_dataplane()
    assert node.dataplane.stop() == 0
    other = node.flow_dir.with_name("other-flows")
    said = node.namespace.run([*detach, "--flow-dir", other]).stderr
    assert f"{node.flow_dir}: left as it is" in said and f"flows are in {other}" in said, said
    again = node.namespace.run([*detach, "--flow-dir", other]).stderr
    assert "nothing was attached" in again and f"what is in {other} is left as it is" in again
    shutil.rmtree(other)
    node.restart_dataplane()


def test_another_program_on_the_interface_is_named(lab: Lab, node: Node) -> None:
    assert node.dataplane.stop() == 0
    node.detach()
    passes = node.build / "deploy/lab/pass.bpf.o"
    node.namespace.ip("link", "set", "dev", "nic0", "xdp", "object", str(passes), "section", "xdp")
    done = node.namespace.run(node.engine_words(), check=False)
    assert done.returncode == 1 and "'pass'" in done.stderr and "nic0" in done.stderr, done.stderr
    node.namespace.ip("link", "set", "dev", "nic0", "xdp", "off")


def link_of(node: Node) -> Path:
    (link,) = node.pin_dir.glob("link-*")
    return link


def link_is_up(node: Node) -> bool:
    return bool(node.status()["engine"]["nics"][0]["link_up"])


def test_fault_92_second_daemon_with_the_same_pins_is_refused_with_the_pid_of_the_first(
    lab: Lab, node: Node
) -> None:
    node.namespace.ip("link", "add", "more0", "type", "veth", "peer", "name", "more1")
    words = [str(word) for word in node.engine_words()]
    words[words.index("--interface") + 1] = "more0"
    for option in ("--runtime-dir", "--flow-dir"):
        words[words.index(option) + 1] += "-second"
    Path(words[words.index("--flow-dir") + 1]).mkdir()
    with Load(lab) as load:
        done = node.namespace.run(words, check=False, timeout_s=20)
        assert done.returncode == 1, done.stderr
        assert f"in use by process {node.dataplane.pid}" in done.stderr
        assert "--pin-dir" in done.stderr and "--interface A --interface B" in done.stderr
        assert is_attached(node)
        load.assert_untouched()
    node.namespace.ip("link", "del", "more0")


def test_fault_92_program_that_somebody_detaches_is_attached_again(lab: Lab, node: Node) -> None:
    link_of(node).unlink()
    wait_until(lambda: is_attached(node), "the program is there again", timeout_s=5)
    wait_until(lambda: link_is_up(node), "the link counts as up", timeout_s=5)
    for vip in (VIP_V4, VIP_V6):
        assert len(connect_many(lab.client, vip, 50)) == 50
    assert "somebody has detached the program: attached again" in node.dataplane.log.read_text()
    # What is pinned now is what the next daemon finds.
    with Load(lab) as load:
        assert node.dataplane.stop() == 0
        node.restart_dataplane()
        load.assert_untouched()


def test_fault_92_program_whose_place_another_took_is_told_and_returns_after_it(
    lab: Lab, node: Node
) -> None:
    passes = node.build / "deploy/lab/pass.bpf.o"
    node.dataplane.send_signal(signal.SIGSTOP)
    link_of(node).unlink()
    node.namespace.ip("link", "set", "dev", "nic0", "xdp", "object", str(passes), "section", "xdp")
    node.dataplane.send_signal(signal.SIGCONT)
    wait_until(lambda: not link_is_up(node), "the link counts as down", timeout_s=5)
    said = node.dataplane.log.read_text()
    assert "somebody has detached the program: nic0: another XDP program (id " in said
    time.sleep(1.5)
    assert node.dataplane.log.read_text().count("somebody has detached") == said.count(
        "somebody has detached"
    ), "once, not with every look"
    node.namespace.ip("link", "set", "dev", "nic0", "xdp", "off")
    wait_until(lambda: link_is_up(node), "the link counts as up", timeout_s=5)
    node.wait_states("healthy")
    assert len(connect_many(lab.client, VIP_V4, 50)) == 50


def test_fault_91_start_that_cannot_attach_leaves_what_runs(lab: Lab, node: Node) -> None:
    """With another interface before the first, where another program is."""
    passes = node.build / "deploy/lab/pass.bpf.o"
    node.namespace.ip("link", "add", "more0", "type", "veth", "peer", "name", "more1")
    node.namespace.ip("link", "set", "dev", "more0", "xdp", "object", str(passes), "section", "xdp")
    for flows in (65536, 2 * 65536):  # with the maps that are there, and with new ones
        words = [str(word) for word in node.engine_words(flows=flows)]
        at = words.index("--interface")
        for names in (("more0", "nic0"), ("nic0", "more0")):
            wrong = [word for name in names for word in ("--interface", name)]
            with Load(lab) as load:
                assert node.dataplane.stop() == 0
                done = node.namespace.run(
                    [*words[:at], *wrong, *words[at + 2 :]], check=False, timeout_s=20
                )
                assert done.returncode == 1 and "'pass'" in done.stderr, done.stderr
                for vip in (VIP_V4, VIP_V6):
                    assert len(connect_many(lab.client, vip, 50)) == 50
                node.restart_dataplane()
                time.sleep(0.5)
                load.assert_untouched()
            assert "going on with the maps of an earlier" in node.dataplane.log.read_text()
    node.namespace.ip("link", "del", "more0")


def test_missing_bpf_file_system_is_told_with_the_remedy(node: Node) -> None:
    assert node.dataplane.stop() == 0
    words = [str(word) for word in node.engine_words()]
    words[words.index("--pin-dir") + 1] = str(node.runtime_dir / "pins")
    done = node.namespace.run(words, check=False)
    assert done.returncode == 1 and "mount -t bpf" in done.stderr, done.stderr


def growths(node: Node) -> int:
    return node.dataplane.log.read_text().count("config memory has grown")


@pytest.mark.seconds(180)
def test_fault_42_config_memory_grows_with_the_config_under_load(lab: Lab, node: Node) -> None:
    """300 lookup tables of 256 KiB, where there is room for 32."""
    with Load(lab) as load:
        node.apply(with_more_groups(300))
        node.wait_adopted(timeout_s=60)
        for index in (0, 149):
            for vip in (VIP_V4, VIP_V6):
                answers = connect_many(lab.client, vip, 10, port=FIRST_OF_MORE_PORTS + index)
                assert len(answers) == 10 and {a.target for a in answers} <= set(NAMES)
        grown = growths(node)
        assert grown > 0
        # That outlives the daemon whose options say less, and grows when they say more.
        for config_mib, more in ((node.config_mib, 0), (512, 1)):
            node.dataplane.kill()
            node.config_mib = config_mib
            node.dataplane = node.namespace.service("dataplane", node.engine_words())
            node.restart_dataplane()
            assert growths(node) == grown + more
        node.apply(standard())
        node.wait_adopted()
        load.assert_untouched()
    node.wait_no_alarms()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--interface"),
        (["--interface", "nic0", "--mode", "fast"], "'fast'"),
        (["--interface", "nic0", "--flows", "0"], "--flows"),
        (["--interface", "lo"], "lo"),
        (["--interface", "nic0", "--config", "/nowhere"], "/nowhere"),
        (["attach"], "'attach'"),
    ],
)
def test_wrong_options_are_told_in_one_line(
    node: Node, tmp_path: Path, words: list[str], told: str
) -> None:
    own: list[str | Path] = [node.program("millrace-xdp"), *words]
    own += ["--runtime-dir", tmp_path, "--flow-dir", tmp_path, "--pin-dir", node.pin_dir]
    done = node.namespace.run(own, check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("millrace-xdp: ")]
    assert len(said) == 1 and told in said[0], done.stderr


def test_detach_of_nothing_is_no_failure(lab: Lab, node: Node) -> None:
    assert node.dataplane.stop() == 0
    node.detach()
    assert "nothing was attached" in node.detach()


@VIPS
def test_flow_of_a_dead_connection_leaves_the_table(lab: Lab, node: Node, vip: str) -> None:
    """The gauge follows the flows; ended ones make room within the timeout of closed flows."""
    assert len(connect_many(lab.client, vip, 100)) == 100
    wait_until(lambda: active_flows(node) > 0, "flows", timeout_s=5)
    removed = node.totals()["flow_removed"]
    wait_until(
        lambda: node.totals()["flow_removed"] >= removed + 90, "closed flows go", timeout_s=60
    )


@pytest.mark.seconds(120)
def test_a_live_node_changes_engines_and_keeps_its_connections(lab: Lab, node: Node) -> None:
    with TcpStreams(lab.client, VIP_V4, connections=20) as streams:
        for engine in ("dpdk", "xdp"):
            time.sleep(1)
            node.switch_engine(engine)
            node.wait_states("healthy")
            node.wait_adopted()
            assert node.status()["engine"]["kind"] == engine
            assert len(connect_many(lab.client, VIP_V6, 50)) == 50
        time.sleep(1)
        report = streams.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report
