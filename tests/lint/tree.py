# SPDX-License-Identifier: Apache-2.0
"""The files that lint looks at, read once, and what it says about them."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

CXX_SUFFIXES = {".h", ".cc", ".c"}

# Comments, string literals (raw ones too) and character literals. A quote between digits is a digit
# separator, not the start of a character.
_LITERALS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"(?P<tag>[^()\s]*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"
    |(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])*'""",
    re.DOTALL | re.VERBOSE,
)
_LINE_OF_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def is_c_subset(path: str) -> bool:
    return re.match(r"(dataplane/rules/.*|.*_abi)\.h$", path) is not None


@dataclass(frozen=True, order=True)
class Finding:
    """One broken rule at one place."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.message}"


@dataclass(frozen=True)
class Include:
    line: int
    target: str
    is_system: bool


@dataclass
class SourceFile:
    """A text file of the repository; `path` is relative to the root, with forward slashes."""

    root: Path
    path: str

    @property
    def absolute(self) -> Path:
        return self.root / self.path

    @property
    def suffix(self) -> str:
        return self.absolute.suffix

    @property
    def name(self) -> str:
        return self.absolute.name

    @property
    def is_cxx(self) -> bool:
        return self.suffix in CXX_SUFFIXES

    @cached_property
    def text(self) -> str:
        return self.absolute.read_text(encoding="utf-8", errors="replace")

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def code(self) -> str:
        """The text with comments and the insides of literals blanked; lines stay where they are."""
        return _LITERALS.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), self.text)

    @cached_property
    def comments(self) -> list[tuple[int, str]]:
        """Comments of a C or C++ file with their line numbers."""
        found = []
        for match in _LITERALS.finditer(self.text):
            if match.group().startswith("/"):
                found.append((self.line_at(match.start()), match.group()))
        return found

    @cached_property
    def includes(self) -> list[Include]:
        return [
            Include(self.line_at(match.start(2)), match.group(2), match.group(1) == "<")
            for match in _LINE_OF_INCLUDE.finditer(self.text)
        ]

    @cached_property
    def head_comment(self) -> str:
        """What the file says about itself before its first line of code."""
        head = []
        for line in self.lines:
            if line.strip() and not line.startswith(("//", "#!")):
                break
            head.append(line)
        return "\n".join(head)

    @property
    def is_hot(self) -> bool:
        """Marked as part of the packet path by its own opening comment."""
        return self.is_cxx and re.search(r"\bHOT\b", self.head_comment) is not None

    @property
    def is_c_subset(self) -> bool:
        """A header for C11, C++20 and BPF."""
        return is_c_subset(self.path)

    def line_at(self, offset: int) -> int:
        return self.text.count("\n", 0, offset) + 1

    def finding(self, line: int, rule: str, message: str) -> Finding:
        return Finding(self.path, line, rule, message)


@dataclass
class Tree:
    """The repository: every file that git tracks or would track."""

    root: Path
    build: Path | None = None
    full: bool = False
    notes: list[str] = field(default_factory=list)

    @cached_property
    def paths(self) -> list[str]:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.returncode == 0 and listed.stdout:
            names = listed.stdout.split("\0")
        else:
            names = self._walk()
        return sorted({name for name in names if name and (self.root / name).is_file()})

    def _walk(self) -> list[str]:
        """For a source archive without git: everything but build folders and dot folders."""
        names = []
        for folder, subfolders, files in os.walk(self.root):
            subfolders[:] = [s for s in subfolders if not s.startswith((".", "build"))]
            names += [os.path.relpath(os.path.join(folder, file), self.root) for file in files]
        return names

    @cached_property
    def files(self) -> list[SourceFile]:
        return [SourceFile(self.root, path) for path in self.paths if self._is_text(path)]

    def _is_text(self, path: str) -> bool:
        if path.startswith("tests/fuzz/corpus/"):
            return False  # inputs, whatever they look like
        with (self.root / path).open("rb") as opened:
            return b"\0" not in opened.read(4096)

    @property
    def cxx(self) -> list[SourceFile]:
        return [file for file in self.files if file.is_cxx]

    @property
    def python(self) -> list[SourceFile]:
        return [
            file
            for file in self.files
            if file.suffix == ".py" or (file.suffix == "" and "python" in file.lines[0][:40])
        ]

    @property
    def shell(self) -> list[SourceFile]:
        return [
            file
            for file in self.files
            if file.suffix == ".sh"
            or (file.suffix == "" and "sh" in file.lines[0][:30].split("/")[-1])
        ]
