# SPDX-License-Identifier: Apache-2.0
"""For the plain model: ICMP errors and what they quote (RFC 792, RFC 4443, RFC 5508)."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from plain_config import TCP, UDP, Address
from plain_packet import Packet

ERRORS = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
# Where the checksum of a transport header lies.
CHECKSUMS = {TCP: 16, UDP: 6}


@dataclass
class Quoted:
    """The packet that an error is about, as far as it is quoted."""

    source: Address
    destination: Address
    protocol: int
    header: int  # bytes of its IP header
    ports: tuple[int, int]


def quoted_in(packet: Packet) -> Quoted | None:
    """None for what is no error, and for one that does not say which flow it is about."""
    data = packet.segment[8:]
    if packet.segment[0] not in ERRORS[packet.version] or len(data) < (20, 40)[packet.version == 6]:
        return None
    header = 20 if packet.version == 4 else 40
    protocol = data[9] if packet.version == 4 else data[6]
    has_options = packet.version == 4 and data[0] & 15 != 5  # no packet of a flow has
    if data[0] >> 4 != packet.version or has_options:
        return None
    if packet.version == 4 and int.from_bytes(data[6:8], "big") & 0x1FFF:
        return None  # a later fragment has no ports
    if protocol not in CHECKSUMS or len(data) < header + 4:
        return None
    ends = data[12:20] if packet.version == 4 else data[8:40]
    half = len(ends) // 2
    source, destination = map(ipaddress.ip_address, (ends[:half], ends[half:]))
    ports = struct.unpack("!HH", data[header : header + 4])
    return Quoted(source, destination, protocol, header, (ports[0], ports[1]))


def words(data: bytes) -> int:
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


class Field:
    """A checksum that covers what changes: it keeps whatever error it had (RFC 1624)."""

    def __init__(self, data: bytearray, at: int) -> None:
        self.data, self.at = data, at

    @property
    def value(self) -> int:
        return int.from_bytes(self.data[self.at : self.at + 2], "big")

    def follow(self, before: bytes, after: bytes, is_udp: bool = False) -> None:
        if is_udp and self.value == 0:
            return
        value = (self.value + words(before) - words(after)) % 0xFFFF
        if is_udp:
            value = value or 0xFFFF
        self.data[self.at : self.at + 2] = struct.pack("!H", value)


def renamed(packet: Packet, quoted: Quoted, is_to_target: bool, end: tuple[Address, int]) -> bytes:
    """The error's IP packet with one end of the flow called otherwise, one hop further."""
    address, port = end[0].packed, struct.pack("!H", end[1])
    ip = bytearray(packet.whole)
    size = len(address)
    icmp = packet.header
    inner = icmp + 8
    transport = inner + quoted.header
    places = (8, 24) if packet.version == 6 else (12, 16)  # of source and destination
    outer_at = places[is_to_target]
    inner_at = inner + places[not is_to_target]
    port_at = transport + (0 if is_to_target else 2)
    message_before = bytes(ip[icmp:])
    outer_before = bytes(ip[outer_at : outer_at + size])
    inner_before = bytes(ip[inner_at : inner_at + size])
    port_before = bytes(ip[port_at : port_at + 2])

    ip[inner_at : inner_at + size] = address
    ip[port_at : port_at + 2] = port
    ip[outer_at : outer_at + size] = address
    checksum_at = transport + CHECKSUMS[quoted.protocol]
    if checksum_at + 2 <= len(ip):
        covered = (inner_before + port_before, address + port)
        Field(ip, checksum_at).follow(*covered, is_udp=quoted.protocol == UDP)
    if packet.version == 4:
        ip[8] -= 1
        Field(ip, inner + 10).follow(inner_before, address)
        Field(ip, 10).follow(outer_before + b"\1\0", address + b"\0\0")
    else:
        ip[7] -= 1
    even = len(message_before) & ~1  # an odd last byte does not change
    message_after = bytes(ip[icmp:])
    if packet.version == 6:  # and the pseudo-header
        message_before = outer_before + message_before[:even]
        message_after = address + message_after[:even]
    else:
        message_before, message_after = message_before[:even], message_after[:even]
    Field(ip, icmp + 2).follow(message_before, message_after)
    return bytes(ip)
