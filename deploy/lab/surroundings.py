# SPDX-License-Identifier: Apache-2.0
"""Who else is in a network where a load balancer works: a bystander, targets that ask others,
noise, a VLAN on the same wires, an address of the node that has a MAC address of its own."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import addresses
from lab.bystander import ANSWERED, TIMEOUT_S
from lab.configs import vips
from lab.layout import Layout
from lab.namespace import Namespace
from lab.node import Node
from lab.process import Service
from lab.target import HTTP_PORT
from lab.wires import CLIENT_BRIDGE

if TYPE_CHECKING:
    from lab.lab import Lab

VLAN_INTERFACE = f"vlan{addresses.VLAN}"
SECOND_MAC_INTERFACE = "vrrp0"
# After an engine or a server has started, until all that it had is answered again.
SETTLE_S = 5.0


def add_second_mac(node: Node) -> None:
    """As VRRP daemons set it up: each address is told of by the interface that has it."""
    host, below = node.namespace, node.interface(len(node.nics) - 1)
    host.run(["ip", "link", "delete", SECOND_MAC_INTERFACE], check=False)  # of an earlier time
    words = ["link", "add", "link", below, SECOND_MAC_INTERFACE, "address", addresses.SECOND_MAC]
    host.ip(*words, "type", "macvlan", "mode", "bridge")
    # Before there is an address that the interface below would tell of.
    for interface in (below, SECOND_MAC_INTERFACE):
        host.sysctl(f"net.ipv4.conf.{interface}.arp_ignore", "1")
    with host.batched():
        host.ip("link", "set", SECOND_MAC_INTERFACE, "up")
        host.add_address(SECOND_MAC_INTERFACE, f"{addresses.SECOND_MAC_V4}/32")
        host.add_address(SECOND_MAC_INTERFACE, f"{addresses.SECOND_MAC_V6}/128")


class Surroundings:
    """Runs from when the lab stands until its end."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._layout = lab.layout
        self._witnesses: list[Service] = []
        self._taggers: dict[str, Service] = {}
        self._noise: Service | None = None
        self._read: dict[Path, int] = {}

    def start(self) -> None:
        if not self._layout.has_surroundings:
            return
        if self._layout.tagged:
            self._tag(
                self._lab.client, "eth0", (addresses.VLAN_CLIENT_V4, addresses.VLAN_CLIENT_V6)
            )
        if self._layout.bystander:
            self._start_bystander()
            self._start_relays()
        if self._layout.noise_per_second:
            self._start_noise()

    def dress(self) -> None:
        """The node gets what is on top of its interfaces, and again when those are others."""
        if self._layout.second_mac and self._layout.has_surroundings:
            add_second_mac(self._lab.node)
        if self._layout.tagged and self._layout.has_surroundings:
            host, below = self._lab.node.namespace, self._lab.node.interface(0)
            self._tag(host, below, (addresses.VLAN_NODE_V4, addresses.VLAN_NODE_V6))
            # It is a network of its own, as one for management is.
            host.sysctl(f"net.ipv4.conf.{VLAN_INTERFACE}.forwarding", "0")
            host.sysctl(f"net.ipv6.conf.{VLAN_INTERFACE}.forwarding", "0")
        self._lab.node.dress = self.dress

    def _tag(self, host: Namespace, below: str, own: tuple[str, str]) -> None:
        mac = mac_of(host, below)
        program = Path(__file__).with_name("tagger.py")
        words: list[str | Path] = [
            sys.executable,
            program,
            below,
            str(addresses.VLAN),
            VLAN_INTERFACE,
            mac,
        ]
        if before := self._taggers.pop(host.name, None):
            before.stop()
        service = self._taggers[host.name] = host.service("tagger", words)
        self._run(service)
        exists = f"{VLAN_INTERFACE}:"
        service.wait_ready(lambda: exists in host.ip("link", "show"))
        with host.batched():
            host.ip("link", "set", VLAN_INTERFACE, "address", mac, "up")
            host.add_address(VLAN_INTERFACE, f"{own[0]}/24")
            host.add_address(VLAN_INTERFACE, f"{own[1]}/64")

    def _start_bystander(self) -> None:
        host = self._lab.host("bystander")
        self._lab.switch.plug(host, "eth0", CLIENT_BRIDGE, "bystander")
        with host.batched():
            host.add_address("eth0", f"{addresses.BYSTANDER_V4}/24")
            host.add_address("eth0", f"{addresses.BYSTANDER_V6}/64")
            host.add_route("0.0.0.0/0", "via", addresses.NODE_CLIENT_V4)
            host.add_route("::/0", "via", addresses.NODE_CLIENT_V6)
        asked = [f"{one.name}={own}" for one in self._lab.targets for own in (one.v4, one.v6)]
        ports = (str(HTTP_PORT), str(self._lab.targets[0].dns_port))
        own = (addresses.BYSTANDER_V4, addresses.BYSTANDER_V6)
        program = Path(__file__).with_name("bystander.py")
        words: list[str | Path] = [sys.executable, program, "ask", *ports, *own, *asked]
        self._witnesses.append(host.service("ask", words))
        self._run(self._witnesses[-1])

    def _start_relays(self) -> None:
        program = Path(__file__).with_name("bystander.py")
        for target in self._lab.targets:
            ways = (
                f"{target.v4}={addresses.BYSTANDER_V4}",
                f"{target.v6}={addresses.BYSTANDER_V6}",
            )
            words: list[str | Path] = [
                sys.executable,
                program,
                "relay",
                str(target.dns_port),
                target.name,
                *ways,
            ]
            self._witnesses.append(target.namespace.service("relay", words))
            self._run(self._witnesses[-1])

    def _start_noise(self) -> None:
        host = self._lab.host("noise")
        self._lab.switch.plug(host, "eth0", CLIENT_BRIDGE, "noise")
        node = self._lab.node
        mac = mac_of(node.namespace, node.interface(0))
        words: list[str | Path] = [
            sys.executable,
            Path(__file__).with_name("noise.py"),
            "eth0",
            mac,
        ]
        words += [str(self._layout.noise_per_second), *(f"{vip}:80:53" for vip in vips())]
        # Nobody takes part in these handshakes, and usual would be five.
        for target in self._lab.targets:
            target.namespace.sysctl("net.ipv4.tcp_synack_retries", "2")
        self._noise = host.service("noise", words)
        self._run(self._noise)

    def _run(self, service: Service) -> None:
        self._lab.callback(service.stop)
        service.start()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """No noise inside: for who counts what clients send. Targets repeat their SYN+ACKs for
        seconds, and flows are counted when they are swept: who counts those needs another Layout.
        """
        if self._noise is None:
            yield
            return
        self._noise.send_signal(signal.SIGSTOP)
        time.sleep(0.2)  # for what is under way
        try:
            yield
        finally:
            self._noise.send_signal(signal.SIGCONT)

    def complaints(self) -> list[str]:
        """What bystander and relays found wrong since they were last asked. An answer that did not
        come is nothing while the engine or the server did not run."""
        found = []
        for service in self._witnesses:
            for line in self._new_lines(service.log):
                if not line.startswith("{"):
                    found.append(line)
                    continue
                event = json.loads(line)
                if event["result"] != ANSWERED and not self._is_excused(event):
                    found.append(f"{event['what']}: {event['result']}")
        return found

    def questions(self) -> Counter[str]:
        """That each of them has asked so far, by the name of its log."""
        return Counter({one.log.name: one.log.read_text().count("\n") for one in self._witnesses})

    def _new_lines(self, log: Path) -> list[str]:
        """Whole ones."""
        text = log.read_text() if log.exists() else ""
        end = text.rfind("\n") + 1
        start = self._read.get(log, 0)
        self._read[log] = end
        return text[start:end].splitlines()

    def _is_excused(self, event: Mapping[str, Any]) -> bool:
        if " a packet from " in f" {event['result']}" or "saw" in event["result"]:
            return False
        target = self._lab.target(event["what"].split()[1])
        return any(
            not service.running or service.changed_at > event["since"] - SETTLE_S
            for service in (self._lab.node.dataplane, *target.services)
        ) or any(
            outage.reaches(event["since"] - SETTLE_S - TIMEOUT_S)
            for outage in (self._lab.node.outage, target.outage)
        )


def mac_of(host: Namespace, interface: str) -> str:
    return str(json.loads(host.ip("-json", "link", "show", interface))[0]["address"])
