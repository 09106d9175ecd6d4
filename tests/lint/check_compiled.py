# SPDX-License-Identifier: Apache-2.0
"""What the build knows: sources that no target compiles, headers that do not stand alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from tree import Finding, SourceFile, Tree

# Folders whose sources need a library that a build may do without, and the meson dependency or
# option that says so. Everything else is compiled by every build.
OPTIONAL_PARTS: dict[str, str] = {
    "dataplane/dpdk": "dpdk",
    "dataplane/worker": "dpdk",
    "dataplane/main.cc": "dpdk",
    "tests/unit/dpdk": "dpdk",
    "tests/unit/worker": "dpdk",
    "tests/integration/dpdk": "dpdk",
    "controlplane": "controlplane",
    "bench": "bench",
    "bench/worker": "dpdk",
    "bench/pktgen": "dpdk, controlplane and bench",
    "tests/unit/pktgen": "dpdk, controlplane and bench",
    "bpf": "bpf",
    "tests/abi": "abi",
}


def _introspect(build: Path, what: str) -> Any:
    shown = subprocess.run(
        ["meson", "introspect", str(build), f"--{what}"], capture_output=True, text=True, check=True
    )
    return json.loads(shown.stdout)


def _sources_of(part: Mapping[str, Any]) -> Iterator[str]:
    """Of one compiler's part of a target. Where several sources are compiled as one, meson makes a
    file that includes them."""
    yield from part["sources"]
    for made in part.get("generated_sources", []):
        if re.search(r"-unity\d+\.cpp$", made):
            yield from re.findall(r"^#include<(.*)>$", Path(made).read_text("utf-8"), re.MULTILINE)


def _flags_of_sources(tree: Tree, build: Path) -> dict[str, list[str]]:
    """Every source of every target, relative to the root, with the flags that it gets."""
    return {
        os.path.relpath(source, tree.root): part["parameters"]
        for target in _introspect(build, "targets")
        for part in target["target_sources"]
        for source in _sources_of(part)
    }


def _part_of(path: str) -> str | None:
    fitting = [part for part in OPTIONAL_PARTS if path.startswith(part)]
    return max(fitting, key=len) if fitting else None


def check_compiled(tree: Tree) -> Iterator[Finding]:
    """Every source file is compiled by some target: tests nobody runs rot."""
    if tree.build is None:
        tree.notes.append("compiled: no build folder given, not checked")
        return
    compiled = _flags_of_sources(tree, tree.build)
    built_parts = {_part_of(path) for path in compiled}
    for file in tree.cxx:
        if file.suffix == ".h" or file.path in compiled:
            continue
        part = _part_of(file.path)
        if part is not None and part not in built_parts:
            tree.notes.append(f"compiled: {part} is not part of this build, not checked")
            continue
        yield file.finding(1, "not-compiled", "no target compiles this file")


def _flags_by_folder(tree: Tree, build: Path) -> dict[str, list[str]]:
    """Include flags of one source per folder, for headers that live there."""
    flags: dict[str, list[str]] = {}
    for source, words in _flags_of_sources(tree, build).items():
        kept = [word for word in words if word.startswith(("-I", "-isystem", "-std=", "-D"))]
        flags.setdefault(os.path.dirname(source), kept)
    return flags


def _compile_alone(header: SourceFile, flags: list[str]) -> Finding | None:
    with tempfile.NamedTemporaryFile("w", suffix=".cc") as unit:
        unit.write(f'#include "{header.path}"\n')
        unit.flush()
        command = ["g++", "-fsyntax-only", "-std=c++20", *flags, f"-I{header.root}", unit.name]
        compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    if compiled.returncode == 0:
        return None
    first = next((line for line in compiled.stderr.splitlines() if "error:" in line), "fails")
    return header.finding(1, "self-contained", f"does not compile alone: {first.strip()}")


def check_self_contained(tree: Tree) -> Iterator[Finding]:
    """Headers compile alone. Those with a source of the same name prove it there (own-header)."""
    flags: dict[str, list[str]] = {}
    if tree.build is not None:
        flags = _flags_by_folder(tree, tree.build)
    paths = set(tree.paths)
    alone = [
        file
        for file in tree.cxx
        if file.suffix == ".h"
        and str(PurePosixPath(file.path).with_suffix(".cc")) not in paths
        and (_part_of(file.path) is None or os.path.dirname(file.path) in flags)
        and not file.path.startswith("bpf/")
    ]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        folders = [flags.get(os.path.dirname(file.path), []) for file in alone]
        for finding in pool.map(_compile_alone, alone, folders):
            if finding is not None:
                yield finding
