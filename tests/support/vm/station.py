# SPDX-License-Identifier: Apache-2.0
"""A node in a guest with one of its NICs taken by an engine, set up as README says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vm.nic import Nic
from vm.node import CONTROL_PLANE, ENGINES, TWIN, GuestNode, WireLab

HUGEPAGES = 192
FLOW_DIR = "/dev/hugepages/millrace"
XDP = "/usr/local/sbin/millrace-xdp"


@dataclass(frozen=True)
class Place:
    """`taken_by` is what has the NIC: "xdp" and "xdp-generic" leave it to the kernel, and so does
    "af_xdp"; "pci" gives it to DPDK."""

    nic: Nic
    taken_by: str
    workers: int = 1
    queues: int = 0  # that the engine is told to use; 0: nothing is said

    @property
    def engine(self) -> str:
        return "xdp" if self.taken_by.startswith("xdp") else "dpdk"

    @property
    def unit(self) -> str:
        return ENGINES[self.engine]

    def __str__(self) -> str:
        queues = f"-{self.queues}q" if self.queues else ""
        return f"{self.nic.name}-{self.taken_by}{queues}-{self.workers}"


@dataclass(frozen=True)
class NicWorld:
    """A guest, with the places that are tried in it one after the other."""

    name: str
    places: tuple[Place, ...]

    @property
    def nics(self) -> list[Nic]:
        return list(dict.fromkeys(place.nic for place in self.places))


class Station:
    """The node on one place, with `config`."""

    def __init__(
        self, lab: WireLab, node: GuestNode, place: Place, config: Mapping[str, Any]
    ) -> None:
        self.lab, self.node, self.place, self.config = lab, node, place, config
        number = node.guest.nics.index(place.nic)
        self.pci_address = place.nic.pci_address(number)
        self.mac = place.nic.mac(number)
        self.interface = node.interface_of(self.pci_address)
        self.upper = TWIN if place.engine == "dpdk" else self.interface
        self.mtu = lab.layout.mtu

    def set_up(self) -> None:
        node = self.node
        for nic in node.guest.nics:
            node.guest.set_link(nic, nic == self.place.nic)
        self.lab.forget_neighbours()
        node.run(["ip", "link", "set", self.interface, "up"])
        if self.place.nic.queues > 1:
            node.run(["ethtool", "--set-channels", self.interface, "combined", "2"], check=False)
        node.write_config(self.config, self.place.engine)
        node.write_environment(self.place.unit, self.environment(self.place))
        if self.place.engine == "xdp":
            node.give_addresses(self.interface)
        elif self.mtu != 1500:
            node.host_setup("twin", TWIN, self.mac)
            node.run(["ip", "link", "set", TWIN, "mtu", str(self.mtu)])
        node.systemctl("start", self.place.unit)
        assert node.property_of(self.place.unit, "ActiveState") == "active", self.said()
        if self.place.engine == "dpdk":
            node.give_addresses(TWIN)
        node.systemctl("restart", CONTROL_PLANE)
        self.dress()
        node.wait_forwarding()

    def dress(self) -> None:
        """Interfaces on top of the node's own."""

    def environment(self, place: Place) -> dict[str, str]:
        options = ["--flows 65536"]
        if place.engine == "xdp":
            options += ["--mode generic"] if place.taken_by == "xdp-generic" else []
            nic = self.interface
            return {"NIC": nic, "FORWARD": nic, "XDP_OPTIONS": " ".join(options)}
        options += [f"--workers {place.workers}"]
        options += [f"--queues {place.queues}"] if place.queues else []
        is_pci = place.taken_by == "pci"
        return {
            "NIC": self.pci_address if is_pci else self.interface,
            "NIC_OR_MAC": self.mac if is_pci else self.interface,
            "TWIN": TWIN,
            "FORWARD": TWIN,
            "HUGEPAGES": str(HUGEPAGES),
            "DATAPLANE_OPTIONS": " ".join(options),
        }

    def take_down(self) -> None:
        node = self.node
        for unit in (CONTROL_PLANE, self.place.unit):
            node.systemctl("stop", unit)
        if self.place.engine == "xdp":
            node.run([XDP, "detach"])
            node.take_addresses(self.interface)
            node.run(["ip", "link", "set", self.interface, "down"])
        else:
            node.run(["ip", "link", "delete", TWIN])
            if self.place.taken_by == "pci":
                node.host_setup("release", self.pci_address)
            else:
                node.run(["ip", "link", "set", self.interface, "down"])
        node.run(["rm", "--recursive", "--force", FLOW_DIR])

    def said(self) -> str:
        return self.node.journal(self.place.unit)

    def counter(self, name: str) -> int:
        said = self.node.millrace("counters")
        return sum(int(worker["drops"].get(name, 0)) for worker in said["workers"])
