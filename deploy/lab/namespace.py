# SPDX-License-Identifier: Apache-2.0
"""A host of the lab: one network namespace with its interfaces, commands, services and sockets."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import itertools
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.process import COMMAND_TIMEOUT_S, LabError, Service, run

CLONE_NEWNET = 0x40000000
_SIOCETHTOOL, _SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8946, 0x8913, 0x8914, 1
# ETHTOOL_STXCSUM, SSG, STSO, SGSO, SGRO, SFLAGS (VLAN tags, both ways).
_OFFLOADS = (0x17, 0x19, 0x1F, 0x24, 0x2C, 0x26)
Siblings = Callable[[str, str, int], Sequence[tuple[str, int]]]

# Below those that the kernel chooses from by itself.
PORTS = range(12_000, 32_000)
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Namespace:
    """`name` is what `ip netns` shows; `role` is what people read ("client", "t1")."""

    def __init__(self, name: str, role: str, log_dir: Path) -> None:
        self.name = name
        self.role = role
        self._log_dir = log_dir
        self._batch: list[str] | None = None
        self._ports = itertools.cycle(PORTS)
        # Of a client: what else leads where an endpoint leads (lab/endpoints.py).
        self.siblings: Siblings = lambda protocol, address, port: [(address, port)]

    def create(self) -> None:
        run(["ip", "netns", "add", self.name])
        # Before any interface exists, so that all inherit it: addresses are usable at once (no
        # duplicate address detection) and nothing but what a test sends is on the wire.
        self.sysctls(
            {
                "net.ipv6.conf.all.accept_dad": "0",
                "net.ipv6.conf.default.accept_dad": "0",
                "net.ipv6.conf.default.dad_transmits": "0",
                "net.ipv6.conf.default.accept_ra": "0",
                "net.ipv6.conf.default.router_solicitations": "0",
                "net.ipv4.ping_group_range": "0 2147483647",
            }
        )
        self.interface_up("lo")

    def interface_up(self, name: str) -> None:
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            request = struct.pack("16sH22x", name.encode(), 0)
            flags = struct.unpack("16xH22x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[0]
            request = struct.pack("16sH22x", name.encode(), flags | _IFF_UP)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)

    def delete(self) -> None:
        """Ends whatever still runs in the namespace, then removes it. Never fails half-way."""
        for pid in run(["ip", "netns", "pids", self.name], check=False).stdout.split():
            try:
                os.kill(int(pid), 9)
            except ProcessLookupError:
                pass
        run(["ip", "netns", "delete", self.name], check=False)

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """The words that run `argv` in this namespace from anywhere: for people to copy, too."""
        return ["ip", "netns", "exec", self.name, *(str(word) for word in argv)]

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        check: bool = True,
        timeout_s: float = COMMAND_TIMEOUT_S,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return run(self.command(argv), check=check, timeout_s=timeout_s, stdin=stdin)

    def service(self, name: str, argv: Sequence[str | Path]) -> Service:
        """A program that will run here, not started yet; it logs to `ROLE-NAME.log`."""
        return Service(name, self.command(argv), self._log_dir / f"{self.role}-{name}.log")

    def ip(self, *words: str) -> str:
        """What it said; nothing while commands are gathered (batched())."""
        if self._batch is not None:
            self._batch.append(" ".join(words))
            return ""
        return run(["ip", "-netns", self.name, *words]).stdout

    @contextmanager
    def batched(self) -> Iterator[None]:
        """One process at the end runs what `ip` is asked for inside: a lab needs hundreds."""
        self._batch = []
        try:
            yield
            commands = self._batch
        finally:
            self._batch = None
        run(["ip", "-netns", self.name, "-batch", "-"], stdin="\n".join([*commands, ""]))

    def forget_neighbours(self, interface: str) -> None:
        """All link addresses that `interface` knows.

        Traffic asks for some anew meanwhile, and `ip` fails after ten rounds in which it found any.
        """
        done = self.run(["ip", "neighbour", "flush", "dev", interface], check=False)
        said = done.stdout + done.stderr
        if done.returncode != 0 and "Flush not complete" not in said:
            raise LabError(f"neighbours of {interface} are not forgotten: {said}")

    def sysctl(self, key: str, value: str) -> None:
        self.sysctls({key: value})

    def sysctls(self, values: Mapping[str, str]) -> None:
        """Without a process, as /proc/sys/net shows what belongs to the thread that opens it."""
        with self.entered():
            for key, value in values.items():
                Path("/proc/sys", *key.split(".")).write_text(value)

    def add_address(self, interface: str, address: str) -> None:
        """`address` with its prefix length."""
        words = ["address", "add", address, "dev", interface]
        self.ip(*words, *(["nodad"] if ":" in address else []))

    def add_route(self, destination: str, *words: str) -> None:
        self.ip("route", "replace", destination, *words)

    def offloads_off(self, interface: str) -> None:
        """Makes the kernel fill in checksums, cut segments and write VLAN tags itself.

        A veth otherwise hands frames over with these beside them, which only another kernel reads.
        """
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            for command in _OFFLOADS:
                value = array.array("I", [command, 0])
                request = struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])
                fcntl.ioctl(any_socket, _SIOCETHTOOL, request)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Moves the calling thread here: sockets made inside stay in this namespace for ever."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        here = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _setns(here)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(here)
            os.close(home)

    def tcp_socket(self, family: socket.AddressFamily) -> socket.socket:
        """On a port that none before had for a long time: two connections from one port to a VIP
        each may lead to one port of one target, which has one connection for both."""
        made = self.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try:
                made.bind(("", next(self._ports)))
                return made
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    made.close()
                    raise

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind)
