# SPDX-License-Identifier: Apache-2.0
"""The guest as a Millrace node, installed as an operator would: units, files below /etc, and NICs
on the PCI bus. Clients and targets are the lab's, on this machine, at the other end of the wires.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import Lab, Layout, Namespace, addresses
from lab.node import build_directory
from lab.process import wait_until
from lab.surroundings import VLAN_INTERFACE
from lab.traffic import connect_many, dns_query, ping
from lab.wires import CLIENT_BRIDGE, TARGET_BRIDGE
from vm.guest import Guest
from vm.kernel import Kernel
from vm.machine import Machine
from vm.nic import Nic

TWIN = "twin0"
# An emulated processor has enough to do: two targets, and nothing beside what a test asks.
LAYOUT = Layout(targets=2, hugepages=0, noise_per_second=0, bystander=False, second_mac=False)
ETC = Path("/etc/millrace")
LIBEXEC = Path("/usr/local/libexec/millrace")
MILLRACE = "/usr/local/bin/millrace"
CONTROL_PLANE = "millrace-controlplane"
ENGINES = {"xdp": "millrace-xdp", "dpdk": "millrace-dataplane"}
NODE_ADDRESSES = (
    f"{addresses.NODE_CLIENT_V4}/24",
    f"{addresses.NODE_TARGET_V4}/24",
    f"{addresses.NODE_CLIENT_V6}/64",
    f"{addresses.NODE_TARGET_V6}/64",
)
# An emulated engine takes a minute and more to be back. The waits between TCP's attempts double
# until then, and a connection would stand still as long again. (Linux 6.15; elsewhere it does.)
STEADY_TCP = {"net.ipv4.tcp_rto_max_ms": "2000", "net.ipv4.tcp_retries2": "200"}
HAS_STEADY_TCP = Path("/proc/sys/net/ipv4/tcp_rto_max_ms").exists()


class WireLab(Lab):
    """A lab whose switch has a tap for each NIC of a guest, but for those that have a cable to each
    other, in place of a node of its own."""

    def __init__(self, layout: Layout, nics: Sequence[Nic]) -> None:
        super().__init__(layout)
        self._nics = nics

    def host(self, role: str) -> Namespace:
        host = super().host(role)
        if HAS_STEADY_TCP:
            host.sysctls(STEADY_TCP)
        return host

    def _make_node(self) -> None:
        for index, nic in enumerate(self._nics):
            if nic.cable:
                continue
            nic.make_tap(self.switch.namespace)
            is_targets = self.layout.two_nics and index > 0
            self.switch.add_port(nic.name, TARGET_BRIDGE if is_targets else CLIENT_BRIDGE)

    def assert_served(self) -> None:
        """The client, by the VIPs, and by the node's own addresses."""
        for vip in (addresses.VIP_V4, addresses.VIP_V6):
            assert len(connect_many(self.client, vip, 20, parallel=4)) == 20
            assert len(dns_query(self.client, vip, 4)) == 4
            assert ping(self.client, vip, count=1) == 1
        for own in (addresses.NODE_CLIENT_V4, addresses.NODE_CLIENT_V6):
            assert ping(self.client, own, count=1) == 1

    def forget_neighbours(self) -> None:
        """The node's addresses are at another NIC now."""
        for host in (*self.clients, self.remote, *(one.namespace for one in self.targets)):
            host.forget_neighbours("eth0")
        self.client.forget_neighbours(VLAN_INTERFACE)


class GuestNode:
    """Commands as README and runbook say them."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.run = guest.run

    def install(self) -> None:
        words = ["meson", "install", "--no-rebuild", "--quiet", "-C"]
        self.run([*words, build_directory()], timeout_s=200)
        self.run(["systemd-sysusers"])
        # The virtual machine's own files are none of its business.
        self.run(["systemd-tmpfiles", "--create", "/usr/local/lib/tmpfiles.d/millrace.conf"])
        self.systemctl("daemon-reload")

    def systemctl(self, *words: str, check: bool = True) -> int:
        return self.run(["systemctl", *words], check=check, timeout_s=100).returncode

    def property_of(self, unit: str, name: str) -> str:
        return self.run(["systemctl", "show", "--value", f"--property={name}", unit]).stdout.strip()

    def main_pid(self, unit: str) -> int:
        return int(self.property_of(unit, "MainPID"))

    def crash(self, unit: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Until systemd has it running again."""
        before = self.main_pid(unit)
        self.run(["kill", f"-{number:d}", str(before)])
        wait_until(
            lambda: self.main_pid(unit) not in (0, before)
            and self.property_of(unit, "ActiveState") == "active",
            f"{unit} is back",
            timeout_s=30,
        )

    def journal(self, unit: str) -> str:
        return self.run(["journalctl", "--no-pager", "--output=cat", f"--unit={unit}"]).stdout

    def write_config(self, config: Mapping[str, Any], engine: str) -> None:
        own = {**config, "node": {**config.get("node", {}), "engine": engine}}
        self.write_text(json.dumps(own, indent=1))  # JSON is YAML

    def write_text(self, text: str) -> None:
        """As the config, whatever it is."""
        self.guest.write(ETC / "millrace.yaml", text)

    @contextmanager
    def drop_in(self, unit: str, text: str) -> Iterator[None]:
        """Other settings for a unit, for a while."""
        folder = Path("/run/systemd/system", f"{unit}.service.d")
        self.run(["mkdir", "--parents", folder])
        self.guest.write(folder / "test.conf", text)
        self.systemctl("daemon-reload")
        try:
            yield
        finally:
            self.run(["rm", "--recursive", folder])
            self.systemctl("daemon-reload")

    def write_environment(self, unit: str, values: Mapping[str, str]) -> None:
        lines = [f"{name}={value}\n" for name, value in values.items()]
        self.guest.write(ETC / f"{unit.removeprefix('millrace-')}.env", "".join(lines))

    def environment(self, unit: str) -> dict[str, str]:
        """As it was written last, by an installation or by write_environment()."""
        lines = self.guest.read(ETC / f"{unit.removeprefix('millrace-')}.env").splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def give_addresses(
        self,
        interface: str,
        given: Sequence[str] = NODE_ADDRESSES,
        *,
        words: Sequence[str] = (),
    ) -> None:
        for address in given:
            dad = ["nodad"] if ":" in address else []
            self.run(["ip", "address", "replace", address, "dev", interface, *dad])
        self.run(["ip", "link", "set", interface, "up", *words])

    def take_addresses(self, interface: str) -> None:
        self.run(["ip", "address", "flush", "dev", interface])

    def driver_of(self, pci_address: str) -> str:
        done = self.run(["readlink", f"/sys/bus/pci/devices/{pci_address}/driver"], check=False)
        return Path(done.stdout.strip()).name

    def interface_of(self, pci_address: str) -> str:
        """That the kernel's own driver has made of the NIC; empty without one."""
        folder = f"/sys/bus/pci/devices/{pci_address}/"
        words = ["find", folder, "-maxdepth", "3", "-regex", ".*/net/[^/]*"]
        return Path(self.run(words).stdout.strip()).name

    def host_check(self, *words: str) -> str:
        """What it says; its exit code is not looked at."""
        words = (str(LIBEXEC / "host-check"), *words)
        return self.run(words, check=False, timeout_s=60).stdout

    def host_setup(self, *words: str) -> str:
        return self.run([LIBEXEC / "host-setup", *words], timeout_s=60).stdout

    def millrace(self, *words: str) -> Any:
        return json.loads(self.run([MILLRACE, *words, "--json"]).stdout)

    def alarms(self) -> list[str]:
        found: list[str] = self.millrace("status")["alarms"]
        return found

    def wait_forwarding(self, targets: Sequence[str] = ("healthy",)) -> None:
        """Until the engine has the newest config, and all targets are in one of these states."""

        def forwards() -> bool:
            if self.run([MILLRACE, "status"], check=False).returncode != 0:
                return False
            status = self.millrace("status")
            groups = self.millrace("targets")["target_groups"]
            states = [target["state"] for group in groups for target in group["targets"]]
            return (
                status["engine"]["running"]
                and status["engine"]["adopted_generation"] == status["generation"] > 0
                and all(state in targets for state in states)
            )

        wait_until(forwards, "the engine forwards", timeout_s=20, interval_s=0.2)


@contextmanager
def installed_node(
    kernel: Kernel, layout: Layout, nics: Sequence[Nic], **hardware: Any
) -> Iterator[tuple[WireLab, GuestNode]]:
    """A lab, and a guest with systemd on its switch in which Millrace is installed. `hardware` is
    what else a Machine may have."""
    lab = WireLab(layout, nics)
    with lab:
        machine = Machine(
            kernel,
            memory_mib=3072,
            nics=tuple(nics),
            wire=lab.switch.namespace,
            with_systemd=True,
            **hardware,
        )
        with machine.guest() as guest:
            node = GuestNode(guest)
            # As a host's udev would.
            for module, parameters in sorted({(nic.module, nic.module_parameters) for nic in nics}):
                node.run(["modprobe", module, *parameters.split()])
            node.install()
            yield lab, node
