# SPDX-License-Identifier: Apache-2.0
"""Documents, permissions, and words that belong to one workplace."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from urllib.parse import unquote

from tree import Finding, SourceFile, Tree

CHANGE_SECTIONS = {
    "Forwarding behaviour",
    "Performance",
    "Compatibility",
    "Operations",
    "Internals",
}
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
COLUMNS_MAX = 100
_UNBREAKABLE = re.compile(r"`[^`]*`|\[[^\]]*\]\([^)]*\)")
_REFERENCE = re.compile(r'((?:\b[\w-]+/)*\b\w+\.md),(?: |\n\s*// )"([^"\n]+)"')
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_RELEASE = re.compile(
    r"^## (Unreleased( \(\d+\.\d+\.\d+\))?|\[?\d+\.\d+\.\d+\]?( [-(] ?\d{4}-\d\d-\d\d\)?)?)$"
)

# A checkout's place, a home folder, and the hosts of package registries: a build that names one
# works in one place only.
_WORKPLACE = re.compile(
    r"(?<![\w.])/(work|root|home/\w+)/|\b(deb|security)\.debian\.org|\bpypi\.org"
    r"|\bfiles\.pythonhosted\.org|\bproxy\.golang\.org"
    r"|\bregistry\.npmjs\.org|\b(docker|ghcr|quay)\.io/|\bindex\.crates\.io"
)


def _anchors(file: SourceFile) -> set[str]:
    """Anchors of headings, as the usual renderers make them."""
    found = set()
    for line in _FENCE.sub("", file.text).split("\n"):
        if line.startswith("#"):
            words = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            found.add(words.replace(" ", "-"))
    return found


def check_links(tree: Tree) -> Iterator[Finding]:
    """Links of documents lead to files and headings that exist."""
    documents = {file.path: file for file in tree.files if file.suffix == ".md"}
    for file in documents.values():
        blanked = _FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), file.text)
        for match in _LINK.finditer(blanked):
            link = unquote(match.group(1))
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            path = os.path.normpath(os.path.join(os.path.dirname(file.path), target))
            path = file.path if not target else path
            line = file.line_at(match.start())
            if not (file.root / path).exists():
                yield file.finding(line, "link", f"{link} does not exist")
            elif anchor and path in documents and anchor not in _anchors(documents[path]):
                yield file.finding(line, "link", f"{link}: no such heading")


def check_columns(tree: Tree) -> Iterator[Finding]:
    """Lines of documents are short, so that a changed word makes a small difference. Tables, blocks
    of code, and what cannot be broken (links, code within a line) may be longer."""
    for file in tree.files:
        if file.suffix != ".md":
            continue
        is_fenced = False
        for number, line in enumerate(file.lines, start=1):
            is_fenced ^= line.lstrip().startswith("```")
            is_block = is_fenced or line.startswith(("|", "    "))
            whole = _UNBREAKABLE.sub(lambda match: match.group().replace(" ", "_"), line)
            if (
                len(line) > COLUMNS_MAX
                and not is_block
                and " " in whole[:COLUMNS_MAX].lstrip("-*0123456789. ")
            ):
                yield file.finding(number, "columns", f"{len(line)} > {COLUMNS_MAX}")


def check_references(tree: Tree) -> Iterator[Finding]:
    """Sources name headings of documents that exist: ARCHITECTURE.md, "The tree"."""
    documents = {file.path: file for file in tree.files if file.suffix == ".md"}
    for file in tree.files:
        if file.path == "tests/lint/lint_test.py":
            continue  # names one that does not
        for match in _REFERENCE.finditer(file.text):
            name, heading = match.groups()
            document = documents.get(name)
            if document is None or not re.search(
                rf"^#+ {re.escape(heading)}$", document.text, re.MULTILINE
            ):
                line = file.line_at(match.start())
                yield file.finding(line, "reference", f'{name} has no heading "{heading}"')


def check_changelog(tree: Tree) -> Iterator[Finding]:
    """Releases newest first, known sections only, and every entry a list item."""
    for file in tree.files:
        if file.path != "CHANGELOG.md":
            continue
        releases = [n for n, line in enumerate(file.lines, 1) if line.startswith("## ")]
        if not releases:
            yield file.finding(1, "changelog", "no '## Unreleased' section")
        for number in releases:
            if not _RELEASE.match(file.lines[number - 1]):
                yield file.finding(
                    number, "changelog", "write '## Unreleased' or '## 1.2.3 - date'"
                )
        for number, line in enumerate(file.lines, start=1):
            section = line.removeprefix("### ")
            if section != line and section.split(" (")[0] not in CHANGE_SECTIONS:
                known = ", ".join(sorted(CHANGE_SECTIONS))
                yield file.finding(number, "changelog", f"unknown section; one of {known}")


def check_permissions(tree: Tree) -> Iterator[Finding]:
    """What is executable starts with #!, and what starts with #! is executable."""
    for file in tree.files:
        is_executable = os.access(file.absolute, os.X_OK)
        has_shebang = file.text.startswith("#!")
        if is_executable and not has_shebang:
            yield file.finding(1, "permissions", "executable, but no #! line")
        if has_shebang and not is_executable:
            yield file.finding(1, "permissions", "has a #! line, but is not executable")


def check_workplace(tree: Tree) -> Iterator[Finding]:
    """No path of one machine and no registry host."""
    for file in tree.files:
        if file.path.startswith("tests/lint/"):
            continue  # names them
        for match in _WORKPLACE.finditer(file.text):
            yield file.finding(
                file.line_at(match.start()), "workplace", f"{match.group()!r} is of one machine"
            )


def check_shell_syntax(tree: Tree) -> Iterator[Finding]:
    """Every shell script parses."""
    for file in tree.shell:
        parsed = subprocess.run(
            ["bash", "-n", str(file.absolute)], capture_output=True, text=True, check=False
        )
        if parsed.returncode != 0:
            yield file.finding(1, "shell", parsed.stderr.strip().splitlines()[0])
