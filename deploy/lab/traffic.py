# SPDX-License-Identifier: Apache-2.0
"""What clients do: single requests with curl and dig, and streams that notice every loss.

The streams run in a thread of the caller's process on sockets of the client's namespace. They go on
until stop(), and then say what was sent, what came back, from whom, and the longest silence.

What asks several times asks all endpoints that lead to the same targets by turns (endpoints.py).
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Self

from lab.namespace import Namespace
from lab.process import PATIENCE
from lab.target import DNS_BYTES_MAX, LARGE, WHOAMI

ANSWER = re.compile(r"target=(\S+) client=(\S+) port=(\d+)")
CURLED = re.compile(ANSWER.pattern + r"\nasked=http://\[?([^]/]+)\]?:(\d+)/")
CURL_TIMEOUT_S = 5
HTTP_TIMEOUT_S = 10 * PATIENCE  # of one request beside a hundred others
TCP_REPAIR = 19  # linux/tcp.h
SETTLE_S = 1.0  # how long a stream waits for the last answers


@dataclass(frozen=True)
class HttpAnswer:
    """What a target said: its name, and the client address and port that it saw."""

    target: str
    client: str
    port: int
    vip: str = ""  # that was asked, and its port
    vip_port: int = 0


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def by_turns(
    client: Namespace, protocol: str, address: str, port: int, count: int
) -> list[tuple[str, int]]:
    """`count` times that endpoint or one that leads where it leads."""
    all_of_them = client.siblings(protocol, address, port)
    return [all_of_them[index % len(all_of_them)] for index in range(count)]


def http_get(client: Namespace, address: str, count: int, port: int = 80) -> list[HttpAnswer]:
    """`count` HTTP requests by curl, each on a connection of its own, one after the other.

    Answers that did not come are missing from the list.
    """
    words = ["curl", "--silent", "--globoff", "--max-time", str(CURL_TIMEOUT_S)]
    words += ["--header", "Connection: close"]
    words += ["--write-out", r"asked=%{url_effective}\n"]
    for index, (vip, vip_port) in enumerate(by_turns(client, "TCP", address, port, count)):
        words.append(f"http://{bracketed(vip)}:{vip_port}/?{index}")
    said = client.run(words, check=False, timeout_s=60 + CURL_TIMEOUT_S * 4).stdout
    found = CURLED.finditer(said)
    return [HttpAnswer(m[1], m[2], int(m[3]), m[4], int(m[5])) for m in found]


def dns_query(
    client: Namespace, address: str, count: int, port: int = 53, *, protocol: str = "UDP"
) -> list[str]:
    """`count` DNS queries by dig, each from a port of its own: the targets that answered."""
    words = ["dig", "+short", "+tries=1", "+time=2", *(["+tcp"] if protocol == "TCP" else [])]
    for vip, vip_port in by_turns(client, protocol, address, port, count):
        words += [f"@{vip}", "-p", str(vip_port), "TXT", WHOAMI, "+short"]
    said = client.run(words, check=False, timeout_s=60 + 2 * count).stdout
    return re.findall(r'"(\S+)"', said)


def download(client: Namespace, address: str, *, timeout_s: int = 30) -> int:
    """An HTTP GET of a target's file (lab.target.BLOB_BYTES): the bytes that arrived in time."""
    words = ["curl", "--silent", "--globoff", "--max-time", str(timeout_s), "--output", "/dev/null"]
    words += ["--write-out", "%{size_download}", f"http://{bracketed(address)}/blob"]
    return int(client.run(words, check=False, timeout_s=timeout_s + 30).stdout)


def upload(client: Namespace, address: str, count_bytes: int, *, port: int = 80) -> HttpAnswer:
    """An HTTP POST of that size; the answer to a request behind it on the same connection, which
    comes only when the target has read all of it. OSError when the connection stands still.
    """
    with TcpConnection(client, address, port=port) as connection:
        connection.post(b"x" * count_bytes)
        return connection.ask()


def mtu_towards(client: Namespace, address: str) -> int | None:
    """What the client's kernel has learned of the path; None: nothing beyond its own link's."""
    found = re.search(r" mtu (\d+)", client.ip("route", "get", address))
    return int(found[1]) if found else None


class LargeQuery:
    """DNS queries that fill a packet of a size exactly, and must not be fragmented: like QUIC."""

    _DO = 2  # IP_PMTUDISC_DO, IPV6_PMTUDISC_DO

    def __init__(self, client: Namespace, address: str) -> None:
        self._is_v6 = ":" in address
        self._socket = client.socket(family_of(address), socket.SOCK_DGRAM)
        level, discover = (socket.IPPROTO_IPV6, 23) if self._is_v6 else (socket.IPPROTO_IP, 10)
        self._socket.setsockopt(level, discover, self._DO)
        self._socket.settimeout(2)
        self._socket.connect((address, 53))

    def ask(self, ip_bytes: int) -> str:
        """The target that answered. TimeoutError: nobody did; EMSGSIZE: known to be too large."""
        name = b"".join(bytes([len(part)]) + part.encode() for part in WHOAMI.split("."))
        query = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 1) + name + b"\0"
        query += struct.pack("!HH", 16, 1)
        headers = (40 if self._is_v6 else 20) + 8
        padding = bytes(ip_bytes - headers - len(query) - 15)
        option = struct.pack("!HH", 12, len(padding)) + padding  # RFC 7830
        query += struct.pack("!BHHIH", 0, 41, 1232, 0, len(option)) + option
        self._socket.send(query)
        said = self._socket.recv(2048)
        return said[said.index(b"\xc0\x0c") + 13 :][:2].decode()

    def close(self) -> None:
        self._socket.close()


class LargeExchange:
    """DNS over UDP from one port, in packets that IP may fragment, as most applications send."""

    def __init__(self, client: Namespace, address: str, *, timeout_s: float = 2.0) -> None:
        self._socket = client.socket(family_of(address), socket.SOCK_DGRAM)
        self._socket.settimeout(timeout_s)
        self._socket.connect((address, 53))
        self._number = 0

    def ask(self, query_bytes: int = 100, *, name: str = LARGE, tries: int = 5) -> tuple[str, int]:
        """The target that answered, and the bytes of its answer. A query that was lost, or of which
        the sender had to learn that its packets were too large, is sent again."""
        for _ in range(tries):
            try:
                return self._ask_once(query_bytes, name)
            except OSError as error:
                if not isinstance(error, TimeoutError) and error.errno != errno.EMSGSIZE:
                    raise
        raise TimeoutError(f"no answer to {query_bytes} bytes")

    def _ask_once(self, query_bytes: int, name: str) -> tuple[str, int]:
        self._number += 1
        self._socket.send(self._query(query_bytes, name))
        said = self._socket.recv(65536)
        while said[:2] != struct.pack("!H", self._number):
            said = self._socket.recv(65536)
        assert not said[2] & 2, "truncated"
        return said[said.index(b"\xc0\x0c") + 13 :][:2].decode(), len(said)

    def _query(self, query_bytes: int, name: str) -> bytes:
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
        query = struct.pack("!HHHHHH", self._number, 0x0100, 1, 0, 0, 1) + labels + b"\0"
        query += struct.pack("!HH", 16, 1)
        padding = bytes(query_bytes - len(query) - 15)
        option = struct.pack("!HH", 12, len(padding)) + padding  # RFC 7830
        return query + struct.pack("!BHHIH", 0, 41, DNS_BYTES_MAX, 0, len(option)) + option

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def ping(client: Namespace, address: str, count: int = 3, *, data_bytes: int = 56) -> int:
    """Echo requests that were answered, of `count`; none of them is fragmented."""
    words = ["ping", "-n", "-M", "do", "-s", str(data_bytes)]
    words += ["-i", "0.05", "-W", "1", "-c", str(count), address]
    said = client.run(words, check=False, timeout_s=count + 10).stdout
    found = re.search(r"(\d+) received", said)
    return int(found[1]) if found else 0


def connect_many(
    client: Namespace, address: str, count: int, *, port: int = 80, parallel: int = 100
) -> list[HttpAnswer]:
    """`count` HTTP requests, up to `parallel` connections at the same time.

    Answers that did not come are missing from the list; why is printed.
    """

    failures: Counter[str] = Counter()

    async def one(gate: asyncio.Semaphore, endpoint: tuple[str, int]) -> HttpAnswer | None:
        async with gate:
            connection = client.tcp_socket(family_of(address))
            connection.setblocking(False)
            try:
                return await asyncio.wait_for(_ask_once(connection, *endpoint), HTTP_TIMEOUT_S)
            except (OSError, asyncio.TimeoutError) as error:
                failures[repr(error)] += 1
                return None
            finally:
                connection.close()

    async def all_of_them() -> list[HttpAnswer | None]:
        gate = asyncio.Semaphore(parallel)
        endpoints = by_turns(client, "TCP", address, port, count)
        return await asyncio.gather(*(one(gate, endpoint) for endpoint in endpoints))

    answers = [answer for answer in asyncio.run(all_of_them()) if answer is not None]
    if failures:
        print(f"{client.role} to {address} port {port}: {dict(failures)}")
    return answers


async def _ask_once(connection: socket.socket, address: str, port: int) -> HttpAnswer | None:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (address, port))
    await loop.sock_sendall(connection, _request(address, "close"))
    said = b""
    while block := await loop.sock_recv(connection, 4096):
        said += block
    answer = _parse(said)
    return replace(answer, vip=address, vip_port=port) if answer else None


def _request(address: str, connection: str) -> bytes:
    host = bracketed(address)
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n".encode()


def _parse(said: bytes) -> HttpAnswer | None:
    found = ANSWER.search(said.decode(errors="replace"))
    return HttpAnswer(found[1], found[2], int(found[3])) if found else None


class TcpConnection:
    """One established HTTP connection that is kept open: does it still work, and who answers?"""

    def __init__(
        self, client: Namespace, address: str, *, port: int = 80, timeout_s: float = 5.0
    ) -> None:
        self._address = address
        self._socket = client.tcp_socket(family_of(address))
        self._socket.settimeout(timeout_s)
        self._socket.connect((address, port))
        self.local_port: int = self._socket.getsockname()[1]

    def ask(self) -> HttpAnswer:
        """One request and its answer. OSError when the connection is broken or silent."""
        self._socket.sendall(_request(self._address, "keep-alive"))
        said = b""
        while (answer := _parse(said)) is None or not said.endswith(b"\n"):
            block = self._socket.recv(4096)
            if not block:
                raise ConnectionResetError("closed by the other side")
            said += block
        return answer

    def post(self, body: bytes) -> None:
        """Sends a request with a body and takes its answer, which may come before that is read."""
        head = _request(self._address, "keep-alive").replace(b"GET", b"POST")
        self._socket.sendall(head[:-2] + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        said = b""
        while _parse(said) is None:
            said += self._socket.recv(4096)

    def close(self) -> None:
        self._socket.close()

    def vanish(self) -> None:
        """Ends like a client that lost its power: nobody is told, and the port is free again."""
        self._socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class StreamReport:
    """What a stream saw. `longest_gap_s` is the longest time between two answers."""

    sent: int = 0
    answered: int = 0
    errors: list[str] = field(default_factory=list)
    targets: Counter[str] = field(default_factory=Counter)
    longest_gap_s: float = 0.0
    moved: int = 0  # connections whose answers came from more than one target

    @property
    def lost(self) -> int:
        return self.sent - self.answered


class _Stream:
    """A thread that repeats `_step` until stop(); `_finish` waits for what is still under way."""

    def __init__(self) -> None:
        self.report = StreamReport()
        self._stopping = threading.Event()
        self._last_answer = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> StreamReport:
        """Ends the stream; may be called again."""
        self._stopping.set()
        self._thread.join()
        return self.report

    def _run(self) -> None:
        self._last_answer = time.monotonic()
        try:
            while not self._stopping.is_set():
                self._step()
            self._finish()
        except OSError as error:
            self.report.errors.append(str(error))

    def _step(self) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        pass

    def _answered(self, target: str) -> None:
        now = time.monotonic()
        self.report.answered += 1
        self.report.targets[target] += 1
        self.report.longest_gap_s = max(self.report.longest_gap_s, now - self._last_answer)
        self._last_answer = now


class UdpStream(_Stream):
    """DNS queries at a steady rate from one socket, each with its number: one flow, every packet of
    which is accounted for."""

    def __init__(
        self, client: Namespace, address: str, *, per_second: int = 500, port: int = 53
    ) -> None:
        super().__init__()
        self._socket = client.socket(family_of(address), socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.connect((address, port))
        self._interval_s = 1 / per_second
        self._next = time.monotonic()
        self._open: set[int] = set()
        name = b"".join(bytes([len(part)]) + part.encode() for part in WHOAMI.split("."))
        self._question = name + b"\0" + struct.pack("!HH", 16, 1)

    def _step(self) -> None:
        number = self.report.sent & 0xFFFF
        header = struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0)
        try:
            self._socket.send(header + self._question)
        except ConnectionRefusedError:
            self.report.errors.append("port unreachable")
        self.report.sent += 1
        self._open.add(number)
        self._next = max(self._next + self._interval_s, time.monotonic() - 0.1)
        self._receive_until(self._next)

    def _finish(self) -> None:
        deadline = time.monotonic() + SETTLE_S
        while self._open and time.monotonic() < deadline:
            self._receive_until(min(deadline, time.monotonic() + 0.05))
        self._socket.close()

    def _receive_until(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                said = self._socket.recv(2048)
            except TimeoutError:
                return
            except ConnectionRefusedError:
                self.report.errors.append("port unreachable")
                continue
            number = struct.unpack("!H", said[:2])[0]
            if number in self._open:
                self._open.discard(number)
                self._answered(said.rpartition(b"\0")[2][2:].decode(errors="replace"))


class TcpStreams(_Stream):
    """Kept-alive HTTP connections, asked in turn: none may break, all stay with their target."""

    def __init__(
        self,
        client: Namespace,
        address: str,
        *,
        connections: int = 20,
        port: int = 80,
        turn_s: float = 0.02,
    ) -> None:
        super().__init__()
        self._turn_s = turn_s
        self._connections = [
            TcpConnection(client, vip, port=vip_port, timeout_s=20 * PATIENCE)
            for vip, vip_port in by_turns(client, "TCP", address, port, connections)
        ]
        self._target_of: dict[int, str] = {}

    def _step(self) -> None:
        for connection in self._connections:
            self.report.sent += 1
            answer = connection.ask()
            first = self._target_of.setdefault(connection.local_port, answer.target)
            self.report.moved += first != answer.target
            self._answered(answer.target)
        self._stopping.wait(self._turn_s)

    def _finish(self) -> None:
        for connection in self._connections:
            connection.close()

    @property
    def targets(self) -> Counter[str]:
        """Connections by target, as first answered."""
        return Counter(self._target_of.values())
