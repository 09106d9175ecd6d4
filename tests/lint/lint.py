#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of STYLE.md and ARCHITECTURE.md that a machine can check.

  tests/lint/lint.py                          everything that needs no build folder
  tests/lint/lint.py --build=build            also what the build knows
  tests/lint/lint.py --build=build --full     clang-tidy over all sources, not only core; they
                                              include what `ninja -C build all bench` makes
  tests/lint/lint.py --only=layers,sizes      named checks
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from check_compiled import check_compiled, check_self_contained
from check_documents import (
    check_changelog,
    check_columns,
    check_links,
    check_permissions,
    check_references,
    check_shell_syntax,
    check_workplace,
)
from check_faults import check_faults
from check_layers import check_layers, check_rte_tokens
from check_shape import check_functions, check_names, check_openings, check_sizes
from check_tokens import check_python_tokens, check_tokens
from check_tools import check_clang_tidy, check_cxx_format, check_python_format, check_python_types
from tree import Finding, Tree

CHECKS: dict[str, Callable[[Tree], Iterator[Finding]]] = {
    "layers": check_layers,
    "rte": check_rte_tokens,
    "sizes": check_sizes,
    "functions": check_functions,
    "names": check_names,
    "openings": check_openings,
    "tokens": check_tokens,
    "python-tokens": check_python_tokens,
    "links": check_links,
    "columns": check_columns,
    "references": check_references,
    "changelog": check_changelog,
    "faults": check_faults,
    "permissions": check_permissions,
    "workplace": check_workplace,
    "shell-syntax": check_shell_syntax,
    "compiled": check_compiled,
    "self-contained": check_self_contained,
    "cxx-format": check_cxx_format,
    "python-format": check_python_format,
    "python-types": check_python_types,
    "clang-tidy": check_clang_tidy,
}


def run(tree: Tree, names: list[str]) -> list[Finding]:
    """All findings of the named checks, in order of place."""
    return sorted({finding for name in names for finding in CHECKS[name](tree)})


def main() -> int:
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, default=root, help="the tree to look at")
    parser.add_argument("--build", type=Path, help="a configured build folder of it")
    parser.add_argument("--full", action="store_true", help="clang-tidy over everything")
    parser.add_argument("--only", default="", help="names of checks, separated by commas")
    parser.add_argument("--skip", default="", help="likewise, to leave out")
    options = parser.parse_args()

    skipped = options.skip.split(",")
    names = [n for n in (options.only.split(",") if options.only else CHECKS) if n not in skipped]
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        parser.error(f"no such check: {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    build = options.build.resolve() if options.build else None
    tree = Tree(options.root.resolve(), build, options.full)
    findings = run(tree, names)
    for note in sorted(set(tree.notes)):
        print(f"note: {note}")
    for finding in findings:
        print(finding)
    print(f"lint: {len(names)} checks, {len(tree.files)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
