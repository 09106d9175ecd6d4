# SPDX-License-Identifier: Apache-2.0
"""VLANs on the wires of a lab: interfaces of the kernel's, or where it is built without them TAP
devices of tagger.py. The node's control plane takes those for the kernel's (told_vlans.c)."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from lab.machine import kernel_has
from lab.namespace import Namespace
from lab.node import Node
from lab.process import Service
from lab.surroundings import mac_of

TAGGER = Path(__file__).with_name("tagger.py")


def interface_of(vlan: int) -> str:
    return f"vlan{vlan}"


@cache
def has_vlans() -> bool:
    return kernel_has("8021q")


def tell_of(node: Node, *vlans: int) -> None:
    """These VLANs of its first NIC, whether or not they are there yet. Before it starts."""
    if has_vlans():
        return
    told = [f"{interface_of(vlan)}:{node.interface(0)}:{vlan}" for vlan in vlans]
    library = node.build / "deploy" / "lab" / "libtold_vlans.so"
    words: list[str | Path] = [
        *("env", f"LD_PRELOAD={library}", f"MILLRACE_TOLD_VLANS={' '.join(told)}"),
        *node.controlplane_words(),
    ]
    node.controlplane = node.namespace.service("controlplane", words)


class Vlans:
    """Those that a test makes. The lab ends what they need with the hosts."""

    def __init__(self) -> None:
        self._taggers: dict[tuple[str, int], Service] = {}

    def add(self, host: Namespace, below: str, vlan: int, *own: str) -> str:
        """The interface, with its own addresses (and their prefix lengths)."""
        name = interface_of(vlan)
        if has_vlans():
            words = ["link", below, "name", name, "type", "vlan", "id", str(vlan)]
            host.ip("link", "add", *words)
        else:
            self._tag(host, below, vlan)
        host.ip("link", "set", name, "address", mac_of(host, below), "up")
        for address in own:
            host.add_address(name, address)
        return name

    def _tag(self, host: Namespace, below: str, vlan: int) -> None:
        name = interface_of(vlan)
        words: list[str | Path] = [sys.executable, TAGGER, below, str(vlan), name]
        service = host.service(f"tagger{vlan}", [*words, mac_of(host, below)])
        self._taggers[host.name, vlan] = service
        service.start()
        service.wait_ready(lambda: f"{name}:" in host.ip("link", "show"))

    def remove(self, host: Namespace, vlan: int) -> None:
        if tagger := self._taggers.pop((host.name, vlan), None):
            tagger.stop()
        else:
            host.ip("link", "delete", interface_of(vlan))

    def close(self) -> None:
        for tagger in self._taggers.values():
            tagger.stop()
