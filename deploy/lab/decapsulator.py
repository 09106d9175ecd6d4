#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What targets of ipip and gue groups need: takes packets out of packets that came to this host.

  decapsulator.py [--gue-port N]

Does in user space what the devices `tunl0`, `sit0` and `in6` and `fou` do in kernels that have
them. Raw sockets receive packets of either family in IPv4 (RFC 2003, RFC 4213) and in IPv6 (RFC
2473), UDP sockets those of gue, of which the kernel has checked the outer checksum by then. What is
inside enters the kernel's stack by a TUN device, as if it had come by it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable

DEVICE = "decap0"
GUE_PORT = 6080
PACKET_BYTES_MAX = 65536
BUFFER_BYTES = 4 << 20  # for what comes while this program is not scheduled

_SO_RCVBUFFORCE = 33
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_IPV4, _IPV6 = 4, 41  # what an IP header calls a packet inside it


Sockets = dict[socket.socket, Callable[[bytes], bytes]]


def open_tun() -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    request = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(device, _TUNSETIFF, request)
    subprocess.run(["ip", "link", "set", DEVICE, "mtu", "65535", "up"], check=True)
    return device


def without_ipv4_header(packet: bytes) -> bytes:
    """Raw IPv4 sockets give the header too, raw IPv6 sockets do not."""
    return packet[(packet[0] & 15) * 4 :]


def as_it_is(packet: bytes) -> bytes:
    return packet


def open_sockets(gue_port: int) -> Sockets:
    gue4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gue6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    gue6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sockets: Sockets = {gue4: as_it_is, gue6: as_it_is}
    for inner in (_IPV4, _IPV6):
        in_v4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, inner)
        in_v6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, inner)
        sockets |= {in_v4: without_ipv4_header, in_v6: as_it_is}
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
        each.setblocking(False)
    gue4.bind(("0.0.0.0", gue_port))
    gue6.bind(("::", gue_port))
    return sockets


def pump(sockets: Sockets, device: int) -> None:
    while True:
        readable, _, _ = select.select(list(sockets), [], [])
        for each in readable:
            inner = sockets[each](each.recv(PACKET_BYTES_MAX))
            try:
                os.write(device, inner)
            except OSError as error:  # what is inside is no packet
                print(f"not taken: {inner[:20].hex()}: {error}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gue-port", type=int, default=GUE_PORT)
    options = parser.parse_args()
    device = open_tun()
    pump(open_sockets(options.gue_port), device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
