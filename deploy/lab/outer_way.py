# SPDX-License-Identifier: Apache-2.0
"""How packets travel inside packets: by ipip or gue, to targets of the VIP's address family or of
the other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OuterWay:
    forwarding: str
    crosses: bool  # the targets have addresses of the other family than the VIP

    def __str__(self) -> str:
        return f"{self.forwarding}-across" if self.crosses else self.forwarding

    def goes_by_v6(self, vip: str) -> bool:
        return (":" in vip) != self.crosses

    def overhead(self, vip: str) -> int:
        """Bytes around a packet."""
        header = 40 if self.goes_by_v6(vip) else 20
        return header + (8 if self.forwarding == "gue" else 0)

    def device(self, vip: str) -> str:
        """Of the target's kernel, which takes packets out."""
        if self.goes_by_v6(vip):
            return "in6"
        return "sit0" if ":" in vip else "tunl0"


OUTER_WAYS = [OuterWay(mode, crosses) for crosses in (False, True) for mode in ("ipip", "gue")]
