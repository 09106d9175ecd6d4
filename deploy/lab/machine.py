# SPDX-License-Identifier: Apache-2.0
"""What the lab borrows from the machine, and how it gives it back.

Each run has a directory /run/millrace-lab/ID that says who owns the run and what was borrowed. The
owner removes everything; if the owner was killed, the next run does (reap_dead_runs).
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.namespace import Namespace
from lab.process import LabError, run

RUNS = Path("/run/millrace-lab")
LOCK = RUNS / "lock"
# There while the hugetlbfs mount is the runs' own, which the last of them takes away.
MOUNTED = RUNS / "mounted"
HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")
HUGEPAGE_MOUNT = Path("/dev/hugepages")
# Folders that DPDK and libxdp make and leave; the last run removes them when they are empty.
LIBRARY_FOLDERS = (Path("/run/dpdk/rte"), Path("/run/dpdk"), Path("/run/xdp"))


def kernel_has(*modules: str) -> bool:
    """Whether this machine's kernel has all of them, as modules or built in; they are loaded."""
    return run(["/usr/sbin/modprobe", "--quiet", "--all", *modules], check=False).returncode == 0


@contextmanager
def _locked() -> Iterator[None]:
    """One run at a time counts hugepages and reaps. The last run removes the lock with RUNS, so a
    lock that was waited for may be gone by the time it is got: then try again."""
    while True:
        RUNS.mkdir(mode=0o755, exist_ok=True)
        try:
            with LOCK.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if LOCK.exists() and LOCK.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                    yield
                    return
        except FileNotFoundError:
            continue


def _process_start(pid: int) -> int | None:
    """Start time in clock ticks, or None when it is gone: tells a reused pid apart."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])


class RunDirectory:
    """Directory, name prefix and borrowed resources of one run of the lab."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.path = RUNS / run_id
        self.flow_dir = HUGEPAGE_MOUNT / f"millrace-lab-{run_id}"
        # `ip netns exec` mounts a new /sys for each command: what the XDP engine pins has to be
        # somewhere else to outlive it.
        self.bpf_mount = self.path / "bpf"

    @classmethod
    def claim(cls) -> RunDirectory:
        """Makes a new run that this process owns."""
        with _locked():
            directory = cls(secrets.token_hex(3))
            directory.path.mkdir(mode=0o755)
            owner = os.getpid()
            directory._write({"pid": owner, "start": _process_start(owner), "hugepages": 0})
        return directory

    def namespace_name(self, role: str) -> str:
        return f"mr{self.id}-{role}"

    def owner_is_alive(self) -> bool:
        state = self._read()
        return state.get("pid", 0) != 0 and _process_start(state["pid"]) == state["start"]

    def reserve_hugepages(self, count: int) -> None:
        """Adds `count` hugepages of 2 MiB to the machine's, and mounts hugetlbfs if nobody did.

        What other runs have added and do not use yet is free, too, but theirs.
        """
        with _locked():
            if not _is_mounted(HUGEPAGE_MOUNT):
                HUGEPAGE_MOUNT.mkdir(exist_ok=True)
                run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", HUGEPAGE_MOUNT])
                MOUNTED.touch()
            others = sum(int(one._read().get("hugepages", 0)) for one in _runs())
            before = int(HUGEPAGES.read_text())
            HUGEPAGES.write_text(str(before + count))
            added = int(HUGEPAGES.read_text()) - before
            self._write({**self._read(), "hugepages": added})
            free = _hugepages_free()
        if added < count and free - others < count:
            raise LabError(
                f"needs {count} free hugepages of 2 MiB, the kernel could give {free}: free memory,"
                " or reserve them at boot (hugepages=N on the kernel command line)"
            )

    def mount_bpf(self) -> None:
        self.bpf_mount.mkdir()
        run(["mount", "-t", "bpf", "none", self.bpf_mount])

    def remove(self) -> None:
        """Gives everything back: by the owner at its end, or by reap_dead_runs for the dead."""
        for name in _namespaces(f"mr{self.id}-"):
            Namespace(name, name, self.path).delete()
        shutil.rmtree(self.flow_dir, ignore_errors=True)
        if _is_mounted(self.bpf_mount):
            run(["umount", "--lazy", self.bpf_mount], check=False)
        with _locked():
            state = self._read()
            borrowed = int(state.get("hugepages", 0))
            if borrowed:
                now = int(HUGEPAGES.read_text())
                HUGEPAGES.write_text(str(max(0, now - borrowed)))
            shutil.rmtree(self.path, ignore_errors=True)
            if not _runs():
                if MOUNTED.exists():
                    run(["umount", HUGEPAGE_MOUNT], check=False)
                for folder in LIBRARY_FOLDERS:
                    with suppress(OSError):
                        folder.rmdir()
                shutil.rmtree(RUNS, ignore_errors=True)

    def _read(self) -> dict[str, int]:
        try:
            state: dict[str, int] = json.loads((self.path / "owner.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return state

    def _write(self, state: dict[str, int | None]) -> None:
        with tempfile.NamedTemporaryFile("w", dir=self.path, delete=False) as file:
            json.dump(state, file)
        os.replace(file.name, self.path / "owner.json")


def _runs() -> list[RunDirectory]:
    """Those that are there, the dead too."""
    return [RunDirectory(entry.name) for entry in RUNS.iterdir() if entry.is_dir()]


def reap_dead_runs() -> list[str]:
    """Removes what runs left behind whose owner is gone; returns their ids."""
    if not RUNS.exists():
        return []
    with _locked():
        dead = [directory for directory in _runs() if not directory.owner_is_alive()]
    for directory in dead:
        directory.remove()
    return [directory.id for directory in dead]


def _namespaces(prefix: str) -> list[str]:
    names = [line.split()[0] for line in run(["ip", "netns", "list"]).stdout.splitlines() if line]
    return [name for name in names if name.startswith(prefix)]


def _is_mounted(path: Path) -> bool:
    return any(
        line.split()[1] == str(path) for line in Path("/proc/mounts").read_text().splitlines()
    )


def _hugepages_free() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("HugePages_Free:"):
            return int(line.split()[1])
    return 0
