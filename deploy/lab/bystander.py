#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A host that is no client: it asks the targets' service ports themselves, by the node as a router,
as monitoring does; and it is asked by targets from their service ports, as an upstream is.

  bystander.py ask HTTP_PORT DNS_PORT OWN_V4 OWN_V6 NAME=ADDRESS...
  bystander.py relay OWN_PORT NAME OWN=UPSTREAM...

`ask` asks one target after the other over TCP and UDP, and answers what comes to ECHO_PORT with the
address and port that it came from. `relay` is for a target: it asks the upstream from OWN_PORT, as
NTP and DNS relays do, and looks at who the upstream says that it was. Both print a line of JSON for
each question: when it began (CLOCK_MONOTONIC), what it was, and what came of it.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from contextlib import suppress

ECHO_PORT = 5399
INTERVAL_S = 0.25
TIMEOUT_S = 3.0
# Over UDP, as resolvers ask and as TCP does by itself: a full queue on the way may lose a packet.
TRIES = 3
ETH_P_ALL = 3
VIP_NETS = (socket.inet_aton("203.0.113.0")[:3], bytes.fromhex("20010db80113"))
# TXT whoami.lab
QUESTION = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x06whoami\x03lab\0\0\x10\0\x01"
ANSWERED = "answered"


def told(since: float, what: str, result: str) -> None:
    print(json.dumps({"since": since, "what": what, "result": result}), flush=True)


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def asked_http(address: str, port: int) -> bytes:
    with socket.create_connection((address, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(4096)


def asked_over_udp(asking: socket.socket, question: bytes) -> bytes:
    """The answer to one of several tries. TimeoutError when none came."""
    asking.settimeout(TIMEOUT_S / TRIES)
    for _ in range(TRIES - 1):
        asking.send(question)
        with suppress(TimeoutError):
            return asking.recv(4096)
    asking.send(question)
    return asking.recv(4096)


def asked_dns(address: str, port: int) -> bytes:
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as asking:
        asking.connect((address, port))
        return asked_over_udp(asking, QUESTION)


def result_of(ask: object, address: str, port: int) -> str:
    try:
        return ANSWERED if ask(address, port) else "closed"  # type: ignore[operator]
    except TimeoutError:
        return "silent"
    except OSError as error:
        return str(error)


def is_from_a_vip(frame: bytes, own: tuple[bytes, bytes]) -> bool:
    """TCP or UDP: of a VIP's neighbour discovery there is plenty."""
    if frame[12:14] == b"\x08\x00":
        is_l4, source, destination = frame[23] in (6, 17), frame[26:29], frame[30:34]
    elif frame[12:14] == b"\x86\xdd":
        is_l4, source, destination = frame[20] in (6, 17), frame[22:28], frame[38:54]
    else:
        return False
    return is_l4 and source in VIP_NETS and destination in own


def watch(own: tuple[bytes, bytes]) -> None:
    """Nobody asked a VIP here: whatever comes from one is a packet that was taken for a flow's."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    while True:
        frame, address = wire.recvfrom(2048)
        if address[2] != 4 and is_from_a_vip(frame, own):  # PACKET_OUTGOING
            told(time.monotonic(), "nothing of a VIP", f"a packet from one: {frame.hex()}")


def echo() -> None:
    upstream = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    upstream.bind(("::", ECHO_PORT))
    while True:
        _, asker = upstream.recvfrom(2048)
        seen = f"{asker[0].removeprefix('::ffff:')} {asker[1]}"
        upstream.sendto(seen.encode(), asker)


def ask(http_port: int, dns_port: int, own_v4: str, own_v6: str, targets: list[str]) -> None:
    own = (socket.inet_aton(own_v4), socket.inet_pton(socket.AF_INET6, own_v6))
    for job in (echo, lambda: watch(own)):
        threading.Thread(target=job, daemon=True).start()
    while True:
        for target in targets:
            name, _, address = target.partition("=")
            for kind, how, port in (("http", asked_http, http_port), ("dns", asked_dns, dns_port)):
                since = time.monotonic()
                result = result_of(how, address, port)
                told(since, f"{kind} {name} {address}", result)
                time.sleep(INTERVAL_S)


def drain(asking: socket.socket) -> None:
    """Of what came late, so that it is not taken for the next answer."""
    asking.setblocking(False)
    with suppress(OSError):
        while True:
            asking.recv(4096)


def relayed(asking: socket.socket, expected: str) -> str:
    drain(asking)
    try:
        seen = asked_over_udp(asking, b"who am I?").decode()
    except TimeoutError:
        return "silent"
    except OSError as error:
        return str(error)
    return ANSWERED if seen == expected else f"the upstream saw {seen}, not {expected}"


def relay(port: int, name: str, ways: list[str]) -> None:
    sockets = []
    for way in ways:
        own, _, upstream = way.partition("=")
        asking = socket.socket(family_of(own), socket.SOCK_DGRAM)
        # The server has the port, too; what comes from the upstream is for the connected one.
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        asking.bind((own, port))
        asking.connect((upstream, ECHO_PORT))
        sockets.append((asking, own))
    while True:
        for asking, own in sockets:
            since = time.monotonic()
            told(since, f"relay {name} {own}", relayed(asking, f"{own} {port}"))
            time.sleep(INTERVAL_S)


def main() -> int:
    role, *words = sys.argv[1:]
    if role == "ask":
        ask(int(words[0]), int(words[1]), words[2], words[3], words[4:])
    else:
        relay(int(words[0]), words[1], words[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
