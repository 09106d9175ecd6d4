# SPDX-License-Identifier: Apache-2.0
"""How packets travel inside packets: by ipip or gue, to targets of the VIP's address family or of
the other."""

from __future__ import annotations

from dataclasses import dataclass

from lab.addresses import FAR_TARGET_V4, FAR_TARGET_V6
from lab.configs import Config, config, group


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


def to_far_target(way: OuterWay) -> Config:
    """HTTP by the target behind a router."""
    names = {"ipv4": "far-4", "ipv6": "far-6"}
    if way.crosses:
        names = {"ipv4": "far-6", "ipv6": "far-4"}
    return config(
        [{"protocol": "TCP", "port": 80, "default_target_groups": names}],
        [
            group("far-4", "TCP", 80, [{"id": FAR_TARGET_V4}], forwarding=way.forwarding),
            group("far-6", "TCP", 80, [{"id": FAR_TARGET_V6}], forwarding=way.forwarding),
        ],
    )
