# SPDX-License-Identifier: Apache-2.0
"""A host of the lab: one network namespace with its interfaces, commands, services and sockets."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.process import COMMAND_TIMEOUT_S, LabError, Service, run

CLONE_NEWNET = 0x40000000
_SIOCETHTOOL = 0x8946
# ETHTOOL_STXCSUM, SSG, STSO, SGSO, SGRO.
_OFFLOADS = (0x17, 0x19, 0x1F, 0x24, 0x2C)
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
        self.ip("link", "set", "lo", "up")

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
        return run(["ip", "-netns", self.name, *words]).stdout

    def forget_neighbours(self, interface: str) -> None:
        """All link addresses that `interface` knows.

        Traffic asks for some anew meanwhile, and `ip` fails after ten rounds in which it found any.
        """
        done = self.run(["ip", "neighbour", "flush", "dev", interface], check=False)
        said = done.stdout + done.stderr
        if done.returncode != 0 and "Flush not complete" not in said:
            raise LabError(f"neighbours of {interface} are not forgotten: {said}")

    def batch(self, *commands: str) -> None:
        """Commands of `ip`, by one process: a lab has hundreds."""
        run(["ip", "-netns", self.name, "-batch", "-"], stdin="\n".join([*commands, ""]))

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
        family = "-6" if ":" in destination or any(":" in word for word in words) else "-4"
        self.ip(family, "route", "replace", destination, *words)

    def offloads_off(self, interface: str) -> None:
        """Makes the kernel fill in checksums and cut segments itself.

        A veth otherwise hands frames over with their checksums still to be filled in, which only
        another kernel can read.
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

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind)
