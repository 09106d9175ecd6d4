# SPDX-License-Identifier: Apache-2.0
"""Formatters and clang-tidy, with the settings of the repository's root."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tree import Finding, SourceFile, Tree

_DIAGNOSTIC = re.compile(r"^(?P<path>[^:]+):(?P<line>\d+):\d+: (warning|error): (?P<message>.*)$")


def _run(command: list[str], root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def check_cxx_format(tree: Tree) -> Iterator[Finding]:
    """C and C++ are as clang-format leaves them."""
    if shutil.which("clang-format") is None:
        tree.notes.append("cxx-format: clang-format not found, not checked")
        return

    # Many files at once: a start of clang-format takes longer than a file.
    files, workers = tree.cxx, os.cpu_count() or 1
    shares = [files[first::workers] for first in range(workers)]

    def differing(share: Sequence[SourceFile]) -> list[Finding]:
        words = ["clang-format", "--dry-run", "--Werror", *(file.path for file in share)]
        checked = _run(words, tree.root) if share else None
        if checked is None or checked.returncode == 0:
            return []
        lines: dict[str, int] = {}
        for place in re.finditer(r"^([^:\n]+):(\d+):\d+: error", checked.stderr, re.MULTILINE):
            lines.setdefault(place[1], int(place[2]))
        if not lines:
            return [share[0].finding(1, "cxx-format", checked.stderr.strip()[-200:])]
        return [
            Finding(path, line, "cxx-format", f"run: clang-format -i {path}")
            for path, line in lines.items()
        ]

    with ThreadPoolExecutor(max_workers=workers) as pool:
        yield from (finding for found in pool.map(differing, shares) for finding in found)


def check_python_format(tree: Tree) -> Iterator[Finding]:
    """Python is as black leaves it."""
    if shutil.which("black") is None:
        tree.notes.append("python-format: black not found, not checked")
        return
    paths = [file.path for file in tree.python]
    if not paths:
        return
    checked = _run(["black", "--check", "--quiet", "--line-length=100", *paths], tree.root)
    if checked.returncode == 0:
        return
    for path in paths:
        if _run(["black", "--check", "--quiet", "--line-length=100", path], tree.root).returncode:
            yield Finding(path, 1, "python-format", f"run: black --line-length=100 {path}")


def check_python_types(tree: Tree) -> Iterator[Finding]:
    """Python passes mypy, strictly."""
    if shutil.which("mypy") is None:
        tree.notes.append("python-types: mypy not found, not checked")
        return
    folders: dict[str, list[str]] = {}
    for file in tree.python:
        folders.setdefault(os.path.dirname(file.path), []).append(file.path)
    for folder, paths in folders.items():
        # Each folder is a program of its own; scapy and the like come without types.
        checked = subprocess.run(
            ["mypy", "--strict", "--ignore-missing-imports", "--allow-untyped-calls"]
            + ["--allow-subclassing-any", "--allow-untyped-decorators", "--no-error-summary"]
            + ["--scripts-are-modules", "--cache-dir", str(tree.root / ".mypy_cache"), *paths],
            cwd=tree.root,
            env={**os.environ, "MYPYPATH": f"{folder}:tests/support:deploy"},
            capture_output=True,
            text=True,
            check=False,
        )
        for line in checked.stdout.splitlines():
            place = re.match(r"([^:]+):(\d+): error: (.*)", line)
            if place is not None:
                yield Finding(place[1], int(place[2]), "python-types", place[3])


def _tidied_files(tree: Tree, build: Path) -> list[SourceFile]:
    """Sources with a compile command: the packet path always, everything else with --full."""
    commands = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    known = {
        os.path.relpath(os.path.join(command["directory"], command["file"]), tree.root)
        for command in commands
    }
    return [
        file
        for file in tree.cxx
        if file.path in known and (tree.full or file.path.startswith("dataplane/core/"))
    ]


def check_clang_tidy(tree: Tree) -> Iterator[Finding]:
    """clang-tidy has nothing to say (.clang-tidy): core by default, everything with --full."""
    if tree.build is None or shutil.which("clang-tidy") is None:
        tree.notes.append("clang-tidy: no build folder or no clang-tidy, not checked")
        return
    build = tree.build
    files = _tidied_files(tree, build)

    def tidy(file: SourceFile) -> list[Finding]:
        command = ["clang-tidy", "--quiet", "-p", str(build), "--warnings-as-errors=-*"]
        checked = _run([*command, "--extra-arg=-Wno-unknown-warning-option", file.path], tree.root)
        found = []
        for line in checked.stdout.splitlines():
            place = _DIAGNOSTIC.match(line)
            if place is not None:
                path = os.path.relpath(build / place["path"], tree.root)
                found.append(Finding(path, int(place["line"]), "clang-tidy", place["message"]))
        if checked.returncode != 0 and not found:
            found.append(file.finding(1, "clang-tidy", checked.stderr.strip()[-200:]))
        return found

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield from {finding for found in pool.map(tidy, files) for finding in found}
