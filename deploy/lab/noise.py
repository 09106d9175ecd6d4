#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What is always on a wire to the internet: SYNs and datagrams from addresses that do not exist.

  noise.py INTERFACE DESTINATION_MAC PER_SECOND ADDRESS:TCP_PORT:UDP_PORT...

Each source is used once in a while (64 Ki of them, of NOISE_NET_V4 and NOISE_NET_V6). Datagrams are
no DNS queries, so that a server is silent about them.
"""

from __future__ import annotations

import ipaddress
import itertools
import random
import socket
import struct
import sys
import time

SOURCES = {4: ("198.19.0.0", 0x0800), 6: ("2001:db8:19::", 0x86DD)}
SYN = 0x02
PAYLOAD = b"\x7f\x00\x00"


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def segment(protocol: int, port: int, pseudo: bytes) -> bytes:
    """TCP or UDP with its checksum; `pseudo` is the addresses'."""
    source = random.randrange(1024, 65536)
    if protocol == socket.IPPROTO_TCP:
        header = struct.pack(
            "!HHIIBBHHH", source, port, random.getrandbits(32), 0, 0x50, SYN, 65535, 0, 0
        )
        place, data = 16, header
    else:
        data = struct.pack("!HHHH", source, port, 8 + len(PAYLOAD), 0) + PAYLOAD
        place = 6
    total = checksum(pseudo + struct.pack("!II", len(data), protocol) + data) or 0xFFFF
    return data[:place] + struct.pack("!H", total) + data[place + 2 :]


class Kind:
    """Packets of one protocol to one port, each from another address; its EtherType."""

    def __init__(self, destination: str, protocol: int, port: int) -> None:
        to = ipaddress.ip_address(destination)
        first, self.ether_type = SOURCES[to.version]
        self._first, self._to = ipaddress.ip_address(first).packed, to.packed
        self._protocol, self._port = protocol, port

    def packet(self) -> bytes:
        source = self._first[:-2] + struct.pack("!H", random.randrange(1, 0xFFFF))
        addresses = source + self._to
        data = segment(self._protocol, self._port, addresses)
        if len(source) == 16:
            head = struct.pack("!IHBB", 6 << 28, len(data), self._protocol, 64)
            return head + addresses + data
        head = struct.pack(
            "!BBHHHBBH",
            *(0x45, 0, 20 + len(data), random.getrandbits(16), 0, 64, self._protocol, 0),
        )
        head = head[:10] + struct.pack("!H", checksum(head + addresses))
        return head + addresses + data


def main() -> int:
    interface, mac, per_second, *places = sys.argv[1:]
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((interface, 0))
    own = wire.getsockname()[4]
    kinds = []
    for place in places:
        address, tcp_port, udp_port = place.rsplit(":", 2)
        kinds += [Kind(address, socket.IPPROTO_TCP, int(tcp_port))]
        kinds += [Kind(address, socket.IPPROTO_UDP, int(udp_port))]
    link = bytes.fromhex(mac.replace(":", "")) + own
    ahead = time.monotonic()
    for kind in itertools.cycle(kinds):
        wire.send(link + struct.pack("!H", kind.ether_type) + kind.packet())
        ahead = max(ahead + 1 / float(per_second), time.monotonic() - 1)
        time.sleep(max(0.0, ahead - time.monotonic()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
