# SPDX-License-Identifier: Apache-2.0
"""The (VIP, port) pairs that lead to the same targets, as the node's config says: what clients ask
goes to all of them by turns (traffic.py)."""

from __future__ import annotations

from lab.node import Node


class Endpoints:
    def __init__(self, node: Node) -> None:
        self._node = node

    def like(self, protocol: str, address: str, port: int) -> list[tuple[str, int]]:
        """That one first, then the others of its load balancer, family and target groups."""
        asked = (address, port)
        for balancer in (self._node.config or {}).get("load_balancers", []):
            taking = (protocol, "TCP_UDP")
            listeners = [one for one in balancer["listeners"] if one["protocol"] in taking]
            own = [one for one in listeners if one["port"] == port]
            if address not in balancer["addresses"] or not own:
                continue
            groups = own[0]["default_target_groups"]
            alike = [one["port"] for one in listeners if one["default_target_groups"] == groups]
            ports = [number for number in alike if isinstance(number, int)]  # not ranges
            vips = [one for one in balancer["addresses"] if (":" in one) == (":" in address)]
            others = [(vip, number) for vip in vips for number in ports]
            return [asked, *(other for other in others if other != asked)]
        return [asked]
