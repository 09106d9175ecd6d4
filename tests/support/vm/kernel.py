# SPDX-License-Identifier: Apache-2.0
"""Kernels of Debian's packages, unpacked beside the build and never installed: the machine that
runs the tests keeps its own, and no boot loader learns of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.process import LabError, run

ROOT = Path(__file__).resolve().parents[3]
KERNELS = ROOT / "build" / "vm"
DOWNLOAD_TIMEOUT_S = 300.0
# Debian 12's own; linux-image-VERSION-amd64 names another one.
STANDARD = "linux-image-amd64"


@dataclass(frozen=True)
class Kernel:
    """An unpacked package; `release` is what `uname --kernel-release` says in the guest."""

    folder: Path
    release: str

    @classmethod
    def find(cls, package: str = STANDARD) -> Kernel:
        """Downloads and unpacks it the first time."""
        marker = KERNELS / package
        if not marker.exists():
            _unpack(_package_of(package), marker)
        releases = [path.name for path in (marker / "lib" / "modules").iterdir()]
        return cls(marker, releases[0])

    @property
    def image(self) -> Path:
        return self.folder / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.folder / "lib" / "modules"

    def in_order(self, names: Sequence[str]) -> list[Path]:
        """Files of these modules and of all that they need, in an order that they can be loaded
        in; what is built into the kernel is left out."""
        needs: dict[str, list[str]] = {}
        for line in (self.modules / self.release / "modules.dep").read_text().splitlines():
            module, _, needed = line.partition(":")
            needs[module] = needed.split()
        order: list[str] = []
        for name in names:
            fitting = [module for module in needs if _name_of(module) == name]
            for module in [m for found in fitting for m in (*reversed(needs[found]), found)]:
                if module not in order:
                    order.append(module)
        return [self.modules / self.release / module for module in order]


def _name_of(module: str) -> str:
    return Path(module).name.partition(".")[0].replace("-", "_")


def _package_of(package: str) -> str:
    """A package that depends on today's kernel stands for that one."""
    shown = run(["apt-cache", "depends", "--important", package]).stdout
    found = re.search(r"Depends: (linux-image-\S+)", shown)
    return found[1] if found else package


def _unpack(package: str, folder: Path) -> None:
    partial = folder.with_suffix(".partial")
    run(["rm", "--recursive", "--force", partial])
    (partial / "download").mkdir(parents=True)
    try:
        words = ["apt-get", "download", "--option", "APT::Sandbox::User=root", package]
        run(["env", "--chdir", partial / "download", *words], timeout_s=DOWNLOAD_TIMEOUT_S)
    except LabError as error:
        raise LabError(f"no kernel package {package} (apt-get update?): {error}") from None
    for archive in (partial / "download").iterdir():
        run(["dpkg", "--extract", archive, partial], timeout_s=DOWNLOAD_TIMEOUT_S)
        archive.unlink()
    (partial / "download").rmdir()
    release = next((partial / "lib" / "modules").iterdir()).name
    run(["depmod", "--basedir", partial, release], timeout_s=DOWNLOAD_TIMEOUT_S)
    partial.rename(folder)
