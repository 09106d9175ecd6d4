# SPDX-License-Identifier: Apache-2.0
"""A NIC on the guest's PCI bus, and the other end of its wire: a tap device, or another NIC of the
same guest."""

from __future__ import annotations

from dataclasses import dataclass

from lab.namespace import Namespace

FIRST_SLOT = 0x10
# The slot that a machine with two NUMA nodes has at the second one: a bridge of that node's own.
FAR_BUS = 0x40
FAR_PORT = "far-port"


@dataclass(frozen=True)
class Nic:
    """`model` and `properties` are a device's of QEMU, `module` is the kernel's driver for it."""

    name: str
    model: str = "virtio-net-pci"
    properties: str = ""
    module: str = "virtio_net"
    module_parameters: str = ""
    queues: int = 1  # of the tap, each way
    is_far: bool = False  # at the second NUMA node; one NIC can be
    cable: int = 0  # both NICs with this number are the ends of one cable; 0: a tap

    def pci_address(self, number: int) -> str:
        if self.is_far:
            return f"0000:{FAR_BUS + 1:02x}:00.0"
        return f"0000:00:{FIRST_SLOT + number:02x}.0"

    def mac(self, number: int) -> str:
        return f"02:00:00:00:10:{number + 1:02x}"

    def make_tap(self, wire: Namespace) -> None:
        multi = ["multi_queue"] if self.queues > 1 else []
        wire.run(["ip", "tuntap", "add", "dev", self.name, "mode", "tap", *multi])

    def qemu_words(self, number: int) -> list[str]:
        queues = f",queues={self.queues}" if self.queues > 1 else ""
        if self.cable:
            # QEMU's hubs pass on every frame, where a bridge keeps LACP's to itself.
            end = f"hubport,id={self.name},hubid={self.cable}"
        else:
            end = f"tap,id={self.name},ifname={self.name},script=no,downscript=no,vhost=off{queues}"
        where = f"bus={FAR_PORT}" if self.is_far else f"addr={FIRST_SLOT + number:#x}"
        slot = f"{where},mac={self.mac(number)},romfile="
        properties = f",{self.properties}" if self.properties else ""
        return ["-netdev", end, "-device", f"{self.model},netdev={self.name},{slot}{properties}"]


# With MSI-X, QEMU's device loses the interrupt of a link that changes, and the guest goes on as if
# nothing was. By the legacy interrupt it comes.
E1000E = Nic("e1000e", "e1000e", module="e1000e", module_parameters="IntMode=0")
ONE_QUEUE = Nic("virtio1", "virtio-net-pci-transitional")
QUEUES = Nic("virtio4", "virtio-net-pci-transitional", "mq=on,rss=on,vectors=10", queues=4)
