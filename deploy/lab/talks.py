# SPDX-License-Identifier: Apache-2.0
"""Targets that speak by themselves (talker.py), and the clients that listen to them."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.namespace import Namespace
from lab.process import Service
from lab.talker import TALK_PORT
from lab.target import Target
from lab.traffic import family_of

CONNECT_TIMEOUT_S = 5.0
POLL_S = 0.05


@contextmanager
def talking(targets: Sequence[Target]) -> Iterator[None]:
    """A talker on each target for as long as the `with` block."""
    program = Path(__file__).with_name("talker.py")
    services: list[Service] = []
    try:
        for target in targets:
            service = target.namespace.service("talker", [sys.executable, program, target.name])
            service.start()
            services.append(service)
        for target, service in zip(targets, services, strict=True):
            service.wait_ready(partial(_listens, target.namespace))
        yield
    finally:
        for service in services:
            service.stop()


def _listens(host: Namespace) -> bool:
    words = ["ss", "--no-header", "--listening", "--numeric", "--tcp", f"sport = {TALK_PORT}"]
    return bool(host.run(words).stdout.strip())


@dataclass
class Talk:
    """A connection by which a client only listens. `problem` says how it broke."""

    client: str
    socket: socket.socket
    target: str = ""
    lines: int = 0
    problem: str = ""
    rest: bytes = b""

    def take(self) -> None:
        """Reads what is there; every line must be the next of the same target."""
        try:
            said = self.socket.recv(65536)
        except OSError as error:
            self.problem = f"after {self.lines} lines: {error}"
            return
        if not said:
            self.problem = f"after {self.lines} lines: closed"
        *lines, self.rest = (self.rest + said).split(b"\n")
        for line in lines:
            name, number = line.decode().split()
            self.target = self.target or name
            if (name, int(number)) != (self.target, self.lines):
                self.problem = f"'{name} {number}' in place of '{self.target} {self.lines}'"
            self.lines += 1


def open_talks(client: Namespace, address: str, count: int) -> list[Talk]:
    """Connections of that client to the VIP; each has heard its first line."""
    talks = []
    for _ in range(count):
        connection = client.socket(family_of(address), socket.SOCK_STREAM)
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect((address, TALK_PORT))
        talks.append(Talk(client.role, connection))
        talks[-1].take()
    return talks


def listen(talks: Sequence[Talk], *, lines: int, timeout_s: float) -> None:
    """Until each has broken or heard that many lines more, or the time is over."""
    goal = {talk.socket.fileno(): (talk, talk.lines + lines) for talk in talks}
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        waiting = [f for f, (talk, end) in goal.items() if not talk.problem and talk.lines < end]
        if not waiting:
            return
        for ready in select.select(waiting, [], [], POLL_S)[0]:
            goal[ready][0].take()
