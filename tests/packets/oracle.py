# SPDX-License-Identifier: Apache-2.0
"""A plain model of the packet path, to hold core against: one target per group and no tricks.

It knows the rules from the documents, the config from common.config, and checksums from Scapy. What
it says of a frame is what tests/integration/engine_pipe says: "forward NIC HEX", "drop REASON", ...
"""

from __future__ import annotations

import ipaddress
import struct

from plain_config import TCP, UDP, Address, Config, Listener, Target
from plain_errors import Quoted, quoted_in, renamed
from plain_flow import FINS, RANKS, RESETS, TIMEOUTS, Client, Flow
from plain_fragments import Pieces, Unfit, is_piece, read_piece
from plain_packet import (
    ICMP,
    ICMP6,
    Drop,
    Packet,
    encapsulated,
    is_martian,
    overhead_of,
    read_ipv4,
    read_ipv6,
    port_unreachable,
    renamed_segment,
    expired,
    too_big,
    turn_ip,
    without_priority_tag,
)
from plain_passing import Passing
from plain_reset import answering_reset, passing_reset
from scapy.utils import checksum

FIN, SYN, RST, ACK = 1, 2, 4, 16
Ends = tuple[Address, Address]
EXTENSIONS = (0, 43, 50, 51, 59, 60)


class PlainForwarder:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.now = 0.0
        self.flows: dict[tuple[Client, Listener], Flow] = {}
        self.asked = 0
        self.passing = Passing(config)
        self.pieces = Pieces()

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def sweep(self) -> None:
        for key, flow in list(self.flows.items()):
            flow.rounds += flow.has_spoken and flow.state == "udp_new"
            flow.has_spoken = False
            if flow.rounds == 3 and flow.state == "udp_new":
                flow.state = "udp"
            if not self.is_idle(flow):
                continue
            if flow.state in ("established", "closing"):
                self.expire(flow)
            else:
                del self.flows[key]

    def expire(self, flow: Flow) -> None:
        flow.state, flow.seen = "expired", self.now
        flow.flags -= {"told_client", "told_target"}

    def is_idle(self, flow: Flow) -> bool:
        return self.now - flow.seen > TIMEOUTS["reset" if flow.is_reset else flow.state]

    def handle(self, frame: bytes) -> str:
        try:
            return self.walk(frame)
        except Drop as drop:
            return f"drop {drop}"

    def walk(self, frame: bytes) -> str:
        if len(frame) < 14:
            raise Drop("malformed_l2")
        frame = without_priority_tag(frame)
        is_own = frame[:6] == self.config.node_mac or frame[:6] in self.config.local_macs
        if not is_own and not frame[0] & 1:
            return self.leave_foreign(frame)
        ethertype = struct.unpack("!H", frame[12:14])[0]
        if ethertype == 0x0800:
            return self.walk_ip(read_ipv4(frame))
        if ethertype == 0x86DD:
            return self.walk_ip(read_ipv6(frame))
        return self.walk_arp(frame) if ethertype == 0x0806 else self.punt(frame)

    def leave_foreign(self, frame: bytes) -> str:
        """For another machine: what is for a VIP is left to whoever that is."""
        if frame[12:14] == b"\x08\x00" and len(frame) >= 34:
            if ipaddress.IPv4Address(frame[30:34]) in self.config.vips:
                raise Drop("other_mac")
        if frame[12:14] == b"\x86\xdd" and len(frame) >= 54:
            destination = ipaddress.IPv6Address(frame[38:54])
            if {destination, destination.ipv4_mapped} & self.config.vips:
                raise Drop("other_mac")
        return self.punt(frame)

    def punt(self, frame: bytes) -> str:
        return f"punt 0 {frame.hex()}"

    def walk_arp(self, frame: bytes) -> str:
        is_request = len(frame) >= 42 and frame[14:22] == bytes.fromhex("0001080006040001")
        if not is_request or ipaddress.IPv4Address(frame[38:42]) not in self.config.vips:
            return self.punt(frame)
        mac, sender, vip = self.config.node_mac, frame[22:32], frame[38:42]
        body = bytes.fromhex("0001080006040002") + mac + vip + sender
        return f"reply 0 {(sender[:6] + mac + frame[12:14] + body + frame[42:]).hex()}"

    def fault_of(self, packet: Packet) -> str | None:
        """Why the packet, if it is for a VIP, is nothing to balance."""
        if packet.header != (20 if packet.version == 4 else 40):
            return "ip_options"
        is_icmp = packet.protocol == (ICMP if packet.version == 4 else ICMP6)
        # Duplicate address detection comes from the unspecified address.
        is_mapped = packet.destination.packed[:12] == bytes(10) + b"\xff\xff"
        is_probe = packet.version == 6 and is_icmp and packet.source.is_unspecified
        if is_martian(packet.source, packet.destination) and (is_mapped or not is_probe):
            return "martian"
        if is_piece(packet):
            return None
        if packet.version == 6 and packet.protocol in EXTENSIONS:
            return "ipv6_extension"
        if is_icmp:
            return "bad_l4" if len(packet.segment) < 8 else None
        if packet.protocol in (TCP, UDP):
            return self.transport_fault_of(packet)
        return "unsupported_protocol"

    def transport_fault_of(self, packet: Packet) -> str | None:
        segment = packet.segment
        if packet.protocol == UDP:
            stated = struct.unpack("!H", segment[4:6])[0] if len(segment) >= 8 else 0
            return "bad_l4" if stated < 8 or stated > len(segment) else None
        offset = (segment[12] >> 4) * 4 if len(segment) >= 20 else 0
        if offset < 20 or offset > len(segment):
            return "bad_l4"
        flags = segment[13]
        has = {name: bool(flags & bit) for name, bit in dict(F=FIN, S=SYN, R=RST, A=ACK).items()}
        if has["S"] and (has["F"] or has["R"]):
            return "bad_tcp_flags"
        return None if has["S"] or has["R"] or has["A"] else "bad_tcp_flags"

    def walk_ip(self, packet: Packet) -> str:
        is_to_vip = packet.destination in self.config.vips
        fault = self.fault_of(packet)
        if fault is None and is_piece(packet):
            try:
                piece = read_piece(packet)
                packet = self.pieces.with_ports(piece, self.now, self.is_worth_knowing)
            except Unfit as why:
                fault = str(why)
        if fault is not None:
            if is_to_vip:
                raise Drop(fault)
            if fault == "fragment" and self.passing.is_of_target(packet):
                raise Drop("fragment")
            # A martian of another family is nobody's VIP, but must not look like one either.
            return self.mapped_or_punt(packet, fault)
        if packet.protocol in (ICMP, ICMP6):
            return self.walk_icmp(packet, is_to_vip)
        listener = self.listener_of(packet)
        if listener is not None:
            return self.from_client(packet, listener)
        return self.from_target(packet, is_to_vip)

    def listener_of(self, packet: Packet) -> Listener | None:
        return self.config.listener_at(packet.destination, packet.ports[1], packet.protocol)

    def is_worth_knowing(self, first: Packet) -> bool:
        """Whether anybody but the kernel may want to know whose the rest is."""
        if self.listener_of(first) is not None:
            return True
        if first.destination in self.config.vips:
            return self.config.policy(first.destination).no_listener == "kernel"
        port = struct.pack("!H", first.ports[0])
        return self.passing.is_service(first.source, port, first.protocol)

    def mapped_or_punt(self, packet: Packet, fault: str) -> str:
        if isinstance(packet.destination, ipaddress.IPv6Address):
            if packet.destination.ipv4_mapped in self.config.vips:
                raise Drop(fault)
        return self.punt(packet.frame)

    def walk_icmp(self, packet: Packet, is_to_vip: bool) -> str:
        quoted = quoted_in(packet)
        if quoted is not None and quoted.source == packet.destination:
            listener = self.config.listener_at(quoted.source, quoted.ports[0], quoted.protocol)
            if listener is not None:
                return self.error_to_target(packet, quoted, listener)
            target = (quoted.destination, struct.pack("!H", quoted.ports[1]), quoted.protocol)
            is_own = packet.destination in self.config.local
            if not is_to_vip and not is_own and self.passing.is_service(*target):
                return self.error_to_client(packet, quoted)
        if not is_to_vip:
            return self.punt(packet.frame)
        request, answer = (8, 0) if packet.version == 4 else (128, 129)
        if packet.segment[:2] != bytes([request, 0]):
            raise Drop("icmp")
        if packet.source.is_unspecified:
            raise Drop("martian")
        if self.config.policy(packet.destination).echo == "no":
            raise Drop("no_echo")
        before = struct.unpack("!H", packet.segment[2:4])[0]
        sum_after = (0xFFFF - before) + (answer << 8) + (0xFFFF - (request << 8))
        while sum_after > 0xFFFF:
            sum_after = (sum_after & 0xFFFF) + (sum_after >> 16)
        after = (0xFFFF - sum_after) or 0xFFFF
        body = bytes([answer, 0]) + struct.pack("!H", after) + packet.segment[4:]
        ip = bytearray(packet.frame[14 : 14 + packet.header])
        turn_ip(ip, packet)
        pad = packet.frame[14 + packet.length :]
        link = packet.frame[6:12] + self.config.node_mac + packet.frame[12:14]
        return f"reply 0 {(link + bytes(ip) + body + pad).hex()}"

    def reset(self, packet: Packet) -> str:
        if packet.flags & RST:
            raise Drop("unwanted_rst")
        link = packet.frame[6:12] + self.config.node_mac + packet.frame[12:14]
        return f"reply 0 {(link + answering_reset(packet)).hex()}"

    def end_late(self, packet: Packet, flow: Flow, other: str) -> str:
        """The first late segment becomes the other side's RST, the next one is answered."""
        told = f"told_{other}"
        if packet.flags & (SYN | RST) or told in flow.flags or packet.hops < 2:
            return self.reset(packet)
        flow.flags.add(told)
        last = passing_reset(packet)
        if other == "target":
            return self.to_target(last, flow.listener)
        return self.to_client(last, flow.listener, flow.router)

    def from_client(self, packet: Packet, listener: Listener) -> str:
        client = (packet.source, packet.ports[0], packet.protocol)
        flow = self.flows.get((client, listener))
        is_syn = bool(packet.flags & SYN)
        if flow is not None:
            if flow.state != "expired" and self.is_idle(flow):
                self.expire(flow)
            starts_over = is_syn and flow.state in ("expired", "closed") and not flow.is_reset
            if starts_over or (flow.state == "expired" and packet.protocol == UDP):
                flow = None
        if flow is None:
            self.flows.pop((client, listener), None)
            return self.start_flow(packet, listener, client)
        if flow.state == "expired":
            return self.end_late(packet, flow, "target")
        if is_syn and flow.state != "syn":
            flow.flags.add("syn_again")
        if flow.state == "udp_new" and "reply" in flow.flags:
            flow.state = "udp"
        self.track(flow, packet, "client")
        self.note_client(flow)
        if not packet.flags & (SYN | FIN | RST):
            flow.router = packet.frame[6:12]
        return self.to_target(packet, listener)

    def note_client(self, flow: Flow) -> None:
        self.asked += 1
        flow.seen, flow.asked, flow.has_spoken = self.now, self.asked, True

    def is_no_source(self, source: Address) -> bool:
        is_own = source in [*self.config.vips, *self.config.local]
        return is_own or (source.version == 6 and source.is_link_local)

    def is_no_client(self, source: Address, listener: Listener) -> bool:
        is_target = listener.target.is_nat and source == listener.target.address
        return is_target or self.is_no_source(source)

    def error_to_target(self, packet: Packet, quoted: Quoted, listener: Listener) -> str:
        client = (quoted.destination, quoted.ports[1], quoted.protocol)
        is_bad = is_martian(packet.source, packet.destination)
        if is_bad or self.is_no_source(packet.source):
            raise Drop("martian")
        if (client, listener) not in self.flows:
            if self.is_no_client(client[0], listener) or is_martian(client[0], listener.vip):
                raise Drop("martian")
        target = listener.target
        if not target.is_nat:
            return self.to_target(packet, listener, client)
        if 0 < target.mtu < packet.length:
            raise Drop("too_big")
        return self.renamed(packet, quoted, True, (target.address, target.port), target.mac)

    def error_to_client(self, packet: Packet, quoted: Quoted) -> str:
        client = (quoted.source, quoted.ports[0], quoted.protocol)
        if packet.source.is_unspecified:
            raise Drop("martian")
        target = (quoted.destination, quoted.ports[1])
        found = self.flows_to(client, target)
        if not found:
            raise Drop("icmp")
        flow = self.best_of(found, 0, quoted.protocol)
        end = (flow.listener.vip, flow.listener.port)
        return self.renamed(packet, quoted, False, end, flow.router)

    def start_flow(self, packet: Packet, listener: Listener, client: Client) -> str:
        if self.is_no_client(packet.source, listener):
            raise Drop("martian")
        if not packet.flags & RST:
            state = "established"
            if packet.protocol == UDP:
                state = "udp_new" if listener.target.is_nat else "udp"
            if packet.flags & FIN:
                state = "closing"
            if packet.flags & SYN:
                state = "syn"
            flow = Flow(client, listener, state, self.now, packet.frame[6:12])
            if packet.flags & FIN:
                flow.flags.add("fin_client")
            self.flows[client, listener] = flow
            self.note_client(flow)
        return self.to_target(packet, listener)

    def track(self, flow: Flow, packet: Packet, side: str) -> None:
        is_guess = side == "client" and not flow.believes(packet)
        if packet.protocol == UDP or packet.flags & SYN or is_guess:
            return
        if packet.flags & RST:
            flow.flags.add(f"rst_{side}")
            flow.state = "closed"
        elif packet.flags & FIN:
            flow.flags.add(f"fin_{side}")
            flow.settle_by_fins()
        elif flow.state == "syn":
            if side == "client":
                flow.state = "established"
                flow.flags |= {"confirmed"} if "reply" in flow.flags else set()
        elif flow.state == "closed":
            flow.flags -= RESETS
            if len(packet.segment) > (packet.segment[12] >> 4) * 4:
                flow.flags.discard(f"fin_{side}")
            flow.settle_by_fins()
        if flow.state == "closed":
            flow.flags.discard("confirmed")

    def from_target(self, packet: Packet, is_to_vip: bool) -> str:
        client = (packet.destination, packet.ports[1], packet.protocol)
        found = self.flows_to(client, (packet.source, packet.ports[0]))
        if found:
            return self.reply_of_flow(packet, self.best_of(found, packet.flags, packet.protocol))
        if is_to_vip:
            return self.without_listener(packet)
        return self.punt(packet.frame)  # a bystander's, or a question of the target's own

    def without_listener(self, packet: Packet) -> str:
        """As a host does that has no such port, where the VIP's policy wants it."""
        policy = self.config.policy(packet.destination).no_listener
        if policy == "kernel":
            return self.punt(packet.frame)
        if policy == "drop":
            raise Drop("no_listener")
        if self.is_no_source(packet.source):
            raise Drop("martian")
        if packet.is_later:
            raise Drop("no_listener")
        if packet.protocol == UDP:
            back = packet.frame[6:12] + self.config.node_mac + packet.frame[12:14]
            return f"reply 0 {(back + port_unreachable(packet)).hex()}"
        if packet.flags & RST:
            raise Drop("no_listener")
        return self.reset(packet)

    def flows_to(self, client: Client, target: tuple[Address, int]) -> list[Flow]:
        """Whose replies pass this node."""
        found = [flow for flow in self.flows.values() if flow.client == client]
        return [
            flow
            for flow in found
            if flow.listener.target.is_nat
            and (flow.listener.target.address, flow.listener.target.port) == target
        ]

    def best_of(self, found: list[Flow], flags: int, protocol: int) -> Flow:
        """The flow that lives, best a confirmed one, then the one that its client used last."""
        opens = bool(flags & SYN)

        def rank(flow: Flow) -> tuple[int, int]:
            if flow.state == "expired" or self.is_idle(flow):
                return (0, flow.asked)
            if flow.state == "syn" and opens:
                return (5, flow.asked)
            is_sure = "confirmed" in flow.flags or protocol == UDP
            return (RANKS.get(flow.state, 4 if is_sure else 3), flow.asked)

        best = max(found, key=rank)
        if opens and best.state == "syn":
            for flow in found:
                if flow.state != "syn":
                    del self.flows[flow.client, flow.listener]
        return best

    def reply_of_flow(self, packet: Packet, flow: Flow) -> str:
        if flow.state != "expired" and self.is_idle(flow):
            self.expire(flow)
        if flow.state == "expired":
            if packet.protocol == TCP:
                return self.end_late(packet, flow, "client")
            return self.punt(packet.frame)
        if packet.flags & SYN and flow.state != "syn" and "syn_again" in flow.flags:
            flow.state = "syn"
            flow.flags -= {*FINS, *RESETS, "syn_again", "confirmed"}
        self.track(flow, packet, "target")
        flow.flags.add("reply")
        if not packet.flags & (SYN | FIN | RST) and flow.state in ("established", "closing"):
            flow.flags.add("confirmed")
        flow.seen, flow.has_spoken = self.now, True
        said = self.to_client(packet, flow.listener, flow.router)
        if said.startswith("forward"):
            flow.note_answer(packet)
        return said

    def renamed(
        self,
        packet: Packet,
        quoted: Quoted,
        is_to_target: bool,
        end: tuple[Address, int],
        mac: bytes,
    ) -> str:
        if packet.hops < 2:
            raise Drop("ttl_expired")
        ip = renamed(packet, quoted, is_to_target, end)
        link = mac + self.config.node_mac + packet.frame[12:14]
        return f"forward 0 {(link + ip + packet.frame[14 + packet.length :]).hex()}"

    def to_target(self, packet: Packet, listener: Listener, client: Client | None = None) -> str:
        """`client`: of the flow that an ICMP error is about."""
        target = listener.target
        link = target.mac + self.config.node_mac + packet.frame[12:14]
        is_too_big = 0 < target.mtu < packet.length
        if target.forwarding == "dsr" and is_too_big:
            return self.answer_too_big(packet, target.mtu)
        if target.forwarding == "dsr":
            return f"forward 0 {(link + packet.frame[14:]).hex()}"
        if not target.is_nat:
            half = client or (packet.source, packet.ports[0], packet.protocol)
            return self.encapsulated(packet, link, target, half)
        if is_too_big and packet.hops >= 2:
            return self.answer_too_big(packet, target.mtu)
        ends = (packet.source, target.address)
        ports = (packet.ports[0], target.port)
        return self.translated(packet, link, ends, ports, target.mss)

    def encapsulated(self, packet: Packet, link: bytes, target: Target, client: Client) -> str:
        room = target.mtu - packet.length - overhead_of(target)
        if target.mtu and room < 0:
            return self.answer_too_big(packet, packet.length + room)
        source = self.config.encap_sources[target.address.version]
        link = link[:12] + (b"\x08\x00" if target.address.version == 4 else b"\x86\xdd")
        return f"forward 0 {(link + encapsulated(packet, target, source, client)).hex()}"

    def answer_too_big(self, packet: Packet, mtu: int) -> str:
        if packet.protocol in (ICMP, ICMP6) or packet.is_later:  # nobody is told of an error
            raise Drop("too_big")
        back = packet.frame[6:12] + self.config.node_mac + packet.frame[12:14]
        return f"reply 0 {(back + too_big(packet, mtu)).hex()}"

    def answer_expired(self, packet: Packet) -> str:
        """A router's answer (RFC 1812, section 5.3.1; RFC 4443, section 3.3)."""
        own = self.config.own.get(packet.version)
        if own is None or packet.protocol in (ICMP, ICMP6) or packet.is_later:
            raise Drop("ttl_expired")
        back = packet.frame[6:12] + self.config.node_mac + packet.frame[12:14]
        return f"reply 0 {(back + expired(packet, own)).hex()}"

    def to_client(self, packet: Packet, listener: Listener, router: bytes) -> str:
        link = router + self.config.node_mac + packet.frame[12:14]
        ends = (listener.vip, packet.destination)
        ports = (listener.port, packet.ports[1])
        return self.translated(packet, link, ends, ports, listener.target.mss)

    def translated(
        self, packet: Packet, link: bytes, ends: Ends, ports: tuple[int, int], mss: int
    ) -> str:
        if packet.hops < 2:
            return self.answer_expired(packet)
        segment = packet.segment
        if not packet.is_later:
            segment = renamed_segment(packet, ends, ports, mss)
        ip = bytearray(packet.frame[14 : 14 + packet.header])
        if packet.version == 4:
            ip[8] -= 1
            ip[10:20] = b"\0\0" + ends[0].packed + ends[1].packed
            ip[10:12] = struct.pack("!H", checksum(bytes(ip)))
        else:
            ip[7] -= 1
            ip[8:40] = ends[0].packed + ends[1].packed
        pad = packet.frame[14 + packet.length :]
        return f"forward 0 {(link + bytes(ip) + segment + pad).hex()}"
