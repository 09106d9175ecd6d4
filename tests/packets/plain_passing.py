# SPDX-License-Identifier: Apache-2.0
"""For the plain model: what a target sends towards a client that the engine can't translate."""

from __future__ import annotations

import ipaddress

from plain_config import Address, Config
from plain_packet import Packet


class Passing:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.fragmented: set[tuple[Address, Address, bytes]] = set()

    def is_service(self, address: Address, port: bytes, protocol: int) -> bool:
        return self.config.is_service(address, int.from_bytes(port, "big"), protocol)

    def is_of_target(self, packet: Packet) -> bool:
        """A fragment of what a target sends from its service port; later ones follow the first."""
        if packet.destination in self.config.local:
            return False
        data, protocol = packet.segment, packet.protocol
        number = packet.frame[18:20] + bytes([protocol])  # RFC 791: a protocol's own
        is_first = packet.version == 4 and int.from_bytes(packet.frame[20:22], "big") & 0x1FFF == 0
        if packet.version == 6:
            if len(data) < 8:
                return False
            is_first = int.from_bytes(data[2:4], "big") & 0xFFF8 == 0
            protocol, number, data = data[0], data[4:8], data[8:]
        datagram = (packet.source, packet.destination, number)
        if not is_first:
            return datagram in self.fragmented
        is_its = len(data) >= 2 and self.is_service(packet.source, data[:2], protocol)
        if is_its:
            self.fragmented.add(datagram)
        return is_its
