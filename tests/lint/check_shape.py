# SPDX-License-Identifier: Apache-2.0
"""Sizes, names, opening lines and order of includes (STYLE.md, "Shape")."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import PurePosixPath

from tree import Finding, SourceFile, Tree

LINE_COLUMNS = 100
FILE_LINES = 500
# What a file may reach while its split is under way, and what nothing may pass.
FILE_LINES_HARD = 800
FUNCTION_LINES = 70

SPDX = "SPDX-License-Identifier: "
NAME = re.compile(r"^[a-z0-9_]+(\.bpf)?(_abi)?\.(h|cc|c|py)$")


def _measured(tree: Tree) -> list[SourceFile]:
    own = [*tree.cxx, *tree.python, *tree.shell]
    return own + [file for file in tree.files if file.name == "meson.build"]


def check_sizes(tree: Tree) -> Iterator[Finding]:
    """Files of at most 500 lines, lines of at most 100 columns, no stray white space."""
    for file in _measured(tree):
        count = len(file.lines) - 1
        if count > FILE_LINES:
            degree = "split it" if count <= FILE_LINES_HARD else "far too long"
            yield file.finding(count, "file-lines", f"{count} lines > {FILE_LINES}: {degree}")
        for number, line in enumerate(file.lines, start=1):
            if len(line) > LINE_COLUMNS:
                yield file.finding(number, "line-columns", f"{len(line)} > {LINE_COLUMNS}")
            if line != line.rstrip():
                yield file.finding(number, "white-space", "white space at the end of the line")
            if "\t" in line:
                yield file.finding(number, "white-space", "tab")
        if file.text and not file.text.endswith("\n"):
            yield file.finding(count, "white-space", "no newline at the end of the file")


def _cxx_functions(tree: Tree) -> Iterator[tuple[SourceFile, str, int, int]]:
    """Name, first and last line of every C and C++ function, as universal-ctags sees them."""
    by_path = {file.path: file for file in tree.cxx}
    if not by_path:
        return
    if shutil.which("ctags") is None:
        raise RuntimeError("ctags not found: install universal-ctags")
    tagged = subprocess.run(
        ["ctags", "--output-format=json", "--fields=+ne", "--kinds-C++=f", "--kinds-C=f"]
        + ["--langmap=C++:+.h", "-f", "-", "-L", "-"],
        cwd=tree.root,
        input="\n".join(by_path),
        capture_output=True,
        text=True,
        check=True,
    )
    for line in tagged.stdout.splitlines():
        tag = json.loads(line)
        if "end" in tag:
            yield by_path[tag["path"]], tag["name"], tag["line"], tag["end"]


def _python_functions(tree: Tree) -> Iterator[tuple[SourceFile, str, int, int]]:
    for file in tree.python:
        for node in ast.walk(ast.parse(file.text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
                yield file, node.name, node.lineno, node.end_lineno


def check_functions(tree: Tree) -> Iterator[Finding]:
    """Functions of at most 70 lines."""
    for file, name, first, last in [*_cxx_functions(tree), *_python_functions(tree)]:
        count = last - first + 1
        if count > FUNCTION_LINES:
            yield file.finding(first, "function-lines", f"{name}: {count} > {FUNCTION_LINES}")


def check_names(tree: Tree) -> Iterator[Finding]:
    """Files are snake_case with the known suffixes."""
    for file in tree.cxx + tree.python:
        if file.suffix and not NAME.match(file.name):
            yield file.finding(1, "file-name", "file names are snake_case")
        if file.suffix == ".cc" and re.search(r"(^|_)(tests?|unittest)\.cc$", file.name):
            if not file.name.endswith("_test.cc"):
                yield file.finding(1, "file-name", "a test is called <what>_test.cc")


def check_openings(tree: Tree) -> Iterator[Finding]:
    """Licence line first; a header says what it is for; a source includes its own header first."""
    for file in [*tree.cxx, *tree.python, *tree.shell]:
        if not any(SPDX in line for line in file.lines[:3]):
            yield file.finding(1, "spdx", f"no {SPDX}line at the top")
    for file in tree.cxx:
        if file.suffix == ".h":
            words = re.sub(r"//|SPDX\S+ \S+", " ", file.head_comment).split()
            if len(words) < 5:
                yield file.finding(2, "opening", "say what this header is for, and hot or cold")
            if not file.is_c_subset and "#pragma once" not in file.code:
                yield file.finding(1, "guard", "no #pragma once")
        elif file.suffix == ".cc":
            yield from _check_own_header(tree, file)


def _check_own_header(tree: Tree, file: SourceFile) -> Iterator[Finding]:
    """Its own header first: so every header is compiled alone, and is self-contained."""
    own = str(PurePosixPath(file.path).with_suffix(".h"))
    if own in tree.paths and (not file.includes or file.includes[0].target != own):
        line = file.includes[0].line if file.includes else 1
        yield file.finding(line, "own-header", f'the first include is "{own}"')
