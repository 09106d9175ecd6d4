#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Health endpoints that each do one thing in an odd way, as servers and scripts in the field do.

  odd_endpoints.py COMPLAINTS

Each listens on its own port (PORTS), IPv4 and IPv6. An endpoint that could not say all it had to,
or whose client ended with a reset, writes a line to the file COMPLAINTS, as it would to its log.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

VIRTUAL_HOST = "www.example.org:8080"
PAUSE_S = 0.02  # between the parts of what is said in parts
_OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


def hear(client: socket.socket) -> bytes:
    heard = b""
    while b"\r\n\r\n" not in heard:
        part = client.recv(4096)
        if not part:
            break
        heard += part
    return heard


def say(client: socket.socket, *parts: bytes) -> None:
    for number, part in enumerate(parts):
        if number:
            time.sleep(PAUSE_S)
        client.sendall(part)


def answers(*parts: bytes) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        hear(client)
        say(client, *parts)

    return answer


def answers_unasked(client: socket.socket) -> None:
    say(client, b"HTTP/1.1 200 OK\n\nPercona XtraDB Cluster Node is synced.\n")


def answers_and_stays(client: socket.socket) -> None:
    hear(client)
    say(client, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    while client.recv(4096):
        pass


def greets(client: socket.socket) -> None:
    time.sleep(PAUSE_S)
    say(client, b"220 mail.example.org ready\r\n")
    while client.recv(4096):
        pass
    say(client, b"421 mail.example.org ", b"closing\r\n")


def serves_by_name(client: socket.socket) -> None:
    asked = f"\r\nHost: {VIRTUAL_HOST}\r\n".encode() in hear(client)
    say(client, _OK + b"\r\n" if asked else b"HTTP/1.1 421 Misdirected Request\r\n\r\n")


ENDPOINTS: dict[str, Callable[[socket.socket], None]] = {
    "hints": answers(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", _OK + b"\r\nok"),
    "continue": answers(b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + b"\r\nok"),
    "lf": answers(b"HTTP/1.0 200 OK\nServer: script\n\nok\n"),
    "echo": answers(b"HTTP/1.1 206 OK\r\n\n", b"Content-Type: text/plain\r\n\n", b"\r\n\nup\r\n\n"),
    "parts": answers(b"HTTP/1.1 ", b"200 OK\r\nServ", b"er: a\r\n\r", b"\n", b"<p>", b"up"),
    "large": answers(_OK + b"\r\n" + b"x" * 700_000),
    "unasked": answers_unasked,
    "stays": answers_and_stays,
    "greets": greets,
    "name": serves_by_name,
    "missing": answers(b"HTTP/1.1 404 Not Found\r\n\r\n", b"x" * 65_536),
    "bare": answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "ssh": answers(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "tls": answers(b"\x15\x03\x01\x00\x02\x02\x0a"),
}
PORTS = {name: 9001 + number for number, name in enumerate(ENDPOINTS)}


def serve(name: str, complaints: Path) -> None:
    server = socket.create_server(("", PORTS[name]), family=socket.AF_INET6, dualstack_ipv6=True)
    server.listen(256)

    def talk(client: socket.socket) -> None:
        client.settimeout(60)
        try:
            ENDPOINTS[name](client)
            client.shutdown(socket.SHUT_WR)
            while name != "unasked" and client.recv(4096):
                pass
        except OSError as error:
            with complaints.open("a") as log:
                log.write(f"{name}: {error}\n")
        finally:
            client.close()

    while True:
        client, _ = server.accept()
        threading.Thread(target=talk, args=(client,), daemon=True).start()


if __name__ == "__main__":
    for endpoint in ENDPOINTS:
        threading.Thread(target=serve, args=(endpoint, Path(sys.argv[1]))).start()
