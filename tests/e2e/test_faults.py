# SPDX-License-Identifier: Apache-2.0
"""Processes are killed, stopped and restarted under load; segments are damaged.

The numbers are those of the list of faults that Millrace survives.
"""

from __future__ import annotations

import mmap
import os
import re
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, Node
from lab.addresses import VIP_V4, VIP_V6, target_v4
from lab.configs import standard
from lab.load import Load
from lab.process import run, wait_until
from lab.traffic import TcpStreams, connect_many, http_get

OUTAGE_SECONDS_MAX = 5.0

# config_abi.h: where the changing words of the config segment are.
ABI_VERSION_OFFSET = 8
GENERATION_OFFSET = 128
ROOTS_OFFSET = 192
ROOT_COUNT = 16
ROOT = struct.Struct("<QQ")


@pytest.fixture(autouse=True)
def running(lab: Lab, started: Node) -> Iterator[None]:
    """Whatever a test did, the next one finds both programs running and all targets healthy."""
    yield
    if started.controlplane.running:
        started.controlplane.send_signal(signal.SIGCONT)
    if not started.dataplane.running:
        started.restart_dataplane()
    if not started.controlplane.running:
        started.start_controlplane()
    started.wait_states("healthy")
    started.wait_adopted()


def identities(node: Node) -> dict[tuple[str, str], tuple[int, str]]:
    return {(v.group, v.address): (v.id, v.state) for v in node.targets()}


def test_fault_31_control_plane_killed_under_load_costs_no_packet(lab: Lab, node: Node) -> None:
    before = identities(node)
    generation = node.status()["generation"]
    with Load(lab) as load:
        node.controlplane.kill()
        time.sleep(1.5)
        assert len(connect_many(lab.client, VIP_V4, 50)) == 50
        node.start_controlplane()
        flips = []
        for _ in range(20):
            flips += [v for v in node.targets() if (v.id, v.state) != before[(v.group, v.address)]]
            time.sleep(0.1)
        load.assert_untouched()
    assert flips == []
    assert identities(node) == before
    assert node.status()["generation"] >= generation


def test_fault_31_change_after_a_restart_reaches_the_engine(lab: Lab, node: Node) -> None:
    node.controlplane.kill()
    node.start_controlplane()
    lab.target("t2").fail_health()
    node.wait_states("unhealthy", address=target_v4(2))
    node.wait_adopted()
    answers = connect_many(lab.client, VIP_V4, 100)
    assert {answer.target for answer in answers} == {"t1", "t3"} and len(answers) == 100
    lab.target("t2").fail_health(False)


def test_fault_33_control_plane_stopped_forwarding_goes_on(lab: Lab, node: Node) -> None:
    before = identities(node)
    with Load(lab) as load:
        node.controlplane.send_signal(signal.SIGSTOP)
        time.sleep(3)
        for vip in (VIP_V4, VIP_V6):
            assert len(connect_many(lab.client, vip, 50)) == 50
        node.controlplane.send_signal(signal.SIGCONT)
        wait_until(node.controlplane_answers, "it answers again", timeout_s=10)
        time.sleep(1)
        load.assert_untouched()
    assert identities(node) == before


def test_fault_34_dataplane_killed_under_load_established_tcp_goes_on(
    lab: Lab, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    with Load(lab) as load:
        start = time.monotonic()
        node.dataplane.kill()
        ready_s = node.restart_dataplane()
        wait_until(lambda: len(http_get(lab.client, VIP_V4, 1)) == 1, "traffic", timeout_s=20)
        back_s = time.monotonic() - start
        time.sleep(3)
        udp, tcp = load.stop()
    outage = max(report.longest_gap_s for report in udp)
    with capsys.disabled():
        print(
            f"\n  dataplane killed: ready after {ready_s:.2f} s, new connections after"
            f" {back_s:.2f} s, longest silence UDP {outage:.2f} s,"
            f" TCP {max(report.longest_gap_s for report in tcp):.2f} s"
        )
    for report in tcp:
        assert report.errors == [] and report.lost == 0 and report.moved == 0, report
    for report in udp:
        assert len(report.targets) == 1, "a UDP flow stays with its target"
    assert outage < OUTAGE_SECONDS_MAX


def test_fault_34_flows_are_kept_over_a_clean_restart(lab: Lab, node: Node) -> None:
    with TcpStreams(lab.client, VIP_V4, connections=20) as streams:
        time.sleep(0.5)
        assert node.dataplane.stop() == 0
        node.restart_dataplane()
        time.sleep(3)
        report = streams.stop()
    assert report.errors == [] and report.lost == 0 and report.moved == 0, report


def test_fault_30_second_dataplane_is_refused_and_names_the_first(node: Node) -> None:
    done = node.namespace.run(node.engine_words(), check=False, timeout_s=20)
    assert done.returncode == 1
    assert str(node.dataplane.pid) in done.stderr and len(last_lines(done.stderr)) == 1
    assert node.dataplane.running


def test_fault_30_second_control_plane_is_refused_and_names_the_first(node: Node) -> None:
    done = node.namespace.run(node.controlplane_words(), check=False, timeout_s=20)
    assert done.returncode == 1
    assert str(node.controlplane.pid) in done.stderr
    assert node.controlplane_answers()


def test_fault_46_without_an_engine_no_state_gets_worse_until_one_comes(
    lab: Lab, node: Node
) -> None:
    """Probes travel through the engine: while none runs, those that fail say nothing."""
    assert node.dataplane.stop() == 0
    if node.engine == "xdp":
        node.detach()
    node.controlplane.stop()
    node.start_controlplane()
    target = lab.target("t1")
    target.fail_health()
    try:
        wait_until(
            lambda: bool(re.search("not probed: .*nobody holds ", str(node.status()["alarms"]))),
            "an alarm",
            timeout_s=10,
        )
        time.sleep(2)
        assert {view.state for view in node.targets()} == {"healthy"}
        node.restart_dataplane()
        for vip, address in ((VIP_V4, target.v4), (VIP_V6, target.v6)):
            node.wait_states("unhealthy", address=address)
            node.wait_adopted()
            answers = connect_many(lab.client, vip, 100)
            assert len(answers) == 100
            assert {answer.target for answer in answers} == {"t2", "t3"}
        node.wait_no_alarms()
    finally:
        target.fail_health(False)


def last_lines(stderr: str) -> list[str]:
    """The one line that says why, without what libraries said before."""
    return [line for line in stderr.splitlines() if line.startswith("millrace-")]


def test_fault_30_missing_interface_is_named(node: Node, tmp_path: Path) -> None:
    words: list[str | Path] = [node.program("millrace-dataplane"), "--nic", "nosuch0"]
    if node.engine == "xdp":
        words = [node.program("millrace-xdp"), "--interface", "nosuch0", "--pin-dir", node.pin_dir]
    words += ["--runtime-dir", tmp_path, "--flow-dir", tmp_path]
    done = node.namespace.run(words, check=False, timeout_s=20)
    assert done.returncode == 1
    assert "nosuch0" in done.stderr and len(last_lines(done.stderr)) == 1


@pytest.mark.only_engine("dpdk", "XDP needs no huge pages")
def test_fault_30_missing_hugepages_are_told_with_the_remedy(node: Node, tmp_path: Path) -> None:
    """In a mount namespace of its own, where no hugetlbfs page can be had."""
    program = node.program("millrace-dataplane")
    words = f"{program} --nic nic0 --twin twin0 --runtime-dir {tmp_path} --flow-dir {tmp_path}"
    hide = "umount /dev/hugepages; mount -t tmpfs none /sys/kernel/mm/hugepages 2>/dev/null;"
    shell = ["unshare", "--mount", "sh", "-c", f"{hide} exec {words}"]
    done = node.namespace.run(shell, check=False, timeout_s=20)
    assert done.returncode == 1, done.stderr
    assert "hugepage" in done.stderr and len(last_lines(done.stderr)) == 1


def test_sigterm_is_a_clean_stop(node: Node) -> None:
    assert node.controlplane.stop() == 0
    assert node.dataplane.stop() == 0
    assert not (node.runtime_dir / "controlplane.sock").exists()


def test_programs_start_in_either_order(lab: Lab, node: Node) -> None:
    for first in ("dataplane", "controlplane"):
        node.close()
        if first == "dataplane":
            node.restart_dataplane()
            node.start_controlplane()
        else:
            node.start_controlplane()
            node.restart_dataplane()
        node.wait_states("healthy")
        node.wait_adopted()
        assert len(connect_many(lab.client, VIP_V6, 20)) == 20


def config_segment(node: Node) -> mmap.mmap:
    with (node.runtime_dir / "config").open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def test_fault_36_corrupt_image_is_refused_and_the_old_one_stays(lab: Lab, node: Node) -> None:
    """Publishes a generation whose image has flipped bits, as a broken control plane would."""
    node.controlplane.kill()
    with config_segment(node) as segment:
        generation = struct.unpack_from("<Q", segment, GENERATION_OFFSET)[0]
        place = ROOTS_OFFSET + (generation % ROOT_COUNT) * ROOT.size
        _, image = ROOT.unpack_from(segment, place)
        copy = len(segment) - (1 << 16)
        segment[copy : copy + 512] = segment[image : image + 512]
        segment[copy + 20] ^= 0xFF
        struct.pack_into("<Q", segment, copy + 8, generation + 1)
        next_place = ROOTS_OFFSET + ((generation + 1) % ROOT_COUNT) * ROOT.size
        ROOT.pack_into(segment, next_place, generation + 1, copy)
        struct.pack_into("<Q", segment, GENERATION_OFFSET, generation + 1)
        with Load(lab) as load:
            time.sleep(1)
            load.assert_untouched()
    assert node.dataplane.running
    node.start_controlplane()
    node.wait_adopted()
    assert node.status()["engine"]["refused_generation"] == generation + 1
    assert len(connect_many(lab.client, VIP_V4, 50)) == 50


def test_fault_36_every_wild_offset_in_the_image_is_survived(lab: Lab, node: Node) -> None:
    """Each of the image root's words in turn points far outside."""
    node.controlplane.kill()
    with config_segment(node) as segment:
        generation = struct.unpack_from("<Q", segment, GENERATION_OFFSET)[0]
        _, image = ROOT.unpack_from(segment, ROOTS_OFFSET + generation % ROOT_COUNT * ROOT.size)
        copy = len(segment) - (1 << 16)
        for word in range(0, 12):
            generation += 1
            segment[copy : copy + 512] = segment[image : image + 512]
            struct.pack_into("<Q", segment, copy + 8, generation)
            struct.pack_into("<Q", segment, copy + 8 * word, 0x7FFF_FFFF_FFFF_FFC0)
            place = ROOTS_OFFSET + (generation % ROOT_COUNT) * ROOT.size
            ROOT.pack_into(segment, place, generation, copy)
            struct.pack_into("<Q", segment, GENERATION_OFFSET, generation)
            time.sleep(0.05)
            assert node.dataplane.running, node.dataplane.log_tail()
    assert len(http_get(lab.client, VIP_V4, 10)) == 10


@pytest.mark.parametrize("damage", ["other abi", "cut short", "zeroed", "random"])
def test_fault_37_foreign_config_segment_is_refused_with_its_reason(
    lab: Lab, node: Node, damage: str
) -> None:
    node.close()
    path = node.runtime_dir / "config"
    damaged(path, damage)
    log = node.dataplane.log.stat().st_size
    node.dataplane.start()
    wait_until(lambda: "config" in node.dataplane.log.read_text()[log:], "a reason", timeout_s=10)
    time.sleep(0.5)
    assert node.dataplane.running, node.dataplane.log_tail()
    said = node.dataplane.log.read_text()[log:]
    if damage == "other abi":
        assert "999" in said, said
    node.start_controlplane()
    node.wait_states("healthy")
    node.wait_adopted()
    assert len(connect_many(lab.client, VIP_V4, 50)) == 50


@pytest.mark.parametrize("damage", ["other abi", "cut short", "zeroed", "random"])
def test_fault_37_foreign_stats_segment_is_replaced_by_the_engines_own(
    lab: Lab, node: Node, damage: str
) -> None:
    """The engine notices that its name leads to another file, and makes its own anew there."""
    node.controlplane.stop()
    stats = node.runtime_dir / "stats"
    foreign = node.runtime_dir / "stats.foreign"
    foreign.write_bytes(stats.read_bytes())
    damaged(foreign, damage)
    foreign.replace(stats)
    node.start_controlplane()
    wait_until(
        lambda: bool(node.status()["engine"]["running"]), "the engine is seen to run", timeout_s=5
    )
    assert len(connect_many(lab.client, VIP_V4, 50)) == 50
    assert node.dataplane.stop() == 0
    node.restart_dataplane()
    node.wait_states("healthy")
    node.wait_adopted()
    assert len(connect_many(lab.client, VIP_V4, 50)) == 50


@pytest.mark.parametrize("damage", ["other abi", "cut short", "zeroed", "random", "random inside"])
def test_fault_36_damaged_flow_table_is_never_a_crash(lab: Lab, node: Node, damage: str) -> None:
    assert len(connect_many(lab.client, VIP_V4, 100)) == 100
    assert node.dataplane.stop() == 0
    if node.engine == "xdp":
        node.detach()  # or it would go on with the flows in the kernel
    damaged(node.flow_dir / "flows.0", damage)
    node.restart_dataplane()
    node.wait_adopted()
    for vip in (VIP_V4, VIP_V6):
        assert len(connect_many(lab.client, vip, 200)) == 200
    assert node.dataplane.running


def damaged(path: Path, how: str) -> None:
    """Damages the file in place; hugetlbfs knows neither write() nor odd lengths, so by mapping."""
    size = path.stat().st_size
    if how == "cut short":
        os.truncate(path, size // 2 // (2 << 20) * (2 << 20) if size > (4 << 20) else 0)
        return
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as data:
        if how == "other abi":
            struct.pack_into("<I", data, ABI_VERSION_OFFSET, 999)
        elif how == "zeroed":
            data[0:4096] = bytes(4096)
        elif how == "random":
            data[0:4096] = os.urandom(4096)
        else:
            start = 4096
            data[start:size] = os.urandom(size - start)


def test_fault_92_emptied_runtime_directory_is_filled_again_under_load(
    lab: Lab, node: Node
) -> None:
    with Load(lab) as load:
        for path in node.runtime_dir.iterdir():
            path.unlink()
        wait_until(node.controlplane_answers, "the control plane answers", timeout_s=5)
        wait_until(
            lambda: bool(node.status()["engine"]["running"]), "the engine is seen", timeout_s=5
        )
        node.apply(standard(weights={1: 100, 2: 100, 3: 50}))
        node.wait_adopted()
        node.apply(standard())
        node.wait_adopted()
        load.assert_untouched()
    for service in (node.dataplane, node.controlplane):
        assert "made again" in service.log.read_text()
    second = node.namespace.run(node.controlplane_words(), check=False, timeout_s=20)
    assert f"already held by process {node.controlplane.pid}" in second.stderr


def test_a_stop_leaves_no_process_and_only_the_known_files(node: Node) -> None:
    node.close()
    pids = run(["ip", "netns", "pids", node.namespace.name]).stdout.split()
    names = [Path(f"/proc/{pid}/comm").read_text() for pid in pids]
    assert [name for name in names if name.startswith("millrace")] == []
    left = sorted(path.name for path in node.runtime_dir.iterdir())
    assert set(left) <= {"config", "stats", "dataplane.lock", "controlplane.lock"}, left
