# SPDX-License-Identifier: Apache-2.0
"""Words that code must not contain, each with the reason (STYLE.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tree import Finding, SourceFile, Tree

LIBRARIES = ("dataplane/", "controlplane/", "bpf/")
MAY_PRINT = (
    "dataplane/main.cc",
    "dataplane/program/",
    "bpf/engine/main.cc",
    "controlplane/main.cc",
    "controlplane/cli/",
)


@dataclass(frozen=True)
class Ban:
    rule: str
    pattern: re.Pattern[str]
    reason: str
    where: tuple[str, ...] = ()  # folders; empty: everywhere
    except_for: tuple[str, ...] = ()


def _ban(rule: str, pattern: str, reason: str, **where: tuple[str, ...]) -> Ban:
    return Ban(rule, re.compile(pattern), reason, **where)


EVERYWHERE = (
    _ban(
        "volatile",
        r"(?<!asm )(?<!__asm__ )\bvolatile\b",
        "volatile is no synchronisation; use std::atomic or std::atomic_ref",
        except_for=("bpf/nlb_", "bpf/flows.bpf.h", "bpf/maps.bpf.h"),  # C for the kernel's compiler
    ),
    _ban(
        "process-exit",
        r"\brte_(panic|exit)\b",
        "a library that ends the process; return a Result, main.cc decides",
    ),
    _ban("using-namespace", r"\busing\s+namespace\s+std\s*;", "name what you use"),
    _ban(
        "printing",
        r"(?<![\w.])(std::)?(printf|fprintf|puts|fputs|vprintf|perror)\s*\("
        r"|\bstd::(cout|cerr|clog)\b",
        "a library does not print; it returns a Result or logs through spdlog",
        where=LIBRARIES,
        except_for=MAY_PRINT,
    ),
    _ban(
        "throw",
        r"\bthrow\b(?!\s*\()|\bthrow\s*\(",
        "our code throws nothing; return a Result",
        where=LIBRARIES,
    ),
    _ban("rtti", r"\b(dynamic_cast|typeid)\b", "no RTTI", where=LIBRARIES),
    _ban(
        "sleep-in-test",
        r"\b(sleep_for|sleep_until|usleep|nanosleep|sleep)\s*\(",
        "time is an argument; a test that sleeps is slow or flaky",
        where=("tests/unit/", "tests/property/", "tests/fuzz/", "dataplane/core/"),
    ),
)

HOT = (
    _ban("hot-memory", r"\b(malloc|calloc|realloc|free)\s*\(", "no allocation in the packet path"),
    _ban("hot-memory", r"\bnew\b(?!_)|\bdelete\b(?!\s*;)", "no allocation in the packet path"),
    _ban(
        "hot-indirection",
        r"\bstd::(function|shared_ptr|make_shared|make_unique)\b|\bvirtual\b",
        "no indirect calls or shared ownership in the packet path",
    ),
    _ban(
        "hot-lock",
        r"\bstd::(mutex|shared_mutex|lock_guard|unique_lock|scoped_lock|condition_variable)\b",
        "no locks in the packet path",
    ),
    _ban("hot-clock", r"\bstd::chrono\b|\bclock_gettime\b|\brdtsc\b", "time is an argument"),
    _ban("hot-log", r"\bspdlog\b", "no logging in the packet path"),
)

# Symbols that a preprocessor condition may name: the language, include guards, the build type and,
# in source files, the machine. Behaviour is chosen at run time.
_CONDITION = re.compile(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|elif)\b(.*)$", re.MULTILINE)
_CONDITION_SYMBOLS = re.compile(
    r"__cplusplus|NDEBUG|MILLRACE_\w+_H_|__BPF__|__bpf__|__has_feature|__has_include"
    r"|address_sanitizer|thread_sanitizer|__SANITIZE_(ADDRESS|THREAD)__|defined"
)
_MACHINE_SYMBOLS = re.compile(r"__(x86_64|aarch64|AVX2|SSE4_2|AES)__")
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.MULTILINE)
_MACRO_BUDGET = re.compile(r"MR_(ASSERT|CHECK|ABI_ASSERT)$|MILLRACE_\w+_H_$")
# BPF C has no attributes of C++ and no [[likely]].
_MACRO_BUDGET_BPF = re.compile(r"(INLINE|OUT_OF_LINE|VERIFIED_ONCE|LIKELY|UNLIKELY)$")

_NOLINT = re.compile(r"NOLINT(NEXTLINE|BEGIN)?(\([^)]*\))?(?P<reason>[^\n]*)")
_TODO = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?P<owner>\([^)]+\):)?")


def _applies(ban: Ban, path: str) -> bool:
    if ban.where and not path.startswith(ban.where):
        return False
    return not path.startswith(ban.except_for) if ban.except_for else True


def _check_bans(file: SourceFile, bans: tuple[Ban, ...]) -> Iterator[Finding]:
    for ban in bans:
        if not _applies(ban, file.path):
            continue
        for match in ban.pattern.finditer(file.code):
            yield file.finding(
                file.line_at(match.start()), ban.rule, f"{match.group().strip()!r}: {ban.reason}"
            )


def _check_comments(file: SourceFile) -> Iterator[Finding]:
    for line, comment in file.comments:
        nolint = _NOLINT.search(comment)
        if nolint is not None and not re.search(r":\s*\w+", nolint.group("reason")):
            if "NOLINTEND" not in comment:
                yield file.finding(line, "nolint", "say why: // NOLINT(check): reason")
        todo = _TODO.search(comment)
        if todo is not None and (todo.group(1) != "TODO" or todo.group("owner") is None):
            yield file.finding(line, "todo", "a TODO names its owner and item: TODO(owner, item):")


def _check_preprocessor(file: SourceFile) -> Iterator[Finding]:
    in_bpf = ".bpf." in file.path
    for match in _CONDITION.finditer(file.code):
        left = _CONDITION_SYMBOLS.sub("", match.group(2))
        if file.suffix != ".h":
            left = _MACHINE_SYMBOLS.sub("", left)
        if re.search(r"[A-Za-z_]\w*", left):
            yield file.finding(
                file.line_at(match.start(2)),
                "ifdef",
                "no conditional compilation for behaviour: options select files, not lines",
            )
    for match in _MACRO.finditer(file.code):
        if not (file.is_c_subset and match.group(1).startswith("MR_")) and not _MACRO_BUDGET.match(
            match.group(1)
        ):
            if in_bpf and _MACRO_BUDGET_BPF.match(match.group(1)):
                continue
            yield file.finding(
                file.line_at(match.start(1)),
                "macro",
                f"{match.group(1)}: use a constant, a template or a function",
            )


def _check_header(file: SourceFile) -> Iterator[Finding]:
    for match in re.finditer(r"\busing\s+namespace\b", file.code):
        yield file.finding(
            file.line_at(match.start()), "using-namespace", "a header imposes no namespace"
        )


def check_tokens(tree: Tree) -> Iterator[Finding]:
    """Banned words, macros, conditional compilation, TODO and NOLINT without a reason."""
    for file in tree.cxx:
        yield from _check_bans(file, EVERYWHERE)
        if file.is_hot:
            yield from _check_bans(file, HOT)
        yield from _check_comments(file)
        yield from _check_preprocessor(file)
        if file.suffix == ".h":
            yield from _check_header(file)


def check_python_tokens(tree: Tree) -> Iterator[Finding]:
    """The same habits in Python and shell: owners for TODO, strict shells."""
    for file in [*tree.python, *tree.shell]:
        if file.path.startswith("tests/lint/"):
            continue  # names the banned words
        for number, line in enumerate(file.lines, start=1):
            todo = re.search(r"#.*\b(TODO|FIXME|XXX)\b(\([^)]+\):)?", line)
            if todo is not None and (todo.group(1) != "TODO" or todo.group(2) is None):
                yield file.finding(number, "todo", "a TODO names its owner and item")
    for file in tree.shell:
        strict = r"^set -euo pipefail$" if "bash" in file.lines[0] else r"^set -eu\b"
        if not re.search(strict, file.text, re.MULTILINE):
            yield file.finding(1, "shell", "start with: set -euo pipefail (plain sh: set -eu)")
