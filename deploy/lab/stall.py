# SPDX-License-Identifier: Apache-2.0
"""Stops one thread of a program, and that one alone: SIGSTOP would stop them all."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.process import LabError

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207  # linux/ptrace.h
WALL = 0x40000000  # __WALL

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


@contextmanager
def thread_stopped(pid: int, word: str) -> Iterator[None]:
    """The first thread with `word` in its name does nothing while the block runs.

    Only the thread that entered the block may leave it.
    """
    thread = _find_thread(pid, word)
    _ptrace(PTRACE_SEIZE, thread)
    try:
        _ptrace(PTRACE_INTERRUPT, thread)
        os.waitpid(thread, WALL)  # until it stands
        yield
    finally:
        _ptrace(PTRACE_DETACH, thread)


def _find_thread(pid: int, word: str) -> int:
    names = {}
    for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name)):
        names[int(task.name)] = (task / "comm").read_text().strip()
    for thread, name in names.items():
        if word in name:
            return thread
    raise LabError(f"process {pid} has no thread {word}: {sorted(names.values())}")


def _ptrace(request: int, thread: int) -> None:
    if _libc.ptrace(request, thread, None, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {request}: {os.strerror(number)}")
