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
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGE = "linux-image-amd64"
# Releases of Debian: 12's own kernel, the newest that it offers, and one that has no way to run the
# XDP engine.
STANDARD, NEWEST, OLDEST = "bookworm", "bookworm-backports", "bullseye"


@dataclass(frozen=True)
class Kernel:
    """The kernel of a release of Debian; `release` is what `uname --kernel-release` says there."""

    folder: Path
    release: str

    @classmethod
    def find(cls, suite: str = STANDARD) -> Kernel:
        """Downloads and unpacks it the first time."""
        folder = KERNELS / suite
        if not folder.exists():
            _unpack(_Archive.of(suite), folder)
        releases = [path.name for path in (folder / "lib" / "modules").iterdir()]
        return cls(folder, releases[0])

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


class _Archive:
    """A release of Debian from where this machine has its own, without a trace in its settings."""

    def __init__(self, options: Sequence[str], name: str) -> None:
        self._options, self._name = list(options), name

    @classmethod
    def of(cls, suite: str) -> _Archive:
        if suite == STANDARD:
            return cls([], suite)
        home = KERNELS / "apt" / suite
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        source = home / "sources.list"
        source.write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
        options = {
            "Dir::State": home / "state",
            "Dir::Cache": home / "cache",
            "Dir::Etc::SourceList": source,
            "Dir::Etc::SourceParts": "/dev/null",
            "Acquire::Languages": "none",
        }
        made = cls([f"--option={name}={value}" for name, value in options.items()], suite)
        made._run("apt-get", "update")
        return made

    def package(self) -> str:
        """The one that PACKAGE, which is always today's kernel, stands for."""
        shown = self._run("apt-cache", "depends", "--important", PACKAGE)
        found = re.search(r"Depends: (linux-image-\S+)", shown)
        return found[1] if found else PACKAGE

    def download(self, package: str, folder: Path) -> None:
        self._run("apt-get", "download", "--option=APT::Sandbox::User=root", package, folder=folder)

    def _run(self, command: str, *words: str, folder: Path = ROOT) -> str:
        argv = ["env", "--chdir", str(folder), command, *self._options, *words]
        try:
            return run(argv, timeout_s=DOWNLOAD_TIMEOUT_S).stdout
        except LabError as error:
            raise LabError(f"no kernel of {self._name} (apt-get update?): {error}") from None


def _mirror() -> str:
    """Where this machine has STANDARD from."""
    shown = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)"]).stdout
    found = re.search(rf"^{STANDARD} (\S+)$", shown, re.MULTILINE)
    if found is None:
        raise LabError(f"this machine has no packages of {STANDARD}")
    return found[1]


def _unpack(archive: _Archive, folder: Path) -> None:
    partial = folder.with_suffix(".partial")
    run(["rm", "--recursive", "--force", partial])
    (partial / "download").mkdir(parents=True)
    archive.download(archive.package(), partial / "download")
    for package in (partial / "download").iterdir():
        run(["dpkg", "--extract", package, partial], timeout_s=DOWNLOAD_TIMEOUT_S)
        package.unlink()
    (partial / "download").rmdir()
    release = next((partial / "lib" / "modules").iterdir()).name
    run(["depmod", "--basedir", partial, release], timeout_s=DOWNLOAD_TIMEOUT_S)
    partial.rename(folder)
