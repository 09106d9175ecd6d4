# SPDX-License-Identifier: Apache-2.0
"""For the plain model: what is remembered of a flow."""

from __future__ import annotations

from dataclasses import dataclass, field

from plain_config import Address, Listener

TIMEOUTS = {"syn": 10, "established": 350, "closing": 60, "closed": 5, "reset": 40}
TIMEOUTS |= {"udp_new": 20, "udp": 120, "expired": 30}
RESETS, FINS = {"rst_client", "rst_target"}, {"fin_client", "fin_target"}
Client = tuple[Address, int, int]  # address, port, protocol
# How well a flow fits a target's packet that fits several.
RANKS = {"closed": 1, "syn": 2}


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

    @property
    def is_reset(self) -> bool:
        return self.state == "closed" and bool(self.flags & RESETS)

    def settle_by_fins(self) -> None:
        fins = len(self.flags & FINS)
        self.state = ("established", "closing", "closed")[fins]
