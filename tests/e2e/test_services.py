# SPDX-License-Identifier: Apache-2.0
"""The programs as services: who reads their logs stops or goes, somebody starts them twice, cuts
their files, or has no room for what they print."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab.configs import standard
from lab.namespace import Namespace
from lab.node import REPOSITORY, build_directory, program_path
from lab.process import run, wait_until

DEMO = REPOSITORY / "deploy" / "examples" / "demo.yaml"
WRONG = "load_balancers: [" + ", ".join(f"{{nam{i}: x}}" for i in range(20)) + "]\n"


@dataclass
class ControlPlane:
    """One with a file of its own, in a network namespace of its own; its log is a pipe."""

    host: Namespace
    home: Path
    process: subprocess.Popen[bytes] | None = None
    user: int | None = None  # and group, without any privilege; None: root

    @property
    def config(self) -> Path:
        return self.home / "millrace.yaml"

    @property
    def socket(self) -> Path:
        return self.home / "run" / "controlplane.sock"

    def words(self, runtime_dir: str = "run", state_dir: str = "state") -> list[str]:
        words: list[str | Path] = [
            *(program_path("millrace-controlplane"), "--config", self.config),
            *("--runtime-dir", self.home / runtime_dir, "--state-dir", self.home / state_dir),
        ]
        if self.user is None:
            return self.host.command(words)
        ids = (f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups")
        return self.host.command(["setpriv", *ids, *words])

    def start(self, *, is_whole: bool = True) -> None:
        """Until it answers; `is_whole`: it can read all that there is."""
        self.config.write_text(json.dumps(standard()))
        self.process = subprocess.Popen(self.words(), stderr=subprocess.PIPE)
        wait_until(lambda: self.answers(is_whole), "it answers", timeout_s=15)

    def answers(self, is_whole: bool) -> bool:
        answered = self.millrace("status")
        return answered.returncode == 0 if is_whole else answered.stdout != ""

    def millrace(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run([program_path("millrace"), "--socket", self.socket, *words], check=False)

    @property
    def log(self) -> int:
        assert self.process is not None and self.process.stderr is not None
        return self.process.stderr.fileno()

    def read_log(self) -> str:
        """What there is."""
        os.set_blocking(self.log, False)
        parts = []
        try:
            while part := os.read(self.log, 65536):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts).decode()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    host = Namespace(f"mr-{os.getpid()}-service", "host", tmp_path)
    host.create()
    started = ControlPlane(host, tmp_path)
    try:
        started.start()
        yield started
        assert started.process is not None and started.process.poll() is None
        assert started.stop() == 0
    finally:
        host.delete()


def test_fault_87_log_reader_that_stops_holds_up_nothing(control_plane: ControlPlane) -> None:
    control_plane.config.write_text(WRONG)
    for _ in range(100):  # each logs about 2 KB, and a pipe holds 64 KiB
        assert control_plane.millrace("reload").returncode == 1
    assert control_plane.millrace("status").returncode == 0
    said = control_plane.read_log()
    assert 50_000 < len(said) < 200_000
    assert control_plane.millrace("reload").returncode == 1
    assert "lines of this log were lost" in control_plane.read_log()


def test_fault_87_log_reader_that_is_gone_ends_nothing(control_plane: ControlPlane) -> None:
    assert control_plane.process is not None and control_plane.process.stderr is not None
    control_plane.process.stderr.close()
    for _ in range(3):
        assert control_plane.millrace("reload").returncode == 0
    control_plane.process.send_signal(signal.SIGHUP)
    assert control_plane.millrace("status").returncode == 0


SERVICE = 54321  # nobody's number on a machine


@pytest.fixture
def shared() -> Iterator[ControlPlane]:
    """Not started; with directories as the unit has them, where the unit's user can reach them."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        for directory, owner in (("run", 0), ("state", SERVICE)):
            (home / directory).mkdir()
            (home / directory).chmod(0o770)
            os.chown(home / directory, owner, SERVICE)
        host = Namespace(f"mr-{os.getpid()}-shared", "host", home)
        host.create()
        started = ControlPlane(host, home)
        try:
            yield started
        finally:
            if started.process is not None and started.process.poll() is None:
                started.stop()
            host.delete()


def test_service_goes_on_with_what_a_run_by_root_has_left(shared: ControlPlane) -> None:
    before = os.umask(0o077)
    try:
        shared.start()
    finally:
        os.umask(before)
    drained = ("drain", "http-4", "10.0.1.11")
    assert shared.millrace(*drained).returncode == 0
    ids = [path.stat().st_gid for path in (shared.home / "run").iterdir()]
    assert ids and set(ids) == {SERVICE}
    assert shared.stop() == 0
    shared.config.chmod(0o644)
    shared.user = SERVICE
    shared.start()
    status = json.loads(shared.millrace("status", "--json").stdout)
    assert status["generation"] > 1 and not [a for a in status["alarms"] if "cannot" in a], status
    assert '"draining"' in shared.millrace("targets", "--json").stdout, "the store is the same"
    assert shared.millrace("undrain", *drained[1:]).returncode == 0, "and can be written"


def test_engine_that_may_not_be_looked_at_is_not_called_stopped(shared: ControlPlane) -> None:
    (shared.home / "run" / "stats").touch(mode=0o600)
    shared.user = SERVICE
    shared.start(is_whole=False)
    for command in ("status", "counters", "flows"):
        done = shared.millrace(command)
        said = done.stdout + done.stderr
        assert done.returncode == 1, command
        assert "run/stats: Permission denied" in said and "NOT RUNNING" not in said, said
    assert "ALARM" in shared.millrace("status").stdout
    (shared.home / "run" / "stats").unlink()
    wait_until(lambda: "NOT RUNNING" in shared.millrace("status").stdout, "it sees", timeout_s=10)


def test_reload_says_what_came_of_the_file(control_plane: ControlPlane) -> None:
    control_plane.config.write_text(WRONG)
    refused = control_plane.millrace("reload")
    assert refused.returncode == 1 and "nam0" in refused.stderr
    assert f"{control_plane.config}:1:" in refused.stderr
    status = json.loads(control_plane.millrace("status", "--json").stdout)
    assert "nam0" in status["config"]["error"] and status["generation"] == 1
    control_plane.config.write_text(DEMO.read_text())
    assert "generation 2" in control_plane.millrace("reload").stdout


def test_fault_87_second_control_plane_is_refused_by_name(control_plane: ControlPlane) -> None:
    """With the same runtime directory, or only the same state."""
    assert control_plane.process is not None
    for words in (control_plane.words(), control_plane.words(runtime_dir="other")):
        second = run(words, check=False)
        assert second.returncode == 1
        assert f"process {control_plane.process.pid}" in second.stderr, second.stderr
    assert control_plane.millrace("status").returncode == 0


def test_fault_36_control_plane_goes_on_with_a_config_segment_that_was_cut(
    control_plane: ControlPlane,
) -> None:
    segment = control_plane.home / "run" / "config"
    size = segment.stat().st_size
    for left in (0, 5000):
        os.truncate(segment, left)
        assert control_plane.millrace("reload").returncode == 0
        wait_until(lambda: segment.stat().st_size == size, "it is made again", timeout_s=10)
        shown = ("explain", "192.0.2.100:4000", "203.0.113.10:80", "TCP")
        assert control_plane.millrace(*shown).returncode == 0


def test_out_of_descriptors_who_asks_is_answered_and_the_log_says_it_once(
    control_plane: ControlPlane,
) -> None:
    assert control_plane.process is not None
    pid = control_plane.process.pid
    own = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    limit = max(own) + 3
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    with ExitStack() as silent:
        for _ in range(30):
            client = silent.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(control_plane.socket))
        assert control_plane.millrace("status").returncode == 0, "within its patience"
        assert 0 < control_plane.read_log().count("Too many open files") < 5
        time.sleep(2)
        assert control_plane.millrace("status").returncode == 0
        assert "Too many open files" not in control_plane.read_log()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


def test_named_pipe_in_the_place_of_the_config_file_holds_up_nothing(
    control_plane: ControlPlane,
) -> None:
    control_plane.config.unlink()
    os.mkfifo(control_plane.config)
    refused = control_plane.millrace("reload")
    assert refused.returncode == 1 and "it is a named pipe, no file" in refused.stderr
    assert control_plane.millrace("status").returncode == 0


NO_ROOM: list[list[str | Path]] = [
    [program_path("millrace"), "--help"],
    [program_path("millrace"), "validate", DEMO],
    [program_path("millrace-controlplane"), "--help"],
    [program_path("millrace-dataplane"), "--help"],
    [program_path("millrace-xdp"), "--version"],
    [build_directory() / "bench" / "pktgen" / "millrace-pktgen", "--help"],
    [REPOSITORY / "deploy" / "host-setup", "--help"],
    [REPOSITORY / "deploy" / "host-check", "--help"],
    [REPOSITORY / "deploy" / "host-check", "--engine", "xdp"],
    [REPOSITORY / "deploy" / "install-packages", "--list"],
]


@pytest.mark.parametrize("words", NO_ROOM, ids=str)
def test_fault_87_output_that_finds_no_room_is_a_failure(words: list[str | Path]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode not in (0, 141)
    assert "write" in done.stderr, done.stderr


@pytest.mark.parametrize("command", ["status", "flows", "counters", "listeners", "reload"])
def test_fault_87_answer_that_finds_no_room_is_a_failure(
    control_plane: ControlPlane, command: str
) -> None:
    cli = program_path("millrace")
    words: list[str | Path] = [cli, "--socket", control_plane.socket, command, "--json"]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "cannot write to standard output: No space left on device" in done.stderr
