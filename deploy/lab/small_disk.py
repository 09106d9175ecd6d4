# SPDX-License-Identifier: Apache-2.0
"""A node whose disk is small enough to be filled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .node import Node
from .process import run


def store_files(node: Node) -> list[Path]:
    return sorted(node.state_dir.glob("state.db*"))


@contextmanager
def small_disk(node: Node) -> Iterator[Path]:
    """The control plane, stopped, with its store on a file system of its own; yields a file that
    may fill it."""
    node.controlplane.stop()
    kept = [(file.name, file.read_bytes()) for file in store_files(node)]
    run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", node.state_dir])
    try:
        for name, content in kept:
            (node.state_dir / name).write_bytes(content)
        yield node.state_dir / "filler"
    finally:
        node.controlplane.stop()
        files = [(file.name, file.read_bytes()) for file in store_files(node)]
        run(["umount", node.state_dir])
        for name, content in files:
            (node.state_dir / name).write_bytes(content)
        for file in store_files(node):
            if file.name not in {name for name, _ in files}:
                file.unlink()


def fill(path: Path) -> None:
    """Until not a byte fits any more."""
    with path.open("wb", buffering=0) as file:
        try:
            for size in (1 << 16, 1 << 12, 1):
                while file.write(bytes(size)) == size:
                    pass
        except OSError:
            pass
    with path.open("ab", buffering=0) as file:
        try:
            while file.write(bytes(64)):
                pass
        except OSError:
            pass
