# SPDX-License-Identifier: Apache-2.0
"""Packets as the plain model sees them, and what it makes of them as a whole, with Scapy's help."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from plain_config import TCP, UDP, Address, EncapSource, Target
from plain_flow import Client
from scapy.layers.inet import ICMP as IcmpLayer
from scapy.layers.inet import IP, in4_chksum
from scapy.layers.inet import UDP as UdpLayer
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    in6_chksum,
)
from scapy.packet import Raw
from scapy.utils import checksum

ICMP, ICMP6 = 1, 58
CHECKSUM_PLACES = {TCP: 16, UDP: 6, ICMP: 2, ICMP6: 2}


class Drop(Exception):
    """The verdict that ends most walks."""


@dataclass
class Piece:
    """What makes a packet a piece of a datagram."""

    offset: int  # in bytes
    more: bool
    number: bytes
    ports: tuple[int, int]  # of the datagram


@dataclass
class Packet:
    """The parts of a frame that passed the length checks."""

    frame: bytes
    version: int
    source: Address
    destination: Address
    protocol: int
    header: int  # bytes of the IP header, and of a fragment header behind it
    length: int  # bytes of the IP packet
    piece: Piece | None = None

    @property
    def segment(self) -> bytes:
        return self.frame[14 + self.header : 14 + self.length]

    @property
    def ports(self) -> tuple[int, int]:
        if self.piece is not None:
            return self.piece.ports
        source, destination = struct.unpack("!HH", self.segment[:4])
        return source, destination

    @property
    def flags(self) -> int:
        return self.segment[13] if self.protocol == TCP else 0

    @property
    def is_later(self) -> bool:
        """A piece without the header: nobody is told of it (RFC 1122, section 3.2.2)."""
        return self.piece is not None and self.piece.offset > 0

    @property
    def quote(self) -> bytes:
        """What an ICMP error of the node's own quotes."""
        return self.whole[: (20 if self.version == 4 else 40) + 64]

    @property
    def hops(self) -> int:
        return self.frame[22] if self.version == 4 else self.frame[21]

    @property
    def whole(self) -> bytes:
        """Without link header and padding."""
        return self.frame[14 : 14 + self.length]


def with_mss(packet: Packet, mss: int) -> bytes:
    """The segment; a SYN announces no larger maximum segment size than `mss` (0: any)."""
    segment = bytearray(packet.segment)
    if mss == 0 or packet.protocol != TCP or not packet.flags & 2:
        return bytes(segment)
    at, end = 20, (segment[12] >> 4) * 4
    while at < end and segment[at] != 0:  # RFC 9293 section 3.2: 0 ends the options
        if segment[at] == 1:
            at += 1
            continue
        size = segment[at + 1] if at + 1 < end else 0
        if size < 2 or at + size > end:
            break
        if segment[at] == 2 and size == 4:
            announced = struct.unpack_from("!H", segment, at + 2)[0]
            struct.pack_into("!H", segment, at + 2, min(announced, mss))
        at += size
    return bytes(segment)


def right_checksum(
    source: Address, destination: Address, protocol: int, segment: bytes, version: int
) -> int:
    if version == 4:
        around = IP(src=str(source), dst=str(destination), proto=protocol)
        return int(in4_chksum(protocol, around, segment))
    around6 = IPv6(src=str(source), dst=str(destination), nh=protocol)
    return int(in6_chksum(protocol, around6, segment))


def is_martian(source: Address, destination: Address) -> bool:
    if source == destination:
        return True
    if isinstance(source, ipaddress.IPv4Address):
        first = source.packed[0]
        return first in (0, 127) or first >= 224
    embedded = [bytes(10) + b"\xff\xff", bytes(12)]
    embeds = any(a.packed[:12] in embedded for a in (source, destination))
    return source.is_multicast or embeds


def overhead_of(target: Target) -> int:
    return (20 if target.address.version == 4 else 40) + (8 if target.forwarding == "gue" else 0)


def encapsulated(packet: Packet, target: Target, network: EncapSource, client: Client) -> bytes:
    """The outer IP packet, of the family of the target's address."""
    source = source_of(network, client)
    inner, ends = packet.whole, {"src": str(source), "dst": str(target.address)}
    is_ipip = target.forwarding == "ipip"
    body = Raw(inner if is_ipip else gue(packet, target, source, client))
    protocol = {4: 4, 6: 41}[packet.version] if is_ipip else UDP
    first = int.from_bytes(inner[:4], "big")
    if packet.version == 4:
        traffic_class, label = inner[1], flow_number(client) >> 12
    else:
        traffic_class, label = first >> 20 & 0xFF, first & 0xFFFFF
    if target.address.version == 4:
        return bytes(IP(**ends, tos=traffic_class, id=0, flags="DF", proto=protocol) / body)
    return bytes(IPv6(**ends, nh=protocol, tc=traffic_class, fl=label) / body)


def source_of(network: EncapSource, client: Client) -> Address:
    packed = network.address.packed
    own = int.from_bytes(flow_number(client).to_bytes(4, "little"), "big") % 2**network.bits
    last = int.from_bytes(packed[-4:], "big") | own
    return ipaddress.ip_address(packed[:-4] + last.to_bytes(4, "big"))


def gue(packet: Packet, target: Target, source: Address, client: Client) -> bytes:
    """UDP header and packet. Its checksum takes the one inside at its word, where that is whole.
    0 would say that there is none (RFC 768)."""
    header = UdpLayer(sport=gue_source_port(client), dport=target.gue_port, chksum=0)
    udp = bytes(header / Raw(packet.whole))
    if target.address.version == 4:
        return udp
    at = CHECKSUM_PLACES[packet.protocol]
    lacks_checksum = packet.protocol == UDP and packet.segment[at : at + 2] == b"\0\0"
    if packet.piece is not None or lacks_checksum:
        outer = right_checksum(source, target.address, UDP, udp[:6] + b"\0\0" + udp[8:], 6)
        return udp[:6] + struct.pack("!H", outer or 0xFFFF) + packet.whole
    bare = packet.segment[:at] + b"\0\0" + packet.segment[at + 2 :]
    if packet.protocol == ICMP:  # RFC 792: over the message alone
        right = checksum(bare)
    else:
        right = right_checksum(
            packet.source, packet.destination, packet.protocol, bare, packet.version
        )
    believed = bare[:at] + struct.pack("!H", right) + bare[at + 2 :]
    covered = udp[:8] + packet.whole[: packet.header] + believed
    outer = right_checksum(source, target.address, UDP, covered, 6)
    return udp[:6] + struct.pack("!H", outer or 0xFFFF) + packet.whole


def flow_number(client: Client) -> int:
    """The client's address as two little-endian words, v4-mapped, mixed with its port."""
    address = client[0].packed
    mapped = address if len(address) == 16 else bytes(10) + b"\xff\xff" + address
    low, high = struct.unpack("<QQ", mapped)
    (port,) = struct.unpack("<H", struct.pack("!H", client[1]))
    mixed: int = (low ^ high ^ port) * 0x9E3779B97F4A7C15 % 2**64
    return (mixed ^ mixed >> 32) % 2**32


def gue_source_port(client: Client) -> int:
    return 0xC000 | (flow_number(client) >> 16) % 2**14


def too_big(packet: Packet, mtu: int) -> bytes:
    """The IP packet that tells the client."""
    quote = Raw(packet.quote)
    ends = {"src": str(packet.destination), "dst": str(packet.source)}
    if packet.version == 4:
        answer = IP(**ends, id=0, flags=0, ttl=64)
        return bytes(answer / IcmpLayer(type=3, code=4, nexthopmtu=mtu) / quote)
    return bytes(IPv6(**ends, hlim=64) / ICMPv6PacketTooBig(mtu=max(mtu, 1280)) / quote)


def expired(packet: Packet, own: Address) -> bytes:
    """The IP packet that tells the sender who saw the last hop."""
    quote = Raw(packet.quote)
    ends = {"src": str(own), "dst": str(packet.source)}
    if packet.version == 4:
        return bytes(IP(**ends, id=0, flags=0, ttl=64) / IcmpLayer(type=11, code=0) / quote)
    return bytes(IPv6(**ends, hlim=64) / ICMPv6TimeExceeded(code=0) / quote)


def port_unreachable(packet: Packet) -> bytes:
    """What a host says that has no such port (RFC 1122, section 3.2.2.1; RFC 4443, section 3.1)."""
    quote = Raw(packet.quote)
    ends = {"src": str(packet.destination), "dst": str(packet.source)}
    if packet.version == 4:
        return bytes(IP(**ends, id=0, flags=0, ttl=64) / IcmpLayer(type=3, code=3) / quote)
    return bytes(IPv6(**ends, hlim=64) / ICMPv6DestUnreach(code=4) / quote)


def without_priority_tag(frame: bytes) -> bytes:
    """A tag of VLAN 0 before IP or ARP says nothing but a priority."""
    is_tagged = frame[12:14] == b"\x81\x00" and len(frame) >= 18
    if not is_tagged or frame[14] & 0x0F or frame[15]:
        return frame
    is_ours = frame[16:18] in (b"\x08\x00", b"\x08\x06", b"\x86\xdd")
    return frame[:12] + frame[16:] if is_ours else frame


def right_of(packet: Packet, ends: tuple[Address, Address], segment: bytes, at: int) -> int:
    bare = segment[:at] + b"\0\0" + segment[at + 2 :]
    if packet.protocol == UDP:  # covers what its own length says
        bare = bare[: struct.unpack("!H", bare[4:6])[0]]
    return right_checksum(*ends, packet.protocol, bare, packet.version)


def moved(packet: Packet, before: int, was_right: int, is_right: int) -> bytes:
    """The right checksum plus the error that there was; one's complement."""
    after = (is_right + (before + 0xFFFF - was_right)) % 0xFFFF
    if packet.protocol == UDP:
        after = after or 0xFFFF
    return struct.pack("!H", after)


def renamed_segment(
    packet: Packet, ends: tuple[Address, Address], ports: tuple[int, int], mss: int
) -> bytes:
    """With the ports of its receiver's side, and a checksum that is as right as it was."""
    segment = struct.pack("!HH", *ports) + with_mss(packet, mss)[4:]
    at = 16 if packet.protocol == TCP else 6
    before = struct.unpack("!H", packet.segment[at : at + 2])[0]
    if packet.protocol == UDP and before == 0:
        return segment
    old = (packet.source, packet.destination)
    was_right = right_of(packet, old, packet.segment, at)
    is_right = right_of(packet, ends, segment, at)
    return segment[:at] + moved(packet, before, was_right, is_right) + segment[at + 2 :]


def turn_ip(ip: bytearray, packet: Packet) -> None:
    """Addresses swapped, a hop count of our own."""
    if packet.version == 4:
        ip[8], ip[12:20] = 64, ip[16:20] + ip[12:16]
        ip[10:12] = b"\0\0"
        ip[10:12] = struct.pack("!H", checksum(bytes(ip)))
    else:
        ip[7], ip[8:40] = 64, ip[24:40] + ip[8:24]


def read_ipv4(frame: bytes) -> Packet:
    ip = frame[14:]
    if len(ip) < 20 or ip[0] >> 4 != 4:
        raise Drop("bad_ip_header")
    header, length = (ip[0] & 15) * 4, struct.unpack("!H", ip[2:4])[0]
    if header < 20 or length < header or length > len(ip):
        raise Drop("bad_ip_header")
    source, destination = map(ipaddress.IPv4Address, (ip[12:16], ip[16:20]))
    if header == 20 and checksum(ip[:20]) != 0:
        raise Drop("bad_ip_checksum")
    return Packet(frame, 4, source, destination, ip[9], header, length)


def read_ipv6(frame: bytes) -> Packet:
    ip = frame[14:]
    if len(ip) < 40 or ip[0] >> 4 != 6:
        raise Drop("bad_ip_header")
    length = 40 + struct.unpack("!H", ip[4:6])[0]
    if length > len(ip):
        raise Drop("bad_ip_header")
    source, destination = map(ipaddress.IPv6Address, (ip[8:24], ip[24:40]))
    return Packet(frame, 6, source, destination, ip[6], 40, length)
