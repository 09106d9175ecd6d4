# SPDX-License-Identifier: Apache-2.0
"""For the plain model: the RST that a TCP segment gives (RFC 9293, section 3.10.7.1)."""

from __future__ import annotations

import struct

from plain_config import TCP
from plain_packet import Packet, right_checksum, turn_ip
from scapy.utils import checksum

FIN, SYN, RST, ACK = 1, 2, 4, 16


def answering_reset(packet: Packet) -> bytes:
    """The IP packet that answers the segment's sender."""
    segment = packet.segment
    sequence, acknowledged = struct.unpack("!II", segment[4:12])
    occupied = len(segment) - (segment[12] >> 4) * 4
    occupied += bool(packet.flags & SYN) + bool(packet.flags & FIN)
    numbers = (acknowledged, 0) if packet.flags & ACK else (0, (sequence + occupied) % 2**32)
    flags = RST if packet.flags & ACK else RST | ACK
    ports = (packet.ports[1], packet.ports[0])
    body = struct.pack("!HHIIBBHHH", *ports, *numbers, 0x50, flags, 0, 0, 0)
    ends = (packet.destination, packet.source)
    right = right_checksum(*ends, TCP, body, packet.version)
    ip = bytearray(packet.frame[14 : 14 + packet.header])
    if packet.version == 4:
        ip[2:4] = struct.pack("!H", 40)
    else:
        ip[4:6] = struct.pack("!H", 20)
    turn_ip(ip, packet)
    return bytes(ip) + body[:16] + struct.pack("!H", right) + body[18:]


def passing_reset(packet: Packet) -> Packet:
    """The RST in the segment's place, from its sender to its receiver."""
    segment = packet.segment
    data = len(segment) - (segment[12] >> 4) * 4
    is_keep_alive = data <= 1 and not packet.flags & FIN
    sequence = (int.from_bytes(segment[4:8], "big") + is_keep_alive) % 2**32
    body = struct.pack("!HHIIBBHHH", *packet.ports, sequence, 0, 0x50, RST, 0, 0, 0)
    ends = (packet.source, packet.destination)
    right = right_checksum(*ends, TCP, body, packet.version)
    body = body[:16] + struct.pack("!H", right) + body[18:]
    ip = bytearray(packet.frame[14 : 14 + packet.header])
    if packet.version == 4:
        ip[2:4], ip[10:12] = struct.pack("!H", 40), b"\0\0"
        ip[10:12] = struct.pack("!H", checksum(bytes(ip)))
    else:
        ip[4:6] = struct.pack("!H", 20)
    frame = packet.frame[:14] + bytes(ip) + body
    return Packet(frame, packet.version, *ends, TCP, packet.header, packet.header + 20)
