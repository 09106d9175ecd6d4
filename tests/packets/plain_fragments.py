# SPDX-License-Identifier: Apache-2.0
"""For the plain model: pieces of datagrams (RFC 791, section 3.2; RFC 8200, section 4.5; RFC 6946).

Only datagrams of UDP are forwarded in pieces. The first piece has the UDP header; the others are
known by what RFC 791 calls the four fields that identify a datagram.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

from plain_config import UDP, Address
from plain_packet import Packet, Piece

SPEAKS_FOR_S = 2.0  # a first piece, after it came
LARGEST = 65535


class Unfit(Exception):
    """A piece that is not forwarded, and why."""


def is_piece(packet: Packet) -> bool:
    """Not a whole packet; or one behind a fragment header."""
    if packet.version == 6:
        return packet.protocol == 44
    return bool(struct.unpack("!H", packet.frame[20:22])[0] & 0x3FFF)


def read_piece(packet: Packet) -> Packet:
    """With the headers in front of the data taken together. Ports are (0, 0) if there are none."""
    if packet.version == 4:
        word = struct.unpack("!H", packet.frame[20:22])[0]
        number, offset, more = packet.frame[18:20], (word & 0x1FFF) * 8, bool(word & 0x2000)
        protocol, header, counted = packet.protocol, 20, 20
    else:
        if len(packet.segment) < 8:
            raise Unfit("fragment")
        protocol, word = packet.segment[0], struct.unpack("!H", packet.segment[2:4])[0]
        number, offset, more = packet.segment[4:8], word - word % 8, bool(word % 2)
        header, counted = 48, 0  # IPv6's length counts what follows its header
    data = packet.frame[14 + header : 14 + packet.length]
    if protocol != UDP or not data or counted + offset + len(data) > LARGEST:
        raise Unfit("fragment")
    if more and len(data) % 8 != 0:
        raise Unfit("fragment")
    ports = (0, 0)
    if offset == 0:
        if len(data) < 8:
            raise Unfit("fragment")
        first, second, stated, _ = struct.unpack("!HHHH", data[:8])
        is_right = stated > len(data) if more else 8 <= stated <= len(data)
        if not is_right:
            raise Unfit("bad_l4")
        ports = (first, second)
    elif offset == 8:  # the first one would be nothing but a UDP header
        raise Unfit("fragment")
    piece = Piece(offset, more, number, ports)
    return replace(packet, protocol=protocol, header=header, piece=piece)


class Pieces:
    """Datagrams whose first piece was seen."""

    def __init__(self) -> None:
        self.known: dict[tuple[Address, Address, bytes], tuple[tuple[int, int], float]] = {}

    def with_ports(
        self, packet: Packet, now: float, is_worth_knowing: Callable[[Packet], bool]
    ) -> Packet:
        piece = packet.piece
        assert piece is not None
        key = (packet.source, packet.destination, piece.number)
        if piece.offset == 0:
            if piece.more and is_worth_knowing(packet):
                self.known[key] = (piece.ports, now)
            return packet
        ports, since = self.known.get(key, ((0, 0), now - SPEAKS_FOR_S))
        if now - since >= SPEAKS_FOR_S:
            raise Unfit("fragment")
        return replace(packet, piece=replace(piece, ports=ports))
