# SPDX-License-Identifier: Apache-2.0
"""The archive that the guest's kernel starts from: busybox, a script, and the modules that it
takes to reach this machine's files and the guest's NICs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from lab.process import LabError
from vm.kernel import Kernel

HERE = Path(__file__).resolve().parent
BUSYBOX = Path("/bin/busybox")
MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")


def write_initramfs(kernel: Kernel, archive: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("bin", "modules", "proc", "dev", "lower", "upper", "merged"):
            (root / folder).mkdir()
        shutil.copy2(BUSYBOX, root / "bin" / "busybox")
        shutil.copy2(HERE / "early-init", root / "init")
        # Their names say the order.
        for number, module in enumerate(kernel.in_order(MODULES)):
            shutil.copy2(module, root / "modules" / f"{number:02}-{module.name}")
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        words = [str(BUSYBOX), "cpio", "-o", "-H", "newc"]
        with archive.open("wb") as file:
            done = subprocess.run(
                words,
                input=names.encode(),
                cwd=root,
                stdout=file,
                stderr=subprocess.PIPE,
                check=False,
            )
    if done.returncode != 0:
        raise LabError(f"cannot write {archive}: {done.stderr.decode()}")
