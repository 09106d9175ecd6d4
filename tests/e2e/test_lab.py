# SPDX-License-Identifier: Apache-2.0
"""The lab leaves nothing behind, however it ends."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from lab.machine import HUGEPAGES, RUNS, reap_dead_runs
from lab.process import run, wait_until

pytestmark = pytest.mark.alone  # or another lab would reap what is left
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROGRAM = """
import time
from lab import Lab
with Lab() as lab:
    print(lab.directory.id, flush=True)
    time.sleep(60)
"""


def processes_of(run_id: str) -> list[str]:
    return run(["pgrep", "--full", f"/run/millrace-lab/{run_id}/"], check=False).stdout.split()


def traces(run_id: str) -> list[str]:
    names = [line for line in run(["ip", "netns"]).stdout.splitlines() if f"mr{run_id}-" in line]
    folder = RUNS / run_id
    return [*names, *processes_of(run_id), *([str(folder)] if folder.exists() else [])]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_after(number: signal.Signals) -> None:
    alone, hugepages = not RUNS.exists(), int(HUGEPAGES.read_text())
    owner = subprocess.Popen(
        ["/usr/bin/python3", "-B", "-c", PROGRAM],
        env={"PYTHONPATH": str(DEPLOY), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Behind `nohup` or `&` the signal would be ignored from birth, and Python leaves it so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert owner.stdout is not None
    run_id = owner.stdout.readline().strip()
    assert len(traces(run_id)) > 6
    owner.send_signal(number)
    owner.wait(30)
    owner.stdout.close()
    if number == signal.SIGKILL:
        # Programs go with their lab; the namespaces are for the next run to remove.
        wait_until(lambda: not processes_of(run_id), "servers end", timeout_s=10)
        assert run_id in reap_dead_runs()
    assert traces(run_id) == []
    if alone and not RUNS.exists():  # another run beside this one borrows its own
        assert int(HUGEPAGES.read_text()) == hugepages
