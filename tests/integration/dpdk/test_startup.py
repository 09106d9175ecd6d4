# SPDX-License-Identifier: Apache-2.0
"""millrace-dataplane as a process: how it starts, refuses to start, and ends.

Runs without privilege: no hugepages, and DPDK's ring driver as the nic. The program's path comes in
MILLRACE_DATAPLANE.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PROGRAM = os.environ["MILLRACE_DATAPLANE"]
NO_HUGEPAGES = ("--eal=--no-huge", "--eal=-m", "--eal=128")
START_TIMEOUT_S = 30


class Engine:
    """One engine on a ring device, started and awaited."""

    def __init__(
        self, directory: Path, *more: str, environment: Mapping[str, str] | None = None
    ) -> None:
        words = [PROGRAM, "--nic", "net_ring0", "--flows", "1000", *directories(directory), *more]
        self.process = subprocess.Popen(
            [*words, *NO_HUGEPAGES],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.said = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if "ready:" in line:
                return
        raise AssertionError(f"engine ended instead of getting ready: {self.said}")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=START_TIMEOUT_S)
        self.said += rest
        return self.process.returncode


def status_of(task: Path) -> str:
    return (task / "status").read_text()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where an engine has its runtime directory and flow tables; a leftover engine is ended."""
    yield tmp_path
    lock = tmp_path / "run" / "dataplane.lock"
    if lock.exists() and re.fullmatch(r"\d+\s*", lock.read_text()):
        try:
            os.kill(int(lock.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            pass


def directories(directory: Path) -> tuple[str, ...]:
    return ("--runtime-dir", str(directory / "run"), "--flow-dir", str(directory / "flows"))


def refusal(*words: str) -> str:
    """The one line that a refused start leaves, besides its log."""
    run = subprocess.run(
        [PROGRAM, *words], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )
    assert run.returncode == 1
    assert run.stdout == ""
    lines = [line for line in run.stderr.splitlines() if not line.startswith("[")]
    assert len(lines) == 1, run.stderr
    prefix = "millrace-dataplane: "
    assert lines[0].startswith(prefix)
    return lines[0][len(prefix) :]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "--nic is missing (see --help)"),
        (("--nic", "x", "--workers", "0"), "--workers: 0 is not 1 to 16"),
        (("--nic", "x", "--workers", "17"), "--workers: 17 is not 1 to 16"),
        (("--nic", "x", "--queues", "0"), "--queues: 0 is not 1 to 256"),
        (("--nic", "x", "--flows", "0"), "--flows: 0 is not 1 to 268435456"),
        (("--nic", "x", "--twin", "a", "--twin", "b"), "--twin: there are 2 twins for 1 nics"),
        (
            ("--nic", "x", "--worker-cpus", "1-"),
            "--worker-cpus: '1-' is no list of CPUs such as 2,4-6",
        ),
        (("--nic", "x", "--worker-cpus", "0,0"), "--worker-cpus: names 2 CPUs for 1 workers"),
        (
            ("--nic", "x", "--worker-cpus", "9999"),
            "--worker-cpus: there is no CPU 9999 that is online (lscpu shows them)",
        ),
        (
            ("--nic", "x", "--config", "/nonexistent"),
            "--config: cannot read /nonexistent as a file",
        ),
        (
            ("--nic", "x", "--log-level", "loud"),
            "--log-level: 'loud' is none of trace, debug, info, warn, error, off",
        ),
        (("--speed", "11"), "unrecognised option '--speed' (see --help)"),
        (("y", "--nic", "x"), "'y' belongs to no option (see --help)"),
        (("--nic", "x", "--workers=-1"), "--workers: -1 is negative (see --help)"),
        (("--nic", "x", "--config", "/tmp"), "--config: cannot read /tmp as a file"),
        (
            ("--nic", "x", "--workers", "many"),
            "the argument ('many') for option '--workers' is invalid (see --help)",
        ),
    ],
)
def test_wrong_option_is_named(words: tuple[str, ...], reason: str) -> None:
    assert refusal(*words) == reason


def test_missing_interface_is_named(directory: Path) -> None:
    said = refusal("--nic", "no-such-if0", *directories(directory), *NO_HUGEPAGES)
    assert said == "nic no-such-if0: no such interface in this network namespace (ip link show)"


@pytest.mark.parametrize(
    ("nics", "reason"),
    [
        (("no-such-if0",), "nic no-such-if0: no such interface in this network namespace"),
        (("",), "nic '': no such interface in this network namespace"),
        (("lo",), "nic lo: is no Ethernet interface"),
        (("net_ring0", "net_ring0"), "nic net_ring0: is named twice"),
        (("0000:ff:00.0,a=1", "0000:ff:00.0"), "nic 0000:ff:00.0: is named twice"),
        (("bond:net_ring0,net_ring1", "net_ring1"), "nic net_ring1: is named twice"),
        (("bond:net_ring0",), "nic bond:net_ring0: has one member only"),
        (("3b:00.0",), "nic 3b:00.0: is no PCI address as the kernel writes it, like 0000:3b:00.0"),
        (("0000:3b:00.0,0000:3b:00.1",), "nic 0000:3b:00.0,0000:3b:00.1: has a comma behind its"),
    ],
)
def test_wrong_device_is_named_before_memory_for_it_is_looked_for(
    directory: Path, nics: tuple[str, ...], reason: str
) -> None:
    """With more queues than any machine has huge pages for."""
    words = [word for nic in nics for word in ("--nic", nic)]
    said = refusal(*words, "--workers", "16", "--queues", "256", *directories(directory))
    assert said.startswith(reason)


def test_twin_of_two_nics_is_refused(directory: Path) -> None:
    nics = ("--nic", "net_ring0", "net_ring1", "--twin", "tap0", "tap0")
    assert refusal(*nics, *directories(directory)) == "twin tap0: is named twice"


def test_missing_twin_says_how_to_make_it(directory: Path) -> None:
    said = refusal(
        *("--nic", "net_ring0", "--twin", "no-such-tap0"), *directories(directory), *NO_HUGEPAGES
    )
    assert said.endswith("make it with: host-setup twin no-such-tap0 NIC")


def test_unusable_runtime_directory_is_named() -> None:
    said = refusal("--nic", "net_ring0", "--runtime-dir", "/nonexistent/millrace", *NO_HUGEPAGES)
    assert said.startswith("cannot make the runtime directory /nonexistent/millrace: ")


def test_fault_30_too_few_hugepages_say_how_to_get_more(directory: Path) -> None:
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    if not free.exists():
        pytest.skip("this machine has no 2 MB hugepages")
    # Eight nics for sixteen workers want 2.4 GB for packets.
    if int(free.read_text()) > 1100:
        pytest.skip("this machine has more free hugepages than the largest engine wants")
    nics = [word for index in range(8) for word in ("--nic", f"net_ring{index}")]
    said = refusal(*nics, "--workers", "16", "--queues", "16", *directories(directory))
    assert re.fullmatch(
        r"hugepages: \d+ of 2 MiB are free, \d+ are needed, and more for flow tables; reserve "
        r"them: host-setup hugepages \d+ \(\"Sizing\" in the runbook says how many in all\); "
        r"or set node.engine: xdp and start millrace-xdp$",
        said,
    )


def test_fault_30_second_instance_is_refused_with_the_pid_of_the_first(directory: Path) -> None:
    engine = Engine(directory)
    said = refusal("--nic", "net_ring0", *directories(directory), *NO_HUGEPAGES)
    assert f"dataplane.lock: already held by process {engine.process.pid}" in said
    assert engine.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly_and_flow_tables_stay(
    directory: Path, number: signal.Signals
) -> None:
    engine = Engine(directory, "--workers", "2")
    assert (directory / "run" / "stats").exists()
    assert engine.end(number) == 0
    assert engine.said.rstrip().endswith("stopped")
    assert sorted(path.name for path in (directory / "flows").iterdir()) == ["flows.0", "flows.1"]


def test_restart_goes_on_with_the_flow_tables(directory: Path) -> None:
    assert Engine(directory).end(signal.SIGKILL) == -signal.SIGKILL
    again = Engine(directory)
    assert "flows kept" in again.said
    assert again.end(signal.SIGTERM) == 0


def test_hangup_of_the_terminal_ends_no_engine(directory: Path) -> None:
    engine = Engine(directory)
    engine.process.send_signal(signal.SIGHUP)
    assert engine.process.stderr is not None
    for line in engine.process.stderr:
        engine.said += line
        if "SIGHUP" in line:
            break
    assert "SIGHUP is ignored" in engine.said
    assert engine.end(signal.SIGTERM) == 0


def test_fault_88_other_number_of_workers_goes_on_with_the_flow_tables(directory: Path) -> None:
    assert Engine(directory).end(signal.SIGTERM) == 0
    for workers, tables in (("2", "1 table"), ("1", "2 tables")):
        again = Engine(directory, "--workers", workers)
        assert f"kept, from {tables} into {workers}" in again.said
        assert again.end(signal.SIGTERM) == 0
        assert len(list((directory / "flows").iterdir())) == int(workers)


def test_fault_91_start_that_fails_leaves_flow_tables_as_they_were(directory: Path) -> None:
    assert Engine(directory).end(signal.SIGTERM) == 0

    def left() -> list[tuple[str, int, int]]:
        files = sorted((directory / "flows").iterdir())
        return [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in files]

    before = left()
    ring = ("--nic", "net_ring0", *directories(directory), *NO_HUGEPAGES)
    # Before the flow tables are opened, while they are made, and after that.
    refusal("--nic", "no-such-if0", *directories(directory), *NO_HUGEPAGES, "--workers", "2")
    assert left() == before
    refusal("--nic", "no-such-if0", "--flows", "0")
    assert left() == before
    in_the_way = directory / "flows" / "flows.1.new"
    in_the_way.mkdir()
    assert "flows.1.new" in refusal(*ring, "--flows", "2000", "--workers", "2")
    in_the_way.rmdir()
    assert left() == before
    (directory / "run" / "stats.new").mkdir()
    said = refusal(*ring, "--flows", "2000", "--workers", "2")
    assert "stats.new" in said
    assert left() == before
    (directory / "run" / "stats.new").rmdir()
    again = Engine(directory)
    assert "kept, from 1 table into 1" in again.said
    assert again.end(signal.SIGTERM) == 0


def test_fault_92_runtime_directory_that_is_emptied_is_filled_again(directory: Path) -> None:
    engine = Engine(directory)
    for name in ("stats", "dataplane.lock"):
        (directory / "run" / name).unlink()
    deadline = time.monotonic() + 5
    while not all((directory / "run" / name).exists() for name in ("stats", "dataplane.lock")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    said = refusal("--nic", "net_ring0", *directories(directory), *NO_HUGEPAGES)
    assert f"dataplane.lock: already held by process {engine.process.pid}" in said
    (directory / "flows" / "flows.0").unlink()
    time.sleep(0.2)
    assert engine.end(signal.SIGTERM) == 0
    assert "made again" in engine.said
    assert "flows.0 was removed: flows end with this process" in engine.said


def test_fault_61_no_thread_keeps_a_capability(directory: Path) -> None:
    engine = Engine(directory, "--workers", "2")
    tasks = list(Path(f"/proc/{engine.process.pid}/task").iterdir())
    assert len(tasks) >= 4  # main, two workers, the EAL's own
    # The EAL's own thread gives its capabilities up when it comes to it, a moment after "ready".
    deadline = time.monotonic() + 5
    while any(re.search(r"^CapEff:.*[1-9a-f]", status, re.M) for status in map(status_of, tasks)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for task in tasks:
        status = status_of(task)
        for kind in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert re.search(rf"^{kind}:\s+0+$", status, re.MULTILINE), (task.name, status)
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert engine.end(signal.SIGTERM) == 0


def test_reader_of_the_log_that_goes_away_does_not_end_it(directory: Path) -> None:
    engine = Engine(directory)
    assert engine.process.stderr is not None
    engine.process.stderr.close()
    # A config that is refused is logged, and noted in the stats segment.
    (directory / "run" / "config").write_bytes(bytes(4096))
    deadline = time.monotonic() + 5
    while b"magic is" not in (directory / "run" / "stats").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert engine.process.poll() is None
    engine.process.send_signal(signal.SIGTERM)
    assert engine.process.wait(timeout=START_TIMEOUT_S) == 0


def test_options_come_from_a_file_and_the_command_line_wins(directory: Path) -> None:
    file = directory / "dataplane.conf"
    file.write_text("workers = 2\nflows = 4096\n")
    engine = Engine(directory, "--config", str(file))
    assert "2 workers, 1000 flows each" in engine.said
    assert engine.end(signal.SIGTERM) == 0


def test_help_teaches() -> None:
    run = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True)
    for word in (
        "--nic DEVICE",
        "host-setup twin",
        "host-setup hugepages",
        "--flow-dir",
        "SIGTERM",
    ):
        assert word in run.stdout


def test_fault_36_stats_segment_that_is_cut_short_ends_nothing(directory: Path) -> None:
    engine = Engine(directory, "--workers", "2")
    stats = directory / "run" / "stats"
    size = stats.stat().st_size
    for left in (0, 5000, size - 4096):
        before = stats.stat().st_ino
        os.truncate(stats, left)
        deadline = time.monotonic() + START_TIMEOUT_S
        while stats.stat().st_ino == before or stats.stat().st_size != size:
            assert engine.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    assert engine.end(signal.SIGTERM) == 0, engine.said
    assert engine.said.count("made again") == 3, engine.said


def trace(request: int, thread: int) -> None:
    """ptrace(2) with nothing but a thread: stops one, or lets it go on, and no other."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(request, thread, None, None) != 0:
        pytest.skip(f"no ptrace here: {os.strerror(ctypes.get_errno())}")


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


def heard_within(manager: socket.socket, seconds: float) -> bool:
    manager.settimeout(seconds)
    try:
        manager.recv(64)
        return True
    except TimeoutError:
        return False


def test_fault_38_worker_that_stands_still_ends_the_signs_of_life(directory: Path) -> None:
    """The service manager then restarts the engine; the bound is 10 s (worker/launch.cc)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(START_TIMEOUT_S)
        environment = {"NOTIFY_SOCKET": str(directory / "notify"), "WATCHDOG_USEC": "800000"}
        engine = Engine(directory, "--workers", "2", environment=environment)
        assert manager.recv(64) == b"READY=1"
        assert manager.recv(64) == b"WATCHDOG=1"
        tasks = Path(f"/proc/{engine.process.pid}/task").iterdir()
        worker = next(int(task.name) for task in tasks if "worker" in (task / "comm").read_text())
        trace(PTRACE_SEIZE, worker)
        trace(PTRACE_INTERRUPT, worker)
        stopped = time.monotonic()
        while heard_within(manager, 3):
            assert time.monotonic() - stopped < START_TIMEOUT_S, "as if nothing were"
        assert time.monotonic() - stopped > 8, "for a worker that was away for a moment"
        assert os.waitpid(worker, 0x40000000)[0] == worker  # __WALL
        trace(PTRACE_DETACH, worker)
        manager.settimeout(START_TIMEOUT_S)
        assert manager.recv(64) == b"WATCHDOG=1"
        assert engine.end(signal.SIGTERM) == 0
