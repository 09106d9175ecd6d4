# SPDX-License-Identifier: Apache-2.0
"""tests/FAULTS.md says where each fault is tested: what it names exists, nothing is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree import Finding, SourceFile, Tree

TABLE = "tests/FAULTS.md"
_ROW = re.compile(r"^\| (\d+) \|")
_NAMED = re.compile(r"`([\w/]+\.(?:cc|py|packets))`")
# A test's name: fault_36_37_... is about two.
_FAULT = re.compile(r"\bfault_(\d\d)(?:_(\d\d))?_")


def _tests(tree: Tree) -> Iterator[tuple[SourceFile, int]]:
    """Every (file, fault id) that some test's name pairs."""
    for file in tree.files:
        is_test = file.path.startswith("tests/") and not file.path.startswith("tests/lint/")
        if not is_test or file.suffix not in (".cc", ".py", ".packets"):
            continue
        found = {int(part) for match in _FAULT.findall(file.text) for part in match if part}
        for fault in sorted(found):
            yield file, fault


def check_faults(tree: Tree) -> Iterator[Finding]:
    """Each fault_NN test has its file in row NN; each file that a row names is there."""
    table = next((file for file in tree.files if file.path == TABLE), None)
    if table is None:
        return
    named: dict[int, set[str]] = {}
    for number, line in enumerate(table.lines, start=1):
        row = _ROW.match(line)
        if row is None:
            continue
        named[int(row[1])] = {f"tests/{path}" for path in _NAMED.findall(line)}
        for path in sorted(named[int(row[1])]):
            if not (tree.root / path).is_file():
                yield table.finding(number, "faults", f"{path} does not exist")
    for file, fault in _tests(tree):
        if file.path not in named.get(fault, set()):
            yield file.finding(1, "faults", f"row {fault} of {TABLE} does not name this file")
