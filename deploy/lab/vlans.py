# SPDX-License-Identifier: Apache-2.0
"""VLANs on the wires of a lab: interfaces of the kernel's, or where it is built without them TAP
devices of tagger.py. The node's control plane takes those for the kernel's (told_vlans.c).

Clients are in VLAN 10, a target in VLAN 20, and later also in VLAN 30, beside untagged ones. The
other VIPs are asked for in VLAN 10, the first ones untagged. Port 81 (UDP: 54) has the target in
VLAN 20; ports 80 and 53 have those of the lab's ordinary network; 82 and 55 the one in VLAN 30.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from lab.addresses import OTHER_VIP_V4, OTHER_VIP_V6, VIP_V4, VIP_V6
from lab.configs import Config, config, group, listener, pair
from lab.machine import kernel_has
from lab.namespace import Namespace
from lab.node import Node
from lab.process import Service
from lab.surroundings import mac_of
from lab.target import DNS_PORT, HTTP_PORT, Target

TAGGER = Path(__file__).with_name("tagger.py")
CLIENTS, TARGETS, LATE = 10, 20, 30
CLIENT = {4: "192.0.10.100", 6: "2001:db8:a::100"}
NODE = {
    CLIENTS: {4: "192.0.10.1", 6: "2001:db8:a::1"},
    TARGETS: {4: "10.0.20.1", 6: "fd00:10:20::1"},
    LATE: {4: "10.0.30.1", 6: "fd00:10:30::1"},
}
TARGET = {
    TARGETS: {4: "10.0.20.12", 6: "fd00:10:20::12"},
    LATE: {4: "10.0.30.12", 6: "fd00:10:30::12"},
}
UNTAGGED_VIP = {4: VIP_V4, 6: VIP_V6}
TAGGED_VIP = {4: OTHER_VIP_V4, 6: OTHER_VIP_V6}
LENGTH = {4: 24, 6: 64}
WHOLE = {4: 32, 6: 128}


def own(addresses: dict[int, str]) -> list[str]:
    return [f"{address}/{LENGTH[family]}" for family, address in addresses.items()]


def vlan_config(*vlans: int) -> Config:
    """With the target in these VLANs."""
    listeners = [listener("TCP", 80, "http"), listener("UDP", 53, "dns")]
    groups = [
        *pair("http", "TCP", HTTP_PORT, members=(1, 2)),
        *pair("dns", "UDP", DNS_PORT, members=(1, 2)),
    ]
    for vlan, name, http, dns in ((TARGETS, "far", 81, 54), (LATE, "late", 82, 55)):
        if vlan in vlans:
            listeners += [listener("TCP", http, f"{name}-http")]
            listeners += [listener("UDP", dns, f"{name}-dns")]
            groups += _groups_in(vlan, name)
    return config(listeners, groups)


def _groups_in(vlan: int, name: str) -> list[Config]:
    found = []
    for kind, protocol, port in (("http", "TCP", HTTP_PORT), ("dns", "UDP", DNS_PORT)):
        for family, address in TARGET[vlan].items():
            targets = [{"id": address}]
            found.append(group(f"{name}-{kind}-{family}", protocol, port, targets))
    return found


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

    def add_client(self, client: Namespace) -> None:
        """In the clients' VLAN, by which it asks for the VIPs that are asked for there."""
        name = self.add(client, "eth0", CLIENTS, *own(CLIENT))
        for family, vip in TAGGED_VIP.items():
            way = [f"{vip}/{WHOLE[family]}", "dev", name, "src", CLIENT[family]]
            client.ip(f"-{family}", "route", "replace", *way)
        client.siblings = lambda protocol, address, port: [(address, port)]

    def add_target(self, target: Target, vlan: int) -> None:
        """What it sends from its address in the VLAN goes to the node in the VLAN."""
        host = target.namespace
        name = self.add(host, "eth0", vlan, *own(TARGET[vlan]))
        for family, address in TARGET[vlan].items():
            host.ip(f"-{family}", "rule", "add", "from", address, "lookup", str(vlan))
            way = ["default", "via", NODE[vlan][family], "dev", name, "table", str(vlan)]
            host.ip(f"-{family}", "route", "replace", *way)

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
