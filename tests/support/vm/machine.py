# SPDX-License-Identifier: Apache-2.0
"""The virtual machine: QEMU, for as long as one command runs, or as somebody has use for it."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.namespace import Namespace
from lab.process import LabError, Service, wait_until
from vm.guest import AGENT, Guest
from vm.initramfs import HERE, write_initramfs
from vm.kernel import ROOT, Kernel
from vm.nic import FAR_BUS, FAR_PORT, Nic

SYSTEMD = Path("/lib/systemd/systemd")
# Of systemd's own: what would empty /tmp, where a checkout may be, and what takes long.
MASKED = ("tmpfiles-setup", "udev-trigger", "timesyncd", "pstore", "update-utmp")
# Emulation everywhere: /dev/kvm may be there and not work, as inside other virtual machines.
ACCELERATOR = os.environ.get("MILLRACE_VM_ACCEL", "tcg")
# Instructions that the tests' programs were compiled for; `max` is all that QEMU can do.
CPU = "max"
PROCESSORS = 2
CONSOLE_LINES = 40
BOOT_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Finished:
    """What the command said, and how it ended."""

    code: int
    output: str


@dataclass(frozen=True)
class Machine:
    """Each NIC is a tap device of `wire`, which the machine's user has made there."""

    kernel: Kernel
    memory_mib: int = 2048
    nics: tuple[Nic, ...] = ()
    wire: Namespace | None = None
    with_systemd: bool = False
    with_iommu: bool = False
    numa_nodes: int = 1  # each with as many processors and an equal part of the memory
    kernel_options: tuple[str, ...] = ()

    def run(
        self,
        command: Sequence[str | Path],
        *,
        timeout_s: float = 300.0,
        environment: Mapping[str, str] | None = None,
    ) -> Finished:
        """Boots, runs `command` in the repository's folder, and is gone."""
        with self._booted(command, environment or {}) as (qemu, exchange):
            try:
                wait_until(
                    lambda: not qemu.running,
                    f"the virtual machine ends `{shlex.join(map(str, command))}`",
                    timeout_s=timeout_s,
                    interval_s=0.2,
                )
            except LabError as error:
                raise LabError(f"{error}\n{_said(exchange)}") from None
            code = exchange / "code"
            if not code.exists():
                raise LabError(f"the guest did not run its command\n{_said(exchange)}")
            output = (exchange / "output").read_text(errors="replace")
            return Finished(int(code.read_text()), output)

    @contextmanager
    def guest(self) -> Iterator[Guest]:
        """Boots, and waits until the guest takes commands."""
        with self._booted([AGENT], {}) as (qemu, exchange), closing(
            Guest(exchange, self.nics)
        ) as guest:
            try:
                qemu.wait_ready(guest.answers, timeout_s=BOOT_TIMEOUT_S)
            except LabError as error:
                raise LabError(f"{error}\n{_said(exchange)}") from None
            yield guest

    @contextmanager
    def _booted(
        self, command: Sequence[str | Path], environment: Mapping[str, str]
    ) -> Iterator[tuple[Service, Path]]:
        with tempfile.TemporaryDirectory(prefix="millrace-vm-") as name:
            exchange = Path(name)
            write_initramfs(self.kernel, exchange / "initramfs")
            _write_command(exchange / "command", command, environment)
            words = self._words(exchange)
            if self.wire is not None:
                words = self.wire.command(words)
            qemu = Service("qemu", words, exchange / "console")
            qemu.start()
            try:
                yield qemu, exchange
            finally:
                qemu.stop()

    def _words(self, exchange: Path) -> list[str]:
        share = "local,security_model=passthrough,multidevs=remap"
        irqchip = ",kernel-irqchip=split" if self.with_iommu else ""
        words = ["nice", "-n", "15", "qemu-system-x86_64"]
        words += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
        words += ["-machine", f"q35{irqchip}", "-accel", ACCELERATOR, "-cpu", CPU]
        words += ["-smp", str(PROCESSORS * self.numa_nodes), "-m", f"{self.memory_mib}M"]
        words += ["-serial", "stdio"]
        words += ["-kernel", f"{self.kernel.image}", "-initrd", f"{exchange}/initramfs"]
        words += ["-append", " ".join(self._kernel_words())]
        words += ["-virtfs", f"{share},path=/,mount_tag=files,readonly=on"]
        words += ["-virtfs", f"{share},path={exchange},mount_tag=exchange"]
        if self.with_iommu:
            words += ["-device", "intel-iommu,intremap=on,caching-mode=on"]
        words += Guest.qemu_words(exchange)
        words += self._numa_words()  # behind all that finds a bus for itself
        for number, nic in enumerate(self.nics):
            words += nic.qemu_words(number)
        return words

    def _numa_words(self) -> list[str]:
        if self.numa_nodes == 1:
            return []
        words = []
        for node in range(self.numa_nodes):
            first = node * PROCESSORS
            size = self.memory_mib // self.numa_nodes
            words += ["-object", f"memory-backend-ram,id=ram{node},size={size}M"]
            cpus = f"cpus={first}-{first + PROCESSORS - 1}"
            words += ["-numa", f"node,nodeid={node},{cpus},memdev=ram{node}"]
        words += ["-device", f"pxb-pcie,id=far,bus=pcie.0,bus_nr={FAR_BUS},numa_node=1"]
        return [*words, "-device", f"pcie-root-port,id={FAR_PORT},bus=far,chassis=1"]

    def _kernel_words(self) -> list[str]:
        words = ["console=ttyS0", "quiet", "panic=-1", f"vm_modules={self.kernel.modules}"]
        # An emulated timer on a busy machine is late enough to be taken for a broken one.
        words += ["no_timer_check", "net.ifnames=0", *self.kernel_options]
        if self.with_iommu:
            words += ["intel_iommu=on", "iommu=pt"]
        if not self.with_systemd:
            return [*words, f"vm_init={HERE}/guest-init"]
        # The target that systemd makes of a command is without the services of this machine.
        words += [f"systemd.mask=systemd-{unit}.service" for unit in MASKED]
        return [*words, f"vm_init={SYSTEMD}", "fstab=no", f"systemd.run={HERE}/guest-command"]


def _write_command(
    file: Path, command: Sequence[str | Path], environment: Mapping[str, str]
) -> None:
    exports = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    words = shlex.join(str(word) for word in command)
    file.write_text(f"#!/bin/bash\ncd {ROOT}\n{''.join(exports)}exec {words}\n")
    file.chmod(0o755)


def _said(exchange: Path) -> str:
    """The command's last words and the console's, for error messages."""
    parts = []
    for name in ("output", "console"):
        file = exchange / name
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        parts += [f"--- {name}", *lines[-CONSOLE_LINES:]]
    return "\n".join(parts)
