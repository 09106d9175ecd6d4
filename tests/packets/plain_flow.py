# SPDX-License-Identifier: Apache-2.0
"""For the plain model: what is remembered of a flow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plain_config import TCP, Address, Listener

if TYPE_CHECKING:
    from plain_packet import Packet

TIMEOUTS = {"syn": 10, "established": 350, "closing": 60, "closed": 5, "reset": 40}
TIMEOUTS |= {"udp_new": 20, "udp": 120, "expired": 30}
RESETS, FINS = {"rst_client", "rst_target"}, {"fin_client", "fin_target"}
Client = tuple[Address, int, int]  # address, port, protocol
# How well a flow fits a target's packet that fits several.
RANKS = {"closed": 1, "syn": 2}
FIN, RST = 1, 4
# Bytes that a client may have under way to its target, and that a segment may begin before what the
# target has.
AHEAD, BEHIND = 16 * 2**20, 64 * 2**10


@dataclass
class Flow:
    client: Client
    listener: Listener
    state: str
    seen: float
    router: bytes
    flags: set[str] = field(default_factory=set)
    asked: int = 0  # grows with each packet of the client
    has_spoken: bool = False  # since the last sweep
    rounds: int = 0  # in which it had

    acknowledged: int = 0  # by the target; 0: nothing that was seen

    @property
    def is_reset(self) -> bool:
        return self.state == "closed" and bool(self.flags & RESETS)

    def settle_by_fins(self) -> None:
        fins = len(self.flags & FINS)
        self.state = ("established", "closing", "closed")[fins]

    def note_answer(self, packet: Packet) -> None:
        if packet.protocol == TCP:
            self.acknowledged = int.from_bytes(packet.segment[8:12], "big")

    def believes(self, packet: Packet) -> bool:
        """Whether the client's packet may be an end of the connection, if it claims to be: its
        number must be near what the target expects (RFC 5961, section 3)."""
        if packet.protocol != TCP or not packet.flags & (FIN | RST) or self.acknowledged == 0:
            return True
        sequence = int.from_bytes(packet.segment[4:8], "big")
        ahead = (sequence - self.acknowledged) % 2**32
        return ahead < AHEAD or 2**32 - ahead <= BEHIND
