# SPDX-License-Identifier: Apache-2.0
"""What a file like common.config says, read without the code under test: for the plain model."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from pathlib import Path

from plain_vlan import in_vlan

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

TCP, UDP = 6, 17


@dataclass(frozen=True)
class Target:
    address: Address
    port: int  # 0: any, it gets the one that the client asked for
    mac: bytes
    forwarding: str
    mtu: int  # 0: no limit
    gue_port: int
    mss: int  # the largest that a SYN may announce, 0: any

    @property
    def is_nat(self) -> bool:
        return self.forwarding == "nat"


@dataclass(frozen=True)
class Listener:
    """To one port, or to several that follow each other; `any` has 0 and what follows."""

    vip: Address
    port: int
    protocol: int
    target: Target
    last: int

    def asked_for(self, port: int) -> Listener:
        """As if it had this one of its ports alone."""
        target = replace(self.target, port=self.target.port or port)
        return replace(self, port=port, last=port, target=target)


@dataclass(frozen=True)
class Policy:
    """What a VIP does with what is for no listener."""

    echo: str = "yes"
    no_listener: str = "drop"


@dataclass(frozen=True)
class EncapSource:
    address: Address
    bits: int  # the last ones of a network, which differ between flows


@dataclass
class Config:
    node_mac: bytes = b""
    default_router: bytes = b""
    listeners: list[Listener] = field(default_factory=list)
    policies: dict[Address, Policy] = field(default_factory=dict)  # of VIPs; others have none
    local: list[Address] = field(default_factory=list)
    local_macs: list[bytes] = field(default_factory=list)
    own: dict[int, Address] = field(default_factory=dict)  # by IP version
    vlans: dict[int, int] = field(default_factory=dict)  # by the index that stands for a nic's
    encap_sources: dict[int, EncapSource] = field(default_factory=dict)  # by IP version

    def listener_at(self, vip: Address, port: int, protocol: int) -> Listener | None:
        """One port by itself wins over several, and these win over any."""
        found = [
            listener
            for listener in self.listeners
            if (listener.vip, listener.protocol) == (vip, protocol)
            and listener.port <= port <= listener.last
        ]
        if not found:
            return None
        return min(found, key=lambda one: one.last - one.port).asked_for(port)

    def is_service(self, address: Address, port: int, protocol: int) -> bool:
        """Whether that is a port of a target whose replies are translated.

        A target that takes any has those from the lowest to the highest of its listeners.
        """
        spans: dict[Target, tuple[int, int]] = {}
        for listener in self.listeners:
            target = listener.target
            if (target.address, listener.protocol) != (address, protocol) or not target.is_nat:
                continue
            first, last = (target.port,) * 2 if target.port else (listener.port, listener.last)
            low, high = spans.get(target, (first, last))
            spans[target] = min(low, first), max(high, last)
        return any(low <= port <= high for low, high in spans.values())

    @property
    def vips(self) -> set[Address]:
        return {listener.vip for listener in self.listeners}

    def policy(self, vip: Address) -> Policy:
        return self.policies.get(vip, Policy())


def read_config(path: Path) -> Config:
    config = Config()
    macs: dict[str, bytes] = {}
    addresses: dict[str, str] = {}
    groups: dict[str, tuple[str, int]] = {}
    targets: dict[str, Target] = {}

    def address(text: str) -> Address:
        return ipaddress.ip_address(addresses.get(text, text))

    def option(words: list[str], name: str, otherwise: int) -> int:
        return int(words[words.index(name) + 1]) if name in words else otherwise

    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if words[0] == "mac":
            macs[words[1]] = bytes.fromhex(words[2].replace(":", ""))
        elif words[0] == "addr":
            addresses[words[1]] = words[2]
        elif words[0] == "vlan":
            config.vlans[int(words[1])] = option(words, "id", 0)
        elif words[0] == "nic":
            config.node_mac = macs[words[3]]
        elif words[0] == "group":
            groups[words[1]] = (words[2], option(words, "port", 6080))
        elif words[0] == "target":
            mac = macs[words[words.index("via") + 1]]
            if nic := option(words, "nic", 0):
                mac = in_vlan(config.vlans[nic], mac)
            forwarding, gue_port = groups[words[2]]
            mtu = option(words, "mtu", 0)
            where = address(words[3])
            mss = option(words, "mss", 0)
            port = 0 if words[4] == "any" else int(words[4])
            targets[words[2]] = Target(where, port, mac, forwarding, mtu, gue_port, mss)
        elif words[0] == "listener":
            protocol = TCP if words[3] == "tcp" else UDP
            ports = "0-65535" if words[2] == "any" else words[2]
            first, _, last = ports.partition("-")
            end = int(last or first)
            vip = address(words[1])
            config.listeners.append(Listener(vip, int(first), protocol, targets[words[4]], end))
        elif words[0] == "vip":
            said = dict(zip(words[2::2], words[3::2], strict=True))
            config.policies[address(words[1])] = Policy(**said)
        elif words[0] == "default_next_hop":
            config.default_router = macs[words[2]]
        elif words[0] == "local_mac":
            config.local_macs.append(macs[words[1]])
        elif words[0] == "local":
            config.local.append(address(words[1]))
        elif words[0] == "nic_addr":
            own = address(words[1])
            config.own[own.version] = own
        elif words[0] == "encap_source":
            source = address(words[1])
            found = EncapSource(source, option(words, "bits", 0))
            config.encap_sources[source.version] = found
    return config
