#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An engine against the plain model: random conversations with random damage, byte by byte.

  oracle_test.py ENGINE_PIPE [--packets=N] [--seed=N] [--networks] [--vlans]

The seed is printed; the same seed gives the same packets.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from oracle import PlainForwarder
from plain_config import read_config
from plain_vlan import TAG, Trunk, tagged
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

CONFIG = Path(__file__).with_name("common.config")
NODE, ROUTERS = "02:00:00:00:00:01", ("02:00:00:00:00:fe", "02:00:00:00:00:fd")
VRRP, FOREIGN = "00:00:5e:00:01:33", "02:00:00:00:00:77"

CLIENTS = {4: ("198.51.100.7", "198.51.100.8"), 6: ("2001:db8:c::7", "2001:db8:c::8")}
# The targets themselves among them.
ODD_SOURCES = {
    4: ("10.0.1.11", "127.0.0.1", "0.0.0.0", "224.0.0.1", "203.0.113.10", "255.255.255.255"),
    6: ("2001:db8:1::11", "::1", "::", "ff02::1", "2001:db8::10", "::ffff:198.51.100.7"),
}
# Mostly those with all listeners. The last two say otherwise than others what becomes of packets
# that are for none.
VIPS = {
    4: ("203.0.113.10", "203.0.113.20") * 3 + ("203.0.113.30", "203.0.113.40"),
    6: ("2001:db8::10", "2001:db8::20") * 3 + ("2001:db8::30", "2001:db8::40"),
}
TARGETS = {4: "10.0.1.11", 6: "2001:db8:1::11"}
WIDE_TARGETS = {4: "10.0.1.71", 6: "2001:db8:1::71"}
WIDE_PORTS = (20000, 20001, 20001, 20002, 20010)
# What talks to targets past the VIPs: bystanders, and whom targets ask themselves.
BYSTANDERS = {4: "198.51.100.99", 6: "2001:db8:c::99"}
OTHERS = {4: ("10.0.1.1", "203.0.113.99"), 6: ("2001:db8:1::1", "::ffff:203.0.113.10")}
# Both ends of ranges, and a port behind them.
RANGED_PORTS = (20000, 20001, 20001, 20003, 20010, 20011, 20013, 20015, 20017)
TCP_PORTS = (*(80, 80, 81, 82, 83, 86, 87) * 2, 22, *RANGED_PORTS)
UDP_PORTS = (*(53, 53, 54, 55, 56, 57, 58) * 2, 22, *RANGED_PORTS)
# Maximum segment sizes that are lowered and that are not, at even and odd places, behind others.
TCP_OPTIONS: tuple[list[tuple[str, Any]], ...] = (
    [],
    [("Timestamp", (1, 2))],
    [("MSS", 1460)],
    [("MSS", 1400)],
    [("MSS", 1401), ("NOP", None), ("WScale", 7)],
    [("NOP", None), ("MSS", 9000)],
    [("NOP", None), ("NOP", None), ("SAckOK", b""), ("MSS", 65535)],
    [("WScale", 7), ("MSS", 1460), ("MSS", 1459)],
    [("EOL", None), ("MSS", 1460)],
)
# Near each other, as a connection's are, with the first and last that are near enough; None: any.
NEAR = 4_000_000_000
EDGES = (NEAR - 65537, NEAR - 65536, NEAR + 2**24 - 1, NEAR + 2**24)
NUMBERS = (NEAR, NEAR, NEAR, NEAR + 1000, *EDGES, 0, None, None)
TCP_FLAGS = (
    "S",
    "S",
    "S",
    "A",
    "A",
    "A",
    "A",
    "PA",
    "FA",
    "R",
    "RA",
    "SA",
    "SEC",
    "",
    "SF",
    "FPU",
    "F",
)
WAITS_MS = (2, 2, 2, 2, 2, 2, 1_500, 7_000, 12_000, 70_000, 130_000, 360_000)


class EnginePipe:
    """The engine under test, one line in, one line out."""

    def __init__(self, program: str, config: Path) -> None:
        self.process = subprocess.Popen(
            [program, str(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> EnginePipe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=10)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, frame: bytes) -> str:
        assert self.process.stdout is not None
        self.tell(f"frame 0 {frame.hex()}")
        return self.process.stdout.readline().strip()


class Traffic:
    """Frames as they might come, most of them in good faith."""

    def __init__(self, seed: int, *, has_vlans: bool) -> None:
        self.has_vlans = has_vlans
        self.random = random.Random(seed)
        self.queue: list[Packet] = []  # what follows at once

    def frame(self) -> bytes:
        pick = self.random.random()
        if pick < 0.03 and not self.queue:
            return self.arp()
        family = self.random.choice((4, 6))
        packet = self.reply(family) if pick < 0.35 else self.request(family)
        if pick > 0.92:
            packet = self.rare(family, pick)
        elif pick > 0.88:
            packet = self.piece(family)
        elif pick > 0.84:
            self.queue = self.datagram(family)
        if self.queue:
            packet = self.queue.pop(0)
        node = self.random.choices((NODE, VRRP, FOREIGN), (94, 3, 3))[0]
        frame = bytes(Ether(src=self.random.choice(ROUTERS), dst=node) / packet)
        frame = self.maybe_tagged(frame)
        return self.damaged(frame) if self.random.random() < 0.2 else frame

    def maybe_tagged(self, frame: bytes) -> bytes:
        if self.random.random() < 0.03:
            return tagged(frame, self.random.choice((0x0000, 0xE000, 0x0007)))
        if self.has_vlans and self.random.random() < 0.6:
            return tagged(frame, self.random.choice((10, 10, 20, 20, 0xB00A, 0x1014, 11)))
        return frame

    def arp(self) -> bytes:
        asked = self.random.choice((*VIPS[4], "203.0.113.99"))
        link = Ether(src=ROUTERS[0], dst="ff:ff:ff:ff:ff:ff")
        request = ARP(op=1, hwsrc=ROUTERS[0], psrc="203.0.113.1", pdst=asked)
        return bytes(link / request) + bytes(self.random.choice((0, 18)))

    def ip(self, family: int, source: str, destination: str) -> Packet:
        hops = self.random.choice((64, 64, 64, 255, 2, 1, 0))
        if family == 4:
            number = self.random.randrange(65536)
            return IP(src=source, dst=destination, ttl=hops, id=number, flags="DF")
        return IPv6(src=source, dst=destination, hlim=hops, fl=self.random.randrange(2**20))

    def payload(self) -> Packet:
        if self.random.random() < 0.1:  # about as large as encapsulation allows
            return Raw(self.random.randbytes(self.random.randrange(1390, 1460)))
        return Raw(self.random.randbytes(self.random.choice((0, 1, 2, 7, 64))))

    def transport(self, is_tcp: bool, source: int, destination: int) -> Packet:
        if not is_tcp:
            return UDP(sport=source, dport=destination) / self.payload()
        numbers = [self.number(), self.number()]
        options = self.random.choice(TCP_OPTIONS)
        flags = self.random.choice(TCP_FLAGS)
        header = TCP(sport=source, dport=destination, flags=flags, options=options)
        header.seq, header.ack = numbers
        return header / self.payload()

    def number(self) -> int:
        chosen = self.random.choice(NUMBERS)
        return self.random.randrange(2**32) if chosen is None else chosen

    def request(self, family: int) -> Packet:
        source = self.random.choice(CLIENTS[family])
        if self.random.random() < 0.05:
            source = self.random.choice(ODD_SOURCES[family])
        destination = self.random.choice(VIPS[family])
        if self.random.random() < 0.05:
            destination = self.random.choice(OTHERS[family])
        is_tcp = self.random.random() < 0.6
        port = self.random.choice(TCP_PORTS if is_tcp else UDP_PORTS)
        client_port = self.random.choice((40000, 40001))
        return self.ip(family, source, destination) / self.transport(is_tcp, client_port, port)

    def reply(self, family: int) -> Packet:
        others = (*OTHERS[family], *VIPS[family], BYSTANDERS[family])
        destination = self.random.choice((*CLIENTS[family], *CLIENTS[family], *others))
        is_tcp = self.random.random() < 0.6
        port = self.random.choice((8080, 8080, 9999) if is_tcp else (5353, 5353, 9999))
        client_port = self.random.choice((40000, 40001, 40002))
        target = TARGETS[family]
        if self.random.random() < 0.4:
            target, port = WIDE_TARGETS[family], self.random.choice((*WIDE_PORTS, port))
        packet = self.ip(family, target, destination)
        return packet / self.transport(is_tcp, port, client_port)

    def echo(self, family: int) -> Packet:
        source = self.random.choice((*CLIENTS[family], *ODD_SOURCES[family]))
        packet = self.ip(family, source, self.random.choice((*VIPS[family], *OTHERS[family])))
        number = self.random.choice((0, 1, 65535))
        if family == 4:
            return packet / ICMP(type=self.random.choice((8, 8, 13)), id=number) / self.payload()
        return packet / ICMPv6EchoRequest(id=number) / self.payload()

    def rare(self, family: int, pick: float) -> Packet:
        if pick > 0.97:
            return self.error(family)
        return self.echo(family) if pick > 0.95 else self.passing(family)

    def error(self, family: int) -> Packet:
        """About a reply, or about a request on its way to a target; most are in good faith."""
        client = self.random.choice(CLIENTS[family])
        port = self.random.choice((40000, 40001))
        if self.random.random() < 0.1:
            client = self.random.choice(ODD_SOURCES[family])
        is_tcp = self.random.random() < 0.5
        if self.random.random() < 0.6:
            receiver, hears = self.random.choice(VIPS[family]), self.random.choice(VIPS[family])
            served = self.random.choice(TCP_PORTS if is_tcp else UDP_PORTS)
            about = self.ip(family, receiver, client) / self.transport(is_tcp, served, port)
            receiver = self.random.choice((receiver, receiver, receiver, hears))
            sender = self.random.choice((client, BYSTANDERS[family], TARGETS[family]))
        else:
            receiver, served = client, self.random.choice((8080 if is_tcp else 5353, 9999))
            target = TARGETS[family]
            if self.random.random() < 0.4:
                target, served = WIDE_TARGETS[family], self.random.choice((*WIDE_PORTS, served))
            about = self.ip(family, client, target)
            about /= self.transport(is_tcp, port, served)
            sender = self.random.choice((TARGETS[family], BYSTANDERS[family]))
        quote = bytes(about)
        if self.random.random() < 0.5:
            quote = quote[: self.random.choice((20, 24, 28, 36, 38, 40, 43, 44, 48, 56, 58, 60))]
        packet = self.ip(family, sender, receiver)
        if family == 4:
            kind = self.random.choice((3, 3, 11, 12, 5))
            return packet / ICMP(type=kind, code=4, nexthopmtu=1400) / Raw(quote)
        layers = (ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, ICMPv6ParamProblem)
        return packet / self.random.choice(layers)() / Raw(quote)

    def datagram(self, family: int) -> list[Packet]:
        """In pieces, which may be lost, come twice or overtake each other. Questions first."""
        client, vip = self.random.choice(CLIENTS[family]), self.random.choice(VIPS[family])
        port, served = self.random.choice((40000, 40001)), self.random.choice(UDP_PORTS)
        source, destination, ports = client, vip, (port, served)
        packets = []
        if self.random.random() < 0.5:
            source, destination, ports = TARGETS[family], client, (5353, port)
            asked = 53
            if self.random.random() < 0.4:
                asked = self.random.choice(WIDE_PORTS)
                source, ports = WIDE_TARGETS[family], (asked, port)
            question = UDP(sport=port, dport=asked) / self.payload()
            packets.append(self.ip(family, client, vip) / question)
        sizes = [self.random.choice((8, 16, 1352, 1376, 1424, 1440)) for _ in range(2)]
        sizes += [self.random.randrange(1, 1440)]
        whole = UDP(sport=ports[0], dport=ports[1]) / Raw(self.random.randbytes(sum(sizes)))
        if self.random.random() < 0.1:
            whole.chksum = 0
        built = (IP if family == 4 else IPv6)(src=source, dst=destination) / whole
        data = bytes(built)[20 if family == 4 else 40 :]
        pieces, at = [], 0
        number = self.random.randrange(3)
        for size in (sizes[0] + 8, *sizes[1:]):
            more = int(at + size < len(data))
            ip, part = self.ip(family, source, destination), Raw(data[at : at + size])
            if family == 4:
                ip.id, ip.flags, ip.frag, ip.proto = number, more, at // 8, 17
                pieces.append(ip / part)
            else:
                header = IPv6ExtHdrFragment(offset=at // 8, m=more, id=number, nh=17)
                pieces.append(ip / header / part)
            at += size
        if self.random.random() < 0.2:
            self.random.shuffle(pieces)
        if self.random.random() < 0.2:
            pieces += pieces[:1]
        if self.random.random() < 0.2:
            del pieces[self.random.randrange(len(pieces))]
        return packets + pieces

    def piece(self, family: int) -> Packet:
        """Of a request or an answer, and most of them out of place."""
        source, destination = self.random.choice(CLIENTS[family]), self.random.choice(VIPS[family])
        ports = (self.random.choice((40000, 40001)), self.random.choice(UDP_PORTS))
        if self.random.random() < 0.4:
            source, destination = TARGETS[family], self.random.choice(CLIENTS[family])
            ports = (self.random.choice((5353, 5353, 2049)), self.random.choice((40000, 40001)))
        if self.random.random() < 0.05:
            source = self.random.choice(ODD_SOURCES[family])
        data = self.random.randbytes(self.random.choice((0, 8, 9, 16, 1400, 1424, 1440)))
        body: Packet = Raw(data)
        offset = self.random.choice((0, 0, 0, 0, 2, 3, 178, 1, 8187, 8190, 8191))
        more = self.random.choice((1, 1, 1, 0))
        number = self.random.randrange(3)
        if offset == 0:
            stated = self.random.choice((2000, 2000, 2000, 8, 7, len(data) + 8, len(data) + 9))
            checksum = self.random.choice((0, 1, 0xFFFF, self.random.randrange(65536)))
            body = UDP(sport=ports[0], dport=ports[1], len=stated, chksum=checksum) / body
        protocol = self.random.choices((17, 6, 58), (97, 2, 1))[0]
        ip = self.ip(family, source, destination)
        if family == 4:
            ip.id, ip.flags, ip.frag, ip.proto = number, more, offset, protocol
            return ip / body
        return ip / IPv6ExtHdrFragment(offset=offset, m=more, id=number, nh=protocol) / body

    def passing(self, family: int) -> Packet:
        """What a target sends besides: a fragment of an answer, or an ICMP error to a client."""
        client, target = self.random.choice(CLIENTS[family]), TARGETS[family]
        number = self.random.randrange(4)
        port = self.random.choice((5353, 2049))
        if self.random.random() < 0.5:
            first = UDP(sport=port, dport=40000, len=2000) / Raw(bytes(992))
            is_first = self.random.random() < 0.6
            part = first if is_first else Raw(bytes(900))
            if family == 4:
                offset = 0 if is_first else 125
                ip = IP(src=target, dst=client, id=number, flags="MF", frag=offset, proto=17)
                return ip / part
            offset = 0 if is_first else 125
            header = IPv6ExtHdrFragment(offset=offset, m=1, id=number, nh=17)
            return IPv6(src=target, dst=client) / header / part
        quoted = self.ip(family, client, target) / UDP(sport=40000, dport=port)
        packet = self.ip(family, target, client)
        if family == 4:
            return packet / ICMP(type=self.random.choice((3, 11, 5)), code=1) / quoted
        return packet / ICMPv6DestUnreach(code=4) / quoted

    def damaged(self, frame: bytes) -> bytes:
        how = self.random.randrange(4)
        if how == 0:
            return frame[: self.random.randrange(1, len(frame))]
        if how == 1:
            return frame + self.random.randbytes(self.random.randrange(1, 20))
        changed = bytearray(frame)
        for _ in range(self.random.choice((1, 1, 2, 8))):
            changed[self.random.randrange(12, len(changed))] = self.random.randrange(256)
        if how == 2 and changed[12:14] == b"\x08\x00" and len(changed) >= 34:
            self.mend_ipv4(changed)
        return bytes(changed)

    def mend_ipv4(self, frame: bytearray) -> None:
        """So that damage behind the first check is reached."""
        frame[24:26] = b"\0\0"
        total = sum(int.from_bytes(frame[at : at + 2], "big") for at in range(14, 34, 2))
        while total > 0xFFFF:
            total = (total & 0xFFFF) + (total >> 16)
        frame[24:26] = (0xFFFF - total).to_bytes(2, "big")


def is_beyond_the_model(frame: bytes) -> bool:
    """Neighbour discovery is checked by golden packets only."""
    ip = frame[16:] if frame[12:14] == TAG else frame[12:]
    return ip[:2] == b"\x86\xdd" and ip[8:9] == b"\x3a" and ip[42:43] == b"\x87"


@contextmanager
def config_of(uses_networks: bool, has_vlans: bool) -> Iterator[Path]:
    """The common config, or the same with networks as sources of outer packets, or with two VLANs,
    and every other target in one of them."""
    lines = CONFIG.read_text(encoding="utf-8").splitlines()
    if uses_networks:
        lines = [line for line in lines if not line.startswith("encap_source ")]
        lines += ["encap_source 172.16.0.0 bits 16", "encap_source 100:: bits 32"]
    if has_vlans:
        at = lines.index("nic 0 mac node") + 1
        lines[at:at] = ["vlan 8 id 10 mac node", "vlan 9 id 20 mac node"]
        targets = [i for i, line in enumerate(lines) if line.startswith("target ")]
        for number, i in enumerate(targets):
            lines[i] += ("", " nic 9", "", " nic 8")[number % 4]
        lines += [f"nic_addr {own} nic {nic}" for own in ("node", "node6") for nic in (8, 9)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.config"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("engine", help="the engine_pipe program")
    parser.add_argument("--packets", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--shortest", type=int, default=0, help="shorter frames can't be given to the engine"
    )
    parser.add_argument("--networks", action="store_true", help="as sources of outer packets")
    parser.add_argument("--vlans", action="store_true", help="of the nic")
    options = parser.parse_args()
    with config_of(options.networks, options.vlans) as config:
        return compare(options, config)


def compare(options: argparse.Namespace, config: Path) -> int:
    traffic = Traffic(options.seed, has_vlans=options.vlans)
    plain = read_config(config)
    model = PlainForwarder(plain)
    trunk = Trunk(model, set(plain.vlans.values()), plain.local_macs)
    verdicts: dict[str, int] = {}
    with EnginePipe(options.engine, config) as engine:
        for number in range(options.packets):
            wait_ms = 2 if traffic.queue else traffic.random.choice(WAITS_MS)
            engine.tell(f"wait {wait_ms}")
            model.wait(wait_ms / 1000)
            if traffic.random.random() < 0.05:
                engine.tell("sweep 0")
                model.sweep()
            frame = traffic.frame()
            if len(frame) < options.shortest:
                continue
            if is_beyond_the_model(frame):
                continue
            got, wanted = engine.ask(frame), trunk.handle(frame)
            if got != wanted:
                print(f"seed {options.seed}, packet {number}: {frame.hex()}")
                print(f"engine: {got}\nmodel:  {wanted}")
                return 1
            verdict = " ".join(wanted.split()[: 2 if wanted.startswith("drop") else 1])
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
    print(f"seed {options.seed}: {options.packets} packets agree: {verdicts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
