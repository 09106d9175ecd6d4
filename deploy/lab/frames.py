# SPDX-License-Identifier: Apache-2.0
"""Ethernet frames that no kernel would send."""

from __future__ import annotations

import socket
import struct

from lab.addresses import client_v4
from lab.namespace import Namespace


def frame_to(
    mac: str, source_mac: str, destination: str, *, tag: int | None = None, is_sound: bool = True
) -> bytes:
    """A TCP SYN from the first client to port 80; unless it is sound, IP's checksum is wrong."""
    ends = socket.inet_aton(client_v4(0)) + socket.inet_aton(destination)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, socket.IPPROTO_TCP, 0) + ends
    total = right_checksum(ip) ^ (0 if is_sound else 1)
    ip = ip[:10] + struct.pack("!H", total) + ip[12:]
    tcp = struct.pack("!HHIIBBHHH", 40077, 80, 1, 0, 0x50, 2, 1000, 0, 0)
    pseudo = ends + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", right_checksum(pseudo + tcp)) + tcp[18:]
    link = bytes.fromhex((mac + source_mac).replace(":", ""))
    tagged = b"" if tag is None else struct.pack("!HH", 0x8100, tag)
    return link + tagged + b"\x08\x00" + ip + tcp


def right_checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - int(total)


def send_frames(host: Namespace, frame: bytes, count: int) -> None:
    with host.entered():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with raw:
        raw.bind(("eth0", 0))
        for _ in range(count):
            raw.send(frame)
